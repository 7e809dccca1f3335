package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"

	"flashtap/events"
	"flashtap/functions/evidence"
	"flashtap/functions/remove"
)

func statusCommand() command {
	return command{
		name: "status", operands: "CAPTURE", least: 1, most: 1, remote: true,
		summary: "tell how one capture stands",
		about: `Shows what was planned, what the collector last said, what of the capture exists in AWS at this moment, the last
certificate of its removal, and the verdict once it is sealed. What exists is asked of AWS, not remembered.`,
		examples: []example{
			{"flashtap status 20261122T030405Z-eni-0a1b2c3d4e5f60718", ""},
			{"flashtap status 20261122T030405Z-eni-0a1b2c3d4e5f60718 --output json", "the whole plan, tally and certificate"},
		},
		setup: func(t *tool, _ *flag.FlagSet) runner {
			return func(ctx context.Context, operands []string) error { return t.status(ctx, operands[0]) }
		},
	}
}

// standing is the answer of status.
type standing struct {
	Capture     events.CaptureID    `json:"capture"`
	State       string              `json:"state"`
	Why         string              `json:"why,omitempty"`
	FindingType string              `json:"findingType,omitempty"`
	Plan        *events.Plan        `json:"plan,omitempty"`
	Progress    *events.Checkpoint  `json:"progress,omitempty"`    // the collector's latest checkpoint
	Silence     []silence           `json:"silence,omitempty"`     // why no packet came for a while, one for each cause that was found
	Remaining   []events.Resource   `json:"remaining"`             // what exists in AWS; null when AWS could not be asked
	Certificate *events.Certificate `json:"certificate,omitempty"` // the last one
	Seal        *events.SealResult  `json:"seal,omitempty"`

	bucket string
	asked  time.Time
}

func (t *tool) status(ctx context.Context, operand string) error {
	c, err := captureID(operand)
	if err != nil {
		return err
	}
	settings, err := t.settings("FLASHTAP_BUCKET", "FLASHTAP_DEPLOYMENT", "FLASHTAP_SCHEDULE_GROUP")
	if err != nil {
		return err
	}
	cfg, err := connect(ctx)
	if err != nil {
		return err
	}
	store := evidence.Store{API: s3.NewFromConfig(cfg), Bucket: settings.Bucket}
	r, err := read(ctx, store, c, time.Now())
	if err != nil {
		return orAbsent(err, c, settings.Bucket)
	}
	s := standing{Capture: c, State: r.State, Why: r.Why, FindingType: r.Finding, Plan: r.Plan, Seal: r.Seal, bucket: settings.Bucket, asked: time.Now()}
	if s.Progress, err = progress(ctx, store, c); err != nil {
		return err
	}
	if s.Silence, err = silences(ctx, store, c); err != nil {
		return err
	}
	if s.Certificate, err = lastCertificate(ctx, store, c); err != nil {
		return err
	}
	// What the bucket says is shown also when EC2 can't be asked, and then the reason why it could not.
	remaining, asking := remainder(ctx, remove.Remover{
		EC2: ec2.NewFromConfig(cfg), Schedules: scheduler.NewFromConfig(cfg), Store: store, Settings: proofs(settings, r.Plan),
	}, c)
	if asking == nil {
		s.Remaining = remaining
	}
	return errors.Join(t.show(s), asking)
}

// silence is a cause for which no packet of the source arrived, as watch found it.
type silence struct {
	Cause  string    `json:"cause"` // one of the causes in events
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
	Remedy string    `json:"remedy,omitempty"`
}

// silences reads what watch recorded of packets that did not come. They may have come later.
func silences(ctx context.Context, store evidence.Store, c events.CaptureID) ([]silence, error) {
	const act = "silent-"
	list, err := store.List(ctx, events.CustodyPrefix(c)+"watch-"+act)
	if err != nil {
		return nil, err
	}
	var found []silence
	for _, e := range list {
		var entry events.CustodyEntry
		if err := store.ReadJSON(ctx, e.Key, &entry); err != nil {
			return nil, err
		}
		found = append(found, silence{Cause: strings.TrimPrefix(entry.Act, act), At: entry.At, Reason: entry.Detail["reason"], Remedy: entry.Detail["remedy"]})
	}
	return found, nil
}

// proofs are the settings by which what is ours is told: where the environment leaves them out, the plan knows them.
func proofs(s events.Settings, plan *events.Plan) events.Settings {
	if plan == nil {
		return s
	}
	if s.LaunchTemplateID == "" {
		s.LaunchTemplateID = plan.Collector.LaunchTemplateID
	}
	if s.InstanceProfileARN == "" {
		s.InstanceProfileARN = plan.Collector.InstanceProfileARN
	}
	return s
}

// remainder lists what exists of a capture, in the order in which it would be removed.
func remainder(ctx context.Context, r remove.Remover, c events.CaptureID) ([]events.Resource, error) {
	items, err := r.Inventory(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("ask AWS what exists of %s: %w", c, err)
	}
	remaining := []events.Resource{}
	for _, item := range items {
		if !item.Gone() {
			remaining = append(remaining, item.Resource)
		}
	}
	return remaining, nil
}

// lastCertificate is the youngest certificate of removal; nil when nothing was removed yet.
func lastCertificate(ctx context.Context, store evidence.Store, c events.CaptureID) (*events.Certificate, error) {
	list, err := store.List(ctx, events.CertificatesPrefix(c))
	if err != nil || len(list) == 0 {
		return nil, err
	}
	var cert events.Certificate
	if err := store.ReadJSON(ctx, list[len(list)-1].Key, &cert); err != nil {
		return nil, err
	}
	return &cert, nil
}

func (s standing) text() string {
	var b strings.Builder
	field := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-12s %s\n", name, fmt.Sprintf(format, args...))
	}
	field("capture", "%s", s.Capture)
	state := s.State
	if s.Why != "" {
		state += ": " + s.Why
	}
	field("state", "%s", state)
	s.planText(field)
	if p := s.Progress; p != nil {
		field("collector", "%s at %s", p.State, timeText(p.At))
		field("", "%s, %s written; %s sealed, %d not yet in the bucket", countOf(p.Tally.Written, "packet"), sizeText(p.Tally.WrittenBytes),
			countOf(uint64(max(p.Segments, 0)), "segment"), p.Pending)
		field("", "%s", lossText(p.Tally))
	} else if s.State == stateRunning {
		field("collector", "has not said anything yet")
	}
	for _, no := range s.Silence {
		field("silence", "%s: %s", timeText(no.At), no.Reason)
		if no.Remedy != "" {
			field("  fix", "%s", no.Remedy)
		}
	}
	switch {
	case s.Remaining == nil:
		field("exists", "unknown: AWS could not be asked")
	case len(s.Remaining) == 0:
		field("exists", "nothing of it, as of %s", timeText(s.asked))
	}
	for i, r := range s.Remaining {
		name := "exists"
		if i > 0 {
			name = ""
		}
		field(name, "%s", resourceText(r))
	}
	if c := s.Certificate; c != nil {
		field("certificate", "%d, %s by %s: %d found, %d gone, %d remaining, %d refused", c.Seq, timeText(c.At), c.By,
			len(c.Found), len(c.Gone), len(c.Remaining), len(c.Refused))
		for _, r := range append(append([]events.Resource{}, c.Remaining...), c.Refused...) {
			field("", "%s", resourceText(r))
		}
	}
	if s.Seal != nil {
		b.WriteString(sealText(*s.Seal, s.bucket))
	}
	return b.String()
}

func (s standing) planText(field func(name, format string, args ...any)) {
	if s.FindingType != "" {
		field("finding", "%s", s.FindingType)
	}
	p := s.Plan
	if p == nil {
		return
	}
	if r := p.Request; r.Case != "" || r.Reason != "" {
		field("case", "%s", strings.TrimSpace(r.Case+"  "+r.Reason))
	}
	source := p.Source.NetworkInterfaceID + " " + p.Source.PrimaryIPv4
	if p.Source.InstanceID != "" {
		source += " of " + p.Source.InstanceID + " (" + p.Source.InstanceType + ")"
	}
	field("source", "%s in %s, %s", source, p.Source.VPC, p.Source.AvailabilityZone)
	field("limits", "%s, %s, %s; the latest end is %s", secondsText(p.Limits.DurationSeconds), sizeText(p.Limits.MaxBytes), lengthText(p.Mirror.PacketLength), timeText(p.Deadline))
	profile := ""
	if p.Profile != "" {
		profile = "profile " + p.Profile + ": "
	}
	field("mirror", "VNI %d, session number %d, %s%s", p.Mirror.VNI, p.Mirror.SessionNumber, profile, filterText(p.Mirror.Filter))
	if p.Go {
		field("placement", "%s by way of %s", p.Collector.Subnet, p.Collector.S3Path)
	}
	for _, v := range p.Verdicts {
		switch v.Result {
		case events.Warn:
			field("warning", "%s", verdictsText([]events.Verdict{v}))
		case events.Fixed:
			field("fixed", "%s", verdictsText([]events.Verdict{v}))
		}
	}
}

func lengthText(packetLength int32) string {
	if packetLength == 0 {
		return "whole frames"
	}
	return fmt.Sprintf("the first %d bytes of each frame", packetLength)
}

func filterText(f events.Filter) string {
	dns := "without the VPC's DNS"
	if f.DNS {
		dns = "with the VPC's DNS"
	}
	if reflect.DeepEqual(f, events.EverythingFilter()) {
		return "everything, " + dns
	}
	return countOf(uint64(len(f.Rules)), "filter rule") + ", " + dns
}

func lossText(t events.Tally) string {
	return fmt.Sprintf("%s lost, %s rejected (%d of a foreign source, %d of a foreign VNI, %d malformed, %d oversize, %d fragments, %d damaged)",
		countText(t.Lost()), countText(t.Rejected.Total()), t.Rejected.ForeignSource, t.Rejected.ForeignVNI, t.Rejected.Malformed, t.Rejected.Oversize,
		t.Rejected.Fragment, t.Rejected.BadChecksum)
}

func resourceText(r events.Resource) string {
	text := r.Kind + " " + r.ID
	if r.State != "" {
		text += " (" + r.State + ")"
	}
	if r.Reason != "" {
		text += ": " + r.Reason
	}
	return text
}
