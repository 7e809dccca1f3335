package evidence

import (
	"testing"
	"time"

	"flashtap/events"
	"flashtap/functions/internal/boot"
	"flashtap/testutil/metrics"
)

// TestMetrics: a capture is counted once, however often it is sealed.
func TestMetrics(t *testing.T) {
	r := orderly(t)
	start := time.Date(2026, 11, 22, 3, 4, 5, 0, time.UTC)
	for i := range r.last.Segments {
		r.last.Segments[i].First = start.Add(time.Duration(i) * time.Minute)
		r.last.Segments[i].Last = r.last.Segments[i].First.Add(30 * time.Second)
	}
	var size float64
	for _, seg := range r.last.Segments {
		size += float64(seg.Bytes)
	}
	r.store()
	log := metrics.Record(t, "seal", boot.Logger)
	for range 3 {
		r.seal()
	}
	log.Want("CapturesSealed", 1)
	log.Want("VerdictComplete", 1)
	log.Want("Packets", 30)
	log.Want("Bytes", size)
	log.Want("CaptureSeconds", 150)
	log.Want("PacketsLost")
	log.Want("NoPackets")
}

// TestMetricsOfVerdicts gives each verdict a line of its own.
func TestMetricsOfVerdicts(t *testing.T) {
	for verdict, metric := range map[string]string{events.VerdictComplete: "VerdictComplete", events.VerdictTruncated: "VerdictTruncated",
		events.VerdictIncomplete: "VerdictIncomplete", events.VerdictNothing: "VerdictNothing"} {
		log := metrics.Record(t, "seal", boot.Logger)
		now := time.Now()
		plan := events.Plan{Capture: newCapture(), Start: now.Add(-10 * time.Minute), Deadline: now.Add(time.Hour)}
		launched := []Entry{{Key: launchedPrefix(plan.Capture) + "i-00000001.json"}}
		logSealed(plan, events.Manifest{Capture: plan.Capture, Verdict: verdict, Tally: events.Tally{RingDropped: 7}}, launched)
		if got := log.Values(metric); len(got) != 1 {
			t.Errorf("%s: %s is %v", verdict, metric, got)
		}
		log.Want("PacketsLost", 7)
		if got := log.Values("BilledSeconds"); len(got) != 1 || got[0] < 600 || got[0] > 610 {
			t.Errorf("billed %v s, want about 600", got)
		}
		if verdict == events.VerdictNothing {
			log.Want("NoPackets", 1)
		}
	}
}

func TestBilled(t *testing.T) {
	start := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	plan := events.Plan{Capture: newCapture(), Start: start, Deadline: start.Add(20 * time.Minute), Limits: events.CaptureLimits{DrainSeconds: 60}}
	launched := []Entry{{Key: launchedPrefix(plan.Capture) + "i-00000001.json"}}
	for name, row := range map[string]struct {
		list []Entry
		now  time.Duration
		want time.Duration
	}{
		"sealed by the state machine":           {launched, 10 * time.Minute, 10 * time.Minute},
		"sealed by the sweep, long afterwards":  {launched, 24 * time.Hour, plan.GuardAt().Sub(start)},
		"a clock that went back":                {launched, -time.Minute, 0},
		"nothing was launched":                  {nil, 10 * time.Minute, 0},
		"another capture's collector is listed": {[]Entry{{Key: launchedPrefix("20260101T000000Z-eni-0a0a0a0a") + "i-1.json"}}, time.Minute, 0},
	} {
		if got := billed(plan, row.list, start.Add(row.now)); got != row.want {
			t.Errorf("%s: %s, want %s", name, got, row.want)
		}
	}
}
