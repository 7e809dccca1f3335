package config

import (
	"encoding/json"
	"testing"

	"flashtap/testutil/region/pattern"
)

// finding is an event of GuardDuty.
func finding(kind string, severity float64) []byte {
	text, err := json.Marshal(map[string]any{
		"source": "aws.guardduty", "detail-type": "GuardDuty Finding", "detail": map[string]any{"type": kind, "severity": severity},
	})
	if err != nil {
		panic(err) // strings and numbers
	}
	return text
}

// TestRules: which rules take an event, by configuration. Which of the recorded findings the default takes is tested beside
// the rules themselves.
func TestRules(t *testing.T) {
	const spam, drop = "Backdoor:EC2/Spambot", "Trojan:EC2/DropPoint"
	action := func(id string) []byte {
		return []byte(`{"source": "aws.securityhub", "detail-type": "Security Hub Findings - Custom Action",
			"resources": ["arn:aws:securityhub:eu-central-1:111122223333:action/custom/` + id + `"]}`)
	}
	for _, row := range []struct {
		reason string
		change func(*Config)
		event  []byte
		want   string
	}{
		{"low is left alone", func(*Config) {}, finding(spam, 3.9), ""},
		{"medium is taken", func(*Config) {}, finding(spam, 4), "guardduty"},
		{"high is taken", func(*Config) {}, finding(spam, 8.9), "guardduty"},
		{"critical is urgent, and only that", func(*Config) {}, finding(spam, 9), "guardduty-urgent"},
		{"below what was asked for", func(c *Config) { c.MinSeverity = 7 }, finding(spam, 6.9), ""},
		{"as severe as was asked for", func(c *Config) { c.MinSeverity = 7 }, finding(spam, 7), "guardduty"},
		{"only critical was asked for", func(c *Config) { c.MinSeverity = 9 }, finding(spam, 8.9), ""},
		{"worse than critical was asked for", func(c *Config) { c.MinSeverity = 9.5 }, finding(spam, 9.4), ""},
		{"everything was asked for", func(c *Config) { c.MinSeverity = 0 }, finding(spam, 0.1), "guardduty"},
		{"a type by its beginning", func(c *Config) { c.FindingTypes = []string{"Backdoor:EC2/*"} }, finding(spam, 5), "guardduty"},
		{"another type", func(c *Config) { c.FindingTypes = []string{"Backdoor:EC2/*"} }, finding(drop, 5), ""},
		{"the whole type", func(c *Config) { c.FindingTypes = []string{drop} }, finding(drop, 9), "guardduty-urgent"},
		{"more than the whole type", func(c *Config) { c.FindingTypes = []string{drop} }, finding(drop+"!DNS", 9), ""},
		{"our action", func(*Config) {}, action("Flashtapmain"), "securityhub-action"},
		{"another deployment's action", func(*Config) {}, action("Flashtapprod"), ""},
		{"another's action", func(*Config) {}, action("Isolate"), ""},
		{"no action was asked for", func(c *Config) { c.SecurityHubAction = false }, action("Flashtapmain"), ""},
	} {
		c := Default()
		row.change(&c)
		rules, err := c.Rules()
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, r := range rules {
			p, err := pattern.Compile(r.Pattern)
			if err != nil {
				t.Fatalf("%s: %v", r.Name, err)
			}
			matched, err := p.Match(row.event)
			if err != nil {
				t.Fatal(err)
			}
			if matched {
				got += r.Name
			}
		}
		if got != row.want {
			t.Errorf("%s: taken by %q, want %q", row.reason, got, row.want)
		}
	}
}

// TestRulesAreNamedAndGrouped: the queue needs a group, the stack a bus.
func TestRulesAreNamedAndGrouped(t *testing.T) {
	rules, err := Default().Rules()
	if err != nil || len(rules) != 4 {
		t.Fatalf("%d rules, %v", len(rules), err)
	}
	for _, r := range rules {
		if r.Name == "" || r.Description == "" || r.Group != "urgent" && r.Group != "rest" || r.Bus != DefaultBus && r.Bus != OwnBus {
			t.Errorf("%+v", r)
		}
	}
}
