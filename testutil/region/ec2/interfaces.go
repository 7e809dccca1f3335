package ec2

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// InterfaceSeed is a network interface to seed, alone or with an instance.
type InterfaceSeed struct {
	ID, Subnet string
	Address    string // default: the next free one
	Secondary  []string
	IPv6       []string
	Groups     []string // default: the VPC's default group
	// Type is "interface" unless it says natGateway, efa, trunk, branch, lambda ...
	Type             string
	RequesterManaged bool
	RequesterID      string // such as amazon-rds, amazon-elasticache, amazon-elb
	Description      string
	MTU              int // default 9001
	Public           string
	Tags             map[string]string
}

// Interface is what the rest of the region may know of a network interface.
type Interface struct {
	ID, InstanceID       string
	SubnetID, VPCID      string
	Zone, Type           string
	DeviceIndex          int
	Address              netip.Addr // the primary one; invalid in an IPv6-only subnet
	Secondary, IPv6      []netip.Addr
	Groups               []string
	MTU                  int
	RequesterManaged     bool
	DeleteOnTermination  bool
	AssociatedPublicAddr string
	Conntrack            Conntrack
}

// netInterface is an elastic network interface.
type netInterface struct {
	thing
	subnet           *subnet
	address          netip.Addr
	secondary, ipv6  []netip.Addr
	groups           []string
	typ, description string
	requesterManaged bool
	requesterID      string
	public           string
	mtu              int
	conntrack        Conntrack
	attachment       *attachment
}

// Conntrack are the idle timeouts of connection tracking, in seconds; 0 means AWS's
// default (API reference, ConnectionTrackingSpecificationRequest).
type Conntrack struct{ TCPEstablished, UDPStream, UDP int }

func conntrackOf(p params) (Conntrack, error) {
	spec := p.object("ConnectionTrackingSpecification")
	c := Conntrack{spec.number("TcpEstablishedTimeout"), spec.number("UdpStreamTimeout"), spec.number("UdpTimeout")}
	for _, t := range []struct {
		name               string
		value, least, most int
	}{{"TcpEstablishedTimeout", c.TCPEstablished, 60, 432000}, {"UdpStreamTimeout", c.UDPStream, 60, 180}, {"UdpTimeout", c.UDP, 30, 60}} {
		if spec.has(t.name) && (t.value < t.least || t.value > t.most) {
			return c, invalidValue("Value (%d) for parameter %s is invalid. It must be between %d and %d.", t.value, t.name, t.least, t.most)
		}
	}
	return c, nil
}

func (c Conntrack) show() map[string]any {
	m := map[string]any{}
	for name, value := range map[string]int{"TcpEstablishedTimeout": c.TCPEstablished, "UdpStreamTimeout": c.UDPStream, "UdpTimeout": c.UDP} {
		if value != 0 {
			m[name] = value
		}
	}
	return m
}

type attachment struct {
	id, instanceID, ownerID string
	device, card            int
	deleteOnTermination     bool
	at                      time.Time
}

func (*netInterface) kind() kind { return kindInterface }

// jumboMTU is the default inside a VPC (EC2 user guide, "Network MTU").
const jumboMTU = 9001

func (e *netInterface) addresses() []netip.Addr {
	if !e.address.IsValid() {
		return nil
	}
	return append([]netip.Addr{e.address}, e.secondary...)
}

// AddInterface seeds an interface that is not attached to an instance of this
// account, such as one that RDS or Lambda manages, and returns its id.
func (s *Service) AddInterface(e InterfaceSeed) string {
	s.mu.Lock()
	defer s.unlock()
	return s.seedInterface(e).id
}

func (s *Service) seedInterface(e InterfaceSeed) *netInterface {
	n := mustFind[*subnet](s, e.Subnet)
	made := &netInterface{thing: s.seedThing(kindInterface, e.ID, e.Tags), subnet: n, groups: e.Groups, typ: e.Type, description: e.Description,
		requesterManaged: e.RequesterManaged, requesterID: e.RequesterID, mtu: e.MTU, public: e.Public}
	if made.typ == "" {
		made.typ = "interface"
	}
	if made.mtu == 0 {
		made.mtu = jumboMTU
	}
	if len(made.groups) == 0 && made.typ != "natGateway" {
		made.groups = []string{n.vpc.group}
	}
	for _, text := range e.Secondary {
		made.secondary = append(made.secondary, netip.MustParseAddr(text))
	}
	for _, text := range e.IPv6 {
		made.ipv6 = append(made.ipv6, netip.MustParseAddr(text))
	}
	switch {
	case e.Address != "":
		made.address = netip.MustParseAddr(e.Address)
		if !n.cidr.Contains(made.address) {
			panic(fmt.Sprintf("ec2: %s is not in %s of subnet %s", made.address, n.cidr, n.id))
		}
	case n.cidr.IsValid():
		free, err := s.freeAddresses(n, 1, nil)
		if err != nil {
			panic("ec2: " + err.Error())
		}
		made.address = free[0]
	}
	if made.requesterManaged {
		made.attachment = &attachment{id: s.newID("eni-attach").id, ownerID: made.requesterID, device: 1, at: s.cfg.Now()}
	}
	s.add(made)
	return made
}

func (s *Service) attach(e *netInterface, i *instance, device, card int, deleteOnTermination bool) {
	e.attachment = &attachment{id: s.newID("eni-attach").id, instanceID: i.id, ownerID: s.cfg.Account, device: device, card: card,
		deleteOnTermination: deleteOnTermination, at: s.cfg.Now()}
}

// instanceOf returns the instance an interface is attached to, or nil.
func (s *Service) instanceOf(e *netInterface) *instance {
	if e.attachment == nil {
		return nil
	}
	i, _ := s.all[e.attachment.instanceID].(*instance)
	return i
}

// interfacesOf lists an instance's interfaces by device index.
func (s *Service) interfacesOf(i *instance) []*netInterface {
	list := slices.DeleteFunc(every[*netInterface](s), func(e *netInterface) bool {
		return e.attachment == nil || e.attachment.instanceID != i.id
	})
	slices.SortStableFunc(list, func(a, b *netInterface) int { return a.attachment.device - b.attachment.device })
	return list
}

// known is the interface as hooks get to see it.
func (s *Service) known(e *netInterface) Interface {
	out := Interface{ID: e.id, SubnetID: e.subnet.id, VPCID: e.subnet.vpc.id, Zone: e.subnet.zone, Type: e.typ, Address: e.address,
		Secondary: slices.Clone(e.secondary), IPv6: slices.Clone(e.ipv6), Groups: slices.Clone(e.groups), MTU: e.mtu,
		RequesterManaged: e.requesterManaged, AssociatedPublicAddr: e.public, Conntrack: e.conntrack}
	if e.attachment != nil {
		out.InstanceID, out.DeviceIndex, out.DeleteOnTermination = e.attachment.instanceID, e.attachment.device, e.attachment.deleteOnTermination
	}
	return out
}

// Interface returns an interface by its id.
func (s *Service) Interface(id string) (Interface, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.all[id].(*netInterface)
	if !ok {
		return Interface{}, false
	}
	return s.known(e), true
}

// MoveInterface detaches an interface and, unless instanceID is empty, attaches
// it to another instance.
func (s *Service) MoveInterface(id, instanceID string) {
	s.mu.Lock()
	defer s.unlock()
	e := mustFind[*netInterface](s, id)
	e.attachment = nil
	if instanceID != "" {
		i := mustFind[*instance](s, instanceID)
		s.attach(e, i, len(s.interfacesOf(i)), 0, false)
	}
}

// RemoveInterface deletes an interface from outside, whatever uses it.
func (s *Service) RemoveInterface(id string) {
	s.mu.Lock()
	defer s.unlock()
	s.dropInterface(mustFind[*netInterface](s, id))
}

// dropInterface deletes an interface. The sessions that mirror it go with it;
// those that mirror to it stay and carry nothing (traffic-mirroring-sessions).
func (s *Service) dropInterface(e *netInterface) {
	s.remove(e.id)
	for _, m := range every[*mirrorSession](s) {
		if m.source == e.id {
			s.remove(m.id)
		}
	}
}

// interfacePlan is an interface a call wants, checked but not made.
type interfacePlan struct {
	existing            *netInterface
	subnet              *subnet
	groups              []string
	address             netip.Addr
	secondary, ipv6     []netip.Addr
	moreIPv4, moreIPv6  int
	typ, description    string
	device, card        int
	public              bool
	deleteOnTermination bool
	conntrack           Conntrack
}

// planInterface checks the addresses and groups of an interface specification.
func (s *Service) planInterface(p params, n *subnet, groupIDs []string) (*interfacePlan, error) {
	plan := &interfacePlan{subnet: n, typ: "interface", description: p.str("Description"), device: p.number("DeviceIndex"), card: p.number("NetworkCardIndex"),
		moreIPv4: p.number("SecondaryPrivateIpAddressCount"), moreIPv6: p.number("Ipv6AddressCount"), public: n.mapPublic, deleteOnTermination: true}
	if p.has("AssociatePublicIpAddress") {
		plan.public = p.flag("AssociatePublicIpAddress")
	}
	if p.has("DeleteOnTermination") {
		plan.deleteOnTermination = p.flag("DeleteOnTermination")
	}
	if t := p.str("InterfaceType"); t != "" {
		plan.typ = t
	}
	for _, prefixes := range []string{"Ipv4Prefixes", "Ipv4PrefixCount", "Ipv6Prefixes", "Ipv6PrefixCount"} {
		if p.has(prefixes) {
			return nil, unsupported(prefixes)
		}
	}
	var err error
	if plan.conntrack, err = conntrackOf(p); err != nil {
		return nil, err
	}
	if plan.groups, err = s.groupsFor(n.vpc, groupIDs); err != nil {
		return nil, err
	}
	wanted := p.objects("PrivateIpAddresses")
	if one := p.str("PrivateIpAddress"); one != "" {
		wanted = append([]params{{"PrivateIpAddress": one, "Primary": true}}, wanted...)
	}
	primary := false
	for _, w := range wanted {
		a, err := netip.ParseAddr(w.str("PrivateIpAddress"))
		if err != nil || !n.cidr.IsValid() || !n.cidr.Contains(a) || n.reserved(a) {
			return nil, invalidValue("Address %s does not fall within the subnet's address range", w.str("PrivateIpAddress"))
		}
		if s.used(n)[a] || a == plan.address || slices.Contains(plan.secondary, a) {
			return nil, apiError("InvalidIPAddress.InUse", "Address %s is in use.", a)
		}
		if w.flag("Primary") {
			if primary {
				return nil, invalidValue("Only one primary private IP address can be specified.")
			}
			primary, plan.address = true, a
		} else {
			plan.secondary = append(plan.secondary, a)
		}
	}
	for _, w := range p.objects("Ipv6Addresses") {
		a, err := netip.ParseAddr(w.str("Ipv6Address"))
		if err != nil || !slices.Contains(n.turn6, a) && !(n.cidr6.IsValid() && n.cidr6.Contains(a)) {
			return nil, invalidValue("IPv6 address %s does not fall within the subnet's address range", w.str("Ipv6Address"))
		}
		plan.ipv6 = append(plan.ipv6, a)
	}
	if len(plan.ipv6) > 0 && plan.moreIPv6 > 0 {
		return nil, apiError("InvalidParameterCombination", "Ipv6Addresses and Ipv6AddressCount cannot be specified together")
	}
	if plan.moreIPv6 > 0 && len(n.turn6) == 0 && !n.cidr6.IsValid() {
		return nil, invalidValue("Subnet %s does not have an IPv6 CIDR block", n.id)
	}
	return plan, nil
}

// makeInterface carries a plan out.
func (s *Service) makeInterface(plan *interfacePlan, tags map[string]string) (*netInterface, error) {
	n := plan.subnet
	made := &netInterface{thing: s.newThing(kindInterface, tags), subnet: n, address: plan.address, secondary: slices.Clone(plan.secondary),
		ipv6: slices.Clone(plan.ipv6), groups: plan.groups, typ: plan.typ, description: plan.description, mtu: jumboMTU, conntrack: plan.conntrack}
	if n.cidr.IsValid() {
		taken := map[netip.Addr]bool{}
		for _, a := range append(slices.Clone(plan.secondary), plan.address) {
			taken[a] = true
		}
		need := plan.moreIPv4
		if !made.address.IsValid() {
			need++
		}
		free, err := s.freeAddresses(n, need, taken)
		if err != nil {
			return nil, err
		}
		if !made.address.IsValid() {
			made.address, free = free[0], free[1:]
		}
		made.secondary = append(made.secondary, free...)
	}
	for range plan.moreIPv6 {
		a, err := s.nextIPv6(n)
		if err != nil {
			return nil, err
		}
		made.ipv6 = append(made.ipv6, a)
	}
	if plan.public {
		made.public = fmt.Sprintf("203.0.113.%d", made.serial%254+1) // RFC 5737: for examples
	}
	s.add(made)
	return made, nil
}

func (s *Service) createNetworkInterface(r *request) (map[string]any, error) {
	return s.once(r, "", func() (func() (map[string]any, error), error) {
		n, err := find[*subnet](s, kindSubnet, r.str("SubnetId"))
		if err != nil {
			return nil, err
		}
		tags, err := r.tagsFor(kindInterface)
		if err != nil {
			return nil, err
		}
		plan, err := s.planInterface(r.params, n, r.strs("Groups"))
		if err != nil {
			return nil, err
		}
		plan.public = false
		made, err := s.makeInterface(plan, tags)
		if err != nil {
			return nil, err
		}
		result := map[string]any{"NetworkInterface": s.showInterface(made)}
		set(result, "ClientToken", r.str("ClientToken"))
		return always(result), nil
	})
}

func (s *Service) deleteNetworkInterface(r *request) (map[string]any, error) {
	e, err := find[*netInterface](s, kindInterface, r.str("NetworkInterfaceId"))
	if err != nil {
		return nil, err
	}
	if e.requesterManaged {
		return nil, apiError("OperationNotPermitted", "You are not allowed to manage '%s' interfaces.", e.typ)
	}
	if e.attachment != nil {
		return nil, invalidValue("Network interface '%s' is currently in use.", e.id)
	}
	s.dropInterface(e)
	return nil, nil
}

func (s *Service) privateDNS(a netip.Addr) string {
	return "ip-" + strings.ReplaceAll(a.String(), ".", "-") + "." + s.cfg.Region + ".compute.internal"
}

func (e *netInterface) mac() string {
	hex := fmt.Sprintf("%010x", e.serial*0x9e3779b97f4a7c15>>24)
	return fmt.Sprintf("02:%s:%s:%s:%s:%s", hex[0:2], hex[2:4], hex[4:6], hex[6:8], hex[8:10])
}

// MAC returns an interface's hardware address.
func (s *Service) MAC(id string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.all[id].(*netInterface)
	if !ok {
		return ""
	}
	return e.mac()
}

// showCommon is what DescribeInstances and DescribeNetworkInterfaces both say.
func (s *Service) showCommon(e *netInterface) map[string]any {
	m := map[string]any{"NetworkInterfaceId": e.id, "SubnetId": e.subnet.id, "VpcId": e.subnet.vpc.id, "OwnerId": s.cfg.Account,
		"InterfaceType": e.typ, "Description": e.description, "MacAddress": e.mac(), "SourceDestCheck": e.typ != "natGateway", "Status": "available"}
	if e.attachment != nil {
		m["Status"] = "in-use"
	}
	var groups, addresses, v6 []any
	for _, id := range e.groups {
		group := map[string]any{"GroupId": id}
		if g, ok := s.all[id].(*securityGroup); ok {
			group["GroupName"] = g.name
		}
		groups = append(groups, group)
	}
	for i, a := range e.addresses() {
		address := map[string]any{"PrivateIpAddress": a.String(), "Primary": i == 0, "PrivateDnsName": s.privateDNS(a)}
		if i == 0 {
			m["PrivateIpAddress"], m["PrivateDnsName"] = a.String(), s.privateDNS(a)
			if e.public != "" {
				address["Association"] = map[string]any{"PublicIp": e.public, "IpOwnerId": "amazon"}
				m["Association"] = address["Association"]
			}
		}
		addresses = append(addresses, address)
	}
	for _, a := range e.ipv6 {
		v6 = append(v6, map[string]any{"Ipv6Address": a.String()})
	}
	m["Groups"], m["PrivateIpAddresses"], m["Ipv6Addresses"] = groups, addresses, v6
	if e.conntrack != (Conntrack{}) {
		m["ConnectionTrackingConfiguration"] = e.conntrack.show()
	}
	return m
}

func (s *Service) showInterface(e *netInterface) map[string]any {
	m := s.showCommon(e)
	maps.Copy(m, map[string]any{"AvailabilityZone": e.subnet.zone, "AvailabilityZoneId": s.zoneID(e.subnet.zone),
		"RequesterManaged": e.requesterManaged, "TagSet": tagList(e.tags)})
	set(m, "RequesterId", e.requesterID)
	if len(e.ipv6) > 0 {
		m["Ipv6Address"] = e.ipv6[0].String()
	}
	if a := e.attachment; a != nil {
		shown := map[string]any{"AttachmentId": a.id, "DeviceIndex": a.device, "NetworkCardIndex": a.card, "Status": "attached", "AttachTime": a.at,
			"DeleteOnTermination": a.deleteOnTermination, "InstanceOwnerId": a.ownerID}
		set(shown, "InstanceId", a.instanceID)
		m["Attachment"] = shown
	}
	return m
}

func (s *Service) describeNetworkInterfaces(r *request) (map[string]any, error) {
	return r.list(viewsOf(s, s.showInterface), listing{kind: kindInterface, ids: "NetworkInterfaceIds", out: "NetworkInterfaces", tags: "TagSet",
		idsOrPages: true, filters: map[string]string{
			"association.allocation-id": "Association.AllocationId", "association.association-id": "Association.AssociationId",
			"association.ip-owner-id": "Association.IpOwnerId", "association.public-ip": "Association.PublicIp",
			"association.public-dns-name":    "Association.PublicDnsName",
			"addresses.association.owner-id": "PrivateIpAddresses.Association.IpOwnerId", "addresses.association.public-ip": "PrivateIpAddresses.Association.PublicIp",
			"addresses.primary": "PrivateIpAddresses.Primary", "addresses.private-ip-address": "PrivateIpAddresses.PrivateIpAddress",
			"attachment.attach-time": "Attachment.AttachTime", "attachment.attachment-id": "Attachment.AttachmentId",
			"attachment.delete-on-termination": "Attachment.DeleteOnTermination", "attachment.device-index": "Attachment.DeviceIndex",
			"attachment.instance-id": "Attachment.InstanceId", "attachment.instance-owner-id": "Attachment.InstanceOwnerId", "attachment.status": "Attachment.Status",
			"availability-zone": "AvailabilityZone", "availability-zone-id": "AvailabilityZoneId", "description": "Description",
			"group-id": "Groups.GroupId", "group-name": "Groups.GroupName", "ipv6-addresses.ipv6-address": "Ipv6Addresses.Ipv6Address",
			"interface-type": "InterfaceType", "mac-address": "MacAddress", "network-interface-id": "NetworkInterfaceId", "owner-id": "OwnerId",
			"operator.managed": "Operator.Managed", "operator.principal": "Operator.Principal",
			"private-dns-name": "PrivateDnsName", "private-ip-address": "PrivateIpAddress", "requester-id": "RequesterId",
			"requester-managed": "RequesterManaged", "source-dest-check": "SourceDestCheck", "status": "Status", "subnet-id": "SubnetId", "vpc-id": "VpcId"}})
}
