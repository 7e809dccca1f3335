package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const (
	findings       = "testdata/findings"
	findingsGolden = "testdata/findings.golden"
)

// TestFindingsGolden reads every real event that we have and compares what we understand of it, line by line.
func TestFindingsGolden(t *testing.T) {
	files, err := filepath.Glob(findings + "/*.json")
	if err != nil || len(files) < 17 {
		t.Fatalf("%d events in %s, want 17 or more: %v", len(files), findings, err)
	}
	var got bytes.Buffer
	for _, file := range files {
		f, err := ParseFinding(read(t, file))
		fmt.Fprintf(&got, "%s\n", strings.TrimSuffix(filepath.Base(file), ".json"))
		describeFinding(&got, f, err)
	}
	if *update {
		if err := os.WriteFile(findingsGolden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := read(t, findingsGolden); !bytes.Equal(got.Bytes(), want) {
		t.Errorf("the findings read otherwise than %s says (go test ./events -update rewrites it):\n%s", findingsGolden, got.Bytes())
	}
}

func describeFinding(w *bytes.Buffer, f Finding, err error) {
	fmt.Fprintf(w, "  %s %q severity %v account %s region %s sample %t archived %t count %d\n",
		f.Origin, f.Type, f.Severity, f.Account, f.Region, f.Sample, f.Archived, f.Count)
	var refusal *Refusal
	if errors.As(err, &refusal) {
		fmt.Fprintf(w, "  refused: %s\n", refusal)
	} else if err != nil {
		fmt.Fprintf(w, "  error that is no refusal: %v\n", err)
	}
	for _, s := range f.Suspects {
		fmt.Fprintf(w, "  suspect %s %s in %s/%s/%s named %q\n    interfaces %v\n    local %v\n    addresses %v\n",
			s.InstanceID, s.InstanceType, s.Account, s.Region, s.VPC, s.NetworkInterfaceID, s.Interfaces, s.LocalAddresses, s.Addresses)
	}
	fmt.Fprintf(w, "  remotes %v\n", f.Remotes)
	for _, t := range f.Traffic {
		fmt.Fprintf(w, "  traffic protocol %d direction %q local %q port %d remote %q port %d dns %t\n",
			t.Protocol, t.Direction, t.LocalAddress, t.LocalPort, t.RemoteAddress, t.RemotePort, t.DNS)
	}
	if len(f.Domains) > 0 {
		fmt.Fprintf(w, "  domains %v\n", f.Domains)
	}
}

func read(t testing.TB, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestPascalAndCamelSayTheSame(t *testing.T) {
	pascal, err := ParseFinding(read(t, findings+"/05-eb-ec2-sshbruteforce-pascal.json"))
	if err != nil {
		t.Fatal(err)
	}
	camel, err := ParseFinding(read(t, findings+"/06-eb-ec2-sshbruteforce-camel.derived.json"))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(pascal, camel) {
		t.Errorf("05 gives\n%+v\n06 gives\n%+v", pascal, camel)
	}
}

// finding wraps the detail of a GuardDuty finding about instance i-0123456789abcdef0 in an event.
func finding(detail string) []byte {
	return []byte(`{"version":"0","id":"e","detail-type":"GuardDuty Finding","source":"aws.guardduty","account":"111122223333",
		"time":"2026-01-02T03:04:05Z","region":"eu-central-1","detail":` + detail + `}`)
}

const instance = `"resource":{"resourceType":"Instance","instanceDetails":{"instanceId":"i-0123456789abcdef0"}}`

func TestSampleFlag(t *testing.T) {
	for name, row := range map[string]struct {
		additionalInfo string
		want           bool
	}{
		"as a member (2017)":                    {`{"sample":true}`, true},
		"inside the value string (GetFindings)": {`{"value":"{\"sample\":true}","type":"default"}`, true},
		"in both (EventBridge 2024)":            {`{"sample":true,"value":"{\"sample\":true}","type":"default"}`, true},
		"said to be none":                       {`{"sample":false,"value":"{\"sample\":false}"}`, false},
		"absent":                                {`{}`, false},
		"value is no JSON":                      {`{"value":"free text, sample true"}`, false},
		"value is JSON about something else":    {`{"value":"[\"sample\"]"}`, false},
		"of another type":                       {`{"sample":"true"}`, false},
	} {
		f, err := ParseFinding(finding(`{"id":"f","type":"T",` + instance + `,"service":{"additionalInfo":` + row.additionalInfo + `}}`))
		if err != nil || f.Sample != row.want {
			t.Errorf("%s: sample %t, error %v; want %t", name, f.Sample, err, row.want)
		}
	}
}

// TestWhatWeDoNotKnowNeverRefuses: a type, field or field type that we have never seen is no reason to miss a capture.
func TestWhatWeDoNotKnowNeverRefuses(t *testing.T) {
	for name, detail := range map[string]string{
		"a type of tomorrow":            `{"id":"f","type":"Exfiltration:EC2/Pigeon.B!v2",` + instance + `}`,
		"fields of tomorrow":            `{"id":"f","type":"T","wings":2,` + instance + `,"service":{"flock":{"size":[1,2]}}}`,
		"a number where a string was":   `{"id":7,"type":"T","region":1,` + instance + `}`,
		"a string where a number was":   `{"id":"f","type":"T","severity":"8.0",` + instance + `}`,
		"an object where a list was":    `{"id":"f","type":"T","resource":{"instanceDetails":{"instanceId":"i-0123456789abcdef0","networkInterfaces":{"a":1}}}}`,
		"null everywhere":               `{"id":null,"type":null,"severity":null,"service":null,` + instance + `}`,
		"interfaces without ids":        `{"id":"f","resource":{"instanceDetails":{"instanceId":"i-0123456789abcdef0","networkInterfaces":[{},{"networkInterfaceId":""},null]}}}`,
		"an interface id that is none":  `{"id":"f",` + instance + `,"service":{"action":{"networkConnectionAction":{"localNetworkInterface":"GeneratedFindingENI"}}}}`,
		"a resource type of tomorrow":   `{"id":"f","resource":{"resourceType":"Submarine","instanceDetails":{"instanceId":"i-0123456789abcdef0"}}}`,
		"an instance in an EKS finding": `{"id":"f","resource":{"resourceType":"EKSCluster","instanceDetails":{"instanceId":"i-0123456789abcdef0"}}}`,
	} {
		f, err := ParseFinding(finding(detail))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(f.Suspects) != 1 || f.Suspects[0].InstanceID != "i-0123456789abcdef0" || f.Suspects[0].NetworkInterfaceID != "" {
			t.Errorf("%s: suspects %+v", name, f.Suspects)
		}
	}
}

func TestRefusals(t *testing.T) {
	for name, row := range map[string]struct {
		event string
		want  RefusalReason
		says  string
	}{
		"empty":                             {"", Malformed, "JSON object"},
		"no JSON":                           {"finding!", Malformed, "JSON object"},
		"an array":                          {"[]", Malformed, "JSON object"},
		"half an event":                     {`{"detail-type":"GuardDuty Finding","detail":{`, Malformed, "JSON object"},
		"no detail":                         {`{"detail-type":"GuardDuty Finding"}`, Malformed, "no detail"},
		"detail is a string":                {`{"detail-type":"GuardDuty Finding","detail":"x"}`, Malformed, "no detail"},
		"an event about something else":     {`{"detail-type":"EC2 Instance State-change Notification","source":"aws.ec2","detail":{}}`, Irrelevant, "aws.ec2"},
		"an object of no known form":        {`{"hello":"world"}`, Irrelevant, "never mean a capture"},
		"an instance without an id":         {string(finding(`{"type":"T","resource":{"resourceType":"Instance","instanceDetails":{"instanceId":""}}}`)), NoSuspect, "names no instance id"},
		"an instance id that is none":       {string(finding(`{"type":"T","resource":{"resourceType":"Instance","instanceDetails":{"instanceId":"i-x"}}}`)), NoSuspect, "names no instance id"},
		"a Lambda function":                 {string(finding(`{"type":"T","resource":{"resourceType":"Lambda"}}`)), NotOnANetwork, "Lambda"},
		"a container":                       {string(finding(`{"type":"T","resource":{"resourceType":"ECSCluster"}}`)), NotOnANetwork, "container instance"},
		"a Fargate task":                    {string(finding(`{"type":"T","resource":{"resourceType":"ECSCluster","ecsClusterDetails":{"taskDetails":{"launchType":"FARGATE"}}},"service":{"action":{"networkConnectionAction":{"localNetworkInterface":"eni-0123456789abcdef0","remoteIpDetails":{"ipAddressV4":"10.0.0.9"}}}}}`)), NotOnANetwork, "an instance that it talks to (the finding names 10.0.0.9)"},
		"a pod of which no address is said": {string(finding(`{"type":"T","resource":{"resourceType":"EKSCluster","eksClusterDetails":{"vpcId":"vpc-1"}}}`)), NotOnANetwork, "the node"},
		"a database":                        {string(finding(`{"type":"CredentialAccess:RDS/AnomalousBehavior.SuccessfulLogin","resource":{"resourceType":"RDSDBInstance"}}`)), NotOnANetwork, "describe-network-interfaces"},
		"a bucket":                          {string(finding(`{"type":"T","resource":{"resourceType":"S3Bucket"}}`)), NotOnANetwork, "S3Bucket"},
		"a sequence over credentials":       {string(finding(`{"type":"T","resource":{"resourceType":"AttackSequence"}}`)), NotOnANetwork, "sequence"},
		"a Security Hub event without any":  {`{"detail-type":"Security Hub Findings - Custom Action","detail":{"findings":[]}}`, NotOnANetwork, "choose a finding"},
		"a Security Hub finding of a user":  {`{"detail-type":"Security Hub Findings - Custom Action","detail":{"findings":[{"Id":"a","Resources":[{"Type":"AwsIamUser","Id":"x"}]}]}}`, NotOnANetwork, "choose a finding"},
		"a Security Hub V2 event of a user": {`{"detail-type":"Findings Imported V2","detail":{"findings":[{"resources":[{"type":"AWS::IAM::User","uid":"x"}]}]}}`, NotOnANetwork, "choose a finding"},
	} {
		_, err := ParseFinding([]byte(row.event))
		var refusal *Refusal
		if !errors.As(err, &refusal) || refusal.Reason != row.want || !strings.Contains(refusal.Error(), row.says) || refusal.Remedy == "" {
			t.Errorf("%s: %v; want %s that says %q and a remedy", name, err, row.want, row.says)
		}
	}
}

// TestTraffic: what a finding's action says about packets.
func TestTraffic(t *testing.T) {
	for name, row := range map[string]struct {
		service string
		want    []Traffic
		domains []string
	}{
		"no action": {`{}`, nil, nil},
		"a connection of both families": {`{"action":{"networkConnectionAction":{"connectionDirection":"OUTBOUND","protocol":"TCP","localPortDetails":{"port":40000},"remotePortDetails":{"port":443},
			"localIpDetails":{"ipAddressV4":"10.0.0.1","ipAddressV6":"2001:db8::1"},"remoteIpDetails":{"ipAddressV4":"203.0.113.7","ipAddressV6":"2001:db8::7"}}}}`,
			[]Traffic{{6, Outbound, "10.0.0.1", 40000, "203.0.113.7", 443, false}, {6, Outbound, "2001:db8::1", 40000, "2001:db8::7", 443, false}}, nil},
		"a direction that is not known, of a target": {`{"resourceRole":"TARGET","action":{"networkConnectionAction":{"connectionDirection":"UNKNOWN","protocol":"17","remoteIpDetails":{"ipAddressV4":"203.0.113.7"}}}}`,
			[]Traffic{{Protocol: 17, Direction: Inbound, RemoteAddress: "203.0.113.7"}}, nil},
		"a direction that is not known, of an actor": {`{"resourceRole":"ACTOR","action":{"networkConnectionAction":{"protocol":"ICMP","remoteIpDetails":{"ipAddressV4":"203.0.113.7"}}}}`,
			[]Traffic{{Protocol: 1, Direction: Outbound, RemoteAddress: "203.0.113.7"}}, nil},
		"a direction that nobody knows": {`{"action":{"networkConnectionAction":{"protocol":"SCTP?","remoteIpDetails":{"ipAddressV4":"203.0.113.7"}}}}`, []Traffic{{RemoteAddress: "203.0.113.7"}}, nil},
		"a direction wins over a role":  {`{"resourceRole":"TARGET","action":{"networkConnectionAction":{"connectionDirection":"OUTBOUND","remotePortDetails":{"port":80}}}}`, []Traffic{{Direction: Outbound, RemotePort: 80}}, nil},
		"ports that can't be": {`{"action":{"networkConnectionAction":{"localPortDetails":{"port":70000},"remotePortDetails":{"port":-1},"remoteIpDetails":{"ipAddressV4":"203.0.113.7"}}}}`,
			[]Traffic{{RemoteAddress: "203.0.113.7"}}, nil},
		"an interface and nothing else": {`{"action":{"networkConnectionAction":{"localNetworkInterface":"eni-0123456789abcdef0","protocol":"TCP"}}}`, nil, nil},
		"probes": {`{"action":{"portProbeAction":{"portProbeDetails":[{"localPortDetails":{"port":80},"remoteIpDetails":{"ipAddressV4":"203.0.113.7"}},{"localPortDetails":{"port":22},"localIpDetails":{"ipAddressV4":"10.0.0.1"}},
			{"localPortDetails":{"port":80},"remoteIpDetails":{"ipAddressV4":"203.0.113.7"}}]}}}`,
			[]Traffic{{Direction: Inbound, LocalPort: 80, RemoteAddress: "203.0.113.7"}, {Direction: Inbound, LocalPort: 22, LocalAddress: "10.0.0.1"}}, nil},
		"a lookup": {`{"action":{"dnsRequestAction":{"domain":"a.example.com","domainWithSuffix":"example.com","protocol":"UDP"}}}`,
			[]Traffic{{Protocol: 17, Direction: Outbound, DNS: true}}, []string{"a.example.com", "example.com"}},
		"a sequence's endpoints": {`{"detection":{"sequence":{"endpoints":[{"ip":"203.0.113.7","port":4444,"connection":{"direction":"OUTBOUND"}},{"domain":"example.com"}]}}}`,
			[]Traffic{{Direction: Outbound, RemoteAddress: "203.0.113.7", RemotePort: 4444}}, []string{"example.com"}},
	} {
		f, err := ParseFinding(finding(`{"id":"f","type":"T",` + instance + `,"service":` + row.service + `}`))
		if err != nil || !reflect.DeepEqual(f.Traffic, row.want) || !reflect.DeepEqual(f.Domains, row.domains) {
			t.Errorf("%s: %+v %q, %v; want %+v %q", name, f.Traffic, f.Domains, err, row.want, row.domains)
		}
	}
}

// TestSuspectWithoutAnInstance: containers' findings may name none.
func TestSuspectWithoutAnInstance(t *testing.T) {
	for name, row := range map[string]struct {
		detail string
		want   Suspect
	}{
		"a pod's address in the cluster's VPC": {`{"resource":{"resourceType":"EKSCluster","eksClusterDetails":{"vpcId":"vpc-0a"}},"service":{"action":{"networkConnectionAction":{"localIpDetails":{"ipAddressV4":"10.0.3.4"},"remoteIpDetails":{"ipAddressV4":"203.0.113.7"}}}}}`,
			Suspect{LocalAddresses: []string{"10.0.3.4"}, VPC: "vpc-0a"}},
		"a task's interface": {`{"resource":{"resourceType":"ECSCluster","ecsClusterDetails":{"taskDetails":{"launchType":"EC2"}}},"service":{"action":{"networkConnectionAction":{"localNetworkInterface":"eni-0123456789abcdef0"}}}}`,
			Suspect{NetworkInterfaceID: "eni-0123456789abcdef0"}},
		"the VPC of the interface that the action names": {`{"resource":{"resourceType":"Instance","instanceDetails":{"instanceId":"i-0123456789abcdef0","networkInterfaces":[{"networkInterfaceId":"eni-0123456789abcdef0","vpcId":"vpc-0a"},{"networkInterfaceId":"eni-0123456789abcdef1","vpcId":"vpc-0b"}]}},
			"service":{"action":{"networkConnectionAction":{"localNetworkInterface":"eni-0123456789abcdef1"}}}}`,
			Suspect{InstanceID: "i-0123456789abcdef0", NetworkInterfaceID: "eni-0123456789abcdef1", Interfaces: []string{"eni-0123456789abcdef0", "eni-0123456789abcdef1"}, VPC: "vpc-0b"}},
	} {
		f, err := ParseFinding(finding(row.detail))
		if err != nil || len(f.Suspects) != 1 || !reflect.DeepEqual(f.Suspects[0], row.want) {
			t.Errorf("%s: %+v, %v; want %+v", name, f.Suspects, err, row.want)
		}
	}
}

func TestAttackSequence(t *testing.T) {
	sequence := func(resources string) []byte {
		return finding(`{"id":"f","accountId":"111122223333","region":"eu-central-1","type":"AttackSequence:EC2/CompromisedInstanceGroup",
			"resource":{"resourceType":"AttackSequence"},"service":{"detection":{"sequence":{"resources":[` + resources + `]}}}}`)
	}
	for name, row := range map[string]struct {
		resources string
		want      []Suspect
	}{
		"uid is a bare id": {`{"uid":"i-0123456789abcdef0","resourceType":"EC2_INSTANCE"}`,
			[]Suspect{{InstanceID: "i-0123456789abcdef0"}}},
		"uid is an ARN": {`{"uid":"arn:aws:ec2:eu-central-1:111122223333:instance/i-0123456789abcdef0","resourceType":"EC2_INSTANCE"}`,
			[]Suspect{{InstanceID: "i-0123456789abcdef0"}}},
		"only the name tells the id": {`{"uid":"resource-7","name":"i-0123456789abcdef0","resourceType":"EC2_INSTANCE"}`,
			[]Suspect{{InstanceID: "i-0123456789abcdef0"}}},
		"an interface of a listed instance is that instance's": {
			`{"uid":"eni-0123456789abcdef0","resourceType":"EC2_NETWORK_INTERFACE","data":{"ec2NetworkInterface":{"privateIpAddresses":[{"privateIpAddress":"10.0.0.1"}],"ipv6Addresses":["2001:db8::1"]}}},
			 {"uid":"i-0123456789abcdef0","resourceType":"EC2_INSTANCE","data":{"ec2Instance":{"instanceType":"m5.large","ec2NetworkInterfaceUids":["eni-0123456789abcdef0"]}}}`,
			[]Suspect{{InstanceID: "i-0123456789abcdef0", InstanceType: "m5.large", Interfaces: []string{"eni-0123456789abcdef0"}, Addresses: []string{"10.0.0.1", "2001:db8::1"}}}},
		"an interface of nobody's is a suspect of its own": {`{"uid":"eni-0123456789abcdef0","resourceType":"EC2_NETWORK_INTERFACE","accountId":"444455556666","region":"eu-west-1"}`,
			[]Suspect{{NetworkInterfaceID: "eni-0123456789abcdef0", Interfaces: []string{"eni-0123456789abcdef0"}, Account: "444455556666", Region: "eu-west-1"}}},
		"several instances": {`{"uid":"i-00000001","resourceType":"EC2_INSTANCE"},{"uid":"bucket","resourceType":"S3_BUCKET"},{"uid":"i-00000002","resourceType":"EC2_INSTANCE"}`,
			[]Suspect{{InstanceID: "i-00000001"}, {InstanceID: "i-00000002"}}},
	} {
		f, err := ParseFinding(sequence(row.resources))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !reflect.DeepEqual(f.Suspects, row.want) {
			t.Errorf("%s: %+v, want %+v", name, f.Suspects, row.want)
		}
	}
}

// FuzzParseFinding: whatever arrives, the answer is a finding with ids that can be ids, or a refusal.
func FuzzParseFinding(f *testing.F) {
	files, err := filepath.Glob(findings + "/*.json")
	if err != nil || len(files) == 0 {
		f.Fatal("no events to start from", err)
	}
	for _, file := range files {
		f.Add(read(f, file))
	}
	f.Fuzz(func(t *testing.T, event []byte) {
		finding, err := ParseFinding(event)
		var refusal *Refusal
		if err != nil {
			if !errors.As(err, &refusal) || refusal.Reason == "" || refusal.Detail == "" {
				t.Fatalf("error that is no refusal: %v", err)
			}
			return
		}
		if len(finding.Suspects) == 0 {
			t.Fatal("a finding without a suspect is not refused")
		}
		for _, s := range finding.Suspects {
			if s.InstanceID == "" && s.NetworkInterfaceID == "" && !s.byAddress() {
				t.Errorf("suspect %+v can't be found", s)
			}
			if s.InstanceID != "" && !IsInstanceID(s.InstanceID) || s.NetworkInterfaceID != "" && !IsNetworkInterfaceID(s.NetworkInterfaceID) {
				t.Errorf("suspect %+v has an id that can't be one", s)
			}
			for _, id := range s.Interfaces {
				if !IsNetworkInterfaceID(id) {
					t.Errorf("interface %q is no id", id)
				}
			}
		}
		for _, c := range finding.Traffic {
			if c.Protocol < 0 || c.Protocol > 255 || c.LocalPort < 0 || c.LocalPort > 65535 || c.RemotePort < 0 || c.RemotePort > 65535 ||
				c.Direction != "" && c.Direction != Inbound && c.Direction != Outbound {
				t.Errorf("traffic %+v that can't be", c)
			}
		}
		if err := finding.Options.Validate(); err != nil {
			t.Errorf("options of an accepted event: %v", err)
		}
		if _, err := json.Marshal(finding); err != nil {
			t.Errorf("finding can't be written: %v", err)
		}
	})
}
func TestOwner(t *testing.T) {
	const ours, here = "111122223333", "eu-central-1"
	for name, row := range map[string]struct {
		f      Finding
		own    int
		reason RefusalReason
	}{
		"ours":                                {Finding{Account: ours, Region: here, Suspects: []Suspect{{}}}, 1, ""},
		"nobody's by name":                    {Finding{Suspects: []Suspect{{}}}, 1, ""},
		"a member's":                          {Finding{Account: "444455556666", Region: here, Suspects: []Suspect{{}}}, 0, ForeignAccount},
		"of another Region":                   {Finding{Account: ours, Region: "us-east-1", Suspects: []Suspect{{}}}, 0, ForeignRegion},
		"one suspect is a member's":           {Finding{Account: ours, Region: here, Suspects: []Suspect{{}, {Account: "444455556666"}}}, 1, ForeignAccount},
		"the suspect is ours, the finding no": {Finding{Account: "444455556666", Region: here, Suspects: []Suspect{{Account: ours, Region: here}}}, 1, ForeignAccount},
	} {
		if own := row.f.OwnSuspects(ours, here); len(own) != row.own {
			t.Errorf("%s: %d suspects are ours, want %d", name, len(own), row.own)
		}
		err := row.f.CheckOwner(ours, here)
		var refusal *Refusal
		if row.reason == "" && err != nil || row.reason != "" && (!errors.As(err, &refusal) || refusal.Reason != row.reason) {
			t.Errorf("%s: %v, want %q", name, err, row.reason)
		}
	}
}
