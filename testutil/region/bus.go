package region

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"flashtap/testutil/region/pattern"
	"flashtap/testutil/region/queue"
)

// bus is the default event bus: rules with patterns, and targets.
type bus struct {
	region *Region

	mu        sync.Mutex
	rules     []rule
	listeners []func(event []byte)
}

type rule struct {
	name    string
	pattern *pattern.Pattern
	target  func(ctx context.Context, event []byte) error
}

// Rule sends matching events to a target: a queue or a function.
func (r *Region) Rule(name, eventPattern string, target func(context.Context, []byte) error) error {
	p, err := pattern.Compile([]byte(eventPattern))
	if err != nil {
		return fmt.Errorf("rule %s: %w", name, err)
	}
	r.bus.mu.Lock()
	defer r.bus.mu.Unlock()
	r.bus.rules = append(r.bus.rules, rule{name, p, target})
	return nil
}

// ToQueue is a rule's target: a queue, and for a FIFO one the message group.
func (r *Region) ToQueue(name, group string) func(context.Context, []byte) error {
	return func(_ context.Context, event []byte) error {
		params := map[string]any{"QueueUrl": r.QueueURL(name), "MessageBody": string(event)}
		if group != "" {
			params["MessageGroupId"] = group
		}
		_, err := r.Queues.Handle("SendMessage", params)
		return err
	}
}

// QueueURL is the URL of a queue that exists; "" for one that does not.
func (r *Region) QueueURL(name string) string {
	out, err := r.Queues.Handle("GetQueueUrl", map[string]any{"QueueName": name})
	if err != nil {
		return ""
	}
	url, _ := out["QueueUrl"].(string)
	return url
}

// MapQueue feeds a function from a queue, as an event source mapping that reports failures by message does.
func (r *Region) MapQueue(name string, batchSize int, function string) error {
	_, err := r.Queues.Map(queue.Mapping{Queue: name, BatchSize: batchSize, ReportBatchItemFailures: true,
		Invoke: func(ctx context.Context, payload []byte) ([]byte, error) {
			result, err := r.Lambda.Invoke(ctx, function, payload)
			if err == nil && result.FunctionError != "" {
				err = fmt.Errorf("function %s: %s", function, result.Payload)
			}
			return result.Payload, err
		}})
	return err
}

// ToFunction is a rule's target: a function, invoked asynchronously.
func (r *Region) ToFunction(name string) func(context.Context, []byte) error {
	return func(_ context.Context, event []byte) error {
		_, err := r.Lambda.InvokeAsync(name, event)
		return err
	}
}

// Listen has every event on the bus shown to f, matching a rule or not.
func (r *Region) Listen(f func(event []byte)) {
	r.bus.mu.Lock()
	defer r.bus.mu.Unlock()
	r.bus.listeners = append(r.bus.listeners, f)
}

// Publish puts a whole event on the bus as it is, as an AWS service does, and says which rules matched.
func (r *Region) Publish(event []byte) (matched []string, err error) {
	if !json.Valid(event) {
		return nil, fmt.Errorf("publish: not JSON")
	}
	r.bus.mu.Lock()
	rules, listeners := r.bus.rules, r.bus.listeners
	r.bus.mu.Unlock()
	for _, listen := range listeners {
		listen(event)
	}
	for _, rule := range rules {
		ok, err := rule.pattern.Match(event)
		if err != nil {
			return matched, fmt.Errorf("rule %s: %w", rule.name, err)
		}
		if !ok {
			continue
		}
		matched = append(matched, rule.name)
		if err := rule.target(r.ctx, event); err != nil {
			return matched, fmt.Errorf("rule %s: %w", rule.name, err)
		}
	}
	return matched, nil
}

// publish wraps a detail and puts it on the bus.
func (b *bus) publish(source, kind string, detail any) string {
	id := uuid()
	event, err := json.Marshal(map[string]any{
		"version": "0", "id": id, "detail-type": kind, "source": source, "account": b.region.cfg.Account,
		"time": time.Now().UTC().Format(time.RFC3339), "region": b.region.cfg.Name, "resources": []string{}, "detail": detail,
	})
	if err == nil {
		_, err = b.region.Publish(event)
	}
	if err != nil && b.region.ctx.Err() == nil {
		b.region.log.Error("event not delivered", "source", source, "detail-type", kind, "err", err)
	}
	return id
}

// handle answers PutEvents.
func (b *bus) handle(operation string, params map[string]any) (map[string]any, error) {
	if operation != "PutEvents" {
		return nil, fault{"UnknownOperationException", operation + " is not served here", 400}
	}
	entries, _ := params["Entries"].([]any)
	var answers []any
	failed := 0
	for _, e := range entries {
		entry, _ := e.(map[string]any)
		source, _ := entry["Source"].(string)
		kind, _ := entry["DetailType"].(string)
		text, _ := entry["Detail"].(string)
		var detail map[string]any
		if source == "" || kind == "" || json.Unmarshal([]byte(text), &detail) != nil {
			failed++
			answers = append(answers, map[string]any{"ErrorCode": "MalformedDetail", "ErrorMessage": "Source, DetailType and a Detail that is a JSON object are needed"})
			continue
		}
		answers = append(answers, map[string]any{"EventId": b.publish(source, kind, json.RawMessage(text))})
	}
	return map[string]any{"FailedEntryCount": failed, "Entries": answers}, nil
}

// fault is an error as a service of this package answers it.
type fault struct {
	code, message string
	status        int
}

func (f fault) Error() string   { return f.code + ": " + f.message }
func (f fault) Code() string    { return f.code }
func (f fault) Message() string { return f.message }
func (f fault) Status() int     { return f.status }

func uuid() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // crypto/rand documents that it never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func requestID() string { return uuid() }
