//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"flashtap/testutil/bench/rig"
	"flashtap/testutil/bench/traffic"
	"flashtap/testutil/bench/verify"
)

// converter takes frames out of a file of outer packets.
type converter struct {
	name  string
	tool  string // that must be installed; empty: it is built here
	args  func(bin, in, out string) []string
	outer bool // it leaves them in VXLAN: the least that reading and writing costs it
}

const editcap = "editcap -C 50"

var converters = []converter{
	{name: ours, args: func(bin, in, out string) []string {
		return []string{filepath.Join(bin, toolProgram), "decap", in, out}
	}},
	// 50 bytes are what Ethernet, IPv4, UDP and VXLAN take without tags and options. With -L the lengths say so, too.
	{name: editcap, tool: "editcap", args: func(_, in, out string) []string {
		return []string{"editcap", "-C", "50", "-L", "-F", "nsecpcap", in, out}
	}},
	{name: "tcpdump -r -w", tool: "tcpdump", outer: true, args: func(_, in, out string) []string {
		return []string{"tcpdump", "-Z", "root", "-r", in, "-w", out, "udp", "port", "4789"}
	}},
	{name: "gopacket loop", args: func(bin, in, out string) []string { return []string{filepath.Join(bin, gopacketProgram), in, out} }},
	{name: "gopacket parser", args: func(bin, in, out string) []string {
		return []string{filepath.Join(bin, gopacketProgram), "-parser", in, out}
	}},
}

// offline times the way from file to file: CPU for each packet, whoever waits for what.
func (l *lab) offline(ctx context.Context, ld load, count uint64, rounds int) (err error) {
	generator, err := traffic.New(ld.Plan)
	if err != nil {
		return err
	}
	in, out := filepath.Join(l.rig.Dir, "in.pcap"), filepath.Join(l.rig.Dir, "out.pcap")
	defer func() { err = errors.Join(err, os.RemoveAll(in), os.RemoveAll(out)) }()
	if err := generator.WriteFile(in, count, traffic.Recording{}); err != nil {
		return err
	}
	for round := range rounds {
		for i := range converters {
			c := converters[(i+round)%len(converters)]
			r := Result{Experiment: experimentOffline, Collector: c.name, Load: ld.Name, Round: round + 1}
			if err := l.convert(ctx, c, in, out, count, generator, &r); err != nil {
				r.Err = err.Error()
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			fmt.Fprintf(l.progress, "         offline  %-22s %-10s %5.0f ns %s\n", title(c.name), ld.Name, r.App, oneLine(r.Err))
			if err := errors.Join(l.ledger.add(r), os.RemoveAll(out)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *lab) convert(ctx context.Context, c converter, in, out string, count uint64, g *traffic.Generator, r *Result) error {
	if _, err := exec.LookPath(c.tool); c.tool != "" && err != nil {
		return fmt.Errorf("%s is not installed", c.tool)
	}
	args := c.args(l.bin, in, out)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	said, err := os.CreateTemp(l.bin, "said-")
	if err != nil {
		return err
	}
	defer said.Close()
	cmd.Stdout, cmd.Stderr = said, said
	if err := rig.Launch(cmd, 1, l.nice); err != nil {
		return err
	}
	err = cmd.Wait()
	text, _ := os.ReadFile(said.Name())
	r.Said = lastLines(string(text))
	if err != nil {
		return fmt.Errorf("%w: %s", err, r.Said)
	}
	state := cmd.ProcessState
	r.App = float64(state.UserTime()+state.SystemTime()) / float64(count)
	if r.Round > 1 {
		return nil // what it writes does not change
	}
	v, err := verify.Verify([]string{out}, count, verify.Options{Traffic: g})
	r.Verdict = &v
	if err == nil && !v.Whole() {
		return errors.New(v.String())
	}
	if err == nil && (v.Outer > 0) != c.outer {
		return fmt.Errorf("%d of %d frames are still in VXLAN", v.Outer, v.Records)
	}
	return err
}
