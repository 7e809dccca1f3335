package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"flashtap/events"
	"flashtap/functions/filter"
	"flashtap/functions/path"
)

// packets compiles what is mirrored.
func packets(f Facts, o events.Options) (filter.Compiled, events.Verdict) {
	v := events.Verdict{Check: "filter", Result: events.Pass}
	six := len(f.Interface.Ipv6Addresses)+len(f.Interface.Ipv6Prefixes) > 0
	c, err := filter.Compile(filter.Input{
		Profile: o.Profile, Finding: f.Finding.Value, Custom: o.Filter, IPv6: six, Local: addressesOf(f.Interface), Resolvers: resolvers(f),
		ControlCIDRs: o.ControlCIDRs, PacketLength: o.PacketLength,
	})
	if err != nil {
		v.Result = events.Fail
		v.Reason = "no filter can be made: " + strings.ReplaceAll(err.Error(), "\n", "; ")
		v.Remedy = "correct the filter, the profile, the control CIDRs or the packet length of the request, or the deployment's defaults"
		return filter.Compiled{Profile: o.Profile, PacketLength: o.PacketLength}, v
	}
	reasons := append([]string{fmt.Sprintf("Profile %s: %d rules of %d.", c.Profile, len(c.Filter.Rules), events.MaxFilterRules)}, c.Notes...)
	if !f.Finding.Known && f.Finding.Why != "" {
		v.Result = events.Warn
		reasons = append(reasons, "The finding could not be read, so nothing could be narrowed by it: "+f.Finding.Why)
	}
	if c.Profile == events.ProfileCustom {
		if six && !acceptsIPv6(c.Filter) {
			v.Result, v.Remedy = events.Warn, "add rules for ::/0"
			reasons = append(reasons, "The interface has IPv6 addresses, and no rule accepts IPv6.")
		}
		if !c.Filter.DNS {
			v.Result = events.Warn
			reasons = append(reasons, "DNS with the VPC's resolver is not mirrored.")
		}
	}
	v.Reason = strings.Join(reasons, " ")
	return c, v
}

func acceptsIPv6(f events.Filter) bool {
	return slices.ContainsFunc(f.Rules, func(r events.FilterRule) bool {
		return r.Action == events.Accept && strings.Contains(r.SourceCIDR, ":")
	})
}

// addressesOf are all addresses of an interface, its public ones among them.
func addressesOf(ni types.NetworkInterface) []netip.Addr {
	var list []netip.Addr
	add := func(text *string) {
		if a, err := netip.ParseAddr(aws.ToString(text)); err == nil && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	add(ni.PrivateIpAddress)
	for _, a := range ni.PrivateIpAddresses {
		add(a.PrivateIpAddress)
		if a.Association != nil {
			add(a.Association.PublicIp)
		}
	}
	if ni.Association != nil {
		add(ni.Association.PublicIp)
	}
	for _, a := range ni.Ipv6Addresses {
		add(a.Ipv6Address)
	}
	return list
}

// resolvers are the addresses of the VPC's own resolver, by the first local route of the source's subnet, which is the VPC's
// primary block.
func resolvers(f Facts) []netip.Addr {
	table := path.RouteTableOf(aws.ToString(f.Interface.SubnetId), f.RouteTables)
	if table == nil {
		return nil
	}
	for _, r := range table.Routes {
		if block, err := netip.ParsePrefix(aws.ToString(r.DestinationCidrBlock)); err == nil && aws.ToString(r.GatewayId) == "local" {
			return filter.Resolvers(block)
		}
	}
	return nil
}
