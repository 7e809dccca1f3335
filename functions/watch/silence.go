package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"flashtap/events"
	"flashtap/functions/internal/awserr"
	"flashtap/functions/internal/describe"
	"flashtap/functions/internal/service"
	"flashtap/functions/path"
)

// actRepaired is the act of giving the collector's group its rule back. It happens once in a capture.
const actRepaired = "repaired-security-group"

// explainSilence says why no packet has arrived. When it is that the collector's own group lost its rule, the group gets it
// back, and packets get another window to arrive, if the capture lasts that long.
func (w watch) explainSilence(ctx context.Context, f facts, r events.WatchResult) (events.WatchResult, error) {
	repaired, err := w.store.Exists(ctx, events.CustodyKey(f.plan.Capture, "watch", actRepaired))
	if err != nil {
		return r, err
	}
	timeLeft := f.until() > 0 // for packets to arrive after a repair
	if repaired && timeLeft && !f.longerThan(2*f.window()) {
		r.Status, r.Reason = events.StatusWaiting, "waiting for the first packet, since the collector's security group got its rule back"
		return r, nil
	}
	d := diagnose(f, w.lookAround(ctx, f))
	if d.cause == events.CauseSecurityGroup && !repaired && timeLeft {
		group, err := w.repair(ctx, f, d)
		if awserr.IsTransient(err) {
			return r, err
		}
		if err != nil {
			d.remedy += fmt.Sprintf(" (which failed here: %v)", err)
		} else if group != "" {
			r.Status, r.Reason = events.StatusWaiting, fmt.Sprintf("%s had lost the rule that admits mirrored copies, and got it back", group)
			return r, nil
		}
	}
	reason := fmt.Sprintf("%s: %s: %s", r.Reason, d.cause, d.reason)
	r.Cause, r.Reason, r.Remedy, r.Hopeless = d.cause, clipped(reason), clipped(d.remedy), d.hopeless
	return r, w.store.Record(ctx, events.CustodyEntry{
		Capture: f.plan.Capture, Actor: "watch", Act: "silent-" + d.cause, Resource: f.plan.Source.NetworkInterfaceID,
		Detail: map[string]string{"reason": reason, "remedy": d.remedy, "evidence": strings.Join(d.evidence, " ")},
	})
}

// clipped keeps words within what the state of an execution may carry; custody has them all.
func clipped(words string) string {
	const most = 1000
	if len(words) <= most {
		return words
	}
	return strings.ToValidUTF8(words[:most], "") + "..."
}

// repair admits mirrored copies to the collector's group again, as launch did, and says to which; "" when none of the
// collector's groups is ours to change.
func (w watch) repair(ctx context.Context, f facts, d diagnosis) (string, error) {
	out, err := w.ec2.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{Filters: []types.Filter{
		describe.Filter("group-name", f.plan.Collector.SecurityGroupName), describe.Filter("vpc-id", f.plan.Collector.VPC),
		describe.Filter("tag:"+events.TagDeployment, f.plan.Deployment), describe.Filter("tag:"+events.TagCapture, string(f.plan.Capture))}})
	if err != nil {
		return "", fmt.Errorf("describe security group %s: %w", f.plan.Collector.SecurityGroupName, err)
	}
	if len(out.SecurityGroups) != 1 || !slices.Contains(d.evidence, aws.ToString(out.SecurityGroups[0].GroupId)) {
		return "", nil
	}
	group := aws.ToString(out.SecurityGroups[0].GroupId)
	_, err = w.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{
		GroupId: &group, IpPermissions: []types.IpPermission{path.AdmitCopies(f.plan.Source.OuterSources())}})
	if err != nil && !awserr.IsExisting(err) {
		return "", fmt.Errorf("admit mirrored copies to %s: %w", group, err)
	}
	return group, w.store.Record(ctx, events.CustodyEntry{
		Capture: f.plan.Capture, Actor: "watch", Act: actRepaired, Resource: group,
		Detail: map[string]string{"reason": d.reason},
	})
}

// lookAround gathers what a diagnosis goes by. It changes nothing, and no failure ends the capture: what could not be
// looked up is told with the diagnosis.
func (w watch) lookAround(ctx context.Context, f facts) surroundings {
	var s surroundings
	for _, part := range []struct {
		name string
		look func(context.Context, facts, *surroundings) error
	}{
		{"the collector's security groups", w.groups}, {"the network ACLs", w.acls}, {"the route tables", w.tables},
		{"the mirror filters", w.filters}, {"the source", w.source}, {"the source's traffic", w.traffic},
	} {
		if err := part.look(ctx, f, &s); err != nil {
			s.unknown = append(s.unknown, fmt.Sprintf("%s (%v)", part.name, err))
		}
	}
	return s
}

func (w watch) groups(ctx context.Context, f facts, s *surroundings) error {
	if f.instance == nil || len(f.instance.SecurityGroups) == 0 {
		return errors.New("EC2 shows none")
	}
	var ids []string
	for _, g := range f.instance.SecurityGroups {
		ids = append(ids, aws.ToString(g.GroupId))
	}
	out, err := w.ec2.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{GroupIds: ids})
	if err != nil {
		return err
	}
	s.groups = out.SecurityGroups
	return nil
}

func (w watch) acls(ctx context.Context, f facts, s *surroundings) error {
	pages := ec2.NewDescribeNetworkAclsPaginator(w.ec2, &ec2.DescribeNetworkAclsInput{Filters: []types.Filter{
		{Name: aws.String("association.subnet-id"), Values: []string{f.plan.Source.Subnet, f.collectorSubnet()}}}})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		s.acls = append(s.acls, page.NetworkAcls...)
	}
	return nil
}

func (w watch) tables(ctx context.Context, f facts, s *surroundings) error {
	pages := ec2.NewDescribeRouteTablesPaginator(w.ec2, &ec2.DescribeRouteTablesInput{Filters: []types.Filter{describe.Filter("vpc-id", f.plan.Source.VPC)}})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		s.tables = append(s.tables, page.RouteTables...)
	}
	return nil
}

// filters describes our session's filter, and those of the sessions that AWS tries before it.
func (w watch) filters(ctx context.Context, f facts, s *surroundings) error {
	if f.session == nil {
		return errors.New("EC2 does not list the session")
	}
	ours := aws.ToString(f.session.TrafficMirrorFilterId)
	ids := []string{ours}
	for _, other := range f.sessions {
		if aws.ToString(other.NetworkInterfaceId) == f.plan.Source.NetworkInterfaceID && aws.ToInt32(other.SessionNumber) < aws.ToInt32(f.session.SessionNumber) {
			s.sooner = append(s.sooner, sooner{session: other})
			ids = append(ids, aws.ToString(other.TrafficMirrorFilterId))
		}
	}
	slices.SortFunc(s.sooner, func(a, b sooner) int {
		return cmp.Compare(aws.ToInt32(a.session.SessionNumber), aws.ToInt32(b.session.SessionNumber))
	})
	out, err := w.ec2.DescribeTrafficMirrorFilters(ctx, &ec2.DescribeTrafficMirrorFiltersInput{TrafficMirrorFilterIds: ids})
	if err != nil {
		return err
	}
	for i, x := range out.TrafficMirrorFilters {
		id := aws.ToString(x.TrafficMirrorFilterId)
		if id == ours {
			s.filter = &out.TrafficMirrorFilters[i]
		}
		for n := range s.sooner {
			if aws.ToString(s.sooner[n].session.TrafficMirrorFilterId) == id {
				s.sooner[n].filter = describe.MirrorFilter(x)
			}
		}
	}
	return nil
}

func (w watch) source(ctx context.Context, f facts, s *surroundings) error {
	ni, err := describe.Interface(ctx, w.ec2, f.plan.Source.NetworkInterfaceID)
	if err != nil {
		return err
	}
	s.source = &ni
	if f.plan.Source.InstanceID != "" {
		s.suspect, err = describe.Instance(ctx, w.ec2, f.plan.Source.InstanceID)
	}
	return err
}

// monitoring is the period of basic monitoring (EC2 User Guide, "Manage detailed monitoring for your EC2 instances").
const monitoring = 5 * time.Minute

// traffic sums the packets of the source's instance over the periods that reach into the window. Periods arrive when they
// are over, so mostly there is none yet: that is not known, and no idleness.
func (w watch) traffic(ctx context.Context, f facts, s *surroundings) error {
	instance := f.plan.Source.InstanceID
	if instance == "" {
		return nil
	}
	var asked []service.Metric
	for id, name := range map[string]string{"in": "NetworkPacketsIn", "out": "NetworkPacketsOut"} {
		asked = append(asked, service.Metric{ID: id, Namespace: "AWS/EC2", Name: name, Dimensions: map[string]string{"InstanceId": instance},
			Stat: "Sum", Period: monitoring})
	}
	points, err := w.services.Metrics(ctx, asked, f.since.Add(-monitoring), f.now)
	if err != nil {
		return err
	}
	var sum float64
	seen := map[string]bool{}
	for id, list := range points {
		for _, p := range list {
			if p.At.Add(monitoring).After(f.since) {
				sum += p.Value
				seen[id] = true
			}
		}
	}
	if seen["in"] && seen["out"] {
		s.traffic = &sum
	}
	return nil
}
