package vxlan

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
)

// outerFrame says how a frame around a VXLAN datagram is built. Its zero value is the plainest one.
type outerFrame struct {
	inner     []byte // default: an IPv4 frame of 60 bytes
	tags      []uint16
	options   int // bytes of IPv4 options, a multiple of 4
	v6        bool
	extension []byte // IPv6 extension headers by number, 8 bytes each
	geneve    uint16 // the protocol inside GENEVE; 0: no GENEVE
	padding   int
	checksum  bool
}

var (
	source4 = netip.MustParseAddr("10.1.2.3")
	source6 = netip.MustParseAddr("fd12:3456::7")
	dest4   = netip.MustParseAddr("10.9.8.7")
	dest6   = netip.MustParseAddr("fd12:3456::9")
	gateway = netip.MustParseAddr("10.255.0.1") // the source of a GENEVE packet
)

// payload is the VXLAN header and the frame inside.
func (o outerFrame) payload() []byte {
	inner := o.inner
	if inner == nil {
		inner = ipv4Frame(46, 46)
	}
	return append([]byte{0x08, 0, 0, 0, 0, 0, 42, 0}, inner...)
}

func (o outerFrame) source() [16]byte {
	if o.v6 {
		return source6.As16()
	}
	return source4.As16()
}

func (o outerFrame) bytes() []byte {
	packet, etherType := o.packet()
	if o.geneve != 0 {
		body := []byte{2, 0, 0, 0, 0, 0, 7, 0, 0x01, 0x08, 1, 1, 0xaa, 0xbb, 0xcc, 0xdd} // one option of a Gateway Load Balancer
		binary.BigEndian.PutUint16(body[2:], o.geneve)
		if o.geneve == typeTransEther {
			body = append(body, ether(nil, etherType)...)
		}
		body = append(body, packet...)
		packet = ip4(udp(body, GenevePort, o.checksum, gateway, dest4), gateway, dest4, 0)
		etherType = typeIPv4
	}
	return append(append(ether(o.tags, etherType), packet...), make([]byte, o.padding)...)
}

func (o outerFrame) packet() ([]byte, uint16) {
	if !o.v6 {
		return ip4(udp(o.payload(), Port, o.checksum, source4, dest4), source4, dest4, o.options), typeIPv4
	}
	datagram := udp(o.payload(), Port, o.checksum, source6, dest6)
	packet := make([]byte, 40)
	packet[0], packet[7] = 0x60, 64
	binary.BigEndian.PutUint16(packet[4:], uint16(8*len(o.extension)+len(datagram)))
	copy(packet[8:], source6.AsSlice())
	copy(packet[24:], dest6.AsSlice())
	next := 6
	for _, number := range o.extension {
		packet[next] = number
		next = len(packet)
		packet = append(packet, make([]byte, 8)...)
	}
	packet[next] = 17
	return append(packet, datagram...), typeIPv6
}

func ether(tags []uint16, etherType uint16) []byte {
	frame := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2}
	for _, tag := range tags {
		frame = append(binary.BigEndian.AppendUint16(frame, tag), 0, 5)
	}
	return binary.BigEndian.AppendUint16(frame, etherType)
}

func ip4(datagram []byte, from, to netip.Addr, options int) []byte {
	packet := make([]byte, 20+options)
	packet[0], packet[6], packet[8], packet[9] = byte(0x45+options/4), 0x40, 64, 17
	binary.BigEndian.PutUint16(packet[2:], uint16(len(packet)+len(datagram)))
	copy(packet[12:], from.AsSlice())
	copy(packet[16:], to.AsSlice())
	for i := 20; i < len(packet); i++ {
		packet[i] = 1 // no operation
	}
	return append(packet, datagram...)
}

func udp(payload []byte, port uint16, checksum bool, from, to netip.Addr) []byte {
	datagram := make([]byte, 8, 8+len(payload))
	binary.BigEndian.PutUint16(datagram, 50000)
	binary.BigEndian.PutUint16(datagram[2:], port)
	binary.BigEndian.PutUint16(datagram[4:], uint16(8+len(payload)))
	datagram = append(datagram, payload...)
	if checksum {
		binary.BigEndian.PutUint16(datagram[6:], slowChecksum(datagram, from, to))
	}
	return datagram
}

// slowChecksum is the UDP checksum as RFC 768 words it.
func slowChecksum(datagram []byte, from, to netip.Addr) uint16 {
	pseudo := append(from.AsSlice(), to.AsSlice()...)
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(datagram)))
	pseudo = append(pseudo, 0, 0, 0, 17)
	pseudo = append(pseudo, datagram...)
	if len(pseudo)%2 == 1 {
		pseudo = append(pseudo, 0)
	}
	sum := 0
	for i := 0; i < len(pseudo); i += 2 {
		sum += int(pseudo[i])<<8 | int(pseudo[i+1])
		if sum > 0xffff {
			sum -= 0xffff
		}
	}
	if sum == 0xffff {
		return 0xffff // 0 would say that there is none
	}
	return ^uint16(sum)
}

func TestOuterFindsTheDatagram(t *testing.T) {
	for reason, o := range map[string]outerFrame{
		"as Traffic Mirroring sends it":        {},
		"the shortest inner frame":             {inner: make([]byte, 14)},
		"a VLAN tag":                           {tags: []uint16{0x8100}},
		"service tag and VLAN tag":             {tags: []uint16{0x88a8, 0x8100}},
		"three tags":                           {tags: []uint16{0x9100, 0x9100, 0x8100}},
		"IPv4 options":                         {options: 40},
		"a tag and options":                    {tags: []uint16{0x8100}, options: 4},
		"Ethernet padding":                     {inner: make([]byte, 14), padding: 5},
		"IPv6":                                 {v6: true},
		"IPv6 with padding":                    {v6: true, padding: 3},
		"IPv6 extension headers":               {v6: true, extension: []byte{0, 60, 43}},
		"GENEVE around Ethernet":               {geneve: typeTransEther},
		"GENEVE around an IPv4 packet":         {geneve: typeIPv4, tags: []uint16{0x8100}},
		"GENEVE around an IPv6 packet":         {geneve: typeIPv6, v6: true},
		"GENEVE around Ethernet, with options": {geneve: typeTransEther, options: 8, padding: 2},
	} {
		t.Run(reason, func(t *testing.T) {
			var d Datagram
			fault := Outer(o.bytes(), &d)
			if fault != None || !bytes.Equal(d.Payload, o.payload()) || d.Source != o.source() {
				t.Errorf("fault %d, payload %x from %v; want %x from %v", fault, d.Payload, netip.AddrFrom16(d.Source), o.payload(), netip.AddrFrom16(o.source()))
			}
		})
	}
}
