package main

import (
	"testing"

	"flashtap/events"
	"flashtap/functions/internal/boot"
	"flashtap/testutil/metrics"
	"flashtap/testutil/stage"
)

func TestMetrics(t *testing.T) {
	s := stage.New(t, nil)
	log := metrics.Record(t, "teardown", boot.Logger)
	c := s.Capture()
	filter(t, s, c, "bears our tags")
	for _, in := range []events.StepInput{
		{Capture: c, By: events.ByStateMachine, Passes: stuckAfterRefusal - 2},
		{Capture: c, By: events.ByStateMachine, Passes: stuckAfterRefusal - 1},
		{Capture: c, By: events.ByGuard},
	} {
		if _, err := step(s).run(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
	log.Want("TeardownStuck", 1)
	log.Want("GuardFired", 1)
}
