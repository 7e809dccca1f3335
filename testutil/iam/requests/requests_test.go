package requests

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"flashtap/testutil/iam"
	"flashtap/testutil/region"
	"flashtap/testutil/region/ec2"
)

var here = Account{
	Partition: "aws", ID: "123456789012", Region: "us-east-1",
	BucketKeys:   map[string]string{"evidence": "arn:aws:kms:us-east-1:123456789012:key/1"},
	ProfileRoles: map[string]string{"arn:aws:iam::123456789012:instance-profile/collector": "arn:aws:iam::123456789012:role/collector"},
}

var launcher = Caller{
	Principal: iam.Principal{ARN: "arn:aws:iam::123456789012:role/launch", Session: "arn:aws:sts::123456789012:assumed-role/launch/a", Account: "123456789012"},
	UserID:    "AROA1:a",
}

func tags(kind string, pairs ...string) map[string]any {
	var list []any
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, map[string]any{"Key": pairs[i], "Value": pairs[i+1]})
	}
	return map[string]any{"ResourceType": kind, "Tags": list}
}

var facts = ec2.Facts{Resources: map[string]ec2.Fact{
	"eni-1":    {Type: "network-interface", ID: "eni-1", VPC: "vpc-1", Subnet: "subnet-1", Zone: "us-east-1a", Tags: map[string]string{"team": "web"}},
	"tmt-1":    {Type: "traffic-mirror-target", ID: "tmt-1", Tags: map[string]string{"of": "demo"}},
	"tmf-1":    {Type: "traffic-mirror-filter", ID: "tmf-1", Tags: map[string]string{"of": "demo"}},
	"tmfr-1":   {Type: "traffic-mirror-filter-rule", ID: "tmfr-1", Parent: "tmf-1"},
	"i-1":      {Type: "instance", ID: "i-1", Profile: "arn:aws:iam::123456789012:instance-profile/collector", InstanceType: "c7g.large"},
	"lt-1":     {Type: "launch-template", ID: "lt-1"},
	"ami-1":    {Type: "image", ID: "ami-1", Owner: "amazon"},
	"sg-1":     {Type: "security-group", ID: "sg-1", VPC: "vpc-1", Tags: map[string]string{"of": "demo"}},
	"subnet-1": {Type: "subnet", ID: "subnet-1", VPC: "vpc-1", Subnet: "subnet-1", Zone: "us-east-1a"},
}, Launch: map[string]any{
	"ImageId": "ami-1", "InstanceType": "c7g.large", "IamInstanceProfile": map[string]any{"Arn": "arn:aws:iam::123456789012:instance-profile/collector"},
	"MetadataOptions":     map[string]any{"HttpTokens": "required", "HttpPutResponseHopLimit": int64(1)},
	"BlockDeviceMappings": []any{map[string]any{"DeviceName": "/dev/xvda", "Ebs": map[string]any{"Encrypted": true, "VolumeType": "gp3"}}},
	"NetworkInterfaces":   []any{map[string]any{"DeviceIndex": int64(0), "SubnetId": "subnet-1", "Groups": []any{"sg-1"}}},
}}

// Each request is written as its action, its resource after the account, and the keys that the row is about.
func TestCalls(t *testing.T) {
	for _, row := range []struct {
		name string
		call region.Call
		keys string // which keys to show
		want []string
	}{
		{"metrics have no resource", region.Call{Service: "monitoring", Operation: "GetMetricData"}, "", []string{"cloudwatch:GetMetricData *"}},
		{"a key", region.Call{Service: "kms", Operation: "DescribeKey", Params: map[string]any{"KeyId": "arn:aws:kms:us-east-1:123456789012:key/1"}}, "", []string{"kms:DescribeKey key/1"}},
		{"a quota", region.Call{Service: "servicequotas", Operation: "GetServiceQuota", Params: map[string]any{"ServiceCode": "ec2", "QuotaCode": "L-1"}}, "", []string{"servicequotas:GetServiceQuota ec2/L-1"}},
		{"a simulation", region.Call{Service: "iam", Operation: "SimulatePrincipalPolicy", Params: map[string]any{"PolicySourceArn": "arn:aws:iam::123456789012:role/launch"}}, "", []string{"iam:SimulatePrincipalPolicy role/launch"}},
		{"a list has no resource", region.Call{Service: "ec2", Operation: "DescribeInstances"}, "ec2:Region", []string{
			"ec2:DescribeInstances * ec2:Region=us-east-1"}},
		{"what is made has no id, and its tags are asked about once more", region.Call{Service: "ec2", Operation: "CreateTrafficMirrorFilter",
			Params: map[string]any{"TagSpecifications": []any{tags("traffic-mirror-filter", "of", "demo")}}}, "aws:RequestTag/of aws:TagKeys ec2:CreateAction", []string{
			"ec2:CreateTrafficMirrorFilter traffic-mirror-filter/* aws:RequestTag/of=demo aws:TagKeys=of",
			"ec2:CreateTags traffic-mirror-filter/* aws:RequestTag/of=demo aws:TagKeys=of ec2:CreateAction=CreateTrafficMirrorFilter"}},
		{"a thing without tags needs no right to tag", region.Call{Service: "ec2", Operation: "CreateTrafficMirrorFilter"}, "aws:TagKeys", []string{
			"ec2:CreateTrafficMirrorFilter traffic-mirror-filter/*"}},
		{"a session has four sides", region.Call{Service: "ec2", Operation: "CreateTrafficMirrorSession", Facts: facts,
			Params: map[string]any{"TrafficMirrorTargetId": "tmt-1", "TrafficMirrorFilterId": "tmf-1", "NetworkInterfaceId": "eni-1"}}, "aws:ResourceTag/of ec2:Vpc aws:ResourceTag/team", []string{
			"ec2:CreateTrafficMirrorSession traffic-mirror-target/tmt-1 aws:ResourceTag/of=demo",
			"ec2:CreateTrafficMirrorSession traffic-mirror-filter/tmf-1 aws:ResourceTag/of=demo",
			"ec2:CreateTrafficMirrorSession network-interface/eni-1 ec2:Vpc=arn:aws:ec2:us-east-1:123456789012:vpc/vpc-1 aws:ResourceTag/team=web",
			"ec2:CreateTrafficMirrorSession traffic-mirror-session/*"}},
		{"a filter's rule stands with its filter", region.Call{Service: "ec2", Operation: "DeleteTrafficMirrorFilterRule", Facts: facts,
			Params: map[string]any{"TrafficMirrorFilterRuleId": "tmfr-1"}}, "ec2:ResourceTag/of", []string{
			"ec2:DeleteTrafficMirrorFilterRule traffic-mirror-filter-rule/tmfr-1",
			"ec2:DeleteTrafficMirrorFilterRule traffic-mirror-filter/tmf-1 ec2:ResourceTag/of=demo"}},
		{"tags on what is there have no CreateAction", region.Call{Service: "ec2", Operation: "CreateTags", Facts: facts,
			Params: map[string]any{"Resources": []any{"i-1"}, "Tags": []any{map[string]any{"Key": "stop", "Value": "now"}}}}, "aws:TagKeys ec2:CreateAction ec2:InstanceType", []string{
			"ec2:CreateTags instance/i-1 aws:TagKeys=stop ec2:InstanceType=c7g.large"}},
		{"a launch asks about all that it makes and uses", region.Call{Service: "ec2", Operation: "RunInstances", Facts: facts,
			Params: map[string]any{"LaunchTemplate": map[string]any{"LaunchTemplateId": "lt-1"}, "ImageId": "ami-1", "TagSpecifications": []any{tags("instance", "of", "demo")}}},
			"aws:RequestTag/of ec2:CreateAction ec2:MetadataHttpTokens ec2:Encrypted ec2:AssociatePublicIpAddress ec2:Owner ec2:IsLaunchTemplateResource iam:PassedToService", []string{
				"ec2:RunInstances launch-template/lt-1",
				"ec2:RunInstances image/ami-1 ec2:Owner=amazon ec2:IsLaunchTemplateResource=false",
				"ec2:RunInstances subnet/subnet-1 ec2:IsLaunchTemplateResource=true",
				"ec2:RunInstances security-group/sg-1 ec2:IsLaunchTemplateResource=true",
				"ec2:RunInstances network-interface/* ec2:AssociatePublicIpAddress=false ec2:IsLaunchTemplateResource=true",
				"ec2:RunInstances instance/* aws:RequestTag/of=demo ec2:MetadataHttpTokens=required ec2:IsLaunchTemplateResource=false",
				"ec2:CreateTags instance/* aws:RequestTag/of=demo ec2:CreateAction=RunInstances",
				"iam:PassRole role/collector iam:PassedToService=ec2.amazonaws.com",
				"ec2:RunInstances volume/* ec2:Encrypted=true ec2:IsLaunchTemplateResource=true"}},

		{"an upload needs the bucket's key", region.Call{Service: "s3", Operation: "PutObject", Params: map[string]any{"Bucket": "evidence", "Key": "a/b", "IfNoneMatch": "*"}},
			"s3:if-none-match kms:ViaService kms:EncryptionContext:aws:s3:arn", []string{
				"s3:PutObject evidence/a/b s3:if-none-match=*",
				"kms:GenerateDataKey key/1 kms:ViaService=s3.us-east-1.amazonaws.com kms:EncryptionContext:aws:s3:arn=arn:aws:s3:::evidence"}},
		{"an upload may bring a legal hold", region.Call{Service: "s3", Operation: "PutObject", Params: map[string]any{"Bucket": "assets", "Key": "a", "ObjectLockLegalHoldStatus": "ON"}},
			"s3:object-lock-legal-hold", []string{
				"s3:PutObject assets/a s3:object-lock-legal-hold=ON", "s3:PutObjectLegalHold assets/a s3:object-lock-legal-hold=ON"}},
		{"a legal hold is not lifted as it is placed", region.Call{Service: "s3", Operation: "PutObjectLegalHold", Params: map[string]any{"Bucket": "assets", "Key": "a", "LegalHold": map[string]any{"Status": "OFF"}}},
			"s3:object-lock-legal-hold", []string{"s3:PutObjectLegalHold assets/a s3:object-lock-legal-hold=OFF"}},
		{"a signature says what it signs", region.Call{Service: "kms", Operation: "Sign", Params: map[string]any{"KeyId": "arn:aws:kms:us-east-1:123456789012:key/2", "MessageType": "DIGEST", "SigningAlgorithm": "ECDSA_SHA_256"}},
			"kms:SigningAlgorithm kms:MessageType kms:CallerAccount", []string{"kms:Sign key/2 kms:SigningAlgorithm=ECDSA_SHA_256 kms:MessageType=DIGEST kms:CallerAccount=123456789012"}},
		{"a topic", region.Call{Service: "sns", Operation: "Publish", Params: map[string]any{"TopicArn": "arn:aws:sns:us-east-1:123456789012:witness", "Message": "{}"}}, "", []string{"sns:Publish witness"}},
		{"another bucket has no key", region.Call{Service: "s3", Operation: "GetObject", Params: map[string]any{"Bucket": "assets", "Key": "a"}}, "", []string{"s3:GetObject assets/a"}},
		{"reading what is not there needs the right to list", region.Call{Service: "s3", Operation: "GetObject", Code: "NoSuchKey", Params: map[string]any{"Bucket": "evidence", "Key": "a"}}, "s3:prefix", []string{
			"s3:GetObject evidence/a", "s3:ListBucket evidence"}},
		{"a checksum needs the key", region.Call{Service: "s3", Operation: "HeadObject", Params: map[string]any{"Bucket": "evidence", "Key": "a", "ChecksumMode": "ENABLED"}}, "", []string{
			"s3:GetObject evidence/a", "kms:Decrypt key/1"}},
		{"a look without checksum does not", region.Call{Service: "s3", Operation: "HeadObject", Params: map[string]any{"Bucket": "evidence", "Key": "a"}}, "", []string{"s3:GetObject evidence/a"}},
		{"a listing has its prefix", region.Call{Service: "s3", Operation: "ListObjectsV2", Params: map[string]any{"Bucket": "evidence", "Prefix": "captures/"}}, "s3:prefix", []string{
			"s3:ListBucket evidence s3:prefix=captures/"}},

		{"a schedule passes its role", region.Call{Service: "scheduler", Operation: "CreateSchedule", Params: map[string]any{"GroupName": "demo", "Name": "eni-1",
			"Target": map[string]any{"RoleArn": "arn:aws:iam::123456789012:role/scheduler"}}}, "iam:PassedToService", []string{
			"scheduler:CreateSchedule schedule/demo/eni-1", "iam:PassRole role/scheduler iam:PassedToService=scheduler.amazonaws.com"}},
		{"an execution", region.Call{Service: "states", Operation: "DescribeExecution", Params: map[string]any{"executionArn": "arn:aws:states:us-east-1:123456789012:execution:a:b"}}, "", []string{
			"states:DescribeExecution execution:a:b"}},
		{"a queue by its URL", region.Call{Service: "sqs", Operation: "SendMessage", Params: map[string]any{"QueueUrl": "http://127.0.0.1:1/123456789012/intake.fifo"}}, "", []string{
			"sqs:SendMessage intake.fifo"}},
		{"every event by itself", region.Call{Service: "events", Operation: "PutEvents", Params: map[string]any{"Entries": []any{map[string]any{"Source": "a"}, map[string]any{"Source": "b", "EventBusName": "demo"}}}}, "events:source", []string{
			"events:PutEvents event-bus/default events:source=a", "events:PutEvents event-bus/demo events:source=b"}},
		{"a function by its name", region.Call{Service: "lambda", Operation: "Invoke", Params: map[string]any{"FunctionName": "teardown"}}, "", []string{"lambda:InvokeFunction function:teardown"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			list, err := here.Of(row.call, launcher)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, r := range list {
				got = append(got, show(r, strings.Fields(row.keys)))
			}
			if !slices.Equal(got, row.want) {
				t.Errorf("\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(row.want, "\n"))
			}
		})
	}
}

// show is a request in one line: its action, its resource without what all have in common, and some keys.
func show(r iam.Request, keys []string) string {
	short := strings.TrimPrefix(r.Resource[strings.LastIndex(r.Resource, "::")+1:], ":")
	if _, after, found := strings.Cut(r.Resource, ":123456789012:"); found {
		short = after
	}
	words := []string{r.Action, short}
	for _, key := range keys {
		if values, there := r.Context[key]; there {
			words = append(words, key+"="+strings.Join(values, ","))
		}
	}
	return strings.Join(words, " ")
}

func TestWhoAsks(t *testing.T) {
	call := region.Call{At: time.Date(2026, 11, 26, 3, 0, 0, 0, time.UTC), Service: "sqs", Operation: "SendMessage", Source: "arn:aws:events:us-east-1:123456789012:rule/a",
		Params: map[string]any{"QueueUrl": "/intake"}}
	for name, row := range map[string]struct {
		by         Caller
		want, none []string
	}{
		"a role":    {launcher, []string{"aws:PrincipalArn=" + launcher.ARN, "aws:userid=AROA1:a", "aws:SecureTransport=true", "aws:CurrentTime=2026-11-26T03:00:00Z"}, []string{"aws:SourceArn", "aws:PrincipalServiceName"}},
		"a service": {Caller{Principal: iam.Principal{Service: "events.amazonaws.com"}}, []string{"aws:SourceArn=" + call.Source, "aws:SourceAccount=123456789012", "aws:PrincipalServiceName=events.amazonaws.com"}, []string{"aws:PrincipalArn", "aws:userid"}},
	} {
		list, err := here.Of(call, row.by)
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		for _, want := range row.want {
			key, value, _ := strings.Cut(want, "=")
			if got := list[0].Context[key]; !slices.Equal(got, []string{value}) {
				t.Errorf("%s: %s is %q", name, key, got)
			}
		}
		for _, key := range row.none {
			if got, there := list[0].Context[key]; there {
				t.Errorf("%s: %s is %q", name, key, got)
			}
		}
	}
}

// No call may pass because nobody thought of it.
func TestWhatIsNotDescribedIsAnError(t *testing.T) {
	bare := maps.Clone(facts.Launch)
	delete(bare, "NetworkInterfaces")
	for name, call := range map[string]region.Call{
		"a service":                   {Service: "glue", Operation: "CreateJob"},
		"a call of EC2":               {Service: "ec2", Operation: "CreateVpc"},
		"a list of EC2":               {Service: "ec2", Operation: "DescribeVolumes"},
		"a call of S3":                {Service: "s3", Operation: "CopyObject"},
		"a version":                   {Service: "s3", Operation: "GetObject", Params: map[string]any{"VersionId": "1"}},
		"a call of Scheduler":         {Service: "scheduler", Operation: "CreateScheduleGroup"},
		"a call of Step Functions":    {Service: "states", Operation: "CreateStateMachine"},
		"a call of SQS":               {Service: "sqs", Operation: "PurgeQueue"},
		"a call of EventBridge":       {Service: "events", Operation: "PutRule"},
		"a call of Lambda":            {Service: "lambda", Operation: "UpdateFunctionCode"},
		"a launch without interfaces": {Service: "ec2", Operation: "RunInstances", Facts: ec2.Facts{Resources: facts.Resources, Launch: bare}},
		"a call about nothing":        {Service: "ec2", Operation: "TerminateInstances"},
	} {
		if list, err := here.Of(call, launcher); err == nil {
			t.Errorf("%s: %v", name, list)
		}
	}
	_, err := here.Of(region.Call{Service: "ec2", Operation: "TerminateInstances", Facts: facts, Params: map[string]any{"InstanceIds": []any{"i-2"}}}, launcher)
	if unknown := (UnknownResource{}); !errors.As(err, &unknown) || unknown.ID != "i-2" {
		t.Errorf("an instance that is not there: %v", err)
	}
}
