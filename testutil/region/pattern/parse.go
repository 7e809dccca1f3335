package pattern

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// maxRules is how many combinations $or may make (user guide, "Comparison operators": complex example with $or).
const maxRules = 1000

// reservedInOr may not name a field below $or, for AWS could not tell such a field from an operator (event-ruler README,
// "The $or Primitive").
var reservedInOr = []string{"exactly", "equals-ignore-case", "prefix", "suffix", "anything-but", "exists", "wildcard",
	"numeric", "cidr", "=", "<", "<=", ">", ">="}

func parse(source []byte) ([]rule, error) {
	root, err := decode(source)
	if err != nil {
		return nil, err
	}
	if root.members == nil {
		return nil, errors.New("the pattern is not a JSON object")
	}
	alternatives := []map[string][]test{{}}
	if alternatives, err = object(root, "", false, alternatives); err != nil {
		return nil, err
	}
	rules := make([]rule, 0, len(alternatives))
	for _, tests := range alternatives {
		r := make(rule, 0, len(tests))
		for path, t := range tests {
			r = append(r, clause{path, t})
		}
		slices.SortFunc(r, func(a, b clause) int { return strings.Compare(a.path, b.path) })
		rules = append(rules, r)
	}
	return rules, nil
}

// object adds what an object of the pattern asks to each of the alternatives found so far. A path that is named twice
// keeps the last of its tests.
func object(n *node, path string, inOr bool, alternatives []map[string][]test) ([]map[string][]test, error) {
	if len(n.members) == 0 {
		return nil, fault(path, "empty objects are not allowed")
	}
	for _, m := range n.members {
		if m.name == "$or" {
			var err error
			if alternatives, err = either(m.node, path, alternatives); err != nil {
				return nil, err
			}
			continue
		}
		below := join(path, m.name)
		if inOr && slices.Contains(reservedInOr, m.name) {
			return nil, fault(below, "%s is an operator and cannot name a field inside $or", m.name)
		}
		switch {
		case m.node.members != nil:
			var err error
			if alternatives, err = object(m.node, below, inOr, alternatives); err != nil {
				return nil, err
			}
		case m.node.items != nil:
			tests, err := values(m.node, below)
			if err != nil {
				return nil, err
			}
			for _, a := range alternatives {
				a[below] = tests
			}
		default:
			return nil, fault(below, "must be an object or an array")
		}
	}
	return alternatives, nil
}

// either multiplies the alternatives by the members of a $or.
func either(n *node, path string, alternatives []map[string][]test) ([]map[string][]test, error) {
	path = join(path, "$or")
	if n.items == nil {
		return nil, fault(path, "must be an array")
	}
	if len(n.items) < 2 {
		return nil, fault(path, "must have at least 2 objects")
	}
	if len(alternatives)*len(n.items) > maxRules {
		return nil, fault(path, "makes more than %d rule combinations", maxRules)
	}
	outer := strings.TrimSuffix(strings.TrimSuffix(path, "$or"), ".")
	var all []map[string][]test
	for i, item := range n.items {
		if item.members == nil {
			return nil, fault(fmt.Sprintf("%s[%d]", path, i), "must be an object")
		}
		copies := make([]map[string][]test, len(alternatives))
		for j, a := range alternatives {
			copies[j] = make(map[string][]test, len(a))
			for k, v := range a {
				copies[j][k] = v
			}
		}
		copies, err := object(item, outer, true, copies)
		if err != nil {
			return nil, err
		}
		if all = append(all, copies...); len(all) > maxRules {
			return nil, fault(path, "makes more than %d rule combinations", maxRules)
		}
	}
	return all, nil
}

// values reads the array that holds the tests of one field.
func values(n *node, path string) ([]test, error) {
	if len(n.items) == 0 {
		return nil, fault(path, "empty arrays are not allowed")
	}
	var tests []test
	for i, item := range n.items {
		at := fmt.Sprintf("%s[%d]", path, i)
		switch {
		case item.items != nil:
			return nil, fault(at, "must be a string, a number, true, false, null or one operator")
		case item.members != nil:
			name, operand, err := single(item, at)
			if err != nil {
				return nil, err
			}
			t, err := operator(name, operand, join(at, name))
			if err != nil {
				return nil, err
			}
			tests = append(tests, t)
		default:
			tests = append(tests, exact(item.value))
		}
	}
	return tests, nil
}

func operator(name string, operand *node, path string) (test, error) {
	switch name {
	case "prefix", "suffix":
		plain, fold := prefix, prefixFold
		if name == "suffix" {
			plain, fold = suffix, suffixFold
		}
		if operand.members == nil {
			s, err := stringOf(operand, path)
			return plain(s), err
		}
		inner, operand, err := single(operand, path)
		if err != nil {
			return test{}, err
		}
		if inner != "equals-ignore-case" {
			return test{}, fault(join(path, inner), "unknown operator")
		}
		s, err := stringOf(operand, join(path, inner))
		return fold(s), err
	case "equals-ignore-case":
		s, err := stringOf(operand, path)
		return equalFold(s), err
	case "wildcard":
		return wildcardOf(operand, path)
	case "exists":
		if operand.value.kind != boolean || !operand.isValue() {
			return test{}, fault(path, "must be true or false")
		}
		return exists(operand.value.text == "true"), nil
	case "cidr":
		s, err := stringOf(operand, path)
		if err != nil {
			return test{}, err
		}
		network, err := netip.ParsePrefix(s)
		if err != nil {
			return test{}, fault(path, "%q is not an address with a mask", s)
		}
		// event-ruler refuses a mask that covers a single address: such a value is to be matched exactly.
		if network.Bits() == network.Addr().BitLen() {
			return test{}, fault(path, "the mask of %q must leave more than one address", s)
		}
		return cidr(network.Masked()), nil
	case "numeric":
		return numericOf(operand, path)
	case "anything-but":
		return anythingButOf(operand, path)
	}
	return test{}, fault(path, "unknown operator")
}

// numericOf reads [op, limit], or a range that begins with its lower end.
func numericOf(operand *node, path string) (test, error) {
	if operand.items == nil {
		return test{}, fault(path, "must be an array")
	}
	if n := len(operand.items); n != 2 && n != 4 {
		return test{}, fault(path, "must have one or two comparisons")
	}
	var bounds []bound
	for i := 0; i < len(operand.items); i += 2 {
		sign, err := stringOf(operand.items[i], fmt.Sprintf("%s[%d]", path, i))
		if err != nil {
			return test{}, err
		}
		if !slices.Contains([]string{"=", "<", "<=", ">", ">="}, sign) {
			return test{}, fault(fmt.Sprintf("%s[%d]", path, i), "unknown comparison %q", sign)
		}
		limit, err := numberOf(operand.items[i+1], fmt.Sprintf("%s[%d]", path, i+1))
		if err != nil {
			return test{}, err
		}
		bounds = append(bounds, bound{sign, limit})
	}
	if len(bounds) == 2 {
		low, high := bounds[0], bounds[1]
		if low.operator[0] != '>' || high.operator[0] != '<' {
			return test{}, fault(path, "a range has a lower end and then an upper end")
		}
		if low.limit >= high.limit {
			return test{}, fault(path, "the lower end of a range must be below its upper end")
		}
	}
	return numeric(bounds), nil
}

func anythingButOf(operand *node, path string) (test, error) {
	if operand.members == nil {
		tests, err := exceptions(operand, path)
		return anythingBut(tests), err
	}
	name, operand, err := single(operand, path)
	if err != nil {
		return test{}, err
	}
	path = join(path, name)
	var make func(*node, string) (test, error)
	onString := func(build func(string) test) func(*node, string) (test, error) {
		return func(n *node, path string) (test, error) {
			s, err := stringOf(n, path)
			if err == nil && s == "" && name != "equals-ignore-case" {
				err = fault(path, "must not be empty")
			}
			return build(s), err
		}
	}
	switch name {
	case "prefix":
		make = onString(prefix)
	case "suffix":
		make = onString(suffix)
	case "equals-ignore-case":
		make = onString(equalFold)
	case "wildcard":
		make = wildcardOf
	default:
		return test{}, fault(path, "unknown operator")
	}
	list := []*node{operand}
	if operand.items != nil {
		if list = operand.items; len(list) == 0 {
			return test{}, fault(path, "empty arrays are not allowed")
		}
	}
	var tests []test
	for _, n := range list {
		t, err := make(n, path)
		if err != nil {
			return test{}, err
		}
		tests = append(tests, t)
	}
	return anythingBut(tests), nil
}

// exceptions reads a value or a list of values; all of them strings, or all of them numbers.
func exceptions(operand *node, path string) ([]test, error) {
	list := []*node{operand}
	if operand.items != nil {
		list = operand.items
	}
	var tests []test
	texts, numbers := 0, 0
	for _, n := range list {
		switch {
		case n.isValue() && n.value.kind == text:
			texts++
			tests = append(tests, exact(n.value))
		case n.isValue() && n.value.kind == number:
			numbers++
			x, err := numberOf(n, path)
			if err != nil {
				return nil, err
			}
			tests = append(tests, numeric([]bound{{"=", x}}))
		default:
			return nil, fault(path, "must be a string, a number, or a list of one of them")
		}
	}
	if (texts == 0) == (numbers == 0) {
		return nil, fault(path, "must be a list of strings or a list of numbers")
	}
	return tests, nil
}

func wildcardOf(operand *node, path string) (test, error) {
	s, err := stringOf(operand, path)
	if err != nil {
		return test{}, err
	}
	pieces := []string{""}
	for i := 0; i < len(s); i++ {
		last := len(pieces) - 1
		switch {
		case s[i] == '*':
			if i > 0 && s[i-1] == '*' && last > 0 && pieces[last] == "" {
				return test{}, fault(path, "consecutive wildcard characters at byte %d", i)
			}
			pieces = append(pieces, "")
		case s[i] == '\\':
			if i++; i == len(s) || (s[i] != '*' && s[i] != '\\') {
				return test{}, fault(path, "a backslash at byte %d escapes neither * nor \\", i-1)
			}
			pieces[last] += s[i : i+1]
		default:
			pieces[last] += s[i : i+1]
		}
	}
	return wildcard(pieces), nil
}

func stringOf(n *node, path string) (string, error) {
	if !n.isValue() || n.value.kind != text {
		return "", fault(path, "must be a string")
	}
	return n.value.text, nil
}

func numberOf(n *node, path string) (float64, error) {
	if !n.isValue() || n.value.kind != number {
		return 0, fault(path, "must be a number")
	}
	x, ok := double(n.value.text)
	if !ok {
		return 0, fault(path, "%s cannot be compared exactly", n.value.text)
	}
	return x, nil
}

// single takes an object apart that must have exactly one member.
func single(n *node, path string) (string, *node, error) {
	if len(n.members) != 1 {
		return "", nil, fault(path, "must have exactly one operator")
	}
	return n.members[0].name, n.members[0].node, nil
}

func fault(path, format string, args ...any) error {
	if path == "" {
		path = "pattern"
	}
	return fmt.Errorf("%s: %s", path, fmt.Sprintf(format, args...))
}

// node is a JSON value whose members keep their order; of a repeated name only the last is kept (user guide, "Event
// pattern syntax").
type node struct {
	members []member // of an object, not nil
	items   []*node  // of an array, not nil
	value   value
}

type member struct {
	name string
	node *node
}

func (n *node) isValue() bool { return n.members == nil && n.items == nil }

// maxDepth is far beyond any pattern that AWS would store (its size is limited to 4,096 characters).
const maxDepth = 1000

func decode(source []byte) (*node, error) {
	if !json.Valid(source) {
		return nil, errors.New("the pattern is not valid JSON")
	}
	decoder := json.NewDecoder(bytes.NewReader(source))
	decoder.UseNumber()
	return decodeNode(decoder, 0)
}

func decodeNode(decoder *json.Decoder, depth int) (*node, error) {
	if depth > maxDepth {
		return nil, errors.New("the pattern is nested too deeply")
	}
	token, err := decoder.Token()
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('{'):
		n := &node{members: []member{}}
		for decoder.More() {
			name, err := decoder.Token()
			if err != nil {
				return nil, err
			}
			child, err := decodeNode(decoder, depth+1)
			if err != nil {
				return nil, err
			}
			n.members = slices.DeleteFunc(n.members, func(m member) bool { return m.name == name })
			n.members = append(n.members, member{name.(string), child})
		}
		_, err := decoder.Token()
		return n, err
	case json.Delim('['):
		n := &node{items: []*node{}}
		for decoder.More() {
			child, err := decodeNode(decoder, depth+1)
			if err != nil {
				return nil, err
			}
			n.items = append(n.items, child)
		}
		_, err := decoder.Token()
		return n, err
	}
	return &node{value: leaf(token)}, nil
}
