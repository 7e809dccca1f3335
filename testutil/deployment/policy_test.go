package deployment_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"flashtap/events"
	"flashtap/infra/policy"
	"flashtap/testutil/deployment"
	"flashtap/testutil/iam"
	"flashtap/testutil/iam/requests"
	"flashtap/testutil/packets"
	"flashtap/testutil/region"
	"flashtap/testutil/region/asl"
	"flashtap/testutil/region/ec2"
)

// TestPolicies has one deployment do everything that it can do, and then holds the IAM policies that are deployed against
// every call that was made: each must be allowed. After that it changes the calls, one aspect at a time, into ones that
// must not be: each must be denied.
func TestPolicies(t *testing.T) {
	t.Parallel()
	s := everyWay(t)
	w := newAccount(t, s)
	w.read(t, s.Region.Calls())
	w.read(t, s.Region.Errands())
	w.byHand(t)
	t.Run("every call is allowed", w.allAllowed)
	t.Run("nothing is allowed that no call needs", w.nothingUnused)
	t.Run("forbidden calls are denied", w.allForbidden)
	t.Run("every condition denies something", w.everyConditionCounts)
	t.Run("resource policies hold against administrators", w.againstAdministrators)
	t.Run("queues take messages of our rules alone", w.rulesAlone)
	t.Run("roles are assumed by their services alone", w.trust)
	t.Run("another simulator decides the same", w.askAnother)
}

// everyWay is a scene after a capture from a finding, with a second finding and an operator's request that join it and an
// operator who stops it; one that waited for a place, and whose execution was stopped; one that was refused; one of a silent
// source, with an endpoint of its own and a group that lost its rule; and one whose collector did not come up. All the
// time the sweep looks often, and the first answer to each sort of Create is lost, so that everything is found again.
func everyWay(t *testing.T) *deployment.Scene {
	t.Helper()
	s := set(t, deployment.SceneConfig{
		Frames: packets.MustLoad("zeek-get.pcap"), Loop: true, PPS: 200, ScheduleSpeed: 60,
		Change: func(set *events.Settings) {
			set.MaxCaptures, set.DurationSeconds, set.ProofSeconds, set.AllowTemporaryEndpoint = 1, 60, 4, true
		},
	})
	waits := s.AddSuspect("i-0bbbbbbbbbbbbbbbb", "eni-0bbbbbbbbbbbbbbbb")
	refused := s.AddSuspect("i-0cccccccccccccccc", "eni-0cccccccccccccccc")
	s.Region.EC2.ChangeType("i-0cccccccccccccccc", "t2.micro") // AWS does not mirror it
	loseAnswers(s)

	first := publish(t, s)
	c := flowing(t, s, first)
	if _, err := s.Deployment.Publish(bytes.Replace(s.Event, []byte(`"count": 2`), []byte(`"count": 3`), 1)); err != nil {
		t.Fatal(err)
	}
	request(t, s, waits, `"legalHold": true`)
	for _, args := range [][]string{{"preflight", s.ENI}, {"capture", s.ENI, "--reason", "a test"}, {"status", string(c)}, {"stop", string(c)}, {"list"}} {
		if out, code := flashtap(t, s, args...); code != 0 {
			t.Fatalf("exit %d: %s", code, out)
		}
	}
	succeed(t, first)
	finish(t, execution(t, s, 2)) // the operator's, which joined
	third := execution(t, s, 3)
	eventually(t, time.Minute, "the capture that waited has a session", func() bool { return len(s.Region.EC2.MirrorSessions()) > 0 && contains(third.Trace(), "Watch") })
	endBySchedules(t, s)
	eventually(t, 20*time.Second, "watch asks the collector to stop", func() bool {
		return slices.ContainsFunc(s.Region.Calls(), func(c region.Call) bool { return c.Operation == "CreateTags" && c.Principal != operator })
	})
	leaveBehind(s, events.CaptureID(third.Name()))
	third.Stop("Operator", "wrong button")
	finish(t, third)
	sweepUntilClean(t, s)

	request(t, s, refused)
	if result := finish(t, execution(t, s, 4)); result.Status != asl.Failed {
		t.Errorf("the capture of what AWS does not mirror %s", result.Status)
	}
	nothingLeft(t, s)
	silentWay(t, s, s.AddSuspect("i-0abababababababab", "eni-0abababababababab"))
	deadWay(t, s, s.AddSuspect("i-0acacacacacacacac", "eni-0acacacacacacacac"))
	return s
}

// silentWay is a capture of an interface that sends nothing, beside no way to S3, whose collector's group loses its rule.
func silentWay(t *testing.T, s *deployment.Scene, eni string) {
	t.Helper()
	for _, id := range endpoints(s) {
		s.Region.EC2.RemoveEndpoint(id)
	}
	request(t, s, eni)
	x := execution(t, s, 5)
	eventually(t, time.Minute, "the session is there", func() bool { return len(s.Region.EC2.MirrorSessions()) > 0 })
	s.Region.EC2.RemoveGroupRules(groupOf(s), false)
	eventually(t, time.Minute, "the silence is explained", func() bool { return contains(x.Trace(), "AwaitEnd") })
	if out, code := flashtap(t, s, "stop", x.Name()); code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	succeed(t, x)
	nothingLeft(t, s)
}

// deadWay is a capture whose collector finds a program that is not the pinned one.
func deadWay(t *testing.T, s *deployment.Scene, eni string) {
	t.Helper()
	for _, key := range s.Settings.BinaryKeys {
		if err := os.WriteFile(s.Path(key), []byte("not the program"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	request(t, s, eni, `"legalHold": true`)
	if result := finish(t, execution(t, s, 6)); result.Error != "CollectorDied" {
		t.Errorf("the capture without its program %s: %s: %s", result.Status, result.Error, result.Cause)
	}
	nothingLeft(t, s)
}

// loseAnswers lets the first call of each sort that makes something take effect, and its answer get lost.
func loseAnswers(s *deployment.Scene) {
	var mu sync.Mutex
	lost := map[string]bool{}
	s.Region.Inject(func(c region.Call) *region.Fault {
		mu.Lock()
		defer mu.Unlock()
		creates := strings.HasPrefix(c.Operation, "Create") || c.Operation == "StartExecution" || c.Operation == "RunInstances" || c.Operation == "PutObject"
		if sort := c.Principal + c.Operation; creates && c.Principal != operator && !lost[sort] {
			lost[sort] = true
			return &region.Fault{Drop: true, After: true}
		}
		return nil
	})
}

// leaveBehind puts an instance and an interface of a capture into the account, as if they had been left there.
func leaveBehind(s *deployment.Scene, c events.CaptureID) {
	suspect, _ := s.Region.EC2.Interface(s.ENI)
	tags := events.ResourceTags(s.Settings.Deployment, c, time.Now(), 1)
	s.Region.EC2.AddInterface(ec2.InterfaceSeed{Subnet: suspect.SubnetID, Description: "Flashtap collector of " + string(c), Tags: maps.Clone(tags)})
	tags["aws:ec2launchtemplate:id"] = s.Settings.LaunchTemplateID
	profile := s.Settings.InstanceProfileARN
	s.Region.EC2.AddInstance(ec2.InstanceSeed{Type: "c7g.large", Tags: tags, Profile: profile[strings.LastIndexByte(profile, '/')+1:],
		Interfaces: []ec2.InterfaceSeed{{Subnet: suspect.SubnetID}}})
}

// request asks for a capture by an event.
func request(t *testing.T, s *deployment.Scene, eni string, more ...string) {
	t.Helper()
	detail := strings.Join(append([]string{fmt.Sprintf(`"networkInterfaceId": %q, "severity": 5`, eni)}, more...), ", ")
	event := `{"detail-type": "Capture Request", "source": "flashtap", "detail": {` + detail + `}}`
	if matched, err := s.Deployment.Publish([]byte(event)); err != nil || len(matched) == 0 {
		t.Fatalf("publish: matched %v, %v", matched, err)
	}
}

// execution waits for the n-th execution.
func execution(t *testing.T, s *deployment.Scene, n int) *asl.Execution {
	t.Helper()
	eventually(t, time.Minute, fmt.Sprintf("execution %d starts", n), func() bool { return len(s.Region.Executions()) >= n })
	return s.Region.Execution(s.Region.Executions()[n-1])
}

func succeed(t *testing.T, x *asl.Execution) {
	t.Helper()
	if result := finish(t, x); result.Status != asl.Succeeded {
		t.Fatalf("the execution %s: %s: %s", result.Status, result.Error, result.Cause)
	}
}

// endBySchedules has Scheduler do before their time what the schedules of a capture are for: delete the session without
// any code of ours, and call teardown. (The capture that teardown is called for has nothing.)
func endBySchedules(t *testing.T, s *deployment.Scene) {
	t.Helper()
	session := s.Region.EC2.MirrorSessions()[0].ID
	for name, target := range map[string][2]string{
		"session": {"arn:aws:scheduler:::aws-sdk:ec2:deleteTrafficMirrorSession", `{"TrafficMirrorSessionId": "` + session + `"}`},
		"guard":   {s.Settings.TeardownARN, `{"capture": "20200101T000000Z-eni-0aaaaaaaaaaaaaaaa", "by": "guard"}`},
	} {
		if _, err := s.Region.Schedules.Handle("CreateSchedule", map[string]any{
			"Name": name, "ScheduleExpression": "at(2020-01-01T00:00:00)", "FlexibleTimeWindow": map[string]any{"Mode": "OFF"}, "ActionAfterCompletion": "DELETE",
			"Target": map[string]any{"Arn": target[0], "RoleArn": s.Settings.ScheduleRoleARN, "Input": target[1]},
		}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, 20*time.Second, "the session is deleted", func() bool { return len(s.Region.EC2.MirrorSessions()) == 0 })
}

// account is what the policies are held against: the account of the scene, with names for what the local region lacks.
type account struct {
	scope    policy.Scope
	account  requests.Account
	roleID   string // of the collector
	policies map[string]*iam.Policy
	made     []made
	moot     []string // calls about what was not there any more
}

// made is a call, what AWS asks about it, and who makes it.
type made struct {
	role     string // a name of policy.Roles, or operator; "" for a service that asks for itself
	what     string // service.Operation
	requests []iam.Request
}

// The things that a local deployment lacks, with what the stacks would give it.
const (
	optOutTag     = "flashtap:opt-out"
	assetKey      = "0a1b2c3d4e5f.zip"
	operator      = "operator" // the principal of the operator's tool
	otherInstance = "i-0dddddddddddddddd"
)

func newAccount(t *testing.T, s *deployment.Scene) *account {
	t.Helper()
	set := s.Settings
	arn := func(service, rest string) string {
		return "arn:aws:" + service + ":" + set.Region + ":" + set.Account + ":" + rest
	}
	suspect, ok := s.Region.EC2.Interface(s.ENI)
	if !ok {
		t.Fatal("the suspect is gone")
	}
	w := &account{roleID: set.CollectorRoleID, policies: map[string]*iam.Policy{}}
	w.scope = policy.Scope{
		Partition: "aws", Region: set.Region, Account: set.Account, Deployment: set.Deployment, Prefix: "flashtap-" + set.Deployment,
		BucketARN: "arn:aws:s3:::" + set.Bucket, BucketKeyARN: arn("kms", "key/11111111-2222-3333-4444-555555555555"), SigningKeyARN: set.SigningKeyARN,
		LaunchTemplateID: set.LaunchTemplateID, InstanceProfileARN: set.InstanceProfileARN, SchedulerRoleARN: set.ScheduleRoleARN,
		CollectorRoleARN: strings.Replace(set.InstanceProfileARN, ":instance-profile/", ":role/", 1),
		AssetBucketARN:   "arn:aws:s3:::cdk-assets", AssetKeys: []string{assetKey},
		VPCs: []string{arn("ec2", "vpc/"+suspect.VPCID)}, OptOutTag: optOutTag, AutomationRole: true, TemporaryEndpoint: true,
		StepRoleARNs: slices.Sorted(maps.Values(set.Roles)),
	}
	w.account = requests.Account{
		Partition: "aws", ID: set.Account, Region: set.Region,
		BucketKeys:   map[string]string{set.Bucket: w.scope.BucketKeyARN},
		ProfileRoles: map[string]string{set.InstanceProfileARN: w.scope.CollectorRoleARN},
	}
	for _, role := range policy.Roles() {
		w.policies[role.Name] = parse(t, role.Name, role.Policy(w.scope))
	}
	w.policies[operator] = parse(t, operator, policy.Operator(w.scope))
	for resource, document := range w.resourceDocuments() {
		w.policies[resource] = parse(t, resource, document)
	}
	return w
}

func parse(t *testing.T, name string, document any) *iam.Policy {
	t.Helper()
	p, err := iam.Parse(name, document)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// resourceDocuments are the resource policies by the ARN of what they hang on.
func (w *account) resourceDocuments() map[string]policy.Document {
	list := map[string]policy.Document{
		w.scope.BucketARN: policy.EvidenceBucket(w.scope), w.scope.BucketKeyARN: policy.EvidenceKey(w.scope), w.scope.SigningKeyARN: policy.SigningKey(w.scope),
		w.scope.TopicARN(): policy.Topic(w.scope), w.scope.BusARN(): policy.Bus(w.scope), otherKey(w.scope): openKey(w.scope),
	}
	for _, queue := range policy.Queues() {
		list[w.scope.QueueARN(queue)] = policy.Queue(w.scope, queue)
	}
	return list
}

// otherKey is a KMS key of the account that is not ours, and openKey its policy, which leaves all to the identities.
func otherKey(s policy.Scope) string {
	return strings.Replace(s.BucketKeyARN, "key/11111111", "key/99999999", 1)
}

func openKey(s policy.Scope) policy.Document {
	return policy.New(policy.Statement{Effect: policy.Allow, Principal: map[string][]string{"AWS": {"arn:aws:iam::" + s.Account + ":root"}},
		Action: []string{"kms:*"}, Resource: []string{"*"}})
}

// guards is the ARN of the thing whose resource policy has a say in a request.
func (w *account) guards(resource string) string {
	if bucket, _, _ := strings.Cut(resource, "/"); bucket == w.scope.BucketARN {
		return bucket
	}
	return resource
}

// decide asks about one request of a role.
func (w *account) decide(t *testing.T, role string, r iam.Request) iam.Result {
	t.Helper()
	p := iam.Policies{Resource: w.policies[w.guards(r.Resource)], KeyPolicy: strings.HasPrefix(r.Action, "kms:")}
	if role != "" {
		p.Identity = []*iam.Policy{w.policies[role]}
	}
	result, err := iam.Evaluate(r, p)
	if err != nil {
		t.Fatalf("%s asks for %s on %s: %v", role, r.Action, r.Resource, err)
	}
	return result
}

// caller is a role as AWS knows it. All roles but the collector's and those that seal have names that CloudFormation makes.
func (w *account) caller(role, instance string) requests.Caller {
	name, session, id := w.scope.Prefix+"-control-"+role, role, "AROA"+strings.ToUpper(role)
	if slices.Contains(policy.Sealers, role) {
		name = w.scope.SealerName(role)
	}
	arn := "arn:aws:iam::" + w.scope.Account + ":role/" + name
	switch role {
	case "collector":
		arn, session, id = w.scope.CollectorRoleARN, instance, w.roleID
		name = arn[strings.LastIndexByte(arn, '/')+1:]
	case "scheduler":
		arn = w.scope.SchedulerRoleARN
		name = arn[strings.LastIndexByte(arn, '/')+1:]
	}
	return requests.Caller{
		Principal: iam.Principal{ARN: arn, Session: "arn:aws:sts::" + w.scope.Account + ":assumed-role/" + name + "/" + session, Account: w.scope.Account},
		UserID:    id + ":" + session,
	}
}

// roleOf finds the role of a principal as the local region names it: a program by its function or instance, a service by
// the ARN of what it acts for.
func (w *account) roleOf(c region.Call) (string, bool) {
	switch {
	case c.Instance != "":
		return "collector", true
	case c.Principal == w.scope.SchedulerRoleARN:
		return "scheduler", true
	case strings.Contains(c.Principal, ":stateMachine:"):
		return "capture", true
	case c.Principal == "events.amazonaws.com":
		return "", true
	case c.Principal == operator:
		return operator, true
	}
	for _, role := range policy.Roles() {
		if c.Principal == role.Name || strings.HasSuffix(c.Principal, "-"+role.Name) {
			return role.Name, true
		}
	}
	return "", false
}

// read turns recorded calls into what AWS asks about them.
func (w *account) read(t *testing.T, calls []region.Call) {
	t.Helper()
	for _, c := range calls {
		role, ok := w.roleOf(c)
		if !ok {
			t.Errorf("%s called %s.%s, and nobody knows who that is", c.Principal, c.Service, c.Operation)
			continue
		}
		by := w.caller(role, c.Instance)
		if role == "" {
			by = requests.Caller{Principal: iam.Principal{Service: c.Principal}}
		}
		list, err := w.account.Of(c, by)
		var unknown requests.UnknownResource
		if errors.As(err, &unknown) && c.Code != "" {
			w.moot = append(w.moot, c.Principal+" "+err.Error())
			continue
		}
		if err != nil {
			t.Errorf("%s called %s.%s: %v", c.Principal, c.Service, c.Operation, err)
			continue
		}
		w.made = append(w.made, made{role, c.Service + "." + c.Operation, list})
	}
}

// allAllowed demands that every request of every call is allowed, and that every role was at work.
func (w *account) allAllowed(t *testing.T) {
	calls, asked, said := map[string]int{}, map[string]int{}, map[string]bool{}
	for _, m := range w.made {
		if m.role == "" && strings.HasPrefix(m.what, "lambda.") {
			continue // what a rule may invoke, the function's own policy says, which is the stack's
		}
		calls[m.role]++
		for _, r := range m.requests {
			asked[m.role]++
			result := w.decide(t, m.role, r)
			if word := m.role + " " + m.what + " " + r.Action + " " + class(r.Resource); result.Decision != iam.Allowed && !said[word] {
				said[word] = true
				t.Errorf("%s calls %s: %s on %s is %s\n%v", m.role, m.what, r.Action, r.Resource, result, r.Context)
			}
		}
	}
	for _, role := range policy.Roles() {
		if calls[role.Name] == 0 {
			t.Errorf("%s made no call, so nothing is proven of it", role.Name)
		}
	}
	for _, role := range slices.Sorted(maps.Keys(calls)) {
		t.Logf("%-10s %5d calls, %5d requests", role, calls[role], asked[role])
	}
	t.Logf("calls about what was gone already, whose answer AWS chooses: %q", w.moot)
}

// nothingUnused demands of each action of a role that some call needed it.
func (w *account) nothingUnused(t *testing.T) {
	used := map[string]bool{}
	for _, m := range w.made {
		for _, r := range m.requests {
			used[m.role+" "+r.Action] = true
			if slices.Contains(removers, m.role) {
				for _, role := range removers {
					used[role+" "+r.Action] = true
				}
			}
		}
	}
	for _, role := range policy.Roles() {
		for _, s := range role.Policy(w.scope).Statement {
			for _, action := range s.Action {
				if !used[role.Name+" "+action] {
					t.Errorf("%s may %s (%s), and no call needed it", role.Name, action, s.Sid)
				}
			}
		}
	}
}

// trust demands of each role that its service may assume it, for this account and thing, and no other service.
func (w *account) trust(t *testing.T) {
	for _, role := range policy.Roles() {
		p := parse(t, role.Name+"'s trust", role.Trust(w.scope))
		assume := func(service, account, source string) iam.Decision {
			c := iam.Context{}
			if source != "" {
				c["aws:SourceAccount"], c["aws:SourceArn"] = []string{account}, []string{source}
			}
			result, err := iam.Evaluate(iam.Request{Principal: iam.Principal{Service: service}, Action: "sts:AssumeRole",
				Resource: w.caller(role.Name, "").ARN, Context: c}, iam.Policies{Resource: p, KeyPolicy: true})
			if err != nil {
				t.Fatal(err)
			}
			return result.Decision
		}
		source := map[string]string{
			"capture": w.scope.StateMachineARN(), "scheduler": w.scope.ScheduleGroupARN(),
			"automation": "arn:aws:ssm:" + w.scope.Region + ":" + w.scope.Account + ":automation-execution/1",
		}[role.Name]
		if got := assume(role.Service, w.scope.Account, source); got != iam.Allowed {
			t.Errorf("%s: %s to %s", role.Name, got, role.Service)
		}
		if got := assume("glue.amazonaws.com", w.scope.Account, source); got == iam.Allowed {
			t.Errorf("%s: another service may assume it", role.Name)
		}
		if source == "" {
			continue
		}
		const other = "999999999999"
		if got := assume(role.Service, other, strings.ReplaceAll(source, w.scope.Account, other)); got == iam.Allowed {
			t.Errorf("%s: %s may assume it for another account", role.Name, role.Service)
		}
		if got := assume(role.Service, w.scope.Account, strings.ReplaceAll(source, "flashtap", "other")+"x"); got == iam.Allowed && role.Name != "automation" {
			t.Errorf("%s: %s may assume it for another thing", role.Name, role.Service)
		}
	}
}
