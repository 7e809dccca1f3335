package asl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// TaskRunner does the work of Task states.
type TaskRunner interface {
	// RunTask runs the resource that a Task state names, with the state's effective input. It must
	// refuse a resource it does not know. The result is a JSON text. An *Error gives the failure its
	// name; any other error is States.TaskFailed.
	//
	// The context ends when nobody waits for the result any longer: the task timed out, a sibling
	// branch failed or the execution was stopped. The execution does not wait for RunTask to return
	// then, for Step Functions cannot call back a Lambda function either. A runner that imitates
	// this lets the work go on (context.WithoutCancel).
	RunTask(ctx context.Context, resource string, input json.RawMessage) (json.RawMessage, error)
}

// Options say who runs a machine and who watches.
type Options struct {
	// Name of the execution; a random one if empty.
	Name string
	// StateMachineArn defaults to a machine named "machine"; its region and account are used
	// throughout.
	StateMachineArn string
	// ExecutionArn defaults to the one that belongs to StateMachineArn and Name.
	ExecutionArn string
	RoleArn      string
	// Tasks runs Task states. It may be nil if the machine has none.
	Tasks TaskRunner
	// OnEvent is called for each event of the history, in order, one at a time. The execution waits
	// for it.
	OnEvent func(Event)
}

// Status of an execution (API reference, DescribeExecution).
type Status string

const (
	Running   Status = "RUNNING"
	Succeeded Status = "SUCCEEDED"
	Failed    Status = "FAILED"
	TimedOut  Status = "TIMED_OUT"
	Aborted   Status = "ABORTED"
)

// Result is what became of an execution.
type Result struct {
	Status Status
	// Output is set if the execution succeeded.
	Output json.RawMessage
	// Error and Cause are set if it failed or was stopped with them.
	Error, Cause     string
	Started, Stopped time.Time
	Events           []Event
}

// Trace lists the states in the order in which they were entered.
func (r *Result) Trace() []string { return trace(r.Events) }

// Execution is one run of a machine.
type Execution struct {
	machine *Machine
	options Options
	input   any
	started time.Time

	turn   turn
	cancel context.CancelCauseFunc
	done   chan struct{}
	calls  sync.WaitGroup

	mu     sync.Mutex // guards what follows
	events []Event
	result Result
}

// stop is the cause that ends an execution by Stop.
type stop struct{ name, cause string }

func (s *stop) Error() string { return "stopped: " + s.name }

var (
	errTimedOut    = errors.New("the execution took longer than the machine's TimeoutSeconds")
	errHistoryFull = errors.New("the history is full")
	// errStopped unwinds a branch whose context is over.
	errStopped = errors.New("stopped")
)

// Run executes a machine to its end. The error says why it could not start; how it ended is in the
// result. When the context is done, the execution is stopped. Tasks that the execution gave up may
// outlive Run; who must wait for them uses Start and Drain.
func Run(ctx context.Context, m *Machine, input json.RawMessage, o Options) (*Result, error) {
	x, err := Start(ctx, m, input, o)
	if err != nil {
		return nil, err
	}
	return x.Wait(), nil
}

// Start begins to execute a machine and returns at once. No input means {}.
func Start(ctx context.Context, m *Machine, input json.RawMessage, o Options) (*Execution, error) {
	if len(input) == 0 {
		input = json.RawMessage("{}")
	}
	if err := o.complete(m); err != nil {
		return nil, fmt.Errorf("start execution %s: %w", o.Name, err)
	}
	if len(input) > MaxPayload {
		return nil, fmt.Errorf("start execution %s: input of %d bytes is longer than %d", o.Name, len(input), MaxPayload)
	}
	doc, err := decode(input)
	if err != nil {
		return nil, fmt.Errorf("start execution %s: input: %w", o.Name, err)
	}
	x := &Execution{machine: m, options: o, input: doc, started: time.Now(), done: make(chan struct{})}
	x.result = Result{Status: Running, Started: x.started}
	ctx, x.cancel = context.WithCancelCause(ctx)
	release := func() {}
	if m.TimeoutSeconds > 0 {
		ctx, release = context.WithTimeoutCause(ctx, seconds(m.TimeoutSeconds), errTimedOut)
	}
	x.record("ExecutionStarted", 0, Details{Input: input, RoleArn: o.RoleArn})
	root := &thread{x: x, ctx: ctx}
	mine := x.turn.ask()
	go func() {
		<-mine
		out, err := root.run(&m.Graph, doc)
		x.finish(root, out, err)
		x.turn.give()
		release()
		x.cancel(nil)
		close(x.done)
	}()
	return x, nil
}

func (o *Options) complete(m *Machine) error {
	if o.Name == "" {
		o.Name = newUUID()
	}
	if utf8.RuneCountInString(o.Name) > maxName {
		return fmt.Errorf("a name has at most %d characters", maxName)
	}
	if o.StateMachineArn == "" {
		o.StateMachineArn = "arn:aws:states:us-east-1:123456789012:stateMachine:machine"
	}
	if part := strings.Split(o.StateMachineArn, ":"); len(part) != 7 || part[5] != "stateMachine" {
		return fmt.Errorf("%q is no ARN of a state machine", o.StateMachineArn)
	}
	if o.ExecutionArn == "" {
		o.ExecutionArn = strings.Replace(o.StateMachineArn, ":stateMachine:", ":execution:", 1) + ":" + o.Name
	}
	if o.RoleArn == "" {
		o.RoleArn = fmt.Sprintf("arn:aws:iam::%s:role/machine", strings.Split(o.StateMachineArn, ":")[4])
	}
	var err error
	m.Walk(func(s *State) {
		if s.Type == Task && o.Tasks == nil {
			err = fmt.Errorf("nobody runs the task of state %q", s.Name)
		}
	})
	return err
}

// Name is the name of the execution.
func (x *Execution) Name() string { return x.options.Name }

// Arn is the ARN of the execution.
func (x *Execution) Arn() string { return x.options.ExecutionArn }

// Done is closed when the execution has ended and OnEvent has heard of it.
func (x *Execution) Done() <-chan struct{} { return x.done }

// Wait returns the result when the execution has ended.
func (x *Execution) Wait() *Result {
	<-x.done
	return x.Describe()
}

// Describe returns what is known of the execution now.
func (x *Execution) Describe() *Result {
	x.mu.Lock()
	defer x.mu.Unlock()
	r := x.result
	r.Events = slices.Clone(x.events)
	return &r
}

// Status returns the status of the execution now.
func (x *Execution) Status() Status {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.result.Status
}

// History returns the events so far.
func (x *Execution) History() []Event { return x.Describe().Events }

// Trace lists the states in the order in which they were entered so far.
func (x *Execution) Trace() []string { return trace(x.History()) }

// Stop ends the execution as StopExecution does: no Catch runs. It does not wait for the end; an
// execution that is over stays as it is.
func (x *Execution) Stop(name, cause string) { x.cancel(&stop{name, cause}) }

// Drain waits for tasks that still run although the execution no longer waits for them. Call it
// after the end of the execution.
func (x *Execution) Drain() {
	<-x.done
	x.calls.Wait()
}

// record writes an event. When only the last event has room, the execution ends instead.
func (x *Execution) record(kind string, previous int64, d Details) int64 {
	x.mu.Lock()
	if len(x.events) >= MaxEvents-1 {
		x.mu.Unlock()
		x.cancel(errHistoryFull)
		return previous
	}
	e := x.append(kind, previous, d)
	x.mu.Unlock()
	x.announce(e)
	return e.ID
}

func (x *Execution) append(kind string, previous int64, d Details) Event {
	e := Event{ID: int64(len(x.events)) + 1, PreviousID: previous, Type: kind, Timestamp: time.Now(), Details: d}
	x.events = append(x.events, e)
	return e
}

func (x *Execution) announce(e Event) {
	if x.options.OnEvent != nil {
		x.options.OnEvent(e)
	}
}

// finish notes how the execution ended.
func (x *Execution) finish(root *thread, out any, err error) {
	r := Result{Status: Succeeded, Started: x.started}
	previous := root.last
	var failure *Error
	var stopped *stop
	cause := context.Cause(root.ctx)
	switch {
	case err == nil:
		r.Output = encode(out)
	case errors.As(err, &failure):
		r.Status, r.Error, r.Cause = Failed, failure.Name, failure.Cause
	case cause == errHistoryFull:
		r.Status, r.Error = Failed, errRuntime
		r.Cause = fmt.Sprintf("The execution reached the maximum number of history events (%d).", MaxEvents)
	// The service shows no predecessor for an end that comes from outside.
	case cause == errTimedOut:
		r.Status, previous = TimedOut, 0
	case errors.As(cause, &stopped):
		r.Status, r.Error, r.Cause, previous = Aborted, stopped.name, stopped.cause, 0
	default:
		r.Status, previous = Aborted, 0
	}
	kinds := map[Status]string{
		Succeeded: "ExecutionSucceeded", Failed: "ExecutionFailed", TimedOut: "ExecutionTimedOut", Aborted: "ExecutionAborted",
	}
	x.mu.Lock()
	e := x.append(kinds[r.Status], previous, Details{Output: r.Output, Error: r.Error, Cause: r.Cause})
	r.Stopped = e.Timestamp
	x.result = r
	x.mu.Unlock()
	x.announce(e)
}

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }
