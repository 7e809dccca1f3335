package authorization_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"flashtap/infra/policy"
	"flashtap/testutil/authorization"
)

// TestTemplates: what is read from templates is what was written into them.
func TestTemplates(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"evidence": `{
		 "Resources": {
		  "Key": {"Type": "AWS::KMS::Key", "Properties": {"KeyPolicy": {"Version": "2012-10-17", "Statement": [
		   {"Sid": "Use", "Effect": "Allow", "Principal": {"AWS": {"Fn::Join": ["", ["arn:", {"Ref": "AWS::Partition"}, ":iam::", {"Ref": "AWS::AccountId"}, ":root"]]}},
		    "Action": ["kms:Decrypt"], "Resource": "*", "Condition": {"Bool": {"aws:SecureTransport": true}}}]}}},
		  "Bucket": {"Type": "AWS::S3::Bucket"}},
		 "Outputs": {"Bucket": {"Value": {"Fn::GetAtt": ["Bucket", "Arn"]}, "Export": {"Name": {"Fn::Sub": "${AWS::StackName}-bucket"}}}}}`,
		"control": `{
		 "Parameters": {"Given": {"Type": "String", "Default": "given"}},
		 "Resources": {
		  "Role": {"Type": "AWS::IAM::Role", "Properties": {
		   "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}},
		   "Policies": [{"PolicyName": "own", "PolicyDocument": {"Version": "2012-10-17", "Statement": [
		    {"Effect": "Allow", "Action": "s3:GetObject", "Resource": {"Fn::Join": ["/", [{"Fn::ImportValue": "evidence-bucket"}, "${aws:userid}", {"Ref": "Given"}]]}},
		    {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": [{"Fn::GetAtt": "Queue.Arn"}, {"Fn::Select": [1, {"Fn::Split": ["|", "a|b"]}]}]}]}}]}},
		  "Queue": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": {"Fn::Sub": "q-${Given}-${AWS::Region}"}}}}}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name+".template.json"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	templates, err := authorization.ReadTemplates(dir)
	if err != nil {
		t.Fatal(err)
	}
	s := authorization.Example()
	list, err := templates.Policies(s)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	documents := map[string]policy.Document{}
	for _, n := range list {
		got = append(got, n.Name)
		documents[n.Name] = n.Document
	}
	if want := []string{"control Role trust", "control Role own", "evidence Key"}; !reflect.DeepEqual(got, want) {
		t.Fatalf("found %q", got)
	}
	own := documents["control Role own"]
	if want := []string{"arn:aws:s3:::evidence-bucket-1a2b3c4d5e6f/${aws:userid}/given"}; !reflect.DeepEqual(own.Statement[0].Resource, want) {
		t.Errorf("%v", own.Statement[0])
	}
	if want := []string{"arn:aws:sqs:eu-central-1:111122223333:q-given-eu-central-1", "b"}; !reflect.DeepEqual(own.Statement[1].Resource, want) {
		t.Errorf("%v", own.Statement[1])
	}
	key := documents["evidence Key"].Statement[0]
	if !reflect.DeepEqual(key.Principal, map[string][]string{"AWS": {"arn:aws:iam::111122223333:root"}}) || key.Condition["Bool"]["aws:SecureTransport"][0] != "true" {
		t.Errorf("%v", key)
	}
	if list[2].Options.Kind != authorization.Resource || !strings.Contains(list[2].Options.Self, ":key/") {
		t.Errorf("%+v", list[2].Options)
	}
}

// TestDocumentsSurviveATemplate: every document is the same after it was text.
func TestDocumentsSurviveATemplate(t *testing.T) {
	for _, n := range authorization.Documents(authorization.Example()) {
		m, err := n.Document.Map()
		if err != nil {
			t.Fatal(err)
		}
		back, err := authorization.Parse(m)
		if err != nil {
			t.Errorf("%s: %v", n.Name, err)
			continue
		}
		want, _ := json.Marshal(n.Document)
		if got, _ := json.Marshal(back); string(got) != string(want) {
			t.Errorf("%s: %s, want %s", n.Name, got, want)
		}
	}
}

// TestTemplatesRefused: what is not understood is an error, or it would pass unseen.
func TestTemplatesRefused(t *testing.T) {
	for name, row := range map[string]struct{ template, says string }{
		"a managed policy":    {`{"Role": {"Type": "AWS::IAM::Role", "Properties": {"ManagedPolicyArns": ["arn:aws:iam::aws:policy/AdministratorAccess"]}}}`, "AdministratorAccess"},
		"an unknown function": {`{"P": {"Type": "AWS::IAM::Policy", "Properties": {"PolicyDocument": {"Fn::Transform": {}}}}}`, "Fn::Transform"},
		"an unknown resource": {`{"P": {"Type": "AWS::IAM::Policy", "Properties": {"PolicyDocument": {"Statement": [{"Resource": {"Fn::GetAtt": ["X", "Arn"]}}]}}}}`, "no X"},
		"an unknown ARN":      {`{"X": {"Type": "AWS::EC2::VPC"}, "P": {"Type": "AWS::IAM::Policy", "Properties": {"PolicyDocument": {"Statement": [{"Resource": {"Fn::GetAtt": ["X", "Arn"]}}]}}}}`, "AWS::EC2::VPC"},
		"an unknown import":   {`{"P": {"Type": "AWS::IAM::Policy", "Properties": {"PolicyDocument": {"Statement": [{"Resource": {"Fn::ImportValue": "x"}}]}}}}`, "exports x"},
		"everything but":      {`{"P": {"Type": "AWS::IAM::Policy", "Properties": {"PolicyDocument": {"Statement": [{"NotAction": "iam:*"}]}}}}`, "NotAction"},
		"a number":            {`{"P": {"Type": "AWS::IAM::Policy", "Properties": {"PolicyDocument": {"Statement": [{"Action": 7}]}}}}`, "no text"},
	} {
		var resources map[string]any
		if err := json.Unmarshal([]byte(row.template), &resources); err != nil {
			t.Fatal(err)
		}
		_, err := authorization.Templates{"stack": {"Resources": resources}}.Policies(authorization.Example())
		if err == nil || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
