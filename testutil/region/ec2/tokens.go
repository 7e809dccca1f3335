package ec2

import (
	"maps"
	"reflect"
)

// remembered is what a client token stands for.
type remembered struct {
	params map[string]any
	answer func() (map[string]any, error)
}

// once performs a creating operation unless its client token was used before:
// then the first answer is given again, whether or not what it made still exists.
// The scope separates the tokens of a zonal operation by zone. EC2 developer
// guide, "Ensuring idempotency in Amazon EC2 API requests".
func (s *Service) once(r *request, scope string, create func() (answer func() (map[string]any, error), err error)) (map[string]any, error) {
	token := r.str("ClientToken")
	if !r.has("ClientToken") {
		answer, err := create()
		if err != nil {
			return nil, err
		}
		return answer()
	}
	if token == "" || len(token) > 64 {
		return nil, invalidValue("Invalid client token: it must have 1 to 64 characters")
	}
	for _, c := range []byte(token) {
		if c < 0x20 || c > 0x7e {
			return nil, invalidValue("Invalid client token: only ASCII characters are allowed")
		}
	}
	asked := maps.Clone(r.call.Params)
	delete(asked, "DryRun")
	key := r.call.Operation + "\x00" + scope + "\x00" + token
	if before := s.tokens[key]; before != nil {
		if !reflect.DeepEqual(before.params, asked) {
			return nil, apiError("IdempotentParameterMismatch", "The client token you have provided is associated with a resource of the same type, but the request parameters do not match those of that request.")
		}
		return before.answer()
	}
	answer, err := create()
	if err != nil {
		return nil, err
	}
	s.tokens[key] = &remembered{asked, answer}
	return answer()
}

// always gives the same answer each time.
func always(result map[string]any) func() (map[string]any, error) {
	return func() (map[string]any, error) { return result, nil }
}
