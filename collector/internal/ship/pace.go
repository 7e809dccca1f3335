package ship

import (
	"context"
	"fmt"
	"io"

	"golang.org/x/time/rate"
)

// pace keeps all bodies that are read at the same time below one rate.
type pace struct{ limiter *rate.Limiter }

// A read gives at most a tenth of what a second may take, so that bodies which share a rate advance together and no
// connection is silent for long; S3 closes one that is for some 20 seconds ("RequestTimeout").
const (
	readsPerSecond = 10
	minRead        = 1 << 10
	maxRead        = 256 << 10
)

// newPace makes a pace of so many bytes a second; nil when there is no limit.
func newPace(bytesPerSecond int64) *pace {
	if bytesPerSecond <= 0 {
		return nil
	}
	burst := min(max(bytesPerSecond/readsPerSecond, minRead), maxRead)
	return &pace{rate.NewLimiter(rate.Limit(bytesPerSecond), int(burst))}
}

// reader slows a body down until ctx ends.
func (p *pace) reader(ctx context.Context, body io.ReadSeeker) io.ReadSeeker {
	if p == nil {
		return body
	}
	return &slowReader{ReadSeeker: body, ctx: ctx, limiter: p.limiter}
}

type slowReader struct {
	io.ReadSeeker
	ctx     context.Context
	limiter *rate.Limiter
}

func (r *slowReader) Read(p []byte) (int, error) {
	n, err := r.ReadSeeker.Read(p[:min(len(p), r.limiter.Burst())])
	if n == 0 {
		return n, err
	}
	if waited := r.limiter.WaitN(r.ctx, n); waited != nil {
		return 0, fmt.Errorf("keep to the upload rate: %w", waited)
	}
	return n, err
}
