package deployment_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"flashtap/infra/policy"
	"flashtap/testutil/iam"
	"flashtap/testutil/iam/oracle"
)

// askAnother asks another simulator about every sort of call, allowed and forbidden. It also holds each request against the
// Service Authorization Reference: an action that does not exist, a resource that is none of the action's, or a condition
// key that the action has not, is a mistake in how we describe calls.
func (w *account) askAnother(t *testing.T) {
	documents := map[string]policy.Document{}
	for _, role := range policy.Roles() {
		documents[role.Name] = role.Policy(w.scope)
	}
	documents[operator] = policy.Operator(w.scope)
	resources := w.resourceDocuments()
	type question struct {
		name string
		ours iam.Result
		real bool // of a call that is made, not of one that we thought out
	}
	var questions []question
	var simulations []oracle.Simulation
	seen := map[string]bool{}
	ask := func(name, role string, r iam.Request, real bool) {
		id := fmt.Sprint(role, r.Action, class(r.Resource))
		if !real { // the other simulator is slow, so one of each kind of change to each action must do
			kind, _, _ := strings.Cut(name, ":")
			id = fmt.Sprint(role, r.Action, kind)
		}
		if seen[id] || role == "" {
			return
		}
		seen[id] = true
		var d oracle.Documents
		if document, ok := documents[role]; ok {
			d.Identity = document
		}
		if document, ok := resources[w.guards(r.Resource)]; ok {
			d.Resource = document
		}
		questions = append(questions, question{role + ": " + name + ": " + r.Action + " on " + r.Resource, w.decide(t, role, r), real})
		simulations = append(simulations, oracle.New(r, d))
	}
	for _, m := range w.made {
		for _, r := range m.requests {
			ask(m.what, m.role, r, true)
		}
	}
	roles := policy.Roles()
	for i, f := range w.forbidden() {
		// What is the same for every role is asked of one role each, in turn.
		if everyones := strings.HasPrefix(f.name, othersDo) || strings.HasPrefix(f.name, nobodyDoes); everyones && roles[i%len(roles)].Name != f.role {
			continue
		}
		for _, r := range f.requests {
			ask(f.name, f.role, r, false)
		}
	}
	answers := oracle.Ask(t, "../iam/testdata/oracle", simulations)
	compared, unknown := 0, map[string]int{}
	for i, q := range questions {
		a := answers[i]
		got, err := a.Decision()
		if err != nil {
			if q.real {
				text, _ := json.Marshal(simulations[i].Request)
				t.Errorf("%s: %v\n%s", q.name, err, text)
			}
			unknown[a.Errors]++
			continue
		}
		compared++
		if got != q.ours.Decision {
			t.Errorf("%s: we say %s, the other simulator %s (it ignored %q)", q.name, q.ours, got, a.Ignored)
		}
		for _, key := range a.Ignored {
			if q.real {
				t.Errorf("%s: the action has no condition key %s", q.name, key)
			}
		}
	}
	t.Logf("%d decisions compared; forbidden requests that the other simulator would not decide, by its reason: %v", compared, unknown)
}
