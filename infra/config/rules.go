package config

import (
	"encoding/json"
	"fmt"
	"strings"

	"flashtap/infra"
)

// Rule is an event rule that fills the intake queue.
type Rule struct {
	Name        string          `json:"name"`
	Description string          `json:"description"`
	Group       string          `json:"group"` // of the FIFO queue: urgent or rest
	Bus         string          `json:"bus"`   // DefaultBus, or OwnBus
	Pattern     json.RawMessage `json:"pattern"`
}

// Which bus a rule listens to: AWS services publish on the account's default bus, people on the deployment's own.
const (
	DefaultBus = "default"
	OwnBus     = "deployment"
)

// urgent is the severity from which GuardDuty calls a finding critical (GuardDuty User Guide, "Severity levels").
const urgent = 9

// Rules are those of infra/rules.json with the configuration applied. Sample findings are not excluded here: intake
// refuses them, which proves that everything up to intake works, and reads the flag in all the forms that it comes in.
func (c Config) Rules() ([]Rule, error) {
	var all, rules []Rule
	if err := json.Unmarshal(infra.Rules, &all); err != nil {
		return nil, fmt.Errorf("infra/rules.json: %w", err)
	}
	for _, r := range all {
		var p map[string]any
		if err := json.Unmarshal(r.Pattern, &p); err != nil {
			return nil, fmt.Errorf("infra/rules.json: %s: %w", r.Name, err)
		}
		switch r.Name {
		case "guardduty-urgent":
			c.guardDuty(p, []any{">=", max(c.MinSeverity, urgent)})
		case "guardduty":
			if c.MinSeverity >= urgent {
				continue
			}
			c.guardDuty(p, []any{">=", c.MinSeverity, "<", urgent})
		case "securityhub-action":
			if !c.SecurityHubAction {
				continue
			}
			// The ARN of a custom action ends in its id (Security Hub User Guide, "Creating a custom action").
			p["resources"] = []any{map[string]any{"suffix": ":action/custom/" + c.ActionID()}}
		}
		var err error
		if r.Pattern, err = json.Marshal(p); err != nil {
			return nil, err
		}
		rules = append(rules, r)
	}
	return rules, nil
}

func (c Config) guardDuty(pattern map[string]any, severity []any) {
	detail := map[string]any{"severity": []any{map[string]any{"numeric": severity}}}
	var types []any
	for _, t := range c.FindingTypes {
		if beginning, isPrefix := strings.CutSuffix(t, "*"); isPrefix {
			types = append(types, map[string]any{"prefix": beginning})
		} else {
			types = append(types, t)
		}
	}
	if types != nil {
		detail["type"] = types
	}
	pattern["detail"] = detail
}

// The events that make the sweep look before its time.

// EndedPattern matches executions of the deployment's state machine that ended without tearing down by themselves.
func EndedPattern(stateMachineARN string) map[string]any {
	return map[string]any{
		"source": []any{"aws.states"}, "detail-type": []any{"Step Functions Execution Status Change"},
		"detail": map[string]any{"status": []any{"FAILED", "TIMED_OUT", "ABORTED"}, "stateMachineArn": []any{stateMachineARN}},
	}
}

// TerminatedPattern matches any instance that is gone: the event does not carry tags.
func TerminatedPattern() map[string]any {
	return map[string]any{
		"source": []any{"aws.ec2"}, "detail-type": []any{"EC2 Instance State-change Notification"},
		"detail": map[string]any{"state": []any{"terminated"}},
	}
}

// SweepMinutes is how often the sweep looks without being called.
const SweepMinutes = 5
