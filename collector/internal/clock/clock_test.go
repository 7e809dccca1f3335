package clock

import (
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"flashtap/events"
	"flashtap/testutil/chrony"
)

// daemon stands in for chronyd.
type daemon struct {
	conn    net.PacketConn
	answers chan [][]byte // to each question
}

func newDaemon(t *testing.T) *daemon {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{conn: conn, answers: make(chan [][]byte, 10)}
	served := make(chan error, 1)
	go func() { served <- chrony.Serve(conn, func() [][]byte { return <-d.answers }) }()
	t.Cleanup(func() {
		conn.Close()
		close(d.answers)
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return d
}

func ask(t *testing.T, address string) events.Clock {
	t.Helper()
	c, err := Open(address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got, err := c.Ask()
	if err != nil {
		t.Fatal(err)
	}
	if since := time.Since(got.At); since < 0 || since > 10*time.Second || got.At.Location() != time.UTC {
		t.Errorf("asked at %v", got.At)
	}
	got.At = time.Time{}
	return got
}

func TestWhatChronySays(t *testing.T) {
	amazon := net.IPv4(169, 254, 169, 123).To4()
	for reason, test := range map[string]struct {
		says chrony.State
		want events.Clock
	}{
		"slow, by Amazon's time service": {
			chrony.State{RefID: 0xa9fea97b, Family: 1, Address: amazon, Stratum: 4, Correction: 12e-6, Delay: 400e-6, Spread: 100e-6},
			events.Clock{Source: "chrony 169.254.169.123", Synchronized: true, OffsetNs: -12_000, MaxErrorNs: 312_000, Leap: events.LeapNone, Stratum: 4},
		},
		"fast, by IPv6, before a leap second": {
			chrony.State{RefID: 1, Family: 2, Address: net.ParseIP("fd00:ec2::123"), Stratum: 4, Leap: 1, Correction: -0.5, Spread: 0.25},
			events.Clock{Source: "chrony fd00:ec2::123", Synchronized: true, OffsetNs: 500_000_000, MaxErrorNs: 750_000_000, Leap: events.LeapInsert, Stratum: 4},
		},
		"by the machine's own precise clock": {
			chrony.State{RefID: 0x50484330, Stratum: 1, Leap: 2},
			events.Clock{Source: "chrony PHC0", Synchronized: true, Leap: events.LeapDelete, Stratum: 1},
		},
		"by nothing yet": {
			chrony.State{Leap: 3, Spread: 1},
			events.Clock{Source: "chrony", MaxErrorNs: 1_000_000_000, Leap: events.LeapUnknown},
		},
		"numbers beyond all measure": {
			chrony.State{RefID: 0x50484330, Correction: 1e17, Delay: 1e18, Spread: 1e18},
			events.Clock{Source: "chrony PHC0", Synchronized: true, OffsetNs: -events.MaxInteger, MaxErrorNs: events.MaxInteger, Leap: events.LeapNone},
		},
	} {
		d := newDaemon(t)
		d.answers <- [][]byte{test.says.Bytes()}
		got := ask(t, d.conn.LocalAddr().String())
		if off := got.OffsetNs - test.want.OffsetNs; off < -20 || off > 20 { // chrony's numbers have 24 bits
			t.Errorf("%s: offset %d, want %d", reason, got.OffsetNs, test.want.OffsetNs)
		}
		if off := got.MaxErrorNs - test.want.MaxErrorNs; off < -60 || off > 60 {
			t.Errorf("%s: error %d, want %d", reason, got.MaxErrorNs, test.want.MaxErrorNs)
		}
		got.OffsetNs, got.MaxErrorNs = test.want.OffsetNs, test.want.MaxErrorNs
		if got != test.want {
			t.Errorf("%s: %+v, want %+v", reason, got, test.want)
		}
	}
	if nanos(math.NaN()) != events.MaxInteger {
		t.Error("what is no number has no bound")
	}
}

// Whatever is wrong with chronyd, the kernel is asked instead.
func TestWithoutChrony(t *testing.T) {
	good := chrony.State{RefID: 1, Stratum: 1}.Bytes()
	for reason, answers := range map[string][][]byte{
		"it refuses":               {chrony.State{Status: 2}.Bytes()},
		"it is of another version": {{6, 2, 0, 0}},
		"its answer is cut":        {good[:40]},
		"it says something else":   {chrony.State{Answer: 2}.Bytes()},
		"it says nothing":          {},
		"it answers nothing":       nil,
	} {
		d := newDaemon(t)
		if answers != nil {
			d.answers <- answers
		}
		if got := ask(t, d.conn.LocalAddr().String()); got.Source != "kernel" {
			t.Errorf("%s: %+v", reason, got)
		}
	}
}

// What chronyd answered too late is not taken for the answer to the next question.
func TestAnAnswerThatComesLate(t *testing.T) {
	d := newDaemon(t)
	c, err := Open(d.conn.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	d.answers <- nil
	if got, err := c.Ask(); err != nil || got.Source != "kernel" {
		t.Errorf("%+v, %v", got, err)
	}
	late := chrony.State{RefID: 1, Stratum: 9}.Bytes()
	binary.BigEndian.PutUint32(late[16:], 1)
	d.answers <- [][]byte{late, chrony.State{RefID: 1, Stratum: 2}.Bytes()}
	d.answers <- [][]byte{chrony.State{RefID: 1, Stratum: 3}.Bytes()}
	if got, err := c.Ask(); err != nil || got.Stratum != 2 {
		t.Errorf("%+v, %v", got, err)
	}
}

// Where nobody listens, the kernel is asked at once.
func TestKernel(t *testing.T) {
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := conn.LocalAddr().String()
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	got := ask(t, nobody)
	if took := time.Since(began); took > patience/2 {
		t.Errorf("asking nobody took %v", took)
	}
	var now unix.Timex
	state, err := unix.Adjtimex(&now)
	if err != nil {
		t.Fatal(err)
	}
	if synchronized := state != unix.TIME_ERROR; got.Source != "kernel" || got.Synchronized != synchronized || (got.Leap == events.LeapUnknown) == synchronized || got.Stratum != 0 {
		t.Errorf("%+v; the kernel says %d, %+v", got, state, now)
	}
}

func TestWhatTheKernelSays(t *testing.T) {
	for _, test := range []struct {
		t     unix.Timex
		state int
		want  string
	}{
		{unix.Timex{Offset: 7, Maxerror: 3, Status: unix.STA_PLL}, unix.TIME_OK, "true -7000 3000 none"},
		{unix.Timex{Offset: -7, Maxerror: 3, Status: unix.STA_NANO}, unix.TIME_WAIT, "true 7 3000 none"},
		{unix.Timex{Status: unix.STA_INS}, unix.TIME_INS, "true 0 0 insert"},
		{unix.Timex{Status: unix.STA_INS}, unix.TIME_OOP, "true 0 0 insert"},
		{unix.Timex{Status: unix.STA_DEL}, unix.TIME_DEL, "true 0 0 delete"},
		{unix.Timex{Status: unix.STA_UNSYNC, Maxerror: 16_000_000}, unix.TIME_ERROR, "false 0 16000000000 unknown"},
		{unix.Timex{Status: unix.STA_UNSYNC}, unix.TIME_OK, "false 0 0 unknown"},
	} {
		c := kernel(test.t, test.state, time.Time{})
		if got := fmt.Sprintf("%t %d %d %s", c.Synchronized, c.OffsetNs, c.MaxErrorNs, c.Leap); got != test.want {
			t.Errorf("state %d of %+v: %s, want %s", test.state, test.t, got, test.want)
		}
	}
}
