package ingest

import (
	"encoding/binary"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// longest is how long a busy receiver lets packets gather. Being woken costs more than taking hundreds of them, as
	// much as 50 us under a hypervisor.
	longest = 16 * time.Millisecond

	// shortest is the nap that is not worth it: then it waits to be woken.
	shortest = 200 * time.Microsecond

	// burstRate is, in bytes a second, what may come all of a sudden: three times 10 Gbit/s, so that a burst of that finds
	// room for two naps more.
	burstRate = 3 * 10e9 / 8

	// napShare is which part of the ring or queue may fill during a nap, at the rate of before. The rest is for bursts,
	// and for a scheduler that comes late.
	napShare = 8

	// naps is how many naps without a packet make a receiver an idle one, which waits to be woken.
	naps = 8
)

// rest is how a receiver waits: in naps while it is busy, until it is woken when nothing comes.
//
// It asks poll(2) itself. The runtime's poller would be woken by every packet, also during a nap.
type rest struct {
	room  int           // what the ring or queue holds, in bytes
	limit time.Duration // of a nap
	polls []unix.PollFd // the last one is the bell
	quiet int           // naps in a row without a packet
	taken int           // of room, since the last nap began
	since time.Time     // when that was
}

// newRest waits for packets on any of the sockets, which hold room bytes together. Without close, it leaks a descriptor.
func newRest(sockets []int, room int) (rest, error) {
	bell, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return rest{}, os.NewSyscallError("eventfd", err)
	}
	r := rest{room: room, limit: min(longest, time.Duration(float64(room)/burstRate*float64(time.Second))), since: time.Now()}
	for _, fd := range append(sockets, bell) {
		r.polls = append(r.polls, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	return r, nil
}

// took notes that packets came, and how much of the room they had filled.
func (r *rest) took(room int) {
	r.quiet = 0
	r.taken += room
}

// nap is how long packets may gather: until napShare of the room is full, if they come as fast as before.
func (r *rest) nap(passed time.Duration) time.Duration {
	if r.taken <= 0 {
		return r.limit
	}
	return min(r.limit, time.Duration(float64(passed)*float64(r.room)/napShare/float64(r.taken)))
}

// wait waits for packets, or only for a nap.
func (r *rest) wait(short bool) error {
	now := time.Now()
	nap := r.nap(now.Sub(r.since))
	r.taken, r.since = 0, now
	if short {
		nap = max(shortest, nap)
	}
	if nap >= shortest && (r.quiet < naps || short) {
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
