package ec2

import (
	"fmt"
	"slices"
	"strings"
)

// RouteTable is a route table to seed. It gets the local routes of its VPC.
type RouteTable struct {
	ID, VPC string
	Subnets []string
	Routes  []Route
	Tags    map[string]string
}

// Route leads to an igw-, nat-, vpce-, eni-, pcx- or tgw- id, or "local".
type Route struct {
	Destination string // a CIDR or a pl- id
	Target      string
	Blackhole   bool
}

type routeTable struct {
	thing
	vpc         *vpc
	main        bool
	association string            // of the main table
	subnets     map[string]string // subnet to association
	routes      []Route
}

func (*routeTable) kind() kind { return kindRouteTable }

// AddRouteTable seeds a route table and returns its id.
func (s *Service) AddRouteTable(t RouteTable) string {
	s.mu.Lock()
	defer s.unlock()
	made := &routeTable{thing: s.seedThing(kindRouteTable, t.ID, t.Tags), vpc: mustFind[*vpc](s, t.VPC), subnets: map[string]string{}}
	for _, id := range t.Subnets {
		mustFind[*subnet](s, id)
		for _, other := range every[*routeTable](s) { // a subnet has one table
			delete(other.subnets, id)
		}
		made.subnets[id] = s.newID("rtbassoc").id
	}
	made.routes = append(made.localRoutes(), t.Routes...)
	s.add(made)
	return made.id
}

// AddRoute puts a route into a table.
func (s *Service) AddRoute(table string, route Route) {
	s.mu.Lock()
	defer s.unlock()
	t := mustFind[*routeTable](s, table)
	t.routes = append(t.routes, route)
}

// MainRouteTable returns the table of all subnets that have no other.
func (s *Service) MainRouteTable(vpcID string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return mustFind[*vpc](s, vpcID).mainTable
}

func (t *routeTable) localRoutes() []Route {
	routes := []Route{{Destination: t.vpc.cidr.String(), Target: "local"}}
	if t.vpc.cidr6.IsValid() {
		routes = append(routes, Route{Destination: t.vpc.cidr6.String(), Target: "local"})
	}
	return routes
}

func (t *routeTable) drop(target string) {
	t.routes = slices.DeleteFunc(t.routes, func(r Route) bool { return r.Target == target })
}

func (s *Service) showRoute(r Route) map[string]any {
	m := map[string]any{"State": "active", "Origin": "CreateRoute"}
	if r.Blackhole {
		m["State"] = "blackhole"
	}
	switch {
	case strings.HasPrefix(r.Destination, "pl-"):
		m["DestinationPrefixListId"] = r.Destination
	case strings.Contains(r.Destination, ":"):
		m["DestinationIpv6CidrBlock"] = r.Destination
	default:
		m["DestinationCidrBlock"] = r.Destination
	}
	switch prefixesOfKinds(r.Target) {
	case "local":
		m["GatewayId"], m["Origin"] = "local", "CreateRouteTable"
	case "nat":
		m["NatGatewayId"] = r.Target
	case "eni":
		m["NetworkInterfaceId"] = r.Target
	case "pcx":
		m["VpcPeeringConnectionId"] = r.Target
	case "tgw":
		m["TransitGatewayId"] = r.Target
	case "eigw":
		m["EgressOnlyInternetGatewayId"] = r.Target
	default:
		m["GatewayId"] = r.Target
	}
	return m
}

func (s *Service) showRouteTable(t *routeTable) map[string]any {
	m := map[string]any{"RouteTableId": t.id, "VpcId": t.vpc.id, "OwnerId": s.cfg.Account, "Tags": tagList(t.tags), "PropagatingVgws": []any{}}
	var associations, routes []any
	associate := func(id string, more map[string]any) {
		more["RouteTableAssociationId"], more["RouteTableId"] = id, t.id
		more["AssociationState"] = map[string]any{"State": "associated"}
		associations = append(associations, more)
	}
	if t.main {
		associate(t.association, map[string]any{"Main": true})
	}
	for _, id := range sortedKeys(t.subnets) {
		associate(t.subnets[id], map[string]any{"Main": false, "SubnetId": id})
	}
	for _, r := range t.routes {
		routes = append(routes, s.showRoute(r))
	}
	m["Associations"], m["Routes"] = associations, routes
	return m
}

func (s *Service) describeRouteTables(r *request) (map[string]any, error) {
	return r.list(viewsOf(s, s.showRouteTable), listing{kind: kindRouteTable, ids: "RouteTableIds", out: "RouteTables", tags: "Tags", filters: map[string]string{
		"association.gateway-id": "Associations.GatewayId", "association.route-table-association-id": "Associations.RouteTableAssociationId",
		"association.route-table-id": "Associations.RouteTableId", "association.subnet-id": "Associations.SubnetId", "association.main": "Associations.Main",
		"owner-id": "OwnerId", "route-table-id": "RouteTableId", "vpc-id": "VpcId",
		"route.destination-cidr-block": "Routes.DestinationCidrBlock", "route.destination-ipv6-cidr-block": "Routes.DestinationIpv6CidrBlock",
		"route.destination-prefix-list-id": "Routes.DestinationPrefixListId", "route.egress-only-internet-gateway-id": "Routes.EgressOnlyInternetGatewayId",
		"route.gateway-id": "Routes.GatewayId", "route.instance-id": "Routes.InstanceId", "route.nat-gateway-id": "Routes.NatGatewayId",
		"route.transit-gateway-id": "Routes.TransitGatewayId", "route.origin": "Routes.Origin", "route.state": "Routes.State",
		"route.vpc-peering-connection-id": "Routes.VpcPeeringConnectionId"}})
}

type internetGateway struct {
	thing
	vpc *vpc
}

func (*internetGateway) kind() kind { return kindIGW }

// AddInternetGateway seeds an internet gateway attached to a VPC.
func (s *Service) AddInternetGateway(vpcID string) string {
	s.mu.Lock()
	defer s.unlock()
	made := &internetGateway{thing: s.seedThing(kindIGW, "", nil), vpc: mustFind[*vpc](s, vpcID)}
	s.add(made)
	return made.id
}

func (s *Service) describeInternetGateways(r *request) (map[string]any, error) {
	show := func(g *internetGateway) map[string]any {
		return map[string]any{"InternetGatewayId": g.id, "OwnerId": s.cfg.Account, "Tags": tagList(g.tags),
			"Attachments": []any{map[string]any{"State": "attached", "VpcId": g.vpc.id}}}
	}
	return r.list(viewsOf(s, show), listing{kind: kindIGW, ids: "InternetGatewayIds", out: "InternetGateways", tags: "Tags", filters: map[string]string{
		"attachment.state": "Attachments.State", "attachment.vpc-id": "Attachments.VpcId", "internet-gateway-id": "InternetGatewayId", "owner-id": "OwnerId"}})
}

type natGateway struct {
	thing
	subnet *subnet
	eni    *netInterface
	state  string
}

func (*natGateway) kind() kind { return kindNAT }

// AddNATGateway seeds a public NAT gateway with its interface.
func (s *Service) AddNATGateway(subnetID string) string {
	s.mu.Lock()
	defer s.unlock()
	n := mustFind[*subnet](s, subnetID)
	made := &natGateway{thing: s.seedThing(kindNAT, "", nil), subnet: n, state: "available"}
	made.eni = s.seedInterface(InterfaceSeed{Subnet: subnetID, Type: "natGateway", RequesterManaged: true, RequesterID: "amazon-nat",
		Description: fmt.Sprintf("Interface for NAT Gateway %s", made.id)})
	s.add(made)
	return made.id
}

func (s *Service) describeNATGateways(r *request) (map[string]any, error) {
	show := func(g *natGateway) map[string]any {
		return map[string]any{"NatGatewayId": g.id, "SubnetId": g.subnet.id, "VpcId": g.subnet.vpc.id, "State": g.state, "ConnectivityType": "public",
			"Tags": tagList(g.tags), "NatGatewayAddresses": []any{map[string]any{"NetworkInterfaceId": g.eni.id, "PrivateIp": g.eni.address.String(),
				"PublicIp": "203.0.113.1", "IsPrimary": true, "Status": "succeeded"}}}
	}
	return r.list(viewsOf(s, show), listing{kind: kindNAT, ids: "NatGatewayIds", out: "NatGateways", tags: "Tags", filter: "Filter", filters: map[string]string{
		"nat-gateway-id": "NatGatewayId", "state": "State", "subnet-id": "SubnetId", "vpc-id": "VpcId"}})
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
