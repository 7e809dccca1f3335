package survey

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"golang.org/x/sync/errgroup"

	"flashtap/functions/internal/awserr"
	"flashtap/functions/internal/describe"
	"flashtap/functions/internal/service"
	"flashtap/functions/plan"
)

// patience is how long is waited for what a plan can do without: a service that can't be reached at all would answer nothing.
const patience = 15 * time.Second

// without asks for what a plan can do without. No failure of it fails the survey: the plan says what could not be checked. The
// returned function is to be called when the survey is over.
func (s Surveyor) without(ctx context.Context, g *errgroup.Group, f *plan.Facts) context.CancelFunc {
	ctx, cancel := context.WithTimeout(ctx, patience)
	g.Go(func() error { s.offered(ctx, f); return nil })
	g.Go(func() error { s.metrics(ctx, f); return nil })
	g.Go(func() error { f.VCPUQuota = s.quota(ctx, "ec2", standardVCPUs); return nil })
	g.Go(func() error { f.GroupQuota = s.quota(ctx, "vpc", groupsPerRegion); return nil })
	g.Go(func() error { f.BucketKey = s.key(ctx, s.settings.BucketKeyARN); return nil })
	g.Go(func() error { f.VolumeKey = s.key(ctx, s.settings.VolumeKeyARN); return nil })
	g.Go(func() error { f.Rights = s.rights(ctx, f.Interface); return nil })
	return cancel
}

// answered turns a call's outcome into an answer. Of an error the code says enough for the plan; where it has none, all of it.
func answered[T any](value T, err error) plan.Answer[T] {
	if err == nil {
		return plan.Known(value)
	}
	if code := awserr.Code(err); code != "" {
		return plan.Answer[T]{Why: code}
	}
	return plan.Answer[T]{Why: err.Error()}
}

// types describes the suspect's type and those that the collector may have. A type that the Region does not know would fail the
// call by name, and a filter just leaves it out.
func (s Surveyor) types(ctx context.Context, f *plan.Facts) {
	names := append([]string{}, s.settings.InstanceTypes...)
	if f.Instance != nil {
		names = append(names, string(f.Instance.InstanceType))
	}
	pages := ec2.NewDescribeInstanceTypesPaginator(s.ec2, &ec2.DescribeInstanceTypesInput{
		Filters: []types.Filter{{Name: aws.String("instance-type"), Values: names}}, MaxResults: aws.Int32(100)})
	var list []types.InstanceTypeInfo
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			f.Types = answered(list, err)
			return
		}
		list = append(list, page.InstanceTypes...)
	}
	f.Types = plan.Known(list)
}

func (s Surveyor) offered(ctx context.Context, f *plan.Facts) {
	pages := ec2.NewDescribeInstanceTypeOfferingsPaginator(s.ec2, &ec2.DescribeInstanceTypeOfferingsInput{
		LocationType: types.LocationTypeAvailabilityZone,
		Filters: []types.Filter{
			describe.Filter("location", aws.ToString(f.Interface.AvailabilityZone)),
			{Name: aws.String("instance-type"), Values: s.settings.InstanceTypes},
		}, MaxResults: aws.Int32(1000)})
	var list []string
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			f.Offered = answered(list, err)
			return
		}
		for _, o := range page.InstanceTypeOfferings {
			list = append(list, string(o.InstanceType))
		}
	}
	f.Offered = plan.Known(list)
}

// The codes of the quotas that a capture takes from (Service Quotas console, "Amazon EC2" and "Amazon VPC").
const (
	standardVCPUs   = "L-1216C47A" // Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances
	groupsPerRegion = "L-E79EC296" // VPC security groups per Region
)

func (s Surveyor) quota(ctx context.Context, of, code string) plan.Answer[float64] {
	s.calls.Add(1)
	value, err := s.services.Quota(ctx, of, code)
	return answered(value, err)
}

// key describes a KMS key; none is asked for when the deployment names none.
func (s Surveyor) key(ctx context.Context, arn string) plan.Answer[plan.Key] {
	if arn == "" {
		return plan.Answer[plan.Key]{}
	}
	s.calls.Add(1)
	k, err := s.services.Key(ctx, arn)
	return answered(plan.Key{ARN: k.ARN, State: k.State, Usage: k.Usage, Deleted: k.Deletion.UTC()}, err)
}

// What CloudWatch is asked about: an hour, in the periods of basic monitoring (EC2 User Guide, "CloudWatch metrics that are
// available for your instances").
const (
	lookBack = time.Hour
	period   = 5 * time.Minute
)

// metrics asks for the suspect's load and the account's vCPUs in one call.
func (s Surveyor) metrics(ctx context.Context, f *plan.Facts) {
	to := f.Now
	from := to.Add(-lookBack)
	asked := []service.Metric{{ID: "vcpus", Namespace: "AWS/Usage", Name: "ResourceCount", Stat: "Maximum", Period: period, Dimensions: map[string]string{
		"Service": "EC2", "Type": "Resource", "Resource": "vCPU", "Class": "Standard/OnDemand"}}}
	instance := ""
	if a := f.Interface.Attachment; a != nil {
		instance = aws.ToString(a.InstanceId)
	}
	for id, name := range map[string]string{"in": "NetworkIn", "out": "NetworkOut"} {
		if instance != "" {
			asked = append(asked, service.Metric{ID: id, Namespace: "AWS/EC2", Name: name, Stat: "Sum", Period: period, Dimensions: map[string]string{"InstanceId": instance}})
		}
	}
	s.calls.Add(1)
	points, err := s.services.Metrics(ctx, asked, from, to)
	if err != nil {
		f.Load, f.UsedVCPUs = answered(plan.Load{}, err), answered(0.0, err)
		return
	}
	f.UsedVCPUs = plan.Answer[float64]{Why: "CloudWatch has no AWS/Usage of vCPUs"}
	if v := points["vcpus"]; len(v) > 0 {
		f.UsedVCPUs = plan.Known(v[len(v)-1].Value)
	}
	if instance == "" {
		f.Load = plan.Answer[plan.Load]{Why: "the interface is attached to no instance of this account"}
		return
	}
	load := plan.Load{From: from, To: to}
	out := map[time.Time]float64{}
	for _, p := range points["out"] {
		out[p.At] = p.Value
	}
	for _, p := range points["in"] {
		load.Periods = append(load.Periods, plan.Period{At: p.At, Seconds: int(period / time.Second), In: p.Value, Out: out[p.At]})
	}
	f.Load = plan.Known(load)
}

// mostCalls is how many calls one survey makes, the reading of a plan that is there already included.
const mostCalls = 25

// rights asks IAM what the deployment's roles may do. A role about which it does not answer leaves the others' answers as they are.
func (s Surveyor) rights(ctx context.Context, ni types.NetworkInterface) plan.Answer[[]plan.Decision] {
	simulations := plan.Simulations(s.settings, ni)
	if len(simulations) == 0 {
		return plan.Answer[[]plan.Decision]{Why: "the deployment names no roles"}
	}
	answers, failures := make([][]plan.Decision, len(simulations)), make([]error, len(simulations))
	var work sync.WaitGroup
	for i, sim := range simulations {
		work.Go(func() {
			answers[i], failures[i] = s.simulate(ctx, sim)
			// IAM judges together only actions that need the same kind of information: "Invalid Input Actions: [...] and [...] require
			// different authorization information". Which those are is not documented.
			if awserr.Code(failures[i]) == "InvalidInput" && s.Calls() < mostCalls-1 {
				answers[i], failures[i] = s.simulate(ctx, sim.Chief())
			}
		})
	}
	work.Wait()
	all := slices.Concat(answers...)
	if len(all) > 0 {
		return plan.Known(all)
	}
	return answered(all, errors.Join(failures...))
}

func (s Surveyor) simulate(ctx context.Context, sim plan.Simulation) ([]plan.Decision, error) {
	s.calls.Add(1)
	list, err := s.services.Simulate(ctx, service.Simulation{Principal: sim.Role, Actions: sim.Actions(), Resources: sim.Resources(), Context: sim.Context})
	var decisions []plan.Decision
	for _, right := range sim.Rights {
		for _, d := range list {
			if d.Action == right.Action && d.Resource == right.Resource {
				decisions = append(decisions, plan.Decision{Step: sim.Step, Role: sim.Role, Action: d.Action, Resource: d.Resource,
					Decision: d.Decision, Organizations: d.Organizations, Boundary: d.Boundary, Missing: d.Missing})
			}
		}
	}
	return decisions, err
}
