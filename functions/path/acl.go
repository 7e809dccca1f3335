package path

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// ImpliedRule is the number under which EC2 shows the rule that denies whatever no other rule decided.
const ImpliedRule = 32767

// ACLOf is the network ACL of a subnet; nil when none of these is.
func ACLOf(subnet string, acls []types.NetworkAcl) *types.NetworkAcl {
	for i := range acls {
		for _, a := range acls[i].Associations {
			if aws.ToString(a.SubnetId) == subnet {
				return &acls[i]
			}
		}
	}
	return nil
}

// ACLVerdict says whether an ACL lets the whole of a flow out of its subnet, or in, and which rule decided: the one that
// denies a part of it, or the last that was needed to allow all of it. Rules are read by their number, lowest first, and
// the first that matches a packet decides (VPC User Guide, "Network ACL rules").
func ACLVerdict(acl *types.NetworkAcl, egress bool, f Flow) (allowed bool, rule int32) {
	there := f.From
	if egress {
		there = f.To
	}
	undecided := []box{f.boxOf(there)}
	for _, entry := range entries(acl, egress) {
		number := aws.ToInt32(entry.RuleNumber)
		b, whole, ok := boxOfEntry(entry)
		if !ok || !slices.ContainsFunc(undecided, b.meets) {
			continue
		}
		if entry.RuleAction == types.RuleActionDeny {
			return false, number
		}
		if !whole {
			continue // it allows some ICMP messages, not all of any flow
		}
		if undecided = without(undecided, b); len(undecided) == 0 {
			return true, number
		}
	}
	return false, ImpliedRule
}

// ACLCloses says that an ACL lets no packet of any kind out of its subnet, or in: how a subnet is isolated.
func ACLCloses(acl *types.NetworkAcl, egress bool) bool {
	var denied []box
	for _, entry := range entries(acl, egress) {
		b, whole, ok := boxOfEntry(entry)
		if !ok {
			continue
		}
		if entry.RuleAction == types.RuleActionDeny {
			if whole {
				denied = append(denied, b)
			}
			continue
		}
		open := []box{b}
		for _, d := range denied {
			open = without(open, d)
		}
		if len(open) > 0 {
			return false
		}
	}
	return true
}

func entries(acl *types.NetworkAcl, egress bool) []types.NetworkAclEntry {
	var list []types.NetworkAclEntry
	for _, e := range acl.Entries {
		if aws.ToBool(e.Egress) == egress {
			list = append(list, e)
		}
	}
	slices.SortStableFunc(list, func(a, b types.NetworkAclEntry) int {
		return cmp.Compare(aws.ToInt32(a.RuleNumber), aws.ToInt32(b.RuleNumber))
	})
	return list
}

// boxOfEntry is what a rule matches; whole is false when it matches only some messages of ICMP. A rule that can't be read
// matches nothing: then what it would have allowed counts as denied.
func boxOfEntry(e types.NetworkAclEntry) (b box, whole, ok bool) {
	cidr := aws.ToString(e.CidrBlock)
	if cidr == "" {
		cidr = aws.ToString(e.Ipv6CidrBlock)
	}
	prefix, err := netip.ParsePrefix(cidr)
	if err != nil {
		return b, false, false
	}
	protocol, err := strconv.ParseInt(aws.ToString(e.Protocol), 10, 32)
	if err != nil {
		return b, false, false
	}
	b = box{protocols: protocols(int32(protocol)), addresses: addresses(prefix), ports: [2]int32{0, maxPort}}
	if e.PortRange != nil && (protocol == tcp || protocol == udp) {
		b.ports = [2]int32{aws.ToInt32(e.PortRange.From), aws.ToInt32(e.PortRange.To)}
	}
	whole = e.IcmpTypeCode == nil || aws.ToInt32(e.IcmpTypeCode.Type) == -1 && aws.ToInt32(e.IcmpTypeCode.Code) == -1
	return b, whole, true
}
