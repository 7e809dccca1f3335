package evidence

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"flashtap/events"
)

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// equation is one balance without its words.
type equation struct{ left, right uint64 }

// checkLedger recomputes the ledger and the verdict.
func (v *verifier) checkLedger(m *manifest) {
	var sum events.Tally
	for _, c := range m.collectors {
		sum = sum.Add(c.Tally)
	}
	if m.Tally != sum {
		v.bad(Ledger, manifestName, "its tally is not the sum over its collectors")
	}
	held := map[string]bool{}
	var packets uint64
	for _, r := range m.segments {
		held[r.Key] = true
		packets += r.Packets
	}
	lost := sum.Unwritten + sum.RingDropped + sum.SocketDropped
	gone := 0
	for _, c := range m.collectors {
		for _, r := range c.segments {
			if !held[r.Key] {
				lost += r.Packets
				gone++
			}
		}
	}
	if m.Ledger.Lost != lost || m.Ledger.AtMostLost != sum.HostDropped {
		v.bad(Ledger, manifestName, "says that %d packets are lost and at most %d more; it comes to %d and %d", m.Ledger.Lost, m.Ledger.AtMostLost, lost, sum.HostDropped)
	}
	uneven := v.checkBalances(m, sum, packets)
	v.checkGaps(m)
	v.checkVerdict(m, sum, packets, lost, gone, uneven)
}

// balances are the equations of section 6.5, in its order.
func balances(m *manifest, sum events.Tally, packets uint64) []equation {
	var all []equation
	var every []record
	confirmed := map[string]bool{}
	for _, c := range m.collectors {
		for _, s := range c.CollectorManifest.Segments {
			confirmed[s.Key] = confirmed[s.Key] || s.Confirmed
		}
		if c.Derived {
			all = append(all, received(c.Tally))
		} else {
			all = append(all, equations(c.Tally, c.segments, confirmed)...)
		}
		every = append(every, c.segments...)
	}
	all = append(all, equations(sum, every, confirmed)...)
	return append(all, equation{packets, sum.Uploaded})
}

func received(t events.Tally) equation {
	return equation{t.Received, t.Written + t.Rejected.Total() + t.Unwritten}
}

func equations(t events.Tally, segments []record, confirmed map[string]bool) []equation {
	var packets, bytes, upPackets, upBytes, reduced uint64
	for _, r := range segments {
		packets, bytes, reduced = packets+r.Packets, bytes+uint64(r.Bytes), reduced+r.Segment.Reduced
		if confirmed[r.Key] {
			upPackets, upBytes = upPackets+r.Packets, upBytes+uint64(r.Bytes)
		}
	}
	return []equation{received(t), {t.Written, t.Sealed}, {t.Sealed, packets}, {t.SealedBytes, bytes}, {t.Uploaded, upPackets}, {t.UploadedBytes, upBytes}, {t.Reduced, reduced}}
}

// checkBalances says whether some equation does not hold.
func (v *verifier) checkBalances(m *manifest, sum events.Tally, packets uint64) (uneven bool) {
	want := balances(m, sum, packets)
	if len(m.Ledger.Balances) != len(want) {
		v.bad(Ledger, manifestName, "has %d balances, there are %d", len(m.Ledger.Balances), len(want))
	}
	for i, w := range want {
		holds := w.left == w.right
		uneven = uneven || !holds
		if i >= len(m.Ledger.Balances) {
			continue
		}
		if b := m.Ledger.Balances[i]; b.Left != w.left || b.Right != w.right || b.Holds != holds {
			v.bad(Ledger, manifestName, "balance %d, %q, says %d = %d: %t; it comes to %d = %d: %t", i+1, b.Says, b.Left, b.Right, b.Holds, w.left, w.right, holds)
		}
	}
	return uneven
}

// checkGaps recomputes when packets were lost.
func (v *verifier) checkGaps(m *manifest) {
	var want []events.Gap
	for i := range m.collectors {
		want = append(want, gaps(&m.collectors[i])...)
	}
	said := slices.Clone(m.Ledger.Gaps)
	if !slices.IsSortedFunc(said, func(a, b events.Gap) int {
		return cmp.Or(a.From.Compare(b.From), strings.Compare(a.Collector, b.Collector), strings.Compare(a.Cause, b.Cause))
	}) {
		v.bad(Ledger, manifestName, "its gaps are out of order")
	}
	order := func(a, b events.Gap) int {
		return cmp.Or(strings.Compare(a.Collector, b.Collector), strings.Compare(a.Cause, b.Cause), a.From.Compare(b.From), a.To.Compare(b.To), cmp.Compare(a.Packets, b.Packets))
	}
	slices.SortFunc(want, order)
	slices.SortFunc(said, order)
	for len(want) > 0 || len(said) > 0 {
		switch {
		case len(said) == 0 || len(want) > 0 && order(want[0], said[0]) < 0:
			v.bad(Ledger, manifestName, "the gap is missing: %s", gapText(want[0]))
			want = want[1:]
		case len(want) == 0 || order(want[0], said[0]) > 0:
			v.bad(Ledger, manifestName, "the gap does not follow from the checkpoints: %s", gapText(said[0]))
			said = said[1:]
		default:
			want, said = want[1:], said[1:]
		}
	}
}

func gapText(g events.Gap) string {
	return fmt.Sprintf("%d packets by %s of %s from %s to %s", g.Packets, g.Cause, g.Collector, stamp(g.From), stamp(g.To))
}

// gaps follow from a collector's checkpoints and its closing word.
func gaps(c *collector) []events.Gap {
	type moment struct {
		at    time.Time
		tally events.Tally
	}
	line := []moment{{at: c.Started}}
	for _, p := range c.points {
		line = append(line, moment{p.At, p.Tally})
	}
	if !c.Derived {
		line = append(line, moment{c.Ended, c.Tally})
	}
	var all []events.Gap
	for _, counter := range []struct {
		cause string
		of    func(events.Tally) uint64
	}{
		{"unwritten", func(t events.Tally) uint64 { return t.Unwritten }},
		{"ringDropped", func(t events.Tally) uint64 { return t.RingDropped }},
		{"socketDropped", func(t events.Tally) uint64 { return t.SocketDropped }},
		{"hostDropped", func(t events.Tally) uint64 { return t.HostDropped }},
	} {
		open := false // the last gap ends where the next would begin
		for i := 1; i < len(line); i++ {
			before, after := counter.of(line[i-1].tally), counter.of(line[i].tally)
			if after <= before {
				open = false
				continue
			}
			if open {
				last := &all[len(all)-1]
				last.To, last.Packets = line[i].at, last.Packets+after-before
				continue
			}
			open = true
			all = append(all, events.Gap{From: line[i-1].at, To: line[i].at, Cause: counter.cause, Packets: after - before, Collector: c.UserID})
		}
	}
	if c.Derived && len(c.points) > 0 {
		all = append(all, events.Gap{From: c.points[len(c.points)-1].At, Cause: "unknown", Collector: c.UserID})
	}
	return all
}

// checkVerdict checks that the verdict follows, and that everything which takes from the evidence has a reason.
func (v *verifier) checkVerdict(m *manifest, sum events.Tally, packets, lost uint64, gone int, uneven bool) {
	var truncated bool
	for _, r := range m.segments {
		truncated = truncated || r.Truncated > 0
	}
	want := events.VerdictComplete
	switch {
	case len(m.Reasons) > 0:
		want = events.VerdictIncomplete
	case packets == 0:
		want = events.VerdictNothing
	case truncated || sum.Truncated > 0 || !everything(m.Mirror.MirrorPlan):
		want = events.VerdictTruncated
	}
	if m.Verdict != want {
		v.bad(Ledger, manifestName, "its verdict is %q; with %d reasons and %d packets it is %q", m.Verdict, len(m.Reasons), packets, want)
	}
	var faults []string
	needs := func(here bool, what string, args ...any) {
		if here {
			faults = append(faults, fmt.Sprintf(what, args...))
		}
	}
	needs(lost > 0, "%d packets are lost", lost)
	needs(sum.HostDropped > 0, "%d packets may be lost", sum.HostDropped)
	needs(sum.Reduced > 0, "%d packets were cut", sum.Reduced)
	needs(gone > 0, "%d segments are not there", gone)
	needs(uneven, "a balance does not hold")
	known := map[string]bool{}
	for _, c := range m.collectors {
		known[c.folder()] = true
		for _, r := range c.segments {
			known[r.Key] = true
		}
	}
	for _, o := range m.Objects {
		name, _ := v.name(o.Key)
		needs(kindOf(name) == segmentKind && !known[o.Key], "%s is a segment that no collector has a record of", name)
		user := userOf(name)
		needs(user != "" && !known["collectors/"+user+"/"], "%s is in a folder of no collector", name)
	}
	for _, c := range m.collectors {
		needs(c.Error != "", "collector %s names a fault", c.UserID)
		if !c.Derived {
			continue
		}
		prefix := "incomplete from "
		if len(c.points) > 0 {
			prefix += stamp(c.points[len(c.points)-1].At) + ": "
		}
		said := slices.ContainsFunc(m.Reasons, func(reason string) bool { return strings.HasPrefix(reason, prefix) })
		needs(len(c.points) == 0, "collector %s left nothing", c.UserID)
		if len(c.points) > 0 && !said {
			v.bad(Ledger, manifestName, "no reason begins with %q, though collector %s left no manifest", prefix, c.UserID)
		}
	}
	if len(m.Reasons) > 0 {
		return // what they say is for people
	}
	for _, fault := range faults {
		v.bad(Ledger, manifestName, "%s, and no reason says so", fault)
	}
}

// everything says whether a mirror takes all packets whole (section 6.4).
func everything(m events.MirrorPlan) bool {
	if m.PacketLength != 0 || !m.Filter.DNS {
		return false
	}
	taken := map[[2]string]bool{}
	for _, r := range m.Filter.Rules {
		if r.Action != events.Accept {
			return false
		}
		if r.Protocol == 0 && r.SourcePorts == nil && r.DestinationPorts == nil && r.SourceCIDR == r.DestinationCIDR {
			taken[[2]string{r.Direction, r.SourceCIDR}] = true
		}
	}
	for _, direction := range []string{events.Ingress, events.Egress} {
		for _, block := range []string{"0.0.0.0/0", "::/0"} {
			if !taken[[2]string{direction, block}] {
				return false
			}
		}
	}
	return true
}
