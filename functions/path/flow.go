// Package path follows packets through a VPC as its described security groups, network ACLs and routes would let them.
package path

import (
	"fmt"
	"net/netip"
)

// Flow is a set of packets that go one way: of a protocol, from addresses to addresses. Both prefixes are of one family.
// Answers come back by a flow of their own.
type Flow struct {
	Protocol  int32 // IANA number; AnyProtocol: all of them
	From, To  netip.Prefix
	FromPorts PortRange // no rule of a group or an ACL speaks of source ports, so this only describes
	ToPorts   PortRange
}

// AnyProtocol is how AWS writes that a rule is about all protocols.
const AnyProtocol = -1

// PortRange is a range of ports, both ends within it. The zero value is all ports.
type PortRange struct{ First, Last int32 }

// Ephemeral are the ports that answers to the collector come back to: Amazon Linux 2023 leaves Linux its default
// (Documentation/networking/ip-sysctl, ip_local_port_range).
var Ephemeral = PortRange{32768, 60999}

// Port is the range of one port.
func Port(n int32) PortRange { return PortRange{n, n} }

// Numbers of protocols (IANA).
const (
	tcp = 6
	udp = 17
)

// vxlanPort is where mirrored copies arrive (RFC 7348, section 5).
const vxlanPort = 4789

// Copies is the flow of mirrored copies. They leave from the primary address of the source's interface, whatever mirrored
// packet they carry (VPC Traffic Mirroring guide, "Packet format"); their outer source port is a hash.
func Copies(source, collector netip.Prefix) Flow {
	return Flow{Protocol: udp, From: source, To: collector, ToPorts: Port(vxlanPort)}
}

// Uploads is the flow of evidence to where S3 answers.
func Uploads(collector, s3 netip.Prefix) Flow {
	return Flow{Protocol: tcp, From: collector, To: s3, FromPorts: Ephemeral, ToPorts: Port(443)}
}

// Answers is the flow that comes back.
func (f Flow) Answers() Flow {
	return Flow{Protocol: f.Protocol, From: f.To, To: f.From, FromPorts: f.ToPorts, ToPorts: f.FromPorts}
}

func (f Flow) String() string {
	return fmt.Sprintf("%s from %s to %s%s", protocolName(f.Protocol), f.From, f.To, f.ToPorts)
}

// String is what to write behind an address.
func (r PortRange) String() string {
	switch {
	case r == PortRange{}:
		return ""
	case r.First == r.Last:
		return fmt.Sprintf(" port %d", r.First)
	default:
		return fmt.Sprintf(" ports %d-%d", r.First, r.Last)
	}
}

func protocolName(number int32) string {
	switch number {
	case AnyProtocol:
		return "everything"
	case 1:
		return "ICMP"
	case tcp:
		return "TCP"
	case udp:
		return "UDP"
	case 58:
		return "ICMPv6"
	}
	return fmt.Sprintf("protocol %d", number)
}

// box is a set of packets as rules see them: protocols, addresses of the far end and destination ports, each a range.
type box struct {
	protocols [2]int32
	addresses [2]netip.Addr
	ports     [2]int32
}

const maxPort = 65535

// boxOf is what rules see of flow f whose far end is there.
func (f Flow) boxOf(there netip.Prefix) box {
	return box{protocols: protocols(f.Protocol), addresses: addresses(there), ports: f.ToPorts.bounds()}
}

func protocols(number int32) [2]int32 {
	if number == AnyProtocol {
		return [2]int32{0, 255}
	}
	return [2]int32{number, number}
}

func (r PortRange) bounds() [2]int32 {
	if r == (PortRange{}) {
		return [2]int32{0, maxPort}
	}
	return [2]int32{r.First, r.Last}
}

// addresses are the first and the last of a prefix.
func addresses(p netip.Prefix) [2]netip.Addr {
	first := p.Masked().Addr()
	last := first.AsSlice()
	for i := range last {
		bits := min(8, max(0, p.Bits()-8*i)) // of this byte that belong to the prefix
		last[i] |= byte(0xff >> bits)
	}
	end, _ := netip.AddrFromSlice(last) // of the length that AsSlice gave
	return [2]netip.Addr{first, end}
}

// meets says that the two share a packet.
func (b box) meets(o box) bool {
	return b.addresses[0].BitLen() == o.addresses[0].BitLen() &&
		b.protocols[0] <= o.protocols[1] && o.protocols[0] <= b.protocols[1] &&
		b.addresses[0].Compare(o.addresses[1]) <= 0 && o.addresses[0].Compare(b.addresses[1]) <= 0 &&
		b.ports[0] <= o.ports[1] && o.ports[0] <= b.ports[1]
}

// without is what of b is not in o.
func (b box) without(o box) []box {
	if !b.meets(o) {
		return []box{b}
	}
	var rest []box
	if b.protocols[0] < o.protocols[0] {
		part := b
		part.protocols[1] = o.protocols[0] - 1
		rest, b.protocols[0] = append(rest, part), o.protocols[0]
	}
	if b.protocols[1] > o.protocols[1] {
		part := b
		part.protocols[0] = o.protocols[1] + 1
		rest, b.protocols[1] = append(rest, part), o.protocols[1]
	}
	if b.addresses[0].Less(o.addresses[0]) {
		part := b
		part.addresses[1] = o.addresses[0].Prev()
		rest, b.addresses[0] = append(rest, part), o.addresses[0]
	}
	if o.addresses[1].Less(b.addresses[1]) {
		part := b
		part.addresses[0] = o.addresses[1].Next()
		rest, b.addresses[1] = append(rest, part), o.addresses[1]
	}
	if b.ports[0] < o.ports[0] {
		part := b
		part.ports[1] = o.ports[0] - 1
		rest, b.ports[0] = append(rest, part), o.ports[0]
	}
	if b.ports[1] > o.ports[1] {
		part := b
		part.ports[0] = o.ports[1] + 1
		rest = append(rest, part)
	}
	return rest
}

// without is what of the boxes is not in o.
func without(boxes []box, o box) []box {
	var rest []box
	for _, b := range boxes {
		rest = append(rest, b.without(o)...)
	}
	return rest
}
