package asl

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"unicode/utf8"
)

// MaxPayload is the most a state's input, output or result may measure as UTF-8
// (Step Functions developer guide, service quotas: 256 KiB).
const MaxPayload = 256 * 1024

// maxNesting bounds the depth of a document, so that recursion over it stays shallow.
const maxNesting = 500

// A JSON value is one of nil, bool, string, json.Number, []any and *object. Values are never
// changed once built: whoever wants another value builds it from the old one's parts, so parts may
// be shared between states and branches.

// object is a JSON object that keeps the order of its members, because States.JsonToString and the
// history show it.
type object struct {
	names  []string
	fields map[string]any
}

func newObject() *object { return &object{fields: map[string]any{}} }

// obj builds an object from alternating names and values.
func obj(pairs ...any) *object {
	o := newObject()
	for i := 0; i < len(pairs); i += 2 {
		o.set(pairs[i].(string), pairs[i+1])
	}
	return o
}

// set belongs to the builder of an object; nobody calls it once the object is shared.
func (o *object) set(name string, value any) {
	if _, ok := o.fields[name]; !ok {
		o.names = append(o.names, name)
	}
	o.fields[name] = value
}

// with returns a copy in which name has another value.
func (o *object) with(name string, value any) *object {
	c := newObject()
	for _, n := range o.names {
		c.set(n, o.fields[n])
	}
	c.set(name, value)
	return c
}

// decode reads one JSON text. Duplicate names are refused, for two readers would pick different ones.
func decode(text []byte) (any, error) {
	if !utf8.Valid(text) {
		return nil, errors.New("not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	v, err := decodeValue(dec, 0)
	if err == io.EOF {
		return nil, errors.New("no JSON value")
	}
	if err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("text after the JSON value")
	}
	return v, nil
}

func decodeValue(dec *json.Decoder, depth int) (any, error) {
	if depth > maxNesting {
		return nil, fmt.Errorf("nested deeper than %d", maxNesting)
	}
	tok, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch tok {
	case json.Delim('{'):
		o := newObject()
		for dec.More() {
			name, err := dec.Token()
			if err != nil {
				return nil, err
			}
			if _, ok := o.fields[name.(string)]; ok {
				return nil, fmt.Errorf("name %q appears twice in one object", name)
			}
			v, err := decodeValue(dec, depth+1)
			if err != nil {
				return nil, noEOF(err)
			}
			o.set(name.(string), v)
		}
		_, err := dec.Token()
		return o, noEOF(err)
	case json.Delim('['):
		list := []any{}
		for dec.More() {
			v, err := decodeValue(dec, depth+1)
			if err != nil {
				return nil, noEOF(err)
			}
			list = append(list, v)
		}
		_, err := dec.Token()
		return list, noEOF(err)
	}
	return tok, nil
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

func encode(v any) []byte { return appendJSON(nil, v) }

func appendJSON(dst []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(dst, "null"...)
	case bool:
		return strconv.AppendBool(dst, v)
	case string:
		return appendString(dst, v)
	case json.Number:
		return append(dst, v...)
	case []any:
		dst = append(dst, '[')
		for i, e := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendJSON(dst, e)
		}
		return append(dst, ']')
	case *object:
		dst = append(dst, '{')
		for i, n := range v.names {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendString(dst, n)
			dst = append(dst, ':')
			dst = appendJSON(dst, v.fields[n])
		}
		return append(dst, '}')
	}
	panic(fmt.Sprintf("%T is not a JSON value", v))
}

// appendString escapes only what RFC 8259, section 7 demands. encoding/json would escape U+2028 too,
// and the length of a payload counts.
func appendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		case c == '\t':
			dst = append(dst, '\\', 't')
		case c < 0x20:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

func number(i int) json.Number { return json.Number(strconv.Itoa(i)) }

// double reads a number as binary64, which is all the language promises (states-language.net, Data).
// What lies beyond binary64 becomes an infinity.
func double(n json.Number) float64 {
	f, err := strconv.ParseFloat(string(n), 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return math.NaN()
	}
	return f
}

// whole reports the integer that a JSON value stands for, if it is one.
func whole(v any) (int, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return 0, false
	}
	if i, err := strconv.Atoi(string(n)); err == nil {
		return i, true
	}
	f := double(n)
	if f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return 0, false
	}
	return int(f), true
}

func equal(a, b any) bool {
	switch a := a.(type) {
	case json.Number:
		b, ok := b.(json.Number)
		return ok && (a == b || double(a) == double(b))
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !equal(a[i], b[i]) {
				return false
			}
		}
		return true
	case *object:
		b, ok := b.(*object)
		if !ok || len(a.names) != len(b.names) {
			return false
		}
		for n, v := range a.fields {
			w, ok := b.fields[n]
			if !ok || !equal(v, w) {
				return false
			}
		}
		return true
	}
	switch b.(type) {
	case []any, *object:
		return false
	}
	return a == b
}

// kind names the type of a JSON value for messages.
func kind(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case string:
		return "string"
	case json.Number:
		return "number"
	case []any:
		return "array"
	}
	return "object"
}
