package traffic

import (
	"encoding/binary"
	"hash/crc32"
	"math/bits"
)

// A frame is Ethernet, IPv4, UDP or TCP, and then
//
//	stamp   20 bytes   mark, run, number (48 bits), time of sending (ns), CRC-32C of these
//	body               the pattern of the number; its last 8 bytes are a hash of the number
//
// so that a body that belongs to another stamp is found, too.
const (
	stampSize = 20
	stampMark = 0xf7
	tailSize  = 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// room is what the largest outer headers take: Ethernet, 802.1Q, IPv6, UDP, VXLAN.
const room = ethernet + 4 + 40 + udp + 8

// Buffer holds one packet and is used again for the next. The zero value is ready.
type Buffer struct {
	data    []byte // outer headers end at room
	laid    bool
	pattern int
	tail    int // where in the frame the tail lies over the pattern; 0: nowhere
}

// lay makes the buffer hold the pattern of frame n.
func (b *Buffer) lay(g *Generator, n uint64) {
	pattern := int(n % Patterns)
	switch {
	case !b.laid || b.pattern != pattern:
		if !b.laid {
			b.data = make([]byte, room+Max)
		}
		copy(b.data[room:], g.patterns[pattern])
		b.laid, b.pattern = true, pattern
	case b.tail > 0:
		copy(b.data[room+b.tail:][:tailSize], g.patterns[pattern][b.tail:])
	}
	b.tail = 0
}

// Frame makes inner frame n, sent at that time (ns since 1970). It is valid until the buffer is used again.
func (g *Generator) Frame(b *Buffer, n uint64, sent int64) []byte {
	b.lay(g, n)
	size, flow := g.Size(n), g.Flow(n)
	f := b.data[room : room+size]
	be := binary.BigEndian

	stamp := f[g.stampAt:g.bodyAt]
	be.PutUint64(stamp, stampMark<<56|uint64(g.plan.Run)<<48|n&numberMask)
	be.PutUint64(stamp[8:], uint64(sent))
	be.PutUint32(stamp[16:], crc32.Checksum(stamp[:16], castagnoli))
	if size-g.bodyAt >= 2*tailSize {
		b.tail = size - tailSize
		be.PutUint64(f[b.tail:], hash(n))
	}

	copy(f, []byte{2, 0, 0, 0, 1, 2, 2, 0, 0, 0, 1, 1, 0x08, 0x00})
	ip := f[ethernet : ethernet+ipv4]
	be.PutUint32(ip, 0x45<<24|uint32(size-ethernet))
	be.PutUint32(ip[4:], uint32(n&0xffff)<<16|0x4000) // the next number, as segments that GRO merges have it; do not fragment
	be.PutUint32(ip[8:], 64<<24|17<<16)
	if g.plan.TCP {
		ip[9] = 6
	}
	be.PutUint32(ip[12:], 198<<24|19<<16|uint32(flow))
	be.PutUint32(ip[16:], 198<<24|19<<16|0xff01)
	be.PutUint16(ip[10:], checksum(sum(ip, 0)))

	l4 := f[ethernet+ipv4:]
	be.PutUint16(l4, uint16(1024+flow))
	be.PutUint16(l4[2:], 443)
	if !g.plan.TCP {
		be.PutUint32(l4[4:], uint32(len(l4))<<16) // without a checksum
		return f
	}
	be.PutUint32(l4[4:], g.stream(n))
	be.PutUint32(l4[8:], 1)
	be.PutUint32(l4[12:], 0x5010<<16|0xffff) // ACK
	be.PutUint32(l4[16:], 0)
	be.PutUint16(l4[16:], checksum(sum(l4, sum(ip[12:], 6+uint64(len(l4))))))
	return f
}

const numberMask = 1<<48 - 1

// hash spreads a number over 64 bits.
func hash(n uint64) uint64 {
	high, low := bits.Mul64(n^0xa0761d6478bd642f, 0xe7037ed1a0b428db)
	return high ^ low
}

// Stamp is what a frame says of itself.
type Stamp struct {
	Number uint64
	Sent   int64 // ns since 1970
}

// Marked says whether a frame looks like one of this run, be it damaged or not.
func (g *Generator) Marked(frame []byte) bool {
	return len(frame) >= g.stampAt+2 && frame[g.stampAt] == stampMark && frame[g.stampAt+1] == g.plan.Run
}

// Stamp reads the stamp of a frame; it is false when there is none of this run, or a damaged one.
func (g *Generator) Stamp(frame []byte) (Stamp, bool) {
	if len(frame) < g.bodyAt {
		return Stamp{}, false
	}
	return g.PayloadStamp(frame[g.stampAt:])
}

// PayloadStamp is Stamp for what comes after the frame's headers: frames that were merged follow each other without.
func (g *Generator) PayloadStamp(payload []byte) (Stamp, bool) {
	if len(payload) < stampSize || payload[0] != stampMark || payload[1] != g.plan.Run {
		return Stamp{}, false
	}
	be := binary.BigEndian
	if crc32.Checksum(payload[:16], castagnoli) != be.Uint32(payload[16:]) {
		return Stamp{}, false
	}
	return Stamp{Number: be.Uint64(payload) & numberMask, Sent: int64(be.Uint64(payload[8:]))}, true
}

// HeaderSize is where in a frame the stamp is.
func (g *Generator) HeaderSize() int { return g.stampAt }

// sum adds big-endian words to s, for an Internet checksum (RFC 1071).
func sum(b []byte, s uint64) uint64 {
	be := binary.BigEndian
	var carry uint64
	for len(b) >= 16 {
		s, carry = bits.Add64(s, be.Uint64(b), carry)
		s, carry = bits.Add64(s, be.Uint64(b[8:]), carry)
		b = b[16:]
	}
	if len(b) >= 8 {
		s, carry = bits.Add64(s, be.Uint64(b), carry)
		b = b[8:]
	}
	if len(b) > 0 {
		var rest [8]byte
		copy(rest[:], b)
		s, carry = bits.Add64(s, be.Uint64(rest[:]), carry)
	}
	s, carry = bits.Add64(s, 0, carry)
	return s + carry
}

// checksum folds what sum has added.
func checksum(s uint64) uint16 {
	s = s>>32 + s&0xffffffff
	s = s>>32 + s&0xffffffff
	s = s>>16 + s&0xffff
	s = s>>16 + s&0xffff
	return ^uint16(s)
}
