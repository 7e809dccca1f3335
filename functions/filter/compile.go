package filter

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"strings"

	"flashtap/events"
)

// Input is what a filter is compiled from.
type Input struct {
	Profile      string          // one of the profiles; "" is everything, or custom when there is a custom filter
	Finding      *events.Finding // nil: the capture was asked for by hand
	Custom       *events.Filter  // of the profile custom
	IPv6         bool            // the interface has an IPv6 address
	Local        []netip.Addr    // all addresses of the interface
	Resolvers    []netip.Addr    // of its VPC
	ControlCIDRs []string        // where the operators' own SSH and RDP come from
	PacketLength int32           // as asked; 0 is the profile's
}

// Compiled is a filter that AWS takes, and what it means.
type Compiled struct {
	Filter       events.Filter
	PacketLength int32 // 0: whole packets
	Profile      string
	Notes        []string // what it keeps and what it leaves out, a sentence each
}

// Packet lengths, counted from the inner Ethernet header.
const (
	headersLength  = 128 // Ethernet 14, IPv6 40 and TCP with all options 60 leave room for extension headers
	minLengthIPv6  = 55  // VPC Traffic Mirroring guide, "Traffic mirror targets"
	controlPortSSH = 22
	controlPortRDP = 3389
)

// pair is the two rules of one kind of conversation, one in each direction. Filters have no state, so whatever is to be
// seen whole takes both.
type pair struct {
	protocol                int32        // 0: all
	remote                  netip.Prefix // its family is the pair's
	localPorts, remotePorts *events.PortRange
}

// maxPairs is how many pairs a filter has room for.
const maxPairs = events.MaxFilterRules / 2

// rules are those of the pair, with this number in both directions.
func (p pair) rules(number int32, action string) []events.FilterRule {
	local := any4.String()
	if p.remote.Addr().Is6() {
		local = any6.String()
	}
	return []events.FilterRule{
		{Number: number, Direction: events.Ingress, Action: action, Protocol: p.protocol, SourceCIDR: p.remote.String(), DestinationCIDR: local,
			SourcePorts: p.remotePorts, DestinationPorts: p.localPorts},
		{Number: number, Direction: events.Egress, Action: action, Protocol: p.protocol, SourceCIDR: local, DestinationCIDR: p.remote.String(),
			SourcePorts: p.localPorts, DestinationPorts: p.remotePorts},
	}
}

// ingress is what the pair's rule of that direction matches.
func (p pair) ingress() box {
	b := box{direction: events.Ingress, source: blockOf(p.remote), destination: whole4, protocol: anyProtocol,
		sourcePorts: portsOf(p.remotePorts), destinationPorts: portsOf(p.localPorts)}
	if p.remote.Addr().Is6() {
		b.destination = whole6
	}
	if p.protocol != 0 {
		b.protocol = span{int(p.protocol), int(p.protocol)}
	}
	return b
}

func (p pair) meets(o pair) bool {
	_, meet := p.ingress().and(o.ingress())
	return meet
}

var everything = []pair{{remote: any4}, {remote: any6}}

// Compile makes the filter of a profile: rules within AWS's quota that let every packet through that the finding is about. What
// can't be narrowed without the risk of losing one is not narrowed. The error says what is wrong with the input.
func Compile(in Input) (Compiled, error) {
	c := Compiled{Profile: in.Profile}
	if c.Profile == "" {
		c.Profile = events.ProfileEverything
		if in.Custom != nil {
			c.Profile = events.ProfileCustom
		}
	}
	control, err := prefixes(in.ControlCIDRs)
	if err != nil {
		return Compiled{}, err
	}
	if c.Profile == events.ProfileCustom {
		return c.custom(in)
	}
	if !in.IPv6 { // room is for what the interface has now
		slices.SortStableFunc(control, func(a, b netip.Prefix) int { return cmp.Compare(a.Addr().BitLen(), b.Addr().BitLen()) })
	}
	about := subject(in)
	want := wanted{accept: everything, dns: true}
	switch c.Profile {
	case events.ProfileEverything, events.ProfileHeaders:
		c.note("Mirrored is all IPv4 and IPv6 both ways, and the DNS of the VPC's resolver.")
	case events.ProfileFinding:
		want = narrow(in, about)
		c.Notes = append(c.Notes, want.notes...)
	default:
		return Compiled{}, fmt.Errorf("profile %q: want %s, %s, %s or %s", in.Profile,
			events.ProfileEverything, events.ProfileFinding, events.ProfileHeaders, events.ProfileCustom)
	}
	if slices.Equal(want.accept, everything) && !in.IPv6 {
		c.note("IPv6 is among it although the interface has no IPv6 address now: one may be assigned while the capture runs.")
	}
	reject := c.control(control, about, want.accept)
	for i, p := range reject {
		c.Filter.Rules = append(c.Filter.Rules, p.rules(int32(10+10*i), events.Reject)...)
	}
	for i, p := range want.accept {
		c.Filter.Rules = append(c.Filter.Rules, p.rules(int32(100+10*i), events.Accept)...)
	}
	c.Filter.DNS = want.dns
	if err := c.length(in); err != nil {
		return Compiled{}, err
	}
	if err := c.Filter.Validate(); err != nil {
		return Compiled{}, fmt.Errorf("compile filter of profile %s: %w", c.Profile, err)
	}
	return c, nil
}

func (c *Compiled) note(format string, args ...any) {
	c.Notes = append(c.Notes, fmt.Sprintf(format, args...))
}

func (c Compiled) custom(in Input) (Compiled, error) {
	if in.Custom == nil {
		return Compiled{}, errors.New("profile custom needs a filter: neither the request nor the deployment has one")
	}
	if err := in.Custom.Validate(); err != nil {
		return Compiled{}, err
	}
	c.Filter = *in.Custom
	c.note("Mirrored is what the filter of the request or of the deployment says; what no rule accepts is left out.")
	if len(in.ControlCIDRs) > 0 {
		c.note("The operators' own traffic is not left out: a custom filter is taken as it is.")
	}
	err := c.length(in)
	return c, err
}

// length fixes how much of a packet is kept.
func (c *Compiled) length(in Input) error {
	if err := (events.Options{PacketLength: in.PacketLength}).Validate(); err != nil {
		return err
	}
	c.PacketLength = in.PacketLength
	if c.PacketLength == 0 && c.Profile == events.ProfileHeaders {
		c.PacketLength = headersLength
	}
	if c.PacketLength != 0 && c.PacketLength < minLengthIPv6 && in.IPv6 {
		c.note("Of each packet %d bytes are kept instead of %d, the least that AWS takes for IPv6.", minLengthIPv6, c.PacketLength)
		c.PacketLength = minLengthIPv6
	} else if c.PacketLength != 0 {
		c.note("Of each packet the first %d bytes are kept.", c.PacketLength)
	}
	return nil
}

// control are the rejects of the operators' own SSH and RDP to the suspect, as many as there is room for. A reject that meets
// what the finding is about is left out: evidence comes first.
func (c *Compiled) control(from []netip.Prefix, about topic, accept []pair) []pair {
	var reject []pair
	var full, evidence []string
	for _, service := range []struct {
		protocol, port int32
		name           string
	}{{protoTCP, controlPortSSH, "SSH"}, {protoTCP, controlPortRDP, "RDP"}, {protoUDP, controlPortRDP, "RDP over UDP"}} {
		for _, cidr := range from {
			p := pair{protocol: service.protocol, remote: cidr, localPorts: port(service.port)}
			name := service.name + " from " + cidr.String()
			switch {
			case !slices.ContainsFunc(accept, p.meets): // left out anyway
			case slices.ContainsFunc(about.incoming(), p.meets):
				evidence = append(evidence, name)
			case len(reject)+len(accept) >= maxPairs:
				full = append(full, name)
			default:
				reject = append(reject, p)
				c.note("The operators' own %s is left out.", name)
			}
		}
	}
	if len(evidence) > 0 {
		c.note("Not left out, since the finding may be about it: %s.", strings.Join(evidence, ", "))
	}
	if len(full) > 0 {
		c.note("Not left out, since a filter has no room beyond %d rules: %s.", events.MaxFilterRules, strings.Join(full, ", "))
	}
	return reject
}

// prefixes reads blocks, and says the same with as few as possible.
func prefixes(cidrs []string) ([]netip.Prefix, error) {
	var list []netip.Prefix
	for _, text := range cidrs {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("control CIDR: %w", err)
		}
		list = append(list, p.Masked())
	}
	for i := 0; i < len(list); i++ {
		for j := 0; j < len(list); j++ {
			if i == j {
				continue
			}
			whole := supernet(list[i], list[j])
			siblings := list[i] != list[j] && list[i].Bits() == list[j].Bits() && whole.IsValid() && whole.Bits() == list[i].Bits()-1
			if whole == list[i] || siblings {
				list[i] = whole
				list = slices.Delete(list, j, j+1)
				i, j = 0, -1
			}
		}
	}
	return list, nil
}

// supernet is the smallest block that holds both; none when they are of different families.
func supernet(a, b netip.Prefix) netip.Prefix {
	if a.Addr().Is4() != b.Addr().Is4() {
		return netip.Prefix{}
	}
	x, y := a.Addr().As16(), b.Addr().As16()
	same := bits.LeadingZeros64(binary.BigEndian.Uint64(x[:8]) ^ binary.BigEndian.Uint64(y[:8]))
	if same == 64 {
		same += bits.LeadingZeros64(binary.BigEndian.Uint64(x[8:]) ^ binary.BigEndian.Uint64(y[8:]))
	}
	return netip.PrefixFrom(a.Addr(), min(a.Bits(), b.Bits(), same-(128-a.Addr().BitLen()))).Masked()
}

func port(n int32) *events.PortRange { return &events.PortRange{From: n, To: n} }
