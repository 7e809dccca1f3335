package lease

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"flashtap/events"
)

// fakeTags are tags that a test sets while a lease reads them.
type fakeTags struct {
	mu     sync.Mutex
	values map[string]string
	err    error
	reads  int
}

func (f *fakeTags) Tag(_ context.Context, key string) (string, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads++
	value, found := f.values[key]
	return value, found && f.err == nil, f.err
}

func (f *fakeTags) set(key, value string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.values == nil {
		f.values = map[string]string{}
	}
	f.values[key] = value
}

// after says what ended a lease of one hour, and when.
func after(t *testing.T, tags *fakeTags, exhausted chan struct{}, act func(start time.Time, stop func())) (string, time.Duration) {
	t.Helper()
	start := time.Now()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	l := New(Config{Deadline: start.Add(time.Hour), Poll: 5 * time.Second, Exhausted: exhausted}, tags, slog.New(slog.DiscardHandler))
	if act != nil {
		go act(start, stop)
	}
	return l.Wait(ctx), time.Since(start)
}

func TestWhatEndsALease(t *testing.T) {
	tests := []struct {
		reason string
		act    func(*fakeTags, chan struct{}, time.Time, func())
		want   string
		when   time.Duration
	}{
		{"nothing but its deadline", nil, events.StopDeadline, time.Hour},
		{"the stop tag, at the next look", func(tags *fakeTags, _ chan struct{}, _ time.Time, _ func()) {
			time.Sleep(17 * time.Second)
			tags.set(events.TagStop, "")
		}, events.StopAsked, 20 * time.Second},
		{"the byte cap, at once", func(_ *fakeTags, exhausted chan struct{}, _ time.Time, _ func()) {
			time.Sleep(17 * time.Second)
			close(exhausted)
		}, events.StopByteCap, 17 * time.Second},
		{"a signal, at once", func(_ *fakeTags, _ chan struct{}, _ time.Time, stop func()) {
			time.Sleep(17 * time.Second)
			stop()
		}, events.StopSignal, 17 * time.Second},
		{"a later deadline", func(tags *fakeTags, _ chan struct{}, start time.Time, _ func()) {
			time.Sleep(time.Minute)
			tags.set(events.TagDeadline, start.Add(2*time.Hour).UTC().Format(time.RFC3339))
		}, events.StopDeadline, 2 * time.Hour},
		{"a deadline moved between the last look and the end", func(tags *fakeTags, _ chan struct{}, start time.Time, _ func()) {
			time.Sleep(time.Hour - time.Second)
			tags.set(events.TagDeadline, start.Add(2*time.Hour).UTC().Format(time.RFC3339))
		}, events.StopDeadline, 2 * time.Hour},
		{"an earlier deadline is not obeyed", func(tags *fakeTags, _ chan struct{}, start time.Time, _ func()) {
			tags.set(events.TagDeadline, start.Add(time.Minute).UTC().Format(time.RFC3339))
		}, events.StopDeadline, time.Hour},
		{"a deadline that is no time is not obeyed", func(tags *fakeTags, _ chan struct{}, _ time.Time, _ func()) {
			tags.set(events.TagDeadline, "tomorrow")
		}, events.StopDeadline, time.Hour},
		{"its deadline, though nobody can read the tags", func(tags *fakeTags, _ chan struct{}, _ time.Time, _ func()) {
			tags.mu.Lock()
			defer tags.mu.Unlock()
			tags.err = errors.New("no answer")
		}, events.StopDeadline, time.Hour},
	}
	for _, test := range tests {
		t.Run(test.reason, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tags, exhausted := &fakeTags{}, make(chan struct{})
				var act func(time.Time, func())
				if test.act != nil {
					act = func(start time.Time, stop func()) { test.act(tags, exhausted, start, stop) }
				}
				if got, when := after(t, tags, exhausted, act); got != test.want || when != test.when {
					t.Errorf("%s after %v, want %s after %v", got, when, test.want, test.when)
				}
			})
		})
	}
}

func TestOverAtOnce(t *testing.T) {
	closed := make(chan struct{})
	close(closed)
	tests := []struct {
		reason string
		cfg    Config
		tags   map[string]string
		want   string
		over   bool
	}{
		{"time is left", Config{Deadline: time.Now().Add(time.Hour)}, nil, "", false},
		{"deadline passed", Config{Deadline: time.Now().Add(-time.Second)}, nil, events.StopDeadline, true},
		{"deadline passed, but was moved", Config{Deadline: time.Now().Add(-time.Second)}, map[string]string{events.TagDeadline: time.Now().Add(time.Hour).Format(time.RFC3339)}, "", false},
		{"stopped before it began", Config{Deadline: time.Now().Add(time.Hour)}, map[string]string{events.TagStop: "now"}, events.StopAsked, true},
		{"byte cap reached before", Config{Deadline: time.Now().Add(time.Hour), Exhausted: closed}, nil, events.StopByteCap, true},
	}
	for _, test := range tests {
		t.Run(test.reason, func(t *testing.T) {
			test.cfg.Poll = time.Second
			l := New(test.cfg, &fakeTags{values: test.tags}, slog.New(slog.DiscardHandler))
			if got, over := l.Over(t.Context()); got != test.want || over != test.over {
				t.Errorf("%q %t, want %q %t", got, over, test.want, test.over)
			}
		})
	}
}

// A metadata service that is away for long is complained about once, not at every look.
func TestComplaintsAreSaidOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		tags := &fakeTags{err: errors.New("no answer")}
		l := New(Config{Deadline: time.Now().Add(time.Hour), Poll: 5 * time.Second}, tags, slog.New(slog.NewTextHandler(&log, nil)))
		l.Wait(t.Context())
		if n := strings.Count(log.String(), "no answer"); n != 1 || tags.reads < 700 {
			t.Errorf("said %d times in %d looks:\n%s", n, tags.reads, log.String())
		}
	})
}
