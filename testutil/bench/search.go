//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math"
)

// searchConfig says how the highest rate without loss is looked for.
type searchConfig struct {
	low, high float64 // bounds, packets a second
	first     float64 // where to begin
	seconds   float64 // of each probe
}

// step is how near to each other two rates are between which nothing is looked for.
const step = 1.05

// hopeless is the loss after which a rate is not tried again.
const hopeless = 0.3

// tries is how often a rate may be tried. It passes when one try loses nothing, for the machine has other things to do
// as well. One that loses nothing because the sender was kept from its CPU does not count.
const tries = 3

// unknownLoss is what a rate is taken to lose of which no try counts.
const unknownLoss = 0.05

// search finds the highest rate of a collector: in strides while all goes well (or badly), and then by halving.
func (l *lab) search(ctx context.Context, c collector, ld load, round int, cfg searchConfig) (float64, error) {
	// Rates are powers of step, so that no search is luckier in its rates than another.
	index := func(rate float64) int { return int(math.Round(math.Log(rate) / math.Log(step))) }
	rate := func(i int) float64 { return math.Round(math.Pow(step, float64(i))) }
	bottom, top := index(cfg.low), index(cfg.high)
	// pass gives the loss of a rate, 0 when it passes.
	pass := func(i int) (float64, error) {
		loss := unknownLoss
		for failed, try := 0, 0; failed < 2 && try < tries; try++ {
			r, err := l.once(ctx, c, ld, run{experiment: experimentSearch, round: round, rate: rate(i), count: uint64(rate(i) * cfg.seconds)})
			switch {
			case err != nil:
				return 1, err
			case r.Err != "":
				return 1, errors.New(r.Err)
			case r.loss() == 0 && r.Send.PPS < rate(i)*0.95:
				continue
			case r.loss() == 0:
				return 0, nil
			}
			if failed == 0 || r.loss() < loss {
				loss = r.loss()
			}
			if failed++; loss > hopeless {
				break
			}
		}
		return loss, nil
	}
	good, bad, err := bracket(min(max(index(cfg.first), bottom), top), bottom, top, pass)
	for err == nil && bad-good > 1 {
		middle := (good + bad) / 2
		var loss float64
		if loss, err = pass(middle); loss == 0 {
			good = middle
		} else {
			bad = middle
		}
	}
	out := Result{Experiment: experimentLossless, Collector: c.name, Load: ld.Name, Round: round, Open: good == top}
	switch {
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case err != nil:
		out.Err = err.Error()
	case good >= bottom:
		out.Lossless = rate(good)
	}
	fmt.Fprintf(l.progress, "         lossless %-22s %-10s %.0f kpps\n", title(c.name), ld.Name, out.Lossless/1e3)
	return out.Lossless, l.ledger.add(out)
}

// bracket finds a rate that passes and one that does not, in strides from the first; a loss says how far down the next
// may be. One below the bottom passes and one above the top does not, without being tried.
func bracket(first, bottom, top int, pass func(int) (float64, error)) (good, bad int, err error) {
	good, bad = bottom-1, top+1
	at := first
	for stride := 5; at > good && at < bad && (good < bottom || bad > top); stride += 5 {
		loss, err := pass(at)
		if err != nil {
			return good, bad, err
		}
		if loss == 0 {
			good = at
			at = min(at+stride, top)
			continue
		}
		bad = at
		down := int(math.Log(max(1-loss, 0.01)) / math.Log(1/step))
		at = max(at-max(stride, down), bottom)
	}
	return good, bad, nil
}

// firstGuess is where a search begins when nothing is known: what its first probe tells is how far away it is.
var firstGuess = map[string]float64{"64": 550_000, "300": 450_000, "imix": 450_000, "1400": 250_000, "8900": 60_000}

// searches looks for the highest rates of all, round after round. A later round begins where the last one ended.
func (l *lab) searches(ctx context.Context, cs []collector, loads []load, n int, cfg searchConfig) error {
	found := map[string]float64{}
	for round := range n {
		for _, ld := range loads {
			for i := range cs {
				c := cs[(i+round)%len(cs)]
				if !c.installed() {
					if err := l.absent(experimentLossless, c, ld, round); err != nil {
						return err
					}
					continue
				}
				key := c.name + " " + ld.Name
				if cfg.first = found[key]; cfg.first == 0 {
					cfg.first = firstGuess[ld.Name]
				}
				if cfg.first == 0 {
					cfg.first = math.Sqrt(cfg.low * cfg.high)
				}
				rate, err := l.search(ctx, c, ld, round+1, cfg)
				if err != nil {
					return err
				}
				found[key] = rate
			}
		}
	}
	return nil
}
