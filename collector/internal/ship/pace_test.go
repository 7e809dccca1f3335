package ship

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"flashtap/collector/internal/spool"
	"flashtap/testutil/s3"
)

// sink is a store that takes whatever it can read, as fast as it comes.
type sink struct {
	mu       sync.Mutex
	attempts int
	bytes    int64
	stored   []time.Time
}

func (s *sink) Put(ctx context.Context, _ spool.Object, body io.ReadSeeker) error {
	s.mu.Lock()
	s.attempts++
	s.mu.Unlock()
	n, err := io.Copy(io.Discard, struct{ io.Reader }{body})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes += n
	if err == nil {
		s.stored = append(s.stored, time.Now())
	}
	return errors.Join(err, ctx.Err())
}

// shipAll has a shipper send objects of a size, and says how long that took.
func shipAll(t *testing.T, cfg Config, kind spool.Kind, count, size int, meanwhile func(*Shipper)) (*sink, time.Duration) {
	t.Helper()
	store := &sink{}
	s := New(cfg, store, &notes{}, quiet)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	began := time.Now()
	go func() { ended <- s.Run(ctx) }()
	for i := range count {
		s.Add(object(t, kind, i+1, strings.Repeat(fmt.Sprint(i%10), size)))
	}
	if meanwhile != nil {
		meanwhile(s)
	}
	if err := s.Settle(t.Context()); err != nil {
		t.Error(err)
	}
	took := time.Since(began)
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	return store, took
}

func TestRate(t *testing.T) {
	const size, count = 1 << 20, 8
	tests := []struct {
		reason string
		cfg    Config
		want   time.Duration
		calls  func(*Shipper)
	}{
		{"no limit", Config{Parallel: 4}, 0, nil},
		{"a limit", Config{Parallel: 1, Rate: 1 << 20}, count * time.Second, nil},
		{"all that are on their way share it", Config{Parallel: 4, Rate: 1 << 20}, count * time.Second, nil},
		// Far slower than what an attempt may take without a limit: 15 s and a second for each MiB.
		{"a limit below what a slow store may need", Config{Parallel: 4, Rate: 10 << 10}, count * 1024 / 10 * time.Second, nil},
		{"while draining", Config{Parallel: 4, Rate: 100 << 10}, count * 1024 / 100 * time.Second, func(s *Shipper) {
			for range 10 {
				time.Sleep(time.Second)
				s.Hurry()
			}
		}},
	}
	for _, test := range tests {
		t.Run(test.reason, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, took := shipAll(t, test.cfg, spool.Segment, count, size, test.calls)
				if store.attempts != count || store.bytes != count*size {
					t.Errorf("%d bytes in %d attempts; %d of %d bytes each were to be sent once", store.bytes, store.attempts, count, size)
				}
				if least := test.want - test.want/10 - 300*time.Millisecond; took < least || took > test.want+test.want/10 {
					t.Errorf("took %v, want %v", took, test.want)
				}
			})
		})
	}
}

// Bodies that share a rate advance together: none waits until the others are through.
func TestRateIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, took := shipAll(t, Config{Parallel: 4, Rate: 100 << 10}, spool.Segment, 4, 1<<20, nil)
		if first := store.stored[0]; store.stored[3].Sub(first) > took/10 {
			t.Errorf("stored at %v: all four together took %v", store.stored, took)
		}
	})
}

// An attempt that keeps to the rate has the time for it, and one that hangs has an end.
func TestAttemptsAtARateHaveAnEnd(t *testing.T) {
	for _, test := range []struct {
		cfg   Config
		bytes int64
		want  time.Duration
	}{
		{Config{}, 0, 15 * time.Second},
		{Config{}, 100 << 20, 115 * time.Second},
		{Config{Rate: 10 << 20}, 100 << 20, 125 * time.Second},
		{Config{Rate: 10 << 20, Parallel: 4}, 100 << 20, 155 * time.Second},
		{Config{Rate: 1, Parallel: 4}, 5 << 30, maxAttempt + 15*time.Second},
	} {
		s := New(test.cfg, nil, nil, nil)
		if got := s.limit(test.bytes); got != test.want {
			t.Errorf("%d bytes at %d a second, %d at once: %v, want %v", test.bytes, test.cfg.Rate, test.cfg.Parallel, got, test.want)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		body := newPace(1<<10).reader(t.Context(), strings.NewReader(strings.Repeat("x", 1<<20)))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Minute, cancel)
		body.(*slowReader).ctx = ctx
		n, err := io.Copy(io.Discard, struct{ io.Reader }{body})
		if !errors.Is(err, context.Canceled) || n < 59<<10 || n > 62<<10 {
			t.Errorf("%d bytes in a minute, %v", n, err)
		}
	})
}

// counting is a store that counts what is read of the bodies on their way to another.
type counting struct {
	putter
	mu    sync.Mutex
	bytes int64
}

func (c *counting) Put(ctx context.Context, o spool.Object, body io.ReadSeeker) error {
	return c.putter.Put(ctx, o, countingReader{body, c})
}

type countingReader struct {
	io.ReadSeeker
	counting *counting
}

func (r countingReader) Read(p []byte) (int, error) {
	n, err := r.ReadSeeker.Read(p)
	r.counting.mu.Lock()
	defer r.counting.mu.Unlock()
	r.counting.bytes += int64(n)
	return n, err
}

// The SDK reads a slowed body once, and the store gets all of it.
func TestRateWithARealStore(t *testing.T) {
	server, err := s3.Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	if err := server.CreateBucket(t.Context(), bucket); err != nil {
		t.Fatal(err)
	}
	const size = 3 << 20 // more than S3 is asked about before the body is sent (Expect: 100-continue)
	c := &counting{putter: store(t, server.Endpoint())}
	s, n := quick(t, Config{Parallel: 2, Rate: 4 << 20}, c)
	began := time.Now()
	first, second := object(t, spool.Segment, 1, strings.Repeat("1", size)), object(t, spool.Segment, 2, strings.Repeat("2", size))
	s.Add(first)
	s.Add(second)
	settle(t, s)
	if took := time.Since(began); took < time.Second {
		t.Errorf("6 MiB at 4 MiB a second took %v", took)
	}
	if !n.has(first.Key) || !n.has(second.Key) || c.bytes != 2*size {
		t.Errorf("confirmed %v after %d bytes", n.confirmed, c.bytes)
	}
}
