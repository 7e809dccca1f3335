package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"flashtap/events"
	"flashtap/functions/evidence"
	"flashtap/functions/internal/awserr"
	"flashtap/functions/internal/boot"
	"flashtap/functions/internal/describe"
	"flashtap/functions/path"
)

type launch struct {
	ec2   *ec2.Client
	store evidence.Store
}

// run launches the collector, or finds the one that an earlier run of this step has launched.
func (l launch) run(ctx context.Context, in events.StepInput) (events.LaunchResult, error) {
	plan, err := l.store.Plan(ctx, in.Capture)
	if err != nil {
		return events.LaunchResult{}, err
	}
	if !plan.Go {
		return events.LaunchResult{}, boot.Errorf(plan.Capture, "the plan says no: %v", plan.Failed())
	}
	group, err := l.securityGroup(ctx, plan, plan.Collector.SecurityGroupName)
	if err != nil {
		return events.LaunchResult{}, err
	}
	way, err := l.wayToS3(ctx, plan, group)
	if err != nil {
		return events.LaunchResult{}, err
	}
	if err := l.rules(ctx, plan, group, way.permission); err != nil {
		return events.LaunchResult{}, err
	}
	instance, err := l.running(ctx, plan)
	if err != nil {
		return events.LaunchResult{}, err
	}
	call := "" // of an earlier run of this step nobody knows it
	if instance == nil {
		if instance, call, err = l.launch(ctx, plan, group, way.endpoint); err != nil {
			return events.LaunchResult{}, err
		}
	}
	id := aws.ToString(instance.InstanceId)
	slog.Info("launched", "capture", plan.Capture, "instance", id, "type", instance.InstanceType)
	return events.LaunchResult{
			InstanceID: id, InstanceType: string(instance.InstanceType),
			UserID: events.UserID(plan.Collector.RoleID, id), At: time.Now().UTC(),
		}, l.store.Record(ctx, events.CustodyEntry{
			Capture: plan.Capture, Actor: "launch", Act: "launched-" + id, Resource: id, RequestID: call,
			Detail: map[string]string{"type": string(instance.InstanceType), "userId": events.UserID(plan.Collector.RoleID, id), "securityGroup": group},
		})
}

// securityGroup makes a group of the capture, without rules. CreateSecurityGroup has no client token, but the planned name is
// unique in a VPC.
func (l launch) securityGroup(ctx context.Context, plan events.Plan, name string) (string, error) {
	tags := plan.ResourceTags(1)
	out, err := l.ec2.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{
		GroupName: &name, VpcId: &plan.Collector.VPC,
		Description:       aws.String("Flashtap collector of " + string(plan.Capture)),
		TagSpecifications: []types.TagSpecification{describe.TagSpecification(types.ResourceTypeSecurityGroup, tags)},
	})
	switch {
	case awserr.IsExisting(err):
		found, err := l.ec2.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{Filters: []types.Filter{
			describe.Filter("group-name", name), describe.Filter("vpc-id", plan.Collector.VPC)}})
		if err != nil {
			return "", fmt.Errorf("describe security group %s: %w", name, err)
		}
		if len(found.SecurityGroups) == 0 {
			return "", boot.Transient{Err: fmt.Errorf("security group %s: its name is taken, but EC2 does not show it yet", name)}
		}
		group := found.SecurityGroups[0]
		if describe.Tag(group.Tags, events.TagCapture) != string(plan.Capture) || describe.Tag(group.Tags, events.TagDeployment) != plan.Deployment {
			return "", fmt.Errorf("security group %s: the name is taken by %s, which is not ours", name, aws.ToString(group.GroupId))
		}
		return aws.ToString(group.GroupId), nil
	case err != nil:
		return "", fmt.Errorf("create security group %s: %w", name, err)
	}
	return aws.ToString(out.GroupId), nil
}

// rules are those of the collector's group: in, only the mirrored copies from the source; out, only the way to S3.
func (l launch) rules(ctx context.Context, plan events.Plan, group string, out types.IpPermission) error {
	in := path.AdmitCopies(plan.Source.OuterSources())
	_, err := l.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: &group, IpPermissions: []types.IpPermission{in}})
	if err != nil && !awserr.IsExisting(err) {
		return fmt.Errorf("admit mirrored copies to %s: %w", group, err)
	}
	_, err = l.ec2.AuthorizeSecurityGroupEgress(ctx, &ec2.AuthorizeSecurityGroupEgressInput{GroupId: &group, IpPermissions: []types.IpPermission{out}})
	if err != nil && !awserr.IsExisting(err) {
		return fmt.Errorf("admit S3 from %s: %w", group, err)
	}
	return l.close(ctx, group)
}

// close takes the ways out away that a new group has: it lets everything out, and the collector parses what an attacker
// shaped.
func (l launch) close(ctx context.Context, group string) error {
	everything := types.IpPermission{IpProtocol: aws.String("-1"), IpRanges: []types.IpRange{{CidrIp: aws.String("0.0.0.0/0")}}}
	if err := l.revoke(ctx, group, everything); err != nil {
		return err
	}
	// In a VPC with IPv6 that is a second rule; in another the call is refused as not found or as an invalid value.
	everything = types.IpPermission{IpProtocol: aws.String("-1"), Ipv6Ranges: []types.Ipv6Range{{CidrIpv6: aws.String("::/0")}}}
	if err := l.revoke(ctx, group, everything); awserr.Code(err) != "InvalidParameterValue" {
		return err
	}
	return nil
}

// revoke takes a way out away; one that is not there is fine.
func (l launch) revoke(ctx context.Context, group string, way types.IpPermission) error {
	_, err := l.ec2.RevokeSecurityGroupEgress(ctx, &ec2.RevokeSecurityGroupEgressInput{GroupId: &group, IpPermissions: []types.IpPermission{way}})
	if err != nil && awserr.Code(err) != "InvalidPermission.NotFound" {
		return fmt.Errorf("close the default way out of %s: %w", group, err)
	}
	return nil
}

// running is the collector of this capture that is not on its way out; nil when there is none.
func (l launch) running(ctx context.Context, plan events.Plan) (*types.Instance, error) {
	list, err := describe.Instances(ctx, l.ec2, describe.Filter("tag:"+events.TagCapture, string(plan.Capture)),
		describe.Filter("tag:"+events.TagDeployment, plan.Deployment),
		types.Filter{Name: aws.String("instance-state-name"), Values: []string{"pending", "running"}})
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return &list[0], nil
}

// launch tries the planned instance types in order. A type that AWS had no capacity for is remembered, so that a
// second run of this step does not find capacity there and start a second collector.
func (l launch) launch(ctx context.Context, plan events.Plan, group, endpoint string) (instance *types.Instance, call string, err error) {
	var tried []string
	for i, candidate := range plan.Collector.Candidates {
		attempt := i + 1
		tried = append(tried, candidate.InstanceType)
		refusal := events.CustodyKey(plan.Capture, "launch", "no-capacity-"+strconv.Itoa(attempt))
		refused, err := l.store.Exists(ctx, refusal)
		if err != nil {
			return nil, "", err
		}
		if refused {
			continue
		}
		instance, call, err := l.runInstance(ctx, plan, candidate, attempt, group, endpoint)
		if err == nil {
			return instance, call, nil
		}
		if awserr.Code(err) == "IdempotentInstanceTerminated" {
			return nil, "", boot.CollectorDied{Instance: "of attempt " + strconv.Itoa(attempt), Reason: "it was terminated while the step ran again"}
		}
		if !awserr.IsNoCapacity(err) {
			return nil, "", fmt.Errorf("launch a collector of type %s: %w", candidate.InstanceType, err)
		}
		slog.Warn("no capacity", "capture", plan.Capture, "type", candidate.InstanceType, "err", err)
		if err := l.store.Record(ctx, events.CustodyEntry{
			Capture: plan.Capture, Actor: "launch", Act: "no-capacity-" + strconv.Itoa(attempt), RequestID: evidence.FailedRequestID(err),
			Detail: map[string]string{"type": candidate.InstanceType, "code": awserr.Code(err)},
		}); err != nil {
			return nil, "", err
		}
	}
	return nil, "", boot.NoCapacity{Tried: tried}
}

// runAttempts is how often one call asks for an instance of one type.
const runAttempts = 2

func (l launch) runInstance(ctx context.Context, plan events.Plan, c events.Candidate, attempt int, group, endpoint string) (instance *types.Instance, call string, err error) {
	config := plan.CollectorConfig(c)
	config.S3Endpoint = endpoint
	script, err := events.UserData(config, plan.Lifetime())
	if err != nil {
		return nil, "", err
	}
	tags := plan.ResourceTags(attempt)
	ni := types.InstanceNetworkInterfaceSpecification{
		DeviceIndex: aws.Int32(0), SubnetId: &plan.Collector.Subnet, Groups: []string{group},
		DeleteOnTermination: aws.Bool(true), AssociatePublicIpAddress: aws.Bool(false),
		Description: aws.String("Flashtap collector of " + string(plan.Capture)),
	}
	if plan.Collector.IPv6 {
		ni.Ipv6AddressCount = aws.Int32(1)
	}
	out, err := l.ec2.RunInstances(ctx, &ec2.RunInstancesInput{
		MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
		ClientToken:    aws.String(events.ClientToken(plan.Capture, attempt, "instance")),
		LaunchTemplate: &types.LaunchTemplateSpecification{LaunchTemplateId: &plan.Collector.LaunchTemplateID, Version: &plan.Collector.LaunchTemplateVersion},
		ImageId:        &c.Image,
		InstanceType:   types.InstanceType(c.InstanceType),
		UserData:       aws.String(base64.StdEncoding.EncodeToString(script)),
		// The instance ends by powering off, so this must not depend on what the template says.
		InstanceInitiatedShutdownBehavior: types.ShutdownBehaviorTerminate,
		NetworkInterfaces:                 []types.InstanceNetworkInterfaceSpecification{ni},
		TagSpecifications: []types.TagSpecification{
			describe.TagSpecification(types.ResourceTypeInstance, tags),
			describe.TagSpecification(types.ResourceTypeVolume, tags),
			describe.TagSpecification(types.ResourceTypeNetworkInterface, tags),
		},
	}, func(o *ec2.Options) {
		// EC2 says that it has no capacity as a server's fault, which the SDK would ask about again and again while
		// the next type is free. Whoever is throttled is tried again by the state machine.
		o.Retryer = retry.AddWithMaxAttempts(o.Retryer, runAttempts)
	})
	if err != nil {
		return nil, "", err
	}
	if len(out.Instances) != 1 {
		return nil, "", boot.Errorf(plan.Capture, "AWS answered with %d instances", len(out.Instances))
	}
	return &out.Instances[0], evidence.RequestID(out.ResultMetadata), nil
}
