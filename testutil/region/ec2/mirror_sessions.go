package ec2

import (
	"net/netip"
	"slices"
)

// Limits and ranges of sessions: traffic-mirroring-quotas, API reference
// CreateTrafficMirrorSession, traffic-mirroring-network-limitations.
const (
	maxSessionsOnSource = 3
	maxSessionNumber    = 32766
	maxVNI              = 1<<24 - 1
	minPacketLengthIPv4 = 35
	minPacketLengthIPv6 = 55
	maxPacketLengthNLB  = 8500
)

type mirrorSession struct {
	thing
	source, target, filter string
	number, vni, length    int // a length of 0 is the whole packet
	description            string
}

func (*mirrorSession) kind() kind { return kindMirror }

func (s *Service) createMirrorSession(r *request) (map[string]any, error) {
	return s.once(r, "", func() (func() (map[string]any, error), error) {
		made := &mirrorSession{source: r.str("NetworkInterfaceId"), vni: -1}
		if _, err := find[*netInterface](s, kindInterface, made.source); err != nil {
			return nil, err
		}
		if err := s.setSession(made, r); err != nil {
			return nil, err
		}
		tags, err := r.tagsFor(kindMirror)
		if err != nil {
			return nil, err
		}
		if len(every[*mirrorSession](s)) >= s.cfg.Limits.MirrorSessions {
			return nil, apiError("TrafficMirrorSessionLimitExceeded", "The maximum number of traffic mirror sessions has been reached.")
		}
		made.thing = s.newThing(kindMirror, tags)
		if made.vni < 0 {
			made.vni = s.unusedVNI()
		}
		s.add(made)
		result := map[string]any{"TrafficMirrorSession": s.showSession(made)}
		set(result, "ClientToken", r.str("ClientToken"))
		return always(result), nil
	})
}

// setSession lays a call's parameters over a session and checks the outcome.
func (s *Service) setSession(m *mirrorSession, r *request) error {
	for name, field := range map[string]*string{"TrafficMirrorTargetId": &m.target, "TrafficMirrorFilterId": &m.filter, "Description": &m.description} {
		if r.has(name) {
			*field = r.str(name)
		}
	}
	for name, field := range map[string]*int{"SessionNumber": &m.number, "VirtualNetworkId": &m.vni, "PacketLength": &m.length} {
		if r.has(name) {
			*field = r.number(name)
		}
	}
	for _, name := range r.strs("RemoveFields") {
		switch name {
		case "packet-length":
			m.length = 0
		case "description":
			m.description = ""
		case "virtual-network-id":
			m.vni = s.unusedVNI()
		}
	}
	if r.has("VirtualNetworkId") && (m.vni < 0 || m.vni > maxVNI) {
		return invalidValue("Value (%d) for parameter virtualNetworkId is invalid. It must be between 0 and %d.", m.vni, maxVNI)
	}
	if m.number < 1 || m.number > maxSessionNumber {
		return invalidValue("Value (%d) for parameter sessionNumber is invalid. Valid values are 1-%d.", m.number, maxSessionNumber)
	}
	return s.checkSession(m, r)
}

func (s *Service) checkSession(m *mirrorSession, r *request) error {
	e, err := find[*netInterface](s, kindInterface, m.source)
	if err != nil {
		return err
	}
	t, err := find[*mirrorTarget](s, kindTarget, m.target)
	if err != nil {
		return err
	}
	if _, err := find[*mirrorFilter](s, kindFilter, m.filter); err != nil {
		return err
	}
	if err := s.checkSource(e); err != nil {
		return err
	}
	if err := s.checkLength(m, t, r.has("PacketLength")); err != nil {
		return err
	}
	beside, sources := 0, map[string]bool{m.source: true}
	for _, other := range every[*mirrorSession](s) {
		if other.id == m.id {
			continue
		}
		if other.target == m.target {
			sources[other.source] = true
		}
		if other.source != m.source {
			continue
		}
		beside++
		if other.number == m.number {
			return invalidValue("Session number %d is already being used by traffic mirror session %s of %s", m.number, other.id, m.source)
		}
	}
	if beside >= maxSessionsOnSource {
		return apiError("TrafficMirrorSessionsPerInterfaceLimitExceeded", "The maximum number of traffic mirror sessions of %s has been reached.", m.source)
	}
	return s.checkSources(t, len(sources))
}

// checkSource says whether an interface can be mirrored: what-is-traffic-mirroring
// for families, traffic-mirroring-network-limitations for the rest.
func (s *Service) checkSource(e *netInterface) error {
	for _, t := range every[*mirrorTarget](s) {
		if t.eni == e.id {
			return apiError("InterfaceInUseByTrafficMirrorTarget", "%s is used by traffic mirror target %s", e.id, t.id)
		}
	}
	no := func(why string) error { return apiError("NetworkInterfaceNotSupported", "%s %s", e.id, why) }
	if e.typ != "interface" {
		return no("is of type " + e.typ + ", which cannot be mirrored")
	}
	if e.subnet.native6 {
		return no("is in an IPv6-only subnet, where traffic mirroring is not supported")
	}
	if e.requesterManaged {
		if e.requesterID != "amazon-rds" && e.requesterID != "amazon-elasticache" {
			return no("is managed by " + e.requesterID + ", whose interfaces cannot be mirrored")
		}
		return nil // its instance is not this account's, and of a type that can
	}
	if i := s.instanceOf(e); i == nil || !mirrorable(i.typ) {
		return no("must be attached to a supported instance")
	}
	return nil
}

// checkLength knows the least useful length, headers included, and the most a
// load balancer takes, which is its default.
func (s *Service) checkLength(m *mirrorSession, t *mirrorTarget, given bool) error {
	if t.loadBalancer != "" {
		if m.length == 0 && !given {
			m.length = maxPacketLengthNLB
		}
		if m.length < 1 || m.length > maxPacketLengthNLB {
			return invalidValue("Value (%d) for parameter packetLength is invalid. Valid values are 1-%d.", m.length, maxPacketLengthNLB)
		}
		return nil
	}
	least := minPacketLengthIPv4
	if e, ok := s.all[t.eni].(*netInterface); ok && !e.address.IsValid() {
		least = minPacketLengthIPv6
	}
	if (given || m.length != 0) && m.length < least {
		return invalidValue("Value (%d) for parameter packetLength is invalid. It cannot be less than %d.", m.length, least)
	}
	return nil
}

func (s *Service) checkSources(t *mirrorTarget, sources int) error {
	e, ok := s.all[t.eni].(*netInterface)
	if !ok {
		return nil // load balancers and their endpoints have no limit
	}
	most := sourcesOf("")
	if i := s.instanceOf(e); i != nil {
		most = sourcesOf(i.typ)
	}
	if sources > most {
		return apiError("TrafficMirrorSourcesPerTargetLimitExceeded", "The maximum number of sources of traffic mirror target %s, %d, has been reached.", t.id, most)
	}
	return nil
}

// unusedVNI chooses one that no session of the account has, the same in each run.
func (s *Service) unusedVNI() int {
	for {
		s.serial++
		vni := int(s.serial * 0x9e3779b97f4a7c15 >> 40)
		if !slices.ContainsFunc(every[*mirrorSession](s), func(m *mirrorSession) bool { return m.vni == vni }) {
			return vni
		}
	}
}

func (s *Service) modifyMirrorSession(r *request) (map[string]any, error) {
	m, err := find[*mirrorSession](s, kindMirror, r.str("TrafficMirrorSessionId"))
	if err != nil {
		return nil, err
	}
	changed := *m
	if err := s.setSession(&changed, r); err != nil {
		return nil, err
	}
	*m = changed
	return map[string]any{"TrafficMirrorSession": s.showSession(m)}, nil
}

func (s *Service) deleteMirrorSession(r *request) (map[string]any, error) {
	m, err := find[*mirrorSession](s, kindMirror, r.str("TrafficMirrorSessionId"))
	if err != nil {
		return nil, err
	}
	s.remove(m.id)
	return map[string]any{"TrafficMirrorSessionId": m.id}, nil
}

func (s *Service) showSession(m *mirrorSession) map[string]any {
	shown := map[string]any{"TrafficMirrorSessionId": m.id, "NetworkInterfaceId": m.source, "TrafficMirrorTargetId": m.target, "TrafficMirrorFilterId": m.filter,
		"OwnerId": s.cfg.Account, "SessionNumber": m.number, "VirtualNetworkId": m.vni, "Tags": tagList(m.tags)}
	set(shown, "Description", m.description)
	if m.length > 0 {
		shown["PacketLength"] = m.length
	}
	return shown
}

func (s *Service) describeMirrorSessions(r *request) (map[string]any, error) {
	return r.list(viewsOf(s, s.showSession), listing{kind: kindMirror, ids: "TrafficMirrorSessionIds", out: "TrafficMirrorSessions", filters: map[string]string{
		"description": "Description", "network-interface-id": "NetworkInterfaceId", "owner-id": "OwnerId", "packet-length": "PacketLength",
		"session-number": "SessionNumber", "traffic-mirror-filter-id": "TrafficMirrorFilterId", "traffic-mirror-session-id": "TrafficMirrorSessionId",
		"traffic-mirror-target-id": "TrafficMirrorTargetId", "virtual-network-id": "VirtualNetworkId"}})
}

// MirrorSession is a session whose target exists. It carries packets unless Lost says what loses them.
type MirrorSession struct {
	ID           string
	Number       int
	VNI          int
	PacketLength int // bytes after the VXLAN header; 0 for all
	Source       Interface
	Filter       MirrorFilterState
	Target       MirrorTargetState
	Lost         Loss
}

// MirrorFilterState is a filter as a session applies it. Rules are in the order
// of their evaluation; they are not separated by direction.
type MirrorFilterState struct {
	ID       string
	Services []string
	Rules    []MirrorRule
}

// MirrorRule is one rule of a filter.
type MirrorRule struct {
	ID                            string
	Number                        int
	Direction                     string // ingress or egress, seen from the source
	Action                        string // accept or reject
	Protocol                      int    // IANA number; -1 for all
	Source, Destination           netip.Prefix
	SourcePorts, DestinationPorts *PortRange
}

// MirrorTargetState is where a session's packets go: to an interface, or to a
// load balancer or its endpoint, which have an id only.
type MirrorTargetState struct {
	ID           string
	Interface    Interface
	LoadBalancer string
}

// sessionsNow are the sessions that have a source and a target, in the order in which the sessions of an interface are
// tried.
func (s *Service) sessionsNow() []MirrorSession {
	list := []MirrorSession{}
	for _, m := range every[*mirrorSession](s) {
		e, ok := s.all[m.source].(*netInterface)
		if !ok {
			continue
		}
		target, ok := s.targetState(m.target)
		if !ok {
			continue
		}
		now := MirrorSession{ID: m.id, Number: m.number, VNI: m.vni, PacketLength: m.length, Source: s.known(e), Filter: s.filterState(m.filter), Target: target}
		if t, ok := s.all[target.Interface.ID].(*netInterface); ok {
			now.Lost = s.loss(e, t)
		} else { // what becomes of copies beyond a load balancer is not played
			now.Lost = s.lossAtSource(e)
		}
		list = append(list, now)
	}
	slices.SortStableFunc(list, func(a, b MirrorSession) int { return a.Number - b.Number })
	return list
}

// MirrorSessions returns the sessions whose source mirrors packets now. Whether the copies arrive, Lost says.
func (s *Service) MirrorSessions() []MirrorSession {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(s.sessionsNow(), func(m MirrorSession) bool { return m.Lost.Cause == LostAtSource })
}

func (s *Service) targetState(id string) (MirrorTargetState, bool) {
	t := s.all[id].(*mirrorTarget)
	out := MirrorTargetState{ID: t.id, LoadBalancer: t.loadBalancer + t.gatewayEndpoint}
	if out.LoadBalancer != "" {
		return out, true
	}
	e, ok := s.all[t.eni].(*netInterface)
	if !ok {
		return out, false
	}
	out.Interface = s.known(e)
	return out, true
}

func (s *Service) filterState(id string) MirrorFilterState {
	f := s.all[id].(*mirrorFilter)
	out := MirrorFilterState{ID: f.id, Services: slices.Clone(f.services)}
	for _, rule := range s.rulesOfFilter(id) {
		r := MirrorRule{ID: rule.id, Number: rule.number, Direction: rule.direction, Action: rule.action, Protocol: -1, Source: rule.source, Destination: rule.destination,
			SourcePorts: rule.sourcePorts, DestinationPorts: rule.destPorts}
		if rule.protocol != nil {
			r.Protocol = *rule.protocol
		}
		out.Rules = append(out.Rules, r)
	}
	return out
}
