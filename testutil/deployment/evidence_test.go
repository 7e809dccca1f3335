package deployment_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	verifier "flashtap/collector/evidence"
	"flashtap/events"
	"flashtap/testutil/deployment"
	"flashtap/testutil/evidence"
	"flashtap/testutil/region/asl"
)

// TestTheEvidenceOfACaptureStandsUp verifies what a capture left with the key that KMS gives, where it lies and downloaded, and then has
// it tampered with in every way.
func TestTheEvidenceOfACaptureStandsUp(t *testing.T) {
	t.Parallel()
	s := looping(t, func(set *events.Settings) { set.SegmentSeconds = 1 })
	x := publish(t, s)
	if result := finish(t, x); result.Status != asl.Succeeded {
		t.Fatalf("the execution %s: %s: %s", result.Status, result.Error, result.Cause)
	}
	c := events.CaptureID(x.Name())
	dir := t.TempDir()
	key := filepath.Join(dir, "signer.der")
	if err := os.WriteFile(key, signingKey(t, s), 0o666); err != nil {
		t.Fatal(err)
	}

	if out, code := flashtap(t, s, "verify", "s3://"+s.Settings.Bucket+"/captures/"+string(c), "--key", key); code != 0 || !strings.HasPrefix(out, "authentic") {
		t.Fatalf("in the bucket: exit %d", code)
	}
	pulled := filepath.Join(dir, string(c))
	if out, code := flashtap(t, s, "pull", string(c), pulled, "--key", key); code != 0 || !strings.HasPrefix(out, "authentic") {
		t.Fatalf("downloaded: exit %d", code)
	}
	if out, code := flashtap(t, s, "verify", pulled); code != 6 || !strings.HasPrefix(out, "consistent, signer unverified") {
		t.Errorf("without a key: exit %d", code)
	}

	files := read(t, pulled)
	e, err := evidence.Load(files)
	if err != nil {
		t.Fatal(err)
	}
	if m := manifest(t, s, c); len(m.Segments) < 3 {
		t.Errorf("the capture has %d segments: too few to be swapped", len(m.Segments))
	}
	// Whoever seals it anew has everything but the key.
	forged := e.Clone()
	if err := forged.Seal(forger(t)); err != nil {
		t.Fatal(err)
	}
	if r, err := verifier.Verify(t.Context(), inMemory(forged.Files), verifier.Options{}); err != nil || r.Outcome != verifier.Consistent {
		t.Errorf("sealed anew, and judged without a key: %v, %s: %v", err, r.Outcome, r.Discrepancies)
	}
	public, err := verifier.ParseKey(signingKey(t, s))
	if err != nil {
		t.Fatal(err)
	}
	figures, wrong := evidence.Campaign(e, 1, 85, func(files map[string][]byte, key bool) (string, error) {
		o := verifier.Options{}
		if key {
			o.Key = public
		}
		r, err := verifier.Verify(t.Context(), inMemory(files), o)
		return r.Outcome, err
	})
	for _, w := range wrong {
		t.Error(w)
	}
	var sum evidence.Figures
	for _, way := range slices.Sorted(maps.Keys(figures)) {
		sum.Add(figures[way])
	}
	t.Logf("tamperings with %d objects, none of them accepted: %s", len(files), sum)
	if sum.Done < 2000 {
		t.Errorf("%d tamperings: want 2000 or more", sum.Done)
	}
}

// signingKey is the public half of the deployment's signing key, as KMS gives it.
func signingKey(t *testing.T, s *deployment.Scene) []byte {
	t.Helper()
	out, err := s.Region.KMS.Handle("GetPublicKey", map[string]any{"KeyId": s.Settings.SigningKeyARN})
	if err != nil {
		t.Fatal(err)
	}
	key, ok := out["PublicKey"].([]byte)
	if !ok {
		t.Fatalf("the public key is a %T", out["PublicKey"])
	}
	return key
}

func forger(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// read reads a whole folder.
func read(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		files[filepath.ToSlash(rel)], err = os.ReadFile(name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// inMemory is a verifier's source in memory.
type inMemory map[string][]byte

func (m inMemory) List(context.Context) ([]verifier.Entry, error) {
	var list []verifier.Entry
	for name, body := range m {
		list = append(list, verifier.Entry{Name: name, Bytes: int64(len(body))})
	}
	return list, nil
}

func (m inMemory) Open(_ context.Context, name string, offset int64) (io.ReadCloser, error) {
	body, there := m[name]
	if !there {
		return nil, fmt.Errorf("open %s: %w", name, fs.ErrNotExist)
	}
	return io.NopCloser(strings.NewReader(string(body[offset:]))), nil
}
