// Package infra_test proves what the state machine file promises: that it is valid, that it tears down whatever
// happens, that a day of capture fits into an execution, and that two engines read it alike.
package infra_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"flashtap/events"
	"flashtap/testutil/region/asl"
)

const captureFile = "capture.asl.json"

// placeholder is what the deployment fills in (CloudFormation, DefinitionSubstitutions).
var placeholder = regexp.MustCompile(`\$\{([A-Za-z0-9]+)\}`)

func readCapture(t testing.TB) []byte {
	t.Helper()
	text, err := os.ReadFile(captureFile)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// compile fills every placeholder with its own name.
func compile(definition []byte) (*asl.Machine, error) {
	values := map[string]string{}
	for _, found := range placeholder.FindAllSubmatch(definition, -1) {
		values[string(found[1])] = string(found[1])
	}
	return asl.Parse(definition, values)
}

func parse(t testing.TB, definition []byte) *asl.Machine {
	t.Helper()
	machine, err := compile(definition)
	if err != nil {
		t.Fatalf("parse %s: %v", captureFile, err)
	}
	return machine
}

// altered is a copy of a definition that alter has changed.
func altered(t testing.TB, definition []byte, alter func(document map[string]any)) []byte {
	t.Helper()
	var document map[string]any
	decoder := json.NewDecoder(bytes.NewReader(definition))
	decoder.UseNumber()
	if err := decoder.Decode(&document); err != nil {
		t.Fatal(err)
	}
	alter(document)
	return encoded(t, document)
}

// edited is a copy of a definition in which edit has changed the states.
func edited(t testing.TB, definition []byte, edit func(name string, state map[string]any)) []byte {
	t.Helper()
	return altered(t, definition, func(document map[string]any) {
		for name, state := range document["States"].(map[string]any) {
			edit(name, state.(map[string]any))
		}
	})
}

func encoded(t testing.TB, v any) json.RawMessage {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestStateMachineParses(t *testing.T) {
	definition := readCapture(t)
	parse(t, definition)

	// The parser must be one that can say no.
	for _, row := range []struct{ reason, old, new string }{
		{"a state that leads nowhere", `"Next": "Guard"`, `"Next": "Gard"`},
		{"a field of no state", `"ResultPath": "$.guard"`, `"ResultPth": "$.guard"`},
		{"a placeholder that nobody fills in", `"FunctionName": "${SealFunction}"`, `"FunctionName": "${SealFunction"`},
	} {
		t.Run(row.reason, func(t *testing.T) {
			if _, err := compile(replaceOnce(t, definition, row.old, row.new)); err == nil {
				t.Error("parsed")
			}
		})
	}
}

func replaceOnce(t testing.TB, text []byte, old, new string) []byte {
	t.Helper()
	if n := bytes.Count(text, []byte(old)); n != 1 {
		t.Fatalf("%q is in %s %d times, want once", old, captureFile, n)
	}
	return bytes.Replace(text, []byte(old), []byte(new), 1)
}

// TestValidators asks other people's validators, so that ours is not the only one to find the file good. Each must
// also find fault with a broken copy.
func TestValidators(t *testing.T) {
	tools := filepath.Join("testdata", "validators", "node_modules", ".bin")
	if _, err := os.Stat(tools); err != nil {
		unavailable(t, "the validators are not installed: make validators")
	}
	broken := filepath.Join(t.TempDir(), "broken.asl.json")
	if err := os.WriteFile(broken, replaceOnce(t, readCapture(t), `"Next": "Guard"`, `"Next": "Gard"`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range [][]string{{"asl-validator", "--json-path"}, {"statelint"}} {
		t.Run(command[0], func(t *testing.T) {
			run := func(file string) (string, error) {
				c := exec.CommandContext(t.Context(), filepath.Join(tools, command[0]), append(command[1:], file)...)
				words, err := c.CombinedOutput()
				return string(words), err
			}
			if words, err := run(captureFile); err != nil {
				t.Errorf("%v\n%s", err, words)
			}
			if words, err := run(broken); err == nil || !strings.Contains(words, "Gard") {
				t.Errorf("the broken copy passed: %v\n%s", err, words)
			}
		})
	}
}

// unavailable ends a test that needs a tool which this machine lacks: a laptop may, CI must not.
func unavailable(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(reason)
	}
	t.Skip(reason)
}

// TestEveryTaskIsBounded demands of each task what no validator demands: that it is tried again, that its failure
// leads somewhere, and that it can't hang for the 99,999,999 seconds that are the default.
func TestEveryTaskIsBounded(t *testing.T) {
	machine := parse(t, readCapture(t))
	if machine.TimeoutSeconds == 0 {
		t.Error("the machine has no TimeoutSeconds")
	}
	tasks := 0
	machine.Walk(func(s *asl.State) {
		if s.Type != asl.Task {
			return
		}
		tasks++
		if s.TimeoutSeconds == 0 {
			t.Errorf("%s has no TimeoutSeconds", s.Name)
		}
		if len(s.Retry) == 0 {
			t.Errorf("%s is never tried again", s.Name)
		}
		for i, r := range s.Retry {
			wildcardLast(t, s.Name, "Retry", r.ErrorEquals, i == len(s.Retry)-1)
		}
		if len(s.Catch) == 0 {
			t.Fatalf("%s lets the execution die", s.Name)
		}
		for i, c := range s.Catch {
			wildcardLast(t, s.Name, "Catch", c.ErrorEquals, i == len(s.Catch)-1)
		}
		if last := s.Catch[len(s.Catch)-1]; last.ErrorEquals[0] != "States.ALL" {
			t.Errorf("%s catches %v only", s.Name, last.ErrorEquals)
		}
	})
	if tasks < 15 {
		t.Errorf("only %d tasks were looked at", tasks)
	}
}

// wildcardLast: States.ALL stands alone and last (Step Functions Developer Guide, "Handling errors").
func wildcardLast(t *testing.T, state, field string, errorEquals []string, last bool) {
	t.Helper()
	for _, name := range errorEquals {
		if name == "States.ALL" && (len(errorEquals) > 1 || !last) {
			t.Errorf("%s: States.ALL is not alone and last in its %s", state, field)
		}
	}
}

// TestEveryFunctionHasAFolder: the deployment builds a Lambda from the folder that a placeholder names.
func TestEveryFunctionHasAFolder(t *testing.T) {
	names := map[string]bool{}
	for _, found := range placeholder.FindAllSubmatch(readCapture(t), -1) {
		names[string(found[1])] = true
	}
	if len(names) < 8 {
		t.Errorf("only %d placeholders were found: %v", len(names), names)
	}
	for name := range names {
		step, isFunction := strings.CutSuffix(name, "Function")
		if !isFunction {
			if name != "EventBus" {
				t.Errorf("nothing is known to fill in ${%s}", name)
			}
			continue
		}
		source, err := os.ReadFile(filepath.Join("..", "functions", strings.ToLower(step), "main.go"))
		if err != nil {
			t.Errorf("${%s}: %v", name, err)
		} else if !bytes.Contains(source, []byte("\npackage main\n")) {
			t.Errorf("${%s}: functions/%s is no program", name, strings.ToLower(step))
		}
	}
}

// TestNoWayAroundTeardown walks the graph: behind Guard, where the first thing is made, no execution ends without
// Teardown, unless it joined a capture that another execution holds.
func TestNoWayAroundTeardown(t *testing.T) {
	machine := parse(t, readCapture(t))
	for _, row := range []struct {
		reason, from string
		without      []string // these states
		nowhere      []string // it must not come here, nor to an end
	}{
		{"what Guard and Launch made is removed", "Guard", []string{"Teardown", "PublishJoined"}, []string{"Seal"}},
		{"the session goes before the collector", "Mirror", []string{"Unmirror"}, []string{"Teardown", "Seal"}},
		{"who joined leaves alone what another execution made", "PublishJoined", []string{"Joined"}, []string{"Teardown", "Unmirror", "Seal"}},
		{"who was refused has nothing to remove", "PublishRefused", []string{"Refused"}, []string{"Guard", "Teardown", "Seal"}},
	} {
		t.Run(row.reason, func(t *testing.T) {
			for _, name := range reachable(machine, row.from, row.without...) {
				if machine.States[name].Terminal() || slices.Contains(row.nowhere, name) {
					t.Errorf("%s can be reached from %s without %s", name, row.from, strings.Join(row.without, " or "))
				}
			}
			if all := reachable(machine, row.from); !slices.Contains(all, row.without[0]) {
				t.Errorf("%s can't be reached from %s at all", row.without[0], row.from)
			}
		})
	}
}

// reachable lists the states behind one, not passing those named.
func reachable(machine *asl.Machine, from string, without ...string) []string {
	var found []string
	for queue := []string{from}; len(queue) > 0; queue = queue[1:] {
		for _, way := range machine.States[queue[0]].Transitions() {
			if !slices.Contains(found, way.To) && !slices.Contains(without, way.To) {
				found = append(found, way.To)
				queue = append(queue, way.To)
			}
		}
	}
	return found
}

// TestEndpointTime: the deadline of a plan allows for the time in which the state machine asks for the endpoint again.
func TestEndpointTime(t *testing.T) {
	for _, r := range parse(t, readCapture(t)).States["Launch"].Retry {
		if !slices.Contains(r.ErrorEquals, "EndpointPending") {
			continue
		}
		var patience time.Duration
		for n := range r.MaxAttempts {
			patience += r.Delay(n)
		}
		if patience != events.EndpointTime {
			t.Errorf("it asks for %s, the deadline allows for %s", patience, events.EndpointTime)
		}
		return
	}
	t.Error("it does not ask again")
}
