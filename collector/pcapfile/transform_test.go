package pcapfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
)

// Transform does what a loop of Next and Write does, whatever is read and however little room there is.
func TestTransformIsNextAndWrite(t *testing.T) {
	records := sampleRecords()
	odd := Record{At: 5, Data: []byte("its nanoseconds are more than a second"), Wire: 99}
	files := map[string][]byte{"no records": pcapFile(variants[1], 1)}
	for _, v := range variants {
		file := pcapFile(v, 113, append(records, odd)...)
		v.order.AppendUint32(file[:len(file)-len(odd.Data)-12], 4_000_000_000)
		files[v.name] = file
	}
	ng := newNG(binary.LittleEndian).section().iface(1, 0)
	for _, r := range records {
		ng.packet(0, uint64(r.At/1000), string(r.Data), r.Wire)
	}
	files["pcapng"] = ng.bytes
	for name, file := range files {
		for _, source := range []io.Reader{bytes.NewReader(file), &portions{file: file, sizes: []int{65536, 1, 1000}}} {
			turn := 0
			each := func(data []byte, wire int, link LinkType) ([]byte, int, bool) {
				turn++
				return data[min(len(data), 3):], wire + int(link), turn%7 != 0
			}
			var got, want bytes.Buffer
			r, err := NewReader(source)
			if err != nil {
				t.Fatal(err)
			}
			w := NewWriter(&got)
			if err := Transform(w, r, each); err != io.EOF {
				t.Fatalf("%s: %v", name, err)
			}
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
			transformed := turn
			if r.Records() != uint64(transformed) || r.Offset() != int64(len(file)) {
				t.Errorf("%s: %d records at byte %d, want %d at %d", name, r.Records(), r.Offset(), transformed, len(file))
			}
			all, err := readAll(bytes.NewReader(file))
			if err != io.EOF || len(all) != transformed {
				t.Fatalf("%s: %d records transformed of %d, %v", name, transformed, len(all), err)
			}
			turn = 0
			w = NewWriter(&want)
			for _, rec := range all {
				if frame, wire, keep := each(rec.Data, rec.Wire, rec.Link); keep {
					if err := w.Write(rec.At, frame, wire); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), want.Bytes()) {
				t.Errorf("%s: %d bytes, want %d", name, got.Len(), want.Len())
			}
		}
	}
}

func TestTransformHandsOnErrors(t *testing.T) {
	keep := func(data []byte, wire int, _ LinkType) ([]byte, int, bool) { return data, wire, true }
	file := pcapFile(variants[1], 1, sampleRecords()...)
	r, err := NewReader(bytes.NewReader(file[:len(file)-1]))
	if err != nil {
		t.Fatal(err)
	}
	var damage *Error
	if err := Transform(NewWriter(io.Discard), r, keep); !errors.As(err, &damage) || !damage.Truncated {
		t.Errorf("a file that is cut off: %v", err)
	}
	early := newNG(binary.LittleEndian).section()
	early.iface(1, 0, early.option(14, early.numbers(^uint64(0)))).packet(0, 1_000_000, "1970", 4).packet(0, 999_999, "1969", 4)
	if r, err = NewReader(bytes.NewReader(early.bytes)); err != nil {
		t.Fatal(err)
	}
	seen := 0
	err = Transform(NewWriter(io.Discard), r, func(data []byte, wire int, _ LinkType) ([]byte, int, bool) { seen++; return data, wire, true })
	if err == nil || err.Error() != "record 2: its time, -1000 ns after 1970, is not within what pcap can say" || seen != 1 {
		t.Errorf("a time before 1970, after %d records: %v", seen, err)
	}
	if r, err = NewReader(bytes.NewReader(file)); err != nil {
		t.Fatal(err)
	}
	disk := full(writeChunk)
	if err := Transform(NewWriter(&disk), r, keep); !errors.Is(err, errFull) {
		t.Errorf("a full disk: %v", err)
	}
}
