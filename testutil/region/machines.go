package region

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"flashtap/testutil/region/asl"
)

// machines are the state machines and their executions.
type machines struct {
	region *Region

	mu         sync.Mutex
	machines   map[string]*asl.Machine // by ARN
	executions map[string]*execution   // by ARN
	watch      func(execution string, e asl.Event)
	failing    func(execution, state string) *asl.Error
}

type execution struct {
	*asl.Execution
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

// Executions names all executions that are or were.
func (r *Region) Executions() []string {
	r.machines.mu.Lock()
	defer r.machines.mu.Unlock()
	var names []string
	for _, x := range r.machines.executions {
		names = append(names, x.Name())
	}
	return names
}

func (m *machines) stopAll() {
	m.mu.Lock()
	var all []*execution
	for _, x := range m.executions {
		all = append(all, x)
	}
	m.mu.Unlock()
	for _, x := range all {
		x.Stop("States.Aborted", "the region closes")
		<-x.Done()
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
		return map[string]any{"stopDate": time.Now()}, nil
	case "ListExecutions":
		m.mu.Lock()
		defer m.mu.Unlock()
		list := []any{}
		for arn, x := range m.executions {
			if status, _ := params["statusFilter"].(string); x.machine == params["stateMachineArn"] && (status == "" || status == string(x.Status())) {
				list = append(list, map[string]any{"executionArn": arn, "stateMachineArn": x.machine, "name": x.Name(),
					"status": string(x.Status()), "startDate": x.Describe().Started})
			}
		}
		return map[string]any{"executions": list}, nil
	}
	return nil, fault{"UnknownOperationException", operation + " is not served here", 400}
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
	runner := &tasks{region: m.region, execution: name}
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
	started := &execution{Execution: x, machine: machineARN, input: input}
	m.executions[arn] = started
	m.region.work.Go(func() { m.tell(started) })
	return map[string]any{"executionArn": arn, "startDate": x.Describe().Started}, nil
}

// tell publishes the status changes of an execution, as Step Functions does.
func (m *machines) tell(x *execution) {
	event := func(status asl.Status) {
		m.region.bus.publish("aws.states", "Step Functions Execution Status Change", map[string]any{
			"executionArn": x.Arn(), "stateMachineArn": x.machine, "name": x.Name(), "status": status,
			"startDate": x.Describe().Started.UnixMilli(), "input": x.input,
		})
	}
	event(asl.Running)
	<-x.Done()
	event(x.Status())
}

// tasks runs the Task states of one execution.
type tasks struct {
	region    *Region
	execution string

	mu    sync.Mutex
	state string
}

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
		return t.region.invokeTask(ctx, input)
	case "arn:aws:states:::events:putEvents":
		return t.region.putEventsTask(input)
	}
	return nil, &asl.Error{Name: "States.Runtime", Cause: "the local region has no integration " + resource}
}

// invokeTask is the Lambda integration: a function's error becomes the task's, by the name of its type (Step Functions
// Developer Guide, "Handling errors").
func (r *Region) invokeTask(ctx context.Context, input json.RawMessage) (json.RawMessage, error) {
	var in struct {
		FunctionName string
		Payload      json.RawMessage
	}
	if err := json.Unmarshal(input, &in); err != nil {
		return nil, &asl.Error{Name: "States.Runtime", Cause: err.Error()}
	}
	result, err := r.Lambda.Invoke(context.WithoutCancel(ctx), in.FunctionName, in.Payload)
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

// putEventsTask is the EventBridge integration, whose Detail may be an object.
func (r *Region) putEventsTask(input json.RawMessage) (json.RawMessage, error) {
	var in struct {
		Entries []struct {
			Source, DetailType, EventBusName string
			Detail                           json.RawMessage
		}
	}
	if err := json.Unmarshal(input, &in); err != nil {
		return nil, &asl.Error{Name: "States.Runtime", Cause: err.Error()}
	}
	entries := []map[string]string{}
	for _, e := range in.Entries {
		entries = append(entries, map[string]string{"EventId": r.bus.publish(e.Source, e.DetailType, e.Detail)})
	}
	return json.Marshal(map[string]any{"Entries": entries, "FailedEntryCount": 0})
}
