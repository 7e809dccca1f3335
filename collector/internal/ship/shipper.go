// Package ship brings what the spool holds into the evidence bucket, and believes nothing but the store's own answer.
package ship

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"sync"
	"time"

	"flashtap/collector/internal/spool"
)

// putter is the store as a shipper needs it; body is at its start.
type putter interface {
	Put(ctx context.Context, o spool.Object, body io.ReadSeeker) error
}

// holder is the spool as a shipper needs it.
type holder interface {
	Claim(spool.Object) (spool.Object, error)
	Confirm(spool.Object) error
}

// Config says how a shipper behaves. Zero values mean the defaults.
type Config struct {
	Parallel int // objects on their way at once; 1: strictly in the order of Add

	First   time.Duration // least wait after a failed attempt; doubles with each
	Denied  time.Duration // the same after an answer that only a person or time can change
	Longest time.Duration // longest wait

	AttemptBase time.Duration // what an attempt may take, whatever the size
	AttemptRate int64         // bytes a second that it has to reach beyond that

	// Rate is how many bytes a second all objects together may take on their way; 0: no limit. It is there to protect a
	// link, so it holds while draining as well: what the time for that leaves unsent stays in the spool, and is declared.
	Rate int64

	// Refused is told about an object that is not confirmed and never will be: something else has its key.
	Refused func(spool.Object)
}

func (c Config) withDefaults() Config {
	set := func(field *time.Duration, value time.Duration) {
		if *field == 0 {
			*field = value
		}
	}
	set(&c.First, 200*time.Millisecond)
	set(&c.Denied, 2*time.Second)
	set(&c.Longest, 15*time.Second)
	set(&c.AttemptBase, 15*time.Second)
	if c.AttemptRate == 0 {
		c.AttemptRate = 1 << 20
	}
	if c.Parallel == 0 {
		c.Parallel = 1
	}
	if c.Refused == nil {
		c.Refused = func(spool.Object) {}
	}
	return c
}

// Shipper sends objects until each is confirmed. There is no limit to its patience but the context of Run.
type Shipper struct {
	cfg   Config
	store putter
	spool holder
	log   *slog.Logger
	pace  *pace // nil: as fast as it goes

	mu     sync.Mutex
	queue  []spool.Object
	busy   int           // objects that Run has taken from the queue
	change chan struct{} // closed and made anew whenever queue or busy change
	hurry  chan struct{} // closed and made anew by Hurry
}

// New makes a shipper that Run sets to work.
func New(cfg Config, store putter, spool holder, log *slog.Logger) *Shipper {
	cfg = cfg.withDefaults()
	return &Shipper{
		cfg: cfg, store: store, spool: spool, log: log, pace: newPace(cfg.Rate),
		change: make(chan struct{}), hurry: make(chan struct{}),
	}
}

// Add puts an object at the end of the queue.
func (s *Shipper) Add(o spool.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = append(s.queue, o)
	s.changed()
}

// Settle waits until nothing is left to send, or until ctx ends.
func (s *Shipper) Settle(ctx context.Context) error {
	for {
		s.mu.Lock()
		left, change := len(s.queue)+s.busy, s.change
		s.mu.Unlock()
		if left == 0 {
			return nil
		}
		select {
		case <-change:
		case <-ctx.Done():
			return fmt.Errorf("%d objects are not confirmed: %w", left, context.Cause(ctx))
		}
	}
}

// Hurry ends all waiting between attempts, since the time for them is running out. Config.Rate holds all the same.
func (s *Shipper) Hurry() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.hurry)
	s.hurry = make(chan struct{})
}

// Run sends objects until ctx ends. What it had not seen confirmed by then stays in the spool.
func (s *Shipper) Run(ctx context.Context) error {
	var workers sync.WaitGroup
	for range s.cfg.Parallel {
		workers.Go(func() {
			for {
				o, ok := s.next(ctx)
				if !ok {
					return
				}
				settled := s.deliver(ctx, o)
				s.mu.Lock()
				s.busy--
				if !settled {
					s.queue = append([]spool.Object{o}, s.queue...)
				}
				s.changed()
				s.mu.Unlock()
			}
		})
	}
	workers.Wait()
	return nil
}

// next takes the first object from the queue, and waits for one.
func (s *Shipper) next(ctx context.Context) (spool.Object, bool) {
	for {
		s.mu.Lock()
		change := s.change
		if len(s.queue) > 0 && ctx.Err() == nil {
			o := s.queue[0]
			s.queue = s.queue[1:]
			s.busy++
			s.mu.Unlock()
			return o, true
		}
		s.mu.Unlock()
		select {
		case <-change:
		case <-ctx.Done():
			return spool.Object{}, false
		}
	}
}

// changed wakes everybody who waits. The caller holds mu.
func (s *Shipper) changed() {
	close(s.change)
	s.change = make(chan struct{})
}

// deliver sends one object until the store has it, something else is in its place, or there is nothing to send; false:
// until ctx ended.
func (s *Shipper) deliver(ctx context.Context, o spool.Object) bool {
	queued := o
	o, err := s.spool.Claim(o)
	if errors.Is(err, spool.ErrNotHeld) {
		s.log.Error("nothing to send", "key", queued.Key, "err", err)
		return true
	}
	log := s.log.With("key", o.Key)
	if err != nil {
		log.Error("note a first attempt", "err", err)
	}
	if o.Kind == spool.Segment {
		log = log.With("segment", o.Seq)
	}
	began, failures := time.Now(), 0
	for attempt := 1; ; attempt++ {
		s.mu.Lock()
		hurry := s.hurry
		s.mu.Unlock()
		err := s.attempt(ctx, o)
		first := s.cfg.First
		switch judge(err, o, attempt > 1) {
		case stored:
			if err := s.spool.Confirm(o); err != nil {
				log.Error("note a confirmation", "err", err)
			}
			log.Info("confirmed", "kind", o.Kind, "bytes", o.Bytes, "attempts", attempt, "took", time.Since(began).String())
			return true
		case refused:
			log.Error("something else has this key; nothing is written over it", "sha256", o.SHA256, "err", err)
			s.cfg.Refused(o)
			return true
		case denied:
			first = s.cfg.Denied
			log.Error("store refuses", "attempt", attempt, "err", err)
		case again:
			if ctx.Err() != nil {
				return false
			}
			log.Warn("attempt failed", "attempt", attempt, "err", err)
		}
		failures++
		select {
		case <-time.After(wait(first, s.cfg.Longest, failures)):
		case <-hurry:
			failures = 0
		case <-ctx.Done():
			return false
		}
	}
}

// attempt sends an object once, within a time that grows with its size.
func (s *Shipper) attempt(ctx context.Context, o spool.Object) error {
	ctx, cancel := context.WithTimeout(ctx, s.limit(o.Bytes))
	defer cancel()
	if o.Data != nil {
		return s.store.Put(ctx, o, s.pace.reader(ctx, bytes.NewReader(o.Data)))
	}
	file, err := os.Open(o.Path)
	if err != nil {
		return fmt.Errorf("read %s: %w", o.Key, err)
	}
	defer file.Close()
	return s.store.Put(ctx, o, s.pace.reader(ctx, file))
}

// limit is how long an attempt to send so many bytes may take: as long as a slow store needs, and before that as long
// as Rate keeps it, which the others on their way share.
func (s *Shipper) limit(bytes int64) time.Duration {
	seconds := float64(bytes) / float64(s.cfg.AttemptRate)
	if s.cfg.Rate > 0 {
		seconds += float64(bytes) / float64(s.cfg.Rate) * float64(s.cfg.Parallel)
	}
	return s.cfg.AttemptBase + time.Duration(min(seconds, maxAttempt.Seconds())*float64(time.Second))
}

// maxAttempt is longer than any capture, and short enough to be counted in nanoseconds.
const maxAttempt = 30 * 24 * time.Hour

// verdict is what an answer of the store means.
type verdict int

const (
	stored  verdict = iota // the store holds exactly these bytes
	refused                // the key is taken by what may be something else
	denied                 // asking again at once will not help
	again
)

// judge reads an answer. A segment's or checkpoint's key carries its digest, in a folder that only this collector may
// write into: what is there already are the same bytes, and the answer to an earlier attempt was lost. The manifest's
// key carries none, so that only an attempt of this very process explains why it is there.
func judge(err error, o spool.Object, repeated bool) verdict {
	if err == nil {
		return stored
	}
	var answer interface{ HTTPStatusCode() int }
	if !errors.As(err, &answer) {
		return again
	}
	switch status := answer.HTTPStatusCode(); {
	case status == http.StatusPreconditionFailed && (o.Kind != spool.Manifest || repeated):
		return stored
	case status == http.StatusPreconditionFailed:
		return refused
	case status == http.StatusConflict || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout:
		return again
	case status >= 400 && status < 500:
		return denied // also 403: a role or a policy may heal
	}
	return again
}

// wait is how long to wait after so many failures: it doubles up to longest, and half of it is chance, so that
// collectors that failed together do not come back together.
func wait(first, longest time.Duration, failures int) time.Duration {
	full := longest
	if shift := failures - 1; shift < 20 && first<<shift < longest {
		full = first << shift
	}
	return full/2 + rand.N(full/2+1)
}
