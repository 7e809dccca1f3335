package filter

import (
	"net/netip"

	"flashtap/events"
)

// box is a set of packets of one direction and one family: what a rule matches, or a part of that.
type box struct {
	direction                     string
	source, destination           block
	protocol                      span // IANA numbers
	sourcePorts, destinationPorts span // noPorts to 65535
}

// span is a range of numbers, both ends included.
type span struct{ from, to int }

// block is a range of addresses of one family, both ends included.
type block struct{ from, to netip.Addr }

// noPorts stands for the ports of a packet that has none: not TCP or UDP, or a later fragment. Rules without ports match
// such packets, rules with ports don't.
const noPorts = -1

var (
	anyProtocol = span{0, 255}
	anyPorts    = span{noPorts, 65535}
	any4        = netip.MustParsePrefix("0.0.0.0/0")
	any6        = netip.MustParsePrefix("::/0")
	whole4      = blockOf(any4)
	whole6      = blockOf(any6)
)

// boxOf is what a rule matches.
func boxOf(r events.FilterRule) (box, error) {
	source, err := netip.ParsePrefix(r.SourceCIDR)
	if err != nil {
		return box{}, err
	}
	destination, err := netip.ParsePrefix(r.DestinationCIDR)
	if err != nil {
		return box{}, err
	}
	b := box{
		direction: r.Direction, source: blockOf(source), destination: blockOf(destination),
		protocol: anyProtocol, sourcePorts: portsOf(r.SourcePorts), destinationPorts: portsOf(r.DestinationPorts),
	}
	if r.Protocol != 0 {
		b.protocol = span{int(r.Protocol), int(r.Protocol)}
	}
	return b, nil
}

func portsOf(r *events.PortRange) span {
	if r == nil {
		return anyPorts
	}
	return span{int(r.From), int(r.To)}
}

func blockOf(p netip.Prefix) block {
	p = p.Masked()
	from := p.Addr()
	last, shift := from.As16(), 128-from.BitLen()
	for i := shift + p.Bits(); i < 128; i++ {
		last[i/8] |= 0x80 >> (i % 8)
	}
	to := netip.AddrFrom16(last)
	if from.Is4() {
		to = to.Unmap()
	}
	return block{from, to}
}

// real says whether any packet is in b: both ports are there or neither, and only TCP and UDP have any.
func (b box) real() bool {
	without := b.sourcePorts.from == noPorts && b.destinationPorts.from == noPorts
	with := b.sourcePorts.to >= 0 && b.destinationPorts.to >= 0 && (b.protocol.holds(protoTCP) || b.protocol.holds(protoUDP))
	return without || with
}

func (s span) holds(n int) bool { return s.from <= n && n <= s.to }

// and is the set of packets that are in both; false when there are none.
func (b box) and(o box) (box, bool) {
	if b.direction != o.direction || b.source.from.Is4() != o.source.from.Is4() || b.destination.from.Is4() != o.destination.from.Is4() {
		return box{}, false
	}
	both := box{
		direction: b.direction, source: b.source.and(o.source), destination: b.destination.and(o.destination), protocol: b.protocol.and(o.protocol),
		sourcePorts: b.sourcePorts.and(o.sourcePorts), destinationPorts: b.destinationPorts.and(o.destinationPorts),
	}
	if both.source.empty() || both.destination.empty() || both.protocol.empty() || both.sourcePorts.empty() || both.destinationPorts.empty() || !both.real() {
		return box{}, false
	}
	return both, true
}

// The dimensions of a box beside its direction.
var (
	addressesOf = []func(*box) *block{
		func(b *box) *block { return &b.source },
		func(b *box) *block { return &b.destination },
	}
	numbersOf = []func(*box) *span{
		func(b *box) *span { return &b.protocol },
		func(b *box) *span { return &b.sourcePorts },
		func(b *box) *span { return &b.destinationPorts },
	}
)

// without is the set of the packets of b that are not in o, as boxes that share no packet.
func (b box) without(o box) []box {
	if _, meet := b.and(o); !meet {
		return []box{b}
	}
	var rest []box
	keep := func(part box) {
		if part.real() {
			rest = append(rest, part)
		}
	}
	for _, of := range addressesOf {
		for _, s := range of(&b).without(*of(&o)) {
			part := b
			*of(&part) = s
			keep(part)
		}
		*of(&b) = of(&b).and(*of(&o))
	}
	for _, of := range numbersOf {
		for _, s := range of(&b).without(*of(&o)) {
			part := b
			*of(&part) = s
			keep(part)
		}
		*of(&b) = of(&b).and(*of(&o))
	}
	return rest
}

func (s span) empty() bool     { return s.from > s.to }
func (s span) and(o span) span { return span{max(s.from, o.from), min(s.to, o.to)} }

func (s span) without(o span) []span {
	var rest []span
	for _, part := range []span{{s.from, min(s.to, o.from-1)}, {max(s.from, o.to+1), s.to}} {
		if !part.empty() {
			rest = append(rest, part)
		}
	}
	return rest
}

func (b block) empty() bool { return b.to.Less(b.from) }

func (b block) and(o block) block {
	if b.from.Less(o.from) {
		b.from = o.from
	}
	if o.to.Less(b.to) {
		b.to = o.to
	}
	return b
}

func (b block) without(o block) []block {
	var rest []block
	if b.from.Less(o.from) {
		rest = append(rest, block{b.from, o.from.Prev()})
	}
	if o.to.Less(b.to) {
		rest = append(rest, block{o.to.Next(), b.to})
	}
	return rest
}
