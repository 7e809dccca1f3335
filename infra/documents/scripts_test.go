package documents

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/sfn"

	"flashtap/events"
	"flashtap/functions/evidence"
	"flashtap/testutil/stage"
)

// driver runs a script's handler as Automation would, only that its pauses are short.
const driver = `
import json, sys, time
slow = time.sleep
time.sleep = lambda seconds: slow(seconds / 500)
script = {}
exec(open(sys.argv[1]).read(), script)
try:
    print(json.dumps(script["handler"](json.load(sys.stdin), None)))
except Exception as error:
    sys.exit(str(error))
`

var hasBoto3 = sync.OnceValue(func() error { return exec.Command("python3", "-c", "import boto3").Run() })

// run gives a script its input and returns its answer, or what it failed with.
func run(t *testing.T, script string, given map[string]string, env ...string) (answer map[string]string, failure string) {
	t.Helper()
	if err := hasBoto3(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("CI needs python3 with boto3: pip install boto3")
		}
		t.Skip("python3 with boto3 is not installed: pip install boto3")
	}
	input, err := json.Marshal(given)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	python := exec.CommandContext(ctx, "python3", "-c", driver, script)
	python.Stdin = bytes.NewReader(input)
	python.Env = append(append(os.Environ(), "AWS_DEFAULT_REGION=eu-central-1", "AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE=/dev/null",
		"AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_MAX_ATTEMPTS=1"), env...)
	var stdout, stderr bytes.Buffer
	python.Stdout, python.Stderr = &stdout, &stderr
	if err := python.Run(); err != nil {
		return nil, stderr.String()
	}
	if err := json.Unmarshal(stdout.Bytes(), &answer); err != nil {
		t.Fatalf("%s: %v: %s", script, err, stdout.Bytes())
	}
	return answer, ""
}

func at(s *stage.Stage) []string {
	key, secret := s.S3.Credentials()
	return []string{"AWS_ENDPOINT_URL=" + s.Endpoint(), "AWS_ACCESS_KEY_ID=" + key, "AWS_SECRET_ACCESS_KEY=" + secret}
}

func TestCapture(t *testing.T) {
	s := stage.New(t, nil)
	given := map[string]string{"Instance": s.Instance, "Seconds": "0", "Reason": `odd "beacons"`, "Case": "", "Run": "run-1", "StateMachine": s.Settings.StateMachineARN}
	for range 2 { // a step may be tried again
		answer, failure := run(t, "capture.py", given, at(s)...)
		if failure != "" || answer["Status"] != "RUNNING" || !strings.HasSuffix(answer["Execution"], ":by-document-run-1") {
			t.Fatalf("%v, %s", answer, failure)
		}
	}
	machines := sfn.NewFromConfig(s.Config)
	list, err := machines.ListExecutions(t.Context(), &sfn.ListExecutionsInput{StateMachineArn: &s.Settings.StateMachineARN})
	if err != nil || len(list.Executions) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	out, err := machines.DescribeExecution(t.Context(), &sfn.DescribeExecutionInput{ExecutionArn: list.Executions[0].ExecutionArn})
	if err != nil {
		t.Fatal(err)
	}
	var request events.Request
	decoder := json.NewDecoder(strings.NewReader(aws.ToString(out.Input)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&request); err != nil || request.Validate() != nil || request.InstanceID != s.Instance || request.Reason != `odd "beacons"` || request.DurationSeconds != 0 {
		t.Errorf("%+v, %v", request, err)
	}

	given["Run"], given["Seconds"], given["Case"] = "run-2", "60", "IR-7"
	answer, failure := run(t, "capture.py", given, at(s)...)
	if failure != "" {
		t.Fatal(failure)
	}
	out, err = machines.DescribeExecution(t.Context(), &sfn.DescribeExecutionInput{ExecutionArn: aws.String(answer["Execution"])})
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(aws.ToString(out.Input)), &request); err != nil || request.DurationSeconds != 60 || request.Case != "IR-7" {
		t.Errorf("%+v, %v", request, err)
	}
}

// TestCaptureRefused: the person sees why.
func TestCaptureRefused(t *testing.T) {
	s := stage.New(t, nil)
	refusing, err := s.CreateStateMachine("refusing", []byte(`{"StartAt": "Refused", "States": {"Refused": {"Type": "Fail", "Error": "NotMirrorable", "Cause": "it is a T2; capture a peer"}}}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, failure := run(t, "capture.py", map[string]string{"Instance": s.Instance, "Seconds": "0", "Reason": "why", "Case": "", "Run": "run-1", "StateMachine": refusing}, at(s)...)
	if !strings.Contains(failure, "NotMirrorable: it is a T2; capture a peer (arn:aws:states:") {
		t.Errorf("says %q", failure)
	}
}

func TestStop(t *testing.T) {
	const reason = "seen \"enough\" <\u00fc>\u2028\x7f\t"
	s := stage.New(t, nil)
	plan := s.Plan(t, s.Capture(), nil)
	given := map[string]string{"Capture": string(plan.Capture), "Reason": reason, "Run": "run-1", "Deployment": s.Settings.Deployment,
		"InstanceProfile": s.Settings.InstanceProfileARN, "Bucket": s.Settings.Bucket}
	if _, failure := run(t, "stop.py", given, at(s)...); !strings.Contains(failure, "has no running collector in deployment test") {
		t.Errorf("without a collector it says %q", failure)
	}
	id := aws.ToString(s.Collector(t, plan).InstanceId)
	for n, run1 := range []string{"run-1", "run-2"} {
		given["Run"] = run1
		answer, failure := run(t, "stop.py", given, at(s)...)
		if failure != "" || answer["Collectors"] != id {
			t.Fatalf("%d: %v, %s", n, answer, failure)
		}
	}
	seen, err := s.EC2API.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{InstanceIds: []string{id}})
	if err != nil {
		t.Fatal(err)
	}
	stop := ""
	for _, tag := range seen.Reservations[0].Instances[0].Tags {
		if aws.ToString(tag.Key) == events.TagStop {
			stop = aws.ToString(tag.Value)
		}
	}
	if stop != "operator" {
		t.Errorf("the collector is not asked to stop: %q", stop)
	}
	// The act is where `flashtap stop` would have recorded it, and the first record stands.
	var entry events.CustodyEntry
	err = s.Store.ReadJSON(t.Context(), events.CustodyKey(plan.Capture, "operator", "asked-to-stop-"+id), &entry)
	if err != nil || entry.Version != events.RecordVersion || entry.Capture != plan.Capture || entry.Actor != "operator" || entry.Act != "asked-to-stop-"+id ||
		entry.Resource != id || time.Since(entry.At) > time.Minute || entry.Detail["automation"] != "run-1" || entry.Detail["reason"] != reason {
		t.Errorf("%+v, %v", entry, err)
	}
	// A verifier takes nothing but the canonical form.
	text, err := s.Store.Read(t.Context(), events.CustodyKey(plan.Capture, "operator", "asked-to-stop-"+id))
	if err != nil {
		t.Fatal(err)
	}
	if canonical, err := evidence.Canonical(json.RawMessage(text)); err != nil || !bytes.Equal(text, canonical) {
		t.Errorf("%q is not canonical: %q, %v", text, canonical, err)
	}

	given["Deployment"] = "other"
	if _, failure := run(t, "stop.py", given, at(s)...); !strings.Contains(failure, "has no running collector in deployment other") {
		t.Errorf("another deployment's collector: %q", failure)
	}
}

// sweeps answers as Lambda's Invoke does, with one report after another.
type sweeps struct {
	t       *testing.T
	reports []string
	failed  bool
	calls   int
}

func (s *sweeps) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || string(body) != "{}" || r.URL.Path != "/2015-03-31/functions/flashtap-test-sweep/invocations" {
		s.t.Errorf("%s %s: %q, %v", r.Method, r.URL, body, err)
	}
	if s.failed {
		w.Header().Set("X-Amz-Function-Error", "Unhandled")
	}
	io.WriteString(w, s.reports[min(s.calls, len(s.reports)-1)]) //nolint:errcheck // the client of a test that ended may be gone
	s.calls++
}

func TestProve(t *testing.T) {
	const clean, busy, left, odd = `{"orphans":null,"remaining":0,"refused":null,"sealed":null,"admitted":0,"expired":0,"oldest":0}`,
		`{"orphans":null,"remaining":0,"refused":null,"oldest":300}`, `{"orphans":["x"],"remaining":2,"refused":[],"oldest":9000}`,
		`{"orphans":["x"],"remaining":0,"refused":[{"kind":"filter","id":"tmf-1","reason":"no"}],"oldest":10}`
	for name, row := range map[string]struct {
		reports []string
		failed  bool
		calls   int
		result  string
		failure string
	}{
		"nothing":                {[]string{clean}, false, 1, "nothing is there at all", ""},
		"a capture runs":         {[]string{busy}, false, 1, "the oldest began 300 s ago", ""},
		"the second finds it so": {[]string{left, left, clean}, false, 3, "nothing is left", ""},
		"it never is":            {[]string{left}, false, 4, "", "2 things remain, 0 bear our tags"},
		"not provably ours":      {[]string{odd}, false, 1, "", "1 bear our tags and are not provably ours"},
		"the sweep fails":        {[]string{`{"errorMessage":"no"}`}, true, 1, "", `the sweep failed: {"errorMessage":"no"}`},
	} {
		s := &sweeps{t: t, reports: row.reports, failed: row.failed}
		server := httptest.NewServer(s)
		answer, failure := run(t, "prove.py", map[string]string{"Sweep": "flashtap-test-sweep"}, "AWS_ENDPOINT_URL="+server.URL, "AWS_ACCESS_KEY_ID=A", "AWS_SECRET_ACCESS_KEY=B")
		server.Close()
		if s.calls != row.calls || !strings.Contains(answer["Result"], row.result) || !strings.Contains(failure, row.failure) || (failure == "") != (row.failure == "") {
			t.Errorf("%s: %d calls, %v, %s", name, s.calls, answer, failure)
		}
	}
}
