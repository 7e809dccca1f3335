package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"flashtap/events"
	"flashtap/functions/internal/describe"
	"flashtap/functions/path"
)

// defaultGroups is how many security groups a Region may have unless AWS has raised it (Amazon VPC User Guide, "Amazon VPC
// quotas").
const defaultGroups = 2500

// securityGroups: what the capture makes must find its name free and room left.
func securityGroups(f Facts, place events.PlacedAt) events.Verdict {
	v := events.Verdict{Check: "security-groups", Result: events.Pass}
	needed := 1
	names := []string{place.SecurityGroupName}
	if place.Endpoint != nil {
		needed, names = 2, append(names, place.Endpoint.SecurityGroupName)
	}
	for _, g := range f.Groups {
		if !slices.Contains(names, aws.ToString(g.GroupName)) || describe.Tag(g.Tags, events.TagCapture) == string(f.Request.Capture) {
			continue
		}
		id := aws.ToString(g.GroupId)
		v.Result, v.Evidence = events.Fail, []string{id}
		v.Reason = fmt.Sprintf("the name %s, which the capture's own group is to have, is taken by %s", aws.ToString(g.GroupName), id)
		v.Remedy = "delete it (aws ec2 delete-security-group --group-id " + id + "), or ask for a new capture, which has another name"
		return v
	}
	quota, known := f.GroupQuota.Value, f.GroupQuota.Known
	if !known {
		quota = defaultGroups
	}
	v.Reason = fmt.Sprintf("the planned name is free; %s has %d security groups, and the Region may have %.0f", place.VPC, len(f.Groups), quota)
	if float64(len(f.Groups)+needed) > quota {
		v.Evidence = []string{place.VPC}
		v.Result = events.Fail
		v.Reason = fmt.Sprintf("%s alone has %d security groups, the Region may have %.0f, and the capture makes %d", place.VPC, len(f.Groups), quota, needed)
		v.Remedy = fmt.Sprintf("delete groups that nobody uses, or have the quota raised: aws service-quotas request-service-quota-increase --service-code vpc --quota-code L-E79EC296 --desired-value %.0f", quota+100)
		if !known {
			v.Result = events.Warn
			v.Reason += "; whether AWS has raised it could not be checked: " + f.GroupQuota.why()
		}
	}
	return v
}

// subnetOf is a described subnet; nil when it is none of these.
func subnetOf(f Facts, id string) *types.Subnet {
	for i := range f.Subnets {
		if aws.ToString(f.Subnets[i].SubnetId) == id {
			return &f.Subnets[i]
		}
	}
	return nil
}

// prefixOf is the IPv4 block of a subnet.
func prefixOf(s *types.Subnet) (netip.Prefix, bool) {
	if s == nil {
		return netip.Prefix{}, false
	}
	p, err := netip.ParsePrefix(aws.ToString(s.CidrBlock))
	return p, err == nil
}

// sourcePrefix is the address that mirrored copies come from.
func sourcePrefix(f Facts) (netip.Prefix, bool) {
	a, err := netip.ParseAddr(aws.ToString(f.Interface.PrivateIpAddress))
	if err != nil {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(a, a.BitLen()), true
}

var anywhere = netip.MustParsePrefix("0.0.0.0/0")

// networkACLs judges the network ACLs of the source's subnet and of the collector's. They are asked only about what leaves or
// enters a subnet, so never about copies within one (VPC User Guide, "Network ACL basics"). ToS3 says that the collector
// reaches S3 by leaving its subnet.
func networkACLs(f Facts, collector string, toS3 bool) events.Verdict {
	v := events.Verdict{Check: "network-acls", Result: events.Pass}
	own := aws.ToString(f.Interface.SubnetId)
	from, knowFrom := sourcePrefix(f)
	to, knowTo := prefixOf(subnetOf(f, collector))
	var reasons, notes, remedies []string
	mended := map[string]*types.NetworkAcl{} // by the remedies so far
	ask := func(subnet string, egress bool, flow path.Flow) {
		acl := path.ACLOf(subnet, f.ACLs)
		if acl == nil {
			v.Result = worse(v.Result, events.Warn)
			notes = append(notes, "no network ACL of "+subnet+" is described")
			return
		}
		id := aws.ToString(acl.NetworkAclId)
		if !slices.Contains(v.Evidence, id) {
			v.Evidence = append(v.Evidence, id)
		}
		allowed, rule := path.ACLVerdict(acl, egress, flow)
		if allowed {
			return
		}
		if everywhere(flow, egress) && reachesSome(acl, egress, flow) {
			v.Result = worse(v.Result, events.Warn)
			notes = append(notes, fmt.Sprintf("%s of %s does not let %s to all of the internet; which addresses S3 has was not looked up", id, subnet, direction(egress, flow)))
			return
		}
		v.Result = events.Fail
		reasons = append(reasons, fmt.Sprintf("%s of %s does not let %s: %s", id, subnet, direction(egress, flow), ruleName(rule)))
		if mended[id] == nil {
			mended[id] = acl
		}
		var command string
		if command, mended[id] = path.MendACL(mended[id], egress, flow); command != "" {
			remedies = append(remedies, command)
		}
	}
	if collector != own {
		if knowFrom && knowTo {
			copies := path.Copies(from, to)
			ask(own, true, copies)
			ask(collector, false, copies)
		} else {
			v.Result = events.Warn
			notes = append(notes, "the addresses of source and collector are not described, so copies between them could not be followed")
		}
	}
	if toS3 && knowTo {
		uploads := path.Uploads(to, anywhere)
		ask(collector, true, uploads)
		ask(collector, false, uploads.Answers())
	}
	switch {
	case len(reasons) > 0:
		v.Reason, v.Remedy = strings.Join(reasons, "; "), strings.Join(remedies, "; ")
	case len(notes) > 0:
		v.Reason = strings.Join(notes, "; ")
	case collector == own:
		v.Reason = "copies stay within " + own + ", where no network ACL is asked; S3 is let through"
	default:
		v.Reason = "copies and S3 are let through"
	}
	return v
}

// worse is the graver of two results.
func worse(a, b string) string {
	for _, r := range []string{events.Fail, events.Warn} {
		if a == r || b == r {
			return r
		}
	}
	return a
}

func direction(egress bool, f path.Flow) string {
	if egress {
		return f.String() + " out"
	}
	return f.String() + " in"
}

func ruleName(number int32) string {
	if number >= path.ImpliedRule {
		return "no rule allows it"
	}
	return fmt.Sprintf("rule %d denies it", number)
}

// everywhere says that a flow's far end is all of IPv4.
func everywhere(f path.Flow, egress bool) bool {
	if egress {
		return f.To == anywhere
	}
	return f.From == anywhere
}

// reachesSome says whether an ACL lets a flow whose far end is anywhere pass to, or from, some public addresses: the blocks that
// its own rules name, or the world without the blocks that they deny.
func reachesSome(acl *types.NetworkAcl, egress bool, f path.Flow) bool {
	world := *acl
	world.Entries = nil
	for _, e := range acl.Entries {
		if e.RuleAction != types.RuleActionDeny || aws.ToString(e.CidrBlock) == anywhere.String() {
			world.Entries = append(world.Entries, e)
		}
	}
	if ok, _ := path.ACLVerdict(&world, egress, f); ok {
		return true
	}
	for _, e := range acl.Entries {
		block, err := netip.ParsePrefix(aws.ToString(e.CidrBlock))
		if err != nil || e.RuleAction != types.RuleActionAllow || block.Addr().IsPrivate() {
			continue
		}
		part := f
		if egress {
			part.To = block
		} else {
			part.From = block
		}
		if ok, _ := path.ACLVerdict(acl, egress, part); ok {
			return true
		}
	}
	return false
}

// route follows copies from the source's subnet to the collector's: mirrored packets take the source subnet's route table (VPC
// Traffic Mirroring guide, "Traffic mirror targets"), in which a more specific route goes before the local one.
func route(f Facts, collector string) events.Verdict {
	v := events.Verdict{Check: "route", Result: events.Pass}
	own := aws.ToString(f.Interface.SubnetId)
	table := path.RouteTableOf(own, f.RouteTables)
	if table == nil {
		v.Result, v.Reason = events.Warn, "no route table of "+own+" is described"
		return v
	}
	id := aws.ToString(table.RouteTableId)
	v.Evidence = []string{id}
	to, known := prefixOf(subnetOf(f, collector))
	if !known {
		v.Result, v.Reason = events.Warn, "the addresses of "+collector+" are not described"
		return v
	}
	if r, astray := leadsAstray(table, to); astray {
		destination := aws.ToString(r.DestinationCidrBlock)
		v.Result = events.Fail
		if destination == "" {
			v.Reason = fmt.Sprintf("%s has no route to %s in %s", id, to, collector)
			v.Remedy = "give " + own + " a route table with the VPC's local route: aws ec2 create-route-table --vpc-id " + aws.ToString(f.Interface.VpcId)
			return v
		}
		v.Reason = fmt.Sprintf("%s leads copies for %s (%s) to %s instead of staying in the VPC", id, collector, destination, path.RouteTarget(r))
		if r.State == types.RouteStateBlackhole {
			v.Reason = fmt.Sprintf("%s leads copies for %s (%s) into a black hole: %s is gone", id, collector, destination, path.RouteTarget(r))
		}
		v.Remedy = path.MendRoute(table, r)
		return v
	}
	v.Reason = fmt.Sprintf("%s keeps copies for %s within the VPC", id, collector)
	return v
}

// leadsAstray finds the route by which packets for a part of a subnet would leave the VPC.
func leadsAstray(table *types.RouteTable, to netip.Prefix) (types.Route, bool) {
	probes := []netip.Addr{to.Addr()}
	for _, r := range table.Routes { // more specific routes divide the subnet
		if p, err := netip.ParsePrefix(aws.ToString(r.DestinationCidrBlock)); err == nil && to.Overlaps(p) && p.Bits() > to.Bits() {
			probes = append(probes, p.Addr())
		}
	}
	for _, a := range probes {
		r, found := path.RouteTo(table, a)
		if !found {
			return types.Route{}, true
		}
		if path.RouteTarget(r) != "local" || r.State == types.RouteStateBlackhole {
			return r, true
		}
	}
	return types.Route{}, false
}

// isolation: packets that groups or ACLs drop on their way in were never mirrored, so a suspect that is isolated already shows
// nothing of who knocks (VPC Traffic Mirroring guide, "Traffic mirror targets").
func isolation(f Facts) events.Verdict {
	v := events.Verdict{Check: "isolation", Result: events.Pass, Reason: "neither its security groups nor its network ACL close it off"}
	var ids []string
	for _, g := range f.Interface.Groups {
		ids = append(ids, aws.ToString(g.GroupId))
	}
	var groups []types.SecurityGroup
	for _, g := range f.Groups {
		if slices.Contains(ids, aws.ToString(g.GroupId)) {
			groups = append(groups, g)
		}
	}
	if len(groups) < len(ids) { // another account's, shared with the VPC
		v.Result, v.Evidence = events.Warn, ids
		v.Reason = "could not be checked: some of its security groups are not described: " + strings.Join(ids, ", ")
		return v
	}
	acl := path.ACLOf(aws.ToString(f.Interface.SubnetId), f.ACLs)
	var closed []string
	for _, way := range []struct {
		in   bool
		what string
	}{{true, "in, so what knocks is dropped before it could be mirrored"}, {false, "out, so the capture shows attempts at most"}} {
		if len(groups) > 0 && path.GroupsClose(groups, way.in) {
			closed = append(closed, fmt.Sprintf("its security groups %s let nothing %s", strings.Join(ids, ", "), way.what))
			v.Evidence = append(v.Evidence, ids...)
		}
		if acl != nil && path.ACLCloses(acl, !way.in) {
			closed = append(closed, fmt.Sprintf("its network ACL %s lets nothing %s", aws.ToString(acl.NetworkAclId), way.what))
			v.Evidence = append(v.Evidence, aws.ToString(acl.NetworkAclId))
		}
	}
	if len(closed) > 0 {
		slices.Sort(v.Evidence)
		v.Evidence = slices.Compact(v.Evidence)
		v.Result, v.Reason = events.Warn, strings.Join(closed, "; ")
		v.Remedy = "capture first and isolate second; for what is dropped now, VPC flow logs record REJECT"
	}
	return v
}
