package deployment_test

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"flashtap/events"
	"flashtap/infra/policy"
	"flashtap/testutil/iam"
)

// leastForbidden is how many forbidden calls of each role must be tried.
const leastForbidden = 30

// How the names of calls begin that are not a role's own with one aspect changed.
const othersDo, nobodyDoes = "what only others do: ", "what nobody does: "

// forbidden is a call that must be denied: at least one of its requests is.
type forbidden struct {
	role, name string
	requests   []iam.Request
}

// allForbidden tries, for each role: its own calls with one aspect changed, the calls that only other roles make, and what
// nobody may do.
func (w *account) allForbidden(t *testing.T) {
	count, kinds := map[string]int{}, map[string]map[string]int{}
	for _, f := range w.forbidden() {
		count[f.role]++
		kind, _, _ := strings.Cut(f.name, ":")
		if kinds[f.role] == nil {
			kinds[f.role] = map[string]int{}
		}
		kinds[f.role][kind]++
		if !slices.ContainsFunc(f.requests, func(r iam.Request) bool { return w.decide(t, f.role, r).Decision != iam.Allowed }) {
			r := f.requests[0]
			t.Errorf("%s may do what is forbidden: %s\n%s on %s is %s", f.role, f.name, r.Action, r.Resource, w.decide(t, f.role, r))
		}
	}
	for _, role := range policy.Roles() {
		t.Logf("%-10s %3d forbidden calls are denied: %v", role.Name, count[role.Name], kinds[role.Name])
		if count[role.Name] < leastForbidden {
			t.Errorf("only %d forbidden calls of %s were tried, not %d", count[role.Name], role.Name, leastForbidden)
		}
	}
}

func (w *account) forbidden() []forbidden {
	var list []forbidden
	seen := map[string]bool{}
	add := func(f forbidden) {
		if len(f.requests) > 0 && !seen[f.role+f.name] {
			seen[f.role+f.name] = true
			list = append(list, f)
		}
	}
	for _, m := range w.made {
		if m.role == "" {
			continue
		}
		for _, c := range w.changes() {
			add(forbidden{m.role, c.name + ": " + m.kind(), w.change(m, c)})
		}
	}
	for _, f := range w.othersCalls() {
		add(f)
	}
	for _, role := range policy.Roles() {
		for _, n := range w.nobody() {
			if !slices.Contains(n.but, role.Name) {
				add(forbidden{role.Name, nobodyDoes + n.action + " on " + class(n.resource), []iam.Request{w.request(role.Name, n.action, n.resource, n.keys)}})
			}
		}
	}
	return list
}

// kind names the sort of call, with the ids taken out.
func (m made) kind() string { return m.what + " " + class(m.requests[0].Resource) }

var ids = []struct {
	pattern *regexp.Regexp
	name    string
}{
	{regexp.MustCompile(`\d{8}T\d{6}Z-eni-[0-9a-f]+`), "CAPTURE"},
	{regexp.MustCompile(`AROA[A-Z0-9]+:i-[0-9a-f]+`), "USER"},
	{regexp.MustCompile(`\b([a-z]{1,6})-[0-9a-f]{8,17}\b`), "$1-ID"},
	{regexp.MustCompile(`\bcollector-(arm64|x86_64)\b`), "collector-ARCH"}, // which one, the plan decides
	{regexp.MustCompile(`\d{6}-[0-9a-f]{64}`), "N-DIGEST"},
	{regexp.MustCompile(`[0-9a-f]{16,64}`), "DIGEST"},
	{regexp.MustCompile(`/\d{6}\.`), "/N."},
}

// class is an ARN without what differs from capture to capture.
func class(arn string) string {
	for _, id := range ids {
		arn = id.pattern.ReplaceAllString(arn, id.name)
	}
	return arn
}

// removers are the roles of the one remover: whichever comes first removes a thing, so either may have made a call.
var removers = []string{"teardown", "sweep"}

// othersCalls are the calls that other roles make and the role itself never does, made by it.
func (w *account) othersCalls() []forbidden {
	own := map[string]bool{} // role, action and class of the resource
	kinds := map[string]made{}
	for _, m := range w.made {
		if m.role == "" || m.role == operator {
			continue
		}
		kinds[m.kind()] = m
		for _, r := range m.requests {
			roles := []string{m.role}
			if slices.Contains(removers, m.role) {
				roles = removers
			}
			for _, role := range roles {
				own[role+r.Action+class(r.Resource)] = true
			}
		}
	}
	var list []forbidden
	for _, role := range policy.Roles() {
		for _, kind := range slices.Sorted(maps.Keys(kinds)) {
			var requests []iam.Request
			foreign := false
			for _, r := range kinds[kind].requests {
				by := w.caller(role.Name, otherInstance)
				foreign = foreign || !own[role.Name+r.Action+class(r.Resource)] && !shared(own, role.Name, r)
				r.Principal, r.Context = by.Principal, maps.Clone(r.Context)
				r.Context["aws:PrincipalArn"], r.Context["aws:userid"] = []string{by.ARN}, []string{by.UserID}
				requests = append(requests, r)
			}
			if foreign {
				list = append(list, forbidden{role.Name, othersDo + kind, requests})
			}
		}
	}
	return list
}

// shared says whether a role may ask what it did not happen to ask in the scene.
func shared(own map[string]bool, role string, r iam.Request) bool {
	switch {
	case role == "sweep" && r.Action == "states:DescribeExecution": // whatever started it
		return true
	case r.Action == "s3:PutObjectLegalHold": // whoever closes a capture holds all of it
		return slices.Contains(policy.Sealers, role) && strings.Contains(r.Resource, "/captures/")
	case r.Action != "s3:GetObject":
		return false
	case role == "seal" || role == "sweep": // whoever closes a capture reads all of it
		return strings.Contains(r.Resource, "/captures/")
	}
	return own[role+"s3:PutObject"+class(r.Resource)] && role != "collector" // a record that is there already is compared
}

// prohibition is something that no role may do, with the roles that it does not hold for.
type prohibition struct {
	action, resource string
	keys             iam.Context
	but              []string
}

// nobody is what no role may do, whatever it calls for itself.
func (w *account) nobody() []prohibition {
	s := w.scope
	arn := func(service, rest string) string {
		return "arn:aws:" + service + ":" + s.Region + ":" + s.Account + ":" + rest
	}
	global := "arn:aws:iam::" + s.Account + ":"
	const capture, instance, eni = "20261126T000000Z-eni-0aaaaaaaaaaaaaaaa", "i-0eeeeeeeeeeeeeeee", "eni-0eeeeeeeeeeeeeeee"
	segment := s.BucketARN + "/captures/" + capture + "/collectors/AROAX:i-0ffffffffffffffff/segments/000001-" + strings.Repeat("a", 64) + ".pcap"
	ours := iam.Context{"aws:ResourceTag/" + events.TagDeployment: {s.Deployment}, "ec2:ResourceTag/" + events.TagDeployment: {s.Deployment}}
	tagged := func(more iam.Context) iam.Context {
		c := maps.Clone(ours)
		maps.Copy(c, more)
		return c
	}
	create := iam.Context{"s3:if-none-match": {"*"}}
	var list []prohibition
	on := func(resource string, keys iam.Context, actions string) {
		for _, action := range strings.Fields(actions) {
			list = append(list, prohibition{action: action, resource: resource, keys: keys})
		}
	}
	// Evidence is neither changed nor hidden, and its bucket stays as it is.
	on(segment, nil, "s3:DeleteObject s3:DeleteObjectVersion s3:PutObjectRetention s3:PutObjectLegalHold s3:BypassGovernanceRetention "+
		"s3:PutObjectAcl s3:PutObjectTagging s3:RestoreObject s3:ReplicateDelete s3:PutObject")
	on(segment, create, "s3:PutObject")
	on(s.BucketARN+"/secrets/key", create, "s3:PutObject")
	on(s.BucketARN+"/secrets/key", nil, "s3:GetObject")
	on(s.BucketARN, nil, "s3:DeleteBucket s3:PutBucketPolicy s3:DeleteBucketPolicy s3:PutBucketObjectLockConfiguration s3:PutLifecycleConfiguration "+
		"s3:PutBucketVersioning s3:PutEncryptionConfiguration s3:PutReplicationConfiguration s3:PutBucketPublicAccessBlock s3:PutBucketOwnershipControls "+
		"s3:PutBucketLogging s3:PutBucketNotification s3:ListBucketVersions")
	on("arn:aws:s3:::customer-data/file", nil, "s3:GetObject s3:PutObject s3:DeleteObject")
	on("arn:aws:s3:::customer-data", nil, "s3:ListBucket")
	// Keys are neither used for anything else nor ended.
	on(s.BucketKeyARN, nil, "kms:Decrypt kms:Encrypt kms:GenerateDataKey kms:ReEncryptFrom kms:CreateGrant kms:PutKeyPolicy kms:DisableKey kms:ScheduleKeyDeletion")
	on(otherKey(s), nil, "kms:Decrypt kms:Sign")
	on(s.SigningKeyARN, nil, "kms:Sign kms:PutKeyPolicy kms:DisableKey kms:ScheduleKeyDeletion")
	digest := iam.Context{"kms:CallerAccount": {s.Account}, "kms:SigningAlgorithm": {"ECDSA_SHA_256"}, "kms:MessageType": {"DIGEST"}}
	list = append(list, prohibition{"kms:Sign", s.SigningKeyARN, digest, policy.Sealers},
		prohibition{"s3:PutObjectLegalHold", segment, iam.Context{"s3:object-lock-legal-hold": {"ON"}}, policy.Sealers})
	on(segment, iam.Context{"s3:object-lock-legal-hold": {"OFF"}}, "s3:PutObjectLegalHold")
	// What is the customer's stays the customer's, also when a tag of ours is all that is missing.
	on(arn("ec2", "instance/"+instance), nil, "ec2:TerminateInstances ec2:StopInstances ec2:RebootInstances ec2:ModifyInstanceAttribute ec2:CreateTags ec2:DeleteTags ec2:GetPasswordData ec2:GetConsoleOutput")
	on(arn("ec2", "instance/"+instance), tagged(iam.Context{"ec2:InstanceProfile": {global + "instance-profile/customer"}}), "ec2:TerminateInstances")
	on(arn("ec2", "instance/"+instance), ours, "ec2:DeleteTags ec2:StopInstances ec2:ModifyInstanceAttribute ec2:AssociateIamInstanceProfile")
	on(arn("ec2", "network-interface/"+eni), nil, "ec2:DeleteNetworkInterface ec2:CreateTags ec2:CreateTrafficMirrorTarget ec2:ModifyNetworkInterfaceAttribute ec2:AttachNetworkInterface")
	on(arn("ec2", "traffic-mirror-session/tms-0eeeeeeeeeeeeeeee"), nil, "ec2:DeleteTrafficMirrorSession ec2:ModifyTrafficMirrorSession ec2:CreateTags")
	on(arn("ec2", "traffic-mirror-session/tms-0eeeeeeeeeeeeeeee"), ours, "ec2:ModifyTrafficMirrorSession ec2:DeleteTags")
	on(arn("ec2", "traffic-mirror-filter/tmf-0eeeeeeeeeeeeeeee"), nil, "ec2:DeleteTrafficMirrorFilter")
	on(arn("ec2", "traffic-mirror-target/tmt-0eeeeeeeeeeeeeeee"), nil, "ec2:DeleteTrafficMirrorTarget")
	on(arn("ec2", "security-group/sg-0eeeeeeeeeeeeeeee"), nil, "ec2:DeleteSecurityGroup ec2:AuthorizeSecurityGroupIngress ec2:AuthorizeSecurityGroupEgress ec2:RevokeSecurityGroupEgress")
	on(arn("ec2", "security-group/sg-0eeeeeeeeeeeeeeee"), ours, "ec2:RevokeSecurityGroupIngress")
	on(arn("ec2", "vpc/vpc-0eeeeeeeeeeeeeeee"), nil, "ec2:ModifyVpcAttribute ec2:DeleteVpc")
	on(arn("ec2", "route-table/rtb-0eeeeeeeeeeeeeeee"), nil, "ec2:CreateRoute ec2:ReplaceRoute ec2:DeleteRoute")
	on(arn("ec2", "vpc-endpoint/vpce-0eeeeeeeeeeeeeeee"), nil, "ec2:ModifyVpcEndpoint ec2:DeleteVpcEndpoints")
	on(arn("ec2", "volume/vol-0eeeeeeeeeeeeeeee"), nil, "ec2:CreateSnapshot")
	on(arn("ec2", "launch-template/"+s.LaunchTemplateID), nil, "ec2:ModifyLaunchTemplate ec2:CreateLaunchTemplateVersion ec2:DeleteLaunchTemplate")
	on(arn("ec2", "traffic-mirror-session/*"), iam.Context{"aws:RequestTag/" + events.TagDeployment: {"other"}, "aws:TagKeys": {events.TagDeployment}}, "ec2:CreateTrafficMirrorSession")
	// Nobody makes itself, or anything of ours, stronger.
	on(s.CollectorRoleARN, nil, "iam:PutRolePolicy iam:AttachRolePolicy iam:UpdateAssumeRolePolicy sts:AssumeRole iam:PassRole")
	on(global+"role/Admin", iam.Context{"iam:PassedToService": {"ec2.amazonaws.com"}}, "iam:PassRole")
	on(global+"role/Admin", nil, "sts:AssumeRole")
	on(global+"role/new", nil, "iam:CreateRole")
	for _, f := range []string{"setup", "intake"} {
		on(s.FunctionARN(f), nil, "lambda:InvokeFunction lambda:UpdateFunctionCode lambda:UpdateFunctionConfiguration lambda:AddPermission lambda:DeleteFunction")
	}
	on(arn("lambda", "function:customer"), nil, "lambda:InvokeFunction")
	on(s.StateMachineARN(), nil, "states:UpdateStateMachine states:DeleteStateMachine")
	on(s.ExecutionARN(capture), nil, "states:StopExecution states:GetExecutionHistory")
	on(arn("states", "stateMachine:customer"), nil, "states:StartExecution")
	on(s.ScheduleARN("eni-0eeeeeeeeeeeeeeee"), nil, "scheduler:UpdateSchedule")
	on(s.ScheduleARN("sweep"), nil, "scheduler:UpdateSchedule scheduler:DeleteSchedule scheduler:CreateSchedule")
	on(arn("scheduler", "schedule/default/customer"), nil, "scheduler:GetSchedule scheduler:CreateSchedule scheduler:UpdateSchedule scheduler:DeleteSchedule")
	on(s.ScheduleGroupARN(), nil, "scheduler:DeleteScheduleGroup")
	on(s.QueueARN(policy.IntakeQueue), nil, "sqs:PurgeQueue sqs:DeleteQueue sqs:SetQueueAttributes")
	on(s.QueueARN(policy.IntakeDeadLetter), nil, "sqs:ReceiveMessage sqs:DeleteMessage")
	on(arn("sqs", "customer"), nil, "sqs:SendMessage sqs:ReceiveMessage")
	on(arn("events", "event-bus/default"), iam.Context{"events:source": {events.RequestSource}}, "events:PutEvents")
	on(s.BusARN(), iam.Context{"events:source": {"aws.guardduty"}}, "events:PutEvents")
	on(arn("events", "rule/"+s.RuleName("guardduty")), nil, "events:PutRule events:DeleteRule events:RemoveTargets events:DisableRule")
	on(s.TopicARN(), nil, "sns:Subscribe sns:DeleteTopic")
	// Logs are written, in one's own group, and never removed.
	on(arn("logs", "log-group:/aws/lambda/customer:log-stream:a"), nil, "logs:PutLogEvents logs:GetLogEvents")
	on(arn("logs", "log-group:"+s.LogGroupName("intake")+":*"), nil, "logs:DeleteLogGroup logs:PutRetentionPolicy")
	// What the account keeps elsewhere.
	on(arn("secretsmanager", "secret:customer-abcdef"), nil, "secretsmanager:GetSecretValue")
	on(arn("ssm", "parameter/customer"), nil, "ssm:GetParameter ssm:PutParameter")
	on(arn("ec2", "instance/"+instance), nil, "ssm:SendCommand ssm:StartSession")
	on(arn("guardduty", "detector/1"), nil, "guardduty:UpdateDetector guardduty:ArchiveFindings")
	on(arn("cloudtrail", "trail/all"), nil, "cloudtrail:StopLogging cloudtrail:DeleteTrail")
	return list
}
