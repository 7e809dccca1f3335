package survey

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"flashtap/functions/internal/describe"
	"flashtap/functions/plan"
)

// suspect describes the instance and, since only its type says how much it may send, the types around.
func (s Surveyor) suspect(ctx context.Context, f *plan.Facts) (err error) {
	if ni := f.Interface; ni.Attachment != nil && aws.ToString(ni.Attachment.InstanceId) != "" {
		f.Instance, err = describe.Instance(ctx, s.ec2, aws.ToString(ni.Attachment.InstanceId))
	}
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		s.types(ctx, f)
	}
	return err
}

// mirroring describes what mirrors already in the account.
func (s Surveyor) mirroring(ctx context.Context, f *plan.Facts) (err error) {
	if f.Sessions, err = describe.Sessions(ctx, s.ec2); err != nil {
		return err
	}
	if f.Targets, err = describe.Targets(ctx, s.ec2); err != nil {
		return err
	}
	pages := ec2.NewDescribeTrafficMirrorFiltersPaginator(s.ec2, &ec2.DescribeTrafficMirrorFiltersInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("describe mirror filters: %w", err)
		}
		f.Filters = append(f.Filters, page.TrafficMirrorFilters...)
	}
	return nil
}

func (s Surveyor) subnets(ctx context.Context, f *plan.Facts) error {
	vpc := vpcOf(f)
	pages := ec2.NewDescribeSubnetsPaginator(s.ec2, &ec2.DescribeSubnetsInput{Filters: []types.Filter{
		describe.Filter("vpc-id", vpc), describe.Filter("availability-zone", aws.ToString(f.Interface.AvailabilityZone))}})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("describe subnets of %s: %w", vpc, err)
		}
		f.Subnets = append(f.Subnets, page.Subnets...)
	}
	return nil
}

func (s Surveyor) routeTables(ctx context.Context, f *plan.Facts) error {
	vpc := vpcOf(f)
	pages := ec2.NewDescribeRouteTablesPaginator(s.ec2, &ec2.DescribeRouteTablesInput{Filters: ofVPC(vpc)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("describe route tables of %s: %w", vpc, err)
		}
		f.RouteTables = append(f.RouteTables, page.RouteTables...)
	}
	return nil
}

func (s Surveyor) acls(ctx context.Context, f *plan.Facts) error {
	vpc := vpcOf(f)
	pages := ec2.NewDescribeNetworkAclsPaginator(s.ec2, &ec2.DescribeNetworkAclsInput{Filters: ofVPC(vpc)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("describe network ACLs of %s: %w", vpc, err)
		}
		f.ACLs = append(f.ACLs, page.NetworkAcls...)
	}
	return nil
}

func (s Surveyor) groups(ctx context.Context, f *plan.Facts) error {
	vpc := vpcOf(f)
	pages := ec2.NewDescribeSecurityGroupsPaginator(s.ec2, &ec2.DescribeSecurityGroupsInput{Filters: ofVPC(vpc)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("describe security groups of %s: %w", vpc, err)
		}
		f.Groups = append(f.Groups, page.SecurityGroups...)
	}
	return nil
}

func (s Surveyor) endpoints(ctx context.Context, f *plan.Facts) error {
	vpc := vpcOf(f)
	pages := ec2.NewDescribeVpcEndpointsPaginator(s.ec2, &ec2.DescribeVpcEndpointsInput{Filters: append(ofVPC(vpc), describe.Filter("service-name", s.s3()))})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("describe endpoints of %s: %w", vpc, err)
		}
		f.Endpoints = append(f.Endpoints, page.VpcEndpoints...)
	}
	return nil
}

func (s Surveyor) natGateways(ctx context.Context, f *plan.Facts) error {
	vpc := vpcOf(f)
	pages := ec2.NewDescribeNatGatewaysPaginator(s.ec2, &ec2.DescribeNatGatewaysInput{Filter: ofVPC(vpc)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("describe NAT gateways of %s: %w", vpc, err)
		}
		f.NATGateways = append(f.NATGateways, page.NatGateways...)
	}
	return nil
}

func (s Surveyor) prefixList(ctx context.Context, f *plan.Facts) error {
	out, err := s.ec2.DescribeManagedPrefixLists(ctx, &ec2.DescribeManagedPrefixListsInput{Filters: []types.Filter{describe.Filter("prefix-list-name", s.s3())}})
	if err != nil {
		return fmt.Errorf("describe prefix list %s: %w", s.s3(), err)
	}
	for _, l := range out.PrefixLists {
		f.S3PrefixList = aws.ToString(l.PrefixListId)
	}
	if f.S3PrefixList == "" {
		return fmt.Errorf("describe prefix list %s: there is none", s.s3())
	}
	return nil
}

func (s Surveyor) dnsSupport(ctx context.Context, f *plan.Facts) error {
	vpc := vpcOf(f)
	out, err := s.ec2.DescribeVpcAttribute(ctx, &ec2.DescribeVpcAttributeInput{VpcId: &vpc, Attribute: types.VpcAttributeNameEnableDnsSupport})
	if err != nil {
		return fmt.Errorf("describe DNS support of %s: %w", vpc, err)
	}
	f.DNSSupport = out.EnableDnsSupport != nil && aws.ToBool(out.EnableDnsSupport.Value)
	return nil
}

func vpcOf(f *plan.Facts) string { return aws.ToString(f.Interface.VpcId) }

func ofVPC(id string) []types.Filter { return []types.Filter{describe.Filter("vpc-id", id)} }

func (s Surveyor) s3() string { return "com.amazonaws." + s.settings.Region + ".s3" }
