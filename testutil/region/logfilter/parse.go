// Package logfilter is the part of CloudWatch Logs that turns JSON log lines into metrics: filter patterns and the values
// they take (CloudWatch Logs User Guide, "Filter pattern syntax for metric filters", JSON log events).
//
// It knows comparisons, IS, NOT EXISTS, &&, || and parentheses. It refuses != and regular expressions: what AWS does with
// != on a member that is absent is not documented, so nothing of ours may depend on it.
package logfilter

import (
	"fmt"
	"strconv"
	"strings"
)

// Pattern is a compiled filter pattern.
type Pattern struct{ root condition }

// Compile reads a pattern like { $.step = "sweep" && $.refused > 0 }.
func Compile(pattern string) (Pattern, error) {
	p := parser{text: pattern}
	root, err := p.pattern()
	if err != nil {
		return Pattern{}, fmt.Errorf("filter pattern %s: at %d: %w", pattern, p.at, err)
	}
	return Pattern{root}, nil
}

type parser struct {
	text string
	at   int
}

func (p *parser) pattern() (condition, error) {
	if err := p.expect("{"); err != nil {
		return nil, err
	}
	c, err := p.either()
	if err != nil {
		return nil, err
	}
	if err := p.expect("}"); err != nil {
		return nil, err
	}
	if p.skip(); p.at < len(p.text) {
		return nil, fmt.Errorf("%q follows the pattern", p.text[p.at:])
	}
	return c, nil
}

func (p *parser) skip() {
	for p.at < len(p.text) && strings.ContainsRune(" \t\r\n", rune(p.text[p.at])) {
		p.at++
	}
}

func (p *parser) have(token string) bool {
	p.skip()
	if !strings.HasPrefix(p.text[p.at:], token) {
		return false
	}
	p.at += len(token)
	return true
}

func (p *parser) expect(token string) error {
	if !p.have(token) {
		return fmt.Errorf("want %q", token)
	}
	return nil
}

func (p *parser) either() (condition, error) {
	left, err := p.both()
	for err == nil && p.have("||") {
		var right condition
		if right, err = p.both(); err == nil {
			left = or{left, right}
		}
	}
	return left, err
}

func (p *parser) both() (condition, error) {
	left, err := p.one()
	for err == nil && p.have("&&") {
		var right condition
		if right, err = p.one(); err == nil {
			left = and{left, right}
		}
	}
	return left, err
}

func (p *parser) one() (condition, error) {
	if p.have("(") {
		c, err := p.either()
		if err == nil {
			err = p.expect(")")
		}
		return c, err
	}
	path, err := p.selector()
	if err != nil {
		return nil, err
	}
	switch word := p.word(); word {
	case "IS":
		what := p.word()
		if what != "NULL" && what != "TRUE" && what != "FALSE" {
			return nil, fmt.Errorf("IS %q: want NULL, TRUE or FALSE", what)
		}
		return is{path, what}, nil
	case "NOT":
		if word := p.word(); word != "EXISTS" {
			return nil, fmt.Errorf("NOT %q: want EXISTS", word)
		}
		return absent{path}, nil
	case "":
	default:
		return nil, fmt.Errorf("%q is no operator", word)
	}
	for _, operator := range []string{"<=", ">=", "=", "<", ">"} { // the longer ones first
		if p.have(operator) {
			return p.comparison(path, operator)
		}
	}
	return nil, fmt.Errorf("want a comparison")
}

// selector reads $.member.member[0].
func (p *parser) selector() ([]string, error) {
	if err := p.expect("$"); err != nil {
		return nil, err
	}
	var path []string
	for p.at < len(p.text) {
		switch p.text[p.at] {
		case '.':
			p.at++
			name := p.name()
			if name == "" {
				return nil, fmt.Errorf("a member without a name")
			}
			path = append(path, name)
		case '[':
			end := strings.IndexByte(p.text[p.at:], ']')
			if end < 0 {
				return nil, fmt.Errorf("[ without ]")
			}
			index := p.text[p.at+1 : p.at+end]
			if _, err := strconv.ParseUint(index, 10, 16); err != nil {
				return nil, fmt.Errorf("index %q: want a number", index)
			}
			path = append(path, "["+index)
			p.at += end + 1
		default:
			return path, nil
		}
	}
	return path, nil
}

func isName(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c == '-'
}

func (p *parser) name() string {
	start := p.at
	for p.at < len(p.text) && isName(p.text[p.at]) {
		p.at++
	}
	return p.text[start:p.at]
}

func (p *parser) word() string {
	p.skip()
	return p.name()
}

func (p *parser) comparison(path []string, operator string) (condition, error) {
	p.skip()
	if p.at < len(p.text) && p.text[p.at] == '"' {
		end := strings.IndexByte(p.text[p.at+1:], '"')
		if end < 0 {
			return nil, fmt.Errorf("a text without an end")
		}
		text := p.text[p.at+1 : p.at+1+end]
		p.at += end + 2
		return texts(path, operator, text)
	}
	start := p.at
	for p.at < len(p.text) && (isName(p.text[p.at]) || strings.IndexByte(".*+", p.text[p.at]) >= 0) {
		p.at++
	}
	literal := p.text[start:p.at]
	if number, err := strconv.ParseFloat(literal, 64); err == nil {
		return compare{path, operator, number}, nil
	}
	if literal == "" || strings.ContainsAny(literal, ".+-_") {
		return nil, fmt.Errorf("%q: texts with anything but letters and digits need quotes", literal)
	}
	return texts(path, operator, literal)
}

func texts(path []string, operator, text string) (condition, error) {
	if operator != "=" {
		return nil, fmt.Errorf("texts know only =, not %s", operator)
	}
	return equal{path, text}, nil
}
