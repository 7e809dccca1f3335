package evidence

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
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
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"flashtap/events"
)

// remains is what a capture left in the bucket, before it is sealed. Its parts are changed by the rows of a table and
// then stored.
type remains struct {
	t        *testing.T
	s        Store
	sealer   Sealer
	c        events.CaptureID
	user     string
	launched bool
	segments map[string][]byte // by key: what the bucket holds
	reports  map[string]any    // by key: what else is there
	points   []events.Checkpoint
	plan     events.Plan
	last     events.CollectorManifest
	closed   bool // the collector wrote its closing manifest
	broken   func(*events.CollectorManifest)
	raw      []byte
}

// key is the signing key of all tests.
var key = newKey()

// memoryKey is a key as KMS has them.
type memoryKey struct {
	arn     string
	private *ecdsa.PrivateKey
	fails   func(operation string) error
}

func newKey() *memoryKey {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return &memoryKey{arn: "arn:aws:kms:eu-central-1:111122223333:key/1", private: private, fails: func(string) error { return nil }}
}

func (k *memoryKey) PublicKey(context.Context) (string, []byte, error) {
	if err := k.fails("GetPublicKey"); err != nil {
		return "", nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(k.private.Public())
	return k.arn, der, err
}

func (k *memoryKey) Sign(_ context.Context, digest []byte) ([]byte, error) {
	if err := k.fails("Sign"); err != nil {
		return nil, err
	}
	return ecdsa.SignASN1(rand.Reader, k.private, digest)
}

// orderly is what an orderly capture of 30 packets in three segments leaves.
func orderly(t *testing.T) *remains {
	r := &remains{t: t, s: store(), c: newCapture(), launched: true, closed: true, segments: map[string][]byte{}, reports: map[string]any{}}
	r.sealer = Sealer{Store: r.s, Signer: key, Tool: "flashtap seal test"}
	r.user = events.UserID("AROAX", "i-00000001")
	filter := events.EverythingFilter()
	r.plan = events.Plan{Version: events.RecordVersion, Capture: r.c, Deployment: "prod", Account: "111122223333", Region: "eu-central-1", Go: true,
		Source: events.Source{NetworkInterfaceID: r.c.NetworkInterfaceID(), InstanceID: "i-00000007"}, Mirror: events.MirrorPlan{VNI: 7, SessionNumber: 1, Filter: filter}}
	r.last = events.CollectorManifest{
		Version: events.RecordVersion, Capture: r.c, UserID: r.user, Tool: "flashtap collector test", StopReason: events.StopAsked,
		Started: minute(0), Ended: minute(3), Tally: events.Tally{Received: 35, Written: 30, WrittenBytes: 3000, Sealed: 30, Uploaded: 30, Rejected: events.Rejected{ForeignVNI: 5}},
	}
	for n := 1; n <= 3; n++ {
		r.addSegment(r.user, n, 10)
	}
	for n := 1; n <= 2; n++ {
		r.points = append(r.points, events.Checkpoint{Version: events.RecordVersion, Capture: r.c, UserID: r.user, Seq: n, At: minute(n), State: events.CollectorCapturing,
			Tally: events.Tally{Received: uint64(10 * n), Written: uint64(10 * n)}})
	}
	return r
}

func minute(n int) time.Time { return time.Date(2026, 11, 22, 3, n, 0, 0, time.UTC) }

// addSegment adds a segment to the bucket, and to what the collector says of itself.
func (r *remains) addSegment(user string, n int, packets uint64) string {
	body := fmt.Appendf(nil, "segment %d of %s in %s", n, user, r.c)
	key := events.SegmentKey(r.c, user, n, Digest(body))
	r.segments[key] = body
	if user == r.user {
		r.last.Segments = append(r.last.Segments, events.Segment{Seq: n, Key: key, SHA256: Digest(body), Bytes: int64(len(body)), Packets: packets, Confirmed: true})
		r.last.Tally.SealedBytes += uint64(len(body))
		r.last.Tally.UploadedBytes += uint64(len(body))
	}
	return key
}

// finish links the segments' records, and writes down the checkpoints: the last has all records that there are.
func (r *remains) finish() {
	previous := ""
	var records []events.Segment
	for i := range r.last.Segments {
		seg := &r.last.Segments[i]
		seg.Previous = previous
		var err error
		if previous, err = link(*seg); err != nil {
			r.t.Fatal(err)
		}
		record := *seg
		record.Confirmed = false
		records = append(records, record)
	}
	r.last.Chain = previous
	before := ""
	for i, p := range r.points {
		p.Previous = before
		if i == len(r.points)-1 {
			p.Records, p.Chain = records, previous
		}
		body, err := Canonical(p)
		if err != nil {
			r.t.Fatal(err)
		}
		before = Digest(body)
		r.reports[events.CheckpointKey(r.c, r.user, p.Seq, before)] = json.RawMessage(body)
	}
	r.last.Checkpoints, r.last.LastCheckpoint = len(r.points), before
	if n := len(r.points); n > 0 {
		r.last.Checkpoints = r.points[n-1].Seq
	}
	if r.broken != nil {
		r.broken(&r.last)
	}
}

// twist adds a checkpoint, of number 3 or of the given one, that is changed under its right digest.
func (r *remains) twist(change func(*events.Checkpoint), number ...int) {
	c := events.Checkpoint{Version: 1, Capture: r.c, UserID: r.user, Seq: append(number, 3)[0], At: minute(9)}
	key := c.Seq
	change(&c)
	body, err := Canonical(c)
	if err != nil {
		r.t.Fatal(err)
	}
	r.reports[events.CheckpointKey(r.c, r.user, key, Digest(body))] = json.RawMessage(body)
}

// nth is the key of the n-th segment.
func (r *remains) nth(n int) string { return r.last.Segments[n-1].Key }

func (r *remains) put(key string, body []byte) {
	r.t.Helper()
	if err := r.s.Create(r.t.Context(), key, body); err != nil {
		r.t.Fatal(err)
	}
}

func (r *remains) putJSON(key string, v any) {
	r.t.Helper()
	if err := r.s.CreateJSON(r.t.Context(), key, v); err != nil {
		r.t.Fatal(err)
	}
}

func (r *remains) store() *remains {
	r.t.Helper()
	r.finish()
	r.put(events.FindingKey(r.c), []byte(`{"finding":true}`))
	r.putJSON(events.PlanKey(r.c), r.plan)
	for _, act := range []events.CustodyEntry{{Actor: "intake", Act: "started"}, {Actor: "guard", Act: "guarded"}, {Actor: "mirror", Act: events.ActMirrored, Resource: "tms-1", RequestID: "r-1"}} {
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
	result, err := r.sealer.Seal(r.t.Context(), r.c, nil)
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
	want := events.SealResult{Verdict: events.VerdictComplete, Reasons: []string{}, Packets: 30, Segments: 3, Manifest: events.ManifestKey(r.c), SHA256: Digest(body),
		Signature: events.ManifestSignatureKey(r.c), KeyID: key.arn}
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
		if e.Key == events.ManifestKey(r.c) || e.Key == events.ManifestSignatureKey(r.c) {
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
			r.last.Tally, r.last.Segments, r.segments, r.points = events.Tally{}, nil, map[string][]byte{}, nil
		}, events.VerdictNothing, nil, 0},
		"a segment is missing": {func(r *remains) { delete(r.segments, r.nth(2)) }, events.VerdictIncomplete,
			[]string{"segment 2 with 10 packets was sealed but is not in the bucket", "30 packets were written, 20 are in the bucket"}, 20},
		"the bucket holds other bytes": {func(r *remains) { r.segments[r.nth(2)] = []byte("forged") }, events.VerdictIncomplete,
			[]string{"segment 2: the bucket holds other bytes than were sealed", "30 packets were written, 20 are in the bucket"}, 20},
		"a segment that no manifest lists": {func(r *remains) { r.addSegment(r.user, 4, 10); r.last.Segments = r.last.Segments[:3] }, events.VerdictIncomplete,
			[]string{"segment 4 of", "is in no record of the collector's"}, 30},
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
		"the tally does not add up": {func(r *remains) { r.last.Tally.Received++ }, events.VerdictIncomplete, []string{"do not add up: " + "AROAX:i-00000001: received = written + rejected + unwritten: 36 and 35"}, 30},
		"the socket was full":       {func(r *remains) { r.last.Tally.SocketDropped = 7 }, events.VerdictIncomplete, []string{"7 datagrams were dropped"}, 30},
		"the disk was full": {func(r *remains) { r.last.Tally.Unwritten, r.last.Tally.Received = 2, 37 }, events.VerdictIncomplete,
			[]string{"2 packets could not be written"}, 30},
		"the collector ended by an error": {func(r *remains) { r.last.Error = "no space left" }, events.VerdictIncomplete, []string{"no space left"}, 30},
		"it failed, and did not say why":  {func(r *remains) { r.last.StopReason = events.StopFailed }, events.VerdictIncomplete, []string{"failed"}, 30},
		"it came back after a crash":      {func(r *remains) { r.last.StopReason = events.StopRecovered }, events.VerdictIncomplete, []string{"recovered"}, 30},
		"no closing manifest": {func(r *remains) { r.closed = false }, events.VerdictIncomplete,
			[]string{"incomplete from 2026-11-22T03:02:00Z: the collector left no closing manifest; what came after its checkpoint 2 is unknown"}, 30},
		"no closing manifest and no checkpoint": {func(r *remains) { r.closed, r.points = false, nil }, events.VerdictIncomplete,
			[]string{"neither a closing manifest nor a checkpoint", "segment 1 of", "segment 3 of"}, 0},
		"no closing manifest, and a segment that no checkpoint has": {func(r *remains) {
			r.addSegment(r.user, 4, 10)
			r.closed, r.last.Segments = false, r.last.Segments[:3]
		}, events.VerdictIncomplete, []string{"incomplete from 2026-11-22T03:02:00Z: ", "segment 4 of", "is in no record of the collector's; its packets are not counted"}, 30},
		"no closing manifest, and a segment of a checkpoint is missing": {func(r *remains) { r.closed = false; delete(r.segments, r.nth(2)) }, events.VerdictIncomplete,
			[]string{"segment 2 with 10 packets was sealed but is not in the bucket"}, 20},
		"a closing manifest that is garbage": {func(r *remains) { r.raw = []byte("\x00\xffgarbage") }, events.VerdictIncomplete,
			[]string{"closing manifest can't be read", "incomplete from", "what came after its checkpoint 2"}, 30},
		"a closing manifest of a later version":       {func(r *remains) { r.last.Version++ }, events.VerdictIncomplete, []string{"closing manifest can't be read", "version 2"}, 30},
		"a closing manifest of another's":             {func(r *remains) { r.last.UserID = foreign }, events.VerdictIncomplete, []string{"closing manifest can't be read", foreign}, 30},
		"a closing manifest that says it was derived": {func(r *remains) { r.last.Derived = true }, events.VerdictIncomplete, []string{"closing manifest can't be read"}, 30},
		"a closing manifest with a number beyond all": {func(r *remains) {
			r.raw = fmt.Appendf(nil, `{"version":1,"capture":%q,"userId":%q,"tally":{"received":9007199254740992}}`, r.c, r.user)
		},
			events.VerdictIncomplete, []string{"closing manifest can't be read", "9007199254740992"}, 30},
		"counts that overflow": {func(r *remains) { r.last.Tally.Written, r.last.Tally.Unwritten = 1<<53-1, 1<<53-1 }, events.VerdictIncomplete,
			[]string{"9007199254740991 packets were written"}, 30},
		"garbage all over": {func(r *remains) {
			r.raw = []byte("garbage")
			r.points, r.reports = nil, map[string]any{events.CheckpointKey(r.c, r.user, 3, strings.Repeat("a", 64)): []int{1}}
		}, events.VerdictIncomplete, []string{"closing manifest can't be read", "checkpoint 3 can't be read"}, 0},
		"the last checkpoint is garbage, the one before is not": {func(r *remains) {
			r.closed = false
			r.reports[events.CheckpointKey(r.c, r.user, 3, strings.Repeat("a", 64))] = []int{1}
		}, events.VerdictIncomplete, []string{"checkpoint 3 can't be read", "what came after its checkpoint 2"}, 30},
		"a checkpoint is missing": {func(r *remains) { r.points[0].Seq, r.points[1].Seq = 2, 3 }, events.VerdictIncomplete, []string{"checkpoint 1 is not in the bucket"}, 30},
		"a checkpoint lies under another digest": {func(r *remains) {
			r.reports[events.CheckpointKey(r.c, r.user, 3, strings.Repeat("a", 64))] = events.Checkpoint{Version: 1, Capture: r.c, UserID: r.user, Seq: 3}
		}, events.VerdictIncomplete, []string{"checkpoint 3 can't be read: its bytes do not have the digest of its name"}, 30},
		"a checkpoint says another number": {func(r *remains) { r.twist(func(c *events.Checkpoint) { c.Seq = 9 }) }, events.VerdictIncomplete, []string{"checkpoint 3 can't be read: it says that it is number 9"}, 30},
		"two checkpoints of one number":    {func(r *remains) { r.twist(func(c *events.Checkpoint) { c.Note = "another" }, 2) }, events.VerdictIncomplete, []string{"checkpoint 2 can't be read: there are two of this number"}, 30},
		"the chain lost a record": {func(r *remains) { r.broken = func(m *events.CollectorManifest) { m.Segments = m.Segments[:2] } }, events.VerdictIncomplete,
			[]string{"the chain of segment records is broken: it does not end where the collector says"}, 20},
		"the chain lost its first record": {func(r *remains) { r.broken = func(m *events.CollectorManifest) { m.Segments = m.Segments[1:] } }, events.VerdictIncomplete,
			[]string{"the chain of segment records is broken: segment 2 follows a record that is not there", "segments 1 to 1 are in no record"}, 20},
		"the chain begins twice": {func(r *remains) {
			r.broken = func(m *events.CollectorManifest) { m.Segments[2].Previous = ""; m.Chain, _ = link(m.Segments[2]) }
		},
			events.VerdictIncomplete, []string{"the chain of segment records is broken: it begins more than once"}, 30},
		"a record has two followers": {func(r *remains) {
			r.broken = func(m *events.CollectorManifest) {
				m.Segments[2].Previous = m.Segments[1].Previous
				m.Chain, _ = link(m.Segments[2])
			}
		}, events.VerdictIncomplete, []string{"the chain of segment records is broken: a record has two followers"}, 30},
		"the headers were asked for": {func(r *remains) { r.plan.Mirror.PacketLength = 128 }, events.VerdictTruncated, nil, 30},
		"DNS was not asked for":      {func(r *remains) { r.plan.Mirror.Filter.DNS = false }, events.VerdictTruncated, nil, 30},
		"IPv6 was not asked for":     {func(r *remains) { r.plan.Mirror.Filter.Rules = slices.Delete(r.plan.Mirror.Filter.Rules, 1, 2) }, events.VerdictTruncated, nil, 30},
		"SSH was left out": {func(r *remains) {
			r.plan.Mirror.Filter.Rules = append(r.plan.Mirror.Filter.Rules, events.FilterRule{Number: 1, Direction: events.Ingress, Action: events.Reject, Protocol: 6, SourceCIDR: "0.0.0.0/0", DestinationCIDR: "0.0.0.0/0"})
		}, events.VerdictTruncated, nil, 30},
		"the collector wrote nothing": {func(r *remains) {
			r.closed, r.segments, r.points = false, map[string][]byte{}, nil
		}, events.VerdictIncomplete, []string{"the collector wrote nothing"}, 0},
		"no collector was launched": {func(r *remains) {
			r.launched, r.closed, r.segments, r.points = false, false, map[string][]byte{}, nil
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
			consistent(t, r.s, r.c)
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
	seg := events.Segment{Seq: 1, Key: key, SHA256: Digest(body), Bytes: int64(len(body)), Packets: 5, Confirmed: true}
	chain, err := link(seg)
	if err != nil {
		t.Fatal(err)
	}
	size := uint64(len(body))
	r.reports[events.CollectorManifestKey(r.c, second)] = events.CollectorManifest{Version: events.RecordVersion, Capture: r.c, UserID: second,
		Segments: []events.Segment{seg}, Chain: chain,
		Tally: events.Tally{Received: 6, Written: 5, Sealed: 5, Uploaded: 5, SealedBytes: size, UploadedBytes: size, Rejected: events.Rejected{Malformed: 1}}}
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
	delete(r.segments, r.nth(3))
	r.store()
	first, _ := r.seal()
	r.put(events.CertificateKey(r.c, 9), []byte("a late certificate"))
	second, err := Sealer{Store: r.s, Signer: key, Tool: "another tool"}.Seal(t.Context(), r.c, &events.Failure{Error: "Late", Cause: "late"})
	if err != nil || !reflect.DeepEqual(first, second) {
		t.Errorf("sealed again: %+v, %v; at first %+v", second, err, first)
	}
}

func TestSealRefuses(t *testing.T) {
	if _, err := (Sealer{Store: store()}).Seal(t.Context(), "../x", nil); err == nil {
		t.Error("a capture id that is none is sealed")
	}
	if _, err := (Sealer{Store: store()}).Seal(t.Context(), newCapture(), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a capture without a plan: %v", err)
	}
}

func TestSealNamesTheFailure(t *testing.T) {
	r := orderly(t).store()
	if _, err := r.sealer.Seal(t.Context(), r.c, &events.Failure{Error: "NoCapacity", Cause: "none of them"}); err != nil {
		t.Fatal(err)
	}
	_, m := r.seal()
	if m.Error != "NoCapacity: none of them" {
		t.Errorf("error %q", m.Error)
	}
	if r = orderly(t).store(); true {
		if _, err := r.sealer.Seal(t.Context(), r.c, &events.Failure{}); err != nil {
			t.Fatal(err)
		}
		if _, m := r.seal(); m.Error != "" {
			t.Errorf("no failure gives error %q", m.Error)
		}
	}
}

// TestCustodyChain: each line holds the digest of the one before, so that none can be taken out or put in.
func TestCustodyChain(t *testing.T) {
	r := orderly(t)
	r.reports[events.CertificateKey(r.c, 1)] = events.Certificate{Version: 1, Capture: r.c, Seq: 1, Gone: []events.Resource{{Kind: "session", ID: "tms-1"}}}
	r.store()
	r.seal()
	log, err := r.s.Read(t.Context(), events.CustodyLogKey(r.c))
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSuffix(log, []byte("\n")), []byte("\n"))
	if len(lines) != 5 {
		t.Fatalf("%d lines", len(lines))
	}
	previous, stored := "", time.Time{}
	for i, line := range lines {
		var l events.CustodyLine
		if err := json.Unmarshal(line, &l); err != nil {
			t.Fatal(err)
		}
		body, err := r.s.Read(t.Context(), l.Key)
		if err != nil || Digest(body) != l.SHA256 || l.Previous != previous || l.Stored.Before(stored) || !bytes.Equal(l.Entry, body) {
			t.Errorf("line %d: %+v, %v", i+1, l, err)
		}
		previous, stored = Digest(line), l.Stored
	}
}

// TestActThatIsNoRecord: what lies among the acts and is none is an object with a reason, and keeps nothing from being sealed,
// whenever it came.
func TestActThatIsNoRecord(t *testing.T) {
	for name, body := range map[string]string{
		"no JSON":            "looked at it, all fine",
		"not canonical":      "{\n  \"version\": 1\n}\n",
		"a list":             "[]",
		"another capture's":  `{"capture":"20261122T030405Z-eni-0a1b2c3d","version":1}`,
		"of no version":      `{}`,
		"of another version": `{"version":2}`,
	} {
		for _, late := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, after the log: %t", name, late), func(t *testing.T) {
				r := orderly(t).store()
				if late {
					if _, err := r.s.chainCustody(t.Context(), r.c); err != nil {
						t.Fatal(err)
					}
				}
				keys := []string{events.CustodyKey(r.c, "launch", "launched-i-00000009"), events.CertificateKey(r.c, 1)}
				for _, key := range keys {
					r.put(key, []byte(body))
				}
				_, m := r.seal()
				for _, key := range keys {
					if !slices.ContainsFunc(m.Reasons, func(reason string) bool { return strings.HasPrefix(reason, key+" is no record: ") }) {
						t.Errorf("no reason has %s: %q", key, m.Reasons)
					}
				}
				if len(m.Reasons) != len(keys) || m.Verdict != events.VerdictIncomplete {
					t.Errorf("%s: %q", m.Verdict, m.Reasons)
				}
				consistent(t, r.s, r.c)
			})
		}
	}
}

// TestReports: what a verifier would not read does not get into the manifest.
func TestReports(t *testing.T) {
	for name, row := range map[string]struct{ members, says string }{
		"all is well":                      {`"started":"2026-11-22T03:00:00.123456789Z","wings":{"Tally":2}`, ""},
		"a member that nobody knows":       {`"wings":{"Tally":2,"tally":2}`, ""},
		"a time elsewhere":                 {`"started":"2026-11-22T03:00:00+01:00"`, "not in UTC"},
		"a time within":                    {`"clock":{"end":{"at":"2026-11-22T03:00:00+00:00"}}`, "not in UTC"},
		"a time beyond nanoseconds":        {`"started":"2026-11-22T03:00:00.1234567891Z"`, "not in UTC"},
		"a member in capitals":             {`"Tally":{}`, `"Tally" beside what is called "tally"`},
		"a member in odd letters":          {`"\u017ftarted":"2026-11-22T03:00:00Z"`, "started"},
		"one within a list":                {`"segments":[{"BYTES":1}]`, "bytes"},
		"what is no UTF-8":                 {"\"error\":\"\xff\"", "UTF-8"},
		"a segment of less than nothing":   {`"segments":[{"seq":3,"bytes":-1}]`, "segment 3 has -1 bytes"},
		"a superseded one":                 {`"superseded":[{"seq":3,"bytes":-1}]`, "segment 3 has -1 bytes"},
		"a number beyond all":              {`"wings":9007199254740992`, "2^53-1"},
		"a fraction":                       {`"wings":1.5`, "2^53-1"},
		"more levels than any reader goes": {`"wings":` + strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth), "levels"},
		"as many as may be":                {`"wings":` + strings.Repeat("[", maxDepth-1) + strings.Repeat("]", maxDepth-1), ""},
		"white space":                      {`"wings":  1`, "canonical"},
	} {
		t.Run(name, func(t *testing.T) {
			r := orderly(t)
			r.raw = fmt.Appendf(nil, `{"capture":%q,"userId":%q,"version":1,%s}`, r.c, r.user, row.members)
			if name != "white space" && name != "what is no UTF-8" {
				// In its order; the reader is to find what is wrong before.
				if canonical, err := Canonical(json.RawMessage(r.raw)); err == nil {
					r.raw = canonical
				}
			}
			_, m := r.store().seal()
			refused := slices.IndexFunc(m.Reasons, func(reason string) bool { return strings.Contains(reason, "closing manifest can't be read") })
			if (refused >= 0) != (row.says != "") || m.Collectors[0].Derived != (row.says != "") {
				t.Errorf("derived %t: %q", m.Collectors[0].Derived, m.Reasons)
			}
			if refused >= 0 && !strings.Contains(m.Reasons[refused], row.says) {
				t.Errorf("says %q, not %q", m.Reasons[refused], row.says)
			}
		})
	}
}

// frozen is a bucket in which some objects were put where they can't be read at once.
type frozen struct {
	*s3.Client
	part string
}

func (f frozen) GetObject(ctx context.Context, in *s3.GetObjectInput, o ...func(*s3.Options)) (*s3.GetObjectOutput, error) {
	if strings.Contains(aws.ToString(in.Key), f.part) {
		return nil, &types.InvalidObjectState{}
	}
	return f.Client.GetObject(ctx, in, o...)
}

// TestFrozenReport: a collector that has its reports archived keeps nothing from being sealed.
func TestFrozenReport(t *testing.T) {
	for part, says := range map[string]string{"/checkpoints/000002": "checkpoint 2 can't be read", "i-00000001/manifest.json": "closing manifest can't be read"} {
		r := orderly(t).store()
		r.sealer.API = frozen{client(), part}
		if _, m := r.seal(); !strings.Contains(strings.Join(m.Reasons, "\n"), says) {
			t.Errorf("no reason says %q: %q", says, m.Reasons)
		}
	}
}
