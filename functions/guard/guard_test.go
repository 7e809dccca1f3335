package main

import (
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"
	"github.com/aws/aws-sdk-go-v2/service/scheduler/types"

	"flashtap/events"
	"flashtap/functions/internal/boot"
	"flashtap/functions/lease"
	"flashtap/testutil/region"
	"flashtap/testutil/stage"
)

func step(s *stage.Stage) guard {
	return guard{schedules: s.Scheduler, store: s.Store, settings: s.Settings}
}

func schedule(t *testing.T, s *stage.Stage) *scheduler.GetScheduleOutput {
	t.Helper()
	out, err := s.Scheduler.GetSchedule(t.Context(), &scheduler.GetScheduleInput{Name: &s.ENI, GroupName: &s.Settings.ScheduleGroup})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestGuard(t *testing.T) {
	s := stage.New(t, nil)
	plan := s.Plan(t, s.Capture(), nil)
	in := events.StepInput{Capture: plan.Capture, Execution: "run-1"}
	for range 2 {
		got, err := step(s).run(t.Context(), in)
		if err != nil || got != (events.GuardResult{Held: true, JoinedTo: plan.Capture, Deadline: plan.Deadline}) {
			t.Fatalf("%+v, %v", got, err)
		}
	}
	out := schedule(t, s)
	if aws.ToString(out.ScheduleExpression) != "rate(5 minutes)" || !aws.ToTime(out.StartDate).Equal(plan.GuardAt()) || out.State != types.ScheduleStateEnabled ||
		aws.ToString(out.Target.Arn) != s.Settings.TeardownARN || out.ActionAfterCompletion != types.ActionAfterCompletionNone {
		t.Errorf("%+v", out)
	}
	// What the schedule hands over is what teardown reads, and what says whose the lock is.
	var input events.StepInput
	if err := json.Unmarshal([]byte(aws.ToString(out.Target.Input)), &input); err != nil || input.Capture != plan.Capture || input.By != events.ByGuard || input.Phase != "" {
		t.Errorf("teardown gets %+v, %v", input, err)
	}
	held, err := lease.Read(t.Context(), s.Scheduler, s.Settings.ScheduleGroup, s.ENI)
	if err != nil || held == nil || held.Capture != plan.Capture || !held.Deadline.Equal(plan.Deadline) || held.Execution != "run-1" {
		t.Errorf("lease %+v, %v", held, err)
	}
	var act events.CustodyEntry
	if err := s.Store.ReadJSON(t.Context(), events.CustodyKey(plan.Capture, "guard", "guarded"), &act); err != nil || act.Detail["execution"] != "run-1" || act.RequestID == "" {
		t.Errorf("custody %+v, %v", act, err)
	}
}

func TestGuardLostAnswer(t *testing.T) {
	s := stage.New(t, nil)
	plan := s.Plan(t, s.Capture(), nil)
	lost := false
	s.Inject(func(c region.Call) *region.Fault {
		if c.Operation == "CreateSchedule" && !lost {
			lost = true
			return &region.Fault{Drop: true, After: true}
		}
		return nil
	})
	in := events.StepInput{Capture: plan.Capture, Execution: "run-1"}
	_, err := step(s).run(t.Context(), in)
	var transient boot.Transient
	if !errors.As(boot.Edge(err), &transient) {
		t.Fatalf("%v, want an error that is tried again", err)
	}
	if got, err := step(s).run(t.Context(), in); err != nil || !got.Held {
		t.Errorf("our own lock keeps us out: %+v, %v", got, err)
	}
}

// TestOneCaptureAnInterface: of many that want it at once, one holds the lock and the others join that one.
func TestOneCaptureAnInterface(t *testing.T) {
	s := stage.New(t, nil)
	var captures []events.CaptureID
	for n := range 5 {
		c := events.NewCaptureID(time.Now().Add(time.Duration(n)*time.Second), s.ENI)
		captures = append(captures, c)
		s.Plan(t, c, nil)
	}
	results := make([]events.GuardResult, len(captures))
	var group sync.WaitGroup
	for i, c := range captures {
		group.Go(func() {
			var err error
			if results[i], err = step(s).run(t.Context(), events.StepInput{Capture: c, Execution: string(c)}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	var holder events.CaptureID
	for i, r := range results {
		if r.Held {
			if holder != "" {
				t.Errorf("%s and %s both hold the lock", holder, captures[i])
			}
			holder = captures[i]
		}
	}
	for i, r := range results {
		if r.JoinedTo != holder {
			t.Errorf("%s joins %q, not %s", captures[i], r.JoinedTo, holder)
		}
		var act events.CustodyEntry
		err := s.Store.ReadJSON(t.Context(), events.CustodyKey(captures[i], "guard", "joined"), &act)
		if r.Held == (err == nil) || !r.Held && act.Detail["to"] != string(holder) {
			t.Errorf("%s, held %t: it is recorded to have joined %v, %v", captures[i], r.Held, act.Detail, err)
		}
	}
}

// TestTheSameCaptureInAnotherExecution: whoever starts an execution with the input of one that runs makes no second
// one out of it; the first tears down while the second would still be looking.
func TestTheSameCaptureInAnotherExecution(t *testing.T) {
	s := stage.New(t, nil)
	plan := s.Plan(t, s.Capture(), nil)
	if got, err := step(s).run(t.Context(), events.StepInput{Capture: plan.Capture, Execution: "run-1"}); err != nil || !got.Held {
		t.Fatalf("%+v, %v", got, err)
	}
	if got, err := step(s).run(t.Context(), events.StepInput{Capture: plan.Capture, Execution: "run-2"}); err != nil || got.Held || got.JoinedTo != plan.Capture {
		t.Errorf("%+v, %v, want it to join", got, err)
	}
	if got, err := step(s).run(t.Context(), events.StepInput{Capture: plan.Capture, Execution: "run-1"}); err != nil || !got.Held {
		t.Errorf("the first again: %+v, %v", got, err)
	}
	if exists, err := s.Store.Exists(t.Context(), events.CustodyKey(plan.Capture, "guard", "joined")); err != nil || exists {
		t.Errorf("the capture is recorded to have joined itself: %t, %v", exists, err)
	}
}

func TestSourceBusy(t *testing.T) {
	s := stage.New(t, nil)
	over := s.Plan(t, events.NewCaptureID(time.Now().Add(-time.Hour), s.ENI), func(p *events.Plan) {
		p.Deadline = time.Now().Add(-time.Minute).UTC().Truncate(time.Second)
	})
	if _, err := step(s).run(t.Context(), events.StepInput{Capture: over.Capture, Execution: "run-1"}); err != nil {
		t.Fatal(err)
	}
	next := s.Plan(t, s.Capture(), nil)
	in := events.StepInput{Capture: next.Capture, Execution: "run-2"}
	_, err := step(s).run(t.Context(), in)
	var busy boot.SourceBusy
	if !errors.As(err, &busy) || busy.Capture != string(over.Capture) {
		t.Fatalf("%v, want SourceBusy", err)
	}
	if _, err := s.Scheduler.DeleteSchedule(t.Context(), &scheduler.DeleteScheduleInput{Name: &s.ENI, GroupName: &s.Settings.ScheduleGroup}); err != nil {
		t.Fatal(err)
	}
	if got, err := step(s).run(t.Context(), in); err != nil || !got.Held {
		t.Errorf("the former capture is removed: %+v, %v", got, err)
	}
}

func TestForeignSchedule(t *testing.T) {
	s := stage.New(t, nil)
	plan := s.Plan(t, s.Capture(), nil)
	if _, err := s.Scheduler.CreateSchedule(t.Context(), &scheduler.CreateScheduleInput{
		Name: &s.ENI, GroupName: &s.Settings.ScheduleGroup, ScheduleExpression: aws.String("rate(1 hour)"),
		FlexibleTimeWindow: &types.FlexibleTimeWindow{Mode: types.FlexibleTimeWindowModeOff},
		Target:             &types.Target{Arn: &s.Settings.TeardownARN, RoleArn: &s.Settings.ScheduleRoleARN, Input: aws.String(`{"somebody": "else"}`)},
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := step(s).run(t.Context(), events.StepInput{Capture: plan.Capture, Execution: "run-1"}); err == nil || !strings.Contains(err.Error(), "not ours") {
		t.Errorf("%v", err)
	}
}
