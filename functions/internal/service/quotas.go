package service

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/servicequotas"
)

// Quota is the account's quota of this code.
func (c Client) Quota(ctx context.Context, service, code string) (float64, error) {
	api := servicequotas.NewFromConfig(c.Config, func(o *servicequotas.Options) { o.Retryer = patiently(o.Retryer) })
	out, err := api.GetServiceQuota(ctx, &servicequotas.GetServiceQuotaInput{ServiceCode: &service, QuotaCode: &code})
	if err == nil && (out.Quota == nil || out.Quota.Value == nil) {
		err = errors.New("the answer has no value")
	}
	if err != nil {
		return 0, fmt.Errorf("read quota %s of %s: %w", code, service, err)
	}
	return *out.Quota.Value, nil
}
