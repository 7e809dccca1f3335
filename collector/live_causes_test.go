package main

import (
	"encoding/binary"
	"fmt"
	"testing"

	"flashtap/events"
	"flashtap/testutil/bench/traffic"
	"flashtap/testutil/bench/verify"
	"flashtap/testutil/packets"
)

// What is no evidence is counted by its cause, to the packet; and what a receiver can't see is in no count.
func TestLiveEveryCauseIsCounted(t *testing.T) {
	w := newWire(t)
	const (
		sessions     = 4
		each         = 2000
		strangers    = 900
		short        = 70
		empty        = 30
		flagless     = 50
		fragmented   = 40
		damaged      = 60
		damaged6     = 20
		elsewhere    = 25
		rate         = 20_000
		foreignFrags = fragmented // of another session, as a socket gets to see when the kernel has put them together
	)
	ours := w.generator(func(p *traffic.Plan) { p.Sizes, p.VNIs = []int{64, 300, 1400}, sessions })
	theirs, err := traffic.New(func() traffic.Plan {
		p := ours.Plan()
		p.Run, p.VNIs = 2, 1
		p.Outer.Source = p.Outer.Source.Next().Next()
		return p
	}())
	if err != nil {
		t.Fatal(err)
	}
	from, to := w.hosts(source4, target4)
	from6, to6 := w.hosts(source6, target6)
	inner := numbered(0, 1, 1000)[0]
	var odd [][]byte
	add := func(n int, frames ...[]byte) {
		for range n {
			odd = append(odd, frames...)
		}
	}
	add(short, packets.UDP(from, to, []byte("\x08\x00\x00\x00\x00\x10\x92\x00short")))
	add(empty, packets.UDP(from, to, nil))
	noFlag := packets.VXLAN(4242, inner)
	noFlag[0] = 0
	add(flagless, packets.UDP(from, to, noFlag))
	for i := range fragmented {
		add(1, packets.Fragments(identified(packets.VXLANDatagram(from, to, 4250, inner), uint16(i)), 400)...)
	}
	add(damaged, spoiled(packets.VXLANDatagram(from, to, 4242, inner)))
	add(damaged6, spoiled(packets.VXLANDatagram(from6, to6, 4242, inner)))
	add(elsewhere, packets.UDP(from, to.On(4790), packets.VXLAN(4242, inner)))

	const genuine, foreign, malformed = each, (sessions - 1) * each, short + empty + flagless
	for _, c := range []struct {
		receiver string
		received int
		rejected events.Rejected
		dropped  uint64
	}{
		{"ring", genuine + foreign + strangers + malformed + fragmented + damaged + damaged6, events.Rejected{
			ForeignVNI: foreign, ForeignSource: strangers, Malformed: malformed, Fragment: fragmented, BadChecksum: damaged + damaged6,
		}, 0},
		{"socket", genuine + foreign + strangers + malformed + foreignFrags, events.Rejected{
			ForeignVNI: foreign + foreignFrags, ForeignSource: strangers, Malformed: malformed,
		}, damaged + damaged6}, // among what the kernel has dropped, whatever the cause
	} {
		t.Run(c.receiver, func(t *testing.T) {
			col := w.capture(t, asRoot, t.TempDir(), "--vni", "4242", "--source", fmt.Sprintf("%s,%s", source4, source6), "--receiver", c.receiver)
			w.send(ours, 0, sessions*each/2, rate)
			w.send(theirs, 0, strangers, rate)
			w.sender.send(w.SendCPU(), odd...)
			w.send(ours, sessions*each/2, sessions*each/2, rate)
			m := col.stop()
			if m.Tally.Received != uint64(c.received) || m.Tally.Rejected != c.rejected || m.Tally.Lost() != c.dropped || m.Complete != (c.dropped == 0) {
				t.Errorf("complete: %t, %+v; want %d received, %d dropped, and rejected %+v\n%v\n%s", m.Complete, m.Tally, c.received, c.dropped, c.rejected, m.Host, said(m))
			}
			col.agrees(m)
			v := col.verdict(sessions*each, verify.Options{Traffic: ours, VNIs: []uint32{4242}})
			if !v.Whole() || v.Intact != genuine || m.Tally.Written != genuine {
				t.Errorf("%s; %+v", v, m.Tally)
			}
		})
	}
}

// identified gives an IPv4 packet an identification, by which its fragments are put together.
func identified(frame []byte, id uint16) []byte {
	binary.BigEndian.PutUint16(frame[18:], id)
	return frame
}

// spoiled is a frame with a changed byte at its end.
func spoiled(frame []byte) []byte {
	out := append([]byte{}, frame...)
	out[len(out)-1] ^= 0x55
	return out
}
