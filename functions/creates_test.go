// Package functions_test checks what holds for all steps alike.
package functions_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"
)

// creates are the inputs of all calls by which a step makes something, with the members that a call must not leave out
// although the SDK would let it: a token, or a second run makes a second thing (the SDK then makes one up, which
// protects only its own retries); tags, or the thing is nobody's from its birth.
var creates = []any{
	ec2.RunInstancesInput{}, ec2.CreateSecurityGroupInput{}, ec2.CreateTrafficMirrorTargetInput{}, ec2.CreateTrafficMirrorFilterInput{},
	ec2.CreateTrafficMirrorFilterRuleInput{}, ec2.CreateTrafficMirrorSessionInput{}, ec2.CreateNetworkInterfaceInput{}, ec2.CreateVpcEndpointInput{},
	scheduler.CreateScheduleInput{},
}

// without say why a member is left out all the same.
var without = map[string]string{
	"CreateTagsInput":         "tags are what it makes",
	"CreateActionTargetInput": "it is one of the deployment, not of a capture; its id is its token, and it can bear no tags",
}

func TestEveryCreateHasTokenAndTags(t *testing.T) {
	known := map[string]reflect.Type{}
	for _, in := range creates {
		known[reflect.TypeOf(in).Name()] = reflect.TypeOf(in)
	}
	found := map[string]bool{}
	files := token.NewFileSet()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		parsed, err := parser.ParseFile(files, path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			literal, ok := n.(*ast.CompositeLit)
			if !ok {
				return true
			}
			name := inputName(literal.Type)
			if !strings.HasPrefix(name, "Create") && name != "RunInstancesInput" || without[name] != "" {
				return true
			}
			at := files.Position(literal.Pos())
			kind, ok := known[name]
			if !ok {
				t.Errorf("%s: %s is not in this test's list", at, name)
				return true
			}
			found[name] = true
			given := map[string]bool{}
			for _, element := range literal.Elts {
				if pair, ok := element.(*ast.KeyValueExpr); ok {
					given[pair.Key.(*ast.Ident).Name] = true
				}
			}
			for _, member := range []string{"ClientToken", "TagSpecifications"} {
				if _, has := kind.FieldByName(member); has && !given[member] {
					t.Errorf("%s: %s without %s", at, name, member)
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"RunInstancesInput", "CreateSecurityGroupInput", "CreateTrafficMirrorTargetInput", "CreateTrafficMirrorFilterInput",
		"CreateTrafficMirrorFilterRuleInput", "CreateTrafficMirrorSessionInput", "CreateScheduleInput"} {
		if !found[name] {
			t.Errorf("no %s is found: the test looks in the wrong place", name)
		}
	}
}

// inputName is X of service.XInput; "" for any other type.
func inputName(expression ast.Expr) string {
	selector, ok := expression.(*ast.SelectorExpr)
	if !ok || !strings.HasSuffix(selector.Sel.Name, "Input") {
		return ""
	}
	return selector.Sel.Name
}

// TestTokensComeFromTheCapture: a token of any other origin would be another one in the next run.
func TestTokensComeFromTheCapture(t *testing.T) {
	tokens := 0
	files := token.NewFileSet()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		parsed, err := parser.ParseFile(files, path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			pair, ok := n.(*ast.KeyValueExpr)
			if !ok {
				return true
			}
			if key, ok := pair.Key.(*ast.Ident); !ok || key.Name != "ClientToken" {
				return true
			}
			tokens++
			ours := false
			ast.Inspect(pair.Value, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "ClientToken" {
					x, ok := s.X.(*ast.Ident)
					ours = ours || ok && x.Name == "events"
				}
				return true
			})
			if !ours {
				t.Errorf("%s: the token is not of events.ClientToken", files.Position(pair.Pos()))
			}
			return true
		})
		return nil
	})
	if err != nil || tokens < 7 {
		t.Errorf("%d tokens found, %v", tokens, err)
	}
}
