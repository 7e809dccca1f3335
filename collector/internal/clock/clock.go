// Package clock asks how the machine's clock stands: chrony, where it runs, or else the kernel.
package clock

import (
	"errors"
	"fmt"
	"math"
	"net"
	"time"

	"github.com/facebook/time/ntp/chrony"
	"golang.org/x/sys/unix"

	"flashtap/events"
)

// Chrony is where chronyd answers questions of its own machine (chrony.conf(5), "cmdport").
const Chrony = "127.0.0.1:323"

// patience is how long chronyd may take to answer.
const patience = time.Second

// Clock can be asked at any time, also by a process that has given up its privileges.
type Clock struct {
	conn   net.Conn
	chrony chrony.Client
}

// Open prepares to ask chronyd at an address. It need not be there.
func Open(address string) (*Clock, error) {
	conn, err := net.Dial("udp", address)
	if err != nil {
		return nil, fmt.Errorf("reach chronyd: %w", err)
	}
	return &Clock{conn: conn, chrony: chrony.Client{Connection: conn}}, nil
}

// Close ends asking.
func (c *Clock) Close() error { return c.conn.Close() }

// Ask says how the clock stands.
func (c *Clock) Ask() (events.Clock, error) {
	at := time.Now().UTC()
	told, err := c.track()
	if err == nil {
		return tracked(told, at), nil
	}
	var t unix.Timex // modes 0: only to read (adjtimex(2))
	state, errKernel := unix.Adjtimex(&t)
	if errKernel != nil {
		return events.Clock{}, fmt.Errorf("ask how the clock stands: %w", errors.Join(err, fmt.Errorf("adjtimex: %w", errKernel)))
	}
	return kernel(t, state, at), nil
}

// track asks chronyd. What still comes in answer to an earlier call is passed over.
func (c *Clock) track() (chrony.Tracking, error) {
	if err := c.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return chrony.Tracking{}, fmt.Errorf("ask chronyd: %w", err)
	}
	before := c.chrony.Sequence
	for {
		answer, err := c.chrony.Communicate(chrony.NewTrackingPacket())
		if err != nil {
			return chrony.Tracking{}, fmt.Errorf("ask chronyd: %w", err)
		}
		if t, ok := answer.(*chrony.ReplyTracking); ok && t.Sequence > before && t.Sequence <= c.chrony.Sequence {
			return t.Tracking, nil
		}
	}
}

// tracked is what chronyd says. Its correction is positive when the clock is slow, and the error is at most what
// chronyc(1), "tracking", makes of it.
func tracked(t chrony.Tracking, at time.Time) events.Clock {
	name := chrony.RefidToString(t.RefID) // of a device
	if t.IPAddr != nil {
		name = t.IPAddr.String()
	}
	clock := events.Clock{
		At: at, Source: "chrony " + name, Synchronized: true, Stratum: int(t.Stratum), OffsetNs: nanos(-t.CurrentCorrection),
		MaxErrorNs: nanos(math.Abs(t.CurrentCorrection) + t.RootDispersion + t.RootDelay/2),
	}
	switch t.LeapStatus { // RFC 5905, section 7.3
	case 0:
		clock.Leap = events.LeapNone
	case 1:
		clock.Leap = events.LeapInsert
	case 2:
		clock.Leap = events.LeapDelete
	default:
		clock.Leap, clock.Synchronized = events.LeapUnknown, false
	}
	if name == "" {
		clock.Source = "chrony"
	}
	return clock
}

// nanos are seconds as a record can carry them.
func nanos(seconds float64) int64 {
	switch n := math.Round(seconds * 1e9); {
	case n <= -events.MaxInteger:
		return -events.MaxInteger
	case n < events.MaxInteger:
		return int64(n)
	}
	return events.MaxInteger // or no number at all
}

// kernel is what the kernel says: its offset is what it still has to add, in microseconds unless it says otherwise
// (adjtimex(2)).
func kernel(t unix.Timex, state int, at time.Time) events.Clock {
	offset := -int64(t.Offset)
	if t.Status&unix.STA_NANO == 0 {
		offset *= 1000
	}
	clock := events.Clock{
		At: at, Source: "kernel", Synchronized: state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0,
		OffsetNs: offset, MaxErrorNs: int64(t.Maxerror) * 1000, Leap: events.LeapNone,
	}
	switch {
	case !clock.Synchronized:
		clock.Leap = events.LeapUnknown
	case state == unix.TIME_INS || state == unix.TIME_OOP: // a leap second is to come, or under way
		clock.Leap = events.LeapInsert
	case state == unix.TIME_DEL:
		clock.Leap = events.LeapDelete
	}
	return clock
}
