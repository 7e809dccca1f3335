package region

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
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
	Service   string // as it signs: ec2, s3, scheduler, states, sqs, events, lambda, kms, monitoring, servicequotas, iam
	Operation string
	Principal string // who called, as Environ named it
	Instance  string // id, when it was called with the credentials of an instance's role
	Source    string // ARN of what a service makes one of Errands for; "" in Calls
	Params    map[string]any
	Code      string // the error's code, or Dropped or Unreachable; "" for success
	// Facts are what EC2 knew, before the call, of the resources that it names.
	Facts ec2.Facts
}

// Codes of calls that got no answer.
const (
	Dropped     = "(connection dropped)"
	Unreachable = "(server unreachable)" // the S3 server is stopped
)

// Fault is how a call goes wrong.
type Fault struct {
	Code    string        // AWS's error code; "" with Drop or Latency alone
	Message string        // default: a sentence about fault injection
	Status  int           // HTTP; default 503 for throttles, else what the service's model gives the code, else 400
	Latency time.Duration // before anything else
	// Drop closes the connection without an answer.
	Drop bool
	// After lets the call take effect before it goes wrong: its answer is lost.
	After bool
}

// record keeps calls, violations and faults.
type record struct {
	mu         sync.Mutex
	calls      []Call
	errands    []Call
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
	scope = regexp.MustCompile(`Credential=([^/]+)/\d{8}/([^/]+)/([^/]+)/aws4_request`)
	appID = regexp.MustCompile(`\bapp/(\S+)`)
)

// coded is what a service's errors say of themselves.
type coded interface {
	error
	Code() string
	Message() string
	Status() int
}

// handle carries out a call on the service that it names.
func (r *Region) handle(ctx context.Context, service string, c *model.Call, principal string) (map[string]any, error) {
	switch service {
	case "ec2":
		return r.EC2.Handle(c, principal)
	case "scheduler":
		return r.Schedules.Handle(c.Operation, c.Params)
	case "sqs":
		return r.Queues.HandleContext(ctx, c.Operation, c.Params)
	case "states":
		return r.machines.handle(c.Operation, c.Params)
	case "events":
		return r.bus.handle(c.Operation, c.Params)
	case "kms":
		return r.KMS.Handle(c.Operation, c.Params)
	case "servicequotas":
		return r.Quotas.Handle(c.Operation, c.Params)
	case "iam":
		return r.IAM.Handle(c.Operation, c.Params)
	case "monitoring":
		return r.Metrics.Handle(c.Operation, c.Params)
	case "sns":
		return r.publish(c.Params)
	case "sts":
		return map[string]any{"Account": r.cfg.Account, "Arn": "arn:aws:iam::" + r.cfg.Account + ":root", "UserId": r.cfg.Account}, nil
	}
	return nil, fmt.Errorf("the local region does not serve %s.%s", service, c.Operation)
}

// maxBody is more than any of the services takes: Lambda's payload of 6 MB is the largest (Lambda guide, "Lambda quotas").
const maxBody = 8 << 20

// ServeHTTP takes a request to the service that its signature names. S3's are passed on to the S3 server as they
// came, signature and all; it checks that itself. Of other signatures only the Region is checked.
func (r *Region) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.underWay.Add(1)
	defer r.underWay.Add(-1)
	m := scope.FindStringSubmatch(req.Header.Get("Authorization"))
	if m == nil {
		r.turnAway(w, http.StatusForbidden, "the local region serves requests with an AWS4 signature in their header, not %s %s", req.Method, req.URL.Path)
		return
	}
	key, regionName := m[1], m[2]
	call := Call{At: time.Now(), Service: m[3]}
	if app := appID.FindStringSubmatch(req.UserAgent()); app != nil {
		call.Principal, call.Instance, _ = strings.Cut(app[1], onInstance)
	}
	if call.Service == "s3" {
		r.serveS3(w, req, call, key)
		return
	}
	body, err := io.ReadAll(io.LimitReader(req.Body, maxBody+1))
	if err != nil {
		return // the client is gone
	}
	service, err := model.Load(call.Service)
	if err != nil {
		r.turnAway(w, http.StatusNotImplemented, "the local region does not serve %s: %s %s", call.Service, req.Method, req.URL.Path)
		return
	}
	if len(body) > maxBody {
		r.turnAway(w, http.StatusRequestEntityTooLarge, "the local region takes no body of more than %d bytes: %s %s", maxBody, req.Method, req.URL.Path)
		return
	}
	service = service.For(req)
	id := requestID()
	if !r.isSignedFor(call.Service, regionName) {
		r.refuse(w, service, call, id, foreignScope(regionName, service))
		return
	}
	decoded, err := service.Decode(req, body)
	if err != nil {
		r.refuse(w, service, call, id, err)
		return
	}
	call.Operation, call.Params = decoded.Operation, decoded.Params
	fault := r.record.faultFor(call)
	r.delay(fault)
	call.Facts = r.facts(call.Service, decoded)
	if fault.before() {
		r.spoil(w, service, call, id, fault)
		return
	}
	answer, err := r.answer(req, body, service, &call, decoded, id)
	switch {
	case fault.after():
		r.spoil(w, service, call, id, fault)
	case errors.Is(err, context.Canceled): // the client hung up
		call.Code = Dropped
		r.record.add(call)
	case err != nil:
		r.refuse(w, service, call, id, err)
	default:
		r.record.add(call)
		r.send(w, answer)
	}
}

// answer carries a call out and encodes its result.
func (r *Region) answer(req *http.Request, body []byte, service *model.Service, call *Call, decoded *model.Call, id string) (model.Answer, error) {
	if call.Service == "lambda" { // speaks HTTP itself
		req.Body = io.NopCloser(bytes.NewReader(body))
		written := &answerWriter{Answer: model.Answer{Status: http.StatusOK, Header: http.Header{}}}
		r.Lambda.ServeHTTP(written, req)
		if written.Status >= http.StatusBadRequest {
			call.Code = written.Answer.Header.Get("X-Amzn-Errortype")
		}
		return written.Answer, nil
	}
	result, err := r.handle(req.Context(), call.Service, decoded, call.Principal)
	if err != nil {
		return model.Answer{}, err
	}
	answer, err := service.Encode(call.Operation, result, id)
	if err != nil {
		return model.Answer{}, fmt.Errorf("encode the answer: %w", err)
	}
	return answer, nil
}

// answerWriter keeps an answer until it is known whether it will be lost.
type answerWriter struct{ model.Answer }

func (a *answerWriter) Header() http.Header    { return a.Answer.Header }
func (a *answerWriter) WriteHeader(status int) { a.Status = status }
func (a *answerWriter) Write(p []byte) (int, error) {
	a.Body = append(a.Body, p...)
	return len(p), nil
}

// foreignScope is the error for a signature of another Region, which counts as a violation: the client is set up
// wrong (IAM User Guide, "Troubleshoot AWS Signature Version 4").
func foreignScope(name string, service *model.Service) error {
	return &model.Violation{Kind: model.InvalidValue, Service: service.Name, Path: "Authorization",
		Reason: "the credential is scoped to the Region " + name + ", which this is not"}
}

// isSignedFor says whether a service takes requests that are signed for this Region. IAM has one Region for a partition (IAM User
// Guide, "Elements of an AWS API request signature"; General Reference, "IAM endpoints"), and the SDK signs for it; but for
// the client's own where it is told another endpoint, as it is here.
func (r *Region) isSignedFor(service, name string) bool {
	return name == r.cfg.Name || service == "iam" && name == "us-east-1"
}

// turnAway answers a request that no service can be asked about.
func (r *Region) turnAway(w http.ResponseWriter, status int, format string, args ...any) {
	err := fmt.Errorf(format, args...)
	r.record.violation(err)
	http.Error(w, err.Error(), status)
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

// delay waits as long as a fault wants, also when the client has gone meanwhile: the call takes effect all the same.
func (r *Region) delay(f *Fault) {
	if f == nil || f.Latency <= 0 {
		return
	}
	timer := time.NewTimer(f.Latency)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.ctx.Done():
	}
}

func (f *Fault) spoils() bool { return f != nil && (f.Code != "" || f.Drop) }
func (f *Fault) before() bool { return f.spoils() && !f.After }
func (f *Fault) after() bool  { return f.spoils() && f.After }

// spoil answers as a fault wants, or not at all.
func (r *Region) spoil(w http.ResponseWriter, service *model.Service, call Call, id string, fault *Fault) {
	if fault.Drop {
		call.Code = Dropped
		r.record.add(call)
		drop(w)
		return
	}
	call.Code = fault.Code
	r.record.add(call)
	r.send(w, service.EncodeError(fault.Code, fault.message(), id, fault.status()))
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
	return 0
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
func (r *Region) serveS3(w http.ResponseWriter, req *http.Request, call Call, key string) {
	service := model.MustLoad("s3")
	id := requestID()
	if known, _ := r.S3.Credentials(); key != known { // the server has its own word for this
		const message = "The AWS Access Key Id you provided does not exist in our records."
		r.refuse(w, service, call, id, fault{"InvalidAccessKeyId", message, http.StatusForbidden})
		return
	}
	if !createsBucket(req) {
		body, err := settingOf(req)
		if err != nil {
			r.refuse(w, service, call, id, err)
			return
		}
		decoded, err := service.Decode(req, body)
		if err != nil {
			r.refuse(w, service, call, id, err)
			return
		}
		call.Operation, call.Params = decoded.Operation, decoded.Params
	}
	fault := r.record.faultFor(call)
	r.delay(fault)
	if fault.before() {
		r.spoil(w, service, call, id, fault)
		return
	}
	target, err := url.Parse(r.S3.Endpoint())
	if err != nil {
		r.refuse(w, service, call, id, err)
		return
	}
	proxy := httputil.ReverseProxy{
		Transport: r.toS3,
		ErrorLog:  slog.NewLogLogger(r.log.Handler(), slog.LevelDebug),
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(target)
			p.Out.Host = p.In.Host // it is signed
		},
		ModifyResponse: func(resp *http.Response) error {
			if fault.after() {
				return errSpoiled
			}
			call.Code = s3Code(resp)
			r.record.add(call) // before the client knows
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			if errors.Is(err, errSpoiled) {
				r.spoil(w, service, call, id, fault)
				return
			}
			call.Code = Unreachable
			if req.Context().Err() != nil {
				call.Code = Dropped // by the client itself
			}
			r.record.add(call)
			drop(w)
		},
	}
	proxy.ServeHTTP(w, req)
}

// settingOf reads the body of a request that sets something about an object, and leaves it to be read again. The objects
// themselves go through unread.
func settingOf(req *http.Request) ([]byte, error) {
	query := req.URL.Query()
	if req.Method != http.MethodPut || !query.Has("legal-hold") && !query.Has("retention") {
		return nil, nil
	}
	const most = 64 << 10
	body, err := io.ReadAll(io.LimitReader(req.Body, most))
	if err != nil {
		return nil, err
	}
	req.Body = io.NopCloser(bytes.NewReader(body))
	return body, nil
}

var errSpoiled = errors.New("the answer is lost")

// createsBucket recognises CreateBucket, which whoever deploys calls, and which is not in the model's excerpt.
func createsBucket(req *http.Request) bool {
	name := strings.Trim(req.URL.Path, "/")
	query := req.URL.Query()
	query.Del("x-id")
	return req.Method == http.MethodPut && name != "" && !strings.Contains(name, "/") && len(query) == 0
}

// s3Code is the error code in an answer of S3, "" when it is no error. An answer to HEAD has no body to say it; there
// it is what the SDKs make of the status.
func s3Code(resp *http.Response) string {
	if resp.StatusCode < http.StatusMultipleChoices {
		return ""
	}
	const enough = 64 << 10
	start, err := io.ReadAll(io.LimitReader(resp.Body, enough))
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(start), resp.Body), resp.Body}
	var said struct{ Code string }
	if err != nil || xml.Unmarshal(start, &said) != nil || said.Code == "" {
		return strings.ReplaceAll(http.StatusText(resp.StatusCode), " ", "")
	}
	return said.Code
}
