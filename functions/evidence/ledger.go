package evidence

import (
	"fmt"
	"slices"
	"strings"

	"flashtap/events"
)

// account fills in the ledger and the verdict of a manifest that has everything else (docs/evidence.md, sections 6.3 to 6.5),
// and adds to its reasons what the arithmetic says.
func account(m *events.Manifest, reports []report) {
	t := m.Tally
	missing := missing(*m)
	m.Ledger = events.Ledger{
		Stages: stages(t, missing), Lost: sum(t.Unwritten, t.RingDropped, t.SocketDropped, missing), AtMostLost: t.HostDropped,
		Balances: balances(*m), Gaps: gaps(reports),
	}
	because := func(n uint64, format string) {
		if n > 0 {
			m.Reasons = append(m.Reasons, fmt.Sprintf(format, n))
		}
	}
	because(t.SocketDropped, "%d datagrams were dropped because the socket was full")
	because(t.RingDropped, "%d datagrams were dropped because the packet ring was full")
	because(t.HostDropped, "at most %d packets were dropped by the interface or the kernel before they were received")
	because(t.Reduced, "%d packets were cut to their headers after they were captured, because the disk was full")
	because(t.Unwritten, "%d packets could not be written")
	held := held(*m)
	if t.Written != held {
		m.Reasons = append(m.Reasons, fmt.Sprintf("%d packets were written, %d are in the bucket", t.Written, held))
	}
	for _, b := range m.Ledger.Balances {
		if !b.Holds {
			m.Reasons = append(m.Reasons, fmt.Sprintf("the counts do not add up: %s: %d and %d", b.Says, b.Left, b.Right))
		}
	}
	m.Verdict = verdict(len(m.Reasons), held, whole(m.Mirror.MirrorPlan) && t.Truncated == 0)
}

// verdict says in words whether this is everything.
func verdict(reasons int, packets uint64, whole bool) string {
	switch {
	case reasons > 0:
		return events.VerdictIncomplete
	case packets == 0:
		return events.VerdictNothing
	case !whole:
		return events.VerdictTruncated
	}
	return events.VerdictComplete
}

// whole says that a mirror session was asked for everything.
func whole(p events.MirrorPlan) bool {
	if p.PacketLength != 0 || !p.Filter.DNS || slices.ContainsFunc(p.Filter.Rules, func(r events.FilterRule) bool { return r.Action == events.Reject }) {
		return false
	}
	for _, direction := range []string{events.Ingress, events.Egress} {
		for _, block := range []string{"0.0.0.0/0", "::/0"} {
			if !slices.ContainsFunc(p.Filter.Rules, func(r events.FilterRule) bool {
				return r.Direction == direction && r.Action == events.Accept && r.SourceCIDR == block && r.DestinationCIDR == block &&
					r.Protocol == 0 && r.SourcePorts == nil && r.DestinationPorts == nil
			}) {
				return false
			}
		}
	}
	return true
}

// held are the packets of those segments that the bucket holds as they were sealed.
func held(m events.Manifest) uint64 {
	var n uint64
	for _, seg := range m.Segments {
		if seg.Confirmed {
			n = sum(n, seg.Packets)
		}
	}
	return n
}

// missing are the packets of segments that were sealed and are not in the bucket.
func missing(m events.Manifest) uint64 {
	var n uint64
	there := map[string]bool{}
	for _, seg := range m.Segments {
		there[seg.Key] = true
	}
	for _, said := range m.Collectors {
		for _, seg := range said.Segments {
			if !there[seg.Key] {
				n = sum(n, seg.Packets)
			}
		}
	}
	return n
}

func stages(t events.Tally, missing uint64) []events.Stage {
	r := t.Rejected
	return []events.Stage{
		{Place: events.PlaceSource, Name: "mirrored", Fate: events.FateUnknown},
		{Place: events.PlaceSource, Name: "skipped", Fate: events.FateUnknown},
		{Place: events.PlaceHost, Name: "hostDropped", Packets: t.HostDropped, Fate: events.FateAtMost},
		{Place: events.PlaceReceiver, Name: "ringDropped", Packets: t.RingDropped, Fate: events.FateLost},
		{Place: events.PlaceReceiver, Name: "socketDropped", Packets: t.SocketDropped, Fate: events.FateLost},
		{Place: events.PlaceReceiver, Name: "received", Packets: t.Received, Fate: events.FateKept},
		{Place: events.PlaceAdmission, Name: "foreignSource", Packets: r.ForeignSource, Fate: events.FateRejected},
		{Place: events.PlaceAdmission, Name: "foreignVni", Packets: r.ForeignVNI, Fate: events.FateRejected},
		{Place: events.PlaceAdmission, Name: "malformed", Packets: r.Malformed, Fate: events.FateRejected},
		{Place: events.PlaceAdmission, Name: "oversize", Packets: r.Oversize, Fate: events.FateRejected},
		{Place: events.PlaceAdmission, Name: "fragment", Packets: r.Fragment, Fate: events.FateRejected},
		{Place: events.PlaceAdmission, Name: "badChecksum", Packets: r.BadChecksum, Fate: events.FateRejected},
		{Place: events.PlaceAdmission, Name: "truncated", Packets: t.Truncated, Fate: events.FateCut},
		{Place: events.PlaceAdmission, Name: "admitted", Packets: sum(t.Written, t.Unwritten), Fate: events.FateKept},
		{Place: events.PlaceDisk, Name: "unwritten", Packets: t.Unwritten, Fate: events.FateLost},
		{Place: events.PlaceDisk, Name: "reduced", Packets: t.Reduced, Fate: events.FateCut},
		{Place: events.PlaceDisk, Name: "written", Packets: t.Written, Fate: events.FateKept},
		{Place: events.PlaceBucket, Name: "missing", Packets: missing, Fate: events.FateLost},
		{Place: events.PlaceBucket, Name: "uploaded", Packets: t.Uploaded, Fate: events.FateKept},
	}
}

// balances are the equations of docs/evidence.md, section 6.5, in its order.
func balances(m events.Manifest) []events.Balance {
	list := []events.Balance{}
	var all []events.Segment
	for _, said := range m.Collectors {
		list = append(list, equations(said.UserID, said.Tally, said.Segments, !said.Derived)...)
		all = append(all, said.Segments...)
	}
	list = append(list, equations("all", m.Tally, all, true)...)
	var packets uint64
	for _, seg := range m.Segments {
		packets = sum(packets, seg.Packets)
	}
	return append(list, balance("all: packets in the bucket = uploaded", packets, m.Tally.Uploaded))
}

// equations are those of one collector, or of all. One that did not close has said only what it received.
func equations(of string, t events.Tally, segments []events.Segment, closed bool) []events.Balance {
	r := t.Rejected
	list := []events.Balance{balance(of+": received = written + rejected + unwritten", t.Received,
		sum(t.Written, r.ForeignSource, r.ForeignVNI, r.Malformed, r.Oversize, r.Fragment, r.BadChecksum, t.Unwritten))}
	if !closed {
		return list
	}
	var packets, size, confirmed, confirmedSize, reduced uint64
	for _, seg := range segments {
		packets, size, reduced = sum(packets, seg.Packets), sum(size, length(seg)), sum(reduced, seg.Reduced)
		if seg.Confirmed {
			confirmed, confirmedSize = sum(confirmed, seg.Packets), sum(confirmedSize, length(seg))
		}
	}
	return append(list,
		balance(of+": written = sealed", t.Written, t.Sealed),
		balance(of+": sealed = packets of segments", t.Sealed, packets),
		balance(of+": sealedBytes = bytes of segments", t.SealedBytes, size),
		balance(of+": uploaded = packets of confirmed segments", t.Uploaded, confirmed),
		balance(of+": uploadedBytes = bytes of confirmed segments", t.UploadedBytes, confirmedSize),
		balance(of+": reduced = reduced of segments", t.Reduced, reduced))
}

func length(seg events.Segment) uint64 { return uint64(max(0, seg.Bytes)) }

func balance(says string, left, right uint64) events.Balance {
	return events.Balance{Says: says, Left: min(left, maxInteger), Right: min(right, maxInteger), Holds: left == right}
}

// sum adds counts of a collector's, which may be forged, and stays within what a record can say.
func sum(counts ...uint64) uint64 {
	var n uint64
	for _, c := range counts {
		n = min(n+min(c, maxInteger), maxInteger)
	}
	return n
}

// losses are the counters of lost packets.
var losses = []struct {
	cause string
	of    func(events.Tally) uint64
}{
	{"hostDropped", func(t events.Tally) uint64 { return t.HostDropped }},
	{"ringDropped", func(t events.Tally) uint64 { return t.RingDropped }},
	{"socketDropped", func(t events.Tally) uint64 { return t.SocketDropped }},
	{"unwritten", func(t events.Tally) uint64 { return t.Unwritten }},
}

// causeUnknown is that of the gap behind the last checkpoint of a collector that did not close.
const causeUnknown = "unknown"

// gaps are the times in which packets were lost, as checkpoints tell them.
func gaps(reports []report) []events.Gap {
	list := []events.Gap{}
	for _, r := range reports {
		points := append([]point{{at: r.said.Started}}, r.points...)
		if !r.said.Derived {
			points = append(points, point{at: r.said.Ended, tally: r.said.Tally})
		}
		for _, loss := range losses {
			var open *events.Gap
			for i := 1; i < len(points); i++ {
				before, after := loss.of(points[i-1].tally), loss.of(points[i].tally)
				if after <= before {
					open = nil
					continue
				}
				if open == nil {
					list = append(list, events.Gap{From: points[i-1].at.UTC(), Cause: loss.cause, Collector: r.said.UserID})
					open = &list[len(list)-1]
				}
				open.To, open.Packets = points[i].at.UTC(), open.Packets+after-before
			}
		}
		if n := len(r.points); r.said.Derived && n > 0 {
			list = append(list, events.Gap{From: r.points[n-1].at.UTC(), Cause: causeUnknown, Collector: r.said.UserID})
		}
	}
	slices.SortStableFunc(list, func(a, b events.Gap) int {
		for _, order := range []int{a.From.Compare(b.From), strings.Compare(a.Collector, b.Collector), strings.Compare(a.Cause, b.Cause)} {
			if order != 0 {
				return order
			}
		}
		return 0
	})
	return list
}
