package standin

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

func TestTheSDKStoresObjectsOverTLS(t *testing.T) {
	dir := t.TempDir()
	server, err := Serve(context.Background(), Config{Dir: dir, Instance: "i-00000000000000001", Region: "us-east-1", Address: netip.MustParseAddr("198.18.0.2")})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close() //nolint:errcheck // the test ends here
	authority, err := os.ReadFile(server.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	client := s3.New(s3.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(server.Endpoint), UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""),
		HTTPClient:  &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}},
	})
	for _, key := range []string{"a/b/000001.pcap", "a/b/manifest.json"} {
		_, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("bucket"), Key: aws.String(key), Body: bytes.NewReader([]byte("hello"))})
		if err != nil {
			t.Fatal(err)
		}
	}
	if n, size := server.Received(); n != 1 || size != 5 {
		t.Errorf("%d segments of %d bytes", n, size)
	}
	if kept, err := os.ReadFile(filepath.Join(dir, "manifest.json")); err != nil || string(kept) != "hello" {
		t.Errorf("%q, error %v", kept, err)
	}
	if _, err := client.ListBuckets(t.Context(), nil); err == nil {
		t.Error("what it can't do is no error")
	}
}
