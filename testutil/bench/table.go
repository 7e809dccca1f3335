//go:build linux

package main

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// report writes everything that results tell, as Markdown: the machine, the goals that were asked for, and the medians
// behind them.
func report(w io.Writer, rs results, only []string) {
	for _, r := range rs.of(experimentMachine, "", "") {
		fmt.Fprintf(w, "%s.\n", r.Machine)
		var peers []string
		for _, name := range []string{"tcpdump", "dumpcap", "editcap", "netsniff-ng"} {
			if version := r.Machine.Peers[name]; version != "" {
				peers = append(peers, name+" "+version)
			}
		}
		fmt.Fprintf(w, "Peers: %s.\n", strings.Join(peers, "; "))
		if len(r.Machine.Missing) > 0 {
			fmt.Fprintf(w, "**Not installed, so left out: %s.**\n", strings.Join(r.Machine.Missing, ", "))
		}
	}
	fmt.Fprintln(w)
	goalTable(w, rs, only)
	liveTable(w, rs)
	losslessTable(w, rs)
	offlineTable(w, rs)
	stopTable(w, rs)
	soakTable(w, rs)
}

// goalTable writes the goals, each with its verdict.
func goalTable(w io.Writer, rs results, only []string) {
	var rows []row
	for _, g := range goals {
		if len(only) == 0 || slices.Contains(only, g.id) {
			rows = append(rows, g.rows(rs)...)
		}
	}
	left := map[string][]string{} // of each goal, what was not run
	rows = slices.DeleteFunc(rows, func(r row) bool {
		if r.missing == notRun {
			left[r.goal] = append(left[r.goal], r.load)
		}
		return r.missing == notRun
	})
	if len(rows) == 0 {
		return
	}
	fmt.Fprint(w, "| goal | measure | frames | ours | peer | figure (of the rounds) | goal | | losing runs, and remarks |\n|---|---|---|---|---|---|---|---|---|\n")
	met := 0
	for _, r := range rows {
		verdict, figure, ours, peer := "**missed**", "", "", ""
		switch {
		case r.missing != "":
			verdict, r.losing = "no figure", r.missing
		case r.met():
			verdict = "met"
			met++
		}
		if r.missing == "" {
			figure = fmt.Sprintf("%.3g", r.figure)
			ours = fmt.Sprintf(r.format, r.ours)
		}
		if r.missing == "" && r.against != "" {
			figure = fmt.Sprintf("%.2f", r.figure)
			if r.high > 0 {
				figure += fmt.Sprintf(" (%.2f-%.2f)", r.low, r.high)
			}
			peer = fmt.Sprintf(r.format, r.peer) + " " + r.against
		}
		sign := "≤"
		if r.least {
			sign = "≥"
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s | %s %.4g | %s | %s |\n", r.goal, r.measure, r.load, ours, peer, figure, sign, r.want, verdict, r.losing)
	}
	fmt.Fprintf(w, "\n%d of %d rows met.", met, len(rows))
	var names []string
	for _, g := range goals {
		switch loads := left[g.id]; {
		case slices.ContainsFunc(rows, func(r row) bool { return r.goal == g.id }):
			for _, ld := range slices.Compact(loads) {
				names = append(names, g.id+" "+ld)
			}
		case len(loads) > 0:
			names = append(names, g.id)
		}
	}
	if len(names) > 0 {
		fmt.Fprintf(w, " Not run: %s.", strings.Join(names, ", "))
	}
	fmt.Fprint(w, "\n\n")
}

// group are the runs of one collector with one load.
type group struct {
	collector, load string
	rate            float64
	runs            results
}

// groups sorts the runs of an experiment by load, as in sizes, and by collector, as in collectors.
func groups(rs results, experiment string) (out []group) {
	for _, r := range rs.of(experiment, "", "") {
		i := slices.IndexFunc(out, func(g group) bool { return g.collector == r.Collector && g.load == r.Load && g.rate == r.Rate })
		if i < 0 {
			i = len(out)
			out = append(out, group{collector: r.Collector, load: r.Load, rate: r.Rate})
		}
		out[i].runs = append(out[i].runs, r)
	}
	place := func(g group) (int, int) {
		byLoad := slices.IndexFunc(sizes, func(s struct {
			name  string
			count uint64
		}) bool {
			return s.name == g.load
		})
		return byLoad, slices.IndexFunc(collectors, func(c collector) bool { return c.name == g.collector })
	}
	slices.SortStableFunc(out, func(a, b group) int {
		loadA, nameA := place(a)
		loadB, nameB := place(b)
		return cmp.Or(cmp.Compare(loadA, loadB), cmp.Compare(a.load, b.load), cmp.Compare(a.rate, b.rate), cmp.Compare(nameA, nameB))
	})
	return out
}

// overcommitted is the share of waiting above which a CPU had more to do than it could.
const overcommitted = 1.1

func liveTable(w io.Writer, rs results) {
	for _, experiment := range []string{experimentLive, experimentShare, experimentAllocate, experimentPipeline} {
		all := groups(rs, experiment)
		if len(all) == 0 {
			continue
		}
		fmt.Fprintf(w, "Medians of %s runs; CPU in ns a packet.\n\n", experiment)
		fmt.Fprint(w, "| frames | rate | collector | app | kernel | total | kept kpps | loss | wait | MiB | runs | losing runs |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n")
		for _, g := range all {
			m := func(figure func(Result) float64) float64 { v, _ := g.runs.median(figure); return v }
			rate := "full"
			if g.rate > 0 {
				rate = fmt.Sprintf("%.0f kpps", g.rate/1e3)
			}
			if len(g.runs.sound()) == 0 {
				fmt.Fprintf(w, "| %s | %s | %s | | | | | | | | %d | %s |\n", g.load, rate, title(g.collector), len(g.runs), why(g.runs))
				continue
			}
			wait := m(func(r Result) float64 { return r.Wait })
			note := losers(g.runs)
			if busy := g.runs.count(func(r Result) bool { return r.Wait > overcommitted }); busy > 0 {
				note = strings.TrimPrefix(note+fmt.Sprintf("; %d overcommitted", busy), "; ")
			}
			fmt.Fprintf(w, "| %s | %s | %s | %.0f | %.0f | %.0f | %.0f | %.3g %% | %.0f %% | %.0f | %d | %s |\n", g.load, rate, title(g.collector),
				m(app), m(func(r Result) float64 { return r.Kernel }), m(total), m(kept)/1e3, 100*m(Result.loss), 100*wait,
				m(func(r Result) float64 { return float64(r.Memory) / (1 << 20) }), len(g.runs), note)
		}
		fmt.Fprintln(w)
	}
}

// count is how many runs are such.
func (rs results) count(such func(Result) bool) (n int) {
	for _, r := range rs {
		if such(r) {
			n++
		}
	}
	return n
}

func losslessTable(w io.Writer, rs results) {
	all := groups(rs, experimentLossless)
	if len(all) == 0 {
		return
	}
	fmt.Fprint(w, "Highest rates without loss.\n\n| frames | collector | kpps | Gbit/s | of each round |\n|---|---|---|---|---|\n")
	for _, g := range all {
		rate, ok := g.runs.median(func(r Result) float64 { return r.Lossless })
		if !ok {
			fmt.Fprintf(w, "| %s | %s | | | %s |\n", g.load, title(g.collector), why(g.runs))
			continue
		}
		var each []string
		for _, r := range g.runs.sound() {
			text := fmt.Sprintf("%.0f", r.Lossless/1e3)
			if r.Open {
				text = ">= " + text
			}
			each = append(each, text)
		}
		gigabits := ""
		if l, err := sizeLoads(g.load); err == nil && len(l) == 1 {
			gigabits = fmt.Sprintf("%.2f", rate*l[0].Plan.MeanSize()*8/1e9)
		}
		fmt.Fprintf(w, "| %s | %s | %.0f | %s | %s |\n", g.load, title(g.collector), rate/1e3, gigabits, strings.Join(each, ", "))
	}
	fmt.Fprintln(w)
}

func offlineTable(w io.Writer, rs results) {
	all := groups(rs, experimentOffline)
	if len(all) == 0 {
		return
	}
	fmt.Fprint(w, "From file to file.\n\n| frames | program | CPU ns a packet | runs | remarks |\n|---|---|---|---|---|\n")
	for _, g := range all {
		cost, ok := g.runs.median(app)
		if !ok {
			fmt.Fprintf(w, "| %s | %s | | %d | %s |\n", g.load, title(g.collector), len(g.runs), why(g.runs))
			continue
		}
		note := ""
		for _, r := range g.runs {
			if r.Verdict != nil && r.Verdict.Outer > 0 {
				note = "leaves VXLAN on"
			}
			if r.Verdict != nil && r.Verdict.Tick != 1 {
				note = strings.TrimPrefix(note+fmt.Sprintf(", timestamps of %.0f ns", r.Verdict.Tick), ", ")
			}
		}
		fmt.Fprintf(w, "| %s | %s | %.0f | %d | %s |\n", g.load, title(g.collector), cost, len(g.runs), note)
	}
	fmt.Fprintln(w)
}

// stopTable shows what collectors have kept of traffic in the middle of which they were stopped.
func stopTable(w io.Writer, rs results) {
	all := groups(rs, experimentStop)
	if len(all) == 0 {
		return
	}
	fmt.Fprint(w, "Stopped in the middle of traffic; frames, the worst run.\n\n| frames | collector | lost | of these merged | corrupt | timestamps | median delay | runs |\n|---|---|---|---|---|---|---|---|\n")
	for _, g := range all {
		sound := g.runs.sound()
		if len(sound) == 0 {
			fmt.Fprintf(w, "| %s | %s | | | | | | %s |\n", g.load, title(g.collector), why(g.runs))
			continue
		}
		worst := slices.MaxFunc(sound, func(a, b Result) int { return cmp.Compare(a.Verdict.Lost, b.Verdict.Lost) })
		v := worst.Verdict
		fmt.Fprintf(w, "| %s | %s | %d of %d | %d | %d | %.0f ns | %.0f µs | %d |\n", g.load, title(g.collector), v.Lost, worst.Send.Offered(), v.MergedFrames, v.Corrupt, v.Tick, v.Delay.Median, len(g.runs))
	}
	fmt.Fprintln(w)
}

func soakTable(w io.Writer, rs results) {
	for _, r := range rs.of(experimentSoak, "", "") {
		if len(r.Samples) == 0 || r.Verdict == nil || r.Send == nil {
			fmt.Fprintf(w, "Soak of %s: %s\n", title(r.Collector), r.Err)
			continue
		}
		last := r.Samples[len(r.Samples)-1]
		memory, descriptors := growth(r.Samples)
		shape := "flat"
		switch {
		case last.Seconds < soakLeast:
			shape = "too short to tell"
		case !steady(r.Samples):
			shape = "**growing**"
		}
		fmt.Fprintf(w, "Soak: %s at %.0f kpps of %s for %.0f minutes: %s; %s.\n", title(r.Collector), r.Rate/1e3, r.Load, r.Send.Seconds/60, r.Verdict, cmp.Or(r.Err, "no failure"))
		fmt.Fprintf(w, "Memory %.1f MiB at the end, %+.1f MiB an hour; %d descriptors, %+.1f an hour: %s.\n\n", float64(last.Memory)/(1<<20), tenths(memory/(1<<20)), last.Descriptors, tenths(descriptors), shape)
	}
}

// tenths rounds, so that nothing is not less than nothing.
func tenths(x float64) float64 { return math.Round(x*10)/10 + 0 }
