package vxlan

import (
	"encoding/binary"
	"math"
)

// Ethernet types that are looked behind (IANA, "IEEE 802 Numbers").
const (
	typeIPv4    = 0x0800
	typeIPv6    = 0x86dd
	typeVLAN    = 0x8100 // IEEE 802.1Q
	typeService = 0x88a8 // IEEE 802.1ad
	typeQinQ    = 0x9100 // stacked tags before 802.1ad, still in use
)

const (
	vlanTagLen    = 4
	ipv4HeaderLen = 20
	ipv6HeaderLen = 40
)

// OrigLen is how long a frame was before its tail was cut on the way: Traffic Mirroring truncates copies to the
// session's packet length or to the target's MTU without a mark (VPC Traffic Mirroring guide, "Packet format"), but
// the IP header inside still says how long its packet was.
//
// It is never less than len(frame): padding behind the IP packet is part of the frame. A frame whose IP header is
// not there, or is none, was as long as it is. What the header says is the sender's word; a sender that lies about
// its own length makes a whole frame look truncated.
func OrigLen(frame []byte) int {
	// The plainest frames, with as few loads as will do.
	if len(frame) >= etherHeaderLen+6 {
		// Type, first byte of the IP header, one byte more, total length of IPv4, payload length of IPv6.
		w := binary.BigEndian.Uint64(frame[12:20])
		if total := int(uint16(w >> 16)); w>>40 == typeIPv4<<8|0x45 && total >= ipv4HeaderLen {
			return max(len(frame), etherHeaderLen+total)
		}
		if payload := int(uint16(w)); w>>44 == typeIPv6<<4|6 && payload != 0 {
			return max(len(frame), etherHeaderLen+ipv6HeaderLen+payload)
		}
	}
	return origLen(frame)
}

// origLen is OrigLen of any frame.
func origLen(frame []byte) int {
	header, etherType, ok := networkHeader(frame)
	if !ok {
		return len(frame)
	}
	packet := frame[header:]
	said := 0
	switch etherType {
	case typeIPv4:
		said = ipv4Len(packet)
	case typeIPv6:
		said = ipv6Len(packet)
	}
	// A record of a pcap file has 32 bits for the original length (draft-ietf-opsawg-pcap, section 5).
	return max(len(frame), min(header+said, math.MaxUint32))
}

// networkHeader finds the header behind the Ethernet header and any VLAN tags.
func networkHeader(frame []byte) (offset int, etherType uint16, ok bool) {
	if len(frame) < etherHeaderLen {
		return 0, 0, false
	}
	offset = etherHeaderLen
	etherType = binary.BigEndian.Uint16(frame[offset-2:])
	for etherType == typeVLAN || etherType == typeService || etherType == typeQinQ {
		offset += vlanTagLen
		if len(frame) < offset {
			return 0, 0, false
		}
		etherType = binary.BigEndian.Uint16(frame[offset-2:])
	}
	return offset, etherType, true
}

// ipv4Len is the total length that an IPv4 header states (RFC 791, section 3.1), or 0 when there is no sound header.
// A total length of 0, as offloaded segments carry it inside a sender, is no statement either.
func ipv4Len(packet []byte) int {
	if len(packet) < 4 || packet[0]>>4 != 4 || packet[0]&0x0f < ipv4HeaderLen/4 {
		return 0
	}
	total := int(binary.BigEndian.Uint16(packet[2:4]))
	if total < int(packet[0]&0x0f)*4 {
		return 0
	}
	return total
}

// ipv6Len is the length of header and payload that an IPv6 header states (RFC 8200, section 3), or 0 when there is
// no sound header.
func ipv6Len(packet []byte) int {
	if len(packet) < 6 || packet[0]>>4 != 6 {
		return 0
	}
	if payload := int(binary.BigEndian.Uint16(packet[4:6])); payload != 0 {
		return ipv6HeaderLen + payload
	}
	return jumboLen(packet)
}

// jumboLen is the length of an IPv6 jumbogram: its payload length is 0, and a hop-by-hop option carries the real one,
// counted from behind the IPv6 header (RFC 2675, section 2). 0 when there is no such option among the bytes at hand.
func jumboLen(packet []byte) int {
	const (
		optionPad1   = 0x00
		optionJumbo  = 0xc2
		jumboDataLen = 4
	)
	if len(packet) < ipv6HeaderLen+2 || packet[6] != nextHopByHop {
		return 0
	}
	options := packet[ipv6HeaderLen:]
	options = options[:min(len(options), (int(options[1])+1)*8)]
	for i := 2; i < len(options); {
		if options[i] == optionPad1 {
			i++
			continue
		}
		if i+2 > len(options) {
			return 0
		}
		data := int(options[i+1])
		if options[i] == optionJumbo && data == jumboDataLen && i+2+jumboDataLen <= len(options) {
			length := int(binary.BigEndian.Uint32(options[i+2:]))
			if length <= math.MaxUint16 {
				return 0 // RFC 2675, section 3: not a jumbogram
			}
			return ipv6HeaderLen + length
		}
		i += 2 + data
	}
	return 0
}
