package asl

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
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"
)

// oracleCase is a machine that moto's engine and this package run alike. Functions are answered by
// their scripts: f with the answers given, echo with its input.
type oracleCase struct {
	rule       string
	definition string
	input      string
	answers    []string
	// unordered marks branches whose states may be entered in any order.
	unordered bool
	// defect says why moto 5.2.1 is wrong where it is known to be.
	defect string
}

// invoking calls the function f of a case by the integration, telling calls echo by its ARN.
const (
	invoking = `"Type":"Task","Resource":"arn:aws:states:::lambda:invoke","Parameters":{"FunctionName":"${f}","Payload.$":"$"},"OutputPath":"$.Payload"`
	telling  = `"Type":"Task","Resource":"${echo}"`
)

// The cases with a defect must differ, so that nobody mistakes them for agreement.
var oracleCases = []oracleCase{
	{rule: "a Pass state", definition: end(`"Type":"Pass"`), input: `{"a":1}`},
	{rule: "Result and ResultPath", definition: end(`"Type":"Pass","Result":{"x":[1]},"ResultPath":"$.b.c"`), input: `{"a":1}`},
	{rule: "InputPath", definition: end(`"Type":"Pass","InputPath":"$.a.b"`), input: `{"a":{"b":[1,2]}}`},
	{rule: "InputPath null", definition: end(`"Type":"Pass","InputPath":null`), input: `{"a":1}`},
	{rule: "OutputPath", definition: end(`"Type":"Pass","OutputPath":"$.a"`), input: `{"a":{"b":2}}`},
	{rule: "OutputPath null", definition: end(`"Type":"Pass","OutputPath":null`), input: `{"a":1}`},
	{rule: "OutputPath to nothing", definition: end(`"Type":"Pass","OutputPath":"$.no"`), input: `{"a":1}`},
	{rule: "Parameters", definition: end(`"Type":"Pass","InputPath":"$.in","Parameters":{"a":1,"b.$":"$.b","c":[{"d.$":"$.b"}],"n.$":"$$.Execution.Name","s.$":"$$.State.Name"}`), input: `{"in":{"b":[2]}}`},
	{rule: "Parameters with a path to nothing", definition: end(`"Type":"Pass","Parameters":{"b.$":"$.no"}`), input: `{}`},
	{rule: "the Context Object", definition: end(`"Type":"Pass","Parameters":{"i.$":"$$.Execution.Input.a","r.$":"$$.Execution.RoleArn"}`), input: `{"a":{"b":1}}`},
	{rule: "paths with lists", definition: end(`"Type":"Pass","Parameters":{"w.$":"$.l[*].n","s.$":"$.l[1:].n","f.$":"$.l[?(@.n > 1)].n","e.$":"$.none[*]","u.$":"$.l[0,2].n","i.$":"$.l[1]"}`), input: `{"l":[{"n":1},{"n":2},{"n":3}]}`},
	{rule: "a path through an index", definition: end(`"Type":"Pass","Parameters":{"i.$":"$.l[1].n"}`), input: `{"l":[{"n":1},{"n":2}]}`, defect: "yields a list"},
	{rule: "one match of many", definition: end(`"Type":"Pass","Parameters":{"i.$":"$.l[?(@.n > 1)].n"}`), input: `{"l":[{"n":1},{"n":2}]}`},
	{rule: "intrinsic functions", definition: end(`"Type":"Pass","Parameters":{
		"format.$":"States.Format('{} and {}', $.s, 5)","tojson.$":"States.StringToJson($.json)","tostring.$":"States.JsonToString($.o)",
		"array.$":"States.Array('x', 1, $.o)","part.$":"States.ArrayPartition($.l, 2)","has.$":"States.ArrayContains($.l, 3)",
		"range.$":"States.ArrayRange(1, 9, 2)","item.$":"States.ArrayGetItem($.l, 1)","len.$":"States.ArrayLength($.l)",
		"enc.$":"States.Base64Encode($.s)","dec.$":"States.Base64Decode('aGk=')","hash.$":"States.Hash($.s, 'SHA-256')",
		"merge.$":"States.JsonMerge($.o, $.p, false)","add.$":"States.MathAdd($.n, -7)","split.$":"States.StringSplit('a,b;c', ',;')",
		"nested.$":"States.ArrayGetItem(States.StringSplit($.csv, ','), States.MathAdd($.n, -4))"}`),
		input: `{"s":"text","json":"{\"a\":[1]}","o":{"a":1,"b":{"c":2}},"p":{"b":3},"l":[1,2,3],"n":5,"csv":"p,q,r"}`},
	{rule: "an array with null", definition: end(`"Type":"Pass","Parameters":{"a.$":"States.Array(1, null)"}`), input: `{}`, defect: "drops a literal null"},
	{rule: "numbers are rounded half up", definition: end(`"Type":"Pass","Parameters":{"a.$":"States.MathAdd($.a, 0)","b.$":"States.MathAdd($.b, 0)"}`), input: `{"a":-1.5,"b":2.5}`},
	{rule: "an intrinsic function of nothing", definition: end(`"Type":"Pass","Parameters":{"a.$":"States.Format('{}', $.no)"}`), input: `{}`},

	{rule: "a choice by text", definition: choosing(`"Variable":"$.v","StringEquals":"a"`, `"Variable":"$.v","StringMatches":"b*"`), input: `{"v":"beta"}`},
	{rule: "a choice by number", definition: choosing(`"Variable":"$.v","NumericLessThan":3`, `"Variable":"$.v","NumericGreaterThanEqualsPath":"$.w"`), input: `{"v":3,"w":3}`},
	{rule: "a choice by boolean", definition: choosing(`"Variable":"$.v","BooleanEquals":false`, `"Variable":"$.v","IsBoolean":true`), input: `{"v":true}`},
	{rule: "a choice by timestamp", definition: choosing(`"Variable":"$.v","TimestampLessThan":"2020-01-01T00:00:00Z"`, `"Variable":"$.v","TimestampEquals":"2020-01-01T00:00:00Z"`), input: `{"v":"2020-01-01T00:00:00Z"}`},
	{rule: "a choice by presence", definition: choosing(`"Variable":"$.no","IsPresent":true`, `"And":[{"Variable":"$.v","IsPresent":true},{"Not":{"Variable":"$.v","IsNull":false}}]`), input: `{"v":null}`},
	{rule: "a choice by Or", definition: choosing(`"Or":[{"Variable":"$.v","StringEquals":"x"},{"Variable":"$.v","StringEquals":"y"}]`, `"Variable":"$.v","IsString":true`), input: `{"v":"y"}`},
	{rule: "the default choice", definition: choosing(`"Variable":"$.v","StringEquals":"x"`, `"Variable":"$.v","IsNumeric":true`), input: `{"v":"y"}`},
	{rule: "no choice at all", definition: one(`"Type":"Choice","Choices":[{"Variable":"$.v","StringEquals":"x","Next":"Y"}]`), input: `{"v":"y"}`},
	{rule: "a choice of nothing", definition: one(`"Type":"Choice","Choices":[{"Variable":"$.no","StringEquals":"x","Next":"Y"}],"Default":"Y"`), input: `{}`, defect: "takes the rule for untrue"},
	{rule: "a loop", definition: `{"StartAt":"A","States":{"A":{"Type":"Choice","Choices":[{"Variable":"$.n","NumericLessThan":3,"Next":"B"}],"Default":"C"},"B":{"Type":"Pass","Parameters":{"n.$":"States.MathAdd($.n, 1)"},"Next":"A"},"C":{"Type":"Succeed"}}}`, input: `{"n":0}`},

	{rule: "a Fail state", definition: `{"StartAt":"X","States":{"X":{"Type":"Fail","Error":"Err","Cause":"why"}}}`, input: `{}`},
	{rule: "a Fail state with paths", definition: `{"StartAt":"X","States":{"X":{"Type":"Fail","ErrorPath":"$.e","CausePath":"States.Format('for {}', $.e)"}}}`, input: `{"e":"Err"}`},
	{rule: "a Succeed state", definition: `{"StartAt":"X","States":{"X":{"Type":"Succeed","InputPath":"$.a"}}}`, input: `{"a":1}`},
	{rule: "a wait", definition: one(`"Type":"Wait","SecondsPath":"$.s","Next":"Y"`), input: `{"s":1}`},
	{rule: "a wait until the past", definition: one(`"Type":"Wait","TimestampPath":"$.t","Next":"Y"`), input: `{"t":"2020-01-01T00:00:00Z"}`},
	{rule: "a wait for nothing", definition: one(`"Type":"Wait","SecondsPath":"$.no","Next":"Y"`), input: `{}`},

	{rule: "an integration", definition: end(invoking), input: `{"in":1}`, answers: []string{`{"out":[1]}`}},
	{rule: "a function", definition: end(telling + `,"Parameters":{"x.$":"$.in","y":2},"ResultSelector":{"z.$":"$.x"},"ResultPath":"$.r"`), input: `{"in":1}`},
	{rule: "a result that is dropped", definition: end(telling + `,"ResultPath":null`), input: `{"in":1}`},
	{rule: "the retry count", definition: end(telling + `,"Parameters":{"n.$":"$$.State.RetryCount"}`), input: `{}`},
	{rule: "an error", definition: end(invoking), input: `{}`, answers: []string{"Boom"}},
	{rule: "an error of a function", definition: end(`"Type":"Task","Resource":"${f}"`), input: `{}`, answers: []string{"Boom"}},
	{rule: "an error is caught by name", definition: caught(`{"ErrorEquals":["Other"],"Next":"Y"},{"ErrorEquals":["Boom"],"ResultPath":"$.e","Next":"C"}`), input: `{"in":1}`, answers: []string{"Boom"}},
	{rule: "an error is caught as States.TaskFailed", definition: caught(`{"ErrorEquals":["States.TaskFailed"],"Next":"C"}`), input: `{"in":1}`, answers: []string{"Boom"}},
	{rule: "an error is caught as States.ALL", definition: caught(`{"ErrorEquals":["States.Timeout"],"Next":"Y"},{"ErrorEquals":["States.ALL"],"ResultPath":null,"Next":"C"}`), input: `{"in":1}`, answers: []string{"Boom"}},
	{rule: "States.Runtime is not caught", definition: caught(`{"ErrorEquals":["States.ALL"],"Next":"C"}`, `,"ResultSelector":{"x.$":"$.no"}`), input: `{}`, answers: []string{"{}"}, defect: "States.ALL catches it"},
	{rule: "an error is not caught", definition: caught(`{"ErrorEquals":["Other"],"Next":"C"}`), input: `{"in":1}`, answers: []string{"Boom"}},
	{rule: "an error is retried until it is over", definition: end(invoking + `,"Retry":[{"ErrorEquals":["Boom"],"IntervalSeconds":1,"BackoffRate":1,"MaxAttempts":2}]`), input: `{}`, answers: []string{"Boom", "Boom", `"done"`}},
	{rule: "an error is retried in vain", definition: end(invoking + `,"Retry":[{"ErrorEquals":["States.ALL"],"IntervalSeconds":1,"MaxAttempts":1}]`), input: `{}`, answers: []string{"Boom", "Boom"}},
	{rule: "an error that is not to be retried", definition: end(invoking + `,"Retry":[{"ErrorEquals":["Boom"],"MaxAttempts":0},{"ErrorEquals":["States.ALL"]}]`), input: `{}`, answers: []string{"Boom"}},
	{rule: "a task out of time", definition: caught(`{"ErrorEquals":["States.Timeout"],"ResultPath":"$.e","Next":"C"}`, `,"TimeoutSeconds":1`), input: `{"in":1}`, answers: []string{"sleep"}},
	{rule: "a task out of time is no States.TaskFailed", definition: caught(`{"ErrorEquals":["States.TaskFailed"],"Next":"C"}`, `,"TimeoutSeconds":1`), input: `{}`, answers: []string{"sleep"}},

	{rule: "branches", definition: end(parallel(`,"ResultPath":"$.r"`, branch("A", `"Type":"Pass","Result":1,"End":true`), branch("B", `"Type":"Wait","Seconds":1,"Next":"B2"},"B2":{`+pass))), input: `{"a":1}`, unordered: true},
	{rule: "Parameters and ResultSelector of branches", definition: end(parallel(`,"Parameters":{"x.$":"$.a"},"ResultSelector":{"first.$":"$[0]"}`, branch("A", pass), branch("B", pass))), input: `{"a":7}`, unordered: true},
	{rule: "a failing branch", definition: end(parallel("", branch("A", `"Type":"Fail","Error":"Err","Cause":"why"`))), input: `{}`},
	{rule: "a failing branch is caught", definition: `{"StartAt":"X","States":{"X":{` + parallel(`,"Catch":[{"ErrorEquals":["States.ALL"],"ResultPath":"$.e","Next":"C"}]`, branch("A", `"Type":"Fail","Error":"Err","Cause":"why"`)) + `,"Next":"C"},"C":{"Type":"Succeed"}}}`, input: `{"a":1}`},
	{rule: "a failing branch is retried", definition: end(parallel(`,"Retry":[{"ErrorEquals":["Boom"],"IntervalSeconds":1}]`, branch("A", invoking+`,"End":true`))), input: `{}`, answers: []string{"Boom", `2`}},

	{rule: "a map", definition: end(`"Type":"Map","ItemsPath":"$.l","MaxConcurrency":1,"ItemSelector":{"v.$":"$$.Map.Item.Value","i.$":"$$.Map.Item.Index","k.$":"$.k"},"ItemProcessor":` + branch("I", telling+`,"End":true`) + `,"ResultPath":"$.r"`), input: `{"l":["a","b"],"k":1}`},
	{rule: "a map over nothing", definition: end(mapping), input: `[]`},
	{rule: "a map over no array", definition: end(mapping), input: `{"a":1}`, defect: "names the error after JSONata"},
	{rule: "a map whose item fails", definition: end(`"Type":"Map","MaxConcurrency":1,"ItemProcessor":{"StartAt":"Q","States":{"Q":{"Type":"Choice","Choices":[{"Variable":"$","NumericEquals":2,"Next":"F"}],"Default":"S"},"F":{"Type":"Fail","Error":"Err","Cause":"why"},"S":{"Type":"Succeed"}}}`), input: `[1,2,3]`},
	{rule: "a map inside a map", definition: end(`"Type":"Map","MaxConcurrency":1,"ItemProcessor":` + branch("M", `"Type":"Map","MaxConcurrency":1,"ItemProcessor":`+branch("I", `"Type":"Pass","Parameters":{"i.$":"$$.Map.Item.Index","v.$":"$"},"End":true`)+`,"End":true`)), input: `[[1],[2,3]]`},
	{rule: "ResultSelector of a map", definition: end(mapping + `,"ResultSelector":{"n.$":"States.ArrayLength($)"}`), input: `[1,2]`, unordered: true},
}

// choosing is a Choice state with two rules that lead to A and B, and a default.
func choosing(a, b string) string {
	return `{"StartAt":"X","States":{"X":{"Type":"Choice","Choices":[{` + a + `,"Next":"A"},{` + b + `,"Next":"B"}],"Default":"D"},` +
		`"A":{"Type":"Succeed"},"B":{"Type":"Succeed"},"D":{"Type":"Succeed"}}}`
}

// caught is a call with catchers that lead to Y, the next state, or to C.
func caught(catchers string, rest ...string) string {
	return `{"StartAt":"X","States":{"X":{` + invoking + strings.Join(rest, "") + `,"Catch":[` + catchers + `],"Next":"Y"},"Y":{` + pass + `},"C":{` + pass + `}}}`
}

func TestAgreesWithMoto(t *testing.T) {
	edge := &edge{functions: map[string]func() string{}}
	server := httptest.NewServer(edge)
	defer server.Close()
	begun := time.Now()
	client := startMoto(t, server.URL)
	t.Logf("moto is ready after %v", time.Since(begun).Round(time.Millisecond))

	ours, theirs, errs := make([]outcome, len(oracleCases)), make([]outcome, len(oracleCases)), make([]error, len(oracleCases))
	var all sync.WaitGroup
	places := make(chan struct{}, 6)
	for i, c := range oracleCases {
		all.Go(func() {
			places <- struct{}{}
			if theirs[i], errs[i] = client.run(t.Context(), edge, i, c); errs[i] == nil {
				ours[i], errs[i] = c.run(t.Context(), i)
			}
			<-places
		})
	}
	all.Wait()
	t.Logf("all %d cases have run after %v", len(oracleCases), time.Since(begun).Round(time.Millisecond))

	for i, c := range oracleCases {
		t.Run(c.rule, func(t *testing.T) {
			if errs[i] != nil {
				t.Fatal(errs[i])
			}
			ours, theirs := ours[i], theirs[i]
			if c.unordered {
				slices.Sort(theirs.trace)
				slices.Sort(ours.trace)
			}
			same := ours.status == theirs.status && ours.err == theirs.err && slices.Equal(ours.trace, theirs.trace) && sameJSON(t, ours.output, theirs.output)
			switch {
			case c.defect == "" && !same:
				t.Errorf("ours and moto's:\n%v\n%v", ours, theirs)
			case c.defect != "" && same:
				t.Errorf("moto is right now, the case has no defect any longer: %v", theirs)
			}
		})
	}
}

func TestOracleCasesAreValid(t *testing.T) {
	for i, c := range oracleCases {
		t.Run(c.rule, func(t *testing.T) {
			if _, err := Parse([]byte(c.definition), c.functions(i)); err != nil {
				t.Error(err)
			}
		})
	}
}

// outcome is what is compared.
type outcome struct {
	status, err string
	output      string
	trace       []string
}

func sameJSON(t *testing.T, a, b string) bool {
	if a == "" || b == "" {
		return a == b
	}
	return equal(mustDecode(t, a), mustDecode(t, b))
}

// functions names the functions of a case, for substitution.
func (c oracleCase) functions(i int) map[string]string {
	const prefix = "arn:aws:lambda:us-east-1:123456789012:function:"
	return map[string]string{"f": fmt.Sprintf("%sf%d", prefix, i), "echo": prefix + "echo"}
}

// answer yields one answer after the other. JSON is a result, "sleep" a call that takes too long and
// anything else the type of an error.
func answer(answers []string) func() string {
	var mu sync.Mutex
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		if len(answers) == 0 {
			return "Test.CalledTooOften"
		}
		a := answers[0]
		answers = answers[1:]
		return a
	}
}

// run runs a case here.
func (c oracleCase) run(ctx context.Context, i int) (outcome, error) {
	m, err := Parse([]byte(c.definition), c.functions(i))
	if err != nil {
		return outcome{}, err
	}
	next := answer(c.answers)
	tasks := runner(func(ctx context.Context, resource string, input json.RawMessage) (json.RawMessage, error) {
		var invoke struct {
			FunctionName string
			Payload      json.RawMessage
		}
		integration := strings.HasSuffix(resource, ":lambda:invoke")
		if integration {
			if err := json.Unmarshal(input, &invoke); err != nil {
				return nil, err
			}
		} else {
			invoke.FunctionName, invoke.Payload = resource, input
		}
		result := string(invoke.Payload)
		if !strings.HasSuffix(invoke.FunctionName, ":echo") {
			if result = next(); result == "sleep" {
				<-ctx.Done()
				return nil, ctx.Err()
			}
		}
		switch {
		case !json.Valid([]byte(result)):
			return nil, &Error{result, fmt.Sprintf(`{"errorMessage":"because","errorType":%q}`, result)}
		case integration:
			result = fmt.Sprintf(`{"ExecutedVersion":"$LATEST","Payload":%s,"StatusCode":200}`, result)
		}
		return json.RawMessage(result), nil
	})
	o := Options{Name: fmt.Sprintf("case-%d", i), StateMachineArn: fmt.Sprintf("arn:aws:states:us-east-1:123456789012:stateMachine:m%d", i), RoleArn: oracleRole, Tasks: tasks}
	r, err := Run(ctx, m, json.RawMessage(c.input), o)
	if err != nil {
		return outcome{}, err
	}
	return outcome{string(r.Status), r.Error, string(r.Output), r.Trace()}, nil
}

const oracleRole = "arn:aws:iam::123456789012:role/machine"

// edge answers what moto's engine asks of AWS: it invokes Lambda functions there.
type edge struct {
	mu        sync.Mutex
	functions map[string]func() string
}

func (e *edge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, _ := url.PathUnescape(r.URL.EscapedPath())
	arn, ok := strings.CutPrefix(path, "/2015-03-31/functions/")
	arn, isInvoke := strings.CutSuffix(arn, "/invocations")
	if !ok || !isInvoke {
		http.Error(w, "only functions can be invoked here", http.StatusNotFound)
		return
	}
	body, _ := io.ReadAll(r.Body)
	result := string(body)
	if name := arn[strings.LastIndexByte(arn, ':')+1:]; name != "echo" {
		e.mu.Lock()
		f := e.functions[name]
		e.mu.Unlock()
		if f == nil {
			http.Error(w, "no such function", http.StatusNotFound)
			return
		}
		if result = f(); result == "sleep" {
			// Longer than any timeout of a case, shorter than anybody's patience.
			time.Sleep(3 * time.Second)
		}
	}
	w.Header().Set("X-Amz-Executed-Version", "$LATEST")
	if !json.Valid([]byte(result)) {
		w.Header().Set("X-Amz-Function-Error", "Unhandled")
		result = fmt.Sprintf(`{"errorMessage":"because","errorType":%q}`, result)
	}
	io.WriteString(w, result)
}

// moto is a running moto_server.
type moto struct {
	*sfn.Client
	url string
}

// startMoto starts moto's server once and points its engine at the edge: the engine calls
// localhost:MOTO_PORT for every Task.
func startMoto(t *testing.T, edgeURL string) *moto {
	giveUp := t.Skip
	if os.Getenv("CI") == "true" {
		giveUp = t.Fatal
	}
	program, err := exec.LookPath("moto_server")
	if err != nil {
		giveUp("nothing to compare with: moto_server is not installed (pip install 'moto[server]==5.2.1')")
	}
	if testing.Short() {
		giveUp("moto takes 10 seconds and more, too long for -short")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	listener.Close()
	_, edgePort, _ := net.SplitHostPort(strings.TrimPrefix(edgeURL, "http://"))
	var output bytes.Buffer
	cmd := exec.Command(program, "-H", "127.0.0.1", "-p", port)
	cmd.Env = append(os.Environ(), "MOTO_PORT="+edgePort, "MOTO_ALLOW_NONEXISTENT_REGION=true", "NO_PROXY=*", "no_proxy=*")
	cmd.Stdout, cmd.Stderr = &output, &output
	// A group of its own, for the program may be a wrapper that starts another.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-ended
		if t.Failed() {
			t.Logf("moto says:\n%s", output.Bytes()[max(0, output.Len()-4000):])
		}
	})
	m := &moto{url: "http://127.0.0.1:" + port}
	for deadline := time.Now().Add(40 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if err := m.post("/moto-api/config", `{"stepfunctions":{"execute_state_machine":true}}`); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("moto does not answer: %v", err)
		}
		select {
		case <-ended:
			t.Fatal("moto has ended")
		default:
		}
	}
	m.Client = sfn.New(sfn.Options{
		Region: "us-east-1", BaseEndpoint: &m.url, RetryMaxAttempts: 1,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "test", SecretAccessKey: "test"}, nil
		}),
	})
	return m
}

func (m *moto) post(path, body string) error {
	res, err := http.Post(m.url+path, "application/json", strings.NewReader(body))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode >= 300 {
		return fmt.Errorf("post %s: %s", path, res.Status)
	}
	return nil
}

// run runs a case on moto, in a region of its own, for a second execution in a region fails there.
func (m *moto) run(ctx context.Context, e *edge, i int, c oracleCase) (outcome, error) {
	e.mu.Lock()
	e.functions[fmt.Sprintf("f%d", i)] = answer(c.answers)
	e.mu.Unlock()
	var o outcome
	definition, err := substitute([]byte(c.definition), c.functions(i))
	if err != nil {
		return o, err
	}
	region := func(o *sfn.Options) { o.Region = fmt.Sprintf("case-%d", i) }
	machine, err := m.CreateStateMachine(ctx, &sfn.CreateStateMachineInput{
		Name: aws.String(fmt.Sprintf("m%d", i)), Definition: aws.String(string(definition)), RoleArn: aws.String(oracleRole),
	}, region)
	if err != nil {
		return o, err
	}
	execution, err := m.StartExecution(ctx, &sfn.StartExecutionInput{
		StateMachineArn: machine.StateMachineArn, Name: aws.String(fmt.Sprintf("case-%d", i)), Input: aws.String(c.input),
	}, region)
	if err != nil {
		return o, err
	}
	for deadline := time.Now().Add(20 * time.Second); o.status == ""; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			return o, fmt.Errorf("moto does not come to an end: %+v", o)
		}
		history, err := m.GetExecutionHistory(ctx, &sfn.GetExecutionHistoryInput{ExecutionArn: execution.ExecutionArn, MaxResults: 1000}, region)
		if err != nil {
			return o, err
		}
		o.trace = nil
		for _, event := range history.Events {
			if d := event.StateEnteredEventDetails; d != nil {
				o.trace = append(o.trace, aws.ToString(d.Name))
			}
			switch event.Type {
			case types.HistoryEventTypeExecutionSucceeded:
				o.status, o.output = string(Succeeded), aws.ToString(event.ExecutionSucceededEventDetails.Output)
			case types.HistoryEventTypeExecutionFailed:
				o.status, o.err = string(Failed), aws.ToString(event.ExecutionFailedEventDetails.Error)
			case types.HistoryEventTypeExecutionTimedOut:
				o.status = string(TimedOut)
			case types.HistoryEventTypeExecutionAborted:
				o.status = string(Aborted)
			}
		}
	}
	return o, nil
}
