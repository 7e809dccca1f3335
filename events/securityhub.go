package events

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// asffFinding is what we read of a finding in the AWS Security Finding Format (Security Hub User Guide, "ASFF").
type asffFinding struct {
	ID           string `json:"Id"`
	AwsAccountID string `json:"AwsAccountId"`
	Region       string
	Title        string
	Types        []string
	RecordState  string
	Sample       bool
	UpdatedAt    string
	Severity     struct {
		Label      string
		Normalized float64 // 0 to 100
	}
	ProductFields flattened
	Action        guardDutyAction
	Resources     []struct {
		Type    string
		ID      string `json:"Id"`
		Region  string
		Details struct {
			AwsEc2Instance *struct {
				Type              string
				VPC               string   `json:"VpcId"`
				IPV4Addresses     []string `json:"IpV4Addresses"`
				IPV6Addresses     []string `json:"IpV6Addresses"`
				NetworkInterfaces []struct {
					NetworkInterfaceID string `json:"NetworkInterfaceId"`
				}
			}
			AwsEc2NetworkInterface *struct {
				NetworkInterfaceID string `json:"NetworkInterfaceId"`
				Attachment         struct {
					InstanceID string `json:"InstanceId"`
				}
			}
		}
	}
}

// Flattened members of a GuardDuty finding that came by way of Security Hub. Members of lists are numbered: portProbeDetails.0_/.
const (
	flatArchived   = "aws/guardduty/service/archived"
	flatRole       = "aws/guardduty/service/resourceRole"
	flatConnection = "aws/guardduty/service/action/networkConnectionAction/"
	flatProbes     = "aws/guardduty/service/action/portProbeAction/portProbeDetails."
	flatLookup     = "aws/guardduty/service/action/dnsRequestAction/"
)

// flattened are the members of a GuardDuty finding by their path.
type flattened map[string]string

func (f flattened) has(prefix string) bool {
	for name := range f {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

func (f flattened) address(path string) guardDutyAddress {
	return guardDutyAddress{V4: f[path+"/ipAddressV4"], V6: f[path+"/ipAddressV6"]}
}

func (f flattened) port(path string) guardDutyPort {
	n, err := strconv.ParseInt(f[path+"/port"], 10, 32)
	if err != nil {
		return guardDutyPort{} // absent or no number: not known
	}
	return guardDutyPort{n}
}

// action is what happened on the network. Security Hub has it in its own format and, with more members, flattened; older findings
// have the second alone.
func (a asffFinding) action() guardDutyAction {
	action, f := a.Action, a.ProductFields
	if f.has(flatConnection) {
		action.NetworkConnectionAction = &guardDutyConnection{
			ConnectionDirection: f[flatConnection+"connectionDirection"], Protocol: f[flatConnection+"protocol"],
			LocalNetworkInterface: f[flatConnection+"localNetworkInterface"],
			LocalIPDetails:        f.address(flatConnection + "localIpDetails"), LocalPortDetails: f.port(flatConnection + "localPortDetails"),
			RemoteIPDetails: f.address(flatConnection + "remoteIpDetails"), RemotePortDetails: f.port(flatConnection + "remotePortDetails"),
		}
	}
	if f.has(flatProbes) {
		action.PortProbeAction = &struct{ PortProbeDetails []guardDutyProbe }{}
		for i := 0; f.has(fmt.Sprintf("%s%d_/", flatProbes, i)); i++ {
			probe := fmt.Sprintf("%s%d_/", flatProbes, i)
			action.PortProbeAction.PortProbeDetails = append(action.PortProbeAction.PortProbeDetails, guardDutyProbe{
				LocalIPDetails: f.address(probe + "localIpDetails"), LocalPortDetails: f.port(probe + "localPortDetails"),
				RemoteIPDetails: f.address(probe + "remoteIpDetails"),
			})
		}
	}
	if f.has(flatLookup) {
		action.DNSRequestAction = &guardDutyLookup{
			Domain: f[flatLookup+"domain"], DomainWithSuffix: f[flatLookup+"domainWithSuffix"], Protocol: f[flatLookup+"protocol"],
		}
	}
	return action
}

// asffSeverity turns a label into GuardDuty's scale, at the lower end of the band of the same name, for products that
// leave the number out.
var asffSeverity = map[string]float64{"INFORMATIONAL": 1, "LOW": 1, "MEDIUM": 4, "HIGH": 7, "CRITICAL": 9}

// parseSecurityHub reads the findings of a custom action or an import; several findings give one with all suspects.
func parseSecurityHub(detail []byte) (Finding, error) {
	var d struct {
		ActionName string
		Findings   []json.RawMessage
	}
	if err := lenient(detail, &d); err != nil {
		return Finding{}, refuse(Malformed, "send the event as EventBridge delivers it", "Security Hub event: %v", err)
	}
	if len(d.Findings) == 0 {
		d.Findings = []json.RawMessage{detail} // a bare finding
	}
	var f Finding
	var unread error
	read := 0
	for i, raw := range d.Findings {
		var a asffFinding
		if err := lenient(raw, &a); err != nil { // it must not cost us the others
			unread = refuse(Malformed, "send the event as EventBridge delivers it", "Security Hub finding %d: %v", i+1, err)
			continue
		}
		one := a.finding()
		if read++; read == 1 {
			f = one
			continue
		}
		f.Severity = max(f.Severity, one.Severity)
		f.Sample = f.Sample && one.Sample
		f.Archived = f.Archived && one.Archived
		f.Suspects = append(f.Suspects, one.Suspects...)
		f.Remotes = append(f.Remotes, one.Remotes...)
		f.Traffic = append(f.Traffic, one.Traffic...)
		f.Domains = append(f.Domains, one.Domains...)
		if one.Type != f.Type {
			f.Type = manyTypes // what is right for one of them could be too narrow for another
		}
	}
	if read == 0 {
		return f, unread
	}
	if len(f.Suspects) == 0 {
		return f, refuse(NotOnANetwork, "choose a finding about an EC2 instance or network interface",
			"%s is about nothing that has a network interface", orElse(f.Type, "the Security Hub finding"))
	}
	return f, nil
}

// manyTypes stands for the types of several findings in one event.
const manyTypes = "several types"

func (a asffFinding) finding() Finding {
	f := Finding{
		Origin: "securityhub", ID: a.ID, Title: a.Title, Account: a.AwsAccountID, Region: a.Region,
		Sample: a.Sample, Count: 1, UpdatedAt: a.UpdatedAt,
		Archived: a.RecordState == "ARCHIVED" || a.ProductFields[flatArchived] == "true",
		Severity: a.Severity.Normalized / 10,
	}
	action := a.action()
	action.addTo(&f, a.ProductFields[flatRole])
	if f.Severity == 0 {
		f.Severity = asffSeverity[a.Severity.Label]
	}
	if len(a.Types) > 0 {
		f.Type = a.Types[0]
	}
	for _, r := range a.Resources {
		s := Suspect{Account: a.AwsAccountID, Region: r.Region}
		switch r.Type {
		case "AwsEc2Instance":
			s.InstanceID = lastOf(r.ID)
			if in := r.Details.AwsEc2Instance; in != nil {
				s.InstanceType, s.VPC = in.Type, in.VPC
				s.Addresses = append(in.IPV4Addresses, in.IPV6Addresses...)
				for _, ni := range in.NetworkInterfaces {
					s.Interfaces = append(s.Interfaces, ni.NetworkInterfaceID)
				}
			}
			s.NetworkInterfaceID, s.LocalAddresses = action.interfaceID(), action.local()
		case "AwsEc2NetworkInterface":
			s.NetworkInterfaceID = lastOf(r.ID)
			if ni := r.Details.AwsEc2NetworkInterface; ni != nil {
				s.InstanceID = ni.Attachment.InstanceID
				if !IsNetworkInterfaceID(s.NetworkInterfaceID) {
					s.NetworkInterfaceID = ni.NetworkInterfaceID
				}
			}
		}
		if IsInstanceID(s.InstanceID) || IsNetworkInterfaceID(s.NetworkInterfaceID) {
			f.Suspects = append(f.Suspects, s)
		}
		if f.Region == "" {
			f.Region = r.Region
		}
	}
	return f
}

// ocsfFinding is what we read of a finding of the newer Security Hub, in OCSF (Security Hub User Guide, "EventBridge
// event formats").
type ocsfFinding struct {
	SeverityID  int `json:"severity_id"`
	FindingInfo struct {
		UID   string `json:"uid"`
		Title string
		Types []string
	} `json:"finding_info"`
	Cloud struct {
		Account struct {
			UID string `json:"uid"`
		}
		Region string
	}
	Evidences []struct {
		Source      ocsfEndpoint `json:"src_endpoint"`
		Destination ocsfEndpoint `json:"dst_endpoint"`
		Connection  struct {
			Direction      int    `json:"direction_id"` // 1 inbound, 2 outbound
			ProtocolName   string `json:"protocol_name"`
			ProtocolNumber int32  `json:"protocol_num"`
		} `json:"connection_info"`
		Query struct{ Hostname string }
	}
	Resources []struct {
		Type   string
		UID    string `json:"uid"`
		UIDAlt string `json:"uid_alt"`
		Region string
		Owner  struct {
			Account struct {
				UID string `json:"uid"`
			}
		}
	}
}

type ocsfEndpoint struct {
	IP           string `json:"ip"`
	Port         int64
	InterfaceUID string `json:"interface_uid"`
}

// addTo adds peers, conversations and names to f, and gives the suspect's side. Where the direction is not said, neither end is known to be the
// suspect's, so both are peers.
func (o ocsfFinding) addTo(f *Finding) (interfaceID string, local []string) {
	for _, e := range o.Evidences {
		if e.Query.Hostname != "" {
			f.Domains = append(f.Domains, e.Query.Hostname)
			f.Traffic = append(f.Traffic, Traffic{Protocol: protocolNumber(e.Connection.ProtocolName), Direction: Outbound, DNS: true})
		}
		t := Traffic{Protocol: protocolNumber(e.Connection.ProtocolName)}
		if n := e.Connection.ProtocolNumber; t.Protocol == 0 && n > 0 && n < 256 {
			t.Protocol = n
		}
		var own, peer ocsfEndpoint
		switch e.Connection.Direction {
		case 1:
			t.Direction, own, peer = Inbound, e.Destination, e.Source
		case 2:
			t.Direction, own, peer = Outbound, e.Source, e.Destination
		default:
			f.Remotes = append(f.Remotes, e.Source.IP, e.Destination.IP)
			continue
		}
		interfaceID = orElse(lastOf(own.InterfaceUID), interfaceID)
		local = append(local, own.IP)
		t.LocalAddress, t.LocalPort = own.IP, portNumber(own.Port)
		t.RemoteAddress, t.RemotePort = peer.IP, portNumber(peer.Port)
		f.Remotes = append(f.Remotes, peer.IP)
		if t.RemoteAddress != "" || t.LocalPort != 0 || t.RemotePort != 0 {
			f.Traffic = append(f.Traffic, t)
		}
	}
	return interfaceID, local
}

// ocsfSeverity turns OCSF's severity_id (1 informational ... 5 critical, 6 fatal) into GuardDuty's scale, at the
// lower end of the band of the same name.
var ocsfSeverity = map[int]float64{1: 1, 2: 1, 3: 4, 4: 7, 5: 9, 6: 10}

func parseSecurityHubV2(detail []byte) (Finding, error) {
	var d struct{ Findings []ocsfFinding }
	if err := lenient(detail, &d); err != nil {
		return Finding{}, refuse(Malformed, "send the event as EventBridge delivers it", "Security Hub event: %v", err)
	}
	var f Finding
	for i, o := range d.Findings {
		kind := ""
		if len(o.FindingInfo.Types) > 0 {
			kind = o.FindingInfo.Types[0]
		}
		if i == 0 {
			f = Finding{Origin: "securityhub", ID: o.FindingInfo.UID, Title: o.FindingInfo.Title, Type: kind,
				Account: o.Cloud.Account.UID, Region: o.Cloud.Region, Count: 1}
		}
		if kind != f.Type {
			f.Type = manyTypes
		}
		f.Severity = max(f.Severity, ocsfSeverity[o.SeverityID])
		interfaceID, local := o.addTo(&f)
		for _, r := range o.Resources {
			s := Suspect{Account: r.Owner.Account.UID, Region: r.Region}
			for _, id := range []string{lastOf(r.UID), lastOf(r.UIDAlt)} {
				if IsInstanceID(id) {
					s.InstanceID = id
				}
				if IsNetworkInterfaceID(id) {
					s.NetworkInterfaceID = id
				}
			}
			if s.InstanceID != "" || s.NetworkInterfaceID != "" {
				s.NetworkInterfaceID = orElse(s.NetworkInterfaceID, interfaceID)
				s.LocalAddresses = local
				f.Suspects = append(f.Suspects, s)
			}
		}
	}
	if len(f.Suspects) == 0 {
		return f, refuse(NotOnANetwork, "choose a finding about an EC2 instance or network interface",
			"%s is about nothing that has a network interface", orElse(f.Type, "the Security Hub finding"))
	}
	return f, nil
}

func orElse(s, other string) string {
	if strings.TrimSpace(s) == "" {
		return other
	}
	return s
}
