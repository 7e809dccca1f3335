package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"flashtap/events"
)

func TestLoad(t *testing.T) {
	for reason, row := range map[string]struct {
		context map[string]any
		check   func(Config) bool
	}{
		"nothing is every default":      {nil, func(c Config) bool { return reflect.DeepEqual(c, Default()) }},
		"a number as text, as -c gives": {map[string]any{"retentionDays": "365"}, func(c Config) bool { return c.RetentionDays == 365 }},
		"a number as cdk.json gives":    {map[string]any{"maxBytes": 53687091200.0}, func(c Config) bool { return c.MaxBytes == 50<<30 }},
		"a list as text":                {map[string]any{"vpcs": "vpc-0a1b2c3d, vpc-0a1b2c3e"}, func(c Config) bool { return len(c.VPCs) == 2 && c.VPCs[1] == "vpc-0a1b2c3e" }},
		"a list as JSON":                {map[string]any{"instanceTypes": []any{"c7g.large"}}, func(c Config) bool { return slices.Equal(c.InstanceTypes, []string{"c7g.large"}) }},
		"an empty list":                 {map[string]any{"findingTypes": []any{}}, func(c Config) bool { return len(c.FindingTypes) == 0 }},
		"tags as text":                  {map[string]any{"tags": "Team=soc,Cost=42"}, func(c Config) bool { return c.Tags["Team"] == "soc" && c.Tags["Cost"] == "42" }},
		"tags as JSON":                  {map[string]any{"tags": map[string]any{"Team": "soc"}}, func(c Config) bool { return c.Tags["Team"] == "soc" }},
		"a filter as text":              {map[string]any{"filter": `{"dns": true, "rules": []}`}, func(c Config) bool { return c.Filter != nil && c.Filter.DNS }},
		"a filter as JSON":              {map[string]any{"filter": map[string]any{"dns": true}}, func(c Config) bool { return c.Filter != nil && c.Filter.DNS }},
		"no filter":                     {map[string]any{"filter": ""}, func(c Config) bool { return c.Filter == nil }},
		"a profile":                     {map[string]any{"profile": "finding"}, func(c Config) bool { return c.Settings(Place{}).Profile == events.ProfileFinding }},
		"networks of the operators":     {map[string]any{"controlCidrs": "198.51.100.0/24, 2001:db8::/32"}, func(c Config) bool { return len(c.Settings(Place{}).ControlCIDRs) == 2 }},
		"temporary endpoints": {map[string]any{"allowTemporaryEndpoint": "true"}, func(c Config) bool {
			return c.Settings(Place{}).AllowTemporaryEndpoint && c.Scope(Place{}).TemporaryEndpoint
		}},
		"no temporary endpoints by default": {nil, func(c Config) bool { return !c.Scope(Place{}).TemporaryEndpoint }},
		"null is the default":               {map[string]any{"filter": nil, "logDays": nil}, func(c Config) bool { return c.LogDays == Default().LogDays }},
		"a fraction":                        {map[string]any{"minSeverity": "6.5"}, func(c Config) bool { return c.MinSeverity == 6.5 }},
		"what CDK has in there is skipped":  {map[string]any{"@aws-cdk/core:x": true, "aws:cdk:y": 1, "cli-telemetry": false}, func(c Config) bool { return true }},
	} {
		c, err := Load(row.context)
		if err != nil || !row.check(c) {
			t.Errorf("%s: %v: %+v", reason, err, c)
		}
	}
}

// longTags are valid each, and too much together.
func longTags() map[string]any {
	tags := map[string]any{}
	for i := range 20 {
		tags[fmt.Sprintf("Key%d", i)] = strings.Repeat("v", 200)
	}
	return tags
}

// TestRefused: each names the key, and says what would be right.
func TestRefused(t *testing.T) {
	for reason, row := range map[string]struct {
		context map[string]any
		says    []string
	}{
		"a key that nobody reads":         {map[string]any{"retensionDays": 1}, []string{"retensionDays", "no such key", "retentionDays"}},
		"no number":                       {map[string]any{"logDays": "many"}, []string{"logDays", "whole number"}},
		"half a day":                      {map[string]any{"retentionDays": 1.5}, []string{"retentionDays", "whole number"}},
		"neither true nor false":          {map[string]any{"paused": "maybe"}, []string{"paused", "true or false"}},
		"a list that is a number":         {map[string]any{"vpcs": 7}, []string{"vpcs", "list"}},
		"a tag without a value":           {map[string]any{"tags": "Team"}, []string{"tags", "key=value"}},
		"a filter of no known form":       {map[string]any{"filter": `{"rulez": []}`}, []string{"filter", "rulez"}},
		"a filter that mirrors nothing":   {map[string]any{"filter": `{"rules": []}`}, []string{"mirrors nothing"}},
		"a profile that there is none of": {map[string]any{"profile": "some"}, []string{"profile", "headers"}},
		"a profile without its filter":    {map[string]any{"profile": "custom"}, []string{"profile", "filter"}},
		"a filter with another profile":   {map[string]any{"profile": "headers", "filter": `{"dns": true}`}, []string{"profile headers", "filter"}},
		"a bastion that is no network":    {map[string]any{"controlCidrs": "bastion"}, []string{"controlCidrs"}},
		"more VPCs than policies hold":    {map[string]any{"vpcs": strings.Repeat("vpc-0a1b2c3d,", 15)}, []string{"vpcs", "14"}},
		"more tags than Lambda holds":     {map[string]any{"tags": longTags()}, []string{"tags, vpcs and filter", "4096"}},
		"a session that breaks glass":     {map[string]any{"breakGlass": "arn:aws:sts::111122223333:assumed-role/Admin/me"}, []string{"breakGlass", "sessions"}},
		"an id in capitals":               {map[string]any{"deployment": "Prod"}, []string{"deployment", "lower-case"}},
		"an id that is too long":          {map[string]any{"deployment": strings.Repeat("d", 21)}, []string{"deployment", "20"}},
		"an id that begins with a digit":  {map[string]any{"deployment": "1st"}, []string{"deployment"}},
		"an id that ends in a dash":       {map[string]any{"deployment": "prod-"}, []string{"deployment"}},
		"an id with a dash":               {map[string]any{"deployment": "prod-eu"}, []string{"deployment"}},
		"no id":                           {map[string]any{"deployment": ""}, []string{"deployment"}},
		"a mode that S3 does not have":    {map[string]any{"retentionMode": "legal"}, []string{"retentionMode", "governance"}},
		"a lock for no time":              {map[string]any{"retentionDays": 0}, []string{"retentionDays", "1 to 36500"}},
		"expiry before the lock ends":     {map[string]any{"expireDays": 10}, []string{"expireDays", "90"}},
		"a tier after the end":            {map[string]any{"expireDays": 100, "tierDays": 100}, []string{"tierDays", "100"}},
		"logging to nowhere":              {map[string]any{"accessLogging": "yes"}, []string{"accessLogging", "cloudtrail"}},
		"a bucket without its key":        {map[string]any{"evidenceBucket": "central", "accessLogging": "none"}, []string{"evidenceKey", "central"}},
		"logging of another's bucket":     {map[string]any{"evidenceBucket": "central", "evidenceKey": "arn:aws:kms:eu-west-1:111122223333:key/1"}, []string{"accessLogging", "none"}},
		"the alias of a key":              {map[string]any{"evidenceKey": "arn:aws:kms:eu-west-1:111122223333:alias/x"}, []string{"evidenceKey", "alias"}},
		"the alias of a disk's key":       {map[string]any{"volumeKey": "arn:aws:kms:eu-west-1:111122223333:alias/x"}, []string{"volumeKey", "alias"}},
		"anybody breaks the glass":        {map[string]any{"breakGlass": "*"}, []string{"breakGlass"}},
		"logs for a day too many":         {map[string]any{"logDays": 100}, []string{"logDays", "90"}},
		"more than critical":              {map[string]any{"minSeverity": 11}, []string{"minSeverity", "0 to 10"}},
		"a type with a space":             {map[string]any{"findingTypes": "Back door"}, []string{"findingTypes"}},
		"a star in the middle":            {map[string]any{"findingTypes": "Back*door"}, []string{"findingTypes"}},
		"a subnet for a VPC":              {map[string]any{"vpcs": "subnet-0a1b2c3d"}, []string{"vpcs", "vpc-"}},
		"an opt-out with a slash":         {map[string]any{"optOutTag": "a/b"}, []string{"optOutTag"}},
		"no places":                       {map[string]any{"maxCaptures": 0}, []string{"maxCaptures", "1 or more"}},
		"captures of two days":            {map[string]any{"durationSeconds": 172800}, []string{"durationSeconds", "86400"}},
		"packets shorter than a header":   {map[string]any{"packetLength": 10}, []string{"packetLength"}},
		"no instance type":                {map[string]any{"instanceTypes": ""}, []string{"instanceTypes"}},
		"a family for a type":             {map[string]any{"instanceTypes": "c7gn"}, []string{"instanceTypes", "c7gn.large"}},
		"a disk that EBS does not have":   {map[string]any{"spoolGiB": 20000}, []string{"spoolGiB", "16000"}},
		"a tag with a slash":              {map[string]any{"tags": "cost/center=42"}, []string{"tags", "cost/center", "instance metadata"}},
		"a tag with a space":              {map[string]any{"tags": "cost center=42"}, []string{"tags", "instance metadata"}},
		"a tag that is a path":            {map[string]any{"tags": "..=42"}, []string{"tags"}},
		"a tag of ours":                   {map[string]any{"tags": "flashtap:deployment=x"}, []string{"tags", "taken"}},
		"a tag of AWS's":                  {map[string]any{"tags": "AWS:x=y"}, []string{"tags", "taken"}},
		"a value that AWS refuses":        {map[string]any{"tags": "x=a;b"}, []string{"tags", "a;b"}},
		"a boundary with a space":         {map[string]any{"permissionsBoundary": "a b"}, []string{"permissionsBoundary"}},
		"a topic's name":                  {map[string]any{"alertTopic": "alerts"}, []string{"alertTopic", "ARN"}},
		"a FIFO topic":                    {map[string]any{"alertTopic": "arn:aws:sns:eu-west-1:111122223333:x.fifo"}, []string{"alertTopic", "standard"}},
		"mail to another's topic":         {map[string]any{"alertTopic": "arn:aws:sns:eu-west-1:111122223333:x", "alarmEmail": "a@b"}, []string{"alarmEmail", "owner"}},
		"mail to nobody":                  {map[string]any{"alarmEmail": "soc"}, []string{"alarmEmail"}},
		"a hub that is no account":        {map[string]any{"hubAccount": "main"}, []string{"hubAccount", "12 digits"}},
		"no programs":                     {map[string]any{"buildDir": ""}, []string{"buildDir", "make build"}},
	} {
		_, err := Load(row.context)
		if err == nil {
			t.Errorf("%s: accepted", reason)
			continue
		}
		for _, word := range row.says {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%s: %q does not say %q", reason, err, word)
			}
		}
	}
}

// TestEveryMistakeIsNamedAtOnce, so that nobody deploys five times to find five.
func TestEveryMistakeIsNamedAtOnce(t *testing.T) {
	_, err := Load(map[string]any{"deployment": "Prod", "logDays": 100, "tags": "a/b=c"})
	for _, key := range []string{"deployment", "logDays", "tags"} {
		if err == nil || !strings.Contains(err.Error(), "context "+key) {
			t.Errorf("%v does not name %s", err, key)
		}
	}
}

// TestCDKFile: cdk.json names every key with its default, so that a reader sees what there is to set.
func TestCDKFile(t *testing.T) {
	text, err := os.ReadFile("../../cdk.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Context          map[string]any
		Notices          *bool
		VersionReporting *bool
	}
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	c, err := Load(file.Context)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	for _, list := range []*[]string{&c.BreakGlass, &c.FindingTypes, &c.VPCs} {
		if len(*list) == 0 {
			*list = nil
		}
	}
	if len(c.Tags) == 0 {
		c.Tags = nil
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("cdk.json says %+v\nthe defaults are %+v", c, want)
	}
	for name := range c.keys() {
		if _, named := file.Context[name]; !named {
			t.Errorf("cdk.json does not name %s", name)
		}
	}
	if file.Notices == nil || *file.Notices || file.VersionReporting == nil || *file.VersionReporting || file.Context["cli-telemetry"] != false {
		t.Error("notices, version reporting and telemetry are to be off")
	}
}

func TestEveryFieldHasAKey(t *testing.T) {
	c := Default()
	v := reflect.ValueOf(&c).Elem()
	named := map[any]bool{}
	for _, field := range c.keys() {
		named[field] = true
	}
	for i := range v.NumField() {
		if !named[v.Field(i).Addr().Interface()] {
			t.Errorf("no key sets %s", v.Type().Field(i).Name)
		}
	}
	if len(named) != len(c.keys()) {
		t.Error("two keys set one field")
	}
}

// TestNamesFit: the longest id in the Region with the longest name. What the templates name beyond these is tested there.
func TestNamesFit(t *testing.T) {
	c := Default()
	c.Deployment = strings.Repeat("d", maxDeployment)
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	s := c.Scope(Place{Partition: "aws-us-gov", Region: "ap-southeast-1", Account: "111122223333"})
	for what, row := range map[string]struct {
		name string
		most int
	}{
		"role":            {s.CollectorName(), 64},
		"launch template": {s.LaunchTemplateName(), 128},
		"state machine":   {s.StateMachineName(), 80},
		"schedule group":  {s.ScheduleGroup(), 64},
		"event bus":       {s.BusName(), 256},
		"rule":            {s.RuleName("instance-terminated"), 64},
		"function":        {s.FunctionName("preflight"), 64},
		"queue":           {s.QueueName("intake-dlq.fifo"), 80},
		"stack":           {c.Stack("observability"), 128},
		"security group":  {events.SecurityGroupName(c.Deployment, "20261122T000000Z-eni-0123456789abcdef0"), 255},
	} {
		if len(row.name) > row.most {
			t.Errorf("%s %s has %d characters; AWS takes %d", what, row.name, len(row.name), row.most)
		}
	}
}

func TestActionID(t *testing.T) {
	seen := map[string]string{}
	for _, id := range []string{"main", "prod", "ab", "abcdefghijkl", "abcdefghijklm", "abcdefghijklmn", "longandwithoutdashes"} {
		c := Config{Deployment: id}
		action := c.ActionID()
		if len(action) > 20 || strings.Trim(action, "abcdefghijklmnopqrstuvwxyzF0123456789") != "" {
			t.Errorf("%s: %s is no id of a custom action", id, action)
		}
		if other := seen[action]; other != "" {
			t.Errorf("%s and %s have the action %s", id, other, action)
		}
		seen[action] = id
	}
}

// TestFunctionsHaveFolders, and every folder that is a Lambda is deployed.
func TestFunctionsHaveFolders(t *testing.T) {
	var folders, names []string
	entries, err := os.ReadDir("../../functions")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if _, err := os.Stat("../../functions/" + e.Name() + "/main.go"); err == nil {
			folders = append(folders, e.Name())
		}
	}
	for _, f := range Functions {
		names = append(names, f.Name)
	}
	slices.Sort(names)
	if !slices.Equal(folders, names) {
		t.Errorf("functions/ has %v, deployed are %v", folders, names)
	}
}

func TestSettingsAreWhole(t *testing.T) {
	digests := map[string]string{events.ARM64: strings.Repeat("a", 64), events.X86_64: strings.Repeat("b", 64)}
	c := Default()
	s := c.Settings(Place{
		Partition: "aws", Region: "eu-central-1", Account: "111122223333", Bucket: "b", BucketKeyARN: "k", LaunchTemplateID: "lt-1",
		CollectorRoleID: "AROA", SchedulerRoleARN: "r", IntakeQueueURL: "q", WaitingQueueURL: "w", Roles: map[string]string{"launch": "l", "mirror": "m", "teardown": "t"},
		Images: map[string]string{events.ARM64: "ami-1", events.X86_64: "ami-2"}, BinaryDigests: digests,
	})
	if err := s.Validate(); err != nil {
		t.Error(err)
	}
	env := Environment(s)
	for name := range maps.Keys(s.Environ()) {
		if env[name] == "" && name != "AWS_REGION" {
			t.Errorf("%s is missing", name)
		}
	}
	if s.BucketKeyARN != "k" || s.Roles["mirror"] != "m" {
		t.Errorf("key %s, roles %v", s.BucketKeyARN, s.Roles)
	}
	if s.BinaryKeys[events.ARM64] != "tools/collector-arm64-"+digests[events.ARM64] {
		t.Errorf("keys %v", s.BinaryKeys)
	}
}
