package traffic

import "encoding/binary"

// vxlanPort is the port of VXLAN (RFC 7348, section 5); traffic mirroring uses no other.
const vxlanPort = 4789

// Packet makes frame n in its outer packet. It is valid until the buffer is used again.
func (g *Generator) Packet(b *Buffer, n uint64, sent int64) []byte {
	frame := g.Frame(b, n, sent)
	be := binary.BigEndian
	o := &g.plan.Outer

	at := room - 8
	be.PutUint32(b.data[at:], 0x08<<24)
	be.PutUint32(b.data[at+4:], g.VNI(n)<<8)
	at -= udp
	datagram := b.data[at : room+len(frame)]
	be.PutUint16(datagram, uint16(49152+g.Flow(n)))
	be.PutUint16(datagram[2:], vxlanPort)
	be.PutUint32(datagram[4:], uint32(len(datagram))<<16)
	kind := uint16(0x0800)
	if o.Source.Is4() {
		at = g.outerIPv4(b, at, len(datagram), n)
	} else {
		kind = 0x86dd
		at = g.outerIPv6(b, at, datagram)
	}
	at -= 2
	be.PutUint16(b.data[at:], kind)
	if o.VLAN != 0 {
		at -= 4
		be.PutUint32(b.data[at:], 0x8100<<16|uint32(o.VLAN))
	}
	at -= 12
	copy(b.data[at:], o.TargetMAC[:])
	copy(b.data[at+6:], o.SourceMAC[:])
	return b.data[at : room+len(frame)]
}

// outerIPv4 puts an IPv4 header before the datagram at that place, and returns where it begins.
func (g *Generator) outerIPv4(b *Buffer, at, datagram int, n uint64) int {
	be := binary.BigEndian
	header := ipv4
	if g.plan.Outer.Options {
		header += 8
		copy(b.data[at-8:], []byte{1, 1, 1, 1, 1, 1, 1, 0}) // no operation, seven times, and the end (RFC 791, section 3.1)
	}
	at -= header
	ip := b.data[at : at+header]
	be.PutUint32(ip, uint32(0x40|header/4)<<24|uint32(header+datagram))
	be.PutUint32(ip[4:], uint32(n&0xffff)<<16|0x4000)
	be.PutUint32(ip[8:], 64<<24|17<<16)
	source, target := g.plan.Outer.Source.As4(), g.plan.Outer.Target.As4()
	copy(ip[12:], source[:])
	copy(ip[16:], target[:])
	be.PutUint16(ip[10:], checksum(sum(ip, 0)))
	return at
}

// outerIPv6 is outerIPv4 for IPv6, and gives the datagram its checksum, without which IPv6 does not take it.
func (g *Generator) outerIPv6(b *Buffer, at int, datagram []byte) int {
	be := binary.BigEndian
	at -= 40
	ip := b.data[at : at+40]
	be.PutUint32(ip, 6<<28)
	be.PutUint32(ip[4:], uint32(len(datagram))<<16|17<<8|64)
	source, target := g.plan.Outer.Source.As16(), g.plan.Outer.Target.As16()
	copy(ip[8:], source[:])
	copy(ip[24:], target[:])
	c := checksum(sum(datagram, sum(ip[8:], 17+uint64(len(datagram)))))
	if c == 0 {
		c = 0xffff // 0 would say that there is none (RFC 768)
	}
	be.PutUint16(datagram[6:], c)
	return at
}
