package hush

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

var mirrorPorts = []uint16{4789, 6081}

// rooted skips a test that needs root on a laptop. In CI it may not be skipped.
func rooted(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("CI must run this test as root")
	}
	t.Skip("BPF programs and network namespaces need root")
}

// taken says whether a packet is to be dropped, as it is written down for the filter of a ring.
func taken(frame []byte) bool {
	u16 := func(at int) (uint16, bool) {
		if at+2 > len(frame) {
			return 0, false
		}
		return binary.BigEndian.Uint16(frame[at:]), true
	}
	port := func(at int) bool {
		p, ok := u16(at + 2)
		return ok && slices.Contains(mirrorPorts, p)
	}
	at := 12
	for range 3 {
		etherType, _ := u16(at)
		at += 2
		switch etherType {
		case unix.ETH_P_IP:
			fragment, _ := u16(at + 6)
			return at+9 < len(frame) && frame[at+9] == unix.IPPROTO_UDP && fragment&0x1fff == 0 && port(at+int(frame[at]&0xf)*4)
		case unix.ETH_P_IPV6:
			if at+6 >= len(frame) {
				return false
			}
			next := frame[at+6]
			at += 40
			switch next {
			case unix.IPPROTO_UDP:
				return port(at)
			case unix.IPPROTO_HOPOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_DSTOPTS, unix.IPPROTO_FRAGMENT:
				fragment, ok := u16(at + 2)
				return ok && frame[at] == unix.IPPROTO_UDP && port(at+(int(frame[at+1])+1)*8) &&
					(next != unix.IPPROTO_FRAGMENT || fragment&0xfff8 == 0)
			}
			return false
		case unix.ETH_P_8021Q, unix.ETH_P_8021AD, unix.ETH_P_QINQ1:
			at += 2
		default:
			return false
		}
	}
	return false
}

// shapes are frames of every kind that the program tells apart.
func shapes() map[string][]byte {
	all := map[string][]byte{}
	for _, port := range []uint16{4789, 6081, 53} {
		name := map[uint16]string{4789: "VXLAN", 6081: "GENEVE", 53: "DNS"}[port]
		udp := udpTo(port, "to be dropped, or maybe not")
		plain := ethernet(unix.ETH_P_IP, ip4(nil, 0, unix.IPPROTO_UDP, udp))
		v6 := ethernet(unix.ETH_P_IPV6, ip6(unix.IPPROTO_UDP, udp))
		all[name+" over IPv4"] = plain
		all[name+" over IPv4 with options"] = ethernet(unix.ETH_P_IP, ip4(make([]byte, 12), 0, unix.IPPROTO_UDP, udp))
		all[name+" over IPv4, first fragment"] = ethernet(unix.ETH_P_IP, ip4(nil, 0x2000, unix.IPPROTO_UDP, udp))
		all[name+" over IPv4, later fragment"] = ethernet(unix.ETH_P_IP, ip4(nil, 0x2004, unix.IPPROTO_UDP, udp))
		all[name+" over TCP"] = ethernet(unix.ETH_P_IP, ip4(nil, 0, unix.IPPROTO_TCP, udp))
		all[name+" over IPv6"] = v6
		for _, next := range []byte{unix.IPPROTO_HOPOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_DSTOPTS} {
			all[name+" over IPv6 with header "+string('0'+next)] = ethernet(unix.ETH_P_IPV6, ip6(next, slices.Concat([]byte{unix.IPPROTO_UDP, 1}, make([]byte, 14), udp)))
		}
		all[name+" over IPv6, first fragment"] = ethernet(unix.ETH_P_IPV6, ip6(unix.IPPROTO_FRAGMENT, slices.Concat([]byte{unix.IPPROTO_UDP, 0, 0, 1, 0, 0, 0, 7}, udp)))
		all[name+" over IPv6, later fragment"] = ethernet(unix.ETH_P_IPV6, ip6(unix.IPPROTO_FRAGMENT, slices.Concat([]byte{unix.IPPROTO_UDP, 0, 0, 9, 0, 0, 0, 7}, udp)))
		all[name+" over TCP and IPv6"] = ethernet(unix.ETH_P_IPV6, ip6(unix.IPPROTO_TCP, udp))
		for tags, frame := range map[string][]byte{
			"one tag": tag(plain, unix.ETH_P_8021Q), "two tags": tag(tag(plain, unix.ETH_P_8021Q), unix.ETH_P_8021AD),
			"three tags":             tag(tag(tag(plain, unix.ETH_P_8021Q), unix.ETH_P_8021Q), unix.ETH_P_8021Q),
			"an old outer tag, IPv6": tag(v6, unix.ETH_P_QINQ1),
		} {
			all[name+" behind "+tags] = frame
		}
	}
	all["ARP"] = ethernet(unix.ETH_P_ARP, make([]byte, 28))
	return all
}

func kernelProgram(t testing.TB, active *ebpf.Map, fast bool) *ebpf.Program {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, Instructions: program(mirrorPorts, active, fast), License: "Apache-2.0"})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func verdict(t testing.TB, p *ebpf.Program, frame []byte) int32 {
	t.Helper()
	// The kernel wants some frame at least, and takes those to the null address as the loopback interface's own.
	ret, err := p.Run(&ebpf.RunOptions{Data: frame})
	if err != nil {
		t.Fatal(err)
	}
	return int32(ret)
}

func TestLiveProgramDropsWhatARingTakes(t *testing.T) {
	rooted(t)
	for way, p := range map[string]*ebpf.Program{"fast": kernelProgram(t, nil, true), "slow": kernelProgram(t, nil, false)} {
		t.Run(way, func(t *testing.T) {
			for name, frame := range shapes() {
				want := int32(verdictNext)
				if taken(frame) {
					want = verdictDrop
				}
				if got := verdict(t, p, frame); got != want {
					t.Errorf("%s: verdict %d, want %d", name, got, want)
				}
				foreign := bytes.Clone(frame)
				foreign[5] = 1
				if got := verdict(t, p, foreign); got != verdictNext {
					t.Errorf("%s to another host: verdict %d", name, got)
				}
			}
		})
	}
}

// The rule and both paths of the program agree on frames that nobody would make, or that were cut.
func TestLiveProgramDropsNothingElse(t *testing.T) {
	rooted(t)
	fast, slow := kernelProgram(t, nil, true), kernelProgram(t, nil, false)
	var all [][]byte
	for _, frame := range shapes() {
		all = append(all, frame)
	}
	slices.SortFunc(all, bytes.Compare)
	r := rand.New(rand.NewPCG(1, 2))
	dropped := 0
	for range 20_000 {
		frame := bytes.Clone(all[r.IntN(len(all))])
		for range r.IntN(3) {
			frame[12+r.IntN(len(frame)-12)] = []byte{0, 1, 0x06, 0x08, 0x45, 0x46, 0x60, 0x81, 17, 44, 0x12, 0xb5, byte(r.Uint32())}[r.IntN(13)]
		}
		if r.IntN(4) == 0 {
			// The kernel does not make packets that end within the header that their EtherType announces.
			header := map[string]int{"\x08\x00": 20, "\x86\xdd": 40}[string(frame[12:14])]
			frame = frame[:14+header+r.IntN(len(frame)-13-header)]
		}
		want := int32(verdictNext)
		if taken(frame) {
			want = verdictDrop
			dropped++
		}
		if got := verdict(t, fast, frame); got != want {
			t.Errorf("fast: verdict %d, want %d: %x", got, want, frame)
		}
		if got := verdict(t, slow, frame); got != want {
			t.Errorf("slow: verdict %d, want %d: %x", got, want, frame)
		}
	}
	if dropped < 1000 {
		t.Errorf("only %d frames were to be dropped", dropped)
	}
}

func BenchmarkProgram(b *testing.B) {
	rooted(b)
	p := kernelProgram(b, nil, true)
	all := shapes()
	for _, name := range []string{"VXLAN over IPv4", "VXLAN over IPv4 with options", "VXLAN over IPv6", "DNS over IPv4", "DNS over TCP"} {
		b.Run(name, func(b *testing.B) {
			_, each, err := p.Benchmark(all[name], max(b.N, 1), nil)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(each.Nanoseconds()), "ns/packet")
		})
	}
}
