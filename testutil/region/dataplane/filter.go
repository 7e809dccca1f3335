package dataplane

import (
	"net/netip"
	"slices"
)

// Action is what a rule does with the packets it matches.
type Action string

const (
	Accept Action = "accept"
	Reject Action = "reject"
)

// Rule is one rule of a traffic mirror filter.
type Rule struct {
	// Number orders the rules of one direction.
	Number    int
	Direction Direction
	Action    Action
	// Protocol is the IANA number; nil or -1 stands for all.
	Protocol *int32
	// Source and Destination match their own address family only: 0.0.0.0/0 matches no IPv6 packet.
	Source, Destination netip.Prefix
	// SourcePorts and DestinationPorts match only TCP and UDP packets whose ports are known; nil stands for all packets.
	SourcePorts, DestinationPorts *PortRange
}

// PortRange includes both ends.
type PortRange struct{ From, To uint16 }

func (r *PortRange) contains(known bool, port uint16) bool {
	return r == nil || known && r.From <= port && port <= r.To
}

// AmazonDNS is the network service that mirrors the traffic with the VPC's resolver.
const AmazonDNS = "amazon-dns"

// Filter is a traffic mirror filter and what it must know of the VPC.
type Filter struct {
	Rules           []Rule
	NetworkServices []string
	// Resolvers are the addresses of the VPC's resolver, as Resolvers gives them.
	Resolvers []netip.Addr
}

// Resolvers are the addresses at which a VPC with this primary CIDR block answers DNS (VPC guide, "DNS attributes for
// your VPC": the base of the block plus two, and two that are the same in every VPC).
func Resolvers(vpc netip.Prefix) []netip.Addr {
	return []netip.Addr{
		vpc.Masked().Addr().Next().Next(),
		netip.MustParseAddr("169.254.169.253"),
		netip.MustParseAddr("fd00:ec2::253"),
	}
}

// Cause says what decided about a packet.
type Cause string

const (
	// ByRule: Verdict.Rule decided.
	ByRule Cause = "rule"
	// ByService: traffic with the resolver, and the filter has amazon-dns.
	ByService Cause = "network service"
	// NoService: traffic with the resolver, and the filter lacks amazon-dns; rules can't mirror it.
	NoService Cause = "resolver without network service"
	// NoRule: no rule matched, and what no rule accepts isn't mirrored.
	NoRule Cause = "no rule"
	// Never: a kind of traffic that is never mirrored, or not IP at all.
	Never Cause = "never mirrored"
)

// Verdict is what a filter says about a packet.
type Verdict struct {
	Accept bool
	Cause  Cause
	// Rule is the number of the deciding rule, 0 for the other causes.
	Rule int
}

// Matches decides about one packet (TM/traffic-mirroring-filters, TM/traffic-mirroring-network-limitations): what is
// never mirrored comes first, then the network service, then the rules of the packet's direction in ascending order,
// of which the first that matches decides. The order of the slice has no meaning.
func (f Filter) Matches(p Packet) Verdict {
	h, ok := parse(p.Data)
	if !ok || neverMirrored(h) {
		return Verdict{Cause: Never}
	}
	if f.withResolver(h) {
		if slices.Contains(f.NetworkServices, AmazonDNS) {
			return Verdict{Accept: true, Cause: ByService}
		}
		return Verdict{Cause: NoService}
	}
	var first *Rule
	for i := range f.Rules {
		r := &f.Rules[i]
		if r.Direction == p.Direction && r.matches(h) && (first == nil || r.Number < first.Number) {
			first = r
		}
	}
	if first == nil {
		return Verdict{Cause: NoRule}
	}
	return Verdict{Accept: first.Action == Accept, Cause: ByRule, Rule: first.Number}
}

func (r *Rule) matches(h header) bool {
	if r.Protocol != nil && *r.Protocol != -1 && *r.Protocol != int32(h.protocol) {
		return false
	}
	return r.Source.Contains(h.src) && r.Destination.Contains(h.dst) &&
		r.SourcePorts.contains(h.ports, h.srcPort) && r.DestinationPorts.contains(h.ports, h.dstPort)
}

// withResolver says whether a packet is DNS to or from the VPC's resolver: TCP or UDP with its port 53. The resolver
// answers nothing else, so a fragment without ports counts too (unstated); other protocols follow the rules.
func (f Filter) withResolver(h header) bool {
	if h.protocol != protoTCP && h.protocol != protoUDP {
		return false
	}
	return slices.Contains(f.Resolvers, h.dst) && (!h.ports || h.dstPort == 53) ||
		slices.Contains(f.Resolvers, h.src) && (!h.ports || h.srcPort == 53)
}

// unmirrored are the services next to the instance whose traffic is never mirrored (TM/traffic-mirroring-network-
// limitations names them; their addresses are in the EC2 guide). NTP with other servers is ordinary traffic.
var unmirrored = []netip.Addr{
	netip.MustParseAddr("169.254.169.254"), // instance metadata
	netip.MustParseAddr("fd00:ec2::254"),
	netip.MustParseAddr("169.254.169.123"), // Amazon Time Sync
	netip.MustParseAddr("fd00:ec2::123"),
	netip.MustParseAddr("169.254.169.250"), // Windows activation
	netip.MustParseAddr("169.254.169.251"),
}

// neverMirrored knows the IP traffic that no filter can ask for. ARP, the remaining kind, isn't IP.
func neverMirrored(h header) bool {
	if slices.Contains(unmirrored, h.src) || slices.Contains(unmirrored, h.dst) {
		return true
	}
	if h.protocol != protoUDP || !h.ports {
		return false
	}
	// DHCP speaks between ports 67 and 68 (RFC 2131, section 4.1), DHCPv6 between 546 and 547 (RFC 8415, section 7.2).
	dhcp := func(port uint16) bool { return port == 67 || port == 68 }
	if h.src.Is6() {
		dhcp = func(port uint16) bool { return port == 546 || port == 547 }
	}
	return dhcp(h.srcPort) && dhcp(h.dstPort)
}
