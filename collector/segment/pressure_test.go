package segment

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// Nobody writes to the disk yet: frames fill the buffers there are, and then wait. What waited is told.
func TestWriteWaitsForASlowDiskAndSaysSo(t *testing.T) {
	w := NewWriter(Config{Dir: t.TempDir(), MaxBytes: 1 << 20, MaxAge: time.Hour, Buffers: 2})
	frame := testFrame(0, 1000)
	given := make(chan int)
	go func() {
		defer close(given)
		for i := range 2000 {
			w.Write(base.UnixNano(), frame, len(frame))
			given <- i
		}
		w.Close()
	}()
	last := 0
	for stuck := false; !stuck; {
		select {
		case last = <-given:
		case <-time.After(200 * time.Millisecond):
			stuck = true
		}
	}
	if last < 900 || last > 1100 {
		t.Errorf("%d frames of 1000 bytes went into two buffers of %d bytes", last, w.cfg.Buffer)
	}
	ended := make(chan error, 1)
	go func() { ended <- w.Run(context.Background()) }()
	for range given {
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	times, total := w.Stalled()
	if c := w.Counts(); c.Written != 2000 || c.Lost != 0 || times == 0 || total < 200*time.Millisecond {
		t.Errorf("%+v, %d stalls of %v", c, times, total)
	}
}

// When the disk gets no more time, whoever waits for it goes on, and what could not be buffered is counted.
func TestFramesThatFindNoBufferAtTheEndAreLost(t *testing.T) {
	w := NewWriter(Config{Dir: t.TempDir(), MaxBytes: 1 << 20, MaxAge: time.Hour, Buffers: 2})
	ctx, cancel := context.WithCancel(context.Background())
	w.pool.take() // as if the disk held it
	w.pool.take()
	go func() {
		time.Sleep(50 * time.Millisecond)
		cancel()
	}()
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	frame := testFrame(0, 1000)
	for range 3 {
		w.Write(base.UnixNano(), frame, len(frame))
	}
	w.Close()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	accepted, bytes := w.Accepted()
	if c := w.Counts(); c.Lost != 3 || c.LostBytes != 3000 || accepted != 3 || bytes != 3000 || !w.Ended() {
		t.Errorf("%+v; %d frames, %d bytes were given", c, accepted, bytes)
	}
}

func TestReservedSpaceBecomesSegments(t *testing.T) {
	dir := t.TempDir()
	blocks := func(name string) int64 {
		t.Helper()
		var stat syscall.Stat_t
		if err := syscall.Stat(filepath.Join(dir, name), &stat); err != nil {
			t.Fatal(err)
		}
		return stat.Blocks * 512
	}
	w := NewWriter(Config{Dir: dir, MaxBytes: 1 << 20, MaxAge: time.Hour, Reserve: 5 << 19})
	if err := w.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	names := dirNames(t, dir)
	if len(names) != 3 || blocks(names[0]) < 1<<20 || blocks(names[2]) < 1<<19 || blocks(names[2]) >= 1<<20 {
		t.Errorf("reserved: %v", names)
	}
	for _, name := range names {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() != 0 {
			t.Errorf("%s: length %d, %v; a crash would leave bytes that nobody wrote", name, info.Size(), err)
		}
	}
	ended := make(chan error, 1)
	var files []File
	w.cfg.Sealed = func(f File) { files = append(files, f) }
	go func() { ended <- w.Run(context.Background()) }()
	frame := testFrame(0, 1000)
	w.Write(base.UnixNano(), frame, len(frame))
	w.Flush()
	for w.Counts().Written == 0 {
		time.Sleep(time.Millisecond)
	}
	if info, err := os.Stat(filepath.Join(dir, OpenName(1))); err != nil || info.Size() != fileHeaderLen+recHeaderLen+1000 {
		t.Errorf("open segment: %v, %v", info, err)
	}
	if names := dirNames(t, dir); len(names) != 3 {
		t.Errorf("with one spare in use there is %v", names)
	}
	w.Close()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if names := dirNames(t, dir); len(names) != 1 || len(files) != 1 || blocks(names[0]) > 8192 {
		t.Errorf("left: %v, the segment with %d bytes on disk", names, blocks(names[0]))
	}
	checkFile(t, files[0])
}

func TestReserveBeyondTheDiskIsAnError(t *testing.T) {
	dir := t.TempDir()
	w := NewWriter(Config{Dir: dir, MaxBytes: 1 << 60, MaxAge: time.Hour, Reserve: 1 << 60})
	if err := w.Prepare(t.Context()); err == nil {
		t.Error("an exbibyte was reserved")
	}
	if names := dirNames(t, dir); len(names) != 0 {
		t.Errorf("left: %v", names)
	}
}

func TestSegmentsWithoutDigest(t *testing.T) {
	s := start(t, Config{MaxBytes: 1 << 20, MaxAge: time.Hour, NoDigest: true})
	s.write(testFrame(0, 100), 100)
	f := s.stop()[0]
	if f.SHA256 != "" || filepath.Base(f.Path) != NumberedName(1) || len(readPcap(t, f.Path)) != 1 {
		t.Errorf("sealed as %+v", f)
	}
}

// What others have put under the name of the next segment is not written over.
func TestSegmentIsNotCreatedOverAFile(t *testing.T) {
	for _, reserve := range []int64{0, 1 << 20} {
		s := start(t, Config{MaxBytes: 1 << 20, MaxAge: time.Hour, Reserve: reserve})
		if err := s.w.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(s.dir, OpenName(1)), []byte("somebody's"), 0o600); err != nil {
			t.Fatal(err)
		}
		s.write(testFrame(0, 100), 100)
		s.settle()
		if c := s.w.Counts(); c.Lost != 1 || s.told() != 1 {
			t.Errorf("%+v, %d troubles told", c, s.told())
		}
		s.stop()
		if data, err := os.ReadFile(filepath.Join(s.dir, OpenName(1))); err != nil || string(data) != "somebody's" {
			t.Errorf("the file holds %q, %v", data, err)
		}
	}
}

func TestWritingAllocatesNothing(t *testing.T) {
	s := start(t, Config{MaxBytes: 1 << 30, MaxAge: time.Hour})
	frame := testFrame(0, 1000)
	for range 3000 {
		s.write(frame, 1000)
	}
	s.settle()
	if allocs := testing.AllocsPerRun(2000, func() { s.w.Write(base.UnixNano(), frame, 1000) }); allocs != 0 {
		t.Errorf("%v allocations a frame, want 0", allocs)
	}
	s.stop()
}

func BenchmarkWrite(b *testing.B) {
	w := NewWriter(Config{Dir: b.TempDir(), MaxBytes: 128 << 20, MaxAge: time.Hour, NoDigest: true})
	ended := make(chan error, 1)
	go func() { ended <- w.Run(b.Context()) }()
	frame := testFrame(0, 300)
	b.SetBytes(300)
	b.ReportAllocs()
	for b.Loop() {
		w.Write(base.UnixNano(), frame, 300)
	}
	w.Close()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}

func BenchmarkDigest(b *testing.B) {
	o := &openFile{hash: newHash()}
	data := make([]byte, defaultBuffer)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		o.digest(data)
	}
}
