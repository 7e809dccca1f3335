package ec2

import (
	"net/netip"
	"slices"
	"strconv"
)

// Loss says why the copies of a mirror session do not arrive. AWS tells nobody: the session looks like any other.
type Loss struct {
	Cause LossCause
	By    string // the id of what loses them
}

// LossCause is a sort of Loss.
type LossCause string

// The causes of losses, in the order in which a copy meets them.
const (
	LostAtSource        LossCause = "source"         // its instance does not run, is not attached, or is of a type that AWS does not mirror
	LostToRoute         LossCause = "route"          // no route of the source's subnet leads to the target
	LostToNetworkACL    LossCause = "network-acl"    // the ACL of the source's subnet, or of the target's
	LostToSecurityGroup LossCause = "security-group" // no group of the target admits them
)

// vxlanPort is where copies go (RFC 7348, section 5).
const vxlanPort = 4789

// loss says whether copies of what e sends and receives get lost on their way to the target t, and to what.
//
// Copies are routed by the table of the source's subnet and are subject to the network ACLs, but not to the outbound
// rules of the source's own groups (traffic-mirroring-targets).
func (s *Service) loss(e, t *netInterface) Loss {
	if at := s.lossAtSource(e); at.Cause != "" {
		return at
	}
	from, to := s.outer(e), s.outer(t)
	if !from.IsValid() || !to.IsValid() {
		return Loss{LostToRoute, e.subnet.id}
	}
	if by, lost := s.lostToRoute(e, t, to); lost {
		return Loss{LostToRoute, by}
	}
	if e.subnet != t.subnet { // within a subnet no ACL is asked (VPC guide, "Network ACLs")
		if a := s.aclOf(e.subnet); !a.lets(true, to) {
			return Loss{LostToNetworkACL, a.id}
		}
		if a := s.aclOf(t.subnet); !a.lets(false, from) {
			return Loss{LostToNetworkACL, a.id}
		}
	}
	if !s.admits(t, from) {
		return Loss{LostToSecurityGroup, t.id}
	}
	return Loss{}
}

func (s *Service) lossAtSource(e *netInterface) Loss {
	i := s.instanceOf(e)
	switch {
	case e.requesterManaged: // its instance is not this account's
	case i == nil:
		return Loss{LostAtSource, e.id}
	case i.state != "running" || !mirrorable(i.typ):
		return Loss{LostAtSource, i.id}
	}
	return Loss{}
}

// outer is the address that an interface has in the outer header of a copy.
func (s *Service) outer(e *netInterface) netip.Addr {
	if !s.cfg.OuterIPv6 {
		return e.address
	}
	if len(e.ipv6) == 0 {
		return netip.Addr{}
	}
	return e.ipv6[0]
}

// lostToRoute follows the route of the longest prefix (VPC guide, "Route priority"). Within a VPC only the local route
// leads to the target; between two, a peering connection or a transit gateway does, if the route is not a blackhole.
func (s *Service) lostToRoute(e, t *netInterface, to netip.Addr) (by string, lost bool) {
	table := s.tableOf(e.subnet)
	var best Route
	length := -1
	for _, r := range table.routes {
		for _, block := range s.blocks(r.Destination) {
			if block.Contains(to) && block.Bits() > length {
				best, length = r, block.Bits()
			}
		}
	}
	switch kind := prefixesOfKinds(best.Target); {
	case length < 0 || best.Blackhole:
		return table.id, true
	case kind == "local":
		return table.id, e.subnet.vpc != t.subnet.vpc
	case kind == "pcx" || kind == "tgw":
		return table.id, e.subnet.vpc == t.subnet.vpc
	}
	return table.id, true
}

func (s *Service) tableOf(n *subnet) *routeTable {
	for _, t := range every[*routeTable](s) {
		if _, own := t.subnets[n.id]; own {
			return t
		}
	}
	return mustFind[*routeTable](s, n.vpc.mainTable)
}

// blocks are the CIDR blocks of a destination: itself, or those of the prefix list that it names.
func (s *Service) blocks(destination string) []netip.Prefix {
	texts := []string{destination}
	if list, ok := s.all[destination].(*prefixList); ok {
		texts = list.cidrs
	}
	var blocks []netip.Prefix
	for _, text := range texts {
		if block, err := netip.ParsePrefix(text); err == nil {
			blocks = append(blocks, block)
		}
	}
	return blocks
}

func (s *Service) aclOf(n *subnet) *networkACL {
	for _, a := range every[*networkACL](s) {
		if slices.Contains(a.subnets, n.id) {
			return a
		}
	}
	return mustFind[*networkACL](s, n.vpc.acl)
}

// lets says whether an ACL lets copies pass, to or from the other side: the first entry that matches, by number, decides.
func (a *networkACL) lets(egress bool, other netip.Addr) bool {
	entries := slices.Clone(a.entries)
	slices.SortStableFunc(entries, func(a, b ACLEntry) int { return a.Number - b.Number })
	for _, e := range entries {
		block, err := netip.ParsePrefix(e.CIDR)
		ports := e.Protocol == -1 || e.From <= vxlanPort && vxlanPort <= e.To
		if e.Egress == egress && err == nil && block.Contains(other) && (e.Protocol == -1 || e.Protocol == protocolUDP) && ports {
			return !e.Deny
		}
	}
	return false
}

// admits says whether a rule of the target's groups lets copies from an address in. A rule that names a group does not:
// whether copies count as coming from a member of it, no page says.
func (s *Service) admits(t *netInterface, from netip.Addr) bool {
	for _, rule := range every[*groupRule](s) {
		if rule.egress || !slices.Contains(t.groups, rule.of) {
			continue
		}
		all := rule.protocol == "-1"
		udp := rule.protocol == "udp" || rule.protocol == strconv.Itoa(protocolUDP)
		if !all && (!udp || vxlanPort < rule.from || rule.to < vxlanPort) {
			continue
		}
		if slices.ContainsFunc(s.blocks(rule.cidr+rule.cidr6+rule.prefixList), func(b netip.Prefix) bool { return b.Contains(from) }) {
			return true
		}
	}
	return false
}
