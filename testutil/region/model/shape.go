package model

import (
	"encoding/json"
	"fmt"
	"regexp"
	"sort"
	"strings"
	"unicode"
)

// shape is one type of a service model.
type shape struct {
	name            string
	Type            string             `json:"type"`
	Members         map[string]*member `json:"members"`
	Required        []string           `json:"required"`
	Member          *member            `json:"member"`
	Key             *member            `json:"key"`
	Value           *member            `json:"value"`
	Enum            []string           `json:"enum"`
	Min             *json.Number       `json:"min"`
	Max             *json.Number       `json:"max"`
	Pattern         string             `json:"pattern"`
	Flattened       bool               `json:"flattened"`
	LocationName    string             `json:"locationName"`
	Payload         string             `json:"payload"`
	TimestampFormat string             `json:"timestampFormat"`
	Exception       bool               `json:"exception"`
	Error           *struct {
		Code           string `json:"code"`
		HTTPStatusCode int    `json:"httpStatusCode"`
	} `json:"error"`
	Document     bool          `json:"document"`
	Union        bool          `json:"union"`
	XMLNamespace *xmlNamespace `json:"xmlNamespace"`

	memberNames []string
	pattern     *regexp.Regexp
	min, max    *float64
}

// member is a use of a shape: as a field, as a list's element, as an output.
type member struct {
	Shape           string        `json:"shape"`
	Location        string        `json:"location"`
	LocationName    string        `json:"locationName"`
	QueryName       string        `json:"queryName"`
	Flattened       bool          `json:"flattened"`
	TimestampFormat string        `json:"timestampFormat"`
	Streaming       bool          `json:"streaming"`
	XMLAttribute    bool          `json:"xmlAttribute"`
	XMLNamespace    *xmlNamespace `json:"xmlNamespace"`

	target *shape
}

// xmlNamespace is written in two ways by the models: an object, or its URI alone.
type xmlNamespace struct {
	Prefix string `json:"prefix"`
	URI    string `json:"uri"`
}

func (n *xmlNamespace) UnmarshalJSON(text []byte) error {
	if strings.HasPrefix(string(text), `"`) {
		return json.Unmarshal(text, &n.URI)
	}
	type plain xmlNamespace
	return json.Unmarshal(text, (*plain)(n))
}

func (m *member) timestampFormat(otherwise string) string {
	if m.TimestampFormat != "" {
		return m.TimestampFormat
	}
	if m.target.TimestampFormat != "" {
		return m.target.TimestampFormat
	}
	return otherwise
}

func (m *member) flattened() bool { return m.Flattened || m.target.Flattened }

// wireName is the name of a structure's member in JSON and XML bodies, headers
// and URIs.
func (m *member) wireName(name string) string {
	if m.LocationName != "" {
		return m.LocationName
	}
	return name
}

// ec2Name is the name of a structure's member in an EC2 request: its query name,
// else its location name with a capital, else its own.
func (m *member) ec2Name(name string) string {
	if m.QueryName != "" {
		return m.QueryName
	}
	if m.LocationName != "" {
		first := []rune(m.LocationName)
		first[0] = unicode.ToUpper(first[0])
		return string(first)
	}
	return name
}

// link resolves the names of shapes and compiles what the model says in text.
func (d *definition) link() error {
	resolve := func(m *member) error {
		if m == nil {
			return nil
		}
		if m.target = d.Shapes[m.Shape]; m.target == nil {
			return fmt.Errorf("no shape %q", m.Shape)
		}
		return nil
	}
	for name, s := range d.Shapes {
		s.name = name
		for memberName, m := range s.Members {
			s.memberNames = append(s.memberNames, memberName)
			if err := resolve(m); err != nil {
				return err
			}
		}
		sort.Strings(s.memberNames)
		for _, m := range []*member{s.Member, s.Key, s.Value} {
			if err := resolve(m); err != nil {
				return err
			}
		}
		s.pattern = compilePattern(s.Pattern)
		var err error
		if s.min, err = bound(s.Min); err != nil {
			return err
		}
		if s.max, err = bound(s.Max); err != nil {
			return err
		}
	}
	for _, op := range d.Operations {
		if err := resolve(op.Input); err != nil {
			return err
		}
		if op.Output != nil {
			if err := resolve(&op.Output.member); err != nil {
				return err
			}
		}
		for i := range op.Errors {
			if err := resolve(&op.Errors[i]); err != nil {
				return err
			}
		}
	}
	d.routes = routesOf(d.Operations)
	return nil
}

func bound(n *json.Number) (*float64, error) {
	if n == nil {
		return nil, nil
	}
	f, err := n.Float64()
	if err != nil {
		return nil, fmt.Errorf("read bound %q: %w", *n, err)
	}
	return &f, nil
}

var javaEscape = regexp.MustCompile(`\\u([0-9A-Fa-f]{4,5})`)

// compilePattern turns a model's pattern into one that must match the whole
// value, as AWS's servers apply it. Patterns that need look-ahead have no
// equivalent here and return nil; TestPatternsThatCannotBeChecked lists them.
func compilePattern(pattern string) *regexp.Regexp {
	if pattern == "" {
		return nil
	}
	pattern = strings.ReplaceAll(pattern, `\p{ASCII}`, `[\x00-\x7F]`)
	pattern = javaEscape.ReplaceAllString(pattern, `\x{$1}`)
	compiled, err := regexp.Compile(`^(?:` + pattern + `)$`)
	if err != nil {
		return nil
	}
	return compiled
}
