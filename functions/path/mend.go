package path

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// MendACL is the command by which an ACL lets the whole of a flow out of its subnet, or in, and the ACL that it makes; no command
// when the flow passes already. The new rule goes before the one that denies, by a number that is free: AWS refuses to create a
// rule whose number is taken (EC2 API Reference, "CreateNetworkAclEntry"). Where none is, it replaces the one that denies.
func MendACL(acl *types.NetworkAcl, egress bool, f Flow) (command string, mended *types.NetworkAcl) {
	allowed, denies := ACLVerdict(acl, egress, f)
	if allowed {
		return "", acl
	}
	there, way := f.From, "--ingress"
	if egress {
		there, way = f.To, "--egress"
	}
	act, number, note := "create", freeBelow(acl, egress, denies), ""
	changed := *acl
	changed.Entries = slices.Clone(acl.Entries)
	if number == 0 {
		act, number = "replace", denies
		i := slices.IndexFunc(changed.Entries, func(e types.NetworkAclEntry) bool {
			return aws.ToBool(e.Egress) == egress && aws.ToInt32(e.RuleNumber) == denies
		})
		note = fmt.Sprintf(" (as no number below is free, it replaces rule %d, which denies %s; what else that denied, the rules after it then decide)",
			denies, entryWords(changed.Entries[i]))
		changed.Entries = slices.Delete(changed.Entries, i, i+1)
	}
	changed.Entries = append(changed.Entries, types.NetworkAclEntry{RuleNumber: aws.Int32(number), Egress: aws.Bool(egress), RuleAction: types.RuleActionAllow,
		Protocol: aws.String(strconv.Itoa(int(f.Protocol))), CidrBlock: aws.String(there.String()),
		PortRange: &types.PortRange{From: aws.Int32(f.ToPorts.First), To: aws.Int32(f.ToPorts.Last)}})
	return fmt.Sprintf("aws ec2 %s-network-acl-entry --network-acl-id %s %s --rule-number %d --protocol %d --port-range From=%d,To=%d --cidr-block %s --rule-action allow%s",
		act, aws.ToString(acl.NetworkAclId), way, number, f.Protocol, f.ToPorts.First, f.ToPorts.Last, there, note), &changed
}

// freeBelow is the highest number below a rule's that no rule of the direction has; 0 when there is none.
func freeBelow(acl *types.NetworkAcl, egress bool, number int32) int32 {
	taken := map[int32]bool{}
	for _, e := range entries(acl, egress) {
		taken[aws.ToInt32(e.RuleNumber)] = true
	}
	for number--; number > 0 && taken[number]; number-- {
	}
	return number
}

// entryWords says what a rule is about.
func entryWords(e types.NetworkAclEntry) string {
	number, err := strconv.ParseInt(aws.ToString(e.Protocol), 10, 32)
	if err != nil {
		number = AnyProtocol // as it denies, it could be read
	}
	words := protocolName(int32(number)) + " from "
	if aws.ToBool(e.Egress) {
		words = protocolName(int32(number)) + " to "
	}
	words += aws.ToString(e.CidrBlock) + aws.ToString(e.Ipv6CidrBlock)
	if r := e.PortRange; r != nil {
		words += PortRange{aws.ToInt32(r.From), aws.ToInt32(r.To)}.String()
	}
	return words
}

// MendRoute says how packets that a route leads astray stay within the VPC. What leads to something that works may be meant, so
// its owner comes first.
func MendRoute(t *types.RouteTable, r types.Route) string {
	command := fmt.Sprintf("aws ec2 delete-route --route-table-id %s --destination-cidr-block %s", aws.ToString(t.RouteTableId), aws.ToString(r.DestinationCidrBlock))
	if isLocal(t, r) {
		command = fmt.Sprintf("aws ec2 replace-route --route-table-id %s --destination-cidr-block %s --local-target", aws.ToString(t.RouteTableId), aws.ToString(r.DestinationCidrBlock))
	}
	if r.State == types.RouteStateBlackhole {
		return command
	}
	return fmt.Sprintf("ask whose %s is, since that route may be somebody's inspection path; with its owner's consent: %s", RouteTarget(r), command)
}

// isLocal says that a route is the one that every table has for a block of its VPC, whatever it leads to by now: it can be given
// another target and its own back, and can't be deleted (VPC User Guide, "Replace or restore the target for a local route").
// Blocks are of /16 to /28 (VPC User Guide, "VPC CIDR blocks"), and what is more specific lies within one of them.
func isLocal(t *types.RouteTable, r types.Route) bool {
	if r.Origin == types.RouteOriginCreateRouteTable {
		return true
	}
	prefix, err := netip.ParsePrefix(aws.ToString(r.DestinationCidrBlock))
	if err != nil || prefix.Bits() < 16 || prefix.Bits() > 28 {
		return false
	}
	return !slices.ContainsFunc(t.Routes, func(o types.Route) bool {
		wider, err := netip.ParsePrefix(aws.ToString(o.DestinationCidrBlock))
		return err == nil && wider.Bits() >= 16 && wider.Bits() < prefix.Bits() && wider.Contains(prefix.Addr())
	})
}
