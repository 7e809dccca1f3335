package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"

	"flashtap/events"
	"flashtap/testutil/iam"
	"flashtap/testutil/region"
	"flashtap/testutil/region/ec2"
	"flashtap/testutil/region/simulator"
	"flashtap/testutil/stage"
)

const findings = "../../events/testdata/findings"

// TestPlansOfFindings plans each real finding that we have against a local Region which holds what the finding tells of, and
// compares what a person reads with a golden file that was reviewed. Nothing may be touched on the way.
func TestPlansOfFindings(t *testing.T) {
	files, err := filepath.Glob(findings + "/*.json")
	if err != nil || len(files) < 17 {
		t.Fatalf("%d events in %s, want 17 or more: %v", len(files), findings, err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		t.Run(name, func(t *testing.T) {
			event, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			finding, refusal := events.ParseFinding(event)
			var got bytes.Buffer
			if refusal != nil || len(finding.Suspects) == 0 {
				newNeighbourhood(t, finding, "").run(&got, "plan", "--finding", file)
			} else {
				planBothWays(t, &got, finding, file)
			}
			compare(t, filepath.Join("testdata", "plan", name+".golden"), got.Bytes())
		})
	}
}

// compare holds what was shown against a golden file.
func compare(t *testing.T, golden string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("it is not what %s says (go test ./cmd/flashtap -run %s -update rewrites it):\n%s", golden, strings.Split(t.Name(), "/")[0], got)
	}
}

// asked is the finding of a suspect that a person has found.
var asked = events.Finding{Account: "111122223333", Region: "eu-central-1", Suspects: []events.Suspect{{
	InstanceID: "i-0a1b2c3d4e5f60718", Interfaces: []string{"eni-0a1b2c3d4e5f60718", "eni-0a1b2c3d4e5f60719"}, Addresses: []string{"10.1.0.4", "10.1.0.5"}}}}

// TestPreflightCommand shows one screen, and exits by what it says.
func TestPreflightCommand(t *testing.T) {
	var got bytes.Buffer
	n := newNeighbourhood(t, asked, "m5.large")
	if code := n.run(&got, "preflight", "i-0a1b2c3d4e5f60718"); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if code := n.run(&got, "preflight", "eni-0a1b2c3d4e5f60719", "--profile", "headers", "--control", "203.0.113.0/24", "--duration", "1h"); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if code := n.run(&got, "preflight", "eni-0f0f0f0f0f0f0f0f0"); code != exitRefused {
		t.Errorf("of an interface that is gone: exit code %d", code)
	}
	n.stage.EC2.RemoveEndpoint("vpce-00000000")
	if code := n.run(&got, "preflight", "eni-0a1b2c3d4e5f60718"); code != exitRefused {
		t.Errorf("without a way to S3: exit code %d", code)
	}
	if code := n.run(&got, "plan", "eni-0a1b2c3d4e5f60718", "--allow-temporary-endpoint"); code != exitOK {
		t.Errorf("with a way to S3 of its own: exit code %d", code)
	}
	for text, part := range map[string]string{"the first screen": "GO  ", "a screen that refuses": "NO-GO  ", "the remedy": "\n  fix  ", "what the capture mends itself": "\nfixed  ",
		"what that costs": "0.0100  temporary S3 endpoint"} {
		if !bytes.Contains(got.Bytes(), []byte(part)) {
			t.Errorf("%s does not say %q", text, part)
		}
	}
	n = newNeighbourhood(t, asked, "t2.micro")
	if code := n.run(&got, "preflight", "i-0a1b2c3d4e5f60718"); code != exitRefused {
		t.Errorf("of a T2: exit code %d", code)
	}
	compare(t, filepath.Join("testdata", "plan", "preflight.golden"), got.Bytes())

	var answer bytes.Buffer
	code := n.answer(&answer, "preflight", "i-0a1b2c3d4e5f60718", "--output", "json")
	var made events.Plan
	if err := json.Unmarshal(answer.Bytes(), &made); err != nil || code != exitRefused || made.Go || made.Source.InstanceType != "t2.micro" || len(made.Failed()) == 0 {
		t.Errorf("as JSON: exit code %d, %v, %s", code, err, answer.Bytes())
	}
}

// TestPlanBesideAnotherSession: another team mirrors the suspect's inbound TCP already. Each packet is mirrored once, so the plan
// says which packets are lost to them.
func TestPlanBesideAnotherSession(t *testing.T) {
	n := newNeighbourhood(t, asked, "m5.large")
	eni := asked.Suspects[0].Interfaces[0]
	session := n.mirror(eni, ec2.MirrorRule{Number: 1, Direction: events.Ingress, Action: events.Accept, Protocol: 6,
		Source: netip.MustParsePrefix("0.0.0.0/0"), Destination: netip.MustParsePrefix("0.0.0.0/0")})
	var got bytes.Buffer
	if code := n.run(&got, "plan", eni); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if want := "shadows    session " + session + " of account 111122223333 at number 1 takes: ingress TCP"; !bytes.Contains(got.Bytes(), []byte(want)) {
		t.Errorf("does not say %q", want)
	}
	compare(t, filepath.Join("testdata", "plan", "shadowed.golden"), bytes.ReplaceAll(got.Bytes(), []byte(session), []byte("tms-of-others")))
}

// mirror makes another team's session on a source, at number 1 and with one rule, and returns its id.
func (n *neighbourhood) mirror(eni string, rule ec2.MirrorRule) string {
	n.t.Helper()
	world := n.stage.EC2
	world.AddInstance(ec2.InstanceSeed{ID: "i-0b0b0b0b", Type: "c6i.large", Interfaces: []ec2.InterfaceSeed{{ID: "eni-0b0b0b0b", Subnet: "subnet-00000000"}}})
	filter := world.AddMirrorFilter(ec2.MirrorFilter{Rules: []ec2.MirrorRule{rule}})
	target, err := n.stage.EC2API.CreateTrafficMirrorTarget(n.t.Context(), &sdk.CreateTrafficMirrorTargetInput{NetworkInterfaceId: aws.String("eni-0b0b0b0b")})
	if err != nil {
		n.t.Fatal(err)
	}
	made, err := n.stage.EC2API.CreateTrafficMirrorSession(n.t.Context(), &sdk.CreateTrafficMirrorSessionInput{NetworkInterfaceId: &eni, SessionNumber: aws.Int32(1),
		TrafficMirrorFilterId: &filter, TrafficMirrorTargetId: target.TrafficMirrorTarget.TrafficMirrorTargetId})
	if err != nil {
		n.t.Fatal(err)
	}
	return aws.ToString(made.TrafficMirrorSession.TrafficMirrorSessionId)
}

// TestPlanOfSeveralSuspects: of three suspects one runs, one is gone, and one is another account's. What is left is captured.
func TestPlanOfSeveralSuspects(t *testing.T) {
	const finding = `{"schemaVersion": "2.0", "id": "f1", "type": "AttackSequence:EC2/CompromisedInstanceGroup", "severity": 9, "accountId": "111122223333",
		"region": "eu-central-1", "resource": {"resourceType": "AttackSequence"}, "service": {"detection": {"sequence": {"resources": [
		{"uid": "i-0a1b2c3d4e5f60718", "resourceType": "EC2_INSTANCE", "accountId": "111122223333", "region": "eu-central-1"},
		{"uid": "i-0f0f0f0f0f0f0f0f0", "resourceType": "EC2_INSTANCE", "accountId": "111122223333", "region": "eu-central-1"},
		{"uid": "i-0e0e0e0e0e0e0e0e0", "resourceType": "EC2_INSTANCE", "accountId": "444455556666", "region": "eu-central-1"}]}}}}`
	n := newNeighbourhood(t, asked, "m5.large")
	n.stdin = finding
	var got, answer bytes.Buffer
	if code := n.run(&got, "plan", "--finding", "-"); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	compare(t, filepath.Join("testdata", "plan", "several-suspects.golden"), got.Bytes())

	code := n.answer(&answer, "plan", "--finding", "-", "--output", "json")
	var f forecast
	if err := json.Unmarshal(answer.Bytes(), &f); err != nil || code != exitOK || !f.Captures || f.Finding == nil || f.Refusal != nil || len(f.Sources) != 3 {
		t.Fatalf("as JSON: exit code %d, %v, %s", code, err, answer.Bytes())
	}
	for _, s := range f.Sources[:2] {
		if s.Suspect != "i-0a1b2c3d4e5f60718" || s.Plan == nil || !s.Plan.Go || s.Plan.Cost == nil || len(s.Plan.BlindSpots) == 0 || s.Plan.Profile != events.ProfileEverything {
			t.Errorf("%+v", s)
		}
	}
	if s := f.Sources[2]; s.Suspect != "i-0f0f0f0f0f0f0f0f0" || s.Plan != nil || s.Refusal == nil || s.Refusal.Reason != events.SuspectGone || s.Refusal.Remedy == "" {
		t.Errorf("of an instance that is gone: %+v", s)
	}

	n.setenv("FLASHTAP_MAX_INTERFACES", "1")
	answer.Reset()
	if code := n.answer(&answer, "plan", "--finding", "-"); code != exitOK || !strings.Contains(answer.String(), "1 suspect left out: one finding captures 1 at most") {
		t.Errorf("with one place: exit code %d, %s", code, answer.Bytes())
	}

	// A request brings its own options, and flags outdo them.
	n.stdin = `{"networkInterfaceId": "eni-0a1b2c3d4e5f60719", "durationSeconds": 60, "profile": "headers", "reason": "beacons"}`
	answer.Reset()
	code = n.answer(&answer, "plan", "--finding", "-", "--max-bytes", "1GiB", "--output", "json")
	f = forecast{}
	if err := json.Unmarshal(answer.Bytes(), &f); err != nil || code != exitOK || len(f.Sources) != 1 || f.Sources[0].Plan == nil {
		t.Fatalf("of a request: exit code %d, %v, %s", code, err, answer.Bytes())
	}
	if made := f.Sources[0].Plan; made.Profile != events.ProfileHeaders || made.Limits.DurationSeconds != 60 || made.Limits.MaxBytes != 1<<30 || made.Request.Reason != "beacons" {
		t.Errorf("of a request: %+v", made)
	}
}

// planBothWays plans by the deployment's own profile and by that of the finding. Many findings tell of instance types that AWS
// does not mirror: what becomes of those is shown first, and then what would with another type.
func planBothWays(t *testing.T, got *bytes.Buffer, finding events.Finding, file string) {
	if finding.Sample {
		newNeighbourhood(t, finding, "").run(got, "plan", "--finding", file)
	}
	kind := finding.Suspects[0].InstanceType
	n := newNeighbourhood(t, finding, kind)
	n.setenv("FLASHTAP_ALLOW_SAMPLES", "true")
	if n.run(got, "plan", "--finding", file) == exitRefused && kind != "" && !finding.Archived {
		fmt.Fprintf(got, "# the same, if its instance were an m5.xlarge\n")
		n = newNeighbourhood(t, finding, "m5.xlarge")
		n.setenv("FLASHTAP_ALLOW_SAMPLES", "true")
		n.run(got, "plan", "--finding", file)
	}
	n.run(got, "plan", "--finding", file, "--profile", "finding")
}

// neighbourhood is a local Region with the suspects of a finding in it.
type neighbourhood struct {
	t     *testing.T
	stage *stage.Stage
	env   map[string]string
	stdin string
}

// newNeighbourhood seeds what the finding tells of, with instances of type kind.
func newNeighbourhood(t *testing.T, f events.Finding, kind string) *neighbourhood {
	s := stage.New(t, func(c *region.Config) {
		if f.Account != "" {
			c.Account = f.Account
		}
		if f.Region != "" {
			c.Name = f.Region
		}
	})
	key, secret := s.S3.Credentials()
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": s.Endpoint(), "AWS_REGION": s.Settings.Region, "AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret,
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/nonexistent", "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
	} {
		t.Setenv(name, value)
	}
	settings := s.Settings
	settings.Roles = map[string]string{}
	for _, step := range []string{"launch", "mirror", "teardown"} {
		role := "arn:aws:iam::" + settings.Account + ":role/flashtap-test-" + step
		settings.Roles[step] = role
		s.IAM.AddRole(simulator.Role{ARN: role, Policies: []*iam.Policy{
			iam.MustParse(step, `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}`)}})
	}
	n := &neighbourhood{t: t, stage: s, env: settings.Environ()}
	if kind == "" {
		kind = "m5.xlarge"
	}
	for i, suspect := range f.Suspects {
		n.inhabit(i, suspect, kind)
	}
	return n
}

func (n *neighbourhood) setenv(name, value string) { n.env[name] = value }

// inhabit makes one suspect's instance as its finding describes it, in a VPC of its own.
func (n *neighbourhood) inhabit(i int, s events.Suspect, kind string) {
	var four, six []string
	for _, text := range append(slices.Clone(s.Addresses), s.LocalAddresses...) {
		a, err := netip.ParseAddr(text)
		switch {
		case err != nil || slices.Contains(four, text) || slices.Contains(six, text):
		case a.Is4() && a.IsPrivate():
			four = append(four, text)
		case a.Is6():
			six = append(six, text)
		}
	}
	if len(four) == 0 {
		four = []string{fmt.Sprintf("10.0.%d.10", i)}
	}
	interfaces := slices.Clone(s.Interfaces)
	if s.NetworkInterfaceID != "" && !slices.Contains(interfaces, s.NetworkInterfaceID) {
		interfaces = append([]string{s.NetworkInterfaceID}, interfaces...)
	}
	if len(interfaces) == 0 {
		interfaces = []string{"eni-" + strings.TrimPrefix(s.InstanceID, "i-")}
	}
	world := n.stage.EC2
	vpc, subnet, tail := fmt.Sprintf("vpc-0000000%d", i), fmt.Sprintf("subnet-0000000%d", i), netip.MustParseAddr(four[0])
	if s.VPC != "" {
		vpc = s.VPC
	}
	home := ec2.VPC{ID: vpc, CIDR: netip.PrefixFrom(tail, 16).Masked().String()}
	room := ec2.Subnet{ID: subnet, VPC: vpc, CIDR: netip.PrefixFrom(tail, 20).Masked().String()}
	if len(six) > 0 {
		home.IPv6CIDR = netip.PrefixFrom(netip.MustParseAddr(six[0]), 56).Masked().String()
		room.IPv6CIDR = netip.PrefixFrom(netip.MustParseAddr(six[0]), 64).Masked().String()
	}
	world.AddVPC(home)
	world.AddSubnet(room)
	world.AddEndpoint(ec2.Endpoint{ID: fmt.Sprintf("vpce-0000000%d", i), VPC: vpc, Service: "s3", RouteTables: []string{world.MainRouteTable(vpc)}})
	seed := ec2.InstanceSeed{ID: s.InstanceID, Type: kind}
	for at, id := range interfaces {
		ni := ec2.InterfaceSeed{ID: id, Subnet: subnet}
		if at < len(four) {
			ni.Address = four[at]
		}
		if at == 0 {
			ni.IPv6 = six
			if len(four) > len(interfaces) {
				ni.Secondary = four[len(interfaces):]
			}
		}
		seed.Interfaces = append(seed.Interfaces, ni)
	}
	world.AddInstance(seed)
}

// run runs a command and writes what a person would see, the command and its exit code included.
func (n *neighbourhood) run(w io.Writer, args ...string) int {
	n.t.Helper()
	shown := slices.Clone(args)
	for i := range shown {
		if filepath.Ext(shown[i]) == ".json" {
			shown[i] = filepath.Base(shown[i])
		}
	}
	fmt.Fprintf(w, "$ flashtap %s\n", strings.Join(shown, " "))
	code := n.answer(w, args...)
	fmt.Fprintf(w, "exit code %d\n\n", code)
	return code
}

// mostCalls is how often AWS is asked about one interface at most.
const mostCalls = 25

// answer runs a command. It fails the test when the command touches something, or asks too much about one interface.
func (n *neighbourhood) answer(w io.Writer, args ...string) int {
	n.t.Helper()
	before := len(n.stage.Calls())
	tool := &tool{in: strings.NewReader(n.stdin), out: w, err: w, getenv: func(name string) string { return n.env[name] }}
	code := tool.run(n.t.Context(), args)
	calls := n.stage.Calls()[before:]
	for _, call := range calls {
		if !reads(call.Operation) {
			n.t.Errorf("flashtap %s touches something: %s", args[0], call.Operation)
		}
	}
	if args[0] == "preflight" && len(calls) > mostCalls {
		n.t.Errorf("flashtap preflight makes %d calls, want %d at most", len(calls), mostCalls)
	}
	return code
}

// reads says whether a call of AWS only reads, by the words with which AWS names those that do.
func reads(operation string) bool {
	return slices.ContainsFunc([]string{"Describe", "Get", "List", "Head", "Simulate"}, func(word string) bool { return strings.HasPrefix(operation, word) })
}
