package schedule

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"
)

// schedule is one schedule with its timer.
type schedule struct {
	key
	request      request
	createToken  string
	updateToken  string
	createdAs    request // what the create token stands for
	created      time.Time
	modified     time.Time
	timer        *time.Timer
	generation   int // counts changes, so that a timer that fired just before one is not heard
	underWay     int // events not yet delivered or given up
	hasCompleted bool
}

// request is what CreateSchedule and UpdateSchedule ask for.
type request struct {
	description string
	text        string // of the expression
	expression  expression
	zone        string
	start, end  time.Time
	enabled     bool
	deleteAfter bool
	window      map[string]any
	kmsKey      string
	target      target
}

// target is a Target, checked.
type target struct {
	arn, role, input string
	retries          int
	maxAge           time.Duration
	deadLetter       string
	parameters       map[string]any
}

func (s *schedule) disarm() {
	s.generation++
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
}

// arm sets the timer for the next time the schedule is due, seen from now. A new rate schedule whose start has just
// passed fires at once; a changed one waits for its next turn. The lock must be held.
func (s *Service) arm(each *schedule, now time.Time, fresh bool) {
	each.disarm()
	each.hasCompleted = false
	if !each.request.enabled || s.closed {
		return
	}
	r := each.request
	if r.expression.every == 0 {
		// A moment that has passed fires at once, as AWS says of a one-time schedule that is enabled too late
		// (Scheduler guide, "Troubleshooting": disabling or enabling one-time schedules).
		s.armFor(each, r.expression.at)
		return
	}
	// A rate has its rhythm from its start, or from its creation when it has none, and so keeps it over an update.
	due := r.start
	if due.IsZero() {
		due = each.created
	}
	if interval := s.interval(r); !fresh && due.Before(now) {
		missed := now.Sub(due) / interval
		if due = due.Add(missed * interval); due.Before(now) {
			due = due.Add(interval)
		}
	}
	s.armFor(each, due)
}

// interval is the rate as it is lived here.
func (s *Service) interval(r request) time.Duration {
	return max(time.Millisecond, time.Duration(float64(r.expression.every)/s.config.Speed))
}

func (s *Service) armFor(each *schedule, due time.Time) {
	if end := each.request.end; each.request.expression.every > 0 && !end.IsZero() && due.After(end) {
		s.complete(each)
		return
	}
	generation := each.generation
	each.timer = time.AfterFunc(time.Until(due), func() { s.fire(each, generation, due) })
}

// fire delivers one event and sets the timer for the next.
func (s *Service) fire(each *schedule, generation int, due time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || each.generation != generation {
		return
	}
	deliveries := 1
	if s.config.Twice {
		deliveries = 2
	}
	for range deliveries {
		each.underWay++
		s.work.Add(1)
		go s.deliver(each, each.request.target, due)
	}
	if each.request.expression.every == 0 {
		s.complete(each)
		return
	}
	interval := s.interval(each.request)
	next := due.Add(interval)
	if late := time.Since(next); late > 0 {
		next = next.Add(late / interval * interval) // what was missed is not made up for
	}
	s.armFor(each, next)
}

// complete notes that nothing more will fire. The schedule goes once its last events are through.
func (s *Service) complete(each *schedule) {
	each.hasCompleted = true
	s.removeCompleted(each)
}

func (s *Service) removeCompleted(each *schedule) {
	if each.hasCompleted && each.underWay == 0 && each.request.deleteAfter && s.schedules[each.key] == each {
		each.disarm()
		delete(s.schedules, each.key)
	}
}

// deliver invokes the target until it succeeds, fails for good, or the retry policy is exhausted.
func (s *Service) deliver(each *schedule, t target, due time.Time) {
	defer s.work.Done()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		each.underWay--
		s.removeCompleted(each)
	}()
	arn := s.scheduleARN(each.key)
	execution := strings.ReplaceAll(newID(), "-", "")[:16]
	began, delay := time.Now(), s.config.RetryDelay
	var body string
	for attempt := 1; ; attempt++ {
		body = s.input(t, arn, due, execution, attempt)
		err := s.config.Invoke(s.context, Target{
			ARN: t.arn, RoleARN: t.role, Input: body,
			ScheduleARN: arn, ScheduledTime: due, Attempt: attempt, Parameters: t.parameters,
		})
		if err == nil || s.context.Err() != nil {
			return
		}
		exhausted := ""
		switch {
		case permanent(err):
		case attempt > t.retries:
			exhausted = "MaximumRetryAttempts"
		case time.Since(began)+delay > t.maxAge:
			exhausted = "MaximumEventAgeInSeconds"
		default:
			if !s.sleep(delay) {
				return
			}
			delay = min(2*delay, max(time.Minute, s.config.RetryDelay))
			continue
		}
		if t.deadLetter != "" && s.config.DeadLetter != nil {
			s.config.DeadLetter(letter(t, arn, due, execution, body, attempt, err, exhausted))
		}
		return
	}
}

func (s *Service) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.context.Done():
		return false
	}
}

func permanent(err error) bool {
	var status interface{ Status() int }
	return errors.As(err, &status) && status.Status() >= 400 && status.Status() < 500 && status.Status() != 429
}

// input fills in the context attributes (Scheduler guide, "Adding context attributes in EventBridge Scheduler").
func (s *Service) input(t target, arn string, due time.Time, execution string, attempt int) string {
	at := due.UTC().Format("2006-01-02T15:04:05Z")
	if t.input != "" {
		return strings.NewReplacer(
			"<aws.scheduler.schedule-arn>", arn,
			"<aws.scheduler.scheduled-time>", at,
			"<aws.scheduler.execution-id>", execution,
			"<aws.scheduler.attempt-number>", strconv.Itoa(attempt),
		).Replace(t.input)
	}
	notification, err := json.Marshal(struct {
		Version    string   `json:"version"`
		ID         string   `json:"id"`
		DetailType string   `json:"detail-type"`
		Source     string   `json:"source"`
		Account    string   `json:"account"`
		Time       string   `json:"time"`
		Region     string   `json:"region"`
		Resources  []string `json:"resources"`
		Detail     string   `json:"detail"` // a string, and not an object
	}{"0", newID(), "Scheduled Event", "aws.scheduler", s.config.AccountID, at, s.config.Region, []string{arn}, "{}"})
	if err != nil {
		panic(err) // strings always marshal
	}
	return string(notification)
}

func letter(t target, arn string, due time.Time, execution, body string, attempts int, err error, exhausted string) DeadLetter {
	code, message := "AWS.Scheduler.InternalServerError", err.Error()
	var named interface {
		Code() string
		Message() string
	}
	if errors.As(err, &named) {
		code, message = named.Code(), named.Message()
	}
	l := DeadLetter{QueueARN: t.deadLetter, Body: body, Attributes: map[string]string{
		"ERROR_CODE": code, "ERROR_MESSAGE": message, "EXECUTION_ID": execution, "IS_PAYLOAD_TRUNCATED": "false",
		"RETRY_ATTEMPTS": strconv.Itoa(attempts - 1), "SCHEDULED_TIME": due.UTC().Format("2006-01-02T15:04:05Z"),
		"SCHEDULE_ARN": arn, "TARGET_ARN": t.arn,
	}}
	if exhausted != "" {
		l.Attributes["EXHAUSTED_RETRY_CONDITION"] = exhausted
	}
	return l
}

// newID makes a random UUID (RFC 9562, version 4).
func newID() string {
	b := make([]byte, 16)
	rand.Read(b)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
