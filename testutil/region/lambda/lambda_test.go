package lambda

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var bootstrap string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "lambda-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	bootstrap = filepath.Join(dir, "bootstrap")
	// The very way the product's functions are built.
	build := exec.Command("go", "build", "-p", "2", "-tags", "lambda.norpc", "-o", bootstrap, "./testdata/function")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the test function: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// logBuffer is a log that a test may read while a function writes.
type logBuffer struct {
	mu   sync.Mutex
	data bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.data.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.data.String()
}

func serve(t *testing.T, config Config, f Function) *Service {
	t.Helper()
	s := New(config)
	t.Cleanup(func() { s.Close() })
	if f.Name == "" {
		f.Name = "worker"
	}
	if f.Bootstrap == "" {
		f.Bootstrap = bootstrap
	}
	if f.Timeout == 0 {
		f.Timeout = 20 * time.Second
	}
	if err := s.Register(f); err != nil {
		t.Fatal(err)
	}
	return s
}

func call(t *testing.T, s *Service, payload string) Result {
	t.Helper()
	result, err := s.Invoke(t.Context(), "worker", []byte(payload))
	if err != nil {
		t.Fatalf("invoke with %s: %v", payload, err)
	}
	return result
}

type processReport struct{ PID, Calls int }

func report(t *testing.T, r Result) processReport {
	t.Helper()
	var p processReport
	if err := json.Unmarshal(r.Payload, &p); err != nil || p.PID == 0 {
		t.Fatalf("the function reported no process: %s %v", r.Payload, err)
	}
	return p
}

func alive(pid int) bool {
	err := syscall.Kill(pid, 0)
	return err == nil
}

func waitGone(t *testing.T, pid int) {
	t.Helper()
	for range 400 {
		if !alive(pid) {
			return
		}
		// An orphan stays a zombie until somebody reaps it; it runs no more.
		if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && strings.Contains(string(stat), ") Z ") {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("process %d is still alive", pid)
}

func TestAProcessIsReusedAfterSuccessAndAfterAHandledError(t *testing.T) {
	s := serve(t, Config{}, Function{})
	first := call(t, s, `{"do":"pid"}`)
	if !first.ColdStart {
		t.Error("the first invocation was not a cold start")
	}
	call(t, s, `{"do":"plain error","text":"no"}`)
	third := call(t, s, `{"do":"pid"}`)
	if third.ColdStart {
		t.Error("the third invocation was a cold start")
	}
	a, b := report(t, first), report(t, third)
	if a.PID != b.PID || b.Calls != 3 {
		t.Errorf("first ran in %+v, third in %+v", a, b)
	}
}

func TestFunctionErrors(t *testing.T) {
	for _, row := range []struct {
		name, payload     string
		wantType, message string
		dies              bool
	}{
		{"errors.New is errorString", `{"do":"plain error","text":"no such thing"}`, "errorString", "no such thing", false},
		{"a wrapped error loses its name", `{"do":"wrapped error","text":"eni-1"}`, "wrapError", "describe: eni-1 cannot be mirrored", false},
		{"a named error keeps its name", `{"do":"named error","text":"eni-1"}`, "notMirrorable", "eni-1 cannot be mirrored", false},
		{"a pointer is named like its element", `{"do":"pointer error","text":"eni-1"}`, "notMirrorable", "eni-1 cannot be mirrored", false},
		{"a panic ends the process", `{"do":"panic","text":"boom"}`, "string", "boom", true},
		{"an exit has its status in the message", `{"do":"exit","number":3}`, "Runtime.ExitError", "Runtime exited with error: exit status 3", true},
		{"an exit with 0 gives no reason", `{"do":"exit","number":0}`, "Runtime.ExitError", "Runtime exited without providing a reason", true},
		{"a signal is named", `{"do":"signal"}`, "Runtime.ExitError", "Runtime exited with error: signal: killed", true},
		{"a response over 6 MB", `{"do":"large","number":6300000}`, "Function.ResponseSizeTooLarge", "Response payload size exceeded maximum allowed payload size (6291556 bytes).", true},
		{"a stream that breaks off", `{"do":"broken stream"}`, "notMirrorable", "the stream cannot be mirrored", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := serve(t, Config{}, Function{})
			before := report(t, call(t, s, `{"do":"pid"}`))
			r := call(t, s, row.payload)
			if r.FunctionError != "Unhandled" {
				t.Errorf("FunctionError is %q", r.FunctionError)
			}
			var body struct {
				ErrorType, ErrorMessage string
				StackTrace              []json.RawMessage
			}
			if err := json.Unmarshal(r.Payload, &body); err != nil {
				t.Fatalf("payload %s: %v", r.Payload, err)
			}
			message := row.message
			if row.wantType == "Runtime.ExitError" {
				message = "RequestId: " + r.RequestID + " Error: " + message
			}
			if body.ErrorType != row.wantType || body.ErrorMessage != message {
				t.Errorf("got %q %q, want %q %q", body.ErrorType, body.ErrorMessage, row.wantType, message)
			}
			if (len(body.StackTrace) > 0) != (row.wantType == "string") {
				t.Errorf("a stack trace of %d frames", len(body.StackTrace))
			}
			after := report(t, call(t, s, `{"do":"pid"}`))
			if (after.PID != before.PID) != row.dies {
				t.Errorf("process %d before, %d after", before.PID, after.PID)
			}
		})
	}
}

func TestATimeoutKillsTheProcessAndTheNextInvocationStartsCold(t *testing.T) {
	var log logBuffer
	s := serve(t, Config{}, Function{Timeout: 400 * time.Millisecond, Log: &log})
	before := report(t, call(t, s, `{"do":"pid"}`))
	r := call(t, s, `{"do":"sleep","for":60000000000}`)
	want := `{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: ` + r.RequestID + ` Error: Task timed out after 0.40 seconds"}`
	if string(r.Payload) != want || r.FunctionError != "Unhandled" {
		t.Errorf("got %s %q\nwant %s", r.Payload, r.FunctionError, want)
	}
	waitGone(t, before.PID)
	after := call(t, s, `{"do":"pid"}`)
	if !after.ColdStart || report(t, after).PID == before.PID {
		t.Error("the process that timed out was used again")
	}
	if !strings.Contains(log.String(), "Status: timeout") {
		t.Errorf("the log does not tell of the timeout:\n%s", log.String())
	}
}

func TestConcurrentInvocationsHaveOneProcessEach(t *testing.T) {
	s := serve(t, Config{}, Function{})
	dir := t.TempDir()
	var wg sync.WaitGroup
	pids := make(chan int, 3)
	for range 3 {
		wg.Go(func() {
			r, err := s.Invoke(t.Context(), "worker", fmt.Appendf(nil, `{"do":"meet","number":3,"file":%q}`, dir))
			if err != nil {
				t.Error(err)
				return
			}
			pids <- report(t, r).PID
		})
	}
	wg.Wait()
	close(pids)
	seen := map[int]bool{}
	for pid := range pids {
		seen[pid] = true
	}
	if len(seen) != 3 {
		t.Errorf("three invocations at once ran in %d processes", len(seen))
	}
	if r := call(t, s, `{"do":"pid"}`); r.ColdStart || !seen[report(t, r).PID] {
		t.Error("a later invocation did not reuse one of them")
	}
}

func TestReservedConcurrencyThrottles(t *testing.T) {
	one := 1
	s := serve(t, Config{}, Function{ReservedConcurrency: &one})
	started := filepath.Join(t.TempDir(), "started")
	done := make(chan error, 1)
	go func() {
		_, err := s.Invoke(context.Background(), "worker", fmt.Appendf(nil, `{"do":"sleep","for":500000000,"file":%q}`, started))
		done <- err
	}()
	for range 1000 {
		if _, err := os.Stat(started); err == nil {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	_, err := s.Invoke(t.Context(), "worker", []byte(`{"do":"pid"}`))
	var e *Error
	if !errors.As(err, &e) || e.Code() != "TooManyRequestsException" || e.Status() != 429 {
		t.Errorf("the second of two with a reserved concurrency of 1: %v", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	call(t, s, `{"do":"pid"}`) // free again
}

func TestTheContextOfAnInvocation(t *testing.T) {
	s := serve(t, Config{Region: "eu-central-1", AccountID: "111122223333"}, Function{Memory: 256, Timeout: 9 * time.Second})
	r := call(t, s, `{"do":"context"}`)
	var got struct {
		ID, ARN, Name string
		Left          int
		Memory        int
	}
	if err := json.Unmarshal(r.Payload, &got); err != nil {
		t.Fatal(err)
	}
	if got.ID != r.RequestID || got.ARN != "arn:aws:lambda:eu-central-1:111122223333:function:worker" ||
		got.Name != "worker" || got.Memory != 256 {
		t.Errorf("the function saw %+v", got)
	}
	if got.Left < 5000 || got.Left > 9000 {
		t.Errorf("%d ms were left of 9 s", got.Left)
	}
}

func TestTheEnvironmentIsTheFunctionsOwn(t *testing.T) {
	t.Setenv("SECRET_OF_THE_PARENT", "leaked")
	t.Setenv("HOME", "/parent")
	s := serve(t, Config{Region: "eu-central-1", AccessKeyID: "AKIAX", SecretAccessKey: "secret", SessionToken: "token"},
		Function{Env: map[string]string{"BUCKET": "evidence", "LANG": "C"}, Handler: "main"})
	var list []string
	if err := json.Unmarshal(call(t, s, `{"do":"environ"}`).Payload, &list); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, entry := range list {
		name, value, _ := strings.Cut(entry, "=")
		got[name] = value
	}
	for name, want := range map[string]string{
		"BUCKET": "evidence", "LANG": "C", "TZ": ":UTC", "_HANDLER": "main", "AWS_REGION": "eu-central-1",
		"AWS_DEFAULT_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "AKIAX", "AWS_SECRET_ACCESS_KEY": "secret",
		"AWS_SESSION_TOKEN": "token", "AWS_LAMBDA_FUNCTION_NAME": "worker", "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128", "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/worker",
		"LAMBDA_TASK_ROOT": filepath.Dir(bootstrap), "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	for _, name := range []string{"SECRET_OF_THE_PARENT", "HOME", "GOPATH", "USER", "AWS_EXECUTION_ENV"} {
		if value, ok := got[name]; ok {
			t.Errorf("%s=%s came in", name, value)
		}
	}
	for name := range got {
		if !strings.HasPrefix(name, "AWS_") && !strings.HasPrefix(name, "LAMBDA_") && name != "BUCKET" && name != "LANG" &&
			name != "TZ" && name != "PATH" && name != "LD_LIBRARY_PATH" && name != "_HANDLER" && name != "_X_AMZN_TRACE_ID" {
			t.Errorf("%s is no variable of Lambda's", name)
		}
	}
}

func TestTheLogOfAnInvocationIsComplete(t *testing.T) {
	var log logBuffer
	s := serve(t, Config{}, Function{Log: &log})
	call(t, s, `{"do":"log","text":"an earlier invocation"}`)
	r := call(t, s, `{"do":"log","text":"hello"}`)
	lines := strings.Split(strings.TrimSpace(r.Log), "\n")
	want := []string{
		"START RequestId: " + r.RequestID + " Version: $LATEST",
		"on stdout: hello",
		"on stderr without an end",
		"END RequestId: " + r.RequestID,
	}
	if len(lines) != 5 || strings.Join(lines[:4], "\n") != strings.Join(want, "\n") ||
		!strings.HasPrefix(lines[4], "REPORT RequestId: "+r.RequestID+"\tDuration: ") {
		t.Errorf("the tail is\n%s\nwant\n%s\nREPORT ...", r.Log, strings.Join(want, "\n"))
	}
	if !strings.Contains(log.String(), "an earlier invocation") || !strings.Contains(log.String(), r.Log) {
		t.Errorf("the function's log is\n%s", log.String())
	}
	long := call(t, s, `{"do":"flood","number":2000,"text":"0123456789"}`)
	if len(long.Log) != 4096 || !strings.Contains(long.Log, "REPORT RequestId: "+long.RequestID) {
		t.Errorf("the tail of a long log has %d bytes", len(long.Log))
	}
	if n := strings.Count(log.String(), "0123456789\n"); n != 2000 {
		t.Errorf("%d of 2000 lines reached the log", n)
	}
}

func TestInitFailures(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "bootstrap")
	if err := os.WriteFile(broken, []byte("not a program"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name              string
		f                 Function
		wantType, message string
		inits             int
	}{
		{"an exit in Init is tried once more in the invocation", Function{Env: map[string]string{"INIT": "exit"}},
			"Runtime.ExitError", "Runtime exited with error: exit status 7", 2},
		{"a hanging Init ends with the function's own timeout", Function{Env: map[string]string{"INIT": "hang"}, Timeout: 300 * time.Millisecond},
			"Sandbox.Timedout", "Task timed out after 0.30 seconds", 2},
		{"a file that is no program", Function{Bootstrap: broken}, "Runtime.InvalidEntrypoint", "exec format error", 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			var log logBuffer
			row.f.Log = &log
			s := serve(t, Config{InitTimeout: 300 * time.Millisecond}, row.f)
			if row.f.Env["INIT"] == "exit" {
				s = serve(t, Config{}, row.f) // no race with a slow machine
			}
			r := call(t, s, `{"do":"pid"}`)
			var body struct{ ErrorType, ErrorMessage string }
			if err := json.Unmarshal(r.Payload, &body); err != nil {
				t.Fatal(err)
			}
			if r.FunctionError != "Unhandled" || body.ErrorType != row.wantType || !strings.Contains(body.ErrorMessage, row.message) {
				t.Errorf("got %q %s", r.FunctionError, r.Payload)
			}
			if n := strings.Count(log.String(), "INIT_REPORT "); n != row.inits {
				t.Errorf("%d reports of a failed Init, want %d:\n%s", n, row.inits, log.String())
			}
		})
	}
}

func TestASlowFirstInitIsRepeatedWithinTheInvocation(t *testing.T) {
	s := serve(t, Config{InitTimeout: time.Second},
		Function{Env: map[string]string{"INIT": "slow once", "MARKER": filepath.Join(t.TempDir(), "marker")}})
	if r := call(t, s, `{"do":"pid"}`); r.FunctionError != "" || !r.ColdStart {
		t.Errorf("the repeated Init did not serve: %s", r.Payload)
	}
}

func TestACallerThatHangsUpLeavesTheFunctionRunning(t *testing.T) {
	s := serve(t, Config{}, Function{})
	marker := filepath.Join(t.TempDir(), "marker")
	call(t, s, `{"do":"pid"}`)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for range 1000 {
			if data, err := os.ReadFile(marker); err == nil && len(data) > 0 {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
		cancel()
	}()
	_, err := s.Invoke(ctx, "worker", fmt.Appendf(nil, `{"do":"sleep","for":60000000000,"file":%q}`, marker))
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	other := call(t, s, `{"do":"pid"}`)
	if !other.ColdStart {
		t.Error("the busy process took another event")
	}
	data, err := os.ReadFile(marker)
	if err != nil {
		t.Fatal(err)
	}
	if pid, err := strconv.Atoi(string(data)); err != nil || !alive(pid) {
		t.Errorf("the function %q does not run on: %v", data, err)
	}
}

func TestCloseKillsProcessesAndTheirChildren(t *testing.T) {
	s := serve(t, Config{}, Function{})
	var child int
	if err := json.Unmarshal(call(t, s, `{"do":"child"}`).Payload, &child); err != nil {
		t.Fatal(err)
	}
	marker := filepath.Join(t.TempDir(), "marker")
	busy := make(chan Result, 1)
	go func() {
		r, _ := s.Invoke(context.Background(), "worker", fmt.Appendf(nil, `{"do":"sleep","for":60000000000,"file":%q}`, marker))
		busy <- r
	}()
	var pid int
	for range 1000 {
		if data, err := os.ReadFile(marker); err == nil && len(data) > 0 {
			pid, _ = strconv.Atoi(string(data))
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if pid == 0 || !alive(pid) || !alive(child) {
		t.Fatalf("process %d and child %d do not run", pid, child)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	waitGone(t, pid)
	waitGone(t, child)
	if r := <-busy; r.FunctionError != "Unhandled" {
		t.Errorf("the busy invocation ended with %+v", r)
	}
	if _, err := s.Invoke(t.Context(), "worker", nil); err == nil {
		t.Error("a closed service took an invocation")
	}
}

func TestNames(t *testing.T) {
	s := serve(t, Config{}, Function{})
	for _, row := range []struct {
		name, function, code string
	}{
		{"a bare name", "worker", ""},
		{"the whole ARN", "arn:aws:lambda:us-east-1:123456789012:function:worker", ""},
		{"a partial ARN", "123456789012:function:worker", ""},
		{"the only version there is", "worker:$LATEST", ""},
		{"an unknown function", "nobody", "ResourceNotFoundException"},
		{"an unknown version", "worker:7", "ResourceNotFoundException"},
		{"another region", "arn:aws:lambda:us-east-2:123456789012:function:worker", "ResourceNotFoundException"},
		{"another account", "arn:aws:lambda:us-east-1:999999999999:function:worker", "ResourceNotFoundException"},
		{"no name at all", "a/b", "InvalidParameterValueException"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := s.Invoke(t.Context(), row.function, []byte(`{"do":"pid"}`))
			var e *Error
			if errors.As(err, &e) != (row.code != "") || (e != nil && e.Code() != row.code) || (e == nil && err != nil) {
				t.Errorf("got %v, want %q", err, row.code)
			}
		})
	}
}

func TestRegisterRefusesWhatLambdaRefuses(t *testing.T) {
	zero := 3
	for _, row := range []struct {
		name string
		f    Function
	}{
		{"a name with a slash", Function{Name: "a/b", Bootstrap: bootstrap}},
		{"a reserved variable", Function{Name: "f", Bootstrap: bootstrap, Env: map[string]string{"AWS_REGION": "x"}}},
		{"a variable that starts with a digit", Function{Name: "f", Bootstrap: bootstrap, Env: map[string]string{"1A": "x"}}},
		{"more than 4 KB of variables", Function{Name: "f", Bootstrap: bootstrap, Env: map[string]string{"BIG": strings.Repeat("x", 4096)}}},
		{"more than 15 minutes", Function{Name: "f", Bootstrap: bootstrap, Timeout: 16 * time.Minute}},
		{"less than 128 MB", Function{Name: "f", Bootstrap: bootstrap, Memory: 64}},
		{"three retries", Function{Name: "f", Bootstrap: bootstrap, MaximumRetryAttempts: &zero}},
		{"a binary that is not there", Function{Name: "f", Bootstrap: bootstrap + ".gone"}},
		{"a name that is taken", Function{Name: "worker", Bootstrap: bootstrap}},
	} {
		t.Run(row.name, func(t *testing.T) {
			if err := serve(t, Config{}, Function{}).Register(row.f); err == nil {
				t.Error("it was registered")
			}
		})
	}
}

func TestPayloadLimits(t *testing.T) {
	s := serve(t, Config{}, Function{})
	for _, row := range []struct {
		name    string
		payload []byte
		async   bool
		code    string
	}{
		{"no payload is an empty object", nil, false, ""},
		{"a payload that is no JSON", []byte("{"), false, "InvalidRequestContentException"},
		{"more than 6 MB", []byte(`"` + strings.Repeat("x", 6<<20) + `"`), false, "RequestTooLargeException"},
		{"more than 1 MB asynchronously", []byte(`"` + strings.Repeat("x", 1<<20) + `"`), true, "RequestTooLargeException"},
	} {
		t.Run(row.name, func(t *testing.T) {
			var err error
			if row.async {
				_, err = s.InvokeAsync("worker", row.payload)
			} else {
				_, err = s.Invoke(t.Context(), "worker", row.payload)
			}
			var e *Error
			if errors.As(err, &e) != (row.code != "") || (e != nil && e.Code() != row.code) {
				t.Errorf("got %v, want %q", err, row.code)
			}
		})
	}
}
