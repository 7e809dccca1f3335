package deployment_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"flashtap/events"
	"flashtap/testutil/deployment"
	"flashtap/testutil/packets"
	"flashtap/testutil/region/asl"
)

// TestTwoDeploymentsNeverMeet: in one account, two deployments capture at the same time. Each changes only what bears its own
// tag, writes only into its own bucket, and leaves nothing; the sweep of one leaves the other's captures alone.
func TestTwoDeploymentsNeverMeet(t *testing.T) {
	t.Parallel()
	hasten := func(s *events.Settings) { s.DurationSeconds, s.ProofSeconds, s.DrainSeconds = 8, 10, 10 }
	s := set(t, deployment.SceneConfig{Frames: packets.MustLoad("zeek-get.pcap"), Loop: true, PPS: 200, Change: hasten})
	c := deployment.Config()
	c.Deployment = "other"
	other, err := deployment.Deploy(t.Context(), s.Region, deployment.Options{
		Account: s.Settings.Account, Region: s.Settings.Region, Programs: programs, Config: &c, Change: hasten,
	})
	if err != nil {
		t.Fatal(err)
	}
	theirs := s.AddSuspect("i-0bbbbbbbbbbbbbbbb", "eni-0bbbbbbbbbbbbbbbb")
	start := func(d *deployment.Deployment, eni string) *asl.Execution {
		t.Helper()
		request := fmt.Sprintf(`{"detail-type": "Capture Request", "source": "flashtap", "detail": {"networkInterfaceId": %q}}`, eni)
		if matched, err := d.Publish([]byte(request)); err != nil || len(matched) != 1 {
			t.Fatalf("publish: matched %v, %v", matched, err)
		}
		var x *asl.Execution
		eventually(t, 30*time.Second, "an execution starts for "+eni, func() bool {
			for _, name := range s.Region.Executions() {
				if strings.HasSuffix(name, eni) {
					x = s.Region.Execution(name)
				}
			}
			return x != nil
		})
		return x
	}
	ours, foreign := start(s.Deployment, s.ENI), start(other, theirs)
	owner := map[string]string{}
	eventually(t, time.Minute, "both have a session", func() bool {
		sessions := map[string]bool{}
		for _, r := range s.Region.EC2.Resources() {
			if d := r.Tags[events.TagDeployment]; d != "" && !r.Seeded {
				owner[r.ID] = d
				if r.Type == "traffic-mirror-session" {
					sessions[d] = true
				}
			}
		}
		return len(sessions) == 2
	})
	for _, d := range []*deployment.Deployment{s.Deployment, other} { // while the other's capture runs
		if report, err := d.Sweep(t.Context()); err != nil || !strings.Contains(report, `"remaining":0`) {
			t.Errorf("sweep: %s, %v", report, err)
		}
	}
	for _, x := range []*asl.Execution{ours, foreign} {
		if result := finish(t, x); result.Status != asl.Succeeded {
			t.Errorf("the execution %s %s: %s: %s", x.Name(), result.Status, result.Error, result.Cause)
		}
	}
	nothingLeft(t, s)

	changes := 0
	for _, call := range s.Region.Calls() {
		deployment, stranger := "demo", other.Settings
		if strings.HasPrefix(call.Principal, "flashtap-other-") {
			deployment, stranger = "other", s.Settings
		}
		words := fmt.Sprint(call.Params)
		if call.Service == "s3" || call.Service == "sqs" || call.Service == "scheduler" {
			for _, name := range []string{stranger.Bucket, stranger.IntakeQueueURL, stranger.WaitingQueueURL} {
				if strings.Contains(words, name) {
					t.Errorf("%s called %s on %s", call.Principal, call.Operation, name)
				}
			}
			if group := fmt.Sprint(call.Params["GroupName"]); group == stranger.ScheduleGroup {
				t.Errorf("%s called %s in the group %s", call.Principal, call.Operation, group)
			}
		}
		if call.Service != "ec2" || strings.HasPrefix(call.Operation, "Describe") {
			continue
		}
		changes++
		for id, d := range owner {
			if d != deployment && strings.Contains(words, id) {
				t.Errorf("%s called %s on %s, which is of %s", call.Principal, call.Operation, id, d)
			}
		}
	}
	if changes < 20 {
		t.Errorf("only %d calls of EC2 changed anything", changes)
	}
	for _, d := range []*deployment.Deployment{s.Deployment, other} {
		entries, err := os.ReadDir(filepath.Join(s.Region.S3.BucketDir(d.Settings.Bucket), "captures"))
		if err != nil || len(entries) != 1 {
			t.Errorf("%s holds %d captures, %v", d.Settings.Bucket, len(entries), err)
		}
	}
}
