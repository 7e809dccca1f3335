package link

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/safchain/ethtool"
	"golang.org/x/sys/unix"

	"flashtap/collector/internal/confine"
	"flashtap/collector/internal/hush"
	"flashtap/testutil/packets"
)

// host is a network namespace with an interface eth0, and a thread that lives in it.
type host struct {
	name string
	do   chan func()
}

// hosts are a collector at 192.0.2.2 and a sender at 192.0.2.1, joined by a veth pair.
func hosts(t *testing.T) (collector, sender *host) {
	t.Helper()
	for _, tool := range []string{"ip", "ethtool"} {
		_, missing := exec.LookPath(tool)
		if os.Geteuid() == 0 && missing == nil {
			continue
		}
		if os.Getenv("CI") == "true" {
			t.Fatalf("CI must run this test as root, with %s installed (uid %d, %v)", tool, os.Geteuid(), missing)
		}
		t.Skipf("making network namespaces needs root and %s", tool)
	}
	collector, sender = newHost(t, "collector"), newHost(t, "sender")
	command(t, "ip", "link", "add", "eth0", "netns", collector.name, "numrxqueues", "3", "type", "veth", "peer", "name", "eth0", "netns", sender.name)
	for h, address := range map[*host]string{collector: "192.0.2.2/24", sender: "192.0.2.1/24"} {
		command(t, "ip", "-n", h.name, "addr", "add", address, "dev", "eth0")
		command(t, "ip", "-n", h.name, "link", "set", "eth0", "up")
		command(t, "ip", "-n", h.name, "link", "set", "lo", "up")
	}
	return collector, sender
}

func newHost(t *testing.T, role string) *host {
	t.Helper()
	h := &host{name: fmt.Sprintf("ft-link-%s-%d", role, os.Getpid()), do: make(chan func())}
	command(t, "ip", "netns", "add", h.name)
	t.Cleanup(func() { command(t, "ip", "netns", "delete", h.name) })
	entered := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the test
		file, err := os.Open("/run/netns/" + h.name)
		if err == nil {
			err = errors.Join(unix.Setns(int(file.Fd()), unix.CLONE_NEWNET), file.Close())
		}
		entered <- err
		for f := range h.do {
			f()
		}
	}()
	if err := <-entered; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(h.do) })
	return h
}

// run runs f in the namespace. Processes that it starts live there too.
func (h *host) run(t testing.TB, f func() error) {
	t.Helper()
	done := make(chan error)
	h.do <- func() { done <- f() }
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// in runs a command in the namespace, with its own /sys.
func (h *host) in(t testing.TB, args ...string) string {
	t.Helper()
	return command(t, "ip", append([]string{"netns", "exec", h.name}, args...)...)
}

func command(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
	return string(out)
}

func (h *host) feature(t testing.TB, iface, name string) (on bool) {
	t.Helper()
	h.run(t, func() error {
		tool, err := ethtool.NewEthtool()
		if err != nil {
			return err
		}
		defer tool.Close()
		features, err := tool.Features(iface)
		on = features[name]
		return err
	})
	return on
}

func (h *host) calm(t testing.TB) (c *Calmed) {
	t.Helper()
	h.run(t, func() (err error) {
		c, err = Calm("eth0")
		return err
	})
	return c
}

func (h *host) watch(t testing.TB) (w *Watcher) {
	t.Helper()
	h.run(t, func() (err error) {
		w, err = Watch("eth0")
		return err
	})
	t.Cleanup(func() { w.Close() })
	return w
}

// tunnel makes a vxlan device.
func (h *host) tunnel(t testing.TB, name string, port int) {
	t.Helper()
	command(t, "ip", "-n", h.name, "link", "add", name, "type", "vxlan", "id", "7", "local", "192.0.2.2", "dstport", fmt.Sprint(port), "dev", "eth0")
	command(t, "ip", "-n", h.name, "link", "set", name, "up")
}

func TestLiveGROEndsWhereATunnelIs(t *testing.T) {
	for _, c := range []struct {
		reason string
		port   int
		down   bool
		off    bool
	}{
		{"a tunnel on the port of mirrored datagrams", 4789, false, true},
		{"a tunnel on the port of GENEVE", 6081, false, true},
		{"a tunnel on another port", 8472, false, false},
		{"a tunnel that is down", 4789, true, false},
		{"no tunnel", 0, false, false},
	} {
		t.Run(c.reason, func(t *testing.T) {
			collector, _ := hosts(t)
			collector.in(t, "ethtool", "-K", "eth0", "gro", "on")
			if c.port > 0 {
				collector.tunnel(t, "vxlan0", c.port)
			}
			if c.down {
				command(t, "ip", "-n", collector.name, "link", "set", "vxlan0", "down")
			}
			calm := collector.calm(t)
			if on := collector.feature(t, "eth0", gro); on == c.off {
				t.Errorf("GRO is on: %v", on)
			}
			remarks := strings.Join(calm.Remarks, "\n")
			if got := strings.Contains(remarks, "interface eth0: rx-gro turned off"); got != c.off {
				t.Errorf("remarks:\n%s", remarks)
			}
			if len(calm.Risks) > 0 {
				t.Errorf("risks: %q", calm.Risks)
			}
			for range 2 {
				collector.run(t, calm.Restore)
				if !collector.feature(t, "eth0", gro) {
					t.Error("GRO is not restored")
				}
			}
		})
	}
	t.Run("datagrams that are merged themselves", func(t *testing.T) {
		collector, _ := hosts(t)
		collector.in(t, "ethtool", "-K", "eth0", "gro", "on", "rx-gro-list", "on", "rx-udp-gro-forwarding", "on")
		calm := collector.calm(t)
		if collector.feature(t, "eth0", listed) || collector.feature(t, "eth0", forwarding) || !collector.feature(t, "eth0", gro) {
			t.Error(collector.in(t, "ethtool", "-k", "eth0"))
		}
		collector.run(t, calm.Restore)
		if !collector.feature(t, "eth0", listed) || !collector.feature(t, "eth0", forwarding) {
			t.Error(collector.in(t, "ethtool", "-k", "eth0"))
		}
	})
}

// What it is all about: a tunnel makes every listener on the interface see frames that never existed, until Calm.
func TestLiveFramesStayAsTheyWere(t *testing.T) {
	collector, sender := hosts(t)
	collector.in(t, "ethtool", "-K", "eth0", "gro", "on")
	sender.in(t, "ethtool", "-K", "eth0", "tso", "off") // else it is trusted to have merged what it sends
	// GRO is to wait for packets that could be merged, however slowly they come: 50 ms.
	collector.in(t, "sh", "-c", "echo 50000000 > /sys/class/net/eth0/gro_flush_timeout")
	from, to := packets.NewHost("10.0.0.1"), packets.NewHost("10.0.0.2")
	from.Port, to.Port = 40000, 80
	near, far := packets.NewHost("192.0.2.2"), packets.NewHost("192.0.2.1")
	const (
		count       = 16
		outerIP     = 14
		innerIP     = 64
		udpPort     = 36 // of the destination
		udpChecksum = 40
	)
	seen := func() (frames, longest int) {
		sight, outlet := tap(t, collector), tap(t, sender)
		mac := hardware0(t, collector)
		for i := range count {
			inner := packets.TCP(from, to, packets.Segment{Flags: "A", Seq: uint32(1000 + 100*i), Ack: 1, Payload: make([]byte, 100)})
			outer := packets.VXLANDatagram(far, near, 7, inner)
			copy(outer, mac)
			change16(outer, outerIP, 6, 0x4000) // not to be fragmented: the kernel merges what has such numbers, or rising ones
			change16(outer, innerIP, 6, 0x4000)
			copy(outer[udpChecksum:], []byte{0, 0}) // like all mirrored datagrams; the kernel merges no others
			if _, err := unix.Write(outlet, outer); err != nil {
				t.Fatal(err)
			}
		}
		for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); {
			buffer := make([]byte, 1<<16)
			n, err := unix.Read(sight, buffer)
			switch {
			case errors.Is(err, unix.EAGAIN):
				time.Sleep(time.Millisecond)
			case err != nil:
				t.Fatal(err)
			case n > udpPort+2 && binary.BigEndian.Uint16(buffer[udpPort:]) == 4789 && bytes.Contains(buffer[:n], from.IP.AsSlice()):
				frames, longest = frames+1, max(longest, n)
			}
		}
		return frames, longest
	}
	frames, length := seen()
	if frames != count {
		t.Fatalf("without a tunnel, %d frames of %d came through", frames, count)
	}
	collector.tunnel(t, "vxlan1", 8472)
	if frames, _ := seen(); frames != count {
		t.Errorf("with a tunnel on another port, %d frames of %d came through", frames, count)
	}
	collector.tunnel(t, "vxlan0", 4789)
	for _, place := range []string{"here", "in another namespace"} {
		if place != "here" { // as container networks do; its socket stays
			command(t, "ip", "-n", collector.name, "link", "set", "vxlan0", "netns", sender.name)
			command(t, "ip", "-n", sender.name, "link", "set", "vxlan0", "up")
		}
		frames, longest := seen()
		t.Logf("with a tunnel %s, %d frames of %d, the longest of %d bytes instead of %d", place, frames, count, longest, length)
		if frames >= count {
			t.Errorf("with a tunnel %s nothing was merged, so this test shows nothing", place)
		}
		calm := collector.calm(t)
		if frames, longest := seen(); frames != count || longest != length {
			t.Errorf("after Calm, %d frames of %d came through, the longest of %d bytes, not %d", frames, count, longest, length)
		}
		collector.run(t, calm.Restore)
	}
}

// change16 changes two bytes of an IPv4 header, and its checksum.
func change16(frame []byte, header, offset int, value uint16) {
	at, checksum := header+offset, header+10
	before := binary.BigEndian.Uint16(frame[at:])
	binary.BigEndian.PutUint16(frame[at:], value)
	sum := uint32(^binary.BigEndian.Uint16(frame[checksum:])) + uint32(^before) + uint32(value) // RFC 1624, equation 3
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(frame[checksum:], ^uint16(sum+sum>>16))
}

// tap is a packet socket on eth0 that does not block.
func tap(t testing.TB, h *host) (fd int) {
	t.Helper()
	h.run(t, func() (err error) {
		i, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		all := uint16(unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8)
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(all)); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: i.Index})
	})
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func hardware0(t testing.TB, h *host) (mac net.HardwareAddr) {
	t.Helper()
	h.run(t, func() error {
		i, err := net.InterfaceByName("eth0")
		if err == nil {
			mac = i.HardwareAddr
		}
		return err
	})
	return mac
}

func TestLiveTunnelsAreFoundAnyTime(t *testing.T) {
	collector, sender := hosts(t)
	w := collector.watch(t)
	expect := func(when string, want ...string) {
		t.Helper()
		got, err := w.Tunnels()
		if !slices.Equal(got, want) || err != nil {
			t.Errorf("%s: %q, %v, want %q", when, got, err, want)
		}
	}
	expect("at the beginning")
	collector.tunnel(t, "vxlan0", 4789)
	expect("a device", "the vxlan device vxlan0 on port 4789")
	// So do container networks with theirs.
	command(t, "ip", "-n", collector.name, "link", "set", "vxlan0", "netns", sender.name)
	command(t, "ip", "-n", sender.name, "link", "set", "vxlan0", "up")
	expect("a device that was moved", "a socket of the kernel or of another program on port 4789")
	command(t, "ip", "-n", sender.name, "link", "delete", "vxlan0")
	expect("a device that is gone")

	collector.tunnel(t, "vxlan0", 4789)
	for state, want := range map[string][]string{"off": nil, "on": {"interface eth0: rx-gro is on while there is the vxlan device vxlan0 on port 4789"}} {
		collector.in(t, "ethtool", "-K", "eth0", "gro", state)
		if got, err := w.Risks(); !slices.Equal(got, want) || err != nil {
			t.Errorf("with GRO %s: %q, %v, want %q", state, got, err, want)
		}
	}
	command(t, "ip", "-n", collector.name, "link", "delete", "vxlan0")
	if got, err := w.Risks(); len(got) > 0 || err != nil {
		t.Errorf("without a tunnel: %q, %v", got, err)
	}

	var own *net.UDPConn
	collector.run(t, func() (err error) {
		own, err = net.ListenUDP("udp", &net.UDPAddr{Port: 6081})
		return err
	})
	defer own.Close()
	expect("a socket of this process")
}

func TestLiveLossesAreCountedExactly(t *testing.T) {
	collector, sender := hosts(t)
	w, outlet := collector.watch(t), tap(t, sender)
	mac := hardware0(t, collector)
	const count = 37
	for range count {
		// A protocol that nobody handles (IEEE 802, for experiments).
		frame := slices.Concat(mac, []byte{2, 0, 0, 0, 0, 1, 0x88, 0xb5}, make([]byte, 50))
		if _, err := unix.Write(outlet, frame); err != nil {
			t.Fatal(err)
		}
	}
	expectLosses(t, w, count, rxDropped)
	expectLosses(t, w, count, rxDropped) // since Watch, not since the last time
}

// expectLosses waits until as many are counted, by counters that all say so.
func expectLosses(t testing.TB, w *Watcher, want uint64, counters ...string) {
	t.Helper()
	var got Losses
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		var err error
		if got, err = w.Losses(); err != nil {
			t.Fatal(err)
		}
		if got.Dropped >= want {
			break
		}
	}
	var names []string
	for _, c := range got.Counters {
		if c.Name == softnet {
			continue // it is the machine's
		}
		names = append(names, c.Name)
		if c.Count != want {
			t.Errorf("%v, want %d", c, want)
		}
	}
	if got.Dropped != want || !slices.Equal(names, counters) {
		t.Errorf("%d lost, by %v; want %d by %v", got.Dropped, got.Counters, want, counters)
	}
}

// A vxlan device counts a datagram that was marked as congested, around a frame that could not be (RFC 6040), as an
// error and as a kind of error.
func TestLiveErrorsAreCountedOnce(t *testing.T) {
	collector, sender := hosts(t)
	collector.tunnel(t, "vxlan0", 4789)
	var w *Watcher
	collector.run(t, func() (err error) {
		w, err = Watch("vxlan0")
		return err
	})
	defer w.Close()
	outlet, mac := tap(t, sender), hardware0(t, collector)
	near, far := packets.NewHost("192.0.2.2"), packets.NewHost("192.0.2.1")
	const count = 5
	for range count {
		outer := packets.VXLANDatagram(far, near, 7, packets.UDP(far.On(1), near.On(2), nil))
		copy(outer, mac)
		const congested = 3
		change16(outer, 14, 0, 0x4500|congested)
		if _, err := unix.Write(outlet, outer); err != nil {
			t.Fatal(err)
		}
	}
	expectLosses(t, w, count, rxErrors, rxFrame)
}

// What hush drops was received: no counter may say otherwise.
func TestLiveWhatHushDropsIsNoLoss(t *testing.T) {
	collector, sender := hosts(t)
	w, outlet, sight := collector.watch(t), tap(t, sender), tap(t, collector)
	mac := hardware0(t, collector)
	var h *hush.Hush
	collector.run(t, func() error {
		i, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		h, err = hush.Start(i.Index, i.Name, []uint16{4789}, slog.New(slog.DiscardHandler))
		return err
	})
	defer h.Close()
	const count = 100
	for range count {
		frame := packets.VXLANDatagram(packets.NewHost("192.0.2.1"), packets.NewHost("192.0.2.2"), 7, make([]byte, 60))
		copy(frame, mac)
		if _, err := unix.Write(outlet, frame); err != nil {
			t.Fatal(err)
		}
	}
	seen := 0
	for end := time.Now().Add(5 * time.Second); seen < count && time.Now().Before(end); {
		buffer := make([]byte, 2048)
		n, err := unix.Read(sight, buffer)
		if err == nil && n > 40 && binary.BigEndian.Uint16(buffer[36:]) == 4789 {
			seen++
		}
	}
	if seen != count {
		t.Fatalf("%d of %d datagrams arrived", seen, count)
	}
	expectLosses(t, w, 0)
}

func TestLiveAnInterfaceThatIsGone(t *testing.T) {
	collector, sender := hosts(t)
	w := collector.watch(t)
	command(t, "ip", "-n", collector.name, "link", "delete", "eth0")
	if _, err := w.Losses(); err == nil || !strings.Contains(err.Error(), "interface eth0: it is gone") {
		t.Errorf("error %v", err)
	}
	// Another one of its name is not the one that was captured on.
	command(t, "ip", "link", "add", "eth0", "netns", collector.name, "type", "veth", "peer", "name", "eth0", "netns", sender.name)
	if _, err := w.Losses(); err == nil || !strings.Contains(err.Error(), "it is gone") {
		t.Errorf("error %v", err)
	}
	w.Close()
	w.Close()
}

func TestInterfacesThatAreNotThereAreNamed(t *testing.T) {
	_, calm := Calm("absent0")
	_, queues := RxQueues("absent0")
	_, watch := Watch("absent0")
	for _, err := range []error{calm, queues, watch} {
		if err == nil || !strings.Contains(err.Error(), "interface absent0: ") {
			t.Errorf("error %v", err)
		}
	}
}

func TestLiveReceiveQueues(t *testing.T) {
	collector, _ := hosts(t)
	for iface, want := range map[string]int{"eth0": 3, "lo": 1} {
		collector.run(t, func() error {
			if got, err := RxQueues(iface); got != want || err != nil {
				t.Errorf("%s: %d, %v", iface, got, err)
			}
			return nil
		})
	}
}

func TestLiveLoopbackIsLeftAlone(t *testing.T) {
	collector, _ := hosts(t)
	collector.tunnel(t, "vxlan0", 4789)
	before := collector.in(t, "ethtool", "-k", "lo")
	collector.run(t, func() error {
		c, err := Calm("lo")
		if err == nil && len(c.Risks)+len(c.Remarks) > 0 {
			t.Errorf("%q, %q", c.Risks, c.Remarks)
		}
		return err
	})
	if after := collector.in(t, "ethtool", "-k", "lo"); after != before {
		t.Error(after)
	}
}

func TestMain(m *testing.M) {
	if os.Getenv("LINK_CHILD") == "" {
		os.Exit(m.Run())
	}
	if err := watched(os.Args[1]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// said is what a child says of itself, in a line.
type said struct {
	Report         string
	Remarks, Risks []string
	Losses         Losses
	Tunnels        []string
	Error, Restore string
}

// watched is a child that looks at eth0 each time that it reads a line, with no privileges by then.
func watched(privilege string) error {
	if strings.Contains(privilege, "nobody") {
		if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(65534), syscall.Setuid(65534)); err != nil {
			return err
		}
	}
	c, err := Calm("eth0")
	if err != nil {
		return err
	}
	w, err := Watch("eth0")
	if err != nil {
		return err
	}
	s := said{Remarks: c.Remarks, Risks: c.Risks}
	if strings.Contains(privilege, "confined") {
		if s.Report, err = confine.Drop(confine.Config{}); err != nil {
			return err
		}
	}
	for {
		if err := json.NewEncoder(os.Stdout).Encode(s); err != nil {
			return err
		}
		if _, err := os.Stdin.Read(make([]byte, 1)); errors.Is(err, io.EOF) {
			break
		}
		var errLosses, errTunnels error
		s.Losses, errLosses = w.Losses()
		s.Tunnels, errTunnels = w.Tunnels()
		s.Risks, err = w.Risks()
		s.Error = fmt.Sprint(errors.Join(errLosses, errTunnels, err))
	}
	s.Restore = fmt.Sprint(c.Restore())
	return json.NewEncoder(os.Stdout).Encode(s)
}

// child runs this test binary as the child above.
func child(t *testing.T, h *host, privilege string) (stdin io.WriteCloser, next func() said) {
	t.Helper()
	cmd := exec.Command(os.Args[0], privilege)
	cmd.Env = append(os.Environ(), "LINK_CHILD=1")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	h.run(t, cmd.Start)
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	lines := json.NewDecoder(stdout)
	return stdin, func() (s said) {
		t.Helper()
		if err := lines.Decode(&s); err != nil {
			rest, _ := io.ReadAll(lines.Buffered())
			t.Fatalf("%v: %s", err, rest)
		}
		return s
	}
}

func TestLiveWithoutPrivilegesATunnelIsARisk(t *testing.T) {
	collector, _ := hosts(t)
	collector.in(t, "ethtool", "-K", "eth0", "gro", "on")
	collector.tunnel(t, "vxlan0", 4789)
	_, next := child(t, collector, "nobody")
	s := next()
	if want := "interface eth0: rx-gro is on while there is the vxlan device vxlan0 on port 4789"; !slices.Equal(s.Risks, []string{want}) {
		t.Errorf("risks: %q", s.Risks)
	}
	if want := "interface eth0: rx-gro is on and can't be turned off: operation not permitted"; !slices.Contains(s.Remarks, want) {
		t.Errorf("remarks: %q", s.Remarks)
	}
	if !collector.feature(t, "eth0", gro) {
		t.Error("it was turned off")
	}
}

func TestLiveAConfinedCollectorGoesOnWatching(t *testing.T) {
	for _, privilege := range []string{"confined root", "confined nobody"} {
		t.Run(privilege, func(t *testing.T) {
			collector, sender := hosts(t)
			outlet, mac := tap(t, sender), hardware0(t, collector)
			collector.in(t, "ethtool", "-K", "eth0", "gro", "on")
			collector.tunnel(t, "vxlan0", 4789)
			stdin, next := child(t, collector, privilege)
			s := next()
			if strings.Contains(s.Report, "cgo") {
				t.Skip(s.Report)
			}
			if _, err := unix.Write(outlet, slices.Concat(mac, []byte{2, 0, 0, 0, 0, 1, 0x88, 0xb5}, make([]byte, 50))); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond) // it is on its way
			io.WriteString(stdin, "\n")
			s = next()
			if s.Losses.Dropped != 1 || s.Error != "<nil>" || !slices.Equal(s.Tunnels, []string{"the vxlan device vxlan0 on port 4789"}) {
				t.Errorf("%+v", s)
			}
			if risk := privilege == "confined nobody"; len(s.Risks) > 0 != risk {
				t.Errorf("risks: %q", s.Risks)
			}
			stdin.Close()
			s = next()
			if privilege == "confined nobody" { // who could change nothing to begin with
				if s.Restore != "<nil>" {
					t.Error(s.Restore)
				}
				return
			}
			const restore = "ethtool -K eth0 rx-gro on"
			if !strings.Contains(s.Restore, "to restore it: "+restore+": operation not permitted") {
				t.Errorf("restoring without privileges: %s", s.Restore)
			}
			collector.in(t, strings.Fields(restore)...)
			if !collector.feature(t, "eth0", gro) {
				t.Errorf("%q does not restore it", restore)
			}
		})
	}
}
