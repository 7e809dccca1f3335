package plan

import (
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"flashtap/events"
)

// Right is a call on a resource.
type Right struct{ Action, Resource string }

// Simulation is one question to IAM's policy simulator, about what one of the deployment's roles will have to do. The simulator
// decides about every action on every resource; Rights are the pairs that occur.
type Simulation struct {
	Step    string // whose role
	Role    string // ARN
	Rights  []Right
	Context map[string][]string // condition keys as the calls will carry them
}

// Actions are those of the rights, each once.
func (s Simulation) Actions() []string {
	return distinct(s.Rights, func(r Right) string { return r.Action })
}

// Resources are those of the rights, each once.
func (s Simulation) Resources() []string {
	return distinct(s.Rights, func(r Right) string { return r.Resource })
}

// chief are the actions without which a step can do nothing.
var chief = map[string]string{stepLaunch: "ec2:RunInstances", stepMirror: "ec2:CreateTrafficMirrorSession", stepTeardown: "ec2:TerminateInstances"}

// Chief is the same about the step's chief action alone.
func (s Simulation) Chief() Simulation {
	s.Rights = slices.DeleteFunc(slices.Clone(s.Rights), func(r Right) bool { return r.Action != chief[s.Step] })
	return s
}

func distinct(rights []Right, of func(Right) string) []string {
	var list []string
	for _, r := range rights {
		if v := of(r); !slices.Contains(list, v) {
			list = append(list, v)
		}
	}
	return list
}

// The steps whose roles make and remove everything.
const (
	stepLaunch   = "launch"
	stepMirror   = "mirror"
	stepTeardown = "teardown"
)

// The calls of a temporary endpoint, which a deployment may have no right to: then only captures that need one fail.
const (
	makesEndpoint   = "ec2:CreateVpcEndpoint"
	removesEndpoint = "ec2:DeleteVpcEndpoints"
)

// someID stands for what does not exist yet.
const someID = "0123456789abcdef0"

// Simulations are what has to be asked of IAM about a capture of this interface.
//
// There is no DryRun: DryRun answers for whoever calls, and every call whose inputs exist already is another role's than that of
// the step that asks (EC2 API Reference, "Common parameters").
func Simulations(s events.Settings, ni types.NetworkInterface) []Simulation {
	partition := partitionOf(s.InstanceProfileARN)
	ec2 := func(kind string) string {
		return strings.Join([]string{"arn", partition, "ec2", s.Region, s.Account, kind}, ":")
	}
	vpc := ec2("vpc/" + aws.ToString(ni.VpcId))
	context := func(more map[string][]string) map[string][]string {
		all := map[string][]string{
			"aws:RequestTag/" + events.TagDeployment:  {s.Deployment},
			"aws:ResourceTag/" + events.TagDeployment: {s.Deployment},
			"aws:RequestedRegion":                     {s.Region},
			"ec2:Vpc":                                 {vpc},
		}
		for key, values := range more {
			all[key] = values
		}
		return all
	}
	group, instance := ec2("security-group/sg-"+someID), ec2("instance/i-"+someID)
	target, filter, session := ec2("traffic-mirror-target/tmt-"+someID), ec2("traffic-mirror-filter/tmf-"+someID), ec2("traffic-mirror-session/tms-"+someID)
	source := ec2("network-interface/" + aws.ToString(ni.NetworkInterfaceId))
	own := ec2("network-interface/eni-" + someID)
	template := ec2("launch-template/" + s.LaunchTemplateID)
	endpoint := ec2("vpc-endpoint/vpce-" + someID)
	subnet := ec2("subnet/" + aws.ToString(ni.SubnetId))
	image := strings.Join([]string{"arn", partition, "ec2", s.Region, "", "image/ami-" + someID}, ":")
	schedule := strings.Join([]string{"arn", partition, "scheduler", s.Region, s.Account, "schedule/" + s.ScheduleGroup + "/tms-" + someID}, ":")

	list := []Simulation{
		{Step: stepLaunch, Rights: []Right{
			{"ec2:CreateSecurityGroup", group}, {"ec2:CreateSecurityGroup", vpc},
			{"ec2:AuthorizeSecurityGroupIngress", group}, {"ec2:AuthorizeSecurityGroupEgress", group}, {"ec2:RevokeSecurityGroupEgress", group},
			{"ec2:RunInstances", instance}, {"ec2:RunInstances", ec2("volume/vol-" + someID)}, {"ec2:RunInstances", own}, {"ec2:RunInstances", group},
			{"ec2:RunInstances", subnet}, {"ec2:RunInstances", image}, {"ec2:RunInstances", template},
			{"ec2:CreateTags", instance},
			{makesEndpoint, endpoint}, {makesEndpoint, vpc}, {makesEndpoint, subnet}, {makesEndpoint, group},
			// The role has the name of the instance profile that carries it.
			{"iam:PassRole", strings.Replace(s.InstanceProfileARN, ":instance-profile/", ":role/", 1)},
		}, Context: context(map[string][]string{
			"ec2:CreateAction": {"RunInstances"}, "ec2:LaunchTemplate": {template}, "ec2:MetadataHttpTokens": {"required"},
			"ec2:InstanceProfile": {s.InstanceProfileARN}, "ec2:Encrypted": {"true"}, "ec2:AssociatePublicIpAddress": {"false"},
			"ec2:Owner": {"amazon"}, "iam:PassedToService": {"ec2.amazonaws.com"},
			"ec2:VpceServiceName": {"com.amazonaws." + s.Region + ".s3"},
		})},
		{Step: stepMirror, Rights: []Right{
			{"ec2:CreateTrafficMirrorTarget", target}, {"ec2:CreateTrafficMirrorTarget", own},
			{"ec2:CreateTrafficMirrorFilter", filter}, {"ec2:ModifyTrafficMirrorFilterNetworkServices", filter},
			{"ec2:CreateTrafficMirrorFilterRule", filter}, {"ec2:CreateTrafficMirrorFilterRule", ec2("traffic-mirror-filter-rule/tmfr-" + someID)},
			{"ec2:CreateTrafficMirrorSession", session}, {"ec2:CreateTrafficMirrorSession", filter}, {"ec2:CreateTrafficMirrorSession", target},
			{"ec2:CreateTrafficMirrorSession", source}, {"ec2:CreateTags", session},
			{"scheduler:CreateSchedule", schedule}, {"iam:PassRole", s.ScheduleRoleARN},
		}, Context: context(map[string][]string{
			"ec2:CreateAction": {"CreateTrafficMirrorSession"}, "iam:PassedToService": {"scheduler.amazonaws.com"},
		})},
		{Step: stepTeardown, Rights: []Right{
			{"ec2:DeleteTrafficMirrorSession", session}, {"ec2:DeleteTrafficMirrorTarget", target}, {"ec2:DeleteTrafficMirrorFilter", filter},
			{"ec2:TerminateInstances", instance}, {"ec2:DeleteSecurityGroup", group}, {removesEndpoint, endpoint}, {"scheduler:DeleteSchedule", schedule},
		}, Context: context(map[string][]string{"ec2:InstanceProfile": {s.InstanceProfileARN}})},
	}
	var asked []Simulation
	for _, one := range list {
		one.Role = s.Roles[one.Step]
		one.Rights = slices.DeleteFunc(one.Rights, func(r Right) bool { return r.Resource == "" })
		if one.Role != "" {
			asked = append(asked, one)
		}
	}
	return asked
}

// partitionOf is the second part of an ARN.
func partitionOf(arn string) string {
	if parts := strings.SplitN(arn, ":", 3); len(parts) == 3 && parts[1] != "" {
		return parts[1]
	}
	return "aws"
}
