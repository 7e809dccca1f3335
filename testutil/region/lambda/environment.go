package lambda

import (
	"fmt"
	"maps"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// environment is one execution environment: one process, with a Runtime API endpoint of its own.
type environment struct {
	fn     *function
	cmd    *exec.Cmd
	output *output
	server *http.Server

	polls      chan struct{}    // the runtime asked for its next event
	events     chan *invocation // hands it one
	initErrors chan []byte      // the runtime reported that it could not start
	exited     chan struct{}    // the process has ended and is reaped
	gone       chan struct{}    // nobody will use this environment any more

	once sync.Once

	mu      sync.Mutex
	current *invocation
}

func newEnvironment(f *function) (*environment, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the runtime of %s: %w", f.Name, err)
	}
	out, err := newOutput(f)
	if err != nil {
		listener.Close()
		return nil, fmt.Errorf("open the log of %s: %w", f.Name, err)
	}
	e := &environment{
		fn: f, output: out,
		polls: make(chan struct{}), events: make(chan *invocation), initErrors: make(chan []byte, 1),
		exited: make(chan struct{}), gone: make(chan struct{}),
	}
	e.server = &http.Server{Handler: e.runtimeAPI(), ReadHeaderTimeout: 10 * time.Second}
	e.cmd = &exec.Cmd{
		Path: f.Bootstrap, Args: []string{f.Bootstrap}, Dir: filepath.Dir(f.Bootstrap),
		Env:    f.environ(listener.Addr().String()),
		Stdout: out.writer, Stderr: out.writer,
		// Its own group, so that children of the function end with it.
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true},
	}
	if err := e.cmd.Start(); err != nil {
		listener.Close()
		out.close()
		return nil, err
	}
	go e.server.Serve(listener)
	go func() {
		e.cmd.Wait()
		e.killGroup() // what the function started must not outlive it
		close(e.exited)
	}()
	return e, nil
}

// environ lists the whole environment of the process; nothing of ours is inherited (Lambda guide, "Working with Lambda
// environment variables": defined runtime environment variables).
func (f *function) environ(endpoint string) []string {
	root := filepath.Dir(f.Bootstrap)
	vars := map[string]string{
		"LANG": "en_US.UTF-8", "TZ": ":UTC", "PATH": "/usr/local/bin:/usr/bin/:/bin:/opt/bin",
		"LD_LIBRARY_PATH": "/lib64:/usr/lib64:" + root + ":" + root + "/lib:/opt/lib",
	}
	maps.Copy(vars, f.Env)
	maps.Copy(vars, map[string]string{
		"_HANDLER":                        f.Handler,
		"AWS_REGION":                      f.config.Region,
		"AWS_DEFAULT_REGION":              f.config.Region,
		"AWS_ACCESS_KEY_ID":               f.config.AccessKeyID,
		"AWS_SECRET_ACCESS_KEY":           f.config.SecretAccessKey,
		"AWS_SESSION_TOKEN":               f.config.SessionToken,
		"AWS_LAMBDA_FUNCTION_NAME":        f.Name,
		"AWS_LAMBDA_FUNCTION_VERSION":     "$LATEST",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": strconv.Itoa(f.Memory),
		"AWS_LAMBDA_INITIALIZATION_TYPE":  "on-demand",
		"AWS_LAMBDA_LOG_GROUP_NAME":       "/aws/lambda/" + f.Name,
		"AWS_LAMBDA_LOG_STREAM_NAME":      time.Now().UTC().Format("2006/01/02/") + "[$LATEST]" + newID()[:8],
		"AWS_LAMBDA_RUNTIME_API":          endpoint,
		"LAMBDA_TASK_ROOT":                root,
		"LAMBDA_RUNTIME_DIR":              root,
	})
	list := make([]string, 0, len(vars))
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		list = append(list, name+"="+vars[name])
	}
	return list
}

// outcome says what became of an environment that was asked to serve.
type outcome int

const (
	reusable outcome = iota // it asked for the next event
	spent                   // it died or ran out of time, and must go
	stale                   // it was dead before it could take the event
)

// serve runs one invocation in an environment that waits for an event. It returns only when the environment has asked
// for its next event or is spent, so that a following call finds it idle.
func (e *environment) serve(inv *invocation, deadline time.Time) (Result, outcome) {
	select {
	case <-e.exited:
		return Result{}, stale
	default:
	}
	began := time.Now()
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()

	e.mu.Lock()
	e.current = inv
	e.mu.Unlock()
	inv.deadline = deadline
	e.output.begin(inv.id)
	for taken := false; !taken; {
		select {
		case e.events <- inv:
			taken = true
		case <-e.polls: // the runtime hung up and asked again
		case <-e.exited:
			return Result{}, stale
		case <-timer.C:
			return Result{}, stale
		}
	}

	status, state := "", reusable
	select {
	case <-inv.done:
		select {
		case <-e.polls:
		case <-e.exited:
			state = spent
		case <-timer.C:
			status, state = "\tStatus: timeout", spent // the answer is out, but the phase never ended
		}
	case <-e.exited:
		status, state = "\tStatus: error\tError Type: Runtime.ExitError", spent
		inv.finish(answer{payload: errorPayload("Runtime.ExitError", inv.id, e.exitReason()), failed: true})
	case <-timer.C:
		status, state = "\tStatus: timeout", spent
		inv.finish(answer{payload: timeoutPayload(inv.id, e.fn.Timeout), failed: true})
	}
	if state == spent {
		e.stop() // before the log ends, for it may still be writing
	}

	duration := time.Since(began)
	result := Result{Payload: inv.answer.payload, RequestID: inv.id, Duration: duration}
	if inv.answer.failed {
		result.FunctionError = "Unhandled"
	}
	report := fmt.Sprintf("REPORT RequestId: %s\tDuration: %s\tBilled Duration: %d ms\tMemory Size: %d MB%s",
		inv.id, milliseconds(duration), duration.Milliseconds()+1, e.fn.Memory, status)
	result.Log = e.output.end("END RequestId: "+inv.id, report)
	return result, state
}

// stop ends the process with all its children and waits until it is reaped.
func (e *environment) stop() {
	select {
	case <-e.exited: // its id may belong to somebody else by now
	default:
		e.killGroup()
		<-e.exited
	}
}

func (e *environment) killGroup() {
	// An error says that nobody is left in the group, and that is as good.
	syscall.Kill(-e.cmd.Process.Pid, syscall.SIGKILL)
}

// kill stops the environment for good and frees what it holds.
func (e *environment) kill() {
	e.once.Do(func() {
		close(e.gone)
		e.stop()
		e.server.Close()
		e.output.close()
	})
}

// exitReason words the end of the process as Lambda does.
func (e *environment) exitReason() string {
	state := e.cmd.ProcessState
	if state == nil || state.Success() {
		return "Runtime exited without providing a reason"
	}
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return "Runtime exited with error: signal: " + status.Signal().String()
	}
	return "Runtime exited with error: exit status " + strconv.Itoa(state.ExitCode())
}
