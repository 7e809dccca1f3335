package region

import (
	"fmt"
	"strings"
	"sync"
)

// topics are SNS's: every topic that is named exists, and keeps what it is told.
type topics struct {
	mu   sync.Mutex
	told map[string][]string // messages by topic
}

// publish answers SNS's Publish.
func (r *Region) publish(params map[string]any) (map[string]any, error) {
	arn, _ := params["TopicArn"].(string)
	message, _ := params["Message"].(string)
	if !strings.HasPrefix(arn, "arn:aws:sns:") {
		return nil, fmt.Errorf("the local region publishes to topics, not to %v", params)
	}
	t := &r.topics
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.told == nil {
		t.told = map[string][]string{}
	}
	t.told[arn] = append(t.told[arn], message)
	return map[string]any{"MessageId": requestID()}, nil
}

// Told are the messages that a topic was told, in order.
func (r *Region) Told(topic string) []string {
	r.topics.mu.Lock()
	defer r.topics.mu.Unlock()
	return append([]string{}, r.topics.told[topic]...)
}
