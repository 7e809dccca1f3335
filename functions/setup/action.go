package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/aws/aws-lambda-go/cfn"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	"github.com/aws/aws-sdk-go-v2/service/securityhub/types"

	"flashtap/functions/internal/awserr"
)

type hub interface {
	CreateActionTarget(context.Context, *securityhub.CreateActionTargetInput, ...func(*securityhub.Options)) (*securityhub.CreateActionTargetOutput, error)
	DescribeActionTargets(context.Context, *securityhub.DescribeActionTargetsInput, ...func(*securityhub.Options)) (*securityhub.DescribeActionTargetsOutput, error)
	UpdateActionTarget(context.Context, *securityhub.UpdateActionTargetInput, ...func(*securityhub.Options)) (*securityhub.UpdateActionTargetOutput, error)
	DeleteActionTarget(context.Context, *securityhub.DeleteActionTargetInput, ...func(*securityhub.Options)) (*securityhub.DeleteActionTargetOutput, error)
}

// What became of an action.
const (
	actionCreated = "created"
	actionThere   = "was there already"
	actionUpdated = "updated"
	actionDeleted = "deleted"
	actionGone    = "was gone already"
	// actionNoHub is a success: Flashtap works without Security Hub, and an account that does not use it must be able to
	// deploy it.
	actionNoHub = "Security Hub is not enabled in this Region"
)

// The limits of an action (Security Hub API Reference, CreateActionTarget).
const (
	maxActionID   = 20
	maxActionName = 20
)

// action makes the custom action by which a person sends a finding to Flashtap. Only Security Hub CSPM has custom actions.
// Its physical id is the ARN that the action has, or would have.
func (s setup) action(ctx context.Context, event cfn.Event) (string, map[string]any, error) {
	if event.RequestType == cfn.RequestDelete {
		status, err := s.deleteAction(ctx, event.PhysicalResourceID)
		return event.PhysicalResourceID, map[string]any{"Status": status}, err
	}
	p, err := properties(event, "Name", "Id", "Description")
	if err != nil {
		return "", nil, err
	}
	if err := checkAction(p["Id"], p["Name"]); err != nil {
		return "", nil, err
	}
	arn, err := actionARN(event.StackID, p["Id"])
	if err != nil {
		return "", nil, err
	}
	want := types.ActionTarget{ActionTargetArn: &arn, Name: aws.String(p["Name"]), Description: aws.String(p["Description"])}
	var status string
	if event.RequestType == cfn.RequestUpdate && event.PhysicalResourceID == arn {
		status, err = s.updateAction(ctx, want, p["Id"])
	} else {
		status, err = s.createAction(ctx, want, p["Id"])
	}
	if notSubscribed(err) {
		status, err = actionNoHub, nil
		slog.Warn("no custom action", "reason", actionNoHub, "remedy", "enable Security Hub and deploy with another description of the action")
	}
	if err != nil {
		return "", nil, err
	}
	return arn, map[string]any{"Status": status, "Arn": arn}, nil
}

func checkAction(id, name string) error {
	alphanumeric := strings.IndexFunc(id, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}) < 0
	if !alphanumeric || len(id) > maxActionID {
		return fmt.Errorf("custom action id %q: want at most %d letters and digits", id, maxActionID)
	}
	if len(name) > maxActionName {
		return fmt.Errorf("custom action name %q has %d characters: want at most %d", name, len(name), maxActionName)
	}
	return nil
}

// actionARN is the ARN that the action has in the account and Region of the stack. Where a stack is, its own ARN says.
func actionARN(stack, id string) (string, error) {
	part := strings.SplitN(stack, ":", 6) // arn:partition:cloudformation:region:account:stack/...
	if len(part) < 6 || part[0] != "arn" || part[2] != "cloudformation" {
		return "", fmt.Errorf("stack id %q is no ARN of a stack", stack)
	}
	return strings.Join([]string{"arn", part[1], "securityhub", part[3], part[4], "action/custom/" + id}, ":"), nil
}

func (s setup) createAction(ctx context.Context, want types.ActionTarget, id string) (string, error) {
	out, err := s.hub.CreateActionTarget(ctx, &securityhub.CreateActionTargetInput{Id: &id, Name: want.Name, Description: want.Description})
	var conflict *types.ResourceConflictException
	if errors.As(err, &conflict) {
		return s.adoptAction(ctx, want)
	}
	if err != nil {
		return "", fmt.Errorf("create custom action %s: %w", id, err)
	}
	if got := aws.ToString(out.ActionTargetArn); got != aws.ToString(want.ActionTargetArn) {
		return "", fmt.Errorf("create custom action %s: Security Hub made %s, where %s was expected; delete it by hand", id, got, aws.ToString(want.ActionTargetArn))
	}
	return actionCreated, nil
}

// adoptAction accepts an action that is as we want it: this request came before, and its answer was lost. Another of the
// same id is a person's or another tool's; it would be deleted with this stack.
func (s setup) adoptAction(ctx context.Context, want types.ActionTarget) (string, error) {
	arn := aws.ToString(want.ActionTargetArn)
	out, err := s.hub.DescribeActionTargets(ctx, &securityhub.DescribeActionTargetsInput{ActionTargetArns: []string{arn}})
	if err != nil {
		return "", fmt.Errorf("look at custom action %s: %w", arn, err)
	}
	for _, there := range out.ActionTargets {
		if aws.ToString(there.ActionTargetArn) != arn {
			continue
		}
		if aws.ToString(there.Name) == aws.ToString(want.Name) && aws.ToString(there.Description) == aws.ToString(want.Description) {
			return actionThere, nil
		}
		return "", fmt.Errorf("custom action %s exists with the name %q and is not ours; delete it in Security Hub, or choose another deployment id",
			arn, aws.ToString(there.Name))
	}
	return "", fmt.Errorf("custom action %s exists, but Security Hub does not show it; deploy again", arn)
}

// updateAction changes the texts of an action. One that is not there, because Security Hub was enabled later or a person
// deleted it, is made.
func (s setup) updateAction(ctx context.Context, want types.ActionTarget, id string) (string, error) {
	_, err := s.hub.UpdateActionTarget(ctx, &securityhub.UpdateActionTargetInput{
		ActionTargetArn: want.ActionTargetArn, Name: want.Name, Description: want.Description,
	})
	if awserr.IsNotFound(err) {
		return s.createAction(ctx, want, id)
	}
	if err != nil {
		return "", fmt.Errorf("update custom action %s: %w", aws.ToString(want.ActionTargetArn), err)
	}
	return actionUpdated, nil
}

// deleteAction deletes the action of a physical id. An id that is no ARN is of a creation that failed: nothing was made.
func (s setup) deleteAction(ctx context.Context, id string) (string, error) {
	if !strings.Contains(id, ":action/custom/") {
		return actionGone, nil
	}
	_, err := s.hub.DeleteActionTarget(ctx, &securityhub.DeleteActionTargetInput{ActionTargetArn: &id})
	switch {
	case awserr.IsNotFound(err):
		return actionGone, nil
	case notSubscribed(err):
		return actionNoHub, nil
	case err != nil:
		return "", fmt.Errorf("delete custom action %s: %w", id, err)
	}
	return actionDeleted, nil
}

// notSubscribed says that the account does not use Security Hub here: "Account 111122223333 is not subscribed to AWS
// Security Hub". The same code is given to an account that may not do this, which is an error.
func notSubscribed(err error) bool {
	var access *types.InvalidAccessException
	return errors.As(err, &access) && strings.Contains(access.ErrorMessage(), "not subscribed")
}
