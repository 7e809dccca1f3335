package main

import (
	"errors"
	"testing"

	"flashtap/events"
)

func TestAdmit(t *testing.T) {
	const ours, here = "111122223333", "eu-central-1"
	one := []events.Suspect{{InstanceID: "i-00000001"}}
	for name, row := range map[string]struct {
		f       events.Finding
		samples bool
		own     int
		want    events.RefusalReason
	}{
		"ours":                       {events.Finding{Account: ours, Region: here, Suspects: one}, false, 1, ""},
		"a sample":                   {events.Finding{Account: ours, Region: here, Suspects: one, Sample: true}, false, 0, events.SampleFinding},
		"a sample to rehearse with":  {events.Finding{Account: ours, Region: here, Suspects: one, Sample: true}, true, 1, ""},
		"archived":                   {events.Finding{Account: ours, Region: here, Suspects: one, Archived: true}, false, 0, events.Irrelevant},
		"a member's":                 {events.Finding{Account: "444455556666", Region: here, Suspects: one}, false, 0, events.ForeignAccount},
		"of another Region":          {events.Finding{Account: ours, Region: "us-east-1", Suspects: one}, false, 0, events.ForeignRegion},
		"a request without envelope": {events.Finding{Suspects: one}, false, 1, ""},
		"spans accounts": {events.Finding{Account: ours, Region: here, Suspects: []events.Suspect{
			{InstanceID: "i-00000001"}, {InstanceID: "i-00000002", Account: "444455556666"}}}, false, 1, ""},
		"an administrator's, with a suspect of ours": {events.Finding{Account: "444455556666", Region: here, Suspects: []events.Suspect{
			{InstanceID: "i-00000001", Account: ours, Region: here}, {InstanceID: "i-00000002"}}}, false, 1, ""},
	} {
		in := intake{settings: events.Settings{Account: ours, Region: here, AllowSamples: row.samples}}
		own, err := in.admit(row.f)
		var refusal *events.Refusal
		if row.want == "" && err != nil || row.want != "" && (!errors.As(err, &refusal) || refusal.Reason != row.want) {
			t.Errorf("%s: %v, want %q", name, err, row.want)
		}
		if len(own) != row.own {
			t.Errorf("%s: %d suspects are admitted, want %d", name, len(own), row.own)
		}
	}
}
