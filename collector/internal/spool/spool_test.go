package spool

import (
	"context"
	"encoding/json"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"flashtap/collector/segment"
	"flashtap/events"
)

const (
	capture = events.CaptureID("20261122T030405Z-eni-0a1b2c3d4e5f60718")
	userID  = "AROAEXAMPLEID:i-0a1b2c3d4e5f60718"
)

func open(t *testing.T, dir string) *Spool {
	t.Helper()
	s, err := Open(dir, capture, userID, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// crash ends a spool as the death of its process would: nothing is written any more.
func crash(t *testing.T, s *Spool) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// seal writes a segment of n packets of 100 bytes and seals it; the spool does not know yet.
func seal(t *testing.T, s *Spool, seq, n int) segment.File {
	t.Helper()
	return sealFrames(t, s, seq, slices.Repeat([][]byte{make([]byte, 100)}, n))
}

// sealFrames does the same for some frames, of which every other was longer on the wire.
func sealFrames(t *testing.T, s *Spool, seq int, frames [][]byte) segment.File {
	t.Helper()
	var file segment.File
	w := segment.NewWriter(segment.Config{
		Dir: s.SegmentDir(), First: seq, MaxBytes: 1 << 20, MaxAge: time.Hour, Buffers: 2, Sealed: func(f segment.File) { file = f },
	})
	for i, frame := range frames {
		w.Write(time.Now().UnixNano(), frame, len(frame)+i%2)
	}
	w.Close()
	if err := w.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	return file
}

func add(t *testing.T, s *Spool, f segment.File) Object {
	t.Helper()
	o, err := s.Add(f)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func checkpoint(t *testing.T, s *Spool, tally events.Tally) (Object, events.Checkpoint) {
	t.Helper()
	o, err := s.Checkpoint(Progress{State: events.CollectorCapturing, Tally: s.Totals().Fill(tally)})
	if err != nil {
		t.Fatal(err)
	}
	var c events.Checkpoint
	if err := json.Unmarshal(o.Data, &c); err != nil {
		t.Fatal(err)
	}
	return o, c
}

func keys(objects []Object) (names []string) {
	for _, o := range objects {
		names = append(names, strings.TrimPrefix(o.Key, events.CollectorPrefix(capture, userID)))
	}
	return names
}

func TestConfirmedObjectsLeaveTheDisk(t *testing.T) {
	s := open(t, t.TempDir())
	defer s.Close()
	if s.Resumed() != nil || s.NextSegment() != 1 || s.Room() != 1<<20 {
		t.Errorf("a new spool: resumed %+v, next %d, room %d", s.Resumed(), s.NextSegment(), s.Room())
	}
	first, second := add(t, s, seal(t, s, 1, 10)), add(t, s, seal(t, s, 2, 20))
	report, _ := checkpoint(t, s, events.Tally{Received: 30, Written: 30})
	manifest, err := s.Conclude(events.CollectorManifest{StopReason: events.StopDeadline})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := keys(s.Waiting()), []string{
		"segments/000001-" + first.SHA256 + ".pcap", "segments/000002-" + second.SHA256 + ".pcap",
		"checkpoints/000001-" + report.SHA256 + ".json", "manifest.json",
	}; !slices.Equal(got, want) {
		t.Errorf("waiting: %v, want %v", got, want)
	}
	if used := 1<<20 - s.Room(); used != first.Bytes+second.Bytes {
		t.Errorf("%d bytes used, want %d", used, first.Bytes+second.Bytes)
	}
	for _, o := range []Object{second, manifest, report} {
		if _, err := os.Stat(o.Path); err != nil {
			t.Errorf("%s is not on disk before it is confirmed", o.Key)
		}
		if err := s.Confirm(o); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(o.Path); err == nil {
			t.Errorf("%s is on disk after it is confirmed", o.Key)
		}
	}
	if err := s.Confirm(second); err == nil {
		t.Error("confirmed twice")
	}
	if got := s.Segments(); len(got) != 2 || got[0].Confirmed || !got[1].Confirmed || got[0].Key != first.Key {
		t.Errorf("segments %+v", got)
	}
	if tally := s.Totals().Fill(events.Tally{}); tally.Sealed != 30 || tally.Uploaded != 20 ||
		tally.SealedBytes != uint64(first.Bytes+second.Bytes) || tally.UploadedBytes != uint64(second.Bytes) {
		t.Errorf("tally %+v", tally)
	}
}

func TestCheckpointsAreChained(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	first, c := checkpoint(t, s, events.Tally{})
	if c.Seq != 1 || c.Previous != "" || c.Capture != capture || c.UserID != userID || c.State != events.CollectorCapturing {
		t.Errorf("first checkpoint %+v", c)
	}
	add(t, s, seal(t, s, 1, 10))
	second, c := checkpoint(t, s, events.Tally{Received: 10, Written: 10})
	if c.Seq != 2 || c.Previous != first.SHA256 || c.Segments != 1 || c.Pending != 1 {
		t.Errorf("second checkpoint %+v", c)
	}
	crash(t, s)
	s = open(t, dir)
	defer s.Close()
	_, c = checkpoint(t, s, s.Resumed().Tally)
	if c.Seq != 3 || c.Previous != second.SHA256 {
		t.Errorf("checkpoint after a restart %+v", c)
	}
	if got := keys(s.Waiting()); len(got) != 4 {
		t.Errorf("waiting: %v", got)
	}
	for _, o := range s.Waiting() {
		if o.Kind == Checkpoint && digestOf(o.Data) != o.SHA256 {
			t.Errorf("%s has other bytes after a restart", o.Key)
		}
	}
}

func TestRestartFindsEverything(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	confirmed, waits := add(t, s, seal(t, s, 1, 10)), add(t, s, seal(t, s, 2, 20))
	// Of the 45 that the checkpoint counts, 15 were still in the machine's memory when it went down.
	before := events.Tally{Received: 58, Written: 45, Unwritten: 3, SocketDropped: 4, Rejected: events.Rejected{ForeignVNI: 10}}
	checkpoint(t, s, before)
	kept, err := os.ReadFile(confirmed.Path)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Confirm(confirmed); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(confirmed.Path, kept, 0o600); err != nil { // the crash came before it was removed
		t.Fatal(err)
	}
	unknown := seal(t, s, 3, 5) // the crash came before it was noted
	half, err := os.ReadFile(seal(t, s, 4, 6).Path)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		segment.OpenName(5):                             half[:len(half)-50], // 5 whole records
		segment.OpenName(6):                             half[:24],
		segment.OpenName(7):                             []byte("something else entirely, long enough for a header"),
		segment.SealedName(8, strings.Repeat("00", 32)): half,
	} {
		if err := os.WriteFile(filepath.Join(s.SegmentDir(), name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	stray := filepath.Join(dir, checkpointsDir, "000002-"+strings.Repeat("0", 64)+".json")
	if err := os.WriteFile(stray, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(s.SegmentDir(), segment.SealedName(4, digestOf(half)))); err != nil {
		t.Fatal(err)
	}
	crash(t, s)

	s = open(t, dir)
	defer s.Close()
	var got []string
	for _, seg := range s.Segments() {
		state := ""
		if seg.Recovered {
			state = " recovered"
		}
		if seg.Confirmed {
			state = " confirmed"
		}
		got = append(got, string(rune('0'+seg.Seq))+state)
	}
	if want := []string{"1 confirmed", "2", "3", "5 recovered"}; !slices.Equal(got, want) {
		t.Errorf("segments %q, want %q", got, want)
	}
	if s.NextSegment() != 6 {
		t.Errorf("the next segment is %d, want 6", s.NextSegment())
	}
	for _, path := range []string{confirmed.Path, stray} {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s is still there", path)
		}
	}
	for _, path := range []string{waits.Path, unknown.Path, filepath.Join(dir, damagedDir, "000007.pcap.open")} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
	want := events.Tally{
		Received: 40 + 3 + 5 + 10, Written: 40, WrittenBytes: 4000, Truncated: 5 + 10 + 2 + 2, Unwritten: 3 + 5,
		SocketDropped: 4, Rejected: events.Rejected{ForeignVNI: 10}, Sealed: 40, Uploaded: 10,
		SealedBytes: 4*24 + 40*116, UploadedBytes: uint64(confirmed.Bytes),
	}
	if r := s.Resumed(); r.Tally != want || !r.Tally.Balanced() || r.Stop != "" {
		t.Errorf("resumed with\n%+v, want\n%+v", r.Tally, want)
	}
	remarks := strings.Join(s.Remarks(), "\n")
	for _, part := range []string{"crash: ", "segment 5: the last 66 bytes", "000007.pcap.open could not be read", "000008-", "5 frames that a checkpoint"} {
		if !strings.Contains(remarks, part) {
			t.Errorf("no remark says %q:\n%s", part, remarks)
		}
	}
}

func TestRestartAfterTheEnd(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	o := add(t, s, seal(t, s, 1, 10))
	if _, err := s.Claim(o); err != nil {
		t.Fatal(err)
	}
	untried := add(t, s, seal(t, s, 2, 10))
	if err := s.Stop(events.StopAsked); err != nil {
		t.Fatal(err)
	}
	manifest, err := s.Conclude(events.CollectorManifest{StopReason: events.StopAsked})
	if err != nil {
		t.Fatal(err)
	}
	crash(t, s)
	s = open(t, dir)
	if s.Resumed().Stop != events.StopAsked || s.Concluded() != manifest.SHA256 || len(s.Remarks()) != 0 {
		t.Errorf("resumed %+v, manifest %q, remarks %q", s.Resumed(), s.Concluded(), s.Remarks())
	}
	if got := s.Waiting(); len(got) != 3 || !got[0].Tried || got[1].Tried || !got[2].Tried || string(got[2].Data) != string(manifest.Data) {
		t.Errorf("waiting %+v", got)
	}
	for _, o := range []Object{o, untried, manifest} {
		if err := s.Confirm(o); err != nil {
			t.Error(err)
		}
	}
	crash(t, s)
	s = open(t, dir)
	defer s.Close()
	if got := s.Waiting(); len(got) != 0 {
		t.Errorf("confirmed, and yet waiting: %v", keys(got))
	}
}

func TestMissingSegmentIsNotTakenForConfirmed(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	o := add(t, s, seal(t, s, 1, 10))
	if err := os.Remove(o.Path); err != nil {
		t.Fatal(err)
	}
	crash(t, s)
	s = open(t, dir)
	defer s.Close()
	if got := s.Segments(); len(got) != 1 || got[0].Confirmed || len(s.Waiting()) != 0 {
		t.Errorf("segments %+v, waiting %v", got, keys(s.Waiting()))
	}
	if remarks := strings.Join(s.Remarks(), "\n"); !strings.Contains(remarks, "segment 1 was not on disk") {
		t.Errorf("remarks: %s", remarks)
	}
}

func TestSpoolOfSomebodyElse(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if _, err := Open(dir, capture, userID, 1<<20); err == nil || !strings.Contains(err.Error(), "another collector") {
		t.Errorf("two collectors on one spool: %v", err)
	}
	seal(t, s, 1, 1)
	crash(t, s)
	other := events.CaptureID("20261122T030405Z-eni-0a1b2c3d4e5f60719")
	if _, err := Open(dir, other, userID, 1<<20); err == nil || !strings.Contains(err.Error(), string(capture)) {
		t.Errorf("the spool of another capture: %v", err)
	}
	if _, err := Open(dir, capture, "AROAOTHER:i-0a1b2c3d4e5f60718", 1<<20); err == nil {
		t.Error("the spool of another collector was opened")
	}
	if err := os.Remove(filepath.Join(dir, journalFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, capture, userID, 1<<20); err == nil {
		t.Error("segments without a journal were taken for this capture's")
	}
}

// Wherever a crash cuts the journal, no sealed segment is lost, none is taken for confirmed that is not, and the
// tally balances.
func TestJournalCutAnywhere(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	checkpoint(t, s, events.Tally{})
	first := add(t, s, seal(t, s, 1, 10))
	add(t, s, seal(t, s, 2, 20))
	checkpoint(t, s, events.Tally{Received: 37, Written: 30, Rejected: events.Rejected{Malformed: 7}})
	if err := s.Stop(events.StopAsked); err != nil {
		t.Fatal(err)
	}
	crash(t, s)
	whole, err := os.ReadFile(filepath.Join(dir, journalFile))
	if err != nil {
		t.Fatal(err)
	}
	begin := strings.IndexByte(string(whole), '\n') + 1
	for cut := begin; cut <= len(whole); cut += 7 {
		again := t.TempDir()
		if err := os.CopyFS(again, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(again, journalFile), whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, again)
		tally := s.Resumed().Tally
		if got := s.Segments(); len(got) != 2 || got[0].Key != first.Key || tally.Written != 30 || tally.Uploaded != 0 || !tally.Balanced() {
			t.Fatalf("cut at %d: %d segments, tally %+v", cut, len(got), tally)
		}
		if n := strings.Count(strings.Join(keys(s.Waiting()), " "), "segments/"); n != 2 {
			t.Fatalf("cut at %d: %d segments wait", cut, n)
		}
		checkpoint(t, s, tally) // the journal can be continued behind the cut
		crash(t, s)
		s = open(t, again)
		if s.NextSegment() != 3 {
			t.Fatalf("cut at %d: the journal cannot be read after it was continued", cut)
		}
		crash(t, s)
	}
}

// A full disk refuses the journal; what it refused is noted as soon as there is room.
func TestJournalOnAFullDisk(t *testing.T) {
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	dir := t.TempDir()
	s := open(t, dir)
	first, second := seal(t, s, 1, 10), seal(t, s, 2, 20)
	o := add(t, s, first)

	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: uint64(s.journal.good) + 10, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	_, sealed := s.Add(second)
	report, told := s.Checkpoint(Progress{State: events.CollectorCapturing})
	confirmed := s.Confirm(o)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	if sealed == nil || told == nil || confirmed == nil {
		t.Fatalf("a full disk was not noticed: %v, %v, %v", sealed, told, confirmed)
	}
	if got := keys(s.Waiting()); len(got) != 2 || len(report.Data) == 0 {
		t.Errorf("waiting %v; what the disk refuses is shipped all the same", got)
	}
	if _, err := os.Stat(o.Path); err == nil {
		t.Error("a confirmed segment stays on a full disk")
	}
	if err := s.Remark("there is room again"); err != nil {
		t.Fatal(err)
	}
	crash(t, s)
	s = open(t, dir)
	defer s.Close()
	if got := s.Segments(); len(got) != 2 || !got[0].Confirmed || got[1].Confirmed {
		t.Errorf("segments %+v", got)
	}
	if got := s.Remarks(); got[0] != "there is room again" {
		t.Errorf("remarks %q", got)
	}
}
