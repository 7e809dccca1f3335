package main

import (
	"syscall"
	"testing"
	"time"

	"flashtap/collector/internal/standalone"
	"flashtap/testutil/bench/send"
	"flashtap/testutil/bench/traffic"
	"flashtap/testutil/bench/verify"
)

// pauses stops the collector for most of the time, until done.
func (c *folder) pauses(done <-chan struct{}) {
	const stopped, running = 200 * time.Millisecond, 15 * time.Millisecond
	defer syscall.Kill(c.PID, syscall.SIGCONT) //nolint:errcheck // it may have ended
	for {
		for _, s := range []struct {
			signal syscall.Signal
			time   time.Duration
		}{{syscall.SIGSTOP, stopped}, {syscall.SIGCONT, running}} {
			syscall.Kill(c.PID, s.signal) //nolint:errcheck // the test finds out
			select {
			case <-done:
				return
			case <-time.After(s.time):
			}
		}
	}
}

// unhindered lets the collector do what it can.
func (c *folder) unhindered(<-chan struct{}) {}

// However much more comes than the collector can take: the manifest's sums are the sender's, to the packet.
func TestLiveEveryPacketOfAnOverloadIsAccountedFor(t *testing.T) {
	w := newWire(t)
	g := w.generator(func(p *traffic.Plan) { p.VNIs = 4 })
	_, count := modest(0, 150_000)
	for _, c := range []struct {
		reason   string
		who      []string
		args     []string
		slow     func(*folder, <-chan struct{})
		dropped  func(standalone.Manifest) uint64
		overload uint64 // how many times what it takes is offered, at the least; 0: that is up to the machine
	}{
		{"a ring that is stopped most of the time", asRoot, []string{"--receiver", "ring", "--ring-bytes", "2MiB"}, (*folder).pauses, ringDropped, 3},
		{"a ring for one session of four", asRoot, []string{"--receiver", "ring", "--ring-bytes", "2MiB", "--vni", "4242"}, (*folder).pauses, ringDropped, 3},
		{"a ring that does what it can", asRoot, []string{"--receiver", "ring", "--ring-bytes", "2MiB"}, (*folder).unhindered, ringDropped, 0},
		{"a socket with the queue of the unprivileged", powerless, []string{"--receiver", "socket"}, (*folder).pauses, socketDropped, 3},
		{"a socket that does what it can", asRoot, []string{"--receiver", "socket"}, (*folder).unhindered, socketDropped, 0},
	} {
		t.Run(c.reason, func(t *testing.T) {
			col := w.capture(t, c.who, t.TempDir(), append(c.args, "--segment-bytes", "32MiB")...)
			done, slowed := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(slowed)
				c.slow(col, done)
			}()
			sent := w.saturate(g, count)
			close(done)
			<-slowed
			w.settle()
			m := col.stop()
			tally := m.Tally
			t.Logf("%.0f kpps offered; %d received and %d dropped of %d", sent.PPS/1000, tally.Received, tally.Lost(), sent.Sent)
			if tally.Received+tally.RingDropped+tally.SocketDropped+tally.HostDropped != sent.Sent {
				t.Errorf("%d were sent, the tally says %+v, %v", sent.Sent, tally, m.Host)
			}
			if dropped := c.dropped(m); dropped != tally.Lost() || c.overload > 0 && dropped == 0 || tally.Received*c.overload > sent.Sent {
				t.Errorf("this was to be an overload of the receiver: %d sent, %+v", sent.Sent, tally)
			}
			if m.Complete != (tally.Lost() == 0) {
				t.Errorf("complete: %t, lost: %d", m.Complete, tally.Lost())
			}
			col.agrees(m)
			opts := verify.Options{Traffic: g}
			if m.VNI != nil {
				opts.VNIs = []uint32{*m.VNI}
			}
			v := col.verdict(0, opts)
			if !v.Whole() || v.Intact != tally.Written || v.Records != tally.Written || v.Reordered != 0 {
				t.Errorf("the tally says %d written: %s", tally.Written, v)
			}
			if (tally.Rejected.ForeignVNI > 0) != (m.VNI != nil) || tally.Rejected.ForeignVNI != tally.Rejected.Total() {
				t.Errorf("rejected %+v", tally.Rejected)
			}
		})
	}
}

func ringDropped(m standalone.Manifest) uint64   { return m.Tally.RingDropped }
func socketDropped(m standalone.Manifest) uint64 { return m.Tally.SocketDropped }

// saturate sends as fast as it goes.
func (w *wire) saturate(g *traffic.Generator, count uint64) send.Result {
	w.t.Helper()
	sent, err := send.Run(w.t.Context(), w.config(g, 0, count, 0))
	if err != nil || sent.Sent != count {
		w.t.Fatalf("sent %d of %d frames: %v", sent.Sent, count, err)
	}
	return sent
}
