package deployment_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"flashtap/events"
	"flashtap/testutil/deployment"
	"flashtap/testutil/packets"
	"flashtap/testutil/region/asl"
	"flashtap/testutil/region/ec2"
)

// programs are built once for all tests.
var programs deployment.Programs

func TestMain(m *testing.M) {
	var err error
	if programs, err = deployment.Build(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// quick are EC2's times in tests.
var quick = ec2.Config{Pending: 200 * time.Millisecond, ShuttingDown: 5 * time.Second}

// set builds a scene for one test; at its end, nothing that was asked of AWS may have left AWS's own models.
func set(t *testing.T, c deployment.SceneConfig) *deployment.Scene {
	t.Helper()
	c.Dir, c.Programs = t.TempDir(), programs
	if c.Event == nil {
		c.Event = finding(t, "07-eb-ec2-torclient-camel.derived.json")
	}
	if c.Frames == nil && c.Traffic == nil {
		c.Frames = packets.MustLoad("ndpi-trickbot.pcap")
	}
	if c.EC2.Pending == 0 {
		c.EC2 = quick
	}
	change := c.Change
	c.Change = func(s *events.Settings) {
		s.DurationSeconds, s.ProofSeconds, s.DrainSeconds = 5, 10, 10
		if change != nil {
			change(s)
		}
	}
	log := &logFile{t: t}
	c.Log = log
	s, err := deployment.Set(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the region: %v", err)
		}
		for _, v := range s.Region.Violations() {
			t.Errorf("a request left AWS's service model: %v", v)
		}
		log.show()
	})
	return s
}

// logFile keeps what functions and collectors log, for the case that the test fails.
type logFile struct {
	t      *testing.T
	buffer lockedBuffer
}

func (l *logFile) Write(p []byte) (int, error) { return l.buffer.Write(p) }

func (l *logFile) show() {
	if l.t.Failed() {
		l.t.Logf("log of functions:\n%s", l.buffer.String())
	}
}

func finding(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(programs.Root, "events", "testdata", "findings", name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// publish puts the scene's event on the bus and returns the execution that it starts.
func publish(t *testing.T, s *deployment.Scene) *asl.Execution {
	t.Helper()
	matched, err := s.Publish()
	if err != nil {
		t.Fatal(err)
	}
	if len(matched) == 0 {
		t.Fatalf("no rule matches the event")
	}
	var x *asl.Execution
	eventually(t, 20*time.Second, "an execution starts", func() bool {
		if names := s.Region.Executions(); len(names) > 0 {
			x = s.Region.Execution(names[0])
		}
		return x != nil
	})
	return x
}

// finish waits for an execution's end.
func finish(t *testing.T, x *asl.Execution) *asl.Result {
	t.Helper()
	select {
	case <-x.Done():
	case <-time.After(2 * time.Minute):
		t.Fatalf("the execution is still running; its states so far: %v", x.Trace())
	}
	return x.Describe()
}

func eventually(t *testing.T, patience time.Duration, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

func manifest(t *testing.T, s *deployment.Scene, c events.CaptureID) events.Manifest {
	t.Helper()
	var m events.Manifest
	text, err := os.ReadFile(s.Path(events.ManifestKey(c)))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// nothingLeft demands that nothing of any capture is running.
func nothingLeft(t *testing.T, s *deployment.Scene) {
	t.Helper()
	left, err := s.Left()
	// An instance is terminated as soon as EC2 says so; its processes end a moment later, on a busy machine.
	ending := func(what string) bool { return strings.HasPrefix(what, "process of ") }
	for end := time.Now().Add(10 * time.Second); err == nil && len(left) > 0 && !slices.ContainsFunc(left, func(what string) bool { return !ending(what) }) && time.Now().Before(end); {
		time.Sleep(100 * time.Millisecond)
		left, err = s.Left()
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(left) > 0 {
		t.Errorf("left running: %v", left)
	}
}

// sameFrames demands that the evidence holds exactly the frames that the mirror sent, in order, with their true lengths.
func sameFrames(t *testing.T, s *deployment.Scene, c events.CaptureID) {
	t.Helper()
	got, err := s.Frames(c)
	if err != nil {
		t.Fatal(err)
	}
	sent := s.Plane.Sent()
	if len(sent) == 0 {
		t.Fatal("the mirror sent nothing")
	}
	if len(got) != len(sent) {
		t.Fatalf("the evidence holds %d frames, the mirror sent %d", len(got), len(sent))
	}
	for i, f := range got {
		if !bytes.Equal(f.Data, sent[i].Frame) {
			t.Fatalf("frame %d differs from what the mirror sent", i+1)
		}
		if len(f.Data) < sent[i].OrigLen && f.OrigLen <= len(f.Data) {
			t.Fatalf("frame %d was cut from %d to %d bytes, and its record does not say so", i+1, sent[i].OrigLen, len(f.Data))
		}
		if at := f.At.Sub(sent[i].At); at < -time.Second || at > time.Second {
			t.Fatalf("frame %d is dated %s from when it was sent", i+1, at)
		}
	}
}

func TestAFindingBecomesIdenticalFrames(t *testing.T) {
	request := []byte(`{"version": "0", "id": "1", "detail-type": "Capture Request", "source": "flashtap", "account": "123456789012",
		"time": "2026-01-02T03:04:05Z", "region": "us-east-1", "resources": [],
		"detail": {"instanceId": "i-0123456789abcdef0", "reason": "by hand", "durationSeconds": 5}}`)
	for _, row := range []struct {
		name         string
		event        string
		recording    string
		ipv6         bool
		packetLength int32
	}{
		{"a Tor client", "07-eb-ec2-torclient-camel.derived.json", "ndpi-trickbot.pcap", false, 0},
		{"a DGA request over DNS, headers only", "08-eb-ec2-dga-dns-camel.derived.json", "zeek-dns-edns-ecs.pcap", false, 128},
		{"no interface id in the finding", "01-eb-ec2-minimal-no-eni-id.json", "ndpi-443-firefox.pcap", false, 0},
		{"an instance id alone", "02-eb-ec2-instance-id-only.json", "ndpi-http_ipv6.pcap", false, 0},
		{"a Security Hub action", "12-eb-securityhub-custom-action-ec2.json", "arkime-twovlan.pcap", false, 0},
		{"an attack sequence, outer IPv6", "16-eb-attacksequence-ec2-group.authored.json", "ndpi-trickbot.pcap", true, 0},
		{"outer IPv6, headers only", "07-eb-ec2-torclient-camel.derived.json", "ndpi-443-firefox.pcap", true, 96},
		{"a request by hand", "", "zeek-get.pcap", false, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			event := request
			if row.event != "" {
				event = finding(t, row.event)
			}
			s := set(t, deployment.SceneConfig{
				Event: event, Frames: packets.MustLoad(row.recording), OuterIPv6: row.ipv6, Replay: 2 * time.Second,
				Change: func(set *events.Settings) { set.PacketLength = row.packetLength },
			})
			x := publish(t, s)
			result := finish(t, x)
			if result.Status != asl.Succeeded {
				t.Fatalf("the execution %s: %s: %s", result.Status, result.Error, result.Cause)
			}
			c := events.CaptureID(x.Name())
			sameFrames(t, s, c)
			nothingLeft(t, s)
			m := manifest(t, s, c)
			want := events.VerdictComplete
			if m.Tally.Truncated > 0 {
				want = events.VerdictTruncated
			}
			if m.Verdict != want || len(m.Reasons) > 0 {
				t.Errorf("the verdict is %q because of %q", m.Verdict, m.Reasons)
			}
			if row.packetLength > 0 && m.Tally.Truncated == 0 {
				t.Errorf("nothing was truncated at a packet length of %d", row.packetLength)
			}
			if !m.Tally.Balanced() || m.Tally.Rejected.Total() > 0 {
				t.Errorf("the tally: %+v", m.Tally)
			}
		})
	}
}

func TestRefusedSourcesCreateNothing(t *testing.T) {
	for _, row := range []struct {
		name, instanceType, event, status, reason string
	}{
		{"an instance type that AWS does not mirror", "t2.micro", "07-eb-ec2-torclient-camel.derived.json", "NotMirrorable", "t2.micro"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := set(t, deployment.SceneConfig{Event: finding(t, row.event), Type: row.instanceType})
			result := finish(t, publish(t, s))
			if result.Status != asl.Failed || result.Error != row.status || !strings.Contains(result.Cause, row.reason) {
				t.Errorf("the execution %s: %s: %s", result.Status, result.Error, result.Cause)
			}
			nothingLeft(t, s)
			for _, call := range s.Region.Calls() {
				if call.Service == "ec2" && strings.HasPrefix(call.Operation, "Create") || call.Operation == "RunInstances" {
					t.Errorf("%s was called by %s", call.Operation, call.Principal)
				}
			}
		})
	}
}

func TestEventsThatMeanNoCaptureAreTakenOffTheQueue(t *testing.T) {
	s := set(t, deployment.SceneConfig{})
	for _, event := range []string{
		`{"detail-type": "GuardDuty Finding", "source": "aws.guardduty", "detail": {"severity": 8, "type": "Recon:IAMUser/X", "resource": {"resourceType": "AccessKey"}}}`,
		`{"detail-type": "GuardDuty Finding", "source": "aws.guardduty", "account": "999999999999", "region": "us-east-1",
		  "detail": {"severity": 8, "accountId": "999999999999", "region": "us-east-1", "resource": {"resourceType": "Instance", "instanceDetails": {"instanceId": "i-0123456789abcdef0"}}}}`,
		`{"detail-type": "Capture Request", "source": "flashtap", "detail": {"instanceId": "not an id", "packetLength": 3}}`,
	} {
		matched, err := s.Deployment.Publish([]byte(event))
		if err != nil || len(matched) == 0 {
			t.Fatalf("publish: matched %v, %v", matched, err)
		}
	}
	eventually(t, 30*time.Second, "the queue is empty", func() bool {
		messages, err := s.Region.Queues.Messages(s.Intake)
		return err == nil && len(messages) == 0
	})
	if names := s.Region.Executions(); len(names) > 0 {
		t.Errorf("executions were started: %v", names)
	}
	if captures, err := s.Captures(); err != nil || len(captures) > 0 {
		t.Errorf("captures in the bucket: %v, %v", captures, err)
	}
}

var _ io.Writer = (*logFile)(nil)
