package hush

import (
	"errors"
	"fmt"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"
)

// startSockets binds the ports on all addresses, so that nobody answers for them, with filters that accept nothing.
// A port that somebody else has is left to them.
func startSockets(t target, log *slog.Logger) (undo func() error, err error) {
	var fds []int
	undo = func() error {
		var errs []error
		for _, fd := range fds {
			errs = append(errs, os.NewSyscallError("close", unix.Close(fd)))
		}
		return errors.Join(errs...)
	}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		for _, port := range t.ports {
			fd, err := deafSocket(family, port, t.iface)
			switch {
			case errors.Is(err, unix.EADDRINUSE):
				log.Warn("a port of mirrored datagrams is in use; whoever has it gets them too", "port", port, "ipv6", family == unix.AF_INET6)
			case errors.Is(err, unix.EAFNOSUPPORT):
			case err != nil:
				return nil, errors.Join(fmt.Errorf("port %d: %w", port, err), undo())
			default:
				fds = append(fds, fd)
			}
		}
	}
	return undo, nil
}

func deafSocket(family int, port uint16, iface string) (fd int, err error) {
	fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_UDP)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, unix.Close(fd))
		}
	}()
	// A classic BPF program that accepts zero bytes, before there is anything to accept.
	program := unix.SockFprog{Len: 1, Filter: &unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program); err != nil {
		return 0, os.NewSyscallError("attach filter", err)
	}
	// Unprivileged since Linux 5.7. Where it is not allowed, other interfaces don't answer either.
	if err := unix.BindToDevice(fd, iface); err != nil && !errors.Is(err, unix.EPERM) {
		return 0, fmt.Errorf("bind to interface %s: %w", iface, err)
	}
	var address unix.Sockaddr = &unix.SockaddrInet4{Port: int(port)}
	if family == unix.AF_INET6 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return 0, os.NewSyscallError("setsockopt IPV6_V6ONLY", err)
		}
		address = &unix.SockaddrInet6{Port: int(port)}
	}
	return fd, os.NewSyscallError("bind", unix.Bind(fd, address))
}
