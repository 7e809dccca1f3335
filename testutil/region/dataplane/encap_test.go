package dataplane

import (
	"bytes"
	"net/netip"
	"testing"

	"flashtap/testutil/packets"
)

var target = netip.MustParseAddrPort("127.0.0.1:4789")

func TestKeep(t *testing.T) {
	target6 := netip.MustParseAddrPort("[::1]:4789")
	// A packet of an interface's MTU is 14 bytes longer as a frame.
	for _, c := range []struct {
		reason  string
		session Session
		frame   int
		want    int
		cut     Cut
	}{
		{"whole", Session{Target: target}, 1514, 1514, Whole},
		{"the lossless source MTU of the guide: 8947 of 9001", Session{Target: target}, 8947 + 14, 8947 + 14, Whole},
		{"a byte more", Session{Target: target}, 8948 + 14, 8947 + 14, ToMTU},
		{"the guide's example of 8996 bytes", Session{Target: target}, 8996 + 14, 8947 + 14, ToMTU},
		{"an IPv6 target takes 20 bytes less", Session{Target: target6}, 8947 + 14, 8927 + 14, ToMTU},
		{"an IPv4 address written as IPv6 is IPv4", Session{Target: netip.MustParseAddrPort("[::ffff:127.0.0.1]:1")}, 8947 + 14, 8947 + 14, Whole},
		{"a target of 1500", Session{Target: target, MTU: 1500}, 1514, 1460, ToMTU},
		{"a target of 1554 takes a source of 1500", Session{Target: target, MTU: 1554}, 1514, 1514, Whole},
		{"packet length", Session{Target: target, PacketLength: 128}, 1514, 128, ToLength},
		{"a shorter packet keeps its length", Session{Target: target, PacketLength: 128}, 60, 60, Whole},
		{"exactly the packet length", Session{Target: target, PacketLength: 60}, 60, 60, Whole},
		{"a packet length beyond the MTU", Session{Target: target, PacketLength: 9500}, 9800, 8961, ToMTU},
		{"a frame over 64 KiB", Session{Target: target}, 80066, 8961, ToMTU},
	} {
		t.Run(c.reason, func(t *testing.T) {
			kept, cut := c.session.Keep(make([]byte, c.frame))
			if len(kept) != c.want || cut != c.cut {
				t.Errorf("%d bytes, cut %q; want %d, %q", len(kept), cut, c.want, c.cut)
			}
		})
	}
}

// unwrap is the test's own reading of RFC 7348, section 5.
func unwrap(t testing.TB, datagram []byte) (vni int, frame []byte) {
	t.Helper()
	if len(datagram) < 8 {
		t.Fatalf("a datagram of %d bytes", len(datagram))
	}
	for i, want := range map[int]byte{0: 1 << 3, 1: 0, 2: 0, 3: 0, 7: 0} {
		if datagram[i] != want {
			t.Fatalf("byte %d of the header is %#x, want %#x", i, datagram[i], want)
		}
	}
	return int(datagram[4])<<16 + int(datagram[5])<<8 + int(datagram[6]), datagram[8:]
}

func FuzzEncapsulation(f *testing.F) {
	f.Add(packets.UDP(suspect.On(1), internet.On(2), []byte("x")), uint32(0xabcdef), uint16(0), uint16(0), true)
	f.Add(make([]byte, 9100), uint32(1), uint16(128), uint16(1500), false)
	f.Add([]byte{}, uint32(0), uint16(1), uint16(9001), false)
	f.Fuzz(func(t *testing.T, frame []byte, vni uint32, length, mtu uint16, v6 bool) {
		s := Session{ID: "tms-1", Number: 1, VNI: vni & maxVNI, PacketLength: int(length), MTU: int(mtu), Target: target}
		outer := 20
		if v6 {
			s.Target, outer = netip.MustParseAddrPort("[::1]:4789"), 40
		}
		if s.validate() != nil {
			return
		}
		original := bytes.Clone(frame)
		kept, cut := s.Keep(frame)
		gotVNI, got := unwrap(t, appendVXLAN(nil, s.VNI, kept))
		if gotVNI != int(s.VNI) || !bytes.Equal(got, original[:len(kept)]) || !bytes.Equal(frame, original) {
			t.Fatalf("VNI %d of %d, %d bytes of %d", gotVNI, s.VNI, len(got), len(frame))
		}
		if (cut == Whole) != (len(kept) == len(frame)) {
			t.Fatalf("cut %q to %d of %d", cut, len(kept), len(frame))
		}
		if s.PacketLength > 0 && len(kept) > s.PacketLength {
			t.Fatalf("%d bytes, packet length %d", len(kept), s.PacketLength)
		}
		if mtu := max(s.MTU, 0); mtu > 0 && outer+8+8+len(kept) > mtu {
			t.Fatalf("an outer packet of %d bytes for an MTU of %d", outer+8+8+len(kept), mtu)
		}
	})
}

func TestSourcePort(t *testing.T) {
	base := packets.TCP(suspect.On(40000), internet.On(443), packets.Segment{Flags: "S"})
	t.Run("a flow keeps its port whatever else changes", func(t *testing.T) {
		for _, f := range [][]byte{
			packets.TCP(suspect.On(40000), internet.On(443), packets.Segment{Flags: "PA", Seq: 7, Payload: []byte("x")}),
			packets.Tagged(base, 9),
			append(bytes.Clone(base), 0, 0, 0),
		} {
			if SourcePort(f) != SourcePort(base) {
				t.Errorf("ports %d and %d", SourcePort(f), SourcePort(base))
			}
		}
	})
	t.Run("fragments of a packet after the first agree", func(t *testing.T) {
		f := packets.Fragments(packets.UDP(suspect.On(1), internet.On(2), make([]byte, 4000)), 1000)
		if SourcePort(f[1]) != SourcePort(f[3]) {
			t.Error("they don't")
		}
	})
	t.Run("flows spread over all ports, and no others", func(t *testing.T) {
		seen := map[uint16]int{}
		for port := range uint16(6400) {
			seen[SourcePort(packets.UDP(suspect.On(20000+port), internet.On(53), nil))]++
		}
		for port, n := range seen {
			if port < firstPort || port >= firstPort+portCount || n > 400 {
				t.Errorf("port %d has %d flows", port, n)
			}
		}
		if len(seen) != portCount {
			t.Errorf("%d ports", len(seen))
		}
	})
	t.Run("ICMP is told by type and code", func(t *testing.T) {
		ports := map[uint16]bool{}
		for kind := range byte(40) {
			ports[SourcePort(packets.IP(suspect, internet, 1, []byte{kind, 0, 0, 0}))] = true
		}
		if len(ports) < 10 {
			t.Errorf("40 kinds of message share %d ports", len(ports))
		}
	})
	t.Run("other protocols by addresses alone", func(t *testing.T) {
		if SourcePort(packets.IP(suspect, internet, 47, []byte("one"))) != SourcePort(packets.IP(suspect, internet, 47, []byte("other"))) {
			t.Error("the payload counts")
		}
	})
}

func TestSessionsThatCannotBeAreRefused(t *testing.T) {
	good := Session{ID: "tms-1", Number: 1, VNI: maxVNI, Target: target}
	with := func(change func(*Session)) []Session { s := good; change(&s); return []Session{s} }
	for _, c := range []struct {
		reason   string
		sessions []Session
		ok       bool
	}{
		{"none", nil, true},
		{"the largest VNI", []Session{good}, true},
		{"VNI of 25 bits", with(func(s *Session) { s.VNI++ }), false},
		{"number 0", with(func(s *Session) { s.Number = 0 }), false},
		{"number 32767", with(func(s *Session) { s.Number = 32767 }), false},
		{"no id", with(func(s *Session) { s.ID = "" }), false},
		{"no target", with(func(s *Session) { s.Target = netip.AddrPort{} }), false},
		{"no port", with(func(s *Session) { s.Target = netip.AddrPortFrom(target.Addr(), 0) }), false},
		{"negative packet length", with(func(s *Session) { s.PacketLength = -1 }), false},
		{"an MTU without room", with(func(s *Session) { s.MTU = 60 }), false},
		{"two of one number", []Session{good, {ID: "tms-2", Number: 1, Target: target}}, false},
	} {
		t.Run(c.reason, func(t *testing.T) {
			if _, err := ordered(c.sessions); (err == nil) != c.ok {
				t.Errorf("error %v", err)
			}
		})
	}
}
