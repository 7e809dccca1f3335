// Command function does what its event asks, so that tests can see how the service takes it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

type event struct {
	Do     string        `json:"do"`
	Text   string        `json:"text"`
	File   string        `json:"file"`
	For    time.Duration `json:"for"`
	Number int           `json:"number"`
}

// notMirrorable is a named error, as a state machine would catch it.
type notMirrorable struct{ source string }

func (e notMirrorable) Error() string { return e.source + " cannot be mirrored" }

var calls atomic.Int64

func handle(ctx context.Context, raw json.RawMessage) (any, error) {
	var e event
	if err := json.Unmarshal(raw, &e); err != nil {
		return nil, err
	}
	n := calls.Add(1)
	switch e.Do {
	case "echo":
		return raw, nil
	case "pid":
		return map[string]any{"pid": os.Getpid(), "calls": n}, nil
	case "context":
		lc, _ := lambdacontext.FromContext(ctx)
		deadline, _ := ctx.Deadline()
		return map[string]any{
			"id": lc.AwsRequestID, "arn": lc.InvokedFunctionArn, "left": time.Until(deadline).Milliseconds(),
			"name": lambdacontext.FunctionName, "memory": lambdacontext.MemoryLimitInMB, "env": lc.ClientContext.Env,
		}, nil
	case "environ":
		return os.Environ(), nil
	case "log":
		fmt.Println("on stdout:", e.Text)
		fmt.Fprint(os.Stderr, "on stderr without an end")
		return "logged", nil
	case "flood":
		for range e.Number {
			fmt.Println(e.Text)
		}
		return nil, nil
	case "plain error":
		return nil, errors.New(e.Text)
	case "wrapped error":
		return nil, fmt.Errorf("describe: %w", notMirrorable{e.Text})
	case "named error":
		return nil, notMirrorable{e.Text}
	case "pointer error":
		return nil, &notMirrorable{e.Text}
	case "panic":
		panic(e.Text)
	case "exit":
		os.Exit(e.Number)
	case "signal":
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "sleep":
		if e.File != "" {
			os.WriteFile(e.File, []byte(fmt.Sprint(os.Getpid())), 0o644)
		}
		time.Sleep(e.For)
		return map[string]any{"pid": os.Getpid()}, nil
	case "meet":
		// Waits until as many processes are here as the event says.
		if err := os.WriteFile(fmt.Sprintf("%s/%d", e.File, os.Getpid()), nil, 0o644); err != nil {
			return nil, err
		}
		for {
			present, err := os.ReadDir(e.File)
			if err != nil {
				return nil, err
			}
			if len(present) >= e.Number {
				return map[string]any{"pid": os.Getpid()}, nil
			}
			time.Sleep(time.Millisecond)
		}
	case "child":
		child := exec.Command("sleep", "600")
		if err := child.Start(); err != nil {
			return nil, err
		}
		return child.Process.Pid, nil
	case "large":
		return strings.Repeat("x", e.Number), nil
	case "broken stream":
		return io.MultiReader(strings.NewReader("half of "), brokenReader{}), nil
	case "fail until":
		// Counts its attempts in a file, for every attempt may run in another process.
		f, err := os.OpenFile(e.File, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return nil, err
		}
		lc, _ := lambdacontext.FromContext(ctx)
		fmt.Fprintln(f, lc.AwsRequestID)
		f.Close()
		data, err := os.ReadFile(e.File)
		if err != nil {
			return nil, err
		}
		if attempts := strings.Count(string(data), "\n"); attempts < e.Number {
			return nil, fmt.Errorf("attempt %d fails", attempts)
		}
		return "done", nil
	}
	return nil, fmt.Errorf("no such thing to do: %q", e.Do)
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, notMirrorable{"the stream"} }

func main() {
	switch os.Getenv("INIT") {
	case "exit":
		fmt.Println("about to exit in init")
		os.Exit(7)
	case "hang":
		time.Sleep(time.Hour)
	case "slow once":
		// The marker makes the second Init quick, as a warmed cache would.
		if _, err := os.Stat(os.Getenv("MARKER")); err != nil {
			os.WriteFile(os.Getenv("MARKER"), nil, 0o644)
			time.Sleep(time.Hour)
		}
	}
	lambda.Start(handle)
}
