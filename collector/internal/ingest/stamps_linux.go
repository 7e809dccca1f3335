package ingest

import (
	"time"

	"golang.org/x/sys/unix"
)

// stampsPatience is how long the kernel may take to begin stamping. It takes 0.2 ms, unless the machine is busy.
const stampsPatience = time.Second

// awaitStamps returns when the kernel stamps what arrives, which it begins to do a moment after a socket has asked for
// it (net_enable_timestamp in net/core/dev.c). A datagram that came before has no time but that of being taken, later
// than those that follow it. Without a loopback interface there is no way to know, and so no waiting.
func awaitStamps(patience time.Duration) (on bool) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was written that anybody needs
	loopback := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	if unix.Bind(fd, loopback) != nil {
		return false
	}
	self, err := unix.Getsockname(fd)
	// It tells of stamps that there are, but asks for none.
	if err != nil || unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPING, unix.SOF_TIMESTAMPING_SOFTWARE) != nil {
		return false
	}
	var data, oob [64]byte
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(100 * time.Microsecond) {
		if unix.Sendto(fd, data[:1], 0, self) != nil {
			return false
		}
		_, stamp, _, _, err := unix.Recvmsg(fd, data[:], oob[:], 0)
		if err == nil && stamp > 0 {
			return true
		}
	}
	return false
}
