package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
)

const bucket = "evidence"

func start(t *testing.T) (*Server, *s3.Client) {
	t.Helper()
	server, err := Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	if err := server.CreateBucket(t.Context(), bucket); err != nil {
		t.Fatal(err)
	}
	return server, server.Client()
}

func put(ctx context.Context, client *s3.Client, key, body string, change func(*s3.PutObjectInput)) error {
	sum := sha256.Sum256([]byte(body))
	in := &s3.PutObjectInput{
		Bucket: aws.String(bucket), Key: aws.String(key), Body: bytes.NewReader([]byte(body)),
		IfNoneMatch:    aws.String("*"),
		ChecksumSHA256: aws.String(base64.StdEncoding.EncodeToString(sum[:])),
	}
	if change != nil {
		change(in)
	}
	_, err := client.PutObject(ctx, in)
	return err
}

func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// What the product's evidence rests on: the server refuses what S3 refuses.
func TestServerSaysNoWhereS3Does(t *testing.T) {
	server, client := start(t)
	if err := put(t.Context(), client, "captures/a:b/one.pcap", "frames", nil); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(server.BucketDir(bucket), "captures", "a:b", "one.pcap")); err != nil || string(got) != "frames" {
		t.Errorf("the object is no plain file: %q, %v", got, err)
	}
	if err := put(t.Context(), client, "captures/a:b/one.pcap", "others", nil); code(err) != "PreconditionFailed" {
		t.Errorf("a second create-only PUT: %v", err)
	}
	wrong := func(in *s3.PutObjectInput) { in.Body = bytes.NewReader([]byte("framez")) }
	if err := put(t.Context(), client, "two", "frames", wrong); code(err) != "BadDigest" {
		t.Errorf("a body with another digest: %v", err)
	}
	elsewhere := s3.New(client.Options(), func(o *s3.Options) { o.Region = "eu-central-1" })
	if err := put(t.Context(), elsewhere, "three", "frames", nil); err == nil {
		t.Error("a request signed for another Region was taken")
	}
	lock, err := client.GetObjectLockConfiguration(t.Context(), &s3.GetObjectLockConfigurationInput{Bucket: aws.String(bucket)})
	if err != nil || lock.ObjectLockConfiguration.ObjectLockEnabled != "Enabled" {
		t.Errorf("Object Lock: %v", err)
	}
}

func TestServerComesBackAtItsAddress(t *testing.T) {
	server, client := start(t)
	if err := put(t.Context(), client, "one", "frames", nil); err != nil {
		t.Fatal(err)
	}
	if err := server.Restart(); err == nil {
		t.Error("a running server was started twice")
	}
	server.Stop()
	server.Stop() // ending what has ended is no error
	if conn, err := net.Dial("tcp", server.addr); err == nil {
		conn.Close()
		t.Fatal("a stopped server accepts connections")
	}
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	if err := put(t.Context(), client, "one", "others", nil); code(err) != "PreconditionFailed" {
		t.Errorf("after a restart the object is gone: %v", err)
	}
}

func TestSeveralServersInOneProgram(t *testing.T) {
	before, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	first, client := start(t)
	second, _ := start(t)
	if first.Endpoint() == second.Endpoint() {
		t.Error("two servers with one address")
	}
	if err := put(t.Context(), client, "one", "frames", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(second.BucketDir(bucket), "one")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an object of one is in the other: %v", err)
	}
	if after, err := os.Getwd(); err != nil || after != before {
		t.Errorf("the working directory is now %s", after)
	}
}
