package ec2

import (
	"fmt"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

func TestMirrorSourceAndTargetExcludeEachOther(t *testing.T) {
	l := newLand(t, Config{})
	eni := l.collectorInterface("c7gn.large")
	target, filter := l.target(eni), l.filter()
	_, err := l.api.CreateTrafficMirrorTarget(ctx, &sdk.CreateTrafficMirrorTargetInput{NetworkInterfaceId: &eni})
	l.refused(err, "InterfaceInUseByTrafficMirrorTarget")
	_, err = l.session(l.source, target, filter, 1)
	l.must(err)
	_, err = l.api.CreateTrafficMirrorTarget(ctx, &sdk.CreateTrafficMirrorTargetInput{NetworkInterfaceId: &l.source})
	l.refused(err, "InterfaceInUseByTrafficMirrorSession")
	second := l.collectorInterface("c5.large")
	l.target(second)
	_, err = l.session(second, target, filter, 1)
	l.refused(err, "InterfaceInUseByTrafficMirrorTarget")
}

func TestMirrorTargetForms(t *testing.T) {
	l := newLand(t, Config{})
	eni := l.collectorInterface("c7gn.large")
	nlb := "arn:aws:elasticloadbalancing:us-east-1:123456789012:loadbalancer/net/n/1"
	l.AddLoadBalancer(nlb)
	gwlbe := l.AddEndpoint(Endpoint{VPC: l.vpc, Service: "com.amazonaws.vpce.us-east-1.vpce-svc-1", Type: "GatewayLoadBalancer", Subnets: []string{l.subnet}})
	gateway := l.AddEndpoint(Endpoint{VPC: l.vpc, Service: "s3"})
	lambda := l.AddInterface(InterfaceSeed{Subnet: l.subnet, Type: "lambda", RequesterManaged: true, RequesterID: "amazon-lambda"})
	for _, row := range []struct {
		reason string
		in     sdk.CreateTrafficMirrorTargetInput
		code   string
	}{
		{"nothing to send to", sdk.CreateTrafficMirrorTargetInput{}, "MissingParameter"},
		{"two places to send to", sdk.CreateTrafficMirrorTargetInput{NetworkInterfaceId: &eni, NetworkLoadBalancerArn: &nlb}, "InvalidParameterCombination"},
		{"an interface that is not there", sdk.CreateTrafficMirrorTargetInput{NetworkInterfaceId: aws.String("eni-0123456789abcdef0")}, "InvalidNetworkInterfaceID.NotFound"},
		{"an interface of another type", sdk.CreateTrafficMirrorTargetInput{NetworkInterfaceId: &lambda}, "NetworkInterfaceNotSupported"},
		{"a load balancer that is not there", sdk.CreateTrafficMirrorTargetInput{NetworkLoadBalancerArn: aws.String(nlb + "2")}, "InvalidNetworkLoadBalancerArn.NotFound"},
		{"no ARN", sdk.CreateTrafficMirrorTargetInput{NetworkLoadBalancerArn: aws.String("n")}, "InvalidNetworkLoadBalancerArn.Malformed"},
		{"an endpoint that is not a load balancer's", sdk.CreateTrafficMirrorTargetInput{GatewayLoadBalancerEndpointId: &gateway}, "InvalidParameterValue"},
		{"a load balancer", sdk.CreateTrafficMirrorTargetInput{NetworkLoadBalancerArn: &nlb}, ""},
		{"a load balancer again", sdk.CreateTrafficMirrorTargetInput{NetworkLoadBalancerArn: &nlb}, "NlbInUseByTrafficMirrorTargetException"},
		{"a load balancer's endpoint", sdk.CreateTrafficMirrorTargetInput{GatewayLoadBalancerEndpointId: &gwlbe}, ""},
		{"an interface", sdk.CreateTrafficMirrorTargetInput{NetworkInterfaceId: &eni}, ""},
	} {
		t.Run(row.reason, func(t *testing.T) {
			l.t = t
			out, err := l.api.CreateTrafficMirrorTarget(ctx, &row.in)
			if row.code != "" {
				l.refused(err, row.code)
				return
			}
			l.must(err)
			if out.TrafficMirrorTarget.Type == "" || *out.TrafficMirrorTarget.OwnerId != "123456789012" {
				t.Errorf("answered %+v", out.TrafficMirrorTarget)
			}
		})
	}
}

func TestMirrorSourceKinds(t *testing.T) {
	l := newLand(t, Config{})
	target, filter := l.target(l.collectorInterface("c7gn.large")), l.filter()
	v6 := l.AddSubnet(Subnet{VPC: l.vpc, Zone: "us-east-1a", IPv6CIDR: "2001:db8:0:1::/64", IPv6Only: true})
	of := func(e InterfaceSeed) string {
		if e.Subnet == "" {
			e.Subnet = l.subnet
		}
		return l.AddInterface(e)
	}
	attached := func(instanceType string, e InterfaceSeed) string {
		if e.Subnet == "" {
			e.Subnet = l.subnet
		}
		known, _ := l.Instance(l.AddInstance(InstanceSeed{Type: instanceType, Interfaces: []InterfaceSeed{e}}))
		return known.Interfaces[0].ID
	}
	for _, row := range []struct {
		reason, eni string
		ok          bool
	}{
		{"a listed family", attached("m6i.large", InterfaceSeed{}), true},
		{"a listed Xen family", attached("c4.large", InterfaceSeed{}), true},
		{"T2 is not listed", attached("t2.micro", InterfaceSeed{}), false},
		{"C7gn is not listed", attached("c7gn.large", InterfaceSeed{}), false},
		{"the eighth generation is not listed", attached("m8g.large", InterfaceSeed{}), false},
		{"a metal size of a listed family", attached("m5.metal", InterfaceSeed{}), true},
		{"a metal size of a family listed for virtual sizes only", attached("c7g.metal", InterfaceSeed{}), false},
		{"a metal size with a name of its own", attached("m7i.metal-24xl", InterfaceSeed{}), false},
		{"not attached", of(InterfaceSeed{}), false},
		{"a trunk", attached("m6i.large", InterfaceSeed{Type: "trunk"}), false},
		{"a branch", of(InterfaceSeed{Type: "branch"}), false},
		{"an EFA", attached("m6i.large", InterfaceSeed{Type: "efa"}), false},
		{"managed by RDS", of(InterfaceSeed{RequesterManaged: true, RequesterID: "amazon-rds"}), true},
		{"managed by ElastiCache", of(InterfaceSeed{RequesterManaged: true, RequesterID: "amazon-elasticache"}), true},
		{"managed by a load balancer", of(InterfaceSeed{RequesterManaged: true, RequesterID: "amazon-elb"}), false},
		{"managed by Lambda", of(InterfaceSeed{Type: "lambda", RequesterManaged: true, RequesterID: "amazon-lambda"}), false},
		{"in a subnet without IPv4", attached("m6i.large", InterfaceSeed{Subnet: v6, IPv6: []string{"2001:db8:0:1::5"}}), false},
	} {
		t.Run(row.reason, func(t *testing.T) {
			l.t = t
			m, err := l.session(row.eni, target, filter, 1)
			if !row.ok {
				l.refused(err, "NetworkInterfaceNotSupported")
				return
			}
			l.must(err)
			_, err = l.api.DeleteTrafficMirrorSession(ctx, &sdk.DeleteTrafficMirrorSessionInput{TrafficMirrorSessionId: m.TrafficMirrorSessionId})
			l.must(err)
		})
	}
}

func TestMirrorSessionQuotasOfSourceAndTarget(t *testing.T) {
	l := newLand(t, Config{Limits: Limits{MirrorSessions: 15, MirrorTargets: 3, MirrorFilters: 2}})
	target, filter := l.target(l.collectorInterface("c7gn.large")), l.filter()
	for n := range int32(3) {
		_, err := l.session(l.source, target, filter, n+1)
		l.must(err)
	}
	_, err := l.session(l.source, target, filter, 4)
	l.refused(err, "TrafficMirrorSessionsPerInterfaceLimitExceeded")
	for range 9 {
		_, eni := l.suspect("m5.large")
		_, err := l.session(eni, target, filter, 1)
		l.must(err)
	}
	_, eni := l.suspect("m5.large")
	_, err = l.session(eni, target, filter, 1)
	l.refused(err, "TrafficMirrorSourcesPerTargetLimitExceeded")
	big := l.target(l.collectorInterface("c7gn.16xlarge"))
	for range 3 {
		_, eni := l.suspect("m5.large")
		_, err := l.session(eni, big, filter, 1)
		l.must(err)
	}
	_, err = l.session(eni, big, filter, 1)
	l.refused(err, "TrafficMirrorSessionLimitExceeded")

	l.target(l.collectorInterface("c7gn.large"))
	_, err = l.api.CreateTrafficMirrorTarget(ctx, &sdk.CreateTrafficMirrorTargetInput{NetworkInterfaceId: aws.String(l.collectorInterface("c7gn.large"))})
	l.refused(err, "TrafficMirrorTargetLimitExceeded")
	l.filter()
	_, err = l.api.CreateTrafficMirrorFilter(ctx, &sdk.CreateTrafficMirrorFilterInput{})
	l.refused(err, "TrafficMirrorFilterLimitExceeded")
}

func TestMirrorTargetOfAListedSizeTakesAHundredSources(t *testing.T) {
	l := newLand(t, Config{})
	target, filter := l.target(l.collectorInterface("c7gn.16xlarge")), l.filter()
	for range 100 {
		_, eni := l.suspect("m5.large")
		_, err := l.session(eni, target, filter, 1)
		l.must(err)
	}
	_, err := l.session(l.source, target, filter, 1)
	l.refused(err, "TrafficMirrorSourcesPerTargetLimitExceeded")
}

func TestMirrorSessionParameters(t *testing.T) {
	l := newLand(t, Config{})
	target, filter := l.target(l.collectorInterface("c7gn.large")), l.filter()
	nlb := "arn:aws:elasticloadbalancing:us-east-1:123456789012:loadbalancer/net/n/1"
	l.AddLoadBalancer(nlb)
	balanced, err := l.api.CreateTrafficMirrorTarget(ctx, &sdk.CreateTrafficMirrorTargetInput{NetworkLoadBalancerArn: &nlb})
	l.must(err)
	balancer := *balanced.TrafficMirrorTarget.TrafficMirrorTargetId
	number := aws.Int32
	for _, row := range []struct {
		reason string
		change func(*sdk.CreateTrafficMirrorSessionInput)
		code   string
		length int32 // of the answer
	}{
		{"session number 0", func(in *sdk.CreateTrafficMirrorSessionInput) { in.SessionNumber = number(0) }, "InvalidParameterValue", 0},
		{"session number 32767", func(in *sdk.CreateTrafficMirrorSessionInput) { in.SessionNumber = number(32767) }, "InvalidParameterValue", 0},
		{"session number 32766", func(in *sdk.CreateTrafficMirrorSessionInput) { in.SessionNumber = number(32766) }, "", 0},
		{"VNI -1", func(in *sdk.CreateTrafficMirrorSessionInput) { in.VirtualNetworkId = number(-1) }, "InvalidParameterValue", 0},
		{"VNI of 25 bits", func(in *sdk.CreateTrafficMirrorSessionInput) { in.VirtualNetworkId = number(1 << 24) }, "InvalidParameterValue", 0},
		{"the largest VNI", func(in *sdk.CreateTrafficMirrorSessionInput) { in.VirtualNetworkId = number(1<<24 - 1) }, "", 0},
		{"packets cut at 34", func(in *sdk.CreateTrafficMirrorSessionInput) { in.PacketLength = number(34) }, "InvalidParameterValue", 0},
		{"packets cut at 0", func(in *sdk.CreateTrafficMirrorSessionInput) { in.PacketLength = number(0) }, "InvalidParameterValue", 0},
		{"packets cut at 35", func(in *sdk.CreateTrafficMirrorSessionInput) { in.PacketLength = number(35) }, "", 35},
		{"packets whole", func(in *sdk.CreateTrafficMirrorSessionInput) {}, "", 0},
		{"packets whole to a load balancer", func(in *sdk.CreateTrafficMirrorSessionInput) { in.TrafficMirrorTargetId = &balancer }, "", 8500},
		{"packets too long for a load balancer", func(in *sdk.CreateTrafficMirrorSessionInput) {
			in.TrafficMirrorTargetId, in.PacketLength = &balancer, number(8501)
		}, "InvalidParameterValue", 0},
		{"no such source", func(in *sdk.CreateTrafficMirrorSessionInput) {
			in.NetworkInterfaceId = aws.String("eni-0123456789abcdef0")
		}, "InvalidNetworkInterfaceID.NotFound", 0},
		{"no such target", func(in *sdk.CreateTrafficMirrorSessionInput) {
			in.TrafficMirrorTargetId = aws.String("tmt-0123456789abcdef0")
		}, "InvalidTrafficMirrorTargetId.NotFound", 0},
		{"no such filter", func(in *sdk.CreateTrafficMirrorSessionInput) {
			in.TrafficMirrorFilterId = aws.String("tmf-0123456789abcdef0")
		}, "InvalidTrafficMirrorFilterId.NotFound", 0},
		{"a filter's id that is none", func(in *sdk.CreateTrafficMirrorSessionInput) {
			in.TrafficMirrorFilterId = aws.String("tmt-0123456789abcdef0")
		}, "InvalidTrafficMirrorFilterId.Malformed", 0},
	} {
		t.Run(row.reason, func(t *testing.T) {
			l.t = t
			in := &sdk.CreateTrafficMirrorSessionInput{NetworkInterfaceId: &l.source, TrafficMirrorTargetId: &target, TrafficMirrorFilterId: &filter, SessionNumber: number(1)}
			row.change(in)
			out, err := l.api.CreateTrafficMirrorSession(ctx, in)
			if row.code != "" {
				l.refused(err, row.code)
				return
			}
			l.must(err)
			l.equal("packet length", aws.ToInt32(out.TrafficMirrorSession.PacketLength), row.length)
			_, err = l.api.DeleteTrafficMirrorSession(ctx, &sdk.DeleteTrafficMirrorSessionInput{TrafficMirrorSessionId: out.TrafficMirrorSession.TrafficMirrorSessionId})
			l.must(err)
		})
	}
}

func TestMirrorSessionNumberIsUniqueOnASource(t *testing.T) {
	l := newLand(t, Config{})
	target, filter := l.target(l.collectorInterface("c7gn.large")), l.filter()
	_, err := l.session(l.source, target, filter, 7)
	l.must(err)
	_, err = l.session(l.source, target, filter, 7)
	l.refused(err, "InvalidParameterValue")
	_, eni := l.suspect("m5.large")
	_, err = l.session(eni, target, filter, 7)
	l.must(err)
}

func TestMirrorVNIIsChosenUnique(t *testing.T) {
	l := newLand(t, Config{})
	target, filter := l.target(l.collectorInterface("c7gn.16xlarge")), l.filter()
	seen := map[int32]bool{}
	for range 60 {
		_, eni := l.suspect("m5.large")
		m, err := l.session(eni, target, filter, 1)
		l.must(err)
		if seen[*m.VirtualNetworkId] || *m.VirtualNetworkId < 0 || *m.VirtualNetworkId > maxVNI {
			t.Fatalf("VNI %d after %d sessions", *m.VirtualNetworkId, len(seen))
		}
		seen[*m.VirtualNetworkId] = true
	}
}

func TestMirrorModifySession(t *testing.T) {
	l := newLand(t, Config{})
	target, filter := l.target(l.collectorInterface("c7gn.large")), l.filter()
	m, err := l.session(l.source, target, filter, 1)
	l.must(err)
	_, err = l.session(l.source, target, filter, 2)
	l.must(err)
	elsewhere := l.target(l.collectorInterface("c7gn.large"))
	out, err := l.api.ModifyTrafficMirrorSession(ctx, &sdk.ModifyTrafficMirrorSessionInput{TrafficMirrorSessionId: m.TrafficMirrorSessionId,
		TrafficMirrorTargetId: &elsewhere, SessionNumber: aws.Int32(9), PacketLength: aws.Int32(128), Description: aws.String("d"), VirtualNetworkId: aws.Int32(5)})
	l.must(err)
	got := out.TrafficMirrorSession
	l.equal("the session", []any{*got.TrafficMirrorTargetId, *got.SessionNumber, *got.PacketLength, *got.Description, *got.VirtualNetworkId}, []any{elsewhere, 9, 128, "d", 5})
	out, err = l.api.ModifyTrafficMirrorSession(ctx, &sdk.ModifyTrafficMirrorSessionInput{TrafficMirrorSessionId: m.TrafficMirrorSessionId,
		RemoveFields: []types.TrafficMirrorSessionField{"packet-length", "description", "virtual-network-id"}})
	l.must(err)
	got = out.TrafficMirrorSession
	if got.PacketLength != nil || got.Description != nil || *got.VirtualNetworkId == 5 {
		t.Errorf("fields were not removed: %+v", got)
	}
	_, err = l.api.ModifyTrafficMirrorSession(ctx, &sdk.ModifyTrafficMirrorSessionInput{TrafficMirrorSessionId: m.TrafficMirrorSessionId, SessionNumber: aws.Int32(2)})
	l.refused(err, "InvalidParameterValue")
	l.equal("number after the refusal", l.MirrorSessions()[1].Number, 9)
}

func TestMirrorFilterRules(t *testing.T) {
	l := newLand(t, Config{})
	filter := l.filter()
	base := func() *sdk.CreateTrafficMirrorFilterRuleInput {
		return &sdk.CreateTrafficMirrorFilterRuleInput{TrafficMirrorFilterId: &filter, TrafficDirection: "ingress", RuleNumber: aws.Int32(100), RuleAction: "accept",
			SourceCidrBlock: aws.String("0.0.0.0/0"), DestinationCidrBlock: aws.String("0.0.0.0/0")}
	}
	ports := func(from, to int32) *types.TrafficMirrorPortRangeRequest {
		return &types.TrafficMirrorPortRangeRequest{FromPort: &from, ToPort: &to}
	}
	for _, row := range []struct {
		reason string
		change func(*sdk.CreateTrafficMirrorFilterRuleInput)
		code   string
	}{
		{"all protocols", func(in *sdk.CreateTrafficMirrorFilterRuleInput) {}, ""},
		{"IPv4 to IPv6", func(in *sdk.CreateTrafficMirrorFilterRuleInput) { in.DestinationCidrBlock = aws.String("::/0") }, "InvalidParameterValue"},
		{"both IPv6", func(in *sdk.CreateTrafficMirrorFilterRuleInput) {
			in.SourceCidrBlock, in.DestinationCidrBlock = aws.String("::/0"), aws.String("::/0")
		}, ""},
		{"a block that is none", func(in *sdk.CreateTrafficMirrorFilterRuleInput) { in.SourceCidrBlock = aws.String("10.0.0.0") }, "InvalidParameterValue"},
		{"ports without a protocol", func(in *sdk.CreateTrafficMirrorFilterRuleInput) { in.DestinationPortRange = ports(22, 22) }, "InvalidParameterValue"},
		{"ports of ICMP", func(in *sdk.CreateTrafficMirrorFilterRuleInput) {
			in.Protocol, in.SourcePortRange = aws.Int32(1), ports(22, 22)
		}, "InvalidParameterValue"},
		{"ports of TCP", func(in *sdk.CreateTrafficMirrorFilterRuleInput) {
			in.Protocol, in.SourcePortRange = aws.Int32(6), ports(22, 22)
		}, ""},
		{"ports of UDP", func(in *sdk.CreateTrafficMirrorFilterRuleInput) {
			in.Protocol, in.DestinationPortRange = aws.Int32(17), ports(0, 65535)
		}, ""},
		{"ports the wrong way round", func(in *sdk.CreateTrafficMirrorFilterRuleInput) {
			in.Protocol, in.DestinationPortRange = aws.Int32(6), ports(23, 22)
		}, "InvalidParameterValue"},
		{"protocol 256", func(in *sdk.CreateTrafficMirrorFilterRuleInput) { in.Protocol = aws.Int32(256) }, "InvalidParameterValue"},
		{"rule number 0", func(in *sdk.CreateTrafficMirrorFilterRuleInput) { in.RuleNumber = aws.Int32(0) }, "InvalidParameterValue"},
		{"no such filter", func(in *sdk.CreateTrafficMirrorFilterRuleInput) {
			in.TrafficMirrorFilterId = aws.String("tmf-0123456789abcdef0")
		}, "InvalidTrafficMirrorFilterId.NotFound"},
	} {
		t.Run(row.reason, func(t *testing.T) {
			l.t = t
			in := base()
			row.change(in)
			out, err := l.api.CreateTrafficMirrorFilterRule(ctx, in)
			if row.code != "" {
				l.refused(err, row.code)
				return
			}
			l.must(err)
			_, err = l.api.DeleteTrafficMirrorFilterRule(ctx, &sdk.DeleteTrafficMirrorFilterRuleInput{TrafficMirrorFilterRuleId: out.TrafficMirrorFilterRule.TrafficMirrorFilterRuleId})
			l.must(err)
		})
	}
}

func TestMirrorFilterRuleNumbersAndQuota(t *testing.T) {
	l := newLand(t, Config{})
	filter := l.filter()
	add := func(direction types.TrafficDirection, number int32) (*sdk.CreateTrafficMirrorFilterRuleOutput, error) {
		return l.api.CreateTrafficMirrorFilterRule(ctx, &sdk.CreateTrafficMirrorFilterRuleInput{TrafficMirrorFilterId: &filter, TrafficDirection: direction,
			RuleNumber: &number, RuleAction: "accept", SourceCidrBlock: aws.String("10.1.2.3/8"), DestinationCidrBlock: aws.String("0.0.0.0/0")})
	}
	first, err := add("ingress", 10)
	l.must(err)
	l.equal("the block", *first.TrafficMirrorFilterRule.SourceCidrBlock, "10.0.0.0/8")
	_, err = add("ingress", 10)
	l.refused(err, "TrafficMirrorFilterRuleAlreadyExists")
	_, err = add("egress", 10)
	l.must(err)
	for n := range int32(8) {
		_, err = add("egress", 20+n)
		l.must(err)
	}
	_, err = add("ingress", 11)
	l.refused(err, "TrafficMirrorFilterRuleLimitExceeded")

	_, err = l.api.ModifyTrafficMirrorFilterRule(ctx, &sdk.ModifyTrafficMirrorFilterRuleInput{
		TrafficMirrorFilterRuleId: first.TrafficMirrorFilterRule.TrafficMirrorFilterRuleId, TrafficDirection: "egress"})
	l.refused(err, "TrafficMirrorFilterRuleAlreadyExists")
	changed, err := l.api.ModifyTrafficMirrorFilterRule(ctx, &sdk.ModifyTrafficMirrorFilterRuleInput{
		TrafficMirrorFilterRuleId: first.TrafficMirrorFilterRule.TrafficMirrorFilterRuleId, RuleNumber: aws.Int32(12), RuleAction: "reject", Protocol: aws.Int32(6),
		DestinationPortRange: &types.TrafficMirrorPortRangeRequest{FromPort: aws.Int32(1), ToPort: aws.Int32(2)}})
	l.must(err)
	l.equal("the changed rule", []any{*changed.TrafficMirrorFilterRule.RuleNumber, changed.TrafficMirrorFilterRule.RuleAction}, []any{12, "reject"})
	_, err = l.api.ModifyTrafficMirrorFilterRule(ctx, &sdk.ModifyTrafficMirrorFilterRuleInput{
		TrafficMirrorFilterRuleId: first.TrafficMirrorFilterRule.TrafficMirrorFilterRuleId, RemoveFields: []types.TrafficMirrorFilterRuleField{"protocol"}})
	l.refused(err, "InvalidParameterValue") // its ports would be left without a protocol
	_, err = l.api.ModifyTrafficMirrorFilterRule(ctx, &sdk.ModifyTrafficMirrorFilterRuleInput{
		TrafficMirrorFilterRuleId: first.TrafficMirrorFilterRule.TrafficMirrorFilterRuleId, RemoveFields: []types.TrafficMirrorFilterRuleField{"protocol", "destination-port-range"}})
	l.must(err)

	described, err := l.api.DescribeTrafficMirrorFilters(ctx, &sdk.DescribeTrafficMirrorFiltersInput{TrafficMirrorFilterIds: []string{filter}})
	l.must(err)
	l.equal("rules", []int{len(described.TrafficMirrorFilters[0].IngressFilterRules), len(described.TrafficMirrorFilters[0].EgressFilterRules)}, []int{1, 9})
}

func TestMirrorDeletionOrder(t *testing.T) {
	l := newLand(t, Config{})
	target, filter := l.target(l.collectorInterface("c7gn.large")), l.filter()
	_, err := l.api.CreateTrafficMirrorFilterRule(ctx, &sdk.CreateTrafficMirrorFilterRuleInput{TrafficMirrorFilterId: &filter, TrafficDirection: "ingress",
		RuleNumber: aws.Int32(1), RuleAction: "accept", SourceCidrBlock: aws.String("0.0.0.0/0"), DestinationCidrBlock: aws.String("0.0.0.0/0")})
	l.must(err)
	m, err := l.session(l.source, target, filter, 1)
	l.must(err)
	_, err = l.api.DeleteTrafficMirrorTarget(ctx, &sdk.DeleteTrafficMirrorTargetInput{TrafficMirrorTargetId: &target})
	l.refused(err, "TrafficMirrorTargetInUseException")
	_, err = l.api.DeleteTrafficMirrorFilter(ctx, &sdk.DeleteTrafficMirrorFilterInput{TrafficMirrorFilterId: &filter})
	l.refused(err, "TrafficMirrorFilterInUse")
	_, err = l.api.DeleteTrafficMirrorSession(ctx, &sdk.DeleteTrafficMirrorSessionInput{TrafficMirrorSessionId: m.TrafficMirrorSessionId})
	l.must(err)
	_, err = l.api.DeleteTrafficMirrorSession(ctx, &sdk.DeleteTrafficMirrorSessionInput{TrafficMirrorSessionId: m.TrafficMirrorSessionId})
	l.refused(err, "InvalidTrafficMirrorSessionId.NotFound")
	_, err = l.api.DeleteTrafficMirrorTarget(ctx, &sdk.DeleteTrafficMirrorTargetInput{TrafficMirrorTargetId: &target})
	l.must(err)
	_, err = l.api.DeleteTrafficMirrorFilter(ctx, &sdk.DeleteTrafficMirrorFilterInput{TrafficMirrorFilterId: &filter})
	l.must(err)
	if left := l.Left(); len(left) > 0 {
		t.Errorf("left are %v", left)
	}
}

func TestMirrorNotFoundSpellings(t *testing.T) {
	for documented, codes := range map[bool][]string{
		false: {"InvalidTrafficMirrorSessionId.NotFound", "InvalidTrafficMirrorTargetId.NotFound", "InvalidTrafficMirrorFilterId.NotFound", "InvalidTrafficMirrorFilterRuleId.NotFound"},
		true:  {"InvalidTrafficMirrorSessionNotFound", "InvalidTrafficMirrorTargetNoFound", "InvalidTrafficMirrorFilterNotFound", "InvalidTrafficMirrorFilterRuleNotFound"},
	} {
		l := newLand(t, Config{DocumentedNotFound: documented})
		_, err := l.api.DeleteTrafficMirrorSession(ctx, &sdk.DeleteTrafficMirrorSessionInput{TrafficMirrorSessionId: aws.String("tms-0123456789abcdef0")})
		l.refused(err, codes[0])
		_, err = l.api.DeleteTrafficMirrorTarget(ctx, &sdk.DeleteTrafficMirrorTargetInput{TrafficMirrorTargetId: aws.String("tmt-0123456789abcdef0")})
		l.refused(err, codes[1])
		_, err = l.api.DescribeTrafficMirrorFilters(ctx, &sdk.DescribeTrafficMirrorFiltersInput{TrafficMirrorFilterIds: []string{"tmf-0123456789abcdef0"}})
		l.refused(err, codes[2])
		_, err = l.api.DeleteTrafficMirrorFilterRule(ctx, &sdk.DeleteTrafficMirrorFilterRuleInput{TrafficMirrorFilterRuleId: aws.String("tmfr-0123456789abcdef0")})
		l.refused(err, codes[3])
		_, err = l.api.DeleteTrafficMirrorSession(ctx, &sdk.DeleteTrafficMirrorSessionInput{TrafficMirrorSessionId: aws.String("session-1")})
		l.refused(err, "InvalidTrafficMirrorSessionId.Malformed")
	}
}

func TestMirrorDescribeFilters(t *testing.T) {
	l := newLand(t, Config{})
	eni := l.collectorInterface("c7gn.large")
	nlb := "arn:aws:elasticloadbalancing:us-east-1:123456789012:loadbalancer/net/n/1"
	l.AddLoadBalancer(nlb)
	made, err := l.api.CreateTrafficMirrorTarget(ctx, &sdk.CreateTrafficMirrorTargetInput{NetworkInterfaceId: &eni, Description: aws.String("of capture 7"), TagSpecifications: tagSpec("traffic-mirror-target", "case", "7")})
	l.must(err)
	target := *made.TrafficMirrorTarget.TrafficMirrorTargetId
	_, err = l.api.CreateTrafficMirrorTarget(ctx, &sdk.CreateTrafficMirrorTargetInput{NetworkLoadBalancerArn: &nlb})
	l.must(err)
	filterMade, err := l.api.CreateTrafficMirrorFilter(ctx, &sdk.CreateTrafficMirrorFilterInput{Description: aws.String("everything")})
	l.must(err)
	filter := *filterMade.TrafficMirrorFilter.TrafficMirrorFilterId
	l.filter()
	rule, err := l.api.CreateTrafficMirrorFilterRule(ctx, &sdk.CreateTrafficMirrorFilterRuleInput{TrafficMirrorFilterId: &filter, TrafficDirection: "egress", RuleNumber: aws.Int32(5),
		RuleAction: "reject", Protocol: aws.Int32(6), SourceCidrBlock: aws.String("10.0.0.0/8"), DestinationCidrBlock: aws.String("0.0.0.0/0"), Description: aws.String("no ssh")})
	l.must(err)
	m, err := l.api.CreateTrafficMirrorSession(ctx, &sdk.CreateTrafficMirrorSessionInput{NetworkInterfaceId: &l.source, TrafficMirrorTargetId: &target, TrafficMirrorFilterId: &filter,
		SessionNumber: aws.Int32(3), PacketLength: aws.Int32(128), VirtualNetworkId: aws.Int32(77), Description: aws.String("d"), TagSpecifications: tagSpec("traffic-mirror-session", "case", "7")})
	l.must(err)
	_, other := l.suspect("m5.large")
	_, err = l.session(other, target, filter, 1)
	l.must(err)

	sessions := map[string]string{"description": "d", "network-interface-id": l.source, "packet-length": "128", "session-number": "3",
		"traffic-mirror-session-id": *m.TrafficMirrorSession.TrafficMirrorSessionId, "virtual-network-id": "77"}
	for name, value := range sessions {
		out, err := l.api.DescribeTrafficMirrorSessions(ctx, &sdk.DescribeTrafficMirrorSessionsInput{Filters: filterOf(name, "nothing", value)})
		l.must(err)
		if len(out.TrafficMirrorSessions) != 1 || *out.TrafficMirrorSessions[0].SessionNumber != 3 {
			t.Errorf("sessions by %s: %v", name, out.TrafficMirrorSessions)
		}
	}
	for name, value := range map[string]string{"owner-id": "123456789012", "traffic-mirror-filter-id": filter, "traffic-mirror-target-id": "tmt-*"} {
		out, err := l.api.DescribeTrafficMirrorSessions(ctx, &sdk.DescribeTrafficMirrorSessionsInput{Filters: filterOf(name, value)})
		l.must(err)
		l.equal("sessions by "+name, len(out.TrafficMirrorSessions), 2)
	}
	for name, value := range map[string]string{"description": "of capture ?", "network-interface-id": eni, "network-load-balancer-arn": nlb, "traffic-mirror-target-id": target} {
		out, err := l.api.DescribeTrafficMirrorTargets(ctx, &sdk.DescribeTrafficMirrorTargetsInput{Filters: filterOf(name, value)})
		l.must(err)
		l.equal("targets by "+name, len(out.TrafficMirrorTargets), 1)
	}
	targets, err := l.api.DescribeTrafficMirrorTargets(ctx, &sdk.DescribeTrafficMirrorTargetsInput{Filters: filterOf("owner-id", "123456789012")})
	l.must(err)
	l.equal("targets by owner-id", len(targets.TrafficMirrorTargets), 2)
	for name, value := range map[string]string{"description": "everything", "traffic-mirror-filter-id": filter} {
		out, err := l.api.DescribeTrafficMirrorFilters(ctx, &sdk.DescribeTrafficMirrorFiltersInput{Filters: filterOf(name, value)})
		l.must(err)
		l.equal("filters by "+name, len(out.TrafficMirrorFilters), 1)
	}
	for name, value := range map[string]string{"traffic-mirror-filter-rule-id": *rule.TrafficMirrorFilterRule.TrafficMirrorFilterRuleId, "traffic-mirror-filter-id": filter, "rule-number": "5",
		"rule-action": "reject", "traffic-direction": "egress", "protocol": "6", "source-cidr-block": "10.0.0.0/8", "destination-cidr-block": "0.0.0.0/0", "description": "no ssh"} {
		out, err := l.api.DescribeTrafficMirrorFilterRules(ctx, &sdk.DescribeTrafficMirrorFilterRulesInput{TrafficMirrorFilterId: &filter, Filters: filterOf(name, value)})
		l.must(err)
		l.equal("rules by "+name, len(out.TrafficMirrorFilterRules), 1)
	}

	_, err = l.api.DescribeTrafficMirrorSessions(ctx, &sdk.DescribeTrafficMirrorSessionsInput{Filters: filterOf("tag:case", "7")})
	l.refused(err, "InvalidParameterValue")
	_, err = l.api.DescribeTrafficMirrorTargets(ctx, &sdk.DescribeTrafficMirrorTargetsInput{Filters: filterOf("tag-key", "case")})
	l.refused(err, "InvalidParameterValue")
	_, err = l.api.DescribeTrafficMirrorFilters(ctx, &sdk.DescribeTrafficMirrorFiltersInput{Filters: filterOf("owner-id", "123456789012")})
	l.refused(err, "InvalidParameterValue")
}

func TestMirrorNetworkServices(t *testing.T) {
	l := newLand(t, Config{})
	filter := l.filter()
	change := func(add, remove []types.TrafficMirrorNetworkService) int {
		out, err := l.api.ModifyTrafficMirrorFilterNetworkServices(ctx, &sdk.ModifyTrafficMirrorFilterNetworkServicesInput{TrafficMirrorFilterId: &filter, AddNetworkServices: add, RemoveNetworkServices: remove})
		l.must(err)
		return len(out.TrafficMirrorFilter.NetworkServices)
	}
	dns := []types.TrafficMirrorNetworkService{"amazon-dns"}
	l.equal("services after two additions and a removal", []int{change(dns, nil), change(dns, nil), change(nil, dns)}, []int{1, 1, 0})
}

// Whatever happens to a session's parts, the hook is told what still carries
// packets.
func TestMirrorsHookTellsWorkingSessions(t *testing.T) {
	var told [][]MirrorSession
	l := newLand(t, Config{Hooks: Hooks{Mirrors: func(list []MirrorSession) { told = append(told, list) }}})
	eni := l.collectorInterface("c7gn.large")
	target, filter := l.target(eni), l.filter()
	if len(told) > 0 {
		t.Fatalf("told %d times before there was a session", len(told))
	}
	m, err := l.session(l.source, target, filter, 1)
	l.must(err)
	last := func() []MirrorSession { return told[len(told)-1] }
	working := func() int {
		n := 0
		for _, m := range last() {
			if m.Lost.Cause != LostAtSource {
				n++
			}
		}
		l.equal("sessions that mirror", len(l.MirrorSessions()), n)
		return n
	}
	source, _ := l.Interface(l.source)
	collector, _ := l.Interface(eni)
	if got := last(); len(got) != 1 || got[0].VNI != int(*m.VirtualNetworkId) || got[0].Source.Address != source.Address || got[0].Target.Interface.Address != collector.Address || got[0].Target.Interface.MTU != 9001 {
		t.Fatalf("told %+v", got)
	}
	_, err = l.api.CreateTrafficMirrorFilterRule(ctx, &sdk.CreateTrafficMirrorFilterRuleInput{TrafficMirrorFilterId: &filter, TrafficDirection: "ingress", RuleNumber: aws.Int32(1),
		RuleAction: "accept", Protocol: aws.Int32(17), SourceCidrBlock: aws.String("0.0.0.0/0"), DestinationCidrBlock: aws.String("0.0.0.0/0")})
	l.must(err)
	if rules := last()[0].Filter.Rules; len(rules) != 1 || rules[0].Protocol != 17 || rules[0].Direction != "ingress" {
		t.Errorf("told the rules %+v", rules)
	}
	count := len(told)
	_, err = l.api.DescribeTrafficMirrorSessions(ctx, &sdk.DescribeTrafficMirrorSessionsInput{})
	l.must(err)
	l.equal("times told after a look", len(told), count)

	l.ChangeType(l.host, "t2.micro") // TM: billing goes on, packets do not
	l.equal("working with an unsupported type", working(), 0)
	l.ChangeType(l.host, "c5.large")
	l.equal("working again", working(), 1)
	l.MoveInterface(l.source, "")
	l.equal("working while detached", working(), 0)
	l.MoveInterface(l.source, l.host)
	l.RemoveInterface(eni)
	l.equal("working without the target's interface", working(), 0)
	sessions, err := l.api.DescribeTrafficMirrorSessions(ctx, &sdk.DescribeTrafficMirrorSessionsInput{})
	l.must(err)
	l.equal("sessions after the target's interface is gone", len(sessions.TrafficMirrorSessions), 1)

	elsewhere := l.target(l.collectorInterface("c7gn.large"))
	_, err = l.api.ModifyTrafficMirrorSession(ctx, &sdk.ModifyTrafficMirrorSessionInput{TrafficMirrorSessionId: m.TrafficMirrorSessionId, TrafficMirrorTargetId: &elsewhere})
	l.must(err)
	l.equal("working after a repoint", working(), 1)
	l.RemoveInterface(l.source)
	l.equal("working without the source", working(), 0)
	sessions, err = l.api.DescribeTrafficMirrorSessions(ctx, &sdk.DescribeTrafficMirrorSessionsInput{})
	l.must(err)
	l.equal("sessions after the source is gone", len(sessions.TrafficMirrorSessions), 0)
}

func TestMirrorSessionsAreToldInTheOrderTheyAreTried(t *testing.T) {
	l := newLand(t, Config{})
	target, filter := l.target(l.collectorInterface("c7gn.large")), l.filter()
	for _, number := range []int32{30, 10, 20} {
		_, err := l.session(l.source, target, filter, number)
		l.must(err)
	}
	var numbers []int
	for _, m := range l.MirrorSessions() {
		numbers = append(numbers, m.Number)
	}
	if !slices.IsSorted(numbers) || len(numbers) != 3 {
		t.Errorf("told %v", numbers)
	}
}

func TestMirrorSeededFilter(t *testing.T) {
	l := newLand(t, Config{})
	var rules []MirrorRule
	for i, direction := range []string{"ingress", "egress"} {
		for j, cidr := range []string{"0.0.0.0/0", "::/0"} {
			rules = append(rules, MirrorRule{Number: 10*i + j + 1, Direction: direction, Action: "accept", Protocol: -1, Source: prefix(cidr), Destination: prefix(cidr)})
		}
	}
	filter := l.AddMirrorFilter(MirrorFilter{Description: "everything", Rules: rules, Services: []string{"amazon-dns"}})
	_, err := l.session(l.source, l.target(l.collectorInterface("c7gn.large")), filter, 1)
	l.must(err)
	got := l.MirrorSessions()[0].Filter
	l.equal("the filter", fmt.Sprint(len(got.Rules), got.Services), "4 [amazon-dns]")
}
