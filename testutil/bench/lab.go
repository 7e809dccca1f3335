//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"flashtap/testutil/bench/rig"
	"flashtap/testutil/bench/send"
	"flashtap/testutil/bench/traffic"
	"flashtap/testutil/bench/verify"
)

// lab is where collectors are run: a rig, the programs that were built, and the ledger.
type lab struct {
	rig      *rig.Rig
	bin      string
	self     string // this program, which is also the sender
	nice     int
	ledger   *ledger
	progress io.Writer
}

// labConfig is what a person may say about a lab.
type labConfig struct {
	product string // the collector's binary; empty: it is built
	base    string
	nice    int
	raw     string // file that raw results are appended to
}

// openLab builds the programs and makes the rig. Close removes everything.
func openLab(ctx context.Context, cfg labConfig, progress io.Writer) (*lab, error) {
	l := &lab{nice: cfg.nice, progress: progress}
	var err error
	if l.self, err = os.Executable(); err != nil {
		return nil, err
	}
	if l.ledger, err = openLedger(cfg.raw); err != nil {
		return nil, err
	}
	if l.bin, err = rig.TempDir(); err != nil {
		return nil, err
	}
	if err := l.build(ctx, cfg.product); err != nil {
		return nil, errors.Join(err, l.close())
	}
	if l.rig, err = rig.New(rig.Config{SendCPU: 0, ReceiveCPU: 1, Base: cfg.base, Nice: cfg.nice}); err != nil {
		return nil, errors.Join(err, l.close())
	}
	l.autogroup(cfg.nice)
	machine := thisMachine()
	fmt.Fprintln(progress, machine)
	for _, tool := range machine.Missing {
		fmt.Fprintf(progress, "%s is not installed: what it would show is left out\n", tool)
	}
	return l, l.ledger.add(Result{Experiment: experimentMachine, Machine: machine})
}

// build builds what runs in the rig, without cgo, as it ships.
func (l *lab) build(ctx context.Context, product string) error {
	programs := map[string]string{gopacketProgram: "flashtap/testutil/bench/gopacketloop", collectorProgram: "flashtap/collector", toolProgram: "flashtap/cmd/flashtap"}
	if product != "" {
		delete(programs, collectorProgram)
		path, err := filepath.Abs(product)
		if err != nil {
			return err
		}
		if err := os.Symlink(path, filepath.Join(l.bin, collectorProgram)); err != nil {
			return err
		}
	}
	for name, pkg := range programs {
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(l.bin, name), pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", pkg, err, out)
		}
	}
	return nil
}

func (l *lab) close() error {
	var errs []error
	if l.rig != nil {
		l.autogroup(0)
		errs = append(errs, l.rig.Close())
	}
	if l.bin != "" {
		errs = append(errs, os.RemoveAll(l.bin))
	}
	return errors.Join(append(errs, l.ledger.close())...)
}

// autogroup gives this session a nice value against others (sched(7)): those of its processes count only among
// themselves.
func (l *lab) autogroup(nice int) {
	if l.nice != 0 {
		os.WriteFile("/proc/self/autogroup", []byte(fmt.Sprint(nice)), 0) //nolint:errcheck // there need not be any
	}
}

// run is one run of one collector.
type run struct {
	experiment string
	round      int
	rate       float64
	count      uint64 // of packets; 0: the load's
	env        []string
	bunch      time.Duration // of send.Config
	ring       int           // of send.Config
}

// patience of a run.
const (
	readyPatience = 30 * time.Second
	drainPatience = 30 * time.Second
	settle        = 400 * time.Millisecond // from the socket to the last of the preparations

	// quiet is how long a collector must have had nothing to do. libpcap may keep a block back for a second.
	quiet      = 1300 * time.Millisecond
	look       = 100 * time.Millisecond
	idleInLook = 2 * time.Millisecond
)

// once runs a collector while a load is sent, and judges what it has kept. The error is that of ctx; what else goes
// wrong is in the result.
func (l *lab) once(ctx context.Context, c collector, ld load, r run) (Result, error) {
	if r.count == 0 {
		r.count = ld.Count
	}
	out := Result{Experiment: r.experiment, Collector: c.name, Load: ld.Name, Rate: r.rate, Round: r.round}
	if err := l.capture(ctx, c, ld, r, &out); err != nil {
		if ctx.Err() != nil {
			return out, ctx.Err()
		}
		out.Err = err.Error()
	}
	fmt.Fprintln(l.progress, line(out))
	return out, l.ledger.add(out)
}

func (l *lab) capture(ctx context.Context, c collector, ld load, r run, out *Result) (err error) {
	generator, err := traffic.New(l.rig.Plan(ld.Plan))
	if err != nil {
		return err
	}
	dir := filepath.Join(l.rig.Dir, "run")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	w := workplace{iface: l.rig.ReceiveInterface, dir: dir, bin: l.bin, vni: ld.Plan.VNI, addr: generator.Plan().Outer.Target}
	if c.before != nil {
		defer l.inside(context.WithoutCancel(ctx), c.after(w)) //nolint:errcheck // it goes with the namespace
		if err := l.inside(ctx, c.before(w)); err != nil {
			return err
		}
	}
	p, err := l.rig.Start(rig.Program{Args: c.args(w), Env: r.env})
	if err != nil {
		return err
	}
	defer p.Kill()
	if err := p.Await(ctx, readyPatience, p.Capturing); err != nil {
		return err
	}
	pause(ctx, settle)
	silent := len(p.Output())
	m, err := l.begin(p)
	if err != nil {
		return err
	}
	sent, err := l.send(ctx, generator, r)
	if err != nil {
		return err
	}
	if r.experiment != experimentStop {
		awaitQuiet(ctx, p)
	}
	if err := m.end(out); err != nil {
		return err
	}
	_, out.Memory = p.Memory()
	spoken := p.Output()
	stopped := p.Stop()
	out.Send, out.Said = &sent, lastLines(p.Output())
	if ctx.Err() != nil {
		return ctx.Err()
	}
	v, err := verify.Verify([]string{dir}, sent.Offered(), verify.Options{Traffic: generator})
	out.Verdict = &v
	out.figures()
	if r.experiment == experimentAllocate {
		out.Allocated = allocated(spoken, silent) / float64(max(v.Intact, 1))
	}
	return errors.Join(err, stopped)
}

// figures makes figures for each packet of what was counted for all.
func (r *Result) figures() {
	kept, sent := float64(max(r.Verdict.Intact, 1)), float64(max(r.Send.Sent, 1))
	r.App, r.Kernel = r.App/kept, r.Kernel/sent
	r.Total = r.App + r.Kernel
	r.Kept = float64(r.Verdict.Intact) / r.Send.Seconds
	r.Wait /= r.Send.Seconds * 1e9
}

// meter counts what a process and the kernel's thread use from one moment to another.
type meter struct {
	lab         *lab
	process     *rig.Process
	app, kernel rig.Usage
}

func (l *lab) begin(p *rig.Process) (m meter, err error) {
	m = meter{lab: l, process: p}
	if m.app, err = p.Usage(); err != nil {
		return m, err
	}
	m.kernel, err = l.rig.Kernel()
	return m, err
}

// end puts the sums into a result.
func (m meter) end(out *Result) error {
	app, err := m.process.Usage()
	if err != nil {
		return err
	}
	kernel, err := m.lab.rig.Kernel()
	app, kernel = app.Since(m.app), kernel.Since(m.kernel)
	out.App, out.Kernel, out.Wait = float64(app.Run), float64(kernel.Run), float64(app.Wait+kernel.Wait)
	return err
}

// awaitQuiet returns when a process has had nothing to do for a while.
func awaitQuiet(ctx context.Context, p *rig.Process) {
	before, _ := p.Usage()
	calm := time.Duration(0)
	for deadline := time.Now().Add(drainPatience); calm < quiet && time.Now().Before(deadline) && ctx.Err() == nil; {
		pause(ctx, look)
		now, err := p.Usage()
		if err != nil {
			return
		}
		if calm += look; now.Since(before).Run > idleInLook {
			calm = 0
		}
		before = now
	}
}

// pause sleeps, but not longer than ctx.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// order is what the sender reads.
type order struct {
	Plan   traffic.Plan
	Config send.Config
}

// send sends in a process of its own, so that no other part of this one comes in between.
func (l *lab) send(ctx context.Context, g *traffic.Generator, r run) (send.Result, error) {
	var result send.Result
	input, err := json.Marshal(order{Plan: g.Plan(), Config: send.Config{
		Interface: l.rig.SendInterface, Namespace: l.rig.SendNamespace, Count: r.count, Rate: r.rate, CPU: l.rig.SendCPU(), Bunch: r.bunch, Ring: r.ring,
		Longest: longest(r),
	}})
	if err != nil {
		return result, err
	}
	cmd := exec.CommandContext(ctx, l.self, "send", "--order")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &stdout, &stderr
	if err := rig.Launch(cmd, l.rig.SendCPU(), l.nice); err != nil {
		return result, err
	}
	if err := cmd.Wait(); err != nil {
		return result, fmt.Errorf("send: %w: %s", err, stderr.String())
	}
	return result, json.Unmarshal(stdout.Bytes(), &result)
}

// longest bounds the time of sending: what a rate takes, and as much again.
func longest(r run) time.Duration {
	if r.rate == 0 {
		return time.Minute
	}
	return time.Duration(2*float64(r.count)/r.rate*1e9) + 10*time.Second
}

// inside runs commands in the receiver's namespace.
func (l *lab) inside(ctx context.Context, commands [][]string) error {
	for _, command := range commands {
		args := append([]string{"netns", "exec", filepath.Base(l.rig.ReceiveNamespace)}, command...)
		if out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(command, " "), err, strings.TrimSpace(string(out)))
		}
	}
	return nil
}

// lastLines is the end of what a program has said, for the raw results.
func lastLines(text string) string {
	const enough = 500
	text = strings.TrimSpace(text)
	return text[max(0, len(text)-enough):]
}

// oneLine is the beginning of an error, fit for a table.
func oneLine(text string) string {
	const enough = 160
	text = strings.Join(strings.Fields(strings.ReplaceAll(text, "|", "/")), " ")
	if len(text) > enough {
		text = text[:enough] + "..."
	}
	return text
}

// line tells a person of a run while the others go on.
func line(r Result) string {
	head := fmt.Sprintf("%s %-8s %-22s %-10s", time.Now().Format("15:04:05"), r.Experiment, title(r.Collector), r.Load)
	if r.Err != "" {
		return head + " " + oneLine(r.Err)
	}
	if r.Send == nil || r.Verdict == nil {
		return head
	}
	text := fmt.Sprintf("%s %4.0f kpps, app %5.0f + kernel %5.0f ns, wait %3.0f %%", head, r.Send.PPS/1e3, r.App, r.Kernel, 100*r.Wait)
	if r.lost() {
		text += fmt.Sprintf(", LOST %.3g %%", 100*r.loss())
		if r.Send.Refused > 0 {
			text += fmt.Sprintf(" (%d refused)", r.Send.Refused)
		}
		text += ": " + r.Verdict.String()
	}
	return text
}
