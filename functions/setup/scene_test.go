package main

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-lambda-go/cfn"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
)

const (
	stackID   = "arn:aws:cloudformation:eu-central-1:111122223333:stack/flashtap-test-control/0a1b2c3d"
	actionArn = "arn:aws:securityhub:eu-central-1:111122223333:action/custom/FlashtapTest"
)

// cloudFormation is the place to which custom resources answer: a URL that takes one PUT for each request.
type cloudFormation struct {
	*httptest.Server
	t       *testing.T
	mu      sync.Mutex
	status  int // of its answers; 0: 200
	answers []cfn.Response
	size    int // of the last answer
}

func newCloudFormation(t *testing.T) *cloudFormation {
	c := &cloudFormation{t: t}
	c.Server = httptest.NewServer(http.HandlerFunc(c.take))
	t.Cleanup(c.Close)
	return c
}

func (c *cloudFormation) take(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var answer cfn.Response
	if err == nil {
		err = json.Unmarshal(body, &answer)
	}
	// The URL is presigned for a PUT without a content type (CloudFormation User Guide, "Custom resource request objects").
	if err != nil || r.Method != http.MethodPut || r.Header.Get("Content-Type") != "" {
		c.t.Errorf("answer by %s, type %q: %v", r.Method, r.Header.Get("Content-Type"), err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers = append(c.answers, answer)
	c.size = len(body)
	if c.status != 0 {
		w.WriteHeader(c.status)
	}
}

// ask has the function answer a request, as Lambda would, and returns the only answer that CloudFormation got.
func (c *cloudFormation) ask(ctx context.Context, work cfn.CustomResourceFunction, event cfn.Event) cfn.Response {
	c.t.Helper()
	event.RequestID, event.StackID, event.ResponseURL = "request-1", stackID, c.URL
	if event.LogicalResourceID == "" {
		event.LogicalResourceID = "Thing"
	}
	c.answers = nil
	if _, err := cfn.LambdaWrap(inTime(work))(ctx, event); err != nil {
		c.t.Fatalf("%s: %v", event.RequestType, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.answers) != 1 {
		c.t.Fatalf("%s: %d answers", event.RequestType, len(c.answers))
	}
	a := c.answers[0]
	if a.RequestID != event.RequestID || a.StackID != stackID || a.LogicalResourceID != event.LogicalResourceID || a.PhysicalResourceID == "" {
		c.t.Errorf("%s: CloudFormation could not place the answer %+v", event.RequestType, a)
	}
	return a
}

// securityHub speaks as much of the service's REST API as custom actions need (its model: POST /actionTargets, POST
// /actionTargets/get, PATCH and DELETE /actionTargets/{ARN}).
type securityHub struct {
	*httptest.Server
	t       *testing.T
	mu      sync.Mutex
	off     bool                 // the account does not use it
	denied  string               // answer everything with this code
	actions map[string][2]string // name and description by ARN
}

func newSecurityHub(t *testing.T) *securityHub {
	h := &securityHub{t: t, actions: map[string][2]string{}}
	h.Server = httptest.NewServer(h)
	t.Cleanup(h.Close)
	return h
}

func (h *securityHub) client() *securityhub.Client {
	return securityhub.New(securityhub.Options{Region: "eu-central-1", BaseEndpoint: aws.String(h.URL), Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider("AKIAIOSFODNN7EXAMPLE", "secret", "")})
}

func (h *securityHub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var in struct {
		ID               string `json:"Id"`
		Name             string
		Description      string
		ActionTargetArns []string
	}
	if r.Method != http.MethodDelete {
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			h.t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
	}
	arn, err := url.PathUnescape(strings.TrimPrefix(r.URL.EscapedPath(), "/actionTargets/"))
	if err != nil {
		h.t.Error(err)
	}
	_, there := h.actions[arn]
	switch {
	case h.off:
		refuse(w, http.StatusUnauthorized, "InvalidAccessException", "Account 111122223333 is not subscribed to AWS Security Hub")
	case h.denied != "":
		refuse(w, http.StatusForbidden, h.denied, "not allowed")
	case r.Method == http.MethodPost && r.URL.Path == "/actionTargets":
		arn = "arn:aws:securityhub:eu-central-1:111122223333:action/custom/" + in.ID
		if _, there := h.actions[arn]; there {
			refuse(w, http.StatusConflict, "ResourceConflictException", "exists")
			return
		}
		h.actions[arn] = [2]string{in.Name, in.Description}
		give(w, map[string]any{"ActionTargetArn": arn})
	case r.Method == http.MethodPost && r.URL.Path == "/actionTargets/get":
		list := []map[string]any{}
		for _, arn := range slices.Sorted(maps.Keys(h.actions)) {
			if slices.Contains(in.ActionTargetArns, arn) {
				list = append(list, map[string]any{"ActionTargetArn": arn, "Name": h.actions[arn][0], "Description": h.actions[arn][1]})
			}
		}
		give(w, map[string]any{"ActionTargets": list})
	case !there:
		refuse(w, http.StatusNotFound, "ResourceNotFoundException", "no such action")
	case r.Method == http.MethodPatch:
		h.actions[arn] = [2]string{in.Name, in.Description}
		give(w, map[string]any{})
	case r.Method == http.MethodDelete:
		delete(h.actions, arn)
		give(w, map[string]any{"ActionTargetArn": arn})
	default:
		h.t.Errorf("%s %s is no call of custom actions", r.Method, r.URL)
	}
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("X-Amzn-ErrorType", code)
	w.WriteHeader(status)
	give(w, map[string]string{"Code": code, "Message": message})
}

func give(w io.Writer, v any) {
	json.NewEncoder(w).Encode(v) //nolint:errcheck // the client of a test that ended may be gone
}
