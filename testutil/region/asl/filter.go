package asl

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
)

// filter is the test of a "[?( )]" step.
type filter interface{ match(node any) bool }

type (
	anyOf   []filter
	allOf   []filter
	noneOf  struct{ filter }
	exists  struct{ path *path }
	compare struct {
		left, right operand
		op          string
	}
	// operand is a path from the tested value or, if that is nil, a literal.
	operand struct {
		path    *path
		literal any
	}
)

const maxFilterDepth = 20

// parseFilter reads what follows "?".
func parseFilter(s *scanner) (filter, error) {
	s.space()
	if s.end() || s.peek() != '(' {
		return nil, fmt.Errorf("a filter needs parentheses")
	}
	return parsePrimary(s, 0)
}

func parseOr(s *scanner, depth int) (filter, error) {
	return parseList(s, "||", func() (filter, error) {
		return parseList(s, "&&", func() (filter, error) { return parsePrimary(s, depth) },
			func(l []filter) filter { return allOf(l) })
	}, func(l []filter) filter { return anyOf(l) })
}

func parseList(s *scanner, sep string, next func() (filter, error), join func([]filter) filter) (filter, error) {
	var list []filter
	for {
		f, err := next()
		if err != nil {
			return nil, err
		}
		list = append(list, f)
		if s.space(); !s.skip(sep) {
			break
		}
	}
	if len(list) == 1 {
		return list[0], nil
	}
	return join(list), nil
}

func parsePrimary(s *scanner, depth int) (filter, error) {
	if depth > maxFilterDepth {
		return nil, fmt.Errorf("a filter nested deeper than %d is not supported", maxFilterDepth)
	}
	s.space()
	switch {
	case s.skip("!"):
		f, err := parsePrimary(s, depth+1)
		return noneOf{f}, err
	case s.skip("("):
		f, err := parseOr(s, depth+1)
		if err != nil {
			return nil, err
		}
		if s.space(); !s.skip(")") {
			return nil, fmt.Errorf("a filter is not closed at %q", s.rest())
		}
		return f, nil
	}
	left, err := parseOperand(s)
	if err != nil {
		return nil, err
	}
	s.space()
	for _, op := range []string{"==", "!=", "<=", ">=", "=~", "<", ">"} {
		if !s.skip(op) {
			continue
		}
		if op == "=~" {
			return nil, fmt.Errorf("a regular expression is not supported")
		}
		right, err := parseOperand(s)
		return compare{left, right, op}, err
	}
	if left.path == nil {
		return nil, fmt.Errorf("a filter compares nothing at %q", s.rest())
	}
	return exists{left.path}, nil
}

func parseOperand(s *scanner) (operand, error) {
	s.space()
	switch {
	case s.end():
		return operand{}, fmt.Errorf("a filter is not closed")
	case s.skip("@"):
		p := &path{definite: true}
		err := p.parseSteps(s)
		if err == nil && !p.definite {
			err = fmt.Errorf("a filter takes only names and indexes after @")
		}
		return operand{path: p}, err
	case s.peek() == '\'' || s.peek() == '"':
		if s.skip("''") || s.skip(`""`) {
			return operand{literal: ""}, nil
		}
		text, err := s.quoted()
		return operand{literal: text}, err
	case s.skip("true"):
		return operand{literal: true}, nil
	case s.skip("false"):
		return operand{literal: false}, nil
	case s.skip("null"):
		return operand{}, nil
	}
	n, err := s.number()
	return operand{literal: n}, err
}

// number reads a JSON number.
func (s *scanner) number() (json.Number, error) {
	start := s.at
	for !s.end() && strings.IndexByte("+-0123456789.eE", s.peek()) >= 0 {
		s.at++
	}
	text := s.text[start:s.at]
	if text == "" || !json.Valid([]byte(text)) {
		return "", fmt.Errorf("%q is not understood", s.text[start:])
	}
	return json.Number(text), nil
}

func (f anyOf) match(node any) bool {
	for _, g := range f {
		if g.match(node) {
			return true
		}
	}
	return false
}

func (f allOf) match(node any) bool {
	for _, g := range f {
		if !g.match(node) {
			return false
		}
	}
	return true
}

func (f noneOf) match(node any) bool { return !f.filter.match(node) }

func (f exists) match(node any) bool { return f.path.present(node) }

func (f compare) match(node any) bool {
	left, lok := f.left.value(node)
	right, rok := f.right.value(node)
	if !lok || !rok {
		return f.op == "!=" && lok != rok
	}
	switch f.op {
	case "==":
		return equal(left, right)
	case "!=":
		return !equal(left, right)
	}
	c, ok := order(left, right)
	return ok && holds(f.op, c)
}

func (o operand) value(node any) (any, bool) {
	if o.path == nil {
		return o.literal, true
	}
	return o.path.find(node)
}

// order compares two numbers or two strings.
func order(a, b any) (int, bool) {
	switch a := a.(type) {
	case string:
		if b, ok := b.(string); ok {
			return strings.Compare(a, b), true
		}
	case json.Number:
		if b, ok := b.(json.Number); ok {
			x, y := double(a), double(b)
			switch {
			case math.IsNaN(x) || math.IsNaN(y):
				return 0, false
			case x < y:
				return -1, true
			case x > y:
				return 1, true
			}
			return 0, true
		}
	}
	return 0, false
}

func holds(op string, c int) bool {
	switch op {
	case "<":
		return c < 0
	case "<=":
		return c <= 0
	case ">":
		return c > 0
	case ">=":
		return c >= 0
	}
	return c == 0
}
