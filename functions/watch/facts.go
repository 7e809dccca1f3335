package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"

	"flashtap/events"
	"flashtap/functions/evidence"
	"flashtap/functions/internal/describe"
	"flashtap/functions/internal/service"
	"flashtap/functions/lease"
)

type watch struct {
	ec2       *ec2.Client
	services  service.Client
	schedules *scheduler.Client
	store     evidence.Store
	settings  events.Settings
}

// facts are what a look found out.
type facts struct {
	now        time.Time
	since      time.Time // when the phase began
	plan       events.Plan
	settings   events.Settings
	instance   *types.Instance    // the capture's collector; nil when EC2 shows none
	checkpoint *events.Checkpoint // the latest
	closed     *events.CollectorManifest
	session    *types.TrafficMirrorSession  // ours; nil when EC2 lists none
	sessions   []types.TrafficMirrorSession // all of the account
	lease      *lease.Lease                 // the guard's word on the deadline; nil when the guard is gone
}

// run looks and judges. In the proof phase it explains silence, in the drain phase it asks the collector to end.
func (w watch) run(ctx context.Context, in events.StepInput) (events.WatchResult, error) {
	f, err := w.look(ctx, in)
	if err != nil {
		return events.WatchResult{}, err
	}
	result, err := judge(in.Phase, f)
	if err != nil {
		return result, w.withConsole(ctx, f, err)
	}
	if result.Status == events.StatusSilent {
		if result, err = w.explainSilence(ctx, f, result); err != nil {
			return result, err
		}
	}
	slog.Info("looked", "capture", in.Capture, "phase", in.Phase, "status", result.Status, "reason", result.Reason,
		"packets", result.Packets, "bytes", result.Bytes, "lost", result.Lost, "segments", result.Segments, "cause", result.Cause)
	if in.Phase == events.PhaseDrain && result.Status == events.StatusWaiting {
		err = w.askToStop(ctx, f)
	}
	return result, err
}

func (w watch) look(ctx context.Context, in events.StepInput) (facts, error) {
	f := facts{now: time.Now(), since: in.Since, settings: w.settings}
	var err error
	if f.plan, err = w.store.Plan(ctx, in.Capture); err != nil {
		return f, err
	}
	if f.instance, err = w.collector(ctx, f.plan); err != nil {
		return f, err
	}
	if f.instance != nil {
		userID := events.UserID(f.plan.Collector.RoleID, aws.ToString(f.instance.InstanceId))
		if f.checkpoint, f.closed, err = w.progress(ctx, f.plan.Capture, userID); err != nil {
			return f, err
		}
	}
	if in.Phase == events.PhaseProof || in.Phase == events.PhaseWatch {
		if f.sessions, err = describe.Sessions(ctx, w.ec2); err != nil {
			return f, err
		}
		f.session = ours(f.sessions, f.plan)
		if f.lease, err = lease.Read(ctx, w.schedules, w.settings.ScheduleGroup, f.plan.Source.NetworkInterfaceID); err != nil {
			return f, err
		}
	}
	return f, nil
}

// collector is the capture's instance: a living one before one that has ended, and of several ended the youngest.
func (w watch) collector(ctx context.Context, plan events.Plan) (*types.Instance, error) {
	list, err := describe.Instances(ctx, w.ec2, describe.Filter("tag:"+events.TagCapture, string(plan.Capture)),
		describe.Filter("tag:"+events.TagDeployment, plan.Deployment))
	if err != nil {
		return nil, err
	}
	var best *types.Instance
	for i := range list {
		in := &list[i]
		if best == nil || alive(in) && !alive(best) || alive(in) == alive(best) && aws.ToTime(in.LaunchTime).After(aws.ToTime(best.LaunchTime)) {
			best = in
		}
	}
	return best, nil
}

func alive(in *types.Instance) bool {
	return in != nil && in.State != nil && (in.State.Name == types.InstanceStateNamePending || in.State.Name == types.InstanceStateNameRunning)
}

// progress is what the collector last said.
func (w watch) progress(ctx context.Context, c events.CaptureID, userID string) (*events.Checkpoint, *events.CollectorManifest, error) {
	list, err := w.store.List(ctx, events.CheckpointsPrefix(c, userID))
	if err != nil || len(list) == 0 {
		return nil, nil, err
	}
	body, err := w.store.Read(ctx, list[len(list)-1].Key)
	if err != nil {
		return nil, nil, err
	}
	var checkpoint events.Checkpoint
	if err := json.Unmarshal(body, &checkpoint); err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", list[len(list)-1].Key, err)
	}
	closed, err := w.store.Exists(ctx, events.CollectorManifestKey(c, userID))
	if err != nil || !closed {
		return &checkpoint, nil, err
	}
	var manifest events.CollectorManifest
	if err := w.store.ReadJSON(ctx, events.CollectorManifestKey(c, userID), &manifest); err != nil {
		return nil, nil, err
	}
	return &checkpoint, &manifest, nil
}

// ours is the session that bears the capture's tags.
func ours(list []types.TrafficMirrorSession, plan events.Plan) *types.TrafficMirrorSession {
	for i, s := range list {
		if describe.Tag(s.Tags, events.TagCapture) == string(plan.Capture) && describe.Tag(s.Tags, events.TagDeployment) == plan.Deployment {
			return &list[i]
		}
	}
	return nil
}

// askToStop puts the stop tag on the collector's instance, which reads it through its own metadata; nothing ever
// connects to a collector.
func (w watch) askToStop(ctx context.Context, f facts) error {
	if !alive(f.instance) || describe.Tag(f.instance.Tags, events.TagStop) != "" {
		return nil
	}
	id := aws.ToString(f.instance.InstanceId)
	if _, err := w.ec2.CreateTags(ctx, &ec2.CreateTagsInput{
		Resources: []string{id}, Tags: []types.Tag{{Key: aws.String(events.TagStop), Value: aws.String("drain")}},
	}); err != nil {
		return fmt.Errorf("ask collector %s to stop: %w", id, err)
	}
	return w.store.Record(ctx, events.CustodyEntry{Capture: f.plan.Capture, Actor: "watch", Act: "asked-to-stop-" + id, Resource: id})
}
