//go:build linux

package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"flashtap/testutil/bench/traffic"
)

// What --ipv6 means: the rig has addresses of its own, and takes only the family from here.
var source6, target6 = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")

func macFlag(mac *[6]byte) func(string) error {
	return func(text string) error {
		parsed, err := net.ParseMAC(text)
		if err != nil || len(parsed) != len(mac) {
			return fmt.Errorf("%q is no Ethernet address", text)
		}
		*mac = [6]byte(parsed)
		return nil
	}
}

// runGoals runs whatever the goals need.
func runGoals(ctx context.Context, c call) error {
	only := c.flags.String("only", "", "goals, with commas between; default: all")
	rounds := c.flags.Int("rounds", 5, "rounds; figures are medians")
	searchRounds := c.flags.Int("search-rounds", 1, "rounds of the search for the highest rates, which take minutes each")
	return withLab(ctx, c, only, func(ctx context.Context, l *lab) error {
		needs := map[string]bool{}
		for _, g := range goals {
			if *only == "" || slices.Contains(strings.Split(*only, ","), g.id) {
				for _, need := range g.needs {
					needs[need] = true
				}
			}
		}
		if len(needs) == 0 {
			return fmt.Errorf("there are no goals %s", *only)
		}
		return l.goals(ctx, needs, *rounds, *searchRounds)
	})
}

func (l *lab) goals(ctx context.Context, needs map[string]bool, rounds, searchRounds int) error {
	all := ""
	for _, s := range sizes {
		all += s.name + " "
	}
	for _, step := range []struct {
		need string
		run  func() error
	}{
		{needSaturation, func() error { return l.saturate(ctx, ours+","+tcpdump, all, rounds) }},
		{needRolling, func() error { return l.saturate(ctx, oursDigest+","+tcpdumpRoll, all, rounds) }},
		{needSockets, func() error { return l.saturate(ctx, oursSocket, "300 1400", rounds) }},
		{needStop, func() error {
			cs, err := findCollectors(strings.Join([]string{ours, oursDigest, tcpdump, tcpdumpVXLAN, dumpcap, netsniff, gopacketLoop}, ","), nil)
			if err != nil {
				return err
			}
			return l.stops(ctx, cs, min(rounds, 3))
		}},
		{needAllocate, func() error { return l.allocations(ctx, rounds) }},
		{needOffline, func() error {
			ld, err := mixOfVNIs()
			if err != nil {
				return err
			}
			return l.offline(ctx, ld, 1_500_000, rounds)
		}},
		{needEvidence, func() error { return l.evidence(ctx, rounds) }},
		{needPipeline, func() error {
			loads, err := sizeLoads("1400")
			if err != nil {
				return err
			}
			return l.pipeline(ctx, loads[0], run{rate: pipelineRate, count: 4 * pipelineRate, bunch: pipelineBunch}, rounds)
		}},
		{needSearch, func() error {
			return l.searchSizes(ctx, strings.Join([]string{ours, tcpdump, netsniff, dumpcap, gopacketLoop}, ","), "64 imix 1400", searchRounds)
		}},
		{needSockets, func() error { return l.shares(ctx, rounds, searchRounds) }},
	} {
		if !needs[step.need] {
			continue
		}
		if err := step.run(); err != nil {
			return err
		}
	}
	return nil
}

// saturate runs collectors at saturation.
func (l *lab) saturate(ctx context.Context, names, list string, rounds int) error {
	cs, err := findCollectors(names, nil)
	if err != nil {
		return err
	}
	loads, err := sizeLoads(list)
	if err != nil {
		return err
	}
	return l.rounds(ctx, experimentLive, cs, loads, rounds, run{})
}

func (l *lab) searchSizes(ctx context.Context, names, list string, rounds int) error {
	cs, err := findCollectors(names, nil)
	if err != nil {
		return err
	}
	loads, err := sizeLoads(list)
	if err != nil {
		return err
	}
	return l.searches(ctx, cs, loads, rounds, defaultSearch)
}

// defaultSearch bounds a search.
var defaultSearch = searchConfig{low: 20_000, high: 1_500_000, seconds: 0.8}

// shares runs sockets at a share of the ring's highest rate, which it looks for when that was not done.
func (l *lab) shares(ctx context.Context, rounds, searchRounds int) error {
	for _, list := range []string{"imix", "1400"} {
		rate := func() (float64, bool) {
			return l.ledger.all.of(experimentLossless, ours, list).median(func(r Result) float64 { return r.Lossless })
		}
		if _, ok := rate(); !ok {
			if err := l.searchSizes(ctx, ours, list, searchRounds); err != nil {
				return err
			}
		}
		highest, ok := rate()
		if !ok || highest == 0 {
			continue // the table says why
		}
		cs, err := findCollectors(oursSocket, nil)
		if err != nil {
			return err
		}
		loads, err := sizeLoads(list)
		if err != nil {
			return err
		}
		share := highest * socketShare
		if err := l.rounds(ctx, experimentShare, cs, loads, rounds, run{rate: share, count: uint64(share)}); err != nil {
			return err
		}
	}
	return nil
}

// mixOfVNIs is what goes from file to file.
func mixOfVNIs() (load, error) {
	plan := traffic.DefaultPlan()
	plan.VNIs = 4
	return newLoad("imix", plan)
}

// lineup are the flags of what is run live.
type lineup struct {
	names   *string
	sizes   *string
	plan    traffic.Plan
	customs []collector
}

func lineupFlags(flags *flag.FlagSet, names string) *lineup {
	l := &lineup{plan: traffic.DefaultPlan()}
	var all []string
	for _, c := range collectors {
		all = append(all, c.name)
	}
	l.names = flags.String("collectors", names, "with commas between, of: "+strings.Join(all, ", "))
	l.sizes = flags.String("sizes", "64 300 imix 1400 8900", "bytes of inner frames, with spaces between")
	flags.Func("with", "NAME=COMMAND, a further collector; {if} and {dir} are filled in. It prints READY or opens a packet socket, ends on SIGINT, and writes files with .pcap in their names", func(text string) error {
		c, err := custom(text)
		l.customs = append(l.customs, c)
		*l.names += "," + c.name
		return err
	})
	planFlags(flags, &l.plan)
	return l
}

func (l *lineup) find() (cs []collector, loads []load, err error) {
	if cs, err = findCollectors(strings.Trim(*l.names, ","), l.customs); err != nil {
		return nil, nil, err
	}
	for size := range strings.FieldsSeq(*l.sizes) {
		ld, err := newLoad(size, l.plan)
		if err != nil {
			return nil, nil, err
		}
		loads = append(loads, ld)
	}
	return cs, loads, nil
}

func runLive(ctx context.Context, c call) error {
	who := lineupFlags(c.flags, "ours,tcpdump")
	rounds := c.flags.Int("rounds", 5, "rounds")
	rate := c.flags.Float64("rate", 0, "packets a second; 0: as many as the interface takes")
	count := c.flags.Uint64("count", 0, "packets in a run; 0: by size, a second or so")
	atOnce := c.flags.Bool("stop", false, "stop collectors with the last packet, not when they have gone quiet")
	return withLab(ctx, c, nil, func(ctx context.Context, l *lab) error {
		cs, loads, err := who.find()
		if err != nil {
			return err
		}
		experiment := experimentLive
		if *atOnce {
			experiment = experimentStop
		}
		return l.rounds(ctx, experiment, cs, loads, *rounds, run{rate: *rate, count: *count})
	})
}

func runSearch(ctx context.Context, c call) error {
	who := lineupFlags(c.flags, "ours,tcpdump,netsniff-ng,dumpcap,gopacket")
	rounds := c.flags.Int("rounds", 1, "rounds")
	cfg := defaultSearch
	c.flags.Float64Var(&cfg.low, "low", cfg.low, "lowest rate, packets a second")
	c.flags.Float64Var(&cfg.high, "high", cfg.high, "highest rate")
	c.flags.Float64Var(&cfg.seconds, "seconds", cfg.seconds, "how long each probe takes")
	return withLab(ctx, c, nil, func(ctx context.Context, l *lab) error {
		cs, loads, err := who.find()
		if err != nil {
			return err
		}
		return l.searches(ctx, cs, loads, *rounds, cfg)
	})
}

func runOffline(ctx context.Context, c call) error {
	size := c.flags.String("size", "imix", "bytes of inner frames")
	count := c.flags.Uint64("count", 1_500_000, "packets")
	rounds := c.flags.Int("rounds", 5, "rounds")
	return withLab(ctx, c, nil, func(ctx context.Context, l *lab) error {
		plan := traffic.DefaultPlan()
		plan.VNIs = 4
		ld, err := newLoad(*size, plan)
		if err != nil {
			return err
		}
		return l.offline(ctx, ld, *count, *rounds)
	})
}

func runPipeline(ctx context.Context, c call) error {
	size := c.flags.String("size", "1400", "bytes of inner frames")
	rate := c.flags.Float64("rate", pipelineRate, "packets a second")
	seconds := c.flags.Float64("seconds", 4, "how long a run takes")
	rounds := c.flags.Int("rounds", 5, "rounds")
	return withLab(ctx, c, nil, func(ctx context.Context, l *lab) error {
		ld, err := newLoad(*size, traffic.DefaultPlan())
		if err != nil {
			return err
		}
		return l.pipeline(ctx, ld, run{rate: *rate, count: uint64(*rate * *seconds), bunch: pipelineBunch}, *rounds)
	})
}

func runSoak(ctx context.Context, c call) error {
	name := c.flags.String("collector", oursDigest, "which one")
	size := c.flags.String("size", "imix", "bytes of inner frames")
	minutes := c.flags.Float64("minutes", 30, "how long")
	rate := c.flags.Float64("rate", 0, "packets a second; 0: half the highest rate without loss, which is looked for first")
	return withLab(ctx, c, nil, func(ctx context.Context, l *lab) error {
		cs, err := findCollectors(*name, nil)
		if err != nil {
			return err
		}
		ld, err := newLoad(*size, traffic.DefaultPlan())
		if err != nil {
			return err
		}
		if *rate == 0 {
			if err := l.searches(ctx, cs, []load{ld}, 1, defaultSearch); err != nil {
				return err
			}
			highest, ok := l.ledger.all.of(experimentLossless, cs[0].name, ld.Name).median(func(r Result) float64 { return r.Lossless })
			if !ok || highest == 0 {
				return fmt.Errorf("%s has no rate without loss", *name)
			}
			*rate = highest / 2
		}
		return l.soak(ctx, cs[0], ld, *rate, *minutes)
	})
}
