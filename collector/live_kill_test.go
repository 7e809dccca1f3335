package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"flashtap/collector/segment"
	"flashtap/events"
	"flashtap/testutil/bench/send"
	"flashtap/testutil/bench/traffic"
	"flashtap/testutil/bench/verify"
	"flashtap/testutil/packets"
)

// kills is how often a collector is killed, at instants that nobody chooses.
const kills = 20

func instant() time.Duration { return rand.N(500 * time.Millisecond) }

// A collector that is killed leaves sealed segments, and one that is open: the next run in the folder makes the open
// one whole, goes on with the numbers, and says which it is.
func TestLiveTwentyKillsSpoilNothing(t *testing.T) {
	w := newWire(t)
	g := w.generator(func(p *traffic.Plan) { p.Sizes = []int{64, 300, 1400} })
	dir := filepath.Join(t.TempDir(), "capture")
	ctx, end := context.WithCancel(t.Context())
	sent := make(chan send.Result)
	go func() {
		rate, _ := modest(10_000, 0)
		cfg := w.config(g, 0, 1<<40, rate)
		cfg.Longest = time.Hour
		r, _ := send.Run(ctx, cfg) // ended by ctx
		sent <- r
	}()
	sealed := map[string]bool{} // everything that was ever sealed
	opened := map[int]bool{}    // segments that a kill has left open
	var last []int
	for range kills {
		col := w.capture(t, asRoot, dir, "--segment-bytes", "1MiB")
		time.Sleep(instant())
		col.signal(syscall.SIGKILL)
		<-col.Ended()
		paths, err := verify.Recordings(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			if !sealed[path] {
				inspected(t, path)
			}
			sealed[path] = true
		}
		last = openIn(t, dir)
		for _, seq := range last {
			opened[seq] = true
		}
	}
	col := w.capture(t, asRoot, dir, "--segment-bytes", "1MiB")
	col.writes()
	m := col.stop()
	end()
	total := (<-sent).Sent

	files := sealedIn(t, dir)
	var own uint64
	for i, f := range files {
		if f.Seq != i+1 {
			t.Errorf("segment %d follows %d", f.Seq, i)
		}
		delete(sealed, f.Path)
		if i >= len(files)-len(m.Segments) {
			own += f.Packets
		}
	}
	if len(sealed) != 0 {
		t.Errorf("segments that were sealed are gone: %v", sealed)
	}
	if left := openIn(t, dir); len(left) != 0 {
		t.Errorf("segments are still open: %v", left)
	}
	v := col.verdict(0, verify.Options{Traffic: g})
	t.Logf("%d kills, %d segments, %d of them left open by a kill, %d of %d frames", kills, len(files), len(opened), v.Intact, total)
	if !v.Whole() || v.Reordered != 0 || v.StampsBack != 0 || v.Intact == 0 || v.Intact > total || len(opened) == 0 {
		t.Errorf("of %d frames: %s", total, v)
	}
	if own != m.Tally.Written || m.Tally.Written == 0 || m.Tally.Lost() != 0 {
		t.Errorf("the last run's segments hold %d frames: %+v", own, m.Tally)
	}
	declared := strings.Join(m.Faults, "\n")
	for _, seq := range last {
		if m.Complete || !strings.Contains(declared, fmt.Sprintf("segment %d is what a crash had left", seq)) {
			t.Errorf("complete: %t; the manifest does not say that segment %d was recovered:\n%s", m.Complete, seq, said(m))
		}
	}
	if !strings.Contains(said(m), "segments 1 to ") || !strings.Contains(said(m), "were there before this capture began") {
		t.Errorf("the manifest does not say which segments are from before:\n%s", said(m))
	}
}

// openIn are the numbers of the open segments that hold a frame.
func openIn(t *testing.T, dir string) (seqs []int) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		seq := segment.Number(filepath.Join(dir, e.Name()))
		if info, err := e.Info(); err == nil && seq > 0 && e.Name() == segment.OpenName(seq) && info.Size() > 24+16+64 {
			seqs = append(seqs, seq)
		}
	}
	return seqs
}

// For the bucket, a collector that is killed again and again goes on with its checkpoints as well, and everything that
// was on disk arrives once. What is in the bucket at each kill verifies up to the last checkpoint.
func TestLiveTwentyKillsSpoilNothingInTheBucket(t *testing.T) {
	t.Parallel()
	r := newRig(t, shared, func(c *events.CollectorConfig) { c.SegmentBytes, c.SpoolBytes = 1<<18, 1<<30 })
	r.listen = freePort(t)
	stop := make(chan struct{})
	var (
		sender                sync.WaitGroup
		sent                  int
		checkpoints, segments int // that held, at the last kill
	)
	sender.Go(func() { sent = r.stream(stop) })
	checked := map[string]bool{}
	for range kills {
		r.start()
		r.awaitListening()
		time.Sleep(instant())
		r.signal(syscall.SIGKILL)
		<-r.ended
		checkpoints, segments = r.holds(checked)
	}
	t.Logf("at the last kill, the bucket held %d checkpoints and %d segments that they know", checkpoints, segments)
	if checkpoints < kills/2 || segments == 0 {
		t.Errorf("%d checkpoints and %d segments: the test shows little", checkpoints, segments)
	}
	r.ready()
	time.Sleep(200 * time.Millisecond)
	r.stop(exitConfirmed)
	close(stop)
	sender.Wait()
	e := r.evidence() // checks the chain of checkpoints, the digests and the sums
	m := e.manifest
	recovered, previous := 0, -1
	for _, s := range m.Segments {
		if !s.Confirmed {
			t.Errorf("segment %d is not confirmed", s.Seq)
		}
		if s.Recovered {
			recovered++
		}
	}
	for i, p := range e.packets {
		n := numberIn(p)
		if n <= previous || n >= sent || string(p.Data) != string(numbered(n, 1, streamSize)[0]) {
			t.Fatalf("packet %d is frame %d of %d, after %d; or not as it was sent", i, n, sent, previous)
		}
		previous = n
	}
	t.Logf("%d kills, %d segments, %d of them recovered, %d of %d frames, %d checkpoints", kills, len(m.Segments), recovered, len(e.packets), sent, len(e.checkpoints))
	if uint64(len(e.packets)) != m.Tally.Uploaded || m.Tally.Uploaded != m.Tally.Written || len(e.packets) == 0 || recovered == 0 {
		t.Errorf("%d packets, %d segments recovered, %+v", len(e.packets), recovered, m.Tally)
	}
	if !strings.Contains(m.Error, "crash: the collector ended without a word") {
		t.Errorf("the manifest does not declare the crashes: %s", m.Error)
	}
	if left := r.spoolFiles(); len(left) != 0 {
		t.Errorf("left in the spool: %v", left)
	}
}

// A collector that is killed while it drains and says its last words is no exception.
func TestKilledWhileItEnds(t *testing.T) {
	t.Parallel()
	killed, concluded := 0, 0
	for i := range 8 {
		r := newRig(t, shared, func(c *events.CollectorConfig) { c.SegmentBytes = 1 << 16 })
		r.ready()
		sent := numbered(0, 200, 1000)
		r.send(sent...)
		r.await("the first segment", func() bool { return r.last().Segments > 0 })
		r.signal(syscall.SIGTERM)
		time.Sleep(time.Duration(i)*8*time.Millisecond + rand.N(8*time.Millisecond))
		if err := r.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		<-r.ended
		if r.cmd.ProcessState.ExitCode() < 0 {
			killed++
		}
		r.holds(map[string]bool{})
		if _, err := os.Stat(r.path(events.CollectorManifestKey(r.cfg.Capture, r.userID()))); err == nil {
			concluded++
		}
		r.start()
		r.await("it to end, or to capture again since the end was not noted", func() bool {
			select {
			case <-r.ended:
				return true
			default:
				return r.capturing()
			}
		})
		if r.capturing() {
			r.signal(syscall.SIGTERM)
		}
		r.end(exitConfirmed)
		r.sameFrames(r.evidence(), sent)
	}
	t.Logf("%d of 8 were killed in time; %d manifests were in the bucket then", killed, concluded)
	if killed == 0 {
		t.Error("all had ended before: the test shows nothing")
	}
}

// capturing says whether the running collector has begun to capture.
func (r *rig) capturing() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.log[r.begun:], func(line map[string]any) bool { return line["msg"] == "capturing" })
}

const streamSize = 300

// stream sends numbered frames to where the collector listens, whether or not it does, and returns how many.
func (r *rig) stream(stop <-chan struct{}) (sent int) {
	conn, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(suspect)}, mustResolve(r.listen))
	if err != nil {
		r.t.Error(err)
		return 0
	}
	defer conn.Close()
	for {
		select {
		case <-stop:
			return sent
		case <-time.After(time.Millisecond):
		}
		for _, f := range numbered(sent, 5, streamSize) {
			conn.Write(packets.VXLAN(vni, f)) //nolint:errcheck // nobody may be there
			sent++
		}
	}
}

// numberIn is the number of a frame that numbered has made; -1: of none.
func numberIn(f packets.Frame) int {
	n := -1
	if len(f.Data) == streamSize {
		fmt.Sscanf(string(f.Data[14+20+8:]), "frame %d", &n) //nolint:errcheck // -1
	}
	return n
}

// freePort is an address that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.LocalAddr().String()
}

func mustResolve(addr string) *net.UDPAddr {
	a, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		panic(err)
	}
	return a
}
