package main

import (
	"testing"
	"time"

	"flashtap/events"
	"flashtap/functions/internal/boot"
	"flashtap/functions/remove"
	"flashtap/testutil/metrics"
	"flashtap/testutil/region"
)

// TestMetrics sweeps a deployment in which everything is wrong, and one in which nothing is.
func TestMetrics(t *testing.T) {
	s := set(t)
	log := metrics.Record(t, "sweep", boot.Logger)
	if _, err := s.sweep.run(t.Context(), trigger{}); err != nil {
		t.Fatal(err)
	}
	for _, metric := range []string{"SweepRefused", "SweepRemaining", "OldestSeconds", "CapturesRefused", "EventsTakenLate", "CapturesSealed"} {
		log.Want(metric) // a deployment at rest publishes nothing, and so costs nothing
	}

	old := events.NewCaptureID(time.Now().Add(-time.Hour), "eni-00000001")
	s.filter(old, remove.Description(old))
	odd := captureOf("eni-00000002")
	s.filter(odd, "bears our tags")
	unsealed := captureOf("eni-00000003")
	s.Plan(t, unsealed, func(p *events.Plan) { p.Deadline = time.Now().Add(-time.Hour) })
	s.wait("too late", "10", time.Now().Add(-maxWait-time.Minute))
	s.wait("in time", "7", time.Now())
	s.Inject(func(c region.Call) *region.Fault {
		if c.Operation == "DeleteTrafficMirrorFilter" {
			return &region.Fault{Code: "TrafficMirrorFilterInUse", Status: 400}
		}
		return nil
	})
	if _, err := s.sweep.run(t.Context(), trigger{}); err != nil {
		t.Fatal(err)
	}
	log.Want("SweepRefused", 1)
	log.Want("SweepRemaining", 1)
	log.Want("CapturesRefused", 1)
	log.Want("EventsTakenLate", 1)
	log.Want("CapturesSealed", 1)
	log.Want("VerdictIncomplete", 1)
	if age := log.Values("OldestSeconds"); len(age) != 1 || age[0] < 3600 || age[0] > 3700 {
		t.Errorf("the oldest is %v s old, want about 3600", age)
	}
}
