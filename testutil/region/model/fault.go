package model

import (
	"net/http"
	"sort"
	"strings"
)

// EncodeError writes an error as the service's protocol does. With a status of 0
// the one that the model gives the error is used, else 400.
func (s *Service) EncodeError(code, message, requestID string, status int) Answer {
	known := s.Shapes[code]
	if known != nil && !known.Exception {
		known = nil
	}
	if status == 0 {
		status = http.StatusBadRequest
		if known != nil && known.Error != nil && known.Error.HTTPStatusCode != 0 {
			status = known.Error.HTTPStatusCode
		}
	}
	answer := Answer{Status: status, Header: s.headers(requestID)}
	fault := "Sender"
	if status >= 500 {
		fault = "Receiver"
	}
	switch s.protocol {
	case protocolEC2:
		w := &xmlWriter{}
		w.WriteString(`<?xml version="1.0" encoding="UTF-8"?>` + "\n")
		w.open("Response", "")
		w.open("Errors", "")
		w.open("Error", "")
		w.text("Code", code)
		w.text("Message", message)
		w.close("Error")
		w.close("Errors")
		w.text("RequestID", requestID)
		w.close("Response")
		answer.Body = w.Bytes()
	case protocolQuery:
		w := &xmlWriter{}
		w.open("ErrorResponse", s.Metadata.XMLNamespace)
		w.open("Error", "")
		w.text("Type", fault)
		w.text("Code", code)
		w.text("Message", message)
		w.close("Error")
		w.text("RequestId", requestID)
		w.close("ErrorResponse")
		answer.Body = w.Bytes()
	case protocolRESTXML:
		w := &xmlWriter{}
		w.WriteString(`<?xml version="1.0" encoding="UTF-8"?>` + "\n")
		w.open("Error", "")
		w.text("Code", code)
		w.text("Message", message)
		w.text("RequestId", requestID)
		w.close("Error")
		answer.Body = w.Bytes()
	default:
		s.jsonFault(&answer, code, message, fault, known)
	}
	return answer
}

// jsonFault names the error in body and header. The message goes under the name
// that the error's shape gives it, since the SDKs look nowhere else.
func (s *Service) jsonFault(answer *Answer, code, message, fault string, known *shape) {
	name := "message"
	if known != nil {
		for _, member := range known.memberNames {
			if strings.EqualFold(member, name) {
				name = member
			}
		}
	}
	if s.Metadata.AWSQueryCompatible != nil {
		answer.Header.Set("X-Amzn-Query-Error", s.queryCode(code)+";"+fault)
	}
	fields := map[string]any{"__type": code, name: message}
	if s.protocol == protocolCBOR {
		answer.Body = cborFault(fields)
		return
	}
	if s.protocol == protocolRESTJSON {
		delete(fields, "__type")
	}
	answer.Header.Set("X-Amzn-Errortype", code)
	body, err := marshalJSON(fields)
	if err != nil {
		panic(err) // two strings always marshal
	}
	answer.Body = body
}

// queryCodes are the names SQS used before it spoke JSON, which the SDKs of
// services that were moved from the query protocol still hand to callers
// (SQS developer guide, "AWS JSON protocol").
var queryCodes = map[string]string{
	"QueueDoesNotExist":  "AWS.SimpleQueueService.NonExistentQueue",
	"MessageNotInflight": "AWS.SimpleQueueService.MessageNotInflight",
	"QueueNameExists":    "QueueAlreadyExists",
}

func (s *Service) queryCode(code string) string {
	if old := queryCodes[code]; old != "" {
		return old
	}
	return code
}

// Faults lists the error codes the model gives an operation.
func (s *Service) Faults(operation string) []string {
	op := s.Operations[operation]
	if op == nil {
		return nil
	}
	var codes []string
	for i := range op.Errors {
		codes = append(codes, op.Errors[i].Shape)
	}
	sort.Strings(codes)
	return codes
}
