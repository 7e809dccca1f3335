package main

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/cfn"
)

func TestUnknownType(t *testing.T) {
	c := newCloudFormation(t)
	event := cfn.Event{ResourceType: "Custom::Other", RequestType: cfn.RequestCreate}
	if a := c.ask(t.Context(), setup{}.handle, event); a.Status != cfn.StatusFailed || !strings.Contains(a.Reason, "correct the type") {
		t.Errorf("%+v", a)
	}
	// CloudFormation rolls the refusal back.
	event.RequestType, event.PhysicalResourceID = cfn.RequestDelete, "request-1"
	if a := c.ask(t.Context(), setup{}.handle, event); a.Status != cfn.StatusSuccess || a.PhysicalResourceID != "request-1" {
		t.Errorf("%+v", a)
	}
}

// TestBrokenFunction: also one that can't work at all answers.
func TestBrokenFunction(t *testing.T) {
	c := newCloudFormation(t)
	a := c.ask(t.Context(), setup{broken: errors.New("no configuration")}.handle, cfn.Event{ResourceType: typeAction, RequestType: cfn.RequestDelete, PhysicalResourceID: actionArn})
	if a.Status != cfn.StatusFailed || !strings.Contains(a.Reason, "no configuration") || a.PhysicalResourceID != actionArn {
		t.Errorf("%+v", a)
	}
}

// TestPanicIsAnswered: a stack whose function dies without a word waits for an hour.
func TestPanicIsAnswered(t *testing.T) {
	c := newCloudFormation(t)
	a := c.ask(t.Context(), func(context.Context, cfn.Event) (string, map[string]any, error) { panic("on fire") },
		cfn.Event{ResourceType: typeProgram, RequestType: cfn.RequestUpdate, PhysicalResourceID: "tools/old"})
	if a.Status != cfn.StatusFailed || !strings.Contains(a.Reason, "on fire") || a.PhysicalResourceID != "tools/old" {
		t.Errorf("%+v", a)
	}
}

// TestTimeIsKeptForTheAnswer: work that ends too late is not waited for.
func TestTimeIsKeptForTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		started := time.Now()
		ended := make(chan struct{})
		_, _, err := inTime(func(context.Context, cfn.Event) (string, map[string]any, error) {
			defer close(ended)
			time.Sleep(time.Hour) // does not listen to its context
			return "id", nil, nil
		})(ctx, cfn.Event{ResourceType: typeProgram, LogicalResourceID: "CollectorArm64"})
		if took := time.Since(started); took != 5*time.Minute-reserve {
			t.Errorf("answers after %s", took)
		}
		if err == nil || !strings.Contains(err.Error(), "CollectorArm64: not done within 4m50s") {
			t.Errorf("says %v", err)
		}
		<-ended
	})
}

// TestLostAnswer: an answer that did not arrive is an error, and Lambda then invokes the function again.
func TestLostAnswer(t *testing.T) {
	c := newCloudFormation(t)
	c.status = http.StatusServiceUnavailable
	_, err := cfn.LambdaWrap(inTime(setup{}.handle))(t.Context(), cfn.Event{RequestType: cfn.RequestDelete, ResourceType: typeProgram, ResponseURL: c.URL})
	if err == nil {
		t.Error("CloudFormation heard nothing, and nobody minds")
	}
}

// TestLongReason: CloudFormation takes answers of at most 4096 bytes.
func TestLongReason(t *testing.T) {
	c := newCloudFormation(t)
	a := c.ask(t.Context(), func(context.Context, cfn.Event) (string, map[string]any, error) {
		return "", nil, cut(errors.New(strings.Repeat("ü\"", 5000)))
	}, cfn.Event{ResourceType: typeProgram, RequestType: cfn.RequestCreate})
	if a.Status != cfn.StatusFailed || c.size > 4096 {
		t.Errorf("%d bytes", c.size)
	}
}
