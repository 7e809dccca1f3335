package model

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"sort"
	"strconv"
	"strings"
	"time"
)

// decodeTarget reads the JSON protocols, which name the operation in X-Amz-Target.
func (d *decoder) decodeTarget() error {
	target := d.request.Header.Get("X-Amz-Target")
	prefix, name, _ := strings.Cut(target, ".")
	if prefix != d.service.Metadata.TargetPrefix {
		return d.violation(UnknownOperation, "", "target "+quoted(target)+" is not of "+d.service.Metadata.TargetPrefix)
	}
	if err := d.begin(name); err != nil {
		return err
	}
	want := "application/x-amz-json-" + d.service.Metadata.JSONVersion
	if got := d.request.Header.Get("Content-Type"); got != want {
		return d.violation(Malformed, "Content-Type", quoted(got)+" is not "+want)
	}
	tree, err := d.parseJSON(d.body)
	if err != nil || d.operation.Input == nil {
		return err
	}
	d.params, err = d.structureFromJSON(d.operation.Input.target, tree, "", nil)
	return err
}

// parseJSON wants one JSON value; an empty body counts as an empty object.
func (d *decoder) parseJSON(body []byte) (any, error) {
	if len(bytes.TrimSpace(body)) == 0 {
		return map[string]any{}, nil
	}
	reader := json.NewDecoder(bytes.NewReader(body))
	reader.UseNumber()
	var tree any
	if err := reader.Decode(&tree); err != nil {
		return nil, d.violation(Malformed, "", "the body is not JSON: "+err.Error())
	}
	if _, err := reader.Token(); err != io.EOF {
		return nil, d.violation(Malformed, "", "the body holds more than one JSON value")
	}
	return tree, nil
}

// structureFromJSON reads the members that belong to the body; only, when given,
// says which those are.
func (d *decoder) structureFromJSON(s *shape, tree any, path string, only func(*member) bool) (map[string]any, error) {
	object, ok := tree.(map[string]any)
	if !ok {
		return nil, d.violation(InvalidValue, path, "not a JSON object")
	}
	fields := map[string]any{}
	taken := map[string]bool{}
	for _, name := range s.memberNames {
		m := s.Members[name]
		if only != nil && !only(m) {
			continue
		}
		key := m.wireName(name)
		value, ok := object[key]
		if !ok {
			continue
		}
		taken[key] = true
		if value == nil {
			continue
		}
		decoded, err := d.valueFromJSON(m, value, path+"."+key)
		if err != nil {
			return nil, err
		}
		fields[name] = decoded
	}
	for key := range object {
		if !taken[key] {
			return nil, d.violation(UnknownParameter, path+"."+key, "the model has no such member")
		}
	}
	return fields, nil
}

func (d *decoder) valueFromJSON(m *member, value any, path string) (any, error) {
	s := m.target
	bad := func() (any, error) {
		return nil, d.violation(InvalidValue, path, fmt.Sprintf("a JSON %s is not a %s", jsonKind(value), s.Type))
	}
	switch s.Type {
	case "structure":
		if s.Document {
			return value, nil
		}
		return d.structureFromJSON(s, value, path, nil)
	case "list":
		items, ok := value.([]any)
		if !ok {
			return bad()
		}
		list := make([]any, len(items))
		for i, item := range items {
			var err error
			if list[i], err = d.valueFromJSON(s.Member, item, path+"."+strconv.Itoa(i+1)); err != nil {
				return nil, err
			}
		}
		return list, nil
	case "map":
		object, ok := value.(map[string]any)
		if !ok {
			return bad()
		}
		entries := map[string]any{}
		for key, entry := range object {
			var err error
			if entries[key], err = d.valueFromJSON(s.Value, entry, path+"."+key); err != nil {
				return nil, err
			}
		}
		return entries, nil
	case "boolean":
		if b, ok := value.(bool); ok {
			return b, nil
		}
		return bad()
	case "integer", "long":
		number, ok := value.(json.Number)
		if !ok {
			return bad()
		}
		n, err := strconv.ParseInt(string(number), 10, integerBits(s.Type))
		if err != nil {
			return bad()
		}
		return n, nil
	case "float", "double":
		switch v := value.(type) {
		case json.Number:
			if f, err := v.Float64(); err == nil {
				return f, nil
			}
		case string:
			if v == "NaN" || v == "Infinity" || v == "-Infinity" {
				return strconv.ParseFloat(v, 64)
			}
		}
		return bad()
	case "timestamp":
		format := m.timestampFormat(unixTimestamp)
		if number, ok := value.(json.Number); ok && format == unixTimestamp {
			if t, ok := parseTime(string(number), format); ok {
				return t, nil
			}
		}
		if text, ok := value.(string); ok && format != unixTimestamp {
			if t, ok := parseTime(text, format); ok {
				return t, nil
			}
		}
		return bad()
	}
	text, ok := value.(string)
	if !ok {
		return bad()
	}
	if s.Type == "blob" {
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, d.violation(InvalidValue, path, "not base64")
		}
		return raw, nil
	}
	return text, nil
}

func jsonKind(value any) string {
	switch value.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case json.Number:
		return "number"
	case string:
		return "string"
	case []any:
		return "array"
	}
	return "object"
}

// jsonOf turns a checked value into what encoding/json writes as AWS does.
func jsonOf(m *member, value any) any {
	switch v := value.(type) {
	case map[string]any:
		out := map[string]any{}
		for key, entry := range v {
			if m.target.Type == "map" {
				out[key] = jsonOf(m.target.Value, entry)
			} else {
				field := m.target.Members[key]
				out[field.wireName(key)] = jsonOf(field, entry)
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = jsonOf(m.target.Member, item)
		}
		return out
	case time.Time:
		if format := m.timestampFormat(unixTimestamp); format != unixTimestamp {
			return textOfTime(v, format)
		}
		return epoch(v)
	}
	return value
}

func marshalJSON(value any) ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimRight(out.Bytes(), "\n"), nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return keys
}
