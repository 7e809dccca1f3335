//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"flashtap/testutil/bench/send"
	"flashtap/testutil/bench/traffic"
	"flashtap/testutil/bench/verify"
)

const usage = `bench measures the collector against other tools, and judges every frame that each has kept.

  bench goals     all that the table of goals needs, and the table
  bench live      collectors in turn, at saturation or at a rate
  bench search    the highest rate at which each loses nothing
  bench offline   from file to file
  bench pipeline  from the packet to the confirmed object
  bench soak      half the highest rate, for a long time
  bench report    the tables of raw results that were written before

  bench send, record, verify   the parts: traffic on an interface, in a file, and the judge

Each explains its flags with -h. What runs live needs root and two CPUs; docs/performance.md explains what is measured.
`

// call is one command that a person has given.
type call struct {
	flags    *flag.FlagSet
	args     []string
	in       io.Reader
	out      io.Writer // for tables
	progress io.Writer // for what happens meanwhile
}

func command(ctx context.Context, args []string, in io.Reader, out, progress io.Writer) error {
	commands := map[string]func(context.Context, call) error{
		"goals": runGoals, "live": runLive, "search": runSearch, "offline": runOffline, "pipeline": runPipeline, "soak": runSoak,
		"report": runReport, "send": runSend, "record": runRecord, "verify": runVerify, "standin": runStandin,
	}
	if len(args) == 0 || commands[args[0]] == nil {
		fmt.Fprint(progress, usage)
		return errors.New("what is to be measured?")
	}
	flags := flag.NewFlagSet("bench "+args[0], flag.ContinueOnError)
	flags.SetOutput(progress)
	err := commands[args[0]](ctx, call{flags: flags, args: args[1:], in: in, out: out, progress: progress})
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	return err
}

// withLab parses the flags of a lab as well, opens it, lets f work in it for a limited time, and reports; also when
// the time was up, on what was done by then.
func withLab(ctx context.Context, c call, only *string, f func(context.Context, *lab) error) error {
	cfg, flags := labConfig{}, c.flags
	flags.StringVar(&cfg.product, "product", "", "the collector's binary; default: it is built")
	flags.StringVar(&cfg.base, "base", "", "folder for recordings; default /dev/shm, so that no disk is measured")
	flags.IntVar(&cfg.nice, "nice", -15, "nice value of all that is measured")
	flags.StringVar(&cfg.raw, "json", "", "append the raw results to this file, one JSON object a line")
	longest := flags.Duration("longest", 2*time.Hour, "end after this time, with what there is by then")
	if err := c.flags.Parse(c.args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("what is %q to mean?", flags.Arg(0))
	}
	limited, stop := context.WithTimeout(ctx, *longest)
	defer stop()
	l, err := openLab(limited, cfg, c.progress)
	if err != nil {
		return err
	}
	err = f(limited, l)
	if limited.Err() != nil && ctx.Err() == nil {
		fmt.Fprintf(c.progress, "the time is up: %v\n", *longest)
		err = nil
	}
	var ids []string
	if only != nil && *only != "" {
		ids = strings.Split(*only, ",")
	}
	if closed := l.close(); err == nil {
		err = closed
	}
	report(c.out, l.ledger.all, ids)
	return err
}

// planFlags are the flags of traffic.
func planFlags(flags *flag.FlagSet, plan *traffic.Plan) {
	flags.IntVar(&plan.Flows, "flows", plan.Flows, "flows, each with an outer source port of its own")
	flags.IntVar(&plan.Burst, "burst", plan.Burst, "frames of one flow in a row")
	flags.IntVar(&plan.VNIs, "vnis", plan.VNIs, "how many VNIs, from 4242 on")
	flags.BoolVar(&plan.TCP, "tcp", plan.TCP, "inner TCP that GRO could merge, instead of UDP")
	flags.BoolVar(&plan.Outer.Options, "options", false, "IPv4 options in the outer header")
	flags.Func("vlan", "802.1Q tag around everything", func(text string) error {
		_, err := fmt.Sscan(text, &plan.Outer.VLAN)
		return err
	})
	flags.BoolFunc("ipv6", "outer IPv6, with UDP checksums", func(string) error {
		plan.Outer.Source, plan.Outer.Target = source6, target6
		return nil
	})
}

// generatorFlags are the flags of traffic of one size.
func generatorFlags(flags *flag.FlagSet, plan *traffic.Plan) *string {
	planFlags(flags, plan)
	return flags.String("size", "1400", "bytes of inner frames: a number, several with commas between, or imix")
}

func newGenerator(plan traffic.Plan, size string) (*traffic.Generator, error) {
	var err error
	if plan.Sizes, err = traffic.ParseSizes(size); err != nil {
		return nil, err
	}
	return traffic.New(plan)
}

func runSend(ctx context.Context, c call) error {
	plan := traffic.DefaultPlan()
	cfg := send.Config{}
	size := generatorFlags(c.flags, &plan)
	ordered := c.flags.Bool("order", false, "read all of it from the standard input, as JSON")
	c.flags.StringVar(&cfg.Interface, "interface", "", "where to send")
	c.flags.Uint64Var(&cfg.Count, "count", 1_000_000, "how many packets")
	c.flags.Uint64Var(&cfg.First, "first", 0, "number of the first")
	c.flags.Float64Var(&cfg.Rate, "rate", 0, "packets a second; 0: as many as the interface takes")
	c.flags.IntVar(&cfg.CPU, "cpu", -1, "where to run; -1: anywhere")
	c.flags.DurationVar(&cfg.Longest, "longest", time.Minute, "end after this time")
	c.flags.Func("source-mac", "outer Ethernet source", macFlag(&plan.Outer.SourceMAC))
	c.flags.Func("target-mac", "outer Ethernet target", macFlag(&plan.Outer.TargetMAC))
	c.flags.TextVar(&plan.Outer.Source, "source", plan.Outer.Source, "outer source address")
	c.flags.TextVar(&plan.Outer.Target, "target", plan.Outer.Target, "outer target address")
	if err := c.flags.Parse(c.args); err != nil {
		return err
	}
	var err error
	if *ordered {
		var o order
		if err := json.NewDecoder(c.in).Decode(&o); err != nil {
			return fmt.Errorf("read the order: %w", err)
		}
		cfg = o.Config
		cfg.Traffic, err = traffic.New(o.Plan)
	} else {
		cfg.Traffic, err = newGenerator(plan, *size)
	}
	if err != nil {
		return err
	}
	result, err := send.Run(ctx, cfg)
	if err != nil {
		return err
	}
	return json.NewEncoder(c.out).Encode(result)
}

func runRecord(_ context.Context, c call) error {
	plan := traffic.DefaultPlan()
	size := generatorFlags(c.flags, &plan)
	var r traffic.Recording
	count := c.flags.Uint64("count", 1_000_000, "how many frames")
	c.flags.BoolVar(&r.Inner, "inner", false, "inner frames alone: the answer that is expected")
	c.flags.BoolVar(&r.Microseconds, "microseconds", false, "timestamps of microseconds, not nanoseconds")
	c.flags.BoolVar(&r.BigEndian, "big-endian", false, "the other byte order")
	if err := c.flags.Parse(c.args); err != nil {
		return err
	}
	if c.flags.NArg() != 1 {
		return errors.New("want one file")
	}
	g, err := newGenerator(plan, *size)
	if err != nil {
		return err
	}
	return g.WriteFile(c.flags.Arg(0), *count, r)
}

func runVerify(_ context.Context, c call) error {
	plan := traffic.DefaultPlan()
	size := generatorFlags(c.flags, &plan)
	count := c.flags.Uint64("count", 0, "how many frames were sent")
	opts := verify.Options{}
	c.flags.Func("vni", "a VNI that is wanted, if not all are; may be given again", func(text string) error {
		var vni uint32
		_, err := fmt.Sscan(text, &vni)
		opts.VNIs = append(opts.VNIs, vni)
		return err
	})
	if err := c.flags.Parse(c.args); err != nil {
		return err
	}
	var err error
	if opts.Traffic, err = newGenerator(plan, *size); err != nil {
		return err
	}
	v, err := verify.Verify(c.flags.Args(), *count, opts)
	if err != nil {
		return err
	}
	out := json.NewEncoder(c.out)
	out.SetIndent("", "  ")
	if err := out.Encode(v); err != nil {
		return err
	}
	if !v.Whole() {
		return errors.New(v.String())
	}
	return nil
}

func runStandin(ctx context.Context, c call) error {
	if err := c.flags.Parse(c.args); err != nil {
		return err
	}
	if c.flags.NArg() != 1 {
		return errors.New("want a folder")
	}
	return standinProgram(ctx, c.flags.Arg(0), c.out)
}

func runReport(_ context.Context, c call) error {
	only := c.flags.String("only", "", "goals to report, with commas between; default: all")
	everything := c.flags.Bool("all", false, "all runs in the files as if they were one; default: the last of each file")
	if err := c.flags.Parse(c.args); err != nil {
		return err
	}
	if c.flags.NArg() == 0 {
		return errors.New("want files of raw results")
	}
	rs, err := readResults(c.flags.Args(), *everything)
	if err != nil {
		return err
	}
	var ids []string
	if *only != "" {
		ids = strings.Split(*only, ",")
	}
	if i := slices.IndexFunc(ids, func(id string) bool { return goalIndex(id) < 0 }); i >= 0 {
		return fmt.Errorf("there is no goal %q", ids[i])
	}
	report(c.out, rs, ids)
	return nil
}
