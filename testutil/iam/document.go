package iam

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// Policy is a policy document, read and checked.
type Policy struct {
	Name string // how a Result calls it

	variables  bool // are replaced only in documents of version 2012-10-17 (IAM User Guide, "Policy variables")
	statements []statement
}

// statement is one statement. What is nil was not there.
type statement struct {
	name                  string // its Sid, or its number
	deny                  bool
	principals            *principals
	action, notAction     []string
	resource, notResource []string
	conditions            []condition
}

// principals are the values of a Principal element.
type principals struct {
	everybody              bool
	aws, service, accounts []string // accounts by their ids: they stand for whoever the account itself lets
}

// Parse reads a document: text, or a value that encoding/json turns into one, such as a policy.Document or a part of a
// template in which nothing is left to resolve. What the grammar does not know, or this package does not, is an error.
func Parse(name string, document any) (*Policy, error) {
	text, ok := document.([]byte)
	if s, is := document.(string); is {
		text, ok = []byte(s), true
	}
	if !ok {
		var err error
		if text, err = json.Marshal(document); err != nil {
			return nil, fmt.Errorf("policy %s: %w", name, err)
		}
	}
	var raw struct {
		Version, ID string
		Statement   statements
	}
	if err := strictly(text, &raw); err != nil {
		return nil, fmt.Errorf("policy %s: %w", name, err)
	}
	p := &Policy{Name: name, variables: raw.Version == "2012-10-17"}
	if !p.variables && raw.Version != "2008-10-17" && raw.Version != "" {
		return nil, fmt.Errorf("policy %s: version %q is none of IAM's", name, raw.Version)
	}
	if len(raw.Statement) == 0 {
		return nil, fmt.Errorf("policy %s: it has no statement", name)
	}
	for i, r := range raw.Statement {
		s, err := r.read()
		if s.name == "" {
			s.name = "statement " + strconv.Itoa(i+1)
		}
		if err != nil {
			return nil, fmt.Errorf("policy %s, %s: %w", name, s.name, err)
		}
		p.statements = append(p.statements, s)
	}
	return p, nil
}

// MustParse is Parse for documents that a test wrote itself.
func MustParse(name string, document any) *Policy {
	p, err := Parse(name, document)
	if err != nil {
		panic(err)
	}
	return p
}

func strictly(text []byte, v any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	return decoder.Decode(v)
}

// statements are one statement or a list of them.
type statements []rawStatement

func (s *statements) UnmarshalJSON(text []byte) error {
	if len(text) > 0 && text[0] == '{' {
		text = append(append([]byte{'['}, text...), ']')
	}
	var list []rawStatement
	if err := strictly(text, &list); err != nil {
		return err
	}
	*s = list
	return nil
}

type rawStatement struct {
	Sid, Effect           string
	Principal             json.RawMessage
	Action, NotAction     list
	Resource, NotResource list
	Condition             map[string]map[string]list
}

// list is one text, number or boolean, or a list of those.
type list []string

func (l *list) UnmarshalJSON(text []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var v any
	if err := decoder.Decode(&v); err != nil {
		return err
	}
	values, several := v.([]any)
	if !several && v != nil {
		values = []any{v}
	}
	*l = nil
	for _, v := range values {
		switch v := v.(type) {
		case string:
			*l = append(*l, v)
		case json.Number:
			*l = append(*l, v.String())
		case bool:
			*l = append(*l, strconv.FormatBool(v))
		default:
			return fmt.Errorf("%s is no text; are a template's functions not resolved?", text)
		}
	}
	return nil
}

func (r rawStatement) read() (statement, error) {
	s := statement{name: r.Sid, deny: r.Effect == "Deny", action: r.Action, notAction: r.NotAction, resource: r.Resource, notResource: r.NotResource}
	if r.Effect != "Allow" && r.Effect != "Deny" {
		return s, fmt.Errorf("effect %q is neither Allow nor Deny", r.Effect)
	}
	if (len(s.action) > 0) == (len(s.notAction) > 0) {
		return s, fmt.Errorf("it needs one of Action and NotAction")
	}
	if len(s.resource) > 0 && len(s.notResource) > 0 {
		return s, fmt.Errorf("it has both Resource and NotResource")
	}
	for _, pattern := range append(append([]string{}, s.action...), s.notAction...) {
		if pattern != "*" && strings.Count(pattern, ":") != 1 {
			return s, fmt.Errorf("action %q is not of the form service:action", pattern)
		}
	}
	var err error
	if s.principals, err = readPrincipals(r.Principal); err != nil {
		return s, err
	}
	s.conditions, err = readConditions(r.Condition)
	return s, err
}

func readPrincipals(text json.RawMessage) (*principals, error) {
	if len(text) == 0 || string(text) == "null" {
		return nil, nil
	}
	if string(text) == `"*"` {
		return &principals{everybody: true}, nil
	}
	var byType map[string]list
	if err := json.Unmarshal(text, &byType); err != nil {
		return nil, fmt.Errorf("principal %s: %w", text, err)
	}
	p := &principals{}
	for kind, values := range byType {
		for _, v := range values {
			root, isRoot := strings.CutSuffix(v, ":root") // arn:aws:iam::123456789012:root
			switch {
			case kind == "Service":
				p.service = append(p.service, v)
			case kind != "AWS":
				return nil, fmt.Errorf("principals of type %s are not known here", kind)
			case v == "*":
				p.everybody = true
			case isRoot:
				p.accounts = append(p.accounts, root[strings.LastIndexByte(root, ':')+1:])
			case isAccount(v):
				p.accounts = append(p.accounts, v)
			case strings.ContainsAny(v, "*?"):
				return nil, fmt.Errorf("principal %q: AWS takes no wildcards in it", v)
			default:
				p.aws = append(p.aws, v)
			}
		}
	}
	return p, nil
}

func isAccount(s string) bool {
	const digits = 12 // AWS Account Management Reference Guide, "AWS account identifiers"
	return len(s) == digits && strings.Trim(s, "0123456789") == ""
}
