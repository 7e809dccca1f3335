package segment

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Wherever a crash cuts an open segment, the whole records before the cut are sealed and nothing else.
func TestRecoverAtEveryCut(t *testing.T) {
	data, bounds := openSegment(t, 4)
	dir := t.TempDir()
	path := filepath.Join(dir, OpenName(3))
	for cut := range len(data) + 1 {
		if err := os.WriteFile(path, data[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		whole := 0
		for whole+1 < len(bounds) && bounds[whole+1] <= cut {
			whole++
		}
		f, dropped, err := Recover(path)
		if whole == 0 {
			if !errors.Is(err, ErrEmpty) {
				t.Fatalf("cut at %d: error %v, want ErrEmpty", cut, err)
			}
			if names := dirNames(t, dir); len(names) != 0 {
				t.Fatalf("cut at %d: %v is left", cut, names)
			}
			continue
		}
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		if f.Seq != 3 || !f.Recovered || int(f.Packets) != whole || f.Bytes != int64(bounds[whole]) || dropped != int64(cut-bounds[whole]) {
			t.Fatalf("cut at %d: %+v, %d bytes dropped; want %d packets", cut, f, dropped, whole)
		}
		checkFile(t, f)
		got, err := os.ReadFile(f.Path)
		if err != nil || !bytes.Equal(got, data[:bounds[whole]]) {
			t.Fatalf("cut at %d: other bytes than were written (%v)", cut, err)
		}
		if again, err := Inspect(f.Path); err != nil || again.Packets != f.Packets || again.SHA256 != f.SHA256 || !again.Last.Equal(f.Last) {
			t.Fatalf("cut at %d: inspected as %+v, %v", cut, again, err)
		}
		if err := os.Remove(f.Path); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRecoverFromDamage(t *testing.T) {
	data, bounds := openSegment(t, 12)
	tests := []struct {
		reason string
		damage func([]byte) []byte
		want   int // packets
		err    error
	}{
		{"zeros behind a lost page", func(b []byte) []byte { clear(b[bounds[7]:]); return b }, 7, nil},
		{"a timestamp with too many nanoseconds", func(b []byte) []byte { b[bounds[4]+7] = 0xff; return b }, 4, nil},
		{"a record longer than the snap length", func(b []byte) []byte { b[bounds[5]+10] = 0xff; return b }, 5, nil},
		{"a record longer than it was on the wire", func(b []byte) []byte { b[bounds[5]+12], b[bounds[5]+13] = 1, 0; return b }, 5, nil},
		{"a record too short for a frame", func(b []byte) []byte { b[bounds[5]+8], b[bounds[5]+9] = 13, 0; return b }, 5, nil},
		{"zeros from the start", func(b []byte) []byte { clear(b); return b }, 0, ErrForeign},
		{"another file altogether", func([]byte) []byte { return []byte("#!/bin/sh\necho nothing of ours\n") }, 0, ErrForeign},
		{"a short file that is not ours", func([]byte) []byte { return []byte("hi") }, 0, ErrForeign},
		{"an empty file", func([]byte) []byte { return nil }, 0, ErrEmpty},
	}
	for _, test := range tests {
		t.Run(test.reason, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), OpenName(1))
			damaged := test.damage(bytes.Clone(data))
			if err := os.WriteFile(path, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			f, cut, err := Recover(path)
			if !errors.Is(err, test.err) || int(f.Packets) != test.want {
				t.Fatalf("%d packets, %v; want %d, %v", f.Packets, err, test.want, test.err)
			}
			if errors.Is(err, ErrForeign) {
				if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, damaged) {
					t.Error("a file that is not ours was touched")
				}
			}
			if err == nil {
				checkFile(t, f)
				if cut != int64(len(damaged))-f.Bytes {
					t.Errorf("%d bytes dropped, want %d", cut, int64(len(damaged))-f.Bytes)
				}
			}
		})
	}
}

func TestRecoverAndInspectWantTheirOwnNames(t *testing.T) {
	if _, _, err := Recover(filepath.Join(t.TempDir(), "notes.txt")); err == nil {
		t.Error("recovered a file that is no open segment")
	}
	if _, err := Inspect(filepath.Join(t.TempDir(), OpenName(1))); err == nil {
		t.Error("inspected an open segment as a sealed one")
	}
	s := start(t, Config{MaxBytes: 1 << 20, MaxAge: time.Hour})
	s.write(testFrame(0, 100), 100)
	f := s.stop()[0]
	data, err := os.ReadFile(f.Path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-1] ^= 1
	if err := os.WriteFile(f.Path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Inspect(f.Path); err == nil {
		t.Error("a changed byte was not noticed")
	}
}

// What Run could not seal before its context ended stays open, and Recover seals it as Run would have.
func TestRunThatCannotSealLeavesTheSegmentOpen(t *testing.T) {
	dir := t.TempDir()
	w := NewWriter(Config{Dir: dir, MaxBytes: 1 << 20, MaxAge: time.Hour})
	moved := filepath.Join(filepath.Dir(dir), "moved")
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	w.Write(base.UnixNano(), testFrame(0, 100), 100)
	w.Flush()
	for w.Counts().Written == 0 {
		time.Sleep(time.Millisecond)
	}
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	cancel()
	w.Close()
	if err := <-ended; !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("error %v, want one that names the rename", err)
	}
	f, cut, err := Recover(filepath.Join(moved, OpenName(1)))
	if err != nil || cut != 0 || f.Packets != 1 {
		t.Fatalf("%+v, %d bytes dropped, %v", f, cut, err)
	}
	checkFile(t, f)
}

func FuzzRecover(f *testing.F) {
	data, bounds := openSegment(f, 4)
	f.Add([]byte(nil))
	f.Add(data)
	f.Add(data[:bounds[2]+5])
	f.Add(append(bytes.Clone(data), make([]byte, 64)...))
	f.Add(bytes.Repeat([]byte{0xff}, 100))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(dir, OpenName(1))
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		got, cut, err := Recover(path)
		if err != nil {
			if !errors.Is(err, ErrEmpty) && !errors.Is(err, ErrForeign) {
				t.Fatal(err)
			}
			if wholeRecords(data[min(len(data), fileHeaderLen):]).packets > 0 && bytes.HasPrefix(data, fileHeader) {
				t.Fatalf("there are whole records, but: %v", err)
			}
			return
		}
		defer os.Remove(got.Path)
		kept, err := os.ReadFile(got.Path)
		if err != nil || !bytes.HasPrefix(data, kept) || int64(len(data)) != int64(len(kept))+cut {
			t.Fatalf("kept %d of %d bytes, %d dropped (%v)", len(kept), len(data), cut, err)
		}
		checkFile(t, got)
		if _, err := Inspect(got.Path); err != nil {
			t.Fatal(err)
		}
	})
}

// openSegment is the content of a segment of n packets, and where its records end: bounds[i] is behind packet i.
func openSegment(t testing.TB, n int) (data []byte, bounds []int) {
	t.Helper()
	data = bytes.Clone(fileHeader)
	bounds = append(bounds, len(data))
	for i := range n {
		data = appendRecord(data, base.UnixNano()+int64(i), testFrame(i, 60+20*i), 400)
		bounds = append(bounds, len(data))
	}
	return data, bounds
}

// appendRecord adds one frame that arrived at (nanoseconds since 1970) to buf: the format once more, in the plainest way.
func appendRecord(buf []byte, at int64, frame []byte, origLen int) []byte {
	buf = binary.LittleEndian.AppendUint32(buf, uint32(at/1e9))
	buf = binary.LittleEndian.AppendUint32(buf, uint32(at%1e9))
	buf = binary.LittleEndian.AppendUint32(buf, uint32(len(frame)))
	buf = binary.LittleEndian.AppendUint32(buf, uint32(origLen))
	return append(buf, frame...)
}
