package infra_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"flashtap/events"
	"flashtap/infra/config"
	"flashtap/testutil/region/pattern"
)

// candidate is an event, on the bus on which it would arrive.
type candidate struct {
	name, bus, event string
}

// eventAbout wraps a detail as EventBridge would.
func eventAbout(source, kind string, resources []string, detail string) string {
	list, err := json.Marshal(resources)
	if err != nil {
		panic(err) // strings always marshal
	}
	return fmt.Sprintf(`{"version":"0","id":"6b1f0d8e-0000-4000-8000-000000000000","source":%q,"detail-type":%q,"account":"111122223333",
		"region":"eu-central-1","time":"2026-03-04T05:06:07Z","resources":%s,"detail":%s}`, source, kind, list, detail)
}

// findings are the public and derived events of events/testdata/findings (SOURCES.md there names their origins). Those that are
// only a finding are wrapped, since a rule sees nothing else.
func findings(t *testing.T) []candidate {
	t.Helper()
	files, err := filepath.Glob("../events/testdata/findings/*.json")
	if err != nil || len(files) < 17 {
		t.Fatalf("%d findings, %v", len(files), err)
	}
	var list []candidate
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var envelope struct {
			DetailType    string          `json:"detail-type"`
			SchemaVersion string          `json:"SchemaVersion"`
			ProductArn    json.RawMessage `json:"ProductArn"`
		}
		if err := json.Unmarshal(text, &envelope); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		c := candidate{strings.TrimSuffix(filepath.Base(file), ".json"), config.DefaultBus, string(text)}
		switch {
		case envelope.DetailType != "":
		case envelope.ProductArn != nil:
			c.name += " (wrapped)"
			c.event = eventAbout("aws.securityhub", "Security Hub Findings - Imported", nil, `{"findings":[`+string(text)+`]}`)
		default:
			c.name += " (wrapped)"
			c.event = eventAbout("aws.guardduty", "GuardDuty Finding", nil, string(text))
		}
		list = append(list, c)
	}
	return list
}

// authored are events written for this test, after the documents of the services that send them.
func authored(t *testing.T, cfg config.Config) []candidate {
	t.Helper()
	custom, err := os.ReadFile("../events/testdata/findings/12-eb-securityhub-custom-action-ec2.json")
	if err != nil {
		t.Fatal(err)
	}
	var action map[string]any
	if err := json.Unmarshal(custom, &action); err != nil {
		t.Fatal(err)
	}
	ours := func(id string) string {
		action["resources"] = []string{"arn:aws:securityhub:eu-central-1:111122223333:action/custom/" + id}
		text, err := json.Marshal(action)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	guardDuty := func(severity, kind string) string {
		return eventAbout("aws.guardduty", "GuardDuty Finding", nil, `{"id":"f-1","accountId":"111122223333","region":"eu-central-1","type":"`+kind+`","severity":`+severity+
			`,"resource":{"resourceType":"Instance","instanceDetails":{"instanceId":"i-0a1b2c3d4e5f60718"}},"service":{"count":1}}`)
	}
	const request = `{"instanceId":"i-0a1b2c3d4e5f60718","reason":"beaconing"}`
	// The shape of Security Hub's own events (Security Hub User Guide, "EventBridge event formats").
	const ocsf = `{"findings":[{"class_uid":2004,"severity_id":5,"severity":"Critical","status":"New","finding_info":{"uid":"u","title":"t","types":["x"]},
		"metadata":{"product":{"name":"GuardDuty"}},"cloud":{"account":{"uid":"111122223333"},"region":"eu-central-1"},
		"resources":[{"type":"AWS::EC2::Instance","uid":"i-0a1b2c3d4e5f60718"}]}]}`
	const kind = "Backdoor:EC2/C&CActivity.B"
	state := func(status, machine string) string {
		return eventAbout("aws.states", "Step Functions Execution Status Change", nil,
			`{"status":"`+status+`","name":"x","stateMachineArn":"arn:aws:states:eu-central-1:111122223333:stateMachine:`+machine+`"}`)
	}
	return []candidate{
		{"GuardDuty, severity 3.9", config.DefaultBus, guardDuty("3.9", kind)},
		{"GuardDuty, severity 4", config.DefaultBus, guardDuty("4", kind)},
		{"GuardDuty, severity 6.9", config.DefaultBus, guardDuty("6.9", kind)},
		{"GuardDuty, severity 7.0", config.DefaultBus, guardDuty("7.0", kind)},
		{"GuardDuty, severity 8.9", config.DefaultBus, guardDuty("8.9", kind)},
		{"GuardDuty, severity 9", config.DefaultBus, guardDuty("9", kind)},
		{"GuardDuty, severity 10.0", config.DefaultBus, guardDuty("10.0", kind)},
		{"GuardDuty, severity 9, another type", config.DefaultBus, guardDuty("9", "Impact:EC2/PortSweep")},
		{"GuardDuty, severity as text", config.DefaultBus, guardDuty(`"8"`, kind)},
		{"GuardDuty, health of a runtime agent", config.DefaultBus, eventAbout("aws.guardduty", "GuardDuty Runtime Protection Unhealthy", nil, `{"severity":9}`)},
		{"GuardDuty, a call of its API", config.DefaultBus, eventAbout("aws.guardduty", "AWS API Call via CloudTrail", nil, `{"severity":9}`)},
		{"a finding from somebody else", config.DefaultBus, eventAbout("my.guardduty", "GuardDuty Finding", nil, `{"severity":9}`)},
		{"Security Hub CSPM, our custom action", config.DefaultBus, ours(cfg.ActionID())},
		{"Security Hub CSPM, another custom action", config.DefaultBus, ours("Ticket")},
		{"Security Hub CSPM, another deployment's action", config.DefaultBus, ours(cfg.ActionID() + "2")},
		{"Security Hub, a finding", config.DefaultBus, eventAbout("aws.securityhub", "Findings Imported V2", []string{"0a1b2c"}, ocsf)},
		{"Security Hub CSPM, results of an insight", config.DefaultBus, eventAbout("aws.securityhub", "Security Hub Insight Results", nil, `{}`)},
		{"a request on our bus", config.OwnBus, eventAbout("flashtap", "Capture Request", nil, request)},
		{"a request on the default bus", config.DefaultBus, eventAbout("flashtap", "Capture Request", nil, request)},
		{"a request that names nobody, on our bus", config.OwnBus, eventAbout("flashtap", "Capture Request", nil, `{"reason":"why"}`)},
		{"our own news, on our bus", config.OwnBus, eventAbout("flashtap", "Capture Sealed", nil, `{}`)},
		{"a finding on our bus", config.OwnBus, guardDuty("9", kind)},
		{"our execution failed", config.DefaultBus, state("FAILED", "flashtap-main-capture")},
		{"our execution was stopped", config.DefaultBus, state("ABORTED", "flashtap-main-capture")},
		{"our execution succeeded", config.DefaultBus, state("SUCCEEDED", "flashtap-main-capture")},
		{"our execution began", config.DefaultBus, state("RUNNING", "flashtap-main-capture")},
		{"another execution failed", config.DefaultBus, state("FAILED", "nightly-report")},
		{"an instance runs", config.DefaultBus, eventAbout("aws.ec2", "EC2 Instance State-change Notification", nil, `{"instance-id":"i-0a1b2c3d","state":"running"}`)},
		{"an instance is gone", config.DefaultBus, eventAbout("aws.ec2", "EC2 Instance State-change Notification", nil, `{"instance-id":"i-0a1b2c3d","state":"terminated"}`)},
	}
}

// compiledRule is a rule that an event can be held against.
type compiledRule struct {
	name, bus string
	pattern   *pattern.Pattern
}

func compileRules(t *testing.T, cfg config.Config) []compiledRule {
	t.Helper()
	rules, err := cfg.Rules()
	if err != nil {
		t.Fatal(err)
	}
	var list []compiledRule
	add := func(name, bus string, text []byte) {
		p, err := pattern.Compile(text)
		if err != nil {
			t.Fatalf("rule %s: %v", name, err)
		}
		list = append(list, compiledRule{name, bus, p})
	}
	for _, r := range rules {
		add(r.Name, r.Bus, r.Pattern)
	}
	s := cfg.Names()
	s.Partition, s.Region, s.Account = "aws", "eu-central-1", "111122223333"
	for name, p := range map[string]map[string]any{"execution-ended": config.EndedPattern(s.StateMachineARN()), "instance-terminated": config.TerminatedPattern()} {
		text, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		add(name, config.DefaultBus, text)
	}
	slices.SortFunc(list, func(a, b compiledRule) int { return strings.Compare(a.name, b.name) })
	return list
}

func matches(t *testing.T, rules []compiledRule, c candidate) string {
	t.Helper()
	var names []string
	for _, r := range rules {
		matched, err := r.pattern.Match([]byte(c.event))
		if err != nil {
			t.Fatalf("%s against %s: %v", c.name, r.name, err)
		}
		if matched && r.bus == c.bus {
			names = append(names, r.name)
		}
	}
	if names == nil {
		return "-"
	}
	return strings.Join(names, ", ")
}

// fate is what intake makes of an event, as far as the event alone decides.
func fate(event string) string {
	f, err := events.ParseFinding([]byte(event))
	var refusal *events.Refusal
	switch {
	case errors.As(err, &refusal):
		return "refused: " + string(refusal.Reason)
	case err != nil:
		return err.Error()
	case f.Archived:
		return "refused: " + string(events.Irrelevant)
	case f.Sample:
		return "refused: " + string(events.SampleFinding) + ", unless sampleFindings"
	}
	return "taken"
}

// TestRules holds every event against every rule, in two configurations. Sample findings pass the rules: intake refuses
// them, unless they are asked for, and so proves that everything up to it works.
func TestRules(t *testing.T) {
	plain, narrow := config.Default(), config.Default()
	narrow.MinSeverity, narrow.FindingTypes, narrow.SecurityHubAction = 7, []string{"Backdoor:EC2/*", "UnauthorizedAccess:EC2/TorClient"}, false
	if err := errors.Join(plain.Validate(), narrow.Validate()); err != nil {
		t.Fatal(err)
	}
	everything, some := compileRules(t, plain), compileRules(t, narrow)
	var table strings.Builder
	fmt.Fprintf(&table, "# Which rules match which events, and what intake does then. `make golden` rewrites this file.\n#\n"+
		"# A: every default.\n# B: minSeverity 7, findingTypes Backdoor:EC2/* and UnauthorizedAccess:EC2/TorClient, no custom action.\n\n")
	caught := map[string]bool{}
	for _, c := range slices.Concat(findings(t), authored(t, plain)) {
		a, b := matches(t, everything, c), matches(t, some, c)
		then := "-"
		if a != "-" {
			caught[a] = true
			if !strings.HasPrefix(a, "execution") && !strings.HasPrefix(a, "instance") {
				then = fate(c.event)
			} else {
				then = "swept"
			}
		}
		fmt.Fprintf(&table, "%s\n    A: %s\n    B: %s\n    then: %s\n", c.name, a, b, then)
	}
	for _, r := range everything {
		if !caught[r.name] {
			t.Errorf("no event matches rule %s alone", r.name)
		}
	}
	const file = "testdata/rules.golden"
	if *update {
		if err := os.WriteFile(file, []byte(table.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if table.String() != string(want) {
		t.Errorf("differs from %s; is\n%s", file, table.String())
	}
}

// TestRulesDoNotOverlap: an event that two rules match would start two captures, or be in two groups of the queue.
func TestRulesDoNotOverlap(t *testing.T) {
	cfg := config.Default()
	rules := compileRules(t, cfg)
	for _, c := range slices.Concat(findings(t), authored(t, cfg)) {
		if m := matches(t, rules, c); strings.Contains(m, ",") {
			t.Errorf("%s: %s", c.name, m)
		}
	}
}
