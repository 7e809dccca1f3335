package segment

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/gopacket/pcapgo"
)

// base is when the frames of these tests arrive.
var base = time.Date(2026, 11, 22, 3, 4, 5, 123456789, time.UTC)

func TestSegmentHoldsFramesAsTheyCame(t *testing.T) {
	s := start(t, Config{MaxBytes: 1 << 20, MaxAge: time.Hour})
	for i := range 100 {
		s.write(testFrame(i, 60+i*10), 60+i*10+i%2*400)
	}
	files := s.stop()
	if len(files) != 1 {
		t.Fatalf("%d segments, want 1", len(files))
	}
	f := files[0]
	if f.Seq != 1 || f.Packets != 100 || f.Truncated != 50 || f.Recovered || filepath.Base(f.Path) != SealedName(1, f.SHA256) {
		t.Errorf("sealed as %+v", f)
	}
	if !f.First.Equal(base) || !f.Last.Equal(base.Add(99*time.Millisecond)) {
		t.Errorf("first %v, last %v", f.First, f.Last)
	}
	checkFile(t, f)
	for i, p := range readPcap(t, f.Path) {
		if want := testFrame(i, 60+i*10); !bytes.Equal(p.data, want) || p.origLen != len(want)+i%2*400 {
			t.Errorf("packet %d: %d bytes of %d, want %d of %d", i, len(p.data), p.origLen, len(want), len(want)+i%2*400)
		}
		if want := base.Add(time.Duration(i) * time.Millisecond); !p.at.Equal(want) {
			t.Errorf("packet %d at %v, want %v", i, p.at, want)
		}
	}
	if c := s.w.Counts(); c.Written != 100 || c.Truncated != 50 || c.Lost != 0 || c.WrittenBytes != uint64(f.Bytes-24-100*16) {
		t.Errorf("counts %+v for a file of %d bytes", c, f.Bytes)
	}
	if s.w.Unsealed() != 0 {
		t.Errorf("%d bytes count as unsealed after all is sealed", s.w.Unsealed())
	}
}

func TestSegmentsCloseBeforeTheyGrowPastTheirSize(t *testing.T) {
	for _, buffer := range []int{0, 1 << 19} {
		s := start(t, Config{MaxBytes: 100_000, MaxAge: time.Hour, Buffer: buffer})
		for i := range 1000 {
			s.write(testFrame(i, 1000), 1000)
		}
		files := s.stop()
		next := 0
		for i, f := range files {
			if f.Seq != i+1 || f.Bytes > 100_000 {
				t.Errorf("segment %d has number %d and %d bytes", i+1, f.Seq, f.Bytes)
			}
			if i < len(files)-1 && f.Bytes+16+1000 <= 100_000 {
				t.Errorf("segment %d was closed at %d bytes, with room for one more", f.Seq, f.Bytes)
			}
			checkFile(t, f)
			for _, p := range readPcap(t, f.Path) {
				if !bytes.Equal(p.data, testFrame(next, 1000)) {
					t.Fatalf("segment %d: packet %d is out of order", f.Seq, next)
				}
				next++
			}
		}
		if next != 1000 || len(files) != 11 {
			t.Errorf("%d packets in %d segments, want 1000 in 11", next, len(files))
		}
	}
}

func TestFrameLargerThanASegmentGetsItsOwn(t *testing.T) {
	s := start(t, Config{MaxBytes: 1 << 16, MaxAge: time.Hour})
	s.write(testFrame(0, 100), 100)
	s.write(testFrame(1, 65000+500), 65500)
	s.write(testFrame(2, 65000+501), 65501)
	s.write(testFrame(3, 100), 100)
	files := s.stop()
	if len(files) != 4 {
		t.Fatalf("%d segments, want 4", len(files))
	}
	for _, f := range files {
		checkFile(t, f)
		if f.Packets != 1 {
			t.Errorf("segment %d has %d packets", f.Seq, f.Packets)
		}
	}
}

func TestSegmentClosesByAgeAlsoWhenIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, Config{MaxBytes: 1 << 20, MaxAge: time.Minute})
		s.w.Tend(time.Now().Add(time.Hour))
		if names := dirNames(t, s.dir); len(names) != 0 {
			t.Errorf("a segment without frames: %v", names)
		}
		s.write(testFrame(0, 100), 100)
		time.Sleep(59 * time.Second)
		s.w.Tend(time.Now())
		synctest.Wait()
		if names := dirNames(t, s.dir); len(names) != 1 || names[0] != OpenName(1) {
			t.Errorf("after 59 s there is %v, want the open segment alone", names)
		}
		time.Sleep(time.Second)
		s.w.Tend(time.Now())
		synctest.Wait()
		if names := dirNames(t, s.dir); len(names) != 1 || !strings.HasPrefix(names[0], "000001-") {
			t.Errorf("after 60 s there is %v, want the sealed segment alone", names)
		}
		time.Sleep(time.Hour)
		s.w.Tend(time.Now())
		s.write(testFrame(1, 100), 100)
		time.Sleep(59 * time.Second)
		s.w.Tend(time.Now()) // the age counts from the first frame of the segment, not from the last rotation
		if files := s.stop(); len(files) != 2 || files[1].Packets != 1 {
			t.Errorf("%d segments", len(files))
		}
	})
}

func TestNumbersGoOnWhereASeriesWas(t *testing.T) {
	s := start(t, Config{MaxBytes: 1 << 20, MaxAge: time.Hour, First: 8})
	s.write(testFrame(0, 100), 100)
	if files := s.stop(); len(files) != 1 || files[0].Seq != 8 {
		t.Errorf("sealed %+v", files)
	}
	s = start(t, Config{MaxBytes: 1 << 20, MaxAge: time.Hour, First: maxSeq + 1})
	s.write(testFrame(0, 100), 100)
	s.settle()
	if s.w.Counts().Lost != 1 || s.told() != 1 {
		t.Error("segment 1000000 was opened; its key would have no room for the number")
	}
	s.stop()
}

// The kernel writes what still fits and refuses the rest: whole records are kept and sealed, the others are counted,
// and when the disk takes bytes again, the series goes on.
//
// The limit is one of the whole process, so the test has a process of its own.
func TestDiskThatRefuses(t *testing.T) {
	const child = "FLASHTAP_TEST_FULL_DISK"
	if os.Getenv(child) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestDiskThatRefuses$", "-test.v")
		cmd.Env = append(os.Environ(), child+"=1")
		if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: TestDiskThatRefuses/500")) {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	for _, limit := range []uint64{0, 10, 24, 39, 40, 50, 500, 1139, 1140, 1141, 50_000} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			s := start(t, Config{MaxBytes: 1 << 20, MaxAge: time.Hour})
			lift := limitFileSize(t, limit)
			for i := range 100 {
				s.write(testFrame(i, 1100), 1100)
			}
			s.settle()
			told := s.told()
			if told == 0 {
				t.Fatal("the disk was full and nobody was told")
			}
			s.write(testFrame(0, 100), 100)
			s.settle()
			if s.told() != told {
				t.Fatal("a full disk was asked again at once")
			}
			fit := uint64(0)
			if limit > 24 {
				fit = (limit - 24) / 1116
			}
			if c := s.w.Counts(); c.Written != fit || c.Lost != 101-fit || c.WrittenBytes != fit*1100 {
				t.Errorf("counts %+v, want %d written and %d lost", c, fit, 101-fit)
			}
			lift()
			time.Sleep(retryAfter)
			s.write(testFrame(0, 100), 100)
			files := s.stop()
			want := 1
			if fit > 0 {
				want = 2
			}
			if len(files) != want || files[0].Seq != 1 || files[len(files)-1].Seq != want {
				t.Fatalf("sealed %+v, want %d segments from 1", files, want)
			}
			packets := uint64(0)
			for _, f := range files {
				checkFile(t, f)
				packets += f.Packets
			}
			if packets != fit+1 || s.w.Unsealed() != 0 {
				t.Errorf("%d packets, %d troubles told, %d bytes unsealed", packets, s.told(), s.w.Unsealed())
			}
			if names := dirNames(t, s.dir); len(names) != want {
				t.Errorf("the directory holds %v", names)
			}
		})
	}
}

func TestDirectoryThatIsNotThere(t *testing.T) {
	s := start(t, Config{MaxBytes: 1 << 20, MaxAge: time.Hour})
	if err := os.Remove(s.dir); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		s.write(testFrame(0, 100), 100)
		s.settle()
	}
	if c := s.w.Counts(); c.Lost != 3 || len(s.troubles) != 1 || !errors.Is(s.troubles[0], os.ErrNotExist) {
		t.Errorf("%d lost, %d troubles told; want 3 and 1", c.Lost, len(s.troubles))
	}
	s.stop()
}

// Programs that analysts use read a segment without a word of warning.
func TestToolsReadSegments(t *testing.T) {
	s := start(t, Config{MaxBytes: 1 << 20, MaxAge: time.Hour})
	for i := range 50 {
		s.write(testFrame(i, 100+i), 100+i+i%2*1000)
	}
	path := s.stop()[0].Path
	for _, command := range [][]string{
		{"capinfos", path},
		{"tshark", "-n", "-r", path, "-T", "fields", "-e", "frame.number"},
		{"tcpdump", "-n", "-r", path},
	} {
		t.Run(command[0], func(t *testing.T) {
			if _, err := exec.LookPath(command[0]); err != nil {
				if os.Getenv("CI") == "true" {
					t.Fatal(err)
				}
				t.Skipf("%s is not installed: nothing to compare with", command[0])
			}
			cmd := exec.Command(command[0], command[1:]...)
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			if err := cmd.Run(); err != nil {
				t.Fatalf("%v\n%s", err, stderr.String())
			}
			for line := range strings.Lines(stderr.String()) {
				// Both are said of every healthy file: tcpdump names what it reads, tshark who runs it.
				if !strings.HasPrefix(line, "reading from file") && !strings.HasPrefix(line, "Running as user") {
					t.Errorf("it says: %s", line)
				}
			}
			switch command[0] {
			case "capinfos":
				for _, want := range []string{"nanosecond pcap", "Ethernet", "Number of packets:   50", "262144 bytes"} {
					if !strings.Contains(stdout.String(), want) {
						t.Errorf("no %q in:\n%s", want, stdout.String())
					}
				}
			default:
				if n := strings.Count(stdout.String(), "\n"); n < 50 {
					t.Errorf("%d lines for 50 packets", n)
				}
			}
		})
	}
}

func TestNames(t *testing.T) {
	digest := strings.Repeat("0af9", 16)
	tests := []struct {
		reason, name, digest string
		seq                  int
		ok                   bool
	}{
		{"open", OpenName(7), "", 7, true},
		{"sealed", SealedName(123456, digest), digest, 123456, true},
		{"with a folder", "/var/lib/flashtap/segments/" + SealedName(1, digest), digest, 1, true},
		{"numbers count from 1", OpenName(0), "", 0, false},
		{"digest too short", "000001-0af9.pcap", "", 0, false},
		{"upper-case digest", SealedName(1, strings.ToUpper(digest)), "", 0, false},
		{"something else", "journal.jsonl", "", 0, false},
		{"seven digits", OpenName(1000000), "", 0, false},
	}
	for _, test := range tests {
		t.Run(test.reason, func(t *testing.T) {
			seq, got, ok := ParseName(test.name)
			if seq != test.seq || got != test.digest || ok != test.ok {
				t.Errorf("%d %q %t, want %d %q %t", seq, got, ok, test.seq, test.digest, test.ok)
			}
		})
	}
}

// series runs a writer and collects what it seals.
type series struct {
	t        *testing.T
	w        *Writer
	dir      string
	n        int
	files    []File
	troubles []error
	mu       sync.Mutex
	done     chan error
}

func start(t *testing.T, cfg Config) *series {
	t.Helper()
	s := &series{t: t, dir: t.TempDir(), done: make(chan error, 1)}
	cfg.Dir = s.dir
	cfg.Sealed = func(f File) { s.files = append(s.files, f) }
	cfg.Trouble = func(err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.troubles = append(s.troubles, err)
	}
	s.w = NewWriter(cfg)
	go func() { s.done <- s.w.Run(context.Background()) }()
	return s
}

// write adds the next frame, one millisecond after the last. A disk that refuses is what some tests are about; what
// it cost is told by Counts.
func (s *series) write(frame []byte, origLen int) {
	s.t.Helper()
	at := base.Add(time.Duration(s.n) * time.Millisecond).UnixNano()
	s.n++
	s.w.Write(at, frame, origLen)
}

// settle waits until every frame is in a file, or lost.
func (s *series) settle() {
	s.t.Helper()
	s.w.Flush()
	accepted, _ := s.w.Accepted()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		c := s.w.Counts()
		if c.Written+c.Lost == accepted {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%d frames given, %+v after ten seconds", accepted, c)
		}
	}
}

// told is how many troubles were told.
func (s *series) told() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.troubles)
}

func (s *series) stop() []File {
	s.t.Helper()
	s.w.Close()
	if err := <-s.done; err != nil {
		s.t.Fatalf("seal: %v", err)
	}
	return s.files
}

// testFrame is an IPv4 frame of n bytes that tells by its bytes which one it is.
func testFrame(i, n int) []byte {
	frame := make([]byte, n)
	copy(frame, []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00, 0x45, 0, byte((n - 14) >> 8), byte(n - 14)})
	if n >= 60 {
		copy(frame[22:], []byte{64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0x30, 0x39, 0x30, 0x3a, byte((n - 34) >> 8), byte(n - 34)})
		copy(frame[42:], fmt.Sprintf("frame %d", i))
	}
	return frame
}

// limitFileSize lets no file of this process grow past limit, until the returned function is called.
func limitFileSize(t *testing.T, limit uint64) func() {
	t.Helper()
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	lift := sync.OnceFunc(func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(lift)
	return lift
}

// checkFile compares a sealed file with what is said of it.
func checkFile(t *testing.T, f File) {
	t.Helper()
	data, err := os.ReadFile(f.Path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	if hex.EncodeToString(sum[:]) != f.SHA256 || int64(len(data)) != f.Bytes {
		t.Errorf("segment %d: %d bytes with another digest or length than %d", f.Seq, len(data), f.Bytes)
	}
	if n := len(readPcap(t, f.Path)); uint64(n) != f.Packets {
		t.Errorf("segment %d: %d packets, want %d", f.Seq, n, f.Packets)
	}
}

type packet struct {
	at      time.Time
	data    []byte
	origLen int
}

func readPcap(t *testing.T, path string) []packet {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r, err := pcapgo.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	var packets []packet
	for {
		data, info, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return packets
		}
		if err != nil {
			t.Fatal(err)
		}
		packets = append(packets, packet{info.Timestamp, data, info.Length})
	}
}

func dirNames(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
