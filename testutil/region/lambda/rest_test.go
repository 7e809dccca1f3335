package lambda

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func post(t *testing.T, base, path, payload string, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "POST", base+path, strings.NewReader(payload))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(body)
}

func TestInvokeOverHTTP(t *testing.T) {
	server := httptest.NewServer(serve(t, Config{}, Function{}))
	defer server.Close()
	arn := url.PathEscape("arn:aws:lambda:us-east-1:123456789012:function:worker")
	for _, row := range []struct {
		name, path, payload string
		header              []string
		status              int
		code, functionError string
		body                string
	}{
		{"an answer", "/2015-03-31/functions/worker/invocations", `{"do":"echo"}`, nil, 200, "", "", `{"do":"echo"}`},
		{"an ARN with escaped colons", "/2015-03-31/functions/" + arn + "/invocations", `{"do":"echo"}`, nil, 200, "", "", `{"do":"echo"}`},
		{"a function error is no HTTP error", "/2015-03-31/functions/worker/invocations", `{"do":"plain error","text":"no"}`, nil, 200, "", "Unhandled", `{"errorMessage":"no","errorType":"errorString"}`},
		{"an unknown function", "/2015-03-31/functions/nobody/invocations", `{}`, nil, 404, "ResourceNotFoundException", "", `{"Message":"Function not found: arn:aws:lambda:us-east-1:123456789012:function:nobody","Type":"User"}` + "\n"},
		{"an unknown qualifier", "/2015-03-31/functions/worker/invocations?Qualifier=live", `{}`, nil, 404, "ResourceNotFoundException", "", `{"Message":"Function not found: arn:aws:lambda:us-east-1:123456789012:function:worker:live","Type":"User"}` + "\n"},
		{"a dry run runs nothing", "/2015-03-31/functions/worker/invocations", `{}`, []string{"X-Amz-Invocation-Type", "DryRun"}, 204, "", "", ""},
		{"an unknown kind", "/2015-03-31/functions/worker/invocations", `{}`, []string{"X-Amz-Invocation-Type", "Later"}, 400, "InvalidParameterValueException", "", ""},
		{"no JSON", "/2015-03-31/functions/worker/invocations", `{`, nil, 400, "InvalidRequestContentException", "", ""},
		{"another operation", "/2015-03-31/functions/worker/code", `{}`, nil, 404, "UnknownOperationException", "", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			response, body := post(t, server.URL, row.path, row.payload, row.header...)
			if response.StatusCode != row.status || response.Header.Get("X-Amzn-Errortype") != row.code ||
				response.Header.Get("X-Amz-Function-Error") != row.functionError {
				t.Errorf("got %d %v %s", response.StatusCode, response.Header, body)
			}
			if row.body != "" && body != row.body {
				t.Errorf("got %s\nwant %s", body, row.body)
			}
			if row.status == 200 && response.Header.Get("X-Amz-Executed-Version") != "$LATEST" {
				t.Error("the version is missing")
			}
			if response.Header.Get("X-Amzn-Requestid") == "" {
				t.Error("the request id is missing")
			}
		})
	}
}

func TestTheLogTailAndClientContextOverHTTP(t *testing.T) {
	server := httptest.NewServer(serve(t, Config{}, Function{}))
	defer server.Close()
	response, _ := post(t, server.URL, "/2015-03-31/functions/worker/invocations", `{"do":"log","text":"seen"}`, "X-Amz-Log-Type", "Tail")
	log, err := base64.StdEncoding.DecodeString(response.Header.Get("X-Amz-Log-Result"))
	if err != nil || !strings.Contains(string(log), "on stdout: seen") {
		t.Errorf("the tail is %q, %v", log, err)
	}
	_, body := post(t, server.URL, "/2015-03-31/functions/worker/invocations", `{"do":"context"}`,
		"X-Amz-Client-Context", base64.StdEncoding.EncodeToString([]byte(`{"env":{"locale":"de"}}`)))
	if !strings.Contains(body, `"env":{"locale":"de"}`) {
		t.Errorf("the client context did not arrive: %s", body)
	}
}

func TestAsynchronousEventsAreRetriedTwice(t *testing.T) {
	for _, row := range []struct {
		name     string
		succeeds int // at which attempt
		attempts int
		fails    bool
	}{
		{"the third attempt succeeds", 3, 3, false},
		{"the third attempt fails too", 9, 3, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			failures := make(chan Failure, 1)
			s := serve(t, Config{RetryDelays: []time.Duration{5 * time.Millisecond, 5 * time.Millisecond}},
				Function{OnFailure: func(f Failure) { failures <- f }})
			server := httptest.NewServer(s)
			defer server.Close()
			attempts := filepath.Join(t.TempDir(), "attempts")
			payload := fmt.Sprintf(`{"do":"fail until","number":%d,"file":%q}`, row.succeeds, attempts)
			response, body := post(t, server.URL, "/2015-03-31/functions/worker/invocations", payload, "X-Amz-Invocation-Type", "Event")
			if response.StatusCode != 202 || body != "" {
				t.Fatalf("got %d %q", response.StatusCode, body)
			}
			s.work.Wait() // the event's own goroutine
			data, err := os.ReadFile(attempts)
			if err != nil {
				t.Fatal(err)
			}
			id := response.Header.Get("X-Amzn-Requestid")
			if string(data) != strings.Repeat(id+"\n", row.attempts) {
				t.Errorf("the attempts had the request ids\n%s\nwant %d times %s", data, row.attempts, id)
			}
			select {
			case f := <-failures:
				if !row.fails {
					t.Fatalf("a success was reported as %+v", f)
				}
				record, err := json.Marshal(f)
				if err != nil {
					t.Fatal(err)
				}
				for _, want := range []string{
					`"version":"1.0"`, `"requestId":"` + id + `"`, `"condition":"RetriesExhausted"`, `"approximateInvokeCount":3`,
					`"functionArn":"arn:aws:lambda:us-east-1:123456789012:function:worker:$LATEST"`, `"requestPayload":` + payload,
					`"responseContext":{"statusCode":200,"executedVersion":"$LATEST","functionError":"Unhandled"}`,
					`"responsePayload":{"errorMessage":"attempt 3 fails","errorType":"errorString"}`,
				} {
					if !strings.Contains(string(record), want) {
						t.Errorf("the record lacks %s:\n%s", want, record)
					}
				}
			default:
				if row.fails {
					t.Error("nobody was told of the failure")
				}
			}
		})
	}
}

func TestAnAsynchronousEventForAFunctionWithoutConcurrencyIsGivenUpAtOnce(t *testing.T) {
	none := 0
	failures := make(chan Failure, 1)
	s := serve(t, Config{}, Function{ReservedConcurrency: &none, OnFailure: func(f Failure) { failures <- f }})
	if _, err := s.InvokeAsync("worker", nil); err != nil {
		t.Fatal(err)
	}
	if f := <-failures; f.RequestContext.Condition != "ZeroReservedConcurrency" || f.ResponseContext != nil {
		t.Errorf("got %+v", f)
	}
}
