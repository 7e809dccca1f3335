package service

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
)

// Publish sends a message to an SNS topic, which may be of another account and Region.
func (c Client) Publish(ctx context.Context, topic, subject, text string) error {
	out, err := sns.NewFromConfig(c.at(topic)).Publish(ctx, &sns.PublishInput{TopicArn: &topic, Subject: &subject, Message: &text})
	if err == nil && aws.ToString(out.MessageId) == "" {
		err = errors.New("the answer has no message id")
	}
	if err != nil {
		return fmt.Errorf("publish to %s: %w", topic, err)
	}
	return nil
}
