// Command preflight is the Lambda that decides everything about a capture and touches nothing; its plan, stored in the
// bucket, is what every later step follows.
package main

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"flashtap/events"
	"flashtap/functions/evidence"
	"flashtap/functions/internal/boot"
	"flashtap/functions/survey"
)

func main() {
	boot.Start("preflight", []string{
		"FLASHTAP_DEPLOYMENT", "FLASHTAP_ACCOUNT", "AWS_REGION", "FLASHTAP_BUCKET", "FLASHTAP_LAUNCH_TEMPLATE_ID",
		"FLASHTAP_COLLECTOR_ROLE_ID", "FLASHTAP_IMAGES", "FLASHTAP_BINARY_KEYS", "FLASHTAP_BINARY_DIGESTS",
	}, func(cfg aws.Config, settings events.Settings) boot.Step[events.PreflightInput, events.PlanSummary] {
		store := evidence.Store{API: s3.NewFromConfig(cfg), Bucket: settings.Bucket}
		return preflight{store: store, survey: survey.New(cfg, store, settings, boot.Tool("preflight"))}.run
	})
}
