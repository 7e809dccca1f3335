package asl

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// thread is one line of states: the execution itself, a branch or an iteration. Its methods run
// while it holds the turn.
type thread struct {
	x   *Execution
	ctx context.Context
	// last is the event before the next one.
	last int64
	// item is $$.Map of the innermost iteration.
	item *object
}

func (t *thread) emit(kind string, d Details) int64 {
	t.last = t.x.record(kind, t.last, d)
	return t.last
}

// alive fails when the execution or this branch is to end.
func (t *thread) alive() error {
	if t.ctx.Err() != nil {
		return errStopped
	}
	return nil
}

// away runs f without the turn.
func (t *thread) away(f func()) error {
	t.x.turn.give()
	f()
	<-t.x.turn.ask()
	return t.alive()
}

func (t *thread) sleep(d time.Duration) error {
	if d <= 0 {
		return t.alive()
	}
	return t.away(func() {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-t.ctx.Done():
		}
	})
}

// run goes through a graph to its end. The error is an *Error or errStopped.
func (t *thread) run(g *Graph, input any) (any, error) {
	for name := g.StartAt; ; t.x.turn.yield() {
		if err := t.alive(); err != nil {
			return nil, err
		}
		out, next, err := t.enter(g.States[name], input)
		if err != nil {
			return nil, err
		}
		if next == "" {
			return out, t.alive()
		}
		name, input = next, out
	}
}

// enter executes one state.
func (t *thread) enter(s *State, raw any) (out any, next string, err error) {
	v := &visit{thread: t, state: s, raw: raw, entered: time.Now()}
	v.id = t.emit(s.Type+"StateEntered", Details{Name: s.Name, Input: encode(raw)})
	switch s.Type {
	case Pass:
		out, next, err = v.pass()
	case Choice:
		out, next, err = v.choose()
	case Wait:
		out, next, err = v.wait()
	case Succeed:
		out, next, err = v.through()
	case Fail:
		err = v.failure()
	case Task:
		out, next, err = v.guard(v.task)
	case Parallel:
		out, next, err = v.guard(v.parallel)
	case Map:
		out, next, err = v.guard(v.mapping)
	}
	if err == nil {
		err = v.measure(out)
	}
	if err == nil {
		err = t.alive()
	}
	if err == errStopped {
		t.aborted(s.Type+"StateAborted", Details{})
	}
	if err != nil {
		return nil, "", err
	}
	t.emit(s.Type+"StateExited", Details{Name: s.Name, Output: encode(out)})
	return out, next, nil
}

// sibling is the cause that ends the branches beside one that failed.
type sibling struct{ event int64 }

func (*sibling) Error() string { return "another branch failed" }

// aborted writes the end of something that a failing sibling cut off. The states that take no time
// have no such event. The end of a whole execution is told by one event alone.
func (t *thread) aborted(kind string, d Details) {
	var cause *sibling
	if !errors.As(context.Cause(t.ctx), &cause) {
		return
	}
	switch kind {
	case "TaskStateAborted", "WaitStateAborted", "ParallelStateAborted", "MapStateAborted", "MapIterationAborted":
		t.last = cause.event
		t.emit(kind, d)
		t.last = cause.event
	}
}

// visit is one stay in a state.
type visit struct {
	*thread
	state   *State
	raw     any
	entered time.Time
	id      int64 // of the StateEntered event
	retries int
	// begun says that the branches or iterations of this attempt were started.
	begun bool
}

// contextObject is what "$$" reads. The order of its fields is the service's.
func (v *visit) contextObject() *object {
	o := v.x.options
	state := obj("Name", v.state.Name, "EnteredTime", stamp(v.entered))
	switch v.state.Type {
	case Task, Parallel, Map:
		state.set("RetryCount", number(v.retries))
	}
	c := obj(
		"Execution", obj("Id", o.ExecutionArn, "Input", v.x.input, "StartTime", stamp(v.x.started),
			"Name", o.Name, "RoleArn", o.RoleArn, "RedriveCount", number(0)),
		"StateMachine", obj("Id", o.StateMachineArn, "Name", o.StateMachineArn[strings.LastIndexByte(o.StateMachineArn, ':')+1:]),
		"State", state,
	)
	if v.item != nil {
		c.set("Map", v.item)
	}
	return c
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

func (v *visit) scope(doc any) scope { return scope{doc, v.contextObject()} }

// fail makes the error of a state that could not be evaluated, in the words of the service.
func (v *visit) fail(name, cause string) *Error {
	return &Error{name, fmt.Sprintf("An error occurred while executing the state '%s' (entered at the event id #%d). %s",
		v.state.Name, v.id, cause)}
}

func (v *visit) wrap(err error) error {
	var u *unresolved
	if errors.As(err, &u) {
		return v.fail(u.name, u.cause)
	}
	return err
}

// measure refuses an output that is too long.
func (v *visit) measure(out any) error {
	if len(encode(out)) > MaxPayload {
		return tooLong(v.state.Name)
	}
	return nil
}

func tooLong(name string) *Error {
	return &Error{errDataLimit, fmt.Sprintf(
		"The state/task '%s' returned a result with a size exceeding the maximum number of bytes service limit.", name)}
}

// effective is the input after InputPath.
func (v *visit) effective() (any, error) { return v.pick(v.state.inputPath, v.raw) }

// input is the input after InputPath and Parameters.
func (v *visit) input() (any, error) {
	doc, err := v.effective()
	if err != nil || v.state.parameters == nil {
		return doc, err
	}
	doc, err = v.state.parameters.eval(v.scope(doc))
	return doc, v.wrap(err)
}

// pick applies InputPath or OutputPath.
func (v *visit) pick(sel selection, doc any) (any, error) {
	switch {
	case sel.null:
		return newObject(), nil
	case sel.path == nil:
		return doc, nil
	}
	return v.read(sel.path, doc)
}

// read applies a path that must find something.
func (v *visit) read(p *path, doc any) (any, error) {
	if !p.context && doc == nil {
		return nil, v.fail(errRuntime, causeNullInput)
	}
	in := v.scope(doc)
	if found, ok := in.find(p); ok {
		return found, nil
	}
	if p.context {
		doc = in.context
	}
	return nil, v.fail(errRuntime, fmt.Sprintf("Invalid path '%s' : %s", p.source, p.explain(doc)))
}

// explain says where a definite path ends, as Jayway's library words it.
func (p *path) explain(doc any) string {
	var b strings.Builder
	b.WriteByte('$')
	for i := range p.steps {
		if st := p.steps[i]; st.kind == stepName {
			fmt.Fprintf(&b, "['%s']", st.name)
		} else {
			fmt.Fprintf(&b, "[%d]", st.index)
		}
		upTo := path{steps: p.steps[:i+1], definite: true}
		if _, ok := upTo.find(doc); !ok && i < len(p.steps)-1 {
			return "Missing property in path " + b.String()
		}
	}
	return "No results for path: " + b.String()
}

// combine puts a result into the raw input by ResultPath.
func (v *visit) combine(sel selection, result any) (any, error) {
	switch {
	case sel.null:
		return v.raw, nil
	case sel.path == nil:
		return result, nil
	}
	doc, err := sel.path.put(v.raw, result)
	if err != nil {
		return nil, v.fail(errResultPath, fmt.Sprintf("ResultPath '%s' cannot be applied to the input: %v", sel.path.source, err))
	}
	return doc, nil
}

// output takes a result through ResultSelector, ResultPath and OutputPath.
func (v *visit) output(result any) (any, error) {
	var err error
	if v.state.resultSelector != nil {
		if result, err = v.state.resultSelector.eval(v.scope(result)); err != nil {
			return nil, v.wrap(err)
		}
	}
	doc, err := v.combine(v.state.resultPath, result)
	if err != nil {
		return nil, err
	}
	return v.pick(v.state.outputPath, doc)
}

func (v *visit) pass() (any, string, error) {
	result, err := v.input()
	if err != nil {
		return nil, "", err
	}
	if v.state.hasResult {
		result = v.state.result
	}
	out, err := v.output(result)
	return out, v.state.Next, err
}

// through takes the input through InputPath and OutputPath.
func (v *visit) through() (any, string, error) {
	doc, err := v.effective()
	if err != nil {
		return nil, "", err
	}
	out, err := v.pick(v.state.outputPath, doc)
	return out, v.state.Next, err
}

func (v *visit) choose() (any, string, error) {
	doc, err := v.effective()
	if err != nil {
		return nil, "", err
	}
	next := v.state.Default
	in := v.scope(doc)
	for i := range v.state.Choices {
		ok, err := v.state.Choices[i].decide(in)
		if err != nil {
			return nil, "", v.wrap(err)
		}
		if ok {
			next = v.state.Choices[i].Next
			break
		}
	}
	if next == "" {
		// The documents name States.NoChoiceMatched, the service reports this.
		return nil, "", v.fail(errRuntime, "Failed to transition out of the state. The state does not point to a next state.")
	}
	out, err := v.pick(v.state.outputPath, doc)
	return out, next, err
}

// maxDelay is the longest wait until a timestamp that the service was seen to take.
const maxDelay = (1<<31 - 1) * time.Second

func (v *visit) wait() (any, string, error) {
	doc, err := v.effective()
	if err != nil {
		return nil, "", err
	}
	d, err := v.delay(doc)
	if err != nil {
		return nil, "", err
	}
	if err := v.sleep(d); err != nil {
		return nil, "", err
	}
	return v.through()
}

func (v *visit) delay(doc any) (time.Duration, error) {
	s := v.state
	until := s.Timestamp
	switch {
	case s.Seconds != nil:
		return seconds(*s.Seconds), nil
	case s.SecondsPath != "":
		value, ok := v.scope(doc).find(s.waitPath)
		if !ok {
			return 0, v.fail(errRuntime, "The SecondsPath parameter does not reference an input value: "+s.SecondsPath)
		}
		n, ok := whole(value)
		switch {
		case !ok || n > maxSeconds:
			return 0, v.fail(errRuntime, fmt.Sprintf("The SecondsPath parameter cannot be parsed as a long value: %s == %s", s.SecondsPath, encode(value)))
		case n < 0:
			return 0, v.fail(errRuntime, fmt.Sprintf("The SecondsPath parameter references a negative value: %s == %d", s.SecondsPath, n))
		}
		return seconds(n), nil
	case s.TimestampPath != "":
		value, ok := v.scope(doc).find(s.waitPath)
		if !ok {
			return 0, v.fail(errRuntime, "The TimestampPath parameter does not reference an input value: "+s.TimestampPath)
		}
		if _, ok := asTimestamp(value); !ok {
			text := string(encode(value))
			if t, ok := value.(string); ok {
				text = t
			}
			return 0, v.fail(errRuntime, fmt.Sprintf(
				"The TimestampPath parameter does not reference a valid ISO-8601 extended offset date-time format string: %s == %s", s.TimestampPath, text))
		}
		until = value.(string)
	}
	at, err := parseTimestamp(until)
	if err != nil {
		return 0, v.fail(errRuntime, err.Error())
	}
	d := time.Until(at)
	if d > maxDelay {
		return 0, v.fail(errRuntime, "Wait state delay is too long.")
	}
	return d, nil
}

func (v *visit) failure() error {
	e := &Error{v.state.Error, v.state.Cause}
	for _, part := range []struct {
		expr   *template
		field  string
		target *string
	}{{v.state.errorExpr, "ErrorPath", &e.Name}, {v.state.causeExpr, "CausePath", &e.Cause}} {
		if part.expr == nil {
			continue
		}
		value, err := part.expr.evalField(v.scope(v.raw), part.field)
		if err != nil {
			return v.wrap(err)
		}
		s, ok := value.(string)
		if !ok {
			return v.fail(errRuntime, fmt.Sprintf("%s yields no string but %s.", part.field, kind(value)))
		}
		*part.target = s
	}
	return e
}
