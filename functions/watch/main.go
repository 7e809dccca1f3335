// Command watch is the Lambda that looks at a running capture: ready, flowing, over, drained. It never waits; the state
// machine does.
package main

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"

	"flashtap/events"
	"flashtap/functions/evidence"
	"flashtap/functions/internal/boot"
	"flashtap/functions/internal/service"
)

func main() {
	boot.Start("watch", []string{"FLASHTAP_DEPLOYMENT", "FLASHTAP_BUCKET", "FLASHTAP_SCHEDULE_GROUP"},
		func(cfg aws.Config, settings events.Settings) boot.Step[events.StepInput, events.WatchResult] {
			return watch{
				ec2:       ec2.NewFromConfig(cfg),
				services:  service.Client{Config: cfg},
				schedules: scheduler.NewFromConfig(cfg),
				store:     evidence.Store{API: s3.NewFromConfig(cfg), Bucket: settings.Bucket},
				settings:  settings,
			}.run
		})
}
