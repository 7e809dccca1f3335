package asl

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// endless works until it is told to stop.
var endless = runner(func(ctx context.Context, _ string, _ json.RawMessage) (json.RawMessage, error) {
	<-ctx.Done()
	return nil, ctx.Err()
})

// Whatever ends the execution from outside, no Catch and no Retry runs.
func TestEndsFromOutsidePassEveryCatch(t *testing.T) {
	const handlers = `"Retry":[{"ErrorEquals":["States.ALL"]}],"Catch":[{"ErrorEquals":["States.ALL"],"Next":"C"}]`
	limited := func(definition string) string { return `{"TimeoutSeconds":5,` + definition[1:] }
	for _, row := range []struct {
		rule, definition string
		act              func(x *Execution, cancel context.CancelFunc)
		status           Status
		err, cause       string
		took             time.Duration
	}{
		{"Stop while a task runs", guarded(handlers), func(x *Execution, _ context.CancelFunc) { x.Stop("Halt", "enough") }, Aborted, "Halt", "enough", 0},
		{"Stop without a word", guarded(handlers), func(x *Execution, _ context.CancelFunc) { x.Stop("", "") }, Aborted, "", "", 0},
		{"Stop twice", guarded(handlers), func(x *Execution, _ context.CancelFunc) { x.Stop("First", ""); x.Stop("Second", "") }, Aborted, "First", "", 0},
		{"the end of the context", guarded(handlers), func(_ *Execution, cancel context.CancelFunc) { cancel() }, Aborted, "", "", 0},
		{"Stop while it waits", end(`"Type":"Wait","Seconds":60`), func(x *Execution, _ context.CancelFunc) { x.Stop("Halt", "") }, Aborted, "Halt", "", 0},
		{"the machine's TimeoutSeconds while a task runs", limited(guarded(handlers)), func(*Execution, context.CancelFunc) {}, TimedOut, "", "", 5 * time.Second},
		{"the machine's TimeoutSeconds while it waits", limited(end(`"Type":"Wait","Seconds":60`)), func(*Execution, context.CancelFunc) {}, TimedOut, "", "", 5 * time.Second},
	} {
		t.Run(row.rule, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				x, err := Start(ctx, mustParse(t, row.definition), nil, Options{Tasks: endless})
				if err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if s := x.Status(); s != Running {
					t.Fatalf("status %s", s)
				}
				row.act(x, cancel)
				r := x.Wait()
				checkHistory(t, r)
				if r.Status != row.status || r.Error != row.err || r.Cause != row.cause || r.Stopped.Sub(r.Started) != row.took {
					t.Errorf("%s: %s: %s after %v", r.Status, r.Error, r.Cause, r.Stopped.Sub(r.Started))
				}
				if got := strings.Join(r.Trace(), " "); got != "X" || r.Output != nil {
					t.Errorf("states %s with %s", got, r.Output)
				}
				if last := r.Events[len(r.Events)-1]; last.PreviousID != 0 {
					t.Errorf("the end follows event %d", last.PreviousID)
				}
				x.Drain()
			})
		})
	}
}

func TestStopAfterTheEndChangesNothing(t *testing.T) {
	x, err := Start(t.Context(), mustParse(t, end(`"Type":"Pass"`)), nil, Options{})
	if err != nil {
		t.Fatal(err)
	}
	x.Wait()
	x.Stop("Late", "")
	if r := x.Describe(); r.Status != Succeeded || len(r.Events) != 4 {
		t.Errorf("%s with events %s", r.Status, kinds(r))
	}
}

func TestAnExecutionDoesNotWaitForAbandonedWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended time.Time
		stubborn := runner(func(context.Context, string, json.RawMessage) (json.RawMessage, error) {
			time.Sleep(time.Hour)
			ended = time.Now()
			return nil, nil
		})
		x, err := Start(t.Context(), mustParse(t, end(task)), nil, Options{Tasks: stubborn})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		x.Stop("", "")
		r := x.Wait()
		if took := r.Stopped.Sub(r.Started); took != 0 {
			t.Errorf("ended after %v", took)
		}
		x.Drain()
		if ended.Sub(r.Started) != time.Hour {
			t.Error("Drain did not wait for the work")
		}
		if len(x.History()) != len(r.Events) {
			t.Error("the abandoned work wrote history")
		}
	})
}

func TestEveryEventIsAnnouncedBeforeTheEnd(t *testing.T) {
	var heard []string
	var x *Execution
	started := make(chan struct{})
	o := Options{Tasks: echo, OnEvent: func(e Event) {
		if e.Type != "ExecutionStarted" {
			<-started
			if len(x.History()) < len(heard) {
				t.Error("an event is announced that the history lacks")
			}
		}
		heard = append(heard, e.Type)
	}}
	x, err := Start(t.Context(), mustParse(t, end(task)), nil, o)
	if err != nil {
		t.Fatal(err)
	}
	close(started)
	r := x.Wait()
	if got := strings.Join(heard, " "); got != kinds(r) {
		t.Errorf("heard %s of %s", got, kinds(r))
	}
}

// text is a JSON text whose encoding has the given length.
func textOf(length int) string { return `"` + strings.Repeat("x", length-2) + `"` }

// States.ALL catches none of these, by the documents.
func TestDataLimit(t *testing.T) {
	long, fits := textOf(MaxPayload+1), textOf(MaxPayload)
	const catch = `,"Catch":[{"ErrorEquals":["States.ALL"],"Next":"X"}]`
	const function = "arn:aws:lambda:us-east-1:123456789012:function:f"
	for _, row := range []struct{ rule, state, input, answer, cause string }{
		{"an output of 256 KiB", `"Type":"Pass"`, fits, "", ""},
		{"a result of 256 KiB", task + catch, `{}`, fits, ""},
		{"a longer result of an integration", task + catch, `{}`, long, "The state/task 'lambda' returned a result with a size exceeding the maximum number of bytes service limit."},
		{"a longer result of a function", `"Type":"Task","Resource":"` + function + `"` + catch, `{}`, long, "The state/task '" + function + "' returned a result with a size exceeding the maximum number of bytes service limit."},
		{"a longer input of a task", task + `,"Parameters":{"a.$":"$"}` + catch, fits, `1`, "The state/task 'X' returned a result with a size exceeding the maximum number of bytes service limit."},
		{"a longer output of a Pass state", `"Type":"Pass","Parameters":{"a.$":"$"}`, fits, "", "The state/task 'X' returned a result with a size exceeding the maximum number of bytes service limit."},
		{"a longer output of a task", task + `,"ResultSelector":{"a.$":"$"}` + catch, `{}`, fits, "The state/task 'X' returned a result with a size exceeding the maximum number of bytes service limit."},
		{"results that are too long together", parallel(catch, branch("A", pass), branch("B", pass)), textOf(MaxPayload / 2), "", "The state/task 'X' returned a result with a size exceeding the maximum number of bytes service limit."},
		{"a letter of two bytes counts twice", `"Type":"Pass","Parameters":{"a.$":"$"}`, `"` + strings.Repeat("é", MaxPayload/2-1) + `"`, "", "The state/task 'X' returned a result with a size exceeding the maximum number of bytes service limit."},
	} {
		t.Run(row.rule, func(t *testing.T) {
			r := run(t, end(row.state), row.input, script(row.answer))
			switch {
			case row.cause == "":
				if r.Status != Succeeded {
					t.Errorf("%s: %s: %s", r.Status, r.Error, r.Cause)
				}
			case r.Status != Failed || r.Error != "States.DataLimitExceeded" || r.Cause != row.cause:
				t.Errorf("%s: %s: %s", r.Status, r.Error, r.Cause)
			}
		})
	}
}

func TestHistoryLimit(t *testing.T) {
	// A Map of n items with a Pass state each writes 6+4n events; a Pass state before it adds 2, a task 5.
	count := func(n int) string { return "[0" + strings.Repeat(",0", n-1) + "]" }
	for _, row := range []struct {
		rule, definition, input string
		status                  Status
		events                  int
	}{
		{"25,000 events are allowed", `{"StartAt":"P","States":{"P":{"Type":"Pass","Next":"X"},` + end(mapping)[len(`{"StartAt":"X","States":{`):], count(6248), Succeeded, 25_000},
		{"the event with number 25,000 ends a longer one", end(mapping), count(6249), Failed, 25_000},
		{"there is no room to leave the last state", `{"StartAt":"P","States":{"P":{"Type":"Pass","Next":"T"},"T":{` + task + `,"Next":"X"},` + end(mapping)[len(`{"StartAt":"X","States":{`):], count(6247), Failed, 25_000},
		{"a loop without end ends there, too", one(`"Type":"Choice","Choices":[{"Variable":"$","IsNull":true,"Next":"Y"}],"Default":"X"`), `{}`, Failed, 25_000},
		{"no Catch runs", end(`"Type":"Parallel","Catch":[{"ErrorEquals":["States.ALL"],"Next":"X"}],"Branches":[` + branch("A", `"Type":"Choice","Choices":[{"Variable":"$","IsNull":true,"Next":"B"}],"Default":"A"},"B":{"Type":"Succeed"`) + `]`), `{}`, Failed, 25_000},
	} {
		t.Run(row.rule, func(t *testing.T) {
			r := run(t, row.definition, row.input, echo)
			if r.Status != row.status || len(r.Events) != row.events {
				t.Fatalf("%s: %s after %d events, not %s after %d", r.Status, r.Error, len(r.Events), row.status, row.events)
			}
			if r.Status == Failed && (r.Error != "States.Runtime" || r.Cause != "The execution reached the maximum number of history events (25000).") {
				t.Errorf("%s: %s", r.Error, r.Cause)
			}
		})
	}
}

func TestStartIsRefused(t *testing.T) {
	simple, working := mustParse(t, end(`"Type":"Pass"`)), mustParse(t, end(task))
	for _, row := range []struct {
		rule    string
		machine *Machine
		input   string
		options Options
		want    string
	}{
		{"input that is no JSON", simple, "nope", Options{}, "input: invalid character"},
		{"input beyond 256 KiB", simple, textOf(MaxPayload + 1), Options{}, "is longer than 262144"},
		{"a name beyond 80 characters", simple, `{}`, Options{Name: strings.Repeat("n", 81)}, "at most 80 characters"},
		{"an ARN of something else", simple, `{}`, Options{StateMachineArn: "arn:aws:s3:::bucket"}, "no ARN of a state machine"},
		{"a task that nobody runs", working, `{}`, Options{}, `nobody runs the task of state "X"`},
	} {
		t.Run(row.rule, func(t *testing.T) {
			if _, err := Run(t.Context(), row.machine, json.RawMessage(row.input), row.options); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("error %v does not say %q", err, row.want)
			}
		})
	}
}
