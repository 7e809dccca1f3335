// Package boot starts a step: settings, AWS configuration, logging, and errors with names at the edge.
package boot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"reflect"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"

	"flashtap/events"
	"flashtap/functions/internal/awserr"
)

// Version is what evidence names as the tool that made it; the build sets it with -ldflags.
var Version = "dev"

// Tool is the name and version that records carry.
func Tool(step string) string { return "flashtap " + step + " " + Version }

// Transient asks the state machine to try the same step again.
type Transient struct{ Err error }

func (e Transient) Error() string { return e.Err.Error() }
func (e Transient) Unwrap() error { return e.Err }

// StepFailed is every error that has no name of its own; no retry is known to help.
type StepFailed struct{ Err error }

func (e StepFailed) Error() string { return e.Err.Error() }
func (e StepFailed) Unwrap() error { return e.Err }

// Step is the work of one Lambda.
type Step[In, Out any] func(context.Context, In) (Out, error)

// Logger writes the lines of a step: one JSON object an act. Metrics are made of them, so their messages and keys are an
// interface.
func Logger(w io.Writer, step string) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, nil)).With("step", step)
}

// Start reads the settings, demands those named, makes the step and serves it until the environment ends. A step
// that can't be made ends the process, which Lambda reports as an initialization error.
func Start[In, Out any](name string, required []string, make func(aws.Config, events.Settings) Step[In, Out]) {
	slog.SetDefault(Logger(os.Stderr, name))
	settings, err := events.ParseSettings(os.Getenv)
	if err == nil {
		err = errors.Join(settings.Validate(), settings.Require(required...))
	}
	if err != nil {
		slog.Error("settings", "err", err)
		os.Exit(1)
	}
	cfg, err := config.LoadDefaultConfig(context.Background(), config.WithRetryMaxAttempts(5))
	if err != nil {
		slog.Error("aws configuration", "err", err)
		os.Exit(1)
	}
	step := make(cfg, settings)
	lambda.Start(func(ctx context.Context, in In) (Out, error) {
		out, err := step(ctx, in)
		if err != nil {
			err = Edge(err)
			slog.Error("step failed", "error", typeName(err), "err", err)
		}
		return out, err
	})
}

// named is implemented by errors that a state machine may match by their type.
type named interface {
	error
	StateMachineError()
}

// Edge gives an error the type by which the state machine's Retry and Catch know it: the Go runtime reports the
// outermost type, which for a wrapped error would be wrapError.
func Edge(err error) error {
	if err == nil {
		return nil
	}
	var own named
	if errors.As(err, &own) {
		return own
	}
	if awserr.IsTransient(err) {
		return Transient{err}
	}
	return StepFailed{err}
}

func typeName(err error) string {
	t := reflect.TypeOf(err)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.Name()
}

// Errorf is fmt.Errorf with the capture it is about in front.
func Errorf(c events.CaptureID, format string, args ...any) error {
	return fmt.Errorf("capture %s: %w", c, fmt.Errorf(format, args...))
}
