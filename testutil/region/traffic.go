package region

import (
	"fmt"
	"net/netip"
	"sync"

	"flashtap/testutil/region/dataplane"
	"flashtap/testutil/region/ec2"
	"flashtap/testutil/region/model"
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
	target := s.Target.Interface
	to := target.Address
	if t.region.cfg.OuterIPv6 {
		if len(target.IPv6) == 0 {
			return dataplane.Session{}, fmt.Errorf("target %s: %s has no IPv6 address", s.Target.ID, target.ID)
		}
		to = target.IPv6[0]
	}
	block, err := t.region.vpcBlock(s.Source.VPCID)
	if err != nil {
		return dataplane.Session{}, err
	}
	filter := dataplane.Filter{NetworkServices: s.Filter.Services, Resolvers: dataplane.Resolvers(block)}
	for _, r := range s.Filter.Rules {
		protocol := int32(r.Protocol)
		filter.Rules = append(filter.Rules, dataplane.Rule{
			Number: r.Number, Direction: dataplane.Direction(r.Direction), Action: dataplane.Action(r.Action), Protocol: &protocol,
			Source: r.Source, Destination: r.Destination, SourcePorts: ports(r.SourcePorts), DestinationPorts: ports(r.DestinationPorts),
		})
	}
	return dataplane.Session{
		ID: s.ID, Number: s.Number, VNI: uint32(s.VNI), PacketLength: s.PacketLength, Filter: filter,
		Target: netip.AddrPortFrom(to, vxlanPort), MTU: target.MTU,
	}, nil
}

func ports(r *ec2.PortRange) *dataplane.PortRange {
	if r == nil {
		return nil
	}
	return &dataplane.PortRange{From: uint16(r.From), To: uint16(r.To)}
}

// vpcBlock is the primary IPv4 block of a VPC, as EC2 describes it.
func (r *Region) vpcBlock(id string) (netip.Prefix, error) {
	out, err := r.EC2.Handle(&model.Call{Service: "ec2", Operation: "DescribeVpcs", Params: map[string]any{"VpcIds": []any{id}}}, "region")
	if err != nil {
		return netip.Prefix{}, err
	}
	list, _ := out["Vpcs"].([]any)
	for _, v := range list {
		if m, ok := v.(map[string]any); ok {
			block, _ := m["CidrBlock"].(string)
			return netip.ParsePrefix(block)
		}
	}
	return netip.Prefix{}, fmt.Errorf("VPC %s has no block", id)
}
