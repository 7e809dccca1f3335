package deployment

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"flashtap/events"
	"flashtap/testutil/region"
	"flashtap/testutil/region/ec2"
	"flashtap/testutil/region/lambda"
	"flashtap/testutil/region/queue"
)

// Deployment is Flashtap in a local region.
type Deployment struct {
	Region       *region.Region
	Settings     events.Settings
	StateMachine string // ARN
	Intake       string // name of the queue that the rules fill
	Waiting      string // name of the queue of findings that found no place
}

// Options say how a deployment differs from the defaults of a local one.
type Options struct {
	Account, Region string
	Programs        Programs
	// Change is given the settings before they take effect.
	Change func(*events.Settings)
	// Log receives what the functions write; nil discards it.
	Log io.Writer
	// SweepEvery is the interval of the sweep; default 5 minutes.
	SweepEvery time.Duration
	// WithoutSweep leaves the sweep's schedule and its rule out.
	WithoutSweep bool
}

// The names in a local deployment.
const (
	name          = "demo"
	bucket        = "flashtap-evidence"
	group         = "flashtap-demo"
	intakeQueue   = "flashtap-intake.fifo"
	intakeDLQ     = "flashtap-intake-dlq.fifo"
	waitingQueue  = "flashtap-waiting"
	collectorRole = "AROAFLASHTAPCOLLECTOR"
	templateName  = "flashtap-collector"
	profileName   = "flashtap-collector"
)

// Deploy puts Flashtap into r.
func Deploy(ctx context.Context, r *region.Region, o Options) (*Deployment, error) {
	d := &Deployment{Region: r, Intake: intakeQueue, Waiting: waitingQueue}
	sum, program, err := digest(o.Programs.Collector())
	if err != nil {
		return nil, fmt.Errorf("deploy: %w", err)
	}
	key := "tools/collector-" + sum
	if err := d.bucket(ctx, key, program); err != nil {
		return nil, fmt.Errorf("deploy: %w", err)
	}
	if err := d.queues(o); err != nil {
		return nil, fmt.Errorf("deploy: %w", err)
	}
	d.Settings = d.settings(o, key, sum)
	if o.Change != nil {
		o.Change(&d.Settings)
	}
	for _, step := range []func(Options) error{d.functions, d.machine, d.rules, d.sweep} {
		if err := step(o); err != nil {
			return nil, fmt.Errorf("deploy: %w", err)
		}
	}
	return d, nil
}

// bucket makes the evidence bucket and puts the collector program into it.
func (d *Deployment) bucket(ctx context.Context, key string, program []byte) error {
	if err := d.Region.S3.CreateBucket(ctx, bucket); err != nil {
		return err
	}
	b := bucket
	_, err := d.Region.S3.Client().PutObject(ctx, &s3.PutObjectInput{Bucket: &b, Key: &key, Body: bytes.NewReader(program)})
	return err
}

// settings are those of a deployment on one machine: everything polls faster and keeps smaller pieces, and what
// depends on the instance's architecture is this machine's.
func (d *Deployment) settings(o Options, key, sum string) events.Settings {
	arn := func(service, rest string) string {
		return "arn:aws:" + service + ":" + o.Region + ":" + o.Account + ":" + rest
	}
	global := "arn:aws:iam::" + o.Account + ":"
	profile := global + "instance-profile/" + profileName
	arm := d.Region.EC2.AddImage(ec2.Image{Name: "al2023-ami-kernel-default-arm64", Architecture: events.ARM64})
	x86 := d.Region.EC2.AddImage(ec2.Image{Name: "al2023-ami-kernel-default-x86_64", Architecture: events.X86_64})
	d.Region.EC2.AddInstanceProfile(ec2.Profile{Name: profileName, RoleName: profileName, RoleID: collectorRole})
	template := d.Region.EC2.AddLaunchTemplate(ec2.LaunchTemplate{Name: templateName, Data: map[string]any{
		"IamInstanceProfile":                map[string]any{"Arn": profile},
		"InstanceInitiatedShutdownBehavior": "terminate",
		"MetadataOptions": map[string]any{"HttpTokens": "required", "HttpPutResponseHopLimit": int64(1), "HttpEndpoint": "enabled",
			"InstanceMetadataTags": "enabled"},
	}})
	s := events.DefaultSettings()
	s.Deployment, s.Account, s.Region, s.Bucket = name, o.Account, o.Region, bucket
	s.StateMachineARN = arn("states", "stateMachine:flashtap-capture")
	s.IntakeQueueURL, s.WaitingQueueURL = d.Region.QueueURL(intakeQueue), d.Region.QueueURL(waitingQueue)
	s.EventBus = "default"
	s.ScheduleGroup, s.ScheduleRoleARN = group, global+"role/flashtap-scheduler"
	s.TeardownARN = arn("lambda", "function:teardown")
	s.LaunchTemplateID, s.InstanceProfileARN, s.CollectorRoleID = template, profile, collectorRole
	s.Images = map[string]string{events.ARM64: arm, events.X86_64: x86}
	s.BinaryKeys = map[string]string{events.ARM64: key, events.X86_64: key}
	s.BinaryDigests = map[string]string{events.ARM64: sum, events.X86_64: sum}
	s.AllowSamples = true
	s.DurationSeconds, s.DrainSeconds, s.ReadySeconds, s.ProofSeconds = 20, 20, 30, 20
	s.SegmentBytes, s.SegmentSeconds, s.CheckpointSeconds, s.CollectorPollSeconds = 4<<20, 5, 1, 1
	s.PollSeconds, s.SlowPollSeconds = 1, 1
	s.SpoolBytes = 1 << 30
	return s
}

func (d *Deployment) queues(Options) error {
	const maxReceives = 5
	for _, q := range []queue.Queue{
		{Name: intakeDLQ, ContentBasedDeduplication: true},
		{Name: intakeQueue, ContentBasedDeduplication: true, DeadLetterQueue: intakeDLQ, MaxReceiveCount: maxReceives, VisibilityTimeout: 2 * time.Minute},
		{Name: waitingQueue, VisibilityTimeout: 30 * time.Second},
	} {
		if _, err := d.Region.Queues.Create(q); err != nil {
			return err
		}
	}
	_, err := d.Region.Schedules.Handle("CreateScheduleGroup", map[string]any{"Name": group})
	return err
}

func (d *Deployment) functions(o Options) error {
	for _, f := range functionNames {
		env := d.Region.Environ("flashtap-" + f)
		for name, value := range d.Settings.Environ() {
			env[name] = value
		}
		for name := range env { // Lambda sets these itself
			if strings.HasPrefix(name, "AWS_ACCESS") || strings.HasPrefix(name, "AWS_SECRET") || name == "AWS_REGION" || name == "AWS_DEFAULT_REGION" {
				delete(env, name)
			}
		}
		if err := d.Region.Lambda.Register(lambda.Function{
			Name: f, Bootstrap: o.Programs.Function(f), Env: env, Timeout: time.Minute, Memory: 256, Log: o.Log,
		}); err != nil {
			return err
		}
	}
	const batchSize = 10
	return d.Region.MapQueue(intakeQueue, batchSize, "intake")
}

func (d *Deployment) machine(o Options) error {
	definition, err := os.ReadFile(filepath.Join(o.Programs.Root, "infra", "capture.asl.json"))
	if err != nil {
		return err
	}
	names := map[string]string{"EventBus": d.Settings.EventBus}
	for _, f := range functionNames {
		if bytes.Contains(definition, []byte("${"+title(f)+"Function}")) {
			names[title(f)+"Function"] = f
		}
	}
	d.StateMachine, err = d.Region.CreateStateMachine("flashtap-capture", definition, names)
	return err
}

func title(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

func (d *Deployment) rules(o Options) error {
	text, err := os.ReadFile(filepath.Join(o.Programs.Root, "infra", "rules.json"))
	if err != nil {
		return err
	}
	var rules []struct {
		Name, Group string
		Pattern     json.RawMessage
	}
	if err := json.Unmarshal(text, &rules); err != nil {
		return fmt.Errorf("infra/rules.json: %w", err)
	}
	for _, rule := range rules {
		if err := d.Region.Rule(rule.Name, string(rule.Pattern), d.Region.ToQueue(intakeQueue, rule.Group)); err != nil {
			return err
		}
	}
	if o.WithoutSweep {
		return nil
	}
	return d.Region.Rule("execution-ended", `{"source": ["aws.states"], "detail-type": ["Step Functions Execution Status Change"],
		"detail": {"status": ["FAILED", "TIMED_OUT", "ABORTED"]}}`, d.Region.ToFunction("sweep"))
}

func (d *Deployment) sweep(o Options) error {
	if o.WithoutSweep {
		return nil
	}
	every := o.SweepEvery
	if every == 0 {
		every = 5 * time.Minute
	}
	minutes := max(1, int(every/time.Minute))
	unit := "minutes"
	if minutes == 1 {
		unit = "minute"
	}
	_, err := d.Region.Schedules.Handle("CreateSchedule", map[string]any{
		"Name": "flashtap-sweep", "ScheduleExpression": fmt.Sprintf("rate(%d %s)", minutes, unit),
		"FlexibleTimeWindow": map[string]any{"Mode": "OFF"},
		"Target":             map[string]any{"Arn": strings.Replace(d.Settings.TeardownARN, ":teardown", ":sweep", 1), "RoleArn": d.Settings.ScheduleRoleARN, "Input": "{}"},
	})
	return err
}

// Sweep runs the sweep now, as its schedule would, and returns its report.
func (d *Deployment) Sweep(ctx context.Context) (string, error) {
	result, err := d.Region.Lambda.Invoke(ctx, "sweep", []byte("{}"))
	if err != nil {
		return "", err
	}
	if result.FunctionError != "" {
		return "", fmt.Errorf("sweep: %s", result.Payload)
	}
	return string(result.Payload), nil
}
