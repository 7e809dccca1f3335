package asl

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
)

// runner is a TaskRunner made of a function.
type runner func(ctx context.Context, resource string, input json.RawMessage) (json.RawMessage, error)

func (r runner) RunTask(ctx context.Context, resource string, input json.RawMessage) (json.RawMessage, error) {
	return r(ctx, resource, input)
}

// echo returns its input.
var echo = runner(func(_ context.Context, _ string, input json.RawMessage) (json.RawMessage, error) { return input, nil })

// script answers the calls one after the other: JSON is a result, anything else the name of an error.
func script(answers ...string) runner {
	var mu sync.Mutex
	n := 0
	return func(context.Context, string, json.RawMessage) (json.RawMessage, error) {
		mu.Lock()
		defer mu.Unlock()
		if n == len(answers) {
			return nil, &Error{"Test.CalledTooOften", fmt.Sprint(n)}
		}
		n++
		if a := answers[n-1]; json.Valid([]byte(a)) {
			return json.RawMessage(a), nil
		}
		return nil, &Error{answers[n-1], "because"}
	}
}

func run(t testing.TB, definition, input string, tasks TaskRunner) *Result {
	t.Helper()
	x, err := Start(t.Context(), mustParse(t, definition), json.RawMessage(input), Options{Name: "run-1", Tasks: tasks})
	if err != nil {
		t.Fatal(err)
	}
	r := x.Wait()
	x.Drain()
	checkHistory(t, r)
	return r
}

// checkHistory is what holds for the history of every execution.
func checkHistory(t testing.TB, r *Result) {
	t.Helper()
	entered, left := map[string]int{}, map[string]int{}
	for i, e := range r.Events {
		if e.ID != int64(i)+1 || e.PreviousID >= e.ID {
			t.Errorf("event %d: id %d after %d", i, e.ID, e.PreviousID)
		}
		if i > 0 && e.Timestamp.Before(r.Events[i-1].Timestamp) {
			t.Errorf("event %d is earlier than the one before", e.ID)
		}
		switch {
		case strings.HasSuffix(e.Type, "StateEntered"):
			entered[e.Name]++
		case strings.HasSuffix(e.Type, "StateExited"):
			left[e.Name]++
		}
	}
	for name, n := range left {
		if n > entered[name] {
			t.Errorf("state %s is left %d times and entered %d times", name, n, entered[name])
		}
	}
	want := map[Status]string{Succeeded: "ExecutionSucceeded", Failed: "ExecutionFailed", TimedOut: "ExecutionTimedOut", Aborted: "ExecutionAborted"}
	if last := r.Events[len(r.Events)-1]; r.Events[0].Type != "ExecutionStarted" || last.Type != want[r.Status] {
		t.Errorf("history of a %s execution begins with %s and ends with %s", r.Status, r.Events[0].Type, last.Type)
	}
}

func kinds(r *Result) string {
	var names []string
	for _, e := range r.Events {
		names = append(names, e.Type)
	}
	return strings.Join(names, " ")
}

// A single state transforms an input. Tasks return their input.
func TestInputAndOutput(t *testing.T) {
	const call = `"Type":"Task","Resource":"arn:aws:lambda:us-east-1:123456789012:function:f"`
	for _, row := range []struct{ rule, state, input, want string }{
		{"a Pass state passes its input on", `"Type":"Pass"`, `{"a":1}`, `{"a":1}`},
		{"any JSON is an input", `"Type":"Pass"`, `"text"`, `"text"`},
		{"no input is an empty object", `"Type":"Pass"`, ``, `{}`},
		{"Result replaces the input", `"Type":"Pass","Result":{"x.$":"$.y"}`, `{"a":1}`, `{"x.$":"$.y"}`},
		{"Result that is null", `"Type":"Pass","Result":null`, `{"a":1}`, `null`},
		{"Result at a ResultPath", `"Type":"Pass","Result":9,"ResultPath":"$.b.c"`, `{"a":1}`, `{"a":1,"b":{"c":9}}`},
		{"InputPath selects", `"Type":"Pass","InputPath":"$.a.b"`, `{"a":{"b":2}}`, `2`},
		{"InputPath with many matches yields a list", `"Type":"Pass","InputPath":"$.a[0,1]"`, `{"a":[1,2,3]}`, `[1,2]`},
		{"InputPath null is an empty object", `"Type":"Pass","InputPath":null`, `{"a":1}`, `{}`},
		{"InputPath reads the Context Object", `"Type":"Pass","InputPath":"$$.Execution.Name"`, `{}`, `"run-1"`},
		{"OutputPath selects", `"Type":"Pass","OutputPath":"$.a"`, `{"a":1}`, `1`},
		{"OutputPath null is an empty object", `"Type":"Pass","OutputPath":null`, `{"a":1}`, `{}`},
		{"Parameters build the input", `"Type":"Pass","Parameters":{"x":1,"y.$":"$.a","z":[{"w.$":"$.a"}]}`, `{"a":2}`, `{"x":1,"y":2,"z":[{"w":2}]}`},
		{"Parameters see the input after InputPath", `"Type":"Pass","InputPath":"$.a","Parameters":{"x.$":"$.b"}`, `{"a":{"b":3}}`, `{"x":3}`},
		{"Parameters compute", `"Type":"Pass","Parameters":{"x.$":"States.MathAdd($.a, 1)"}`, `{"a":2}`, `{"x":3}`},
		{"a list path in Parameters", `"Type":"Pass","Parameters":{"x.$":"$.a[*].b"}`, `{"a":[]}`, `{"x":[]}`},
		{"ResultPath is relative to the raw input", call + `,"InputPath":"$.a","ResultPath":"$.r"`, `{"a":{"b":1}}`, `{"a":{"b":1},"r":{"b":1}}`},
		{"ResultPath null keeps the raw input", call + `,"InputPath":"$.a","ResultPath":null`, `{"a":1}`, `{"a":1}`},
		{"ResultPath dollar is the result", call + `,"Parameters":{"x":1},"ResultPath":"$"`, `{"a":1}`, `{"x":1}`},
		{"ResultPath overwrites", call + `,"Parameters":{"x":1},"ResultPath":"$.a"`, `{"a":{"b":1},"c":2}`, `{"a":{"x":1},"c":2}`},
		{"ResultSelector shapes the result", call + `,"ResultSelector":{"y.$":"$.a"}`, `{"a":1,"b":2}`, `{"y":1}`},
		{"ResultSelector, ResultPath and OutputPath in this order", call + `,"ResultSelector":{"y.$":"$.a"},"ResultPath":"$.r","OutputPath":"$.r.y"`, `{"a":1}`, `1`},
		{"ResultSelector reads the Context Object", call + `,"ResultSelector":{"n.$":"$$.Execution.Input.a"}`, `{"a":1}`, `{"n":1}`},
		{"a retry count is 0 at first", call + `,"Parameters":{"n.$":"$$.State.RetryCount"}`, `{}`, `{"n":0}`},
		{"the Context Object of a state", `"Type":"Pass","Parameters":{"n.$":"$$.State.Name","m.$":"$$.StateMachine.Name","i.$":"$$.StateMachine.Id","e.$":"$$.Execution.Id","r.$":"$$.Execution.RoleArn"}`, `{}`,
			`{"n":"X","m":"machine","i":"arn:aws:states:us-east-1:123456789012:stateMachine:machine","e":"arn:aws:states:us-east-1:123456789012:execution:machine:run-1","r":"arn:aws:iam::123456789012:role/machine"}`},
	} {
		t.Run(row.rule, func(t *testing.T) {
			r := run(t, end(row.state), row.input, echo)
			if r.Status != Succeeded {
				t.Fatalf("%s: %s: %s", r.Status, r.Error, r.Cause)
			}
			if string(r.Output) != row.want {
				t.Errorf("output %s, not %s", r.Output, row.want)
			}
		})
	}
}

// The causes are those of the service, as recorded by LocalStack's test suite
// (tests/aws/services/stepfunctions) where it has the case.
func TestStateFails(t *testing.T) {
	const at = "An error occurred while executing the state 'X' (entered at the event id #2). "
	for _, row := range []struct{ rule, definition, input, err, cause string }{
		{"a Fail state", `{"StartAt":"X","States":{"X":{"Type":"Fail","Error":"A","Cause":"b"}}}`, `{}`, "A", "b"},
		{"a Fail state without a word", `{"StartAt":"X","States":{"X":{"Type":"Fail"}}}`, `{}`, "", ""},
		{"a Fail state with paths", `{"StartAt":"X","States":{"X":{"Type":"Fail","ErrorPath":"$.e","CausePath":"States.Format('for {}', $.c)"}}}`, `{"e":"A","c":"b"}`, "A", "for b"},
		{"a Fail state with a path to nothing", `{"StartAt":"X","States":{"X":{"Type":"Fail","ErrorPath":"$.e"}}}`, `{}`, "States.Runtime",
			at + "The JSONPath '$.e' specified for the field 'ErrorPath' could not be found in the input '{}'"},
		{"a Fail state with a path to a number", `{"StartAt":"X","States":{"X":{"Type":"Fail","CausePath":"$.c"}}}`, `{"c":1}`, "States.Runtime", at + "CausePath yields no string but number."},
		{"InputPath to nothing", end(`"Type":"Pass","InputPath":"$.no"`), `{}`, "States.Runtime", at + "Invalid path '$.no' : No results for path: $['no']"},
		{"InputPath below nothing", end(`"Type":"Pass","InputPath":"$.no.such[0]"`), `{}`, "States.Runtime", at + "Invalid path '$.no.such[0]' : Missing property in path $['no']"},
		{"OutputPath to nothing", end(`"Type":"Pass","OutputPath":"$.a.no"`), `{"a":{}}`, "States.Runtime", at + "Invalid path '$.a.no' : No results for path: $['a']['no']"},
		{"a path into null", end(`"Type":"Pass","InputPath":"$"`), `null`, "States.Runtime", at + "Unable to apply Path transformation to null or empty input."},
		{"a path in Parameters into null", end(`"Type":"Pass","Parameters":{"a.$":"$"}`), `null`, "States.Runtime", at + "Unable to apply Path transformation to null or empty input."},
		{"a path in Parameters to nothing", end(`"Type":"Pass","Parameters":{"a":{"v.$":"$.no"}}`), `{"b":1}`, "States.Runtime",
			at + `The JSONPath '$.no' specified for the field 'v.$' could not be found in the input '{"b":1}'`},
		{"a retry count where nothing retries", end(`"Type":"Pass","Parameters":{"v.$":"$$.State.RetryCount"}`), `{}`, "States.Runtime",
			at + `The JSONPath '$$.State.RetryCount' specified for the field 'v.$' could not be found in the input '{}'`},
		{"a function of nothing", end(`"Type":"Pass","Parameters":{"v.$":"States.Format('{}', States.Array($.no))"}`), `{}`, "States.Runtime",
			at + `The function 'States.Format('{}', States.Array($.no))' had the following error: The JsonPath argument for the field '$.no' could not be found in the input '{}'`},
		{"a function that fails", end(`"Type":"Pass","Parameters":{"v.$":"States.StringToJson('x')"}`), `{}`, "States.IntrinsicFailure", ""},
		{"ResultPath into a text", end(`"Type":"Pass","Result":1,"ResultPath":"$.x"`), `"foo"`, "States.ResultPathMatchFailure", ""},
		{"no choice matches", one(`"Type":"Choice","Choices":[{"Variable":"$.a","NumericEquals":1,"Next":"Y"}]`), `{"a":2}`, "States.Runtime",
			at + "Failed to transition out of the state. The state does not point to a next state."},
		{"a choice of nothing", one(`"Type":"Choice","Choices":[{"Variable":"$.a","NumericEquals":1,"Next":"Y"}],"Default":"Y"`), `{}`, "States.Runtime",
			at + "Invalid path '$.a': The choice state's condition path references an invalid value."},
		{"a wait for nothing", end(`"Type":"Wait","SecondsPath":"$.s"`), `{}`, "States.Runtime", at + "The SecondsPath parameter does not reference an input value: $.s"},
		{"a wait for less than nothing", end(`"Type":"Wait","SecondsPath":"$.s"`), `{"s":-1}`, "States.Runtime", at + "The SecondsPath parameter references a negative value: $.s == -1"},
		{"a wait for part of a second", end(`"Type":"Wait","SecondsPath":"$.s"`), `{"s":1.5}`, "States.Runtime", at + "The SecondsPath parameter cannot be parsed as a long value: $.s == 1.5"},
		{"a wait until a time without zone", end(`"Type":"Wait","TimestampPath":"$.t"`), `{"t":"2016-12-05T21:29:29"}`, "States.Runtime",
			at + "The TimestampPath parameter does not reference a valid ISO-8601 extended offset date-time format string: $.t == 2016-12-05T21:29:29"},
		{"a wait beyond 2^31 seconds", end(`"Type":"Wait","TimestampPath":"$.t"`), `{"t":"2199-01-01T00:00:00Z"}`, "States.Runtime", at + "Wait state delay is too long."},
		{"a timeout of nothing", end(task + `,"TimeoutSecondsPath":"$.t"`), `{}`, "States.Runtime", at + "Invalid path '$.t' : No results for path: $['t']"},
		{"a timeout of 0", end(task + `,"TimeoutSecondsPath":"$.t"`), `{"t":0}`, "States.Runtime", at + "The TimeoutSecondsPath parameter references no positive integer: $.t"},
		{"a map over an object", end(mapping), `{"foo":"bar"}`, "States.Runtime", at + `Map state input must be an array but was: {"foo":"bar"}`},
		{"a map over null", end(mapping), `null`, "States.Runtime", at + `Map state input must be an array but was: null`},
		{"a map over nothing", end(mapping + `,"ItemsPath":"$.l"`), `{}`, "States.Runtime", at + `Invalid path '$.l' : No results for path: $['l']`},
		{"an item selector of nothing", end(mapping + `,"ItemSelector":{"v.$":"$.no"}`), `[1]`, "States.Runtime",
			at + `The JSONPath '$.no' specified for the field 'v.$' could not be found in the input '[1]'`},
	} {
		t.Run(row.rule, func(t *testing.T) {
			r := run(t, row.definition, row.input, echo)
			if r.Status != Failed || r.Error != row.err || row.cause != "" && r.Cause != row.cause {
				t.Errorf("%s: %s: %s\nnot FAILED: %s: %s", r.Status, r.Error, r.Cause, row.err, row.cause)
			}
			if r.Output != nil {
				t.Errorf("output %s", r.Output)
			}
		})
	}
}

func TestTransitions(t *testing.T) {
	const definition = `{"StartAt":"A","States":{
		"A":{"Type":"Choice","Choices":[
			{"Variable":"$.go","StringEquals":"b","Next":"B"},
			{"Variable":"$.go","StringEquals":"b","Next":"C"},
			{"Variable":"$.n","NumericLessThan":3,"Next":"Count"}],
			"Default":"C"},
		"Count":{"Type":"Pass","Parameters":{"go":"on","n.$":"States.MathAdd($.n, 1)"},"Next":"A"},
		"B":{"Type":"Pass","Next":"C"},
		"C":{"Type":"Succeed","InputPath":"$.go"}}}`
	for _, row := range []struct{ rule, input, want, output string }{
		{"the first matching choice is taken", `{"go":"b"}`, "A B C", `"b"`},
		{"the default is taken if no choice matches", `{"go":"x","n":9}`, "A C", `"x"`},
		{"a loop goes round", `{"go":"on","n":1}`, "A Count A Count A C", `"on"`},
	} {
		t.Run(row.rule, func(t *testing.T) {
			r := run(t, definition, row.input, nil)
			if got := strings.Join(r.Trace(), " "); got != row.want || string(r.Output) != row.output {
				t.Errorf("states %s and output %s (%s), not %s and %s", got, r.Output, r.Cause, row.want, row.output)
			}
		})
	}
}
