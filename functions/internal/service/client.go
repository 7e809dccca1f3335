// Package service asks CloudWatch, KMS, Service Quotas, IAM and SNS the few questions that steps have for them, and answers in
// the words that those need.
package service

import (
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
)

// Client asks with the credentials and in the Region of Config. The SDK's clients are cheap to make, so each question makes its
// own.
type Client struct{ Config aws.Config }

// attempts is how often a question is asked that can be done without: it must not hold up the rest.
const attempts = 2

// patiently has the SDK ask twice at most, however it was configured.
func patiently(configured aws.Retryer) aws.Retryer {
	return retry.AddWithMaxAttempts(configured, attempts)
}

// at is the configuration for the Region of an ARN.
func (c Client) at(arn string) aws.Config {
	if parts := strings.SplitN(arn, ":", 6); len(parts) == 6 && parts[3] != "" {
		cfg := c.Config.Copy()
		cfg.Region = parts[3]
		return cfg
	}
	return c.Config
}
