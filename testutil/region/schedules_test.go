package region_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"
	"github.com/aws/aws-sdk-go-v2/service/scheduler/types"

	"flashtap/testutil/region"
	regionec2 "flashtap/testutil/region/ec2"
	"flashtap/testutil/region/queue"
)

type schedules struct {
	*scheduler.Client
	t *testing.T
}

func newSchedules(t *testing.T, r *region.Region) schedules {
	return schedules{scheduler.NewFromConfig(client(r, "tester")), t}
}

// every makes a schedule with a rate, which fires at once and then again and again.
func (s schedules) every(name, rate, arn, input string) {
	s.t.Helper()
	_, err := s.CreateSchedule(s.t.Context(), &scheduler.CreateScheduleInput{
		Name: &name, ScheduleExpression: &rate, FlexibleTimeWindow: &types.FlexibleTimeWindow{Mode: types.FlexibleTimeWindowModeOff},
		Target: &types.Target{Arn: &arn, RoleArn: aws.String("arn:aws:iam::123456789012:role/scheduler"), Input: &input},
	})
	must(s.t, err)
}

// fire makes a one-time schedule that is due at once, and goes when it is through.
func (s schedules) fire(name, arn, input string, change ...func(*types.Target)) {
	s.t.Helper()
	target := &types.Target{Arn: &arn, RoleArn: aws.String("arn:aws:iam::123456789012:role/scheduler"), Input: &input,
		RetryPolicy: &types.RetryPolicy{MaximumRetryAttempts: aws.Int32(0)}}
	for _, c := range change {
		c(target)
	}
	_, err := s.CreateSchedule(s.t.Context(), &scheduler.CreateScheduleInput{
		Name: &name, ScheduleExpression: aws.String("at(" + time.Now().UTC().Add(-time.Second).Format("2006-01-02T15:04:05") + ")"),
		FlexibleTimeWindow:    &types.FlexibleTimeWindow{Mode: types.FlexibleTimeWindowModeOff},
		ActionAfterCompletion: types.ActionAfterCompletionDelete, Target: target,
	})
	must(s.t, err)
}

// through waits until a schedule has gone, which it does when its target has answered or was given up.
func (s schedules) through(name string) {
	s.t.Helper()
	eventually(s.t, "schedule "+name+" has gone", func() bool {
		_, err := s.GetSchedule(context.Background(), &scheduler.GetScheduleInput{Name: &name})
		return code(err) == "ResourceNotFoundException"
	})
}

func toLetters(t *types.Target) {
	t.DeadLetterConfig = &types.DeadLetterConfig{Arn: aws.String("arn:aws:sqs:us-east-1:123456789012:letters")}
	t.RetryPolicy = nil // AWS's own 185 attempts
}

func TestUniversalTargetDeletesASession(t *testing.T) {
	t.Parallel()
	r := start(t, region.Config{})
	ctx := t.Context()
	_, err := r.Queues.Create(queue.Queue{Name: "letters"})
	must(t, err)
	scene := place(r, "127.8.0.0/16", "127.8.1.0/24", "127.8.1.10")
	api := ec2.NewFromConfig(client(r, "tester"))
	session := scene.mirror(t, api)
	s := newSchedules(t, r)
	input := `{"TrafficMirrorSessionId": "` + session + `"}`

	s.fire("ends", "arn:aws:scheduler:::aws-sdk:ec2:deleteTrafficMirrorSession", input)
	eventually(t, "the session has gone", func() bool { return len(r.EC2.MirrorSessions()) == 0 })
	s.through("ends")
	_, err = api.DescribeTrafficMirrorSessions(ctx, &ec2.DescribeTrafficMirrorSessionsInput{TrafficMirrorSessionIds: []string{session}})
	if !strings.Contains(code(err), "NotFound") {
		t.Errorf("the session is still described: %v", err)
	}
	if !slices.ContainsFunc(r.EC2.Calls(), func(c regionec2.Record) bool {
		return c.Operation == "DeleteTrafficMirrorSession" && c.Principal == "scheduler" && c.Err == nil
	}) {
		t.Error("EC2 was not called by the scheduler")
	}

	// A refusal is final, and goes where the schedule says.
	s.fire("again", "arn:aws:scheduler:::aws-sdk:ec2:deleteTrafficMirrorSession", input, toLetters)
	s.through("again")
	messages, err := r.Queues.Messages("letters")
	must(t, err)
	if len(messages) != 1 || messages[0].Body != input || !strings.Contains(messages[0].Attributes["ERROR_CODE"].StringValue, "NotFound") {
		t.Errorf("dead letters: %+v", messages)
	}

	for _, row := range []struct{ name, operation, input string }{
		{"an unknown parameter", "deleteTrafficMirrorSession", `{"TrafficMirrorSessionId": "tms-0123456789abcdef0", "Colour": "red"}`},
		{"a missing parameter", "deleteTrafficMirrorSession", `{}`},
		{"an operation that does not exist", "deleteEverything", `{}`},
		{"a list, which is not played", "terminateInstances", `{"InstanceIds": ["i-0123456789abcdef0"]}`},
		{"no object", "deleteTrafficMirrorSession", `"tms"`},
	} {
		before := len(r.Violations())
		s.fire("odd", "arn:aws:scheduler:::aws-sdk:ec2:"+row.operation, row.input, toLetters)
		s.through("odd")
		if n := len(r.Violations()) - before; n != 1 {
			t.Errorf("%s: %d violations", row.name, n)
		}
	}
	var said []string
	for _, v := range violations(t, r, 5) {
		said = append(said, v.Error())
	}
	if list := said[3]; !strings.Contains(list, "InstanceIds: only strings, numbers and booleans") {
		t.Errorf("of a list it says: %s", list)
	}
}

func TestALambdaTargetFires(t *testing.T) {
	t.Parallel()
	r := start(t, region.Config{ScheduleSpeed: 600, LambdaRetryDelays: []time.Duration{time.Millisecond, time.Millisecond}})
	register(t, r, "worker")
	_, err := r.Queues.Create(queue.Queue{Name: "letters"})
	must(t, err)
	s := newSchedules(t, r)
	arn := "arn:aws:lambda:us-east-1:123456789012:function:worker"
	file := filepath.Join(r.Dir(), "fired")
	s.fire("once", arn, `{"do": "note", "file": "`+file+`", "schedule": "<aws.scheduler.schedule-arn>"}`)
	eventually(t, "the function has run", func() bool { return exists(file) })
	s.through("once")
	text, err := os.ReadFile(file)
	must(t, err)
	var got struct{ Schedule string }
	must(t, json.Unmarshal(text, &got))
	equal(t, "its input", got.Schedule, "arn:aws:scheduler:us-east-1:123456789012:schedule/default/once")

	// Scheduler hands over and looks no further: a function that fails is Lambda's to try again.
	tries := filepath.Join(r.Dir(), "tries")
	s.fire("fails", arn, `{"do": "fail", "file": "`+tries+`"}`, toLetters)
	s.through("fails")
	eventually(t, "Lambda has tried three times", func() bool {
		text, err := os.ReadFile(tries)
		return err == nil && strings.Count(string(text), "\n") == 3
	})
	s.fire("nobody", strings.Replace(arn, "worker", "nobody", 1), `{}`, toLetters)
	s.through("nobody")
	messages, err := r.Queues.Messages("letters")
	must(t, err)
	if len(messages) != 1 || messages[0].Attributes["ERROR_CODE"].StringValue != "ResourceNotFoundException" {
		t.Errorf("dead letters: %+v", messages)
	}

	// A rate schedule fires again and again, at the speed of this region: every half second.
	must(t, os.Remove(file))
	s.every("guard", "rate(5 minutes)", arn, `{"do": "note", "file": "`+file+`"}`)
	for range 2 {
		eventually(t, "the guard fires", func() bool { return exists(file) })
		must(t, os.Remove(file))
	}
}
