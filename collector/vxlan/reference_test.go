package vxlan

import (
	"encoding/binary"
	"net/netip"
)

// The reference reads headers the slow way, one field after the other in a copy of what is left, and shares no code
// with what it judges. Its rules on lengths are those of the project's independent judge (a Python program).

// reading is what the reference finds in a frame.
type reading struct {
	miss     Miss
	payload  []byte // from the VXLAN header on
	whole    int    // length of the payload before the capture cut it
	source   netip.Addr
	verified bool // every UDP checksum that can be verified is right
}

// layer is the rest of a frame, of which wire bytes were on the wire.
type layer struct {
	data []byte
	wire int
}

func (l layer) has(n int) bool { return len(l.data) >= n }
func (l layer) u8(at int) int  { return int(l.data[at]) }
func (l layer) u16(at int) int { return int(binary.BigEndian.Uint16(l.data[at:])) }

func (l layer) skip(n int) layer { return layer{l.data[min(n, len(l.data)):], l.wire - n} }

// limit ends the layer where a header says that it does.
func (l layer) limit(n int) layer {
	wire := min(l.wire, n)
	return layer{l.data[:max(0, min(wire, len(l.data)))], wire}
}

func reference(frame []byte, wire, port int) reading {
	r := reading{verified: true}
	r.ethernet(layer{frame, wire}, port, false)
	return r
}

func (r *reading) ethernet(l layer, port int, inside bool) {
	if !l.has(14) {
		r.miss = Short
		return
	}
	etherType := l.u16(12)
	l = l.skip(14)
	for etherType == 0x8100 || etherType == 0x88a8 || etherType == 0x9100 {
		if !l.has(4) {
			r.miss = Short
			return
		}
		etherType = l.u16(2)
		l = l.skip(4)
	}
	r.network(l, etherType, port, inside)
}

func (r *reading) network(l layer, etherType, port int, inside bool) {
	switch etherType {
	case 0x0800:
		r.ipv4(l, port, inside)
	case 0x86dd:
		r.ipv6(l, port, inside)
	default:
		r.miss = NotIP
	}
}

func (r *reading) ipv4(l layer, port int, inside bool) {
	if !l.has(20) {
		r.miss = Short
		return
	}
	header := l.u8(0) % 16 * 4
	if l.u8(0)/16 != 4 || header < 20 {
		r.miss = Broken
		return
	}
	if !l.has(header) {
		r.miss = Short
		return
	}
	if l.u8(9) != 17 {
		r.miss = NotUDP
		return
	}
	r.source = netip.AddrFrom4([4]byte(l.data[12:16]))
	if l.u16(6)%0x4000 != 0 {
		r.miss = Fragmented
		return
	}
	to := netip.AddrFrom4([4]byte(l.data[16:20]))
	packet, complete := l, true
	if total := l.u16(2); total != 0 {
		complete = total <= len(l.data)
		packet = l.limit(total)
	}
	r.udp(layer{l.skip(header).data, packet.skip(header).wire}, to, complete, port, inside)
}

func (r *reading) ipv6(l layer, port int, inside bool) {
	if !l.has(40) {
		r.miss = Short
		return
	}
	if l.u8(0)/16 != 6 {
		r.miss = Broken
		return
	}
	source, to := netip.AddrFrom16([16]byte(l.data[8:24])), netip.AddrFrom16([16]byte(l.data[24:40]))
	next, payload := l.u8(6), l.u16(4)
	l = l.skip(40)
	packet, complete := l, true
	if payload != 0 {
		complete = payload <= len(l.data)
		packet = l.limit(payload)
	}
	for next == 0 || next == 43 || next == 60 {
		if !l.has(8) {
			r.miss = Short
			return
		}
		next = l.u8(0)
		length := (l.u8(1) + 1) * 8
		l, packet = l.skip(length), packet.skip(length)
	}
	switch next {
	case 17:
		r.source = source
		r.udp(layer{l.data, packet.wire}, to, complete, port, inside)
	case 44:
		r.source = source
		r.miss = Fragmented
	default:
		r.miss = NotUDP
	}
}

// udp reads a datagram. Its headers are read as far as the frame goes, even where the packet ended before.
func (r *reading) udp(l layer, to netip.Addr, complete bool, port int, inside bool) {
	if !l.has(8) {
		r.miss = Short
		return
	}
	toPort, length := l.u16(2), l.u16(4)
	r.checksum(l, to, complete)
	if toPort != port && (toPort != 6081 || inside) {
		r.miss = OtherPort
		return
	}
	wire := l.wire
	if length != 0 {
		wire = min(wire, length)
	}
	switch {
	case wire < 16:
		r.miss = Broken
	case !l.has(16):
		r.miss = Short
	case toPort == port:
		l = l.limit(wire).skip(8)
		r.payload, r.whole = l.data, l.wire
	default:
		r.geneve(l.limit(wire).skip(8), port)
	}
}

func (r *reading) geneve(l layer, port int) {
	header := 8 + l.u8(0)%64*4
	protocol := l.u16(2)
	switch {
	case l.u8(0)/64 != 0 || header > l.wire:
		r.miss = Broken
	case !l.has(header):
		r.miss = Short
	case protocol == 0x6558:
		r.ethernet(l.skip(header), port, true)
	case protocol == 0x0800 || protocol == 0x86dd:
		r.network(l.skip(header), protocol, port, true)
	default:
		r.miss = OtherTunnel
	}
}

// checksum verifies the checksum of a datagram that is all there and has one.
func (r *reading) checksum(l layer, to netip.Addr, complete bool) {
	length := l.u16(4)
	if length == 0 {
		length = l.wire
	}
	if l.u16(6) == 0 || !complete || l.wire < 8 || length < 8 || l.wire > len(l.data) {
		return
	}
	datagram := append([]byte(nil), l.data[:min(length, l.wire)]...)
	said := binary.BigEndian.Uint16(datagram[6:])
	datagram[6], datagram[7] = 0, 0
	if want := slowChecksum(datagram, length, r.source, to); said != want {
		r.verified = false
	}
}
