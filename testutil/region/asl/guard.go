package asl

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"time"
)

// attempt does the work of a state once and returns its output after OutputPath.
type attempt func() (any, error)

// guard runs attempts under the state's Retry and Catch
// (states-language.net, Retrying after error and Fallback states).
func (v *visit) guard(try attempt) (any, string, error) {
	used := make([]int, len(v.state.Retry))
	for {
		v.begun = false
		out, err := try()
		if err == nil {
			err = v.measure(out)
		}
		if err == nil {
			return out, v.state.Next, nil
		}
		var failure *Error
		if !errors.As(err, &failure) {
			return nil, "", err
		}
		again, err := v.retry(failure, used)
		if err != nil {
			return nil, "", err
		}
		if again {
			continue
		}
		if v.begun {
			v.emit(v.state.Type+"StateFailed", Details{})
		}
		return v.catch(failure)
	}
}

// retry waits as the first matching retrier wants and reports whether to try again. A retrier that
// is used up ends the search.
func (v *visit) retry(failure *Error, used []int) (bool, error) {
	for i, r := range v.state.Retry {
		if !Matches(r.ErrorEquals, failure.Name) {
			continue
		}
		if used[i] >= r.MaxAttempts {
			return false, nil
		}
		d := r.Delay(used[i])
		if r.FullJitter {
			d = time.Duration(rand.Int64N(int64(d) + 1))
		}
		used[i]++
		v.retries++
		return true, v.sleep(d)
	}
	return false, nil
}

// Delay is the time before a retry, where n counts the retries by this retrier before it. With
// FullJitter it is the most that can pass.
func (r Retrier) Delay(n int) time.Duration {
	s := float64(r.IntervalSeconds) * math.Pow(r.BackoffRate, float64(n))
	if r.MaxDelaySeconds > 0 {
		s = min(s, float64(r.MaxDelaySeconds))
	}
	return time.Duration(min(s, maxSeconds) * float64(time.Second))
}

// catch follows the first matching catcher. The output passes by OutputPath.
func (v *visit) catch(failure *Error) (any, string, error) {
	for _, c := range v.state.Catch {
		if Matches(c.ErrorEquals, failure.Name) {
			out, err := v.combine(c.resultPath, obj("Error", failure.Name, "Cause", failure.Cause))
			return out, c.Next, err
		}
	}
	return nil, "", failure
}

// task runs the resource of a Task state.
func (v *visit) task() (any, error) {
	input, err := v.input()
	if err != nil {
		return nil, err
	}
	payload := encode(input)
	if len(payload) > MaxPayload {
		return nil, tooLong(v.state.Name)
	}
	timeout, err := v.timeout()
	if err != nil {
		return nil, err
	}
	events := taskEvents{v}
	events.scheduled(payload, timeout)
	result, failure, err := v.call(payload, timeout)
	if err != nil {
		return nil, err
	}
	if failure != nil {
		events.failed(failure)
		return nil, failure
	}
	events.succeeded(result)
	return v.output(result)
}

func (v *visit) timeout() (int, error) {
	if v.state.timeoutPath == nil {
		return v.state.TimeoutSeconds, nil
	}
	doc, err := v.effective()
	if err != nil {
		return 0, err
	}
	value, err := v.read(v.state.timeoutPath, doc)
	if err != nil {
		return 0, err
	}
	n, ok := whole(value)
	if !ok || n < 1 || n > maxSeconds {
		return 0, v.fail(errRuntime, "The TimeoutSecondsPath parameter references no positive integer: "+v.state.TimeoutSecondsPath)
	}
	return n, nil
}

// call hands the work to the runner and waits for its result, at most for the timeout.
func (v *visit) call(payload json.RawMessage, timeout int) (any, *Error, error) {
	type answer struct {
		result json.RawMessage
		err    error
	}
	answers := make(chan answer, 1)
	ctx, cancel := context.WithCancel(v.ctx)
	defer cancel()
	v.x.calls.Go(func() {
		result, err := v.x.options.Tasks.RunTask(ctx, v.state.Resource, payload)
		answers <- answer{result, err}
	})
	var a answer
	err := v.away(func() {
		var expired <-chan time.Time
		if timeout > 0 {
			timer := time.NewTimer(seconds(timeout))
			defer timer.Stop()
			expired = timer.C
		}
		select {
		case a = <-answers:
		case <-expired:
			a.err = &Error{Name: errTimeout}
		case <-v.ctx.Done():
		}
	})
	if err != nil {
		return nil, nil, err
	}
	return v.judge(a.result, a.err)
}

// judge reads what a runner answered.
func (v *visit) judge(result json.RawMessage, err error) (any, *Error, error) {
	var failure *Error
	switch {
	case errors.As(err, &failure) && failure.Name != "":
		return nil, failure, nil
	case err != nil:
		return nil, &Error{errTaskFailed, err.Error()}, nil
	case result == nil:
		return nil, nil, nil
	case len(result) > MaxPayload:
		name := v.state.integration.service
		if v.state.integration.lambda {
			name = v.state.Resource
		}
		return nil, tooLong(name), nil
	}
	doc, err := decode(result)
	if err != nil {
		return nil, &Error{errTaskFailed, "the result is no JSON: " + err.Error()}, nil
	}
	return doc, nil, nil
}

// taskEvents writes the events of a task: those named for Lambda if the resource is the ARN of a
// function, and the general ones for a service integration.
type taskEvents struct{ *visit }

func (e taskEvents) kind(what string) string {
	if e.state.integration.lambda {
		return "LambdaFunction" + what
	}
	return "Task" + what
}

// details names the resource where the type of event has it.
func (e taskEvents) details(d Details) Details {
	if i := e.state.integration; !i.lambda {
		d.ResourceType, d.Resource = i.service, i.action
	}
	return d
}

func (e taskEvents) scheduled(payload json.RawMessage, timeout int) {
	d := e.details(Details{TimeoutInSeconds: timeout})
	if e.state.integration.lambda {
		d.Resource, d.Input = e.state.Resource, payload
	} else {
		d.Parameters, d.Region = payload, region(e.x.options.StateMachineArn)
	}
	e.emit(e.kind("Scheduled"), d)
	e.emit(e.kind("Started"), e.details(Details{}))
}

func (e taskEvents) succeeded(result any) {
	e.emit(e.kind("Succeeded"), e.details(Details{Output: encode(result)}))
}

func (e taskEvents) failed(failure *Error) {
	what := "Failed"
	if failure.Name == errTimeout || failure.Name == errHeartbeatTimeout {
		what = "TimedOut"
	}
	e.emit(e.kind(what), e.details(Details{Error: failure.Name, Cause: failure.Cause}))
}

func region(arn string) string { return strings.Split(arn, ":")[3] }
