package requests

import (
	"fmt"
	"slices"

	"flashtap/testutil/iam"
)

// s3Keys are the condition keys that come from headers, by the parameter of the call.
var s3Keys = map[string]string{
	"IfNoneMatch":          "s3:if-none-match",
	"ServerSideEncryption": "s3:x-amz-server-side-encryption",
	"SSEKMSKeyId":          "s3:x-amz-server-side-encryption-aws-kms-key-id",
	"SSECustomerAlgorithm": "s3:x-amz-server-side-encryption-customer-algorithm",
	"ObjectLockMode":       "s3:object-lock-mode",
	legalHold:              "s3:object-lock-legal-hold",
	"StorageClass":         "s3:x-amz-storage-class",
	"ACL":                  "s3:x-amz-acl",
	"VersionId":            "s3:VersionId",
	"Prefix":               "s3:prefix",
	"Delimiter":            "s3:delimiter",
	"MaxKeys":              "s3:max-keys",
}

// legalHold is the parameter by which an object is put with a legal hold.
const legalHold = "ObjectLockLegalHoldStatus"

// s3Calls are the keys of s3Keys that each call's action knows.
var s3Calls = map[string][]string{
	"PutObject":           {"IfNoneMatch", "ServerSideEncryption", "SSEKMSKeyId", "SSECustomerAlgorithm", "ObjectLockMode", legalHold, "StorageClass", "ACL"},
	"PutObjectLegalHold":  nil,
	"GetObject":           nil,
	"HeadObject":          nil,
	"DeleteObject":        nil,
	"ListObjectsV2":       {"Prefix", "Delimiter", "MaxKeys"},
	"ListObjectVersions":  {"Prefix", "Delimiter", "MaxKeys"},
	"GetObjectAttributes": nil,
}

// missing are the codes by which S3 says that there is no such object.
var missing = []string{"NoSuchKey", "NotFound"}

func (q *asking) s3() error {
	operation := q.call.Operation
	parameters, described := s3Calls[operation]
	if !described {
		return fmt.Errorf("what AWS asks about s3.%s is not described", operation)
	}
	if q.params.has("VersionId") {
		return fmt.Errorf("what AWS asks about s3.%s of a version is not described", operation)
	}
	// The versions of TLS and of signatures are those of every SDK of today.
	keys := func() iam.Context {
		return iam.Context{"s3:TlsVersion": {"1.3"}, "s3:signatureversion": {"AWS4-HMAC-SHA256"}}
	}
	c := keys()
	for _, name := range parameters {
		if value, given := q.params[name]; given {
			c[s3Keys[name]] = []string{fmt.Sprint(value)}
		}
	}
	bucket := "arn:" + q.account.Partition + ":s3:::" + q.params.str("Bucket")
	object := bucket + "/" + q.params.str("Key")
	switch operation {
	case "PutObject":
		q.ask("s3:PutObject", object, c)
		if status := q.params.str(legalHold); status != "" { // Amazon S3 User Guide, "Configuring Object Lock": permissions
			q.hold(object, status)
		}
		q.viaS3("kms:GenerateDataKey", bucket)
		return nil
	case "PutObjectLegalHold":
		q.hold(object, q.params.object("LegalHold").str("Status"))
		return nil
	case "DeleteObject":
		q.ask("s3:DeleteObject", object, c)
		return nil
	case "ListObjectsV2":
		q.ask("s3:ListBucket", bucket, c)
		return nil
	case "ListObjectVersions":
		q.ask("s3:ListBucketVersions", bucket, c)
		return nil
	}
	q.ask("s3:GetObject", object, c) // HeadObject, too: it has no action of its own
	if operation == "GetObjectAttributes" {
		q.ask("s3:GetObjectAttributes", object, c)
	}
	if slices.Contains(missing, q.call.Code) {
		// Who may not list is told that he may not, instead of that there is none (Amazon S3 API Reference, GetObject and
		// HeadObject). Nothing says that such a question has a prefix, so none is given.
		q.ask("s3:ListBucket", bucket, keys())
		return nil
	}
	// Without the checksum HeadObject tells nothing that is encrypted (Amazon S3 API Reference, HeadObject: ChecksumMode).
	if operation != "HeadObject" || q.params.str("ChecksumMode") == "ENABLED" {
		q.viaS3("kms:Decrypt", bucket)
	}
	return nil
}

func (q *asking) hold(object, status string) {
	q.ask("s3:PutObjectLegalHold", object, iam.Context{
		"s3:TlsVersion": {"1.3"}, "s3:signatureversion": {"AWS4-HMAC-SHA256"}, "s3:object-lock-legal-hold": {status},
	})
}

// viaS3 asks about the key by which a bucket encrypts. With a bucket key the encryption context is the bucket's ARN
// (Amazon S3 User Guide, "Reducing the cost of SSE-KMS with Amazon S3 Bucket Keys").
func (q *asking) viaS3(action, bucket string) {
	key := q.account.BucketKeys[q.params.str("Bucket")]
	if key == "" {
		return
	}
	q.ask(action, key, iam.Context{
		"kms:ViaService":                   {"s3." + q.account.Region + ".amazonaws.com"},
		"kms:CallerAccount":                {q.account.ID},
		"kms:EncryptionContext:aws:s3:arn": {bucket},
		"kms:EncryptionContextKeys":        {"aws:s3:arn"},
		"kms:EncryptionAlgorithm":          {"SYMMETRIC_DEFAULT"},
		"aws:ViaAWSService":                {"true"},
	})
}
