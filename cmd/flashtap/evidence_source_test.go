package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// TestReadingGoesOnWhenTheLineBreaks has a server that hands out 100,000 bytes at most and then hangs up.
func TestReadingGoesOnWhenTheLineBreaks(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789abcdef"), 40_000)
	changed := false
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		from := 0
		if text := r.Header.Get("Range"); text != "" {
			if _, err := fmt.Sscanf(text, "bytes=%d-", &from); err != nil {
				t.Error(err)
			}
		}
		if match := r.Header.Get("If-Match"); asked > 1 && match != `"one"` {
			t.Errorf("asked again with If-Match %q", match)
		}
		if changed && asked > 1 {
			w.WriteHeader(http.StatusPreconditionFailed)
			return
		}
		w.Header().Set("ETag", `"one"`)
		w.Header().Set("Content-Length", fmt.Sprint(len(body)-from))
		if from > 0 {
			w.WriteHeader(http.StatusPartialContent)
		}
		_, _ = w.Write(body[from:min(from+100_000, len(body))]) // the client may be gone
	}))
	defer server.Close()
	client := s3.New(s3.Options{BaseEndpoint: &server.URL, Region: "us-east-1", UsePathStyle: true, Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""), Retryer: aws.NopRetryer{}})
	source := &bucketSource{api: client, bucket: "evidence", prefix: "captures/x/"}
	read := func() ([]byte, error) {
		asked = 0
		in, err := source.Open(t.Context(), "segment", 0)
		if err != nil {
			return nil, err
		}
		defer in.Close()
		return io.ReadAll(in)
	}
	if got, err := read(); err != nil || !bytes.Equal(got, body) || asked != 7 {
		t.Errorf("%d of %d bytes in %d requests, %v", len(got), len(body), asked, err)
	}
	changed = true
	if _, err := read(); err == nil || !strings.Contains(err.Error(), "segment") {
		t.Errorf("another object at the same key: %v", err)
	}
}
