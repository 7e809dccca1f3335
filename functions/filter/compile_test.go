package filter

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"flashtap/events"
)

// text writes a filter a rule a line, as a person would.
func text(f events.Filter) []string {
	var list []string
	for _, r := range f.Rules {
		list = append(list, fmt.Sprintf("%d %s %s", r.Number, r.Action, Words(r)))
	}
	if f.DNS {
		list = append(list, "dns")
	}
	return list
}

func talk(protocol int32, direction string, localPort int32, remote string, remotePort int32) events.Traffic {
	return events.Traffic{Protocol: protocol, Direction: direction, LocalPort: localPort, RemoteAddress: remote, RemotePort: remotePort}
}

func found(kind string, traffic ...events.Traffic) *events.Finding {
	return &events.Finding{Type: kind, Traffic: traffic}
}

const (
	c2    = "Backdoor:EC2/C&CActivity.B"
	c2DNS = "Backdoor:EC2/C&CActivity.B!DNS"
	brute = "UnauthorizedAccess:EC2/SSHBruteForce"
	probe = "Recon:EC2/PortProbeUnprotectedPort"
)

func TestCompile(t *testing.T) {
	const among = "among others"
	everything := []string{"100 accept ingress all IPv4", "100 accept egress all IPv4", "110 accept ingress all IPv6", "110 accept egress all IPv6", "dns"}
	withPeer := func(rules ...string) []string {
		return append([]string{"100 accept ingress IPv4 from 203.0.113.7 to any", "100 accept egress IPv4 from any to 203.0.113.7"}, rules...)
	}
	finding := events.ProfileFinding
	bastion := []string{"192.0.2.0/24"}
	sshRejected := []string{"10 reject ingress TCP from 192.0.2.0/24 to any, port 22", "10 reject egress TCP from any to 192.0.2.0/24, source port 22"}
	rdpRejected := []string{"20 reject ingress TCP from 192.0.2.0/24 to any, port 3389", "20 reject egress TCP from any to 192.0.2.0/24, source port 3389",
		"30 reject ingress UDP from 192.0.2.0/24 to any, port 3389", "30 reject egress UDP from any to 192.0.2.0/24, source port 3389"}
	many := func(form string, n int) *events.Finding {
		f := found(c2)
		for i := range n {
			f.Remotes = append(f.Remotes, fmt.Sprintf(form, i*3))
		}
		return f
	}
	custom := events.Filter{Rules: []events.FilterRule{acceptAll(events.Egress, all4, 1)}}
	for name, row := range map[string]struct {
		in     Input
		rules  []string // all, or some after among
		length int32
		notes  []string // parts of them
	}{
		"everything":                    {Input{}, everything, 0, []string{"all IPv4 and IPv6", "no IPv6 address now"}},
		"everything, and IPv6 is there": {Input{Profile: events.ProfileEverything, IPv6: true}, everything, 0, nil},
		"headers":                       {Input{Profile: events.ProfileHeaders}, everything, 128, []string{"first 128 bytes"}},
		"headers, shorter":              {Input{Profile: events.ProfileHeaders, PacketLength: 64}, everything, 64, []string{"first 64 bytes"}},
		"the least of IPv4":             {Input{PacketLength: 35}, everything, 35, nil},
		"the least of IPv4 is too little for IPv6": {Input{PacketLength: 35, IPv6: true}, everything, 55, []string{"55 bytes are kept instead of 35"}},
		"custom":                                {Input{Custom: &custom, PacketLength: 99}, []string{"1 accept egress all IPv4"}, 99, []string{"what the filter"}},
		"custom, and where operators come from": {Input{Profile: events.ProfileCustom, Custom: &custom, ControlCIDRs: bastion}, []string{"1 accept egress all IPv4"}, 0, []string{"taken as it is"}},
		"a finding's profile by hand":           {Input{Profile: finding}, everything, 0, []string{"there is no finding"}},

		"a peer that the suspect calls: both ways, and by what name": {Input{Profile: finding, IPv6: true, Finding: found(c2, talk(6, events.Outbound, 40000, "203.0.113.7", 443))},
			withPeer("dns"), 0, []string{"IPv4 with 203.0.113.7 both ways", "Left out is everything else"}},
		"a peer of IPv6": {Input{Profile: finding, IPv6: true, Finding: found(c2, talk(6, "", 40000, "2001:db8::7", 443))},
			[]string{"100 accept ingress IPv6 from 2001:db8::7 to any", "100 accept egress IPv6 from any to 2001:db8::7"}, 0, []string{"Left out is the DNS"}},
		"a peer of IPv6 that the interface can't reach": {Input{Profile: finding, Finding: found(c2, talk(6, "", 40000, "2001:db8::7", 443), talk(6, "", 1, "203.0.113.7", 2))},
			withPeer(), 0, []string{"No rule is made for 2001:db8::7"}},
		"a peer that only the list of remotes names": {Input{Profile: finding, Finding: &events.Finding{Type: c2, Remotes: []string{"203.0.113.7", "0.0.0.0", "203.0.113.7"}}}, withPeer(), 0, []string{"0.0.0.0"}},
		"no peer": {Input{Profile: finding, Finding: found(c2)}, everything, 0, []string{"names no peer"}},
		"a peer without address, a port": {Input{Profile: finding, Finding: found(c2, talk(6, events.Outbound, 40000, "", 4444))},
			[]string{"100 accept ingress TCP over IPv4 from any to any, source port 4444", "100 accept egress TCP over IPv4 from any to any, port 4444", "dns"}, 0, nil},
		"a conversation of which nothing is known": {Input{Profile: finding, Finding: found(c2, talk(6, "", 0, "203.0.113.7", 1), talk(0, "", 0, "", 0))}, everything, 0, []string{"neither peer nor port"}},
		"the peer is the VPC's resolver: rules alone would miss its DNS": {Input{Profile: finding, Resolvers: Resolvers(vpc), Finding: found(c2, talk(17, "", 0, "10.0.0.2", 53))},
			[]string{"100 accept ingress IPv4 from 10.0.0.2 to any", "100 accept egress IPv4 from any to 10.0.0.2", "dns"}, 0, nil},
		"the interface is the finding's peer": {Input{Profile: finding, Local: []netip.Addr{netip.MustParseAddr("10.0.0.9")},
			Finding: &events.Finding{Type: c2, Remotes: []string{"10.0.0.9"}, Traffic: []events.Traffic{{LocalAddress: "203.0.113.7", RemoteAddress: "10.0.0.9"}}}}, withPeer(), 0, nil},
		"peers side by side are merged": {Input{Profile: finding, Finding: many("198.51.100.%d", 6)},
			[]string{among, "100 accept ingress IPv4 from 198.51.100.0/30 to any", "100 accept egress IPv4 from any to 198.51.100.0/30", "140 accept ingress IPv4 from 198.51.100.15 to any"}, 0, []string{"hold more than the finding names"}},
		"peers all over the world": {Input{Profile: finding, Finding: many("%d.1.1.1", 60)}, everything, 0, []string{"don't fit into 10 rules"}},
		"a type of Security Hub":   {Input{Profile: finding, Finding: found("TTPs/Command and Control/Backdoor:EC2-C&CActivity.B", talk(6, "", 0, "203.0.113.7", 0))}, withPeer(), 0, nil},

		"a lookup":                   {Input{Profile: finding, Finding: &events.Finding{Type: "Trojan:EC2/DGADomainRequest.C!DNS", Domains: []string{"example.com"}}}, []string{"dns"}, 0, []string{"what the suspect does with the answers"}},
		"a lookup by its type alone": {Input{Profile: finding, Finding: found("Impact:EC2/SuspiciousDomainRequest.Reputation")}, []string{"dns"}, 0, nil},
		"a lookup that names a peer": {Input{Profile: finding, Finding: found(c2DNS, talk(6, events.Outbound, 40000, "203.0.113.7", 443))}, withPeer("dns"), 0, nil},
		"another resolver": {Input{Profile: finding, Finding: found("DefenseEvasion:EC2/UnusualDNSResolver", talk(17, events.Outbound, 40000, "203.0.113.7", 53))},
			withPeer("110 accept ingress UDP over IPv4 from any to any, source port 53", "110 accept egress UDP over IPv4 from any to any, port 53",
				"120 accept ingress TCP over IPv4 from any to any, source port 53", "120 accept egress TCP over IPv4 from any to any, port 53",
				"130 accept ingress TCP over IPv4 from any to any, source port 853", "130 accept egress TCP over IPv4 from any to any, port 853",
				"140 accept ingress UDP over IPv4 from any to any, source port 853", "140 accept egress UDP over IPv4 from any to any, port 853", "dns"), 0, nil},
		"another resolver, and IPv6": {Input{Profile: finding, IPv6: true, Finding: found("DefenseEvasion:EC2/UnusualDoTActivity", talk(6, events.Outbound, 40000, "203.0.113.7", 853))},
			withPeer("110 accept ingress UDP over IPv4 from any to any, source port 53", "110 accept egress UDP over IPv4 from any to any, port 53",
				"120 accept ingress UDP over IPv6 from any to any, source port 53", "120 accept egress UDP over IPv6 from any to any, port 53",
				"130 accept ingress TCP over IPv4 from any to any, source port 53", "130 accept egress TCP over IPv4 from any to any, port 53",
				"140 accept ingress TCP over IPv6 from any to any, source port 53", "140 accept egress TCP over IPv6 from any to any, port 53", "dns"), 0, []string{"Left out is DNS over TLS with other resolvers"}},

		"the suspect is attacked: its port, and the attacker": {Input{Profile: finding, Finding: found(brute, talk(6, events.Inbound, 22, "203.0.113.7", 50000))},
			withPeer("110 accept ingress TCP over IPv4 from any to any, port 22", "110 accept egress TCP over IPv4 from any to any, source port 22"), 0, []string{"fragments"}},
		"the suspect attacks": {Input{Profile: finding, IPv6: true, Finding: found(brute, talk(6, events.Outbound, 50000, "203.0.113.7", 22))},
			withPeer("110 accept ingress TCP over IPv4 from any to any, source port 22", "110 accept egress TCP over IPv4 from any to any, port 22",
				"120 accept ingress TCP over IPv6 from any to any, source port 22", "120 accept egress TCP over IPv6 from any to any, port 22"), 0, nil},
		"who attacks is not said, but who has the port": {Input{Profile: finding, Finding: found("UnauthorizedAccess:EC2/RDPBruteForce", talk(6, "", 50000, "203.0.113.7", 3389))},
			withPeer("110 accept ingress TCP over IPv4 from any to any, source port 3389", "110 accept egress TCP over IPv4 from any to any, port 3389"), 0, nil},
		"nobody has the port of the service": {Input{Profile: finding, Finding: found(brute, talk(6, "", 2222, "203.0.113.7", 50000))},
			withPeer("110 accept ingress TCP over IPv4 from any to any, port 2222", "110 accept egress TCP over IPv4 from any to any, source port 2222",
				"120 accept ingress TCP over IPv4 from any to any, source port 50000", "120 accept egress TCP over IPv4 from any to any, port 50000"), 0, nil},
		"only the type says which service": {Input{Profile: finding, Finding: found("Impact:EC2/WinRMBruteForce")},
			[]string{"100 accept ingress TCP over IPv4 from any to any, ports 5985-5986", "100 accept egress TCP over IPv4 from any to any, source ports 5985-5986",
				"110 accept ingress TCP over IPv4 from any to any, source ports 5985-5986", "110 accept egress TCP over IPv4 from any to any, ports 5985-5986"}, 0, nil},
		"a probe": {Input{Profile: finding, Finding: found(probe, talk(0, "", 80, "203.0.113.7", 0))},
			withPeer("110 accept ingress TCP over IPv4 from any to any, port 80", "110 accept egress TCP over IPv4 from any to any, source port 80"), 0, nil},
		"a probe of no port": {Input{Profile: finding, Finding: found(probe, talk(0, "", 0, "203.0.113.7", 0))}, everything, 0, []string{"names no port"}},
		"probes of many ports": {Input{Profile: finding, IPv6: true, Finding: found(probe, talk(0, "", 80, "203.0.113.7", 0), talk(0, "", 81, "203.0.113.7", 0), talk(0, "", 8080, "203.0.113.7", 0))},
			[]string{among, "100 accept ingress IPv4 from 203.0.113.7 to any", "110 accept ingress TCP over IPv4 from any to any, ports 80-81", "110 accept egress TCP over IPv4 from any to any, source ports 80-81"}, 0, []string{"hold more"}},

		"a scan":    {Input{Profile: finding, Finding: found("Recon:EC2/Portscan", talk(6, events.Outbound, 1, "203.0.113.7", 2))}, everything, 0, []string{"Recon:EC2/Portscan can't be narrowed"}},
		"a flood":   {Input{Profile: finding, Finding: found("Backdoor:EC2/DenialOfService.Dns", talk(6, events.Outbound, 1, "203.0.113.7", 2))}, everything, 0, nil},
		"a process": {Input{Profile: finding, Finding: found("Backdoor:Runtime/C&CActivity.B", talk(6, events.Outbound, 1, "203.0.113.7", 2))}, everything, 0, nil},
		"two types": {Input{Profile: finding, Finding: found(c2+", "+brute, talk(6, events.Outbound, 1, "203.0.113.7", 2))}, everything, 0, nil},
		"no type":   {Input{Profile: finding, Finding: found("", talk(6, events.Outbound, 1, "203.0.113.7", 2))}, everything, 0, []string{"has no type"}},

		"the operators' traffic": {Input{IPv6: true, ControlCIDRs: bastion}, slices.Concat(sshRejected, rdpRejected, everything), 0, []string{"own SSH from 192.0.2.0/24", "own RDP over UDP from"}},
		"operators at two places: SSH first, for RDP there is no room": {Input{IPv6: true, ControlCIDRs: []string{"192.0.2.0/24", "2001:db8:b::/48"}},
			[]string{among, "20 reject ingress TCP from 2001:db8:b::/48 to any, port 22", "30 reject ingress TCP from 192.0.2.0/24 to any, port 3389"}, 0,
			[]string{"no room beyond 10 rules: RDP from 2001:db8:b::/48, RDP over UDP from 192.0.2.0/24"}},
		"operators of IPv6 come last where there is none": {Input{ControlCIDRs: []string{"2001:db8:b::/48", "192.0.2.0/24", "198.51.100.0/24"}},
			[]string{among, "10 reject ingress TCP from 192.0.2.0/24 to any, port 22", "20 reject ingress TCP from 198.51.100.0/24 to any, port 22",
				"30 reject ingress TCP from 2001:db8:b::/48 to any, port 22"}, 0, nil},
		"a conversation of which nothing is known may be SSH": {Input{IPv6: true, ControlCIDRs: bastion, Finding: found("T", talk(6, events.Inbound, 0, "", 0))}, everything, 0, []string{"may be about it: SSH from"}},
		"operators' blocks that are one":                      {Input{IPv6: true, ControlCIDRs: []string{"192.0.2.128/25", "192.0.2.7/32", "192.0.2.1/25"}}, slices.Concat(sshRejected, rdpRejected, everything), 0, nil},
		"the finding's peer is where operators come from":     {Input{IPv6: true, ControlCIDRs: bastion, Finding: found(c2, talk(6, "", 0, "192.0.2.7", 0))}, everything, 0, []string{"may be about it: SSH from 192.0.2.0/24"}},
		"the finding is about SSH to the suspect": {Input{IPv6: true, ControlCIDRs: bastion, Finding: found(brute, talk(6, events.Inbound, 22, "203.0.113.7", 50000))},
			[]string{among, "10 reject ingress TCP from 192.0.2.0/24 to any, port 3389"}, 0, []string{"may be about it: SSH from 192.0.2.0/24"}},
		"the finding is about SSH from the suspect":       {Input{IPv6: true, ControlCIDRs: bastion, Finding: found(brute, talk(6, events.Outbound, 50000, "203.0.113.7", 22))}, slices.Concat(sshRejected, rdpRejected, everything), 0, nil},
		"what is narrowed leaves operators out by itself": {Input{Profile: finding, ControlCIDRs: bastion, Finding: found(c2, talk(6, "", 0, "203.0.113.7", 0))}, withPeer(), 0, nil},
		"evidence has the room": {Input{Profile: finding, ControlCIDRs: []string{"198.51.100.0/24"}, Finding: found("DefenseEvasion:EC2/UnusualDNSResolver", talk(17, events.Outbound, 40000, "203.0.113.7", 53))},
			[]string{among, "140 accept egress UDP over IPv4 from any to any, port 853"}, 0, nil},
	} {
		c, err := Compile(row.in)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		rules := text(c.Filter)
		if len(row.rules) > 0 && row.rules[0] == among {
			for _, want := range row.rules[1:] {
				if !slices.Contains(rules, want) {
					t.Errorf("%s: no rule %q in\n%s", name, want, strings.Join(rules, "\n"))
				}
			}
		} else if !slices.Equal(rules, row.rules) {
			t.Errorf("%s:\n%s\nwant\n%s", name, strings.Join(rules, "\n"), strings.Join(row.rules, "\n"))
		}
		if c.PacketLength != row.length {
			t.Errorf("%s: packet length %d, want %d", name, c.PacketLength, row.length)
		}
		notes := strings.Join(c.Notes, "\n")
		for _, want := range row.notes {
			if !strings.Contains(notes, want) {
				t.Errorf("%s: no note says %q:\n%s", name, want, notes)
			}
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	for name, row := range map[string]struct {
		in   Input
		says string
	}{
		"a profile that is none":     {Input{Profile: "most"}, `profile "most": want everything, finding, headers or custom`},
		"custom without a filter":    {Input{Profile: events.ProfileCustom}, "neither the request nor the deployment"},
		"a custom filter of nothing": {Input{Custom: &events.Filter{}}, "mirrors nothing"},
		"a block that is none":       {Input{ControlCIDRs: []string{"bastion"}}, "control CIDR"},
		"less than a header":         {Input{PacketLength: 34}, "packetLength 34: want 35"},
		"more than fits":             {Input{PacketLength: 9000}, "packetLength 9000"},
	} {
		if _, err := Compile(row.in); err == nil || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s: %v, want it to say %q", name, err, row.says)
		}
	}
}

func TestSupernet(t *testing.T) {
	for _, row := range [][3]string{
		{"10.0.0.0/32", "10.0.0.1/32", "10.0.0.0/31"}, {"10.0.0.1/32", "10.0.0.2/32", "10.0.0.0/30"}, {"10.0.0.7/32", "10.0.0.7/32", "10.0.0.7/32"},
		{"10.0.0.0/8", "10.9.0.0/16", "10.0.0.0/8"}, {"10.0.0.0/8", "192.0.2.1/32", "0.0.0.0/0"}, {"128.0.0.0/1", "0.0.0.0/1", "0.0.0.0/0"},
		{"2001:db8::1/128", "2001:db8::2/128", "2001:db8::/126"}, {"2001:db8::/32", "fd00::/8", "::/0"},
	} {
		a, b := netip.MustParsePrefix(row[0]), netip.MustParsePrefix(row[1])
		if got := supernet(a, b); got.String() != row[2] || supernet(b, a) != got {
			t.Errorf("%s and %s: %s, want %s", a, b, got, row[2])
		}
	}
	if p := supernet(any4, any6); p.IsValid() {
		t.Errorf("blocks of two families are in %s", p)
	}
}

// TestCompileOfAFindingOfTheLargestSize: a custom action sends up to 256 KiB (EventBridge User Guide, "Quotas"), which is some thousands of
// peers and ports.
func TestCompileOfAFindingOfTheLargestSize(t *testing.T) {
	f := found(probe)
	for i := range 3000 {
		f.Traffic = append(f.Traffic, talk(6, events.Inbound, int32(1+i*7), fmt.Sprintf("10.%d.%d.%d", i%7, i%251, i%241), 0))
	}
	started := time.Now()
	c, err := Compile(Input{Profile: events.ProfileFinding, Finding: f})
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(started); took > 30*time.Second {
		t.Errorf("took %s", took)
	}
	if len(c.Filter.Rules) > events.MaxFilterRules {
		t.Errorf("%d rules", len(c.Filter.Rules))
	}
}
