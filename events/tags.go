package events

import "time"

// Tags on everything Flashtap makes, from birth. The keys have no "/" and no spaces, since instance metadata refuses
// both (EC2 User Guide, "View tags for your EC2 instances using instance metadata").
const (
	TagDeployment = "flashtap:deployment" // which deployment made it; several may share an account
	TagCapture    = "flashtap:capture"    // which capture it was made for
	TagDeadline   = "flashtap:deadline"   // RFC 3339, UTC: when the capture ends at the latest
	TagAttempt    = "flashtap:attempt"    // which attempt at the resource this is, from 1
	TagStop       = "flashtap:stop"       // on the collector's instance: any value asks it to drain and end
	TagName       = "Name"                // for people in the console
)

// ResourceTags are the tags that every resource of a capture carries.
func ResourceTags(deployment string, c CaptureID, deadline time.Time, attempt int) map[string]string {
	return map[string]string{
		TagDeployment: deployment,
		TagCapture:    string(c),
		TagDeadline:   deadline.UTC().Format(time.RFC3339),
		TagAttempt:    itoa(attempt),
		TagName:       "flashtap " + string(c),
	}
}

// SecurityGroupName is the planned name of the collector's security group: one of the proofs of ownership.
func SecurityGroupName(deployment string, c CaptureID) string {
	return "flashtap-" + deployment + "-" + string(c)
}

// EndpointGroupName is the planned name of the security group of the capture's temporary endpoint.
func EndpointGroupName(deployment string, c CaptureID) string {
	return SecurityGroupName(deployment, c) + "-endpoint"
}

// GuardScheduleName is the name of the guard schedule, which is also the lock: one capture an interface.
func GuardScheduleName(eni string) string { return eni }

// SessionScheduleName is the name of the schedule that deletes one mirror session on its own at the deadline.
func SessionScheduleName(session string) string { return session }
