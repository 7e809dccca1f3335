package main

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"flashtap/collector/internal/standalone"
	"flashtap/testutil/packets"
)

// A machine that answers mirrored datagrams tells the suspect that it is watched.

// hosts are the two ends as package packets knows them.
func (w *wire) hosts(from, to string) (packets.Host, packets.Host) {
	outer := w.Plan(w.generator(nil).Plan()).Outer
	return packets.Host{MAC: net.HardwareAddr(outer.SourceMAC[:]), IP: netip.MustParseAddr(from), Port: 40000},
		packets.Host{MAC: net.HardwareAddr(outer.TargetMAC[:]), IP: netip.MustParseAddr(to), Port: 4789}
}

// The two ends of a wire.
const (
	source4, target4 = "198.18.0.1", "198.18.0.2"
	source6, target6 = "2001:db8::1", "2001:db8::2"
)

// mirrored are datagrams of the capture's VNI and of another, by both versions of IP.
func (w *wire) mirrored() (frames [][]byte) {
	inner := numbered(0, 1, 100)[0]
	for _, ends := range [][2]string{{source4, target4}, {source6, target6}} {
		from, to := w.hosts(ends[0], ends[1])
		for _, vni := range []uint32{4242, 4243} {
			frames = append(frames, packets.VXLANDatagram(from, to, vni, inner))
		}
	}
	return frames
}

// talkative lets the receiver send as many ICMP messages as it likes.
func (w *wire) talkative() {
	w.t.Helper()
	within(w.t, w.ReceiveNamespace, func() error {
		for _, setting := range []string{"ipv4/icmp_ratelimit", "ipv6/icmp/ratelimit"} {
			if err := os.WriteFile("/proc/sys/net/"+setting, []byte("0"), 0); err != nil {
				return err
			}
		}
		return nil
	})
}

// answers are the times at which the sender was told that nobody listens, by version of IP.
func (w *wire) answers(patience time.Duration) (by4, by6 []time.Time) {
	w.t.Helper()
	for _, s := range w.sender.received(patience) {
		switch {
		case !s.unreachable():
		case bytes.HasPrefix(s.data[12:], []byte{0x08, 0x00}):
			by4 = append(by4, s.at)
		default:
			by6 = append(by6, s.at)
		}
	}
	return by4, by6
}

// awaitAnswers sends until the receiver answers by both versions of IP, which shows that it would.
func (w *wire) awaitAnswers() {
	w.t.Helper()
	var by4, by6 int
	for deadline := time.Now().Add(10 * time.Second); by4 == 0 || by6 == 0; {
		if time.Now().After(deadline) {
			w.t.Fatalf("without a collector, %d answers by IPv4 and %d by IPv6 come: this test shows nothing", by4, by6)
		}
		w.sender.send(w.SendCPU(), w.mirrored()...)
		a, b := w.answers(100 * time.Millisecond)
		by4, by6 = by4+len(a), by6+len(b)
	}
}

// crowd fills the hook for tcx programs, so that there is no room for another.
func (w *wire) crowd(t *testing.T) {
	t.Helper()
	within(t, w.ReceiveNamespace, func() error {
		i, err := net.InterfaceByName(w.ReceiveInterface)
		if err != nil {
			return err
		}
		for { // each program only once
			next, err := ebpf.NewProgram(&ebpf.ProgramSpec{
				Type: ebpf.SchedCLS, License: "Apache-2.0",
				Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()}, // TCX_NEXT
			})
			if err != nil {
				return err
			}
			defer next.Close()
			l, err := link.AttachTCX(link.TCXOptions{Interface: i.Index, Program: next, Attach: ebpf.AttachTCXIngress})
			if errors.Is(err, unix.ERANGE) { // linux/bpf_mprog.h, BPF_MPROG_MAX
				return nil
			}
			if err != nil {
				return err
			}
			t.Cleanup(func() { l.Close() })
		}
	})
}

// From the moment that the collector is ready until its last act, the writing of the manifest, the suspect's side sees
// no answer to any datagram, whatever VNI it has.
func TestLiveTheSuspectIsNeverAnswered(t *testing.T) {
	w := newWire(t)
	w.sender.stamp()
	w.talkative()
	w.awaitAnswers()
	for _, c := range []struct {
		reason   string
		who      []string
		receiver string
		how      string // part of what the manifest says
		before   func(*testing.T)
	}{
		{"ring and tcx", asRoot, "ring", "by tcx", nil},
		{"ring and clsact", asRoot, "ring", "by clsact", w.crowd},
		{"ring and deaf sockets", withRaw, "ring", "by sockets that drop everything", nil},
		{"socket", asRoot, "socket", "socket", nil},
		{"socket without privileges", powerless, "socket", "socket", nil},
	} {
		t.Run(c.reason, func(t *testing.T) {
			if c.before != nil {
				c.before(t)
			}
			col := w.capture(t, c.who, t.TempDir(), "--vni", "4242", "--receiver", c.receiver)
			w.settle()
			w.answers(0) // those that came before
			var sent atomic.Uint64
			done := make(chan struct{})
			frames := w.mirrored()
			go func() {
				defer close(done)
				for {
					select {
					case <-col.Ended():
						return
					default:
						w.sender.send(w.SendCPU(), frames...)
						sent.Add(1)
						time.Sleep(time.Millisecond)
					}
				}
			}()
			if err := col.Await(t.Context(), time.Minute, func() bool { return sent.Load() >= 50 }); err != nil {
				t.Fatal(err)
			}
			before := sent.Load()
			w.settle()
			col.signal(syscall.SIGINT)
			if code := col.ends(); code != exitConfirmed {
				t.Fatalf("exit code %d:\n%s", code, col.Output())
			}
			<-done
			info, err := os.Stat(filepath.Join(col.dir, standalone.ManifestName))
			if err != nil {
				t.Fatal(err)
			}
			by4, by6 := w.answers(100 * time.Millisecond)
			for _, at := range append(by4, by6...) {
				if at.Before(info.ModTime()) {
					t.Errorf("an answer came %v before the manifest was written", info.ModTime().Sub(at))
				}
			}
			m := col.manifest()
			if !strings.Contains(m.Receiver, c.how) || m.Tally.Written < 2*before || m.Tally.Rejected.ForeignVNI < 2*before || m.Tally.Lost() != 0 {
				t.Errorf("received by %s, of %d rounds: %+v", m.Receiver, before, m.Tally)
			}
			t.Logf("%d rounds until SIGINT, %d until the end", before, sent.Load()-before)
			w.awaitAnswers()
		})
	}
}
