package lease

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"
	"github.com/aws/aws-sdk-go-v2/service/scheduler/types"
)

// group is a schedule group in memory: input by name.
type group map[string]string

func (g group) GetSchedule(_ context.Context, in *scheduler.GetScheduleInput, _ ...func(*scheduler.Options)) (*scheduler.GetScheduleOutput, error) {
	input, there := g[aws.ToString(in.Name)]
	if !there {
		return nil, &types.ResourceNotFoundException{Message: aws.String("no such schedule")}
	}
	return &scheduler.GetScheduleOutput{Target: &types.Target{Input: &input}}, nil
}

func (g group) ListSchedules(_ context.Context, in *scheduler.ListSchedulesInput, _ ...func(*scheduler.Options)) (*scheduler.ListSchedulesOutput, error) {
	var out scheduler.ListSchedulesOutput
	for name := range g {
		if strings.HasPrefix(name, aws.ToString(in.NamePrefix)) {
			out.Schedules = append(out.Schedules, types.ScheduleSummary{Name: aws.String(name)})
		}
	}
	return &out, nil
}

func TestRead(t *testing.T) {
	const eni = "eni-00000001"
	good := `{"capture":"20261122T030405Z-eni-00000001","deadline":"2026-11-22T03:24:05Z","execution":"x","by":"guard"}`
	for name, row := range map[string]struct {
		input string
		says  string // of the error
	}{
		"ours":                    {good, ""},
		"with words of tomorrow":  {strings.Replace(good, "{", `{"more":1,`, 1), ""},
		"no input":                {"", "not ours"},
		"no JSON":                 {"tear it down", "not ours"},
		"no capture":              {`{"capture":"","deadline":"2026-11-22T03:24:05Z"}`, "not ours"},
		"a capture that is none":  {`{"capture":"all"}`, "not ours"},
		"a deadline that is none": {strings.Replace(good, "2026-11-22T03", "soon", 1), "not ours"},
	} {
		l, err := Read(t.Context(), group{eni: row.input}, "g", eni)
		if row.says == "" && (err != nil || l == nil || l.Capture != "20261122T030405Z-eni-00000001" || l.Execution != "x") {
			t.Errorf("%s: %+v, %v", name, l, err)
		}
		if row.says != "" && (err == nil || l != nil || !strings.Contains(err.Error(), row.says) || !strings.Contains(err.Error(), eni)) {
			t.Errorf("%s: %+v, %v; want an error that says %q", name, l, err, row.says)
		}
	}
	if l, err := Read(t.Context(), group{}, "g", eni); l != nil || err != nil {
		t.Errorf("none: %+v, %v", l, err)
	}
}

func TestAll(t *testing.T) {
	g := group{"tms-1": "a session's", "tms-2": "another's"}
	for n := range 3 {
		g[fmt.Sprintf("eni-0000000%d", n)] = fmt.Sprintf(`{"capture":"20261122T030405Z-eni-0000000%d"}`, n)
	}
	if all, err := All(t.Context(), g, "g"); err != nil || len(all) != 3 {
		t.Errorf("%+v, %v", all, err)
	}
	if names, err := Names(t.Context(), g, "g", ""); err != nil || len(names) != 5 {
		t.Errorf("%v, %v", names, err)
	}
}

func TestOver(t *testing.T) {
	at := time.Date(2026, 11, 22, 3, 24, 5, 0, time.UTC)
	l := Lease{Deadline: at}
	for _, row := range []struct {
		now  time.Time
		over bool
	}{{at.Add(-time.Second), false}, {at, false}, {at.Add(time.Nanosecond), true}} {
		if l.Over(row.now) != row.over {
			t.Errorf("at %s over: %t", row.now, !row.over)
		}
	}
}
