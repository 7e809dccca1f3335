package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"

	"flashtap/events"
)

func findingCommand() command {
	return command{
		name: "finding", operands: "FILE", least: 1, most: 1,
		summary: "say what a finding or request would lead to, without asking AWS",
		about: `Reads an event as EventBridge delivers it, or the bare finding or request inside it (GuardDuty, Security Hub in both
formats, a capture request), and says which interfaces would be captured and how, or why none would be and what to do
about it. FILE - is standard input. Nothing is sent anywhere, so nothing is known of the suspect as it is now; flashtap
plan --finding asks AWS as well. Which account and Region the deployment serves is taken from FLASHTAP_ACCOUNT and
AWS_REGION, when both are set.`,
		examples: []example{
			{"flashtap finding event.json", ""},
			{"flashtap finding - --output json < event.json", "exit code 3: it leads to no capture"},
		},
		setup: func(t *tool, _ *flag.FlagSet) runner {
			return func(_ context.Context, operands []string) error { return t.finding(operands[0]) }
		},
	}
}

// reading is what Flashtap makes of an event.
type reading struct {
	Captures bool            `json:"captures"` // whether a capture comes of it
	Refusal  *events.Refusal `json:"refusal,omitempty"`
	Finding  events.Finding  `json:"finding"`
	Sources  []sourceReading `json:"sources"`
	Options  events.Options  `json:"options"` // with the deployment's defaults
	Notes    []string        `json:"notes"`   // what could not be checked, or is left out
}

// sourceReading is what of one suspect would be captured.
type sourceReading struct {
	Suspect    string   `json:"suspect"`
	Interfaces []string `json:"interfaces"` // as of the finding; described anew before anything is done
	Choice     string   `json:"choice"`     // in words
}

// maxEvent is above what EventBridge delivers: an entry has at most 1 MB (EventBridge User Guide, "Quotas").
const maxEvent = 4 << 20

func (t *tool) finding(file string) error {
	settings, err := t.settings()
	if err != nil {
		return err
	}
	event, err := t.readEvent(file)
	if err != nil {
		return err
	}
	r, err := readFinding(event, settings)
	if err != nil {
		return err
	}
	if err := t.show(r); err != nil {
		return err
	}
	if !r.Captures {
		return ended(exitRefused)
	}
	return nil
}

// readEvent reads a finding or request from a file; - is standard input.
func (t *tool) readEvent(file string) ([]byte, error) {
	if file == "-" {
		return readAll(t.in, "standard input", maxEvent)
	}
	return readFile(file, maxEvent)
}

func readFinding(event []byte, settings events.Settings) (reading, error) {
	r := reading{Sources: []sourceReading{}, Notes: []string{}}
	var err error
	r.Finding, err = events.ParseFinding(event)
	var own []events.Suspect
	if err == nil {
		r.Options = settings.Options(r.Finding.Options)
		own, err = admit(r.Finding, settings)
		if settings.Account == "" || settings.Region == "" {
			r.Notes = append(r.Notes, "not checked: whether its account and Region are the deployment's: FLASHTAP_ACCOUNT and AWS_REGION are not both set")
		}
	}
	if errors.As(err, &r.Refusal) {
		return r, nil
	}
	if err != nil {
		return r, err
	}
	r.Captures = true
	if left := len(r.Finding.Suspects) - len(own); left > 0 {
		r.Notes = append(r.Notes, countOf(uint64(left), "suspect")+" left out: of another account or Region")
	}
	r.Notes = append(r.Notes, "not checked: whether the suspect still exists and can be mirrored: preflight asks AWS")
	for _, s := range own {
		r.Sources = append(r.Sources, choice(s, settings.MaxInterfaces))
	}
	return r, nil
}

// admit refuses what intake refuses of a finding that reads well, and keeps the suspects that are the deployment's.
func admit(f events.Finding, s events.Settings) ([]events.Suspect, error) {
	switch {
	case f.Sample && !s.AllowSamples:
		return nil, &events.Refusal{Reason: events.SampleFinding, Detail: "finding " + f.ID + " is a sample", Remedy: "to rehearse with samples, deploy with FLASHTAP_ALLOW_SAMPLES=true"}
	case f.Archived:
		return nil, &events.Refusal{Reason: events.Irrelevant, Detail: "finding " + f.ID + " is archived", Remedy: "unarchive it, or start a capture by hand"}
	case s.Account == "" || s.Region == "":
		return f.Suspects, nil
	}
	own := f.OwnSuspects(s.Account, s.Region)
	if foreign := f.CheckOwner(s.Account, s.Region); foreign != nil && len(own) == 0 {
		return nil, foreign
	}
	return own, nil
}

// choice says which interfaces of a suspect would be captured, in intake's order of preference.
func choice(s events.Suspect, limit int) sourceReading {
	r := sourceReading{Suspect: s.InstanceID, Interfaces: s.Interfaces}
	if r.Interfaces == nil {
		r.Interfaces = []string{}
	}
	all := fmt.Sprintf("all interfaces of %s, the primary first, at most %d", s.InstanceID, limit)
	switch {
	case s.InstanceID == "":
		r.Suspect, r.Choice = s.NetworkInterfaceID, s.NetworkInterfaceID
	case s.NetworkInterfaceID != "":
		r.Choice = s.NetworkInterfaceID + ", which the finding names, while it is attached to " + s.InstanceID
	case len(s.LocalAddresses) > 0:
		r.Choice = "every interface that holds " + strings.Join(s.LocalAddresses, " or ") + "; if none does, " + all
	default:
		r.Choice = all
	}
	return r
}

func (r reading) text() string {
	var b strings.Builder
	field := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-10s %s\n", name, fmt.Sprintf(format, args...))
	}
	f := r.Finding
	if f.Origin != "" {
		field("finding", "%s %s", f.Origin, strings.TrimSpace(f.Type+" "+f.ID))
		if f.Title != "" {
			field("", "%s", strings.Join(strings.Fields(f.Title), " "))
		}
		if f.Severity > 0 {
			field("severity", "%.1f (%s)", f.Severity, severityWord(f.Severity))
		}
		if f.Account != "" || f.Region != "" {
			field("where", "account %s, Region %s", orUnknown(f.Account), orUnknown(f.Region))
		}
	}
	if no := r.Refusal; no != nil {
		field("verdict", "no capture: %s: %s", no.Reason, no.Detail)
		if no.Remedy != "" {
			field("remedy", "%s", no.Remedy)
		}
		return b.String()
	}
	for _, s := range r.Sources {
		field("suspect", "%s", s.Suspect)
		field("captured", "%s", s.Choice)
		if len(s.Interfaces) > 0 {
			field("", "it had %s", strings.Join(s.Interfaces, ", "))
		}
	}
	if len(f.Remotes) > 0 {
		field("peers", "%s", strings.Join(f.Remotes, ", "))
	}
	o := r.Options
	field("how", "%s, at most %s, %s", secondsText(o.DurationSeconds), sizeText(o.MaxBytes), wantedText(o))
	field("verdict", "a capture, unless one of the same interface runs already")
	for _, u := range r.Notes {
		field("note", "%s", u)
	}
	return b.String()
}

// wantedText is what of the packets is asked for. Which rules come of it depends on the interface, and flashtap plan tells.
func wantedText(o events.Options) string {
	text := lengthText(o.PacketLength) + ", "
	if o.Filter != nil {
		return text + filterText(*o.Filter)
	}
	switch o.Profile {
	case events.ProfileFinding:
		return text + "what the finding is about"
	case events.ProfileHeaders:
		return "headers of everything, with the VPC's DNS"
	}
	return text + "everything, with the VPC's DNS"
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

// severityWord is GuardDuty's name of a severity (GuardDuty User Guide, "Severity levels of GuardDuty findings").
func severityWord(severity float64) string {
	switch {
	case severity >= 9:
		return "critical"
	case severity >= 7:
		return "high"
	case severity >= 4:
		return "medium"
	}
	return "low"
}
