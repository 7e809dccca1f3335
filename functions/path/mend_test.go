package path

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

func TestMendACL(t *testing.T) {
	const allow, deny = types.RuleActionAllow, types.RuleActionDeny
	copies, answers := Copies(source, collector), Uploads(collector, anywhere).Answers()
	for name, row := range map[string]struct {
		egress bool
		flow   Flow
		rules  []types.NetworkAclEntry
		begins string // the command
		ends   string
	}{
		"it passes": {true, copies, []types.NetworkAclEntry{rule(100, true, allow, "-1", "0.0.0.0/0")}, "", ""},
		"before the rule that denies": {true, copies, []types.NetworkAclEntry{rule(50, true, deny, "17", "10.0.0.0/8", 0, 65535), rule(100, true, allow, "-1", "0.0.0.0/0")},
			"aws ec2 create-network-acl-entry --network-acl-id acl-1 --egress --rule-number 49 --protocol 17 --port-range From=4789,To=4789 --cidr-block 10.0.2.0/24 --rule-action allow", "allow"},
		"no rule is about it": {false, answers, nil,
			"aws ec2 create-network-acl-entry --network-acl-id acl-1 --ingress --rule-number 32766 --protocol 6 --port-range From=32768,To=60999 --cidr-block 0.0.0.0/0", "allow"},
		"the number below is taken, of IPv6": {true, copies, []types.NetworkAclEntry{rule(49, true, allow, "-1", "::/0"), rule(50, true, deny, "-1", "0.0.0.0/0")},
			"aws ec2 create-network-acl-entry --network-acl-id acl-1 --egress --rule-number 48 ", "allow"},
		"the other direction takes none": {true, copies, []types.NetworkAclEntry{rule(1, false, deny, "-1", "0.0.0.0/0"), rule(2, true, deny, "-1", "0.0.0.0/0")},
			"aws ec2 create-network-acl-entry --network-acl-id acl-1 --egress --rule-number 1 ", "allow"},
		"the first rule denies": {true, copies, []types.NetworkAclEntry{rule(1, true, deny, "-1", "0.0.0.0/0")},
			"aws ec2 replace-network-acl-entry --network-acl-id acl-1 --egress --rule-number 1 ", "it replaces rule 1, which denies everything to 0.0.0.0/0; what else that denied, the rules after it then decide)"},
		"all low numbers are taken": {false, answers, []types.NetworkAclEntry{rule(1, false, allow, "17", "0.0.0.0/0", 53, 53), rule(2, false, allow, "-1", "::/0"), rule(3, false, deny, "6", "0.0.0.0/0", 0, 65535)},
			"aws ec2 replace-network-acl-entry --network-acl-id acl-1 --ingress --rule-number 3 ", "rule 3, which denies TCP from 0.0.0.0/0 ports 0-65535; what else that denied, the rules after it then decide)"},
	} {
		acl := &types.NetworkAcl{NetworkAclId: aws.String("acl-1"), Entries: row.rules}
		before := len(acl.Entries)
		command, mended := MendACL(acl, row.egress, row.flow)
		if !strings.HasPrefix(command, row.begins) || !strings.HasSuffix(command, row.ends) || row.begins == "" && command != "" {
			t.Errorf("%s: %q", name, command)
		}
		if ok, by := ACLVerdict(mended, row.egress, row.flow); !ok {
			t.Errorf("%s: mended, rule %d denies it", name, by)
		}
		numbers := map[int32]bool{}
		for _, e := range entries(mended, row.egress) {
			if numbers[*e.RuleNumber] {
				t.Errorf("%s: two rules have number %d", name, *e.RuleNumber)
			}
			numbers[*e.RuleNumber] = true
		}
		if len(acl.Entries) != before {
			t.Errorf("%s: the ACL itself was changed", name)
		}
	}
}

func TestMendRoute(t *testing.T) {
	route := func(cidr, gateway string, origin types.RouteOrigin) types.Route {
		return types.Route{DestinationCidrBlock: &cidr, GatewayId: &gateway, Origin: origin, State: types.RouteStateActive}
	}
	gone := func(r types.Route) types.Route { r.State = types.RouteStateBlackhole; return r }
	const ask = "ask whose vpce-1 is, since that route may be somebody's inspection path; with its owner's consent: "
	const restore = "aws ec2 replace-route --route-table-id rtb-1 --destination-cidr-block 10.0.0.0/16 --local-target"
	local, wide := route("10.0.0.0/16", "local", types.RouteOriginCreateRouteTable), route("10.0.0.0/8", "tgw-1", types.RouteOriginCreateRoute)
	for name, row := range map[string]struct {
		astray types.Route
		others []types.Route
		want   string
	}{
		"a more specific route": {route("10.0.2.0/24", "vpce-1", types.RouteOriginCreateRoute), []types.Route{local},
			ask + "aws ec2 delete-route --route-table-id rtb-1 --destination-cidr-block 10.0.2.0/24"},
		"it leads to what is gone": {gone(route("10.0.2.0/24", "vpce-1", types.RouteOriginCreateRoute)), []types.Route{local},
			"aws ec2 delete-route --route-table-id rtb-1 --destination-cidr-block 10.0.2.0/24"},
		"the VPC's own":                       {route("10.0.0.0/16", "vpce-1", types.RouteOriginCreateRouteTable), []types.Route{wide}, ask + restore},
		"the VPC's own, its origin lost":      {route("10.0.0.0/16", "vpce-1", types.RouteOriginCreateRoute), []types.Route{wide}, ask + restore},
		"the VPC's own leads to what is gone": {gone(route("10.0.0.0/16", "vpce-1", types.RouteOriginCreateRouteTable)), nil, restore},
		"a more specific one beside the VPC's own, which leads elsewhere, too": {route("10.0.2.0/24", "vpce-1", types.RouteOriginCreateRoute),
			[]types.Route{route("10.0.0.0/16", "vpce-1", types.RouteOriginCreateRouteTable)}, ask + "aws ec2 delete-route --route-table-id rtb-1 --destination-cidr-block 10.0.2.0/24"},
		"one of a single address": {route("10.0.2.20/32", "vpce-1", types.RouteOriginCreateRoute), nil, ask + "aws ec2 delete-route --route-table-id rtb-1 --destination-cidr-block 10.0.2.20/32"},
	} {
		table := &types.RouteTable{RouteTableId: aws.String("rtb-1"), Routes: append(row.others, row.astray)}
		if got := MendRoute(table, row.astray); got != row.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}
