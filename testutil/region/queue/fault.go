package queue

import "fmt"

// Error is a refusal as SQS words it.
type Error struct {
	code    string
	query   string
	message string
}

func (e *Error) Error() string   { return e.code + ": " + e.message }
func (e *Error) Code() string    { return e.code }
func (e *Error) Message() string { return e.message }
func (e *Error) Status() int     { return 400 }

// QueryCode is the code's name in the older query protocol, which SQS repeats in the header X-Amzn-Query-Error.
func (e *Error) QueryCode() string { return e.query }

func fault(code, query, message string) *Error {
	return &Error{code: code, query: query, message: message}
}

func nonExistent() *Error {
	return fault("QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue", "The specified queue does not exist.")
}

func missing(parameter string) *Error {
	return fault("MissingParameter", "MissingParameter", "The request must contain the parameter "+parameter+".")
}

func invalidParameter(parameter, reason string) *Error {
	return fault("InvalidParameterValue", "InvalidParameterValue",
		fmt.Sprintf("Value for parameter %s is invalid. Reason: %s.", parameter, reason))
}

func notForThisType(parameter string) *Error {
	return invalidParameter(parameter, "The request include parameter that is not valid for this queue type")
}

func invalidHandle(handle string) *Error {
	return fault("ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid", fmt.Sprintf("The input receipt handle %q is not a valid receipt handle.", handle))
}
