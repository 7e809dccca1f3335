package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io/fs"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"
	schedulertypes "github.com/aws/aws-sdk-go-v2/service/scheduler/types"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"flashtap/events"
	"flashtap/functions/evidence"
	"flashtap/functions/internal/describe"
	"flashtap/functions/lease"
	"flashtap/functions/remove"
	"flashtap/testutil/region"
	"flashtap/testutil/region/cloudwatch"
	"flashtap/testutil/stage"
)

type scene struct {
	*stage.Stage
	t      *testing.T
	sweep  sweep
	mu     sync.Mutex
	events []string // detail-types of what was published
}

func set(t *testing.T) *scene {
	s := &scene{Stage: stage.New(t, nil), t: t}
	s.sweep = sweep{
		remover: remove.Remover{EC2: s.EC2API, Schedules: s.Scheduler, Store: s.Store, Settings: s.Settings},
		store:   s.Store, sealer: evidence.NewSealer(s.Config, s.Settings, s.Store, "flashtap sweep test"), metrics: evidence.NewCloudWatch(s.Config), schedules: s.Scheduler, queues: sqs.NewFromConfig(s.Config), bus: eventbridge.NewFromConfig(s.Config),
		machines: sfn.NewFromConfig(s.Config), settings: s.Settings, settled: map[events.CaptureID]int{},
	}
	s.Listen(func(event []byte) {
		var e struct {
			DetailType string `json:"detail-type"`
			Source     string
		}
		if json.Unmarshal(event, &e) == nil && e.Source == events.RequestSource {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.events = append(s.events, e.DetailType)
		}
	})
	return s
}

func (s *scene) published(kind string) bool {
	for range 100 {
		s.mu.Lock()
		found := slices.Contains(s.events, kind)
		s.mu.Unlock()
		if found {
			return true
		}
		time.Sleep(10 * time.Millisecond)
	}
	return false
}

// run starts an execution for a capture.
func (s *scene) run(c events.CaptureID) {
	s.t.Helper()
	if _, err := s.StartExecution(s.Settings.StateMachineARN, string(c), []byte(`{}`)); err != nil {
		s.t.Fatal(err)
	}
}

// hold makes the guard schedule of a capture.
func (s *scene) hold(c events.CaptureID, deadline time.Time) {
	s.t.Helper()
	input, err := json.Marshal(lease.Lease{Capture: c, Deadline: deadline, Execution: string(c), By: events.ByGuard})
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.Scheduler.CreateSchedule(s.t.Context(), &scheduler.CreateScheduleInput{
		Name: aws.String(c.NetworkInterfaceID()), GroupName: &s.Settings.ScheduleGroup, ScheduleExpression: aws.String("rate(5 minutes)"),
		StartDate: aws.Time(time.Now().Add(time.Hour)), FlexibleTimeWindow: &schedulertypes.FlexibleTimeWindow{Mode: schedulertypes.FlexibleTimeWindowModeOff},
		Target: &schedulertypes.Target{Arn: &s.Settings.TeardownARN, RoleArn: &s.Settings.ScheduleRoleARN, Input: aws.String(string(input))},
	}); err != nil {
		s.t.Fatal(err)
	}
}

// filter makes a mirror filter for a capture: something to remove.
func (s *scene) filter(c events.CaptureID, description string) string {
	s.t.Helper()
	out, err := s.EC2API.CreateTrafficMirrorFilter(s.t.Context(), &ec2.CreateTrafficMirrorFilterInput{Description: &description, ClientToken: aws.String(events.ClientToken(c, 1, description)),
		TagSpecifications: []types.TagSpecification{describe.TagSpecification(types.ResourceTypeTrafficMirrorFilter, events.ResourceTags(s.Settings.Deployment, c, time.Now(), 1))}})
	if err != nil {
		s.t.Fatal(err)
	}
	return aws.ToString(out.TrafficMirrorFilter.TrafficMirrorFilterId)
}

func (s *scene) filters() []string {
	s.t.Helper()
	out, err := s.EC2API.DescribeTrafficMirrorFilters(s.t.Context(), &ec2.DescribeTrafficMirrorFiltersInput{})
	if err != nil {
		s.t.Fatal(err)
	}
	var ids []string
	for _, f := range out.TrafficMirrorFilters {
		ids = append(ids, aws.ToString(f.TrafficMirrorFilterId))
	}
	slices.Sort(ids)
	return ids
}

func captureOf(eni string) events.CaptureID { return events.NewCaptureID(time.Now(), eni) }

func TestOrphans(t *testing.T) {
	s := set(t)
	living, nobodys, over, draining, stopped, odd := captureOf("eni-00000001"), captureOf("eni-00000002"), captureOf("eni-00000003"), captureOf("eni-00000004"), captureOf("eni-00000005"), captureOf("eni-00000006")
	for _, c := range []events.CaptureID{living, over, draining} {
		s.run(c)
	}
	s.hold(living, time.Now().Add(time.Minute))
	s.hold(over, time.Now().Add(-time.Hour))
	s.hold(draining, time.Now().Add(-130*time.Second)) // its collector may upload for 140 s
	s.hold(stopped, time.Now().Add(time.Minute))       // no execution of that name runs
	keep := []string{s.filter(living, remove.Description(living)), s.filter(draining, remove.Description(draining))}
	for _, c := range []events.CaptureID{nobodys, over, stopped} {
		s.filter(c, remove.Description(c))
	}
	doubtful := s.filter(odd, "bears our tags")

	r, err := s.sweep.run(t.Context(), trigger{})
	if err != nil {
		t.Fatal(err)
	}
	want := []events.CaptureID{nobodys, over, stopped, odd}
	for _, c := range want {
		if !slices.Contains(r.Orphans, c) {
			t.Errorf("%s is no orphan", c)
		}
	}
	if len(r.Orphans) != len(want) || len(r.Refused) != 1 || r.Refused[0].ID != doubtful {
		t.Errorf("%+v", r)
	}
	left := append(keep, doubtful)
	slices.Sort(left)
	if got := s.filters(); !slices.Equal(got, left) {
		t.Errorf("filters left: %v, want %v", got, left)
	}
	if !s.published(events.EventLeaking) {
		t.Error("nobody is told of what bears our tags and is not ours")
	}
	var cert events.Certificate
	if err := s.Store.ReadJSON(t.Context(), events.CertificateKey(nobodys, 1), &cert); err != nil || cert.By != events.BySweep || len(cert.Gone) != 1 {
		t.Errorf("%+v, %v", cert, err)
	}
	// The guard of a capture goes last, in a pass that finds nothing else.
	if _, err := s.sweep.run(t.Context(), trigger{}); err != nil {
		t.Fatal(err)
	}
	names, err := lease.Names(t.Context(), s.Scheduler, s.Settings.ScheduleGroup, "eni-")
	if slices.Sort(names); err != nil || !slices.Equal(names, []string{"eni-00000001", "eni-00000004"}) {
		t.Errorf("guards left: %v, %v", names, err)
	}
}

// TestTagThatIsNoCapture: a tag can say anything; it must not become a folder of the evidence.
func TestTagThatIsNoCapture(t *testing.T) {
	s := set(t)
	victim := captureOf("eni-00000001")
	odd := events.CaptureID(string(victim) + "/collectors/AROAX:i-00000001")
	s.filter(odd, remove.Description(odd))
	r, err := s.sweep.run(t.Context(), trigger{})
	if err != nil || len(r.Refused) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if list, err := s.Store.List(t.Context(), events.CapturePrefix(victim)); err != nil || len(list) != 0 {
		t.Errorf("in a capture's folder: %v, %v", list, err)
	}
	if len(s.filters()) != 1 {
		t.Error("it is removed")
	}
}

func TestSeal(t *testing.T) {
	s := set(t)
	past := func(p *events.Plan) { p.Deadline = time.Now().Add(-time.Hour) }
	unsealed, running, refused, joined, occupied := captureOf("eni-00000001"), captureOf("eni-00000002"), captureOf("eni-00000003"), captureOf("eni-00000004"), captureOf("eni-00000005")
	s.Plan(t, unsealed, past)
	s.Plan(t, running, nil)
	s.Plan(t, refused, func(p *events.Plan) { past(p); p.Go = false })
	s.Plan(t, joined, past)
	if err := s.Store.Record(t.Context(), events.CustodyEntry{Capture: joined, Actor: "guard", Act: events.ActJoined, Detail: map[string]string{"to": string(running)}}); err != nil {
		t.Fatal(err)
	}
	s.Plan(t, occupied, past)
	s.run(occupied)
	s.hold(occupied, time.Now().Add(time.Minute))
	s.filter(occupied, remove.Description(occupied))
	for range 2 {
		r, err := s.sweep.run(t.Context(), trigger{})
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Sealed) > 0 && !reflect.DeepEqual(r.Sealed, []events.CaptureID{unsealed}) {
			t.Errorf("sealed %v", r.Sealed)
		}
	}
	for c, want := range map[events.CaptureID]bool{unsealed: true, running: false, refused: false, joined: false, occupied: false} {
		var m events.Manifest
		err := s.Store.ReadJSON(t.Context(), events.ManifestKey(c), &m)
		if want && (err != nil || !strings.HasPrefix(m.Error, "SealedBySweep")) || !want && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %+v, %v; sealed is to be %t", c, m, err, want)
		}
	}
	if !s.published(events.EventSealed) {
		t.Error("nobody is told")
	}
}

// TestSign: a capture that was closed while KMS could not sign is signed by a later sweep.
func TestSign(t *testing.T) {
	s := set(t)
	s.Settings.SigningKeyARN = s.SigningKey
	s.sweep.sealer = evidence.NewSealer(s.Config, s.Settings, s.Store, "flashtap sweep test")
	c := captureOf("eni-00000001")
	s.Plan(t, c, func(p *events.Plan) { p.Deadline = time.Now().Add(-time.Hour) })
	signed := 0
	s.Inject(func(call region.Call) *region.Fault {
		if call.Operation == "Sign" {
			if signed++; signed > 1 { // the tree was signed
				return &region.Fault{Code: "KMSInvalidStateException", Status: 400}
			}
		}
		return nil
	})
	if r, err := s.sweep.run(t.Context(), trigger{}); err == nil || len(r.Sealed) > 0 {
		t.Errorf("%+v, %v", r, err)
	}
	before, err := s.Store.Read(t.Context(), events.ManifestKey(c))
	if err != nil {
		t.Fatal(err)
	}
	s.Inject(nil)
	for range 2 {
		r, err := s.sweep.run(t.Context(), trigger{})
		if err != nil || len(r.Sealed) > 0 && !slices.Equal(r.Sealed, []events.CaptureID{c}) {
			t.Errorf("%+v, %v", r, err)
		}
	}
	after, err := s.Store.Read(t.Context(), events.ManifestKey(c))
	if err != nil || string(after) != string(before) {
		t.Errorf("the manifest is another: %v", err)
	}
	signature, err := s.Store.Read(t.Context(), events.ManifestSignatureKey(c))
	if err != nil {
		t.Fatal(err)
	}
	text, err := s.Store.Read(t.Context(), events.PublicKeyKey(c))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(after)
	if !ecdsa.VerifyASN1(public.(*ecdsa.PublicKey), digest[:], signature) {
		t.Error("the signature is not the manifest's")
	}
}

// TestAmend: what CloudWatch counted is asked for the source's instance and the time of the capture, and added up.
func TestAmend(t *testing.T) {
	s := set(t)
	c := captureOf("eni-00000001")
	start := time.Now().Add(-2 * time.Hour).Truncate(5 * time.Minute)
	s.Plan(t, c, func(p *events.Plan) { p.Start, p.Deadline = start, start.Add(7*time.Minute) })
	for name, value := range map[string]float64{
		"NetworkPacketsMirrorIn": 100, "NetworkPacketsMirrorOut": 20, "NetworkMirrorIn": 5000, "NetworkMirrorOut": 600,
		"NetworkPacketsSkipMirrorIn": 3, "NetworkPacketsSkipMirrorOut": 4, "NetworkSkipMirrorIn": 70, "NetworkSkipMirrorOut": 8,
	} {
		s.Metrics.Set(cloudwatch.Series{Namespace: "AWS/EC2", Name: name, Dimensions: map[string]string{"InstanceId": s.Instance}}, value)
	}
	if r, err := s.sweep.run(t.Context(), trigger{}); err != nil || !slices.Equal(r.Sealed, []events.CaptureID{c}) || len(r.Amended) > 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	counts, late, err := s.sweep.metrics.Mirrored(t.Context(), s.Instance, start, start.Add(10*time.Minute))
	want := events.SourceMetrics{From: start.UTC(), To: start.UTC().Add(10 * time.Minute), PeriodSeconds: 300, Mirrored: 240, Skipped: 14, MirroredBytes: 11200, SkippedBytes: 156}
	if err != nil || late || !reflect.DeepEqual(counts, want) {
		t.Errorf("%+v, late %t, %v; want %+v", counts, late, err, want)
	}
	if counts, late, err = s.sweep.metrics.Mirrored(t.Context(), s.Instance, start, time.Now()); err != nil || !late {
		t.Errorf("up to now: %+v, late %t, %v", counts, late, err)
	}
	if counts, late, err = s.sweep.metrics.Mirrored(t.Context(), "", start, time.Now()); err != nil || late || len(counts.Missing) != 8 {
		t.Errorf("of no instance: %+v, late %t, %v", counts, late, err)
	}
	wrote, _, err := s.sweep.sealer.Amend(t.Context(), c, events.BySweep, s.sweep.metrics, time.Now().Add(time.Hour))
	var a events.Addendum
	if err := errors.Join(err, s.Store.ReadJSON(t.Context(), events.AddendumKey(c, 1), &a)); err != nil || !wrote {
		t.Fatalf("%t, %v", wrote, err)
	}
	if a.Metrics == nil || a.Metrics.Mirrored != 240 || a.Metrics.Skipped != 14 || a.Verdict != events.VerdictIncomplete || a.By != events.BySweep {
		t.Errorf("%+v", a)
	}
	if r, err := s.sweep.run(t.Context(), trigger{}); err != nil || len(r.Amended) > 0 || len(r.Sealed) > 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestLateCertificate: a sweep that removes something of a sealed capture adds the certificate to it, and the next one what
// comes after that. When there is nothing to add it reads nothing again.
func TestLateCertificate(t *testing.T) {
	s := set(t)
	c := captureOf("eni-00000001")
	s.Plan(t, c, func(p *events.Plan) { p.Deadline = time.Now().Add(-time.Hour) })
	if r, err := s.sweep.run(t.Context(), trigger{}); err != nil || len(r.Sealed) != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	late := func(n int, key string) {
		t.Helper()
		r, err := s.sweep.run(t.Context(), trigger{})
		if err != nil || !slices.Equal(r.Amended, []events.CaptureID{c}) {
			t.Fatalf("%+v, %v", r, err)
		}
		var a events.Addendum
		if err := s.Store.ReadJSON(t.Context(), events.AddendumKey(c, n), &a); err != nil || len(a.Objects) != 1 || a.Objects[0].Key != key || a.Metrics != nil {
			t.Errorf("%+v, %v", a, err)
		}
	}
	s.filter(c, remove.Description(c))
	late(1, events.CertificateKey(c, 1))
	act := events.CustodyEntry{Capture: c, Actor: "operator", Act: "looked"}
	if err := s.Store.Record(t.Context(), act); err != nil {
		t.Fatal(err)
	}
	late(2, events.CustodyKey(c, "operator", "looked"))

	if _, _, err := s.sweep.sealer.Amend(t.Context(), c, events.BySweep, s.sweep.metrics, time.Now().Add(4*time.Hour)); err != nil {
		t.Fatal(err)
	}
	for n := range 2 {
		reads := 0
		s.sweep.sealer.API = counting{s.Store.API.(*s3.Client), &reads}
		if r, err := s.sweep.run(t.Context(), trigger{}); err != nil || len(r.Amended) > 0 || (reads > 0) != (n == 0) {
			t.Errorf("look %d reads %d objects: %+v, %v", n+1, reads, r, err)
		}
	}
}

// counting counts what is read.
type counting struct {
	*s3.Client
	n *int
}

func (c counting) GetObject(ctx context.Context, in *s3.GetObjectInput, o ...func(*s3.Options)) (*s3.GetObjectOutput, error) {
	*c.n++
	return c.Client.GetObject(ctx, in, o...)
}

// ending is a bucket at which the time of the sweep is over.
type ending struct {
	*s3.Client
	end func()
}

func (e ending) GetObject(ctx context.Context, _ *s3.GetObjectInput, _ ...func(*s3.Options)) (*s3.GetObjectOutput, error) {
	e.end()
	return nil, ctx.Err()
}

// TestAdmitFirst: a finding that waits is let in before a capture is sealed, however long that takes.
func TestAdmitFirst(t *testing.T) {
	s := set(t)
	s.Plan(t, captureOf("eni-00000001"), func(p *events.Plan) { p.Deadline = time.Now().Add(-time.Hour) })
	s.wait(`{"n":1}`, "8", time.Now())
	ctx, cancel := context.WithCancel(t.Context())
	s.sweep.sealer.API = ending{s.Store.API.(*s3.Client), cancel}
	r, err := s.sweep.run(ctx, trigger{})
	if err == nil || len(r.Sealed) > 0 || r.Admitted != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestSealAfterAnEndedExecution: its end is an event, and nobody needs to wait for the deadline.
func TestSealAfterAnEndedExecution(t *testing.T) {
	s := set(t)
	c := captureOf("eni-00000001")
	s.Plan(t, c, nil)
	var ended trigger
	if err := json.Unmarshal([]byte(`{"detail-type":"Step Functions Execution Status Change","detail":{"status":"ABORTED","name":"`+string(c)+`"}}`), &ended); err != nil {
		t.Fatal(err)
	}
	r, err := s.sweep.run(t.Context(), ended)
	if err != nil || !slices.Equal(r.Sealed, []events.CaptureID{c}) {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestEnded(t *testing.T) {
	for status, want := range map[string]string{"FAILED": "x", "TIMED_OUT": "x", "ABORTED": "x", "SUCCEEDED": "", "RUNNING": ""} {
		tr := trigger{DetailType: "Step Functions Execution Status Change"}
		tr.Detail.Status, tr.Detail.Name = status, "x"
		if got := tr.ended(); got != want {
			t.Errorf("%s: %q", status, got)
		}
		tr.DetailType = "Scheduled Event"
		if got := tr.ended(); got != "" {
			t.Errorf("%s of another kind: %q", status, got)
		}
	}
}

func (s *scene) wait(body, severity string, since time.Time) {
	s.t.Helper()
	in := &sqs.SendMessageInput{QueueUrl: &s.Settings.WaitingQueueURL, MessageBody: &body, MessageAttributes: map[string]sqstypes.MessageAttributeValue{
		events.AttributeSince: {DataType: aws.String("Number"), StringValue: aws.String(strconv.FormatInt(since.UnixMilli(), 10))}}}
	if severity != "" {
		in.MessageAttributes[events.AttributeSeverity] = sqstypes.MessageAttributeValue{DataType: aws.String("Number"), StringValue: &severity}
	}
	if _, err := s.sweep.queues.SendMessage(s.t.Context(), in); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) queued(url string) []string {
	s.t.Helper()
	var bodies []string
	for {
		out, err := s.sweep.queues.ReceiveMessage(context.Background(), &sqs.ReceiveMessageInput{QueueUrl: &url, MaxNumberOfMessages: 10})
		if err != nil {
			s.t.Fatal(err)
		}
		if len(out.Messages) == 0 {
			return bodies
		}
		for _, m := range out.Messages {
			bodies = append(bodies, aws.ToString(m.Body))
			if _, err := s.sweep.queues.DeleteMessage(context.Background(), &sqs.DeleteMessageInput{QueueUrl: &url, ReceiptHandle: m.ReceiptHandle}); err != nil {
				s.t.Fatal(err)
			}
		}
	}
}

func TestAdmit(t *testing.T) {
	s := set(t)
	s.sweep.settings.MaxCaptures = 3
	c := captureOf("eni-00000001")
	s.run(c)
	s.hold(c, time.Now().Add(time.Hour)) // one place of three is taken
	now := time.Now()
	s.wait("low", "4", now)
	s.wait("no severity", "", now)
	s.wait("high", "7.5", now)
	s.wait("critical", "9.5", now)
	s.wait("high and older", "7.5", now.Add(-time.Hour))
	s.wait("too late", "10", now.Add(-maxWait-time.Minute))
	r, err := s.sweep.run(t.Context(), trigger{})
	if err != nil || r.Admitted != 2 || r.Expired != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	out, err := s.sweep.queues.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &s.Settings.IntakeQueueURL, MaxNumberOfMessages: 10,
		MessageAttributeNames: []string{"All"}, MessageSystemAttributeNames: []sqstypes.MessageSystemAttributeName{"MessageGroupId"}})
	if err != nil {
		t.Fatal(err)
	}
	admitted := map[string]string{}
	for _, m := range out.Messages {
		admitted[aws.ToString(m.Body)] = m.Attributes["MessageGroupId"] + " since " + aws.ToString(m.MessageAttributes[events.AttributeSince].StringValue)
	}
	want := map[string]string{
		"critical":       "urgent since " + strconv.FormatInt(now.UnixMilli(), 10),
		"high and older": "rest since " + strconv.FormatInt(now.Add(-time.Hour).UnixMilli(), 10),
	}
	if !reflect.DeepEqual(admitted, want) {
		t.Errorf("admitted: %v, want %v", admitted, want)
	}
	waiting := s.queued(s.Settings.WaitingQueueURL)
	if slices.Sort(waiting); !slices.Equal(waiting, []string{"high", "low", "no severity"}) {
		t.Errorf("still waiting, and to be had at once: %v", waiting)
	}
	if !s.published(events.EventRefused) {
		t.Error("nobody is told of the one that waited too long")
	}
}
