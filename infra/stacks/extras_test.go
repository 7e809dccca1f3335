package stacks_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"flashtap/infra/config"
	"flashtap/infra/documents"
	"flashtap/infra/policy"
)

// TestDocuments: the forms of package documents are deployed with the names of this deployment.
func TestDocuments(t *testing.T) {
	for _, s := range []synthesized{plain, full} {
		scope := s.config.Scope(s.place(t))
		want, err := documents.All(documents.Names{
			AutomationRole: s.value(t, "control", map[string]any{"Fn::GetAtt": []any{"AutomationRole", "Arn"}}).(string), Deployment: s.config.Deployment,
			StateMachine: scope.StateMachineARN(), InstanceProfile: scope.InstanceProfileARN, Bucket: s.place(t).Bucket, Sweep: scope.FunctionName("sweep"),
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := len(s.resources(t, "AWS::SSM::Document")); got != len(want) {
			t.Errorf("%s: %d documents, want %d", s.name, got, len(want))
		}
		for _, d := range want {
			p := s.one(t, "AWS::SSM::Document", strings.ToUpper(d.Name[:1])+d.Name[1:]+"Document").Properties
			if p["Name"] != scope.DocumentName(d.Name) || p["DocumentType"] != "Automation" || p["UpdateMethod"] != "NewVersion" || !reflect.DeepEqual(p["Content"], any(d.Content)) {
				t.Errorf("%s: %v\nwant %v", s.name, p, d.Content)
			}
		}
	}
}

// TestSpoke: only who names a central account lets one in. TestPoliciesAreThoseOfThePackage compares what it may.
func TestSpoke(t *testing.T) {
	if _, there := plain.Templates["spoke"]; there {
		t.Error("there is a spoke stack for nobody")
	}
	for _, r := range policy.SpokeRoles() {
		p := full.one(t, "AWS::IAM::Role", strings.ToUpper(r.Name[:1])+r.Name[1:]+"Role").Properties
		if p["RoleName"] != full.scope().SpokeRoleName(r.Name) || p["PermissionsBoundary"] == nil || p["MaxSessionDuration"] != 3600.0 {
			t.Errorf("%v", p)
		}
	}
	if got := len(full.resources(t, "AWS::IAM::Role")) - len(plain.resources(t, "AWS::IAM::Role")); got != len(policy.SpokeRoles()) {
		t.Errorf("a central account makes %d more roles", got)
	}
}

// TestTerraformReads what it is written for: the module in infra/terraform takes stack names, templates and assets from the
// files of the synthesis.
func TestTerraformReads(t *testing.T) {
	const bucket = "s3://cdk-hnb659fds-assets-${AWS::AccountId}-${AWS::Region}/"
	for stack := range full.Templates {
		a := full.artifact(t, stack)
		if a.Properties.StackName != full.config.Stack(stack) || !strings.HasPrefix(a.Properties.StackTemplateAssetObjectURL, bucket) {
			t.Errorf("%s: %+v", stack, a)
		}
		text, err := os.ReadFile(filepath.Join(full.dir, stack+".assets.json"))
		if err != nil {
			t.Fatal(err)
		}
		var assets struct {
			Files map[string]struct {
				Source       struct{ Path, Packaging string }
				Destinations map[string]struct{ BucketName, ObjectKey string }
			}
		}
		if err := json.Unmarshal(text, &assets); err != nil {
			t.Fatal(err)
		}
		template := false
		for id, f := range assets.Files {
			info, err := os.Stat(filepath.Join(full.dir, f.Source.Path))
			if err != nil || len(f.Destinations) != 1 || info.IsDir() != (f.Source.Packaging == "zip") || !info.IsDir() && f.Source.Packaging != "file" {
				t.Errorf("%s: asset %s: %+v, %v", stack, id, f, err)
			}
			for _, d := range f.Destinations {
				if "s3://"+d.BucketName+"/" != bucket || d.ObjectKey == "" {
					t.Errorf("%s: asset %s goes to %+v", stack, id, d)
				}
				template = template || bucket+d.ObjectKey == a.Properties.StackTemplateAssetObjectURL
			}
		}
		if !template {
			t.Errorf("%s: its template is not among the assets", stack)
		}
	}
}

// evaluated is what the module in infra/terraform works out of the files of the synthesis.
type evaluated struct {
	Kinds  []string
	Stacks map[string]struct{ Name, URL string }
	Assets map[string]struct{ Path, Packaging, Key, Bucket string }
}

// TestTerraformWorksOut stack names, addresses of templates and assets: Terraform evaluates the module's own locals, with an
// account in place of what providers would say of it.
func TestTerraformWorksOut(t *testing.T) {
	terraform, err := exec.LookPath("terraform")
	if err != nil {
		t.Log("terraform is not installed: TestTerraformReads must do")
		return
	}
	module, err := os.ReadFile("../terraform/main.tf")
	if err != nil {
		t.Fatal(err)
	}
	text := string(module)
	begin := strings.Index(text, "locals {")
	end := begin + strings.Index(text[begin:], "\n}\n")
	text = strings.NewReplacer("data.aws_caller_identity.here.account_id", `"`+account+`"`, "data.aws_region.here.region", `"`+region+`"`,
		"data.aws_partition.here.dns_suffix", `"amazonaws.com"`).Replace(text[begin:end+3]) + `
variable "cdk_out" { type = string }
output "all" { value = { kinds = local.kinds, stacks = local.stacks, assets = local.assets } }
`
	for _, s := range []synthesized{plain, full} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "main.tf"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, arguments := range [][]string{{"init", "-input=false"}, {"apply", "-input=false", "-auto-approve", "-var=cdk_out=" + s.dir}} {
			if out, err := exec.Command(terraform, append([]string{"-chdir=" + dir}, arguments...)...).CombinedOutput(); err != nil {
				t.Fatalf("terraform %s: %v\n%s", arguments[0], err, out)
			}
		}
		out, err := exec.Command(terraform, "-chdir="+dir, "output", "-json", "all").Output()
		if err != nil {
			t.Fatal(err)
		}
		var got evaluated
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		want := []string{"evidence", "collector", "control", "observability"}
		if s.config.HubAccount != "" {
			want = append(want, "spoke")
		}
		if !reflect.DeepEqual(got.Kinds, want) || len(got.Stacks) != len(s.Templates) {
			t.Errorf("%s: stacks %v", s.name, got.Kinds)
		}
		const bucket = "cdk-hnb659fds-assets-" + account + "-" + region
		urls, packed := map[string]bool{}, map[string]int{}
		for _, a := range got.Assets {
			if _, err := os.Stat(a.Path); err != nil || a.Bucket != bucket {
				t.Errorf("%s: %+v, %v", s.name, a, err)
			}
			urls["https://"+bucket+".s3."+region+".amazonaws.com/"+a.Key] = true
			packed[a.Packaging]++
		}
		for kind, stack := range got.Stacks {
			if stack.Name != s.config.Stack(kind) || !urls[stack.URL] {
				t.Errorf("%s: %s: %+v", s.name, kind, stack)
			}
		}
		if packed["zip"] != len(config.Functions) || packed["file"] != len(s.Templates)+len(config.Architectures) {
			t.Errorf("%s: assets %v", s.name, packed)
		}
	}
}
