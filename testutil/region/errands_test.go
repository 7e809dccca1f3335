package region_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	eventbridgetypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"

	"flashtap/testutil/region"
	regionec2 "flashtap/testutil/region/ec2"
	"flashtap/testutil/region/queue"
)

// What AWS knew of a resource when a call was made must be in the call's record, also when the call itself changes it.
func TestCallsRememberWhatWasKnown(t *testing.T) {
	t.Parallel()
	r := start(t, region.Config{})
	api := ec2.NewFromConfig(client(r, "tester"))
	filter := r.EC2.AddMirrorFilter(regionec2.MirrorFilter{Tags: map[string]string{"of": "demo"}})
	_, err := api.CreateTags(t.Context(), &ec2.CreateTagsInput{Resources: []string{filter}, Tags: []types.Tag{{Key: aws.String("of"), Value: aws.String("two")}}})
	must(t, err)
	_, err = api.DeleteTrafficMirrorFilter(t.Context(), &ec2.DeleteTrafficMirrorFilterInput{TrafficMirrorFilterId: &filter})
	must(t, err)
	var known []string
	for _, c := range r.Calls() {
		known = append(known, c.Operation+" "+c.Facts.Resources[filter].Tags["of"])
	}
	equal(t, "known", known, []string{"CreateTags demo", "DeleteTrafficMirrorFilter two"})
}

// Services act for others, too: for a rule, a schedule, a function that is fed, a state machine.
func TestErrandsAreRecorded(t *testing.T) {
	t.Parallel()
	r := start(t, region.Config{})
	register(t, r, "worker")
	_, err := r.Queues.Create(queue.Queue{Name: "intake", VisibilityTimeout: time.Minute})
	must(t, err)
	must(t, r.MapQueue("intake", 1, "worker"))
	r.CreateEventBus("own")
	must(t, r.Rule("to-queue", `{"source": ["us"]}`, r.ToQueue("intake", "")))
	must(t, r.RuleOn("own", "to-function", `{"source": ["us"]}`, r.ToFunction("worker")))
	_, err = r.Publish([]byte(`{"source": "us", "detail": {}}`))
	must(t, err)
	_, err = r.PublishOn("own", []byte(`{"source": "us", "detail": {}}`))
	must(t, err)
	_, err = r.Schedules.Handle("CreateSchedule", map[string]any{"Name": "once", "ScheduleExpression": "at(2020-01-01T00:00:00)", "FlexibleTimeWindow": map[string]any{"Mode": "OFF"},
		"Target": map[string]any{"Arn": "arn:aws:lambda:us-east-1:123456789012:function:worker", "RoleArn": "arn:aws:iam::123456789012:role/schedules", "Input": "{}"}})
	must(t, err)
	machine, err := r.CreateStateMachine("one", []byte(`{"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "arn:aws:states:::events:putEvents",
		"Parameters": {"Entries": [{"Source": "me", "DetailType": "T", "Detail": {}, "EventBusName": "own"}]}, "End": true}}}`), nil)
	must(t, err)
	_, err = r.StartExecution(machine, "x", []byte("{}"))
	must(t, err)
	want := []string{
		"events.amazonaws.com for rule/own/to-function: lambda.Invoke",
		"events.amazonaws.com for rule/to-queue: sqs.SendMessage",
		"role/schedules for schedule/default/once: lambda.Invoke",
		"stateMachine:one for stateMachine:one: events.PutEvents",
		"worker for : sqs.DeleteMessage", "worker for : sqs.GetQueueAttributes", "worker for : sqs.ReceiveMessage",
	}
	short := func(arn string) string {
		_, after, found := strings.Cut(arn, ":123456789012:")
		if !found {
			return arn
		}
		return after
	}
	var got []string
	eventually(t, "all errands are run", func() bool {
		got = nil
		for _, c := range r.Errands() {
			got = append(got, fmt.Sprintf("%s for %s: %s.%s", short(c.Principal), short(c.Source), c.Service, c.Operation))
		}
		slices.Sort(got)
		got = slices.Compact(got)
		return slices.Equal(got, want)
	})
}

func TestABusHasItsOwnRules(t *testing.T) {
	t.Parallel()
	r := start(t, region.Config{})
	r.CreateEventBus("own")
	nowhere := func(context.Context, []byte) error { return nil }
	must(t, r.Rule("on-default", `{"source": ["us"]}`, nowhere))
	must(t, r.RuleOn("own", "on-own", `{"source": ["us"]}`, nowhere))
	for bus, want := range map[string]string{"default": "on-default", "own": "on-own"} {
		matched, err := r.PublishOn(bus, []byte(`{"source": "us"}`))
		must(t, err)
		equal(t, bus, matched, []string{want})
	}
	if err := r.RuleOn("other", "x", `{"source": ["us"]}`, nowhere); err == nil {
		t.Error("a rule on a bus that is not there")
	}
	if _, err := r.PublishOn("other", []byte(`{}`)); err == nil {
		t.Error("an event on a bus that is not there")
	}
	out, err := eventbridge.NewFromConfig(client(r, "tester")).PutEvents(t.Context(), &eventbridge.PutEventsInput{Entries: []eventbridgetypes.PutEventsRequestEntry{
		{Source: aws.String("us"), DetailType: aws.String("T"), Detail: aws.String("{}"), EventBusName: aws.String("own")},
		{Source: aws.String("us"), DetailType: aws.String("T"), Detail: aws.String("{}"), EventBusName: aws.String("other")},
	}})
	must(t, err)
	equal(t, "failed", int(out.FailedEntryCount), 1)
}
