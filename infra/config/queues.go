package config

import (
	"time"

	"flashtap/infra/policy"
)

// Queue is one of the deployment's queues. A FIFO one deduplicates by content, for EventBridge gives no ids.
type Queue struct {
	ID         string // one of policy.Queues
	FIFO       bool
	Visibility time.Duration
	DeadLetter string // the id of another queue; "": messages stay until they expire
	Receives   int    // before a message goes there
	Retention  time.Duration
}

// Queues are all of them, those first that others name.
var Queues = []Queue{
	{ID: policy.IntakeDeadLetter, FIFO: true, Visibility: 30 * time.Second, Retention: longest},
	{ID: policy.WaitingDeadLetter, Visibility: 30 * time.Second, Retention: longest},
	// Lambda's guide asks for six times the function's timeout ("Configuring a queue to use with Lambda").
	{ID: policy.IntakeQueue, FIFO: true, Visibility: 6 * time.Minute, DeadLetter: policy.IntakeDeadLetter, Receives: 5, Retention: 4 * 24 * time.Hour},
	// The sweep looks at every waiting message every five minutes for six hours, and more often when executions end, so
	// being received often is no sign of poison.
	{ID: policy.WaitingQueue, Visibility: 30 * time.Second, DeadLetter: policy.WaitingDeadLetter, Receives: 1000, Retention: 24 * time.Hour},
}

// longest is how long SQS keeps a message at most (Amazon SQS Developer Guide, "Message quotas").
const longest = 14 * 24 * time.Hour

// IntakeBatch is how many events intake is given at once: the most that a FIFO queue gives (Lambda Developer Guide, "Using
// Lambda with Amazon SQS").
const IntakeBatch = 10
