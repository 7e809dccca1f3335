package hush

import (
	"encoding/binary"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// What the program says about a packet. The values of tcx are those of a classifier with direct action
// (linux/bpf.h, enum tcx_action_base; linux/pkt_cls.h, TC_ACT_UNSPEC and TC_ACT_SHOT): for other programs to decide,
// or dropped.
const (
	verdictNext = -1
	verdictDrop = 2
)

// Offsets into struct __sk_buff (linux/bpf.h).
const (
	ctxPktType = 4
	ctxData    = 76
	ctxDataEnd = 80
)

// Offsets into an Ethernet frame and the headers behind it (IEEE 802.3, 802.1Q; RFC 791, section 3.1; RFC 8200,
// section 3; RFC 768). The kernel shows a frame without its outermost VLAN tag.
const (
	offEtherType = 12

	off4Fragment = 6
	off4Protocol = 9
	ip4Header    = 20

	off6Next  = 6
	ip6Header = 40

	offUDPPort = 2 // the destination
)

const (
	packet  = asm.R6 // the context
	offset  = asm.R7 // into the frame, where the slow path is
	scratch = -16    // where it loads to, from the frame pointer
)

// network is a number as a 16-bit load from a packet finds it.
func network(v uint16) int32 {
	return int32(binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v)))
}

// program drops what is addressed to one of the ports of this host. With a switch, it only does so while the first
// word of that map is not zero. Without the fast path all packets take the slow one, which is for tests.
//
// What AWS mirrors comes as IPv4 without options and without a VLAN tag: the fast path needs eight loads for it and
// no call. Whatever else, or what the driver did not put into the linear part of its buffer, takes the slow path.
func program(ports []uint16, active *ebpf.Map, fast bool) asm.Instructions {
	p := asm.Instructions{asm.Mov.Reg(packet, asm.R1)}
	if fast {
		p = append(p, fastPath()...)
	}
	p = append(p, slowPath()...)

	// The destination port is in R4.
	for i, port := range ports {
		match := asm.JEq.Imm(asm.R4, network(port), "match")
		if i == 0 {
			match = match.WithSymbol("port")
		}
		p = append(p, match)
	}
	p = append(p,
		asm.Mov.Imm(asm.R0, verdictNext).WithSymbol("next"),
		asm.Return(),
		asm.LoadMem(asm.R4, packet, ctxPktType, asm.Word).WithSymbol("match"),
		asm.JNE.Imm(asm.R4, unix.PACKET_HOST, "next"),
	)
	if active != nil {
		p = append(p,
			asm.LoadMapValue(asm.R4, active.FD(), 0),
			asm.LoadMem(asm.R4, asm.R4, 0, asm.Word),
			asm.JEq.Imm(asm.R4, 0, "next"),
		)
	}
	return append(p, asm.Mov.Imm(asm.R0, verdictDrop), asm.Return())
}

// fastPath finds the port in a frame of IPv4 without options, by direct access to the packet.
func fastPath() asm.Instructions {
	const (
		ip      = offEtherType + 2
		version = 0x45 // and a header of five words
		port    = ip + ip4Header + offUDPPort
	)
	data := asm.R2
	return asm.Instructions{
		asm.LoadMem(data, packet, ctxData, asm.Word),
		asm.LoadMem(asm.R3, packet, ctxDataEnd, asm.Word),
		asm.Mov.Reg(asm.R4, data),
		asm.Add.Imm(asm.R4, port+2),
		asm.JGT.Reg(asm.R4, asm.R3, "slow"),
		asm.LoadMem(asm.R4, data, offEtherType, asm.Half),
		asm.JNE.Imm(asm.R4, network(unix.ETH_P_IP), "slow"),
		asm.LoadMem(asm.R4, data, ip, asm.Byte),
		asm.JNE.Imm(asm.R4, version, "slow"),
		asm.LoadMem(asm.R4, data, ip+off4Protocol, asm.Byte),
		asm.JNE.Imm(asm.R4, unix.IPPROTO_UDP, "next"),
		asm.LoadMem(asm.R4, data, ip+off4Fragment, asm.Half),
		asm.JSet.Imm(asm.R4, network(laterFragment), "next"),
		asm.LoadMem(asm.R4, data, port, asm.Half),
		asm.Ja.Label("port"),
	}
}

// laterFragment are the bits of an IPv4 header that are not zero in all fragments but the first, which alone has a
// UDP header.
const laterFragment = 0x1fff

// slowPath finds the port in any frame, by copying out of it.
func slowPath() asm.Instructions {
	// The symbols of the places where a frame may have its EtherType.
	places := []string{"slow", "behind a tag", "behind two tags"}
	var p asm.Instructions
	for tags, place := range places {
		at := int32(offEtherType + 4*tags)
		p = append(p, load(place, asm.Mov.Imm(asm.R2, at), 2)...)
		p = append(p,
			asm.Mov.Imm(offset, at+2),
			asm.LoadMem(asm.R4, asm.RFP, scratch, asm.Half),
			asm.JEq.Imm(asm.R4, network(unix.ETH_P_IP), "ip4"),
			asm.JEq.Imm(asm.R4, network(unix.ETH_P_IPV6), "ip6"),
		)
		if tags+1 < len(places) {
			for _, tag := range []uint16{unix.ETH_P_8021Q, unix.ETH_P_8021AD, unix.ETH_P_QINQ1} {
				p = append(p, asm.JEq.Imm(asm.R4, network(tag), places[tags+1]))
			}
		}
		p = append(p, asm.Ja.Label("next"))
	}
	p = append(p, slow4()...)
	p = append(p, slow6()...)
	p = append(p, asm.Add.Imm(offset, offUDPPort).WithSymbol("udp"))
	p = append(p, load("", asm.Mov.Reg(asm.R2, offset), 2)...)
	return append(p, asm.LoadMem(asm.R4, asm.RFP, scratch, asm.Half))
}

// slow4 finds the port in an IPv4 packet.
func slow4() asm.Instructions {
	p := load("ip4", asm.Mov.Reg(asm.R2, offset), off4Protocol+1)
	p = append(p,
		asm.LoadMem(asm.R4, asm.RFP, scratch+off4Protocol, asm.Byte),
		asm.JNE.Imm(asm.R4, unix.IPPROTO_UDP, "next"),
		asm.LoadMem(asm.R4, asm.RFP, scratch+off4Fragment, asm.Half),
		asm.JSet.Imm(asm.R4, network(laterFragment), "next"),
		asm.LoadMem(asm.R4, asm.RFP, scratch, asm.Byte), // version, and words of the header
		asm.And.Imm(asm.R4, 0xf),
		asm.LSh.Imm(asm.R4, 2),
		asm.Add.Reg(offset, asm.R4),
	)
	return append(p, asm.Ja.Label("udp"))
}

// slow6 finds the port in an IPv6 packet that has UDP directly behind its header, or behind one extension header.
func slow6() asm.Instructions {
	p := load("ip6", asm.Mov.Reg(asm.R2, offset), off6Next+1)
	p = append(p,
		asm.LoadMem(asm.R4, asm.RFP, scratch+off6Next, asm.Byte),
		asm.Add.Imm(offset, ip6Header),
		asm.JEq.Imm(asm.R4, unix.IPPROTO_UDP, "udp"),
		asm.Mov.Reg(asm.R8, asm.R4),
	)
	for _, header := range []int32{unix.IPPROTO_HOPOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_DSTOPTS, unix.IPPROTO_FRAGMENT} {
		p = append(p, asm.JEq.Imm(asm.R8, header, "extension"))
	}
	p = append(p, asm.Ja.Label("next"))
	p = append(p, load("extension", asm.Mov.Reg(asm.R2, offset), 4)...)
	p = append(p,
		asm.LoadMem(asm.R4, asm.RFP, scratch, asm.Byte),
		asm.JNE.Imm(asm.R4, unix.IPPROTO_UDP, "next"),
		asm.JNE.Imm(asm.R8, unix.IPPROTO_FRAGMENT, "whole"),
		asm.LoadMem(asm.R4, asm.RFP, scratch+2, asm.Half), // the fragment's offset, and three flags (section 4.5)
		asm.JSet.Imm(asm.R4, network(0xfff8), "next"),
		// The length counts units of 8 bytes beyond the first (section 4.3); a fragment header's is reserved, 0.
		asm.LoadMem(asm.R4, asm.RFP, scratch+1, asm.Byte).WithSymbol("whole"),
		asm.Add.Imm(asm.R4, 1),
		asm.LSh.Imm(asm.R4, 3),
		asm.Add.Reg(offset, asm.R4),
	)
	return append(p, asm.Ja.Label("udp"))
}

// load copies up to 16 bytes of the frame to the scratch space. Where is the instruction that sets R2 to their
// offset. A frame that is too short is none of ours.
func load(symbol string, where asm.Instruction, count int32) asm.Instructions {
	if symbol != "" {
		where = where.WithSymbol(symbol)
	}
	return asm.Instructions{
		where,
		asm.Mov.Reg(asm.R1, packet),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, scratch),
		asm.Mov.Imm(asm.R4, count),
		asm.FnSkbLoadBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, "next"),
	}
}
