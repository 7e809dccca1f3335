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

	mu     sync.Mutex
	planes map[string]*dataplane.Plane    // by source interface
	now    map[string][]dataplane.Session // by source interface, as EC2 last told
	blocks map[string]netip.Prefix        // of VPCs
	work   sync.WaitGroup
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
	t.carry(eni)
	t.mu.Unlock()
	t.work.Go(func() {
		if err := plane.Run(r.ctx); err != nil && r.ctx.Err() == nil {
			r.log.Error("traffic ended", "eni", eni, "err", err)
		}
	})
	return plane, nil
}

// mirrors is EC2's word on which sessions there are now, and what loses their copies. EC2 tells one change after the other.
func (t *traffic) mirrors(sessions []ec2.MirrorSession) {
	now := map[string][]dataplane.Session{}
	for _, s := range sessions {
		session, err := t.session(s)
		if err != nil {
			t.region.log.Error("session not carried", "session", s.ID, "err", err)
			continue
		}
		now[s.Source.ID] = append(now[s.Source.ID], session)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.now = now
	for eni := range t.planes {
		t.carry(eni)
	}
}

// carry hands an interface's sessions to its plane; t.mu is held.
func (t *traffic) carry(eni string) {
	if err := t.planes[eni].SetSessions(t.now[eni]); err != nil {
		t.region.log.Error("sessions not carried", "eni", eni, "err", err)
	}
}

// wait returns when every plane has stopped.
func (t *traffic) wait() { t.work.Wait() }

// vxlanPort is where mirrored copies go (RFC 7348, section 5).
const vxlanPort = 4789

func (t *traffic) session(s ec2.MirrorSession) (dataplane.Session, error) {
	target := s.Target.Interface
	if target.ID == "" {
		return dataplane.Session{}, fmt.Errorf("target %s: the local region mirrors to interfaces, not to %s", s.Target.ID, s.Target.LoadBalancer)
	}
	to := target.Address
	if t.region.cfg.OuterIPv6 {
		if len(target.IPv6) == 0 {
			return dataplane.Session{}, fmt.Errorf("target %s: %s has no IPv6 address", s.Target.ID, target.ID)
		}
		to = target.IPv6[0]
	}
	block, err := t.block(s.Source.VPCID)
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
		Target: netip.AddrPortFrom(to, vxlanPort), MTU: target.MTU, Lost: dataplane.Loss(s.Lost.Cause),
	}, nil
}

func ports(r *ec2.PortRange) *dataplane.PortRange {
	if r == nil {
		return nil
	}
	return &dataplane.PortRange{From: uint16(r.From), To: uint16(r.To)}
}

// block is the primary IPv4 block of a VPC, which never changes.
func (t *traffic) block(vpc string) (netip.Prefix, error) {
	t.mu.Lock()
	known, ok := t.blocks[vpc]
	t.mu.Unlock()
	if ok {
		return known, nil
	}
	out, err := t.region.EC2.Handle(&model.Call{Service: ownCall, Operation: "DescribeVpcs", Params: map[string]any{"VpcIds": []any{vpc}}}, ownCall)
	if err != nil {
		return netip.Prefix{}, err
	}
	list, _ := out["Vpcs"].([]any)
	if len(list) != 1 {
		return netip.Prefix{}, fmt.Errorf("there are %d VPCs %s", len(list), vpc)
	}
	m, _ := list[0].(map[string]any)
	text, _ := m["CidrBlock"].(string)
	block, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("VPC %s: %w", vpc, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.blocks == nil {
		t.blocks = map[string]netip.Prefix{}
	}
	t.blocks[vpc] = block
	return block, nil
}
