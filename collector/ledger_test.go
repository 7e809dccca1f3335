package main

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"flashtap/events"
	"flashtap/testutil/packets"
)

// Packets are lost, refused and cut at each place behind the mirror at once, and the collector's ledger closes: every
// datagram that was sent has one fate (docs/evidence.md, sections 6.3 and 6.5).
func TestLedgerClosesWithLossAtEveryPlace(t *testing.T) {
	t.Parallel()
	f := newFaults(t, shared, healthy)
	r := newRig(t, shared, func(c *events.CollectorConfig) {
		c.SegmentBytes, c.SpoolBytes, c.SpoolPolicy, c.S3Endpoint, c.DrainSeconds = 1<<16, 1<<20, events.SpoolHeaders, f.URL, 4
	})
	r.ready()
	const (
		kept                                         = 200
		foreignVNI, foreignSource, malformed, inside = 5, 4, 3, 2
	)
	r.send(numbered(0, kept, 1000)...)
	r.sendFrom(suspect, vni+1, numbered(kept, foreignVNI, 100)...)
	r.sendFrom("127.10.0.8", vni, numbered(kept, foreignSource, 100)...)
	for range malformed {
		r.sendRaw(suspect, []byte("no VXLAN"))
	}
	for range inside {
		r.sendRaw(suspect, packets.VXLAN(vni, []byte("no frame")))
	}
	sent := uint64(kept + foreignVNI + foreignSource + malformed + inside)
	r.await("what was sent so far", func() bool { c := r.last(); return c.Tally.Received == sent && c.Tally.Uploaded > 0 })

	f.change(func(req *http.Request, _ int) fault { // the store refuses segments, to the end
		if strings.Contains(req.URL.Path, "/segments/") {
			return fault{status: 503}
		}
		return fault{}
	})
	r.signal(syscall.SIGSTOP) // the socket overflows
	sent += r.flood(3000)
	r.signal(syscall.SIGCONT) // and then the spool, which is cut where it can be
	r.await("what the socket held", func() bool {
		t := r.last().Tally
		return t.Received+t.SocketDropped == sent && t.Reduced > 0
	})
	r.stop(exitUnconfirmed)

	e := r.evidence()
	m := e.manifest
	tally := m.Tally
	if want := (events.Rejected{ForeignVNI: foreignVNI, ForeignSource: foreignSource, Malformed: malformed + inside}); tally.Rejected != want {
		t.Errorf("rejected %+v, want %+v", tally.Rejected, want)
	}
	if tally.SocketDropped == 0 || tally.Unwritten == 0 || tally.Reduced == 0 || tally.Uploaded == 0 || tally.Uploaded >= tally.Sealed {
		t.Errorf("nothing was lost at some place: %+v", tally)
	}
	var segments, confirmed events.Tally
	for _, seg := range m.Segments {
		segments.Sealed += seg.Packets
		segments.SealedBytes += uint64(seg.Bytes)
		segments.Reduced += seg.Reduced
		if seg.Confirmed {
			confirmed.Uploaded += seg.Packets
			confirmed.UploadedBytes += uint64(seg.Bytes)
		}
	}
	for says, sides := range map[string][2]uint64{
		"sent = received + dropped by the socket":          {sent, tally.Received + tally.RingDropped + tally.SocketDropped + tally.HostDropped},
		"received = written + rejected + unwritten":        {tally.Received, tally.Written + tally.Rejected.Total() + tally.Unwritten},
		"written = sealed":                                 {tally.Written, tally.Sealed},
		"sealed = packets of segments":                     {tally.Sealed, segments.Sealed},
		"sealed bytes = bytes of segments":                 {tally.SealedBytes, segments.SealedBytes},
		"reduced = reduced of segments":                    {tally.Reduced, segments.Reduced},
		"uploaded = packets of confirmed segments":         {tally.Uploaded, confirmed.Uploaded},
		"uploaded bytes = bytes of confirmed segments":     {tally.UploadedBytes, confirmed.UploadedBytes},
		"packets in the bucket = uploaded":                 {uint64(len(e.packets)), tally.Uploaded},
		"segments in the bucket = confirmed":               {uint64(r.storedSegments()), uint64(countConfirmed(m))},
		"records superseded = segments that were cut":      {uint64(len(m.Superseded)), uint64(countCut(m))},
		"the last checkpoint's losses = the manifest's":    {e.checkpoints[m.Checkpoints-1].Tally.Lost(), tally.Lost()},
		"the growth of losses over checkpoints = all lost": {grown(e.checkpoints), tally.Lost()},
	} {
		if sides[0] != sides[1] {
			t.Errorf("%s: %d, %d; %+v", says, sides[0], sides[1], tally)
		}
	}
	t.Logf("sent %d: %+v", sent, tally)
	for _, part := range []string{"spool full", "cut to their packets' headers", "are not confirmed by the store"} {
		if !strings.Contains(m.Error, part) {
			t.Errorf("the manifest does not say %q: %s", part, m.Error)
		}
	}
}

// flood sends that many datagrams as fast as it can.
func (r *rig) flood(n int) (sent uint64) {
	r.t.Helper()
	conn, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(suspect)}, net.UDPAddrFromAddrPort(r.addr))
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close()
	datagram := packets.VXLAN(vni, numbered(0, 1, 60_000)[0])
	for range n {
		if _, err := conn.Write(datagram); err != nil {
			r.t.Fatal(err)
		}
		sent++
	}
	return sent
}

func (r *rig) storedSegments() int {
	r.t.Helper()
	entries, err := os.ReadDir(filepath.Join(r.path(events.CollectorPrefix(r.cfg.Capture, r.userID())), "segments"))
	if err != nil {
		r.t.Fatal(err)
	}
	return len(entries)
}

func countConfirmed(m events.CollectorManifest) (n int) {
	for _, seg := range m.Segments {
		if seg.Confirmed {
			n++
		}
	}
	return n
}

func countCut(m events.CollectorManifest) (n int) {
	for _, seg := range m.Segments {
		if seg.Reduced > 0 {
			n++
		}
	}
	return n
}

// grown is by how much the counters of loss grew between checkpoints, none of which may fall.
func grown(checkpoints []events.Checkpoint) (lost uint64) {
	before := uint64(0)
	for _, c := range checkpoints {
		if now := c.Tally.Lost(); now > before {
			lost += now - before
			before = now
		}
	}
	return lost
}
