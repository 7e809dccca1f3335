package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"flashtap/events"
	"flashtap/functions/evidence"
	"flashtap/functions/plan"
	"flashtap/functions/survey"
)

func planCommand() command {
	return command{
		name: "plan", operands: "[INTERFACE|INSTANCE]", most: 1, remote: true,
		summary: "tell what a finding or a request would capture, and touch nothing",
		about: `Says of a finding (--finding), or of one interface or instance, what Flashtap would make of it at this moment: which
interfaces, and why those; whether each can be captured, and what to do when not; which packets, by which rules; where the
collector would stand; what an hour costs; and what the capture could not show. AWS is asked with your own rights, by
calls that only read; nothing is made or changed. Of what only a start can tell, the checks say so.

A finding is what EventBridge delivers, or the bare finding or request inside it; --finding - is standard input.`,
		examples: []example{
			{"flashtap plan --finding finding.json", "exit code 3: no capture would come of it"},
			{"flashtap plan --finding finding.json --profile finding", "only the packets that the finding is about"},
			{"flashtap plan i-0a1b2c3d4e5f60718 --control 203.0.113.0/24 --output json", ""},
		},
		setup: func(t *tool, flags *flag.FlagSet) runner {
			var o optionFlags
			o.register(flags)
			finding := flags.String("finding", "", "a `FILE` with a finding or request; - is standard input")
			return func(ctx context.Context, operands []string) error { return t.plan(ctx, operands, *finding, o) }
		},
	}
}

func preflightCommand() command {
	return command{
		name: "preflight", operands: "INTERFACE|INSTANCE", least: 1, most: 1, remote: true,
		summary: "tell whether a capture would succeed, and what to do when not",
		about: `Runs the checks of a capture without starting one: go or no-go, what fails and what to do about it, what to be warned
of, and the filter's rules. It is what the first step of a capture does, but with your own rights, so some checks may say
that they could not be made. All calls only read. As JSON it is the whole plan.`,
		examples: []example{
			{"flashtap preflight eni-0a1b2c3d4e5f60718", "exit code 3: no-go"},
			{"flashtap preflight i-0a1b2c3d4e5f60718 --allow-temporary-endpoint --output json", ""},
		},
		setup: func(t *tool, flags *flag.FlagSet) runner {
			var o optionFlags
			o.register(flags)
			return func(ctx context.Context, operands []string) error { return t.preflight(ctx, operands[0], o) }
		},
	}
}

// forecast is the answer of plan.
type forecast struct {
	Captures bool            `json:"captures"` // whether any capture would come of it
	Finding  *events.Finding `json:"finding,omitempty"`
	Refusal  *events.Refusal `json:"refusal,omitempty"` // of the whole
	Sources  []prospect      `json:"sources"`
	Notes    []string        `json:"notes"` // what is left out
}

// prospect is what would become of one suspect, or of one of its interfaces.
type prospect struct {
	Suspect string          `json:"suspect"`
	Why     string          `json:"why,omitempty"` // this interface
	Refusal *events.Refusal `json:"refusal,omitempty"`
	Plan    *events.Plan    `json:"plan,omitempty"`
}

// planning are the settings without which nothing can be planned.
var planning = []string{"FLASHTAP_DEPLOYMENT", "FLASHTAP_ACCOUNT", "AWS_REGION", "FLASHTAP_BUCKET", "FLASHTAP_LAUNCH_TEMPLATE_ID", "FLASHTAP_COLLECTOR_ROLE_ID",
	"FLASHTAP_IMAGES", "FLASHTAP_BINARY_KEYS", "FLASHTAP_BINARY_DIGESTS"}

// planner plans as the deployment would, with the caller's own rights.
type planner struct {
	cfg      aws.Config
	settings events.Settings
	now      time.Time
}

func (t *tool) planner(ctx context.Context) (planner, error) {
	settings, err := t.settings(planning...)
	if err != nil {
		return planner{}, err
	}
	cfg, err := connect(ctx)
	return planner{cfg: cfg, settings: settings, now: time.Now()}, err
}

// plan decides about one request. A suspect that can't be captured whatever surrounds it is an *events.Refusal.
func (p planner) plan(ctx context.Context, request events.Request, finding *events.Finding) (events.Plan, string, error) {
	s := survey.New(p.cfg, evidence.Store{}, p.settings, toolName())
	s.Finding = finding
	facts, err := s.Facts(ctx, request, p.now)
	if err != nil {
		return events.Plan{}, "", err
	}
	return plan.Decide(facts), facts.Why, nil
}

func (t *tool) preflight(ctx context.Context, source string, o optionFlags) error {
	request, err := o.request(source)
	if err != nil {
		return err
	}
	p, err := t.planner(ctx)
	if err != nil {
		return err
	}
	made, _, err := p.plan(ctx, request, nil)
	var no *events.Refusal
	if errors.As(err, &no) {
		return refused(no.Remedy, "%s: %s", no.Reason, no.Detail)
	}
	if err != nil {
		return err
	}
	if err := t.show(judgement{made}); err != nil {
		return err
	}
	if !made.Go {
		return ended(exitRefused)
	}
	return nil
}

func (t *tool) plan(ctx context.Context, operands []string, file string, o optionFlags) error {
	if (file == "") == (len(operands) == 0) {
		return usage("say what is to be planned: an interface, an instance, or a finding", "flashtap plan eni-0a1b2c3d4e5f60718, or flashtap plan --finding FILE")
	}
	var f forecast
	if file == "" {
		request, err := o.request(operands[0])
		if err != nil {
			return err
		}
		p, err := t.planner(ctx)
		if err != nil {
			return err
		}
		if f, err = p.byHand(ctx, request); err != nil {
			return err
		}
	} else {
		event, err := t.readEvent(file)
		if err != nil {
			return err
		}
		p, err := t.planner(ctx)
		if err != nil {
			return err
		}
		if f, err = p.byFinding(ctx, event, o); err != nil {
			return err
		}
	}
	if err := t.show(f); err != nil {
		return err
	}
	if !f.Captures {
		return ended(exitRefused)
	}
	return nil
}

// byHand plans for the suspect that a person names.
func (p planner) byHand(ctx context.Context, request events.Request) (forecast, error) {
	suspect := request.NetworkInterfaceID
	if suspect == "" {
		suspect = request.InstanceID
	}
	f := forecast{Sources: []prospect{}, Notes: []string{}}
	err := f.add(suspect, "")(p.plan(ctx, request, nil))
	return f, err
}

// byFinding plans for the suspects of a finding as intake would.
func (p planner) byFinding(ctx context.Context, event []byte, o optionFlags) (forecast, error) {
	f := forecast{Sources: []prospect{}, Notes: []string{}}
	finding, err := events.ParseFinding(event)
	f.Finding = &finding
	var own []events.Suspect
	if err == nil {
		own, err = admit(finding, p.settings)
	}
	if errors.As(err, &f.Refusal) {
		return f, nil
	}
	if err != nil {
		return f, err
	}
	if finding.Options, err = o.over(finding.Options); err != nil {
		return f, err
	}
	if finding.Origin == "guardduty" && finding.Severity < usualSeverity {
		f.Notes = append(f.Notes, fmt.Sprintf("a finding of severity %.1f starts a capture only where the deployment's minSeverity is as low; it is %d by default", finding.Severity, usualSeverity))
	}
	if left := len(finding.Suspects) - len(own); left > 0 {
		f.Notes = append(f.Notes, countOf(uint64(left), "suspect")+" left out: of another account or Region")
	}
	api, places := ec2.NewFromConfig(p.cfg), p.settings.MaxInterfaces
	for i, suspect := range own {
		if places <= 0 {
			f.Notes = append(f.Notes, fmt.Sprintf("%s left out: one finding captures %d at most", countOf(uint64(len(own)-i), "suspect"), p.settings.MaxInterfaces))
			break
		}
		name := suspectName(suspect)
		described, err := survey.Interfaces(ctx, api, suspect)
		if err != nil {
			return f, err
		}
		targets, err := plan.Choose(suspect, described, plan.Share(places, len(own)-i-1))
		var no *events.Refusal
		if errors.As(err, &no) {
			f.Sources = append(f.Sources, prospect{Suspect: name, Refusal: no})
			continue
		}
		if err != nil {
			return f, err
		}
		if targets.Left > 0 {
			f.Notes = append(f.Notes, fmt.Sprintf("%s of %s left out: one finding captures %d at most", countOf(uint64(targets.Left), "interface"), name, p.settings.MaxInterfaces))
		}
		f.Notes = append(f.Notes, targets.Notes...)
		places -= len(targets.Interfaces)
		for _, ni := range targets.Interfaces {
			if err := f.add(name, targets.Why)(p.plan(ctx, requestOf(finding, ni), &finding)); err != nil {
				return f, err
			}
		}
	}
	return f, nil
}

// usualSeverity is the lowest severity of a GuardDuty finding that a deployment takes by default (minSeverity in cdk.json).
const usualSeverity = 4

// add takes what became of a source; the survey's own word on how it was found stands when there is no other.
func (f *forecast) add(suspect, why string) func(events.Plan, string, error) error {
	return func(made events.Plan, surveyed string, err error) error {
		s := prospect{Suspect: suspect, Why: why}
		switch {
		case errors.As(err, &s.Refusal):
		case err != nil:
			return err
		default:
			s.Plan = &made
			f.Captures = f.Captures || made.Go
			if why == "" {
				s.Why = surveyed
			}
		}
		f.Sources = append(f.Sources, s)
		return nil
	}
}

// suspectName is by what a finding knows a suspect.
func suspectName(s events.Suspect) string {
	switch {
	case s.InstanceID != "":
		return s.InstanceID
	case s.NetworkInterfaceID != "":
		return s.NetworkInterfaceID
	}
	return "whoever holds " + strings.Join(s.LocalAddresses, " or ")
}

// requestOf is what intake would ask of the state machine, but for the capture's id.
func requestOf(f events.Finding, ni types.NetworkInterface) events.Request {
	r := events.Request{Case: f.Case, NetworkInterfaceID: aws.ToString(ni.NetworkInterfaceId), FindingID: f.ID, FindingType: f.Type, Severity: f.Severity,
		Reason: f.Reason, Options: f.Options}
	if ni.Attachment != nil && events.IsInstanceID(aws.ToString(ni.Attachment.InstanceId)) {
		r.InstanceID = aws.ToString(ni.Attachment.InstanceId)
	}
	return r
}

func (f forecast) text() string {
	var s sheet
	if f.Finding != nil {
		findingOn(&s, *f.Finding)
	}
	if f.Refusal != nil {
		s.say("verdict", "no capture: %s: %s", f.Refusal.Reason, f.Refusal.Detail)
		if f.Refusal.Remedy != "" {
			s.say("fix", "%s", f.Refusal.Remedy)
		}
		return s.b.String()
	}
	for i, source := range f.Sources {
		if i > 0 || f.Finding != nil {
			s.gap()
		}
		source.on(&s)
	}
	if len(f.Notes) > 0 {
		s.gap()
	}
	for _, note := range f.Notes {
		s.say("note", "%s", note)
	}
	return s.b.String()
}

// on shows everything about one source.
func (p prospect) on(s *sheet) {
	if p.Refusal != nil {
		s.say("suspect", "%s", p.Suspect)
		s.say("verdict", "no capture: %s: %s", p.Refusal.Reason, p.Refusal.Detail)
		if p.Refusal.Remedy != "" {
			s.say("fix", "%s", p.Refusal.Remedy)
		}
		return
	}
	made := *p.Plan
	s.say("interface", "%s", sourceText(made.Source))
	s.say("why", "%s", p.Why)
	word := "no capture"
	if made.Go {
		word = "a capture"
	}
	s.say("verdict", "%s: %s", word, standingText(made))
	verdictsOn(s, made)
	filterOn(s, made)
	if !made.Go {
		return
	}
	s.say("until", "%s have passed, or %s are captured", secondsText(made.Limits.DurationSeconds), sizeText(made.Limits.MaxBytes))
	s.say("session", "number %d", made.Mirror.SessionNumber)
	shadowsOn(s, made.Shadows)
	s.item("collector", "%s", collectorText(made.Collector))
	if made.Cost != nil {
		costOn(s, *made.Cost, made.Region)
	}
	label := "not shown"
	for _, text := range made.BlindSpots {
		s.item(label, "%s", text)
		label = ""
	}
}

// findingOn says what a finding is, in the words of who made it.
func findingOn(s *sheet, f events.Finding) {
	if f.Origin == "" {
		return
	}
	s.say("finding", "%s", strings.TrimSpace(f.Origin+" "+f.Type))
	if f.Title != "" {
		s.say("", "%s", f.Title)
	}
	if f.Severity > 0 {
		s.say("severity", "%.1f (%s)", f.Severity, severityWord(f.Severity))
	}
	if f.Account != "" || f.Region != "" {
		s.say("where", "account %s, Region %s", orUnknown(f.Account), orUnknown(f.Region))
	}
	if len(f.Domains) > 0 {
		s.say("looked up", "%s", strings.Join(f.Domains, ", "))
	}
	if len(f.Remotes) > 0 {
		s.say("peers", "%s", strings.Join(f.Remotes, ", "))
	}
}
