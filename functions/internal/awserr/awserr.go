// Package awserr tells what an AWS error means to a step that may run twice.
package awserr

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Code is the error code that AWS gave, or "" when the error is not AWS's.
func Code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// IsNotFound says that the thing is not there. Traffic mirroring has several spellings of it, in the documents and
// in practice (EC2 API Reference, "Error codes"), so the form decides.
//
// A bucket that is not there is no such thing: the deployment is broken, and must not be taken for an empty one.
func IsNotFound(err error) bool {
	code := Code(err)
	return strings.HasSuffix(code, "NotFound") || strings.HasSuffix(code, "NoFound") ||
		slices.Contains([]string{"NoSuchKey", "ResourceNotFoundException", "InvalidTrafficMirrorTarget"}, code) ||
		status(err) == http.StatusNotFound && code != "NoSuchBucket"
}

// IsExisting says that the thing is there already: a create-only write met an object, a name is taken, a rule exists.
func IsExisting(err error) bool {
	return slices.Contains([]string{
		"PreconditionFailed", "ConflictException", "InvalidGroup.Duplicate", "InvalidPermission.Duplicate",
		"TrafficMirrorFilterRuleAlreadyExists", "ExecutionAlreadyExists",
	}, Code(err))
}

// IsInUse says that something else must go first.
func IsInUse(err error) bool {
	return slices.Contains([]string{
		"DependencyViolation", "TrafficMirrorFilterInUse", "TrafficMirrorTargetInUseException", "InvalidGroup.InUse",
		"InvalidNetworkInterface.InUse",
	}, Code(err))
}

// IsNoCapacity says that AWS can't run this instance type here now, and another type may do.
func IsNoCapacity(err error) bool {
	return slices.Contains([]string{
		"InsufficientInstanceCapacity", "InsufficientCapacity", "Unsupported", "UnsupportedOperation", "VcpuLimitExceeded", "InstanceLimitExceeded",
	}, Code(err))
}

// throttles are the codes with which AWS asks to come back later.
var throttles = []string{
	"RequestLimitExceeded", "Throttling", "ThrottlingException", "ThrottledException", "TooManyRequestsException",
	"SlowDown", "RequestThrottled", "RequestThrottledException", "EC2ThrottledException", "BandwidthLimitExceeded",
	"ServiceUnavailable", "InternalError", "InternalFailure", "Unavailable", "RequestTimeout", "RequestTimeoutException",
	"ConditionalRequestConflict", "OperationAborted",
}

// fresh begin the codes of "not found" for what a capture makes itself: its id may be too young for every part of EC2
// to know it. Of anything else, not found is the truth.
var fresh = []string{"InvalidGroup", "InvalidInstanceID", "InvalidNetworkInterfaceID", "InvalidTrafficMirror"}

func isFresh(err error) bool {
	return IsNotFound(err) && slices.ContainsFunc(fresh, func(f string) bool { return strings.HasPrefix(Code(err), f) })
}

// IsTransient says that the same call may well succeed later: throttling, a server's fault, a broken connection, a
// time-out, or an id so fresh that not every part of EC2 knows it yet (EC2 API Reference, "Eventual consistency").
func IsTransient(err error) bool {
	if err == nil {
		return false
	}
	if slices.Contains(throttles, Code(err)) || status(err) >= http.StatusInternalServerError || isFresh(err) {
		return true
	}
	var sending *smithyhttp.RequestSendError
	var network net.Error
	return errors.As(err, &sending) || errors.As(err, &network) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, context.DeadlineExceeded)
}

func status(err error) int {
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) {
		return response.HTTPStatusCode()
	}
	return 0
}
