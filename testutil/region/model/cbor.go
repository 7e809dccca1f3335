package model

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/aws/smithy-go/encoding/cbor"
)

// decodeCBOR reads Smithy's RPC v2 protocol: the operation is in the path
// /service/NAME/operation/NAME, the parameters are one CBOR map.
func (d *decoder) decodeCBOR() error {
	steps := strings.Split(d.request.URL.Path, "/")
	if len(steps) < 4 || steps[len(steps)-4] != "service" || steps[len(steps)-2] != "operation" ||
		steps[len(steps)-3] != d.service.Metadata.TargetPrefix {
		return d.violation(UnknownOperation, "", "the path "+quoted(d.request.URL.Path)+" names no operation")
	}
	if err := d.begin(steps[len(steps)-1]); err != nil {
		return err
	}
	if len(d.body) == 0 || d.operation.Input == nil {
		return nil
	}
	value, err := cbor.Decode(d.body)
	if err != nil {
		return d.violation(Malformed, "", "the body is not CBOR: "+err.Error())
	}
	d.params, err = d.structureFromJSON(d.operation.Input.target, treeOfCBOR(value), "", nil)
	return err
}

// treeOfCBOR writes a CBOR value as the tree that the same value has in JSON, so
// that one reader serves both.
func treeOfCBOR(value cbor.Value) any {
	switch v := value.(type) {
	case cbor.Uint:
		return json.Number(strconv.FormatUint(uint64(v), 10))
	case cbor.NegInt:
		if v == 0 { // stands for -2^64
			return json.Number("-18446744073709551616")
		}
		return json.Number("-" + strconv.FormatUint(uint64(v), 10))
	case cbor.Float32:
		return numberOf(float64(v))
	case cbor.Float64:
		return numberOf(float64(v))
	case cbor.String:
		return string(v)
	case cbor.Slice:
		return base64.StdEncoding.EncodeToString(v)
	case cbor.Bool:
		return bool(v)
	case cbor.List:
		list := make([]any, len(v))
		for i, item := range v {
			list[i] = treeOfCBOR(item)
		}
		return list
	case cbor.Map:
		object := map[string]any{}
		for key, entry := range v {
			object[key] = treeOfCBOR(entry)
		}
		return object
	case *cbor.Tag: // 1 is a time in seconds (RFC 8949, section 3.4.2)
		return treeOfCBOR(v.Value)
	}
	return nil
}

func numberOf(f float64) any {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	}
	return json.Number(strconv.FormatFloat(f, 'g', -1, 64))
}

func cborBody(m *member, checked map[string]any) []byte { return cbor.Encode(cborOf(m, checked)) }

func cborFault(fields map[string]any) []byte {
	out := cbor.Map{}
	for key, value := range fields {
		out[key] = cbor.String(value.(string))
	}
	return cbor.Encode(out)
}

func cborOf(m *member, value any) cbor.Value {
	switch v := value.(type) {
	case map[string]any:
		out := cbor.Map{}
		for key, entry := range v {
			if m.target.Type == "map" {
				out[key] = cborOf(m.target.Value, entry)
			} else {
				out[key] = cborOf(m.target.Members[key], entry)
			}
		}
		return out
	case []any:
		out := make(cbor.List, len(v))
		for i, item := range v {
			out[i] = cborOf(m.target.Member, item)
		}
		return out
	case string:
		return cbor.String(v)
	case bool:
		return cbor.Bool(v)
	case int64:
		if v < 0 {
			return cbor.NegInt(uint64(-v))
		}
		return cbor.Uint(uint64(v))
	case float64:
		return cbor.Float64(v)
	case []byte:
		return cbor.Slice(v)
	case time.Time:
		return &cbor.Tag{ID: 1, Value: cbor.Float64(float64(v.UnixMilli()) / 1000)}
	}
	return &cbor.Nil{}
}
