package path

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

var (
	source    = netip.MustParsePrefix("10.0.1.10/32")
	collector = netip.MustParsePrefix("10.0.2.0/24")
	anywhere  = netip.MustParsePrefix("0.0.0.0/0")
)

// rule is a short way to write a rule of an ACL.
func rule(number int32, egress bool, action types.RuleAction, protocol, cidr string, ports ...int32) types.NetworkAclEntry {
	e := types.NetworkAclEntry{RuleNumber: &number, Egress: &egress, RuleAction: action, Protocol: &protocol}
	if strings.Contains(cidr, ":") {
		e.Ipv6CidrBlock = &cidr
	} else {
		e.CidrBlock = &cidr
	}
	if len(ports) == 2 {
		e.PortRange = &types.PortRange{From: &ports[0], To: &ports[1]}
	}
	return e
}

func TestACLVerdict(t *testing.T) {
	const allow, deny = types.RuleActionAllow, types.RuleActionDeny
	copies := Copies(source, collector)
	someICMP := rule(1, true, allow, "1", "0.0.0.0/0")
	someICMP.IcmpTypeCode = &types.IcmpTypeCode{Type: aws.Int32(8), Code: aws.Int32(-1)}
	icmp := Flow{Protocol: 1, From: source, To: collector}
	for name, row := range map[string]struct {
		egress  bool
		flow    Flow
		rules   []types.NetworkAclEntry
		allowed bool
		rule    int32
	}{
		"an ACL without rules denies":              {true, copies, nil, false, ImpliedRule},
		"the default ACL allows":                   {true, copies, []types.NetworkAclEntry{rule(100, true, allow, "-1", "0.0.0.0/0"), rule(ImpliedRule, true, deny, "-1", "0.0.0.0/0")}, true, 100},
		"the lowest number decides, not the order": {true, copies, []types.NetworkAclEntry{rule(100, true, allow, "-1", "0.0.0.0/0"), rule(90, true, deny, "17", "10.0.0.0/16")}, false, 90},
		"a later denial does not matter":           {true, copies, []types.NetworkAclEntry{rule(90, true, allow, "17", "10.0.2.0/24"), rule(100, true, deny, "-1", "0.0.0.0/0")}, true, 90},
		"rules of the other direction are silent":  {true, copies, []types.NetworkAclEntry{rule(90, false, allow, "-1", "0.0.0.0/0")}, false, ImpliedRule},
		"another protocol is not ours":             {true, copies, []types.NetworkAclEntry{rule(90, true, allow, "6", "0.0.0.0/0")}, false, ImpliedRule},
		"a denial of another protocol neither":     {true, copies, []types.NetworkAclEntry{rule(80, true, deny, "6", "0.0.0.0/0"), rule(90, true, allow, "-1", "0.0.0.0/0")}, true, 90},
		"IPv6 rules say nothing about IPv4":        {true, copies, []types.NetworkAclEntry{rule(90, true, allow, "-1", "::/0")}, false, ImpliedRule},
		"the port is within the range":             {true, copies, []types.NetworkAclEntry{rule(90, true, allow, "17", "0.0.0.0/0", 4000, 4789)}, true, 90},
		"the port is beside the range":             {true, copies, []types.NetworkAclEntry{rule(90, true, allow, "17", "0.0.0.0/0", 4790, 65535)}, false, ImpliedRule},
		"a denial of a part of the subnet denies":  {true, copies, []types.NetworkAclEntry{rule(80, true, deny, "17", "10.0.2.128/25"), rule(90, true, allow, "-1", "0.0.0.0/0")}, false, 80},
		"two halves are the whole":                 {true, copies, []types.NetworkAclEntry{rule(80, true, allow, "17", "10.0.2.128/25"), rule(90, true, allow, "17", "10.0.2.0/25")}, true, 90},
		"one half is not":                          {true, copies, []types.NetworkAclEntry{rule(80, true, allow, "17", "10.0.2.128/25")}, false, ImpliedRule},
		"ingress looks at the sender":              {false, copies, []types.NetworkAclEntry{rule(80, false, allow, "17", "10.0.1.10/32")}, true, 80},
		"ingress from another":                     {false, copies, []types.NetworkAclEntry{rule(80, false, allow, "17", "10.0.1.11/32")}, false, ImpliedRule},
		"answers need all ephemeral ports of the collector": {false, Uploads(collector, anywhere).Answers(),
			[]types.NetworkAclEntry{rule(80, false, allow, "6", "0.0.0.0/0", 32769, 65535)}, false, ImpliedRule},
		"up to the last": {false, Uploads(collector, anywhere).Answers(),
			[]types.NetworkAclEntry{rule(80, false, allow, "6", "0.0.0.0/0", 1024, 60998)}, false, ImpliedRule},
		"answers have just them": {false, Uploads(collector, anywhere).Answers(),
			[]types.NetworkAclEntry{rule(80, false, allow, "6", "0.0.0.0/0", 32768, 60999)}, true, 80},
		"answers have those of every Linux": {false, Uploads(collector, anywhere).Answers(),
			[]types.NetworkAclEntry{rule(80, false, allow, "6", "0.0.0.0/0", 32768, 65535)}, true, 80},
		"answers have those of every system": {false, Uploads(collector, anywhere).Answers(),
			[]types.NetworkAclEntry{rule(80, false, allow, "6", "0.0.0.0/0", 1024, 65535)}, true, 80},
		"some messages of ICMP are not ICMP": {true, icmp, []types.NetworkAclEntry{someICMP}, false, ImpliedRule},
		"all protocols need a rule for all": {true, Flow{Protocol: AnyProtocol, From: source, To: collector},
			[]types.NetworkAclEntry{rule(80, true, allow, "6", "0.0.0.0/0"), rule(90, true, allow, "17", "0.0.0.0/0")}, false, ImpliedRule},
		"a rule that can't be read allows nothing": {true, copies, []types.NetworkAclEntry{rule(80, true, allow, "udp", "0.0.0.0/0")}, false, ImpliedRule},
	} {
		if allowed, number := ACLVerdict(&types.NetworkAcl{Entries: row.rules}, row.egress, row.flow); allowed != row.allowed || number != row.rule {
			t.Errorf("%s: %v by rule %d", name, allowed, number)
		}
	}
}

func TestACLCloses(t *testing.T) {
	const allow, deny = types.RuleActionAllow, types.RuleActionDeny
	for name, row := range map[string]struct {
		rules []types.NetworkAclEntry
		want  bool
	}{
		"no rule":                              {nil, true},
		"everything denied first":              {[]types.NetworkAclEntry{rule(1, true, deny, "-1", "0.0.0.0/0"), rule(100, true, allow, "-1", "0.0.0.0/0")}, true},
		"denied too late":                      {[]types.NetworkAclEntry{rule(1, true, allow, "6", "10.0.0.0/8", 443, 443), rule(2, true, deny, "-1", "0.0.0.0/0")}, false},
		"a way is left for IPv6":               {[]types.NetworkAclEntry{rule(1, true, deny, "-1", "0.0.0.0/0"), rule(2, true, allow, "-1", "::/0")}, false},
		"what is allowed was denied piecewise": {[]types.NetworkAclEntry{rule(1, true, deny, "6", "0.0.0.0/1"), rule(2, true, deny, "6", "128.0.0.0/1"), rule(3, true, allow, "6", "0.0.0.0/0", 80, 80)}, true},
	} {
		if got := ACLCloses(&types.NetworkAcl{Entries: row.rules}, true); got != row.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestACLPacketByPacket compares verdicts over whole flows with reading the rules for every single packet of them.
func TestACLPacketByPacket(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	prefixes := []string{"0.0.0.0/0", "10.0.2.0/24", "10.0.2.0/29", "10.0.2.4/30", "10.0.2.6/32"}
	protocols := []string{"-1", "6", "17"}
	cases := [2]int{}
	for range 20000 {
		var acl types.NetworkAcl
		for range random.IntN(5) {
			action := types.RuleActionAllow
			if random.IntN(3) == 0 {
				action = types.RuleActionDeny
			}
			first := int32(random.IntN(6))
			acl.Entries = append(acl.Entries, rule(int32(random.IntN(100)), true, action, protocols[random.IntN(3)], prefixes[random.IntN(len(prefixes))],
				first, first+int32(random.IntN(6))))
		}
		seen := map[int32]bool{}
		for _, e := range acl.Entries {
			if seen[*e.RuleNumber] {
				acl.Entries = nil // numbers are unique
			} else {
				seen[*e.RuleNumber] = true
			}
		}
		first := int32(1 + random.IntN(6))
		f := Flow{Protocol: 17, From: source, To: netip.MustParsePrefix("10.0.2.0/29"), ToPorts: PortRange{first, first + int32(random.IntN(3))}}
		want := true
		for a := f.To.Addr(); f.To.Contains(a); a = a.Next() {
			for port := f.ToPorts.First; port <= f.ToPorts.Last; port++ {
				want = want && packetPasses(acl, a, port)
			}
		}
		got, by := ACLVerdict(&acl, true, f)
		if got != want {
			t.Fatalf("%v by rule %d, packet by packet %v: %s through %+v", got, by, want, f, acl.Entries)
		}
		if got {
			cases[1]++
		} else {
			cases[0]++
		}
	}
	if cases[0] < 1000 || cases[1] < 1000 {
		t.Errorf("one answer is too rare to prove anything: %v", cases)
	}
}

func packetPasses(acl types.NetworkAcl, to netip.Addr, port int32) bool {
	var decider *types.NetworkAclEntry
	for i, e := range acl.Entries {
		ports := *e.Protocol == "-1" || *e.PortRange.From <= port && port <= *e.PortRange.To
		if (*e.Protocol == "17" || *e.Protocol == "-1") && ports && netip.MustParsePrefix(*e.CidrBlock).Contains(to) &&
			(decider == nil || *e.RuleNumber < *decider.RuleNumber) {
			decider = &acl.Entries[i]
		}
	}
	return decider != nil && decider.RuleAction == types.RuleActionAllow
}

func permission(protocol string, first, last int32, cidrs ...string) types.IpPermission {
	p := types.IpPermission{IpProtocol: &protocol, FromPort: &first, ToPort: &last}
	for _, c := range cidrs {
		if strings.Contains(c, ":") {
			p.Ipv6Ranges = append(p.Ipv6Ranges, types.Ipv6Range{CidrIpv6: &c})
		} else {
			p.IpRanges = append(p.IpRanges, types.IpRange{CidrIp: &c})
		}
	}
	return p
}

func TestGroupsAdmit(t *testing.T) {
	copies := Copies(source, collector)
	byGroup := permission("udp", 4789, 4789)
	byGroup.UserIdGroupPairs = []types.UserIdGroupPair{{GroupId: aws.String("sg-friends")}}
	byList := permission("tcp", 443, 443)
	byList.PrefixListIds = []types.PrefixListId{{PrefixListId: aws.String("pl-s3")}}
	everything := types.IpPermission{IpProtocol: aws.String("-1"), IpRanges: []types.IpRange{{CidrIp: aws.String("0.0.0.0/0")}}}
	for name, row := range map[string]struct {
		ingress  bool
		flow     Flow
		rules    []types.IpPermission
		want     bool
		why      string
		unproven int
	}{
		"the rule that launch makes":      {true, copies, []types.IpPermission{permission("udp", 4789, 4789, "10.0.1.10/32")}, true, "sg-1", 0},
		"no rule":                         {true, copies, nil, false, "no rule of sg-1 admits UDP from 10.0.1.10/32 to 10.0.2.0/24 port 4789", 0},
		"another sender":                  {true, copies, []types.IpPermission{permission("udp", 4789, 4789, "10.0.1.11/32")}, false, "no rule", 0},
		"another protocol":                {true, copies, []types.IpPermission{permission("tcp", 4789, 4789, "0.0.0.0/0")}, false, "no rule", 0},
		"the protocol by number":          {true, copies, []types.IpPermission{permission("17", 4789, 4789, "0.0.0.0/0")}, true, "", 0},
		"another port":                    {true, copies, []types.IpPermission{permission("udp", 4790, 4790, "0.0.0.0/0")}, false, "no rule", 0},
		"all protocols have no ports":     {true, copies, []types.IpPermission{everything}, true, "", 0},
		"two rules share the flow":        {false, copies, []types.IpPermission{permission("udp", 0, 65535, "10.0.2.0/25"), permission("udp", 4789, 4789, "10.0.2.128/25")}, true, "", 0},
		"half of the flow is not enough":  {false, copies, []types.IpPermission{permission("udp", 4789, 4789, "10.0.2.0/25")}, false, "no rule", 0},
		"IPv6 is another family":          {true, copies, []types.IpPermission{permission("udp", 4789, 4789, "::/0")}, false, "no rule", 0},
		"who is in a group is not known":  {true, copies, []types.IpPermission{byGroup}, false, "sg-friends was not looked up", 1},
		"a list about other ports is out": {true, copies, []types.IpPermission{byList}, false, "no rule", 0},
		"S3 by its list":                  {false, Uploads(collector, anywhere), []types.IpPermission{byList}, false, "pl-s3 was not looked up", 1},
		"a way by address beside a list":  {false, Uploads(collector, anywhere), []types.IpPermission{byList, permission("tcp", 443, 443, "0.0.0.0/0")}, true, "", 0},
	} {
		g := types.SecurityGroup{GroupId: aws.String("sg-1")}
		if row.ingress {
			g.IpPermissions = row.rules
		} else {
			g.IpPermissionsEgress = row.rules
		}
		a := GroupsAdmit([]types.SecurityGroup{g}, row.ingress, row.flow)
		if a.Admitted != row.want || !strings.Contains(a.Why, row.why) || len(a.Unproven) != row.unproven {
			t.Errorf("%s: %+v", name, a)
		}
	}
	if a := GroupsAdmit(nil, true, copies); a.Admitted || a.Why == "" {
		t.Errorf("without any group: %+v", a)
	}
	shared := []types.SecurityGroup{
		{GroupId: aws.String("sg-1"), IpPermissionsEgress: []types.IpPermission{permission("udp", 4789, 4789, "10.0.2.0/25")}},
		{GroupId: aws.String("sg-2"), IpPermissionsEgress: []types.IpPermission{permission("udp", 4789, 4789, "10.0.2.128/25")}}}
	if a := GroupsAdmit(shared, false, copies); !a.Admitted {
		t.Errorf("two groups share the flow: %+v", a)
	}
}

func TestGroupsClose(t *testing.T) {
	open := types.SecurityGroup{IpPermissions: []types.IpPermission{permission("tcp", 22, 22, "10.0.0.0/8")}}
	byGroup := types.SecurityGroup{IpPermissions: []types.IpPermission{{IpProtocol: aws.String("-1"), UserIdGroupPairs: []types.UserIdGroupPair{{GroupId: aws.String("sg-1")}}}}}
	for name, row := range map[string]struct {
		groups []types.SecurityGroup
		want   bool
	}{
		"a group without rules":       {[]types.SecurityGroup{{}}, true},
		"one of two is open":          {[]types.SecurityGroup{{}, open}, false},
		"open to members of a group":  {[]types.SecurityGroup{byGroup}, false},
		"a rule that names nobody":    {[]types.SecurityGroup{{IpPermissions: []types.IpPermission{permission("tcp", 22, 22)}}}, true},
		"open in the other direction": {[]types.SecurityGroup{{IpPermissionsEgress: open.IpPermissions}}, true},
	} {
		if got := GroupsClose(row.groups, true); got != row.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestRoute(t *testing.T) {
	table := types.RouteTable{Routes: []types.Route{
		{DestinationCidrBlock: aws.String("10.0.0.0/16"), GatewayId: aws.String("local"), State: types.RouteStateActive},
		{DestinationCidrBlock: aws.String("10.0.2.0/24"), NetworkInterfaceId: aws.String("eni-firewall"), InstanceId: aws.String("i-1"), State: types.RouteStateBlackhole},
		{DestinationCidrBlock: aws.String("0.0.0.0/0"), NatGatewayId: aws.String("nat-1"), State: types.RouteStateActive},
		{DestinationCidrBlock: aws.String("172.16.0.0/12"), GatewayId: aws.String("vgw-1"), Origin: types.RouteOriginEnableVgwRoutePropagation},
		{DestinationCidrBlock: aws.String("172.16.0.0/12"), TransitGatewayId: aws.String("tgw-1"), Origin: types.RouteOriginCreateRoute},
		{DestinationPrefixListId: aws.String("pl-s3"), GatewayId: aws.String("vpce-1")},
		{DestinationIpv6CidrBlock: aws.String("::/0"), EgressOnlyInternetGatewayId: aws.String("eigw-1")},
	}}
	for to, want := range map[string]string{
		"10.0.1.5":    "local",
		"10.0.2.5":    "eni-firewall", // more specific than local
		"192.0.2.1":   "nat-1",
		"172.16.1.1":  "tgw-1", // static before propagated
		"2001:db8::1": "eigw-1",
	} {
		r, ok := RouteTo(&table, netip.MustParseAddr(to))
		if !ok || RouteTarget(r) != want {
			t.Errorf("to %s: %s, %v", to, RouteTarget(r), ok)
		}
		if (r.State == types.RouteStateBlackhole) != (to == "10.0.2.5") {
			t.Errorf("to %s: its state is %s", to, r.State)
		}
	}
	table.Routes = table.Routes[:2]
	if r, ok := RouteTo(&table, netip.MustParseAddr("192.0.2.1")); ok {
		t.Errorf("there is no route to 192.0.2.1: %+v", r)
	}
	if RouteTarget(types.Route{}) != "nothing" {
		t.Error("a route without a target leads nowhere")
	}
}

func TestTableAndACLOf(t *testing.T) {
	tables := []types.RouteTable{
		{RouteTableId: aws.String("rtb-main"), Associations: []types.RouteTableAssociation{{Main: aws.Bool(true)}}},
		{RouteTableId: aws.String("rtb-old"), Associations: []types.RouteTableAssociation{{SubnetId: aws.String("subnet-1"),
			AssociationState: &types.RouteTableAssociationState{State: types.RouteTableAssociationStateCodeDisassociated}}}},
		{RouteTableId: aws.String("rtb-own"), Associations: []types.RouteTableAssociation{{SubnetId: aws.String("subnet-1")}}}}
	for subnet, want := range map[string]string{"subnet-1": "rtb-own", "subnet-2": "rtb-main", "": "rtb-main"} {
		if table := RouteTableOf(subnet, tables); table == nil || *table.RouteTableId != want {
			t.Errorf("table of %q: %+v", subnet, table)
		}
	}
	if table := RouteTableOf("subnet-2", tables[1:]); table != nil {
		t.Errorf("there is no main table: %+v", table)
	}
	acls := []types.NetworkAcl{
		{NetworkAclId: aws.String("acl-1"), Associations: []types.NetworkAclAssociation{{SubnetId: aws.String("subnet-0")}}},
		{NetworkAclId: aws.String("acl-2"), Associations: []types.NetworkAclAssociation{{SubnetId: aws.String("subnet-1")}, {SubnetId: aws.String("subnet-2")}}}}
	if acl := ACLOf("subnet-2", acls); acl == nil || *acl.NetworkAclId != "acl-2" {
		t.Errorf("ACL of subnet-2: %+v", acl)
	}
	if acl := ACLOf("subnet-3", acls); acl != nil {
		t.Errorf("ACL of subnet-3: %+v", acl)
	}
}

// TestAdmitCopies: the rule admits the copies of its sources, and nothing beside.
func TestAdmitCopies(t *testing.T) {
	group := []types.SecurityGroup{{GroupId: aws.String("sg-1"), IpPermissions: []types.IpPermission{AdmitCopies([]string{"10.0.1.10", "2001:db8::10"})}}}
	six, near := netip.MustParsePrefix("2001:db8::10/128"), netip.MustParsePrefix("10.0.1.10/31")
	for name, row := range map[string]struct {
		flow Flow
		want bool
	}{
		"copies by IPv4": {Copies(source, collector), true},
		"copies by IPv6": {Copies(six, netip.MustParsePrefix("2001:db8:1::/64")), true},
		"the neighbour":  {Copies(near, collector), false},
		"another port":   {Flow{Protocol: udp, From: source, To: collector, ToPorts: Port(4788)}, false},
		"all ports":      {Flow{Protocol: udp, From: source, To: collector}, false},
		"HTTPS to it":    {Uploads(source, collector), false},
	} {
		if a := GroupsAdmit(group, true, row.flow); a.Admitted != row.want {
			t.Errorf("%s: %+v", name, a)
		}
	}
}
