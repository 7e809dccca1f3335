package events

import (
	"encoding/json"
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
	ProductFields map[string]string
	Resources     []struct {
		Type    string
		ID      string `json:"Id"`
		Region  string
		Details struct {
			AwsEc2Instance *struct {
				Type              string
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

// Flattened members of a GuardDuty finding that came by way of Security Hub.
const (
	fieldLocalAddress  = "aws/guardduty/service/action/networkConnectionAction/localIpDetails/ipAddressV4"
	fieldRemoteAddress = "aws/guardduty/service/action/networkConnectionAction/remoteIpDetails/ipAddressV4"
	fieldArchived      = "aws/guardduty/service/archived"
	fieldInterface     = "aws/guardduty/service/action/networkConnectionAction/localNetworkInterface"
)

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

func (a asffFinding) finding() Finding {
	f := Finding{
		Origin: "securityhub", ID: a.ID, Title: a.Title, Account: a.AwsAccountID, Region: a.Region,
		Sample: a.Sample, Count: 1, UpdatedAt: a.UpdatedAt,
		Archived: a.RecordState == "ARCHIVED" || a.ProductFields[fieldArchived] == "true",
		Severity: a.Severity.Normalized / 10,
		Remotes:  []string{a.ProductFields[fieldRemoteAddress]},
	}
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
				s.InstanceType = in.Type
				s.Addresses = append(in.IPV4Addresses, in.IPV6Addresses...)
				for _, ni := range in.NetworkInterfaces {
					s.Interfaces = append(s.Interfaces, ni.NetworkInterfaceID)
				}
			}
			s.NetworkInterfaceID = a.ProductFields[fieldInterface]
			s.LocalAddresses = []string{a.ProductFields[fieldLocalAddress]}
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
		if i == 0 {
			f = Finding{Origin: "securityhub", ID: o.FindingInfo.UID, Title: o.FindingInfo.Title,
				Account: o.Cloud.Account.UID, Region: o.Cloud.Region, Count: 1}
			if len(o.FindingInfo.Types) > 0 {
				f.Type = o.FindingInfo.Types[0]
			}
		}
		f.Severity = max(f.Severity, ocsfSeverity[o.SeverityID])
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
