package events

import (
	"encoding/json"
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
		EksClusterDetails json.RawMessage
		EcsClusterDetails json.RawMessage
	}
	Service struct {
		Archived       bool
		Count          int
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

type guardDutyAction struct {
	NetworkConnectionAction *struct {
		LocalNetworkInterface string
		LocalIPDetails        guardDutyAddress `json:"localIpDetails"`
		RemoteIPDetails       guardDutyAddress `json:"remoteIpDetails"`
	}
	PortProbeAction *struct {
		PortProbeDetails []struct {
			LocalIPDetails  guardDutyAddress `json:"localIpDetails"`
			RemoteIPDetails guardDutyAddress `json:"remoteIpDetails"`
		}
	}
}

type guardDutyAddress struct {
	V4 string `json:"ipAddressV4"`
	V6 string `json:"ipAddressV6"`
}

func (a guardDutyAddress) list() []string { return unique([]string{a.V4, a.V6}) }

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
		IP string `json:"ip"`
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
	if g.Resource.InstanceDetails != nil && IsInstanceID(g.Resource.InstanceDetails.InstanceID) && !notAboutTheInstance[g.Resource.ResourceType] {
		f.Suspects = append(f.Suspects, g.suspect(&f))
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

// suspect reads the instance and the interface that the finding's action is about, and adds the peers to f.
func (g guardDutyFinding) suspect(f *Finding) Suspect {
	in := g.Resource.InstanceDetails
	s := Suspect{InstanceID: in.InstanceID, InstanceType: in.InstanceType}
	for _, ni := range in.NetworkInterfaces {
		s.Interfaces = append(s.Interfaces, ni.NetworkInterfaceID)
		s.Addresses = append(s.Addresses, ni.PrivateIPAddress)
		for _, a := range ni.PrivateIPAddresses {
			s.Addresses = append(s.Addresses, a.PrivateIPAddress)
		}
		s.Addresses = append(s.Addresses, ni.IPv6Addresses...)
	}
	if a := g.Service.Action.NetworkConnectionAction; a != nil {
		s.NetworkInterfaceID = a.LocalNetworkInterface
		s.LocalAddresses = a.LocalIPDetails.list()
		f.Remotes = append(f.Remotes, a.RemoteIPDetails.list()...)
	}
	if a := g.Service.Action.PortProbeAction; a != nil {
		for _, d := range a.PortProbeDetails {
			s.LocalAddresses = append(s.LocalAddresses, d.LocalIPDetails.list()...)
			f.Remotes = append(f.Remotes, d.RemoteIPDetails.list()...)
		}
	}
	return s
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
	case kind == "ECSCluster", kind == "Container":
		return refuse(NotOnANetwork, "on EC2, capture the container instance; Fargate interfaces can't be mirrored, so capture a peer",
			"%s is about containers and names no instance", name)
	case kind == "Lambda":
		return refuse(NotOnANetwork, "Lambda's interfaces can't be mirrored; capture a peer of the function", "%s is about a Lambda function", name)
	case notAboutTheInstance[kind] && g.Resource.InstanceDetails != nil:
		return refuse(NotOnANetwork, "start a capture of "+orElse(g.Resource.InstanceDetails.InstanceID, "the instance")+" by hand if the instance itself is suspect",
			"%s is about calls of the AWS API (%s)", name, kind)
	case kind == "":
		return refuse(NotOnANetwork, "nothing to do: there is no interface to mirror", "%s names no resource", name)
	default:
		return refuse(NotOnANetwork, "nothing to do: there is no interface to mirror", "%s is about %s, which has no network interface", name, kind)
	}
}
