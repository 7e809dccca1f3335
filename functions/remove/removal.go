package remove

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"

	"flashtap/events"
	"flashtap/functions/evidence"
	"flashtap/functions/internal/awserr"
	"flashtap/functions/lease"
)

// remove deletes one item, and returns the id of the request by which it did. Already gone is success; still in use is left for
// the next pass, and is not an error.
func (r Remover) remove(ctx context.Context, item Item) (call string, err error) {
	switch item.Kind {
	case KindSession:
		out, err := r.EC2.DeleteTrafficMirrorSession(ctx, &ec2.DeleteTrafficMirrorSessionInput{TrafficMirrorSessionId: &item.ID})
		return settle(item, err, func() middleware.Metadata { return out.ResultMetadata })
	case KindTarget:
		out, err := r.EC2.DeleteTrafficMirrorTarget(ctx, &ec2.DeleteTrafficMirrorTargetInput{TrafficMirrorTargetId: &item.ID})
		return settle(item, err, func() middleware.Metadata { return out.ResultMetadata })
	case KindFilter:
		out, err := r.EC2.DeleteTrafficMirrorFilter(ctx, &ec2.DeleteTrafficMirrorFilterInput{TrafficMirrorFilterId: &item.ID})
		return settle(item, err, func() middleware.Metadata { return out.ResultMetadata })
	case KindInstance:
		if item.State == string(types.InstanceStateNameShuttingDown) {
			return "", nil // asked already
		}
		out, err := r.EC2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{item.ID}})
		return settle(item, err, func() middleware.Metadata { return out.ResultMetadata })
	case KindInterface:
		if item.State == string(types.NetworkInterfaceStatusInUse) {
			return "", nil // its instance takes it along
		}
		out, err := r.EC2.DeleteNetworkInterface(ctx, &ec2.DeleteNetworkInterfaceInput{NetworkInterfaceId: &item.ID})
		return settle(item, err, func() middleware.Metadata { return out.ResultMetadata })
	case KindEndpoint:
		if item.State == endpointDeleting {
			return "", nil // asked already
		}
		answer, err := r.removeEndpoint(ctx, item.ID)
		return settle(item, err, func() middleware.Metadata { return answer })
	case KindSecurityGroup:
		out, err := r.EC2.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: &item.ID})
		return settle(item, err, func() middleware.Metadata { return out.ResultMetadata })
	case KindSessionSchedule:
		out, err := r.Schedules.DeleteSchedule(ctx, &scheduler.DeleteScheduleInput{Name: &item.ID, GroupName: &r.Settings.ScheduleGroup})
		return settle(item, err, func() middleware.Metadata { return out.ResultMetadata })
	case KindGuard:
		// Since we looked, another pass may have removed it, and the interface's next capture made its own of this name.
		held, readErr := lease.Read(ctx, r.Schedules, r.Settings.ScheduleGroup, item.ID)
		if readErr != nil {
			return "", readErr
		}
		if held == nil || held.Capture != item.Capture {
			return "", nil
		}
		out, err := r.Schedules.DeleteSchedule(ctx, &scheduler.DeleteScheduleInput{Name: &item.ID, GroupName: &r.Settings.ScheduleGroup})
		return settle(item, err, func() middleware.Metadata { return out.ResultMetadata })
	}
	return "", fmt.Errorf("no way to remove a %s is known", item.Kind)
}

// settle says what the answer to a removal means.
func settle(item Item, err error, answer func() middleware.Metadata) (call string, _ error) {
	if awserr.IsNotFound(err) || awserr.IsInUse(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	slog.Info("removed", "capture", item.Capture, "kind", item.Kind, "id", item.ID)
	return evidence.RequestID(answer()), nil
}

// removeEndpoint deletes one endpoint. The call succeeds also when it could not, and says so in its answer.
func (r Remover) removeEndpoint(ctx context.Context, id string) (middleware.Metadata, error) {
	out, err := r.EC2.DeleteVpcEndpoints(ctx, &ec2.DeleteVpcEndpointsInput{VpcEndpointIds: []string{id}})
	if err != nil {
		return middleware.Metadata{}, err
	}
	for _, u := range out.Unsuccessful {
		if u.Error != nil {
			return middleware.Metadata{}, &smithy.GenericAPIError{Code: aws.ToString(u.Error.Code), Message: aws.ToString(u.Error.Message)}
		}
	}
	return out.ResultMetadata, nil
}

// captureOfSessionSchedule reads which capture the schedule of a session belongs to from the schedule's description;
// "" when it is not one of ours.
func (s *sightings) captureOfSessionSchedule(ctx context.Context, name string) (events.CaptureID, error) {
	out, err := s.remover.Schedules.GetSchedule(ctx, &scheduler.GetScheduleInput{Name: &name, GroupName: &s.remover.Settings.ScheduleGroup})
	if awserr.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read schedule %s: %w", name, err)
	}
	c, found := strings.CutPrefix(aws.ToString(out.Description), sessionScheduleDescription)
	if !found || events.CaptureID(c).Validate() != nil {
		return "", nil
	}
	return events.CaptureID(c), nil
}

const sessionScheduleDescription = "Flashtap: deletes the mirror session of "

// SessionScheduleDescription names the capture of a session's schedule: schedules have no tags.
func SessionScheduleDescription(c events.CaptureID) string {
	return sessionScheduleDescription + string(c)
}
