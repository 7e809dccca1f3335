package ec2

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// route is a VPC with a suspect in one subnet and a collector in another, whose group lets the copies in.
type route struct {
	*land
	session         string
	collector       string // interface
	group           string // the collector's
	sources, target string // subnets
	lost            Loss
	told            int
}

func newRoute(t *testing.T, sameSubnet bool) *route {
	t.Helper()
	r := &route{}
	r.land = newLand(t, Config{Hooks: Hooks{Mirrors: func(list []MirrorSession) {
		r.told++
		r.lost = Loss{}
		for _, m := range list {
			r.lost = m.Lost
		}
	}}})
	r.sources, r.target = r.subnet, r.other
	if sameSubnet {
		r.target = r.subnet
	}
	r.group = r.AddSecurityGroup(SecurityGroup{VPC: r.vpc, Name: "collector"})
	source, _ := r.Interface(r.source)
	r.AddGroupRule(r.group, GroupRule{Protocol: "udp", From: 4789, To: 4789, CIDR: source.Address.String() + "/32"})
	host := r.AddInstance(InstanceSeed{Type: "c7gn.large", Interfaces: []InterfaceSeed{{Subnet: r.target, Groups: []string{r.group}}}})
	known, _ := r.Instance(host)
	r.collector = known.Interfaces[0].ID
	made, err := r.land.session(r.source, r.land.target(r.collector), r.filter(), 1)
	r.must(err)
	r.session = *made.TrafficMirrorSessionId
	r.equal("lost at first", r.lost, Loss{})
	return r
}

// Whatever the network does to copies, the session looks the same, and the hook is told at once.
func TestCopiesObeyTheNetwork(t *testing.T) {
	entry := func(number int, egress, deny bool, protocol int, cidr string, from, to int) ACLEntry {
		return ACLEntry{Number: number, Egress: egress, Deny: deny, Protocol: protocol, CIDR: cidr, From: from, To: to}
	}
	everything := allowAll()
	for _, row := range []struct {
		reason string
		same   bool // the collector is in the source's subnet
		change func(*route)
		cause  LossCause
	}{
		{"nothing is in the way", false, func(*route) {}, ""},
		{"the group's rule is gone", false, func(r *route) { r.RemoveGroupRules(r.group, false) }, LostToSecurityGroup},
		{"also within a subnet", true, func(r *route) { r.RemoveGroupRules(r.group, false) }, LostToSecurityGroup},
		{"the collector has another group", false, func(r *route) { r.SetGroups(r.collector, r.AddSecurityGroup(SecurityGroup{VPC: r.vpc, Name: "other"})) }, LostToSecurityGroup},
		{"the rule is for another source", false, func(r *route) {
			r.RemoveGroupRules(r.group, false)
			r.AddGroupRule(r.group, GroupRule{Protocol: "udp", From: 4789, To: 4789, CIDR: "192.0.2.1/32"})
		}, LostToSecurityGroup},
		{"the rule is for TCP", false, func(r *route) {
			r.RemoveGroupRules(r.group, false)
			r.AddGroupRule(r.group, GroupRule{Protocol: "tcp", From: 4789, To: 4789, CIDR: "0.0.0.0/0"})
		}, LostToSecurityGroup},
		{"the rule is for another port", false, func(r *route) {
			r.RemoveGroupRules(r.group, false)
			r.AddGroupRule(r.group, GroupRule{Protocol: "udp", From: 4790, To: 4800, CIDR: "0.0.0.0/0"})
		}, LostToSecurityGroup},
		{"the rule names the source's group", false, func(r *route) {
			r.RemoveGroupRules(r.group, false)
			source, _ := r.Interface(r.source)
			r.AddGroupRule(r.group, GroupRule{Protocol: "-1", Group: source.Groups[0]})
		}, LostToSecurityGroup},
		{"a rule for everything", false, func(r *route) {
			r.RemoveGroupRules(r.group, false)
			r.AddGroupRule(r.group, GroupRule{Protocol: "-1", CIDR: "127.20.0.0/16"})
		}, ""},
		{"the source may send nothing by its own groups", false, func(r *route) {
			source, _ := r.Interface(r.source)
			r.RemoveGroupRules(source.Groups[0], true)
		}, ""},
		{"the source's subnet lets nothing out", false, func(r *route) {
			r.AddNetworkACL(NetworkACL{VPC: r.vpc, Subnets: []string{r.sources}, Entries: []ACLEntry{everything[0]}})
		}, LostToNetworkACL},
		{"the source's subnet lets nothing in", false, func(r *route) {
			r.AddNetworkACL(NetworkACL{VPC: r.vpc, Subnets: []string{r.sources}, Entries: []ACLEntry{everything[1]}})
		}, ""},
		{"the collector's subnet lets nothing in", false, func(r *route) {
			r.AddNetworkACL(NetworkACL{VPC: r.vpc, Subnets: []string{r.target}, Entries: []ACLEntry{everything[1]}})
		}, LostToNetworkACL},
		{"the collector's subnet denies before it allows", false, func(r *route) {
			r.AddACLEntry(r.NetworkACLOf(r.target), entry(50, false, true, 17, "127.20.1.0/24", 4000, 5000))
		}, LostToNetworkACL},
		{"the denial comes later", false, func(r *route) {
			r.AddACLEntry(r.NetworkACLOf(r.target), entry(150, false, true, 17, "127.20.1.0/24", 4000, 5000))
		}, ""},
		{"the denial is for other ports", false, func(r *route) {
			r.AddACLEntry(r.NetworkACLOf(r.target), entry(50, false, true, 17, "127.20.1.0/24", 53, 53))
		}, ""},
		{"the denial is for TCP", false, func(r *route) {
			r.AddACLEntry(r.NetworkACLOf(r.target), entry(50, false, true, 6, "0.0.0.0/0", 0, 65535))
		}, ""},
		{"within a subnet no ACL is asked", true, func(r *route) { r.SetACLEntries(r.NetworkACLOf(r.sources)) }, ""},
		{"a more specific route leads elsewhere", false, func(r *route) {
			r.AddRoute(r.RouteTableOf(r.sources), Route{Destination: "127.20.2.0/24", Target: "eni-0123456789abcdef0"})
		}, LostToRoute},
		{"a more specific route is a blackhole", false, func(r *route) {
			r.AddRoute(r.RouteTableOf(r.sources), Route{Destination: "127.20.2.0/24", Target: "pcx-0123456789abcdef0", Blackhole: true})
		}, LostToRoute},
		{"a more specific route is for other addresses", false, func(r *route) {
			r.AddRoute(r.RouteTableOf(r.sources), Route{Destination: "127.20.3.0/24", Target: "pcx-0123456789abcdef0", Blackhole: true})
		}, ""},
		{"a default route is less specific", false, func(r *route) {
			r.AddRoute(r.RouteTableOf(r.sources), Route{Destination: "0.0.0.0/0", Target: "nat-0123456789abcdef0"})
		}, ""},
		{"the route is in the collector's table only", false, func(r *route) {
			r.AddRouteTable(RouteTable{VPC: r.vpc, Subnets: []string{r.target}, Routes: []Route{{Destination: "127.20.1.0/24", Target: "eni-0123456789abcdef0"}}})
		}, ""},
		{"the source is stopped", false, func(r *route) { r.StopSuspect(r.host) }, LostAtSource},
		{"the source is of another type", false, func(r *route) { r.ChangeType(r.host, "m8g.large") }, LostAtSource},
		{"the source is detached", false, func(r *route) { r.MoveInterface(r.source, "") }, LostAtSource},
	} {
		t.Run(row.reason, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRoute(t, row.same)
				row.change(r)
				synctest.Wait()
				r.equal("the cause", r.lost.Cause, row.cause)
				if (r.lost.By != "") != (row.cause != "") {
					t.Errorf("lost by %q", r.lost.By)
				}
				out, err := r.describeSession()
				r.must(err)
				r.equal("sessions described", out, 1)
			})
		})
	}
}

func (r *route) describeSession() (int, error) {
	out, err := r.api.DescribeTrafficMirrorSessions(ctx, nil)
	if err != nil {
		return 0, err
	}
	return len(out.TrafficMirrorSessions), nil
}

// What is mended carries copies again.
func TestCopiesFlowAgainWhenTheNetworkIsMended(t *testing.T) {
	r := newRoute(t, false)
	acl := r.NetworkACLOf(r.target)
	r.AddACLEntry(acl, ACLEntry{Number: 50, Deny: true, Protocol: -1, CIDR: "0.0.0.0/0"})
	r.equal("lost", r.lost, Loss{LostToNetworkACL, acl})
	r.RemoveACLEntry(acl, 50, false)
	r.equal("mended", r.lost, Loss{})
	table := r.RouteTableOf(r.sources)
	r.AddRoute(table, Route{Destination: "127.20.2.0/24", Target: "eni-0123456789abcdef0"})
	r.equal("lost", r.lost, Loss{LostToRoute, table})
	r.RemoveRoute(table, "127.20.2.0/24")
	r.equal("mended", r.lost, Loss{})
}

// Between VPCs a peering connection or a transit gateway carries copies, a local route does not.
func TestCopiesToAnotherVPC(t *testing.T) {
	for _, row := range []struct {
		reason string
		route  Route
		cause  LossCause
	}{
		{"no route", Route{}, LostToRoute},
		{"a peering connection", Route{Destination: "127.30.0.0/16", Target: "pcx-0123456789abcdef0"}, ""},
		{"a transit gateway", Route{Destination: "127.0.0.0/8", Target: "tgw-0123456789abcdef0"}, ""},
		{"a peering connection that is gone", Route{Destination: "127.30.0.0/16", Target: "pcx-0123456789abcdef0", Blackhole: true}, LostToRoute},
		{"an internet gateway", Route{Destination: "0.0.0.0/0", Target: "igw-0123456789abcdef0"}, LostToRoute},
	} {
		t.Run(row.reason, func(t *testing.T) {
			l := newLand(t, Config{})
			far := l.AddSubnet(Subnet{VPC: l.AddVPC(VPC{CIDR: "127.30.0.0/16"}), CIDR: "127.30.1.0/24"})
			known, _ := l.Instance(l.AddInstance(InstanceSeed{Type: "c7gn.large", Interfaces: []InterfaceSeed{{Subnet: far}}}))
			l.AddGroupRule(known.Interfaces[0].Groups[0], GroupRule{Protocol: "udp", From: 4789, To: 4789, CIDR: "127.20.0.0/16"})
			if row.route.Target != "" {
				l.AddRoute(l.RouteTableOf(l.subnet), row.route)
			}
			_, err := l.session(l.source, l.target(known.Interfaces[0].ID), l.filter(), 1)
			l.must(err)
			l.equal("the cause", l.MirrorSessions()[0].Lost.Cause, row.cause)
		})
	}
}

// Over IPv6 the rules and entries for IPv6 count.
func TestCopiesOverIPv6(t *testing.T) {
	l := newLand(t, Config{OuterIPv6: true})
	source, _ := l.Interface(l.source)
	l.SetAddresses(l.source, nil, []string{"2001:db8::10"})
	eni := l.AddInterface(InterfaceSeed{Subnet: l.other, IPv6: []string{"2001:db8:0:1::20"}, Groups: []string{l.AddSecurityGroup(SecurityGroup{VPC: l.vpc, Name: "collector"})}})
	known, _ := l.Interface(eni)
	_, err := l.session(l.source, l.target(eni), l.filter(), 1)
	l.must(err)
	lost := func() LossCause { return l.MirrorSessions()[0].Lost.Cause }
	l.AddGroupRule(known.Groups[0], GroupRule{Protocol: "udp", From: 4789, To: 4789, CIDR: source.Address.String() + "/32"})
	l.equal("with a rule for IPv4", lost(), LostToSecurityGroup)
	l.AddGroupRule(known.Groups[0], GroupRule{Protocol: "udp", From: 4789, To: 4789, CIDR6: "2001:db8::10/128"})
	l.equal("with a rule for IPv6", lost(), LossCause(""))
	l.AddACLEntry(l.NetworkACLOf(l.subnet), ACLEntry{Number: 1, Egress: true, Deny: true, Protocol: 17, CIDR: "0.0.0.0/0", From: 0, To: 65535})
	l.equal("with an entry for IPv4", lost(), LossCause(""))
	l.AddACLEntry(l.NetworkACLOf(l.subnet), ACLEntry{Number: 2, Egress: true, Deny: true, Protocol: 17, CIDR: "::/0", From: 0, To: 65535})
	l.equal("with an entry for IPv6", lost(), LostToNetworkACL)
	if !known.IPv6[0].Is6() || known.IPv6[0] != netip.MustParseAddr("2001:db8:0:1::20") {
		t.Errorf("the collector has %v", known.IPv6)
	}
}

// A subnet has one network ACL and one route table: a new one takes the place of the old one.
func TestASubnetHasOneListAndOneTable(t *testing.T) {
	l := newLand(t, Config{})
	first := l.AddNetworkACL(NetworkACL{VPC: l.vpc, Subnets: []string{l.subnet}})
	l.equal("the ACL", l.NetworkACLOf(l.subnet), first)
	second := l.AddNetworkACL(NetworkACL{VPC: l.vpc, Subnets: []string{l.subnet}, Entries: allowAll()})
	l.equal("the ACL", l.NetworkACLOf(l.subnet), second)
	one := l.AddRouteTable(RouteTable{VPC: l.vpc, Subnets: []string{l.subnet}})
	two := l.AddRouteTable(RouteTable{VPC: l.vpc, Subnets: []string{l.subnet}})
	l.equal("the table", []string{l.RouteTableOf(l.subnet), l.RouteTableOf(l.other)}, []string{two, l.MainRouteTable(l.vpc)})
	out, err := l.api.DescribeRouteTables(ctx, nil)
	l.must(err)
	for _, table := range out.RouteTables {
		if *table.RouteTableId == one && len(table.Associations) > 0 {
			t.Errorf("the first table still has %d subnets", len(table.Associations))
		}
	}
}

// A stopped instance starts again, and is another launch in its own eyes.
func TestStopAndStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, Config{Pending: time.Second, Stopping: time.Second})
		_, err := l.session(l.source, l.target(l.collectorInterface("c7gn.large")), l.filter(), 1)
		l.must(err)
		before, _ := l.Instance(l.host)
		l.StopSuspect(l.host)
		l.equal("state", l.state(l.host), "stopping")
		l.equal("sessions that mirror", len(l.MirrorSessions()), 0)
		time.Sleep(2 * time.Second)
		l.equal("state", l.state(l.host), "stopped")
		l.StartSuspect(l.host)
		l.equal("state", l.state(l.host), "pending")
		time.Sleep(2 * time.Second)
		l.equal("state", l.state(l.host), "running")
		l.equal("sessions that mirror", len(l.MirrorSessions()), 1)
		after, _ := l.Instance(l.host)
		if !after.LaunchedAt.After(before.LaunchedAt) {
			t.Error("launched at the same time as before")
		}
	})
}
