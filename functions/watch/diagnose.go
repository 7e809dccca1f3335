package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"flashtap/events"
	"flashtap/functions/filter"
	"flashtap/functions/internal/describe"
	"flashtap/functions/path"
	"flashtap/functions/plan"
)

// surroundings are what is asked for only when no packet arrives. What could not be looked up is empty, and then accuses
// nobody.
type surroundings struct {
	groups  []types.SecurityGroup // of the collector
	acls    []types.NetworkAcl    // of the source's and the collector's subnets
	tables  []types.RouteTable    // of the VPC
	filter  *types.TrafficMirrorFilter
	sooner  []sooner // sessions on the source that AWS tries before ours, in their order
	source  *types.NetworkInterface
	suspect *types.Instance // of the source
	traffic *float64        // packets in and out of that instance since the session exists, by CloudWatch

	unknown []string // what could not be looked up, and why
}

// sooner is a session that AWS tries before ours.
type sooner struct {
	session types.TrafficMirrorSession
	filter  events.Filter
}

// diagnosis is why no packet arrives.
type diagnosis struct {
	cause    string
	reason   string
	remedy   string
	hopeless bool // as long as nobody follows the remedy, no packet will arrive
	evidence []string
}

// diagnose walks the causes in the order of a packet's way back from the collector. One that keeps every packet away goes
// before one that only may. No I/O.
func diagnose(f facts, s surroundings) diagnosis {
	var likely *diagnosis
	for _, look := range []func(facts, surroundings) *diagnosis{
		bySecurityGroup, byNetworkACL, byRoute, byFilter, byShadow, byIdleness, byInstance,
	} {
		switch found := look(f, s); {
		case found == nil:
		case found.hopeless:
			return *found
		case likely == nil:
			likely = found
		}
	}
	if likely == nil {
		likely = &diagnosis{cause: events.CauseUnknown, reason: "no cause was found",
			remedy: "let the capture go on; see whether the source sends and receives anything at all"}
		if n := f.rejected(); n > 0 {
			likely.reason = fmt.Sprintf("%d datagrams arrived that are not copies of this session: %s", n, words(f.checkpoint.Tally.Rejected))
		}
	}
	if len(s.unknown) > 0 {
		likely.reason += "; could not be looked up: " + strings.Join(s.unknown, ", ")
	}
	return *likely
}

func (f facts) rejected() uint64 {
	if f.checkpoint == nil {
		return 0
	}
	return f.checkpoint.Tally.Rejected.Total()
}

func words(r events.Rejected) string {
	var list []string
	for _, c := range []struct {
		n    uint64
		what string
	}{
		{r.ForeignSource, "from another address"}, {r.ForeignVNI, "with another VNI"}, {r.Malformed, "malformed"}, {r.Oversize, "too long"},
		{r.Fragment, "fragments"}, {r.BadChecksum, "damaged"},
	} {
		if c.n > 0 {
			list = append(list, fmt.Sprintf("%d %s", c.n, c.what))
		}
	}
	return strings.Join(list, ", ")
}

// copies is the flow of mirrored copies; false when an address is not known.
func (f facts) copies() (path.Flow, bool) {
	if f.instance == nil {
		return path.Flow{}, false
	}
	from, err := netip.ParseAddr(f.plan.Source.PrimaryIPv4)
	to, toErr := netip.ParseAddr(aws.ToString(f.instance.PrivateIpAddress))
	if err != nil || toErr != nil {
		return path.Flow{}, false
	}
	return path.Copies(host(from), host(to)), true
}

func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func bySecurityGroup(f facts, s surroundings) *diagnosis {
	flow, known := f.copies()
	if !known || len(s.groups) == 0 {
		return nil
	}
	answer := path.GroupsAdmit(s.groups, true, flow)
	if answer.Admitted {
		return nil
	}
	d := &diagnosis{cause: events.CauseSecurityGroup, reason: answer.Why, hopeless: len(answer.Unproven) == 0}
	for _, g := range s.groups {
		d.evidence = append(d.evidence, aws.ToString(g.GroupId))
	}
	d.remedy = fmt.Sprintf("aws ec2 authorize-security-group-ingress --group-id %s --protocol udp --port 4789 --cidr %s", d.evidence[0], flow.From)
	return d
}

// byNetworkACL: an ACL is asked only about what leaves a subnet or enters one (VPC User Guide, "Network ACLs").
func byNetworkACL(f facts, s surroundings) *diagnosis {
	flow, known := f.copies()
	from, to := f.plan.Source.Subnet, f.collectorSubnet()
	if !known || from == to {
		return nil
	}
	for _, side := range []struct {
		subnet string
		egress bool
		way    string
	}{{from, true, "out of"}, {to, false, "into"}} {
		acl := path.ACLOf(side.subnet, s.acls)
		if acl == nil {
			continue
		}
		allowed, rule := path.ACLVerdict(acl, side.egress, flow)
		if allowed {
			continue
		}
		id := aws.ToString(acl.NetworkAclId)
		command, _ := path.MendACL(acl, side.egress, flow)
		return &diagnosis{cause: events.CauseNetworkACL, hopeless: true, evidence: []string{id, side.subnet},
			reason: fmt.Sprintf("%s lets no %s %s %s (rule %s)", id, flow, side.way, side.subnet, ruleName(rule)),
			remedy: command}
	}
	return nil
}

func ruleName(number int32) string {
	if number == path.ImpliedRule {
		return "*"
	}
	return fmt.Sprint(number)
}

func (f facts) collectorSubnet() string {
	if f.instance == nil {
		return f.plan.Collector.Subnet
	}
	return aws.ToString(f.instance.SubnetId)
}

func byRoute(f facts, s surroundings) *diagnosis {
	flow, known := f.copies()
	table := path.RouteTableOf(f.plan.Source.Subnet, s.tables)
	if !known || f.plan.Source.Subnet == f.collectorSubnet() || table == nil {
		return nil
	}
	id := aws.ToString(table.RouteTableId)
	d := &diagnosis{cause: events.CauseRoute, hopeless: true, evidence: []string{id, f.plan.Source.Subnet}}
	route, found := path.RouteTo(table, flow.To.Addr())
	target := path.RouteTarget(route)
	switch {
	case !found:
		d.reason = fmt.Sprintf("%s has no route to the collector at %s", id, flow.To.Addr())
		d.remedy = "capture with a collector in the source's own subnet"
		return d
	case target == "local" && route.State != types.RouteStateBlackhole:
		return nil
	}
	destination := aws.ToString(route.DestinationCidrBlock)
	d.evidence = append(d.evidence, target)
	d.reason = fmt.Sprintf("%s leads what is for the collector at %s to %s, by its route for %s", id, flow.To.Addr(), target, destination)
	d.remedy = path.MendRoute(table, route)
	if route.State == types.RouteStateBlackhole {
		d.reason += ", where it is dropped"
	} else if aws.ToString(route.NetworkInterfaceId) != "" || strings.HasPrefix(target, "vpce-") {
		d.hopeless = false // an appliance, perhaps behind a Gateway Load Balancer's endpoint, that may pass them on
	}
	return d
}

// byFilter: a filter in which nothing is accepted mirrors nothing; one that was changed may.
func byFilter(f facts, s surroundings) *diagnosis {
	if s.filter == nil {
		return nil
	}
	have, want := describe.MirrorFilter(*s.filter), f.plan.Mirror.Filter
	id := aws.ToString(s.filter.TrafficMirrorFilterId)
	d := &diagnosis{cause: events.CauseFilter, evidence: []string{id}, remedy: "stop the capture and start it again: it makes its filter anew"}
	accepts := func(r events.FilterRule) bool { return r.Action == events.Accept }
	switch missing := lacking(have, want); {
	case !slices.ContainsFunc(have.Rules, accepts) && !have.DNS:
		d.reason, d.hopeless = id+" accepts nothing any more", true
	case missing > 0 || want.DNS && !have.DNS || lacking(want, have) > 0:
		d.reason = id + " is not the planned filter any more"
	default:
		return nil
	}
	return d
}

// lacking counts the rules of one filter that another has not.
func lacking(have, want events.Filter) (n int) {
	same := func(r events.FilterRule) func(events.FilterRule) bool {
		return func(o events.FilterRule) bool { return alike(r, o) }
	}
	for _, r := range want.Rules {
		if !slices.ContainsFunc(have.Rules, same(r)) {
			n++
		}
	}
	return n
}

func alike(a, b events.FilterRule) bool {
	samePorts := func(a, b *events.PortRange) bool { return a == b || a != nil && b != nil && *a == *b }
	if !samePorts(a.SourcePorts, b.SourcePorts) || !samePorts(a.DestinationPorts, b.DestinationPorts) {
		return false
	}
	a.SourcePorts, a.DestinationPorts, b.SourcePorts, b.DestinationPorts = nil, nil, nil, nil
	return a == b
}

func byShadow(f facts, s surroundings) *diagnosis {
	var d *diagnosis
	for _, other := range s.sooner {
		takes, all := filter.Shadows(f.plan.Mirror.Filter, other.filter)
		if len(takes) == 0 {
			continue
		}
		id, number := aws.ToString(other.session.TrafficMirrorSessionId), aws.ToInt32(other.session.SessionNumber)
		found := &diagnosis{cause: events.CauseShadowed, hopeless: all, evidence: []string{id, aws.ToString(other.session.TrafficMirrorFilterId)},
			reason: fmt.Sprintf("%s of account %s, at number %d, takes first: %s", id, aws.ToString(other.session.OwnerId), number, strings.Join(takes, "; ")),
			remedy: fmt.Sprintf("have its owner move %s to a higher number than ours, %d: aws ec2 modify-traffic-mirror-session --traffic-mirror-session-id %s --session-number N",
				id, f.plan.Mirror.SessionNumber, id)}
		if all {
			return found
		}
		if d == nil {
			d = found
		}
	}
	return d
}

// quiet is how many packets an instance may have sent and received while the network said nothing: what AWS never mirrors
// (ARP, DHCP, NTP, instance metadata) is in its counts as well.
const quiet = 50

func byIdleness(f facts, s surroundings) *diagnosis {
	if s.traffic == nil || *s.traffic > quiet {
		return nil
	}
	return &diagnosis{cause: events.CauseIdle, evidence: []string{f.plan.Source.InstanceID},
		reason: fmt.Sprintf("%s is idle: CloudWatch counts %.0f packets in and out of it", f.plan.Source.InstanceID, *s.traffic),
		remedy: "nothing: the capture goes on, and keeps packets as soon as there are any"}
}

func byInstance(f facts, s surroundings) *diagnosis {
	source := f.plan.Source
	d := &diagnosis{cause: events.CauseInstanceType, hopeless: true, evidence: []string{source.NetworkInterfaceID}}
	if source.InstanceID == "" || s.source == nil {
		return nil // nothing that could be stopped, or not known
	}
	if a := s.source.Attachment; a == nil || aws.ToString(a.InstanceId) != source.InstanceID {
		d.reason = fmt.Sprintf("%s is not attached to %s any more", source.NetworkInterfaceID, source.InstanceID)
		d.remedy = fmt.Sprintf("attach it again, or capture another interface of %s", source.InstanceID)
		return d
	}
	if s.suspect == nil {
		return nil
	}
	d.evidence = append(d.evidence, source.InstanceID)
	now := string(s.suspect.InstanceType)
	yes, known := plan.Mirrorable(now)
	switch {
	case s.suspect.State != nil && s.suspect.State.Name != types.InstanceStateNameRunning && s.suspect.State.Name != types.InstanceStateNamePending:
		d.reason = fmt.Sprintf("%s is %s", source.InstanceID, s.suspect.State.Name)
		d.remedy = "start it and capture again, if its disk is not the better evidence"
	case now == source.InstanceType || yes:
		return nil
	case known:
		d.reason = fmt.Sprintf("%s was changed from %s to %s, which AWS does not mirror", source.InstanceID, source.InstanceType, now)
		d.remedy = "change it back, or capture its peers"
	default:
		d.hopeless = false
		d.reason = fmt.Sprintf("%s was changed from %s to %s, of which it is not known whether AWS mirrors it", source.InstanceID, source.InstanceType, now)
		d.remedy = "change it back, or capture its peers"
	}
	return d
}
