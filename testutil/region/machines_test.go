package region_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"

	"flashtap/testutil/region"
	"flashtap/testutil/region/asl"
	"flashtap/testutil/region/queue"
)

// machine adds a state machine whose states are given, the first one being A, and puts the function `worker` beside it.
func machine(t *testing.T, r *region.Region, states string) string {
	t.Helper()
	register(t, r, "worker")
	arn, err := r.CreateStateMachine("capture", []byte(`{"StartAt": "A", "States": {`+states+`}}`), map[string]string{"Worker": "worker"})
	must(t, err)
	return arn
}

// invoke is a Task of the Lambda integration.
func invoke(name, payload, rest string) string {
	return fmt.Sprintf(`%q: {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "Parameters": {"FunctionName": "${Worker}", "Payload": %s}, %s}`, name, payload, rest)
}

func execute(t *testing.T, r *region.Region, arn, input string) *asl.Execution {
	t.Helper()
	name := fmt.Sprintf("run-%d", len(r.Executions()))
	_, err := r.StartExecution(arn, name, []byte(input))
	must(t, err)
	x := r.Execution(name)
	select {
	case <-x.Done():
	case <-time.After(time.Minute):
		t.Fatalf("still running: %v", x.Trace())
	}
	return x
}

func TestStartExecutionIsIdempotentWhileItRuns(t *testing.T) {
	t.Parallel()
	r := start(t, region.Config{})
	ctx := t.Context()
	api := sfn.NewFromConfig(client(r, "tester"))
	arn := machine(t, r, `"A": {"Type": "Wait", "Seconds": 3600, "Next": "B"}, "B": {"Type": "Succeed"}`)
	begin := func(name, input string) (*sfn.StartExecutionOutput, error) {
		return api.StartExecution(ctx, &sfn.StartExecutionInput{StateMachineArn: &arn, Name: &name, Input: &input})
	}
	first, err := begin("one", `{"capture":1}`)
	must(t, err)
	again, err := begin("one", `{"capture":1}`)
	must(t, err)
	equal(t, "the same request", []any{*again.ExecutionArn, again.StartDate.Equal(*first.StartDate)}, []any{*first.ExecutionArn, true})
	_, err = begin("one", `{"capture":2}`)
	equal(t, "another input", code(err), "ExecutionAlreadyExists")
	if _, err = begin("two", `{"capture":1}`); err != nil {
		t.Errorf("another name: %v", err)
	}
	_, err = api.StopExecution(ctx, &sfn.StopExecutionInput{ExecutionArn: first.ExecutionArn, Error: aws.String("Operator"), Cause: aws.String("enough")})
	must(t, err)
	r.Execution("one").Wait()
	_, err = begin("one", `{"capture":1}`)
	equal(t, "the same request after the end", code(err), "ExecutionAlreadyExists")
	_, err = begin("three", `{"capture":`)
	equal(t, "an input that is no JSON", code(err), "InvalidExecutionInput")
	_, err = api.StartExecution(ctx, &sfn.StartExecutionInput{StateMachineArn: aws.String(arn + "x")})
	equal(t, "an unknown machine", code(err), "StateMachineDoesNotExist")
	unnamed, err := api.StartExecution(ctx, &sfn.StartExecutionInput{StateMachineArn: &arn})
	must(t, err)
	equal(t, "executions in the order of their start", len(r.Executions()), 3)
	equal(t, "the first two", r.Executions()[:2], []string{"one", "two"})

	list, err := api.ListExecutions(ctx, &sfn.ListExecutionsInput{StateMachineArn: &arn, StatusFilter: types.ExecutionStatusRunning})
	must(t, err)
	var names []string
	for _, x := range list.Executions {
		names = append(names, *x.ExecutionArn)
	}
	two := strings.TrimSuffix(*first.ExecutionArn, "one") + "two"
	equal(t, "running ones, the newest first", names, []string{*unnamed.ExecutionArn, two})
	page, err := api.ListExecutions(ctx, &sfn.ListExecutionsInput{StateMachineArn: &arn, MaxResults: 2})
	must(t, err)
	rest, err := api.ListExecutions(ctx, &sfn.ListExecutionsInput{StateMachineArn: &arn, MaxResults: 2, NextToken: page.NextToken})
	must(t, err)
	equal(t, "pages", []any{len(page.Executions), len(rest.Executions), *rest.Executions[0].Name, rest.Executions[0].Status, rest.NextToken == nil}, []any{2, 1, "one", types.ExecutionStatusAborted, true})
	_, err = api.ListExecutions(ctx, &sfn.ListExecutionsInput{StateMachineArn: aws.String(arn + "x")})
	equal(t, "the list of an unknown machine", code(err), "StateMachineDoesNotExist")
}

func TestTheHistoryIsTheOneOfTheAPI(t *testing.T) {
	t.Parallel()
	r := start(t, region.Config{})
	api := sfn.NewFromConfig(client(r, "tester"))
	arn := machine(t, r, invoke("A", `{"do": "fail"}`, `"Catch": [{"ErrorEquals": ["notReady"], "Next": "B"}], "End": true`)+
		`, "B": {"Type": "Wait", "Seconds": 0, "Next": "C"}, "C": {"Type": "Succeed"}`)
	x := execute(t, r, arn, `{"a":1}`)
	in := &sfn.GetExecutionHistoryInput{ExecutionArn: aws.String(x.Arn()), ReverseOrder: true, MaxResults: 4}
	var got []types.HistoryEvent
	for {
		page, err := api.GetExecutionHistory(t.Context(), in)
		must(t, err)
		got = append(got, page.Events...)
		if in.NextToken = page.NextToken; in.NextToken == nil {
			break
		}
	}
	slices.Reverse(got)
	want := x.History()
	equal(t, "events", len(got), len(want))
	for i, e := range got {
		if e.Id != want[i].ID || e.PreviousEventId != want[i].PreviousID || string(e.Type) != want[i].Type || e.Timestamp.Sub(want[i].Timestamp).Abs() > time.Millisecond {
			t.Errorf("event %d: %+v, not %+v", i, e, want[i])
		}
	}
	equal(t, "the first state", []string{*got[1].StateEnteredEventDetails.Name, *got[1].StateEnteredEventDetails.Input}, []string{"A", `{"a":1}`})
	failed := slices.IndexFunc(got, func(e types.HistoryEvent) bool { return e.TaskFailedEventDetails != nil })
	if failed < 0 || *got[failed].TaskFailedEventDetails.Error != "notReady" {
		t.Errorf("no failed task: %+v", got)
	}
	bare, err := api.GetExecutionHistory(t.Context(), &sfn.GetExecutionHistoryInput{ExecutionArn: in.ExecutionArn, IncludeExecutionData: aws.Bool(false)})
	must(t, err)
	if bare.Events[1].StateEnteredEventDetails.Input != nil {
		t.Error("a history without data has an input")
	}
}

func TestStatusChangesReachARulesTarget(t *testing.T) {
	t.Parallel()
	r := start(t, region.Config{})
	_, err := r.Queues.Create(queue.Queue{Name: "ends"})
	must(t, err)
	must(t, r.Rule("ends", `{"source": ["aws.states"], "detail-type": ["Step Functions Execution Status Change"], "detail": {"status": ["FAILED", "ABORTED", "SUCCEEDED"]}}`, r.ToQueue("ends", "")))
	must(t, r.Rule("begins", `{"source": ["aws.states"], "resources": [{"suffix": ":run-0"}], "detail": {"status": ["RUNNING"], "stopDate": [null]}}`, r.ToQueue("ends", "")))
	arn := machine(t, r, `"A": {"Type": "Choice", "Choices": [{"Variable": "$.ok", "BooleanEquals": true, "Next": "B"}], "Default": "C"},
		"B": {"Type": "Succeed"}, "C": {"Type": "Fail", "Error": "NoWay", "Cause": "because"}`)
	execute(t, r, arn, `{"ok": true}`)
	execute(t, r, arn, `{"ok": false}`)
	type change struct {
		Source, Account, Region string
		Resources               []string
		Detail                  struct {
			ExecutionArn, StateMachineArn, Name, Status, Input string
			StartDate, StopDate                                int64
			Output, Error, Cause                               *string
		}
	}
	changes := map[string]change{}
	eventually(t, "three events come", func() bool {
		messages, err := r.Queues.Messages("ends")
		must(t, err)
		for _, m := range messages {
			var c change
			must(t, json.Unmarshal([]byte(m.Body), &c))
			changes[c.Detail.Name+" "+c.Detail.Status] = c
		}
		return len(changes) == 3
	})
	begun, ended, failed := changes["run-0 RUNNING"], changes["run-0 SUCCEEDED"], changes["run-1 FAILED"]
	equal(t, "origin", []any{begun.Source, begun.Account, begun.Region, begun.Resources, begun.Detail.StateMachineArn, begun.Detail.Input},
		[]any{"aws.states", "123456789012", "us-east-1", []string{begun.Detail.ExecutionArn}, arn, `{"ok": true}`})
	if d := ended.Detail; d.Output == nil || *d.Output != `{"ok": true}` && *d.Output != `{"ok":true}` || d.Error != nil || d.StopDate < d.StartDate {
		t.Errorf("the end: %+v", d)
	}
	if d := failed.Detail; d.Output != nil || d.Error == nil || *d.Error != "NoWay" || *d.Cause != "because" {
		t.Errorf("the failure: %+v", d)
	}
}

func TestInvokeNamesErrorsByTheirType(t *testing.T) {
	t.Parallel()
	r := start(t, region.Config{})
	catch := `"Catch": [{"ErrorEquals": ["notReady"], "ResultPath": "$.caught", "Next": "Caught"}], "Next": "Done"`
	states := invoke("Fail", `{"do": "fail"}`, catch) + "," +
		`"Unknown": {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "Parameters": {"FunctionName": "nobody"}, ` + catch + `},` +
		`"Other": {"Type": "Task", "Resource": "arn:aws:states:::sns:publish", "Parameters": {}, ` + catch + `},` +
		`"Extra": {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "Parameters": {"FunctionName": "${Worker}", "InvocationType": "Event"}, ` + catch + `},` +
		invoke("Echo", `{"do": "echo", "name.$": "$.to"}`, `"ResultSelector": {"payload.$": "$.Payload", "status.$": "$.StatusCode"}, "Next": "Done"`) +
		`, "Caught": {"Type": "Succeed"}, "Done": {"Type": "Succeed"}, "A": {"Type": "Choice", "Choices": [` +
		`{"Variable": "$.to", "StringEquals": "Fail", "Next": "Fail"}, {"Variable": "$.to", "StringEquals": "Unknown", "Next": "Unknown"},` +
		`{"Variable": "$.to", "StringEquals": "Other", "Next": "Other"}, {"Variable": "$.to", "StringEquals": "Extra", "Next": "Extra"}], "Default": "Echo"}`
	arn := machine(t, r, states)

	caught := execute(t, r, arn, `{"to": "Fail"}`)
	equal(t, "the way of a named error", caught.Trace(), []string{"A", "Fail", "Caught"})
	var out struct {
		Caught struct{ Error, Cause string }
	}
	must(t, json.Unmarshal(caught.Describe().Output, &out))
	var cause struct{ ErrorType, ErrorMessage string }
	must(t, json.Unmarshal([]byte(out.Caught.Cause), &cause))
	equal(t, "what Catch saw", []string{out.Caught.Error, cause.ErrorType, cause.ErrorMessage}, []string{"notReady", "notReady", "the mirror is not ready"})

	echoed := execute(t, r, arn, `{"to": "Echo"}`).Describe()
	must(t, json.Unmarshal(echoed.Output, &map[string]any{}))
	if text := strings.ReplaceAll(string(echoed.Output), " ", ""); text != `{"payload":{"got":{"do":"echo","name":"Echo"}},"status":200}` {
		t.Errorf("the result is %s", echoed.Output)
	}
	for to, name := range map[string]string{"Unknown": "Lambda.ResourceNotFoundException", "Other": "States.Runtime", "Extra": "States.Runtime"} {
		x := execute(t, r, arn, `{"to": "`+to+`"}`).Describe()
		equal(t, to, []any{x.Status, x.Error}, []any{asl.Failed, name})
	}
}

func TestPutEventsOfAStateMachine(t *testing.T) {
	t.Parallel()
	r := start(t, region.Config{})
	var mu sync.Mutex
	var heard []string
	r.Listen(func(event []byte) {
		mu.Lock()
		defer mu.Unlock()
		if !strings.Contains(string(event), `"aws.states"`) {
			heard = append(heard, string(event))
		}
	})
	_, err := r.Queues.Create(queue.Queue{Name: "sealed"})
	must(t, err)
	must(t, r.Rule("sealed", `{"source": ["flashing"], "detail-type": ["Capture Sealed"], "detail": {"frames": [{"numeric": [">", 2]}]}}`, r.ToQueue("sealed", "")))
	entry := func(source, detail string) string {
		return `{"Entries": [{"Source": "` + source + `", "DetailType": "Capture Sealed", "EventBusName": "default", "Detail": ` + detail + `}]}`
	}
	task := func(name, entry, rest string) string {
		return fmt.Sprintf(`%q: {"Type": "Task", "Resource": "arn:aws:states:::events:putEvents", "Parameters": %s, %s}`, name, entry, rest)
	}
	arn := machine(t, r, task("A", entry("flashing", `{"frames.$": "$.frames"}`), `"ResultPath": "$.put", "Next": "B"`)+","+
		task("B", entry("flashing", `"{\"frames\": 1}"`), `"ResultPath": "$.put", "Next": "C"`)+","+
		task("C", entry("aws.flashing", `{}`), `"Catch": [{"ErrorEquals": ["EventBridge.FailedEntry"], "Next": "D"}], "End": true`)+
		`, "D": {"Type": "Succeed"}`)
	x := execute(t, r, arn, `{"frames": 3}`)
	equal(t, "the way", x.Trace(), []string{"A", "B", "C", "D"})
	messages, err := r.Queues.Messages("sealed")
	must(t, err)
	if len(messages) != 1 || !strings.Contains(messages[0].Body, `"detail":{"frames":3}`) {
		t.Errorf("the rule's target has %+v", messages)
	}
	mu.Lock()
	defer mu.Unlock()
	var event struct {
		ID, Time  string
		Resources []string
		Detail    struct{ Frames int }
	}
	if len(heard) != 2 {
		t.Fatalf("heard: %q", heard)
	}
	must(t, json.Unmarshal([]byte(heard[1]), &event))
	equal(t, "an event whose detail was a text", []any{event.Detail.Frames, event.Resources, event.ID != ""}, []any{1, []string{x.Arn(), arn}, true})
}

// What StopExecution ends is over at once: no Catch runs, and the function it waited for is let finish.
func TestStopExecutionRunsNoCatch(t *testing.T) {
	t.Parallel()
	r := start(t, region.Config{})
	arn := machine(t, r, invoke("A", `{"do": "sleep"}`, `"Catch": [{"ErrorEquals": ["States.ALL"], "Next": "B"}], "Next": "B"`)+`, "B": {"Type": "Succeed"}`)
	entered := make(chan struct{})
	r.WatchExecutions(func(name string, e asl.Event) {
		if e.Type == "TaskStarted" && name == "one" {
			close(entered)
		}
	})
	api := sfn.NewFromConfig(client(r, "tester"))
	started, err := api.StartExecution(t.Context(), &sfn.StartExecutionInput{StateMachineArn: &arn, Name: aws.String("one")})
	must(t, err)
	<-entered
	_, err = api.StopExecution(t.Context(), &sfn.StopExecutionInput{ExecutionArn: started.ExecutionArn, Error: aws.String("Operator"), Cause: aws.String("wrong button")})
	must(t, err)
	x := r.Execution("one")
	x.Wait()
	equal(t, "the way", x.Trace(), []string{"A"})
	out, err := api.DescribeExecution(t.Context(), &sfn.DescribeExecutionInput{ExecutionArn: started.ExecutionArn})
	must(t, err)
	equal(t, "the end", []string{string(out.Status), aws.ToString(out.Error), aws.ToString(out.Cause)}, []string{"ABORTED", "Operator", "wrong button"})
	time.Sleep(30 * time.Millisecond)
	again, err := api.StopExecution(t.Context(), &sfn.StopExecutionInput{ExecutionArn: started.ExecutionArn})
	must(t, err)
	if again.StopDate.Sub(*out.StopDate).Abs() > time.Millisecond {
		t.Errorf("stopped again at %v, after %v", again.StopDate, out.StopDate)
	}
}

func TestFailStatesFailsTheTasksOfAState(t *testing.T) {
	t.Parallel()
	r := start(t, region.Config{})
	arn := machine(t, r, invoke("A", `{"do": "echo"}`, `"Next": "B"`)+","+invoke("B", `{"do": "echo"}`, `"End": true`))
	r.FailStates(func(_, state string) *asl.Error {
		if state != "B" {
			return nil
		}
		return &asl.Error{Name: "Injected", Cause: "by the test"}
	})
	failed := execute(t, r, arn, `{}`).Describe()
	equal(t, "with the fault", []any{failed.Status, failed.Error, failed.Cause}, []any{asl.Failed, "Injected", "by the test"})
	r.FailStates(nil)
	equal(t, "without", execute(t, r, arn, `{}`).Status(), asl.Succeeded)
}
