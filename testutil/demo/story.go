package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"flashtap/events"
	"flashtap/testutil/deployment"
	"flashtap/testutil/region/asl"
)

// story tells what happens from the finding to the last certificate.
type story struct {
	scene     *deployment.Scene
	screen    *screen
	options   options
	frames    int
	recording string
	began     time.Time

	mu    sync.Mutex
	state string
	since time.Time
}

// phases are what people follow; states that belong to none pass unmentioned.
var phases = map[string]string{
	"Preflight": "decide what to capture and where", "Guard": "arm the guard schedule, the independent end",
	"Launch": "launch the collector", "AwaitReady": "wait until the collector takes packets", "Mirror": "create target, filter and session",
	"AwaitProof": "wait for the first packet", "AwaitEnd": "capture", "Unmirror": "delete the session", "AwaitDrain": "drain the collector",
	"Teardown": "remove everything else", "Seal": "check the evidence and write the manifest",
	"PublishRefused": "refused", "PublishJoined": "joined a running capture", "PublishStuck": "stuck", "PublishLeaking": "leaking",
}

func (t *story) play(ctx context.Context) error {
	f := t.scene.Finding
	t.screen.line("")
	t.screen.line("  finding   %s, severity %g, account %s, %s", orDash(f.Type, f.Origin), f.Severity, f.Account, f.Region)
	t.screen.line("  suspect   %s / %s, a %s; its traffic: %s, %d frames", t.scene.Instance, t.scene.ENI, t.scene.Type, filepath.Base(t.recording), t.frames)
	t.screen.line("")
	t.began, t.since = time.Now(), time.Now()
	t.scene.Region.WatchExecutions(t.event)
	matched, err := t.scene.Publish()
	if err != nil {
		return err
	}
	if len(matched) == 0 {
		t.screen.line("  no capture: no rule of infra/rules.json matches this event (the least severity for GuardDuty findings is 4)")
		t.screen.line("  to capture all the same, start one by hand: flashtap capture %s", t.scene.ENI)
		return errNoCapture
	}
	t.screen.line("  %s  the event matches rule %s and goes to intake's queue", t.clock(), strings.Join(matched, ", "))
	execution, err := t.follow(ctx)
	if err != nil {
		return err
	}
	result := execution.Describe()
	if result.Status != asl.Succeeded && result.Error != "" {
		t.screen.line("  %s  the execution %s: %s", t.clock(), strings.ToLower(string(result.Status)), firstLine(result.Cause, result.Error))
	}
	return t.conclude(events.CaptureID(execution.Name()), result.Status)
}

// event prints a phase when it is over: its name and how long it took.
func (t *story) event(_ string, e asl.Event) {
	if !strings.HasSuffix(e.Type, "StateEntered") || phases[e.Name] == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.Name == t.state {
		return
	}
	t.close()
	t.state, t.since = e.Name, time.Now()
}

// close prints the phase that is over; t.mu is held.
func (t *story) close() {
	if t.state != "" {
		t.screen.line("  %s  %-58s %6.1f s", t.clock(), phases[t.state], time.Since(t.since).Seconds())
	}
}

func (t *story) clock() string {
	d := time.Since(t.began)
	return fmt.Sprintf("%02d:%04.1f", int(d.Minutes()), d.Seconds()-float64(int(d.Minutes())*60))
}

// follow waits for the execution that the finding starts, and shows what is going on meanwhile.
func (t *story) follow(ctx context.Context) (*asl.Execution, error) {
	limit := time.NewTimer(t.options.duration + slack)
	defer limit.Stop()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	var x *asl.Execution
	var done <-chan struct{}
	for {
		select {
		case <-ctx.Done():
			return nil, errors.New("interrupted")
		case <-limit.C:
			return nil, fmt.Errorf("the capture did not end within %s of its time; run again with -v to see the logs", slack)
		case <-done:
			t.mu.Lock()
			t.close()
			t.mu.Unlock()
			return x, nil
		case <-tick.C:
			if names := t.scene.Region.Executions(); x == nil && len(names) > 0 {
				x = t.scene.Region.Execution(names[0])
				done = x.Done()
			}
			t.live()
		}
	}
}

// live shows what the mirror has sent and what the collector last said.
func (t *story) live() {
	t.mu.Lock()
	state, since := t.state, t.since
	t.mu.Unlock()
	if state == "" {
		t.screen.update("  %s  intake ...", t.clock())
		return
	}
	sent := t.scene.Plane.Tally()
	said := events.Checkpoint{}
	if captures, err := t.scene.Captures(); err == nil && len(captures) > 0 {
		said = t.lastCheckpoint(captures[len(captures)-1])
	}
	t.screen.update("  %s  %s ... %.0f s   mirrored %d   written %d packets, %s   segments %d", t.clock(), phases[state],
		time.Since(since).Seconds(), sent.Mirrored, said.Tally.Written, size(said.Tally.WrittenBytes), said.Segments)
}

func (t *story) lastCheckpoint(c events.CaptureID) (last events.Checkpoint) {
	files, err := filepath.Glob(filepath.Join(t.scene.Path(events.CollectorsPrefix(c)), "*", "checkpoints", "*.json"))
	if err != nil || len(files) == 0 {
		return last
	}
	text, err := os.ReadFile(files[len(files)-1])
	if err == nil {
		err = json.Unmarshal(text, &last)
	}
	if err != nil { // being written just now; the next look reads it
		return events.Checkpoint{}
	}
	return last
}

// conclude exports the evidence, compares it with what the mirror sent, and says what is left.
func (t *story) conclude(c events.CaptureID, status asl.Status) error {
	var manifest events.Manifest
	text, err := os.ReadFile(t.scene.Path(events.ManifestKey(c)))
	if errors.Is(err, os.ErrNotExist) {
		t.screen.line("  no capture was made")
		return errNoCapture
	}
	if err == nil {
		err = json.Unmarshal(text, &manifest)
	}
	if err != nil {
		return err
	}
	dir, err := export(t.scene, c, t.options.out)
	if err != nil {
		return fmt.Errorf("export the evidence: %w", err)
	}
	same, err := t.compare(c)
	if err != nil {
		return err
	}
	t.screen.line("")
	t.screen.line("  evidence  %s", dir)
	for _, seg := range manifest.Segments {
		t.screen.line("            %s  %d packets, %s", strings.TrimPrefix(seg.Key, events.CapturePrefix(c)), seg.Packets, size(uint64(seg.Bytes)))
	}
	ta := manifest.Tally
	t.screen.line("  tally     received %d = written %d + rejected %d + unwritten %d;  dropped by the kernel %d;  truncated %d",
		ta.Received, ta.Written, ta.Rejected.Total(), ta.Unwritten, ta.SocketDropped+ta.RingDropped+ta.HostDropped, ta.Truncated)
	t.screen.line("  mirror    %s", mirrored(t.scene))
	t.screen.line("  frames    %s", same.text)
	t.screen.line("  verdict   %s", manifest.Verdict)
	for _, reason := range manifest.Reasons {
		t.screen.line("            %s", reason)
	}
	left, err := t.teardown(c)
	if err != nil {
		return err
	}
	if len(manifest.Segments) > 0 {
		t.screen.line("")
		t.screen.line("  look at it:  wireshark %s", filepath.Join(t.options.out, filepath.FromSlash(manifest.Segments[0].Key)))
	}
	switch {
	case len(left) > 0:
		return fmt.Errorf("%d things are left running", len(left))
	case !same.equal:
		return errors.New("the evidence is not what the mirror sent")
	case status != asl.Succeeded:
		return fmt.Errorf("the execution ended as %s", status)
	}
	return nil
}

func mirrored(s *deployment.Scene) string {
	tally := s.Plane.Tally()
	return fmt.Sprintf("%d packets passed the suspect: %d mirrored, %d not wanted by the filter, %d of a kind AWS never mirrors, %d before or after the session",
		tally.Seen, tally.Mirrored, tally.NotMatched, tally.NeverMirrored, tally.NoSession)
}

// comparison is the answer to: are the frames in the evidence the frames that the mirror sent?
type comparison struct {
	equal bool
	text  string
}

func (t *story) compare(c events.CaptureID) (comparison, error) {
	got, err := t.scene.Frames(c)
	if err != nil {
		return comparison{}, fmt.Errorf("read the evidence back: %w", err)
	}
	sent := t.scene.Plane.Sent()
	for i := range min(len(got), len(sent)) {
		if !bytes.Equal(got[i].Data, sent[i].Frame) {
			return comparison{text: fmt.Sprintf("frame %d differs from what the mirror sent", i+1)}, nil
		}
	}
	if len(got) != len(sent) {
		return comparison{text: fmt.Sprintf("the mirror sent %d, the evidence holds %d", len(sent), len(got))}, nil
	}
	return comparison{equal: true, text: fmt.Sprintf("all %d are byte for byte what the mirror sent, in order", len(got))}, nil
}

// teardown shows what the certificates say, and asks the region what is left.
func (t *story) teardown(c events.CaptureID) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(t.scene.Path(events.CertificatesPrefix(c)), "*.json"))
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	var gone []string
	for _, file := range files {
		var certificate events.Certificate
		text, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(text, &certificate)
		}
		if err != nil {
			return nil, err
		}
		for _, r := range certificate.Gone {
			if thing := r.Kind + " " + r.ID; !seen[thing] {
				seen[thing] = true
				gone = append(gone, thing)
			}
		}
	}
	t.screen.line("  removed   %s", strings.Join(gone, ", "))
	left, err := t.scene.Left()
	if err != nil {
		return nil, err
	}
	if len(left) == 0 {
		t.screen.line("  left      nothing but the evidence bucket")
	} else {
		t.screen.line("  left      %s", strings.Join(left, ", "))
	}
	return left, nil
}

func orDash(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func firstLine(cause, name string) string {
	var said struct{ ErrorMessage string }
	if json.Unmarshal([]byte(cause), &said) == nil && said.ErrorMessage != "" {
		cause = said.ErrorMessage
	}
	line, _, _ := strings.Cut(cause, "\n")
	return name + ": " + line
}

func size(n uint64) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d bytes", n)
}
