package dataplane

import (
	"encoding/binary"
	"hash/fnv"

	"flashtap/functions/filter"
)

// What AWS subtracts from the target's MTU to get the largest packet that is mirrored whole (TM/traffic-mirroring-
// network-limitations). It is more than the 50 and 70 bytes of the headers alone.
const (
	overheadIPv4 = 54
	overheadIPv6 = 74
)

// ethernetHeader is what a frame has more than the packet inside, which MTUs count.
const ethernetHeader = 14

// Cut says what shortened a mirrored frame.
type Cut string

const (
	Whole Cut = ""
	// ToLength: the session's PacketLength asked for less.
	ToLength Cut = "packet length"
	// ToMTU: the target couldn't have received more.
	ToMTU Cut = "MTU"
)

// Keep returns the bytes of frame that the session mirrors: at most PacketLength, then at most what fits the target's
// MTU. AWS calls lossless a source MTU of the target's minus 54 (74 for an IPv6 target), and MTUs don't count the
// Ethernet header: so the frame may be 14 bytes longer than that.
func (s Session) Keep(frame []byte) ([]byte, Cut) {
	kept, cut := frame, Whole
	if s.PacketLength > 0 && len(kept) > s.PacketLength {
		kept, cut = kept[:s.PacketLength], ToLength
	}
	if room := s.room(); len(kept) > room {
		kept, cut = kept[:room], ToMTU
	}
	return kept, cut
}

func (s Session) room() int {
	mtu, overhead := s.MTU, overheadIPv4
	if mtu == 0 {
		mtu = DefaultMTU
	}
	if s.Target.Addr().Unmap().Is6() {
		overhead = overheadIPv6
	}
	return mtu - overhead + ethernetHeader
}

// appendVXLAN appends the payload of the UDP datagram: the VXLAN header and the frame.
func appendVXLAN(b []byte, vni uint32, frame []byte) []byte {
	const vniIsValid = 0x08
	b = append(b, vniIsValid, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, vni<<8)
	return append(b, frame...)
}

// The datagrams' source ports. RFC 7348, section 5, recommends 49152 to 65535; the plane folds the hash into 64 of
// them, as each costs a socket, above the ports that Linux hands out by default (32768 to 60999).
const (
	firstPort = 61440
	portCount = 64
)

// SourcePort is the outer source port of a frame: a hash of the 5-tuple for TCP, UDP and ICMP, of the 3-tuple
// otherwise (TM/traffic-mirroring-packet-formats). Ports 61440 to 61503.
//
// Unstated: the hash itself, whether both directions of a flow agree (here they don't), what stands for the ports
// of ICMP (here type and code), and what is hashed when ports are missing (here the 3-tuple).
func SourcePort(frame []byte) uint16 {
	hash := fnv.New32a()
	if h, ok := filter.ParseHeader(frame); ok {
		hash.Write(h.Source.AsSlice())
		hash.Write(h.Destination.AsSlice())
		hash.Write([]byte{h.Protocol})
		switch {
		case h.Ports:
			hash.Write([]byte{byte(h.SourcePort >> 8), byte(h.SourcePort), byte(h.DestinationPort >> 8), byte(h.DestinationPort)})
		case h.ICMP:
			hash.Write([]byte{h.ICMPType, h.ICMPCode})
		}
	}
	sum := hash.Sum32()
	sum ^= sum >> 16 // FNV mixes its low bits least
	return firstPort + uint16(sum%portCount)
}
