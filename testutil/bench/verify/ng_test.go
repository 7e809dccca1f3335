package verify

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"flashtap/testutil/bench/traffic"
)

var addr = netip.MustParseAddr

// block is a pcapng block.
func block(order binary.AppendByteOrder, kind uint32, body ...byte) []byte {
	for len(body)%4 != 0 {
		body = append(body, 0)
	}
	b := order.AppendUint32(nil, kind)
	b = order.AppendUint32(b, uint32(12+len(body)))
	return order.AppendUint32(append(b, body...), uint32(12+len(body)))
}

// ng writes frames as dumpcap does, with interfaces of these options in turn.
func ng(order binary.AppendByteOrder, g *traffic.Generator, n uint64, perSecond uint64, options ...byte) []byte {
	section := order.AppendUint32(nil, 0x1a2b3c4d)
	section = order.AppendUint32(section, 1)
	section = append(section, bytes.Repeat([]byte{0xff}, 8)...)
	out := block(order, sectionHeader, section...)
	out = append(out, block(order, interfaceBlock, append([]byte{1, 0, 0, 0, 0, 0, 4, 0}, options...)...)...)
	out = append(out, block(order, 5, make([]byte, 12)...)...) // statistics, which nobody reads
	var buffer traffic.Buffer
	for i := range n {
		seconds := uint64(1_700_000_000)
		ticks := seconds * perSecond
		data := g.Packet(&buffer, i, int64(seconds*1e9))
		body := order.AppendUint32(nil, 0)
		body = order.AppendUint32(body, uint32(ticks>>32))
		body = order.AppendUint32(body, uint32(ticks))
		body = order.AppendUint32(body, uint32(len(data)))
		body = order.AppendUint32(body, uint32(len(data)))
		out = append(out, block(order, enhancedPacket, append(body, data...)...)...)
	}
	return out
}

func TestBlocksAreRead(t *testing.T) {
	g := generator(t, nil)
	for _, c := range []struct {
		reason    string
		order     binary.AppendByteOrder
		perSecond uint64
		options   []byte
		tick      float64
	}{
		{"microseconds", binary.LittleEndian, 1e6, nil, 1000},
		{"nanoseconds after another option", binary.LittleEndian, 1e9, []byte{2, 0, 3, 0, 'e', 't', 'h', 0, 9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0}, 1},
		{"the other byte order", binary.BigEndian, 1e9, []byte{0, 9, 0, 1, 9, 0, 0, 0, 0, 0, 0, 0}, 1},
		{"a power of two", binary.BigEndian, 1 << 20, []byte{0, 9, 0, 1, 0x80 | 20, 0, 0, 0}, 1e9 / (1 << 20)},
	} {
		t.Run(c.reason, func(t *testing.T) {
			file := ng(c.order, g, 50, c.perSecond, c.options...)
			v := verdict(t, g, 100, append(file, file...)) // files may be joined
			if v.Intact != 50 || v.Duplicate != 50 || v.Tick != c.tick || v.StampsBack != 0 || v.Damaged != nil {
				t.Errorf("%+v", v)
			}
			if v.Delay.Max > 1 || v.Delay.Min < -1 {
				t.Errorf("delays %+v", v.Delay)
			}
		})
	}
}

func FuzzScan(f *testing.F) {
	plan := traffic.DefaultPlan()
	plan.Sizes = []int{64}
	g, err := traffic.New(plan)
	if err != nil {
		f.Fatal(err)
	}
	var pcap bytes.Buffer
	if err := g.Write(&pcap, 2, traffic.Recording{}); err != nil {
		f.Fatal(err)
	}
	f.Add(pcap.Bytes())
	f.Add(ng(binary.LittleEndian, g, 2, 1e9, 9, 0, 1, 0, 9, 0, 0, 0))
	f.Add(block(binary.LittleEndian, sectionHeader))
	f.Fuzz(func(t *testing.T, data []byte) {
		v := New(Options{Traffic: g})
		_, _ = v.scanner.scan(bytes.NewReader(data), v.record)
		d := v.Verdict(2)
		sum := d.Intact + d.Duplicate + d.Corrupt + d.Truncated + d.Merged + d.Foreign + d.WrongVNI
		if sum != d.Records {
			t.Errorf("%d records have %d fates: %+v", d.Records, sum, d)
		}
	})
}
