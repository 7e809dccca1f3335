package evidence

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"flashtap/events"
)

func TestGaps(t *testing.T) {
	at := func(n int, drops events.Tally) point { return point{seq: n, at: minute(n), tally: drops} }
	ring := func(n uint64) events.Tally { return events.Tally{RingDropped: n} }
	gap := func(from, to int, cause string, packets uint64) events.Gap {
		g := events.Gap{From: minute(from), Cause: cause, Packets: packets, Collector: "u"}
		if to >= 0 {
			g.To = minute(to)
		}
		return g
	}
	for name, row := range map[string]struct {
		points  []point
		end     events.Tally
		derived bool
		want    []events.Gap
	}{
		"nothing was lost":                        {[]point{at(1, ring(0)), at(2, ring(0))}, ring(0), false, []events.Gap{}},
		"between two checkpoints":                 {[]point{at(1, ring(0)), at(2, ring(5)), at(3, ring(5))}, ring(5), false, []events.Gap{gap(1, 2, "ringDropped", 5)}},
		"before the first":                        {[]point{at(1, ring(5)), at(2, ring(5))}, ring(5), false, []events.Gap{gap(0, 1, "ringDropped", 5)}},
		"behind the last":                         {[]point{at(1, ring(0)), at(2, ring(0))}, ring(3), false, []events.Gap{gap(2, 9, "ringDropped", 3)}},
		"all the time is one":                     {[]point{at(1, ring(1)), at(2, ring(2)), at(3, ring(3))}, ring(4), false, []events.Gap{gap(0, 9, "ringDropped", 4)}},
		"twice, with a pause":                     {[]point{at(1, ring(1)), at(2, ring(1)), at(3, ring(3))}, ring(3), false, []events.Gap{gap(0, 1, "ringDropped", 1), gap(2, 3, "ringDropped", 2)}},
		"a counter that falls is none":            {[]point{at(1, ring(5)), at(2, ring(2)), at(3, ring(2))}, ring(2), false, []events.Gap{gap(0, 1, "ringDropped", 5)}},
		"no checkpoint":                           {nil, ring(7), false, []events.Gap{gap(0, 9, "ringDropped", 7)}},
		"no closing manifest: its end is unknown": {[]point{at(1, ring(0)), at(2, ring(5))}, ring(0), true, []events.Gap{gap(1, 2, "ringDropped", 5), gap(2, -1, "unknown", 0)}},
		"neither manifest nor checkpoint":         {nil, ring(0), true, []events.Gap{}},
		"several causes, each its own": {[]point{at(1, events.Tally{Unwritten: 1, HostDropped: 2}), at(2, events.Tally{Unwritten: 1, HostDropped: 2, SocketDropped: 3})},
			events.Tally{Unwritten: 1, HostDropped: 2, SocketDropped: 3}, false, []events.Gap{gap(0, 1, "hostDropped", 2), gap(0, 1, "unwritten", 1), gap(1, 2, "socketDropped", 3)}},
	} {
		r := report{said: events.CollectorManifest{UserID: "u", Started: minute(0), Ended: minute(9), Tally: row.end, Derived: row.derived}, points: row.points}
		if got := gaps([]report{r}); !reflect.DeepEqual(got, row.want) {
			t.Errorf("%s: %+v, want %+v", name, got, row.want)
		}
	}
}

// TestLedger: every packet has one place where it was kept, lost or rejected, and the equations say so.
func TestLedger(t *testing.T) {
	r := orderly(t)
	r.last.Tally.RingDropped, r.last.Tally.HostDropped, r.last.Tally.Unwritten, r.last.Tally.Received = 7, 11, 4, 39
	delete(r.segments, r.nth(2))
	_, m := r.store().seal()
	l := m.Ledger
	if l.Lost != 7+4+10 || l.AtMostLost != 11 {
		t.Errorf("lost %d, at most %d more", l.Lost, l.AtMostLost)
	}
	by := map[string]uint64{}
	places := []string{}
	for _, s := range l.Stages {
		by[s.Fate] += s.Packets
		places = append(places, s.Place)
	}
	if by[events.FateLost] != l.Lost || by[events.FateAtMost] != l.AtMostLost || by[events.FateRejected] != 5 || by[events.FateUnknown] != 0 {
		t.Errorf("by fate: %v", by)
	}
	order := []string{events.PlaceSource, events.PlaceHost, events.PlaceReceiver, events.PlaceAdmission, events.PlaceDisk, events.PlaceBucket}
	if !slices.IsSortedFunc(places, func(a, b string) int { return slices.Index(order, a) - slices.Index(order, b) }) || len(slices.Compact(places)) != len(order) {
		t.Errorf("places %v", places)
	}
	broken := []string{}
	for _, b := range l.Balances {
		if b.Holds != (b.Left == b.Right) {
			t.Errorf("%+v", b)
		}
		if !b.Holds {
			broken = append(broken, b.Says)
			if !slices.ContainsFunc(m.Reasons, func(reason string) bool { return strings.Contains(reason, b.Says) }) {
				t.Errorf("no reason says %q", b.Says)
			}
		}
	}
	if !slices.Equal(broken, []string{"all: packets in the bucket = uploaded"}) || len(l.Balances) != 15 {
		t.Errorf("%d balances, broken are %q", len(l.Balances), broken)
	}
	if len(l.Gaps) != 3 || l.Gaps[0].From != minute(2) || l.Gaps[0].To != minute(3) {
		t.Errorf("gaps %+v", l.Gaps)
	}
}

// TestSource: what was mirrored, and by which session.
func TestSource(t *testing.T) {
	r := orderly(t).store()
	_, m := r.seal()
	if m.Format != "flashtap-evidence/1" || !reflect.DeepEqual(m.Source, r.plan.Source) || !reflect.DeepEqual(m.Mirror.MirrorPlan, r.plan.Mirror) || m.Mirror.SessionID != "tms-1" {
		t.Errorf("format %q, source %+v, mirror %+v", m.Format, m.Source, m.Mirror)
	}
	if time.Since(m.SealedAt).Abs() > time.Minute {
		t.Errorf("sealed at %s", m.SealedAt)
	}
}
