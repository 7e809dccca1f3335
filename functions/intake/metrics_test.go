package main

import (
	"testing"
	"time"

	"flashtap/events"
	"flashtap/functions/internal/boot"
	"flashtap/testutil/metrics"
	"flashtap/testutil/region"
)

func TestMetrics(t *testing.T) {
	s := set(t)
	log := metrics.Record(t, "intake", boot.Logger)
	s.take(message(0, s.finding("f-0", "i-0d0d0d0d0d0d0d0d0"))) // gone
	log.Want("CapturesRefused", 1)

	s.held(events.NewCaptureID(sent.Add(-time.Hour), s.ENI), time.Now().Add(time.Hour))
	s.take(message(1, s.finding("f-1", s.Instance)))
	log.Want("CapturesJoined", 1)

	free := s.twoInterfaces()
	s.in.settings.MaxCaptures = 1
	s.take(message(2, s.finding("f-2", free)))
	log.Want("CapturesDeferred", 1)

	s.in.settings.MaxCaptures = 10
	s.Inject(func(c region.Call) *region.Fault {
		if c.Operation == "StartExecution" {
			return &region.Fault{Code: "ThrottlingException"}
		}
		return nil
	})
	s.take(message(3, s.finding("f-3", free)))
	log.Want("EventsReturned", 1)
}
