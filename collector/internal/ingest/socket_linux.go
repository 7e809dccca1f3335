//go:build amd64 || arm64

package ingest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"flashtap/collector/vxlan"
)

// SocketConfig says how a socket receives. Zero values mean the defaults.
type SocketConfig struct {
	Batch       int    // datagrams taken with one system call; default 64
	BufferSize  int    // bytes for each; default 64 KiB, more than UDP can carry
	KernelQueue int    // bytes that the kernel is asked to queue; default 64 MiB
	Interface   string // receive what arrives on this one alone; default: on any
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
//
// The runtime's poller does not know the socket: it would be woken for every datagram that comes while Receive lets
// them gather.
type Socket struct {
	fd    int
	addr  netip.AddrPort
	queue int

	messages []message
	batch    []Datagram
	rest     rest
	gather   bool // the queue was empty a moment ago: let it fill
	stopping atomic.Bool
	closed   atomic.Bool

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

// Listen binds a socket to one of the machine's own addresses, or to all of a version (0.0.0.0, ::).
func Listen(addr netip.AddrPort, cfg SocketConfig) (*Socket, error) {
	cfg = cfg.withDefaults()
	s := &Socket{}
	if err := s.open(addr, cfg); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	var err error
	if s.rest, err = newRest([]int{s.fd}, s.queue); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.allocate(cfg)
	return s, nil
}

func (s *Socket) open(addr netip.AddrPort, cfg SocketConfig) error {
	family := unix.AF_INET
	if addr.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	s.fd = fd
	if err := s.bind(addr, cfg); err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	return nil
}

func (s *Socket) bind(addr netip.AddrPort, cfg SocketConfig) (err error) {
	if s.queue, err = prepare(s.fd, cfg); err != nil {
		return err
	}
	if addr.Addr().Is6() { // IPv4 has a socket of its own
		if err := unix.SetsockoptInt(s.fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return os.NewSyscallError("setsockopt IPV6_V6ONLY", err)
		}
	}
	var to unix.Sockaddr
	if addr.Addr().Is6() {
		to = &unix.SockaddrInet6{Addr: addr.Addr().As16(), Port: int(addr.Port())}
	} else {
		to = &unix.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())}
	}
	if err := unix.Bind(s.fd, to); err != nil {
		return os.NewSyscallError("bind", err)
	}
	bound, err := unix.Getsockname(s.fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	switch a := bound.(type) {
	case *unix.SockaddrInet4:
		s.addr = netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		s.addr = netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port))
	}
	return nil
}

// prepare sets the options of a socket before it is bound, and returns how many bytes the kernel will queue.
func prepare(fd int, cfg SocketConfig) (int, error) {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
		return 0, fmt.Errorf("ask for kernel timestamps: %w", err)
	}
	awaitStamps(stampsPatience)
	// Beyond net.core.rmem_max the kernel obeys only those who have CAP_NET_ADMIN (socket(7), SO_RCVBUFFORCE).
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, cfg.KernelQueue); err != nil {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, cfg.KernelQueue); err != nil {
			return 0, fmt.Errorf("ask for a receive queue: %w", err)
		}
	}
	if cfg.Interface != "" { // unprivileged, unless the socket is bound already (Linux 5.7)
		if err := unix.BindToDevice(fd, cfg.Interface); err != nil {
			return 0, fmt.Errorf("bind to interface %s: %w", cfg.Interface, err)
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
func (s *Socket) Addr() netip.AddrPort { return s.addr }

// KernelQueue is how many bytes the kernel queues; it counts its own overhead against them.
func (s *Socket) KernelQueue() int { return s.queue }

// Receive implements Receiver.
func (s *Socket) Receive() ([]Datagram, error) {
	for {
		stopping := s.stopping.Load() // asked before the queue is looked at
		if s.gather && !stopping {
			s.gather = false
			if err := s.rest.wait(true); err != nil {
				return nil, err
			}
		}
		n, err := s.take()
		switch {
		case err != nil:
			return nil, err
		case n > 0:
			batch := s.parse(n)
			for i := range batch {
				s.rest.took(skbOverhead + 2*len(batch[i].Payload))
			}
			s.gather = n < len(s.messages)
			return batch, nil
		case stopping:
			return nil, io.EOF
		}
		if err := s.rest.wait(false); err != nil {
			return nil, err
		}
	}
}

// skbOverhead is what a datagram takes of the queue besides its bytes, which themselves count at most twice
// (SKB_TRUESIZE in linux/skbuff.h, and pages that are not full).
const skbOverhead = 1 << 10

// take asks the kernel for a batch, without waiting for one.
func (s *Socket) take() (int, error) {
	if s.closed.Load() {
		return 0, net.ErrClosed
	}
	for i := range s.messages {
		h := &s.messages[i].header
		h.Namelen = unix.SizeofSockaddrInet6
		h.SetControllen(len(control{}))
		h.Flags = 0
	}
	for {
		// The runtime need not know of a call that does not block.
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&s.messages[0])),
			uintptr(len(s.messages)), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, nil
		default:
			return 0, os.NewSyscallError("recvmmsg", errno)
		}
	}
}

// parse turns what the kernel has filled in into datagrams.
func (s *Socket) parse(n int) []Datagram {
	batch := s.batch[:n]
	for i := range batch {
		m := &s.messages[i]
		length := min(int(m.length), int(m.header.Iov.Len))
		batch[i] = Datagram{
			Payload: unsafe.Slice(m.header.Iov.Base, length),
			Source:  source(m.header.Name),
			At:      timestamp(unsafe.Slice(m.header.Control, m.header.Controllen)),
		}
		if m.header.Flags&unix.MSG_TRUNC != 0 {
			batch[i].Fault = vxlan.Oversize
		}
	}
	return batch
}

// source reads the socket address that the kernel has filled in.
func source(name *byte) (addr [16]byte) {
	switch (*unix.RawSockaddr)(unsafe.Pointer(name)).Family {
	case unix.AF_INET:
		addr[10], addr[11] = 0xff, 0xff // IPv4-mapped (RFC 4291, section 2.5.5.2)
		copy(addr[12:], (*unix.RawSockaddrInet4)(unsafe.Pointer(name)).Addr[:])
	case unix.AF_INET6:
		addr = (*unix.RawSockaddrInet6)(unsafe.Pointer(name)).Addr
	}
	return addr
}

// timestamp finds the kernel's timestamp among the control messages. Without one, it is the time of taking.
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
	if s.stopping.Load() || s.closed.Load() {
		return nil
	}
	program := unix.SockFprog{Len: 1, Filter: &dropAll}
	err := unix.SetsockoptSockFprog(s.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program)
	s.stopping.Store(true)
	return errors.Join(os.NewSyscallError("attach filter", err), s.rest.wake())
}

// skMemInfoDrops is the place of the drop counter in what SO_MEMINFO returns (linux/sock_diag.h, SK_MEMINFO_DROPS).
const skMemInfoDrops = 8

// Dropped implements Receiver. It asks the socket itself: the counter that SO_RXQ_OVFL attaches to datagrams is as
// old as the last datagram, and says nothing of drops after it.
func (s *Socket) Dropped() (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping.Load() || s.closed.Load() {
		return s.drops, nil
	}
	var (
		info [skMemInfoDrops + 1]uint32
		size = uint32(unsafe.Sizeof(info))
	)
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s.fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return s.drops, os.NewSyscallError("getsockopt SO_MEMINFO", errno)
	}
	s.drops += uint64(info[skMemInfoDrops] - s.lastSeen) // the kernel's counter has 32 bits
	s.lastSeen = info[skMemInfoDrops]
	return s.drops, nil
}

// Close gives the port back.
func (s *Socket) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Swap(true) {
		return nil
	}
	return errors.Join(os.NewSyscallError("close", unix.Close(s.fd)), s.rest.close())
}
