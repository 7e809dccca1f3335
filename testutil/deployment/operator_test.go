package deployment_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"flashtap/events"
	"flashtap/testutil/deployment"
	"flashtap/testutil/region/asl"
)

// A person types the least there is into the Step Functions console.
func TestACaptureIsStartedFromTheConsole(t *testing.T) {
	t.Parallel()
	s := looping(t, nil)
	if _, err := s.Region.StartExecution(s.StateMachine, "by-hand", fmt.Appendf(nil, `{"instanceId": %q}`, s.Instance)); err != nil {
		t.Fatal(err)
	}
	result := finish(t, s.Region.Execution("by-hand"))
	if result.Status != asl.Succeeded {
		t.Fatalf("the execution %s: %s: %s", result.Status, result.Error, result.Cause)
	}
	captures, err := s.Captures()
	if err != nil || len(captures) != 1 {
		t.Fatalf("captures: %v, %v", captures, err)
	}
	sameFrames(t, s, captures[0])
	nothingLeft(t, s)
	if m := manifest(t, s, captures[0]); m.Verdict != events.VerdictComplete {
		t.Errorf("the verdict is %q: %q", m.Verdict, m.Reasons)
	}
}

// flashtap runs the operator's tool against the scene and returns what it wrote and its exit status.
func flashtap(t *testing.T, s *deployment.Scene, args ...string) (string, int) {
	t.Helper()
	cmd := exec.Command(programs.Tool(), args...)
	cmd.Env = os.Environ()
	for name, value := range s.Region.Environ("operator") {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	for name, value := range s.Settings.Environ() {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	out, err := cmd.CombinedOutput()
	t.Logf("flashtap %s: %v\n%s", strings.Join(args, " "), err, out)
	return string(out), cmd.ProcessState.ExitCode()
}

func TestTheOperatorsToolStopsACapture(t *testing.T) {
	t.Parallel()
	s := looping(t, func(set *events.Settings) { set.DurationSeconds = 300 })
	if out, code := flashtap(t, s, "capture", s.ENI, "--reason", "a test"); code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	x := s.Region.Execution(s.Region.Executions()[0])
	var c events.CaptureID
	eventually(t, time.Minute, "the capture runs", func() bool {
		captures, err := s.Captures()
		if err == nil && len(captures) == 1 {
			c = captures[0]
		}
		return contains(x.Trace(), "Watch")
	})
	if out, code := flashtap(t, s, "stop", string(c)); code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	if result := finish(t, x); result.Status != asl.Succeeded {
		t.Fatalf("the execution %s: %s: %s", result.Status, result.Error, result.Cause)
	}
	orderedSubset(t, s, c)
	nothingLeft(t, s)
	out, code := flashtap(t, s, "list", "--output", "json")
	if code != 0 || !json.Valid([]byte(out)) || !strings.Contains(out, string(c)) {
		t.Errorf("exit %d: %s", code, out)
	}
}
