package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"

	"flashtap/events"
)

type executions interface {
	DescribeExecution(context.Context, *sfn.DescribeExecutionInput, ...func(*sfn.Options)) (*sfn.DescribeExecutionOutput, error)
	GetExecutionHistory(context.Context, *sfn.GetExecutionHistoryInput, ...func(*sfn.Options)) (*sfn.GetExecutionHistoryOutput, error)
}

// follower watches one execution until it ends and tells each phase as it passes.
type follower struct {
	api  executions
	arn  string
	tell func(string) error

	seen     int64  // id of the last event that was told
	state    string // the state entered last
	phase    string // the phase told last
	progress events.WatchResult
	trouble  string // the error of a step that was told last
	outcome  outcome
}

// Between looks the wait grows from the first to the last of these: a refusal is told at once, and a capture of a day
// does not ask more often than DescribeExecution's quota bears (Step Functions Developer Guide, "Service quotas").
const (
	firstPause = 250 * time.Millisecond
	lastPause  = 5 * time.Second
)

// patience is how long AWS may give no answer before the wait is given up. An execution that was just started may also
// be unknown for a moment: its descriptions are eventually consistent (Step Functions API Reference, DescribeExecution).
const patience = 5 * time.Minute

// follow returns when the execution has ended. The outcome says what is known also when there is an error.
func (f *follower) follow(ctx context.Context) (outcome, error) {
	answered := time.Now()
	for pause := firstPause; ; pause = min(pause*3/2, lastPause) {
		over, err := f.look(ctx)
		switch {
		case ctx.Err() != nil:
			return f.outcome, ctx.Err()
		case err == nil:
			answered = time.Now()
		case !passing(err) && awsCode(err) != "ExecutionDoesNotExist" || time.Since(answered) > patience:
			return f.outcome, fmt.Errorf("watch execution %s: %w", f.arn, err)
		}
		if over {
			return f.outcome, nil
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return f.outcome, ctx.Err()
		}
	}
}

// look tells what is new, and says whether the execution is over. It asks for the status before the history, so that
// the history of one that is over is whole.
func (f *follower) look(ctx context.Context) (over bool, err error) {
	x, err := f.api.DescribeExecution(ctx, &sfn.DescribeExecutionInput{ExecutionArn: &f.arn})
	if err != nil {
		return false, err
	}
	news, err := f.news(ctx)
	if err != nil {
		return false, err
	}
	for _, e := range news {
		if err := f.take(e); err != nil {
			return false, err
		}
		f.seen = e.Id
	}
	if x.Status == types.ExecutionStatusRunning || x.Status == types.ExecutionStatusPendingRedrive {
		return false, nil
	}
	f.outcome.Status = string(x.Status)
	f.outcome.Error, f.outcome.Cause = aws.ToString(x.Error), causeText(aws.ToString(x.Cause))
	return true, nil
}

// news are the events since the last look, oldest first. It reads from the end: a long capture has thousands.
func (f *follower) news(ctx context.Context) ([]types.HistoryEvent, error) {
	var news []types.HistoryEvent
	in := &sfn.GetExecutionHistoryInput{ExecutionArn: &f.arn, ReverseOrder: true, MaxResults: 100, IncludeExecutionData: aws.Bool(true)}
	for {
		page, err := f.api.GetExecutionHistory(ctx, in)
		if err != nil {
			return nil, err
		}
		for _, e := range page.Events {
			if e.Id <= f.seen {
				slices.Reverse(news)
				return news, nil
			}
			news = append(news, e)
		}
		if aws.ToString(page.NextToken) == "" {
			slices.Reverse(news)
			return news, nil
		}
		in.NextToken = page.NextToken
	}
}

// take tells one event of the history, when it is worth telling.
func (f *follower) take(e types.HistoryEvent) error {
	at := aws.ToTime(e.Timestamp).UTC()
	switch {
	case e.StateEnteredEventDetails != nil:
		f.state = aws.ToString(e.StateEnteredEventDetails.Name)
		p := phases[f.state]
		if p.word == "" || p.word == f.phase {
			return nil
		}
		f.phase = p.word
		f.outcome.Phases = append(f.outcome.Phases, passage{Phase: p.word, At: at})
		return f.line(at, p.word, p.says)
	case e.TaskFailedEventDetails != nil:
		d := e.TaskFailedEventDetails
		says := fmt.Sprintf("%s: %s: %s", f.state, aws.ToString(d.Error), causeText(aws.ToString(d.Cause)))
		if says == f.trouble {
			return nil // the same attempt again
		}
		f.trouble = says
		return f.line(at, "trouble", says)
	case e.StateExitedEventDetails != nil:
		return f.left(at, aws.ToString(e.StateExitedEventDetails.Name), aws.ToString(e.StateExitedEventDetails.Output))
	}
	return nil
}

// left reads what a state has added to the execution's data.
func (f *follower) left(at time.Time, state, output string) error {
	var data struct {
		Plan  *events.PlanSummary `json:"plan"`
		Guard *events.GuardResult `json:"guard"`
		Watch *events.WatchResult `json:"watch"`
		Seal  *events.SealResult  `json:"seal"`
	}
	if json.Unmarshal([]byte(output), &data) != nil {
		return nil // a state's output that is not ours to read; the outcome comes from the execution's status
	}
	switch {
	case state == "Preflight" && data.Plan != nil:
		f.outcome.Capture = data.Plan.Capture
		return f.line(at, "planned", fmt.Sprintf("capture %s of %s, at the latest until %s", data.Plan.Capture, data.Plan.NetworkInterfaceID, timeText(data.Plan.Deadline)))
	case state == "Guard" && data.Guard != nil && !data.Guard.Held:
		f.outcome.JoinedTo = data.Guard.JoinedTo
	case progressStates[state] && data.Watch != nil:
		return f.advance(at, *data.Watch)
	case state == "Seal" && data.Seal != nil:
		f.outcome.Seal = data.Seal
	}
	return nil
}

// advance tells how far the collector is, when that has changed.
func (f *follower) advance(at time.Time, now events.WatchResult) error {
	before := f.progress
	f.progress = now
	// That packets flow is the next phase's own news.
	if now.Status != events.StatusWaiting && now.Status != events.StatusFlowing && now.Reason != before.Reason {
		if err := f.line(at, now.Status, now.Reason); err != nil {
			return err
		}
		if now.Remedy != "" {
			if err := f.line(at, "  fix", now.Remedy); err != nil {
				return err
			}
		}
	}
	if now.Packets == before.Packets && now.Segments == before.Segments && now.Lost == before.Lost {
		return nil
	}
	says := fmt.Sprintf("%s, %s in %s", countOf(now.Packets, "packet"), sizeText(now.Bytes), countOf(uint64(max(now.Segments, 0)), "segment"))
	if now.Lost > 0 {
		says += "; lost " + countText(now.Lost)
	}
	return f.line(at, "", says)
}

func (f *follower) line(at time.Time, word, says string) error {
	return f.tell(fmt.Sprintf("%s  %-10s %s\n", at.Format("15:04:05Z"), word, says))
}

// causeText is the message in the cause of a failed Lambda, which is the runtime's JSON (Lambda Developer Guide, "Go
// function errors").
func causeText(cause string) string {
	var said struct {
		ErrorMessage string `json:"errorMessage"`
	}
	if json.Unmarshal([]byte(cause), &said) == nil && said.ErrorMessage != "" {
		return said.ErrorMessage
	}
	return cause
}
