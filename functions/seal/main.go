// Command seal is the Lambda that closes a capture of which nothing is left running: it checks the evidence, writes the
// manifest and has it signed.
package main

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"flashtap/events"
	"flashtap/functions/evidence"
	"flashtap/functions/internal/boot"
)

func main() {
	boot.Start("seal", []string{"FLASHTAP_DEPLOYMENT", "FLASHTAP_BUCKET"},
		func(cfg aws.Config, settings events.Settings) boot.Step[events.StepInput, events.SealResult] {
			store := evidence.Store{API: s3.NewFromConfig(cfg), Bucket: settings.Bucket}
			sealer := evidence.NewSealer(cfg, settings, store, boot.Tool("seal"))
			return func(ctx context.Context, in events.StepInput) (events.SealResult, error) {
				return sealer.Seal(ctx, in.Capture, in.Failure)
			}
		})
}
