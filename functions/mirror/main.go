// Command mirror is the Lambda that makes the target, the filter and the session, and with the session the schedule
// that deletes it at the deadline without any code of ours.
package main

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"

	"flashtap/events"
	"flashtap/functions/evidence"
	"flashtap/functions/internal/boot"
)

func main() {
	boot.Start("mirror", []string{"FLASHTAP_DEPLOYMENT", "FLASHTAP_BUCKET", "FLASHTAP_SCHEDULE_GROUP", "FLASHTAP_SCHEDULE_ROLE_ARN"},
		func(cfg aws.Config, settings events.Settings) boot.Step[events.StepInput, events.MirrorResult] {
			return mirror{
				ec2:       ec2.NewFromConfig(cfg),
				schedules: scheduler.NewFromConfig(cfg),
				store:     evidence.Store{API: s3.NewFromConfig(cfg), Bucket: settings.Bucket},
				settings:  settings,
			}.run
		})
}
