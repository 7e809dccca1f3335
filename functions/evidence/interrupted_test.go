package evidence

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"flashtap/events"
)

// consistent checks what a seal must leave however it came about: every object but manifest.json and manifest.sig is listed once
// with its digest or is a late one, tree and custody log are of what the manifest lists, and the signatures are those of the
// bytes that lie there.
func consistent(t *testing.T, s Store, c events.CaptureID, late ...string) events.Manifest {
	t.Helper()
	read := func(key string) []byte {
		body, err := s.Read(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	body := read(events.ManifestKey(c))
	var m events.Manifest
	if err := json.Unmarshal(body, &m); err != nil {
		t.Fatal(err)
	}
	list, err := s.List(t.Context(), events.CapturePrefix(c))
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]string{}
	for i, o := range m.Objects {
		if i > 0 && o.Key <= m.Objects[i-1].Key {
			t.Errorf("%s is listed after %s", o.Key, m.Objects[i-1].Key)
		}
		listed[o.Key] = o.SHA256
	}
	for _, e := range list {
		known := listed[e.Key]
		delete(listed, e.Key)
		switch {
		case e.Key == events.ManifestKey(c), e.Key == events.ManifestSignatureKey(c), strings.HasPrefix(e.Key, events.AddendaPrefix(c)):
			if known != "" {
				t.Errorf("%s is listed", e.Key)
			}
		case slices.Contains(late, e.Key):
			if known != "" {
				t.Errorf("%s came late and is listed", e.Key)
			}
		case known != Digest(read(e.Key)):
			t.Errorf("%s is listed with the digest %q", e.Key, known)
		}
	}
	if len(listed) > 0 {
		t.Errorf("listed and not there: %v", listed)
	}

	var tree events.Tree
	if err := json.Unmarshal(read(events.TreeKey(c)), &tree); err != nil {
		t.Fatal(err)
	}
	if root := rootOf(t, m.Segments); tree.Root != root || tree.Segments != len(m.Segments) || tree.Capture != c {
		t.Errorf("tree %+v; the manifest's segments have the root %s", tree, root)
	}

	var acts []string
	for _, line := range bytes.Split(bytes.TrimSuffix(read(events.CustodyLogKey(c)), []byte("\n")), []byte("\n")) {
		var l events.CustodyLine
		if err := json.Unmarshal(line, &l); err != nil {
			t.Fatal(err)
		}
		acts = append(acts, l.Key)
	}
	var want []string
	for _, o := range m.Objects {
		if isAct(c, o.Key) && !slices.ContainsFunc(m.Reasons, func(r string) bool { return strings.HasPrefix(r, o.Key+" is no record") }) {
			want = append(want, o.Key)
		}
	}
	slices.Sort(acts)
	if !slices.Equal(acts, want) {
		t.Errorf("the custody log has %v, the manifest %v", acts, want)
	}

	if m.Signer == nil {
		return m
	}
	block, _ := pem.Decode(read(events.PublicKeyKey(c)))
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if Digest(block.Bytes) != m.Signer.PublicKeySHA256 || m.Signer.Algorithm != "ECDSA_SHA_256" || m.Signer.KeyID != key.arn {
		t.Errorf("signer %+v", m.Signer)
	}
	for _, signed := range [][2]string{{events.ManifestKey(c), events.ManifestSignatureKey(c)}, {events.TreeKey(c), events.TreeSignatureKey(c)}} {
		digest := sha256.Sum256(read(signed[0]))
		if !ecdsa.VerifyASN1(public.(*ecdsa.PublicKey), digest[:], read(signed[1])) {
			t.Errorf("%s does not sign %s", signed[1], signed[0])
		}
	}
	return m
}

// rootOf is the Merkle Tree Hash as RFC 9162, section 2.1.1, defines it, without any shortcut.
func rootOf(t *testing.T, segments []events.Segment) string {
	t.Helper()
	var leaves [][]byte
	for _, seg := range segments {
		seg.Confirmed = false
		leaf, err := Canonical(seg)
		if err != nil {
			t.Fatal(err)
		}
		leaves = append(leaves, leaf)
	}
	var hash func([][]byte) [32]byte
	hash = func(d [][]byte) [32]byte {
		switch len(d) {
		case 0:
			return sha256.Sum256(nil)
		case 1:
			return sha256.Sum256(append([]byte{0}, d[0]...))
		}
		k := 1
		for 2*k < len(d) {
			k *= 2
		}
		left, right := hash(d[:k]), hash(d[k:])
		return sha256.Sum256(slices.Concat([]byte{1}, left[:], right[:]))
	}
	root := hash(leaves)
	return hex.EncodeToString(root[:])
}

func TestTree(t *testing.T) {
	var segments []events.Segment
	for n := range 40 {
		tree, err := treeOf("c", segments)
		if err != nil || tree.Root != rootOf(t, segments) || tree.Segments != n {
			t.Fatalf("%d segments: %+v, %v", n, tree, err)
		}
		segments = append(segments, events.Segment{Seq: n + 1, Key: fmt.Sprint("k", n), Confirmed: n%2 == 0, Packets: uint64(n)})
	}
}

// mortal is a bucket whose user dies at the n-th object that it creates: before it is there, or after.
type mortal struct {
	*s3.Client
	n     *atomic.Int64
	after bool
}

var errDied = errors.New("died")

func (m mortal) PutObject(ctx context.Context, in *s3.PutObjectInput, o ...func(*s3.Options)) (*s3.PutObjectOutput, error) {
	last := m.n.Add(-1) == 0
	if last && !m.after {
		return nil, errDied
	}
	out, err := m.Client.PutObject(ctx, in, o...)
	if last {
		return nil, errDied
	}
	return out, err
}

// TestSealInterrupted kills a seal at each object that it makes, lets things arrive, and has another seal go on.
func TestSealInterrupted(t *testing.T) {
	const objects = 6 // custody.jsonl, key.pem, tree.json, tree.sig, manifest.json, manifest.sig
	for n := int64(1); n <= objects; n++ {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("object %d, there: %t", n, after), func(t *testing.T) {
				r := orderly(t).store()
				left := &atomic.Int64{}
				left.Store(n)
				dying := Sealer{Store: Store{API: mortal{client(), left, after}, Bucket: bucket}, Signer: key, Tool: "first"}
				if _, err := dying.Seal(t.Context(), r.c, nil); !errors.Is(err, errDied) {
					t.Fatalf("%v; fewer objects than %d were made", err, n)
				}
				time.Sleep(10 * time.Millisecond) // the bucket tells milliseconds
				act := events.CustodyEntry{Capture: r.c, Actor: "sweep", Act: "came-by"}
				if err := r.s.Record(t.Context(), act); err != nil {
					t.Fatal(err)
				}
				r.putJSON(events.CertificateKey(r.c, 7), events.Certificate{Version: 1, Capture: r.c, Seq: 7})
				segment := []byte("a segment that came late")
				r.put(events.SegmentKey(r.c, r.user, 4, Digest(segment)), segment)

				result, m := r.seal()
				var late []string
				if n > 1 || after { // custody.jsonl is there
					late = append(late, events.CustodyKey(r.c, "sweep", "came-by"), events.CertificateKey(r.c, 7))
				}
				if n > 5 || n == 5 && after { // and the manifest
					late = append(late, events.SegmentKey(r.c, r.user, 4, Digest(segment)))
				}
				consistent(t, r.s, r.c, late...)
				if wantTool := map[bool]string{true: "first", false: "flashtap seal test"}[n > 5 || n == 5 && after]; m.Tool != wantTool {
					t.Errorf("the manifest is by %q, want %q", m.Tool, wantTool)
				}
				if result.Signature == "" || result.SHA256 == "" {
					t.Errorf("%+v", result)
				}
			})
		}
	}
}

// TestSealAfterATree: the collector's manifest comes between the tree and the manifest, with records that the tree does not
// have. Then the manifest is made without it, as the tree was.
func TestSealAfterATree(t *testing.T) {
	r := orderly(t)
	r.points[1].Tally.Received, r.points[1].Tally.Written = 30, 30
	r.closed = false
	r.store()
	left := &atomic.Int64{}
	left.Store(4) // tree.sig
	dying := Sealer{Store: Store{API: mortal{client(), left, false}, Bucket: bucket}, Signer: key}
	if _, err := dying.Seal(t.Context(), r.c, nil); !errors.Is(err, errDied) {
		t.Fatal(err)
	}
	time.Sleep(10 * time.Millisecond)
	body := []byte("a fourth segment")
	seg := events.Segment{Seq: 4, Key: events.SegmentKey(r.c, r.user, 4, Digest(body)), SHA256: Digest(body), Bytes: int64(len(body)), Packets: 3, Previous: r.last.Chain}
	r.put(seg.Key, body)
	r.last.Segments = append(r.last.Segments, seg)
	r.putJSON(events.CollectorManifestKey(r.c, r.user), r.last)
	_, m := r.seal()
	consistent(t, r.s, r.c, events.CollectorManifestKey(r.c, r.user))
	if len(m.Segments) != 3 || !m.Collectors[0].Derived || !strings.Contains(strings.Join(m.Reasons, "\n"), "segment 4 of 16 bytes is in no record") {
		t.Errorf("%d segments, collector %+v: %q", len(m.Segments), m.Collectors[0], m.Reasons)
	}
}

func TestSealByManyAtOnce(t *testing.T) {
	r := orderly(t).store()
	type answer struct {
		events.SealResult
		err error
	}
	answers := make(chan answer)
	for i := range 6 {
		go func() {
			var failure *events.Failure
			if i%2 == 1 {
				failure = &events.Failure{Error: "Other", Cause: fmt.Sprint(i)}
			}
			result, err := Sealer{Store: r.s, Signer: key, Tool: fmt.Sprint("tool ", i)}.Seal(context.Background(), r.c, failure)
			answers <- answer{result, err}
		}()
	}
	first := <-answers
	for range 5 {
		if a := <-answers; a.err != nil || !reflect.DeepEqual(a, first) {
			t.Errorf("%+v, and %+v", first, a)
		}
	}
	consistent(t, r.s, r.c)
}

// TestSealWithoutKMS: a manifest that could not be signed stays as it is, and the next seal signs it.
func TestSealWithoutKMS(t *testing.T) {
	r := orderly(t).store()
	signatures := 0
	broken := *key
	broken.fails = func(operation string) error {
		if operation == "Sign" {
			if signatures++; signatures > 1 { // the tree's succeeds
				return errDied
			}
		}
		return nil
	}
	for range 2 {
		if _, err := (Sealer{Store: r.s, Signer: &broken}).Seal(t.Context(), r.c, nil); !errors.Is(err, errDied) {
			t.Fatal(err)
		}
	}
	before, err := r.s.Read(t.Context(), events.ManifestKey(r.c))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (Sealer{Store: r.s}).Seal(t.Context(), r.c, nil); err == nil || !strings.Contains(err.Error(), key.arn) {
		t.Errorf("the key was taken from the deployment: %v", err)
	}
	other := newKey()
	other.arn += "2"
	if _, err := (Sealer{Store: r.s, Signer: other}).Seal(t.Context(), r.c, nil); err == nil || !strings.Contains(err.Error(), other.arn) {
		t.Errorf("another key came: %v", err)
	}
	r.seal()
	after, err := r.s.Read(t.Context(), events.ManifestKey(r.c))
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the manifest is another: %v", err)
	}
	consistent(t, r.s, r.c)
}

// TestForgedSignature: what a key answers is checked before it is kept.
func TestForgedSignature(t *testing.T) {
	r := orderly(t).store()
	forged := *key
	forged.private = newKey().private
	signer := struct {
		Signer
		signs *memoryKey
	}{key, &forged}
	_, err := Sealer{Store: r.s, Signer: crossed{signer.Signer, signer.signs}}.Seal(t.Context(), r.c, nil)
	if err == nil || !strings.Contains(err.Error(), "is no signature of its own") {
		t.Errorf("%v", err)
	}
}

// crossed shows one key and signs with another.
type crossed struct {
	Signer
	signs *memoryKey
}

func (c crossed) Sign(ctx context.Context, digest []byte) ([]byte, error) {
	return c.signs.Sign(ctx, digest)
}

// TestSealWithoutKey: a deployment without a key seals, and says that nothing is signed; a key that comes later signs nothing of
// what was closed before.
func TestSealWithoutKey(t *testing.T) {
	r := orderly(t).store()
	r.sealer.Signer = nil
	result, _ := r.seal()
	if m := consistent(t, r.s, r.c); m.Signer != nil || result.Signature != "" || result.KeyID != "" || result.Verdict != events.VerdictComplete {
		t.Errorf("%+v, signer %+v", result, m.Signer)
	}
	r.sealer.Signer = key
	again, _ := r.seal()
	if !reflect.DeepEqual(again, result) {
		t.Errorf("%+v, at first %+v", again, result)
	}
	consistent(t, r.s, r.c)
}

// eyewitness keeps what it is told.
type eyewitness struct {
	mu   sync.Mutex
	told [][]byte
	deaf bool
}

func (w *eyewitness) Tell(_ context.Context, text []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.deaf {
		return errDied
	}
	w.told = append(w.told, text)
	return nil
}

// TestWitness: nothing is signed before the witness has been told, and the witness is told once.
func TestWitness(t *testing.T) {
	r := orderly(t).store()
	w := &eyewitness{deaf: true}
	r.sealer.Witness = w
	if _, err := r.sealer.Seal(t.Context(), r.c, nil); !errors.Is(err, errDied) {
		t.Fatal(err)
	}
	if there, err := r.s.Exists(t.Context(), events.ManifestSignatureKey(r.c)); err != nil || there {
		t.Errorf("it is signed without a witness: %v", err)
	}
	w.deaf = false
	result, m := r.seal()
	r.seal()
	if len(w.told) != 1 {
		t.Fatalf("told %d times", len(w.told))
	}
	var said testimony
	if err := json.Unmarshal(w.told[0], &said); err != nil {
		t.Fatal(err)
	}
	want := testimony{Capture: r.c, Manifest: events.ManifestKey(r.c), SHA256: result.SHA256, KeyID: key.arn, PublicKeySHA256: m.Signer.PublicKeySHA256, At: said.At}
	if said != want || time.Since(said.At).Abs() > time.Minute {
		t.Errorf("%+v, want %+v", said, want)
	}
}
