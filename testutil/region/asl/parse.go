package asl

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

const (
	// maxDefinition and maxName are quotas of the developer guide: 1 MB for a request and 80
	// characters for the name of a state.
	maxDefinition = 1 << 20
	maxName       = 80
	// maxSeconds is the largest number of seconds the service takes in a definition.
	maxSeconds = 99_999_999
)

// Problem is one reason for which a definition is refused.
type Problem struct {
	// State is empty for the machine itself.
	State string
	// Field is the place in the state, as in "Retry[0].ErrorEquals".
	Field  string
	Reason string
}

func (p Problem) Error() string {
	where := fmt.Sprintf("field %q", p.Field)
	if p.Field == "" {
		where = "definition"
	}
	if p.State != "" {
		where = fmt.Sprintf("state %q: %s", p.State, where)
	}
	return where + ": " + p.Reason
}

// Parse reads a definition, puts in the values of its "${Name}" placeholders as CloudFormation's
// DefinitionSubstitutions does, that is as plain text, and checks it. The error joins a Problem for
// each thing that is wrong or not supported.
func Parse(definition []byte, substitutions map[string]string) (*Machine, error) {
	p := &parser{where: map[string]bool{}}
	text, err := substitute(definition, substitutions)
	switch {
	case err != nil:
		p.fail("", "", "%v", err)
	case len(text) > maxDefinition:
		p.fail("", "", "%d bytes are more than %d", len(text), maxDefinition)
	default:
		return p.machine(text)
	}
	return nil, errors.Join(p.problems...)
}

var placeholder = regexp.MustCompile(`\$\{([^{}"]*)\}?`)

func substitute(definition []byte, values map[string]string) ([]byte, error) {
	var errs []error
	text := placeholder.ReplaceAllFunc(definition, func(match []byte) []byte {
		v, ok := values[string(placeholder.FindSubmatch(match)[1])]
		switch {
		case !ok || match[len(match)-1] != '}':
			errs = append(errs, fmt.Errorf("%s is not resolved", match))
		case strings.Contains(v, "${"):
			errs = append(errs, fmt.Errorf("%s is resolved to %q, which is not resolved", match, v))
		}
		return []byte(v)
	})
	return text, errors.Join(errs...)
}

type parser struct {
	problems []error
	// where remembers the names of all states, for they must be unique in the whole machine.
	where map[string]bool
}

func (p *parser) fail(state, field, reason string, args ...any) {
	p.problems = append(p.problems, Problem{state, field, fmt.Sprintf(reason, args...)})
}

func (p *parser) machine(text []byte) (*Machine, error) {
	v, err := decode(text)
	if err != nil {
		p.fail("", "", "not JSON: %v", err)
		return nil, errors.Join(p.problems...)
	}
	o, ok := v.(*object)
	if !ok {
		p.fail("", "", "%s is no object", kind(v))
		return nil, errors.Join(p.problems...)
	}
	r := &reader{parser: p, object: o, of: "a state machine", used: map[string]bool{}}
	m := &Machine{}
	m.Comment, _ = r.str("Comment")
	if v, ok := r.str("Version"); ok && v != "1.0" {
		r.fail("Version", "%q is not supported, only 1.0", v)
	}
	r.queryLanguage()
	m.TimeoutSeconds, _ = r.integer("TimeoutSeconds", 1, maxSeconds)
	m.Graph = *p.graph(r, false)
	r.rest()
	if p.problems != nil {
		return nil, errors.Join(p.problems...)
	}
	return m, nil
}

// graph reads StartAt and States.
func (p *parser) graph(r *reader, inMap bool) *Graph {
	g := &Graph{States: map[string]*State{}}
	var ok bool
	if g.StartAt, ok = r.name("StartAt"); !ok {
		r.missing("StartAt")
	}
	states, ok := r.members("States")
	if !ok {
		r.missing("States")
		return g
	}
	for _, name := range states.names {
		o, ok := states.fields[name].(*object)
		switch {
		case !ok:
			p.fail(name, "", "%s is no object", kind(states.fields[name]))
			continue
		case name == "" || utf8.RuneCountInString(name) > maxName:
			p.fail(name, "", "a name has 1 to %d characters", maxName)
		case p.where[name]:
			p.fail(name, "", "another state has this name")
		}
		p.where[name] = true
		g.Names = append(g.Names, name)
		g.States[name] = p.state(name, o, inMap)
	}
	p.check(r, g)
	return g
}

// state reads one state. Every type reads its own fields; what remains unread is refused.
func (p *parser) state(name string, o *object, inMap bool) *State {
	s := &State{Name: name, Definition: encode(o)}
	r := &reader{parser: p, object: o, state: name, used: map[string]bool{}, inMap: inMap}
	var ok bool
	if s.Type, ok = r.str("Type"); !ok {
		r.missing("Type")
		return s
	}
	r.of = "a " + s.Type + " state"
	s.Comment, _ = r.str("Comment")
	r.queryLanguage()
	if s.Type != Fail {
		s.inputPath = r.selection("InputPath", parsePath)
		s.outputPath = r.selection("OutputPath", parsePath)
	}
	switch s.Type {
	case Pass:
		s.parameters = r.template("Parameters")
		s.result, s.hasResult = r.take("Result")
	case Task:
		r.task(s)
	case Choice:
		r.choice(s)
	case Wait:
		r.wait(s)
	case Succeed:
	case Fail:
		r.failure(s)
	case Parallel:
		r.parallel(s)
	case Map:
		r.mapping(s)
	default:
		r.fail("Type", "%q is unknown", s.Type)
		return s
	}
	switch s.Type {
	case Task, Parallel, Map:
		s.resultSelector = r.template("ResultSelector")
		s.Retry = r.retry()
		s.Catch = r.catch()
	}
	switch s.Type {
	case Pass, Task, Parallel, Map:
		s.resultPath = r.resultPath()
	}
	switch s.Type {
	case Choice, Succeed, Fail:
	default:
		r.way(s)
	}
	r.rest()
	return s
}

// way reads Next and End, of which a state needs exactly one.
func (r *reader) way(s *State) {
	s.Next, _ = r.name("Next")
	s.End, _ = r.boolean("End")
	switch {
	case s.Next != "" && s.End:
		r.fail("End", "given beside Next")
	case s.Next == "" && !s.End:
		r.missing("Next")
	}
}

func (r *reader) task(s *State) {
	s.parameters = r.template("Parameters")
	var ok bool
	if s.Resource, ok = r.str("Resource"); !ok {
		r.missing("Resource")
		return
	}
	var err error
	if s.integration, err = parseResource(s.Resource); err != nil {
		r.fail("Resource", "%v", err)
	}
	if strings.HasSuffix(s.Resource, ".waitForTaskToken") {
		reason := "waitForTaskToken is not supported"
		if !r.token {
			reason = "waits for a task token but Parameters do not pass $$.Task.Token on"
		}
		r.fail("Resource", "%s", reason)
	}
	s.TimeoutSeconds, _ = r.integer("TimeoutSeconds", 1, maxSeconds)
	if s.timeoutPath = r.path("TimeoutSecondsPath", parseReference); s.timeoutPath != nil {
		s.TimeoutSecondsPath = s.timeoutPath.source
		if s.TimeoutSeconds != 0 {
			r.fail("TimeoutSecondsPath", "given beside TimeoutSeconds")
		}
	}
	heartbeat, given := r.integer("HeartbeatSeconds", 1, maxSeconds)
	switch {
	case given && s.TimeoutSeconds > 0 && heartbeat >= s.TimeoutSeconds:
		r.fail("HeartbeatSeconds", "%d is not less than TimeoutSeconds, %d", heartbeat, s.TimeoutSeconds)
	case given:
		r.fail("HeartbeatSeconds", "heartbeats are not supported")
	}
}

func (r *reader) wait(s *State) {
	var given []string
	if n, ok := r.integer("Seconds", 0, maxSeconds); ok {
		s.Seconds, given = &n, append(given, "Seconds")
	}
	if t, ok := r.str("Timestamp"); ok {
		s.Timestamp, given = t, append(given, "Timestamp")
		if _, err := parseTimestamp(t); err != nil {
			r.fail("Timestamp", "%v", err)
		}
	}
	if p := r.path("SecondsPath", parseReference); p != nil {
		s.SecondsPath, s.waitPath, given = p.source, p, append(given, "SecondsPath")
	}
	if p := r.path("TimestampPath", parseReference); p != nil {
		s.TimestampPath, s.waitPath, given = p.source, p, append(given, "TimestampPath")
	}
	if len(given) > 1 {
		r.fail(given[1], "given beside %s", given[0])
	} else if len(given) == 0 && !r.used["Seconds"] && !r.used["SecondsPath"] && !r.used["TimestampPath"] {
		r.missing("Seconds")
	}
}

// dynamicError are the functions that ErrorPath and CausePath may use (developer guide, Fail state).
var dynamicError = map[string]bool{
	"States.Format": true, "States.JsonToString": true, "States.ArrayGetItem": true, "States.Base64Encode": true,
	"States.Base64Decode": true, "States.Hash": true, "States.UUID": true,
}

func (r *reader) failure(s *State) {
	read := func(field string, literal *string, source *string) *template {
		*literal, _ = r.str(field)
		var given bool
		if *source, given = r.str(field + "Path"); !given {
			return nil
		}
		if r.used[field] {
			r.fail(field+"Path", "given beside %s", field)
		}
		t, err := parseDynamic(*source)
		if err == nil && t.path != nil {
			_, err = parseReference(*source)
		} else if err == nil && !dynamicError[t.call.source[:strings.IndexByte(t.call.source, '(')]] {
			err = fmt.Errorf("%s cannot be used here", t.call.source)
		}
		if err != nil {
			r.fail(field+"Path", "%v", err)
			return nil
		}
		t.walk(func(p *path) { r.contextPath(field+"Path", p) })
		return t
	}
	s.errorExpr = read("Error", &s.Error, &s.ErrorPath)
	s.causeExpr = read("Cause", &s.Cause, &s.CausePath)
}

func (r *reader) parallel(s *State) {
	s.parameters = r.template("Parameters")
	for i, b := range r.list("Branches") {
		if in := r.inner("Branches"+subscript(i), b, "a branch"); in != nil {
			in.str("Comment")
			s.Branches = append(s.Branches, r.parser.graph(in, r.inMap))
			in.rest()
		}
	}
}

func (r *reader) mapping(s *State) {
	s.itemsPath = r.path("ItemsPath", parseReference)
	s.MaxConcurrency, _ = r.integer("MaxConcurrency", 0, maxSeconds)
	outside := r.inMap
	r.inMap = true
	s.itemSelector = r.template("ItemSelector")
	r.inMap = outside
	v, ok := r.take("ItemProcessor")
	if !ok {
		r.missing("ItemProcessor")
		return
	}
	in := r.inner("ItemProcessor", v, "an item processor")
	if in == nil {
		return
	}
	in.str("Comment")
	if config, ok := in.take("ProcessorConfig"); ok {
		if c := in.inner("ProcessorConfig", config, "an inline processor"); c != nil {
			if mode, ok := c.str("Mode"); ok && mode != "INLINE" {
				c.fail("Mode", "%q is not supported, only INLINE", mode)
			}
			c.rest()
		}
	}
	s.ItemProcessor = r.parser.graph(in, true)
	in.rest()
}

func (r *reader) choice(s *State) {
	s.Default, _ = r.name("Default")
	for i, c := range r.list("Choices") {
		in := r.inner("Choices"+subscript(i), c, "a choice rule")
		if in == nil {
			continue
		}
		rule := in.rule()
		rule.Next = in.target()
		in.rest()
		s.Choices = append(s.Choices, rule)
	}
}

// rule reads a rule without its Next.
func (r *reader) rule() Rule {
	var rule Rule
	var forms []string
	r.str("Comment")
	for _, field := range []string{"And", "Or"} {
		if _, ok := r.object.fields[field]; !ok {
			continue
		}
		forms = append(forms, field)
		rules := []Rule{}
		for i, v := range r.list(field) {
			if in := r.inner(field+subscript(i), v, "a nested choice rule"); in != nil {
				rules = append(rules, in.rule())
				in.rest()
			}
		}
		if field == "And" {
			rule.And = rules
		} else {
			rule.Or = rules
		}
	}
	if v, ok := r.take("Not"); ok {
		forms = append(forms, "Not")
		if in := r.inner("Not", v, "a nested choice rule"); in != nil {
			not := in.rule()
			rule.Not = &not
			in.rest()
		}
	}
	for _, name := range r.object.names {
		if !isOperator(name) {
			continue
		}
		forms = append(forms, name)
		rule.Operator = name
		v, _ := r.take(name)
		if err := rule.compile(v); err != nil {
			r.fail(name, "%v", err)
		} else if rule.other != nil {
			r.contextPath(name, rule.other)
		}
	}
	if rule.Operator != "" {
		if rule.variable = r.path("Variable", parsePath); rule.variable != nil {
			rule.Variable = rule.variable.source
		} else if !r.used["Variable"] {
			r.missing("Variable")
		}
	}
	switch {
	case len(forms) == 0:
		r.fail("", "the rule has neither operator nor And, Or, Not")
	case len(forms) > 1:
		r.fail(forms[1], "given beside %s", forms[0])
	}
	return rule
}

func (r *reader) retry() []Retrier {
	var list []Retrier
	r.handlers("Retry", func(in *reader) []string {
		t := Retrier{IntervalSeconds: 1, MaxAttempts: 3, BackoffRate: 2}
		t.ErrorEquals = in.errorEquals()
		if n, ok := in.integer("IntervalSeconds", 1, maxSeconds); ok {
			t.IntervalSeconds = n
		}
		if n, ok := in.integer("MaxAttempts", 0, maxSeconds); ok {
			t.MaxAttempts = n
		}
		if f, ok := in.double("BackoffRate"); ok {
			if t.BackoffRate = f; !(f >= 1) {
				in.fail("BackoffRate", "%v is less than 1", f)
			}
		}
		// Less than 31,622,400, a leap year (developer guide, Handling errors).
		t.MaxDelaySeconds, _ = in.integer("MaxDelaySeconds", 1, 31_622_399)
		if j, ok := in.str("JitterStrategy"); ok {
			if t.FullJitter = j == "FULL"; !t.FullJitter && j != "NONE" {
				in.fail("JitterStrategy", "%q is neither FULL nor NONE", j)
			}
		}
		list = append(list, t)
		return t.ErrorEquals
	})
	return list
}

func (r *reader) catch() []Catcher {
	var list []Catcher
	r.handlers("Catch", func(in *reader) []string {
		c := Catcher{ErrorEquals: in.errorEquals(), Next: in.target(), resultPath: in.resultPath()}
		list = append(list, c)
		return c.ErrorEquals
	})
	return list
}

// handlers reads the members of Retry or Catch and watches over States.ALL, which must stand alone
// and last.
func (r *reader) handlers(field string, read func(*reader) []string) {
	l, _ := r.array(field)
	for i, v := range l {
		in := r.inner(field+subscript(i), v, "a member of "+field)
		if in == nil {
			continue
		}
		in.str("Comment")
		names := read(in)
		in.rest()
		for _, n := range names {
			if n == errAll && len(names) > 1 {
				in.fail("ErrorEquals", "States.ALL must stand alone")
			} else if n == errAll && i < len(l)-1 {
				in.fail("ErrorEquals", "States.ALL must stand in the last member of %s", field)
			}
		}
	}
}
