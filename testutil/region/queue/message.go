package queue

import (
	"context"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Message is a message as it is sent, and with the lower half filled, as it is received.
type Message struct {
	Body            string
	GroupID         string
	DeduplicationID string
	Attributes      map[string]Attribute
	TraceHeader     string
	Delay           *time.Duration // nil: the queue's own

	ID             string
	ReceiptHandle  string
	SequenceNumber string // FIFO only
	SenderID       string
	Sent           time.Time
	FirstReceived  time.Time
	ReceiveCount   int
	SourceARN      string // the queue that redrove it
}

// Attribute is a message attribute of the user's own.
type Attribute struct {
	DataType    string // String, Number or Binary, with an optional .label
	StringValue string
	BinaryValue []byte
}

// message is a Message in its queue.
type message struct {
	Message
	visible  time.Time
	inFlight bool // received since it was last seen visible
}

// sent is what a repeated send is answered with.
type sent struct {
	id, sequence string
	until        time.Time
}

// Receipt is the answer to a send.
type Receipt struct {
	MessageID, SequenceNumber string
}

// deduplicationInterval is SQS's own (SQS guide, "Exactly-once processing in Amazon SQS").
const deduplicationInterval = 5 * time.Minute

// Send puts a message into a queue, named by name, ARN or URL.
func (s *Service) Send(queueID string, m Message) (Receipt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.find(queueID)
	if err != nil {
		return Receipt{}, err
	}
	if err := q.check(&m); err != nil {
		return Receipt{}, err
	}
	now := time.Now()
	if q.fifo {
		if first, ok := q.duplicate(m, now); ok {
			return Receipt{first.id, first.sequence}, nil
		}
	}
	m.ID, m.SenderID, m.Sent, m.ReceiveCount, m.SourceARN = newID(), s.config.SenderID, now, 0, ""
	delay := q.Delay
	if m.Delay != nil {
		delay = *m.Delay
	}
	q.add(&message{Message: m, visible: now.Add(delay)})
	added := q.messages[len(q.messages)-1]
	if q.fifo {
		q.seen[q.deduplicationKey(m)] = sent{added.ID, added.SequenceNumber, now.Add(deduplicationInterval)}
	}
	return Receipt{added.ID, added.SequenceNumber}, nil
}

// add appends a message and lets everybody know.
func (q *queue) add(m *message) {
	if q.fifo {
		q.counter++
		// Twenty digits that grow by more than one, like SQS's own.
		m.SequenceNumber = fmt.Sprintf("1884949646%010d", q.counter<<8)
	}
	q.messages = append(q.messages, m)
	q.signal()
	q.scheduleExpiry()
}

func (q *queue) signal() {
	close(q.changed)
	q.changed = make(chan struct{})
}

func (q *queue) deduplicationKey(m Message) string {
	if q.DeduplicatePerGroup {
		return m.GroupID + "\x00" + m.DeduplicationID
	}
	return m.DeduplicationID
}

// duplicate looks for the same deduplication id in the last five minutes; that the first message may have been deleted
// since makes no difference.
func (q *queue) duplicate(m Message, now time.Time) (sent, bool) {
	maps.DeleteFunc(q.seen, func(_ string, s sent) bool { return !now.Before(s.until) })
	first, ok := q.seen[q.deduplicationKey(m)]
	return first, ok
}

// Receive is how messages are taken.
type Receive struct {
	Max        int            // 1 to 10, default 1
	Wait       *time.Duration // for a message to arrive; nil: the queue's own
	Visibility *time.Duration // nil: the queue's own
}

// Receive takes messages from a queue. It waits as asked, and returns early when ctx ends.
func (s *Service) Receive(ctx context.Context, queueID string, how Receive) ([]Message, error) {
	s.mu.Lock()
	q, err := s.find(queueID)
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if how.Max == 0 {
		how.Max = 1
	}
	wait, visibility := q.ReceiveWait, q.VisibilityTimeout
	if how.Wait != nil {
		wait = *how.Wait
	}
	if how.Visibility != nil {
		visibility = *how.Visibility
	}
	end := time.Now().Add(wait)
	for {
		s.mu.Lock()
		now := time.Now()
		taken, next := q.take(now, how.Max, visibility)
		changed := q.changed
		s.mu.Unlock()
		if len(taken) > 0 || !now.Before(end) {
			return taken, nil
		}
		if next.IsZero() || next.After(end) {
			next = end
		}
		timer := time.NewTimer(next.Sub(now))
		select {
		case <-timer.C:
		case <-changed:
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		case <-s.closing:
			timer.Stop()
			return nil, nil
		}
		timer.Stop()
	}
}

// take receives what is available now. When that is nothing, next is when something may become so.
func (q *queue) take(now time.Time, most int, visibility time.Duration) (taken []Message, next time.Time) {
	busy := map[string]bool{} // FIFO groups that may deliver nothing
	if q.fifo {
		for _, m := range q.messages {
			if m.inFlight && now.Before(m.visible) {
				busy[m.GroupID] = true
			}
		}
	}
	for _, m := range slices.Clone(q.messages) {
		if len(taken) == most {
			break
		}
		if now.Before(m.visible) {
			busy[m.GroupID] = true // later messages of its group must wait for it
			if next.IsZero() || m.visible.Before(next) {
				next = m.visible
			}
			continue
		}
		if q.fifo && busy[m.GroupID] || !now.Before(m.Sent.Add(q.Retention)) {
			continue
		}
		m.inFlight = false
		if q.dead != nil && m.ReceiveCount >= q.MaxReceiveCount {
			q.redrive(m, now)
			continue
		}
		m.ReceiveCount++
		if m.FirstReceived.IsZero() {
			m.FirstReceived = now
		}
		m.visible, m.inFlight = now.Add(visibility), visibility > 0
		m.ReceiptHandle = newHandle(m.ID)
		taken = append(taken, m.copy())
	}
	return taken, next
}

// redrive moves a message to the dead-letter queue. Its age counts on from the first send in a standard queue, and
// starts anew in a FIFO queue (SQS guide, "Using dead-letter queues in Amazon SQS").
func (q *queue) redrive(m *message, now time.Time) {
	q.remove(m)
	m.SourceARN, m.ReceiptHandle, m.visible = q.arn(), "", now
	if q.dead.fifo {
		m.Sent = now
	}
	q.dead.add(m)
}

func (q *queue) remove(m *message) {
	q.messages = slices.DeleteFunc(q.messages, func(other *message) bool { return other == m })
	q.signal() // its group may go on
}

// Delete removes a received message. As in SQS an old handle of a standard queue's message is accepted and does
// nothing, and so is one of a message that is gone; a FIFO queue refuses a handle whose visibility timeout has passed.
func (s *Service) Delete(queueID, handle string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, m, err := s.received(queueID, handle)
	if err != nil || m == nil {
		return err
	}
	if q.fifo && !time.Now().Before(m.visible) {
		return invalidParameter("ReceiptHandle", "The receipt handle has expired")
	}
	q.remove(m)
	return nil
}

// ChangeVisibility hides a message that is in flight for another while, or shows it at once.
func (s *Service) ChangeVisibility(queueID, handle string, timeout time.Duration) error {
	if timeout < 0 || timeout > 12*time.Hour {
		return invalidParameter("VisibilityTimeout", "Must be between 0 and 43200")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q, m, err := s.received(queueID, handle)
	if err != nil {
		return err
	}
	if m == nil {
		return invalidParameter("ReceiptHandle", "Message does not exist or is not available for visibility timeout change")
	}
	now := time.Now()
	if !m.inFlight || !now.Before(m.visible) {
		return fault("MessageNotInflight", "AWS.SimpleQueueService.MessageNotInflight", "The specified message isn't in flight.")
	}
	m.visible = now.Add(timeout)
	q.signal()
	return nil
}

// received finds the message of a handle; nil when the handle was good once.
func (s *Service) received(queueID, handle string) (*queue, *message, error) {
	q, err := s.find(queueID)
	if err != nil {
		return nil, nil, err
	}
	id, ok := messageOf(handle)
	if !ok {
		return nil, nil, invalidHandle(handle)
	}
	for _, m := range q.messages {
		if m.ID == id && m.ReceiptHandle == handle {
			return q, m, nil
		}
	}
	return q, nil, nil
}

// Messages lists everything in a queue without receiving it.
func (s *Service) Messages(queueID string) ([]Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.find(queueID)
	if err != nil {
		return nil, err
	}
	var all []Message
	for _, m := range q.messages {
		all = append(all, m.copy())
	}
	return all, nil
}

func (m *message) copy() Message {
	c := m.Message
	c.Attributes = maps.Clone(m.Attributes)
	return c
}

// scheduleExpiry arms the timer for the message that reaches the end of its retention first.
func (q *queue) scheduleExpiry() {
	var first time.Time
	for _, m := range q.messages {
		if end := m.Sent.Add(q.Retention); first.IsZero() || end.Before(first) {
			first = end
		}
	}
	if first.IsZero() || q.service.closed {
		return
	}
	if q.expiry != nil {
		q.expiry.Stop()
	}
	q.expiry = time.AfterFunc(time.Until(first), q.expire)
}

func (q *queue) expire() {
	q.service.mu.Lock()
	now := time.Now()
	var gone []Message
	for _, m := range slices.Clone(q.messages) {
		if !now.Before(m.Sent.Add(q.Retention)) {
			gone = append(gone, m.copy())
			q.remove(m)
		}
	}
	q.scheduleExpiry()
	q.service.mu.Unlock()
	if q.OnExpired != nil {
		for _, m := range gone {
			q.OnExpired(m)
		}
	}
}

var (
	token         = regexp.MustCompile("^[a-zA-Z0-9!\"#$%&'()*+,\\-./:;<=>?@[\\\\\\]^_`{|}~]{1,128}$")
	attributeName = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,256}$`)
	attributeType = regexp.MustCompile(`^(String|Number|Binary)(\..*)?$`)
)

// check refuses what SendMessage would refuse, and completes the deduplication id (SQS API, SendMessage).
func (q *queue) check(m *Message) error {
	if m.Body == "" {
		return missing("MessageBody")
	}
	if strings.ContainsFunc(m.Body, func(r rune) bool {
		return !(r == '\t' || r == '\n' || r == '\r' || r >= 0x20 && r <= 0xD7FF || r >= 0xE000 && r <= 0xFFFD || r >= 0x10000)
	}) {
		return fault("InvalidMessageContents", "InvalidMessageContents", "Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF")
	}
	size := len(m.Body)
	if len(m.Attributes) > 10 {
		return invalidParameter("MessageAttributes", "Number of message attributes exceeds the allowed maximum of 10")
	}
	for name, a := range m.Attributes {
		if !attributeName.MatchString(name) || strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".") || strings.Contains(name, "..") ||
			strings.HasPrefix(strings.ToLower(name), "aws.") || strings.HasPrefix(strings.ToLower(name), "amazon.") {
			return invalidParameter("MessageAttributes", "The message attribute name "+name+" is not valid")
		}
		if !attributeType.MatchString(a.DataType) || len(a.DataType) > 256 {
			return invalidParameter("MessageAttributes", "The type of message attribute "+name+" is not valid")
		}
		if a.StringValue == "" && len(a.BinaryValue) == 0 {
			return invalidParameter("MessageAttributes", "The message attribute "+name+" must contain a non-empty message attribute value")
		}
		size += len(name) + len(a.DataType) + len(a.StringValue) + len(a.BinaryValue)
	}
	if size > q.MaximumMessageSize {
		return invalidParameter("MessageBody", fmt.Sprintf("Message must be shorter than %d bytes", q.MaximumMessageSize))
	}
	if m.GroupID != "" && !token.MatchString(m.GroupID) {
		return invalidParameter("MessageGroupId", "MessageGroupId can only include alphanumeric and punctuation characters. 1 to 128 in length")
	}
	if !q.fifo {
		if m.DeduplicationID != "" {
			return notForThisType("MessageDeduplicationId")
		}
		if m.Delay != nil && (*m.Delay < 0 || *m.Delay > 15*time.Minute) {
			return invalidParameter("DelaySeconds", "DelaySeconds must be >= 0 and <= 900")
		}
		return nil
	}
	if m.Delay != nil && *m.Delay != 0 {
		return notForThisType("DelaySeconds")
	}
	m.Delay = nil
	if m.GroupID == "" {
		return missing("MessageGroupId")
	}
	if m.DeduplicationID == "" {
		if !q.ContentBasedDeduplication {
			return fault("InvalidParameterValue", "InvalidParameterValue",
				"The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly")
		}
		m.DeduplicationID = fmt.Sprintf("%x", sha256.Sum256([]byte(m.Body)))
	}
	if !token.MatchString(m.DeduplicationID) {
		return invalidParameter("MessageDeduplicationId", "MessageDeduplicationId can only include alphanumeric and punctuation characters. 1 to 128 in length")
	}
	return nil
}

func bodyDigest(body string) string { return fmt.Sprintf("%x", md5.Sum([]byte(body))) }

// attributesDigest is SQS's MD5 over the attributes (SQS guide, "Calculating the MD5 message digest for message
// attributes"): by name, each part preceded by its length, the kind of the value as one byte.
func attributesDigest(attributes map[string]Attribute) string {
	if len(attributes) == 0 {
		return ""
	}
	var all []byte
	add := func(part []byte) {
		all = binary.BigEndian.AppendUint32(all, uint32(len(part)))
		all = append(all, part...)
	}
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		a := attributes[name]
		add([]byte(name))
		add([]byte(a.DataType))
		if strings.HasPrefix(a.DataType, "Binary") {
			all = append(all, 2)
			add(a.BinaryValue)
		} else {
			all = append(all, 1)
			add([]byte(a.StringValue))
		}
	}
	return fmt.Sprintf("%x", md5.Sum(all))
}

// A receipt handle names its message and is new for every receive.
const handlePrefix = "AQEB"

func newHandle(id string) string {
	return handlePrefix + base64.StdEncoding.EncodeToString([]byte(id+"/"+newID()))
}

func messageOf(handle string) (string, bool) {
	encoded, ok := strings.CutPrefix(handle, handlePrefix)
	if !ok {
		return "", false
	}
	plain, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return "", false
	}
	id, _, ok := strings.Cut(string(plain), "/")
	return id, ok && len(id) == 36
}

// newID makes a random UUID (RFC 9562, version 4).
func newID() string {
	b := make([]byte, 16)
	rand.Read(b)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
