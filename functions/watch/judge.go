package main

import (
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"flashtap/events"
	"flashtap/functions/internal/boot"
)

// judge turns facts into the word on which the state machine goes on. No I/O.
func judge(phase string, f facts) (events.WatchResult, error) {
	r := events.WatchResult{Status: events.StatusWaiting, WaitSeconds: f.wait()}
	if c := f.checkpoint; c != nil {
		r.Packets, r.Bytes, r.Lost, r.Segments = c.Tally.Written, c.Tally.WrittenBytes, c.Tally.Lost(), c.Segments
	}
	if m := f.closed; m != nil {
		r.Packets, r.Bytes, r.Lost, r.Segments = m.Tally.Written, m.Tally.WrittenBytes, m.Tally.Lost(), len(m.Segments)
	}
	switch phase {
	case events.PhaseReady:
		return ready(f, r)
	case events.PhaseProof:
		return proof(f, r), nil
	case events.PhaseWatch:
		return whileCapturing(f, r), nil
	case events.PhaseDrain:
		return drain(f, r), nil
	}
	return r, fmt.Errorf("watch knows no phase %q", phase)
}

// fastPhase is how long a phase is looked at often; a 24-hour capture looked at that often all along would overrun
// the 25,000 events of an execution's history (Step Functions Developer Guide, "Quotas").
const fastPhase = 5 * time.Minute

func (f facts) wait() int {
	if f.now.Sub(f.since) < fastPhase {
		return f.settings.PollSeconds
	}
	return f.settings.SlowPollSeconds
}

func (f facts) longerThan(seconds int) bool {
	return f.now.Sub(f.since) > time.Duration(seconds)*time.Second
}

func ready(f facts, r events.WatchResult) (events.WatchResult, error) {
	switch {
	case f.closed != nil:
		return r, boot.CollectorDied{Instance: f.instanceID(), Reason: "it ended before it was ready: " + f.closed.StopReason + " " + f.closed.Error}
	case f.checkpoint != nil && f.checkpoint.State == events.CollectorCapturing:
		r.Status, r.Reason = events.StatusReady, "the collector takes packets"
	case f.instance != nil && !alive(f.instance):
		return r, boot.CollectorDied{Instance: f.instanceID(), Reason: f.instanceState()}
	case f.longerThan(f.settings.ReadySeconds):
		return r, boot.CollectorNotReady{Instance: f.instanceID(), Reason: fmt.Sprintf(
			"no checkpoint within %d s; its state is %s", f.settings.ReadySeconds, f.instanceState())}
	default:
		r.Reason = "waiting for the collector's first checkpoint; its instance is " + f.instanceState()
	}
	return r, nil
}

func proof(f facts, r events.WatchResult) events.WatchResult {
	switch ended := f.ended(); {
	case r.Packets > 0:
		r.Status, r.Reason = events.StatusFlowing, "packets of the source are being written"
	case ended == timeIsOver: // the next phase says so; nobody else says why there was nothing
		r.Status, r.Reason = events.StatusSilent, "no packet until its time was over"
	case ended != "":
		r.Status, r.Reason = events.StatusOver, ended
	case f.longerThan(f.window()):
		r.Status, r.Reason = events.StatusSilent, fmt.Sprintf("no packet within %d s", f.window())
	default:
		r.Reason = "waiting for the first packet"
	}
	return r
}

// window is how many seconds packets have to arrive before their absence is explained: in a short capture half of its time, or
// it would end unexplained.
func (f facts) window() int {
	return max(1, min(f.settings.ProofSeconds, f.plan.Limits.DurationSeconds/2))
}

func whileCapturing(f facts, r events.WatchResult) events.WatchResult {
	if ended := f.ended(); ended != "" {
		r.Status, r.Reason = events.StatusOver, ended
		return r
	}
	left := min(f.until(), time.Duration(r.WaitSeconds)*time.Second)
	r.WaitSeconds = max(1, int((left+time.Second-1)/time.Second))
	r.Reason = "capturing"
	return r
}

// until is how long the capture still has.
func (f facts) until() time.Duration {
	end := f.since.Add(time.Duration(f.plan.Limits.DurationSeconds) * time.Second)
	if f.lease != nil && f.lease.Deadline.Before(end) {
		end = f.lease.Deadline
	}
	return end.Sub(f.now)
}

// silence is after how many missed checkpoints a collector counts as silent.
const silence = 8

// settling is how many looks a new session has until every part of EC2 must know it (EC2 API Reference, "Eventual
// consistency").
const settling = 2

const timeIsOver = "its time is over"

// ended says why a capture is over; "" while it goes on.
func (f facts) ended() string {
	interval := time.Duration(f.plan.Limits.CheckpointSeconds) * time.Second
	switch {
	case f.closed != nil:
		return "the collector has ended: " + f.closed.StopReason
	case f.checkpoint != nil && f.checkpoint.State != events.CollectorCapturing:
		return "the collector is " + f.checkpoint.State
	case !alive(f.instance):
		return "the collector's instance is " + f.instanceState()
	case f.session == nil && f.longerThan(settling*f.settings.PollSeconds):
		return "the mirror session is gone; AWS deletes it when the source interface is deleted"
	case f.lease == nil || f.lease.Capture != f.plan.Capture:
		return "the guard schedule is gone"
	case f.until() <= 0:
		return timeIsOver
	case f.checkpoint == nil || f.now.Sub(f.checkpoint.At) > silence*interval+time.Minute:
		return "the collector has been silent for too long"
	}
	return ""
}

func drain(f facts, r events.WatchResult) events.WatchResult {
	switch {
	case f.closed != nil:
		r.Status, r.Reason = events.StatusDrained, "the collector has closed: "+f.closed.StopReason
	case f.gone():
		r.Status, r.Reason = events.StatusOverdue, "the collector left no closing manifest; its instance is "+f.instanceState()
	case f.now.Sub(f.since) > f.plan.Limits.DrainTime():
		r.Status, r.Reason = events.StatusOverdue, "the collector did not close in time"
	default:
		r.Reason = "the collector is uploading what it holds"
	}
	return r
}

// gone says that the instance can't upload any more; one that is shutting down still may.
func (f facts) gone() bool {
	return f.instance == nil || !alive(f.instance) && f.instance.State != nil && f.instance.State.Name != types.InstanceStateNameShuttingDown
}

func (f facts) instanceID() string {
	if f.instance == nil {
		return "of " + string(f.plan.Capture)
	}
	return aws.ToString(f.instance.InstanceId)
}

func (f facts) instanceState() string {
	if f.instance == nil || f.instance.State == nil {
		return "not shown by EC2"
	}
	state := string(f.instance.State.Name)
	if f.instance.State.Name != types.InstanceStateNameRunning && f.instance.StateReason != nil {
		state += " (" + aws.ToString(f.instance.StateReason.Message) + ")"
	}
	return state
}
