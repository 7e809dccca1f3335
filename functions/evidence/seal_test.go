package evidence

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"flashtap/events"
)

// remains is what a capture left in the bucket, before it is sealed. Its parts are changed by the rows of a table and
// then stored.
type remains struct {
	t        *testing.T
	s        Store
	c        events.CaptureID
	user     string
	launched bool
	segments map[string][]byte // by key: what the bucket holds
	reports  map[string]any    // by key: checkpoints, and what else is there
	last     events.CollectorManifest
	closed   bool // the collector wrote its closing manifest
	raw      []byte
}

// orderly is what an orderly capture of 30 packets in three segments leaves.
func orderly(t *testing.T) *remains {
	r := &remains{t: t, s: store(), c: newCapture(), launched: true, closed: true, segments: map[string][]byte{}, reports: map[string]any{}}
	r.user = events.UserID("AROAX", "i-00000001")
	r.last = events.CollectorManifest{
		Version: events.RecordVersion, Capture: r.c, UserID: r.user, Tool: "flashtap collector test", StopReason: events.StopAsked, Checkpoints: 2,
		Tally: events.Tally{Received: 35, Written: 30, WrittenBytes: 3000, Sealed: 30, Uploaded: 30, Rejected: events.Rejected{ForeignVNI: 5}},
	}
	for n := 1; n <= 3; n++ {
		r.addSegment(r.user, n, 10)
	}
	for n := 1; n <= 2; n++ {
		r.checkpoint(n, events.Tally{Received: uint64(10 * n), Written: uint64(10 * n)})
	}
	return r
}

func (r *remains) addSegment(user string, n int, packets uint64) string {
	body := fmt.Appendf(nil, "segment %d of %s in %s", n, user, r.c)
	key := events.SegmentKey(r.c, user, n, Digest(body))
	r.segments[key] = body
	if user == r.user {
		r.last.Segments = append(r.last.Segments, events.Segment{Seq: n, Key: key, SHA256: Digest(body), Bytes: int64(len(body)), Packets: packets, Confirmed: true})
	}
	return key
}

func (r *remains) checkpoint(n int, tally events.Tally) {
	c := events.Checkpoint{Version: events.RecordVersion, Capture: r.c, UserID: r.user, Seq: n, At: time.Date(2026, 11, 22, 3, n, 0, 0, time.UTC), State: events.CollectorCapturing, Tally: tally, Previous: "p"}
	body, err := json.Marshal(c)
	if err != nil {
		r.t.Fatal(err)
	}
	r.reports[events.CheckpointKey(r.c, r.user, n, Digest(body))] = json.RawMessage(body)
}

// key is that of the n-th segment.
func (r *remains) key(n int) string { return r.last.Segments[n-1].Key }

func (r *remains) put(key string, body []byte) {
	r.t.Helper()
	if err := r.s.Create(r.t.Context(), key, body); err != nil {
		r.t.Fatal(err)
	}
}

func (r *remains) putJSON(key string, v any) {
	r.t.Helper()
	body, err := json.Marshal(v)
	if err != nil {
		r.t.Fatal(err)
	}
	r.put(key, body)
}

func (r *remains) store() *remains {
	r.t.Helper()
	r.put(events.FindingKey(r.c), []byte(`{"finding":true}`))
	r.putJSON(events.PlanKey(r.c), events.Plan{Version: events.RecordVersion, Capture: r.c, Deployment: "prod", Account: "111122223333", Region: "eu-central-1", Go: true})
	for _, act := range []events.CustodyEntry{{Actor: "intake", Act: "started"}, {Actor: "guard", Act: "guarded"}, {Actor: "mirror", Act: "mirrored"}} {
		act.Capture = r.c
		if err := r.s.Record(r.t.Context(), act); err != nil {
			r.t.Fatal(err)
		}
	}
	if r.launched {
		err := r.s.Record(r.t.Context(), events.CustodyEntry{Capture: r.c, Actor: "launch", Act: "launched-i-00000001", Detail: map[string]string{"userId": r.user}})
		if err != nil {
			r.t.Fatal(err)
		}
	}
	for key, body := range r.segments {
		r.put(key, body)
	}
	for key, v := range r.reports {
		r.putJSON(key, v)
	}
	switch {
	case r.raw != nil:
		r.put(events.CollectorManifestKey(r.c, r.user), r.raw)
	case r.closed:
		r.putJSON(events.CollectorManifestKey(r.c, r.user), r.last)
	}
	return r
}

func (r *remains) seal() (events.SealResult, events.Manifest) {
	r.t.Helper()
	result, err := r.s.Seal(r.t.Context(), r.c, "flashtap seal test", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	var m events.Manifest
	if err := r.s.ReadJSON(r.t.Context(), events.ManifestKey(r.c), &m); err != nil {
		r.t.Fatal(err)
	}
	return result, m
}

func TestSealComplete(t *testing.T) {
	r := orderly(t).store()
	result, m := r.seal()
	body, err := r.s.Read(t.Context(), events.ManifestKey(r.c))
	if err != nil {
		t.Fatal(err)
	}
	want := events.SealResult{Verdict: events.VerdictComplete, Reasons: []string{}, Packets: 30, Segments: 3, Manifest: events.ManifestKey(r.c), SHA256: Digest(body)}
	for _, s := range r.last.Segments {
		want.Bytes += s.Bytes
	}
	if !reflect.DeepEqual(result, want) {
		t.Errorf("%+v, want %+v", result, want)
	}
	if m.Deployment != "prod" || m.Account != "111122223333" || m.Region != "eu-central-1" || m.Tool != "flashtap seal test" || m.Capture != r.c || m.Error != "" {
		t.Errorf("%+v", m)
	}
	if m.Finding == nil || m.Finding.SHA256 != Digest([]byte(`{"finding":true}`)) || m.Plan == nil || !reflect.DeepEqual(m.Tally, r.last.Tally) {
		t.Errorf("finding %+v, plan %+v, tally %+v", m.Finding, m.Plan, m.Tally)
	}
	if !reflect.DeepEqual(m.Segments, r.last.Segments) {
		t.Errorf("segments %+v, want %+v", m.Segments, r.last.Segments)
	}
	if len(m.Collectors) != 1 || m.Collectors[0].UserID != r.user {
		t.Errorf("collectors %+v", m.Collectors)
	}
	// Whoever has only the folder and the manifest must find every file in it, and the digest of each.
	list, err := r.s.List(t.Context(), events.CapturePrefix(r.c))
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]events.Object{}
	for _, o := range m.Objects {
		listed[o.Key] = o
	}
	for _, e := range list {
		if e.Key == events.ManifestKey(r.c) {
			continue
		}
		body, err := r.s.Read(t.Context(), e.Key)
		if err != nil {
			t.Fatal(err)
		}
		if o := listed[e.Key]; o.SHA256 != Digest(body) || o.Bytes != int64(len(body)) {
			t.Errorf("%s is listed as %+v", e.Key, o)
		}
		delete(listed, e.Key)
	}
	if len(listed) > 0 {
		t.Errorf("listed, and not there: %v", listed)
	}
}

func TestSealVerdicts(t *testing.T) {
	foreign := events.UserID("AROAX", "i-00000bad")
	for name, row := range map[string]struct {
		change  func(*remains)
		verdict string
		says    []string // each a part of some reason
		packets uint64
	}{
		"everything is there":      {func(*remains) {}, events.VerdictComplete, nil, 30},
		"frames were cut as asked": {func(r *remains) { r.last.Tally.Truncated = 4 }, events.VerdictTruncated, nil, 30},
		"nothing came": {func(r *remains) {
			r.last.Tally, r.last.Segments, r.segments = events.Tally{}, nil, map[string][]byte{}
		}, events.VerdictNothing, nil, 0},
		"a segment is missing": {func(r *remains) { delete(r.segments, r.key(2)) }, events.VerdictIncomplete,
			[]string{"segment 2 with 10 packets was sealed but is not in the bucket", "30 packets were written, 20 are in the bucket"}, 20},
		"the bucket holds other bytes": {func(r *remains) { r.segments[r.key(2)] = []byte("forged") }, events.VerdictIncomplete,
			[]string{"segment 2: the bucket holds other bytes than were sealed", "30 packets were written, 20 are in the bucket"}, 20},
		"a segment that no manifest lists": {func(r *remains) { r.addSegment(r.user, 4, 10); r.last.Segments = r.last.Segments[:3] }, events.VerdictIncomplete,
			[]string{"segment 4 is in no closing manifest"}, 30},
		"its bytes are not those of its name": {func(r *remains) {
			key := r.addSegment(r.user, 4, 10)
			r.segments[key], r.last.Segments = []byte("forged"), r.last.Segments[:3]
		}, events.VerdictIncomplete, []string{"segment 4: its bytes do not have the digest of its name"}, 30},
		"a folder of nobody's": {func(r *remains) { r.addSegment(foreign, 1, 10) }, events.VerdictIncomplete,
			[]string{"folder " + foreign + " was written by no collector of this capture"}, 30},
		"it lists a segment of another folder": {func(r *remains) {
			key := r.addSegment(foreign, 9, 10)
			r.last.Segments = append(r.last.Segments, events.Segment{Seq: 9, Key: key, SHA256: Digest(r.segments[key]), Bytes: int64(len(r.segments[key])), Packets: 10})
			r.last.Tally.Written, r.last.Tally.Received = 40, 45
		}, events.VerdictIncomplete, []string{"segment 9", "is not one that this collector can have written"}, 30},
		"it lists a segment that is a plan": {func(r *remains) { r.last.Segments[0].Key = events.PlanKey(r.c) }, events.VerdictIncomplete,
			[]string{"segment 1", "is not one that this collector can have written"}, 20},
		"it gives a segment another number": {func(r *remains) { r.last.Segments[0].Seq = 7 }, events.VerdictIncomplete, []string{"segment 7", "can have written"}, 20},
		"it lists a segment twice": {func(r *remains) {
			r.last.Segments = append(r.last.Segments, r.last.Segments[0])
			r.last.Tally.Written, r.last.Tally.Received = 40, 45
		}, events.VerdictIncomplete, []string{"segment 1 is listed twice", "40 packets were written, 30 are in the bucket"}, 30},
		"more is there than was written": {func(r *remains) { r.last.Tally.Written, r.last.Tally.Received = 20, 25 }, events.VerdictIncomplete,
			[]string{"20 packets were written, 30 are in the bucket"}, 30},
		"the tally does not add up": {func(r *remains) { r.last.Tally.Received++ }, events.VerdictIncomplete, []string{"does not add up"}, 30},
		"the socket was full":       {func(r *remains) { r.last.Tally.SocketDropped = 7 }, events.VerdictIncomplete, []string{"7 datagrams were dropped"}, 30},
		"the disk was full": {func(r *remains) { r.last.Tally.Unwritten, r.last.Tally.Received = 2, 37 }, events.VerdictIncomplete,
			[]string{"2 packets could not be written"}, 30},
		"the collector ended by an error": {func(r *remains) { r.last.Error = "no space left" }, events.VerdictIncomplete, []string{"no space left"}, 30},
		"it failed, and did not say why":  {func(r *remains) { r.last.StopReason = events.StopFailed }, events.VerdictIncomplete, []string{"failed"}, 30},
		"it came back after a crash":      {func(r *remains) { r.last.StopReason = events.StopRecovered }, events.VerdictIncomplete, []string{"recovered"}, 30},
		"no closing manifest": {func(r *remains) { r.closed = false }, events.VerdictIncomplete,
			[]string{"no closing manifest; what came after its checkpoint 2 at 2026-11-22T03:02:00Z is unknown", "segment 1 is in no closing manifest"}, 0},
		"no closing manifest and no checkpoint": {func(r *remains) { r.closed, r.reports = false, map[string]any{} }, events.VerdictIncomplete,
			[]string{"neither a closing manifest nor a checkpoint"}, 0},
		"a closing manifest that is garbage": {func(r *remains) { r.raw = []byte("\x00\xffgarbage") }, events.VerdictIncomplete,
			[]string{"closing manifest can't be read", "what came after its checkpoint 2"}, 0},
		"a closing manifest of a later version": {func(r *remains) { r.last.Version++ }, events.VerdictIncomplete, []string{"closing manifest can't be read", "version 2"}, 0},
		"a closing manifest of another's":       {func(r *remains) { r.last.UserID = foreign }, events.VerdictIncomplete, []string{"closing manifest can't be read", foreign}, 0},
		"garbage all over": {func(r *remains) {
			r.raw = []byte("garbage")
			r.reports = map[string]any{events.CheckpointKey(r.c, r.user, 3, strings.Repeat("a", 64)): []int{1}}
		}, events.VerdictIncomplete, []string{"closing manifest can't be read", "checkpoint 3 can't be read"}, 0},
		"the last checkpoint is garbage, the one before is not": {func(r *remains) {
			r.closed = false
			r.reports[events.CheckpointKey(r.c, r.user, 3, strings.Repeat("a", 64))] = []int{1}
		}, events.VerdictIncomplete, []string{"checkpoint 3 can't be read", "what came after its checkpoint 2"}, 0},
		"the collector wrote nothing": {func(r *remains) {
			r.closed, r.segments, r.reports = false, map[string][]byte{}, map[string]any{}
		}, events.VerdictIncomplete, []string{"the collector wrote nothing"}, 0},
		"no collector was launched": {func(r *remains) {
			r.launched, r.closed, r.segments, r.reports = false, false, map[string][]byte{}, map[string]any{}
		}, events.VerdictIncomplete, []string{"no collector was launched"}, 0},
		"a file that nobody expects": {func(r *remains) { r.reports[events.CollectorPrefix(r.c, r.user)+"notes.txt"] = "hello" }, events.VerdictComplete, nil, 30},
	} {
		t.Run(name, func(t *testing.T) {
			r := orderly(t)
			row.change(r)
			result, m := r.store().seal()
			if result.Verdict != row.verdict || result.Packets != row.packets {
				t.Errorf("%s with %d packets, want %s with %d: %q", result.Verdict, result.Packets, row.verdict, row.packets, m.Reasons)
			}
			for _, part := range row.says {
				if !slices.ContainsFunc(m.Reasons, func(reason string) bool { return strings.Contains(reason, part) }) {
					t.Errorf("no reason says %q: %q", part, m.Reasons)
				}
			}
			if (len(m.Reasons) > 0) != (row.verdict == events.VerdictIncomplete) {
				t.Errorf("verdict %s for these reasons: %q", m.Verdict, m.Reasons)
			}
			stored := map[string]events.Object{}
			for _, o := range m.Objects {
				stored[o.Key] = o
			}
			for _, s := range m.Segments {
				if o := stored[s.Key]; s.Confirmed != (o.SHA256 == s.SHA256 && o.Bytes == s.Bytes) {
					t.Errorf("segment %d is confirmed: %t; the bucket holds %+v of %+v", s.Seq, s.Confirmed, o, s)
				}
			}
			for _, o := range m.Objects {
				if o.SHA256 == "" {
					t.Errorf("%s has no digest", o.Key)
				}
			}
		})
	}
}

// TestSealTwoCollectors: a second attempt at a launch gives a second folder, and both count.
func TestSealTwoCollectors(t *testing.T) {
	r := orderly(t)
	second := events.UserID("AROAX", "i-00000002")
	body := []byte("the second's segment")
	key := events.SegmentKey(r.c, second, 1, Digest(body))
	r.segments[key] = body
	r.reports[events.CollectorManifestKey(r.c, second)] = events.CollectorManifest{Version: events.RecordVersion, Capture: r.c, UserID: second,
		Segments: []events.Segment{{Seq: 1, Key: key, SHA256: Digest(body), Bytes: int64(len(body)), Packets: 5}},
		Tally:    events.Tally{Received: 6, Written: 5, Rejected: events.Rejected{Malformed: 1}}}
	r.reports[events.CustodyKey(r.c, "launch", "launched-i-00000002")] = events.CustodyEntry{Version: 1, Capture: r.c, Actor: "launch", Act: "launched-i-00000002", Detail: map[string]string{"userId": second}}
	result, m := r.store().seal()
	if result.Verdict != events.VerdictComplete || result.Packets != 35 || result.Segments != 4 || len(m.Collectors) != 2 || m.Tally.Received != 41 || m.Tally.Rejected.Total() != 6 {
		t.Errorf("%+v\n%+v", result, m)
	}
}

// TestSealWithoutStoredDigest: an object that was put without a SHA-256 is digested as it is read, however large.
func TestSealWithoutStoredDigest(t *testing.T) {
	r := orderly(t)
	large := bytes.Repeat([]byte("0123456789abcdef"), maxRecord/16+1)
	key := events.CollectorPrefix(r.c, r.user) + "large.bin"
	if _, err := server.Client().PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String(bucket), Key: &key, Body: bytes.NewReader(large)}); err != nil {
		t.Fatal(err)
	}
	_, m := r.store().seal()
	i := slices.IndexFunc(m.Objects, func(o events.Object) bool { return o.Key == key })
	if i < 0 || m.Objects[i].SHA256 != Digest(large) || m.Objects[i].Bytes != int64(len(large)) {
		t.Errorf("object %d of %+v", i, m.Objects)
	}
}

func TestSealAgain(t *testing.T) {
	r := orderly(t)
	delete(r.segments, r.key(3))
	r.store()
	first, _ := r.seal()
	r.put(events.CertificateKey(r.c, 9), []byte("a late certificate"))
	second, err := r.s.Seal(t.Context(), r.c, "another tool", &events.Failure{Error: "Late", Cause: "late"})
	if err != nil || !reflect.DeepEqual(first, second) {
		t.Errorf("sealed again: %+v, %v; at first %+v", second, err, first)
	}
}

// TestSealInterrupted: between the custody log and the manifest a seal may end; the next one takes the log as it is.
func TestSealInterrupted(t *testing.T) {
	r := orderly(t).store()
	if err := r.s.chainCustody(t.Context(), r.c); err != nil {
		t.Fatal(err)
	}
	before, err := r.s.Read(t.Context(), events.CustodyLogKey(r.c))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.s.Record(t.Context(), events.CustodyEntry{Capture: r.c, Actor: "sweep", Act: "came-by"}); err != nil {
		t.Fatal(err)
	}
	result, m := r.seal()
	after, err := r.s.Read(t.Context(), events.CustodyLogKey(r.c))
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the custody log is another: %v", err)
	}
	if result.Verdict != events.VerdictComplete {
		t.Errorf("%+v", result)
	}
	late := events.CustodyKey(r.c, "sweep", "came-by")
	if !slices.ContainsFunc(m.Objects, func(o events.Object) bool { return o.Key == late }) {
		t.Error("what was recorded in between is in no list")
	}
}

func TestSealByManyAtOnce(t *testing.T) {
	r := orderly(t).store()
	type answer struct {
		events.SealResult
		err error
	}
	answers := make(chan answer)
	for i := range 4 {
		go func() {
			var failure *events.Failure
			if i%2 == 1 {
				failure = &events.Failure{Error: "Other", Cause: fmt.Sprint(i)}
			}
			result, err := r.s.Seal(context.Background(), r.c, fmt.Sprint("tool ", i), failure)
			answers <- answer{result, err}
		}()
	}
	first := <-answers
	for range 3 {
		if a := <-answers; a.err != nil || !reflect.DeepEqual(a, first) {
			t.Errorf("%+v, and %+v", first, a)
		}
	}
}

func TestSealRefuses(t *testing.T) {
	if _, err := store().Seal(t.Context(), "../x", "tool", nil); err == nil {
		t.Error("a capture id that is none is sealed")
	}
	if _, err := store().Seal(t.Context(), newCapture(), "tool", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a capture without a plan: %v", err)
	}
}

func TestSealNamesTheFailure(t *testing.T) {
	r := orderly(t).store()
	if _, err := r.s.Seal(t.Context(), r.c, "tool", &events.Failure{Error: "NoCapacity", Cause: "none of them"}); err != nil {
		t.Fatal(err)
	}
	_, m := r.seal()
	if m.Error != "NoCapacity: none of them" {
		t.Errorf("error %q", m.Error)
	}
	if r = orderly(t).store(); true {
		if _, err := r.s.Seal(t.Context(), r.c, "tool", &events.Failure{}); err != nil {
			t.Fatal(err)
		}
		if _, m := r.seal(); m.Error != "" {
			t.Errorf("no failure gives error %q", m.Error)
		}
	}
}

// TestCustodyChain: each line holds the digest of the one before, so that none can be taken out or put in.
func TestCustodyChain(t *testing.T) {
	r := orderly(t).store()
	r.seal()
	log, err := r.s.Read(t.Context(), events.CustodyLogKey(r.c))
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSuffix(log, []byte("\n")), []byte("\n"))
	if len(lines) != 4 {
		t.Fatalf("%d lines", len(lines))
	}
	previous, stored := "", time.Time{}
	for i, line := range lines {
		var l events.CustodyLine
		if err := json.Unmarshal(line, &l); err != nil {
			t.Fatal(err)
		}
		body, err := r.s.Read(t.Context(), l.Key)
		if err != nil || Digest(body) != l.SHA256 || l.Previous != previous || l.Stored.Before(stored) || l.Entry.Capture != r.c {
			t.Errorf("line %d: %+v, %v", i+1, l, err)
		}
		previous, stored = Digest(line), l.Stored
	}
}
