package policy

import (
	"slices"

	"flashtap/events"
)

// intake reads the queue and starts captures.
func intake(s Scope) []Statement {
	return slices.Concat(
		s.evidence(records{create: []string{events.FindingKey(anyCapture), events.JoinedKey(anyCapture, "*"), custody("intake")}}),
		[]Statement{
			// What an event source mapping needs (AWS Lambda Developer Guide, "Using Lambda with Amazon SQS").
			allow("TakeEvents", []string{"sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"}, []string{s.QueueARN(IntakeQueue)}),
			allow("Defer", []string{"sqs:SendMessage"}, []string{s.QueueARN(WaitingQueue)}),
			allow("StartCaptures", []string{"states:ListExecutions", "states:StartExecution"}, []string{s.StateMachineARN()}),
			s.readGuards(), s.listSchedules(), s.describe("NetworkInterfaces"),
		})
}

// preflight decides and touches nothing.
func preflight(s Scope) []Statement {
	return append(
		s.evidence(records{create: []string{events.PlanKey(anyCapture)}, read: []string{events.FindingKey(anyCapture)}, list: true}),
		s.survey()...)
}

// survey is what a plan is made of, for whoever makes it.
func (s Scope) survey() []Statement {
	keys := []string{s.BucketKeyARN}
	if s.VolumeKeyARN != "" {
		keys = append(keys, s.VolumeKeyARN)
	}
	list := []Statement{
		s.describe("InstanceTypeOfferings", "InstanceTypes", "Instances", "ManagedPrefixLists", "NatGateways", "NetworkAcls", "NetworkInterfaces",
			"RouteTables", "SecurityGroups", "Subnets", "TrafficMirrorFilters", "TrafficMirrorSessions", "TrafficMirrorTargets", "VpcEndpoints"),
		allow("DescribeSuspectsVPC", []string{"ec2:DescribeVpcAttribute"}, s.vpcs()),
		s.readMetrics(),
		// Running On-Demand Standard vCPUs, and security groups of the Region.
		allow("ReadQuotas", []string{"servicequotas:GetServiceQuota"},
			[]string{s.arn("servicequotas", "ec2/L-1216C47A"), s.arn("servicequotas", "vpc/L-E79EC296")}),
		allow("DescribeKeys", []string{"kms:DescribeKey"}, keys),
	}
	if len(s.StepRoleARNs) > 0 {
		list = append(list, allow("SimulateSteps", []string{"iam:SimulatePrincipalPolicy"}, s.StepRoleARNs))
	}
	return list
}

// guard makes the schedule that is guard and lock.
func guard(s Scope) []Statement {
	return append(
		s.evidence(records{create: []string{custody("guard")}, read: []string{events.PlanKey(anyCapture)}}),
		allow("MakeGuards", []string{"scheduler:CreateSchedule"}, []string{s.ScheduleARN(guards)}),
		s.readGuards(), s.passScheduler())
}

// launch makes the collector: a security group and an instance, and where the deployment allows it a way to S3.
func launch(s Scope) []Statement {
	template := where("ArnEquals", "ec2:LaunchTemplate", s.launchTemplateARN())
	describes := []string{"Instances", "SecurityGroups"}
	made, inVPC, inGroup := []string{"instance/*", "network-interface/*", "security-group/*", "volume/*"}, []string{"ec2:CreateSecurityGroup"},
		[]string{"ec2:AuthorizeSecurityGroupEgress", "ec2:AuthorizeSecurityGroupIngress", "ec2:RevokeSecurityGroupEgress"}
	births := []string{"CreateSecurityGroup", "RunInstances"}
	if s.TemporaryEndpoint { // the call shares statements with others, since a role's policies have few characters
		describes, births, made = append(describes, "NetworkInterfaces", "VpcEndpoints"), append(births, "CreateVpcEndpoint"), append(made, "vpc-endpoint/*")
		inVPC, inGroup = append(inVPC, makeEndpoint), append(inGroup, makeEndpoint)
	}
	list := append(
		s.evidence(records{create: []string{custody("launch")}, read: []string{events.PlanKey(anyCapture)}, list: true}),
		s.describe(describes...),

		allow("MakeSecurityGroup", []string{"ec2:CreateSecurityGroup"}, []string{s.ec2ARN("security-group/*")}, s.made()),
		allow("MakeInVPC", inVPC, s.vpcs()),
		allow("RuleSecurityGroup", inGroup, []string{s.ec2ARN("security-group/*")}, s.ours()),

		// One statement for each part that the call names: what it makes, what is ours, and what is the account's. A tag in
		// the request never matches a part that is there already, so one statement for all would silently deny.
		allow("RunInstance", []string{"ec2:RunInstances"}, []string{s.ec2ARN("instance/*")}, s.made(), template,
			where("StringEquals", "ec2:MetadataHttpTokens", "required"),
			where("ArnEquals", "ec2:InstanceProfile", s.InstanceProfileARN)),
		allow("RunInstanceVolume", []string{"ec2:RunInstances"}, []string{s.ec2ARN("volume/*")}, s.made(), template,
			where("Bool", "ec2:Encrypted", "true")),
		allow("RunInstanceInterface", []string{"ec2:RunInstances"}, []string{s.ec2ARN("network-interface/*")}, s.made(), template,
			where("Bool", "ec2:AssociatePublicIpAddress", "false"), s.inVPCs()),
		allow("RunInstanceInGroup", []string{"ec2:RunInstances"}, []string{s.ec2ARN("security-group/*")}, s.ours(), template),
		allow("RunInstanceInSubnet", []string{"ec2:RunInstances"}, []string{s.ec2ARN("subnet/*")}, template, s.inVPCs()),
		allow("RunInstanceOfImage", []string{"ec2:RunInstances"}, []string{"arn:" + s.Partition + ":ec2:" + s.Region + "::image/*"}, template,
			where("StringEquals", "ec2:Owner", "amazon")),
		allow("RunInstanceByTemplate", []string{"ec2:RunInstances"}, []string{s.launchTemplateARN()}),
		allow("PassCollectorRole", []string{"iam:PassRole"}, []string{s.CollectorRoleARN},
			where("StringEquals", "iam:PassedToService", "ec2.amazonaws.com")),

		s.tagAtBirth(births, made...))
	return slices.Concat(list, s.endpoint(), s.useVolumeKey())
}

const makeEndpoint = "ec2:CreateVpcEndpoint"

// endpoint allows an interface endpoint of S3. The subnet has no key for its VPC in this call, but AWS demands that it be in
// the endpoint's.
func (s Scope) endpoint() []Statement {
	if !s.TemporaryEndpoint {
		return nil
	}
	return []Statement{
		allow("MakeEndpoint", []string{makeEndpoint}, []string{s.ec2ARN("vpc-endpoint/*")}, s.made(),
			where("StringEquals", "ec2:VpceServiceName", "com.amazonaws."+s.Region+".s3")),
		allow("MakeEndpointInSubnet", []string{makeEndpoint}, []string{s.ec2ARN("subnet/*")}),
	}
}

// mirror makes target, filter and session, and the schedule that ends the session.
func mirror(s Scope) []Statement {
	optedOut := Condition(nil)
	if s.OptOutTag != "" {
		optedOut = where("StringNotEquals", "aws:ResourceTag/"+s.OptOutTag, "true") // no such tag is not equal either
	}
	target, filter := []string{s.ec2ARN("traffic-mirror-target/*")}, []string{s.ec2ARN("traffic-mirror-filter/*")}
	return append(
		s.evidence(records{create: []string{custody("mirror")}, read: []string{events.PlanKey(anyCapture)}}),
		s.describe("Instances"),

		allow("MakeTarget", []string{"ec2:CreateTrafficMirrorTarget"}, target, s.made()),
		allow("MakeTargetOfCollector", []string{"ec2:CreateTrafficMirrorTarget"}, []string{s.ec2ARN("network-interface/*")}, s.ours()),
		allow("MakeFilter", []string{"ec2:CreateTrafficMirrorFilter"}, filter, s.made()),
		allow("ChangeFilter", []string{"ec2:CreateTrafficMirrorFilterRule", "ec2:ModifyTrafficMirrorFilterNetworkServices"}, filter, s.ours()),
		allow("MakeFilterRule", []string{"ec2:CreateTrafficMirrorFilterRule"}, []string{s.ec2ARN("traffic-mirror-filter-rule/*")}, s.made()),
		allow("MakeSession", []string{"ec2:CreateTrafficMirrorSession"}, []string{s.ec2ARN("traffic-mirror-session/*")}, s.made()),
		allow("MakeSessionOfOurs", []string{"ec2:CreateTrafficMirrorSession"}, slices.Concat(filter, target), s.ours()),
		allow("MakeSessionOnSuspect", []string{"ec2:CreateTrafficMirrorSession"}, []string{s.ec2ARN("network-interface/*")}, s.inVPCs(), optedOut),
		s.tagAtBirth([]string{
			"CreateTrafficMirrorFilter", "CreateTrafficMirrorFilterRule", "CreateTrafficMirrorSession", "CreateTrafficMirrorTarget",
		}, "traffic-mirror-filter-rule/*", "traffic-mirror-filter/*", "traffic-mirror-session/*", "traffic-mirror-target/*"),

		allow("ScheduleSessionsEnd", []string{"scheduler:CreateSchedule"}, []string{s.ScheduleARN(sessions)}),
		s.passScheduler())
}

// watch looks at a running capture, asks its collector to end, and says why no packet comes. All that it can mend is a rule
// of the collector's group.
func watch(s Scope) []Statement {
	return append(
		s.evidence(records{create: []string{custody("watch"), events.ConsoleKey(anyCapture, "*")}, list: true, read: []string{
			events.PlanKey(anyCapture), events.CheckpointsPrefix(anyCapture, "*") + "*", events.CollectorManifestKey(anyCapture, "*"),
		}}),
		s.describe("Instances", "NetworkAcls", "NetworkInterfaces", "RouteTables", "SecurityGroups", "TrafficMirrorFilters", "TrafficMirrorSessions"),
		s.readMetrics(),
		allow("ReadConsole", []string{"ec2:GetConsoleOutput"}, []string{s.ec2ARN("instance/*")}, s.ours()),
		allow("MendSecurityGroup", []string{"ec2:AuthorizeSecurityGroupIngress"}, []string{s.ec2ARN("security-group/*")}, s.ours()),
		s.readGuards(), s.askToStop())
}

// askToStop allows the stop tag, and no other, on collectors of ours: nothing else ever reaches a running one.
func (s Scope) askToStop() Statement {
	return allow("AskCollectorToStop", []string{"ec2:CreateTags"}, []string{s.ec2ARN("instance/*")}, s.ours(), only("aws:TagKeys", events.TagStop))
}

// teardown removes what was made for one capture.
func teardown(s Scope) []Statement {
	return slices.Concat(
		s.evidence(records{create: []string{events.CertificatesPrefix(anyCapture) + "*"}, read: []string{events.PlanKey(anyCapture)}, list: true}),
		s.removal())
}

// removal is what the one remover needs, for whomever it works.
func (s Scope) removal() []Statement {
	remove := func(sid, action, kind string, conditions ...Condition) Statement {
		return allow(sid, []string{"ec2:" + action}, []string{s.ec2ARN(kind + "/*")}, append(conditions, s.ours())...)
	}
	return []Statement{
		s.describe("Instances", "NetworkInterfaces", "SecurityGroups", "TrafficMirrorFilters", "TrafficMirrorSessions", "TrafficMirrorTargets",
			"VpcEndpoints"),
		remove("RemoveSession", "DeleteTrafficMirrorSession", "traffic-mirror-session"),
		remove("RemoveTarget", "DeleteTrafficMirrorTarget", "traffic-mirror-target"),
		remove("RemoveFilter", "DeleteTrafficMirrorFilter", "traffic-mirror-filter"),
		// The tag alone is never proof enough: whoever may tag instances could have ours end them.
		remove("RemoveInstance", "TerminateInstances", "instance", where("ArnEquals", "ec2:InstanceProfile", s.InstanceProfileARN)),
		remove("RemoveInterface", "DeleteNetworkInterface", "network-interface"),
		remove("RemoveEndpoint", "DeleteVpcEndpoints", "vpc-endpoint"),
		remove("RemoveSecurityGroup", "DeleteSecurityGroup", "security-group"),
		s.listSchedules(),
		allow("ReadSchedules", []string{"scheduler:GetSchedule"}, []string{s.ScheduleARN("*")}),
		allow("RemoveSchedules", []string{"scheduler:DeleteSchedule"}, []string{s.ScheduleARN(guards), s.ScheduleARN(sessions)}),
	}
}

// sealing are the records of who closes a capture: everything is read, and what closes it is made.
func sealing() records {
	return records{
		create: []string{
			events.CustodyLogKey(anyCapture), events.PublicKeyKey(anyCapture), events.TreeKey(anyCapture), events.TreeSignatureKey(anyCapture),
			events.ManifestKey(anyCapture), events.ManifestSignatureKey(anyCapture),
		},
		read: []string{events.CapturePrefix(anyCapture) + "*"}, list: true,
	}
}

// seal closes captures.
func seal(s Scope) []Statement { return append(s.evidence(sealing()), s.sign()...) }

// sign allows to sign digests, to tell the witness, and to hold what was asked to be held.
func (s Scope) sign() []Statement {
	list := []Statement{
		allow("HoldEvidence", []string{hold}, s.objects(events.CapturesPrefix()+"*"), where("StringEquals", holdStatus, "ON")),
		allow("Sign", []string{"kms:Sign"}, []string{s.SigningKeyARN}, onlyDigests),
		allow("ReadSigningKey", []string{"kms:GetPublicKey"}, []string{s.SigningKeyARN}),
	}
	if s.WitnessTopicARN != "" {
		list = append(list, allow("TellWitness", []string{"sns:Publish"}, []string{s.WitnessTopicARN}))
	}
	return list
}

// sweep removes orphans, seals what nobody sealed, and lets waiting findings in.
func sweep(s Scope) []Statement {
	r := sealing()
	r.create = append(r.create, events.CertificatesPrefix(anyCapture)+"*", events.AddendaPrefix(anyCapture)+"*")
	return slices.Concat(s.evidence(r), s.sign(), s.removal(), []Statement{
		s.readMetrics(),
		allow("SeeExecutions", []string{"states:DescribeExecution"}, []string{s.ExecutionARN("*")}),
		allow("TakeWaiting", []string{"sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:ReceiveMessage"}, []string{s.QueueARN(WaitingQueue)}),
		allow("Readmit", []string{"sqs:SendMessage"}, []string{s.QueueARN(IntakeQueue)}),
		s.publish(),
	})
}

// tools are the keys of the collector's program in the evidence bucket; a digest ends each.
const tools = "tools/collector-*"

// setup serves CloudFormation: it copies the collector's program and makes Security Hub's custom action.
func setup(s Scope) []Statement {
	var assets []string
	for _, key := range s.AssetKeys {
		assets = append(assets, s.AssetBucketARN+"/"+key)
	}
	return []Statement{
		allow("ReadProgram", []string{"s3:GetObject"}, assets),
		allow("StoreProgram", []string{"s3:PutObject"}, s.objects(tools), createOnly),
		allow("CompareProgram", []string{"s3:GetObject"}, s.objects(tools)),
		s.useKey("kms:Decrypt", "kms:GenerateDataKey"),
		allow("CustomAction",
			[]string{"securityhub:CreateActionTarget", "securityhub:DeleteActionTarget", "securityhub:DescribeActionTargets", "securityhub:UpdateActionTarget"},
			[]string{s.arn("securityhub", "hub/default")}),
	}
}

// tagAtBirth allows tags in the calls that make the resources, and in no other (Amazon EC2 User Guide, "Grant
// permission to tag Amazon EC2 resources during creation").
func (s Scope) tagAtBirth(calls []string, kinds ...string) Statement {
	arns := make([]string, len(kinds))
	for i, kind := range kinds {
		arns[i] = s.ec2ARN(kind)
	}
	return allow("TagAtBirth", []string{"ec2:CreateTags"}, arns, s.made(), where("StringEquals", "ec2:CreateAction", calls...))
}

// vpcs are the VPCs in which suspects may be: those that the deployment names, or all.
func (s Scope) vpcs() []string {
	if len(s.VPCs) > 0 {
		return s.VPCs
	}
	return []string{s.ec2ARN("vpc/*")}
}

// inVPCs restricts what lies in a VPC to those that the deployment names, if it names any.
func (s Scope) inVPCs() Condition {
	if len(s.VPCs) == 0 {
		return nil
	}
	return where("ArnEquals", "ec2:Vpc", s.VPCs...)
}

// publish allows events of ours on our bus.
func (s Scope) publish() Statement {
	return allow("Publish", []string{"events:PutEvents"}, []string{s.BusARN()}, only("events:source", events.RequestSource))
}
