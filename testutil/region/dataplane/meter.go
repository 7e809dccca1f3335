package dataplane

import (
	"slices"
	"time"
)

// Count is a number of packets and of their bytes.
type Count struct{ Packets, Bytes uint64 }

// Volume is what an interface carried within one second, as its instance's metrics count it (VPC Traffic Mirroring guide,
// "Monitor mirrored traffic using Amazon CloudWatch"): In is ingress, Out egress.
type Volume struct {
	At                      time.Time // the beginning of the second
	In, Out                 Count
	MirroredIn, MirroredOut Count // copied, whether the copies arrived or not
	SkippedIn, SkippedOut   Count // matched, and not copied, because the instance could not
}

// Volumes are what the interface carried so far, oldest first. Seconds without a packet are left out.
func (p *Plane) Volumes() []Volume {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.meter.seconds)
}

// meter keeps volumes by the second.
type meter struct{ seconds []Volume }

// now is the volume of the second that t is in; it is valid until the next call.
func (m *meter) now(t time.Time) *Volume {
	at := t.Truncate(time.Second)
	if n := len(m.seconds); n == 0 || m.seconds[n-1].At.Before(at) {
		m.seconds = append(m.seconds, Volume{At: at})
	}
	return &m.seconds[len(m.seconds)-1]
}

func (v *Volume) carried(p Packet)  { v.count(p, &v.In, &v.Out) }
func (v *Volume) mirrored(p Packet) { v.count(p, &v.MirroredIn, &v.MirroredOut) }
func (v *Volume) skipped(p Packet)  { v.count(p, &v.SkippedIn, &v.SkippedOut) }

func (v *Volume) count(p Packet, in, out *Count) {
	c := out
	if p.Direction == Ingress {
		c = in
	}
	c.Packets++
	c.Bytes += uint64(max(p.OrigLen, len(p.Data)))
}
