package main

import (
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/cfn"
)

func actionEvent(kind cfn.RequestType, id, description string) cfn.Event {
	e := cfn.Event{RequestType: kind, ResourceType: typeAction, LogicalResourceID: "Action", ResourceProperties: map[string]any{
		"Name": "Capture packets", "Id": id, "Description": description}}
	if kind != cfn.RequestCreate {
		e.PhysicalResourceID = actionArn
	}
	return e
}

func TestAction(t *testing.T) {
	h, c := newSecurityHub(t), newCloudFormation(t)
	s := setup{hub: h.client()}
	const one, two = "Flashtap test", "Flashtap test, second text"
	for _, step := range []struct {
		name   string
		before func()
		event  cfn.Event
		status string
		there  string // its description afterwards; "" when it is not there
	}{
		{"create", nil, actionEvent(cfn.RequestCreate, "FlashtapTest", one), actionCreated, one},
		{"create again, since the answer was lost", nil, actionEvent(cfn.RequestCreate, "FlashtapTest", one), actionThere, one},
		{"update", nil, actionEvent(cfn.RequestUpdate, "FlashtapTest", two), actionUpdated, two},
		{"update after a person deleted it", func() { delete(h.actions, actionArn) }, actionEvent(cfn.RequestUpdate, "FlashtapTest", one), actionCreated, one},
		{"delete", nil, actionEvent(cfn.RequestDelete, "FlashtapTest", one), actionDeleted, ""},
		{"delete again", nil, actionEvent(cfn.RequestDelete, "FlashtapTest", one), actionGone, ""},
		{"create without Security Hub", func() { h.off = true }, actionEvent(cfn.RequestCreate, "FlashtapTest", one), actionNoHub, ""},
		{"update without Security Hub", nil, actionEvent(cfn.RequestUpdate, "FlashtapTest", one), actionNoHub, ""},
		{"delete without Security Hub", nil, actionEvent(cfn.RequestDelete, "FlashtapTest", one), actionNoHub, ""},
		{"update after Security Hub was enabled", func() { h.off = false }, actionEvent(cfn.RequestUpdate, "FlashtapTest", two), actionCreated, two},
	} {
		if step.before != nil {
			step.before()
		}
		a := c.ask(t.Context(), s.handle, step.event)
		if a.Status != cfn.StatusSuccess || a.Data["Status"] != step.status || a.PhysicalResourceID != actionArn {
			t.Errorf("%s: %+v", step.name, a)
		}
		if got := h.actions[actionArn][1]; got != step.there {
			t.Errorf("%s: there is %q", step.name, got)
		}
	}

	// Another id is another action; CloudFormation then deletes the one it replaced.
	other := c.ask(t.Context(), s.handle, actionEvent(cfn.RequestUpdate, "FlashtapOther", two))
	if other.Status != cfn.StatusSuccess || other.PhysicalResourceID == actionArn || len(h.actions) != 2 {
		t.Errorf("replacement: %+v, %v", other, h.actions)
	}
}

func TestActionRefused(t *testing.T) {
	h, c := newSecurityHub(t), newCloudFormation(t)
	s := setup{hub: h.client()}
	h.actions[actionArn] = [2]string{"Page somebody", "by hand"}
	for name, row := range map[string]struct {
		event  cfn.Event
		denied string
		says   string
	}{
		"another tool's action":      {actionEvent(cfn.RequestCreate, "FlashtapTest", "x"), "", `exists with the name "Page somebody" and is not ours`},
		"an id with a dash":          {actionEvent(cfn.RequestCreate, "Flashtap-Test", "x"), "", "at most 20 letters and digits"},
		"an id of 21 characters":     {actionEvent(cfn.RequestCreate, strings.Repeat("a", 21), "x"), "", "at most 20 letters and digits"},
		"no description":             {actionEvent(cfn.RequestCreate, "FlashtapTest", ""), "", "gives no Description"},
		"no permission to create":    {actionEvent(cfn.RequestCreate, "FlashtapTest", "x"), "AccessDeniedException", "create custom action FlashtapTest"},
		"no permission to delete":    {actionEvent(cfn.RequestDelete, "FlashtapTest", "x"), "AccessDeniedException", "delete custom action " + actionArn},
		"a like code, another cause": {actionEvent(cfn.RequestCreate, "FlashtapTest", "x"), "InvalidAccessException", "not allowed"},
	} {
		h.denied = row.denied
		a := c.ask(t.Context(), s.handle, row.event)
		if a.Status != cfn.StatusFailed || !strings.Contains(a.Reason, row.says) {
			t.Errorf("%s: %+v", name, a)
		}
		if row.event.RequestType == cfn.RequestCreate {
			// CloudFormation rolls back by deleting what the answer named. That must not be the other tool's action.
			back := actionEvent(cfn.RequestDelete, "FlashtapTest", "x")
			back.PhysicalResourceID = a.PhysicalResourceID
			if a := c.ask(t.Context(), s.handle, back); a.Status != cfn.StatusSuccess || a.Data["Status"] != actionGone {
				t.Errorf("%s, rolled back: %+v", name, a)
			}
		}
	}
	if got := h.actions[actionArn][0]; got != "Page somebody" {
		t.Errorf("the other tool's action is now %q", got)
	}
}

func TestActionARN(t *testing.T) {
	for stack, want := range map[string]string{
		stackID: actionArn,
		"arn:aws-us-gov:cloudformation:us-gov-west-1:111122223333:stack/a/b": "arn:aws-us-gov:securityhub:us-gov-west-1:111122223333:action/custom/FlashtapTest",
		"flashtap-test-control":     "",
		"arn:aws:s3:::bucket":       "",
		"arn:aws:s3:eu:1:stack/a:b": "",
	} {
		got, err := actionARN(stack, "FlashtapTest")
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", stack, got, err)
		}
	}
}
