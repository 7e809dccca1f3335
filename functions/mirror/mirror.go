package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"
	schedulertypes "github.com/aws/aws-sdk-go-v2/service/scheduler/types"

	"flashtap/events"
	"flashtap/functions/evidence"
	"flashtap/functions/internal/awserr"
	"flashtap/functions/internal/boot"
	"flashtap/functions/internal/describe"
	"flashtap/functions/remove"
)

type mirror struct {
	ec2       *ec2.Client
	schedules *scheduler.Client
	store     evidence.Store
	settings  events.Settings
}

// run makes whatever of target, filter and session is not there yet: each Create carries a token of the capture, so
// that a second run finds what the first has made.
func (m mirror) run(ctx context.Context, in events.StepInput) (events.MirrorResult, error) {
	plan, err := m.store.Plan(ctx, in.Capture)
	if err != nil {
		return events.MirrorResult{}, err
	}
	collector, err := m.collectorInterface(ctx, plan)
	if err != nil {
		return events.MirrorResult{}, err
	}
	target, err := m.target(ctx, plan, collector)
	if err != nil {
		return events.MirrorResult{}, err
	}
	filter, err := m.filter(ctx, plan)
	if err != nil {
		return events.MirrorResult{}, err
	}
	session, call, err := m.session(ctx, plan, target, filter)
	if err != nil {
		return events.MirrorResult{}, err
	}
	if err := m.deleteAtDeadline(ctx, plan, session); err != nil {
		return events.MirrorResult{}, err
	}
	slog.Info("mirroring", "capture", plan.Capture, "eni", plan.Source.NetworkInterfaceID, "vni", plan.Mirror.VNI, "session", session)
	return events.MirrorResult{SessionID: session, VNI: plan.Mirror.VNI, At: time.Now().UTC()}, m.store.Record(ctx, events.CustodyEntry{
		Capture: plan.Capture, Actor: "mirror", Act: events.ActMirrored, Resource: session, RequestID: call,
		Detail: map[string]string{
			"target": target, "filter": filter, "source": plan.Source.NetworkInterfaceID, "collector": collector,
			"vni": strconv.Itoa(int(plan.Mirror.VNI)), "sessionNumber": strconv.Itoa(int(plan.Mirror.SessionNumber)),
		},
	})
}

// collectorInterface is the primary interface of the collector's instance. An NLB or an interface of its own would
// be one more thing to leak.
func (m mirror) collectorInterface(ctx context.Context, plan events.Plan) (string, error) {
	list, err := describe.Instances(ctx, m.ec2, describe.Filter("tag:"+events.TagCapture, string(plan.Capture)),
		describe.Filter("tag:"+events.TagDeployment, plan.Deployment), describe.Filter("instance-state-name", "running"))
	if err != nil {
		return "", err
	}
	for _, in := range list {
		for _, ni := range in.NetworkInterfaces {
			if ni.Attachment != nil && aws.ToInt32(ni.Attachment.DeviceIndex) == 0 {
				return aws.ToString(ni.NetworkInterfaceId), nil
			}
		}
	}
	return "", boot.CollectorDied{Instance: "of " + string(plan.Capture), Reason: "no instance of the capture is running"}
}

func tags(kind types.ResourceType, plan events.Plan) []types.TagSpecification {
	return []types.TagSpecification{describe.TagSpecification(kind, plan.ResourceTags(1))}
}

func (m mirror) target(ctx context.Context, plan events.Plan, collector string) (string, error) {
	out, err := m.ec2.CreateTrafficMirrorTarget(ctx, &ec2.CreateTrafficMirrorTargetInput{
		NetworkInterfaceId: &collector,
		Description:        aws.String(remove.Description(plan.Capture)),
		ClientToken:        aws.String(events.ClientToken(plan.Capture, 1, "target")),
		TagSpecifications:  tags(types.ResourceTypeTrafficMirrorTarget, plan),
	})
	if err != nil {
		return "", fmt.Errorf("create mirror target on %s: %w", collector, err)
	}
	return aws.ToString(out.TrafficMirrorTarget.TrafficMirrorTargetId), nil
}

func (m mirror) filter(ctx context.Context, plan events.Plan) (string, error) {
	out, err := m.ec2.CreateTrafficMirrorFilter(ctx, &ec2.CreateTrafficMirrorFilterInput{
		Description:       aws.String(remove.Description(plan.Capture)),
		ClientToken:       aws.String(events.ClientToken(plan.Capture, 1, "filter")),
		TagSpecifications: tags(types.ResourceTypeTrafficMirrorFilter, plan),
	})
	if err != nil {
		return "", fmt.Errorf("create mirror filter: %w", err)
	}
	id := aws.ToString(out.TrafficMirrorFilter.TrafficMirrorFilterId)
	if plan.Mirror.Filter.DNS {
		if _, err := m.ec2.ModifyTrafficMirrorFilterNetworkServices(ctx, &ec2.ModifyTrafficMirrorFilterNetworkServicesInput{
			TrafficMirrorFilterId: &id, AddNetworkServices: []types.TrafficMirrorNetworkService{types.TrafficMirrorNetworkServiceAmazonDns},
		}); err != nil {
			return "", fmt.Errorf("mirror DNS by filter %s: %w", id, err)
		}
	}
	for _, r := range plan.Mirror.Filter.Rules {
		if _, err := m.ec2.CreateTrafficMirrorFilterRule(ctx, rule(plan, id, r)); err != nil && !awserr.IsExisting(err) {
			return "", fmt.Errorf("create %s rule %d of filter %s: %w", r.Direction, r.Number, id, err)
		}
	}
	return id, nil
}

func rule(plan events.Plan, filter string, r events.FilterRule) *ec2.CreateTrafficMirrorFilterRuleInput {
	in := &ec2.CreateTrafficMirrorFilterRuleInput{
		TrafficMirrorFilterId: &filter,
		RuleNumber:            &r.Number,
		TrafficDirection:      types.TrafficDirection(r.Direction),
		RuleAction:            types.TrafficMirrorRuleAction(r.Action),
		SourceCidrBlock:       &r.SourceCIDR,
		DestinationCidrBlock:  &r.DestinationCIDR,
		ClientToken:           aws.String(events.ClientToken(plan.Capture, 1, fmt.Sprintf("rule %s %d", r.Direction, r.Number))),
		TagSpecifications:     tags(types.ResourceTypeTrafficMirrorFilterRule, plan),
	}
	if r.Protocol != 0 {
		in.Protocol = &r.Protocol
	}
	if p := r.SourcePorts; p != nil {
		in.SourcePortRange = &types.TrafficMirrorPortRangeRequest{FromPort: &p.From, ToPort: &p.To}
	}
	if p := r.DestinationPorts; p != nil {
		in.DestinationPortRange = &types.TrafficMirrorPortRangeRequest{FromPort: &p.From, ToPort: &p.To}
	}
	return in
}

func (m mirror) session(ctx context.Context, plan events.Plan, target, filter string) (id, call string, err error) {
	in := &ec2.CreateTrafficMirrorSessionInput{
		NetworkInterfaceId:    &plan.Source.NetworkInterfaceID,
		TrafficMirrorTargetId: &target,
		TrafficMirrorFilterId: &filter,
		SessionNumber:         &plan.Mirror.SessionNumber,
		VirtualNetworkId:      aws.Int32(int32(plan.Mirror.VNI)),
		Description:           aws.String(remove.Description(plan.Capture)),
		ClientToken:           aws.String(events.ClientToken(plan.Capture, 1, "session")),
		TagSpecifications:     tags(types.ResourceTypeTrafficMirrorSession, plan),
	}
	if plan.Mirror.PacketLength != 0 {
		in.PacketLength = &plan.Mirror.PacketLength
	}
	out, err := m.ec2.CreateTrafficMirrorSession(ctx, in)
	switch awserr.Code(err) {
	case "NetworkInterfaceNotSupported":
		return "", "", boot.NotMirrorable{Source: plan.Source.NetworkInterfaceID, Reason: err.Error(), Remedy: "capture a peer, or on the host itself"}
	case "TrafficMirrorSessionsPerInterfaceLimitExceeded":
		return "", "", boot.NotMirrorable{Source: plan.Source.NetworkInterfaceID, Reason: err.Error(), Remedy: "delete one of the sessions on the interface"}
	}
	if err != nil {
		return "", "", fmt.Errorf("create mirror session on %s: %w", plan.Source.NetworkInterfaceID, err)
	}
	return aws.ToString(out.TrafficMirrorSession.TrafficMirrorSessionId), evidence.RequestID(out.ResultMetadata), nil
}

// deleteAtDeadline has Scheduler itself delete the session: should all our code be broken, the mirroring still ends.
func (m mirror) deleteAtDeadline(ctx context.Context, plan events.Plan, session string) error {
	input, err := json.Marshal(map[string]string{"TrafficMirrorSessionId": session})
	if err != nil {
		return err
	}
	name := events.SessionScheduleName(session)
	_, err = m.schedules.CreateSchedule(ctx, &scheduler.CreateScheduleInput{
		Name: &name, GroupName: &m.settings.ScheduleGroup,
		Description:           aws.String(remove.SessionScheduleDescription(plan.Capture)),
		ScheduleExpression:    aws.String("at(" + plan.GuardAt().UTC().Format("2006-01-02T15:04:05") + ")"),
		FlexibleTimeWindow:    &schedulertypes.FlexibleTimeWindow{Mode: schedulertypes.FlexibleTimeWindowModeOff},
		ActionAfterCompletion: schedulertypes.ActionAfterCompletionDelete,
		ClientToken:           aws.String(events.ClientToken(plan.Capture, 1, "session schedule")),
		Target: &schedulertypes.Target{
			Arn: aws.String("arn:aws:scheduler:::aws-sdk:ec2:deleteTrafficMirrorSession"), RoleArn: &m.settings.ScheduleRoleARN,
			Input: aws.String(string(input)),
		},
	})
	if err != nil && !awserr.IsExisting(err) {
		return fmt.Errorf("schedule the end of %s: %w", session, err)
	}
	return nil
}
