package main

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"flashtap/events"
	"flashtap/functions/internal/boot"
	"flashtap/functions/survey"
	"flashtap/testutil/region"
	"flashtap/testutil/region/ec2"
	"flashtap/testutil/stage"
)

func step(s *stage.Stage) preflight {
	return preflight{store: s.Store, survey: survey.New(s.Config, s.Store, s.Settings, "flashtap preflight test")}
}

var begun = time.Date(2026, 11, 22, 3, 4, 5, 6, time.UTC)

// TestPreflight plans twice what a person asked for by hand: the same plan, whose random and timed parts are fixed.
func TestPreflight(t *testing.T) {
	s := stage.New(t, nil)
	in := events.PreflightInput{Request: events.Request{InstanceID: s.Instance, Case: "C-1"}, Execution: "run-1", StartedAt: begun}
	first, err := step(s).run(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	c := events.NewCaptureID(begun, s.ENI)
	want := events.PlanSummary{Capture: c, NetworkInterfaceID: s.ENI, PlanKey: events.PlanKey(c), Deadline: first.Deadline}
	if first != want || time.Until(first.Deadline) < 15*time.Minute {
		t.Errorf("%+v, want %+v", first, want)
	}
	plan, err := s.Store.Plan(t.Context(), c)
	if err != nil || !plan.Go || plan.Source.PrimaryIPv4 != s.Address || plan.Source.InstanceType != "m5.large" || plan.Collector.Subnet != s.Subnet ||
		!strings.HasPrefix(plan.Collector.S3Path, "vpce-") || !strings.HasPrefix(plan.Collector.S3PrefixList, "pl-") || plan.Mirror.VNI == 0 {
		t.Errorf("%+v, %v", plan, err)
	}
	for range 3 {
		if again, err := step(s).run(t.Context(), in); err != nil || again != first {
			t.Errorf("planned again: %+v, %v", again, err)
		}
	}
	if again, err := s.Store.Plan(t.Context(), c); err != nil || !reflect.DeepEqual(again, plan) {
		t.Errorf("the plan has changed: %+v, %v", again, err)
	}
	for _, call := range s.Operations() {
		for _, word := range []string{"Create", "Run", "Delete", "Modify", "Authorize", "Terminate"} {
			if strings.HasPrefix(call, word) && call != "CreateBucket" {
				t.Errorf("preflight touches something: %s", call)
			}
		}
	}
}

// TestPreflightWithAStoredPlan: what the first run decided stands, though the suspect is gone by the second.
func TestPreflightWithAStoredPlan(t *testing.T) {
	s := stage.New(t, nil)
	plan := s.Plan(t, events.NewCaptureID(time.Now(), "eni-0f0f0f0f"), nil)
	in := events.PreflightInput{Request: events.Request{Capture: plan.Capture, NetworkInterfaceID: "eni-0f0f0f0f"}}
	if got, err := step(s).run(t.Context(), in); err != nil || got.Capture != plan.Capture || !got.Deadline.Equal(plan.Deadline) {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestPreflightOfACaptureThatIsOver: a person may start an execution with the input of an old one. Its plan's time is
// over, its evidence sealed.
func TestPreflightOfACaptureThatIsOver(t *testing.T) {
	s := stage.New(t, nil)
	plan := s.Plan(t, events.NewCaptureID(time.Now().Add(-time.Hour), s.ENI), func(p *events.Plan) { p.Deadline = time.Now().Add(-time.Minute) })
	_, err := step(s).run(t.Context(), events.PreflightInput{Request: events.Request{Capture: plan.Capture, NetworkInterfaceID: s.ENI}})
	var bad boot.BadRequest
	if !errors.As(err, &bad) || !strings.Contains(err.Error(), "is over") || !strings.Contains(err.Error(), `"capture"`) {
		t.Errorf("%v, want a BadRequest that says what to leave out", err)
	}
}

func TestPreflightRefuses(t *testing.T) {
	var notMirrorable boot.NotMirrorable
	var noPlace boot.NoPlace
	var bad boot.BadRequest
	var transient boot.Transient
	for name, row := range map[string]struct {
		prepare func(*stage.Stage) events.Request
		want    any
		says    string
		planned bool // the plan that says no is kept
	}{
		"nobody": {func(*stage.Stage) events.Request { return events.Request{} }, &bad, "names no suspect", false},
		"an interface that is gone": {func(*stage.Stage) events.Request { return events.Request{NetworkInterfaceID: "eni-0f0f0f0f"} },
			&notMirrorable, "does not exist any more", false},
		"an instance that is gone": {func(*stage.Stage) events.Request { return events.Request{InstanceID: "i-0f0f0f0f"} },
			&notMirrorable, "does not exist any more", false},
		"the interface has moved": {func(s *stage.Stage) events.Request {
			return events.Request{NetworkInterfaceID: s.ENI, InstanceID: "i-0f0f0f0f"}
		}, &notMirrorable, "moved from i-0f0f0f0f to i-0a0a0a0a0a0a0a0a0", false},
		"a T2": {func(s *stage.Stage) events.Request {
			s.EC2.AddInstance(ec2.InstanceSeed{ID: "i-0c0c0c0c", Type: "t2.micro", Interfaces: []ec2.InterfaceSeed{{ID: "eni-0c0c0c0c", Subnet: s.Subnet}}})
			return events.Request{InstanceID: "i-0c0c0c0c"}
		}, &notMirrorable, "t2.micro", true},
		"another VPC than the deployment's": {func(s *stage.Stage) events.Request {
			s.Settings.VPCs = []string{"vpc-0d0d0d0d"}
			return events.Request{NetworkInterfaceID: s.ENI}
		}, &notMirrorable, "captures only in vpc-0d0d0d0d", false},
		"no way to S3": {func(s *stage.Stage) events.Request {
			vpc := s.EC2.AddVPC(ec2.VPC{CIDR: "10.9.0.0/16"})
			subnet := s.EC2.AddSubnet(ec2.Subnet{VPC: vpc, CIDR: "10.9.1.0/24"})
			s.EC2.AddInstance(ec2.InstanceSeed{ID: "i-0c0c0c0c", Type: "m5.large", Interfaces: []ec2.InterfaceSeed{{ID: "eni-0c0c0c0c", Subnet: subnet}}})
			return events.Request{InstanceID: "i-0c0c0c0c"}
		}, &noPlace, "no route leads to S3", true},
		"without DNS": {func(s *stage.Stage) events.Request {
			vpc := s.EC2.AddVPC(ec2.VPC{CIDR: "10.9.0.0/16", NoDNSSupport: true})
			subnet := s.EC2.AddSubnet(ec2.Subnet{VPC: vpc, CIDR: "10.9.1.0/24"})
			s.EC2.AddInstance(ec2.InstanceSeed{ID: "i-0c0c0c0c", Type: "m5.large", Interfaces: []ec2.InterfaceSeed{{ID: "eni-0c0c0c0c", Subnet: subnet}}})
			return events.Request{InstanceID: "i-0c0c0c0c"}
		}, &noPlace, "DNS support off", true},
		"EC2 is busy": {func(s *stage.Stage) events.Request {
			s.Inject(func(c region.Call) *region.Fault {
				if c.Operation == "DescribeTrafficMirrorSessions" {
					return &region.Fault{Code: "RequestLimitExceeded"}
				}
				return nil
			})
			return events.Request{NetworkInterfaceID: s.ENI}
		}, &transient, "RequestLimitExceeded", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := stage.New(t, nil)
			request := row.prepare(s)
			_, err := step(s).run(t.Context(), events.PreflightInput{Request: request, StartedAt: begun})
			if edge := boot.Edge(err); edge == nil || !errors.As(edge, row.want) || !strings.Contains(edge.Error(), row.says) {
				t.Errorf("%v, want %T that says %q", err, row.want, row.says)
			}
			list, err := s.Store.List(t.Context(), events.CapturesPrefix())
			if err != nil || (len(list) == 1) != row.planned {
				t.Errorf("kept: %v, %v", list, err)
			}
		})
	}
}

// TestConclude: the first of these classes that a failed verdict has names the error, and every reason is in it.
func TestConclude(t *testing.T) {
	var notMirrorable boot.NotMirrorable
	var noPlace boot.NoPlace
	var bad boot.BadRequest
	for checks, want := range map[string]any{
		"instance-state": &notMirrorable, "opt-out": &notMirrorable, "interface-type": &notMirrorable, "instance-family": &notMirrorable, "not-a-target": &notMirrorable,
		"sessions": &notMirrorable, "shadowing": &notMirrorable, "target-limits": &notMirrorable, "placement": &noPlace, "collector": &noPlace,
		"security-groups": &noPlace, "network-acls": &noPlace, "route": &noPlace, "bucket-key": &noPlace, "volume-key": &noPlace, "quotas": &noPlace,
		"permissions": &noPlace, "request": &bad, "filter": &bad, "placement shadowing": &notMirrorable, "placement shadowing filter": &bad,
	} {
		var p events.Plan
		for _, check := range strings.Fields(checks) {
			p.Verdicts = append(p.Verdicts, events.Verdict{Check: check, Result: events.Fail, Reason: "why " + check, Remedy: "mend " + check})
		}
		p.Verdicts = append(p.Verdicts, events.Verdict{Check: "headroom", Result: events.Warn, Reason: "only a warning"})
		_, err := conclude(p)
		if err == nil || !errors.As(err, want) || strings.Contains(err.Error(), "only a warning") {
			t.Errorf("%s: %v, want %T", checks, err, want)
		}
		for _, check := range strings.Fields(checks) {
			if !strings.Contains(err.Error(), "why "+check) || !strings.Contains(err.Error(), "mend "+check) {
				t.Errorf("%s: %v leaves something out", checks, err)
			}
		}
	}
	if _, err := conclude(events.Plan{Verdicts: []events.Verdict{{Check: "endpoint", Result: events.Fixed}, {Check: "quotas", Result: events.Warn}}}); err != nil {
		t.Errorf("nothing fails, and yet: %v", err)
	}
}
