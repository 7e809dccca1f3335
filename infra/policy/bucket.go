package policy

import (
	"slices"

	"flashtap/events"
)

// deny is a statement of a resource policy against everybody to whom the conditions apply, whatever their own policies
// allow.
func deny(sid string, actions, resources []string, conditions ...Condition) Statement {
	return Statement{
		Sid: sid, Effect: Deny, Principal: everybody, Action: actions, Resource: resources, Condition: all(conditions...),
	}
}

var everybody = map[string][]string{"AWS": {"*"}}

// insecure is a request without TLS.
var insecure = where("Bool", "aws:SecureTransport", "false")

// EvidenceBucket is the policy of the evidence bucket. It allows nothing: the roles' own policies do. It keeps what is
// written from being changed or deleted by anybody in the account, beside and before Object Lock, which guards versions
// but lets a deletion hide an object. Lifecycle rules are not subject to it, so evidence can still expire.
//
// The account's administrators can change this policy itself: else a mistake in it could be mended by the root user
// alone. That change is in CloudTrail.
func EvidenceBucket(s Scope) Document {
	bucket, objects := []string{s.BucketARN}, s.objects("*")
	whole := slices.Concat(bucket, objects)
	collectors := s.objects(events.CollectorsPrefix(anyCapture) + "*")
	isCollector := where("ArnEquals", "aws:PrincipalArn", s.CollectorRoleARN)
	put := []string{"s3:PutObject"}
	const encryption, keyOfRequest = "s3:x-amz-server-side-encryption", "s3:x-amz-server-side-encryption-aws-kms-key-id"
	const storageClass = "s3:x-amz-storage-class"
	return New(
		deny("OnlyTLS", []string{"s3:*"}, whole, insecure),
		deny("OnlyTLS12", []string{"s3:*"}, whole, where("NumericLessThan", "s3:TlsVersion", "1.2")),

		// A longer retention is a change, too. A legal hold may be placed, and not lifted.
		deny("KeepObjects", []string{
			"s3:BypassGovernanceRetention", "s3:DeleteObject", "s3:DeleteObjectVersion", "s3:PutObjectRetention",
		}, objects, s.unlessBreakGlass()),
		deny("KeepHolds", []string{hold}, objects, where("StringNotEquals", holdStatus, "ON"), s.unlessBreakGlass()),
		deny("KeepBucket", []string{
			"s3:DeleteBucket", "s3:PutBucketLogging", "s3:PutBucketObjectLockConfiguration", "s3:PutBucketVersioning",
			"s3:PutEncryptionConfiguration", "s3:PutLifecycleConfiguration", "s3:PutReplicationConfiguration",
		}, bucket, s.unlessBreakGlass()),

		// A PUT must not overwrite, and no break-glass helps: nobody needs to. The parts of a multipart upload carry no
		// such header and are refused with it (Amazon S3 User Guide, "Enforce conditional writes on Amazon S3 buckets"):
		// every object of ours is one PUT, whose digest S3 has checked.
		deny("WriteOnce", put, objects, where("Null", "s3:if-none-match", "true")),
		deny("NoReplicas", []string{"s3:ReplicateDelete", "s3:ReplicateObject"}, objects),

		// The bucket encrypts by itself; a request may not choose otherwise. One that says nothing about it passes, which
		// IfExists would not let it in a denial of what is not equal (IAM User Guide, "Condition operators": "...IfExists").
		deny("OnlyOurKey", put, objects, where("Null", keyOfRequest, "false"), where("ArnNotEquals", keyOfRequest, s.BucketKeyARN)),
		deny("OnlyKMS", put, objects, where("Null", encryption, "false"), where("StringNotEquals", encryption, "aws:kms")),
		deny("NoCustomerKeys", put, objects, where("Null", "s3:x-amz-server-side-encryption-customer-algorithm", "false")),

		// A collector could otherwise put its reports where they can't be read at once.
		deny("ReportsAreReadable", put, collectors, where("Null", storageClass, "false"), where("StringNotEquals", storageClass, "STANDARD")),

		// What a collector says is told from what is said about it by where it lies.
		deny("OnlyCollectorsReport", put, collectors, where("ArnNotEquals", "aws:PrincipalArn", s.CollectorRoleARN)),
		deny("CollectorsReadNothing", []string{"s3:GetObject", "s3:GetObjectVersion"}, s.objects(events.CapturesPrefix()+"*"), isCollector),
		deny("CollectorsListNothing", []string{"s3:ListBucket", "s3:ListBucketVersions"}, bucket, isCollector),
	)
}

// A legal hold, and whether it is placed or lifted.
const (
	hold       = "s3:PutObjectLegalHold"
	holdStatus = "s3:object-lock-legal-hold"
)

// unlessBreakGlass exempts the principals that the deployment names for emergencies; when it names none, nobody is
// exempt.
func (s Scope) unlessBreakGlass() Condition {
	if len(s.BreakGlass) == 0 {
		return nil
	}
	return where("ArnNotLike", "aws:PrincipalArn", s.BreakGlass...)
}
