// Command sweep is the Lambda that looks at the whole deployment every few minutes, and whenever an execution ends: it
// removes orphans, seals what was left unsealed, and lets waiting findings in.
package main

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"flashtap/events"
	"flashtap/functions/evidence"
	"flashtap/functions/internal/boot"
	"flashtap/functions/remove"
)

func main() {
	boot.Start("sweep", []string{
		"FLASHTAP_DEPLOYMENT", "FLASHTAP_BUCKET", "FLASHTAP_SCHEDULE_GROUP", "FLASHTAP_LAUNCH_TEMPLATE_ID",
		"FLASHTAP_INSTANCE_PROFILE_ARN", "FLASHTAP_INTAKE_QUEUE_URL", "FLASHTAP_WAITING_QUEUE_URL", "FLASHTAP_EVENT_BUS", "FLASHTAP_STATE_MACHINE_ARN",
	}, func(cfg aws.Config, settings events.Settings) boot.Step[trigger, report] {
		store := evidence.Store{API: s3.NewFromConfig(cfg), Bucket: settings.Bucket}
		schedules := scheduler.NewFromConfig(cfg)
		return sweep{
			remover:   remove.Remover{EC2: ec2.NewFromConfig(cfg), Schedules: schedules, Store: store, Settings: settings},
			store:     store,
			sealer:    evidence.NewSealer(cfg, settings, store, boot.Tool("sweep")),
			metrics:   evidence.NewCloudWatch(cfg),
			schedules: schedules,
			queues:    sqs.NewFromConfig(cfg),
			bus:       eventbridge.NewFromConfig(cfg),
			machines:  sfn.NewFromConfig(cfg),
			settings:  settings,
			settled:   map[events.CaptureID]int{},
		}.run
	})
}
