package stacks

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudtrail"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"flashtap/events"
	"flashtap/infra/config"
	"flashtap/infra/policy"
)

// Evidence is the stack that outlives all others: bucket, keys, and the log of who read what.
type Evidence struct {
	awscdk.Stack
	SigningKey awskms.CfnKey
}

// NewEvidence makes the stack and says in place where the evidence lies. An existing bucket, perhaps of a central
// account, is left as it is: its policy is its owner's, who finds in policy.EvidenceBucket what it should be.
func NewEvidence(scope constructs.Construct, cfg config.Config, place *config.Place) *Evidence {
	e := &Evidence{Stack: newStack(scope, cfg, "evidence", "evidence bucket and keys; stays when the others go")}
	e.keys(cfg, place)
	if place.Bucket = cfg.EvidenceBucket; place.Bucket == "" {
		e.bucket(cfg, place)
	}
	output(e.Stack, "Bucket", "Where the evidence lies", str(place.Bucket))
	output(e.Stack, "BucketKey", "The key that encrypts it", str(place.BucketKeyARN))
	output(e.Stack, "SigningKeyArn", "The key that signs manifests", e.SigningKey.AttrArn())
	return e
}

func (e *Evidence) keys(cfg config.Config, place *config.Place) {
	s := cfg.Scope(*place)
	alias := func(id, purpose string, key awskms.CfnKey) {
		awskms.NewCfnAlias(e.Stack, str(id), &awskms.CfnAliasProps{AliasName: str(cfg.KeyAlias(purpose)), TargetKeyId: key.Ref()})
	}
	if place.BucketKeyARN = cfg.EvidenceKey; place.BucketKeyARN == "" {
		key := awskms.NewCfnKey(e.Stack, str("EvidenceKey"), &awskms.CfnKeyProps{
			Description: str("Flashtap " + cfg.Deployment + ": encrypts the evidence bucket"),
			KeyPolicy:   document(policy.EvidenceKey(s)), EnableKeyRotation: yes(),
		})
		key.ApplyRemovalPolicy(awscdk.RemovalPolicy_RETAIN, nil)
		alias("EvidenceKeyAlias", "evidence", key)
		place.BucketKeyARN = *key.AttrArn()
	}
	e.SigningKey = awskms.NewCfnKey(e.Stack, str("SigningKey"), &awskms.CfnKeyProps{
		Description: str("Flashtap " + cfg.Deployment + ": signs manifests"),
		KeyPolicy:   document(policy.SigningKey(s)), KeySpec: str("ECC_NIST_P256"), KeyUsage: str("SIGN_VERIFY"),
	})
	e.SigningKey.ApplyRemovalPolicy(awscdk.RemovalPolicy_RETAIN, nil)
	alias("SigningKeyAlias", "signing", e.SigningKey)
	place.SigningKeyARN = *e.SigningKey.AttrArn()
}

func (e *Evidence) bucket(cfg config.Config, place *config.Place) {
	props := newBucket(&awss3.CfnBucket_ServerSideEncryptionRuleProperty{
		BucketKeyEnabled: yes(),
		ServerSideEncryptionByDefault: &awss3.CfnBucket_ServerSideEncryptionByDefaultProperty{
			SseAlgorithm: str("aws:kms"), KmsMasterKeyId: str(place.BucketKeyARN),
		},
	})
	props.LifecycleConfiguration = &awss3.CfnBucket_LifecycleConfigurationProperty{Rules: lifecycle(cfg)}
	if cfg.RetentionMode != config.NoLock {
		mode := map[string]string{config.Governance: "GOVERNANCE", config.Compliance: "COMPLIANCE"}[cfg.RetentionMode]
		props.ObjectLockEnabled = yes()
		props.ObjectLockConfiguration = &awss3.CfnBucket_ObjectLockConfigurationProperty{
			ObjectLockEnabled: str("Enabled"),
			Rule: &awss3.CfnBucket_ObjectLockRuleProperty{
				DefaultRetention: &awss3.CfnBucket_DefaultRetentionProperty{Mode: str(mode), Days: num(cfg.RetentionDays)},
			},
		}
	}
	var logs awss3.CfnBucket
	if cfg.AccessLogging != config.NoLogging {
		logs = e.logBucket(cfg)
	}
	if cfg.AccessLogging == config.ToS3 {
		props.LoggingConfiguration = &awss3.CfnBucket_LoggingConfigurationProperty{DestinationBucketName: logs.Ref(), LogFilePrefix: str("evidence/")}
	}
	bucket := awss3.NewCfnBucket(e.Stack, str("EvidenceBucket"), props)
	// What a first deployment that fails has made is empty, and goes with it.
	bucket.ApplyRemovalPolicy(awscdk.RemovalPolicy_RETAIN_ON_UPDATE_OR_DELETE, nil)
	place.Bucket = *bucket.Ref()
	guard := awss3.NewCfnBucketPolicy(e.Stack, str("EvidenceBucketPolicy"), &awss3.CfnBucketPolicyProps{
		Bucket: bucket.Ref(), PolicyDocument: document(policy.EvidenceBucket(cfg.Scope(*place))),
	})
	guard.ApplyRemovalPolicy(awscdk.RemovalPolicy_RETAIN_ON_UPDATE_OR_DELETE, nil) // without it what stays would be unguarded
	if logs != nil {
		e.logPolicy(cfg, *place, logs)
	}
}

// newBucket is what every bucket has.
func newBucket(encryption *awss3.CfnBucket_ServerSideEncryptionRuleProperty) *awss3.CfnBucketProps {
	return &awss3.CfnBucketProps{
		BucketEncryption: &awss3.CfnBucket_BucketEncryptionProperty{ServerSideEncryptionConfiguration: list(encryption)},
		PublicAccessBlockConfiguration: &awss3.CfnBucket_PublicAccessBlockConfigurationProperty{
			BlockPublicAcls: yes(), BlockPublicPolicy: yes(), IgnorePublicAcls: yes(), RestrictPublicBuckets: yes(),
		},
		OwnershipControls:       &awss3.CfnBucket_OwnershipControlsProperty{Rules: list(&awss3.CfnBucket_OwnershipControlsRuleProperty{ObjectOwnership: str("BucketOwnerEnforced")})},
		VersioningConfiguration: &awss3.CfnBucket_VersioningConfigurationProperty{Status: str("Enabled")},
	}
}

// lifecycle moves evidence to a class that is cheaper to keep and still read at once, and ends it when that was asked for.
// Nothing of ours uploads in parts, so parts that lie about are an error of somebody else's.
func lifecycle(cfg config.Config) any {
	rules := []any{&awss3.CfnBucket_RuleProperty{
		Id: str("abort-multipart"), Status: str("Enabled"),
		AbortIncompleteMultipartUpload: &awss3.CfnBucket_AbortIncompleteMultipartUploadProperty{DaysAfterInitiation: num(1)},
	}}
	captures := str(events.CapturesPrefix())
	if cfg.TierDays > 0 {
		rules = append(rules, &awss3.CfnBucket_RuleProperty{
			Id: str("tier"), Status: str("Enabled"), Prefix: captures,
			Transitions: list(&awss3.CfnBucket_TransitionProperty{StorageClass: str("GLACIER_IR"), TransitionInDays: num(cfg.TierDays)}),
		})
	}
	if cfg.ExpireDays > 0 {
		rules = append(rules, &awss3.CfnBucket_RuleProperty{
			Id: str("expire"), Status: str("Enabled"), Prefix: captures, ExpirationInDays: num(cfg.ExpireDays),
			NoncurrentVersionExpiration: &awss3.CfnBucket_NoncurrentVersionExpirationProperty{NoncurrentDays: num(1)},
		})
	}
	return &rules
}

// logBucket holds who accessed the evidence. S3's own logging can't write into a bucket with a KMS key (S3 User Guide,
// "Enabling Amazon S3 server access logging").
func (e *Evidence) logBucket(cfg config.Config) awss3.CfnBucket {
	props := newBucket(&awss3.CfnBucket_ServerSideEncryptionRuleProperty{
		ServerSideEncryptionByDefault: &awss3.CfnBucket_ServerSideEncryptionByDefaultProperty{SseAlgorithm: str("AES256")},
	})
	props.LifecycleConfiguration = &awss3.CfnBucket_LifecycleConfigurationProperty{Rules: list(&awss3.CfnBucket_RuleProperty{
		Id: str("expire"), Status: str("Enabled"), ExpirationInDays: num(cfg.LogDays),
		AbortIncompleteMultipartUpload: &awss3.CfnBucket_AbortIncompleteMultipartUploadProperty{DaysAfterInitiation: num(1)},
		NoncurrentVersionExpiration:    &awss3.CfnBucket_NoncurrentVersionExpirationProperty{NoncurrentDays: num(1)},
	})}
	logs := awss3.NewCfnBucket(e.Stack, str("AccessLogs"), props)
	logs.ApplyRemovalPolicy(awscdk.RemovalPolicy_RETAIN_ON_UPDATE_OR_DELETE, nil)
	return logs
}

// logPolicy lets the service write that was chosen to log. With CloudTrail there is also the trail.
func (e *Evidence) logPolicy(cfg config.Config, place config.Place, logs awss3.CfnBucket) {
	s := cfg.Scope(place)
	arn := *logs.AttrArn()
	allow := func(sid, service, action, resource, source string, equals map[string][]string) policy.Statement {
		condition := policy.Condition{"ArnEquals": {"aws:SourceArn": {source}}}
		if equals != nil {
			condition["StringEquals"] = equals
		}
		return policy.Statement{Sid: sid, Effect: policy.Allow, Principal: map[string][]string{"Service": {service}},
			Action: []string{action}, Resource: []string{resource}, Condition: condition}
	}
	doc := policy.New(policy.Statement{
		Sid: "OnlyTLS", Effect: policy.Deny, Principal: map[string][]string{"AWS": {"*"}}, Action: []string{"s3:*"},
		Resource: []string{arn, arn + "/*"}, Condition: policy.Condition{"Bool": {"aws:SecureTransport": {"false"}}},
	})
	trail := "arn:" + s.Partition + ":cloudtrail:" + s.Region + ":" + s.Account + ":trail/" + cfg.Trail()
	if cfg.AccessLogging == config.ToS3 {
		doc.Statement = append(doc.Statement, allow("ServerAccessLogs", "logging.s3.amazonaws.com", "s3:PutObject", arn+"/evidence/*", s.BucketARN,
			map[string][]string{"aws:SourceAccount": {s.Account}})) // a bucket's ARN does not tell its account
	} else {
		doc.Statement = append(doc.Statement, // CloudTrail User Guide, "Amazon S3 bucket policy for CloudTrail"
			allow("TrailLooks", "cloudtrail.amazonaws.com", "s3:GetBucketAcl", arn, trail, nil),
			allow("TrailWrites", "cloudtrail.amazonaws.com", "s3:PutObject", arn+"/AWSLogs/"+s.Account+"/*", trail,
				map[string][]string{"s3:x-amz-acl": {"bucket-owner-full-control"}}))
	}
	made := awss3.NewCfnBucketPolicy(e.Stack, str("AccessLogsPolicy"), &awss3.CfnBucketPolicyProps{Bucket: logs.Ref(), PolicyDocument: document(doc)})
	made.ApplyRemovalPolicy(awscdk.RemovalPolicy_RETAIN_ON_UPDATE_OR_DELETE, nil)
	if cfg.AccessLogging != config.ToCloudTrail {
		return
	}
	awscloudtrail.NewCfnTrail(e.Stack, str("Trail"), &awscloudtrail.CfnTrailProps{
		TrailName: str(cfg.Trail()), S3BucketName: logs.Ref(), IsLogging: yes(), EnableLogFileValidation: yes(),
		EventSelectors: list(&awscloudtrail.CfnTrail_EventSelectorProperty{
			IncludeManagementEvents: jsii.Bool(false), ReadWriteType: str("All"),
			DataResources: list(&awscloudtrail.CfnTrail_DataResourceProperty{
				Type: str("AWS::S3::Object"), Values: jsii.Strings(s.BucketARN + "/"),
			}),
		}),
	}).AddResourceDependency(made, str("CloudTrail tries whether it may write"))
}
