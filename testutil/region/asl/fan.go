package asl

import (
	"context"
	"errors"
	"fmt"
)

// maxIterations is how many iterations of an inline Map run at once, whatever MaxConcurrency says
// (developer guide, Map state processing modes).
const maxIterations = 40

// job is one branch or iteration to run.
type job struct {
	graph *Graph
	input any
	item  *object
}

func (v *visit) parallel() (any, error) {
	input, err := v.input()
	if err != nil {
		return nil, err
	}
	if len(encode(input)) > MaxPayload {
		return nil, tooLong(v.state.Name)
	}
	v.begun = true
	v.emit("ParallelStateStarted", Details{})
	jobs := make([]job, len(v.state.Branches))
	for i, g := range v.state.Branches {
		jobs[i] = job{g, input, v.item}
	}
	return v.fan(jobs, len(jobs))
}

func (v *visit) mapping() (any, error) {
	doc, err := v.effective()
	if err != nil {
		return nil, err
	}
	items := doc
	if v.state.itemsPath != nil {
		if items, err = v.read(v.state.itemsPath, doc); err != nil {
			return nil, err
		}
	}
	list, ok := items.([]any)
	if !ok {
		return nil, v.fail(errRuntime, fmt.Sprintf("Map state input must be an array but was: %s", encode(items)))
	}
	jobs := make([]job, len(list))
	for i, value := range list {
		jobs[i] = job{v.state.ItemProcessor, value, obj("Item", obj("Index", number(i), "Value", value))}
		if v.state.itemSelector == nil {
			continue
		}
		in := v.scope(doc)
		in.context.set("Map", jobs[i].item)
		if jobs[i].input, err = v.state.itemSelector.eval(in); err != nil {
			return nil, v.wrap(err)
		}
		if len(encode(jobs[i].input)) > MaxPayload {
			return nil, tooLong(v.state.Name)
		}
	}
	v.begun = true
	v.emit("MapStateStarted", Details{Length: len(jobs)})
	limit := maxIterations
	if m := v.state.MaxConcurrency; m > 0 {
		limit = min(m, limit)
	}
	return v.fan(jobs, limit)
}

// fan runs jobs, at most limit at a time, and turns their outputs into the state's output.
func (v *visit) fan(jobs []job, limit int) (any, error) {
	f := &fan{visit: v, jobs: jobs, results: make([]any, len(jobs)), done: make(chan struct{}), last: v.last}
	f.ctx, f.cancel = context.WithCancelCause(v.ctx)
	defer f.cancel(nil)
	start := v.last
	for f.next < min(limit, len(jobs)) {
		f.launch(start)
	}
	if len(jobs) > 0 {
		if err := v.away(func() { <-f.done }); err != nil {
			return nil, err
		}
	}
	v.last = f.last
	if f.failure != nil {
		return nil, f.failure
	}
	// Both this event and the next follow on the last one inside, as the service lists them.
	v.emit(v.state.Type+"StateSucceeded", Details{})
	v.last, v.begun = f.last, false
	return v.output(f.results)
}

// fan is the state of the jobs of one attempt. It is touched only by who has the turn.
type fan struct {
	visit   *visit
	ctx     context.Context
	cancel  context.CancelCauseFunc
	jobs    []job
	results []any
	next    int // the job to launch next
	running int
	done    chan struct{}
	failure *Error
	last    int64 // the event on which the state goes on
}

// launch starts the next job. It runs when its turn comes.
func (f *fan) launch(previous int64) {
	i := f.next
	f.next++
	f.running++
	t := &thread{x: f.visit.x, ctx: f.ctx, last: previous, item: f.jobs[i].item}
	f.iteration(t, "Started", i)
	mine := t.x.turn.ask()
	go func() {
		<-mine
		out, err := t.run(f.jobs[i].graph, f.jobs[i].input)
		f.settle(t, i, out, err)
		t.x.turn.give()
	}()
}

// settle notes the end of a job. The first failure ends the others before they come to their turn.
func (f *fan) settle(t *thread, i int, out any, err error) {
	before := t.last
	var failure *Error
	switch {
	case err == nil:
		f.results[i] = out
		f.iteration(t, "Succeeded", i)
		if f.failure == nil {
			f.last = t.last
			if f.next < len(f.jobs) && t.alive() == nil {
				f.launch(before)
			}
		}
	case errors.As(err, &failure) && f.failure == nil:
		f.failure, f.last = failure, before
		f.iteration(t, "Failed", i)
		f.cancel(&sibling{before})
	case f.visit.state.Type == Map:
		t.aborted("MapIterationAborted", Details{Name: f.visit.state.Name, Index: i})
	}
	if f.running--; f.running == 0 {
		close(f.done)
	}
}

func (f *fan) iteration(t *thread, what string, i int) {
	if f.visit.state.Type == Map {
		t.emit("MapIteration"+what, Details{Name: f.visit.state.Name, Index: i})
	}
}
