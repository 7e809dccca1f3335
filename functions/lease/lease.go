// Package lease reads the guard schedules, which are at once the locks of captured interfaces and the only authority
// on their deadlines.
package lease

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"

	"flashtap/events"
	"flashtap/functions/internal/awserr"
)

// Lease is the input of a guard schedule, and so of the teardown that it calls.
type Lease struct {
	Capture   events.CaptureID `json:"capture"`
	Deadline  time.Time        `json:"deadline"`
	Execution string           `json:"execution"`
	By        string           `json:"by"`
}

// Over says whether the capture should have ended.
func (l Lease) Over(now time.Time) bool { return now.After(l.Deadline) }

type reader interface {
	GetSchedule(context.Context, *scheduler.GetScheduleInput, ...func(*scheduler.Options)) (*scheduler.GetScheduleOutput, error)
}

// Read returns the lease of an interface; nil when it is not being captured.
func Read(ctx context.Context, api reader, group, eni string) (*Lease, error) {
	name := events.GuardScheduleName(eni)
	out, err := api.GetSchedule(ctx, &scheduler.GetScheduleInput{Name: &name, GroupName: &group})
	if awserr.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read guard schedule %s: %w", name, err)
	}
	var l Lease
	if out.Target == nil || json.Unmarshal([]byte(aws.ToString(out.Target.Input)), &l) != nil || l.Capture.Validate() != nil {
		return nil, fmt.Errorf("guard schedule %s/%s: its input is not ours; delete the schedule if nobody needs it", group, name)
	}
	return &l, nil
}

type lister interface {
	scheduler.ListSchedulesAPIClient
	reader
}

// Names lists the schedules of the group: guard schedules are named for interfaces (eni-...), the others for sessions.
func Names(ctx context.Context, api scheduler.ListSchedulesAPIClient, group, prefix string) ([]string, error) {
	var names []string
	in := &scheduler.ListSchedulesInput{GroupName: &group}
	if prefix != "" {
		in.NamePrefix = &prefix
	}
	pages := scheduler.NewListSchedulesPaginator(api, in)
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("list schedules of %s: %w", group, err)
		}
		for _, s := range page.Schedules {
			names = append(names, aws.ToString(s.Name))
		}
	}
	return names, nil
}

// All reads every lease of the deployment: one a running capture.
func All(ctx context.Context, api lister, group string) ([]Lease, error) {
	names, err := Names(ctx, api, group, "eni-")
	if err != nil {
		return nil, err
	}
	var leases []Lease
	for _, name := range names {
		l, err := Read(ctx, api, group, strings.TrimSpace(name))
		if err != nil {
			return nil, err
		}
		if l != nil {
			leases = append(leases, *l)
		}
	}
	return leases, nil
}
