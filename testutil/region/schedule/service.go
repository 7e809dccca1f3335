// Package schedule is an EventBridge Scheduler that really fires.
//
// It keeps groups and schedules with one-time (at) and rate expressions and invokes their targets with retries, at least
// once. Where AWS promises no more than the minute, it fires on the second. Cron expressions are refused.
package schedule

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Config says where the scheduler believes it is, and whom it invokes.
type Config struct {
	Region    string // default us-east-1
	AccountID string // default 123456789012

	// Invoke calls a target. An error with a method Status() int within 400 and 499, other than 429, is permanent; any
	// other is retried by the target's retry policy.
	Invoke func(context.Context, Target) error
	// DeadLetter receives an event that was given up, when its target names a dead-letter queue.
	DeadLetter func(DeadLetter)

	// Speed divides the interval of rate expressions: with 60, rate(5 minutes) fires every 5 seconds. StartDate,
	// EndDate and at expressions name moments and are not touched. 0 means 1.
	Speed float64
	// Twice delivers every event twice, which at-least-once delivery permits.
	Twice bool
	// RetryDelay is the wait before the first retry, default 1 s; it doubles up to a minute. AWS does not publish its own.
	RetryDelay time.Duration
}

// Target is one invocation.
type Target struct {
	ARN     string
	RoleARN string
	Input   string // with the context attributes filled in, or the default notification

	ScheduleARN   string
	ScheduledTime time.Time
	Attempt       int // 1 is the first

	// Parameters is the whole Target of the schedule, with SqsParameters and the like.
	Parameters map[string]any
}

// DeadLetter is an event that was given up (Scheduler guide, "Configuring a schedule's dead-letter queue").
type DeadLetter struct {
	QueueARN   string
	Body       string
	Attributes map[string]string
}

// Service keeps the groups and their schedules. It is safe for concurrent use.
type Service struct {
	config  Config
	context context.Context // of the invocations
	cancel  context.CancelFunc
	work    sync.WaitGroup

	mu        sync.Mutex
	closed    bool
	groups    map[string]*group
	schedules map[key]*schedule
	deletions map[string]key // by the client token of a DeleteSchedule
}

type key struct{ group, name string }

// group is a schedule group.
type group struct {
	name    string
	created time.Time
	token   string
	tags    any
}

// maxGroups is the quota of groups (Scheduler guide, "Quotas for Amazon EventBridge Scheduler").
const maxGroups = 500

// New makes a service with the group "default". Close ends its timers.
func New(config Config) *Service {
	if config.Region == "" {
		config.Region = "us-east-1"
	}
	if config.AccountID == "" {
		config.AccountID = "123456789012"
	}
	if config.Speed == 0 {
		config.Speed = 1
	}
	if config.RetryDelay == 0 {
		config.RetryDelay = time.Second
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Service{
		config: config, context: ctx, cancel: cancel,
		groups:    map[string]*group{"default": {name: "default", created: time.Now()}},
		schedules: map[key]*schedule{}, deletions: map[string]key{},
	}
}

// Close stops all timers, cancels the invocations under way and waits for them.
func (s *Service) Close() error {
	s.mu.Lock()
	s.closed = true
	s.cancel()
	for _, each := range s.schedules {
		each.disarm()
	}
	s.mu.Unlock()
	s.work.Wait()
	return nil
}

func (s *Service) groupARN(name string) string {
	return fmt.Sprintf("arn:aws:scheduler:%s:%s:schedule-group/%s", s.config.Region, s.config.AccountID, name)
}

func (s *Service) scheduleARN(k key) string {
	return fmt.Sprintf("arn:aws:scheduler:%s:%s:schedule/%s/%s", s.config.Region, s.config.AccountID, k.group, k.name)
}
