package main

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"flashtap/collector/internal/clock"
	"flashtap/events"
	"flashtap/testutil/bench/traffic"
	"flashtap/testutil/bench/verify"
	"flashtap/testutil/chrony"
)

// relay lets programs in the receiver's namespace reach a service of this machine at its own address.
func (w *wire) relay(service string) {
	w.t.Helper()
	u, err := url.Parse(service)
	if err != nil {
		w.t.Fatal(err)
	}
	var listener net.Listener
	within(w.t, w.ReceiveNamespace, func() (err error) {
		listener, err = net.Listen("tcp", u.Host)
		return err
	})
	w.t.Cleanup(func() { listener.Close() })
	go forward(listener, u.Host, func() {})
}

// chronyd answers in the receiver's namespace, where the collector asks it, as Amazon's time service lets it.
func (w *wire) chronyd() {
	w.t.Helper()
	var conn net.PacketConn
	within(w.t, w.ReceiveNamespace, func() (err error) {
		conn, err = net.ListenPacket("udp", clock.Chrony)
		return err
	})
	served := make(chan error, 1)
	go func() {
		served <- chrony.Serve(conn, func() [][]byte {
			return [][]byte{chrony.State{RefID: 0xa9fea97b, Family: 1, Address: net.IPv4(169, 254, 169, 123).To4(), Stratum: 4}.Bytes()}
		})
	}()
	w.t.Cleanup(func() {
		conn.Close()
		if err := <-served; err != nil {
			w.t.Error(err)
		}
	})
}

// On an instance, the collector finds the interface by the addresses that the metadata service tells, chooses the ring
// by itself, gives up its privileges, and brings everything to the bucket; checkpoints tell how far it is.
func TestLiveAnInstanceReceivesByRing(t *testing.T) {
	w := newWire(t)
	r := newRig(t, shared, func(c *events.CollectorConfig) {
		c.VNI, c.Sources = 4242, []string{source4, source6}
		c.SegmentBytes, c.SpoolBytes, c.DrainSeconds = 2<<20, 1<<30, 60
	})
	r.serveMetadata(target4, nil)
	r.listen = ""
	w.relay(r.server.Endpoint())
	w.relay(r.metadata.URL)
	w.chronyd()
	within(t, w.ReceiveNamespace, func() error {
		r.start()
		return nil
	})
	r.await("a checkpoint", func() bool { return len(r.checkpointFiles()) > 0 })
	if first := r.last(); first.State != events.CollectorCapturing || first.Tally != (events.Tally{}) {
		t.Errorf("the first checkpoint is %+v", first)
	}
	by4 := w.generator(func(p *traffic.Plan) { p.Sizes, p.VNIs = []int{64, 594, 1400}, 2 }) // every other frame is of another session
	by6 := w.generator(func(p *traffic.Plan) { p.Sizes, p.VNIs, p.Run = []int{64, 594, 1400}, 2, 2; over6(p) })
	const rounds, each = 8, 3000
	pid := r.cmd.Process.Pid
	var counts []int
	for i := range uint64(rounds) {
		w.send(by4, i*each, each, 20_000)
		w.send(by6, i*each, each, 20_000)
		r.await("a checkpoint with the frames so far", func() bool { return r.last().Tally.Received == (i+1)*2*each })
		if entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid)); err == nil {
			counts = append(counts, len(entries))
		}
	}
	if !raceEnabled {
		static(t)
		powersGone(t, pid)
	}
	level(t, counts[1:]) // connections to the store stay open
	r.stop(exitConfirmed)

	const received, written = 2 * rounds * each, rounds * each
	e := r.evidence()
	m := e.manifest
	t.Logf("%d segments, %d checkpoints, open files %v", len(m.Segments), len(e.checkpoints), counts)
	if m.Tally.Received != received || m.Tally.Uploaded != written || m.Tally.Rejected != (events.Rejected{ForeignVNI: received - written}) || m.Tally.Lost() != 0 {
		t.Errorf("%d were sent, of which %d of the session: %+v, %v", received, written, m.Tally, m.Host)
	}
	if final := e.checkpoints[m.Checkpoints-1]; final.Tally != m.Tally || final.State != events.CollectorClosed || final.Pending != 0 {
		t.Errorf("the last checkpoint is %+v", final)
	}
	for _, clock := range []*events.Clock{m.Clock.Start, m.Clock.End} {
		if clock.Source != "chrony 169.254.169.123" || !clock.Synchronized || clock.Stratum != 4 {
			t.Errorf("of the clock, the manifest says %+v", clock)
		}
	}
	said := strings.Join(m.Notes, "\n")
	if !strings.Contains(said, "received by ring (it is allowed here)") || !strings.Contains(said, w.ReceiveInterface) || m.Error != "" {
		t.Errorf("the manifest says %q, and of faults %q", said, m.Error)
	}
	segments := filepath.Join(r.path(events.CollectorPrefix(r.cfg.Capture, r.userID())))
	for version, g := range map[string]*traffic.Generator{"IPv4": by4, "IPv6": by6} {
		v, err := verify.Verify([]string{segments}, rounds*each, verify.Options{Traffic: g, VNIs: []uint32{4242}})
		// The frames of the other run are foreign to this one.
		if err != nil || v.Lost != 0 || v.Intact != written/2 || v.Foreign != written/2 || v.Duplicate+v.Corrupt+v.Truncated+v.Merged+v.WrongVNI+v.Reordered+v.StampsBack != 0 {
			t.Errorf("%s: %s, %v", version, v, err)
		}
	}
	if left := r.spoolFiles(); len(left) != 0 {
		t.Errorf("left in the spool: %v", left)
	}
}
