// Command teardown is the Lambda that removes everything made for one capture, one pass a call. The state machine calls
// it at the end, the guard schedule after the deadline.
package main

import (
	"context"
	"log/slog"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"

	"flashtap/events"
	"flashtap/functions/evidence"
	"flashtap/functions/internal/boot"
	"flashtap/functions/remove"
)

func main() {
	boot.Start("teardown", []string{
		"FLASHTAP_DEPLOYMENT", "FLASHTAP_BUCKET", "FLASHTAP_SCHEDULE_GROUP", "FLASHTAP_LAUNCH_TEMPLATE_ID", "FLASHTAP_INSTANCE_PROFILE_ARN",
	}, func(cfg aws.Config, settings events.Settings) boot.Step[events.StepInput, events.TeardownResult] {
		return teardown{
			remover: remove.Remover{
				EC2:       ec2.NewFromConfig(cfg),
				Schedules: scheduler.NewFromConfig(cfg),
				Store:     evidence.Store{API: s3.NewFromConfig(cfg), Bucket: settings.Bucket},
				Settings:  settings,
			},
		}.run
	})
}

type teardown struct{ remover remove.Remover }

// stuckAfter is how many passes the state machine makes before it calls for people: at 15 seconds a pass, 15 minutes.
// The guard and the sweep go on regardless.
const stuckAfter = 60

// stuckAfterRefusal is how many passes are made while something bears our tags but is not provably ours: what could
// be removed beside it is gone by then, and it itself needs a person.
const stuckAfterRefusal = 8

func (t teardown) run(ctx context.Context, in events.StepInput) (events.TeardownResult, error) {
	if err := in.Capture.Validate(); err != nil {
		return events.TeardownResult{}, err
	}
	cert, key, err := t.remover.Pass(ctx, in.Capture, in.By, in.Phase)
	if err != nil {
		return events.TeardownResult{}, err
	}
	r := events.TeardownResult{
		Status: events.StatusRemaining, Remaining: len(cert.Remaining), Refused: len(cert.Refused),
		Passes: in.Passes + 1, WaitSeconds: t.remover.Settings.PollSeconds, Certificate: key,
	}
	switch {
	case r.Remaining == 0 && r.Refused == 0:
		r.Status = events.StatusClean
	case r.Passes >= stuckAfter || r.Refused > 0 && r.Passes >= stuckAfterRefusal:
		r.Status = events.StatusStuck
	}
	slog.Info("torn down", "capture", in.Capture, "by", in.By, "status", r.Status, "remaining", r.Remaining, "refused", r.Refused)
	return r, nil
}
