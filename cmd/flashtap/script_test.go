package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"flashtap/events"
	"flashtap/testutil/s3"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"flashtap": main})
}

// TestScripts runs testdata/script/*.txtar, each with an AWS account of its own. Besides testscript's commands there are
//
//	exits CODE COMMAND ...   runs a command and demands the exit code
//	account WHAT             changes the account; see changes
func TestScripts(t *testing.T) {
	bucket, err := s3.Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bucket.Stop)
	findings, err := filepath.Abs("../../events/testdata/findings")
	if err != nil {
		t.Fatal(err)
	}
	outer, err := filepath.Abs("testdata/decap")
	if err != nil {
		t.Fatal(err)
	}
	var buckets atomic.Int64
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", RequireExplicitExec: true, RequireUniqueNames: true, ContinueOnError: true, UpdateScripts: *update,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "account": change, "evidence": leaveEvidence, "spoil": spoil},
		Setup: func(e *testscript.Env) error {
			a := newAccount(t, bucket, "flashtap-"+strconv.FormatInt(buckets.Add(1), 10))
			e.Defer(a.close)
			e.Values[accountKey{}] = a
			for name, value := range a.environ() {
				e.Setenv(name, value)
			}
			e.Setenv("FINDINGS", findings)
			e.Setenv("OUTER", outer)
			for name, c := range captures(time.Now()) {
				e.Setenv(name, string(c))
			}
			return nil
		},
	})
}

type accountKey struct{}

// captures are the ids that scripts know by these variables.
func captures(now time.Time) map[string]events.CaptureID {
	return map[string]events.CaptureID{
		"RUNNING":  events.NewCaptureID(now.Add(-time.Minute), "eni-0000000000000000a"),
		"JOINED":   events.NewCaptureID(now.Add(-30*time.Second), "eni-0000000000000000a"),
		"SEALED":   events.NewCaptureID(now.Add(-2*time.Hour), "eni-0000000000000000b"),
		"REFUSED":  events.NewCaptureID(now.Add(-3*time.Hour), "eni-0000000000000000c"),
		"UNSEALED": events.NewCaptureID(now.Add(-4*time.Hour), "eni-0000000000000000d"),
		"GONE":     events.NewCaptureID(now.Add(-5*time.Hour), "eni-0000000000000000e"),
		"OLD":      events.NewCaptureID(now.Add(-9*day), "eni-0000000000000000f"),
	}
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND ...")
	}
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if want := args[0]; strconv.Itoa(got) != want {
		ts.Fatalf("exit code %d, want %s", got, want)
	}
}

func change(ts *testscript.TestScript, neg bool, args []string) {
	a := ts.Value(accountKey{}).(*account)
	id := func(name string) events.CaptureID { return events.CaptureID(ts.Getenv(name)) }
	if neg || len(args) != 1 || changes[args[0]] == nil {
		ts.Fatalf("usage: account WHAT, one of %v", changes)
	}
	changes[args[0]](a, id)
}

// setStep has a function answer differently from now on.
func (a *account) setStep(name string, s step) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.steps[name] = s
}

// changes are what scripts can do to their account.
var changes = map[string]func(a *account, id func(string) events.CaptureID){
	// holds-captures fills the bucket with a capture in every state, and EC2 with what the running one has made.
	"holds-captures": func(a *account, id func(string) events.CaptureID) {
		running := planOf(id("RUNNING"), 15*time.Minute)
		a.begin(running)
		a.inhabit(running)
		sealed := planOf(id("SEALED"), 15*time.Minute)
		a.begin(sealed)
		a.seal(sealed, events.VerdictIncomplete, "3 packets could not be written")
		refused := planOf(id("REFUSED"), 15*time.Minute)
		refused.Go = false
		refused.Verdicts = []events.Verdict{{Check: "instance-family", Result: events.Fail, Reason: "AWS does not mirror t2.micro", Remedy: "capture a peer"}}
		a.put(events.PlanKey(refused.Capture), refused)
		a.begin(planOf(id("UNSEALED"), 15*time.Minute))
		a.put(events.FindingKey(id("GONE")), map[string]any{"detail-type": "GuardDuty Finding", "source": "aws.guardduty",
			"detail": map[string]any{"type": "Trojan:EC2/DGADomainRequest.B", "resource": map[string]any{"resourceType": "Instance"}}})
		joined := planOf(id("JOINED"), 15*time.Minute)
		a.put(events.PlanKey(joined.Capture), joined)
		a.put(events.CustodyKey(joined.Capture, "guard", events.ActJoined), events.CustodyEntry{Version: 1, Capture: joined.Capture, Actor: "guard", Act: events.ActJoined,
			Detail: map[string]string{"to": string(id("RUNNING"))}})
		old := planOf(id("OLD"), time.Hour)
		a.begin(old)
		a.seal(old, events.VerdictComplete)
	},
	// is-silent records what watch does when no packet of the running capture arrives.
	"is-silent": func(a *account, id func(string) events.CaptureID) {
		c := id("RUNNING")
		a.put(events.CustodyKey(c, "watch", "silent-"+events.CauseRoute), events.CustodyEntry{Version: 1, Capture: c, Actor: "watch", Act: "silent-" + events.CauseRoute,
			At: time.Date(2026, 11, 22, 3, 4, 5, 0, time.UTC), Detail: map[string]string{"reason": "no packet within 120 s: route: blackhole", "remedy": "replace the route"}})
	},
	"refuses-the-source": func(a *account, _ func(string) events.CaptureID) {
		a.setStep("preflight", func(map[string]any) (any, error) {
			return nil, refusal{"NotMirrorable", "source eni-0a1b2c3d4e5f60718 cannot be mirrored: t2.micro; capture a peer"}
		})
	},
	"captures-the-source-already": func(a *account, _ func(string) events.CaptureID) {
		a.setStep("guard", func(map[string]any) (any, error) {
			return events.GuardResult{JoinedTo: "20261122T010203Z-eni-0a1b2c3d4e5f60718"}, nil
		})
	},
	"loses-the-collector": func(a *account, _ func(string) events.CaptureID) {
		a.setStep("launch", func(map[string]any) (any, error) {
			return nil, refusal{"NoCapacity", "no capacity for a collector of any of these types: [c7g.large]"}
		})
		a.setStep("seal", func(map[string]any) (any, error) {
			return events.SealResult{Verdict: events.VerdictIncomplete, Reasons: []string{"no collector was launched"}, Manifest: "captures/x/manifest.json"}, nil
		})
	},
	"drops-packets": func(a *account, _ func(string) events.CaptureID) {
		a.setStep("seal", func(map[string]any) (any, error) {
			return events.SealResult{Verdict: events.VerdictIncomplete, Reasons: []string{"7 datagrams were dropped because the socket was full"}, Packets: 3, Manifest: "captures/x/manifest.json"}, nil
		})
	},
	"captures-for-long": func(a *account, _ func(string) events.CaptureID) {
		good := goodSteps()["watch"]
		a.setStep("watch", func(payload map[string]any) (any, error) {
			if payload["phase"] == events.PhaseWatch {
				a.mu.Lock()
				a.calls = append(a.calls, "watch")
				a.mu.Unlock()
				return events.WatchResult{Status: events.StatusWaiting, Reason: "capturing", WaitSeconds: 1, Packets: 12345, Bytes: 5 << 20, Segments: 2, Lost: 1}, nil
			}
			return good(payload)
		})
	},
	"has-an-impostor": func(a *account, _ func(string) events.CaptureID) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.instances[0]["IamInstanceProfile"] = map[string]any{"Arn": profileARN + "-of-somebody"}
	},
	"has-no-collector": func(a *account, _ func(string) events.CaptureID) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.instances = nil
	},
	"denies-ec2": func(a *account, _ func(string) events.CaptureID) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.denied["ec2"] = true
	},
	"denies-states": func(a *account, _ func(string) events.CaptureID) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.denied["states"] = true
	},
	// was-asked-by-a-person demands the stop tag and its record in the chain of custody.
	"was-asked-by-a-person": func(a *account, id func(string) events.CaptureID) {
		a.mu.Lock()
		tags := fmt.Sprint(a.instances[0]["Tags"])
		a.mu.Unlock()
		if want := fmt.Sprint(map[string]any{"Key": events.TagStop, "Value": "operator"}); !strings.Contains(tags, want) {
			a.t.Errorf("tags %s: the stop tag is missing", tags)
		}
		var entry events.CustodyEntry
		err := a.store().ReadJSON(context.Background(), events.CustodyKey(id("RUNNING"), "operator", "asked-to-stop-"+collectorID), &entry)
		if err != nil || entry.Resource != collectorID || entry.RequestID != "request-1" {
			a.t.Errorf("custody entry %+v, %v", entry, err)
		}
	},
	// is-watched waits until the tool has told of a running capture. The second look of watch comes after the first is in
	// the history; a tool that asks for the status again has told what it read before.
	"is-watched": func(a *account, _ func(string) events.CaptureID) {
		for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
			a.mu.Lock()
			told := happened(a.calls, "watch", "watch", "GetExecutionHistory", "DescribeExecution")
			a.mu.Unlock()
			if told {
				return
			}
		}
		a.t.Error("the tool watches no execution")
	},
	"was-not-tagged": func(a *account, _ func(string) events.CaptureID) {
		a.mu.Lock()
		defer a.mu.Unlock()
		for _, call := range a.calls {
			if call == "CreateTags" {
				a.t.Error("something was tagged")
			}
		}
	},
}

// happened says whether the wanted calls are among all, in this order.
func happened(calls []string, wanted ...string) bool {
	for _, call := range calls {
		if len(wanted) > 0 && call == wanted[0] {
			wanted = wanted[1:]
		}
	}
	return len(wanted) == 0
}
