package policy

import "strings"

// Scope is what statements name: one deployment, in one account and Region. All strings may hold CDK tokens.
type Scope struct {
	Partition, Region, Account string
	Deployment, Prefix         string // the deployment's id, and what every physical name begins with

	BucketARN          string   // evidence bucket
	BucketKeyARN       string   // KMS key of the bucket; never empty
	VolumeKeyARN       string   // KMS key of collectors' disks; "" = the account's own for EBS, which needs no statement
	LaunchTemplateID   string   // of the collector
	CollectorRoleARN   string   // the role that RunInstances passes
	InstanceProfileARN string   // which carries it
	SchedulerRoleARN   string   // the role that CreateSchedule passes
	SigningKeyARN      string   // KMS key that signs manifests; never empty in a role
	WitnessTopicARN    string   // SNS topic that is told of manifests; "" = none
	StepRoleARNs       []string // roles whose rights preflight has IAM simulate
	AssetBucketARN     string   // where CDK puts the collector binaries
	AssetKeys          []string // their object keys there

	VPCs              []string // when not empty: suspects must be in one of these (ARNs of VPCs)
	OptOutTag         string   // a tag key; interfaces that bear it with value "true" are never captured; "" = no such rule
	TemporaryEndpoint bool     // whether captures may make an S3 interface endpoint for themselves
	BreakGlass        []string // ARNs of principals that may change or delete what is otherwise written once; may be patterns
	AutomationRole    bool     // whether the deployment makes the role of its SSM Automation documents
}

// MaxVPCs is how many VPCs a deployment can name at most: launch names each three times, and a role's inline policies have
// 10,240 characters (TestQuotas).
const MaxVPCs = 14

// Queues, by what comes after the prefix.
const (
	IntakeQueue       = "intake.fifo"
	IntakeDeadLetter  = "intake-dlq.fifo"
	WaitingQueue      = "waiting"
	WaitingDeadLetter = "waiting-dlq"
)

// Queues lists every queue of a deployment.
func Queues() []string {
	return []string{IntakeQueue, IntakeDeadLetter, WaitingQueue, WaitingDeadLetter}
}

// arn is the ARN of something of this account in this Region.
func (s Scope) arn(service, resource string) string {
	return strings.Join([]string{"arn", s.Partition, service, s.Region, s.Account, resource}, ":")
}

// FunctionName is the name of a Lambda, such as "intake".
func (s Scope) FunctionName(function string) string { return s.Prefix + "-" + function }

// FunctionARN is the ARN of a Lambda.
func (s Scope) FunctionARN(function string) string {
	return s.arn("lambda", "function:"+s.FunctionName(function))
}

// StateMachineName is the name of the state machine.
func (s Scope) StateMachineName() string { return s.Prefix + "-capture" }

// StateMachineARN is the ARN of the state machine.
func (s Scope) StateMachineARN() string {
	return s.arn("states", "stateMachine:"+s.StateMachineName())
}

// ExecutionARN is the ARN of an execution of the state machine; its name may be a pattern.
func (s Scope) ExecutionARN(execution string) string {
	return s.arn("states", "execution:"+s.StateMachineName()+":"+execution)
}

// QueueName is the name of one of Queues.
func (s Scope) QueueName(queue string) string { return s.Prefix + "-" + queue }

// QueueARN is the ARN of one of Queues.
func (s Scope) QueueARN(queue string) string { return s.arn("sqs", s.QueueName(queue)) }

// TopicName is the name of the topic that people subscribe to.
func (s Scope) TopicName() string { return s.Prefix + "-alerts" }

// TopicARN is the ARN of the topic that people subscribe to.
func (s Scope) TopicARN() string { return s.arn("sns", s.TopicName()) }

// BusName is the name of the event bus.
func (s Scope) BusName() string { return s.Prefix }

// BusARN is the ARN of the event bus.
func (s Scope) BusARN() string { return s.arn("events", "event-bus/"+s.BusName()) }

// RuleName is the name of an event rule.
func (s Scope) RuleName(rule string) string { return s.Prefix + "-" + rule }

// ruleARNs are the patterns of all our rules: those on the default bus and those on our own (EventBridge User Guide,
// "Using resource-based policies", writes the ARN of the latter with the bus before the rule).
func (s Scope) ruleARNs() []string {
	return []string{s.arn("events", "rule/"+s.RuleName("*")), s.arn("events", "rule/"+s.BusName()+"/*")}
}

// ScheduleGroup is the name of the group of all schedules.
func (s Scope) ScheduleGroup() string { return s.Prefix }

// ScheduleGroupARN is the ARN of the group of all schedules.
func (s Scope) ScheduleGroupARN() string {
	return s.arn("scheduler", "schedule-group/"+s.ScheduleGroup())
}

// ScheduleARN is the ARN of a schedule of the group; its name may be a pattern.
func (s Scope) ScheduleARN(schedule string) string {
	return s.arn("scheduler", "schedule/"+s.ScheduleGroup()+"/"+schedule)
}

// LogGroupName is the log group of a Lambda.
func (s Scope) LogGroupName(function string) string {
	return "/aws/lambda/" + s.FunctionName(function)
}

// StateMachineLogGroupName is the log group of the state machine. Below /aws/vendedlogs it does not count against the
// size of the account's log resource policy (Step Functions Developer Guide, "Avoiding CloudWatch resource policy size
// limits").
func (s Scope) StateMachineLogGroupName() string {
	return "/aws/vendedlogs/states/" + s.StateMachineName()
}

// CollectorName is the name of the collector's role and of its instance profile. IAM is global, so the Region is in it.
func (s Scope) CollectorName() string { return s.Prefix + "-collector-" + s.Region }

// Sealers are the functions that close captures. Their roles have fixed names, since policies of what outlives them name them.
var Sealers = []string{"seal", "sweep"}

// SealerName is the name of the role of one of Sealers.
func (s Scope) SealerName(function string) string { return s.Prefix + "-" + function + "-" + s.Region }

// sealers are the ARNs of the roles of all Sealers.
func (s Scope) sealers() []string {
	var arns []string
	for _, function := range Sealers {
		arns = append(arns, "arn:"+s.Partition+":iam::"+s.Account+":role/"+s.SealerName(function))
	}
	return arns
}

// LaunchTemplateName is the name of the collector's launch template.
func (s Scope) LaunchTemplateName() string { return s.Prefix + "-collector" }

// ParameterName is the name of an SSM parameter.
func (s Scope) ParameterName(parameter string) string { return "/" + s.Prefix + "/" + parameter }

// DocumentName is the name of an SSM document.
func (s Scope) DocumentName(document string) string { return s.Prefix + "-" + document }

// ec2ARN is the ARN of EC2 resources of this account in this Region.
func (s Scope) ec2ARN(kind string) string { return s.arn("ec2", kind) }

// launchTemplateARN is the ARN of the collector's launch template.
func (s Scope) launchTemplateARN() string { return s.ec2ARN("launch-template/" + s.LaunchTemplateID) }

// objects are the ARNs of objects of the evidence bucket, by patterns of their keys.
func (s Scope) objects(keys ...string) []string {
	arns := make([]string, len(keys))
	for i, key := range keys {
		arns[i] = s.BucketARN + "/" + key
	}
	return arns
}
