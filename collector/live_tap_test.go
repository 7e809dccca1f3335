package main

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tap is a packet socket at one end of a wire.
type tap struct {
	t     *testing.T
	fd    int
	index int
}

// sight is a frame that a tap has seen come in.
type sight struct {
	at   time.Time // the kernel's, after stamp
	data []byte
}

func (w *wire) tap(namespace, iface string, kind uint16) *tap {
	w.t.Helper()
	p := &tap{t: w.t}
	within(w.t, namespace, func() error {
		i, err := net.InterfaceByName(iface)
		if err != nil {
			return err
		}
		p.index = i.Index
		if p.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return os.NewSyscallError("socket", err)
		}
		return errors.Join(
			unix.SetsockoptInt(p.fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
			unix.Bind(p.fd, &unix.SockaddrLinklayer{Protocol: kind<<8 | kind>>8, Ifindex: p.index}))
	})
	w.t.Cleanup(func() { unix.Close(p.fd) })
	return p
}

// stamp makes the kernel note when frames come in. It then does so for every socket of the machine, also for those of
// programs under test.
func (p *tap) stamp() {
	p.t.Helper()
	if err := unix.SetsockoptInt(p.fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
		p.t.Fatal(os.NewSyscallError("setsockopt SO_TIMESTAMPNS", err))
	}
}

// send sends a frame from a CPU: those from one CPU stay in order on any wire.
func (p *tap) send(cpu int, frames ...[]byte) {
	p.t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its CPU
		var cpus unix.CPUSet
		cpus.Set(cpu)
		err := os.NewSyscallError("sched_setaffinity", unix.SchedSetaffinity(0, &cpus))
		for _, frame := range frames {
			for try := 0; err == nil; try++ {
				err = os.NewSyscallError("sendto", unix.Sendto(p.fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: p.index}))
				if !errors.Is(err, unix.ENOBUFS) || try == 1000 {
					break
				}
				err = nil
				time.Sleep(time.Millisecond) // the wire is full
			}
		}
		done <- err
	}()
	if err := <-done; err != nil {
		p.t.Fatal(err)
	}
}

// received are the frames that have come in. When there are none, it waits for one.
func (p *tap) received(patience time.Duration) (seen []sight) {
	p.t.Helper()
	polls := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
	if _, err := unix.Poll(polls, int(patience.Milliseconds())); err != nil && !errors.Is(err, unix.EINTR) {
		p.t.Fatal(err)
	}
	data, control := make([]byte, 1<<16), make([]byte, 256)
	for {
		n, oobn, _, from, err := unix.Recvmsg(p.fd, data, control, unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EAGAIN) {
			return seen
		}
		if err != nil {
			p.t.Fatal(err)
		}
		if from.(*unix.SockaddrLinklayer).Pkttype == unix.PACKET_HOST {
			seen = append(seen, sight{at: stamped(control[:oobn]), data: append([]byte{}, data[:n]...)})
		}
	}
}

// stamped is the time in a control message.
func stamped(control []byte) time.Time {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil || len(messages) == 0 || len(messages[0].Data) < 16 {
		return time.Time{}
	}
	d := messages[0].Data
	return time.Unix(int64(binary.NativeEndian.Uint64(d)), int64(binary.NativeEndian.Uint64(d[8:])))
}

// unreachable says whether a frame tells that nobody listens on a port (RFC 792; RFC 4443, section 3.1).
func (s sight) unreachable() bool {
	f := s.data
	switch {
	case len(f) >= 36 && binary.BigEndian.Uint16(f[12:]) == unix.ETH_P_IP && f[23] == unix.IPPROTO_ICMP:
		return f[34] == 3 && f[35] == 3
	case len(f) >= 56 && binary.BigEndian.Uint16(f[12:]) == unix.ETH_P_IPV6 && f[20] == unix.IPPROTO_ICMPV6:
		return f[54] == 1 && f[55] == 4
	}
	return false
}
