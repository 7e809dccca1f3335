// Package pcapfile streams capture files at the speed of the disk they are on.
package pcapfile

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Record is one packet of a file.
type Record struct {
	At   int64    // when it was captured, nanoseconds since 1970; 0 when the file does not say
	Data []byte   // what was kept of it; valid until the following call to Next
	Wire int      // how long it was on the wire, never less than len(Data)
	Link LinkType // what Data begins with
}

// MaxRecord is the length in bytes above which a record is taken for damage. Programs keep at most 256 KiB of a packet
// (MAXIMUM_SNAPLEN of libpcap), some a few MiB of what is no network.
const MaxRecord = 16 << 20

const (
	// readChunk is how much is asked for at once: much, since a system call costs as much as a thousand bytes, and little
	// enough to be in the core's cache until it is written.
	readChunk = 256 << 10
	// headroom is where the beginning of a record goes whose end comes with the next chunk.
	headroom = 64 << 10
)

// Reader reads the records of a pcap or pcapng file, one after the other, in memory that does not grow with the file.
//
// Chunks are read to the same place in the buffer each time, so that file and memory are aligned alike: the kernel's
// copy takes up to twice the time between addresses that differ by a little modulo the page size.
type Reader struct {
	src   io.Reader
	buf   []byte
	head  int // where chunks go, a multiple of the page size; longer records move it
	start int // of what is not parsed yet
	end   int

	offset  int64 // in the file, of buf[start]
	records uint64
	failed  error // what Next returns from now on

	plain bool // pcap, little-endian, and nothing wrong so far
	isNG  bool
	pcap  pcapHeader
	ng    section
}

// pcapHeader is what a pcap file says of all its records.
type pcapHeader struct {
	swapped bool  // big-endian
	unit    int64 // nanoseconds of the smaller part of a timestamp
	link    LinkType
}

// Error says where a file is not as it should be.
type Error struct {
	Record    uint64 // the number of the record, from 1; 0: it is the file's beginning that is wrong
	Offset    int64  // of the record, in bytes; in a compressed file, in what is inside
	Truncated bool   // the file ends within the record; all before it is sound
	Reason    string
}

func (e *Error) Error() string {
	if e.Record == 0 {
		return e.Reason
	}
	return fmt.Sprintf("record %d at byte %d: %s", e.Record, e.Offset, e.Reason)
}

// NewReader reads the header of a file. The file may be compressed with gzip.
func NewReader(src io.Reader) (*Reader, error) {
	r := &Reader{src: src, head: headroom, start: headroom, end: headroom, buf: make([]byte, headroom+readChunk)}
	magic, err := r.magic()
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(magic, []byte{0x1f, 0x8b}) { // RFC 1952, section 2.3.1
		if err := r.decompress(); err != nil {
			return nil, err
		}
		if magic, err = r.magic(); err != nil {
			return nil, err
		}
	}
	switch binary.LittleEndian.Uint32(magic) {
	case blockSection:
		r.isNG = true
		return r, nil
	case magicMicro:
		r.pcap = pcapHeader{unit: 1000}
	case magicNano:
		r.pcap = pcapHeader{unit: 1}
	case swap(magicMicro):
		r.pcap = pcapHeader{unit: 1000, swapped: true}
	case swap(magicNano):
		r.pcap = pcapHeader{unit: 1, swapped: true}
	default:
		return nil, &Error{Reason: fmt.Sprintf("neither pcap nor pcapng: it begins with % x%s", magic, kindOf(magic))}
	}
	r.plain = !r.pcap.swapped
	return r, r.pcapHeader()
}

// kindOf names what other files may be handed over by mistake.
func kindOf(magic []byte) string {
	switch {
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return ", as what zstd has compressed; decompress it first"
	case bytes.Equal(magic, []byte{0xfd, '7', 'z', 'X'}):
		return ", as what xz has compressed; decompress it first"
	case bytes.Equal(magic, []byte{0x34, 0xcd, 0xb2, 0xa1}):
		return ", as pcap with Kuznetzov's patch; editcap converts it"
	}
	return ""
}

// magic is the first four bytes of a file.
func (r *Reader) magic() ([]byte, error) {
	ok, err := r.fill(4)
	switch {
	case ok:
		return r.buf[r.start : r.start+4], nil
	case !isEnd(err):
		return nil, err
	case r.start == r.end:
		return nil, &Error{Reason: "it is empty", Truncated: true}
	}
	return nil, &Error{Reason: fmt.Sprintf("neither pcap nor pcapng: it has %d bytes in all", r.end-r.start)}
}

// decompress has the rest of the source decompressed.
func (r *Reader) decompress() error {
	const size = 64 << 10
	rest := io.MultiReader(bytes.NewReader(bytes.Clone(r.buf[r.start:r.end])), r.src)
	src, err := gzip.NewReader(bufio.NewReaderSize(rest, size))
	if err != nil {
		return fmt.Errorf("decompress: %w", err)
	}
	r.src, r.start, r.end = src, r.head, r.head
	return nil
}

// The numbers that pcap files begin with, for microseconds and nanoseconds (draft-ietf-opsawg-pcap, section 4).
const (
	magicMicro = 0xa1b2c3d4
	magicNano  = 0xa1b23c4d
)

const (
	fileHeaderLen   = 24
	recordHeaderLen = 16
)

// pcapHeader reads the header of a pcap file.
func (r *Reader) pcapHeader() error {
	if ok, err := r.fill(fileHeaderLen); !ok {
		if isEnd(err) {
			return &Error{Reason: fmt.Sprintf("the header is cut off: it has %d bytes of %d", r.end-r.start, fileHeaderLen), Truncated: true}
		}
		return err
	}
	// The upper bits of the link type say how much of frame check sequences there is (section 4); what belongs to a
	// packet is told by its headers.
	const linkMask = 0xffff
	link := binary.LittleEndian.Uint32(r.buf[r.start+20:])
	if r.pcap.swapped {
		link = swap(link)
	}
	r.pcap.link = LinkType(link & linkMask)
	r.advance(fileHeaderLen)
	return nil
}

// Link is the link type of all records. ok is false for a pcapng file, where each may have another.
func (r *Reader) Link() (link LinkType, ok bool) { return r.pcap.link, !r.isNG }

// Records is how many records Next has read.
func (r *Reader) Records() uint64 { return r.records }

// Offset is how many bytes of the file have been read as records and headers; in a compressed file, of what is inside.
func (r *Reader) Offset() int64 { return r.offset }

// Next reads the next record. Behind the last one it returns io.EOF; where the file is damaged or cut off, an *Error;
// otherwise the error of the source. It then returns the same whenever it is called.
func (r *Reader) Next() (Record, error) {
	// The most frequent file and a record that is in the buffer, with as little as will do.
	b := r.buf[r.start:r.end]
	if !r.plain || len(b) < recordHeaderLen {
		return r.next()
	}
	h := (*[recordHeaderLen]byte)(b)
	length, wire := binary.LittleEndian.Uint32(h[8:]), binary.LittleEndian.Uint32(h[12:])
	whole := recordHeaderLen + int(length)
	if len(b) < whole {
		return r.next()
	}
	at := int64(binary.LittleEndian.Uint32(h[0:]))*1e9 + int64(binary.LittleEndian.Uint32(h[4:]))*r.pcap.unit
	r.advance(whole)
	r.records++
	return Record{At: at, Data: b[recordHeaderLen:whole], Wire: int(max(length, wire)), Link: r.pcap.link}, nil
}

// next is Next of any file.
func (r *Reader) next() (rec Record, err error) {
	switch {
	case r.failed != nil:
		return Record{}, r.failed
	case r.isNG:
		rec, err = r.nextNG()
	default:
		rec, err = r.nextPcap()
	}
	if err != nil {
		r.failed, r.plain = err, false
		return Record{}, err
	}
	r.records++
	return rec, nil
}

func (r *Reader) nextPcap() (Record, error) {
	if ok, err := r.fill(recordHeaderLen); !ok {
		return Record{}, r.cutOff("its header has", recordHeaderLen, err)
	}
	h := (*[recordHeaderLen]byte)(r.buf[r.start:])
	seconds, fraction := binary.LittleEndian.Uint32(h[0:]), binary.LittleEndian.Uint32(h[4:])
	length, wire := binary.LittleEndian.Uint32(h[8:]), binary.LittleEndian.Uint32(h[12:])
	if r.pcap.swapped {
		seconds, fraction, length, wire = swap(seconds), swap(fraction), swap(length), swap(wire)
	}
	if length > MaxRecord {
		return Record{}, r.tooLong(length)
	}
	whole := recordHeaderLen + int(length)
	if ok, err := r.fill(whole); !ok {
		return Record{}, r.cutOff("with its header it has", whole, err)
	}
	at := int64(seconds)*1e9 + int64(fraction)*r.pcap.unit
	data := r.buf[r.start+recordHeaderLen : r.start+whole]
	r.advance(whole)
	return Record{At: at, Data: data, Wire: int(max(length, wire)), Link: r.pcap.link}, nil
}

func swap(v uint32) uint32 { return v>>24 | v>>8&0xff00 | v<<8&0xff0000 | v<<24 }

func (r *Reader) advance(n int) {
	r.start += n
	r.offset += int64(n)
}

// isEnd says whether a source has ended, possibly in the middle of compressed data.
func isEnd(err error) bool { return err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) }

// cutOff is the error for a record of which n bytes were asked for in vain.
func (r *Reader) cutOff(has string, n int, err error) error {
	left := r.end - r.start
	if err == io.EOF && left == 0 {
		return io.EOF
	}
	if isEnd(err) {
		return r.damage(true, "the file ends within it: %s %d bytes, %d are left", has, n, left)
	}
	return fmt.Errorf("record %d at byte %d: %w", r.records+1, r.offset, err)
}

func (r *Reader) tooLong(length uint32) error {
	return r.damage(false, "it says that it has %d bytes, more than any packet: the file is damaged", length)
}

func (r *Reader) damage(truncated bool, format string, args ...any) error {
	return &Error{Record: r.records + 1, Offset: r.offset, Truncated: truncated, Reason: fmt.Sprintf(format, args...)}
}

// fill has n bytes ready from start on. When the source ends or fails before, it is not ok and says why.
func (r *Reader) fill(n int) (ok bool, err error) {
	for idle := 0; r.end-r.start < n; {
		r.makeRoom(n)
		got, err := r.src.Read(r.buf[r.end:])
		r.end += got
		if r.end-r.start >= n {
			break // an error comes again
		}
		if err != nil {
			return false, err
		}
		if idle++; got > 0 {
			idle = 0
		}
		if idle == 100 { // as package bufio counts
			return false, io.ErrNoProgress
		}
	}
	return true, nil
}

// makeRoom has the buffer hold n bytes from start on, and moves them to where the next chunk goes.
func (r *Reader) makeRoom(n int) {
	if r.end < len(r.buf) && n <= len(r.buf)-r.start {
		return // the last read was a short one, as pipes answer
	}
	left := r.end - r.start
	buf, head := r.buf, r.head
	for head < left || head+readChunk < n {
		head *= 2
	}
	if head != r.head {
		buf = make([]byte, head+readChunk)
	}
	copy(buf[head-left:], r.buf[r.start:r.end])
	r.buf, r.head, r.start, r.end = buf, head, head-left, head
}

// skip drops n bytes, of which any number may not be read yet.
func (r *Reader) skip(n int64) error {
	if ready := int64(r.end - r.start); n > ready {
		r.advance(int(ready))
		skipped, err := io.CopyN(io.Discard, r.src, n-ready)
		r.start, r.end = r.head, r.head
		r.offset += skipped
		return err
	}
	r.advance(int(n))
	return nil
}
