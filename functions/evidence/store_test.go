package evidence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"flashtap/events"
	s3server "flashtap/testutil/s3"
)

const bucket = "evidence"

// server is one real S3 server for all tests; each test works on captures of its own.
var server *s3server.Server

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "evidence")
	if err == nil {
		defer os.RemoveAll(dir)
		server, err = s3server.Start(dir)
	}
	if err == nil {
		defer server.Stop()
		err = server.CreateBucket(context.Background(), bucket)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// client is one for all tests: each has connections of its own, and the server's are limited.
var client = sync.OnceValue(func() *s3.Client { return server.Client() })

func store() Store { return Store{API: client(), Bucket: bucket} }

var captures atomic.Int64

// newCapture is a capture that no other test knows.
func newCapture() events.CaptureID {
	return events.NewCaptureID(time.Date(2026, 11, 22, 3, 4, 5, 0, time.UTC), fmt.Sprintf("eni-%08x", captures.Add(1)))
}

// smallPages lists two keys a page, so that a handful of objects takes several.
type smallPages struct{ *s3.Client }

func (s smallPages) ListObjectsV2(ctx context.Context, in *s3.ListObjectsV2Input, o ...func(*s3.Options)) (*s3.ListObjectsV2Output, error) {
	in.MaxKeys = aws.Int32(2)
	return s.Client.ListObjectsV2(ctx, in, o...)
}

func TestCreate(t *testing.T) {
	s, key := store(), events.FindingKey(newCapture())
	if err := s.Create(t.Context(), key, []byte("one")); err != nil {
		t.Fatal(err)
	}
	if err := s.Create(t.Context(), key, []byte("one")); err != nil {
		t.Errorf("the same bytes again, as of a step that runs twice: %v", err)
	}
	err := s.Create(t.Context(), key, []byte("two"))
	if !errors.Is(err, ErrExists) || !strings.Contains(err.Error(), key) {
		t.Errorf("other bytes: %v, want ErrExists that names the key", err)
	}
	if body, err := s.Read(t.Context(), key); err != nil || string(body) != "one" {
		t.Errorf("it holds %q, %v; the first stands", body, err)
	}
}

func TestCreateByManyAtOnce(t *testing.T) {
	s, key := store(), events.FindingKey(newCapture())
	results := make(chan error)
	for i := range 8 {
		go func() { results <- s.Create(context.Background(), key, []byte{byte(i)}) }()
	}
	won := 0
	for range 8 {
		if err := <-results; err == nil {
			won++
		} else if !errors.Is(err, ErrExists) {
			t.Error(err)
		}
	}
	if won != 1 {
		t.Errorf("%d writers of different bytes are told that theirs stand", won)
	}
}

func TestRead(t *testing.T) {
	s, c := store(), newCapture()
	if _, err := s.Read(t.Context(), events.PlanKey(c)); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), events.PlanKey(c)) {
		t.Errorf("nothing there: %v, want ErrNotExist that names the key", err)
	}
	elsewhere := Store{API: s.API, Bucket: "nowhere"}
	if _, err := elsewhere.Read(t.Context(), events.PlanKey(c)); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no bucket: %v, want an error that is not ErrNotExist", err)
	}
	if err := s.Create(t.Context(), events.PlanKey(c), []byte("{half")); err != nil {
		t.Fatal(err)
	}
	var v map[string]any
	if err := s.ReadJSON(t.Context(), events.PlanKey(c), &v); err == nil || !strings.Contains(err.Error(), events.PlanKey(c)) {
		t.Errorf("half a record: %v", err)
	}
}

func TestPlan(t *testing.T) {
	s := store()
	write := func(change func(*events.Plan)) events.CaptureID {
		t.Helper()
		c := newCapture()
		p := events.Plan{Version: events.RecordVersion, Capture: c, Go: true}
		change(&p)
		if err := s.CreateJSON(t.Context(), events.PlanKey(c), p); err != nil {
			t.Fatal(err)
		}
		return c
	}
	if p, err := s.Plan(t.Context(), write(func(*events.Plan) {})); err != nil || !p.Go {
		t.Errorf("%+v, %v", p, err)
	}
	for name, c := range map[string]events.CaptureID{
		"of another capture": write(func(p *events.Plan) { p.Capture = newCapture() }),
		"of a later version": write(func(p *events.Plan) { p.Version++ }),
		"no id":              "../secrets",
	} {
		if _, err := s.Plan(t.Context(), c); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.Plan(t.Context(), newCapture()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
}

func TestRecord(t *testing.T) {
	s, c := store(), newCapture()
	first := events.CustodyEntry{Capture: c, Actor: "launch", Act: "launched-i-1", At: time.Unix(1e9, 0).UTC(), Resource: "i-1"}
	if err := s.Record(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	again := first
	again.At, again.Resource = time.Unix(2e9, 0), "i-2"
	if err := s.Record(t.Context(), again); err != nil {
		t.Errorf("the same act again: %v", err)
	}
	var got events.CustodyEntry
	if err := s.ReadJSON(t.Context(), events.CustodyKey(c, "launch", "launched-i-1"), &got); err != nil {
		t.Fatal(err)
	}
	if !got.At.Equal(first.At) || got.Resource != "i-1" || got.Version != events.RecordVersion {
		t.Errorf("%+v; the first record stands", got)
	}
	if err := s.Record(t.Context(), events.CustodyEntry{Capture: c, Actor: "mirror", Act: "mirrored"}); err != nil {
		t.Fatal(err)
	}
	if err := s.ReadJSON(t.Context(), events.CustodyKey(c, "mirror", "mirrored"), &got); err != nil || time.Since(got.At) > time.Minute {
		t.Errorf("an act without a time gets none: %+v, %v", got, err)
	}
}

func TestList(t *testing.T) {
	s, c := Store{API: smallPages{server.Client()}, Bucket: bucket}, newCapture()
	want := []string{}
	for n := range 7 {
		key := events.CertificateKey(c, n+1)
		want = append(want, key)
		if err := s.Create(t.Context(), key, bytes.Repeat([]byte("x"), n)); err != nil {
			t.Fatal(err)
		}
	}
	list, err := s.List(t.Context(), events.CertificatesPrefix(c))
	var got []string
	for n, e := range list {
		got = append(got, e.Key)
		if e.Bytes != int64(n) || time.Since(e.Stored).Abs() > time.Minute {
			t.Errorf("%+v", e)
		}
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	if list, err := s.List(t.Context(), events.CertificatesPrefix(newCapture())); err != nil || len(list) != 0 {
		t.Errorf("where nothing is: %v, %v", list, err)
	}
}

// TestCaptures: only what began at or after a time is looked at, however old the bucket is.
func TestCaptures(t *testing.T) {
	s := Store{API: smallPages{server.Client()}, Bucket: "captures"}
	if err := server.CreateBucket(t.Context(), s.Bucket); err != nil {
		t.Fatal(err)
	}
	at := func(day int) time.Time { return time.Date(2026, 11, day, 0, 0, 0, 0, time.UTC) }
	var all []events.CaptureID
	for day := 1; day <= 7; day++ {
		c := events.NewCaptureID(at(day), "eni-0000000a")
		all = append(all, c)
		for _, key := range []string{events.FindingKey(c), events.PlanKey(c), events.CertificateKey(c, 1)} {
			if err := s.Create(t.Context(), key, []byte("x")); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, key := range []string{"captures/readme.txt", "captures/zzz/plan.json", "captures/20261105T000000Z-nobody/plan.json", "tools/collector"} {
		if err := s.Create(t.Context(), key, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	for name, row := range map[string]struct {
		since time.Time
		want  []events.CaptureID
	}{
		"all":                    {time.Time{}, all},
		"since the fourth day":   {at(4), all[3:]},
		"since a second after":   {at(4).Add(time.Second), all[4:]},
		"since a time elsewhere": {at(4).In(time.FixedZone("", 3600)), all[3:]},
		"since tomorrow":         {at(30), nil},
	} {
		got, err := s.Captures(t.Context(), row.since)
		if err != nil || !slices.Equal(got, row.want) {
			t.Errorf("%s: %v, %v; want %v", name, got, err, row.want)
		}
	}
}

func TestStoredDigest(t *testing.T) {
	s, c := store(), newCapture()
	if err := s.Create(t.Context(), events.FindingKey(c), []byte("abc")); err != nil {
		t.Fatal(err)
	}
	const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" // FIPS 180-2, appendix B.1
	if digest, size, err := s.StoredDigest(t.Context(), events.FindingKey(c)); err != nil || digest != abc || size != 3 {
		t.Errorf("%s, %d, %v", digest, size, err)
	}
	key := events.PlanKey(c)
	if _, err := server.Client().PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String(bucket), Key: &key, Body: strings.NewReader("abc")}); err != nil {
		t.Fatal(err)
	}
	if digest, size, err := s.StoredDigest(t.Context(), key); err != nil || digest != "" || size != 3 {
		t.Errorf("stored without a SHA-256: %q, %d, %v", digest, size, err)
	}
	if _, _, err := s.StoredDigest(t.Context(), events.ManifestKey(c)); err == nil {
		t.Error("nothing there has a digest")
	}
	for key, want := range map[string]bool{events.FindingKey(c): true, events.ManifestKey(c): false} {
		if there, err := s.Exists(t.Context(), key); err != nil || there != want {
			t.Errorf("%s exists: %t, %v", key, there, err)
		}
	}
}
