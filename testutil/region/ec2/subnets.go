package ec2

import (
	"fmt"
	"net/netip"
	"slices"
)

// Subnet is a subnet to seed.
type Subnet struct {
	ID, VPC, Zone, CIDR string
	IPv6CIDR            string
	// IPv6Addresses are handed out in turn to interfaces that want one: on one
	// machine there is often no other than ::1. Without it the next free address
	// of IPv6CIDR is given.
	IPv6Addresses []string
	// IPv6Only makes a subnet without IPv4.
	IPv6Only  bool
	MapPublic bool
	Tags      map[string]string
}

type subnet struct {
	thing
	vpc         *vpc
	zone        string
	cidr, cidr6 netip.Prefix
	turn6       []netip.Addr
	next6       int
	native6     bool
	mapPublic   bool
}

func (*subnet) kind() kind { return kindSubnet }

// AddSubnet seeds a subnet and returns its id.
func (s *Service) AddSubnet(n Subnet) string {
	s.mu.Lock()
	defer s.unlock()
	made := &subnet{thing: s.seedThing(kindSubnet, n.ID, n.Tags), vpc: mustFind[*vpc](s, n.VPC), zone: n.Zone, native6: n.IPv6Only, mapPublic: n.MapPublic}
	if made.zone == "" {
		made.zone = s.cfg.Zones[0]
	}
	if !slices.Contains(s.cfg.Zones, made.zone) {
		panic(fmt.Sprintf("ec2: the region has no zone %q", made.zone))
	}
	if !n.IPv6Only {
		made.cidr = netip.MustParsePrefix(n.CIDR).Masked()
		if !made.vpc.cidr.Overlaps(made.cidr) || made.vpc.cidr.Bits() > made.cidr.Bits() {
			panic(fmt.Sprintf("ec2: subnet %s is not in its VPC's %s", made.cidr, made.vpc.cidr))
		}
	}
	if n.IPv6CIDR != "" {
		made.cidr6 = netip.MustParsePrefix(n.IPv6CIDR).Masked()
	}
	for _, text := range n.IPv6Addresses {
		made.turn6 = append(made.turn6, netip.MustParseAddr(text))
	}
	s.add(made)
	return made.id
}

// reserved are the addresses AWS keeps in every subnet: the first four and the
// last (VPC user guide, "Subnet CIDR blocks").
func (n *subnet) reserved(a netip.Addr) bool {
	first := n.cidr.Addr()
	for range 4 {
		if a == first {
			return true
		}
		first = first.Next()
	}
	return !n.cidr.Contains(a.Next())
}

// used are the addresses that interfaces of the subnet hold.
func (s *Service) used(n *subnet) map[netip.Addr]bool {
	taken := map[netip.Addr]bool{}
	for _, e := range every[*netInterface](s) {
		if e.subnet == n {
			for _, a := range append(e.addresses(), e.ipv6...) {
				taken[a] = true
			}
		}
	}
	return taken
}

// freeAddresses returns the next free IPv4 addresses of a subnet.
func (s *Service) freeAddresses(n *subnet, count int, alsoTaken map[netip.Addr]bool) ([]netip.Addr, error) {
	taken := s.used(n)
	var free []netip.Addr
	for a := n.cidr.Addr(); n.cidr.Contains(a) && len(free) < count; a = a.Next() {
		if !taken[a] && !alsoTaken[a] && !n.reserved(a) {
			free = append(free, a)
		}
	}
	if len(free) < count {
		return nil, apiError("InsufficientFreeAddressesInSubnet", "The specified subnet does not have enough free addresses to satisfy the request.")
	}
	return free, nil
}

func (s *Service) freeCount(n *subnet) int {
	if !n.cidr.IsValid() {
		return 0
	}
	count := 1<<(32-n.cidr.Bits()) - 5
	for a := range s.used(n) {
		if a.Is4() {
			count--
		}
	}
	return count
}

// nextIPv6 hands out an IPv6 address.
func (s *Service) nextIPv6(n *subnet) (netip.Addr, error) {
	if len(n.turn6) > 0 {
		a := n.turn6[n.next6%len(n.turn6)]
		n.next6++
		return a, nil
	}
	if !n.cidr6.IsValid() {
		return netip.Addr{}, invalidValue("Subnet %s does not have an IPv6 CIDR block", n.id)
	}
	taken := s.used(n)
	for a := n.cidr6.Addr().Next(); n.cidr6.Contains(a); a = a.Next() {
		if !taken[a] {
			return a, nil
		}
	}
	return netip.Addr{}, apiError("InsufficientFreeAddressesInSubnet", "The specified subnet does not have enough free addresses to satisfy the request.")
}

func (s *Service) showSubnet(n *subnet) map[string]any {
	m := map[string]any{
		"SubnetId": n.id, "VpcId": n.vpc.id, "AvailabilityZone": n.zone, "AvailabilityZoneId": s.zoneID(n.zone), "State": "available",
		"OwnerId": s.cfg.Account, "SubnetArn": s.arn("subnet", n.id), "AvailableIpAddressCount": s.freeCount(n), "DefaultForAz": false,
		"MapPublicIpOnLaunch": n.mapPublic, "AssignIpv6AddressOnCreation": n.native6, "Ipv6Native": n.native6, "EnableDns64": false,
		"Tags": tagList(n.tags),
	}
	if n.cidr.IsValid() {
		m["CidrBlock"] = n.cidr.String()
	}
	if n.cidr6.IsValid() {
		m["Ipv6CidrBlockAssociationSet"] = []any{map[string]any{"AssociationId": "subnet-cidr-assoc-" + n.id,
			"Ipv6CidrBlock": n.cidr6.String(), "Ipv6CidrBlockState": map[string]any{"State": "associated"}}}
	}
	return m
}

func (s *Service) describeSubnets(r *request) (map[string]any, error) {
	return r.list(viewsOf(s, s.showSubnet), listing{kind: kindSubnet, ids: "SubnetIds", out: "Subnets", tags: "Tags", filters: map[string]string{
		"availability-zone": "AvailabilityZone", "availabilityZone": "AvailabilityZone", "availability-zone-id": "AvailabilityZoneId",
		"available-ip-address-count": "AvailableIpAddressCount", "cidr-block": "CidrBlock", "cidr": "CidrBlock", "cidrBlock": "CidrBlock",
		"default-for-az": "DefaultForAz", "enable-dns64": "EnableDns64",
		"ipv6-cidr-block-association.ipv6-cidr-block": "Ipv6CidrBlockAssociationSet.Ipv6CidrBlock",
		"ipv6-cidr-block-association.association-id":  "Ipv6CidrBlockAssociationSet.AssociationId",
		"ipv6-cidr-block-association.state":           "Ipv6CidrBlockAssociationSet.Ipv6CidrBlockState.State",
		"ipv6-native":                                 "Ipv6Native", "map-public-ip-on-launch": "MapPublicIpOnLaunch", "owner-id": "OwnerId",
		"state": "State", "subnet-arn": "SubnetArn", "subnet-id": "SubnetId", "vpc-id": "VpcId"}})
}

func (s *Service) arn(kind, id string) string {
	return "arn:aws:ec2:" + s.cfg.Region + ":" + s.cfg.Account + ":" + kind + "/" + id
}
