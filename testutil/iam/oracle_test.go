package iam_test

import (
	"encoding/json"
	"testing"

	"flashtap/testutil/iam"
	"flashtap/testutil/iam/oracle"
)

// TestAnotherSimulatorDecidesTheSame asks it every row of the table but those that say why not.
func TestAnotherSimulatorDecidesTheSame(t *testing.T) {
	var names []string
	var wants []iam.Decision
	var questions []oracle.Simulation
	for _, r := range iam.Rows(t) {
		if r.Oracle != "" {
			continue
		}
		var d oracle.Documents
		if len(r.Identity) > 0 { // the simulator takes several, but one document says the same
			d.Identity = together(t, r.Identity)
		}
		if r.Boundary != "" {
			d.Boundary = json.RawMessage(r.Boundary)
		}
		if r.Resource != "" {
			d.Resource = json.RawMessage(r.Resource)
		}
		names, wants, questions = append(names, r.Name), append(wants, r.Want), append(questions, oracle.New(r.Request, d))
	}
	answers := oracle.Ask(t, "testdata/oracle", questions)
	for i, a := range answers {
		got, err := a.Decision()
		if err != nil || got != wants[i] {
			t.Errorf("%s: %s, we say %s (%v; it ignored %q)", names[i], got, wants[i], err, a.Ignored)
		}
	}
	t.Logf("%d decisions compared", len(answers))
}

// together puts the statements of several documents into one.
func together(t *testing.T, documents []string) any {
	t.Helper()
	version, statements := "", []any{}
	for _, text := range documents {
		var d struct {
			Version   string
			Statement any
		}
		if err := json.Unmarshal([]byte(text), &d); err != nil {
			t.Fatal(err)
		}
		version = d.Version
		if list, ok := d.Statement.([]any); ok {
			statements = append(statements, list...)
		} else {
			statements = append(statements, d.Statement)
		}
	}
	return map[string]any{"Version": version, "Statement": statements}
}
