package stacks_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"flashtap/events"
	"flashtap/infra/config"
	"flashtap/infra/policy"
)

func TestFunctions(t *testing.T) {
	for _, s := range []synthesized{plain, full} {
		functions := s.resources(t, "AWS::Lambda::Function")
		if len(functions) != len(config.Functions) {
			t.Errorf("%s: %d functions, want %d", s.name, len(functions), len(config.Functions))
		}
		for _, f := range functions {
			p := f.Properties
			group, _ := at(p, "LoggingConfig", "LogGroup").(string)
			for what, pair := range map[string][2]any{
				"runtime":      {p["Runtime"], "provided.al2023"},
				"architecture": {p["Architectures"], []any{"arm64"}},
				"handler":      {p["Handler"], "bootstrap"},
				"log format":   {at(p, "LoggingConfig", "LogFormat"), "JSON"},
				"log group":    {group, "/aws/lambda/" + p["FunctionName"].(string)},
				"no tracing":   {p["TracingConfig"], nil},
				"no VPC":       {p["VpcConfig"], nil},
			} {
				if !reflect.DeepEqual(pair[0], pair[1]) {
					t.Errorf("%s: %s: %s is %v, want %v", s.name, f.ID, what, pair[0], pair[1])
				}
			}
			if n := len(encoded(t, at(p, "Environment", "Variables"))); n > 4096 { // Lambda Developer Guide, "Lambda quotas"
				t.Errorf("%s: the environment of %s has %d bytes", s.name, f.ID, n)
			}
		}
		for _, g := range s.resources(t, "AWS::Logs::LogGroup") {
			if g.Properties["RetentionInDays"] != float64(s.config.LogDays) {
				t.Errorf("%s: %s keeps logs for %v days", s.name, g.ID, g.Properties["RetentionInDays"])
			}
		}
	}
}

// TestFunctionsGetWhatTheyDemand: every variable that a function's main requires is among those it is given.
func TestFunctionsGetWhatTheyDemand(t *testing.T) {
	for _, s := range []synthesized{plain, full} {
		for _, f := range config.Functions {
			source, err := os.ReadFile(filepath.Join("..", "..", "functions", f.Name, "main.go"))
			if err != nil {
				t.Fatal(err)
			}
			env := s.environment(t, f.Name)
			for _, word := range strings.FieldsFunc(string(source), func(r rune) bool { return r == '"' }) {
				if strings.HasPrefix(word, "FLASHTAP_") && env[word] == "" {
					t.Errorf("%s: %s requires %s", s.name, f.Name, word)
				}
			}
			if _, there := env["AWS_REGION"]; there {
				t.Errorf("%s: %s is given AWS_REGION, which Lambda refuses", s.name, f.Name)
			}
		}
	}
}

func encoded(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestIntake: every rule that starts captures fills the FIFO queue in a group, intake takes from there and gives back what it
// could not do, and what can't be delivered is kept.
func TestIntake(t *testing.T) {
	for _, s := range []synthesized{plain, full} {
		scope := s.config.Scope(s.place(t))
		queue, rules := scope.QueueARN(policy.IntakeQueue), 0
		for _, r := range s.resources(t, "AWS::Events::Rule") {
			if at(r.Properties, "Targets", 0, "DeadLetterConfig", "Arn") != scope.QueueARN(policy.WaitingDeadLetter) {
				t.Errorf("%s: what %s can't deliver is lost", s.name, r.ID)
			}
			if at(r.Properties, "Targets", 0, "Arn") != queue {
				continue
			}
			rules++
			if group := at(r.Properties, "Targets", 0, "SqsParameters", "MessageGroupId"); group != "urgent" && group != "rest" {
				t.Errorf("%s: %s sends in group %v", s.name, r.ID, group)
			}
			if want := map[bool]string{false: "ENABLED", true: "DISABLED"}[s.config.Paused]; r.Properties["State"] != want {
				t.Errorf("%s: %s is %v, want %s", s.name, r.ID, r.Properties["State"], want)
			}
		}
		if rules != 4 {
			t.Errorf("%s: %d rules fill the queue", s.name, rules)
		}
		m := s.one(t, "AWS::Lambda::EventSourceMapping", "IntakeMapping").Properties
		if m["EventSourceArn"] != queue || m["BatchSize"] != 10.0 || m["Enabled"] != !s.config.Paused ||
			!reflect.DeepEqual(m["FunctionResponseTypes"], []any{"ReportBatchItemFailures"}) {
			t.Errorf("%s: mapping %v", s.name, m)
		}
	}
}

func TestQueues(t *testing.T) {
	for _, q := range plain.resources(t, "AWS::SQS::Queue") {
		name, _ := q.Properties["QueueName"].(string)
		if fifo := strings.HasSuffix(name, ".fifo"); fifo != (q.Properties["FifoQueue"] == true) || fifo != (q.Properties["ContentBasedDeduplication"] == true) {
			t.Errorf("%s: %v", name, q.Properties)
		}
		if q.Properties["SqsManagedSseEnabled"] != true {
			t.Errorf("%s is not encrypted", name)
		}
		if dead := strings.Contains(name, "dlq"); dead == (q.Properties["RedrivePolicy"] != nil) {
			t.Errorf("%s: redrive policy %v", name, q.Properties["RedrivePolicy"])
		}
	}
	visible := plain.one(t, "AWS::SQS::Queue", "IntakeQueue").Properties["VisibilityTimeout"]
	timeout := plain.one(t, "AWS::Lambda::Function", "Intake").Properties["Timeout"]
	if visible.(float64) < 6*timeout.(float64) {
		t.Errorf("messages are hidden for %v s, and intake may take %v s", visible, timeout)
	}
}

func TestSweepIsCalled(t *testing.T) {
	for _, s := range []synthesized{plain, full} {
		sweep := s.config.Scope(s.place(t)).FunctionARN("sweep")
		var names []string
		for _, r := range s.resources(t, "AWS::Events::Rule") {
			if at(r.Properties, "Targets", 0, "Arn") != sweep {
				continue
			}
			names = append(names, strings.TrimPrefix(r.Properties["Name"].(string), s.config.Prefix()+"-"))
			if r.Properties["State"] != "ENABLED" { // a paused deployment still cleans up
				t.Errorf("%s: %s is %v", s.name, r.ID, r.Properties["State"])
			}
			if !slices.ContainsFunc(s.resources(t, "AWS::Lambda::Permission"), func(p resource) bool {
				return at(p.Raw, "Properties", "SourceArn", "Fn::GetAtt", 0) == r.ID && p.Properties["Principal"] == "events.amazonaws.com"
			}) {
				t.Errorf("%s: %s may not invoke the sweep", s.name, r.ID)
			}
		}
		slices.Sort(names)
		want := []string{"execution-ended", "instance-terminated", "sweep"}
		if !s.config.InstanceEvents {
			want = []string{"execution-ended", "sweep"}
		}
		if !slices.Equal(names, want) {
			t.Errorf("%s: the sweep is called by %v, want %v", s.name, names, want)
		}
	}
}

func TestStateMachine(t *testing.T) {
	m := plain.one(t, "AWS::StepFunctions::StateMachine", "Capture").Properties
	if m["StateMachineType"] != "STANDARD" || at(m, "LoggingConfiguration", "Level") != "ALL" || at(m, "LoggingConfiguration", "IncludeExecutionData") != false {
		t.Errorf("state machine: %v", m)
	}
}

// TestAlerts: what a deployment tells reaches the topic, and only that.
func TestAlerts(t *testing.T) {
	for _, s := range []synthesized{plain, full} {
		scope := s.config.Scope(s.place(t))
		r := s.one(t, "AWS::Events::Rule", "AlertsRule").Properties
		if at(r, "Targets", 0, "Arn") != scope.TopicARN() || r["EventBusName"] != scope.BusName() {
			t.Errorf("%s: %v", s.name, r)
		}
		types, _ := at(r, "EventPattern", "detail-type").([]any)
		for _, kind := range []any{events.EventLeaking, events.EventRefused, events.EventSealed, events.EventFlowing, events.EventSilent} {
			if !slices.Contains(types, kind) {
				t.Errorf("%s: people are not told of %q", s.name, kind)
			}
		}
		if slices.Contains(types, any(events.RequestDetailType)) {
			t.Errorf("%s: requests are no news", s.name)
		}
		if email := at(s.one(t, "AWS::SNS::Topic", "Alerts").Properties, "Subscription", 0, "Endpoint"); s.config.AlarmEmail != "" && email != s.config.AlarmEmail {
			t.Errorf("%s: subscribed is %v", s.name, email)
		}
	}
}

// TestPrograms: what is copied into the evidence bucket is what the settings pin.
func TestPrograms(t *testing.T) {
	for _, s := range []synthesized{plain, full} {
		settings := s.config.Settings(s.place(t))
		for _, arch := range config.Architectures {
			p := s.one(t, "Custom::FlashtapProgram", "Program"+strings.ReplaceAll(arch, "_", "")).Properties
			if p["Key"] != settings.BinaryKeys[arch] || p["SHA256"] != settings.BinaryDigests[arch] || p["Bucket"] != settings.Bucket {
				t.Errorf("%s: %s: %v", s.name, arch, p)
			}
			image := "Image" + strings.ReplaceAll(arch, "_", "")
			parameter, _ := at(s.Templates["control"], "Parameters", image).(map[string]any)
			if parameter["Type"] != "AWS::SSM::Parameter::Value<AWS::EC2::Image::Id>" || parameter["Default"] != config.ImageParameters[arch] {
				t.Errorf("%s: image of %s: %v", s.name, arch, parameter)
			}
		}
		action := s.one(t, "Custom::FlashtapAction", "SecurityHubAction").Properties
		if action["Id"] != s.config.ActionID() {
			t.Errorf("%s: action %v", s.name, action)
		}
	}
}

// TestSettingsParameter holds the same settings as the functions, for the operator's tool.
func TestSettingsParameter(t *testing.T) {
	p := plain.one(t, "AWS::SSM::Parameter", "SettingsParameter").Properties
	text, _ := p["Value"].(string)
	if len(text) > 4096 { // Systems Manager User Guide, "Managing parameter tiers": standard
		t.Errorf("%d bytes", len(text))
	}
	var got map[string]string
	if err := json.NewDecoder(bytes.NewReader([]byte(text))).Decode(&got); err != nil || !reflect.DeepEqual(got, plain.environment(t, "intake")) {
		t.Errorf("%v\nthe parameter says %v\nthe functions get %v", err, got, plain.environment(t, "intake"))
	}
}

// TestNothingBillsWhileIdle: beside keys, storage and alarms there is nothing that costs by its mere presence. Prices are by
// use for all of these.
func TestNothingBillsWhileIdle(t *testing.T) {
	byUse := []string{
		"AWS::CloudTrail::Trail", "AWS::CloudWatch::Alarm", "AWS::CloudWatch::Dashboard", "AWS::EC2::LaunchTemplate", "AWS::Events::EventBus",
		"AWS::Events::Rule", "AWS::IAM::InstanceProfile", "AWS::IAM::Role", "AWS::KMS::Alias", "AWS::KMS::Key", "AWS::Lambda::EventInvokeConfig",
		"AWS::Lambda::EventSourceMapping", "AWS::Lambda::Function", "AWS::Lambda::Permission", "AWS::Logs::LogGroup", "AWS::Logs::MetricFilter",
		"AWS::S3::Bucket", "AWS::S3::BucketPolicy", "AWS::Scheduler::ScheduleGroup", "AWS::SNS::Topic", "AWS::SNS::TopicPolicy",
		"AWS::SQS::Queue", "AWS::SQS::QueuePolicy", "AWS::SSM::Document", "AWS::SSM::Parameter", "AWS::StepFunctions::StateMachine",
		"Custom::FlashtapAction", "Custom::FlashtapProgram", "AWS::CDK::Metadata",
	}
	for _, s := range []synthesized{plain, full} {
		for _, r := range s.resources(t, "") {
			if !slices.Contains(byUse, r.Type) {
				t.Errorf("%s: does %s (%s) cost while nothing happens?", s.name, r.ID, r.Type)
			}
		}
	}
}
