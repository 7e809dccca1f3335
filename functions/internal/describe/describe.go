// Package describe asks EC2 what there is, page by page.
package describe

import (
	"context"
	"fmt"
	"sort"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"flashtap/functions/internal/awserr"
)

// Interface describes one interface; the error satisfies awserr.IsNotFound when there is none.
func Interface(ctx context.Context, api ec2.DescribeNetworkInterfacesAPIClient, id string) (types.NetworkInterface, error) {
	out, err := api.DescribeNetworkInterfaces(ctx, &ec2.DescribeNetworkInterfacesInput{NetworkInterfaceIds: []string{id}})
	if err != nil {
		return types.NetworkInterface{}, fmt.Errorf("describe interface %s: %w", id, err)
	}
	if len(out.NetworkInterfaces) != 1 {
		return types.NetworkInterface{}, fmt.Errorf("describe interface %s: %d answers", id, len(out.NetworkInterfaces))
	}
	return out.NetworkInterfaces[0], nil
}

// InterfacesOf describes the interfaces that are attached to an instance now.
func InterfacesOf(ctx context.Context, api ec2.DescribeNetworkInterfacesAPIClient, instance string) ([]types.NetworkInterface, error) {
	return Interfaces(ctx, api, Filter("attachment.instance-id", instance))
}

// Interfaces describes the interfaces that the filters leave.
func Interfaces(ctx context.Context, api ec2.DescribeNetworkInterfacesAPIClient, filters ...types.Filter) ([]types.NetworkInterface, error) {
	var list []types.NetworkInterface
	pages := ec2.NewDescribeNetworkInterfacesPaginator(api, &ec2.DescribeNetworkInterfacesInput{Filters: filters})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("describe interfaces: %w", err)
		}
		list = append(list, page.NetworkInterfaces...)
	}
	return list, nil
}

// Instances describes the instances that the filters leave, terminated ones included while EC2 still shows them.
func Instances(ctx context.Context, api ec2.DescribeInstancesAPIClient, filters ...types.Filter) ([]types.Instance, error) {
	var list []types.Instance
	pages := ec2.NewDescribeInstancesPaginator(api, &ec2.DescribeInstancesInput{Filters: filters})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("describe instances: %w", err)
		}
		for _, r := range page.Reservations {
			list = append(list, r.Instances...)
		}
	}
	return list, nil
}

// Instance describes one instance; nil when there is none.
func Instance(ctx context.Context, api ec2.DescribeInstancesAPIClient, id string) (*types.Instance, error) {
	out, err := api.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{id}})
	if awserr.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("describe instance %s: %w", id, err)
	}
	for _, r := range out.Reservations {
		for _, in := range r.Instances {
			return &in, nil
		}
	}
	return nil, nil
}

// Sessions describes every mirror session of the account: there is no filter by tag.
func Sessions(ctx context.Context, api ec2.DescribeTrafficMirrorSessionsAPIClient) ([]types.TrafficMirrorSession, error) {
	var list []types.TrafficMirrorSession
	pages := ec2.NewDescribeTrafficMirrorSessionsPaginator(api, &ec2.DescribeTrafficMirrorSessionsInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("describe mirror sessions: %w", err)
		}
		list = append(list, page.TrafficMirrorSessions...)
	}
	return list, nil
}

// Targets describes every mirror target of the account.
func Targets(ctx context.Context, api ec2.DescribeTrafficMirrorTargetsAPIClient) ([]types.TrafficMirrorTarget, error) {
	var list []types.TrafficMirrorTarget
	pages := ec2.NewDescribeTrafficMirrorTargetsPaginator(api, &ec2.DescribeTrafficMirrorTargetsInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("describe mirror targets: %w", err)
		}
		list = append(list, page.TrafficMirrorTargets...)
	}
	return list, nil
}

// Filter is a describe filter with one value.
func Filter(name, value string) types.Filter {
	return types.Filter{Name: aws.String(name), Values: []string{value}}
}

// Tag is the value of a tag; "" when it is not there.
func Tag(tags []types.Tag, key string) string {
	for _, t := range tags {
		if aws.ToString(t.Key) == key {
			return aws.ToString(t.Value)
		}
	}
	return ""
}

// TagSpecification puts tags on a resource in the very call that creates it.
func TagSpecification(kind types.ResourceType, tags map[string]string) types.TagSpecification {
	spec := types.TagSpecification{ResourceType: kind}
	for key, value := range tags {
		spec.Tags = append(spec.Tags, types.Tag{Key: aws.String(key), Value: aws.String(value)})
	}
	sortTags(spec.Tags)
	return spec
}

// sortTags makes the same tags always the same parameters: EC2 compares them when it sees a client token again.
func sortTags(tags []types.Tag) {
	sort.Slice(tags, func(i, j int) bool { return aws.ToString(tags[i].Key) < aws.ToString(tags[j].Key) })
}
