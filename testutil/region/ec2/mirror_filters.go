package ec2

import (
	"net/netip"
	"slices"
)

// maxRulesInFilter counts both directions (traffic-mirroring-quotas).
const maxRulesInFilter = 10

// maxRuleNumber is what the console takes; the API reference gives no range.
const maxRuleNumber = 32766

type mirrorFilter struct {
	thing
	description string
	services    []string
}

func (*mirrorFilter) kind() kind { return kindFilter }

type mirrorRule struct {
	thing
	filter, direction, action string
	number                    int
	protocol                  *int // nil for all
	source, destination       netip.Prefix
	sourcePorts, destPorts    *PortRange
	description               string
}

func (*mirrorRule) kind() kind { return kindFilterRule }

// PortRange is a range of TCP or UDP ports, both ends included.
type PortRange struct{ From, To int }

func (s *Service) createMirrorFilter(r *request) (map[string]any, error) {
	return s.once(r, "", func() (func() (map[string]any, error), error) {
		tags, err := r.tagsFor(kindFilter)
		if err != nil {
			return nil, err
		}
		if len(every[*mirrorFilter](s)) >= s.cfg.Limits.MirrorFilters {
			return nil, apiError("TrafficMirrorFilterLimitExceeded", "The maximum number of traffic mirror filters has been reached.")
		}
		made := &mirrorFilter{thing: s.newThing(kindFilter, tags), description: r.str("Description")}
		s.add(made)
		result := map[string]any{"TrafficMirrorFilter": s.showFilter(made)}
		set(result, "ClientToken", r.str("ClientToken"))
		return always(result), nil
	})
}

func (s *Service) deleteMirrorFilter(r *request) (map[string]any, error) {
	f, err := find[*mirrorFilter](s, kindFilter, r.str("TrafficMirrorFilterId"))
	if err != nil {
		return nil, err
	}
	for _, m := range every[*mirrorSession](s) {
		if m.filter == f.id {
			return nil, apiError("TrafficMirrorFilterInUse", "The traffic mirror filter %s is in use by traffic mirror session %s", f.id, m.id)
		}
	}
	for _, rule := range s.rulesOfFilter(f.id) {
		s.remove(rule.id)
	}
	s.remove(f.id)
	return map[string]any{"TrafficMirrorFilterId": f.id}, nil
}

func (s *Service) modifyFilterServices(r *request) (map[string]any, error) {
	f, err := find[*mirrorFilter](s, kindFilter, r.str("TrafficMirrorFilterId"))
	if err != nil {
		return nil, err
	}
	for _, name := range r.strs("AddNetworkServices") {
		if !slices.Contains(f.services, name) {
			f.services = append(f.services, name)
		}
	}
	gone := r.strs("RemoveNetworkServices")
	f.services = slices.DeleteFunc(f.services, func(name string) bool { return slices.Contains(gone, name) })
	return map[string]any{"TrafficMirrorFilter": s.showFilter(f)}, nil
}

// rulesOfFilter lists a filter's rules in the order of their evaluation.
func (s *Service) rulesOfFilter(id string) []*mirrorRule {
	rules := slices.DeleteFunc(every[*mirrorRule](s), func(rule *mirrorRule) bool { return rule.filter != id })
	slices.SortStableFunc(rules, func(a, b *mirrorRule) int { return a.number - b.number })
	return rules
}

func (s *Service) createMirrorRule(r *request) (map[string]any, error) {
	return s.once(r, "", func() (func() (map[string]any, error), error) {
		f, err := find[*mirrorFilter](s, kindFilter, r.str("TrafficMirrorFilterId"))
		if err != nil {
			return nil, err
		}
		made := &mirrorRule{filter: f.id}
		if err := s.setRule(made, r); err != nil {
			return nil, err
		}
		tags, err := r.tagsFor(kindFilterRule)
		if err != nil {
			return nil, err
		}
		if len(s.rulesOfFilter(f.id)) >= maxRulesInFilter {
			return nil, apiError("TrafficMirrorFilterRuleLimitExceeded", "The maximum number of rules of traffic mirror filter %s has been reached.", f.id)
		}
		made.thing = s.newThing(kindFilterRule, tags)
		s.add(made)
		result := map[string]any{"TrafficMirrorFilterRule": s.showMirrorRule(made)}
		set(result, "ClientToken", r.str("ClientToken"))
		return always(result), nil
	})
}

// setRule lays a call's parameters over a rule and checks the outcome.
func (s *Service) setRule(rule *mirrorRule, r *request) error {
	for name, field := range map[string]*string{"TrafficDirection": &rule.direction, "RuleAction": &rule.action, "Description": &rule.description} {
		if r.has(name) {
			*field = r.str(name)
		}
	}
	if r.has("RuleNumber") {
		rule.number = r.number("RuleNumber")
	}
	if r.has("Protocol") {
		n := r.number("Protocol")
		rule.protocol = &n
	}
	for name, field := range map[string]*netip.Prefix{"SourceCidrBlock": &rule.source, "DestinationCidrBlock": &rule.destination} {
		if !r.has(name) {
			continue
		}
		prefix, err := netip.ParsePrefix(r.str(name))
		if err != nil {
			return invalidValue("The CIDR block %s is malformed", r.str(name))
		}
		*field = prefix.Masked()
	}
	for name, field := range map[string]**PortRange{"SourcePortRange": &rule.sourcePorts, "DestinationPortRange": &rule.destPorts} {
		if r.has(name) {
			p := r.object(name)
			*field = &PortRange{p.number("FromPort"), p.number("ToPort")}
		}
	}
	for _, name := range r.strs("RemoveFields") {
		switch name {
		case "protocol":
			rule.protocol = nil
		case "source-port-range":
			rule.sourcePorts = nil
		case "destination-port-range":
			rule.destPorts = nil
		case "description":
			rule.description = ""
		}
	}
	return s.checkRule(rule)
}

func (s *Service) checkRule(rule *mirrorRule) error {
	if rule.number < 1 || rule.number > maxRuleNumber {
		return invalidValue("Value (%d) for parameter ruleNumber is invalid. Rule numbers are 1 to %d.", rule.number, maxRuleNumber)
	}
	if p := rule.protocol; p != nil && (*p < 0 || *p > 255) {
		return invalidValue("Value (%d) for parameter protocol is invalid. Protocol numbers are 0 to 255.", *p)
	}
	// API reference, ModifyTrafficMirrorFilterRule: both blocks are IPv4 or both IPv6.
	if rule.source.Addr().Is4() != rule.destination.Addr().Is4() {
		return invalidValue("The source CIDR block %s and the destination CIDR block %s must be of the same IP version", rule.source, rule.destination)
	}
	for _, ports := range []*PortRange{rule.sourcePorts, rule.destPorts} {
		if ports == nil {
			continue
		}
		if rule.protocol == nil || *rule.protocol != protocolTCP && *rule.protocol != protocolUDP {
			return invalidValue("A port range can only be specified for the protocols TCP (6) and UDP (17)")
		}
		if ports.From < 0 || ports.To > 65535 || ports.From > ports.To {
			return invalidValue("The port range %d-%d is invalid", ports.From, ports.To)
		}
	}
	for _, other := range s.rulesOfFilter(rule.filter) {
		if other.id != rule.id && other.direction == rule.direction && other.number == rule.number {
			return apiError("TrafficMirrorFilterRuleAlreadyExists", "The traffic mirror filter %s already has an %s rule number %d", rule.filter, rule.direction, rule.number)
		}
	}
	return nil
}

func (s *Service) modifyMirrorRule(r *request) (map[string]any, error) {
	rule, err := find[*mirrorRule](s, kindFilterRule, r.str("TrafficMirrorFilterRuleId"))
	if err != nil {
		return nil, err
	}
	changed := *rule
	if err := s.setRule(&changed, r); err != nil {
		return nil, err
	}
	*rule = changed
	return map[string]any{"TrafficMirrorFilterRule": s.showMirrorRule(rule)}, nil
}

func (s *Service) deleteMirrorRule(r *request) (map[string]any, error) {
	rule, err := find[*mirrorRule](s, kindFilterRule, r.str("TrafficMirrorFilterRuleId"))
	if err != nil {
		return nil, err
	}
	s.remove(rule.id)
	return map[string]any{"TrafficMirrorFilterRuleId": rule.id}, nil
}

func (s *Service) showMirrorRule(rule *mirrorRule) map[string]any {
	m := map[string]any{"TrafficMirrorFilterRuleId": rule.id, "TrafficMirrorFilterId": rule.filter, "TrafficDirection": rule.direction, "RuleNumber": rule.number,
		"RuleAction": rule.action, "SourceCidrBlock": rule.source.String(), "DestinationCidrBlock": rule.destination.String(), "Tags": tagList(rule.tags)}
	set(m, "Description", rule.description)
	if rule.protocol != nil {
		m["Protocol"] = *rule.protocol
	}
	for name, ports := range map[string]*PortRange{"SourcePortRange": rule.sourcePorts, "DestinationPortRange": rule.destPorts} {
		if ports != nil {
			m[name] = map[string]any{"FromPort": ports.From, "ToPort": ports.To}
		}
	}
	return m
}

func (s *Service) showFilter(f *mirrorFilter) map[string]any {
	m := map[string]any{"TrafficMirrorFilterId": f.id, "NetworkServices": anys(f.services), "Tags": tagList(f.tags),
		"IngressFilterRules": []any{}, "EgressFilterRules": []any{}}
	set(m, "Description", f.description)
	for _, rule := range s.rulesOfFilter(f.id) {
		into := "IngressFilterRules"
		if rule.direction == "egress" {
			into = "EgressFilterRules"
		}
		m[into] = append(m[into].([]any), s.showMirrorRule(rule))
	}
	return m
}

func (s *Service) describeMirrorFilters(r *request) (map[string]any, error) {
	return r.list(viewsOf(s, s.showFilter), listing{kind: kindFilter, ids: "TrafficMirrorFilterIds", out: "TrafficMirrorFilters", filters: map[string]string{
		"description": "Description", "traffic-mirror-filter-id": "TrafficMirrorFilterId"}})
}

func (s *Service) describeMirrorRules(r *request) (map[string]any, error) {
	views := viewsOf(s, s.showMirrorRule)
	if id := r.str("TrafficMirrorFilterId"); id != "" {
		if _, err := find[*mirrorFilter](s, kindFilter, id); err != nil {
			return nil, err
		}
		views = slices.DeleteFunc(views, func(v view) bool { return v.fields["TrafficMirrorFilterId"] != id })
	}
	return r.list(views, listing{kind: kindFilterRule, ids: "TrafficMirrorFilterRuleIds", out: "TrafficMirrorFilterRules", filters: map[string]string{
		"traffic-mirror-filter-rule-id": "TrafficMirrorFilterRuleId", "traffic-mirror-filter-id": "TrafficMirrorFilterId", "rule-number": "RuleNumber",
		"rule-action": "RuleAction", "traffic-direction": "TrafficDirection", "protocol": "Protocol", "source-cidr-block": "SourceCidrBlock",
		"destination-cidr-block": "DestinationCidrBlock", "description": "Description"}})
}

// MirrorFilter is a filter to seed, such as one that a deployment keeps ready.
type MirrorFilter struct {
	ID, Description string
	Services        []string
	Rules           []MirrorRule
	Tags            map[string]string
}

// AddMirrorFilter seeds a filter with its rules and returns its id.
func (s *Service) AddMirrorFilter(f MirrorFilter) string {
	s.mu.Lock()
	defer s.unlock()
	made := &mirrorFilter{thing: s.seedThing(kindFilter, f.ID, f.Tags), description: f.Description, services: f.Services}
	s.add(made)
	for _, rule := range f.Rules {
		added := &mirrorRule{thing: s.seedThing(kindFilterRule, "", nil), filter: made.id, direction: rule.Direction, action: rule.Action, number: rule.Number,
			source: rule.Source, destination: rule.Destination, sourcePorts: rule.SourcePorts, destPorts: rule.DestinationPorts}
		if rule.Protocol >= 0 {
			added.protocol = &rule.Protocol
		}
		if err := s.checkRule(added); err != nil {
			panic("ec2: seeding a filter: " + err.Error())
		}
		s.add(added)
	}
	return made.id
}
