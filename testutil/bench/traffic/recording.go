package traffic

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"time"
)

// Recording says how traffic is written as a pcap. The zero value is whole packets, a million a second, with
// nanoseconds in little-endian order.
type Recording struct {
	First        uint64 // number of the first frame
	Inner        bool   // frames without what carried them
	Rate         float64
	Start        time.Time
	Microseconds bool
	BigEndian    bool
}

// WriteFile writes n frames as a pcap file.
func (g *Generator) WriteFile(path string, n uint64, r Recording) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	err = g.Write(f, n, r)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// Write writes n frames as a pcap stream.
func (g *Generator) Write(w io.Writer, n uint64, r Recording) error {
	if r.Rate == 0 {
		r.Rate = 1e6
	}
	if r.Start.IsZero() {
		r.Start = time.Unix(1_700_000_000, 0)
	}
	order := binary.ByteOrder(binary.LittleEndian)
	if r.BigEndian {
		order = binary.BigEndian
	}
	magic, tick := uint32(0xa1b23c4d), int64(1)
	if r.Microseconds {
		magic, tick = 0xa1b2c3d4, 1000
	}
	out := bufio.NewWriterSize(w, 1<<20)
	var header [24]byte
	order.PutUint32(header[:], magic)
	order.PutUint16(header[4:], 2)
	order.PutUint16(header[6:], 4)
	order.PutUint32(header[16:], 1<<18)
	order.PutUint32(header[20:], 1)
	if _, err := out.Write(header[:]); err != nil {
		return err
	}
	var buffers [Patterns]Buffer
	for i := range n {
		number := r.First + i
		at := r.Start.UnixNano() + int64(float64(i)*1e9/r.Rate)
		build := g.Packet
		if r.Inner {
			build = g.Frame
		}
		data := build(&buffers[number%Patterns], number, at)
		order.PutUint32(header[:], uint32(at/1e9))
		order.PutUint32(header[4:], uint32(at%1e9/tick))
		order.PutUint32(header[8:], uint32(len(data)))
		order.PutUint32(header[12:], uint32(len(data)))
		if _, err := out.Write(header[:16]); err != nil {
			return err
		}
		if _, err := out.Write(data); err != nil {
			return err
		}
	}
	return out.Flush()
}
