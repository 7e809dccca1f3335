package ec2

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// VPC is a network to seed. Its ranges may lie in 127.0.0.0/8, so that every
// address of it can be bound on this machine.
type VPC struct {
	ID, CIDR, IPv6CIDR string
	NoDNSSupport       bool
	NoDNSHostnames     bool
	Tags               map[string]string
}

type vpc struct {
	thing
	cidr, cidr6              netip.Prefix
	dnsSupport, dnsHostnames bool
	mainTable, acl, group    string
}

func (*vpc) kind() kind { return kindVPC }

// AddVPC seeds a network with its main route table, its default security group
// and a network ACL that allows everything, and returns its id.
func (s *Service) AddVPC(v VPC) string {
	s.mu.Lock()
	defer s.unlock()
	made := &vpc{thing: s.seedThing(kindVPC, v.ID, v.Tags), cidr: netip.MustParsePrefix(v.CIDR), dnsSupport: !v.NoDNSSupport, dnsHostnames: !v.NoDNSHostnames}
	if v.IPv6CIDR != "" {
		made.cidr6 = netip.MustParsePrefix(v.IPv6CIDR)
	}
	s.add(made)

	table := &routeTable{thing: s.seedThing(kindRouteTable, "", nil), vpc: made, main: true, association: s.newID("rtbassoc").id}
	table.routes = table.localRoutes()
	s.add(table)
	made.mainTable = table.id

	acl := &networkACL{thing: s.seedThing(kindNetworkACL, "", nil), vpc: made, isDefault: true, entries: allowAll()}
	s.add(acl)
	made.acl = acl.id

	group := &securityGroup{thing: s.seedThing(kindGroup, "", nil), vpc: made, name: "default", description: "default VPC security group"}
	s.add(group)
	s.addRule(group, groupRule{protocol: "-1", from: -1, to: -1, group: group.id}, true)
	s.addRule(group, groupRule{egress: true, protocol: "-1", from: -1, to: -1, cidr: "0.0.0.0/0"}, true)
	made.group = group.id
	return made.id
}

func mustFind[T resource](s *Service, id string) T {
	found, ok := s.all[id].(T)
	if !ok {
		panic(fmt.Sprintf("ec2: seeding refers to %q, which does not exist", id))
	}
	return found
}

func (s *Service) showVPC(v *vpc) map[string]any {
	m := map[string]any{
		"VpcId": v.id, "CidrBlock": v.cidr.String(), "State": "available", "OwnerId": s.cfg.Account, "InstanceTenancy": "default",
		"IsDefault": false, "DhcpOptionsId": "dopt-0" + v.id[len(v.id)-min(16, len(v.id)):], "Tags": tagList(v.tags),
		"CidrBlockAssociationSet": []any{map[string]any{"AssociationId": "vpc-cidr-assoc-" + strings.TrimPrefix(v.id, "vpc-"),
			"CidrBlock": v.cidr.String(), "CidrBlockState": map[string]any{"State": "associated"}}},
	}
	if v.cidr6.IsValid() {
		m["Ipv6CidrBlockAssociationSet"] = []any{map[string]any{"AssociationId": "vpc-cidr-assoc-6" + strings.TrimPrefix(v.id, "vpc-"),
			"Ipv6CidrBlock": v.cidr6.String(), "Ipv6CidrBlockState": map[string]any{"State": "associated"}}}
	}
	return m
}

func (s *Service) describeVPCs(r *request) (map[string]any, error) {
	return r.list(viewsOf(s, s.showVPC), listing{kind: kindVPC, ids: "VpcIds", out: "Vpcs", tags: "Tags", filters: map[string]string{
		"cidr": "CidrBlock", "cidr-block-association.cidr-block": "CidrBlockAssociationSet.CidrBlock",
		"cidr-block-association.association-id":       "CidrBlockAssociationSet.AssociationId",
		"cidr-block-association.state":                "CidrBlockAssociationSet.CidrBlockState.State",
		"dhcp-options-id":                             "DhcpOptionsId",
		"ipv6-cidr-block-association.ipv6-cidr-block": "Ipv6CidrBlockAssociationSet.Ipv6CidrBlock",
		"ipv6-cidr-block-association.association-id":  "Ipv6CidrBlockAssociationSet.AssociationId",
		"ipv6-cidr-block-association.state":           "Ipv6CidrBlockAssociationSet.Ipv6CidrBlockState.State",
		"is-default":                                  "IsDefault", "owner-id": "OwnerId", "state": "State", "vpc-id": "VpcId"}})
}

func (s *Service) describeVPCAttribute(r *request) (map[string]any, error) {
	v, err := find[*vpc](s, kindVPC, r.str("VpcId"))
	if err != nil {
		return nil, err
	}
	result := map[string]any{"VpcId": v.id}
	switch r.str("Attribute") {
	case "enableDnsSupport":
		result["EnableDnsSupport"] = map[string]any{"Value": v.dnsSupport}
	case "enableDnsHostnames":
		result["EnableDnsHostnames"] = map[string]any{"Value": v.dnsHostnames}
	default:
		result["EnableNetworkAddressUsageMetrics"] = map[string]any{"Value": false}
	}
	return result, nil
}

func (s *Service) describeAvailabilityZones(r *request) (map[string]any, error) {
	var views []view
	for _, name := range s.cfg.Zones {
		views = append(views, view{id: name, fields: map[string]any{
			"ZoneName": name, "ZoneId": s.zoneID(name), "RegionName": s.cfg.Region, "GroupName": s.cfg.Region, "NetworkBorderGroup": s.cfg.Region,
			"State": "available", "OptInStatus": "opt-in-not-required", "ZoneType": "availability-zone"}})
	}
	for _, id := range r.strs("ZoneIds") {
		if !slices.ContainsFunc(views, func(v view) bool { return v.fields["ZoneId"] == id }) {
			return nil, invalidValue("Invalid availability zone-id: [%s]", id)
		}
	}
	if ids := r.strs("ZoneIds"); len(ids) > 0 {
		views = slices.DeleteFunc(views, func(v view) bool { return !slices.Contains(ids, v.fields["ZoneId"].(string)) })
	}
	return r.list(views, listing{names: "ZoneNames", nameAt: "ZoneName", notFoundName: "InvalidParameterValue", kind: kind{noun: "availability zone"},
		out: "AvailabilityZones", filters: map[string]string{"group-name": "GroupName", "opt-in-status": "OptInStatus", "region-name": "RegionName",
			"state": "State", "zone-id": "ZoneId", "zone-name": "ZoneName", "zone-type": "ZoneType"}})
}

// zoneID shortens us-east-1b to use1-az2, as AWS does with most regions.
func (s *Service) zoneID(zone string) string {
	parts := strings.Split(s.cfg.Region, "-")
	short := parts[0]
	for _, part := range parts[1:] {
		short += part[:1]
	}
	letter := strings.TrimPrefix(zone, s.cfg.Region)
	if letter == "" || letter[0] < 'a' {
		return short + "-" + zone
	}
	return fmt.Sprintf("%s-az%d", short, letter[0]-'a'+1)
}
