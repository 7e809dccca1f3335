package deployment_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"flashtap/events"
	"flashtap/testutil/deployment"
	"flashtap/testutil/packets"
	"flashtap/testutil/region"
	"flashtap/testutil/region/asl"
)

// mirroring is a suspect that never falls silent, to which something happens when its session is being made: after preflight
// and launch, before any packet.
func mirroring(t *testing.T, change func(*events.Settings), happens func(*deployment.Scene)) *deployment.Scene {
	t.Helper()
	s := set(t, deployment.SceneConfig{Frames: packets.MustLoad("zeek-get.pcap"), Loop: true, PPS: 200, Change: func(set *events.Settings) {
		set.ProofSeconds, set.DurationSeconds = 4, 6
		if change != nil {
			change(set)
		}
	}})
	var once sync.Once
	s.Region.Inject(func(c region.Call) *region.Fault {
		if c.Operation == "CreateTrafficMirrorSession" {
			once.Do(func() { happens(s) })
		}
		return nil
	})
	return s
}

// ear hears the events that a deployment publishes.
type ear struct {
	mu    sync.Mutex
	heard map[string][]string // details, by detail-type
}

func hear(t *testing.T, s *deployment.Scene) *ear {
	e := &ear{heard: map[string][]string{}}
	s.Region.Listen(func(event []byte) {
		var envelope struct {
			DetailType string `json:"detail-type"`
			Detail     json.RawMessage
		}
		if err := json.Unmarshal(event, &envelope); err != nil {
			t.Errorf("an event that is none: %v: %s", err, event)
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		e.heard[envelope.DetailType] = append(e.heard[envelope.DetailType], strings.ReplaceAll(string(envelope.Detail), ": ", ":"))
	})
	return e
}

func (e *ear) of(kind string) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.heard[kind]
}

// groupOf is the security group of the capture.
func groupOf(s *deployment.Scene) string {
	for _, r := range s.Region.EC2.Resources() {
		if r.Type == "security-group" && r.Tags[events.TagCapture] != "" {
			return r.ID
		}
	}
	return ""
}

func TestALostRuleIsGivenBack(t *testing.T) {
	t.Parallel()
	s := mirroring(t, func(set *events.Settings) { set.DurationSeconds = 30 }, func(s *deployment.Scene) { s.Region.EC2.RemoveGroupRules(groupOf(s), false) })
	ear := hear(t, s)
	x := publish(t, s)
	result := finish(t, x)
	if result.Status != asl.Succeeded {
		t.Fatalf("the execution %s: %s: %s", result.Status, result.Error, result.Cause)
	}
	c := events.CaptureID(x.Name())
	var e events.CustodyEntry
	readJSON(t, s.Path(events.CustodyKey(c, "watch", "repaired-security-group")), &e)
	if !strings.HasPrefix(e.Resource, "sg-") || len(ear.of(events.EventFlowing)) != 1 || len(ear.of(events.EventSilent)) != 0 {
		t.Errorf("repaired %+v; told %v, and of silence %v", e, ear.of(events.EventFlowing), ear.of(events.EventSilent))
	}
	if m := manifest(t, s, c); held(m) == 0 {
		t.Error("no packet is in the evidence")
	}
	nothingLeft(t, s)
}

// Where no packet can come, the capture says why, and ends before its time.
func TestHopelessSilenceEndsTheCapture(t *testing.T) {
	t.Parallel()
	s := mirroring(t, func(set *events.Settings) { set.DurationSeconds = 300 }, func(s *deployment.Scene) { s.Region.EC2.StopSuspect(s.Instance) })
	ear := hear(t, s)
	x := publish(t, s)
	begun := time.Now()
	result := finish(t, x)
	if result.Status != asl.Failed || result.Error != events.ErrorNoPackets || !strings.Contains(result.Cause, s.Instance+" is stop") {
		t.Fatalf("the execution %s: %s: %s", result.Status, result.Error, result.Cause)
	}
	if took := time.Since(begun); took > 3*time.Minute {
		t.Errorf("it took %s", took)
	}
	c := events.CaptureID(x.Name())
	silent := ear.of(events.EventSilent)
	if len(silent) != 1 || !strings.Contains(silent[0], `"cause":"`+events.CauseInstanceType+`"`) || !strings.Contains(silent[0], `"hopeless":true`) || !strings.Contains(silent[0], `"remedy":"`) {
		t.Errorf("told %v", silent)
	}
	if m := manifest(t, s, c); !strings.HasPrefix(m.Error, events.ErrorNoPackets+": ") || m.Verdict == events.VerdictComplete {
		t.Errorf("the manifest's error is %q, its verdict %q", m.Error, m.Verdict)
	}
	var e events.CustodyEntry
	readJSON(t, s.Path(events.CustodyKey(c, "watch", "silent-"+events.CauseInstanceType)), &e)
	nothingLeft(t, s)
}

// A source that says nothing is captured on, for it may begin to.
func TestAnIdleSourceIsCapturedOn(t *testing.T) {
	t.Parallel()
	s := set(t, deployment.SceneConfig{Change: func(set *events.Settings) { set.ProofSeconds, set.DurationSeconds = 2, 6 }})
	eni := s.AddSuspect("i-0bbbbbbbbbbbbbbbb", "eni-0bbbbbbbbbbbbbbbb")
	ear := hear(t, s)
	request(t, s, eni)
	x := execution(t, s, 1)
	result := finish(t, x)
	if result.Status != asl.Succeeded || !contains(result.Trace(), "AwaitEnd") {
		t.Fatalf("the execution %s: %s: %s", result.Status, result.Error, result.Cause)
	}
	silent := ear.of(events.EventSilent)
	if len(silent) != 1 || !strings.Contains(silent[0], `"hopeless":false`) {
		t.Errorf("told %v", silent)
	}
	if m := manifest(t, s, events.CaptureID(x.Name())); m.Verdict != events.VerdictNothing {
		t.Errorf("the verdict is %q", m.Verdict)
	}
	nothingLeft(t, s)
}

// A collector that does not come up leaves what it said on its console.
func TestTheConsoleOfACollectorThatDiedIsKept(t *testing.T) {
	t.Parallel()
	s := looping(t, func(set *events.Settings) { // its program is not the pinned one
		for arch := range set.BinaryDigests {
			set.BinaryDigests[arch] = strings.Repeat("0", 64)
		}
	})
	x := publish(t, s)
	result := finish(t, x)
	c := events.CaptureID(x.Name())
	kept, err := filepath.Glob(filepath.Join(s.Path(events.CapturePrefix(c)), "console", "i-*.txt"))
	if err != nil || len(kept) != 1 {
		t.Fatalf("the execution %s: %s: %s; kept %v, %v", result.Status, result.Error, result.Cause, kept, err)
	}
	if result.Error != "CollectorDied" || !strings.Contains(result.Cause, "captures/"+string(c)+"/console/") {
		t.Errorf("the execution %s: %s: %s", result.Status, result.Error, result.Cause)
	}
	if m := manifest(t, s, c); !strings.Contains(m.Error, "console/i-") {
		t.Errorf("the manifest's error is %q", m.Error)
	}
	nothingLeft(t, s)
}
