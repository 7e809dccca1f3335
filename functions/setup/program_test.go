package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/cfn"
	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"flashtap/testutil/s3"
)

// buckets are CDK's asset bucket and the evidence bucket, on a real S3 server.
type buckets struct {
	*sdk.Client
	t      *testing.T
	server *s3.Server
}

func newBuckets(t *testing.T) *buckets {
	server, err := s3.Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	for _, name := range []string{"assets", "evidence"} {
		if err := server.CreateBucket(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	return &buckets{server.Client(), t, server}
}

func (b *buckets) put(bucket, key string, body []byte) {
	b.t.Helper()
	if _, err := b.PutObject(b.t.Context(), &sdk.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader(body)}); err != nil {
		b.t.Fatal(err)
	}
}

func (b *buckets) get(bucket, key string) []byte {
	b.t.Helper()
	out, err := b.GetObject(b.t.Context(), &sdk.GetObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		b.t.Fatal(err)
	}
	defer out.Body.Close()
	body, err := io.ReadAll(out.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return body
}

func sum(body []byte) string {
	s := sha256.Sum256(body)
	return hex.EncodeToString(s[:])
}

// programEvent asks for a program whose asset is called after name.
func programEvent(kind cfn.RequestType, name, digest string) cfn.Event {
	key := "tools/collector-arm64-" + digest
	return cfn.Event{RequestType: kind, ResourceType: typeProgram, LogicalResourceID: "CollectorArm64", ResourceProperties: map[string]any{
		"ServiceToken": "arn:aws:lambda:eu-central-1:111122223333:function:flashtap-test-setup",
		"SourceBucket": "assets", "SourceKey": name, "Bucket": "evidence", "Key": key, "SHA256": digest,
	}}
}

func TestProgram(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	b, c := newBuckets(t), newCloudFormation(t)
	s := setup{objects: b}
	program := bytes.Repeat([]byte("machine code "), 1<<18) // 3.25 MB
	digest := sum(program)
	b.put("assets", "asset-1", program)

	a := c.ask(t.Context(), s.handle, programEvent(cfn.RequestCreate, "asset-1", digest))
	if a.Status != cfn.StatusSuccess || a.PhysicalResourceID != "tools/collector-arm64-"+digest || a.Data["Status"] != programCopied || a.Data["SHA256"] != digest {
		t.Fatalf("%+v", a)
	}
	if !bytes.Equal(b.get("evidence", a.PhysicalResourceID), program) {
		t.Error("the bucket holds another program")
	}
	head, err := b.HeadObject(t.Context(), &sdk.HeadObjectInput{Bucket: aws.String("evidence"), Key: &a.PhysicalResourceID, ChecksumMode: types.ChecksumModeEnabled})
	if err != nil || aws.ToString(head.ChecksumSHA256) == "" {
		t.Errorf("S3 did not check the digest: %+v, %v", head, err)
	}

	// CloudFormation, or Lambda for a lost answer, asks again.
	if a := c.ask(t.Context(), s.handle, programEvent(cfn.RequestCreate, "asset-1", digest)); a.Status != cfn.StatusSuccess || a.Data["Status"] != programThere {
		t.Errorf("again: %+v", a)
	}

	// A new version is a new object; the old one stays, also when CloudFormation deletes what it replaced.
	next := append(bytes.Clone(program), "and more"...)
	b.put("assets", "asset-2", next)
	update := programEvent(cfn.RequestUpdate, "asset-2", sum(next))
	update.PhysicalResourceID = a.PhysicalResourceID
	updated := c.ask(t.Context(), s.handle, update)
	if updated.Status != cfn.StatusSuccess || updated.PhysicalResourceID == a.PhysicalResourceID {
		t.Errorf("update: %+v", updated)
	}
	gone := programEvent(cfn.RequestDelete, "asset-1", digest)
	gone.PhysicalResourceID = a.PhysicalResourceID
	if d := c.ask(t.Context(), s.handle, gone); d.Status != cfn.StatusSuccess || d.Data["Status"] != programStays || d.PhysicalResourceID != a.PhysicalResourceID {
		t.Errorf("delete: %+v", d)
	}
	if !bytes.Equal(b.get("evidence", a.PhysicalResourceID), program) || !bytes.Equal(b.get("evidence", updated.PhysicalResourceID), next) {
		t.Error("a version is lost")
	}
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "program-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestProgramRefused(t *testing.T) {
	b, c := newBuckets(t), newCloudFormation(t)
	s := setup{objects: b}
	program := []byte("the program")
	b.put("assets", "asset", program)
	b.put("evidence", "tools/collector-arm64-"+sum([]byte("taken")), []byte("something else"))
	b.put("assets", "taken", []byte("taken"))
	shared := programEvent(cfn.RequestCreate, "asset", sum(program))
	shared.ResourceProperties["Key"] = "tools/collector"
	b.put("evidence", "tools/collector", []byte("an older program"))
	short := programEvent(cfn.RequestCreate, "asset", sum(program)[:63])
	bare := programEvent(cfn.RequestCreate, "asset", sum(program))
	delete(bare.ResourceProperties, "Key")
	bare.ResourceProperties["Bucket"] = 7.0
	elsewhere := programEvent(cfn.RequestCreate, "asset", sum(program))
	elsewhere.ResourceProperties["SourceBucket"] = "no-such-bucket"
	for name, row := range map[string]struct {
		event cfn.Event
		says  []string
	}{
		"the asset is another program":  {programEvent(cfn.RequestCreate, "asset", sum([]byte("x"))), []string{"s3://assets/asset has SHA-256 " + sum(program), "nothing was stored"}},
		"the asset is not there":        {programEvent(cfn.RequestCreate, "nothing", sum(program)), []string{"s3://assets/nothing", "publish the assets"}},
		"the asset bucket is not there": {elsewhere, []string{"s3://no-such-bucket/asset", "publish the assets"}},
		"the key holds something else":  {programEvent(cfn.RequestCreate, "taken", sum([]byte("taken"))), []string{"holds other bytes", "somebody else wrote there"}},
		"two versions share a key":      {shared, []string{"tools/collector holds other bytes", "the key does not contain the digest"}},
		"a digest that is none":         {short, []string{"want 64 hexadecimal digits"}},
		"properties that are not there": {bare, []string{"gives no Bucket, Key"}},
	} {
		a := c.ask(t.Context(), s.handle, row.event)
		if a.Status != cfn.StatusFailed {
			t.Errorf("%s: %+v", name, a)
		}
		for _, want := range append(row.says, "CollectorArm64") {
			if !strings.Contains(a.Reason, want) {
				t.Errorf("%s: %q does not say %q", name, a.Reason, want)
			}
		}
	}
	if got := string(b.get("evidence", "tools/collector")); got != "an older program" {
		t.Errorf("overwritten by %q", got)
	}
	keys, err := b.ListObjectsV2(t.Context(), &sdk.ListObjectsV2Input{Bucket: aws.String("evidence")})
	if err != nil || len(keys.Contents) != 2 {
		t.Errorf("stored although refused: %+v, %v", keys, err)
	}
}

// busy answers the first writes as S3 does while another write of the same key is under way.
type busy struct {
	*buckets
	conflicts int
}

func (b *busy) PutObject(ctx context.Context, in *sdk.PutObjectInput, options ...func(*sdk.Options)) (*sdk.PutObjectOutput, error) {
	if _, err := io.Copy(io.Discard, in.Body); err != nil { // as much of the body as the wire would take
		return nil, err
	}
	if b.conflicts--; b.conflicts >= 0 {
		return nil, &smithy.GenericAPIError{Code: "ConditionalRequestConflict", Message: "another write is under way"}
	}
	if _, err := in.Body.(io.Seeker).Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return b.buckets.PutObject(ctx, in, options...)
}

// closed is a bucket that its caller may not list, without the object.
type closed struct{ *buckets }

func (closed) GetObject(context.Context, *sdk.GetObjectInput, ...func(*sdk.Options)) (*sdk.GetObjectOutput, error) {
	return nil, &smithy.GenericAPIError{Code: "AccessDenied", Message: "Access Denied"}
}

func TestProgramDenied(t *testing.T) {
	a := newCloudFormation(t).ask(t.Context(), setup{objects: closed{}}.handle, programEvent(cfn.RequestCreate, "asset", sum(nil)))
	if a.Status != cfn.StatusFailed || !strings.Contains(a.Reason, "AccessDenied") || !strings.Contains(a.Reason, "publish the assets") {
		t.Errorf("%+v", a)
	}
}

func TestProgramConflict(t *testing.T) {
	b, c := newBuckets(t), newCloudFormation(t)
	program := []byte("the program")
	b.put("assets", "asset", program)
	event := programEvent(cfn.RequestCreate, "asset", sum(program))
	if a := c.ask(t.Context(), setup{objects: &busy{b, tries}}.handle, event); a.Status != cfn.StatusFailed || !strings.Contains(a.Reason, "ConditionalRequestConflict") {
		t.Errorf("a conflict that lasts: %+v", a)
	}
	if a := c.ask(t.Context(), setup{objects: &busy{b, tries - 1}}.handle, event); a.Status != cfn.StatusSuccess || a.Data["Status"] != programCopied {
		t.Errorf("a conflict that passes: %+v", a)
	}
	if !bytes.Equal(b.get("evidence", event.ResourceProperties["Key"].(string)), program) {
		t.Error("after a conflict something else was stored")
	}
}
