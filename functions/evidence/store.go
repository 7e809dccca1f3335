// Package evidence reads and writes the records of a capture in the evidence bucket, each of them once.
package evidence

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/gowebpki/jcs"

	"flashtap/events"
	"flashtap/functions/internal/awserr"
)

type bucketAPI interface {
	PutObject(context.Context, *s3.PutObjectInput, ...func(*s3.Options)) (*s3.PutObjectOutput, error)
	GetObject(context.Context, *s3.GetObjectInput, ...func(*s3.Options)) (*s3.GetObjectOutput, error)
	HeadObject(context.Context, *s3.HeadObjectInput, ...func(*s3.Options)) (*s3.HeadObjectOutput, error)
	ListObjectsV2(context.Context, *s3.ListObjectsV2Input, ...func(*s3.Options)) (*s3.ListObjectsV2Output, error)
	PutObjectLegalHold(context.Context, *s3.PutObjectLegalHoldInput, ...func(*s3.Options)) (*s3.PutObjectLegalHoldOutput, error)
}

// Store is the evidence bucket.
type Store struct {
	API    bucketAPI
	Bucket string
	Hold   bool // what is created gets a legal hold at once
}

// maxRecord is the largest record we read whole; segments are never read.
const maxRecord = 64 << 20

var errTooLarge = errors.New("larger than any record of ours, the limit")

// ErrExists says that the key holds an object already. It was not changed.
var ErrExists = errors.New("object exists")

// Create writes an object that must not exist yet. S3 checks the digest of what it received. When the key is taken by
// the very same bytes (a step that runs twice), that is success; by other bytes, ErrExists.
func (s Store) Create(ctx context.Context, key string, body []byte) error {
	sum := sha256.Sum256(body)
	in := &s3.PutObjectInput{
		Bucket: &s.Bucket, Key: &key, Body: bytes.NewReader(body),
		ContentType:    aws.String(contentType(key)),
		IfNoneMatch:    aws.String("*"),
		ChecksumSHA256: aws.String(base64.StdEncoding.EncodeToString(sum[:])),
	}
	if s.Hold {
		in.ObjectLockLegalHoldStatus = types.ObjectLockLegalHoldStatusOn
	}
	_, err := s.API.PutObject(ctx, in)
	if err == nil {
		return nil
	}
	if !awserr.IsExisting(err) {
		return fmt.Errorf("write %s: %w", key, err)
	}
	there, readErr := s.Read(ctx, key)
	if readErr != nil {
		return fmt.Errorf("compare with what is there: %w", readErr)
	}
	if bytes.Equal(there, body) {
		return nil
	}
	return fmt.Errorf("write %s: %w", key, ErrExists)
}

func contentType(key string) string {
	switch path.Ext(key) {
	case ".jsonl":
		return "application/jsonl"
	case ".pem":
		return "application/x-pem-file"
	case ".sig":
		return "application/octet-stream"
	case ".txt":
		return "text/plain"
	}
	return "application/json"
}

// CreateJSON writes v in its canonical form as an object that must not exist yet.
func (s Store) CreateJSON(ctx context.Context, key string, v any) error {
	body, err := Canonical(v)
	if err != nil {
		return fmt.Errorf("write %s: %w", key, err)
	}
	return s.Create(ctx, key, body)
}

// Canonical is the form that RFC 8785 gives v, in which every record is stored, hashed and signed.
func Canonical(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return jcs.Transform(text)
}

// Read returns a record; fs.ErrNotExist when there is none.
func (s Store) Read(ctx context.Context, key string) ([]byte, error) {
	return s.readUpTo(ctx, key, maxRecord)
}

func (s Store) readUpTo(ctx context.Context, key string, limit int) ([]byte, error) {
	out, err := s.API.GetObject(ctx, &s3.GetObjectInput{Bucket: &s.Bucket, Key: &key})
	if awserr.IsNotFound(err) {
		return nil, fmt.Errorf("read %s: %w", key, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	defer out.Body.Close()
	body, err := io.ReadAll(io.LimitReader(out.Body, int64(limit)+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	if len(body) > limit {
		return nil, fmt.Errorf("read %s: %w of %d bytes", key, errTooLarge, limit)
	}
	return body, nil
}

// ReadJSON reads a record into v.
func (s Store) ReadJSON(ctx context.Context, key string, v any) error {
	body, err := s.Read(ctx, key)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("read %s: %w", key, err)
	}
	return nil
}

// Plan reads the plan of a capture.
func (s Store) Plan(ctx context.Context, c events.CaptureID) (events.Plan, error) {
	var p events.Plan
	if err := c.Validate(); err != nil {
		return p, err
	}
	if err := s.ReadJSON(ctx, events.PlanKey(c), &p); err != nil {
		return p, err
	}
	if p.Version != events.RecordVersion || p.Capture != c {
		return p, fmt.Errorf("plan of %s: has version %d and is about %s", c, p.Version, p.Capture)
	}
	return p, nil
}

// Record keeps one act of the chain of custody. The first record of an act stands.
func (s Store) Record(ctx context.Context, e events.CustodyEntry) error {
	e.Version = events.RecordVersion
	if e.At.IsZero() {
		e.At = time.Now().UTC()
	}
	err := s.CreateJSON(ctx, events.CustodyKey(e.Capture, e.Actor, e.Act), e)
	if errors.Is(err, ErrExists) {
		return nil
	}
	return err
}

// Entry is one object as listed.
type Entry struct {
	Key    string
	Bytes  int64
	Stored time.Time // S3's LastModified
}

// List names every object under a prefix, in key order.
func (s Store) List(ctx context.Context, prefix string) ([]Entry, error) {
	var list []Entry
	pages := s3.NewListObjectsV2Paginator(s.API, &s3.ListObjectsV2Input{Bucket: &s.Bucket, Prefix: &prefix})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", prefix, err)
		}
		for _, o := range page.Contents {
			list = append(list, Entry{Key: aws.ToString(o.Key), Bytes: aws.ToInt64(o.Size), Stored: aws.ToTime(o.LastModified)})
		}
	}
	return list, nil
}

// Captures names the captures in the bucket that started at or after since, oldest first.
func (s Store) Captures(ctx context.Context, since time.Time) ([]events.CaptureID, error) {
	var found []events.CaptureID
	pages := s3.NewListObjectsV2Paginator(s.API, &s3.ListObjectsV2Input{
		Bucket: &s.Bucket, Prefix: aws.String(events.CapturesPrefix()), Delimiter: aws.String("/"),
		StartAfter: aws.String(events.CapturesPrefix() + since.UTC().Format("20060102T150405Z")),
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("list captures: %w", err)
		}
		for _, p := range page.CommonPrefixes {
			c, err := events.CaptureOfKey(aws.ToString(p.Prefix))
			if err != nil {
				continue // not made by us; the bucket may hold other things
			}
			found = append(found, c)
		}
	}
	return found, nil
}

// Exists says whether a key holds an object.
func (s Store) Exists(ctx context.Context, key string) (bool, error) {
	_, err := s.head(ctx, key)
	if awserr.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// StoredDigest is the SHA-256 that S3 itself computed when it took the object, in hexadecimal; "" when it has none.
func (s Store) StoredDigest(ctx context.Context, key string) (digest string, size int64, err error) {
	head, err := s.head(ctx, key)
	if err != nil {
		return "", 0, err
	}
	raw, err := base64.StdEncoding.DecodeString(aws.ToString(head.ChecksumSHA256))
	if err != nil || len(raw) != sha256.Size {
		return "", aws.ToInt64(head.ContentLength), nil
	}
	return hex.EncodeToString(raw), aws.ToInt64(head.ContentLength), nil
}

// readDigest computes the SHA-256 of an object as it is read.
func (s Store) readDigest(ctx context.Context, key string) (digest string, size int64, err error) {
	out, err := s.API.GetObject(ctx, &s3.GetObjectInput{Bucket: &s.Bucket, Key: &key})
	if err != nil {
		return "", 0, fmt.Errorf("digest %s: %w", key, err)
	}
	defer out.Body.Close()
	hash := sha256.New()
	if size, err = io.Copy(hash, out.Body); err != nil {
		return "", 0, fmt.Errorf("digest %s: %w", key, err)
	}
	return hex.EncodeToString(hash.Sum(nil)), size, nil
}

func (s Store) head(ctx context.Context, key string) (*s3.HeadObjectOutput, error) {
	head, err := s.API.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.Bucket, Key: &key, ChecksumMode: types.ChecksumModeEnabled})
	if err != nil {
		return nil, fmt.Errorf("look at %s: %w", key, err)
	}
	return head, nil
}

// Digest is the SHA-256 of a record in hexadecimal.
func Digest(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}
