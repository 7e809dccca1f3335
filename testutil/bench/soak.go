//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"flashtap/testutil/bench/rig"
	"flashtap/testutil/bench/traffic"
	"flashtap/testutil/bench/verify"
)

// sample is what a process has at one moment of a soak.
type sample struct {
	Seconds     float64 `json:"s"`
	Memory      int64   `json:"rss"`
	Descriptors int     `json:"fds"`
}

const (
	sampleEvery = 10 * time.Second
	reapEvery   = time.Second

	// soakBunch lets the sender sleep, since the verifier has the same CPU.
	soakBunch = time.Millisecond

	// warmUp is how much of the time a process may grow: until every buffer has been used.
	warmUp = 0.2
)

// soak runs the collector for a long time at a steady rate. Segments are judged and removed while it goes on, or no
// disk would do.
func (l *lab) soak(ctx context.Context, c collector, ld load, rate float64, minutes float64) error {
	out := Result{Experiment: experimentSoak, Collector: c.name, Load: ld.Name, Rate: rate, Round: 1}
	r := run{experiment: experimentSoak, rate: rate, count: uint64(rate * minutes * 60), bunch: soakBunch}
	err := l.steep(ctx, c, ld, r, &out)
	if err != nil {
		out.Err = err.Error()
	}
	fmt.Fprintln(l.progress, line(out))
	return errors.Join(ctx.Err(), l.ledger.add(out))
}

func (l *lab) steep(ctx context.Context, c collector, ld load, r run, out *Result) (err error) {
	generator, err := traffic.New(l.rig.Plan(ld.Plan))
	if err != nil {
		return err
	}
	dir := filepath.Join(l.rig.Dir, "soak")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	p, err := l.rig.Start(rig.Program{Args: c.args(workplace{iface: l.rig.ReceiveInterface, dir: dir, bin: l.bin, vni: ld.Plan.VNI, addr: generator.Plan().Outer.Target})})
	if err != nil {
		return err
	}
	defer p.Kill()
	if err := p.Await(ctx, readyPatience, p.Capturing); err != nil {
		return err
	}
	pause(ctx, settle)
	m, err := l.begin(p)
	if err != nil {
		return err
	}
	watching, stop := context.WithCancel(ctx)
	v := verify.New(verify.Options{Traffic: generator})
	reaped := make(chan error, 1)
	go func() { reaped <- reap(watching, dir, v) }()
	sampled := make(chan []sample, 1)
	go func() { sampled <- l.watch(watching, p) }()
	sent, failure := l.send(ctx, generator, r)
	if failure == nil {
		awaitQuiet(ctx, p)
		failure = m.end(out)
	}
	stop()
	out.Samples = <-sampled
	_, out.Memory = p.Memory()
	failure = errors.Join(failure, <-reaped, p.Stop(), v.AddPath(dir))
	verdict := v.Verdict(sent.Offered())
	out.Send, out.Verdict, out.Said = &sent, &verdict, lastLines(p.Output())
	if failure == nil {
		out.figures()
	}
	return failure
}

// reap judges every segment but the newest, and removes it.
func reap(ctx context.Context, dir string, v *verify.Verifier) error {
	for ctx.Err() == nil {
		files, err := verify.Recordings(dir)
		if err != nil {
			return err
		}
		for _, file := range files[:max(len(files)-1, 0)] {
			if err := errors.Join(v.AddFile(file), os.Remove(file)); err != nil {
				return err
			}
		}
		pause(ctx, reapEvery)
	}
	return nil
}

// watch takes samples until ctx ends.
func (l *lab) watch(ctx context.Context, p *rig.Process) (all []sample) {
	for begun := time.Now(); ctx.Err() == nil; pause(ctx, sampleEvery) {
		now, _ := p.Memory()
		s := sample{Seconds: time.Since(begun).Seconds(), Memory: now, Descriptors: p.Descriptors()}
		all = append(all, s)
		if len(all)%6 == 1 {
			fmt.Fprintf(l.progress, "%s soak after %4.0f s: %.1f MiB, %d descriptors\n", time.Now().Format("15:04:05"), s.Seconds, float64(s.Memory)/(1<<20), s.Descriptors)
		}
	}
	return all
}

// soakLeast is how long a soak must take before its slope says anything: collections of garbage are minutes apart.
const soakLeast = 600

// growth is how a process grew after it had warmed up: bytes and descriptors an hour, by least squares.
func growth(all []sample) (memory, descriptors float64) {
	if len(all) == 0 {
		return 0, 0
	}
	from := warmUp * all[len(all)-1].Seconds
	var n, sx, sxx, sm, sxm, sd, sxd float64
	for _, s := range all {
		if s.Seconds < from {
			continue
		}
		x, m, d := s.Seconds/3600, float64(s.Memory), float64(s.Descriptors)
		n, sx, sxx = n+1, sx+x, sxx+x*x
		sm, sxm = sm+m, sxm+x*m
		sd, sxd = sd+d, sxd+x*d
	}
	if spread := n*sxx - sx*sx; n > 2 && spread > 0 {
		return (n*sxm - sx*sm) / spread, (n*sxd - sx*sd) / spread
	}
	return 0, 0
}

// steady says whether a process that grows like that could go on for a day: within a tenth of what it has, and a
// descriptor an hour.
func steady(all []sample) bool {
	memory, descriptors := growth(all)
	last := all[len(all)-1]
	return 24*memory < 0.1*float64(last.Memory)+16<<20 && descriptors < 1
}
