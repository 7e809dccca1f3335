package ec2

import (
	"errors"
	"fmt"
	"net/http"

	"flashtap/testutil/region/model"
)

// APIError is an error as EC2 answers it.
type APIError struct {
	Code, Message string
	Status        int // 0 means 400
}

func (e *APIError) Error() string { return e.Code + ": " + e.Message }

func apiError(code, format string, args ...any) *APIError {
	return &APIError{Code: code, Message: fmt.Sprintf(format, args...), Status: http.StatusBadRequest}
}

func invalidValue(format string, args ...any) *APIError {
	return apiError("InvalidParameterValue", format, args...)
}

// asAPIError finds in any error what a client is told.
func asAPIError(err error) *APIError {
	var api *APIError
	if errors.As(err, &api) {
		return api
	}
	var v *model.Violation
	if errors.As(err, &v) {
		return &APIError{Code: v.Code(), Message: v.Error(), Status: http.StatusBadRequest}
	}
	return &APIError{Code: "InternalError", Message: err.Error(), Status: http.StatusInternalServerError}
}

// errDropped makes ServeHTTP close the connection without an answer.
var errDropped = errors.New("the connection was closed before the answer")

type lostAnswer struct{ cause error }

func (l *lostAnswer) Error() string { return "lost answer: " + l.cause.Error() }

// LoseAnswer, returned by Config.Fault, lets the operation take effect and then
// answers with cause; with a nil cause ServeHTTP closes the connection.
func LoseAnswer(cause error) error {
	if cause == nil {
		cause = errDropped
	}
	return &lostAnswer{cause}
}

// Throttled is the error for one request too many (API reference, "Query API
// request rate").
func Throttled() error {
	return &APIError{Code: "RequestLimitExceeded", Message: "Request limit exceeded.", Status: http.StatusServiceUnavailable}
}
