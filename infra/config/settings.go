package config

import (
	"encoding/json"
	"strings"

	"flashtap/events"
	"flashtap/infra/policy"
)

// Place is what only the account, or its stand-in, can say. In the CDK app its strings are tokens.
type Place struct {
	Partition, Region, Account string

	Bucket           string // name of the evidence bucket
	BucketKeyARN     string
	SigningKeyARN    string            // KMS key that signs manifests
	Roles            map[string]string // ARNs of the roles whose rights preflight simulates, by step: those of SimulatedRoles
	LaunchTemplateID string
	CollectorRoleID  string // unique id
	SchedulerRoleARN string
	IntakeQueueURL   string
	WaitingQueueURL  string

	Images        map[string]string // AMI by architecture
	BinaryDigests map[string]string // SHA-256 of the collector by architecture
	AssetBucket   string            // where CDK puts the collector
	AssetKeys     []string
}

// Architectures of collectors, in the order in which things are made for them.
var Architectures = []string{events.ARM64, events.X86_64}

// ImageParameters are AWS's own SSM parameters that name the newest Amazon Linux 2023 (EC2 User Guide, "Reference AMIs using
// Systems Manager parameters"). They are resolved when the deployment is made, so that captures of one deployment have one
// image.
var ImageParameters = map[string]string{
	events.ARM64:  "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64",
	events.X86_64: "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64",
}

// SimulatedRoles are the steps that make and remove everything.
var SimulatedRoles = []string{"launch", "mirror", "teardown"}

// Scope is what the IAM statements of the deployment name.
func (c Config) Scope(p Place) policy.Scope {
	s := c.Names()
	s.Partition, s.Region, s.Account = p.Partition, p.Region, p.Account
	arn := func(service, rest string) string {
		return "arn:" + p.Partition + ":" + service + ":" + rest
	}
	s.BucketARN, s.BucketKeyARN = arn("s3", "::"+p.Bucket), p.BucketKeyARN
	s.LaunchTemplateID = p.LaunchTemplateID
	s.CollectorRoleARN = arn("iam", ":"+p.Account+":role/"+s.CollectorName())
	s.InstanceProfileARN = arn("iam", ":"+p.Account+":instance-profile/"+s.CollectorName())
	s.SchedulerRoleARN = p.SchedulerRoleARN
	s.AssetBucketARN, s.AssetKeys = arn("s3", "::"+p.AssetBucket), p.AssetKeys
	for _, vpc := range c.VPCs {
		s.VPCs = append(s.VPCs, arn("ec2", p.Region+":"+p.Account+":vpc/"+vpc))
	}
	s.VolumeKeyARN, s.SigningKeyARN, s.WitnessTopicARN = c.VolumeKey, p.SigningKeyARN, c.WitnessTopic
	s.OptOutTag, s.BreakGlass, s.AutomationRole = c.OptOutTag, c.BreakGlass, true
	s.TemporaryEndpoint = c.AllowTemporaryEndpoint
	for _, step := range SimulatedRoles {
		if arn := p.Roles[step]; arn != "" {
			s.StepRoleARNs = append(s.StepRoleARNs, arn)
		}
	}
	return s
}

// Settings are what the functions are told.
func (c Config) Settings(p Place) events.Settings {
	scope := c.Scope(p)
	s := events.DefaultSettings()
	s.Deployment, s.Account, s.Region, s.Bucket = c.Deployment, p.Account, p.Region, p.Bucket
	s.StateMachineARN, s.EventBus = scope.StateMachineARN(), scope.BusName()
	s.IntakeQueueURL, s.WaitingQueueURL = p.IntakeQueueURL, p.WaitingQueueURL
	s.ScheduleGroup, s.ScheduleRoleARN = scope.ScheduleGroup(), p.SchedulerRoleARN
	s.TeardownARN = scope.FunctionARN("teardown")
	s.LaunchTemplateID, s.InstanceProfileARN, s.CollectorRoleID = p.LaunchTemplateID, scope.InstanceProfileARN, p.CollectorRoleID
	s.InstanceTypes, s.Images, s.BinaryDigests = c.InstanceTypes, p.Images, p.BinaryDigests
	s.BinaryKeys = map[string]string{}
	for arch, digest := range p.BinaryDigests {
		s.BinaryKeys[arch] = ProgramKey(arch, digest)
	}
	s.AllowSamples, s.VPCs, s.OptOutTag, s.Tags = c.SampleFindings, c.VPCs, c.OptOutTag, c.Tags
	s.MaxCaptures, s.MaxInterfaces = c.MaxCaptures, c.MaxInterfaces
	s.DurationSeconds, s.MaxBytes, s.PacketLength, s.Filter = c.DurationSeconds, c.MaxBytes, c.PacketLength, c.Filter
	s.Profile, s.ControlCIDRs, s.AllowTemporaryEndpoint = c.Profile, c.ControlCIDRs, c.AllowTemporaryEndpoint
	s.BucketKeyARN, s.VolumeKeyARN, s.Roles = p.BucketKeyARN, c.VolumeKey, p.Roles
	s.SigningKeyARN, s.WitnessTopicARN = p.SigningKeyARN, c.WitnessTopic
	s.SpoolBytes = int64(c.SpoolGiB) << 30
	return s
}

// Environment are a function's variables: all settings, except what Lambda sets itself and refuses to be told (Lambda
// Developer Guide, "Defined runtime environment variables").
func Environment(s events.Settings) map[string]string {
	env := s.Environ()
	delete(env, "AWS_REGION")
	return env
}

// mostSettings is what a Lambda's environment and an SSM parameter of the standard tier hold (Lambda Developer Guide, "Lambda
// quotas"; Systems Manager User Guide, "Managing parameter tiers").
const mostSettings = 4096

// settingsSize is how large the settings are as JSON, in a place whose names are as long as they get.
func (c Config) settingsSize() (int, error) {
	p := Place{
		Partition: "aws", Region: "ap-southeast-1", Account: "111122223333", Bucket: strings.Repeat("b", 63),
		LaunchTemplateID: "lt-0123456789abcdef0", CollectorRoleID: "AROA0123456789ABCDEFG",
		BucketKeyARN:     "arn:aws:kms:ap-southeast-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
		SigningKeyARN:    "arn:aws:kms:ap-southeast-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
		SchedulerRoleARN: "arn:aws:iam::111122223333:role/" + strings.Repeat("r", 64), Roles: map[string]string{},
		IntakeQueueURL:  "https://sqs.ap-southeast-1.amazonaws.com/111122223333/" + c.Names().QueueName(policy.IntakeQueue),
		WaitingQueueURL: "https://sqs.ap-southeast-1.amazonaws.com/111122223333/" + c.Names().QueueName(policy.WaitingQueue),
		Images:          map[string]string{}, BinaryDigests: map[string]string{},
	}
	for _, step := range SimulatedRoles {
		p.Roles[step] = "arn:aws:iam::111122223333:role/" + strings.Repeat("r", 64)
	}
	for _, arch := range Architectures {
		p.Images[arch], p.BinaryDigests[arch] = "ami-0123456789abcdef0", strings.Repeat("0", 64)
	}
	text, err := json.Marshal(Environment(c.Settings(p)))
	return len(text), err
}

// Substitutions fill the placeholders of the state machine's definition.
func (c Config) Substitutions() map[string]string {
	names := map[string]string{"EventBus": c.Names().BusName()}
	for _, f := range Functions {
		if f.Step {
			names[f.Title()+"Function"] = c.Names().FunctionName(f.Name)
		}
	}
	return names
}
