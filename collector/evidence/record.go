package evidence

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/gowebpki/jcs"

	"flashtap/events"
)

// maxRecord is the largest record that is read into memory. A manifest of a day with a segment and four checkpoints a minute has
// 3 MB.
const maxRecord = 64 << 20

// digest is the SHA-256 of bytes, as records have it.
func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// maxInteger is the largest number that every reader of JSON takes for itself (RFC 7493, section 2.2).
const maxInteger = 1<<53 - 1

// integers says whether all numbers of a JSON value are such.
func integers(text []byte) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	for {
		token, err := d.Token()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if number, ok := token.(json.Number); ok {
			if n, err := number.Int64(); err != nil || n > maxInteger || n < -maxInteger {
				return fmt.Errorf("has the number %s, which is no integer of at most 2^53-1", number)
			}
		}
	}
}

// canonical says whether text is the canonical form of a JSON value (RFC 8785).
func canonical(text []byte) error {
	// The canonicalizer recurses without bound and takes strings on trust.
	if !json.Valid(text) {
		return errors.New("is not JSON")
	}
	if !utf8.Valid(text) {
		return errors.New("is not UTF-8")
	}
	form, err := jcs.Transform(text)
	if err != nil {
		return fmt.Errorf("has no canonical form: %w", err)
	}
	if !bytes.Equal(form, text) {
		return errors.New("is not in canonical form")
	}
	return nil
}

// decode reads a record into v, and demands its form, version and capture.
func (v *verifier) decode(text []byte, into any) error {
	if err := canonical(text); err != nil {
		return err
	}
	if _, fractions := into.(*events.Plan); !fractions {
		if err := integers(text); err != nil {
			return err
		}
	}
	return v.understand(text, into)
}

// understand is decode of what is known to be canonical.
func (v *verifier) understand(text []byte, into any) error {
	var head struct {
		Version json.RawMessage `json:"version"`
		Capture string          `json:"capture"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return fmt.Errorf("is no record: %w", plainJSON(err))
	}
	if string(head.Version) != "1" {
		return fmt.Errorf("has version %q, not %d", head.Version, events.RecordVersion)
	}
	if v.capture == "" {
		c := events.CaptureID(head.Capture)
		if err := c.Validate(); err != nil {
			return err
		}
		v.capture = c
	}
	if head.Capture != string(v.capture) {
		return fmt.Errorf("is about capture %q, not %s", head.Capture, v.capture)
	}
	return strict(text, into)
}

// strict is json.Unmarshal without its leniency: names of members differ from ours when their letters' cases do, and times are
// in UTC. Two programs could otherwise read the same record differently.
func strict(text []byte, into any) error {
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("is no record: %w", plainJSON(err))
	}
	var any any
	if err := json.Unmarshal(text, &any); err != nil {
		return err
	}
	return exact(any, reflect.TypeOf(into).Elem(), "")
}

// plainJSON says in which member a type is wrong, without Go's names.
func plainJSON(err error) error {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		return fmt.Errorf("member %q is a %s", wrong.Field, wrong.Value)
	}
	return err
}

var (
	timeType = reflect.TypeFor[time.Time]()
	rawType  = reflect.TypeFor[json.RawMessage]()
)

// exact walks a decoded value along the type that it was read into.
func exact(value any, t reflect.Type, at string) error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == rawType:
		return nil
	case t == timeType:
		if s, ok := value.(string); ok && !strings.HasSuffix(s, "Z") {
			return fmt.Errorf("%s %q is not in UTC", at, s)
		}
		return nil
	}
	switch t.Kind() {
	case reflect.Struct:
		object, ok := value.(map[string]any)
		if !ok {
			return nil
		}
		known := members(t)
		for name, inner := range object {
			if field, ok := known[name]; ok {
				if err := exact(inner, field, name); err != nil {
					return err
				}
				continue
			}
			for other := range known {
				if strings.EqualFold(name, other) {
					return fmt.Errorf("has a member %q beside what is called %q", name, other)
				}
			}
		}
	case reflect.Map:
		if object, ok := value.(map[string]any); ok {
			for name, inner := range object {
				if err := exact(inner, t.Elem(), name); err != nil {
					return err
				}
			}
		}
	case reflect.Slice, reflect.Array:
		if list, ok := value.([]any); ok {
			for _, inner := range list {
				if err := exact(inner, t.Elem(), at); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

var knownMembers sync.Map // by type

// members are the types of a struct's members by their names in JSON.
func members(t reflect.Type) map[string]reflect.Type {
	if all, ok := knownMembers.Load(t); ok {
		return all.(map[string]reflect.Type)
	}
	all := findMembers(t)
	knownMembers.Store(t, all)
	return all
}

func findMembers(t reflect.Type) map[string]reflect.Type {
	all := map[string]reflect.Type{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			for name, inner := range members(f.Type) {
				all[name] = inner
			}
		case f.IsExported() && name != "-":
			if name == "" {
				name = f.Name
			}
			all[name] = f.Type
		}
	}
	return all
}

// record is a segment record with what is hashed of it.
type record struct {
	events.Segment
	leaf []byte // its canonical form without "confirmed"
	link string
}

// newRecord reads one segment record from canonical JSON, whatever members it has.
func newRecord(text json.RawMessage) (record, error) {
	var r record
	if err := strict(text, &r.Segment); err != nil {
		return r, err
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		return r, err
	}
	r.leaf = text
	if _, there := members["confirmed"]; there {
		delete(members, "confirmed")
		without, err := json.Marshal(members)
		if err != nil {
			return r, err
		}
		if r.leaf, err = jcs.Transform(without); err != nil {
			return r, err
		}
	}
	r.link = digest(r.leaf)
	r.Confirmed = false
	return r, nil
}

func newRecords(texts []json.RawMessage) ([]record, error) {
	all := make([]record, 0, len(texts))
	for i, text := range texts {
		r, err := newRecord(text)
		if err != nil {
			return nil, fmt.Errorf("segment record %d: %w", i+1, err)
		}
		all = append(all, r)
	}
	return all, nil
}

// canonicalForm is the canonical JSON of a value.
func canonicalForm(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return jcs.Transform(text)
}

// compact is a JSON value in its canonical form, from a larger one that need not be.
func compact(text json.RawMessage) ([]byte, error) {
	if !json.Valid(text) {
		return nil, errors.New("has no record")
	}
	return jcs.Transform(text)
}
