package main

import (
	"testing"
	"time"

	"flashtap/events"
	"flashtap/functions/internal/boot"
	"flashtap/testutil/metrics"
	"flashtap/testutil/stage"
)

func TestMetrics(t *testing.T) {
	s := stage.New(t, nil)
	log := metrics.Record(t, "guard", boot.Logger)
	for n, c := range []events.CaptureID{s.Capture(), events.NewCaptureID(time.Now(), s.ENI)} {
		plan := s.Plan(t, c, nil)
		if got, err := step(s).run(t.Context(), events.StepInput{Capture: c, Execution: string(c)}); err != nil || got.Held != (n == 0) {
			t.Fatalf("%s: %+v, %v", plan.Capture, got, err)
		}
	}
	log.Want("CapturesStarted", 1)
	log.Want("CapturesJoined", 1)
}
