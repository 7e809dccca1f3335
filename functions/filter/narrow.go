package filter

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"flashtap/events"
)

// topic is what a finding is about, as packets.
type topic struct {
	kind     kind
	why      string         // it can't be narrowed
	peers    []netip.Prefix // single addresses; all of their traffic
	services []pair         // ports, with whatever peer
	dns      bool           // lookups by the VPC's resolver
	ignored  []string       // peers that can't be any
}

// kind says how a finding of a type can be narrowed.
type kind int

const (
	wide       kind = iota // not at all
	toPeers                // to the named peers
	toService              // to the service that somebody tries, and to the named peers: fragments and ICMP have no ports
	toResolver             // to the named resolver, and the ports of DNS
	toLookups              // to the DNS of the VPC's resolver
)

// families are the kinds of GuardDuty's finding types about EC2, by what stands between "EC2/" and "." or "!" (GuardDuty User
// Guide, "GuardDuty EC2 finding types"). What is not here can't be narrowed safely: scans, floods and mail
// come from and go to many peers of which a finding names one, malware and runtime findings name processes, and of types that
// are new nobody knows.
var families = map[string]kind{
	"C&CActivity": toPeers, "BitcoinTool": toPeers, "TorClient": toPeers, "TorRelay": toPeers, "MaliciousIPCaller": toPeers,
	"DropPoint": toPeers, "BlackholeTraffic": toPeers, "NetworkPortUnusual": toPeers,
	"SSHBruteForce": toService, "RDPBruteForce": toService, "WinRMBruteForce": toService,
	"PortProbeUnprotectedPort": toService, "PortProbeEMRUnprotectedPort": toService,
	"UnusualDNSResolver": toResolver, "UnusualDoHActivity": toResolver, "UnusualDoTActivity": toResolver,
	"DNSDataExfiltration": toLookups, "MetadataDNSRebind": toLookups, "DriveBySourceTraffic": toLookups,
}

// servicePorts are where the services of the brute-force types listen.
var servicePorts = map[string]events.PortRange{
	"SSHBruteForce": {From: 22, To: 22}, "RDPBruteForce": {From: 3389, To: 3389}, "WinRMBruteForce": {From: 5985, To: 5986},
}

// typeForm is "Backdoor:EC2/C&CActivity.B!DNS", or as Security Hub writes it "TTPs/.../Backdoor:EC2-C&CActivity.B!DNS".
var typeForm = regexp.MustCompile(`^(?:[^:]*/)?[A-Za-z]+:([A-Za-z0-9]+)[/-]([A-Za-z0-9&]+)(?:\.[A-Za-z0-9.]+)?(?:!([A-Za-z]+))?$`)

// classify says how findings of a type can be narrowed, and the type's family.
func classify(findingType string) (kind, string) {
	m := typeForm.FindStringSubmatch(findingType)
	if m == nil || m[1] != "EC2" {
		return wide, ""
	}
	family, artifact := m[2], m[3]
	if artifact == "DNS" || strings.HasSuffix(family, "DomainRequest") {
		return toLookups, family
	}
	return families[family], family
}

// subject reads what the finding is about.
func subject(in Input) topic {
	if in.Finding == nil {
		return topic{why: "there is no finding"}
	}
	f := *in.Finding
	var t topic
	var family string
	t.kind, family = classify(f.Type)
	switch {
	case t.kind != wide:
	case f.Type == "":
		t.why = "the finding has no type"
	default:
		t.why = fmt.Sprintf("findings of type %s can't be narrowed without the risk of losing evidence", f.Type)
	}
	t.dns = t.kind == toLookups || t.kind == toResolver || len(f.Domains) > 0
	remotes := slices.Clone(f.Remotes)
	for _, traffic := range f.Traffic {
		traffic = in.seenFromHere(traffic)
		remotes = append(remotes, traffic.RemoteAddress)
		if traffic.DNS || traffic.Direction == events.Outbound && t.kind == toPeers { // by what name the suspect found its peer
			t.dns = true
		}
		if traffic.DNS {
			continue
		}
		nobody := unnamed(traffic.RemoteAddress)
		if !nobody && t.kind != toService {
			continue
		}
		services := in.services(traffic, family, nobody)
		if len(services) == 0 && nobody {
			t.kind, t.why = wide, "the finding names neither peer nor port of a conversation"
			if traffic.Direction != events.Outbound {
				services = []pair{{remote: any4}, {remote: any6}}
			}
		}
		t.services = append(t.services, services...)
	}
	if t.kind == toService && len(t.services) == 0 {
		t.services = in.services(events.Traffic{}, family, false)
	}
	for _, text := range remotes {
		t.addPeer(in, text)
	}
	t.services = distinct(t.services)
	return t
}

// unnamed says whether an address stands for none.
func unnamed(text string) bool {
	a, err := netip.ParseAddr(text)
	return err != nil || a.IsUnspecified()
}

func (t *topic) addPeer(in Input, text string) {
	a, err := netip.ParseAddr(text)
	a = a.Unmap().WithZone("")
	switch {
	case text == "":
		return
	case err != nil, a.IsUnspecified(), a.IsLoopback(), slices.Contains(unmirrored, a), a.Is6() && !in.IPv6:
		if !slices.Contains(t.ignored, text) {
			t.ignored = append(t.ignored, text)
		}
		return
	case slices.Contains(in.Local, a): // the interface is the peer of another
		return
	}
	if in.isResolver(a) {
		t.dns = true // no rule mirrors its DNS
	}
	if p := netip.PrefixFrom(a, a.BitLen()); !slices.Contains(t.peers, p) {
		t.peers = append(t.peers, p)
	}
}

func (in Input) isResolver(a netip.Addr) bool {
	return slices.Contains(in.Resolvers, a) || slices.Contains(everywhere, a)
}

// seenFromHere turns a conversation around whose peer is the interface itself: the capture was asked for at the other end.
func (in Input) seenFromHere(t events.Traffic) events.Traffic {
	remote, err := netip.ParseAddr(t.RemoteAddress)
	if err != nil || !slices.Contains(in.Local, remote.Unmap()) {
		return t
	}
	t.LocalAddress, t.RemoteAddress = t.RemoteAddress, t.LocalAddress
	t.LocalPort, t.RemotePort = t.RemotePort, t.LocalPort
	switch t.Direction {
	case events.Inbound:
		t.Direction = events.Outbound
	case events.Outbound:
		t.Direction = events.Inbound
	}
	return t
}

// services are the conversations with the service that one of a finding's conversations is about. The server is whoever did
// not open it; where that is not said, whoever has the port of such a service; else either. A protocol that is not said is TCP, unless
// nothing else would keep the conversation.
func (in Input) services(t events.Traffic, family string, alone bool) []pair {
	usual, known := servicePorts[family]
	isUsual := func(n int32) bool { return known && usual.From <= n && n <= usual.To }
	at := func(n int32) *events.PortRange {
		switch {
		case known && n == 0, isUsual(n):
			return &usual
		case n == 0:
			return nil
		}
		return port(n)
	}
	local, remote := at(t.LocalPort), at(t.RemotePort)
	switch {
	case t.Direction == events.Inbound:
		remote = nil
	case t.Direction == events.Outbound:
		local = nil
	case strings.HasPrefix(family, "PortProbe"), isUsual(t.LocalPort) && !isUsual(t.RemotePort):
		remote = nil
	case isUsual(t.RemotePort) && !isUsual(t.LocalPort):
		local = nil
	}
	protocols := []int32{t.Protocol}
	if t.Protocol == 0 {
		protocols = []int32{protoTCP}
		if alone {
			protocols = append(protocols, protoUDP)
		}
	}
	var list []pair
	for _, protocol := range protocols {
		for _, from := range in.anywhere() {
			if protocol != protoTCP && protocol != protoUDP {
				list = append(list, pair{protocol: protocol, remote: from})
				continue
			}
			if local != nil {
				list = append(list, pair{protocol: protocol, remote: from, localPorts: local})
			}
			if remote != nil {
				list = append(list, pair{protocol: protocol, remote: from, remotePorts: remote})
			}
		}
	}
	return list
}

// anywhere are the blocks of all addresses, of the families that the interface has.
func (in Input) anywhere() []netip.Prefix {
	if in.IPv6 {
		return []netip.Prefix{any4, any6}
	}
	return []netip.Prefix{any4}
}

// incoming are the conversations of the topic that may be with a service of the suspect's. Where the suspect is the client, its
// own port is none that a service of its listens on.
func (t topic) incoming() []pair {
	var list []pair
	for _, p := range t.peers {
		list = append(list, pair{remote: p})
	}
	for _, s := range t.services {
		if s.remotePorts == nil {
			list = append(list, s)
		}
	}
	return list
}

// wanted is what a filter lets through.
type wanted struct {
	accept []pair
	dns    bool
	notes  []string
}

func (w *wanted) note(format string, args ...any) {
	w.notes = append(w.notes, fmt.Sprintf(format, args...))
}

// narrow makes the least rules that keep what the finding is about.
func narrow(in Input, about topic) wanted {
	w := wanted{dns: about.dns}
	switch {
	case about.kind == wide:
		return widen(about.why)
	case about.kind == toPeers && len(about.peers) == 0 && len(about.services) == 0:
		return widen("the finding names no peer")
	case about.kind == toService && len(about.services) == 0:
		return widen("the finding names no port")
	}
	accept, merged, fits := fit(about.peers, about.services)
	if !fits {
		return widen(fmt.Sprintf("the %d peers and %d services of the finding don't fit into %d rules", len(about.peers), len(about.services), events.MaxFilterRules))
	}
	w.accept = accept
	for _, p := range accept {
		w.note("Mirrored is %s.", p.ingress().wordsBothWays())
	}
	if merged {
		w.note("AWS allows %d rules, so the blocks and port ranges hold more than the finding names.", events.MaxFilterRules)
	}
	if about.kind == toResolver {
		w.ports(in)
	}
	if w.dns {
		w.note("Mirrored is the DNS of the VPC's resolver.")
	} else {
		w.note("Left out is the DNS of the VPC's resolver.")
	}
	if about.kind == toLookups {
		w.note("Left out is what the suspect does with the answers, and who asked it, should it resolve names for others: the profile everything would keep both.")
	}
	if len(about.services) > 0 {
		w.note("Left out are later fragments of packets of other peers, since they have no ports.")
	}
	if len(about.ignored) > 0 {
		w.note("No rule is made for %s: the interface can have no mirrored traffic with it.", strings.Join(about.ignored, ", "))
	}
	w.note("Left out is everything else.")
	return w
}

func widen(why string) wanted {
	return wanted{accept: everything, dns: true, notes: []string{"Mirrored is all IPv4 and IPv6 both ways, and the DNS of the VPC's resolver, since " + why + "."}}
}

// ports adds those of DNS with whatever resolver, as far as there is room.
func (w *wanted) ports(in Input) {
	for _, p := range []struct {
		protocol, port int32
		name           string
	}{{protoUDP, 53, "DNS"}, {protoTCP, 53, "DNS over TCP"}, {protoTCP, 853, "DNS over TLS"}, {protoUDP, 853, "DNS over QUIC"}} { // RFC 7858, RFC 9250
		if len(w.accept)+len(in.anywhere()) > maxPairs {
			w.note("Left out is %s with other resolvers, since a filter has no room beyond %d rules.", p.name, events.MaxFilterRules)
			continue
		}
		for _, to := range in.anywhere() {
			w.accept = append(w.accept, pair{protocol: p.protocol, remote: to, remotePorts: port(p.port)})
		}
		w.note("Mirrored is %s with whatever resolver.", p.name)
	}
}
