// Package verify judges recordings of numbered traffic: it makes every expected frame again and compares each byte.
package verify

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"flashtap/testutil/bench/traffic"
)

// Options say what a recording should hold.
type Options struct {
	Traffic *traffic.Generator
	First   uint64   // number of the first frame
	VNIs    []uint32 // of the frames that are wanted; none: all. A frame of another is not expected, and wrong when it is there
}

// Verdict is what recordings hold. The zero value of each fault is good news.
type Verdict struct {
	Files   int    `json:"files"`
	Records uint64 `json:"records"`
	Intact  uint64 `json:"intact"` // frames that are there byte for byte, each counted once
	Outer   uint64 `json:"outer"`  // records still in VXLAN
	Bytes   uint64 `json:"bytes"`  // of intact frames
	OnDisk  int64  `json:"onDisk"` // bytes of the files

	Lost            uint64   `json:"lost"` // expected frames of which there is no intact record, whatever else there is of them
	Duplicate       uint64   `json:"duplicate"`
	Corrupt         uint64   `json:"corrupt"`         // ours, with other bytes
	Truncated       uint64   `json:"truncated"`       // ours, cut
	Merged          uint64   `json:"merged"`          // records made of several frames
	MergedFrames    uint64   `json:"mergedFrames"`    // the frames in them
	Foreign         uint64   `json:"foreign"`         // not ours
	WrongVNI        uint64   `json:"wrongVni"`        // intact, but of a VNI that is not wanted
	Reordered       uint64   `json:"reordered"`       // after a later one
	ReorderedInFlow uint64   `json:"reorderedInFlow"` // after a later one of the same flow, which shares its receive queue
	StampsBack      uint64   `json:"stampsBack"`      // with an earlier time than the record before
	Damaged         []string `json:"damaged,omitempty"`

	Tick   float64           `json:"tickNs"` // how fine the timestamps are; the coarsest file counts
	PerVNI map[uint32]uint64 `json:"perVni,omitempty"`
	// Delay is from the time of sending to the record's timestamp, in microseconds, of a sample.
	Delay Percentiles `json:"delayUs"`
}

// Percentiles are of a sample.
type Percentiles struct {
	Min    float64 `json:"min"`
	Median float64 `json:"p50"`
	P99    float64 `json:"p99"`
	Max    float64 `json:"max"`
}

// Whole says whether every expected frame is there once, in its flow's order, and nothing else.
func (v Verdict) Whole() bool {
	return v.Lost+v.Duplicate+v.Corrupt+v.Truncated+v.Merged+v.Foreign+v.WrongVNI+v.ReorderedInFlow == 0 && len(v.Damaged) == 0
}

// String is one line for a person.
func (v Verdict) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d frames intact", v.Intact)
	for _, c := range []struct {
		n    uint64
		what string
	}{
		{v.Lost, "lost"}, {v.Duplicate, "duplicate"}, {v.Corrupt, "corrupt"}, {v.Truncated, "truncated"}, {v.Foreign, "foreign"},
		{v.WrongVNI, "of a wrong VNI"}, {v.Reordered, "reordered"}, {v.ReorderedInFlow, "reordered within their flow"},
		{v.StampsBack, "timestamps going back"},
	} {
		if c.n > 0 {
			fmt.Fprintf(&b, ", %d %s", c.n, c.what)
		}
	}
	if v.Merged > 0 {
		fmt.Fprintf(&b, ", %d merged into %d records", v.MergedFrames, v.Merged)
	}
	for _, d := range v.Damaged {
		fmt.Fprintf(&b, "; %s", d)
	}
	return b.String()
}

// Verify judges files, and folders of them, which should hold n frames. It reads them as a stream, in the order of
// their names, where segment 10 comes after segment 9. An error means that something could not be read at all; a file
// that is no good is in Verdict.Damaged.
func Verify(paths []string, n uint64, opts Options) (Verdict, error) {
	v := New(opts)
	for _, path := range paths {
		if err := v.AddPath(path); err != nil {
			return v.Verdict(n), err
		}
	}
	return v.Verdict(n), nil
}

// AddPath judges a file or a folder.
func (v *Verifier) AddPath(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	if !info.IsDir() {
		return v.AddFile(path)
	}
	files, err := Recordings(path)
	if err != nil {
		return fmt.Errorf("verify %s: %w", path, err)
	}
	for _, file := range files {
		if err := v.AddFile(file); err != nil {
			return err
		}
	}
	return nil
}

// AddFile judges one file.
func (v *Verifier) AddFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil {
		v.verdict.OnDisk += info.Size()
	}
	v.verdict.Files++
	tick, err := v.scanner.scan(f, v.record)
	v.verdict.Tick = max(v.verdict.Tick, tick)
	var failure *fs.PathError
	if errors.As(err, &failure) {
		return fmt.Errorf("verify: %w", err)
	}
	if err != nil {
		v.verdict.Damaged = append(v.verdict.Damaged, filepath.Base(path)+": "+err.Error())
	}
	return nil
}

// Recordings are the files under a folder with .pcap in their names, in natural order. Hidden ones are not finished.
func Recordings(dir string) (files []string, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		name := filepath.Base(path)
		if err == nil && d.Type().IsRegular() && strings.Contains(name, ".pcap") && !strings.HasPrefix(name, ".") {
			files = append(files, path)
		}
		return err
	})
	slices.SortFunc(files, natural)
	return files, err
}

// natural compares names, and the numbers in them as numbers.
func natural(a, b string) int {
	for a != "" && b != "" {
		x, y := digits(a), digits(b)
		if x == 0 || y == 0 {
			if a[0] != b[0] {
				return cmp.Compare(a[0], b[0])
			}
			a, b = a[1:], b[1:]
			continue
		}
		m, n := strings.TrimLeft(a[:x], "0"), strings.TrimLeft(b[:y], "0")
		if c := cmp.Or(cmp.Compare(len(m), len(n)), cmp.Compare(m, n)); c != 0 {
			return c
		}
		a, b = a[x:], b[y:]
	}
	return cmp.Compare(len(a), len(b))
}

// digits is how many digits a text begins with.
func digits(s string) int {
	return len(s) - len(strings.TrimLeft(s, "0123456789"))
}
