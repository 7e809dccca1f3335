// Package queue keeps SQS queues in memory, standard and FIFO, and feeds functions from them.
//
// It promises what a user of SQS can rely on: at-least-once delivery with a visibility timeout, redrive after too many
// receives, order and exclusivity within a FIFO message group, deduplication for five minutes. It is stricter than SQS
// where SQS is only probabilistic: a standard queue delivers in order and never twice without cause.
package queue

import (
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"
)

// Config says where the queues believe they are.
type Config struct {
	Region    string // default us-east-1
	AccountID string // default 123456789012
	Endpoint  string // of queue URLs; default https://sqs.REGION.amazonaws.com
	SenderID  string // of messages; default an invented user id
}

// Queue describes one queue. Its zero durations mean SQS's defaults.
type Queue struct {
	Name               string        // a FIFO queue's ends with .fifo
	VisibilityTimeout  time.Duration // default 30 s; NoVisibilityTimeout for none
	Delay              time.Duration
	Retention          time.Duration // default 4 days
	MaximumMessageSize int           // default 1 MiB
	ReceiveWait        time.Duration // default wait of a receive

	ContentBasedDeduplication bool // FIFO only
	DeduplicatePerGroup       bool // FIFO only: DeduplicationScope messageGroup instead of queue

	// A message received MaxReceiveCount times without being deleted moves to DeadLetterQueue (a name or an ARN), which
	// must exist before and be of the same type.
	DeadLetterQueue string
	MaxReceiveCount int

	// OnExpired is called with every message that reached the end of its retention.
	OnExpired func(Message)
}

// NoVisibilityTimeout makes received messages visible at once.
const NoVisibilityTimeout = time.Duration(-1)

// Service keeps the queues. It is safe for concurrent use.
type Service struct {
	config  Config
	closing chan struct{}
	work    sync.WaitGroup // mappings

	mu     sync.Mutex // guards all queues: a message moves from one to another
	closed bool
	queues map[string]*queue // by name
}

// New makes a service without queues. Close ends its timers and mappings.
func New(config Config) *Service {
	if config.Region == "" {
		config.Region = "us-east-1"
	}
	if config.AccountID == "" {
		config.AccountID = "123456789012"
	}
	if config.Endpoint == "" {
		config.Endpoint = "https://sqs." + config.Region + ".amazonaws.com"
	}
	if config.SenderID == "" {
		config.SenderID = "AIDALOCALSENDER000000"
	}
	return &Service{config: config, closing: make(chan struct{}), queues: map[string]*queue{}}
}

// Create makes a queue and returns its URL.
func (s *Service) Create(description Queue) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := &queue{Queue: description, service: s, created: time.Now(), changed: make(chan struct{}), seen: map[string]sent{}}
	if err := q.complete(); err != nil {
		return "", fmt.Errorf("create queue %s: %w", description.Name, err)
	}
	if s.queues[q.Name] != nil {
		return "", fmt.Errorf("create queue %s: %w", q.Name, fault("QueueNameExists", "QueueAlreadyExists",
			"A queue already exists with the same name and a different value for attribute(s)."))
	}
	if q.DeadLetterQueue != "" {
		dead, err := s.find(q.DeadLetterQueue)
		if err != nil || dead.fifo != q.fifo || q.MaxReceiveCount < 1 || q.MaxReceiveCount > 1000 {
			return "", fmt.Errorf("create queue %s: %w", q.Name, invalidParameter("RedrivePolicy",
				"the dead-letter queue must exist and be of the same type, and maxReceiveCount be within 1 and 1000"))
		}
		q.dead = dead
	}
	s.queues[q.Name] = q
	return q.url(), nil
}

// Close ends all mappings and waits for the invocations they have under way. Blocked receives return empty.
func (s *Service) Close() error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.closing)
		for _, q := range s.queues {
			if q.expiry != nil {
				q.expiry.Stop()
			}
		}
	}
	s.mu.Unlock()
	s.work.Wait()
	return nil
}

// find takes a queue's name, ARN or URL. The lock must be held.
func (s *Service) find(id string) (*queue, error) {
	name := id
	switch {
	case strings.HasPrefix(id, "arn:"):
		name = strings.TrimPrefix(id, s.arn(""))
	case strings.Contains(id, "/"):
		u, err := url.Parse(id)
		if err != nil {
			return nil, fault("InvalidAddress", "InvalidAddress", "The address "+id+" is not valid for this endpoint.")
		}
		name = strings.TrimPrefix(u.Path, "/"+s.config.AccountID+"/")
	}
	q := s.queues[name]
	if q == nil {
		return nil, nonExistent()
	}
	return q, nil
}

func (s *Service) arn(name string) string {
	return fmt.Sprintf("arn:aws:sqs:%s:%s:%s", s.config.Region, s.config.AccountID, name)
}

// queue is a queue with its messages, in the order they were sent.
type queue struct {
	Queue
	service  *Service
	fifo     bool
	dead     *queue
	created  time.Time
	messages []*message
	changed  chan struct{}   // closed and replaced when a message may have become available
	seen     map[string]sent // deduplication ids of the last five minutes
	expiry   *time.Timer
	counter  uint64 // of sequence numbers
}

func (q *queue) arn() string { return q.service.arn(q.Name) }
func (q *queue) url() string {
	return q.service.config.Endpoint + "/" + q.service.config.AccountID + "/" + q.Name
}

var queueName = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,80}$`)

// complete fills the defaults and refuses what CreateQueue would refuse (SQS API, CreateQueue).
func (q *queue) complete() error {
	base, fifo := strings.CutSuffix(q.Name, ".fifo")
	if !queueName.MatchString(base) || len(q.Name) > 80 {
		return invalidParameter("QueueName", "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length")
	}
	q.fifo = fifo
	if !fifo && (q.ContentBasedDeduplication || q.DeduplicatePerGroup) {
		return fault("InvalidAttributeName", "InvalidAttributeName", "Unknown Attribute ContentBasedDeduplication.")
	}
	switch q.VisibilityTimeout {
	case 0:
		q.VisibilityTimeout = 30 * time.Second
	case NoVisibilityTimeout:
		q.VisibilityTimeout = 0
	}
	if q.Retention == 0 {
		q.Retention = 4 * 24 * time.Hour
	}
	if q.MaximumMessageSize == 0 {
		q.MaximumMessageSize = 1 << 20
	}
	for _, limit := range []struct {
		name               string
		value, least, most time.Duration
	}{
		{"VisibilityTimeout", q.VisibilityTimeout, 0, 12 * time.Hour},
		{"DelaySeconds", q.Delay, 0, 15 * time.Minute},
		{"MessageRetentionPeriod", q.Retention, time.Minute, 14 * 24 * time.Hour},
		{"ReceiveMessageWaitTimeSeconds", q.ReceiveWait, 0, 20 * time.Second},
	} {
		if limit.value < limit.least || limit.value > limit.most {
			return fault("InvalidAttributeValue", "InvalidAttributeValue", "Invalid value for the parameter "+limit.name+".")
		}
	}
	if q.MaximumMessageSize < 1<<10 || q.MaximumMessageSize > 1<<20 {
		return fault("InvalidAttributeValue", "InvalidAttributeValue", "Invalid value for the parameter MaximumMessageSize.")
	}
	return nil
}

// redrivePolicy is the attribute of that name.
func (q *queue) redrivePolicy() string {
	if q.dead == nil {
		return ""
	}
	policy, _ := json.Marshal(struct {
		Target string `json:"deadLetterTargetArn"`
		Count  int    `json:"maxReceiveCount"`
	}{q.dead.arn(), q.MaxReceiveCount})
	return string(policy)
}
