package events

import (
	"reflect"
	"testing"
)

func TestSecurityHub(t *testing.T) {
	action := func(findings string) []byte {
		return []byte(`{"detail-type":"Security Hub Findings - Custom Action","source":"aws.securityhub","account":"111122223333","region":"eu-central-1","detail":{"actionName":"Capture","findings":[` + findings + `]}}`)
	}
	one := func(id, account, rest string) string {
		return `{"Id":"` + id + `","AwsAccountId":"` + account + `","Region":"eu-central-1",` + rest + `"Resources":[{"Type":"AwsEc2Instance","Id":"arn:aws:ec2:eu-central-1:` + account + `:instance/i-0000000` + id + `"}]}`
	}
	parse := func(name, findings string) Finding {
		t.Helper()
		f, err := ParseFinding(action(findings))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		return f
	}

	f := parse("several findings", one("1", "111122223333", `"Severity":{"Normalized":40},`)+","+one("2", "444455556666", `"Severity":{"Normalized":90},`))
	if len(f.Suspects) != 2 || f.Severity != 9 {
		t.Fatalf("several findings: severity %v, suspects %+v", f.Severity, f.Suspects)
	}
	if own := f.OwnSuspects("111122223333", "eu-central-1"); len(own) != 1 || own[0].InstanceID != "i-00000001" {
		t.Errorf("several findings, one of another account: ours are %+v", own)
	}
	if f := parse("one archived of two", one("1", "111122223333", `"RecordState":"ARCHIVED",`)+","+one("2", "111122223333", "")); f.Archived {
		t.Error("one archived of two: the other one counts, but the whole is archived")
	}
	if f := parse("both archived", one("1", "111122223333", `"RecordState":"ARCHIVED",`)+","+one("2", "111122223333", `"RecordState":"ARCHIVED",`)); !f.Archived {
		t.Error("both archived: not archived")
	}
	if f := parse("one sample of two", one("1", "111122223333", `"Sample":true,`)+","+one("2", "111122223333", "")); f.Sample {
		t.Error("one sample of two: the real one is taken for a sample")
	}
	if f := parse("one that is no object", `"what?",`+one("2", "111122223333", "")); len(f.Suspects) != 1 {
		t.Errorf("one that is no object: suspects %+v", f.Suspects)
	}
	for label, want := range map[string]float64{"CRITICAL": 9, "HIGH": 7, "MEDIUM": 4, "LOW": 1, "INFORMATIONAL": 1, "": 0, "DIRE": 0} {
		if f := parse("severity by label", one("1", "111122223333", `"Severity":{"Label":"`+label+`"},`)); f.Severity != want {
			t.Errorf("severity label %q gives %v, want %v", label, f.Severity, want)
		}
	}
	eni := `{"Id":"1","Resources":[{"Type":"AwsEc2NetworkInterface","Id":"arn:aws:ec2:eu-central-1:111122223333:network-interface/eni-0123456789abcdef0","Details":{"AwsEc2NetworkInterface":{"Attachment":{"InstanceId":"amazon-elb"}}}}]}`
	if f := parse("interface attached by a service", eni); len(f.Suspects) != 1 || f.Suspects[0].InstanceID != "" || f.Suspects[0].NetworkInterfaceID != "eni-0123456789abcdef0" {
		t.Errorf("interface attached by a service: %+v; what is no instance id must not be one", f.Suspects)
	}
}

func TestSecurityHubV2(t *testing.T) {
	for name, resource := range map[string]string{
		"uid is the id":  `"uid":"i-0123456789abcdef0","uid_alt":"arn:aws:ec2:eu-central-1:111122223333:instance/i-0123456789abcdef0"`,
		"uid is the ARN": `"uid":"arn:aws:ec2:eu-central-1:111122223333:instance/i-0123456789abcdef0","uid_alt":"i-0123456789abcdef0"`,
	} {
		f, err := ParseFinding([]byte(`{"detail-type":"Findings Imported V2","account":"111122223333","region":"eu-central-1","detail":{"findings":[{
			"severity_id":5,"finding_info":{"uid":"u","title":"t","types":["TTPs"]},"cloud":{"account":{"uid":"111122223333"},"region":"eu-central-1"},
			"resources":[{"type":"AWS::EC2::Instance",` + resource + `,"region":"eu-central-1","owner":{"account":{"uid":"111122223333"}}}]}]}}`))
		want := []Suspect{{InstanceID: "i-0123456789abcdef0", Account: "111122223333", Region: "eu-central-1"}}
		if err != nil || !reflect.DeepEqual(f.Suspects, want) || f.Severity != 9 || f.ID != "u" {
			t.Errorf("%s: %+v, %v", name, f, err)
		}
	}
}

// TestSecurityHubTraffic: Security Hub has a finding's action in up to three forms.
func TestSecurityHubTraffic(t *testing.T) {
	asff := func(rest string) string {
		return `{"detail-type":"Security Hub Findings - Imported","detail":{"findings":[{"Id":"1","Types":["TTPs/Backdoor:EC2-C&CActivity.B"],` + rest + `"Resources":[{"Type":"AwsEc2Instance","Id":"i-00000001"}]}]}}`
	}
	ocsf := func(evidences string) string {
		return `{"detail-type":"Findings Imported V2","detail":{"findings":[{"evidences":[` + evidences + `],"resources":[{"type":"AWS::EC2::Instance","uid":"i-00000001"}]}]}}`
	}
	const connection = "aws/guardduty/service/action/networkConnectionAction/"
	flat := `"ProductFields":{"aws/guardduty/service/resourceRole":"TARGET","` + connection + `protocol":"TCP","` + connection + `localIpDetails/ipAddressV4":"10.0.0.1","` + connection +
		`localPortDetails/port":"22","` + connection + `remoteIpDetails/ipAddressV4":"203.0.113.7","` + connection + `remotePortDetails/port":"many","` + connection + `localNetworkInterface":"eni-0123456789abcdef0"},`
	const probe = "aws/guardduty/service/action/portProbeAction/portProbeDetails."
	for name, row := range map[string]struct {
		event   string
		want    []Traffic
		domains []string
		remotes []string
		local   []string
		named   string
	}{
		"Security Hub's own form": {event: asff(`"Action":{"ActionType":"NETWORK_CONNECTION","NetworkConnectionAction":{"ConnectionDirection":"OUTBOUND","Protocol":"TCP","RemoteIpDetails":{"IpAddressV4":"203.0.113.7"},"RemotePortDetails":{"Port":443}}},`),
			want: []Traffic{{Protocol: 6, Direction: Outbound, RemoteAddress: "203.0.113.7", RemotePort: 443}}, remotes: []string{"203.0.113.7"}},
		"flattened": {event: asff(flat), want: []Traffic{{6, Inbound, "10.0.0.1", 22, "203.0.113.7", 0, false}}, remotes: []string{"203.0.113.7"}, local: []string{"10.0.0.1"}, named: "eni-0123456789abcdef0"},
		"both, and flattened knows more": {event: asff(flat + `"Action":{"NetworkConnectionAction":{"RemoteIpDetails":{"IpAddressV4":"203.0.113.7"}}},`),
			want: []Traffic{{6, Inbound, "10.0.0.1", 22, "203.0.113.7", 0, false}}, remotes: []string{"203.0.113.7"}, local: []string{"10.0.0.1"}, named: "eni-0123456789abcdef0"},
		"flattened probes": {event: asff(`"ProductFields":{"` + probe + `0_/localPortDetails/port":"80","` + probe + `0_/remoteIpDetails/ipAddressV4":"203.0.113.7","` + probe + `1_/localPortDetails/port":"81"},`),
			want: []Traffic{{Direction: Inbound, LocalPort: 80, RemoteAddress: "203.0.113.7"}, {Direction: Inbound, LocalPort: 81}}, remotes: []string{"203.0.113.7"}},
		"a flattened lookup": {event: asff(`"ProductFields":{"aws/guardduty/service/action/dnsRequestAction/domain":"example.com","aws/guardduty/service/action/dnsRequestAction/protocol":"UDP"},`),
			want: []Traffic{{Protocol: 17, Direction: Outbound, DNS: true}}, domains: []string{"example.com"}},
		"OCSF, outbound": {event: ocsf(`{"src_endpoint":{"ip":"10.0.0.1","port":40000},"dst_endpoint":{"ip":"203.0.113.7","port":443},"connection_info":{"direction_id":2,"protocol_name":"TCP"}}`),
			want: []Traffic{{6, Outbound, "10.0.0.1", 40000, "203.0.113.7", 443, false}}, remotes: []string{"203.0.113.7"}, local: []string{"10.0.0.1"}},
		"OCSF, inbound": {event: ocsf(`{"src_endpoint":{"ip":"203.0.113.7"},"dst_endpoint":{"ip":"10.0.0.1","port":22,"interface_uid":"eni-0123456789abcdef0"},"connection_info":{"direction_id":1,"protocol_num":17}}`),
			want: []Traffic{{17, Inbound, "10.0.0.1", 22, "203.0.113.7", 0, false}}, remotes: []string{"203.0.113.7"}, local: []string{"10.0.0.1"}, named: "eni-0123456789abcdef0"},
		"OCSF, no direction": {event: ocsf(`{"src_endpoint":{"ip":"203.0.113.7"},"dst_endpoint":{"ip":"10.0.0.1"}}`), remotes: []string{"203.0.113.7", "10.0.0.1"}},
		"OCSF, a lookup": {event: ocsf(`{"src_endpoint":null,"connection_info":{"protocol_name":"UDP","direction_id":2},"dst_endpoint":null,"query":{"hostname":"example.com"}}`),
			want: []Traffic{{Protocol: 17, Direction: Outbound, DNS: true}}, domains: []string{"example.com"}},
	} {
		f, err := ParseFinding([]byte(row.event))
		if err != nil || len(f.Suspects) != 1 {
			t.Errorf("%s: %+v, %v", name, f.Suspects, err)
			continue
		}
		if s := f.Suspects[0]; !reflect.DeepEqual(f.Traffic, row.want) || !reflect.DeepEqual(f.Domains, row.domains) || !reflect.DeepEqual(f.Remotes, row.remotes) ||
			!reflect.DeepEqual(s.LocalAddresses, row.local) || s.NetworkInterfaceID != row.named {
			t.Errorf("%s: traffic %+v domains %q remotes %q suspect %+v", name, f.Traffic, f.Domains, f.Remotes, s)
		}
	}
}

// TestSeveralTypes: a capture for two findings must not be narrowed as if it were for one.
func TestSeveralTypes(t *testing.T) {
	f, err := ParseFinding([]byte(`{"detail-type":"Security Hub Findings - Custom Action","detail":{"findings":[
		{"Id":"1","Types":["A:EC2-B"],"Resources":[{"Type":"AwsEc2Instance","Id":"i-00000001"}]},{"Id":"2","Types":["A:EC2-C"],"Resources":[{"Type":"AwsEc2Instance","Id":"i-00000001"}]}]}}`))
	if err != nil || f.Type != manyTypes || len(f.Suspects) != 1 {
		t.Errorf("type %q, suspects %+v, %v; want one suspect", f.Type, f.Suspects, err)
	}
}

func TestMergedSuspects(t *testing.T) {
	const in = "i-00000001"
	for name, row := range map[string]struct{ from, want []Suspect }{
		"the same instance":          {[]Suspect{{InstanceID: in, Addresses: []string{"10.0.0.1"}}, {InstanceID: in, Addresses: []string{"10.0.0.1", "10.0.0.2"}}}, []Suspect{{InstanceID: in, Addresses: []string{"10.0.0.1", "10.0.0.2"}}}},
		"two interfaces of it":       {[]Suspect{{InstanceID: in, NetworkInterfaceID: "eni-00000001"}, {InstanceID: in, NetworkInterfaceID: "eni-00000002"}}, []Suspect{{InstanceID: in, NetworkInterfaceID: "eni-00000001"}, {InstanceID: in, NetworkInterfaceID: "eni-00000002"}}},
		"one knows the address":      {[]Suspect{{InstanceID: in, LocalAddresses: []string{"10.0.0.1"}}, {InstanceID: in}}, []Suspect{{InstanceID: in, LocalAddresses: []string{"10.0.0.1"}}, {InstanceID: in}}},
		"two addresses of it":        {[]Suspect{{InstanceID: in, LocalAddresses: []string{"10.0.0.1"}}, {InstanceID: in, LocalAddresses: []string{"10.0.0.2"}}}, []Suspect{{InstanceID: in, LocalAddresses: []string{"10.0.0.1", "10.0.0.2"}}}},
		"suspects without instances": {[]Suspect{{NetworkInterfaceID: "eni-00000001"}, {NetworkInterfaceID: "eni-00000001"}}, []Suspect{{NetworkInterfaceID: "eni-00000001"}, {NetworkInterfaceID: "eni-00000001"}}},
	} {
		if got := merged(row.from); !reflect.DeepEqual(got, row.want) {
			t.Errorf("%s: %+v, want %+v", name, got, row.want)
		}
	}
}
