package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"flashtap/events"
	"flashtap/functions/lease"
)

// waiting is a finding that found all places taken.
type waiting struct {
	message  types.Message
	severity float64
	since    time.Time
}

// maxWait is how long a finding may wait: a capture that starts later would show something else.
const maxWait = 6 * time.Hour

// batch is how many messages one receive brings at most (Amazon SQS API Reference, ReceiveMessage).
const batch = 10

// admit lets waiting findings back into intake's queue while there are places, the most severe first, then the oldest.
// Those that waited too long are refused, loudly.
func (s sweep) admit(ctx context.Context, r *report) error {
	names, err := lease.Names(ctx, s.schedules, s.settings.ScheduleGroup, "eni-")
	if err != nil {
		return err
	}
	free := s.settings.MaxCaptures - len(names)
	list, err := s.waiting(ctx)
	if err != nil {
		return err
	}
	slices.SortStableFunc(list, func(a, b waiting) int {
		return cmp.Or(cmp.Compare(b.severity, a.severity), a.since.Compare(b.since))
	})
	var errs []error
	for _, w := range list {
		switch {
		case time.Since(w.since) > maxWait:
			errs = append(errs, s.refuse(ctx, w))
			r.Expired++
		case free > 0:
			free--
			errs = append(errs, s.readmit(ctx, w))
			r.Admitted++
		default:
			errs = append(errs, s.putBack(ctx, w))
		}
	}
	return errors.Join(errs...)
}

// waiting takes every message that the queue gives now.
func (s sweep) waiting(ctx context.Context) ([]waiting, error) {
	var list []waiting
	for {
		out, err := s.queues.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
			QueueUrl: &s.settings.WaitingQueueURL, MaxNumberOfMessages: batch, VisibilityTimeout: 120,
			MessageAttributeNames:       []string{events.AttributeSeverity, events.AttributeSince},
			MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameSentTimestamp},
		})
		if err != nil {
			return list, fmt.Errorf("receive waiting findings: %w", err)
		}
		if len(out.Messages) == 0 {
			return list, nil
		}
		for _, m := range out.Messages {
			w := waiting{message: m, since: time.Now()}
			if a, ok := m.MessageAttributes[events.AttributeSeverity]; ok {
				w.severity, _ = strconv.ParseFloat(aws.ToString(a.StringValue), 64) // what is no number waits last
			}
			since := m.Attributes["SentTimestamp"]
			if a, ok := m.MessageAttributes[events.AttributeSince]; ok {
				since = aws.ToString(a.StringValue)
			}
			if ms, err := strconv.ParseInt(since, 10, 64); err == nil {
				w.since = time.UnixMilli(ms)
			}
			list = append(list, w)
		}
	}
}

func (s sweep) readmit(ctx context.Context, w waiting) error {
	group := "rest"
	if w.severity >= 9 {
		group = "urgent"
	}
	if _, err := s.queues.SendMessage(ctx, &sqs.SendMessageInput{
		QueueUrl: &s.settings.IntakeQueueURL, MessageBody: w.message.Body,
		MessageGroupId: &group, MessageDeduplicationId: w.message.MessageId,
		MessageAttributes: map[string]types.MessageAttributeValue{
			events.AttributeSince: {DataType: aws.String("Number"), StringValue: aws.String(strconv.FormatInt(w.since.UnixMilli(), 10))},
		},
	}); err != nil {
		return fmt.Errorf("readmit a waiting finding: %w", err)
	}
	return s.done(ctx, w)
}

func (s sweep) refuse(ctx context.Context, w waiting) error {
	refusal := events.Refusal{Reason: events.OverCap, Detail: fmt.Sprintf("waited since %s for a free place", w.since.UTC().Format(time.RFC3339)),
		Remedy: "raise FLASHTAP_MAX_CAPTURES, or start a capture by hand"}
	if err := s.publish(ctx, events.EventRefused, map[string]any{"refusal": refusal, "event": aws.ToString(w.message.Body)}); err != nil {
		return err
	}
	return s.done(ctx, w)
}

func (s sweep) done(ctx context.Context, w waiting) error {
	if _, err := s.queues.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: &s.settings.WaitingQueueURL, ReceiptHandle: w.message.ReceiptHandle}); err != nil {
		return fmt.Errorf("take a finding off the waiting queue: %w", err)
	}
	return nil
}

func (s sweep) putBack(ctx context.Context, w waiting) error {
	if _, err := s.queues.ChangeMessageVisibility(ctx, &sqs.ChangeMessageVisibilityInput{
		QueueUrl: &s.settings.WaitingQueueURL, ReceiptHandle: w.message.ReceiptHandle, VisibilityTimeout: 0,
	}); err != nil {
		return fmt.Errorf("put a finding back on the waiting queue: %w", err)
	}
	return nil
}
