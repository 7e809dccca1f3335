package evidence

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"flashtap/events"
	"flashtap/functions/internal/awserr"
)

// locked is a capture in a bucket that keeps its objects as the evidence bucket does: versions, Object Lock, and a default
// retention in governance mode.
func locked(t *testing.T, name string, hold bool) *remains {
	t.Helper()
	if err := server.CreateBucket(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	if err := server.Retain(t.Context(), name, "GOVERNANCE", 1); err != nil {
		t.Fatal(err)
	}
	r := orderly(t)
	r.s.Bucket, r.sealer.Bucket = name, name
	r.plan.Request.LegalHold = hold
	return r.store()
}

// versionsOf are the versions of an object, and whether a delete marker hides them.
func versionsOf(t *testing.T, s Store, key string) (ids []string, hidden bool) {
	t.Helper()
	out, err := s.API.(*s3.Client).ListObjectVersions(t.Context(), &s3.ListObjectVersionsInput{Bucket: &s.Bucket, Prefix: &key})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range out.Versions {
		ids = append(ids, aws.ToString(v.VersionId))
	}
	return ids, len(out.DeleteMarkers) > 0
}

// TestWORM: what is sealed stays. A real S3 server with Object Lock refuses to delete any object's version; a deletion without a version hides it at most, and an overwriting leaves it as it is.
func TestWORM(t *testing.T) {
	r := locked(t, "worm", false)
	r.seal()
	client := server.Client()
	list, err := r.s.List(t.Context(), events.CapturePrefix(r.c))
	if err != nil || len(list) < 15 {
		t.Fatalf("%d objects, %v", len(list), err)
	}
	for _, e := range list {
		ids, _ := versionsOf(t, r.s, e.Key)
		if len(ids) != 1 {
			t.Fatalf("%s has versions %v", e.Key, ids)
		}
		_, err := client.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &r.s.Bucket, Key: &e.Key, VersionId: &ids[0]})
		if awserr.Code(err) != "AccessDenied" {
			t.Errorf("the version of %s is deleted: %v", e.Key, err)
		}
	}

	key := events.ManifestKey(r.c)
	before, err := r.s.Read(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	ids, _ := versionsOf(t, r.s, key)
	// Create-only: the object is there.
	if err := r.s.Create(t.Context(), key, []byte("forged")); err == nil {
		t.Error("the manifest is overwritten")
	}
	// Without the header it is a new version, and a deletion hides both, unless the bucket's policy denies them; the sealed version stays.
	if _, err = client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &r.s.Bucket, Key: &key, Body: strings.NewReader("forged")}); err != nil {
		t.Fatal(err)
	}
	if _, err = client.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &r.s.Bucket, Key: &key}); err != nil {
		t.Fatal(err)
	}
	if all, hidden := versionsOf(t, r.s, key); len(all) != 2 || !hidden {
		t.Errorf("versions %v, hidden: %t", all, hidden)
	}
	after, err := client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &r.s.Bucket, Key: &key, VersionId: &ids[0]})
	if err != nil {
		t.Fatal(err)
	}
	var m, was events.Manifest
	if err := json.NewDecoder(after.Body).Decode(&m); err != nil || json.Unmarshal(before, &was) != nil || m.SealedAt != was.SealedAt {
		t.Errorf("the sealed version is another: %v", err)
	}
}

// TestLegalHold: a request for it puts a hold on every object, also those of the seal and of addenda, which outlives retention.
func TestLegalHold(t *testing.T) {
	r := locked(t, "held", true)
	r.seal()
	r.put(events.CertificateKey(r.c, 3), []byte(`{"seq":3}`))
	r.amend(&abacus{}, time.Hour)
	client := server.Client()
	list, err := r.s.List(t.Context(), events.CapturePrefix(r.c))
	if err != nil || len(list) < 15 {
		t.Fatalf("%d objects, %v", len(list), err)
	}
	for _, e := range list {
		out, err := client.GetObjectLegalHold(t.Context(), &s3.GetObjectLegalHoldInput{Bucket: &r.s.Bucket, Key: &e.Key})
		if err != nil || out.LegalHold.Status != types.ObjectLockLegalHoldStatusOn {
			t.Errorf("%s has no legal hold: %v", e.Key, err)
		}
	}
	key := events.ManifestKey(r.c)
	ids, _ := versionsOf(t, r.s, key)
	_, err = client.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &r.s.Bucket, Key: &key, VersionId: &ids[0], BypassGovernanceRetention: aws.Bool(true)})
	if awserr.Code(err) != "AccessDenied" {
		t.Errorf("a held version is deleted: %v", err)
	}
}

// TestNoHold: without the request nothing is held.
func TestNoHold(t *testing.T) {
	r := locked(t, "free", false)
	r.seal()
	key := events.ManifestKey(r.c)
	out, err := server.Client().GetObjectLegalHold(t.Context(), &s3.GetObjectLegalHoldInput{Bucket: &r.s.Bucket, Key: &key})
	if err == nil && out.LegalHold.Status == types.ObjectLockLegalHoldStatusOn {
		t.Error("it is held")
	}
}

// TestHoldWithoutLock: a bucket that can't hold keeps nobody from sealing.
func TestHoldWithoutLock(t *testing.T) {
	if _, err := server.Client().CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("lockless")}); err != nil {
		t.Fatal(err)
	}
	r := orderly(t)
	r.s.Bucket, r.sealer.Bucket = "lockless", "lockless"
	r.plan.Request.LegalHold = true
	if result, _ := r.store().seal(); result.Verdict != events.VerdictComplete || result.Signature == "" {
		t.Errorf("%+v", result)
	}
}
