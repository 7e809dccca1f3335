package events

import "time"

// What travels between the state machine and the steps. State carries ids and object keys, never a finding or a plan:
// each step reads the plan from the bucket.

// PreflightInput is what the state machine hands to preflight.
type PreflightInput struct {
	Request   Request   `json:"request"`
	Execution string    `json:"execution"` // name
	StartedAt time.Time `json:"startedAt"` // of the execution: the start of a capture that was asked for by hand
}

// PlanSummary is what preflight hands on.
type PlanSummary struct {
	Capture            CaptureID `json:"capture"`
	NetworkInterfaceID string    `json:"networkInterfaceId"`
	PlanKey            string    `json:"planKey"`
	Deadline           time.Time `json:"deadline"`
	FindingType        string    `json:"findingType"`
}

// StepInput is what every later step gets. What a step does not need is left out.
type StepInput struct {
	Capture   CaptureID `json:"capture"`
	Phase     string    `json:"phase,omitempty"`     // which of its duties: ready, proof, watch or drain; mirror or everything
	Since     time.Time `json:"since,omitzero"`      // when the phase began
	Passes    int       `json:"passes,omitempty"`    // how often the phase was tried before
	By        string    `json:"by,omitempty"`        // who asks: state-machine, guard, sweep
	Failure   *Failure  `json:"failure,omitempty"`   // what went wrong before, for the record
	Execution string    `json:"execution,omitempty"` // name
}

// Failure is an error as a Catch of the state machine hands it on.
type Failure struct {
	Error string `json:"Error"`
	Cause string `json:"Cause"`
}

// The phases of StepInput.
const (
	PhaseReady  = "ready"
	PhaseProof  = "proof"
	PhaseWatch  = "watch"
	PhaseDrain  = "drain"
	PhaseMirror = "mirror" // teardown removes only what mirrors, so that the collector can drain
)

// Who may ask for a teardown.
const (
	ByStateMachine = "state-machine"
	ByGuard        = "guard"
	BySweep        = "sweep"
)

// GuardResult says whether this execution holds the lock of its source.
type GuardResult struct {
	Held     bool      `json:"held"`
	JoinedTo CaptureID `json:"joinedTo"` // the capture that already runs, when the lock is another's
	Deadline time.Time `json:"deadline"`
}

// LaunchResult names the collector.
type LaunchResult struct {
	InstanceID   string    `json:"instanceId"`
	InstanceType string    `json:"instanceType"`
	UserID       string    `json:"userId"`
	At           time.Time `json:"at"`
}

// MirrorResult names the session.
type MirrorResult struct {
	SessionID string    `json:"sessionId"`
	VNI       uint32    `json:"vni"`
	At        time.Time `json:"at"`
}

// WatchResult is one look at a running capture.
type WatchResult struct {
	Status      string `json:"status"` // waiting, or the word that ends the phase
	Reason      string `json:"reason"`
	WaitSeconds int    `json:"waitSeconds"` // before the next look
	Packets     uint64 `json:"packets"`
	Bytes       uint64 `json:"bytes"`
	Lost        uint64 `json:"lost"`
	Segments    int    `json:"segments"`
	Cause       string `json:"cause"`    // proof: why no packet arrives, one of the causes
	Remedy      string `json:"remedy"`   // proof: what to do about it
	Hopeless    bool   `json:"hopeless"` // proof: as long as nobody does that, none will arrive
}

// The causes of silence, in the order in which they are looked for.
const (
	CauseSecurityGroup = "security-group" // the collector's group does not admit the copies
	CauseNetworkACL    = "network-acl"    // of the source's or the collector's subnet
	CauseRoute         = "route"          // from the source's subnet to the collector
	CauseFilter        = "filter"         // the mirror filter is not the planned one, or matches nothing that flows
	CauseShadowed      = "shadowed"       // another session takes the packets first
	CauseIdle          = "idle"           // CloudWatch says that the source sends and receives nothing
	CauseInstanceType  = "instance-type"  // the source's instance was changed to a type that can't be mirrored, stopped, or detached
	CauseUnknown       = "unknown"        // none of these
)

// ErrorNoPackets is by which error an execution ends when no packet can arrive.
const ErrorNoPackets = "NoPackets"

// The statuses of WatchResult.
const (
	StatusWaiting = "waiting" // look again
	StatusReady   = "ready"   // ready: the collector takes packets
	StatusFlowing = "flowing" // proof: packets of the source arrived
	StatusSilent  = "silent"  // proof: none arrived in the window; the capture says so, and goes on unless that is hopeless
	StatusOver    = "over"    // watch: the capture is to end
	StatusDrained = "drained" // drain: the collector said its last word
	StatusOverdue = "overdue" // drain: it did not in time
)

// TeardownResult is one pass of teardown.
type TeardownResult struct {
	Status      string `json:"status"` // clean, remaining or stuck
	Remaining   int    `json:"remaining"`
	Refused     int    `json:"refused"`
	Passes      int    `json:"passes"`
	WaitSeconds int    `json:"waitSeconds"`
	Certificate string `json:"certificate"` // object key
}

// The statuses of TeardownResult.
const (
	StatusClean     = "clean"
	StatusRemaining = "remaining"
	StatusStuck     = "stuck"
)

// SealResult is the closing word on a capture.
type SealResult struct {
	Verdict   string   `json:"verdict"`
	Reasons   []string `json:"reasons"`
	Packets   uint64   `json:"packets"`
	Bytes     int64    `json:"bytes"`
	Segments  int      `json:"segments"`
	Manifest  string   `json:"manifest"`  // object key
	SHA256    string   `json:"sha256"`    // of the manifest
	Signature string   `json:"signature"` // object key; "": the manifest is not signed
	KeyID     string   `json:"keyId"`     // ARN of the KMS key that signed it
}

// The detail-types of the events that a deployment publishes, with RequestSource as their source.
const (
	EventRefused = "Capture Refused"
	EventJoined  = "Capture Joined"
	EventFlowing = "Packets Flowing"
	EventSilent  = "No Packets Yet"
	EventSealed  = "Capture Sealed"
	EventLeaking = "Capture Leaking"
)

// Attributes of a message in the queue of waiting findings, and of one that is let back in from there.
const (
	AttributeSeverity = "severity" // of the finding
	AttributeSince    = "since"    // when it first found all places taken, in milliseconds of Unix time
)
