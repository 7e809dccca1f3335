package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"flashtap/events"
	"flashtap/functions/internal/boot"
	"flashtap/functions/lease"
)

const capture = events.CaptureID("20261122T030405Z-eni-0a0a0a0a0a0a0a0a0")

// running are the facts of a capture that has been going well for two minutes.
func running() facts {
	now := time.Date(2026, 11, 22, 3, 10, 0, 0, time.UTC)
	settings := events.DefaultSettings()
	plan := events.Plan{Capture: capture, Limits: events.CaptureLimits{DurationSeconds: 900, DrainSeconds: 120, PollSeconds: 5, CheckpointSeconds: 15}}
	return facts{
		now: now, since: now.Add(-2 * time.Minute), plan: plan, settings: settings, session: &types.TrafficMirrorSession{},
		instance: &types.Instance{InstanceId: aws.String("i-1"), State: &types.InstanceState{Name: types.InstanceStateNameRunning}},
		checkpoint: &events.Checkpoint{Seq: 9, At: now.Add(-5 * time.Second), State: events.CollectorCapturing, Segments: 3,
			Tally: events.Tally{Received: 80, Written: 70, WrittenBytes: 7000, Unwritten: 4, SocketDropped: 6, Rejected: events.Rejected{Malformed: 6}}},
		lease: &lease.Lease{Capture: capture, Deadline: now.Add(20 * time.Minute)},
	}
}

func state(f *facts, name types.InstanceStateName) { f.instance.State.Name = name }

func TestJudge(t *testing.T) {
	ended := func(f *facts) {
		f.closed = &events.CollectorManifest{StopReason: events.StopByteCap, Segments: make([]events.Segment, 4), Tally: events.Tally{Written: 99, WrittenBytes: 9900}}
	}
	silentFor := func(d time.Duration) func(*facts) {
		return func(f *facts) { f.checkpoint.At = f.now.Add(-d) }
	}
	noPackets := func(f *facts) { f.checkpoint.Tally = events.Tally{} }
	began := func(ago time.Duration) func(*facts) {
		return func(f *facts) { f.since = f.now.Add(-ago) }
	}
	all := func(changes ...func(*facts)) func(*facts) {
		return func(f *facts) {
			for _, c := range changes {
				c(f)
			}
		}
	}
	for name, row := range map[string]struct {
		phase  string
		change func(*facts)
		status string
		wait   int // 0: not checked
		says   string
	}{
		"ready: it takes packets":                    {events.PhaseReady, func(*facts) {}, events.StatusReady, 0, "takes packets"},
		"ready: no checkpoint yet":                   {events.PhaseReady, func(f *facts) { f.checkpoint = nil }, events.StatusWaiting, 15, "running"},
		"ready: still booting":                       {events.PhaseReady, func(f *facts) { f.checkpoint = nil; state(f, "pending") }, events.StatusWaiting, 15, "pending"},
		"ready: EC2 does not show the instance yet":  {events.PhaseReady, func(f *facts) { f.checkpoint, f.instance = nil, nil }, events.StatusWaiting, 15, "not shown"},
		"ready: a checkpoint, but of draining":       {events.PhaseReady, func(f *facts) { f.checkpoint.State = events.CollectorDraining }, events.StatusWaiting, 15, ""},
		"ready: just in time":                        {events.PhaseReady, all(began(300*time.Second), func(f *facts) { f.checkpoint = nil }), events.StatusWaiting, 60, ""},
		"proof: packets":                             {events.PhaseProof, func(*facts) {}, events.StatusFlowing, 0, "written"},
		"proof: none yet":                            {events.PhaseProof, all(noPackets, began(time.Second)), events.StatusWaiting, 15, "first packet"},
		"proof: none in time":                        {events.PhaseProof, all(noPackets, began(121*time.Second)), events.StatusSilent, 0, "120 s"},
		"proof: none in half of a short capture":     {events.PhaseProof, all(noPackets, began(16*time.Second), func(f *facts) { f.plan.Limits.DurationSeconds = 30 }), events.StatusSilent, 0, "15 s"},
		"proof: a short capture has begun":           {events.PhaseProof, all(noPackets, began(14*time.Second), func(f *facts) { f.plan.Limits.DurationSeconds = 30 }), events.StatusWaiting, 0, "first packet"},
		"proof: rejected datagrams are no packets":   {events.PhaseProof, all(noPackets, began(time.Second), func(f *facts) { f.checkpoint.Tally.Rejected.ForeignSource = 50 }), events.StatusWaiting, 0, ""},
		"proof: packets, and over already":           {events.PhaseProof, ended, events.StatusFlowing, 0, ""},
		"proof: its time is over without a packet":   {events.PhaseProof, all(noPackets, began(30*time.Second), func(f *facts) { f.plan.Limits.DurationSeconds = 30 }), events.StatusSilent, 0, "until its time was over"},
		"proof: over without a packet":               {events.PhaseProof, all(noPackets, func(f *facts) { state(f, "terminated") }), events.StatusOver, 0, "terminated"},
		"proof: EC2 does not list the session yet":   {events.PhaseProof, all(noPackets, began(time.Second), func(f *facts) { f.session = nil }), events.StatusWaiting, 15, "first packet"},
		"proof: the session is gone":                 {events.PhaseProof, all(noPackets, func(f *facts) { f.session = nil }), events.StatusOver, 0, "session is gone"},
		"watch: goes on, looked at often":            {events.PhaseWatch, func(*facts) {}, events.StatusWaiting, 15, "capturing"},
		"watch: after five minutes less often":       {events.PhaseWatch, began(5 * time.Minute), events.StatusWaiting, 60, "capturing"},
		"watch: near the end, no longer than it has": {events.PhaseWatch, began(900*time.Second - 7500*time.Millisecond), events.StatusWaiting, 8, "capturing"},
		"watch: a moment before the end":             {events.PhaseWatch, began(900*time.Second - time.Millisecond), events.StatusWaiting, 1, "capturing"},
		"watch: its time is over":                    {events.PhaseWatch, began(900 * time.Second), events.StatusOver, 0, "time is over"},
		"watch: the guard's deadline is sooner":      {events.PhaseWatch, func(f *facts) { f.lease.Deadline = f.now.Add(3 * time.Second) }, events.StatusWaiting, 3, "capturing"},
		"watch: the guard's deadline is over":        {events.PhaseWatch, func(f *facts) { f.lease.Deadline = f.now }, events.StatusOver, 0, "time is over"},
		"watch: the guard is gone":                   {events.PhaseWatch, func(f *facts) { f.lease = nil }, events.StatusOver, 0, "guard schedule is gone"},
		"watch: the lock is another's":               {events.PhaseWatch, func(f *facts) { f.lease.Capture = "20261122T040000Z-eni-0a0a0a0a0a0a0a0a0" }, events.StatusOver, 0, "guard schedule is gone"},
		"watch: EC2 does not list the session yet":   {events.PhaseWatch, all(began(20*time.Second), func(f *facts) { f.session = nil }), events.StatusWaiting, 0, "capturing"},
		"watch: the session is gone":                 {events.PhaseWatch, func(f *facts) { f.session = nil }, events.StatusOver, 0, "session is gone"},
		"watch: the collector is draining":           {events.PhaseWatch, func(f *facts) { f.checkpoint.State = events.CollectorDraining }, events.StatusOver, 0, "draining"},
		"watch: the collector has ended":             {events.PhaseWatch, ended, events.StatusOver, 0, "byte-cap"},
		"watch: the instance is shutting down":       {events.PhaseWatch, func(f *facts) { state(f, "shutting-down") }, events.StatusOver, 0, "shutting-down"},
		"watch: the instance is stopped":             {events.PhaseWatch, func(f *facts) { state(f, "stopped") }, events.StatusOver, 0, "stopped"},
		"watch: the instance is gone":                {events.PhaseWatch, func(f *facts) { f.instance = nil }, events.StatusOver, 0, "not shown"},
		"watch: a checkpoint is late":                {events.PhaseWatch, silentFor(3 * time.Minute), events.StatusWaiting, 15, "capturing"},
		"watch: eight checkpoints and a minute late": {events.PhaseWatch, silentFor(3*time.Minute + time.Second), events.StatusOver, 0, "silent"},
		"watch: no checkpoint at all":                {events.PhaseWatch, func(f *facts) { f.checkpoint = nil }, events.StatusOver, 0, "silent"},
		"drain: uploading":                           {events.PhaseDrain, func(*facts) {}, events.StatusWaiting, 15, "uploading"},
		"drain: closed":                              {events.PhaseDrain, ended, events.StatusDrained, 0, "byte-cap"},
		"drain: closed and terminated":               {events.PhaseDrain, all(ended, func(f *facts) { state(f, "terminated") }), events.StatusDrained, 0, "byte-cap"},
		"drain: shutting down, it may still upload":  {events.PhaseDrain, func(f *facts) { state(f, "shutting-down") }, events.StatusWaiting, 0, ""},
		"drain: terminated without a last word":      {events.PhaseDrain, func(f *facts) { state(f, "terminated") }, events.StatusOverdue, 0, "no closing manifest"},
		"drain: gone without a last word":            {events.PhaseDrain, func(f *facts) { f.instance = nil }, events.StatusOverdue, 0, "no closing manifest"},
		"drain: its last moment":                     {events.PhaseDrain, began(140 * time.Second), events.StatusWaiting, 0, ""},
		"drain: not in time":                         {events.PhaseDrain, began(141 * time.Second), events.StatusOverdue, 0, "in time"},
	} {
		f := running()
		row.change(&f)
		r, err := judge(row.phase, f)
		if err != nil || r.Status != row.status || !strings.Contains(r.Reason, row.says) {
			t.Errorf("%s: %+v, %v; want %s that says %q", name, r, err, row.status, row.says)
		}
		if row.wait != 0 && r.WaitSeconds != row.wait {
			t.Errorf("%s: waits %d s, want %d", name, r.WaitSeconds, row.wait)
		}
		if r.Status == events.StatusWaiting && r.WaitSeconds < 1 {
			t.Errorf("%s: looks again at once, without end", name)
		}
	}
}

func TestJudgeErrors(t *testing.T) {
	var died boot.CollectorDied
	var notReady boot.CollectorNotReady
	for name, row := range map[string]struct {
		phase  string
		change func(*facts)
		want   any
		says   string
	}{
		"it closed before it was ready": {events.PhaseReady, func(f *facts) {
			f.closed = &events.CollectorManifest{StopReason: events.StopFailed, Error: "no socket"}
		}, &died, "no socket"},
		"it was terminated before it was ready": {events.PhaseReady, func(f *facts) {
			f.checkpoint = nil
			f.instance.State.Name, f.instance.StateReason = "terminated", &types.StateReason{Message: aws.String("Server.SpotInstanceShutdown")}
		}, &died, "SpotInstanceShutdown"},
		"it did not come up in time": {events.PhaseReady, func(f *facts) {
			f.checkpoint, f.since = nil, f.now.Add(-301*time.Second)
		}, &notReady, "300 s"},
		"a phase that nobody knows": {"lunch", func(*facts) {}, nil, `"lunch"`},
	} {
		f := running()
		row.change(&f)
		_, err := judge(row.phase, f)
		if err == nil || !strings.Contains(err.Error(), row.says) || row.want != nil && !errors.As(err, row.want) {
			t.Errorf("%s: %v, want %T that says %q", name, err, row.want, row.says)
		}
	}
}

// TestJudgeCounts: the counts are of the last word there is.
func TestJudgeCounts(t *testing.T) {
	f := running()
	r, err := judge(events.PhaseWatch, f)
	if err != nil || r.Packets != 70 || r.Bytes != 7000 || r.Lost != 10 || r.Segments != 3 {
		t.Errorf("by the checkpoint: %+v, %v", r, err)
	}
	f.closed = &events.CollectorManifest{Segments: make([]events.Segment, 4), Tally: events.Tally{Written: 99, WrittenBytes: 9900}}
	if r, err = judge(events.PhaseDrain, f); err != nil || r.Packets != 99 || r.Bytes != 9900 || r.Lost != 0 || r.Segments != 4 {
		t.Errorf("by the closing manifest: %+v, %v", r, err)
	}
	f.checkpoint, f.closed = nil, nil
	if r, err = judge(events.PhaseDrain, f); err != nil || r.Packets != 0 {
		t.Errorf("by nothing: %+v, %v", r, err)
	}
}

// TestLooksOfTheLongestCapture: a look is a task, a choice and a wait, nine events of an execution's history, which
// holds 25,000 (Step Functions Developer Guide, "Quotas"); the rest of a capture must fit as well.
func TestLooksOfTheLongestCapture(t *testing.T) {
	f := running()
	f.plan.Limits.DurationSeconds = int(events.MaxDuration / time.Second)
	f.since = f.now
	f.lease.Deadline = f.now.Add(events.MaxDuration + time.Hour)
	looks := 0
	for {
		f.checkpoint.At = f.now
		r, err := judge(events.PhaseWatch, f)
		if err != nil {
			t.Fatal(err)
		}
		looks++
		if r.Status == events.StatusOver {
			break
		}
		if looks > 10000 {
			t.Fatal("no end in sight")
		}
		f.now = f.now.Add(time.Duration(r.WaitSeconds) * time.Second)
	}
	if events := looks * 9; events > 15000 {
		t.Errorf("%d looks are %d events", looks, events)
	}
}
