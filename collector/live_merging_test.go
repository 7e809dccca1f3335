package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	lab "flashtap/testutil/bench/rig"
	"flashtap/testutil/bench/traffic"
	"flashtap/testutil/bench/verify"
)

// Frames that GRO merges are the reason to distrust the usual recipe: a vxlan device of the kernel, and tcpdump on it.

// streams are 16 segments of a TCP stream in a row, as any download has them.
func streams(p *traffic.Plan) { p.Sizes, p.TCP, p.Flows, p.Burst = []int{1400}, true, 8, 16 }

// tunnel is the name of the kernel's vxlan device, at the receiver.
const tunnel = "vx0"

func (w *wire) addTunnel(g *traffic.Generator) {
	w.t.Helper()
	w.ip("link", "add", tunnel, "type", "vxlan", "id", "4242", "dstport", "4789", "local", g.Plan().Outer.Target.String(), "dev", w.ReceiveInterface)
	w.ip("link", "set", tunnel, "up")
}

const (
	mergingRate  = 60_000
	mergingCount = 30_000
)

// So that the tests below compare with something that is real: this is what tcpdump makes of the same traffic.
func TestLiveTheUsualRecipeMergesFrames(t *testing.T) {
	needs(t, "tcpdump")
	w := newWire(t)
	g := w.generator(streams)
	w.addTunnel(g)
	for _, c := range []struct{ reason, iface string }{
		{"on the vxlan device", tunnel},
		{"beside it", w.ReceiveInterface},
	} {
		t.Run(c.reason, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "tcpdump.pcap")
			p, err := w.Start(lab.Program{Args: []string{"tcpdump", "-i", c.iface, "-n", "-B", "65536", "--nano", "-Z", "root", "-w", file}})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Kill()
			if err := p.Await(t.Context(), 30*time.Second, func() bool { return strings.Contains(p.Output(), "listening on") }); err != nil {
				t.Fatal(err)
			}
			w.send(g, 0, mergingCount, mergingRate)
			time.Sleep(1500 * time.Millisecond) // libpcap may keep a block back for a second
			if err := p.Stop(); err != nil {
				t.Fatal(err)
			}
			v, err := verify.Verify([]string{file}, mergingCount, verify.Options{Traffic: g})
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("tcpdump: %s; in all %d records", v, v.Records)
			if v.MergedFrames < mergingCount/2 {
				t.Errorf("%s: this kernel does not merge, so that these tests show nothing", v)
			}
		})
	}
}

// A collector that may configure the interface turns off what merges, and says so.
func TestLiveMergingIsTurnedOff(t *testing.T) {
	w := newWire(t)
	g := w.generator(streams)
	w.addTunnel(g)
	for _, receiver := range []string{"ring", "auto"} {
		t.Run(receiver, func(t *testing.T) {
			w.gro(true)
			col := w.capture(t, asRoot, t.TempDir(), "--receiver", receiver)
			w.send(g, 0, mergingCount, mergingRate)
			m := col.stop()
			col.whole(m, g, mergingCount)
			if !strings.Contains(said(m), "rx-gro turned off") {
				t.Errorf("the manifest does not say that GRO was turned off:\n%s", said(m))
			}
			// Without privileges it can't put that back, so it says how.
			if !w.merges() && !strings.Contains(col.Output(), "ethtool -K "+w.ReceiveInterface+" rx-gro on") {
				t.Errorf("GRO stays off, and nobody says how to turn it on:\n%s", col.Output())
			}
		})
	}
}

// One that may not refuses to make forged evidence, unless it is told to; then the manifest says what it is worth.
func TestLiveMergingThatCannotBeTurnedOffIsRefused(t *testing.T) {
	w := newWire(t)
	g := w.generator(streams)
	w.addTunnel(g)
	t.Run("refused", func(t *testing.T) {
		col := w.launch(t, withRaw, t.TempDir())
		if code := col.ends(); code != exitFailed {
			t.Errorf("exit code %d", code)
		}
		for _, part := range []string{w.ReceiveInterface, "vxlan device " + tunnel, "port 4789", "--allow-merging", "run as root"} {
			if !strings.Contains(col.Output(), part) {
				t.Errorf("it does not name %q:\n%s", part, col.Output())
			}
		}
		if strings.Contains(col.Output(), "READY") {
			t.Error("it said that it captures")
		}
	})
	t.Run("accepted", func(t *testing.T) {
		col := w.capture(t, withRaw, t.TempDir(), "--allow-merging")
		w.send(g, 0, mergingCount, mergingRate)
		m := col.stop()
		v := col.verdict(mergingCount, verify.Options{Traffic: g})
		t.Logf("with --allow-merging: %s", v)
		if v.MergedFrames == 0 {
			t.Errorf("%s: nothing was merged, so that there was no risk", v)
		}
		if declared := strings.Join(m.Faults, "\n"); m.Complete || !strings.Contains(declared, "may merge frames") || !strings.Contains(declared, tunnel) {
			t.Errorf("complete: %t, faults: %s", m.Complete, declared)
		}
	})
	t.Run("a socket is no way around it", func(t *testing.T) {
		col := w.launch(t, powerless, t.TempDir(), "--receiver", "socket")
		if code := col.ends(); code != exitFailed || !strings.Contains(col.Output(), tunnel) {
			t.Errorf("exit code %d:\n%s", code, col.Output())
		}
	})
}

// What comes up during a capture can't be prevented any more. It is declared.
func TestLiveATunnelThatComesUpLaterIsDeclared(t *testing.T) {
	w := newWire(t)
	g := w.generator(streams)
	col := w.capture(t, asRoot, t.TempDir())
	w.send(g, 0, mergingCount/2, mergingRate)
	w.addTunnel(g)
	w.send(g, mergingCount/2, mergingCount/2, mergingRate)
	m := col.stop()
	v := col.verdict(mergingCount, verify.Options{Traffic: g})
	t.Logf("with a tunnel from the middle on: %s", v)
	if v.MergedFrames == 0 || v.Lost != v.MergedFrames {
		t.Errorf("%s: want the second half merged, and nothing else", v)
	}
	if declared := strings.Join(m.Faults, "\n"); m.Complete || !strings.Contains(declared, "may merge frames") || !strings.Contains(declared, tunnel) {
		t.Errorf("complete: %t, faults: %s", m.Complete, declared)
	}
}
