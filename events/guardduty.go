package events

import (
	"encoding/json"
	"strconv"
	"strings"
)

// What we read of a GuardDuty finding. Names are GuardDuty's; keys match without regard to case. Source of the
// shapes: GuardDuty User Guide, "Processing GuardDuty findings with EventBridge", and the API's types.
type guardDutyFinding struct {
	AccountID string `json:"accountId"`
	Region    string
	ID        string
	Type      string
	Title     string
	Severity  float64
	UpdatedAt string
	Resource  struct {
		ResourceType      string
		InstanceDetails   *guardDutyInstance
		EksClusterDetails struct {
			VPC string `json:"vpcId"`
		}
		EcsClusterDetails struct {
			TaskDetails struct{ LaunchType string }
		}
	}
	Service struct {
		Archived       bool
		Count          int
		ResourceRole   string // TARGET or ACTOR
		AdditionalInfo guardDutyAdditional
		Action         guardDutyAction
		Detection      struct{ Sequence guardDutySequence }
	}
}

type guardDutyInstance struct {
	InstanceID        string `json:"instanceId"`
	InstanceType      string
	NetworkInterfaces []struct {
		NetworkInterfaceID string `json:"networkInterfaceId"`
		PrivateIPAddress   string `json:"privateIpAddress"`
		PrivateIPAddresses []struct {
			PrivateIPAddress string `json:"privateIpAddress"`
		} `json:"privateIpAddresses"`
		IPv6Addresses []string `json:"ipv6Addresses"`
		VPC           string   `json:"vpcId"`
	}
}

// guardDutyAdditional carries the sample flag in either of two places: as a member, and inside value, which is JSON
// in a string.
type guardDutyAdditional struct {
	Sample bool
	Value  string
}

func (a guardDutyAdditional) sample() bool {
	var inside struct{ Sample bool }
	if a.Value != "" {
		// value is free text for some finding types; what does not parse says nothing.
		_ = json.Unmarshal([]byte(a.Value), &inside)
	}
	return a.Sample || inside.Sample
}

// guardDutyAction is what happened on the network. Security Hub's format has the same members.
type guardDutyAction struct {
	NetworkConnectionAction *guardDutyConnection
	PortProbeAction         *struct{ PortProbeDetails []guardDutyProbe }
	DNSRequestAction        *guardDutyLookup `json:"dnsRequestAction"`
}

type guardDutyConnection struct {
	ConnectionDirection   string
	Protocol              string
	LocalNetworkInterface string
	LocalIPDetails        guardDutyAddress `json:"localIpDetails"`
	LocalPortDetails      guardDutyPort
	RemoteIPDetails       guardDutyAddress `json:"remoteIpDetails"`
	RemotePortDetails     guardDutyPort
}

type guardDutyProbe struct {
	LocalIPDetails   guardDutyAddress `json:"localIpDetails"`
	LocalPortDetails guardDutyPort
	RemoteIPDetails  guardDutyAddress `json:"remoteIpDetails"`
}

type guardDutyLookup struct {
	Domain           string
	DomainWithSuffix string
	Protocol         string
}

type guardDutyAddress struct {
	V4 string `json:"ipAddressV4"`
	V6 string `json:"ipAddressV6"`
}

func (a guardDutyAddress) list() []string { return unique([]string{a.V4, a.V6}) }

type guardDutyPort struct{ Port int64 }

// interfaceID is the suspect's interface, when the action names it.
func (a guardDutyAction) interfaceID() string {
	if a.NetworkConnectionAction == nil {
		return ""
	}
	return a.NetworkConnectionAction.LocalNetworkInterface
}

// local are the suspect's addresses.
func (a guardDutyAction) local() []string {
	var list []string
	if c := a.NetworkConnectionAction; c != nil {
		list = append(list, c.LocalIPDetails.list()...)
	}
	if p := a.PortProbeAction; p != nil {
		for _, d := range p.PortProbeDetails {
			list = append(list, d.LocalIPDetails.list()...)
		}
	}
	return unique(list)
}

// addTo adds peers, conversations and names to a finding. Who opened a connection whose direction is not known, the suspect's role
// says: the target is whom somebody else talked to.
func (a guardDutyAction) addTo(f *Finding, role string) {
	if c := a.NetworkConnectionAction; c != nil {
		t := Traffic{
			Protocol: protocolNumber(c.Protocol), Direction: direction(c.ConnectionDirection, role),
			LocalPort: portNumber(c.LocalPortDetails.Port), RemotePort: portNumber(c.RemotePortDetails.Port),
		}
		f.addTraffic(t, c.LocalIPDetails, c.RemoteIPDetails)
	}
	if p := a.PortProbeAction; p != nil {
		for _, d := range p.PortProbeDetails {
			f.addTraffic(Traffic{Direction: Inbound, LocalPort: portNumber(d.LocalPortDetails.Port)}, d.LocalIPDetails, d.RemoteIPDetails)
		}
	}
	if d := a.DNSRequestAction; d != nil {
		f.Domains = append(f.Domains, d.Domain, d.DomainWithSuffix)
		f.Traffic = append(f.Traffic, Traffic{Protocol: protocolNumber(d.Protocol), Direction: Outbound, DNS: true})
	}
}

// addTraffic adds a conversation once for each family in which its peer has an address. One that names neither peer nor port
// says nothing.
func (f *Finding) addTraffic(t Traffic, local, remote guardDutyAddress) {
	f.Remotes = append(f.Remotes, remote.list()...)
	one := func(local, remote string) {
		t.LocalAddress, t.RemoteAddress = local, remote
		if t.RemoteAddress != "" || t.LocalPort != 0 || t.RemotePort != 0 {
			f.Traffic = append(f.Traffic, t)
		}
	}
	if remote.V4 != "" || remote.V6 == "" {
		one(local.V4, remote.V4)
	}
	if remote.V6 != "" {
		one(local.V6, remote.V6)
	}
}

func direction(said, role string) string {
	switch said = strings.ToUpper(said); {
	case said == Inbound, said == Outbound:
		return said
	case strings.EqualFold(role, "TARGET"):
		return Inbound
	case strings.EqualFold(role, "ACTOR"):
		return Outbound
	}
	return ""
}

// protocolNumber reads a protocol by name or number; 0 when it is neither.
func protocolNumber(text string) int32 {
	switch strings.ToUpper(text) {
	case "ICMP":
		return protocolICMP
	case "TCP":
		return protocolTCP
	case "UDP":
		return protocolUDP
	case "ICMPV6", "ICMP6", "IPV6-ICMP":
		return protocolICMPv6
	}
	n, err := strconv.ParseUint(text, 10, 8)
	if err != nil {
		return 0
	}
	return int32(n)
}

// portNumber is a port, or 0 when n can't be one.
func portNumber(n int64) int32 {
	if n < 1 || n > 65535 {
		return 0
	}
	return int32(n)
}

// guardDutySequence is where an attack sequence names its resources; resource itself is empty then.
type guardDutySequence struct {
	Resources []struct {
		UID          string `json:"uid"`
		Name         string
		ResourceType string
		AccountID    string `json:"accountId"`
		Region       string
		Data         struct {
			EC2Instance *struct {
				InstanceType            string
				EC2NetworkInterfaceUIDs []string `json:"ec2NetworkInterfaceUids"`
			} `json:"ec2Instance"`
			EC2NetworkInterface *struct {
				PrivateIPAddresses []struct {
					PrivateIPAddress string `json:"privateIpAddress"`
				} `json:"privateIpAddresses"`
				IPv6Addresses []string `json:"ipv6Addresses"`
			} `json:"ec2NetworkInterface"`
		}
	}
	Endpoints []struct {
		IP         string `json:"ip"`
		Domain     string
		Port       int64
		Connection struct{ Direction string }
	}
}

func parseGuardDuty(detail []byte) (Finding, error) {
	var g guardDutyFinding
	if err := lenient(detail, &g); err != nil {
		return Finding{}, refuse(Malformed, "send the event as EventBridge delivers it", "GuardDuty finding: %v", err)
	}
	f := Finding{
		Origin: "guardduty", ID: g.ID, Type: g.Type, Title: g.Title, Severity: g.Severity,
		Account: g.AccountID, Region: g.Region, UpdatedAt: g.UpdatedAt,
		Sample: g.Service.AdditionalInfo.sample(), Archived: g.Service.Archived, Count: g.Service.Count,
	}
	if !notAboutTheInstance[g.Resource.ResourceType] {
		g.Service.Action.addTo(&f, g.Service.ResourceRole)
		if s, found := g.suspect(); found {
			f.Suspects = append(f.Suspects, s)
		}
	}
	f.addSequence(g.Service.Detection.Sequence)
	if len(f.Suspects) == 0 {
		return f, g.noSuspect(f)
	}
	return f, nil
}

// notAboutTheInstance are the resources whose findings may name an instance in passing: calls of the AWS API were made
// with its credentials, and nothing of them need have crossed its interface.
var notAboutTheInstance = map[string]bool{"AccessKey": true, "S3Bucket": true}

// suspect reads the instance and the interface that the finding's action is about. A container's finding may name no instance; then
// the interface is the suspect, or whatever holds the address of the pod: on EC2, that is the node's interface.
func (g guardDutyFinding) suspect() (Suspect, bool) {
	action := g.Service.Action
	s := Suspect{NetworkInterfaceID: action.interfaceID(), LocalAddresses: action.local()}
	in := g.Resource.InstanceDetails
	if in == nil || !IsInstanceID(in.InstanceID) {
		if g.managed() {
			return Suspect{}, false
		}
		s.VPC = g.Resource.EksClusterDetails.VPC
		return s, IsNetworkInterfaceID(s.NetworkInterfaceID) || s.byAddress()
	}
	s.InstanceID, s.InstanceType = in.InstanceID, in.InstanceType
	for _, ni := range in.NetworkInterfaces {
		s.Interfaces = append(s.Interfaces, ni.NetworkInterfaceID)
		s.Addresses = append(s.Addresses, ni.PrivateIPAddress)
		for _, a := range ni.PrivateIPAddresses {
			s.Addresses = append(s.Addresses, a.PrivateIPAddress)
		}
		s.Addresses = append(s.Addresses, ni.IPv6Addresses...)
		if s.VPC == "" || ni.NetworkInterfaceID == s.NetworkInterfaceID {
			s.VPC = orElse(ni.VPC, s.VPC)
		}
	}
	return s, true
}

// managed says whether the suspect is where AWS mirrors nothing.
func (g guardDutyFinding) managed() bool {
	return g.Resource.ResourceType == "Lambda" || g.Resource.EcsClusterDetails.TaskDetails.LaunchType == "FARGATE"
}

// addSequence adds the instances of an attack sequence. Whether a uid is an ARN or a bare id is not documented, so
// both are read. An interface that belongs to a listed instance is that instance's; another is a suspect of its own.
func (f *Finding) addSequence(sequence guardDutySequence) {
	byInterface := map[string]int{}
	for _, r := range sequence.Resources {
		if r.ResourceType != "EC2_INSTANCE" {
			continue
		}
		id := lastOf(r.UID)
		if !IsInstanceID(id) {
			id = lastOf(r.Name)
		}
		if !IsInstanceID(id) {
			continue
		}
		s := Suspect{InstanceID: id, Account: r.AccountID, Region: r.Region}
		if in := r.Data.EC2Instance; in != nil {
			s.InstanceType = in.InstanceType
			for _, uid := range in.EC2NetworkInterfaceUIDs {
				s.Interfaces = append(s.Interfaces, lastOf(uid))
				byInterface[lastOf(uid)] = len(f.Suspects)
			}
		}
		f.Suspects = append(f.Suspects, s)
	}
	for _, r := range sequence.Resources {
		if r.ResourceType != "EC2_NETWORK_INTERFACE" {
			continue
		}
		id := lastOf(r.UID)
		if !IsNetworkInterfaceID(id) {
			id = lastOf(r.Name)
		}
		if !IsNetworkInterfaceID(id) {
			continue
		}
		at, known := byInterface[id]
		if !known {
			at = len(f.Suspects)
			f.Suspects = append(f.Suspects, Suspect{NetworkInterfaceID: id, Interfaces: []string{id}, Account: r.AccountID, Region: r.Region})
		}
		if ni := r.Data.EC2NetworkInterface; ni != nil {
			for _, a := range ni.PrivateIPAddresses {
				f.Suspects[at].Addresses = append(f.Suspects[at].Addresses, a.PrivateIPAddress)
			}
			f.Suspects[at].Addresses = append(f.Suspects[at].Addresses, ni.IPv6Addresses...)
		}
	}
	for _, e := range sequence.Endpoints {
		f.Remotes = append(f.Remotes, e.IP)
		f.Domains = append(f.Domains, e.Domain)
		if e.IP != "" {
			t := Traffic{Direction: direction(e.Connection.Direction, ""), RemoteAddress: e.IP, RemotePort: portNumber(e.Port)}
			f.Traffic = append(f.Traffic, t)
		}
	}
}

// noSuspect says what the finding is about instead of an instance, and where to look.
func (g guardDutyFinding) noSuspect(f Finding) *Refusal {
	name := f.Type
	if name == "" {
		name = "a GuardDuty finding"
	}
	switch kind := g.Resource.ResourceType; {
	case kind == "Instance":
		return refuse(NoSuspect, "start a capture by hand with the instance id", "%s names no instance id", name)
	case kind == "AttackSequence":
		return refuse(NotOnANetwork, "look at the sequence's own findings; start a capture by hand for an instance it involves",
			"%s lists no EC2 instance or network interface", name)
	case kind == "EKSCluster", strings.HasPrefix(kind, "Kubernetes"):
		return refuse(NotOnANetwork, "find the node the pod runs on and start a capture of its interface by hand",
			"%s is about an EKS cluster and names no node", name)
	case g.Resource.EcsClusterDetails.TaskDetails.LaunchType == "FARGATE":
		return refuse(NotOnANetwork, "start a capture by hand of the interface of "+f.peer(),
			"%s is about a task on Fargate, whose interfaces AWS does not mirror", name)
	case kind == "ECSCluster", kind == "Container":
		return refuse(NotOnANetwork, "on EC2, start a capture of the container instance by hand; on Fargate, whose interfaces AWS does not mirror, of "+f.peer(),
			"%s is about containers and names no instance", name)
	case kind == "Lambda":
		return refuse(NotOnANetwork, "start a capture by hand of the interface of "+f.peer(),
			"%s is about a Lambda function, whose interfaces AWS does not mirror", name)
	case strings.HasPrefix(kind, "RDS"):
		return refuse(NotOnANetwork, "start a capture by hand of the database's interface, which AWS does mirror: "+
			"its id is the answer of aws ec2 describe-network-interfaces --filters Name=private-ip-address,Values=<the address that the database's endpoint resolves to>",
			"%s is about a database and names no network interface", name)
	case notAboutTheInstance[kind] && g.Resource.InstanceDetails != nil:
		return refuse(NotOnANetwork, "start a capture of "+orElse(g.Resource.InstanceDetails.InstanceID, "the instance")+" by hand if the instance itself is suspect",
			"%s is about calls of the AWS API (%s)", name, kind)
	case kind == "":
		return refuse(NotOnANetwork, "nothing to do: there is no interface to mirror", "%s names no resource", name)
	default:
		return refuse(NotOnANetwork, "nothing to do: there is no interface to mirror", "%s is about %s, which has no network interface", name, kind)
	}
}

// peer says whose interface could be captured instead of the suspect's.
func (f Finding) peer() string {
	peers := unique(f.Remotes)
	if len(peers) == 0 {
		return "an instance that it talks to"
	}
	return "an instance that it talks to (the finding names " + strings.Join(peers, ", ") + ")"
}
