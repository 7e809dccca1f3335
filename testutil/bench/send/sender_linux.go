// Package send puts numbered traffic onto an interface, as fast as it goes or at a rate.
package send

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"flashtap/testutil/bench/traffic"
)

// Config says what is sent, where and how fast.
type Config struct {
	Interface string
	Namespace string // path of the interface's network namespace; empty: the process's own
	Traffic   *traffic.Generator
	First     uint64 // number of the first frame
	Count     uint64
	Rate      float64 // packets a second, whatever becomes of them; 0: saturation, as many as the interface takes
	CPU       int     // where to run; negative: anywhere

	// Bunch is how far apart packets are handed over: a network card that moderates its interrupts does the same.
	// Default 50 us. A bunch of a millisecond leaves the CPU to others in between.
	Bunch time.Duration
	// Ring is how many packets wait in the network card that a rate imagines in front of the interface. What comes
	// when it is full is refused. Default 4096.
	Ring int
	// Longest ends the sending, whatever was sent by then. Default a minute.
	Longest time.Duration
}

// Result is what became of the packets before they reached the receiving kernel.
type Result struct {
	Sent    uint64  `json:"sent"`    // that the interface took
	Refused uint64  `json:"refused"` // for which the imagined ring had no room; they have numbers, and are losses
	Full    uint64  `json:"full"`    // how often the interface took none
	Bytes   uint64  `json:"bytes"`   // of inner frames
	Seconds float64 `json:"seconds"`
	PPS     float64 `json:"pps"`     // packets offered a second
	StallMS float64 `json:"stallMs"` // how long the sender was kept from its CPU. A rate pauses meanwhile, as no network card would
}

// Offered is how many numbers were used.
func (r Result) Offered() uint64 { return r.Sent + r.Refused }

// batch is how many packets go into one system call; a buffer then always has the same pattern.
const batch = traffic.Patterns

// retryAfter is how long a full interface is left alone.
const retryAfter = 3 * time.Microsecond

// stall is how long nothing that the sender does can take; longer, and it was not on its CPU. The packets of that time
// would come in one heap, which is a test of this machine and not of a collector.
const stall = 2 * time.Millisecond

// sender is one sending thread.
type sender struct {
	cfg      Config
	socket   int
	buffers  [batch]traffic.Buffer
	messages [batch]message
	vectors  [batch]unix.Iovec
	begun    time.Time // of the schedule
	looked   time.Time // when the clock was last asked
	handed   uint64    // packets sent or refused
	result   Result
}

// message is struct mmsghdr.
type message struct {
	header unix.Msghdr
	length uint32
	_      [4]byte
}

// Run sends until all is sent, the time is up or ctx ends. It needs CAP_NET_RAW, and for another namespace
// CAP_SYS_ADMIN.
func Run(ctx context.Context, cfg Config) (Result, error) {
	if cfg.Bunch == 0 {
		cfg.Bunch = 50 * time.Microsecond
	}
	if cfg.Ring == 0 {
		cfg.Ring = 4096
	}
	if cfg.Longest == 0 {
		cfg.Longest = time.Minute
	}
	s := &sender{cfg: cfg}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its CPU and its namespace
		done <- s.run(ctx)
	}()
	if err := <-done; err != nil {
		return s.result, fmt.Errorf("send on interface %s: %w", cfg.Interface, err)
	}
	return s.result, nil
}

func (s *sender) run(ctx context.Context) error {
	if s.cfg.CPU >= 0 {
		var cpus unix.CPUSet
		cpus.Set(s.cfg.CPU)
		if err := unix.SchedSetaffinity(0, &cpus); err != nil {
			return os.NewSyscallError("sched_setaffinity", err)
		}
	}
	// Else a sleep may last 50 us longer.
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl", err)
	}
	if err := enter(s.cfg.Namespace); err != nil {
		return err
	}
	if err := s.open(); err != nil {
		return err
	}
	defer unix.Close(s.socket)
	begun := time.Now()
	s.begun, s.looked = begun, begun
	err := s.sendAll(ctx)
	s.result.Seconds = time.Since(begun).Seconds()
	s.result.PPS = float64(s.handed) / s.result.Seconds
	return err
}

func enter(namespace string) error {
	if namespace == "" {
		return nil
	}
	f, err := os.Open(namespace)
	if err != nil {
		return err
	}
	defer f.Close()
	return os.NewSyscallError("setns", unix.Setns(int(f.Fd()), unix.CLONE_NEWNET))
}

// open makes a socket whose packets go to the driver without a queue in between.
func (s *sender) open() error {
	iface, err := net.InterfaceByName(s.cfg.Interface)
	if err != nil {
		return err
	}
	s.socket, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	err = errors.Join(
		os.NewSyscallError("bind", unix.Bind(s.socket, &unix.SockaddrLinklayer{Ifindex: iface.Index})),
		os.NewSyscallError("setsockopt PACKET_QDISC_BYPASS", unix.SetsockoptInt(s.socket, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1)),
		os.NewSyscallError("setsockopt SO_SNDBUFFORCE", unix.SetsockoptInt(s.socket, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 256<<20)),
	)
	if err != nil {
		return errors.Join(err, unix.Close(s.socket))
	}
	for i := range s.messages {
		s.messages[i].header.Iov = &s.vectors[i]
		s.messages[i].header.SetIovlen(1)
	}
	return nil
}

func (s *sender) sendAll(ctx context.Context) error {
	for s.handed < s.cfg.Count && ctx.Err() == nil && s.elapsed() < s.cfg.Longest {
		due := min(s.await(), s.cfg.Count-s.handed)
		for due > 0 {
			n := min(due, batch-(s.cfg.First+s.handed)%batch)
			if err := s.send(int(n)); err != nil {
				return err
			}
			due -= n
		}
	}
	return ctx.Err()
}

// elapsed is the time on the schedule, which stands still while the sender is kept from its CPU.
func (s *sender) elapsed() time.Duration {
	now := time.Now()
	if gap := now.Sub(s.looked); gap > stall && s.cfg.Rate > 0 {
		s.begun = s.begun.Add(gap)
		s.result.StallMS += gap.Seconds() * 1e3
	}
	s.looked = now
	return now.Sub(s.begun)
}

// await waits for the next bunch and returns how many packets are due.
func (s *sender) await() uint64 {
	if s.cfg.Rate == 0 {
		return batch
	}
	elapsed := s.elapsed()
	next := elapsed.Truncate(s.cfg.Bunch) + s.cfg.Bunch
	if owed := s.owed(elapsed); owed >= 1 && owed >= s.cfg.Rate*s.cfg.Bunch.Seconds() {
		next = elapsed // behind
	}
	for {
		left := next - elapsed
		if left <= 0 {
			if owed := s.owed(elapsed); owed >= 1 {
				return uint64(owed)
			}
			next += s.cfg.Bunch
			continue
		}
		if left > 100*time.Microsecond {
			pause := unix.NsecToTimespec(int64(left - 60*time.Microsecond))
			_ = unix.Nanosleep(&pause, nil) // woken early, it looks again
			s.looked = s.looked.Add(left)   // sleeping is no stall
		}
		elapsed = s.elapsed()
	}
}

// owed is how many packets should have been handed over by then, and were not.
func (s *sender) owed(elapsed time.Duration) float64 {
	return math.Min(elapsed.Seconds()*s.cfg.Rate, float64(s.cfg.Count)) - float64(s.handed)
}

// send makes the next n packets and hands them over.
func (s *sender) send(n int) error {
	now := time.Now().UnixNano()
	first := s.cfg.First + s.handed
	from := int(first % batch)
	for i := range n {
		number := first + uint64(i)
		packet := s.cfg.Traffic.Packet(&s.buffers[from+i], number, now)
		s.vectors[from+i].Base = &packet[0]
		s.vectors[from+i].SetLen(len(packet))
	}
	for end := from + n; from < end; {
		taken, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(s.socket), uintptr(unsafe.Pointer(&s.messages[from])), uintptr(end-from), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			for range taken {
				s.result.Bytes += uint64(s.cfg.Traffic.Size(s.cfg.First + s.handed))
				s.handed++
			}
			s.result.Sent += uint64(taken)
			from += int(taken)
		case unix.EINTR:
		case unix.ENOBUFS, unix.EAGAIN:
			s.result.Full++
			elapsed := s.elapsed()
			if elapsed > s.cfg.Longest {
				return errors.New("it takes no packets")
			}
			if s.cfg.Rate > 0 && s.owed(elapsed) >= float64(s.cfg.Ring) {
				s.result.Refused++
				s.handed++
				from++
				continue
			}
			for again := time.Now().Add(retryAfter); time.Now().Before(again); {
			}
		default:
			return os.NewSyscallError("sendmmsg", errno)
		}
	}
	return nil
}
