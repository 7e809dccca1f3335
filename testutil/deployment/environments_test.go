package deployment_test

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"flashtap/events"
	"flashtap/testutil/deployment"
	"flashtap/testutil/iam"
	"flashtap/testutil/region"
	"flashtap/testutil/region/cloudwatch"
	"flashtap/testutil/region/ec2"
	"flashtap/testutil/region/kms"
	"flashtap/testutil/region/simulator"
)

// brokenEnvironments are the ways in which a capture can be wrong from the start.
func brokenEnvironments() []broken {
	var all []broken
	for _, rows := range [][]broken{suspects(), interfaces(), sessions(), filters(), networks(), places(), accounts(), findings()} {
		all = append(all, rows...)
	}
	return all
}

// peer adds an instance that the suspect talks to, and asks for that one.
func (x *site) peer() {
	x.request.InstanceID, x.request.NetworkInterfaceID = x.suspect(9, "m5.large", ec2.InterfaceSeed{})
}

func suspects() []broken {
	return []broken{
		{name: "the interface is gone", check: "NotMirrorable", result: refused, ends: "NotMirrorable",
			breaks: func(x *site) { x.request = events.Request{NetworkInterfaceID: x.id("eni", 99)} },
			remedy: (*site).takenOver},
		{name: "the instance is gone", check: "NotMirrorable", result: refused, ends: "NotMirrorable",
			breaks: func(x *site) { x.request = events.Request{InstanceID: x.id("i", 99)} },
			remedy: (*site).takenOver},
		{name: "the interface has moved to another instance", check: "NotMirrorable", result: refused, ends: "NotMirrorable",
			breaks: func(x *site) {
				other, _ := x.suspect(1, "m5.large", ec2.InterfaceSeed{})
				x.s.Region.EC2.MoveInterface(x.eni, other)
			},
			remedy: func(x *site) { x.request.InstanceID = "" }},
		{name: "the instance is stopped", check: "instance-state", result: events.Fail, ends: "NotMirrorable",
			breaks: func(x *site) { x.s.Region.EC2.StopSuspect(x.instance) },
			remedy: func(x *site) {
				x.carryOut(x.verdict.Remedy)
				x.running(x.instance)
			}},
		{name: "the instance is being terminated", check: "instance-state", result: events.Fail, ends: "NotMirrorable",
			breaks: func(x *site) { // it takes longer than the test
				x.s.Region.EC2.SetShuttingDown(x.instance)
			},
			remedy: (*site).takenOver},
		{name: "the interface is attached to nothing", check: "interface-type", result: events.Fail, ends: "NotMirrorable",
			breaks: func(x *site) {
				x.s.Region.EC2.MoveInterface(x.eni, "")
				x.request.InstanceID = ""
			},
			remedy: func(x *site) { x.s.Region.EC2.MoveInterface(x.eni, x.instance) }},
		{name: "the request is out of bounds", check: "BadRequest", result: refused, ends: "BadRequest",
			breaks: func(x *site) { x.request.PacketLength = 9000 },
			remedy: func(x *site) { x.request.PacketLength = events.MaxPacketLength }},
		{name: "the interface's owner has opted out", check: "opt-out", result: events.Fail, ends: "NotMirrorable",
			breaks: func(x *site) {
				x.s.Region.EC2.SetTags(x.eni, map[string]string{x.s.Settings.OptOutTag: "true"})
			},
			remedy: func(x *site) {
				x.s.Region.EC2.SetTags(x.eni, map[string]string{x.s.Settings.OptOutTag: "false"})
			}},
		{name: "the instance's owner has opted out", check: "opt-out", result: events.Fail, ends: "NotMirrorable",
			breaks: func(x *site) {
				x.s.Region.EC2.SetTags(x.instance, map[string]string{x.s.Settings.OptOutTag: "true"})
			},
			remedy: func(x *site) {
				x.s.Region.EC2.SetTags(x.instance, map[string]string{x.s.Settings.OptOutTag: "false"})
			}},
		{name: "a T2 instance", check: "instance-family", result: events.Fail, ends: "NotMirrorable",
			breaks: func(x *site) { x.s.Region.EC2.ChangeType(x.instance, "t2.micro") }, remedy: (*site).peer},
		{name: "an instance of the eighth generation", check: "instance-family", result: events.Fail, ends: "NotMirrorable",
			breaks: func(x *site) { x.s.Region.EC2.ChangeType(x.instance, "m8g.large") }, remedy: (*site).peer},
		{name: "bare metal that AWS does not mirror", check: "instance-family", result: events.Fail, ends: "NotMirrorable",
			breaks: func(x *site) { x.s.Region.EC2.ChangeType(x.instance, "m7i.metal-24xl") }, remedy: (*site).peer},
		{name: "an instance type that nobody has heard of", check: "instance-family", result: events.Warn,
			breaks: func(x *site) { x.s.Region.EC2.ChangeType(x.instance, "x8i.large") }, remedy: (*site).peer},
	}
}

// takenOver is the instance that took over the suspect's work: the one to capture.
func (x *site) takenOver() { x.peer() }

// running waits until an instance runs.
func (x *site) running(id string) {
	for range 200 {
		if i, _ := x.s.Region.EC2.Instance(id); i.State == "running" {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	x.t.Errorf("%s: %s does not run", x.name, id)
}

func interfaces() []broken {
	// managed asks for an interface that belongs to an AWS service.
	managed := func(kind, requester string) func(*site) {
		return func(x *site) {
			seed := ec2.InterfaceSeed{ID: x.id("eni", 5), Subnet: x.subnet, Type: kind, RequesterManaged: requester != "", RequesterID: requester}
			x.request = events.Request{NetworkInterfaceID: x.s.Region.EC2.AddInterface(seed)}
		}
	}
	// onNode asks for an interface of a special type on an instance that has an ordinary one, too.
	onNode := func(kind string) func(*site) {
		return func(x *site) {
			x.request.NetworkInterfaceID = x.s.Region.EC2.AddInterface(ec2.InterfaceSeed{ID: x.id("eni", 5), Subnet: x.subnet, Type: kind})
			x.s.Region.EC2.MoveInterface(x.request.NetworkInterfaceID, x.instance)
		}
	}
	node := func(x *site) { x.request.NetworkInterfaceID = x.eni }
	row := func(name string, breaks, remedy func(*site)) broken {
		return broken{name: name, check: "interface-type", result: events.Fail, ends: "NotMirrorable", breaks: breaks, remedy: remedy}
	}
	return []broken{
		row("a NAT gateway", func(x *site) {
			nat := x.s.Region.EC2.AddNATGateway(x.subnet)
			x.request = events.Request{NetworkInterfaceID: x.s.Region.EC2.InterfaceOfNATGateway(nat)}
		}, (*site).peer),
		row("a Lambda function", managed("lambda", "amazon-lambda"), (*site).peer),
		row("a load balancer", managed("interface", "amazon-elb"), (*site).peer),
		row("a Fargate task", managed("interface", "amazon-ecs"), (*site).peer),
		row("a VPC endpoint", managed("vpc_endpoint", "amazon-vpce"), (*site).peer),
		row("a branch interface of a pod", onNode("branch"), node),
		row("a trunk", onNode("trunk"), node),
		row("an EFA", onNode("efa"), node),
		row("an EFA alone", onNode("efa-only"), node),
		row("a subnet of IPv6 alone", func(x *site) {
			six := x.s.Region.EC2.AddSubnet(ec2.Subnet{ID: x.id("subnet", 6), VPC: x.vpc, IPv6Only: true, IPv6CIDR: fmt.Sprintf("2001:db8:%x::/64", x.n)})
			x.request.InstanceID, x.request.NetworkInterfaceID = x.suspect(6, "m5.large", ec2.InterfaceSeed{Subnet: six, IPv6: []string{fmt.Sprintf("2001:db8:%x::6", x.n)}})
		}, (*site).peer),
		{name: "the interface is a mirror target itself", check: "not-a-target", result: events.Fail, ends: "NotMirrorable",
			breaks: func(x *site) { x.call("CreateTrafficMirrorTarget", map[string]any{"NetworkInterfaceId": x.eni}) },
			remedy: func(x *site) {
				x.call("DeleteTrafficMirrorTarget", map[string]any{"TrafficMirrorTargetId": x.verdict.Evidence[0]})
			}},
	}
}

// others has another team mirror the suspect, by a filter with these rules, and returns the session.
func (x *site) others(number int, rules ...ec2.MirrorRule) string {
	group := x.s.Region.EC2.AddSecurityGroup(ec2.SecurityGroup{VPC: x.vpc, Name: fmt.Sprintf("theirs %d", number)})
	target := x.call("CreateTrafficMirrorTarget", map[string]any{"NetworkInterfaceId": x.s.Region.EC2.AddInterface(ec2.InterfaceSeed{Subnet: x.beside, Groups: []string{group}})})
	session := x.call("CreateTrafficMirrorSession", map[string]any{
		"NetworkInterfaceId": x.eni, "SessionNumber": int64(number), "TrafficMirrorTargetId": target["TrafficMirrorTarget"].(map[string]any)["TrafficMirrorTargetId"],
		"TrafficMirrorFilterId": x.s.Region.EC2.AddMirrorFilter(ec2.MirrorFilter{Description: "theirs", Rules: rules, Services: []string{"amazon-dns"}})})
	id, _ := session["TrafficMirrorSession"].(map[string]any)["TrafficMirrorSessionId"].(string)
	return id
}

func sessions() []broken {
	everything := []ec2.MirrorRule{}
	for _, direction := range []string{"ingress", "egress"} {
		for i, block := range []string{"0.0.0.0/0", "::/0"} {
			everything = append(everything, ec2.MirrorRule{Number: i + 1, Direction: direction, Action: "accept", Protocol: -1, Source: netip.MustParsePrefix(block), Destination: netip.MustParsePrefix(block)})
		}
	}
	https := []ec2.MirrorRule{{Number: 1, Direction: "egress", Action: "accept", Protocol: 6, Source: netip.MustParsePrefix("0.0.0.0/0"), Destination: netip.MustParsePrefix("198.51.100.0/24"),
		DestinationPorts: &ec2.PortRange{From: 443, To: 443}}}
	var unused []string // filters
	earlier := func(x *site) { x.request.SessionNumber = x.numberIn("session number ") }
	return []broken{
		{name: "three sessions already", check: "sessions", result: events.Fail, ends: "NotMirrorable", breaks: func(x *site) {
			for number := 1; number <= 3; number++ {
				x.others(number)
			}
		}},
		{name: "the session number is taken", check: "sessions", result: events.Fail, ends: "NotMirrorable", breaks: func(x *site) {
			x.others(7)
			x.request.SessionNumber = 7
		}, remedy: func(x *site) { x.request.SessionNumber = 0 }},
		{name: "another team's session takes everything", check: "shadowing", result: events.Fail, ends: "NotMirrorable",
			breaks: func(x *site) { x.others(5, everything...) }, remedy: earlier},
		{name: "another team's session is the first and takes everything", check: "shadowing", result: events.Fail, ends: "NotMirrorable",
			breaks: func(x *site) { x.others(1, everything...) }, remedy: func(x *site) {
				x.carryOut(x.verdict.Remedy)
				x.request.SessionNumber = 1
			}},
		{name: "another team's session takes HTTPS", check: "shadowing", result: events.Warn,
			breaks: func(x *site) { x.others(3, https...) }, remedy: earlier},
		{name: "the account has as many filters as AWS allows", alone: true, check: "target-limits", result: events.Fail, ends: "NotMirrorable",
			breaks: func(x *site) {
				unused = x.s.Region.EC2.AddMirrorFilters(10000) // the most of a Region (VPC Traffic Mirroring guide, "Quotas")
			},
			remedy: func(x *site) { x.s.Region.EC2.RemoveMirrorFilters(unused...) }},
	}
}

// numberIn is the number after some words of the remedy.
func (x *site) numberIn(words string) int32 {
	var n int32
	_, after, found := strings.Cut(x.verdict.Remedy, words)
	if _, err := fmt.Sscan(strings.TrimRight(strings.Fields(after + " .")[0], ",;."), &n); !found || err != nil {
		x.t.Errorf("%s: no %sin the remedy %q", x.name, words, x.verdict.Remedy)
	}
	return n
}

func filters() []broken {
	accept := func(direction, block string) events.FilterRule {
		return events.FilterRule{Number: 1, Direction: direction, Action: events.Accept, SourceCIDR: block, DestinationCIDR: block}
	}
	only4 := func() *events.Filter {
		return &events.Filter{DNS: true, Rules: []events.FilterRule{accept(events.Ingress, "0.0.0.0/0"), accept(events.Egress, "0.0.0.0/0")}}
	}
	return []broken{
		{name: "a filter without IPv6 for an interface that has it", check: "filter", result: events.Warn,
			breaks: func(x *site) {
				x.s.Region.EC2.SetAddresses(x.eni, nil, []string{fmt.Sprintf("2001:db8:%x::7", x.n)})
				x.request.Profile, x.request.Filter = events.ProfileCustom, only4()
			},
			remedy: func(x *site) {
				six := accept(events.Ingress, "::/0")
				six.Number = 2
				x.request.Filter.Rules = append(x.request.Filter.Rules, six)
				six.Direction = events.Egress
				x.request.Filter.Rules = append(x.request.Filter.Rules, six)
			}},
		{name: "a filter whose rules no AWS takes", check: "BadRequest", result: refused, ends: "BadRequest",
			breaks: func(x *site) {
				x.request.Profile, x.request.Filter = events.ProfileCustom, only4()
				x.request.Filter.Rules[0].DestinationCIDR = "::/0"
			},
			remedy: func(x *site) { x.request.Filter.Rules[0].DestinationCIDR = "0.0.0.0/0" }},
		{name: "a profile that does not exist", check: "BadRequest", result: refused, ends: "BadRequest",
			breaks: func(x *site) { x.request.Profile = "all" },
			remedy: func(x *site) { x.request.Profile = events.ProfileEverything }},
		{name: "control CIDRs that are none", check: "BadRequest", result: refused, ends: "BadRequest",
			breaks: func(x *site) { x.request.ControlCIDRs = []string{"192.0.2.7"} },
			remedy: func(x *site) { x.request.ControlCIDRs = []string{"192.0.2.7/32"} }},
	}
}

func networks() []broken {
	// apart has the collector stand in another subnet than the source: only from there S3 is reached.
	apart := func(breaks func(*site)) func(*site) {
		return func(x *site) {
			x.s.Region.EC2.AddRouteTable(ec2.RouteTable{ID: x.id("rtb", 7), VPC: x.vpc, Subnets: []string{x.subnet}})
			breaks(x)
		}
	}
	all := func(number int, egress bool) ec2.ACLEntry {
		return ec2.ACLEntry{Number: number, Egress: egress, Protocol: -1, CIDR: "0.0.0.0/0"}
	}
	deny := func(egress bool, protocol int, from, to int) []ec2.ACLEntry {
		return []ec2.ACLEntry{{Number: 50, Egress: egress, Deny: true, Protocol: protocol, CIDR: "0.0.0.0/0", From: from, To: to}, all(100, false), all(100, true)}
	}
	listed := func(subnet func(*site) string, entries []ec2.ACLEntry) func(*site) {
		return func(x *site) {
			x.s.Region.EC2.AddNetworkACL(ec2.NetworkACL{VPC: x.vpc, Subnets: []string{subnet(x)}, Entries: entries})
		}
	}
	own, beside := func(x *site) string { return x.subnet }, func(x *site) string { return x.beside }
	astray := func(route ec2.Route) func(*site) {
		return apart(func(x *site) {
			route := route
			route.Destination = x.address(64) + "/26"
			x.s.Region.EC2.AddRoute(x.s.Region.EC2.RouteTableOf(x.subnet), route)
		})
	}
	acl := func(name string, breaks func(*site)) broken {
		return broken{name: name, check: "network-acls", result: events.Fail, ends: "NoPlace", breaks: breaks}
	}
	return []broken{
		acl("the source's network ACL lets no copies out", apart(listed(own, deny(true, 17, 4789, 4789)))),
		acl("the collector's network ACL lets no copies in", apart(listed(beside, deny(false, 17, 4000, 5000)))),
		acl("the collector's network ACL lets nothing in but answers", apart(listed(beside, []ec2.ACLEntry{
			{Number: 10, Protocol: 6, CIDR: "0.0.0.0/0", From: 1024, To: 65535}, all(100, true)}))),
		acl("the collector's network ACL lets no HTTPS out", apart(listed(beside, deny(true, 6, 443, 443)))),
		acl("the collector's network ACL lets no answers in", apart(listed(beside, deny(false, 6, 1024, 65535)))),
		acl("the first rule of the collector's network ACL lets no copies in", apart(listed(beside, []ec2.ACLEntry{
			{Number: 1, Deny: true, Protocol: 17, CIDR: "0.0.0.0/0", From: 0, To: 65535}, all(100, false), all(100, true)}))),
		acl("both network ACLs let nothing through", apart(func(x *site) {
			listed(own, nil)(x)
			listed(beside, nil)(x)
		})),
		{name: "a more specific route leads copies into an appliance", check: "route", result: events.Fail, ends: "NoPlace", breaks: astray(ec2.Route{Target: "eni-0123456789abcdef1"})},
		{name: "the VPC's own route leads into an appliance", check: "route", result: events.Fail, ends: "NoPlace", breaks: apart(func(x *site) {
			x.s.Region.EC2.ReplaceRoute(x.s.Region.EC2.RouteTableOf(x.subnet), x.address(0)+"/24", "vpce-0123456789abcdef1")
		})},
		{name: "a more specific route is a black hole", check: "route", result: events.Fail, ends: "NoPlace", breaks: astray(ec2.Route{Target: "pcx-0123456789abcdef0", Blackhole: true})},
		{name: "the suspect's groups let nothing in", check: "isolation", result: events.Warn,
			breaks: func(x *site) {
				group := x.s.Region.EC2.AddSecurityGroup(ec2.SecurityGroup{VPC: x.vpc, Name: "isolation"})
				x.s.Region.EC2.SetGroups(x.eni, group)
			},
			remedy: (*site).isolateLater},
		{name: "the suspect's groups let nothing in or out", check: "isolation", result: events.Warn,
			breaks: func(x *site) {
				group := x.s.Region.EC2.AddSecurityGroup(ec2.SecurityGroup{VPC: x.vpc, Name: "isolation"})
				x.s.Region.EC2.RemoveGroupRules(group, true)
				x.s.Region.EC2.SetGroups(x.eni, group)
			},
			remedy: (*site).isolateLater},
		{name: "the name of the capture's group is taken", check: "security-groups", result: events.Fail, ends: "NoPlace",
			breaks: func(x *site) {
				x.request.Capture = events.NewCaptureID(time.Now(), x.eni)
				x.s.Region.EC2.AddSecurityGroup(ec2.SecurityGroup{VPC: x.vpc, Name: events.SecurityGroupName(x.s.Settings.Deployment, x.request.Capture)})
			},
			remedy: func(x *site) {
				x.carryOut(x.verdict.Remedy)
				x.request.Capture = "" // that one is over
			}},
	}
}

// isolateLater captures first: the suspect has the groups that it had.
func (x *site) isolateLater() {
	group := x.s.Region.EC2.AddSecurityGroup(ec2.SecurityGroup{VPC: x.vpc, Name: "as before"})
	x.s.Region.EC2.AddGroupRule(group, ec2.GroupRule{Protocol: "tcp", From: 443, To: 443, CIDR: "0.0.0.0/0"})
	x.s.Region.EC2.SetGroups(x.eni, group)
}

func places() []broken {
	row := func(name string, breaks func(*site)) broken {
		return broken{name: name, check: "placement", result: events.Fail, ends: "NoPlace", breaks: breaks}
	}
	// without has no gateway endpoint, and a default route to something else.
	without := func(target string, blackhole bool) func(*site) {
		return func(x *site) {
			x.s.Region.EC2.RemoveEndpoint(x.endpoint)
			if target != "" {
				x.s.Region.EC2.AddRoute(x.table, ec2.Route{Destination: "0.0.0.0/0", Target: target, Blackhole: blackhole})
			}
		}
	}
	full := row("no address is free", func(x *site) {
		// A subnet of its own, of which five addresses are AWS's and the rest are taken.
		tiny := x.s.Region.EC2.AddSubnet(ec2.Subnet{ID: x.id("subnet", 8), VPC: x.vpc, Zone: x.zone("b"), CIDR: x.address(240) + "/28"})
		x.request.InstanceID, x.request.NetworkInterfaceID = x.suspect(8, "m5.large", ec2.InterfaceSeed{Subnet: tiny})
		for range 10 {
			x.taken = append(x.taken, x.s.Region.EC2.AddInterface(ec2.InterfaceSeed{Subnet: tiny}))
		}
		x.s.Region.EC2.AddEndpointRoute(x.endpoint, x.s.Region.EC2.MainRouteTable(x.vpc))
	})
	full.remedy = func(x *site) {
		x.s.Region.EC2.RemoveInterface(x.taken[0])
	}
	policy := row("the endpoint's policy does not admit the bucket", func(x *site) {
		x.s.Region.EC2.SetEndpointPolicy(x.endpoint, `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::elsewhere/*"}]}`)
	})
	policy.remedy = func(x *site) {
		bucket := "arn:aws:s3:::" + x.s.Settings.Bucket
		for _, wanted := range []string{"s3:PutObject on " + bucket + "/captures/*", "s3:GetObject on " + bucket + "/tools/*"} {
			if !strings.Contains(x.verdict.Remedy, wanted) {
				x.t.Errorf("%s: no %q in the remedy %q", x.name, wanted, x.verdict.Remedy)
			}
		}
		x.s.Region.EC2.SetEndpointPolicy(x.endpoint, `{"Version": "2012-10-17", "Statement": [
			{"Effect": "Allow", "Principal": "*", "Action": "s3:PutObject", "Resource": "`+bucket+`/captures/*"},
			{"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "`+bucket+`/tools/*"}]}`)
	}
	nat := row("the NAT gateway has failed", func(x *site) {
		id := x.s.Region.EC2.AddNATGateway(x.beside)
		x.s.Region.EC2.SetNATGatewayState(id, "failed")
		without(id, false)(x)
	})
	allow := row("only a temporary endpoint would help", without("", false))
	allow.remedy = func(x *site) {
		if !strings.Contains(x.verdict.Remedy, "temporary endpoint allowed") {
			x.t.Errorf("%s: the remedy is %q", x.name, x.verdict.Remedy)
		}
		x.request.AllowTemporaryEndpoint = true
	}
	return []broken{
		row("no route leads to S3", without("", false)),
		row("only an internet gateway leads to S3", func(x *site) { without(x.s.Region.EC2.AddInternetGateway(x.vpc), false)(x) }),
		row("the way to S3 is a black hole", without("nat-0123456789abcdef0", true)),
		nat,
		row("DNS is off", func(x *site) { x.s.Region.EC2.SetDNS(x.vpc, false, false) }),
		row("an interface endpoint answers S3's names", func(x *site) {
			x.s.Region.EC2.AddEndpoint(ec2.Endpoint{ID: x.id("vpce", 4), VPC: x.vpc, Service: "s3", Type: "Interface", Subnets: []string{x.beside}, PrivateDNS: true})
		}),
		policy, full, allow,
		{name: "a temporary endpoint is allowed", check: "endpoint", result: events.Fixed,
			breaks: func(x *site) {
				without("", false)(x)
				x.request.AllowTemporaryEndpoint = true
			},
			remedy: func(*site) {}}, // the capture brings it itself
		{name: "the zone offers none of the deployment's types", check: "collector", result: events.Fail, ends: "NoPlace",
			breaks: func(x *site) {
				for _, kind := range x.s.Settings.InstanceTypes {
					x.s.Region.EC2.Withdraw(kind, x.zone("c"))
				}
				far := x.s.Region.EC2.AddSubnet(ec2.Subnet{ID: x.id("subnet", 3), VPC: x.vpc, Zone: x.zone("c"), CIDR: x.address(128) + "/26"})
				x.s.Region.EC2.AddEndpointRoute(x.endpoint, x.s.Region.EC2.MainRouteTable(x.vpc))
				x.request.InstanceID, x.request.NetworkInterfaceID = x.suspect(3, "m5.large", ec2.InterfaceSeed{Subnet: far})
			},
			anew: func(o *deployment.Options) { o.Config.InstanceTypes = []string{"c6g.large"} }},
		{name: "the source may send more than any collector takes", check: "collector", result: events.Warn,
			breaks: func(x *site) { x.s.Region.EC2.ChangeType(x.instance, "c5n.18xlarge") },
			anew:   func(o *deployment.Options) { o.Config.InstanceTypes = []string{"c7gn.16xlarge"} }},
		{name: "the source is busy", check: "headroom", result: events.Warn, breaks: busy(0.9), remedy: (*site).askForLess, stays: true},
		{name: "the source is busier than it can go on with", check: "headroom", result: events.Warn, breaks: busy(2), remedy: (*site).askForLess, stays: true},
	}
}

// zone is one of the Region's zones by its letter.
func (x *site) zone(letter string) string { return x.s.Settings.Region + letter }

// busy has CloudWatch say that the source sends and receives this many times its baseline of 0.75 Gbps. (Copies of both come on
// top of what it sends.)
func busy(times float64) func(*site) {
	return func(x *site) {
		bytes := times * 0.75e9 / 8 * 300
		for name, share := range map[string]float64{"NetworkIn": 0.5, "NetworkOut": 0.25} {
			x.s.Region.Metrics.Set(cloudwatch.Series{Namespace: "AWS/EC2", Name: name, Dimensions: map[string]string{"InstanceId": x.instance}}, bytes*share)
		}
	}
}

// askForLess asks for the beginning of each packet alone.
func (x *site) askForLess() { x.request.Profile = events.ProfileHeaders }

func accounts() []broken {
	bucketKey := func(state string) func(*site) {
		return func(x *site) { x.s.Region.KMS.SetState(x.s.Settings.BucketKeyARN, state) }
	}
	key := func(name string, breaks func(*site)) broken {
		return broken{name: name, alone: true, check: "bucket-key", result: events.Fail, ends: "NoPlace", breaks: breaks}
	}
	everything := iam.MustParse("FullAWSAccess", `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}`)
	no := func(name, action string) *iam.Policy {
		return iam.MustParse(name, `{"Version": "2012-10-17", "Statement": [{"Sid": "No", "Effect": "Deny", "Action": "`+action+`", "Resource": "*"}]}`)
	}
	// role changes a role of the deployment, and restores it by the remedy.
	role := func(name, step string, change func(*simulator.Role)) broken {
		var before simulator.Role
		return broken{name: name, alone: true, check: "permissions", result: events.Fail, ends: "NoPlace",
			breaks: func(x *site) {
				before, _ = x.s.Region.IAM.Role(x.s.Settings.Roles[step])
				changed := before
				change(&changed)
				x.s.Region.IAM.AddRole(changed)
			},
			remedy: func(x *site) { x.s.Region.IAM.AddRole(before) }}
	}
	gone := key("the bucket's key is gone", func(x *site) { x.s.Region.KMS.RemoveKey(x.s.Settings.BucketKeyARN) })
	gone.remedy = func(x *site) {
		gone := x.s.Settings.BucketKeyARN
		x.s.Region.KMS.AddKey(kms.Key{ID: gone[strings.LastIndexByte(gone, '/')+1:]})
	}
	return []broken{
		key("the bucket's key is disabled", bucketKey(kms.Disabled)),
		key("the bucket's key is to be deleted", bucketKey(kms.PendingDeletion)),
		gone,
		{name: "no more security groups", alone: true, check: "security-groups", result: events.Fail, ends: "NoPlace", breaks: func(x *site) {
			x.s.Region.EC2.AddSecurityGroup(ec2.SecurityGroup{VPC: x.vpc, Name: "one more"})
			x.s.Region.EC2.SetLimits(func(l *ec2.Limits) { l.SecurityGroupsInVPC = 2 })
		}},
		role("launch may not run instances", "launch", func(r *simulator.Role) {
			r.Policies = []*iam.Policy{iam.MustParse("launch", `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "NotAction": "ec2:RunInstances", "Resource": "*"}]}`)}
		}),
		role("somebody denies mirror sessions", "mirror", func(r *simulator.Role) {
			r.Policies = append([]*iam.Policy{no("theirs", "ec2:CreateTrafficMirrorSession")}, r.Policies...)
		}),
		role("a permissions boundary leaves no room for teardown", "teardown", func(r *simulator.Role) {
			r.Boundary = iam.MustParse("boundary", `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "NotAction": "ec2:TerminateInstances", "Resource": "*"}]}`)
		}),
		{name: "the organization denies mirroring", alone: true, check: "permissions", result: events.Fail, ends: "NoPlace",
			breaks: func(x *site) {
				x.s.Region.IAM.SetSCPs(everything, no("guardrail", "ec2:CreateTrafficMirror*"))
			},
			remedy: func(x *site) { x.s.Region.IAM.SetSCPs(everything) }},
		{name: "CloudWatch may not be asked", alone: true, check: "headroom", result: events.Warn,
			breaks: func(x *site) {
				x.s.Region.Inject(func(c region.Call) *region.Fault {
					if c.Service != "monitoring" {
						return nil
					}
					return &region.Fault{Code: "AccessDenied", Status: 403}
				})
			},
			remedy: func(x *site) { x.s.Region.Inject(nil) }},
		{name: "the vCPUs of the account are used up", alone: true, last: true, check: "quotas", result: events.Fail, ends: "NoPlace", breaks: func(x *site) {
			used := x.s.Region.EC2.StandardVCPUs()
			x.s.Region.EC2.SetLimits(func(l *ec2.Limits) { l.VCPUs = used })
		}, remedy: func(x *site) {
			x.carryOut(x.verdict.Remedy)
			time.Sleep(time.Second) // a capture is named for its second, and the refused one's plan stands
			x.succeed()             // now: what was asked for is enough for one collector, and no more
			x.done = true
			x.s.Region.EC2.SetLimits(func(l *ec2.Limits) { l.VCPUs = 0 })
		}},
	}
}

func findings() []broken {
	event := func(kind, detail string) func(*site) string {
		return func(x *site) string {
			text := strings.NewReplacer("INSTANCE", x.id("i", 0), "INTERFACE", x.id("eni", 0), "SUBNET", x.subnet, "VPC", x.vpc, "ADDRESS", x.addressOf(x.id("eni", 0))).Replace(detail)
			return fmt.Sprintf(`{"version": "0", "id": "%[1]s", "detail-type": "GuardDuty Finding", "source": "aws.guardduty", "account": %[2]q, "region": %[3]q, "time": "2026-11-26T00:00:00Z", "resources": [],
				"detail": {"schemaVersion": "2.0", "id": "%[1]s", "accountId": %[2]q, "region": %[3]q, "type": %[4]q, "severity": 8, "service": {"serviceName": "guardduty", "count": 1}, %[5]s}}`,
				x.findingID(), x.s.Settings.Account, x.s.Settings.Region, kind, text)
		}
	}
	const instance = `"resource": {"resourceType": "Instance", "instanceDetails": {"instanceId": "INSTANCE", "instanceType": "m5.large",
		"networkInterfaces": [{"networkInterfaceId": "INTERFACE", "privateIpAddress": "ADDRESS", "subnetId": "SUBNET", "vpcId": "VPC"}]}}`
	onInstance := event("UnauthorizedAccess:EC2/TorClient", instance)
	return []broken{
		{name: "a finding about an instance that was terminated", check: string(events.SuspectGone), result: refused, event: onInstance,
			breaks: func(x *site) {
				x.addressOf(x.eni)
				x.s.Region.EC2.Terminated(x.instance)
			}, remedy: (*site).peer},
		{name: "a finding about an instance that another has replaced", check: string(events.SuspectGone), result: refused, event: onInstance,
			breaks: func(x *site) {
				address := x.addressOf(x.eni)
				x.s.Region.EC2.Terminated(x.instance)
				x.request.InstanceID, x.request.NetworkInterfaceID = x.suspect(4, "m5.large", ec2.InterfaceSeed{Address: address})
			}, remedy: func(x *site) { // capture the one that has the address now, which the refusal names
				for _, id := range []string{x.request.NetworkInterfaceID, x.request.InstanceID} {
					if !strings.Contains(x.verdict.Reason+x.verdict.Remedy, id) {
						x.t.Errorf("%s: %s is not named: %s | %s", x.name, id, x.verdict.Reason, x.verdict.Remedy)
					}
				}
			}},
		{name: "a finding about an interface that has moved", check: string(events.SuspectGone), result: refused, event: onInstance,
			breaks: func(x *site) {
				x.addressOf(x.eni)
				x.request.InstanceID, _ = x.suspect(4, "m5.large", ec2.InterfaceSeed{})
				x.s.Region.EC2.MoveInterface(x.eni, x.request.InstanceID)
			}, remedy: func(x *site) {
				if !strings.Contains(x.verdict.Reason+x.verdict.Remedy, x.request.InstanceID) {
					x.t.Errorf("%s: %s is not named: %s | %s", x.name, x.request.InstanceID, x.verdict.Reason, x.verdict.Remedy)
				}
			}},
		{name: "a finding about a Fargate task", check: string(events.NotOnANetwork), result: refused,
			event: event("Execution:Runtime/ReverseShell", `"resource": {"resourceType": "ECSCluster", "ecsClusterDetails": {"name": "web", "status": "ACTIVE",
				"taskDetails": {"arn": "arn:aws:ecs:us-east-1:123456789012:task/web/1", "launchType": "FARGATE", "containers": [{"name": "web"}]}}}`),
			breaks: func(*site) {}, remedy: (*site).peer},
		{name: "a finding about a Lambda function", check: string(events.NotOnANetwork), result: refused,
			event:  event("CryptoCurrency:Lambda/BitcoinTool.B", `"resource": {"resourceType": "Lambda", "lambdaDetails": {"functionName": "f", "functionArn": "arn:aws:lambda:us-east-1:123456789012:function:f", "vpcConfig": {"subnetIds": ["SUBNET"], "vpcId": "VPC"}}}`),
			breaks: func(*site) {}, remedy: (*site).peer},
		{name: "a finding about an IAM user", check: string(events.NotOnANetwork), result: refused,
			event:  event("Recon:IAMUser/MaliciousIPCaller", `"resource": {"resourceType": "AccessKey", "accessKeyDetails": {"userName": "u"}}`),
			breaks: func(*site) {}, remedy: (*site).peer},
	}
}

// addressOf is the address of an interface, as it was when it was asked for first.
func (x *site) addressOf(eni string) string {
	if x.addresses == nil {
		x.addresses = map[string]string{}
	}
	if known, ok := x.s.Region.EC2.Interface(eni); ok && x.addresses[eni] == "" {
		x.addresses[eni] = known.Address.String()
	}
	return x.addresses[eni]
}
