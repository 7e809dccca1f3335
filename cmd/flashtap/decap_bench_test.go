package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"testing"

	"flashtap/collector/pcapfile"
	"flashtap/collector/vxlan"
)

// BenchmarkDecap is what decap does for a packet, without the disk: a stream of datagrams is read again and again.
func BenchmarkDecap(b *testing.B) {
	frame := make([]byte, 50+300)
	copy(frame[12:], []byte{0x08, 0x00, 0x45, 0, 1, 80, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 1, 2, 3, 10, 9, 8, 7,
		0xc3, 0x50, 0x12, 0xb5, 1, 60, 0, 0, 0x08, 0, 0, 0, 0, 0, 42, 0})
	var file bytes.Buffer
	w := pcapfile.NewWriter(&file)
	const packets = 500
	for i := range packets {
		if err := w.Write(int64(i), frame, len(frame)); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		b.Fatal(err)
	}
	source := &again{file: file.Bytes(), header: 24, left: b.N/packets + 1}
	d := decapsulation{decapOptions: decapOptions{port: vxlan.Port}, ctx: context.Background(), progress: &decapProgress{},
		in: &input{Reader: source, info: regular{}}}
	reader, err := d.open()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	if err := d.run(reader, noClose{io.Discard}); err != nil || d.tally.Written < uint64(b.N) {
		b.Fatal(err, d.tally)
	}
}

// again is a capture file whose records come again and again.
type again struct {
	file   []byte
	header int // bytes that come only once
	at     int
	left   int // how often they come
}

func (a *again) Read(p []byte) (int, error) {
	if a.left == 0 {
		return 0, io.EOF
	}
	n := copy(p, a.file[a.at:])
	if a.at += n; a.at == len(a.file) {
		a.at = a.header
		a.left--
	}
	return n, nil
}

// regular is what is known of a file on a disk.
type regular struct{ os.FileInfo }

func (regular) Mode() os.FileMode { return 0 }

// noClose is where frames go in tests.
type noClose struct{ io.Writer }

func (noClose) Close() error { return nil }
