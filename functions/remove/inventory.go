package remove

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"flashtap/events"
	"flashtap/functions/internal/describe"
	"flashtap/functions/lease"
)

// The kinds of things that a capture makes, in the order in which they can be removed. The session is first, for it
// bills and bothers the suspect; the guard is last, for it watches over the rest.
const (
	KindSession         = "session"
	KindSessionSchedule = "session-schedule"
	KindTarget          = "target"
	KindFilter          = "filter"
	KindInstance        = "instance"
	KindInterface       = "network-interface"
	KindEndpoint        = "endpoint"
	KindSecurityGroup   = "security-group"
	KindGuard           = "guard-schedule"
)

// Item is one thing that bears our tags, and whether it is provably ours.
type Item struct {
	events.Resource
	Capture events.CaptureID
	doubt   string // why it is not provably ours; "" when it is
}

// key tells items apart: a session's schedule is named for the session.
func (i Item) key() string { return i.Kind + " " + i.ID }

func (i Item) mirrors() bool { return i.Kind == KindSession }

// uploads says that it is a collector of ours that may still have something to upload.
func (i Item) uploads() bool { return i.Kind == KindInstance && i.doubt == "" && !i.Gone() }

// Gone says that nothing is left to remove. EC2 shows a terminated instance for about an hour after it is gone, and an endpoint
// for a while.
func (i Item) Gone() bool {
	return i.Kind == KindInstance && i.State == string(types.InstanceStateNameTerminated) || i.Kind == KindEndpoint && i.State == endpointDeleted
}

// Inventory lists what exists of capture c, or of every capture of the deployment when c is empty, in the order of
// removal. What bears our tag without the other proofs of ownership is listed with its doubt.
func (r Remover) Inventory(ctx context.Context, c events.CaptureID) ([]Item, error) {
	seen := &sightings{remover: r, capture: c, plans: map[events.CaptureID]*events.Plan{}}
	for _, list := range []func(context.Context) error{
		seen.targets, seen.sessions, seen.filters, seen.instances, seen.interfaces, seen.endpoints, seen.securityGroups, seen.schedules,
	} {
		if err := list(ctx); err != nil {
			return nil, err
		}
	}
	var ordered []Item
	for _, kind := range []string{KindSession, KindSessionSchedule, KindTarget, KindFilter, KindInstance, KindInterface, KindEndpoint, KindSecurityGroup, KindGuard} {
		for _, item := range seen.items {
			if item.Kind == kind {
				ordered = append(ordered, item)
			}
		}
	}
	return ordered, nil
}

// sightings collects items and judges each by proofs that agree.
type sightings struct {
	remover  Remover
	capture  events.CaptureID
	plans    map[events.CaptureID]*events.Plan
	targetOf map[string]bool // ids of targets that are provably ours
	items    []Item
}

// ours says whether tags are this deployment's, for the wanted capture.
func (s *sightings) ours(tags []types.Tag) (events.CaptureID, bool) {
	c := events.CaptureID(describe.Tag(tags, events.TagCapture))
	if describe.Tag(tags, events.TagDeployment) != s.remover.Settings.Deployment || c == "" {
		return "", false
	}
	return c, s.capture == "" || s.capture == c
}

func (s *sightings) add(kind, id, state string, c events.CaptureID, doubts ...string) {
	var doubt string
	for _, d := range doubts {
		if d != "" {
			doubt = d
			break
		}
	}
	if doubt == "" {
		if err := c.Validate(); err != nil {
			doubt = err.Error()
		}
	}
	s.items = append(s.items, Item{Resource: events.Resource{Kind: kind, ID: id, State: state}, Capture: c, doubt: doubt})
}

// unless is the doubt that arises when a proof does not hold.
func unless(holds bool, doubt string) string {
	if holds {
		return ""
	}
	return doubt
}

// plan is the plan of a capture, nil when the bucket has none: then no plan can vouch for anything.
func (s *sightings) plan(ctx context.Context, c events.CaptureID) (*events.Plan, error) {
	if p, known := s.plans[c]; known {
		return p, nil
	}
	p, err := s.remover.Store.Plan(ctx, c)
	if errors.Is(err, fs.ErrNotExist) || c.Validate() != nil {
		s.plans[c] = nil
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what vouches for %s: %w", c, err)
	}
	s.plans[c] = &p
	return &p, nil
}

func (s *sightings) sessions(ctx context.Context) error {
	list, err := describe.Sessions(ctx, s.remover.EC2)
	if err != nil {
		return err
	}
	for _, x := range list {
		c, ok := s.ours(x.Tags)
		if !ok {
			continue
		}
		plan, err := s.plan(ctx, c)
		if err != nil {
			return err
		}
		vni := uint32(aws.ToInt32(x.VirtualNetworkId))
		s.add(KindSession, aws.ToString(x.TrafficMirrorSessionId), "", c,
			unless(plan != nil, "no plan of its capture vouches for it"),
			unless(plan == nil || plan.Mirror.VNI == vni, fmt.Sprintf("its VNI is %d, not the planned one", vni)),
			unless(s.targetOf[aws.ToString(x.TrafficMirrorTargetId)], "its target is not ours"))
	}
	return nil
}

// targets come before sessions: a session is ours only with a target of ours.
func (s *sightings) targets(ctx context.Context) error {
	list, err := describe.Targets(ctx, s.remover.EC2)
	if err != nil {
		return err
	}
	s.targetOf = map[string]bool{}
	for _, x := range list {
		c, ok := s.ours(x.Tags)
		if !ok {
			continue
		}
		id := aws.ToString(x.TrafficMirrorTargetId)
		described := aws.ToString(x.Description) == Description(c)
		s.targetOf[id] = described
		s.add(KindTarget, id, "", c, unless(described, "its description is not the one we give"))
	}
	return nil
}

func (s *sightings) filters(ctx context.Context) error {
	pages := ec2.NewDescribeTrafficMirrorFiltersPaginator(s.remover.EC2, &ec2.DescribeTrafficMirrorFiltersInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("describe mirror filters: %w", err)
		}
		for _, x := range page.TrafficMirrorFilters {
			if c, ok := s.ours(x.Tags); ok {
				s.add(KindFilter, aws.ToString(x.TrafficMirrorFilterId), "", c,
					unless(aws.ToString(x.Description) == Description(c), "its description is not the one we give"))
			}
		}
	}
	return nil
}

// templateTag is set by EC2 itself on an instance launched from a template; nobody else can set an aws: tag.
const templateTag = "aws:ec2launchtemplate:id"

func (s *sightings) instances(ctx context.Context) error {
	list, err := describe.Instances(ctx, s.remover.EC2, s.tagFilter()...)
	if err != nil {
		return err
	}
	settings := s.remover.Settings
	for _, x := range list {
		c, ok := s.ours(x.Tags)
		if !ok {
			continue
		}
		state, profile := "", ""
		if x.State != nil {
			state = string(x.State.Name)
		}
		if x.IamInstanceProfile != nil {
			profile = aws.ToString(x.IamInstanceProfile.Arn)
		}
		s.add(KindInstance, aws.ToString(x.InstanceId), state, c,
			unless(profile == settings.InstanceProfileARN, "it does not have our instance profile"),
			unless(describe.Tag(x.Tags, templateTag) == settings.LaunchTemplateID, "it was not launched from our template"))
	}
	return nil
}

func (s *sightings) interfaces(ctx context.Context) error {
	list, err := describe.Interfaces(ctx, s.remover.EC2, s.tagFilter()...)
	if err != nil {
		return err
	}
	for _, x := range list {
		c, ok := s.ours(x.TagSet)
		if !ok {
			continue
		}
		s.add(KindInterface, aws.ToString(x.NetworkInterfaceId), string(x.Status), c,
			unless(aws.ToString(x.Description) == "Flashtap collector of "+string(c), "its description is not the one we give"))
	}
	return nil
}

// The states of an endpoint that is on its way out, in lower case: EC2 spells them both ways.
const (
	endpointDeleting = "deleting"
	endpointDeleted  = "deleted"
)

func (s *sightings) endpoints(ctx context.Context) error {
	pages := ec2.NewDescribeVpcEndpointsPaginator(s.remover.EC2, &ec2.DescribeVpcEndpointsInput{Filters: s.tagFilter()})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("describe endpoints: %w", err)
		}
		for _, x := range page.VpcEndpoints {
			c, ok := s.ours(x.Tags)
			if !ok {
				continue
			}
			plan, err := s.plan(ctx, c)
			if err != nil {
				return err
			}
			planned := plan != nil && plan.Collector.Endpoint != nil
			s.add(KindEndpoint, aws.ToString(x.VpcEndpointId), strings.ToLower(string(x.State)), c,
				unless(planned, "no plan of its capture has an endpoint"),
				unless(!planned || plan.Collector.Endpoint.Service == aws.ToString(x.ServiceName), "it is not of the planned service"),
				unless(!planned || plan.Collector.VPC == aws.ToString(x.VpcId), "it is not in the planned VPC"))
		}
	}
	return nil
}

// securityGroups lists an endpoint's group before the collector's, which its rule names.
func (s *sightings) securityGroups(ctx context.Context) error {
	var later []func()
	pages := ec2.NewDescribeSecurityGroupsPaginator(s.remover.EC2, &ec2.DescribeSecurityGroupsInput{Filters: s.tagFilter()})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("describe security groups: %w", err)
		}
		for _, x := range page.SecurityGroups {
			c, ok := s.ours(x.Tags)
			if !ok {
				continue
			}
			plan, err := s.plan(ctx, c)
			if err != nil {
				return err
			}
			name, deployment := aws.ToString(x.GroupName), s.remover.Settings.Deployment
			ofEndpoint := name == events.EndpointGroupName(deployment, c)
			add := func() {
				s.add(KindSecurityGroup, aws.ToString(x.GroupId), "", c,
					unless(ofEndpoint || name == events.SecurityGroupName(deployment, c), "its name is not the planned one"),
					unless(plan == nil || plan.Collector.VPC == aws.ToString(x.VpcId), "it is not in the planned VPC"))
			}
			if ofEndpoint {
				add()
			} else {
				later = append(later, add)
			}
		}
	}
	for _, add := range later {
		add()
	}
	return nil
}

func (s *sightings) tagFilter() []types.Filter {
	filters := []types.Filter{describe.Filter("tag:"+events.TagDeployment, s.remover.Settings.Deployment)}
	if s.capture != "" {
		filters = append(filters, describe.Filter("tag:"+events.TagCapture, string(s.capture)))
	}
	return filters
}

// schedules have no tags of their own; the group is the deployment's, a guard names its capture in its input, and a
// session's schedule is named for the session, whose capture we know while the session or its record is there.
func (s *sightings) schedules(ctx context.Context) error {
	names, err := lease.Names(ctx, s.remover.Schedules, s.remover.Settings.ScheduleGroup, "")
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, "eni-") {
			l, err := lease.Read(ctx, s.remover.Schedules, s.remover.Settings.ScheduleGroup, name)
			if err != nil {
				return err
			}
			if l != nil && (s.capture == "" || s.capture == l.Capture) {
				s.add(KindGuard, name, "", l.Capture)
			}
			continue
		}
		c, err := s.captureOfSessionSchedule(ctx, name)
		if err != nil {
			return err
		}
		if c != "" && (s.capture == "" || s.capture == c) {
			s.add(KindSessionSchedule, name, "", c)
		}
	}
	return nil
}
