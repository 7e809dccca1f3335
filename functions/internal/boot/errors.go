package boot

import "fmt"

// NotMirrorable ends the workflow: no retry changes what the source is.
type NotMirrorable struct{ Source, Reason, Remedy string }

func (e NotMirrorable) Error() string {
	return fmt.Sprintf("source %s cannot be mirrored: %s; %s", e.Source, e.Reason, e.Remedy)
}

// NoPlace ends the workflow: the collector could not stand anywhere, or not reach S3.
type NoPlace struct{ Source, Reason, Remedy string }

func (e NoPlace) Error() string {
	return fmt.Sprintf("no place for a collector beside %s: %s; %s", e.Source, e.Reason, e.Remedy)
}

// BadRequest ends the workflow: the request itself is wrong.
type BadRequest struct{ Reason string }

func (e BadRequest) Error() string { return "capture request: " + e.Reason }

// SourceBusy asks the state machine to try again: a former capture of the same interface is being removed.
type SourceBusy struct{ Source, Capture string }

func (e SourceBusy) Error() string {
	return fmt.Sprintf("source %s: capture %s is over but not yet removed", e.Source, e.Capture)
}

// EndpointPending asks the state machine to try again: AWS has not opened the temporary endpoint yet.
type EndpointPending struct{ Endpoint, State string }

func (e EndpointPending) Error() string {
	return fmt.Sprintf("endpoint %s is %s", e.Endpoint, e.State)
}

// NoCapacity says that AWS could run none of the instance types.
type NoCapacity struct{ Tried []string }

func (e NoCapacity) Error() string {
	return fmt.Sprintf("no capacity for a collector of any of these types: %v", e.Tried)
}

// CollectorNotReady says that the collector did not report in time.
type CollectorNotReady struct{ Instance, Reason string }

func (e CollectorNotReady) Error() string {
	return fmt.Sprintf("collector %s is not ready: %s", e.Instance, e.Reason)
}

// CollectorDied says that the collector's instance ended before the capture did.
type CollectorDied struct{ Instance, Reason string }

func (e CollectorDied) Error() string {
	return fmt.Sprintf("collector %s ended early: %s", e.Instance, e.Reason)
}

// StateMachineError marks the errors that the state machine may match by their type.
func (NotMirrorable) StateMachineError()     {}
func (NoPlace) StateMachineError()           {}
func (BadRequest) StateMachineError()        {}
func (SourceBusy) StateMachineError()        {}
func (EndpointPending) StateMachineError()   {}
func (NoCapacity) StateMachineError()        {}
func (CollectorNotReady) StateMachineError() {}
func (CollectorDied) StateMachineError()     {}
func (Transient) StateMachineError()         {}
