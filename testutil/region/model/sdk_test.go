package model

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	eventtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"
	schedulertypes "github.com/aws/aws-sdk-go-v2/service/scheduler/types"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
)

// refusal is an error a handler of these tests answers with.
type refusal struct{ code, message string }

func (r refusal) Error() string { return r.code }

// serve answers a service's calls from handle, for real clients.
func serve(t *testing.T, service string, handle func(*Call) (map[string]any, error)) aws.Config {
	t.Helper()
	s := MustLoad(service)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		spoken := s.For(r)
		var answer Answer
		call, err := s.Decode(r, body)
		var result map[string]any
		if err == nil {
			result, err = handle(call)
		}
		var v *Violation
		var no refusal
		switch {
		case errors.As(err, &v):
			t.Errorf("the client broke the model: %v", v)
			answer = spoken.EncodeError(v.Code(), v.Error(), "req-1", 400)
		case errors.As(err, &no):
			answer = spoken.EncodeError(no.code, no.message, "req-1", 0)
		default:
			if answer, err = spoken.Encode(call.Operation, result, "req-1"); err != nil {
				t.Error(err)
				answer = spoken.EncodeError("InternalFailure", err.Error(), "req-1", 500)
			}
		}
		if err := answer.Send(w); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	return aws.Config{
		Region: "us-east-1", BaseEndpoint: aws.String(server.URL), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
	}
}

func TestEC2Client(t *testing.T) {
	born := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var got *Call
	client := ec2.NewFromConfig(serve(t, "ec2", func(call *Call) (map[string]any, error) {
		got = call
		switch call.Operation {
		case "RunInstances":
			return map[string]any{"ReservationId": "r-1", "Instances": []any{map[string]any{
				"InstanceId": "i-1", "LaunchTime": born, "State": map[string]any{"Code": 0, "Name": "pending"},
				"Tags":              []any{map[string]any{"Key": "case", "Value": "7"}},
				"NetworkInterfaces": []any{map[string]any{"NetworkInterfaceId": "eni-1", "PrivateIpAddress": "127.0.0.9"}}}}}, nil
		case "DeleteTrafficMirrorSession":
			return nil, refusal{"InvalidTrafficMirrorSessionId.NotFound", "no such session"}
		}
		return map[string]any{"SecurityGroups": []any{map[string]any{"GroupId": "sg-1", "IpPermissionsEgress": []any{
			map[string]any{"IpProtocol": "-1", "IpRanges": []any{map[string]any{"CidrIp": "0.0.0.0/0"}}}}}}}, nil
	}))
	ctx := context.Background()
	run, err := client.RunInstances(ctx, &ec2.RunInstancesInput{
		MinCount: aws.Int32(1), MaxCount: aws.Int32(1), ClientToken: aws.String("token"),
		LaunchTemplate: &ec2types.LaunchTemplateSpecification{LaunchTemplateId: aws.String("lt-1"), Version: aws.String("3")},
		NetworkInterfaces: []ec2types.InstanceNetworkInterfaceSpecification{{
			DeviceIndex: aws.Int32(0), SubnetId: aws.String("subnet-1"), Groups: []string{"sg-1"},
			PrivateIpAddresses: []ec2types.PrivateIpAddressSpecification{{PrivateIpAddress: aws.String("127.0.0.9"), Primary: aws.Bool(true)}}}},
		TagSpecifications: []ec2types.TagSpecification{{ResourceType: ec2types.ResourceTypeInstance,
			Tags: []ec2types.Tag{{Key: aws.String("case"), Value: aws.String("7")}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"MinCount": int64(1), "MaxCount": int64(1), "ClientToken": "token",
		"LaunchTemplate": map[string]any{"LaunchTemplateId": "lt-1", "Version": "3"},
		"NetworkInterfaces": []any{map[string]any{"DeviceIndex": int64(0), "SubnetId": "subnet-1", "Groups": []any{"sg-1"},
			"PrivateIpAddresses": []any{map[string]any{"PrivateIpAddress": "127.0.0.9", "Primary": true}}}},
		"TagSpecifications": []any{map[string]any{"ResourceType": "instance", "Tags": []any{map[string]any{"Key": "case", "Value": "7"}}}},
	}
	if !reflect.DeepEqual(got.Params, want) {
		t.Errorf("decoded\n%v\nwant\n%v", got.Params, want)
	}
	instance := run.Instances[0]
	if *instance.InstanceId != "i-1" || !instance.LaunchTime.Equal(born) || instance.State.Name != ec2types.InstanceStateNamePending ||
		*instance.Tags[0].Value != "7" || *instance.NetworkInterfaces[0].NetworkInterfaceId != "eni-1" {
		t.Errorf("the client read %+v", instance)
	}
	groups, err := client.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{
		Filters: []ec2types.Filter{{Name: aws.String("group-name"), Values: []string{"a", "b"}}}, MaxResults: aws.Int32(5)})
	if err != nil || *groups.SecurityGroups[0].IpPermissionsEgress[0].IpRanges[0].CidrIp != "0.0.0.0/0" {
		t.Errorf("the client read %+v, %v", groups, err)
	}
	_, err = client.DeleteTrafficMirrorSession(ctx, &ec2.DeleteTrafficMirrorSessionInput{TrafficMirrorSessionId: aws.String("tms-1")})
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != "InvalidTrafficMirrorSessionId.NotFound" || api.ErrorMessage() != "no such session" {
		t.Errorf("the client read the error %v", err)
	}
}

func TestSchedulerClient(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var got *Call
	client := scheduler.NewFromConfig(serve(t, "scheduler", func(call *Call) (map[string]any, error) {
		got = call
		switch call.Operation {
		case "CreateSchedule":
			return nil, refusal{"ConflictException", "it exists"}
		case "GetSchedule":
			return map[string]any{"Name": call.Params["Name"], "StartDate": start, "Target": map[string]any{"Arn": "a", "RoleArn": "r", "Input": "{}"}}, nil
		}
		return map[string]any{}, nil
	}))
	ctx := context.Background()
	_, err := client.CreateSchedule(ctx, &scheduler.CreateScheduleInput{
		Name: aws.String("eni-1"), GroupName: aws.String("g"), StartDate: &start, ScheduleExpression: aws.String("rate(5 minutes)"),
		FlexibleTimeWindow: &schedulertypes.FlexibleTimeWindow{Mode: schedulertypes.FlexibleTimeWindowModeOff},
		Target:             &schedulertypes.Target{Arn: aws.String("arn:aws:lambda:us-east-1:123456789012:function:f"), RoleArn: aws.String("arn:aws:iam::123456789012:role/r"), Input: aws.String("{}")}})
	var conflict *schedulertypes.ConflictException
	if !errors.As(err, &conflict) || *conflict.Message != "it exists" {
		t.Errorf("the client read the error %v", err)
	}
	if at, _ := got.Params["StartDate"].(time.Time); !at.Equal(start) {
		t.Errorf("decoded %v", got.Params)
	}
	schedule, err := client.GetSchedule(ctx, &scheduler.GetScheduleInput{Name: aws.String("eni-1"), GroupName: aws.String("g")})
	if err != nil || *schedule.Name != "eni-1" || !schedule.StartDate.Equal(start) || *schedule.Target.Input != "{}" {
		t.Errorf("the client read %+v, %v", schedule, err)
	}
	if _, err := client.DeleteSchedule(ctx, &scheduler.DeleteScheduleInput{Name: aws.String("eni-1")}); err != nil {
		t.Error(err)
	}
}

func TestSQSClient(t *testing.T) {
	client := sqs.NewFromConfig(serve(t, "sqs", func(call *Call) (map[string]any, error) {
		switch call.Operation {
		case "GetQueueUrl":
			return nil, refusal{"QueueDoesNotExist", "no such queue"}
		case "ReceiveMessage":
			return map[string]any{"Messages": []any{map[string]any{"MessageId": "m", "Body": "<&>", "ReceiptHandle": "h",
				"Attributes": map[string]any{"ApproximateReceiveCount": "1"}}}}, nil
		}
		return nil, nil
	}))
	ctx := context.Background()
	received, err := client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: aws.String("http://q"), WaitTimeSeconds: 1,
		MessageSystemAttributeNames: []sqstypes.MessageSystemAttributeName{"All"}})
	if err != nil || *received.Messages[0].Body != "<&>" || received.Messages[0].Attributes["ApproximateReceiveCount"] != "1" {
		t.Errorf("the client read %+v, %v", received, err)
	}
	if _, err := client.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: aws.String("http://q"), ReceiptHandle: aws.String("h")}); err != nil {
		t.Error(err)
	}
	_, err = client.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: aws.String("q")})
	var missing *sqstypes.QueueDoesNotExist
	if !errors.As(err, &missing) || missing.ErrorCode() != "AWS.SimpleQueueService.NonExistentQueue" {
		t.Errorf("the client read the error %v", err)
	}
}

func TestStepFunctionsClient(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 125e6, time.UTC)
	client := sfn.NewFromConfig(serve(t, "states", func(call *Call) (map[string]any, error) {
		if call.Operation == "DescribeExecution" {
			return map[string]any{"executionArn": "arn", "stateMachineArn": "sm", "status": "RUNNING", "startDate": start, "input": "{}"}, nil
		}
		return map[string]any{"events": []any{map[string]any{"id": 1, "timestamp": start, "type": "ExecutionStarted",
			"executionStartedEventDetails": map[string]any{"input": "{}"}}}}, nil
	}))
	ctx := context.Background()
	execution, err := client.DescribeExecution(ctx, &sfn.DescribeExecutionInput{ExecutionArn: aws.String("arn")})
	if err != nil || !execution.StartDate.Equal(start) || execution.Status != "RUNNING" {
		t.Errorf("the client read %+v, %v", execution, err)
	}
	history, err := client.GetExecutionHistory(ctx, &sfn.GetExecutionHistoryInput{ExecutionArn: aws.String("arn"), ReverseOrder: true})
	if err != nil || history.Events[0].Id != 1 || *history.Events[0].ExecutionStartedEventDetails.Input != "{}" {
		t.Errorf("the client read %+v, %v", history, err)
	}
}

func TestEventBridgeAndSTSClients(t *testing.T) {
	ctx := context.Background()
	bus := eventbridge.NewFromConfig(serve(t, "events", func(call *Call) (map[string]any, error) {
		return map[string]any{"FailedEntryCount": 0, "Entries": []any{map[string]any{"EventId": "e"}}}, nil
	}))
	put, err := bus.PutEvents(ctx, &eventbridge.PutEventsInput{Entries: []eventtypes.PutEventsRequestEntry{{
		Source: aws.String("flashtap"), DetailType: aws.String("Capture Sealed"), Detail: aws.String("{}"), Time: aws.Time(time.Now())}}})
	if err != nil || *put.Entries[0].EventId != "e" {
		t.Errorf("the client read %+v, %v", put, err)
	}
	who := sts.NewFromConfig(serve(t, "sts", func(*Call) (map[string]any, error) {
		return map[string]any{"Account": "123456789012", "Arn": "arn", "UserId": "u"}, nil
	}))
	identity, err := who.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil || *identity.Account != "123456789012" {
		t.Errorf("the client read %+v, %v", identity, err)
	}
}

// The aws command line brings clients of its own for what the SDK's Go clients
// in go.mod do not cover, CloudWatch's CBOR among it.
func TestCommandLineClient(t *testing.T) {
	if _, err := exec.LookPath("aws"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("no aws command, which CI must have: ", err)
		}
		t.Skip("no aws command on this machine: ", err)
	}
	for _, row := range []struct {
		service string
		result  map[string]any
		args    string
		want    string
	}{
		{"cloudwatch", map[string]any{"MetricDataResults": []any{map[string]any{"Id": "a", "Values": []any{1.5}, "StatusCode": "Complete",
			"Timestamps": []any{time.Unix(1700000000, 0)}}}},
			`cloudwatch get-metric-data --start-time 2026-01-01T00:00:00Z --end-time 2026-01-02T00:00:00Z --metric-data-queries Id=a,Expression=1 --query MetricDataResults[0].Values[0]`, "1.5"},
		{"kms", map[string]any{"KeyId": "k", "Signature": []byte("signed"), "SigningAlgorithm": "ECDSA_SHA_256"},
			`kms sign --key-id k --message aGVsbG8= --message-type RAW --signing-algorithm ECDSA_SHA_256 --query Signature`, "c2lnbmVk"},
		{"sns", map[string]any{"MessageId": "m-1"}, `sns publish --topic-arn t --message m --message-attributes kind={DataType=String,StringValue=x} --query MessageId`, "m-1"},
	} {
		t.Run(row.service, func(t *testing.T) {
			t.Parallel()
			cfg := serve(t, row.service, func(*Call) (map[string]any, error) { return row.result, nil })
			args := append(strings.Fields(row.args), "--output", "text", "--endpoint-url", *cfg.BaseEndpoint, "--region", cfg.Region)
			cmd := exec.Command("aws", args...)
			cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID=AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY=secret", "AWS_CONFIG_FILE=/nonexistent", "AWS_MAX_ATTEMPTS=1", "AWS_PAGER=")
			out, err := cmd.CombinedOutput()
			if err != nil || strings.TrimSpace(string(out)) != row.want {
				t.Errorf("aws %s: %v\n%s", row.args, err, out)
			}
		})
	}
}
