package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/safchain/ethtool"
	"golang.org/x/sys/unix"

	"flashtap/collector/internal/standalone"
	"flashtap/collector/segment"
	lab "flashtap/testutil/bench/rig"
	"flashtap/testutil/bench/send"
	"flashtap/testutil/bench/traffic"
	"flashtap/testutil/bench/verify"
)

// The tests named Live run the program in a network namespace that receives numbered traffic from another one, by way
// of a veth pair. Rates are modest and patience is large: they hold on a machine that others use as well.

// wire is the two namespaces.
type wire struct {
	*lab.Rig
	t      *testing.T
	marks  *tap // at the receiver: see settle
	sender *tap
	number uint32
}

// typeMark is an Ethernet type for experiments (IEEE 802).
const typeMark = 0x88b5

// newWire makes the namespaces, which end with the test.
func newWire(t *testing.T) *wire {
	t.Helper()
	needs(t, "ip")
	rig, err := lab.New(lab.Config{SendCPU: 0, ReceiveCPU: min(1, runtime.NumCPU()-1), Base: t.TempDir()})
	if errors.Is(err, lab.ErrPermission) {
		if os.Getenv("CI") == "true" {
			t.Fatal("no right to make a network namespace; in CI there must be")
		}
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{Rig: rig, t: t}
	t.Cleanup(func() {
		if err := rig.Close(); err != nil {
			t.Error(err)
		}
	})
	w.marks = w.tap(w.ReceiveNamespace, w.ReceiveInterface, typeMark)
	w.sender = w.tap(w.SendNamespace, w.SendInterface, unix.ETH_P_ALL)
	return w
}

// needs skips the test when a program is not installed.
func needs(t *testing.T, tool string) {
	t.Helper()
	if _, err := exec.LookPath(tool); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

// within calls f on a thread of its own in a network namespace. What f starts lives there, too.
func within(t *testing.T, namespace string, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with f
		ns, err := os.Open(namespace)
		if err == nil {
			err = errors.Join(os.NewSyscallError("setns", unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)), ns.Close())
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// ip runs iproute2 in the receiver's namespace.
func (w *wire) ip(args ...string) {
	w.t.Helper()
	args = append([]string{"-n", filepath.Base(w.ReceiveNamespace)}, args...)
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		w.t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// gro turns GRO on the receiving interface on or off.
func (w *wire) gro(on bool) {
	w.t.Helper()
	within(w.t, w.ReceiveNamespace, func() error {
		tool, err := ethtool.NewEthtool()
		if err != nil {
			return err
		}
		defer tool.Close()
		return tool.Change(w.ReceiveInterface, map[string]bool{"rx-gro": on})
	})
}

// merges says whether GRO is on.
func (w *wire) merges() (on bool) {
	w.t.Helper()
	within(w.t, w.ReceiveNamespace, func() error {
		tool, err := ethtool.NewEthtool()
		if err != nil {
			return err
		}
		defer tool.Close()
		features, err := tool.Features(w.ReceiveInterface)
		on = features["rx-gro"]
		return err
	})
	return on
}

// generator makes the traffic of a plan between the two ends.
func (w *wire) generator(change func(*traffic.Plan)) *traffic.Generator {
	w.t.Helper()
	plan := traffic.DefaultPlan()
	if change != nil {
		change(&plan)
	}
	g, err := traffic.New(w.Plan(plan))
	if err != nil {
		w.t.Fatal(err)
	}
	return g
}

// config is how the wire's traffic is sent.
func (w *wire) config(g *traffic.Generator, first, count uint64, rate float64) send.Config {
	return send.Config{
		Interface: w.SendInterface, Namespace: w.SendNamespace, Traffic: g, First: first, Count: count, Rate: rate,
		CPU: w.SendCPU(), Bunch: time.Millisecond,
		Ring: 1 << 30, // when the receiver is busy with other things, the sender waits
	}
}

// send sends frames, and returns when the receiver's kernel has dealt with all of them.
func (w *wire) send(g *traffic.Generator, first, count uint64, rate float64) send.Result {
	w.t.Helper()
	sent, err := send.Run(w.t.Context(), w.config(g, first, count, rate))
	if err != nil || sent.Sent != count {
		w.t.Fatalf("sent %d of %d frames: %v", sent.Sent, count, err)
	}
	w.settle()
	return sent
}

// settle returns when a frame that nobody else is interested in has come through, behind all that was sent before.
func (w *wire) settle() {
	w.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		w.number++
		outer := w.Plan(traffic.DefaultPlan()).Outer
		mark := append(append(outer.TargetMAC[:], outer.SourceMAC[:]...), typeMark>>8, typeMark&0xff)
		mark = append(binary.BigEndian.AppendUint32(mark, w.number), make([]byte, 42)...)
		w.sender.send(w.SendCPU(), mark)
		for _, seen := range w.marks.received(500 * time.Millisecond) {
			if binary.BigEndian.Uint32(seen.data[14:]) == w.number {
				return
			}
		}
	}
	w.t.Fatal("what is sent does not arrive")
}

// Who runs the collector: a program that is started before it takes something away.
var (
	asRoot    []string
	withRaw   = []string{"setpriv", "--bounding-set", "-all,+net_raw"} // packet sockets, but no change of the interface
	powerless = []string{"setpriv", "--bounding-set", "-all"}
)

// folder is a collector that captures into one.
type folder struct {
	*lab.Process
	w   *wire
	t   *testing.T
	dir string
}

// launch starts a collector with everything that it is told.
func (w *wire) launch(t *testing.T, who []string, dir string, args ...string) *folder {
	t.Helper()
	if len(who) > 0 {
		needs(t, who[0])
	}
	line := append(append([]string{}, who...), program, "run", "--interface", w.ReceiveInterface, "--dir", dir)
	p, err := w.Start(lab.Program{Args: append(line, args...)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return &folder{Process: p, w: w, t: t, dir: dir}
}

// capture starts a collector, and returns when it captures.
func (w *wire) capture(t *testing.T, who []string, dir string, args ...string) *folder {
	t.Helper()
	// What is reserved at each start would only cost time.
	c := w.launch(t, who, dir, append([]string{"--reserve", "0"}, args...)...)
	c.ready()
	return c
}

func (c *folder) ready() {
	c.t.Helper()
	if err := c.Await(c.t.Context(), 30*time.Second, func() bool { return strings.Contains(c.Output(), "READY\n") }); err != nil {
		c.t.Fatalf("the collector does not capture: %v", err)
	}
}

// writes waits until a few hundred kilobytes of frames are on disk.
func (c *folder) writes() {
	c.t.Helper()
	if err := c.Await(c.t.Context(), 30*time.Second, func() bool {
		open, _ := filepath.Glob(filepath.Join(c.dir, ".*.pcap.open"))
		for _, path := range open {
			if info, err := os.Stat(path); err == nil && info.Size() > 300_000 {
				return true
			}
		}
		return false
	}); err != nil {
		c.t.Fatalf("no frames are written: %v", err)
	}
}

// ends waits for the exit code.
func (c *folder) ends() int {
	c.t.Helper()
	select {
	case <-c.Ended():
	case <-time.After(40 * time.Second):
		c.t.Fatalf("the collector does not end:\n%s", c.Output())
	}
	var failed *exec.ExitError
	switch err := c.Stop(); { // it has ended, and this says how
	case err == nil:
		return 0
	case errors.As(err, &failed):
		return failed.ExitCode()
	default:
		c.t.Fatal(err)
		return -1
	}
}

func (c *folder) signal(s syscall.Signal) {
	c.t.Helper()
	if err := syscall.Kill(c.PID, s); err != nil {
		c.t.Fatal(err)
	}
}

// stop ends the collector as a person would, and reads its manifest.
func (c *folder) stop() standalone.Manifest {
	c.t.Helper()
	c.signal(syscall.SIGINT)
	if code := c.ends(); code != exitConfirmed {
		c.t.Fatalf("exit code %d:\n%s", code, c.Output())
	}
	return c.manifest()
}

func (c *folder) manifest() (m standalone.Manifest) {
	c.t.Helper()
	data, err := os.ReadFile(filepath.Join(c.dir, standalone.ManifestName))
	if err == nil {
		err = json.Unmarshal(data, &m)
	}
	if err != nil {
		c.t.Fatalf("%v\n%s", err, c.Output())
	}
	return m
}

// said is everything that a manifest declares.
func said(m standalone.Manifest) string { return strings.Join(append(m.Faults, m.Remarks...), "\n") }

// verdict judges what is in the folder.
func (c *folder) verdict(n uint64, opts verify.Options) verify.Verdict {
	c.t.Helper()
	v, err := verify.Verify([]string{c.dir}, n, opts)
	if err != nil {
		c.t.Fatal(err)
	}
	return v
}

// whole checks that the folder holds the first n frames, each once and in order, and that the manifest agrees.
func (c *folder) whole(m standalone.Manifest, g *traffic.Generator, n uint64) {
	c.t.Helper()
	c.wholeFrom(m, g, 0, n)
}

// wholeFrom is whole for n frames from that number on.
func (c *folder) wholeFrom(m standalone.Manifest, g *traffic.Generator, first, n uint64) {
	c.t.Helper()
	v := c.verdict(n, verify.Options{Traffic: g, First: first})
	if !v.Whole() || v.Intact != n || v.Reordered != 0 || v.StampsBack != 0 || v.Outer != 0 || v.Tick != 1 {
		c.t.Errorf("of %d frames: %s; %d outer, a unit of time is %v ns", n, v, v.Outer, v.Tick)
	}
	if tally := m.Tally; tally.Received != n || tally.Written != n || tally.Lost() != 0 || !m.Complete {
		c.t.Errorf("the manifest says complete: %t, %+v, %v\n%s", m.Complete, tally, m.Host, said(m))
	}
	c.agrees(m)
}

// agrees checks that the sealed segments are those of the manifest, with the bytes that their names promise.
func (c *folder) agrees(m standalone.Manifest) {
	c.t.Helper()
	files := sealedIn(c.t, c.dir)
	if len(files) != len(m.Segments) || !m.Tally.Balanced() || m.Tally.Sealed != m.Tally.Written {
		c.t.Errorf("%d segments, the manifest has %d, and %+v", len(files), len(m.Segments), m.Tally)
		return
	}
	var packets uint64
	for i, f := range files {
		s := m.Segments[i]
		if s.Seq != f.Seq || s.Key != filepath.Base(f.Path) || s.Packets != f.Packets || s.Bytes != f.Bytes || s.SHA256 != f.SHA256 {
			c.t.Errorf("segment %d is %+v, the manifest says %+v", f.Seq, f, s)
		}
		packets += f.Packets
	}
	if packets != m.Tally.Written {
		c.t.Errorf("the segments hold %d frames, the manifest says %d", packets, m.Tally.Written)
	}
}

// sealedIn reads all sealed segments of a folder, and checks their digests.
func sealedIn(t *testing.T, dir string) (files []segment.File) {
	t.Helper()
	paths, err := verify.Recordings(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		files = append(files, inspected(t, path))
	}
	return files
}

// inspected is a sealed segment whose bytes are those that its name promises.
func inspected(t *testing.T, path string) segment.File {
	t.Helper()
	f, err := segment.Inspect(path)
	if err != nil {
		t.Error(err)
	}
	return f
}

// modest is a rate and a number of frames that a machine which is busy with other things can do as well. Under the
// race detector everything takes ten times as long.
func modest(rate float64, count uint64) (float64, uint64) {
	if raceEnabled {
		return rate / 10, count / 10
	}
	return rate, count
}

// title names a case.
func title(parts ...any) string {
	return strings.TrimSpace(strings.ReplaceAll(fmt.Sprintln(parts...), "\n", ""))
}
