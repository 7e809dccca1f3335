package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"flashtap/testutil/bench/traffic"
	"flashtap/testutil/bench/verify"
)

// smallDisk is a file system of that many bytes for files and one folder.
func smallDisk(t *testing.T, size int64, files int) (dir string) {
	t.Helper()
	dir = t.TempDir()
	options := fmt.Sprintf("mode=0700,size=%d,nr_inodes=%d", size, files+2)
	if err := unix.Mount("flashtap-test", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		t.Fatalf("mount a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount the small disk: %v", err)
		}
	})
	return dir
}

// ballast takes room on a disk, and returns what gives it back.
func ballast(t *testing.T, dir string, bytes int64) (throw func(*testing.T)) {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	if err := os.WriteFile(path, make([]byte, bytes), 0o600); err != nil {
		t.Fatal(err)
	}
	return func(t *testing.T) {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

func human(bytes int64) string { n := size(bytes); return n.String() }

// A disk that runs full costs what arrives while it is, and nothing else. That is counted and declared, and the
// capture goes on once there is room again.
func TestLiveAFullDiskIsAGapThatIsDeclared(t *testing.T) {
	w := newWire(t)
	g := w.generator(func(p *traffic.Plan) { p.Sizes = []int{1400} })
	const (
		record     = 16 + 1400
		disk       = 48 << 20
		taken      = 24 << 20
		keep       = 8 << 20
		segment    = 10 << 20
		room       = disk - taken - keep
		tooMany    = 2 * room / record
		afterwards = 5000
	)
	rate, _ := modest(20_000, 0)
	for _, c := range []struct {
		reason string
		args   []string
		disk   func(*testing.T) (dir string, relieve func(*testing.T))
		least  int64 // bytes that are used before there is a gap
		says   string
	}{
		{"the space that is to be left free", []string{"--leave-free", human(keep), "--reserve", human(segment)}, func(t *testing.T) (string, func(*testing.T)) {
			dir := smallDisk(t, disk, 1000)
			return dir, ballast(t, dir, taken)
		}, room - 2<<20, "disk full: genuine frames are not written"},
		{"a disk that has no room for another file", []string{"--leave-free", "0", "--reserve", "0"}, func(t *testing.T) (string, func(*testing.T)) {
			dir := smallDisk(t, disk, 1)
			return dir, func(t *testing.T) {
				if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_NOSUID|unix.MS_NODEV, "nr_inodes=1000"); err != nil {
					t.Fatal(err)
				}
			}
		}, segment - 2<<20, "no space left on device"},
	} {
		t.Run(c.reason, func(t *testing.T) {
			root, relieve := c.disk(t)
			col := w.capture(t, asRoot, filepath.Join(root, "capture"), append(c.args, "--segment-bytes", human(segment))...)
			w.send(g, 0, tooMany, rate)
			relieve(t)
			time.Sleep(1500 * time.Millisecond) // until it has looked again
			w.send(g, tooMany, afterwards, rate)
			m := col.stop()
			tally := m.Tally
			const sent = tooMany + afterwards
			if tally.Received != sent || tally.Written+tally.Unwritten != sent || tally.Unwritten == 0 || tally.Lost() != tally.Unwritten || m.Complete {
				t.Errorf("%d were sent; complete: %t, %+v", sent, m.Complete, tally)
			}
			if !strings.Contains(said(m), c.says) {
				t.Errorf("the manifest does not declare %q:\n%s", c.says, said(m))
			}
			col.agrees(m)
			v := verify.New(verify.Options{Traffic: g})
			if err := v.AddPath(col.dir); err != nil {
				t.Fatal(err)
			}
			d := v.Verdict(sent)
			if d.Lost != tally.Unwritten || d.Intact != tally.Written || d.Duplicate+d.Corrupt+d.Truncated+d.Merged+d.Foreign+d.Reordered != 0 || len(d.Damaged) != 0 {
				t.Errorf("%+v: %s", tally, d)
			}
			if v.Verdict(tooMany).Lost != d.Lost {
				t.Errorf("frames are missing that came when there was room again: %s, of the first %d %s", d, tooMany, v.Verdict(tooMany))
			}
			before := uint64(0) // frames, up to the first that is missing
			for v.Verdict(before+1000).Lost == 0 {
				before += 1000
			}
			t.Logf("%d MiB were used before the first gap, of %d frames in all", before*record>>20, tally.Unwritten)
			if int64(before*record) < c.least {
				t.Errorf("%d bytes were written before the gap, although there was room for %d", before*record, c.least)
			}
		})
	}
}
