package lambda

import (
	"encoding/json"
	"errors"
	"time"
)

// Failure is the record of an asynchronous event that Lambda gave up, in the form it sends to an on-failure
// destination (Lambda guide, "Capturing records of Lambda asynchronous invocations").
type Failure struct {
	Version        string          `json:"version"`
	Timestamp      time.Time       `json:"timestamp"`
	RequestContext RequestContext  `json:"requestContext"`
	RequestPayload json.RawMessage `json:"requestPayload"`
	// The response is absent when the function was never run.
	ResponseContext *ResponseContext `json:"responseContext,omitempty"`
	ResponsePayload json.RawMessage  `json:"responsePayload,omitempty"`
}

// RequestContext says which event failed, and why it was given up.
type RequestContext struct {
	RequestID   string `json:"requestId"`
	FunctionARN string `json:"functionArn"`
	Condition   string `json:"condition"` // RetriesExhausted, EventAgeExceeded or ZeroReservedConcurrency
	InvokeCount int    `json:"approximateInvokeCount"`
}

// ResponseContext describes the last attempt.
type ResponseContext struct {
	StatusCode      int    `json:"statusCode"`
	ExecutedVersion string `json:"executedVersion"`
	FunctionError   string `json:"functionError"`
}

// maxEventAge is how long a throttled event is tried again (Lambda guide, "How Lambda handles errors and retries with
// asynchronous invocation").
const maxEventAge = 6 * time.Hour

// InvokeAsync queues an event and returns its request id. The function is tried up to three times; the event it never
// managed goes to OnFailure.
func (s *Service) InvokeAsync(nameOrARN string, payload []byte) (string, error) {
	f, err := s.find(nameOrARN)
	if err != nil {
		return "", err
	}
	payload, err = checkPayload(payload, maxAsyncPayload, "InvokeFunction")
	if err != nil {
		return "", err
	}
	if err := s.begin(); err != nil {
		return "", err
	}
	id := newID()
	go func() {
		defer s.work.Done()
		s.deliver(f, id, payload)
	}()
	return id, nil
}

// deliver runs one event until it succeeds, its attempts are used up, or the service closes.
func (s *Service) deliver(f *function, id string, payload []byte) {
	retries := len(s.config.RetryDelays)
	if f.MaximumRetryAttempts != nil {
		retries = min(retries, *f.MaximumRetryAttempts)
	}
	queued, backoff := time.Now(), time.Second
	for attempts := 0; ; {
		if err := f.reserve(); err != nil {
			// A throttled event costs no attempt: it waits from 1 second up to 5 minutes.
			var throttle *Error
			switch {
			case !errors.As(err, &throttle):
				return
			case *f.ReservedConcurrency == 0:
				s.giveUp(f, id, payload, "ZeroReservedConcurrency", attempts, nil)
				return
			case time.Since(queued) > maxEventAge:
				s.giveUp(f, id, payload, "EventAgeExceeded", attempts, nil)
				return
			}
			if !s.wait(backoff) {
				return
			}
			backoff = min(2*backoff, 5*time.Minute)
			continue
		}
		result := f.execute(newInvocation(id, payload))
		f.release()
		attempts++
		if result.FunctionError == "" {
			return
		}
		if attempts > retries {
			s.giveUp(f, id, payload, "RetriesExhausted", attempts, &result)
			return
		}
		if !s.wait(s.config.RetryDelays[attempts-1]) {
			return
		}
	}
}

func (s *Service) giveUp(f *function, id string, payload []byte, condition string, attempts int, last *Result) {
	select {
	case <-s.closing:
		return // the attempts failed because we took their processes away
	default:
	}
	if f.OnFailure == nil {
		return
	}
	failure := Failure{
		Version: "1.0", Timestamp: time.Now().UTC(), RequestPayload: payload,
		RequestContext: RequestContext{RequestID: id, FunctionARN: f.ARN + ":$LATEST", Condition: condition, InvokeCount: attempts},
	}
	if last != nil {
		failure.ResponseContext = &ResponseContext{StatusCode: 200, ExecutedVersion: "$LATEST", FunctionError: last.FunctionError}
		if json.Valid(last.Payload) {
			failure.ResponsePayload = last.Payload
		}
	}
	f.OnFailure(failure)
}

// wait reports false when the service closed meanwhile.
func (s *Service) wait(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.closing:
		return false
	}
}
