package model

import (
	"strings"
	"testing"
	"time"
)

func TestEncodeRefusesWhatTheModelLacks(t *testing.T) {
	for _, row := range []struct {
		reason, service, operation string
		result                     map[string]any
		names                      string
	}{
		{"a misspelled member", "ec2", "DescribeVpcs", map[string]any{"VPCs": []any{}}, "VPCs"},
		{"a misspelled nested member", "ec2", "DescribeVpcs", map[string]any{"Vpcs": []any{map[string]any{"VpcID": "vpc-1"}}}, "VpcID"},
		{"a value of another type", "ec2", "DescribeVpcs", map[string]any{"Vpcs": []any{map[string]any{"VpcId": 1}}}, "Vpcs.1.VpcId"},
		{"a number past 32 bits", "ec2", "CreateTrafficMirrorSession", map[string]any{"TrafficMirrorSession": map[string]any{"PacketLength": int64(1) << 40}}, "PacketLength"},
		{"a value outside the enumeration", "ec2", "DescribeVpcs", map[string]any{"Vpcs": []any{map[string]any{"State": "gone"}}}, "gone"},
		{"a missing required member", "states", "StartExecution", map[string]any{"executionArn": "arn"}, "startDate"},
		{"a result for an operation that has none", "sqs", "DeleteMessage", map[string]any{"A": 1}, "A"},
		{"an operation nobody knows", "sqs", "CreateQueue", nil, "CreateQueue"},
	} {
		t.Run(row.reason, func(t *testing.T) {
			_, err := MustLoad(row.service).Encode(row.operation, row.result, "r")
			if err == nil || !strings.Contains(err.Error(), row.names) {
				t.Errorf("got %v, want an error that names %s", err, row.names)
			}
		})
	}
}

func TestEncodeBodies(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 250e6, time.UTC)
	for _, row := range []struct {
		reason, service, operation string
		result                     map[string]any
		body                       string
	}{
		{"EC2's lists and names", "ec2", "DescribeInstances", map[string]any{"Reservations": []map[string]any{{"Instances": []any{map[string]any{
			"InstanceId": "i-1", "LaunchTime": at, "EbsOptimized": false, "State": map[string]any{"Code": 16, "Name": "running"}}}}}},
			`<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>r</requestId><reservationSet><item><instancesSet><item>` +
				`<ebsOptimized>false</ebsOptimized><instanceId>i-1</instanceId><launchTime>2026-01-02T03:04:05.250Z</launchTime>` +
				`<instanceState><code>16</code><name>running</name></instanceState></item></instancesSet></item></reservationSet></DescribeInstancesResponse>`},
		{"an EC2 operation without a result", "ec2", "DeleteTags", nil,
			`<DeleteTagsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>r</requestId><return>true</return></DeleteTagsResponse>`},
		{"the query protocol's wrapping", "sns", "Publish", map[string]any{"MessageId": "m<"},
			`<PublishResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><PublishResult><MessageId>m&lt;</MessageId></PublishResult>` +
				`<ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></PublishResponse>`},
		{"JSON's times are numbers", "states", "StartExecution", map[string]any{"executionArn": "arn", "startDate": at},
			`{"executionArn":"arn","startDate":1767323045.250}`},
		{"nothing is an empty object", "sqs", "DeleteMessage", nil, `{}`},
		{"a payload is the whole body", "lambda", "Invoke", map[string]any{"StatusCode": 200, "Payload": []byte(`{"ok":true}`)}, `{"ok":true}`},
	} {
		t.Run(row.reason, func(t *testing.T) {
			answer, err := MustLoad(row.service).Encode(row.operation, row.result, "r")
			if err != nil {
				t.Fatal(err)
			}
			got := strings.TrimPrefix(string(answer.Body), `<?xml version="1.0" encoding="UTF-8"?>`+"\n")
			if got != row.body {
				t.Errorf("got\n%s\nwant\n%s", got, row.body)
			}
		})
	}
}

func TestEncodeError(t *testing.T) {
	for _, row := range []struct {
		service, code string
		status        int
		wants         []string
	}{
		{"ec2", "InvalidVpcID.NotFound", 400, []string{"<Response><Errors><Error><Code>InvalidVpcID.NotFound</Code><Message>why</Message></Error></Errors><RequestID>r</RequestID></Response>"}},
		{"sns", "NotFound", 400, []string{"<ErrorResponse", "<Type>Sender</Type><Code>NotFound</Code>"}},
		{"s3", "NoSuchKey", 404, []string{"<Error><Code>NoSuchKey</Code>"}},
		{"scheduler", "ConflictException", 409, []string{`{"Message":"why"}`}},
		{"states", "ExecutionAlreadyExists", 400, []string{`"__type":"ExecutionAlreadyExists"`, `"message":"why"`}},
	} {
		answer := MustLoad(row.service).EncodeError(row.code, "why", "r", 0)
		if answer.Status != row.status {
			t.Errorf("%s %s: status %d, want %d", row.service, row.code, answer.Status, row.status)
		}
		for _, want := range row.wants {
			if !strings.Contains(string(answer.Body), want) {
				t.Errorf("%s %s: %s lacks %s", row.service, row.code, answer.Body, want)
			}
		}
	}
}
