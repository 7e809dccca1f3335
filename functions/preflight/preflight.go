package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"time"

	"flashtap/events"
	"flashtap/functions/evidence"
	"flashtap/functions/internal/boot"
	"flashtap/functions/plan"
	"flashtap/functions/survey"
)

type preflight struct {
	store  evidence.Store
	survey survey.Surveyor
}

// run makes the plan, or returns the one that an earlier run of this very step has made.
func (p preflight) run(ctx context.Context, in events.PreflightInput) (events.PlanSummary, error) {
	request := in.Request
	if err := request.Validate(); err != nil {
		return events.PlanSummary{}, boot.BadRequest{Reason: strings.ReplaceAll(err.Error(), "\n", "; ")}
	}
	if request.Capture != "" {
		made, err := p.store.Plan(ctx, request.Capture)
		if err == nil && time.Now().After(made.Deadline) { // the input of an old execution, started again
			return events.PlanSummary{}, boot.BadRequest{Reason: fmt.Sprintf("capture %s is over since %s; to capture anew, leave \"capture\" out",
				made.Capture, made.Deadline.Format(time.RFC3339))}
		}
		if err == nil {
			return conclude(made)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return events.PlanSummary{}, err
		}
	}
	before := p.survey.Calls() // of earlier runs in the same environment
	facts, err := p.survey.Facts(ctx, request, in.StartedAt)
	if err != nil {
		return events.PlanSummary{}, refused(request, err)
	}
	made := plan.Decide(facts)
	err = p.store.CreateJSON(ctx, events.PlanKey(made.Capture), made)
	if errors.Is(err, evidence.ErrExists) { // an earlier run drew another VNI; its word stands
		made, err = p.store.Plan(ctx, made.Capture)
	}
	if err != nil {
		return events.PlanSummary{}, err
	}
	slog.Info("planned", "capture", made.Capture, "eni", made.Source.NetworkInterfaceID, "go", made.Go, "vni", made.Mirror.VNI, "calls", p.survey.Calls()-before)
	return conclude(made)
}

// refused gives what the survey refuses the name by which the state machine knows it.
func refused(r events.Request, err error) error {
	var refusal *events.Refusal
	if !errors.As(err, &refusal) {
		return err
	}
	source := r.NetworkInterfaceID
	if source == "" {
		source = r.InstanceID
	}
	return boot.NotMirrorable{Source: source, Reason: refusal.Detail, Remedy: refusal.Remedy}
}

// conclude turns a plan's failed verdicts into the error that names them.
func conclude(p events.Plan) (events.PlanSummary, error) {
	summary := events.PlanSummary{
		Capture: p.Capture, NetworkInterfaceID: p.Source.NetworkInterfaceID, PlanKey: events.PlanKey(p.Capture),
		Deadline: p.Deadline, FindingType: p.Request.FindingType,
	}
	var reasons, remedies []string
	sourceFails, requestFails := false, false
	for _, v := range p.Failed() {
		reasons = append(reasons, v.Reason)
		remedies = append(remedies, v.Remedy)
		switch v.Check {
		case "placement", "collector", "security-groups", "network-acls", "route", "bucket-key", "volume-key", "quotas", "permissions":
		case "request", "filter":
			requestFails = true
		default:
			sourceFails = true
		}
	}
	reason, remedy := strings.Join(reasons, "; "), strings.Join(remedies, "; ")
	switch {
	case len(reasons) == 0:
		return summary, nil
	case requestFails:
		return summary, boot.BadRequest{Reason: reason + "; " + remedy}
	case sourceFails:
		return summary, boot.NotMirrorable{Source: summary.NetworkInterfaceID, Reason: reason, Remedy: remedy}
	}
	return summary, boot.NoPlace{Source: summary.NetworkInterfaceID, Reason: reason, Remedy: remedy}
}
