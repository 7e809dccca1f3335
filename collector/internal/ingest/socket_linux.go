//go:build amd64 || arm64

package ingest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// SocketConfig says how a socket receives. Zero values mean the defaults.
type SocketConfig struct {
	Batch       int // datagrams taken with one system call; default 64
	BufferSize  int // bytes for each; default 64 KiB, more than UDP can carry
	KernelQueue int // bytes that the kernel is asked to queue; default 64 MiB
}

func (c SocketConfig) withDefaults() SocketConfig {
	set := func(field *int, value int) {
		if *field == 0 {
			*field = value
		}
	}
	set(&c.Batch, 64)
	set(&c.BufferSize, 64<<10)
	set(&c.KernelQueue, 64<<20)
	return c
}

// Socket receives on an ordinary UDP socket with recvmmsg(2), for which no privilege is needed. It sees no outer
// header but the source address.
type Socket struct {
	conn  *net.UDPConn
	raw   syscall.RawConn
	queue int

	messages []message
	batch    []Datagram
	waiting  func(fd uintptr) bool // for the runtime's poller; made once, since a closure allocates
	polling  func(fd uintptr)
	received int
	failed   error

	stopping atomic.Bool
	mu       sync.Mutex
	drops    uint64 // beyond 32 bits, and as they were at Stop
	lastSeen uint32
}

// message is struct mmsghdr of recvmmsg(2), with what its pointers point to.
type message struct {
	header unix.Msghdr
	length uint32
	_      [4]byte
}

// control is room for the one control message that is asked for: struct timespec behind struct cmsghdr.
type control [64]byte

// Listen binds a socket to one of the machine's own addresses.
func Listen(ctx context.Context, addr netip.AddrPort, cfg SocketConfig) (*Socket, error) {
	cfg = cfg.withDefaults()
	s := &Socket{}
	listener := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if fail := c.Control(func(fd uintptr) { s.queue, err = prepare(int(fd), cfg) }); fail != nil {
			return fail
		}
		return err
	}}
	network := "udp4"
	if addr.Addr().Is6() {
		network = "udp6" // without IPv4-mapped addresses
	}
	conn, err := listener.ListenPacket(ctx, network, addr.String())
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	s.conn = conn.(*net.UDPConn)
	s.raw, err = s.conn.SyscallConn()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", addr, err), conn.Close())
	}
	s.waiting = func(fd uintptr) bool { return s.take(int(fd)) }
	s.polling = func(fd uintptr) { s.take(int(fd)) }
	s.allocate(cfg)
	return s, nil
}

// prepare sets the options of a socket before it is bound, and returns how many bytes the kernel will queue.
func prepare(fd int, cfg SocketConfig) (int, error) {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
		return 0, fmt.Errorf("ask for kernel timestamps: %w", err)
	}
	// Beyond net.core.rmem_max the kernel obeys only those who have CAP_NET_ADMIN (socket(7), SO_RCVBUFFORCE).
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, cfg.KernelQueue); err != nil {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, cfg.KernelQueue); err != nil {
			return 0, fmt.Errorf("ask for a receive queue: %w", err)
		}
	}
	queue, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	if err != nil {
		return 0, fmt.Errorf("ask for the length of the receive queue: %w", err)
	}
	return queue, nil
}

// allocate makes all buffers that receiving will ever need.
func (s *Socket) allocate(cfg SocketConfig) {
	s.messages = make([]message, cfg.Batch)
	s.batch = make([]Datagram, cfg.Batch)
	data := make([]byte, cfg.Batch*cfg.BufferSize)
	vectors := make([]unix.Iovec, cfg.Batch)
	names := make([]unix.RawSockaddrInet6, cfg.Batch)
	controls := make([]control, cfg.Batch)
	for i := range s.messages {
		vectors[i].Base = &data[i*cfg.BufferSize]
		vectors[i].SetLen(cfg.BufferSize)
		h := &s.messages[i].header
		h.Iov = &vectors[i]
		h.SetIovlen(1)
		h.Name = (*byte)(unsafe.Pointer(&names[i]))
		h.Control = &controls[i][0]
	}
}

// Addr is the address that the socket is bound to.
func (s *Socket) Addr() netip.AddrPort {
	return s.conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// KernelQueue is how many bytes the kernel queues; it counts its own overhead against them.
func (s *Socket) KernelQueue() int { return s.queue }

// Receive implements Receiver.
func (s *Socket) Receive() ([]Datagram, error) {
	for {
		s.received, s.failed = 0, nil
		var err error
		if s.stopping.Load() {
			err = s.raw.Control(s.polling)
		} else {
			err = s.raw.Read(s.waiting)
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && s.stopping.Load():
			continue // Stop has woken us
		case err != nil:
			return nil, err
		case s.failed != nil:
			return nil, s.failed
		case s.received > 0:
			return s.parse(), nil
		case s.stopping.Load():
			return nil, io.EOF
		}
	}
}

// take asks the kernel for a batch. It returns false when there is none, so that the poller waits.
func (s *Socket) take(fd int) bool {
	for i := range s.messages {
		h := &s.messages[i].header
		h.Namelen = unix.SizeofSockaddrInet6
		h.SetControllen(len(control{}))
		h.Flags = 0
	}
	for {
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&s.messages[0])),
			uintptr(len(s.messages)), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			s.received = int(n)
			return true
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			s.failed = os.NewSyscallError("recvmmsg", errno)
			return true
		}
	}
}

// parse turns what the kernel has filled in into datagrams.
func (s *Socket) parse() []Datagram {
	batch := s.batch[:s.received]
	for i := range batch {
		m := &s.messages[i]
		length := min(int(m.length), int(m.header.Iov.Len))
		batch[i] = Datagram{
			Payload:  unsafe.Slice(m.header.Iov.Base, length),
			Source:   source(m.header.Name),
			At:       timestamp(unsafe.Slice(m.header.Control, m.header.Controllen)),
			Oversize: m.header.Flags&unix.MSG_TRUNC != 0,
		}
	}
	return batch
}

// source reads the socket address that the kernel has filled in.
func source(name *byte) netip.Addr {
	switch (*unix.RawSockaddr)(unsafe.Pointer(name)).Family {
	case unix.AF_INET:
		return netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(name)).Addr)
	case unix.AF_INET6:
		return netip.AddrFrom16((*unix.RawSockaddrInet6)(unsafe.Pointer(name)).Addr).Unmap()
	}
	return netip.Addr{}
}

// timestamp finds the kernel's timestamp among the control messages. The first datagrams after a socket was made can
// be without one, since the kernel turns timestamps on a moment later; theirs is the time of taking.
func timestamp(oob []byte) int64 {
	for len(oob) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&oob[0]))
		length := int(h.Len)
		if length < unix.SizeofCmsghdr || length > len(oob) {
			break
		}
		data := oob[unix.CmsgLen(0):length]
		if h.Level == unix.SOL_SOCKET && h.Type == unix.SCM_TIMESTAMPNS && len(data) >= 16 {
			return int64(binary.NativeEndian.Uint64(data))*1e9 + int64(binary.NativeEndian.Uint64(data[8:]))
		}
		oob = oob[min(unix.CmsgSpace(length-unix.CmsgLen(0)), len(oob)):]
	}
	return time.Now().UnixNano()
}

// dropAll is a classic BPF program that accepts zero bytes of every datagram.
var dropAll = unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0}

// Stop implements Receiver: from now on the kernel drops what arrives, and Receive ends when the queue is empty.
func (s *Socket) Stop() error {
	if _, err := s.Dropped(); err != nil { // those of the filter are not to count
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping.Load() {
		return nil
	}
	var err error
	program := unix.SockFprog{Len: 1, Filter: &dropAll}
	if fail := s.raw.Control(func(fd uintptr) {
		err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program)
	}); fail != nil {
		return fail
	}
	s.stopping.Store(true)
	return errors.Join(os.NewSyscallError("attach filter", err), s.conn.SetReadDeadline(time.Unix(1, 0)))
}

// skMemInfoDrops is the place of the drop counter in what SO_MEMINFO returns (linux/sock_diag.h, SK_MEMINFO_DROPS).
const skMemInfoDrops = 8

// Dropped implements Receiver. It asks the socket itself: the counter that SO_RXQ_OVFL attaches to datagrams is as
// old as the last datagram, and says nothing of drops after it.
func (s *Socket) Dropped() (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping.Load() {
		return s.drops, nil
	}
	var (
		info  [skMemInfoDrops + 1]uint32
		size  = uint32(unsafe.Sizeof(info))
		errno syscall.Errno
	)
	err := s.raw.Control(func(fd uintptr) {
		_, _, errno = unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	})
	if err != nil {
		return s.drops, err
	}
	if errno != 0 {
		return s.drops, os.NewSyscallError("getsockopt SO_MEMINFO", errno)
	}
	s.drops += uint64(info[skMemInfoDrops] - s.lastSeen) // the kernel's counter has 32 bits
	s.lastSeen = info[skMemInfoDrops]
	return s.drops, nil
}

// Close gives the port back.
func (s *Socket) Close() error { return s.conn.Close() }
