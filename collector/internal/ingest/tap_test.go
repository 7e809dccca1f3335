package ingest

import (
	"bytes"
	"encoding/binary"
	"testing"

	"golang.org/x/net/bpf"

	"flashtap/collector/vxlan"
)

// admits runs the filter as the kernel would, except for the kind of packet, which only the kernel knows.
func admits(t testing.TB, frame []byte) bool {
	t.Helper()
	vm, err := bpf.NewVM(mirrored())
	if err != nil {
		t.Fatal(err)
	}
	n, err := vm.Run(frame)
	if err != nil {
		t.Fatal(err)
	}
	return n > 0
}

// frame6 is a mirrored frame over IPv6; extensions come between its header and UDP's.
func frame6(next byte, extensions []byte, port uint16) []byte {
	payload := append(bytes.Clone(extensions), make([]byte, 16+60)...)
	udp := payload[len(extensions):]
	binary.BigEndian.PutUint16(udp[2:], port)
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	udp[8] = 0x08
	f := make([]byte, 54, 54+len(payload))
	f[12], f[13] = 0x86, 0xdd
	f[14] = 0x60
	binary.BigEndian.PutUint16(f[18:], uint16(len(payload)))
	f[20] = next
	return append(f, payload...)
}

func tagged(frame []byte, types ...uint16) []byte {
	f := bytes.Clone(frame[:12])
	for i, t := range types {
		f = binary.BigEndian.AppendUint16(f, t)
		f = binary.BigEndian.AppendUint16(f, uint16(100+i))
	}
	return append(f, frame[12:]...)
}

func TestFilterAdmitsMirroredDatagramsAlone(t *testing.T) {
	plain := outerFrame(vni, innerFrame(100, 1))
	change := func(f func(frame []byte)) []byte {
		c := bytes.Clone(plain)
		f(c)
		return c
	}
	options := append(bytes.Clone(plain[:34]), append(make([]byte, 8), plain[34:]...)...)
	options[14] = 0x47
	tests := []struct {
		reason string
		frame  []byte
		want   bool
	}{
		{"IPv4", plain, true},
		{"IPv4 with options", options, true},
		{"GENEVE", change(func(f []byte) { binary.BigEndian.PutUint16(f[36:], vxlan.GenevePort) }), true},
		{"a foreign VNI, which has to be counted", outerFrame(vni+1, innerFrame(100, 1)), true},
		{"a foreign source, which has to be counted", change(func(f []byte) { f[29]++ }), true},
		{"a first fragment, which has to be counted", change(func(f []byte) { f[20] |= 0x20 }), true},
		{"a later fragment, which has no port", change(func(f []byte) { f[21] = 1 }), false},
		{"one VLAN tag", tagged(plain, 0x8100), true},
		{"two VLAN tags", tagged(plain, 0x88a8, 0x8100), true},
		{"another port", change(func(f []byte) { binary.BigEndian.PutUint16(f[36:], 4790) }), false},
		{"from that port, not to it", change(func(f []byte) {
			binary.BigEndian.PutUint16(f[34:], vxlan.Port)
			binary.BigEndian.PutUint16(f[36:], 53)
		}), false},
		{"TCP", change(func(f []byte) { f[23] = 6 }), false},
		{"ARP", change(func(f []byte) { f[13] = 6 }), false},
		{"IPv6", frame6(17, nil, vxlan.Port), true},
		{"IPv6 to another port", frame6(17, nil, 443), false},
		{"IPv6 with a destination option", frame6(60, []byte{17, 0, 0, 0, 0, 0, 0, 0}, vxlan.Port), true},
		{"IPv6 with a long hop-by-hop option", frame6(0, append([]byte{17, 1}, make([]byte, 14)...), vxlan.Port), true},
		{"IPv6, a first fragment, which has to be counted", frame6(44, []byte{17, 0, 0, 1, 0, 0, 0, 1}, vxlan.Port), true},
		{"IPv6, a later fragment, which has no port", frame6(44, []byte{17, 0, 0, 9, 0, 0, 0, 1}, vxlan.Port), false},
		{"IPv6 with an option before TCP", frame6(60, []byte{6, 0, 0, 0, 0, 0, 0, 0}, vxlan.Port), false},
		{"IPv6 in a VLAN", tagged(frame6(17, nil, vxlan.Port), 0x8100), true},
		{"cut in its headers", plain[:30], false},
		{"empty", nil, false},
	}
	for _, test := range tests {
		t.Run(test.reason, func(t *testing.T) {
			if got := admits(t, test.frame); got != test.want {
				t.Errorf("admitted: %t", got)
			}
		})
	}
	if _, err := tapFilter(); err != nil {
		t.Errorf("the kernel's form of it: %v", err)
	}
}

// FuzzFilter looks for frames that the parser takes for mirrored ones and that the filter would have kept away.
func FuzzFilter(f *testing.F) {
	f.Add(outerFrame(vni, innerFrame(100, 1)))
	f.Add(tagged(outerFrame(vni, innerFrame(60, 1)), 0x88a8, 0x8100))
	f.Add(frame6(17, nil, vxlan.Port))
	f.Add(frame6(60, []byte{17, 0, 0, 0, 0, 0, 0, 0}, vxlan.Port))
	f.Fuzz(func(t *testing.T, frame []byte) {
		var d vxlan.Datagram
		if vxlan.Outer(frame, &d) != vxlan.None || admits(t, frame) {
			return
		}
		if len(frame) > 26 && tags(frame) > 2 || extensions(frame) > 1 {
			return // deeper than the filter looks; AWS sends neither
		}
		t.Errorf("kept away: %x", frame)
	})
}

// tags is how many VLAN tags a frame begins with.
func tags(frame []byte) (n int) {
	for at := 12; at+2 <= len(frame); at += 4 {
		switch binary.BigEndian.Uint16(frame[at:]) {
		case 0x8100, 0x88a8, 0x9100:
			n++
		default:
			return n
		}
	}
	return n
}

// extensions is how many extension headers follow a frame's IPv6 header, if it has one.
func extensions(frame []byte) (n int) {
	at := 14 + 4*tags(frame)
	if at+40 > len(frame) || frame[at]>>4 != 6 {
		return 0
	}
	next := frame[at+6]
	for at += 40; next != 17 && at+8 <= len(frame); n++ {
		next, at = frame[at], at+8*(1+int(frame[at+1]))
	}
	return n
}
