package dataplane

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Live is a Source that gives the packets an interface sends and receives from now on. It needs CAP_NET_RAW, and for
// another namespace CAP_SYS_ADMIN.
//
// The kernel may hand over frames that the network card would still cut (GSO), larger than the interface's MTU.
type Live struct {
	cfg     LiveConfig
	socket  *os.File
	conn    syscall.RawConn
	buffer  []byte
	control []byte
	dropped atomic.Uint64
}

// liveBuffer takes the largest frame of Linux (64 KiB, or 512 KiB with BIG TCP, of which the rest is cut).
const liveBuffer = 256 << 10

// liveQueue holds some hundred of the largest frames, or thousands of usual ones, while Next isn't called.
const liveQueue = 16 << 20

// OpenLive starts to collect the packets of an interface; the socket stays in its namespace.
func OpenLive(cfg LiveConfig) (*Live, error) {
	var fd int
	open := func() (err error) { fd, err = openPacketSocket(cfg.Interface); return err }
	var err error
	if cfg.Namespace == "" {
		err = open()
	} else {
		err = inNamespace(cfg.Namespace, open)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on interface %s: %w", cfg.Interface, err)
	}
	l := &Live{cfg: cfg, socket: os.NewFile(uintptr(fd), "packets of "+cfg.Interface),
		buffer: make([]byte, liveBuffer), control: make([]byte, 256)}
	if l.conn, err = l.socket.SyscallConn(); err != nil {
		l.socket.Close()
		return nil, fmt.Errorf("listen on interface %s: %w", cfg.Interface, err)
	}
	return l, nil
}

func openPacketSocket(name string) (int, error) {
	iface, err := net.InterfaceByName(name)
	if err != nil {
		return 0, err
	}
	// Protocol 0 receives nothing until bind names the interface, so that no frame of another one slips in.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, liveQueue) != nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, liveQueue)
	}
	if err == nil {
		// The kernel takes VLAN tags off the frame and tells them aside.
		err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1)
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ALL), Ifindex: iface.Index})
	}
	if err != nil {
		unix.Close(fd)
		return 0, err
	}
	return fd, nil
}

func networkOrder(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}

// inNamespace runs do on a thread that is in another network namespace. The thread ends with it.
func inNamespace(path string, do func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: a thread in the wrong namespace must not be used again
		ns, err := os.Open(path)
		if err != nil {
			result <- err
			return
		}
		defer ns.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			result <- fmt.Errorf("enter namespace %s: %w", path, err)
			return
		}
		result <- do()
	}()
	return <-result
}

// Next waits for the next packet.
func (l *Live) Next(ctx context.Context) (Packet, error) {
	stop := context.AfterFunc(ctx, func() { l.socket.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if ctx.Err() != nil {
		return Packet{}, ctx.Err()
	}
	var n, controls int
	var from unix.Sockaddr
	var err error
	waited := l.conn.Read(func(fd uintptr) bool {
		err = unix.EINTR
		for errors.Is(err, unix.EINTR) {
			// With MSG_TRUNC n is the frame's own length, even when the buffer was too short.
			n, controls, _, from, err = unix.Recvmsg(int(fd), l.buffer, l.control, unix.MSG_TRUNC)
		}
		return !errors.Is(err, unix.EAGAIN)
	})
	if ctx.Err() != nil {
		return Packet{}, ctx.Err()
	}
	if err := errors.Join(waited, err); err != nil {
		return Packet{}, fmt.Errorf("receive on interface %s: %w", l.cfg.Interface, err)
	}
	captured := min(n, len(l.buffer))
	frame := withTag(l.buffer[:captured], l.control[:controls])
	p := Packet{At: time.Now(), Data: frame, OrigLen: n + len(frame) - captured}
	link, ok := from.(*unix.SockaddrLinklayer)
	p.Direction = l.cfg.direction(ok && link.Pkttype == unix.PACKET_OUTGOING)
	return p, nil
}

// withTag copies a frame and puts the VLAN tag back that the kernel told aside.
func withTag(frame, control []byte) []byte {
	out := make([]byte, 0, len(frame)+4)
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil || len(frame) < 12 {
		return append(out, frame...)
	}
	for _, m := range messages {
		// struct tpacket_auxdata: status at byte 0, vlan_tci at 16, vlan_tpid at 18 (linux/if_packet.h).
		if m.Header.Level != unix.SOL_PACKET || m.Header.Type != unix.PACKET_AUXDATA || len(m.Data) < 20 {
			continue
		}
		status := binary.NativeEndian.Uint32(m.Data)
		if status&unix.TP_STATUS_VLAN_VALID == 0 {
			continue
		}
		protocol := uint16(unix.ETH_P_8021Q)
		if status&unix.TP_STATUS_VLAN_TPID_VALID != 0 {
			protocol = binary.NativeEndian.Uint16(m.Data[18:])
		}
		out = append(out, frame[:12]...)
		out = binary.BigEndian.AppendUint16(out, protocol)
		out = binary.BigEndian.AppendUint16(out, binary.NativeEndian.Uint16(m.Data[16:]))
		return append(out, frame[12:]...)
	}
	return append(out, frame...)
}

// Dropped counts the packets that came while the socket's queue was full: the interface had them, the plane never did.
func (l *Live) Dropped() (uint64, error) {
	var stats *unix.TpacketStats
	var err error
	if outer := l.conn.Control(func(fd uintptr) {
		stats, err = unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS)
	}); outer != nil {
		return l.dropped.Load(), outer
	}
	if err != nil {
		return l.dropped.Load(), err
	}
	return l.dropped.Add(uint64(stats.Drops)), nil // the kernel counts from the last question on
}

// Close ends the collection.
func (l *Live) Close() error { return l.socket.Close() }
