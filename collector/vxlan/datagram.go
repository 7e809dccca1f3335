package vxlan

// Datagram is one VXLAN datagram as it came off the wire.
type Datagram struct {
	Payload []byte   // from the VXLAN header on
	Source  [16]byte // who mirrored it: the outer source address; IPv4 as an IPv4-mapped one (netip.Addr.As16)
	At      int64    // when it arrived, nanoseconds since 1970
	Fault   Fault    // why it is no evidence; Payload and Source may then be empty
}

// Fault says why a datagram is no evidence, whatever it carries.
type Fault uint8

// The faults of outer packets.
const (
	None        Fault = iota
	Malformed         // not what a datagram of this port has to look like
	Oversize          // longer than what was kept of it
	Fragment          // a part of an outer IP packet; AWS never fragments them (VPC Traffic Mirroring guide)
	BadChecksum       // the outer UDP checksum is wrong: damaged on the way
)
