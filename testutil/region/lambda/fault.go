package lambda

import "fmt"

// Error is an answer of the Lambda API that is not a result.
type Error struct {
	code    string
	message string
	status  int
	reason  string // of a throttle
}

func (e *Error) Error() string   { return e.code + ": " + e.message }
func (e *Error) Code() string    { return e.code }
func (e *Error) Message() string { return e.message }
func (e *Error) Status() int     { return e.status }

func notFound(message string) error {
	return &Error{code: "ResourceNotFoundException", message: message, status: 404}
}

func conflict(message string) error {
	return &Error{code: "ResourceConflictException", message: message, status: 409}
}

func invalid(format string, args ...any) error {
	return &Error{code: "InvalidParameterValueException", message: fmt.Sprintf(format, args...), status: 400}
}

func throttled() error {
	return &Error{code: "TooManyRequestsException", message: "Rate Exceeded.", status: 429,
		reason: "ReservedFunctionConcurrentInvocationLimitExceeded"}
}
