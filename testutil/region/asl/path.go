package asl

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// path is a JSONPath expression, parsed. The dialect is Jayway's, to which the States Language
// refers (states-language.net, Paths), without functions, regular expressions, slices with a step
// and unions of names.
type path struct {
	source string
	// context is set for a path that begins with "$$" and so reads the Context Object.
	context bool
	steps   []step
	// definite says that the path names at most one value. Any other path yields a list.
	definite bool
}

type stepKind int

const (
	stepName stepKind = iota
	stepIndex
	stepWildcard
	stepSlice
	stepUnion
	stepFilter
)

type step struct {
	kind stepKind
	// descend marks "..": the step applies to every value below, too.
	descend  bool
	name     string
	index    int
	indexes  []int
	from, to *int
	filter   filter
}

// maxUnion and the refusal of a second ".." or union keep the result of a path no larger than a
// small multiple of the document.
const maxUnion = 100

// parsePath reads a whole string as a path.
func parsePath(source string) (*path, error) {
	if !utf8.ValidString(source) {
		return nil, fmt.Errorf("path %q is not UTF-8", source)
	}
	p := &path{source: source, definite: true}
	rest, ok := strings.CutPrefix(source, "$")
	if !ok {
		return nil, fmt.Errorf("path %q does not begin with $", source)
	}
	if r, ok := strings.CutPrefix(rest, "$"); ok {
		p.context, rest = true, r
	}
	s := &scanner{text: rest}
	if err := p.parseSteps(s); err != nil {
		return nil, fmt.Errorf("path %q: %w", source, err)
	}
	if !s.end() {
		if len(p.steps) == 0 && isNameByte(s.peek()) {
			return nil, fmt.Errorf("path %q: variables are not supported", source)
		}
		return nil, fmt.Errorf("path %q: %q is not understood", source, s.rest())
	}
	return p, nil
}

// parseReference reads a Reference Path, which can name only one place
// (states-language.net, Reference Paths).
func parseReference(source string) (*path, error) {
	p, err := parsePath(source)
	if err != nil {
		return nil, err
	}
	for _, st := range p.steps {
		if st.descend || st.kind > stepIndex || st.index < 0 {
			return nil, fmt.Errorf("path %q: a reference path takes only names and indexes", source)
		}
	}
	return p, nil
}

// parseSteps reads as many steps as there are.
func (p *path) parseSteps(s *scanner) error {
	descents, unions := 0, 0
	for {
		st := step{}
		var err error
		switch {
		case s.skip(".."):
			st.descend = true
			if descents++; descents > 1 {
				return fmt.Errorf("a second recursive descent is not supported")
			}
			switch {
			case s.skip("["):
				st, err = parseBracket(s)
				st.descend = true
			default:
				err = parseDotName(s, &st)
			}
		case s.skip("."):
			if s.skip("[") {
				st, err = parseBracket(s)
			} else {
				err = parseDotName(s, &st)
			}
		case s.skip("["):
			st, err = parseBracket(s)
		default:
			return nil
		}
		if err != nil {
			return err
		}
		if st.kind == stepUnion {
			if unions++; unions > 1 {
				return fmt.Errorf("a second list of indexes is not supported")
			}
		}
		if st.descend || st.kind > stepIndex {
			p.definite = false
		}
		p.steps = append(p.steps, st)
	}
}

func parseDotName(s *scanner, st *step) error {
	if s.skip("*") {
		st.kind = stepWildcard
		return nil
	}
	start := s.at
	for !s.end() && isNameByte(s.peek()) {
		s.at++
	}
	st.name = s.text[start:s.at]
	switch {
	case st.name == "":
		return fmt.Errorf("a name is missing at %q", s.rest())
	case st.name[0] >= '0' && st.name[0] <= '9', st.name[0] == '-':
		return fmt.Errorf("name %q needs brackets and quotes", st.name)
	case s.skip("("):
		return fmt.Errorf("function %s() is not supported", st.name)
	}
	return nil
}

// isNameByte allows what RFC 9535 calls member-name-shorthand and the hyphen, which the States
// Language uses in its own examples. Any other character needs brackets.
func isNameByte(c byte) bool {
	return c == '_' || c == '-' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= utf8.RuneSelf
}

// parseBracket reads what follows "[" up to and with "]".
func parseBracket(s *scanner) (step, error) {
	s.space()
	var st step
	var err error
	switch {
	case s.end():
		return st, fmt.Errorf("a bracket is not closed")
	case s.peek() == '\'' || s.peek() == '"':
		st.name, err = s.quoted()
	case s.skip("*"):
		st.kind = stepWildcard
	case s.skip("?"):
		st.kind = stepFilter
		st.filter, err = parseFilter(s)
	default:
		st, err = parseIndexes(s)
	}
	if err != nil {
		return st, err
	}
	s.space()
	if st.name != "" && s.skip(",") {
		return st, fmt.Errorf("a list of names is not supported")
	}
	if !s.skip("]") {
		return st, fmt.Errorf("a bracket is not closed at %q", s.rest())
	}
	return st, nil
}

// parseIndexes reads an index, a list of indexes or a slice.
func parseIndexes(s *scanner) (step, error) {
	first, err := s.integer()
	if err != nil {
		return step{}, err
	}
	s.space()
	if s.skip(":") {
		s.space()
		to, err := s.integer()
		if err != nil {
			return step{}, err
		}
		s.space()
		if s.skip(":") {
			return step{}, fmt.Errorf("a slice with a step is not supported")
		}
		if first == nil && to == nil {
			return step{}, fmt.Errorf("a slice needs a bound")
		}
		return step{kind: stepSlice, from: first, to: to}, nil
	}
	if first == nil {
		return step{}, fmt.Errorf("%q is not understood", s.rest())
	}
	list := []int{*first}
	for s.space(); s.skip(","); s.space() {
		s.space()
		next, err := s.integer()
		if err != nil {
			return step{}, err
		}
		if next == nil {
			return step{}, fmt.Errorf("an index is missing at %q", s.rest())
		}
		if list = append(list, *next); len(list) > maxUnion {
			return step{}, fmt.Errorf("more than %d indexes in one list are not supported", maxUnion)
		}
	}
	if len(list) == 1 {
		return step{kind: stepIndex, index: list[0]}, nil
	}
	return step{kind: stepUnion, indexes: list}, nil
}

// find applies the path. A definite path may find nothing; any other finds a list, if only an empty
// one. That holds for a missing branch above a wildcard, too, as Step Functions shows.
func (p *path) find(doc any) (value any, found bool) {
	nodes := []any{doc}
	for _, st := range p.steps {
		next := []any{}
		for _, n := range nodes {
			if st.descend {
				next = descend(next, n, st)
			} else {
				next = st.apply(next, n)
			}
		}
		nodes = next
	}
	switch {
	case !p.definite:
		return nodes, true
	case len(nodes) == 0:
		return nil, false
	}
	return nodes[0], true
}

// present reports whether the path matches anything at all.
func (p *path) present(doc any) bool {
	v, found := p.find(doc)
	if !p.definite {
		return len(v.([]any)) > 0
	}
	return found
}

func descend(dst []any, n any, st step) []any {
	dst = st.apply(dst, n)
	switch n := n.(type) {
	case []any:
		for _, e := range n {
			dst = descend(dst, e, st)
		}
	case *object:
		for _, name := range n.names {
			dst = descend(dst, n.fields[name], st)
		}
	}
	return dst
}

func (st step) apply(dst []any, n any) []any {
	if st.kind == stepFilter {
		// Jayway tests an object itself and an array element by element.
		if _, ok := n.(*object); ok && st.filter.match(n) {
			dst = append(dst, n)
		}
	}
	switch n := n.(type) {
	case *object:
		switch st.kind {
		case stepName:
			if v, ok := n.fields[st.name]; ok {
				dst = append(dst, v)
			}
		case stepWildcard:
			for _, name := range n.names {
				dst = append(dst, n.fields[name])
			}
		}
	case []any:
		switch st.kind {
		case stepIndex:
			dst = appendIndex(dst, n, st.index)
		case stepUnion:
			for _, i := range st.indexes {
				dst = appendIndex(dst, n, i)
			}
		case stepWildcard:
			dst = append(dst, n...)
		case stepSlice:
			from, to := bound(st.from, 0, len(n)), bound(st.to, len(n), len(n))
			if from < to {
				dst = append(dst, n[from:to]...)
			}
		case stepFilter:
			for _, e := range n {
				if st.filter.match(e) {
					dst = append(dst, e)
				}
			}
		}
	}
	return dst
}

func appendIndex(dst, list []any, i int) []any {
	if i < 0 {
		i += len(list)
	}
	if i < 0 || i >= len(list) {
		return dst
	}
	return append(dst, list[i])
}

func bound(b *int, missing, length int) int {
	if b == nil {
		return missing
	}
	i := *b
	if i < 0 {
		i += length
	}
	return min(max(i, 0), length)
}

// put returns doc with value at the place a reference path names, making the objects in between.
// It fails where the document has something else in the way.
func (p *path) put(doc, value any) (any, error) { return put(doc, value, p.steps) }

func put(doc, value any, steps []step) (any, error) {
	if len(steps) == 0 {
		return value, nil
	}
	st := steps[0]
	if st.kind == stepIndex {
		list, ok := doc.([]any)
		if !ok || st.index >= len(list) {
			return nil, fmt.Errorf("no element %d in %s", st.index, kind(doc))
		}
		v, err := put(list[st.index], value, steps[1:])
		if err != nil {
			return nil, err
		}
		c := append([]any(nil), list...)
		c[st.index] = v
		return c, nil
	}
	o, ok := doc.(*object)
	if !ok {
		return nil, fmt.Errorf("no field %q in %s", st.name, kind(doc))
	}
	old, ok := o.fields[st.name]
	if !ok {
		old = newObject()
	}
	v, err := put(old, value, steps[1:])
	if err != nil {
		return nil, err
	}
	return o.with(st.name, v), nil
}

// scanner walks over the text of a path or of an intrinsic function.
type scanner struct {
	text string
	at   int
}

func (s *scanner) end() bool    { return s.at >= len(s.text) }
func (s *scanner) peek() byte   { return s.text[s.at] }
func (s *scanner) rest() string { return s.text[s.at:] }

func (s *scanner) skip(prefix string) bool {
	if !strings.HasPrefix(s.rest(), prefix) {
		return false
	}
	s.at += len(prefix)
	return true
}

func (s *scanner) space() {
	for !s.end() && (s.peek() == ' ' || s.peek() == '\t' || s.peek() == '\n' || s.peek() == '\r') {
		s.at++
	}
}

// integer reads an optional whole number.
func (s *scanner) integer() (*int, error) {
	start := s.at
	s.skip("-")
	for !s.end() && s.peek() >= '0' && s.peek() <= '9' {
		s.at++
	}
	if s.at == start {
		return nil, nil
	}
	i, err := strconv.Atoi(s.text[start:s.at])
	if err != nil || i > 1<<31 || i < -(1<<31) {
		return nil, fmt.Errorf("index %q is not understood", s.text[start:s.at])
	}
	return &i, nil
}

// quoted reads a string in single or double quotes. Only the quotes and the backslash can be
// escaped; other escapes are read differently by different tools and so refused.
func (s *scanner) quoted() (string, error) {
	quote := s.peek()
	s.at++
	var b strings.Builder
	for !s.end() {
		c := s.peek()
		s.at++
		switch {
		case c == quote:
			if b.Len() == 0 {
				return "", fmt.Errorf("an empty name or text is not supported")
			}
			return b.String(), nil
		case c == '\\':
			if s.end() || s.peek() != '\\' && s.peek() != '\'' {
				return "", fmt.Errorf("backslash before %q is not supported", s.rest())
			}
			b.WriteByte(s.peek())
			s.at++
		default:
			b.WriteByte(c)
		}
	}
	return "", fmt.Errorf("a quote is not closed")
}
