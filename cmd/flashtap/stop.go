package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"

	"flashtap/events"
	"flashtap/functions/evidence"
)

func stopCommand() command {
	return command{
		name: "stop", operands: "CAPTURE", least: 1, most: 1, remote: true,
		summary: "end one capture early, in good order",
		about: `Puts the tag ` + events.TagStop + ` on the collector's instance, once that is proven to be this capture's, and records
the act in the chain of custody. The collector reads its own tags: it takes no more packets, uploads what it holds, and
ends. Then the state machine removes everything and seals the evidence. Stopping twice does no harm.`,
		examples: []example{
			{"flashtap stop 20261122T030405Z-eni-0a1b2c3d4e5f60718", ""},
		},
		setup: func(t *tool, _ *flag.FlagSet) runner {
			return func(ctx context.Context, operands []string) error { return t.stop(ctx, operands[0]) }
		},
	}
}

// stopping is the answer of stop.
type stopping struct {
	Capture   events.CaptureID `json:"capture"`
	Result    string           `json:"result"` // asked, asked before, or over
	Instances []string         `json:"instances"`
	Next      string           `json:"next"` // what happens now
}

// The results of stop.
const (
	stopAsked  = "asked"
	stopBefore = "asked before"
	stopOver   = "over"
)

func (s stopping) text() string {
	var b strings.Builder
	switch s.Result {
	case stopOver:
		fmt.Fprintf(&b, "capture %s takes no packets any more: ", s.Capture)
	case stopBefore:
		fmt.Fprintf(&b, "collector %s was asked to stop before\n", strings.Join(s.Instances, ", "))
	default:
		fmt.Fprintf(&b, "collector %s is asked to stop\n", strings.Join(s.Instances, ", "))
	}
	fmt.Fprintf(&b, "%s\nsee how it stands:  flashtap status %s\n", s.Next, s.Capture)
	return b.String()
}

func (t *tool) stop(ctx context.Context, operand string) error {
	c, err := captureID(operand)
	if err != nil {
		return err
	}
	settings, err := t.settings("FLASHTAP_BUCKET", "FLASHTAP_DEPLOYMENT")
	if err != nil {
		return err
	}
	cfg, err := connect(ctx)
	if err != nil {
		return err
	}
	s := stopper{ec2: ec2.NewFromConfig(cfg), store: evidence.Store{API: s3.NewFromConfig(cfg), Bucket: settings.Bucket}, deployment: settings.Deployment}
	done, err := s.stop(ctx, c)
	if err != nil {
		return orAbsent(err, c, settings.Bucket)
	}
	return t.show(done)
}

type instanceTagger interface {
	ec2.DescribeInstancesAPIClient
	CreateTags(context.Context, *ec2.CreateTagsInput, ...func(*ec2.Options)) (*ec2.CreateTagsOutput, error)
}

// stopper ends captures of one deployment.
type stopper struct {
	ec2        instanceTagger
	store      evidence.Store
	deployment string
}

func (s stopper) stop(ctx context.Context, c events.CaptureID) (stopping, error) {
	done := stopping{Capture: c, Instances: []string{}}
	r, err := read(ctx, s.store, c, time.Now())
	if err != nil {
		return done, err
	}
	switch {
	case r.State == stateSealed:
		done.Result, done.Next = stopOver, "it is sealed, and nothing needs to be done"
		return done, nil
	case r.State == stateRefused:
		return done, refused("", "capture %s was refused, so there is nothing to stop: %s", c, r.Why)
	case r.Plan == nil:
		return done, problem{exitFailed, fmt.Errorf("capture %s has no collector yet", c), "try again in a minute"}
	case r.Plan.Deployment != s.deployment:
		return done, refused("give --deployment "+r.Plan.Deployment, "capture %s belongs to deployment %s, not to %s", c, r.Plan.Deployment, s.deployment)
	}
	living, err := s.living(ctx, c)
	if err != nil {
		return done, err
	}
	if len(living) == 0 {
		return s.nobody(ctx, done)
	}
	for _, in := range living {
		if doubt := foreign(in, *r.Plan); doubt != "" {
			return done, refused("look at it in the EC2 console: its tags say that it is ours", "instance %s is not provably the collector of %s: %s", aws.ToString(in.InstanceId), c, doubt)
		}
	}
	return s.ask(ctx, done, living, r.Plan.Limits)
}

// living are the instances that bear the tags of the capture and still take packets.
func (s stopper) living(ctx context.Context, c events.CaptureID) ([]types.Instance, error) {
	filter := func(name string, values ...string) types.Filter {
		return types.Filter{Name: aws.String(name), Values: values}
	}
	pages := ec2.NewDescribeInstancesPaginator(s.ec2, &ec2.DescribeInstancesInput{Filters: []types.Filter{
		filter("tag:"+events.TagCapture, string(c)), filter("tag:"+events.TagDeployment, s.deployment),
		filter("instance-state-name", string(types.InstanceStateNamePending), string(types.InstanceStateNameRunning)),
	}})
	var list []types.Instance
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("describe the collector of %s: %w", c, err)
		}
		for _, r := range page.Reservations {
			list = append(list, r.Instances...)
		}
	}
	return list, nil
}

// nobody tells a capture whose collector has ended from one whose collector was not launched yet.
func (s stopper) nobody(ctx context.Context, done stopping) (stopping, error) {
	users, err := collectors(ctx, s.store, done.Capture)
	if err != nil {
		return done, err
	}
	if len(users) == 0 {
		return done, problem{exitFailed, fmt.Errorf("capture %s has no collector yet", done.Capture), "try again in a minute"}
	}
	done.Result, done.Next = stopOver, "its collector has ended, and what is left is being removed"
	return done, nil
}

// templateTag is set by EC2 itself on an instance launched from a template; nobody else can set an aws: tag.
const templateTag = "aws:ec2launchtemplate:id"

// foreign says why an instance is not provably the planned collector; "" when it is. A tag alone proves nothing, for
// many may tag: template and instance profile must agree with the plan as well.
func foreign(in types.Instance, plan events.Plan) string {
	profile := ""
	if in.IamInstanceProfile != nil {
		profile = aws.ToString(in.IamInstanceProfile.Arn)
	}
	switch {
	case tagOf(in, events.TagCapture) != string(plan.Capture) || tagOf(in, events.TagDeployment) != plan.Deployment:
		return "its tags are not this capture's"
	case tagOf(in, templateTag) != plan.Collector.LaunchTemplateID:
		return "it was not launched from the planned template"
	case profile != plan.Collector.InstanceProfileARN:
		return "it does not have the planned instance profile"
	}
	return ""
}

func tagOf(in types.Instance, key string) string {
	for _, t := range in.Tags {
		if aws.ToString(t.Key) == key {
			return aws.ToString(t.Value)
		}
	}
	return ""
}

// ask puts the stop tag on the instances that lack it, and records that a person did.
func (s stopper) ask(ctx context.Context, done stopping, living []types.Instance, limits events.CaptureLimits) (stopping, error) {
	var fresh []string
	for _, in := range living {
		id := aws.ToString(in.InstanceId)
		done.Instances = append(done.Instances, id)
		if tagOf(in, events.TagStop) == "" {
			fresh = append(fresh, id)
		}
	}
	slices.Sort(done.Instances)
	done.Result = stopBefore
	done.Next = fmt.Sprintf("it sees the tag within %s, uploads what it holds within %s, and ends; then everything is removed and sealed",
		secondsText(limits.PollSeconds), secondsText(limits.DrainSeconds))
	if len(fresh) == 0 {
		return done, nil
	}
	done.Result = stopAsked
	out, err := s.ec2.CreateTags(ctx, &ec2.CreateTagsInput{Resources: fresh, Tags: []types.Tag{{Key: aws.String(events.TagStop), Value: aws.String("operator")}}})
	if err != nil {
		return done, fmt.Errorf("ask collector %s to stop: %w", strings.Join(fresh, ", "), err)
	}
	for _, id := range fresh {
		err = errors.Join(err, s.store.Record(ctx, events.CustodyEntry{
			Capture: done.Capture, Actor: "operator", Act: "asked-to-stop-" + id, Resource: id, RequestID: requestID(out.ResultMetadata),
			Detail: map[string]string{"tool": toolName()},
		}))
	}
	if err != nil {
		return done, problem{exitFailed, fmt.Errorf("collector %s is asked to stop, but the act could not be recorded in the chain of custody: %w", strings.Join(fresh, ", "), err),
			"note the time and who asked; CloudTrail has the CreateTags call"}
	}
	return done, nil
}

// requestID is what CloudTrail knows the call by, and with it the person who made it.
func requestID(m middleware.Metadata) string {
	id, _ := awsmiddleware.GetRequestIDMetadata(m)
	return id
}
