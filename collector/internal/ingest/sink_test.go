package ingest

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"flashtap/collector/segment"
	"flashtap/collector/vxlan"
	"flashtap/events"
)

var (
	suspect  = netip.MustParseAddr("10.0.0.7")
	suspect6 = netip.MustParseAddr("2001:db8::7")
)

const vni = 0x123456

// rig is a sink with a writer behind it.
type rig struct {
	*Sink
	dir     string
	files   []segment.File
	remarks []string
	room    atomic.Int64
	sealed  chan error
}

func newRig(t *testing.T, change func(*SinkConfig)) *rig {
	t.Helper()
	r := &rig{dir: t.TempDir(), sealed: make(chan error, 1)}
	r.room.Store(1 << 40)
	w := segment.NewWriter(segment.Config{
		Dir: r.dir, MaxBytes: 1 << 20, MaxAge: time.Hour,
		Sealed: func(f segment.File) { r.files = append(r.files, f) },
	})
	go func() { r.sealed <- w.Run(context.Background()) }()
	cfg := SinkConfig{
		VNI: vni, Sources: []netip.Addr{suspect, suspect6}, Writer: w, Room: r.room.Load, RoomAgain: 10_000,
		Remark: func(text string) { r.remarks = append(r.remarks, text) },
	}
	if change != nil {
		change(&cfg)
	}
	r.Sink = NewSink(cfg)
	return r
}

// settled is the tally once every frame has a fate.
func (r *rig) settled(t *testing.T) events.Tally {
	t.Helper()
	r.Tally()
	waitFor(t, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		accepted, _ := r.cfg.Writer.Accepted()
		c := r.cfg.Writer.Counts()
		return accepted == c.Written+c.Lost
	})
	return r.Tally()
}

// end closes the sink and returns its tally; what the segments hold must be what it says.
func (r *rig) end(t *testing.T) events.Tally {
	t.Helper()
	r.Close()
	if err := <-r.sealed; err != nil {
		t.Fatal(err)
	}
	tally := r.Tally()
	if !tally.Balanced() {
		t.Errorf("the tally does not balance: %+v", tally)
	}
	packets := r.cfg.Before.Written
	for _, f := range r.files {
		packets += f.Packets
	}
	if packets != tally.Written {
		t.Errorf("%d packets in segments, %d in the tally", packets, tally.Written)
	}
	return tally
}

func datagram(n int) Datagram {
	p := make([]byte, 8+n)
	p[0] = 0x08
	binary.BigEndian.PutUint32(p[4:], vni<<8)
	return Datagram{Payload: p, Source: suspect.As16(), At: time.Now().UnixNano()}
}

func with(d Datagram, change func(*Datagram)) Datagram {
	change(&d)
	return d
}

func TestEveryDatagramHasOneFate(t *testing.T) {
	foreign := netip.MustParseAddr("10.0.0.8")
	otherVNI := func(d *Datagram) { d.Payload[6] ^= 1 }
	noFlag := func(d *Datagram) { d.Payload[0] = 0 }
	tests := []struct {
		reason   string
		datagram Datagram
		want     events.Tally
	}{
		{"genuine", datagram(60), events.Tally{Written: 1, WrittenBytes: 60}},
		{"genuine, from the suspect's IPv6 address", with(datagram(60), func(d *Datagram) { d.Source = suspect6.As16() }), events.Tally{Written: 1, WrittenBytes: 60}},
		{"cut on the way", with(datagram(60), func(d *Datagram) {
			copy(d.Payload[8+12:], []byte{0x08, 0x00, 0x45, 0, 0x05, 0xdc})
		}), events.Tally{Written: 1, WrittenBytes: 60, Truncated: 1}},
		{"from another address", with(datagram(60), func(d *Datagram) { d.Source = foreign.As16() }), events.Tally{Rejected: events.Rejected{ForeignSource: 1}}},
		{"from nowhere", with(datagram(60), func(d *Datagram) { d.Source = [16]byte{} }), events.Tally{Rejected: events.Rejected{ForeignSource: 1}}},
		{"from another address, and malformed", with(with(datagram(60), noFlag), func(d *Datagram) { d.Source = foreign.As16() }), events.Tally{Rejected: events.Rejected{ForeignSource: 1}}},
		{"of another session", with(datagram(60), otherVNI), events.Tally{Rejected: events.Rejected{ForeignVNI: 1}}},
		{"without the I flag", with(datagram(60), noFlag), events.Tally{Rejected: events.Rejected{Malformed: 1}}},
		{"too short for a frame", with(datagram(13), otherVNI), events.Tally{Rejected: events.Rejected{Malformed: 1}}},
		{"empty", with(datagram(60), func(d *Datagram) { d.Payload = nil }), events.Tally{Rejected: events.Rejected{Malformed: 1}}},
		{"cut by our own buffer", with(datagram(60), func(d *Datagram) { d.Fault = vxlan.Oversize }), events.Tally{Rejected: events.Rejected{Oversize: 1}}},
	}
	for _, test := range tests {
		t.Run(test.reason, func(t *testing.T) {
			r := newRig(t, nil)
			r.Take([]Datagram{test.datagram})
			test.want.Received = 1
			if got := r.end(t); got != test.want {
				t.Errorf("%+v, want %+v", got, test.want)
			}
		})
	}
}

func TestFramesAreCopiedOutOfTheBatch(t *testing.T) {
	r := newRig(t, nil)
	d := datagram(100)
	copy(d.Payload[8:], "first")
	r.Take([]Datagram{d})
	copy(d.Payload[8:], "again")
	r.Take([]Datagram{d})
	r.end(t)
	data, err := os.ReadFile(r.files[0].Path)
	if err != nil || !bytes.Contains(data, []byte("first")) || !bytes.Contains(data, []byte("again")) {
		t.Errorf("the segment does not hold both frames (%v)", err)
	}
}

func TestByteCapIsExact(t *testing.T) {
	r := newRig(t, func(c *SinkConfig) { c.MaxBytes = 1000 })
	batch := make([]Datagram, 25)
	for i := range batch {
		batch[i] = datagram(90)
	}
	r.Take(batch[:11]) // 990 bytes
	select {
	case <-r.Exhausted():
		t.Fatal("exhausted at 990 of 1000 bytes")
	default:
	}
	r.Take(batch)
	select {
	case <-r.Exhausted():
	default:
		t.Fatal("not exhausted at 1080 of 1000 bytes")
	}
	r.Take(batch)
	if got := r.end(t); got.Written != 12 || got.Received != 12 || got.WrittenBytes != 1080 {
		t.Errorf("%+v: the frame that reaches the cap is the last", got)
	}
}

func TestByteCapCountsWhatWasWrittenBefore(t *testing.T) {
	r := newRig(t, func(c *SinkConfig) {
		c.MaxBytes, c.Before = 1000, events.Tally{Received: 12, Written: 10, WrittenBytes: 1000, Unwritten: 2}
	})
	select {
	case <-r.Exhausted():
	default:
		t.Error("not exhausted, although a process before had reached the cap")
	}
	r.Take([]Datagram{datagram(60)})
	if got := r.end(t); got != r.cfg.Before {
		t.Errorf("%+v, want what was before", got)
	}
}

func TestFullSpoolIsADeclaredGap(t *testing.T) {
	r := newRig(t, nil)
	r.room.Store(5 * 1000)
	batch := make([]Datagram, 10)
	for i := range batch {
		batch[i] = datagram(984) // with its record header, 1000 bytes
	}
	r.Take(batch)
	if got := r.settled(t); got.Written != 5 || got.Unwritten != 5 || !got.Balanced() {
		t.Errorf("%+v, want 5 written and 5 not", got)
	}
	waitFor(t, func() bool { return r.cfg.Writer.Unsealed() == 0 }) // what there was is sealed, so that it can go
	r.room.Store(9_999)
	r.Take(batch[:3])
	if got := r.settled(t); got.Written != 5 || got.Unwritten != 8 {
		t.Errorf("%+v: a little room must not end the gap, lest gaps come by the thousand", got)
	}
	r.room.Store(1 << 20)
	r.Tend(time.Now())
	r.Take(batch[:4])
	r.room.Store(100)
	r.Take(batch[:2])
	r.Tend(time.Now())
	if got := r.end(t); got.Written != 9 || got.Unwritten != 10 || got.Received != 19 {
		t.Errorf("%+v, want 9 written and 10 not", got)
	}
	all := strings.Join(r.remarks, "\n")
	for _, part := range []string{"8 genuine frames were not written", "capturing ended while the spool was full: 2 genuine frames"} {
		if strings.Count(all, part) != 1 {
			t.Errorf("not said once: %q in\n%s", part, all)
		}
	}
	if len(r.remarks) != 4 {
		t.Errorf("%d remarks, want two for each gap:\n%s", len(r.remarks), all)
	}
}

func TestFramesThatTheDiskRefusesAreCounted(t *testing.T) {
	r := newRig(t, nil)
	r.Take([]Datagram{datagram(60), datagram(60)})
	if got := r.settled(t); got.Written != 2 {
		t.Fatalf("%+v", got)
	}
	r.mu.Lock()
	r.cfg.Writer.Rotate()
	r.mu.Unlock()
	waitFor(t, func() bool { return r.cfg.Writer.Unsealed() == 0 })
	if err := os.Rename(r.dir, filepath.Join(t.TempDir(), "gone")); err != nil {
		t.Fatal(err)
	}
	r.Take([]Datagram{datagram(60), datagram(60), datagram(60)})
	if got := r.end(t); got.Written != 2 || got.Unwritten != 3 {
		t.Errorf("%+v, want 2 written and 3 not", got)
	}
}

// Whatever arrives, in whatever batches, and whatever room there is: the tally balances at every moment.
func TestTallyAlwaysBalances(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	r := newRig(t, func(c *SinkConfig) {
		c.Before = events.Tally{Received: 60, Written: 10, WrittenBytes: 1, Unwritten: 20, Rejected: events.Rejected{Oversize: 30}}
	})
	r.cfg.Before.Written = 10
	sent := uint64(60)
	for range 200 {
		batch := make([]Datagram, random.IntN(20))
		for i := range batch {
			batch[i] = datagram(random.IntN(2000))
			switch random.IntN(6) {
			case 0:
				batch[i].Source = netip.MustParseAddr("192.0.2.1").As16()
			case 1:
				batch[i].Payload[0] = byte(random.IntN(256))
			case 2:
				batch[i].Payload[5] = byte(random.IntN(256))
			case 3:
				batch[i].Fault = vxlan.Oversize
			}
		}
		r.room.Store(int64(random.IntN(300_000)))
		r.Take(batch)
		sent += uint64(len(batch))
		if tally := r.Tally(); !tally.Balanced() || tally.Received > sent {
			t.Fatalf("%d received, tally %+v", sent, tally)
		}
	}
	if tally := r.settled(t); tally.Received != sent {
		t.Fatalf("%d received, tally %+v", sent, tally)
	}
	if tally := r.end(t); tally.Written < 100 || tally.Unwritten < 30 || tally.Rejected.Total() < 100 {
		t.Errorf("this test has not met every fate often enough: %+v", tally)
	}
}

func TestTakingAllocatesNothing(t *testing.T) {
	r := newRig(t, nil)
	batch := []Datagram{datagram(1000), with(datagram(60), func(d *Datagram) { d.Source = suspect6.As16() }), with(datagram(60), func(d *Datagram) { d.Fault = vxlan.Oversize })}
	r.Take(batch)
	if allocs := testing.AllocsPerRun(200, func() { r.Take(batch) }); allocs != 0 {
		t.Errorf("%v allocations a batch, want 0", allocs)
	}
	r.end(t)
}

func FuzzTake(f *testing.F) {
	f.Add([]byte(nil), true)
	f.Add(datagram(60).Payload, true)
	f.Add(datagram(60).Payload, false)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, payload []byte, genuine bool) {
		w := segment.NewWriter(segment.Config{Dir: dir, MaxBytes: 1 << 20, MaxAge: time.Hour})
		s := NewSink(SinkConfig{VNI: vni, Sources: []netip.Addr{suspect}, Writer: w, Room: func() int64 { return 1 << 30 }})
		d := Datagram{Payload: payload, At: time.Now().UnixNano()}
		if genuine {
			d.Source = suspect.As16()
		}
		s.Take([]Datagram{d})
		s.Close()
		if err := w.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		tally := s.Tally()
		if tally.Received != 1 || !tally.Balanced() || (!genuine && tally.Written > 0) {
			t.Fatalf("%+v", tally)
		}
		if tally.Written == 1 && tally.WrittenBytes != uint64(len(payload)-8) {
			t.Fatalf("%d bytes written of a datagram of %d", tally.WrittenBytes, len(payload))
		}
	})
}

func waitFor(t *testing.T, met func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !met(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited for nothing")
		}
	}
}
