package hush

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

var (
	sender4, host4 = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	sender6, host6 = netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2")
)

// ethernet makes a frame to the null address.
func ethernet(etherType uint16, payload []byte) []byte {
	return slices.Concat(make([]byte, 12), binary.BigEndian.AppendUint16(nil, etherType), payload)
}

// tag makes a priority tag, which has no VLAN id: the kernel takes the frame as if it had none.
func tag(frame []byte, etherType uint16) []byte {
	return slices.Concat(frame[:12], binary.BigEndian.AppendUint16(nil, etherType), []byte{0, 0}, frame[12:])
}

func ip4(options []byte, fragment uint16, protocol byte, payload []byte) []byte {
	h := make([]byte, 20, 20+len(options)+len(payload))
	h[0] = 0x40 | byte(5+len(options)/4)
	binary.BigEndian.PutUint16(h[2:], uint16(cap(h)))
	binary.BigEndian.PutUint16(h[6:], fragment)
	h[8], h[9] = 64, protocol
	copy(h[12:], sender4.AsSlice())
	copy(h[16:], host4.AsSlice())
	h = append(h, options...)
	binary.BigEndian.PutUint16(h[10:], checksum(h))
	return append(h, payload...)
}

func ip6(next byte, payload []byte) []byte {
	h := make([]byte, 40)
	h[0] = 0x60
	binary.BigEndian.PutUint16(h[4:], uint16(len(payload)))
	h[6], h[7] = next, 64
	copy(h[8:], sender6.AsSlice())
	copy(h[24:], host6.AsSlice())
	return append(h, payload...)
}

// udpTo makes a datagram whose checksum is right over IPv6; over IPv4 it has to be set to zero.
func udpTo(port uint16, payload string) []byte {
	b := binary.BigEndian.AppendUint16(nil, 40000)
	b = binary.BigEndian.AppendUint16(b, port)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(payload)))
	b = append(b, 0, 0)
	b = append(b, payload...)
	pseudo := slices.Concat(sender6.AsSlice(), host6.AsSlice(), []byte{0, 0, 0, byte(len(b)), 0, 0, 0, unix.IPPROTO_UDP})
	binary.BigEndian.PutUint16(b[6:], checksum(slices.Concat(pseudo, b)))
	return b
}

// unchecked is a datagram without a checksum.
func unchecked(udp []byte) []byte {
	return slices.Concat(udp[:6], []byte{0, 0}, udp[8:])
}

// checksum is the one of RFC 1071.
func checksum(b []byte) uint16 {
	sum := uint32(0)
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
