//go:build linux

package main

import (
	"fmt"
	"slices"
	"strings"
)

// losslessRows compare our highest rate without loss with the best of the peers'.
func losslessRows(rs results) (rows []row) {
	rate := func(r Result) float64 { return r.Lossless }
	for _, c := range []struct {
		load string
		want float64
	}{{"64", 1.6}, {"imix", 1.2}, {"1400", 1.4}} {
		us := rs.of(experimentLossless, ours, c.load)
		var best results
		var tops []string
		for _, name := range []string{tcpdump, netsniff, dumpcap, gopacketLoop} {
			peer := rs.of(experimentLossless, name, c.load)
			top, ok := peer.median(rate)
			switch {
			case !ok && len(peer) > 0:
				tops = append(tops, why(peer))
				continue
			case !ok:
				tops = append(tops, title(name)+" "+notRun)
				continue
			}
			tops = append(tops, fmt.Sprintf("%s %.0f", title(name), top/1e3))
			if before, _ := best.median(rate); best == nil || top > before {
				best = peer
			}
		}
		r := row{goal: "P5", measure: "highest rate without loss, packets a second, over the best peer", load: c.load, want: c.want, least: true, format: "%.0f"}
		if best != nil {
			r.against = title(best[0].Collector)
		}
		r = ratio(r, us, best, rate)
		r.losing = "kpps: " + strings.Join(tops, ", ")
		if slices.ContainsFunc(us, func(r Result) bool { return r.Open }) {
			r.losing = "ours ended at the highest rate that was tried; " + r.losing
		}
		rows = append(rows, r)
	}
	return rows
}

// offlineRows compare the way from file to file.
func offlineRows(rs results) (rows []row) {
	us := rs.of(experimentOffline, ours, "")
	for _, c := range []struct {
		peer string
		want float64
	}{{editcap, .35}, {"tcpdump -r -w", .30}, {"gopacket loop", .25}} {
		r := row{goal: "P6", measure: "decapsulation from file to file, CPU ns a packet, over " + c.peer, load: "imix", against: c.peer, want: c.want, format: "%.0f"}
		rows = append(rows, ratio(r, us, rs.of(experimentOffline, c.peer, ""), app))
	}
	return rows
}

// stopRows say what is missing or forged after a stop in the middle of traffic.
func stopRows(rs results) (rows []row) {
	for _, name := range []string{ours, oursDigest} {
		for _, ld := range []string{"300", streams} {
			runs := rs.of(experimentStop, name, ld)
			r := row{goal: "P7", measure: "stopped at 100 kpps: lost + merged + corrupt, the worst run (" + title(name) + ")", load: ld, format: "%.0f"}
			if len(runs.sound()) == 0 {
				r.missing = why(runs)
				rows = append(rows, r)
				continue
			}
			for _, one := range runs.sound() {
				v := one.Verdict
				bad := v.Lost + v.Merged + v.Corrupt
				if v.Tick != 1 {
					r.losing = fmt.Sprintf("timestamps of %.0f ns", v.Tick)
					bad++
				}
				r.figure = max(r.figure, float64(bad))
			}
			r.ours = r.figure
			var peers []string
			for _, peer := range []string{tcpdump, tcpdumpVXLAN, dumpcap, netsniff, gopacketLoop} {
				runs := rs.of(experimentStop, peer, ld)
				lost, ok := runs.median(func(r Result) float64 { return float64(r.Verdict.Lost - min(r.Verdict.Lost, r.Verdict.MergedFrames)) })
				merged, _ := runs.median(func(r Result) float64 { return float64(r.Verdict.MergedFrames) })
				switch {
				case ok && merged > 0:
					peers = append(peers, fmt.Sprintf("%s %.0f lost, %.0f merged", title(peer), lost, merged))
				case ok:
					peers = append(peers, fmt.Sprintf("%s %.0f lost", title(peer), lost))
				case len(runs) > 0:
					peers = append(peers, why(runs))
				}
			}
			r.losing = strings.Join(append(slices.DeleteFunc([]string{r.losing}, func(s string) bool { return s == "" }), peers...), ", ")
			rows = append(rows, r)
		}
	}
	return rows
}

// memoryRows are about what the collector holds.
func memoryRows(rs results) []row {
	most := row{goal: "P8", measure: "most resident memory, MiB", want: 128, format: "%.0f"}
	for _, name := range []string{ours, oursDigest} {
		for _, r := range rs.of(experimentLive, name, "").sound() {
			if m := float64(r.Memory) / (1 << 20); m > most.figure {
				most.figure, most.ours, most.load = m, m, r.Load
			}
		}
	}
	if most.figure == 0 {
		most.missing = notRun
	}
	heap := row{goal: "P8", measure: fmt.Sprintf("bytes put on the heap for each packet, the worst run (less than %d: no allocation)", smallestAllocation), load: "64", want: smallestAllocation - 1, format: "%.1f"}
	runs := rs.of(experimentAllocate, "", "")
	if len(runs.sound()) == 0 {
		heap.missing = why(runs)
	}
	for _, r := range runs.sound() {
		heap.figure = max(heap.figure, r.Allocated)
	}
	heap.ours = heap.figure
	return []row{most, heap}
}

// pipelineRows are about the whole way to the store.
func pipelineRows(rs results) []row {
	runs := rs.of(experimentPipeline, ours, "1400")
	r := row{goal: "P9", measure: "receive, write, SHA-256, TLS upload: CPU with the kernel's, ns a byte", load: "1400", want: 2.4, format: "%.2f"}
	var ok bool
	if r.figure, ok = runs.median(func(r Result) float64 { return r.PerByte }); !ok {
		r.missing = why(runs)
		return []row{r}
	}
	r.ours = r.figure
	alone, _ := runs.median(func(r Result) float64 { return r.PerByteA })
	r.losing = strings.Join(slices.DeleteFunc([]string{fmt.Sprintf("the collector alone %.2f", alone), losers(runs)}, func(s string) bool { return s == "" }), ", ")
	return []row{r}
}

// socketShare is the share of the ring's highest rate that sockets must take without loss.
const socketShare = 0.7

// socketRows are about receiving without privileges.
func socketRows(rs results) []row {
	rows := ratios(rs, "P10", "sockets: CPU with the kernel's, ns a packet, over tcpdump -w", oursSocket, tcpdump, total, map[string]float64{"300": 1, "1400": 1})
	for _, ld := range []string{"imix", "1400"} {
		runs := rs.of(experimentShare, oursSocket, ld)
		r := row{goal: "P10", measure: fmt.Sprintf("sockets: percent lost at %.1f of the ring's highest rate", socketShare), load: ld, format: "%.3g"}
		lost, ok := runs.median(func(r Result) float64 { return 100 * r.loss() })
		if !ok {
			r.missing = why(runs)
		}
		r.figure, r.ours, r.losing = lost, lost, losers(runs)
		rows = append(rows, r)
	}
	return rows
}
