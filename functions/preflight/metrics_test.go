package main

import (
	"testing"

	"flashtap/events"
	"flashtap/functions/internal/boot"
	"flashtap/testutil/metrics"
	"flashtap/testutil/region/ec2"
	"flashtap/testutil/stage"
)

func TestMetrics(t *testing.T) {
	s := stage.New(t, nil)
	log := metrics.Record(t, "preflight", boot.Logger)
	s.EC2.AddInstance(ec2.InstanceSeed{ID: "i-0c0c0c0c", Type: "t2.micro", Interfaces: []ec2.InterfaceSeed{{ID: "eni-0c0c0c0c", Subnet: s.Subnet}}})
	if _, err := step(s).run(t.Context(), events.PreflightInput{Request: events.Request{InstanceID: "i-0c0c0c0c"}, StartedAt: begun}); err == nil {
		t.Fatal("a T2 can't be mirrored")
	}
	if _, err := step(s).run(t.Context(), events.PreflightInput{Request: events.Request{NetworkInterfaceID: s.ENI}, StartedAt: begun}); err != nil {
		t.Fatal(err)
	}
	log.Want("CapturesRefused", 1)
}
