package ec2

import (
	"net/netip"
	"strconv"
	"strings"
)

// IANA protocol numbers.
const (
	protocolICMP   = 1
	protocolTCP    = 6
	protocolUDP    = 17
	protocolICMPv6 = 58
)

// groupRule is one rule of a security group. Ports are -1 where they do not apply.
type groupRule struct {
	thing
	of          string // the group it belongs to
	egress      bool
	protocol    string
	from, to    int
	description string
	// Exactly one of these names the other side.
	cidr, cidr6, prefixList, group string
}

func (*groupRule) kind() kind { return kindGroupRule }

// same says whether two rules allow the same.
func (a *groupRule) same(b *groupRule) bool {
	return a.egress == b.egress && a.protocol == b.protocol && a.from == b.from && a.to == b.to &&
		a.cidr == b.cidr && a.cidr6 == b.cidr6 && a.prefixList == b.prefixList && a.group == b.group
}

func (s *Service) addRule(g *securityGroup, rule groupRule, seeded bool) *groupRule {
	rule.thing = s.newThing(kindGroupRule, rule.tags)
	rule.of, rule.born, rule.seeded = g.id, g.born, seeded
	s.add(&rule)
	return &rule
}

func (s *Service) rulesOf(g *securityGroup) []*groupRule {
	var list []*groupRule
	for _, rule := range every[*groupRule](s) {
		if rule.of == g.id {
			list = append(list, rule)
		}
	}
	return list
}

// wanted reads the rules of an Authorize or Revoke call, written either as
// permissions or as the parameters of a single rule.
func (s *Service) wanted(r *request, egress bool) ([]groupRule, error) {
	permissions := r.objects("IpPermissions")
	if r.has("IpProtocol") || r.has("CidrIp") {
		if len(permissions) > 0 {
			return nil, apiError("InvalidParameterCombination", "The parameter ipPermissions may not be used with ipProtocol, cidrIp, fromPort or toPort")
		}
		one := params{"IpProtocol": r.str("IpProtocol"), "IpRanges": []any{map[string]any{"CidrIp": r.str("CidrIp")}}}
		for _, port := range []string{"FromPort", "ToPort"} {
			if r.has(port) {
				one[port] = r.params[port]
			}
		}
		permissions = []params{one}
	}
	if len(permissions) == 0 {
		return nil, apiError("MissingParameter", "The request must contain the parameter ipPermissions")
	}
	var rules []groupRule
	for _, p := range permissions {
		more, err := s.rulesOfPermission(p, egress)
		if err != nil {
			return nil, err
		}
		rules = append(rules, more...)
	}
	for i := range rules {
		for j := range i {
			if rules[i].same(&rules[j]) {
				return nil, invalidValue("The same permission must not appear multiple times")
			}
		}
	}
	return rules, nil
}

func (s *Service) rulesOfPermission(p params, egress bool) ([]groupRule, error) {
	base := groupRule{egress: egress, from: -1, to: -1}
	var err error
	if base.protocol, err = protocolName(p.str("IpProtocol")); err != nil {
		return nil, err
	}
	switch base.protocol {
	case "tcp", "udp":
		if !p.has("FromPort") || !p.has("ToPort") {
			return nil, invalidValue("Invalid value 'Must specify both from and to ports with TCP/UDP.' for portRange.")
		}
		base.from, base.to = p.number("FromPort"), p.number("ToPort")
		if base.from < 0 || base.to > 65535 || base.from > base.to {
			return nil, invalidValue("Invalid TCP/UDP port range (%d:%d)", base.from, base.to)
		}
	case "icmp", "icmpv6":
		base.from, base.to = p.number("FromPort"), p.number("ToPort")
		if !p.has("FromPort") {
			base.from, base.to = -1, -1
		}
		if base.from < -1 || base.from > 255 || base.to < -1 || base.to > 255 {
			return nil, invalidValue("ICMP code (%d) or type (%d) out of range", base.to, base.from)
		}
	}
	var rules []groupRule
	add := func(rule groupRule, description string) {
		rule.description = description
		rules = append(rules, rule)
	}
	for _, c := range p.objects("IpRanges") {
		prefix, err := netip.ParsePrefix(c.str("CidrIp"))
		if err != nil || !prefix.Addr().Is4() {
			return nil, invalidValue("CIDR block %s is malformed", c.str("CidrIp"))
		}
		rule := base
		rule.cidr = prefix.Masked().String()
		add(rule, c.str("Description"))
	}
	for _, c := range p.objects("Ipv6Ranges") {
		prefix, err := netip.ParsePrefix(c.str("CidrIpv6"))
		if err != nil || !prefix.Addr().Is6() {
			return nil, invalidValue("CIDR block %s is malformed", c.str("CidrIpv6"))
		}
		rule := base
		rule.cidr6 = prefix.Masked().String()
		add(rule, c.str("Description"))
	}
	for _, c := range p.objects("PrefixListIds") {
		list, err := find[*prefixList](s, kindPrefixList, c.str("PrefixListId"))
		if err != nil {
			return nil, err
		}
		rule := base
		rule.prefixList = list.id
		add(rule, c.str("Description"))
	}
	for _, c := range p.objects("UserIdGroupPairs") {
		other, err := find[*securityGroup](s, kindGroup, c.str("GroupId"))
		if err != nil {
			return nil, err
		}
		rule := base
		rule.group = other.id
		add(rule, c.str("Description"))
	}
	if len(rules) == 0 {
		return nil, invalidValue("A permission needs a CIDR block, a prefix list or a security group")
	}
	return rules, nil
}

// protocolName accepts a name or an IANA number and returns what EC2 stores.
func protocolName(text string) (string, error) {
	byNumber := map[int]string{protocolICMP: "icmp", protocolTCP: "tcp", protocolUDP: "udp", protocolICMPv6: "icmpv6"}
	switch name := strings.ToLower(text); name {
	case "tcp", "udp", "icmp", "icmpv6", "-1":
		return name, nil
	case "all":
		return "-1", nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > 255 {
		return "", invalidValue("Invalid value '%s' for IP protocol. Unknown protocol.", text)
	}
	if name := byNumber[n]; name != "" {
		return name, nil
	}
	return text, nil
}

func (s *Service) authorizeIngress(r *request) (map[string]any, error) { return s.authorize(r, false) }
func (s *Service) authorizeEgress(r *request) (map[string]any, error)  { return s.authorize(r, true) }
func (s *Service) revokeIngress(r *request) (map[string]any, error)    { return s.revoke(r, false) }
func (s *Service) revokeEgress(r *request) (map[string]any, error)     { return s.revoke(r, true) }

func (s *Service) authorize(r *request, egress bool) (map[string]any, error) {
	g, err := s.groupOf(r)
	if err != nil {
		return nil, err
	}
	rules, err := s.wanted(r, egress)
	if err != nil {
		return nil, err
	}
	tags, err := r.tagsFor(kindGroupRule)
	if err != nil {
		return nil, err
	}
	there := 0
	for _, old := range s.rulesOf(g) {
		for i := range rules {
			if old.same(&rules[i]) {
				return nil, apiError("InvalidPermission.Duplicate", "the specified rule \"peer: %s, %s\" already exists", rules[i].peer(), rules[i].protocol)
			}
		}
		if old.egress == egress {
			there++
		}
	}
	if there+len(rules) > s.cfg.Limits.RulesInGroup {
		return nil, apiError("RulesPerSecurityGroupLimitExceeded", "The maximum number of rules per security group has been reached.")
	}
	var shown []any
	for _, rule := range rules {
		rule.tags = tags
		shown = append(shown, s.showRule(s.addRule(g, rule, false)))
	}
	return map[string]any{"Return": true, "SecurityGroupRules": shown}, nil
}

func (s *Service) revoke(r *request, egress bool) (map[string]any, error) {
	g, err := s.groupOf(r)
	if err != nil {
		return nil, err
	}
	var doomed []*groupRule
	for _, id := range r.strs("SecurityGroupRuleIds") {
		rule, err := find[*groupRule](s, kindGroupRule, id)
		if err != nil {
			return nil, err
		}
		if rule.of != g.id || rule.egress != egress {
			return nil, s.notFound(kindGroupRule, id)
		}
		doomed = append(doomed, rule)
	}
	if len(doomed) == 0 {
		rules, err := s.wanted(r, egress)
		if err != nil {
			return nil, err
		}
		for i := range rules {
			var found *groupRule
			for _, old := range s.rulesOf(g) {
				if old.same(&rules[i]) {
					found = old
				}
			}
			if found == nil {
				return nil, apiError("InvalidPermission.NotFound", "The specified rule does not exist in this security group.")
			}
			doomed = append(doomed, found)
		}
	}
	for _, rule := range doomed {
		s.remove(rule.id)
	}
	return map[string]any{"Return": true}, nil
}

func (a *groupRule) peer() string { return a.cidr + a.cidr6 + a.prefixList + a.group }

func (s *Service) showRule(rule *groupRule) map[string]any {
	m := map[string]any{"SecurityGroupRuleId": rule.id, "GroupId": rule.of, "GroupOwnerId": s.cfg.Account, "IsEgress": rule.egress, "IpProtocol": rule.protocol,
		"FromPort": rule.from, "ToPort": rule.to, "Tags": tagList(rule.tags), "SecurityGroupRuleArn": s.arn("security-group-rule", rule.id)}
	set(m, "CidrIpv4", rule.cidr)
	set(m, "CidrIpv6", rule.cidr6)
	set(m, "PrefixListId", rule.prefixList)
	set(m, "Description", rule.description)
	if rule.group != "" {
		m["ReferencedGroupInfo"] = map[string]any{"GroupId": rule.group, "UserId": s.cfg.Account}
	}
	return m
}

// showPermissions groups rules by protocol and ports, as DescribeSecurityGroups does.
func (s *Service) showPermissions(rules []*groupRule, egress bool) []any {
	shown := []any{}
	for _, rule := range rules {
		if rule.egress != egress {
			continue
		}
		var into map[string]any
		for _, p := range shown {
			m := p.(map[string]any)
			from, there := m["FromPort"]
			if m["IpProtocol"] == rule.protocol && (!there || from == rule.from && m["ToPort"] == rule.to) {
				into = m
			}
		}
		if into == nil {
			into = map[string]any{"IpProtocol": rule.protocol, "IpRanges": []any{}, "Ipv6Ranges": []any{}, "PrefixListIds": []any{}, "UserIdGroupPairs": []any{}}
			if rule.protocol != "-1" {
				into["FromPort"], into["ToPort"] = rule.from, rule.to
			}
			shown = append(shown, into)
		}
		add := func(member, name, value string, more map[string]any) {
			if value == "" {
				return
			}
			more[name] = value
			set(more, "Description", rule.description)
			into[member] = append(into[member].([]any), more)
		}
		add("IpRanges", "CidrIp", rule.cidr, map[string]any{})
		add("Ipv6Ranges", "CidrIpv6", rule.cidr6, map[string]any{})
		add("PrefixListIds", "PrefixListId", rule.prefixList, map[string]any{})
		add("UserIdGroupPairs", "GroupId", rule.group, map[string]any{"UserId": s.cfg.Account})
	}
	return shown
}

func (s *Service) describeSecurityGroupRules(r *request) (map[string]any, error) {
	return r.list(viewsOf(s, s.showRule), listing{kind: kindGroupRule, ids: "SecurityGroupRuleIds", out: "SecurityGroupRules", tags: "Tags",
		filters: map[string]string{"group-id": "GroupId", "security-group-rule-id": "SecurityGroupRuleId"}})
}
