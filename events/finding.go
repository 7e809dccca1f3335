package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Finding is an alert about something that may be worth a capture, trimmed to what we use, wherever it came from.
type Finding struct {
	Origin     string     `json:"origin"` // guardduty, securityhub or request
	ID         string     `json:"id"`
	Type       string     `json:"type"` // an open set: unknown types are no reason to refuse
	Title      string     `json:"title,omitempty"`
	Severity   float64    `json:"severity"` // GuardDuty's scale, 1.0 to 10.0; 0 when not said
	Account    string     `json:"account"`  // of the suspect, not of the event's bus
	Region     string     `json:"region"`
	Sample     bool       `json:"sample"`
	Archived   bool       `json:"archived"`
	Count      int        `json:"count"`
	UpdatedAt  string     `json:"updatedAt,omitempty"` // as received: several formats exist
	Suspects   []Suspect  `json:"suspects"`
	Remotes    []string   `json:"remotes,omitempty"` // addresses of the peers it names
	Traffic    []Traffic  `json:"traffic,omitempty"` // the packets that it is about, as far as it names them
	Domains    []string   `json:"domains,omitempty"` // the names that were looked up
	EnvelopeID string     `json:"envelopeId,omitempty"`
	EventTime  *time.Time `json:"eventTime,omitempty"`
	Options    Options    `json:"options"` // only a hand-written request sets any
	Reason     string     `json:"reason,omitempty"`
	Case       string     `json:"case,omitempty"`
}

// Suspect is one machine that a finding is about. A finding is a snapshot, so everything here is described anew
// before anything is done.
type Suspect struct {
	InstanceID         string   `json:"instanceId,omitempty"`
	InstanceType       string   `json:"instanceType,omitempty"`
	Account            string   `json:"account,omitempty"`
	Region             string   `json:"region,omitempty"`
	NetworkInterfaceID string   `json:"networkInterfaceId,omitempty"` // the one that the finding's action names
	Interfaces         []string `json:"interfaces,omitempty"`         // all that the finding lists by id
	LocalAddresses     []string `json:"localAddresses,omitempty"`     // the suspect's side of the action
	Addresses          []string `json:"addresses,omitempty"`          // every private address that the finding lists
	VPC                string   `json:"vpc,omitempty"`                // in which those addresses are
}

// byAddress says whether the suspect can be found by its addresses: they are unique within a VPC alone.
func (s Suspect) byAddress() bool { return s.VPC != "" && len(s.LocalAddresses) > 0 }

// Traffic is a conversation that a finding is about. What it leaves open is zero: any.
type Traffic struct {
	Protocol      int32  `json:"protocol,omitempty"`      // IANA protocol number
	Direction     string `json:"direction,omitempty"`     // Inbound or Outbound: who opened it; empty when the finding does not know
	LocalAddress  string `json:"localAddress,omitempty"`  // the suspect's
	LocalPort     int32  `json:"localPort,omitempty"`     // the suspect's
	RemoteAddress string `json:"remoteAddress,omitempty"` // the peer's
	RemotePort    int32  `json:"remotePort,omitempty"`    // the peer's
	DNS           bool   `json:"dns,omitempty"`           // a lookup; with no RemoteAddress it went to the VPC's resolver
}

// Who opened a conversation, in the words of GuardDuty's connectionDirection.
const (
	Inbound  = "INBOUND"
	Outbound = "OUTBOUND"
)

// Refusal says why an event leads to no capture, and what a person can do about it. It is never retried.
type Refusal struct {
	Reason RefusalReason `json:"reason"`
	Detail string        `json:"detail"`
	Remedy string        `json:"remedy"`
}

// RefusalReason is a stable word for scripts and alarms.
type RefusalReason string

// The reasons for which an event is refused.
const (
	Malformed      RefusalReason = "Malformed"      // not JSON, or not an event
	Irrelevant     RefusalReason = "Irrelevant"     // an event of a kind that never means a capture
	NoSuspect      RefusalReason = "NoSuspect"      // names no instance and no interface
	NotOnANetwork  RefusalReason = "NotOnANetwork"  // about an IAM user, a bucket, a cluster's control plane ...
	SampleFinding  RefusalReason = "SampleFinding"  // made by CreateSampleFindings
	ForeignAccount RefusalReason = "ForeignAccount" // another account's suspect
	ForeignRegion  RefusalReason = "ForeignRegion"  // another Region's suspect
	ForeignVPC     RefusalReason = "ForeignVPC"     // a VPC in which this deployment does not capture
	SuspectGone    RefusalReason = "SuspectGone"    // neither the instance nor its interfaces exist any more
	BadRequest     RefusalReason = "BadRequest"     // a hand-written request that can't be carried out
	OverCap        RefusalReason = "OverCap"        // waited too long for a free place
)

func (r *Refusal) Error() string {
	if r.Remedy == "" {
		return fmt.Sprintf("%s: %s", r.Reason, r.Detail)
	}
	return fmt.Sprintf("%s: %s; %s", r.Reason, r.Detail, r.Remedy)
}

func refuse(reason RefusalReason, remedy, format string, args ...any) *Refusal {
	return &Refusal{Reason: reason, Detail: fmt.Sprintf(format, args...), Remedy: remedy}
}

// envelope is what EventBridge wraps every event in.
type envelope struct {
	ID         string          `json:"id"`
	DetailType string          `json:"detail-type"`
	Source     string          `json:"source"`
	Account    string          `json:"account"`
	Region     string          `json:"region"`
	Time       string          `json:"time"`
	Detail     json.RawMessage `json:"detail"`
}

// The source and detail-type of a capture asked for by hand over EventBridge.
const (
	RequestSource     = "flashtap"
	RequestDetailType = "Capture Request"
)

// ParseFinding reads an event: one delivered by EventBridge, or the bare finding or request inside it. Unknown finding
// types and unknown fields are no error, and a field of an unexpected type is treated as absent. The error is always
// a *Refusal.
//
// Keys are matched without regard to case, since EventBridge delivers lowerCamelCase and GetFindings PascalCase.
func ParseFinding(event []byte) (Finding, error) {
	var env envelope
	if err := lenient(event, &env); err != nil {
		return Finding{}, refuse(Malformed, "send the event as EventBridge delivers it", "not a JSON object: %v", err)
	}
	detail := env.Detail
	kind := env.DetailType
	if kind == "" {
		detail, kind = event, guess(event)
	}
	if d := bytes.TrimSpace(detail); len(d) == 0 || d[0] != '{' {
		return Finding{}, refuse(Malformed, "send the event as EventBridge delivers it", "%q has no detail object", kind)
	}
	var f Finding
	var err error
	switch kind {
	case "GuardDuty Finding":
		f, err = parseGuardDuty(detail)
	case "Security Hub Findings - Custom Action", "Security Hub Findings - Imported":
		f, err = parseSecurityHub(detail)
	case "Findings Imported V2":
		f, err = parseSecurityHubV2(detail)
	case RequestDetailType:
		f, err = parseRequest(detail)
	default:
		return Finding{}, refuse(Irrelevant, "subscribe only to findings and capture requests",
			"events of kind %q from %q never mean a capture", kind, env.Source)
	}
	f.EnvelopeID = env.ID
	if t, parseErr := time.Parse(time.RFC3339, env.Time); parseErr == nil {
		f.EventTime = &t
	}
	if f.Account == "" {
		f.Account = env.Account
	}
	if f.Region == "" {
		f.Region = env.Region
	}
	if err != nil {
		return f, err
	}
	f.tidy()
	return f, nil
}

// guess tells what an object without an envelope is.
func guess(object []byte) string {
	var probe struct {
		SchemaVersion string
		ProductArn    string
		AwsAccountId  string
		Findings      json.RawMessage
		Resource      json.RawMessage
		Service       json.RawMessage
		Type          json.RawMessage

		NetworkInterfaceID string
		InstanceID         string
	}
	if err := lenient(object, &probe); err != nil {
		return ""
	}
	switch {
	case probe.Findings != nil, probe.ProductArn != "", probe.AwsAccountId != "":
		return "Security Hub Findings - Imported"
	case probe.Resource != nil, probe.Service != nil, probe.SchemaVersion == "2.0":
		return "GuardDuty Finding"
	case probe.NetworkInterfaceID != "", probe.InstanceID != "":
		return RequestDetailType
	}
	return ""
}

// lenient decodes JSON and forgives a field of another type than expected: findings have been seen with numbers for
// strings and the reverse, and a field we can't read must not cost us the capture.
func lenient(data []byte, into any) error {
	err := json.Unmarshal(data, into)
	var wrongType *json.UnmarshalTypeError
	if errors.As(err, &wrongType) && wrongType.Field != "" {
		return nil
	}
	return err
}

// CheckOwner refuses a finding whose suspects belong elsewhere: an administrator account receives its members'
// findings, and we can only mirror our own.
func (f Finding) CheckOwner(account, region string) error {
	for _, at := range append([]Suspect{{Account: f.Account, Region: f.Region}}, f.Suspects...) {
		if at.Account != "" && at.Account != account {
			return refuse(ForeignAccount, "deploy Flashtap in account "+at.Account+" and forward the event to it",
				"finding %s is about account %s; this deployment serves %s", f.ID, at.Account, account)
		}
		if at.Region != "" && at.Region != region {
			return refuse(ForeignRegion, "deploy Flashtap in Region "+at.Region+" and forward the event to it",
				"finding %s is about Region %s; this deployment serves %s", f.ID, at.Region, region)
		}
	}
	return nil
}

// OwnSuspects keeps the suspects that are in this account and Region, for a finding that spans several. A suspect that
// says nothing of its own is where the finding is.
func (f Finding) OwnSuspects(account, region string) []Suspect {
	var own []Suspect
	for _, s := range f.Suspects {
		at, in := orElse(s.Account, f.Account), orElse(s.Region, f.Region)
		if (at == "" || at == account) && (in == "" || in == region) {
			own = append(own, s)
		}
	}
	return own
}

// tidy removes duplicates and ids that can't be ids.
func (f *Finding) tidy() {
	f.Remotes = unique(f.Remotes)
	f.Domains = unique(f.Domains)
	f.Traffic = unique(f.Traffic)
	for i := range f.Suspects {
		s := &f.Suspects[i]
		s.Interfaces = unique(s.Interfaces)
		s.Addresses = unique(s.Addresses)
		s.LocalAddresses = unique(s.LocalAddresses)
		s.Interfaces = slices.DeleteFunc(s.Interfaces, func(id string) bool { return !IsNetworkInterfaceID(id) })
		if !IsNetworkInterfaceID(s.NetworkInterfaceID) {
			s.NetworkInterfaceID = ""
		}
		if !IsInstanceID(s.InstanceID) {
			s.InstanceID = ""
		}
	}
	f.Suspects = merged(f.Suspects)
}

// merged makes one of the suspects that several findings in one event name alike. Those that one of them knows better stay apart.
func merged(suspects []Suspect) []Suspect {
	var kept []Suspect
	for _, s := range suspects {
		i := slices.IndexFunc(kept, func(k Suspect) bool {
			return k.InstanceID != "" && k.InstanceID == s.InstanceID && k.NetworkInterfaceID == s.NetworkInterfaceID && k.VPC == s.VPC &&
				k.Account == s.Account && k.Region == s.Region && (len(k.LocalAddresses) == 0) == (len(s.LocalAddresses) == 0)
		})
		if i < 0 {
			kept = append(kept, s)
			continue
		}
		k := &kept[i]
		k.Interfaces = unique(slices.Concat(k.Interfaces, s.Interfaces))
		k.LocalAddresses = unique(slices.Concat(k.LocalAddresses, s.LocalAddresses))
		k.Addresses = unique(slices.Concat(k.Addresses, s.Addresses))
	}
	return kept
}

// unique leaves out what is empty or there already.
func unique[T comparable](list []T) []T {
	var kept []T
	var empty T
	for _, s := range list {
		if s != empty && !slices.Contains(kept, s) {
			kept = append(kept, s)
		}
	}
	return kept
}

// lastOf is the part of an ARN or path after its last slash; a bare id is returned as it is.
func lastOf(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }

func parseRequest(detail []byte) (Finding, error) {
	var r Request
	dec := json.NewDecoder(bytes.NewReader(detail))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return Finding{}, refuse(BadRequest, "correct the request and send it again", "capture request: %v", err)
	}
	if r.Capture != "" {
		return Finding{}, refuse(BadRequest, "leave it out: a capture is named when it starts", "capture request: names its own capture %q", r.Capture)
	}
	if err := r.Validate(); err != nil {
		return Finding{}, refuse(BadRequest, "correct the request and send it again", "capture request: %s", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	f := Finding{
		Origin: "request", ID: r.FindingID, Type: r.FindingType, Severity: r.Severity, Count: 1,
		Reason: r.Reason, Case: r.Case, Options: r.Options,
		Suspects: []Suspect{{InstanceID: r.InstanceID, NetworkInterfaceID: r.NetworkInterfaceID}},
	}
	return f, nil
}
