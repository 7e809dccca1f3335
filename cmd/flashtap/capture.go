package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"

	"flashtap/events"
)

func captureCommand() command {
	return command{
		name: "capture", operands: "INTERFACE|INSTANCE", least: 1, most: 1, remote: true,
		summary: "start a capture by hand",
		about: `Starts an execution of the capture state machine for one network interface, or for the primary interface of an
instance. Everything is checked again there: whether the source can be mirrored, and where a collector can stand;
flashtap preflight tells it beforehand. What the flags leave open, the deployment decides. The capture ends by itself,
and everything made for it is removed.

With --wait the phases are shown as they pass, and the exit code tells the outcome. Interrupting the wait does not end
the capture.`,
		examples: []example{
			{"flashtap capture eni-0a1b2c3d4e5f60718", "with the deployment's defaults"},
			{"flashtap capture i-0a1b2c3d4e5f60718 --duration 30m --reason 'beaconing seen in DNS logs' --case IR-2041", ""},
			{"flashtap capture eni-0a1b2c3d4e5f60718 --profile headers --max-bytes 2GiB --wait", "headers only, and wait for the verdict"},
			{"flashtap capture eni-0a1b2c3d4e5f60718 --control 203.0.113.0/24", "without the SSH and RDP of your own bastion"},
			{"flashtap capture eni-0a1b2c3d4e5f60718 --filter dns-only.json --output json", ""},
		},
		setup: func(t *tool, flags *flag.FlagSet) runner {
			var c captureFlags
			c.register(flags)
			return func(ctx context.Context, operands []string) error { return t.capture(ctx, operands[0], c) }
		},
	}
}

// captureFlags are what a person may choose and say about a capture.
type captureFlags struct {
	optionFlags
	reason, id string
	wait       bool
}

func (c *captureFlags) register(flags *flag.FlagSet) {
	c.optionFlags.register(flags)
	flags.StringVar(&c.reason, "reason", "", "why, `TEXT` in your words; kept with the evidence")
	flags.StringVar(&c.id, "case", "", "`ID` of the investigation it belongs to; kept with the evidence")
	flags.BoolVar(&c.wait, "wait", false, "show the phases until the capture is sealed")
}

// request is what the state machine is asked. It does not name the capture: preflight does, from the start of the
// execution, since a wrong clock on this machine must not move a deadline.
func (c captureFlags) request(source string) (events.Request, error) {
	r, err := c.optionFlags.request(source)
	r.Case, r.Reason = c.id, c.reason
	return r, err
}

// executionName is unique for a source and second. It is no capture id, which it might contradict by a second.
func executionName(source string, now time.Time) string {
	return "by-hand-" + now.UTC().Format("20060102T150405Z") + "-" + source
}

// readFile reads a whole file of at most limit bytes.
func readFile(name string, limit int64) ([]byte, error) {
	file, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, notFound("check the path", "open %s: no such file", name)
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return readAll(file, name, limit)
}

func readAll(from io.Reader, name string, limit int64) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(from, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(body)) > limit {
		return nil, fmt.Errorf("read %s: larger than %s, so not what is wanted here", name, sizeText(limit))
	}
	return body, nil
}

// started is the answer of capture.
type started struct {
	Capture   events.CaptureID `json:"capture,omitempty"` // empty for an instance until preflight has found its interface
	Execution string           `json:"execution"`         // ARN
	Name      string           `json:"name"`
	StartedAt time.Time        `json:"startedAt"`
	Request   events.Request   `json:"request"`
	Outcome   *outcome         `json:"outcome,omitempty"` // with --wait
}

func (s started) text() string {
	var b strings.Builder
	if s.Capture != "" {
		fmt.Fprintf(&b, "capture %s started\n", s.Capture)
	} else {
		fmt.Fprintf(&b, "capture of %s started; preflight names it when it has found the primary interface\n", s.Request.InstanceID)
	}
	fmt.Fprintf(&b, "execution %s\n", s.Execution)
	return b.String()
}

func (s started) next() string {
	if s.Capture == "" {
		return "see it:  flashtap list --since 1h\n"
	}
	return fmt.Sprintf("see how it stands:  flashtap status %s\nend it early:       flashtap stop %s\n", s.Capture, s.Capture)
}

func (t *tool) capture(ctx context.Context, source string, c captureFlags) error {
	request, err := c.request(source)
	if err != nil {
		return err
	}
	settings, err := t.settings("FLASHTAP_STATE_MACHINE_ARN")
	if err != nil {
		return err
	}
	cfg, err := connect(ctx)
	if err != nil {
		return err
	}
	input, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("write the request: %w", err)
	}
	api, name := sfn.NewFromConfig(cfg), executionName(source, time.Now())
	out, err := api.StartExecution(ctx, &sfn.StartExecutionInput{
		StateMachineArn: &settings.StateMachineARN, Name: &name, Input: aws.String(string(input)),
	})
	if awsCode(err) == "ExecutionAlreadyExists" {
		return refused("wait a second and ask again, or look at it: flashtap list --since 1h", "%s was asked for in this very second", source)
	}
	if err != nil {
		return fmt.Errorf("start a capture of %s: %w", source, err)
	}
	s := started{Execution: aws.ToString(out.ExecutionArn), Name: name, StartedAt: aws.ToTime(out.StartDate).UTC(), Request: request}
	if request.NetworkInterfaceID != "" {
		s.Capture = events.NewCaptureID(s.StartedAt, request.NetworkInterfaceID) // as preflight will name it
	}
	if !c.wait {
		if t.output == outputJSON {
			return t.show(s)
		}
		return t.print(s.text() + s.next())
	}
	return t.await(ctx, api, s, settings.Bucket)
}

// await shows the phases of what was started, and ends by the outcome. As JSON there is one object at the end, and the
// phases go to the error stream.
func (t *tool) await(ctx context.Context, api executions, s started, bucket string) error {
	tell := t.print
	if t.output == outputJSON {
		tell = func(text string) error { _, err := io.WriteString(t.err, plain(text)); return err }
	} else if err := t.show(s); err != nil {
		return err
	}
	f := &follower{api: api, arn: s.Execution, tell: tell}
	result, err := f.follow(ctx)
	result.bucket = bucket
	if result.Capture != "" {
		s.Capture = result.Capture
	}
	if err != nil {
		if t.output == outputJSON {
			err = errors.Join(err, t.show(s))
		}
		p := explain(err)
		p.err = fmt.Errorf("the capture goes on, but it can't be watched: %w", err)
		if p.code == exitInterrupted {
			p.err = errors.New("interrupted; the capture goes on")
			p.fix = strings.ReplaceAll(strings.TrimSpace(s.next()), "\n", "; ")
		}
		return p
	}
	s.Outcome = &result
	if t.output == outputJSON {
		err = t.show(s)
	} else {
		err = t.show(result)
	}
	if err != nil {
		return err
	}
	if code := result.code(); code != exitOK {
		return ended(code)
	}
	return nil
}
