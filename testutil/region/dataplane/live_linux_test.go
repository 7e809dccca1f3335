package dataplane

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"flashtap/functions/filter"
	"flashtap/testutil/packets"
)

// ownNetwork is a network namespace with nothing but a loopback interface, so that no other traffic is seen.
type ownNetwork struct {
	path string
	do   chan func()
}

func newNetwork(t *testing.T) *ownNetwork {
	t.Helper()
	n := &ownNetwork{do: make(chan func())}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread and its namespace end with the test
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = loopbackUp()
		}
		n.path = fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid())
		ready <- err
		for f := range n.do {
			f()
		}
	}()
	t.Cleanup(func() { close(n.do) })
	if err := <-ready; errors.Is(err, unix.EPERM) {
		if os.Getenv("CI") == "true" {
			t.Fatal("no right to make a network namespace; in CI there must be")
		}
		t.Skip("making a network namespace needs root")
	} else if err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *ownNetwork) run(f func()) {
	done := make(chan struct{})
	n.do <- func() { defer close(done); f() }
	<-done
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request)
}

func TestLivePacketsComeWithTheirDirection(t *testing.T) {
	network := newNetwork(t)
	for _, c := range []struct {
		reason string
		peer   bool
		want   []Direction // of the two sides on which loopback shows each packet
	}{
		{"the instance's own interface", false, []Direction{Egress, Ingress}},
		{"the other end of it", true, []Direction{Ingress, Egress}},
	} {
		t.Run(c.reason, func(t *testing.T) {
			live, err := OpenLive(LiveConfig{Interface: "lo", Namespace: network.path, Peer: c.peer})
			if err != nil {
				t.Fatal(err)
			}
			defer live.Close()
			var sendErr error
			network.run(func() {
				var conn net.PacketConn
				if conn, sendErr = net.ListenPacket("udp4", "127.0.0.1:0"); sendErr == nil {
					defer conn.Close()
					_, sendErr = conn.WriteTo([]byte("hello, mirror"), &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2), Port: 9999})
				}
			})
			if sendErr != nil {
				t.Fatal(sendErr)
			}
			ctx, stop := context.WithTimeout(t.Context(), 5*time.Second)
			defer stop()
			for _, want := range c.want {
				p, err := live.Next(ctx)
				if err != nil {
					t.Fatal(err)
				}
				h, ok := filter.ParseHeader(p.Data)
				if !ok || h.DestinationPort != 9999 || !bytes.HasSuffix(p.Data, []byte("hello, mirror")) || p.OrigLen != len(p.Data) {
					t.Errorf("%d bytes of %d: %x", len(p.Data), p.OrigLen, p.Data)
				}
				if p.Direction != want {
					t.Errorf("%s, want %s", p.Direction, want)
				}
			}
			if n, err := live.Dropped(); n != 0 || err != nil {
				t.Errorf("%d dropped, error %v", n, err)
			}
			silent, stop := context.WithTimeout(t.Context(), 10*time.Millisecond)
			defer stop()
			// Loopback answers a port that nobody listens on.
			for err == nil {
				_, err = live.Next(silent)
			}
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestAnInterfaceThatIsNotThereIsNamed(t *testing.T) {
	if _, err := OpenLive(LiveConfig{Interface: "absent0"}); err == nil {
		t.Error("no error")
	}
	if _, err := OpenLive(LiveConfig{Interface: "lo", Namespace: "/proc/self/absent"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

func TestTagsThatTheKernelTookAsideComeBack(t *testing.T) {
	tagged := packets.Tagged(packets.Echo(suspect, internet, 1, 1, nil), 42)
	bare := append(bytes.Clone(tagged[:12]), tagged[16:]...)
	for _, c := range []struct {
		reason  string
		control []byte
		want    []byte
	}{
		{"with its protocol", auxiliary(unix.TP_STATUS_VLAN_VALID|unix.TP_STATUS_VLAN_TPID_VALID, 42, 0x8100), tagged},
		{"without", auxiliary(unix.TP_STATUS_VLAN_VALID, 42, 0), tagged},
		{"no tag", auxiliary(unix.TP_STATUS_USER, 0, 0), bare},
		{"no message", nil, bare},
		{"a message cut short", auxiliary(unix.TP_STATUS_VLAN_VALID, 42, 0)[:20], bare},
	} {
		t.Run(c.reason, func(t *testing.T) {
			if got := withTag(bare, c.control); !bytes.Equal(got, c.want) {
				t.Errorf("%x, want %x", got, c.want)
			}
		})
	}
}

// auxiliary builds the control message PACKET_AUXDATA.
func auxiliary(status uint32, tci, tpid uint16) []byte {
	b := make([]byte, unix.CmsgSpace(20))
	binary.NativeEndian.PutUint64(b, uint64(unix.CmsgLen(20)))
	binary.NativeEndian.PutUint32(b[8:], unix.SOL_PACKET)
	binary.NativeEndian.PutUint32(b[12:], unix.PACKET_AUXDATA)
	data := b[unix.CmsgLen(0):]
	binary.NativeEndian.PutUint32(data, status)
	binary.NativeEndian.PutUint16(data[16:], tci)
	binary.NativeEndian.PutUint16(data[18:], tpid)
	return b
}
