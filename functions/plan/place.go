package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"flashtap/events"
)

// place finds a subnet for the collector: in the source's VPC and zone, so that mirrored copies need no route beyond
// the local one and cost nothing, and with a way to S3 that needs no public address. The source's own subnet is
// tried first.
func place(f Facts) (events.PlacedAt, events.Verdict) {
	p := events.PlacedAt{
		VPC:                   aws.ToString(f.Interface.VpcId),
		AvailabilityZone:      aws.ToString(f.Interface.AvailabilityZone),
		SecurityGroupName:     events.SecurityGroupName(f.Settings.Deployment, f.Request.Capture),
		S3PrefixList:          f.S3PrefixList,
		LaunchTemplateID:      f.Settings.LaunchTemplateID,
		LaunchTemplateVersion: f.Settings.LaunchTemplateVersion,
		InstanceProfileARN:    f.Settings.InstanceProfileARN,
		RoleID:                f.Settings.CollectorRoleID,
		Bucket:                f.Settings.Bucket,
		Candidates:            candidates(f.Settings),
	}
	v := events.Verdict{Check: "placement"}
	if !f.DNSSupport {
		v.Result = events.Fail
		v.Reason = p.VPC + " has DNS support off, so the collector could not find S3"
		v.Remedy = "set enableDnsSupport on the VPC"
		v.Evidence = []string{p.VPC}
		return p, v
	}
	subnets := slices.Clone(f.Subnets)
	slices.SortStableFunc(subnets, func(a, b types.Subnet) int {
		return preference(a, f) - preference(b, f)
	})
	var why []string
	for _, s := range subnets {
		id := aws.ToString(s.SubnetId)
		if aws.ToBool(s.Ipv6Native) {
			why = append(why, id+" has no IPv4")
			continue
		}
		if aws.ToInt32(s.AvailableIpAddressCount) < 1 {
			why = append(why, id+" has no free address")
			continue
		}
		path, reason := s3Path(id, f)
		if path == "" {
			why = append(why, id+": "+reason)
			continue
		}
		p.Subnet, p.S3Path = id, path
		p.IPv6 = len(f.Interface.Ipv6Addresses) > 0 && len(s.Ipv6CidrBlockAssociationSet) > 0
		v.Result, v.Reason, v.Evidence = events.Pass, fmt.Sprintf("collector in %s; S3 %s", id, reason), []string{id, path}
		return p, v
	}
	v.Result = events.Fail
	v.Reason = fmt.Sprintf("no subnet of %s in %s can hold the collector: %s", p.VPC, p.AvailabilityZone, strings.Join(why, "; "))
	v.Remedy = "add a gateway endpoint for S3 to the route table of one of these subnets (it is free)"
	return p, v
}

func preference(s types.Subnet, f Facts) int {
	if aws.ToString(s.SubnetId) == aws.ToString(f.Interface.SubnetId) {
		return 0
	}
	return 1
}

func candidates(s events.Settings) []events.Candidate {
	var list []events.Candidate
	for _, t := range s.InstanceTypes {
		arch := events.Architecture(t)
		c := events.Candidate{InstanceType: t, Image: s.Images[arch], BinaryKey: s.BinaryKeys[arch], BinarySHA256: s.BinaryDigests[arch]}
		if c.Image != "" && c.BinaryKey != "" && c.BinarySHA256 != "" {
			list = append(list, c)
		}
	}
	return list
}

// s3Path says how S3 is reached from a subnet without a public address: the id of the gateway endpoint or of what the
// default route leads to, and in words. An internet gateway alone is no path, since the collector has no public
// address.
func s3Path(subnet string, f Facts) (id, reason string) {
	table := routeTable(subnet, f.RouteTables)
	if table == nil {
		return "", "no route table was found"
	}
	// The route of the prefix list is more specific than any default route, so where it leads to an endpoint, that
	// endpoint alone decides.
	for _, r := range table.Routes {
		gateway := aws.ToString(r.GatewayId)
		if r.State == types.RouteStateBlackhole || !strings.HasPrefix(gateway, "vpce-") || aws.ToString(r.DestinationPrefixListId) != f.S3PrefixList {
			continue
		}
		if ok, why := admits(f, gateway); !ok {
			return "", why
		}
		return gateway, "by gateway endpoint " + gateway
	}
	internet := false
	for _, r := range table.Routes {
		if r.State == types.RouteStateBlackhole || aws.ToString(r.DestinationCidrBlock) != "0.0.0.0/0" {
			continue
		}
		if nat := aws.ToString(r.NatGatewayId); nat != "" {
			return nat, "by NAT gateway " + nat
		}
		if tgw := aws.ToString(r.TransitGatewayId); tgw != "" {
			return tgw, "by transit gateway " + tgw + ", as far as its routes allow"
		}
		internet = internet || strings.HasPrefix(aws.ToString(r.GatewayId), "igw-")
	}
	if internet {
		return "", "only an internet gateway leads to S3, and the collector has no public address"
	}
	return "", "no route leads to S3"
}

func routeTable(subnet string, tables []types.RouteTable) *types.RouteTable {
	var main *types.RouteTable
	for i, t := range tables {
		for _, a := range t.Associations {
			if aws.ToString(a.SubnetId) == subnet {
				return &tables[i]
			}
			if aws.ToBool(a.Main) {
				main = &tables[i]
			}
		}
	}
	return main
}
