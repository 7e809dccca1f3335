package infra_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestAgreesWithMoto runs every script in moto's engine, too, and compares: the states it comes through, what each
// Lambda and each event is given, and how it ends. Only the intervals are shortened, for moto's clock is the real one.
func TestAgreesWithMoto(t *testing.T) {
	if testing.Short() {
		t.Skip("moto waits in real time")
	}
	if _, err := exec.LookPath("moto_server"); err != nil {
		unavailable(t, "moto_server is not installed: pip install 'moto[server]==5.2.1'")
	}
	definition := callee(t, readCapture(t))
	machine := parse(t, definition)
	known := paths(0)
	scripts := append(known, failures(t, parse(t, readCapture(t)).Names, machine, known)...)

	// Two processes for two cores, with a few executions each, for most of their time is waiting. The first execution
	// runs alone: boto3 loads then what all of its clients share, and must not do so in two threads.
	oracles := []*oracle{startOracle(t), startOracle(t)}
	queue := make(chan int)
	run := func(o *oracle, i int) {
		s := scripts[i]
		t.Run(s.name, func(t *testing.T) {
			hasty, input := hasten(t, definition, s), encoded(t, request)
			if s.base != "" {
				hasty, input = from(t, hasty, s, known)
			}
			want := play(t, parse(t, hasty), s, input)
			for try := 1; ; try++ {
				got, err := o.run(t, fmt.Sprintf("region-%d-%d", i, try), hasty, s, input, len(want.calls))
				if err == nil {
					agree(t, got, want)
					return
				}
				if try == 3 {
					t.Fatal(err)
				}
			}
		})
	}
	var workers sync.WaitGroup
	for _, o := range oracles {
		o.await(t)
		workers.Go(func() {
			run(o, <-queue)
			for range 5 {
				workers.Go(func() {
					for i := range queue {
						run(o, i)
					}
				})
			}
		})
	}
	for i := range scripts {
		queue <- i
	}
	close(queue)
	workers.Wait()
}

// hasten shortens a definition so that a script is over in seconds: retries follow each other by a second and are two
// at most, and a task that is never answered is given up soon.
func hasten(t *testing.T, definition []byte, s script) []byte {
	return edited(t, definition, func(name string, state map[string]any) {
		retriers, _ := state["Retry"].([]any)
		for _, r := range retriers {
			retrier := r.(map[string]any)
			retrier["IntervalSeconds"], retrier["BackoffRate"] = 1, 1
			delete(retrier, "MaxDelaySeconds")
			if n, err := retrier["MaxAttempts"].(json.Number).Int64(); err != nil || n > 2 {
				retrier["MaxAttempts"] = 2
			}
		}
		if behave := s.answers[name]; behave != nil && behave(0).silence {
			state["TimeoutSeconds"] = 2
		}
	})
}

// from cuts a definition so that it begins in the state that a script makes fail, and gives the input that this state
// has in the script's base. What comes before is as in the base, which is run whole.
func from(t *testing.T, definition []byte, s script, known []script) ([]byte, json.RawMessage) {
	base := known[slices.IndexFunc(known, func(k script) bool { return k.name == s.base })]
	machine := parse(t, definition)
	input, found := play(t, machine, base, encoded(t, request)).inputs[s.fails]
	if !found {
		t.Fatalf("%s does not come through %s", s.base, s.fails)
	}
	kept := append(reachable(machine, s.fails), s.fails)
	return altered(t, definition, func(document map[string]any) {
		document["StartAt"] = s.fails
		states := document["States"].(map[string]any)
		for name := range states {
			if !slices.Contains(kept, name) {
				delete(states, name)
			}
		}
	}), input
}

// agree compares what two engines made of one script.
func agree(t *testing.T, got, want outcome) {
	t.Helper()
	if !reflect.DeepEqual(got.trace, want.trace) {
		t.Errorf("trace\nmoto %s\nours %s", strings.Join(got.trace, " > "), strings.Join(want.trace, " > "))
	}
	if strings.HasPrefix(want.error, "States.") {
		// A Fail state can't hand on a reserved name in moto 5.2.1. The trace shows that it came there.
		want.error, want.cause = "States.Runtime", got.cause
	}
	if got.status != want.status || got.error != want.error || comparable(want.error) && got.cause != want.cause {
		t.Errorf("end\nmoto %s %q %q\nours %s %q %q", got.status, got.error, got.cause, want.status, want.error, want.cause)
	}
	for i := range min(len(got.calls), len(want.calls)) {
		g, w := got.calls[i], want.calls[i]
		if g.state != w.state || g.target != w.target {
			t.Fatalf("call %d\nmoto %s %s\nours %s %s", i+1, g.state, g.target, w.state, w.target)
		}
		if given, wanted := canonical(t, g.input), canonical(t, w.input); given != wanted {
			t.Errorf("call %d, of %s in %s\nmoto %s\nours %s", i+1, g.target, g.state, given, wanted)
		}
	}
	if len(got.calls) != len(want.calls) {
		t.Errorf("moto made %d calls, we %d", len(got.calls), len(want.calls))
	}
}

// comparable says whether two engines can be expected to word the cause of an error alike: a Lambda's own words are
// handed on, but of an API's error each makes its own sentence.
func comparable(name string) bool {
	return !strings.HasPrefix(name, "Lambda.") && !strings.HasPrefix(name, "EventBridge.")
}

var clockTime = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)$`)

// canonical is an input without what differs between two runs: times, which are compared in form only, and the words
// of causes that each engine makes itself.
func canonical(t *testing.T, input json.RawMessage) string {
	var walk func(any) any
	walk = func(v any) any {
		switch v := v.(type) {
		case map[string]any:
			if name, isFailure := v["Error"].(string); isFailure && !comparable(name) {
				v["Cause"] = "(words)"
			}
			for key, member := range v {
				v[key] = walk(member)
			}
		case []any:
			for i, member := range v {
				v[i] = walk(member)
			}
		case string:
			if clockTime.MatchString(v) {
				return "(time)"
			}
		}
		return v
	}
	var document any
	if err := json.Unmarshal(input, &document); err != nil {
		t.Fatalf("%v: %s", err, input)
	}
	return string(encoded(t, walk(document)))
}

// oracle is a moto_server whose engine believes that we are Lambda and EventBridge: it calls the port in MOTO_PORT for
// every task, which moto_server sets to its own only if nobody else has.
type oracle struct {
	moto string // its URL
	over chan struct{}

	mu      sync.Mutex
	players map[string]*player // by region: each execution has one of its own
}

func startOracle(t *testing.T) *oracle {
	t.Helper()
	o := &oracle{players: map[string]*player{}, over: make(chan struct{})}
	edge := httptest.NewServer(o)
	t.Cleanup(func() {
		close(o.over)
		edge.Close()
	})
	edgeURL, err := url.Parse(edge.URL)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	listener.Close() // moto_server chooses no port by itself
	o.moto = fmt.Sprintf("http://127.0.0.1:%d", port)

	command := exec.Command("moto_server", "-H", "127.0.0.1", "-p", fmt.Sprint(port))
	// An execution breaks the next one of its region (moto 5.2.1 copies what can't be copied), so each gets a region.
	command.Env = append(os.Environ(), "MOTO_PORT="+edgeURL.Port(), "MOTO_ALLOW_NONEXISTENT_REGION=true")
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.WaitDelay = time.Second
	var log bytes.Buffer
	command.Stdout, command.Stderr = &log, &log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		syscall.Kill(-command.Process.Pid, syscall.SIGKILL)
		command.Wait()
		if t.Failed() {
			lines := slices.DeleteFunc(strings.Split(log.String(), "\n"), func(line string) bool { return strings.Contains(line, `" 200 -`) })
			t.Logf("moto's last words:\n%s", strings.Join(lines[max(0, len(lines)-60):], "\n"))
		}
	})
	return o
}

// await returns when moto_server answers and was told to run state machines.
func (o *oracle) await(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		answer, err := http.Post(o.moto+"/moto-api/config", "application/json", strings.NewReader(`{"stepfunctions":{"execute_state_machine":true}}`))
		if err == nil {
			answer.Body.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("moto_server does not answer: %v", err)
		}
	}
}

// run executes a script in a region of its own; it is expected to make so many calls. An error means that moto's threads
// have stumbled over each other and can't tell any more how it went.
func (o *oracle) run(t *testing.T, region string, definition []byte, s script, input json.RawMessage, calls int) (outcome, error) {
	t.Helper()
	p := &player{script: s}
	o.mu.Lock()
	o.players[region] = p
	o.mu.Unlock()

	text := placeholder.ReplaceAll(definition, []byte("$1"))
	var created struct{ StateMachineArn string }
	o.call(t, region, "CreateStateMachine", map[string]any{"name": "capture", "definition": string(text), "roleArn": "arn:aws:iam::123456789012:role/capture"}, &created)
	var started struct{ ExecutionArn string }
	o.call(t, region, "StartExecution", map[string]any{"stateMachineArn": created.StateMachineArn, "name": "execution", "input": string(input)}, &started)

	// Moto is slow to answer and must do our asking beside its work: so ask it only when the last expected call was
	// made, or seldom. DescribeExecution of moto 5.2.1 breaks on an output that holds $$.Execution.StartTime, so it only
	// tells that an execution is not running any more; how it ended is in the history.
	began, asked := time.Now(), time.Now()
	for running := true; running; time.Sleep(50 * time.Millisecond) {
		if time.Since(began) > 3*time.Minute {
			t.Fatal("the execution does not end")
		}
		if pause := time.Since(asked); pause < 5*time.Second && (p.called() < calls || pause < 200*time.Millisecond) {
			continue
		}
		asked = time.Now()
		var described struct{ Status string }
		err := o.try(t, region, "DescribeExecution", map[string]any{"executionArn": started.ExecutionArn}, &described)
		running = err == nil && described.Status == "RUNNING"
	}
	var history struct {
		NextToken string
		Events    []motoEvent
	}
	read := func() error {
		return o.try(t, region, "GetExecutionHistory", map[string]any{"executionArn": started.ExecutionArn, "maxResults": 1000}, &history)
	}
	err := read()
	for tries := 1; err != nil && tries < 5; tries++ {
		time.Sleep(200 * time.Millisecond)
		err = read()
	}
	if err != nil {
		return outcome{}, err
	}
	got := outcome{script: s.name}
	for _, e := range history.Events {
		if name := e.StateEnteredEventDetails.Name; name != "" {
			got.trace = append(got.trace, name)
		}
		got.end(e)
	}
	if got.status == "" || history.NextToken != "" {
		t.Errorf("the history has no end; it goes to %v", got.trace)
	}
	for _, err := range p.faults() {
		t.Error(err)
	}
	got.calls = p.calls
	return got, nil
}

// motoEvent is what we look at in an event of moto's history.
type motoEvent struct {
	Type                        string
	StateEnteredEventDetails    struct{ Name string }
	ExecutionFailedEventDetails struct {
		Error string
		Cause any // a text, but for moto 5.2.1 an object after EventBridge.FailedEntry
	}
}

func (o *outcome) end(e motoEvent) {
	switch e.Type {
	case "ExecutionSucceeded":
		o.status = "SUCCEEDED"
	case "ExecutionFailed":
		o.status, o.error = "FAILED", e.ExecutionFailedEventDetails.Error
		o.cause, _ = e.ExecutionFailedEventDetails.Cause.(string)
	case "ExecutionTimedOut", "ExecutionAborted":
		o.status = e.Type
	}
}

// call asks moto's Step Functions.
func (o *oracle) call(t *testing.T, region, action string, in, out any) {
	t.Helper()
	if err := o.try(t, region, action, in, out); err != nil {
		t.Fatal(err)
	}
}

func (o *oracle) try(t *testing.T, region, action string, in, out any) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "POST", o.moto, bytes.NewReader(encoded(t, in)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.0")
	r.Header.Set("X-Amz-Target", "AWSStepFunctions."+action)
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=x/20261122/"+region+"/states/aws4_request, SignedHeaders=host, Signature=0")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatalf("%s: %v", action, err)
	}
	defer answer.Body.Close()
	words, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatalf("%s: %v", action, err)
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s\n%s", action, answer.Status, words)
	}
	if err := json.Unmarshal(words, out); err != nil {
		return fmt.Errorf("%s: %w\n%s", action, err, words)
	}
	return nil
}

var (
	credentialScope = regexp.MustCompile(`Credential=[^/]+/\d+/([^/]+)/([^/]+)/aws4_request`)
	invocation      = regexp.MustCompile(`^/2015-03-31/functions/([^/]+)/invocations$`)
)

// ServeHTTP is Lambda's Invoke and EventBridge's PutEvents; the engine calls nothing else.
func (o *oracle) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	scope := credentialScope.FindStringSubmatch(r.Header.Get("Authorization"))
	if err != nil || scope == nil {
		http.Error(w, "unsigned or unreadable", http.StatusBadRequest)
		return
	}
	o.mu.Lock()
	p := o.players[scope[1]]
	o.mu.Unlock()
	function := invocation.FindStringSubmatch(r.URL.Path)
	w.Header().Set("X-Amzn-Requestid", "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d")
	switch {
	case p == nil:
		http.Error(w, "nobody plays in "+scope[1], http.StatusBadRequest)
	case scope[2] == "lambda" && r.Method == "POST" && function != nil:
		o.answerInvoke(w, r, p.invoke(function[1], body))
	case scope[2] == "events" && r.Header.Get("X-Amz-Target") == "AWSEvents.PutEvents":
		var in struct{ Entries []map[string]any }
		if err := json.Unmarshal(body, &in); err != nil || len(in.Entries) != 1 {
			p.complain(fmt.Errorf("put events: %v: %s", err, body))
			return
		}
		o.answerPut(w, r, p.put(entryOf(in.Entries[0])))
	default:
		p.complain(fmt.Errorf("nobody expects %s %s of %s", r.Method, r.URL, scope[2]))
		http.Error(w, "unexpected", http.StatusNotImplemented)
	}
}

// entryOf reads an entry whose Detail is a text, as the API has it.
func entryOf(e map[string]any) entry {
	text := func(key string) string { s, _ := e[key].(string); return s }
	return entry{Source: text("Source"), DetailType: text("DetailType"), EventBusName: text("EventBusName"), Detail: json.RawMessage(text("Detail"))}
}

func (o *oracle) answerInvoke(w http.ResponseWriter, r *http.Request, a answer) {
	switch {
	case a.silence:
		o.keepSilent(r)
	case a.failure != nil && strings.HasPrefix(a.failure.Name, "Lambda."):
		w.Header().Set("X-Amzn-Errortype", strings.TrimPrefix(a.failure.Name, "Lambda."))
		w.WriteHeader(http.StatusInternalServerError)
		json.NewEncoder(w).Encode(map[string]string{"Message": a.failure.Cause, "Type": "Server"})
	case a.failure != nil:
		w.Header().Set("X-Amz-Function-Error", "Unhandled")
		w.Write(functionError(a.failure))
	default:
		w.Header().Set("X-Amz-Executed-Version", "$LATEST")
		json.NewEncoder(w).Encode(a.result)
	}
}

func (o *oracle) answerPut(w http.ResponseWriter, r *http.Request, a answer) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	switch {
	case a.silence:
		o.keepSilent(r)
	case a.failure != nil:
		w.Write([]byte(failedEntry))
	default:
		json.NewEncoder(w).Encode(a.result)
	}
}

func (o *oracle) keepSilent(r *http.Request) {
	select {
	case <-r.Context().Done():
	case <-o.over:
	}
}
