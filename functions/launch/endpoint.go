package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"flashtap/events"
	"flashtap/functions/internal/awserr"
	"flashtap/functions/internal/boot"
	"flashtap/functions/internal/describe"
)

// wayToS3 is how the collector reaches S3.
type wayToS3 struct {
	permission types.IpPermission // what its group lets out
	endpoint   string             // URL of the temporary endpoint; "": the Region's own
}

// https is the permission of HTTPS, to or from nobody yet.
func https() types.IpPermission {
	return types.IpPermission{IpProtocol: aws.String("tcp"), FromPort: aws.Int32(443), ToPort: aws.Int32(443)}
}

const evidenceToS3 = "evidence to S3"

// wayToS3 makes the temporary endpoint when the plan has one, and waits for it by an error that has the state machine ask
// again.
//
// The collector's group names the endpoint's addresses and not its group: two groups whose rules name each other can't be
// deleted (EC2 API Reference, DeleteSecurityGroup), and the remover would have to change rules first.
func (l launch) wayToS3(ctx context.Context, plan events.Plan, collector string) (wayToS3, error) {
	way := wayToS3{permission: https()}
	if plan.Collector.Endpoint == nil {
		way.permission.PrefixListIds = []types.PrefixListId{{PrefixListId: &plan.Collector.S3PrefixList, Description: aws.String(evidenceToS3)}}
		return way, nil
	}
	group, err := l.endpointGroup(ctx, plan, collector)
	if err != nil {
		return way, err
	}
	endpoint, err := l.endpoint(ctx, plan, group)
	if err != nil {
		return way, err
	}
	id := aws.ToString(endpoint.VpcEndpointId)
	if way.endpoint, err = bucketURL(endpoint); err != nil {
		return way, err
	}
	list, err := describe.Interfaces(ctx, l.ec2, types.Filter{Name: aws.String("network-interface-id"), Values: endpoint.NetworkInterfaceIds})
	if err != nil {
		return way, err
	}
	for _, ni := range list {
		way.permission.IpRanges = append(way.permission.IpRanges,
			types.IpRange{CidrIp: aws.String(aws.ToString(ni.PrivateIpAddress) + "/32"), Description: aws.String(evidenceToS3)})
	}
	if len(list) == 0 {
		return way, boot.Transient{Err: fmt.Errorf("endpoint %s: EC2 does not show its interfaces yet", id)}
	}
	return way, l.store.Record(ctx, events.CustodyEntry{
		Capture: plan.Capture, Actor: "launch", Act: "opened-" + id, Resource: id,
		Detail: map[string]string{"service": plan.Collector.Endpoint.Service, "url": way.endpoint, "securityGroup": group},
	})
}

// endpointGroup makes the endpoint's group: in, only HTTPS from the collector; out, nothing.
func (l launch) endpointGroup(ctx context.Context, plan events.Plan, collector string) (string, error) {
	group, err := l.securityGroup(ctx, plan, plan.Collector.Endpoint.SecurityGroupName)
	if err != nil {
		return "", err
	}
	in := https()
	in.UserIdGroupPairs = []types.UserIdGroupPair{{GroupId: &collector, Description: aws.String("the collector")}}
	_, err = l.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: &group, IpPermissions: []types.IpPermission{in}})
	if err != nil && !awserr.IsExisting(err) {
		return "", fmt.Errorf("admit the collector to %s: %w", group, err)
	}
	return group, l.close(ctx, group)
}

// endpoint makes the endpoint, or finds the one that an earlier run has made, and returns it when it is available. Its
// private DNS is off, so that nobody else in the VPC begins to use it.
func (l launch) endpoint(ctx context.Context, plan events.Plan, group string) (types.VpcEndpoint, error) {
	p := plan.Collector.Endpoint
	made, err := l.ec2.CreateVpcEndpoint(ctx, &ec2.CreateVpcEndpointInput{
		VpcId: &plan.Collector.VPC, ServiceName: &p.Service, VpcEndpointType: types.VpcEndpointTypeInterface,
		SubnetIds: []string{p.Subnet}, SecurityGroupIds: []string{group}, PrivateDnsEnabled: aws.Bool(false), PolicyDocument: &p.Policy,
		ClientToken:       aws.String(events.ClientToken(plan.Capture, 1, "endpoint")),
		TagSpecifications: []types.TagSpecification{describe.TagSpecification(types.ResourceTypeVpcEndpoint, plan.ResourceTags(1))},
	})
	if err != nil {
		return types.VpcEndpoint{}, fmt.Errorf("create endpoint of %s: %w", p.Service, err)
	}
	id := aws.ToString(made.VpcEndpoint.VpcEndpointId)
	out, err := l.ec2.DescribeVpcEndpoints(ctx, &ec2.DescribeVpcEndpointsInput{VpcEndpointIds: []string{id}})
	if awserr.IsNotFound(err) || err == nil && len(out.VpcEndpoints) == 0 {
		return types.VpcEndpoint{}, boot.EndpointPending{Endpoint: id, State: "not shown by EC2 yet"}
	}
	if err != nil {
		return types.VpcEndpoint{}, fmt.Errorf("describe endpoint %s: %w", id, err)
	}
	switch e := out.VpcEndpoints[0]; strings.ToLower(string(e.State)) { // EC2 spells them both ways
	case "available":
		return e, nil
	case "pending", "pendingacceptance":
		return e, boot.EndpointPending{Endpoint: id, State: string(e.State)}
	default:
		why := ""
		if e.LastError != nil {
			why = ": " + aws.ToString(e.LastError.Message)
		}
		return e, fmt.Errorf("endpoint %s is %s%s", id, e.State, why)
	}
}

// bucketURL is where the endpoint serves buckets. Of its names the shortest is the Region's, the others are of zones; S3's
// begin with a wildcard, for which "bucket" stands in requests about objects (Amazon S3 User Guide, "AWS PrivateLink for
// Amazon S3").
func bucketURL(e types.VpcEndpoint) (string, error) {
	var names []string
	for _, d := range e.DnsEntries {
		if name := aws.ToString(d.DnsName); strings.Contains(name, aws.ToString(e.VpcEndpointId)) {
			names = append(names, strings.TrimPrefix(name, "*."))
		}
	}
	if len(names) == 0 {
		return "", boot.Transient{Err: fmt.Errorf("endpoint %s: EC2 shows no DNS name of it yet", aws.ToString(e.VpcEndpointId))}
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
	return "https://bucket." + names[0], nil
}
