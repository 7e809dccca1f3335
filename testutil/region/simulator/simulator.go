// Package simulator is IAM's policy simulator on one machine: it says what the policies of a role, its permissions boundary
// and the organization's service control policies decide about an action, by the evaluator of testutil/iam.
package simulator

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"flashtap/testutil/iam"
)

// Role is a role to register.
type Role struct {
	ARN      string
	Policies []*iam.Policy // identity policies
	Boundary *iam.Policy   // nil for none
}

// Service is one account's simulator.
type Service struct {
	mu    sync.Mutex
	roles map[string]Role
	scps  []*iam.Policy
}

// AddRole registers a role, in place of one of the same ARN.
func (s *Service) AddRole(r Role) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.roles == nil {
		s.roles = map[string]Role{}
	}
	s.roles[r.ARN] = r
}

// Role is a role as it was registered.
func (s *Service) Role(arn string) (Role, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, known := s.roles[arn]
	return r, known
}

// RemoveRole forgets a role.
func (s *Service) RemoveRole(arn string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.roles, arn)
}

// SetSCPs sets the organization's service control policies, all of one level; none ends them. One of them must allow and none
// may deny (Organizations User Guide, "SCP evaluation").
func (s *Service) SetSCPs(policies ...*iam.Policy) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scps = policies
}

// notPlayed are the parameters that change the question in ways that this simulator does not know.
var notPlayed = []string{"PolicyInputList", "PermissionsBoundaryPolicyInputList", "ResourcePolicy", "ResourceOwner", "CallerArn", "Marker"}

// Handle answers a decoded call.
func (s *Service) Handle(operation string, params map[string]any) (map[string]any, error) {
	if operation != "SimulatePrincipalPolicy" {
		return nil, &Error{"InvalidAction", operation + " is not served here", http.StatusBadRequest}
	}
	for _, name := range notPlayed {
		if _, given := params[name]; given {
			return nil, &Error{"InvalidInput", name + " is not played here", http.StatusBadRequest}
		}
	}
	arn, _ := params["PolicySourceArn"].(string)
	s.mu.Lock()
	role, known := s.roles[arn]
	scps := slices.Clone(s.scps)
	s.mu.Unlock()
	if !known {
		return nil, &Error{"NoSuchEntity", fmt.Sprintf("The role with name %s cannot be found.", arn[strings.LastIndexByte(arn, '/')+1:]), http.StatusNotFound}
	}
	keys, err := entries(params["ContextEntries"])
	if err != nil {
		return nil, err
	}
	resources := texts(params["ResourceArns"])
	if len(resources) == 0 {
		resources = []string{"*"}
	}
	results := []any{}
	for _, action := range texts(params["ActionNames"]) {
		if strings.Count(action, ":") != 1 {
			return nil, &Error{"InvalidInput", "Invalid Entity Action: " + action, http.StatusBadRequest}
		}
		for _, resource := range resources {
			request := iam.Request{Principal: iam.Principal{ARN: arn, Account: accountOf(arn)}, Action: action, Resource: resource, Context: keys}
			result, err := simulate(request, role, scps)
			if err != nil {
				return nil, &Error{"PolicyEvaluation", err.Error(), http.StatusInternalServerError}
			}
			results = append(results, result)
		}
	}
	return map[string]any{"EvaluationResults": results, "IsTruncated": false}, nil
}

// simulate decides about one action on one resource. IAM lists missing context keys beside the resource that they were
// missing for, unless that is "*" (IAM API reference, EvaluationResult).
func simulate(r iam.Request, role Role, scps []*iam.Policy) (map[string]any, error) {
	decided, err := iam.Evaluate(r, iam.Policies{Identity: role.Policies, Boundary: role.Boundary})
	if err != nil {
		return nil, err
	}
	decision := decided.Decision
	m := map[string]any{"EvalActionName": r.Action, "EvalResourceName": r.Resource, "MatchedStatements": []any{}}
	specific := map[string]any{"EvalResourceName": r.Resource, "MatchedStatements": []any{}}
	if decided.By != "" {
		name, _, _ := strings.Cut(decided.By, "/")
		matched := []any{map[string]any{"SourcePolicyId": name, "SourcePolicyType": "role"}}
		m["MatchedStatements"], specific["MatchedStatements"] = matched, matched
	}
	if role.Boundary != nil {
		inside, err := iam.Evaluate(r, iam.Policies{Identity: []*iam.Policy{role.Boundary}})
		if err != nil {
			return nil, err
		}
		detail := map[string]any{"AllowedByPermissionsBoundary": inside.Decision == iam.Allowed}
		m["PermissionsBoundaryDecisionDetail"], specific["PermissionsBoundaryDecisionDetail"] = detail, detail
	}
	if len(scps) > 0 {
		said, err := iam.Evaluate(r, iam.Policies{Identity: scps})
		if err != nil {
			return nil, err
		}
		if said.Decision == iam.ExplicitDeny || decision == iam.Allowed {
			decision = said.Decision
		}
		m["OrganizationsDecisionDetail"] = map[string]any{"AllowedByOrganizations": said.Decision == iam.Allowed}
	}
	missing := missingKeys(r, role)
	word := map[iam.Decision]string{iam.Allowed: "allowed", iam.ExplicitDeny: "explicitDeny", iam.ImplicitDeny: "implicitDeny"}[decision]
	m["EvalDecision"], specific["EvalResourceDecision"] = word, word
	if r.Resource == "*" {
		m["MissingContextValues"] = missing
	} else {
		specific["MissingContextValues"] = missing
		m["ResourceSpecificResults"] = []any{specific}
	}
	return m, nil
}

func missingKeys(r iam.Request, role Role) []any {
	policies := slices.Clone(role.Policies)
	if role.Boundary != nil {
		policies = append(policies, role.Boundary)
	}
	missing := []any{}
	for _, p := range policies {
		for _, key := range p.Keys(r) {
			given := slices.Contains(missing, any(key))
			for name := range r.Context {
				given = given || strings.EqualFold(name, key)
			}
			if !given {
				missing = append(missing, key)
			}
		}
	}
	return missing
}

// entries are the context keys of the call.
func entries(list any) (iam.Context, error) {
	c := iam.Context{}
	items, _ := list.([]any)
	for _, item := range items {
		m, _ := item.(map[string]any)
		name, _ := m["ContextKeyName"].(string)
		kind, _ := m["ContextKeyType"].(string)
		values := texts(m["ContextKeyValues"])
		if name == "" || kind == "" || len(values) == 0 {
			return nil, &Error{"InvalidInput", "A context entry needs a name, a type and values", http.StatusBadRequest}
		}
		if len(values) > 1 && !strings.HasSuffix(kind, "List") {
			return nil, &Error{"InvalidInput", fmt.Sprintf("The context key %s of type %s has several values", name, kind), http.StatusBadRequest}
		}
		c[name] = values
	}
	return c, nil
}

func texts(list any) []string {
	items, _ := list.([]any)
	var out []string
	for _, item := range items {
		if text, ok := item.(string); ok {
			out = append(out, text)
		}
	}
	return out
}

// accountOf is the account in an ARN.
func accountOf(arn string) string {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) < 6 {
		return ""
	}
	return parts[4]
}

// Error is a refusal as IAM words it.
type Error struct {
	code, message string
	status        int
}

func (e *Error) Error() string   { return e.code + ": " + e.message }
func (e *Error) Code() string    { return e.code }
func (e *Error) Message() string { return e.message }
func (e *Error) Status() int     { return e.status }
