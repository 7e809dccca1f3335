package verify

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"flashtap/testutil/bench/traffic"
)

func generator(t testing.TB, change func(*traffic.Plan)) *traffic.Generator {
	t.Helper()
	plan := traffic.DefaultPlan()
	plan.Sizes = []int{300}
	if change != nil {
		change(&plan)
	}
	g, err := traffic.New(plan)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func verdict(t *testing.T, g *traffic.Generator, n uint64, pcap []byte) Verdict {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.pcap")
	if err := os.WriteFile(path, pcap, 0o600); err != nil {
		t.Fatal(err)
	}
	v, err := Verify([]string{path}, n, Options{Traffic: g})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func recording(t *testing.T, g *traffic.Generator, n uint64, r traffic.Recording) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := g.Write(&b, n, r); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestWhatWasMadeIsFoundWhole(t *testing.T) {
	for _, c := range []struct {
		reason string
		record traffic.Recording
		tick   float64
		change func(*traffic.Plan)
	}{
		{"the smallest", traffic.Recording{}, 1, func(p *traffic.Plan) { p.Sizes = []int{64} }},
		{"the smallest of TCP", traffic.Recording{}, 1, func(p *traffic.Plan) { p.Sizes, p.TCP = []int{76}, true }},
		{"the largest over IPv6", traffic.Recording{}, 1, outerIPv6(8945)},
		{"a mix over several VNIs", traffic.Recording{}, 1, func(p *traffic.Plan) { p.Sizes, _ = traffic.ParseSizes("imix"); p.VNIs = 5 }},
		{"streams in bursts", traffic.Recording{}, 1, func(p *traffic.Plan) { p.Sizes, p.TCP, p.Flows, p.Burst = []int{1400, 93}, true, 3, 4 }},
		{"a tag and options", traffic.Recording{}, 1, func(p *traffic.Plan) { p.Outer.VLAN, p.Outer.Options = 42, true }},
		{"inner frames", traffic.Recording{Inner: true}, 1, nil},
		{"microseconds", traffic.Recording{Microseconds: true, Start: time.Now().Truncate(time.Microsecond)}, 1000, nil},
		{"the other byte order", traffic.Recording{BigEndian: true}, 1, nil},
		{"both", traffic.Recording{BigEndian: true, Microseconds: true, Inner: true}, 1000, nil},
	} {
		t.Run(c.reason, func(t *testing.T) {
			g := generator(t, c.change)
			v := verdict(t, g, 5000, recording(t, g, 5000, c.record))
			if !v.Whole() || v.Intact != 5000 || v.Reordered+v.StampsBack != 0 || v.Tick != c.tick || (v.Outer == 5000) == c.record.Inner {
				t.Errorf("%+v", v)
			}
			if len(v.PerVNI) != g.Plan().VNIs || v.Delay.Min < -1 || v.Delay.Max > 1 {
				t.Errorf("%+v", v)
			}
		})
	}
}

func outerIPv6(sizes ...int) func(*traffic.Plan) {
	return func(p *traffic.Plan) {
		p.Sizes = sizes
		p.Outer.Source, p.Outer.Target = addr("2001:db8::1"), addr("2001:db8::2")
	}
}

// records are the packets of a little-endian pcap, each with its header.
func records(pcap []byte) (header []byte, out [][]byte) {
	header, pcap = pcap[:24], pcap[24:]
	for len(pcap) > 0 {
		size := 16 + int(binary.LittleEndian.Uint32(pcap[8:]))
		out = append(out, bytes.Clone(pcap[:size]))
		pcap = pcap[size:]
	}
	return header, out
}

// resize gives a record another length in the file, and on the wire.
func resize(r []byte, size, length int) []byte {
	r = append(r[:16:16], r[16:16+size]...)
	binary.LittleEndian.PutUint32(r[8:], uint32(size))
	binary.LittleEndian.PutUint32(r[12:], uint32(length))
	return r
}

func TestEveryFaultIsFoundUnderItsName(t *testing.T) {
	for _, c := range []struct {
		reason string
		damage func(r [][]byte) [][]byte
		want   Verdict // the faults alone
	}{
		{"one dropped", func(r [][]byte) [][]byte { return slices.Delete(r, 5, 6) }, Verdict{Intact: 99, Lost: 1}},
		{"the last dropped", func(r [][]byte) [][]byte { return r[:99] }, Verdict{Intact: 99, Lost: 1}},
		{"one twice", func(r [][]byte) [][]byte { return append(r, r[99]) }, Verdict{Intact: 100, Duplicate: 1}},
		{"two swapped", func(r [][]byte) [][]byte {
			r[6], r[7] = r[7], r[6]
			return r
		}, Verdict{Intact: 100, Reordered: 1, StampsBack: 1}},
		{"two of a flow swapped", func(r [][]byte) [][]byte {
			r[6], r[10] = r[10], r[6]
			copy(r[10], r[6][:8]) // as if both had come at once
			copy(r[9], r[6][:8])
			copy(r[8], r[6][:8])
			copy(r[7], r[6][:8])
			return r
		}, Verdict{Intact: 100, Reordered: 4, ReorderedInFlow: 1}},
		{"a bit in the body", func(r [][]byte) [][]byte {
			r[3][16+200] ^= 4
			return r
		}, Verdict{Intact: 99, Lost: 1, Corrupt: 1}},
		{"a bit in the number", func(r [][]byte) [][]byte {
			r[3][16+54+7] ^= 4
			return r
		}, Verdict{Intact: 99, Lost: 1, Corrupt: 1}},
		{"a bit in the inner header", func(r [][]byte) [][]byte {
			r[3][16+30] ^= 4
			return r
		}, Verdict{Intact: 99, Lost: 1, Corrupt: 1}},
		{"the body of another", func(r [][]byte) [][]byte {
			copy(r[70][16+54+20:], r[6][16+54+20:]) // 64 further on, where the pattern is the same
			return r
		}, Verdict{Intact: 99, Lost: 1, Corrupt: 1}},
		{"two merged", func(r [][]byte) [][]byte {
			r[3] = resize(append(r[3], r[7][16+54:]...), 300+246, 300+246)
			return slices.Delete(r, 7, 8)
		}, Verdict{Intact: 98, Lost: 2, Merged: 1, MergedFrames: 2}},
		{"bytes after the end", func(r [][]byte) [][]byte {
			r[3] = resize(append(r[3], make([]byte, 40)...), 340, 340)
			return r
		}, Verdict{Intact: 99, Lost: 1, Corrupt: 1}},
		{"cut, and says so", func(r [][]byte) [][]byte {
			r[3] = resize(r[3], 200, 300)
			return r
		}, Verdict{Intact: 99, Lost: 1, Truncated: 1}},
		{"cut before the stamp", func(r [][]byte) [][]byte {
			r[3] = resize(r[3], 60, 300)
			return r
		}, Verdict{Intact: 99, Lost: 1, Truncated: 1}},
		{"cut in silence", func(r [][]byte) [][]byte {
			r[3] = resize(r[3], 200, 200)
			return r
		}, Verdict{Intact: 99, Lost: 1, Truncated: 1}},
		{"a guest", func(r [][]byte) [][]byte {
			return append(r, resize(make([]byte, 16+90), 90, 90))
		}, Verdict{Intact: 100, Foreign: 1, StampsBack: 1}},
		{"the file cut in a record", func(r [][]byte) [][]byte {
			r[99] = r[99][:100]
			return r
		}, Verdict{Intact: 99, Lost: 1, Damaged: []string{"a.pcap: the file is cut short"}}},
	} {
		t.Run(c.reason, func(t *testing.T) {
			g := generator(t, func(p *traffic.Plan) { p.TCP, p.Flows = true, 4 })
			header, r := records(recording(t, g, 100, traffic.Recording{Inner: true}))
			got := verdict(t, g, 100, bytes.Join(append([][]byte{header}, c.damage(r)...), nil))
			faults := Verdict{
				Intact: got.Intact, Lost: got.Lost, Duplicate: got.Duplicate, Corrupt: got.Corrupt, Truncated: got.Truncated, Merged: got.Merged,
				MergedFrames: got.MergedFrames, Foreign: got.Foreign, WrongVNI: got.WrongVNI, Reordered: got.Reordered,
				ReorderedInFlow: got.ReorderedInFlow, StampsBack: got.StampsBack, Damaged: got.Damaged,
			}
			if fmt.Sprint(faults) != fmt.Sprint(c.want) {
				t.Errorf("%s\nwant %s", faults, c.want)
			}
			if c.reason != "two swapped" && got.Whole() { // which were of two flows
				t.Error("it is called whole")
			}
		})
	}
}

func TestFramesOfAnotherVNIAreNotExpected(t *testing.T) {
	g := generator(t, func(p *traffic.Plan) { p.VNIs, p.Flows = 4, 8 })
	path := filepath.Join(t.TempDir(), "a.pcap")
	if err := g.WriteFile(path, 400, traffic.Recording{Inner: true}); err != nil {
		t.Fatal(err)
	}
	v, err := Verify([]string{path}, 400, Options{Traffic: g, VNIs: []uint32{4243}})
	if err != nil || v.Intact != 100 || v.Lost != 0 || v.WrongVNI != 300 {
		t.Errorf("%s, error %v", v, err)
	}
}

func TestAFrameUnderAnotherVNIIsCorrupt(t *testing.T) {
	g := generator(t, nil)
	header, r := records(recording(t, g, 3, traffic.Recording{}))
	r[1][16+14+20+8+6] ^= 1
	if v := verdict(t, g, 3, slices.Concat(header, r[0], r[1], r[2])); v.Corrupt != 1 || v.Lost != 1 {
		t.Errorf("%s", v)
	}
}

func TestFramesOfAnotherRunAreForeign(t *testing.T) {
	before, now := generator(t, nil), generator(t, func(p *traffic.Plan) { p.Run = 2 })
	if v := verdict(t, now, 5, recording(t, before, 5, traffic.Recording{})); v.Foreign != 5 || v.Lost != 5 {
		t.Errorf("%s", v)
	}
}

func TestSegmentsAreReadInTheirOrder(t *testing.T) {
	g := generator(t, nil)
	dir := t.TempDir()
	for i := range 12 {
		name := fmt.Sprintf("o.pcap%d", i)
		if i == 0 {
			name = "o.pcap"
		}
		r := traffic.Recording{First: uint64(100 * i), Start: time.Unix(int64(1e9+i), 0)}
		if err := g.WriteFile(filepath.Join(dir, name), 100, r); err != nil {
			t.Fatal(err)
		}
	}
	for _, other := range []string{".hidden.pcap", "manifest.json"} {
		if err := os.WriteFile(filepath.Join(dir, other), []byte("no recording"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	v, err := Verify([]string{dir}, 1200, Options{Traffic: g})
	if err != nil || !v.Whole() || v.Files != 12 || v.Reordered+v.StampsBack != 0 {
		t.Errorf("%+v, error %v", v, err)
	}
	if v, err = Verify([]string{dir}, 100, Options{Traffic: g, First: 1100}); err != nil || v.Intact != 100 || v.Foreign != 1100 {
		t.Errorf("from 1100 on: %s, error %v", v, err)
	}
}

func TestWhatIsNoRecordingIsNamed(t *testing.T) {
	g := generator(t, nil)
	for _, c := range []struct{ reason, data, want string }{
		{"nothing", "", "[a.pcap: the file is cut short]"},
		{"text", "hello, world, this is no recording", "[a.pcap: this is neither pcap nor pcapng]"},
		{"a header cut", "\x4d\x3c\xb2\xa1\x02\x00", "[a.pcap: the file is cut short]"},
		{"a record of all memory", string(recording(t, g, 0, traffic.Recording{})) + strings.Repeat("\x00", 8) + strings.Repeat("\xff\xff\xff\x7f", 2), "[a.pcap: a record of 2147483647 bytes]"},
	} {
		t.Run(c.reason, func(t *testing.T) {
			if got := fmt.Sprint(verdict(t, g, 0, []byte(c.data)).Damaged); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
	if _, err := Verify([]string{filepath.Join(t.TempDir(), "absent")}, 1, Options{Traffic: g}); err == nil {
		t.Error("a file that is not there is no error")
	}
}

func BenchmarkVerify(b *testing.B) {
	g := generator(b, func(p *traffic.Plan) { p.Sizes = []int{1400} })
	path := filepath.Join(b.TempDir(), "a.pcap")
	if err := g.WriteFile(path, 20000, traffic.Recording{}); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(20000 * 1400)
	for b.Loop() {
		if v, err := Verify([]string{path}, 20000, Options{Traffic: g}); err != nil || !v.Whole() {
			b.Fatal(v, err)
		}
	}
}
