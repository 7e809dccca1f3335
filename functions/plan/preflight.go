package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"flashtap/events"
)

// Facts are what AWS says about the suspect and its surroundings at the moment of planning.
type Facts struct {
	Settings  events.Settings
	Tool      string
	Request   events.Request // with the capture id fixed
	Start     time.Time      // of the capture: its id's
	Now       time.Time
	Interface types.NetworkInterface
	Why       string          // how the interface was found
	Instance  *types.Instance // nil when the interface is attached to none that we can see

	Sessions []types.TrafficMirrorSession // all of the account
	Targets  []types.TrafficMirrorTarget  // all of the account

	Subnets      []types.Subnet // of the interface's VPC and zone
	RouteTables  []types.RouteTable
	Endpoints    []types.VpcEndpoint // of S3 in the VPC
	S3PrefixList string              // id of com.amazonaws.<region>.s3
	DNSSupport   bool                // the VPC's enableDnsSupport

	DrawVNI func() uint32 // a random 24-bit number
}

// Decide judges the facts and fixes everything about the capture. The plan says Go only when no verdict failed.
func Decide(f Facts) events.Plan {
	options := f.Settings.Options(f.Request.Options)
	// The clock of the capture itself starts with the session; the deadline also leaves time to get there.
	most := time.Duration(f.Settings.ReadySeconds+options.DurationSeconds) * time.Second
	p := events.Plan{
		Version: events.RecordVersion, Capture: f.Request.Capture, Deployment: f.Settings.Deployment,
		Account: f.Settings.Account, Region: f.Settings.Region, Tool: f.Tool, CreatedAt: f.Now.UTC(),
		Request: f.Request, Source: source(f), Start: f.Start.UTC(), Deadline: f.Now.UTC().Truncate(time.Second).Add(most),
		Tags:   f.Settings.Tags,
		Mirror: events.MirrorPlan{PacketLength: options.PacketLength, Filter: *options.Filter},
		Limits: events.CaptureLimits{
			DurationSeconds: options.DurationSeconds, MaxBytes: options.MaxBytes, DrainSeconds: f.Settings.DrainSeconds, SegmentBytes: f.Settings.SegmentBytes,
			SegmentSeconds: f.Settings.SegmentSeconds, CheckpointSeconds: f.Settings.CheckpointSeconds,
			PollSeconds: f.Settings.CollectorPollSeconds, SpoolBytes: f.Settings.SpoolBytes,
		},
	}
	add := func(v events.Verdict) { p.Verdicts = append(p.Verdicts, v) }
	add(events.Verdict{Check: "interface", Result: events.Pass, Reason: f.Why, Evidence: []string{p.Source.NetworkInterfaceID}})
	add(requestVerdict(f.Request, options))
	if tag := f.Settings.OptOutTag; tag != "" {
		add(optedOut(f, tag))
	}
	add(interfaceType(f.Interface))
	add(instanceFamily(f.Interface, f.Instance))
	add(notATarget(f))
	number, v := sessionNumber(f, options.SessionNumber)
	add(v)
	add(filterVerdict(f.Interface, *options.Filter))
	place, v := place(f)
	add(v)
	if len(place.Candidates) == 0 {
		add(events.Verdict{Check: "collector", Result: events.Fail,
			Reason: "no instance type of the deployment has both an image and a program for its architecture",
			Remedy: "deploy again: FLASHTAP_IMAGES, FLASHTAP_BINARY_KEYS and FLASHTAP_BINARY_DIGESTS must cover FLASHTAP_INSTANCE_TYPES"})
	}
	p.Mirror.SessionNumber = number
	p.Mirror.VNI = freeVNI(f)
	p.Collector = place
	p.Go = len(p.Failed()) == 0
	return p
}

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

// requestVerdict checks what was asked for, and what it becomes with the deployment's defaults.
func requestVerdict(r events.Request, complete events.Options) events.Verdict {
	v := events.Verdict{Check: "request", Result: events.Pass, Reason: "its options are within AWS's and the deployment's bounds"}
	err := r.Validate()
	v.Remedy = "correct the request and send it again"
	if err == nil {
		err = complete.Validate()
		v.Remedy = "correct the defaults of the deployment"
	}
	if err == nil {
		v.Remedy = ""
		return v
	}
	v.Result, v.Reason = events.Fail, strings.ReplaceAll(err.Error(), "\n", "; ")
	return v
}

// optedOut: whoever owns a suspect may have said that it is never to be captured, on the interface or on the instance. IAM
// knows the interface's tags alone, and only when everything else has been made.
func optedOut(f Facts, tag string) events.Verdict {
	id := aws.ToString(f.Interface.NetworkInterfaceId)
	v := events.Verdict{Check: "opt-out", Result: events.Pass, Reason: "neither the interface nor its instance bears the tag " + tag + "=true", Evidence: []string{id}}
	bearers := map[string][]types.Tag{id: f.Interface.TagSet}
	if f.Instance != nil {
		bearers[aws.ToString(f.Instance.InstanceId)] = f.Instance.Tags
	}
	for bearer, tags := range bearers {
		if slices.ContainsFunc(tags, func(t types.Tag) bool { return aws.ToString(t.Key) == tag && aws.ToString(t.Value) == "true" }) {
			v.Result, v.Evidence = events.Fail, []string{bearer}
			v.Reason = fmt.Sprintf("%s bears the tag %s=true: its owner does not want it captured", bearer, tag)
			v.Remedy = "ask the owner to remove the tag, and request the capture again"
		}
	}
	return v
}

// interfaceType: only ordinary interfaces can be mirrored, and of those that other services manage only RDS's and
// ElastiCache's (VPC Traffic Mirroring guide, "Limitations"). The enum spells some types otherwise than the
// documents, so words are compared without regard to case and underscore.
func interfaceType(ni types.NetworkInterface) events.Verdict {
	id := aws.ToString(ni.NetworkInterfaceId)
	v := events.Verdict{Check: "interface-type", Result: events.Pass, Reason: "an ordinary network interface", Evidence: []string{id}}
	kind := strings.ToLower(strings.ReplaceAll(string(ni.InterfaceType), "_", ""))
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
	yes, known := mirrorable(string(in.InstanceType))
	switch {
	case yes:
		v.Reason = fmt.Sprintf("%s is on AWS's list of %s", in.InstanceType, familiesAsOf)
	case !known:
		v.Result = events.Warn
		v.Reason = fmt.Sprintf("%s is newer than AWS's list of %s; AWS decides when the session is made", in.InstanceType, familiesAsOf)
	default:
		v.Result = events.Fail
		v.Reason = fmt.Sprintf("instances of type %s can't be mirrored (AWS's list of %s)", in.InstanceType, familiesAsOf)
		v.Remedy = "capture a peer of a supported type, or capture on the host itself; a stop and a change of type would destroy volatile evidence"
	}
	return v
}

// notATarget: an interface is in sessions as a source, or is a target, never both.
func notATarget(f Facts) events.Verdict {
	v := events.Verdict{Check: "not-a-target", Result: events.Pass, Reason: "no mirror target uses it"}
	for _, t := range f.Targets {
		if aws.ToString(t.NetworkInterfaceId) == aws.ToString(f.Interface.NetworkInterfaceId) {
			v.Result = events.Fail
			v.Reason = "it is itself the target of mirroring, and AWS does not mirror a target"
			v.Remedy = "delete target " + aws.ToString(t.TrafficMirrorTargetId) + ", or capture another interface"
			v.Evidence = []string{aws.ToString(t.TrafficMirrorTargetId)}
		}
	}
	return v
}

// maxSessions is the quota of sessions of one source interface; AWS does not raise it (VPC Traffic Mirroring guide,
// "Quotas").
const maxSessions = 3

// sessionNumber finds a free number. AWS tries sessions in ascending number and mirrors each packet once, to the first
// whose filter matches: so by default ours goes after those that are there, which keeps what others rely on, and the
// plan warns that they may take packets from us.
func sessionNumber(f Facts, wanted int32) (int32, events.Verdict) {
	v := events.Verdict{Check: "sessions", Result: events.Pass}
	taken := map[int32]string{}
	var highest int32
	for _, s := range f.Sessions {
		if aws.ToString(s.NetworkInterfaceId) != aws.ToString(f.Interface.NetworkInterfaceId) {
			continue
		}
		n := aws.ToInt32(s.SessionNumber)
		taken[n] = aws.ToString(s.TrafficMirrorSessionId)
		highest = max(highest, n)
		v.Evidence = append(v.Evidence, taken[n])
	}
	if len(taken) >= maxSessions {
		v.Result = events.Fail
		v.Reason = fmt.Sprintf("it has %d mirror sessions already, and AWS allows %d", len(taken), maxSessions)
		v.Remedy = "delete one of the sessions named in the evidence"
		return 0, v
	}
	number := wanted
	switch {
	case number != 0 && taken[number] != "":
		v.Result = events.Fail
		v.Reason = fmt.Sprintf("session number %d is taken by %s", number, taken[number])
		v.Remedy = "ask for another number, or for none"
		return 0, v
	case number == 0 && highest < events.MaxSessionNumber:
		number = highest + 1
	case number == 0:
		for number = 1; taken[number] != ""; number++ {
		}
	}
	v.Reason = fmt.Sprintf("%d of %d sessions exist; ours gets number %d", len(taken), maxSessions, number)
	if len(taken) > 0 {
		v.Result = events.Warn
		v.Reason += "; a packet goes only to the first session that wants it, in ascending number"
	}
	return number, v
}

func filterVerdict(ni types.NetworkInterface, filter events.Filter) events.Verdict {
	v := events.Verdict{Check: "filter", Result: events.Pass, Reason: fmt.Sprintf("%d rules of %d", len(filter.Rules), events.MaxFilterRules)}
	six := slices.ContainsFunc(filter.Rules, func(r events.FilterRule) bool {
		return r.Action == events.Accept && strings.Contains(r.SourceCIDR, ":")
	})
	if len(ni.Ipv6Addresses) > 0 && !six {
		v.Result, v.Reason = events.Warn, "the interface has IPv6 addresses, and no rule accepts IPv6"
		v.Remedy = "add rules for ::/0"
	}
	if !filter.DNS {
		v.Result, v.Reason = events.Warn, v.Reason+"; DNS with the VPC's resolver is not mirrored"
	}
	return v
}

// freeVNI draws a VNI that no session of the account uses.
func freeVNI(f Facts) uint32 {
	used := map[uint32]bool{0: true}
	for _, s := range f.Sessions {
		used[uint32(aws.ToInt32(s.VirtualNetworkId))] = true
	}
	for {
		if vni := f.DrawVNI() & (1<<24 - 1); !used[vni] {
			return vni
		}
	}
}
