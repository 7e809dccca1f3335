// Package iam decides as AWS Identity and Access Management does, so that tests can hold policies against calls.
//
// It follows the IAM User Guide ("Policy evaluation logic") for requests within one account: identity policies, a
// permissions boundary, a resource policy. Service and resource control policies, session policies and other accounts
// are not played.
package iam

import (
	"fmt"
	"slices"
	"strings"
)

// Principal is who asks.
type Principal struct {
	ARN     string // of the role, or user
	Session string // ARN of the role's session, arn:aws:sts::123456789012:assumed-role/ROLE/SESSION; "" for a user
	Account string // id
	Service string // an AWS service that asks for itself, such as events.amazonaws.com; then the rest is empty
}

// Context holds the values of condition keys. Case does not matter in keys.
type Context map[string][]string

func (c Context) get(key string) ([]string, bool) {
	if values, ok := c[key]; ok {
		return values, true
	}
	for name, values := range c {
		if strings.EqualFold(name, key) {
			return values, true
		}
	}
	return nil, false
}

// Request is one question to IAM. A call may lead to several: one a resource.
type Request struct {
	Principal Principal
	Action    string // service:Action
	Resource  string // an ARN; "*" for an action that knows no resources
	Context   Context
}

// Policies are those that have a say in a request.
type Policies struct {
	Identity []*Policy
	Boundary *Policy // of the principal's permissions; nil for none
	Resource *Policy // nil for none
	// KeyPolicy says that nothing is allowed that the resource policy does not allow, to the principal itself or to
	// whoever the account lets: so it is with KMS keys ("Key policies in AWS KMS") and with the trust policies of roles.
	KeyPolicy bool
}

// Decision is what IAM says.
type Decision int

// Decisions. Only Allowed lets a request through.
const (
	ImplicitDeny Decision = iota // no statement allows it
	ExplicitDeny                 // a statement denies it
	Allowed
)

func (d Decision) String() string {
	return [...]string{"implicitly denied", "explicitly denied", "allowed"}[d]
}

// Result is a decision with its reason.
type Result struct {
	Decision
	By   string   // the statement that decided, as "policy/statement"; "" for an implicit denial
	Near []string // of an implicit denial: the statements that speak of the action and the resource, and what each misses
}

func (r Result) String() string {
	switch {
	case r.By != "":
		return r.Decision.String() + " by " + r.By
	case len(r.Near) > 0:
		return r.Decision.String() + ": " + strings.Join(r.Near, "; ")
	}
	return r.Decision.String() + ": no statement speaks of this action and resource"
}

// Evaluate decides about a request.
func Evaluate(r Request, p Policies) (Result, error) {
	v := verdict{request: r}
	for _, policy := range p.Identity {
		if err := v.hear(policy, ofIdentity); err != nil {
			return Result{}, err
		}
	}
	for _, each := range []struct {
		policy *Policy
		kind   kind
	}{{p.Boundary, ofBoundary}, {p.Resource, ofResource}} {
		if each.policy == nil {
			continue
		}
		if err := v.hear(each.policy, each.kind); err != nil {
			return Result{}, err
		}
	}
	return v.result(p), nil
}

// kind is where a policy hangs.
type kind int

const (
	ofIdentity kind = iota
	ofBoundary
	ofResource
)

// verdict collects what the policies say of a request: the first statement of each sort.
type verdict struct {
	request   Request
	denied    string
	allowed   [ofResource + 1]string // by the statement of that kind; of a resource policy: to the principal itself
	delegated string                 // by a resource policy to the principal's account
	bySession bool                   // the resource policy names the role's session, which no boundary limits
	near      []string
}

func (v *verdict) hear(p *Policy, k kind) error {
	for _, s := range p.statements {
		name := p.Name + "/" + s.name
		if (s.principals != nil) != (k == ofResource) {
			return fmt.Errorf("%s: a resource policy, and no other, has principals", name)
		}
		if k != ofResource && s.resource == nil && s.notResource == nil {
			return fmt.Errorf("%s: it needs one of Resource and NotResource", name)
		}
		to := toItself
		if k == ofResource {
			to = s.principals.match(v.request.Principal)
		}
		if to == toNobody || !p.speaksOf(s, v.request) {
			continue
		}
		missing, err := p.missing(s, v.request.Context)
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", name, err)
		case missing != "" && !s.deny:
			v.near = append(v.near, name+" wants "+missing)
		case missing != "":
		case s.deny:
			first(&v.denied, name)
		case to == toAccount:
			first(&v.delegated, name)
		default:
			first(&v.allowed[k], name)
			v.bySession = v.bySession || to == toSession
		}
	}
	return nil
}

func first(where *string, name string) {
	if *where == "" {
		*where = name
	}
}

// speaksOf says whether a statement is about the action and the resource.
func (p *Policy) speaksOf(s statement, r Request) bool {
	action := s.action != nil && matchesAction(s.action, r.Action) || s.notAction != nil && !matchesAction(s.notAction, r.Action)
	if !action {
		return false
	}
	switch {
	case s.resource != nil:
		return p.matchesResource(s.resource, r.Resource, r.Context)
	case s.notResource != nil:
		return !p.matchesResource(s.notResource, r.Resource, r.Context)
	}
	return true // a trust policy: its resource is the role that it hangs on
}

// result weighs what was said (IAM User Guide, "Policy evaluation logic": a denial overrides all, and within one account
// the identity's policies or the resource's may allow).
func (v *verdict) result(p Policies) Result {
	if v.denied != "" {
		return Result{Decision: ExplicitDeny, By: v.denied}
	}
	identity, resource := v.allowed[ofIdentity], v.allowed[ofResource]
	if p.KeyPolicy && resource == "" && v.delegated == "" {
		identity = ""
	}
	allowed := Result{Decision: Allowed, By: resource}
	switch {
	case resource != "" && (v.bySession || v.request.Principal.Service != ""):
		return allowed
	case resource == "" && identity == "":
		return Result{Near: v.near}
	case p.Boundary != nil && v.allowed[ofBoundary] == "":
		return Result{Near: append(v.near, "the permissions boundary "+p.Boundary.Name+" does not allow it")}
	case resource == "":
		allowed.By = identity
	}
	return allowed
}

// grantee is how a resource policy means a principal.
type grantee int

const (
	toNobody  grantee = iota
	toAccount         // the principal's account, which decides by its identity policies
	toItself
	toSession // the very session of a role
)

func (p *principals) match(who Principal) grantee {
	switch {
	case who.Service != "":
		if p.everybody || slices.Contains(p.service, who.Service) {
			return toItself
		}
		return toNobody
	case who.Session != "" && slices.Contains(p.aws, who.Session):
		return toSession
	case p.everybody || slices.Contains(p.aws, who.ARN):
		return toItself
	case slices.Contains(p.accounts, who.Account):
		return toAccount
	}
	return toNobody
}
