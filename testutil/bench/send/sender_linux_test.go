package send

import (
	"strings"
	"testing"
	"time"

	"flashtap/testutil/bench/traffic"
)

func TestASenderThatWasKeptFromItsCPUPausesTheWire(t *testing.T) {
	for _, c := range []struct {
		reason string
		rate   float64
		gap    time.Duration
		want   time.Duration // that the schedule stands still
	}{
		{"a stall", 1000, 80 * time.Millisecond, 80 * time.Millisecond},
		{"no more than usual", 1000, stall / 2, 0},
		{"saturation has no schedule", 0, 80 * time.Millisecond, 0},
	} {
		t.Run(c.reason, func(t *testing.T) {
			begun := time.Now().Add(-time.Second)
			s := &sender{cfg: Config{Rate: c.rate}, begun: begun, looked: time.Now().Add(-c.gap)}
			got := time.Since(begun) - s.elapsed()
			const slack = 50 * time.Millisecond // of a machine that is busy with other tests
			if got < c.want-slack/10 || got > c.want+slack {
				t.Errorf("the schedule stood still for %v, want %v", got, c.want)
			}
			if stalled := time.Duration(s.result.StallMS * 1e6); (stalled > 0) != (c.want > 0) {
				t.Errorf("it tells of %v", stalled)
			}
		})
	}
}

func TestWhatIsOwedNeverExceedsTheCount(t *testing.T) {
	s := &sender{cfg: Config{Rate: 1000, Count: 1500}, handed: 400}
	for elapsed, want := range map[time.Duration]float64{time.Second: 600, time.Hour: 1100} {
		if got := s.owed(elapsed); got != want {
			t.Errorf("after %v: %v, want %v", elapsed, got, want)
		}
	}
}

func TestAnInterfaceThatIsNotThereIsNamed(t *testing.T) {
	g, err := traffic.New(traffic.DefaultPlan())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), Config{Interface: "absent0", Traffic: g, Count: 1, CPU: -1}); err == nil || !strings.Contains(err.Error(), "absent0") {
		t.Errorf("error %v", err)
	}
	if _, err := Run(t.Context(), Config{Interface: "lo", Namespace: "/absent", Traffic: g, Count: 1, CPU: -1}); err == nil {
		t.Error("a namespace that is not there is no error")
	}
}
