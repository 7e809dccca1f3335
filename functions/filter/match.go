package filter

import (
	"fmt"
	"net/netip"
	"slices"

	"flashtap/events"
)

// Action is what a rule does with the packets it matches.
type Action string

const (
	Accept Action = events.Accept
	Reject Action = events.Reject
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

// Matcher is a traffic mirror filter and what it must know of the VPC.
type Matcher struct {
	Rules           []Rule
	NetworkServices []string
	// Resolvers are the addresses of the VPC's resolver, as Resolvers gives them.
	Resolvers []netip.Addr
}

// FromEvents is the matcher of a planned filter, in a VPC whose resolver answers at these addresses.
func FromEvents(f events.Filter, resolvers []netip.Addr) (Matcher, error) {
	m := Matcher{Resolvers: resolvers}
	if f.DNS {
		m.NetworkServices = []string{AmazonDNS}
	}
	ports := func(r *events.PortRange) *PortRange {
		if r == nil {
			return nil
		}
		return &PortRange{From: uint16(r.From), To: uint16(r.To)}
	}
	for i, r := range f.Rules {
		source, err := netip.ParsePrefix(r.SourceCIDR)
		if err != nil {
			return Matcher{}, fmt.Errorf("filter rule %d: sourceCidr: %w", i+1, err)
		}
		destination, err := netip.ParsePrefix(r.DestinationCIDR)
		if err != nil {
			return Matcher{}, fmt.Errorf("filter rule %d: destinationCidr: %w", i+1, err)
		}
		rule := Rule{
			Number: int(r.Number), Direction: Direction(r.Direction), Action: Action(r.Action), Source: source, Destination: destination,
			SourcePorts: ports(r.SourcePorts), DestinationPorts: ports(r.DestinationPorts),
		}
		if r.Protocol != 0 {
			rule.Protocol = &r.Protocol
		}
		m.Rules = append(m.Rules, rule)
	}
	return m, nil
}

// Resolvers are the addresses at which a VPC with this primary CIDR block answers DNS (VPC guide, "DNS attributes for
// your VPC": the base of the block plus two, and two that are the same in every VPC).
func Resolvers(vpc netip.Prefix) []netip.Addr {
	return append([]netip.Addr{vpc.Masked().Addr().Next().Next()}, everywhere...)
}

// everywhere are the resolver's addresses that are the same in every VPC.
var everywhere = []netip.Addr{netip.MustParseAddr("169.254.169.253"), netip.MustParseAddr("fd00:ec2::253")}

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

// Matches decides about one packet (VPC Traffic Mirroring guide, "Filters" and "Limitations"): what is
// never mirrored comes first, then the network service, then the rules of the packet's direction in ascending order,
// of which the first that matches decides. The order of the slice has no meaning.
func (m Matcher) Matches(d Direction, frame []byte) Verdict {
	h, ok := ParseHeader(frame)
	if !ok || neverMirrored(h) {
		return Verdict{Cause: Never}
	}
	if m.withResolver(h) {
		if slices.Contains(m.NetworkServices, AmazonDNS) {
			return Verdict{Accept: true, Cause: ByService}
		}
		return Verdict{Cause: NoService}
	}
	var first *Rule
	for i := range m.Rules {
		r := &m.Rules[i]
		if r.Direction == d && r.matches(h) && (first == nil || r.Number < first.Number) {
			first = r
		}
	}
	if first == nil {
		return Verdict{Cause: NoRule}
	}
	return Verdict{Accept: first.Action == Accept, Cause: ByRule, Rule: first.Number}
}

func (r *Rule) matches(h Header) bool {
	if r.Protocol != nil && *r.Protocol != -1 && *r.Protocol != int32(h.Protocol) {
		return false
	}
	return r.Source.Contains(h.Source) && r.Destination.Contains(h.Destination) &&
		r.SourcePorts.contains(h.Ports, h.SourcePort) && r.DestinationPorts.contains(h.Ports, h.DestinationPort)
}

// withResolver says whether a packet is DNS to or from the VPC's resolver: TCP or UDP with its port 53. The resolver
// answers nothing else, so a fragment without ports counts too (unstated); other protocols follow the rules.
func (m Matcher) withResolver(h Header) bool {
	if h.Protocol != protoTCP && h.Protocol != protoUDP {
		return false
	}
	return slices.Contains(m.Resolvers, h.Destination) && (!h.Ports || h.DestinationPort == 53) ||
		slices.Contains(m.Resolvers, h.Source) && (!h.Ports || h.SourcePort == 53)
}

// unmirrored are the services next to the instance whose traffic is never mirrored (VPC Traffic
// Mirroring guide, "Limitations", names them; their addresses are in the EC2 guide). NTP with other servers is ordinary traffic.
var unmirrored = []netip.Addr{
	netip.MustParseAddr("169.254.169.254"), // instance metadata
	netip.MustParseAddr("fd00:ec2::254"),
	netip.MustParseAddr("169.254.169.123"), // Amazon Time Sync
	netip.MustParseAddr("fd00:ec2::123"),
	netip.MustParseAddr("169.254.169.250"), // Windows activation
	netip.MustParseAddr("169.254.169.251"),
}

// neverMirrored knows the IP traffic that no filter can ask for. ARP, the remaining kind, isn't IP.
func neverMirrored(h Header) bool {
	if slices.Contains(unmirrored, h.Source) || slices.Contains(unmirrored, h.Destination) {
		return true
	}
	if h.Protocol != protoUDP || !h.Ports {
		return false
	}
	// DHCP speaks between ports 67 and 68 (RFC 2131, section 4.1), DHCPv6 between 546 and 547 (RFC 8415, section 7.2).
	dhcp := func(port uint16) bool { return port == 67 || port == 68 }
	if h.Source.Is6() {
		dhcp = func(port uint16) bool { return port == 546 || port == 547 }
	}
	return dhcp(h.SourcePort) && dhcp(h.DestinationPort)
}
