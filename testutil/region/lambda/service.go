// Package lambda runs Lambda functions on this machine: their real bootstrap binaries, through the Lambda Runtime API.
//
// What it promises is what a caller of AWS Lambda can see: one process per concurrent invocation, reuse of a process
// after it asked for the next event, a fresh one after it died or ran out of time, and the same answers to errors,
// panics, exits and timeouts. It does not limit memory, does not freeze idle processes and checks no permissions.
package lambda

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
)

// Config says where the functions believe they are.
type Config struct {
	Region    string // default us-east-1
	AccountID string // default 123456789012

	// The credentials every function finds in its environment, as if they came from its execution role.
	AccessKeyID     string
	SecretAccessKey string
	SessionToken    string

	// InitTimeout bounds the Init phase; default 10 s (Lambda guide, "Understanding the Lambda execution
	// environment lifecycle").
	InitTimeout time.Duration
	// RetryDelays are the waits before the second and third attempt of an asynchronous invocation; default one and
	// two minutes (Lambda guide, "How Lambda handles errors and retries with asynchronous invocation").
	RetryDelays []time.Duration
}

// Function is what the service needs to know about one function.
type Function struct {
	Name      string
	ARN       string            // default: made of Config and Name
	Bootstrap string            // path of the executable
	Handler   string            // value of _HANDLER; default "bootstrap", as for the provided runtimes
	Env       map[string]string // the function's own variables; names that Lambda reserves are refused
	Timeout   time.Duration     // default 3 s, at most 15 min; fractions of a second are allowed here
	Memory    int               // MB, 128 (default) to 10240; told to the function, not enforced

	// ReservedConcurrency throttles further invocations; 0 throttles all, nil none.
	ReservedConcurrency *int
	// MaximumRetryAttempts of an asynchronous invocation; nil means 2.
	MaximumRetryAttempts *int
	// OnFailure receives an asynchronous event that failed all its attempts.
	OnFailure func(Failure)
	// Log receives everything the function writes to stdout and stderr, and Lambda's own START, END and REPORT
	// lines. Writes are serialised; nil discards them.
	Log io.Writer
}

// Result is the answer to one synchronous invocation.
type Result struct {
	Payload       []byte
	FunctionError string // empty, or "Unhandled"
	Log           string // the last 4 KB of this invocation's log
	RequestID     string
	ColdStart     bool
	Duration      time.Duration
}

// Service keeps the functions and their processes.
type Service struct {
	config  Config
	closing chan struct{}
	work    sync.WaitGroup // invocations and asynchronous events under way

	mu        sync.Mutex
	closed    bool
	functions map[string]*function // by name
}

// New makes an empty service. Its Close must be called, or processes stay behind.
func New(config Config) *Service {
	if config.Region == "" {
		config.Region = "us-east-1"
	}
	if config.AccountID == "" {
		config.AccountID = "123456789012"
	}
	if config.AccessKeyID == "" {
		config.AccessKeyID, config.SecretAccessKey, config.SessionToken = "ASIALOCAL", "local", "local"
	}
	if config.InitTimeout == 0 {
		config.InitTimeout = 10 * time.Second
	}
	if config.RetryDelays == nil {
		config.RetryDelays = []time.Duration{time.Minute, 2 * time.Minute}
	}
	return &Service{config: config, closing: make(chan struct{}), functions: map[string]*function{}}
}

// Register makes a function known. Its binary starts with the first invocation.
func (s *Service) Register(f Function) error {
	if err := f.complete(s.config); err != nil {
		return fmt.Errorf("register function %s: %w", f.Name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.functions[f.Name] != nil {
		return conflict("Function already exist: " + f.Name)
	}
	s.functions[f.Name] = &function{Function: f, config: s.config}
	return nil
}

// Invoke runs a function and waits for its answer. A function that fails is not an error of Invoke: look at
// Result.FunctionError. When ctx ends first the function keeps running, as it does on AWS when a caller hangs up.
func (s *Service) Invoke(ctx context.Context, nameOrARN string, payload []byte) (Result, error) {
	return s.invoke(ctx, nameOrARN, payload, "")
}

func (s *Service) invoke(ctx context.Context, nameOrARN string, payload []byte, clientContext string) (Result, error) {
	f, err := s.find(nameOrARN)
	if err != nil {
		return Result{}, err
	}
	payload, err = checkPayload(payload, maxSyncPayload, "InvokeFunction")
	if err != nil {
		return Result{}, err
	}
	inv := newInvocation(newID(), payload)
	inv.clientContext = clientContext
	if err := s.begin(); err != nil {
		return Result{}, err
	}
	if err := f.reserve(); err != nil {
		s.work.Done()
		return Result{}, err
	}
	done := make(chan Result, 1)
	go func() {
		defer s.work.Done()
		defer f.release()
		done <- f.execute(inv)
	}()
	select {
	case result := <-done:
		return result, nil
	case <-ctx.Done():
		return Result{}, fmt.Errorf("invoke %s: %w", f.Name, ctx.Err())
	}
}

// Close kills every process with its whole process group and waits until they are gone. Events that still wait for an
// asynchronous attempt are dropped.
func (s *Service) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.closing)
	functions := make([]*function, 0, len(s.functions))
	for _, f := range s.functions {
		functions = append(functions, f)
	}
	s.mu.Unlock()
	for _, f := range functions {
		f.close()
	}
	s.work.Wait()
	return nil
}

// begin counts one piece of work that Close must wait for.
func (s *Service) begin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return &Error{code: "ServiceException", message: "the Lambda service is closed", status: 500}
	}
	s.work.Add(1)
	return nil
}

// nameForms accepts a name, a partial ARN and a full ARN, each with an optional qualifier (Lambda API, Invoke).
var nameForms = regexp.MustCompile(`^(?:arn:aws[a-z-]*:lambda:([a-z0-9-]+):)?(?:(\d{12}):function:)?([a-zA-Z0-9_-]{1,140})(?::([a-zA-Z0-9$_-]+))?$`)

func (s *Service) find(nameOrARN string) (*function, error) {
	parts := nameForms.FindStringSubmatch(nameOrARN)
	if parts == nil {
		return nil, &Error{code: "InvalidParameterValueException", status: 400,
			message: fmt.Sprintf("Value '%s' at 'functionName' failed to satisfy constraint: not a function name or ARN", nameOrARN)}
	}
	region, account, name, qualifier := parts[1], parts[2], parts[3], parts[4]
	s.mu.Lock()
	f := s.functions[name]
	s.mu.Unlock()
	arn := fmt.Sprintf("arn:aws:lambda:%s:%s:function:%s", s.config.Region, s.config.AccountID, name)
	if f == nil || (region != "" && region != s.config.Region) || (account != "" && account != s.config.AccountID) {
		if strings.HasPrefix(nameOrARN, "arn:") {
			arn = nameOrARN
		}
		return nil, notFound("Function not found: " + arn)
	}
	if qualifier != "" && qualifier != "$LATEST" {
		return nil, notFound("Function not found: " + arn + ":" + qualifier)
	}
	return f, nil
}

// Payload quotas (Lambda guide, "Lambda quotas"). The odd hundred bytes of the response are AWS's own.
const (
	maxSyncPayload  = 6 << 20
	maxAsyncPayload = 1 << 20
	maxResponse     = 6<<20 + 100
)

func checkPayload(payload []byte, limit int, operation string) ([]byte, error) {
	if len(payload) == 0 {
		return []byte("{}"), nil
	}
	if len(payload) > limit {
		return nil, &Error{code: "RequestTooLargeException", status: 413,
			message: fmt.Sprintf("Request must be smaller than %d bytes for the %s operation", limit, operation)}
	}
	if !json.Valid(payload) {
		return nil, &Error{code: "InvalidRequestContentException", status: 400,
			message: "Could not parse request body into json: the payload is not a JSON value"}
	}
	return payload, nil
}

var (
	functionName = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`)
	variableName = regexp.MustCompile(`^[a-zA-Z]([a-zA-Z0-9_])+$`)
)

// reserved are the names a function cannot set for itself (Lambda guide, "Working with Lambda environment variables").
var reserved = map[string]bool{
	"_HANDLER": true, "_X_AMZN_TRACE_ID": true, "AWS_DEFAULT_REGION": true, "AWS_REGION": true,
	"AWS_EXECUTION_ENV": true, "AWS_LAMBDA_FUNCTION_NAME": true, "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": true,
	"AWS_LAMBDA_FUNCTION_VERSION": true, "AWS_LAMBDA_INITIALIZATION_TYPE": true, "AWS_LAMBDA_LOG_GROUP_NAME": true,
	"AWS_LAMBDA_LOG_STREAM_NAME": true, "AWS_ACCESS_KEY": true, "AWS_ACCESS_KEY_ID": true,
	"AWS_SECRET_ACCESS_KEY": true, "AWS_SESSION_TOKEN": true, "AWS_LAMBDA_RUNTIME_API": true,
	"LAMBDA_TASK_ROOT": true, "LAMBDA_RUNTIME_DIR": true, "AWS_LAMBDA_MAX_CONCURRENCY": true,
	"AWS_LAMBDA_METADATA_API": true, "AWS_LAMBDA_METADATA_TOKEN": true,
}

// complete fills the defaults and refuses what Lambda's own CreateFunction would refuse.
func (f *Function) complete(config Config) error {
	if !functionName.MatchString(f.Name) {
		return invalid("the name %q is not 1 to 64 letters, digits, hyphens or underscores", f.Name)
	}
	if f.ARN == "" {
		f.ARN = fmt.Sprintf("arn:aws:lambda:%s:%s:function:%s", config.Region, config.AccountID, f.Name)
	}
	if f.Handler == "" {
		f.Handler = "bootstrap"
	}
	if f.Timeout == 0 {
		f.Timeout = 3 * time.Second
	}
	if f.Timeout < 0 || f.Timeout > 15*time.Minute {
		return invalid("the timeout %v is not within 15 minutes", f.Timeout)
	}
	if f.Memory == 0 {
		f.Memory = 128
	}
	if f.Memory < 128 || f.Memory > 10240 {
		return invalid("the memory %d MB is not within 128 and 10240", f.Memory)
	}
	if n := f.MaximumRetryAttempts; n != nil && (*n < 0 || *n > 2) {
		return invalid("the maximum of %d retry attempts is not within 0 and 2", *n)
	}
	size := 0
	for name, value := range f.Env {
		if reserved[name] {
			return invalid("the environment variable %s is reserved by Lambda", name)
		}
		if !variableName.MatchString(name) || strings.ContainsRune(value, 0) {
			return invalid("the environment variable %q is not well formed", name)
		}
		size += len(name) + len(value)
	}
	if size > 4<<10 {
		return invalid("the environment variables have %d bytes, more than 4 KB", size)
	}
	path, err := filepath.Abs(f.Bootstrap)
	if err != nil {
		return err
	}
	f.Bootstrap = path
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return invalid("%s is not an executable file", path)
	}
	return nil
}
