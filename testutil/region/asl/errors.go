package asl

import (
	"fmt"
	"slices"
)

// Error is a failure inside an execution, as Retry and Catch see it. A TaskRunner returns it to give
// the failure a name of its own.
type Error struct{ Name, Cause string }

func (e *Error) Error() string { return fmt.Sprintf("%s: %s", e.Name, e.Cause) }

// Names of errors that the service itself reports (states-language.net, Appendix A, and the developer
// guide, Handling errors).
const (
	errAll              = "States.ALL"
	errTaskFailed       = "States.TaskFailed"
	errTimeout          = "States.Timeout"
	errHeartbeatTimeout = "States.HeartbeatTimeout"
	errRuntime          = "States.Runtime"
	errDataLimit        = "States.DataLimitExceeded"
	errIntrinsicFailure = "States.IntrinsicFailure"
	errResultPath       = "States.ResultPathMatchFailure"
)

// knownErrors are the names with the reserved prefix that a Retry or Catch may list.
var knownErrors = []string{
	errAll, errTaskFailed, errTimeout, errHeartbeatTimeout, errRuntime, errDataLimit, errIntrinsicFailure, errResultPath,
	"States.BranchFailed", "States.ExceedToleratedFailureThreshold", "States.Http.Socket", "States.ItemReaderFailed",
	"States.NoChoiceMatched", "States.ParameterPathFailure", "States.Permissions", "States.QueryEvaluationError",
	"States.ResultWriterFailed",
}

// Matches reports whether a Retry or Catch with these ErrorEquals takes an error of the given name
// (developer guide, Handling errors):
//
//   - States.Runtime always ends the execution; nothing takes it, not even its own name.
//   - States.DataLimitExceeded is terminal for the wildcards and taken by its own name only.
//   - States.TaskFailed takes everything but States.Timeout. A missed heartbeat is a kind of timeout.
//   - States.Timeout takes a missed heartbeat, too.
//   - States.ALL takes the rest.
func Matches(errorEquals []string, name string) bool {
	timeout := name == errTimeout || name == errHeartbeatTimeout
	switch {
	case name == errRuntime:
		return false
	case slices.Contains(errorEquals, name):
		return true
	case timeout && slices.Contains(errorEquals, errTimeout):
		return true
	case name == errDataLimit:
		return false
	case slices.Contains(errorEquals, errAll):
		return true
	}
	return !timeout && slices.Contains(errorEquals, errTaskFailed)
}
