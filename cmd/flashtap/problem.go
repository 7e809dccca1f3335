package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// The codes that flashtap exits with. They are part of its interface; exitCodes says what they mean.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitRefused     = 3
	exitNotFound    = 4
	exitIncomplete  = 5
	exitUnverified  = 6
	exitBroken      = 7
	exitUnsealed    = 8
	exitInterrupted = 130
)

// exitCodes is what the help says of them.
var exitCodes = []struct {
	Code  int    `json:"code"`
	Means string `json:"means"`
}{
	{exitOK, "done"},
	{exitFailed, "failed: AWS, the network or the capture itself, and the reason was named"},
	{exitUsage, "wrong use: a flag, an operand or a setting, and what would be right was named"},
	{exitRefused, "refused: no capture comes of it, or the thing is not provably ours"},
	{exitNotFound, "not found: no such capture, file, bucket or state machine"},
	{exitIncomplete, "sealed, but the evidence is incomplete or holds no packets (capture --wait, verify, pull)"},
	{exitUnverified, "the evidence is consistent, but who signed it is not verified (verify, pull)"},
	{exitBroken, "the evidence is broken: something in it is not as it must be (verify, pull)"},
	{exitUnsealed, "the evidence is not sealed; it holds up to the last checkpoints (verify, pull)"},
	{exitInterrupted, "interrupted while waiting; the capture itself goes on"},
}

// problem is an error with the code to exit with and what a person can do about it.
type problem struct {
	code int
	err  error
	fix  string
}

func (p problem) Error() string { return p.what() }
func (p problem) Unwrap() error { return p.err }

// what is the error in one line, without what the SDK says of the transport. The request's id stays: AWS asks for it.
func (p problem) what() string {
	return sdkNoise.ReplaceAllString(strings.ReplaceAll(p.err.Error(), "\n", "; "), "$1 $2 (request $3): ")
}

var sdkNoise = regexp.MustCompile(`operation error ([^:]+): ([^,]+), (?:exceeded maximum number of attempts, \d+, )?https response error StatusCode: \d+, RequestID: ([^,]*), (?:HostID: [^,]*, )?(?:api error )?`)

// ended carries an exit code whose reason has been told as the command's answer.
type ended int

func (e ended) Error() string { return fmt.Sprintf("ended with exit code %d", int(e)) }

func usage(what, fix string) error { return problem{exitUsage, errors.New(what), fix} }

func refused(fix, format string, args ...any) error {
	return problem{exitRefused, fmt.Errorf(format, args...), fix}
}

func notFound(fix, format string, args ...any) error {
	return problem{exitNotFound, fmt.Errorf(format, args...), fix}
}

// denials and expiries are codes with which AWS services say no to the caller (the services' "Common errors").
var (
	denials  = []string{"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "NotAuthorized", "Forbidden"}
	expiries = []string{"ExpiredToken", "ExpiredTokenException", "RequestExpired", "InvalidClientTokenId", "UnrecognizedClientException",
		"InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthFailure"}
)

// explain turns any error into a problem, and adds what AWS's own words leave out: what to do.
func explain(err error) problem {
	var p problem
	if errors.As(err, &p) {
		return p
	}
	p = problem{code: exitFailed, err: err}
	var sending *smithyhttp.RequestSendError
	switch code := awsCode(err); {
	case errors.Is(err, context.Canceled):
		p.code = exitInterrupted
	case slices.Contains(denials, code):
		p.fix = "give your AWS identity the right to do this, or use a profile that has it (AWS_PROFILE)"
	case slices.Contains(expiries, code):
		p.fix = "sign in to AWS again (for instance: aws sso login), and check AWS_PROFILE"
	case code == "NoSuchBucket":
		p.code, p.fix = exitNotFound, "check --bucket (FLASHTAP_BUCKET), and that your AWS account is the deployment's"
	case code == "StateMachineDoesNotExist" || code == "InvalidArn":
		p.code, p.fix = exitNotFound, "check --state-machine (FLASHTAP_STATE_MACHINE_ARN), and that AWS_REGION is the deployment's"
	case strings.Contains(err.Error(), "get credentials"): // the SDK has no error type for it
		p.fix = "set AWS_PROFILE, or sign in to AWS (for instance: aws sso login)"
	case errors.As(err, &sending):
		p.fix = "check the network, AWS_REGION, and AWS_ENDPOINT_URL if it is set"
	}
	return p
}

// awsCode is the error code that AWS gave, or "" when the error is not AWS's.
func awsCode(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// passing says that the same question may well be answered later: AWS throttles or is at fault, or the line broke.
func passing(err error) bool {
	var sending *smithyhttp.RequestSendError
	if errors.As(err, &sending) {
		return true
	}
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) && response.HTTPStatusCode() >= http.StatusInternalServerError {
		return true
	}
	return slices.Contains([]string{"ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded"}, awsCode(err))
}
