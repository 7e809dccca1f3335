package pcapfile

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
)

// The blocks of a pcapng file that say something of packets (draft-ietf-opsawg-pcapng, section 11.1). All others are
// skipped.
const (
	blockSection   = 0x0a0d0d0a // the same from either end
	blockInterface = 1
	blockPacket    = 2 // obsolete
	blockSimple    = 3
	blockEnhanced  = 6
)

const (
	blockOverhead     = 12 // type and length, and the length again
	sectionBlockLen   = 28
	interfaceBlockLen = 20
	packetBlockLen    = 32 // obsolete and enhanced packet blocks
	simpleBlockLen    = 16

	byteOrderMagic = 0x1a2b3c4d

	// maxInterfaces keeps a made-up file from filling the memory.
	maxInterfaces = 1 << 16
)

// section is what a part of a pcapng file says of the packets that follow.
type section struct {
	swapped    bool // big-endian
	began      bool
	interfaces []ngInterface
}

// ngInterface is one interface that packets were captured on.
type ngInterface struct {
	link    LinkType
	snaplen uint32
	clock   clock
}

// nextNG is Next for pcapng.
func (r *Reader) nextNG() (Record, error) {
	for {
		if ok, err := r.fill(8); !ok {
			return Record{}, r.cutOff("its header has", 8, err)
		}
		kind, length := r.u32(0), r.u32(4)
		if kind == blockSection {
			var err error
			if length, err = r.order(); err != nil {
				return Record{}, err
			}
		} else if !r.ng.began {
			return Record{}, r.damage(false, "a block of type %d before any section", kind)
		}
		if length < blockOverhead || length%4 != 0 {
			return Record{}, r.damage(false, "a block says that it has %d bytes: the file is damaged", length)
		}
		if length > MaxRecord {
			switch kind {
			case blockSection, blockInterface, blockPacket, blockSimple, blockEnhanced:
				return Record{}, r.tooLong(length)
			}
			if err := r.skipBlock(length); err != nil {
				return Record{}, err
			}
			continue
		}
		if ok, err := r.fill(int(length)); !ok {
			return Record{}, r.cutOff("its block has", int(length), err)
		}
		if again := r.u32(int(length) - 4); again != length {
			return Record{}, r.damage(false, "a block says that it has %d bytes, and at its end %d: the file is damaged", length, again)
		}
		rec, found, err := r.block(kind, int(length))
		if err != nil {
			return Record{}, err
		}
		r.advance(int(length))
		if found {
			return rec, nil
		}
	}
}

// u32 is the number at an offset from what is not parsed yet.
func (r *Reader) u32(at int) uint32 {
	v := binary.LittleEndian.Uint32(r.buf[r.start+at:])
	if r.ng.swapped {
		return swap(v)
	}
	return v
}

func (r *Reader) u16(at int) uint16 {
	v := binary.LittleEndian.Uint16(r.buf[r.start+at:])
	if r.ng.swapped {
		return v>>8 | v<<8
	}
	return v
}

// order finds the byte order of a section, and with it the length of its first block (section 4.1).
func (r *Reader) order() (length uint32, err error) {
	const magicEnd = 12
	if ok, err := r.fill(magicEnd); !ok {
		return 0, r.cutOff("its header has", magicEnd, err)
	}
	switch magic := binary.LittleEndian.Uint32(r.buf[r.start+8:]); magic {
	case byteOrderMagic:
		r.ng.swapped = false
	case swap(byteOrderMagic):
		r.ng.swapped = true
	default:
		return 0, r.damage(false, "a section has the byte order %08x: the file is damaged", magic)
	}
	r.ng.began = true
	return r.u32(4), nil
}

// skipBlock leaves out a block that is too long to be kept.
func (r *Reader) skipBlock(length uint32) error {
	at := r.offset
	if err := r.skip(int64(length)); err != nil {
		if isEnd(err) {
			return &Error{Record: r.records + 1, Offset: at, Truncated: true,
				Reason: fmt.Sprintf("the file ends within a block of %d bytes before it", length)}
		}
		return fmt.Errorf("block at byte %d: %w", at, err)
	}
	return nil
}

// block reads one block, which is there as a whole; found says whether it was a record.
func (r *Reader) block(kind uint32, length int) (rec Record, found bool, err error) {
	switch kind {
	case blockEnhanced:
		rec, err = r.packet(r.u32(8), length)
		return rec, true, err
	case blockPacket:
		rec, err = r.packet(uint32(r.u16(8)), length)
		return rec, true, err
	case blockSimple:
		rec, err = r.simple(length)
		return rec, true, err
	case blockInterface:
		return Record{}, false, r.addInterface(length)
	case blockSection:
		if length < sectionBlockLen {
			return Record{}, false, r.damage(false, "a section header has %d bytes: the file is damaged", length)
		}
		if major := r.u16(12); major != 1 {
			return Record{}, false, r.damage(false, "a section of pcapng version %d.%d, not 1", major, r.u16(14))
		}
		r.ng.interfaces = r.ng.interfaces[:0]
	}
	return Record{}, false, nil
}

// packet reads an enhanced packet block, or the obsolete one, which differs in how it names the interface (sections 4.3
// and 4.7).
func (r *Reader) packet(number uint32, length int) (Record, error) {
	const dataAt = 28
	if length < packetBlockLen {
		return Record{}, r.damage(false, "a packet block has %d bytes: the file is damaged", length)
	}
	if int64(number) >= int64(len(r.ng.interfaces)) {
		return Record{}, r.damage(false, "it was captured on interface %d, but the file names only %d", number, len(r.ng.interfaces))
	}
	on := &r.ng.interfaces[number]
	kept, wire := r.u32(20), r.u32(24)
	if int64(kept) > int64(length-packetBlockLen) {
		return Record{}, r.damage(false, "it says that it has %d bytes, but its block holds %d", kept, length-packetBlockLen)
	}
	at, ok := on.clock.time(uint64(r.u32(12))<<32 | uint64(r.u32(16)))
	if !ok {
		return Record{}, r.damage(false, "its timestamp is beyond what 64 bits of nanoseconds can say")
	}
	data := r.buf[r.start+dataAt : r.start+dataAt+int(kept)]
	return Record{At: at, Data: data, Wire: int(max(kept, wire)), Link: on.link}, nil
}

// simple reads a packet without a timestamp, of the first interface (section 4.4).
func (r *Reader) simple(length int) (Record, error) {
	const dataAt = 12
	if length < simpleBlockLen {
		return Record{}, r.damage(false, "a packet block has %d bytes: the file is damaged", length)
	}
	if len(r.ng.interfaces) == 0 {
		return Record{}, r.damage(false, "it was captured on interface 0, but the file names none")
	}
	on := &r.ng.interfaces[0]
	wire := r.u32(8)
	kept := min(wire, uint32(length-simpleBlockLen))
	if on.snaplen != 0 {
		kept = min(kept, on.snaplen)
	}
	data := r.buf[r.start+dataAt : r.start+dataAt+int(kept)]
	return Record{Data: data, Wire: int(wire), Link: on.link}, nil
}

// Options of an interface that say what its timestamps mean (section 4.2).
const (
	optionEnd        = 0
	optionResolution = 9
	optionOffset     = 14
)

// addInterface reads an interface description block.
func (r *Reader) addInterface(length int) error {
	if length < interfaceBlockLen {
		return r.damage(false, "an interface block has %d bytes: the file is damaged", length)
	}
	if len(r.ng.interfaces) == maxInterfaces {
		return r.damage(false, "it has more than %d interfaces", maxInterfaces)
	}
	const micro = 6
	resolution, offset := byte(micro), int64(0)
	for at, end := 16, length-4; at+4 <= end; {
		code, size := r.u16(at), int(r.u16(at+2))
		if at += 4; code == optionEnd || at+size > end {
			break
		}
		switch {
		case code == optionResolution && size >= 1:
			resolution = r.buf[r.start+at]
		case code == optionOffset && size >= 8:
			low, high := r.u32(at), r.u32(at+4)
			if r.ng.swapped {
				low, high = high, low
			}
			offset = int64(uint64(high)<<32 | uint64(low))
		}
		at += (size + 3) &^ 3
	}
	r.ng.interfaces = append(r.ng.interfaces, ngInterface{link: LinkType(r.u16(8)), snaplen: r.u32(12), clock: newClock(resolution, offset)})
	return nil
}

// clock makes nanoseconds of an interface's ticks: ticks * mul / div >> shift, and the offset.
type clock struct {
	mul, div uint64
	shift    uint
	offset   int64 // seconds
}

// newClock reads the option if_tsresol: a power of 10, or of 2 when its highest bit is set (section 4.2).
func newClock(resolution byte, offset int64) clock {
	exponent := uint(resolution & 0x7f)
	c := clock{mul: 1e9, div: 1, offset: offset}
	if resolution&0x80 != 0 {
		c.shift = exponent
		return c
	}
	const nano = 9
	for ; exponent > nano && c.div <= math.MaxUint64/10; exponent-- {
		c.div *= 10
	}
	if exponent > nano {
		c.mul = 0 // finer than any count of 64 bits that makes a nanosecond
		return c
	}
	for c.mul = 1; exponent < nano; exponent++ {
		c.mul *= 10
	}
	return c
}

// time is not ok when it is before or beyond what can be said.
func (c *clock) time(ticks uint64) (nanoseconds int64, ok bool) {
	high, low := bits.Mul64(ticks, c.mul)
	switch {
	case c.shift >= 64:
		high, low = 0, high>>(c.shift-64)
	case c.shift > 0:
		high, low = high>>c.shift, low>>c.shift|high<<(64-c.shift)
	case c.div > 1:
		low /= c.div // mul is 1 then, so high is 0
	}
	if high != 0 || low > math.MaxInt64 {
		return 0, false
	}
	const most = math.MaxInt64 / 1_000_000_000
	if c.offset > most || c.offset < -most {
		return 0, false
	}
	offset := c.offset * 1e9
	nanoseconds = int64(low) + offset
	return nanoseconds, offset <= 0 || nanoseconds >= offset
}
