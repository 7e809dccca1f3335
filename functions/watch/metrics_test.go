package main

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"
	"github.com/aws/aws-sdk-go-v2/service/scheduler/types"

	"flashtap/events"
	"flashtap/functions/internal/boot"
	"flashtap/functions/lease"
	"flashtap/testutil/metrics"
	"flashtap/testutil/stage"
)

// TestMetrics looks at a capture that runs and gets nothing.
func TestMetrics(t *testing.T) {
	s := stage.New(t, nil)
	s.Settings.ProofSeconds = 1
	log := metrics.Record(t, "watch", boot.Logger)
	plan := s.Plan(t, s.Capture(), nil)
	user := events.UserID(plan.Collector.RoleID, aws.ToString(s.Collector(t, plan).InstanceId))
	input, err := json.Marshal(lease.Lease{Capture: plan.Capture, Deadline: plan.Deadline, By: events.ByGuard})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Scheduler.CreateSchedule(t.Context(), &scheduler.CreateScheduleInput{
		Name: &s.ENI, GroupName: &s.Settings.ScheduleGroup, ScheduleExpression: aws.String("rate(5 minutes)"), StartDate: aws.Time(plan.GuardAt()),
		FlexibleTimeWindow: &types.FlexibleTimeWindow{Mode: types.FlexibleTimeWindowModeOff},
		Target:             &types.Target{Arn: &s.Settings.TeardownARN, RoleArn: &s.Settings.ScheduleRoleARN, Input: aws.String(string(input))},
	}); err != nil {
		t.Fatal(err)
	}

	if err := s.Store.CreateJSON(t.Context(), events.CheckpointKey(plan.Capture, user, 1, digest), events.Checkpoint{
		Version: 1, Capture: plan.Capture, UserID: user, Seq: 1, At: time.Now(), State: events.CollectorCapturing}); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		since time.Duration
		want  string
	}{{0, events.StatusWaiting}, {5 * time.Second, events.StatusSilent}} {
		r, err := step(s).run(t.Context(), events.StepInput{Capture: plan.Capture, Phase: events.PhaseProof, Since: time.Now().Add(-row.since)})
		if err != nil || r.Status != row.want {
			t.Fatalf("after %s: %+v, %v", row.since, r, err)
		}
	}
	log.Want("NoPackets", 1)
}
