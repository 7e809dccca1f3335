package plan

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"flashtap/events"
)

const (
	source1  = "eni-0a0a0a0a0a0a0a0a0"
	capture1 = events.CaptureID("20261122T030405Z-" + source1)
	s3List   = "pl-63a5400a"
)

// good are the facts about a suspect with which nothing is wrong: an m5.large in subnet-own, from where a gateway
// endpoint leads to S3.
func good() Facts {
	now := time.Date(2026, 11, 22, 3, 5, 0, 123, time.UTC)
	s := events.DefaultSettings()
	s.Deployment, s.Account, s.Region, s.Bucket = "prod", "111122223333", "eu-central-1", "evidence"
	s.LaunchTemplateID, s.InstanceProfileARN, s.CollectorRoleID = "lt-1", "arn:aws:iam::111122223333:instance-profile/collector", "AROAX"
	s.Images = map[string]string{events.ARM64: "ami-arm", events.X86_64: "ami-x86"}
	s.BinaryKeys = map[string]string{events.ARM64: "tools/arm", events.X86_64: "tools/x86"}
	s.BinaryDigests = map[string]string{events.ARM64: strings.Repeat("a", 64), events.X86_64: strings.Repeat("b", 64)}
	ni := nic(source1, suspect, 0, "10.0.1.10")
	ni.VpcId, ni.SubnetId, ni.AvailabilityZone, ni.MacAddress = aws.String("vpc-1"), aws.String("subnet-own"), aws.String("eu-central-1a"), aws.String("02:00:00:00:00:01")
	ni.Groups = []types.GroupIdentifier{{GroupId: aws.String("sg-own")}}
	s.BucketKeyARN, s.VolumeKeyARN = bucketKey, volumeKey
	s.Roles = map[string]string{"launch": roleARN + "launch", "mirror": roleARN + "mirror", "teardown": roleARN + "teardown"}
	s.ScheduleRoleARN, s.ScheduleGroup = roleARN+"scheduler", "flashtap-prod"
	draws := uint32(0)
	return Facts{
		Settings: s, Tool: "flashtap preflight test",
		Request: events.Request{Capture: capture1, NetworkInterfaceID: source1},
		Start:   now.Add(-time.Minute), Now: now, Interface: ni, Why: "the request names it",
		Instance:     &types.Instance{InstanceId: aws.String(suspect), InstanceType: "m5.large", State: &types.InstanceState{Name: types.InstanceStateNameRunning}},
		Finding:      Known[*events.Finding](nil),
		Subnets:      []types.Subnet{subnet("subnet-own", 200), subnet("subnet-other", 200)},
		RouteTables:  []types.RouteTable{mainTable(toEndpoint("vpce-1"))},
		ACLs:         []types.NetworkAcl{acl("acl-open", []string{"subnet-own", "subnet-other"}, allowAll(100, true), allowAll(100, false))},
		Groups:       []types.SecurityGroup{{GroupId: aws.String("sg-own"), GroupName: aws.String("web"), IpPermissions: anyone(), IpPermissionsEgress: anyone()}},
		Endpoints:    []types.VpcEndpoint{{VpcEndpointId: aws.String("vpce-1")}},
		S3PrefixList: s3List, DNSSupport: true,
		Types:     Known([]types.InstanceTypeInfo{kind("m5.large", 2, 0.75), kind("c7gn.large", 2, 6.25), kind("c6gn.large", 2, 3), kind("c6in.large", 2, 3.125), kind("c7g.large", 2, 0.937), kind("c7i.large", 2, 0.781)}),
		Offered:   Known(s.InstanceTypes),
		Load:      Known(Load{Periods: []Period{{At: now.Add(-10 * time.Minute), Seconds: 300, In: 1e6, Out: 1e6}}}),
		UsedVCPUs: Known(10.0), VCPUQuota: Known(64.0), GroupQuota: Known(2500.0),
		BucketKey: Known(Key{ARN: bucketKey, State: "Enabled", Usage: "ENCRYPT_DECRYPT"}), VolumeKey: Known(Key{ARN: volumeKey, State: "Enabled", Usage: "ENCRYPT_DECRYPT"}),
		Rights:  Known(allowed(s, ni)),
		DrawVNI: func() uint32 { draws++; return 0xabc000 + draws },
	}
}

const (
	roleARN   = "arn:aws:iam::111122223333:role/flashtap-prod-"
	bucketKey = "arn:aws:kms:eu-central-1:111122223333:key/b"
	volumeKey = "arn:aws:kms:eu-central-1:111122223333:key/v"
)

// allowed are the decisions of an IAM that allows all that is asked about.
func allowed(s events.Settings, ni types.NetworkInterface) []Decision {
	var list []Decision
	for _, sim := range Simulations(s, ni) {
		for _, r := range sim.Rights {
			list = append(list, Decision{Step: sim.Step, Role: sim.Role, Action: r.Action, Resource: r.Resource, Decision: "allowed"})
		}
	}
	return list
}

func kind(name string, vcpus int32, gbps float64) types.InstanceTypeInfo {
	return types.InstanceTypeInfo{InstanceType: types.InstanceType(name), VCpuInfo: &types.VCpuInfo{DefaultVCpus: aws.Int32(vcpus)},
		NetworkInfo: &types.NetworkInfo{NetworkCards: []types.NetworkCardInfo{{NetworkCardIndex: aws.Int32(0), BaselineBandwidthInGbps: aws.Float64(gbps)}}}}
}

func anyone() []types.IpPermission {
	return []types.IpPermission{{IpProtocol: aws.String("-1"), IpRanges: []types.IpRange{{CidrIp: aws.String("0.0.0.0/0")}}}}
}

func acl(id string, subnets []string, entries ...types.NetworkAclEntry) types.NetworkAcl {
	a := types.NetworkAcl{NetworkAclId: aws.String(id), Entries: entries}
	for _, s := range subnets {
		a.Associations = append(a.Associations, types.NetworkAclAssociation{SubnetId: aws.String(s)})
	}
	return a
}

func allowAll(number int32, egress bool) types.NetworkAclEntry {
	return types.NetworkAclEntry{RuleNumber: aws.Int32(number), Egress: aws.Bool(egress), Protocol: aws.String("-1"), CidrBlock: aws.String("0.0.0.0/0"), RuleAction: types.RuleActionAllow}
}

// entry is a rule about ports of TCP (6) or UDP (17).
func entry(number int32, egress bool, protocol, cidr string, from, to int32, action types.RuleAction) types.NetworkAclEntry {
	return types.NetworkAclEntry{RuleNumber: aws.Int32(number), Egress: aws.Bool(egress), Protocol: aws.String(protocol), CidrBlock: aws.String(cidr),
		PortRange: &types.PortRange{From: aws.Int32(from), To: aws.Int32(to)}, RuleAction: action}
}

// sameRules compares filters without regard to the order in which they list their rules.
func sameRules(a, b events.Filter) bool {
	if a.DNS != b.DNS || len(a.Rules) != len(b.Rules) {
		return false
	}
	return !slices.ContainsFunc(a.Rules, func(r events.FilterRule) bool {
		return !slices.ContainsFunc(b.Rules, func(o events.FilterRule) bool { return reflect.DeepEqual(r, o) })
	})
}

func session(number int32, id, eni string, vni int32) types.TrafficMirrorSession {
	return types.TrafficMirrorSession{TrafficMirrorSessionId: aws.String(id), SessionNumber: aws.Int32(number), NetworkInterfaceId: aws.String(eni), VirtualNetworkId: aws.Int32(vni)}
}

func verdict(p events.Plan, check string) events.Verdict {
	for _, v := range p.Verdicts {
		if v.Check == check {
			return v
		}
	}
	return events.Verdict{}
}

func TestDecideGood(t *testing.T) {
	facts := good()
	facts.Settings.Tags = map[string]string{"Team": "soc"}
	p := Decide(facts)
	if p.Tags["Team"] != "soc" {
		t.Errorf("tags %v: the deployment's own are to be on everything", p.Tags)
	}
	if !p.Go {
		t.Fatalf("%+v", p.Failed())
	}
	for _, v := range p.Verdicts {
		if v.Result != events.Pass || v.Reason == "" {
			t.Errorf("%+v", v)
		}
	}
	want := events.Source{NetworkInterfaceID: source1, InterfaceType: "interface", InstanceID: suspect, InstanceType: "m5.large", VPC: "vpc-1",
		Subnet: "subnet-own", AvailabilityZone: "eu-central-1a", PrimaryIPv4: "10.0.1.10", MAC: "02:00:00:00:00:01"}
	if p.Source != want {
		t.Errorf("source %+v, want %+v", p.Source, want)
	}
	if p.Mirror.SessionNumber != 1 || p.Mirror.VNI != 0xabc001 || !sameRules(p.Mirror.Filter, events.EverythingFilter()) || p.Profile != events.ProfileEverything {
		t.Errorf("mirror %+v", p.Mirror)
	}
	// What is there before the session also takes time, and must not take it from the capture.
	if got := p.Deadline.Sub(good().Now.Truncate(time.Second)); got != 20*time.Minute {
		t.Errorf("the deadline is %s from now; 15 minutes of capture and 5 to get there make 20", got)
	}
	if p.Limits.DurationSeconds != 900 || p.Limits.PollSeconds != 5 || p.Limits.CheckpointSeconds != 15 || p.Limits.SpoolBytes == 0 || p.Limits.SegmentBytes == 0 {
		t.Errorf("limits %+v", p.Limits)
	}
	for _, c := range p.Collector.Candidates {
		config := p.CollectorConfig(c)
		if _, err := events.UserData(config, p.Lifetime()); err != nil {
			t.Errorf("a plan that says go gives no user data: %v", err)
		}
	}
}

func TestDecide(t *testing.T) {
	ours := func(ni *types.NetworkInterface, kind types.NetworkInterfaceType) { ni.InterfaceType = kind }
	managed := func(requester, description string) func(*Facts) {
		return func(f *Facts) {
			f.Interface.RequesterManaged, f.Interface.RequesterId, f.Interface.Description = aws.Bool(true), aws.String(requester), aws.String(description)
			f.Interface.Attachment, f.Instance = &types.NetworkInterfaceAttachment{InstanceOwnerId: aws.String(requester)}, nil
		}
	}
	bears := func(ni, instance string) func(*Facts) {
		return func(f *Facts) {
			f.Settings.OptOutTag = "spare"
			f.Interface.TagSet = []types.Tag{{Key: aws.String("other"), Value: aws.String("true")}, {Key: aws.String("spare"), Value: &ni}}
			f.Instance.Tags = []types.Tag{{Key: aws.String("spare"), Value: &instance}}
		}
	}
	family := func(kind string) func(*Facts) {
		return func(f *Facts) { f.Instance.InstanceType = types.InstanceType(kind) }
	}
	for name, row := range map[string]struct {
		change func(*Facts)
		check  string
		result string
		says   string // in reason or remedy
	}{
		"NAT gateway, as the enum spells it":     {func(f *Facts) { ours(&f.Interface, "natGateway") }, "interface-type", events.Fail, "behind the NAT gateway"},
		"NAT gateway, as the documents spell it": {func(f *Facts) { ours(&f.Interface, "nat_gateway") }, "interface-type", events.Fail, "behind the NAT gateway"},
		"Lambda":                                 {func(f *Facts) { ours(&f.Interface, "lambda") }, "interface-type", events.Fail, "peer of the function"},
		"branch":                                 {func(f *Facts) { ours(&f.Interface, "branch") }, "interface-type", events.Fail, "trunk's instance"},
		"trunk":                                  {func(f *Facts) { ours(&f.Interface, "trunk") }, "interface-type", events.Fail, "primary interface"},
		"EFA":                                    {func(f *Facts) { ours(&f.Interface, "efa") }, "interface-type", events.Fail, "ordinary interface"},
		"EFA only, with a dash":                  {func(f *Facts) { ours(&f.Interface, "efa-only") }, "interface-type", events.Fail, "an ordinary interface of the instance"},
		"VPC endpoint":                           {func(f *Facts) { ours(&f.Interface, "vpc_endpoint") }, "interface-type", events.Fail, "use the endpoint"},
		"a type of tomorrow":                     {func(f *Facts) { ours(&f.Interface, "quantum") }, "interface-type", events.Fail, "quantum"},
		"an ordinary one in capitals":            {func(f *Facts) { ours(&f.Interface, "Interface") }, "interface-type", events.Pass, ""},
		"managed by RDS":                         {managed("amazon-rds", "RDSNetworkInterface"), "interface-type", events.Pass, ""},
		"managed by ElastiCache":                 {managed("amazon-elasticache", "ElastiCache cache-0001-001"), "interface-type", events.Pass, ""},
		"managed by ElastiCache, told by its text": {managed("AROAEXAMPLE:x", "ElastiCache cache-0001-001"), "interface-type", events.Pass, ""},
		"managed by a load balancer":               {managed("amazon-elb", "ELB app/web/50dc6c495c0c9188"), "interface-type", events.Fail, "amazon-elb"},
		"a load balancer called records":           {managed("amazon-elb", "ELB app/records/50dc6c495c0c9188"), "interface-type", events.Fail, "amazon-elb"},
		"managed by EFS":                           {managed("123456789012", "EFS mount target for fs-1"), "interface-type", events.Fail, "123456789012"},
		"attached to nothing":                      {func(f *Facts) { f.Interface.Attachment = nil }, "interface-type", events.Fail, "attached to no instance"},
		"IPv6 alone":                               {func(f *Facts) { f.Interface = withAddresses(f.Interface, "2001:db8::1") }, "interface-type", events.Fail, "IPv4"},

		"opted out by its tag":        {bears("true", ""), "opt-out", events.Fail, "eni-"},
		"opted out by its instance's": {bears("", "true"), "opt-out", events.Fail, "i-"},
		"the tag says something else": {bears("false", "no"), "opt-out", events.Pass, ""},
		"no tag":                      {func(f *Facts) { f.Settings.OptOutTag = "spare" }, "opt-out", events.Pass, ""},

		"T2":                         {family("t2.micro"), "instance-family", events.Fail, "t2.micro"},
		"C7gn, fine as a collector":  {family("c7gn.large"), "instance-family", events.Fail, "c7gn.large"},
		"bare metal that is listed":  {family("m5.metal"), "instance-family", events.Pass, ""},
		"bare metal that is not":     {family("m6i.metal"), "instance-family", events.Fail, "m6i.metal"},
		"newer than the list":        {family("m9g.large"), "instance-family", events.Warn, "newer"},
		"the instance can't be seen": {func(f *Facts) { f.Instance = nil }, "instance-family", events.Warn, "not known"},
		"a database has no instance": {managed("amazon-rds", "RDSNetworkInterface"), "instance-family", events.Pass, ""},
		"it is a target of mirroring": {func(f *Facts) {
			f.Targets = []types.TrafficMirrorTarget{{TrafficMirrorTargetId: aws.String("tmt-1"), NetworkInterfaceId: aws.String(source1)}}
		}, "not-a-target", events.Fail, "tmt-1"},
		"another is a target": {func(f *Facts) {
			f.Targets = []types.TrafficMirrorTarget{{NetworkInterfaceId: aws.String("eni-1")}, {NetworkLoadBalancerArn: aws.String("arn")}}
		}, "not-a-target", events.Pass, ""},
		"the request is out of bounds":   {func(f *Facts) { f.Request.PacketLength = 1 }, "request", events.Fail, "packetLength 1"},
		"the deployment's default is":    {func(f *Facts) { f.Settings.PacketLength = 9999 }, "request", events.Fail, "packetLength 9999"},
		"the deployment mirrors nothing": {func(f *Facts) { f.Settings.Filter = &events.Filter{} }, "request", events.Fail, "mirrors nothing"},

		"IPv6, and rules for it": {func(f *Facts) { f.Interface = withAddresses(f.Interface, "10.0.1.10", "2001:db8::1") }, "filter", events.Pass, ""},
		"IPv6, and no rules for it": {func(f *Facts) {
			f.Interface = withAddresses(f.Interface, "10.0.1.10", "2001:db8::1")
			f.Request.Filter = ipv4Only(true)
		}, "filter", events.Warn, "::/0"},
		"no IPv6, and no rules for it": {func(f *Facts) { f.Request.Filter = ipv4Only(true) }, "filter", events.Pass, ""},
		"the VPC's DNS is left out":    {func(f *Facts) { f.Request.Filter = ipv4Only(false) }, "filter", events.Warn, "DNS"},
		"both are left out, both named": {func(f *Facts) {
			f.Interface = withAddresses(f.Interface, "10.0.1.10", "2001:db8::1")
			f.Request.Filter = ipv4Only(false)
		}, "filter", events.Warn, "no rule accepts IPv6. DNS"},

		"no image for any type":   {func(f *Facts) { f.Settings.Images = nil }, "collector", events.Fail, "FLASHTAP_IMAGES"},
		"no program for any type": {func(f *Facts) { f.Settings.BinaryKeys = nil }, "collector", events.Fail, "FLASHTAP_BINARY_KEYS"},
		"no digest for any type":  {func(f *Facts) { f.Settings.BinaryDigests = nil }, "collector", events.Fail, "FLASHTAP_BINARY_DIGESTS"},
	} {
		f := good()
		row.change(&f)
		p := Decide(f)
		v := verdict(p, row.check)
		if v.Result != row.result || !strings.Contains(v.Reason+" "+v.Remedy, row.says) {
			t.Errorf("%s: %+v, want %s that says %q", name, v, row.result, row.says)
		}
		if row.result == events.Fail && v.Remedy == "" {
			t.Errorf("%s: fails without a word on what to do", name)
		}
		if p.Go != (row.result != events.Fail) {
			t.Errorf("%s: go is %t; %+v", name, p.Go, p.Failed())
		}
	}
}

func withAddresses(ni types.NetworkInterface, addresses ...string) types.NetworkInterface {
	other := nic("", "", 0, addresses...)
	ni.PrivateIpAddress, ni.PrivateIpAddresses, ni.Ipv6Addresses = other.PrivateIpAddress, other.PrivateIpAddresses, other.Ipv6Addresses
	return ni
}

func ipv4Only(dns bool) *events.Filter {
	return &events.Filter{DNS: dns, Rules: []events.FilterRule{{Number: 1, Direction: events.Ingress, Action: events.Accept, SourceCIDR: "0.0.0.0/0", DestinationCIDR: "0.0.0.0/0"}}}
}

func TestSessionNumber(t *testing.T) {
	for name, row := range map[string]struct {
		there  []types.TrafficMirrorSession
		wanted int32
		want   int32
		result string
		says   string
	}{
		"none there":                       {nil, 0, 1, events.Pass, "0 of 3"},
		"after the highest":                {[]types.TrafficMirrorSession{session(5, "tms-1", source1, 1), session(9, "tms-2", source1, 2)}, 0, 10, events.Pass, "number 10"},
		"others' interfaces do not count":  {[]types.TrafficMirrorSession{session(5, "tms-1", "eni-other", 1)}, 0, 1, events.Pass, "0 of 3"},
		"the highest is the last possible": {[]types.TrafficMirrorSession{session(32766, "tms-1", source1, 1), session(1, "tms-2", source1, 2)}, 0, 2, events.Pass, "number 2"},
		"three there":                      {[]types.TrafficMirrorSession{session(1, "tms-1", source1, 1), session(2, "tms-2", source1, 2), session(3, "tms-3", source1, 3)}, 0, 0, events.Fail, "AWS allows 3"},
		"three there, a number asked for":  {[]types.TrafficMirrorSession{session(1, "tms-1", source1, 1), session(2, "tms-2", source1, 2), session(3, "tms-3", source1, 3)}, 7, 0, events.Fail, "AWS allows 3"},
		"asked for":                        {nil, 77, 77, events.Pass, "number 77"},
		"asked for, before those there":    {[]types.TrafficMirrorSession{session(5, "tms-1", source1, 1)}, 2, 2, events.Pass, "number 2"},
		"asked for and taken":              {[]types.TrafficMirrorSession{session(5, "tms-1", source1, 1)}, 5, 0, events.Fail, "taken by tms-1"},
		"asked for and taken on another's": {[]types.TrafficMirrorSession{session(5, "tms-1", "eni-other", 1)}, 5, 5, events.Pass, "number 5"},
	} {
		f := good()
		f.Sessions, f.Request.SessionNumber = row.there, row.wanted
		p := Decide(f)
		v := verdict(p, "sessions")
		if p.Mirror.SessionNumber != row.want || v.Result != row.result || !strings.Contains(v.Reason, row.says) {
			t.Errorf("%s: number %d, %+v; want %d, %s that says %q", name, p.Mirror.SessionNumber, v, row.want, row.result, row.says)
		}
		for _, s := range row.there {
			if aws.ToString(s.NetworkInterfaceId) == source1 && !slices.Contains(v.Evidence, aws.ToString(s.TrafficMirrorSessionId)) {
				t.Errorf("%s: the evidence %v leaves out %s", name, v.Evidence, aws.ToString(s.TrafficMirrorSessionId))
			}
		}
	}
}

func TestVNI(t *testing.T) {
	draws := []uint32{0, 1 << 24, 7, 8<<24 | 9, 11}
	f := good()
	f.Sessions = []types.TrafficMirrorSession{session(1, "tms-1", "eni-other", 7), session(1, "tms-2", "eni-another", 9)}
	f.DrawVNI = func() uint32 { d := draws[0]; draws = draws[1:]; return d }
	if got := Decide(f).Mirror.VNI; got != 11 {
		t.Errorf("VNI %d; 0 is nobody's, 7 and 9 are taken, and only 24 bits count, so 11", got)
	}
}

// TestSameFactsSamePlan: whatever a plan fixes comes from its facts.
func TestSameFactsSamePlan(t *testing.T) {
	a, b := Decide(good()), Decide(good())
	if !reflect.DeepEqual(a, b) {
		t.Errorf("the same facts give\n%+v\nand\n%+v", a, b)
	}
}

func TestIPv6Source(t *testing.T) {
	f := good()
	f.Interface = withAddresses(f.Interface, "10.0.1.10", "2001:db8::1", "2001:db8::2")
	if got := Decide(f).Source.PrimaryIPv6; got != "2001:db8::1" {
		t.Errorf("without a primary one the first is it, not %s", got)
	}
	f.Interface.Ipv6Addresses[1].IsPrimaryIpv6 = aws.Bool(true)
	if got := Decide(f).Source.PrimaryIPv6; got != "2001:db8::2" {
		t.Errorf("the primary IPv6 address is %s", got)
	}
}
