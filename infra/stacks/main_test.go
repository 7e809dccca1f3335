package stacks_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"
	"github.com/cdklabs/cdk-nag-go/cdknag/v2"

	"flashtap/events"
	"flashtap/infra/config"
	"flashtap/infra/policy"
	"flashtap/infra/stacks"
	"flashtap/testutil/authorization"
)

var update = flag.Bool("update", false, "rewrite the golden templates")

// synthesized are the templates of one deployment.
type synthesized struct {
	name   string
	config config.Config
	dir    string // what cdk synth would have written
	authorization.Templates
}

// plain is a deployment with every default, full is one with everything that can be configured, and central one that uses what
// is there already. They are synthesized once, since each takes seconds of Node.
var plain, full, central synthesized

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	if _, err := exec.LookPath("node"); err != nil {
		if os.Getenv("CI") == "true" {
			return 1, errors.New("CI needs Node to synthesize the stacks")
		}
		fmt.Println("skipped: node is not installed, without which CDK can't synthesize")
		return 0, nil
	}
	// CDK copies the environment before main begins, so what it should know must be there before: we start anew. Its
	// validation takes half a minute and runs in `make synth`; Node 20 is newer than what it warns about is worth.
	if os.Getenv("CDK_VALIDATION") == "" {
		env := append(os.Environ(), "CDK_VALIDATION=false", "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION=20")
		program, err := os.Executable()
		if err != nil {
			return 1, err
		}
		return 1, syscall.Exec(program, os.Args, env)
	}
	dir, err := os.MkdirTemp("", "flashtap-synth-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	build := filepath.Join(dir, "build")
	if err := stubs(build); err != nil {
		return 1, err
	}
	defer jsii.Close()
	for _, s := range []struct {
		into    *synthesized
		name    string
		context map[string]any
	}{
		{&plain, "plain", map[string]any{"deployment": "plain"}},
		{&full, "full", map[string]any{
			"deployment": "fullblown", "retentionMode": "compliance", "retentionDays": "400", "expireDays": "800", "tierDays": "60",
			"accessLogging": "cloudtrail", "witnessTopic": "arn:aws:sns:eu-central-1:444455556666:witness", "breakGlass": "arn:aws:iam::111122223333:role/break-glass", "logDays": "365",
			"minSeverity": "7", "findingTypes": "Backdoor:EC2/*,Trojan:EC2/DropPoint", "sampleFindings": "true", "paused": "true",
			"instanceEvents": "false", "vpcs": "vpc-0a1b2c3d4e5f60718,vpc-0a1b2c3d4e5f60719", "optOutTag": "never-capture",
			"durationSeconds": "600", "packetLength": "256", "spoolGiB": "40", "tags": "Team=soc,CostCenter=42",
			"permissionsBoundary": "developers", "alarmEmail": "soc@example.com", "hubAccount": "444455556666",
			"filter":    `{"dns":true,"rules":[]}`,
			"volumeKey": "arn:aws:kms:eu-central-1:111122223333:key/4321dcba-21ba-43dc-65fe-ba0987654321",
		}},
		{&central, "central", map[string]any{
			"deployment": "central", "evidenceBucket": "evidence-of-all", "accessLogging": "none", "securityHubAction": "false",
			"evidenceKey":         "arn:aws:kms:eu-central-1:999988887777:key/1234abcd-12ab-34cd-56ef-1234567890ab",
			"alertTopic":          "arn:aws:sns:eu-central-1:999988887777:soc",
			"permissionsBoundary": "arn:aws:iam::111122223333:policy/boundary",
		}},
	} {
		s.context["buildDir"] = build
		if *s.into, err = synthesize(s.name, filepath.Join(dir, s.name), s.context); err != nil {
			return 1, fmt.Errorf("synthesize %s: %w", s.name, err)
		}
	}
	return m.Run(), nil
}

// stubs are small files in place of the programs, so that the templates do not change with every line of Go.
func stubs(build string) error {
	files := []string{"collector-linux-arm64", "collector-linux-amd64"}
	for _, f := range config.Functions {
		files = append(files, f.Name+"/bootstrap")
	}
	var errs []error
	for _, name := range files {
		path := filepath.Join(build, name)
		errs = append(errs, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("stub of "+name), 0o755))
	}
	return errors.Join(errs...)
}

// flags are the feature flags of cdk.json, which only the CDK command would read.
func flags() (map[string]any, error) {
	text, err := os.ReadFile("../../cdk.json")
	if err != nil {
		return nil, err
	}
	var file struct{ Context map[string]any }
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, fmt.Errorf("cdk.json: %w", err)
	}
	return file.Context, nil
}

func synthesize(name, dir string, context map[string]any) (synthesized, error) {
	s := synthesized{name: name, dir: dir}
	all, err := flags()
	if err != nil {
		return s, err
	}
	maps.Copy(all, context)
	if s.config, err = config.Load(all); err != nil {
		return s, err
	}
	all["@aws-cdk/core:failSynthOnValidationErrors"] = false // what cdk-nag finds is read from its report
	app := awscdk.NewApp(&awscdk.AppProps{Outdir: jsii.String(dir), Context: &all, AnalyticsReporting: jsii.Bool(false)})
	if _, err := stacks.Build(app, s.config); err != nil {
		return s, err
	}
	awscdk.Aspects_Of(app).Add(cdknag.NewAwsSolutionsChecks(&cdknag.NagPackProps{}), nil)
	app.Synth(nil)
	s.Templates, err = authorization.ReadTemplates(dir)
	return s, err
}

// The account and Region in which templates are read.
const account, region = "111122223333", "eu-central-1"

func (s synthesized) scope() policy.Scope {
	scope := s.config.Names()
	scope.Partition, scope.Region, scope.Account = "aws", region, account
	return scope
}

// value is what a value of a template would be in an account.
func (s synthesized) value(t *testing.T, stack string, v any) any {
	t.Helper()
	got, err := s.Value(s.scope(), stack, v)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// resource is one resource of a template.
type resource struct {
	Stack, ID, Type string
	Properties      map[string]any // resolved
	Raw             map[string]any
}

// resources are those of a type, or all.
func (s synthesized) resources(t *testing.T, kind string) []resource {
	t.Helper()
	var list []resource
	for _, stack := range slices.Sorted(maps.Keys(s.Templates)) {
		all, _ := s.Templates[stack]["Resources"].(map[string]any)
		for _, id := range slices.Sorted(maps.Keys(all)) {
			raw, _ := all[id].(map[string]any)
			r := resource{Stack: stack, ID: id, Raw: raw}
			r.Type, _ = raw["Type"].(string)
			if kind != "" && r.Type != kind {
				continue
			}
			r.Properties, _ = s.value(t, stack, raw["Properties"]).(map[string]any)
			list = append(list, r)
		}
	}
	return list
}

// one is the resource of a type whose id begins so.
func (s synthesized) one(t *testing.T, kind, id string) resource {
	t.Helper()
	var found []resource
	for _, r := range s.resources(t, kind) {
		if strings.HasPrefix(r.ID, id) {
			found = append(found, r)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s: %d resources of type %s begin with %s", s.name, len(found), kind, id)
	}
	return found[0]
}

// at follows a path of members and indexes.
func at(v any, path ...any) any {
	for _, step := range path {
		switch step := step.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[step]
		case int:
			list, _ := v.([]any)
			if step >= len(list) {
				return nil
			}
			v = list[step]
		}
	}
	return v
}

// environment are the variables of a function.
func (s synthesized) environment(t *testing.T, function string) map[string]string {
	t.Helper()
	f := s.one(t, "AWS::Lambda::Function", strings.ToUpper(function[:1])+function[1:])
	env := map[string]string{}
	for name, value := range at(f.Properties, "Environment", "Variables").(map[string]any) {
		env[name], _ = value.(string)
	}
	return env
}

// place is what the templates say about where they are deployed.
func (s synthesized) place(t *testing.T) config.Place {
	t.Helper()
	env := s.environment(t, "intake")
	settings, err := events.ParseSettings(func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	p := config.Place{
		Partition: "aws", Region: region, Account: account, Bucket: settings.Bucket,
		LaunchTemplateID: settings.LaunchTemplateID, CollectorRoleID: settings.CollectorRoleID, SchedulerRoleARN: settings.ScheduleRoleARN,
		IntakeQueueURL: settings.IntakeQueueURL, WaitingQueueURL: settings.WaitingQueueURL,
		Images: settings.Images, BinaryDigests: settings.BinaryDigests, Roles: settings.Roles,
		SigningKeyARN: settings.SigningKeyARN,
	}
	p.BucketKeyARN, _ = s.value(t, "evidence", at(s.Templates["evidence"], "Outputs", "BucketKey", "Value")).(string)
	for _, arch := range config.Architectures {
		program := s.one(t, "Custom::FlashtapProgram", "Program"+strings.ReplaceAll(arch, "_", ""))
		p.AssetBucket, _ = program.Properties["SourceBucket"].(string)
		key, _ := program.Properties["SourceKey"].(string)
		p.AssetKeys = append(p.AssetKeys, key)
	}
	return p
}
