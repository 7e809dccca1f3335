package filter

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"flashtap/testutil/packets"
)

var (
	suspect   = packets.NewHost("10.0.1.10")
	suspect6  = packets.NewHost("2001:db8:1::10")
	internet  = packets.NewHost("192.0.2.7")
	internet6 = packets.NewHost("2001:db8:2::7")
	resolver  = packets.NewHost("10.0.0.2")

	vpc = netip.MustParsePrefix("10.0.0.0/16")
)

func TestMatches(t *testing.T) {
	tcp, udp, icmp, all, hopByHop := int32(6), int32(17), int32(1), int32(-1), int32(0)
	rule := func(number int, d Direction, a Action) Rule {
		return Rule{Number: number, Direction: d, Action: a, Source: any4, Destination: any4}
	}
	with := func(r Rule, change func(*Rule)) Rule { change(&r); return r }
	syn := packets.TCP(suspect.On(40000), internet.On(443), packets.Segment{Flags: "S"})
	datagram := packets.UDP(suspect.On(40000), internet.On(443), bytes.Repeat([]byte("x"), 4000))
	query := packets.DNSQuery(suspect.On(40000), resolver, 1, "example.com")
	later := packets.Fragments(datagram, 1000)[1]
	full := []Rule{rule(1, Ingress, Accept), rule(1, Egress, Accept),
		{Number: 2, Direction: Ingress, Action: Accept, Source: any6, Destination: any6},
		{Number: 2, Direction: Egress, Action: Accept, Source: any6, Destination: any6}}
	service := []string{AmazonDNS}

	accepted := func(n int) Verdict { return Verdict{Accept: true, Cause: ByRule, Rule: n} }
	rejected := func(n int) Verdict { return Verdict{Cause: ByRule, Rule: n} }
	for _, c := range []struct {
		reason    string
		rules     []Rule
		services  []string
		direction Direction
		frame     []byte
		want      Verdict
	}{
		{"nothing is mirrored without a rule", nil, nil, Egress, syn, Verdict{Cause: NoRule}},
		{"nothing outbound without an egress rule", []Rule{rule(1, Ingress, Accept)}, nil, Egress, syn, Verdict{Cause: NoRule}},
		{"a rule without protocol is for all", full, nil, Egress, syn, accepted(1)},
		{"protocol -1 is for all", []Rule{with(rule(5, Egress, Accept), func(r *Rule) { r.Protocol = &all })}, nil, Egress, syn, accepted(5)},
		{"another protocol does not match", []Rule{with(rule(5, Egress, Accept), func(r *Rule) { r.Protocol = &udp })}, nil, Egress, syn, Verdict{Cause: NoRule}},
		{"protocol 0 is hop-by-hop options, not all", []Rule{with(rule(5, Egress, Accept), func(r *Rule) { r.Protocol = &hopByHop })}, nil, Egress, syn, Verdict{Cause: NoRule}},
		{"the lowest number decides, not the first in the list", []Rule{rule(20, Egress, Accept), rule(10, Egress, Reject)}, nil, Egress, syn, rejected(10)},
		{"numbers of the other direction play no part", []Rule{rule(20, Egress, Accept), rule(10, Ingress, Reject)}, nil, Egress, syn, accepted(20)},
		{"a rule that does not match gives way to the next", []Rule{with(rule(10, Egress, Reject), func(r *Rule) { r.Protocol = &udp }), rule(20, Egress, Accept)}, nil, Egress, syn, accepted(20)},
		{"source block", []Rule{with(rule(1, Egress, Accept), func(r *Rule) { r.Source = vpc })}, nil, Egress, syn, accepted(1)},
		{"destination block", []Rule{with(rule(1, Egress, Accept), func(r *Rule) { r.Destination = vpc })}, nil, Egress, syn, Verdict{Cause: NoRule}},
		{"0.0.0.0/0 matches no IPv6", []Rule{rule(1, Egress, Accept)}, nil, Egress, packets.Echo(suspect6, internet6, 1, 1, nil), Verdict{Cause: NoRule}},
		{"::/0 matches no IPv4", full[2:], nil, Egress, syn, Verdict{Cause: NoRule}},
		{"IPv6 has its own rules", full, nil, Ingress, packets.Echo(internet6, suspect6, 1, 1, nil), accepted(2)},
		{"a port range includes both ends", []Rule{with(rule(1, Egress, Accept), func(r *Rule) {
			r.SourcePorts, r.DestinationPorts = &PortRange{39000, 40000}, &PortRange{443, 500}
		})}, nil, Egress, syn, accepted(1)},
		{"a port outside the range", []Rule{with(rule(1, Egress, Accept), func(r *Rule) { r.DestinationPorts = &PortRange{444, 500} })}, nil, Egress, syn, Verdict{Cause: NoRule}},
		{"filters have no state: the answer has other ports", []Rule{with(rule(1, Ingress, Reject), func(r *Rule) { r.DestinationPorts = &PortRange{443, 443} }), rule(2, Ingress, Accept)}, nil, Ingress,
			packets.TCP(internet.On(443), suspect.On(40000), packets.Segment{Flags: "SA"}), accepted(2)},
		{"ports match no ICMP, even 0 to 65535", []Rule{with(rule(1, Egress, Accept), func(r *Rule) { r.DestinationPorts = &PortRange{0, 65535} })}, nil, Egress, packets.Echo(suspect, internet, 1, 1, nil), Verdict{Cause: NoRule}},
		{"ports match no later fragment", []Rule{with(rule(1, Egress, Accept), func(r *Rule) { r.DestinationPorts = &PortRange{0, 65535} })}, nil, Egress, later, Verdict{Cause: NoRule}},
		{"ports match the first fragment", []Rule{with(rule(1, Egress, Accept), func(r *Rule) { r.DestinationPorts = &PortRange{443, 443} })}, nil, Egress, packets.Fragments(datagram, 1000)[0], accepted(1)},
		{"the protocol matches a later fragment", []Rule{with(rule(1, Egress, Accept), func(r *Rule) { r.Protocol = &udp })}, nil, Egress, later, accepted(1)},
		{"a protocol without ports", []Rule{with(rule(1, Egress, Accept), func(r *Rule) { r.Protocol = &icmp })}, nil, Egress, packets.Echo(suspect, internet, 1, 1, nil), accepted(1)},
		{"tags are looked through", []Rule{with(rule(1, Egress, Accept), func(r *Rule) { r.Protocol = &tcp })}, nil, Egress, packets.Tagged(syn, 7, 8), accepted(1)},

		{"DNS to the resolver is not mirrored by rules", full, nil, Egress, query, Verdict{Cause: NoService}},
		{"DNS to the resolver, with the service", full, service, Egress, query, Verdict{Accept: true, Cause: ByService}},
		{"the service needs no rule", nil, service, Egress, query, Verdict{Accept: true, Cause: ByService}},
		{"no rule rejects the service", []Rule{rule(1, Egress, Reject)}, service, Egress, query, Verdict{Accept: true, Cause: ByService}},
		{"the resolver's answer", nil, service, Ingress, packets.DNSAnswer(resolver, suspect.On(40000), 1, "example.com", internet.IP), Verdict{Accept: true, Cause: ByService}},
		{"DNS over TCP", nil, service, Egress, packets.TCP(suspect.On(40000), resolver.On(53), packets.Segment{Flags: "S"}), Verdict{Accept: true, Cause: ByService}},
		{"the resolver's link-local address", full, nil, Egress, packets.DNSQuery(suspect.On(1), packets.NewHost("169.254.169.253"), 1, "a"), Verdict{Cause: NoService}},
		{"the resolver's IPv6 address", full, nil, Egress, packets.DNSQuery(suspect6.On(1), packets.NewHost("fd00:ec2::253"), 1, "a"), Verdict{Cause: NoService}},
		{"a later fragment of the resolver's answer", full, nil, Ingress, packets.Fragments(packets.UDP(resolver.On(53), suspect.On(1), make([]byte, 3000)), 1000)[2], Verdict{Cause: NoService}},
		{"DNS with another resolver follows the rules", full, nil, Egress, packets.DNSQuery(suspect.On(1), internet, 1, "a"), accepted(1)},
		{"the service brings no DNS of another resolver", nil, service, Egress, packets.DNSQuery(suspect.On(1), internet, 1, "a"), Verdict{Cause: NoRule}},
		{"another port of the resolver follows the rules", full, nil, Egress, packets.TCP(suspect.On(53), resolver.On(22), packets.Segment{Flags: "S"}), accepted(1)},
		{"a ping of the resolver follows the rules", full, nil, Egress, packets.Echo(suspect, resolver, 1, 1, nil), accepted(1)},

		{"ARP", full, service, Egress, packets.ARPRequest(suspect, resolver.IP), Verdict{Cause: Never}},
		{"not IP", full, service, Egress, packets.Ethernet(suspect, internet, 0x88cc, make([]byte, 40)), Verdict{Cause: Never}},
		{"DHCP", full, service, Egress, packets.DHCPDiscover(suspect), Verdict{Cause: Never}},
		{"DHCP's answer", full, service, Ingress, packets.UDP(resolver.On(67), suspect.On(68), nil), Verdict{Cause: Never}},
		{"DHCPv6", full, service, Egress, packets.UDP(suspect6.On(546), internet6.On(547), nil), Verdict{Cause: Never}},
		{"one port of DHCP alone is ordinary", full, nil, Egress, packets.UDP(suspect.On(40000), internet.On(67), nil), accepted(1)},
		{"ports of DHCPv6 are ordinary in IPv4", full, nil, Egress, packets.UDP(suspect.On(546), internet.On(547), nil), accepted(1)},
		{"instance metadata", full, nil, Egress, packets.TCP(suspect.On(1), packets.NewHost("169.254.169.254").On(80), packets.Segment{Flags: "S"}), Verdict{Cause: Never}},
		{"instance metadata over IPv6", full, nil, Ingress, packets.TCP(packets.NewHost("fd00:ec2::254").On(80), suspect6.On(1), packets.Segment{Flags: "SA"}), Verdict{Cause: Never}},
		{"the time service", full, nil, Egress, packets.UDP(suspect.On(123), packets.NewHost("169.254.169.123").On(123), nil), Verdict{Cause: Never}},
		{"NTP with another server is ordinary", full, nil, Egress, packets.UDP(suspect.On(123), internet.On(123), nil), accepted(1)},
		{"Windows activation", full, nil, Egress, packets.TCP(suspect.On(1), packets.NewHost("169.254.169.250").On(1688), packets.Segment{Flags: "S"}), Verdict{Cause: Never}},
		{"the other address of Windows activation", full, nil, Egress, packets.TCP(suspect.On(1), packets.NewHost("169.254.169.251").On(1688), packets.Segment{Flags: "S"}), Verdict{Cause: Never}},
		{"tags hide nothing that is never mirrored", full, nil, Egress, packets.Tagged(packets.DHCPDiscover(suspect), 5), Verdict{Cause: Never}},

		{"no frame at all", full, service, Egress, nil, Verdict{Cause: Never}},
		{"cut within the IP header", full, service, Egress, syn[:30], Verdict{Cause: Never}},
		{"cut before the ports", full, service, Egress, syn[:36], accepted(1)},
		{"an IPv4 header length that can't be", full, service, Egress, damaged(syn, 14, 0x44), Verdict{Cause: Never}},
		{"a version that is not the EtherType's", full, service, Egress, damaged(syn, 14, 0x65), Verdict{Cause: Never}},
	} {
		t.Run(c.reason, func(t *testing.T) {
			f := Matcher{Rules: c.rules, NetworkServices: c.services, Resolvers: Resolvers(vpc)}
			got := f.Matches(c.direction, c.frame)
			if got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}

func damaged(frame []byte, at int, value byte) []byte {
	out := bytes.Clone(frame)
	out[at] = value
	return out
}

func TestExtensionHeadersAreWalkedToTheProtocol(t *testing.T) {
	ports := []byte{0x9c, 0x40, 0x01, 0xbb, 0, 8, 0, 0} // 40000 to 443
	for _, c := range []struct {
		reason string
		first  uint8
		after  []byte
		want   uint8
		ports  bool
	}{
		{"none", 17, ports, 17, true},
		{"hop-by-hop options", 0, append([]byte{17, 0, 1, 4, 0, 0, 0, 0}, ports...), 17, true},
		{"routing of 16 bytes, then destination options", 43,
			slices.Concat([]byte{60, 1}, make([]byte, 14), []byte{6, 0, 1, 4, 0, 0, 0, 0}, ports), 6, true},
		{"first fragment", 44, append([]byte{17, 0, 0, 1, 0, 0, 0, 9}, ports...), 17, true},
		{"later fragment", 44, append([]byte{17, 0, 0, 9, 0, 0, 0, 9}, ports...), 17, false},
		{"a later fragment's header is not walked on", 44, append([]byte{60, 0, 0, 9, 0, 0, 0, 9}, ports...), 60, false},
		{"authentication counts as a protocol", 51, append([]byte{17, 1, 0, 0}, ports...), 51, false},
		{"cut within an extension", 0, []byte{17, 0, 1}, 0, false},
		{"an extension longer than the packet", 60, []byte{17, 200, 0, 0, 0, 0, 0, 0}, 60, false},
	} {
		t.Run(c.reason, func(t *testing.T) {
			h, ok := ParseHeader(packets.IP(suspect6, internet6, c.first, c.after))
			if !ok || h.Protocol != c.want || h.Ports != c.ports {
				t.Fatalf("protocol %d, ports %v; want %d, %v", h.Protocol, h.Ports, c.want, c.ports)
			}
			if h.Ports && (h.SourcePort != 40000 || h.DestinationPort != 443) {
				t.Errorf("ports %d and %d", h.SourcePort, h.DestinationPort)
			}
		})
	}
}

func TestPaddingIsNotReadAsPorts(t *testing.T) {
	padded := append(packets.IP(suspect, internet, 17, nil), make([]byte, 26)...)
	if h, ok := ParseHeader(padded); !ok || h.Ports {
		t.Errorf("ports %v of a packet without a UDP header", h.Ports)
	}
}

func TestEveryPacketOverSixtyFourKiBIsStillIP(t *testing.T) {
	for _, f := range packets.MustLoad("tcpdump-bigtcp-ipv4.pcap") {
		if h, ok := ParseHeader(f.Data); !ok || !h.Ports {
			t.Errorf("a frame of %d bytes: IP %v, ports %v", len(f.Data), ok, h.Ports)
		}
	}
}

// flow is a packet as the test chose it, so that the reference below never looks at bytes.
type flow struct {
	from, to  packets.Host
	protocol  int32
	ports     bool
	direction Direction
}

// TestMatchesAgreesWithTheChosenFlow compares the filter, which sees bytes, with one that sees what they were made of.
func TestMatchesAgreesWithTheChosenFlow(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	causes := map[Cause]int{}
	for range 20000 {
		f := Matcher{Resolvers: Resolvers(vpc)}
		for n := range rng.IntN(11) {
			f.Rules = append(f.Rules, randomRule(rng, n+1))
		}
		rng.Shuffle(len(f.Rules), func(i, j int) { f.Rules[i], f.Rules[j] = f.Rules[j], f.Rules[i] })
		if rng.IntN(2) == 0 {
			f.NetworkServices = []string{AmazonDNS}
		}
		flow, frame := randomFrame(rng)
		want := reference(f, flow)
		got := f.Matches(flow.direction, frame)
		if got != want {
			t.Fatalf("%+v under %+v: %+v, want %+v", flow, f, got, want)
		}
		causes[got.Cause]++
	}
	for _, c := range []Cause{ByRule, ByService, NoService, NoRule, Never} {
		if causes[c] < 100 {
			t.Errorf("only %d packets of cause %q were tried", causes[c], c)
		}
	}
}

func randomRule(rng *rand.Rand, number int) Rule {
	blocks := [][2]string{{"0.0.0.0/0", "0.0.0.0/0"}, {"::/0", "::/0"}, {"10.0.0.0/16", "0.0.0.0/0"}, {"0.0.0.0/0", "10.0.1.10/32"},
		{"2001:db8:1::/48", "::/0"}, {"::/0", "2001:db8:1::10/128"}, {"192.0.2.0/24", "10.0.0.0/8"}}
	b := blocks[rng.IntN(len(blocks))]
	r := Rule{Number: number, Direction: pick(rng, Ingress, Egress), Action: pick(rng, Accept, Reject),
		Source: netip.MustParsePrefix(b[0]), Destination: netip.MustParsePrefix(b[1])}
	if rng.IntN(2) == 0 {
		p := pick(rng, int32(-1), 1, 6, 17, 58, 47)
		r.Protocol = &p
	}
	if rng.IntN(4) == 0 {
		r.SourcePorts = &PortRange{uint16(rng.IntN(100)), uint16(100 + rng.IntN(500))}
	}
	if rng.IntN(4) == 0 {
		r.DestinationPorts = &PortRange{uint16(rng.IntN(100)), uint16(100 + rng.IntN(500))}
	}
	return r
}

func randomFrame(rng *rand.Rand) (flow, []byte) {
	port := func() uint16 { return pick(rng, uint16(22), 53, 67, 68, 443, 546, 547, 600, 40000) }
	f := flow{protocol: pick(rng, int32(1), 6, 6, 17, 17, 17, 47, 58), direction: pick(rng, Ingress, Egress)}
	if rng.IntN(2) == 0 {
		f.from = pick(rng, suspect, internet, packets.NewHost("169.254.169.254"), packets.NewHost("169.254.169.253"))
		f.to = pick(rng, suspect, internet, resolver, packets.NewHost("169.254.169.123"))
	} else {
		f.from = pick(rng, suspect6, internet6, packets.NewHost("fd00:ec2::254"))
		f.to = pick(rng, suspect6, internet6, packets.NewHost("fd00:ec2::253"))
	}
	f.from, f.to = f.from.On(port()), f.to.On(port())
	var frame []byte
	switch f.protocol {
	case 6:
		f.ports, frame = true, packets.TCP(f.from, f.to, packets.Segment{Flags: "A"})
	case 17:
		f.ports, frame = true, packets.UDP(f.from, f.to, []byte("payload"))
	default:
		frame = packets.IP(f.from, f.to, uint8(f.protocol), make([]byte, 20))
	}
	if rng.IntN(4) == 0 {
		frame = packets.Tagged(frame, uint16(rng.IntN(4096)))
	}
	return f, frame
}

func pick[T any](rng *rand.Rand, from ...T) T { return from[rng.IntN(len(from))] }

func reference(f Matcher, p flow) Verdict {
	for _, ip := range []string{p.from.IP.String(), p.to.IP.String()} {
		if slices.Contains([]string{"169.254.169.254", "169.254.169.123", "fd00:ec2::254"}, ip) {
			return Verdict{Cause: Never}
		}
	}
	if p.protocol == 17 {
		ports := fmt.Sprint(min(p.from.Port, p.to.Port), max(p.from.Port, p.to.Port))
		dhcp := map[bool][]string{true: {"67 67", "67 68", "68 68"}, false: {"546 546", "546 547", "547 547"}}
		if slices.Contains(dhcp[p.from.IP.Is4()], ports) {
			return Verdict{Cause: Never}
		}
	}
	dns := func(h packets.Host) bool {
		return h.Port == 53 && slices.Contains([]string{"10.0.0.2", "169.254.169.253", "fd00:ec2::253"}, h.IP.String())
	}
	if p.ports && (dns(p.from) || dns(p.to)) {
		if len(f.NetworkServices) > 0 {
			return Verdict{Accept: true, Cause: ByService}
		}
		return Verdict{Cause: NoService}
	}
	for number := 1; number <= 11; number++ {
		for _, r := range f.Rules {
			if r.Number != number || r.Direction != p.direction {
				continue
			}
			protocol := r.Protocol == nil || *r.Protocol == -1 || *r.Protocol == p.protocol
			source := r.SourcePorts == nil || p.ports && p.from.Port >= r.SourcePorts.From && p.from.Port <= r.SourcePorts.To
			target := r.DestinationPorts == nil || p.ports && p.to.Port >= r.DestinationPorts.From && p.to.Port <= r.DestinationPorts.To
			if protocol && source && target && r.Source.Contains(p.from.IP) && r.Destination.Contains(p.to.IP) {
				return Verdict{Accept: r.Action == Accept, Cause: ByRule, Rule: number}
			}
		}
	}
	return Verdict{Cause: NoRule}
}

func FuzzMatches(f *testing.F) {
	for _, name := range packets.Names() {
		frames, _ := packets.Load(name)
		for _, frame := range frames[:min(3, len(frames))] {
			f.Add(frame.Data, true)
		}
	}
	f.Fuzz(func(t *testing.T, frame []byte, out bool) {
		direction := Ingress
		if out {
			direction = Egress
		}
		var everything, nothing Matcher
		everything.NetworkServices = []string{AmazonDNS}
		everything.Resolvers = Resolvers(vpc)
		nothing.Resolvers = everything.Resolvers
		for _, d := range []Direction{Ingress, Egress} {
			for i, block := range []netip.Prefix{any4, any6} {
				everything.Rules = append(everything.Rules, Rule{Number: 10 + i, Direction: d, Action: Accept, Source: block, Destination: block})
				nothing.Rules = append(nothing.Rules, Rule{Number: 10 + i, Direction: d, Action: Reject, Source: block, Destination: block})
			}
		}
		_, isIP := ParseHeader(frame)
		yes, no := everything.Matches(direction, frame), nothing.Matches(direction, frame)
		switch {
		case no.Accept:
			t.Fatalf("mirrored although all is rejected: %+v", no)
		case yes.Cause == NoRule:
			t.Fatal("an IP packet that neither 0.0.0.0/0 nor ::/0 matches")
		case yes.Accept == (yes.Cause == Never), (no.Cause == Never) != (yes.Cause == Never):
			t.Fatalf("accepting all %+v, rejecting all %+v", yes, no)
		case !isIP && yes.Accept:
			t.Fatalf("mirrored although not IP: %+v", yes)
		}
	})
}
