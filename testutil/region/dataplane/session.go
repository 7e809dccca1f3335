package dataplane

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// Session is one traffic mirror session of the source interface, with its filter and target resolved.
type Session struct {
	ID string
	// Number orders the sessions of an interface; no two have the same.
	Number int
	VNI    uint32
	// PacketLength is the most bytes to mirror of a packet, counted after the VXLAN header; 0 stands for all.
	PacketLength int
	Filter       Filter
	// Target is where the datagrams go. In a VPC its port is 4789; on one machine it is wherever the receiver listens.
	Target netip.AddrPort
	// MTU is that of the target interface; 0 stands for DefaultMTU.
	MTU int
	// Lost is what loses the copies on their way, silently; "" when they arrive.
	Lost Loss
}

// Loss is a cause by which copies get lost.
type Loss string

// AtSource is the loss of copies that are not even made: they are in no metric of the instance.
const AtSource Loss = "source"

// DefaultMTU is that of an interface in a VPC (EC2 guide, "Network MTU").
const DefaultMTU = 9001

// maxVNI is the largest value of the 24-bit field (RFC 7348, section 5).
const maxVNI = 1<<24 - 1

func (s Session) validate() error {
	switch {
	case s.ID == "":
		return fmt.Errorf("session %d has no id", s.Number)
	case s.Number < 1 || s.Number > 32766:
		return fmt.Errorf("session %s: number %d is not of 1 to 32766", s.ID, s.Number)
	case s.VNI > maxVNI:
		return fmt.Errorf("session %s: VNI %d has more than 24 bits", s.ID, s.VNI)
	case s.PacketLength < 0:
		return fmt.Errorf("session %s: packet length %d", s.ID, s.PacketLength)
	case !s.Target.IsValid() || s.Target.Port() == 0:
		return fmt.Errorf("session %s: no address and port to send to: %q", s.ID, s.Target)
	case s.MTU != 0 && (s.MTU < overheadIPv6 || s.MTU > 65535):
		return fmt.Errorf("session %s: MTU %d", s.ID, s.MTU)
	}
	return nil
}

// ordered returns the sessions in the order in which they are asked about a packet.
func ordered(sessions []Session) ([]Session, error) {
	out := slices.Clone(sessions)
	slices.SortStableFunc(out, func(a, b Session) int { return cmp.Compare(a.Number, b.Number) })
	for i, s := range out {
		if err := s.validate(); err != nil {
			return nil, err
		}
		if i > 0 && out[i-1].Number == s.Number {
			return nil, fmt.Errorf("sessions %s and %s both have number %d", out[i-1].ID, s.ID, s.Number)
		}
	}
	return out, nil
}
