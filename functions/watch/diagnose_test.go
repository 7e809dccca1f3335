package main

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"flashtap/events"
	"flashtap/functions/path"
)

// silentFacts are those of a capture in which all is as planned, and no packet comes. The collector is in another subnet than
// the source.
func silentFacts() (facts, surroundings) {
	f := running()
	f.checkpoint.Tally = events.Tally{}
	f.plan.Source = events.Source{NetworkInterfaceID: "eni-suspect", InstanceID: "i-suspect", InstanceType: "m5.large", VPC: "vpc-1", Subnet: "subnet-source", PrimaryIPv4: "10.0.1.10"}
	f.plan.Mirror = events.MirrorPlan{SessionNumber: 5, Filter: events.EverythingFilter()}
	f.instance.SubnetId, f.instance.PrivateIpAddress = aws.String("subnet-collector"), aws.String("10.0.2.20")
	acl := func(id, subnet string) types.NetworkAcl {
		return types.NetworkAcl{NetworkAclId: &id, Associations: []types.NetworkAclAssociation{{SubnetId: &subnet}}, Entries: []types.NetworkAclEntry{
			entry(100, true, types.RuleActionAllow, "-1", "0.0.0.0/0"), entry(100, false, types.RuleActionAllow, "-1", "0.0.0.0/0")}}
	}
	s := surroundings{
		groups: []types.SecurityGroup{{GroupId: aws.String("sg-1"), IpPermissions: []types.IpPermission{path.AdmitCopies([]string{"10.0.1.10"})}}},
		acls:   []types.NetworkAcl{acl("acl-source", "subnet-source"), acl("acl-collector", "subnet-collector")},
		tables: []types.RouteTable{{RouteTableId: aws.String("rtb-1"), Associations: []types.RouteTableAssociation{{Main: aws.Bool(true)}},
			Routes: []types.Route{{DestinationCidrBlock: aws.String("10.0.0.0/16"), GatewayId: aws.String("local"), State: types.RouteStateActive}}}},
		filter:  described(events.EverythingFilter()),
		source:  &types.NetworkInterface{Attachment: &types.NetworkInterfaceAttachment{InstanceId: aws.String("i-suspect")}},
		suspect: &types.Instance{InstanceType: "m5.large", State: &types.InstanceState{Name: types.InstanceStateNameRunning}},
		traffic: aws.Float64(100_000),
	}
	return f, s
}

func entry(number int32, egress bool, action types.RuleAction, protocol, cidr string) types.NetworkAclEntry {
	return types.NetworkAclEntry{RuleNumber: &number, Egress: &egress, RuleAction: action, Protocol: &protocol, CidrBlock: &cidr}
}

// described is a filter as EC2 shows it.
func described(f events.Filter) *types.TrafficMirrorFilter {
	out := &types.TrafficMirrorFilter{TrafficMirrorFilterId: aws.String("tmf-ours")}
	if f.DNS {
		out.NetworkServices = []types.TrafficMirrorNetworkService{types.TrafficMirrorNetworkServiceAmazonDns}
	}
	for _, r := range f.Rules {
		rule := types.TrafficMirrorFilterRule{RuleNumber: &r.Number, TrafficDirection: types.TrafficDirection(r.Direction), RuleAction: types.TrafficMirrorRuleAction(r.Action),
			SourceCidrBlock: &r.SourceCIDR, DestinationCidrBlock: &r.DestinationCIDR}
		if r.Protocol != 0 {
			rule.Protocol = &r.Protocol
		}
		if p := r.DestinationPorts; p != nil {
			rule.DestinationPortRange = &types.TrafficMirrorPortRange{FromPort: &p.From, ToPort: &p.To}
		}
		if r.Direction == events.Ingress {
			out.IngressFilterRules = append(out.IngressFilterRules, rule)
		} else {
			out.EgressFilterRules = append(out.EgressFilterRules, rule)
		}
	}
	return out
}

// before is a session of another team, at a lower number than ours.
func another(f events.Filter) sooner {
	return sooner{filter: f, session: types.TrafficMirrorSession{TrafficMirrorSessionId: aws.String("tms-theirs"), TrafficMirrorFilterId: aws.String("tmf-theirs"),
		OwnerId: aws.String("444455556666"), SessionNumber: aws.Int32(1)}}
}

func TestDiagnose(t *testing.T) {
	web := events.Filter{Rules: []events.FilterRule{{Number: 1, Direction: events.Egress, Action: events.Accept, Protocol: 6, SourceCIDR: "0.0.0.0/0", DestinationCIDR: "0.0.0.0/0",
		DestinationPorts: &events.PortRange{From: 443, To: 443}}}}
	route := func(to types.Route) func(*facts, *surroundings) {
		return func(_ *facts, s *surroundings) {
			to.DestinationCidrBlock = aws.String("10.0.2.0/24")
			s.tables[0].Routes = append(s.tables[0].Routes, to)
		}
	}
	deny := func(acl int, egress bool) func(*facts, *surroundings) {
		return func(_ *facts, s *surroundings) {
			s.acls[acl].Entries = append(s.acls[acl].Entries, entry(50, egress, types.RuleActionDeny, "17", "10.0.0.0/8"))
		}
	}
	for name, row := range map[string]struct {
		change   func(*facts, *surroundings)
		cause    string
		hopeless bool
		says     string // in the reason
		remedy   string // in the remedy
	}{
		"all is as planned":         {func(*facts, *surroundings) {}, events.CauseUnknown, false, "no cause", "go on"},
		"what arrived was not ours": {func(f *facts, _ *surroundings) { f.checkpoint.Tally.Rejected.ForeignSource = 3 }, events.CauseUnknown, false, "3 from another address", "go on"},
		"the group lost its rule": {func(_ *facts, s *surroundings) { s.groups[0].IpPermissions = nil }, events.CauseSecurityGroup, true, "sg-1",
			"aws ec2 authorize-security-group-ingress --group-id sg-1 --protocol udp --port 4789 --cidr 10.0.1.10/32"},
		"the group admits somebody else": {func(_ *facts, s *surroundings) {
			s.groups[0].IpPermissions[0].IpRanges[0].CidrIp = aws.String("10.0.1.11/32")
		}, events.CauseSecurityGroup, true, "sg-1", ""},
		"the group admits members of a group, whoever they are": {func(_ *facts, s *surroundings) {
			s.groups[0].IpPermissions[0].IpRanges = nil
			s.groups[0].IpPermissions[0].UserIdGroupPairs = []types.UserIdGroupPair{{GroupId: aws.String("sg-2")}}
		}, events.CauseSecurityGroup, false, "sg-2 was not looked up", ""},
		"the source's ACL lets nothing out": {deny(0, true), events.CauseNetworkACL, true, "acl-source lets no UDP from 10.0.1.10/32 to 10.0.2.20/32 port 4789 out of subnet-source (rule 50)",
			"--network-acl-id acl-source --egress --rule-number 49 --protocol 17 --port-range From=4789,To=4789 --cidr-block 10.0.2.20/32 --rule-action allow"},
		"the collector's ACL lets nothing in": {deny(1, false), events.CauseNetworkACL, true, "into subnet-collector", "--ingress --rule-number 49 --protocol 17 --port-range From=4789,To=4789 --cidr-block 10.0.1.10/32"},
		"the first rule lets nothing in": {func(_ *facts, s *surroundings) {
			s.acls[1].Entries = append(s.acls[1].Entries, entry(1, false, types.RuleActionDeny, "-1", "0.0.0.0/0"))
		}, events.CauseNetworkACL, true, "(rule 1)", "aws ec2 replace-network-acl-entry --network-acl-id acl-collector --ingress --rule-number 1 "},
		"the other directions do not matter": {func(f *facts, s *surroundings) { deny(0, false)(f, s); deny(1, true)(f, s) }, events.CauseUnknown, false, "", ""},
		"within one subnet no ACL is asked": {func(f *facts, s *surroundings) {
			deny(0, true)(f, s)
			deny(0, false)(f, s)
			f.instance.SubnetId = aws.String("subnet-source")
		}, events.CauseUnknown, false, "", ""},
		"an ACL without a rule for it": {func(_ *facts, s *surroundings) { s.acls[1].Entries = nil }, events.CauseNetworkACL, true, "(rule *)", "--rule-number 32766"},
		"a black hole": {route(types.Route{TransitGatewayId: aws.String("tgw-1"), State: types.RouteStateBlackhole}), events.CauseRoute, true, "tgw-1, by its route for 10.0.2.0/24, where it is dropped",
			"aws ec2 delete-route --route-table-id rtb-1 --destination-cidr-block 10.0.2.0/24"},
		"a way out of the VPC":                        {route(types.Route{VpcPeeringConnectionId: aws.String("pcx-1"), State: types.RouteStateActive}), events.CauseRoute, true, "pcx-1", ""},
		"an appliance on the way":                     {route(types.Route{NetworkInterfaceId: aws.String("eni-firewall"), State: types.RouteStateActive}), events.CauseRoute, false, "eni-firewall", "ask whose eni-firewall is, since that route may be somebody's inspection path; with"},
		"an appliance behind a Gateway Load Balancer": {route(types.Route{GatewayId: aws.String("vpce-1"), State: types.RouteStateActive}), events.CauseRoute, false, "to vpce-1, by", "ask whose vpce-1 is, since that route may be somebody's inspection path; with"},
		"its endpoint is gone":                        {route(types.Route{GatewayId: aws.String("vpce-1"), State: types.RouteStateBlackhole}), events.CauseRoute, true, "dropped", "aws ec2 delete-route"},
		"the VPC's own route was led away": {func(_ *facts, s *surroundings) {
			s.tables[0].Routes[0].GatewayId = aws.String("vpce-1")
		}, events.CauseRoute, false, "vpce-1", "with its owner's consent: aws ec2 replace-route --route-table-id rtb-1 --destination-cidr-block 10.0.0.0/16 --local-target"},
		"a detour for somebody else": {func(_ *facts, s *surroundings) {
			s.tables[0].Routes = append(s.tables[0].Routes, types.Route{DestinationCidrBlock: aws.String("10.0.3.0/24"), State: types.RouteStateBlackhole})
		}, events.CauseUnknown, false, "", ""},
		"no route at all":        {func(_ *facts, s *surroundings) { s.tables[0].Routes = nil }, events.CauseRoute, true, "no route", "source's own subnet"},
		"the filter was emptied": {func(_ *facts, s *surroundings) { s.filter = described(events.Filter{}) }, events.CauseFilter, true, "tmf-ours accepts nothing", "start it again"},
		"only rejections are left": {func(_ *facts, s *surroundings) {
			s.filter = described(events.Filter{Rules: []events.FilterRule{{Number: 1, Direction: events.Ingress, Action: events.Reject, SourceCIDR: "::/0", DestinationCIDR: "::/0"}}})
		}, events.CauseFilter, true, "accepts nothing", ""},
		"a rule was taken": {func(_ *facts, s *surroundings) { s.filter.IngressFilterRules = s.filter.IngressFilterRules[1:] }, events.CauseFilter, false, "not the planned filter", ""},
		"a rule was added": {func(_ *facts, s *surroundings) {
			s.filter.EgressFilterRules = append(s.filter.EgressFilterRules, described(web).EgressFilterRules...)
		}, events.CauseFilter, false, "not the planned filter", ""},
		"DNS was taken":            {func(_ *facts, s *surroundings) { s.filter.NetworkServices = nil }, events.CauseFilter, false, "not the planned filter", ""},
		"another takes all":        {func(_ *facts, s *surroundings) { s.sooner = []sooner{another(events.EverythingFilter())} }, events.CauseShadowed, true, "tms-theirs of account 444455556666, at number 1", "--traffic-mirror-session-id tms-theirs"},
		"another takes some":       {func(_ *facts, s *surroundings) { s.sooner = []sooner{another(web)} }, events.CauseShadowed, false, "443", "higher number than ours, 5"},
		"another takes nothing":    {func(_ *facts, s *surroundings) { s.sooner = []sooner{another(events.Filter{})} }, events.CauseUnknown, false, "", ""},
		"the second takes all":     {func(_ *facts, s *surroundings) { s.sooner = []sooner{another(web), another(events.EverythingFilter())} }, events.CauseShadowed, true, "", ""},
		"CloudWatch counts little": {func(_ *facts, s *surroundings) { s.traffic = aws.Float64(12) }, events.CauseIdle, false, "12 packets", "goes on"},
		"CloudWatch has no data":   {func(_ *facts, s *surroundings) { s.traffic = nil }, events.CauseUnknown, false, "", ""},
		"it was stopped":           {func(_ *facts, s *surroundings) { s.suspect.State.Name = types.InstanceStateNameStopped }, events.CauseInstanceType, true, "i-suspect is stopped", ""},
		"it was detached":          {func(_ *facts, s *surroundings) { s.source.Attachment = nil }, events.CauseInstanceType, true, "eni-suspect is not attached", ""},
		"it was moved":             {func(_ *facts, s *surroundings) { s.source.Attachment.InstanceId = aws.String("i-other") }, events.CauseInstanceType, true, "not attached to i-suspect", ""},
		"its type was changed":     {func(_ *facts, s *surroundings) { s.suspect.InstanceType = "t2.micro" }, events.CauseInstanceType, true, "from m5.large to t2.micro", "change it back"},
		"to a type like before":    {func(_ *facts, s *surroundings) { s.suspect.InstanceType = "m5.xlarge" }, events.CauseUnknown, false, "", ""},
		"to a type nobody knows":   {func(_ *facts, s *surroundings) { s.suspect.InstanceType = "zz9.large" }, events.CauseInstanceType, false, "not known", ""},

		"the first on the way is named": {func(f *facts, s *surroundings) { s.groups[0].IpPermissions = nil; deny(0, true)(f, s) }, events.CauseSecurityGroup, true, "", ""},
		"what keeps all away goes before what may": {func(_ *facts, s *surroundings) {
			s.sooner, s.traffic = []sooner{another(web)}, aws.Float64(0)
			s.suspect.State.Name = types.InstanceStateNameStopped
		}, events.CauseInstanceType, true, "", ""},
		"nothing could be looked up": {func(f *facts, s *surroundings) { *s = surroundings{unknown: []string{"the network ACLs (denied)"}} }, events.CauseUnknown, false, "could not be looked up: the network ACLs (denied)", ""},
		"the collector is not shown": {func(f *facts, s *surroundings) { f.instance = nil; s.groups[0].IpPermissions = nil }, events.CauseUnknown, false, "", ""},
		"a source without an instance": {func(f *facts, s *surroundings) {
			f.plan.Source.InstanceID, s.suspect, s.traffic, s.source.Attachment = "", nil, nil, nil
		}, events.CauseUnknown, false, "", ""},
	} {
		f, s := silentFacts()
		row.change(&f, &s)
		d := diagnose(f, s)
		if d.cause != row.cause || d.hopeless != row.hopeless || !strings.Contains(d.reason, row.says) || !strings.Contains(d.remedy, row.remedy) {
			t.Errorf("%s: %+v", name, d)
		}
		if d.reason == "" || d.remedy == "" || d.cause != events.CauseUnknown && len(d.evidence) == 0 {
			t.Errorf("%s: it does not say enough: %+v", name, d)
		}
	}
}

func TestClipped(t *testing.T) {
	if got := clipped("short"); got != "short" {
		t.Error(got)
	}
	if got := clipped(strings.Repeat("ä", 2000)); len(got) > 1003 || !strings.HasSuffix(got, "ä...") {
		t.Errorf("%d bytes, ending in %q", len(got), got[len(got)-6:])
	}
}
