package events

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"time"
)

// CaptureID names one capture: one source over one window of time. It is
// "<UTC start, basic ISO 8601>-<interface id>", so that listing sorts by time:
// 20261122T030405Z-eni-0a1b2c3d4e5f60718.
//
// At most 38 characters, well inside the 80 of a Step Functions execution name, and made only of characters that
// execution names, object keys and tags all accept.
type CaptureID string

const captureTime = "20060102T150405Z"

var (
	interfaceID = regexp.MustCompile(`^eni-[0-9a-f]{8}([0-9a-f]{9})?$`)
	instanceID  = regexp.MustCompile(`^i-[0-9a-f]{8}([0-9a-f]{9})?$`)
)

// NewCaptureID names the capture of interface eni that starts at start (second precision, UTC).
func NewCaptureID(start time.Time, eni string) CaptureID {
	return CaptureID(start.UTC().Format(captureTime) + "-" + eni)
}

// Start is the second at which the capture was asked for.
func (c CaptureID) Start() (time.Time, error) {
	start, _, err := c.split()
	return start, err
}

// NetworkInterfaceID is the source interface of the capture.
func (c CaptureID) NetworkInterfaceID() string {
	_, eni, err := c.split()
	if err != nil {
		return ""
	}
	return eni
}

// Validate says whether c has the form that NewCaptureID makes. Everything that builds a key or a name from a
// capture id that came from outside calls it first.
func (c CaptureID) Validate() error {
	_, _, err := c.split()
	return err
}

func (c CaptureID) split() (time.Time, string, error) {
	at, eni, found := strings.Cut(string(c), "-")
	if !found {
		return time.Time{}, "", fmt.Errorf("capture id %q: not of the form <start>-<interface id>", string(c))
	}
	start, err := time.Parse(captureTime, at)
	if err != nil || start.Format(captureTime) != at { // Parse alone admits a fraction of a second
		return time.Time{}, "", fmt.Errorf("capture id %q: start is not like %s", string(c), captureTime)
	}
	if !IsNetworkInterfaceID(eni) {
		return time.Time{}, "", fmt.Errorf("capture id %q: %q is not an interface id", string(c), eni)
	}
	return start, eni, nil
}

// IsNetworkInterfaceID says whether s has the form of an EC2 network interface id: 8 or 17 hexadecimal digits.
func IsNetworkInterfaceID(s string) bool { return interfaceID.MatchString(s) }

// IsInstanceID says whether s has the form of an EC2 instance id.
func IsInstanceID(s string) bool { return instanceID.MatchString(s) }

// ClientToken is the idempotency token of one Create call: the same capture, attempt and resource always give the
// same token, so that a step that runs twice makes one resource. 64 ASCII characters is EC2's limit (EC2 developer
// guide, "Ensuring idempotency"); a hexadecimal SHA-256 is exactly that.
func ClientToken(c CaptureID, attempt int, resource string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%d\x00%s", c, attempt, resource))
	return hex.EncodeToString(sum[:])
}

// Options are what a person may choose about a capture; zero values mean the deployment's defaults.
type Options struct {
	DurationSeconds int     `json:"durationSeconds,omitempty"` // how long to capture
	MaxBytes        int64   `json:"maxBytes,omitempty"`        // inner bytes written after which the capture ends by itself
	PacketLength    int32   `json:"packetLength,omitempty"`    // bytes kept of each frame, counted from the inner Ethernet header
	SessionNumber   int32   `json:"sessionNumber,omitempty"`   // 1-32766, lower is tried first by AWS
	Filter          *Filter `json:"filter,omitempty"`          // only with ProfileCustom, which it implies
	Profile         string  `json:"profile,omitempty"`         // what to mirror: one of the profiles

	// ControlCIDRs are where the operators' own SSH and RDP come from: it is left out, in both directions.
	ControlCIDRs []string `json:"controlCidrs,omitempty"`
	// AllowTemporaryEndpoint lets the capture make an S3 interface endpoint where no other way to S3 exists.
	AllowTemporaryEndpoint bool `json:"allowTemporaryEndpoint,omitempty"`
	// LegalHold has seal put a legal hold on every object of the evidence, which no retention ends.
	LegalHold bool `json:"legalHold,omitempty"`
}

// The profiles of a capture: what is mirrored.
const (
	ProfileEverything = "everything" // all IPv4 and IPv6 and the VPC's DNS, whole packets
	ProfileFinding    = "finding"    // what the finding is about, whole packets
	ProfileHeaders    = "headers"    // as everything, but only the beginning of each packet
	ProfileCustom     = "custom"     // the filter of the request or of the deployment
)

// The bounds of Options. The longest capture is 24 h (design decision D3: the state machine's history must fit).
const (
	MinDuration      = 5 * time.Second
	MaxDuration      = 24 * time.Hour
	MinPacketLength  = 35    // IPv4; VPC Traffic Mirroring guide, "Traffic mirror targets"
	MaxPacketLength  = 8947  // what a 9001-byte target interface can take over IPv4 without truncating
	MaxSessionNumber = 32766 // EC2 API Reference, CreateTrafficMirrorSession
)

// Validate names the first option that is out of bounds, and the bounds.
func (o Options) Validate() error {
	var errs []error
	if s := o.DurationSeconds; s != 0 && (s < int(MinDuration/time.Second) || s > int(MaxDuration/time.Second)) {
		errs = append(errs, fmt.Errorf("durationSeconds %d: want %.0f to %.0f", o.DurationSeconds, MinDuration.Seconds(), MaxDuration.Seconds()))
	}
	if o.MaxBytes < 0 {
		errs = append(errs, fmt.Errorf("maxBytes %d: want 0 (the default) or more", o.MaxBytes))
	}
	if o.PacketLength != 0 && (o.PacketLength < MinPacketLength || o.PacketLength > MaxPacketLength) {
		errs = append(errs, fmt.Errorf("packetLength %d: want %d to %d, or leave it out for whole packets", o.PacketLength, MinPacketLength, MaxPacketLength))
	}
	if o.SessionNumber < 0 || o.SessionNumber > MaxSessionNumber {
		errs = append(errs, fmt.Errorf("sessionNumber %d: want 1 to %d", o.SessionNumber, MaxSessionNumber))
	}
	if o.Filter != nil {
		errs = append(errs, o.Filter.Validate())
	}
	switch o.Profile {
	case "", ProfileCustom:
	case ProfileEverything, ProfileFinding, ProfileHeaders:
		if o.Filter != nil {
			errs = append(errs, fmt.Errorf("profile %s has a filter of its own: leave out the filter, or choose the profile %s", o.Profile, ProfileCustom))
		}
	default:
		errs = append(errs, fmt.Errorf("profile %q: want %s, %s, %s or %s", o.Profile, ProfileEverything, ProfileFinding, ProfileHeaders, ProfileCustom))
	}
	for _, text := range o.ControlCIDRs {
		if _, err := netip.ParsePrefix(text); err != nil {
			errs = append(errs, fmt.Errorf("controlCidrs %q: want a block such as 192.0.2.0/24 or 2001:db8::/32", text))
		}
	}
	return errors.Join(errs...)
}

// Request asks for a capture. It is the input of the state machine: intake makes it from a finding, and a person may
// write it by hand in the Step Functions console, where an interface or an instance id alone is enough.
type Request struct {
	Capture            CaptureID `json:"capture,omitempty"` // empty by hand: made from the start of the execution
	Case               string    `json:"case,omitempty"`    // the investigation it belongs to; default: the finding's id
	NetworkInterfaceID string    `json:"networkInterfaceId,omitempty"`
	InstanceID         string    `json:"instanceId,omitempty"`
	FindingID          string    `json:"findingId,omitempty"`
	FindingType        string    `json:"findingType,omitempty"`
	Severity           float64   `json:"severity,omitempty"`
	Reason             string    `json:"reason,omitempty"` // why a person asked, in their words
	Options
}

// maxText is how long a case and a reason may be: they travel in the state of the execution, which is limited (Step
// Functions Developer Guide, "Quotas").
const maxText = 1024

// Validate says what is wrong with a request, and what would be right.
func (r Request) Validate() error {
	var errs []error
	if r.NetworkInterfaceID == "" && r.InstanceID == "" {
		errs = append(errs, errors.New(`names no suspect: give "networkInterfaceId" or "instanceId"`))
	}
	if r.NetworkInterfaceID != "" && !IsNetworkInterfaceID(r.NetworkInterfaceID) {
		errs = append(errs, fmt.Errorf("networkInterfaceId %q: not an interface id like eni-0a1b2c3d4e5f60718", r.NetworkInterfaceID))
	}
	if r.InstanceID != "" && !IsInstanceID(r.InstanceID) {
		errs = append(errs, fmt.Errorf("instanceId %q: not an instance id like i-0a1b2c3d4e5f60718", r.InstanceID))
	}
	if r.Capture != "" {
		if err := r.Capture.Validate(); err != nil {
			errs = append(errs, err)
		} else if r.NetworkInterfaceID != "" && r.Capture.NetworkInterfaceID() != r.NetworkInterfaceID {
			errs = append(errs, fmt.Errorf("capture %s is about another interface than %s", r.Capture, r.NetworkInterfaceID))
		}
	}
	if len(r.Case) > maxText {
		errs = append(errs, fmt.Errorf("case has %d bytes: want at most %d", len(r.Case), maxText))
	}
	if len(r.Reason) > maxText {
		errs = append(errs, fmt.Errorf("reason has %d bytes: want at most %d", len(r.Reason), maxText))
	}
	errs = append(errs, r.Options.Validate())
	return errors.Join(errs...)
}
