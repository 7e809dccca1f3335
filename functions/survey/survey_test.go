package survey

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"flashtap/events"
	"flashtap/functions/plan"
	"flashtap/infra/policy"
	"flashtap/testutil/iam"
	"flashtap/testutil/region"
	"flashtap/testutil/region/cloudwatch"
	"flashtap/testutil/region/ec2"
	"flashtap/testutil/region/kms"
	"flashtap/testutil/region/simulator"
	"flashtap/testutil/stage"
)

var begun = time.Date(2026, 11, 22, 3, 4, 5, 6, time.UTC)

// whole sets a stage with all that a deployment has: keys and the roles of the steps.
func whole(t *testing.T) *stage.Stage {
	t.Helper()
	s := stage.New(t, nil)
	s.Settings.BucketKeyARN = s.KMS.AddKey(kms.Key{ID: "11111111-2222-3333-4444-555555555555", Description: "evidence"})
	s.Settings.VolumeKeyARN = s.KMS.AddKey(kms.Key{ID: "66666666-7777-8888-9999-000000000000", Description: "disks"})
	s.Settings.Roles = map[string]string{}
	scope := policy.Scope{
		Partition: "aws", Region: s.Settings.Region, Account: s.Settings.Account, Deployment: s.Settings.Deployment, Prefix: s.Settings.ScheduleGroup,
		BucketARN: "arn:aws:s3:::" + s.Settings.Bucket, BucketKeyARN: s.Settings.BucketKeyARN, VolumeKeyARN: s.Settings.VolumeKeyARN,
		LaunchTemplateID: s.Settings.LaunchTemplateID, InstanceProfileARN: s.Settings.InstanceProfileARN, SchedulerRoleARN: s.Settings.ScheduleRoleARN,
		CollectorRoleARN: strings.Replace(s.Settings.InstanceProfileARN, ":instance-profile/", ":role/", 1), OptOutTag: "flashtap:opt-out", TemporaryEndpoint: true,
		VPCs: []string{"arn:aws:ec2:" + s.Settings.Region + ":" + s.Settings.Account + ":vpc/" + s.VPC},
	}
	for _, step := range []string{"launch", "mirror", "teardown"} {
		role, known := policy.RoleOf(step)
		if !known {
			t.Fatalf("there is no role %s", step)
		}
		arn := "arn:aws:iam::" + s.Settings.Account + ":role/" + step
		s.IAM.AddRole(simulator.Role{ARN: arn, Policies: []*iam.Policy{iam.MustParse(step, role.Policy(scope))}})
		s.Settings.Roles[step] = arn
	}
	return s
}

func surveyor(s *stage.Stage) Surveyor { return New(s.Config, s.Store, s.Settings, "test") }

// TestFacts: everything is known, by at most 25 calls that change nothing, and the policies that are deployed allow all that IAM is
// asked about.
func TestFacts(t *testing.T) {
	s := whole(t)
	c := events.NewCaptureID(begun, s.ENI)
	event, err := os.ReadFile("../../events/testdata/findings/" + findingFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Store.Create(t.Context(), events.FindingKey(c), event); err != nil {
		t.Fatal(err)
	}
	before := len(s.Calls())
	by := surveyor(s)
	f, err := by.Facts(t.Context(), events.Request{NetworkInterfaceID: s.ENI, Capture: c}, begun)
	if err != nil {
		t.Fatal(err)
	}
	calls := s.Calls()[before:]
	if by.Calls() != len(calls) || len(calls) > mostCalls || len(calls) < 20 {
		t.Errorf("%d calls counted, %d made; at most %d are allowed", by.Calls(), len(calls), mostCalls)
	}
	for _, call := range calls {
		if !slices.ContainsFunc([]string{"Describe", "Get", "Simulate"}, func(verb string) bool { return strings.HasPrefix(call.Operation, verb) }) || call.Code != "" {
			t.Errorf("%s.%s: %q", call.Service, call.Operation, call.Code)
		}
	}
	if !f.Finding.Known || f.Finding.Value == nil || f.Finding.Value.Type == "" {
		t.Errorf("finding %+v", f.Finding)
	}
	if f.Instance == nil || len(f.Subnets) != 1 || len(f.RouteTables) != 1 || len(f.ACLs) != 1 || len(f.Groups) != 1 || len(f.Endpoints) != 1 || f.S3PrefixList == "" || !f.DNSSupport {
		t.Errorf("surroundings: %+v", f)
	}
	for name, why := range unknown(f) {
		t.Errorf("%s is not known: %s", name, why)
	}
	if !slices.Contains(f.Offered.Value, "c7gn.large") || f.VCPUQuota.Value <= 0 || f.BucketKey.Value.State != "Enabled" || f.VolumeKey.Value.State != "Enabled" {
		t.Errorf("offered %v, quota %v, keys %+v %+v", f.Offered.Value, f.VCPUQuota.Value, f.BucketKey.Value, f.VolumeKey.Value)
	}
	asked := 0
	for _, sim := range plan.Simulations(s.Settings, f.Interface) {
		asked += len(sim.Rights)
	}
	if len(f.Rights.Value) != asked {
		t.Errorf("%d decisions about %d rights", len(f.Rights.Value), asked)
	}
	for _, d := range f.Rights.Value {
		if d.Decision != "allowed" {
			t.Errorf("the deployed policy of %s: %s on %s is %s, missing %v", d.Step, d.Action, d.Resource, d.Decision, d.Missing)
		}
	}
	if p := plan.Decide(f); !p.Go {
		t.Errorf("%+v", p.Failed())
	}
}

const findingFile = "07-eb-ec2-torclient-camel.derived.json"

// unknown are the answers that a plan can do without and did not get, with the reasons.
func unknown(f plan.Facts) map[string]string {
	list := map[string]string{}
	note := func(name string, known bool, why string) {
		if !known {
			list[name] = why
		}
	}
	note("types", f.Types.Known, f.Types.Why)
	note("offered", f.Offered.Known, f.Offered.Why)
	note("load", f.Load.Known, f.Load.Why)
	note("used vCPUs", f.UsedVCPUs.Known, f.UsedVCPUs.Why)
	note("quota of vCPUs", f.VCPUQuota.Known, f.VCPUQuota.Why)
	note("quota of groups", f.GroupQuota.Known, f.GroupQuota.Why)
	note("bucket key", f.BucketKey.Known, f.BucketKey.Why)
	note("volume key", f.VolumeKey.Known, f.VolumeKey.Why)
	note("rights", f.Rights.Known, f.Rights.Why)
	return list
}

// TestByInstance: the primary interface stands for the instance.
func TestByInstance(t *testing.T) {
	s := whole(t)
	f, err := surveyor(s).Facts(t.Context(), events.Request{InstanceID: s.Instance}, begun)
	if err != nil || f.Request.NetworkInterfaceID != s.ENI || f.Request.Capture != events.NewCaptureID(begun, s.ENI) || !strings.Contains(f.Why, s.Instance) {
		t.Errorf("%+v, %q, %v", f.Request, f.Why, err)
	}
	if !f.Finding.Known || f.Finding.Value != nil {
		t.Errorf("asked for by hand, and there is a finding: %+v", f.Finding)
	}
}

// TestWithout: what a plan can do without may be refused, throttled or broken; the plan says so and still goes.
func TestWithout(t *testing.T) {
	for operation, names := range map[string][]string{
		"DescribeInstanceTypes":         {"types"},
		"DescribeInstanceTypeOfferings": {"offered"},
		"GetMetricData":                 {"load", "used vCPUs"},
		"GetServiceQuota":               {"quota of groups", "quota of vCPUs"},
		"DescribeKey":                   {"bucket key", "volume key"},
		"SimulatePrincipalPolicy":       {"rights"},
	} {
		t.Run(operation, func(t *testing.T) {
			s := whole(t)
			s.Inject(func(c region.Call) *region.Fault {
				if c.Operation == operation {
					return &region.Fault{Code: "AccessDeniedException"}
				}
				return nil
			})
			f, err := surveyor(s).Facts(t.Context(), events.Request{NetworkInterfaceID: s.ENI}, begun)
			if err != nil {
				t.Fatal(err)
			}
			missing := unknown(f)
			for _, name := range names {
				if !strings.Contains(missing[name], "AccessDeniedException") {
					t.Errorf("%s: %q does not say what was refused", name, missing[name])
				}
				delete(missing, name)
			}
			for name, why := range missing {
				t.Errorf("%s is not known either: %s", name, why)
			}
			p := plan.Decide(f)
			if !p.Go || !slices.ContainsFunc(p.Verdicts, func(v events.Verdict) bool {
				return v.Result == events.Warn && strings.Contains(v.Reason, "could not be checked") && strings.Contains(v.Reason, "AccessDeniedException")
			}) {
				t.Errorf("go is %t, and no verdict says that something could not be checked", p.Go)
			}
		})
	}
}

// TestCore: what a plan can't do without fails the survey.
func TestCore(t *testing.T) {
	for _, operation := range []string{"DescribeNetworkInterfaces", "DescribeInstances", "DescribeTrafficMirrorSessions", "DescribeTrafficMirrorTargets",
		"DescribeTrafficMirrorFilters", "DescribeSubnets", "DescribeRouteTables", "DescribeNetworkAcls", "DescribeSecurityGroups", "DescribeVpcEndpoints",
		"DescribeNatGateways", "DescribeManagedPrefixLists", "DescribeVpcAttribute", "GetObject"} {
		s := whole(t)
		s.Inject(func(c region.Call) *region.Fault {
			if c.Operation == operation {
				return &region.Fault{Code: "UnauthorizedOperation"}
			}
			return nil
		})
		_, err := surveyor(s).Facts(t.Context(), events.Request{NetworkInterfaceID: s.ENI, Capture: events.NewCaptureID(begun, s.ENI)}, begun)
		if err == nil || !strings.Contains(err.Error(), "UnauthorizedOperation") {
			t.Errorf("%s is refused: %v", operation, err)
		}
	}
}

// TestAtOnce: what does not depend on one another is asked at the same time.
func TestAtOnce(t *testing.T) {
	s := whole(t)
	const slow = 100 * time.Millisecond
	s.Inject(func(region.Call) *region.Fault { return &region.Fault{Latency: slow} })
	start := time.Now()
	by := surveyor(s)
	if _, err := by.Facts(t.Context(), events.Request{NetworkInterfaceID: s.ENI}, begun); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > slow*time.Duration(by.Calls())/2 {
		t.Errorf("%d calls of %s each took %s", by.Calls(), slow, took)
	}
}

func TestRefusals(t *testing.T) {
	for name, row := range map[string]struct {
		prepare func(*stage.Stage) events.Request
		reason  events.RefusalReason
		says    string
	}{
		"an interface that is gone": {func(*stage.Stage) events.Request { return events.Request{NetworkInterfaceID: "eni-0f0f0f0f"} }, events.SuspectGone, "does not exist any more"},
		"an instance that is gone":  {func(*stage.Stage) events.Request { return events.Request{InstanceID: "i-0f0f0f0f"} }, events.SuspectGone, "does not exist any more"},
		"an interface that has moved": {func(s *stage.Stage) events.Request {
			return events.Request{NetworkInterfaceID: s.ENI, InstanceID: "i-0f0f0f0f"}
		}, events.SuspectGone, "moved from i-0f0f0f0f"},
		"another VPC": {func(s *stage.Stage) events.Request {
			s.Settings.VPCs = []string{"vpc-0d0d0d0d"}
			return events.Request{NetworkInterfaceID: s.ENI}
		}, events.ForeignVPC, "captures only in vpc-0d0d0d0d"},
	} {
		s := stage.New(t, nil)
		request := row.prepare(s)
		_, err := surveyor(s).Facts(t.Context(), request, begun)
		var refusal *events.Refusal
		if !errors.As(err, &refusal) || refusal.Reason != row.reason || !strings.Contains(refusal.Detail, row.says) || refusal.Remedy == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestFindingThatCantBeRead is no reason to capture nothing.
func TestFindingThatCantBeRead(t *testing.T) {
	s := whole(t)
	c := events.NewCaptureID(begun, s.ENI)
	if err := s.Store.Create(t.Context(), events.FindingKey(c), []byte(`{"detail-type": "Weather Report", "detail": {}}`)); err != nil {
		t.Fatal(err)
	}
	f, err := surveyor(s).Facts(t.Context(), events.Request{NetworkInterfaceID: s.ENI, Capture: c}, begun)
	if err != nil || f.Finding.Known || !strings.Contains(f.Finding.Why, "Weather Report") {
		t.Errorf("%+v, %v", f.Finding, err)
	}
}

// TestLoad: CloudWatch's sums become periods of one instance.
func TestLoad(t *testing.T) {
	s := whole(t)
	s.EC2.AddInstance(ec2.InstanceSeed{ID: "i-0c0c0c0c", Type: "m5.large", Interfaces: []ec2.InterfaceSeed{{ID: "eni-0c0c0c0c", Subnet: s.Subnet}}})
	busy(s, "i-0c0c0c0c", 3e9, 6e9)
	f, err := surveyor(s).Facts(t.Context(), events.Request{InstanceID: "i-0c0c0c0c"}, begun)
	if err != nil || !f.Load.Known || len(f.Load.Value.Periods) == 0 {
		t.Fatalf("%+v, %v", f.Load, err)
	}
	for _, p := range f.Load.Value.Periods {
		if p.In != 3e9 || p.Out != 6e9 || p.Seconds != 300 || p.At.IsZero() {
			t.Errorf("%+v", p)
		}
	}
}

func TestDrawVNI(t *testing.T) {
	seen := map[uint32]bool{}
	for range 1000 {
		seen[drawVNI()&(1<<24-1)] = true
	}
	if len(seen) < 990 {
		t.Errorf("1000 draws give %d numbers", len(seen))
	}
}

// busy has CloudWatch say that an instance receives and sends so many bytes every five minutes.
func busy(s *stage.Stage, instance string, in, out float64) {
	for name, value := range map[string]float64{"NetworkIn": in, "NetworkOut": out} {
		s.Metrics.Set(cloudwatch.Series{Namespace: "AWS/EC2", Name: name, Dimensions: map[string]string{"InstanceId": instance}}, value)
	}
}

// TestRightsAloneWhereIAMRefusesToJudgeThemTogether: then the chief right of a role stands for all, as far as the calls go; and a
// role about which IAM does not answer at all leaves the others' answers as they are.
func TestRightsAloneWhereIAMRefusesToJudgeThemTogether(t *testing.T) {
	s := whole(t)
	s.Settings.VolumeKeyARN, s.Settings.BucketKeyARN = "", ""
	s.Inject(func(c region.Call) *region.Fault {
		actions, _ := c.Params["ActionNames"].([]any)
		switch role, _ := c.Params["PolicySourceArn"].(string); {
		case c.Operation != "SimulatePrincipalPolicy":
			return nil
		case strings.HasSuffix(role, "teardown"):
			return &region.Fault{Code: "AccessDenied", Status: 403}
		case len(actions) > 1:
			return &region.Fault{Code: "InvalidInput", Status: 400,
				Message: "Invalid Input Actions: [ec2:RunInstances] and [iam:PassRole] require different authorization information"}
		}
		return nil
	})
	by := surveyor(s)
	f, err := by.Facts(t.Context(), events.Request{NetworkInterfaceID: s.ENI}, begun)
	if err != nil {
		t.Fatal(err)
	}
	actions := map[string]bool{}
	for _, d := range f.Rights.Value {
		actions[d.Action] = true
	}
	if !f.Rights.Known || len(actions) != 2 || !actions["ec2:RunInstances"] || !actions["ec2:CreateTrafficMirrorSession"] || by.Calls() > mostCalls {
		t.Errorf("%v after %d calls: %+v", actions, by.Calls(), f.Rights)
	}
	if v := verdict(plan.Decide(f), "permissions"); v.Result != events.Warn || !strings.Contains(v.Reason, "IAM said nothing of ec2:TerminateInstances") {
		t.Errorf("%+v", v)
	}
}

func verdict(p events.Plan, check string) events.Verdict {
	for _, v := range p.Verdicts {
		if v.Check == check {
			return v
		}
	}
	return events.Verdict{}
}
