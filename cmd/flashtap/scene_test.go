package main

import (
	"context"
	"io"
	"strings"
	"time"

	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"flashtap/events"
	"flashtap/functions/evidence"
	"flashtap/functions/remove"
	"flashtap/testutil/s3"
)

func putObject(server *s3.Server, bucket, key string, body io.Reader) error {
	_, err := server.Client().PutObject(context.Background(), &awss3.PutObjectInput{Bucket: &bucket, Key: &key, Body: body})
	return err
}

const collectorID = "i-0c011ec70c011ec70"

// planOf is the plan of a capture that began when its id says.
func planOf(c events.CaptureID, length time.Duration) events.Plan {
	start, err := c.Start()
	if err != nil {
		panic(err) // ids in tests are made by NewCaptureID
	}
	return events.Plan{
		Version: events.RecordVersion, Capture: c, Deployment: deployed, Account: "123456789012", Region: "us-east-1", CreatedAt: start, Start: start,
		Request:  events.Request{Capture: c, NetworkInterfaceID: c.NetworkInterfaceID(), FindingType: "UnauthorizedAccess:EC2/TorClient", Case: "IR-2041", Reason: "beaconing"},
		Go:       true,
		Verdicts: []events.Verdict{{Check: "filter", Result: events.Warn, Reason: "DNS is not mirrored", Remedy: "set dns"}},
		Source: events.Source{NetworkInterfaceID: c.NetworkInterfaceID(), InstanceID: "i-0a1b2c3d4e5f60718", InstanceType: "m5.large",
			VPC: "vpc-1", AvailabilityZone: "us-east-1a", PrimaryIPv4: "10.0.0.10"},
		Mirror:   events.MirrorPlan{VNI: 4711, SessionNumber: 1, PacketLength: 128, Filter: events.EverythingFilter()},
		Limits:   events.CaptureLimits{DurationSeconds: int(length / time.Second), MaxBytes: 2 << 30, DrainSeconds: 120, PollSeconds: 5, CheckpointSeconds: 15},
		Deadline: start.Add(length),
		Collector: events.PlacedAt{VPC: "vpc-1", Subnet: "subnet-1", S3Path: "vpce-1", LaunchTemplateID: templateID, InstanceProfileARN: profileARN, RoleID: roleID,
			SecurityGroupName: events.SecurityGroupName(deployed, c)},
	}
}

// begin puts into the bucket what a capture leaves there on its way, up to a collector that has written packets.
func (a *account) begin(p events.Plan) {
	c, user := p.Capture, events.UserID(roleID, collectorID)
	a.put(events.PlanKey(c), p)
	a.put(events.CustodyKey(c, "guard", "guarded"), events.CustodyEntry{Version: 1, Capture: c, Actor: "guard", Act: "guarded", At: p.Start})
	a.put(events.CustodyKey(c, "launch", "launched-"+collectorID), events.CustodyEntry{Version: 1, Capture: c, Actor: "launch", Act: "launched-" + collectorID,
		At: p.Start, Resource: collectorID, Detail: map[string]string{"userId": user}})
	for seq, written := range []uint64{0, 1234} {
		a.put(events.CheckpointKey(c, user, seq+1, strings.Repeat("0", 64)), events.Checkpoint{Version: 1, Capture: c, UserID: user, Seq: seq + 1,
			At: p.Start.Add(time.Duration(seq) * time.Minute), State: events.CollectorCapturing, Segments: seq, Pending: seq,
			Tally: events.Tally{Received: written + 6, Written: written, WrittenBytes: written * 1000, Rejected: events.Rejected{ForeignSource: 4, Malformed: 2}}})
	}
	// A stranger's folder must not be believed.
	a.put(events.CheckpointKey(c, "AROASTRANGER:i-0bad0bad0bad0bad0", 9, strings.Repeat("f", 64)), events.Checkpoint{Version: 1, Capture: c, Seq: 9,
		At: p.Start.Add(time.Hour), State: events.CollectorCapturing, Tally: events.Tally{Written: 999999}})
}

// seal closes a capture's evidence.
func (a *account) seal(p events.Plan, verdict string, reasons ...string) {
	c := p.Capture
	a.put(events.CertificateKey(c, 1), events.Certificate{Version: 1, Capture: c, Seq: 1, By: events.ByStateMachine, At: p.Deadline,
		Found: []events.Resource{{Kind: "session", ID: "tms-1"}, {Kind: "instance", ID: collectorID}}, Gone: []events.Resource{{Kind: "session", ID: "tms-1"}},
		Remaining: []events.Resource{{Kind: "instance", ID: collectorID, State: "shutting-down"}}})
	a.put(events.ManifestKey(c), events.Manifest{Version: 1, Capture: c, Deployment: deployed, Verdict: verdict, Reasons: reasons,
		Segments: []events.Segment{{Seq: 1, Packets: 1000, Bytes: 1 << 20}, {Seq: 2, Packets: 500, Bytes: 1 << 19}}})
}

// inhabit makes EC2 and the scheduler show what a running capture has made.
func (a *account) inhabit(p events.Plan) {
	c := p.Capture
	tags := []any{}
	for key, value := range events.ResourceTags(deployed, c, p.Deadline, 1) {
		tags = append(tags, map[string]any{"Key": key, "Value": value})
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.exists["DescribeTrafficMirrorTargets"] = []any{map[string]any{"TrafficMirrorTargetId": "tmt-1", "Description": remove.Description(c), "Tags": tags}}
	a.exists["DescribeTrafficMirrorSessions"] = []any{map[string]any{"TrafficMirrorSessionId": "tms-1", "TrafficMirrorTargetId": "tmt-1", "VirtualNetworkId": 4711, "Tags": tags}}
	a.instances = append(a.instances,
		map[string]any{"InstanceId": collectorID, "State": map[string]any{"Code": 16, "Name": "running"}, "IamInstanceProfile": map[string]any{"Arn": profileARN},
			"Tags": append(append([]any{}, tags...), map[string]any{"Key": templateTag, "Value": templateID})},
		map[string]any{"InstanceId": "i-0dead0dead0dead00", "State": map[string]any{"Code": 48, "Name": "terminated"}, "Tags": tags})
	a.schedules[c.NetworkInterfaceID()] = `{"capture": "` + string(c) + `", "deadline": "` + p.Deadline.Format(time.RFC3339) + `"}`
}

func (a *account) store() evidence.Store {
	return evidence.Store{API: a.bucket.Client(), Bucket: a.name}
}
