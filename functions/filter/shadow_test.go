package filter

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"flashtap/events"
	"flashtap/testutil/packets"
)

const (
	all4 = "0.0.0.0/0"
	all6 = "::/0"
)

func acceptAll(direction, family string, number int32) events.FilterRule {
	return events.FilterRule{Number: number, Direction: direction, Action: events.Accept, SourceCIDR: family, DestinationCIDR: family}
}

func TestShadows(t *testing.T) {
	everything := events.EverythingFilter()
	rule := func(number int32, direction, action string, protocol int32, from, to string, destination *events.PortRange) events.FilterRule {
		return events.FilterRule{Number: number, Direction: direction, Action: action, Protocol: protocol, SourceCIDR: from, DestinationCIDR: to, DestinationPorts: destination}
	}
	of := func(dns bool, rules ...events.FilterRule) events.Filter { return events.Filter{DNS: dns, Rules: rules} }
	peer := pair{remote: netip.MustParsePrefix("198.51.100.7/32")}
	for name, row := range map[string]struct {
		ours, theirs events.Filter
		takes        []string
		all          bool
	}{
		"the same filter takes everything":     {everything, everything, []string{"all IPv4 both ways", "all IPv6 both ways", "the VPC resolver's DNS both ways"}, true},
		"a filter without rules takes nothing": {everything, of(false), nil, false},
		"rejects alone take nothing":           {everything, of(false, rule(1, events.Ingress, events.Reject, 0, all4, all4, nil)), nil, false},
		"everything but the resolver's DNS":    {everything, of(false, everything.Rules...), []string{"all IPv4 both ways", "all IPv6 both ways"}, false},
		"DNS alone":                            {everything, of(true), []string{"the VPC resolver's DNS both ways"}, false},
		"DNS that ours does not want":          {of(false, everything.Rules...), everything, []string{"all IPv4 both ways", "all IPv6 both ways"}, true},
		"one port of one direction": {everything, of(false, rule(1, events.Ingress, events.Accept, 6, "198.51.100.0/24", all4, port(443))),
			[]string{"ingress TCP from 198.51.100.0/24 to any, port 443"}, false},
		"another family":     {of(false, acceptAll(events.Ingress, all6, 1)), of(false, acceptAll(events.Ingress, all4, 1)), nil, false},
		"another direction":  {of(false, acceptAll(events.Ingress, all4, 1)), of(false, acceptAll(events.Egress, all4, 1)), nil, false},
		"another protocol":   {of(false, rule(1, events.Egress, events.Accept, 17, all4, all4, nil)), of(false, rule(1, events.Egress, events.Accept, 6, all4, all4, nil)), nil, false},
		"neighbouring ports": {of(false, rule(1, events.Egress, events.Accept, 6, all4, all4, port(80))), of(false, rule(1, events.Egress, events.Accept, 6, all4, all4, port(81))), nil, false},
		"ports of ours, which has none of theirs: fragments are left": {of(false, rule(1, events.Egress, events.Accept, 6, all4, all4, nil)),
			of(false, rule(1, events.Egress, events.Accept, 6, all4, all4, &events.PortRange{From: 0, To: 65535})), []string{"egress TCP over IPv4 from any to any, ports 0-65535"}, false},
		"all but what they reject first": {of(false, acceptAll(events.Egress, all4, 1)),
			of(false, acceptAll(events.Egress, all4, 20), rule(10, events.Egress, events.Reject, 6, all4, "203.0.113.0/24", port(22))),
			[]string{"egress all IPv4, except TCP from any to 203.0.113.0/24, port 22"}, false},
		"what they reject is not what ours wants": {of(false, rule(1, events.Egress, events.Accept, 17, all4, all4, nil)),
			of(false, acceptAll(events.Egress, all4, 20), rule(10, events.Egress, events.Reject, 6, all4, all4, nil)),
			[]string{"egress UDP over IPv4 from any to any"}, true},
		"what they reject, ours rejects too": {of(false, acceptAll(events.Egress, all4, 20), rule(10, events.Egress, events.Reject, 6, all4, all4, port(22))),
			of(false, acceptAll(events.Egress, all4, 9), rule(3, events.Egress, events.Reject, 6, all4, all4, port(22))),
			[]string{"egress all IPv4, except TCP over IPv4 from any to any, port 22"}, true},
		"a reject that comes too late": {of(false, acceptAll(events.Egress, all4, 1)),
			of(false, acceptAll(events.Egress, all4, 1), rule(10, events.Egress, events.Reject, 6, all4, all4, nil)), []string{"egress all IPv4"}, true},
		"two halves are all": {of(false, acceptAll(events.Egress, all4, 1)),
			of(false, rule(1, events.Egress, events.Accept, 0, all4, "0.0.0.0/1", nil), rule(2, events.Egress, events.Accept, 0, all4, "128.0.0.0/1", nil)),
			[]string{"egress IPv4 from any to 0.0.0.0/1", "egress IPv4 from any to 128.0.0.0/1"}, true},
		"a peer both ways": {everything, events.Filter{Rules: peer.rules(1, events.Accept)}, []string{"IPv4 with 198.51.100.7 both ways"}, false},
		"a service both ways": {everything, events.Filter{Rules: pair{protocol: 6, remote: any6, localPorts: port(22)}.rules(1, events.Accept)},
			[]string{"TCP over IPv6 with any both ways, local port 22"}, false},
		"a client both ways": {everything, events.Filter{Rules: pair{protocol: 17, remote: any4, remotePorts: &events.PortRange{From: 53, To: 54}}.rules(1, events.Accept)},
			[]string{"UDP over IPv4 with any both ways, remote ports 53-54"}, false},
		"a rule that can't be read": {of(false, acceptAll(events.Egress, all4, 1)), of(false, rule(1, events.Egress, events.Accept, 0, "garbage", all4, nil)), []string{"egress all IPv4"}, true},
		"a reject that can't be read": {of(false, acceptAll(events.Egress, all4, 2)),
			of(false, rule(1, events.Egress, events.Reject, 0, "garbage", all4, nil), acceptAll(events.Egress, all4, 2)), []string{"egress all IPv4"}, true},
		"many exceptions are counted": {of(false, acceptAll(events.Egress, all4, 9)), of(false, acceptAll(events.Egress, all4, 9),
			rule(1, events.Egress, events.Reject, 6, all4, all4, port(1)), rule(2, events.Egress, events.Reject, 6, all4, all4, port(2)), rule(3, events.Egress, events.Reject, 6, all4, all4, port(3)),
			rule(4, events.Egress, events.Reject, 6, all4, all4, port(4)), rule(5, events.Egress, events.Reject, 6, all4, all4, port(5))),
			[]string{"egress all IPv4, except TCP over IPv4 from any to any, port 1 and TCP over IPv4 from any to any, port 2 and TCP over IPv4 from any to any, port 3 and 2 more"}, false},
	} {
		takes, all := Shadows(row.ours, row.theirs)
		if !slices.Equal(takes, row.takes) || all != row.all {
			t.Errorf("%s: %q, all %t; want %q, all %t", name, takes, all, row.takes, row.all)
		}
	}
}

// TestShadowsPerhaps: what takes too long to find out is said to be taken.
func TestShadowsPerhaps(t *testing.T) {
	everything := events.EverythingFilter()
	takes, all := shadows(everything, everything, 0)
	if !slices.Equal(takes, []string{"perhaps all IPv4 both ways", "perhaps all IPv6 both ways", "the VPC resolver's DNS both ways"}) || !all {
		t.Errorf("%q, all %t", takes, all)
	}
}

// sample is a packet that stands for all those which no rule of the test tells from it.
type sample struct {
	direction Direction
	header    Header
	frame     []byte
}

// TestShadowsAgreesWithTheMatcher: blocks and port ranges are drawn from few, so that the samples stand for every packet. A packet is
// taken exactly when both filters accept it, and a description holds it exactly then.
func TestShadowsAgreesWithTheMatcher(t *testing.T) {
	const seed = 5
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, seed))
	samples := everySample(t)
	var taken, whole, nothing int
	for range 1500 {
		ours, theirs := randomFilter(rng), randomFilter(rng)
		list, rest := compare(ours, theirs, mostBoxes)
		takes, all := Shadows(ours, theirs)
		our, err := FromEvents(ours, nil)
		if err != nil {
			t.Fatal(err)
		}
		their, err := FromEvents(theirs, nil)
		if err != nil {
			t.Fatal(err)
		}
		left, any := false, false
		for _, s := range samples {
			wanted := our.Matches(s.direction, s.frame).Accept
			lost := wanted && their.Matches(s.direction, s.frame).Accept
			left, any = left || wanted && !lost, any || lost
			if said := slices.ContainsFunc(list, s.in); said != lost {
				t.Fatalf("packet %+v: taken %t, said %t\nours %+v\ntheirs %+v\n%q", s.header, lost, said, ours, theirs, takes)
			}
		}
		if (rest == yes) != left || any != (len(list) > 0) || rest == unknown {
			t.Fatalf("left %t, said %v; taken %t, said %q\nours %+v\ntheirs %+v", left, rest, any, takes, ours, theirs)
		}
		if want := len(takes) > 0 && !left && (theirs.DNS || !ours.DNS); all != want {
			t.Fatalf("all %t, want %t", all, want)
		}
		if any != slices.ContainsFunc(takes, func(s string) bool { return !strings.Contains(s, "resolver") }) {
			t.Fatalf("taken %t, but it says %q", any, takes)
		}
		switch {
		case all:
			whole++
		case any:
			taken++
		default:
			nothing++
		}
	}
	if taken < 100 || whole < 100 || nothing < 100 {
		t.Errorf("%d pairs where a part is taken, %d where all is, %d where nothing is: want 100 of each", taken, whole, nothing)
	}
}

func (s sample) in(t taken) bool {
	return t.box.holds(s) && !slices.ContainsFunc(t.except, func(b box) bool { return b.holds(s) })
}

func (b box) holds(s sample) bool {
	h, sp, dp := s.header, noPorts, noPorts
	if h.Ports {
		sp, dp = int(h.SourcePort), int(h.DestinationPort)
	}
	within := func(b block, a netip.Addr) bool { return b.from.Is4() == a.Is4() && !a.Less(b.from) && !b.to.Less(a) }
	return b.direction == string(s.direction) && within(b.source, h.Source) && within(b.destination, h.Destination) && b.protocol.holds(int(h.Protocol)) &&
		b.sourcePorts.holds(sp) && b.destinationPorts.holds(dp)
}

var (
	drawnBlocks = [][]string{{all4, "198.51.0.0/16", "198.51.100.0/24", "198.51.100.7/32"}, {all6, "2001:db8::/32", "2001:db8::7/128"}}
	drawnPorts  = []*events.PortRange{nil, nil, {From: 22, To: 22}, {From: 0, To: 1023}, {From: 23, To: 65535}, {From: 0, To: 65535}}
)

func everySample(t *testing.T) []sample {
	var list []sample
	add := func(frame []byte) {
		h, ok := ParseHeader(frame)
		if !ok {
			t.Fatal("a frame that isn't IP")
		}
		list = append(list, sample{Ingress, h, frame}, sample{Egress, h, frame})
	}
	for _, hosts := range [][]string{{"192.0.2.1", "198.51.1.1", "198.51.100.1", "198.51.100.7"}, {"2002::1", "2001:db8::1", "2001:db8::7"}} {
		for _, from := range hosts {
			for _, to := range hosts {
				source, destination := packets.NewHost(from), packets.NewHost(to)
				for _, sp := range []uint16{1, 22, 1000, 40000} {
					for _, dp := range []uint16{1, 22, 1000, 40000} {
						add(packets.TCP(source.On(sp), destination.On(dp), packets.Segment{Flags: "A"}))
						add(packets.UDP(source.On(sp), destination.On(dp), []byte("x")))
					}
				}
				add(packets.IP(source, destination, 47, make([]byte, 8)))
				if source.IP.Is4() {
					add(packets.Fragments(packets.UDP(source, destination, make([]byte, 2000)), 1000)[1])
					add(packets.Fragments(packets.IP(source, destination, 6, make([]byte, 2000)), 1000)[1])
				} else {
					for _, p := range []byte{6, 17} {
						add(packets.IP(source, destination, 44, []byte{p, 0, 0, 9, 0, 0, 0, 9}))
					}
				}
			}
		}
	}
	return list
}

func randomFilter(rng *rand.Rand) events.Filter {
	f := events.Filter{DNS: rng.IntN(4) == 0}
	if rng.IntN(6) == 0 {
		return events.EverythingFilter()
	}
	for n := range rng.IntN(events.MaxFilterRules + 1) {
		blocks := pick(rng, drawnBlocks...)
		r := events.FilterRule{Number: int32(n + 1), Direction: pick(rng, events.Ingress, events.Egress), Action: pick(rng, events.Accept, events.Accept, events.Reject),
			Protocol: pick(rng, int32(0), 0, 6, 17, 47), SourceCIDR: pick(rng, blocks...), DestinationCIDR: pick(rng, blocks...)}
		if r.Protocol == 6 || r.Protocol == 17 {
			r.SourcePorts, r.DestinationPorts = pick(rng, drawnPorts...), pick(rng, drawnPorts...)
		}
		f.Rules = append(f.Rules, r)
	}
	rng.Shuffle(len(f.Rules), func(i, j int) { f.Rules[i], f.Rules[j] = f.Rules[j], f.Rules[i] })
	return f
}

func TestWords(t *testing.T) {
	for want, r := range map[string]events.FilterRule{
		"ingress TCP from 198.51.100.0/24 to any, port 443":              {Direction: "ingress", Protocol: 6, SourceCIDR: "198.51.100.0/24", DestinationCIDR: all4, DestinationPorts: port(443)},
		"egress TCP from any to 198.51.100.7, source port 22":            {Direction: "egress", Protocol: 6, SourceCIDR: all4, DestinationCIDR: "198.51.100.7/32", SourcePorts: port(22)},
		"egress UDP over IPv6 from any to any, source ports 1-2, port 3": {Direction: "egress", Protocol: 17, SourceCIDR: all6, DestinationCIDR: all6, SourcePorts: &events.PortRange{From: 1, To: 2}, DestinationPorts: port(3)},
		"egress all IPv6":                               {Direction: "egress", SourceCIDR: all6, DestinationCIDR: all6},
		"ingress ICMP from any to any":                  {Direction: "ingress", Protocol: 1, SourceCIDR: all4, DestinationCIDR: all4},
		"ingress IPv4 from 10.0.0.0/8 to any":           {Direction: "ingress", SourceCIDR: "10.0.0.0/8", DestinationCIDR: all4},
		"ingress protocol 47 over IPv4 from any to any": {Direction: "ingress", Protocol: 47, SourceCIDR: all4, DestinationCIDR: all4},
		"ingress from here to there":                    {Direction: "ingress", SourceCIDR: "here", DestinationCIDR: "there"},
	} {
		if got := Words(r); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func ExampleShadows() {
	theirs := events.Filter{Rules: []events.FilterRule{{Number: 1, Direction: events.Egress, Action: events.Accept, Protocol: 6, SourceCIDR: all4, DestinationCIDR: all4, DestinationPorts: port(443)}}}
	takes, all := Shadows(events.EverythingFilter(), theirs)
	fmt.Println(takes, all)
	// Output: [egress TCP over IPv4 from any to any, port 443] false
}
