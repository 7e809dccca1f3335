package asl

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// comparators are the families of operators that exist with a literal and, with the suffix "Path",
// with a path (states-language.net, Data-test expression).
var comparators = map[string][]string{
	"String":    {"Equals", "LessThan", "GreaterThan", "LessThanEquals", "GreaterThanEquals"},
	"Numeric":   {"Equals", "LessThan", "GreaterThan", "LessThanEquals", "GreaterThanEquals"},
	"Timestamp": {"Equals", "LessThan", "GreaterThan", "LessThanEquals", "GreaterThanEquals"},
	"Boolean":   {"Equals"},
}

var tests = []string{"IsPresent", "IsNull", "IsNumeric", "IsString", "IsBoolean", "IsTimestamp"}

// isOperator reports whether a field of a rule is an operator.
func isOperator(name string) bool {
	if name == "StringMatches" || slices.Contains(tests, name) {
		return true
	}
	family, relation := splitOperator(name)
	return slices.Contains(comparators[family], relation)
}

// splitOperator cuts "NumericLessThanPath" into "Numeric" and "LessThan".
func splitOperator(name string) (family, relation string) {
	name = strings.TrimSuffix(name, "Path")
	for family := range comparators {
		if relation, ok := strings.CutPrefix(name, family); ok {
			return family, relation
		}
	}
	return "", name
}

// compile checks the operand of a data test.
func (r *Rule) compile(value any) error {
	r.Value = encode(value)
	if strings.HasSuffix(r.Operator, "Path") {
		s, ok := value.(string)
		if !ok {
			return fmt.Errorf("%s is no path", kind(value))
		}
		var err error
		r.other, err = parsePath(s)
		return err
	}
	r.literal = value
	want, got := "string", kind(value)
	switch {
	case slices.Contains(tests, r.Operator), strings.HasPrefix(r.Operator, "Boolean"):
		want = "boolean"
	case strings.HasPrefix(r.Operator, "Numeric"):
		want = "number"
	}
	if got != want {
		return fmt.Errorf("a %s is needed, not %s", want, got)
	}
	switch {
	case r.Operator == "StringMatches":
		_, err := splitPattern(value.(string))
		return err
	case strings.HasPrefix(r.Operator, "Timestamp"):
		_, err := parseTimestamp(value.(string))
		return err
	}
	return nil
}

// decide evaluates a rule. The error is in the words of the service.
func (r *Rule) decide(in scope) (bool, error) {
	switch {
	case r.And != nil:
		for i := range r.And {
			if ok, err := r.And[i].decide(in); err != nil || !ok {
				return false, err
			}
		}
		return true, nil
	case r.Or != nil:
		for i := range r.Or {
			if ok, err := r.Or[i].decide(in); err != nil || ok {
				return ok, err
			}
		}
		return false, nil
	case r.Not != nil:
		ok, err := r.Not.decide(in)
		return !ok, err
	}
	if r.Operator == "IsPresent" {
		doc := in.doc
		if r.variable.context {
			doc = in.context
		}
		return r.variable.present(doc) == r.literal.(bool), nil
	}
	left, err := r.read(in, r.variable)
	if err != nil {
		return false, err
	}
	if slices.Contains(tests, r.Operator) {
		return is(r.Operator, left) == r.literal.(bool), nil
	}
	right := r.literal
	if r.other != nil {
		if right, err = r.read(in, r.other); err != nil {
			return false, err
		}
	}
	return r.compare(left, right), nil
}

func (r *Rule) read(in scope, p *path) (any, error) {
	v, ok := in.find(p)
	if !ok {
		return nil, &unresolved{errRuntime, fmt.Sprintf(
			"Invalid path '%s': The choice state's condition path references an invalid value.", p.source)}
	}
	return v, nil
}

// compare yields false for values of other types than the operator's.
func (r *Rule) compare(left, right any) bool {
	if r.Operator == "StringMatches" {
		s, ok := left.(string)
		pieces, _ := splitPattern(right.(string))
		return ok && matchPieces(s, pieces)
	}
	family, relation := splitOperator(r.Operator)
	var c int
	switch family {
	case "Boolean":
		a, aok := left.(bool)
		b, bok := right.(bool)
		return aok && bok && a == b
	case "String":
		a, aok := left.(string)
		b, bok := right.(string)
		if !aok || !bok {
			return false
		}
		c = strings.Compare(a, b)
	case "Numeric":
		a, aok := left.(json.Number)
		b, bok := right.(json.Number)
		if !aok || !bok {
			return false
		}
		c, _ = order(a, b)
	case "Timestamp":
		a, aok := asTimestamp(left)
		b, bok := asTimestamp(right)
		if !aok || !bok {
			return false
		}
		c = a.Compare(b)
	}
	ops := map[string]string{"LessThan": "<", "GreaterThan": ">", "LessThanEquals": "<=", "GreaterThanEquals": ">="}
	return holds(ops[relation], c)
}

func is(test string, v any) bool {
	switch test {
	case "IsNull":
		return v == nil
	case "IsNumeric":
		return kind(v) == "number"
	case "IsString":
		return kind(v) == "string"
	case "IsBoolean":
		return kind(v) == "boolean"
	}
	_, ok := asTimestamp(v)
	return ok
}

func asTimestamp(v any) (time.Time, bool) {
	s, ok := v.(string)
	if !ok {
		return time.Time{}, false
	}
	t, err := parseTimestamp(s)
	return t, err == nil
}

// parseTimestamp reads the profile of RFC 3339 that the language allows: with an uppercase T and,
// where no offset is given, an uppercase Z (states-language.net, Timestamps).
func parseTimestamp(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || strings.Contains(s, ",") {
		return time.Time{}, fmt.Errorf("%q is no timestamp", s)
	}
	return t, nil
}

// splitPattern cuts a StringMatches pattern at its wildcards. A backslash escapes an asterisk or
// itself and nothing else.
func splitPattern(pattern string) ([]string, error) {
	var pieces []string
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; c {
		case '*':
			pieces = append(pieces, b.String())
			b.Reset()
		case '\\':
			if i++; i == len(pattern) || pattern[i] != '*' && pattern[i] != '\\' {
				return nil, fmt.Errorf("a backslash escapes nothing in %q", pattern)
			}
			b.WriteByte(pattern[i])
		default:
			b.WriteByte(c)
		}
	}
	return append(pieces, b.String()), nil
}

// matchPieces reports whether s is the pieces in order with anything in between.
func matchPieces(s string, pieces []string) bool {
	first, last := pieces[0], pieces[len(pieces)-1]
	if len(pieces) == 1 {
		return s == first
	}
	if !strings.HasPrefix(s, first) || !strings.HasSuffix(s[len(first):], last) {
		return false
	}
	s = s[len(first) : len(s)-len(last)]
	for _, p := range pieces[1 : len(pieces)-1] {
		i := strings.Index(s, p)
		if i < 0 {
			return false
		}
		s = s[i+len(p):]
	}
	return true
}
