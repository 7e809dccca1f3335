package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// Key is what KMS says of a key.
type Key struct {
	ARN      string
	State    string    // Enabled, Disabled, PendingDeletion, PendingImport ...
	Usage    string    // ENCRYPT_DECRYPT, SIGN_VERIFY ...
	Deletion time.Time // zero: none is set
}

// Key describes a KMS key.
func (c Client) Key(ctx context.Context, arn string) (Key, error) {
	api := kms.NewFromConfig(c.Config, func(o *kms.Options) { o.Retryer = patiently(o.Retryer) })
	out, err := api.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &arn})
	if err == nil && (out.KeyMetadata == nil || out.KeyMetadata.KeyState == "") {
		err = errors.New("the answer names no state")
	}
	if err != nil {
		return Key{}, fmt.Errorf("describe key %s: %w", arn, err)
	}
	m := out.KeyMetadata
	return Key{ARN: aws.ToString(m.Arn), State: string(m.KeyState), Usage: string(m.KeyUsage), Deletion: aws.ToTime(m.DeletionDate)}, nil
}

// PublicKey is the public half of an asymmetric KMS key as DER SubjectPublicKeyInfo, and the key's own ARN.
func (c Client) PublicKey(ctx context.Context, key string) (arn string, der []byte, err error) {
	out, err := kms.NewFromConfig(c.at(key)).GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: &key})
	if err == nil && (len(out.PublicKey) == 0 || out.KeyUsage != types.KeyUsageTypeSignVerify) {
		err = errors.New("it is no key that signs")
	}
	if err != nil {
		return "", nil, fmt.Errorf("read the public half of key %s: %w", key, err)
	}
	return aws.ToString(out.KeyId), out.PublicKey, nil
}

// Sign has KMS sign a SHA-256 digest by an ECDSA key of the curve P-256. The signature is in DER.
func (c Client) Sign(ctx context.Context, key string, digest []byte) ([]byte, error) {
	out, err := kms.NewFromConfig(c.at(key)).Sign(ctx, &kms.SignInput{
		KeyId: &key, Message: digest, MessageType: types.MessageTypeDigest, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256,
	})
	if err == nil && len(out.Signature) == 0 {
		err = errors.New("the answer has no signature")
	}
	if err != nil {
		return nil, fmt.Errorf("sign with key %s: %w", key, err)
	}
	return out.Signature, nil
}
