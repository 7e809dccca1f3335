package region

import (
	"fmt"
	"net/netip"
	"sync"

	"flashtap/testutil/region/dataplane"
	"flashtap/testutil/region/ec2"
)

// traffic connects sources of packets with the mirror sessions of their interfaces.
type traffic struct {
	region *Region

	mu       sync.Mutex
	planes   map[string]*dataplane.Plane // by source interface
	sessions []ec2.MirrorSession         // as EC2 last told
	work     sync.WaitGroup
}

// AddTraffic gives an interface packets. They pass by unseen until a mirror session exists.
func (r *Region) AddTraffic(eni string, cfg dataplane.Config) (*dataplane.Plane, error) {
	cfg.Log = r.log
	plane, err := dataplane.New(cfg)
	if err != nil {
		return nil, err
	}
	t := &r.traffic
	t.mu.Lock()
	if t.planes == nil {
		t.planes = map[string]*dataplane.Plane{}
	}
	if t.planes[eni] != nil {
		t.mu.Unlock()
		return nil, fmt.Errorf("add traffic to %s: it has some", eni)
	}
	t.planes[eni] = plane
	sessions := t.sessions
	t.mu.Unlock()
	t.mirrors(sessions)
	t.work.Go(func() {
		if err := plane.Run(r.ctx); err != nil && r.ctx.Err() == nil {
			r.log.Error("traffic ended", "eni", eni, "err", err)
		}
	})
	return plane, nil
}

// mirrors is EC2's word on which sessions work now.
func (t *traffic) mirrors(sessions []ec2.MirrorSession) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sessions = sessions
	for eni, plane := range t.planes {
		var own []dataplane.Session
		for _, s := range sessions {
			if s.Source.ID != eni {
				continue
			}
			session, err := t.session(s)
			if err != nil {
				t.region.log.Error("session not carried", "session", s.ID, "err", err)
				continue
			}
			own = append(own, session)
		}
		if err := plane.SetSessions(own); err != nil {
			t.region.log.Error("sessions not carried", "eni", eni, "err", err)
		}
	}
}

// wait returns when every plane has stopped.
func (t *traffic) wait() { t.work.Wait() }

// vxlanPort is where mirrored copies go (RFC 7348, section 5).
const vxlanPort = 4789

func (t *traffic) session(s ec2.MirrorSession) (dataplane.Session, error) {
	to := s.Target.Address
	if t.region.cfg.OuterIPv6 {
		if len(s.Target.IPv6) == 0 {
			return dataplane.Session{}, fmt.Errorf("target %s has no IPv6 address", s.Target.ID)
		}
		to = s.Target.IPv6[0]
	}
	filter := dataplane.Filter{NetworkServices: s.NetworkServices, Resolvers: dataplane.Resolvers(s.VPCCIDR)}
	for _, r := range s.Rules {
		rule := dataplane.Rule{Number: r.Number, Direction: dataplane.Direction(r.Direction), Action: dataplane.Action(r.Action), Protocol: r.Protocol,
			Source: r.Source, Destination: r.Destination}
		if r.SourcePorts != nil {
			rule.SourcePorts = &dataplane.PortRange{From: uint16(r.SourcePorts.From), To: uint16(r.SourcePorts.To)}
		}
		if r.DestinationPorts != nil {
			rule.DestinationPorts = &dataplane.PortRange{From: uint16(r.DestinationPorts.From), To: uint16(r.DestinationPorts.To)}
		}
		filter.Rules = append(filter.Rules, rule)
	}
	return dataplane.Session{
		ID: s.ID, Number: s.Number, VNI: s.VNI, PacketLength: s.PacketLength, Filter: filter,
		Target: netip.AddrPortFrom(to, vxlanPort), MTU: s.Target.MTU,
	}, nil
}
