package hush

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"flashtap/collector/internal/confine"
)

// host is a network namespace with an interface eth0, and a thread that lives in it.
type host struct {
	name string
	do   chan func()
}

// hosts are a collector and a sender, joined by a veth pair.
func hosts(t *testing.T) (collector, sender *host) {
	t.Helper()
	rooted(t)
	if _, err := exec.LookPath("ip"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("CI must have iproute2 installed")
		}
		t.Skip("making network namespaces needs iproute2")
	}
	collector, sender = newHost(t, "collector"), newHost(t, "sender")
	ip(t, "link", "add", "eth0", "netns", collector.name, "type", "veth", "peer", "name", "eth0", "netns", sender.name)
	for h, addresses := range map[*host][]netip.Addr{collector: {host4, host6}, sender: {sender4, sender6}} {
		ip(t, "-n", h.name, "addr", "add", addresses[0].String()+"/24", "dev", "eth0")
		ip(t, "-n", h.name, "addr", "add", addresses[1].String()+"/64", "dev", "eth0", "nodad")
		ip(t, "-n", h.name, "link", "set", "eth0", "up")
	}
	// Nothing else is to be told apart from answers, and none is to be held back.
	for _, setting := range []string{"ipv4/icmp_ratelimit", "ipv6/icmp/ratelimit"} {
		collector.run(t, func() error { return os.WriteFile("/proc/sys/net/"+setting, []byte("0"), 0) })
	}
	mac := sender.mac(t).String()
	ip(t, "-n", collector.name, "neigh", "replace", sender4.String(), "lladdr", mac, "dev", "eth0")
	ip(t, "-n", collector.name, "neigh", "replace", sender6.String(), "lladdr", mac, "dev", "eth0")
	return collector, sender
}

func newHost(t *testing.T, role string) *host {
	t.Helper()
	h := &host{name: fmt.Sprintf("ft-hush-%s-%d", role, os.Getpid()), do: make(chan func())}
	ip(t, "netns", "add", h.name)
	t.Cleanup(func() { ip(t, "netns", "delete", h.name) })
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

func (h *host) eth0(t testing.TB) (i *net.Interface) {
	t.Helper()
	h.run(t, func() (err error) {
		i, err = net.InterfaceByName("eth0")
		return err
	})
	return i
}

func (h *host) mac(t testing.TB) net.HardwareAddr { return h.eth0(t).HardwareAddr }

func ip(t testing.TB, args ...string) { command(t, "ip", args...) }

func command(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
	return string(out)
}

// tap is a packet socket on eth0.
type tap struct {
	fd    int
	index int
}

func (h *host) tap(t testing.TB) *tap {
	t.Helper()
	p := &tap{index: h.eth0(t).Index}
	h.run(t, func() (err error) {
		all := uint16(unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8)
		p.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all))
		return errors.Join(err, unix.Bind(p.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: p.index}))
	})
	t.Cleanup(func() { unix.Close(p.fd) })
	return p
}

// next is the next frame that comes in.
func (p *tap) next(t testing.TB) []byte {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		polls := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(polls, 100)
		if n == 0 || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		buffer := make([]byte, 2048)
		n, from, err := unix.Recvfrom(p.fd, buffer, 0)
		if err != nil {
			t.Fatal(err)
		}
		if from.(*unix.SockaddrLinklayer).Pkttype == unix.PACKET_HOST {
			return buffer[:n]
		}
	}
	t.Fatal("nothing comes in")
	return nil
}

// conversation sends frames to the collector, and a ping behind them. What comes back until that is answered are the
// answers to the frames, since one queue carries them all.
func conversation(t testing.TB, from *tap, mac net.HardwareAddr, frames ...[]byte) (answers [][]byte) {
	t.Helper()
	pings++
	echo := []byte{8, 0, 0, 0, 0, 1, byte(pings >> 8), byte(pings)}
	binary.BigEndian.PutUint16(echo[2:], checksum(echo))
	for _, frame := range append(frames, ethernet(unix.ETH_P_IP, ip4(nil, 0, unix.IPPROTO_ICMP, echo))) {
		copy(frame, mac)
		if err := unix.Sendto(from.fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: from.index}); err != nil {
			t.Fatal(err)
		}
	}
	for {
		frame := from.next(t)
		if icmp(frame, unix.ETH_P_IP, unix.IPPROTO_ICMP, 0) && bytes.Equal(frame[40:42], echo[6:]) {
			return answers
		}
		answers = append(answers, frame)
	}
}

var pings uint16

// icmp says whether a frame is an ICMP message of a type.
func icmp(frame []byte, etherType uint16, protocol, kind byte) bool {
	at := map[uint16]int{unix.ETH_P_IP: 14 + 9, unix.ETH_P_IPV6: 14 + 6}[etherType]
	message := map[uint16]int{unix.ETH_P_IP: 14 + 20, unix.ETH_P_IPV6: 14 + 40}[etherType]
	return len(frame) >= message+8 && binary.BigEndian.Uint16(frame[12:]) == etherType && frame[at] == protocol && frame[message] == kind
}

// unreachable says whether a frame says that a destination can't be reached.
func unreachable(frame []byte) bool {
	return icmp(frame, unix.ETH_P_IP, unix.IPPROTO_ICMP, 3) || icmp(frame, unix.ETH_P_IPV6, unix.IPPROTO_ICMPV6, 1)
}

// mirrored are datagrams that a machine answers when nobody listens. Their names are what they carry.
var mirrored = map[string]func(name string) []byte{
	"IPv4": func(name string) []byte {
		return ethernet(unix.ETH_P_IP, ip4(nil, 0, unix.IPPROTO_UDP, unchecked(udpTo(4789, name))))
	},
	"IPv4, GENEVE": func(name string) []byte {
		return ethernet(unix.ETH_P_IP, ip4(nil, 0, unix.IPPROTO_UDP, unchecked(udpTo(6081, name))))
	},
	"IPv4, options": func(name string) []byte {
		return ethernet(unix.ETH_P_IP, ip4([]byte{1, 1, 1, 0}, 0, unix.IPPROTO_UDP, unchecked(udpTo(4789, name))))
	},
	"IPv4, a tag": func(name string) []byte {
		return tag(ethernet(unix.ETH_P_IP, ip4(nil, 0, unix.IPPROTO_UDP, unchecked(udpTo(4789, name)))), unix.ETH_P_8021Q)
	},
	"IPv4, two tags": func(name string) []byte {
		return tag(tag(ethernet(unix.ETH_P_IP, ip4(nil, 0, unix.IPPROTO_UDP, unchecked(udpTo(4789, name)))), unix.ETH_P_8021Q), unix.ETH_P_8021AD)
	},
	"IPv6": func(name string) []byte {
		return ethernet(unix.ETH_P_IPV6, ip6(unix.IPPROTO_UDP, udpTo(4789, name)))
	},
	"IPv6, GENEVE": func(name string) []byte {
		return ethernet(unix.ETH_P_IPV6, ip6(unix.IPPROTO_UDP, udpTo(6081, name)))
	},
	"IPv6, options": func(name string) []byte {
		return ethernet(unix.ETH_P_IPV6, ip6(unix.IPPROTO_DSTOPTS, slices.Concat([]byte{unix.IPPROTO_UDP, 0, 1, 4, 0, 0, 0, 0}, udpTo(4789, name))))
	},
	"IPv6, a tag": func(name string) []byte {
		return tag(ethernet(unix.ETH_P_IPV6, ip6(unix.IPPROTO_UDP, udpTo(4789, name))), unix.ETH_P_8021Q)
	},
}

// marked is what the datagram of a name carries, so that it is found in other frames.
func marked(name string) string { return "<" + name + ">" }

// answers sends each of the mirrored datagrams, and says which of them the collector answers.
func answers(t *testing.T, from *tap, mac net.HardwareAddr) (answered []string) {
	t.Helper()
	var frames [][]byte
	for name, frame := range mirrored {
		frames = append(frames, frame(marked(name)))
	}
	got := conversation(t, from, mac, frames...)
	for name := range mirrored {
		if slices.ContainsFunc(got, func(f []byte) bool { return unreachable(f) && bytes.Contains(f, []byte(marked(name))) }) {
			answered = append(answered, name)
		}
	}
	slices.Sort(answered)
	return answered
}

// all are the names of the mirrored datagrams.
func all() []string { return slices.Sorted(maps.Keys(mirrored)) }

// quiet logs nothing.
var quiet = slog.New(slog.DiscardHandler)

func TestLiveNoDatagramIsAnswered(t *testing.T) {
	collector, sender := hosts(t)
	mac, from := collector.mac(t), sender.tap(t)
	if got := answers(t, from, mac); !slices.Equal(got, all()) {
		t.Fatalf("without hush, only these are answered: %v", got)
	}
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			sight := collector.tap(t)
			h := begin(t, collector, w)
			if h.How() != w.name {
				t.Errorf("by %s", h.How())
			}
			if got := answers(t, from, mac); len(got) > 0 {
				t.Errorf("answered: %v", got)
			}
			seen := map[string]int{}
			for _, name := range all() {
				// Every frame is there once; the ping behind them shows that there are no more.
				seen[name] = 0
			}
			for more := true; more; {
				frame := sight.next(t)
				more = !icmp(frame, unix.ETH_P_IP, unix.IPPROTO_ICMP, 8)
				for name := range seen {
					if bytes.Contains(frame, []byte(marked(name))) {
						seen[name]++
					}
				}
			}
			for name, n := range seen {
				if n != 1 {
					t.Errorf("a packet socket has seen %s %d times", name, n)
				}
			}
			others(t, collector, sender, from)
			end(t, h)
			if got := answers(t, from, mac); !slices.Equal(got, all()) {
				t.Errorf("after Close, only these are answered: %v", got)
			}
			if left := left(t, collector); left != "" {
				t.Errorf("after Close, there is %s", left)
			}
		})
	}
}

func begin(t *testing.T, collector *host, only ...way) (h *Hush) {
	t.Helper()
	index := collector.eth0(t).Index
	collector.run(t, func() (err error) {
		h, err = start(target{index, "eth0", mirrorPorts}, quiet, only)
		return err
	})
	return h
}

// end closes from a thread outside the namespace.
func end(t *testing.T, h *Hush) {
	t.Helper()
	for range 2 {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}
}

// left is what hangs on the interface's ingress.
func left(t *testing.T, h *host) string {
	t.Helper()
	tcx := ""
	if out := command(t, "ip", "-n", h.name, "-d", "link", "show", "eth0"); strings.Contains(out, "xdp") {
		tcx = out
	}
	qdiscs := command(t, "tc", "-n", h.name, "qdisc", "show", "dev", "eth0", "ingress")
	return tcx + qdiscs
}

// others tries what has nothing to do with mirroring.
func others(t *testing.T, collector, sender *host, from *tap) {
	t.Helper()
	// A ping is what all conversations end with.
	got := conversation(t, from, collector.mac(t), ethernet(unix.ETH_P_IP, ip4(nil, 0, unix.IPPROTO_UDP, unchecked(udpTo(4790, "<other>")))))
	if len(got) != 1 || !unreachable(got[0]) {
		t.Errorf("a datagram to another port is answered by %x", got)
	}
	for _, network := range []string{"udp4", "udp6", "tcp4", "tcp6"} {
		to := netip.AddrPortFrom(host4, 9999)
		if strings.HasSuffix(network, "6") {
			to = netip.AddrPortFrom(host6, 9999)
		}
		var listener io.Closer
		collector.run(t, func() (err error) {
			if strings.HasPrefix(network, "udp") {
				listener, err = net.ListenUDP(network, net.UDPAddrFromAddrPort(to))
			} else {
				listener, err = net.ListenTCP(network, net.TCPAddrFromAddrPort(to))
			}
			return err
		})
		sender.run(t, func() error {
			conn, err := net.DialTimeout(network, to.String(), 5*time.Second)
			if err != nil {
				return err
			}
			_, err = conn.Write([]byte("hello"))
			return errors.Join(err, conn.Close())
		})
		if udp, ok := listener.(*net.UDPConn); ok {
			buffer := make([]byte, 9)
			udp.SetReadDeadline(time.Now().Add(5 * time.Second))
			if n, err := udp.Read(buffer); string(buffer[:n]) != "hello" || err != nil {
				t.Errorf("%s: %q, %v", network, buffer[:n], err)
			}
		}
		listener.Close()
	}
}

func TestLiveOtherFiltersStay(t *testing.T) {
	passAll := []string{"protocol", "all", "u32", "match", "u32", "0", "0", "flowid", "1:1"}
	for _, qdisc := range []string{"clsact", "ingress"} {
		t.Run(qdisc, func(t *testing.T) {
			collector, sender := hosts(t)
			mac, from := collector.mac(t), sender.tap(t)
			tc := func(args ...string) string {
				return command(t, "tc", slices.Concat([]string{"-n", collector.name}, args)...)
			}
			tc("qdisc", "add", "dev", "eth0", qdisc)
			// A filter that lets everything pass, and no later filter see it.
			tc(slices.Concat([]string{"filter", "add", "dev", "eth0", "parent", "ffff:fff2", "pref", "2"}, passAll)...)
			show := func() string {
				return tc("qdisc", "show", "dev", "eth0") + tc("filter", "show", "dev", "eth0", "parent", "ffff:fff2")
			}
			before := show()
			h := begin(t, collector, ways[1])
			if before == show() {
				t.Error("nothing has changed")
			}
			if got := answers(t, from, mac); len(got) > 0 {
				t.Errorf("answered: %v", got)
			}
			end(t, h)
			if after := show(); after != before {
				t.Errorf("before:\n%safter:\n%s", before, after)
			}
		})
	}
	t.Run("one that has the first place", func(t *testing.T) {
		collector, sender := hosts(t)
		command(t, "tc", "-n", collector.name, "qdisc", "add", "dev", "eth0", "clsact")
		command(t, "tc", slices.Concat([]string{"-n", collector.name, "filter", "add", "dev", "eth0", "ingress", "pref", "1"}, passAll)...)
		h := begin(t, collector, ways[1:]...)
		if h.How() != ways[2].name {
			t.Errorf("by %s", h.How())
		}
		if got := answers(t, sender.tap(t), collector.mac(t)); len(got) > 0 {
			t.Errorf("answered: %v", got)
		}
		end(t, h)
	})
	t.Run("a program that has the first place", func(t *testing.T) {
		collector, sender := hosts(t)
		mac, from := collector.mac(t), sender.tap(t)
		command(t, "tc", "-n", collector.name, "qdisc", "add", "dev", "eth0", "clsact")
		pass, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}})
		if err != nil {
			t.Fatal(err)
		}
		defer pass.Close()
		index := collector.eth0(t).Index
		collector.run(t, func() error {
			return netlink.FilterAdd(&netlink.BpfFilter{
				FilterAttrs: netlink.FilterAttrs{LinkIndex: index, Parent: netlink.HANDLE_MIN_INGRESS, Protocol: unix.ETH_P_ALL, Priority: 1, Handle: 1},
				Fd:          pass.FD(), Name: "theirs", DirectAction: true,
			})
		})
		// Another collector, and this one.
		_, stdin, line := child(t, collector, "clsact", "root")
		line()
		h := begin(t, collector, ways[1])
		if got := answers(t, from, mac); len(got) > 0 {
			t.Errorf("answered: %v", got)
		}
		end(t, h)
		if got := answers(t, from, mac); len(got) > 0 {
			t.Errorf("answered, although there is another collector: %v", got)
		}
		stdin.Close()
		if got := line(); got != "closed: <nil>" {
			t.Error(got)
		}
		if got := command(t, "tc", "-n", collector.name, "filter", "show", "dev", "eth0", "ingress"); !strings.Contains(got, "theirs") || strings.Contains(got, namePrefix) {
			t.Errorf("the filters for what comes in: %q", got)
		}
	})
	t.Run("one that came meanwhile", func(t *testing.T) {
		collector, _ := hosts(t)
		h := begin(t, collector, ways[1])
		command(t, "tc", "-n", collector.name, "filter", "add", "dev", "eth0", "egress", "protocol", "all", "u32", "match", "u32", "0", "0", "flowid", "1:1")
		end(t, h)
		if got := command(t, "tc", "-n", collector.name, "filter", "show", "dev", "eth0", "egress"); !strings.Contains(got, "u32") {
			t.Errorf("the filters for what goes out: %q", got)
		}
		if got := command(t, "tc", "-n", collector.name, "filter", "show", "dev", "eth0", "ingress"); got != "" {
			t.Errorf("the filters for what comes in: %q", got)
		}
	})
}

// Some drivers leave all but the Ethernet header outside the part of a buffer that programs can read directly. A TAP
// device does so with what is written in two parts (IFF_NAPI_FRAGS).
func TestLiveHeadersMayBeInFragments(t *testing.T) {
	collector, _ := hosts(t)
	var fd int
	collector.run(t, func() (err error) {
		if fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0); err != nil {
			return err
		}
		request, err := unix.NewIfreq("tap0")
		if err != nil {
			return err
		}
		request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_NAPI | unix.IFF_NAPI_FRAGS)
		return unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	})
	defer unix.Close(fd)
	const local, remote = "192.0.2.2", "192.0.2.1"
	ip(t, "-n", collector.name, "link", "set", "eth0", "down")
	ip(t, "-n", collector.name, "addr", "add", local+"/24", "dev", "tap0")
	ip(t, "-n", collector.name, "link", "set", "tap0", "up")
	ip(t, "-n", collector.name, "neigh", "replace", remote, "lladdr", "02:00:00:00:00:01", "dev", "tap0")
	var i *net.Interface
	collector.run(t, func() (err error) {
		if i, err = net.InterfaceByName("tap0"); err != nil {
			return err
		}
		tool, err := ethtool.NewEthtool()
		if err != nil {
			return err
		}
		defer tool.Close()
		return tool.Change("tap0", map[string]bool{"rx-gro": false}) // it would bring the headers together
	})
	answered := func() bool {
		t.Helper()
		frame := mirrored["IPv4"](marked("IPv4"))
		copy(frame, i.HardwareAddr)
		if _, err := unix.Writev(fd, [][]byte{frame[:14], frame[14:]}); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(200 * time.Millisecond); time.Now().Before(end); {
			buffer := make([]byte, 2048)
			n, err := unix.Read(fd, buffer)
			if errors.Is(err, unix.EAGAIN) {
				time.Sleep(time.Millisecond)
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if unreachable(buffer[:n]) {
				return true
			}
		}
		return false
	}
	if !answered() {
		t.Fatal("not answered without hush")
	}
	var h *Hush
	collector.run(t, func() (err error) {
		h, err = Start(i.Index, i.Name, mirrorPorts, quiet)
		return err
	})
	if answered() {
		t.Errorf("answered in spite of %s", h.How())
	}
	end(t, h)
	if !answered() {
		t.Error("not answered after Close")
	}
}

func TestLivePortsOfOthersAreLeftToThem(t *testing.T) {
	collector, _ := hosts(t)
	var theirs *net.UDPConn
	collector.run(t, func() (err error) {
		theirs, err = net.ListenUDP("udp4", &net.UDPAddr{Port: 4789})
		return err
	})
	defer theirs.Close()
	end(t, begin(t, collector, ways[2]))
}

// child runs this test binary in the collector's namespace, as one of the children below.
func child(t *testing.T, h *host, args ...string) (cmd *exec.Cmd, stdin io.WriteCloser, line func() string) {
	t.Helper()
	cmd = exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "HUSH_CHILD=1")
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
	return cmd, stdin, func() string {
		t.Helper()
		var b [4096]byte
		n, err := stdout.Read(b[:])
		if err != nil {
			t.Fatalf("the child has ended: %v", err)
		}
		return strings.TrimSpace(string(b[:n]))
	}
}

func TestMain(m *testing.M) {
	if os.Getenv("HUSH_CHILD") == "" {
		os.Exit(m.Run())
	}
	if err := hushed(os.Args[1], os.Args[2]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// hushed is a child that starts hush, waits for its standard input to end, and closes it.
func hushed(name, privilege string) error {
	if privilege == "nobody" {
		if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(65534), syscall.Setuid(65534)); err != nil {
			return err
		}
	}
	i, err := net.InterfaceByName("eth0")
	if err != nil {
		return err
	}
	only := slices.DeleteFunc(slices.Clone(ways), func(w way) bool { return name != "any" && w.name != name })
	h, err := start(target{i.Index, i.Name, mirrorPorts}, quiet, only)
	if err != nil {
		return err
	}
	if privilege == "confined" {
		report, err := confine.Drop(confine.Config{})
		if err != nil {
			return err
		}
		fmt.Println(h.How() + ": " + report)
	} else {
		fmt.Println(h.How())
	}
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	err = h.Close()
	fmt.Println("closed:", err)
	time.Sleep(time.Minute) // until it is killed
	return nil
}

func TestLiveAKilledCollectorIsUndone(t *testing.T) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			collector, sender := hosts(t)
			mac, from := collector.mac(t), sender.tap(t)
			cmd, _, line := child(t, collector, w.name, "root")
			if got := line(); got != w.name {
				t.Fatal(got)
			}
			if got := answers(t, from, mac); len(got) > 0 {
				t.Errorf("answered: %v", got)
			}
			cmd.Process.Kill()
			cmd.Wait()
			if w.name != "clsact" {
				if got := answers(t, from, mac); !slices.Equal(got, all()) {
					t.Errorf("only these are answered: %v", got)
				}
				return
			}
			// A filter outlives its maker. The next one replaces it, and knows that the rest was not there before.
			if left(t, collector) == "" {
				t.Error("nothing is left")
			}
			h := begin(t, collector, w)
			filters := command(t, "tc", "-n", collector.name, "filter", "show", "dev", "eth0", "ingress")
			if n := strings.Count(filters, namePrefix); n != 1 {
				t.Errorf("%d filters:\n%s", n, filters)
			}
			end(t, h)
			if left := left(t, collector); left != "" {
				t.Errorf("there is %s", left)
			}
		})
	}
}

func TestLiveAConfinedCollectorCanClose(t *testing.T) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			collector, sender := hosts(t)
			mac, from := collector.mac(t), sender.tap(t)
			_, stdin, line := child(t, collector, w.name, "confined")
			report := line()
			if strings.Contains(report, "cgo") {
				t.Skip(report)
			}
			if got := answers(t, from, mac); len(got) > 0 {
				t.Errorf("answered: %v", got)
			}
			stdin.Close()
			closed := line()
			if w.name == "clsact" {
				if !strings.Contains(closed, "interface eth0 keeps a filter that does nothing") {
					t.Errorf("closing without privileges: %s", closed)
				}
			} else if closed != "closed: <nil>" {
				t.Error(closed)
			}
			if got := answers(t, from, mac); !slices.Equal(got, all()) {
				t.Errorf("after Close, only these are answered: %v", got)
			}
		})
	}
}

func TestLiveWithoutPrivilegesSocketsDropEverything(t *testing.T) {
	collector, sender := hosts(t)
	mac, from := collector.mac(t), sender.tap(t)
	_, _, line := child(t, collector, "any", "nobody")
	if got := line(); got != ways[2].name {
		t.Fatal(got)
	}
	if got := answers(t, from, mac); len(got) > 0 {
		t.Errorf("answered: %v", got)
	}
}

func TestLiveAnInterfaceThatIsNotThere(t *testing.T) {
	rooted(t)
	h, err := Start(1<<30, "absent0", mirrorPorts, quiet)
	if err == nil {
		h.Close()
		t.Fatal("no error")
	}
	for _, part := range []string{"absent0", "tcx: ", "clsact: ", "sockets that drop everything: "} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not said in %v", part, err)
		}
	}
}
