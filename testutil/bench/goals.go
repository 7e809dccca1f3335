//go:build linux

package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// row is one line of the table of goals.
type row struct {
	goal    string
	measure string
	load    string
	ours    float64
	peer    float64
	against string  // the peer's title; empty: none
	figure  float64 // what is compared with want
	low     float64 // the least and the most of the figures of each round; 0: not known
	high    float64
	want    float64
	least   bool   // want is the least that will do, instead of the most
	format  string // of ours and peer
	losing  string
	missing string // why there is no figure
}

// met says whether a row reaches its goal.
func (r row) met() bool {
	if r.missing != "" {
		return false
	}
	// As many digits as a goal has are compared.
	figure := math.Round(r.figure*100) / 100
	if r.least {
		return figure >= r.want
	}
	return figure <= r.want
}

// goal is one of the goals of the collector's performance, and what must be run for it.
type goal struct {
	id    string
	needs []string // experiments
	rows  func(results) []row
}

// The needs of goals: parts of the whole that can be run alone.
const (
	needSaturation = "saturation"
	needRolling    = "rolling"
	needSockets    = "sockets"
	needSearch     = "search"
	needOffline    = "offline"
	needStop       = "stop"
	needAllocate   = "allocate"
	needPipeline   = "pipeline"
	needEvidence   = "evidence"
)

// The goals: ratios to what the peers take in the same run, never times.
var goals = []goal{
	{"P1", []string{needSaturation}, func(rs results) []row {
		return ratios(rs, "P1", "CPU of the collector, ns a packet, over tcpdump -w", ours, tcpdump, app, map[string]float64{"64": .50, "300": .45, "imix": .45, "1400": .35, "8900": .30})
	}},
	{"P2", []string{needSaturation}, func(rs results) []row {
		return ratios(rs, "P2", "CPU with the kernel's, ns a packet, over tcpdump -w", ours, tcpdump, total, map[string]float64{"64": .72, "300": .62, "imix": .65, "1400": .52, "8900": .45})
	}},
	{"P3", []string{needRolling}, func(rs results) []row {
		return ratios(rs, "P3", "the same with segments and SHA-256, over tcpdump -C 100", oursDigest, tcpdumpRoll, total, map[string]float64{"64": .38, "300": .42, "imix": .45, "1400": .62, "8900": .95})
	}},
	{"P4", []string{needSaturation}, func(rs results) []row {
		rows := ratios(rs, "P4", "kept at saturation, packets a second, over tcpdump -w", ours, tcpdump, kept, map[string]float64{"1400": 2.4, "8900": 2.4})
		return atLeast(rows)
	}},
	{"P5", []string{needSearch}, losslessRows},
	{"P6", []string{needOffline}, offlineRows},
	{"P7", []string{needStop}, stopRows},
	{"P8", []string{needSaturation, needRolling, needAllocate}, memoryRows},
	{"P9", []string{needPipeline}, pipelineRows},
	{"P10", []string{needSaturation, needSockets}, socketRows},
	{"P11", []string{needEvidence}, evidenceRows},
}

func goalIndex(id string) int {
	return slices.IndexFunc(goals, func(g goal) bool { return g.id == id })
}

// Figures of a run.
func app(r Result) float64   { return r.App }
func total(r Result) float64 { return r.Total }
func kept(r Result) float64  { return r.Kept }

// ratios compares us with a peer at saturation, load by load.
func ratios(rs results, id, measure, us, peer string, figure func(Result) float64, want map[string]float64) (rows []row) {
	for _, s := range sizes {
		if limit, ok := want[s.name]; ok {
			a, b := rs.of(experimentLive, us, s.name), rs.of(experimentLive, peer, s.name)
			rows = append(rows, ratio(row{goal: id, measure: measure, load: s.name, against: title(peer), want: limit, format: "%.0f"}, a, b, figure))
		}
	}
	return rows
}

// ratio fills in what two collectors' runs give.
func ratio(r row, us, peer results, figure func(Result) float64) row {
	var ok, okPeer bool
	r.ours, ok = us.median(figure)
	r.peer, okPeer = peer.median(figure)
	if !ok || !okPeer {
		r.missing = why(us, peer)
		return r
	}
	r.figure = r.ours / r.peer
	for _, a := range us.sound() {
		for _, b := range peer.sound() {
			if a.Round != b.Round {
				continue
			}
			one := figure(a) / figure(b)
			r.low, r.high = min(cmp.Or(r.low, one), one), max(r.high, one)
		}
	}
	r.losing = losers(us, peer)
	return r
}

// why says why there are no figures.
func why(runs ...results) string {
	for _, rs := range runs {
		for _, r := range rs {
			if r.Err != "" {
				text, _, _ := strings.Cut(r.Err, "\n")
				return title(r.Collector) + ": " + oneLine(text)
			}
		}
	}
	return notRun
}

// notRun is why there is no figure when nobody asked for one.
const notRun = "not run"

// losers tells of the runs that lost something, of each collector.
func losers(runs ...results) string {
	var all []string
	for _, rs := range runs {
		bad := rs.losing()
		if len(bad) == 0 {
			continue
		}
		var failed int
		var losses []float64
		for _, r := range bad {
			if r.Err != "" {
				failed++
			} else {
				losses = append(losses, 100*r.loss())
			}
		}
		text := fmt.Sprintf("%s %d of %d", title(bad[0].Collector), len(bad), len(rs))
		if len(losses) > 0 {
			text += fmt.Sprintf(" (%.2g-%.2g %%)", slices.Min(losses), slices.Max(losses))
		}
		if failed > 0 {
			text += fmt.Sprintf(" (%d failed)", failed)
		}
		all = append(all, text)
	}
	return strings.Join(all, ", ")
}

func atLeast(rows []row) []row {
	for i := range rows {
		rows[i].least = true
	}
	return rows
}
