package region

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"flashtap/testutil/region/ec2"
	"flashtap/testutil/region/model"
)

// Call is one request as it was answered.
type Call struct {
	At        time.Time
	Service   string // as it signs: ec2, s3, scheduler, states, sqs, events, lambda
	Operation string
	Principal string // who called, as Environ named it
	Params    map[string]any
	Code      string // the error's code; "" for success
}

// Fault is how a call goes wrong.
type Fault struct {
	Code    string        // AWS's error code; "" with LoseAnswer or Latency alone
	Message string        // default: a sentence about fault injection
	Status  int           // HTTP; default 400, and 503 for throttles
	Latency time.Duration // before anything else
	// Drop closes the connection without an answer. With After, the call takes effect first: the answer is lost.
	Drop  bool
	After bool
}

// record keeps calls, violations and faults.
type record struct {
	mu         sync.Mutex
	calls      []Call
	violations []error
	fault      func(Call) *Fault
}

// Calls lists every request so far.
func (r *Region) Calls() []Call {
	r.record.mu.Lock()
	defer r.record.mu.Unlock()
	return slices.Clone(r.record.calls)
}

// Violations lists every request that left AWS's service model; a test that sees any should fail.
func (r *Region) Violations() []error {
	r.record.mu.Lock()
	defer r.record.mu.Unlock()
	return slices.Clone(r.record.violations)
}

// Inject has every call from now on judged by fault; nil ends it. The fault function must be quick and safe for
// concurrent use.
func (r *Region) Inject(fault func(Call) *Fault) {
	r.record.mu.Lock()
	defer r.record.mu.Unlock()
	r.record.fault = fault
}

func (r *record) add(c Call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, c)
}

func (r *record) violation(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.violations = append(r.violations, err)
}

func (r *record) faultFor(c Call) *Fault {
	r.mu.Lock()
	fault := r.fault
	r.mu.Unlock()
	if fault == nil {
		return nil
	}
	return fault(c)
}

var (
	scope = regexp.MustCompile(`Credential=[^/]+/\d{8}/([^/]+)/([^/]+)/aws4_request`)
	appID = regexp.MustCompile(`\bapp/(\S+)`)
)

// handler answers a decoded call.
type handler func(call *model.Call, principal string) (map[string]any, error)

// coded is what a service's errors say of themselves.
type coded interface {
	error
	Code() string
	Message() string
	Status() int
}

func (r *Region) handlers(service string) handler {
	switch service {
	case "ec2":
		return r.EC2.Handle
	case "scheduler":
		return func(c *model.Call, _ string) (map[string]any, error) {
			return r.Schedules.Handle(c.Operation, c.Params)
		}
	case "sqs":
		return func(c *model.Call, _ string) (map[string]any, error) { return r.Queues.Handle(c.Operation, c.Params) }
	case "states":
		return func(c *model.Call, _ string) (map[string]any, error) {
			return r.machines.handle(c.Operation, c.Params)
		}
	case "events":
		return func(c *model.Call, _ string) (map[string]any, error) { return r.bus.handle(c.Operation, c.Params) }
	case "sts":
		return func(*model.Call, string) (map[string]any, error) {
			return map[string]any{"Account": r.cfg.Account, "Arn": "arn:aws:iam::" + r.cfg.Account + ":root", "UserId": r.cfg.Account}, nil
		}
	}
	return nil
}

// ServeHTTP takes a request to the service that its signature names. S3's are passed on to the S3 server as they
// came, signature and all; it checks that itself.
func (r *Region) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	m := scope.FindStringSubmatch(req.Header.Get("Authorization"))
	if m == nil {
		http.Error(w, "the local region serves signed AWS requests; this one has no AWS4 signature", http.StatusForbidden)
		return
	}
	call := Call{At: time.Now(), Service: m[2]}
	if app := appID.FindStringSubmatch(req.UserAgent()); app != nil {
		call.Principal = app[1]
	}
	if call.Service == "s3" {
		r.serveS3(w, req, call)
		return
	}
	body, err := io.ReadAll(io.LimitReader(req.Body, 2<<20))
	if err != nil {
		return // the client is gone
	}
	service, err := model.Load(call.Service)
	if err != nil {
		r.record.violation(fmt.Errorf("the local region does not serve %s: %s %s", call.Service, req.Method, req.URL))
		http.Error(w, "the local region does not serve "+call.Service, http.StatusNotImplemented)
		return
	}
	service = service.For(req)
	id := requestID()
	decoded, err := service.Decode(req, body)
	if err != nil {
		r.refuse(w, service, call, id, err)
		return
	}
	call.Operation, call.Params = decoded.Operation, decoded.Params
	fault := r.record.faultFor(call)
	if r.spoil(w, service, &call, id, fault, false) {
		return
	}
	if call.Service == "lambda" {
		req.Body = io.NopCloser(bytes.NewReader(body))
		r.record.add(call)
		r.Lambda.ServeHTTP(w, req)
		return
	}
	handle := r.handlers(call.Service)
	if handle == nil {
		r.record.violation(fmt.Errorf("the local region does not serve %s.%s", call.Service, call.Operation))
		http.Error(w, "the local region does not serve "+call.Service, http.StatusNotImplemented)
		return
	}
	result, err := handle(decoded, call.Principal)
	if r.spoil(w, service, &call, id, fault, true) {
		return
	}
	if err != nil {
		r.refuse(w, service, call, id, err)
		return
	}
	answer, err := service.Encode(call.Operation, result, id)
	if err != nil {
		r.refuse(w, service, call, id, fmt.Errorf("encode the answer: %w", err))
		return
	}
	r.record.add(call)
	r.send(w, answer)
}

// refuse answers with an error. One that has no code is the local region's own fault, and counts as a violation.
func (r *Region) refuse(w http.ResponseWriter, service *model.Service, call Call, id string, err error) {
	var violation *model.Violation
	var refused *ec2.APIError
	var c coded
	switch {
	case errors.As(err, &violation):
		r.record.violation(fmt.Errorf("%s: %w", call.Principal, err))
		call.Code = violation.Code()
		r.send(w, service.EncodeError(violation.Code(), violation.Error(), id, http.StatusBadRequest))
	case errors.As(err, &refused):
		call.Code = refused.Code
		r.send(w, service.EncodeError(refused.Code, refused.Message, id, refused.Status))
	case errors.As(err, &c):
		call.Code = c.Code()
		r.send(w, service.EncodeError(c.Code(), c.Message(), id, c.Status()))
	default:
		r.record.violation(fmt.Errorf("%s.%s: %w", call.Service, call.Operation, err))
		call.Code = "InternalError"
		r.send(w, service.EncodeError("InternalError", err.Error(), id, http.StatusInternalServerError))
	}
	r.record.add(call)
}

func (r *Region) send(w http.ResponseWriter, answer model.Answer) {
	if err := answer.Send(w); err != nil {
		r.log.Debug("client left", "err", err)
	}
}

// spoil carries out the part of a fault that belongs before or after the effect, and says whether that was the answer.
func (r *Region) spoil(w http.ResponseWriter, service *model.Service, call *Call, id string, fault *Fault, after bool) bool {
	if fault == nil {
		return false
	}
	if !after && fault.Latency > 0 {
		time.Sleep(fault.Latency)
	}
	if fault.After != after || fault.Code == "" && !fault.Drop {
		return false
	}
	if fault.Drop {
		call.Code = "(connection dropped)"
		r.record.add(*call)
		drop(w)
		return true
	}
	call.Code = fault.Code
	r.record.add(*call)
	r.send(w, service.EncodeError(fault.Code, fault.message(), id, fault.status()))
	return true
}

func (f *Fault) message() string {
	if f.Message != "" {
		return f.Message
	}
	return "injected by the test"
}

func (f *Fault) status() int {
	switch {
	case f.Status != 0:
		return f.Status
	case slices.Contains([]string{"RequestLimitExceeded", "SlowDown", "ServiceUnavailable", "Throttling"}, f.Code):
		return http.StatusServiceUnavailable
	}
	return http.StatusBadRequest
}

// drop closes the connection without a word.
func drop(w http.ResponseWriter) {
	if h, ok := w.(http.Hijacker); ok {
		if conn, _, err := h.Hijack(); err == nil {
			conn.Close()
			return
		}
	}
	panic(http.ErrAbortHandler)
}

// serveS3 checks the request against the model, then lets the S3 server answer.
func (r *Region) serveS3(w http.ResponseWriter, req *http.Request, call Call) {
	service := model.MustLoad("s3")
	if !(req.Method == http.MethodPut && strings.Count(strings.Trim(req.URL.Path, "/"), "/") == 0) { // CreateBucket is the deployment's
		decoded, err := service.Decode(req, nil)
		if err != nil {
			r.refuse(w, service, call, requestID(), err)
			return
		}
		call.Operation, call.Params = decoded.Operation, decoded.Params
	}
	fault := r.record.faultFor(call)
	id := requestID()
	if r.spoil(w, service, &call, id, fault, false) {
		return
	}
	target, err := url.Parse(r.S3.Endpoint())
	if err != nil {
		r.refuse(w, service, call, id, err)
		return
	}
	lose := fault != nil && fault.After
	proxy := httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(target)
			p.Out.Host = p.In.Host // it is signed
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { drop(w) }, // a server that is not there
		ModifyResponse: func(resp *http.Response) error {
			if resp.StatusCode >= http.StatusBadRequest {
				call.Code = resp.Status
			}
			if lose {
				return errLost
			}
			return nil
		},
	}
	proxy.ServeHTTP(w, req)
	r.record.add(call)
}

var errLost = errors.New("the answer is lost")
