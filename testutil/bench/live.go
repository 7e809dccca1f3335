//go:build linux

package main

import (
	"context"
	"fmt"
)

// rounds runs every collector with every load, round after round: within one they take turns, and nobody always goes
// first. So what the machine does meanwhile meets all of them.
func (l *lab) rounds(ctx context.Context, experiment string, cs []collector, loads []load, n int, r run) error {
	r.experiment = experiment
	for round := range n {
		r.round = round + 1
		for _, ld := range loads {
			for i := range cs {
				c := cs[(i+round)%len(cs)]
				if !c.installed() {
					if err := l.absent(experiment, c, ld, round); err != nil {
						return err
					}
					continue
				}
				if _, err := l.once(ctx, c, ld, r); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// absent notes, in the first round, that a peer is not here.
func (l *lab) absent(experiment string, c collector, ld load, round int) error {
	if round > 0 {
		return nil
	}
	return l.ledger.add(Result{Experiment: experiment, Collector: c.name, Load: ld.Name, Round: 1, Err: fmt.Sprintf("%s is not installed", c.tool)})
}

// stopRate is the rate at which goal P7 stops collectors.
const stopRate = 100_000

// stops stops every collector in the middle of traffic, twice: once that nothing is lost, once that nothing is merged.
func (l *lab) stops(ctx context.Context, cs []collector, n int) error {
	plain, err := sizeLoads("300")
	if err != nil {
		return err
	}
	return l.rounds(ctx, experimentStop, cs, append(plain, streamLoad()), n, run{rate: stopRate, count: stopRate})
}

// allocations counts what the collector puts on its heap.
func (l *lab) allocations(ctx context.Context, n int) error {
	cs, err := findCollectors(ours+","+oursDigest, nil)
	if err != nil {
		return err
	}
	loads, err := sizeLoads("64")
	if err != nil {
		return err
	}
	return l.rounds(ctx, experimentAllocate, cs, loads, min(n, 2), run{rate: 250_000, count: 1_000_000, env: gcEnvironment})
}
