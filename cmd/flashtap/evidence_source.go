package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"flashtap/collector/evidence"
	"flashtap/events"
)

// place is where evidence was said to lie.
type place struct {
	evidence.Source
	capture events.CaptureID // empty: not known from outside
	name    string           // for people
	folder  string           // empty: in a bucket
	close   func() error
}

// openEvidence opens a folder, s3://BUCKET/captures/CAPTURE, or a capture in the deployment's bucket.
func (t *tool) openEvidence(ctx context.Context, operand string) (place, error) {
	if rest, ok := strings.CutPrefix(operand, "s3://"); ok {
		bucket, key, _ := strings.Cut(rest, "/")
		c, err := events.CaptureOfKey(strings.TrimSuffix(key, "/") + "/")
		if err != nil || bucket == "" || strings.TrimSuffix(key, "/")+"/" != events.CapturePrefix(c) {
			return place{}, usage(fmt.Sprintf("%q: want s3://BUCKET/captures/CAPTURE", operand), "flashtap list shows the captures")
		}
		return openBucket(ctx, bucket, c)
	}
	info, err := os.Stat(operand)
	if errors.Is(err, fs.ErrNotExist) {
		if c := events.CaptureID(operand); c.Validate() == nil {
			s, err := t.settings("FLASHTAP_BUCKET")
			if err != nil {
				return place{}, err
			}
			return openBucket(ctx, s.Bucket, c)
		}
		return place{}, notFound("name a folder, a capture, or s3://BUCKET/captures/CAPTURE", "%s: no such folder", operand)
	}
	if err != nil {
		return place{}, err
	}
	if !info.IsDir() {
		return place{}, usage(operand+" is a file: want the folder with all of a capture's evidence", "")
	}
	dir, err := captureFolder(operand)
	if err != nil {
		return place{}, err
	}
	folder, err := evidence.OpenFolder(dir)
	if err != nil {
		return place{}, err
	}
	return place{Source: folder, capture: evidence.CaptureOfFolder(dir), name: dir, folder: dir, close: folder.Close}, nil
}

// captureFolder finds the one capture in a folder that holds captures/ and nothing else, as a bucket does. In the folder of a capture,
// captures/ is one more thing that is checked.
func captureFolder(dir string) (string, error) {
	top, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	if evidence.CaptureOfFolder(dir) != "" || len(top) != 1 || top[0].Name() != "captures" || !top[0].IsDir() {
		return dir, nil
	}
	entries, err := os.ReadDir(filepath.Join(dir, "captures"))
	if err != nil {
		return "", err
	}
	var captures []string
	for _, e := range entries {
		if e.IsDir() && events.CaptureID(e.Name()).Validate() == nil {
			captures = append(captures, filepath.Join(dir, "captures", e.Name()))
		}
	}
	switch len(captures) {
	case 0:
		return dir, nil
	case 1:
		return captures[0], nil
	}
	return "", usage(dir+" holds several captures: name one of "+strings.Join(captures, ", "), "")
}

func openBucket(ctx context.Context, bucket string, c events.CaptureID) (place, error) {
	cfg, err := connect(ctx)
	if err != nil {
		return place{}, err
	}
	where := "s3://" + bucket + "/" + strings.TrimSuffix(events.CapturePrefix(c), "/")
	b := &bucketSource{api: s3.NewFromConfig(cfg), bucket: bucket, prefix: events.CapturePrefix(c)}
	return place{Source: b, capture: c, name: where, close: func() error { return nil }}, nil
}

// bucketSource is the evidence of one capture in a bucket.
type bucketSource struct {
	api    *s3.Client
	bucket string
	prefix string
}

// List implements evidence.Source.
func (b *bucketSource) List(ctx context.Context) ([]evidence.Entry, error) {
	var list []evidence.Entry
	pages := s3.NewListObjectsV2Paginator(b.api, &s3.ListObjectsV2Input{Bucket: &b.bucket, Prefix: &b.prefix})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("list s3://%s/%s: %w", b.bucket, b.prefix, err)
		}
		for _, o := range page.Contents {
			list = append(list, evidence.Entry{Name: strings.TrimPrefix(aws.ToString(o.Key), b.prefix), Bytes: aws.ToInt64(o.Size)})
		}
	}
	return list, nil
}

// Open implements evidence.Source. What it returns goes on where it was when the line breaks.
func (b *bucketSource) Open(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	o := &bucketObject{ctx: ctx, source: b, name: name, offset: offset}
	if err := o.open(); err != nil {
		return nil, err
	}
	return o, nil
}

// bucketObject is an object that is being read.
type bucketObject struct {
	ctx    context.Context
	source *bucketSource
	name   string
	offset int64
	etag   *string // of the version whose reading was begun
	body   io.ReadCloser
	broken int // times in a row without a byte
}

func (o *bucketObject) open() error {
	key := o.source.prefix + o.name
	in := &s3.GetObjectInput{Bucket: &o.source.bucket, Key: &key, IfMatch: o.etag}
	if o.offset > 0 {
		in.Range = aws.String(fmt.Sprintf("bytes=%d-", o.offset))
	}
	out, err := o.source.api.GetObject(o.ctx, in)
	var none *types.NoSuchKey
	switch {
	case errors.As(err, &none):
		return fmt.Errorf("read %s: %w", o.name, fs.ErrNotExist)
	case awsCode(err) == "InvalidRange": // nothing is behind the offset
		o.body = io.NopCloser(strings.NewReader(""))
		return nil
	case err != nil:
		return fmt.Errorf("read %s: %w", o.name, err)
	}
	o.etag, o.body = out.ETag, out.Body
	return nil
}

// Read implements io.Reader.
func (o *bucketObject) Read(p []byte) (int, error) {
	const most = 5
	for {
		n, err := o.body.Read(p)
		o.offset += int64(n)
		if n > 0 {
			o.broken = 0
			if err != io.EOF {
				return n, nil // an error comes again
			}
		}
		if err == nil || err == io.EOF || o.ctx.Err() != nil {
			return n, err
		}
		if o.broken++; o.broken > most {
			return n, fmt.Errorf("read %s at byte %d: %w", o.name, o.offset, err)
		}
		select {
		case <-time.After(time.Duration(o.broken) * 200 * time.Millisecond):
		case <-o.ctx.Done():
			return n, o.ctx.Err()
		}
		_ = o.body.Close() // the line is broken already
		if err := o.open(); err != nil {
			return n, err
		}
	}
}

// Close implements io.Closer.
func (o *bucketObject) Close() error { return o.body.Close() }
