package dataplane

import (
	"net/netip"
	"testing"
	"time"
)

// A packet whose copy gets lost is taken from the sessions after, and counted by the cause.
func TestLostCopies(t *testing.T) {
	to, take := listen(t, "127.0.0.1:0")
	traffic := make(handed)
	p := run(t, Config{Traffic: traffic, Start: WithSession})
	lost := Session{ID: "tms-1", Number: 1, Filter: acceptAll, Target: to, Lost: "security-group"}
	after := Session{ID: "tms-2", Number: 2, Filter: acceptAll, Target: to}
	if err := p.SetSessions([]Session{lost, after}); err != nil {
		t.Fatal(err)
	}
	frames := mixed()
	traffic <- Packet{Direction: Egress, Data: frames[0].Data}
	until(t, p, "one lost", func(t Tally) bool { return t.Lost["security-group"] == 1 })
	lost.Lost = AtSource
	if err := p.SetSessions([]Session{lost, after}); err != nil {
		t.Fatal(err)
	}
	traffic <- Packet{Direction: Ingress, Data: frames[0].Data}
	until(t, p, "one not made", func(t Tally) bool { return t.Lost[AtSource] == 1 })
	lost.Lost = ""
	if err := p.SetSessions([]Session{lost, after}); err != nil {
		t.Fatal(err)
	}
	traffic <- Packet{Direction: Ingress, Data: frames[0].Data, OrigLen: 2000}
	close(traffic)
	finish(t, p)
	take(1)
	if tally := p.Tally(); tally.Sessions["tms-2"].Offered != 0 || tally.Mirrored != 1 || len(p.Sent()) != 1 {
		t.Errorf("%+v", tally)
	}

	var sum Volume
	for _, v := range p.Volumes() {
		if v.At.Truncate(time.Second) != v.At || time.Since(v.At) > time.Minute {
			t.Errorf("a volume of %v", v.At)
		}
		for to, from := range map[*Count]Count{&sum.In: v.In, &sum.Out: v.Out, &sum.MirroredIn: v.MirroredIn, &sum.MirroredOut: v.MirroredOut, &sum.SkippedIn: v.SkippedIn, &sum.SkippedOut: v.SkippedOut} {
			to.Packets, to.Bytes = to.Packets+from.Packets, to.Bytes+from.Bytes
		}
	}
	size := uint64(len(frames[0].Data))
	want := Volume{In: Count{2, size + 2000}, Out: Count{1, size}, MirroredIn: Count{1, 2000}, MirroredOut: Count{1, size}}
	if sum != want {
		t.Errorf("volumes %+v, want %+v", sum, want)
	}
}

// What the instance can't send is skipped, as its metrics call it.
func TestSkippedCopiesAreMetered(t *testing.T) {
	p := run(t, Config{Traffic: play(t, mixed(), Suspect{Addresses: []netip.Addr{suspect.IP}}), Start: WithSession})
	if err := p.SetSessions([]Session{{ID: "tms-1", Number: 1, Filter: acceptAll, Target: netip.MustParseAddrPort("[::1]:4789")}}); err != nil {
		t.Fatal(err)
	}
	finish(t, p)
	var skipped, mirrored uint64
	for _, v := range p.Volumes() {
		skipped, mirrored = skipped+v.SkippedIn.Packets+v.SkippedOut.Packets, mirrored+v.MirroredIn.Packets+v.MirroredOut.Packets
	}
	if skipped != 4 || mirrored != 0 {
		t.Errorf("skipped %d, mirrored %d", skipped, mirrored)
	}
}
