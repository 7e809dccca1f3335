package asl

import (
	"fmt"
	"strings"
)

// scope is what a path may read: a document and the Context Object.
type scope struct {
	doc     any
	context *object
}

func (in scope) find(p *path) (any, bool) {
	if p.context {
		return p.find(in.context)
	}
	return p.find(in.doc)
}

// template is a Payload Template, parsed (states-language.net, Payload Template).
type template struct {
	// One of these describes the value.
	fields  []templateField
	items   []*template
	literal any
	path    *path
	call    *call

	kind templateKind
}

type templateKind int

const (
	templateLiteral templateKind = iota
	templateObject
	templateArray
	templatePath
	templateCall
)

type templateField struct {
	name, source string // source is the name as written, with ".$"
	value        *template
}

// parseTemplate reads the value of Parameters, ResultSelector or ItemSelector.
func parseTemplate(v any) (*template, error) {
	if _, ok := v.(*object); !ok {
		return nil, fmt.Errorf("%s is no object", kind(v))
	}
	return parseTemplateValue(v)
}

func parseTemplateValue(v any) (*template, error) {
	switch v := v.(type) {
	case []any:
		t := &template{kind: templateArray}
		for _, e := range v {
			item, err := parseTemplateValue(e)
			if err != nil {
				return nil, err
			}
			t.items = append(t.items, item)
		}
		return t, nil
	case *object:
		t := &template{kind: templateObject}
		seen := map[string]bool{}
		for _, source := range v.names {
			f := templateField{source: source}
			var err error
			var dynamic bool
			if f.name, dynamic = strings.CutSuffix(source, ".$"); dynamic {
				f.value, err = parseDynamic(v.fields[source])
			} else {
				f.value, err = parseTemplateValue(v.fields[source])
			}
			if err == nil && dynamic && f.name == "" {
				err = fmt.Errorf("no name before .$")
			}
			if err == nil && seen[f.name] {
				err = fmt.Errorf("both %q and %q are given", f.name, f.name+".$")
			}
			if err != nil {
				return nil, fmt.Errorf("field %q: %w", source, err)
			}
			seen[f.name] = true
			t.fields = append(t.fields, f)
		}
		return t, nil
	}
	return &template{literal: v}, nil
}

func parseDynamic(v any) (*template, error) {
	s, ok := v.(string)
	if !ok {
		return nil, fmt.Errorf("%s is neither path nor intrinsic function", kind(v))
	}
	if strings.HasPrefix(s, "$") {
		p, err := parsePath(s)
		return &template{kind: templatePath, path: p}, err
	}
	c, err := parseCall(s)
	return &template{kind: templateCall, call: c}, err
}

// unresolved says which field of a template could not be computed and why, in the service's words.
type unresolved struct{ name, cause string }

func (u *unresolved) Error() string { return u.cause }

func (t *template) eval(in scope) (any, error) { return t.evalField(in, "") }

func (t *template) evalField(in scope, source string) (any, error) {
	switch t.kind {
	case templateObject:
		o := newObject()
		for _, f := range t.fields {
			v, err := f.value.evalField(in, f.source)
			if err != nil {
				return nil, err
			}
			o.set(f.name, v)
		}
		return o, nil
	case templateArray:
		l := make([]any, len(t.items))
		for i, item := range t.items {
			v, err := item.evalField(in, source)
			if err != nil {
				return nil, err
			}
			l[i] = v
		}
		return l, nil
	case templatePath:
		return in.field(t.path, source)
	case templateCall:
		return in.call(t.call)
	}
	return t.literal, nil
}

// field reads a path that the definition gives for a field.
func (in scope) field(p *path, name string) (any, error) {
	if !p.context && in.doc == nil {
		return nil, &unresolved{errRuntime, causeNullInput}
	}
	v, ok := in.find(p)
	if !ok {
		// The service names States.ParameterPathFailure in its documents but reports
		// States.Runtime, which nothing catches. For an index beyond the end of an array it is said to
		// put null in silently; here that is a path to nothing like any other.
		return nil, &unresolved{errRuntime, fmt.Sprintf(
			"The JSONPath '%s' specified for the field '%s' could not be found in the input '%s'", p.source, name, encode(in.doc))}
	}
	return v, nil
}

// call computes an intrinsic function. A missing path was seen to end in States.Runtime; for
// everything else the documents' States.IntrinsicFailure stands.
func (in scope) call(c *call) (any, error) {
	v, err := c.eval(in)
	if m, ok := err.(missing); ok {
		return nil, &unresolved{errRuntime, fmt.Sprintf(
			"The function '%s' had the following error: The JsonPath argument for the field '%s' could not be found in the input '%s'",
			c.source, m.path.source, encode(in.doc))}
	}
	if err != nil {
		return nil, &unresolved{errIntrinsicFailure, fmt.Sprintf("The function '%s' had the following error: %s", c.source, err)}
	}
	return v, nil
}

const causeNullInput = "Unable to apply Path transformation to null or empty input."

// walk visits every path of the template.
func (t *template) walk(visit func(*path)) {
	if t == nil {
		return
	}
	if t.path != nil {
		visit(t.path)
	}
	if t.call != nil {
		t.call.walk(visit)
	}
	for _, f := range t.fields {
		f.value.walk(visit)
	}
	for _, i := range t.items {
		i.walk(visit)
	}
}
