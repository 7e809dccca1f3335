package deployment_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"flashtap/events"
	"flashtap/testutil/deployment"
	"flashtap/testutil/packets"
	"flashtap/testutil/region"
	"flashtap/testutil/region/asl"
	"flashtap/testutil/region/ec2"
)

// looping is a suspect that never falls silent.
func looping(t *testing.T, change func(*events.Settings)) *deployment.Scene {
	return set(t, deployment.SceneConfig{Frames: packets.MustLoad("zeek-get.pcap"), Loop: true, PPS: 200, Change: change})
}

// flowing waits until the collector has written packets of the suspect into a sealed and uploaded segment.
func flowing(t *testing.T, s *deployment.Scene, x *asl.Execution) events.CaptureID {
	t.Helper()
	c := events.CaptureID(x.Name())
	eventually(t, 40*time.Second*2, "a segment is in the bucket", func() bool {
		files, err := s.Segments(c)
		return err == nil && len(files) > 0
	})
	return c
}

// sweepUntilClean sweeps, as the schedule would, until nothing is left.
func sweepUntilClean(t *testing.T, s *deployment.Scene) {
	t.Helper()
	eventually(t, 40*time.Second, "the sweep leaves nothing", func() bool {
		if report, err := s.Sweep(t.Context()); err != nil {
			t.Fatalf("%v (report %s)", err, report)
		}
		left, err := s.Left()
		return err == nil && len(left) == 0
	})
}

// orderedSubset demands that every frame in the evidence is one that the mirror sent, in the order in which it sent them.
func orderedSubset(t *testing.T, s *deployment.Scene, c events.CaptureID) int {
	t.Helper()
	got, err := s.Frames(c)
	if err != nil {
		t.Fatal(err)
	}
	sent := s.Plane.Sent()
	next := 0
	for i, f := range got {
		for next < len(sent) && !bytes.Equal(sent[next].Frame, f.Data) {
			next++
		}
		if next == len(sent) {
			t.Fatalf("frame %d of the evidence was not sent, or not in this order", i+1)
		}
		next++
	}
	return len(got)
}

// taskStates are the states of the machine that can fail.
func taskStates(t *testing.T) []string {
	t.Helper()
	definition, err := os.ReadFile(filepath.Join(programs.Root, "infra", "capture.asl.json"))
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]string{}
	for _, f := range []string{"Preflight", "Guard", "Launch", "Mirror", "Watch", "Teardown", "Seal"} {
		names[f+"Function"] = strings.ToLower(f)
	}
	names["EventBus"] = "default"
	machine, err := asl.Parse(definition, names)
	if err != nil {
		t.Fatal(err)
	}
	var tasks []string
	machine.Walk(func(s *asl.State) {
		if s.Type == asl.Task {
			tasks = append(tasks, s.Name)
		}
	})
	return tasks
}

// Whatever state fails, what was sealed by then is in the bucket, the manifest declares the rest, and after the sweep
// nothing is left.
func TestEveryStateMayFail(t *testing.T) {
	for _, state := range taskStates(t) {
		if strings.HasPrefix(state, "Publish") && state != "PublishFlowing" && state != "PublishSealed" {
			continue // entered only by failing something else first
		}
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			s := looping(t, nil)
			s.Region.FailStates(func(_, at string) *asl.Error {
				if at != state {
					return nil
				}
				return &asl.Error{Name: "Injected", Cause: "the test makes " + state + " fail"}
			})
			x := publish(t, s)
			result := finish(t, x)
			c := events.CaptureID(x.Name())
			if state != "PublishFlowing" && result.Status != asl.Failed {
				t.Errorf("the execution %s", result.Status)
			}
			sweepUntilClean(t, s)
			if state == "Preflight" {
				return // nothing was captured, and no plan exists to seal
			}
			eventually(t, 20*time.Second, "the capture is sealed", func() bool {
				if _, err := s.Sweep(t.Context()); err != nil {
					t.Fatal(err)
				}
				_, err := os.Stat(s.Path(events.ManifestKey(c)))
				return err == nil
			})
			m := manifest(t, s, c)
			n := orderedSubset(t, s, c)
			if uint64(n) != held(m) {
				t.Errorf("%d frames in the evidence, %d in the manifest", n, held(m))
			}
			captured := result.Trace()
			if contains(captured, "Watch") && n == 0 {
				t.Errorf("nothing was kept of a capture that ran: %v", m.Reasons)
			}
		})
	}
}

func held(m events.Manifest) (n uint64) {
	for _, s := range m.Segments {
		n += s.Packets
	}
	return n
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

func TestACrashedCollectorComesBackAndLosesNothingSealed(t *testing.T) {
	t.Parallel()
	s := looping(t, func(set *events.Settings) { set.DurationSeconds, set.SegmentSeconds = 12, 2 })
	x := publish(t, s)
	c := flowing(t, s, x)
	before, err := s.Segments(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range s.Guest.Instances() {
		if err := s.Guest.Crash(id); err != nil {
			t.Fatal(err)
		}
	}
	result := finish(t, x)
	if result.Status != asl.Succeeded {
		t.Errorf("the execution %s: %s: %s", result.Status, result.Error, result.Cause)
	}
	after, err := s.Segments(c)
	if err != nil {
		t.Fatal(err)
	}
	if len(after) <= len(before) {
		t.Errorf("%d segments before the crash, %d at the end", len(before), len(after))
	}
	orderedSubset(t, s, c)
	nothingLeft(t, s)
	m := manifest(t, s, c)
	if m.Verdict != events.VerdictIncomplete || len(m.Reasons) == 0 {
		t.Errorf("a crash lost packets, and the verdict is %q: %q", m.Verdict, m.Reasons)
	}
}

func TestAHostThatDiesLeavesWhatWasUploaded(t *testing.T) {
	t.Parallel()
	s := looping(t, func(set *events.Settings) { set.DurationSeconds, set.SegmentSeconds = 30, 2 })
	x := publish(t, s)
	c := flowing(t, s, x)
	eventually(t, 20*time.Second, "a checkpoint names a segment", func() bool { return checkpointed(t, s, c) })
	for _, id := range s.Guest.Instances() {
		if err := s.Region.PullPlug(id); err != nil {
			t.Fatal(err)
		}
	}
	finish(t, x)
	if n := orderedSubset(t, s, c); n == 0 {
		t.Error("no frame is left")
	}
	nothingLeft(t, s)
	m := manifest(t, s, c)
	if m.Verdict != events.VerdictIncomplete || held(m) == 0 || !m.Collectors[0].Derived || !slices.ContainsFunc(m.Reasons, func(r string) bool { return strings.HasPrefix(r, "incomplete from ") }) {
		t.Errorf("the verdict is %q with %d segments: %q", m.Verdict, len(m.Segments), m.Reasons)
	}
	key := filepath.Join(t.TempDir(), "signer.der")
	if err := os.WriteFile(key, signingKey(t, s), 0o666); err != nil {
		t.Fatal(err)
	}
	if out, code := flashtap(t, s, "verify", "s3://"+s.Settings.Bucket+"/captures/"+string(c), "--key", key); code != 5 || !strings.HasPrefix(out, "authentic") {
		t.Errorf("exit %d: %s", code, out)
	}
}

// checkpointed says whether a checkpoint in the bucket has the record of a segment.
func checkpointed(t *testing.T, s *deployment.Scene, c events.CaptureID) bool {
	t.Helper()
	names, err := filepath.Glob(s.Path(events.CheckpointsPrefix(c, "*")) + "/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		var said events.Checkpoint
		if body, err := os.ReadFile(name); err == nil && json.Unmarshal(body, &said) == nil && len(said.Records) > 0 {
			return true
		}
	}
	return false
}

func TestAnS3OutageIsSurvived(t *testing.T) {
	t.Parallel()
	s := looping(t, func(set *events.Settings) {
		set.DurationSeconds, set.SegmentSeconds, set.DrainSeconds = 8, 2, 60
	})
	x := publish(t, s)
	c := flowing(t, s, x)
	s.Region.S3.Stop()
	time.Sleep(20 * time.Second)
	if err := s.Region.S3.Restart(); err != nil {
		t.Fatal(err)
	}
	result := finish(t, x)
	if result.Status != asl.Succeeded {
		t.Errorf("the execution %s: %s: %s", result.Status, result.Error, result.Cause)
	}
	sameFrames(t, s, c)
	nothingLeft(t, s)
}

// An execution that is stopped runs no Catch. Its end comes from the status event and the sweep.
func TestAStoppedExecutionIsCleanedUpAndSealed(t *testing.T) {
	t.Parallel()
	s := looping(t, func(set *events.Settings) { set.DurationSeconds, set.SegmentSeconds = 60, 1 })
	x := publish(t, s)
	c := flowing(t, s, x)
	x.Stop("Operator", "wrong button")
	finish(t, x)
	sweepUntilClean(t, s)
	eventually(t, 20*time.Second, "the event's sweep or the next seals", func() bool {
		if _, err := os.Stat(s.Path(events.ManifestKey(c))); err == nil {
			return true
		}
		return false
	})
	if n := orderedSubset(t, s, c); n == 0 {
		t.Error("no frame is left")
	}
}

// The guard alone: no state machine, no sweep.
func TestTheGuardAloneEndsACapture(t *testing.T) {
	t.Parallel()
	s := set(t, deployment.SceneConfig{
		Frames: packets.MustLoad("zeek-get.pcap"), Loop: true, PPS: 200, ScheduleSpeed: 150, WithoutSweep: true,
		Change: func(set *events.Settings) {
			set.ReadySeconds, set.DurationSeconds, set.DrainSeconds, set.SegmentSeconds = 25, 5, 5, 1
		},
	})
	x := publish(t, s)
	flowing(t, s, x)
	x.Stop("Operator", "wrong button")
	finish(t, x)
	eventually(t, 90*time.Second, "the guard removes everything, itself last", func() bool {
		left, err := s.Left()
		return err == nil && len(left) == 0
	})
}

func TestTheInstanceAloneEndsItself(t *testing.T) {
	t.Parallel()
	s := set(t, deployment.SceneConfig{
		Frames: packets.MustLoad("zeek-get.pcap"), Loop: true, PPS: 200, WithoutSweep: true,
		Change: func(set *events.Settings) {
			set.ReadySeconds, set.DurationSeconds, set.SegmentSeconds = 25, 5, 1
		},
	})
	s.Region.Inject(func(c region.Call) *region.Fault { // nobody else may end anything
		if c.Operation == "TerminateInstances" || strings.HasPrefix(c.Operation, "Delete") {
			return &region.Fault{Code: "UnauthorizedOperation", Status: 403}
		}
		return nil
	})
	x := publish(t, s)
	c := flowing(t, s, x)
	x.Stop("Operator", "wrong button")
	finish(t, x)
	eventually(t, 60*time.Second, "the instance has ended and its manifest is there", func() bool {
		found, err := filepath.Glob(filepath.Join(s.Path(events.CollectorsPrefix(c)), "*", "manifest.json"))
		return err == nil && len(found) == 1 && len(s.Guest.Instances()) == 0
	})
}

func TestASecondFindingJoinsTheRunningCapture(t *testing.T) {
	t.Parallel()
	s := looping(t, func(set *events.Settings) { set.DurationSeconds = 8 })
	x := publish(t, s)
	c := flowing(t, s, x)
	again := bytes.Replace(s.Event, []byte(`"count": 2`), []byte(`"count": 3`), 1)
	if bytes.Equal(again, s.Event) {
		t.Fatal("the finding has no count to change")
	}
	if _, err := s.Deployment.Publish(again); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "the event lies with the capture", func() bool {
		joined, err := filepath.Glob(filepath.Join(s.Path(events.CapturePrefix(c)), "joined", "*.json"))
		return err == nil && len(joined) == 1
	})
	if names := s.Region.Executions(); len(names) != 1 {
		t.Errorf("executions: %v", names)
	}
	finish(t, x)
	nothingLeft(t, s)
}

func TestOverTheCapAFindingWaitsAndIsLetInLater(t *testing.T) {
	t.Parallel()
	s := looping(t, func(set *events.Settings) { set.MaxCaptures = 1; set.DurationSeconds = 5 })
	other := s.AddSuspect("i-0bbbbbbbbbbbbbbbb", "eni-0bbbbbbbbbbbbbbbb")
	x := publish(t, s)
	flowing(t, s, x)
	request := fmt.Sprintf(`{"detail-type": "Capture Request", "source": "flashtap", "detail": {"networkInterfaceId": %q, "severity": 5}}`, other)
	if _, err := s.Deployment.Publish([]byte(request)); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "the request waits", func() bool {
		messages, err := s.Region.Queues.Messages(s.Waiting)
		return err == nil && len(messages) == 1
	})
	finish(t, x)
	eventually(t, 60*time.Second, "the sweep lets it in", func() bool {
		if _, err := s.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		return len(s.Region.Executions()) == 2
	})
	for _, name := range s.Region.Executions() {
		finish(t, s.Region.Execution(name))
	}
	nothingLeft(t, s)
}

// Every Create takes effect and its answer is lost, once: the second try must find what the first one made.
func TestLostAnswersMakeNothingTwice(t *testing.T) {
	t.Parallel()
	s := looping(t, nil)
	var mu sync.Mutex
	lost := map[string]bool{}
	s.Region.Inject(func(c region.Call) *region.Fault {
		mu.Lock()
		defer mu.Unlock()
		creates := strings.HasPrefix(c.Operation, "Create") || strings.HasPrefix(c.Operation, "Start") || c.Operation == "RunInstances" || c.Operation == "PutObject"
		if !creates || lost[c.Principal+c.Operation] {
			return nil
		}
		lost[c.Principal+c.Operation] = true
		return &region.Fault{Drop: true, After: true}
	})
	x := publish(t, s)
	result := finish(t, x)
	if result.Status != asl.Succeeded {
		t.Fatalf("the execution %s: %s: %s", result.Status, result.Error, result.Cause)
	}
	count := map[string]int{}
	for _, r := range s.Region.EC2.Resources() {
		count[r.Type]++
	}
	sameFrames(t, s, events.CaptureID(x.Name()))
	nothingLeft(t, s)
	names := deployment.Config().Names()
	names.Region = s.Settings.Region
	for _, operation := range []string{
		names.FunctionName("mirror") + "CreateTrafficMirrorSession", names.FunctionName("launch") + "RunInstances",
		names.FunctionName("guard") + "CreateSchedule", names.CollectorName() + "PutObject",
	} {
		if !lost[operation] {
			t.Errorf("%s was never called, so its answer was not lost", operation)
		}
	}
}

func TestThrottlesAndSlowConsistencyAreSurvived(t *testing.T) {
	t.Parallel()
	s := set(t, deployment.SceneConfig{
		Frames: packets.MustLoad("zeek-get.pcap"), Loop: true, PPS: 200,
		EC2:    ec2.Config{Pending: 200 * time.Millisecond, ShuttingDown: 5 * time.Second, Consistency: 700 * time.Millisecond},
		Change: func(set *events.Settings) { set.ReadySeconds = 90 },
	})
	var mu sync.Mutex
	calls := 0
	s.Region.Inject(func(c region.Call) *region.Fault {
		mu.Lock()
		defer mu.Unlock()
		if calls++; c.Service == "ec2" && calls%4 == 0 {
			return &region.Fault{Code: "RequestLimitExceeded"}
		}
		return nil
	})
	x := publish(t, s)
	if result := finish(t, x); result.Status != asl.Succeeded {
		t.Fatalf("the execution %s: %s: %s", result.Status, result.Error, result.Cause)
	}
	sameFrames(t, s, events.CaptureID(x.Name()))
	nothingLeft(t, s)
}

func TestWithoutCapacityTheNextTypeIsTaken(t *testing.T) {
	t.Parallel()
	s := looping(t, nil)
	for _, zone := range []string{"a", "b", "c"} {
		s.Region.EC2.SetCapacity("c7i.large", "us-east-1"+zone, 0) // the slowest that keeps up with the suspect
	}
	x := publish(t, s)
	if result := finish(t, x); result.Status != asl.Succeeded {
		t.Fatalf("the execution %s: %s: %s", result.Status, result.Error, result.Cause)
	}
	var types []string
	for _, call := range s.Region.Calls() {
		if one := fmt.Sprint(call.Params["InstanceType"], " ", call.Code); call.Operation == "RunInstances" && (len(types) == 0 || types[len(types)-1] != one) {
			types = append(types, one)
		}
	}
	if len(types) != 2 || types[0] != "c7i.large InsufficientInstanceCapacity" || types[1] != "c7g.large " {
		t.Errorf("launches: %q", types)
	}
	nothingLeft(t, s)
}
