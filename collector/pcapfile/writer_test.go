package pcapfile

import (
	"bytes"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"flashtap/collector/segment"
)

func TestWriterAndReaderAgree(t *testing.T) {
	want := sampleRecords()
	var file bytes.Buffer
	w := NewWriter(&file)
	for i, r := range want {
		if err := w.Write(r.At, r.Data, r.Wire); err != nil {
			t.Fatal(err)
		}
		if i == 20 {
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Flush(); err != nil || w.Written() != int64(file.Len()) {
		t.Fatalf("%v; %d bytes written, %d there", err, w.Written(), file.Len())
	}
	if expected := pcapFile(variants[1], 1, want...); !bytes.Equal(file.Bytes(), expected) {
		t.Fatalf("%d bytes, want %d", file.Len(), len(expected))
	}
	got, err := readAll(&file)
	if err != io.EOF {
		t.Fatal(err)
	}
	same(t, got, want)
}

// A file of the writer is what the collector writes as a segment.
func TestWriterWritesSegments(t *testing.T) {
	if SnapLen != segment.SnapLen {
		t.Error("segments have another snaplen")
	}
	var file bytes.Buffer
	w := NewWriter(&file)
	for i := range 3 {
		if err := w.Write(1_600_000_000_123_456_789+int64(i), bytes.Repeat([]byte{byte(i)}, 60), 100); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), segment.OpenName(1))
	if err := os.WriteFile(path, file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	f, cut, err := segment.Recover(path)
	if err != nil || cut != 0 || f.Bytes != int64(file.Len()) {
		t.Errorf("as a segment: %+v, %d bytes cut, %v", f, cut, err)
	}
	r, err := pcapgo.NewReader(&file)
	if err != nil || r.LinkType() != layers.LinkTypeEthernet || r.Snaplen() != SnapLen {
		t.Fatalf("as gopacket reads it: %v, %v", r, err)
	}
	if _, info, err := r.ReadPacketData(); err != nil || info.Timestamp.UnixNano() != 1_600_000_000_123_456_789 || info.Length != 100 || info.CaptureLength != 60 {
		t.Errorf("%+v, %v", info, err)
	}
}

func TestWriterRefusesTimesThatPcapCannotSay(t *testing.T) {
	var file bytes.Buffer
	w := NewWriter(&file)
	for _, at := range []int64{-1, math.MinInt64, (math.MaxUint32 + 1) * 1e9, math.MaxInt64} {
		if w.Write(at, nil, 0) == nil {
			t.Errorf("%d ns is written", at)
		}
	}
	for _, at := range []int64{0, (math.MaxUint32+1)*1e9 - 1} {
		if err := w.Write(at, nil, 0); err != nil {
			t.Errorf("%d ns: %v", at, err)
		}
	}
	if err := w.Flush(); err != nil || file.Len() != 24+2*16 {
		t.Errorf("%v; %d bytes", err, file.Len())
	}
}

// full is a disk with room for so many bytes.
type full int

var errFull = errors.New("no space left on device")

func (f *full) Write(p []byte) (int, error) {
	n := min(len(p), int(*f))
	*f -= full(n)
	if n < len(p) {
		return n, errFull
	}
	return n, nil
}

func TestWriterSaysThatTheDiskIsFull(t *testing.T) {
	disk := full(writeChunk + 100)
	w := NewWriter(&disk)
	var err error
	for i := 0; err == nil && i < 10_000; i++ {
		err = w.Write(0, make([]byte, 1000), 1000)
	}
	if !errors.Is(err, errFull) || !errors.Is(w.Flush(), errFull) || w.Written() != writeChunk+100 {
		t.Errorf("%v, then %v; %d bytes written", err, w.Flush(), w.Written())
	}
}
