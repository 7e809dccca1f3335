package authorization

import (
	"fmt"
	"slices"

	"flashtap/events"
	"flashtap/infra/policy"
)

// Example is the scope of a deployment with everything that can be configured, in AWS's example account.
func Example() policy.Scope {
	const account, region, prefix = "111122223333", "eu-central-1", "flashtap-example"
	return policy.Scope{
		Partition: "aws", Region: region, Account: account, Deployment: "example", Prefix: prefix,
		BucketARN:          "arn:aws:s3:::" + prefix + "-evidence-bucket-1a2b3c4d5e6f",
		BucketKeyARN:       "arn:aws:kms:" + region + ":" + account + ":key/1234abcd-12ab-34cd-56ef-1234567890ab",
		VolumeKeyARN:       "arn:aws:kms:" + region + ":" + account + ":key/4321dcba-21ba-43dc-65fe-ba0987654321",
		LaunchTemplateID:   "lt-0a1b2c3d4e5f60718",
		CollectorRoleARN:   "arn:aws:iam::" + account + ":role/" + prefix + "-collector-" + region,
		InstanceProfileARN: "arn:aws:iam::" + account + ":instance-profile/" + prefix + "-collector-" + region,
		SchedulerRoleARN:   "arn:aws:iam::" + account + ":role/" + prefix + "-control-SchedulerRole-1A2B3C4D5E6F",
		SigningKeyARN:      "arn:aws:kms:" + region + ":" + account + ":key/0a1b2c3d-0a1b-42c3-8d4e-0a1b2c3d4e5f",
		WitnessTopicARN:    "arn:aws:sns:" + region + ":444455556666:flashtap-witness",
		StepRoleARNs: []string{
			"arn:aws:iam::" + account + ":role/" + prefix + "-control-LaunchRole-1A2B3C4D5E6F",
			"arn:aws:iam::" + account + ":role/" + prefix + "-control-MirrorRole-1A2B3C4D5E6F",
			"arn:aws:iam::" + account + ":role/" + prefix + "-control-TeardownRole-1A2B3C4D5E6F",
		},
		AssetBucketARN:    "arn:aws:s3:::cdk-hnb659fds-assets-" + account + "-" + region,
		AssetKeys:         []string{"0123456789abcdef.zip", "fedcba9876543210.zip"},
		VPCs:              []string{"arn:aws:ec2:" + region + ":" + account + ":vpc/vpc-0a1b2c3d4e5f60718"},
		OptOutTag:         "flashtap:opt-out",
		BreakGlass:        []string{"arn:aws:iam::" + account + ":role/break-glass"},
		AutomationRole:    true,
		TemporaryEndpoint: true,
	}
}

// Plain is Example with nothing configured that can be left out.
func Plain() policy.Scope {
	s := Example()
	s.VPCs, s.OptOutTag, s.BreakGlass, s.VolumeKeyARN, s.TemporaryEndpoint = nil, "", nil, "", false
	s.WitnessTopicARN = ""
	return s
}

// Named is one of a deployment's documents.
type Named struct {
	Name     string // "role launch", "trust launch", "evidence bucket"
	Document policy.Document
	Options  Options
}

// Documents are all policies of a deployment, with what each is to be held against.
func Documents(s policy.Scope) []Named {
	var list []Named
	o := OptionsFor(s)
	for _, r := range policy.Roles() {
		list = append(list, Named{"role " + r.Name, r.Policy(s), o})
	}
	list = append(list, Named{"operator", policy.Operator(s), o})
	for _, r := range policy.SpokeRoles() {
		list = append(list, Named{"spoke " + r.Name, r.Policy(s), o})
	}
	for _, r := range policy.Roles() {
		trust := o
		trust.Kind = Trust
		list = append(list, Named{"trust " + r.Name, r.Trust(s), trust})
	}
	spoke := o
	spoke.Kind = Trust
	list = append(list, Named{"trust spoke", policy.SpokeTrust(s, "444455556666"), spoke})
	of := func(name string, d policy.Document, self string) {
		resource := o
		resource.Kind, resource.Self = Resource, self
		list = append(list, Named{name, d, resource})
	}
	of("evidence bucket", policy.EvidenceBucket(s), "")
	of("evidence key", policy.EvidenceKey(s), s.BucketKeyARN)
	of("signing key", policy.SigningKey(s), s.SigningKeyARN)
	for _, q := range policy.Queues() {
		of("queue "+q, policy.Queue(s, q), "")
	}
	of("topic", policy.Topic(s), "")
	of("event bus", policy.Bus(s), "")
	return list
}

// OptionsFor are those for the policies of a deployment's roles.
func OptionsFor(s policy.Scope) Options {
	return Options{
		Named:     slices.Compact([]string{s.Prefix, s.BucketARN}),
		VolumeKey: s.VolumeKeyARN, Region: s.Region,
		TagKey: events.TagDeployment, TagValue: s.Deployment, Reasons: true, Exempt: Exemptions(),
	}
}

// Exemptions are the parts of statements to which a rule does not apply: things of the account, which are not the
// deployment's.
func Exemptions() []Exemption {
	const suspects, amazons = "it is the suspect's, found by a finding; the deployment can name VPCs, and a tag that exempts", "it is Amazon's; ec2:Owner says so"
	return []Exemption{
		{RuleOwner, "ec2:CreateTrafficMirrorSession network-interface", suspects},
		{RuleOwner, "ec2:CreateSecurityGroup vpc", suspects},
		{RuleOwner, "ec2:RunInstances subnet", suspects},
		{RuleOwner, "ec2:CreateVpcEndpoint vpc", suspects},
		{RuleOwner, "ec2:CreateVpcEndpoint subnet", "AWS takes only one of the endpoint's VPC, which is the suspect's"},
		{RuleStar, "ReadMetrics", "AWS's own metrics are in no dataset, the one type of resource that GetMetricData has"},
		{RuleOwner, "ec2:RunInstances image", amazons},
		{RuleOpen, "EventRules", "EventBridge takes no conditions in a topic's policy"},
	}
}

// String names a document and what is wrong with it.
func (n Named) String(f Finding) string { return fmt.Sprintf("%s: %s", n.Name, f) }
