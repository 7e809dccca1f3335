package logfilter

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
)

// Match says whether a log line matches. A line that is no JSON object never does.
func (p Pattern) Match(line []byte) bool {
	object, ok := read(line)
	return ok && p.root.holds(object)
}

// Value is what a line that matched adds to the metric: a number, or the member that a selector like $.bytes names. CloudWatch
// leaves out lines whose member is no number.
func Value(metric string, line []byte) (float64, bool) {
	if !strings.HasPrefix(metric, "$") {
		number, err := strconv.ParseFloat(metric, 64)
		return number, err == nil
	}
	p := parser{text: metric}
	path, err := p.selector()
	if err != nil || p.at < len(metric) {
		return 0, false
	}
	object, ok := read(line)
	if !ok {
		return 0, false
	}
	value, there := find(object, path)
	if !there {
		return 0, false
	}
	return number(value)
}

func read(line []byte) (any, bool) {
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.UseNumber()
	var v any
	if err := decoder.Decode(&v); err != nil {
		return nil, false
	}
	_, object := v.(map[string]any)
	return v, object
}

func find(v any, path []string) (any, bool) {
	for _, step := range path {
		if index, element := strings.CutPrefix(step, "["); element {
			list, ok := v.([]any)
			n, err := strconv.Atoi(index)
			if !ok || err != nil || n >= len(list) {
				return nil, false
			}
			v = list[n]
			continue
		}
		object, ok := v.(map[string]any)
		if !ok {
			return nil, false
		}
		if v, ok = object[step]; !ok {
			return nil, false
		}
	}
	return v, true
}

func number(v any) (float64, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return 0, false
	}
	f, err := n.Float64()
	return f, err == nil
}

type condition interface{ holds(object any) bool }

type (
	and   struct{ left, right condition }
	or    struct{ left, right condition }
	equal struct {
		path []string
		text string // * stands for anything
	}
	compare struct {
		path     []string
		operator string
		number   float64
	}
	is struct {
		path []string
		what string
	}
	absent struct{ path []string }
)

func (c and) holds(o any) bool { return c.left.holds(o) && c.right.holds(o) }
func (c or) holds(o any) bool  { return c.left.holds(o) || c.right.holds(o) }

func (c equal) holds(o any) bool {
	v, there := find(o, c.path)
	text, ok := v.(string)
	return there && ok && wildcard(c.text, text)
}

// wildcard compares a text with one in which * stands for any characters.
func wildcard(pattern, text string) bool {
	head, rest, more := strings.Cut(pattern, "*")
	if !more {
		return pattern == text
	}
	if !strings.HasPrefix(text, head) {
		return false
	}
	for at := len(head); at <= len(text); at++ {
		if wildcard(rest, text[at:]) {
			return true
		}
	}
	return false
}

func (c compare) holds(o any) bool {
	v, there := find(o, c.path)
	n, ok := number(v)
	if !there || !ok {
		return false
	}
	switch c.operator {
	case "=":
		return n == c.number
	case "<":
		return n < c.number
	case "<=":
		return n <= c.number
	case ">":
		return n > c.number
	default:
		return n >= c.number
	}
}

func (c is) holds(o any) bool {
	v, there := find(o, c.path)
	switch c.what {
	case "NULL":
		return there && v == nil
	case "TRUE":
		return v == true
	default:
		return v == false
	}
}

func (c absent) holds(o any) bool {
	_, there := find(o, c.path)
	return !there
}
