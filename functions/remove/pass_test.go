package remove

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"
	schedulertypes "github.com/aws/aws-sdk-go-v2/service/scheduler/types"

	"flashtap/events"
	"flashtap/functions/internal/describe"
	"flashtap/functions/lease"
	"flashtap/testutil/region"
	"flashtap/testutil/stage"
)

// mess is everything that a capture makes, made without the steps that make it.
type mess struct {
	*stage.Stage
	t       *testing.T
	r       Remover
	c       events.CaptureID
	plan    events.Plan
	session string
	target  string
	filter  string
	group   string
	host    string
}

func newMess(t *testing.T, change func(*region.Config)) *mess {
	m := &mess{Stage: stage.New(t, change), t: t}
	m.r = Remover{EC2: m.EC2API, Schedules: m.Scheduler, Store: m.Store, Settings: m.Settings}
	m.c = m.Capture()
	m.plan = m.Plan(t, m.c, nil)
	return m
}

func (m *mess) tags(kind types.ResourceType) []types.TagSpecification {
	return []types.TagSpecification{describe.TagSpecification(kind, events.ResourceTags(m.Settings.Deployment, m.c, m.plan.Deadline, 1))}
}

func (m *mess) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// make makes everything; vni, description and group name are ours when they are empty.
func (m *mess) make(vni int32, description, groupName string) *mess {
	m.t.Helper()
	if vni == 0 {
		vni = int32(m.plan.Mirror.VNI)
	}
	if description == "" {
		description = Description(m.c)
	}
	if groupName == "" {
		groupName = m.plan.Collector.SecurityGroupName
	}
	m.guard(m.c, m.c.NetworkInterfaceID())
	group, err := m.EC2API.CreateSecurityGroup(m.t.Context(), &ec2.CreateSecurityGroupInput{GroupName: &groupName, VpcId: &m.VPC,
		Description: aws.String("collector"), TagSpecifications: m.tags(types.ResourceTypeSecurityGroup)})
	m.must(err)
	m.group = aws.ToString(group.GroupId)
	run, err := m.EC2API.RunInstances(m.t.Context(), &ec2.RunInstancesInput{
		MinCount: aws.Int32(1), MaxCount: aws.Int32(1), ImageId: aws.String(m.Settings.Images[events.ARM64]), InstanceType: "c7g.large",
		LaunchTemplate: &types.LaunchTemplateSpecification{LaunchTemplateId: &m.Settings.LaunchTemplateID},
		NetworkInterfaces: []types.InstanceNetworkInterfaceSpecification{{DeviceIndex: aws.Int32(0), SubnetId: &m.Subnet, Groups: []string{m.group},
			DeleteOnTermination: aws.Bool(true), Description: aws.String("Flashtap collector of " + string(m.c))}},
		TagSpecifications: append(m.tags(types.ResourceTypeInstance), m.tags(types.ResourceTypeNetworkInterface)...),
	})
	m.must(err)
	m.host = aws.ToString(run.Instances[0].InstanceId)
	for range 200 { // the target's interface must belong to a running instance
		in, err := describe.Instance(m.t.Context(), m.EC2API, m.host)
		m.must(err)
		if in != nil && in.State.Name == types.InstanceStateNameRunning {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	target, err := m.EC2API.CreateTrafficMirrorTarget(m.t.Context(), &ec2.CreateTrafficMirrorTargetInput{NetworkInterfaceId: run.Instances[0].NetworkInterfaces[0].NetworkInterfaceId,
		Description: &description, TagSpecifications: m.tags(types.ResourceTypeTrafficMirrorTarget)})
	m.must(err)
	m.target = aws.ToString(target.TrafficMirrorTarget.TrafficMirrorTargetId)
	filter, err := m.EC2API.CreateTrafficMirrorFilter(m.t.Context(), &ec2.CreateTrafficMirrorFilterInput{Description: aws.String(Description(m.c)), TagSpecifications: m.tags(types.ResourceTypeTrafficMirrorFilter)})
	m.must(err)
	m.filter = aws.ToString(filter.TrafficMirrorFilter.TrafficMirrorFilterId)
	session, err := m.EC2API.CreateTrafficMirrorSession(m.t.Context(), &ec2.CreateTrafficMirrorSessionInput{NetworkInterfaceId: &m.ENI, TrafficMirrorTargetId: &m.target,
		TrafficMirrorFilterId: &m.filter, SessionNumber: aws.Int32(1), VirtualNetworkId: &vni, TagSpecifications: m.tags(types.ResourceTypeTrafficMirrorSession)})
	m.must(err)
	m.session = aws.ToString(session.TrafficMirrorSession.TrafficMirrorSessionId)
	m.schedule(events.SessionScheduleName(m.session), SessionScheduleDescription(m.c), `{"TrafficMirrorSessionId":"`+m.session+`"}`)
	return m
}

func (m *mess) guard(c events.CaptureID, eni string) {
	m.t.Helper()
	input, err := json.Marshal(lease.Lease{Capture: c, Deadline: m.plan.Deadline, Execution: string(c), By: events.ByGuard})
	m.must(err)
	m.schedule(events.GuardScheduleName(eni), "guard", string(input))
}

func (m *mess) schedule(name, description, input string) {
	m.t.Helper()
	_, err := m.Scheduler.CreateSchedule(m.t.Context(), &scheduler.CreateScheduleInput{
		Name: &name, GroupName: &m.Settings.ScheduleGroup, Description: &description, ScheduleExpression: aws.String("rate(5 minutes)"),
		StartDate: aws.Time(time.Now().Add(time.Hour)), FlexibleTimeWindow: &schedulertypes.FlexibleTimeWindow{Mode: schedulertypes.FlexibleTimeWindowModeOff},
		Target: &schedulertypes.Target{Arn: &m.Settings.TeardownARN, RoleArn: &m.Settings.ScheduleRoleARN, Input: &input},
	})
	m.must(err)
}

// left are the kinds of things that are still there, in the order of removal.
func (m *mess) left() []string {
	m.t.Helper()
	items, err := m.r.Inventory(m.t.Context(), m.c)
	m.must(err)
	var kinds []string
	for _, i := range items {
		if !i.Gone() {
			kinds = append(kinds, i.Kind)
		}
	}
	return kinds
}

var everything = []string{KindSession, KindSessionSchedule, KindTarget, KindFilter, KindInstance, KindInterface, KindSecurityGroup, KindGuard}

// clean passes until nothing is left.
func (m *mess) clean(phase string) (passes int) {
	m.t.Helper()
	for passes = 1; passes < 50; passes++ {
		cert, _, err := m.r.Pass(m.t.Context(), m.c, events.ByStateMachine, phase)
		m.must(err)
		if len(cert.Remaining)+len(cert.Refused) == 0 {
			return passes
		}
		time.Sleep(20 * time.Millisecond)
	}
	m.t.Fatalf("after %d passes there is %v", passes, m.left())
	return passes
}

func TestPass(t *testing.T) {
	m := newMess(t, nil).make(0, "", "")
	if got := m.left(); !slices.Equal(got, everything) {
		t.Fatalf("made: %v", got)
	}
	m.clean("")
	if got := m.left(); len(got) > 0 {
		t.Errorf("left: %v", got)
	}
	var order []string
	for _, c := range m.Calls() {
		if strings.HasPrefix(c.Operation, "Delete") || c.Operation == "TerminateInstances" {
			if c.Code == "" {
				order = append(order, c.Operation)
			}
		}
	}
	want := []string{"DeleteTrafficMirrorSession", "DeleteSchedule", "DeleteTrafficMirrorTarget", "DeleteTrafficMirrorFilter", "TerminateInstances", "DeleteSecurityGroup", "DeleteSchedule"}
	if !slices.Equal(order, want) {
		t.Errorf("removed in the order %v, want %v", order, want)
	}
	list, err := m.Store.List(t.Context(), events.CertificatesPrefix(m.c))
	m.must(err)
	gone := map[string]bool{}
	for n, e := range list {
		var cert events.Certificate
		m.must(m.Store.ReadJSON(t.Context(), e.Key, &cert))
		if cert.Seq != n+1 || e.Key != events.CertificateKey(m.c, n+1) {
			t.Errorf("certificate %d has number %d at %s", n+1, cert.Seq, e.Key)
		}
		for _, r := range cert.Gone {
			gone[r.Kind+" "+r.ID] = true
		}
	}
	for _, id := range []string{KindSession + " " + m.session, KindSessionSchedule + " " + m.session, KindTarget + " " + m.target, KindFilter + " " + m.filter,
		KindInstance + " " + m.host, KindSecurityGroup + " " + m.group, KindGuard + " " + m.ENI} {
		if !gone[id] {
			t.Errorf("no certificate says that %s is gone", id)
		}
	}
}

// TestPassUnmirrors: the session goes, and the collector stays to upload what it has.
func TestPassUnmirrors(t *testing.T) {
	m := newMess(t, nil).make(0, "", "")
	cert, _, err := m.r.Pass(t.Context(), m.c, events.ByStateMachine, events.PhaseMirror)
	m.must(err)
	if len(cert.Gone) != 1 || cert.Gone[0].Kind != KindSession || cert.Gone[0].RequestID == "" {
		t.Errorf("gone: %+v", cert.Gone)
	}
	if got := m.left(); !slices.Equal(got, everything[1:]) {
		t.Errorf("left: %v", got)
	}
}

// TestPassesOverlap: the state machine, the guard and the sweep may all be at it at once.
func TestPassesOverlap(t *testing.T) {
	m := newMess(t, nil).make(0, "", "")
	var group sync.WaitGroup
	for _, by := range []string{events.ByStateMachine, events.ByGuard, events.BySweep} {
		group.Go(func() {
			for range 20 {
				cert, _, err := m.r.Pass(t.Context(), m.c, by, "")
				if err != nil {
					t.Errorf("%s: %v", by, err)
				}
				if len(cert.Remaining) == 0 {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
			t.Errorf("%s never finds it clean", by)
		})
	}
	group.Wait()
	if got := m.left(); len(got) > 0 {
		t.Errorf("left: %v", got)
	}
}

// TestPassRefuses: our tags alone prove nothing.
func TestPassRefuses(t *testing.T) {
	for name, row := range map[string]struct {
		vni                    int32
		description, groupName string
		refused                []string
	}{
		"a session with another VNI":         {77, "", "", []string{KindSession}},
		"a target with other words":          {0, "a target of somebody else", "", []string{KindSession, KindTarget}},
		"a security group with another name": {0, "", "web servers", []string{KindSecurityGroup}},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMess(t, nil).make(row.vni, row.description, row.groupName)
			var cert events.Certificate
			for range 30 {
				var err error
				cert, _, err = m.r.Pass(t.Context(), m.c, events.ByStateMachine, "")
				m.must(err)
				if !slices.ContainsFunc(cert.Remaining, func(r events.Resource) bool { return r.Kind == KindInstance }) {
					break
				}
				time.Sleep(20 * time.Millisecond)
			}
			var refused []string
			for _, r := range cert.Refused {
				refused = append(refused, r.Kind)
				if r.Reason == "" {
					t.Errorf("%s is refused without a reason", r.Kind)
				}
			}
			if !slices.Equal(refused, row.refused) {
				t.Errorf("refused: %v, want %v", refused, row.refused)
			}
			left := m.left()
			for _, kind := range row.refused {
				if !slices.Contains(left, kind) {
					t.Errorf("%s is removed all the same", kind)
				}
			}
			if !slices.Contains(left, KindGuard) {
				t.Error("the guard is gone, and something is left")
			}
			if slices.Contains(left, KindInstance) {
				t.Error("the instance beside it is not removed")
			}
		})
	}
}

// TestInstanceThatIsNotOurs: neither without our template nor without our profile.
func TestInstanceThatIsNotOurs(t *testing.T) {
	m := newMess(t, nil)
	for _, in := range []*ec2.RunInstancesInput{
		{IamInstanceProfile: &types.IamInstanceProfileSpecification{Arn: &m.Settings.InstanceProfileARN}},
		{},
	} {
		in.MinCount, in.MaxCount, in.ImageId, in.InstanceType, in.SubnetId = aws.Int32(1), aws.Int32(1), aws.String(m.Settings.Images[events.ARM64]), "c7g.large", &m.Subnet
		in.TagSpecifications = m.tags(types.ResourceTypeInstance)
		_, err := m.EC2API.RunInstances(t.Context(), in)
		m.must(err)
	}
	cert, _, err := m.r.Pass(t.Context(), m.c, events.BySweep, "")
	m.must(err)
	if len(cert.Refused) != 2 || len(cert.Gone)+len(cert.Remaining) != 0 {
		t.Errorf("%+v", cert)
	}
}

// TestGuardOfTheNextCapture: between looking and removing, the guard of this capture may go and the next capture of the
// interface make its own, of the same name.
func TestGuardOfTheNextCapture(t *testing.T) {
	m := newMess(t, nil)
	next := events.NewCaptureID(time.Now().Add(time.Hour), m.ENI)
	m.guard(next, m.ENI)
	_, err := m.r.remove(t.Context(), Item{Resource: events.Resource{Kind: KindGuard, ID: events.GuardScheduleName(m.ENI)}, Capture: m.c})
	m.must(err)
	held, err := lease.Read(t.Context(), m.Scheduler, m.Settings.ScheduleGroup, m.ENI)
	if err != nil || held == nil || held.Capture != next {
		t.Errorf("the next capture's guard: %+v, %v", held, err)
	}
}

// TestPassReportsWhatItCouldNotDo: a failed delete is never a success, and stops nothing else.
func TestPassReportsWhatItCouldNotDo(t *testing.T) {
	m := newMess(t, nil).make(0, "", "")
	m.Inject(func(c region.Call) *region.Fault {
		if c.Operation == "DeleteTrafficMirrorSession" || c.Operation == "DeleteTrafficMirrorFilter" {
			return &region.Fault{Code: "UnauthorizedOperation", Status: 403}
		}
		return nil
	})
	cert, key, err := m.r.Pass(t.Context(), m.c, events.ByGuard, "")
	if err == nil || strings.Count(err.Error(), "UnauthorizedOperation") != 2 || key == "" {
		t.Errorf("certificate %q, %v", key, err)
	}
	remaining := fmt.Sprint(cert.Remaining)
	for _, id := range []string{m.session, m.filter} {
		if !strings.Contains(remaining, id) {
			t.Errorf("%s does not remain: %s", id, remaining)
		}
	}
	if in, err := describe.Instance(t.Context(), m.EC2API, m.host); err != nil || in.State.Name == types.InstanceStateNameRunning {
		t.Errorf("the instance runs on: %v", err)
	}
	m.Inject(nil)
	m.clean("")
}

func TestInventoryOfOne(t *testing.T) {
	m := newMess(t, nil).make(0, "", "")
	other := events.NewCaptureID(time.Now(), "eni-0b0b0b0b0b0b0b0b0")
	m.guard(other, "eni-0b0b0b0b0b0b0b0b0")
	if got := m.left(); !slices.Equal(got, everything) {
		t.Errorf("of one capture: %v", got)
	}
	items, err := m.r.Inventory(t.Context(), "")
	m.must(err)
	if len(items) != len(everything)+1 {
		t.Errorf("of all: %+v", items)
	}
	m.r.Settings.Deployment = "another"
	if items, err := m.r.Inventory(t.Context(), ""); err != nil || slices.ContainsFunc(items, func(i Item) bool { return i.Kind != KindGuard && i.Kind != KindSessionSchedule }) {
		t.Errorf("of another deployment: %+v, %v", items, err)
	}
}
