package main

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strconv"
	"strings"
)

// flow is a conversation, in either direction.
type flow struct {
	protocol int // IANA number; -1: any
	a, b     end
}

// end is one side of a flow.
type end struct {
	addr netip.Addr // not valid: any
	port int        // -1: any
}

const anything = "*"

// parseFlow reads PROTOCOL END - END, where an end is ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT.
func parseFlow(text string) (flow, error) {
	bad := errors.New("want a flow like 'tcp 10.0.0.5:443 - 10.0.0.9:*'")
	words := strings.Fields(text)
	if len(words) != 4 || words[2] != "-" {
		return flow{}, bad
	}
	f := flow{protocol: -1}
	switch words[0] {
	case "tcp":
		f.protocol = protocolTCP
	case "udp":
		f.protocol = protocolUDP
	case "icmp":
		f.protocol = protocolICMP
	case "any", anything:
	default:
		n, err := strconv.ParseUint(words[0], 10, 8)
		if err != nil {
			return flow{}, errors.New("want tcp, udp, icmp, any or the number of a protocol before the ends")
		}
		f.protocol = int(n)
	}
	var err error
	if f.a, err = parseEnd(words[1]); err != nil {
		return flow{}, err
	}
	if f.b, err = parseEnd(words[3]); err != nil {
		return flow{}, err
	}
	return f, nil
}

func parseEnd(text string) (end, error) {
	e := end{port: -1}
	host, port := text, anything
	if addr, err := netip.ParseAddr(text); err == nil {
		e.addr = addr.Unmap()
		return e, nil
	}
	if at := strings.LastIndexByte(text, ':'); at >= 0 {
		host, port = text[:at], text[at+1:]
	}
	if host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"); host != anything {
		addr, err := netip.ParseAddr(host)
		if err != nil {
			return e, errors.New("want an address or * at both ends, like 10.0.0.5:443, [2001:db8::5]:443, *:53 or 10.0.0.9")
		}
		e.addr = addr.Unmap()
	}
	if port != anything {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return e, errors.New("want a port from 0 to 65535 or *")
		}
		e.port = int(n)
	}
	return e, nil
}

// matches says whether a packet belongs to the flow. A fragment without ports belongs to every flow of its addresses: which one
// it is of can't be seen, and a packet too many is better than one too few.
func (f flow) matches(p *packet) bool {
	if !p.ip || f.protocol >= 0 && f.protocol != p.protocol && !(f.protocol == protocolICMP && p.protocol == protocolICMPv6) {
		return false
	}
	return f.a.is(p.source, p.sourcePort, p.ports) && f.b.is(p.target, p.targetPort, p.ports) ||
		f.b.is(p.source, p.sourcePort, p.ports) && f.a.is(p.target, p.targetPort, p.ports)
}

func (e end) is(addr netip.Addr, port int, ports ports) bool {
	if e.addr.IsValid() && e.addr != addr {
		return false
	}
	return e.port < 0 || ports == hidden || ports == known && e.port == port
}

// ports says what is known of a packet's ports.
type ports int

const (
	none   ports = iota // its protocol has none
	known               // they are there
	hidden              // it is a later fragment, or cut off before them
)

// packet is what is to be known of a frame to tell its flow.
type packet struct {
	ip                     bool
	protocol               int
	source, target         netip.Addr
	ports                  ports
	sourcePort, targetPort int
}

// IANA protocol numbers.
const (
	protocolHopByHop    = 0
	protocolICMP        = 1
	protocolTCP         = 6
	protocolUDP         = 17
	protocolRouting     = 43
	protocolFragment    = 44
	protocolAH          = 51
	protocolICMPv6      = 58
	protocolDestination = 60
	protocolSCTP        = 132
)

// EtherTypes (IEEE 802 numbers).
const (
	etherIPv4 = 0x0800
	etherIPv6 = 0x86dd
	etherVLAN = 0x8100
	etherQinQ = 0x88a8
)

// parsePacket reads as much of an Ethernet frame as it has.
func parsePacket(frame []byte, p *packet) {
	*p = packet{}
	if len(frame) < 14 {
		return
	}
	kind, rest := binary.BigEndian.Uint16(frame[12:]), frame[14:]
	for (kind == etherVLAN || kind == etherQinQ) && len(rest) >= 4 {
		kind, rest = binary.BigEndian.Uint16(rest[2:]), rest[4:]
	}
	switch {
	case kind == etherIPv4 && len(rest) >= 20 && rest[0]>>4 == 4:
		p.ip, p.protocol = true, int(rest[9])
		p.source, p.target = netip.AddrFrom4([4]byte(rest[12:16])), netip.AddrFrom4([4]byte(rest[16:20]))
		length := int(rest[0]&15) * 4
		first := binary.BigEndian.Uint16(rest[6:])&0x1fff == 0
		p.readPorts(rest[min(max(length, 20), len(rest)):], first)
	case kind == etherIPv6 && len(rest) >= 40 && rest[0]>>4 == 6:
		p.ip, p.protocol = true, int(rest[6])
		p.source, p.target = netip.AddrFrom16([16]byte(rest[8:24])).Unmap(), netip.AddrFrom16([16]byte(rest[24:40])).Unmap()
		first := true
		rest = rest[40:]
		for headers := 0; headers < 8 && first && len(rest) >= 8; headers++ {
			length := 8 + int(rest[1])*8
			switch p.protocol {
			case protocolHopByHop, protocolRouting, protocolDestination:
			case protocolAH:
				length = 8 + int(rest[1])*4
			case protocolFragment:
				length, first = 8, binary.BigEndian.Uint16(rest[2:])>>3 == 0
			default:
				p.readPorts(rest, true)
				return
			}
			p.protocol = int(rest[0])
			rest = rest[min(length, len(rest)):]
		}
		p.readPorts(rest, first)
	}
}

func (p *packet) readPorts(rest []byte, first bool) {
	switch {
	case p.protocol != protocolTCP && p.protocol != protocolUDP && p.protocol != protocolSCTP:
	case !first || len(rest) < 4:
		p.ports = hidden
	default:
		p.ports = known
		p.sourcePort, p.targetPort = int(binary.BigEndian.Uint16(rest)), int(binary.BigEndian.Uint16(rest[2:]))
	}
}
