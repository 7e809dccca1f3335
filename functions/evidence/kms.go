package evidence

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"

	"flashtap/events"
	"flashtap/functions/internal/service"
)

// NewSealer is the sealer of a deployment: with its signing key and its witness, if it has them.
func NewSealer(cfg aws.Config, settings events.Settings, store Store, tool string) Sealer {
	s := Sealer{Store: store, Tool: tool}
	if settings.SigningKeyARN != "" {
		s.Signer = kmsKey{service.Client{Config: cfg}, settings.SigningKeyARN}
	}
	if settings.WitnessTopicARN != "" {
		s.Witness = topic{service.Client{Config: cfg}, settings.WitnessTopicARN}
	}
	return s
}

// kmsKey signs by KMS.
type kmsKey struct {
	service.Client
	arn string
}

func (k kmsKey) PublicKey(ctx context.Context) (arn string, der []byte, err error) {
	return k.Client.PublicKey(ctx, k.arn)
}

func (k kmsKey) Sign(ctx context.Context, digest []byte) ([]byte, error) {
	return k.Client.Sign(ctx, k.arn, digest)
}

// topic is a witness that reads an SNS topic.
type topic struct {
	service.Client
	arn string
}

func (t topic) Tell(ctx context.Context, text []byte) error {
	return t.Publish(ctx, t.arn, "Flashtap capture sealed", string(text))
}
