package stacks_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"flashtap/infra/observe"
)

// TestMetricFilters: all are deployed, on log groups that the control stack makes before.
func TestMetricFilters(t *testing.T) {
	for _, s := range []synthesized{plain, full} {
		groups := map[string]bool{}
		for _, g := range s.resources(t, "AWS::Logs::LogGroup") {
			groups[g.Properties["LogGroupName"].(string)] = true
		}
		filters := s.resources(t, "AWS::Logs::MetricFilter")
		if len(filters) != len(observe.Filters()) {
			t.Errorf("%s: %d metric filters, want %d", s.name, len(filters), len(observe.Filters()))
		}
		for _, f := range filters {
			group, _ := f.Properties["LogGroupName"].(string)
			made := at(f.Properties, "MetricTransformations", 0)
			if !groups[group] {
				t.Errorf("%s: %s reads %q, which nothing makes", s.name, f.ID, group)
			}
			if at(made, "MetricNamespace") != observe.Namespace(s.scope()) || at(made, "DefaultValue") != nil {
				t.Errorf("%s: %s makes %v", s.name, f.ID, made)
			}
			if !slices.ContainsFunc(observe.Filters(), func(want observe.Filter) bool {
				return strings.HasSuffix(group, "-"+want.Function) && at(made, "MetricName") == want.Metric && f.Properties["FilterPattern"] == want.Pattern && at(made, "MetricValue") == want.Value
			}) {
				t.Errorf("%s: %s is none of package observe: %v", s.name, f.ID, f.Properties)
			}
		}
		if !slices.Contains(s.dependencies(t, "observability"), "control") {
			t.Errorf("%s: the observability stack may be made before the log groups", s.name)
		}
	}
}

// dependencies are the stacks that a stack is made after.
func (s synthesized) dependencies(t *testing.T, stack string) []string {
	t.Helper()
	return s.artifact(t, stack).Dependencies
}

// artifact is a stack as the manifest of the synthesis has it.
type artifact struct {
	Type         string
	Dependencies []string
	Properties   struct {
		TemplateFile, StackName, StackTemplateAssetObjectURL string
	}
}

func (s synthesized) artifact(t *testing.T, id string) artifact {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var manifest struct{ Artifacts map[string]artifact }
	if err := json.Unmarshal(text, &manifest); err != nil {
		t.Fatal(err)
	}
	return manifest.Artifacts[id]
}

// TestAlarms: all are deployed, and call the topic.
func TestAlarms(t *testing.T) {
	for _, s := range []synthesized{plain, full} {
		topic := s.scope().TopicARN()
		if s.config.AlertTopic != "" {
			topic = s.config.AlertTopic
		}
		deployed := map[any]resource{}
		for _, a := range s.resources(t, "AWS::CloudWatch::Alarm") {
			deployed[a.Properties["AlarmName"]] = a
		}
		for _, want := range observe.Alarms(s.scope()) {
			a, there := deployed[observe.AlarmName(s.scope(), want.Name)]
			delete(deployed, observe.AlarmName(s.scope(), want.Name))
			comparison := "GreaterThanOrEqualToThreshold"
			if want.Below {
				comparison = "LessThanThreshold"
			}
			p := a.Properties
			if !there || at(p, "AlarmActions", 0) != topic || (at(p, "OKActions", 0) == topic) != want.Settles || p["AlarmDescription"] != want.Description {
				t.Errorf("%s: alarm %s: %v", s.name, want.Name, p)
			}
			if p["Namespace"] != want.Metric.Namespace || p["MetricName"] != want.Metric.Name || p["Statistic"] != want.Statistic || p["Threshold"] != want.Threshold ||
				p["Period"] != float64(want.Period) || p["DatapointsToAlarm"] != float64(want.At) || p["EvaluationPeriods"] != float64(want.Of) ||
				p["TreatMissingData"] != want.Missing || p["ComparisonOperator"] != comparison {
				t.Errorf("%s: alarm %s: %v", s.name, want.Name, p)
			}
			for i, d := range want.Metric.Dimensions {
				if at(p, "Dimensions", i, "Name") != d.Name || at(p, "Dimensions", i, "Value") != d.Value {
					t.Errorf("%s: alarm %s: %v", s.name, want.Name, p["Dimensions"])
				}
			}
		}
		for name := range deployed {
			t.Errorf("%s: %v is none of package observe", s.name, name)
		}
	}
}

// TestAlarmsWatchWhatIsThere: a queue, function or state machine that nobody makes would keep its alarm silent.
func TestAlarmsWatchWhatIsThere(t *testing.T) {
	for _, s := range []synthesized{plain, full} {
		names := map[string][]string{"QueueName": {}, "FunctionName": {}, "StateMachineArn": {s.scope().StateMachineARN()}, "ScheduleGroup": {}}
		for kind, property := range map[string][2]string{"AWS::SQS::Queue": {"QueueName", "QueueName"}, "AWS::Lambda::Function": {"FunctionName", "FunctionName"},
			"AWS::Scheduler::ScheduleGroup": {"Name", "ScheduleGroup"}} {
			for _, r := range s.resources(t, kind) {
				names[property[1]] = append(names[property[1]], r.Properties[property[0]].(string))
			}
		}
		if machine := s.one(t, "AWS::StepFunctions::StateMachine", "Capture").Properties["StateMachineName"]; machine != s.scope().StateMachineName() {
			t.Errorf("%s: the state machine is %v", s.name, machine)
		}
		for _, a := range observe.Alarms(s.scope()) {
			for _, d := range a.Metric.Dimensions {
				if !slices.Contains(names[d.Name], d.Value) {
					t.Errorf("%s: alarm %s watches %s %s, which is not there", s.name, a.Name, d.Name, d.Value)
				}
			}
		}
	}
}

func TestDashboard(t *testing.T) {
	for _, s := range []synthesized{plain, full} {
		d := s.one(t, "AWS::CloudWatch::Dashboard", "Dashboard").Properties
		want, err := observe.Dashboard(s.scope(), s.config.CaptureHourUSD)
		if err != nil {
			t.Fatal(err)
		}
		if d["DashboardBody"] != want {
			t.Errorf("%s: %v\nwant %s", s.name, d["DashboardBody"], want)
		}
	}
}
