package schedule

import "fmt"

// Error is a refusal as EventBridge Scheduler words it.
type Error struct {
	code    string
	message string
	status  int
}

func (e *Error) Error() string   { return e.code + ": " + e.message }
func (e *Error) Code() string    { return e.code }
func (e *Error) Message() string { return e.message }
func (e *Error) Status() int     { return e.status }

func invalid(format string, args ...any) *Error {
	return &Error{code: "ValidationException", message: fmt.Sprintf(format, args...), status: 400}
}

// constraint words a violation of the service model.
func constraint(value any, member, rule string) *Error {
	return invalid("1 validation error detected: Value '%v' at '%s' failed to satisfy constraint: %s", value, member, rule)
}

func notFound(format string, args ...any) *Error {
	return &Error{code: "ResourceNotFoundException", message: fmt.Sprintf(format, args...), status: 404}
}

func conflict(format string, args ...any) *Error {
	return &Error{code: "ConflictException", message: fmt.Sprintf(format, args...), status: 409}
}
