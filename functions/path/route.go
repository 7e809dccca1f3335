package path

import (
	"net/netip"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// RouteTableOf is the route table of a subnet: its own, else the main one of the VPC; nil when these have neither.
func RouteTableOf(subnet string, tables []types.RouteTable) *types.RouteTable {
	var main *types.RouteTable
	for i, t := range tables {
		for _, a := range t.Associations {
			if a.AssociationState != nil && (a.AssociationState.State == types.RouteTableAssociationStateCodeDisassociated ||
				a.AssociationState.State == types.RouteTableAssociationStateCodeFailed) {
				continue
			}
			if aws.ToString(a.SubnetId) == subnet && subnet != "" {
				return &tables[i]
			}
			if aws.ToBool(a.Main) {
				main = &tables[i]
			}
		}
	}
	return main
}

// RouteTo is the route by which packets to an address go: that of the longest prefix, also when it is a black hole (its State
// says so); of two equally long ones the one that was not propagated (VPC User Guide, "Route priority"). Routes whose
// destination is a prefix list are not read, since nothing described says what is in it.
func RouteTo(t *types.RouteTable, to netip.Addr) (types.Route, bool) {
	best, bits := types.Route{}, -1
	for _, r := range t.Routes {
		cidr := aws.ToString(r.DestinationCidrBlock)
		if cidr == "" {
			cidr = aws.ToString(r.DestinationIpv6CidrBlock)
		}
		prefix, err := netip.ParsePrefix(cidr)
		if err != nil || !prefix.Contains(to) {
			continue
		}
		if prefix.Bits() > bits || prefix.Bits() == bits && best.Origin == types.RouteOriginEnableVgwRoutePropagation {
			best, bits = r, prefix.Bits()
		}
	}
	return best, bits >= 0
}

// RouteTarget is what a route leads to: "local", or an id.
func RouteTarget(r types.Route) string {
	for _, id := range []*string{
		r.GatewayId, r.NatGatewayId, r.TransitGatewayId, r.VpcPeeringConnectionId, r.NetworkInterfaceId, r.InstanceId,
		r.EgressOnlyInternetGatewayId, r.CarrierGatewayId, r.LocalGatewayId, r.CoreNetworkArn, r.OdbNetworkArn,
	} {
		if aws.ToString(id) != "" {
			return *id
		}
	}
	return "nothing"
}
