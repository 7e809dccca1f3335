package schedule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const (
	function = "arn:aws:lambda:us-east-1:123456789012:function:teardown"
	role     = "arn:aws:iam::123456789012:role/scheduler"
)

// fired is what the targets saw: the moment in seconds since the start, and the invocation.
type fired struct {
	mu    sync.Mutex
	began time.Time
	all   []Target
	at    []string
	// answer decides what the target says; nil means success.
	answer func(Target) error
}

func (f *fired) invoke(_ context.Context, t Target) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = append(f.all, t)
	f.at = append(f.at, fmt.Sprint(time.Since(f.began).Seconds()))
	if f.answer != nil {
		return f.answer(t)
	}
	return nil
}

func (f *fired) times() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.at, " ")
}

type fixture struct {
	*testing.T
	s *Service
	f *fired
}

// in runs a test on fake time, which begins at midnight of 2000-01-01 UTC.
func in(t *testing.T, config Config, test func(fixture)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := &fired{began: time.Now()}
		config.Invoke = f.invoke
		s := New(config)
		defer s.Close()
		test(fixture{t, s, f})
	})
}

func (x fixture) call(operation string, params map[string]any) map[string]any {
	x.Helper()
	answer, err := x.s.Handle(operation, params)
	if err != nil {
		x.Fatalf("%s: %v", operation, err)
	}
	return answer
}

func (x fixture) refused(code, operation string, params map[string]any) string {
	x.Helper()
	_, err := x.s.Handle(operation, params)
	var e *Error
	if !errors.As(err, &e) || e.Code() != code {
		x.Errorf("%s: got %v, want %s", operation, err, code)
		return ""
	}
	return e.Message()
}

// params are those of a sound request, changed by name and value.
func params(changes ...any) map[string]any {
	p := map[string]any{
		"Name": "guard", "ScheduleExpression": "rate(5 minutes)", "FlexibleTimeWindow": map[string]any{"Mode": "OFF"},
		"Target": map[string]any{"Arn": function, "RoleArn": role, "Input": `{"capture":1}`},
	}
	for i := 0; i < len(changes); i += 2 {
		name := changes[i].(string)
		if nested, inner, ok := strings.Cut(name, "."); ok {
			copied := maps.Clone(p[nested].(map[string]any))
			copied[inner] = changes[i+1]
			if changes[i+1] == nil {
				delete(copied, inner)
			}
			p[nested] = copied
		} else if changes[i+1] == nil {
			delete(p, name)
		} else {
			p[name] = changes[i+1]
		}
	}
	return p
}

var midnight = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func TestWhenSchedulesFire(t *testing.T) {
	after := func(d time.Duration) time.Time { return midnight.Add(d) }
	for _, row := range []struct {
		name   string
		config Config
		params map[string]any
		want   string // within half an hour, in seconds
		left   bool
	}{
		{"a rate without a start fires at once", Config{}, params("ScheduleExpression", "rate(10 minutes)"), "0 600 1200", true},
		{"a rate with a start fires first at the start", Config{}, params("StartDate", after(13*time.Minute)), "780 1080 1380 1680", true},
		{"a start as seconds since 1970", Config{}, params("StartDate", float64(after(25*time.Minute).Unix())), "1500", true},
		{"a start that has just passed fires at once and keeps its rhythm", Config{}, params("StartDate", after(-2*time.Minute)), "0 180 480 780 1080 1380 1680", true},
		{"a rate ends before its end date", Config{}, params("EndDate", after(11*time.Minute)), "0 300 600", true},
		{"a rate fires on its end date", Config{}, params("EndDate", after(10*time.Minute)), "0 300 600", true},
		{"a rate that has ended goes when asked to", Config{}, params("EndDate", after(11*time.Minute), "ActionAfterCompletion", "DELETE"), "0 300 600", false},
		{"a rate without an end never goes", Config{}, params("ActionAfterCompletion", "DELETE", "ScheduleExpression", "rate(1 hour)"), "0", true},
		{"a disabled schedule does not fire", Config{}, params("State", "DISABLED"), "", true},
		{"speed compresses the rate and not the start", Config{Speed: 60}, params("ScheduleExpression", "rate(10 minutes)", "StartDate", after(29*time.Minute+45*time.Second)), "1785 1795", true},
		{"a moment", Config{}, params("ScheduleExpression", "at(2000-01-01T00:10:30)"), "630", true},
		{"a moment that goes when asked to", Config{}, params("ScheduleExpression", "at(2000-01-01T00:10:30)", "ActionAfterCompletion", "DELETE"), "630", false},
		{"a moment ignores both dates", Config{}, params("ScheduleExpression", "at(2000-01-01T00:10:30)", "StartDate", after(-time.Hour), "EndDate", after(time.Minute)), "630", true},
		{"a moment in another zone", Config{}, params("ScheduleExpression", "at(2000-01-01T01:10:00)", "ScheduleExpressionTimezone", "Europe/Berlin"), "600", true},
		{"a moment that has passed fires at once", Config{}, params("ScheduleExpression", "at(1999-12-31T23:00:00)"), "0", true},
		{"speed does not touch a moment", Config{Speed: 60}, params("ScheduleExpression", "at(2000-01-01T00:10:00)"), "600", true},
		{"a flexible window fires at its beginning", Config{}, params("ScheduleExpression", "at(2000-01-01T00:10:00)", "FlexibleTimeWindow", map[string]any{"Mode": "FLEXIBLE", "MaximumWindowInMinutes": int64(15)}), "600", true},
		{"at least once may be twice", Config{Twice: true}, params("ScheduleExpression", "at(2000-01-01T00:10:00)"), "600 600", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			in(t, row.config, func(x fixture) {
				x.call("CreateSchedule", row.params)
				time.Sleep(30*time.Minute - time.Second)
				if x.f.times() != row.want {
					t.Errorf("fired at %q, want %q", x.f.times(), row.want)
				}
				if _, err := x.s.Handle("GetSchedule", map[string]any{"Name": "guard"}); (err == nil) != row.left {
					t.Errorf("afterwards: %v", err)
				}
			})
		})
	}
}

func TestUpdateReplacesEverything(t *testing.T) {
	in(t, Config{}, func(x fixture) {
		start := midnight.Add(10 * time.Minute)
		x.call("CreateSchedule", params("StartDate", start, "Description", "the guard", "ActionAfterCompletion", "DELETE",
			"EndDate", midnight.Add(24*time.Hour), "ScheduleExpressionTimezone", "Europe/Berlin",
			"Target", map[string]any{"Arn": function, "RoleArn": role, "Input": "{}", "RetryPolicy": map[string]any{"MaximumRetryAttempts": int64(3)}}))
		time.Sleep(time.Minute)
		before := x.call("GetSchedule", map[string]any{"Name": "guard"})
		if before["Description"] != "the guard" || before["StartDate"] != start || before["ActionAfterCompletion"] != "DELETE" ||
			before["ScheduleExpressionTimezone"] != "Europe/Berlin" {
			t.Errorf("before: %v", before)
		}
		x.call("UpdateSchedule", params("StartDate", midnight.Add(20*time.Minute), "Target.Input", `{"deadline":2}`))
		after := x.call("GetSchedule", map[string]any{"Name": "guard"})
		want := map[string]any{
			"Arn": "arn:aws:scheduler:us-east-1:123456789012:schedule/default/guard", "GroupName": "default", "Name": "guard",
			"CreationDate": midnight, "LastModificationDate": midnight.Add(time.Minute), "ScheduleExpression": "rate(5 minutes)",
			"ScheduleExpressionTimezone": "UTC", "State": "ENABLED", "ActionAfterCompletion": "NONE",
			"FlexibleTimeWindow": map[string]any{"Mode": "OFF"}, "StartDate": midnight.Add(20 * time.Minute),
			"Target": map[string]any{"Arn": function, "RoleArn": role, "Input": `{"deadline":2}`,
				"RetryPolicy": map[string]any{"MaximumRetryAttempts": int64(185), "MaximumEventAgeInSeconds": int64(86400)}},
		}
		if asJSON(t, after) != asJSON(t, want) {
			t.Errorf("got  %s\nwant %s", asJSON(t, after), asJSON(t, want))
		}
		time.Sleep(25 * time.Minute)
		x.s.Close() // waits for the invocations
		if x.f.times() != "1200 1500" || x.f.all[0].Input != `{"deadline":2}` {
			t.Errorf("fired at %s with %s", x.f.times(), x.f.all[0].Input)
		}
	})
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestUpdatesOfTheRhythm(t *testing.T) {
	for _, row := range []struct {
		name           string
		create, update map[string]any // the update comes after 7 minutes
		want           string         // within half an hour
	}{
		{"a rate without a start keeps the rhythm of its creation", params(), params("Target.Input", "{}"), "0 300 600 900 1200 1500"},
		{"another rate", params(), params("ScheduleExpression", "rate(10 minutes)"), "0 300 600 1200"},
		{"a start that has just passed waits for its next turn", params("StartDate", midnight.Add(3*time.Minute)), params("StartDate", midnight.Add(3*time.Minute)), "180 480 780 1080 1380 1680"},
		{"disabling ends it", params(), params("State", "DISABLED"), "0 300"},
		{"enabling begins it", params("State", "DISABLED"), params(), "600 900 1200 1500"},
		{"a moment that is put off", params("ScheduleExpression", "at(2000-01-01T00:10:00)"), params("ScheduleExpression", "at(2000-01-01T00:20:00)"), "1200"},
		{"a moment that is enabled too late", params("ScheduleExpression", "at(2000-01-01T00:05:00)", "State", "DISABLED"), params("ScheduleExpression", "at(2000-01-01T00:05:00)"), "420"},
	} {
		t.Run(row.name, func(t *testing.T) {
			in(t, Config{}, func(x fixture) {
				x.call("CreateSchedule", row.create)
				time.Sleep(7 * time.Minute)
				x.call("UpdateSchedule", row.update)
				time.Sleep(23*time.Minute - time.Second)
				if x.f.times() != row.want {
					t.Errorf("fired at %q, want %q", x.f.times(), row.want)
				}
			})
		})
	}
}

func TestDeleteEndsTheFiring(t *testing.T) {
	in(t, Config{}, func(x fixture) {
		x.call("CreateSchedule", params())
		time.Sleep(time.Minute)
		x.call("DeleteSchedule", map[string]any{"Name": "guard", "ClientToken": "once"})
		x.call("DeleteSchedule", map[string]any{"Name": "guard", "ClientToken": "once"}) // the answer was lost
		x.refused("ResourceNotFoundException", "DeleteSchedule", map[string]any{"Name": "guard"})
		x.refused("ResourceNotFoundException", "GetSchedule", map[string]any{"Name": "guard"})
		x.refused("ResourceNotFoundException", "UpdateSchedule", params())
		time.Sleep(time.Hour)
		if x.f.times() != "0" {
			t.Errorf("fired at %s", x.f.times())
		}
	})
}

func TestATargetMayDeleteItsOwnSchedule(t *testing.T) {
	in(t, Config{}, func(x fixture) {
		x.f.answer = func(Target) error {
			_, err := x.s.Handle("DeleteSchedule", map[string]any{"Name": "guard"})
			return err
		}
		x.call("CreateSchedule", params())
		time.Sleep(time.Hour)
		if x.f.times() != "0" {
			t.Errorf("fired at %s", x.f.times())
		}
	})
}

// refusal is an error of the target's service.
type refusal struct{ status int }

func (r refusal) Error() string   { return "refused" }
func (r refusal) Code() string    { return "NoSuchFunction" }
func (r refusal) Message() string { return "there is no such function" }
func (r refusal) Status() int     { return r.status }

func TestRetries(t *testing.T) {
	const dead = "arn:aws:sqs:us-east-1:123456789012:dead"
	policy := func(members map[string]any) map[string]any {
		return params("ScheduleExpression", "at(2000-01-01T00:01:00)", "ActionAfterCompletion", "DELETE",
			"Target.RetryPolicy", members, "Target.DeadLetterConfig", map[string]any{"Arn": dead})
	}
	for _, row := range []struct {
		name    string
		params  map[string]any
		answer  func(Target) error
		want    string
		letter  string // EXHAUSTED_RETRY_CONDITION, "permanent", or "" for none
		retries string
	}{
		{"until it works", policy(nil), func(t Target) error {
			if t.Attempt < 4 {
				return errors.New("not yet")
			}
			return nil
		}, "60 61 63 67", "", ""},
		{"as often as the policy says", policy(map[string]any{"MaximumRetryAttempts": int64(2)}), func(Target) error { return errors.New("no") },
			"60 61 63", "MaximumRetryAttempts", "2"},
		{"never", policy(map[string]any{"MaximumRetryAttempts": int64(0)}), func(Target) error { return errors.New("no") },
			"60", "MaximumRetryAttempts", "0"},
		{"as long as the policy says", policy(map[string]any{"MaximumEventAgeInSeconds": int64(60)}), func(Target) error { return errors.New("no") },
			"60 61 63 67 75 91", "MaximumEventAgeInSeconds", "5"},
		{"not after a permanent error", policy(nil), func(Target) error { return fmt.Errorf("invoke: %w", refusal{404}) }, "60", "permanent", "0"},
		{"after a throttle", policy(map[string]any{"MaximumRetryAttempts": int64(1)}), func(Target) error { return refusal{429} }, "60 61", "MaximumRetryAttempts", "1"},
		{"after a fault of the service", policy(map[string]any{"MaximumRetryAttempts": int64(1)}), func(Target) error { return refusal{500} }, "60 61", "MaximumRetryAttempts", "1"},
	} {
		t.Run(row.name, func(t *testing.T) {
			var letters []DeadLetter
			in(t, Config{DeadLetter: func(l DeadLetter) { letters = append(letters, l) }}, func(x fixture) {
				x.f.answer = row.answer
				x.call("CreateSchedule", row.params)
				time.Sleep(60 * time.Second)
				synctest.Wait()
				if strings.Contains(row.want, " ") {
					x.call("GetSchedule", map[string]any{"Name": "guard"}) // stays while its event is under way
				}
				time.Sleep(time.Hour)
				if x.f.times() != row.want {
					t.Errorf("tried at %s, want %s", x.f.times(), row.want)
				}
				x.refused("ResourceNotFoundException", "GetSchedule", map[string]any{"Name": "guard"})
			})
			if row.letter == "" {
				if len(letters) != 0 {
					t.Errorf("a dead letter: %v", letters)
				}
				return
			}
			if len(letters) != 1 {
				t.Fatalf("%d dead letters", len(letters))
			}
			l := letters[0]
			exhausted, ok := l.Attributes["EXHAUSTED_RETRY_CONDITION"]
			if l.QueueARN != dead || l.Body != `{"capture":1}` || l.Attributes["RETRY_ATTEMPTS"] != row.retries ||
				l.Attributes["SCHEDULED_TIME"] != "2000-01-01T00:01:00Z" || l.Attributes["TARGET_ARN"] != function ||
				l.Attributes["SCHEDULE_ARN"] != "arn:aws:scheduler:us-east-1:123456789012:schedule/default/guard" {
				t.Errorf("the letter is %+v", l)
			}
			if row.letter == "permanent" && (ok || l.Attributes["ERROR_CODE"] != "NoSuchFunction" || l.Attributes["ERROR_MESSAGE"] != "there is no such function") ||
				row.letter != "permanent" && exhausted != row.letter {
				t.Errorf("the letter is %+v", l)
			}
		})
	}
}

func TestCloseEndsRetries(t *testing.T) {
	in(t, Config{}, func(x fixture) {
		x.f.answer = func(Target) error { return errors.New("no") }
		x.call("CreateSchedule", params())
		time.Sleep(2 * time.Second)
		x.s.Close()
		time.Sleep(time.Hour)
		if x.f.times() != "0 1" {
			t.Errorf("tried at %s", x.f.times())
		}
	})
}

func TestTheInput(t *testing.T) {
	in(t, Config{}, func(x fixture) {
		x.call("CreateSchedule", params("ScheduleExpression", "at(2000-01-01T00:01:00)", "Target.Input",
			`{"arn":"<aws.scheduler.schedule-arn>","at":"<aws.scheduler.scheduled-time>","id":"<aws.scheduler.execution-id>","n":"<aws.scheduler.attempt-number>"}`))
		x.call("CreateSchedule", params("Name", "bare", "ScheduleExpression", "at(2000-01-01T00:02:00)", "Target.Input", nil,
			"Target.SqsParameters", map[string]any{"MessageGroupId": "urgent"}))
		time.Sleep(time.Hour)
		x.s.Close() // waits for the invocations
		got := x.f.all[0]
		var filled struct{ Arn, At, ID, N string }
		if err := json.Unmarshal([]byte(got.Input), &filled); err != nil {
			t.Fatal(err)
		}
		if filled.Arn != got.ScheduleARN || filled.At != "2000-01-01T00:01:00Z" || len(filled.ID) != 16 || filled.N != "1" ||
			got.RoleARN != role || !got.ScheduledTime.Equal(midnight.Add(time.Minute)) {
			t.Errorf("got %+v", got)
		}
		got = x.f.all[1]
		var event struct {
			Version, ID, Source, Account, Time, Region, Detail string
			DetailType                                         string `json:"detail-type"`
			Resources                                          []string
		}
		if err := json.Unmarshal([]byte(got.Input), &event); err != nil {
			t.Fatal(err)
		}
		if event.Source != "aws.scheduler" || event.DetailType != "Scheduled Event" || event.Detail != "{}" || event.Time != "2000-01-01T00:02:00Z" ||
			event.Resources[0] != "arn:aws:scheduler:us-east-1:123456789012:schedule/default/bare" {
			t.Errorf("the default notification is %s", got.Input)
		}
		if got.Parameters["SqsParameters"].(map[string]any)["MessageGroupId"] != "urgent" {
			t.Errorf("the parameters are %v", got.Parameters)
		}
	})
}
