package path

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// Admission says whether security groups let a flow pass.
type Admission struct {
	Admitted bool
	Why      string // in words, for both answers

	// Unproven are the prefix lists and groups that rules about such packets name. Who is in them was not looked up, so the flow
	// may be admitted although Admitted says no.
	Unproven []string
}

// GroupsAdmit says whether the rules of all groups together let the whole of a flow in, or out. There are no rules that
// deny, so several may share the work; whether the interface also answers is no question, since groups remember
// connections (VPC User Guide, "Security groups").
func GroupsAdmit(groups []types.SecurityGroup, ingress bool, f Flow) Admission {
	there := f.To
	if ingress {
		there = f.From
	}
	left := []box{f.boxOf(there)}
	var admission Admission
	var names []string
	for _, g := range groups {
		names = append(names, aws.ToString(g.GroupId))
		for _, p := range permissions(g, ingress) {
			b, ok := boxOfPermission(p)
			if !ok {
				continue
			}
			for _, cidr := range ranges(p) {
				if prefix, err := netip.ParsePrefix(cidr); err == nil {
					b.addresses = addresses(prefix)
					left = without(left, b)
				}
			}
			if len(left) == 0 {
				return Admission{Admitted: true, Why: "admitted by " + aws.ToString(g.GroupId)}
			}
			if slices.ContainsFunc(left, func(l box) bool { b.addresses = l.addresses; return l.meets(b) }) {
				admission.Unproven = append(admission.Unproven, members(p)...)
			}
		}
	}
	switch {
	case len(groups) == 0:
		admission.Why = "there is no security group"
	case len(admission.Unproven) > 0:
		admission.Why = fmt.Sprintf("no rule of %s names %s by address; who is in %s was not looked up",
			strings.Join(names, ", "), f, strings.Join(admission.Unproven, ", "))
	default:
		admission.Why = fmt.Sprintf("no rule of %s admits %s", strings.Join(names, ", "), f)
	}
	return admission
}

// GroupsClose says that groups let nothing in, or nothing out: how an interface is isolated.
func GroupsClose(groups []types.SecurityGroup, ingress bool) bool {
	for _, g := range groups {
		for _, p := range permissions(g, ingress) {
			if len(ranges(p))+len(members(p)) > 0 {
				return false
			}
		}
	}
	return true
}

func permissions(g types.SecurityGroup, ingress bool) []types.IpPermission {
	if ingress {
		return g.IpPermissions
	}
	return g.IpPermissionsEgress
}

func ranges(p types.IpPermission) []string {
	var list []string
	for _, r := range p.IpRanges {
		list = append(list, aws.ToString(r.CidrIp))
	}
	for _, r := range p.Ipv6Ranges {
		list = append(list, aws.ToString(r.CidrIpv6))
	}
	return list
}

// members are what a rule names instead of addresses.
func members(p types.IpPermission) []string {
	var list []string
	for _, l := range p.PrefixListIds {
		list = append(list, aws.ToString(l.PrefixListId))
	}
	for _, g := range p.UserIdGroupPairs {
		list = append(list, aws.ToString(g.GroupId))
	}
	return list
}

// boxOfPermission is what a rule matches beside addresses. One about some messages of ICMP, or with a protocol that can't be
// read, is left out: it never admits the whole of a flow.
func boxOfPermission(p types.IpPermission) (box, bool) {
	b := box{ports: [2]int32{0, maxPort}}
	first, last := aws.ToInt32(p.FromPort), aws.ToInt32(p.ToPort)
	switch protocol := aws.ToString(p.IpProtocol); protocol {
	case "-1":
		b.protocols = protocols(AnyProtocol)
		return b, true
	case "tcp", "6":
		b.protocols = protocols(tcp)
	case "udp", "17":
		b.protocols = protocols(udp)
	case "icmp", "1":
		b.protocols = protocols(1)
		return b, p.FromPort == nil || first == -1
	case "icmpv6", "58":
		b.protocols = protocols(58)
		return b, p.FromPort == nil || first == -1
	default:
		number, err := strconv.ParseInt(protocol, 10, 32)
		b.protocols = protocols(int32(number))
		return b, err == nil
	}
	if p.FromPort != nil && first != -1 {
		b.ports = [2]int32{first, last}
	}
	return b, true
}

// AdmitCopies is the rule of a collector's group that admits mirrored copies from a source's primary addresses, and nothing
// else.
func AdmitCopies(sources []string) types.IpPermission {
	p := types.IpPermission{IpProtocol: aws.String("udp"), FromPort: aws.Int32(vxlanPort), ToPort: aws.Int32(vxlanPort)}
	const says = "mirrored copies"
	for _, s := range sources {
		if strings.Contains(s, ":") {
			p.Ipv6Ranges = append(p.Ipv6Ranges, types.Ipv6Range{CidrIpv6: aws.String(s + "/128"), Description: aws.String(says)})
		} else {
			p.IpRanges = append(p.IpRanges, types.IpRange{CidrIp: aws.String(s + "/32"), Description: aws.String(says)})
		}
	}
	return p
}
