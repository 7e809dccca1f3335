package lambda

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// ServeHTTP answers the public Invoke operation: POST /2015-03-31/functions/{FunctionName}/invocations (Lambda API,
// Invoke).
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Amzn-Requestid", newID())
	name, err := invokedName(r.URL)
	if err != nil {
		writeError(w, err)
		return
	}
	if r.Method != http.MethodPost {
		writeError(w, &Error{code: "MethodNotAllowedException", message: r.Method + " is not supported here", status: 405})
		return
	}
	// One byte over the limit is enough to know.
	payload, err := io.ReadAll(io.LimitReader(r.Body, maxSyncPayload+1))
	if err != nil {
		writeError(w, &Error{code: "InvalidRequestContentException", message: "the body ended early", status: 400})
		return
	}
	if qualifier := r.URL.Query().Get("Qualifier"); qualifier != "" {
		name += ":" + qualifier
	}
	switch kind := r.Header.Get("X-Amz-Invocation-Type"); kind {
	case "", "RequestResponse":
		s.serveSync(w, r, name, payload)
	case "Event":
		id, err := s.InvokeAsync(name, payload)
		if err != nil {
			writeError(w, err)
			return
		}
		w.Header().Set("X-Amzn-Requestid", id)
		w.WriteHeader(http.StatusAccepted)
	case "DryRun":
		if _, err := s.find(name); err != nil {
			writeError(w, err)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	default:
		writeError(w, invalid("Value '%s' at 'invocationType' failed to satisfy constraint: "+
			"Member must satisfy enum value set: [Event, RequestResponse, DryRun]", kind))
	}
}

func (s *Service) serveSync(w http.ResponseWriter, r *http.Request, name string, payload []byte) {
	clientContext, err := base64.StdEncoding.DecodeString(r.Header.Get("X-Amz-Client-Context"))
	if err != nil {
		writeError(w, &Error{code: "InvalidRequestContentException", message: "Client context must be a valid Base64-encoded JSON object", status: 400})
		return
	}
	result, err := s.invoke(r.Context(), name, payload, string(clientContext))
	if err != nil {
		writeError(w, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Amzn-Requestid", result.RequestID)
	h.Set("X-Amz-Executed-Version", "$LATEST")
	if result.FunctionError != "" {
		h.Set("X-Amz-Function-Error", result.FunctionError)
	}
	if r.Header.Get("X-Amz-Log-Type") == "Tail" {
		h.Set("X-Amz-Log-Result", base64.StdEncoding.EncodeToString([]byte(result.Log)))
	}
	w.Write(result.Payload)
}

// invokedName takes the function out of the path, where an ARN may be percent-encoded.
func invokedName(u *url.URL) (string, error) {
	rest, ok := strings.CutPrefix(u.EscapedPath(), "/2015-03-31/functions/")
	if !ok {
		return "", unknownOperation(u)
	}
	name, ok := strings.CutSuffix(strings.TrimSuffix(rest, "/"), "/invocations")
	if !ok || strings.Contains(name, "/") {
		return "", unknownOperation(u)
	}
	plain, err := url.PathUnescape(name)
	if err != nil {
		return "", unknownOperation(u)
	}
	return plain, nil
}

func unknownOperation(u *url.URL) error {
	return &Error{code: "UnknownOperationException", message: "no such operation: " + u.Path, status: 404}
}

func writeError(w http.ResponseWriter, err error) {
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{code: "ServiceException", message: fmt.Sprint(err), status: 500}
	}
	body := map[string]string{"Type": "User"}
	if e.status >= 500 {
		body["Type"] = "Service"
	}
	// The model spells this member differently from one error to the next.
	if e.code == "ResourceNotFoundException" || e.code == "ServiceException" {
		body["Message"] = e.message
	} else {
		body["message"] = e.message
	}
	if e.reason != "" {
		body["Reason"] = e.reason
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Amzn-Errortype", e.code)
	w.WriteHeader(e.status)
	json.NewEncoder(w).Encode(body)
}
