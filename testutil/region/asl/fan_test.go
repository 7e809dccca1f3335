package asl

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// branch is a graph of one state of the given name and fields.
func branch(name, fields string) string {
	return `{"StartAt":"` + name + `","States":{"` + name + `":{` + fields + `}}}`
}

func parallel(rest string, branches ...string) string {
	return `"Type":"Parallel","Branches":[` + strings.Join(branches, ",") + `]` + rest
}

const pass = `"Type":"Pass","End":true`

func TestParallel(t *testing.T) {
	for _, row := range []struct{ rule, state, input, want string }{
		{"each branch gets the input; the results keep the order of the branches", parallel("", branch("A", `"Type":"Wait","Seconds":2,"Next":"A2"},"A2":{"Type":"Pass","Result":"slow","End":true`), branch("B", `"Type":"Pass","Result":"fast","End":true`), branch("C", pass)), `{"a":1}`, `["slow","fast",{"a":1}]`},
		{"Parameters make the input of the branches", parallel(`,"Parameters":{"b.$":"$.a"}`, branch("A", pass)), `{"a":1}`, `[{"b":1}]`},
		{"ResultSelector and ResultPath", parallel(`,"ResultSelector":{"x.$":"$[0].a"},"ResultPath":"$.r"`, branch("A", pass), branch("B", pass)), `{"a":1}`, `{"a":1,"r":{"x":1}}`},
		{"a Succeed state ends its branch alone", parallel("", branch("A", `"Type":"Succeed"`), branch("B", `"Type":"Wait","Seconds":1,"Next":"B2"},"B2":{"Type":"Pass","Result":2,"End":true`)), `1`, `[1,2]`},
		{"branches inside branches", parallel("", branch("A", parallel("", branch("B", pass), branch("C", pass))+`,"End":true`)), `1`, `[[1,1]]`},
	} {
		t.Run(row.rule, func(t *testing.T) {
			inTime(t, end(row.state), row.input, echo, func(r *Result, _ time.Duration) {
				if string(r.Output) != row.want {
					t.Errorf("output %s, not %s (%s: %s)", r.Output, row.want, r.Error, r.Cause)
				}
			})
		})
	}
}

func TestMap(t *testing.T) {
	body := func(fields string) string {
		return `"Type":"Map","ItemProcessor":` + branch("I", `"Type":"Pass",`+fields+`"End":true`)
	}
	for _, row := range []struct{ rule, state, input, want string }{
		{"the input is the array", body(""), `[1,"two",true]`, `[1,"two",true]`},
		{"no items", body(""), `[]`, `[]`},
		{"ItemsPath selects the array", body("") + `,"ItemsPath":"$.l"`, `{"l":[1,2]}`, `[1,2]`},
		{"ItemsPath applies after InputPath", body("") + `,"InputPath":"$.in","ItemsPath":"$.l","ResultPath":"$.out"`, `{"in":{"l":[1]}}`, `{"in":{"l":[1]},"out":[1]}`},
		{"ItemSelector sees item, index and the Map's input", body("") + `,"ItemsPath":"$.l","ItemSelector":{"v.$":"$$.Map.Item.Value","i.$":"$$.Map.Item.Index","k.$":"$.k","fix":0}`, `{"l":["a","b"],"k":9}`, `[{"v":"a","i":0,"k":9,"fix":0},{"v":"b","i":1,"k":9,"fix":0}]`},
		{"states inside see the item, too", body(`"Parameters":{"i.$":"$$.Map.Item.Index","v.$":"$"},`), `["a","b"]`, `[{"i":0,"v":"a"},{"i":1,"v":"b"}]`},
		{"the inner of two maps has its own item", `"Type":"Map","ItemProcessor":` + branch("M", body(`"Parameters":{"i.$":"$$.Map.Item.Index"},`)+`,"End":true`), `[[1],[2,3]]`, `[[{"i":0}],[{"i":0},{"i":1}]]`},
		{"a map inside a branch inside a map keeps the item", `"Type":"Map","ItemProcessor":` + branch("P", parallel("", branch("I", `"Type":"Pass","Parameters":{"i.$":"$$.Map.Item.Index"},"End":true`))+`,"End":true`), `[7,8]`, `[[{"i":0}],[{"i":1}]]`},
		{"ResultSelector shapes the list", body("") + `,"ResultSelector":{"n.$":"States.ArrayLength($)"}`, `[1,2,3]`, `{"n":3}`},
	} {
		t.Run(row.rule, func(t *testing.T) {
			r := run(t, end(row.state), row.input, nil)
			if string(r.Output) != row.want {
				t.Errorf("output %s, not %s (%s: %s)", r.Output, row.want, r.Error, r.Cause)
			}
		})
	}
}

func TestMaxConcurrency(t *testing.T) {
	for _, row := range []struct {
		rule       string
		max, items int
		want       int64
		took       time.Duration
	}{
		{"one at a time", 1, 4, 1, 4 * time.Second},
		{"two at a time", 2, 5, 2, 3 * time.Second},
		{"no limit is a limit of 40", 0, 41, 40, 2 * time.Second},
		{"more than 40 is 40", 100, 80, 40, 2 * time.Second},
	} {
		t.Run(row.rule, func(t *testing.T) {
			var now, most atomic.Int64
			tasks := runner(func(_ context.Context, _ string, input json.RawMessage) (json.RawMessage, error) {
				if n := now.Add(1); n > most.Load() {
					most.Store(n)
				}
				time.Sleep(time.Second)
				now.Add(-1)
				return input, nil
			})
			items := make([]int, row.items)
			for i := range items {
				items[i] = i
			}
			input, _ := json.Marshal(items)
			state := `"Type":"Map","MaxConcurrency":` + fmt.Sprint(row.max) + `,"ItemProcessor":` + branch("I", task+`,"End":true`)
			inTime(t, end(state), string(input), tasks, func(r *Result, took time.Duration) {
				if most.Load() != row.want || took != row.took {
					t.Errorf("%d at a time in %v, not %d in %v", most.Load(), took, row.want, row.took)
				}
				if string(r.Output) != string(input) {
					t.Errorf("output %s out of order", r.Output)
				}
			})
		})
	}
}

func TestIterationsOneByOneKeepTheirOrder(t *testing.T) {
	state := `"Type":"Map","MaxConcurrency":1,"ItemProcessor":{"StartAt":"A","States":{"A":{"Type":"Pass","Next":"B"},"B":{"Type":"Pass","End":true}}}`
	r := run(t, end(state), `[1,2]`, nil)
	if got := strings.Join(r.Trace(), " "); got != "X A B A B" {
		t.Errorf("states %s", got)
	}
}

func TestBranchesTakeTurns(t *testing.T) {
	two := func(n string) string {
		return `{"StartAt":"` + n + `1","States":{"` + n + `1":{"Type":"Pass","Next":"` + n + `2"},"` + n + `2":{"Type":"Pass","End":true}}}`
	}
	for range 20 {
		r := run(t, end(parallel("", two("A"), two("B"), two("C"))), `{}`, nil)
		if got := strings.Join(r.Trace(), " "); got != "X A1 B1 C1 A2 B2 C2" {
			t.Fatalf("states %s", got)
		}
	}
}

func TestAFailingBranchEndsTheOthers(t *testing.T) {
	for _, row := range []struct {
		rule, state, input string
		trace              string
		events             string // after the failure
		took               time.Duration
	}{
		{
			"a sibling that waits", parallel("", branch("B", `"Type":"Wait","Seconds":60,"Next":"B2"},"B2":{`+pass), branch("A", `"Type":"Fail","Error":"E","Cause":"c"`)), `{}`,
			"X B A", "WaitStateAborted ParallelStateFailed ExecutionFailed", 0,
		},
		{
			"a sibling that works", parallel("", branch("A", `"Type":"Wait","Seconds":1,"Next":"A2"},"A2":{"Type":"Fail","Error":"E","Cause":"c"`), branch("B", task+`,"End":true`)), `{}`,
			"X A B A2", "TaskStateAborted ParallelStateFailed ExecutionFailed", time.Second,
		},
		{
			"a sibling that is about to retry", parallel("", branch("A", `"Type":"Wait","Seconds":21,"Next":"A2"},"A2":{"Type":"Fail","Error":"E","Cause":"c"`), branch("B", task+`,"TimeoutSeconds":20,"Retry":[{"ErrorEquals":["States.Timeout"],"IntervalSeconds":60}],"End":true`)), `{}`,
			"X A B A2", "TaskStateAborted ParallelStateFailed ExecutionFailed", 21 * time.Second,
		},
		{
			"a sibling with branches of its own", parallel("", branch("A", `"Type":"Wait","Seconds":1,"Next":"A2"},"A2":{"Type":"Fail","Error":"E","Cause":"c"`), branch("B", parallel("", branch("C", `"Type":"Wait","Seconds":60,"End":true`))+`,"End":true`)), `{}`,
			"X A B C A2", "WaitStateAborted ParallelStateAborted ParallelStateFailed ExecutionFailed", time.Second,
		},
		{
			"the other items of a map", `"Type":"Map","ItemProcessor":{"StartAt":"Q","States":{"Q":{"Type":"Choice","Choices":[{"Variable":"$","NumericEquals":2,"Next":"F"}],"Default":"W"},"F":{"Type":"Fail","Error":"E","Cause":"c"},"W":{"Type":"Wait","Seconds":60,"End":true}}}`, `[1,2]`,
			"X Q Q W F", "MapIterationFailed WaitStateAborted MapIterationAborted MapStateFailed ExecutionFailed", 0,
		},
	} {
		t.Run(row.rule, func(t *testing.T) {
			// busy heeds its context, so that the test does not go on without it.
			busy := runner(func(ctx context.Context, _ string, _ json.RawMessage) (json.RawMessage, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			})
			inTime(t, end(row.state), row.input, busy, func(r *Result, took time.Duration) {
				if r.Status != Failed || r.Error != "E" || r.Cause != "c" || took != row.took {
					t.Errorf("%s: %s: %s after %v", r.Status, r.Error, r.Cause, took)
				}
				if got := strings.Join(r.Trace(), " "); got != row.trace {
					t.Errorf("states %s, not %s", got, row.trace)
				}
				if !strings.HasSuffix(kinds(r), " "+row.events) {
					t.Errorf("events %s do not end in %s", kinds(r), row.events)
				}
			})
		})
	}
}

func TestNoStateFollowsAFailedSibling(t *testing.T) {
	// B is ready to go on when A fails. Whatever the order, no state of B may be entered afterwards.
	steps := `"B1":{"Type":"Pass","Next":"B2"},"B2":{"Type":"Pass","Next":"B3"},"B3":{"Type":"Pass","End":true}`
	r := run(t, end(parallel("", `{"StartAt":"B1","States":{`+steps+`}}`, branch("A", `"Type":"Fail"`), `{"StartAt":"C1","States":{`+strings.ReplaceAll(steps, "B", "C")+`}}`)), `{}`, nil)
	if got := strings.Join(r.Trace(), " "); got != "X B1 A" && got != "X B1 A C1" {
		t.Errorf("states %s", got)
	}
}

func TestFailureOfABranchIsHandledOutside(t *testing.T) {
	machine := func(handlers string, inner string) string {
		return `{"StartAt":"X","States":{"X":{` + parallel(handlers, branch("A", inner)) + `,"Next":"Y"},"Y":{"Type":"Succeed"},"C":{"Type":"Succeed"}}}`
	}
	const catchAll = `,"Catch":[{"ErrorEquals":["States.ALL"],"ResultPath":"$.e","Next":"C"}]`
	const failing = task + `,"End":true`
	for _, row := range []struct {
		rule, definition string
		answers          []string
		trace, output    string
		err              string
	}{
		{"Catch of the Parallel state", machine(catchAll, failing), []string{"E"}, "X A C", `{"e":{"Error":"E","Cause":"because"}}`, ""},
		{"Retry of the Parallel state starts the branch again", machine(`,"Retry":[{"ErrorEquals":["E"]}]`+catchAll, failing), []string{"E", "E", "1"}, "X A A A Y", `[1]`, ""},
		{"States.Runtime passes every Catch", machine(catchAll, `"Type":"Pass","InputPath":"$.no","End":true`), nil, "X A", "", "States.Runtime"},
		{"a choice without a way passes every Catch", machine(catchAll, `"Type":"Choice","Choices":[{"Variable":"$","IsNull":true,"Next":"A2"}]},"A2":{"Type":"Succeed"`), nil, "X A", "", "States.Runtime"},
		{"Catch inside the branch comes first", machine(catchAll, task+`,"Catch":[{"ErrorEquals":["E"],"Next":"A2"}],"End":true},"A2":{"Type":"Pass","Result":5,"End":true`), []string{"E"}, "X A A2 Y", `[5]`, ""},
	} {
		t.Run(row.rule, func(t *testing.T) {
			inTime(t, row.definition, `{}`, script(row.answers...), func(r *Result, _ time.Duration) {
				if got := strings.Join(r.Trace(), " "); got != row.trace || string(r.Output) != row.output || r.Error != row.err {
					t.Errorf("states %s with %s and error %s, not %s with %s and %s", got, r.Output, r.Error, row.trace, row.output, row.err)
				}
			})
		})
	}
}

func TestAMapIsRetriedWhole(t *testing.T) {
	state := `"Type":"Map","Retry":[{"ErrorEquals":["E"],"MaxAttempts":1}],"ItemProcessor":` + branch("I", task+`,"End":true`)
	inTime(t, end(state), `[1]`, script("E", "7"), func(r *Result, _ time.Duration) {
		if string(r.Output) != "[7]" {
			t.Errorf("output %s", r.Output)
		}
		want := "ExecutionStarted MapStateEntered" +
			" MapStateStarted MapIterationStarted TaskStateEntered TaskScheduled TaskStarted TaskFailed MapIterationFailed" +
			" MapStateStarted MapIterationStarted TaskStateEntered TaskScheduled TaskStarted TaskSucceeded TaskStateExited MapIterationSucceeded" +
			" MapStateSucceeded MapStateExited ExecutionSucceeded"
		if kinds(r) != want {
			t.Errorf("events %s", kinds(r))
		}
	})
}

func TestManyBranchesAtOnce(t *testing.T) {
	// For the race detector: tasks that end at the same moment, in real time.
	var branches []string
	for i := range 20 {
		branches = append(branches, branch(fmt.Sprintf("S%d", i), task+`,"End":true`))
	}
	var events []int64
	m := mustParse(t, end(parallel("", branches...)))
	r, err := Run(t.Context(), m, nil, Options{Tasks: echo, OnEvent: func(e Event) { events = append(events, e.ID) }})
	if err != nil || r.Status != Succeeded {
		t.Fatal(r, err)
	}
	if !slices.IsSorted(events) || len(events) != len(r.Events) {
		t.Errorf("events were announced as %v", events)
	}
}

func TestStopInsideBranches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustParse(t, end(parallel(`,"Catch":[{"ErrorEquals":["States.ALL"],"Next":"X"}]`, branch("A", `"Type":"Wait","Seconds":60,"End":true`), branch("B", mapping+`,"End":true`))))
		x, err := Start(t.Context(), m, json.RawMessage(`[]`), Options{})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		x.Stop("Halt", "enough")
		r := x.Wait()
		if r.Status != Aborted || r.Error != "Halt" || r.Cause != "enough" {
			t.Errorf("%s: %s: %s", r.Status, r.Error, r.Cause)
		}
		if !strings.HasSuffix(kinds(r), "MapStateExited ExecutionAborted") {
			t.Errorf("events %s", kinds(r))
		}
	})
}
