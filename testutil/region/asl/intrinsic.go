package asl

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// call is an intrinsic function with its arguments, parsed
// (states-language.net, Intrinsic Functions and Appendix B).
type call struct {
	source   string
	function function
	args     []argument
}

// argument is one of a call, a path and a literal.
type argument struct {
	call    *call
	path    *path
	literal any
	// raw is a text literal with its escapes, for States.Format tells "\{" from "{".
	raw string
}

// maxCalls is how many functions one field may hold (developer guide, Intrinsic functions).
const maxCalls = 10

// parseCall reads a whole string as an intrinsic function.
func parseCall(source string) (*call, error) {
	s := &scanner{text: source}
	calls := 0
	c, err := parseFunction(s, &calls)
	switch {
	case err == nil && !s.end():
		err = fmt.Errorf("%q after the function", s.rest())
	case err == nil && !utf8.ValidString(source):
		err = errors.New("not UTF-8")
	}
	if err != nil {
		return nil, fmt.Errorf("intrinsic function %q: %w", source, err)
	}
	return c, nil
}

func parseFunction(s *scanner, calls *int) (*call, error) {
	start := s.at
	for !s.end() && (isNameByte(s.peek()) && s.peek() != '-' || s.peek() == '.') {
		s.at++
	}
	name := s.text[start:s.at]
	f, ok := functions[name]
	if !ok {
		return nil, fmt.Errorf("function %q is unknown", name)
	}
	if *calls++; *calls > maxCalls {
		return nil, fmt.Errorf("more than %d functions in one field", maxCalls)
	}
	if !s.skip("(") {
		return nil, fmt.Errorf("%s lacks its arguments", name)
	}
	c := &call{function: f}
	if s.space(); !s.skip(")") {
		for {
			a, err := parseArgument(s, calls)
			if err != nil {
				return nil, err
			}
			c.args = append(c.args, a)
			s.space()
			if s.skip(")") {
				break
			}
			if !s.skip(",") {
				return nil, fmt.Errorf("%s is not closed at %q", name, s.rest())
			}
		}
	}
	c.source = s.text[start:s.at]
	if n := len(c.args); n < f.min || f.max >= 0 && n > f.max {
		return nil, fmt.Errorf("%s takes not %d arguments", name, n)
	}
	if f.check != nil {
		if err := f.check(c.args); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return c, nil
}

func parseArgument(s *scanner, calls *int) (argument, error) {
	s.space()
	switch {
	case s.end():
		return argument{}, fmt.Errorf("an argument is missing")
	case s.peek() == '$':
		p, err := parsePath(s.pathText())
		return argument{path: p}, err
	case s.skip("'"):
		return parseText(s)
	case strings.HasPrefix(s.rest(), "States."):
		c, err := parseFunction(s, calls)
		return argument{call: c}, err
	}
	start := s.at
	for !s.end() && s.peek() >= 'a' && s.peek() <= 'z' {
		s.at++
	}
	switch word := s.text[start:s.at]; word {
	case "null":
		return argument{}, nil
	case "true", "false":
		return argument{literal: word == "true"}, nil
	}
	s.at = start
	n, err := s.number()
	return argument{literal: n}, err
}

// parseText reads a literal up to its closing apostrophe. Step Functions takes bare braces although
// the specification calls them reserved; a backslash before any other character it refuses.
func parseText(s *scanner) (argument, error) {
	start := s.at
	for ; !s.end(); s.at++ {
		switch s.peek() {
		case '\'':
			raw := s.text[start:s.at]
			s.at++
			return argument{literal: unescape(raw), raw: raw}, nil
		case '\\':
			s.at++
			if s.end() || strings.IndexByte(`'{}\`, s.peek()) < 0 {
				return argument{}, fmt.Errorf("backslash before %q", s.rest())
			}
		}
	}
	return argument{}, fmt.Errorf("a text is not closed")
}

func unescape(raw string) string {
	var b strings.Builder
	for i := 0; i < len(raw); i++ {
		if raw[i] == '\\' && i+1 < len(raw) {
			i++
		}
		b.WriteByte(raw[i])
	}
	return b.String()
}

// pathText cuts out a path argument: it ends at a comma, a parenthesis or a blank outside brackets.
func (s *scanner) pathText() string {
	start, depth := s.at, 0
	var quote byte
	for ; !s.end(); s.at++ {
		switch c := s.peek(); {
		case quote != 0:
			if c == '\\' && s.at+1 < len(s.text) {
				s.at++
			} else if c == quote {
				quote = 0
			}
		case depth > 0 && (c == '\'' || c == '"'):
			quote = c
		case c == '[':
			depth++
		case c == ']':
			depth--
		case depth <= 0 && (c == ',' || c == ')' || c == ' ' || c == '\t' || c == '\n' || c == '\r'):
			return s.text[start:s.at]
		}
	}
	return s.text[start:s.at]
}

// missing says that a path found nothing.
type missing struct{ path *path }

func (m missing) Error() string { return "no value at " + m.path.source }

// eval computes the call. The error is a missing path or what the function says.
func (c *call) eval(in scope) (any, error) {
	args := make([]any, len(c.args))
	for i, a := range c.args {
		switch {
		case a.call != nil:
			v, err := a.call.eval(in)
			if err != nil {
				return nil, err
			}
			args[i] = v
		case a.path != nil:
			v, ok := in.find(a.path)
			if !ok {
				return nil, missing{a.path}
			}
			args[i] = v
		default:
			args[i] = a.literal
		}
	}
	if c.function.format {
		pattern, ok := args[0].(string)
		if !ok {
			return nil, fmt.Errorf("the first argument is no string but %s", kind(args[0]))
		}
		if c.args[0].raw != "" {
			pattern = c.args[0].raw
		}
		return format(pattern, args[1:])
	}
	return c.function.eval(args)
}

// walk visits every path of the call.
func (c *call) walk(visit func(*path)) {
	for _, a := range c.args {
		if a.path != nil {
			visit(a.path)
		}
		if a.call != nil {
			a.call.walk(visit)
		}
	}
}
