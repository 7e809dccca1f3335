package region

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"flashtap/testutil/region/ec2"
	"flashtap/testutil/region/model"
	"flashtap/testutil/region/queue"
	"flashtap/testutil/region/schedule"
)

// ec2Target begins the ARNs of Scheduler's universal targets for EC2 (EventBridge Scheduler User Guide, "Using universal
// targets").
const ec2Target = "arn:aws:scheduler:::aws-sdk:ec2:"

// fire invokes the target of a schedule: a Lambda function, or an EC2 operation. A function is invoked asynchronously
// (Lambda guide, "Using Lambda with Amazon EventBridge Scheduler"), so that its errors are Lambda's to retry.
func (r *Region) fire(_ context.Context, t schedule.Target) error {
	operation, universal := strings.CutPrefix(t.ARN, ec2Target)
	var err error
	if universal {
		err = r.callEC2(operation, t)
	} else {
		r.errand("lambda", "Invoke", t.RoleARN, t.ScheduleARN, map[string]any{"FunctionName": t.ARN})
		_, err = r.Lambda.InvokeAsync(t.ARN, []byte(t.Input))
	}
	if err != nil {
		r.log.Warn("schedule's target refused", "schedule", t.ScheduleARN, "target", t.ARN, "attempt", t.Attempt, "err", err)
	}
	return err
}

// callEC2 is a universal target, held to the service's model as any other caller is.
func (r *Region) callEC2(operation string, t schedule.Target) error {
	call, err := universalCall(operation, t.Input)
	if err != nil {
		r.record.violation(fmt.Errorf("scheduler: %w", err))
		return err
	}
	r.errand(call.Service, call.Operation, t.RoleARN, t.ScheduleARN, call.Params)
	_, err = r.EC2.Handle(call, "scheduler")
	var refused *ec2.APIError
	if errors.As(err, &refused) {
		return fault{refused.Code, refused.Message, refused.Status}
	}
	return err
}

// universalCall reads the input of a universal target, an object with the API's own parameter names. Parameters that
// are objects or lists are refused here.
func universalCall(operation, input string) (*model.Call, error) {
	service := model.MustLoad("ec2")
	invalid := func(format string, args ...any) error {
		return fault{"ValidationException", "target ec2:" + operation + ": " + fmt.Sprintf(format, args...), http.StatusBadRequest}
	}
	var params map[string]json.RawMessage
	if err := json.Unmarshal([]byte(input), &params); err != nil {
		return nil, invalid("input: %v", err)
	}
	first := min(1, len(operation)) // a target begins the operation's name in lower case
	form := url.Values{"Action": {strings.ToUpper(operation[:first]) + operation[first:]}, "Version": {service.Metadata.APIVersion}}
	for name, value := range params {
		text := string(value)
		switch text[0] {
		case '"':
			if err := json.Unmarshal(value, &text); err != nil {
				return nil, invalid("%s: %v", name, err)
			}
		case '{', '[', 'n':
			return nil, invalid("%s: only strings, numbers and booleans are played here", name)
		}
		form.Set(name, text)
	}
	req, err := http.NewRequest(http.MethodPost, "/", nil)
	if err != nil {
		return nil, err
	}
	call, err := service.Decode(req, []byte(form.Encode()))
	if err != nil {
		return nil, invalid("%v", err)
	}
	return call, nil
}

// bury puts an event that Scheduler gave up into the dead-letter queue that its schedule names.
func (r *Region) bury(d schedule.DeadLetter) {
	m := queue.Message{Body: d.Body, Attributes: map[string]queue.Attribute{}}
	for name, value := range d.Attributes {
		m.Attributes[name] = queue.Attribute{DataType: "String", StringValue: value}
	}
	if _, err := r.Queues.Send(d.QueueARN, m); err != nil {
		r.log.Error("dead letter not kept", "queue", d.QueueARN, "err", err)
	}
}
