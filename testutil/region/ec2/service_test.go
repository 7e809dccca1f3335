package ec2

import (
	"errors"
	"maps"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"

	"flashtap/testutil/region/model"
)

func TestEveryOperationOfTheModelIsAnswered(t *testing.T) {
	known := model.MustLoad("ec2").OperationNames()
	if ours := slices.Sorted(maps.Keys(operations)); !slices.Equal(ours, known) {
		t.Errorf("the model has\n%v\nanswered are\n%v", known, ours)
	}
}

func TestDryRunChangesNothing(t *testing.T) {
	l := newLand(t, Config{})
	before := len(l.Resources())
	_, err := l.launch(func(in *sdk.RunInstancesInput) { in.DryRun = aws.Bool(true) })
	l.refused(err, "DryRunOperation")
	l.equal("resources", len(l.Resources()), before)
	_, err = l.launch(func(in *sdk.RunInstancesInput) { in.DryRun = aws.Bool(false) })
	l.must(err)
}

func TestNewResourcesAreNotFoundAtFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, Config{Consistency: 2 * time.Second, Pending: time.Hour})
		made, err := l.api.CreateTrafficMirrorFilter(ctx, &sdk.CreateTrafficMirrorFilterInput{ClientToken: aws.String("t")})
		l.must(err)
		id := *made.TrafficMirrorFilter.TrafficMirrorFilterId
		target := l.collectorInterface("c7gn.large") // what is seeded is known at once
		_, err = l.api.DescribeTrafficMirrorFilters(ctx, &sdk.DescribeTrafficMirrorFiltersInput{TrafficMirrorFilterIds: []string{id}})
		l.refused(err, "InvalidTrafficMirrorFilterId.NotFound")
		all, err := l.api.DescribeTrafficMirrorFilters(ctx, &sdk.DescribeTrafficMirrorFiltersInput{})
		l.must(err)
		l.equal("filters at first", len(all.TrafficMirrorFilters), 0)
		again, err := l.api.CreateTrafficMirrorFilter(ctx, &sdk.CreateTrafficMirrorFilterInput{ClientToken: aws.String("t")})
		l.must(err)
		l.equal("the filter by its token", *again.TrafficMirrorFilter.TrafficMirrorFilterId, id)
		instance, err := l.launch()
		l.must(err)
		_, err = l.api.TerminateInstances(ctx, &sdk.TerminateInstancesInput{InstanceIds: []string{*instance.InstanceId}})
		l.refused(err, "InvalidInstanceID.NotFound")
		time.Sleep(2 * time.Second)
		l.must(func() error { _, err := l.session(l.source, l.waitedTarget(target), id, 1); return err }())
		l.equal("state", l.state(*instance.InstanceId), "pending")
	})
}

// waitedTarget makes a target and waits until it is known.
func (l *land) waitedTarget(eni string) string {
	id := l.target(eni)
	time.Sleep(l.cfg.Consistency)
	return id
}

func TestFaultsBeforeAndAfterTheEffect(t *testing.T) {
	var fault func(*model.Call) error
	l := newLand(t, Config{Fault: func(call *model.Call) error {
		if fault == nil {
			return nil
		}
		return fault(call)
	}})
	eni := l.collectorInterface("c7gn.large")
	in := &sdk.CreateTrafficMirrorTargetInput{NetworkInterfaceId: &eni, ClientToken: aws.String("t")}

	fault = func(*model.Call) error { return Throttled() }
	_, err := l.api.CreateTrafficMirrorTarget(ctx, in)
	l.refused(err, "RequestLimitExceeded")
	l.equal("left after a throttled call", len(l.Left()), 0)

	fault = func(*model.Call) error { return LoseAnswer(&APIError{Code: "InternalError", Status: 500}) }
	_, err = l.api.CreateTrafficMirrorTarget(ctx, in)
	l.refused(err, "InternalError")
	l.equal("left after a lost answer", len(l.Left()), 1)

	fault = func(*model.Call) error { return LoseAnswer(nil) }
	_, err = l.api.CreateTrafficMirrorTarget(ctx, in)
	if err == nil || !strings.Contains(err.Error(), "connection closed") {
		t.Errorf("got %v, want a closed connection", err)
	}
	fault = nil
	_, err = l.api.CreateTrafficMirrorTarget(ctx, in)
	l.must(err)
	l.equal("left after all", len(l.Left()), 1)

	var failed int
	for _, call := range l.Calls() {
		if call.Principal != "AKIDEXAMPLE" || call.Operation != "CreateTrafficMirrorTarget" {
			t.Errorf("recorded %+v", call)
		}
		if call.Err != nil {
			failed++
		}
	}
	l.equal("calls and failures", []int{len(l.Calls()), failed}, []int{4, 3})
}

func TestARequestOutsideTheModelIsRefusedAndKept(t *testing.T) {
	s := New(Config{})
	defer s.Close()
	post := func(body string) string {
		r := httptest.NewRequest("POST", "/", strings.NewReader(body))
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != 400 {
			t.Errorf("status %d", w.Code)
		}
		_, code, _ := strings.Cut(w.Body.String(), "<Code>")
		code, _, _ = strings.Cut(code, "</Code>")
		return code
	}
	const version = "&Version=2016-11-15"
	for _, row := range []struct{ reason, body, code string }{
		{"a misspelled parameter", "Action=DescribeVpcs&VpcID.1=vpc-1" + version, "UnknownParameter"},
		{"a missing parameter", "Action=DeleteTrafficMirrorFilter" + version, "MissingParameter"},
		{"a value of no enumeration", "Action=DescribeVpcAttribute&VpcId=vpc-1&Attribute=x" + version, "InvalidParameterValue"},
		{"an operation of another service", "Action=CreateBucket" + version, "InvalidAction"},
	} {
		if code := post(row.body); code != row.code {
			t.Errorf("%s: got %s, want %s", row.reason, code, row.code)
		}
	}
	violations := s.Violations()
	var v *model.Violation
	if len(violations) != 4 || !errors.As(violations[0], &v) || v.Path != "VpcID" {
		t.Errorf("kept %v", violations)
	}
}

func TestWildcardsOfFilters(t *testing.T) {
	for _, row := range []struct {
		pattern, value string
		want           bool
	}{{"a*", "abc", true}, {"a?c", "abc", true}, {"a?", "abc", false}, {"*c", "abc", true}, {`a\*`, "a*", true}, {`a\*`, "ab", false}, {"", "", true}, {"*", "", true}, {"A", "a", false},
		{"a*b*c", "abxbc", true}, {"a*b*c", "abxbcd", false}, {"*", "anything", true}, {"a", "ab", false}, {"ab", "a", false},
		{strings.Repeat("*a", 30), strings.Repeat("a", 200) + "b", false}} {
		if matches(row.pattern, row.value) != row.want {
			t.Errorf("matches(%q, %q) is %v", row.pattern, row.value, !row.want)
		}
	}
}

// FuzzServe sends calls of any form: whatever they are, they are answered.
func FuzzServe(f *testing.F) {
	for _, seed := range []string{
		"Action=DescribeInstances&Filter.1.Name=tag:a&Filter.1.Value.1=*&MaxResults=5",
		"Action=RunInstances&MinCount=1&MaxCount=1&ImageId=ami-1&InstanceType=c7gn.large&NetworkInterface.1.DeviceIndex=0",
		"Action=CreateTrafficMirrorFilterRule&TrafficMirrorFilterId=tmf-1&TrafficDirection=ingress&RuleNumber=1&RuleAction=accept&SourceCidrBlock=::/0&DestinationCidrBlock=::/0",
		"Action=CreateTags&ResourceId.1=i-1&Tag.1.Key=a", "Action=DescribeTags&NextToken=x", "Action=CreateVpcEndpoint&VpcId=vpc-1&ServiceName=s3",
		"Action=AuthorizeSecurityGroupIngress&GroupId=sg-1&IpPermissions.1.IpProtocol=6&IpPermissions.1.FromPort=1&IpPermissions.1.ToPort=2",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		s := New(Config{})
		defer s.Close()
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("POST", "/", strings.NewReader(body+"&Version=2016-11-15")))
		if w.Code >= 500 {
			t.Errorf("answered %d %s", w.Code, w.Body)
		}
	})
}

// A hook may use the service, and what it changes is told in turn.
func TestHooksMayCallTheService(t *testing.T) {
	var l *land
	told := 0
	l = newLand(t, Config{Hooks: Hooks{Mirrors: func(list []MirrorSession) {
		told++
		if len(list) == 1 {
			l.SetTags(l.host, map[string]string{"mirrored": "yes"})
			l.RemoveInterface(l.source)
		}
	}}})
	_, err := l.session(l.source, l.target(l.collectorInterface("c7gn.large")), l.filter(), 1)
	l.must(err)
	l.equal("told", []any{told, l.Tags(l.host)["mirrored"]}, []any{2, "yes"})
}

func TestNothingHappensAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, Config{Pending: time.Second})
		made, err := l.launch()
		l.must(err)
		l.Close()
		time.Sleep(time.Minute)
		l.equal("state", l.state(*made.InstanceId), "pending")
	})
}

// The aws command is another client than the SDK for Go, with its own reading of
// the model.
func TestCommandLine(t *testing.T) {
	if _, err := exec.LookPath("aws"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("no aws command, which CI must have: ", err)
		}
		t.Skip("no aws command on this machine: ", err)
	}
	t.Parallel()
	l := newLand(t, Config{})
	server := httptest.NewServer(l.Service)
	defer server.Close()
	target, filter := l.target(l.collectorInterface("c7gn.large")), l.filter()
	run := func(args string) string {
		t.Helper()
		cmd := exec.Command("aws", append(strings.Fields("--output text --region us-east-1 --endpoint-url "+server.URL+" ec2"), strings.Fields(args)...)...)
		cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID=AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY=secret", "AWS_CONFIG_FILE=/nonexistent", "AWS_MAX_ATTEMPTS=1", "AWS_PAGER=")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("aws %s: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	create := "create-traffic-mirror-session --network-interface-id " + l.source + " --traffic-mirror-target-id " + target + " --traffic-mirror-filter-id " + filter +
		" --session-number 1 --virtual-network-id 42 --tag-specifications ResourceType=traffic-mirror-session,Tags=[{Key=case,Value=7}] --query TrafficMirrorSession.TrafficMirrorSessionId"
	id := run(create)
	if !strings.HasPrefix(id, "tms-") {
		t.Fatalf("created %s", id)
	}
	l.equal("described", run("describe-traffic-mirror-sessions --filters Name=virtual-network-id,Values=42 --query TrafficMirrorSessions[].[TrafficMirrorSessionId,Tags[0].Value]"), id+"\t7")
	l.equal("deleted", run("delete-traffic-mirror-session --traffic-mirror-session-id "+id), id)
	l.equal("left", len(l.MirrorSessions()), 0)
}
