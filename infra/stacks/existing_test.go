package stacks_test

import (
	"reflect"
	"strings"
	"testing"

	"flashtap/infra/policy"
	"flashtap/testutil/authorization"
)

// TestExistingBucketKeyAndTopic are used and left alone, and so is whatever was not asked for.
func TestExistingBucketKeyAndTopic(t *testing.T) {
	for kind, want := range map[string]int{
		"AWS::S3::Bucket": 0, "AWS::S3::BucketPolicy": 0, "AWS::KMS::Key": 1, "AWS::KMS::Alias": 1, "AWS::SNS::Topic": 0, "AWS::SNS::TopicPolicy": 0,
		"AWS::CloudTrail::Trail": 0, "Custom::FlashtapAction": 0,
	} {
		if got := len(central.resources(t, kind)); got != want {
			t.Errorf("%d of %s are made, want %d", got, kind, want)
		}
	}
	if bucket := central.environment(t, "seal")["FLASHTAP_BUCKET"]; bucket != central.config.EvidenceBucket {
		t.Errorf("evidence goes to %s", bucket)
	}
	if topic := at(central.one(t, "AWS::Events::Rule", "AlertsRule").Properties, "Targets", 0, "Arn"); topic != central.config.AlertTopic {
		t.Errorf("alerts go to %v", topic)
	}
	for _, r := range central.resources(t, "AWS::Events::Rule") {
		if strings.Contains(r.ID, "Securityhub") {
			t.Error("a rule waits for an action that is not there")
		}
	}
	for _, r := range central.resources(t, "AWS::IAM::Role") {
		if r.Properties["PermissionsBoundary"] != central.config.PermissionsBoundary {
			t.Errorf("%s has the boundary %v", r.ID, r.Properties["PermissionsBoundary"])
		}
	}

	place := central.place(t)
	if place.BucketKeyARN != central.config.EvidenceKey {
		t.Errorf("the key is %s", place.BucketKeyARN)
	}
	scope := central.config.Scope(place)
	documents, err := central.Policies(scope)
	if err != nil {
		t.Fatal(err)
	}
	for _, role := range policy.Roles() {
		for _, d := range documents {
			if strings.HasSuffix(d.Name, " "+strings.ToUpper(role.Name[:1])+role.Name[1:]+"Role "+role.Name) && !reflect.DeepEqual(plainly(t, d.Document), plainly(t, role.Policy(scope))) {
				t.Errorf("%s: %v", d.Name, plainly(t, d.Document))
			}
		}
	}
	data, err := authorization.Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range documents {
		for _, f := range data.Check(d.Document, d.Options) {
			t.Error(d.String(f))
		}
	}
}
