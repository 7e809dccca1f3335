package ingest

import (
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"flashtap/collector/vxlan"
)

// What the filter of a ring looks at, as offsets into an Ethernet frame and the headers behind it (IEEE 802.3,
// 802.1Q; RFC 791, section 3.1; RFC 8200, section 3; RFC 768).
const (
	offEtherType   = 12
	vlanTag        = 4
	ethernetHeader = 14

	off4Fragment = 6
	off4Protocol = 9

	off6Next  = 6
	ip6Header = 40

	offUDPPort = 2 // the destination

	protocolUDP = 17
)

// wholePacket is what a filter returns for a packet that is to be kept: more bytes than any has.
const wholePacket = 1 << 18

// tapFilter is the classic BPF program of a ring: it admits UDP datagrams that are addressed to this host and to one
// of the ports that mirrored traffic comes to, whatever VNI or source they have, since what is foreign has to be
// counted. It looks behind up to two VLAN tags, IPv4 options and one IPv6 extension header.
//
// The kernel shows it frames without their outermost VLAN tag (packet(7), PACKET_AUXDATA).
func tapFilter() ([]unix.SockFilter, error) {
	var b program
	b.add(bpf.LoadExtension{Num: bpf.ExtType})
	b.rejectUnless(bpf.JumpEqual, unix.PACKET_HOST)
	raw, err := bpf.Assemble(append(b, mirrored()...))
	if err != nil {
		return nil, err
	}
	filter := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		filter[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	return filter, nil
}

// mirrored is the part of the program that looks at the bytes of a frame.
func mirrored() (b program) {
	for tags := range 3 {
		offset := uint32(tags * vlanTag)
		b.add(bpf.LoadAbsolute{Off: offEtherType + offset, Size: 2})
		b.unless(unix.ETH_P_IP, func() { b.ip4(ethernetHeader + offset) })
		b.unless(unix.ETH_P_IPV6, func() { b.ip6(ethernetHeader + offset) })
		if tags < 2 {
			b.rejectUnlessOneOf(unix.ETH_P_8021Q, unix.ETH_P_8021AD, unix.ETH_P_QINQ1)
		}
	}
	b.add(bpf.RetConstant{Val: 0})
	return b
}

// program is a BPF program that grows from the top.
type program []bpf.Instruction

func (p *program) add(list ...bpf.Instruction) { *p = append(*p, list...) }

// rejectUnless ends the program for packets that do not meet the condition.
func (p *program) rejectUnless(cond bpf.JumpTest, value uint32) {
	p.add(bpf.JumpIf{Cond: cond, Val: value, SkipTrue: 1}, bpf.RetConstant{Val: 0})
}

func (p *program) rejectUnlessOneOf(values ...uint32) {
	for i, value := range values {
		p.add(bpf.JumpIf{Cond: bpf.JumpEqual, Val: value, SkipTrue: uint8(len(values) - i)})
	}
	p.add(bpf.RetConstant{Val: 0})
}

// unless skips a part of the program for packets that have another value.
func (p *program) unless(value uint32, part func()) {
	at := len(*p)
	p.add(nil)
	part()
	(*p)[at] = bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: value, SkipTrue: uint8(len(*p) - at - 1)}
}

// ip4 decides about an IPv4 packet. Later fragments have no UDP header; the first one goes on to be counted.
func (p *program) ip4(at uint32) {
	p.add(bpf.LoadAbsolute{Off: at + off4Protocol, Size: 1})
	p.rejectUnless(bpf.JumpEqual, protocolUDP)
	p.add(bpf.LoadAbsolute{Off: at + off4Fragment, Size: 2})
	p.rejectUnless(bpf.JumpBitsNotSet, 0x1fff)
	p.add(bpf.LoadMemShift{Off: at}, bpf.LoadIndirect{Off: at + offUDPPort, Size: 2})
	p.port()
}

// ip6 decides about an IPv6 packet with UDP directly behind its header or behind one extension header.
func (p *program) ip6(at uint32) {
	p.add(bpf.LoadAbsolute{Off: at + off6Next, Size: 1})
	p.add(bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: protocolUDP, SkipTrue: 2 + portLen})
	p.add(bpf.LoadConstant{Dst: bpf.RegX, Val: 0}, bpf.LoadIndirect{Off: at + ip6Header + offUDPPort, Size: 2})
	p.port()
	p.rejectUnlessOneOf(unix.IPPROTO_HOPOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_DSTOPTS, unix.IPPROTO_FRAGMENT)
	p.add(bpf.LoadAbsolute{Off: at + ip6Header, Size: 1})
	p.rejectUnless(bpf.JumpEqual, protocolUDP)
	// A later fragment has no UDP header (RFC 8200, section 4.5).
	p.add(bpf.LoadAbsolute{Off: at + off6Next, Size: 1}, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_FRAGMENT, SkipTrue: 3},
		bpf.LoadAbsolute{Off: at + ip6Header + 2, Size: 2})
	p.rejectUnless(bpf.JumpBitsNotSet, 0xfff8)
	// The length counts units of 8 bytes beyond the first (RFC 8200, section 4.3); a fragment header's is reserved, 0.
	p.add(bpf.LoadAbsolute{Off: at + ip6Header + 1, Size: 1}, bpf.ALUOpConstant{Op: bpf.ALUOpAdd, Val: 1},
		bpf.ALUOpConstant{Op: bpf.ALUOpShiftLeft, Val: 3}, bpf.TAX{},
		bpf.LoadIndirect{Off: at + ip6Header + offUDPPort, Size: 2})
	p.port()
}

// portLen is the number of instructions that port adds.
const portLen = 4

// port ends the program: the destination port is loaded.
func (p *program) port() {
	p.add(bpf.JumpIf{Cond: bpf.JumpEqual, Val: vxlan.Port, SkipTrue: 2}, bpf.JumpIf{Cond: bpf.JumpEqual, Val: vxlan.GenevePort, SkipTrue: 1},
		bpf.RetConstant{Val: 0}, bpf.RetConstant{Val: wholePacket})
}
