package lambda

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"sync"
	"time"
)

// function is a registered function with its processes.
type function struct {
	Function
	config Config

	mu     sync.Mutex
	closed bool
	active int            // invocations under way
	idle   []*environment // wait for their next event; the youngest is used first
	all    map[*environment]bool

	logging sync.Mutex // serialises writes to Function.Log
}

func (f *function) reserve() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if limit := f.ReservedConcurrency; limit != nil && f.active >= *limit {
		return throttled()
	}
	f.active++
	return nil
}

func (f *function) release() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.active--
}

// execute runs one invocation in an idle environment, or in a new one when there is none.
func (f *function) execute(inv *invocation) Result {
	env := f.takeIdle()
	for env != nil {
		result, outcome := env.serve(inv, time.Now().Add(f.Timeout))
		switch outcome {
		case reusable:
			f.giveBack(env)
			return result
		case spent:
			f.discard(env)
			return result
		}
		f.discard(env) // it died while idle, and never saw the event
		env = f.takeIdle()
	}
	return f.executeCold(inv)
}

// executeCold starts an environment for the invocation. When its Init phase fails, Lambda repeats Init once as a part of
// the invocation, within the function's own timeout (Lambda guide, "Understanding the Lambda execution environment
// lifecycle": Init phase).
func (f *function) executeCold(inv *invocation) Result {
	env, fault := f.start(inv, "init", f.config.InitTimeout)
	deadline := time.Now().Add(f.Timeout)
	if fault != nil && fault.retry {
		env, fault = f.start(inv, "invoke", f.Timeout)
	}
	if fault != nil {
		return Result{Payload: fault.payload, FunctionError: "Unhandled", RequestID: inv.id, ColdStart: true, Log: fault.log}
	}
	result, outcome := env.serve(inv, deadline)
	result.ColdStart = true
	if outcome == reusable {
		f.giveBack(env)
		return result
	}
	f.discard(env)
	return result
}

// initFault is a failed Init phase.
type initFault struct {
	payload []byte
	log     string
	retry   bool
}

func (f *function) start(inv *invocation, phase string, limit time.Duration) (*environment, *initFault) {
	began := time.Now()
	env, err := newEnvironment(f)
	if err != nil {
		return nil, &initFault{payload: errorPayload("Runtime.InvalidEntrypoint", inv.id, err.Error())}
	}
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		env.kill()
		return nil, &initFault{payload: errorPayload("ServiceException", inv.id, "the Lambda service is closed")}
	}
	if f.all == nil {
		f.all = map[*environment]bool{}
	}
	f.all[env] = true
	f.mu.Unlock()

	timer := time.NewTimer(limit)
	defer timer.Stop()
	status, fault := "", (*initFault)(nil)
	select {
	case <-env.polls:
		return env, nil
	case body := <-env.initErrors:
		status, fault = "error", &initFault{payload: body, retry: true}
	case <-env.exited:
		// The report of an Init error and the exit that follows it may be seen in either order.
		select {
		case body := <-env.initErrors:
			status, fault = "error", &initFault{payload: body, retry: true}
		default:
			status, fault = "error\tError Type: Runtime.ExitError",
				&initFault{payload: errorPayload("Runtime.ExitError", inv.id, env.exitReason()), retry: true}
		}
	case <-timer.C:
		status, fault = "timeout", &initFault{payload: timeoutPayload(inv.id, f.Timeout), retry: true}
	}
	env.stop() // before the log ends, for it may still be writing
	fault.log = env.output.end(fmt.Sprintf("INIT_REPORT Init Duration: %s\tPhase: %s\tStatus: %s",
		milliseconds(time.Since(began)), phase, status))
	f.discard(env)
	return nil, fault
}

func (f *function) takeIdle() *environment {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.idle) == 0 {
		return nil
	}
	env := f.idle[len(f.idle)-1]
	f.idle = f.idle[:len(f.idle)-1]
	return env
}

func (f *function) giveBack(env *environment) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.idle = append(f.idle, env)
	}
}

func (f *function) discard(env *environment) {
	env.kill()
	f.mu.Lock()
	delete(f.all, env)
	f.mu.Unlock()
}

func (f *function) close() {
	f.mu.Lock()
	f.closed = true
	all := make([]*environment, 0, len(f.all))
	for env := range f.all {
		all = append(all, env)
	}
	f.idle, f.all = nil, nil
	f.mu.Unlock()
	for _, env := range all {
		env.kill()
	}
}

// logLine writes one whole line, so that lines of concurrent environments never mix.
func (f *function) logLine(line []byte) {
	if f.Log == nil {
		return
	}
	f.logging.Lock()
	defer f.logging.Unlock()
	f.Log.Write(line)
}

// invocation is one attempt to run one event.
type invocation struct {
	id            string // the event's request id, kept over retries
	attempt       string // this attempt's own id
	payload       []byte
	clientContext string
	deadline      time.Time

	once   sync.Once
	answer answer
	done   chan struct{}
}

// answer is what the runtime posted for an invocation.
type answer struct {
	payload []byte
	failed  bool
}

func newInvocation(id string, payload []byte) *invocation {
	return &invocation{id: id, attempt: newID(), payload: payload, done: make(chan struct{})}
}

// finish takes the first answer and reports whether this was it.
func (inv *invocation) finish(a answer) bool {
	first := false
	inv.once.Do(func() {
		inv.answer, first = a, true
		close(inv.done)
	})
	return first
}

// errorPayload is the body with which Lambda itself reports a failed function.
func errorPayload(errorType, requestID, message string) []byte {
	body, err := json.Marshal(struct {
		ErrorType    string `json:"errorType"`
		ErrorMessage string `json:"errorMessage"`
	}{errorType, "RequestId: " + requestID + " Error: " + message})
	if err != nil {
		panic(err) // strings always marshal
	}
	return body
}

func timeoutPayload(requestID string, timeout time.Duration) []byte {
	return errorPayload("Sandbox.Timedout", requestID, fmt.Sprintf("Task timed out after %.2f seconds", timeout.Seconds()))
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.2f ms", float64(d.Microseconds())/1000)
}

// newID makes a random UUID (RFC 9562, version 4).
func newID() string {
	b := make([]byte, 16)
	rand.Read(b)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
