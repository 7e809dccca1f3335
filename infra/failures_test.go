package infra_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"flashtap/testutil/region/asl"
)

// TestEveryCatch fails every task of the state machine in every way that matters, with the real intervals on a clock
// that does not wait, and compares the ways through the states with those that were reviewed.
func TestEveryCatch(t *testing.T) {
	definition := readCapture(t)
	machine := parse(t, callee(t, definition))
	known := paths(15)
	outcomes := map[string]outcome{}
	visited := map[string]bool{}
	var text strings.Builder
	for _, s := range append(known, failures(t, parse(t, definition).Names, machine, known)...) {
		if _, twice := outcomes[s.name]; twice {
			t.Errorf("two scripts are called %q", s.name)
		}
		o := play(t, machine, s, encoded(t, request))
		obeys(t, o)
		outcomes[s.name] = o
		var base *outcome
		if s.base != "" {
			base = new(outcomes[s.base])
		}
		o.write(&text, base)
		for _, name := range o.trace {
			visited[name] = true
		}
	}
	for _, name := range machine.Names {
		if !visited[name] {
			t.Errorf("no script came through %s", name)
		}
	}
	golden(t, "traces.golden", text.String())
}

// play runs a script in our own interpreter, on a clock of its own.
func play(t *testing.T, machine *asl.Machine, s script, input json.RawMessage) outcome {
	t.Helper()
	var o outcome
	synctest.Test(t, func(t *testing.T) {
		p := &player{script: s}
		r, err := asl.Run(t.Context(), machine, input, asl.Options{Name: "execution", Tasks: p})
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range p.faults() {
			t.Errorf("%s: %v", s.name, err)
		}
		o = outcome{
			script: s.name, fails: s.fails, trace: r.Trace(), calls: p.calls, status: string(r.Status), error: r.Error, cause: r.Cause,
			inputs: map[string]json.RawMessage{}, events: len(r.Events), duration: r.Stopped.Sub(r.Started),
		}
		for _, e := range r.Events {
			if _, again := o.inputs[e.Name]; strings.HasSuffix(e.Type, "StateEntered") && !again {
				o.inputs[e.Name] = e.Input
			}
			o.largest = max(o.largest, len(e.Input), len(e.Output), len(e.Parameters))
		}
	})
	return o
}

// obeys holds an execution against the rules that every one must keep, whatever the golden file says.
func obeys(t *testing.T, o outcome) {
	t.Helper()
	has := func(name string) bool { return slices.Contains(o.trace, name) }
	last := o.trace[len(o.trace)-1]
	if has("Guard") && !has("PublishJoined") && !has("Teardown") {
		t.Errorf("%s: passed Guard, did not join and was not torn down: %v", o.script, o.trace)
	}
	if has("Mirror") && slices.Index(o.trace, "Unmirror") > slices.Index(o.trace, "Teardown") {
		t.Errorf("%s: the collector went before the session: %v", o.script, o.trace)
	}
	if ended := last == "Done" || last == "Joined"; ended != (o.status == "SUCCEEDED") {
		t.Errorf("%s: %s in %s", o.script, o.status, last)
	}
	if o.status == "FAILED" && (o.error == "" || o.error == "States.Runtime") {
		t.Errorf("%s: ends without the name of what went wrong: %q %q", o.script, o.error, o.cause)
	}
	for _, published := range []struct{ state, by string }{{"Refused", "PublishRefused"}, {"Leaking", "PublishLeaking"}, {"Stuck", "PublishStuck"}, {"Done", "PublishSealed"}} {
		if has(published.state) && !has(published.by) {
			t.Errorf("%s: came to %s in silence", o.script, published.state)
		}
	}
}

// write tells one execution: the way through the states, what was published and the end. What is as in the script that
// it was made from is left out.
func (o outcome) write(text *strings.Builder, base *outcome) {
	fmt.Fprintf(text, "%s\n", o.script)
	way := o.steps()
	switch {
	case base == nil:
	case slices.Equal(o.trace, base.trace):
		way = []string{"as when " + base.script}
		way[0] += fmt.Sprintf(", with %d calls of %s", o.tries()[o.fails], o.fails)
	default:
		same := 0
		for same < min(len(o.trace), len(base.trace)) && o.trace[same] == base.trace[same] {
			same++
		}
		from := min(max(0, same-1), slices.Index(o.trace, o.fails))
		way = append([]string{"..."}, way[from:]...)
	}
	for line := range wrapped(way, " > ", 110) {
		fmt.Fprintf(text, "    %s\n", line)
	}
	var published []string
	for _, c := range o.calls {
		if c.published && !slices.Contains(published, c.target) {
			published = append(published, c.target)
		}
	}
	if len(published) == 0 {
		published = []string{"nothing"}
	}
	fmt.Fprintf(text, "    publishes: %s\n", strings.Join(published, ", "))
	end := fmt.Sprintf("%s after %v %s %s", o.status, o.duration.Round(time.Second), o.error, o.cause)
	fmt.Fprintf(text, "    %s\n\n", strings.TrimSpace(end))
}

// tries counts the calls by state.
func (o outcome) tries() map[string]int {
	tries := map[string]int{}
	for _, c := range o.calls {
		tries[c.state]++
	}
	return tries
}

// steps is the trace, with the number of calls of a state that was entered once and called more often.
func (o outcome) steps() []string {
	visits := map[string]int{}
	for _, name := range o.trace {
		visits[name]++
	}
	tries := o.tries()
	var steps []string
	for _, name := range o.trace {
		if visits[name] == 1 && tries[name] > 1 {
			name += fmt.Sprintf(" (%d calls)", tries[name])
		}
		steps = append(steps, name)
	}
	return steps
}

// wrapped breaks a list into lines.
func wrapped(items []string, separator string, width int) func(func(string) bool) {
	return func(yield func(string) bool) {
		line := ""
		for i, item := range items {
			if i < len(items)-1 {
				item += separator
			}
			if len(line)+len(item) > width {
				if !yield(strings.TrimSpace(line)) {
					return
				}
				line = ""
			}
			line += item
		}
		yield(strings.TrimSpace(line))
	}
}

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares with a reviewed file.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got == string(want) {
		return
	}
	gotLines, wantLines := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range max(len(gotLines), len(wantLines)) {
		g, w := line(gotLines, i), line(wantLines, i)
		if g != w {
			t.Fatalf("%s, line %d: make golden, then review the difference\n got %q\nwant %q", path, i+1, g, w)
		}
	}
}

func line(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return ""
}
