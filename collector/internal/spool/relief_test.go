package spool

import (
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"flashtap/collector/segment"
	"flashtap/events"
	"flashtap/testutil/packets"
)

const (
	payloadLen = 958               // makes a frame of 1000 bytes
	headersLen = 14 + 20 + 8       // of it
	wholeLen   = 24 + 10*(16+1000) // a segment of ten such frames
	cutLen     = 24 + 10*(16+headersLen)
)

// traffic adds a segment of ten frames of 1000 bytes, of which every other was longer on the wire.
func traffic(t *testing.T, s *Spool, seq int) Object {
	t.Helper()
	return frames(t, s, seq, payloadLen)
}

func frames(t *testing.T, s *Spool, seq, payload int) Object {
	t.Helper()
	from, to := packets.NewHost("10.0.0.1").On(40000), packets.NewHost("203.0.113.7").On(443)
	var list [][]byte
	for i := range 10 {
		list = append(list, packets.UDP(from, to, slices.Repeat([]byte{byte(seq), byte(i)}, payload/2)))
	}
	return add(t, s, sealFrames(t, s, seq, list))
}

// openFor is open with room for so many segments of traffic.
func openFor(t *testing.T, dir string, segments int) *Spool {
	t.Helper()
	s, err := Open(dir, capture, userID, int64(segments*wholeLen))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// relieve has room made until there is enough, which on a slow disk takes several calls.
func relieve(t *testing.T, s *Spool) (done []string) {
	t.Helper()
	for {
		more, err := s.Relieve()
		if err != nil {
			t.Fatal(err)
		}
		if more == nil {
			return done
		}
		done = append(done, more...)
	}
}

// intact checks that what is said of the segments is what is on the disk, and that everything adds up.
func intact(t *testing.T, s *Spool) {
	t.Helper()
	var bytes, used int64
	var packets, reduced uint64
	numbers := map[int]bool{}
	for _, seg := range s.Segments() {
		if numbers[seg.Seq] {
			t.Errorf("segment %d is there twice", seg.Seq)
		}
		numbers[seg.Seq] = true
		bytes += seg.Bytes
		packets += seg.Packets
		reduced += seg.Reduced
	}
	if tally := s.Totals().Fill(events.Tally{}); tally.Sealed != packets || tally.SealedBytes != uint64(bytes) || tally.Reduced != reduced {
		t.Errorf("%d packets, %d bytes, %d reduced; the tally is %+v", packets, bytes, reduced, tally)
	}
	if s.Concluded() == "" { // or the manifest has the chain
		holdsChain(t, s)
	}
	var paths []string
	for _, o := range s.Waiting() {
		if o.Kind != Segment {
			continue
		}
		data, err := os.ReadFile(o.Path)
		if err != nil || digestOf(data) != o.SHA256 || int64(len(data)) != o.Bytes {
			t.Errorf("segment %d: %d bytes with another digest, %v", o.Seq, len(data), err)
		}
		used += o.Bytes
		paths = append(paths, filepath.Base(o.Path))
	}
	if s.limit-s.Room() != used {
		t.Errorf("%d bytes wait; the room is %d of %d", used, s.Room(), s.limit)
	}
	files, err := os.ReadDir(s.SegmentDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !slices.Contains(paths, f.Name()) {
			t.Errorf("%s is left over", f.Name())
		}
	}
}

// state is which segments are whole, cut or confirmed.
func state(s *Spool) string {
	var list []string
	for _, seg := range s.Segments() {
		text := "whole"
		if seg.Reduced > 0 {
			text = "cut"
		}
		if seg.Confirmed {
			text += ", confirmed"
		}
		list = append(list, text)
	}
	return strings.Join(list, " | ")
}

func TestRelieve(t *testing.T) {
	dir := t.TempDir()
	s := openFor(t, dir, 16)
	var objects []Object
	for seq := 1; seq <= 13; seq++ {
		objects = append(objects, traffic(t, s, seq))
		if done := relieve(t, s); done != nil {
			t.Fatalf("with %d of 16 segments waiting: %q", seq, done)
		}
	}
	if _, err := s.Claim(objects[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Claim(objects[2]); err != nil {
		t.Fatal(err)
	}
	objects = append(objects, traffic(t, s, 14)) // 7/8
	before := s.Room()
	done := relieve(t, s)
	if len(done) != 3 || !strings.Contains(done[0], "segment 2 was cut") || !strings.Contains(done[0], "10 of 10 packets") ||
		!strings.Contains(done[1], "segment 4 ") || !strings.Contains(done[2], "segment 5 ") {
		t.Fatalf("cut %q; want 2, 4 and 5, which brings it below 3/4", done)
	}
	intact(t, s)
	if got := s.Segments()[1]; got.Reduced != 10 || got.Truncated != 10 || got.Bytes != cutLen || got.Packets != 10 || got.Seq != 2 {
		t.Errorf("segment 2 is %+v", got)
	}
	if s.Room() != before+3*(wholeLen-cutLen) {
		t.Errorf("room grew from %d to %d", before, s.Room())
	}
	if done := relieve(t, s); done != nil {
		t.Errorf("cut again: %q", done)
	}
	// What was queued as a whole segment is sent as what it is now.
	o, err := s.Claim(objects[1])
	if err != nil || o.SHA256 == objects[1].SHA256 || o.Seq != 2 || o.Bytes != cutLen || !o.Tried {
		t.Errorf("claimed %+v, %v", o, err)
	}
	if err := s.Confirm(o); err != nil {
		t.Error(err)
	}
	if _, err := s.Claim(objects[1]); err == nil {
		t.Error("claimed what is confirmed")
	}
	const want = "whole | cut, confirmed | whole | cut | cut | whole | whole | whole | whole | whole | whole | whole | whole | whole"
	if got := state(s); got != want {
		t.Errorf("segments %s", got)
	}
	remarks := s.Remarks()
	if len(remarks) != 1 || !strings.Contains(remarks[0], "segments 2, 4-5 were cut") || !strings.Contains(remarks[0], "30 packets") {
		t.Errorf("remarks %q", remarks)
	}
	checkpoint(t, s, events.Tally{Received: 147, Written: 140, WrittenBytes: 140_000, Truncated: 70, Rejected: events.Rejected{Malformed: 7}})
	crash(t, s)

	s = openFor(t, dir, 16)
	defer s.Close()
	intact(t, s)
	if got := state(s); got != want {
		t.Errorf("after a restart: segments %s", got)
	}
	if tally := s.Resumed().Tally; tally.Written != 140 || tally.WrittenBytes != 140_000 || tally.Truncated != 70 || tally.Reduced != 30 || tally.Unwritten != 0 || !tally.Balanced() {
		t.Errorf("resumed with %+v", tally)
	}
	if remarks := s.Remarks(); !strings.Contains(remarks[len(remarks)-1], "segments 2, 4-5 were cut") {
		t.Errorf("remarks %q", remarks)
	}
	// Nothing of what this process or the one before has begun to send is cut, and nothing twice.
	for seq := 15; seq <= 17; seq++ {
		traffic(t, s, seq)
	}
	relieve(t, s)
	intact(t, s)
	if got := state(s); got != "whole | cut, confirmed | whole | cut | cut | cut | cut | cut | whole | whole | whole | whole | whole | whole | whole | whole | whole" {
		t.Errorf("segments %s", got)
	}
}

// When nothing may be cut any more, or nothing is worth it, the spool fills up as it would without.
func TestRelieveHasItsLimits(t *testing.T) {
	t.Run("all are being sent", func(t *testing.T) {
		s := openFor(t, t.TempDir(), 4)
		defer s.Close()
		for seq := 1; seq <= 5; seq++ {
			if _, err := s.Claim(traffic(t, s, seq)); err != nil {
				t.Fatal(err)
			}
		}
		if done := relieve(t, s); done != nil || s.Room() != -wholeLen {
			t.Errorf("cut %q, room %d", done, s.Room())
		}
		intact(t, s)
	})
	t.Run("packets without payload", func(t *testing.T) {
		s := openFor(t, t.TempDir(), 1)
		defer s.Close()
		for seq := 1; seq <= 20; seq++ {
			frames(t, s, seq, 0)
		}
		traffic(t, s, 21)
		if done := relieve(t, s); len(done) != 1 || !strings.Contains(done[0], "segment 21 ") {
			t.Errorf("cut %q", done)
		}
		intact(t, s)
	})
	t.Run("the last word is said", func(t *testing.T) {
		s := openFor(t, t.TempDir(), 1)
		defer s.Close()
		traffic(t, s, 1)
		if _, err := s.Conclude(events.CollectorManifest{}); err != nil {
			t.Fatal(err)
		}
		if done := relieve(t, s); done != nil {
			t.Errorf("cut %q, and the manifest says otherwise", done)
		}
	})
	t.Run("a damaged segment", func(t *testing.T) {
		s := openFor(t, t.TempDir(), 2)
		defer s.Close()
		o := traffic(t, s, 1)
		traffic(t, s, 2)
		data, err := os.ReadFile(o.Path)
		if err != nil {
			t.Fatal(err)
		}
		data[500] ^= 1
		if err := os.WriteFile(o.Path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if done, err := s.Relieve(); err == nil || done != nil {
			t.Errorf("cut %q: damage would look like evidence", done)
		}
		s.relief.retry = time.Time{}
		if done := relieve(t, s); len(done) != 1 || !strings.Contains(done[0], "segment 2 ") {
			t.Errorf("cut %q; one that is damaged is in the way of others", done)
		}
	})
}

// A first attempt that begins while a segment is being cut wins: what is on its way is what the spool says it is.
func TestClaimWhileASegmentIsCut(t *testing.T) {
	s := openFor(t, t.TempDir(), 1)
	defer s.Close()
	o := traffic(t, s, 1)
	s.relief.acted = func(what string) {
		if what != "copied" {
			t.Errorf("%s a segment that is being sent", what)
		}
		if claimed, err := s.Claim(o); err != nil || claimed.SHA256 != o.SHA256 {
			t.Errorf("claimed %+v, %v", claimed, err)
		}
	}
	if done := relieve(t, s); done != nil {
		t.Errorf("cut %q", done)
	}
	intact(t, s)
	if err := s.Confirm(o); err != nil {
		t.Error(err)
	}
}

// Wherever a crash comes while segments are cut, a restart finds each once: whole or cut.
func TestCrashWhileSegmentsAreCut(t *testing.T) {
	dir := t.TempDir()
	s := openFor(t, dir, 2)
	traffic(t, s, 1)
	traffic(t, s, 2)
	checkpoint(t, s, events.Tally{Received: 20, Written: 20, WrittenBytes: 20_000, Truncated: 10})
	type moment struct{ what, dir, want string }
	var moments []moment
	keep := func(what, want string) {
		copied := filepath.Join(t.TempDir(), "spool")
		if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		moments = append(moments, moment{what, copied, want})
	}
	cut := map[string]string{"copied": "whole | whole", "noted": "cut | whole", "named": "cut | whole", "removed": "cut | whole"}
	s.relief.acted = func(what string) { keep(what, cut[what]) }
	if done := relieve(t, s); len(done) != 1 {
		t.Fatalf("cut %q", done)
	}
	if len(moments) != len(cut) {
		t.Fatalf("%d moments, not %d", len(moments), len(cut))
	}
	crash(t, s)
	// The line in the journal itself may be cut anywhere, or its page lost.
	copied, noted := moments[0], moments[1]
	journal, err := os.ReadFile(filepath.Join(noted.dir, journalFile))
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(filepath.Join(copied.dir, journalFile))
	if err != nil {
		t.Fatal(err)
	}
	for n := len(before); n < len(journal); n += 40 {
		dir = noted.dir
		keep("half noted", "whole | whole")
		if err := os.WriteFile(filepath.Join(moments[len(moments)-1].dir, journalFile), journal[:n], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// Disks lie: what was synced may be lost as long as the whole segment is there.
	name := func(seq int) string { return filepath.Join(segmentsDir, segment.ReducingName(seq)) }
	for what, damage := range map[string]func(path string) error{
		"the copy is lost": os.Remove,
		"the copy is cut":  func(path string) error { return os.Truncate(path, 100) },
	} {
		dir = noted.dir
		keep(what, "whole | whole")
		if err := damage(filepath.Join(moments[len(moments)-1].dir, name(1))); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range moments {
		for range 2 { // the second restart finds what the first has left
			s := openFor(t, m.dir, 2)
			intact(t, s)
			if got := state(s); got != m.want {
				t.Errorf("%s: segments %s, want %s", m.what, got, m.want)
			}
			if tally := s.Resumed().Tally; tally.Written != 20 || tally.WrittenBytes != 20_000 || tally.Truncated != 10 || !tally.Balanced() {
				t.Errorf("%s: resumed with %+v", m.what, tally)
			}
			if there, err := exists(filepath.Join(m.dir, damagedDir)); there || err != nil {
				t.Errorf("%s: something was set aside, %v", m.what, err)
			}
			for _, o := range s.Waiting() {
				if o.Kind == Segment && o.Tried {
					t.Errorf("%s: segment %d counts as sent", m.what, o.Seq)
				}
			}
			crash(t, s)
		}
		s := openFor(t, m.dir, 2)
		s.relief.on = true
		relieve(t, s)
		intact(t, s)
		if got := state(s); !strings.HasPrefix(got, "cut") {
			t.Errorf("%s: segments %s after the next relief", m.what, got)
		}
		crash(t, s)
	}
}

// A disk that refuses leaves the segment as it was, and is asked again after a while.
func TestReliefOnADiskThatRefuses(t *testing.T) {
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	refuse := func(t *testing.T, limit int64) (lift func()) {
		var before syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: uint64(limit), Max: before.Max}); err != nil {
			t.Fatal(err)
		}
		return func() {
			if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
				t.Error(err)
			}
		}
	}
	tests := map[string]func(t *testing.T, s *Spool) (lift func()){
		"the copy": func(t *testing.T, s *Spool) func() { return refuse(t, 100) },
		"the note": func(t *testing.T, s *Spool) func() {
			lift := func() {}
			s.relief.acted = func(what string) {
				if what == "copied" {
					lift = refuse(t, s.journal.good+10)
				}
			}
			return func() { lift() }
		},
		"the name": func(t *testing.T, s *Spool) func() {
			s.relief.acted = func(what string) {
				if what == "noted" {
					if err := os.Remove(filepath.Join(s.SegmentDir(), segment.ReducingName(1))); err != nil {
						t.Error(err)
					}
				}
			}
			return func() {}
		},
		"to remove the whole segment": func(t *testing.T, s *Spool) func() {
			whole := s.Waiting()[0].Path
			s.relief.acted = func(what string) {
				if what == "named" { // a folder with something in it cannot be removed
					if err := os.Rename(whole, whole+".kept"); err != nil {
						t.Error(err)
					}
					if err := os.MkdirAll(filepath.Join(whole, "x"), 0o700); err != nil {
						t.Error(err)
					}
				}
			}
			return func() {
				if err := os.RemoveAll(whole); err != nil {
					t.Error(err)
				}
				if err := os.Rename(whole+".kept", whole); err != nil {
					t.Error(err)
				}
			}
		},
	}
	for name, prepare := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				s := openFor(t, dir, 1)
				traffic(t, s, 1)
				lift := prepare(t, s)
				done, err := s.Relieve()
				lift()
				s.relief.acted = nil
				if err == nil || done != nil {
					t.Fatalf("cut %q, %v", done, err)
				}
				intact(t, s)
				if got := state(s); got != "whole" {
					t.Errorf("segments %s", got)
				}
				if done, err := s.Relieve(); err != nil || done != nil {
					t.Errorf("asked again at once: %q, %v", done, err)
				}
				if err := s.Remark("what the disk had refused is written now"); err != nil {
					t.Fatal(err)
				}
				copied := filepath.Join(t.TempDir(), "spool")
				if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
					t.Fatal(err)
				}
				again := openFor(t, copied, 1)
				intact(t, again)
				if got := state(again); got != "whole" {
					t.Errorf("after a crash: segments %s", got)
				}
				crash(t, again)
				for range 3 { // one turn may be needed to forget that it was refused
					time.Sleep(reliefRetry)
					relieve(t, s)
				}
				intact(t, s)
				if got := state(s); got != "cut" {
					t.Errorf("segments %s after the disk has come to its senses", got)
				}
				crash(t, s)
			})
		})
	}
}

// A segment that changed on the disk between two processes is not sent: the store would refuse it for ever.
func TestClaimReadsWhatAProcessBeforeHasSealed(t *testing.T) {
	dir := t.TempDir()
	s := openFor(t, dir, 4)
	good, bad := traffic(t, s, 1), traffic(t, s, 2)
	crash(t, s)
	data, err := os.ReadFile(bad.Path)
	if err != nil {
		t.Fatal(err)
	}
	data[700] ^= 1
	if err := os.WriteFile(bad.Path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	s = openFor(t, dir, 4)
	defer s.Close()
	if o, err := s.Claim(good); err != nil || o.SHA256 != good.SHA256 {
		t.Errorf("claimed %+v, %v", o, err)
	}
	if _, err := s.Claim(bad); err == nil || !strings.Contains(err.Error(), ErrNotHeld.Error()) {
		t.Errorf("a damaged segment was claimed: %v", err)
	}
	if got := keys(s.Waiting()); len(got) != 1 || s.limit-s.Room() != wholeLen {
		t.Errorf("waiting: %v, room %d", got, s.Room())
	}
	if there, err := exists(filepath.Join(dir, damagedDir, filepath.Base(bad.Path))); !there || err != nil {
		t.Errorf("the damaged segment is gone: %v", err)
	}
	if remarks := strings.Join(s.Remarks(), "\n"); !strings.Contains(remarks, filepath.Base(bad.Path)+" could not be read") {
		t.Errorf("remarks: %s", remarks)
	}
}

func TestConfirmedClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := openFor(t, dir, 4)
		first := traffic(t, s, 1)
		report, c := checkpoint(t, s, events.Tally{})
		if !c.Confirmed.IsZero() || strings.Contains(string(report.Data), `"confirmed"`) {
			t.Errorf("nothing was confirmed, and yet at %v", c.Confirmed)
		}
		time.Sleep(time.Minute)
		confirmed := time.Now().UTC()
		if err := s.Confirm(first); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if err := s.Confirm(report); err != nil { // a checkpoint does not count
			t.Fatal(err)
		}
		if _, c := checkpoint(t, s, events.Tally{}); !c.Confirmed.Equal(confirmed) {
			t.Errorf("confirmed at %v, want %v", c.Confirmed, confirmed)
		}
		crash(t, s)
		time.Sleep(time.Hour)
		s = openFor(t, dir, 4)
		defer s.Close()
		o, err := s.Checkpoint(Progress{State: events.CollectorCapturing, Host: map[string]uint64{"eth0.rx_missed": 3}})
		if err != nil || !strings.Contains(string(o.Data), `"confirmed":"`+confirmed.Format(time.RFC3339Nano)+`"`) || !strings.Contains(string(o.Data), `"host":{"eth0.rx_missed":3}`) {
			t.Errorf("after a restart: %s, %v; want %v", o.Data, err, confirmed)
		}
	})
}
