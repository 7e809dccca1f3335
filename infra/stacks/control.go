package stacks

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3assets"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsscheduler"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsssm"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsstepfunctions"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"flashtap/events"
	"flashtap/infra/config"
	"flashtap/infra/policy"
)

// Control is the stack that captures: from the rules that events match to the topic that people read.
type Control struct {
	awscdk.Stack
	Settings  events.Settings
	Scope     policy.Scope
	Roles     map[string]awsiam.CfnRole
	Functions map[string]awslambda.CfnFunction
	Queues    map[string]awssqs.CfnQueue
	Machine   awsstepfunctions.CfnStateMachine
	TopicARN  string

	mapping  awslambda.CfnEventSourceMapping // of intake's queue
	policies []awscdk.CfnResource            // of queues and topic

	cfg    config.Config
	assets map[string]awss3assets.Asset // the collector by architecture
}

// NewControl makes the stack. It needs the built programs.
func NewControl(scope constructs.Construct, cfg config.Config, place config.Place) (*Control, error) {
	c := &Control{
		Stack: newStack(scope, cfg, "control", "what turns findings into captures"), cfg: cfg,
		Roles: map[string]awsiam.CfnRole{}, Functions: map[string]awslambda.CfnFunction{}, Queues: map[string]awssqs.CfnQueue{},
		assets: map[string]awss3assets.Asset{},
	}
	if err := c.programs(&place); err != nil {
		return nil, err
	}
	place.Images = map[string]string{}
	for _, arch := range config.Architectures {
		place.Images[arch] = *awscdk.NewCfnParameter(c.Stack, str("Image"+strings.ReplaceAll(arch, "_", "")), &awscdk.CfnParameterProps{
			Type: str("AWS::SSM::Parameter::Value<AWS::EC2::Image::Id>"), Default: str(config.ImageParameters[arch]),
			Description: str("AMI of collectors on " + arch + ", resolved when the stack is deployed"),
		}).ValueAsString()
	}
	c.queues(cfg.Scope(place)) // their policies name ARNs of this account and Region, and nothing that is not known yet
	place.IntakeQueueURL = *c.Queues[policy.IntakeQueue].Ref()
	place.WaitingQueueURL = *c.Queues[policy.WaitingQueue].Ref()
	c.Roles["scheduler"] = newRole(c.Stack, cfg, cfg.Scope(place), "scheduler", nil)
	place.SchedulerRoleARN = *c.Roles["scheduler"].AttrArn()
	place.Roles = map[string]string{}
	for _, step := range config.SimulatedRoles { // preflight's role and everybody's settings name them
		c.Roles[step] = newRole(c.Stack, cfg, cfg.Scope(place), step, nil)
		place.Roles[step] = *c.Roles[step].AttrArn()
	}
	c.Scope, c.Settings = cfg.Scope(place), cfg.Settings(place)

	awsscheduler.NewCfnScheduleGroup(c.Stack, str("Schedules"), &awsscheduler.CfnScheduleGroupProps{Name: str(c.Scope.ScheduleGroup())})
	if err := c.functions(); err != nil {
		return nil, err
	}
	c.machine()
	bus := c.bus()
	c.topic()
	if err := c.rules(bus); err != nil {
		return nil, err
	}
	c.sweeps()
	c.custom()
	c.outputs()
	return c, nil
}

// programs takes the collectors as assets and notes their digests, which are pinned in the user data of every instance.
func (c *Control) programs(place *config.Place) error {
	place.BinaryDigests = map[string]string{}
	for _, arch := range config.Architectures {
		path := filepath.Join(c.cfg.BuildDir, "collector-linux-"+map[string]string{events.ARM64: "arm64", events.X86_64: "amd64"}[arch])
		digest, err := fileDigest(path)
		if err != nil {
			return fmt.Errorf("the collector for %s: %w; run `make build` first", arch, err)
		}
		asset := awss3assets.NewAsset(c.Stack, str("Collector"+strings.ReplaceAll(arch, "_", "")), &awss3assets.AssetProps{Path: str(path)})
		c.assets[arch], place.BinaryDigests[arch] = asset, digest
		place.AssetBucket = *asset.S3BucketName()
		place.AssetKeys = append(place.AssetKeys, *asset.S3ObjectKey())
	}
	return nil
}

func fileDigest(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close() //nolint:errcheck // it was only read
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func (c *Control) queues(s policy.Scope) {
	for _, q := range config.Queues {
		props := &awssqs.CfnQueueProps{
			QueueName: str(s.QueueName(q.ID)), VisibilityTimeout: num(int(q.Visibility.Seconds())),
			MessageRetentionPeriod: num(int(q.Retention.Seconds())), SqsManagedSseEnabled: yes(),
		}
		if q.FIFO {
			props.FifoQueue, props.ContentBasedDeduplication = yes(), yes()
		}
		if q.DeadLetter != "" {
			props.RedrivePolicy = map[string]any{"deadLetterTargetArn": *c.Queues[q.DeadLetter].AttrArn(), "maxReceiveCount": q.Receives}
		}
		c.Queues[q.ID] = awssqs.NewCfnQueue(c.Stack, str(queueTitle(q.ID)), props)
	}
	for _, q := range config.Queues {
		made := awssqs.NewCfnQueuePolicy(c.Stack, str(queueTitle(q.ID)+"Policy"), &awssqs.CfnQueuePolicyProps{
			Queues: &[]*string{c.Queues[q.ID].Ref()}, PolicyDocument: document(policy.Queue(s, q.ID)),
		})
		c.policies = append(c.policies, made)
	}
}

// queueTitle is "IntakeDlqQueue" for "intake-dlq.fifo".
func queueTitle(id string) string { return title(strings.TrimSuffix(id, ".fifo")) + "Queue" }

// topic is what people subscribe to. It has no key of its own: what is published are ids and counts, and a key that
// EventBridge and CloudWatch may use would cost a dollar a month.
func (c *Control) topic() {
	if c.TopicARN = c.cfg.AlertTopic; c.TopicARN != "" {
		return
	}
	props := &awssns.CfnTopicProps{TopicName: str(c.Scope.TopicName())}
	if c.cfg.AlarmEmail != "" {
		props.Subscription = list(&awssns.CfnTopic_SubscriptionProperty{Protocol: str("email"), Endpoint: str(c.cfg.AlarmEmail)})
	}
	topic := awssns.NewCfnTopic(c.Stack, str("Alerts"), props)
	made := awssns.NewCfnTopicPolicy(c.Stack, str("AlertsPolicy"), &awssns.CfnTopicPolicyProps{
		Topics: &[]*string{topic.Ref()}, PolicyDocument: document(policy.Topic(c.Scope)),
	})
	c.policies = append(c.policies, made)
	c.TopicARN = *topic.Ref()
}

// custom are the things that the setup function makes, because CloudFormation can't. No capture is planned with a program
// that is not in the bucket yet: preflight, which plans, and intake wait for it.
func (c *Control) custom() {
	handler := c.Functions[config.Setup]
	// CloudFormation would wait for an hour for a function that can't answer.
	patience := awscdk.Duration_Minutes(jsii.Number(10))
	for _, arch := range config.Architectures {
		program := awscdk.NewCustomResource(c.Stack, str("Program"+strings.ReplaceAll(arch, "_", "")), &awscdk.CustomResourceProps{
			ServiceToken: handler.AttrArn(), ResourceType: str("Custom::FlashtapProgram"), RemovalPolicy: awscdk.RemovalPolicy_DESTROY, ServiceTimeout: patience,
			Properties: &map[string]any{
				"SourceBucket": c.assets[arch].S3BucketName(), "SourceKey": c.assets[arch].S3ObjectKey(),
				"Bucket": c.Settings.Bucket, "Key": c.Settings.BinaryKeys[arch], "SHA256": c.Settings.BinaryDigests[arch],
			},
		})
		c.Functions["preflight"].Node().AddDependency(program)
		c.mapping.Node().AddDependency(program)
	}
	if c.cfg.SecurityHubAction {
		awscdk.NewCustomResource(c.Stack, str("SecurityHubAction"), &awscdk.CustomResourceProps{
			ServiceToken: handler.AttrArn(), ResourceType: str("Custom::FlashtapAction"), RemovalPolicy: awscdk.RemovalPolicy_DESTROY, ServiceTimeout: patience,
			Properties: &map[string]any{
				"Id": c.cfg.ActionID(), "Name": "Capture packets",
				"Description": "Captures the packets of the finding's instances (Flashtap deployment " + c.cfg.Deployment + ")",
			},
		})
	}
}

// outputs name what people and scripts need. The parameter holds all settings for the operator's tool, whose environment is
// the functions'.
func (c *Control) outputs() {
	settings := map[string]any{}
	env := config.Environment(c.Settings)
	for _, name := range slices.Sorted(maps.Keys(env)) {
		settings[name] = env[name]
	}
	awsssm.NewCfnParameter(c.Stack, str("SettingsParameter"), &awsssm.CfnParameterProps{
		Name: str(c.Scope.ParameterName("settings")), Type: str("String"), Value: c.ToJsonString(settings, nil),
		Description: str("Flashtap " + c.cfg.Deployment + ": environment of the functions, and of the flashtap command"),
	})
	output(c.Stack, "StateMachineArn", "Start it by hand with {\"instanceId\": \"i-...\"}", c.Machine.Ref())
	output(c.Stack, "EventBus", "Publish capture requests here, and listen for what became of them", str(c.Scope.BusName()))
	output(c.Stack, "AlertTopic", "Subscribe people here", str(c.TopicARN))
	output(c.Stack, "SettingsParameterName", "Settings for the flashtap command", str(c.Scope.ParameterName("settings")))
}
