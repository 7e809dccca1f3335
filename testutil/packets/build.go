package packets

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// The builders panic when a frame can't be built (say, IPv4 to IPv6): the mistake is in the test that asked.

// Host is one end of a frame.
type Host struct {
	MAC  net.HardwareAddr
	IP   netip.Addr
	Port uint16
}

// NewHost is the host at ip, with a locally administered MAC made from the address.
func NewHost(ip string) Host {
	addr := netip.MustParseAddr(ip)
	b := addr.As16()
	return Host{MAC: net.HardwareAddr{0x02, b[11], b[12], b[13], b[14], b[15]}, IP: addr}
}

// On is the same host with a port.
func (h Host) On(port uint16) Host {
	h.Port = port
	return h
}

// Segment is what varies between the TCP segments of one connection.
type Segment struct {
	// Flags are letters of "SAFRPU": SYN, ACK, FIN, RST, PSH, URG.
	Flags    string
	Seq, Ack uint32
	Payload  []byte
}

// TCP builds a TCP segment.
func TCP(from, to Host, s Segment) []byte {
	tcp := &layers.TCP{SrcPort: layers.TCPPort(from.Port), DstPort: layers.TCPPort(to.Port),
		Seq: s.Seq, Ack: s.Ack, Window: 65535}
	for _, flag := range s.Flags {
		switch flag {
		case 'S':
			tcp.SYN = true
		case 'A':
			tcp.ACK = true
		case 'F':
			tcp.FIN = true
		case 'R':
			tcp.RST = true
		case 'P':
			tcp.PSH = true
		case 'U':
			tcp.URG = true
		default:
			panic(fmt.Sprintf("TCP flag %q", flag))
		}
	}
	return ip(from, to, layers.IPProtocolTCP, tcp, gopacket.Payload(s.Payload))
}

// UDP builds a UDP datagram.
func UDP(from, to Host, payload []byte) []byte {
	udp := &layers.UDP{SrcPort: layers.UDPPort(from.Port), DstPort: layers.UDPPort(to.Port)}
	return ip(from, to, layers.IPProtocolUDP, udp, gopacket.Payload(payload))
}

// Echo builds an ICMP or ICMPv6 echo request.
func Echo(from, to Host, id, seq uint16, payload []byte) []byte {
	if from.IP.Is4() {
		icmp := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0), Id: id, Seq: seq}
		return ip(from, to, layers.IPProtocolICMPv4, icmp, gopacket.Payload(payload))
	}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeEchoRequest, 0)}
	echo := &layers.ICMPv6Echo{Identifier: id, SeqNumber: seq}
	return ip(from, to, layers.IPProtocolICMPv6, icmp, echo, gopacket.Payload(payload))
}

// IP builds an IP packet of any protocol around payload.
func IP(from, to Host, protocol uint8, payload []byte) []byte {
	return ip(from, to, layers.IPProtocol(protocol), gopacket.Payload(payload))
}

// DNSQuery builds a query for the addresses of name; to is the resolver, port 53 unless it has another.
func DNSQuery(from, to Host, id uint16, name string) []byte {
	if to.Port == 0 {
		to.Port = 53
	}
	return UDP(from, to, dnsMessage(&layers.DNS{ID: id, RD: true, Questions: dnsQuestion(name, layers.DNSTypeA)}))
}

// DNSAnswer builds the answer to a DNSQuery: from is the resolver, port 53 unless it has another.
func DNSAnswer(from, to Host, id uint16, name string, addr netip.Addr) []byte {
	if from.Port == 0 {
		from.Port = 53
	}
	kind := layers.DNSTypeA
	if addr.Is6() {
		kind = layers.DNSTypeAAAA
	}
	return UDP(from, to, dnsMessage(&layers.DNS{ID: id, QR: true, RD: true, RA: true,
		Questions: dnsQuestion(name, kind),
		Answers: []layers.DNSResourceRecord{{Name: []byte(name), Type: kind, Class: layers.DNSClassIN, TTL: 60,
			IP: addr.AsSlice()}},
	}))
}

func dnsQuestion(name string, kind layers.DNSType) []layers.DNSQuestion {
	return []layers.DNSQuestion{{Name: []byte(name), Type: kind, Class: layers.DNSClassIN}}
}

func dnsMessage(dns *layers.DNS) []byte {
	return serialize(dns)
}

// DHCPDiscover builds the broadcast with which a host asks for an address.
func DHCPDiscover(from Host) []byte {
	from.IP, from.Port = netip.IPv4Unspecified(), 68
	to := Host{MAC: layers.EthernetBroadcast, IP: netip.AddrFrom4([4]byte{255, 255, 255, 255}), Port: 67}
	return UDP(from, to, serialize(&layers.DHCPv4{Operation: layers.DHCPOpRequest, HardwareType: layers.LinkTypeEthernet,
		HardwareLen: 6, Xid: 0x2a2a2a2a, ClientHWAddr: from.MAC,
		Options: layers.DHCPOptions{layers.NewDHCPOption(layers.DHCPOptMessageType, []byte{byte(layers.DHCPMsgTypeDiscover)})}}))
}

// ARPRequest builds the broadcast that asks for the MAC of target.
func ARPRequest(from Host, target netip.Addr) []byte {
	all := Host{MAC: layers.EthernetBroadcast}
	return Ethernet(from, all, uint16(layers.EthernetTypeARP), serialize(
		&layers.ARP{AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
			Operation: layers.ARPRequest, SourceHwAddress: from.MAC, SourceProtAddress: from.IP.AsSlice(),
			DstHwAddress: make([]byte, 6), DstProtAddress: target.AsSlice()}))
}

// Ethernet builds a frame of any EtherType. It isn't padded to 60 bytes: a virtual network doesn't.
func Ethernet(from, to Host, etherType uint16, payload []byte) []byte {
	frame := append(append([]byte{}, to.MAC...), from.MAC...)
	return append(binary.BigEndian.AppendUint16(frame, etherType), payload...)
}

// Tagged puts VLAN tags into a frame, the outermost first: one is an 802.1Q tag, of several the outermost is 802.1ad.
func Tagged(frame []byte, ids ...uint16) []byte {
	out := append([]byte{}, frame[:12]...)
	for i, id := range ids {
		tag := uint16(layers.EthernetTypeDot1Q)
		if i == 0 && len(ids) > 1 {
			tag = uint16(layers.EthernetTypeQinQ)
		}
		out = binary.BigEndian.AppendUint16(out, tag)
		out = binary.BigEndian.AppendUint16(out, id&0x0fff)
	}
	return append(out, frame[12:]...)
}

// Fragments cuts an untagged IPv4 frame without options into fragments of at most size bytes of payload each.
func Fragments(frame []byte, size int) [][]byte {
	const header = 14 + 20
	if frame[12] != 0x08 || frame[13] != 0x00 || frame[14] != 0x45 {
		panic("only an IPv4 frame without tags and options can be cut into fragments")
	}
	size = max(8, size&^7) // offsets count in 8 bytes (RFC 791, section 3.1)
	var out [][]byte
	for payload, offset := frame[header:], 0; offset < len(payload); offset += size {
		part := payload[offset:min(offset+size, len(payload))]
		flags := uint16(offset / 8)
		if offset+len(part) < len(payload) {
			flags |= 0x2000 // more fragments
		}
		f := append(append([]byte{}, frame[:header]...), part...)
		binary.BigEndian.PutUint16(f[16:], uint16(20+len(part)))
		binary.BigEndian.PutUint16(f[20:], flags)
		binary.BigEndian.PutUint16(f[24:], 0)
		binary.BigEndian.PutUint16(f[24:], checksum(f[14:header]))
		out = append(out, f)
	}
	return out
}

// checksum is the Internet checksum (RFC 1071).
func checksum(header []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(header); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(header[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// VXLAN builds what a mirror sends as the payload of its UDP datagram: the header of RFC 7348, section 5, and the frame.
func VXLAN(vni uint32, frame []byte) []byte {
	return append([]byte{0x08, 0, 0, 0, byte(vni >> 16), byte(vni >> 8), byte(vni), 0}, frame...)
}

// VXLANDatagram builds the whole outer frame as the target's interface receives it.
func VXLANDatagram(from, to Host, vni uint32, frame []byte) []byte {
	return UDP(from, to.On(4789), VXLAN(vni, frame))
}

func ip(from, to Host, protocol layers.IPProtocol, upper ...gopacket.SerializableLayer) []byte {
	var etherType layers.EthernetType
	var network gopacket.NetworkLayer
	var header gopacket.SerializableLayer
	switch {
	case from.IP.Is4() && to.IP.Is4():
		etherType = layers.EthernetTypeIPv4
		v4 := &layers.IPv4{Version: 4, TTL: 64, Protocol: protocol, SrcIP: from.IP.AsSlice(), DstIP: to.IP.AsSlice()}
		network, header = v4, v4
	case from.IP.Is6() && to.IP.Is6():
		etherType = layers.EthernetTypeIPv6
		v6 := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: protocol, SrcIP: from.IP.AsSlice(), DstIP: to.IP.AsSlice()}
		network, header = v6, v6
	default:
		panic(fmt.Sprintf("no packet can go from %s to %s", from.IP, to.IP))
	}
	for _, l := range upper {
		if l, ok := l.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok {
			if err := l.SetNetworkLayerForChecksum(network); err != nil {
				panic(err)
			}
		}
	}
	packet := serialize(append([]gopacket.SerializableLayer{header}, upper...)...)
	return Ethernet(from, to, uint16(etherType), packet)
}

func serialize(stack ...gopacket.SerializableLayer) []byte {
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, stack...); err != nil {
		panic(err)
	}
	return append([]byte{}, buf.Bytes()...)
}
