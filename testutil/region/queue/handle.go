package queue

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Handle answers one request of the SQS API whose members have AWS's names. A receive that waits does so here.
func (s *Service) Handle(operation string, params map[string]any) (map[string]any, error) {
	return s.HandleContext(context.Background(), operation, params)
}

// HandleContext is Handle for a caller that may hang up.
func (s *Service) HandleContext(ctx context.Context, operation string, params map[string]any) (map[string]any, error) {
	p := request{params: params}
	answer, err := map[string]any(nil), error(nil)
	switch operation {
	case "SendMessage":
		answer, err = s.sendMessage(&p)
	case "ReceiveMessage":
		answer, err = s.receiveMessage(ctx, &p)
	case "DeleteMessage":
		url, handle := p.required("QueueUrl"), p.required("ReceiptHandle")
		if p.err == nil {
			answer, err = map[string]any{}, s.Delete(url, handle)
		}
	case "ChangeMessageVisibility":
		url, handle := p.required("QueueUrl"), p.required("ReceiptHandle")
		timeout := p.seconds("VisibilityTimeout")
		if p.err == nil && timeout == nil {
			p.err = missing("VisibilityTimeout")
		}
		if p.err == nil {
			answer, err = map[string]any{}, s.ChangeVisibility(url, handle, *timeout)
		}
	case "GetQueueAttributes":
		answer, err = s.getQueueAttributes(&p)
	case "GetQueueUrl":
		answer, err = s.getQueueURL(&p)
	default:
		return nil, fault("InvalidAction", "InvalidAction", fmt.Sprintf("The action %s is not valid for this endpoint.", operation))
	}
	if p.err != nil {
		return nil, p.err
	}
	if err != nil {
		return nil, err
	}
	return answer, nil
}

func (s *Service) sendMessage(p *request) (map[string]any, error) {
	url := p.required("QueueUrl")
	m := Message{
		Body: p.text("MessageBody"), GroupID: p.text("MessageGroupId"), DeduplicationID: p.text("MessageDeduplicationId"),
		Attributes: p.attributes("MessageAttributes"), Delay: p.seconds("DelaySeconds"),
	}
	for name, a := range p.attributes("MessageSystemAttributes") {
		if name != "AWSTraceHeader" || a.DataType != "String" {
			return nil, invalidParameter("MessageSystemAttributes", "AWSTraceHeader of the type String is the only one")
		}
		m.TraceHeader = a.StringValue
	}
	if p.err != nil {
		return nil, p.err
	}
	receipt, err := s.Send(url, m)
	if err != nil {
		return nil, err
	}
	answer := map[string]any{"MessageId": receipt.MessageID, "MD5OfMessageBody": bodyDigest(m.Body)}
	if receipt.SequenceNumber != "" {
		answer["SequenceNumber"] = receipt.SequenceNumber
	}
	if digest := attributesDigest(m.Attributes); digest != "" {
		answer["MD5OfMessageAttributes"] = digest
	}
	if m.TraceHeader != "" {
		answer["MD5OfMessageSystemAttributes"] = attributesDigest(map[string]Attribute{
			"AWSTraceHeader": {DataType: "String", StringValue: m.TraceHeader}})
	}
	return answer, nil
}

func (s *Service) receiveMessage(ctx context.Context, p *request) (map[string]any, error) {
	url := p.required("QueueUrl")
	how := Receive{Max: 1, Wait: p.seconds("WaitTimeSeconds"), Visibility: p.seconds("VisibilityTimeout")}
	if n, ok := p.number("MaxNumberOfMessages"); ok {
		how.Max = int(n)
		if n < 1 || n > 10 {
			return nil, invalidParameter("MaxNumberOfMessages", "Must be between 1 and 10, if provided")
		}
	}
	if how.Wait != nil && (*how.Wait < 0 || *how.Wait > 20*time.Second) {
		return nil, invalidParameter("WaitTimeSeconds", "Must be >= 0 and <= 20, if provided")
	}
	if how.Visibility != nil && (*how.Visibility < 0 || *how.Visibility > 12*time.Hour) {
		return nil, invalidParameter("VisibilityTimeout", "Must be between 0 and 43200, if provided")
	}
	if p.text("ReceiveRequestAttemptId") != "" {
		return nil, fault("UnsupportedOperation", "AWS.SimpleQueueService.UnsupportedOperation", "ReceiveRequestAttemptId is not supported here.")
	}
	system := append(p.list("AttributeNames"), p.list("MessageSystemAttributeNames")...)
	for _, name := range system {
		if !slices.Contains(systemAttributes, name) {
			return nil, fault("InvalidAttributeName", "InvalidAttributeName", "Unknown Attribute "+name+".")
		}
	}
	wanted := p.list("MessageAttributeNames")
	if p.err != nil {
		return nil, p.err
	}
	messages, err := s.Receive(ctx, url, how)
	if err != nil {
		return nil, err
	}
	var list []any
	for _, m := range messages {
		one := map[string]any{
			"MessageId": m.ID, "ReceiptHandle": m.ReceiptHandle, "Body": m.Body, "MD5OfBody": bodyDigest(m.Body),
		}
		attributes := map[string]any{}
		for name, value := range m.systemAttributes() {
			if slices.Contains(system, name) || slices.Contains(system, "All") {
				attributes[name] = value
			}
		}
		if len(attributes) > 0 {
			one["Attributes"] = attributes
		}
		chosen := maps.Clone(m.Attributes)
		maps.DeleteFunc(chosen, func(name string, _ Attribute) bool { return !wants(wanted, name) })
		if len(chosen) > 0 {
			one["MD5OfMessageAttributes"] = attributesDigest(chosen)
			one["MessageAttributes"] = attributeValues(chosen)
		}
		list = append(list, one)
	}
	if list == nil {
		return map[string]any{}, nil
	}
	return map[string]any{"Messages": list}, nil
}

// wants reports whether a name is asked for: by itself, by All or .*, or by a prefix that ends with .*
func wants(wanted []string, name string) bool {
	return slices.ContainsFunc(wanted, func(w string) bool {
		prefix, open := strings.CutSuffix(w, ".*")
		return w == "All" || w == name || open && strings.HasPrefix(name, prefix)
	})
}

// systemAttributes are the names that a receive may ask for (SQS API, ReceiveMessage).
var systemAttributes = []string{"All", "SenderId", "SentTimestamp", "ApproximateReceiveCount", "ApproximateFirstReceiveTimestamp",
	"SequenceNumber", "MessageDeduplicationId", "MessageGroupId", "AWSTraceHeader", "DeadLetterQueueSourceArn", "SqsManagedSseEnabled"}

func (m Message) systemAttributes() map[string]string {
	all := map[string]string{
		"SenderId":                         m.SenderID,
		"SentTimestamp":                    strconv.FormatInt(m.Sent.UnixMilli(), 10),
		"ApproximateReceiveCount":          strconv.Itoa(m.ReceiveCount),
		"ApproximateFirstReceiveTimestamp": strconv.FormatInt(m.FirstReceived.UnixMilli(), 10),
		"SequenceNumber":                   m.SequenceNumber,
		"MessageDeduplicationId":           m.DeduplicationID,
		"MessageGroupId":                   m.GroupID,
		"AWSTraceHeader":                   m.TraceHeader,
		"DeadLetterQueueSourceArn":         m.SourceARN,
	}
	maps.DeleteFunc(all, func(_, value string) bool { return value == "" })
	return all
}

func attributeValues(attributes map[string]Attribute) map[string]any {
	all := map[string]any{}
	for name, a := range attributes {
		one := map[string]any{"DataType": a.DataType}
		if strings.HasPrefix(a.DataType, "Binary") {
			one["BinaryValue"] = a.BinaryValue
		} else {
			one["StringValue"] = a.StringValue
		}
		all[name] = one
	}
	return all
}

func (s *Service) getQueueAttributes(p *request) (map[string]any, error) {
	url := p.required("QueueUrl")
	names := p.list("AttributeNames")
	if p.err != nil {
		return nil, p.err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.find(url)
	if err != nil {
		return nil, err
	}
	all := q.attributes(time.Now())
	chosen := map[string]any{}
	for _, name := range names {
		switch value, ok := all[name]; {
		case name == "All":
			maps.Copy(chosen, all)
		case ok:
			chosen[name] = value
		case !slices.Contains(queueAttributes, name):
			return nil, fault("InvalidAttributeName", "InvalidAttributeName", "Unknown Attribute "+name+".")
		}
	}
	if len(chosen) == 0 {
		return map[string]any{}, nil
	}
	return map[string]any{"Attributes": chosen}, nil
}

// queueAttributes are names that exist but may have no value here (SQS API, GetQueueAttributes).
var queueAttributes = []string{"Policy", "RedrivePolicy", "RedriveAllowPolicy", "KmsMasterKeyId", "KmsDataKeyReusePeriodSeconds",
	"SqsManagedSseEnabled", "FifoQueue", "ContentBasedDeduplication", "DeduplicationScope", "FifoThroughputLimit"}

func (q *queue) attributes(now time.Time) map[string]any {
	seconds := func(d time.Duration) string { return strconv.Itoa(int(d / time.Second)) }
	visible, inFlight, delayed := 0, 0, 0
	for _, m := range q.messages {
		switch {
		case !now.Before(m.visible):
			visible++
		case m.inFlight:
			inFlight++
		default:
			delayed++
		}
	}
	created := strconv.FormatInt(q.created.Unix(), 10)
	all := map[string]any{
		"QueueArn":                              q.arn(),
		"ApproximateNumberOfMessages":           strconv.Itoa(visible),
		"ApproximateNumberOfMessagesNotVisible": strconv.Itoa(inFlight),
		"ApproximateNumberOfMessagesDelayed":    strconv.Itoa(delayed),
		"CreatedTimestamp":                      created,
		"LastModifiedTimestamp":                 created,
		"VisibilityTimeout":                     seconds(q.VisibilityTimeout),
		"MaximumMessageSize":                    strconv.Itoa(q.MaximumMessageSize),
		"MessageRetentionPeriod":                seconds(q.Retention),
		"DelaySeconds":                          seconds(q.Delay),
		"ReceiveMessageWaitTimeSeconds":         seconds(q.ReceiveWait),
		"SqsManagedSseEnabled":                  "true",
	}
	if policy := q.redrivePolicy(); policy != "" {
		all["RedrivePolicy"] = policy
	}
	if q.fifo {
		all["FifoQueue"] = "true"
		all["ContentBasedDeduplication"] = strconv.FormatBool(q.ContentBasedDeduplication)
		all["DeduplicationScope"], all["FifoThroughputLimit"] = "queue", "perQueue"
		if q.DeduplicatePerGroup {
			all["DeduplicationScope"], all["FifoThroughputLimit"] = "messageGroup", "perMessageGroupId"
		}
	}
	return all
}

func (s *Service) getQueueURL(p *request) (map[string]any, error) {
	name, owner := p.required("QueueName"), p.text("QueueOwnerAWSAccountId")
	if p.err != nil {
		return nil, p.err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[name]
	if q == nil || owner != "" && owner != s.config.AccountID {
		return nil, nonExistent()
	}
	return map[string]any{"QueueUrl": q.url()}, nil
}

// request reads members and remembers the first that is wrong.
type request struct {
	params map[string]any
	err    error
}

func (p *request) wrong(name string) {
	if p.err == nil {
		p.err = invalidParameter(name, "it has another type")
	}
}

func (p *request) text(name string) string {
	switch v := p.params[name].(type) {
	case nil:
		return ""
	case string:
		return v
	}
	p.wrong(name)
	return ""
}

func (p *request) required(name string) string {
	v := p.text(name)
	if v == "" && p.err == nil {
		p.err = missing(name)
	}
	return v
}

func (p *request) number(name string) (int64, bool) {
	switch v := p.params[name].(type) {
	case nil:
		return 0, false
	case int:
		return int64(v), true
	case int64:
		return v, true
	case float64:
		if v == float64(int64(v)) {
			return int64(v), true
		}
	}
	p.wrong(name)
	return 0, false
}

func (p *request) seconds(name string) *time.Duration {
	n, ok := p.number(name)
	if !ok {
		return nil
	}
	// Far beyond every limit is as wrong as just beyond it, and does not overflow.
	d := time.Duration(max(-1, min(n, 1<<20))) * time.Second
	return &d
}

func (p *request) list(name string) []string {
	switch v := p.params[name].(type) {
	case nil:
		return nil
	case []string:
		return v
	case []any:
		var list []string
		for _, item := range v {
			s, ok := item.(string)
			if !ok {
				p.wrong(name)
			}
			list = append(list, s)
		}
		return list
	}
	p.wrong(name)
	return nil
}

func (p *request) attributes(name string) map[string]Attribute {
	if p.params[name] == nil {
		return nil
	}
	members, ok := p.params[name].(map[string]any)
	if !ok {
		p.wrong(name)
		return nil
	}
	all := map[string]Attribute{}
	for key, member := range members {
		value, ok := member.(map[string]any)
		if !ok {
			p.wrong(name)
			continue
		}
		inner := request{params: value}
		a := Attribute{DataType: inner.text("DataType"), StringValue: inner.text("StringValue")}
		switch binary := value["BinaryValue"].(type) {
		case nil:
		case []byte:
			a.BinaryValue = binary
		case string:
			plain, err := base64.StdEncoding.DecodeString(binary)
			if err != nil {
				p.wrong(name)
			}
			a.BinaryValue = plain
		default:
			p.wrong(name)
		}
		if inner.err != nil {
			p.wrong(name)
		}
		all[key] = a
	}
	return all
}
