package main

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"flashtap/events"
	"flashtap/functions/internal/describe"
	"flashtap/functions/internal/service"
	"flashtap/testutil/stage"
)

func step(s *stage.Stage) watch {
	return watch{ec2: s.EC2API, services: service.Client{Config: s.Config}, schedules: s.Scheduler, store: s.Store, settings: s.Settings}
}

// TestWatchReadsTheLatestWord: of several checkpoints the last counts, and the closing manifest over all of them.
func TestWatchReadsTheLatestWord(t *testing.T) {
	s := stage.New(t, nil)
	plan := s.Plan(t, s.Capture(), nil)
	in := s.Collector(t, plan)
	user := events.UserID(plan.Collector.RoleID, aws.ToString(in.InstanceId))
	look := func(phase string) events.WatchResult {
		t.Helper()
		r, err := step(s).run(t.Context(), events.StepInput{Capture: plan.Capture, Phase: phase, Since: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := look(events.PhaseReady); r.Status != events.StatusWaiting {
		t.Errorf("before any checkpoint: %+v", r)
	}
	report := func(n int, state string, written uint64, by string) {
		t.Helper()
		key := events.CheckpointKey(plan.Capture, by, n, "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")
		if err := s.Store.CreateJSON(t.Context(), key, events.Checkpoint{Version: 1, Capture: plan.Capture, UserID: by, Seq: n, At: time.Now(), State: state, Tally: events.Tally{Written: written}}); err != nil {
			t.Fatal(err)
		}
	}
	report(1, events.CollectorCapturing, 0, "AROAX:i-0bad0bad")
	if r := look(events.PhaseReady); r.Status != events.StatusWaiting {
		t.Errorf("by the word of another instance: %+v", r)
	}
	report(1, events.CollectorCapturing, 0, user)
	if r := look(events.PhaseReady); r.Status != events.StatusReady {
		t.Errorf("after the first checkpoint: %+v", r)
	}
	report(2, events.CollectorCapturing, 5, user)
	report(10, events.CollectorCapturing, 50, user)
	if r := look(events.PhaseProof); r.Status != events.StatusFlowing || r.Packets != 50 {
		t.Errorf("after the tenth: %+v", r)
	}
	if err := s.Store.CreateJSON(t.Context(), events.CollectorManifestKey(plan.Capture, user), events.CollectorManifest{Version: 1, StopReason: events.StopAsked, Tally: events.Tally{Written: 51}}); err != nil {
		t.Fatal(err)
	}
	if r := look(events.PhaseDrain); r.Status != events.StatusDrained || r.Packets != 51 {
		t.Errorf("after the last word: %+v", r)
	}
}

// TestWatchAsksToStop: once, by a tag, and only while there is somebody to ask.
func TestWatchAsksToStop(t *testing.T) {
	s := stage.New(t, nil)
	plan := s.Plan(t, s.Capture(), nil)
	in := s.Collector(t, plan)
	asked := func() (n int) {
		for _, call := range s.Operations() {
			if call == "CreateTags" {
				n++
			}
		}
		return n
	}
	for range 2 {
		if r, err := step(s).run(t.Context(), events.StepInput{Capture: plan.Capture, Phase: events.PhaseDrain, Since: time.Now()}); err != nil || r.Status != events.StatusWaiting {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	seen, err := describe.Instance(t.Context(), s.EC2API, aws.ToString(in.InstanceId))
	if err != nil || describe.Tag(seen.Tags, events.TagStop) == "" || asked() != 1 {
		t.Errorf("asked %d times, tags %v, %v", asked(), seen.Tags, err)
	}
	if there, err := s.Store.Exists(t.Context(), events.CustodyKey(plan.Capture, "watch", "asked-to-stop-"+aws.ToString(in.InstanceId))); err != nil || !there {
		t.Errorf("it is not recorded: %v", err)
	}
	if _, err := s.EC2API.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{aws.ToString(in.InstanceId)}}); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		r, err := step(s).run(t.Context(), events.StepInput{Capture: plan.Capture, Phase: events.PhaseDrain, Since: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		if r.Status == events.StatusOverdue {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("it waits for an instance that is gone")
}
