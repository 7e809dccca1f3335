package vxlan

import (
	"encoding/binary"
	"math/bits"
)

// GenevePort is the UDP port on which a Gateway Load Balancer hands mirrored packets over (IANA; RFC 8926, section 3.3).
const GenevePort = 6081

// Miss says why an outer frame holds no VXLAN datagram.
type Miss uint8

// The misses. What is Short may be whole on the wire: a capture that keeps only the first bytes of each frame has cut it.
const (
	Found       Miss = iota
	NotIP            // another protocol than IPv4 or IPv6 behind the Ethernet header and its VLAN tags
	NotUDP           // IP, but not UDP
	OtherPort        // UDP to another port
	OtherTunnel      // GENEVE with something inside that is neither Ethernet nor IP
	Fragmented       // a part of an IP packet
	Broken           // headers that contradict themselves, each other or their protocol
	Short            // the frame ends within its headers
)

// Outer takes the VXLAN datagram out of a frame as a packet ring sees it, from the Ethernet header on: behind any
// VLAN tags, IPv4 or IPv6, and UDP to Port; or inside GENEVE, where a Gateway Load Balancer leaves the mirrored packet
// as it was, so that its source is the inner one (VPC Traffic Mirroring guide, "Packet format").
//
// It sets Payload and Source of d, and returns the fault. With a fault Payload is empty; Source is then set if an IP
// header says it. Payload is a slice of the frame, and ends where the UDP and IP headers say: Ethernet padding is not
// part of it. A UDP length of 0 or one beyond the IP packet means the end of the IP packet; an IP length of 0 or one
// beyond the frame, as kernels make it of offloaded segments, means the end of the frame.
func Outer(frame []byte, d *Datagram) Fault {
	_, miss := Unwrap(frame, len(frame), Port, d)
	return faults[miss&7]
}

// faults are what a receiver makes of the misses. Outer looks them up since a switch is too much for it to be inlined.
var faults = [8]Fault{Found: None, NotIP: Malformed, NotUDP: Malformed, OtherPort: Malformed, OtherTunnel: Malformed,
	Fragmented: Fragment, Broken: Malformed, Short: Malformed}

// The first bytes of the plainest frame, in 64-bit words as a little-endian machine loads them.
const (
	plainHeaderLen = etherHeaderLen + ipv4HeaderLen + udpHeaderLen + HeaderLen

	plainType     = 0x45_0008 // Ethernet type, IP version and header length, from byte 12 on
	plainTypeMask = 0xff_ffff
	plainUDP      = 0x11_00_0000 // flags and fragment offset, time to live, protocol, from byte 20 on
	plainUDPMask  = 0xff_00_ff3f // More Fragments and the offset, but not Don't Fragment or the reserved bit
)

// Unwrap is Outer for frames of a file: they were wire bytes long before the capture cut them, and the port may be
// another. beyond is how many bytes of the datagram the cut has taken.
func Unwrap(frame []byte, wire int, port uint16, d *Datagram) (beyond int, miss Miss) {
	if len(frame) < plainHeaderLen || wire < plainHeaderLen {
		return unwrap(frame, wire, port, d)
	}
	h := (*[plainHeaderLen]byte)(frame)
	ether := binary.LittleEndian.Uint64(h[12:])
	ip := binary.LittleEndian.Uint64(h[20:])
	udp := binary.BigEndian.Uint64(h[34:])
	total := int(bits.ReverseBytes16(uint16(ether >> 32)))
	if (ether^plainType)&plainTypeMask|(ip^plainUDP)&plainUDPMask|(udp>>32^uint64(port))&0xffff != 0 ||
		int(uint16(udp>>16)) != total-ipv4HeaderLen || total < plainHeaderLen-etherHeaderLen {
		return unwrap(frame, wire, port, d)
	}
	source := uint64(binary.LittleEndian.Uint32(h[26:]))
	binary.LittleEndian.PutUint64(d.Source[:8], 0)
	binary.LittleEndian.PutUint64(d.Source[8:], mapped|source<<32)
	end := min(etherHeaderLen+total, wire)
	if end > len(frame) {
		beyond, end = end-len(frame), len(frame)
	}
	d.Payload = frame[plainHeaderLen-HeaderLen : end]
	return beyond, Found
}

// mapped are bytes 8 to 11 of an IPv4-mapped IPv6 address, 0:0:ffff (RFC 4291, section 2.5.5.2), little-endian.
const mapped = 0xffff_0000

// Protocols of GENEVE besides IP, and numbers of IP protocols and IPv6 extension headers (IANA).
const (
	typeTransEther = 0x6558 // Ethernet (RFC 8926, section 3.4)

	nextHopByHop    = 0
	protocolUDP     = 17
	nextRouting     = 43
	nextFragment    = 44
	nextDestination = 60
)

const (
	udpHeaderLen    = 8
	geneveHeaderLen = 8
	extensionUnit   = 8 // an IPv6 extension header is a multiple of it (RFC 8200, section 4)
)

// unwrap is Unwrap of any frame.
func unwrap(frame []byte, wire int, port uint16, d *Datagram) (beyond int, miss Miss) {
	d.Payload, d.Source = nil, [16]byte{}
	at, etherType, ok := networkHeader(frame)
	if !ok {
		return 0, Short
	}
	for inside := false; ; inside = true {
		udp, end, miss := transport(frame, at, etherType, wire)
		if miss == Found || miss == Fragmented {
			setSource(&d.Source, frame[at:], etherType)
		}
		if miss != Found {
			return 0, miss
		}
		if len(frame) < udp+udpHeaderLen {
			return 0, Short
		}
		to := binary.BigEndian.Uint16(frame[udp+2:])
		if to != port && (to != GenevePort || inside) {
			return 0, OtherPort
		}
		end, ok = datagramEnd(frame, udp, end)
		if !ok {
			return 0, Broken
		}
		if len(frame) < udp+udpHeaderLen+HeaderLen {
			return 0, Short
		}
		if to == port {
			d.Payload = frame[udp+udpHeaderLen : min(end, len(frame))]
			return max(0, end-len(frame)), Found
		}
		if at, etherType, miss = geneve(frame, udp+udpHeaderLen, end); miss != Found {
			return 0, miss
		}
		frame, wire = frame[:min(end, len(frame))], end // what follows is padding
		if etherType == typeTransEther {
			frame, wire = frame[at:], wire-at
			if at, etherType, ok = networkHeader(frame); !ok {
				return 0, Short
			}
		}
	}
}

// transport finds the UDP header behind the IP header at an offset, and where the IP packet ends on the wire.
func transport(frame []byte, at int, etherType uint16, wire int) (udp, end int, miss Miss) {
	switch etherType {
	case typeIPv4:
		return transport4(frame, at, wire)
	case typeIPv6:
		return transport6(frame, at, wire)
	}
	return 0, 0, NotIP
}

func transport4(frame []byte, at, wire int) (udp, end int, miss Miss) {
	if len(frame) < at+ipv4HeaderLen {
		return 0, 0, Short
	}
	ip := (*[ipv4HeaderLen]byte)(frame[at:])
	header := int(ip[0]&0x0f) * 4
	if ip[0]>>4 != 4 || header < ipv4HeaderLen {
		return 0, 0, Broken
	}
	if len(frame) < at+header {
		return 0, 0, Short
	}
	if ip[9] != protocolUDP {
		return 0, 0, NotUDP
	}
	const moreAndOffset = 0x3fff
	if binary.BigEndian.Uint16(ip[6:])&moreAndOffset != 0 {
		return 0, 0, Fragmented
	}
	end = wire
	if total := int(binary.BigEndian.Uint16(ip[2:])); total != 0 {
		end = min(end, at+total)
	}
	return at + header, end, Found
}

func transport6(frame []byte, at, wire int) (udp, end int, miss Miss) {
	if len(frame) < at+ipv6HeaderLen {
		return 0, 0, Short
	}
	ip := (*[ipv6HeaderLen]byte)(frame[at:])
	if ip[0]>>4 != 6 {
		return 0, 0, Broken
	}
	end = wire
	if payload := int(binary.BigEndian.Uint16(ip[4:])); payload != 0 {
		end = min(end, at+ipv6HeaderLen+payload)
	}
	next := ip[6]
	at += ipv6HeaderLen
	for next == nextHopByHop || next == nextRouting || next == nextDestination {
		if len(frame) < at+extensionUnit {
			return 0, 0, Short
		}
		next, at = frame[at], at+(int(frame[at+1])+1)*extensionUnit
	}
	switch next {
	case protocolUDP:
		return at, end, Found
	case nextFragment:
		return 0, 0, Fragmented
	}
	return 0, 0, NotUDP
}

// setSource reads the source address of an IP header that transport has found sound.
func setSource(source *[16]byte, packet []byte, etherType uint16) {
	if etherType == typeIPv4 {
		*source = [16]byte{10: 0xff, 11: 0xff}
		copy(source[12:], packet[12:16])
		return
	}
	copy(source[:], packet[8:24])
}

// datagramEnd is where a UDP datagram ends, given where its IP packet does. It is not ok when that leaves no room for a
// VXLAN or GENEVE header, which are of the same length.
func datagramEnd(frame []byte, udp, packetEnd int) (end int, ok bool) {
	end = packetEnd
	if length := int(binary.BigEndian.Uint16(frame[udp+4:])); length != 0 {
		end = min(end, udp+length)
	}
	return end, end >= udp+udpHeaderLen+HeaderLen
}

// geneve finds what a GENEVE header encapsulates (RFC 8926, section 3.4). Options are skipped: those of a Gateway Load
// Balancer name its endpoint and the flow.
func geneve(frame []byte, at, end int) (inner int, etherType uint16, miss Miss) {
	const optionUnit = 4
	h := (*[geneveHeaderLen]byte)(frame[at:])
	if h[0]>>6 != 0 { // a version that nobody has defined yet
		return 0, 0, Broken
	}
	inner = at + geneveHeaderLen + int(h[0]&0x3f)*optionUnit
	if inner > end {
		return 0, 0, Broken
	}
	if inner > len(frame) {
		return 0, 0, Short
	}
	etherType = binary.BigEndian.Uint16(h[2:])
	if etherType != typeTransEther && etherType != typeIPv4 && etherType != typeIPv6 {
		return 0, 0, OtherTunnel
	}
	return inner, etherType, Found
}
