package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"flashtap/events"
	"flashtap/testutil/region/asl"
	"flashtap/testutil/region/model"
	"flashtap/testutil/s3"
)

const (
	machineARN = "arn:aws:states:us-east-1:123456789012:stateMachine:flashtap-capture"
	profileARN = "arn:aws:iam::123456789012:instance-profile/flashtap-collector"
	templateID = "lt-0a1b2c3d4e5f60718"
	roleID     = "AROAFLASHTAPCOLLECTOR"
	group      = "flashtap-test"
	deployed   = "test"
)

// account is as much of AWS as the tool talks to, for one test: the real state machine with steps that answer as they
// are told, a real S3 server, instances and schedules. Requests must agree with AWS's own service models.
type account struct {
	t      testing.TB
	server *httptest.Server
	bucket *s3.Server
	name   string // of the evidence bucket

	mu         sync.Mutex
	steps      map[string]step // by the name of the function
	executions map[string]*asl.Execution
	instances  []map[string]any
	exists     map[string][]any  // what a Describe call of EC2 lists, by the call's name
	schedules  map[string]string // input by name
	denied     map[string]bool   // services that refuse everything
	calls      []string          // operations, in order
}

// step is what a function answers to its payload.
type step func(payload map[string]any) (any, error)

// newAccount serves until the test is over.
func newAccount(t testing.TB, bucket *s3.Server, name string) *account {
	a := &account{
		t: t, bucket: bucket, name: name, steps: goodSteps(), executions: map[string]*asl.Execution{},
		exists: map[string][]any{}, schedules: map[string]string{}, denied: map[string]bool{},
	}
	if err := bucket.CreateBucket(context.Background(), name); err != nil {
		t.Fatal(err)
	}
	a.server = httptest.NewServer(a)
	return a
}

func (a *account) close() {
	for _, x := range a.executions {
		x.Stop("States.Aborted", "the test is over")
		<-x.Done()
	}
	a.server.Close()
}

// environ points the tool at this account.
func (a *account) environ() map[string]string {
	key, secret := a.bucket.Credentials()
	return map[string]string{
		"AWS_ENDPOINT_URL": a.server.URL, "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret,
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/nonexistent", "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
		"FLASHTAP_BUCKET": a.name, "FLASHTAP_STATE_MACHINE_ARN": machineARN, "FLASHTAP_DEPLOYMENT": deployed, "FLASHTAP_SCHEDULE_GROUP": group,
	}
}

// refusal is an error as AWS answers it.
type refusal struct{ code, message string }

func (r refusal) Error() string { return r.code + ": " + r.message }

var scope = regexp.MustCompile(`Credential=[^/]+/\d{8}/[^/]+/([^/]+)/aws4_request`)

func (a *account) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m := scope.FindStringSubmatch(r.Header.Get("Authorization"))
	if m == nil {
		a.t.Errorf("%s %s is not signed", r.Method, r.URL)
		return
	}
	if m[1] == "s3" {
		a.passOn(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client is gone
	}
	service := model.MustLoad(m[1]).For(r)
	call, err := service.Decode(r, body)
	var result map[string]any
	if err == nil {
		result, err = a.answer(m[1], call)
	}
	var answer model.Answer
	var no refusal
	switch {
	case errors.As(err, &no):
		answer = service.EncodeError(no.code, no.message, "request-1", http.StatusBadRequest)
	case err != nil:
		a.t.Errorf("%s: %v", m[1], err)
		answer = service.EncodeError("InternalFailure", err.Error(), "request-1", http.StatusBadRequest)
	default:
		if answer, err = service.Encode(call.Operation, result, "request-1"); err != nil {
			a.t.Errorf("answer %s: %v", call.Operation, err)
		}
	}
	if err := answer.Send(w); err != nil {
		a.t.Log(err) // the client is gone
	}
}

func (a *account) passOn(w http.ResponseWriter, r *http.Request) {
	target, err := url.Parse(a.bucket.Endpoint())
	if err != nil {
		a.t.Error(err)
		return
	}
	proxy := httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(target)
		p.Out.Host = p.In.Host // it is signed
	}}
	proxy.ServeHTTP(w, r)
}

func (a *account) refuses(service string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.denied[service]
}

func (a *account) answer(service string, call *model.Call) (map[string]any, error) {
	if a.refuses(service) {
		code := "AccessDeniedException"
		if service == "ec2" {
			code = "UnauthorizedOperation"
		}
		return nil, refusal{code, "you are not authorized to perform this operation"}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls = append(a.calls, call.Operation)
	switch service {
	case "states":
		return a.states(call)
	case "scheduler":
		return a.scheduler(call)
	}
	return a.ec2(call)
}

// states is Step Functions, as far as starting and watching an execution goes.
func (a *account) states(call *model.Call) (map[string]any, error) {
	arn, _ := call.Params["executionArn"].(string)
	if call.Operation == "StartExecution" {
		return a.start(call.Params)
	}
	x := a.executions[arn]
	if x == nil {
		return nil, refusal{"ExecutionDoesNotExist", arn}
	}
	if call.Operation == "GetExecutionHistory" {
		return history(x, call.Params)
	}
	d := x.Describe()
	out := map[string]any{"executionArn": arn, "stateMachineArn": machineARN, "name": x.Name(), "status": string(d.Status), "startDate": d.Started}
	if d.Output != nil {
		out["output"] = string(d.Output)
	}
	if d.Error != "" {
		out["error"], out["cause"] = d.Error, d.Cause
	}
	return out, nil
}

func (a *account) start(params map[string]any) (map[string]any, error) {
	if params["stateMachineArn"] != machineARN {
		return nil, refusal{"StateMachineDoesNotExist", fmt.Sprint(params["stateMachineArn"])}
	}
	definition, err := os.ReadFile("../../infra/capture.asl.json")
	if err != nil {
		return nil, err
	}
	names := map[string]string{"EventBus": "default"}
	for _, m := range regexp.MustCompile(`\$\{(\w+)Function\}`).FindAllSubmatch(definition, -1) {
		names[string(m[1])+"Function"] = strings.ToLower(string(m[1]))
	}
	machine, err := asl.Parse(definition, names)
	if err != nil {
		return nil, err
	}
	name, input := params["name"].(string), params["input"].(string)
	x, err := asl.Start(context.Background(), machine, json.RawMessage(input), asl.Options{Name: name, StateMachineArn: machineARN, Tasks: a})
	if err != nil {
		return nil, err
	}
	if a.executions[x.Arn()] != nil {
		x.Stop("States.Aborted", "the name is taken")
		return nil, refusal{"ExecutionAlreadyExists", x.Arn()}
	}
	a.executions[x.Arn()] = x
	return map[string]any{"executionArn": x.Arn(), "startDate": x.Describe().Started}, nil
}

// history is a page of an execution's events. Pages are small, so that reading on is tested.
func history(x *asl.Execution, params map[string]any) (map[string]any, error) {
	const pageSize = 7
	list := x.History()
	if params["reverseOrder"] == true {
		slices.Reverse(list)
	}
	before := int64(1 << 30)
	if token, found := params["nextToken"].(string); found {
		before, _ = strconv.ParseInt(token, 10, 64)
	}
	out := map[string]any{}
	page := []any{}
	for _, e := range list {
		if e.ID >= before {
			continue
		}
		if len(page) == pageSize {
			out["nextToken"] = strconv.FormatInt(before, 10)
			break
		}
		before = e.ID
		body, err := json.Marshal(e)
		if err != nil {
			return nil, err
		}
		var wire map[string]any
		if err := json.Unmarshal(body, &wire); err != nil {
			return nil, err
		}
		wire = whole(wire).(map[string]any)
		wire["timestamp"] = e.Timestamp
		page = append(page, wire)
	}
	out["events"] = page
	return out, nil
}

// whole turns the numbers that JSON made of integers back into integers.
func whole(v any) any {
	switch v := v.(type) {
	case float64:
		return int64(v)
	case map[string]any:
		for key, inner := range v {
			v[key] = whole(inner)
		}
	}
	return v
}

// RunTask answers for the functions and the event bus.
func (a *account) RunTask(_ context.Context, resource string, input json.RawMessage) (json.RawMessage, error) {
	if strings.HasSuffix(resource, "events:putEvents") {
		return json.RawMessage(`{"FailedEntryCount": 0, "Entries": [{"EventId": "1"}]}`), nil
	}
	var in struct {
		FunctionName string
		Payload      map[string]any
	}
	if err := json.Unmarshal(input, &in); err != nil {
		return nil, err
	}
	a.mu.Lock()
	answer := a.steps[in.FunctionName]
	a.mu.Unlock()
	result, err := answer(in.Payload)
	if err != nil {
		var no refusal
		errors.As(err, &no)
		cause, _ := json.Marshal(map[string]string{"errorType": no.code, "errorMessage": no.message})
		return nil, &asl.Error{Name: no.code, Cause: string(cause)}
	}
	return json.Marshal(map[string]any{"StatusCode": 200, "Payload": result})
}

// scheduler lists and reads schedules.
func (a *account) scheduler(call *model.Call) (map[string]any, error) {
	if call.Operation == "ListSchedules" {
		list := []any{}
		for name := range a.schedules {
			list = append(list, map[string]any{"Name": name, "GroupName": group})
		}
		return map[string]any{"Schedules": list}, nil
	}
	name, _ := call.Params["Name"].(string)
	input, found := a.schedules[name]
	if !found {
		return nil, refusal{"ResourceNotFoundException", "Schedule " + name + " does not exist."}
	}
	return map[string]any{"Name": name, "Target": map[string]any{"Arn": "arn:aws:lambda:us-east-1:123456789012:function:teardown",
		"RoleArn": "arn:aws:iam::123456789012:role/scheduler", "Input": input}}, nil
}

// ec2 describes and tags.
func (a *account) ec2(call *model.Call) (map[string]any, error) {
	switch call.Operation {
	case "DescribeInstances":
		list := []any{}
		for _, in := range a.instances {
			if matches(in, call.Params["Filters"]) {
				list = append(list, in)
			}
		}
		return map[string]any{"Reservations": []any{map[string]any{"ReservationId": "r-1", "Instances": list}}}, nil
	case "CreateTags":
		for _, id := range call.Params["Resources"].([]any) {
			for _, in := range a.instances {
				if in["InstanceId"] == id {
					in["Tags"] = append(in["Tags"].([]any), call.Params["Tags"].([]any)...)
				}
			}
		}
		return nil, nil
	}
	key := strings.TrimPrefix(call.Operation, "Describe")
	return map[string]any{key: append([]any{}, a.exists[call.Operation]...)}, nil
}

// matches applies the filters that the tool uses: tags and the state.
func matches(in map[string]any, filters any) bool {
	list, _ := filters.([]any)
	for _, f := range list {
		filter := f.(map[string]any)
		name, values := filter["Name"].(string), filter["Values"].([]any)
		have := in["State"].(map[string]any)["Name"]
		if key, isTag := strings.CutPrefix(name, "tag:"); isTag {
			have = nil
			for _, t := range in["Tags"].([]any) {
				if tag := t.(map[string]any); tag["Key"] == key {
					have = tag["Value"]
				}
			}
		}
		if !slices.Contains(values, have) {
			return false
		}
	}
	return true
}

// put writes a record into the bucket.
func (a *account) put(key string, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		a.t.Fatal(err)
	}
	if err := putObject(a.bucket, a.name, key, bytes.NewReader(body)); err != nil {
		a.t.Fatalf("put %s: %v", path.Base(key), err)
	}
}

// goodSteps are functions that all succeed at once: a capture of three packets, sealed as complete.
func goodSteps() map[string]step {
	deadline := time.Now().Add(15 * time.Minute).UTC().Truncate(time.Second)
	const eni = "eni-0a1b2c3d4e5f60718"
	c := events.NewCaptureID(time.Date(2026, 11, 22, 3, 4, 5, 0, time.UTC), eni)
	return map[string]step{
		"preflight": func(map[string]any) (any, error) {
			return events.PlanSummary{Capture: c, NetworkInterfaceID: eni, PlanKey: events.PlanKey(c), Deadline: deadline}, nil
		},
		"guard": func(map[string]any) (any, error) {
			return events.GuardResult{Held: true, JoinedTo: c, Deadline: deadline}, nil
		},
		"launch": func(map[string]any) (any, error) {
			return events.LaunchResult{InstanceID: "i-0c011ec70c011ec70", InstanceType: "c7g.large", UserID: roleID + ":i-0c011ec70c011ec70", At: time.Now()}, nil
		},
		"mirror": func(map[string]any) (any, error) {
			return events.MirrorResult{SessionID: "tms-0a1b2c3d4e5f60718", VNI: 7, At: time.Now()}, nil
		},
		"watch": func(payload map[string]any) (any, error) {
			status := map[string]string{events.PhaseReady: events.StatusReady, events.PhaseProof: events.StatusFlowing, events.PhaseWatch: events.StatusOver, events.PhaseDrain: events.StatusDrained}
			phase, _ := payload["phase"].(string)
			r := events.WatchResult{Status: status[phase], Reason: phase + " is done", WaitSeconds: 1, Segments: 1}
			if phase != events.PhaseReady {
				r.Packets, r.Bytes = 3, 1800
			}
			return r, nil
		},
		"teardown": func(map[string]any) (any, error) {
			return events.TeardownResult{Status: events.StatusClean, Passes: 1, WaitSeconds: 1}, nil
		},
		"seal": func(map[string]any) (any, error) {
			return events.SealResult{Verdict: events.VerdictComplete, Reasons: []string{}, Packets: 3, Bytes: 1900, Segments: 1, Manifest: events.ManifestKey(c), SHA256: strings.Repeat("ab", 32)}, nil
		},
	}
}
