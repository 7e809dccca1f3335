package stacks_test

import (
	"reflect"
	"strings"
	"testing"

	"flashtap/infra/policy"
	"flashtap/testutil/authorization"
)

// TestPoliciesAreThoseOfThePackage: each document in the templates is one that infra/policy makes, so that what is proven
// about these is proven about what is deployed.
func TestPoliciesAreThoseOfThePackage(t *testing.T) {
	for _, s := range []synthesized{plain, full} {
		t.Run(s.name, func(t *testing.T) {
			scope := s.config.Scope(s.place(t))
			want := map[string]policy.Document{
				"evidence EvidenceBucketPolicy": policy.EvidenceBucket(scope),
				"evidence EvidenceKey":          policy.EvidenceKey(scope),
				"evidence SigningKey":           policy.SigningKey(scope),
				"control AlertsPolicy":          policy.Topic(scope),
				"control Bus":                   policy.Bus(scope),
				"control IntakeQueuePolicy":     policy.Queue(scope, policy.IntakeQueue),
				"control IntakeDlqQueuePolicy":  policy.Queue(scope, policy.IntakeDeadLetter),
				"control WaitingQueuePolicy":    policy.Queue(scope, policy.WaitingQueue),
				"control WaitingDlqQueuePolicy": policy.Queue(scope, policy.WaitingDeadLetter),
			}
			for _, r := range policy.Roles() {
				stack := "control"
				if r.Name == "collector" {
					stack = "collector"
				}
				id := stack + " " + strings.ToUpper(r.Name[:1]) + r.Name[1:] + "Role "
				want[id+r.Name], want[id+"trust"] = r.Policy(scope), r.Trust(scope)
			}
			for _, r := range policy.SpokeRoles() {
				if id := "spoke " + strings.ToUpper(r.Name[:1]) + r.Name[1:] + "Role "; s.config.HubAccount != "" {
					want[id+r.Name], want[id+"trust"] = r.Policy(scope), policy.SpokeTrust(scope, s.config.HubAccount)
				}
			}
			got, err := s.Policies(scope)
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range got {
				expected, known := want[n.Name]
				delete(want, n.Name)
				if !known {
					if n.Name != "evidence AccessLogsPolicy" { // services write there, and nobody else
						t.Errorf("%s is nowhere in infra/policy", n.Name)
					}
					continue
				}
				if !reflect.DeepEqual(plainly(t, n.Document), plainly(t, expected)) {
					t.Errorf("%s\nin the template %v\nin infra/policy %v", n.Name, plainly(t, n.Document), plainly(t, expected))
				}
			}
			for name := range want {
				t.Errorf("%s is in infra/policy, but not in the templates", name)
			}
		})
	}
}

func plainly(t *testing.T, d policy.Document) map[string]any {
	t.Helper()
	m, err := d.Map()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestPoliciesOfTheTemplatesStandTheCheck holds every document, also those that belong to no role, against AWS's own list of
// actions, resources and keys.
func TestPoliciesOfTheTemplatesStandTheCheck(t *testing.T) {
	data, err := authorization.Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []synthesized{plain, full} {
		scope := s.config.Scope(s.place(t))
		documents, err := s.Policies(scope)
		if err != nil {
			t.Fatal(err)
		}
		if len(documents) < 2*len(policy.Roles()) {
			t.Errorf("%s: only %d documents were found", s.name, len(documents))
		}
		for _, n := range documents {
			for _, f := range data.Check(n.Document, n.Options) {
				t.Errorf("%s: %s", s.name, n.String(f))
			}
		}
	}
}

// TestPoliciesFitIntoRoles: a role's inline policies have 10,240 characters at most, without white space (IAM User Guide, "IAM and
// AWS STS quotas").
func TestPoliciesFitIntoRoles(t *testing.T) {
	const most = 10240
	for _, s := range []synthesized{plain, full} {
		scope := s.config.Scope(s.place(t))
		for _, r := range policy.Roles() {
			if size := authorization.Size(r.Policy(scope)); size > most {
				t.Errorf("%s: %s has %d characters", s.name, r.Name, size)
			}
		}
	}
}

// TestEveryRoleHasTheBoundary that was asked for, and none of AWS's or anybody's managed policies.
func TestEveryRoleHasTheBoundary(t *testing.T) {
	for _, s := range []synthesized{plain, full} {
		var want any
		if s.config.PermissionsBoundary != "" {
			want = "arn:aws:iam::" + account + ":policy/" + s.config.PermissionsBoundary
		}
		for _, r := range s.resources(t, "AWS::IAM::Role") {
			if got := r.Properties["PermissionsBoundary"]; got != want {
				t.Errorf("%s: %s has the boundary %v, want %v", s.name, r.ID, got, want)
			}
			if r.Properties["ManagedPolicyArns"] != nil {
				t.Errorf("%s: %s has managed policies", s.name, r.ID)
			}
		}
	}
}
