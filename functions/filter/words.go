package filter

import (
	"fmt"
	"net/netip"
	"strings"

	"flashtap/events"
)

// Words say what a rule matches: "ingress TCP from 198.51.100.0/24 to any, port 443".
func Words(r events.FilterRule) string {
	b, err := boxOf(r)
	if err != nil {
		return fmt.Sprintf("%s from %s to %s", r.Direction, r.SourceCIDR, r.DestinationCIDR)
	}
	return b.direction + " " + b.words()
}

// words leave the direction out.
func (b box) words() string {
	if b.everything() {
		return "all " + b.family()
	}
	text := fmt.Sprintf("%s from %s to %s", b.kind(), b.source.words(), b.destination.words())
	if b.sourcePorts != anyPorts {
		text += ", source " + b.sourcePorts.words()
	}
	if b.destinationPorts != anyPorts {
		text += ", " + b.destinationPorts.words()
	}
	return text
}

// wordsBothWays describe b together with its answers; b is of ingress, so its source is the peer.
func (b box) wordsBothWays() string {
	if b.everything() {
		return "all " + b.family() + " both ways"
	}
	text := b.kind() + " with " + b.source.words()
	if !b.destination.all() {
		text = fmt.Sprintf("%s between %s and %s", b.kind(), b.destination.words(), b.source.words())
	}
	text += " both ways"
	if b.destinationPorts != anyPorts {
		text += ", local " + b.destinationPorts.words()
	}
	if b.sourcePorts != anyPorts {
		text += ", remote " + b.sourcePorts.words()
	}
	return text
}

func (b box) everything() bool {
	return b.source.all() && b.destination.all() && b.protocol == anyProtocol && b.sourcePorts == anyPorts && b.destinationPorts == anyPorts
}

func (b box) family() string {
	if b.source.from.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

// kind names the protocol, and the family where no address shows it.
func (b box) kind() string {
	if b.protocol == anyProtocol {
		return b.family()
	}
	name := fmt.Sprintf("protocols %d-%d", b.protocol.from, b.protocol.to)
	if n := b.protocol.from; n == b.protocol.to {
		name = map[int]string{protoTCP: "TCP", protoUDP: "UDP", protoICMP: "ICMP", protoICMPv6: "ICMPv6"}[n]
		if name == "" {
			name = fmt.Sprintf("protocol %d", n)
		}
	}
	if b.source.all() && b.destination.all() && !strings.HasPrefix(name, "ICMP") {
		name += " over " + b.family()
	}
	return name
}

func (s span) words() string {
	if s.from == s.to {
		return fmt.Sprintf("port %d", s.from)
	}
	return fmt.Sprintf("ports %d-%d", s.from, s.to)
}

func (b block) all() bool { return b == whole4 || b == whole6 }

func (b block) words() string {
	if b.all() {
		return "any"
	}
	if b.from == b.to {
		return b.from.String()
	}
	for bits := b.from.BitLen(); bits >= 0; bits-- {
		if p := netip.PrefixFrom(b.from, bits); blockOf(p) == b {
			return p.String()
		}
	}
	return b.from.String() + "-" + b.to.String()
}
