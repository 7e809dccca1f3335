package authorization

import "testing"

func TestOverlaps(t *testing.T) {
	const (
		bucket   = "arn:${Partition}:s3:::${BucketName}"
		object   = "arn:${Partition}:s3:::${BucketName}/${ObjectName}"
		instance = "arn:${Partition}:ec2:${Region}:${Account}:instance/${InstanceId}"
		image    = "arn:${Partition}:ec2:${Region}::image/${ImageId}"
		group    = "arn:${Partition}:logs:${Region}:${Account}:log-group:${LogGroupName}"
		stream   = "arn:${Partition}:logs:${Region}:${Account}:log-group:${LogGroupName}:log-stream:${LogStreamName}"
		schedule = "arn:${Partition}:scheduler:${Region}:${Account}:schedule/${GroupName}/${ScheduleName}"
		queue    = "arn:${Partition}:sqs:${Region}:${Account}:${QueueName}"
	)
	for _, row := range []struct {
		resource, template string
		want               bool
	}{
		{"arn:aws:s3:::b", bucket, true},
		{"arn:aws:s3:::b", object, false},
		{"arn:aws:s3:::b/*", object, true},
		{"arn:aws:s3:::b/*", bucket, false},
		{"arn:aws:s3:::b*", bucket, true},
		{"arn:aws:s3:::b*", object, true}, // "*" may stand for a "/"
		{"arn:aws:s3:::b/captures/*/collectors/${aws:userid}/*", object, true},
		{"arn:aws:s3:::b/captures/????/plan.json", object, true},
		{"arn:aws:ec2:eu-central-1:111122223333:instance/*", instance, true},
		{"arn:aws:ec2:*:*:instance/i-1", instance, true},
		{"arn:aws:ec2:eu-central-1:111122223333:instances/*", instance, false},
		{"arn:aws:ec2:eu-central-1:111122223333:instance", instance, false},
		{"arn:aws:ec2:eu-central-1:111122223333:*", instance, true},
		{"arn:aws:ec2:eu-central-1::image/*", image, true},
		{"arn:aws:ec2:eu-central-1:111122223333:image/*", image, false},
		{"arn:aws:logs:eu-central-1:111122223333:log-group:/aws/lambda/f:*", group, true},
		{"arn:aws:logs:eu-central-1:111122223333:log-group:/aws/lambda/f:*", stream, true},
		{"arn:aws:logs:eu-central-1:111122223333:log-group:/aws/lambda/f", stream, false},
		{"arn:aws:scheduler:eu-central-1:111122223333:schedule/g/eni-*", schedule, true},
		{"arn:aws:scheduler:eu-central-1:111122223333:schedule/eni-*", schedule, true}, // of a group "eni-..."
		{"arn:aws:scheduler:eu-central-1:111122223333:schedule-group/g", schedule, false},
		{"arn:aws:sqs:eu-central-1:111122223333:q.fifo", queue, true},
		{"arn:aws:sns:eu-central-1:111122223333:q", queue, false},
		{"?rn:aws:sqs:eu-central-1:111122223333:q", queue, true},
		{"arn:aws:sqs:eu-central-1:111122223333:a/b", queue, false},
		{"*", queue, true},
		{"", queue, false},
	} {
		if got := overlaps(row.resource, row.template); got != row.want {
			t.Errorf("%s and %s: %t", row.resource, row.template, got)
		}
	}
}

func TestMatchesKey(t *testing.T) {
	for _, row := range []struct {
		key, name string
		want      bool
	}{
		{"aws:RequestTag/flashtap:deployment", "aws:RequestTag/${TagKey}", true},
		{"aws:requesttag/x", "aws:RequestTag/${TagKey}", true},
		{"aws:RequestTag/", "aws:RequestTag/${TagKey}", false},
		{"aws:RequestTags/x", "aws:RequestTag/${TagKey}", false},
		{"kms:EncryptionContext:aws:s3:arn", "kms:EncryptionContext:${EncryptionContextKey}", true},
		{"s3:ExistingObjectTag/a", "s3:ExistingObjectTag/<key>", true},
		{"EC2:Vpc", "ec2:Vpc", true},
		{"ec2:Vpcs", "ec2:Vpc", false},
	} {
		if got := matchesKey(row.key, row.name); got != row.want {
			t.Errorf("%s is %s: %t", row.key, row.name, got)
		}
	}
}
