package model

import (
	"net/http"
	"strings"
)

// Call is one request, decoded.
type Call struct {
	Service   string
	Operation string
	// Params holds string, bool, int64, float64, time.Time, []byte, []any and
	// map[string]any, under the names the model gives the members. A member that
	// was not sent is absent.
	Params map[string]any
}

// Decode reads a request by the service's model. Whatever the model does not
// allow is a *Violation. body is the request's body, which r no longer has to hold.
func (s *Service) Decode(r *http.Request, body []byte) (*Call, error) {
	s = s.For(r)
	d := decoder{service: s, request: r, body: body}
	var err error
	switch s.protocol {
	case protocolEC2, protocolQuery:
		err = d.decodeForm()
	case protocolJSON:
		err = d.decodeTarget()
	case protocolCBOR:
		err = d.decodeCBOR()
	default:
		err = d.decodeREST()
	}
	if err != nil {
		return nil, err
	}
	if input := d.operation.Input; input != nil {
		if err := d.check(input.target, d.params, ""); err != nil {
			return nil, err
		}
	}
	return &Call{Service: s.Name, Operation: d.operation.Name, Params: d.params}, nil
}

// decoder is the reading of one request.
type decoder struct {
	service   *Service
	request   *http.Request
	body      []byte
	operation *operation
	params    map[string]any
}

func (d *decoder) violation(kind Kind, path, reason string) *Violation {
	v := &Violation{Kind: kind, Service: d.service.Name, Path: strings.TrimPrefix(path, "."), Reason: reason, protocol: d.service.protocol}
	if d.operation != nil {
		v.Operation = d.operation.Name
	}
	return v
}

// begin settles which operation a request names.
func (d *decoder) begin(name string) error {
	d.params = map[string]any{}
	op := d.service.Operations[name]
	if op == nil {
		return d.violation(UnknownOperation, "", "no operation "+quoted(name))
	}
	d.operation = op
	return nil
}

// quoted shortens what a stranger sent for use in a message.
func quoted(text string) string {
	const enough = 64
	if len(text) > enough {
		text = text[:enough] + "..."
	}
	return "'" + strings.ToValidUTF8(text, "?") + "'"
}
