package model

import (
	"errors"
	"net/http/httptest"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// form is an EC2 request's body, written as one parameter a word.
func form(action string, params ...string) string {
	values := url.Values{"Action": {action}, "Version": {"2016-11-15"}}
	for _, p := range params {
		key, value, _ := strings.Cut(p, "=")
		values.Set(key, value)
	}
	return values.Encode()
}

func decodeForm(t *testing.T, service, body string) (*Call, error) {
	t.Helper()
	r := httptest.NewRequest("POST", "/", nil)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return MustLoad(service).Decode(r, []byte(body))
}

func TestDecodeEC2(t *testing.T) {
	call, err := decodeForm(t, "ec2", form("RunInstances", "MinCount=1", "MaxCount=1", "InstanceType=c7gn.large",
		"SubnetId=subnet-1", "EbsOptimized=true", "UserData=aGVsbG8=", "SecurityGroupId.1=sg-1", "SecurityGroupId.2=sg-2",
		"TagSpecification.1.ResourceType=instance", "TagSpecification.1.Tag.1.Key=case", "TagSpecification.1.Tag.1.Value=7",
		"NetworkInterface.1.DeviceIndex=0", "NetworkInterface.1.PrivateIpAddresses.1.PrivateIpAddress=10.0.0.9",
		"InstanceMarketOptions.SpotOptions.ValidUntil=2026-01-02T03:04:05Z"))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"MinCount": int64(1), "MaxCount": int64(1), "InstanceType": "c7gn.large", "SubnetId": "subnet-1",
		"EbsOptimized": true, "UserData": "aGVsbG8=", "SecurityGroupIds": []any{"sg-1", "sg-2"},
		"TagSpecifications": []any{map[string]any{"ResourceType": "instance",
			"Tags": []any{map[string]any{"Key": "case", "Value": "7"}}}},
		"NetworkInterfaces": []any{map[string]any{"DeviceIndex": int64(0),
			"PrivateIpAddresses": []any{map[string]any{"PrivateIpAddress": "10.0.0.9"}}}},
		"InstanceMarketOptions": map[string]any{"SpotOptions": map[string]any{"ValidUntil": time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}},
	}
	if !reflect.DeepEqual(call.Params, want) {
		t.Errorf("decoded\n%v\nwant\n%v", call.Params, want)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, row := range []struct {
		reason     string
		kind       Kind
		code, path string
		body       string
	}{
		{"an operation nobody knows", UnknownOperation, "InvalidAction", "", form("LaunchRocket")},
		{"no operation", UnknownOperation, "InvalidAction", "", "Version=2016-11-15"},
		{"another API version", InvalidValue, "InvalidParameterValue", "Version", "Action=DescribeVpcs&Version=2014-01-01"},
		{"a body that is no form", Malformed, "MalformedQueryString", "", "Action=%zz"},
		{"a misspelled parameter", UnknownParameter, "UnknownParameter", "SubnetID", form("RunInstances", "MinCount=1", "MaxCount=1", "SubnetID=subnet-1")},
		{"a misspelled nested parameter", UnknownParameter, "UnknownParameter", "TagSpecification.1.Tag.1.Keys",
			form("CreateTrafficMirrorFilter", "TagSpecification.1.Tag.1.Keys=a")},
		{"the SDK's name in place of the wire's", UnknownParameter, "UnknownParameter", "TagSpecifications",
			form("CreateTrafficMirrorFilter", "TagSpecifications.1.ResourceType=traffic-mirror-filter")},
		{"a missing required parameter", MissingParameter, "MissingParameter", "MaxCount", form("RunInstances", "MinCount=1")},
		{"a required member of a list's structure", MissingParameter, "MissingParameter", "TrafficMirrorFilterId", form("DeleteTrafficMirrorFilter")},
		{"a word where a number is wanted", InvalidValue, "InvalidParameterValue", "MinCount", form("RunInstances", "MinCount=one", "MaxCount=1")},
		{"a number past 32 bits", InvalidValue, "InvalidParameterValue", "MinCount", form("RunInstances", "MinCount=4294967296", "MaxCount=1")},
		{"a boolean of another language", InvalidValue, "InvalidParameterValue", "DryRun", form("DescribeVpcs", "DryRun=yes")},
		{"a value outside the enumeration", InvalidValue, "InvalidParameterValue", "TrafficDirection",
			form("CreateTrafficMirrorFilterRule", "TrafficMirrorFilterId=tmf-1", "TrafficDirection=sideways", "RuleNumber=1", "RuleAction=accept", "SourceCidrBlock=0.0.0.0/0", "DestinationCidrBlock=0.0.0.0/0")},
		{"an instance type nobody sells", InvalidValue, "InvalidParameterValue", "InstanceType", form("RunInstances", "MinCount=1", "MaxCount=1", "InstanceType=z9.huge")},
		{"a list that starts at 0", UnknownParameter, "UnknownParameter", "InstanceId.0", form("TerminateInstances", "InstanceId.0=i-1")},
		{"a list with a gap", UnknownParameter, "UnknownParameter", "InstanceId.3", form("TerminateInstances", "InstanceId.1=i-1", "InstanceId.3=i-2")},
		{"a single value where a list is wanted", InvalidValue, "InvalidParameterValue", "InstanceId", form("TerminateInstances", "InstanceId=i-1")},
		{"a nested value where a single one is wanted", InvalidValue, "InvalidParameterValue", "MinCount", form("RunInstances", "MinCount.1=1", "MaxCount=1")},
		{"a page beyond the largest", InvalidValue, "InvalidParameterValue", "MaxResults", form("DescribeTrafficMirrorSessions", "MaxResults=5000")},
		{"a parameter given twice", Malformed, "MalformedQueryString", "DryRun", form("DescribeVpcs", "DryRun=true") + "&DryRun=true"},
	} {
		t.Run(row.reason, func(t *testing.T) {
			_, err := decodeForm(t, "ec2", row.body)
			var v *Violation
			if !errors.As(err, &v) {
				t.Fatalf("got %v, want a violation", err)
			}
			if v.Kind != row.kind || v.Path != row.path || v.Code() != row.code {
				t.Errorf("got %q %q %q (%v), want %q %q %q", v.Kind, v.Path, v.Code(), v, row.kind, row.path, row.code)
			}
		})
	}
}

func TestDecodeQueryWithWrappedListsAndMaps(t *testing.T) {
	call, err := decodeForm(t, "sns", "Action=Publish&Version=2010-03-31&TopicArn=t&Message=m"+
		"&MessageAttributes.entry.1.Name=kind&MessageAttributes.entry.1.Value.DataType=String&MessageAttributes.entry.1.Value.StringValue=x")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"TopicArn": "t", "Message": "m",
		"MessageAttributes": map[string]any{"kind": map[string]any{"DataType": "String", "StringValue": "x"}}}
	if !reflect.DeepEqual(call.Params, want) {
		t.Errorf("decoded %v, want %v", call.Params, want)
	}
	call, err = decodeForm(t, "cloudwatch", "Action=PutMetricData&Version=2010-08-01&Namespace=a"+
		"&MetricData.member.1.MetricName=m&MetricData.member.1.Value=2.5&MetricData.member.2.MetricName=n")
	if err != nil {
		t.Fatal(err)
	}
	want = map[string]any{"Namespace": "a", "MetricData": []any{
		map[string]any{"MetricName": "m", "Value": 2.5}, map[string]any{"MetricName": "n"}}}
	if !reflect.DeepEqual(call.Params, want) {
		t.Errorf("decoded %v, want %v", call.Params, want)
	}
	if _, err := decodeForm(t, "cloudwatch", "Action=PutMetricData&Version=2010-08-01&Namespace=a&MetricData.1.MetricName=m"); err == nil {
		t.Error("a list without its member step was accepted")
	}
}

func TestDecodeJSON(t *testing.T) {
	const target = "AmazonSSM.GetParameter"
	for _, row := range []struct {
		reason, target, contentType, body string
		want                              map[string]any
		kind                              Kind
	}{
		{"a plain request", target, "", `{"Name":"/a","WithDecryption":true}`, map[string]any{"Name": "/a", "WithDecryption": true}, ""},
		{"null counts as absent", target, "", `{"Name":"/a","WithDecryption":null}`, map[string]any{"Name": "/a"}, ""},
		{"another service's target", "AmazonSQS.SendMessage", "", `{}`, nil, UnknownOperation},
		{"an unlisted operation", "AmazonSSM.PutParameter", "", `{}`, nil, UnknownOperation},
		{"a member in the wrong case", target, "", `{"name":"/a"}`, nil, UnknownParameter},
		{"a missing name", target, "", `{}`, nil, MissingParameter},
		{"an empty name", target, "", `{"Name":""}`, nil, InvalidValue},
		{"a number for a name", target, "", `{"Name":1}`, nil, InvalidValue},
		{"a list for an object", target, "", `[]`, nil, InvalidValue},
		{"two values", target, "", `{"Name":"/a"}{}`, nil, Malformed},
		{"half a value", target, "", `{"Name":`, nil, Malformed},
		{"another content type", target, "application/json", `{"Name":"/a"}`, nil, Malformed},
	} {
		t.Run(row.reason, func(t *testing.T) {
			r := httptest.NewRequest("POST", "/", nil)
			r.Header.Set("X-Amz-Target", row.target)
			r.Header.Set("Content-Type", "application/x-amz-json-1.1")
			if row.contentType != "" {
				r.Header.Set("Content-Type", row.contentType)
			}
			expect(t, "ssm", r, row.body, row.want, row.kind)
		})
	}
}

func TestDecodeREST(t *testing.T) {
	const window = `"FlexibleTimeWindow":{"Mode":"OFF"},"ScheduleExpression":"rate(5 minutes)","Target":{"Arn":"arn:aws:lambda:us-east-1:123456789012:function:f","RoleArn":"arn:aws:iam::123456789012:role/r"}`
	target := map[string]any{"Arn": "arn:aws:lambda:us-east-1:123456789012:function:f", "RoleArn": "arn:aws:iam::123456789012:role/r"}
	for _, row := range []struct {
		reason, service, method, uri, header, body string
		want                                       map[string]any
		kind                                       Kind
	}{
		{"a schedule", "scheduler", "POST", "/schedules/eni-1", "", `{"StartDate":1700000000,` + window + `}`, map[string]any{
			"Name": "eni-1", "StartDate": time.Unix(1700000000, 0).UTC(), "FlexibleTimeWindow": map[string]any{"Mode": "OFF"},
			"ScheduleExpression": "rate(5 minutes)", "Target": target}, ""},
		{"a schedule's name with a space", "scheduler", "POST", "/schedules/eni%201", "", `{` + window + `}`, nil, InvalidValue},
		{"a time window nobody knows", "scheduler", "POST", "/schedules/eni-1", "", `{"FlexibleTimeWindow":{"Mode":"MAYBE"}}`, nil, MissingParameter},
		{"a group in the query", "scheduler", "DELETE", "/schedules/eni-1?groupName=g&clientToken=t", "", "", map[string]any{
			"Name": "eni-1", "GroupName": "g", "ClientToken": "t"}, ""},
		{"an unknown query parameter", "scheduler", "GET", "/schedules/eni-1?group=g", "", "", nil, UnknownParameter},
		{"a list of schedules", "scheduler", "GET", "/schedules?ScheduleGroup=g&MaxResults=5", "", "", map[string]any{"GroupName": "g", "MaxResults": int64(5)}, ""},
		{"a path nobody serves", "scheduler", "GET", "/plans", "", "", nil, UnknownOperation},
		{"a function's payload", "lambda", "POST", "/2015-03-31/functions/arn:aws:lambda:us-east-1:123456789012:function:f/invocations",
			"X-Amz-Invocation-Type: Event", `{"a":1}`, map[string]any{"FunctionName": "arn:aws:lambda:us-east-1:123456789012:function:f",
				"InvocationType": "Event", "Payload": []byte(`{"a":1}`)}, ""},
		{"a header nobody knows", "lambda", "POST", "/2015-03-31/functions/f/invocations", "X-Amz-Invocation: Event", `{}`, nil, UnknownParameter},
		{"an object with its digest", "s3", "PUT", "/b/a/key%20with/parts?x-id=PutObject", "X-Amz-Checksum-Sha256: abc=", "data", map[string]any{
			"Bucket": "b", "Key": "a/key with/parts", "ChecksumSHA256": "abc=", "Body": []byte("data")}, ""},
		{"an object's metadata", "s3", "PUT", "/b/k", "X-Amz-Meta-Case: 7", "", map[string]any{
			"Bucket": "b", "Key": "k", "Metadata": map[string]any{"case": "7"}, "Body": []byte("")}, ""},
		{"the attributes, not the object", "s3", "GET", "/b/k?attributes", "X-Amz-Object-Attributes: ETag,Checksum", "", map[string]any{
			"Bucket": "b", "Key": "k", "ObjectAttributes": []any{"ETag", "Checksum"}}, ""},
		{"a listing", "s3", "GET", "/b/?list-type=2&prefix=captures%2F", "", "", map[string]any{"Bucket": "b", "Prefix": "captures/"}, ""},
		{"an unlisted subresource", "s3", "GET", "/b/k?acl", "", "", nil, UnknownParameter},
		{"a legal hold", "s3", "PUT", "/b/k?legal-hold", "", `<LegalHold xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Status>ON</Status></LegalHold>`,
			map[string]any{"Bucket": "b", "Key": "k", "LegalHold": map[string]any{"Status": "ON"}}, ""},
		{"a legal hold half on", "s3", "PUT", "/b/k?legal-hold", "", `<LegalHold><Status>HALF</Status></LegalHold>`, nil, InvalidValue},
		{"a legal hold of another make", "s3", "PUT", "/b/k?legal-hold", "", `<LegalHold><State>ON</State></LegalHold>`, nil, UnknownParameter},
		{"a hold that is no XML", "s3", "PUT", "/b/k?legal-hold", "", `{}`, nil, Malformed},
	} {
		t.Run(row.reason, func(t *testing.T) {
			r := httptest.NewRequest(row.method, row.uri, nil)
			if key, value, ok := strings.Cut(row.header, ": "); ok {
				r.Header.Set(key, value)
			}
			expect(t, row.service, r, row.body, row.want, row.kind)
		})
	}
}

// The patterns which Go's regular expressions cannot hold are known by name, so
// that a newer model cannot silently add to them.
func TestPatternsThatCannotBeChecked(t *testing.T) {
	known := []string{"scheduler.Source"}
	var found []string
	for _, name := range Names() {
		s := MustLoad(name)
		for _, shapeName := range sortedKeys(s.Shapes) {
			if sh := s.Shapes[shapeName]; sh.Pattern != "" && sh.pattern == nil {
				found = append(found, name+"."+shapeName)
			}
		}
	}
	if !slices.Equal(found, known) {
		t.Errorf("patterns that do not compile: %v, known are %v", found, known)
	}
}

func TestEveryListedOperationIsThere(t *testing.T) {
	text, err := os.ReadFile("operations.txt")
	if err != nil {
		t.Fatal(err)
	}
	var service *Service
	seen := 0
	for line := range strings.Lines(string(text)) {
		for _, word := range strings.Fields(line) {
			if strings.HasPrefix(word, "#") {
				break
			}
			if word == strings.ToLower(word) {
				service = MustLoad(word)
				continue
			}
			seen++
			if service.Operations[word] == nil {
				t.Errorf("%s has no %s", service.Name, word)
			}
		}
	}
	if seen < 90 {
		t.Errorf("operations.txt lists only %d operations", seen)
	}
}

func TestLoadBySigningName(t *testing.T) {
	for signing, name := range map[string]string{"states": "stepfunctions", "monitoring": "cloudwatch", "ec2": "ec2"} {
		s, err := Load(signing)
		if err != nil || s.Name != name || s.SigningName != signing {
			t.Errorf("Load(%q) = %v, %v; want %s", signing, s, err, name)
		}
	}
	if _, err := Load("../data/ec2x"); err == nil {
		t.Error("a service that is not there was loaded")
	}
}
