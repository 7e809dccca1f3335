package dataplane

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"time"

	"flashtap/functions/filter"
	"flashtap/testutil/packets"
)

// Suspect tells the frames of the source interface, and their direction, within a recording made anywhere.
type Suspect struct {
	// Addresses are the IP addresses the suspect has in the recording.
	Addresses []netip.Addr
	// MAC, when given, decides alone.
	MAC net.HardwareAddr
}

// direction returns "" for a frame that is neither from the suspect nor to it. Broadcasts and multicasts of others
// are to it.
func (s Suspect) direction(frame []byte) Direction {
	if len(frame) < 14 {
		return ""
	}
	to, from := net.HardwareAddr(frame[0:6]), net.HardwareAddr(frame[6:12])
	if len(s.MAC) > 0 {
		return choose(bytes.Equal(from, s.MAC), bytes.Equal(to, s.MAC), to)
	}
	h, _ := filter.ParseHeader(frame)
	return choose(slices.Contains(s.Addresses, h.Source), slices.Contains(s.Addresses, h.Destination), to)
}

func choose(from, to bool, mac net.HardwareAddr) Direction {
	const group = 0x01 // of the first byte of a MAC: not of one receiver
	switch {
	case from:
		return Egress
	case to || mac[0]&group != 0:
		return Ingress
	}
	return ""
}

// ReplayConfig says what is replayed, and how fast.
type ReplayConfig struct {
	Frames  []packets.Frame
	Suspect Suspect
	// Speed divides the times between frames; 0 stands for 1, math.Inf(1) for no waiting at all.
	Speed float64
	// MaxGap bounds each time between frames, after Speed; 0 stands for no bound. Recordings may pause for weeks.
	MaxGap time.Duration
	// Loop begins again after the last frame, a second of recorded time later.
	Loop bool
}

// Replay is a Source that plays the frames of one suspect out of a recording.
type Replay struct {
	cfg     ReplayConfig
	packets []Packet
	next    int
	due     time.Time
}

// NewReplay keeps the frames that are from the suspect or to it.
//
// Frames that aren't IP don't bear its addresses: they are told by the MAC from which it sends its IP packets.
func NewReplay(cfg ReplayConfig) (*Replay, error) {
	if len(cfg.Suspect.Addresses) == 0 && len(cfg.Suspect.MAC) == 0 {
		return nil, errors.New("replay: the suspect has neither address nor MAC")
	}
	if cfg.Speed == 0 {
		cfg.Speed = 1
	}
	if !(cfg.Speed > 0) || cfg.MaxGap < 0 {
		return nil, errors.New("replay: neither speed nor gap can be negative")
	}
	other := cfg.Suspect
	if len(other.MAC) == 0 {
		other.MAC = cfg.Suspect.findMAC(cfg.Frames)
	}
	r := &Replay{cfg: cfg}
	own := false
	for _, f := range cfg.Frames {
		suspect := cfg.Suspect
		if _, isIP := filter.ParseHeader(f.Data); !isIP {
			suspect = other
		}
		d := suspect.direction(f.Data)
		if d == "" {
			continue
		}
		own = own || d == Egress || len(f.Data) > 0 && f.Data[0]&1 == 0
		r.packets = append(r.packets, Packet{At: f.At, Direction: d, Data: f.Data, OrigLen: f.OrigLen})
	}
	if !own {
		return nil, errors.New("replay: no frame of the recording is from the suspect or to it")
	}
	return r, nil
}

func (s Suspect) findMAC(frames []packets.Frame) net.HardwareAddr {
	for _, f := range frames {
		if h, ok := filter.ParseHeader(f.Data); ok && slices.Contains(s.Addresses, h.Source) {
			return net.HardwareAddr(f.Data[6:12])
		}
	}
	return nil
}

// Packets returns what one run through the recording gives.
func (r *Replay) Packets() []Packet { return slices.Clone(r.packets) }

// Next returns the next packet when it is due, the first one at once.
func (r *Replay) Next(ctx context.Context) (Packet, error) {
	if r.next == len(r.packets) {
		if !r.cfg.Loop {
			return Packet{}, io.EOF
		}
		r.next = 0
	}
	if r.due.IsZero() {
		r.due = time.Now()
	} else {
		r.due = r.due.Add(r.gap())
	}
	if !sleep(ctx, time.Until(r.due)) {
		return Packet{}, ctx.Err()
	}
	r.next++
	return r.packets[r.next-1], nil
}

// gap is the time to wait between the packet before and the next.
func (r *Replay) gap() time.Duration {
	recorded := time.Second
	if r.next > 0 {
		recorded = max(0, r.packets[r.next].At.Sub(r.packets[r.next-1].At))
	}
	gap := time.Duration(float64(recorded) / r.cfg.Speed)
	if r.cfg.MaxGap > 0 {
		gap = min(gap, r.cfg.MaxGap)
	}
	return gap
}
