package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/aws/smithy-go"

	"flashtap/events"
)

// TestEveryStateHasAPhase keeps the words beside the state machine's file.
func TestEveryStateHasAPhase(t *testing.T) {
	body, err := os.ReadFile("../../infra/capture.asl.json")
	if err != nil {
		t.Fatal(err)
	}
	var machine struct{ States map[string]json.RawMessage }
	if err := json.Unmarshal(body, &machine); err != nil {
		t.Fatal(err)
	}
	for state := range machine.States {
		if _, known := phases[state]; !known {
			t.Errorf("state %s has no phase", state)
		}
	}
	for state := range phases {
		if _, there := machine.States[state]; !there {
			t.Errorf("the state machine has no state %s", state)
		}
	}
	for state := range progressStates {
		if _, there := machine.States[state]; !there {
			t.Errorf("the state machine has no state %s", state)
		}
	}
}

// silent is an AWS that gives errors until a moment, and then an execution that has ended.
type silent struct {
	until time.Time
	err   error
	looks int
}

func (s *silent) DescribeExecution(context.Context, *sfn.DescribeExecutionInput, ...func(*sfn.Options)) (*sfn.DescribeExecutionOutput, error) {
	s.looks++
	if time.Now().Before(s.until) {
		return nil, s.err
	}
	return &sfn.DescribeExecutionOutput{Status: types.ExecutionStatusAborted}, nil
}

func (s *silent) GetExecutionHistory(context.Context, *sfn.GetExecutionHistoryInput, ...func(*sfn.Options)) (*sfn.GetExecutionHistoryOutput, error) {
	return &sfn.GetExecutionHistoryOutput{}, nil
}

func TestFollowOutlastsSilence(t *testing.T) {
	throttled := &smithy.GenericAPIError{Code: "ThrottlingException"}
	unknown := &smithy.GenericAPIError{Code: "ExecutionDoesNotExist"}
	denied := &smithy.GenericAPIError{Code: "AccessDeniedException"}
	for name, row := range map[string]struct {
		err    error
		silent time.Duration
		want   error // nil: the wait goes on to the end
	}{
		"throttling passes":                        {throttled, 4 * time.Minute, nil},
		"an execution may be unknown at first":     {unknown, 3 * time.Second, nil},
		"nobody waits for ever":                    {throttled, time.Hour, throttled},
		"what no waiting changes is told at once":  {denied, time.Second, denied},
		"a history that is gone is told, some day": {unknown, time.Hour, unknown},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				api := &silent{until: begun.Add(row.silent), err: row.err}
				f := &follower{api: api, arn: "arn", tell: func(string) error { return nil }}
				got, err := f.follow(t.Context())
				if !errors.Is(err, row.want) {
					t.Fatalf("error %v, want %v", err, row.want)
				}
				if row.want == nil && got.Status != "ABORTED" {
					t.Errorf("status %q", got.Status)
				}
				took := time.Since(begun)
				if row.err == denied && took > 0 || took > patience+lastPause {
					t.Errorf("the wait took %v", took)
				}
				if most := int(took/lastPause) + 12; api.looks > most {
					t.Errorf("%d looks in %v, want at most %d", api.looks, took, most)
				}
			})
		})
	}
}

func TestFollowIsInterruptedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		begun := time.Now()
		f := &follower{api: &silent{until: begun.Add(time.Hour), err: &smithy.GenericAPIError{Code: "Throttling"}}, arn: "arn", tell: func(string) error { return nil }}
		_, err := f.follow(ctx)
		if p := explain(err); p.code != exitInterrupted || time.Since(begun) != time.Second {
			t.Errorf("exit code %d after %v: %v", p.code, time.Since(begun), err)
		}
	})
}

func TestFollowTellsEachPhaseAndProgressOnce(t *testing.T) {
	at := time.Date(2026, 11, 22, 3, 4, 5, 0, time.UTC)
	id := int64(0)
	event := func(e types.HistoryEvent) types.HistoryEvent {
		id++
		e.Id, e.Timestamp = id, aws.Time(at)
		return e
	}
	entered := func(state string) types.HistoryEvent {
		return event(types.HistoryEvent{StateEnteredEventDetails: &types.StateEnteredEventDetails{Name: &state}})
	}
	exited := func(state, output string) types.HistoryEvent {
		return event(types.HistoryEvent{StateExitedEventDetails: &types.StateExitedEventDetails{Name: &state, Output: &output}})
	}
	failed := func() types.HistoryEvent {
		return event(types.HistoryEvent{TaskFailedEventDetails: &types.TaskFailedEventDetails{Error: aws.String("SourceBusy"), Cause: aws.String(`{"errorMessage": "not yet removed"}`)}})
	}
	const watched = `{"watch": {"status": "waiting", "reason": "capturing", "packets": 7, "bytes": 2048, "segments": 1}}`
	var got strings.Builder
	f := &follower{tell: func(s string) error { got.WriteString(s); return nil }}
	for _, e := range []types.HistoryEvent{
		entered("Guard"), failed(), failed(), entered("AwaitEnd"),
		entered("Watch"), exited("Watch", watched), entered("WaitWatch"), entered("Watch"), exited("Watch", watched),
		exited("Watch", `not JSON`), exited("Watch", `{"watch": {"status": "over", "reason": "its time is over", "packets": 9, "bytes": 3072, "segments": 2, "lost": 1}}`),
		entered("Teardown"), entered("WaitTeardown"), entered("Teardown"),
	} {
		if err := f.take(e); err != nil {
			t.Fatal(err)
		}
	}
	const want = `03:04:05Z  guard      first of all a schedule that ends everything after the deadline
03:04:05Z  trouble    Guard: SourceBusy: not yet removed
03:04:05Z  capturing  until the deadline, the byte cap, or a stop
03:04:05Z             7 packets, 2.0 KiB in 1 segment
03:04:05Z  over       its time is over
03:04:05Z             9 packets, 3.0 KiB in 2 segments; lost 1
03:04:05Z  teardown   removing everything that was made
`
	if got.String() != want {
		t.Errorf("told\n%swant\n%s", got.String(), want)
	}
}

func TestOutcomeCode(t *testing.T) {
	sealed := func(verdict string) *events.SealResult { return &events.SealResult{Verdict: verdict} }
	for name, row := range map[string]struct {
		outcome outcome
		want    int
	}{
		"everything is there":               {outcome{Status: "SUCCEEDED", Seal: sealed(events.VerdictComplete)}, exitOK},
		"truncation was asked for":          {outcome{Status: "SUCCEEDED", Seal: sealed(events.VerdictTruncated)}, exitOK},
		"packets are missing":               {outcome{Status: "SUCCEEDED", Seal: sealed(events.VerdictIncomplete)}, exitIncomplete},
		"the source was silent":             {outcome{Status: "SUCCEEDED", Seal: sealed(events.VerdictNothing)}, exitIncomplete},
		"a success without a seal":          {outcome{Status: "SUCCEEDED"}, exitFailed},
		"another capture runs":              {outcome{Status: "SUCCEEDED", JoinedTo: "x"}, exitRefused},
		"preflight said no":                 {outcome{Status: "FAILED", Error: "NoPlace"}, exitRefused},
		"preflight itself failed":           {outcome{Status: "FAILED", Error: "StepFailed"}, exitFailed},
		"it failed, and was sealed":         {outcome{Status: "FAILED", Error: "CollectorDied", Seal: sealed(events.VerdictComplete)}, exitFailed},
		"somebody aborted it":               {outcome{Status: "ABORTED"}, exitFailed},
		"it took longer than a machine may": {outcome{Status: "TIMED_OUT"}, exitFailed},
	} {
		t.Run(name, func(t *testing.T) {
			if got := row.outcome.code(); got != row.want {
				t.Errorf("exit code %d, want %d", got, row.want)
			}
			if !strings.HasSuffix(row.outcome.text(), "\n") {
				t.Errorf("text %q", row.outcome.text())
			}
		})
	}
}
