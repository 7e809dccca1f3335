package awserr

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// answered is an error as the SDK's clients return it: the operation around the response around what the service said.
func answered(status int, code string) error {
	return &smithy.OperationError{ServiceID: "EC2", OperationName: "Any", Err: &smithyhttp.ResponseError{
		Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status}},
		Err:      &smithy.GenericAPIError{Code: code, Message: "said by AWS"},
	}}
}

func TestCodes(t *testing.T) {
	const none, notFound, existing, inUse, noCapacity = "", "not found", "existing", "in use", "no capacity"
	for code, want := range map[string]string{
		// EC2 API Reference, "Error codes", and the spellings that are seen in practice.
		"InvalidTrafficMirrorSessionNotFound":       notFound,
		"InvalidTrafficMirrorFilterNotFound":        notFound,
		"InvalidTrafficMirrorFilterRuleNotFound":    notFound,
		"InvalidTrafficMirrorTargetNoFound":         notFound, // sic
		"InvalidTrafficMirrorSessionId.NotFound":    notFound,
		"InvalidTrafficMirrorTargetId.NotFound":     notFound,
		"InvalidTrafficMirrorFilterId.NotFound":     notFound,
		"InvalidTrafficMirrorFilterRuleId.NotFound": notFound,
		"InvalidTrafficMirrorTarget":                notFound,
		"InvalidInstanceID.NotFound":                notFound,
		"InvalidNetworkInterfaceID.NotFound":        notFound,
		"InvalidGroup.NotFound":                     notFound,
		"InvalidPermission.NotFound":                notFound,
		"NoSuchKey":                                 notFound,
		"NotFound":                                  notFound,
		"ResourceNotFoundException":                 notFound,
		"NoSuchBucket":                              none, // the deployment is broken, which is no "nothing there"

		"PreconditionFailed":                   existing,
		"ConflictException":                    existing,
		"InvalidGroup.Duplicate":               existing,
		"InvalidPermission.Duplicate":          existing,
		"TrafficMirrorFilterRuleAlreadyExists": existing,
		"ExecutionAlreadyExists":               existing,

		"DependencyViolation":               inUse,
		"TrafficMirrorFilterInUse":          inUse,
		"TrafficMirrorTargetInUseException": inUse,
		"InvalidGroup.InUse":                inUse,
		"InvalidNetworkInterface.InUse":     inUse,

		"InsufficientInstanceCapacity": noCapacity,
		"VcpuLimitExceeded":            noCapacity,
		"Unsupported":                  noCapacity,

		"InvalidNetworkInterfaceId.Malformed":            none,
		"InvalidParameterValue":                          none,
		"IdempotentParameterMismatch":                    none,
		"UnauthorizedOperation":                          none,
		"NetworkInterfaceNotSupported":                   none,
		"TrafficMirrorSessionsPerInterfaceLimitExceeded": none,
		"InterfaceInUseByTrafficMirrorTarget":            none, // nothing goes first: it can't be a source at all
		"RequestLimitExceeded":                           none,
		"IdempotentInstanceTerminated":                   none,
		"ConditionalRequestConflict":                     none,
	} {
		err := fmt.Errorf("wrapped: %w", answered(400, code))
		if Code(err) != code {
			t.Errorf("%s reads as code %q", code, Code(err))
		}
		for name, is := range map[string]bool{notFound: IsNotFound(err), existing: IsExisting(err), inUse: IsInUse(err), noCapacity: IsNoCapacity(err)} {
			if is != (name == want) {
				t.Errorf("%s counts as %q: %t; want %q", code, name, is, want)
			}
		}
	}
}

func TestNotFoundByStatus(t *testing.T) {
	if !IsNotFound(answered(404, "")) {
		t.Error("an answer to HEAD has no body, so its status must do")
	}
	if IsNotFound(answered(404, "NoSuchBucket")) {
		t.Error("a bucket that is not there reads as an object that is not there")
	}
	if IsNotFound(nil) || IsNotFound(errors.New("lost")) || IsNotFound(answered(403, "AccessDenied")) {
		t.Error("everything is not found")
	}
}

func TestTransient(t *testing.T) {
	for name, row := range map[string]struct {
		err  error
		want bool
	}{
		"nothing":                           {nil, false},
		"throttled":                         {answered(503, "RequestLimitExceeded"), true},
		"throttled with a client's status":  {answered(400, "ThrottlingException"), true},
		"EC2 throttled":                     {answered(400, "EC2ThrottledException"), true},
		"S3 slows down":                     {answered(503, "SlowDown"), true},
		"S3 waited in vain":                 {answered(400, "RequestTimeout"), true},
		"two writers at once":               {answered(409, "ConditionalRequestConflict"), true},
		"a server's fault":                  {answered(500, "Whatever"), true},
		"all attempts used up":              {&retry.MaxAttemptsError{Attempt: 5, Err: answered(503, "RequestLimitExceeded")}, true},
		"no connection":                     {&smithyhttp.RequestSendError{Err: syscall.ECONNREFUSED}, true},
		"connection lost in the body":       {fmt.Errorf("read: %w", io.ErrUnexpectedEOF), true},
		"connection reset in the body":      {fmt.Errorf("read: %w", &net.OpError{Op: "read", Err: syscall.ECONNRESET}), true},
		"out of time":                       {fmt.Errorf("describe: %w", context.DeadlineExceeded), true},
		"a fresh group":                     {answered(400, "InvalidGroup.NotFound"), true},
		"a fresh filter":                    {answered(400, "InvalidTrafficMirrorFilterId.NotFound"), true},
		"a fresh filter, as documented":     {answered(400, "InvalidTrafficMirrorFilterNotFound"), true},
		"a fresh target, as documented":     {answered(400, "InvalidTrafficMirrorTargetNoFound"), true},
		"a fresh instance":                  {answered(400, "InvalidInstanceID.NotFound"), true},
		"a fresh interface":                 {answered(400, "InvalidNetworkInterfaceID.NotFound"), true},
		"a subnet that went long ago":       {answered(400, "InvalidSubnetID.NotFound"), false},
		"a template that went long ago":     {answered(400, "InvalidLaunchTemplateId.NotFound"), false},
		"an object that is not there":       {answered(404, "NoSuchKey"), false},
		"not allowed":                       {answered(403, "UnauthorizedOperation"), false},
		"wrong":                             {answered(400, "InvalidParameterValue"), false},
		"the same token for something else": {answered(400, "IdempotentParameterMismatch"), false},
		"not AWS's":                         {errors.New("plan of another capture"), false},
	} {
		if got := IsTransient(row.err); got != row.want {
			t.Errorf("%s: %t, want %t (%v)", name, got, row.want, row.err)
		}
	}
}
