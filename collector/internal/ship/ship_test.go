package ship

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"flashtap/collector/internal/spool"
	"flashtap/testutil/s3"
)

const bucket = "evidence"

// fakeStore is an S3 that says what a test wants to hear, and then behaves.
type fakeStore struct {
	*httptest.Server
	mu       sync.Mutex
	objects  map[string][]byte
	order    []string
	requests []*http.Request
	answers  []answer // for the next requests, one each
}

type answer struct {
	status int
	stores bool // the object is stored before the answer goes out
	hangUp bool // no answer goes out at all
	delay  time.Duration
}

func newFakeStore(t *testing.T, answers ...answer) *fakeStore {
	t.Helper()
	f := &fakeStore{objects: map[string][]byte{}, answers: answers}
	f.Server = httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(f.Close)
	return f
}

func (f *fakeStore) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	a := answer{status: http.StatusOK, stores: true}
	if len(f.answers) > 0 {
		a, f.answers = f.answers[0], f.answers[1:]
	}
	f.requests = append(f.requests, r)
	key := strings.TrimPrefix(r.URL.Path, "/"+bucket+"/")
	if _, there := f.objects[key]; a.stores && there {
		a.status = http.StatusPreconditionFailed
	} else if a.stores {
		f.objects[key] = body
		f.order = append(f.order, key)
	}
	if a.delay > 0 {
		select {
		case <-time.After(a.delay):
		case <-r.Context().Done():
		}
	}
	if a.hangUp {
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(a.status)
	if a.status != http.StatusOK {
		fmt.Fprintf(w, "<Error><Code>Status%d</Code><Message>as asked</Message></Error>", a.status)
	}
}

func (f *fakeStore) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.requests)
}

// notes is a spool that only remembers what was confirmed.
type notes struct {
	mu        sync.Mutex
	confirmed []string
}

func (n *notes) Confirm(o spool.Object) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.confirmed = append(n.confirmed, o.Key)
	return nil
}

func (n *notes) Claim(o spool.Object) (spool.Object, error) { return o, nil }

func (n *notes) has(key string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Contains(n.confirmed, key)
}

func store(t *testing.T, endpoint string) *Store {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
	st, err := NewStore(t.Context(), StoreConfig{Region: "us-east-1", Bucket: bucket, Endpoint: endpoint})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// quick makes a shipper that does not keep a test waiting.
func quick(t *testing.T, cfg Config, p putter) (*Shipper, *notes) {
	t.Helper()
	cfg.First, cfg.Denied, cfg.Longest = time.Millisecond, 2*time.Millisecond, 10*time.Millisecond
	n := &notes{}
	s := New(cfg, p, n, quiet)
	run(t, s)
	return s, n
}

var quiet = slog.New(slog.DiscardHandler)

// run sets a shipper to work until the test ends.
func run(t *testing.T, s *Shipper) {
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func object(t *testing.T, kind spool.Kind, seq int, content string) spool.Object {
	t.Helper()
	sum := sha256.Sum256([]byte(content))
	digest := hex.EncodeToString(sum[:])
	o := spool.Object{
		Kind: kind, Seq: seq, Key: fmt.Sprintf("captures/c/collectors/AROA:i-1/%s/%06d-%s", kind, seq, digest),
		ContentType: "application/octet-stream", SHA256: digest, Bytes: int64(len(content)),
		Path: filepath.Join(t.TempDir(), "object"),
	}
	if kind == spool.Manifest {
		o.Key = "captures/c/collectors/AROA:i-1/manifest.json"
	}
	if kind != spool.Segment {
		o.Data = []byte(content)
	}
	if err := os.WriteFile(o.Path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return o
}

func settle(t *testing.T, s *Shipper) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := s.Settle(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestWhatAPutSays(t *testing.T) {
	f := newFakeStore(t)
	s, n := quick(t, Config{}, store(t, f.URL))
	o := object(t, spool.Segment, 1, "frames")
	s.Add(o)
	settle(t, s)
	if !n.has(o.Key) || string(f.objects[o.Key]) != "frames" {
		t.Fatalf("stored %q, confirmed %v", f.objects[o.Key], n.confirmed)
	}
	raw, err := hex.DecodeString(o.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	for header, want := range map[string]string{
		"If-None-Match":         "*",
		"X-Amz-Checksum-Sha256": base64.StdEncoding.EncodeToString(raw),
		"X-Amz-Content-Sha256":  o.SHA256,
		"Content-Type":          o.ContentType,
		"Content-Length":        "6",
	} {
		if got := f.requests[0].Header.Get(header); got != want && header != "Content-Length" {
			t.Errorf("%s: %q, want %q", header, got, want)
		}
	}
	if f.requests[0].ContentLength != 6 || len(f.requests[0].TransferEncoding) != 0 {
		t.Errorf("length %d, transfer encoding %v: S3 wants the plain body that was signed", f.requests[0].ContentLength, f.requests[0].TransferEncoding)
	}
}

func TestAnswersOfTheStore(t *testing.T) {
	ok := answer{status: 200, stores: true}
	tests := []struct {
		reason   string
		kind     spool.Kind
		answers  []answer
		requests int
		refused  bool
	}{
		{"stored at once", spool.Segment, []answer{ok}, 1, false},
		{"slow down, then stored", spool.Segment, []answer{{status: 503}, {status: 503}, ok}, 3, false},
		{"internal error", spool.Segment, []answer{{status: 500}, ok}, 2, false},
		{"connection broken before anything happened", spool.Segment, []answer{{hangUp: true}, ok}, 2, false},
		{"answer lost after the segment was stored", spool.Segment, []answer{{hangUp: true, stores: true}}, 2, false},
		{"answer lost after the checkpoint was stored", spool.Checkpoint, []answer{{hangUp: true, stores: true}}, 2, false},
		{"answer lost after the manifest was stored", spool.Manifest, []answer{{hangUp: true, stores: true}}, 2, false},
		{"the segment is there before the first attempt", spool.Segment, []answer{{status: 412}}, 1, false},
		{"a manifest is there before the first attempt", spool.Manifest, []answer{{status: 412}}, 1, true},
		{"another request for the key was on its way", spool.Segment, []answer{{status: 409}, ok}, 2, false},
		{"denied until the role heals", spool.Segment, []answer{{status: 403}, {status: 403}, ok}, 3, false},
		{"no such bucket yet", spool.Segment, []answer{{status: 404}, ok}, 2, false},
		{"too many requests", spool.Segment, []answer{{status: 429}, ok}, 2, false},
	}
	for _, test := range tests {
		t.Run(test.reason, func(t *testing.T) {
			f := newFakeStore(t, test.answers...)
			var refused []string
			s, n := quick(t, Config{Refused: func(o spool.Object) { refused = append(refused, o.Key) }}, store(t, f.URL))
			o := object(t, test.kind, 1, "frames")
			s.Add(o)
			settle(t, s)
			if n.has(o.Key) == test.refused || (len(refused) == 1) != test.refused {
				t.Errorf("confirmed %v, refused %v", n.confirmed, refused)
			}
			if f.count() != test.requests {
				t.Errorf("%d requests, want %d", f.count(), test.requests)
			}
		})
	}
}

// A file that changed on the disk after it was sealed is never confirmed: S3 compares it with the digest.
func TestChangedFileIsNeverConfirmed(t *testing.T) {
	server, err := s3.Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	if err := server.CreateBucket(t.Context(), bucket); err != nil {
		t.Fatal(err)
	}
	s, n := quick(t, Config{}, store(t, server.Endpoint()))
	good, bad := object(t, spool.Segment, 1, "frames"), object(t, spool.Segment, 2, "frames too")
	if err := os.WriteFile(bad.Path, []byte("framez too"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Add(good)
	s.Add(bad)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := s.Settle(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("settled: %v", err)
	}
	if !n.has(good.Key) || n.has(bad.Key) {
		t.Errorf("confirmed %v", n.confirmed)
	}
	if got, err := os.ReadFile(filepath.Join(server.BucketDir(bucket), good.Key)); err != nil || string(got) != "frames" {
		t.Errorf("the store holds %q, %v", got, err)
	}
	if _, err := os.Stat(filepath.Join(server.BucketDir(bucket), bad.Key)); err == nil {
		t.Error("the store took bytes with another digest")
	}
}

func TestOneAtATimeIsInOrder(t *testing.T) {
	f := newFakeStore(t, answer{status: 503}, answer{hangUp: true}, answer{status: 200, stores: true}, answer{status: 503})
	s, _ := quick(t, Config{Parallel: 1}, store(t, f.URL))
	var want []string
	for i := range 10 {
		o := object(t, spool.Checkpoint, i+1, fmt.Sprint("checkpoint ", i))
		want = append(want, o.Key)
		s.Add(o)
	}
	settle(t, s)
	if !slices.Equal(f.order, want) {
		t.Errorf("stored in the order %v", f.order)
	}
}

func TestAttemptHasAnEnd(t *testing.T) {
	f := newFakeStore(t, answer{status: 200, delay: time.Minute}, answer{status: 200, stores: true})
	s, n := quick(t, Config{AttemptBase: 100 * time.Millisecond}, store(t, f.URL))
	o := object(t, spool.Segment, 1, "frames")
	s.Add(o)
	settle(t, s)
	if !n.has(o.Key) {
		t.Error("a store that does not answer keeps a segment for ever")
	}
}

func TestEndLeavesTheRestInTheQueue(t *testing.T) {
	s := New(Config{Parallel: 2, First: time.Hour, Longest: time.Hour}, refusing{}, &notes{}, quiet)
	for i := range 5 {
		s.Add(object(t, spool.Segment, i+1, fmt.Sprint(i)))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.Settle(ctx); err == nil || !strings.Contains(err.Error(), "5 objects") {
		t.Errorf("settled: %v", err)
	}
}

func TestHurryEndsTheWaiting(t *testing.T) {
	p := &failingOnce{}
	n := &notes{}
	s := New(Config{First: time.Hour, Longest: time.Hour}, p, n, quiet)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	o := object(t, spool.Segment, 1, "frames")
	s.Add(o)
	for !n.has(o.Key) {
		s.Hurry()
		time.Sleep(time.Millisecond)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestWaitsDoubleUpToALimit(t *testing.T) {
	for failures, want := range map[int]time.Duration{
		1: 200 * time.Millisecond, 2: 400 * time.Millisecond, 4: 1600 * time.Millisecond,
		8: 15 * time.Second, 100: 15 * time.Second, 1 << 30: 15 * time.Second,
	} {
		for range 100 {
			if got := wait(200*time.Millisecond, 15*time.Second, failures); got < want/2 || got > want {
				t.Fatalf("after %d failures: %v, want %v to %v", failures, got, want/2, want)
			}
		}
	}
}

func TestPathStyle(t *testing.T) {
	for endpoint, want := range map[string]bool{
		"":                       false,
		"http://127.0.0.1:7070":  true,
		"http://[::1]:7070":      true,
		"http://localhost:7070":  true,
		"https://s3.example.com": false,
		"https://bucket.vpce-0a1b2c3d-5e6f.s3.eu-central-1.vpce.amazonaws.com": false,
	} {
		if got := pathStyle(endpoint); got != want {
			t.Errorf("%q: %t, want %t", endpoint, got, want)
		}
	}
}

type refusing struct{}

func (refusing) Put(context.Context, spool.Object, io.ReadSeeker) error { return errors.New("no") }

type failingOnce struct{ failed bool }

func (f *failingOnce) Put(context.Context, spool.Object, io.ReadSeeker) error {
	if f.failed {
		return nil
	}
	f.failed = true
	return errors.New("not yet")
}
