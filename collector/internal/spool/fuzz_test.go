package spool

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"flashtap/collector/segment"
	"flashtap/events"
	"flashtap/testutil/packets"
)

// recording is the same segment in every process, so that what a corpus says of it holds.
func recording(t testing.TB, seq int) segment.File {
	t.Helper()
	from, to := packets.NewHost("10.0.0.1").On(40000), packets.NewHost("203.0.113.7").On(443)
	var file segment.File
	w := segment.NewWriter(segment.Config{
		Dir: t.TempDir(), First: seq, MaxBytes: 1 << 20, MaxAge: time.Hour, Buffers: 2, Sealed: func(f segment.File) { file = f },
	})
	for i := range 3 {
		frame := packets.UDP(from, to, slices.Repeat([]byte{byte(seq)}, 60))
		w.Write(time.Date(2026, 11, 22, 3, seq, i, 0, time.UTC).UnixNano(), frame, len(frame)+i%2)
	}
	w.Close()
	if err := w.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	return file
}

// files is what a crash has left in a spool: segments 1 and 2 sealed, of 2 a copy that is cut to its headers, and 3
// open. Those that are empty are not there.
type files struct{ journal, first, second, cut, open []byte }

// scene knows under which names the files lie.
type scene struct{ first, second, cut string }

// newScene also returns the records of the segments.
func newScene(t testing.TB) (scene, files, []events.Segment) {
	t.Helper()
	read := func(path string) []byte {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	first, second, third := recording(t, 1), recording(t, 2), recording(t, 3)
	whole := files{first: read(first.Path), second: read(second.Path), open: read(third.Path)}
	cut, _, err := segment.Reduce(second.Path)
	if err != nil {
		t.Fatal(err)
	}
	whole.cut = read(filepath.Join(filepath.Dir(second.Path), segment.ReducingName(2)))
	at := time.Date(2026, 11, 22, 4, 0, 0, 0, time.UTC)
	is := func(f segment.File) events.Segment {
		return events.Segment{
			Seq: f.Seq, Key: events.SegmentKey(capture, userID, f.Seq, f.SHA256), SHA256: f.SHA256,
			Bytes: f.Bytes, Packets: f.Packets, Truncated: f.Truncated, First: f.First, Last: f.Last,
		}
	}
	one, two, twoCut := is(first), is(second), is(cut)
	twoCut.Reduced = 3
	for _, e := range []entry{
		{Begin: &beginning{Version: events.RecordVersion, Capture: capture, UserID: userID}},
		{Sealed: &one}, {Tried: one.Key}, {Sealed: &two},
		{Checkpoint: &checkpointRecord{Seq: 1, SHA256: digestOf(nil), Tally: events.Tally{Received: 9, Written: 6, WrittenBytes: 612, Truncated: 2, Rejected: events.Rejected{Malformed: 3}}}},
		{Confirmed: &confirmation{Key: events.CheckpointKey(capture, userID, 1, digestOf(nil)), SHA256: digestOf(nil)}},
		{Remark: "it rains"}, {Reduced: &replacement{Was: two, Is: twoCut}},
	} {
		e.At = at
		if whole.journal, err = appendLine(whole.journal, e); err != nil {
			t.Fatal(err)
		}
	}
	names := scene{segment.SealedName(1, first.SHA256), segment.SealedName(2, second.SHA256), segment.SealedName(2, cut.SHA256)}
	return names, whole, []events.Segment{one, two, twoCut}
}

// summed gives every line the checksum that it should have, so that what stands in it is believed.
func summed(journal []byte) []byte {
	var out []byte
	for line := range bytes.Lines(journal) {
		if text := bytes.TrimSuffix(line, []byte("\n")); len(text) > sumLen {
			out = sumLine(out, text[:len(text)-sumLen])
			continue
		}
		out = append(out, line...)
	}
	return out
}

// readable are the sealed segments that can be read in a folder and those below it, by digest.
func readable(t *testing.T, dir string) map[string]segment.File {
	t.Helper()
	found := map[string]segment.File{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if f, err := segment.Inspect(path); err == nil {
			found[f.SHA256] = f
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// Whatever is on the disk, opening a spool neither fails nor panics, unless it belongs to another collector; it makes
// no packets of a readable segment unreadable, gives nothing out to be sent whose bytes have another digest, and finds
// the same when it is opened again.
func FuzzOpen(f *testing.F) {
	names, whole, anew := newScene(f)
	lines := slices.Collect(bytes.Lines(whole.journal))
	add := func(x files, named, sums bool) { f.Add(x.journal, x.first, x.second, x.cut, x.open, named, sums) }
	for n := range len(lines) {
		x := whole
		x.journal = bytes.Join(lines[:n], nil)
		add(x, n%2 == 0, false)
		x.journal = bytes.Join(slices.Delete(slices.Clone(lines), n, n+1), nil)
		add(x, n%2 == 1, true)
	}
	add(whole, false, false)
	add(whole, true, true)
	for _, sums := range []bool{false, true} { // damaged, and mended or not
		x := whole
		for _, e := range []entry{{Damaged: &damage{Kept: "damaged/journal.jsonl", Stretches: 1, Bytes: 70, Segments: 4, Checkpoints: 3}}, {Anew: anew}, {Mended: true}} {
			e.At = time.Date(2026, 11, 22, 5, 0, 0, 0, time.UTC)
			var err error
			if x.journal, err = appendLine(x.journal, e); err != nil {
				f.Fatal(err)
			}
			add(x, false, sums)
		}
	}
	add(files{}, false, false)
	add(files{journal: whole.journal}, false, false)
	add(files{journal: make([]byte, 100), first: whole.first, cut: whole.cut}, true, false)
	f.Fuzz(func(t *testing.T, journal, first, second, cut, open []byte, named, sums bool) {
		if sums {
			journal = summed(journal)
		}
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, segmentsDir), 0o700); err != nil {
			t.Fatal(err)
		}
		copied := segment.ReducingName(2)
		if named {
			copied = names.cut
		}
		for name, data := range map[string][]byte{
			journalFile: journal, filepath.Join(segmentsDir, names.first): first, filepath.Join(segmentsDir, names.second): second,
			filepath.Join(segmentsDir, copied): cut, filepath.Join(segmentsDir, segment.OpenName(3)): open,
		} {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
			if len(data) == 0 && name != journalFile {
				if err := os.Remove(filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
		}
		before := readable(t, dir)
		s, err := Open(dir, capture, userID, 1<<20)
		if err != nil {
			if !errors.Is(err, errForeign) {
				t.Fatal(err)
			}
			if got := readable(t, dir); len(got) != len(before) {
				t.Fatalf("of %d segments of somebody else, %d are left", len(before), len(got))
			}
			return
		}
		defer func() { crash(t, s) }()
		checkOpened(t, s, dir, before, sums)
		segments, anew := s.Segments(), slices.Contains(s.Remarks(), chainAnew)
		if anew && !sums {
			isChain(t, s)
		}
		crash(t, s)
		if s, err = Open(dir, capture, userID, 1<<20); err != nil {
			t.Fatal(err)
		}
		if got := s.Segments(); !slices.Equal(got, segments) {
			t.Fatalf("opened again: segments\n%+v, not\n%+v", got, segments)
		}
		if anew && !sums {
			isChain(t, s)
		}
		for _, o := range s.Waiting() {
			claimed, err := s.Claim(o)
			if errors.Is(err, ErrNotHeld) {
				continue
			}
			data, read := os.ReadFile(claimed.Path)
			if err := errors.Join(err, read); err != nil || digestOf(data) != claimed.SHA256 {
				t.Fatalf("%s is sent with other bytes: %v", claimed.Key, err)
			}
		}
	})
}

func checkOpened(t *testing.T, s *Spool, dir string, before map[string]segment.File, believed bool) {
	t.Helper()
	var used int64
	for _, o := range s.Waiting() {
		if o.Kind == Segment {
			used += o.Bytes
		}
	}
	if s.limit-s.Room() != used {
		t.Fatalf("%d bytes wait, room is %d of %d", used, s.Room(), s.limit)
	}
	if r := s.Resumed(); r != nil && !believed && !r.Tally.Balanced() {
		t.Fatalf("resumed with %+v", r.Tally)
	}
	confirmed := map[string]bool{}
	for _, seg := range s.Segments() {
		if seg.Confirmed {
			confirmed[seg.SHA256] = true
		}
	}
	after := readable(t, dir)
	for digest, f := range before {
		if _, ok := after[digest]; ok || confirmed[digest] {
			continue
		}
		samePackets := func(digest string, g segment.File) bool {
			return g.Seq == f.Seq && g.Packets == f.Packets && g.First.Equal(f.First) && g.Last.Equal(f.Last)
		}
		same := false
		for digest, g := range after {
			same = same || samePackets(digest, g)
		}
		if !same && !believed {
			t.Fatalf("segment %d with %d packets is gone", f.Seq, f.Packets)
		}
	}
}
