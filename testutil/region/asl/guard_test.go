package asl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// The rules stand in the developer guide, "Handling errors in Step Functions workflows".
func TestErrorMatching(t *testing.T) {
	for _, row := range []struct {
		rule, list, name string
		want             bool
	}{
		{"a name takes itself", "A B", "B", true},
		{"a name takes no other", "A B", "C", false},
		{"names differ in case", "a", "A", false},
		{"States.ALL takes an error of a task", "States.ALL", "A", true},
		{"States.ALL takes an error without a name", "States.ALL", "", true},
		{"States.ALL takes States.Timeout", "States.ALL", "States.Timeout", true},
		{"States.ALL takes States.HeartbeatTimeout", "States.ALL", "States.HeartbeatTimeout", true},
		{"States.ALL takes States.TaskFailed", "States.ALL", "States.TaskFailed", true},
		{"States.ALL takes States.IntrinsicFailure", "States.ALL", "States.IntrinsicFailure", true},
		{"States.ALL does not take States.Runtime", "States.ALL", "States.Runtime", false},
		{"States.ALL does not take States.DataLimitExceeded", "States.ALL", "States.DataLimitExceeded", false},
		{"States.TaskFailed takes an error of a task", "States.TaskFailed", "A", true},
		{"States.TaskFailed takes States.Permissions", "States.TaskFailed", "States.Permissions", true},
		{"States.TaskFailed does not take States.Timeout", "States.TaskFailed", "States.Timeout", false},
		{"States.TaskFailed does not take a missed heartbeat", "States.TaskFailed", "States.HeartbeatTimeout", false},
		{"States.TaskFailed does not take States.Runtime", "States.TaskFailed", "States.Runtime", false},
		{"States.TaskFailed does not take States.DataLimitExceeded", "States.TaskFailed", "States.DataLimitExceeded", false},
		{"States.Timeout takes a missed heartbeat", "States.Timeout", "States.HeartbeatTimeout", true},
		{"States.HeartbeatTimeout takes no other timeout", "States.HeartbeatTimeout", "States.Timeout", false},
		{"States.Runtime is not taken by its name", "States.Runtime", "States.Runtime", false},
		{"States.DataLimitExceeded is taken by its name", "States.DataLimitExceeded", "States.DataLimitExceeded", true},
	} {
		t.Run(row.rule, func(t *testing.T) {
			if got := Matches(strings.Fields(row.list), row.name); got != row.want {
				t.Errorf("%s takes %q: %v", row.list, row.name, got)
			}
		})
	}
}

// guarded is a task X with handlers that is followed by Y; what is caught goes to C.
func guarded(handlers string) string {
	return `{"StartAt":"X","States":{"X":{` + task + `,` + handlers + `,"Next":"Y"},"Y":{"Type":"Pass","End":true},"C":{"Type":"Pass","End":true}}}`
}

// inTime runs a machine in made-up time and reports how long it took.
func inTime(t *testing.T, definition, input string, tasks TaskRunner, check func(r *Result, took time.Duration)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := run(t, definition, input, tasks)
		check(r, r.Stopped.Sub(r.Started))
	})
}

func TestRetry(t *testing.T) {
	const catch = `,"Catch":[{"ErrorEquals":["States.ALL"],"Next":"C"}]`
	for _, row := range []struct {
		rule, handlers string
		answers        []string
		trace          string
		took           time.Duration
	}{
		{"the defaults are 3 retries after 1, 2 and 4 seconds", `"Retry":[{"ErrorEquals":["A"]}]`, []string{"A", "A", "A", "1"}, "X Y", 7 * time.Second},
		{"a fourth error is one too many", `"Retry":[{"ErrorEquals":["A"]}]` + catch, []string{"A", "A", "A", "A"}, "X C", 7 * time.Second},
		{"interval and rate", `"Retry":[{"ErrorEquals":["A"],"IntervalSeconds":3,"MaxAttempts":2,"BackoffRate":1.5}]`, []string{"A", "A", "1"}, "X Y", 7500 * time.Millisecond},
		{"the delay has a ceiling", `"Retry":[{"ErrorEquals":["A"],"IntervalSeconds":3,"MaxAttempts":3,"MaxDelaySeconds":4}]`, []string{"A", "A", "A", "1"}, "X Y", 11 * time.Second},
		{"no attempts means no retry", `"Retry":[{"ErrorEquals":["A"],"MaxAttempts":0},{"ErrorEquals":["States.ALL"]}]` + catch, []string{"A"}, "X C", 0},
		{"another error goes to the next retrier", `"Retry":[{"ErrorEquals":["A"],"MaxAttempts":0},{"ErrorEquals":["States.ALL"]}]`, []string{"B", "1"}, "X Y", time.Second},
		{"an error that no retrier takes is caught at once", `"Retry":[{"ErrorEquals":["A"]}]` + catch, []string{"B"}, "X C", 0},
		{"each retrier counts for itself, through all errors of the state",
			`"Retry":[{"ErrorEquals":["A","B"],"IntervalSeconds":1,"BackoffRate":2,"MaxAttempts":2},{"ErrorEquals":["D"],"IntervalSeconds":5}]` + catch,
			[]string{"A", "B", "D", "B"}, "X C", 8 * time.Second},
		{"a retrier that is used up ends the search", `"Retry":[{"ErrorEquals":["A"],"MaxAttempts":1},{"ErrorEquals":["States.ALL"]}]` + catch, []string{"A", "A"}, "X C", time.Second},
	} {
		t.Run(row.rule, func(t *testing.T) {
			inTime(t, guarded(unreached(row.handlers)), `{}`, script(row.answers...), func(r *Result, took time.Duration) {
				if got := strings.Join(r.Trace(), " "); got != row.trace || took != row.took {
					t.Errorf("states %s in %v, not %s in %v (%s: %s)", got, took, row.trace, row.took, r.Error, r.Cause)
				}
			})
		})
	}
}

// unreached adds a catcher that leads to C where a row has none, for C must be reachable.
func unreached(handlers string) string {
	if strings.Contains(handlers, `"Next":"C"`) {
		return handlers
	}
	return handlers + `,"Catch":[{"ErrorEquals":["Test.Never"],"Next":"C"}]`
}

func TestRetryCountsReset(t *testing.T) {
	// The second visit of X may retry as often as the first.
	const definition = `{"StartAt":"X","States":{
		"X":{` + task + `,"Retry":[{"ErrorEquals":["A"],"MaxAttempts":1}],"Next":"Q"},
		"Q":{"Type":"Choice","Choices":[{"Variable":"$","NumericEquals":1,"Next":"X"}],"Default":"E"},
		"E":{"Type":"Succeed"}}}`
	inTime(t, definition, `{}`, script("A", "1", "A", "2"), func(r *Result, took time.Duration) {
		if r.Status != Succeeded || took != 2*time.Second {
			t.Errorf("%s after %v: %s", r.Status, took, r.Error)
		}
	})
}

func TestRetryCountIsInTheContextObject(t *testing.T) {
	var seen []string
	tasks := runner(func(_ context.Context, _ string, input json.RawMessage) (json.RawMessage, error) {
		seen = append(seen, string(input))
		return nil, &Error{"A", ""}
	})
	inTime(t, end(task+`,"Parameters":{"n.$":"$$.State.RetryCount"},"Retry":[{"ErrorEquals":["A"],"MaxAttempts":2}]`), `{}`, tasks, func(r *Result, _ time.Duration) {
		if got := strings.Join(seen, " "); got != `{"n":0} {"n":1} {"n":2}` {
			t.Errorf("inputs %s", got)
		}
		if want := "ExecutionStarted TaskStateEntered" + strings.Repeat(" TaskScheduled TaskStarted TaskFailed", 3) + " ExecutionFailed"; kinds(r) != want {
			t.Errorf("events %s", kinds(r))
		}
	})
}

func TestJitterStaysBelowTheDelay(t *testing.T) {
	least, most := time.Hour, time.Duration(0)
	for range 30 {
		inTime(t, end(task+`,"Retry":[{"ErrorEquals":["A"],"IntervalSeconds":10,"MaxAttempts":1,"JitterStrategy":"FULL"}]`), `{}`, script("A", "1"), func(r *Result, took time.Duration) {
			least, most = min(least, took), max(most, took)
		})
	}
	if most > 10*time.Second || most == least {
		t.Errorf("delays from %v to %v", least, most)
	}
}

func TestDelayGrowsWithoutOverflow(t *testing.T) {
	r := Retrier{IntervalSeconds: maxSeconds, MaxAttempts: maxSeconds, BackoffRate: 1e10}
	for _, n := range []int{0, 1, 50, 1_000_000} {
		if d := r.Delay(n); d <= 0 || d > maxSeconds*time.Second {
			t.Errorf("delay %d is %v", n, d)
		}
	}
}

func TestCatch(t *testing.T) {
	for _, row := range []struct{ rule, handlers, answer, trace, output string }{
		{"the error replaces the input", `"Catch":[{"ErrorEquals":["A"],"Next":"C"}]`, "A", "X C", `{"Error":"A","Cause":"because"}`},
		{"the error goes to a ResultPath", `"Catch":[{"ErrorEquals":["A"],"ResultPath":"$.e.f","Next":"C"}]`, "A", "X C", `{"in":1,"e":{"f":{"Error":"A","Cause":"because"}}}`},
		{"ResultPath null drops the error", `"Catch":[{"ErrorEquals":["A"],"ResultPath":null,"Next":"C"}]`, "A", "X C", `{"in":1}`},
		{"the first catcher that matches is taken", `"Catch":[{"ErrorEquals":["B"],"Next":"Y"},{"ErrorEquals":["States.TaskFailed"],"ResultPath":"$.e","Next":"C"},{"ErrorEquals":["States.ALL"],"Next":"Y"}]`, "A", "X C", `{"in":1,"e":{"Error":"A","Cause":"because"}}`},
		{"ResultSelector, ResultPath and OutputPath of the state do not matter", `"ResultSelector":{"x.$":"$.no"},"ResultPath":null,"OutputPath":"$.in","Catch":[{"ErrorEquals":["A"],"ResultPath":"$.e","Next":"C"}]`, "A", "X C", `{"in":1,"e":{"Error":"A","Cause":"because"}}`},
		{"States.DataLimitExceeded is caught by name", `"Catch":[{"ErrorEquals":["States.DataLimitExceeded"],"ResultPath":null,"Next":"C"}]`, "States.DataLimitExceeded", "X C", `{"in":1}`},
	} {
		t.Run(row.rule, func(t *testing.T) {
			r := run(t, guarded(row.handlers), `{"in":1}`, script(row.answer))
			if got := strings.Join(r.Trace(), " "); got != row.trace || string(r.Output) != row.output {
				t.Errorf("states %s with %s (%s), not %s with %s", got, r.Output, r.Error, row.trace, row.output)
			}
		})
	}
}

func TestNotCaught(t *testing.T) {
	const all = `"Catch":[{"ErrorEquals":["States.ALL"],"Next":"C"}]`
	const none = `"Catch":[{"ErrorEquals":["B"],"Next":"C"}]`
	long := `"` + strings.Repeat("x", MaxPayload) + `"`
	for _, row := range []struct{ rule, handlers, answer, err string }{
		{"an error that no catcher takes", none, "A", "A"},
		{"States.Runtime of a runner", all, "States.Runtime", "States.Runtime"},
		{"a result that is too long", all, long, "States.DataLimitExceeded"},
		{"a path to nothing", `"OutputPath":"$.no.such",` + all, "{}", "States.Runtime"},
		{"a catcher whose ResultPath does not fit", `"Catch":[{"ErrorEquals":["A"],"ResultPath":"$.in.x","Next":"C"}]`, "A", "States.ResultPathMatchFailure"},
	} {
		t.Run(row.rule, func(t *testing.T) {
			r := run(t, guarded(row.handlers), `{"in":1}`, script(row.answer))
			if r.Status != Failed || r.Error != row.err {
				t.Errorf("%s: %s, not %s", r.Status, r.Error, row.err)
			}
		})
	}
}

func TestRunnerAnswers(t *testing.T) {
	answer := func(result string, err error) runner {
		return func(context.Context, string, json.RawMessage) (json.RawMessage, error) {
			if result == "" {
				return nil, err
			}
			return json.RawMessage(result), err
		}
	}
	for _, row := range []struct {
		rule        string
		tasks       TaskRunner
		err, output string
	}{
		{"nothing is null", answer("", nil), "", "null"},
		{"blanks go", answer(" { } ", nil), "", "{}"},
		{"a plain error is States.TaskFailed", answer("", errors.New("no route")), "States.TaskFailed", ""},
		{"a wrapped Error keeps its name", answer("", fmt.Errorf("call: %w", &Error{"A", "b"})), "A", ""},
		{"an Error without a name is States.TaskFailed", answer("", &Error{}), "States.TaskFailed", ""},
		{"a result that is no JSON", answer("{", nil), "States.TaskFailed", ""},
	} {
		t.Run(row.rule, func(t *testing.T) {
			r := run(t, end(task), `{}`, row.tasks)
			if r.Error != row.err || string(r.Output) != row.output {
				t.Errorf("%s: %s %s with %s", r.Status, r.Error, r.Cause, r.Output)
			}
		})
	}
}

func TestTaskTimeout(t *testing.T) {
	// slow takes 10 seconds, whatever its context says, as a Lambda function would.
	slow := runner(func(context.Context, string, json.RawMessage) (json.RawMessage, error) {
		time.Sleep(10 * time.Second)
		return json.RawMessage(`"late"`), nil
	})
	const catch = `,"Catch":[{"ErrorEquals":["States.Timeout"],"Next":"C"}]`
	for _, row := range []struct {
		rule, handlers, trace, output string
		took                          time.Duration
	}{
		{"a task in time", `"TimeoutSeconds":11` + catch, "X Y", `"late"`, 10 * time.Second},
		{"a task out of time", `"TimeoutSeconds":3` + catch, "X C", `{"Error":"States.Timeout","Cause":""}`, 3 * time.Second},
		{"a timeout out of the input", `"TimeoutSecondsPath":"$.t"` + catch, "X C", `{"Error":"States.Timeout","Cause":""}`, 2 * time.Second},
		{"each retry has the whole time", `"TimeoutSeconds":3,"Retry":[{"ErrorEquals":["States.Timeout"],"MaxAttempts":1}]` + catch, "X C", `{"Error":"States.Timeout","Cause":""}`, 7 * time.Second},
		{"no timeout", `"Retry":[]` + catch, "X Y", `"late"`, 10 * time.Second},
	} {
		t.Run(row.rule, func(t *testing.T) {
			inTime(t, guarded(row.handlers), `{"t":2}`, slow, func(r *Result, took time.Duration) {
				if got := strings.Join(r.Trace(), " "); got != row.trace || string(r.Output) != row.output || took != row.took {
					t.Errorf("states %s with %s in %v, not %s with %s in %v", got, r.Output, took, row.trace, row.output, row.took)
				}
			})
		})
	}
	t.Run("States.TaskFailed does not catch it", func(t *testing.T) {
		inTime(t, guarded(`"TimeoutSeconds":3,"Catch":[{"ErrorEquals":["States.TaskFailed"],"Next":"C"}]`), `{}`, slow, func(r *Result, took time.Duration) {
			if r.Status != Failed || r.Error != "States.Timeout" {
				t.Errorf("%s: %s", r.Status, r.Error)
			}
			if want := "ExecutionStarted TaskStateEntered TaskScheduled TaskStarted TaskTimedOut ExecutionFailed"; kinds(r) != want {
				t.Errorf("events %s", kinds(r))
			}
		})
	})
	t.Run("the runner hears of it", func(t *testing.T) {
		var heard time.Duration
		polite := runner(func(ctx context.Context, _ string, _ json.RawMessage) (json.RawMessage, error) {
			begun := time.Now()
			<-ctx.Done()
			heard = time.Since(begun)
			return nil, ctx.Err()
		})
		synctest.Test(t, func(t *testing.T) {
			x, err := Start(t.Context(), mustParse(t, end(task+`,"TimeoutSeconds":3`)), nil, Options{Tasks: polite})
			if err != nil {
				t.Fatal(err)
			}
			x.Drain()
			if heard != 3*time.Second {
				t.Errorf("after %v", heard)
			}
		})
	})
}

func TestWait(t *testing.T) {
	for _, row := range []struct {
		rule, fields, input string
		took                time.Duration
	}{
		{"seconds", `"Seconds":90`, `{}`, 90 * time.Second},
		{"no seconds", `"Seconds":0`, `{}`, 0},
		{"seconds out of the input", `"SecondsPath":"$.s"`, `{"s":5}`, 5 * time.Second},
		{"seconds after InputPath", `"InputPath":"$.in","SecondsPath":"$.s"`, `{"in":{"s":7}}`, 7 * time.Second},
		// Time begins at midnight of 2000-01-01 inside a test of testing/synctest.
		{"a timestamp", `"Timestamp":"2000-01-01T00:01:00Z"`, `{}`, time.Minute},
		{"a timestamp with an offset", `"Timestamp":"2000-01-01T02:00:30.5+02:00"`, `{}`, 30500 * time.Millisecond},
		{"a timestamp out of the input", `"TimestampPath":"$.t"`, `{"t":"2000-01-02T00:00:00Z"}`, 24 * time.Hour},
		{"a timestamp that is over", `"TimestampPath":"$.t"`, `{"t":"1999-01-01T00:00:00Z"}`, 0},
		{"the start of the execution is over", `"TimestampPath":"$$.Execution.StartTime"`, `{}`, 0},
	} {
		t.Run(row.rule, func(t *testing.T) {
			inTime(t, end(`"Type":"Wait",`+row.fields), row.input, nil, func(r *Result, took time.Duration) {
				if r.Status != Succeeded || took != row.took {
					t.Errorf("%s after %v, not %v: %s", r.Status, took, row.took, r.Cause)
				}
			})
		})
	}
}
