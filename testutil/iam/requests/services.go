package requests

import (
	"fmt"
	"slices"
	"strings"

	"flashtap/testutil/iam"
)

func (q *asking) scheduler() error {
	operation := q.call.Operation
	if operation == "ListSchedules" {
		q.ask("scheduler:ListSchedules", "*", nil)
		return nil
	}
	if !slices.Contains([]string{"CreateSchedule", "GetSchedule", "UpdateSchedule", "DeleteSchedule"}, operation) {
		return fmt.Errorf("what AWS asks about scheduler.%s is not described", operation)
	}
	group := q.params.str("GroupName")
	if group == "" {
		group = "default"
	}
	q.ask("scheduler:"+operation, q.account.arn("scheduler", "schedule/"+group+"/"+q.params.str("Name")), nil)
	if q.params.has("Target") {
		q.passRole(q.params.object("Target").str("RoleArn"), "scheduler.amazonaws.com")
	}
	return nil
}

// statesOn is the parameter that holds the ARN of what a call is about.
var statesOn = map[string]string{
	"StartExecution": "stateMachineArn", "ListExecutions": "stateMachineArn",
	"DescribeExecution": "executionArn", "StopExecution": "executionArn", "GetExecutionHistory": "executionArn",
}

func (q *asking) states() error {
	if parameter := statesOn[q.call.Operation]; parameter != "" {
		q.ask("states:"+q.call.Operation, q.params.str(parameter), nil)
	}
	return nil
}

var sqsCalls = []string{"SendMessage", "ReceiveMessage", "DeleteMessage", "ChangeMessageVisibility", "GetQueueAttributes"}

func (q *asking) sqs() error {
	if slices.Contains(sqsCalls, q.call.Operation) {
		url := q.params.str("QueueUrl")
		q.ask("sqs:"+q.call.Operation, q.account.arn("sqs", url[strings.LastIndexByte(url, '/')+1:]), nil)
	}
	return nil
}

// events asks about every entry by itself.
func (q *asking) events() error {
	if q.call.Operation != "PutEvents" {
		return nil
	}
	for _, entry := range q.params.objects("Entries") {
		bus := entry.str("EventBusName")
		if bus == "" {
			bus = "default"
		}
		if !strings.HasPrefix(bus, "arn:") {
			bus = q.account.arn("events", "event-bus/"+bus)
		}
		q.ask("events:PutEvents", bus, iam.Context{
			"events:source": {entry.str("Source")}, "events:detail-type": {entry.str("DetailType")}, "events:eventBusInvocation": {"false"},
		})
	}
	return nil
}

func (q *asking) lambda() error {
	if q.call.Operation != "Invoke" {
		return nil
	}
	function := q.params.str("FunctionName")
	if !strings.HasPrefix(function, "arn:") {
		function = q.account.arn("lambda", "function:"+function)
	}
	q.ask("lambda:InvokeFunction", function, nil)
	return nil
}

// cloudwatch asks about no resource, but for datasets, which AWS's own metrics are not in.
func (q *asking) cloudwatch() error {
	if q.call.Operation == "GetMetricData" {
		q.ask("cloudwatch:GetMetricData", "*", nil)
	}
	return nil
}

func (q *asking) kms() error {
	key, c := q.params.str("KeyId"), iam.Context{"kms:CallerAccount": {q.account.ID}}
	if !strings.HasPrefix(key, "arn:") {
		key = q.account.arn("kms", "key/"+key)
	}
	switch q.call.Operation {
	case "DescribeKey", "GetPublicKey":
	case "Sign":
		c["kms:SigningAlgorithm"], c["kms:MessageType"] = []string{q.params.str("SigningAlgorithm")}, []string{q.params.str("MessageType")}
	default:
		return nil
	}
	q.ask("kms:"+q.call.Operation, key, c)
	return nil
}

func (q *asking) sns() error {
	if q.call.Operation == "Publish" {
		q.ask("sns:Publish", q.params.str("TopicArn"), nil)
	}
	return nil
}

func (q *asking) quotas() error {
	if q.call.Operation == "GetServiceQuota" {
		q.ask("servicequotas:GetServiceQuota", q.account.arn("servicequotas", q.params.str("ServiceCode")+"/"+q.params.str("QuotaCode")), nil)
	}
	return nil
}

func (q *asking) iam() error {
	if q.call.Operation == "SimulatePrincipalPolicy" {
		q.ask("iam:SimulatePrincipalPolicy", q.params.str("PolicySourceArn"), nil)
	}
	return nil
}
