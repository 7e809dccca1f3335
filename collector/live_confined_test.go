package main

import (
	"debug/buildinfo"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"flashtap/testutil/bench/traffic"
)

// static skips the test when the collector was built with cgo, where it can't give up anything. None that ships was.
func static(t *testing.T) {
	t.Helper()
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range info.Settings {
		switch {
		case s.Key != "CGO_ENABLED" || s.Value == "0":
		case os.Getenv("CI") == "true" && !raceEnabled:
			t.Fatal("CI must test a collector without cgo, as it ships")
		default:
			t.Skip("a collector with cgo keeps its privileges; set CGO_ENABLED=0, as the Makefile does")
		}
	}
}

// powersGone checks every thread of a process: no capabilities, no new ones, and a filter of its system calls.
func powersGone(t *testing.T, pid int) {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(threads) < 2 {
		t.Fatalf("threads of %d: %v, %v", pid, threads, err)
	}
	const none = "0000000000000000"
	for _, path := range threads {
		status, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			continue // the thread has just ended
		}
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for line := range strings.SplitSeq(string(status), "\n") {
			name, value, _ := strings.Cut(line, ":")
			got[name] = strings.TrimSpace(value)
		}
		for name, want := range map[string]string{
			"CapEff": none, "CapPrm": none, "CapInh": none, "CapAmb": none, "CapBnd": none, "NoNewPrivs": "1", "Seccomp": "2",
		} {
			if got[name] != want {
				t.Errorf("%s: %s is %s, want %s", path, name, got[name], want)
			}
		}
	}
}

// descriptors is how many files and sockets a process has open.
func descriptors(t *testing.T, pid int) int {
	t.Helper()
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(open)
}

// While it captures, a collector has no privileges left, although it was started by root; and it opens no more files
// in the long run than it closes.
func TestLiveACapturingCollectorIsConfined(t *testing.T) {
	static(t)
	w := newWire(t)
	g := w.generator(func(p *traffic.Plan) { p.Sizes = []int{1400} })
	for _, receiver := range []string{"ring", "socket"} {
		t.Run(receiver, func(t *testing.T) {
			col := w.capture(t, asRoot, t.TempDir(), "--receiver", receiver, "--segment-bytes", "1MiB")
			powersGone(t, col.PID)
			const rounds, each = 10, 4000 // five segments a round
			var counts []int
			for i := range uint64(rounds) {
				w.send(g, i*each, each, 40_000)
				counts = append(counts, descriptors(t, col.PID))
			}
			powersGone(t, col.PID) // also the threads that came since
			m := col.stop()
			col.whole(m, g, rounds*each)
			t.Logf("%d segments; open files after each round: %v", len(m.Segments), counts)
			level(t, counts)
		})
	}
}

// level checks that a count does not grow by more than what comes and goes with what is on its way.
func level(t *testing.T, counts []int) {
	t.Helper()
	const slack = 6
	if first, last := counts[0], counts[len(counts)-1]; last > first+slack {
		t.Errorf("open files grow: %v", counts)
	}
}
