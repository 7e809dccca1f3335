package packets

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

var (
	here   = NewHost("10.0.1.10")
	there  = NewHost("192.0.2.7")
	here6  = NewHost("2001:db8::10")
	there6 = NewHost("2001:db8::7")
)

func TestBuiltFramesDecodeAsTheirLayers(t *testing.T) {
	for _, c := range []struct {
		name  string
		frame []byte
		want  []gopacket.LayerType
	}{
		{"TCP over IPv4", TCP(here.On(1), there.On(443), Segment{Flags: "PA", Payload: []byte("hello")}),
			[]gopacket.LayerType{layers.LayerTypeEthernet, layers.LayerTypeIPv4, layers.LayerTypeTCP, gopacket.LayerTypePayload}},
		{"TCP over IPv6", TCP(here6.On(1), there6.On(443), Segment{Flags: "S"}),
			[]gopacket.LayerType{layers.LayerTypeEthernet, layers.LayerTypeIPv6, layers.LayerTypeTCP}},
		{"UDP", UDP(here.On(1), there.On(2), []byte("x")),
			[]gopacket.LayerType{layers.LayerTypeEthernet, layers.LayerTypeIPv4, layers.LayerTypeUDP, gopacket.LayerTypePayload}},
		{"ICMP", Echo(here, there, 1, 2, nil),
			[]gopacket.LayerType{layers.LayerTypeEthernet, layers.LayerTypeIPv4, layers.LayerTypeICMPv4}},
		{"ICMPv6", Echo(here6, there6, 1, 2, nil),
			[]gopacket.LayerType{layers.LayerTypeEthernet, layers.LayerTypeIPv6, layers.LayerTypeICMPv6, layers.LayerTypeICMPv6Echo}},
		{"DNS query", DNSQuery(here.On(4000), there, 7, "example.com"),
			[]gopacket.LayerType{layers.LayerTypeEthernet, layers.LayerTypeIPv4, layers.LayerTypeUDP, layers.LayerTypeDNS}},
		{"DNS answer", DNSAnswer(there, here.On(4000), 7, "example.com", netip.MustParseAddr("2001:db8::1")),
			[]gopacket.LayerType{layers.LayerTypeEthernet, layers.LayerTypeIPv4, layers.LayerTypeUDP, layers.LayerTypeDNS}},
		{"DHCP", DHCPDiscover(here),
			[]gopacket.LayerType{layers.LayerTypeEthernet, layers.LayerTypeIPv4, layers.LayerTypeUDP, layers.LayerTypeDHCPv4}},
		{"ARP", ARPRequest(here, there.IP),
			[]gopacket.LayerType{layers.LayerTypeEthernet, layers.LayerTypeARP}},
		{"two tags", Tagged(UDP(here.On(1), there.On(2), []byte("x")), 100, 200),
			[]gopacket.LayerType{layers.LayerTypeEthernet, layers.LayerTypeDot1Q, layers.LayerTypeDot1Q, layers.LayerTypeIPv4,
				layers.LayerTypeUDP, gopacket.LayerTypePayload}},
		{"a mirrored frame", VXLANDatagram(here.On(50000), there, 77, TCP(here6.On(1), there6.On(2), Segment{Flags: "S"})),
			[]gopacket.LayerType{layers.LayerTypeEthernet, layers.LayerTypeIPv4, layers.LayerTypeUDP, layers.LayerTypeVXLAN,
				layers.LayerTypeEthernet, layers.LayerTypeIPv6, layers.LayerTypeTCP}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := gopacket.NewPacket(c.frame, layers.LayerTypeEthernet, gopacket.Default)
			var got []gopacket.LayerType
			for _, l := range p.Layers() {
				got = append(got, l.LayerType())
			}
			if len(got) != len(c.want) {
				t.Fatalf("layers %v, want %v", got, c.want)
			}
			for i := range got {
				if got[i] != c.want[i] {
					t.Errorf("layer %d is %v, want %v", i, got[i], c.want[i])
				}
			}
		})
	}
}

func TestFragmentsAddUpToThePacket(t *testing.T) {
	whole := UDP(here.On(1), there.On(2), bytes.Repeat([]byte("0123456789"), 300))
	fragments := Fragments(whole, 1000)
	var payload []byte
	for i, f := range fragments {
		v4 := gopacket.NewPacket(f, layers.LayerTypeEthernet, gopacket.Default).Layer(layers.LayerTypeIPv4).(*layers.IPv4)
		if int(v4.FragOffset)*8 != len(payload) || (v4.Flags&layers.IPv4MoreFragments != 0) != (i < len(fragments)-1) {
			t.Errorf("fragment %d: offset %d, flags %v", i, v4.FragOffset, v4.Flags)
		}
		if checksum(f[14:34]) != 0 {
			t.Errorf("fragment %d: wrong header checksum", i)
		}
		payload = append(payload, v4.Payload...)
	}
	if len(fragments) != 4 || !bytes.Equal(payload, whole[34:]) {
		t.Errorf("%d fragments of %d bytes, want %d", len(fragments), len(payload), len(whole)-34)
	}
}

func TestMistakesOfTheTestPanic(t *testing.T) {
	for name, build := range map[string]func(){
		"IPv4 to IPv6":         func() { UDP(here, there6, nil) },
		"an unknown TCP flag":  func() { TCP(here, there, Segment{Flags: "X"}) },
		"fragments of IPv6":    func() { Fragments(UDP(here6, there6, nil), 8) },
		"an unknown recording": func() { MustLoad("absent.pcap") },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			build()
		})
	}
}
