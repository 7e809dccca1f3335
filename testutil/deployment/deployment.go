package deployment

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"flashtap/events"
	"flashtap/infra"
	"flashtap/infra/config"
	"flashtap/infra/policy"
	"flashtap/testutil/iam"
	"flashtap/testutil/region"
	"flashtap/testutil/region/ec2"
	"flashtap/testutil/region/kms"
	"flashtap/testutil/region/lambda"
	"flashtap/testutil/region/queue"
	"flashtap/testutil/region/simulator"
)

// Deployment is Flashtap in a local region.
type Deployment struct {
	Region       *region.Region
	Settings     events.Settings
	StateMachine string // ARN
	Intake       string // name of the queue that the rules fill
	Waiting      string // name of the queue of findings that found no place

	config   config.Config
	deployed events.Settings
}

// Deployed are the settings that the functions would have in an account.
func (d *Deployment) Deployed() events.Settings { return d.deployed }

// Options say how a deployment differs from the defaults of a local one.
type Options struct {
	Account, Region string
	Programs        Programs
	// Config is what the deployment is told; nil: Config().
	Config *config.Config
	// Change is given the settings before they take effect.
	Change func(*events.Settings)
	// Log receives what the functions write; nil discards it.
	Log io.Writer
	// SweepEvery is the interval of the sweep; default 5 minutes.
	SweepEvery time.Duration
	// WithoutSweep leaves the sweep's schedule and its rule out.
	WithoutSweep bool
}

func (o Options) config() config.Config {
	if o.Config != nil {
		return *o.Config
	}
	return Config()
}

// What CloudFormation names by itself, and so has no name in infra/config.
func bucketOf(c config.Config) string        { return c.Prefix() + "-evidence" }
func schedulerRoleOf(c config.Config) string { return c.Prefix() + "-scheduler" }

// collectorRoleOf is the unique id that IAM gives the collector's role: letters and digits.
func collectorRoleOf(c config.Config) string {
	return "AROAFLASHTAP" + strings.ToUpper(strings.ReplaceAll(c.Deployment, "-", "0"))
}

// Config is what a local deployment is told: the defaults, and to take sample findings for true.
func Config() config.Config {
	c := config.Default()
	c.Deployment, c.SampleFindings = "demo", true
	return c
}

// Hasten changes what a deployment on one machine has otherwise than one in an account: everything polls faster, lasts
// shorter and keeps smaller pieces.
func Hasten(s *events.Settings) {
	s.DurationSeconds, s.DrainSeconds, s.ReadySeconds, s.ProofSeconds = 20, 20, 30, 20
	s.SegmentBytes, s.SegmentSeconds, s.CheckpointSeconds, s.CollectorPollSeconds = 4<<20, 5, 1, 1
	s.PollSeconds, s.SlowPollSeconds = 1, 1
	s.SpoolBytes = 1 << 30
}

// Deploy puts Flashtap into r.
func Deploy(ctx context.Context, r *region.Region, o Options) (*Deployment, error) {
	names := o.config().Names()
	d := &Deployment{Region: r, Intake: names.QueueName(policy.IntakeQueue), Waiting: names.QueueName(policy.WaitingQueue), config: o.config()}
	sum, program, err := digest(o.Programs.Collector())
	if err != nil {
		return nil, fmt.Errorf("deploy: %w", err)
	}
	if err := d.queues(o); err != nil {
		return nil, fmt.Errorf("deploy: %w", err)
	}
	d.Settings = d.settings(o, sum)
	if err := d.bucket(ctx, program); err != nil {
		return nil, fmt.Errorf("deploy: %w", err)
	}
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

// bucket makes the evidence bucket and puts the collector program into it, once under the key of each architecture.
func (d *Deployment) bucket(ctx context.Context, program []byte) error {
	if err := d.Region.S3.CreateBucket(ctx, d.Settings.Bucket); err != nil {
		return err
	}
	if mode := d.config.RetentionMode; mode != config.NoLock {
		if err := d.Region.S3.Retain(ctx, d.Settings.Bucket, strings.ToUpper(mode), d.config.RetentionDays); err != nil {
			return err
		}
	}
	for _, key := range d.Settings.BinaryKeys {
		_, err := d.Region.S3.Client().PutObject(ctx, &s3.PutObjectInput{Bucket: &d.Settings.Bucket, Key: &key, Body: bytes.NewReader(program)})
		if err != nil {
			return err
		}
	}
	return nil
}

// settings are those that infra/config gives a deployment in this account and Region, with the haste of one on one machine.
// Whichever architecture an instance has, it runs this machine's collector.
func (d *Deployment) settings(o Options, sum string) events.Settings {
	place := config.Place{
		Partition: "aws", Region: o.Region, Account: o.Account, Bucket: bucketOf(d.config), CollectorRoleID: collectorRoleOf(d.config),
		BucketKeyARN:     d.Region.KMS.AddKey(kms.Key{ID: "11111111-2222-3333-4444-555555555555", Description: "evidence of " + d.config.Deployment}),
		SigningKeyARN:    d.Region.KMS.AddKey(kms.Key{Spec: kms.ECCP256, Description: "signs manifests of " + d.config.Deployment}),
		SchedulerRoleARN: "arn:aws:iam::" + o.Account + ":role/" + schedulerRoleOf(d.config),
		IntakeQueueURL:   d.Region.QueueURL(d.Intake), WaitingQueueURL: d.Region.QueueURL(d.Waiting),
		BinaryDigests: map[string]string{}, Images: map[string]string{},
	}
	for _, arch := range config.Architectures {
		name := path.Base(config.ImageParameters[arch])
		place.Images[arch], place.BinaryDigests[arch] = d.Region.EC2.AddImage(ec2.Image{Name: name, Architecture: arch}), sum
	}
	scope := d.config.Scope(place)
	d.Region.EC2.AddInstanceProfile(ec2.Profile{Name: scope.CollectorName(), RoleName: scope.CollectorName(), RoleID: place.CollectorRoleID})
	place.LaunchTemplateID = d.Region.EC2.AddLaunchTemplate(ec2.LaunchTemplate{
		Name: scope.LaunchTemplateName(), Data: d.config.LaunchTemplate(scope.InstanceProfileARN),
	})
	scope = d.config.Scope(place)  // with the template
	scope.TemporaryEndpoint = true // a scene may change its settings afterwards
	place.Roles = d.roles(scope)
	s := d.config.Settings(place)
	d.deployed = s
	Hasten(&s)
	return s
}

// roles registers the deployment's roles with IAM's policy simulator, each with its policy, and returns their ARNs.
// CloudFormation makes up their names.
func (d *Deployment) roles(scope policy.Scope) map[string]string {
	arns := map[string]string{}
	for _, role := range policy.Roles() {
		arns[role.Name] = "arn:aws:iam::" + scope.Account + ":role/" + scope.Prefix + "-control-" + role.Name
		d.Region.IAM.AddRole(simulator.Role{ARN: arns[role.Name], Policies: []*iam.Policy{iam.MustParse(role.Name, role.Policy(scope))}})
	}
	return map[string]string{"launch": arns["launch"], "mirror": arns["mirror"], "teardown": arns["teardown"]}
}

func (d *Deployment) queues(Options) error {
	names := d.config.Names()
	for _, q := range config.Queues {
		made := queue.Queue{Name: names.QueueName(q.ID), ContentBasedDeduplication: q.FIFO, VisibilityTimeout: q.Visibility, MaxReceiveCount: q.Receives}
		if q.DeadLetter != "" {
			made.DeadLetterQueue = names.QueueName(q.DeadLetter)
		}
		if _, err := d.Region.Queues.Create(made); err != nil {
			return err
		}
	}
	_, err := d.Region.Schedules.Handle("CreateScheduleGroup", map[string]any{"Name": names.ScheduleGroup()})
	return err
}

func (d *Deployment) functions(o Options) error {
	for _, f := range config.Functions {
		if f.Name == config.Setup { // what it makes is made here by the deployment itself
			continue
		}
		env := d.Region.Environ(d.function(f.Name))
		for name, value := range config.Environment(d.Settings) {
			env[name] = value
		}
		for name := range env { // Lambda sets these itself
			if strings.HasPrefix(name, "AWS_ACCESS") || strings.HasPrefix(name, "AWS_SECRET") || name == "AWS_REGION" || name == "AWS_DEFAULT_REGION" {
				delete(env, name)
			}
		}
		if err := d.Region.Lambda.Register(lambda.Function{
			Name: d.function(f.Name), Bootstrap: o.Programs.Function(f.Name), Env: env,
			Timeout: time.Duration(f.Seconds) * time.Second, Memory: f.Memory, Log: o.Log,
		}); err != nil {
			return err
		}
	}
	return d.Region.MapQueue(d.Intake, config.IntakeBatch, d.function("intake"))
}

// function is the name of a Lambda.
func (d *Deployment) function(name string) string { return d.config.Names().FunctionName(name) }

func (d *Deployment) machine(Options) error {
	var err error
	d.StateMachine, err = d.Region.CreateStateMachine(d.config.Names().StateMachineName(), []byte(infra.Capture), d.config.Substitutions())
	return err
}

func (d *Deployment) rules(o Options) error {
	rules, err := d.config.Rules()
	if err != nil {
		return err
	}
	names := d.config.Names()
	d.Region.CreateEventBus(names.BusName())
	for _, rule := range rules {
		bus := rule.Bus
		if bus == config.OwnBus {
			bus = names.BusName()
		}
		if err := d.Region.RuleOn(bus, names.RuleName(rule.Name), string(rule.Pattern), d.Region.ToQueue(d.Intake, rule.Group)); err != nil {
			return err
		}
	}
	if o.WithoutSweep {
		return nil
	}
	pattern, err := json.Marshal(config.EndedPattern(d.Settings.StateMachineARN))
	if err != nil {
		return err
	}
	return d.Region.Rule(names.RuleName("execution-ended"), string(pattern), d.Region.ToFunction(d.function("sweep")))
}

// Publish puts an event on the bus where it belongs: requests by hand on the deployment's own, all others on the account's.
// It says which rules matched.
func (d *Deployment) Publish(event []byte) ([]string, error) {
	var envelope struct{ Source string }
	if err := json.Unmarshal(event, &envelope); err == nil && envelope.Source == events.RequestSource {
		return d.Region.PublishOn(d.config.Names().BusName(), event)
	}
	return d.Region.Publish(event)
}

func (d *Deployment) sweep(o Options) error {
	if o.WithoutSweep {
		return nil
	}
	every := o.SweepEvery
	if every == 0 {
		every = config.SweepMinutes * time.Minute
	}
	minutes := max(1, int(every/time.Minute))
	unit := "minutes"
	if minutes == 1 {
		unit = "minute"
	}
	_, err := d.Region.Schedules.Handle("CreateSchedule", map[string]any{
		"Name": d.function("sweep"), "ScheduleExpression": fmt.Sprintf("rate(%d %s)", minutes, unit),
		"FlexibleTimeWindow": map[string]any{"Mode": "OFF"},
		"Target":             map[string]any{"Arn": strings.Replace(d.Settings.TeardownARN, "-teardown", "-sweep", 1), "RoleArn": d.Settings.ScheduleRoleARN, "Input": "{}"},
	})
	return err
}

// Sweep runs the sweep now, as its schedule would, and returns its report.
func (d *Deployment) Sweep(ctx context.Context) (string, error) {
	result, err := d.Region.Lambda.Invoke(ctx, d.function("sweep"), []byte("{}"))
	if err != nil {
		return "", err
	}
	if result.FunctionError != "" {
		return "", fmt.Errorf("sweep: %s", result.Payload)
	}
	return string(result.Payload), nil
}
