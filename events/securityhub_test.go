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
