package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"flashtap/events"
	"flashtap/functions/evidence"
	"flashtap/functions/internal/awserr"
	"flashtap/functions/lease"
	"flashtap/functions/remove"
)

type sweep struct {
	remover   remove.Remover
	store     evidence.Store
	sealer    evidence.Sealer
	metrics   evidence.Metrics
	schedules *scheduler.Client
	queues    *sqs.Client
	bus       *eventbridge.Client
	machines  *sfn.Client
	settings  events.Settings

	// settled are captures to which there was nothing to add, with the number of their objects. Each program that Lambda starts
	// finds out anew.
	settled map[events.CaptureID]int
}

// trigger is what woke the sweep: nothing in particular (its own schedule), or an execution that ended.
type trigger struct {
	DetailType string `json:"detail-type"`
	Detail     struct {
		Status string `json:"status"`
		Name   string `json:"name"`
	} `json:"detail"`
}

// ended is the name of the execution that ended without tearing down by itself; "" otherwise.
func (t trigger) ended() string {
	if t.DetailType == "Step Functions Execution Status Change" && slices.Contains([]string{"FAILED", "TIMED_OUT", "ABORTED"}, t.Detail.Status) {
		return t.Detail.Name
	}
	return ""
}

// report is what the sweep did.
type report struct {
	Orphans   []events.CaptureID `json:"orphans"`   // captures of which something was removed, or is still to go
	Remaining int                `json:"remaining"` // things of theirs that are still there
	Refused   []events.Resource  `json:"refused"`   // bear our tags but are not provably ours
	Sealed    []events.CaptureID `json:"sealed"`
	Amended   []events.CaptureID `json:"amended"`  // sealed ones to which something was added
	Admitted  int                `json:"admitted"` // waiting findings that got a place
	Expired   int                `json:"expired"`  // waiting findings that waited too long
	Oldest    int                `json:"oldest"`   // age in seconds of the capture whose things were the oldest there; 0: nothing was there
}

// run does its duties, each even when another fails.
func (s sweep) run(ctx context.Context, t trigger) (report, error) {
	var r report
	dead, err := s.orphans(ctx, t.ended(), &r)
	errs := []error{err}
	errs = append(errs, s.admit(ctx, &r), s.seal(ctx, dead, &r), s.amend(ctx, &r)) // who waits does not wait for a long seal
	slog.Info("swept", "orphans", len(r.Orphans), "remaining", r.Remaining, "refused", len(r.Refused), "sealed", len(r.Sealed),
		"amended", len(r.Amended), "admitted", r.Admitted, "expired", r.Expired, "oldest", r.Oldest)
	return r, errors.Join(errs...)
}

// orphans removes what belongs to captures that are over: a tagged thing whose capture has no guard schedule, or a
// past one, or one whose execution does not run any more. It returns the captures whose execution has ended.
func (s sweep) orphans(ctx context.Context, execution string, r *report) (map[events.CaptureID]bool, error) {
	items, err := s.remover.Inventory(ctx, "")
	if err != nil {
		return nil, err
	}
	r.Oldest = int(oldest(items, time.Now()).Seconds())
	leases, err := lease.All(ctx, s.schedules, s.settings.ScheduleGroup)
	if err != nil {
		return nil, err
	}
	dead := map[events.CaptureID]bool{}
	if c := events.CaptureID(execution); c.Validate() == nil {
		dead[c] = true
	}
	living := map[events.CaptureID]bool{}
	for _, l := range leases {
		running, err := s.running(ctx, l.Execution)
		if err != nil {
			return nil, err
		}
		if !running || l.Execution == execution {
			dead[l.Capture] = true
		}
		// The guard itself begins after the drain; until then the state machine may still be at it.
		drain := events.CaptureLimits{DrainSeconds: s.settings.DrainSeconds, PollSeconds: s.settings.CollectorPollSeconds,
			CheckpointSeconds: s.settings.CheckpointSeconds}.DrainTime()
		living[l.Capture] = !l.Over(time.Now().Add(-drain)) && !dead[l.Capture]
	}
	var orphans []events.CaptureID
	for _, item := range items {
		if !living[item.Capture] && !slices.Contains(orphans, item.Capture) && !onlyTerminated(items, item.Capture) {
			orphans = append(orphans, item.Capture)
		}
	}
	var errs []error
	for _, c := range orphans {
		cert, key, err := s.remover.Pass(ctx, c, events.BySweep, "")
		if err != nil {
			errs = append(errs, err)
			continue
		}
		r.Orphans = append(r.Orphans, c)
		r.Remaining += len(cert.Remaining)
		r.Refused = append(r.Refused, cert.Refused...)
		if len(cert.Refused) > 0 {
			errs = append(errs, s.publish(ctx, events.EventLeaking, map[string]any{"capture": c, "refused": cert.Refused, "certificate": key}))
		}
	}
	return dead, errors.Join(errs...)
}

// oldest is the age of the capture that began first of those that have anything. Of a tag that names no capture no age is
// known; it is refused anyway.
func oldest(items []remove.Item, now time.Time) time.Duration {
	var age time.Duration
	for _, item := range items {
		if start, err := item.Capture.Start(); err == nil && !item.Gone() {
			age = max(age, now.Sub(start))
		}
	}
	return age
}

// running asks Step Functions whether an execution still runs: the event of its end may be lost, and one pass after it
// rarely suffices.
func (s sweep) running(ctx context.Context, execution string) (bool, error) {
	arn := strings.Replace(s.settings.StateMachineARN, ":stateMachine:", ":execution:", 1) + ":" + execution
	out, err := s.machines.DescribeExecution(ctx, &sfn.DescribeExecutionInput{ExecutionArn: &arn})
	if awserr.Code(err) == "ExecutionDoesNotExist" {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("describe execution %s: %w", execution, err)
	}
	return out.Status == sfntypes.ExecutionStatusRunning, nil
}

// onlyTerminated says that EC2 merely still shows terminated instances of the capture, which is nothing to remove.
func onlyTerminated(items []remove.Item, c events.CaptureID) bool {
	for _, item := range items {
		if item.Capture == c && !item.Gone() {
			return false
		}
	}
	return true
}

// sealWithin is how far back the sweep looks for captures that are not sealed, or not signed.
const sealWithin = 7 * 24 * time.Hour

// seal closes captures that nobody closed: planned, over, and with nothing left of them.
func (s sweep) seal(ctx context.Context, dead map[events.CaptureID]bool, r *report) error {
	captures, err := s.store.Captures(ctx, time.Now().Add(-sealWithin))
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range captures {
		sealed, err := s.sealed(ctx, c)
		if err != nil || sealed {
			errs = append(errs, err)
			continue
		}
		plan, err := s.store.Plan(ctx, c)
		if errors.Is(err, fs.ErrNotExist) {
			continue // refused before it was planned: there is no evidence to seal
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if !plan.Go || !dead[c] && time.Now().Before(plan.GuardAt()) {
			continue
		}
		joined, err := s.store.Exists(ctx, events.CustodyKey(c, "guard", events.ActJoined))
		if err != nil || joined { // nothing was made for it; its finding is with the capture that held the source
			errs = append(errs, err)
			continue
		}
		items, err := s.remover.Inventory(ctx, c)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if slices.ContainsFunc(items, func(i remove.Item) bool { return !i.Gone() }) {
			continue // the next sweep finds it empty
		}
		result, err := s.sealer.Seal(ctx, c, &events.Failure{Error: "SealedBySweep", Cause: "its execution ended before it could seal"})
		if err != nil {
			errs = append(errs, err)
			continue
		}
		r.Sealed = append(r.Sealed, c)
		errs = append(errs, s.publish(ctx, events.EventSealed, map[string]any{"capture": c, "by": events.BySweep, "seal": result}))
	}
	return errors.Join(errs...)
}

// amend adds to sealed captures what came after they were sealed: CloudWatch's counts, and objects such as certificates of this
// very sweep.
func (s sweep) amend(ctx context.Context, r *report) error {
	captures, err := s.store.Captures(ctx, time.Now().Add(-sealWithin))
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range captures {
		wrote, err := s.amendOne(ctx, c)
		if wrote {
			r.Amended = append(r.Amended, c)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// amendOne looks at what lies there of a capture, and reads it only when that is more than when it was settled.
func (s sweep) amendOne(ctx context.Context, c events.CaptureID) (bool, error) {
	list, err := s.store.List(ctx, events.CapturePrefix(c))
	if err != nil || s.settled[c] == len(list) {
		return false, err
	}
	if sealed, err := s.sealed(ctx, c); err != nil || !sealed {
		return false, err
	}
	wrote, settled, err := s.sealer.Amend(ctx, c, events.BySweep, s.metrics, time.Now())
	if settled {
		s.settled[c] = len(list)
	}
	return wrote, err
}

// sealed says that nothing is left to do: the manifest is signed, or was made when there was no key. A capture that is to be
// signed has the public key before it has a manifest.
func (s sweep) sealed(ctx context.Context, c events.CaptureID) (bool, error) {
	signed, err := s.store.Exists(ctx, events.ManifestSignatureKey(c))
	if err != nil || signed {
		return signed, err
	}
	closed, err := s.store.Exists(ctx, events.ManifestKey(c))
	if err != nil || !closed {
		return false, err
	}
	toSign, err := s.store.Exists(ctx, events.PublicKeyKey(c))
	return err == nil && !toSign, err
}

// publish tells the deployment's event bus.
func (s sweep) publish(ctx context.Context, kind string, detail any) error {
	text, err := json.Marshal(detail)
	if err != nil {
		return err
	}
	out, err := s.bus.PutEvents(ctx, &eventbridge.PutEventsInput{Entries: []types.PutEventsRequestEntry{{
		Source: aws.String(events.RequestSource), DetailType: &kind, Detail: aws.String(string(text)), EventBusName: &s.settings.EventBus,
	}}})
	if err != nil {
		return fmt.Errorf("publish %s: %w", kind, err)
	}
	if out.FailedEntryCount > 0 {
		return fmt.Errorf("publish %s: refused by the bus: %s", kind, aws.ToString(out.Entries[0].ErrorMessage))
	}
	return nil
}
