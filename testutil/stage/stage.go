// Package stage gives the test of a single step a local region with what a deployment has beside its functions: a
// bucket, queues, a schedule group, a launch template, a suspect and a place for a collector.
package stage

import (
	"context"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"

	"flashtap/events"
	"flashtap/functions/evidence"
	"flashtap/testutil/region"
	"flashtap/testutil/region/ec2"
	"flashtap/testutil/region/queue"
)

// Stage is a local region for one test.
type Stage struct {
	*region.Region
	Settings  events.Settings
	Config    aws.Config // of clients that talk to the region
	EC2API    *sdk.Client
	Scheduler *scheduler.Client
	Store     evidence.Store

	VPC, Subnet string
	Instance    string // the suspect, an m5.large
	ENI         string // its interface
	Address     string // of the interface
}

// The queues of a stage.
const (
	IntakeQueue  = "flashtap-intake.fifo"
	WaitingQueue = "flashtap-waiting"
)

// New sets a stage, and clears it when the test ends. Instances run and do nothing. Every request that leaves AWS's
// service models fails the test.
func New(t testing.TB, change func(*region.Config)) *Stage {
	t.Helper()
	cfg := region.Config{Account: "111122223333", Name: "eu-central-1", Dir: t.TempDir()}
	if change != nil {
		change(&cfg)
	}
	r, err := region.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, v := range r.Violations() {
			t.Errorf("outside of AWS's models: %v", v)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	s := &Stage{Region: r, Instance: "i-0a0a0a0a0a0a0a0a0", ENI: "eni-0a0a0a0a0a0a0a0a0", Address: "10.0.1.10"}
	s.clients(cfg.Name)
	if err := s.deploy(cfg); err != nil {
		t.Fatal(err)
	}
	s.VPC = r.EC2.AddVPC(ec2.VPC{CIDR: "10.0.0.0/16", IPv6CIDR: "2001:db8::/56"})
	s.Subnet = r.EC2.AddSubnet(ec2.Subnet{VPC: s.VPC, CIDR: "10.0.1.0/24"})
	r.EC2.AddEndpoint(ec2.Endpoint{VPC: s.VPC, Service: "s3", RouteTables: []string{r.EC2.MainRouteTable(s.VPC)}})
	r.EC2.AddInstance(ec2.InstanceSeed{ID: s.Instance, Type: "m5.large", Interfaces: []ec2.InterfaceSeed{{ID: s.ENI, Subnet: s.Subnet, Address: s.Address}}})
	return s
}

func (s *Stage) clients(name string) {
	key, secret := s.S3.Credentials()
	s.Config = aws.Config{
		Region: name, BaseEndpoint: aws.String(s.Endpoint()), Credentials: credentials.NewStaticCredentialsProvider(key, secret, ""),
		HTTPClient: region.HTTPClient(),
		Retryer:    func() aws.Retryer { return aws.NopRetryer{} }, // a test says itself how often it asks
	}
	s.EC2API, s.Scheduler = sdk.NewFromConfig(s.Config), scheduler.NewFromConfig(s.Config)
	s.Store = evidence.Store{API: s3.NewFromConfig(s.Config, func(o *s3.Options) { o.UsePathStyle = true }), Bucket: "evidence"}
}

func (s *Stage) deploy(cfg region.Config) error {
	arn := func(service, rest string) string {
		return "arn:aws:" + service + ":" + cfg.Name + ":" + cfg.Account + ":" + rest
	}
	const profile, group = "flashtap-collector", "flashtap-test"
	settings := events.DefaultSettings()
	settings.Deployment, settings.Account, settings.Region, settings.Bucket = "test", cfg.Account, cfg.Name, s.Store.Bucket
	settings.InstanceProfileARN, settings.CollectorRoleID = "arn:aws:iam::"+cfg.Account+":instance-profile/"+profile, "AROATESTCOLLECTOR"
	settings.ScheduleGroup, settings.ScheduleRoleARN = group, "arn:aws:iam::"+cfg.Account+":role/scheduler"
	settings.TeardownARN, settings.EventBus = arn("lambda", "function:teardown"), "default"
	settings.Images = map[string]string{
		events.ARM64:  s.EC2.AddImage(ec2.Image{Name: "al2023-arm64", Architecture: events.ARM64}),
		events.X86_64: s.EC2.AddImage(ec2.Image{Name: "al2023-x86_64", Architecture: events.X86_64}),
	}
	const digest = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	settings.BinaryKeys = map[string]string{events.ARM64: "tools/arm64", events.X86_64: "tools/x86_64"}
	settings.BinaryDigests = map[string]string{events.ARM64: digest, events.X86_64: digest}
	s.EC2.AddInstanceProfile(ec2.Profile{Name: profile, RoleName: profile, RoleID: settings.CollectorRoleID})
	settings.LaunchTemplateID = s.EC2.AddLaunchTemplate(ec2.LaunchTemplate{Name: "collector", Data: map[string]any{
		"IamInstanceProfile": map[string]any{"Arn": settings.InstanceProfileARN},
	}})
	for _, q := range []queue.Queue{{Name: IntakeQueue, ContentBasedDeduplication: true}, {Name: WaitingQueue, VisibilityTimeout: time.Minute}} {
		if _, err := s.Queues.Create(q); err != nil {
			return err
		}
	}
	settings.IntakeQueueURL, settings.WaitingQueueURL = s.QueueURL(IntakeQueue), s.QueueURL(WaitingQueue)
	if _, err := s.Schedules.Handle("CreateScheduleGroup", map[string]any{"Name": group}); err != nil {
		return err
	}
	// An execution that goes on until it is stopped is all that a step sees of the state machine.
	var err error
	settings.StateMachineARN, err = s.CreateStateMachine("capture", []byte(`{"StartAt": "Go on", "States": {"Go on": {"Type": "Wait", "Seconds": 86400, "End": true}}}`), nil)
	if err != nil {
		return err
	}
	s.Settings = settings
	return s.S3.CreateBucket(context.Background(), settings.Bucket)
}

// Operations are the names of the calls so far, in order.
func (s *Stage) Operations() []string {
	var names []string
	for _, c := range s.Calls() {
		names = append(names, c.Operation)
	}
	return names
}

// Capture is the id of the capture that Plan plans.
func (s *Stage) Capture() events.CaptureID {
	return events.NewCaptureID(time.Now().Add(-time.Minute), s.ENI)
}

// Plan puts a plan of capture c into the bucket, as preflight would have decided it, after change has had its say.
func (s *Stage) Plan(t testing.TB, c events.CaptureID, change func(*events.Plan)) events.Plan {
	t.Helper()
	now := time.Now().UTC().Truncate(time.Second)
	filter := events.EverythingFilter()
	p := events.Plan{
		Version: events.RecordVersion, Capture: c, Deployment: s.Settings.Deployment, Account: s.Settings.Account, Region: s.Settings.Region,
		Tool: "test", CreatedAt: now, Start: now, Deadline: now.Add(20 * time.Minute), Go: true,
		Request: events.Request{Capture: c, NetworkInterfaceID: s.ENI},
		Source: events.Source{NetworkInterfaceID: s.ENI, InterfaceType: "interface", InstanceID: s.Instance, InstanceType: "m5.large",
			VPC: s.VPC, Subnet: s.Subnet, PrimaryIPv4: s.Address},
		Mirror: events.MirrorPlan{VNI: 0xabcdef, SessionNumber: 1, Filter: filter},
		Collector: events.PlacedAt{
			VPC: s.VPC, Subnet: s.Subnet, SecurityGroupName: events.SecurityGroupName(s.Settings.Deployment, c), S3PrefixList: s.prefixList(t),
			LaunchTemplateID: s.Settings.LaunchTemplateID, LaunchTemplateVersion: "$Latest", InstanceProfileARN: s.Settings.InstanceProfileARN,
			RoleID: s.Settings.CollectorRoleID, Bucket: s.Settings.Bucket,
		},
		Limits: events.CaptureLimits{
			DurationSeconds: 900, MaxBytes: 1 << 30, DrainSeconds: 120, SegmentBytes: 128 << 20, SegmentSeconds: 60, CheckpointSeconds: 15,
			PollSeconds: 5, SpoolBytes: 1 << 30,
		},
	}
	for _, kind := range []string{"c7g.large", "c7i.large"} {
		arch := events.Architecture(kind)
		p.Collector.Candidates = append(p.Collector.Candidates, events.Candidate{InstanceType: kind, Image: s.Settings.Images[arch],
			BinaryKey: s.Settings.BinaryKeys[arch], BinarySHA256: s.Settings.BinaryDigests[arch]})
	}
	if change != nil {
		change(&p)
	}
	if err := s.Store.CreateJSON(t.Context(), events.PlanKey(c), p); err != nil {
		t.Fatal(err)
	}
	return p
}

func (s *Stage) prefixList(t testing.TB) string {
	t.Helper()
	out, err := s.EC2API.DescribeManagedPrefixLists(t.Context(), &sdk.DescribeManagedPrefixListsInput{Filters: []types.Filter{
		{Name: aws.String("prefix-list-name"), Values: []string{"com.amazonaws." + s.Settings.Region + ".s3"}}}})
	if err != nil || len(out.PrefixLists) != 1 {
		t.Fatalf("S3's prefix list: %v, %v", out, err)
	}
	return aws.ToString(out.PrefixLists[0].PrefixListId)
}

// Collector runs an instance with the marks of the plan's collector and returns it when it runs.
func (s *Stage) Collector(t testing.TB, p events.Plan) types.Instance {
	t.Helper()
	var tags []types.Tag
	for key, value := range events.ResourceTags(p.Deployment, p.Capture, p.Deadline, 1) {
		tags = append(tags, types.Tag{Key: aws.String(key), Value: aws.String(value)})
	}
	c := p.Collector.Candidates[0]
	out, err := s.EC2API.RunInstances(t.Context(), &sdk.RunInstancesInput{
		MinCount: aws.Int32(1), MaxCount: aws.Int32(1), ImageId: &c.Image, InstanceType: types.InstanceType(c.InstanceType), SubnetId: &p.Collector.Subnet,
		LaunchTemplate:    &types.LaunchTemplateSpecification{LaunchTemplateId: &p.Collector.LaunchTemplateID},
		TagSpecifications: []types.TagSpecification{{ResourceType: types.ResourceTypeInstance, Tags: tags}},
	})
	if err != nil {
		t.Fatal(err)
	}
	in := out.Instances[0]
	for range 500 {
		seen, err := s.EC2API.DescribeInstances(t.Context(), &sdk.DescribeInstancesInput{InstanceIds: []string{aws.ToString(in.InstanceId)}})
		if err == nil && seen.Reservations[0].Instances[0].State.Name == types.InstanceStateNameRunning {
			return seen.Reservations[0].Instances[0]
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("instance %s does not run", aws.ToString(in.InstanceId))
	return in
}
