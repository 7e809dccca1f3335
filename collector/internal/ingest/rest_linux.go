package ingest

import (
	"encoding/binary"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// nap is how long a busy receiver lets packets gather. Being woken for each handful costs more than taking them, and
	// the smallest ring or queue holds what comes meanwhile.
	nap = 4 * time.Millisecond

	// naps is how many naps without a packet make a receiver an idle one, which waits to be woken.
	naps = 10
)

// rest is how a receiver waits: in naps while it is busy, until it is woken when nothing comes.
//
// It asks poll(2) itself. The runtime's poller would be woken by every packet, also during a nap.
type rest struct {
	polls []unix.PollFd // the last one is the bell
	quiet int           // naps in a row without a packet
}

// newRest waits for packets on any of the sockets. Without close, it leaks a descriptor.
func newRest(sockets []int) (rest, error) {
	bell, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return rest{}, os.NewSyscallError("eventfd", err)
	}
	var r rest
	for _, fd := range append(sockets, bell) {
		r.polls = append(r.polls, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	return r, nil
}

// busy notes that packets came.
func (r *rest) busy() { r.quiet = 0 }

// wait waits for packets, or only for a nap.
func (r *rest) wait(short bool) error {
	if r.quiet < naps || short {
		r.quiet++
		time.Sleep(nap)
		return nil
	}
	for i := range r.polls {
		r.polls[i].Revents = 0
	}
	if _, err := unix.Poll(r.polls, -1); err != nil && !errors.Is(err, unix.EINTR) {
		return os.NewSyscallError("poll", err)
	}
	for _, p := range r.polls {
		if p.Revents&unix.POLLERR == 0 {
			continue
		}
		code, err := unix.GetsockoptInt(int(p.Fd), unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && code != 0 {
			err = unix.Errno(code) // ENETDOWN: somebody has set the interface down
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// wake ends the waiting of an idle receiver, for good.
func (r *rest) wake() error {
	if len(r.polls) == 0 {
		return nil
	}
	_, err := unix.Write(r.bell(), binary.NativeEndian.AppendUint64(nil, 1))
	return os.NewSyscallError("write eventfd", err)
}

func (r *rest) close() error {
	if len(r.polls) == 0 {
		return nil
	}
	return os.NewSyscallError("close eventfd", unix.Close(r.bell()))
}

func (r *rest) bell() int { return int(r.polls[len(r.polls)-1].Fd) }
