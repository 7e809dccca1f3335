// Command setup is the Lambda that answers CloudFormation for the parts of a deployment that it has no resource type for:
// the collector's program in the evidence bucket, and the custom action in Security Hub.
package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/aws/aws-lambda-go/cfn"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"

	"flashtap/functions/internal/boot"
)

// It starts by itself instead of by boot.Start, which ends the process when something is wrong: CloudFormation would wait
// for an answer. It needs no settings; everything comes with the request.
func main() {
	slog.SetDefault(boot.Logger(os.Stderr, "setup"))
	cfg, err := config.LoadDefaultConfig(context.Background(), config.WithRetryMaxAttempts(5))
	s := setup{objects: s3.NewFromConfig(cfg), hub: securityhub.NewFromConfig(cfg), broken: err}
	lambda.Start(cfn.LambdaWrap(inTime(s.handle)))
}
