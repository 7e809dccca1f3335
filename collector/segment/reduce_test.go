package segment

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"flashtap/testutil/packets"
)

var (
	v4, v4Peer = packets.NewHost("10.0.0.1").On(40000), packets.NewHost("203.0.113.7").On(443)
	v6, v6Peer = packets.NewHost("2001:db8::1").On(40000), packets.NewHost("2001:db8::2").On(443)
)

func TestHeadersLen(t *testing.T) {
	payload := bytes.Repeat([]byte("secret"), 100)
	tcp := func(a, b packets.Host) []byte {
		return packets.TCP(a, b, packets.Segment{Flags: "PA", Payload: payload})
	}
	options := func(frame []byte) []byte { // a TCP header with 12 bytes of options, which the payload begins with
		frame = bytes.Clone(frame)
		frame[14+20+12] = 8 << 4
		return frame
	}
	// extended puts extension headers of IPv6 in front of what an IPv6 frame carries.
	extended := func(frame []byte, first byte, headers ...byte) []byte {
		out := append(append(bytes.Clone(frame[:54]), headers...), frame[54:]...)
		out[20] = first
		return out
	}
	fragments := packets.Fragments(packets.UDP(v4, v4Peer, payload), 256)
	tests := []struct {
		reason string
		frame  []byte
		want   int
	}{
		{"TCP", tcp(v4, v4Peer), 14 + 20 + 20},
		{"TCP with options", options(tcp(v4, v4Peer)), 14 + 20 + 32},
		{"TCP over IPv6", tcp(v6, v6Peer), 14 + 40 + 20},
		{"TCP whose header says it is shorter than one can be", func() []byte { f := tcp(v4, v4Peer); f[46] = 0; return f }(), 14 + 20 + 20},
		{"UDP", packets.UDP(v4, v4Peer, payload), 14 + 20 + 8},
		{"UDP over IPv6", packets.UDP(v6, v6Peer, payload), 14 + 40 + 8},
		{"UDP behind one tag", packets.Tagged(packets.UDP(v4, v4Peer, payload), 7), 18 + 20 + 8},
		{"UDP behind two tags", packets.Tagged(packets.UDP(v4, v4Peer, payload), 7, 8), 22 + 20 + 8},
		{"an IPv4 header with options", func() []byte {
			f := packets.UDP(v4, v4Peer, payload)
			f[14] = 0x47
			return f
		}(), 14 + 28 + 8},
		{"an echo", packets.Echo(v4, v4Peer, 1, 1, payload), 14 + 20 + 8},
		{"an echo of IPv6", packets.Echo(v6, v6Peer, 1, 1, payload), 14 + 40 + 8},
		{"port unreachable, with the headers of the packet that it is about", packets.IP(v4, v4Peer, 1, append([]byte{3, 3, 0, 0, 0, 0, 0, 0}, payload...)), 14 + 20 + 8 + unknownLen},
		{"a first fragment", fragments[0], 14 + 20 + 8},
		{"a later fragment, which has no header of UDP", fragments[1], 14 + 20},
		{"hop-by-hop options of 16 bytes, then TCP", extended(tcp(v6, v6Peer), 0, 6, 1, 1, 4, 0, 0, 0, 0, 1, 6, 0, 0, 0, 0, 0, 0), 14 + 40 + 16 + 20},
		{"a first fragment of IPv6", extended(tcp(v6, v6Peer), 44, 6, 0, 0, 1, 0, 0, 0, 9), 14 + 40 + 8 + 20},
		{"a later fragment of IPv6", extended(tcp(v6, v6Peer), 44, 6, 0, 1, 0, 0, 0, 0, 9), 14 + 40 + 8},
		{"authentication header of 24 bytes, then TCP", extended(tcp(v6, v6Peer), 51, append([]byte{6, 4}, make([]byte, 22)...)...), 14 + 40 + 24 + 20},
		{"IPv6 that says nothing follows", extended(packets.UDP(v6, v6Peer, payload), 59), 14 + 40},
		{"a protocol that is not known", packets.IP(v4, v4Peer, 47, payload), 14 + 20 + unknownLen},
		{"ARP whole", packets.ARPRequest(v4, netip.MustParseAddr("10.0.0.9")), 14 + 28},
		{"an EtherType that is not known", packets.Ethernet(v4, v4Peer, 0x88cc, payload), 14 + unknownLen},
		{"an IPv4 header that is none", func() []byte { f := tcp(v4, v4Peer); f[14] = 0x43; return f }(), 14 + unknownLen},
		{"a frame that was cut inside its headers", tcp(v4, v4Peer)[:40], 40},
		{"a frame that was cut inside a tag", packets.Tagged(tcp(v4, v4Peer), 7)[:16], 16},
		{"a frame with nothing behind its Ethernet header", tcp(v4, v4Peer)[:14], 14},
	}
	for _, test := range tests {
		if got := headersLen(test.frame); got != test.want {
			t.Errorf("%s: %d bytes, want %d", test.reason, got, test.want)
		}
	}
}

// Real traffic decodes to the same headers after it was cut to them.
func TestHeadersOfRealTraffic(t *testing.T) {
	headers := func(frame []byte) (list []string) {
		p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.DecodeOptions{Lazy: true, NoCopy: true})
		for _, l := range p.Layers() {
			switch l.LayerType() {
			case layers.LayerTypeEthernet, layers.LayerTypeDot1Q, layers.LayerTypeIPv4, layers.LayerTypeIPv6, layers.LayerTypeTCP, layers.LayerTypeUDP,
				layers.LayerTypeICMPv4, layers.LayerTypeICMPv6, layers.LayerTypeIPv6Fragment, layers.LayerTypeIPv6HopByHop:
				list = append(list, l.LayerType().String()+" "+string(l.LayerContents()))
			default:
				return list
			}
		}
		return list
	}
	cut, all := 0, 0
	for _, name := range packets.Names() {
		frames, err := packets.Load(name)
		if err != nil && len(frames) == 0 {
			continue // not Ethernet
		}
		for i, f := range frames {
			if len(f.Data) < minFrameLen {
				continue
			}
			n := headersLen(f.Data)
			all += len(f.Data)
			cut += n
			if want, got := headers(f.Data), headers(f.Data[:n]); !slices.Equal(got, want) {
				t.Errorf("%s, frame %d: %d of %d bytes kept: %q, want %q", name, i+1, n, len(f.Data), got, want)
			}
		}
	}
	if all == 0 || cut*2 > all {
		t.Errorf("%d of %d bytes are headers", cut, all)
	}
}

// sealed writes frames into a sealed segment.
func sealed(t testing.TB, dir string, seq int, frames [][]byte, origLen func(int) int) File {
	t.Helper()
	data := bytes.Clone(fileHeader)
	for i, frame := range frames {
		data = appendRecord(data, base.Add(time.Duration(i)*time.Millisecond).UnixNano(), frame, origLen(i))
	}
	open := filepath.Join(dir, OpenName(seq))
	if err := os.WriteFile(open, data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, _, err := Recover(open)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestReduce(t *testing.T) {
	var frames [][]byte
	for i := range 50 {
		frames = append(frames, packets.UDP(v4, v4Peer, make([]byte, i*20)))
	}
	dir := t.TempDir()
	whole := sealed(t, dir, 7, frames, func(i int) int { return len(frames[i]) + i%2*100 })
	before, err := os.ReadFile(whole.Path)
	if err != nil {
		t.Fatal(err)
	}
	f, cut, err := Reduce(whole.Path)
	if err != nil {
		t.Fatal(err)
	}
	if cut != 49 || f.Packets != 50 || f.Truncated != 49 || f.Seq != 7 || f.Bytes != 24+50*(16+42) || !f.First.Equal(whole.First) || !f.Last.Equal(whole.Last) {
		t.Errorf("%d of %+v cut, want 49", cut, f)
	}
	if seq, ok := ParseReducingName(ReducingName(7)); !ok || seq != 7 {
		t.Errorf("the copy's name reads as %d, %t", seq, ok)
	}
	if after, err := os.ReadFile(whole.Path); err != nil || !bytes.Equal(after, before) {
		t.Errorf("the segment itself was changed: %v", err)
	}
	if err := os.Rename(filepath.Join(dir, ReducingName(7)), f.Path); err != nil {
		t.Fatal(err)
	}
	checkFile(t, f)
	for i, p := range readPcap(t, f.Path) {
		if !bytes.Equal(p.data, frames[i][:42]) || p.origLen != len(frames[i])+i%2*100 || !p.at.Equal(base.Add(time.Duration(i)*time.Millisecond)) {
			t.Errorf("packet %d: %d bytes of %d at %v", i, len(p.data), p.origLen, p.at)
		}
	}
	again, cut, err := Reduce(f.Path)
	if err != nil || cut != 0 || again.Bytes != f.Bytes {
		t.Errorf("reduced again: %d cut of %+v, %v", cut, again, err)
	}
	if names := dirNames(t, dir); len(names) != 2 {
		t.Errorf("a copy that is no shorter is left behind: %v", names)
	}
}

func TestReduceRefusesDamage(t *testing.T) {
	frames := [][]byte{packets.UDP(v4, v4Peer, make([]byte, 500)), packets.UDP(v4, v4Peer, make([]byte, 500))}
	for reason, damage := range map[string]func([]byte) []byte{
		"a changed byte of a frame": func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
		"a cut last record":         func(b []byte) []byte { return b[:len(b)-1] },
		"a cut record header":       func(b []byte) []byte { return b[:len(b)-542-8] },
		"a record that is none":     func(b []byte) []byte { b[24+7] = 0xff; return b },
		"another file header":       func(b []byte) []byte { b[0] = 0; return b },
		"an empty file":             func([]byte) []byte { return nil },
		"a byte too many":           func(b []byte) []byte { return append(b, 0) },
	} {
		dir := t.TempDir()
		f := sealed(t, dir, 1, frames, func(i int) int { return len(frames[i]) })
		data, err := os.ReadFile(f.Path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f.Path, damage(data), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Reduce(f.Path); err == nil || !strings.Contains(err.Error(), "its bytes are not those") {
			t.Errorf("%s: %v", reason, err)
		}
		if names := dirNames(t, dir); len(names) != 1 {
			t.Errorf("%s: %v is left", reason, names)
		}
	}
	if _, _, err := Reduce(filepath.Join(t.TempDir(), OpenName(1))); err == nil {
		t.Error("reduced a segment that is still being written")
	}
}

func FuzzHeadersLen(f *testing.F) {
	f.Add(packets.TCP(v4, v4Peer, packets.Segment{Payload: []byte("x")}))
	f.Add(packets.Tagged(packets.UDP(v6, v6Peer, []byte("x")), 1, 2))
	f.Add(append(packets.UDP(v6, v6Peer, nil)[:20], bytes.Repeat([]byte{0, 0}, 40)...))
	f.Fuzz(func(t *testing.T, frame []byte) {
		if len(frame) < minFrameLen {
			return
		}
		n := headersLen(frame)
		if n < minFrameLen || n > len(frame) {
			t.Fatalf("%d of %d bytes", n, len(frame))
		}
		if again := headersLen(frame[:n]); again != n {
			t.Fatalf("%d bytes, and of those %d", n, again)
		}
	})
}

// BenchmarkReduce is how fast full-sized frames are read, verified, cut and digested.
func BenchmarkReduce(b *testing.B) {
	payload := make([]byte, 1400)
	for i := range payload {
		payload[i] = byte(rand.Uint32())
	}
	frames := make([][]byte, 20000)
	for i := range frames {
		frames[i] = packets.TCP(v4, v4Peer, packets.Segment{Seq: uint32(i), Payload: payload})
	}
	f := sealed(b, b.TempDir(), 1, frames, func(i int) int { return len(frames[i]) })
	b.SetBytes(f.Bytes)
	for b.Loop() {
		if _, _, err := Reduce(f.Path); err != nil {
			b.Fatal(err)
		}
	}
}
