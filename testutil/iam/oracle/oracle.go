// Package oracle asks another simulator of IAM policies, @cloud-copilot/iam-simulate from npm, so that ours is not the
// only one to decide. It also knows the Service Authorization Reference, and refuses requests that AWS would never make.
//
// The simulator is under the AGPL. It runs as a program of its own, in tests only, and is no part of what ships.
package oracle

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"flashtap/testutil/iam"
)

// Simulation is one question, in the simulator's words.
type Simulation struct {
	Request                 request `json:"request"`
	IdentityPolicies        []named `json:"identityPolicies"`
	PermissionBoundaries    []named `json:"permissionBoundaryPolicies,omitempty"`
	ResourcePolicy          any     `json:"resourcePolicy,omitempty"`
	ServiceControlPolicies  []named `json:"serviceControlPolicies"`
	ResourceControlPolicies []named `json:"resourceControlPolicies"`
}

type request struct {
	Principal string   `json:"principal"`
	Action    string   `json:"action"`
	Resource  resource `json:"resource"`
	Context   any      `json:"contextVariables"`
}

type resource struct {
	ARN     string `json:"resource"`
	Account string `json:"accountId"`
}

type named struct {
	Name   string `json:"name"`
	Policy any    `json:"policy"`
}

// Documents are the policies of a request as documents: what encoding/json makes JSON of. Nil stands for none.
type Documents struct{ Identity, Boundary, Resource any }

// New makes a simulation of a request.
func New(r iam.Request, d Documents) Simulation {
	who := r.Principal.Session
	if who == "" {
		who = r.Principal.ARN + r.Principal.Service
	}
	values := map[string]any{}
	for key, list := range r.Context {
		if len(list) == 1 {
			values[key] = list[0]
		} else {
			values[key] = list
		}
	}
	account := r.Principal.Account
	if account == "" && len(r.Context["aws:SourceAccount"]) == 1 {
		account = r.Context["aws:SourceAccount"][0]
	}
	s := Simulation{
		Request:        request{Principal: who, Action: r.Action, Resource: resource{r.Resource, account}, Context: values},
		ResourcePolicy: d.Resource, IdentityPolicies: []named{}, ServiceControlPolicies: []named{}, ResourceControlPolicies: []named{},
	}
	if d.Identity != nil {
		s.IdentityPolicies = append(s.IdentityPolicies, named{"identity", d.Identity})
	}
	if d.Boundary != nil {
		s.PermissionBoundaries = []named{{"boundary", d.Boundary}}
	}
	return s
}

// Answer is what the simulator makes of a question.
type Answer struct {
	Result  string   // Allowed, ImplicitlyDenied or ExplicitlyDenied
	Ignored []string // condition keys that the action does not have on this type of resource
	Errors  string   // why it did not decide
}

// Decision is the answer in our words.
func (a Answer) Decision() (iam.Decision, error) {
	for word, d := range map[string]iam.Decision{"Allowed": iam.Allowed, "ImplicitlyDenied": iam.ImplicitDeny, "ExplicitlyDenied": iam.ExplicitDeny} {
		if a.Result == word {
			return d, nil
		}
	}
	return 0, fmt.Errorf("the other simulator said %q %s", a.Result, a.Errors)
}

// Ask runs the simulator that is installed in a folder, all questions at once. Where it is not installed, the test skips;
// in CI it fails.
func Ask(t testing.TB, folder string, questions []Simulation) []Answer {
	t.Helper()
	node, err := exec.LookPath("node")
	if err == nil {
		_, err = os.Stat(filepath.Join(folder, "node_modules"))
	}
	if err != nil {
		const reason = "the other simulator is not installed (make validators): "
		if os.Getenv("CI") == "true" {
			t.Fatal(reason, err)
		}
		t.Skip(reason, err)
	}
	text, err := json.Marshal(questions)
	if err != nil {
		t.Fatal(err)
	}
	// It has no eye for the keys of an encryption context, of which there are as many as contexts. A key that it knows,
	// and that is in no policy, stands in.
	text = bytes.ReplaceAll(text, []byte("kms:EncryptionContext:aws:s3:arn"), []byte("aws:PrincipalTag/context"))
	answers, err := run(t.Context(), node, folder, text)
	if err == nil && len(answers) != len(questions) {
		err = fmt.Errorf("%d answers to %d questions", len(answers), len(questions))
	}
	if err != nil {
		t.Fatal("ask the other simulator: ", err)
	}
	return answers
}

func run(ctx context.Context, node, folder string, questions []byte) ([]Answer, error) {
	cmd := exec.CommandContext(ctx, node, "simulate.mjs")
	cmd.Dir, cmd.Stdin = folder, bytes.NewReader(questions)
	var out, words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &words
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, words.Bytes())
	}
	var answers []Answer
	if err := json.Unmarshal(out.Bytes(), &answers); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, out.Bytes())
	}
	return answers, nil
}
