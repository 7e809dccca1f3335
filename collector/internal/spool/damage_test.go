package spool

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"flashtap/collector/segment"
	"flashtap/events"
)

// eventful is the folder of a spool to which everything has happened: segment 1 is confirmed, 2 was sent, 3 cut, 4 cut
// and confirmed, and 5 whole; checkpoint 1 is confirmed and 2 not; capturing was stopped and perhaps the last word said.
// It was resumed once.
func eventful(t *testing.T, concluded bool) (dir string, sealed []events.Segment) {
	t.Helper()
	dir = t.TempDir()
	s := openFor(t, dir, 4)
	if err := s.Begin(events.Clock{At: now(), Source: "kernel", Leap: events.LeapNone}); err != nil {
		t.Fatal(err)
	}
	first, second := traffic(t, s, 1), traffic(t, s, 2)
	report, _ := checkpoint(t, s, events.Tally{Received: 20, Written: 20, WrittenBytes: 20_000, Truncated: 10})
	for _, o := range []Object{first, second} {
		if _, err := s.Claim(o); err != nil {
			t.Fatal(err)
		}
	}
	for _, o := range []Object{first, report} {
		if err := s.Confirm(o); err != nil {
			t.Fatal(err)
		}
	}
	crash(t, s)
	s = openFor(t, dir, 4)
	traffic(t, s, 3)
	fourth := traffic(t, s, 4)
	s.limit = 1
	relieve(t, s)
	s.limit = 4 * wholeLen
	fourth, err := s.Claim(fourth)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Confirm(fourth); err != nil {
		t.Fatal(err)
	}
	traffic(t, s, 5)
	checkpoint(t, s, events.Tally{Received: 53, Written: 50, WrittenBytes: 50_000, Truncated: 25, Rejected: events.Rejected{Malformed: 3}})
	if err := s.Stop(events.StopAsked); err != nil {
		t.Fatal(err)
	}
	if concluded {
		if _, err := s.Conclude(events.CollectorManifest{StopReason: events.StopAsked}); err != nil {
			t.Fatal(err)
		}
	}
	if got := state(s); got != "whole, confirmed | whole | cut | cut, confirmed | whole" {
		t.Fatalf("segments %s", got)
	}
	sealed = s.Segments()
	crash(t, s)
	return dir, sealed
}

func readLines(t *testing.T, dir string) [][]byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, journalFile))
	if err != nil {
		t.Fatal(err)
	}
	return slices.Collect(bytes.Lines(data))
}

func writeJournal(t *testing.T, dir string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, journalFile), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func copyOf(t *testing.T, dir string) string {
	t.Helper()
	copied := filepath.Join(t.TempDir(), "spool")
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return copied
}

// Whichever line of the journal is damaged, every segment is there afterwards, once and with what is known of it; none
// is taken for confirmed that is not, and the damaged journal is kept. The chain begins anew, unless the last word is
// said: that has one already.
func TestEveryLineOfTheJournalDamaged(t *testing.T) {
	damages := map[string]func(line []byte) []byte{
		"a flipped bit": func(line []byte) []byte { line[len(line)/2] ^= 4; return line },
		"zeros":         func(line []byte) []byte { return make([]byte, len(line)) },
		"no end":        func(line []byte) []byte { return line[:len(line)-1] },
	}
	for _, concluded := range []bool{true, false} {
		dir, sealed := eventful(t, concluded)
		lines := readLines(t, dir)
		for i, line := range lines {
			lost, err := parseLine(line)
			if err != nil {
				t.Fatal(err)
			}
			for what, damage := range damages {
				if what == "no end" && i == len(lines)-1 {
					continue // which is what a crash leaves
				}
				damaged := slices.Clone(lines)
				damaged[i] = damage(bytes.Clone(line))
				t.Run(fmt.Sprintf("%s in line %d %.12s, concluded %t", what, i+1, line[40:], concluded), func(t *testing.T) {
					gone := lost
					if what == "no end" {
						gone = entry{} // but a line break
					}
					damagedJournal(t, copyOf(t, dir), bytes.Join(damaged, nil), sealed, gone, concluded)
				})
			}
		}
	}
}

// damagedJournal opens a spool whose journal has lost an entry.
func damagedJournal(t *testing.T, dir string, journal []byte, sealed []events.Segment, lost entry, concluded bool) {
	writeJournal(t, dir, journal)
	s := openFor(t, dir, 4)
	kept, err := os.ReadFile(filepath.Join(dir, damagedDir, journalFile))
	if err != nil || !bytes.Equal(kept, journal) {
		t.Errorf("the damaged journal is not kept: %v", err)
	}
	intact(t, s)
	nothingIsLost(t, s, sealed, lost)
	if (s.Concluded() != "") != concluded {
		t.Errorf("manifest %q", s.Concluded())
	}
	segments, remarks := s.Segments(), strings.Join(s.Remarks(), "\n")
	if !strings.Contains(remarks, "journal was damaged") || strings.Contains(remarks, "chain of segment records begins anew") == concluded {
		t.Errorf("remarks: %q", remarks)
	}
	crash(t, s)

	s = openFor(t, dir, 4) // which is no longer damaged
	intact(t, s)
	if got := s.Segments(); !slices.Equal(got, segments) {
		t.Errorf("after a second restart: segments\n%+v, not\n%+v", got, segments)
	}
	for _, o := range s.Waiting() {
		if !o.Tried {
			t.Errorf("%s %d may have been sent before, for all that is known", o.Kind, o.Seq)
		}
	}
	_, c := checkpoint(t, s, s.Resumed().Tally)
	crash(t, s)
	if concluded {
		return
	}
	if len(c.Records) < len(sealed) || c.Records[0].Previous != "" || c.Chain != lastLink(t, c.Records) {
		t.Errorf("the next checkpoint has %d records of a chain that ends in %s", len(c.Records), c.Chain)
	}
	s = openFor(t, dir, 4)
	defer s.Close()
	traffic(t, s, s.NextSegment())
	intact(t, s)
	if _, c := checkpoint(t, s, s.Resumed().Tally); len(c.Records) != 1 || c.Records[0].Previous == "" {
		t.Errorf("the checkpoint after that has %+v", c.Records)
	}
}

// nothingIsLost compares a spool that has lost an entry with what was sealed.
func nothingIsLost(t *testing.T, s *Spool, sealed []events.Segment, lost entry) {
	t.Helper()
	got := s.Segments()
	if len(got) != len(sealed) {
		t.Fatalf("segments %+v", got)
	}
	for i, want := range sealed {
		seg := got[i]
		switch {
		case lost.Confirmed != nil && lost.Confirmed.Key == want.Key:
			want.Confirmed = false // until seal looks into the store
		case lost.Reduced != nil && lost.Reduced.Is.Key == want.Key && !want.Confirmed: // or the confirmation says it
			want.Reduced = want.Truncated - lost.Reduced.Was.Truncated // at least
		}
		seg.Previous, seg.Replaces, want.Previous, want.Replaces = "", "", "", "" // see intact
		if fmt.Sprintf("%+v", seg) != fmt.Sprintf("%+v", want) {
			t.Errorf("segment\n%+v, want\n%+v", seg, want)
		}
	}
	tally := s.Resumed().Tally
	if tally.Written != 50 || tally.WrittenBytes != 50_000 || tally.Truncated != 25 || tally.Unwritten != 0 || tally.Rejected.Malformed != 3 || !tally.Balanced() {
		t.Errorf("resumed with %+v", tally)
	}
	if stop := s.Resumed().Stop; (stop == "") != (lost.Stop != "") {
		t.Errorf("stopped: %q", stop)
	}
	if next := s.NextSegment(); next < 6 || next > 30 {
		t.Errorf("the next segment is %d", next)
	}
	if s.checkpoints < 2 || s.checkpoints > 30 {
		t.Errorf("%d checkpoints", s.checkpoints)
	}
	if report := s.lastDigest; report != digestOfCheckpoint(t, s, 2) {
		t.Errorf("the chain ends in %s", report)
	}
}

func digestOfCheckpoint(t *testing.T, s *Spool, seq int) string {
	t.Helper()
	for _, o := range s.Waiting() {
		if o.Kind == Checkpoint && o.Seq == seq {
			return o.SHA256
		}
	}
	t.Errorf("checkpoint %d does not wait", seq)
	return ""
}

// A restart that crashes in the middle of mending mends again.
func TestCrashWhileAJournalIsMended(t *testing.T) {
	dir, sealed := eventful(t, false)
	lines := readLines(t, dir)
	lines[3][50] ^= 1 // segment 2 is sealed
	writeJournal(t, dir, bytes.Join(lines, nil))

	linked := copyOf(t, dir) // the crash came before the new journal had its name
	if err := os.Mkdir(filepath.Join(linked, damagedDir), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(linked, journalFile), filepath.Join(linked, damagedDir, journalFile)); err != nil {
		t.Fatal(err)
	}
	crash(t, openFor(t, dir, 4))
	mended := readLines(t, dir)
	begun := -1
	for i, line := range mended {
		if e, err := parseLine(line); err != nil {
			t.Fatalf("line %d of the new journal: %v", i+1, err)
		} else if e.Damaged != nil {
			begun = i
		}
	}
	if begun < 0 {
		t.Fatal("the new journal does not say that another was damaged")
	}
	for n := begun + 1; n <= len(mended); n++ {
		copied := copyOf(t, dir)
		writeJournal(t, copied, bytes.Join(mended[:n], nil))
		s := openFor(t, copied, 4)
		intact(t, s)
		nothingIsLost(t, s, sealed, entry{})
		crash(t, s)
	}
	s := openFor(t, linked, 4)
	defer s.Close()
	intact(t, s)
	nothingIsLost(t, s, sealed, entry{})
}

// Numbers that a lost entry may have given away are not given away again.
func TestNumbersAfterDamage(t *testing.T) {
	dir := t.TempDir()
	s := openFor(t, dir, 20)
	for seq := 1; seq <= 6; seq++ {
		o := traffic(t, s, seq)
		report, _ := checkpoint(t, s, events.Tally{Received: uint64(10 * seq), Written: uint64(10 * seq)})
		for _, o := range []Object{o, report} {
			if err := s.Confirm(o); err != nil {
				t.Fatal(err)
			}
		}
	}
	crash(t, s)
	lines := readLines(t, dir)
	lost := len(lines) - 4 // all that says anything of segment 6 and checkpoint 6
	writeJournal(t, dir, append(bytes.Join(lines[:lost], nil), make([]byte, len(bytes.Join(lines[lost:], nil)))...))
	s = openFor(t, dir, 20)
	defer s.Close()
	if got := s.Segments(); len(got) != 5 {
		t.Fatalf("segments %+v", got)
	}
	if next := s.NextSegment(); next <= 6 {
		t.Errorf("the next segment is %d, which the store may have", next)
	}
	if _, c := checkpoint(t, s, events.Tally{}); c.Seq <= 6 || c.Previous == "" {
		t.Errorf("the next checkpoint is %d behind %q", c.Seq, c.Previous)
	}
}

// Of a journal of which nothing can be read, the files on the disk are left.
func TestJournalOfWhichNothingIsLeft(t *testing.T) {
	for reason, journal := range map[string][]byte{
		"zeros":                  make([]byte, 5000),
		"empty":                  nil,
		"something else":         []byte("hello\nthere\n"),
		"the start of a line":    []byte(`{"at":"2026-11-22T03:04:05Z","beg`),
		"an object that is none": []byte("{}\n"),
	} {
		t.Run(reason, func(t *testing.T) {
			dir := t.TempDir()
			s := openFor(t, dir, 4)
			traffic(t, s, 1)
			traffic(t, s, 2)
			_, report := checkpoint(t, s, events.Tally{Received: 25, Written: 20, Rejected: events.Rejected{Malformed: 5}})
			last := s.lastDigest
			crash(t, s)
			half, err := os.ReadFile(s.Waiting()[1].Path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(s.SegmentDir(), segment.OpenName(3)), half[:len(half)-1], 0o600); err != nil {
				t.Fatal(err)
			}
			writeJournal(t, dir, journal)
			s = openFor(t, dir, 4)
			intact(t, s)
			if got := s.Segments(); len(got) != 3 || got[0].Packets != 10 || got[2].Packets != 9 || !got[2].Recovered {
				t.Errorf("segments %+v", got)
			}
			if tally := s.Resumed().Tally; tally.Written != 29 || tally.Rejected != report.Tally.Rejected || !tally.Balanced() {
				t.Errorf("resumed with %+v", tally)
			}
			if _, c := checkpoint(t, s, events.Tally{}); c.Previous != last {
				t.Errorf("the chain goes on behind %q, not %q", c.Previous, last)
			}
			crash(t, s)
			s = openFor(t, dir, 4)
			defer s.Close()
			if got := s.Segments(); len(got) != 3 {
				t.Errorf("after a second restart: segments %+v", got)
			}
		})
	}
}

// A damaged journal that says somewhere whose it is belongs to nobody else; nor does one of another version.
func TestDamagedJournalOfSomebodyElse(t *testing.T) {
	dir, _ := eventful(t, true)
	lines := readLines(t, dir)
	other := events.CaptureID("20261122T030405Z-eni-0a1b2c3d4e5f60719")
	for reason, damage := range map[string]func([][]byte){
		"its first line is readable":      func(lines [][]byte) { lines[3] = []byte("nothing\n") },
		"its first line is not":           func(lines [][]byte) { lines[0] = []byte("nothing\n") },
		"most of it can't be read at all": func(lines [][]byte) { clear(lines[0]); clear(lines[2]); clear(lines[3]); clear(lines[4]) },
	} {
		damaged := make([][]byte, 0, len(lines))
		for _, line := range lines {
			damaged = append(damaged, bytes.Clone(line))
		}
		damage(damaged)
		writeJournal(t, dir, bytes.Join(damaged, nil))
		if _, err := Open(dir, other, userID, 1<<20); err == nil || !strings.Contains(err.Error(), string(capture)) {
			t.Errorf("%s: %v", reason, err)
		}
		if there, err := exists(filepath.Join(dir, damagedDir)); there || err != nil {
			t.Errorf("%s: what belongs to somebody else was touched, %v", reason, err)
		}
	}
	newer, err := appendLine(nil, entry{Begin: &beginning{Version: events.RecordVersion + 1, Capture: capture, UserID: userID}})
	if err != nil {
		t.Fatal(err)
	}
	writeJournal(t, dir, append(newer, "in a form that nobody knows yet\n"...))
	if _, err := Open(dir, capture, userID, 1<<20); err == nil || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("a journal of a newer version: %v", err)
	}
}

// What cannot be read does not push out what could not be read before.
func TestSetAsideKeepsEverything(t *testing.T) {
	dir := t.TempDir()
	s := openFor(t, dir, 4)
	crash(t, s)
	for i := range 3 {
		if err := os.WriteFile(filepath.Join(dir, segmentsDir, segment.OpenName(1)), fmt.Appendf(nil, "what is it, %d?", i), 0o600); err != nil {
			t.Fatal(err)
		}
		crash(t, openFor(t, dir, 4))
	}
	files, err := os.ReadDir(filepath.Join(dir, damagedDir))
	if err != nil || len(files) != 3 {
		t.Errorf("%v, %v", files, err)
	}
}

// What is left of cutting a segment goes when the segment is there, and stays for somebody to look at when it is not.
func TestCopyWithoutItsSegment(t *testing.T) {
	for _, there := range []bool{true, false} {
		dir := t.TempDir()
		s := openFor(t, dir, 4)
		o := traffic(t, s, 1)
		if _, _, err := segment.Reduce(o.Path); err != nil {
			t.Fatal(err)
		}
		if !there {
			if err := os.Remove(o.Path); err != nil {
				t.Fatal(err)
			}
		}
		crash(t, s)
		s = openFor(t, dir, 4)
		if n := len(s.Waiting()); (n == 1) != there {
			t.Errorf("%d segments wait", n)
		}
		if left, err := exists(filepath.Join(s.SegmentDir(), segment.ReducingName(1))); left || err != nil {
			t.Errorf("the copy is still where it was, %v", err)
		}
		if kept, err := exists(filepath.Join(dir, damagedDir, "000001.pcap.reducing")); kept == there || err != nil {
			t.Errorf("the segment is there: %t; its copy is kept: %t, %v", there, kept, err)
		}
		crash(t, s)
	}
}
