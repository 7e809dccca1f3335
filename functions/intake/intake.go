package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	lambdaevents "github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"flashtap/events"
	"flashtap/functions/evidence"
	"flashtap/functions/internal/awserr"
	"flashtap/functions/lease"
	"flashtap/functions/plan"
	"flashtap/functions/survey"
)

type intake struct {
	ec2       *ec2.Client
	machines  *sfn.Client
	schedules *scheduler.Client
	queues    *sqs.Client
	store     evidence.Store
	settings  events.Settings
}

// run takes a batch of messages. One that can't be taken now is given back alone: the queue is FIFO for the sake of its
// two groups, not of an order among findings, and SQS would count a further receive of all the others, which would bring
// them to the dead-letter queue with it.
func (in intake) run(ctx context.Context, batch lambdaevents.SQSEvent) (lambdaevents.SQSEventResponse, error) {
	var back lambdaevents.SQSEventResponse
	for _, message := range batch.Records {
		if err := in.take(ctx, message); err != nil {
			slog.Error("event not taken; it comes again", "message", message.MessageId, "err", err)
			back.BatchItemFailures = append(back.BatchItemFailures, lambdaevents.SQSBatchItemFailure{ItemIdentifier: message.MessageId})
		}
	}
	return back, nil
}

// arrival is an event that means captures.
type arrival struct {
	finding events.Finding
	event   []byte
	sent    time.Time
	message lambdaevents.SQSMessage
}

// errFull says that all places of the deployment are taken.
var errFull = errors.New("all places are taken")

// take handles one event. A refusal is final: it is logged with its reason, and the message is done with. An error
// means that the same message may succeed later.
func (in intake) take(ctx context.Context, message lambdaevents.SQSMessage) error {
	event := []byte(message.Body)
	finding, err := events.ParseFinding(event)
	var suspects []events.Suspect
	if err == nil {
		suspects, err = in.admit(finding)
	}
	var refusal *events.Refusal
	if errors.As(err, &refusal) {
		logRefusal(finding, refusal)
		return nil
	}
	if err != nil {
		return err
	}
	started, err := sentAt(message)
	if err != nil {
		return err
	}
	a := arrival{finding: finding, event: event, sent: started, message: message}
	places := in.settings.MaxInterfaces
	for i, suspect := range suspects {
		if places <= 0 {
			slog.Warn("suspects left out", "case", finding.ID, "instance", suspect.InstanceID, "left", len(suspects)-i, "limit", in.settings.MaxInterfaces)
			break
		}
		described, err := survey.Interfaces(ctx, in.ec2, suspect)
		if err != nil {
			return err
		}
		targets, err := plan.Choose(suspect, described, plan.Share(places, len(suspects)-i-1))
		if errors.As(err, &refusal) {
			logRefusal(finding, refusal)
			continue
		}
		if err != nil {
			return err
		}
		if targets.Left > 0 {
			slog.Warn("interfaces left out", "case", finding.ID, "instance", suspect.InstanceID, "left", targets.Left, "limit", in.settings.MaxInterfaces)
		}
		why := targets.Why
		if len(targets.Notes) > 0 {
			slog.Warn("not as the finding says", "case", finding.ID, "instance", suspect.InstanceID, "notes", targets.Notes)
			why += ". " + strings.Join(targets.Notes, " ")
		}
		places -= len(targets.Interfaces)
		for _, ni := range targets.Interfaces {
			err := in.capture(ctx, a, ni, why)
			if errors.Is(err, errFull) {
				return in.wait(ctx, finding, message) // once, for all its interfaces: those that run are joined when it comes again
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func logRefusal(f events.Finding, r *events.Refusal) {
	slog.Warn("refused", "case", f.ID, "type", f.Type, "reason", r.Reason, "detail", r.Detail, "remedy", r.Remedy, "refused", 1)
}

// admit refuses what is not for this deployment to capture.
func (in intake) admit(f events.Finding) ([]events.Suspect, error) {
	if f.Sample && !in.settings.AllowSamples {
		return nil, &events.Refusal{Reason: events.SampleFinding, Detail: "finding " + f.ID + " is a sample",
			Remedy: "to rehearse with samples, deploy with FLASHTAP_ALLOW_SAMPLES=true"}
	}
	if f.Archived {
		return nil, &events.Refusal{Reason: events.Irrelevant, Detail: "finding " + f.ID + " is archived",
			Remedy: "unarchive it, or start a capture by hand"}
	}
	own := f.OwnSuspects(in.settings.Account, in.settings.Region)
	if foreign := f.CheckOwner(in.settings.Account, in.settings.Region); foreign != nil {
		if len(own) == 0 {
			return nil, foreign
		}
		slog.Warn("suspects elsewhere left out", "case", f.ID, "left", len(f.Suspects)-len(own), "err", foreign)
	}
	return own, nil
}

// sentAt is when the message was sent. It stays the same when the message comes again, and so does the capture's id.
func sentAt(message lambdaevents.SQSMessage) (time.Time, error) {
	ms, err := strconv.ParseInt(message.Attributes["SentTimestamp"], 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("message %s: SentTimestamp: %w", message.MessageId, err)
	}
	return time.UnixMilli(ms).UTC(), nil
}

// capture joins the capture that runs on the interface, or starts one; errFull when there is no place for another.
func (in intake) capture(ctx context.Context, a arrival, ni types.NetworkInterface, why string) error {
	f, event, eni := a.finding, a.event, aws.ToString(ni.NetworkInterfaceId)
	c := events.NewCaptureID(a.sent, eni)
	running, err := lease.Read(ctx, in.schedules, in.settings.ScheduleGroup, eni)
	if err != nil {
		return err
	}
	if running != nil && running.Capture != c && !running.Over(time.Now()) {
		return in.join(ctx, running.Capture, f, event)
	}
	if running == nil {
		full, err := in.full(ctx)
		if err != nil {
			return err
		}
		if full {
			return errFull
		}
	}
	if err := in.store.Create(ctx, events.FindingKey(c), event); errors.Is(err, evidence.ErrExists) {
		return in.join(ctx, c, f, event) // two events in one second about one interface
	} else if err != nil {
		return err
	}
	input, err := json.Marshal(request(c, f, ni))
	if err != nil {
		return err
	}
	execution, err := in.machines.StartExecution(ctx, &sfn.StartExecutionInput{
		StateMachineArn: &in.settings.StateMachineARN, Name: aws.String(string(c)), Input: aws.String(string(input)),
	})
	if err != nil && !awserr.IsExisting(err) { // an execution of this name is this capture's: the message came twice
		return fmt.Errorf("start capture %s: %w", c, err)
	}
	call := evidence.FailedRequestID(err)
	if execution != nil {
		call = evidence.RequestID(execution.ResultMetadata)
	}
	slog.Info("started", "capture", c, "case", f.ID, "type", f.Type, "eni", eni, "severity", f.Severity, "why", why)
	return in.store.Record(ctx, events.CustodyEntry{
		Capture: c, Actor: "intake", Act: "started", At: a.sent, Resource: eni, RequestID: call,
		Detail: map[string]string{"finding": f.ID, "type": f.Type, "message": a.message.MessageId, "why": why},
	})
}

func request(c events.CaptureID, f events.Finding, ni types.NetworkInterface) events.Request {
	r := events.Request{
		Capture: c, Case: f.Case, NetworkInterfaceID: aws.ToString(ni.NetworkInterfaceId),
		FindingID: f.ID, FindingType: f.Type, Severity: f.Severity, Reason: f.Reason, Options: f.Options,
	}
	if ni.Attachment != nil {
		r.InstanceID = aws.ToString(ni.Attachment.InstanceId)
	}
	if r.Case == "" {
		r.Case = f.ID
	}
	if !events.IsInstanceID(r.InstanceID) {
		r.InstanceID = "" // attached by a service, such as a database's interface
	}
	return r
}

// join keeps a further event with the capture that runs already.
func (in intake) join(ctx context.Context, c events.CaptureID, f events.Finding, event []byte) error {
	slog.Info("joined", "capture", c, "case", f.ID, "type", f.Type)
	digest := evidence.Digest(event)
	if err := in.store.Create(ctx, events.JoinedKey(c, digest), event); err != nil {
		return err
	}
	return in.store.Record(ctx, events.CustodyEntry{
		Capture: c, Actor: "intake", Act: "joined-" + digest[:16], Detail: map[string]string{"finding": f.ID, "type": f.Type},
	})
}

// full says whether all of the deployment's places are taken. A guard schedule is a place, and so is an execution that
// has not come to make its own yet: a batch may start many before the first has.
func (in intake) full(ctx context.Context) (bool, error) {
	names, err := lease.Names(ctx, in.schedules, in.settings.ScheduleGroup, "eni-")
	if err != nil {
		return false, err
	}
	taken := map[string]bool{}
	for _, name := range names {
		taken[name] = true
	}
	pages := sfn.NewListExecutionsPaginator(in.machines, &sfn.ListExecutionsInput{
		StateMachineArn: &in.settings.StateMachineARN, StatusFilter: sfntypes.ExecutionStatusRunning,
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return false, fmt.Errorf("list running captures: %w", err)
		}
		for _, e := range page.Executions {
			if eni := events.CaptureID(aws.ToString(e.Name)).NetworkInterfaceID(); eni != "" {
				taken[eni] = true
			}
		}
	}
	return len(taken) >= in.settings.MaxCaptures, nil
}

// wait puts the event where the sweep takes it from, by severity and then age, when a place is free. One that was let
// in before and is out of luck again has not become younger by that.
func (in intake) wait(ctx context.Context, f events.Finding, message lambdaevents.SQSMessage) error {
	slog.Warn("deferred: all places are taken", "case", f.ID, "type", f.Type, "severity", f.Severity, "places", in.settings.MaxCaptures)
	since := message.Attributes["SentTimestamp"]
	if earlier, ok := message.MessageAttributes[events.AttributeSince]; ok && earlier.StringValue != nil {
		since = *earlier.StringValue
	}
	number := func(text string) sqstypes.MessageAttributeValue {
		return sqstypes.MessageAttributeValue{DataType: aws.String("Number"), StringValue: &text}
	}
	_, err := in.queues.SendMessage(ctx, &sqs.SendMessageInput{
		QueueUrl: &in.settings.WaitingQueueURL, MessageBody: &message.Body,
		MessageAttributes: map[string]sqstypes.MessageAttributeValue{
			events.AttributeSeverity: number(strconv.FormatFloat(f.Severity, 'f', -1, 64)),
			events.AttributeSince:    number(since),
		},
	})
	if err != nil {
		return fmt.Errorf("defer finding %s: %w", f.ID, err)
	}
	return nil
}
