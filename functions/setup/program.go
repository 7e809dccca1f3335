package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/cfn"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"flashtap/functions/internal/awserr"
)

type objects interface {
	GetObject(context.Context, *s3.GetObjectInput, ...func(*s3.Options)) (*s3.GetObjectOutput, error)
	PutObject(context.Context, *s3.PutObjectInput, ...func(*s3.Options)) (*s3.PutObjectOutput, error)
}

// What became of a program.
const (
	programCopied = "copied"
	programThere  = "was there already, with the same digest"
	programStays  = "stays in the evidence bucket: evidence names it as the tool that made it"
)

var hexDigest = regexp.MustCompile(`^[0-9a-f]{64}$`)

// program copies the collector's program from the bucket of CDK's assets into the evidence bucket. A collector then
// needs to reach one bucket only, and what evidence names as its tool is kept as long as the evidence is. Its key is
// its physical id: a new version has a new key, and the old one stays.
func (s setup) program(ctx context.Context, event cfn.Event) (string, map[string]any, error) {
	if event.RequestType == cfn.RequestDelete {
		return event.PhysicalResourceID, map[string]any{"Status": programStays}, nil
	}
	p, err := properties(event, "SourceBucket", "SourceKey", "Bucket", "Key", "SHA256")
	if err != nil {
		return "", nil, err
	}
	if !hexDigest.MatchString(p["SHA256"]) {
		return "", nil, fmt.Errorf("SHA256 %q: want 64 hexadecimal digits in lower case", p["SHA256"])
	}
	file, err := os.CreateTemp("", "program-")
	if err != nil {
		return "", nil, err
	}
	defer func() {
		file.Close()           //nolint:errcheck // it was only read since it was written
		os.Remove(file.Name()) //nolint:errcheck // the function's own disk goes with its environment
	}()
	if err := s.fetch(ctx, file, p["SourceBucket"], p["SourceKey"], p["SHA256"]); err != nil {
		return "", nil, err
	}
	status, err := s.create(ctx, file, p["Bucket"], p["Key"], p["SHA256"])
	if err != nil {
		return "", nil, err
	}
	return p["Key"], map[string]any{"Status": status, "Key": p["Key"], "SHA256": p["SHA256"]}, nil
}

// fetch puts the asset into file. By way of a file it can be digested before any of it is stored, and sent again when
// S3 asks for that; it is too large for the memory of a small function.
func (s setup) fetch(ctx context.Context, file *os.File, bucket, key, digest string) error {
	where := "s3://" + bucket + "/" + key
	out, err := s.objects.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	// Who may not list a bucket is told that access is denied when an object is not there (Amazon S3 API Reference, GetObject).
	if awserr.IsNotFound(err) || slices.Contains([]string{"NoSuchBucket", "AccessDenied"}, awserr.Code(err)) {
		return fmt.Errorf("read the program %s: %w; publish the assets of this version first (cdk deploy does; so does the Terraform module)", where, err)
	}
	if err != nil {
		return fmt.Errorf("read the program %s: %w", where, err)
	}
	defer out.Body.Close()
	hash := sha256.New()
	if _, err := io.Copy(io.MultiWriter(file, hash), out.Body); err != nil {
		return fmt.Errorf("read the program %s: %w", where, err)
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != digest {
		return fmt.Errorf("the program %s has SHA-256 %s, the template says %s; nothing was stored: build and synthesize again, and publish what belongs together",
			where, got, digest)
	}
	return nil
}

// tries is how often the object is written when another write of the same key is under way: S3 answers that with a
// conflict, and asks to try again (S3 User Guide, "Conditional writes").
const tries = 5

// create writes the object unless there is one. S3 checks the digest of what it receives.
func (s setup) create(ctx context.Context, file *os.File, bucket, key, digest string) (string, error) {
	raw, err := hex.DecodeString(digest)
	if err != nil {
		return "", err
	}
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return "", err
	}
	where := "s3://" + bucket + "/" + key
	for try := 1; ; try++ {
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return "", err
		}
		_, err := s.objects.PutObject(ctx, &s3.PutObjectInput{
			Bucket: &bucket, Key: &key, Body: file, ContentLength: &size,
			ContentType:    aws.String("application/octet-stream"),
			IfNoneMatch:    aws.String("*"),
			ChecksumSHA256: aws.String(base64.StdEncoding.EncodeToString(raw)),
		})
		switch {
		case err == nil:
			return programCopied, nil
		case awserr.IsExisting(err):
			return programThere, s.compare(ctx, bucket, key, digest)
		case try == tries || awserr.Code(err) != "ConditionalRequestConflict":
			return "", fmt.Errorf("write the program %s: %w", where, err)
		}
		select {
		case <-time.After(time.Duration(try) * 200 * time.Millisecond):
		case <-ctx.Done():
			return "", fmt.Errorf("write the program %s: %w", where, errors.Join(err, ctx.Err()))
		}
	}
}

// compare reads what lies under the key. What S3 says of its digest would do for most objects, but not for one that
// was put there without.
func (s setup) compare(ctx context.Context, bucket, key, digest string) error {
	where := "s3://" + bucket + "/" + key
	out, err := s.objects.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		return fmt.Errorf("compare with the object at %s: %w", where, err)
	}
	defer out.Body.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, out.Body); err != nil {
		return fmt.Errorf("compare with the object at %s: %w", where, err)
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != digest {
		hint := "somebody else wrote there"
		if !strings.Contains(key, digest) {
			hint = "the key does not contain the digest, so two versions share it"
		}
		return fmt.Errorf("%s holds other bytes (SHA-256 %s, not %s), and nothing in the evidence bucket is overwritten: %s; "+
			"find out who, and deploy with a program of another digest", where, got, digest, hint)
	}
	return nil
}
