package plan

import (
	"encoding/json"
	"fmt"
	"net/url"
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
	internet := false
	refused := ""
	for _, r := range table.Routes {
		if r.State == types.RouteStateBlackhole {
			continue
		}
		if gateway := aws.ToString(r.GatewayId); strings.HasPrefix(gateway, "vpce-") && aws.ToString(r.DestinationPrefixListId) == f.S3PrefixList {
			if ok, why := admits(f.Endpoints, gateway, f.Settings.Bucket); !ok {
				refused = why
				continue
			}
			return gateway, "by gateway endpoint " + gateway
		}
	}
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
	switch {
	case refused != "":
		return "", refused
	case internet:
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

// admits says whether a gateway endpoint's policy lets objects be put into the bucket. Conditions are not
// evaluated: a conditional Allow is taken to admit and a conditional Deny not to apply, since only a request could tell.
func admits(endpoints []types.VpcEndpoint, id, bucket string) (bool, string) {
	i := slices.IndexFunc(endpoints, func(e types.VpcEndpoint) bool { return aws.ToString(e.VpcEndpointId) == id })
	if i < 0 {
		return false, "endpoint " + id + " is not one of S3's"
	}
	text := aws.ToString(endpoints[i].PolicyDocument)
	if text == "" {
		return true, "" // the default policy allows everything
	}
	if decoded, err := url.QueryUnescape(text); err == nil && strings.HasPrefix(strings.TrimSpace(decoded), "{") {
		text = decoded
	}
	var policy struct {
		Statement oneOrMany[struct {
			Effect    string
			Action    oneOrMany[string]
			Resource  oneOrMany[string]
			Condition json.RawMessage
		}]
	}
	if err := json.Unmarshal([]byte(text), &policy); err != nil {
		return false, fmt.Sprintf("the policy of endpoint %s can't be read: %v", id, err)
	}
	allowed := false
	for _, s := range policy.Statement {
		matches := slices.ContainsFunc(s.Action, func(a string) bool { return covers(a, "s3:PutObject") }) &&
			slices.ContainsFunc(s.Resource, func(r string) bool { return covers(r, "arn:aws:s3:::"+bucket+"/captures/") })
		if matches && s.Effect == "Deny" && s.Condition == nil {
			return false, "the policy of endpoint " + id + " denies bucket " + bucket
		}
		allowed = allowed || matches && s.Effect == "Allow"
	}
	if !allowed {
		return false, "the policy of endpoint " + id + " does not admit bucket " + bucket
	}
	return true, ""
}

// covers says whether an IAM pattern with a trailing or whole wildcard covers a name.
func covers(pattern, name string) bool {
	if prefix, found := strings.CutSuffix(pattern, "*"); found {
		return strings.HasPrefix(strings.ToLower(name), strings.ToLower(prefix))
	}
	return strings.EqualFold(pattern, name)
}

// oneOrMany reads what IAM writes as a single value or as a list.
type oneOrMany[T any] []T

func (o *oneOrMany[T]) UnmarshalJSON(data []byte) error {
	var many []T
	if json.Unmarshal(data, &many) == nil {
		*o = many
		return nil
	}
	var one T
	if err := json.Unmarshal(data, &one); err != nil {
		return err
	}
	*o = oneOrMany[T]{one}
	return nil
}
