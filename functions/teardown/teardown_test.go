package main

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"flashtap/events"
	"flashtap/functions/internal/describe"
	"flashtap/functions/remove"
	"flashtap/testutil/region"
	"flashtap/testutil/stage"
)

func step(s *stage.Stage) teardown {
	return teardown{remover: remove.Remover{EC2: s.EC2API, Schedules: s.Scheduler, Store: s.Store, Settings: s.Settings}}
}

func filter(t *testing.T, s *stage.Stage, c events.CaptureID, description string) {
	t.Helper()
	if _, err := s.EC2API.CreateTrafficMirrorFilter(t.Context(), &ec2.CreateTrafficMirrorFilterInput{Description: aws.String(description),
		TagSpecifications: []types.TagSpecification{describe.TagSpecification(types.ResourceTypeTrafficMirrorFilter, events.ResourceTags(s.Settings.Deployment, c, s.Plan(t, c, nil).Deadline, 1))}}); err != nil {
		t.Fatal(err)
	}
}

func TestTeardown(t *testing.T) {
	s := stage.New(t, nil)
	c := s.Capture()
	in := events.StepInput{Capture: c, By: events.ByStateMachine}
	if r, err := step(s).run(t.Context(), in); err != nil || r.Status != events.StatusClean || r.Certificate != "" || r.Passes != 1 {
		t.Errorf("nothing was made: %+v, %v", r, err)
	}
	filter(t, s, c, remove.Description(c))
	if r, err := step(s).run(t.Context(), in); err != nil || r.Status != events.StatusClean || r.Certificate != events.CertificateKey(c, 1) {
		t.Errorf("a filter: %+v, %v", r, err)
	}
	if _, err := step(s).run(t.Context(), events.StepInput{Capture: "everything"}); err == nil {
		t.Error("a capture id that is none would be all captures")
	}
	if _, err := step(s).run(t.Context(), events.StepInput{}); err == nil {
		t.Error("no capture id would be all captures")
	}
}

// TestTeardownStuck: what is not provably ours calls for people after eight passes, what merely will not go after sixty;
// until then each pass is followed by another.
func TestTeardownStuck(t *testing.T) {
	s := stage.New(t, nil)
	c := s.Capture()
	filter(t, s, c, "bears our tags")
	for passes, want := range map[int]string{0: events.StatusRemaining, 6: events.StatusRemaining, 7: events.StatusStuck, 100: events.StatusStuck} {
		r, err := step(s).run(t.Context(), events.StepInput{Capture: c, Passes: passes})
		if err != nil || r.Status != want || r.Passes != passes+1 || r.Refused != 1 || r.WaitSeconds < 1 {
			t.Errorf("refused after %d passes: %+v, %v; want %s", passes, r, err, want)
		}
	}

	s = stage.New(t, nil)
	c = s.Capture()
	filter(t, s, c, remove.Description(c))
	s.Inject(func(call region.Call) *region.Fault {
		if call.Operation == "DeleteTrafficMirrorFilter" {
			return &region.Fault{Code: "TrafficMirrorFilterInUse", Status: 400}
		}
		return nil
	})
	for passes, want := range map[int]string{0: events.StatusRemaining, 58: events.StatusRemaining, 59: events.StatusStuck} {
		if r, err := step(s).run(t.Context(), events.StepInput{Capture: c, Passes: passes}); err != nil || r.Status != want || r.Remaining != 1 {
			t.Errorf("in use after %d passes: %+v, %v; want %s", passes, r, err, want)
		}
	}
}
