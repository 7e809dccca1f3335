// Command launch is the Lambda that brings the collector up: a security group and an instance beside the suspect.
package main

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"flashtap/events"
	"flashtap/functions/evidence"
	"flashtap/functions/internal/boot"
)

func main() {
	boot.Start("launch", []string{"FLASHTAP_DEPLOYMENT", "FLASHTAP_BUCKET"},
		func(cfg aws.Config, settings events.Settings) boot.Step[events.StepInput, events.LaunchResult] {
			return launch{
				ec2:   ec2.NewFromConfig(cfg),
				store: evidence.Store{API: s3.NewFromConfig(cfg), Bucket: settings.Bucket},
			}.run
		})
}
