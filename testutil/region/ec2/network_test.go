package ec2

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

func TestSecurityGroupLife(t *testing.T) {
	l := newLand(t, Config{Pending: time.Hour, Limits: Limits{SecurityGroupsInVPC: 3, RulesInGroup: 3}})
	create := func(name string) (string, error) {
		out, err := l.api.CreateSecurityGroup(ctx, &sdk.CreateSecurityGroupInput{GroupName: &name, Description: aws.String("d"), VpcId: &l.vpc, TagSpecifications: tagSpec("security-group", "case", "7")})
		if err != nil {
			return "", err
		}
		return *out.GroupId, nil
	}
	id, err := create("capture-7")
	l.must(err)
	_, err = create("capture-7")
	l.refused(err, "InvalidGroup.Duplicate")
	_, err = create("sg-7")
	l.refused(err, "InvalidParameterValue")
	_, err = create("default")
	l.refused(err, "InvalidGroup.Reserved")
	_, err = create("größe")
	l.refused(err, "InvalidParameterValue")
	second, err := create("capture-8")
	l.must(err)
	_, err = create("capture-9")
	l.refused(err, "SecurityGroupLimitExceeded")
	_, err = l.api.CreateSecurityGroup(ctx, &sdk.CreateSecurityGroupInput{GroupName: aws.String("x"), Description: aws.String("d")})
	l.refused(err, "VPCIdNotSpecified")

	shown, err := l.api.DescribeSecurityGroups(ctx, &sdk.DescribeSecurityGroupsInput{Filters: filterOf("tag:case", "7")})
	l.must(err)
	egress := shown.SecurityGroups[0].IpPermissionsEgress
	l.equal("groups and their egress", []any{len(shown.SecurityGroups), len(egress), *egress[0].IpProtocol, *egress[0].IpRanges[0].CidrIp}, []any{2, 1, "-1", "0.0.0.0/0"})

	udp := func(cidr string, port int32) []types.IpPermission {
		return []types.IpPermission{{IpProtocol: aws.String("udp"), FromPort: &port, ToPort: &port, IpRanges: []types.IpRange{{CidrIp: &cidr, Description: aws.String("mirror")}}}}
	}
	allow := func(permissions []types.IpPermission) error {
		_, err := l.api.AuthorizeSecurityGroupIngress(ctx, &sdk.AuthorizeSecurityGroupIngressInput{GroupId: &id, IpPermissions: permissions})
		return err
	}
	l.must(allow(udp("127.20.1.4/32", 4789)))
	l.refused(allow(udp("127.20.1.4/32", 4789)), "InvalidPermission.Duplicate")
	l.refused(allow(append(udp("127.20.1.9/32", 4789), udp("127.20.1.9/32", 4789)...)), "InvalidParameterValue")
	l.refused(allow(udp("127.20.1.4", 4789)), "InvalidParameterValue")
	l.refused(allow(udp("127.20.1.4/32", 70000)), "InvalidParameterValue")
	l.refused(allow([]types.IpPermission{{IpProtocol: aws.String("udp"), IpRanges: []types.IpRange{{CidrIp: aws.String("0.0.0.0/0")}}}}), "InvalidParameterValue")
	l.refused(allow([]types.IpPermission{{IpProtocol: aws.String("vxlan"), IpRanges: []types.IpRange{{CidrIp: aws.String("0.0.0.0/0")}}}}), "InvalidParameterValue")
	l.refused(allow([]types.IpPermission{{IpProtocol: aws.String("-1")}}), "InvalidParameterValue")
	l.must(allow(udp("10.1.2.3/8", 53)))
	l.must(allow([]types.IpPermission{{IpProtocol: aws.String("17"), FromPort: aws.Int32(1), ToPort: aws.Int32(2), UserIdGroupPairs: []types.UserIdGroupPair{{GroupId: &second}}}}))
	l.refused(allow(udp("127.20.1.5/32", 4789)), "RulesPerSecurityGroupLimitExceeded")
	described, err := l.api.DescribeSecurityGroups(ctx, &sdk.DescribeSecurityGroupsInput{Filters: filterOf("ip-permission.cidr", "10.0.0.0/8")})
	l.must(err)
	l.equal("groups by the canonical block", len(described.SecurityGroups), 1)

	_, err = l.api.DeleteSecurityGroup(ctx, &sdk.DeleteSecurityGroupInput{GroupId: &second})
	l.refused(err, "DependencyViolation")
	_, err = l.api.RevokeSecurityGroupIngress(ctx, &sdk.RevokeSecurityGroupIngressInput{GroupId: &id, IpPermissions: udp("127.20.1.8/32", 4789)})
	l.refused(err, "InvalidPermission.NotFound")
	_, err = l.api.RevokeSecurityGroupIngress(ctx, &sdk.RevokeSecurityGroupIngressInput{GroupId: &id, IpPermissions: udp("127.20.1.4/32", 4789)})
	l.must(err)
	rules, err := l.api.DescribeSecurityGroupRules(ctx, &sdk.DescribeSecurityGroupRulesInput{Filters: filterOf("group-id", id)})
	l.must(err)
	l.equal("rules", len(rules.SecurityGroupRules), 3)
	for _, rule := range rules.SecurityGroupRules {
		if *rule.IsEgress {
			_, err = l.api.RevokeSecurityGroupEgress(ctx, &sdk.RevokeSecurityGroupEgressInput{GroupId: &id, SecurityGroupRuleIds: []string{*rule.SecurityGroupRuleId}})
		} else {
			_, err = l.api.RevokeSecurityGroupIngress(ctx, &sdk.RevokeSecurityGroupIngressInput{GroupId: &id, SecurityGroupRuleIds: []string{*rule.SecurityGroupRuleId}})
		}
		l.must(err)
	}
	list := l.PrefixList("s3")
	_, err = l.api.AuthorizeSecurityGroupEgress(ctx, &sdk.AuthorizeSecurityGroupEgressInput{GroupId: &id, IpPermissions: []types.IpPermission{{IpProtocol: aws.String("tcp"),
		FromPort: aws.Int32(443), ToPort: aws.Int32(443), PrefixListIds: []types.PrefixListId{{PrefixListId: &list}}}}})
	l.must(err)
	_, err = l.api.AuthorizeSecurityGroupEgress(ctx, &sdk.AuthorizeSecurityGroupEgressInput{GroupId: &id, IpPermissions: []types.IpPermission{{IpProtocol: aws.String("tcp"),
		FromPort: aws.Int32(443), ToPort: aws.Int32(443), PrefixListIds: []types.PrefixListId{{PrefixListId: aws.String("pl-0123456789abcdef0")}}}}})
	l.refused(err, "InvalidPrefixListID.NotFound")

	_, err = l.launch(func(in *sdk.RunInstancesInput) { in.SecurityGroupIds = []string{id} })
	l.must(err)
	_, err = l.api.DeleteSecurityGroup(ctx, &sdk.DeleteSecurityGroupInput{GroupId: &id})
	l.refused(err, "DependencyViolation")
	_, err = l.api.DeleteSecurityGroup(ctx, &sdk.DeleteSecurityGroupInput{GroupId: &second})
	l.must(err)
	_, err = l.api.DeleteSecurityGroup(ctx, &sdk.DeleteSecurityGroupInput{GroupId: &second})
	l.refused(err, "InvalidGroup.NotFound")
	_, err = l.api.DeleteSecurityGroup(ctx, &sdk.DeleteSecurityGroupInput{GroupId: aws.String("capture-7")})
	l.refused(err, "InvalidGroupId.Malformed")
	defaults, err := l.api.DescribeSecurityGroups(ctx, &sdk.DescribeSecurityGroupsInput{Filters: filterOf("group-name", "default")})
	l.must(err)
	_, err = l.api.DeleteSecurityGroup(ctx, &sdk.DeleteSecurityGroupInput{GroupId: defaults.SecurityGroups[0].GroupId})
	l.refused(err, "CannotDelete")
}

func TestEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, Config{EndpointDelay: 10 * time.Second})
		table := l.AddRouteTable(RouteTable{VPC: l.vpc, Subnets: []string{l.subnet}})
		s3 := aws.String("com.amazonaws.us-east-1.s3")
		gateway, err := l.api.CreateVpcEndpoint(ctx, &sdk.CreateVpcEndpointInput{VpcId: &l.vpc, ServiceName: s3, RouteTableIds: []string{table}})
		l.must(err)
		tables, err := l.api.DescribeRouteTables(ctx, &sdk.DescribeRouteTablesInput{Filters: filterOf("association.subnet-id", l.subnet)})
		l.must(err)
		routes := tables.RouteTables[0].Routes
		l.equal("the gateway's route", []string{*routes[len(routes)-1].DestinationPrefixListId, *routes[len(routes)-1].GatewayId}, []string{l.PrefixList("s3"), *gateway.VpcEndpoint.VpcEndpointId})
		_, err = l.api.CreateVpcEndpoint(ctx, &sdk.CreateVpcEndpointInput{VpcId: &l.vpc, ServiceName: s3, RouteTableIds: []string{table}})
		l.refused(err, "RouteAlreadyExists")
		_, err = l.api.CreateVpcEndpoint(ctx, &sdk.CreateVpcEndpointInput{VpcId: &l.vpc, ServiceName: aws.String("com.amazonaws.us-east-1.s4")})
		l.refused(err, "InvalidServiceName")
		_, err = l.api.CreateVpcEndpoint(ctx, &sdk.CreateVpcEndpointInput{VpcId: &l.vpc, ServiceName: s3, VpcEndpointType: "Interface", SubnetIds: []string{l.subnet, l.subnet}})
		l.refused(err, "DuplicateSubnetsInSameZone")
		mute := l.AddVPC(VPC{CIDR: "127.40.0.0/16", NoDNSHostnames: true})
		_, err = l.api.CreateVpcEndpoint(ctx, &sdk.CreateVpcEndpointInput{VpcId: &mute, ServiceName: s3, VpcEndpointType: "Interface"})
		l.refused(err, "InvalidParameter")

		group := l.AddSecurityGroup(SecurityGroup{VPC: l.vpc, Name: "endpoint", Description: "d"})
		made, err := l.api.CreateVpcEndpoint(ctx, &sdk.CreateVpcEndpointInput{VpcId: &l.vpc, ServiceName: s3, VpcEndpointType: "Interface", SubnetIds: []string{l.subnet},
			SecurityGroupIds: []string{group}, PrivateDnsEnabled: aws.Bool(false), PolicyDocument: aws.String(`{"Statement":[]}`), TagSpecifications: tagSpec("vpc-endpoint", "case", "7")})
		l.must(err)
		id := *made.VpcEndpoint.VpcEndpointId
		l.equal("state", made.VpcEndpoint.State, "pending")
		if name := *made.VpcEndpoint.DnsEntries[0].DnsName; !strings.HasPrefix(name, "*."+id+"-") || !strings.HasSuffix(name, ".s3.us-east-1.vpce.amazonaws.com") {
			t.Errorf("DNS name %s", name)
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		out, err := l.api.DescribeVpcEndpoints(ctx, &sdk.DescribeVpcEndpointsInput{Filters: filterOf("tag:case", "7")})
		l.must(err)
		l.equal("state later", out.VpcEndpoints[0].State, "available")
		eni := out.VpcEndpoints[0].NetworkInterfaceIds[0]
		interfaces, err := l.api.DescribeNetworkInterfaces(ctx, &sdk.DescribeNetworkInterfacesInput{NetworkInterfaceIds: []string{eni}})
		l.must(err)
		l.equal("its interface", []any{interfaces.NetworkInterfaces[0].InterfaceType, *interfaces.NetworkInterfaces[0].RequesterManaged}, []any{"vpc_endpoint", true})
		_, err = l.api.DeleteNetworkInterface(ctx, &sdk.DeleteNetworkInterfaceInput{NetworkInterfaceId: &eni})
		l.refused(err, "OperationNotPermitted")

		gone, err := l.api.DeleteVpcEndpoints(ctx, &sdk.DeleteVpcEndpointsInput{VpcEndpointIds: []string{id, *gateway.VpcEndpoint.VpcEndpointId, "vpce-0123456789abcdef0"}})
		l.must(err)
		l.equal("unsuccessful", []any{len(gone.Unsuccessful), *gone.Unsuccessful[0].Error.Code}, []any{1, "InvalidVpcEndpointId.NotFound"})
		_, err = l.api.DeleteSecurityGroup(ctx, &sdk.DeleteSecurityGroupInput{GroupId: &group})
		l.refused(err, "DependencyViolation") // until its interface is gone
		time.Sleep(11 * time.Second)
		synctest.Wait()
		_, err = l.api.DeleteSecurityGroup(ctx, &sdk.DeleteSecurityGroupInput{GroupId: &group})
		l.must(err)
		l.equal("left", l.Left(), "[]")
		tables, err = l.api.DescribeRouteTables(ctx, &sdk.DescribeRouteTablesInput{RouteTableIds: []string{table}})
		l.must(err)
		l.equal("routes without the gateway", len(tables.RouteTables[0].Routes), 2)
	})
}

func TestNetworkIsDescribedAsSeeded(t *testing.T) {
	l := newLand(t, Config{})
	igw := l.AddInternetGateway(l.vpc)
	nat := l.AddNATGateway(l.other)
	table := l.AddRouteTable(RouteTable{VPC: l.vpc, Subnets: []string{l.other}, Routes: []Route{{Destination: "0.0.0.0/0", Target: nat}, {Destination: "::/0", Target: igw}}})
	l.AddRoute(table, Route{Destination: "10.9.0.0/16", Target: "pcx-0123456789abcdef0", Blackhole: true})
	l.AddEndpoint(Endpoint{VPC: l.vpc, Service: "s3", RouteTables: []string{table}, Policy: `{"Statement":[]}`})
	l.AddNetworkACL(NetworkACL{VPC: l.vpc, Subnets: []string{l.other}, Entries: []ACLEntry{{Number: 1, Protocol: 17, CIDR: "127.20.0.0/16", From: 4789, To: 4789}}})

	routes, err := l.api.DescribeRouteTables(ctx, &sdk.DescribeRouteTablesInput{Filters: filterOf("association.subnet-id", l.other)})
	l.must(err)
	var told []string
	for _, r := range routes.RouteTables[0].Routes {
		told = append(told, fmt.Sprint(aws.ToString(r.DestinationCidrBlock), aws.ToString(r.DestinationIpv6CidrBlock), aws.ToString(r.DestinationPrefixListId), ">",
			aws.ToString(r.GatewayId), aws.ToString(r.NatGatewayId), aws.ToString(r.VpcPeeringConnectionId), " ", r.State))
	}
	endpoints, err := l.api.DescribeVpcEndpoints(ctx, &sdk.DescribeVpcEndpointsInput{Filters: filterOf("vpc-id", l.vpc)})
	l.must(err)
	l.equal("routes", told, []string{"127.20.0.0/16>local active", "2001:db8::/56>local active", "0.0.0.0/0>" + nat + " active", "::/0>" + igw + " active",
		"10.9.0.0/16>pcx-0123456789abcdef0 blackhole", l.PrefixList("s3") + ">" + *endpoints.VpcEndpoints[0].VpcEndpointId + " active"})
	main, err := l.api.DescribeRouteTables(ctx, &sdk.DescribeRouteTablesInput{Filters: append(filterOf("association.main", "true"), filterOf("vpc-id", l.vpc)...)})
	l.must(err)
	l.equal("main table", *main.RouteTables[0].RouteTableId, l.MainRouteTable(l.vpc))

	vpcs, err := l.api.DescribeVpcs(ctx, &sdk.DescribeVpcsInput{VpcIds: []string{l.vpc}})
	l.must(err)
	l.equal("VPC", *vpcs.Vpcs[0].CidrBlock, "127.20.0.0/16")
	_, err = l.api.DescribeVpcs(ctx, &sdk.DescribeVpcsInput{VpcIds: []string{"vpc-0123456789abcdef0"}})
	l.refused(err, "InvalidVpcID.NotFound")
	_, err = l.api.DescribeVpcs(ctx, &sdk.DescribeVpcsInput{VpcIds: []string{"vpc-1"}})
	l.refused(err, "InvalidVpcID.Malformed")
	support, err := l.api.DescribeVpcAttribute(ctx, &sdk.DescribeVpcAttributeInput{VpcId: &l.vpc, Attribute: "enableDnsSupport"})
	l.must(err)
	l.equal("enableDnsSupport", *support.EnableDnsSupport.Value, true)
	subnets, err := l.api.DescribeSubnets(ctx, &sdk.DescribeSubnetsInput{Filters: filterOf("availability-zone", "us-east-1a")})
	l.must(err)
	l.equal("subnet", []any{*subnets.Subnets[0].SubnetId, *subnets.Subnets[0].AvailableIpAddressCount, *subnets.Subnets[0].AvailabilityZoneId}, []any{l.subnet, 250, "use1-az1"})
	acls, err := l.api.DescribeNetworkAcls(ctx, &sdk.DescribeNetworkAclsInput{Filters: filterOf("association.subnet-id", l.other)})
	l.must(err)
	l.equal("ACL", []any{len(acls.NetworkAcls), *acls.NetworkAcls[0].IsDefault, len(acls.NetworkAcls[0].Entries), *acls.NetworkAcls[0].Entries[0].PortRange.From}, []any{1, false, 3, 4789})
	acls, err = l.api.DescribeNetworkAcls(ctx, &sdk.DescribeNetworkAclsInput{Filters: filterOf("default", "true")})
	l.must(err)
	l.equal("subnets of the default ACL", len(acls.NetworkAcls[0].Associations), 1)
	gateways, err := l.api.DescribeInternetGateways(ctx, &sdk.DescribeInternetGatewaysInput{Filters: filterOf("attachment.vpc-id", l.vpc)})
	l.must(err)
	l.equal("internet gateway", *gateways.InternetGateways[0].InternetGatewayId, igw)
	nats, err := l.api.DescribeNatGateways(ctx, &sdk.DescribeNatGatewaysInput{Filter: filterOf("subnet-id", l.other)})
	l.must(err)
	l.equal("NAT gateway", *nats.NatGateways[0].NatGatewayId, nat)
	lists, err := l.api.DescribePrefixLists(ctx, &sdk.DescribePrefixListsInput{Filters: filterOf("prefix-list-name", "com.amazonaws.us-east-1.s3")})
	l.must(err)
	l.equal("prefix list", *lists.PrefixLists[0].PrefixListId, l.PrefixList("s3"))
	managed, err := l.api.DescribeManagedPrefixLists(ctx, &sdk.DescribeManagedPrefixListsInput{Filters: filterOf("owner-id", "AWS")})
	l.must(err)
	l.equal("managed prefix lists", len(managed.PrefixLists), 2)
	zones, err := l.api.DescribeAvailabilityZones(ctx, &sdk.DescribeAvailabilityZonesInput{ZoneNames: []string{"us-east-1b"}})
	l.must(err)
	l.equal("zone", *zones.AvailabilityZones[0].ZoneId, "use1-az2")
	images, err := l.api.DescribeImages(ctx, &sdk.DescribeImagesInput{Owners: []string{"amazon"}, Filters: filterOf("architecture", "arm64")})
	l.must(err)
	l.equal("image", *images.Images[0].ImageId, l.image)
}

func TestInterfacesAreDescribedAsSeeded(t *testing.T) {
	l := newLand(t, Config{})
	pod := l.AddInstance(InstanceSeed{ID: "i-99999999", Type: "m5.xlarge", Interfaces: []InterfaceSeed{
		{ID: "eni-bfcffe88", Subnet: l.subnet, Address: "127.20.1.50", Secondary: []string{"127.20.1.51"}, IPv6: []string{"::1"}, Public: "198.51.100.0"}, {Subnet: l.subnet, Type: "trunk"}}})
	lambda := l.AddInterface(InterfaceSeed{Subnet: l.subnet, Type: "lambda", RequesterManaged: true, RequesterID: "amazon-lambda", Description: "AWS Lambda VPC ENI-x"})
	for _, row := range []struct {
		name, value, want string
	}{{"attachment.instance-id", pod, "2"}, {"addresses.private-ip-address", "127.20.1.51", "1"}, {"interface-type", "trunk", "1"}, {"requester-managed", "true", "1"},
		{"association.public-ip", "198.51.100.0", "1"}, {"ipv6-addresses.ipv6-address", "::1", "1"}, {"status", "in-use", "4"}, {"subnet-id", l.subnet, "4"}} {
		out, err := l.api.DescribeNetworkInterfaces(ctx, &sdk.DescribeNetworkInterfacesInput{Filters: filterOf(row.name, row.value)})
		l.must(err)
		l.equal("interfaces by "+row.name, len(out.NetworkInterfaces), row.want)
	}
	out, err := l.api.DescribeNetworkInterfaces(ctx, &sdk.DescribeNetworkInterfacesInput{NetworkInterfaceIds: []string{"eni-bfcffe88"}})
	l.must(err)
	e := out.NetworkInterfaces[0]
	l.equal("the interface", []any{*e.PrivateIpAddress, *e.PrivateIpAddresses[0].Primary, *e.PrivateIpAddresses[1].PrivateIpAddress, *e.Ipv6Addresses[0].Ipv6Address, *e.Attachment.DeviceIndex, l.MAC("eni-bfcffe88") == *e.MacAddress},
		[]any{"127.20.1.50", true, "127.20.1.51", "::1", 0, true})
	out, err = l.api.DescribeNetworkInterfaces(ctx, &sdk.DescribeNetworkInterfacesInput{NetworkInterfaceIds: []string{lambda}})
	l.must(err)
	l.equal("lambda's", []any{out.NetworkInterfaces[0].InterfaceType, *out.NetworkInterfaces[0].RequesterId, aws.ToString(out.NetworkInterfaces[0].Attachment.InstanceId)}, []any{"lambda", "amazon-lambda", ""})
	_, err = l.api.DescribeNetworkInterfaces(ctx, &sdk.DescribeNetworkInterfacesInput{Filters: filterOf("eni", "x")})
	l.refused(err, "InvalidParameterValue")
}

func TestCreateNetworkInterface(t *testing.T) {
	l := newLand(t, Config{})
	made, err := l.api.CreateNetworkInterface(ctx, &sdk.CreateNetworkInterfaceInput{SubnetId: &l.subnet, Description: aws.String("d"), SecondaryPrivateIpAddressCount: aws.Int32(2),
		ConnectionTrackingSpecification: &types.ConnectionTrackingSpecificationRequest{UdpTimeout: aws.Int32(30), UdpStreamTimeout: aws.Int32(60)},
		Ipv6AddressCount:                aws.Int32(1), InterfaceType: "efa", TagSpecifications: tagSpec("network-interface", "case", "7")})
	l.must(err)
	e := made.NetworkInterface
	l.equal("the interface", []any{*e.PrivateIpAddress, len(e.PrivateIpAddresses), len(e.Ipv6Addresses), e.InterfaceType, e.Status, *e.TagSet[0].Value, *e.ConnectionTrackingConfiguration.UdpStreamTimeout},
		[]any{"127.20.1.5", 3, 1, "efa", "available", "7", 60})
	_, err = l.api.CreateNetworkInterface(ctx, &sdk.CreateNetworkInterfaceInput{SubnetId: &l.other, Ipv6AddressCount: aws.Int32(1)})
	l.refused(err, "InvalidParameterValue")
	_, err = l.api.DeleteNetworkInterface(ctx, &sdk.DeleteNetworkInterfaceInput{NetworkInterfaceId: e.NetworkInterfaceId})
	l.must(err)
	_, err = l.api.DeleteNetworkInterface(ctx, &sdk.DeleteNetworkInterfaceInput{NetworkInterfaceId: e.NetworkInterfaceId})
	l.refused(err, "InvalidNetworkInterfaceID.NotFound")
	_, err = l.api.DeleteNetworkInterface(ctx, &sdk.DeleteNetworkInterfaceInput{NetworkInterfaceId: aws.String("eni-x")})
	l.refused(err, "InvalidNetworkInterfaceId.Malformed")
}

func TestInstanceTypesAreDescribed(t *testing.T) {
	l := newLand(t, Config{})
	out, err := l.api.DescribeInstanceTypes(ctx, &sdk.DescribeInstanceTypesInput{InstanceTypes: []types.InstanceType{"c7gn.xlarge", "c6in.32xlarge", "t2.micro", "m5.metal", "c6gd.medium"}})
	l.must(err)
	told := map[types.InstanceType]string{}
	for _, i := range out.InstanceTypes {
		cards := i.NetworkInfo.NetworkCards
		told[i.InstanceType] = fmt.Sprintln(i.ProcessorInfo.SupportedArchitectures, *i.VCpuInfo.DefaultVCpus, *i.MemoryInfo.SizeInMiB, len(cards), *cards[0].BaselineBandwidthInGbps, *cards[0].PeakBandwidthInGbps, i.Hypervisor, *i.BareMetal)
	}
	l.equal("types", told, map[types.InstanceType]string{"c7gn.xlarge": "[arm64] 4 8192 1 12.5 40 nitro false\n", "c6in.32xlarge": "[x86_64] 128 262144 2 200 200 nitro false\n",
		"t2.micro": "[i386 x86_64] 1 1024 1 0.064 1.024 xen false\n", "m5.metal": "[x86_64] 96 393216 1 25 25  true\n", "c6gd.medium": "[arm64] 1 2048 1 0.5 10 nitro false\n"})
	_, err = l.api.DescribeInstanceTypes(ctx, &sdk.DescribeInstanceTypesInput{InstanceTypes: []types.InstanceType{"p6e-gb200.36xlarge"}})
	l.refused(err, "InvalidInstanceType")
	byArchitecture, err := l.api.DescribeInstanceTypes(ctx, &sdk.DescribeInstanceTypesInput{Filters: append(filterOf("processor-info.supported-architecture", "arm64"), filterOf("instance-type", "c7gn.*")...), MaxResults: aws.Int32(5)})
	l.must(err)
	l.equal("first page", []any{len(byArchitecture.InstanceTypes), byArchitecture.NextToken != nil}, []any{5, true})

	l.Withdraw("c7gn.large", "us-east-1b")
	offers, err := l.api.DescribeInstanceTypeOfferings(ctx, &sdk.DescribeInstanceTypeOfferingsInput{LocationType: "availability-zone", Filters: filterOf("instance-type", "c7gn.large")})
	l.must(err)
	var zones []string
	for _, o := range offers.InstanceTypeOfferings {
		zones = append(zones, *o.Location)
	}
	l.equal("zones", zones, []string{"us-east-1a", "us-east-1c"})
	regional, err := l.api.DescribeInstanceTypeOfferings(ctx, &sdk.DescribeInstanceTypeOfferingsInput{Filters: filterOf("instance-type", "c7gn.large")})
	l.must(err)
	l.equal("regional offers", len(regional.InstanceTypeOfferings), 1)
}

func TestFamiliesThatCanBeMirrored(t *testing.T) {
	for name, want := range map[string]bool{"m5.large": true, "t3.micro": true, "t2.micro": false, "c7g.large": true, "c7gn.large": false, "c7g.metal": false, "m6g.metal": true,
		"i3.metal": true, "i3en.metal": false, "c8g.large": false, "hpc7g.4xlarge": false, "u-6tb1.56xlarge": true, "u7in-32tb.224xlarge": true, "p5en.48xlarge": false, "m7i-flex.large": true} {
		if mirrorable(name) != want {
			t.Errorf("mirrorable(%q) is %v", name, !want)
		}
	}
	for name, want := range map[string]int{"c7gn.16xlarge": 100, "c7gn.8xlarge": 10, "c5n.18xlarge": 100} {
		if sourcesOf(name) != want {
			t.Errorf("sourcesOf(%q) is %d", name, sourcesOf(name))
		}
	}
	if len(virtualSources) < 120 || len(metalSources) != 23 {
		t.Errorf("%d families and %d with metal sizes", len(virtualSources), len(metalSources))
	}
}
