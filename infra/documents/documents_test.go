package documents

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"flashtap/events"
)

func names() Names {
	return Names{
		AutomationRole: "arn:aws:iam::111122223333:role/automation", Deployment: "test", StateMachine: "arn:aws:states:eu-central-1:111122223333:stateMachine:flashtap-test-capture",
		InstanceProfile: "arn:aws:iam::111122223333:instance-profile/flashtap-test-collector-eu-central-1", Bucket: "evidence", Sweep: "flashtap-test-sweep",
	}
}

// automation is what we use of the schema (Systems Manager User Guide, "Data elements and parameters", schema 0.3).
type automation struct {
	SchemaVersion, Description, AssumeRole string
	Parameters                             map[string]struct {
		Type, Description, AllowedPattern string
		Default                           *string
	}
	MainSteps []struct {
		Name, Description, Action string
		TimeoutSeconds            int
		IsEnd                     bool
		Inputs                    struct {
			Runtime, Handler, Script string
			InputPayload             map[string]string
		}
		Outputs []struct{ Name, Selector, Type string }
	}
	Outputs []string
}

func read(t *testing.T, d Document) automation {
	t.Helper()
	text, err := json.Marshal(d.Content)
	if err != nil {
		t.Fatal(err)
	}
	if len(text) > 64<<10 { // AWS General Reference, "Systems Manager endpoints and quotas": size of a document
		t.Errorf("%s has %d bytes", d.Name, len(text))
	}
	var a automation
	if err := json.Unmarshal(text, &a); err != nil {
		t.Fatal(err)
	}
	return a
}

var reference = regexp.MustCompile(`\{\{ ?([^{} ]+) ?\}\}`)

func TestDocuments(t *testing.T) {
	list, err := All(names())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range list {
		a := read(t, d)
		if a.SchemaVersion != "0.3" || a.AssumeRole != names().AutomationRole || !strings.HasPrefix(a.Description, "Flashtap (test): ") || len(a.MainSteps) != 1 {
			t.Fatalf("%s: %+v", d.Name, a)
		}
		step := a.MainSteps[0]
		// A script ends by itself after 600 s (Systems Manager User Guide, "aws:executeScript").
		if step.Action != "aws:executeScript" || !step.IsEnd || step.TimeoutSeconds < 60 || step.TimeoutSeconds > 600 || step.Inputs.Handler != "handler" ||
			!strings.Contains(step.Inputs.Script, "def handler(given, context):") {
			t.Errorf("%s: %+v", d.Name, step)
		}
		used := map[string]bool{}
		for key, value := range step.Inputs.InputPayload {
			for _, match := range reference.FindAllStringSubmatch(value, -1) {
				if _, there := a.Parameters[match[1]]; !there && match[1] != "automation:EXECUTION_ID" {
					t.Errorf("%s: %s reads {{ %s }}, which is nothing", d.Name, key, match[1])
				}
				used[match[1]] = true
			}
			if !strings.Contains(step.Inputs.Script, fmt.Sprintf("given[%q]", key)) {
				t.Errorf("%s: the script does not read %s", d.Name, key)
			}
		}
		for _, match := range regexp.MustCompile(`given\["(\w+)"\]`).FindAllStringSubmatch(step.Inputs.Script, -1) {
			if _, there := step.Inputs.InputPayload[match[1]]; !there {
				t.Errorf("%s: the script reads %s, which it is not given", d.Name, match[1])
			}
		}
		for name, p := range a.Parameters {
			pattern, err := regexp.Compile(p.AllowedPattern)
			if err != nil || !used[name] || p.Description == "" || p.Default != nil && !pattern.MatchString(*p.Default) {
				t.Errorf("%s: parameter %s: %+v, %v, used %t", d.Name, name, p, err, used[name])
			}
		}
		for _, o := range step.Outputs {
			key := strings.TrimPrefix(o.Selector, "$.Payload.")
			if !strings.Contains(step.Inputs.Script, fmt.Sprintf("%q: ", key)) || !slices.Contains(a.Outputs, step.Name+"."+o.Name) {
				t.Errorf("%s: output %+v", d.Name, o)
			}
		}
		if len(a.Outputs) != len(step.Outputs) {
			t.Errorf("%s: outputs %v", d.Name, a.Outputs)
		}
		if strings.Contains(fmt.Sprint(d.Content), "${") {
			t.Errorf("%s: a placeholder is left", d.Name)
		}
	}
}

func TestParameters(t *testing.T) {
	list, err := All(names())
	if err != nil {
		t.Fatal(err)
	}
	capture, stop := read(t, list[0]), read(t, list[1])
	if capture.Parameters["InstanceId"].Type != "AWS::EC2::Instance::Id" {
		t.Error("the console shows no list of instances")
	}
	for _, row := range []struct {
		pattern string
		value   string
		fits    bool
	}{
		{stop.Parameters["Capture"].AllowedPattern, "20261122T030405Z-eni-0a1b2c3d4e5f60718", true},
		{stop.Parameters["Capture"].AllowedPattern, "20261122T030405Z-eni-0a1b2c3d", true},
		{stop.Parameters["Capture"].AllowedPattern, "eni-0a1b2c3d", false},
		{stop.Parameters["Capture"].AllowedPattern, "20261122T030405Z-eni-0a1b2c3d/../x", false},
		{capture.Parameters["DurationSeconds"].AllowedPattern, "0", true},
		{capture.Parameters["DurationSeconds"].AllowedPattern, "86400", true},
		{capture.Parameters["DurationSeconds"].AllowedPattern, "-1", false},
		{capture.Parameters["DurationSeconds"].AllowedPattern, "900s", false},
		{capture.Parameters["Reason"].AllowedPattern, "", false},
	} {
		if got := regexp.MustCompile(row.pattern).MatchString(row.value); got != row.fits {
			t.Errorf("%q fits %s: %t", row.value, row.pattern, got)
		}
		if row.fits && strings.Contains(row.value, "-eni-") && events.CaptureID(row.value).Validate() != nil {
			t.Errorf("%q is no capture id", row.value)
		}
	}
}

func TestMissingName(t *testing.T) {
	n := names()
	n.Bucket = ""
	if _, err := All(n); err == nil || !strings.Contains(err.Error(), "${Bucket}") {
		t.Errorf("%v", err)
	}
}
