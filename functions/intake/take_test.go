package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	lambdaevents "github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"
	"github.com/aws/aws-sdk-go-v2/service/scheduler/types"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"flashtap/events"
	"flashtap/functions/lease"
	"flashtap/testutil/region"
	"flashtap/testutil/region/ec2"
	"flashtap/testutil/stage"
)

type scene struct {
	*stage.Stage
	t  *testing.T
	in intake
}

func set(t *testing.T) *scene {
	s := &scene{Stage: stage.New(t, nil), t: t}
	s.in = intake{
		ec2: s.EC2API, machines: sfn.NewFromConfig(s.Config), schedules: s.Scheduler, queues: sqs.NewFromConfig(s.Config),
		store: s.Store, settings: s.Settings,
	}
	return s
}

var sent = time.Date(2026, 11, 22, 3, 4, 5, 0, time.UTC)

// message is a message that the queue got n seconds after sent.
func message(n int, body string) lambdaevents.SQSMessage {
	return lambdaevents.SQSMessage{MessageId: fmt.Sprint("m", n), Body: body,
		Attributes: map[string]string{"SentTimestamp": strconv.FormatInt(sent.Add(time.Duration(n)*time.Second).UnixMilli(), 10)}}
}

// finding is a GuardDuty finding about an instance.
func (s *scene) finding(id, instance string) string {
	return fmt.Sprintf(`{"id":"e","detail-type":"GuardDuty Finding","source":"aws.guardduty","account":%q,"region":%q,"detail":{
		"id":%q,"accountId":%[1]q,"region":%[2]q,"type":"Backdoor:EC2/C&CActivity.B","severity":8,
		"resource":{"resourceType":"Instance","instanceDetails":{"instanceId":%[4]q}},"service":{"count":1}}}`,
		s.Settings.Account, s.Settings.Region, id, instance)
}

func (s *scene) take(messages ...lambdaevents.SQSMessage) []string {
	s.t.Helper()
	out, err := s.in.run(s.t.Context(), lambdaevents.SQSEvent{Records: messages})
	if err != nil {
		s.t.Fatal(err)
	}
	var back []string
	for _, f := range out.BatchItemFailures {
		back = append(back, f.ItemIdentifier)
	}
	return back
}

func (s *scene) started() []string {
	names := s.Executions()
	slices.Sort(names)
	return names
}

// held makes the guard schedule of a capture, as the state machine would.
func (s *scene) held(c events.CaptureID, deadline time.Time) {
	s.t.Helper()
	input, _ := json.Marshal(lease.Lease{Capture: c, Deadline: deadline, Execution: string(c)})
	if _, err := s.Scheduler.CreateSchedule(s.t.Context(), &scheduler.CreateScheduleInput{
		Name: aws.String(c.NetworkInterfaceID()), GroupName: &s.Settings.ScheduleGroup, ScheduleExpression: aws.String("rate(5 minutes)"),
		FlexibleTimeWindow: &types.FlexibleTimeWindow{Mode: types.FlexibleTimeWindowModeOff},
		Target:             &types.Target{Arn: &s.Settings.TeardownARN, RoleArn: &s.Settings.ScheduleRoleARN, Input: aws.String(string(input))},
	}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) waiting() []string {
	s.t.Helper()
	out, err := s.in.queues.ReceiveMessage(context.Background(), &sqs.ReceiveMessageInput{QueueUrl: &s.Settings.WaitingQueueURL, MaxNumberOfMessages: 10, MessageAttributeNames: []string{"All"}})
	if err != nil {
		s.t.Fatal(err)
	}
	var list []string
	for _, m := range out.Messages {
		list = append(list, aws.ToString(m.MessageAttributes["severity"].StringValue))
	}
	return list
}

func TestTake(t *testing.T) {
	s := set(t)
	c := events.NewCaptureID(sent, s.ENI)
	body := s.finding("f-1", s.Instance)
	for range 2 { // the message may come again
		if back := s.take(message(0, body)); len(back) != 0 {
			t.Fatalf("given back: %v", back)
		}
	}
	if got := s.started(); !slices.Equal(got, []string{string(c)}) {
		t.Fatalf("started %v, want %s once", got, c)
	}
	var request events.Request
	out, err := s.in.machines.DescribeExecution(t.Context(), &sfn.DescribeExecutionInput{ExecutionArn: aws.String(strings.Replace(s.Settings.StateMachineARN, ":stateMachine:", ":execution:", 1) + ":" + string(c))})
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(aws.ToString(out.Input)), &request); err != nil {
		t.Fatal(err)
	}
	if err := request.Validate(); err != nil || request.Capture != c || request.NetworkInterfaceID != s.ENI || request.InstanceID != s.Instance || request.Case != "f-1" || request.Severity != 8 {
		t.Errorf("%+v, %v", request, err)
	}
	if kept, err := s.Store.Read(t.Context(), events.FindingKey(c)); err != nil || string(kept) != body {
		t.Errorf("the finding is not kept as it was received: %v", err)
	}
	var act events.CustodyEntry
	if err := s.Store.ReadJSON(t.Context(), events.CustodyKey(c, "intake", "started"), &act); err != nil || !act.At.Equal(sent) || act.Detail["finding"] != "f-1" || act.RequestID == "" || !strings.Contains(act.Detail["why"], "names none") {
		t.Errorf("%+v, %v; want when, for what, and why this interface", act, err)
	}
}

func TestTakeJoins(t *testing.T) {
	s := set(t)
	running := events.NewCaptureID(sent.Add(-time.Hour), s.ENI)
	s.held(running, time.Now().Add(time.Hour))
	body := s.finding("f-2", s.Instance)
	if back := s.take(message(0, body)); len(back) != 0 {
		t.Fatalf("given back: %v", back)
	}
	if got := s.started(); len(got) != 0 {
		t.Errorf("started %v beside the running one", got)
	}
	list, err := s.Store.List(t.Context(), events.CapturePrefix(running)+"joined/")
	if err != nil || len(list) != 1 {
		t.Fatalf("%v, %v", list, err)
	}
	if kept, err := s.Store.Read(t.Context(), list[0].Key); err != nil || string(kept) != body {
		t.Errorf("the finding that joins is not kept: %v", err)
	}
}

// TestTakeAfterACaptureThatIsOver: its guard still holds the lock for a while, and its capture takes nothing any more.
func TestTakeAfterACaptureThatIsOver(t *testing.T) {
	s := set(t)
	s.held(events.NewCaptureID(sent.Add(-time.Hour), s.ENI), time.Now().Add(-time.Minute))
	s.take(message(0, s.finding("f-3", s.Instance)))
	if got := s.started(); len(got) != 1 {
		t.Errorf("started %v", got)
	}
}

// TestTakeTwoInOneSecond: two findings about one interface in the second that names the capture.
func TestTakeTwoInOneSecond(t *testing.T) {
	s := set(t)
	c := events.NewCaptureID(sent, s.ENI)
	s.take(message(0, s.finding("f-1", s.Instance)), message(0, s.finding("f-2", s.Instance)))
	if got := s.started(); len(got) != 1 {
		t.Errorf("started %v", got)
	}
	if list, err := s.Store.List(t.Context(), events.CapturePrefix(c)+"joined/"); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
}

func (s *scene) twoInterfaces() (instance string) {
	instance = "i-0c0c0c0c0c0c0c0c0"
	s.EC2.AddInstance(ec2.InstanceSeed{ID: instance, Type: "m5.large", Interfaces: []ec2.InterfaceSeed{
		{ID: "eni-0c0c0c0c0c0c0c0c1", Subnet: s.Subnet}, {ID: "eni-0c0c0c0c0c0c0c0c2", Subnet: s.Subnet}, {ID: "eni-0c0c0c0c0c0c0c0c3", Subnet: s.Subnet}}})
	return instance
}

func TestTakeAllInterfaces(t *testing.T) {
	s := set(t)
	s.in.settings.MaxInterfaces = 2
	s.take(message(0, s.finding("f-1", s.twoInterfaces())))
	want := []string{string(events.NewCaptureID(sent, "eni-0c0c0c0c0c0c0c0c1")), string(events.NewCaptureID(sent, "eni-0c0c0c0c0c0c0c0c2"))}
	if got := s.started(); !slices.Equal(got, want) {
		t.Errorf("started %v, want %v", got, want)
	}
}

// TestTakeWaitsOnce: however many interfaces find no place, their finding waits once.
func TestTakeWaitsOnce(t *testing.T) {
	s := set(t)
	s.in.settings.MaxCaptures = 1
	s.held(events.NewCaptureID(sent, s.ENI), time.Now().Add(time.Hour))
	if back := s.take(message(0, s.finding("f-1", s.twoInterfaces()))); len(back) != 0 {
		t.Errorf("given back: %v", back)
	}
	if got := s.started(); len(got) != 0 {
		t.Errorf("started %v", got)
	}
	if got := s.waiting(); !slices.Equal(got, []string{"8"}) {
		t.Errorf("waiting: %v", got)
	}
}

// TestTakeWaitsSinceTheFirstTime: being let in and out again must not make a finding young.
func TestTakeWaitsSinceTheFirstTime(t *testing.T) {
	s := set(t)
	s.in.settings.MaxCaptures = 0
	again := message(5, s.finding("f-2", s.Instance))
	again.MessageAttributes = map[string]lambdaevents.SQSMessageAttribute{events.AttributeSince: {DataType: "Number", StringValue: aws.String("1700000000000")}}
	s.take(message(0, s.finding("f-1", s.Instance)), again)
	out, err := s.in.queues.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &s.Settings.WaitingQueueURL, MaxNumberOfMessages: 10, MessageAttributeNames: []string{"All"}})
	if err != nil {
		t.Fatal(err)
	}
	var since []string
	for _, m := range out.Messages {
		since = append(since, aws.ToString(m.MessageAttributes[events.AttributeSince].StringValue))
	}
	slices.Sort(since)
	if want := []string{"1700000000000", strconv.FormatInt(sent.UnixMilli(), 10)}; !slices.Equal(since, want) {
		t.Errorf("waiting since %v, want %v", since, want)
	}
}

// TestTakeCountsWhatHasOnlyBegun: an execution makes its guard seconds after it was started, and a batch is faster.
func TestTakeCountsWhatHasOnlyBegun(t *testing.T) {
	s := set(t)
	s.in.settings.MaxCaptures = 2
	s.take(message(0, s.finding("f-1", s.twoInterfaces())), message(1, s.finding("f-2", s.Instance)))
	if got := s.started(); len(got) != 2 {
		t.Errorf("started %v; there are 2 places", got)
	}
	if got := s.waiting(); len(got) != 2 {
		t.Errorf("waiting: %v; both findings have interfaces that found no place", got)
	}
}

// TestTakeGivesBackWhatFailed alone: one bad event must not bring its neighbours to the dead-letter queue.
func TestTakeGivesBackWhatFailed(t *testing.T) {
	s := set(t)
	s.Inject(func(c region.Call) *region.Fault {
		if c.Operation == "StartExecution" {
			return &region.Fault{Code: "ThrottlingException"}
		}
		return nil
	})
	back := s.take(message(0, `{"no":"event"}`), message(1, s.finding("f-1", s.Instance)), message(2, `{"no":"event"}`))
	if !slices.Equal(back, []string{"m1"}) {
		t.Errorf("given back: %v", back)
	}
	s.Inject(nil)
	if back := s.take(message(1, s.finding("f-1", s.Instance)), message(2, `{"no":"event"}`)); len(back) != 0 || len(s.started()) != 1 {
		t.Errorf("given back %v, started %v", back, s.started())
	}
}

func TestTakeRefuses(t *testing.T) {
	s := set(t)
	for name, body := range map[string]string{
		"the suspect is gone":                  s.finding("f-1", "i-0d0d0d0d0d0d0d0d0"),
		"gone, and a stranger has its address": strings.Replace(s.finding("f-1", "i-0d0d0d0d0d0d0d0d0"), `"instanceId":`, `"networkInterfaces":[{"privateIpAddress":"`+s.Address+`","vpcId":"`+s.VPC+`"}],"instanceId":`, 1),
		"an interface that is gone":            `{"source":"flashtap","detail-type":"Capture Request","detail":{"networkInterfaceId":"eni-0d0d0d0d"}}`,
		"garbage":                              "garbage",
		"of another account":                   strings.ReplaceAll(s.finding("f-1", s.Instance), s.Settings.Account, "999999999999"),
	} {
		if back := s.take(message(0, body)); len(back) != 0 || len(s.started()) != 0 {
			t.Errorf("%s: given back %v, started %v; no retry helps", name, back, s.started())
		}
	}
	if got := s.waiting(); len(got) != 0 {
		t.Errorf("waiting: %v", got)
	}
}

// TestTakeSharesPlaces: of several suspects each has something captured, whatever the first one has.
func TestTakeSharesPlaces(t *testing.T) {
	s := set(t)
	s.in.settings.MaxInterfaces = 2
	first := s.twoInterfaces()
	s.take(message(0, fmt.Sprintf(`{"detail-type":"GuardDuty Finding","detail":{"id":"f-1","accountId":%q,"region":%q,"type":"AttackSequence:EC2/CompromisedInstanceGroup",
		"resource":{"resourceType":"AttackSequence"},"service":{"detection":{"sequence":{"resources":[{"uid":%q,"resourceType":"EC2_INSTANCE"},{"uid":%q,"resourceType":"EC2_INSTANCE"}]}}}}}`,
		s.Settings.Account, s.Settings.Region, first, s.Instance)))
	want := []string{string(events.NewCaptureID(sent, s.ENI)), string(events.NewCaptureID(sent, "eni-0c0c0c0c0c0c0c0c1"))}
	if got := s.started(); !slices.Equal(got, want) {
		t.Errorf("started %v, want %v", got, want)
	}
}

// TestTakeAfterTheSuspectMoved: the capture is of the suspect, and its record says what the finding does not know.
func TestTakeAfterTheSuspectMoved(t *testing.T) {
	s := set(t)
	s.twoInterfaces()
	body := strings.Replace(s.finding("f-1", s.Instance), `"service":{`, `"service":{"action":{"networkConnectionAction":{"localNetworkInterface":"eni-0c0c0c0c0c0c0c0c1"}},`, 1)
	s.take(message(0, body))
	c := events.NewCaptureID(sent, s.ENI)
	var act events.CustodyEntry
	if err := s.Store.ReadJSON(t.Context(), events.CustodyKey(c, "intake", "started"), &act); err != nil ||
		!strings.Contains(act.Detail["why"], "eni-0c0c0c0c0c0c0c0c1, which the finding names, is now attached to i-0c0c0c0c0c0c0c0c0") {
		t.Errorf("%+v, %v", act, err)
	}
}

// TestTakeOfAPod: the finding names no instance, but the node's interface holds the pod's address.
func TestTakeOfAPod(t *testing.T) {
	s := set(t)
	s.EC2.AddInstance(ec2.InstanceSeed{ID: "i-0e0e0e0e0e0e0e0e0", Type: "m5.large", Interfaces: []ec2.InterfaceSeed{
		{ID: "eni-0e0e0e0e0e0e0e0e0", Subnet: s.Subnet}, {ID: "eni-0e0e0e0e0e0e0e0e1", Subnet: s.Subnet, Address: "10.0.1.40", Secondary: []string{"10.0.1.41"}}}})
	s.take(message(0, fmt.Sprintf(`{"detail-type":"GuardDuty Finding","detail":{"id":"f-1","accountId":%q,"region":%q,"type":"CryptoCurrency:Runtime/BitcoinTool.B",
		"resource":{"resourceType":"EKSCluster","eksClusterDetails":{"vpcId":%q}},"service":{"action":{"networkConnectionAction":{"localIpDetails":{"ipAddressV4":"10.0.1.41"}}}}}}`,
		s.Settings.Account, s.Settings.Region, s.VPC)))
	if got, want := s.started(), []string{string(events.NewCaptureID(sent, "eni-0e0e0e0e0e0e0e0e1"))}; !slices.Equal(got, want) {
		t.Errorf("started %v, want %v", got, want)
	}
}

func TestTakeRequest(t *testing.T) {
	s := set(t)
	s.take(message(0, `{"source":"flashtap","detail-type":"Capture Request","detail":{"networkInterfaceId":"`+s.ENI+`","case":"C-7","reason":"beacons","durationSeconds":60}}`))
	if got := s.started(); len(got) != 1 {
		t.Fatalf("started %v", got)
	}
}
