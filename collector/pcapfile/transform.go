package pcapfile

import (
	"encoding/binary"
	"fmt"
)

// Transformer makes one record of another: of data, which was wire bytes long when it was captured on a link of that
// type, a frame of which the same holds. A frame is never longer than its data. What is not to be kept leaves nothing.
type Transformer func(data []byte, wire int, link LinkType) (frame []byte, frameWire int, keep bool)

// Transform writes what each makes of the records of a file, one after the other and at their times, until the file ends.
// It then returns io.EOF, or the error that Next or Write had. A record whose time can't be written ends it before each has
// seen it. It is a loop of Next and Write, without their cost for each record: all buffers stay at hand.
func Transform(w *Writer, r *Reader, each Transformer) error {
	for {
		if r.plain {
			r.transformBuffered(w, each)
		}
		rec, err := r.Next()
		if err != nil {
			return err
		}
		if err := checkTime(rec.At); err != nil {
			return fmt.Errorf("record %d: %w", r.records, err)
		}
		if frame, wire, keep := each(rec.Data, rec.Wire, rec.Link); keep {
			if err := w.Write(rec.At, frame, wire); err != nil {
				return err
			}
		}
	}
}

// transformBuffered is Transform for the records of a little-endian pcap file that are whole in the buffer of r, as far
// as the buffer of w has room for them. What it leaves is for Next and Write.
func (r *Reader) transformBuffered(w *Writer, each Transformer) {
	in, out := r.buf[r.start:r.end], w.buf[w.used:]
	records := uint64(0)
	for len(in) >= recordHeaderLen {
		h := (*[recordHeaderLen]byte)(in)
		seconds, nanos := binary.LittleEndian.Uint32(h[0:]), uint64(binary.LittleEndian.Uint32(h[4:]))*uint64(r.pcap.unit)
		length, wire := binary.LittleEndian.Uint32(h[8:]), binary.LittleEndian.Uint32(h[12:])
		whole := recordHeaderLen + int(length)
		if len(in) < whole || len(out) < whole || nanos >= 1e9 {
			break
		}
		frame, frameWire, keep := each(in[recordHeaderLen:whole], int(max(length, wire)), r.pcap.link)
		if keep {
			h := (*[recordHeaderLen]byte)(out)
			binary.LittleEndian.PutUint64(h[0:], uint64(seconds)|nanos<<32)
			binary.LittleEndian.PutUint64(h[8:], uint64(len(frame))|uint64(frameWire)<<32)
			end := recordHeaderLen + len(frame)
			copy(out[recordHeaderLen:end], frame)
			out = out[end:]
		}
		in = in[whole:]
		records++
	}
	r.advance(r.end - r.start - len(in))
	r.records += records
	w.used = len(w.buf) - len(out)
}
