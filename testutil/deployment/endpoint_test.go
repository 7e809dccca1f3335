package deployment_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"flashtap/events"
	"flashtap/testutil/deployment"
	"flashtap/testutil/iam"
	"flashtap/testutil/packets"
	"flashtap/testutil/region/asl"
)

// endpointOnly is a scene whose VPC has no way to S3, and whose deployment lets captures make one.
func endpointOnly(t *testing.T, change func(*events.Settings)) *deployment.Scene {
	t.Helper()
	times := quick
	times.EndpointDelay = 2 * time.Second
	s := set(t, deployment.SceneConfig{Frames: packets.MustLoad("zeek-get.pcap"), Loop: true, PPS: 200, EC2: times, Change: func(set *events.Settings) {
		set.AllowTemporaryEndpoint = true
		if change != nil {
			change(set)
		}
	}})
	for _, r := range s.Region.EC2.Resources() {
		if r.Type == "vpc-endpoint" {
			s.Region.EC2.RemoveEndpoint(r.ID)
		}
	}
	return s
}

// endpoints are the VPC endpoints that are there.
func endpoints(s *deployment.Scene) (ids []string) {
	for _, r := range s.Region.EC2.Resources() {
		if r.Type == "vpc-endpoint" {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

// A capture in a VPC without a way to S3 makes one, through which nobody but its collector gets, and takes it away again. The
// first answer to every call that makes something is lost, so that each is made twice, and exists once.
func TestATemporaryEndpointIsMadeAndRemoved(t *testing.T) {
	t.Parallel()
	s := endpointOnly(t, nil)
	loseAnswers(s)
	x := publish(t, s)
	result := finish(t, x)
	if result.Status != asl.Succeeded {
		t.Fatalf("the execution %s: %s: %s", result.Status, result.Error, result.Cause)
	}
	c := events.CaptureID(x.Name())
	sameFrames(t, s, c)
	nothingLeft(t, s)
	if left := endpoints(s); len(left) > 0 {
		t.Errorf("endpoints are left: %v", left)
	}

	var plan events.Plan
	readJSON(t, s.Path(events.PlanKey(c)), &plan)
	if !slices.ContainsFunc(plan.Verdicts, func(v events.Verdict) bool { return v.Check == "endpoint" && v.Result == events.Fixed }) || plan.Collector.Endpoint == nil {
		t.Errorf("the plan does not say that it makes one: %+v", plan.Verdicts)
	}
	made := map[string]bool{}
	calls := 0
	for _, call := range s.Region.Calls() {
		if call.Operation == "CreateVpcEndpoint" {
			calls++
			made[call.Params["ClientToken"].(string)] = true
			if call.Params["PrivateDnsEnabled"] != false || call.Params["VpcEndpointType"] != "Interface" {
				t.Errorf("made with %v", call.Params)
			}
		}
	}
	if len(made) != 1 || calls < 3 {
		t.Errorf("%d tokens in %d calls, want one in several", len(made), calls)
	}
	opened, err := filepath.Glob(filepath.Join(s.Path(events.CustodyPrefix(c)), "launch-opened-vpce-*.json"))
	if err != nil || len(opened) != 1 {
		t.Errorf("custody has %v of it, %v", opened, err)
	}
	certificates, err := filepath.Glob(filepath.Join(s.Path(events.CertificatesPrefix(c)), "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	gone := false
	for _, name := range certificates {
		var cert events.Certificate
		readJSON(t, name, &cert)
		gone = gone || slices.ContainsFunc(cert.Gone, func(r events.Resource) bool { return r.Kind == "endpoint" })
	}
	if !gone {
		t.Error("no certificate says that it is gone")
	}
	onlyForTheCollector(t, s, plan)
}

// onlyForTheCollector holds the endpoint's policy against what the collector did in the bucket, and against more.
func onlyForTheCollector(t *testing.T, s *deployment.Scene, plan events.Plan) {
	t.Helper()
	policy := parse(t, "endpoint", plan.Collector.Endpoint.Policy)
	collector := iam.Principal{ARN: "arn:aws:iam::" + plan.Account + ":role/collector", Account: plan.Account}
	allowed := func(action, object string) bool {
		t.Helper()
		r, err := iam.Evaluate(iam.Request{Principal: collector, Action: action, Resource: object, Context: iam.Context{}}, iam.Policies{Resource: policy})
		if err != nil {
			t.Fatal(err)
		}
		return r.Decision == iam.Allowed
	}
	bucket := "arn:aws:s3:::" + plan.Collector.Bucket + "/"
	used := 0
	for _, call := range s.Region.Calls() {
		if call.Service != "s3" || !strings.Contains(call.Principal, "collector") {
			continue
		}
		used++
		if key := call.Params["Key"].(string); !allowed("s3:"+call.Operation, bucket+key) {
			t.Errorf("the endpoint would not let %s %s pass", call.Operation, key)
		}
	}
	if used < 3 {
		t.Errorf("the collector made only %d calls of S3", used)
	}
	for _, no := range [][2]string{
		{"s3:GetObject", bucket + events.PlanKey(plan.Capture)},
		{"s3:PutObject", "arn:aws:s3:::somebody-elses/" + events.CollectorsPrefix(plan.Capture) + "x"},
		{"s3:DeleteObject", bucket + events.CollectorsPrefix(plan.Capture) + "x"},
		{"s3:PutObject", bucket + "captures/20200101T000000Z-eni-0aaaaaaaaaaaaaaaa/collectors/x"},
	} {
		if allowed(no[0], no[1]) {
			t.Errorf("the endpoint lets %s %s pass", no[0], no[1])
		}
	}
}

func readJSON(t *testing.T, name string, v any) {
	t.Helper()
	body, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(body, v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// Whatever ends the state machine while the endpoint opens, the guard or the sweep finds the endpoint and removes it.
func TestAnEndpointOfAStoppedExecutionIsSwept(t *testing.T) {
	t.Parallel()
	s := endpointOnly(t, nil)
	x := publish(t, s)
	eventually(t, 40*time.Second, "the endpoint is made", func() bool { return len(endpoints(s)) == 1 })
	x.Stop("Operator", "wrong button")
	finish(t, x)
	sweepUntilClean(t, s)
	if left := endpoints(s); len(left) > 0 {
		t.Errorf("endpoints are left: %v", left)
	}
}

// Without leave there is no endpoint, and no capture.
func TestWithoutLeaveNoEndpointIsMade(t *testing.T) {
	t.Parallel()
	s := endpointOnly(t, func(set *events.Settings) { set.AllowTemporaryEndpoint = false })
	result := finish(t, publish(t, s))
	if result.Status != asl.Failed || result.Error != "NoPlace" || len(endpoints(s)) != 0 {
		t.Errorf("the execution %s: %s: %s, with endpoints %v", result.Status, result.Error, result.Cause, endpoints(s))
	}
}
