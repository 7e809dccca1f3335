package model

import (
	"fmt"
	"math"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Answer is an encoded HTTP answer.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Send writes the answer.
func (a Answer) Send(w http.ResponseWriter) error {
	for key, values := range a.Header {
		w.Header()[key] = values
	}
	w.WriteHeader(a.Status)
	if a.Status == http.StatusNoContent {
		return nil
	}
	_, err := w.Write(a.Body)
	return err
}

// Encode writes the result of an operation. It takes the types that Call.Params
// holds, and also any integer, float, string, slice or map with string keys;
// nil counts as absent. A member which the output's shape does not have, a value
// of the wrong type or outside an enumeration, and the lack of a required member
// are errors, so that a handler's slip is found by the first test that calls it.
func (s *Service) Encode(op string, result map[string]any, requestID string) (Answer, error) {
	operation := s.Operations[op]
	if operation == nil {
		return Answer{}, fmt.Errorf("encode %s of %s: no such operation", op, s.Name)
	}
	answer := Answer{Status: http.StatusOK, Header: s.headers(requestID)}
	if operation.HTTP.ResponseCode != 0 {
		answer.Status = operation.HTTP.ResponseCode
	}
	out := &output{member: member{target: &shape{Type: "structure"}}}
	if operation.Output != nil {
		out = operation.Output
	}
	checked, err := checkedStructure(out.target, result, op)
	if err != nil {
		return Answer{}, fmt.Errorf("encode answer of %s: %w", s.Name, err)
	}
	switch s.protocol {
	case protocolEC2, protocolQuery:
		answer.Body = s.queryBody(operation, out, checked, requestID)
	case protocolJSON:
		answer.Body, err = marshalJSON(jsonOf(&out.member, checked))
	case protocolCBOR:
		answer.Body = cborBody(&out.member, checked)
	default:
		err = s.restAnswer(&answer, operation, out, checked)
	}
	if err != nil {
		return Answer{}, fmt.Errorf("encode answer of %s.%s: %w", s.Name, op, err)
	}
	return answer, nil
}

func (s *Service) headers(requestID string) http.Header {
	h := http.Header{}
	h.Set("X-Amzn-Requestid", requestID)
	switch s.protocol {
	case protocolEC2, protocolQuery:
		h.Set("Content-Type", "text/xml;charset=UTF-8")
	case protocolJSON:
		h.Set("Content-Type", "application/x-amz-json-"+s.Metadata.JSONVersion)
	case protocolCBOR:
		h.Set("Content-Type", "application/cbor")
		h.Set("Smithy-Protocol", protocolCBORHeader)
	case protocolRESTJSON:
		h.Set("Content-Type", "application/json")
	default:
		h.Set("Content-Type", "application/xml")
		h.Set("X-Amz-Request-Id", requestID)
	}
	return h
}

func (s *Service) queryBody(op *operation, out *output, checked map[string]any, requestID string) []byte {
	w := &xmlWriter{ec2: s.protocol == protocolEC2}
	w.WriteString(`<?xml version="1.0" encoding="UTF-8"?>` + "\n")
	root := op.Name + "Response"
	if w.ec2 {
		w.open(root, s.Metadata.XMLNamespace+"/")
		w.text("requestId", requestID)
		if op.Output == nil {
			w.text("return", "true")
		}
		w.structure(out.target, checked)
	} else {
		w.open(root, s.Metadata.XMLNamespace)
		w.open(op.Name+"Result", "")
		w.structure(out.target, checked)
		w.close(op.Name + "Result")
		w.open("ResponseMetadata", "")
		w.text("RequestId", requestID)
		w.close("ResponseMetadata")
	}
	w.close(root)
	return w.Bytes()
}

// restAnswer spreads a result over status, headers and body.
func (s *Service) restAnswer(answer *Answer, op *operation, out *output, checked map[string]any) error {
	body := map[string]any{}
	for _, name := range sortedKeys(checked) {
		m, value := out.target.Members[name], checked[name]
		switch m.Location {
		case "statusCode":
			answer.Status = int(value.(int64))
		case "header":
			answer.Header.Set(m.wireName(name), headerOf(m, value))
		case "headers":
			for key, entry := range value.(map[string]any) {
				answer.Header.Set(m.LocationName+key, textOf(m.target.Value, entry, rfc822))
			}
		default:
			body[name] = value
		}
	}
	content, contentShape, root := any(body), &out.member, op.Name+"Result"
	if name := out.target.Payload; name != "" {
		payload := out.target.Members[name]
		switch v := body[name].(type) {
		case []byte:
			answer.Body = v
			return nil
		case string:
			answer.Body = []byte(v)
			return nil
		case nil:
			return nil
		case map[string]any:
			content, contentShape, root = v, payload, payload.wireName(name)
		}
	}
	if s.protocol == protocolRESTXML {
		w := &xmlWriter{}
		w.WriteString(`<?xml version="1.0" encoding="UTF-8"?>` + "\n")
		w.open(root, "")
		w.structure(contentShape.target, content.(map[string]any))
		w.close(root)
		answer.Body = w.Bytes()
		return nil
	}
	var err error
	answer.Body, err = marshalJSON(jsonOf(contentShape, content))
	return err
}

func headerOf(m *member, value any) string {
	items, ok := value.([]any)
	if !ok {
		return textOf(m, value, rfc822)
	}
	var texts []string
	for _, item := range items {
		texts = append(texts, textOf(m.target.Member, item, rfc822))
	}
	return strings.Join(texts, ",")
}

// checkedStructure returns the result in the plain types of Call.Params.
func checkedStructure(s *shape, fields map[string]any, path string) (map[string]any, error) {
	out := map[string]any{}
	for _, name := range sortedKeys(fields) {
		m := s.Members[name]
		if m == nil {
			return nil, fmt.Errorf("%s has no member %s", path, name)
		}
		value, err := checkedValue(m.target, fields[name], path+"."+name)
		if err != nil {
			return nil, err
		}
		if value != nil {
			out[name] = value
		}
	}
	for _, name := range s.Required {
		if _, ok := out[name]; !ok {
			return nil, fmt.Errorf("%s lacks its member %s", path, name)
		}
	}
	return out, nil
}

func checkedValue(s *shape, value any, path string) (any, error) {
	v := reflect.ValueOf(value)
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	if !v.IsValid() || (v.Kind() == reflect.Map || v.Kind() == reflect.Slice) && v.IsNil() {
		return nil, nil
	}
	bad := func() (any, error) { return nil, fmt.Errorf("%s: a %T is not a %s", path, value, s.Type) }
	switch s.Type {
	case "structure":
		if v.Kind() != reflect.Map {
			return bad()
		}
		fields, err := fieldsOf(v)
		if err != nil {
			return bad()
		}
		return checkedStructure(s, fields, path)
	case "map":
		if v.Kind() != reflect.Map {
			return bad()
		}
		fields, err := fieldsOf(v)
		if err != nil {
			return bad()
		}
		for key, entry := range fields {
			if fields[key], err = checkedValue(s.Value.target, entry, path+"."+key); err != nil {
				return nil, err
			}
		}
		return fields, nil
	case "list":
		if v.Kind() != reflect.Slice {
			return bad()
		}
		list := make([]any, 0, v.Len())
		for i := range v.Len() {
			item, err := checkedValue(s.Member.target, v.Index(i).Interface(), fmt.Sprintf("%s.%d", path, i+1))
			if err != nil {
				return nil, err
			}
			if item == nil {
				return nil, fmt.Errorf("%s.%d: a list holds no nil", path, i+1)
			}
			list = append(list, item)
		}
		return list, nil
	case "string", "character":
		if v.Kind() != reflect.String {
			return bad()
		}
		// In answers AWS's services write some values in another case than their
		// model, such as the state "available" of a VPC endpoint.
		same := func(known string) bool { return strings.EqualFold(known, v.String()) }
		if len(s.Enum) > 0 && !slices.ContainsFunc(s.Enum, same) {
			return nil, fmt.Errorf("%s: %q is not one of the values of %s", path, v.String(), s.name)
		}
		return v.String(), nil
	case "boolean":
		if v.Kind() != reflect.Bool {
			return bad()
		}
		return v.Bool(), nil
	case "integer", "long":
		switch {
		case v.CanInt():
			if n := v.Int(); s.Type == "long" || n == int64(int32(n)) {
				return n, nil
			}
		case v.CanUint():
			if n := v.Uint(); n <= math.MaxInt32 || s.Type == "long" && n <= math.MaxInt64 {
				return int64(n), nil
			}
		}
		return bad()
	case "float", "double":
		switch {
		case v.CanFloat():
			return v.Float(), nil
		case v.CanInt():
			return float64(v.Int()), nil
		}
		return bad()
	case "timestamp":
		if t, ok := v.Interface().(time.Time); ok {
			return t, nil
		}
		return bad()
	case "blob":
		if v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8 {
			return v.Bytes(), nil
		}
		return bad()
	}
	return bad()
}

func fieldsOf(v reflect.Value) (map[string]any, error) {
	if v.Type().Key().Kind() != reflect.String {
		return nil, fmt.Errorf("keys of %s are no strings", v.Type())
	}
	fields := map[string]any{}
	for _, key := range v.MapKeys() {
		fields[key.String()] = v.MapIndex(key).Interface()
	}
	return fields, nil
}
