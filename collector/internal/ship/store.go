package ship

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"

	"flashtap/collector/internal/spool"
)

// Store is the evidence bucket.
type Store struct {
	client *s3.Client
	bucket string
}

// StoreConfig says where the evidence bucket is.
type StoreConfig struct {
	Region   string
	Bucket   string
	Endpoint string // URL; empty: the Region's own, or the one of the environment
}

// writeBuffer is how much goes into one write to a connection; the transport's 4 KiB cost a system call each.
const writeBuffer = 256 << 10

// NewStore makes a client of the bucket, with the credentials of the instance's role or of the environment.
func NewStore(ctx context.Context, cfg StoreConfig) (*Store, error) {
	transport := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) { t.WriteBufferSize = writeBuffer })
	shared, err := config.LoadDefaultConfig(ctx, config.WithRegion(cfg.Region), config.WithHTTPClient(transport))
	if err != nil {
		return nil, fmt.Errorf("load the SDK's configuration: %w", err)
	}
	client := s3.NewFromConfig(shared, func(o *s3.Options) {
		if cfg.Endpoint != "" {
			o.BaseEndpoint = aws.String(cfg.Endpoint)
		}
		o.UsePathStyle = pathStyle(aws.ToString(o.BaseEndpoint))
		o.Retryer = aws.NopRetryer{} // Shipper repeats, and knows for how long
	})
	return &Store{client: client, bucket: cfg.Bucket}, nil
}

// pathStyle says whether buckets are named in the path: a bucket cannot stand before an address or a bare host name.
func pathStyle(endpoint string) bool {
	u, err := url.Parse(endpoint)
	if err != nil || endpoint == "" {
		return false
	}
	_, err = netip.ParseAddr(u.Hostname())
	return err == nil || !strings.Contains(u.Hostname(), ".")
}

// Put stores one object, create-only, and has S3 compare its bytes with the digest that the spool noted.
func (s *Store) Put(ctx context.Context, o spool.Object, body io.ReadSeeker) error {
	digest, err := hex.DecodeString(o.SHA256)
	if err != nil {
		return fmt.Errorf("digest of %s: %w", o.Key, err)
	}
	_, err = s.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket:         aws.String(s.bucket),
		Key:            aws.String(o.Key),
		Body:           plain{body},
		ContentLength:  aws.Int64(o.Bytes),
		ContentType:    aws.String(o.ContentType),
		ChecksumSHA256: aws.String(base64.StdEncoding.EncodeToString(digest)),
		IfNoneMatch:    aws.String("*"),
	}, s3.WithAPIOptions(knownDigest(o.SHA256)))
	return err
}

// plain hides what else a body can do. One that has a method WriteTo, as files have, lets smithy-go (v1.28.8) break a
// connection now and then when the store answers at once: its wrapper says io.EOF from WriteTo once it is closed, which
// net/http takes for a failed write.
type plain struct{ io.ReadSeeker }

// knownDigest signs the body with a digest that is known already, so that nobody reads the file twice.
func knownDigest(digest string) func(*middleware.Stack) error {
	return func(stack *middleware.Stack) error {
		return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("KnownDigest",
			func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
				return next.HandleInitialize(v4.SetPayloadHash(ctx, digest), in)
			}), middleware.After)
	}
}
