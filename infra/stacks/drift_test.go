package stacks_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"flashtap/infra"
	"flashtap/infra/config"
	"flashtap/infra/policy"
)

// The local region is set up from infra/config (testutil/deployment), whose tests say where it differs on purpose. These
// tests say that the templates are what infra/config says, so that the demo and the end-to-end tests run what is deployed.

func TestEnvironmentIsTheOneSource(t *testing.T) {
	for _, s := range []synthesized{plain, full} {
		want := config.Environment(s.config.Settings(s.place(t)))
		for _, f := range config.Functions {
			if got := s.environment(t, f.Name); !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %s\nis given %v\nwant     %v", s.name, f.Name, got, want)
			}
		}
	}
}

func TestDefinitionIsTheOneSource(t *testing.T) {
	m := plain.one(t, "AWS::StepFunctions::StateMachine", "Capture").Properties
	substitutions := map[string]string{}
	for name, value := range m["DefinitionSubstitutions"].(map[string]any) {
		substitutions[name], _ = value.(string)
	}
	if m["DefinitionString"] != infra.Capture || !reflect.DeepEqual(substitutions, plain.config.Substitutions()) {
		t.Errorf("the definition differs from infra/capture.asl.json, or %v", substitutions)
	}
	for _, f := range config.Functions {
		if placeholder := "${" + f.Title() + "Function}"; f.Step != strings.Contains(infra.Capture, placeholder) {
			t.Errorf("function %s: Step is %v, but for %s the state machine says otherwise", f.Name, f.Step, placeholder)
		}
	}
}

func TestPatternsAreTheOneSource(t *testing.T) {
	for _, s := range []synthesized{plain, full} {
		rules, err := s.config.Rules()
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]any{
			"execution-ended":     config.EndedPattern(s.config.Scope(s.place(t)).StateMachineARN()),
			"instance-terminated": config.TerminatedPattern(),
		}
		for _, r := range rules {
			var pattern map[string]any
			if err := json.Unmarshal(r.Pattern, &pattern); err != nil {
				t.Fatal(err)
			}
			want[r.Name] = pattern
		}
		for _, r := range s.resources(t, "AWS::Events::Rule") {
			name := strings.TrimPrefix(r.Properties["Name"].(string), s.config.Prefix()+"-")
			if pattern := want[name]; pattern != nil && !reflect.DeepEqual(r.Properties["EventPattern"], pattern) {
				t.Errorf("%s: %s\nmatches %v\nwant    %v", s.name, name, r.Properties["EventPattern"], pattern)
			}
			delete(want, name)
		}
		if s.config.InstanceEvents && len(want) > 0 {
			t.Errorf("%s: no rules for %v", s.name, want)
		}
	}
}

func TestLaunchTemplateIsTheOneSource(t *testing.T) {
	for _, s := range []synthesized{plain, full} {
		scope := s.config.Scope(s.place(t))
		got := encoded(t, at(s.one(t, "AWS::EC2::LaunchTemplate", "LaunchTemplate").Properties, "LaunchTemplateData"))
		if want := encoded(t, s.config.LaunchTemplate(scope.InstanceProfileARN)); string(got) != string(want) {
			t.Errorf("%s: %s\nwant %s", s.name, got, want)
		}
	}
}

func TestQueuesAreTheOneSource(t *testing.T) {
	for _, q := range config.Queues {
		name := plain.config.Names().QueueName(q.ID)
		var found bool
		for _, r := range plain.resources(t, "AWS::SQS::Queue") {
			if r.Properties["QueueName"] != name {
				continue
			}
			found = true
			receives := at(r.Properties, "RedrivePolicy", "maxReceiveCount")
			if r.Properties["VisibilityTimeout"] != q.Visibility.Seconds() || q.DeadLetter != "" && receives != float64(q.Receives) {
				t.Errorf("%s: %v", name, r.Properties)
			}
		}
		if !found {
			t.Errorf("no queue %s", name)
		}
	}
	if len(config.Queues) != len(policy.Queues()) {
		t.Error("infra/policy knows other queues")
	}
}
