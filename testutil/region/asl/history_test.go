package asl

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"
)

// listed sends the history through the AWS SDK, as GetExecutionHistory would. What the SDK does not
// know is lost on the way.
func listed(t *testing.T, r *Result) []types.HistoryEvent {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		json.NewEncoder(w).Encode(map[string]any{"events": r.Events})
	}))
	defer server.Close()
	client := sfn.New(sfn.Options{Region: "us-east-1", BaseEndpoint: &server.URL, Credentials: aws.AnonymousCredentials{}})
	out, err := client.GetExecutionHistory(t.Context(), &sfn.GetExecutionHistoryInput{ExecutionArn: aws.String("arn:aws:states:us-east-1:123456789012:execution:m:x")})
	if err != nil {
		t.Fatal(err)
	}
	return out.Events
}

func TestHistoryIsWhatTheAPILists(t *testing.T) {
	const function = `"Type":"Task","Resource":"arn:aws:lambda:us-east-1:123456789012:function:f"`
	definition := `{"StartAt":"P","States":{
		"P":{"Type":"Pass","Next":"F"},
		"F":{` + function + `,"TimeoutSeconds":9,"Next":"T"},
		"T":{` + task + `,"TimeoutSeconds":8,"Retry":[{"ErrorEquals":["A"],"IntervalSeconds":1}],"Next":"M"},
		"M":{` + mapping + `,"Next":"X"},
		"X":{` + parallel("", branch("B", `"Type":"Wait","Seconds":1,"End":true`)) + `,"Next":"Q"},
		"Q":{"Type":"Choice","Choices":[{"Variable":"$","IsNull":true,"Next":"P"}],"Default":"E"},
		"E":{"Type":"Fail","Error":"Err","Cause":"why"}}}`
	var r *Result
	inTime(t, definition, `{"a": 1}`, script(`{"f":1}`, "A", `[7]`), func(result *Result, _ time.Duration) { r = result })
	events := listed(t, r)
	if len(events) != len(r.Events) {
		t.Fatalf("%d of %d events", len(events), len(r.Events))
	}
	known := types.HistoryEventType("").Values()
	byType := map[types.HistoryEventType]types.HistoryEvent{}
	for i, e := range events {
		if !slices.Contains(known, e.Type) {
			t.Errorf("the API has no event %s", e.Type)
		}
		if e.Id != r.Events[i].ID || e.PreviousEventId != r.Events[i].PreviousID || e.Timestamp == nil || e.Timestamp.UnixMilli() != r.Events[i].Timestamp.UnixMilli() {
			t.Errorf("event %d became %+v", r.Events[i].ID, e)
		}
		if _, ok := byType[e.Type]; !ok {
			byType[e.Type] = e
		}
	}
	s := aws.ToString
	for _, row := range []struct{ rule, got, want string }{
		{"ExecutionStarted tells the input as it was given", s(byType["ExecutionStarted"].ExecutionStartedEventDetails.Input), `{"a": 1}`},
		{"ExecutionStarted tells the role", s(byType["ExecutionStarted"].ExecutionStartedEventDetails.RoleArn), "arn:aws:iam::123456789012:role/machine"},
		{"StateEntered tells the name", s(byType["PassStateEntered"].StateEnteredEventDetails.Name), "P"},
		{"StateEntered tells the input", s(byType["PassStateEntered"].StateEnteredEventDetails.Input), `{"a":1}`},
		{"StateExited tells the output", s(byType["TaskStateExited"].StateExitedEventDetails.Output), `{"f":1}`},
		{"LambdaFunctionScheduled tells the function", s(byType["LambdaFunctionScheduled"].LambdaFunctionScheduledEventDetails.Resource), "arn:aws:lambda:us-east-1:123456789012:function:f"},
		{"LambdaFunctionScheduled tells the input", s(byType["LambdaFunctionScheduled"].LambdaFunctionScheduledEventDetails.Input), `{"a":1}`},
		{"LambdaFunctionSucceeded tells the output", s(byType["LambdaFunctionSucceeded"].LambdaFunctionSucceededEventDetails.Output), `{"f":1}`},
		{"TaskScheduled tells the service", s(byType["TaskScheduled"].TaskScheduledEventDetails.ResourceType), "lambda"},
		{"TaskScheduled tells the action", s(byType["TaskScheduled"].TaskScheduledEventDetails.Resource), "invoke"},
		{"TaskScheduled tells the parameters", s(byType["TaskScheduled"].TaskScheduledEventDetails.Parameters), `{"f":1}`},
		{"TaskScheduled tells the region", s(byType["TaskScheduled"].TaskScheduledEventDetails.Region), "us-east-1"},
		{"TaskStarted tells the action", s(byType["TaskStarted"].TaskStartedEventDetails.Resource), "invoke"},
		{"TaskFailed tells the error", s(byType["TaskFailed"].TaskFailedEventDetails.Error), "A"},
		{"TaskFailed tells the cause", s(byType["TaskFailed"].TaskFailedEventDetails.Cause), "because"},
		{"TaskSucceeded tells the output", s(byType["TaskSucceeded"].TaskSucceededEventDetails.Output), `[7]`},
		{"MapIterationStarted tells the state", s(byType["MapIterationStarted"].MapIterationStartedEventDetails.Name), "M"},
		{"ExecutionFailed tells the error", s(byType["ExecutionFailed"].ExecutionFailedEventDetails.Error), "Err"},
		{"ExecutionFailed tells the cause", s(byType["ExecutionFailed"].ExecutionFailedEventDetails.Cause), "why"},
	} {
		t.Run(row.rule, func(t *testing.T) {
			if row.got != row.want {
				t.Errorf("%s, not %s", row.got, row.want)
			}
		})
	}
	if n := byType["TaskScheduled"].TaskScheduledEventDetails.TimeoutInSeconds; n == nil || *n != 8 {
		t.Errorf("timeout of the task: %v", n)
	}
	if n := byType["MapStateStarted"].MapStateStartedEventDetails.Length; n != 1 {
		t.Errorf("length of the map: %d", n)
	}
}

// The order and the predecessors of events are those of executions recorded from the service by
// LocalStack's test suite (tests/aws/services/stepfunctions/v2/scenarios and timeouts).
func TestHistoryInOrder(t *testing.T) {
	for _, row := range []struct {
		rule, definition, input string
		tasks                   runner
		want                    string // type<predecessor
	}{
		{
			"a task of an integration", end(task), `{}`, script("1"),
			"ExecutionStarted<0 TaskStateEntered<0 TaskScheduled<2 TaskStarted<3 TaskSucceeded<4 TaskStateExited<5 ExecutionSucceeded<6",
		},
		{
			"a function fails and is tried again", end(`"Type":"Task","Resource":"arn:aws:lambda:us-east-1:123456789012:function:f","Retry":[{"ErrorEquals":["E"]}]`), `{}`, script("E", "1"),
			"ExecutionStarted<0 TaskStateEntered<0 LambdaFunctionScheduled<2 LambdaFunctionStarted<3 LambdaFunctionFailed<4" +
				" LambdaFunctionScheduled<5 LambdaFunctionStarted<6 LambdaFunctionSucceeded<7 TaskStateExited<8 ExecutionSucceeded<9",
		},
		{
			"a map over one item at a time", end(mapping + `,"MaxConcurrency":1`), `[1,"two",true]`, nil,
			"ExecutionStarted<0 MapStateEntered<0 MapStateStarted<2 MapIterationStarted<3 PassStateEntered<4 PassStateExited<5 MapIterationSucceeded<6" +
				" MapIterationStarted<6 PassStateEntered<8 PassStateExited<9 MapIterationSucceeded<10 MapIterationStarted<10 PassStateEntered<12" +
				" PassStateExited<13 MapIterationSucceeded<14 MapStateSucceeded<15 MapStateExited<15 ExecutionSucceeded<17",
		},
		{
			"a map over nothing", end(mapping), `[]`, nil,
			"ExecutionStarted<0 MapStateEntered<0 MapStateStarted<2 MapStateSucceeded<3 MapStateExited<3 ExecutionSucceeded<5",
		},
		{
			"an item fails and the map catches it", `{"StartAt":"X","States":{"X":{"Type":"Map","ItemProcessor":` + branch("I", `"Type":"Fail","Error":"E"`) + `,"Catch":[{"ErrorEquals":["E"],"Next":"C"}],"Next":"C"},"C":{"Type":"Pass","End":true}}}`, `[1]`, nil,
			"ExecutionStarted<0 MapStateEntered<0 MapStateStarted<2 MapIterationStarted<3 FailStateEntered<4 MapIterationFailed<5 MapStateFailed<5" +
				" MapStateExited<7 PassStateEntered<8 PassStateExited<9 ExecutionSucceeded<10",
		},
		{
			"a branch fails and is tried again in vain", end(parallel(`,"Retry":[{"ErrorEquals":["E"],"MaxAttempts":2}]`, branch("B", `"Type":"Fail","Error":"E"`))), `{}`, nil,
			"ExecutionStarted<0 ParallelStateEntered<0 ParallelStateStarted<2 FailStateEntered<3 ParallelStateStarted<4 FailStateEntered<5" +
				" ParallelStateStarted<6 FailStateEntered<7 ParallelStateFailed<8 ExecutionFailed<9",
		},
		{
			"items that time out together", end(`"Type":"Map","ItemProcessor":` + branch("I", task+`,"TimeoutSeconds":5,"End":true`)), `[0,1]`, func(ctx context.Context, _ string, in json.RawMessage) (json.RawMessage, error) {
				if string(in) == "1" {
					<-ctx.Done()
					return nil, nil
				}
				return nil, &Error{Name: "States.Timeout"}
			},
			"ExecutionStarted<0 MapStateEntered<0 MapStateStarted<2 MapIterationStarted<3 MapIterationStarted<3 TaskStateEntered<4 TaskScheduled<6 TaskStarted<7" +
				" TaskStateEntered<5 TaskScheduled<9 TaskStarted<10 TaskTimedOut<8 MapIterationFailed<12 TaskStateAborted<12 MapIterationAborted<12 MapStateFailed<12 ExecutionFailed<16",
		},
	} {
		t.Run(row.rule, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var got []string
				for _, e := range run(t, row.definition, row.input, row.tasks).Events {
					got = append(got, e.Type+"<"+string(encode(number(int(e.PreviousID)))))
				}
				if s := strings.Join(got, " "); s != row.want {
					t.Errorf("events\n%s\nnot\n%s", s, row.want)
				}
			})
		})
	}
}
