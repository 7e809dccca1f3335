package deployment_test

import (
	"maps"
	"strings"
	"testing"
	"time"

	"flashtap/events"
	"flashtap/infra/policy"
	"flashtap/testutil/iam"
	"flashtap/testutil/region"
	"flashtap/testutil/region/ec2"
)

// byHand adds the calls that a local deployment does not make: what Lambda and Step Functions write for the functions and
// the state machine, what setup does at deployment, and what the Automation documents do.
func (w *account) byHand(t *testing.T) {
	t.Helper()
	add := func(role, resource, service, actions string) {
		for _, action := range strings.Fields(actions) {
			w.made = append(w.made, made{role, service + "." + action, []iam.Request{w.request(role, service+":"+action, resource, nil)}})
		}
	}
	call := func(role, service, operation string, params map[string]any, facts ec2.Facts) {
		c := region.Call{At: time.Now(), Service: service, Operation: operation, Principal: "-" + role, Params: params, Facts: facts}
		w.read(t, []region.Call{c})
	}
	arn := func(service, rest string) string {
		return "arn:aws:" + service + ":" + w.scope.Region + ":" + w.scope.Account + ":" + rest
	}
	bucket := strings.TrimPrefix(w.scope.BucketARN, "arn:aws:s3:::")
	for _, role := range policy.Roles() {
		if role.Service == "lambda.amazonaws.com" {
			add(role.Name, arn("logs", "log-group:"+w.scope.LogGroupName(role.Name)+":log-stream:2026/11/26/[$LATEST]0"), "logs", "CreateLogStream PutLogEvents")
		}
	}
	add("capture", "*", "logs", "CreateLogDelivery GetLogDelivery UpdateLogDelivery DeleteLogDelivery ListLogDeliveries PutResourcePolicy DescribeResourcePolicies DescribeLogGroups")

	// Setup copies the program out of CDK's bucket, and makes the custom action.
	program := "tools/collector-arm64-" + strings.Repeat("a", 64)
	call("setup", "s3", "GetObject", map[string]any{"Bucket": strings.TrimPrefix(w.scope.AssetBucketARN, "arn:aws:s3:::"), "Key": assetKey}, ec2.Facts{})
	call("setup", "s3", "PutObject", map[string]any{"Bucket": bucket, "Key": program, "IfNoneMatch": "*"}, ec2.Facts{})
	call("setup", "s3", "GetObject", map[string]any{"Bucket": bucket, "Key": program}, ec2.Facts{})
	add("setup", arn("securityhub", "hub/default"), "securityhub", "CreateActionTarget DescribeActionTargets UpdateActionTarget DeleteActionTarget")

	// The documents start, watch and stop captures, as the operator's tool does, and have the sweep prove that it runs.
	call("automation", "states", "StartExecution", map[string]any{"stateMachineArn": w.scope.StateMachineARN()}, ec2.Facts{})
	call("automation", "states", "DescribeExecution", map[string]any{"executionArn": w.scope.ExecutionARN("by-document-1")}, ec2.Facts{})
	call("automation", "ec2", "DescribeInstances", nil, ec2.Facts{})
	ours := ec2.Fact{Type: "instance", ID: otherInstance, Tags: map[string]string{events.TagDeployment: w.scope.Deployment}, Profile: w.scope.InstanceProfileARN}
	call("automation", "ec2", "CreateTags", map[string]any{"Resources": []any{otherInstance}, "Tags": []any{map[string]any{"Key": events.TagStop, "Value": "operator"}}},
		ec2.Facts{Resources: map[string]ec2.Fact{otherInstance: ours}})
	call("automation", "s3", "PutObject", map[string]any{"Bucket": bucket, "IfNoneMatch": "*",
		"Key": events.CustodyKey("20261126T000000Z-eni-0aaaaaaaaaaaaaaaa", "operator", "asked-to-stop-"+otherInstance)}, ec2.Facts{})
	// CloudWatch's counts are added twenty minutes after a capture was sealed.
	call("sweep", "monitoring", "GetMetricData", nil, ec2.Facts{})
	call("automation", "lambda", "Invoke", map[string]any{"FunctionName": w.scope.FunctionName("sweep")}, ec2.Facts{})
}

// request is a request of a role with what AWS knows of every request.
func (w *account) request(role, action, resource string, keys iam.Context) iam.Request {
	by := w.caller(role, otherInstance)
	c := iam.Context{
		"aws:SecureTransport": {"true"}, "aws:RequestedRegion": {w.scope.Region}, "aws:PrincipalArn": {by.ARN}, "aws:PrincipalAccount": {by.Account},
		"aws:userid": {by.UserID}, "aws:ResourceAccount": {w.scope.Account}, "s3:TlsVersion": {"1.3"}, "ec2:Region": {w.scope.Region},
	}
	for key := range c {
		service, _, _ := strings.Cut(key, ":")
		if service != "aws" && !strings.HasPrefix(action, service+":") {
			delete(c, key)
		}
	}
	maps.Copy(c, keys)
	return iam.Request{Principal: by.Principal, Action: action, Resource: resource, Context: c}
}
