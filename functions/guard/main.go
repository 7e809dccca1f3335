// Command guard is the Lambda that makes the guard schedule before anything else is made: the end that does not depend
// on the state machine, and the lock that lets an interface be captured only once at a time.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"
	"github.com/aws/aws-sdk-go-v2/service/scheduler/types"

	"flashtap/events"
	"flashtap/functions/evidence"
	"flashtap/functions/internal/awserr"
	"flashtap/functions/internal/boot"
	"flashtap/functions/lease"
)

func main() {
	boot.Start("guard", []string{
		"FLASHTAP_DEPLOYMENT", "FLASHTAP_BUCKET", "FLASHTAP_SCHEDULE_GROUP", "FLASHTAP_SCHEDULE_ROLE_ARN", "FLASHTAP_TEARDOWN_ARN",
	}, func(cfg aws.Config, settings events.Settings) boot.Step[events.StepInput, events.GuardResult] {
		return guard{
			schedules: scheduler.NewFromConfig(cfg),
			store:     evidence.Store{API: s3.NewFromConfig(cfg), Bucket: settings.Bucket},
			settings:  settings,
		}.run
	})
}

type guard struct {
	schedules *scheduler.Client
	store     evidence.Store
	settings  events.Settings
}

// run takes the lock of the plan's source. Meeting the schedule of this very execution means that we ran before; meeting
// another's means to join its capture, or, when that one is over and only waits to be removed, to try again.
func (g guard) run(ctx context.Context, in events.StepInput) (events.GuardResult, error) {
	plan, err := g.store.Plan(ctx, in.Capture)
	if err != nil {
		return events.GuardResult{}, err
	}
	name := events.GuardScheduleName(plan.Source.NetworkInterfaceID)
	held := lease.Lease{Capture: plan.Capture, Deadline: plan.Deadline, Execution: in.Execution, By: events.ByGuard}
	input, err := json.Marshal(held)
	if err != nil {
		return events.GuardResult{}, err
	}
	made, err := g.schedules.CreateSchedule(ctx, &scheduler.CreateScheduleInput{
		Name: &name, GroupName: &g.settings.ScheduleGroup,
		Description:           aws.String("Flashtap: tears down what is left of " + string(plan.Capture)),
		ScheduleExpression:    aws.String("rate(5 minutes)"),
		StartDate:             aws.Time(plan.GuardAt()),
		FlexibleTimeWindow:    &types.FlexibleTimeWindow{Mode: types.FlexibleTimeWindowModeOff},
		ActionAfterCompletion: types.ActionAfterCompletionNone,
		ClientToken:           aws.String(events.ClientToken(plan.Capture, 1, "guard of "+in.Execution)),
		Target:                &types.Target{Arn: &g.settings.TeardownARN, RoleArn: &g.settings.ScheduleRoleARN, Input: aws.String(string(input))},
	})
	if err != nil && !awserr.IsExisting(err) {
		return events.GuardResult{}, fmt.Errorf("create guard schedule %s: %w", name, err)
	}
	if err != nil {
		there, err := lease.Read(ctx, g.schedules, g.settings.ScheduleGroup, plan.Source.NetworkInterfaceID)
		if err != nil {
			return events.GuardResult{}, err
		}
		if there == nil { // removed between the two calls: the next try gets it
			return events.GuardResult{}, boot.SourceBusy{Source: plan.Source.NetworkInterfaceID, Capture: "unknown"}
		}
		if there.Capture != plan.Capture || there.Execution != in.Execution {
			return g.join(ctx, plan, *there)
		}
	}
	call := ""
	if made != nil {
		call = evidence.RequestID(made.ResultMetadata)
	}
	slog.Info("guarded", "capture", plan.Capture, "eni", plan.Source.NetworkInterfaceID, "from", plan.GuardAt())
	return events.GuardResult{Held: true, JoinedTo: plan.Capture, Deadline: plan.Deadline}, g.store.Record(ctx, events.CustodyEntry{
		Capture: plan.Capture, Actor: "guard", Act: "guarded", Resource: g.settings.ScheduleGroup + "/" + name, RequestID: call,
		Detail: map[string]string{"from": plan.GuardAt().Format(time.RFC3339), "execution": in.Execution},
	})
}

// join leaves the source to the capture that holds it, and says so in the evidence of this one: it has a plan, and
// would otherwise look like a capture that vanished.
func (g guard) join(ctx context.Context, plan events.Plan, holder lease.Lease) (events.GuardResult, error) {
	if holder.Over(time.Now()) {
		return events.GuardResult{}, boot.SourceBusy{Source: plan.Source.NetworkInterfaceID, Capture: string(holder.Capture)}
	}
	slog.Info("joined", "capture", holder.Capture, "eni", plan.Source.NetworkInterfaceID)
	joined := events.GuardResult{JoinedTo: holder.Capture, Deadline: holder.Deadline}
	if holder.Capture == plan.Capture { // another execution of the same capture
		return joined, nil
	}
	return joined, g.store.Record(ctx, events.CustodyEntry{
		Capture: plan.Capture, Actor: "guard", Act: events.ActJoined, Resource: plan.Source.NetworkInterfaceID,
		Detail: map[string]string{"to": string(holder.Capture)},
	})
}
