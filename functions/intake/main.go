// Command intake is the Lambda that turns events into captures: it parses, then joins, starts or defers.
package main

import (
	lambdaevents "github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"flashtap/events"
	"flashtap/functions/evidence"
	"flashtap/functions/internal/boot"
)

func main() {
	boot.Start("intake", []string{
		"FLASHTAP_DEPLOYMENT", "FLASHTAP_ACCOUNT", "AWS_REGION", "FLASHTAP_BUCKET", "FLASHTAP_STATE_MACHINE_ARN",
		"FLASHTAP_WAITING_QUEUE_URL", "FLASHTAP_SCHEDULE_GROUP",
	}, func(cfg aws.Config, settings events.Settings) boot.Step[lambdaevents.SQSEvent, lambdaevents.SQSEventResponse] {
		return intake{
			ec2:       ec2.NewFromConfig(cfg),
			machines:  sfn.NewFromConfig(cfg),
			schedules: scheduler.NewFromConfig(cfg),
			queues:    sqs.NewFromConfig(cfg),
			store:     evidence.Store{API: s3.NewFromConfig(cfg), Bucket: settings.Bucket},
			settings:  settings,
		}.run
	})
}
