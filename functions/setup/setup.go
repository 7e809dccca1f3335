package main

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sort"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/cfn"
)

// The resource types that the stacks use.
const (
	typeProgram = "Custom::FlashtapProgram"
	typeAction  = "Custom::FlashtapAction"
)

// setup makes what CloudFormation can't.
type setup struct {
	objects objects
	hub     hub
	broken  error // why nothing can be done at all; then every request is answered with it
}

// handle does what CloudFormation asks, and returns the physical id and what the template may read of the resource. With
// an error it returns no id: then the id that CloudFormation knows stands, and a rollback does not delete under a new one.
func (s setup) handle(ctx context.Context, event cfn.Event) (id string, data map[string]any, err error) {
	switch {
	case s.broken != nil:
		err = s.broken
	case event.ResourceType == typeProgram:
		id, data, err = s.program(ctx, event)
	case event.ResourceType == typeAction:
		id, data, err = s.action(ctx, event)
	default:
		id, data, err = stranger(event)
	}
	if err != nil {
		return "", nil, cut(fmt.Errorf("%s %s %s: %w", strings.ToLower(string(event.RequestType)), event.ResourceType, event.LogicalResourceID, err))
	}
	slog.Info("set up", "request", event.RequestType, "type", event.ResourceType, "logicalId", event.LogicalResourceID, "id", id, "status", data["Status"])
	return id, data, nil
}

// stranger refuses a type that is not ours. What was never made can be deleted, or the rollback of its refusal would hang.
func stranger(event cfn.Event) (string, map[string]any, error) {
	if event.RequestType == cfn.RequestDelete {
		return event.PhysicalResourceID, map[string]any{"Status": "nothing of this type was ever made"}, nil
	}
	return "", nil, fmt.Errorf("this function makes only %s and %s; correct the type in the template", typeProgram, typeAction)
}

// properties are the texts that a resource must give; the error names all that it lacks.
func properties(event cfn.Event, names ...string) (map[string]string, error) {
	have := map[string]string{}
	var missing []string
	for _, name := range names {
		text, ok := event.ResourceProperties[name].(string)
		if !ok || text == "" {
			missing = append(missing, name)
		}
		have[name] = text
	}
	if len(missing) > 0 {
		sort.Strings(missing)
		return nil, fmt.Errorf("the template gives no %s: add it to the resource's properties, as text", strings.Join(missing, ", "))
	}
	return have, nil
}

// maxReason keeps an answer well below the 4096 bytes that CloudFormation takes (CloudFormation User Guide, "Custom
// resource response objects").
const maxReason = 1500

// cut shortens an error to what fits into an answer.
func cut(err error) error {
	if text := err.Error(); len(text) > maxReason {
		return fmt.Errorf("%s ... (the whole is in the function's log)", strings.ToValidUTF8(text[:maxReason], ""))
	}
	return err
}

// reserve is kept back of the function's time for the answer. Without an answer CloudFormation would wait for an hour
// (CloudFormation User Guide, "AWS::CloudFormation::CustomResource": ServiceTimeout).
const reserve = 10 * time.Second

// inTime makes work end early enough to be answered, and turns a panic into an answer that says what happened.
func inTime(work cfn.CustomResourceFunction) cfn.CustomResourceFunction {
	type outcome struct {
		id   string
		data map[string]any
		err  error
	}
	return func(ctx context.Context, event cfn.Event) (string, map[string]any, error) {
		started := time.Now()
		if deadline, limited := ctx.Deadline(); limited {
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadline(ctx, deadline.Add(-reserve))
			defer cancel()
		}
		done := make(chan outcome, 1) // so that work which ends too late does not wait for ever
		go func() {
			defer func() {
				if p := recover(); p != nil {
					slog.Error("panic", "value", fmt.Sprint(p), "stack", string(debug.Stack()))
					done <- outcome{err: fmt.Errorf("%s: a programming error: %v; the function's log has the stack", event.ResourceType, p)}
				}
			}()
			var o outcome
			o.id, o.data, o.err = work(ctx, event)
			done <- o
		}()
		select {
		case o := <-done:
			return o.id, o.data, o.err
		case <-ctx.Done():
			return "", nil, fmt.Errorf("%s %s: not done within %s; deploy again, or give the setup function more time",
				event.ResourceType, event.LogicalResourceID, time.Since(started).Round(time.Second))
		}
	}
}
