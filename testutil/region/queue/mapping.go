package queue

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"sync"
	"time"
)

// Mapping feeds a function from a queue, like Lambda's event source mapping (Lambda guide, "Using Lambda with Amazon
// SQS" and "Handling errors for an SQS event source in Lambda").
type Mapping struct {
	Queue     string // name, ARN or URL
	BatchSize int    // 1 to 10, default 10

	// ReportBatchItemFailures lets the function name the messages that failed; without it a batch succeeds or fails as
	// a whole.
	ReportBatchItemFailures bool
	// MaximumConcurrency of invocations, 2 to 1000; 0 means 5, with which Lambda begins.
	MaximumConcurrency int
	// FunctionTimeout, when given, must not exceed the queue's visibility timeout, or AWS refuses the mapping.
	FunctionTimeout time.Duration

	// Invoke runs the function. Any error, of the function or of its service, leaves the whole batch in the queue.
	Invoke func(ctx context.Context, payload []byte) (answer []byte, err error)

	// OnSkipped is told when a function of a FIFO queue returned a failed message without the later messages of its
	// group. Lambda then deletes those, whether the function looked at them or not; the guide makes it the function's
	// duty to return them.
	OnSkipped func(failed Message, deleted []Message)
}

// Map starts to feed. The mapping ends with stop, which waits for the invocations under way, or with the service.
func (s *Service) Map(m Mapping) (stop func(), err error) {
	if m.BatchSize == 0 {
		m.BatchSize = 10
	}
	if m.MaximumConcurrency == 0 {
		m.MaximumConcurrency = 5
	} else if m.MaximumConcurrency < 2 || m.MaximumConcurrency > 1000 {
		return nil, invalidParameter("MaximumConcurrency", "Must be between 2 and 1000")
	}
	if m.BatchSize < 1 || m.BatchSize > 10 {
		return nil, invalidParameter("BatchSize", "Must be between 1 and 10 without a batching window")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.find(m.Queue)
	if err != nil {
		return nil, err
	}
	if m.FunctionTimeout > q.VisibilityTimeout {
		return nil, fault("InvalidParameterValueException", "InvalidParameterValueException",
			fmt.Sprintf("Queue visibility timeout: %.0f seconds is less than Function timeout: %.0f seconds",
				q.VisibilityTimeout.Seconds(), m.FunctionTimeout.Seconds()))
	}
	if s.closed {
		return nil, fmt.Errorf("map queue %s: the service is closed", q.Name)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	s.work.Go(func() {
		select {
		case <-s.closing:
		case <-ctx.Done():
		}
		cancel()
		<-done
	})
	go func() {
		defer close(done)
		s.poll(ctx, q, m)
	}()
	return func() {
		cancel()
		<-done
	}, nil
}

// pollWait is how long one poll waits for messages, as Lambda's own long polls do.
const pollWait = 20 * time.Second

// poll takes batch after batch while less than the allowed number of invocations run.
func (s *Service) poll(ctx context.Context, q *queue, m Mapping) {
	var running sync.WaitGroup
	defer running.Wait()
	free := make(chan struct{}, m.MaximumConcurrency)
	for {
		select {
		case free <- struct{}{}:
		case <-ctx.Done():
			return
		case <-s.closing:
			return
		}
		wait := pollWait
		batch, err := s.Receive(ctx, q.Name, Receive{Max: m.BatchSize, Wait: &wait})
		if err != nil {
			return // ctx is over; the queue itself cannot go away
		}
		if len(batch) == 0 {
			<-free
			continue
		}
		running.Go(func() {
			defer func() { <-free }()
			s.process(ctx, q, m, batch)
		})
	}
}

// process runs one batch and deletes what succeeded. The rest shows up again after its visibility timeout.
func (s *Service) process(ctx context.Context, q *queue, m Mapping, batch []Message) {
	answer, err := m.Invoke(ctx, event(q, batch))
	if err != nil {
		return
	}
	failed := map[string]bool{}
	if m.ReportBatchItemFailures {
		var ok bool
		if failed, ok = itemFailures(answer, batch); !ok {
			return
		}
	}
	if q.fifo && m.OnSkipped != nil {
		reportSkipped(m.OnSkipped, batch, failed)
	}
	for _, message := range batch {
		if !failed[message.ID] {
			// A handle that expired meanwhile means that the message will be delivered again.
			s.Delete(q.Name, message.ReceiptHandle)
		}
	}
}

// itemFailures reads which messages failed; false means all of them (Lambda guide, "Success and failure conditions").
func itemFailures(answer []byte, batch []Message) (map[string]bool, bool) {
	failed := map[string]bool{}
	if len(answer) == 0 {
		return failed, true
	}
	var response *struct {
		BatchItemFailures []struct {
			ItemIdentifier string `json:"itemIdentifier"`
		} `json:"batchItemFailures"`
	}
	if err := json.Unmarshal(answer, &response); err != nil {
		return nil, false
	}
	if response == nil {
		return failed, true
	}
	known := map[string]bool{}
	for _, m := range batch {
		known[m.ID] = true
	}
	for _, item := range response.BatchItemFailures {
		if !known[item.ItemIdentifier] {
			return nil, false // empty, null, badly named or unknown
		}
		failed[item.ItemIdentifier] = true
	}
	return failed, true
}

func reportSkipped(report func(Message, []Message), batch []Message, failed map[string]bool) {
	seen := map[string]bool{}
	for i, first := range batch {
		if !failed[first.ID] || seen[first.GroupID] {
			continue
		}
		seen[first.GroupID] = true
		var skipped []Message
		for _, later := range batch[i+1:] {
			if later.GroupID == first.GroupID && !failed[later.ID] {
				skipped = append(skipped, later)
			}
		}
		if len(skipped) > 0 {
			report(first, skipped)
		}
	}
}

// record is one message of the event, in the order of the guide's example.
type record struct {
	MessageID         string                     `json:"messageId"`
	ReceiptHandle     string                     `json:"receiptHandle"`
	Body              string                     `json:"body"`
	Attributes        map[string]string          `json:"attributes"`
	MessageAttributes map[string]recordAttribute `json:"messageAttributes"`
	MD5OfAttributes   string                     `json:"md5OfMessageAttributes,omitempty"`
	MD5OfBody         string                     `json:"md5OfBody"`
	EventSource       string                     `json:"eventSource"`
	EventSourceARN    string                     `json:"eventSourceARN"`
	Region            string                     `json:"awsRegion"`
}

type recordAttribute struct {
	StringValue      string   `json:"stringValue,omitempty"`
	BinaryValue      string   `json:"binaryValue,omitempty"`
	StringListValues []string `json:"stringListValues"`
	BinaryListValues []string `json:"binaryListValues"`
	DataType         string   `json:"dataType"`
}

func event(q *queue, batch []Message) []byte {
	var records []record
	for _, m := range batch {
		r := record{
			MessageID: m.ID, ReceiptHandle: m.ReceiptHandle, Body: m.Body, Attributes: m.systemAttributes(),
			MessageAttributes: map[string]recordAttribute{}, MD5OfAttributes: attributesDigest(m.Attributes),
			MD5OfBody: bodyDigest(m.Body), EventSource: "aws:sqs", EventSourceARN: q.arn(), Region: q.service.config.Region,
		}
		for name, a := range m.Attributes {
			r.MessageAttributes[name] = recordAttribute{
				StringValue: a.StringValue, BinaryValue: base64.StdEncoding.EncodeToString(a.BinaryValue),
				StringListValues: []string{}, BinaryListValues: []string{}, DataType: a.DataType,
			}
		}
		records = append(records, r)
	}
	payload, err := json.Marshal(map[string][]record{"Records": records})
	if err != nil {
		panic(err) // strings always marshal
	}
	return payload
}
