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

	"flashtap/events"
	"flashtap/functions/internal/awserr"
	"flashtap/functions/lease"
)

// remove deletes one item. Already gone is success; still in use is left for the next pass, and is not an error.
func (r Remover) remove(ctx context.Context, item Item) error {
	var err error
	switch item.Kind {
	case KindSession:
		_, err = r.EC2.DeleteTrafficMirrorSession(ctx, &ec2.DeleteTrafficMirrorSessionInput{TrafficMirrorSessionId: &item.ID})
	case KindTarget:
		_, err = r.EC2.DeleteTrafficMirrorTarget(ctx, &ec2.DeleteTrafficMirrorTargetInput{TrafficMirrorTargetId: &item.ID})
	case KindFilter:
		_, err = r.EC2.DeleteTrafficMirrorFilter(ctx, &ec2.DeleteTrafficMirrorFilterInput{TrafficMirrorFilterId: &item.ID})
	case KindInstance:
		if item.State == string(types.InstanceStateNameShuttingDown) {
			return nil // asked already
		}
		_, err = r.EC2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{item.ID}})
	case KindInterface:
		if item.State == string(types.NetworkInterfaceStatusInUse) {
			return nil // its instance takes it along
		}
		_, err = r.EC2.DeleteNetworkInterface(ctx, &ec2.DeleteNetworkInterfaceInput{NetworkInterfaceId: &item.ID})
	case KindSecurityGroup:
		_, err = r.EC2.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: &item.ID})
	case KindSessionSchedule:
		_, err = r.Schedules.DeleteSchedule(ctx, &scheduler.DeleteScheduleInput{Name: &item.ID, GroupName: &r.Settings.ScheduleGroup})
	case KindGuard:
		// Since we looked, another pass may have removed it, and the interface's next capture made its own of this name.
		held, readErr := lease.Read(ctx, r.Schedules, r.Settings.ScheduleGroup, item.ID)
		if readErr != nil {
			return readErr
		}
		if held == nil || held.Capture != item.Capture {
			return nil
		}
		_, err = r.Schedules.DeleteSchedule(ctx, &scheduler.DeleteScheduleInput{Name: &item.ID, GroupName: &r.Settings.ScheduleGroup})
	default:
		return fmt.Errorf("no way to remove a %s is known", item.Kind)
	}
	if awserr.IsNotFound(err) || awserr.IsInUse(err) {
		return nil
	}
	if err == nil {
		slog.Info("removed", "capture", item.Capture, "kind", item.Kind, "id", item.ID)
	}
	return err
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
