package iam

import (
	"strings"
	"unicode/utf8"
)

// glob is a pattern with its variables replaced. What a variable stood for is never a wildcard.
type glob []token

type token struct {
	char rune
	wild bool // char is * or ? and stands for any text or any character
}

// newGlob replaces the variables of a pattern (IAM User Guide, "Policy variables"). It is not ok when the request has no
// value for one and the variable no default: such a pattern matches nothing.
func newGlob(pattern string, variables, wildcards bool, c Context) (g glob, ok bool) {
	literal := func(text string) {
		for _, char := range text {
			g = append(g, token{char: char})
		}
	}
	for pattern != "" {
		if rest, is := strings.CutPrefix(pattern, "${"); is && variables {
			name, after, closed := strings.Cut(rest, "}")
			if !closed {
				return nil, false
			}
			value, ok := variable(name, c)
			if !ok {
				return nil, false
			}
			literal(value)
			pattern = after
			continue
		}
		char, size := utf8.DecodeRuneInString(pattern)
		g = append(g, token{char: char, wild: wildcards && (char == '*' || char == '?')})
		pattern = pattern[size:]
	}
	return g, true
}

// variable is what a variable stands for: a character that has a meaning of its own otherwise, or the value of a key that
// has one value.
func variable(name string, c Context) (string, bool) {
	switch name {
	case "*", "?", "$":
		return name, true
	}
	key, standard, hasStandard := strings.Cut(name, ",")
	values, _ := c.get(strings.TrimSpace(key))
	if len(values) == 1 {
		return values[0], true
	}
	return strings.Trim(strings.TrimSpace(standard), "'"), hasStandard
}

// matches goes back to the last star only, which suffices.
func (g glob) matches(text string) bool {
	chars := []rune(text)
	star, resume := -1, 0
	p, v := 0, 0
	for v < len(chars) {
		switch {
		case p < len(g) && g[p].wild && g[p].char == '*':
			star, resume = p, v
			p++
		case p < len(g) && (g[p].wild || g[p].char == chars[v]):
			p++
			v++
		case star >= 0:
			resume++
			p, v = star+1, resume
		default:
			return false
		}
	}
	for p < len(g) && g[p].wild && g[p].char == '*' {
		p++
	}
	return p == len(g)
}

func (g glob) isStar() bool { return len(g) == 1 && g[0].wild && g[0].char == '*' }

// arnParts is how many parts an ARN has; the last one may hold colons itself.
const arnParts = 6

// matchesARN compares part by part, since a wildcard does not reach over a colon that separates parts, and takes a part
// that is missing at the end for a star (IAM User Guide, "IAM JSON policy elements: Resource").
func (g glob) matchesARN(arn string) bool {
	if g.isStar() {
		return true
	}
	texts := strings.SplitN(arn, ":", arnParts)
	if len(texts) != arnParts {
		return false
	}
	patterns := g.split()
	for i, text := range texts {
		if i < len(patterns) && !patterns[i].matches(text) {
			return false
		}
	}
	return true
}

// split cuts at the first colons of the pattern.
func (g glob) split() []glob {
	var parts []glob
	from := 0
	for i, t := range g {
		if t.char == ':' && !t.wild && len(parts) < arnParts-1 {
			parts = append(parts, g[from:i])
			from = i + 1
		}
	}
	return append(parts, g[from:])
}

// matchesAction says whether one of the patterns of Action or NotAction is an action's. Case does not matter in it (IAM User
// Guide, "IAM JSON policy elements: Action").
func matchesAction(patterns []string, action string) bool {
	for _, pattern := range patterns {
		g, _ := newGlob(strings.ToLower(pattern), false, true, nil)
		if g.matches(strings.ToLower(action)) {
			return true
		}
	}
	return false
}

func (p *Policy) matchesResource(patterns []string, resource string, c Context) bool {
	for _, pattern := range patterns {
		if g, ok := newGlob(pattern, p.variables, true, c); ok && g.matchesARN(resource) {
			return true
		}
	}
	return false
}
