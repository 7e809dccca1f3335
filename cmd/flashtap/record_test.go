package main

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"flashtap/events"
)

func TestJudge(t *testing.T) {
	start := time.Date(2026, 11, 22, 3, 4, 5, 0, time.UTC)
	c := events.NewCaptureID(start, "eni-0a1b2c3d")
	planned := planOf(c, 15*time.Minute)
	waited := planned
	waited.CreatedAt, waited.Deadline = start.Add(5*time.Hour), start.Add(5*time.Hour+15*time.Minute)
	noGo := planned
	noGo.Go, noGo.Verdicts = false, []events.Verdict{{Check: "placement", Result: events.Fail, Reason: "no path to S3"}}
	for name, row := range map[string]struct {
		record record
		guard  guardWord
		after  time.Duration // since the capture's start
		want   string
	}{
		"a manifest closes everything":           {record{Manifest: &events.Manifest{}, Plan: &planned}, guardWord{made: true}, time.Minute, stateSealed},
		"preflight is at it":                     {record{}, guardWord{}, time.Minute, stateRunning},
		"preflight never finished":               {record{}, guardWord{}, time.Hour, stateRefused},
		"preflight said no":                      {record{Plan: &noGo}, guardWord{}, time.Minute, stateRefused},
		"planned, and the guard is being made":   {record{Plan: &planned}, guardWord{}, time.Minute, stateRunning},
		"the guard has joined another capture":   {record{Plan: &planned}, guardWord{joinedTo: "other"}, time.Minute, stateRefused},
		"the guard was never made":               {record{Plan: &planned}, guardWord{}, time.Hour, stateRefused},
		"the request waited for a place":         {record{Plan: &waited}, guardWord{}, 5*time.Hour + time.Minute, stateRunning},
		"capturing":                              {record{Plan: &planned}, guardWord{made: true}, 10 * time.Minute, stateRunning},
		"draining after the deadline":            {record{Plan: &planned}, guardWord{made: true}, 15*time.Minute + time.Second, stateRunning},
		"over for long and nobody has sealed":    {record{Plan: &planned}, guardWord{made: true}, time.Hour, stateUnsealed},
		"waited, then captured for its own time": {record{Plan: &waited}, guardWord{made: true}, 5*time.Hour + 10*time.Minute, stateRunning},
	} {
		t.Run(name, func(t *testing.T) {
			row.record.Capture = c
			got, why, err := row.record.judge(row.guard, start.Add(row.after))
			if err != nil || got != row.want {
				t.Errorf("%s (%s), %v; want %s", got, why, err, row.want)
			}
			if why == "" && (got == stateRefused || got == stateUnsealed) {
				t.Errorf("%s without a reason", got)
			}
		})
	}
}

func TestForeignInstances(t *testing.T) {
	p := planOf(events.NewCaptureID(time.Now(), "eni-0a1b2c3d"), time.Minute)
	ours := map[string]string{events.TagCapture: string(p.Capture), events.TagDeployment: deployed, templateTag: templateID}
	for name, row := range map[string]struct {
		change  func(tags map[string]string)
		profile string
		ours    bool
	}{
		"all proofs agree":                   {nil, profileARN, true},
		"a tag alone proves nothing":         {func(m map[string]string) { delete(m, templateTag) }, "", false},
		"launched from another template":     {func(m map[string]string) { m[templateTag] = "lt-other" }, profileARN, false},
		"another capture's collector":        {func(m map[string]string) { m[events.TagCapture] = "other" }, profileARN, false},
		"another deployment's":               {func(m map[string]string) { m[events.TagDeployment] = "other" }, profileARN, false},
		"it has somebody else's permissions": {nil, profileARN + "2", false},
		"it has no permissions at all":       {nil, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			in := types.Instance{}
			if row.profile != "" {
				in.IamInstanceProfile = &types.IamInstanceProfile{Arn: aws.String(row.profile)}
			}
			tags := map[string]string{}
			for key, value := range ours {
				tags[key] = value
			}
			if row.change != nil {
				row.change(tags)
			}
			for key, value := range tags {
				in.Tags = append(in.Tags, types.Tag{Key: aws.String(key), Value: aws.String(value)})
			}
			if doubt := foreign(in, p); (doubt == "") != row.ours {
				t.Errorf("doubt %q", doubt)
			}
		})
	}
}
