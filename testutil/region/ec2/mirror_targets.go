package ec2

import "strings"

// mirrorTarget is where a session sends its copies. It keeps the id of an
// interface that is gone: AWS does not remove a target with its interface.
type mirrorTarget struct {
	thing
	description                        string
	eni, loadBalancer, gatewayEndpoint string
}

func (*mirrorTarget) kind() kind { return kindTarget }

// AddLoadBalancer seeds a Network Load Balancer by its ARN.
func (s *Service) AddLoadBalancer(arn string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.balancers[arn] = true
}

func (s *Service) createMirrorTarget(r *request) (map[string]any, error) {
	return s.once(r, "", func() (func() (map[string]any, error), error) {
		made := &mirrorTarget{description: r.str("Description"), eni: r.str("NetworkInterfaceId"), loadBalancer: r.str("NetworkLoadBalancerArn"),
			gatewayEndpoint: r.str("GatewayLoadBalancerEndpointId")}
		if err := s.checkTarget(made); err != nil {
			return nil, err
		}
		tags, err := r.tagsFor(kindTarget)
		if err != nil {
			return nil, err
		}
		if len(every[*mirrorTarget](s)) >= s.cfg.Limits.MirrorTargets {
			return nil, apiError("TrafficMirrorTargetLimitExceeded", "The maximum number of traffic mirror targets has been reached.")
		}
		made.thing = s.newThing(kindTarget, tags)
		s.add(made)
		result := map[string]any{"TrafficMirrorTarget": s.showTarget(made)}
		set(result, "ClientToken", r.str("ClientToken"))
		return always(result), nil
	})
}

// checkTarget holds a target against traffic-mirroring-targets and the error
// codes' descriptions.
func (s *Service) checkTarget(t *mirrorTarget) error {
	given := 0
	for _, id := range []string{t.eni, t.loadBalancer, t.gatewayEndpoint} {
		if id != "" {
			given++
		}
	}
	switch {
	case given == 0:
		return apiError("MissingParameter", "One of networkInterfaceId, networkLoadBalancerArn and gatewayLoadBalancerEndpointId must be specified")
	case given > 1:
		return apiError("InvalidParameterCombination", "Only one of networkInterfaceId, networkLoadBalancerArn and gatewayLoadBalancerEndpointId can be specified")
	}
	others := every[*mirrorTarget](s)
	switch {
	case t.eni != "":
		e, err := find[*netInterface](s, kindInterface, t.eni)
		if err != nil {
			return err
		}
		if e.typ != "interface" {
			return apiError("NetworkInterfaceNotSupported", "%s is of type %s: only network interfaces of type interface can be a target", e.id, e.typ)
		}
		for _, other := range others {
			if other.eni == t.eni {
				return apiError("InterfaceInUseByTrafficMirrorTarget", "%s is already used by traffic mirror target %s", t.eni, other.id)
			}
		}
		for _, m := range every[*mirrorSession](s) {
			if m.source == t.eni {
				return apiError("InterfaceInUseByTrafficMirrorSession", "%s is the source of traffic mirror session %s", t.eni, m.id)
			}
		}
	case t.loadBalancer != "":
		if !strings.HasPrefix(t.loadBalancer, "arn:") {
			return apiError("InvalidNetworkLoadBalancerArn.Malformed", "The Network Load Balancer ARN '%s' is malformed", t.loadBalancer)
		}
		if !s.balancers[t.loadBalancer] {
			return apiError("InvalidNetworkLoadBalancerArn.NotFound", "The Network Load Balancer '%s' does not exist", t.loadBalancer)
		}
		for _, other := range others {
			if other.loadBalancer == t.loadBalancer {
				return apiError("NlbInUseByTrafficMirrorTargetException", "The Network Load Balancer is already used by traffic mirror target %s", other.id)
			}
		}
	default:
		e, err := find[*endpoint](s, kindEndpoint, t.gatewayEndpoint)
		if err != nil {
			return err
		}
		if e.typ != "GatewayLoadBalancer" {
			return invalidValue("%s is not a Gateway Load Balancer endpoint", e.id)
		}
	}
	return nil
}

func (s *Service) deleteMirrorTarget(r *request) (map[string]any, error) {
	t, err := find[*mirrorTarget](s, kindTarget, r.str("TrafficMirrorTargetId"))
	if err != nil {
		return nil, err
	}
	for _, m := range every[*mirrorSession](s) {
		if m.target == t.id {
			return nil, apiError("TrafficMirrorTargetInUseException", "The traffic mirror target %s is in use by traffic mirror session %s", t.id, m.id)
		}
	}
	s.remove(t.id)
	return map[string]any{"TrafficMirrorTargetId": t.id}, nil
}

func (s *Service) showTarget(t *mirrorTarget) map[string]any {
	m := map[string]any{"TrafficMirrorTargetId": t.id, "OwnerId": s.cfg.Account, "Tags": tagList(t.tags)}
	set(m, "Description", t.description)
	set(m, "NetworkInterfaceId", t.eni)
	set(m, "NetworkLoadBalancerArn", t.loadBalancer)
	set(m, "GatewayLoadBalancerEndpointId", t.gatewayEndpoint)
	switch {
	case t.eni != "":
		m["Type"] = "network-interface"
	case t.loadBalancer != "":
		m["Type"] = "network-load-balancer"
	default:
		m["Type"] = "gateway-load-balancer-endpoint"
	}
	return m
}

func (s *Service) describeMirrorTargets(r *request) (map[string]any, error) {
	return r.list(viewsOf(s, s.showTarget), listing{kind: kindTarget, ids: "TrafficMirrorTargetIds", out: "TrafficMirrorTargets", filters: map[string]string{
		"description": "Description", "network-interface-id": "NetworkInterfaceId", "network-load-balancer-arn": "NetworkLoadBalancerArn",
		"owner-id": "OwnerId", "traffic-mirror-target-id": "TrafficMirrorTargetId"}})
}
