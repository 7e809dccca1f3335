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

// The property: whatever finding and interface, every packet that the finding is about passes the filter that was compiled for it. What a
// finding is about is said here a second time, in terms of packets, by code that shares nothing with the compiler.
const (
	propertySeed  = 20261126
	propertyCases = 100_000
)

func TestEveryPacketOfTheFindingPasses(t *testing.T) {
	t.Logf("seed %d, %d cases", propertySeed, propertyCases)
	var seen tried
	if violation := search(t, propertyCases, func(c Compiled) Compiled { return c }, &seen); violation != "" {
		t.Fatal(violation)
	}
	t.Logf("%+v", seen)
	if seen.packets < propertyCases || seen.narrowed < propertyCases/4 || seen.service < 1000 || seen.ipv6 < 1000 || seen.rejecting < 1000 || seen.merged < 100 {
		t.Errorf("the cases are too alike: %+v", seen)
	}
}

// tried counts what the cases were like.
type tried struct{ packets, narrowed, service, ipv6, rejecting, merged, operators int }

// TestTheOperatorsTrafficIsLeftOut: where a note says so, it is; and nothing else is.
func TestTheOperatorsTrafficIsLeftOut(t *testing.T) {
	var seen tried
	if violation := search(t, 5000, func(c Compiled) Compiled { c.Filter.Rules = slices.DeleteFunc(c.Filter.Rules, rejecting); return c }, &seen); !strings.Contains(violation, "operators") {
		t.Errorf("a compiler without rejects is not caught: %q", violation)
	}
}

func rejecting(r events.FilterRule) bool { return r.Action == events.Reject }

// TestMutationsAreCaught: the property is worth something only if a compiler that is wrong does not have it.
func TestMutationsAreCaught(t *testing.T) {
	rules := func(change func(i int, r events.FilterRule) (events.FilterRule, bool)) func(Compiled) Compiled {
		return func(c Compiled) Compiled {
			var kept []events.FilterRule
			for i, r := range c.Filter.Rules {
				if r, keep := change(i, r); keep {
					kept = append(kept, r)
				}
			}
			c.Filter.Rules = kept
			return c
		}
	}
	accepting := func(keep func(r events.FilterRule) bool) func(Compiled) Compiled {
		return rules(func(_ int, r events.FilterRule) (events.FilterRule, bool) { return r, rejecting(r) || keep(r) })
	}
	rejects := func(change func(r *events.FilterRule)) func(Compiled) Compiled {
		return rules(func(_ int, r events.FilterRule) (events.FilterRule, bool) {
			if rejecting(r) {
				change(&r)
			}
			return r, true
		})
	}
	isIPv6 := func(r events.FilterRule) bool { return strings.Contains(r.SourceCIDR, ":") }
	isPeer := func(r events.FilterRule) bool {
		return !strings.HasSuffix(r.SourceCIDR, "/0") || !strings.HasSuffix(r.DestinationCIDR, "/0")
	}
	for name, mutate := range map[string]func(Compiled) Compiled{
		"drops the IPv6 rules": accepting(func(r events.FilterRule) bool { return !isIPv6(r) }),
		"forgets amazon-dns":   func(c Compiled) Compiled { c.Filter.DNS = false; return c },
		"swaps the directions": rules(func(_ int, r events.FilterRule) (events.FilterRule, bool) {
			r.Direction = map[string]string{events.Ingress: events.Egress, events.Egress: events.Ingress}[r.Direction]
			return r, true
		}),
		"drops a peer": rules(func(i int, r events.FilterRule) (events.FilterRule, bool) {
			return r, rejecting(r) || !isPeer(r) || r.Number != 110
		}),
		"drops what leaves":  accepting(func(r events.FilterRule) bool { return r.Direction != events.Egress }),
		"drops what arrives": accepting(func(r events.FilterRule) bool { return r.Direction != events.Ingress }),
		"has the destination port in both directions": rules(func(_ int, r events.FilterRule) (events.FilterRule, bool) {
			if !rejecting(r) && r.Direction == events.Egress && r.SourcePorts != nil {
				r.SourcePorts, r.DestinationPorts = nil, r.SourcePorts
			}
			return r, true
		}),
		"takes the server for the client": rules(func(_ int, r events.FilterRule) (events.FilterRule, bool) {
			if !rejecting(r) {
				r.SourcePorts, r.DestinationPorts = r.DestinationPorts, r.SourcePorts
			}
			return r, true
		}),
		"is one port short": rules(func(_ int, r events.FilterRule) (events.FilterRule, bool) {
			if p := r.DestinationPorts; !rejecting(r) && p != nil && p.From < p.To {
				r.DestinationPorts = &events.PortRange{From: p.From + 1, To: p.To}
			}
			return r, true
		}),
		"merges peers into half a block": rules(func(_ int, r events.FilterRule) (events.FilterRule, bool) {
			p := netip.MustParsePrefix(r.SourceCIDR)
			if !rejecting(r) && p.Bits() > 0 && p.Bits() < p.Addr().BitLen() {
				r.SourceCIDR = netip.PrefixFrom(p.Addr(), p.Bits()+1).String()
			}
			return r, true
		}),
		"knows TCP alone": rules(func(_ int, r events.FilterRule) (events.FilterRule, bool) {
			if !rejecting(r) && r.Protocol == 0 {
				r.Protocol = 6
			}
			return r, true
		}),
		"knows peers by port, so that fragments and ICMP are lost": rules(func(_ int, r events.FilterRule) (events.FilterRule, bool) {
			if !rejecting(r) && isPeer(r) {
				r.Protocol, r.DestinationPorts = 6, &events.PortRange{From: 0, To: 65535}
			}
			return r, true
		}),
		"rejects every port of the operators": rejects(func(r *events.FilterRule) { r.SourcePorts, r.DestinationPorts = nil, nil }),
		"rejects the operators' port for all": rejects(func(r *events.FilterRule) {
			if r.Direction == events.Ingress {
				r.SourceCIDR = r.DestinationCIDR
			} else {
				r.DestinationCIDR = r.SourceCIDR
			}
		}),
		"rejects the destination port in both directions": rejects(func(r *events.FilterRule) {
			if r.Direction == events.Egress {
				r.SourcePorts, r.DestinationPorts = nil, r.SourcePorts
			}
		}),
		"rejects in one direction alone": rules(func(_ int, r events.FilterRule) (events.FilterRule, bool) {
			return r, !rejecting(r) || r.Direction == events.Ingress
		}),
		"rejects after it accepts": rejects(func(r *events.FilterRule) { r.Number += 1000 }),
	} {
		if violation := search(t, 20_000, mutate, &tried{}); violation == "" {
			t.Errorf("a compiler that %s is not caught", name)
		}
	}
}

// search tries random cases until a packet is judged wrongly, and says how; "" when none is.
func search(t *testing.T, cases int, mutate func(Compiled) Compiled, seen *tried) string {
	t.Helper()
	rng := rand.New(rand.NewPCG(propertySeed, 1))
	for range cases {
		w := newWorld(rng)
		c, err := Compile(w.in)
		if err != nil {
			t.Fatalf("compile %+v: %v", w.in, err)
		}
		if err := c.Filter.Validate(); err != nil {
			t.Fatalf("compile %+v: %v", w.in, err)
		}
		seen.count(w, c)
		c = mutate(c)
		m, err := FromEvents(c.Filter, w.in.Resolvers)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			p, ok := w.packet()
			if !ok {
				break
			}
			if v := m.Matches(p.direction, p.frame); !v.Accept && v.Cause != Never {
				return fmt.Sprintf("lost (%s, rule %d): %s packet %+v, %s\nfinding %+v\ninput %+v\nfilter\n%s", v.Cause, v.Rule, p.direction, p.header(), p.why,
					*w.in.Finding, w.in, strings.Join(text(c.Filter), "\n"))
			}
			seen.packets++
		}
		if p, said := w.operator(c.Notes); said {
			if m.Matches(p.direction, p.frame).Accept {
				return fmt.Sprintf("the operators' traffic is kept: %s packet %+v\ninput %+v\nfilter\n%s", p.direction, p.header(), w.in, strings.Join(text(c.Filter), "\n"))
			}
			seen.operators++
		}
	}
	return ""
}

func (s *tried) count(w *world, c Compiled) {
	if !slices.ContainsFunc(c.Filter.Rules, func(r events.FilterRule) bool {
		return !rejecting(r) && r.SourceCIDR == all4 && r.DestinationCIDR == all4 && r.Protocol == 0
	}) {
		s.narrowed++
	}
	if slices.ContainsFunc(c.Filter.Rules, func(r events.FilterRule) bool {
		return !rejecting(r) && (r.SourcePorts != nil || r.DestinationPorts != nil)
	}) {
		s.service++
	}
	if w.in.IPv6 {
		s.ipv6++
	}
	if slices.ContainsFunc(c.Filter.Rules, rejecting) {
		s.rejecting++
	}
	if slices.ContainsFunc(c.Notes, func(n string) bool { return strings.Contains(n, "hold more than") }) {
		s.merged++
	}
}

// world is one case: an interface, a finding about it, and what was asked for.
type world struct {
	*rand.Rand
	in     Input
	shape  shape
	local4 []packets.Host
	local6 []packets.Host
}

// shape is what the documentation says about the findings of a type: who is the server, and what belongs to the evidence.
type shape struct {
	name     string
	port     uint16 // of the service; 0: any
	peers    bool   // all traffic of the named peers
	server   bool   // the service port with whatever peer
	anything bool   // every packet
	dns      bool   // the resolver's DNS
	action   string // connection, probe or lookup
}

var shapes = []shape{
	{name: "Backdoor:EC2/C&CActivity.B", peers: true, action: "connection"},
	{name: "TTPs/Command and Control/Backdoor:EC2-C&CActivity.B", peers: true, action: "connection"},
	{name: "Backdoor:EC2/C&CActivity.B!DNS", dns: true, peers: true, action: "lookup"},
	{name: "CryptoCurrency:EC2/BitcoinTool.B", peers: true, action: "connection"},
	{name: "CryptoCurrency:EC2/BitcoinTool.B!DNS", dns: true, action: "lookup"},
	{name: "UnauthorizedAccess:EC2/TorClient", peers: true, action: "connection"},
	{name: "UnauthorizedAccess:EC2/TorRelay", peers: true, action: "connection"},
	{name: "UnauthorizedAccess:EC2/MaliciousIPCaller.Custom", peers: true, action: "connection"},
	{name: "Trojan:EC2/DropPoint", peers: true, action: "connection"},
	{name: "Trojan:EC2/DGADomainRequest.C!DNS", dns: true, action: "lookup"},
	{name: "Trojan:EC2/DNSDataExfiltration", dns: true, action: "lookup"},
	{name: "Impact:EC2/MaliciousDomainRequest.Reputation", dns: true, action: "lookup"},
	{name: "DefenseEvasion:EC2/UnusualDNSResolver", dns: true, peers: true, action: "connection"},
	{name: "DefenseEvasion:EC2/UnusualDoHActivity", dns: true, peers: true, action: "connection"},
	{name: "UnauthorizedAccess:EC2/SSHBruteForce", port: 22, peers: true, server: true, action: "connection"},
	{name: "UnauthorizedAccess:EC2/RDPBruteForce", port: 3389, peers: true, server: true, action: "connection"},
	{name: "Impact:EC2/WinRMBruteForce", port: 5985, peers: true, server: true, action: "connection"},
	{name: "Recon:EC2/PortProbeUnprotectedPort", peers: true, server: true, action: "probe"},
	{name: "Recon:EC2/Portscan", anything: true, action: "connection"},
	{name: "Impact:EC2/PortSweep", anything: true, action: "connection"},
	{name: "Backdoor:EC2/DenialOfService.Tcp", anything: true, action: "connection"},
	{name: "Behavior:EC2/TrafficVolumeUnusual", anything: true, action: "connection"},
	{name: "Backdoor:Runtime/C&CActivity.B", anything: true, action: "connection"},
	{name: "AttackSequence:EC2/CompromisedInstanceGroup", anything: true, action: "connection"},
	{name: "Exfiltration:EC2/Pigeon.B!v2", anything: true, action: "connection"},
	{name: "", anything: true, action: "connection"},
}

func newWorld(rng *rand.Rand) *world {
	w := &world{Rand: rng, shape: pick(rng, shapes...)}
	w.in = Input{
		Profile: pick(rng, events.ProfileFinding, events.ProfileFinding, events.ProfileFinding, events.ProfileEverything, events.ProfileHeaders, ""),
		IPv6:    rng.IntN(2) == 0, Resolvers: Resolvers(vpc), PacketLength: pick(rng, int32(0), 0, 35, 64, 1500),
	}
	for i := range 1 + rng.IntN(3) {
		w.local4 = append(w.local4, packets.NewHost(fmt.Sprintf("10.0.%d.%d", i, 10+rng.IntN(200))))
	}
	if w.in.IPv6 {
		w.local6 = append(w.local6, packets.NewHost(fmt.Sprintf("2001:db8:1::%x", 1+rng.IntN(1000))))
	}
	for _, h := range slices.Concat(w.local4, w.local6) {
		w.in.Local = append(w.in.Local, h.IP)
	}
	for range pick(rng, 0, 0, 1, 2, 3) {
		w.in.ControlCIDRs = append(w.in.ControlCIDRs, pick(rng, "192.0.2.0/24", "192.0.2.64/26", "10.0.99.0/24", "2001:db8:b::/48", "198.51.100.0/24", "192.0.3.0/24"))
	}
	w.in.Finding = w.finding()
	return w
}

// finding draws one of the shape. As findings do, it may leave a protocol, a port, a direction or an address open, name addresses of a family that the
// interface lacks, or call the suspect by its public address.
func (w *world) finding() *events.Finding {
	f := &events.Finding{Type: w.shape.name}
	if w.shape.action == "lookup" {
		if w.IntN(2) == 0 {
			f.Domains = []string{"example.com"}
			f.Traffic = append(f.Traffic, events.Traffic{Protocol: pick(w.Rand, int32(0), 17), Direction: events.Outbound, DNS: true})
		}
		if w.IntN(2) == 0 || !w.shape.peers {
			return f
		}
	}
	for range 1 + pick(w.Rand, 0, 0, 0, 1, 2, 7) {
		t := events.Traffic{Protocol: pick(w.Rand, int32(0), 6, 6, 17, 1), Direction: pick(w.Rand, "", events.Inbound, events.Outbound)}
		t.LocalAddress = pick(w.Rand, w.local4[0].IP.String(), "", "52.1.2.3", "10.77.0.1")
		t.RemoteAddress = w.peer()
		if t.Protocol != 1 {
			t.LocalPort, t.RemotePort = int32(32768+w.IntN(20000)), int32(pick(w.Rand, 443, 80, 4444, 32768+w.IntN(20000)))
		}
		if w.IntN(8) == 0 {
			t.LocalPort = 0
		}
		if w.IntN(8) == 0 {
			t.RemotePort = 0
		}
		if w.shape.server {
			service := int32(w.shape.port)
			if service == 0 {
				service = int32(pick(w.Rand, 22, 80, 443, 3389, 8080))
			}
			if w.IntN(10) == 0 {
				service = 2222
			}
			switch {
			case t.Protocol == 1 && w.shape.action == "connection":
				t.Protocol = 6
				fallthrough
			case t.Protocol != 1 && (t.Direction == events.Inbound || w.shape.action == "probe"):
				t.LocalPort = service
			case t.Protocol != 1:
				t.RemotePort = service
			}
		}
		if w.shape.action == "probe" {
			t.Direction, t.RemotePort = pick(w.Rand, "", events.Inbound), 0
		}
		if w.IntN(12) == 0 && t.RemoteAddress != "" { // seen from the other end
			t.LocalAddress, t.RemoteAddress = t.RemoteAddress, w.in.Local[w.IntN(len(w.in.Local))].String()
			t.LocalPort, t.RemotePort = t.RemotePort, t.LocalPort
			t.Direction = map[string]string{events.Inbound: events.Outbound, events.Outbound: events.Inbound}[t.Direction]
		}
		f.Traffic = append(f.Traffic, t)
	}
	if w.IntN(3) == 0 {
		f.Remotes = append(f.Remotes, w.peer())
	}
	return f
}

func (w *world) peer() string {
	switch w.IntN(12) {
	case 0:
		return ""
	case 1:
		return pick(w.Rand, "0.0.0.0", "10.0.0.2", "169.254.169.253", "192.0.2.77", "10.0.99.5")
	case 2, 3, 4:
		return fmt.Sprintf("2001:db8:%x::%x", pick(w.Rand, 2, 2, 11, w.IntN(65536)), 1+w.IntN(1000))
	case 5, 6:
		return fmt.Sprintf("%d.%d.3.4", 20+w.IntN(100), w.IntN(256))
	default:
		return fmt.Sprintf("198.51.%d.%d", pick(w.Rand, 100, 101), w.IntN(256))
	}
}

// seen is a packet of the case, and why it is one.
type seen struct {
	direction Direction
	frame     []byte
	why       string
}

func (p seen) header() Header {
	h, _ := ParseHeader(p.frame)
	return h
}

// packet draws one that the finding is about; false when it is about none that this interface could see.
func (w *world) packet() (seen, bool) {
	for range 20 {
		if p, ok := w.try(); ok {
			return p, true
		}
	}
	return seen{}, false
}

func (w *world) try() (seen, bool) {
	f := w.in.Finding
	if w.shape.dns && w.IntN(3) == 0 {
		return w.lookup(), true
	}
	if w.shape.anything && w.IntN(3) == 0 {
		return w.whatever()
	}
	if len(f.Remotes) > 0 && w.IntN(6) == 0 {
		peer, ok := host(f.Remotes[0])
		if !ok || slices.Contains(w.in.Local, peer.IP) {
			return seen{}, false
		}
		return w.withPeer(peer, "a packet of a named remote")
	}
	if len(f.Traffic) == 0 {
		return seen{}, false
	}
	t := pick(w.Rand, f.Traffic...)
	if t.DNS {
		return w.lookup(), true
	}
	if remote, ok := host(t.RemoteAddress); ok && slices.Contains(w.in.Local, remote.IP) { // seen from the other end
		t.LocalAddress, t.RemoteAddress = t.RemoteAddress, t.LocalAddress
		t.LocalPort, t.RemotePort = t.RemotePort, t.LocalPort
		t.Direction = map[string]string{events.Inbound: events.Outbound, events.Outbound: events.Inbound}[t.Direction]
	}
	peer, named := host(t.RemoteAddress)
	if named && w.shape.peers && w.IntN(3) == 0 {
		return w.withPeer(peer, "a packet of a named peer")
	}
	why := "the conversation"
	if !named {
		peer, why = w.stranger(), "the conversation, whose peer is not named"
	} else if w.shape.server && w.IntN(3) == 0 {
		peer, named, why = w.stranger(), false, "the service, and another peer"
	}
	return w.conversation(t, peer, named, why)
}

// conversation draws a packet of one of the finding's conversations, or of a later one like it: the client has another port then.
func (w *world) conversation(t events.Traffic, peer packets.Host, named bool, why string) (seen, bool) {
	local, ok := w.local(peer)
	if !ok {
		return seen{}, false
	}
	protocol := t.Protocol
	if protocol == 0 {
		protocol = pick(w.Rand, int32(6), 17)
		if !named && t.RemoteAddress != "" && why == "the service, and another peer" {
			protocol = 6 // of the services that somebody tries
		}
	}
	clientIsLocal := t.Direction == events.Outbound
	if t.Direction == "" {
		switch usual := int32(w.shape.port); {
		case w.shape.action == "probe":
			clientIsLocal = false
		case usual != 0 && (t.LocalPort == usual) != (t.RemotePort == usual):
			clientIsLocal = t.RemotePort == usual
		case t.LocalPort == 0 && t.RemotePort != 0:
			clientIsLocal = true
		case t.RemotePort == 0 && t.LocalPort != 0:
			clientIsLocal = false
		default:
			clientIsLocal = w.IntN(2) == 0
		}
	}
	localPort, remotePort := w.portOf(t.LocalPort), w.portOf(t.RemotePort)
	if w.shape.server && w.shape.port != 0 && !named {
		if clientIsLocal && t.RemotePort == 0 {
			remotePort = w.shape.port
		}
		if !clientIsLocal && t.LocalPort == 0 {
			localPort = w.shape.port
		}
	}
	if clientIsLocal {
		localPort = w.ephemeral()
	} else {
		remotePort = w.ephemeral()
	}
	local, peer = local.On(localPort), peer.On(remotePort)
	from, to, direction := local, peer, Egress
	if w.IntN(2) == 0 {
		from, to, direction = peer, local, Ingress
	}
	switch {
	case protocol == 6:
		return seen{direction, packets.TCP(from, to, packets.Segment{Flags: "A"}), why}, true
	case protocol == 17 && named && from.IP.Is4() && w.IntN(4) == 0:
		return seen{direction, packets.Fragments(packets.UDP(from, to, make([]byte, 1600)), 800)[1], why + ", a later fragment"}, true
	case protocol == 17:
		return seen{direction, packets.UDP(from, to, []byte("x")), why}, true
	}
	return seen{direction, packets.Echo(from, to, 1, 1, nil), why}, from.IP.Is4() || named
}

// withPeer draws whatever packet with a peer.
func (w *world) withPeer(peer packets.Host, why string) (seen, bool) {
	local, ok := w.local(peer)
	if !ok {
		return seen{}, false
	}
	return w.between(local, peer, why), true
}

func (w *world) between(local, peer packets.Host, why string) seen {
	local, peer = local.On(w.portOf(0)), peer.On(w.portOf(0))
	from, to, direction := local, peer, Egress
	if w.IntN(2) == 0 {
		from, to, direction = peer, local, Ingress
	}
	switch w.IntN(5) {
	case 0:
		return seen{direction, packets.UDP(from, to, []byte("x")), why}
	case 1:
		return seen{direction, packets.Echo(from, to, 1, 1, nil), why + ", ICMP"}
	case 2:
		return seen{direction, packets.IP(from, to, 47, make([]byte, 8)), why + ", GRE"}
	case 3:
		if from.IP.Is4() {
			return seen{direction, packets.Fragments(packets.UDP(from, to, make([]byte, 1600)), 800)[1], why + ", a later fragment"}
		}
	}
	return seen{direction, packets.TCP(from, to, packets.Segment{Flags: "A"}), why}
}

// whatever draws a packet of any kind that is not the operators': of theirs, it never has the ports.
func (w *world) whatever() (seen, bool) {
	peer := w.stranger()
	if n := len(w.in.ControlCIDRs); n > 0 && w.IntN(2) == 0 {
		peer = packets.NewHost(netip.MustParsePrefix(w.in.ControlCIDRs[w.IntN(n)]).Addr().Next().String())
	}
	return w.withPeer(peer, "any packet")
}

// lookup draws DNS with the VPC's resolver.
func (w *world) lookup() seen {
	addresses := []string{"10.0.0.2", "169.254.169.253"}
	local := w.local4[0]
	if w.in.IPv6 && w.IntN(3) == 0 {
		addresses, local = []string{"fd00:ec2::253"}, w.local6[0]
	}
	resolver := packets.NewHost(pick(w.Rand, addresses...))
	local = local.On(w.ephemeral())
	switch w.IntN(3) {
	case 0:
		return seen{Egress, packets.DNSQuery(local, resolver, 1, "example.com"), "a lookup"}
	case 1:
		return seen{Ingress, packets.UDP(resolver.On(53), local, []byte("answer")), "the answer to a lookup"}
	}
	return seen{Egress, packets.TCP(local, resolver.On(53), packets.Segment{Flags: "S"}), "a lookup over TCP"}
}

// operator draws a packet of the operators' that the notes say is left out.
func (w *world) operator(notes []string) (seen, bool) {
	for _, note := range notes {
		service, block, found := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(note, "The operators' own "), " is left out."), " from ")
		if !found || !strings.HasPrefix(note, "The operators' own ") {
			continue
		}
		cidr := netip.MustParsePrefix(block)
		peer := packets.NewHost(cidr.Addr().Next().String()).On(w.ephemeral())
		local, ok := w.local(peer)
		if !ok {
			continue
		}
		local = local.On(map[string]uint16{"SSH": 22, "RDP": 3389, "RDP over UDP": 3389}[service])
		from, to, direction := local, peer, Egress
		if w.IntN(2) == 0 {
			from, to, direction = peer, local, Ingress
		}
		if service == "RDP over UDP" {
			return seen{direction, packets.UDP(from, to, []byte("x")), service}, true
		}
		return seen{direction, packets.TCP(from, to, packets.Segment{Flags: "A"}), service}, true
	}
	return seen{}, false
}

// host is the peer of that address; false when it stands for none.
func host(text string) (packets.Host, bool) {
	a, err := netip.ParseAddr(text)
	if err != nil || a.IsUnspecified() {
		return packets.Host{}, false
	}
	return packets.NewHost(text), true
}

// local is an address of the interface of the peer's family.
func (w *world) local(peer packets.Host) (packets.Host, bool) {
	if peer.IP.Is4() {
		return pick(w.Rand, w.local4...), true
	}
	if len(w.local6) == 0 {
		return packets.Host{}, false
	}
	return pick(w.Rand, w.local6...), true
}

// stranger is a peer that nobody named.
func (w *world) stranger() packets.Host {
	if w.in.IPv6 && w.IntN(2) == 0 {
		return packets.NewHost(fmt.Sprintf("2001:db8:%x::99", 256+w.IntN(1000)))
	}
	return packets.NewHost(fmt.Sprintf("%d.7.7.%d", 130+w.IntN(50), w.IntN(256)))
}

func (w *world) ephemeral() uint16 { return uint16(49152 + w.IntN(16000)) }

// portOf is the port that is said, or any that is not a service of the operators'.
func (w *world) portOf(n int32) uint16 {
	if n != 0 {
		return uint16(n)
	}
	return pick(w.Rand, 21, 23, 80, 443, 4444, w.ephemeral())
}
