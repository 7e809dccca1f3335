package stacks_test

import (
	"encoding/csv"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// accepted is a rule of cdk-nag that does not hold here, where it does not, and why that is right.
type accepted struct {
	rule     string
	resource *regexp.Regexp // construct path
	reason   string
}

var nag = []accepted{
	{"AwsSolutions-S1", regexp.MustCompile(`/AccessLogs$`), "it is the bucket of access logs; to log into itself would never end"},
	{"AwsSolutions-S1", regexp.MustCompile(`/EvidenceBucket$`), "accesses are logged by CloudTrail, as configured"},
	{"AwsSolutions-SF2", regexp.MustCompile(`/Capture$`), "X-Ray would cost by the step and tell nothing beyond the execution's history"},
	{"AwsSolutions-IAM5", regexp.MustCompile(`Role$`), "each * is in infra/policy with its reason, and testutil/authorization checks every statement"},
}

// TestNag holds the templates against cdk-nag's AwsSolutions: each finding is accepted with a reason, and each reason is needed.
func TestNag(t *testing.T) {
	used := map[int]int{}
	checked := 0
	for _, s := range []synthesized{plain, full} {
		reports, err := filepath.Glob(filepath.Join(s.dir, "AwsSolutions-*-NagReport.csv"))
		if err != nil || len(reports) < 3 {
			t.Fatalf("%s: %d reports of cdk-nag, %v", s.name, len(reports), err)
		}
		for _, path := range reports {
			file, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			rows, err := csv.NewReader(file).ReadAll()
			file.Close()
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			for _, row := range rows[1:] {
				checked++
				rule, resource, compliance, info := row[0], row[1], row[2], row[len(row)-1]
				if compliance == "Compliant" || compliance == "N/A" {
					continue
				}
				i := slices.IndexFunc(nag, func(a accepted) bool { return rule == a.rule && a.resource.MatchString(resource) })
				if i < 0 {
					t.Errorf("%s: %s %s: %s: %s", s.name, compliance, rule, resource, info)
				} else {
					used[i]++
				}
			}
		}
	}
	for i, a := range nag {
		if used[i] == 0 {
			t.Errorf("%s at %s is accepted, but was not found", a.rule, a.resource)
		}
	}
	t.Logf("cdk-nag: %d rows, accepted by reason: %v", checked, used)
}

// TestCfnLint asks the linter of CloudFormation's own specifications.
func TestCfnLint(t *testing.T) {
	program, err := exec.LookPath("cfn-lint")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("CI needs cfn-lint: pip install cfn-lint==1.51.0")
		}
		t.Skip("cfn-lint is not installed: pip install cfn-lint==1.51.0")
	}
	args := []string{"--format", "json"}
	for _, s := range []synthesized{plain, full, central} {
		for _, stack := range slices.Sorted(maps.Keys(s.Templates)) {
			args = append(args, "--template", filepath.Join(s.dir, stack+".template.json"))
		}
	}
	out, err := exec.Command(program, args...).Output()
	var findings []struct {
		Level, Message, Filename string
		Rule                     struct{ Id string }
		Location                 struct{ Path []any }
	}
	if jsonErr := json.Unmarshal(out, &findings); jsonErr != nil {
		t.Fatalf("%v, %v: %s", err, jsonErr, out)
	}
	for _, f := range findings {
		if why := lint[f.Rule.Id]; why == "" {
			t.Errorf("%s: %s %s %s at %v", filepath.Base(f.Filename), f.Level, f.Rule.Id, f.Message, f.Location.Path)
		}
	}
}

// lint are rules of cfn-lint that do not hold here, and why that is right.
var lint = map[string]string{}

// TestValidatorWouldRun: the templates are those that `make synth` validates, with nothing acknowledged away.
func TestNothingIsAcknowledgedAway(t *testing.T) {
	for _, s := range []synthesized{plain, full} {
		for stack, template := range s.Templates {
			text := string(encoded(t, template))
			for _, word := range []string{"cdk_nag", "rules_to_suppress", "cfn-lint", "cfn_nag"} {
				if strings.Contains(text, `"`+word+`"`) {
					t.Errorf("%s: %s suppresses by %s in the template, out of sight", s.name, stack, word)
				}
			}
		}
	}
}
