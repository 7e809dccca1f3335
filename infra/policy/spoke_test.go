package policy

import (
	"slices"
	"strings"
	"testing"
)

// TestSpokeRoles: a central account gets to see and to ask, and to change nothing.
func TestSpokeRoles(t *testing.T) {
	s := Scope{
		Partition: "aws", Region: "eu-central-1", Account: "111122223333", Deployment: "test", Prefix: "flashtap-test",
		BucketARN: "arn:aws:s3:::evidence", BucketKeyARN: "arn:aws:kms:eu-central-1:111122223333:key/1",
	}
	reads := []string{"s3:GetObject", "s3:GetObjectVersion", "s3:ListBucket", "kms:Decrypt", "states:ListExecutions", "states:DescribeExecution", "states:GetExecutionHistory"}
	const asks = "events:PutEvents"
	for _, r := range SpokeRoles() {
		for _, st := range r.Policy(s).Statement {
			for _, action := range st.Action {
				if !slices.Contains(reads, action) && action != asks {
					t.Errorf("%s may %s", r.Name, action)
				}
				if action == asks && (st.Condition["ForAllValues:StringEquals"]["events:source"] == nil || st.Condition["ForAllValues:StringEquals"]["events:detail-type"] == nil) {
					t.Errorf("%s may put any event", r.Name)
				}
			}
			if slices.Contains(st.Resource, "*") || st.Effect != Allow {
				t.Errorf("%s: %+v", r.Name, st)
			}
		}
		if name := s.SpokeRoleName(r.Name); len(strings.Replace(s.SpokeRoleName(r.Name), "test", strings.Repeat("x", 20), 1))+len("ap-southeast-1")-len(s.Region) > 64 {
			t.Errorf("%s may become longer than 64 characters", name)
		}
	}
	trust := SpokeTrust(s, "444455556666").Statement
	if len(trust) != 1 || !slices.Equal(trust[0].Principal["AWS"], []string{"arn:aws:iam::444455556666:root"}) ||
		!slices.Equal(trust[0].Condition["StringEquals"]["sts:ExternalId"], []string{"flashtap-test"}) {
		t.Errorf("%+v", trust)
	}
}
