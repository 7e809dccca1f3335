package evidence

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gowebpki/jcs"
)

// maxDepth is how many levels of lists and objects a record may have: those of ours have eight, and readers of JSON give up at
// some hundred.
const maxDepth = 100

// maxInteger is the largest number that every reader of JSON takes for itself (RFC 7493, section 2.2). One beyond it would
// leave a manifest as another than it entered.
const maxInteger = 1<<53 - 1

// utc is a time as records have it (docs/evidence.md, section 1).
var utc = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$`)

// decode reads a record that others wrote, and takes nothing that a verifier would not: what gets into the manifest unread
// would make the whole manifest unreadable.
func decode(body []byte, v any) error {
	if !utf8.Valid(body) {
		return errors.New("it is not UTF-8")
	}
	if err := json.Unmarshal(body, v); err != nil {
		return err
	}
	w := walker{json.NewDecoder(bytes.NewReader(body)), map[reflect.Type][]reflect.StructField{}}
	w.UseNumber()
	if err := w.value(reflect.TypeOf(v).Elem(), 1); err != nil {
		return err
	}
	// The canonicalizer recurses without bound and takes strings on trust, so it comes last.
	if canonical, err := jcs.Transform(body); err != nil || !bytes.Equal(canonical, body) {
		return errors.New("it is not in the canonical form")
	}
	return nil
}

// walker follows valid JSON along the type that it is read into.
type walker struct {
	*json.Decoder
	fields map[reflect.Type][]reflect.StructField // of the types that were met
}

var timeType = reflect.TypeFor[time.Time]()

// value looks at the next value; t is nil where nothing of ours is.
func (w walker) value(t reflect.Type, depth int) error {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	token, err := w.Token()
	if err != nil {
		return err
	}
	switch token := token.(type) {
	case json.Number:
		if n, err := strconv.ParseInt(token.String(), 10, 64); err != nil || n > maxInteger || n < -maxInteger {
			return fmt.Errorf("it has the number %.40s, which is no integer of at most 2^53-1", token.String())
		}
	case string:
		if t == timeType && !utc.MatchString(token) {
			return fmt.Errorf("it has the time %.40q, which is not in UTC", token)
		}
	case json.Delim:
		if depth > maxDepth {
			return fmt.Errorf("it has more than %d levels", maxDepth)
		}
		for w.More() {
			inner, err := w.inner(t, token)
			if err != nil {
				return err
			}
			if err := w.value(inner, depth+1); err != nil {
				return err
			}
		}
		_, err := w.Token() // the end of the list or object
		return err
	}
	return nil
}

// inner is the type of the next value in a list or object. In an object it reads the member's name, which must not be that of
// a member of ours in other letters: encoding/json takes one for the other.
func (w walker) inner(t reflect.Type, open json.Delim) (reflect.Type, error) {
	var inner reflect.Type
	if t != nil && (t.Kind() == reflect.Map || t.Kind() == reflect.Slice) {
		inner = t.Elem()
	}
	if open != '{' {
		return inner, nil
	}
	token, err := w.Token()
	if err != nil || t == nil || t.Kind() != reflect.Struct {
		return inner, err
	}
	name := token.(string)
	if w.fields[t] == nil {
		w.fields[t] = reflect.VisibleFields(t)
	}
	for _, f := range w.fields[t] {
		known, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case known == name:
			return f.Type, nil
		case known != "" && strings.EqualFold(known, name):
			return nil, fmt.Errorf("it has a member %.40q beside what is called %q", name, known)
		}
	}
	return nil, nil
}
