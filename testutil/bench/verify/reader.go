package verify

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// record is one packet of a file. It is valid until the next.
type record struct {
	at     int64 // ns since 1970
	data   []byte
	length int // on the wire
}

// maxRecord bounds one record, so that a damaged length can't ask for all memory. Frames that GRO has merged have up
// to 64 KiB; libpcap accepts 256 KiB (MAXIMUM_SNAPLEN).
const maxRecord = 256 << 10

// errCut is a file that ends within a record.
var errCut = errors.New("the file is cut short")

// scanner reads the packets of one file, one after the other.
type scanner struct {
	in    *bufio.Reader
	order binary.ByteOrder
	tick  float64 // ns of one unit of time
	buf   []byte
	ticks []float64 // pcapng: of each interface of the section
	last  int64     // pcapng: for packets without a time
}

// scan calls each for every packet of a pcap or pcapng stream and returns how fine its timestamps are, in ns. An
// error says what is wrong with the stream; the packets before it were given.
func (s *scanner) scan(r io.Reader, each func(record)) (float64, error) {
	if s.in == nil {
		s.in, s.buf = bufio.NewReaderSize(r, 1<<20), make([]byte, maxRecord+64)
	}
	s.in.Reset(r)
	s.tick, s.ticks, s.last = 0, s.ticks[:0], 0
	magic, err := s.in.Peek(4)
	if err != nil {
		return 0, errCut
	}
	if binary.BigEndian.Uint32(magic) == sectionHeader {
		err := s.blocks(each)
		return s.tick, err
	}
	s.order = binary.LittleEndian
	if magic[0] == 0xa1 {
		s.order = binary.BigEndian
	}
	switch s.order.Uint32(magic) {
	case 0xa1b2c3d4:
		s.tick = 1000
	case 0xa1b23c4d:
		s.tick = 1
	default:
		return 0, errors.New("this is neither pcap nor pcapng")
	}
	if _, err := io.ReadFull(s.in, s.buf[:24]); err != nil {
		return s.tick, errCut
	}
	return s.tick, s.records(each)
}

func (s *scanner) records(each func(record)) error {
	for {
		header, err := s.in.Peek(16)
		if len(header) == 0 && errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return cut(err)
		}
		at := int64(s.order.Uint32(header))*1e9 + int64(s.order.Uint32(header[4:]))*int64(s.tick)
		size, length := int(s.order.Uint32(header[8:])), int(s.order.Uint32(header[12:]))
		if size > maxRecord {
			return fmt.Errorf("a record of %d bytes", size)
		}
		if _, err := s.in.Discard(16); err != nil {
			return cut(err)
		}
		data, err := s.take(size)
		if err != nil {
			return err
		}
		each(record{at: at, data: data, length: length})
	}
}

// take returns the next bytes, out of the reader's own buffer.
func (s *scanner) take(size int) ([]byte, error) {
	if _, err := io.ReadFull(s.in, s.buf[:size]); err != nil {
		return nil, cut(err)
	}
	return s.buf[:size], nil
}

func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errCut
	}
	return err
}

// Block types of pcapng (draft-ietf-opsawg-pcapng, section 4).
const (
	sectionHeader   = 0x0a0d0d0a
	interfaceBlock  = 1
	simplePacket    = 3
	enhancedPacket  = 6
	optionEnd       = 0
	optionTimeTicks = 9
)

func (s *scanner) blocks(each func(record)) error {
	for {
		header, err := s.in.Peek(8)
		if len(header) == 0 && errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return cut(err)
		}
		if binary.BigEndian.Uint32(header) == sectionHeader { // the same in both orders
			if err := s.section(); err != nil {
				return err
			}
			header, _ = s.in.Peek(8)
		}
		kind, size := s.order.Uint32(header), int(s.order.Uint32(header[4:]))
		if size < 12 || size%4 != 0 || size > len(s.buf) {
			return fmt.Errorf("a block of %d bytes", size)
		}
		block, err := s.take(size)
		if err != nil {
			return err
		}
		if int(s.order.Uint32(block[size-4:])) != size {
			return errors.New("a block's two lengths differ")
		}
		if err := s.block(kind, block[8:size-4], each); err != nil {
			return err
		}
	}
}

// section finds the byte order of the section that begins here.
func (s *scanner) section() error {
	header, err := s.in.Peek(12)
	if err != nil {
		return cut(err)
	}
	s.ticks = s.ticks[:0]
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		if s.order = order; order.Uint32(header[8:]) == 0x1a2b3c4d {
			return nil
		}
	}
	return errors.New("a section without a byte order")
}

func (s *scanner) block(kind uint32, body []byte, each func(record)) error {
	switch kind {
	case interfaceBlock:
		if len(body) < 8 {
			return errors.New("a short interface block")
		}
		s.tick = s.interfaceTick(body[8:])
		s.ticks = append(s.ticks, s.tick)
	case enhancedPacket:
		if len(body) < 20 {
			return errors.New("a short packet block")
		}
		id, size, length := int(s.order.Uint32(body)), int(s.order.Uint32(body[12:])), int(s.order.Uint32(body[16:]))
		if id >= len(s.ticks) || size > len(body)-20 {
			return errors.New("a packet block of no interface, or larger than itself")
		}
		ticks := uint64(s.order.Uint32(body[4:]))<<32 | uint64(s.order.Uint32(body[8:]))
		s.last = int64(float64(ticks) * s.ticks[id])
		if tick := s.ticks[id]; tick == math.Trunc(tick) { // a float64 does not hold today's nanoseconds
			s.last = int64(ticks) * int64(tick)
		}
		each(record{at: s.last, data: body[20 : 20+size], length: length})
	case simplePacket:
		if len(body) < 4 {
			return errors.New("a short packet block")
		}
		length := int(s.order.Uint32(body))
		each(record{at: s.last, data: body[4 : 4+min(length, len(body)-4)], length: length})
	}
	return nil
}

// interfaceTick reads the option if_tsresol; without it a unit of time is a microsecond.
func (s *scanner) interfaceTick(options []byte) float64 {
	for len(options) >= 4 {
		code, size := s.order.Uint16(options), int(s.order.Uint16(options[2:]))
		if code == optionEnd || size > len(options)-4 {
			break
		}
		if code == optionTimeTicks && size == 1 {
			exponent := float64(options[4] & 0x7f)
			if options[4]&0x80 != 0 {
				return 1e9 / math.Pow(2, exponent)
			}
			return 1e9 / math.Pow(10, exponent)
		}
		options = options[min(4+(size+3)&^3, len(options)):]
	}
	return 1000
}
