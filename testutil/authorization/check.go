package authorization

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"flashtap/infra/policy"
)

// Kind says what a policy belongs to.
type Kind int

// The kinds of policies.
const (
	Identity Kind = iota // what a role may do
	Trust                // who may assume a role
	Resource             // who may do what with a resource
)

// Options say what a document is about.
type Options struct {
	Kind      Kind
	Self      string   // for the policy of a KMS key, in which Resource "*" means the key: its ARN
	Named     []string // what makes an ARN the deployment's own when it is part of it: the prefix of names, the bucket
	VolumeKey string   // ARN of the KMS key of collectors' disks, which is EC2's to use; "" = there is none
	Region    string
	TagKey    string // the deployment's tag, with which everything is born
	TagValue  string
	Reasons   bool // a Resource "*" must have its Reason; a template has lost them
	Exempt    []Exemption
}

// Exemption is a statement part to which a rule does not apply, and why.
type Exemption struct {
	Rule string
	On   string // action and type of resource, "ec2:RunInstances subnet", or the Sid
	Why  string
}

// Finding is a rule that a statement breaks.
type Finding struct {
	Sid, Rule, Detail string
}

func (f Finding) String() string { return f.Sid + ": " + f.Rule + ": " + f.Detail }

// The rules.
const (
	RuleForm     = "form"          // the grammar, and what a reader expects
	RuleAction   = "action"        // each action exists; none is a pattern
	RuleResource = "resource-type" // each resource is of a type on which an action acts, and the other way round
	RuleStar     = "star"          // Resource "*" only where AWS knows no type
	RuleKey      = "condition-key" // each key is known to each action and type, and compared by an operator for its type
	RuleBirth    = "request-tag"   // what is made bears the deployment's tag from birth
	RuleOwner    = "resource-tag"  // what is changed or deleted bears the tag, or is named
	RuleDemand   = "demand"        // what else certain actions must be bound to
	RuleWhole    = "whole"         // a call names all the resources that it needs
	RuleOpen     = "open"          // nobody is allowed by being anybody
)

// check is the state of checking one document.
type check struct {
	*Data
	Options
	findings []Finding
	sid      string
}

func (c *check) report(rule, on, format string, args ...any) {
	for _, e := range c.Exempt {
		if e.Rule == rule && (e.On == on || e.On == c.sid) {
			return
		}
	}
	f := Finding{c.sid, rule, fmt.Sprintf(format, args...)}
	if !slices.Contains(c.findings, f) {
		c.findings = append(c.findings, f)
	}
}

// Check holds every statement of a document against the data and the rules.
func (d *Data) Check(doc policy.Document, o Options) []Finding {
	c := &check{Data: d, Options: o}
	seen := map[string]bool{}
	if doc.Version != "2012-10-17" || len(doc.Statement) == 0 {
		c.report(RuleForm, "", "version %q with %d statements: policy variables and some operators need 2012-10-17", doc.Version, len(doc.Statement))
	}
	for i, st := range doc.Statement {
		c.sid = st.Sid
		if c.sid == "" {
			c.sid = fmt.Sprintf("statement %d", i+1)
		}
		if seen[c.sid] {
			c.report(RuleForm, "", "another statement has this Sid")
		}
		seen[c.sid] = true
		c.statement(st)
	}
	c.sid = "document"
	c.complete(doc)
	return c.findings
}

// sidForm is what IAM allows (IAM JSON policy elements: Sid).
var sidForm = regexp.MustCompile(`^[A-Za-z0-9]*$`)

func (c *check) statement(st policy.Statement) {
	c.form(st)
	pairs := c.pairs(st)
	c.keys(st, pairs)
	if st.Effect == policy.Allow {
		c.principals(st)
		for _, p := range pairs {
			c.owned(st, p)
			c.demands(st, p)
		}
	}
}

func (c *check) form(st policy.Statement) {
	if !sidForm.MatchString(st.Sid) {
		c.report(RuleForm, "", "a Sid consists of letters and digits")
	}
	if st.Effect != policy.Allow && st.Effect != policy.Deny {
		c.report(RuleForm, "", "effect %q", st.Effect)
	}
	if (len(st.Principal) > 0) == (c.Kind == Identity) {
		c.report(RuleForm, "", "a policy of a role has no Principal, and any other has one")
	}
	if (len(st.Resource) > 0) == (c.Kind == Trust) {
		c.report(RuleForm, "", "an assume-role policy has no Resource, and any other has one")
	}
	if len(st.Action) == 0 {
		c.report(RuleForm, "", "no action")
	}
	for what, list := range map[string][]string{"actions": st.Action, "resources": st.Resource} {
		for i, item := range list {
			if slices.Contains(list[:i], item) {
				c.report(RuleForm, "", "%s: %s twice", what, item)
			}
			if item == "" {
				c.report(RuleForm, "", "%s: an empty one", what)
			}
		}
	}
}

// pair is an action and a resource of a statement, with the type that the resource is for the action.
type pair struct {
	action   string
	service  *Service
	def      *Action
	on       *On // nil: the action knows no types
	resource string
}

// pairs takes a statement apart.
func (c *check) pairs(st policy.Statement) []pair {
	var list []pair
	used := map[string]bool{}
	for _, action := range st.Action {
		if prefix, rest, _ := strings.Cut(action, ":"); strings.ContainsAny(action, "*?") {
			// A denial of everything that a service does is the stronger for it.
			if st.Effect != policy.Deny || rest != "*" || c.Services[prefix] == nil {
				c.report(RuleAction, "", "%s is a pattern", action)
			}
			for _, r := range st.Resource {
				used[r] = true
			}
			continue
		}
		service, def := c.action(action)
		if def == nil {
			c.report(RuleAction, "", "%s: AWS knows no such action", action)
			continue
		}
		found := false
		for _, resource := range st.Resource {
			for _, p := range c.pairOf(action, service, def, resource) {
				list, found, used[resource] = append(list, p), true, true
			}
		}
		switch {
		case c.Kind == Trust:
			list = append(list, pair{action: action, service: service, def: def})
		case !found:
			c.report(RuleResource, "", "%s acts on none of the statement's resources", action)
		}
	}
	for _, resource := range st.Resource {
		if resource == "*" && c.Reasons && st.Reason == "" && c.Kind == Identity {
			c.report(RuleStar, "", "Resource \"*\" without a reason")
		}
		if !used[resource] {
			c.report(RuleResource, "", "%s: none of the statement's actions acts on it", resource)
		}
	}
	return list
}

func (c *check) pairOf(action string, service *Service, def *Action, resource string) []pair {
	if resource == "*" && c.Self != "" {
		resource = c.Self
	}
	if resource == "*" {
		if len(def.On) > 0 {
			c.report(RuleStar, action+" *", "%s can be bound to resources (%s), and names \"*\"", action, def.On[0].Type)
		}
		return []pair{{action, service, def, nil, resource}}
	}
	var list []pair
	for _, kind := range service.types(def, resource) {
		list = append(list, pair{action, service, def, def.on(kind), resource})
	}
	return list
}

// kind is the pair's type of resource.
func (p pair) kind() string {
	if p.on == nil {
		return "*"
	}
	return p.on.Type
}

// knows says whether a request of the pair carries a condition key.
func (p pair) knows(key string) bool {
	if matchesAny(key, p.def.ConditionKeys) {
		return true
	}
	if p.on == nil {
		return false
	}
	if matchesAny(key, p.on.ConditionKeys) {
		return true
	}
	// Tags of what is there already are also said of the type. Tags of the request never are: every type has them that can
	// be made by some action.
	kind := p.service.ResourceTypes[p.on.Type]
	return matchesKey(key, "aws:ResourceTag/${TagKey}") && len(p.on.ConditionKeys) == 0 && matchesAny(key, kind.ConditionKeys)
}

// keys looks at every condition. A key that a request does not carry makes a statement silently never match.
func (c *check) keys(st policy.Statement, pairs []pair) {
	for operator, keys := range st.Condition {
		for key, values := range keys {
			if len(values) == 0 || slices.Contains(values, "") {
				c.report(RuleKey, "", "%s %s has no value", operator, key)
			}
			global := c.globalType(key)
			if global != "" {
				c.operator(operator, key, global)
				continue
			}
			for _, s := range c.whole(st) {
				if kind := typeOf(key, s.ConditionKeys); kind != "" {
					c.operator(operator, key, kind)
				} else {
					c.report(RuleKey, "", "a service of which all is denied does not know %s", key)
				}
			}
			for _, p := range pairs {
				if !p.knows(key) {
					c.report(RuleKey, "", "%s does not know %s for %s", p.action, key, p.kind())
					continue
				}
				c.operator(operator, key, c.keyType(p.service, key))
			}
		}
	}
}

// whole are the services of which a statement names every action.
func (c *check) whole(st policy.Statement) []*Service {
	var list []*Service
	for _, action := range st.Action {
		if prefix, rest, _ := strings.Cut(action, ":"); rest == "*" && c.Services[prefix] != nil {
			list = append(list, c.Services[prefix])
		}
	}
	return list
}

// comparesAs are the operators by the type of keys that they compare (IAM JSON policy elements: condition operators).
var comparesAs = map[string][]string{
	"StringEquals": {"String", "ARN"}, "StringNotEquals": {"String", "ARN"}, "StringLike": {"String", "ARN"}, "StringNotLike": {"String", "ARN"},
	"ArnEquals": {"ARN"}, "ArnNotEquals": {"ARN"}, "ArnLike": {"ARN"}, "ArnNotLike": {"ARN"},
	"Bool":          {"Bool"},
	"NumericEquals": {"Numeric"}, "NumericLessThan": {"Numeric"}, "NumericGreaterThan": {"Numeric"},
	"NumericLessThanEquals": {"Numeric"}, "NumericGreaterThanEquals": {"Numeric"},
	"DateLessThan": {"Date"}, "DateGreaterThan": {"Date"},
	"IpAddress": {"IPAddress"}, "NotIpAddress": {"IPAddress"},
}

func (c *check) operator(operator, key, kind string) {
	base, set := operator, false
	for _, prefix := range []string{"ForAllValues:", "ForAnyValue:"} {
		if rest, found := strings.CutPrefix(base, prefix); found {
			base, set = rest, true
		}
	}
	if base == "Null" {
		return
	}
	base = strings.TrimSuffix(base, "IfExists")
	single, isList := strings.CutPrefix(kind, "ArrayOf")
	if isList != set {
		c.report(RuleKey, "", "%s compares %s, which is %s", operator, key, kind)
	}
	if !slices.Contains(comparesAs[base], single) {
		c.report(RuleKey, "", "%s is no operator for %s, which is %s", operator, key, kind)
	}
}

// principals refuses to allow anybody. A service is allowed for a certain source only, since it works for all accounts.
func (c *check) principals(st policy.Statement) {
	for kind, list := range st.Principal {
		for _, p := range list {
			switch {
			case strings.Contains(p, "*"):
				c.report(RuleOpen, "", "allows %s %s", kind, p)
			case c.Kind == Resource && kind == "Service" && !bound(st, "aws:SourceArn") && !bound(st, "aws:SourceAccount"):
				c.report(RuleOpen, "", "allows %s for everybody's sake", p)
			}
		}
	}
}

// bound says whether a statement names a key at all, in a way that a request without it does not match.
func bound(st policy.Statement, key string) bool {
	for operator, keys := range st.Condition {
		for k := range keys {
			if strings.EqualFold(k, key) && !lenient(st, operator, k) {
				return true
			}
		}
	}
	return false
}

// lenient says whether a request that does not carry the key matches, too.
func lenient(st policy.Statement, operator, key string) bool {
	if strings.HasPrefix(operator, "ForAllValues:") {
		return !slices.Equal(st.Condition["Null"][key], []string{"false"})
	}
	return strings.HasSuffix(operator, "IfExists") || strings.Contains(operator, "Not") && !strings.HasPrefix(operator, "ForAnyValue:")
}
