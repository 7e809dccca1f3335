package region_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	eventtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"
	schedulertypes "github.com/aws/aws-sdk-go-v2/service/scheduler/types"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"flashtap/testutil/region"
	regionec2 "flashtap/testutil/region/ec2"
	"flashtap/testutil/region/queue"
)

const bucket = "evidence"

func withBucket(t *testing.T) (*region.Region, *s3.Client) {
	t.Helper()
	r := start(t, region.Config{})
	must(t, r.S3.CreateBucket(t.Context(), bucket))
	return r, s3.NewFromConfig(client(r, "tester"))
}

func put(ctx context.Context, c *s3.Client, key, body string, options ...func(*s3.PutObjectInput)) error {
	in := &s3.PutObjectInput{Bucket: aws.String(bucket), Key: &key, Body: strings.NewReader(body)}
	for _, change := range options {
		change(in)
	}
	_, err := c.PutObject(ctx, in)
	return err
}

func createOnly(in *s3.PutObjectInput) { in.IfNoneMatch = aws.String("*") }

func digestOf(body string) func(*s3.PutObjectInput) {
	sum := sha256.Sum256([]byte(body))
	return func(in *s3.PutObjectInput) {
		in.ChecksumSHA256 = aws.String(base64.StdEncoding.EncodeToString(sum[:]))
	}
}

// The unmodified SDK, set up by Environ's variables alone: one round trip with each service, and a refusal with its code.
func TestTheSDKSpeaksToEveryService(t *testing.T) {
	r := start(t, region.Config{Account: "111122223333", Name: "eu-central-1"})
	ctx := t.Context()
	for name, value := range r.Environ("sdk-round-trip") {
		t.Setenv(name, value)
	}
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	cfg, err := config.LoadDefaultConfig(ctx)
	must(t, err)
	must(t, r.S3.CreateBucket(ctx, bucket))
	vpc := r.EC2.AddVPC(regionec2.VPC{CIDR: "127.9.0.0/16"})
	_, err = r.Queues.Create(queue.Queue{Name: "jobs"})
	must(t, err)
	machine, err := r.CreateStateMachine("wait", []byte(`{"StartAt": "A", "States": {"A": {"Type": "Pass", "Result": {"is": "done"}, "Next": "B"}, "B": {"Type": "Succeed"}}}`), nil)
	must(t, err)

	t.Run("ec2", func(t *testing.T) {
		api := ec2.NewFromConfig(cfg)
		out, err := api.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{})
		must(t, err)
		equal(t, "VPCs", []string{*out.Vpcs[0].VpcId, *out.Vpcs[0].CidrBlock, *out.Vpcs[0].OwnerId}, []string{vpc, "127.9.0.0/16", "111122223333"})
		_, err = api.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{"i-0123456789abcdef0"}})
		equal(t, "code", code(err), "InvalidInstanceID.NotFound")
		equal(t, "calls", calls(r, "DescribeInstances"), []string{"sdk-round-trip DescribeInstances InvalidInstanceID.NotFound"})
	})
	t.Run("s3", func(t *testing.T) {
		api := s3.NewFromConfig(cfg)
		const key = "captures/2026:1 ü/one.pcap"
		must(t, put(ctx, api, key, "frames", createOnly, digestOf("frames")))
		got, err := api.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String(key), ChecksumMode: s3types.ChecksumModeEnabled})
		must(t, err)
		body, err := io.ReadAll(got.Body)
		must(t, errors.Join(err, got.Body.Close()))
		equal(t, "body", string(body), "frames")
		list, err := api.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: aws.String(bucket), Prefix: aws.String("captures/")})
		must(t, err)
		equal(t, "keys", []any{len(list.Contents), *list.Contents[0].Key}, []any{1, key})
		_, err = api.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String("two")})
		equal(t, "code of a GET", code(err), "NoSuchKey")
		_, err = api.HeadObject(ctx, &s3.HeadObjectInput{Bucket: aws.String(bucket), Key: aws.String("two")})
		equal(t, "code of a HEAD", code(err), "NotFound")
		equal(t, "gets", calls(r, "GetObject"), []string{"sdk-round-trip GetObject", "sdk-round-trip GetObject NoSuchKey"})
		equal(t, "heads", calls(r, "HeadObject"), []string{"sdk-round-trip HeadObject NotFound"})
	})
	t.Run("scheduler", func(t *testing.T) {
		api := scheduler.NewFromConfig(cfg)
		in := &scheduler.CreateScheduleInput{Name: aws.String("guard"), ScheduleExpression: aws.String("rate(5 minutes)"), StartDate: aws.Time(time.Now().Add(time.Hour)),
			FlexibleTimeWindow: &schedulertypes.FlexibleTimeWindow{Mode: schedulertypes.FlexibleTimeWindowModeOff},
			Target:             &schedulertypes.Target{Arn: aws.String("arn:aws:lambda:eu-central-1:111122223333:function:x"), RoleArn: aws.String("arn:aws:iam::111122223333:role/x"), Input: aws.String("{}")}}
		_, err := api.CreateSchedule(ctx, in)
		must(t, err)
		out, err := api.GetSchedule(ctx, &scheduler.GetScheduleInput{Name: in.Name})
		must(t, err)
		equal(t, "ARN", *out.Arn, "arn:aws:scheduler:eu-central-1:111122223333:schedule/default/guard")
		in.ClientToken = aws.String("another")
		_, err = api.CreateSchedule(ctx, in)
		equal(t, "code of a second one", code(err), "ConflictException")
		_, err = api.GetSchedule(ctx, &scheduler.GetScheduleInput{Name: aws.String("nobody")})
		var missing *schedulertypes.ResourceNotFoundException
		if !errors.As(err, &missing) {
			t.Errorf("an unknown schedule: %v", err)
		}
	})
	t.Run("sqs", func(t *testing.T) {
		api := sqs.NewFromConfig(cfg)
		url, err := api.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: aws.String("jobs")})
		must(t, err)
		_, err = api.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: url.QueueUrl, MessageBody: aws.String("finding")})
		must(t, err)
		got, err := api.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: url.QueueUrl, WaitTimeSeconds: 5})
		must(t, err)
		equal(t, "body", *got.Messages[0].Body, "finding")
		_, err = api.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: url.QueueUrl, ReceiptHandle: got.Messages[0].ReceiptHandle})
		must(t, err)
		_, err = api.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: aws.String("nobody")})
		var missing *sqstypes.QueueDoesNotExist
		if !errors.As(err, &missing) {
			t.Errorf("an unknown queue: %v", err)
		}
	})
	t.Run("sfn", func(t *testing.T) {
		api := sfn.NewFromConfig(cfg)
		started, err := api.StartExecution(ctx, &sfn.StartExecutionInput{StateMachineArn: &machine, Name: aws.String("one"), Input: aws.String(`{"a":1}`)})
		must(t, err)
		equal(t, "ARN", *started.ExecutionArn, "arn:aws:states:eu-central-1:111122223333:execution:wait:one")
		r.Execution("one").Wait()
		out, err := api.DescribeExecution(ctx, &sfn.DescribeExecutionInput{ExecutionArn: started.ExecutionArn})
		must(t, err)
		equal(t, "execution", []string{string(out.Status), *out.Input, *out.Output}, []string{"SUCCEEDED", `{"a":1}`, `{"is":"done"}`})
		_, err = api.DescribeExecution(ctx, &sfn.DescribeExecutionInput{ExecutionArn: aws.String(*started.ExecutionArn + "x")})
		equal(t, "code", code(err), "ExecutionDoesNotExist")
	})
	t.Run("eventbridge", func(t *testing.T) {
		var heard atomic.Int32
		r.Listen(func(event []byte) {
			if bytes.Contains(event, []byte(`"source":"flashing"`)) {
				heard.Add(1)
			}
		})
		api := eventbridge.NewFromConfig(cfg)
		entry := func(source, detail string) eventtypes.PutEventsRequestEntry {
			return eventtypes.PutEventsRequestEntry{Source: &source, DetailType: aws.String("Capture Sealed"), Detail: &detail}
		}
		out, err := api.PutEvents(ctx, &eventbridge.PutEventsInput{Entries: []eventtypes.PutEventsRequestEntry{
			entry("flashing", `{"capture": "one"}`), entry("aws.ec2", `{}`), entry("flashing", `[1]`), entry("flashing", `{"a":`), entry("flashing", `null`), {Detail: aws.String("{}")},
		}})
		must(t, err)
		var codes []string
		for _, e := range out.Entries {
			codes = append(codes, aws.ToString(e.ErrorCode))
		}
		equal(t, "codes", codes, []string{"", "NotAuthorizedForSourceException", "MalformedDetail", "MalformedDetail", "MalformedDetail", "InvalidArgument"})
		equal(t, "failed and heard", []int32{out.FailedEntryCount, heard.Load()}, []int32{5, 1})
	})
	t.Run("sts", func(t *testing.T) {
		out, err := sts.NewFromConfig(cfg).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
		must(t, err)
		equal(t, "account", *out.Account, "111122223333")
	})
	for _, c := range r.Calls() {
		if c.Principal != "sdk-round-trip" || c.At.IsZero() || c.Service == "" || c.Operation == "" || c.Params == nil {
			t.Errorf("a call is not wholly recorded: %+v", c)
		}
	}
}

// signed sends a request that no SDK would make.
func signed(t *testing.T, r *region.Region, service, signRegion, method, path string, header http.Header, body string) (status int, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, r.Endpoint()+path, strings.NewReader(body))
	must(t, err)
	for name, values := range header {
		req.Header[name] = values
	}
	req.Header.Set("User-Agent", "by-hand app/stranger")
	key, secret := r.S3.Credentials()
	sum := sha256.Sum256([]byte(body))
	req.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(sum[:]))
	must(t, v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{AccessKeyID: key, SecretAccessKey: secret}, req, hex.EncodeToString(sum[:]), service, signRegion, time.Now()))
	return send(t, req)
}

func send(t *testing.T, req *http.Request) (status int, answer string) {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	must(t, err)
	text, err := io.ReadAll(resp.Body)
	must(t, errors.Join(err, resp.Body.Close()))
	return resp.StatusCode, string(text)
}

func TestWhatLeavesTheModelIsRefusedAndRecorded(t *testing.T) {
	form := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	json := func(target string) http.Header {
		return http.Header{"Content-Type": {"application/x-amz-json-1.0"}, "X-Amz-Target": {target}}
	}
	for _, row := range []struct {
		name          string
		service       string
		method, path  string
		header        http.Header
		body          string
		status        int
		answer, noted string
	}{
		{"an operation that does not exist", "ec2", "POST", "/", form, "Action=CreateTrafficMirrorMirror&Version=2016-11-15", 400, "<Code>InvalidAction</Code>", "CreateTrafficMirrorMirror"},
		{"a parameter that does not exist", "ec2", "POST", "/", form, "Action=DescribeVpcs&Version=2016-11-15&Colour=red", 400, "<Code>UnknownParameter</Code>", "Colour"},
		{"a parameter that is missing", "ec2", "POST", "/", form, "Action=DeleteTrafficMirrorSession&Version=2016-11-15", 400, "<Code>MissingParameter</Code>", "TrafficMirrorSessionId"},
		{"a value outside its enumeration", "ec2", "POST", "/", form,
			"Action=CreateTrafficMirrorFilterRule&Version=2016-11-15&TrafficMirrorFilterId=tmf-0&TrafficDirection=sideways&RuleNumber=1&RuleAction=accept&SourceCidrBlock=0.0.0.0/0&DestinationCidrBlock=0.0.0.0/0",
			400, "<Code>InvalidParameterValue</Code>", "sideways"},
		{"a member that does not exist, in JSON", "states", "POST", "/", json("AWSStepFunctions.ListExecutions"), `{"machine": "x"}`, 400, "SerializationException", "machine"},
		{"a bucket's policy, which nobody here may write", "s3", "PUT", "/evidence?policy=", nil, "{}", 400, "<Code>", "PUT"},
		{"a list of buckets", "s3", "GET", "/", nil, "", 400, "<Code>", "GET"},
		{"a service that is not here", "dynamodb", "POST", "/", nil, "{}", 501, "dynamodb", "dynamodb"},
		{"a service that is known and not here", "ssm", "POST", "/", http.Header{"Content-Type": {"application/x-amz-json-1.1"}, "X-Amz-Target": {"AmazonSSM.GetParameter"}}, `{"Name": "x"}`, 500, "ssm.GetParameter", "ssm.GetParameter"},
		{"a body larger than any service takes", "ec2", "POST", "/", form, "Action=" + strings.Repeat("x", 9<<20), 413, "body", "body"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			r := start(t, region.Config{})
			status, answer := signed(t, r, row.service, "us-east-1", row.method, row.path, row.header, row.body)
			if status != row.status || !strings.Contains(answer, row.answer) {
				t.Errorf("answered %d: %s", status, answer)
			}
			if noted := violations(t, r, 1)[0].Error(); !strings.Contains(noted, row.noted) {
				t.Errorf("noted: %s", noted)
			}
		})
	}
	t.Run("the SDK's principal is named", func(t *testing.T) {
		t.Parallel()
		r := start(t, region.Config{})
		_, err := ec2.NewFromConfig(client(r, "mirror")).CreateTrafficMirrorFilter(t.Context(), &ec2.CreateTrafficMirrorFilterInput{
			TagSpecifications: []ec2types.TagSpecification{{ResourceType: "traffic-mirror-lens"}}})
		equal(t, "code", code(err), "InvalidParameterValue")
		if noted := violations(t, r, 1)[0].Error(); !strings.HasPrefix(noted, "mirror: ") {
			t.Errorf("noted: %s", noted)
		}
	})
}

func TestSignatures(t *testing.T) {
	r, api := withBucket(t)
	ctx := t.Context()
	key, secret := r.S3.Credentials()
	must(t, put(ctx, api, "one", "frames"))
	for _, row := range []struct {
		name, key, secret, region, code string
	}{
		{"a wrong secret", key, secret + "x", "us-east-1", "SignatureDoesNotMatch"},
		{"an unknown key", "AKIAIOSFODNN7NOBODYS", secret, "us-east-1", "InvalidAccessKeyId"},
		{"another Region", key, secret, "eu-central-1", "AuthorizationHeaderMalformed"},
	} {
		cfg := client(r, "forger")
		cfg.Region, cfg.Credentials = row.region, credentials.NewStaticCredentialsProvider(row.key, row.secret, "")
		err := put(ctx, s3.NewFromConfig(cfg), "two", "frames")
		var answer *smithyhttp.ResponseError
		if code(err) != row.code || !errors.As(err, &answer) || row.code != "AuthorizationHeaderMalformed" && answer.HTTPStatusCode() != http.StatusForbidden {
			t.Errorf("%s: %v", row.name, err)
		}
	}
	equal(t, "recorded", calls(r, "PutObject"), []string{"tester PutObject", "forger PutObject SignatureDoesNotMatch",
		"forger PutObject AuthorizationHeaderMalformed"})

	cfg := client(r, "lost")
	cfg.Region = "eu-central-1"
	_, err := ec2.NewFromConfig(cfg).DescribeVpcs(ctx, &ec2.DescribeVpcsInput{})
	if code(err) == "none" || code(err) == "" {
		t.Errorf("a client of another Region was answered: %v", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.Endpoint()+"/evidence/one", nil)
	must(t, err)
	if status, _ := send(t, req); status != http.StatusForbidden {
		t.Errorf("an unsigned request is answered %d", status)
	}
	violations(t, r, 2)
}

// What the product's evidence rests on, through the edge as on the direct way.
func TestS3RefusesThroughTheEdge(t *testing.T) {
	r, api := withBucket(t)
	ctx := t.Context()
	must(t, put(ctx, api, "one", "frames", createOnly, digestOf("frames")))
	equal(t, "a second create-only PUT", code(put(ctx, api, "one", "others", createOnly, digestOf("others"))), "PreconditionFailed")
	equal(t, "a body with another digest", code(put(ctx, api, "two", "framez", digestOf("frames"))), "BadDigest")
	_, err := r.S3.Client().PutObjectLegalHold(ctx, &s3.PutObjectLegalHoldInput{Bucket: aws.String(bucket), Key: aws.String("one"),
		LegalHold: &s3types.ObjectLockLegalHold{Status: s3types.ObjectLockLegalHoldStatusOn}})
	must(t, err)
	head, err := api.HeadObject(ctx, &s3.HeadObjectInput{Bucket: aws.String(bucket), Key: aws.String("one")})
	must(t, err)
	_, err = api.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: aws.String(bucket), Key: aws.String("one"), VersionId: head.VersionId})
	equal(t, "deleting a held version", code(err), "AccessDenied")
	equal(t, "recorded", calls(r, "PutObject"), []string{"tester PutObject", "tester PutObject PreconditionFailed", "tester PutObject BadDigest"})
	equal(t, "recorded", calls(r, "DeleteObject"), []string{"tester DeleteObject AccessDenied"})

	large := strings.Repeat("0123456789abcdef", 10<<16)
	must(t, put(ctx, api, "large", large, digestOf(large)))
	got, err := api.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String("large")})
	must(t, err)
	defer got.Body.Close()
	if text, err := io.ReadAll(got.Body); err != nil || string(text) != large {
		t.Errorf("10 MiB came back as %d bytes, %v", len(text), err)
	}
	must(t, s3make(ctx, api, "made-through-the-edge"))
}

func s3make(ctx context.Context, api *s3.Client, name string) error {
	_, err := api.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &name})
	return err
}

// subject is a call of one service, and whether it took effect.
type subject struct {
	service, operation string
	call               func(ctx context.Context) error
	effects            func() int
}

func subjects(t *testing.T, r *region.Region, api *s3.Client) []subject {
	cfg := client(r, "tester")
	machines, err := r.CreateStateMachine("pass", []byte(`{"StartAt": "A", "States": {"A": {"Type": "Succeed"}}}`), nil)
	must(t, err)
	var n atomic.Int32
	return []subject{
		{"ec2", "CreateTrafficMirrorFilter", func(ctx context.Context) error {
			_, err := ec2.NewFromConfig(cfg).CreateTrafficMirrorFilter(ctx, &ec2.CreateTrafficMirrorFilterInput{})
			return err
		}, func() int { return len(r.EC2.Left()) }},
		{"s3", "PutObject", func(ctx context.Context) error {
			return put(ctx, api, fmt.Sprint("object-", n.Add(1)), "frames", createOnly)
		}, func() int {
			out, err := r.S3.Client().ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String(bucket)})
			must(t, err)
			return len(out.Contents)
		}},
		{"states", "StartExecution", func(ctx context.Context) error {
			_, err := sfn.NewFromConfig(cfg).StartExecution(ctx, &sfn.StartExecutionInput{StateMachineArn: &machines})
			return err
		}, func() int { return len(r.Executions()) }},
	}
}

func TestFaults(t *testing.T) {
	r, api := withBucket(t)
	for _, s := range subjects(t, r, api) {
		for _, row := range []struct {
			name     string
			fault    *region.Fault
			code     string // as the caller sees it; "" for a broken connection
			recorded string
			status   int
			effect   int
		}{
			{"none", nil, "none", "", 0, 1},
			{"refused", &region.Fault{Code: "AccessDenied", Status: 403}, "AccessDenied", "AccessDenied", 403, 0},
			{"refused, with words", &region.Fault{Code: "AccessDenied", Message: "by a boundary"}, "AccessDenied", "AccessDenied", 400, 0},
			{"throttled", &region.Fault{Code: "RequestLimitExceeded"}, "RequestLimitExceeded", "RequestLimitExceeded", 503, 0},
			{"dropped before it took effect", &region.Fault{Drop: true}, "", region.Dropped, 0, 0},
			{"its answer lost", &region.Fault{Drop: true, After: true}, "", region.Dropped, 0, 1},
			{"an error after it took effect", &region.Fault{Code: "InternalError", Status: 500, After: true}, "InternalError", "InternalError", 500, 1},
			{"slow", &region.Fault{Latency: 80 * time.Millisecond}, "none", "", 0, 1},
			{"slow and late", &region.Fault{Latency: 80 * time.Millisecond, After: true}, "none", "", 0, 1},
		} {
			t.Run(s.service+" "+row.name, func(t *testing.T) {
				before, recorded := s.effects(), len(calls(r, s.operation))
				r.Inject(func(c region.Call) *region.Fault {
					if c.Service != s.service || c.Operation != s.operation || c.Principal != "tester" || c.Params == nil {
						return nil
					}
					return row.fault
				})
				began := time.Now()
				err := s.call(t.Context())
				r.Inject(nil)
				equal(t, "code", code(err), row.code)
				var answer *smithyhttp.ResponseError
				if errors.As(err, &answer) && row.status != 0 {
					equal(t, "status", answer.HTTPStatusCode(), row.status)
				}
				if row.code != "none" && row.code != "" {
					var api smithy.APIError
					errors.As(err, &api)
					if want := row.fault.Message; want != "" && api.ErrorMessage() != want || api.ErrorMessage() == "" {
						t.Errorf("the message is %q", api.ErrorMessage())
					}
				}
				if row.fault != nil && time.Since(began) < row.fault.Latency {
					t.Errorf("answered after %v", time.Since(began))
				}
				equal(t, "effects", s.effects()-before, row.effect)
				equal(t, "recorded", calls(r, s.operation)[recorded:], []string{strings.TrimSpace("tester " + s.operation + " " + row.recorded)})
			})
		}
	}
}

// The SDK's own retries get a caller over faults, as they do on AWS.
func TestTheSDKRetriesOverFaults(t *testing.T) {
	r, _ := withBucket(t)
	cfg := client(r, "tester")
	cfg.RetryMaxAttempts = 3
	var failed atomic.Int32
	r.Inject(func(region.Call) *region.Fault {
		switch failed.Add(1) {
		case 1:
			return &region.Fault{Code: "RequestLimitExceeded"}
		case 2:
			return &region.Fault{Drop: true, After: true}
		}
		return nil
	})
	out, err := ec2.NewFromConfig(cfg).CreateTrafficMirrorFilter(t.Context(), &ec2.CreateTrafficMirrorFilterInput{ClientToken: aws.String("capture-1")})
	must(t, err)
	left := r.EC2.Left()
	if len(left) != 1 || left[0].ID != *out.TrafficMirrorFilter.TrafficMirrorFilterId {
		t.Errorf("left: %v", left)
	}
	equal(t, "recorded", calls(r, "CreateTrafficMirrorFilter"), []string{"tester CreateTrafficMirrorFilter RequestLimitExceeded",
		"tester CreateTrafficMirrorFilter " + region.Dropped, "tester CreateTrafficMirrorFilter"})
}

func TestLambdaAtTheEdge(t *testing.T) {
	r := start(t, region.Config{})
	register(t, r, "worker")
	path := "/2015-03-31/functions/worker/invocations"
	status, answer := signed(t, r, "lambda", "us-east-1", "POST", path, nil, `{"do":"echo"}`)
	if status != http.StatusOK || answer != `{"got":{"do":"echo"}}` {
		t.Errorf("answered %d: %s", status, answer)
	}
	status, answer = signed(t, r, "lambda", "us-east-1", "POST", strings.Replace(path, "worker", "nobody", 1), nil, `{}`)
	if status != http.StatusNotFound || !strings.Contains(answer, "nobody") {
		t.Errorf("an unknown function is answered %d: %s", status, answer)
	}
	r.Inject(func(region.Call) *region.Fault {
		return &region.Fault{Code: "ServiceException", Status: 500, After: true}
	})
	file := r.Dir() + "/ran"
	status, answer = signed(t, r, "lambda", "us-east-1", "POST", path, nil, fmt.Sprintf(`{"do":"note","file":%q}`, file))
	r.Inject(nil)
	if status != http.StatusInternalServerError || strings.Contains(answer, "got") || !exists(file) {
		t.Errorf("with its answer lost it is answered %d: %s; it ran: %v", status, answer, exists(file))
	}
	equal(t, "recorded", calls(r, "Invoke"), []string{"stranger Invoke", "stranger Invoke ResourceNotFoundException", "stranger Invoke ServiceException"})
}

func TestAStoppedS3ServerBreaksConnectionsAndComesBack(t *testing.T) {
	r, api := withBucket(t)
	ctx := t.Context()
	must(t, put(ctx, api, "one", "frames", createOnly))
	r.S3.Stop()
	for _, body := range []string{"frames", strings.Repeat("frames", 1<<20)} {
		err := put(ctx, api, "two", body)
		var broken *smithyhttp.RequestSendError
		if code(err) != "" || !errors.As(err, &broken) {
			t.Errorf("a stopped server answers: %v", err)
		}
	}
	_, err := ec2.NewFromConfig(client(r, "tester")).DescribeVpcs(ctx, &ec2.DescribeVpcsInput{})
	must(t, err) // the others go on
	must(t, r.S3.Restart())
	equal(t, "what was there", code(put(ctx, api, "one", "others", createOnly)), "PreconditionFailed")
	must(t, put(ctx, api, "two", "frames", createOnly))
	equal(t, "recorded", calls(r, "PutObject"), []string{"tester PutObject", "tester PutObject " + region.Unreachable,
		"tester PutObject " + region.Unreachable, "tester PutObject PreconditionFailed", "tester PutObject"})
}

// A caller that hangs up frees what waits for it: its receive takes no message away from the next.
func TestAHangUpEndsALongPoll(t *testing.T) {
	r := start(t, region.Config{})
	_, err := r.Queues.Create(queue.Queue{Name: "jobs"})
	must(t, err)
	api := sqs.NewFromConfig(client(r, "tester"))
	url := r.QueueURL("jobs")
	began := time.Now()
	ctx, hangUp := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer hangUp()
	if _, err := api.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: &url, WaitTimeSeconds: 20}); err == nil {
		t.Fatal("a receive of nothing was answered")
	}
	eventually(t, "the hung up receive ends", func() bool { return len(calls(r, "ReceiveMessage")) == 1 })
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("the hung up receive went on for %v", took)
	}
	_, err = api.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: &url, MessageBody: aws.String("finding")})
	must(t, err)
	got, err := api.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &url})
	must(t, err)
	if len(got.Messages) != 1 {
		t.Error("the message went to nobody")
	}
}

// Closing does not wait for what a fault still delays, nor for a client that says nothing.
func TestCloseIsQuick(t *testing.T) {
	r := start(t, region.Config{})
	silent, err := net.Dial("tcp", strings.TrimPrefix(r.Endpoint(), "http://"))
	must(t, err)
	defer silent.Close()
	entered := make(chan struct{})
	r.Inject(func(region.Call) *region.Fault {
		close(entered)
		return &region.Fault{Latency: time.Hour}
	})
	go func() { // the answer, if any, is no matter
		_, _ = ec2.NewFromConfig(client(r, "tester")).DescribeVpcs(context.Background(), &ec2.DescribeVpcsInput{})
	}()
	<-entered
	began := time.Now()
	must(t, r.Close())
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("close took %v", took)
	}
}
