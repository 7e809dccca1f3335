package events

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// stateMachine is the state machine's definition, in whose hands our records travel. It is read, never imported.
const stateMachine = "../infra/capture.asl.json"

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// steps are the records that go into and come out of each function that the state machine calls.
var steps = map[string]struct{ in, out any }{
	"${PreflightFunction}": {PreflightInput{}, PlanSummary{}},
	"${GuardFunction}":     {StepInput{}, GuardResult{}},
	"${LaunchFunction}":    {StepInput{}, LaunchResult{}},
	"${MirrorFunction}":    {StepInput{}, MirrorResult{}},
	"${WatchFunction}":     {StepInput{}, WatchResult{}},
	"${TeardownFunction}":  {StepInput{}, TeardownResult{}},
	"${SealFunction}":      {StepInput{}, SealResult{}},
}

type taskState struct {
	Resource   string
	Parameters struct {
		FunctionName string
		Payload      map[string]json.RawMessage
	}
	ResultSelector map[string]string
}

func tasks(t *testing.T) map[string]taskState {
	var machine struct{ States map[string]taskState }
	if err := json.Unmarshal(read(t, stateMachine), &machine); err != nil {
		t.Fatal(err)
	}
	found := map[string]taskState{}
	for name, state := range machine.States {
		if state.Resource == "arn:aws:states:::lambda:invoke" {
			found[name] = state
		}
	}
	if len(found) < len(steps) {
		t.Fatalf("%s calls functions in %d states only", stateMachine, len(found))
	}
	return found
}

// TestSelectedFieldsAreAlwaysThere: a ResultSelector that selects a field which is not in the answer fails the
// execution (States.ParameterPathFailure), so not even a zero value may leave one out.
func TestSelectedFieldsAreAlwaysThere(t *testing.T) {
	for name, state := range tasks(t) {
		step, known := steps[state.Parameters.FunctionName]
		if !known {
			t.Errorf("state %s calls %s, which this test does not know", name, state.Parameters.FunctionName)
			continue
		}
		var answer map[string]json.RawMessage
		if err := json.Unmarshal([]byte(mustJSON(t, step.out)), &answer); err != nil {
			t.Fatal(err)
		}
		if len(state.ResultSelector) == 0 {
			t.Errorf("state %s selects nothing: all of an answer would enter the state", name)
		}
		for _, path := range state.ResultSelector {
			field, ours := strings.CutPrefix(path, "$.Payload.")
			if _, there := answer[field]; !ours || !there {
				t.Errorf("state %s selects %s, which %s of %T may leave out", name, path, mustJSON(t, step.out), step.out)
			}
		}
	}
}

// TestGivenFieldsAreRead: a field that the state machine hands over and nobody reads is lost in silence.
func TestGivenFieldsAreRead(t *testing.T) {
	for name, state := range tasks(t) {
		fields := map[string]bool{}
		record := reflect.TypeOf(steps[state.Parameters.FunctionName].in)
		for i := range record.NumField() {
			field, _, _ := strings.Cut(record.Field(i).Tag.Get("json"), ",")
			fields[field] = true
		}
		for key := range state.Parameters.Payload {
			if !fields[strings.TrimSuffix(key, ".$")] {
				t.Errorf("state %s hands over %q, which %s does not read", name, key, record.Name())
			}
		}
	}
}

// TestWhatACatchHandsOver: Step Functions writes Error and Cause with capitals (Developer Guide, "Error handling").
func TestWhatACatchHandsOver(t *testing.T) {
	var in StepInput
	if err := json.Unmarshal([]byte(`{"capture":"c","failure":{"Error":"NoPlace","Cause":"full"},"since":"2026-01-02T03:04:05.678Z","passes":3,"by":"guard"}`), &in); err != nil {
		t.Fatal(err)
	}
	if in.Failure == nil || in.Failure.Error != "NoPlace" || in.Failure.Cause != "full" || in.Since.IsZero() || in.Passes != 3 || in.By != ByGuard {
		t.Errorf("%+v", in)
	}
}

func TestTags(t *testing.T) {
	tags := ResourceTags("prod", testCapture, testDeadline, 2)
	for key, value := range tags {
		// EC2 User Guide, "Tag your resources": 128 and 256 characters; instance metadata refuses "/" and spaces in keys.
		if len(key) > 127 || len(value) > 255 || strings.ContainsAny(key, "/ ") || strings.HasPrefix(key, "aws:") {
			t.Errorf("tag %q=%q can't be set or read", key, value)
		}
	}
	if tags[TagCapture] != string(testCapture) || tags[TagDeployment] != "prod" || tags[TagAttempt] != "2" || tags[TagDeadline] != "2026-11-22T03:24:05Z" {
		t.Errorf("%v", tags)
	}
	p := Plan{Deployment: "prod", Capture: testCapture, Deadline: testDeadline, Tags: map[string]string{"Team": "soc", TagDeployment: "another"}}
	if got := p.ResourceTags(2); got["Team"] != "soc" || got[TagDeployment] != "prod" || len(got) != len(tags)+1 || len(p.Tags) != 2 {
		t.Errorf("the plan's tags are %v", got)
	}
	// EC2 API Reference, CreateSecurityGroup: up to 255 characters, not starting with sg-.
	if n := SecurityGroupName(strings.Repeat("d", 64), testCapture); len(n) > 255 || strings.HasPrefix(n, "sg-") {
		t.Errorf("security group name %q", n)
	}
	// EventBridge Scheduler API Reference, CreateSchedule: ^[0-9a-zA-Z-_.]+$, up to 64.
	if n := GuardScheduleName(testCapture.NetworkInterfaceID()); len(n) > 64 || n != "eni-0a1b2c3d4e5f60718" {
		t.Errorf("guard schedule %q", n)
	}
}
