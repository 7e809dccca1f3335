package plan

import (
	"net/url"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// TestEndpointPolicy: the collector puts evidence into bucket "evidence" under captures/ and reads its program.
func TestEndpointPolicy(t *testing.T) {
	allow := func(rest string) string { return `{"Statement":[{"Effect":"Allow","Principal":"*",` + rest + `}]}` }
	const everything = `{"Effect":"Allow","Action":"*","Resource":"*"}`
	for name, row := range map[string]struct {
		policy string
		admits bool
	}{
		"none: AWS's default":                        {"", true},
		"everything":                                 {allow(`"Action":"*","Resource":"*"`), true},
		"everything of S3, in lists":                 {allow(`"Action":["s3:*"],"Resource":["*"]`), true},
		"one statement that is no list":              {`{"Statement":` + everything + `}`, true},
		"escaped, as some APIs answer":               {url.QueryEscape(allow(`"Action":"*","Resource":"*"`)), true},
		"the bucket by name":                         {allow(`"Action":["s3:PutObject","s3:GetObject"],"Resource":["arn:aws:s3:::other","arn:aws:s3:::evidence/*"]`), true},
		"the bucket by a pattern in the middle":      {allow(`"Action":"s3:*","Resource":"arn:aws:s3:::evi*/*"`), true},
		"the bucket by a pattern of one character":   {allow(`"Action":"s3:*","Resource":"arn:aws:s3:::evidenc?/*"`), true},
		"the two folders by name":                    {allow(`"Action":"s3:*Object","Resource":["arn:aws:s3:::evidence/captures/*","arn:aws:s3:::evidence/tools/*"]`), true},
		"actions in another case":                    {allow(`"Action":"S3:putobject*","Resource":"*"},{"Effect":"Allow","Action":"s3:get*","Resource":"*"`), true},
		"under a condition that may hold":            {allow(`"Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:PrincipalAccount":"111122223333"}}`), true},
		"all but another bucket":                     {allow(`"Action":"*","NotResource":"arn:aws:s3:::other/*"`), true},
		"all but deleting":                           {allow(`"NotAction":"s3:Delete*","Resource":"*"`), true},
		"another bucket":                             {allow(`"Action":"s3:*","Resource":"arn:aws:s3:::other/*"`), false},
		"a bucket whose name ours begins with":       {allow(`"Action":"s3:*","Resource":"arn:aws:s3:::evidenc/*"`), false},
		"the bucket, not its objects":                {allow(`"Action":"s3:*","Resource":"arn:aws:s3:::evidence"`), false},
		"reading alone":                              {allow(`"Action":"s3:GetObject","Resource":"*"`), false},
		"writing alone: the program can't be read":   {allow(`"Action":"s3:PutObject","Resource":"*"`), false},
		"evidence alone: the program can't be read":  {allow(`"Action":"s3:*","Resource":"arn:aws:s3:::evidence/captures/*"`), false},
		"all but ours":                               {allow(`"Action":"*","NotResource":"arn:aws:s3:::evidence/*"`), false},
		"all but writing":                            {allow(`"NotAction":"s3:Put*","Resource":"*"`), false},
		"nothing":                                    {`{"Statement":[]}`, false},
		"denied after all":                           {`{"Statement":[` + everything + `,{"Effect":"Deny","Action":"s3:Put*","Resource":"arn:aws:s3:::evidence/*"}]}`, false},
		"denied all but another bucket":              {`{"Statement":[` + everything + `,{"Effect":"Deny","Action":"*","NotResource":["arn:aws:s3:::other","arn:aws:s3:::other/*"]}]}`, false},
		"denied all but ours":                        {`{"Statement":[` + everything + `,{"Effect":"Deny","Action":"*","NotResource":["arn:aws:s3:::evidence","arn:aws:s3:::evidence/*"]}]}`, true},
		"denied under a condition that may not hold": {`{"Statement":[` + everything + `,{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"false"}}}]}`, true},
		"denied another bucket":                      {`{"Statement":[` + everything + `,{"Effect":"Deny","Action":"*","Resource":"arn:aws:s3:::other/*"}]}`, true},
		"no JSON":                                    {"allow everything, please", false},
	} {
		f := good()
		if row.policy != "" {
			f.Endpoints[0].PolicyDocument = aws.String(row.policy)
		}
		p := Decide(f)
		if got := p.Collector.S3Path == "vpce-1"; got != row.admits {
			t.Errorf("%s: admits %t, want %t: %s", name, got, row.admits, verdict(p, "placement").Reason)
		}
		if v := verdict(p, "placement"); !row.admits && !strings.Contains(v.Reason, "vpce-1") {
			t.Errorf("%s: %q does not name the endpoint", name, v.Reason)
		}
	}
}

// TestEndpointPolicyOfAnotherPartition: the policy that the remedy asks for is one that admits.
func TestEndpointPolicyOfAnotherPartition(t *testing.T) {
	for _, partition := range []string{"aws-us-gov", "aws-cn"} {
		f := good()
		f.Settings.InstanceProfileARN = "arn:" + partition + ":iam::111122223333:instance-profile/collector"
		bucket := "arn:" + partition + ":s3:::evidence"
		f.Endpoints[0].PolicyDocument = aws.String(`{"Statement":[]}`)
		if v := verdict(Decide(f), "placement"); !strings.Contains(v.Remedy, "s3:PutObject on "+bucket+"/captures/* and s3:GetObject on "+bucket+"/tools/*") {
			t.Errorf("%s: %q", partition, v.Remedy)
		}
		f.Endpoints[0].PolicyDocument = aws.String(`{"Statement":[{"Effect":"Allow","Action":"s3:PutObject","Resource":"` + bucket + `/captures/*"},
			{"Effect":"Allow","Action":"s3:GetObject","Resource":"` + bucket + `/tools/*"}]}`)
		if p := Decide(f); p.Collector.S3Path != "vpce-1" {
			t.Errorf("%s: with the remedy: %s", partition, verdict(p, "placement").Reason)
		}
	}
}

func TestMatches(t *testing.T) {
	for _, row := range []struct {
		pattern, name string
		want          bool
	}{
		{"", "", true}, {"", "a", false}, {"*", "", true}, {"*", "abc", true}, {"abc", "abc", true}, {"abc", "abcd", false}, {"abc", "ab", false},
		{"a*", "abc", true}, {"*c", "abc", true}, {"*b", "abc", false}, {"a*c", "ac", true}, {"a*c", "abcbc", true}, {"a*b*c", "aXbYc", true},
		{"a*b*c", "acb", false}, {"a*bc*bc", "abc", false}, {"?bc", "abc", true}, {"?", "", false}, {"a?*", "a", false}, {"a?*", "ab", true},
		{"*?", "a", true}, {"**", "a", true}, {"*ab", "aab", true}, {"a*a", "a", false},
		{strings.Repeat("*a", 40) + "b", strings.Repeat("a", 200), false}, // and soon
	} {
		if got := matches(row.pattern, row.name); got != row.want {
			t.Errorf("%q covers %q: %t", row.pattern, row.name, got)
		}
	}
}

func TestEndpointOfAnotherService(t *testing.T) {
	f := good()
	f.Endpoints = nil
	if p := Decide(f); p.Go {
		t.Error("a route to an endpoint that is not S3's is taken for a way to S3")
	}
}
