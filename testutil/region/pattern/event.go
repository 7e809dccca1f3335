package pattern

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// field is one leaf of an event: a string, number, true, false or null.
type field struct {
	value value
	place place
}

// value keeps a leaf as it was written.
type value struct {
	kind kind
	text string
}

type kind byte

const (
	text kind = iota
	number
	boolean
	null
)

// flatten lists the leaves of an event by path. Arrays do not show in a path.
func flatten(event []byte) (map[string][]field, error) {
	decoder := json.NewDecoder(bytes.NewReader(event))
	decoder.UseNumber() // numbers are compared as they were written
	var root any
	if err := decoder.Decode(&root); err != nil {
		return nil, err
	}
	if decoder.More() {
		return nil, errors.New("more than one JSON value")
	}
	object, ok := root.(map[string]any)
	if !ok {
		return nil, errors.New("not a JSON object")
	}
	f := flattener{fields: map[string][]field{}}
	f.object("", object, nil)
	return f.fields, nil
}

type flattener struct {
	fields map[string][]field
	arrays int
}

func (f *flattener) object(path string, object map[string]any, at place) {
	for name, member := range object {
		f.member(join(path, name), member, at)
	}
}

func (f *flattener) member(path string, member any, at place) {
	switch m := member.(type) {
	case map[string]any:
		f.object(path, m, at)
	case []any:
		array := f.arrays
		f.arrays++
		for i, item := range m {
			switch item.(type) {
			case map[string]any, []any:
				inside := append(at[:len(at):len(at)], element{array, i})
				f.member(path, item, inside)
			default:
				// Plain values of one array are alternatives, not parts of one thing.
				f.member(path, item, at)
			}
		}
	default:
		f.fields[path] = append(f.fields[path], field{leaf(m), at})
	}
}

func leaf(v any) value {
	switch v := v.(type) {
	case string:
		return value{text, v}
	case json.Number:
		return value{number, v.String()}
	case bool:
		return value{boolean, fmt.Sprint(v)}
	default:
		return value{null, ""}
	}
}
