package infra_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"flashtap/events"
	"flashtap/testutil/region/asl"
)

// script says what Lambda and EventBridge answer in one execution, state by state.
type script struct {
	name    string
	base    string // the script from which this one was made,
	fails   string // by making this state fail
	answers map[string]behaviour
}

// behaviour gives the answer to each call of a state, counted from 0.
type behaviour func(call int) answer

// answer is one of a result, a failure or silence.
type answer struct {
	result  any
	failure *asl.Error // Name is the type of the error, Cause its message
	silence bool       // the task runs into its TimeoutSeconds
}

func result(r any) answer { return answer{result: r} }

func failure(name string) answer {
	return answer{failure: &asl.Error{Name: name, Cause: `it said "no" and meant it`}}
}

func always(a answer) behaviour { return func(int) answer { return a } }

// inTurn gives one answer after the other; the last one stays.
func inTurn(answers ...answer) behaviour {
	return func(call int) answer { return answers[min(call, len(answers)-1)] }
}

// before answers in turn first, and then as the given behaviour does.
func before(then behaviour, answers ...answer) behaviour {
	return func(call int) answer {
		if call < len(answers) {
			return answers[call]
		}
		return then(call - len(answers))
	}
}

// but is the script with another behaviour of one state.
func (s script) but(name, state string, b behaviour) script {
	answers := maps.Clone(s.answers)
	answers[state] = b
	return script{name: name, answers: answers}
}

const (
	captureID = events.CaptureID("20261122T030405Z-eni-0a1b2c3d4e5f60718")
	runningID = events.CaptureID("20261122T030001Z-eni-0a1b2c3d4e5f60718")
)

var request = events.Request{
	NetworkInterfaceID: "eni-0a1b2c3d4e5f60718",
	FindingID:          "8ec1a8f5a1e94cb8a0b1e8d5b7f5d6c1",
	FindingType:        "Backdoor:EC2/C&CActivity.B!DNS",
	Severity:           8.5,
	Options:            events.Options{DurationSeconds: 900},
}

// happyPath is a capture that goes well; it is looked at every wait seconds. The answers are the records that the
// Lambdas really return, so a field that the state machine asks for and they don't have would show.
func happyPath(wait int) script {
	at := time.Date(2026, 11, 22, 3, 4, 30, 0, time.UTC)
	look := func(status string) answer {
		return result(events.WatchResult{Status: status, Reason: "because", WaitSeconds: wait, Packets: 7, Bytes: 4200, Segments: 1})
	}
	pass := func(status string, passes int) answer {
		return result(events.TeardownResult{Status: status, Remaining: 2 - passes, Passes: passes, WaitSeconds: wait,
			Certificate: fmt.Sprintf("captures/%s/certificates/%06d.json", captureID, passes)})
	}
	published := always(result(map[string]any{"FailedEntryCount": 0, "Entries": []any{map[string]any{"EventId": "11710aed-b79e-4468-a20b-bb3c0c3b4860"}}}))
	return script{name: "all goes well", answers: map[string]behaviour{
		"Preflight": always(result(events.PlanSummary{Capture: captureID, NetworkInterfaceID: request.NetworkInterfaceID,
			PlanKey: "captures/" + string(captureID) + "/plan.json", Deadline: at.Add(15 * time.Minute), FindingType: request.FindingType})),
		"Guard":    always(result(events.GuardResult{Held: true, JoinedTo: captureID, Deadline: at.Add(15 * time.Minute)})),
		"Launch":   always(result(events.LaunchResult{InstanceID: "i-0f1e2d3c4b5a69788", InstanceType: "c7gn.large", UserID: "AROA1:i-0f1e2d3c4b5a69788", At: at})),
		"Ready":    inTurn(look(events.StatusWaiting), look(events.StatusReady)),
		"Mirror":   always(result(events.MirrorResult{SessionID: "tms-0a1b2c3d4e5f60718", VNI: 4711, At: at})),
		"Proof":    inTurn(look(events.StatusWaiting), look(events.StatusFlowing)),
		"Watch":    inTurn(look(events.StatusWaiting), look(events.StatusOver)),
		"Unmirror": always(pass(events.StatusClean, 1)),
		"Drain":    inTurn(look(events.StatusWaiting), look(events.StatusDrained)),
		"Teardown": inTurn(pass(events.StatusRemaining, 1), pass(events.StatusClean, 2)),
		"Seal": always(result(events.SealResult{Verdict: events.VerdictComplete, Reasons: []string{}, Packets: 7, Bytes: 4200, Segments: 1,
			Manifest: "captures/" + string(captureID) + "/manifest.json", SHA256: strings.Repeat("5e", 32)})),
		"PublishRefused": published, "PublishJoined": published, "PublishFlowing": published, "PublishSilent": published,
		"PublishStuck": published, "PublishLeaking": published, "PublishSealed": published,
	}}
}

// paths are the scripts that lead through every state at least once.
func paths(wait int) []script {
	happy := happyPath(wait)
	look := func(status string) behaviour {
		return always(result(events.WatchResult{Status: status, Reason: "because", WaitSeconds: wait}))
	}
	return []script{
		happy,
		happy.but("the interface is being captured already", "Guard", always(result(events.GuardResult{JoinedTo: runningID}))),
		happy.but("the interface can't be mirrored", "Preflight", always(failure("NotMirrorable"))),
		happy.but("no packet comes", "Proof", look(events.StatusSilent)),
		happy.but("no packet can come", "Proof", always(result(events.WatchResult{Status: events.StatusSilent, Cause: events.CauseNetworkACL,
			Reason: "no packet within 120 s: network-acl: acl-1 lets no copies out", Remedy: "change it", Hopeless: true, WaitSeconds: wait}))),
		happy.but("the endpoint takes its time", "Launch", before(happy.answers["Launch"], failure("EndpointPending"), failure("EndpointPending"))),
		happy.but("the endpoint never opens", "Launch", always(failure("EndpointPending"))),
		happy.but("the collector ends before a packet came", "Proof", look(events.StatusOver)),
		happy.but("the collector never says its last word", "Drain", look(events.StatusOverdue)),
		happy.but("something would not go", "Teardown", inTurn(
			result(events.TeardownResult{Status: events.StatusRemaining, Remaining: 1, Passes: 59, WaitSeconds: wait}),
			result(events.TeardownResult{Status: events.StatusStuck, Remaining: 1, Passes: 60, WaitSeconds: wait}))),
		happy.but("teardown itself fails", "Teardown", always(failure("StepFailed"))),
		happy.but("no collector can be launched, and teardown itself fails", "Launch", always(failure("NoCapacity"))).
			but("no collector can be launched, and teardown itself fails", "Teardown", always(failure("StepFailed"))),
		happy.but("a former capture of the interface is still being removed", "Guard",
			before(happy.answers["Guard"], failure("SourceBusy"), failure("SourceBusy"))),
		happy.but("a former capture of the interface never goes away", "Guard", always(failure("SourceBusy"))),
	}
}

// failures are the scripts in which each of the tasks among names fails: by an error that is not tried again (if there is
// one), by one that is, by not answering, and by errors that pass.
func failures(t *testing.T, names []string, machine *asl.Machine, known []script) []script {
	t.Helper()
	through := map[string]script{}
	for _, s := range known {
		for _, name := range play(t, machine, s, encoded(t, request)).trace {
			if _, found := through[name]; !found {
				through[name] = s
			}
		}
	}
	var all []script
	for _, name := range names {
		state := machine.States[name]
		if state.Type != asl.Task {
			continue
		}
		base, found := through[name]
		if !found {
			t.Fatalf("no script leads through %s", name)
		}
		add := func(what string, b behaviour) {
			variant := base.but(name+" "+what, name, b)
			variant.base, variant.fails = base.name, name
			all = append(all, variant)
		}
		add("fails", always(failure("StepFailed")))
		if !slices.Contains(state.Retry[len(state.Retry)-1].ErrorEquals, "States.ALL") {
			add("fails and fails again", always(failure("Transient")))
		}
		add("does not answer", always(answer{silence: true}))
		var passing []answer
		for _, r := range state.Retry {
			for _, e := range r.ErrorEquals {
				passing = append(passing, failure(strings.Replace(e, "States.ALL", "StepFailed", 1)))
			}
		}
		if len(passing) > 1 {
			add("fails in each way that passes", before(base.answers[name], passing...))
		}
		add("fails once", before(base.answers[name], passing[len(passing)-1]))
	}
	return all
}

// outcome is what became of one execution.
type outcome struct {
	script   string
	fails    string // the state that the script makes fail
	trace    []string
	inputs   map[string]json.RawMessage // of the states, when they were first entered
	calls    []call
	status   string
	error    string
	cause    string
	events   int
	largest  int // bytes of the longest state
	duration time.Duration
}

// call is one invocation of a Lambda, or one event that was put.
type call struct {
	state     string
	target    string // the function, or the detail-type
	input     json.RawMessage
	published bool // an event, and EventBridge took it
}

// player answers as a script says. It belongs to one execution.
type player struct {
	script script

	mu    sync.Mutex
	calls []call
	wrong []error
}

// callee is how the placeholders are filled in for a player: with the name of the state behind that of the function
// or the bus, so that states which share one can be answered apart. Both are names that AWS would accept: a
// function's alias, and a bus.
func callee(t testing.TB, definition []byte) []byte {
	return edited(t, definition, func(name string, state map[string]any) {
		if parameters, found := state["Parameters"]; found {
			text := bytes.ReplaceAll(encoded(t, parameters), []byte("Function}"), []byte("Function}:"+name))
			text = bytes.ReplaceAll(text, []byte("${EventBus}"), []byte("${EventBus}/"+name))
			state["Parameters"] = json.RawMessage(text)
		}
	})
}

// invoke is Lambda: the function's name comes with the state as its alias.
func (p *player) invoke(function string, payload json.RawMessage) answer {
	name, state, _ := strings.Cut(function, ":")
	var into any = &events.StepInput{}
	if name == "PreflightFunction" {
		into = &events.PreflightInput{}
	}
	if err := decodeStrictly(payload, into); err != nil {
		p.complain(fmt.Errorf("%s gets what it does not know: %w: %s", state, err, payload))
	}
	if in, isStep := into.(*events.StepInput); isStep {
		if err := in.Capture.Validate(); err != nil {
			p.complain(fmt.Errorf("%s: %w", state, err))
		}
	}
	return p.next(call{state: state, target: name, input: payload})
}

// entry is what we look at in an event that is put.
type entry struct {
	Source, DetailType, EventBusName string
	Detail                           json.RawMessage
	Resources                        []string
}

// put is EventBridge.
func (p *player) put(e entry) answer {
	_, state, _ := strings.Cut(e.EventBusName, "/")
	if e.Source != events.RequestSource {
		p.complain(fmt.Errorf("%s: an event of %q", state, e.Source))
	}
	if !slices.Contains([]string{events.EventRefused, events.EventJoined, events.EventFlowing, events.EventSilent, events.EventSealed, events.EventLeaking}, e.DetailType) {
		p.complain(fmt.Errorf("%s: no package knows the event %q", state, e.DetailType))
	}
	return p.next(call{state: state, target: e.DetailType, input: e.Detail, published: true})
}

func (p *player) next(c call) answer {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := 0
	for _, other := range p.calls {
		if other.state == c.state {
			before++
		}
	}
	a := failure("Unknown")
	if behave, found := p.script.answers[c.state]; found {
		a = behave(before)
	} else {
		p.wrong = append(p.wrong, fmt.Errorf("nobody knows what %s in state %q answers", c.target, c.state))
	}
	c.published = c.published && a.result != nil
	p.calls = append(p.calls, c)
	return a
}

func (p *player) complain(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wrong = append(p.wrong, err)
}

func (p *player) called() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.calls)
}

// faults reports what the callees could not accept.
func (p *player) faults() []error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.wrong)
}

func decodeStrictly(text []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	return decoder.Decode(into)
}

// RunTask lets a player be the world of our own interpreter.
func (p *player) RunTask(ctx context.Context, resource string, input json.RawMessage) (json.RawMessage, error) {
	var a answer
	var wrap func(any) any
	switch resource {
	case "arn:aws:states:::lambda:invoke":
		var in struct {
			FunctionName string
			Payload      json.RawMessage
		}
		if err := decodeStrictly(input, &in); err != nil {
			return nil, err
		}
		a = p.invoke(in.FunctionName, in.Payload)
		wrap = func(r any) any {
			return map[string]any{"ExecutedVersion": "$LATEST", "StatusCode": 200, "Payload": r}
		}
		if a.failure != nil && !strings.HasPrefix(a.failure.Name, "Lambda.") {
			a.failure = &asl.Error{Name: a.failure.Name, Cause: string(functionError(a.failure))}
		}
	case "arn:aws:states:::events:putEvents":
		var in struct{ Entries []entry }
		if err := decodeStrictly(input, &in); err != nil {
			return nil, err
		}
		a = p.put(in.Entries[0])
		wrap = func(r any) any { return r }
		if a.failure != nil {
			a.failure = &asl.Error{Name: "EventBridge.FailedEntry", Cause: failedEntry}
		}
	default:
		return nil, fmt.Errorf("nobody runs %s", resource)
	}
	switch {
	case a.silence:
		<-ctx.Done()
		return nil, ctx.Err()
	case a.failure != nil:
		return nil, a.failure
	}
	return json.Marshal(wrap(a.result))
}

// failedEntry is PutEvents' answer about an event that it did not take. The call itself succeeds; the task fails with
// EventBridge.FailedEntry (Step Functions Developer Guide, "Add EventBridge events").
const failedEntry = `{"Entries":[{"ErrorCode":"InternalFailure","ErrorMessage":"it was not taken"}],"FailedEntryCount":1}`

// functionError is the payload by which the Go runtime reports an error that a handler returned.
func functionError(e *asl.Error) []byte {
	text, err := json.Marshal(struct {
		Message string `json:"errorMessage"`
		Type    string `json:"errorType"`
	}{e.Cause, e.Name})
	if err != nil {
		panic(err) // two strings always marshal
	}
	return text
}
