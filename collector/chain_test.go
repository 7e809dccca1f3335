package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	verifier "flashtap/collector/evidence"
	"flashtap/events"
	"flashtap/testutil/packets"
)

// canonicalHere makes the canonical form of a record (RFC 8785) without the library that the collector uses. What a collector
// writes is ASCII, and its numbers are whole.
func canonicalHere(t *testing.T, data []byte) []byte {
	t.Helper()
	var v any
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}

// linkOf is what the record after this one in the chain names it by (docs/evidence.md, section 3).
func linkOf(t *testing.T, seg events.Segment) string {
	t.Helper()
	seg.Confirmed = false
	data, err := json.Marshal(seg)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(canonicalHere(t, data))
	return hex.EncodeToString(sum[:])
}

// checkpoints reads the checkpoints in the bucket, and checks all that they say of themselves and of each other. records are
// those of the chain that they tell.
func (r *rig) checkpoints() (checkpoints []events.Checkpoint, records []events.Segment) {
	r.t.Helper()
	previous, last := "", ""
	for i, file := range r.checkpointFiles() {
		var c events.Checkpoint
		r.readJSON(file, &c)
		digest := r.digest(file)
		if data, err := os.ReadFile(file); err != nil || !bytes.Equal(data, canonicalHere(r.t, data)) {
			r.t.Errorf("checkpoint %d is not in its canonical form: %s, %v", i+1, data, err)
		}
		if c.Seq != i+1 || c.Previous != previous || c.Capture != r.cfg.Capture || c.UserID != r.userID() || !c.Tally.Balanced() {
			r.t.Errorf("checkpoint %d: %+v (previous %s)", i+1, c, previous)
		}
		if want := events.CheckpointKey(c.Capture, c.UserID, c.Seq, digest); r.path(want) != file {
			r.t.Errorf("checkpoint %d: its digest is %s, its key %s", c.Seq, digest, filepath.Base(file))
		}
		for _, seg := range c.Records {
			if seg.Previous != last || seg.Confirmed || seg.Key != events.SegmentKey(c.Capture, c.UserID, seg.Seq, seg.SHA256) {
				r.t.Errorf("checkpoint %d: record %+v does not follow %s", c.Seq, seg, last)
			}
			last = linkOf(r.t, seg)
		}
		records = append(records, c.Records...)
		numbers := map[int]bool{}
		for _, seg := range records {
			numbers[seg.Seq] = true
		}
		if c.Chain != last || c.Segments != len(numbers) {
			r.t.Errorf("checkpoint %d: %d segments, and the chain ends in %s; the records so far are of %d, and end in %s", c.Seq, c.Segments, c.Chain, len(numbers), last)
		}
		if c.Seq == 1 && !stands(c.Clock) {
			r.t.Errorf("the first checkpoint does not say how the clock stood: %+v", c.Clock)
		}
		if i > 0 {
			r.rises(checkpoints[i-1], c)
		}
		previous = digest
		checkpoints = append(checkpoints, c)
	}
	return checkpoints, records
}

// rises checks that no counter falls from one checkpoint to the next, but for the bytes of segments that were cut.
func (r *rig) rises(before, after events.Checkpoint) {
	r.t.Helper()
	was, is := reflect.ValueOf(before.Tally), reflect.ValueOf(after.Tally)
	for i := range was.NumField() {
		name := was.Type().Field(i).Name
		if name == "SealedBytes" && before.Tally.Reduced < after.Tally.Reduced || name == "Rejected" {
			continue
		}
		if is.Field(i).Uint() < was.Field(i).Uint() {
			r.t.Errorf("checkpoint %d: %s falls from %v to %v", after.Seq, name, was.Field(i), is.Field(i))
		}
	}
	if after.Tally.Rejected.Total() < before.Tally.Rejected.Total() || !after.At.After(before.At) {
		r.t.Errorf("checkpoint %d: %+v after %+v", after.Seq, after, before)
	}
}

// stands says whether a clock is one that was asked just now.
func stands(c *events.Clock) bool {
	return c != nil && time.Since(c.At) < time.Hour && c.Source != "" && c.Leap != "" && (c.Synchronized || c.Leap == events.LeapUnknown)
}

// holds checks that what a collector which was killed has left in the bucket verifies up to its last checkpoint: the
// chain, every segment that a record names, and of every other that its name is its digest. checked are files that need
// not be read again.
func (r *rig) holds(checked map[string]bool) (checkpoints, segments int) {
	r.t.Helper()
	all, records := r.checkpoints()
	named := map[string]events.Segment{}
	for _, seg := range records {
		named[r.path(seg.Key)] = seg
	}
	files, err := filepath.Glob(filepath.Join(r.path(events.CollectorPrefix(r.cfg.Capture, r.userID())), "segments", "*.pcap"))
	if err != nil {
		r.t.Fatal(err)
	}
	present, stored := 0, uint64(0)
	for _, file := range files {
		seg, known := named[file]
		if known {
			present++
			stored += seg.Packets
		}
		if id := file + linkOf(r.t, seg); !checked[id] {
			checked[id] = true
			if digest := r.digest(file); !strings.HasSuffix(file, "-"+digest+".pcap") {
				r.t.Errorf("%s has the digest %s", file, digest)
			}
			if known {
				r.describes(seg)
			}
		}
	}
	if len(all) == 0 {
		return 0, present
	}
	r.verifies(all[len(all)-1])
	if c := all[len(all)-1]; present < c.Segments-c.Pending || stored < c.Tally.Uploaded {
		r.t.Errorf("of what the last checkpoint knows, %d segments with %d packets are in the bucket; it says %+v", present, stored, c)
	}
	return len(all), present
}

// verifies has the verifier look at what is in the bucket now. Nobody has sealed it, so it holds up to the last checkpoint.
func (r *rig) verifies(last events.Checkpoint) {
	r.t.Helper()
	folder, err := verifier.OpenFolder(r.path(events.CapturePrefix(r.cfg.Capture)))
	if err != nil {
		r.t.Fatal(err)
	}
	defer folder.Close()
	report, err := verifier.Verify(r.t.Context(), folder, verifier.Options{Capture: r.cfg.Capture})
	if want := "incomplete from " + last.At.UTC().Format(time.RFC3339Nano); err != nil || report.Outcome != verifier.Unsealed || report.Verdict != want {
		r.t.Errorf("the verifier says %s, %q, %v; want %q: %v", report.Outcome, report.Verdict, err, want, report.Discrepancies)
	}
}

// describes compares a record with the segment in the bucket.
func (r *rig) describes(seg events.Segment) {
	r.t.Helper()
	file := r.path(seg.Key)
	info, err := os.Stat(file)
	if err != nil || info.Size() != seg.Bytes || r.digest(file) != seg.SHA256 {
		r.t.Errorf("segment %d is not what its record says (%v): %+v", seg.Seq, err, seg)
		return
	}
	frames, err := packets.ReadFile(file)
	if err != nil || len(frames) == 0 {
		r.t.Errorf("segment %d cannot be read: %v", seg.Seq, err)
		return
	}
	truncated, backwards := uint64(0), time.Duration(0)
	for i, f := range frames {
		if len(f.Data) < f.OrigLen {
			truncated++
		}
		if i > 0 {
			backwards = max(backwards, frames[i-1].At.Sub(f.At))
		}
	}
	if backwards <= events.OrderTolerance {
		backwards = 0
	}
	if uint64(len(frames)) != seg.Packets || truncated != seg.Truncated || int64(backwards) != seg.BackwardsNs ||
		!frames[0].At.Equal(seg.First) || !frames[len(frames)-1].At.Equal(seg.Last) {
		r.t.Errorf("segment %d holds %d packets, %d truncated, %v backwards; its record says %+v", seg.Seq, len(frames), truncated, backwards, seg)
	}
}

// concludes compares a manifest with the chain that the checkpoints before it have told.
func (r *rig) concludes(m events.CollectorManifest, told []events.Segment) {
	r.t.Helper()
	latest, want := map[int]events.Segment{}, []events.Segment{}
	for _, seg := range told {
		if was, ok := latest[seg.Seq]; ok {
			want = append(want, was)
		}
		if was := latest[seg.Seq]; seg.Replaces != was.SHA256 {
			r.t.Errorf("%+v takes the place of %+v", seg, was)
		}
		latest[seg.Seq] = seg
	}
	if !slices.Equal(m.Superseded, want) {
		r.t.Errorf("superseded are\n%+v, want\n%+v", m.Superseded, want)
	}
	if len(m.Segments) != len(latest) {
		r.t.Errorf("%d segments, and records of %d", len(m.Segments), len(latest))
	}
	for _, seg := range m.Segments {
		seg.Confirmed = false
		if seg != latest[seg.Seq] {
			r.t.Errorf("segment %d is\n%+v, its last record\n%+v", seg.Seq, seg, latest[seg.Seq])
		}
	}
	end := ""
	if len(told) > 0 {
		end = linkOf(r.t, told[len(told)-1])
	}
	if m.Chain != end {
		r.t.Errorf("the manifest's chain ends in %s, that of the checkpoints in %s", m.Chain, end)
	}
	if m.Clock == nil || !stands(m.Clock.Start) || !stands(m.Clock.End) || m.Clock.End.At.Before(m.Clock.Start.At) {
		r.t.Errorf("the manifest says of the clock %+v", m.Clock)
	}
	if m.InstanceID != r.instance || !strings.HasSuffix(m.Build, "sha256 "+r.digest(program)) {
		r.t.Errorf("the manifest is of instance %q and program %q", m.InstanceID, m.Build)
	}
}

func TestBuild(t *testing.T) {
	got, err := build()
	if err != nil || !regexp.MustCompile(`^(revision [0-9a-f]{40}( with changes)?, )?sha256 [0-9a-f]{64}$`).MatchString(got) {
		t.Errorf("%q, %v", got, err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(data); !strings.HasSuffix(got, hex.EncodeToString(sum[:])) {
		t.Errorf("%q is not the digest of this program", got)
	}
}
