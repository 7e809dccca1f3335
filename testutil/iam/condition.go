package iam

import (
	"fmt"
	"slices"
	"strings"
)

// condition is one key under one operator.
type condition struct {
	operator string // as written
	key      string
	values   []string

	set      string // forAll, forAny or ""
	base     operator
	ifExists bool
	null     bool
}

// The qualifiers of operators for keys with several values (IAM User Guide, "Set operators for multivalued context
// keys").
const (
	forAll = "ForAllValues"
	forAny = "ForAnyValue"
)

// severalValues are the keys that may have more than one value. Asked for without a qualifier, the answer would depend on
// the request.
var severalValues = []string{
	"aws:TagKeys", "aws:CalledVia", "aws:PrincipalOrgPaths", "aws:ResourceOrgPaths", "aws:SourceOrgPaths", "aws:VpceOrgPaths",
	"kms:EncryptionContextKeys", "kms:ResourceAliases", "events:source", "aws:PrincipalServiceNamesList",
}

func readConditions(raw map[string]map[string]list) ([]condition, error) {
	var conditions []condition
	for name, byKey := range raw {
		for key, values := range byKey {
			c := condition{operator: name, key: key, values: values}
			if err := c.read(); err != nil {
				return nil, err
			}
			conditions = append(conditions, c)
		}
	}
	// A map has no order, and what is found missing first should not change from run to run.
	slices.SortFunc(conditions, func(a, b condition) int { return strings.Compare(a.operator+" "+a.key, b.operator+" "+b.key) })
	return conditions, nil
}

func (c *condition) read() error {
	name := c.operator
	if set, rest, qualified := strings.Cut(name, ":"); qualified {
		if set != forAll && set != forAny {
			return fmt.Errorf("condition operator %q is not known", c.operator)
		}
		c.set, name = set, rest
	}
	if name == "Null" && c.set == "" {
		c.null = true
		for _, v := range c.values {
			if v != "true" && v != "false" {
				return fmt.Errorf("condition %s: %q is neither true nor false", c, v)
			}
		}
	} else {
		name, c.ifExists = strings.CutSuffix(name, "IfExists")
		var known bool
		if c.base, known = operators[name]; !known {
			return fmt.Errorf("condition operator %q is not known", c.operator)
		}
	}
	if len(c.values) == 0 {
		return fmt.Errorf("condition %s has no value", c)
	}
	several := slices.ContainsFunc(severalValues, func(key string) bool { return strings.EqualFold(key, c.key) })
	if several && c.set == "" && !c.null {
		return fmt.Errorf("condition %s: the key may have several values, so the operator needs %s or %s", c, forAll, forAny)
	}
	return nil
}

func (c condition) String() string { return c.operator + " " + c.key }

// missing says which condition of a statement does not hold; "" when all do.
func (p *Policy) missing(s statement, with Context) (string, error) {
	for _, c := range s.conditions {
		holds, err := p.holds(c, with)
		if err != nil {
			return "", fmt.Errorf("condition %s: %w", c, err)
		}
		if !holds {
			got, there := with.get(c.key)
			if !there {
				return fmt.Sprintf("%s %q, and the key is not there", c, c.values), nil
			}
			return fmt.Sprintf("%s %q, and it is %q", c, c.values, got), nil
		}
	}
	return "", nil
}

// holds says whether a condition is met. A key that is not there meets the operators that say "not", and those that end
// with IfExists (IAM User Guide, "IAM JSON policy elements: Condition operators").
func (p *Policy) holds(c condition, with Context) (bool, error) {
	got, there := with.get(c.key)
	if c.null {
		return slices.Contains(c.values, fmt.Sprint(!there)), nil
	}
	if len(got) == 0 {
		return c.set == forAll || c.ifExists || c.set == "" && c.base.not, nil
	}
	if c.set == "" && len(got) > 1 {
		return false, fmt.Errorf("the key has the values %q, so the operator needs %s or %s", got, forAll, forAny)
	}
	for _, value := range got {
		holds, err := p.meets(c, value, with)
		if err != nil {
			return false, err
		}
		if holds != (c.set == forAll) { // the first exception decides
			return holds, nil
		}
	}
	return c.set == forAll, nil
}

// meets compares one value of the request with the alternatives of the policy.
func (p *Policy) meets(c condition, value string, with Context) (bool, error) {
	for _, pattern := range c.values {
		wanted, ok := newGlob(pattern, p.variables, c.base.wildcards, with)
		if !ok {
			continue // a variable without a value is equal to nothing
		}
		same, err := c.base.compare(value, wanted)
		if err != nil {
			return false, err
		}
		if same {
			return !c.base.not, nil
		}
	}
	return c.base.not, nil
}
