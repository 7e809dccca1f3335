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

// planned is a plan with a temporary endpoint.
func planned(t *testing.T, s *stage.Stage) events.Plan {
	return s.Plan(t, s.Capture(), func(p *events.Plan) {
		p.Collector.Endpoint = &events.EndpointPlan{
			Service: "com.amazonaws." + s.Settings.Region + ".s3", Subnet: s.Subnet,
			SecurityGroupName: events.EndpointGroupName(s.Settings.Deployment, p.Capture),
			Policy:            `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:PutObject","Resource":"arn:aws:s3:::evidence/*"}]}`,
		}
	})
}

// opened runs the step until the endpoint is open, as the state machine does, and counts the runs in vain.
func opened(t *testing.T, s *stage.Stage, plan events.Plan) (events.LaunchResult, int) {
	t.Helper()
	for vain := range 300 {
		out, err := step(s).run(t.Context(), events.StepInput{Capture: plan.Capture})
		var pending boot.EndpointPending
		if errors.As(boot.Edge(err), &pending) {
			if slices.Contains(s.Operations(), "RunInstances") {
				t.Fatal("the collector is launched before its way to S3 is open")
			}
			time.Sleep(20 * time.Millisecond)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		return out, vain
	}
	t.Fatal("the endpoint does not open")
	return events.LaunchResult{}, 0
}

func group(t *testing.T, s *stage.Stage, name string) types.SecurityGroup {
	t.Helper()
	out, err := s.EC2API.DescribeSecurityGroups(t.Context(), &ec2.DescribeSecurityGroupsInput{Filters: []types.Filter{describe.Filter("group-name", name)}})
	if err != nil || len(out.SecurityGroups) != 1 {
		t.Fatalf("group %s: %v, %v", name, out, err)
	}
	return out.SecurityGroups[0]
}

// TestTemporaryEndpoint: it is made once, however often the step runs, only the collector gets through it, and the collector
// uses it by its own name.
func TestTemporaryEndpoint(t *testing.T) {
	s := stage.New(t, func(c *region.Config) { c.EC2.EndpointDelay = 300 * time.Millisecond })
	plan := planned(t, s)
	first, vain := opened(t, s, plan)
	if vain == 0 {
		t.Error("the step does not wait for the endpoint")
	}
	if again, _ := opened(t, s, plan); again.InstanceID != first.InstanceID {
		t.Errorf("a second run launched %s beside %s", again.InstanceID, first.InstanceID)
	}
	list, err := s.EC2API.DescribeVpcEndpoints(t.Context(), &ec2.DescribeVpcEndpointsInput{Filters: []types.Filter{describe.Filter("tag:"+events.TagCapture, string(plan.Capture))}})
	if err != nil || len(list.VpcEndpoints) != 1 {
		t.Fatalf("%d endpoints, %v", len(list.VpcEndpoints), err)
	}
	e := list.VpcEndpoints[0]
	if aws.ToBool(e.PrivateDnsEnabled) || e.VpcEndpointType != types.VpcEndpointTypeInterface || aws.ToString(e.ServiceName) != plan.Collector.Endpoint.Service ||
		aws.ToString(e.PolicyDocument) != plan.Collector.Endpoint.Policy || !slices.Equal(e.SubnetIds, []string{s.Subnet}) || len(e.Groups) != 1 {
		t.Errorf("endpoint %+v", e)
	}
	for key, want := range events.ResourceTags(plan.Deployment, plan.Capture, plan.Deadline, 1) {
		if got := describe.Tag(e.Tags, key); got != want {
			t.Errorf("tag %s is %q, want %q", key, got, want)
		}
	}

	collector, its := group(t, s, plan.Collector.SecurityGroupName), group(t, s, plan.Collector.Endpoint.SecurityGroupName)
	if aws.ToString(e.Groups[0].GroupId) != aws.ToString(its.GroupId) {
		t.Errorf("the endpoint is in %+v, want %s", e.Groups, aws.ToString(its.GroupId))
	}
	if len(its.IpPermissionsEgress) != 0 || len(its.IpPermissions) != 1 || aws.ToInt32(its.IpPermissions[0].FromPort) != 443 || len(its.IpPermissions[0].IpRanges) != 0 ||
		len(its.IpPermissions[0].UserIdGroupPairs) != 1 || aws.ToString(its.IpPermissions[0].UserIdGroupPairs[0].GroupId) != aws.ToString(collector.GroupId) {
		t.Errorf("the endpoint's group: in %+v, out %+v; want HTTPS from the collector alone", its.IpPermissions, its.IpPermissionsEgress)
	}
	ni, err := describe.Interface(t.Context(), s.EC2API, e.NetworkInterfaceIds[0])
	if err != nil {
		t.Fatal(err)
	}
	out := collector.IpPermissionsEgress
	if len(out) != 1 || len(out[0].PrefixListIds)+len(out[0].UserIdGroupPairs) != 0 || len(out[0].IpRanges) != 1 || aws.ToInt32(out[0].FromPort) != 443 ||
		aws.ToString(out[0].IpRanges[0].CidrIp) != aws.ToString(ni.PrivateIpAddress)+"/32" {
		t.Errorf("the collector's group lets out %+v, want HTTPS to %s alone", out, aws.ToString(ni.PrivateIpAddress))
	}

	data, err := s.EC2API.DescribeInstanceAttribute(t.Context(), &ec2.DescribeInstanceAttributeInput{InstanceId: &first.InstanceID, Attribute: "userData"})
	if err != nil {
		t.Fatal(err)
	}
	script, err := base64.StdEncoding.DecodeString(aws.ToString(data.UserData.Value))
	if err != nil {
		t.Fatal(err)
	}
	config, _, err := events.ParseUserData(script)
	if err != nil || !strings.HasPrefix(config.S3Endpoint, "https://bucket."+aws.ToString(e.VpcEndpointId)) {
		t.Errorf("the collector is told to use %q, %v", config.S3Endpoint, err)
	}
	if there, err := s.Store.Exists(t.Context(), events.CustodyKey(plan.Capture, "launch", "opened-"+aws.ToString(e.VpcEndpointId))); err != nil || !there {
		t.Errorf("it is not recorded: %v", err)
	}
}

// TestEndpointThatCannotOpen: no waiting changes it.
func TestEndpointThatCannotOpen(t *testing.T) {
	s := stage.New(t, nil)
	plan := planned(t, s)
	s.Inject(func(c region.Call) *region.Fault {
		if c.Operation == "CreateVpcEndpoint" {
			return &region.Fault{Code: "VpcEndpointLimitExceeded", Status: 400}
		}
		return nil
	})
	_, err := step(s).run(t.Context(), events.StepInput{Capture: plan.Capture})
	var failed boot.StepFailed
	if !errors.As(boot.Edge(err), &failed) || !strings.Contains(err.Error(), "VpcEndpointLimitExceeded") || slices.Contains(s.Operations(), "RunInstances") {
		t.Errorf("%v, %v", err, s.Operations())
	}
}

func TestBucketURL(t *testing.T) {
	entries := func(names ...string) types.VpcEndpoint {
		e := types.VpcEndpoint{VpcEndpointId: aws.String("vpce-1")}
		for _, n := range names {
			e.DnsEntries = append(e.DnsEntries, types.DnsEntry{DnsName: &n})
		}
		return e
	}
	const regional, zonal = "*.vpce-1-ab.s3.eu-central-1.vpce.amazonaws.com", "*.vpce-1-ab-eu-central-1a.s3.eu-central-1.vpce.amazonaws.com"
	for _, e := range []types.VpcEndpoint{entries(regional, zonal), entries(zonal, regional), entries("s3.eu-central-1.amazonaws.com", zonal, regional)} {
		if got, err := bucketURL(e); err != nil || got != "https://bucket.vpce-1-ab.s3.eu-central-1.vpce.amazonaws.com" {
			t.Errorf("%s, %v", got, err)
		}
	}
	var transient boot.Transient
	if _, err := bucketURL(entries()); !errors.As(err, &transient) {
		t.Errorf("without names: %v", err)
	}
}
