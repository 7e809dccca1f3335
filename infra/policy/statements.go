package policy

import (
	"slices"

	"flashtap/events"
)

// allow is a statement of a role.
func allow(sid string, actions, resources []string, conditions ...Condition) Statement {
	return Statement{Sid: sid, Effect: Allow, Action: actions, Resource: resources, Condition: all(conditions...)}
}

// all demands every one of the conditions.
func all(conditions ...Condition) Condition {
	var merged Condition
	for _, c := range conditions {
		for operator, keys := range c {
			if merged == nil {
				merged = Condition{}
			}
			if merged[operator] == nil {
				merged[operator] = map[string][]string{}
			}
			for key, values := range keys {
				merged[operator][key] = values
			}
		}
	}
	return merged
}

// where compares one key.
func where(operator, key string, values ...string) Condition {
	return Condition{operator: {key: values}}
}

// only restricts a key that has several values, such as one for each event of a call, to some. "For all values" is also
// true of none (IAM User Guide, "Multivalued context keys").
func only(key string, values ...string) Condition {
	return all(where("ForAllValues:StringEquals", key, values...), where("Null", key, "false"))
}

const (
	requestTag  = "aws:RequestTag/" + events.TagDeployment
	resourceTag = "aws:ResourceTag/" + events.TagDeployment
)

// made says that what the call makes bears the deployment's tag from birth.
func (s Scope) made() Condition { return where("StringEquals", requestTag, s.Deployment) }

// ours says that what the call acts on bears the deployment's tag.
func (s Scope) ours() Condition { return where("StringEquals", resourceTag, s.Deployment) }

// Why a Resource is "*": the Service Authorization Reference names no resource type for these actions, and IAM then
// compares with "*" alone.
const (
	describesAll  = "AWS has no resource types for these Describe calls; they tell and change nothing"
	listsAll      = "AWS has no resource type for ListSchedules; it tells names and changes nothing"
	metricsAll    = "AWS has no resource type for GetMetricData; it tells and changes nothing"
	logDeliveries = "AWS has no resource types for log deliveries; the Step Functions Developer Guide (\"Using CloudWatch Logs\") asks for all of these"
	thisKey       = "in a key's own policy \"*\" is that key (KMS Developer Guide, \"Key policies in AWS KMS\")"
)

// describe allows EC2's Describe calls, in the deployment's own Region.
func (s Scope) describe(calls ...string) Statement {
	st := allow("Describe", nil, []string{"*"}, where("StringEquals", "aws:RequestedRegion", s.Region))
	for _, call := range calls {
		st.Action = append(st.Action, "ec2:Describe"+call)
	}
	st.Reason = describesAll
	return st
}

// readMetrics allows what CloudWatch counts to be read.
func (s Scope) readMetrics() Statement {
	st := allow("ReadMetrics", []string{"cloudwatch:GetMetricData"}, []string{"*"}, where("StringEquals", "aws:RequestedRegion", s.Region))
	st.Reason = metricsAll
	return st
}

// listSchedules allows counting the guard schedules.
func (s Scope) listSchedules() Statement {
	st := allow("ListSchedules", []string{"scheduler:ListSchedules"}, []string{"*"}, where("StringEquals", "aws:RequestedRegion", s.Region))
	st.Reason = listsAll
	return st
}

// Names of schedules: a guard's is its interface's id, a session's is the session's (events.GuardScheduleName and
// SessionScheduleName).
const (
	guards   = "eni-*"
	sessions = "tms-*"
)

func (s Scope) readGuards() Statement {
	return allow("ReadGuards", []string{"scheduler:GetSchedule"}, []string{s.ScheduleARN(guards)})
}

// passScheduler lets a schedule have the role that it calls its target with.
func (s Scope) passScheduler() Statement {
	return allow("PassSchedulerRole", []string{"iam:PassRole"}, []string{s.SchedulerRoleARN},
		where("StringEquals", "iam:PassedToService", "scheduler.amazonaws.com"))
}

// logs allows a Lambda to write into its own log group, which the deployment makes. The ARN ends in ":*" because
// CloudWatch Logs compares the streams of the group (CloudWatch Logs User Guide, "Log group and log stream ARNs").
func (s Scope) logs(function string) Statement {
	return allow("Log", []string{"logs:CreateLogStream", "logs:PutLogEvents"},
		[]string{s.arn("logs", "log-group:"+s.LogGroupName(function)+":*")})
}

// records are the object keys of the evidence bucket that a step creates and reads. A pattern's "*" stands for any
// characters, "/" among them; so "captures/*/manifest.json" is also a collector's, which the bucket's own policy denies.
type records struct {
	create []string
	read   []string // beside those it creates, which it compares when they are there already
	list   bool     // lists, or has to tell a record that is not there from one that is refused
}

// anyCapture stands for every capture in a pattern of keys.
const anyCapture = events.CaptureID("*")

// custody are the records of an actor's acts.
func custody(actor string) string { return events.CustodyKey(anyCapture, actor, "*") }

// evidence allows to work on records, and nothing that would change or delete one.
func (s Scope) evidence(r records) []Statement {
	var list []Statement
	if len(r.create) > 0 {
		list = append(list, allow("CreateEvidence", []string{"s3:PutObject"}, s.objects(r.create...), createOnly))
	}
	list = append(list, allow("ReadEvidence", []string{"s3:GetObject"}, s.objects(slices.Concat(r.create, r.read)...)))
	if r.list {
		// Without it S3 answers 403 for a key that does not exist, instead of 404 (Amazon S3 API Reference, GetObject);
		// a condition on s3:prefix would do the same, since a read has no prefix.
		list = append(list, allow("ListEvidence", []string{"s3:ListBucket"}, []string{s.BucketARN}))
	}
	return append(list, s.useKey("kms:Decrypt", "kms:GenerateDataKey"))
}

// createOnly demands that a PUT carry If-None-Match, whose only value is "*": it never overwrites.
var createOnly = where("Null", "s3:if-none-match", "false")

// useKey allows the bucket's key, only through S3 and only for this bucket: with bucket keys the encryption context is
// the bucket's ARN (Amazon S3 User Guide, "Reducing the cost of SSE-KMS with Amazon S3 Bucket Keys"). For the same reason
// KMS cannot tell one object from another; the statements about objects do.
func (s Scope) useKey(actions ...string) Statement {
	return allow("UseBucketKey", actions, []string{s.BucketKeyARN},
		where("StringEquals", "kms:ViaService", s.viaS3()),
		where("StringEquals", "kms:EncryptionContext:aws:s3:arn", s.BucketARN))
}

// useVolumeKey lets EC2 encrypt a collector's disk by the customer's key, in the name of the role that runs the instance, and the
// role do nothing with it by itself. The actions, and that grants be only for AWS's own resources, are those of the Amazon EBS
// User Guide ("Requirements for Amazon EBS encryption", "Permissions for users"), whose kms:ReEncrypt is authorized as these two
// (AWS KMS API Reference, ReEncrypt); for KMS, EBS is ec2 (AWS KMS Developer Guide, "kms:ViaService"). The instance works by
// the grant. AWS's own key for EBS needs no statement.
func (s Scope) useVolumeKey() []Statement {
	if s.VolumeKeyARN == "" {
		return nil
	}
	key, viaEC2 := []string{s.VolumeKeyARN}, where("StringEquals", "kms:ViaService", "ec2."+s.Region+".amazonaws.com")
	return []Statement{
		allow("UseVolumeKey",
			[]string{"kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo"}, key, viaEC2),
		allow("GrantVolumeKey", []string{"kms:CreateGrant"}, key, viaEC2, where("Bool", "kms:GrantIsForAWSResource", "true")),
	}
}

func (s Scope) viaS3() string { return "s3." + s.Region + ".amazonaws.com" }
