package region

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"flashtap/testutil/region/asl"
)

// machines are the state machines and their executions.
type machines struct {
	region *Region

	mu         sync.Mutex
	closed     bool
	machines   map[string]*asl.Machine // by ARN
	executions map[string]*execution   // by ARN
	watch      func(execution string, e asl.Event)
	failing    func(execution, state string) *asl.Error
}

type execution struct {
	*asl.Execution
	serial  int // counts from 1
	machine string
	input   string
}

// CreateStateMachine adds a state machine from its definition and returns its ARN.
func (r *Region) CreateStateMachine(name string, definition []byte, substitutions map[string]string) (string, error) {
	machine, err := asl.Parse(definition, substitutions)
	if err != nil {
		return "", fmt.Errorf("create state machine %s: %w", name, err)
	}
	arn := fmt.Sprintf("arn:aws:states:%s:%s:stateMachine:%s", r.cfg.Name, r.cfg.Account, name)
	r.machines.mu.Lock()
	defer r.machines.mu.Unlock()
	if r.machines.machines == nil {
		r.machines.machines, r.machines.executions = map[string]*asl.Machine{}, map[string]*execution{}
	}
	r.machines.machines[arn] = machine
	return arn, nil
}

// WatchExecutions shows every event of every execution to f, one at a time per execution; the execution waits for it.
func (r *Region) WatchExecutions(f func(execution string, e asl.Event)) {
	r.machines.mu.Lock()
	defer r.machines.mu.Unlock()
	r.machines.watch = f
}

// FailStates has the tasks of states fail for which f returns an error; nil ends it.
func (r *Region) FailStates(f func(execution, state string) *asl.Error) {
	r.machines.mu.Lock()
	defer r.machines.mu.Unlock()
	r.machines.failing = f
}

// Execution is the execution of this name, nil when there is none.
func (r *Region) Execution(name string) *asl.Execution {
	r.machines.mu.Lock()
	defer r.machines.mu.Unlock()
	for arn, x := range r.machines.executions {
		if strings.HasSuffix(arn, ":"+name) {
			return x.Execution
		}
	}
	return nil
}

// StartExecution starts an execution as a person would from the console.
func (r *Region) StartExecution(machineARN, name string, input []byte) (string, error) {
	out, err := r.machines.start(map[string]any{"stateMachineArn": machineARN, "name": name, "input": string(input)})
	if err != nil {
		return "", err
	}
	arn, _ := out["executionArn"].(string)
	return arn, nil
}

// Executions names all executions that are or were, in the order in which they were started.
func (r *Region) Executions() []string {
	var names []string
	for _, x := range r.machines.inOrder() {
		names = append(names, x.Name())
	}
	return names
}

func (m *machines) inOrder() []*execution {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.SortedFunc(maps.Values(m.executions), func(a, b *execution) int { return cmp.Compare(a.serial, b.serial) })
}

// stopAll ends all executions; none starts afterwards.
func (m *machines) stopAll() {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	all := m.inOrder()
	for _, x := range all {
		x.Stop("States.Aborted", "the region closes")
	}
	for _, x := range all {
		x.Drain()
	}
}

func (m *machines) handle(operation string, params map[string]any) (map[string]any, error) {
	switch operation {
	case "StartExecution":
		return m.start(params)
	case "DescribeExecution":
		x, err := m.find(params)
		if err != nil {
			return nil, err
		}
		return describe(x), nil
	case "StopExecution":
		x, err := m.find(params)
		if err != nil {
			return nil, err
		}
		name, _ := params["error"].(string)
		cause, _ := params["cause"].(string)
		x.Stop(name, cause)
		stopped := x.Describe().Stopped
		if stopped.IsZero() {
			stopped = time.Now() // it ends in this moment
		}
		return map[string]any{"stopDate": stopped}, nil
	case "ListExecutions":
		return m.list(params)
	case "GetExecutionHistory":
		x, err := m.find(params)
		if err != nil {
			return nil, err
		}
		return history(x, params)
	}
	return nil, fault{"UnknownOperationException", operation + " is not served here", 400}
}

// list answers ListExecutions, the newest first.
func (m *machines) list(params map[string]any) (map[string]any, error) {
	arn, _ := params["stateMachineArn"].(string)
	m.mu.Lock()
	machine := m.machines[arn]
	m.mu.Unlock()
	if machine == nil {
		return nil, fault{"StateMachineDoesNotExist", "State Machine Does Not Exist: '" + arn + "'", 400}
	}
	status, _ := params["statusFilter"].(string)
	var found []any
	all := m.inOrder()
	slices.Reverse(all)
	for _, x := range all {
		result := x.Describe()
		if x.machine != arn || status != "" && status != string(result.Status) {
			continue
		}
		one := map[string]any{"executionArn": x.Arn(), "stateMachineArn": x.machine, "name": x.Name(),
			"status": string(result.Status), "startDate": result.Started}
		if result.Status != asl.Running {
			one["stopDate"] = result.Stopped
		}
		found = append(found, one)
	}
	return page("executions", found, params)
}

// history answers GetExecutionHistory.
func history(x *execution, params map[string]any) (map[string]any, error) {
	text, err := json.Marshal(x.History())
	if err != nil {
		return nil, fmt.Errorf("history of %s: %w", x.Name(), err)
	}
	var events []any
	if err := json.Unmarshal(text, &events); err != nil {
		return nil, fmt.Errorf("history of %s: %w", x.Name(), err)
	}
	bare := params["includeExecutionData"] == false
	for _, e := range events {
		forModel(e, bare)
	}
	if params["reverseOrder"] == true {
		slices.Reverse(events)
	}
	return page("events", events, params)
}

// forModel turns the values of a history's JSON, in place, into the types that the model wants, and leaves input and output out
// of a bare one.
func forModel(v any, bare bool) {
	m, _ := v.(map[string]any)
	for key, value := range m {
		number, isNumber := value.(float64)
		switch {
		case bare && (key == "input" || key == "output"):
			delete(m, key)
		case key == "timestamp":
			m[key] = time.UnixMilli(int64(math.Round(number * 1000)))
		case isNumber:
			m[key] = int64(number)
		default:
			forModel(value, bare)
		}
	}
}

// page answers a part of a list. The token is where the next one begins.
func page(member string, all []any, params map[string]any) (map[string]any, error) {
	const most = 1000 // Step Functions API Reference, maxResults
	from, size := 0, int64(100)
	if token, ok := params["nextToken"].(string); ok {
		n, err := strconv.Atoi(token)
		if err != nil || n < 0 || n > len(all) {
			return nil, fault{"InvalidToken", "Invalid Token: 'Invalid token'", 400}
		}
		from = n
	}
	if n, ok := params["maxResults"].(int64); ok && n > 0 {
		size = min(n, most)
	}
	to := min(len(all), from+int(size))
	answer := map[string]any{member: append([]any{}, all[from:to]...)}
	if to < len(all) {
		answer["nextToken"] = strconv.Itoa(to)
	}
	return answer, nil
}

func (m *machines) find(params map[string]any) (*execution, error) {
	arn, _ := params["executionArn"].(string)
	m.mu.Lock()
	defer m.mu.Unlock()
	if x := m.executions[arn]; x != nil {
		return x, nil
	}
	return nil, fault{"ExecutionDoesNotExist", "Execution Does Not Exist: '" + arn + "'", 400}
}

func describe(x *execution) map[string]any {
	result := x.Describe()
	d := map[string]any{"executionArn": x.Arn(), "stateMachineArn": x.machine, "name": x.Name(), "status": string(result.Status),
		"startDate": result.Started, "input": x.input}
	if result.Status != asl.Running {
		d["stopDate"] = result.Stopped
	}
	if result.Output != nil {
		d["output"] = string(result.Output)
	}
	if result.Error != "" {
		d["error"], d["cause"] = result.Error, result.Cause
	}
	return d
}

// start is StartExecution: idempotent for the same name and input while it runs, refused afterwards (Step Functions
// API Reference, StartExecution).
func (m *machines) start(params map[string]any) (map[string]any, error) {
	machineARN, _ := params["stateMachineArn"].(string)
	name, _ := params["name"].(string)
	input, _ := params["input"].(string)
	if input == "" {
		input = "{}"
	}
	if name == "" {
		name = uuid()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, fault{"ServiceUnavailable", "the region is closed", 503}
	}
	machine := m.machines[machineARN]
	if machine == nil {
		return nil, fault{"StateMachineDoesNotExist", "State Machine Does Not Exist: '" + machineARN + "'", 400}
	}
	arn := strings.Replace(machineARN, ":stateMachine:", ":execution:", 1) + ":" + name
	if x := m.executions[arn]; x != nil {
		if x.Status() == asl.Running && x.input == input {
			return map[string]any{"executionArn": arn, "startDate": x.Describe().Started}, nil
		}
		return nil, fault{"ExecutionAlreadyExists", "Execution Already Exists: '" + arn + "'", 400}
	}
	runner := &tasks{region: m.region, execution: name, resources: []string{arn, machineARN}}
	watch := m.watch
	x, err := asl.Start(m.region.ctx, machine, json.RawMessage(input), asl.Options{
		Name: name, StateMachineArn: machineARN, Tasks: runner,
		OnEvent: func(e asl.Event) {
			if strings.HasSuffix(e.Type, "StateEntered") {
				runner.enter(e.Name)
			}
			if watch != nil {
				watch(name, e)
			}
		},
	})
	if err != nil {
		return nil, fault{"InvalidExecutionInput", err.Error(), 400}
	}
	started := &execution{Execution: x, serial: len(m.executions) + 1, machine: machineARN, input: input}
	m.executions[arn] = started
	m.region.work.Go(func() { m.tell(started) })
	return map[string]any{"executionArn": arn, "startDate": x.Describe().Started}, nil
}

// tell publishes the status changes of an execution, as Step Functions does (Step Functions Developer Guide,
// "Automating Step Functions event delivery with EventBridge").
func (m *machines) tell(x *execution) {
	event := func(status asl.Status) {
		result := x.Describe()
		detail := map[string]any{
			"executionArn": x.Arn(), "stateMachineArn": x.machine, "name": x.Name(), "status": status,
			"startDate": result.Started.UnixMilli(), "stopDate": nil, "input": x.input, "output": nil, "error": nil, "cause": nil,
			"inputDetails": map[string]any{"included": true}, "outputDetails": nil,
		}
		if status != asl.Running {
			detail["stopDate"] = result.Stopped.UnixMilli()
		}
		if status == asl.Succeeded {
			detail["output"], detail["outputDetails"] = string(result.Output), map[string]any{"included": true}
		}
		if result.Error != "" {
			detail["error"], detail["cause"] = result.Error, result.Cause
		}
		m.region.bus.publish("aws.states", "Step Functions Execution Status Change", detail, x.Arn())
	}
	event(asl.Running)
	<-x.Done()
	event(x.Status())
}

// tasks runs the Task states of one execution.
type tasks struct {
	region    *Region
	execution string
	resources []string // ARNs of the execution and its machine

	mu    sync.Mutex
	state string
}

// machine is the ARN of the state machine.
func (t *tasks) machine() string { return t.resources[1] }

func (t *tasks) enter(state string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.state = state
}

// RunTask carries out the integrations that the local region has, and refuses others.
func (t *tasks) RunTask(ctx context.Context, resource string, input json.RawMessage) (json.RawMessage, error) {
	t.mu.Lock()
	state := t.state
	t.mu.Unlock()
	t.region.machines.mu.Lock()
	failing := t.region.machines.failing
	t.region.machines.mu.Unlock()
	if failing != nil {
		if err := failing(t.execution, state); err != nil {
			return nil, err
		}
	}
	switch resource {
	case "arn:aws:states:::lambda:invoke":
		return t.invoke(ctx, input)
	case "arn:aws:states:::events:putEvents":
		return t.putEvents(input)
	}
	return nil, &asl.Error{Name: "States.Runtime", Cause: "the local region has no integration " + resource}
}

// invoke is the Lambda integration: a function's error becomes the task's, by the name of its type (Step Functions
// Developer Guide, "Handling errors").
func (t *tasks) invoke(ctx context.Context, input json.RawMessage) (json.RawMessage, error) {
	var in struct {
		FunctionName string
		Payload      json.RawMessage
	}
	if err := strictly(input, &in); err != nil {
		return nil, err
	}
	t.region.errand("lambda", "Invoke", t.machine(), t.machine(), map[string]any{"FunctionName": in.FunctionName})
	result, err := t.region.Lambda.Invoke(context.WithoutCancel(ctx), in.FunctionName, in.Payload)
	if err != nil {
		name := "Lambda.AWSLambdaException"
		var c coded
		if errors.As(err, &c) {
			name = "Lambda." + c.Code()
		}
		return nil, &asl.Error{Name: name, Cause: err.Error()}
	}
	if result.FunctionError != "" {
		var said struct {
			ErrorType string `json:"errorType"`
		}
		if err := json.Unmarshal(result.Payload, &said); err != nil || said.ErrorType == "" {
			said.ErrorType = "Lambda.Unknown"
		}
		return nil, &asl.Error{Name: said.ErrorType, Cause: string(result.Payload)}
	}
	return json.Marshal(map[string]any{"ExecutedVersion": "$LATEST", "StatusCode": 200, "Payload": json.RawMessage(result.Payload)})
}

// putEvents is the EventBridge integration, whose Detail may be an object (Step Functions Developer Guide, "Add
// EventBridge events with Step Functions").
func (t *tasks) putEvents(input json.RawMessage) (json.RawMessage, error) {
	var in struct{ Entries []entry }
	if err := strictly(input, &in); err != nil {
		return nil, err
	}
	for i := range in.Entries {
		e := &in.Entries[i]
		var text string
		if json.Unmarshal(e.Detail, &text) == nil {
			e.Detail = json.RawMessage(text)
		}
		e.Resources = append(e.Resources, t.resources...)
		t.region.errand("events", "PutEvents", t.machine(), t.machine(), map[string]any{"Entries": []any{
			map[string]any{"Source": e.Source, "DetailType": e.DetailType, "EventBusName": e.EventBusName}}})
	}
	answers, failed := t.region.bus.take(in.Entries)
	result, err := json.Marshal(map[string]any{"Entries": answers, "FailedEntryCount": failed})
	if err == nil && failed > 0 {
		return nil, &asl.Error{Name: "EventBridge.FailedEntry", Cause: string(result)}
	}
	return result, err
}

// strictly reads a task's input and refuses members that are not played here.
func strictly(input json.RawMessage, in any) error {
	decoder := json.NewDecoder(bytes.NewReader(input))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(in); err != nil {
		return &asl.Error{Name: "States.Runtime", Cause: "the local region's integration: " + err.Error()}
	}
	return nil
}
