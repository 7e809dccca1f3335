package region_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/smithy-go"

	"flashtap/testutil/region"
	regionlambda "flashtap/testutil/region/lambda"
)

// functionVariable makes the test program the bootstrap of a function.
const functionVariable = "REGION_TEST_FUNCTION"

func TestMain(m *testing.M) {
	if os.Getenv(functionVariable) != "" {
		lambda.Start(function)
		return
	}
	os.Exit(m.Run())
}

// notReady is an error with a name, as a state machine catches it.
type notReady struct{ What string }

func (e notReady) Error() string { return e.What + " is not ready" }

// function does what its event asks. What comes from a queue asks in the messages' bodies, by events' details.
func function(_ context.Context, raw json.RawMessage) (any, error) {
	var e struct {
		Do, File string
		Records  []struct{ MessageID, Body string }
	}
	if err := json.Unmarshal(raw, &e); err != nil {
		return nil, err
	}
	if e.Records != nil {
		return batch(e.Records)
	}
	switch e.Do {
	case "fail":
		var err error
		if e.File != "" {
			err = appendLine(e.File, "failed")
		}
		return nil, cmp.Or[error](err, notReady{"the mirror"})
	case "sleep":
		time.Sleep(500 * time.Millisecond)
	case "note":
		part := e.File + ".part" // who sees the file sees all of it
		if err := errors.Join(os.WriteFile(part, raw, 0o644), os.Rename(part, e.File)); err != nil {
			return nil, err
		}
	}
	return map[string]json.RawMessage{"got": raw}, nil
}

// batch notes the messages in a file and returns those that ask for it as failed.
func batch(records []struct{ MessageID, Body string }) (any, error) {
	type item struct {
		ItemIdentifier string `json:"itemIdentifier"`
	}
	failed := []item{}
	for _, r := range records {
		var event struct {
			Detail struct{ File, Text, Fail string }
		}
		if err := json.Unmarshal([]byte(r.Body), &event); err != nil {
			return nil, err
		}
		d := event.Detail
		if err := appendLine(d.File, d.Text); err != nil {
			return nil, err
		}
		if _, err := os.Stat(d.Fail); d.Fail != "" && errors.Is(err, os.ErrNotExist) {
			// Fails the first time only.
			if err := os.WriteFile(d.Fail, nil, 0o644); err != nil {
				return nil, err
			}
			failed = append(failed, item{r.MessageID})
		}
	}
	return map[string]any{"batchItemFailures": failed}, nil
}

func appendLine(name, text string) error {
	file, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(file, text)
	return errors.Join(err, file.Close())
}

// start runs a Region for one test. At its end nothing may have left AWS's service model, but for what the test takes
// with violations.
func start(t *testing.T, cfg region.Config) *region.Region {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	log := &lockedBuffer{}
	cfg.Log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	r, err := region.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if got, want := len(r.Violations()), expected(t); got != want {
			t.Errorf("%d violations, not %d: %v", got, want, r.Violations())
		}
		if t.Failed() {
			t.Logf("log of the region:\n%s", log)
		}
	})
	return r
}

var expectations sync.Map // of violations, by test

func expected(t *testing.T) int {
	n, _ := expectations.Load(t.Name())
	count, _ := n.(int)
	return count
}

// violations returns what left the model since the test began, and says that so much was meant to.
func violations(t *testing.T, r *region.Region, n int) []error {
	t.Helper()
	expectations.Store(t.Name(), n)
	list := r.Violations()
	if len(list) != n {
		t.Fatalf("%d violations, not %d: %v", len(list), n, list)
	}
	return list
}

type lockedBuffer struct {
	mu   sync.Mutex
	data bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.String()
}

// client is the SDK's configuration that points at a Region, without retries.
func client(r *region.Region, principal string) aws.Config {
	env := r.Environ(principal)
	return aws.Config{
		Region: env["AWS_REGION"], BaseEndpoint: aws.String(env["AWS_ENDPOINT_URL"]), AppID: principal, RetryMaxAttempts: 1,
		HTTPClient:  region.HTTPClient(),
		Credentials: credentials.NewStaticCredentialsProvider(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], ""),
	}
}

// register adds the test function under a name.
func register(t *testing.T, r *region.Region, name string) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	err = r.Lambda.Register(regionlambda.Function{
		Name: name, Bootstrap: program, Env: map[string]string{functionVariable: "1", "DIR": r.Dir()}, Timeout: 30 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
}

// code is the error code that a caller of the SDK sees; "" for another error, "none" for none.
func code(err error) string {
	var api smithy.APIError
	switch {
	case err == nil:
		return "none"
	case errors.As(err, &api):
		return api.ErrorCode()
	}
	return ""
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if fmt.Sprintf("%#v", got) != fmt.Sprintf("%#v", want) {
		t.Errorf("%s: %#v, not %#v", what, got, want)
	}
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(40 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// calls are the calls of one operation, as "principal operation code".
func calls(r *region.Region, operation string) []string {
	var list []string
	for _, c := range r.Calls() {
		if c.Operation == operation {
			list = append(list, strings.TrimSpace(c.Principal+" "+c.Operation+" "+c.Code))
		}
	}
	return list
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}
