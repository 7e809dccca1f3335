package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"flashtap/events"
)

func source(f Facts) events.Source {
	ni := f.Interface
	s := events.Source{
		NetworkInterfaceID: aws.ToString(ni.NetworkInterfaceId), InterfaceType: string(ni.InterfaceType),
		InstanceID: attachedTo(ni), VPC: aws.ToString(ni.VpcId), Subnet: aws.ToString(ni.SubnetId),
		AvailabilityZone: aws.ToString(ni.AvailabilityZone), PrimaryIPv4: aws.ToString(ni.PrivateIpAddress),
		MAC: aws.ToString(ni.MacAddress),
	}
	if f.Instance != nil {
		s.InstanceType = string(f.Instance.InstanceType)
	}
	for i, a := range ni.Ipv6Addresses {
		if i == 0 || aws.ToBool(a.IsPrimaryIpv6) {
			s.PrimaryIPv6 = aws.ToString(a.Ipv6Address)
		}
	}
	return s
}

// instanceState: a session on an instance that does not run is billed and shows nothing (VPC Traffic Mirroring guide, "What is
// Traffic Mirroring?").
func instanceState(f Facts) events.Verdict {
	v := events.Verdict{Check: "instance-state", Result: events.Pass}
	id := attachedTo(f.Interface)
	switch {
	case f.Instance == nil && aws.ToBool(f.Interface.RequesterManaged):
		v.Reason = "a managed interface: its instance is AWS's own"
		return v
	case f.Instance == nil && id == "":
		v.Result, v.Reason = events.Warn, "the interface is attached to no instance"
		return v
	case f.Instance == nil:
		v.Result, v.Evidence = events.Warn, []string{id}
		v.Reason = id + " can't be described, so whether it runs is not known"
		return v
	}
	v.Evidence = []string{id}
	var state types.InstanceStateName
	if f.Instance.State != nil {
		state = f.Instance.State.Name
	}
	switch state {
	case types.InstanceStateNameRunning:
		v.Reason = id + " runs"
	case types.InstanceStateNamePending:
		v.Result, v.Reason = events.Warn, id+" is still starting"
	case types.InstanceStateNameStopped, types.InstanceStateNameStopping:
		v.Result = events.Fail
		v.Reason = fmt.Sprintf("%s is %s: it sends and receives nothing", id, state)
		v.Remedy = "start it (aws ec2 start-instances --instance-ids " + id + ") and ask again, or capture a peer of it"
	default:
		v.Result = events.Fail
		v.Reason = fmt.Sprintf("%s is %s: there is nothing left to capture", id, state)
		v.Remedy = "capture what took over its address or its work"
	}
	return v
}

// optedOut: whoever owns a suspect may have said that it is never to be captured, on the interface or on the instance. IAM
// knows the interface's tags alone, and only when everything else has been made.
func optedOut(f Facts, tag string) events.Verdict {
	id := aws.ToString(f.Interface.NetworkInterfaceId)
	v := events.Verdict{Check: "opt-out", Result: events.Pass, Reason: "neither the interface nor its instance bears the tag " + tag + "=true", Evidence: []string{id}}
	bears := func(bearer string, tags []types.Tag) {
		if slices.ContainsFunc(tags, func(t types.Tag) bool { return aws.ToString(t.Key) == tag && aws.ToString(t.Value) == "true" }) {
			v.Result, v.Evidence = events.Fail, []string{bearer}
			v.Reason = fmt.Sprintf("%s bears the tag %s=true: its owner does not want it captured", bearer, tag)
			v.Remedy = "ask the owner to remove the tag, and request the capture again"
		}
	}
	bears(id, f.Interface.TagSet)
	if f.Instance != nil {
		bears(aws.ToString(f.Instance.InstanceId), f.Instance.Tags)
	}
	return v
}

// interfaceType: only ordinary interfaces can be mirrored, and of those that other services manage only RDS's and
// ElastiCache's (VPC Traffic Mirroring guide, "Limitations"). The enum spells some types otherwise than the
// documents, so words are compared without regard to case, underscore and dash.
func interfaceType(ni types.NetworkInterface) events.Verdict {
	id := aws.ToString(ni.NetworkInterfaceId)
	v := events.Verdict{Check: "interface-type", Result: events.Pass, Reason: "an ordinary network interface", Evidence: []string{id}}
	kind := strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(string(ni.InterfaceType)))
	if kind != "interface" && kind != "" {
		v.Result = events.Fail
		v.Reason = fmt.Sprintf("%s is of type %s; AWS mirrors only ordinary interfaces", id, ni.InterfaceType)
		v.Remedy = remedies[kind]
		if v.Remedy == "" {
			v.Remedy = "capture the interface of an instance that it talks to"
		}
		return v
	}
	if aws.ToBool(ni.RequesterManaged) && !managedByDatabase(ni) {
		v.Result = events.Fail
		v.Reason = fmt.Sprintf("%s is managed by %s; of managed interfaces AWS mirrors only those of RDS and ElastiCache", id, manager(ni))
		v.Remedy = "capture the interface of an instance that it talks to"
		return v
	}
	if aws.ToString(ni.PrivateIpAddress) == "" {
		v.Result = events.Fail
		v.Reason = id + " has no IPv4 address; AWS mirrors nothing in subnets of IPv6 alone"
		v.Remedy = "capture a peer that has one, or on the host itself"
		return v
	}
	if attachedTo(ni) == "" && !aws.ToBool(ni.RequesterManaged) {
		v.Result = events.Fail
		v.Reason = id + " is attached to no instance"
		v.Remedy = "attach it, or capture the interface that took over its address"
	}
	return v
}

// remedies say what to capture instead, by interface type in lower case without underscores.
var remedies = map[string]string{
	"natgateway":          "capture the instances behind the NAT gateway",
	"branch":              "capture the trunk's instance: the node the pod or task runs on",
	"trunk":               "capture the primary interface of the node",
	"lambda":              "capture a peer of the function",
	"efa":                 "capture an ordinary interface of the instance",
	"efaonly":             "capture an ordinary interface of the instance",
	"vpcendpoint":         "capture the instances that use the endpoint",
	"gatewayloadbalancer": "capture the appliances behind the load balancer",
	"networkloadbalancer": "capture the targets behind the load balancer",
}

func manager(ni types.NetworkInterface) string {
	if id := aws.ToString(ni.RequesterId); id != "" {
		return id
	}
	return "another AWS service"
}

// managedByDatabase goes by the requester's id, or by the descriptions that RDS and ElastiCache give. A word within a
// description says nothing: load balancers have the names of what they serve in theirs.
func managedByDatabase(ni types.NetworkInterface) bool {
	who, what := strings.ToLower(aws.ToString(ni.RequesterId)), strings.ToLower(aws.ToString(ni.Description))
	return who == "amazon-rds" || who == "amazon-elasticache" ||
		!strings.HasPrefix(who, "amazon-") && (strings.HasPrefix(what, "rdsnetworkinterface") || strings.HasPrefix(what, "elasticache"))
}

func instanceFamily(ni types.NetworkInterface, in *types.Instance) events.Verdict {
	v := events.Verdict{Check: "instance-family", Result: events.Pass}
	if in == nil {
		if aws.ToBool(ni.RequesterManaged) {
			v.Reason = "a managed interface: AWS decides when the session is made"
			return v
		}
		v.Result, v.Reason = events.Warn, "its instance can't be described, so its type is not known"
		return v
	}
	v.Evidence = []string{aws.ToString(in.InstanceId)}
	asOf := familiesOf().asOf
	yes, known := Mirrorable(string(in.InstanceType))
	switch {
	case yes:
		v.Reason = fmt.Sprintf("%s is on AWS's list of %s", in.InstanceType, asOf)
	case !known:
		v.Result = events.Warn
		v.Reason = fmt.Sprintf("%s is newer than AWS's list of %s; AWS decides when the session is made", in.InstanceType, asOf)
	default:
		v.Result = events.Fail
		v.Reason = fmt.Sprintf("instances of type %s can't be mirrored (AWS's list of %s)", in.InstanceType, asOf)
		v.Remedy = "capture a peer of a supported type, or capture on the host itself; a stop and a change of type would destroy volatile evidence"
	}
	return v
}
