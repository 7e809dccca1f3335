// Package lease decides when a capture is over: its deadline, a tag on the instance, the byte cap, or a signal.
package lease

import (
	"context"
	"log/slog"
	"time"

	"flashtap/events"
)

// tags are the instance's own tags: the only way in which anybody can tell a collector anything.
type tags interface {
	Tag(ctx context.Context, key string) (value string, found bool, err error)
}

// Config says how long a capture may go on.
type Config struct {
	Deadline  time.Time
	Poll      time.Duration   // how often the tags are read
	Exhausted <-chan struct{} // closed when the byte cap is reached
}

// Lease is the time that a capture has.
type Lease struct {
	cfg      Config
	tags     tags
	log      *slog.Logger
	deadline time.Time
	last     [2]string // what was last complained about, so that it is said once: reading, and the deadline's value
}

// New makes a lease that ends at the deadline, unless the tags say otherwise.
func New(cfg Config, tags tags, log *slog.Logger) *Lease {
	return &Lease{cfg: cfg, tags: tags, log: log, deadline: cfg.Deadline}
}

// Deadline is when the capture ends at the latest, as far as is known by now.
func (l *Lease) Deadline() time.Time { return l.deadline }

// Over reads the tags and says whether the capture is over at this moment, and why.
func (l *Lease) Over(ctx context.Context) (reason string, over bool) {
	stop := l.read(ctx)
	select {
	case <-l.cfg.Exhausted:
		return events.StopByteCap, true
	default:
	}
	switch {
	case stop:
		return events.StopAsked, true
	case !time.Now().Before(l.deadline):
		return events.StopDeadline, true
	}
	return "", false
}

// Wait returns when the capture is over, and why. The end of ctx is a signal to end it.
func (l *Lease) Wait(ctx context.Context) (reason string) {
	for {
		// Over reads the tags also when the deadline has come: it may have been moved since the last time.
		if reason, over := l.Over(ctx); over && ctx.Err() == nil {
			return reason
		}
		timer := time.NewTimer(min(l.cfg.Poll, max(time.Until(l.deadline), 0)))
		select {
		case <-timer.C:
		case <-l.cfg.Exhausted:
			timer.Stop()
			return events.StopByteCap
		case <-ctx.Done():
			timer.Stop()
			return events.StopSignal
		}
	}
}

// read reads both tags: whether to stop, and a later deadline. A metadata service that does not answer changes
// nothing; the deadline known by then holds.
func (l *Lease) read(ctx context.Context) (stop bool) {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Poll)
	defer cancel()
	_, stop, err := l.tags.Tag(ctx, events.TagStop)
	if err == nil && !stop {
		var value string
		if value, _, err = l.tags.Tag(ctx, events.TagDeadline); err == nil {
			l.extend(value)
		}
	}
	text := ""
	if err != nil {
		text = err.Error()
	}
	if l.changed(0, text) {
		l.log.Warn("read tags of the instance: the deadline known so far holds", "err", err, "deadline", l.deadline)
	}
	return stop
}

// extend moves the deadline, never to an earlier time: that is what the stop tag is for.
func (l *Lease) extend(value string) {
	if value == "" {
		return
	}
	deadline, err := time.Parse(time.RFC3339, value)
	if err != nil {
		if l.changed(1, value) {
			l.log.Error("deadline tag is no time; the deadline known so far holds", "value", value, "err", err, "deadline", l.deadline)
		}
		return
	}
	if deadline.After(l.deadline) {
		l.log.Info("deadline moved", "from", l.deadline, "to", deadline)
		l.deadline = deadline
	}
}

// changed says whether a complaint is a new one.
func (l *Lease) changed(about int, text string) bool {
	before := l.last[about]
	l.last[about] = text
	return text != "" && text != before
}
