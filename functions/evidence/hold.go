package evidence

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"flashtap/events"
	"flashtap/functions/internal/awserr"
)

// holdAll puts a legal hold on every object of a capture, when its request asks for it, and says whether they have one.
// A second hold changes nothing. A bucket without Object Lock can't hold: the evidence is sealed all the same.
func (s Store) holdAll(ctx context.Context, plan events.Plan) (bool, error) {
	if !plan.Request.LegalHold {
		return false, nil
	}
	list, err := s.List(ctx, events.CapturePrefix(plan.Capture))
	if err != nil {
		return false, err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for _, e := range list {
		group.Go(func() error { return s.hold(groupCtx, e.Key) })
	}
	err = group.Wait()
	if slices.Contains(withoutLock, awserr.Code(err)) {
		slog.Error("no legal hold", "capture", plan.Capture, "why", "the bucket has no Object Lock", "err", err)
		return false, nil
	}
	return err == nil, err
}

// withoutLock are the codes with which S3 says that a bucket has no Object Lock.
var withoutLock = []string{"InvalidRequest", "ObjectLockConfigurationNotFoundError"}

func (s Store) hold(ctx context.Context, key string) error {
	_, err := s.API.PutObjectLegalHold(ctx, &s3.PutObjectLegalHoldInput{
		Bucket: &s.Bucket, Key: &key, LegalHold: &types.ObjectLockLegalHold{Status: types.ObjectLockLegalHoldStatusOn},
	})
	if err != nil {
		return fmt.Errorf("put a legal hold on %s: %w", key, err)
	}
	return nil
}
