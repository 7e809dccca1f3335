package model

import "fmt"

// Kind says what sort of rule a request broke.
type Kind string

// The kinds of violation.
const (
	UnknownOperation Kind = "unknown operation"
	UnknownParameter Kind = "unknown parameter"
	MissingParameter Kind = "missing parameter"
	InvalidValue     Kind = "invalid value"
	Malformed        Kind = "malformed request"
)

// Violation says where a request leaves the service's model.
type Violation struct {
	Kind      Kind
	Service   string
	Operation string // empty when the operation itself is not known
	Path      string // the parameter, such as TagSpecification.1.Tag.2.Key
	Reason    string

	protocol string
}

func (v *Violation) Error() string {
	text := v.Service
	if v.Operation != "" {
		text += "." + v.Operation
	}
	if v.Path != "" {
		text += " " + v.Path
	}
	return fmt.Sprintf("%s: %s: %s", text, v.Kind, v.Reason)
}

// Code is the error code with which AWS refuses such a request.
// EC2: API reference, "Error codes for the Amazon EC2 API"; the JSON protocols:
// each service's "Common errors" page.
func (v *Violation) Code() string {
	switch v.protocol {
	case protocolEC2, protocolQuery:
		switch v.Kind {
		case UnknownOperation:
			return "InvalidAction"
		case UnknownParameter:
			return "UnknownParameter"
		case MissingParameter:
			return "MissingParameter"
		case InvalidValue:
			return "InvalidParameterValue"
		}
		return "MalformedQueryString"
	case protocolRESTXML:
		switch v.Kind {
		case UnknownOperation:
			return "NotImplemented"
		case Malformed:
			return "MalformedXML"
		}
		return "InvalidArgument"
	}
	switch v.Kind {
	case UnknownOperation:
		return "UnknownOperationException"
	case Malformed, UnknownParameter:
		return "SerializationException"
	}
	return "ValidationException"
}
