package region

import (
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
)

// HTTPClient is the SDK's own HTTP client, mended for clients that ask only once: on a busy machine the SDK's own breaks
// a call now and then, which retries hide everywhere else.
//
// How it does: the transport writes the whole body, and only then looks whether the body has ended. A server as near as
// this one may have answered by then, and smithy-go (v1.28.8, transport/http/client.go) has closed the body. Its
// WriteTo then says io.EOF where io.WriterTo wants nil, which the transport takes for a failed write: it closes the
// connection in the middle of the answer ("use of closed network connection"). Read says the same as it should, so that
// is all that is left of a body here.
func HTTPClient(options ...func(*http.Transport)) aws.HTTPClient {
	return plainBodies{awshttp.NewBuildableClient().WithTransportOptions(options...)}
}

type plainBodies struct{ client *awshttp.BuildableClient }

func (p plainBodies) Do(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		req.Body = struct{ io.ReadCloser }{req.Body}
	}
	return p.client.Do(req)
}
