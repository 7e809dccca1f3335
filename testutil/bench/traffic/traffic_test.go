package traffic

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

func generator(t testing.TB, change func(*Plan)) *Generator {
	t.Helper()
	plan := DefaultPlan()
	if change != nil {
		change(&plan)
	}
	g, err := New(plan)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func overIPv6(p *Plan) {
	p.Outer.Source, p.Outer.Target = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
}

// A dissector that has never heard of this package must agree on every header and checksum.
func TestPacketsAreWhatTheyClaim(t *testing.T) {
	for _, c := range []struct {
		reason string
		change func(*Plan)
	}{
		{"smallest", func(p *Plan) { p.Sizes = []int{64} }},
		{"TCP of odd length", func(p *Plan) { p.Sizes, p.TCP = []int{1399, 77, 76}, true }},
		{"IPv6", overIPv6},
		{"IPv6 with TCP of odd length", func(p *Plan) { overIPv6(p); p.Sizes, p.TCP = []int{301}, true }},
		{"tag and options", func(p *Plan) { p.Outer.VLAN, p.Outer.Options = 7, true }},
	} {
		t.Run(c.reason, func(t *testing.T) {
			g := generator(t, c.change)
			var b Buffer
			for n := range uint64(200) {
				packet := gopacket.NewPacket(bytes.Clone(g.Packet(&b, n, int64(n))), layers.LayerTypeEthernet, gopacket.Default)
				if packet.ErrorLayer() != nil {
					t.Fatalf("packet %d: %v", n, packet.ErrorLayer().Error())
				}
				tunnel, ok := packet.Layer(layers.LayerTypeVXLAN).(*layers.VXLAN)
				if !ok || tunnel.VNI != g.VNI(n) || !tunnel.ValidIDFlag || !bytes.Equal(tunnel.LayerPayload(), g.Frame(&b, n, int64(n))) {
					t.Fatalf("packet %d: %v", n, tunnel)
				}
				remade(t, packet)
			}
		})
	}
}

// remade checks that lengths and checksums are as a serializer computes them.
func remade(t *testing.T, packet gopacket.Packet) {
	t.Helper()
	var network gopacket.NetworkLayer
	for _, layer := range packet.Layers() {
		before := slices.Concat(layer.LayerContents(), layer.LayerPayload())
		out := gopacket.NewSerializeBuffer()
		payload, _ := out.AppendBytes(len(layer.LayerPayload()))
		copy(payload, layer.LayerPayload())
		options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
		var err error
		switch l := layer.(type) {
		case *layers.IPv4:
			network = l
			err = l.SerializeTo(out, options)
		case *layers.IPv6:
			network = l
			err = l.SerializeTo(out, options)
		case *layers.UDP:
			options.ComputeChecksums = l.Checksum != 0 // which says that there is none
			if err = l.SetNetworkLayerForChecksum(network); err == nil {
				err = l.SerializeTo(out, options)
			}
		case *layers.TCP:
			if err = l.SetNetworkLayerForChecksum(network); err == nil {
				err = l.SerializeTo(out, options)
			}
		default:
			continue
		}
		if err != nil || !bytes.Equal(out.Bytes(), before) {
			t.Fatalf("%s is\n%x, want\n%x (%v)", layer.LayerType(), before[:40], out.Bytes()[:40], err)
		}
	}
}

func TestChecksumsAreThereWhereTheyMust(t *testing.T) {
	var b Buffer
	if p := generator(t, nil).Packet(&b, 1, 1); p[40] != 0 || p[41] != 0 {
		t.Error("mirrored traffic has no UDP checksum over IPv4")
	}
	if p := generator(t, overIPv6).Packet(&b, 1, 1); p[60] == 0 && p[61] == 0 {
		t.Error("UDP over IPv6 needs a checksum")
	}
}

// A frame does not depend on what its buffer held before.
func TestBuffersLeaveNoTrace(t *testing.T) {
	g := generator(t, func(p *Plan) { p.Sizes = []int{8945, 64, 1400, 90, 300} })
	var used Buffer
	for _, n := range []uint64{0, 64, 1, 65, 2, 0, 129, 64, 128, 192, 320, 5, 7} {
		got := bytes.Clone(g.Frame(&used, n, 99))
		var fresh Buffer
		if !bytes.Equal(got, g.Frame(&fresh, n, 99)) {
			t.Errorf("frame %d differs", n)
		}
		if stamp, ok := g.Stamp(got); !ok || stamp != (Stamp{n, 99}) || len(got) != g.Size(n) {
			t.Errorf("frame %d has stamp %+v, %d bytes", n, stamp, len(got))
		}
	}
}

func TestStreamsHaveNoGaps(t *testing.T) {
	g := generator(t, func(p *Plan) { p.Sizes, p.TCP, p.Flows, p.Burst = []int{300, 100, 1400}, true, 5, 4 })
	next := map[int]uint32{}
	for n := range uint64(1000) {
		if got, want := g.stream(n), next[g.Flow(n)]; got != want {
			t.Fatalf("frame %d of flow %d begins at %d, want %d", n, g.Flow(n), got, want)
		}
		next[g.Flow(n)] += uint32(g.Size(n) - g.HeaderSize())
	}
}

func TestFlowsComeInBursts(t *testing.T) {
	g := generator(t, func(p *Plan) { p.Flows, p.Burst, p.VNIs = 3, 2, 2 })
	var flows []int
	var vnis []uint32
	for n := range uint64(8) {
		flows, vnis = append(flows, g.Flow(n)), append(vnis, g.VNI(n))
	}
	if !slices.Equal(flows, []int{0, 0, 1, 1, 2, 2, 0, 0}) || !slices.Equal(vnis, []uint32{4242, 4242, 4243, 4243, 4242, 4242, 4242, 4242}) {
		t.Errorf("flows %v of %v", flows, vnis)
	}
}

func TestPlansThatCannotBeAreRefused(t *testing.T) {
	for _, c := range []struct {
		reason string
		change func(*Plan)
	}{
		{"no size", func(p *Plan) { p.Sizes = nil }},
		{"no room for a stamp", func(p *Plan) { p.Sizes = []int{63} }},
		{"no room in TCP", func(p *Plan) { p.Sizes, p.TCP = []int{75}, true }},
		{"larger than the interface", func(p *Plan) { p.Sizes = []int{8946} }},
		{"no flow", func(p *Plan) { p.Flows = 0 }},
		{"no VNI", func(p *Plan) { p.VNIs = 0 }},
		{"VNIs past the last", func(p *Plan) { p.VNI, p.VNIs = 1<<24-1, 2 }},
		{"two families", func(p *Plan) { p.Outer.Source = netip.IPv6LinkLocalAllNodes() }},
		{"no address", func(p *Plan) { p.Outer.Source = netip.Addr{} }},
		{"options of IPv4 in IPv6", func(p *Plan) { overIPv6(p); p.Outer.Options = true }},
		{"a tag that is none", func(p *Plan) { p.Outer.VLAN = 4095 }},
	} {
		t.Run(c.reason, func(t *testing.T) {
			plan := DefaultPlan()
			c.change(&plan)
			if _, err := New(plan); err == nil {
				t.Error("no error")
			}
		})
	}
	if _, err := ParseSizes("64,huge"); err == nil {
		t.Error("no error for a size in words")
	}
}

func TestTheMixIsSevenFourOne(t *testing.T) {
	sizes, err := ParseSizes("imix")
	count := map[int]int{}
	for _, s := range sizes {
		count[s]++
	}
	if err != nil || count[64] != 7 || count[594] != 4 || count[1518] != 1 {
		t.Errorf("%v, error %v", count, err)
	}
}

func BenchmarkPacket(b *testing.B) {
	for _, c := range []struct {
		name string
		plan func(*Plan)
	}{
		{"64", func(p *Plan) { p.Sizes = []int{64} }},
		{"1400", nil},
		{"1400-TCP", func(p *Plan) { p.TCP = true }},
		{"8900", func(p *Plan) { p.Sizes = []int{8900} }},
	} {
		b.Run(c.name, func(b *testing.B) {
			g := generator(b, c.plan)
			var buffers [Patterns]Buffer
			b.ReportAllocs()
			n := uint64(0)
			for b.Loop() {
				g.Packet(&buffers[n%Patterns], n, 1)
				n++
			}
		})
	}
}
