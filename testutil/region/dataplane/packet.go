package dataplane

import (
	"time"

	"flashtap/functions/filter"
)

// Direction is seen from the source interface: ingress goes to the instance, egress leaves it.
type Direction = filter.Direction

const (
	Ingress = filter.Ingress
	Egress  = filter.Egress
)

// Packet is one frame that the source interface sends or receives.
type Packet struct {
	At        time.Time
	Direction Direction
	// Data is the frame from its Ethernet header on. It isn't changed, and kept only when a Plane records.
	Data []byte
	// OrigLen is the frame's length on the wire, when Data holds less of it; 0 says that Data is whole.
	OrigLen int
}
