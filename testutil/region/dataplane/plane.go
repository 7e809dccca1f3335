package dataplane

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"flashtap/functions/filter"
)

// Source gives the packets of one interface in order, each when it passes. It ends with io.EOF.
type Source interface {
	Next(context.Context) (Packet, error)
}

// Start says when a plane takes its first packet from the source.
type Start int

const (
	// WhenTold waits for StartTraffic.
	WhenTold Start = iota
	// WithSession waits for the first session, or StartTraffic: what a session will see is then the source from its
	// first packet on, however long the session took to come.
	WithSession
)

// Config is what a Plane needs.
type Config struct {
	// Interface names the source interface in logs.
	Interface string
	// Address is the outer source address: the primary address of the source interface.
	Address netip.Addr
	Traffic Source
	Start   Start
	// PacketsPerSecond bounds how fast packets are taken, so that the receiver's socket buffer doesn't overflow, which
	// on loopback nothing else prevents. 0 stands for DefaultPacketsPerSecond, a negative number for no bound.
	PacketsPerSecond int
	// Busy says that the instance is too busy to copy a packet that a session has taken: production goes before, so the copy is
	// skipped, which CloudWatch alone tells (VPC Traffic Mirroring guide, "Limitations"). Nil: it never is.
	Busy func(Packet) bool
	// Record keeps a copy of every frame sent, for Sent. With a source that never ends so does its memory.
	Record bool
	// Log is slog.Default when nil.
	Log *slog.Logger
}

// DefaultPacketsPerSecond lets a receiver with the default socket buffer of Linux (208 KiB) be away for some ten
// milliseconds of full-size frames.
const DefaultPacketsPerSecond = 2000

// Copy is one mirrored packet as it was sent.
type Copy struct {
	At      time.Time
	Session string
	VNI     uint32
	// From and To are the ends of the outer datagram.
	From, To netip.AddrPort
	// Frame is what follows the VXLAN header, OrigLen the length of the packet it was cut from.
	Frame   []byte
	OrigLen int
}

// Plane mirrors the packets of one source interface by the sessions it is given.
type Plane struct {
	cfg   Config
	start chan struct{} // closed by the first StartTraffic
	once  sync.Once
	done  chan struct{} // closed when Run returns

	mu       sync.Mutex
	sessions []Session
	tally    Tally
	sent     []Copy
	meter    meter
	sockets  sockets
	datagram []byte
}

// New makes a plane. Nothing is sent, and no port taken, before Run.
func New(cfg Config) (*Plane, error) {
	if !cfg.Address.IsValid() {
		return nil, fmt.Errorf("mirror %s: no outer source address", cfg.Interface)
	}
	if cfg.Traffic == nil {
		return nil, fmt.Errorf("mirror %s: no source of packets", cfg.Interface)
	}
	cfg.Log = cmp.Or(cfg.Log, slog.Default())
	return &Plane{
		cfg:     cfg,
		start:   make(chan struct{}),
		done:    make(chan struct{}),
		tally:   Tally{Sessions: map[string]SessionTally{}, Lost: map[Loss]uint64{}},
		sockets: sockets{address: cfg.Address.Unmap()},
	}, nil
}

// Run takes packets from the source and mirrors them until the source ends or ctx does. It is called once.
func (p *Plane) Run(ctx context.Context) (err error) {
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		err = errors.Join(err, p.sockets.close())
		close(p.done)
	}()
	select {
	case <-p.start:
	case <-ctx.Done():
		return nil
	}
	pace := newPace(p.cfg.PacketsPerSecond)
	for {
		packet, err := p.cfg.Traffic.Next(ctx)
		switch {
		case ctx.Err() != nil || errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("take packet from %s: %w", p.cfg.Interface, err)
		}
		if !pace.wait(ctx) {
			return nil
		}
		p.carry(packet)
	}
}

// StartTraffic lets Run take the first packet. Further calls change nothing.
func (p *Plane) StartTraffic() { p.once.Do(func() { close(p.start) }) }

// Done is closed when Run has returned: the source has ended, or its context has.
func (p *Plane) Done() <-chan struct{} { return p.done }

// SetSessions replaces the sessions of the interface. When it returns, no packet of a session that is gone will follow.
// An error changes nothing.
func (p *Plane) SetSessions(sessions []Session) error {
	next, err := ordered(sessions)
	if err != nil {
		return fmt.Errorf("mirror %s: %w", p.cfg.Interface, err)
	}
	p.mu.Lock()
	p.sessions = next
	for _, s := range next {
		if _, known := p.tally.Sessions[s.ID]; !known {
			p.tally.Sessions[s.ID] = SessionTally{}
		}
	}
	p.mu.Unlock()
	if p.cfg.Start == WithSession && len(next) > 0 {
		p.StartTraffic()
	}
	return nil
}

// Tally returns what became of the packets so far.
func (p *Plane) Tally() Tally {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tally.clone()
}

// Sent returns the frames sent so far, in order, if the plane records.
func (p *Plane) Sent() []Copy {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.sent)
}

// carry asks the sessions about one packet, in their order, until one takes it.
func (p *Plane) carry(packet Packet) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tally.Seen++
	volume := p.meter.now(time.Now())
	volume.carried(packet)
	if len(p.sessions) == 0 {
		p.tally.NoSession++
		return
	}
	var last Verdict
	for _, s := range p.sessions {
		verdict := s.Filter.Matches(packet.Direction, packet.Data)
		tally := p.tally.Sessions[s.ID]
		tally.Offered++
		if verdict.Accept {
			p.mirror(s, packet, &tally, volume)
		} else {
			tally.refused(verdict)
		}
		p.tally.Sessions[s.ID] = tally
		if verdict.Accept {
			return
		}
		last = verdict
	}
	if last.Cause == filter.Never {
		p.tally.NeverMirrored++
	} else {
		p.tally.NotMatched++
	}
}

func (p *Plane) mirror(s Session, packet Packet, tally *SessionTally, volume *Volume) {
	kept, cut := s.Keep(packet.Data)
	if s.Lost != "" {
		tally.Lost++
		p.tally.Lost[s.Lost]++
		if s.Lost != AtSource {
			volume.mirrored(packet)
		}
		return
	}
	if p.cfg.Busy != nil && p.cfg.Busy(packet) {
		tally.Skipped++
		p.tally.Skipped++
		volume.skipped(packet)
		return
	}
	from, err := p.send(s, kept, SourcePort(packet.Data))
	if err != nil {
		if tally.SendErrors == 0 { // one line, not one per packet
			p.cfg.Log.Warn("mirrored packet not sent", "eni", p.cfg.Interface, "session", s.ID, "to", s.Target, "err", err)
		}
		tally.SendErrors++
		tally.LastError = err.Error()
		p.tally.SendErrors++
		volume.skipped(packet)
		return
	}
	volume.mirrored(packet)
	tally.Mirrored++
	tally.Bytes += uint64(len(kept))
	p.tally.Mirrored++
	switch cut {
	case ToLength:
		tally.CutToLength++
	case ToMTU:
		tally.CutToMTU++
	}
	if p.cfg.Record {
		p.sent = append(p.sent, Copy{At: time.Now(), Session: s.ID, VNI: s.VNI, From: from, To: s.Target,
			Frame: bytes.Clone(kept), OrigLen: max(packet.OrigLen, len(packet.Data))})
	}
}

func (p *Plane) send(s Session, frame []byte, port uint16) (from netip.AddrPort, err error) {
	conn, err := p.sockets.port(port)
	if err != nil {
		return netip.AddrPort{}, err
	}
	p.datagram = appendVXLAN(p.datagram[:0], s.VNI, frame)
	if _, err := conn.WriteToUDPAddrPort(p.datagram, s.Target); err != nil {
		return netip.AddrPort{}, err
	}
	return conn.LocalAddr().(*net.UDPAddr).AddrPort(), nil
}

// pace spreads packets evenly; what was late is not made up for, as a burst is what it is there to prevent.
type pace struct {
	interval time.Duration
	next     time.Time
}

func newPace(perSecond int) *pace {
	if perSecond < 0 {
		return &pace{}
	}
	return &pace{interval: time.Second / time.Duration(cmp.Or(perSecond, DefaultPacketsPerSecond))}
}

// wait returns when the next packet may go, or false when ctx ended first.
func (p *pace) wait(ctx context.Context) bool {
	if p.interval == 0 {
		return ctx.Err() == nil
	}
	now := time.Now()
	// Timers are late by up to a millisecond, so that much is made up for.
	if floor := now.Add(-time.Millisecond); p.next.Before(floor) {
		p.next = floor
	}
	wait := p.next.Sub(now)
	p.next = p.next.Add(p.interval)
	return sleep(ctx, wait)
}

// sleep returns false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
