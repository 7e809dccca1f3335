package plan

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"flashtap/events"
	"flashtap/functions/path"
)

// placed is where the collector goes, and what was judged about it.
type placed struct {
	at       events.PlacedAt
	verdicts []events.Verdict
}

// place finds a subnet for the collector: in the source's VPC and zone, so that mirrored copies need no route beyond the local
// one and cost nothing, and with a way to S3 that needs no public address. In order: a subnet from which everything is well, the
// source's own first; when it is allowed, a subnet with a temporary endpoint; a subnet from which S3 is reached and something
// else is wrong, so that the verdicts say what.
func place(f Facts, allowEndpoint bool) placed {
	p := placed{at: events.PlacedAt{
		VPC:                   aws.ToString(f.Interface.VpcId),
		AvailabilityZone:      aws.ToString(f.Interface.AvailabilityZone),
		SecurityGroupName:     events.SecurityGroupName(f.Settings.Deployment, f.Request.Capture),
		S3PrefixList:          f.S3PrefixList,
		LaunchTemplateID:      f.Settings.LaunchTemplateID,
		LaunchTemplateVersion: f.Settings.LaunchTemplateVersion,
		InstanceProfileARN:    f.Settings.InstanceProfileARN,
		RoleID:                f.Settings.CollectorRoleID,
		Bucket:                f.Settings.Bucket,
	}}
	var collector events.Verdict
	p.at.Candidates, collector = candidates(f)
	add := func(v ...events.Verdict) { p.verdicts = append(p.verdicts, v...) }
	add(collector)
	if !f.DNSSupport {
		add(events.Verdict{Check: "placement", Result: events.Fail, Evidence: []string{p.at.VPC},
			Reason: p.at.VPC + " has DNS support off, so the collector could not find S3",
			Remedy: "aws ec2 modify-vpc-attribute --vpc-id " + p.at.VPC + ` --enable-dns-support '{"Value":true}'`})
		return p
	}
	spots := spotsOf(f)
	best := slices.IndexFunc(spots, func(s spot) bool { return s.path != "" && s.clear() })
	if best < 0 && allowEndpoint {
		if i := slices.IndexFunc(spots, func(s spot) bool { return s.endpointClear() }); i >= 0 {
			return p.withEndpoint(f, spots[i])
		}
	}
	if best < 0 {
		best = slices.IndexFunc(spots, func(s spot) bool { return s.path != "" })
	}
	if best < 0 {
		add(noPlace(f, spots, allowEndpoint))
		return p
	}
	s := spots[best]
	if !s.clear() && !allowEndpoint && slices.ContainsFunc(spots, spot.endpointClear) {
		for _, v := range []*events.Verdict{&s.acls, &s.route} {
			if v.Result == events.Fail {
				v.Remedy = askForEndpoint + "; or " + v.Remedy // which leaves what is others' as it is
			}
		}
	}
	p.at.Subnet, p.at.S3Path, p.at.IPv6 = s.id, s.path, s.ipv6
	add(events.Verdict{Check: "placement", Result: events.Pass, Reason: fmt.Sprintf("collector in %s; S3 %s", s.id, s.reason), Evidence: []string{s.id, s.path}})
	add(securityGroups(f, p.at), s.acls, s.route)
	return p
}

// askForEndpoint is the remedy where an endpoint of the capture's own would do.
const askForEndpoint = "ask again with a temporary endpoint allowed"

// spot is a subnet as a place for the collector.
type spot struct {
	id   string
	ipv6 bool
	room int32 // free addresses; 0 also when the subnet can't take a collector at all

	path, reason string // to S3: the id of what leads there, "" for nothing; and in words
	remedy       string // when nothing does

	route  events.Verdict
	acls   events.Verdict // with the way to S3 by the path
	within events.Verdict // the same when S3 is reached without leaving the subnet
}

func (s spot) clear() bool { return s.acls.Result != events.Fail && s.route.Result != events.Fail }

// endpointClear is clear with an endpoint of the capture's own, which takes an address beside the collector's.
func (s spot) endpointClear() bool {
	return s.room >= 2 && s.within.Result != events.Fail && s.route.Result != events.Fail
}

// spotsOf judges the subnets of the source's VPC and zone, its own first.
func spotsOf(f Facts) []spot {
	subnets := slices.Clone(f.Subnets)
	own := aws.ToString(f.Interface.SubnetId)
	slices.SortStableFunc(subnets, func(a, b types.Subnet) int { return preference(a, own) - preference(b, own) })
	var spots []spot
	for _, n := range subnets {
		id := aws.ToString(n.SubnetId)
		s := spot{id: id, room: aws.ToInt32(n.AvailableIpAddressCount)}
		switch {
		case aws.ToBool(n.Ipv6Native):
			s.room, s.reason = 0, "it has no IPv4"
		case s.room < 1:
			s.reason = "no address of it is free"
			s.remedy = "free an address of it, or add a subnet: aws ec2 create-subnet --vpc-id " + aws.ToString(n.VpcId) + " --availability-zone " +
				aws.ToString(f.Interface.AvailabilityZone) + " --cidr-block ..."
		default:
			s.path, s.reason, s.remedy = s3Path(id, f)
		}
		s.ipv6 = len(f.Interface.Ipv6Addresses) > 0 && len(n.Ipv6CidrBlockAssociationSet) > 0
		s.acls, s.within, s.route = networkACLs(f, id, true), networkACLs(f, id, false), route(f, id)
		spots = append(spots, s)
	}
	return spots
}

func preference(s types.Subnet, own string) int {
	if aws.ToString(s.SubnetId) == own {
		return 0
	}
	return 1
}

// noPlace says why no subnet will do, and what would change that.
func noPlace(f Facts, spots []spot, allowEndpoint bool) events.Verdict {
	v := events.Verdict{Check: "placement", Result: events.Fail}
	vpc, zone := aws.ToString(f.Interface.VpcId), aws.ToString(f.Interface.AvailabilityZone)
	var why, remedies []string
	for _, s := range spots {
		why = append(why, s.id+": "+s.reason)
		v.Evidence = append(v.Evidence, s.id)
		if s.remedy != "" && !slices.Contains(remedies, s.remedy) {
			remedies = append(remedies, s.remedy)
		}
	}
	v.Reason = fmt.Sprintf("no subnet of %s in %s can hold the collector: %s", vpc, zone, strings.Join(why, "; "))
	if len(spots) == 0 {
		v.Reason = fmt.Sprintf("no subnet of %s in %s is described", vpc, zone)
	}
	if len(remedies) == 0 {
		remedies = []string{"add a subnet with IPv4 and a way to S3 to " + vpc + " in " + zone}
	}
	v.Remedy = strings.Join(remedies[:1], "; ")
	if !allowEndpoint && slices.ContainsFunc(spots, spot.endpointClear) {
		v.Remedy += "; or " + askForEndpoint
	}
	return v
}

// withEndpoint places the collector beside an S3 interface endpoint that the capture makes for itself. Both are in one subnet, so
// no network ACL is between them.
func (p placed) withEndpoint(f Facts, s spot) placed {
	p.at.Subnet, p.at.S3Path, p.at.IPv6 = s.id, "temporary endpoint", s.ipv6
	service := "com.amazonaws." + f.Settings.Region + ".s3"
	p.at.Endpoint = &events.EndpointPlan{Service: service, Subnet: s.id,
		SecurityGroupName: events.EndpointGroupName(f.Settings.Deployment, f.Request.Capture), Policy: endpointPolicy(f, p.at.Candidates)}
	p.verdicts = append(p.verdicts,
		events.Verdict{Check: "placement", Result: events.Pass, Reason: "collector in " + s.id + "; S3 by an endpoint of the capture's own", Evidence: []string{s.id}},
		events.Verdict{Check: "endpoint", Result: events.Fixed, Evidence: []string{s.id, service},
			Reason: fmt.Sprintf("%s: %s; the capture makes an interface endpoint for S3 there and takes it away again", s.id, s.reason)},
		securityGroups(f, p.at), s.within, s.route)
	return p
}

// endpointPolicy admits to the bucket what the collector does there, and nothing else.
func endpointPolicy(f Facts, list []events.Candidate) string {
	bucket := bucketARN(f.Settings) + "/"
	var programs []string
	for _, c := range list {
		if arn := bucket + c.BinaryKey; !slices.Contains(programs, arn) {
			programs = append(programs, arn)
		}
	}
	type allow struct {
		Effect, Principal, Action string
		Resource                  []string
	}
	policy := struct {
		Version   string
		Statement []allow
	}{"2012-10-17", []allow{
		{"Allow", "*", "s3:PutObject", []string{bucket + events.CollectorsPrefix(f.Request.Capture) + "*"}},
	}}
	if len(programs) > 0 {
		policy.Statement = append(policy.Statement, allow{"Allow", "*", "s3:GetObject", programs})
	}
	text, err := json.Marshal(policy)
	if err != nil {
		return "" // it holds only what JSON has words for
	}
	return string(text)
}

// bucketARN is the evidence bucket's, in the partition of the deployment.
func bucketARN(s events.Settings) string {
	return "arn:" + partitionOf(s.InstanceProfileARN) + ":s3:::" + s.Bucket
}

// s3Path says how S3 is reached from a subnet without a public address: the id of the gateway endpoint or of what the default
// route leads to, and in words; else what to do. An internet gateway alone is no path, since the collector has no public address.
func s3Path(subnet string, f Facts) (id, reason, remedy string) {
	table := path.RouteTableOf(subnet, f.RouteTables)
	if table == nil {
		return "", "no route table of it is described", ""
	}
	for _, e := range f.Endpoints {
		if hijacksNames(e) {
			return "", fmt.Sprintf("endpoint %s answers S3's names with its own addresses in the whole VPC, to which the collector's security group does not let it",
				aws.ToString(e.VpcEndpointId)), "aws ec2 modify-vpc-endpoint --vpc-endpoint-id " + aws.ToString(e.VpcEndpointId) + " --no-private-dns-enabled"
		}
	}
	remedy = fmt.Sprintf("aws ec2 create-vpc-endpoint --vpc-id %s --service-name com.amazonaws.%s.s3 --route-table-ids %s (a gateway endpoint for S3, which is free)",
		aws.ToString(f.Interface.VpcId), f.Settings.Region, aws.ToString(table.RouteTableId))
	// The route of the prefix list is more specific than any default route, so where it leads to an endpoint, that endpoint alone
	// decides.
	for _, r := range table.Routes {
		gateway := aws.ToString(r.GatewayId)
		if r.State == types.RouteStateBlackhole || !strings.HasPrefix(gateway, "vpce-") || aws.ToString(r.DestinationPrefixListId) != f.S3PrefixList {
			continue
		}
		if ok, why := admits(f, gateway); !ok {
			bucket := bucketARN(f.Settings)
			return "", why, fmt.Sprintf("let the policy of %s allow s3:PutObject on %s/captures/* and s3:GetObject on %s/tools/*: aws ec2 modify-vpc-endpoint --vpc-endpoint-id %s --policy-document ...",
				gateway, bucket, bucket, gateway)
		}
		return gateway, "by gateway endpoint " + gateway, ""
	}
	i := slices.IndexFunc(table.Routes, func(r types.Route) bool { return aws.ToString(r.DestinationCidrBlock) == anywhere.String() })
	if i < 0 {
		return "", "no route leads to S3", remedy
	}
	r := table.Routes[i]
	switch {
	case r.State == types.RouteStateBlackhole:
		return "", "no route leads to S3: the default route's " + path.RouteTarget(r) + " is gone", remedy
	case aws.ToString(r.NatGatewayId) != "":
		nat := aws.ToString(r.NatGatewayId)
		if state := natState(f, nat); state != types.NatGatewayStateAvailable && state != "" {
			return "", fmt.Sprintf("no route leads to S3: NAT gateway %s is %s", nat, state), remedy
		}
		return nat, "by NAT gateway " + nat, ""
	case aws.ToString(r.TransitGatewayId) != "":
		return aws.ToString(r.TransitGatewayId), "by transit gateway " + aws.ToString(r.TransitGatewayId) + ", as far as its routes allow", ""
	case strings.HasPrefix(aws.ToString(r.GatewayId), "igw-"):
		return "", "only an internet gateway leads to S3, and the collector has no public address", remedy
	}
	return "", "the default route leads to " + path.RouteTarget(r) + ", from where nothing is known to lead to S3", remedy
}

// natState is the state of a NAT gateway; "" when it is not described, as another VPC's is.
func natState(f Facts, id string) types.NatGatewayState {
	for _, n := range f.NATGateways {
		if aws.ToString(n.NatGatewayId) == id {
			return n.State
		}
	}
	return ""
}

// hijacksNames says whether an interface endpoint answers S3's own names for the whole VPC (AWS PrivateLink guide, "Private DNS
// for Amazon S3").
func hijacksNames(e types.VpcEndpoint) bool {
	inboundOnly := e.DnsOptions != nil && aws.ToBool(e.DnsOptions.PrivateDnsOnlyForInboundResolverEndpoint)
	return e.VpcEndpointType == types.VpcEndpointTypeInterface && aws.ToBool(e.PrivateDnsEnabled) && !inboundOnly
}
