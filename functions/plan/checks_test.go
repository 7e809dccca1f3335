package plan

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"flashtap/events"
)

// elsewhere puts the collector into the other subnet: the source's own is full.
func elsewhere(f *Facts) { f.Subnets[0] = subnet("subnet-own", 0) }

// acls gives the two subnets an ACL each.
func acls(own, other []types.NetworkAclEntry) func(*Facts) {
	return func(f *Facts) {
		f.ACLs = []types.NetworkAcl{acl("acl-own", []string{"subnet-own"}, own...), acl("acl-other", []string{"subnet-other"}, other...)}
	}
}

func both(changes ...func(*Facts)) func(*Facts) {
	return func(f *Facts) {
		for _, c := range changes {
			c(f)
		}
	}
}

func entries(list ...types.NetworkAclEntry) []types.NetworkAclEntry { return list }

// TestChecks: one fact is changed, and one verdict says so.
func TestChecks(t *testing.T) {
	const allow, deny = types.RuleActionAllow, types.RuleActionDeny
	open := entries(allowAll(100, true), allowAll(100, false))
	state := func(s types.InstanceStateName) func(*Facts) {
		return func(f *Facts) { f.Instance.State.Name = s }
	}
	load := func(in, out float64) func(*Facts) {
		return func(f *Facts) { f.Load.Value.Periods[0].In, f.Load.Value.Periods[0].Out = in*300e9/8, out*300e9/8 }
	}
	more := func(cidr, target string) func(*Facts) {
		return func(f *Facts) {
			r := types.Route{DestinationCidrBlock: aws.String(cidr), NetworkInterfaceId: aws.String(target), State: types.RouteStateActive}
			f.RouteTables[0].Routes = append(f.RouteTables[0].Routes, r)
		}
	}
	decision := func(change func(*Decision)) func(*Facts) {
		return func(f *Facts) {
			for i, d := range f.Rights.Value {
				if d.Action == "ec2:CreateTrafficMirrorSession" && strings.Contains(d.Resource, source1) {
					change(&f.Rights.Value[i])
				}
			}
		}
	}
	key := func(k Key) func(*Facts) { return func(f *Facts) { f.BucketKey = Known(k) } }
	groups := func(change func(*types.SecurityGroup)) func(*Facts) {
		return func(f *Facts) { change(&f.Groups[0]) }
	}

	for name, row := range map[string]struct {
		change func(*Facts)
		check  string
		result string
		says   []string // in reason or remedy
	}{
		"the instance is stopped":         {state(types.InstanceStateNameStopped), "instance-state", events.Fail, []string{"is stopped", "aws ec2 start-instances --instance-ids " + suspect}},
		"the instance is about to stop":   {state(types.InstanceStateNameStopping), "instance-state", events.Fail, []string{"is stopping"}},
		"the instance is terminated":      {state(types.InstanceStateNameTerminated), "instance-state", events.Fail, []string{"is terminated", "took over"}},
		"the instance is shutting down":   {state(types.InstanceStateNameShuttingDown), "instance-state", events.Fail, []string{"is shutting-down"}},
		"the instance starts":             {state(types.InstanceStateNamePending), "instance-state", events.Warn, []string{"still starting"}},
		"the instance can't be described": {func(f *Facts) { f.Instance = nil }, "instance-state", events.Warn, []string{"whether it runs is not known"}},
		"a managed interface has no state": {func(f *Facts) {
			f.Instance, f.Interface.RequesterManaged, f.Interface.RequesterId = nil, aws.Bool(true), aws.String("amazon-rds")
		}, "instance-state", events.Pass, nil},

		"all sessions of the account are in use": {func(f *Facts) { f.Sessions = make([]types.TrafficMirrorSession, 10000) }, "target-limits", events.Fail, []string{"10000 mirror sessions"}},
		"nearly all filters are in use":          {func(f *Facts) { f.Filters = make([]types.TrafficMirrorFilter, 9500) }, "target-limits", events.Warn, []string{"9500 mirror filters"}},
		"targets and filters are in use": {func(f *Facts) {
			f.Targets, f.Filters = make([]types.TrafficMirrorTarget, 10000), make([]types.TrafficMirrorFilter, 10000)
		}, "target-limits", events.Fail, []string{"10000 mirror targets and 10000 mirror filters"}},

		"the planned name is taken": {func(f *Facts) {
			f.Groups = append(f.Groups, types.SecurityGroup{GroupId: aws.String("sg-2"), GroupName: aws.String(events.SecurityGroupName("prod", capture1))})
		}, "security-groups", events.Fail, []string{"is taken by sg-2", "delete-security-group --group-id sg-2"}},
		"the planned name is ours from an earlier try": {func(f *Facts) {
			f.Groups = append(f.Groups, types.SecurityGroup{GroupId: aws.String("sg-2"), GroupName: aws.String(events.SecurityGroupName("prod", capture1)),
				Tags: []types.Tag{{Key: aws.String(events.TagCapture), Value: aws.String(string(capture1))}}})
		}, "security-groups", events.Pass, nil},
		"no room for a group":     {func(f *Facts) { f.GroupQuota = Known(1.0) }, "security-groups", events.Fail, []string{"has 1 security groups", "--quota-code L-E79EC296"}},
		"room for just one group": {func(f *Facts) { f.GroupQuota = Known(2.0) }, "security-groups", events.Pass, nil},
		"no room, as far as the default says": {func(f *Facts) {
			f.GroupQuota = Answer[float64]{Why: "AccessDenied"}
			f.Groups = make([]types.SecurityGroup, 2500)
		}, "security-groups", events.Warn, []string{"could not be checked: AccessDenied"}},
		"room for one, and an endpoint's beside": {both(noWay, func(f *Facts) { f.Request.AllowTemporaryEndpoint, f.GroupQuota = true, Known(2.0) }), "security-groups", events.Fail, []string{"the capture makes 2"}},

		"within one subnet no ACL is asked about copies": {acls(entries(entry(100, true, "6", "0.0.0.0/0", 443, 443, allow), entry(100, false, "6", "0.0.0.0/0", 1024, 65535, allow)), open), "network-acls", events.Pass, []string{"stay within subnet-own"}},
		"copies may not leave":                           {both(elsewhere, acls(entries(entry(90, true, "17", "10.0.2.0/24", 4789, 4789, deny), allowAll(100, true), allowAll(100, false)), open)), "network-acls", events.Fail, []string{"acl-own of subnet-own", "rule 90 denies it", "--network-acl-id acl-own --egress --rule-number 89 --protocol 17 --port-range From=4789,To=4789 --cidr-block 10.0.2.0/24 --rule-action allow"}},
		"copies may not enter":                           {both(elsewhere, acls(open, entries(allowAll(100, true), entry(100, false, "6", "0.0.0.0/0", 0, 65535, allow)))), "network-acls", events.Fail, []string{"acl-other of subnet-other", "no rule allows it", "--ingress --rule-number 32766 --protocol 17", "--cidr-block 10.0.1.10/32"}},
		"the first rule keeps copies out": {both(elsewhere, acls(open, entries(allowAll(100, true), entry(1, false, "17", "0.0.0.0/0", 0, 65535, deny), allowAll(100, false)))), "network-acls", events.Fail,
			[]string{"rule 1 denies it", "aws ec2 replace-network-acl-entry --network-acl-id acl-other --ingress --rule-number 1 --protocol 17", "it replaces rule 1, which denies UDP from 0.0.0.0/0 ports 0-65535"}},
		"one rule keeps copies and answers out": {both(elsewhere, acls(open, entries(allowAll(100, true), entry(1, false, "-1", "0.0.0.0/0", 0, 0, deny)))), "network-acls", events.Fail,
			[]string{"replace-network-acl-entry --network-acl-id acl-other --ingress --rule-number 1 --protocol 17", "create-network-acl-entry --network-acl-id acl-other --ingress --rule-number 32766 --protocol 6"}},
		"S3 is out of bounds":            {acls(entries(allowAll(100, false), entry(100, true, "17", "0.0.0.0/0", 4789, 4789, allow)), open), "network-acls", events.Pass, []string{"copies and S3 are let through"}}, // another subnet will do
		"S3 is out of bounds everywhere": {acls(entries(allowAll(100, false), entry(100, true, "17", "0.0.0.0/0", 0, 65535, allow)), entries(allowAll(100, false))), "network-acls", events.Fail, []string{"TCP from 10.0.1.0/24 to 0.0.0.0/0 port 443 out", "--egress --rule-number 32766 --protocol 6 --port-range From=443,To=443"}},
		"S3 may not answer":              {acls(entries(allowAll(100, true), entry(100, false, "17", "0.0.0.0/0", 0, 65535, allow)), entries(allowAll(100, true))), "network-acls", events.Fail, []string{"in: no rule allows it", "From=32768,To=60999"}},
		"a part of the internet is denied": {acls(entries(entry(90, true, "-1", "198.51.100.0/24", 0, 0, deny), allowAll(100, true), allowAll(100, false)), entries(entry(90, true, "-1", "198.51.100.0/24", 0, 0, deny), allowAll(100, true), allowAll(100, false))),
			"network-acls", events.Warn, []string{"which addresses S3 has was not looked up"}},
		"a part of the internet is allowed": {acls(entries(entry(90, true, "6", "52.216.0.0/15", 443, 443, allow), allowAll(100, false)), entries(entry(90, true, "6", "52.216.0.0/15", 443, 443, allow), allowAll(100, false))),
			"network-acls", events.Warn, []string{"which addresses S3 has was not looked up"}},
		"only private addresses are allowed": {acls(entries(entry(90, true, "6", "10.0.0.0/8", 0, 65535, allow), allowAll(100, false)), nil), "network-acls", events.Fail, []string{"no rule allows it"}},
		"ACLs are not described":             {func(f *Facts) { f.ACLs = nil }, "network-acls", events.Warn, []string{"no network ACL of subnet-own is described"}},

		"copies go to a firewall":           {both(elsewhere, more("10.0.2.0/24", "eni-firewall")), "route", events.Fail, []string{"rtb-main leads copies for subnet-other (10.0.2.0/24) to eni-firewall", "ask whose eni-firewall is, since that route may be somebody's inspection path; with its owner's consent: aws ec2 delete-route --route-table-id rtb-main --destination-cidr-block 10.0.2.0/24"}},
		"half of the subnet is routed away": {both(elsewhere, more("10.0.2.128/25", "eni-firewall")), "route", events.Fail, []string{"10.0.2.128/25"}},
		"the VPC's own route is led away": {both(elsewhere, func(f *Facts) {
			f.RouteTables[0].Routes[0].GatewayId, f.RouteTables[0].Routes[0].NetworkInterfaceId = nil, aws.String("eni-firewall")
		}), "route", events.Fail, []string{"with its owner's consent: aws ec2 replace-route --route-table-id rtb-main --destination-cidr-block 10.0.0.0/16 --local-target"}},
		"a route to elsewhere":          {both(elsewhere, more("10.0.9.0/24", "eni-firewall")), "route", events.Pass, nil},
		"copies fall into a black hole": {both(elsewhere, more("10.0.2.0/24", "pcx-1"), func(f *Facts) { f.RouteTables[0].Routes[2].State = types.RouteStateBlackhole }), "route", events.Fail, []string{"black hole", "pcx-1 is gone"}},
		"another subnet without the detour": {func(f *Facts) {
			f.Subnets[0] = subnet("subnet-own", 0)
			third := subnet("subnet-third", 9)
			third.CidrBlock = aws.String("10.0.3.0/24")
			f.Subnets = append(f.Subnets, third)
			more("10.0.2.0/24", "eni-firewall")(f)
		}, "placement", events.Pass, []string{"collector in subnet-third"}},

		"the source is idle":          {load(0, 0), "headroom", events.Pass, []string{"m5.large sustains 0.75 Gbps"}},
		"the source is at its limit":  {load(0.1, 0.4), "headroom", events.Warn, []string{"900 Mbps", "dropped first", "profile finding"}},
		"the source has little room":  {load(0.3, 0.17), "headroom", events.Warn, []string{"little room is left"}},
		"the source receives a lot":   {load(0.7, 0.05), "headroom", events.Warn, []string{"dropped first"}},
		"its load is not known":       {func(f *Facts) { f.Load = Answer[Load]{Why: "AccessDeniedException"} }, "headroom", events.Warn, []string{"could not be checked: AccessDeniedException"}},
		"CloudWatch has nothing yet":  {func(f *Facts) { f.Load.Value.Periods = nil }, "headroom", events.Warn, []string{"CloudWatch has no"}},
		"its bandwidth is not known":  {func(f *Facts) { f.Types = Answer[[]types.InstanceTypeInfo]{Why: "RequestLimitExceeded"} }, "headroom", events.Warn, []string{"could not be checked", "RequestLimitExceeded"}},
		"its type has no such number": {func(f *Facts) { f.Types.Value = f.Types.Value[1:] }, "headroom", events.Warn, []string{"is not known"}},

		"offers are not known":          {func(f *Facts) { f.Offered = Answer[[]string]{Why: "UnauthorizedOperation"} }, "collector", events.Warn, []string{"could not be checked: UnauthorizedOperation"}},
		"one type is not offered":       {func(f *Facts) { f.Offered.Value = f.Offered.Value[:4] }, "collector", events.Pass, []string{"does not offer c7i.large", "c7g.large sustains 0.937 Gbps"}},
		"no type is offered":            {func(f *Facts) { f.Offered.Value = nil }, "collector", events.Fail, []string{"offers none", "describe-instance-type-offerings"}},
		"the source is faster than all": {func(f *Facts) { f.Types.Value[0] = kind("m5.large", 96, 25) }, "collector", events.Warn, []string{"c7gn.large, sustains 6.25 Gbps", "25 Gbps"}},
		"bandwidths are not known":      {func(f *Facts) { f.Types = Answer[[]types.InstanceTypeInfo]{Why: "RequestLimitExceeded"} }, "collector", events.Warn, []string{"c7gn.large first", "RequestLimitExceeded"}},

		"the bucket's key is disabled":      {key(Key{State: "Disabled"}), "bucket-key", events.Fail, []string{"is disabled", "aws kms enable-key --key-id " + bucketKey}},
		"the bucket's key is to be deleted": {key(Key{State: "PendingDeletion", Deleted: time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)}), "bucket-key", events.Fail, []string{"2026-12-01", "cancel-key-deletion --key-id " + bucketKey}},
		"the bucket's key is being made":    {key(Key{State: "PendingImport"}), "bucket-key", events.Fail, []string{"PendingImport"}},
		"the bucket's key signs":            {key(Key{State: "Enabled", Usage: "SIGN_VERIFY"}), "bucket-key", events.Fail, []string{"can't encrypt"}},
		"the bucket's key is gone":          {func(f *Facts) { f.BucketKey = Answer[Key]{Why: "NotFoundException"} }, "bucket-key", events.Fail, []string{"does not exist any more"}},
		"the bucket's key is another's":     {func(f *Facts) { f.BucketKey = Answer[Key]{Why: "AccessDeniedException"} }, "bucket-key", events.Warn, []string{"could not be checked: AccessDeniedException"}},
		"the disks' key is disabled":        {func(f *Facts) { f.VolumeKey = Known(Key{State: "Disabled"}) }, "volume-key", events.Fail, []string{volumeKey}},

		"all vCPUs run":              {func(f *Facts) { f.UsedVCPUs = Known(63.0) }, "quotas", events.Fail, []string{"63 of 64 vCPUs", "--quota-code L-1216C47A --desired-value 65"}},
		"two are left":               {func(f *Facts) { f.UsedVCPUs = Known(62.0) }, "quotas", events.Pass, nil},
		"a smaller type fits":        {func(f *Facts) { f.UsedVCPUs = Known(62.0); f.Types.Value[5] = kind("c7i.large", 4, 0.781) }, "quotas", events.Warn, []string{"smaller type, with 2"}},
		"the quota is not known":     {func(f *Facts) { f.VCPUQuota = Answer[float64]{Why: "TooManyRequestsException"} }, "quotas", events.Warn, []string{"could not be checked: TooManyRequestsException"}},
		"what runs is not known":     {func(f *Facts) { f.UsedVCPUs = Answer[float64]{Why: "CloudWatch has no AWS/Usage of vCPUs"} }, "quotas", events.Warn, []string{"CloudWatch has no"}},
		"what it needs is not known": {func(f *Facts) { f.Types.Value = nil }, "quotas", events.Warn, []string{"is not known"}},

		"an SCP denies":      {decision(func(d *Decision) { d.Decision, d.Organizations = "explicitDeny", "false" }), "permissions", events.Fail, []string{"ec2:CreateTrafficMirrorSession by the role of mirror (flashtap-prod-mirror) is explicitly denied by a policy of the organization (SCP) (on network-interface)"}},
		"a boundary denies":  {decision(func(d *Decision) { d.Decision, d.Boundary = "implicitDeny", "false" }), "permissions", events.Fail, []string{"permissions boundary"}},
		"a statement denies": {decision(func(d *Decision) { d.Decision = "explicitDeny" }), "permissions", events.Fail, []string{"explicitly denied", "take the statement"}},
		"nothing is allowed at all": {func(f *Facts) {
			for i := range f.Rights.Value {
				f.Rights.Value[i].Decision = "implicitDeny"
			}
		}, "permissions", events.Fail, []string{"ec2:RunInstances by the role of launch (flashtap-prod-launch) is not allowed (on instance, volume, network-interface, security-group, subnet, image, launch-template)"}},
		"no right to an endpoint that is not needed": {func(f *Facts) { denyEndpoint(f) }, "permissions", events.Pass, nil},
		"no right to an endpoint that is needed": {both(noWay, denyEndpoint, func(f *Facts) { f.Request.AllowTemporaryEndpoint = true }), "permissions", events.Fail,
			[]string{"ec2:CreateVpcEndpoint by the role of launch", "-c allowTemporaryEndpoint=true"}},
		"nothing allows":               {decision(func(d *Decision) { d.Decision = "implicitDeny" }), "permissions", events.Fail, []string{"is not allowed", "deploy again"}},
		"it depends":                   {decision(func(d *Decision) { d.Decision, d.Missing = "implicitDeny", []string{"aws:PrincipalTag/x"} }), "permissions", events.Warn, []string{"not provable before launch", "depends on aws:PrincipalTag/x"}},
		"IAM says nothing about one":   {func(f *Facts) { f.Rights.Value = f.Rights.Value[1:] }, "permissions", events.Warn, []string{"IAM said nothing of ec2:CreateSecurityGroup by the role of launch (on security-group)"}},
		"IAM is not asked":             {func(f *Facts) { f.Rights = Answer[[]Decision]{Why: "AccessDenied"} }, "permissions", events.Warn, []string{"could not be checked: AccessDenied", "not provable before launch"}},
		"what passes is not a promise": {func(*Facts) {}, "permissions", events.Pass, []string{"not provable before launch"}},

		"nothing may enter":              {groups(func(g *types.SecurityGroup) { g.IpPermissions = nil }), "isolation", events.Warn, []string{"sg-own let nothing in", "isolate second"}},
		"nothing may leave":              {groups(func(g *types.SecurityGroup) { g.IpPermissionsEgress = nil }), "isolation", events.Warn, []string{"sg-own let nothing out"}},
		"its ACL is closed":              {both(acls(nil, open), func(f *Facts) { f.Request.AllowTemporaryEndpoint = true }), "isolation", events.Warn, []string{"acl-own lets nothing in", "acl-own lets nothing out"}},
		"its group is another account's": {func(f *Facts) { f.Groups = nil }, "isolation", events.Warn, []string{"could not be checked", "sg-own"}},

		"whole frames":  {func(*Facts) {}, "mtu", events.Pass, []string{"8947"}},
		"their headers": {func(f *Facts) { f.Request.Profile = events.ProfileHeaders }, "mtu", events.Pass, []string{"128 bytes"}},
		"a control CIDR that is none": {func(f *Facts) {
			f.Request.Profile, f.Request.ControlCIDRs = events.ProfileEverything, []string{"bastion"}
		}, "filter", events.Fail, []string{"control CIDR"}},
		"the finding can't be read": {func(f *Facts) { f.Finding = Answer[*events.Finding]{Why: "Malformed: not JSON"} }, "filter", events.Warn, []string{"could not be read"}},
	} {
		f := good()
		row.change(&f)
		p := Decide(f)
		v := verdict(p, row.check)
		if v.Result != row.result {
			t.Errorf("%s: %+v, want %s", name, v, row.result)
		}
		for _, s := range row.says {
			if !strings.Contains(v.Reason+" | "+v.Remedy, s) {
				t.Errorf("%s: says %q, want %q", name, v.Reason+" | "+v.Remedy, s)
			}
		}
		if row.result == events.Fail && (v.Remedy == "" || p.Go) {
			t.Errorf("%s: fails, go is %t, and what to do is %q", name, p.Go, v.Remedy)
		}
		if row.result != events.Fail && !p.Go {
			t.Errorf("%s: forbids the capture: %+v", name, p.Failed())
		}
	}
}

// denyEndpoint takes the right to make an endpoint away.
func denyEndpoint(f *Facts) {
	for i, d := range f.Rights.Value {
		if d.Action == "ec2:CreateVpcEndpoint" {
			f.Rights.Value[i].Decision = "implicitDeny"
		}
	}
}

// noWay takes S3 away from both subnets.
func noWay(f *Facts) { f.RouteTables = []types.RouteTable{mainTable()} }

// TestTemporaryEndpoint: what no route gives, the capture brings with it when it may.
func TestTemporaryEndpoint(t *testing.T) {
	f := good()
	noWay(&f)
	if p := Decide(f); p.Go || p.Collector.Endpoint != nil || !strings.Contains(verdict(p, "placement").Remedy, "temporary endpoint") ||
		!strings.Contains(verdict(p, "placement").Remedy, "aws ec2 create-vpc-endpoint --vpc-id vpc-1 --service-name com.amazonaws.eu-central-1.s3 --route-table-ids rtb-main") {
		t.Errorf("without leave: %+v, %+v", p.Collector.Endpoint, verdict(p, "placement"))
	}
	f.Settings.AllowTemporaryEndpoint = true // the deployment's word is enough
	f.Request.AllowTemporaryEndpoint = true
	p := Decide(f)
	want := &events.EndpointPlan{Service: "com.amazonaws.eu-central-1.s3", Subnet: "subnet-own", SecurityGroupName: events.EndpointGroupName("prod", capture1)}
	got := p.Collector.Endpoint
	if !p.Go || got == nil || verdict(p, "endpoint").Result != events.Fixed || p.Collector.Subnet != "subnet-own" {
		t.Fatalf("with leave: %+v, %+v", got, p.Failed())
	}
	for _, s := range []string{`"s3:PutObject"`, "arn:aws:s3:::evidence/captures/" + string(capture1) + "/collectors/*", `"s3:GetObject"`, "arn:aws:s3:::evidence/tools/arm", "arn:aws:s3:::evidence/tools/x86"} {
		if !strings.Contains(got.Policy, s) {
			t.Errorf("the policy %s leaves out %s", got.Policy, s)
		}
	}
	want.Policy = got.Policy
	if *got != *want {
		t.Errorf("%+v, want %+v", got, want)
	}

	f = good()
	f.Request.AllowTemporaryEndpoint = true
	if p := Decide(f); p.Collector.Endpoint != nil || p.Collector.S3Path != "vpce-1" {
		t.Errorf("allowed but not needed: %+v by %s", p.Collector.Endpoint, p.Collector.S3Path)
	}
	noWay(&f)
	f.Subnets[0] = subnet("subnet-own", 1) // one address for the collector, none for the endpoint
	if p := Decide(f); p.Collector.Endpoint == nil || p.Collector.Endpoint.Subnet != "subnet-other" {
		t.Errorf("a subnet with one address: %+v", p.Collector.Endpoint)
	}
	// Leave is not asked for where it would not help.
	for name, row := range map[string]struct {
		change func(*Facts)
		check  string
		helps  bool
	}{
		"one subnet has room for an endpoint, too": {noWay, "placement", true},
		"no subnet has":                             {both(noWay, func(f *Facts) { f.Subnets = []types.Subnet{subnet("subnet-own", 1), subnet("subnet-other", 1)} }), "placement", false},
		"the only one with room gets no copies":     {both(noWay, elsewhere, acls(nil, nil)), "placement", false},
		"an ACL keeps S3 out":                       {acls(nil, nil), "network-acls", true},
		"an ACL keeps S3 and copies out":            {both(elsewhere, acls(nil, nil)), "network-acls", false},
		"an ACL keeps S3 out, and there is no room": {both(func(f *Facts) { f.Subnets = []types.Subnet{subnet("subnet-own", 1)} }, acls(nil, nil)), "network-acls", false},
		"a firewall is before the only way to S3": {func(f *Facts) {
			away := types.Route{DestinationCidrBlock: aws.String("10.0.2.0/24"), NetworkInterfaceId: aws.String("eni-firewall"), State: types.RouteStateActive}
			f.RouteTables = append(f.RouteTables, tableOf("subnet-own", away))
		}, "route", true},
	} {
		f := good()
		row.change(&f)
		p := Decide(f)
		if v := verdict(p, row.check); v.Result != events.Fail || strings.Contains(v.Remedy, askForEndpoint) != row.helps {
			t.Errorf("%s: %+v", name, v)
		}
		f.Request.AllowTemporaryEndpoint = true
		if p := Decide(f); p.Go != row.helps || strings.Contains(verdict(p, row.check).Remedy, askForEndpoint) {
			t.Errorf("%s, with leave: %+v", name, p.Failed())
		}
	}
	// An endpoint in the collector's own subnet also gets around an ACL that keeps S3 out.
	f = good()
	f.Request.AllowTemporaryEndpoint = true
	f.ACLs = []types.NetworkAcl{acl("acl-1", []string{"subnet-own", "subnet-other"}, allowAll(100, false))}
	if p := Decide(f); !p.Go || p.Collector.Endpoint == nil {
		t.Errorf("behind a closed ACL: %+v", p.Failed())
	}
}

// TestNamesOfS3: an interface endpoint with private DNS answers S3's names with addresses that the collector's group does not let
// it reach.
func TestNamesOfS3(t *testing.T) {
	f := good()
	f.Endpoints = append(f.Endpoints, types.VpcEndpoint{VpcEndpointId: aws.String("vpce-2"), VpcEndpointType: types.VpcEndpointTypeInterface, PrivateDnsEnabled: aws.Bool(true)})
	if v := verdict(Decide(f), "placement"); v.Result != events.Fail || !strings.Contains(v.Reason, "vpce-2") || !strings.Contains(v.Remedy, "--vpc-endpoint-id vpce-2 --no-private-dns-enabled") {
		t.Errorf("%+v", v)
	}
	f.Endpoints[1].DnsOptions = &types.DnsOptions{PrivateDnsOnlyForInboundResolverEndpoint: aws.Bool(true)}
	if v := verdict(Decide(f), "placement"); v.Result != events.Pass {
		t.Errorf("for inbound resolvers alone: %+v", v)
	}
}

// TestCandidatesBySize: the slowest type that is fast enough first.
func TestCandidatesBySize(t *testing.T) {
	for need, want := range map[float64]string{
		0.75: "c7i.large c7g.large c6gn.large c6in.large c7gn.large",
		0.9:  "c7g.large c6gn.large c6in.large c7gn.large c7i.large",
		3:    "c6gn.large c6in.large c7gn.large c7g.large c7i.large",
		3.1:  "c6in.large c7gn.large c6gn.large c7g.large c7i.large",
		50:   "c7gn.large c6in.large c6gn.large c7g.large c7i.large",
		0:    "c7gn.large c6gn.large c6in.large c7g.large c7i.large", // not known: as configured
	} {
		f := good()
		f.Types.Value[0] = kind("m5.large", 2, need)
		var got []string
		for _, c := range Decide(f).Collector.Candidates {
			got = append(got, c.InstanceType)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("for a source of %v Gbps: %s, want %s", need, strings.Join(got, " "), want)
		}
	}
}

// TestShadowing: sessions at lower numbers take what their filters accept.
func TestShadowing(t *testing.T) {
	mirrors := func(id string, rules ...types.TrafficMirrorFilterRule) types.TrafficMirrorFilter {
		return types.TrafficMirrorFilter{TrafficMirrorFilterId: aws.String(id), IngressFilterRules: rules}
	}
	web := types.TrafficMirrorFilterRule{RuleNumber: aws.Int32(1), RuleAction: types.TrafficMirrorRuleActionAccept, TrafficDirection: types.TrafficDirectionIngress,
		Protocol: aws.Int32(6), SourceCidrBlock: aws.String("0.0.0.0/0"), DestinationCidrBlock: aws.String("0.0.0.0/0"),
		DestinationPortRange: &types.TrafficMirrorPortRange{FromPort: aws.Int32(443), ToPort: aws.Int32(443)}}
	of := func(number int32, id, filter string) types.TrafficMirrorSession {
		s := session(number, id, source1, number)
		s.TrafficMirrorFilterId, s.OwnerId = aws.String(filter), aws.String("222233334444")
		return s
	}
	f := good()
	f.Sessions, f.Filters = []types.TrafficMirrorSession{of(1, "tms-1", "tmf-1")}, []types.TrafficMirrorFilter{mirrors("tmf-1", web)}
	p := Decide(f)
	v := verdict(p, "shadowing")
	if len(p.Shadows) != 1 || p.Shadows[0].All || len(p.Shadows[0].Takes) != 1 || !strings.Contains(p.Shadows[0].Takes[0], "443") || !p.Go {
		t.Errorf("a session for HTTPS: %+v", p.Shadows)
	}
	if v.Result != events.Warn || !strings.Contains(v.Reason, "session tms-1 of account 222233334444 at number 1") || !strings.Contains(v.Remedy, "--traffic-mirror-session-id tms-1 --session-number 3") {
		t.Errorf("%+v", v)
	}

	f.Sessions[0].SessionNumber = aws.Int32(5)
	if v := verdict(Decide(f), "shadowing"); !strings.Contains(v.Remedy, "session number 4") {
		t.Errorf("a lower number is free: %+v", v)
	}
	f.Request.SessionNumber = 4
	if p := Decide(f); len(p.Shadows) != 0 || verdict(p, "shadowing").Result != events.Pass {
		t.Errorf("with the remedy: %+v", p.Shadows)
	}
	f.Request.SessionNumber = 5
	if v := verdict(Decide(f), "shadowing"); v.Result != events.Warn || v.Reason != "not judged: no session number is free for ours" {
		t.Errorf("the number is taken: %+v", v)
	}

	f = good()
	f.Sessions = []types.TrafficMirrorSession{of(2, "tms-1", "tmf-1")}
	everything := mirrors("tmf-1")
	everything.NetworkServices = []types.TrafficMirrorNetworkService{types.TrafficMirrorNetworkServiceAmazonDns}
	for _, cidr := range []string{"0.0.0.0/0", "::/0"} {
		for i, direction := range []types.TrafficDirection{types.TrafficDirectionIngress, types.TrafficDirectionEgress} {
			r := types.TrafficMirrorFilterRule{RuleNumber: aws.Int32(int32(10 + len(cidr))), RuleAction: types.TrafficMirrorRuleActionAccept, TrafficDirection: direction,
				SourceCidrBlock: aws.String(cidr), DestinationCidrBlock: aws.String(cidr)}
			if i == 0 {
				everything.IngressFilterRules = append(everything.IngressFilterRules, r)
			} else {
				everything.EgressFilterRules = append(everything.EgressFilterRules, r)
			}
		}
	}
	f.Filters = []types.TrafficMirrorFilter{everything}
	if p := Decide(f); p.Go || len(p.Shadows) != 1 || !p.Shadows[0].All || verdict(p, "shadowing").Result != events.Fail {
		t.Errorf("a session for everything: %+v, %+v", p.Shadows, verdict(p, "shadowing"))
	}
	f.Sessions[0].Tags = []types.Tag{{Key: aws.String(events.TagDeployment), Value: aws.String("prod")}}
	if p := Decide(f); !p.Go || len(p.Shadows) != 0 || !strings.Contains(verdict(p, "sessions").Reason, "joins that capture") {
		t.Errorf("a running capture of our own, which this one joins: %+v, %+v", p.Shadows, p.Failed())
	}
	f.Sessions[0].Tags[0].Value = aws.String("other")
	if p := Decide(f); p.Go {
		t.Error("another deployment's session is taken for ours")
	}
	f.Filters = nil // another account's
	if p := Decide(f); !p.Go || len(p.Shadows) != 1 || !strings.Contains(p.Shadows[0].Takes[0], "perhaps") {
		t.Errorf("a session whose filter is not described: %+v", p.Shadows)
	}

	f.Filters = []types.TrafficMirrorFilter{everything}
	f.Sessions[0].Tags = []types.Tag{{Key: aws.String(events.TagDeployment), Value: &f.Settings.Deployment}}
	if p := Decide(f); !p.Go || len(p.Shadows) != 0 {
		t.Errorf("our own session, whose capture the guard joins: %+v", p.Shadows)
	}
}

// TestVerdictsHaveReasons: whatever is unknown, a plan says something about each check, once.
func TestVerdictsHaveReasons(t *testing.T) {
	bare := good()
	for name, f := range map[string]Facts{"good": good(), "bare": {Why: "the request names it", Settings: bare.Settings, Request: bare.Request, Interface: bare.Interface, DrawVNI: bare.DrawVNI}} {
		seen := map[string]bool{}
		for _, v := range Decide(f).Verdicts {
			if v.Reason == "" || seen[v.Check] || v.Result == events.Fail && v.Remedy == "" {
				t.Errorf("%s: %+v", name, v)
			}
			seen[v.Check] = true
		}
		if len(seen) < 15 && name == "good" {
			t.Errorf("%s: only %d checks", name, len(seen))
		}
	}
}

// TestSimulations: what is asked of IAM is about the deployment's own roles, and nothing is asked without them.
func TestSimulations(t *testing.T) {
	f := good()
	steps := ""
	for _, s := range Simulations(f.Settings, f.Interface) {
		steps += s.Step + " "
		if s.Role != roleARN+s.Step || len(s.Actions()) == 0 || len(s.Resources()) == 0 || len(s.Context) == 0 {
			t.Errorf("%+v", s)
		}
		for _, r := range s.Resources() {
			if !strings.HasPrefix(r, "arn:aws:") || strings.Contains(r, "*") {
				t.Errorf("%s: resource %s is no ARN of one thing", s.Step, r)
			}
		}
	}
	if steps != "launch mirror teardown " {
		t.Errorf("asked about %s", steps)
	}
	f.Settings.Roles = nil
	if list := Simulations(f.Settings, f.Interface); len(list) != 0 {
		t.Errorf("without roles: %s", fmt.Sprint(list))
	}
}
