package boot

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/aws/smithy-go"
)

// TestEdge: the Go runtime of Lambda reports the name of the outermost type, by reflection, and a pointer's is that of
// what it points to. The state machine matches that name.
func TestEdge(t *testing.T) {
	throttled := &smithy.GenericAPIError{Code: "RequestLimitExceeded"}
	for name, row := range map[string]struct {
		err  error
		want string
	}{
		"NotMirrorable":             {NotMirrorable{Source: "eni-1", Reason: "T2"}, "NotMirrorable"},
		"NoPlace":                   {NoPlace{}, "NoPlace"},
		"BadRequest":                {BadRequest{}, "BadRequest"},
		"SourceBusy":                {SourceBusy{}, "SourceBusy"},
		"NoCapacity":                {NoCapacity{}, "NoCapacity"},
		"CollectorNotReady":         {CollectorNotReady{}, "CollectorNotReady"},
		"CollectorDied":             {CollectorDied{}, "CollectorDied"},
		"Transient":                 {Transient{throttled}, "Transient"},
		"a pointer to it":           {&NoCapacity{}, "NoCapacity"},
		"wrapped once":              {fmt.Errorf("launch: %w", NoCapacity{}), "NoCapacity"},
		"wrapped twice":             {fmt.Errorf("step: %w", fmt.Errorf("launch: %w", SourceBusy{})), "SourceBusy"},
		"among others":              {errors.Join(errors.New("a"), CollectorDied{}), "CollectorDied"},
		"with its capture in front": {Errorf("20260102T030405Z-eni-00000001", "launch: %w", NoPlace{}), "NoPlace"},
		"AWS is busy":               {fmt.Errorf("run instances: %w", throttled), "Transient"},
		"a cause behind a name":     {fmt.Errorf("x: %w", Transient{NoPlace{}}), "Transient"},
		"anything else":             {errors.New("plan is about another capture"), "StepFailed"},
		"AWS says no":               {&smithy.GenericAPIError{Code: "UnauthorizedOperation"}, "StepFailed"},
		"nothing is there":          {fmt.Errorf("read plan: %w", fs.ErrNotExist), "StepFailed"},
	} {
		edge := Edge(row.err)
		if got := typeName(edge); got != row.want {
			t.Errorf("%s is reported as %s, want %s", name, got, row.want)
		}
		kind := reflect.TypeOf(edge)
		if kind.Kind() == reflect.Pointer {
			kind = kind.Elem()
		}
		if kind.Name() != row.want {
			t.Errorf("%s would be reported as %s by Lambda, want %s", name, kind.Name(), row.want)
		}
		if edge.Error() == "" {
			t.Errorf("%s says nothing", name)
		}
	}
	if Edge(nil) != nil {
		t.Error("success becomes an error")
	}
}

// TestEdgeKeepsTheCause: what made a step fail must be found in the execution's history.
func TestEdgeKeepsTheCause(t *testing.T) {
	for _, cause := range []error{errors.New("disk on fire"), &smithy.GenericAPIError{Code: "RequestLimitExceeded", Message: "disk on fire"}} {
		edge := Edge(fmt.Errorf("run instances: %w", cause))
		if !errors.Is(edge, cause) || !strings.Contains(edge.Error(), "disk on fire") || !strings.Contains(edge.Error(), "run instances") {
			t.Errorf("%T says %v", edge, edge)
		}
	}
}

// TestEveryNamedErrorIsMarked: an error type of this package without the mark would reach the state machine as
// StepFailed, and a Retry or Catch by its name would never match.
func TestEveryNamedErrorIsMarked(t *testing.T) {
	methods := map[string]map[string]bool{}
	files := token.NewFileSet()
	for _, file := range []string{"boot.go", "errors.go"} {
		parsed, err := parser.ParseFile(files, file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range parsed.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Recv == nil {
				continue
			}
			receiver, ok := f.Recv.List[0].Type.(*ast.Ident)
			if !ok {
				continue
			}
			if methods[receiver.Name] == nil {
				methods[receiver.Name] = map[string]bool{}
			}
			methods[receiver.Name][f.Name.Name] = true
		}
	}
	found := 0
	for name, has := range methods {
		if !has["Error"] {
			continue
		}
		found++
		if !has["StateMachineError"] && name != "StepFailed" {
			t.Errorf("%s is an error without the mark", name)
		}
	}
	if found < 10 {
		t.Errorf("%d error types found; the test looks in the wrong place", found)
	}
}

// TestStateMachineMatchesWhatExists: a name in a Retry or Catch that no step reports is a misspelling.
func TestStateMachineMatchesWhatExists(t *testing.T) {
	known := map[string]bool{}
	for _, err := range []error{NotMirrorable{}, NoPlace{}, BadRequest{}, SourceBusy{}, EndpointPending{}, NoCapacity{}, CollectorNotReady{}, CollectorDied{}, Transient{errors.New("")}, StepFailed{errors.New("")}} {
		known[typeName(err)] = true
	}
	text, err := os.ReadFile("../../../infra/capture.asl.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range errorNames(t, text) {
		if !known[name] && !strings.HasPrefix(name, "Lambda.") && !strings.HasPrefix(name, "States.") && !strings.HasPrefix(name, "Sandbox.") && !strings.HasPrefix(name, "Runtime.") {
			t.Errorf("the state machine matches %s, which no step reports", name)
		}
	}
}

// errorNames are all that any Retry or Catch of a definition matches.
func errorNames(t *testing.T, definition []byte) []string {
	t.Helper()
	var machine struct {
		States map[string]struct {
			Retry, Catch []struct{ ErrorEquals []string }
		}
	}
	if err := json.Unmarshal(definition, &machine); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, state := range machine.States {
		for _, rule := range append(state.Retry, state.Catch...) {
			names = append(names, rule.ErrorEquals...)
		}
	}
	if len(names) == 0 {
		t.Fatal("nothing is matched at all")
	}
	return names
}

func TestTool(t *testing.T) {
	if got := Tool("seal"); got != "flashtap seal "+Version {
		t.Errorf("tool %q", got)
	}
}
