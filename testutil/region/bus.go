package region

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"flashtap/testutil/region/pattern"
	"flashtap/testutil/region/queue"
)

// bus are the event buses: the default one and those that were created, with their rules and targets.
type bus struct {
	region *Region

	mu        sync.Mutex
	created   []string // names
	rules     []rule
	listeners []func(event []byte)
}

type rule struct {
	bus     string
	name    string
	pattern *pattern.Pattern
	target  func(ctx context.Context, event []byte) error
}

// CreateEventBus adds an event bus beside the default one.
func (r *Region) CreateEventBus(name string) {
	r.bus.mu.Lock()
	defer r.bus.mu.Unlock()
	r.bus.created = append(r.bus.created, name)
}

// exists says whether there is a bus of this name.
func (b *bus) exists(name string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return name == defaultBus || slices.Contains(b.created, name)
}

// Rule sends matching events of the default bus to a target: a queue or a function.
func (r *Region) Rule(name, eventPattern string, target func(context.Context, []byte) error) error {
	return r.RuleOn(defaultBus, name, eventPattern, target)
}

// RuleOn is Rule for the bus of a name.
func (r *Region) RuleOn(bus, name, eventPattern string, target func(context.Context, []byte) error) error {
	p, err := pattern.Compile([]byte(eventPattern))
	if err != nil {
		return fmt.Errorf("rule %s: %w", name, err)
	}
	if !r.bus.exists(bus) {
		return fmt.Errorf("rule %s: there is no event bus %s", name, bus)
	}
	r.bus.mu.Lock()
	defer r.bus.mu.Unlock()
	r.bus.rules = append(r.bus.rules, rule{bus, name, p, target})
	return nil
}

// ToQueue is a rule's target: a queue, and for a FIFO one the message group.
func (r *Region) ToQueue(name, group string) func(context.Context, []byte) error {
	return func(ctx context.Context, event []byte) error {
		params := map[string]any{"QueueUrl": r.QueueURL(name), "MessageBody": string(event)}
		if group != "" {
			params["MessageGroupId"] = group
		}
		r.forRule(ctx, "sqs", "SendMessage", params)
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
			// Lambda receives with the rights of the function (Lambda guide, "Creating and configuring an Amazon SQS
			// event source mapping": the execution role's permissions).
			for _, operation := range []string{"ReceiveMessage", "DeleteMessage", "GetQueueAttributes"} {
				r.errand("sqs", operation, function, "", map[string]any{"QueueUrl": r.QueueURL(name)})
			}
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
	return func(ctx context.Context, event []byte) error {
		r.forRule(ctx, "lambda", "Invoke", map[string]any{"FunctionName": name})
		_, err := r.Lambda.InvokeAsync(name, event)
		return err
	}
}

// Listen has every event on any bus shown to f, matching a rule or not.
func (r *Region) Listen(f func(event []byte)) {
	r.bus.mu.Lock()
	defer r.bus.mu.Unlock()
	r.bus.listeners = append(r.bus.listeners, f)
}

// Publish puts a whole event on the default bus as it is, as an AWS service does, and says which rules matched.
func (r *Region) Publish(event []byte) (matched []string, err error) {
	return r.PublishOn(defaultBus, event)
}

// PublishOn is Publish for the bus of a name.
func (r *Region) PublishOn(bus string, event []byte) (matched []string, err error) {
	if !json.Valid(event) {
		return nil, fmt.Errorf("publish: not JSON")
	}
	if !r.bus.exists(bus) {
		return nil, fmt.Errorf("publish: there is no event bus %s", bus)
	}
	r.bus.mu.Lock()
	rules, listeners := r.bus.rules, r.bus.listeners
	r.bus.mu.Unlock()
	for _, listen := range listeners {
		listen(event)
	}
	var failed []error
	for _, rule := range rules {
		if rule.bus != bus {
			continue
		}
		ok, err := rule.pattern.Match(event)
		if err != nil {
			failed = append(failed, fmt.Errorf("rule %s: %w", rule.name, err))
		}
		if err != nil || !ok {
			continue
		}
		matched = append(matched, rule.name)
		if err := rule.target(withRule(r.ctx, rule), event); err != nil { // each target is served on its own
			failed = append(failed, fmt.Errorf("rule %s: %w", rule.name, err))
		}
	}
	return matched, errors.Join(failed...)
}

// entry is one event of PutEvents.
type entry struct {
	Source, DetailType string
	Detail             json.RawMessage // the object itself
	EventBusName       string
	Resources          []string
	Time               time.Time
}

// publish wraps a detail and puts it on the bus.
func (b *bus) publish(source, kind string, detail any, resources ...string) {
	text, err := json.Marshal(detail)
	if err != nil {
		b.region.log.Error("event not delivered", "source", source, "detail-type", kind, "err", err)
		return
	}
	b.put(entry{Source: source, DetailType: kind, Detail: text, Resources: resources})
}

// put puts an event on the bus and returns its id.
func (b *bus) put(e entry) string {
	id := uuid()
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	if e.Resources == nil {
		e.Resources = []string{}
	}
	event, err := json.Marshal(map[string]any{
		"version": "0", "id": id, "detail-type": e.DetailType, "source": e.Source, "account": b.region.cfg.Account,
		"time": e.Time.UTC().Format(time.RFC3339), "region": b.region.cfg.Name, "resources": e.Resources, "detail": e.Detail,
	})
	if err == nil {
		_, err = b.region.PublishOn(busName(e.EventBusName), event)
	}
	if err != nil && b.region.ctx.Err() == nil {
		b.region.log.Error("event not delivered", "source", e.Source, "detail-type", e.DetailType, "err", err)
	}
	return id
}

// take accepts the entries of one PutEvents, each on its own (EventBridge API Reference, PutEventsResultEntry).
func (b *bus) take(entries []entry) (answers []map[string]any, failed int) {
	for _, e := range entries {
		if err := b.check(e); err != nil {
			failed++
			answers = append(answers, map[string]any{"ErrorCode": err.code, "ErrorMessage": err.message})
			continue
		}
		answers = append(answers, map[string]any{"EventId": b.put(e)})
	}
	return answers, failed
}

func (b *bus) check(e entry) *fault {
	var detail map[string]json.RawMessage
	switch {
	case !b.exists(busName(e.EventBusName)):
		return &fault{"InvalidArgument", "the local region has no event bus " + e.EventBusName, 0}
	case e.Source == "" || e.DetailType == "" || len(e.Detail) == 0:
		return &fault{"InvalidArgument", "Source, DetailType and Detail are needed", 0}
	case strings.HasPrefix(e.Source, "aws."):
		return &fault{"NotAuthorizedForSourceException", "Not authorized for the source.", 0}
	case json.Unmarshal(e.Detail, &detail) != nil || detail == nil:
		return &fault{"MalformedDetail", "Detail is malformed.", 0}
	}
	return nil
}

const defaultBus = "default"

// busName is the name of the bus that an entry means, by its name, its ARN or nothing.
func busName(said string) string {
	_, name, _ := strings.Cut(said, "event-bus/")
	return cmp.Or(name, said, defaultBus)
}

// handle answers PutEvents.
func (b *bus) handle(operation string, params map[string]any) (map[string]any, error) {
	if operation != "PutEvents" {
		return nil, fault{"UnknownOperationException", operation + " is not served here", 400}
	}
	var entries []entry
	list, _ := params["Entries"].([]any)
	for _, x := range list {
		p, _ := x.(map[string]any)
		var e entry
		e.Source, _ = p["Source"].(string)
		e.DetailType, _ = p["DetailType"].(string)
		e.EventBusName, _ = p["EventBusName"].(string)
		e.Time, _ = p["Time"].(time.Time)
		detail, _ := p["Detail"].(string)
		e.Detail = json.RawMessage(detail)
		resources, _ := p["Resources"].([]any)
		for _, each := range resources {
			text, _ := each.(string)
			e.Resources = append(e.Resources, text)
		}
		entries = append(entries, e)
	}
	answers, failed := b.take(entries)
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
