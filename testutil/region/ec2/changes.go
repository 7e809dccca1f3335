package ec2

import (
	"fmt"
	"net/netip"
	"slices"
)

// What somebody else in the account changes about things that are there already, in no call of this Region. Mirror
// sessions feel it at once.

// GroupRule is a rule of a security group to seed. Exactly one of the last four names the other side.
type GroupRule struct {
	Egress                         bool
	Protocol                       string // tcp, udp, icmp, icmpv6, a number, or -1 for all
	From, To                       int    // ports of TCP and UDP
	CIDR, CIDR6, PrefixList, Group string
}

// AddGroupRule puts a rule into a security group.
func (s *Service) AddGroupRule(group string, r GroupRule) {
	s.mu.Lock()
	defer s.unlock()
	rule := groupRule{egress: r.Egress, protocol: r.Protocol, from: r.From, to: r.To, cidr: r.CIDR, cidr6: r.CIDR6, prefixList: r.PrefixList, group: r.Group}
	if r.Protocol != "tcp" && r.Protocol != "udp" {
		rule.from, rule.to = -1, -1
	}
	s.addRule(mustFind[*securityGroup](s, group), rule, true)
}

// RemoveGroupRules takes all rules of one direction out of a security group.
func (s *Service) RemoveGroupRules(group string, egress bool) {
	s.mu.Lock()
	defer s.unlock()
	for _, rule := range s.rulesOf(mustFind[*securityGroup](s, group)) {
		if rule.egress == egress {
			s.remove(rule.id)
		}
	}
}

// SetGroups gives an interface other security groups.
func (s *Service) SetGroups(eni string, groups ...string) {
	s.mu.Lock()
	defer s.unlock()
	for _, id := range groups {
		mustFind[*securityGroup](s, id)
	}
	mustFind[*netInterface](s, eni).groups = slices.Clone(groups)
}

// SetAddresses gives an interface other secondary and IPv6 addresses. (The primary one never changes.)
func (s *Service) SetAddresses(eni string, secondary, ipv6 []string) {
	s.mu.Lock()
	defer s.unlock()
	e := mustFind[*netInterface](s, eni)
	e.secondary, e.ipv6 = nil, nil
	for _, text := range secondary {
		e.secondary = append(e.secondary, netip.MustParseAddr(text))
	}
	for _, text := range ipv6 {
		e.ipv6 = append(e.ipv6, netip.MustParseAddr(text))
	}
}

// NetworkACLOf returns the id of the network ACL of a subnet.
func (s *Service) NetworkACLOf(subnetID string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.aclOf(mustFind[*subnet](s, subnetID)).id
}

// SetACLEntries replaces the entries of a network ACL; without any it denies everything.
func (s *Service) SetACLEntries(acl string, entries ...ACLEntry) {
	s.mu.Lock()
	defer s.unlock()
	mustFind[*networkACL](s, acl).entries = slices.Clone(entries)
}

// AddACLEntry puts an entry into a network ACL, whose number no other of its direction may have (EC2 API Reference,
// "CreateNetworkAclEntry").
func (s *Service) AddACLEntry(acl string, entry ACLEntry) {
	s.mu.Lock()
	defer s.unlock()
	a := mustFind[*networkACL](s, acl)
	if a.has(entry.Number, entry.Egress) {
		panic(fmt.Sprintf("ec2: NetworkAclEntryAlreadyExists: number %d of %s", entry.Number, acl))
	}
	a.entries = append(slices.Clone(a.entries), entry)
}

// ReplaceACLEntry puts an entry into a network ACL in place of the one of its number and direction, which must be there.
func (s *Service) ReplaceACLEntry(acl string, entry ACLEntry) {
	s.mu.Lock()
	defer s.unlock()
	a := mustFind[*networkACL](s, acl)
	if !a.has(entry.Number, entry.Egress) {
		panic(fmt.Sprintf("ec2: InvalidNetworkAclEntry.NotFound: number %d of %s", entry.Number, acl))
	}
	a.drop(entry.Number, entry.Egress)
	a.entries = append(a.entries, entry)
}

// RemoveACLEntry takes an entry out of a network ACL.
func (s *Service) RemoveACLEntry(acl string, number int, egress bool) {
	s.mu.Lock()
	defer s.unlock()
	mustFind[*networkACL](s, acl).drop(number, egress)
}

func (a *networkACL) has(number int, egress bool) bool {
	return slices.ContainsFunc(a.entries, func(e ACLEntry) bool { return e.Number == number && e.Egress == egress })
}

func (a *networkACL) drop(number int, egress bool) {
	a.entries = slices.DeleteFunc(slices.Clone(a.entries), func(e ACLEntry) bool { return e.Number == number && e.Egress == egress })
}

// RouteTableOf returns the id of the route table of a subnet: its own, or the VPC's main one.
func (s *Service) RouteTableOf(subnetID string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tableOf(mustFind[*subnet](s, subnetID)).id
}

// RemoveRoute takes the routes to a destination out of a table.
func (s *Service) RemoveRoute(table, destination string) {
	s.mu.Lock()
	defer s.unlock()
	t := mustFind[*routeTable](s, table)
	t.routes = slices.DeleteFunc(slices.Clone(t.routes), func(r Route) bool { return r.Destination == destination && r.Target != "local" })
}

// ReplaceRoute leads a route of a table elsewhere.
func (s *Service) ReplaceRoute(table, destination, target string) {
	s.mu.Lock()
	defer s.unlock()
	t := mustFind[*routeTable](s, table)
	t.routes = slices.Clone(t.routes)
	for i := range t.routes {
		if t.routes[i].Destination == destination {
			t.routes[i].Target, t.routes[i].Blackhole = target, false
		}
	}
}

// RemoveEndpoint deletes a VPC endpoint at once, with its routes and interfaces.
func (s *Service) RemoveEndpoint(id string) {
	s.mu.Lock()
	defer s.unlock()
	s.dropEndpoint(mustFind[*endpoint](s, id))
}

// SetEndpointPolicy gives a VPC endpoint another policy.
func (s *Service) SetEndpointPolicy(id, policy string) {
	s.mu.Lock()
	defer s.unlock()
	mustFind[*endpoint](s, id).policy = policy
}

// AddEndpointRoute associates a gateway endpoint with another route table.
func (s *Service) AddEndpointRoute(id, table string) {
	s.mu.Lock()
	defer s.unlock()
	e := mustFind[*endpoint](s, id)
	e.tables = append(slices.Clone(e.tables), table)
	t := mustFind[*routeTable](s, table)
	t.routes = append(slices.Clone(t.routes), Route{Destination: s.prefixes[e.service], Target: e.id})
}

// SetDNS turns the DNS attributes of a VPC on or off.
func (s *Service) SetDNS(vpcID string, support, hostnames bool) {
	s.mu.Lock()
	defer s.unlock()
	v := mustFind[*vpc](s, vpcID)
	v.dnsSupport, v.dnsHostnames = support, hostnames
}

// SetNATGatewayState makes a NAT gateway pending, failed, available, deleting or deleted.
func (s *Service) SetNATGatewayState(id, state string) {
	s.mu.Lock()
	defer s.unlock()
	mustFind[*natGateway](s, id).state = state
}

// StopSuspect stops an instance, as its owner would.
func (s *Service) StopSuspect(id string) {
	s.mu.Lock()
	defer s.unlock()
	s.halt(mustFind[*instance](s, id))
}

// StartSuspect starts a stopped instance, as its owner would.
func (s *Service) StartSuspect(id string) {
	s.mu.Lock()
	defer s.unlock()
	i := mustFind[*instance](s, id)
	if i.state != "stopped" {
		panic(fmt.Sprintf("ec2: %s is %s, not stopped", id, i.state))
	}
	s.restart(i)
}

// Limits are the quotas as they are now.
func (s *Service) Limits() Limits {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cfg.Limits
}

// SetLimits changes the quotas. A zero means the default again.
func (s *Service) SetLimits(change func(*Limits)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.cfg.Limits)
	s.cfg.Limits = newLimits(s.cfg.Limits)
}

// SetPrivateDNS turns the private DNS names of an interface endpoint on or off.
func (s *Service) SetPrivateDNS(id string, on bool) {
	s.mu.Lock()
	defer s.unlock()
	mustFind[*endpoint](s, id).privateDNS = on
}

// SetShuttingDown has an instance shut down, which takes longer than any test.
func (s *Service) SetShuttingDown(id string) {
	s.mu.Lock()
	defer s.unlock()
	s.become(mustFind[*instance](s, id), "shutting-down")
}

// Terminated terminates an instance at once: its interfaces are gone, and it is still described.
func (s *Service) Terminated(id string) {
	s.mu.Lock()
	defer s.unlock()
	i := mustFind[*instance](s, id)
	s.become(i, "shutting-down")
	s.become(i, "terminated")
}

// InterfaceOfNATGateway returns the interface of a NAT gateway.
func (s *Service) InterfaceOfNATGateway(id string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return mustFind[*natGateway](s, id).eni.id
}

// AddMirrorFilters adds many filters without rules, and returns their ids.
func (s *Service) AddMirrorFilters(many int) []string {
	s.mu.Lock()
	defer s.unlock()
	var ids []string
	for range many {
		made := &mirrorFilter{thing: s.seedThing(kindFilter, "", nil), description: "nobody uses it"}
		s.add(made)
		ids = append(ids, made.id)
	}
	return ids
}

// RemoveMirrorFilters deletes filters that no session uses.
func (s *Service) RemoveMirrorFilters(ids ...string) {
	s.mu.Lock()
	defer s.unlock()
	for _, id := range ids {
		s.remove(mustFind[*mirrorFilter](s, id).id)
	}
}
