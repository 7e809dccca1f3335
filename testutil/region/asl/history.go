package asl

import (
	"encoding/json"
	"strings"
	"time"
)

// MaxEvents is how many events a history may hold. The event with this number is the one that ends
// the execution (Step Functions developer guide, service quotas).
const MaxEvents = 25_000

// Event is one entry of an execution's history. Its JSON form is that of the API's HistoryEvent
// (Step Functions API reference).
type Event struct {
	ID int64
	// PreviousID is the event that led to this one. It is 0 for the first state, as the service has it.
	PreviousID int64
	Type       string
	Timestamp  time.Time
	Details
}

// Details holds what an event says; which fields are set depends on its type.
type Details struct {
	// Name is the state that is entered, exited or iterated.
	Name          string
	Input, Output json.RawMessage
	RoleArn       string

	Resource, ResourceType, Region string
	Parameters                     json.RawMessage
	TimeoutInSeconds               int

	Length int // of a MapStateStarted
	Index  int // of a MapIteration

	Error, Cause string
}

// MarshalJSON writes the event as GetExecutionHistory lists it.
func (e Event) MarshalJSON() ([]byte, error) {
	wire := map[string]any{
		"id":              e.ID,
		"previousEventId": e.PreviousID,
		"timestamp":       float64(e.Timestamp.UnixMilli()) / 1000,
		"type":            e.Type,
	}
	if key := e.detailsKey(); key != "" {
		wire[key] = e.details()
	}
	return json.Marshal(wire)
}

func (e Event) detailsKey() string {
	switch {
	case strings.HasSuffix(e.Type, "StateEntered"):
		return "stateEnteredEventDetails"
	case strings.HasSuffix(e.Type, "StateExited"):
		return "stateExitedEventDetails"
	case e.Type == "LambdaFunctionStarted", e.Type != "MapStateStarted" && strings.Contains(e.Type, "State"):
		return ""
	}
	return strings.ToLower(e.Type[:1]) + e.Type[1:] + "EventDetails"
}

func (e Event) details() map[string]any {
	d := map[string]any{}
	add := func(key, value string) {
		if value != "" {
			d[key] = value
		}
	}
	add("name", e.Name)
	add("roleArn", e.RoleArn)
	add("resource", e.Resource)
	add("resourceType", e.ResourceType)
	add("region", e.Region)
	add("parameters", string(e.Parameters))
	add("error", e.Error)
	add("cause", e.Cause)
	if e.Input != nil {
		d["input"], d["inputDetails"] = string(e.Input), map[string]bool{"truncated": false}
	}
	if e.Output != nil {
		d["output"], d["outputDetails"] = string(e.Output), map[string]bool{"truncated": false}
	}
	if e.TimeoutInSeconds != 0 {
		d["timeoutInSeconds"] = e.TimeoutInSeconds
	}
	switch {
	case e.Type == "MapStateStarted":
		d["length"] = e.Length
	case strings.HasPrefix(e.Type, "MapIteration"):
		d["index"] = e.Index
	}
	return d
}

// trace lists the states in the order in which they were entered.
func trace(events []Event) []string {
	var names []string
	for _, e := range events {
		if strings.HasSuffix(e.Type, "StateEntered") {
			names = append(names, e.Name)
		}
	}
	return names
}
