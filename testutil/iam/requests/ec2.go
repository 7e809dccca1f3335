package requests

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"flashtap/testutil/iam"
	"flashtap/testutil/region/ec2"
)

// about says what an EC2 call makes and what it is about.
type about struct {
	makes string // the type of what it makes, "" for nothing
	on    []on
}

// on is a parameter that names resources, and the condition keys of EC2's own that AWS has for them, beside the tags.
type on struct {
	param string
	keys  []string
}

var (
	interfaceKeys = []string{"ec2:Vpc", "ec2:Subnet", "ec2:AvailabilityZone", "ec2:NetworkInterfaceID"}
	instanceKeys  = []string{"ec2:InstanceID", "ec2:InstanceType", "ec2:InstanceProfile", "ec2:AvailabilityZone"}
	groupKeys     = []string{"ec2:Vpc", "ec2:SecurityGroupID"}
	vpcKeys       = []string{"ec2:VpcID"}

	onSession = []on{{param: "TrafficMirrorSessionId"}}
	onTarget  = []on{{param: "TrafficMirrorTargetId"}}
	onFilter  = []on{{param: "TrafficMirrorFilterId"}}
	onGroup   = []on{{"GroupId", groupKeys}}
)

// ec2Calls are EC2's calls that act on resources (Service Authorization Reference, "Actions, resources, and condition
// keys for Amazon EC2"). RunInstances, CreateVpcEndpoint and CreateTags are described by themselves.
var ec2Calls = map[string]about{
	"CreateTrafficMirrorTarget":                {"traffic-mirror-target", []on{{"NetworkInterfaceId", []string{"ec2:NetworkInterfaceID"}}}},
	"CreateTrafficMirrorFilter":                {"traffic-mirror-filter", nil},
	"CreateTrafficMirrorFilterRule":            {"traffic-mirror-filter-rule", onFilter},
	"CreateTrafficMirrorSession":               {"traffic-mirror-session", slices.Concat(onTarget, onFilter, []on{{"NetworkInterfaceId", interfaceKeys}})},
	"ModifyTrafficMirrorFilterNetworkServices": {"", onFilter},
	"ModifyTrafficMirrorSession":               {"", slices.Concat(onSession, onTarget, onFilter)},
	"DeleteTrafficMirrorTarget":                {"", onTarget},
	"DeleteTrafficMirrorFilter":                {"", onFilter},
	"DeleteTrafficMirrorFilterRule":            {"", []on{{param: "TrafficMirrorFilterRuleId"}}},
	"DeleteTrafficMirrorSession":               {"", onSession},

	"CreateSecurityGroup":           {"security-group", []on{{"VpcId", vpcKeys}}},
	"AuthorizeSecurityGroupIngress": {"", onGroup},
	"AuthorizeSecurityGroupEgress":  {"", onGroup},
	"RevokeSecurityGroupIngress":    {"", onGroup},
	"RevokeSecurityGroupEgress":     {"", onGroup},
	"DeleteSecurityGroup":           {"", onGroup},

	"DeleteVpcEndpoints": {"", []on{{param: "VpcEndpointIds"}}},

	"TerminateInstances":     {"", []on{{"InstanceIds", instanceKeys}}},
	"StopInstances":          {"", []on{{"InstanceIds", instanceKeys}}},
	"GetConsoleOutput":       {"", []on{{"InstanceId", instanceKeys}}},
	"DeleteNetworkInterface": {"", []on{{"NetworkInterfaceId", interfaceKeys}}},
	"DescribeVpcAttribute":   {"", []on{{"VpcId", vpcKeys}}},
}

// ec2Lists are calls for which AWS knows no resource.
var ec2Lists = strings.Fields(`DescribeInstances DescribeInstanceStatus DescribeInstanceTypes DescribeInstanceTypeOfferings DescribeTags
	DescribeNetworkInterfaces DescribeVpcs DescribeSubnets DescribeRouteTables DescribeNetworkAcls DescribeAvailabilityZones
	DescribeVpcEndpoints DescribeNatGateways DescribeInternetGateways DescribeManagedPrefixLists DescribePrefixLists
	DescribeSecurityGroups DescribeSecurityGroupRules DescribeLaunchTemplates DescribeLaunchTemplateVersions DescribeImages
	DescribeTrafficMirrorTargets DescribeTrafficMirrorFilters DescribeTrafficMirrorFilterRules DescribeTrafficMirrorSessions`)

func (q *asking) ec2() error {
	operation := q.call.Operation
	switch {
	case operation == "RunInstances":
		return q.runInstances()
	case operation == "CreateTags":
		return q.createTags()
	case operation == "CreateVpcEndpoint":
		return q.createEndpoint()
	case slices.Contains(ec2Lists, operation):
		q.ask("ec2:"+operation, "*", q.region())
		return nil
	}
	what, described := ec2Calls[operation]
	if !described {
		return fmt.Errorf("what AWS asks about ec2.%s is not described", operation)
	}
	for _, o := range what.on {
		for _, id := range q.params.strs(o.param) {
			f, err := q.fact(id)
			if err != nil {
				return err
			}
			q.ask("ec2:"+operation, q.account.ec2ARN(f.Type, f.ID), q.known(f, o.keys...))
			if f.Parent != "" { // a filter's rule stands and falls with the filter
				parent, err := q.fact(f.Parent)
				if err != nil {
					return err
				}
				q.ask("ec2:"+operation, q.account.ec2ARN(parent.Type, parent.ID), q.known(parent))
			}
		}
	}
	if what.makes != "" {
		q.make(what.makes, nil)
	}
	return nil
}

// make asks about a thing that the call makes, which has no id yet, and about the tags that it gets at birth (EC2 User
// Guide, "Grant permission to tag Amazon EC2 resources during creation").
func (q *asking) make(kind string, keys iam.Context) {
	resource, tags := q.account.ec2ARN(kind, "*"), q.requestTags(kind)
	c := q.region()
	maps.Copy(c, keys)
	maps.Copy(c, tags)
	q.ask("ec2:"+q.call.Operation, resource, c)
	if len(tags) > 0 {
		c := q.region()
		maps.Copy(c, tags)
		c["ec2:CreateAction"] = []string{q.call.Operation}
		q.ask("ec2:CreateTags", resource, c)
	}
}

// createTags is the call by itself, on what is there already: so it has no ec2:CreateAction.
func (q *asking) createTags() error {
	for _, id := range q.params.strs("Resources") {
		f, err := q.fact(id)
		if err != nil {
			return err
		}
		c := q.known(f)
		if f.Type == "instance" {
			c = q.known(f, instanceKeys...)
		}
		maps.Copy(c, tagKeys(q.params.objects("Tags")))
		q.ask("ec2:CreateTags", q.account.ec2ARN(f.Type, f.ID), c)
	}
	return nil
}

// createEndpoint asks about an endpoint, and about where it is put. Of these AWS knows fewer keys than when an instance is.
func (q *asking) createEndpoint() error {
	for _, o := range []on{{"VpcId", vpcKeys}, {"SubnetIds", []string{"ec2:SubnetID"}}, {"SecurityGroupIds", []string{"ec2:SecurityGroupID"}}, {param: "RouteTableIds"}} {
		for _, id := range q.params.strs(o.param) {
			f, err := q.fact(id)
			if err != nil {
				return err
			}
			q.ask("ec2:CreateVpcEndpoint", q.account.ec2ARN(f.Type, f.ID), q.known(f, o.keys...))
		}
	}
	q.make("vpc-endpoint", iam.Context{"ec2:VpceServiceName": {q.params.str("ServiceName")}, "ec2:VpceServiceOwner": {"amazon"}})
	return nil
}

// runInstances asks about everything that a launch makes and uses, also what its template adds.
func (q *asking) runInstances() error {
	launch := params(q.call.Facts.Launch)
	var template iam.Context
	if id := q.params.object("LaunchTemplate").str("LaunchTemplateId"); id != "" {
		f, err := q.fact(id)
		if err != nil {
			return err
		}
		template = iam.Context{"ec2:LaunchTemplate": {q.account.ec2ARN(f.Type, f.ID)}}
		q.ask("ec2:RunInstances", q.account.ec2ARN(f.Type, f.ID), q.known(f))
	}
	from := func(c iam.Context, param string) iam.Context {
		maps.Copy(c, template)
		if template != nil {
			c["ec2:IsLaunchTemplateResource"] = []string{fmt.Sprint(param != "" && !q.params.has(param))}
		}
		return c
	}
	use := func(id, param string, keys ...string) (ec2.Fact, error) {
		f, err := q.fact(id)
		if err == nil {
			q.ask("ec2:RunInstances", q.account.ec2ARN(f.Type, f.ID), from(q.known(f, keys...), param))
		}
		return f, err
	}
	if _, err := use(launch.str("ImageId"), "ImageId", "ec2:ImageID", "ec2:Owner"); err != nil {
		return err
	}
	interfaces := launch.objects("NetworkInterfaces")
	if len(interfaces) == 0 {
		return fmt.Errorf("what AWS asks about a launch without NetworkInterfaces is not described")
	}
	for _, ni := range interfaces {
		if ni.has("NetworkInterfaceId") {
			return fmt.Errorf("what AWS asks about a launch with an interface that is there already is not described")
		}
		subnet, err := use(ni.str("SubnetId"), "NetworkInterfaces", "ec2:SubnetID", "ec2:Vpc", "ec2:AvailabilityZone")
		if err != nil {
			return err
		}
		for _, group := range ni.strs("Groups") {
			if _, err := use(group, "NetworkInterfaces", groupKeys...); err != nil {
				return err
			}
		}
		public, _ := ni["AssociatePublicIpAddress"].(bool)
		q.make("network-interface", from(iam.Context{
			"ec2:Subnet": {q.account.ec2ARN("subnet", subnet.ID)}, "ec2:Vpc": {q.account.ec2ARN("vpc", subnet.VPC)},
			"ec2:AvailabilityZone": {subnet.Zone}, "ec2:AssociatePublicIpAddress": {fmt.Sprint(public)},
		}, "NetworkInterfaces"))
	}
	q.launchedInstance(launch, from)
	q.launchedVolumes(launch, from)
	return nil
}

func (q *asking) launchedInstance(launch params, from func(iam.Context, string) iam.Context) {
	options := launch.object("MetadataOptions")
	tokens := options.str("HttpTokens")
	if tokens == "" {
		tokens = "optional"
	}
	c := iam.Context{"ec2:InstanceType": {launch.str("InstanceType")}, "ec2:MetadataHttpTokens": {tokens}}
	if hops, ok := options["HttpPutResponseHopLimit"]; ok {
		c["ec2:MetadataHttpPutResponseHopLimit"] = []string{fmt.Sprint(hops)}
	}
	profile := launch.object("IamInstanceProfile").str("Arn")
	if profile != "" {
		c["ec2:InstanceProfile"] = []string{profile}
	}
	q.make("instance", from(c, ""))
	if profile != "" {
		q.passRole(q.account.ProfileRoles[profile], "ec2.amazonaws.com")
	}
}

// launchedVolumes asks about the volumes. The image brings the root volume; whether it is encrypted, the mapping of its
// device says.
func (q *asking) launchedVolumes(launch params, from func(iam.Context, string) iam.Context) {
	mappings := launch.objects("BlockDeviceMappings")
	if len(mappings) == 0 {
		mappings = []params{{}}
	}
	for _, m := range mappings {
		encrypted, _ := m.object("Ebs")["Encrypted"].(bool)
		c := iam.Context{"ec2:Encrypted": {fmt.Sprint(encrypted)}}
		if kind := m.object("Ebs").str("VolumeType"); kind != "" {
			c["ec2:VolumeType"] = []string{kind}
		}
		q.make("volume", from(c, "BlockDeviceMappings"))
	}
}

// fact is what EC2 knew of a resource before the call.
func (q *asking) fact(id string) (ec2.Fact, error) {
	f, there := q.call.Facts.Resources[id]
	if !there {
		return f, UnknownResource{q.call.Operation, id}
	}
	return f, nil
}

// region is the key that every action of EC2 has.
func (q *asking) region() iam.Context { return iam.Context{"ec2:Region": {q.account.Region}} }

// known are the condition keys about a resource that is there: its tags and those of EC2's own keys that are asked for.
func (q *asking) known(f ec2.Fact, keys ...string) iam.Context {
	c := q.region()
	for key, value := range f.Tags {
		c["aws:ResourceTag/"+key], c["ec2:ResourceTag/"+key] = []string{value}, []string{value}
	}
	for _, key := range keys {
		value := map[string]string{
			"ec2:AvailabilityZone": f.Zone, "ec2:InstanceID": f.ID, "ec2:InstanceType": f.InstanceType, "ec2:InstanceProfile": f.Profile,
			"ec2:NetworkInterfaceID": f.ID, "ec2:SecurityGroupID": f.ID, "ec2:SubnetID": f.ID, "ec2:VpcID": f.ID, "ec2:ImageID": f.ID,
			"ec2:Owner": f.Owner,
		}[key]
		switch key {
		case "ec2:Vpc":
			value = q.account.ec2ARN("vpc", f.VPC)
		case "ec2:Subnet":
			value = q.account.ec2ARN("subnet", f.Subnet)
		}
		if value != "" {
			c[key] = []string{value}
		}
	}
	if f.Type == "image" {
		c["aws:ResourceAccount"] = []string{amazonAccount}
	}
	return c
}

// amazonAccount owns the images of Amazon Linux, as the local region has it.
const amazonAccount = "137112412989"

// requestTags are the keys about the tags that a call gives to what it makes.
func (q *asking) requestTags(kind string) iam.Context {
	for _, spec := range q.params.objects("TagSpecifications") {
		if spec.str("ResourceType") == kind {
			return tagKeys(spec.objects("Tags"))
		}
	}
	return nil
}

func tagKeys(tags []params) iam.Context {
	c := iam.Context{}
	for _, t := range tags {
		c["aws:RequestTag/"+t.str("Key")] = []string{t.str("Value")}
		c["aws:TagKeys"] = append(c["aws:TagKeys"], t.str("Key"))
	}
	return c
}

// ec2ARN is the ARN of one of EC2's things. Images belong to no account in it.
func (a Account) ec2ARN(kind, id string) string {
	account := a.ID
	if kind == "image" {
		account = ""
	}
	return strings.Join([]string{"arn", a.Partition, "ec2", a.Region, account, kind + "/" + id}, ":")
}
