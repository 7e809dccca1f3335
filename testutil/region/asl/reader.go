package asl

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// reader takes the fields out of one object of a definition and notes which it has seen.
type reader struct {
	*parser
	object *object
	state  string
	prefix string // of nested objects, as in "Retry[0]."
	of     string // what the object is, for messages
	used   map[string]bool
	// inMap allows $$.Map.
	inMap bool
	// token notes that a template passed a task token on.
	token bool
}

// unsupported names the fields that the service knows and this package refuses.
var unsupported = map[string]string{
	"Arguments":                      "JSONata is not supported",
	"Assign":                         "variables are not supported",
	"Condition":                      "JSONata is not supported",
	"Credentials":                    "running a task under another role is not supported",
	"ExecutionType":                  "distributed maps are not supported",
	"HeartbeatSecondsPath":           "heartbeats are not supported",
	"ItemBatcher":                    "distributed maps are not supported",
	"ItemReader":                     "distributed maps are not supported",
	"Items":                          "JSONata is not supported",
	"Iterator":                       "not supported, use ItemProcessor",
	"Label":                          "distributed maps are not supported",
	"MaxConcurrencyPath":             "not supported, use MaxConcurrency",
	"Output":                         "JSONata is not supported",
	"Parameters":                     "not supported here, use ItemSelector",
	"ResultWriter":                   "distributed maps are not supported",
	"ToleratedFailureCount":          "distributed maps are not supported",
	"ToleratedFailureCountPath":      "distributed maps are not supported",
	"ToleratedFailurePercentage":     "distributed maps are not supported",
	"ToleratedFailurePercentagePath": "distributed maps are not supported",
}

func (r *reader) fail(field, reason string, args ...any) {
	r.parser.fail(r.state, strings.TrimSuffix(r.prefix+field, "."), reason, args...)
}

func (r *reader) missing(field string) { r.fail(field, "is missing") }

// rest refuses every field that nobody took.
func (r *reader) rest() {
	for _, name := range r.object.names {
		if r.used[name] {
			continue
		}
		reason, ok := unsupported[name]
		// Parameters and Iterator are fields of a Map alone; elsewhere they are simply wrong.
		if !ok || (name == "Parameters" || name == "Iterator") && r.of != "a Map state" {
			reason = "is no field of " + r.of
		}
		r.fail(name, "%s", reason)
	}
}

func (r *reader) take(field string) (any, bool) {
	v, ok := r.object.fields[field]
	if ok {
		r.used[field] = true
	}
	return v, ok
}

func takeAs[T any](r *reader, field, want string) (T, bool) {
	v, ok := r.take(field)
	if !ok {
		var zero T
		return zero, false
	}
	t, ok := v.(T)
	if !ok {
		r.fail(field, "%s where %s is needed", kind(v), want)
	}
	return t, ok
}

func (r *reader) str(field string) (string, bool)   { return takeAs[string](r, field, "a string") }
func (r *reader) boolean(field string) (bool, bool) { return takeAs[bool](r, field, "a boolean") }
func (r *reader) array(field string) ([]any, bool)  { return takeAs[[]any](r, field, "an array") }
func (r *reader) members(field string) (*object, bool) {
	return takeAs[*object](r, field, "an object")
}

// list reads an array that must be there and hold something.
func (r *reader) list(field string) []any {
	l, ok := r.array(field)
	switch {
	case !ok && !r.used[field]:
		r.missing(field)
	case ok && len(l) == 0:
		r.fail(field, "is empty")
	}
	return l
}

// name reads the name of a state, which cannot be empty.
func (r *reader) name(field string) (string, bool) {
	s, ok := r.str(field)
	if ok && s == "" {
		r.fail(field, "is empty")
	}
	return s, ok
}

// target reads the Next that a choice rule or a catcher must have.
func (r *reader) target() string {
	s, ok := r.name("Next")
	if !ok && !r.used["Next"] {
		r.missing("Next")
	}
	return s
}

func (r *reader) integer(field string, low, high int) (int, bool) {
	n, ok := takeAs[json.Number](r, field, "an integer")
	if !ok {
		return 0, false
	}
	i, ok := whole(n)
	if !ok || i < low || i > high {
		r.fail(field, "%s is no integer from %d to %d", n, low, high)
		return 0, false
	}
	return i, true
}

func (r *reader) double(field string) (float64, bool) {
	n, ok := takeAs[json.Number](r, field, "a number")
	return double(n), ok
}

// inner reads an object inside this one.
func (r *reader) inner(field string, v any, of string) *reader {
	o, ok := v.(*object)
	if !ok {
		r.fail(field, "%s where an object is needed", kind(v))
		return nil
	}
	return &reader{
		parser: r.parser, object: o, state: r.state, prefix: r.prefix + field + ".", of: of,
		used: map[string]bool{}, inMap: r.inMap,
	}
}

func (r *reader) queryLanguage() {
	if q, ok := r.str("QueryLanguage"); ok && q != "JSONPath" {
		r.fail("QueryLanguage", "%s is not supported, only JSONPath", q)
	}
}

func (r *reader) path(field string, parse func(string) (*path, error)) *path {
	s, ok := r.str(field)
	if !ok {
		return nil
	}
	p, err := parse(s)
	if err != nil {
		r.fail(field, "%v", err)
		return nil
	}
	r.contextPath(field, p)
	return p
}

// selection reads a path that may be null.
func (r *reader) selection(field string, parse func(string) (*path, error)) selection {
	if v, ok := r.object.fields[field]; ok && v == nil {
		r.used[field] = true
		return selection{null: true}
	}
	return selection{path: r.path(field, parse)}
}

func (r *reader) resultPath() selection {
	sel := r.selection("ResultPath", parseReference)
	if sel.path != nil && sel.path.context {
		r.fail("ResultPath", "cannot write to the Context Object")
	}
	return sel
}

func (r *reader) template(field string) *template {
	v, ok := r.take(field)
	if !ok {
		return nil
	}
	t, err := parseTemplate(v)
	if err != nil {
		r.fail(field, "%v", err)
		return nil
	}
	t.walk(func(p *path) { r.contextPath(field, p) })
	return t
}

// contextFields is what the Context Object holds (developer guide, Context object). RetryCount is
// there in states that can retry.
var contextFields = map[string][]string{
	"Execution":    {"Id", "Input", "Name", "RoleArn", "StartTime", "RedriveCount"},
	"State":        {"Name", "EnteredTime", "RetryCount"},
	"StateMachine": {"Id", "Name"},
	"Map":          {"Item"},
}

// contextPath refuses what can never be found in the Context Object.
func (r *reader) contextPath(field string, p *path) {
	if !p.context || len(p.steps) == 0 {
		return
	}
	refuse := func(reason string) { r.fail(field, "%s %s", p.source, reason) }
	first := p.steps[0]
	known, ok := contextFields[first.name]
	switch {
	case first.kind != stepName || first.descend:
		refuse("is not supported, name the field")
	case first.name == "Task":
		r.token = true
		refuse("is not supported: there are no task tokens")
	case !ok:
		refuse("is no field of the Context Object")
	case first.name == "Map" && !r.inMap:
		refuse("exists only inside a Map state")
	case len(p.steps) > 1:
		second := p.steps[1]
		if second.kind == stepName && !second.descend && !slices.Contains(known, second.name) {
			refuse("is no field of the Context Object")
		}
	}
}

func (r *reader) errorEquals() []string {
	var names []string
	for _, v := range r.list("ErrorEquals") {
		name, ok := v.(string)
		if !ok {
			r.fail("ErrorEquals", "%s where a string is needed", kind(v))
			continue
		}
		if strings.HasPrefix(name, "States.") && !slices.Contains(knownErrors, name) {
			r.fail("ErrorEquals", "%q is no error of the service", name)
		}
		names = append(names, name)
	}
	return names
}

// integration is what the ARN of a Task's resource says.
type integration struct {
	// lambda marks a function named by its own ARN. Anything else has a service and an action, which
	// the history calls resourceType and resource.
	lambda          bool
	service, action string
}

func parseResource(arn string) (integration, error) {
	part := strings.SplitN(arn, ":", 6)
	if len(part) < 6 || part[0] != "arn" || !strings.HasPrefix(part[1], "aws") {
		return integration{}, fmt.Errorf("%q is no ARN", arn)
	}
	name := strings.TrimSuffix(part[5], ".waitForTaskToken")
	switch {
	case part[2] == "lambda" && strings.HasPrefix(name, "function:"):
		return integration{lambda: true, service: "lambda", action: arn}, nil
	case part[2] == "states" && strings.HasPrefix(name, "activity:"):
		return integration{}, fmt.Errorf("activities are not supported")
	case part[2] != "states" || part[3] != "" || part[4] != "":
		return integration{}, fmt.Errorf("%q is neither a Lambda function nor a service integration", arn)
	case strings.Contains(name, ".sync"):
		return integration{}, fmt.Errorf("running a job (.sync) is not supported")
	}
	i := strings.LastIndexByte(name, ':')
	if i <= 0 || i == len(name)-1 {
		return integration{}, fmt.Errorf("%q names no service and action", arn)
	}
	return integration{service: name[:i], action: part[5][i+1:]}, nil
}
