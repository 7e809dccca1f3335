package dataplane

import (
	"maps"

	"flashtap/functions/filter"
)

// Tally counts what became of the packets of one interface.
//
// Seen = Mirrored + Skipped + SendErrors + NotMatched + NeverMirrored + NoSession + all of Lost, at every moment.
type Tally struct {
	// Seen are the packets that the source gave.
	Seen uint64
	// Mirrored are the datagrams handed to the kernel; what happens after that, as on a real network, nobody tells.
	Mirrored uint64
	// Skipped are the packets that a session matched and the instance was too busy to copy.
	Skipped uint64
	// SendErrors are the packets that a session matched and the kernel refused.
	SendErrors uint64
	// NotMatched are the packets that sessions existed for and no filter accepted.
	NotMatched uint64
	// NeverMirrored are the packets of a kind that is never mirrored, met while sessions existed.
	NeverMirrored uint64
	// NoSession are the packets that passed while there was no session.
	NoSession uint64
	// Lost are the packets that a session matched and whose copies did not arrive, by cause: nobody is told.
	Lost map[Loss]uint64
	// Sessions has one entry per session that ever existed, by id. It outlives the session.
	Sessions map[string]SessionTally
}

// SessionTally counts what one session did with the packets it was asked about. It isn't asked about those which a
// session of a lower number mirrored.
//
// Offered = Mirrored + Skipped + SendErrors + Rejected + Unmatched + NeverMirrored + Lost.
type SessionTally struct {
	Offered uint64
	// Mirrored are the datagrams handed to the kernel, Bytes what they hold after the VXLAN header.
	Mirrored, Bytes uint64
	// CutToLength and CutToMTU are those of Mirrored that hold less than the packet.
	CutToLength, CutToMTU uint64
	Skipped, SendErrors   uint64
	// LastError is the cause of the latest of SendErrors.
	LastError string
	// Rejected are the packets whose deciding rule says reject.
	Rejected uint64
	// Unmatched are the packets that no rule matched, with those for the resolver that lack the network service.
	Unmatched     uint64
	NeverMirrored uint64
	// Lost are the packets whose copies did not arrive.
	Lost uint64
}

// Truncated are the datagrams that hold less than the packet, whatever the reason.
func (t SessionTally) Truncated() uint64 { return t.CutToLength + t.CutToMTU }

func (t Tally) clone() Tally {
	t.Sessions, t.Lost = maps.Clone(t.Sessions), maps.Clone(t.Lost)
	return t
}

// refused counts a packet that a filter didn't accept.
func (t *SessionTally) refused(v Verdict) {
	switch v.Cause {
	case filter.Never:
		t.NeverMirrored++
	case filter.ByRule:
		t.Rejected++
	default:
		t.Unmatched++
	}
}
