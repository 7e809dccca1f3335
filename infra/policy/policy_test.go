package policy_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"flashtap/infra/policy"
	"flashtap/testutil/authorization"
)

var scopes = map[string]policy.Scope{"everything configured": authorization.Example(), "nothing configured": authorization.Plain(), "a temporary endpoint": endpoint()}

// endpoint is a deployment that names no VPCs and lets captures make endpoints.
func endpoint() policy.Scope {
	s := authorization.Plain()
	s.TemporaryEndpoint = true
	return s
}

func load(t *testing.T) *authorization.Data {
	t.Helper()
	d, err := authorization.Load()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestStatements holds every statement of every role and every resource's policy against what AWS says of its actions.
func TestStatements(t *testing.T) {
	d := load(t)
	for configured, s := range scopes {
		for _, doc := range authorization.Documents(s) {
			for _, f := range d.Check(doc.Document, doc.Options) {
				t.Errorf("%s: %s", configured, doc.String(f))
			}
		}
	}
}

// TestExemptions: each exemption is needed, or it would cover what comes later.
func TestExemptions(t *testing.T) {
	d := load(t)
	for i, e := range authorization.Exemptions() {
		found := false
		for _, doc := range authorization.Documents(endpoint()) {
			doc.Options.Exempt = slices.Delete(authorization.Exemptions(), i, i+1)
			for _, f := range d.Check(doc.Document, doc.Options) {
				found = found || f.Rule == e.Rule
			}
		}
		if !found {
			t.Errorf("%s %s: nothing needs it", e.Rule, e.On)
		}
	}
}

// TestQuotas: IAM User Guide, "IAM and AWS STS quotas": 10,240 characters of inline policies a role, 2,048 of a trust
// policy. S3 takes bucket policies of 20 KB (Amazon S3 User Guide, "Bucket policies"), KMS key policies of 32 KB (KMS
// Developer Guide, "Quotas").
func TestQuotas(t *testing.T) {
	s := authorization.Example()
	// The longest that there can be: a deployment's id has at most 20 characters.
	old, long := s.Deployment, strings.Repeat("d", 20)
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, swap := range [][2]string{{"flashtap-" + old, "flashtap-" + long}, {`"` + old + `"`, `"` + long + `"`},
		{"eu-central-1", "us-gov-northwest-1"}, {"arn:aws:", "arn:aws-us-gov:"}, {`"aws"`, `"aws-us-gov"`}} {
		text = bytes.ReplaceAll(text, []byte(swap[0]), []byte(swap[1]))
	}
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	for len(s.VPCs) < policy.MaxVPCs {
		s.VPCs = append(s.VPCs, s.VPCs[0])
		s.BreakGlass = append(s.BreakGlass, s.BreakGlass[0])
	}
	for _, doc := range authorization.Documents(s) {
		limit := 10240
		switch {
		case strings.HasPrefix(doc.Name, "trust "):
			limit = 2048
		case doc.Name == "evidence bucket":
			limit = 20 << 10
		case strings.HasSuffix(doc.Name, " key"):
			limit = 32 << 10
		}
		if size := authorization.Size(doc.Document); size > limit {
			t.Errorf("%s has %d characters, %d are allowed", doc.Name, size, limit)
		} else {
			t.Logf("%s: %d of %d characters", doc.Name, size, limit)
		}
	}
}

// TestVolumeKeyIsForTheLaunch: no other role uses the customer's key of the disks, though preflight looks whether it is enabled; and without one there is nothing to allow.
func TestVolumeKeyIsForTheLaunch(t *testing.T) {
	key := authorization.Example().VolumeKeyARN
	for configured, s := range scopes {
		for _, doc := range authorization.Documents(s) {
			names := slices.ContainsFunc(doc.Document.Statement, func(st policy.Statement) bool {
				return slices.Contains(st.Resource, key) && !slices.Equal(st.Action, []string{"kms:DescribeKey"}) || slices.Contains(st.Resource, "") || slices.Contains(st.Action, "kms:CreateGrant")
			})
			if want := doc.Name == "role launch" && s.VolumeKeyARN != ""; names != want {
				t.Errorf("%s: %s names the key: %v, want %v", configured, doc.Name, names, want)
			}
		}
	}
}

// TestStepsAreThoseOfTheStateMachine: its role may call the functions that its definition calls, and no others.
func TestStepsAreThoseOfTheStateMachine(t *testing.T) {
	definition, err := os.ReadFile("../capture.asl.json")
	if err != nil {
		t.Fatal(err)
	}
	s := authorization.Example()
	var want []string
	for _, m := range regexp.MustCompile(`\$\{(\w+)Function\}`).FindAllStringSubmatch(string(definition), -1) {
		want = append(want, s.FunctionARN(strings.ToLower(m[1])))
	}
	slices.Sort(want)
	want = slices.Compact(want)
	capture, _ := policy.RoleOf("capture")
	var got []string
	for _, st := range capture.Policy(s).Statement {
		if slices.Equal(st.Action, []string{"lambda:InvokeFunction"}) {
			got = append(got, st.Resource...)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) || len(want) == 0 {
		t.Errorf("may call %v; the definition calls %v", got, want)
	}
	integrations := regexp.MustCompile(`arn:aws:states:::[^"]+`).FindAllString(string(definition), -1)
	slices.Sort(integrations)
	if known := []string{"arn:aws:states:::events:putEvents", "arn:aws:states:::lambda:invoke"}; !slices.Equal(slices.Compact(integrations), known) {
		t.Errorf("the definition uses %v; the role is for %v", slices.Compact(integrations), known)
	}
}

// TestEveryFunctionHasItsRole: one role for each Lambda, so that each may do what it does and no more.
func TestEveryFunctionHasItsRole(t *testing.T) {
	mains, err := filepath.Glob("../../functions/*/main.go")
	if err != nil || len(mains) == 0 {
		t.Fatalf("no functions: %v", err)
	}
	var want, got []string
	for _, name := range mains {
		want = append(want, filepath.Base(filepath.Dir(name)))
	}
	for _, r := range policy.Roles() {
		if r.Service == "lambda.amazonaws.com" {
			got = append(got, r.Name)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("roles %v for functions %v", got, want)
	}
}

// TestMap: CDK is given what a template would hold, without what is only for readers.
func TestMap(t *testing.T) {
	role, known := policy.RoleOf("preflight")
	if _, other := policy.RoleOf("nobody"); !known || other {
		t.Fatal("roles are not found by their names")
	}
	m, err := role.Policy(authorization.Example()).Map()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(m)
	if err != nil || !strings.Contains(string(text), `"ec2:DescribeSubnets"`) || strings.Contains(string(text), "Reason") {
		t.Errorf("%s, %v", text, err)
	}
}

var update = flag.Bool("update", false, "rewrite the golden files")

// TestGolden keeps every statement where a reader of a change sees it, with example values.
func TestGolden(t *testing.T) {
	s := authorization.Example()
	golden(t, "table.md", []byte("What each role may do. TestGolden makes this file; policies.json beside it has the statements.\n\n"+authorization.Table(s)))
	docs := map[string]policy.Document{}
	for _, doc := range authorization.Documents(s) {
		docs[doc.Name] = doc.Document
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(docs); err != nil {
		t.Fatal(err)
	}
	golden(t, "policies.json", text.Bytes())
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		g, w := bytes.Split(got, []byte("\n")), bytes.Split(want, []byte("\n"))
		for i := range min(len(g), len(w)) {
			if !bytes.Equal(g[i], w[i]) {
				t.Fatalf("%s, line %d: make golden, then review the difference\n got %s\nwant %s", path, i+1, g[i], w[i])
			}
		}
		t.Fatalf("%s: make golden, then review the difference: %d lines, want %d", path, len(g), len(w))
	}
}
