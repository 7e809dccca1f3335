package stacks_test

import (
	"reflect"
	"testing"
)

// TestWhatHoldsEvidenceStays when the stack goes.
func TestWhatHoldsEvidenceStays(t *testing.T) {
	for _, s := range []synthesized{plain, full} {
		for _, r := range s.resources(t, "") {
			// Buckets go when the very deployment that makes them fails; keys can't: their policy lets nobody delete them.
			stays := map[string]string{"AWS::S3::Bucket": "RetainExceptOnCreate", "AWS::S3::BucketPolicy": "RetainExceptOnCreate", "AWS::KMS::Key": "Retain"}
			if policy, kept := stays[r.Type]; kept {
				if r.Raw["DeletionPolicy"] != policy || r.Raw["UpdateReplacePolicy"] != "Retain" {
					t.Errorf("%s: %s does not stay", s.name, r.ID)
				}
			}
		}
	}
}

func TestEvidenceBucket(t *testing.T) {
	for _, row := range []struct {
		s          synthesized
		mode       string
		days, tier float64
		expire     any
	}{{plain, "GOVERNANCE", 90, 30, nil}, {full, "COMPLIANCE", 400, 60, 800.0}} {
		b := row.s.one(t, "AWS::S3::Bucket", "EvidenceBucket").Properties
		rules := at(b, "LifecycleConfiguration", "Rules")
		for what, pair := range map[string][2]any{
			"lock":          {at(b, "ObjectLockConfiguration", "Rule", "DefaultRetention"), map[string]any{"Mode": row.mode, "Days": row.days}},
			"lock enabled":  {b["ObjectLockEnabled"], true},
			"versions":      {at(b, "VersioningConfiguration", "Status"), "Enabled"},
			"key":           {at(b, "BucketEncryption", "ServerSideEncryptionConfiguration", 0, "ServerSideEncryptionByDefault", "SSEAlgorithm"), "aws:kms"},
			"bucket key":    {at(b, "BucketEncryption", "ServerSideEncryptionConfiguration", 0, "BucketKeyEnabled"), true},
			"no ACLs":       {at(b, "OwnershipControls", "Rules", 0, "ObjectOwnership"), "BucketOwnerEnforced"},
			"multiparts":    {at(rules, 0, "AbortIncompleteMultipartUpload", "DaysAfterInitiation"), 1.0},
			"tier":          {at(rules, 1, "Transitions", 0, "TransitionInDays"), row.tier},
			"expiry":        {at(rules, 2, "ExpirationInDays"), row.expire},
			"public access": {b["PublicAccessBlockConfiguration"], map[string]any{"BlockPublicAcls": true, "BlockPublicPolicy": true, "IgnorePublicAcls": true, "RestrictPublicBuckets": true}},
		} {
			if !reflect.DeepEqual(pair[0], pair[1]) {
				t.Errorf("%s: %s is %v, want %v", row.s.name, what, pair[0], pair[1])
			}
		}
	}
}

// TestAccessesAreLogged by S3 itself, or by CloudTrail.
func TestAccessesAreLogged(t *testing.T) {
	logs := plain.one(t, "AWS::S3::Bucket", "AccessLogs")
	if got := at(plain.one(t, "AWS::S3::Bucket", "EvidenceBucket").Raw, "Properties", "LoggingConfiguration", "DestinationBucketName", "Ref"); got != logs.ID {
		t.Errorf("S3 logs to %v", got)
	}
	if len(plain.resources(t, "AWS::CloudTrail::Trail")) > 0 {
		t.Error("a trail was made that nobody asked for")
	}
	trail := full.one(t, "AWS::CloudTrail::Trail", "Trail").Properties
	bucket := full.place(t).Bucket
	if got := at(trail, "EventSelectors", 0, "DataResources", 0, "Values", 0); got != "arn:aws:s3:::"+bucket+"/" {
		t.Errorf("the trail looks at %v", got)
	}
	if at(full.one(t, "AWS::S3::Bucket", "EvidenceBucket").Properties, "LoggingConfiguration") != nil {
		t.Error("S3 logs as well as CloudTrail")
	}
}

func TestKeys(t *testing.T) {
	encrypts := plain.one(t, "AWS::KMS::Key", "EvidenceKey").Properties
	signs := plain.one(t, "AWS::KMS::Key", "SigningKey").Properties
	if encrypts["EnableKeyRotation"] != true || signs["KeyUsage"] != "SIGN_VERIFY" || signs["KeySpec"] != "ECC_NIST_P256" {
		t.Errorf("keys: %v, %v", encrypts, signs)
	}
}
