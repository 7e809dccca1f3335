package filter

import (
	"encoding/binary"
	"net/netip"

	"flashtap/events"
)

// Direction is seen from the source interface: ingress goes to the instance, egress leaves it.
type Direction string

const (
	Ingress Direction = events.Ingress
	Egress  Direction = events.Egress
)

// Protocol numbers (IANA, Assigned Internet Protocol Numbers).
const (
	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
)

// Header is what filters and the flow hash look at.
type Header struct {
	Source, Destination netip.Addr
	Protocol            uint8
	// Ports says that SourcePort and DestinationPort are known: TCP or UDP, not a later fragment, not cut before them.
	Ports                       bool
	SourcePort, DestinationPort uint16
	// ICMP says that ICMPType and ICMPCode are known.
	ICMP               bool
	ICMPType, ICMPCode uint8
}

// ParseHeader reads the IP header of a frame; false means that the frame isn't IP, or too damaged to say.
//
// Unstated: a VPC carries no VLAN tags, but recorded traffic may. Tags of 802.1Q and 802.1ad are looked through, so
// that such a frame is filtered by the packet inside; the frame is mirrored with its tags.
//
// Unstated: a later fragment has no ports, so no rule with a port range matches it; rules without one do.
func ParseHeader(frame []byte) (Header, bool) {
	if len(frame) < 14 {
		return Header{}, false
	}
	etherType, rest := binary.BigEndian.Uint16(frame[12:]), frame[14:]
	for etherType == 0x8100 || etherType == 0x88a8 {
		if len(rest) < 4 {
			return Header{}, false
		}
		etherType, rest = binary.BigEndian.Uint16(rest[2:]), rest[4:]
	}
	switch etherType {
	case 0x0800:
		return parseIPv4(rest)
	case 0x86dd:
		return parseIPv6(rest)
	}
	return Header{}, false
}

// parseIPv4 follows RFC 791, section 3.1.
func parseIPv4(b []byte) (Header, bool) {
	if len(b) < 20 || b[0]>>4 != 4 {
		return Header{}, false
	}
	size := int(b[0]&15) * 4
	if size < 20 || len(b) < size {
		return Header{}, false
	}
	h := Header{Source: netip.AddrFrom4([4]byte(b[12:16])), Destination: netip.AddrFrom4([4]byte(b[16:20])), Protocol: b[9]}
	// What follows the packet in the frame is padding. A total length of 0 is that of a packet over 64 KiB which the
	// network card will cut (Linux BIG TCP).
	if total := int(binary.BigEndian.Uint16(b[2:])); total >= size && total < len(b) {
		b = b[:total]
	}
	if binary.BigEndian.Uint16(b[6:])&0x1fff == 0 {
		h.parseUpper(b[size:])
	}
	return h, true
}

// parseIPv6 follows RFC 8200, sections 3 and 4. Extension headers are walked to the upper-layer protocol, which is
// what a rule's protocol means (unstated). The authentication header counts as a protocol of its own, as in IPv4.
func parseIPv6(b []byte) (Header, bool) {
	if len(b) < 40 || b[0]>>4 != 6 {
		return Header{}, false
	}
	h := Header{Source: netip.AddrFrom16([16]byte(b[8:24])), Destination: netip.AddrFrom16([16]byte(b[24:40])), Protocol: b[6]}
	if total := 40 + int(binary.BigEndian.Uint16(b[4:])); total > 40 && total < len(b) {
		b = b[:total]
	}
	for b = b[40:]; ; {
		size := 0
		switch h.Protocol {
		case 0, 43, 60: // hop-by-hop options, routing, destination options
			if len(b) < 8 {
				return h, true
			}
			size = (int(b[1]) + 1) * 8
		case 44: // fragment
			if len(b) < 8 {
				return h, true
			}
			size = 8
		default:
			h.parseUpper(b)
			return h, true
		}
		if h.Protocol == 44 && binary.BigEndian.Uint16(b[2:])>>3 != 0 {
			h.Protocol = b[0]
			return h, true
		}
		if len(b) < size {
			return h, true
		}
		h.Protocol, b = b[0], b[size:]
	}
}

func (h *Header) parseUpper(b []byte) {
	switch h.Protocol {
	case protoTCP, protoUDP:
		if len(b) >= 4 {
			h.Ports = true
			h.SourcePort, h.DestinationPort = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		}
	case protoICMP, protoICMPv6:
		if len(b) >= 2 {
			h.ICMP = true
			h.ICMPType, h.ICMPCode = b[0], b[1]
		}
	}
}
