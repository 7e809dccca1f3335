package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"

	"flashtap/events"
	"flashtap/functions/internal/boot"
	"flashtap/functions/internal/describe"
	"flashtap/functions/remove"
	"flashtap/testutil/region"
	regionec2 "flashtap/testutil/region/ec2"
	"flashtap/testutil/stage"
)

func step(s *stage.Stage) mirror {
	return mirror{ec2: s.EC2API, schedules: s.Scheduler, store: s.Store, settings: s.Settings}
}

// made is what a mirror step left in the region.
type made struct {
	sessions []types.TrafficMirrorSession
	targets  []types.TrafficMirrorTarget
	filters  []types.TrafficMirrorFilter
}

func look(t *testing.T, s *stage.Stage) made {
	t.Helper()
	var m made
	var err error
	if m.sessions, err = describe.Sessions(t.Context(), s.EC2API); err != nil {
		t.Fatal(err)
	}
	if m.targets, err = describe.Targets(t.Context(), s.EC2API); err != nil {
		t.Fatal(err)
	}
	out, err := s.EC2API.DescribeTrafficMirrorFilters(t.Context(), &ec2.DescribeTrafficMirrorFiltersInput{})
	if err != nil {
		t.Fatal(err)
	}
	m.filters = out.TrafficMirrorFilters
	return m
}

// TestMirror runs the step twice: one of everything, and each as planned.
func TestMirror(t *testing.T) {
	s := stage.New(t, nil)
	plan := s.Plan(t, s.Capture(), func(p *events.Plan) {
		p.Mirror.PacketLength, p.Mirror.SessionNumber = 128, 7
		p.Tags = map[string]string{"Team": "soc"}
		p.Mirror.Filter.Rules = append(p.Mirror.Filter.Rules, events.FilterRule{Number: 5, Direction: events.Egress, Action: events.Reject, Protocol: 6,
			SourceCIDR: "0.0.0.0/0", DestinationCIDR: "192.0.2.0/24", SourcePorts: &events.PortRange{From: 22, To: 22}, DestinationPorts: &events.PortRange{From: 0, To: 65535}})
	})
	collector := s.Collector(t, plan)
	first, err := step(s).run(t.Context(), events.StepInput{Capture: plan.Capture})
	if err != nil {
		t.Fatal(err)
	}
	second, err := step(s).run(t.Context(), events.StepInput{Capture: plan.Capture})
	if err != nil || second.SessionID != first.SessionID || second.VNI != plan.Mirror.VNI || first.At.IsZero() {
		t.Errorf("%+v, %v; at first %+v", second, err, first)
	}
	m := look(t, s)
	if len(m.sessions) != 1 || len(m.targets) != 1 || len(m.filters) != 1 {
		t.Fatalf("%+v", m)
	}
	session, target, filter := m.sessions[0], m.targets[0], m.filters[0]
	if aws.ToString(session.NetworkInterfaceId) != s.ENI || aws.ToInt32(session.SessionNumber) != 7 || aws.ToInt32(session.PacketLength) != 128 ||
		aws.ToInt32(session.VirtualNetworkId) != int32(plan.Mirror.VNI) || aws.ToString(session.TrafficMirrorTargetId) != aws.ToString(target.TrafficMirrorTargetId) ||
		aws.ToString(session.TrafficMirrorFilterId) != aws.ToString(filter.TrafficMirrorFilterId) {
		t.Errorf("session %+v", session)
	}
	if aws.ToString(target.NetworkInterfaceId) != aws.ToString(collector.NetworkInterfaces[0].NetworkInterfaceId) {
		t.Errorf("target %+v", target)
	}
	if !reflect.DeepEqual(filter.NetworkServices, []types.TrafficMirrorNetworkService{types.TrafficMirrorNetworkServiceAmazonDns}) {
		t.Errorf("network services %v", filter.NetworkServices)
	}
	rules := append(filter.IngressFilterRules, filter.EgressFilterRules...)
	if len(rules) != 5 {
		t.Errorf("%d rules", len(rules))
	}
	for _, r := range rules {
		if aws.ToInt32(r.RuleNumber) != 5 {
			if r.Protocol != nil {
				t.Errorf("rule %d is about protocol %d alone", aws.ToInt32(r.RuleNumber), *r.Protocol)
			}
			continue
		}
		if r.RuleAction != types.TrafficMirrorRuleActionReject || r.TrafficDirection != types.TrafficDirectionEgress || aws.ToInt32(r.Protocol) != 6 ||
			aws.ToString(r.DestinationCidrBlock) != "192.0.2.0/24" || r.SourcePortRange == nil || aws.ToInt32(r.SourcePortRange.FromPort) != 22 ||
			r.DestinationPortRange == nil || aws.ToInt32(r.DestinationPortRange.ToPort) != 65535 {
			t.Errorf("rule %+v", r)
		}
	}
	for kind, tags := range map[string][]types.Tag{"session": session.Tags, "target": target.Tags, "filter": filter.Tags, "rule": rules[0].Tags} {
		if describe.Tag(tags, events.TagCapture) != string(plan.Capture) || describe.Tag(tags, events.TagDeployment) != plan.Deployment || describe.Tag(tags, "Team") != "soc" {
			t.Errorf("%s bears %v", kind, tags)
		}
	}

	// The remover must recognize all of it as ours.
	items, err := remove.Remover{EC2: s.EC2API, Schedules: s.Scheduler, Store: s.Store, Settings: s.Settings}.Inventory(t.Context(), plan.Capture)
	kinds := map[string]int{}
	for _, i := range items {
		kinds[i.Kind]++
	}
	want := map[string]int{remove.KindSession: 1, remove.KindSessionSchedule: 1, remove.KindTarget: 1, remove.KindFilter: 1, remove.KindInstance: 1}
	if err != nil || !reflect.DeepEqual(kinds, want) {
		t.Errorf("inventory %v, %v; want %v", kinds, err, want)
	}

	// And Scheduler must be able to delete the session with no code of ours.
	out, err := s.Scheduler.GetSchedule(t.Context(), &scheduler.GetScheduleInput{Name: &first.SessionID, GroupName: &s.Settings.ScheduleGroup})
	if err != nil {
		t.Fatal(err)
	}
	var input map[string]string
	if err := json.Unmarshal([]byte(aws.ToString(out.Target.Input)), &input); err != nil || !reflect.DeepEqual(input, map[string]string{"TrafficMirrorSessionId": first.SessionID}) ||
		aws.ToString(out.Target.Arn) != "arn:aws:scheduler:::aws-sdk:ec2:deleteTrafficMirrorSession" ||
		aws.ToString(out.ScheduleExpression) != "at("+plan.GuardAt().Format("2006-01-02T15:04:05")+")" || out.ActionAfterCompletion != "DELETE" {
		t.Errorf("schedule %+v with %v, %v", out, input, err)
	}
}

// TestMirrorLosesEveryAnswerOnce: whichever call's answer is lost, the next run goes on from there.
func TestMirrorLosesEveryAnswerOnce(t *testing.T) {
	s := stage.New(t, nil)
	plan := s.Plan(t, s.Capture(), nil)
	s.Collector(t, plan)
	lost := map[string]bool{}
	s.Inject(func(c region.Call) *region.Fault {
		if call := fmt.Sprint(c.Operation, c.Params["RuleNumber"], c.Params["TrafficDirection"]); !lost[call] && (strings.HasPrefix(c.Operation, "Create") || strings.HasPrefix(c.Operation, "Modify")) {
			lost[call] = true
			return &region.Fault{Drop: true, After: true}
		}
		return nil
	})
	var got events.MirrorResult
	var err error
	for range 20 {
		if got, err = step(s).run(t.Context(), events.StepInput{Capture: plan.Capture}); err == nil {
			break
		}
		var transient boot.Transient
		if !errors.As(boot.Edge(err), &transient) {
			t.Fatalf("%v, want an error that is tried again", err)
		}
	}
	if err != nil || got.SessionID == "" {
		t.Fatalf("%+v, %v", got, err)
	}
	if len(lost) < 8 {
		t.Errorf("only these answers were lost: %v", lost)
	}
	m := look(t, s)
	if len(m.sessions) != 1 || len(m.targets) != 1 || len(m.filters) != 1 || len(m.filters[0].IngressFilterRules)+len(m.filters[0].EgressFilterRules) != 4 {
		t.Errorf("%+v", m)
	}
}

// TestMirrorBeforeEC2KnowsItself: an id may be too young for the next call; the step is tried again, and fails nothing.
func TestMirrorBeforeEC2KnowsItself(t *testing.T) {
	s := stage.New(t, func(c *region.Config) { c.EC2.Consistency = 300 * time.Millisecond })
	plan := s.Plan(t, s.Capture(), nil)
	s.Collector(t, plan)
	var err error
	tries := 0
	for ; tries < 50; tries++ {
		if _, err = step(s).run(t.Context(), events.StepInput{Capture: plan.Capture}); err == nil {
			break
		}
		var transient boot.Transient
		if !errors.As(boot.Edge(err), &transient) {
			t.Fatalf("%v, want an error that is tried again", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
	if tries == 0 {
		t.Error("EC2 knew everything at once; nothing is tested")
	}
	time.Sleep(400 * time.Millisecond)
	if m := look(t, s); len(m.sessions) != 1 || len(m.targets) != 1 || len(m.filters) != 1 {
		t.Errorf("%+v", m)
	}
}

func TestMirrorFails(t *testing.T) {
	var died boot.CollectorDied
	var notMirrorable boot.NotMirrorable
	for name, row := range map[string]struct {
		prepare func(*testing.T, *stage.Stage) events.Plan
		want    any
		says    string
	}{
		"there is no collector": {func(t *testing.T, s *stage.Stage) events.Plan { return s.Plan(t, s.Capture(), nil) }, &died, "no instance"},
		"the collector has ended": {func(t *testing.T, s *stage.Stage) events.Plan {
			plan := s.Plan(t, s.Capture(), nil)
			in := s.Collector(t, plan)
			if _, err := s.EC2API.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{aws.ToString(in.InstanceId)}}); err != nil {
				t.Fatal(err)
			}
			return plan
		}, &died, "no instance"},
		"AWS knows better than our list": {func(t *testing.T, s *stage.Stage) events.Plan {
			s.EC2.AddInstance(regionec2.InstanceSeed{ID: "i-0c0c0c0c", Type: "t2.micro", Interfaces: []regionec2.InterfaceSeed{{ID: "eni-0c0c0c0c", Subnet: s.Subnet}}})
			plan := s.Plan(t, events.NewCaptureID(time.Now(), "eni-0c0c0c0c"), func(p *events.Plan) { p.Source.NetworkInterfaceID = "eni-0c0c0c0c" })
			s.Collector(t, plan)
			return plan
		}, &notMirrorable, "NetworkInterfaceNotSupported"},
		"others have taken the last of its sessions": {func(t *testing.T, s *stage.Stage) events.Plan {
			plan := s.Plan(t, s.Capture(), func(p *events.Plan) { p.Mirror.SessionNumber = 9 })
			s.Collector(t, plan)
			occupy(t, s)
			return plan
		}, &notMirrorable, "TrafficMirrorSessionsPerInterfaceLimitExceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			s := stage.New(t, nil)
			plan := row.prepare(t, s)
			_, err := step(s).run(t.Context(), events.StepInput{Capture: plan.Capture})
			if err == nil || !errors.As(boot.Edge(err), row.want) || !strings.Contains(err.Error(), row.says) {
				t.Errorf("%v, want %T that says %q", err, row.want, row.says)
			}
		})
	}
}

// occupy makes three sessions of somebody else's on the suspect's interface.
func occupy(t *testing.T, s *stage.Stage) {
	t.Helper()
	s.EC2.AddInstance(regionec2.InstanceSeed{ID: "i-0e0e0e0e", Type: "m5.large", Interfaces: []regionec2.InterfaceSeed{{ID: "eni-0e0e0e0e", Subnet: s.Subnet}}})
	target, err := s.EC2API.CreateTrafficMirrorTarget(t.Context(), &ec2.CreateTrafficMirrorTargetInput{NetworkInterfaceId: aws.String("eni-0e0e0e0e")})
	if err != nil {
		t.Fatal(err)
	}
	filter, err := s.EC2API.CreateTrafficMirrorFilter(t.Context(), &ec2.CreateTrafficMirrorFilterInput{})
	if err != nil {
		t.Fatal(err)
	}
	for n := range int32(3) {
		if _, err := s.EC2API.CreateTrafficMirrorSession(t.Context(), &ec2.CreateTrafficMirrorSessionInput{NetworkInterfaceId: &s.ENI, SessionNumber: aws.Int32(n + 1),
			TrafficMirrorTargetId: target.TrafficMirrorTarget.TrafficMirrorTargetId, TrafficMirrorFilterId: filter.TrafficMirrorFilter.TrafficMirrorFilterId}); err != nil {
			t.Fatal(err)
		}
	}
}
