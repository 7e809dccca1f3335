package ec2

import (
	"slices"
	"strconv"
	"strings"
)

// NetworkACL is a network ACL to seed for some subnets, in place of the VPC's own.
type NetworkACL struct {
	VPC     string
	Subnets []string
	Entries []ACLEntry
}

// ACLEntry is one rule of a network ACL. AWS ends every list with a rule that
// denies the rest; that one is added by itself.
type ACLEntry struct {
	Number   int
	Egress   bool
	Deny     bool
	Protocol int // IANA; -1 for all
	CIDR     string
	From, To int // ports of TCP and UDP
}

type networkACL struct {
	thing
	vpc       *vpc
	isDefault bool
	subnets   []string
	entries   []ACLEntry
}

func (*networkACL) kind() kind { return kindNetworkACL }

func allowAll() []ACLEntry {
	return []ACLEntry{{Number: 100, Protocol: -1, CIDR: "0.0.0.0/0"}, {Number: 100, Egress: true, Protocol: -1, CIDR: "0.0.0.0/0"},
		{Number: 101, Protocol: -1, CIDR: "::/0"}, {Number: 101, Egress: true, Protocol: -1, CIDR: "::/0"}}
}

// AddNetworkACL seeds a network ACL and returns its id.
func (s *Service) AddNetworkACL(a NetworkACL) string {
	s.mu.Lock()
	defer s.unlock()
	made := &networkACL{thing: s.seedThing(kindNetworkACL, "", nil), vpc: mustFind[*vpc](s, a.VPC), subnets: a.Subnets, entries: a.Entries}
	for _, other := range every[*networkACL](s) { // a subnet has one list
		other.subnets = slices.DeleteFunc(slices.Clone(other.subnets), func(id string) bool { return slices.Contains(a.Subnets, id) })
	}
	s.add(made)
	return made.id
}

// subnetsOf lists a list's subnets; the default one has all that no other has.
func (s *Service) subnetsOf(a *networkACL) []string {
	if !a.isDefault {
		return a.subnets
	}
	var rest []string
	for _, n := range every[*subnet](s) {
		other := slices.ContainsFunc(every[*networkACL](s), func(b *networkACL) bool { return slices.Contains(b.subnets, n.id) })
		if n.vpc == a.vpc && !other {
			rest = append(rest, n.id)
		}
	}
	return rest
}

func (s *Service) showNetworkACL(a *networkACL) map[string]any {
	var associations, entries []any
	for _, id := range s.subnetsOf(a) {
		associations = append(associations, map[string]any{"NetworkAclAssociationId": "aclassoc-" + strings.TrimPrefix(id, "subnet-"), "NetworkAclId": a.id, "SubnetId": id})
	}
	last := []ACLEntry{{Number: 32767, Deny: true, Protocol: -1, CIDR: "0.0.0.0/0"}, {Number: 32767, Egress: true, Deny: true, Protocol: -1, CIDR: "0.0.0.0/0"}}
	for _, e := range slices.Concat(a.entries, last) {
		m := map[string]any{"RuleNumber": e.Number, "Egress": e.Egress, "RuleAction": "allow", "Protocol": strconv.Itoa(e.Protocol)}
		if e.Deny {
			m["RuleAction"] = "deny"
		}
		if strings.Contains(e.CIDR, ":") {
			m["Ipv6CidrBlock"] = e.CIDR
		} else {
			m["CidrBlock"] = e.CIDR
		}
		if e.Protocol == protocolTCP || e.Protocol == protocolUDP {
			m["PortRange"] = map[string]any{"From": e.From, "To": e.To}
		}
		entries = append(entries, m)
	}
	return map[string]any{"NetworkAclId": a.id, "VpcId": a.vpc.id, "IsDefault": a.isDefault, "OwnerId": s.cfg.Account,
		"Tags": tagList(a.tags), "Associations": associations, "Entries": entries}
}

func (s *Service) describeNetworkACLs(r *request) (map[string]any, error) {
	return r.list(viewsOf(s, s.showNetworkACL), listing{kind: kindNetworkACL, ids: "NetworkAclIds", out: "NetworkAcls", tags: "Tags", filters: map[string]string{
		"association.association-id": "Associations.NetworkAclAssociationId", "association.network-acl-id": "Associations.NetworkAclId",
		"association.subnet-id": "Associations.SubnetId", "default": "IsDefault", "entry.cidr": "Entries.CidrBlock", "entry.ipv6-cidr": "Entries.Ipv6CidrBlock",
		"entry.port-range.from": "Entries.PortRange.From", "entry.port-range.to": "Entries.PortRange.To", "entry.protocol": "Entries.Protocol",
		"entry.rule-action": "Entries.RuleAction", "entry.egress": "Entries.Egress", "entry.rule-number": "Entries.RuleNumber",
		"network-acl-id": "NetworkAclId", "owner-id": "OwnerId", "vpc-id": "VpcId"}})
}
