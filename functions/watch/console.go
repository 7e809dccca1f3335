package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"flashtap/events"
	"flashtap/functions/evidence"
	"flashtap/functions/internal/awserr"
	"flashtap/functions/internal/boot"
)

// withConsole adds to the error of a collector that did not come up where its console output lies.
func (w watch) withConsole(ctx context.Context, f facts, err error) error {
	var died boot.CollectorDied
	var late boot.CollectorNotReady
	isDead, isLate := errors.As(err, &died), errors.As(err, &late)
	if !isDead && !isLate {
		return err
	}
	says, keepErr := w.keepConsole(ctx, f)
	if keepErr != nil {
		says = fmt.Sprintf("its console output could not be kept: %v", keepErr)
	}
	if isDead {
		died.Reason += "; " + says
		return died
	}
	late.Reason += "; " + says
	return late
}

// keepConsole keeps what a collector that did not come up wrote on its console, and says in words where that lies. Not
// getting it is told, and ends nothing.
func (w watch) keepConsole(ctx context.Context, f facts) (string, error) {
	if f.instance == nil {
		return "EC2 shows no instance, so there is no console output", nil
	}
	id := aws.ToString(f.instance.InstanceId)
	text, err := w.console(ctx, id)
	key, detail := events.ConsoleKey(f.plan.Capture, id), map[string]string{"state": f.instanceState()}
	says := ""
	switch {
	case err != nil:
		says = fmt.Sprintf("its console output could not be had: %v", err)
	case len(text) == 0:
		says = "AWS has no console output of it yet"
	default:
		if err := w.store.Create(ctx, key, text); err != nil && !errors.Is(err, evidence.ErrExists) {
			return "", err
		}
		says, detail["key"] = "its console output is "+key, key
	}
	detail["console"] = says
	return says, w.store.Record(ctx, events.CustodyEntry{Capture: f.plan.Capture, Actor: "watch", Act: "console-" + id, Resource: id, Detail: detail})
}

// console asks for the latest output, which only Nitro instances have, else for what EC2 kept from the start (EC2 API
// Reference, GetConsoleOutput).
func (w watch) console(ctx context.Context, instance string) ([]byte, error) {
	out, err := w.ec2.GetConsoleOutput(ctx, &ec2.GetConsoleOutputInput{InstanceId: &instance, Latest: aws.Bool(true)})
	if awserr.Code(err) == "UnsupportedOperation" {
		out, err = w.ec2.GetConsoleOutput(ctx, &ec2.GetConsoleOutputInput{InstanceId: &instance})
	}
	if err != nil {
		return nil, err
	}
	return base64.StdEncoding.DecodeString(aws.ToString(out.Output))
}
