package asl

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
)

// one wraps the fields of a state into a machine of this state, "X", and a Succeed state "Y".
func one(fields string) string {
	return `{"StartAt":"X","States":{"X":{` + fields + `},"Y":{"Type":"Succeed"}}}`
}

// end is a machine of the single state X.
func end(fields string) string { return `{"StartAt":"X","States":{"X":{` + fields + `,"End":true}}}` }

const (
	task    = `"Type":"Task","Resource":"arn:aws:states:::lambda:invoke"`
	nested  = `{"StartAt":"I","States":{"I":{"Type":"Pass","End":true}}}`
	mapping = `"Type":"Map","ItemProcessor":` + nested
)

func mustParse(t testing.TB, definition string) *Machine {
	t.Helper()
	m, err := Parse([]byte(definition), nil)
	if err != nil {
		t.Fatalf("parse %s: %v", definition, err)
	}
	return m
}

func TestParseTakesEveryField(t *testing.T) {
	definition, err := os.ReadFile("testdata/everything.asl.json")
	if err != nil {
		t.Fatal(err)
	}
	m, err := Parse(definition, map[string]string{"Function": "arn:aws:lambda:us-east-1:123456789012:function:f", "Timeout": "300"})
	if err != nil {
		t.Fatal(err)
	}
	if m.TimeoutSeconds != 300 || m.StartAt != "Pass" || m.Comment == "" {
		t.Errorf("machine %+v", m)
	}
	var names []string
	m.Walk(func(s *State) { names = append(names, s.Name) })
	if want := "Pass Choose Wait Until Work Call Fan Left Right Loop Body Done Gone"; strings.Join(names, " ") != want {
		t.Errorf("states %v, not %s", names, want)
	}
	call := m.States["Call"]
	if call.Resource != "arn:aws:lambda:us-east-1:123456789012:function:f" || call.TimeoutSecondsPath != "$.limit" {
		t.Errorf("state Call: %+v", call)
	}
	work := m.States["Work"]
	want := Retrier{ErrorEquals: []string{"A", "States.Timeout"}, IntervalSeconds: 2, MaxAttempts: 5, BackoffRate: 1.5, MaxDelaySeconds: 9, FullJitter: true}
	if got := work.Retry[0]; !slices.Equal(got.ErrorEquals, want.ErrorEquals) || got.IntervalSeconds != want.IntervalSeconds ||
		got.MaxAttempts != want.MaxAttempts || got.BackoffRate != want.BackoffRate || got.MaxDelaySeconds != want.MaxDelaySeconds || !got.FullJitter {
		t.Errorf("retrier %+v, not %+v", got, want)
	}
	if got := work.Retry[1]; got.IntervalSeconds != 1 || got.MaxAttempts != 3 || got.BackoffRate != 2 || got.MaxDelaySeconds != 0 || got.FullJitter {
		t.Errorf("retrier without fields has %+v, not the defaults", got)
	}
	if w := m.States["Wait"]; w.Seconds == nil || *w.Seconds != 5 {
		t.Errorf("state Wait: %+v", w)
	}
	if got := m.States["Choose"].Transitions(); !slices.Equal(got, []Transition{{"Choices[0]", "Wait"}, {"Choices[1]", "Until"}, {"Default", "Gone"}}) {
		t.Errorf("ways out of Choose: %v", got)
	}
	if got := work.Transitions(); !slices.Equal(got, []Transition{{"Next", "Call"}, {"Catch[0]", "Gone"}, {"Catch[1]", "Fan"}}) {
		t.Errorf("ways out of Work: %v", got)
	}
	rule := m.States["Choose"].Choices[0]
	if len(rule.And) != 2 || rule.And[1].Not == nil || rule.And[0].Operator != "IsPresent" || string(rule.And[0].Value) != "true" {
		t.Errorf("rule %+v", rule)
	}
	if g := m.States["Fan"].Graphs(); len(g) != 2 || g[1].StartAt != "Right" {
		t.Errorf("branches %+v", g)
	}
	for _, name := range []string{"Done", "Gone"} {
		if !m.States[name].Terminal() {
			t.Errorf("state %s is not terminal", name)
		}
	}
	if m.States["Loop"].MaxConcurrency != 2 || !json.Valid(m.States["Loop"].Definition) {
		t.Errorf("state Loop: %+v", m.States["Loop"])
	}
}

// Each definition is wrong or not supported in one way. The error must name the state and the field.
func TestParseRefuses(t *testing.T) {
	for _, row := range []struct{ rule, definition, want string }{
		{"text that is no JSON", `{`, "definition: not JSON"},
		{"a definition that is no object", `[]`, "array is no object"},
		{"the same state twice", `{"StartAt":"X","States":{"X":{"Type":"Succeed"},"X":{"Type":"Succeed"}}}`, "appears twice"},
		{"no StartAt", `{"States":{"X":{"Type":"Succeed"}}}`, `field "StartAt": is missing`},
		{"an empty StartAt", `{"StartAt":"","States":{"X":{"Type":"Succeed"}}}`, `field "StartAt": is empty`},
		{"StartAt that is no state", `{"StartAt":"Z","States":{"X":{"Type":"Succeed"}}}`, `field "StartAt": "Z" is no state here`},
		{"no States", `{"StartAt":"X"}`, `field "States": is missing`},
		{"no state in States", `{"StartAt":"X","States":{}}`, `field "States": holds no state`},
		{"a state that is no object", `{"StartAt":"X","States":{"X":1}}`, `state "X": definition: number is no object`},
		{"an unknown field of the machine", `{"StartAt":"X","States":{"X":{"Type":"Succeed"}},"Foo":1}`, `field "Foo": is no field of a state machine`},
		{"another version of the language", `{"Version":"2.0","StartAt":"X","States":{"X":{"Type":"Succeed"}}}`, `field "Version": "2.0" is not supported`},
		{"JSONata for the machine", `{"QueryLanguage":"JSONata","StartAt":"X","States":{"X":{"Type":"Succeed"}}}`, `field "QueryLanguage": JSONata is not supported`},
		{"JSONata for a state", end(`"Type":"Pass","QueryLanguage":"JSONata"`), `state "X": field "QueryLanguage": JSONata is not supported`},
		{"a machine without time", `{"TimeoutSeconds":0,"StartAt":"X","States":{"X":{"Type":"Succeed"}}}`, `field "TimeoutSeconds": 0 is no integer`},

		{"no Type", end(`"Comment":"x"`), `state "X": field "Type": is missing`},
		{"an unknown Type", end(`"Type":"Jump"`), `state "X": field "Type": "Jump" is unknown`},
		{"a Comment that is no text", end(`"Type":"Pass","Comment":1`), `field "Comment": number where a string is needed`},
		{"a name beyond 80 characters", strings.ReplaceAll(end(`"Type":"Pass"`), `"X"`, `"`+strings.Repeat("é", 81)+`"`), "1 to 80 characters"},
		{"an unknown field of a state", end(`"Type":"Pass","Foo":1`), `state "X": field "Foo": is no field of a Pass state`},
		{"a field of another type of state", end(`"Type":"Pass","Resource":"x"`), `field "Resource": is no field of a Pass state`},
		{"ResultSelector of a Pass state", end(`"Type":"Pass","ResultSelector":{}`), `field "ResultSelector": is no field of a Pass state`},
		{"Retry of a Pass state", end(`"Type":"Pass","Retry":[]`), `field "Retry": is no field of a Pass state`},
		{"variables", end(`"Type":"Pass","Assign":{"a":1}`), `field "Assign": variables are not supported`},
		{"a JSONata field", end(task + `,"Arguments":{}`), `field "Arguments": JSONata is not supported`},
		{"credentials", end(task + `,"Credentials":{}`), `field "Credentials": running a task under another role is not supported`},

		{"neither Next nor End", one(`"Type":"Pass"`), `state "X": field "Next": is missing`},
		{"End that is false and no Next", one(`"Type":"Pass","End":false`), `state "X": field "Next": is missing`},
		{"Next beside End", one(`"Type":"Pass","Next":"Y","End":true`), `state "X": field "End": given beside Next`},
		{"Next of a Succeed state", `{"StartAt":"X","States":{"X":{"Type":"Succeed","Next":"X"}}}`, `field "Next": is no field of a Succeed state`},
		{"End of a Choice state", one(`"Type":"Choice","Choices":[{"Variable":"$","IsNull":true,"Next":"Y"}],"End":true`), `field "End": is no field of a Choice state`},
		{"Next that is no state", end(`"Type":"Pass","Next":"Z"`), `state "X": field "Next": "Z" is no state here`},
		{"Default that is no state", one(`"Type":"Choice","Choices":[{"Variable":"$","IsNull":true,"Next":"Y"}],"Default":"Z"`), `state "X": field "Default": "Z" is no state here`},
		{"a choice that leads to no state", one(`"Type":"Choice","Choices":[{"Variable":"$","IsNull":true,"Next":"Z"}],"Default":"Y"`), `state "X": field "Choices[0].Next": "Z" is no state here`},
		{"a catcher that leads to no state", end(task + `,"Catch":[{"ErrorEquals":["A"],"Next":"Z"}]`), `state "X": field "Catch[0].Next": "Z" is no state here`},
		{"a state that nothing leads to", `{"StartAt":"X","States":{"X":{"Type":"Succeed"},"Y":{"Type":"Pass","Next":"X"}}}`, `state "Y": definition: no transition leads here`},
		{"a machine that cannot end", `{"StartAt":"X","States":{"X":{"Type":"Pass","Next":"X"}}}`, `field "States": no state that can be reached is terminal`},
		{"a branch that cannot end", end(`"Type":"Parallel","Branches":[{"StartAt":"I","States":{"I":{"Type":"Pass","Next":"I"}}}]`), `state "X": field "Branches[0].States": no state that can be reached is terminal`},
		{"a transition out of a branch", `{"StartAt":"X","States":{"X":{"Type":"Parallel","Branches":[{"StartAt":"I","States":{"I":{"Type":"Pass","Next":"Y"}}}],"Next":"Y"},"Y":{"Type":"Succeed"}}}`, `state "I": field "Next": "Y" is no state here`},
		{"a name used in two branches", end(`"Type":"Parallel","Branches":[` + nested + `,` + nested + `]`), `state "I": definition: another state has this name`},
		{"StartAt of a branch that is no state", end(`"Type":"Parallel","Branches":[{"StartAt":"Q","States":{"I":{"Type":"Pass","End":true}}}]`), `state "X": field "Branches[0].StartAt": "Q" is no state here`},

		{"InputPath that is no path", end(`"Type":"Pass","InputPath":"a"`), `field "InputPath": path "a" does not begin with $`},
		{"ResultPath that is no reference path", end(`"Type":"Pass","ResultPath":"$.a[*]"`), `field "ResultPath": path "$.a[*]": a reference path takes only names and indexes`},
		{"ResultPath into the Context Object", end(`"Type":"Pass","ResultPath":"$$.x"`), `field "ResultPath": cannot write to the Context Object`},
		{"OutputPath that reads a variable", end(`"Type":"Pass","OutputPath":"$x"`), `variables are not supported`},
		{"Parameters that are no object", end(`"Type":"Pass","Parameters":[1]`), `field "Parameters": array is no object`},
		{"a field with and without .$", end(`"Type":"Pass","Parameters":{"a":{"x":1,"x.$":"$.y"}}`), `state "X": field "Parameters": field "a": field "x.$": both "x" and "x.$" are given`},
		{"a field that is only .$", end(`"Type":"Pass","Parameters":{".$":"$"}`), `no name before .$`},
		{"a dynamic field that is no text", end(`"Type":"Pass","Parameters":{"x.$":1}`), `number is neither path nor intrinsic function`},
		{"a dynamic field in an array", end(`"Type":"Pass","Parameters":{"l":[{"x.$":"y"}]}`), `field "x.$": intrinsic function "y": function "y" is unknown`},
		{"a task token", end(`"Type":"Pass","Parameters":{"t.$":"$$.Task.Token"}`), `$$.Task.Token is not supported: there are no task tokens`},
		{"an unknown field of the Context Object", end(`"Type":"Pass","Parameters":{"t.$":"States.Array($$.Foo)"}`), `$$.Foo is no field of the Context Object`},
		{"an unknown field of the execution", end(`"Type":"Pass","InputPath":"$$.Execution.Arn"`), `$$.Execution.Arn is no field of the Context Object`},
		{"a search in the Context Object", end(`"Type":"Pass","InputPath":"$$..Token"`), `$$..Token is not supported, name the field`},
		{"the item outside a Map", end(`"Type":"Pass","Parameters":{"i.$":"$$.Map.Item.Index"}`), `$$.Map.Item.Index exists only inside a Map state`},
		{"the item in the Map's ResultSelector", end(mapping + `,"ResultSelector":{"i.$":"$$.Map.Item.Index"}`), `exists only inside a Map state`},

		{"no Resource", end(`"Type":"Task"`), `state "X": field "Resource": is missing`},
		{"a Resource that is no ARN", end(`"Type":"Task","Resource":"lambda"`), `field "Resource": "lambda" is no ARN`},
		{"a Resource of another service", end(`"Type":"Task","Resource":"arn:aws:sqs:us-east-1:123456789012:queue"`), `neither a Lambda function nor a service integration`},
		{"a Resource without an action", end(`"Type":"Task","Resource":"arn:aws:states:::lambda"`), `names no service and action`},
		{"an activity", end(`"Type":"Task","Resource":"arn:aws:states:us-east-1:123456789012:activity:a"`), `activities are not supported`},
		{"a job to wait for", end(`"Type":"Task","Resource":"arn:aws:states:::states:startExecution.sync:2"`), `.sync) is not supported`},
		{"a token to wait for that nobody gets", end(`"Type":"Task","Resource":"arn:aws:states:::lambda:invoke.waitForTaskToken","Parameters":{"FunctionName":"f"}`), `state "X": field "Resource": waits for a task token but Parameters do not pass $$.Task.Token on`},
		{"a token to wait for", end(`"Type":"Task","Resource":"arn:aws:states:::lambda:invoke.waitForTaskToken","Parameters":{"Payload":{"t.$":"$$.Task.Token"}}`), `field "Resource": waitForTaskToken is not supported`},
		{"a timeout that is no whole number", end(task + `,"TimeoutSeconds":1.5`), `field "TimeoutSeconds": 1.5 is no integer`},
		{"a timeout of 0", end(task + `,"TimeoutSeconds":0`), `field "TimeoutSeconds": 0 is no integer`},
		{"two timeouts", end(task + `,"TimeoutSeconds":1,"TimeoutSecondsPath":"$.t"`), `field "TimeoutSecondsPath": given beside TimeoutSeconds`},
		{"a heartbeat as long as the timeout", end(task + `,"TimeoutSeconds":60,"HeartbeatSeconds":60`), `state "X": field "HeartbeatSeconds": 60 is not less than TimeoutSeconds, 60`},
		{"a heartbeat longer than the timeout", end(task + `,"TimeoutSeconds":60,"HeartbeatSeconds":61`), `61 is not less than TimeoutSeconds, 60`},
		{"a heartbeat", end(task + `,"TimeoutSeconds":60,"HeartbeatSeconds":59`), `field "HeartbeatSeconds": heartbeats are not supported`},
		{"a heartbeat by path", end(task + `,"HeartbeatSecondsPath":"$.h"`), `field "HeartbeatSecondsPath": heartbeats are not supported`},

		{"no errors to retry", end(task + `,"Retry":[{}]`), `field "Retry[0].ErrorEquals": is missing`},
		{"an empty list of errors", end(task + `,"Retry":[{"ErrorEquals":[]}]`), `field "Retry[0].ErrorEquals": is empty`},
		{"an error that is no text", end(task + `,"Retry":[{"ErrorEquals":[1]}]`), `field "Retry[0].ErrorEquals": number where a string is needed`},
		{"an unknown error with the reserved prefix", end(task + `,"Retry":[{"ErrorEquals":["States.All"]}]`), `"States.All" is no error of the service`},
		{"States.ALL beside another error", end(task + `,"Retry":[{"ErrorEquals":["A","States.ALL"]}]`), `state "X": field "Retry[0].ErrorEquals": States.ALL must stand alone`},
		{"States.ALL before another retrier", end(task + `,"Retry":[{"ErrorEquals":["States.ALL"]},{"ErrorEquals":["A"]}]`), `state "X": field "Retry[0].ErrorEquals": States.ALL must stand in the last member of Retry`},
		{"States.ALL beside another caught error", end(task + `,"Catch":[{"ErrorEquals":["States.ALL","A"],"Next":"X"}]`), `field "Catch[0].ErrorEquals": States.ALL must stand alone`},
		{"States.ALL before another catcher", end(task + `,"Catch":[{"ErrorEquals":["States.ALL"],"Next":"X"},{"ErrorEquals":["A"],"Next":"X"}]`), `field "Catch[0].ErrorEquals": States.ALL must stand in the last member of Catch`},
		{"an interval of 0", end(task + `,"Retry":[{"ErrorEquals":["A"],"IntervalSeconds":0}]`), `field "Retry[0].IntervalSeconds": 0 is no integer`},
		{"fewer than no attempts", end(task + `,"Retry":[{"ErrorEquals":["A"],"MaxAttempts":-1}]`), `field "Retry[0].MaxAttempts": -1 is no integer`},
		{"a shrinking interval", end(task + `,"Retry":[{"ErrorEquals":["A"],"BackoffRate":0.5}]`), `field "Retry[0].BackoffRate": 0.5 is less than 1`},
		{"a delay beyond a year", end(task + `,"Retry":[{"ErrorEquals":["A"],"MaxDelaySeconds":31622400}]`), `field "Retry[0].MaxDelaySeconds": 31622400 is no integer`},
		{"an unknown jitter", end(task + `,"Retry":[{"ErrorEquals":["A"],"JitterStrategy":"SOME"}]`), `"SOME" is neither FULL nor NONE`},
		{"an unknown field of a retrier", end(task + `,"Retry":[{"ErrorEquals":["A"],"Next":"X"}]`), `field "Retry[0].Next": is no field of a member of Retry`},
		{"a catcher without Next", end(task + `,"Catch":[{"ErrorEquals":["A"]}]`), `field "Catch[0].Next": is missing`},
		{"a catcher that is no object", end(task + `,"Catch":["A"]`), `field "Catch[0]": string where an object is needed`},
		{"Retry that is no array", end(task + `,"Retry":{}`), `field "Retry": object where an array is needed`},

		{"no choices", one(`"Type":"Choice","Default":"Y"`), `field "Choices": is missing`},
		{"an empty list of choices", one(`"Type":"Choice","Choices":[],"Default":"Y"`), `field "Choices": is empty`},
		{"a choice without Next", one(`"Type":"Choice","Choices":[{"Variable":"$","IsNull":true}],"Default":"Y"`), `field "Choices[0].Next": is missing`},
		{"a nested choice with Next", one(`"Type":"Choice","Choices":[{"Not":{"Variable":"$","IsNull":true,"Next":"Y"},"Next":"Y"}]`), `field "Choices[0].Not.Next": is no field of a nested choice rule`},
		{"a choice without operator", one(`"Type":"Choice","Choices":[{"Variable":"$","Next":"Y"}]`), `field "Choices[0]": the rule has neither operator`},
		{"a choice with two operators", one(`"Type":"Choice","Choices":[{"Variable":"$","IsNull":true,"IsString":true,"Next":"Y"}]`), `field "Choices[0].IsString": given beside IsNull`},
		{"an unknown operator", one(`"Type":"Choice","Choices":[{"Variable":"$","StringContains":"x","Next":"Y"}]`), `field "Choices[0].StringContains": is no field of a choice rule`},
		{"an order of booleans", one(`"Type":"Choice","Choices":[{"Variable":"$","BooleanLessThan":true,"Next":"Y"}]`), `field "Choices[0].BooleanLessThan": is no field of a choice rule`},
		{"a comparison without Variable", one(`"Type":"Choice","Choices":[{"IsNull":true,"Next":"Y"}]`), `field "Choices[0].Variable": is missing`},
		{"And without rules", one(`"Type":"Choice","Choices":[{"And":[],"Next":"Y"}]`), `field "Choices[0].And": is empty`},
		{"And beside Or", one(`"Type":"Choice","Choices":[{"And":[{"Variable":"$","IsNull":true}],"Or":[{"Variable":"$","IsNull":true}],"Next":"Y"}]`), `field "Choices[0].Or": given beside And`},
		{"a JSONata condition", one(`"Type":"Choice","Choices":[{"Condition":"{% true %}","Next":"Y"}]`), `field "Choices[0].Condition": JSONata is not supported`},
		{"a number compared as text", one(`"Type":"Choice","Choices":[{"Variable":"$","StringEquals":1,"Next":"Y"}]`), `field "Choices[0].StringEquals": a string is needed, not number`},
		{"a text compared as number", one(`"Type":"Choice","Choices":[{"Variable":"$","NumericEquals":"1","Next":"Y"}]`), `a number is needed, not string`},
		{"a text as boolean", one(`"Type":"Choice","Choices":[{"Variable":"$","IsPresent":"true","Next":"Y"}]`), `a boolean is needed, not string`},
		{"a timestamp without zone", one(`"Type":"Choice","Choices":[{"Variable":"$","TimestampEquals":"2016-03-14T01:59:00","Next":"Y"}]`), `"2016-03-14T01:59:00" is no timestamp`},
		{"an open escape in a pattern", one(`"Type":"Choice","Choices":[{"Variable":"$","StringMatches":"a\\","Next":"Y"}]`), `a backslash escapes nothing`},
		{"a comparison with a path that is none", one(`"Type":"Choice","Choices":[{"Variable":"$","StringEqualsPath":"x","Next":"Y"}]`), `field "Choices[0].StringEqualsPath": path "x" does not begin with $`},

		{"a wait without time", end(`"Type":"Wait"`), `state "X": field "Seconds": is missing`},
		{"a wait with two times", end(`"Type":"Wait","Seconds":1,"TimestampPath":"$.t"`), `field "TimestampPath": given beside Seconds`},
		{"a negative wait", end(`"Type":"Wait","Seconds":-1`), `field "Seconds": -1 is no integer`},
		{"a wait until no timestamp", end(`"Type":"Wait","Timestamp":"2016-03-14 01:59:00Z"`), `field "Timestamp": "2016-03-14 01:59:00Z" is no timestamp`},
		{"a timestamp in lower case", end(`"Type":"Wait","Timestamp":"2016-03-14t01:59:00z"`), `is no timestamp`},
		{"a wait for many seconds of a path", end(`"Type":"Wait","SecondsPath":"$.a[*]"`), `a reference path takes only names and indexes`},

		{"Error beside ErrorPath", `{"StartAt":"X","States":{"X":{"Type":"Fail","Error":"A","ErrorPath":"$.e"}}}`, `field "ErrorPath": given beside Error`},
		{"Cause beside CausePath", `{"StartAt":"X","States":{"X":{"Type":"Fail","Cause":"A","CausePath":"$.e"}}}`, `field "CausePath": given beside Cause`},
		{"CausePath with a function that makes no text", `{"StartAt":"X","States":{"X":{"Type":"Fail","CausePath":"States.Array()"}}}`, `field "CausePath": States.Array() cannot be used here`},
		{"InputPath of a Fail state", `{"StartAt":"X","States":{"X":{"Type":"Fail","InputPath":"$"}}}`, `field "InputPath": is no field of a Fail state`},

		{"no branches", end(`"Type":"Parallel"`), `field "Branches": is missing`},
		{"an empty list of branches", end(`"Type":"Parallel","Branches":[]`), `field "Branches": is empty`},
		{"an unknown field of a branch", end(`"Type":"Parallel","Branches":[{"StartAt":"I","States":{"I":{"Type":"Succeed"}},"TimeoutSeconds":1}]`), `field "Branches[0].TimeoutSeconds": is no field of a branch`},
		{"no item processor", end(`"Type":"Map"`), `field "ItemProcessor": is missing`},
		{"the old name of the item processor", end(`"Type":"Map","Iterator":` + nested), `field "Iterator": not supported, use ItemProcessor`},
		{"the old name of the item selector", end(mapping + `,"Parameters":{}`), `field "Parameters": not supported here, use ItemSelector`},
		{"a distributed map", end(`"Type":"Map","ItemProcessor":{"ProcessorConfig":{"Mode":"DISTRIBUTED","ExecutionType":"STANDARD"},"StartAt":"I","States":{"I":{"Type":"Succeed"}}}`), `field "ItemProcessor.ProcessorConfig.Mode": "DISTRIBUTED" is not supported`},
		{"items out of S3", end(mapping + `,"ItemReader":{}`), `field "ItemReader": distributed maps are not supported`},
		{"items that may fail", end(mapping + `,"ToleratedFailureCountPath":"$.n"`), `field "ToleratedFailureCountPath": distributed maps are not supported`},
		{"a concurrency out of the input", end(mapping + `,"MaxConcurrencyPath":"$.n"`), `field "MaxConcurrencyPath": not supported, use MaxConcurrency`},
		{"a negative concurrency", end(mapping + `,"MaxConcurrency":-1`), `field "MaxConcurrency": -1 is no integer`},
	} {
		t.Run(row.rule, func(t *testing.T) {
			m, err := Parse([]byte(row.definition), nil)
			if err == nil {
				t.Fatalf("taken: %s", row.definition)
			}
			if m != nil {
				t.Error("a machine beside an error")
			}
			if !strings.Contains(err.Error(), row.want) {
				t.Errorf("the error does not say\n%s\nbut\n%v", row.want, err)
			}
			var p Problem
			if !errors.As(err, &p) {
				t.Errorf("%T is no Problem", err)
			}
		})
	}
}

func TestParseReportsEveryProblem(t *testing.T) {
	_, err := Parse([]byte(`{"StartAt":"A","States":{"A":{"Type":"Pass","Next":"B","Foo":1},"C":{"Type":"Wait","End":true}}}`), nil)
	for _, want := range []string{`state "A": field "Foo"`, `state "A": field "Next": "B"`, `state "C": field "Seconds"`, `state "C": definition: no transition`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not mention %s: %v", want, err)
		}
	}
}

func TestSubstitution(t *testing.T) {
	with := func(comment string) []byte {
		return []byte(`{"Comment":"` + comment + `","StartAt":"X","States":{"X":{"Type":"Succeed"}}}`)
	}
	for _, row := range []struct {
		rule, comment string
		values        map[string]string
		want, problem string
	}{
		{"a value goes in", "<${A}>", map[string]string{"A": "1"}, "<1>", ""},
		{"the same value goes in twice", "${A}${A}", map[string]string{"A": "1"}, "11", ""},
		{"a dollar alone is text", "$5", nil, "$5", ""},
		{"an unknown name", "${B}", map[string]string{"A": "1"}, "", "${B} is not resolved"},
		{"a name without end", "${A", map[string]string{"A": "1"}, "", "${A is not resolved"},
		{"no name", "${}", nil, "", "${} is not resolved"},
		{"a value that needs a value", "${A}", map[string]string{"A": "${C}"}, "", "which is not resolved"},
		{"a value that breaks the JSON", "${A}", map[string]string{"A": `"`}, "", "not JSON"},
	} {
		t.Run(row.rule, func(t *testing.T) {
			m, err := Parse(with(row.comment), row.values)
			switch {
			case row.problem != "":
				if err == nil || !strings.Contains(err.Error(), row.problem) {
					t.Errorf("error %v does not say %q", err, row.problem)
				}
			case err != nil:
				t.Error(err)
			case m.Comment != row.want:
				t.Errorf("comment %q, not %q", m.Comment, row.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	everything, err := os.ReadFile("testdata/everything.asl.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(everything)
	for _, seed := range []string{
		end(`"Type":"Pass"`), end(mapping), end(task + `,"Retry":[{"ErrorEquals":["States.ALL"]}]`), `{"StartAt":"X","States":{"X":{"Type":"Fail","CausePath":"States.Format('{}',$.a)"}}}`,
		one(`"Type":"Choice","Choices":[{"And":[{"Variable":"$.a","IsPresent":true},{"Not":{"Variable":"$.a","StringMatches":"x*\\*"}}],"Next":"Y"}]`),
		end(`"Type":"Wait","TimestampPath":"$$.Execution.StartTime"`), `${A}`, `{}`, `[`,
	} {
		f.Add([]byte(seed))
	}
	values := map[string]string{"Function": "f", "Timeout": "300"}
	f.Fuzz(func(t *testing.T, definition []byte) {
		m, err := Parse(definition, values)
		if err != nil {
			var p Problem
			if !errors.As(err, &p) {
				t.Fatalf("%T is no Problem", err)
			}
			return
		}
		m.Walk(func(s *State) {
			if !json.Valid(s.Definition) {
				t.Fatalf("state %q has no definition", s.Name)
			}
		})
		checkGraph(t, &m.Graph)
	})
}

// checkGraph is what everybody may rely on after Parse.
func checkGraph(t *testing.T, g *Graph) {
	if g.States[g.StartAt] == nil || len(g.Names) != len(g.States) {
		t.Fatalf("graph starts at %q with states %v", g.StartAt, g.Names)
	}
	for _, s := range g.States {
		if ways := s.Transitions(); len(ways) == 0 && !s.Terminal() {
			t.Fatalf("state %q leads nowhere", s.Name)
		}
		for _, way := range s.Transitions() {
			if g.States[way.To] == nil {
				t.Fatalf("state %q leads to %q", s.Name, way.To)
			}
		}
		for _, inner := range s.Graphs() {
			checkGraph(t, inner)
		}
	}
}
