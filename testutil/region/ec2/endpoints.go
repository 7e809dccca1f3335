package ec2

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Endpoint is a VPC endpoint to seed.
type Endpoint struct {
	ID, VPC string
	Service string // short, such as "s3", or whole
	Type    string // Gateway (default), Interface or GatewayLoadBalancer
	Policy  string // default: everything is allowed
	// RouteTables of a gateway get its route; Subnets of an interface endpoint get
	// an interface with Groups.
	RouteTables, Subnets, Groups []string
	PrivateDNS                   bool
	Tags                         map[string]string
}

type endpoint struct {
	thing
	vpc                  *vpc
	service, typ, policy string
	state                string
	tables, subnets      []string
	groups, interfaces   []string
	privateDNS           bool
}

func (*endpoint) kind() kind { return kindEndpoint }

// fullAccess is the policy of an endpoint that is made without one.
const fullAccess = `{"Statement":[{"Action":"*","Effect":"Allow","Principal":"*","Resource":"*"}],"Version":"2008-10-17"}`

// endpointServices are those that can be asked for here, by endpoint type
// (PrivateLink guide, "AWS services that integrate with AWS PrivateLink").
var endpointServices = map[string][]string{
	"Gateway":   {"s3", "dynamodb"},
	"Interface": {"s3", "dynamodb", "ec2", "sts", "ssm", "ssmmessages", "ec2messages", "kms", "logs", "sqs", "sns", "states", "events", "lambda", "monitoring", "secretsmanager", "scheduler"},
}

// AddEndpoint seeds a VPC endpoint and returns its id.
func (s *Service) AddEndpoint(e Endpoint) string {
	s.mu.Lock()
	defer s.unlock()
	made := &endpoint{thing: s.seedThing(kindEndpoint, e.ID, e.Tags), vpc: mustFind[*vpc](s, e.VPC), service: e.Service, typ: e.Type, policy: e.Policy,
		state: "available", tables: e.RouteTables, subnets: e.Subnets, groups: e.Groups, privateDNS: e.PrivateDNS}
	if made.typ == "" {
		made.typ = "Gateway"
	}
	if !strings.Contains(made.service, ".") {
		made.service = "com.amazonaws." + s.cfg.Region + "." + made.service
	}
	if made.policy == "" {
		made.policy = fullAccess
	}
	s.add(made)
	if made.typ == "Gateway" {
		s.routeTo(made)
	}
	for _, id := range made.subnets {
		made.interfaces = append(made.interfaces, s.seedInterface(endpointInterface(made, id)).id)
	}
	return made.id
}

// endpointInterface is the interface that an endpoint puts into a subnet.
func endpointInterface(e *endpoint, subnetID string) InterfaceSeed {
	typ := "vpc_endpoint"
	if e.typ == "GatewayLoadBalancer" {
		typ = "gateway_load_balancer_endpoint"
	}
	return InterfaceSeed{Subnet: subnetID, Type: typ, Groups: e.groups, RequesterManaged: true, RequesterID: "amazon-vpce", Description: "VPC Endpoint Interface " + e.id}
}

func (s *Service) routeTo(e *endpoint) {
	for _, id := range e.tables {
		t := mustFind[*routeTable](s, id)
		t.routes = append(t.routes, Route{Destination: s.prefixes[e.service], Target: e.id})
	}
}

func (s *Service) createVPCEndpoint(r *request) (map[string]any, error) {
	return s.once(r, "", func() (func() (map[string]any, error), error) {
		made, err := s.planEndpoint(r)
		if err != nil {
			return nil, err
		}
		tags, err := r.tagsFor(kindEndpoint)
		if err != nil {
			return nil, err
		}
		for _, id := range made.subnets {
			if _, err := s.freeAddresses(mustFind[*subnet](s, id), 1, nil); err != nil {
				return nil, err
			}
		}
		made.thing = s.newThing(kindEndpoint, tags)
		s.add(made)
		if made.typ == "Gateway" {
			made.state = "available"
			s.routeTo(made)
		} else {
			made.state = "pending"
			for _, id := range made.subnets {
				e := s.seedInterface(endpointInterface(made, id))
				e.seeded, e.born = false, made.born
				made.interfaces = append(made.interfaces, e.id)
			}
			s.later(s.cfg.EndpointDelay, func() {
				if made.state == "pending" {
					made.state = "available"
				}
			})
		}
		result := map[string]any{"VpcEndpoint": s.showEndpoint(made)}
		set(result, "ClientToken", r.str("ClientToken"))
		return always(result), nil
	})
}

func (s *Service) planEndpoint(r *request) (*endpoint, error) {
	v, err := find[*vpc](s, kindVPC, r.str("VpcId"))
	if err != nil {
		return nil, err
	}
	e := &endpoint{vpc: v, service: r.str("ServiceName"), typ: r.str("VpcEndpointType"), policy: r.str("PolicyDocument"),
		tables: r.strs("RouteTableIds"), subnets: r.strs("SubnetIds"), groups: r.strs("SecurityGroupIds"), privateDNS: r.flag("PrivateDnsEnabled")}
	if e.typ == "" {
		e.typ = "Gateway"
	}
	short, ours := strings.CutPrefix(e.service, "com.amazonaws."+s.cfg.Region+".")
	if !ours || !slices.Contains(endpointServices[e.typ], short) {
		return nil, apiError("InvalidServiceName", "The Vpc Endpoint Service '%s' does not exist", e.service)
	}
	if e.policy == "" {
		e.policy = fullAccess
	} else if !json.Valid([]byte(e.policy)) {
		return nil, apiError("InvalidPolicyDocument", "The policy document is not valid JSON")
	}
	if e.typ == "Gateway" {
		if len(e.subnets) > 0 || len(e.groups) > 0 || e.privateDNS {
			return nil, apiError("InvalidParameter", "Subnets, security groups and private DNS are not supported for Gateway endpoints.")
		}
		for _, id := range e.tables {
			t, err := find[*routeTable](s, kindRouteTable, id)
			if err != nil {
				return nil, err
			}
			if t.vpc != v {
				return nil, apiError("InvalidParameter", "Route table %s does not belong to VPC %s", id, v.id)
			}
			if slices.ContainsFunc(t.routes, func(r Route) bool { return r.Destination == s.prefixes[e.service] }) {
				return nil, apiError("RouteAlreadyExists", "route table %s already has a route with destination-prefix-list-id %s", id, s.prefixes[e.service])
			}
		}
		return e, nil
	}
	if len(e.tables) > 0 {
		return nil, apiError("InvalidParameter", "Route tables are not supported for %s endpoints.", e.typ)
	}
	zones := map[string]bool{}
	for _, id := range e.subnets {
		n, err := find[*subnet](s, kindSubnet, id)
		if err != nil {
			return nil, err
		}
		if n.vpc != v {
			return nil, apiError("InvalidParameter", "Subnet %s does not belong to VPC %s", id, v.id)
		}
		if zones[n.zone] {
			return nil, apiError("DuplicateSubnetsInSameZone", "Found another VPC endpoint subnet in the availability zone of %s", id)
		}
		zones[n.zone] = true
	}
	if e.groups, err = s.groupsFor(v, e.groups); err != nil {
		return nil, err
	}
	// PrivateLink guide, "Create an interface endpoint": private DNS is the default
	// and needs both DNS attributes of the VPC.
	if !r.has("PrivateDnsEnabled") {
		e.privateDNS = true
	}
	if e.privateDNS && !(v.dnsSupport && v.dnsHostnames) {
		return nil, apiError("InvalidParameter", "Enabling private DNS requires both enableDnsSupport and enableDnsHostnames VPC attributes set to true for %s", v.id)
	}
	if e.privateDNS {
		for _, other := range every[*endpoint](s) {
			if other.vpc == v && other.service == e.service && other.privateDNS && other.state != "deleting" {
				return nil, apiError("InvalidParameter", "private-dns-enabled cannot be set because there is already a conflicting DNS domain for %s in the VPC %s", e.service, v.id)
			}
		}
	}
	return e, nil
}

func (s *Service) deleteVPCEndpoints(r *request) (map[string]any, error) {
	unsuccessful := []any{}
	for _, id := range r.strs("VpcEndpointIds") {
		e, err := find[*endpoint](s, kindEndpoint, id)
		if err != nil {
			api := asAPIError(err)
			unsuccessful = append(unsuccessful, map[string]any{"ResourceId": id, "Error": map[string]any{"Code": api.Code, "Message": api.Message}})
			continue
		}
		if e.state == "deleting" {
			continue
		}
		e.state = "deleting"
		for _, t := range every[*routeTable](s) { // at once
			t.drop(e.id)
		}
		s.later(s.cfg.EndpointDelay, func() { s.dropEndpoint(e) })
	}
	return map[string]any{"Unsuccessful": unsuccessful}, nil
}

func (s *Service) dropEndpoint(e *endpoint) {
	for _, t := range every[*routeTable](s) {
		t.drop(e.id)
	}
	for _, id := range e.interfaces {
		if eni, ok := s.all[id].(*netInterface); ok {
			s.dropInterface(eni)
		}
	}
	s.remove(e.id)
}

func (s *Service) showEndpoint(e *endpoint) map[string]any {
	var groups, dns []any
	for _, id := range e.groups {
		group := map[string]any{"GroupId": id}
		if g, ok := s.all[id].(*securityGroup); ok {
			group["GroupName"] = g.name
		}
		groups = append(groups, group)
	}
	m := map[string]any{"VpcEndpointId": e.id, "VpcId": e.vpc.id, "ServiceName": e.service, "ServiceRegion": s.cfg.Region, "VpcEndpointType": e.typ, "State": e.state,
		"PolicyDocument": e.policy, "RouteTableIds": anys(e.tables), "SubnetIds": anys(e.subnets), "NetworkInterfaceIds": anys(e.interfaces), "Groups": groups,
		"PrivateDnsEnabled": e.privateDNS, "RequesterManaged": false, "IpAddressType": "ipv4", "OwnerId": s.cfg.Account, "CreationTimestamp": e.born, "Tags": tagList(e.tags)}
	if e.typ == "Interface" {
		name := strings.TrimPrefix(e.service, "com.amazonaws."+s.cfg.Region+".")
		wildcard := ""
		if name == "s3" { // S3's interface endpoints need a prefix before the name: bucket. or *.
			wildcard = "*."
		}
		suffix := fmt.Sprintf("%s-%s.%s.%s.vpce.amazonaws.com", e.id, "a1b2c3d4", name, s.cfg.Region)
		dns = append(dns, map[string]any{"DnsName": wildcard + suffix, "HostedZoneId": "Z00EXAMPLE"})
		m["DnsEntries"] = dns
	}
	return m
}

func anys(list []string) []any {
	out := []any{}
	for _, item := range list {
		out = append(out, item)
	}
	return out
}

func (s *Service) describeVPCEndpoints(r *request) (map[string]any, error) {
	return r.list(viewsOf(s, s.showEndpoint), listing{kind: kindEndpoint, ids: "VpcEndpointIds", out: "VpcEndpoints", tags: "Tags", filters: map[string]string{
		"ip-address-type": "IpAddressType", "service-name": "ServiceName", "service-region": "ServiceRegion", "vpc-id": "VpcId",
		"vpc-endpoint-id": "VpcEndpointId", "vpc-endpoint-state": "State", "vpc-endpoint-type": "VpcEndpointType"}})
}
