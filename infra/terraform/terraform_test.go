// Package terraform_test checks the Terraform module as far as that is possible without providers and an account.
package terraform_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// module are the files of a folder, parsed.
func module(t *testing.T, folder string) []*hclsyntax.Body {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.tf"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %v, %v", folder, files, err)
	}
	parser := hclparse.NewParser()
	var bodies []*hclsyntax.Body
	for _, file := range files {
		parsed, problems := parser.ParseHCLFile(file)
		if problems.HasErrors() {
			t.Fatal(problems)
		}
		bodies = append(bodies, parsed.Body.(*hclsyntax.Body))
	}
	return bodies
}

// address is how an expression refers to what a block declares; "" for blocks that declare nothing.
func address(b *hclsyntax.Block) string {
	switch b.Type {
	case "resource":
		return strings.Join(b.Labels, ".")
	case "variable":
		return "var." + b.Labels[0]
	case "data", "module":
		return b.Type + "." + strings.Join(b.Labels, ".")
	}
	return ""
}

// TestReferences: everything that is named is declared, and everything that is declared is used.
func TestReferences(t *testing.T) {
	for _, folder := range []string{".", "examples/basic"} {
		declared := map[string]bool{}
		var used []string
		for _, body := range module(t, folder) {
			for _, block := range body.Blocks {
				if a := address(block); a != "" {
					declared[a] = false
				}
				if block.Type == "locals" {
					for name := range block.Body.Attributes {
						declared["local."+name] = false
					}
				}
			}
			walk(body, func(traversal hcl.Traversal) { used = append(used, name(traversal)) })
		}
		for _, u := range used {
			if u == "" {
				continue
			}
			if _, there := declared[u]; !there {
				t.Errorf("%s: %s is declared nowhere", folder, u)
			}
			declared[u] = true
		}
		for d, isUsed := range declared {
			if !isUsed && !strings.HasPrefix(d, "aws_cloudformation_stack.") && d != "aws_s3_object.folder" && d != "aws_s3_object.file" {
				t.Errorf("%s: %s is used nowhere", folder, d)
			}
		}
	}
}

// own are roots of traversals that name nothing of the module: iteration variables, and what Terraform gives.
var own = []string{"each", "path", "count", "kind", "id", "asset"}

// name is the address that a traversal begins with.
func name(traversal hcl.Traversal) string {
	var parts []string
	for _, step := range traversal {
		switch step := step.(type) {
		case hcl.TraverseRoot:
			parts = append(parts, step.Name)
		case hcl.TraverseAttr:
			parts = append(parts, step.Name)
		}
	}
	switch {
	case slices.Contains(own, parts[0]):
		return ""
	case parts[0] == "data" && len(parts) >= 3:
		return strings.Join(parts[:3], ".")
	case len(parts) >= 2:
		return strings.Join(parts[:2], ".")
	}
	return parts[0]
}

// walk visits all references in a body, except types and versions, which are words of their own.
func walk(body *hclsyntax.Body, visit func(hcl.Traversal)) {
	for key, attribute := range body.Attributes {
		if key == "type" {
			continue
		}
		for _, traversal := range attribute.Expr.Variables() {
			visit(traversal)
		}
	}
	for _, block := range body.Blocks {
		walk(block.Body, visit)
	}
}

// TestStacks: each stack of the deployment is made by one resource, after the one before, with the right to make named roles.
func TestStacks(t *testing.T) {
	after := map[string]string{"evidence": "aws_s3_object", "collector": "evidence", "control": "collector", "observability": "control", "spoke": "control"}
	for _, body := range module(t, ".") {
		for _, block := range body.Blocks {
			if block.Type != "resource" || block.Labels[0] != "aws_cloudformation_stack" {
				continue
			}
			kind := block.Labels[1]
			depends := block.Body.Attributes["depends_on"]
			capabilities := block.Body.Attributes["capabilities"]
			if depends == nil || capabilities == nil {
				t.Errorf("%s: nothing it depends on, or no capabilities", kind)
				continue
			}
			text := source(t, depends.Expr.Range())
			if want, known := after[kind]; !known || !strings.Contains(text, want) {
				t.Errorf("%s comes after %s", kind, text)
			}
			if !strings.Contains(source(t, capabilities.Expr.Range()), "CAPABILITY_NAMED_IAM") {
				t.Errorf("%s may not make named roles", kind)
			}
			delete(after, kind)
		}
	}
	for kind := range after {
		t.Errorf("nothing makes the stack %s", kind)
	}
}

func source(t *testing.T, r hcl.Range) string {
	t.Helper()
	text, err := os.ReadFile(r.Filename)
	if err != nil {
		t.Fatal(err)
	}
	return string(text[r.Start.Byte:r.End.Byte])
}

// TestReadme: the table of variables and outputs is the module's.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|")
	var documented []string
	for _, match := range row.FindAllSubmatch(readme, -1) {
		documented = append(documented, string(match[1]))
	}
	for _, body := range module(t, ".") {
		for _, block := range body.Blocks {
			switch block.Type {
			case "variable":
				if i := slices.Index(documented, block.Labels[0]); i < 0 {
					t.Errorf("variable %s is not in the README", block.Labels[0])
				} else {
					documented = slices.Delete(documented, i, i+1)
				}
				fallthrough
			case "output":
				if block.Body.Attributes["description"] == nil {
					t.Errorf("%s %s has no description", block.Type, block.Labels[0])
				}
			}
			if block.Type == "output" && !strings.Contains(string(readme), "`"+block.Labels[0]+"`") {
				t.Errorf("output %s is not in the README", block.Labels[0])
			}
		}
	}
	if len(documented) > 0 {
		t.Errorf("the README has variables that are not there: %v", documented)
	}
}

// TestValidate has Terraform itself look at the module where it is installed: its form always, and all of it against the
// schemas of the providers where these can be fetched, which is only done when asked for.
func TestValidate(t *testing.T) {
	terraform, err := exec.LookPath("terraform")
	if err != nil {
		t.Log("terraform is not installed: the other tests must do")
		return
	}
	run := func(arguments ...string) {
		if out, err := exec.Command(terraform, arguments...).CombinedOutput(); err != nil {
			t.Errorf("terraform %s: %v\n%s", strings.Join(arguments, " "), err, out)
		}
	}
	run("fmt", "-check", "-recursive", "-diff")
	if os.Getenv("FLASHTAP_TERRAFORM") == "" {
		t.Log("not asked for: FLASHTAP_TERRAFORM=1 also runs terraform validate, which fetches two providers")
		return
	}
	dir := t.TempDir() // for what Terraform writes beside the module
	if err := os.CopyFS(dir, os.DirFS(".")); err != nil {
		t.Fatal(err)
	}
	run("-chdir="+dir, "init", "-backend=false", "-input=false")
	run("-chdir="+dir, "validate")
}
