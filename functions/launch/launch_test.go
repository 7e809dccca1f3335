package main

import (
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"flashtap/events"
	"flashtap/functions/internal/boot"
	"flashtap/functions/internal/describe"
	"flashtap/testutil/region"
	"flashtap/testutil/stage"
)

func step(s *stage.Stage) launch { return launch{ec2: s.EC2API, store: s.Store} }

// TestLaunch runs the step twice: one group, one instance, and each as the plan and the safety of it demand.
func TestLaunch(t *testing.T) {
	s := stage.New(t, nil)
	plan := s.Plan(t, s.Capture(), func(p *events.Plan) { p.Tags = map[string]string{"Team": "soc"} })
	first, err := step(s).run(t.Context(), events.StepInput{Capture: plan.Capture})
	if err != nil {
		t.Fatal(err)
	}
	second, err := step(s).run(t.Context(), events.StepInput{Capture: plan.Capture})
	if err != nil {
		t.Fatal(err)
	}
	if first.InstanceID != second.InstanceID || first.UserID != events.UserID(plan.Collector.RoleID, first.InstanceID) || first.InstanceType != "c7g.large" {
		t.Errorf("%+v, and %+v", first, second)
	}
	instances, err := describe.Instances(t.Context(), s.EC2API, describe.Filter("tag:"+events.TagCapture, string(plan.Capture)))
	if err != nil || len(instances) != 1 {
		t.Fatalf("%d instances, %v", len(instances), err)
	}
	in := instances[0]
	if aws.ToString(in.SubnetId) != s.Subnet || aws.ToString(in.PublicIpAddress) != "" || in.IamInstanceProfile == nil || aws.ToString(in.IamInstanceProfile.Arn) != plan.Collector.InstanceProfileARN {
		t.Errorf("instance %+v", in)
	}
	if describe.Tag(in.Tags, "Team") != "soc" {
		t.Errorf("the deployment's own tag is not among %v", in.Tags)
	}
	for key, want := range events.ResourceTags(plan.Deployment, plan.Capture, plan.Deadline, 1) {
		if got := describe.Tag(in.Tags, key); got != want {
			t.Errorf("tag %s is %q, want %q", key, got, want)
		}
	}
	attribute := func(name types.InstanceAttributeName) *ec2.DescribeInstanceAttributeOutput {
		out, err := s.EC2API.DescribeInstanceAttribute(t.Context(), &ec2.DescribeInstanceAttributeInput{InstanceId: in.InstanceId, Attribute: name})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	// The template may say otherwise, or nothing: EC2's default is to stop, and a stopped instance is never taken back.
	if got := attribute("instanceInitiatedShutdownBehavior").InstanceInitiatedShutdownBehavior; got == nil || aws.ToString(got.Value) != "terminate" {
		t.Errorf("when it powers off it does not terminate: %+v", got)
	}
	script, err := base64.StdEncoding.DecodeString(aws.ToString(attribute("userData").UserData.Value))
	if err != nil {
		t.Fatal(err)
	}
	config, lifetime, err := events.ParseUserData(script)
	if err != nil || config.Capture != plan.Capture || config.VNI != plan.Mirror.VNI || lifetime < plan.Lifetime() || lifetime > plan.Lifetime()+time.Minute {
		t.Errorf("user data: %+v, %s, %v", config, lifetime, err)
	}
	checkGroup(t, s, plan)
}

func checkGroup(t *testing.T, s *stage.Stage, plan events.Plan) {
	t.Helper()
	out, err := s.EC2API.DescribeSecurityGroups(t.Context(), &ec2.DescribeSecurityGroupsInput{Filters: []types.Filter{describe.Filter("group-name", plan.Collector.SecurityGroupName)}})
	if err != nil || len(out.SecurityGroups) != 1 {
		t.Fatalf("%v, %v", out, err)
	}
	g := out.SecurityGroups[0]
	if len(g.IpPermissions) != 1 || aws.ToString(g.IpPermissions[0].IpProtocol) != "udp" || aws.ToInt32(g.IpPermissions[0].FromPort) != 4789 || aws.ToInt32(g.IpPermissions[0].ToPort) != 4789 ||
		len(g.IpPermissions[0].IpRanges) != 1 || aws.ToString(g.IpPermissions[0].IpRanges[0].CidrIp) != s.Address+"/32" || len(g.IpPermissions[0].UserIdGroupPairs) != 0 {
		t.Errorf("in: %+v; want only the suspect's copies", g.IpPermissions)
	}
	if len(g.IpPermissionsEgress) != 1 || aws.ToString(g.IpPermissionsEgress[0].IpProtocol) != "tcp" || aws.ToInt32(g.IpPermissionsEgress[0].FromPort) != 443 ||
		len(g.IpPermissionsEgress[0].IpRanges)+len(g.IpPermissionsEgress[0].Ipv6Ranges) != 0 || len(g.IpPermissionsEgress[0].PrefixListIds) != 1 ||
		aws.ToString(g.IpPermissionsEgress[0].PrefixListIds[0].PrefixListId) != plan.Collector.S3PrefixList {
		t.Errorf("out: %+v; want only S3", g.IpPermissionsEgress)
	}
	if describe.Tag(g.Tags, events.TagCapture) != string(plan.Capture) {
		t.Errorf("tags %+v", g.Tags)
	}
}

// TestGroupOfAVPCWithIPv6: there a new group lets everything out over IPv6 as well.
func TestGroupOfAVPCWithIPv6(t *testing.T) {
	s := stage.New(t, nil)
	plan := s.Plan(t, s.Capture(), nil)
	made, err := s.EC2API.CreateSecurityGroup(t.Context(), &ec2.CreateSecurityGroupInput{
		GroupName: &plan.Collector.SecurityGroupName, VpcId: &plan.Collector.VPC, Description: aws.String("made by a run before"),
		TagSpecifications: []types.TagSpecification{describe.TagSpecification(types.ResourceTypeSecurityGroup, events.ResourceTags(plan.Deployment, plan.Capture, plan.Deadline, 1))},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.EC2API.AuthorizeSecurityGroupEgress(t.Context(), &ec2.AuthorizeSecurityGroupEgressInput{GroupId: made.GroupId, IpPermissions: []types.IpPermission{
		{IpProtocol: aws.String("-1"), Ipv6Ranges: []types.Ipv6Range{{CidrIpv6: aws.String("::/0")}}}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := step(s).run(t.Context(), events.StepInput{Capture: plan.Capture}); err != nil {
		t.Fatal(err)
	}
	checkGroup(t, s, plan)
}

// TestGroupNameIsTaken: a group that somebody else gave our name is neither used nor touched.
func TestGroupNameIsTaken(t *testing.T) {
	s := stage.New(t, nil)
	plan := s.Plan(t, s.Capture(), nil)
	if _, err := s.EC2API.CreateSecurityGroup(t.Context(), &ec2.CreateSecurityGroupInput{
		GroupName: &plan.Collector.SecurityGroupName, VpcId: &plan.Collector.VPC, Description: aws.String("of somebody else")}); err != nil {
		t.Fatal(err)
	}
	_, err := step(s).run(t.Context(), events.StepInput{Capture: plan.Capture})
	var transient boot.Transient
	if err == nil || errors.As(err, &transient) || !strings.Contains(err.Error(), "not ours") {
		t.Errorf("%v", err)
	}
	for _, call := range s.Operations() {
		if strings.HasPrefix(call, "Authorize") || strings.HasPrefix(call, "Revoke") || call == "RunInstances" {
			t.Errorf("it was used all the same: %s", call)
		}
	}
}

// TestGroupThatIsNotShownYet: its name is taken, by ourselves a moment ago, but EC2 does not describe it yet.
func TestGroupThatIsNotShownYet(t *testing.T) {
	s := stage.New(t, func(c *region.Config) { c.EC2.Consistency = time.Hour })
	plan := s.Plan(t, s.Capture(), nil)
	if _, err := s.EC2API.CreateSecurityGroup(t.Context(), &ec2.CreateSecurityGroupInput{
		GroupName: &plan.Collector.SecurityGroupName, VpcId: &plan.Collector.VPC, Description: aws.String("ours"),
		TagSpecifications: []types.TagSpecification{describe.TagSpecification(types.ResourceTypeSecurityGroup, events.ResourceTags(plan.Deployment, plan.Capture, plan.Deadline, 1))},
	}); err != nil {
		t.Fatal(err)
	}
	_, err := step(s).run(t.Context(), events.StepInput{Capture: plan.Capture})
	var transient boot.Transient
	if !errors.As(boot.Edge(err), &transient) {
		t.Errorf("%v, want an error that is tried again", err)
	}
}

func TestPlanThatSaysNo(t *testing.T) {
	s := stage.New(t, nil)
	plan := s.Plan(t, s.Capture(), func(p *events.Plan) {
		p.Go, p.Verdicts = false, []events.Verdict{{Check: "instance-family", Result: events.Fail, Reason: "T2"}}
	})
	if _, err := step(s).run(t.Context(), events.StepInput{Capture: plan.Capture}); err == nil || !strings.Contains(err.Error(), "T2") {
		t.Errorf("%v", err)
	}
	if calls := s.Operations(); slices.Contains(calls, "CreateSecurityGroup") || slices.Contains(calls, "RunInstances") {
		t.Errorf("%v", calls)
	}
}

// TestNoCapacity: a type that AWS had no capacity for is not tried again by a second run, which would find capacity
// there and start a second collector.
func TestNoCapacity(t *testing.T) {
	s := stage.New(t, nil)
	plan := s.Plan(t, s.Capture(), nil)
	full := map[string]bool{"c7g.large": true, "c7i.large": true}
	s.Inject(func(c region.Call) *region.Fault {
		kind, _ := c.Params["InstanceType"].(string)
		if c.Operation == "RunInstances" && full[kind] {
			return &region.Fault{Code: "InsufficientInstanceCapacity", Status: 500}
		}
		return nil
	})
	_, err := step(s).run(t.Context(), events.StepInput{Capture: plan.Capture})
	var none boot.NoCapacity
	if !errors.As(err, &none) || !slices.Equal(none.Tried, []string{"c7g.large", "c7i.large"}) {
		t.Errorf("%v", err)
	}

	s.ENI = "eni-0a0a0a0a0a0a0a0a1"
	plan = s.Plan(t, events.NewCaptureID(time.Now(), s.ENI), nil)
	full = map[string]bool{"c7g.large": true}
	first, err := step(s).run(t.Context(), events.StepInput{Capture: plan.Capture})
	if err != nil || first.InstanceType != "c7i.large" {
		t.Fatalf("%+v, %v", first, err)
	}
	full = nil
	groups, err := s.EC2API.DescribeSecurityGroups(t.Context(), &ec2.DescribeSecurityGroupsInput{Filters: []types.Filter{describe.Filter("group-name", plan.Collector.SecurityGroupName)}})
	if err != nil {
		t.Fatal(err)
	}
	// A second run to which EC2 does not show the instance yet comes here.
	again, call, err := step(s).launch(t.Context(), plan, aws.ToString(groups.SecurityGroups[0].GroupId), "")
	if err != nil || aws.ToString(again.InstanceId) != first.InstanceID || call == "" {
		t.Errorf("%+v, %v; at first %+v", again, err, first)
	}
}
