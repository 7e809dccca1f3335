package infra_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"flashtap/events"
	"flashtap/testutil/region/asl"
)

// The bounds of design decision D3. Step Functions itself ends an execution at 25,000 events and a state at 256 KiB
// (Step Functions Developer Guide, "Quotas"); what is left is the reserve for what we did not think of.
const (
	maxEvents = 20_000
	maxState  = 64 << 10
)

// TestWorstCase computes how many events the longest capture can need when every step fails as often as it may, and
// lets the interpreter run that very capture to see whether it counts the same.
func TestWorstCase(t *testing.T) {
	machine := parse(t, callee(t, readCapture(t)))
	loops := loopsOf(t, machine)
	bound := 2 + longest(machine, loops, machine.StartAt, map[string]int{}) // and ExecutionStarted, ExecutionSucceeded
	t.Logf("%d events at worst", bound)
	for _, l := range loops {
		t.Logf("%-9s %6d events", l.task.Name, l.worst[0])
	}
	if bound >= maxEvents {
		t.Errorf("a capture can need %d events, want less than %d", bound, maxEvents)
	}

	o := play(t, machine, unlucky(machine, loops), encoded(t, request))
	t.Logf("the interpreter: %s in %s after %v with %d events", o.status, o.trace[len(o.trace)-1], o.duration, o.events)
	if o.status != "SUCCEEDED" {
		t.Errorf("the unlucky capture ended by %s %s", o.error, o.cause)
	}
	// The longest way may end in another state than this one, which differs by a few events.
	if o.events > bound || o.events < bound-100 {
		t.Errorf("the interpreter counts %d events, computed were %d", o.events, bound)
	}
	if limit := time.Duration(machine.TimeoutSeconds) * time.Second; o.duration > limit {
		t.Errorf("the unlucky capture takes %v, the machine is given %v", o.duration, limit)
	}
}

// The events that Step Functions writes about a state: that it is entered and left, and for each try of a task that it
// is scheduled, was started, and succeeded, failed or timed out.
const (
	eventsOfState = 2
	eventsOfTry   = 3
)

// loop is a phase of a capture: a task that looks, a choice that may end the phase, and a wait before the next look.
type loop struct {
	task         *asl.State
	choice, wait string
	looks        int           // after which it ends, or
	phase        time.Duration // after which a look ends it

	worst []int // by second of the phase: the most events from a look that begins there
	fails []int // by second of the phase: how many tries of that look must fail for it
}

// loopsOf finds the loops of the machine and computes their worst.
func loopsOf(t *testing.T, machine *asl.Machine) map[string]*loop {
	t.Helper()
	s := events.DefaultSettings()
	phases := map[string]time.Duration{
		"Ready": seconds(s.ReadySeconds),
		"Proof": seconds(2 * s.ProofSeconds), // a second window after a repair
		"Watch": events.MaxDuration,
		"Drain": seconds(s.DrainSeconds + s.CollectorPollSeconds + s.CheckpointSeconds),
	}
	looks := map[string]int{"Teardown": stuckAfter(t)}
	loops := map[string]*loop{}
	for _, wait := range machine.States {
		if wait.Type != asl.Wait {
			continue
		}
		task := machine.States[wait.Next]
		choice := machine.States[task.Next]
		if task.Type != asl.Task || choice.Type != asl.Choice || choice.Default != wait.Name {
			t.Fatalf("%s is no loop of a task, a choice and a wait", wait.Name)
		}
		l := &loop{task: task, choice: choice.Name, wait: wait.Name, phase: phases[task.Name], looks: looks[task.Name]}
		switch {
		case l.looks > 0:
			l.count()
		case l.phase > 0:
			l.compute(s)
		default:
			t.Fatalf("nobody knows how long the loop of %s may take", task.Name)
		}
		loops[task.Name] = l
	}
	if len(loops) != len(phases)+len(looks) {
		t.Fatalf("%d loops were found", len(loops))
	}
	return loops
}

// stuckAfter is how many passes the state machine's teardown makes; the number is the program's own secret.
func stuckAfter(t *testing.T) int {
	t.Helper()
	source, err := os.ReadFile(filepath.Join("..", "functions", "teardown", "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^const stuckAfter = (\d+)$`).FindSubmatch(source)
	if found == nil {
		t.Fatal("functions/teardown says no more after how many passes it is stuck")
	}
	n, err := strconv.Atoi(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// count is the worst of a loop that ends after a number of looks: each may fail as often as it is tried again.
func (l *loop) count() {
	fails := l.task.Retry[0].MaxAttempts
	l.worst = []int{l.looks*(3*eventsOfState+eventsOfTry*(1+fails)) - eventsOfState}
	l.fails = []int{fails}
}

// compute goes backwards through the phase. A try costs three events and the delay before it, a look that comes later
// costs the looks that would have had place before the end: what is worst lies somewhere between.
func (l *loop) compute(s events.Settings) {
	end := int(l.phase / time.Second)
	l.worst, l.fails = make([]int, end+2), make([]int, end+2)
	retrier := l.task.Retry[0]
	for at := end + 1; at >= 0; at-- {
		delay := 0
		for fails := 0; fails <= retrier.MaxAttempts; fails++ {
			if fails > 0 {
				delay += int(retrier.Delay(fails-1) / time.Second)
			}
			most := 2*eventsOfState + eventsOfTry*(1+fails)
			if looked := at + delay; looked <= end {
				most += eventsOfState + l.worst[looked+l.pause(s, looked)]
			}
			if most > l.worst[at] {
				l.worst[at], l.fails[at] = most, fails
			}
		}
	}
}

// pause is how many seconds the wait after a look takes: never beyond the end of the phase by more than one.
func (l *loop) pause(s events.Settings, second int) int {
	wait := s.SlowPollSeconds
	if second < 5*60 {
		wait = s.PollSeconds
	}
	return max(1, min(wait, int(l.phase/time.Second)-second))
}

// longest is the number of events on the longest way from a state to an end.
func longest(machine *asl.Machine, loops map[string]*loop, name string, known map[string]int) int {
	if n, found := known[name]; found {
		return n
	}
	state := machine.States[name]
	own, ways := eventsOfState, state.Transitions()
	if state.Type == asl.Task {
		tries := 1
		for _, r := range state.Retry {
			tries += r.MaxAttempts
		}
		own += tries * eventsOfTry
	}
	if l := loops[name]; l != nil {
		own = l.worst[0]
		ways = append(ways, machine.States[l.choice].Transitions()...)
	}
	most := 0
	for _, way := range ways {
		inside := loops[name] != nil && (way.To == loops[name].choice || way.To == loops[name].wait)
		if !inside {
			most = max(most, longest(machine, loops, way.To, known))
		}
	}
	known[name] = own + most
	return own + most
}

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }

// unlucky is the capture that needs the most events and still ends well: whatever may fail fails as often as it may,
// and each look as often as is worst.
func unlucky(machine *asl.Machine, loops map[string]*loop) script {
	s := happyPath(0)
	s.name = "the unluckiest capture"
	for name, behave := range s.answers {
		state, isLoop := machine.States[name], loops[name] != nil
		if isLoop {
			continue
		}
		var failing []answer
		for _, r := range state.Retry {
			for range r.MaxAttempts {
				failing = append(failing, failure(strings.Replace(r.ErrorEquals[len(r.ErrorEquals)-1], "States.ALL", "StepFailed", 1)))
			}
		}
		s.answers[name] = before(behave, failing...)
	}
	ends := map[string]any{
		"Ready":    events.WatchResult{Status: events.StatusReady},
		"Proof":    events.WatchResult{Status: events.StatusFlowing},
		"Watch":    events.WatchResult{Status: events.StatusOver},
		"Drain":    events.WatchResult{Status: events.StatusDrained},
		"Teardown": events.TeardownResult{Status: events.StatusClean},
	}
	for name, l := range loops {
		s.answers[name] = l.behave(ends[name])
	}
	return s
}

// behave plays the worst of a loop on the clock of the execution.
func (l *loop) behave(end any) behaviour {
	var began time.Time
	looks := 0
	left := -1 // tries of this look that are still to fail
	return func(call int) answer {
		if call == 0 {
			began = time.Now()
		}
		now := 0 // second of the phase
		if l.looks == 0 {
			now = int(time.Since(began).Round(time.Second) / time.Second)
		}
		if left < 0 {
			left = l.fails[now]
			looks++
		}
		left--
		switch {
		case left >= 0:
			return failure("Transient")
		case l.looks > 0 && looks == l.looks, l.looks == 0 && seconds(now) > l.phase:
			return result(end)
		case l.looks > 0:
			return result(events.TeardownResult{Status: events.StatusRemaining, WaitSeconds: events.DefaultSettings().PollSeconds})
		default:
			return result(events.WatchResult{Status: events.StatusWaiting, WaitSeconds: l.pause(events.DefaultSettings(), now)})
		}
	}
}

// TestLargestState runs captures in which everybody talks at length, and measures what the states carry.
func TestLargestState(t *testing.T) {
	machine := parse(t, callee(t, readCapture(t)))
	// Two errors are carried at most. These are longer than any that AWS was seen to word, and full of what JSON
	// escapes twice on its way into a Cause.
	long := strings.Repeat(`explicit deny of "ec2:CreateTrafficMirrorSession" in a policy; `, 160)
	failing := always(answer{failure: &asl.Error{Name: "StepFailed", Cause: long}})
	word, id := strings.Repeat("w", 1<<10), strings.Repeat("i", 128)

	asked := request
	asked.Case, asked.Reason, asked.FindingID = word, long, id
	asked.Filter = &events.Filter{}
	for n := range int32(events.MaxFilterRules) {
		asked.Filter.Rules = append(asked.Filter.Rules, events.FilterRule{Number: n + 1, Direction: events.Ingress, Action: events.Accept, Protocol: 6,
			SourceCIDR: "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff/128", DestinationCIDR: "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff/128",
			SourcePorts: &events.PortRange{From: 65535, To: 65535}, DestinationPorts: &events.PortRange{From: 65535, To: 65535}})
	}
	look := func(status string) behaviour {
		return always(result(events.WatchResult{Status: status, Reason: word, WaitSeconds: 1, Packets: 1 << 62, Bytes: 1 << 62, Lost: 1 << 62, Segments: 1 << 30,
			Cause: word, Remedy: word, Hopeless: true}))
	}
	happy := happyPath(1)
	talkative := happy
	for state, behave := range map[string]behaviour{
		"Preflight": always(result(events.PlanSummary{Capture: captureID, NetworkInterfaceID: id, PlanKey: word, FindingType: word})),
		"Guard":     always(result(events.GuardResult{Held: true, JoinedTo: captureID})),
		"Launch":    always(result(events.LaunchResult{InstanceID: id, InstanceType: id, UserID: id})),
		"Ready":     look(events.StatusReady),
		"Mirror":    always(result(events.MirrorResult{SessionID: id, VNI: 1<<24 - 1})),
		"Proof":     look(events.StatusFlowing),
		"Unmirror":  always(result(events.TeardownResult{Status: events.StatusStuck, Certificate: word})),
		"Teardown":  always(result(events.TeardownResult{Status: events.StatusClean, Certificate: word})),
		"Seal":      always(result(events.SealResult{Verdict: word, Reasons: strings.SplitAfter(strings.Repeat(strings.Repeat("r", 150)+".", 50), "."), Manifest: word, SHA256: id})),
	} {
		talkative = talkative.but("everybody talks at length", state, behave)
	}
	talkative = talkative.but("the capture fails at length, and so does its end", "Watch", failing).
		but("the capture fails at length, and so does its end", "Drain", failing)
	refused := happy.but("a refusal at length", "Preflight", failing)
	hopeless := talkative.but("silence explained at length", "Proof", look(events.StatusSilent))

	for _, s := range []script{talkative, refused, hopeless} {
		o := play(t, machine, s, encoded(t, asked))
		t.Logf("%s: %d bytes at most, %s in %s", s.name, o.largest, o.status, o.trace[len(o.trace)-1])
		if o.largest >= maxState {
			t.Errorf("%s: a state of %d bytes, want less than %d", s.name, o.largest, maxState)
		}
		if o.largest < 2*len(long) {
			t.Errorf("%s: a state of %d bytes at most does not hold what was said", s.name, o.largest)
		}
	}
}
