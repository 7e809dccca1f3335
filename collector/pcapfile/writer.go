package pcapfile

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
)

// SnapLen is what the header of a written file states as the longest record: what tcpdump and Wireshark take at most.
const SnapLen = 262144

// writeChunk is how much is written at once: a multiple of the page size from an aligned buffer, see Reader.
const writeChunk = 256 << 10

// Writer writes Ethernet frames as pcap with nanosecond timestamps, little-endian (draft-ietf-opsawg-pcap, sections 4 and
// 5): the format of segments.
type Writer struct {
	dst     io.Writer
	buf     []byte
	used    int
	written int64 // bytes that are no longer in buf
	failed  error
}

// NewWriter begins a file. Nothing is written before a chunk is full or Flush is called.
func NewWriter(dst io.Writer) *Writer {
	w := &Writer{dst: dst, buf: make([]byte, writeChunk+headroom)}
	h := w.buf[:0]
	h = binary.LittleEndian.AppendUint32(h, magicNano)
	h = binary.LittleEndian.AppendUint16(h, 2) // the version
	h = binary.LittleEndian.AppendUint16(h, 4)
	h = binary.LittleEndian.AppendUint64(h, 0) // reserved
	h = binary.LittleEndian.AppendUint32(h, SnapLen)
	h = binary.LittleEndian.AppendUint32(h, uint32(Ethernet))
	w.used = len(h)
	return w
}

// Write adds a frame that was captured at (nanoseconds since 1970) and was wire bytes long. Its time has to be one that
// the format can say, from 1970 to 2106.
func (w *Writer) Write(at int64, frame []byte, wire int) error {
	if err := checkTime(at); err != nil {
		return err
	}
	end := w.used + recordHeaderLen + len(frame)
	if end > len(w.buf) {
		if err := w.makeRoom(recordHeaderLen + len(frame)); err != nil {
			return err
		}
		end = w.used + recordHeaderLen + len(frame)
	}
	record := w.buf[w.used:end]
	h := (*[recordHeaderLen]byte)(record)
	seconds := uint64(at) / 1e9
	binary.LittleEndian.PutUint64(h[0:], seconds|(uint64(at)-seconds*1e9)<<32)
	binary.LittleEndian.PutUint64(h[8:], uint64(len(frame))|uint64(wire)<<32)
	copy(record[recordHeaderLen:], frame)
	w.used = end
	return nil
}

func checkTime(at int64) error {
	if uint64(at) >= (math.MaxUint32+1)*1e9 {
		return fmt.Errorf("its time, %d ns after 1970, is not within what pcap can say", at)
	}
	return nil
}

// makeRoom writes the chunk that is full, and has the buffer take n bytes more.
func (w *Writer) makeRoom(n int) error {
	whole := w.used / writeChunk * writeChunk
	if err := w.write(whole); err != nil {
		return err
	}
	if w.used+n > len(w.buf) {
		larger := make([]byte, writeChunk+max(2*len(w.buf), n))
		copy(larger, w.buf[:w.used])
		w.buf = larger
	}
	return nil
}

// Flush writes what is not written yet.
func (w *Writer) Flush() error { return w.write(w.used) }

func (w *Writer) write(n int) error {
	if w.failed != nil {
		return w.failed
	}
	if n == 0 {
		return nil
	}
	done, err := w.dst.Write(w.buf[:n])
	w.written += int64(done)
	if err != nil {
		w.failed = err
		return err
	}
	w.used = copy(w.buf, w.buf[n:w.used])
	return nil
}

// Written is how many bytes have left the writer, with the file's header.
func (w *Writer) Written() int64 { return w.written }
