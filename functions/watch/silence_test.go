package main

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"
	schedulertypes "github.com/aws/aws-sdk-go-v2/service/scheduler/types"

	"flashtap/events"
	"flashtap/functions/internal/boot"
	"flashtap/functions/internal/describe"
	"flashtap/functions/lease"
	"flashtap/functions/path"
	"flashtap/testutil/region"
	"flashtap/testutil/region/ec2"
	"flashtap/testutil/stage"
)

// mute is a capture that runs and gets no packet.
type mute struct {
	*stage.Stage
	t     *testing.T
	plan  events.Plan
	group string // of the collector
	host  string // the collector
}

const digest = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func newMute(t *testing.T) *mute {
	t.Helper()
	s := stage.New(t, nil)
	m := &mute{Stage: s, t: t, plan: s.Plan(t, s.Capture(), nil)}
	tags := events.ResourceTags(m.plan.Deployment, m.plan.Capture, m.plan.Deadline, 1)
	group, err := s.EC2API.CreateSecurityGroup(t.Context(), &sdk.CreateSecurityGroupInput{GroupName: &m.plan.Collector.SecurityGroupName, VpcId: &s.VPC,
		Description: aws.String("collector"), TagSpecifications: []types.TagSpecification{describe.TagSpecification(types.ResourceTypeSecurityGroup, tags)}})
	m.must(err)
	m.group = aws.ToString(group.GroupId)
	_, err = s.EC2API.AuthorizeSecurityGroupIngress(t.Context(), &sdk.AuthorizeSecurityGroupIngressInput{GroupId: &m.group,
		IpPermissions: []types.IpPermission{path.AdmitCopies(m.plan.Source.OuterSources())}})
	m.must(err)
	in := s.Collector(t, m.plan)
	m.host = aws.ToString(in.InstanceId)
	s.EC2.SetGroups(aws.ToString(in.NetworkInterfaces[0].NetworkInterfaceId), m.group)
	m.mirror(aws.ToString(in.NetworkInterfaces[0].NetworkInterfaceId), tags)

	input, err := json.Marshal(lease.Lease{Capture: m.plan.Capture, Deadline: m.plan.Deadline, By: events.ByGuard})
	m.must(err)
	_, err = s.Scheduler.CreateSchedule(t.Context(), &scheduler.CreateScheduleInput{
		Name: &s.ENI, GroupName: &s.Settings.ScheduleGroup, ScheduleExpression: aws.String("rate(5 minutes)"), StartDate: aws.Time(m.plan.GuardAt()),
		FlexibleTimeWindow: &schedulertypes.FlexibleTimeWindow{Mode: schedulertypes.FlexibleTimeWindowModeOff},
		Target:             &schedulertypes.Target{Arn: &s.Settings.TeardownARN, RoleArn: &s.Settings.ScheduleRoleARN, Input: aws.String(string(input))},
	})
	m.must(err)
	m.reported()
	return m
}

func (m *mute) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// mirror makes the session and what it needs, as the step mirror does.
func (m *mute) mirror(collector string, tags map[string]string) {
	m.t.Helper()
	as := func(kind types.ResourceType) []types.TagSpecification {
		return []types.TagSpecification{describe.TagSpecification(kind, tags)}
	}
	target, err := m.EC2API.CreateTrafficMirrorTarget(m.t.Context(), &sdk.CreateTrafficMirrorTargetInput{NetworkInterfaceId: &collector, TagSpecifications: as(types.ResourceTypeTrafficMirrorTarget)})
	m.must(err)
	filter, err := m.EC2API.CreateTrafficMirrorFilter(m.t.Context(), &sdk.CreateTrafficMirrorFilterInput{TagSpecifications: as(types.ResourceTypeTrafficMirrorFilter)})
	m.must(err)
	id := filter.TrafficMirrorFilter.TrafficMirrorFilterId
	_, err = m.EC2API.ModifyTrafficMirrorFilterNetworkServices(m.t.Context(), &sdk.ModifyTrafficMirrorFilterNetworkServicesInput{TrafficMirrorFilterId: id,
		AddNetworkServices: []types.TrafficMirrorNetworkService{types.TrafficMirrorNetworkServiceAmazonDns}})
	m.must(err)
	for _, r := range m.plan.Mirror.Filter.Rules {
		_, err := m.EC2API.CreateTrafficMirrorFilterRule(m.t.Context(), &sdk.CreateTrafficMirrorFilterRuleInput{TrafficMirrorFilterId: id, RuleNumber: &r.Number,
			TrafficDirection: types.TrafficDirection(r.Direction), RuleAction: types.TrafficMirrorRuleAction(r.Action), SourceCidrBlock: &r.SourceCIDR, DestinationCidrBlock: &r.DestinationCIDR})
		m.must(err)
	}
	_, err = m.EC2API.CreateTrafficMirrorSession(m.t.Context(), &sdk.CreateTrafficMirrorSessionInput{NetworkInterfaceId: &m.ENI, TrafficMirrorFilterId: id,
		TrafficMirrorTargetId: target.TrafficMirrorTarget.TrafficMirrorTargetId, SessionNumber: aws.Int32(7), VirtualNetworkId: aws.Int32(int32(m.plan.Mirror.VNI)),
		TagSpecifications: as(types.ResourceTypeTrafficMirrorSession)})
	m.must(err)
}

// reported has the collector write a checkpoint without a packet.
func (m *mute) reported() {
	m.t.Helper()
	user := events.UserID(m.plan.Collector.RoleID, m.host)
	m.must(m.Store.CreateJSON(m.t.Context(), events.CheckpointKey(m.plan.Capture, user, 1, digest),
		events.Checkpoint{Version: 1, Capture: m.plan.Capture, UserID: user, Seq: 1, At: time.Now(), State: events.CollectorCapturing}))
}

// look is the proof phase after windows of it.
func (m *mute) look(windows float64) events.WatchResult {
	m.t.Helper()
	since := time.Now().Add(-time.Duration(windows * float64(m.Settings.ProofSeconds) * float64(time.Second)))
	r, err := step(m.Stage).run(m.t.Context(), events.StepInput{Capture: m.plan.Capture, Phase: events.PhaseProof, Since: since})
	m.must(err)
	return r
}

func (m *mute) custody(act string) events.CustodyEntry {
	m.t.Helper()
	var e events.CustodyEntry
	m.must(m.Store.ReadJSON(m.t.Context(), events.CustodyKey(m.plan.Capture, "watch", act), &e))
	return e
}

func TestSilence(t *testing.T) {
	for name, row := range map[string]struct {
		change   func(*mute)
		cause    string
		hopeless bool
	}{
		"nothing is wrong, and CloudWatch has nothing yet": {func(*mute) {}, events.CauseUnknown, false},
		"the filter is emptied": {func(m *mute) {
			list, err := m.EC2API.DescribeTrafficMirrorFilters(t.Context(), &sdk.DescribeTrafficMirrorFiltersInput{})
			m.must(err)
			for _, f := range list.TrafficMirrorFilters {
				_, err := m.EC2API.ModifyTrafficMirrorFilterNetworkServices(t.Context(), &sdk.ModifyTrafficMirrorFilterNetworkServicesInput{
					TrafficMirrorFilterId: f.TrafficMirrorFilterId, RemoveNetworkServices: f.NetworkServices})
				m.must(err)
				for _, r := range append(f.IngressFilterRules, f.EgressFilterRules...) {
					_, err := m.EC2API.DeleteTrafficMirrorFilterRule(t.Context(), &sdk.DeleteTrafficMirrorFilterRuleInput{TrafficMirrorFilterRuleId: r.TrafficMirrorFilterRuleId})
					m.must(err)
				}
			}
		}, events.CauseFilter, true},
		"the type was changed": {func(m *mute) { m.EC2.ChangeType(m.Instance, "t2.micro") }, events.CauseInstanceType, true},
		"it was stopped":       {func(m *mute) { m.EC2.StopSuspect(m.Instance) }, events.CauseInstanceType, true},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMute(t)
			row.change(m)
			before := len(m.Operations())
			if r := m.look(0.5); r.Status != events.StatusWaiting || r.Cause != "" {
				t.Fatalf("within the window: %+v", r)
			}
			r := m.look(1.1)
			if r.Status != events.StatusSilent || r.Cause != row.cause || r.Hopeless != row.hopeless || r.Remedy == "" || !strings.Contains(r.Reason, row.cause) {
				t.Errorf("%+v", r)
			}
			if e := m.custody("silent-" + row.cause); e.Detail["reason"] != r.Reason || e.Detail["remedy"] != r.Remedy {
				t.Errorf("custody has %+v", e)
			}
			if slices.Contains(m.Operations()[before:], "AuthorizeSecurityGroupIngress") {
				t.Error("a group was changed that nothing is wrong with")
			}
		})
	}
}

// TestRepair: the collector's own group gets its rule back, once, and packets get a second window.
func TestRepair(t *testing.T) {
	m := newMute(t)
	m.EC2.RemoveGroupRules(m.group, false)
	if r := m.look(1.1); r.Status != events.StatusWaiting || !strings.Contains(r.Reason, m.group) {
		t.Fatalf("%+v", r)
	}
	out, err := m.EC2API.DescribeSecurityGroups(t.Context(), &sdk.DescribeSecurityGroupsInput{GroupIds: []string{m.group}})
	m.must(err)
	if in := out.SecurityGroups[0].IpPermissions; len(in) != 1 || aws.ToInt32(in[0].FromPort) != 4789 || len(in[0].IpRanges) != 1 || aws.ToString(in[0].IpRanges[0].CidrIp) != m.Address+"/32" {
		t.Errorf("the group lets in %+v", in)
	}
	if e := m.custody(actRepaired); e.Resource != m.group {
		t.Errorf("custody has %+v", e)
	}
	m.EC2.RemoveGroupRules(m.group, false) // somebody takes it again
	if r := m.look(1.9); r.Status != events.StatusWaiting {
		t.Errorf("in the second window: %+v", r)
	}
	if r := m.look(2.1); r.Status != events.StatusSilent || r.Cause != events.CauseSecurityGroup || !r.Hopeless {
		t.Errorf("after the second window: %+v", r)
	}
	m.EC2.AddGroupRule(m.group, ec2.GroupRule{Protocol: "udp", From: 4789, To: 4789, CIDR: m.Address + "/32"})
	if r := m.look(2.1); r.Status != events.StatusSilent || r.Cause != events.CauseUnknown || r.Hopeless {
		t.Errorf("when it is there again: %+v", r)
	}
}

// TestRepairOfAShortCapture: its second window ends with its time, and what the repair did not help is explained before.
func TestRepairOfAShortCapture(t *testing.T) {
	m := newMute(t)
	m.Settings.ProofSeconds = m.plan.Limits.DurationSeconds / 2
	m.EC2.RemoveGroupRules(m.group, false)
	if r := m.look(1.1); r.Status != events.StatusWaiting || !strings.Contains(r.Reason, m.group) {
		t.Fatalf("%+v", r)
	}
	m.EC2.StopSuspect(m.Instance)
	if r := m.look(1.9); r.Status != events.StatusWaiting {
		t.Errorf("in the second window: %+v", r)
	}
	r := m.look(2)
	if r.Status != events.StatusSilent || r.Cause != events.CauseInstanceType || !r.Hopeless || r.Remedy == "" {
		t.Errorf("when its time is over: %+v", r)
	}
	if e := m.custody("silent-" + events.CauseInstanceType); e.Detail["reason"] != r.Reason {
		t.Errorf("custody has %+v", e)
	}
}

// TestNoRepairAtTheEnd: when no packet can come any more, the group is left as it is, and the cause is told.
func TestNoRepairAtTheEnd(t *testing.T) {
	m := newMute(t)
	m.Settings.ProofSeconds = m.plan.Limits.DurationSeconds
	m.EC2.RemoveGroupRules(m.group, false)
	before := len(m.Operations())
	if r := m.look(1); r.Status != events.StatusSilent || r.Cause != events.CauseSecurityGroup || !strings.Contains(r.Remedy, m.group) {
		t.Errorf("%+v", r)
	}
	if slices.Contains(m.Operations()[before:], "AuthorizeSecurityGroupIngress") {
		t.Error("the group was changed")
	}
}

// TestRepairLeavesOthersAlone: a group that is not the capture's own is nobody's to change; and a repair that fails is told.
func TestRepairLeavesOthersAlone(t *testing.T) {
	m := newMute(t)
	other, err := m.EC2API.CreateSecurityGroup(t.Context(), &sdk.CreateSecurityGroupInput{GroupName: aws.String("of somebody else"), VpcId: &m.VPC, Description: aws.String("theirs")})
	m.must(err)
	in, err := describe.Instance(t.Context(), m.EC2API, m.host)
	m.must(err)
	m.EC2.SetGroups(aws.ToString(in.NetworkInterfaces[0].NetworkInterfaceId), aws.ToString(other.GroupId))
	before := len(m.Calls())
	if r := m.look(1.1); r.Status != events.StatusSilent || r.Cause != events.CauseSecurityGroup || !r.Hopeless || !strings.Contains(r.Remedy, aws.ToString(other.GroupId)) {
		t.Errorf("%+v", r)
	}
	if slices.Contains(m.Operations()[before:], "AuthorizeSecurityGroupIngress") {
		t.Error("it was changed all the same")
	}

	m = newMute(t)
	m.EC2.RemoveGroupRules(m.group, false)
	m.Inject(func(c region.Call) *region.Fault {
		if c.Operation == "AuthorizeSecurityGroupIngress" {
			return &region.Fault{Code: "UnauthorizedOperation", Status: 403}
		}
		return nil
	})
	if r := m.look(1.1); r.Status != events.StatusSilent || r.Cause != events.CauseSecurityGroup || !strings.Contains(r.Remedy, "UnauthorizedOperation") {
		t.Errorf("%+v", r)
	}
}

// TestSilenceThatCannotBeExplained: a diagnosis is an aid, and ends no capture because it could not be made.
func TestSilenceThatCannotBeExplained(t *testing.T) {
	m := newMute(t)
	m.Inject(func(c region.Call) *region.Fault {
		switch c.Operation {
		case "DescribeSecurityGroups", "DescribeNetworkAcls", "DescribeRouteTables", "DescribeTrafficMirrorFilters", "DescribeNetworkInterfaces", "GetMetricData":
			return &region.Fault{Code: "UnauthorizedOperation", Status: 403}
		}
		return nil
	})
	r := m.look(1.1)
	if r.Status != events.StatusSilent || r.Cause != events.CauseUnknown || r.Hopeless {
		t.Errorf("%+v", r)
	}
	for _, what := range []string{"security groups", "network ACLs", "route tables", "mirror filters", "the source (", "traffic", "UnauthorizedOperation"} {
		if !strings.Contains(m.custody("silent-" + events.CauseUnknown).Detail["reason"], what) {
			t.Errorf("%q is not among what could not be looked up: %s", what, r.Reason)
		}
	}
}

// TestConsole: of a collector that does not come up, what it wrote is kept, and the error says where.
func TestConsole(t *testing.T) {
	const output = "cloud-init: could not fetch tools/collector-arm64\n"
	for name, row := range map[string]struct {
		output string
		fault  func(region.Call) *region.Fault
		says   string
		kept   bool
	}{
		"it is kept": {output, nil, "its console output is captures/", true},
		"an older instance has no latest output": {output, func(c region.Call) *region.Fault {
			if c.Operation == "GetConsoleOutput" && c.Params["Latest"] != nil {
				return &region.Fault{Code: "UnsupportedOperation", Status: 400}
			}
			return nil
		}, "its console output is captures/", true},
		"there is none yet": {"", nil, "AWS has no console output of it yet", false},
		"it is refused": {output, func(c region.Call) *region.Fault {
			if c.Operation == "GetConsoleOutput" {
				return &region.Fault{Code: "UnauthorizedOperation", Status: 403}
			}
			return nil
		}, "could not be had", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := stage.New(t, nil)
			plan := s.Plan(t, s.Capture(), nil)
			id := aws.ToString(s.Collector(t, plan).InstanceId)
			s.EC2.SetConsoleOutput(id, row.output)
			s.Inject(row.fault)
			for range 2 { // the step may run twice
				_, err := step(s).run(t.Context(), events.StepInput{Capture: plan.Capture, Phase: events.PhaseReady, Since: time.Now().Add(-time.Hour)})
				var late boot.CollectorNotReady
				if !errors.As(err, &late) || late.Instance != id || !strings.Contains(err.Error(), row.says) || !strings.Contains(err.Error(), "running") {
					t.Fatalf("%v", err)
				}
			}
			body, err := s.Store.Read(t.Context(), events.ConsoleKey(plan.Capture, id))
			if row.kept && (err != nil || string(body) != row.output) || !row.kept && err == nil {
				t.Errorf("kept %q, %v", body, err)
			}
			var e events.CustodyEntry
			if err := s.Store.ReadJSON(t.Context(), events.CustodyKey(plan.Capture, "watch", "console-"+id), &e); err != nil ||
				!strings.Contains(e.Detail["console"], row.says) || (e.Detail["key"] != "") != row.kept {
				t.Errorf("custody has %+v, %v", e, err)
			}
		})
	}
}

// TestConsoleOfTheDead: also of one that ended before it was ready, with the reason that AWS gives.
func TestConsoleOfTheDead(t *testing.T) {
	s := stage.New(t, nil)
	plan := s.Plan(t, s.Capture(), nil)
	id := aws.ToString(s.Collector(t, plan).InstanceId)
	s.EC2.SetConsoleOutput(id, "kernel panic")
	if _, err := s.EC2API.TerminateInstances(t.Context(), &sdk.TerminateInstancesInput{InstanceIds: []string{id}}); err != nil {
		t.Fatal(err)
	}
	_, err := step(s).run(t.Context(), events.StepInput{Capture: plan.Capture, Phase: events.PhaseReady, Since: time.Now()})
	var died boot.CollectorDied
	if !errors.As(boot.Edge(err), &died) || !strings.Contains(died.Reason, events.ConsoleKey(plan.Capture, id)) || !strings.Contains(died.Reason, "UserInitiatedShutdown") {
		t.Errorf("%v", err)
	}
}
