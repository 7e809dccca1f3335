package plan

import (
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"flashtap/events"
)

func subnet(id string, free int32) types.Subnet {
	cidr := "10.0.1.0/24"
	if id != "subnet-own" {
		cidr = "10.0.2.0/24"
	}
	return types.Subnet{SubnetId: aws.String(id), VpcId: aws.String("vpc-1"), AvailableIpAddressCount: aws.Int32(free), CidrBlock: aws.String(cidr)}
}

func toEndpoint(id string) types.Route {
	return types.Route{GatewayId: aws.String(id), DestinationPrefixListId: aws.String(s3List), State: types.RouteStateActive}
}

func toNAT(id string) types.Route {
	return types.Route{NatGatewayId: aws.String(id), DestinationCidrBlock: aws.String("0.0.0.0/0"), State: types.RouteStateActive}
}

func toInternet(id string) types.Route {
	return types.Route{GatewayId: aws.String(id), DestinationCidrBlock: aws.String("0.0.0.0/0"), State: types.RouteStateActive}
}

func blackhole(r types.Route) types.Route {
	r.State = types.RouteStateBlackhole
	return r
}

var local = types.Route{GatewayId: aws.String("local"), DestinationCidrBlock: aws.String("10.0.0.0/16"), State: types.RouteStateActive}

func mainTable(routes ...types.Route) types.RouteTable {
	return types.RouteTable{RouteTableId: aws.String("rtb-main"), Routes: append([]types.Route{local}, routes...), Associations: []types.RouteTableAssociation{{Main: aws.Bool(true)}}}
}

func tableOf(subnet string, routes ...types.Route) types.RouteTable {
	return types.RouteTable{RouteTableId: aws.String("rtb-" + subnet), Routes: append([]types.Route{local}, routes...), Associations: []types.RouteTableAssociation{{SubnetId: aws.String(subnet)}}}
}

func TestPlace(t *testing.T) {
	for name, row := range map[string]struct {
		change func(*Facts)
		subnet string // none: there is no place
		path   string
		says   []string
	}{
		"its own subnet, by the main route table": {func(*Facts) {}, "subnet-own", "vpce-1", nil},
		"its own subnet, though listed last":      {func(f *Facts) { slices.Reverse(f.Subnets) }, "subnet-own", "vpce-1", nil},
		"its own subnet's table before the main one": {func(f *Facts) {
			f.RouteTables = []types.RouteTable{mainTable(toEndpoint("vpce-1")), tableOf("subnet-own", toNAT("nat-1"))}
		}, "subnet-own", "nat-1", nil},
		"its own subnet is isolated, another is not": {func(f *Facts) {
			f.RouteTables = []types.RouteTable{tableOf("subnet-own"), mainTable(toEndpoint("vpce-1"))}
		}, "subnet-other", "vpce-1", nil},
		"its own subnet is full":     {func(f *Facts) { f.Subnets[0] = subnet("subnet-own", 0) }, "subnet-other", "vpce-1", nil},
		"its own subnet has no IPv4": {func(f *Facts) { f.Subnets[0].Ipv6Native = aws.Bool(true) }, "subnet-other", "vpce-1", nil},
		"an endpoint before NAT": {func(f *Facts) {
			f.RouteTables = []types.RouteTable{mainTable(toNAT("nat-1"), toEndpoint("vpce-1"))}
		}, "subnet-own", "vpce-1", nil},
		"NAT": {func(f *Facts) { f.RouteTables = []types.RouteTable{mainTable(toNAT("nat-1"))} }, "subnet-own", "nat-1", nil},
		"NAT that is not there yet": {func(f *Facts) {
			f.RouteTables = []types.RouteTable{mainTable(toNAT("nat-1"))}
			f.NATGateways = []types.NatGateway{{NatGatewayId: aws.String("nat-1"), State: types.NatGatewayStatePending}}
		}, "", "", []string{"NAT gateway nat-1 is pending", "create-vpc-endpoint"}},
		"NAT that works": {func(f *Facts) {
			f.RouteTables = []types.RouteTable{mainTable(toNAT("nat-1"))}
			f.NATGateways = []types.NatGateway{{NatGatewayId: aws.String("nat-1"), State: types.NatGatewayStateAvailable}}
		}, "subnet-own", "nat-1", nil},
		"a default route to a firewall": {func(f *Facts) {
			f.RouteTables = []types.RouteTable{mainTable(types.Route{NetworkInterfaceId: aws.String("eni-firewall"), DestinationCidrBlock: aws.String("0.0.0.0/0")})}
		}, "", "", []string{"eni-firewall", "create-vpc-endpoint"}},
		"a transit gateway": {func(f *Facts) {
			f.RouteTables = []types.RouteTable{mainTable(types.Route{TransitGatewayId: aws.String("tgw-1"), DestinationCidrBlock: aws.String("0.0.0.0/0")})}
		}, "subnet-own", "tgw-1", nil},
		"an internet gateway alone": {func(f *Facts) { f.RouteTables = []types.RouteTable{mainTable(toInternet("igw-1"))} }, "", "",
			[]string{"internet gateway", "no public address", "subnet-own", "subnet-other"}},
		"no way out":                 {func(f *Facts) { f.RouteTables = []types.RouteTable{mainTable()} }, "", "", []string{"no route leads to S3"}},
		"an endpoint that is gone":   {func(f *Facts) { f.RouteTables = []types.RouteTable{mainTable(blackhole(toEndpoint("vpce-1")))} }, "", "", []string{"no route leads to S3"}},
		"a NAT gateway that is gone": {func(f *Facts) { f.RouteTables = []types.RouteTable{mainTable(blackhole(toNAT("nat-1")))} }, "", "", []string{"no route leads to S3"}},
		"NAT for a part of the world": {func(f *Facts) {
			r := toNAT("nat-1")
			r.DestinationCidrBlock = aws.String("192.0.2.0/24")
			f.RouteTables = []types.RouteTable{mainTable(r)}
		}, "", "", []string{"no route leads to S3"}},
		"an endpoint for DynamoDB": {func(f *Facts) {
			r := toEndpoint("vpce-9")
			r.DestinationPrefixListId = aws.String("pl-dynamodb")
			f.RouteTables = []types.RouteTable{mainTable(r)}
		}, "", "", []string{"no route leads to S3"}},
		"an endpoint that refuses, and NAT beside it": {func(f *Facts) {
			// The route to the endpoint is the more specific one, so S3's packets never get to NAT.
			f.RouteTables = []types.RouteTable{mainTable(toEndpoint("vpce-1"), toNAT("nat-1"))}
			f.Endpoints[0].PolicyDocument = aws.String(`{"Statement":[]}`)
		}, "", "", []string{"vpce-1", "does not admit"}},
		"no route tables":    {func(f *Facts) { f.RouteTables = nil }, "", "", []string{"no route table"}},
		"no subnets":         {func(f *Facts) { f.Subnets = nil }, "", "", []string{"no subnet of vpc-1 in eu-central-1a"}},
		"all full":           {func(f *Facts) { f.Subnets = []types.Subnet{subnet("subnet-own", 0), subnet("subnet-other", 0)} }, "", "", []string{"subnet-own: no address of it is free", "subnet-other: no address of it is free"}},
		"DNS support is off": {func(f *Facts) { f.DNSSupport = false }, "", "", []string{"vpc-1", "DNS support off", "--enable-dns-support"}},
	} {
		f := good()
		row.change(&f)
		p := Decide(f)
		v := verdict(p, "placement")
		if p.Collector.Subnet != row.subnet || p.Collector.S3Path != row.path || (v.Result == events.Pass) != (row.subnet != "") || p.Go != (row.subnet != "") {
			t.Errorf("%s: in %q by %q, %+v; want %q by %q", name, p.Collector.Subnet, p.Collector.S3Path, v, row.subnet, row.path)
		}
		for _, s := range row.says {
			if !strings.Contains(v.Reason+" "+v.Remedy, s) {
				t.Errorf("%s: says %q, want %q", name, v.Reason+" "+v.Remedy, s)
			}
		}
		if row.subnet == "" && v.Remedy == "" {
			t.Errorf("%s: fails without a word on what to do", name)
		}
	}
}

func TestConfigured(t *testing.T) {
	s := good().Settings
	s.InstanceTypes = []string{"c7gn.large", "c6in.large", "a1.medium"}
	list := configured(s)
	want := []events.Candidate{
		{InstanceType: "c7gn.large", Image: "ami-arm", BinaryKey: "tools/arm", BinarySHA256: strings.Repeat("a", 64)},
		{InstanceType: "c6in.large", Image: "ami-x86", BinaryKey: "tools/x86", BinarySHA256: strings.Repeat("b", 64)},
		{InstanceType: "a1.medium", Image: "ami-arm", BinaryKey: "tools/arm", BinarySHA256: strings.Repeat("a", 64)},
	}
	if !slices.Equal(list, want) {
		t.Errorf("%+v", list)
	}
	delete(s.Images, events.ARM64)
	if list := configured(s); !slices.Equal(list, want[1:2]) {
		t.Errorf("without an image for arm64: %+v", list)
	}
}
