package lambda

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// runtimeAPI is the endpoint a runtime talks to (Lambda guide, "Using the Lambda runtime API for custom runtimes",
// version 2018-06-01).
func (e *environment) runtimeAPI() http.Handler {
	mux := http.NewServeMux()
	const root = "/2018-06-01/runtime"
	mux.HandleFunc("GET "+root+"/invocation/next", e.next)
	mux.HandleFunc("POST "+root+"/invocation/{id}/response", e.response)
	mux.HandleFunc("POST "+root+"/invocation/{id}/error", e.invocationError)
	mux.HandleFunc("POST "+root+"/init/error", e.initError)
	return mux
}

// next says that the runtime is free, and then waits for an event for as long as it takes.
func (e *environment) next(w http.ResponseWriter, r *http.Request) {
	select {
	case e.polls <- struct{}{}:
	case <-e.gone:
		return
	case <-r.Context().Done():
		return
	}
	select {
	case inv := <-e.events:
		h := w.Header()
		h.Set("Content-Type", "application/json")
		h.Set("Lambda-Runtime-Aws-Request-Id", inv.id)
		h.Set("Lambda-Runtime-Invocation-Id", inv.attempt)
		h.Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(inv.deadline.UnixMilli(), 10))
		h.Set("Lambda-Runtime-Invoked-Function-Arn", e.fn.ARN)
		h.Set("Lambda-Runtime-Trace-Id", traceHeader(inv.attempt))
		if inv.clientContext != "" {
			h.Set("Lambda-Runtime-Client-Context", inv.clientContext)
		}
		w.Write(inv.payload)
	case <-e.gone:
	case <-r.Context().Done():
	}
}

// response takes the function's answer.
func (e *environment) response(w http.ResponseWriter, r *http.Request) {
	inv := e.invocation(w, r)
	if inv == nil {
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxResponse+1))
	if err != nil {
		return // the process died while it wrote; its exit is the answer
	}
	if len(body) > maxResponse {
		inv.finish(answer{failed: true, payload: sizePayload()})
		refuse(w, http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", "Exceeded maximum allowed payload size (6291556 bytes).")
		return
	}
	// A stream that broke off says so behind its body.
	if errorType := r.Trailer.Get("Lambda-Runtime-Function-Error-Type"); errorType != "" {
		payload, err := base64.StdEncoding.DecodeString(r.Trailer.Get("Lambda-Runtime-Function-Error-Body"))
		if err != nil || len(payload) == 0 {
			payload = errorPayload(errorType, inv.id, "the response stream broke off")
		}
		e.accept(w, inv, answer{payload: payload, failed: true})
		return
	}
	e.accept(w, inv, answer{payload: body})
}

func (e *environment) invocationError(w http.ResponseWriter, r *http.Request) {
	inv := e.invocation(w, r)
	if inv == nil {
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxResponse))
	if err != nil {
		return
	}
	e.accept(w, inv, answer{payload: body, failed: true})
}

func (e *environment) initError(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxResponse))
	if err != nil {
		return
	}
	select {
	case e.initErrors <- body:
		accepted(w)
	default:
		refuse(w, http.StatusForbidden, "InvalidStateTransition", "an initialization error was reported before")
	}
}

// invocation finds the invocation the request speaks of, or refuses the request.
func (e *environment) invocation(w http.ResponseWriter, r *http.Request) *invocation {
	e.mu.Lock()
	inv := e.current
	e.mu.Unlock()
	if inv == nil || inv.id != r.PathValue("id") {
		refuse(w, http.StatusBadRequest, "InvalidRequestID", "Invalid request ID")
		return nil
	}
	if attempt := r.Header.Get("Lambda-Runtime-Invocation-Id"); attempt != "" && attempt != inv.attempt {
		refuse(w, http.StatusBadRequest, "InvalidInvocationId", "Invalid invocation ID")
		return nil
	}
	return inv
}

func (e *environment) accept(w http.ResponseWriter, inv *invocation, a answer) {
	if !inv.finish(a) {
		refuse(w, http.StatusForbidden, "InvalidStateTransition", "the invocation was answered before")
		return
	}
	accepted(w)
}

func accepted(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	io.WriteString(w, `{"status":"OK"}`)
}

func refuse(w http.ResponseWriter, status int, errorType, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]string{"errorMessage": message, "errorType": errorType})
}

func sizePayload() []byte {
	body, _ := json.Marshal(map[string]string{"errorType": "Function.ResponseSizeTooLarge",
		"errorMessage": fmt.Sprintf("Response payload size exceeded maximum allowed payload size (%d bytes).", maxResponse)})
	return body
}

// traceHeader is an X-Ray tracing header of a request that nobody sampled.
func traceHeader(id string) string {
	hex := id[:8] + id[9:13] + id[14:18] + id[19:23] + id[24:]
	return fmt.Sprintf("Root=1-%08x-%s;Parent=%s;Sampled=0", time.Now().Unix(), hex[:24], hex[16:])
}
