package vxlan

import (
	"bytes"
	"encoding/binary"
	"math/big"
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
		binary.BigEndian.PutUint16(datagram[6:], slowChecksum(datagram, len(datagram), from, to))
	}
	return datagram
}

// slowChecksum is the UDP checksum as RFC 768 words it, of a datagram that says to be length long and whose checksum
// is still 0.
func slowChecksum(datagram []byte, length int, from, to netip.Addr) uint16 {
	pseudo := append(from.AsSlice(), to.AsSlice()...)
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(length))
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

// shapes are frames that hold a datagram.
var shapes = map[string]outerFrame{
	"as Traffic Mirroring sends it":        {},
	"the shortest inner frame":             {inner: make([]byte, 14)},
	"an inner frame that is none":          {inner: make([]byte, 3)},
	"no inner frame":                       {inner: []byte{}},
	"a VLAN tag":                           {tags: []uint16{0x8100}},
	"service tag and VLAN tag":             {tags: []uint16{0x88a8, 0x8100}},
	"three tags":                           {tags: []uint16{0x9100, 0x9100, 0x8100}},
	"IPv4 options":                         {options: 40},
	"a tag and options":                    {tags: []uint16{0x8100}, options: 4},
	"Ethernet padding":                     {inner: make([]byte, 14), padding: 5},
	"jumbo frame":                          {inner: bytes.Repeat([]byte{0xff}, 8951)},
	"odd length":                           {inner: bytes.Repeat([]byte{0xff}, 1413)},
	"IPv6":                                 {v6: true},
	"IPv6 with padding":                    {v6: true, padding: 3},
	"IPv6 extension headers":               {v6: true, extension: []byte{0, 60, 43}},
	"GENEVE around Ethernet":               {geneve: typeTransEther},
	"GENEVE around an IPv4 packet":         {geneve: typeIPv4, tags: []uint16{0x8100}},
	"GENEVE around an IPv6 packet":         {geneve: typeIPv6, v6: true},
	"GENEVE around Ethernet, with padding": {geneve: typeTransEther, options: 8, padding: 2},
}

func TestOuterFindsTheDatagram(t *testing.T) {
	for reason, o := range shapes {
		t.Run(reason, func(t *testing.T) {
			var d Datagram
			fault := Outer(o.bytes(), &d)
			if fault != None || !bytes.Equal(d.Payload, o.payload()) || d.Source != o.source() {
				t.Errorf("fault %d, payload %x from %v; want %x from %v", fault, d.Payload, netip.AddrFrom16(d.Source), o.payload(), netip.AddrFrom16(o.source()))
			}
		})
	}
}

// A capture that keeps only the first bytes of each frame still tells how long the datagram was.
func TestUnwrapOfCutFrames(t *testing.T) {
	for reason, o := range shapes {
		t.Run(reason, func(t *testing.T) {
			frame, payload := o.bytes(), o.payload()
			header := len(frame) - o.padding - len(payload)
			for kept := range frame {
				var d Datagram
				beyond, miss := Unwrap(frame[:kept], len(frame), Port, &d)
				if kept < header+HeaderLen {
					if miss != Short || d.Payload != nil {
						t.Fatalf("%d bytes kept: miss %d with %d bytes of payload", kept, miss, len(d.Payload))
					}
					continue
				}
				if want := payload[:min(len(payload), kept-header)]; miss != Found || !bytes.Equal(d.Payload, want) || beyond != len(payload)-len(want) {
					t.Fatalf("%d bytes kept: miss %d, payload of %d bytes, %d beyond", kept, miss, len(d.Payload), beyond)
				}
			}
		})
	}
}

// patch is a frame with some bytes replaced.
func patch(o outerFrame, at int, with ...byte) []byte {
	frame := o.bytes()
	copy(frame[at:], with)
	return frame
}

func TestOuterOfOddFrames(t *testing.T) {
	const (
		ip4   = 14
		udp4  = 34
		udp6  = 54
		gen   = 42 // GENEVE header behind IPv4
		plain = 50 + 60
	)
	v4, v6 := outerFrame{}, outerFrame{v6: true}
	ether, bare := outerFrame{geneve: typeTransEther}, outerFrame{geneve: typeIPv4}
	padded := outerFrame{padding: 4}
	tests := []struct {
		reason string
		frame  []byte
		miss   Miss
		want   int // bytes of payload
	}{
		{"nothing", nil, Short, 0},
		{"shorter than an Ethernet header", v4.bytes()[:13], Short, 0},
		{"cut in a VLAN tag", outerFrame{tags: []uint16{0x8100}}.bytes()[:17], Short, 0},
		{"ARP", patch(v4, 12, 0x08, 0x06), NotIP, 0},
		{"IPv4 with version 6", patch(v4, ip4, 0x65), Broken, 0},
		{"IPv4 header length below the least", patch(v4, ip4, 0x44), Broken, 0},
		{"IPv4 header longer than the frame", patch(v4, ip4, 0x4f)[:ip4+59], Short, 0},
		{"TCP", patch(v4, ip4+9, 6), NotUDP, 0},
		{"the first fragment", patch(v4, ip4+6, 0x20, 0x00), Fragmented, 0},
		{"a later fragment", patch(v4, ip4+6, 0x00, 0x10), Fragmented, 0},
		{"the last fragment", patch(v4, ip4+6, 0x1f, 0xff), Fragmented, 0},
		{"a fragment of TCP is TCP", patch(v4, ip4+6, 0x20, 0x00, 64, 6), NotUDP, 0},
		{"Don't Fragment and the reserved bit are no fragment", patch(v4, ip4+6, 0xc0, 0x00), Found, plain - 42},
		{"IPv4 total length 0 means the frame's end", patch(padded, ip4+2, 0, 0), Found, plain - 42},
		{"IPv4 total length beyond the frame", patch(v4, ip4+2, 0xff, 0xff), Found, plain - 42},
		{"IPv4 total length within the UDP header", patch(v4, ip4+2, 0, 27), Broken, 0},
		{"IPv4 total length that ends before the VXLAN header does", patch(v4, ip4+2, 0, 35), Broken, 0},
		{"IPv4 total length that leaves the VXLAN header alone", patch(v4, ip4+2, 0, 36), Found, 8},
		{"UDP length 0 means the packet's end", patch(padded, udp4+4, 0, 0), Found, plain - 42},
		{"UDP length beyond the packet means its end", patch(padded, udp4+4, 0xff, 0xff), Found, plain - 42},
		{"UDP length below the packet's", patch(v4, udp4+4, 0, 30), Found, 22},
		{"UDP length of the headers alone", patch(v4, udp4+4, 0, 16), Found, 8},
		{"UDP length below the headers'", patch(v4, udp4+4, 0, 15), Broken, 0},
		{"UDP length below its own", patch(v4, udp4+4, 0, 7), Broken, 0},
		{"another port", patch(v4, udp4+2, 0, 53), OtherPort, 0},
		{"the port as source", patch(v4, udp4, 0x12, 0xb5, 0xc3, 0x50), OtherPort, 0},
		{"no room for a VXLAN header", v4.bytes()[:udp4+8], Broken, 0},
		{"cut in the UDP header", v4.bytes()[:udp4+7], Short, 0},
		{"IPv6 with version 4", patch(v6, ip4, 0x45), Broken, 0},
		{"IPv6 header cut", v6.bytes()[:53], Short, 0},
		{"IPv6 payload length 0 means the frame's end", patch(v6, ip4+4, 0, 0), Found, 68},
		{"IPv6 UDP length 0 means the packet's end", patch(v6, udp6+4, 0, 0), Found, 68},
		{"IPv6 payload length within the headers", patch(v6, ip4+4, 0, 15), Broken, 0},
		{"IPv6 fragment", patch(outerFrame{v6: true, extension: []byte{44}}, 0), Fragmented, 0},
		{"IPv6 fragment behind options", patch(outerFrame{v6: true, extension: []byte{0, 44}}, 0), Fragmented, 0},
		{"IPv6 extension cut", outerFrame{v6: true, extension: []byte{0}}.bytes()[:61], Short, 0},
		{"IPv6 extension longer than the frame", patch(outerFrame{v6: true, extension: []byte{0}}, 55, 255), Short, 0},
		{"IPsec over IPv6", patch(v6, ip4+6, 50), NotUDP, 0},
		{"GENEVE of another version", patch(ether, gen, 0x42), Broken, 0},
		{"GENEVE options longer than the datagram", patch(ether, gen, 0x3f), Broken, 0},
		{"GENEVE options cut", ether.bytes()[:gen+12], Broken, 0},
		{"GENEVE around NSH", patch(ether, gen+2, 0x89, 0x4f), OtherTunnel, 0},
		{"GENEVE around ARP", patch(ether, gen+16+12, 0x08, 0x06), NotIP, 0},
		{"GENEVE around TCP", patch(bare, gen+16+9, 6), NotUDP, 0},
		{"GENEVE around a fragment", patch(bare, gen+16+6, 0x20, 0), Fragmented, 0},
		{"GENEVE around UDP to another port", patch(bare, gen+16+20+2, 0, 53), OtherPort, 0},
		{"GENEVE in GENEVE", patch(bare, gen+16+20+2, 0x17, 0xc1), OtherPort, 0},
		{"GENEVE fragment", patch(bare, ip4+6, 0x20, 0), Fragmented, 0},
		{"GENEVE around an inner IPv4 length of 0 ends with the datagram", patch(outerFrame{geneve: typeIPv4, padding: 3}, gen+16+2, 0, 0), Found, 68},
	}
	for _, test := range tests {
		t.Run(test.reason, func(t *testing.T) {
			var d Datagram
			_, miss := Unwrap(test.frame, len(test.frame), Port, &d)
			if miss != test.miss || len(d.Payload) != test.want {
				t.Errorf("miss %d with %d bytes, want %d with %d", miss, len(d.Payload), test.miss, test.want)
			}
			judge(t, test.frame, len(test.frame), Port)
		})
	}
}

func TestFaults(t *testing.T) {
	var d Datagram
	for reason, test := range map[string]struct {
		frame  []byte
		fault  Fault
		source [16]byte
	}{
		"a datagram":          {outerFrame{}.bytes(), None, source4.As16()},
		"a fragment":          {patch(outerFrame{}, 20, 0x20), Fragment, source4.As16()},
		"an IPv6 fragment":    {outerFrame{v6: true, extension: []byte{44}}.bytes(), Fragment, source6.As16()},
		"another port":        {patch(outerFrame{}, 36, 0, 53), Malformed, source4.As16()},
		"lengths that lie":    {patch(outerFrame{}, 38, 0, 9), Malformed, source4.As16()},
		"cut":                 {outerFrame{}.bytes()[:48], Malformed, source4.As16()},
		"no IP":               {patch(outerFrame{}, 12, 8, 6), Malformed, [16]byte{}},
		"inside GENEVE, lies": {patch(outerFrame{geneve: typeIPv4}, 42+16+20+4, 0, 9), Malformed, source4.As16()},
		"GENEVE that lies":    {patch(outerFrame{geneve: typeIPv4}, 42, 0x80), Malformed, gateway.As16()},
	} {
		d = Datagram{Payload: []byte("of the packet before"), Source: [16]byte{1, 2, 3}}
		if fault := Outer(test.frame, &d); fault != test.fault || d.Source != test.source || (fault == None) == (d.Payload == nil) {
			t.Errorf("%s: fault %d from %v with %d bytes, want %d from %v", reason, fault, netip.AddrFrom16(d.Source), len(d.Payload), test.fault, netip.AddrFrom16(test.source))
		}
	}
}

func TestChecksumOK(t *testing.T) {
	for reason, o := range shapes {
		if o.checksum = true; !ChecksumOK(o.bytes()) {
			t.Errorf("%s: a right checksum is refused", reason)
		}
		// Whatever bit of the datagram is changed, the sum is wrong.
		frame := o.bytes()
		datagram := len(frame) - o.padding - len(o.payload()) - 8
		for _, at := range []int{datagram, datagram + 6, datagram + 8, datagram + 15, len(frame) - o.padding - 1} {
			if damaged := patch(o, at, frame[at]^0x10); !ChecksumOK(damaged) {
				continue
			}
			t.Errorf("%s: a changed byte %d is not seen", reason, at)
		}
		for _, at := range frame[len(frame)-o.padding:] {
			frame[at] ^= 0xff
		}
		if !ChecksumOK(frame) {
			t.Errorf("%s: padding counts", reason)
		}
		if o.checksum = false; !ChecksumOK(o.bytes()) {
			t.Errorf("%s: no checksum is refused", reason)
		}
	}
	// Only the outer header of a Gateway Load Balancer has a checksum.
	o := outerFrame{geneve: typeIPv4, checksum: true}
	frame := patch(o, 42+16+20+6, 0, 0)
	binary.BigEndian.PutUint16(frame[40:], 0)
	binary.BigEndian.PutUint16(frame[40:], slowChecksum(frame[34:], len(frame)-34, gateway, dest4))
	if !ChecksumOK(frame) {
		t.Error("a right checksum of GENEVE is refused")
	}
	frame[42+16+20+30] ^= 1
	if ChecksumOK(frame) {
		t.Error("a wrong checksum of GENEVE is not seen")
	}
}

func TestChecksumOKWithNothingToVerify(t *testing.T) {
	o := outerFrame{checksum: true, inner: bytes.Repeat([]byte{1}, 60)}
	whole := o.bytes()
	for kept := range whole {
		if !ChecksumOK(whole[:kept]) {
			t.Fatalf("a datagram cut to %d of %d bytes is refused", kept, len(whole))
		}
	}
	if ChecksumOK(patch(o, 38, 0xff, 0xff)) {
		t.Error("a UDP length beyond the packet passes")
	}
	if !ChecksumOK(patch(o, 38, 0, 7)) {
		t.Error("a UDP length that makes no datagram has a checksum")
	}
}

// Words of all ones are where an addition carries into itself.
func TestSumCarries(t *testing.T) {
	for _, size := range []int{0, 1, 7, 8, 63, 64, 65, 128, 1000} {
		for _, start := range []uint64{0, 1, 1<<64 - 1, 1<<64 - 2, 1 << 63} {
			data := bytes.Repeat([]byte{0xff}, size)
			want := new(big.Int).SetUint64(start)
			for i := 0; i < size; i += 8 {
				var word [8]byte
				copy(word[:], data[i:])
				want.Add(want, new(big.Int).SetUint64(binary.LittleEndian.Uint64(word[:])))
			}
			ones := big.NewInt(0xffff)
			if got := foldSum(onesSum(data, start)); new(big.Int).Mod(want, ones).Uint64() != uint64(got)%0xffff || got == 0 && want.Sign() != 0 {
				t.Errorf("%d bytes on %x: %x, want %x modulo ffff", size, start, got, want)
			}
		}
	}
}

func TestOuterAllocatesNothing(t *testing.T) {
	var frames [][]byte
	for _, o := range shapes {
		frames = append(frames, o.bytes())
		o.checksum = true
		frames = append(frames, o.bytes())
	}
	frames = append(frames, patch(outerFrame{}, 20, 0x20), patch(outerFrame{}, 36, 0, 53), nil)
	var d Datagram
	ok := true
	allocs := testing.AllocsPerRun(100, func() {
		for _, frame := range frames {
			d.Fault = Outer(frame, &d)
			ok = ChecksumOK(frame) && ok
		}
	})
	if allocs != 0 || !ok {
		t.Errorf("%v allocations for %d packets, want 0", allocs, len(frames))
	}
}

// judge compares everything that is said of a frame with the reference.
func judge(t *testing.T, frame []byte, wire int, port uint16) {
	t.Helper()
	before := bytes.Clone(frame)
	want := reference(frame, wire, int(port))
	d := Datagram{Payload: []byte("of the packet before"), Source: [16]byte{1, 2, 3}}
	beyond, miss := Unwrap(frame, wire, port, &d)
	var source [16]byte
	if want.source.IsValid() {
		source = want.source.As16()
	}
	if miss != want.miss || !bytes.Equal(d.Payload, want.payload) || (d.Payload == nil) != (miss != Found) || d.Source != source {
		t.Errorf("miss %d, payload %x, source %x; want %d, %x, %x", miss, d.Payload, d.Source, want.miss, want.payload, source)
	}
	if miss == Found && (beyond != want.whole-len(want.payload) || len(d.Payload) < HeaderLen) {
		t.Errorf("%d bytes of %d in all, and %d beyond", len(d.Payload), want.whole, beyond)
	}
	if ok := ChecksumOK(frame); ok != reference(frame, len(frame), int(port)).verified {
		t.Errorf("checksum ok: %t", ok)
	}
	if !bytes.Equal(frame, before) {
		t.Error("the frame was changed")
	}
}

func FuzzOuter(f *testing.F) {
	for _, o := range shapes {
		f.Add(o.bytes(), uint16(0))
		f.Add(o.bytes()[:len(o.bytes())/2], uint16(len(o.bytes())))
	}
	f.Fuzz(func(t *testing.T, frame []byte, cut uint16) {
		judge(t, frame, len(frame), Port)
		judge(t, frame, len(frame)+int(cut), Port)
		judge(t, frame, len(frame)-int(cut), Port) // a record that says to be longer than its frame
		judge(t, frame, len(frame), 8472)
		var d, same Datagram
		fault := Outer(frame, &d)
		_, miss := Unwrap(frame, len(frame), Port, &same)
		if (fault == None) != (miss == Found) || (fault == Fragment) != (miss == Fragmented) || !bytes.Equal(d.Payload, same.Payload) || d.Source != same.Source {
			t.Errorf("Outer says fault %d and %+v, Unwrap %d and %+v", fault, d, miss, same)
		}
	})
}

func FuzzChecksumOK(f *testing.F) {
	for _, o := range shapes {
		o.checksum = true
		f.Add(o.bytes())
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		if ok, want := ChecksumOK(frame), reference(frame, len(frame), Port).verified; ok != want {
			t.Fatalf("%t, want %t", ok, want)
		}
		// What Outer finds and is given its right checksum is right.
		var d Datagram
		if Outer(frame, &d) != None || len(frame) < 42 || !bytes.Equal(frame[12:15], []byte{0x08, 0, 0x45}) || frame[36] != Port>>8 {
			return
		}
		total, length := binary.BigEndian.Uint16(frame[16:]), binary.BigEndian.Uint16(frame[38:])
		if int(total) > len(frame)-14 || length < 8 || int(length) > int(total)-20 {
			return
		}
		right := bytes.Clone(frame)
		datagram := right[34 : 34+int(length)]
		datagram[6], datagram[7] = 0, 0
		binary.BigEndian.PutUint16(datagram[6:], slowChecksum(datagram, len(datagram), netip.AddrFrom4([4]byte(frame[26:30])), netip.AddrFrom4([4]byte(frame[30:34]))))
		if !ChecksumOK(right) {
			t.Fatal("a right checksum is refused")
		}
	})
}
