package main

import (
	"context"
	"net/netip"
	"testing"

	"flashtap/testutil/bench/send"
	"flashtap/testutil/bench/traffic"
	"flashtap/testutil/packets"
)

// tempting is what GRO would merge if it could: TCP streams in bursts, in frames of every size, of two sessions.
func tempting(p *traffic.Plan) {
	p.Sizes, p.TCP, p.Flows, p.Burst, p.VNIs = []int{1400, 1400, 594, 1400, 76, 1518, 8945, 1400}, true, 8, 16, 2
}

// over6 carries frames by IPv6, with UDP checksums.
func over6(p *traffic.Plan) {
	p.Outer.Source, p.Outer.Target = netip.IPv6Loopback(), netip.IPv6Loopback() // the wire has the real ones
}

// Whatever carries the frames, and whether or not the kernel may merge packets: at a rate that the collector can take,
// each frame is in the evidence once, byte for byte and in order.
func TestLiveEveryFrameIsKept(t *testing.T) {
	w := newWire(t)
	for _, gro := range []bool{true, false} {
		w.gro(gro)
		for _, c := range []struct {
			reason   string
			receiver string
			change   func(*traffic.Plan)
		}{
			{"IPv4", "ring", func(*traffic.Plan) {}},
			{"IPv4", "socket", func(*traffic.Plan) {}},
			{"IPv4 with options", "ring", func(p *traffic.Plan) { p.Outer.Options = true }},
			{"IPv4 with options", "socket", func(p *traffic.Plan) { p.Outer.Options = true }},
			{"IPv6", "ring", over6},
			{"IPv6", "socket", over6},
			// Without an interface for the tag, no socket ever gets these.
			{"IPv4 behind a VLAN tag", "ring", func(p *traffic.Plan) { p.Outer.VLAN = 100 }},
			{"IPv6 behind a VLAN tag", "ring", func(p *traffic.Plan) { over6(p); p.Outer.VLAN = 100 }},
		} {
			t.Run(title(c.reason, c.receiver, "GRO", gro), func(t *testing.T) {
				g := w.generator(func(p *traffic.Plan) { tempting(p); c.change(p) })
				rate, count := modest(40_000, 25_000)
				col := w.capture(t, asRoot, t.TempDir(), "--receiver", c.receiver, "--segment-bytes", "16MiB")
				w.send(g, 0, count, rate)
				m := col.stop()
				col.whole(m, g, count)
				if w.merges() != gro {
					t.Errorf("GRO is on: %t; without a tunnel it is to stay as it is", !gro)
				}
			})
		}
	}
}

// A person who stops a recording wants what was there by then: all of it, whatever comes before and after.
func TestLiveNothingIsLostWhenACaptureIsStopped(t *testing.T) {
	w := newWire(t)
	g := w.generator(func(p *traffic.Plan) { p.Sizes = []int{300} })
	rate, count := modest(100_000, 100_000)
	for _, receiver := range []string{"ring", "socket"} {
		t.Run(title("right after the last frame", receiver), func(t *testing.T) {
			col := w.capture(t, asRoot, t.TempDir(), "--receiver", receiver)
			w.send(g, 0, count, rate)
			m := col.stop()
			col.whole(m, g, count)
			if m.Tally.RingDropped+m.Tally.SocketDropped != 0 || len(m.Segments) != 1 {
				t.Fatalf("%+v in %d segments", m.Tally, len(m.Segments))
			}
			if !nanoseconds(t, sealedIn(t, col.dir)[0].Path) {
				t.Error("the timestamps are whole microseconds")
			}
		})
		t.Run(title("while frames go on", receiver), func(t *testing.T) {
			ctx, end := context.WithCancel(t.Context())
			done := make(chan send.Result)
			const before = 1000
			w.send(g, 0, before, rate/2)
			go func() {
				sent, _ := send.Run(ctx, w.config(g, before, 1<<40, rate/2)) // ended by ctx
				done <- sent
			}()
			col := w.capture(t, asRoot, t.TempDir(), "--receiver", receiver)
			col.writes()
			m := col.stop()
			end()
			sent := <-done
			// Those from one moment to another, without a gap.
			first := numberOfFirst(t, g, sealedIn(t, col.dir)[0].Path)
			col.wholeFrom(m, g, first, m.Tally.Written)
			t.Logf("%d frames from number %d on, of %d", m.Tally.Written, first, before+sent.Sent)
			if first < before {
				t.Errorf("frame %d came before the capture began", first)
			}
		})
	}
}

// numberOfFirst is the number of the first frame in a file.
func numberOfFirst(t *testing.T, g *traffic.Generator, path string) uint64 {
	t.Helper()
	frames, err := packets.ReadFile(path)
	if err != nil || len(frames) == 0 {
		t.Fatalf("%d frames, %v", len(frames), err)
	}
	stamp, ok := g.Stamp(frames[0].Data)
	if !ok {
		t.Fatal("the first frame is none of those that were sent")
	}
	return stamp.Number
}

// nanoseconds says whether timestamps are finer than microseconds.
func nanoseconds(t *testing.T, path string) bool {
	t.Helper()
	frames, err := packets.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range frames {
		if f.At.Nanosecond()%1000 != 0 {
			return true
		}
	}
	return false
}
