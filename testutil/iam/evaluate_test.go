package iam

import (
	"strings"
	"testing"
)

// me is who asks in the tables.
var me = Principal{
	ARN:     "arn:aws:iam::123456789012:role/collector",
	Session: "arn:aws:sts::123456789012:assumed-role/collector/i-0123456789abcdef0",
	Account: "123456789012",
}

const (
	bucketARN = "arn:aws:s3:::evidence"
	objectARN = bucketARN + "/captures/one/segment.pcap"
	targetARN = "arn:aws:ec2:us-east-1:123456789012:traffic-mirror-target/tmt-1"
	keyARN    = "arn:aws:kms:us-east-1:123456789012:key/1234"
)

// row is a request, the policies that have a say in it, and what IAM decides; named by the reason.
type row struct {
	name     string
	identity []string // documents, or the inside of one statement
	boundary string
	resource string
	action   string // default s3:PutObject on the object
	on       string
	context  Context
	by       Principal // default me
	want     Decision
	says     string // a part of the result's text
	oracle   string // why the other simulator is not asked; "" when it is
}

// document makes a document of the inside of a statement, such as "Effect": "Allow", ...
func document(text string) string {
	if strings.HasPrefix(text, "{") {
		return text
	}
	return `{"Version": "2012-10-17", "Statement": {` + text + `}}`
}

const (
	mayPut  = `"Sid": "Put", "Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::evidence/*"`
	mayAll  = `"Effect": "Allow", "Action": "*", "Resource": "*"`
	mustNot = `"Sid": "No", "Effect": "Deny", "Action": "s3:*", "Resource": "*"`
)

// when is a statement that allows to put under a condition.
func when(condition string) []string { return []string{mayPut + `, "Condition": {` + condition + `}`} }

var rows = []row{
	{name: "nothing is allowed by itself", want: ImplicitDeny, says: "no statement speaks"},
	{name: "a statement allows", identity: []string{mayPut}, want: Allowed, says: "/Put"},
	{name: "a denial overrides every allowance", identity: []string{mayPut, mustNot}, want: ExplicitDeny, says: "/No"},
	{name: "the resource policy's denial overrides the identity's allowance", identity: []string{mayAll},
		resource: `"Sid": "Closed", "Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::evidence/*"`, want: ExplicitDeny, says: "resource/Closed"},
	{name: "within an account the resource policy may allow alone",
		resource: `"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::123456789012:role/collector"}, "Action": "s3:PutObject", "Resource": "arn:aws:s3:::evidence/*"`, want: Allowed},
	{name: "a resource policy that lets the account leaves it to the identity's policies",
		resource: `"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::123456789012:root"}, "Action": "s3:PutObject", "Resource": "arn:aws:s3:::evidence/*"`, want: ImplicitDeny},
	{name: "a resource policy for another role is not ours",
		resource: `"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::123456789012:role/other"}, "Action": "s3:PutObject", "Resource": "arn:aws:s3:::evidence/*"`, want: ImplicitDeny},
	{name: "a boundary that is silent denies", identity: []string{mayAll}, boundary: `"Effect": "Allow", "Action": "ec2:*", "Resource": "*"`, want: ImplicitDeny, says: "boundary"},
	{name: "a boundary alone allows nothing", boundary: mayAll, want: ImplicitDeny},
	{name: "boundary and identity allow", identity: []string{mayPut}, boundary: mayAll, want: Allowed},
	{name: "a boundary's denial", identity: []string{mayAll}, boundary: mustNot, want: ExplicitDeny},

	{name: "actions have no case", identity: []string{`"Effect": "Allow", "Action": "S3:putobject", "Resource": "*"`}, want: Allowed},
	{name: "a star in an action", identity: []string{`"Effect": "Allow", "Action": "s3:Put*", "Resource": "*"`}, want: Allowed},
	{name: "a question mark in an action is one letter", identity: []string{`"Effect": "Allow", "Action": "s3:PutObjec?", "Resource": "*"`}, want: Allowed},
	{name: "another action", identity: []string{`"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObjectAcl"], "Resource": "*"`}, want: ImplicitDeny},
	{name: "NotAction leaves out", identity: []string{`"Effect": "Allow", "NotAction": "s3:Put*", "Resource": "*"`}, want: ImplicitDeny},
	{name: "NotAction lets the rest", identity: []string{`"Effect": "Allow", "NotAction": "s3:Get*", "Resource": "*"`}, want: Allowed},

	{name: "another bucket", identity: []string{`"Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::evidence-2/*"`}, want: ImplicitDeny},
	{name: "a resource is the whole of it", identity: []string{`"Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::evidence/captures"`}, want: ImplicitDeny},
	{name: "resources have case", identity: []string{`"Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::evidence/Captures/*"`}, want: ImplicitDeny},
	{name: "a star spans folders", identity: []string{`"Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::evidence/captures/*.pcap"`}, want: Allowed},
	{name: "a star does not span parts of an ARN", identity: []string{`"Effect": "Allow", "Action": "ec2:DeleteTrafficMirrorTarget", "Resource": "arn:aws:ec2:*:traffic-mirror-target/tmt-1"`},
		action: "ec2:DeleteTrafficMirrorTarget", on: targetARN, want: ImplicitDeny},
	{name: "another Region", identity: []string{`"Effect": "Allow", "Action": "ec2:DeleteTrafficMirrorTarget", "Resource": "arn:aws:ec2:eu-north-1:123456789012:traffic-mirror-target/*"`},
		action: "ec2:DeleteTrafficMirrorTarget", on: targetARN, want: ImplicitDeny},
	{name: "NotResource leaves out", identity: []string{`"Effect": "Allow", "Action": "s3:PutObject", "NotResource": "arn:aws:s3:::evidence/*"`}, want: ImplicitDeny},
	{name: "NotResource lets the rest", identity: []string{`"Effect": "Allow", "Action": "s3:PutObject", "NotResource": "arn:aws:s3:::other/*"`}, want: Allowed},
	{name: "an action without resources wants the star", identity: []string{`"Effect": "Allow", "Action": "ec2:DescribeInstances", "Resource": "arn:aws:ec2:*:*:*"`},
		action: "ec2:DescribeInstances", on: "*", want: ImplicitDeny},
	{name: "an action without resources has the star", identity: []string{`"Effect": "Allow", "Action": "ec2:Describe*", "Resource": "*"`}, action: "ec2:DescribeInstances", on: "*", want: Allowed},

	{name: "a variable in a resource", identity: []string{`"Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::evidence/${aws:userid}/*"`},
		on: bucketARN + "/AROA1:i-1/a", context: Context{"aws:userid": {"AROA1:i-1"}}, want: Allowed},
	{name: "a variable stands for itself only", identity: []string{`"Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::evidence/${aws:userid}/*"`},
		on: bucketARN + "/AROA1:i-2/a", context: Context{"aws:userid": {"AROA1:i-1"}}, want: ImplicitDeny},
	{name: "a star in a variable's value is a letter", identity: []string{`"Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::evidence/${aws:PrincipalTag/team}/*"`},
		on: bucketARN + "/other/a", context: Context{"aws:PrincipalTag/team": {"*"}}, want: ImplicitDeny, oracle: "takes it for a wildcard"},
	{name: "a variable without a value matches nothing", identity: []string{`"Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::evidence/${aws:PrincipalTag/team}*"`}, want: ImplicitDeny},
	{name: "a variable's default", identity: []string{`"Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::evidence/${aws:PrincipalTag/team, 'captures'}/*"`}, want: Allowed},
	{name: "a star that is meant literally", identity: []string{`"Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::evidence/${*}/*"`}, want: ImplicitDeny},
	{name: "the old version of the language has no variables", identity: []string{`{"Version": "2008-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::evidence/${aws:userid}/*"}]}`},
		on: bucketARN + "/AROA1:i-1/a", context: Context{"aws:userid": {"AROA1:i-1"}}, want: ImplicitDeny, oracle: "replaces them in every version"},

	{name: "every condition of a statement must hold", identity: when(`"StringEquals": {"aws:userid": "me", "aws:PrincipalAccount": "1"}`), context: Context{"aws:userid": {"me"}, "aws:PrincipalAccount": {"2"}}, want: ImplicitDeny,
		says: `wants StringEquals aws:PrincipalAccount ["1"], and it is ["2"]`},
	{name: "values are alternatives", identity: when(`"StringEquals": {"aws:userid": ["you", "me"]}`), context: Context{"aws:userid": {"me"}}, want: Allowed},
	{name: "keys have no case", identity: when(`"StringEquals": {"AWS:UserID": "me"}`), context: Context{"aws:userid": {"me"}}, want: Allowed},
	{name: "values have case", identity: when(`"StringEquals": {"aws:userid": "ME"}`), context: Context{"aws:userid": {"me"}}, want: ImplicitDeny},
	{name: "unless they are asked to have none", identity: when(`"StringEqualsIgnoreCase": {"aws:userid": "ME"}`), context: Context{"aws:userid": {"me"}}, want: Allowed},
	{name: "equal knows no wildcards", identity: when(`"StringEquals": {"aws:userid": "m*"}`), context: Context{"aws:userid": {"me"}}, want: ImplicitDeny},
	{name: "like knows wildcards", identity: when(`"StringLike": {"aws:userid": "m?*"}`), context: Context{"aws:userid": {"me"}}, want: Allowed},
	{name: "not equal to any of them", identity: when(`"StringNotEquals": {"aws:userid": ["you", "me"]}`), context: Context{"aws:userid": {"me"}}, want: ImplicitDeny},
	{name: "not like", identity: when(`"StringNotLike": {"aws:userid": "y*"}`), context: Context{"aws:userid": {"me"}}, want: Allowed},
	{name: "a variable in a condition", identity: when(`"StringEquals": {"aws:PrincipalTag/of": "${aws:userid}"}`), context: Context{"aws:userid": {"me"}, "aws:PrincipalTag/of": {"me"}}, want: Allowed},

	{name: "a key that is missing is not equal", identity: when(`"StringEquals": {"s3:if-none-match": "*"}`), want: ImplicitDeny, says: "the key is not there"},
	{name: "a key that is missing meets what says not", identity: when(`"StringNotEquals": {"aws:PrincipalTag/a": "b"}`), want: Allowed},
	{name: "a key that is missing meets IfExists", identity: when(`"StringEqualsIfExists": {"aws:PrincipalTag/a": "b"}`), want: Allowed},
	{name: "IfExists looks at a key that is there", identity: when(`"StringEqualsIfExists": {"aws:PrincipalTag/a": "b"}`), context: Context{"aws:PrincipalTag/a": {"c"}}, want: ImplicitDeny},
	{name: "Null wants it missing", identity: when(`"Null": {"s3:if-none-match": "true"}`), context: Context{"s3:if-none-match": {"*"}}, want: ImplicitDeny},
	{name: "Null wants it there", identity: when(`"Null": {"s3:if-none-match": "false"}`), context: Context{"s3:if-none-match": {"*"}}, want: Allowed},
	{name: "a denial whose condition fails denies nothing", identity: []string{mayPut, mustNot + `, "Condition": {"Bool": {"aws:SecureTransport": "false"}}`}, context: Context{"aws:SecureTransport": {"true"}}, want: Allowed},
	{name: "a denial whose condition holds", identity: []string{mayPut, mustNot + `, "Condition": {"Bool": {"aws:SecureTransport": false}}`}, context: Context{"aws:SecureTransport": {"false"}}, want: ExplicitDeny},
	{name: "a denial of what is not so denies also when the key is missing", identity: []string{mayPut, mustNot + `, "Condition": {"StringNotEquals": {"s3:if-none-match": "*"}}`}, want: ExplicitDeny},

	{name: "an ARN by parts", identity: when(`"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/coll*"}`), context: Context{"aws:PrincipalArn": {me.ARN}}, want: Allowed},
	{name: "ArnEquals is ArnLike", identity: when(`"ArnEquals": {"aws:PrincipalArn": "arn:aws:iam::123456789012:role/*"}`), context: Context{"aws:PrincipalArn": {me.ARN}}, want: Allowed},
	{name: "ArnNotLike", identity: when(`"ArnNotLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/collector"}`), context: Context{"aws:PrincipalArn": {me.ARN}}, want: ImplicitDeny},
	{name: "half an ARN is like no ARN", identity: when(`"ArnLike": {"aws:PrincipalArn": "arn:aws:iam*"}`), context: Context{"aws:PrincipalArn": {me.ARN}}, want: ImplicitDeny},

	{name: "a number", identity: when(`"NumericLessThanEquals": {"s3:TlsVersion": 1.3}`), context: Context{"s3:TlsVersion": {"1.2"}}, want: Allowed},
	{name: "a larger number", identity: when(`"NumericLessThan": {"s3:TlsVersion": "1.2"}`), context: Context{"s3:TlsVersion": {"1.2"}}, want: ImplicitDeny},
	{name: "numbers that are equal", identity: when(`"NumericEquals": {"s3:TlsVersion": "1.20"}`), context: Context{"s3:TlsVersion": {"1.2"}}, want: Allowed},
	{name: "no such number", identity: when(`"NumericNotEquals": {"s3:TlsVersion": ["1.2", "1.3"]}`), context: Context{"s3:TlsVersion": {"1.2"}}, want: ImplicitDeny},
	{name: "a day before", identity: when(`"DateLessThan": {"aws:CurrentTime": "2026-11-27"}`), context: Context{"aws:CurrentTime": {"2026-11-26T03:00:00Z"}}, want: Allowed},
	{name: "a moment after", identity: when(`"DateGreaterThan": {"aws:CurrentTime": "2026-11-26T03:00:00Z"}`), context: Context{"aws:CurrentTime": {"2026-11-26T03:00:00Z"}}, want: ImplicitDeny},
	{name: "an address in a block", identity: when(`"IpAddress": {"aws:SourceIp": ["192.0.2.0/24", "2001:db8::/32"]}`), context: Context{"aws:SourceIp": {"2001:db8::7"}}, want: Allowed},
	{name: "an address outside", identity: when(`"NotIpAddress": {"aws:SourceIp": "192.0.2.0/24"}`), context: Context{"aws:SourceIp": {"192.0.2.7"}}, want: ImplicitDeny},

	{name: "all tag keys are among them", identity: []string{`"Effect": "Allow", "Action": "ec2:CreateTags", "Resource": "*", "Condition": {"ForAllValues:StringEquals": {"aws:TagKeys": ["a", "b", "c"]}}`},
		action: "ec2:CreateTags", on: targetARN, context: Context{"aws:TagKeys": {"a", "b"}}, want: Allowed},
	{name: "one tag key is not", identity: []string{`"Effect": "Allow", "Action": "ec2:CreateTags", "Resource": "*", "Condition": {"ForAllValues:StringEquals": {"aws:TagKeys": ["a", "b"]}}`},
		action: "ec2:CreateTags", on: targetARN, context: Context{"aws:TagKeys": {"a", "d"}}, want: ImplicitDeny},
	{name: "all of none are", identity: []string{`"Effect": "Allow", "Action": "ec2:CreateTags", "Resource": "*", "Condition": {"ForAllValues:StringEquals": {"aws:TagKeys": ["a"]}}`},
		action: "ec2:CreateTags", on: targetARN, want: Allowed},
	{name: "any of them is", identity: []string{`"Effect": "Allow", "Action": "ec2:CreateTags", "Resource": "*", "Condition": {"ForAnyValue:StringLike": {"aws:TagKeys": ["b*"]}}`},
		action: "ec2:CreateTags", on: targetARN, context: Context{"aws:TagKeys": {"a", "b"}}, want: Allowed},
	{name: "any of none is not", identity: []string{`"Effect": "Allow", "Action": "ec2:CreateTags", "Resource": "*", "Condition": {"ForAnyValue:StringLike": {"aws:TagKeys": ["*"]}}`},
		action: "ec2:CreateTags", on: targetARN, want: ImplicitDeny},
	{name: "a tag of the resource", identity: []string{`"Effect": "Allow", "Action": "ec2:DeleteTrafficMirrorTarget", "Resource": "*", "Condition": {"StringEquals": {"aws:ResourceTag/flashtap:deployment": "demo"}}`},
		action: "ec2:DeleteTrafficMirrorTarget", on: targetARN, context: Context{"aws:ResourceTag/flashtap:deployment": {"demo"}}, want: Allowed},
	{name: "the tag of another deployment", identity: []string{`"Effect": "Allow", "Action": "ec2:DeleteTrafficMirrorTarget", "Resource": "*", "Condition": {"StringEquals": {"aws:ResourceTag/flashtap:deployment": "demo"}}`},
		action: "ec2:DeleteTrafficMirrorTarget", on: targetARN, context: Context{"aws:ResourceTag/flashtap:deployment": {"two"}}, want: ImplicitDeny},

	{name: "a key policy must allow, too", identity: []string{mayAll}, action: "kms:Decrypt", on: keyARN,
		resource: `"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::123456789012:role/other"}, "Action": "kms:*", "Resource": "*"`, want: ImplicitDeny},
	{name: "a key policy that lets the account", identity: []string{mayAll}, action: "kms:Decrypt", on: keyARN,
		resource: `"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::123456789012:root"}, "Action": "kms:*", "Resource": "*"`, want: Allowed},
	{name: "a key policy that lets the account lets nobody by itself", action: "kms:Decrypt", on: keyARN,
		resource: `"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::123456789012:root"}, "Action": "kms:*", "Resource": "*"`, want: ImplicitDeny},
	{name: "a key policy that lets the role", action: "kms:Decrypt", on: keyARN,
		resource: `"Effect": "Allow", "Principal": {"AWS": ["arn:aws:iam::123456789012:role/collector"]}, "Action": "kms:Decrypt", "Resource": "*"`, want: Allowed},

	{name: "a service that asks for itself", by: Principal{Service: "events.amazonaws.com"}, action: "sqs:SendMessage", on: "arn:aws:sqs:us-east-1:123456789012:intake",
		resource: `"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": "*"`, want: Allowed},
	{name: "another service", by: Principal{Service: "sns.amazonaws.com"}, action: "sqs:SendMessage", on: "arn:aws:sqs:us-east-1:123456789012:intake",
		resource: `"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": "*"`, want: ImplicitDeny},
	{name: "a trust policy has no resource", by: Principal{Service: "lambda.amazonaws.com"}, action: "sts:AssumeRole", on: me.ARN,
		resource: `"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"`, want: Allowed, oracle: "its validator of resource policies wants one"},
}

// question is a row's request and policies.
func (r row) question(t *testing.T) (Request, Policies) {
	t.Helper()
	q := Request{Principal: r.by, Action: r.action, Resource: r.on, Context: r.context}
	if q.Principal == (Principal{}) {
		q.Principal = me
	}
	if q.Action == "" {
		q.Action = "s3:PutObject"
	}
	if q.Resource == "" {
		q.Resource = objectARN
	}
	read := func(name, text string) *Policy {
		p, err := Parse(name, document(text))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	var p Policies
	for _, text := range r.identity {
		p.Identity = append(p.Identity, read("identity", text))
	}
	if r.boundary != "" {
		p.Boundary = read("boundary", r.boundary)
	}
	if r.resource != "" {
		p.Resource = read("resource", r.resource)
	}
	p.KeyPolicy = strings.HasPrefix(q.Action, "kms:") || strings.HasPrefix(q.Action, "sts:")
	return q, p
}

func TestDecisions(t *testing.T) {
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			got, err := Evaluate(r.question(t))
			if err != nil {
				t.Fatal(err)
			}
			if got.Decision != r.want || !strings.Contains(got.String(), r.says) {
				t.Errorf("%s; want %s, saying %q", got, r.want, r.says)
			}
		})
	}
}

func TestABoundaryDoesNotLimitWhatIsGivenToASession(t *testing.T) {
	boundary := MustParse("boundary", document(`"Effect": "Allow", "Action": "ec2:*", "Resource": "*"`))
	for arn, want := range map[string]Decision{me.Session: Allowed, me.ARN: ImplicitDeny} {
		resource := MustParse("resource", document(`"Effect": "Allow", "Principal": {"AWS": "`+arn+`"}, "Action": "s3:*", "Resource": "*"`))
		got, err := Evaluate(Request{Principal: me, Action: "s3:PutObject", Resource: objectARN}, Policies{Boundary: boundary, Resource: resource})
		if err != nil || got.Decision != want {
			t.Errorf("given to %s: %s, %v; want %s", arn, got, err, want)
		}
	}
}

// What is not understood must never be taken for a decision.
func TestUnknownGrammarIsAnError(t *testing.T) {
	for name, text := range map[string]string{
		"an operator":               `"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": {"StringMatches": {"aws:userid": "a"}}`,
		"a set operator":            `"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": {"ForSomeValues:StringLike": {"aws:userid": "a"}}`,
		"a suffix":                  `"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": {"NullIfExists": {"aws:userid": "true"}}`,
		"NotPrincipal":              `"Effect": "Deny", "Action": "*", "Resource": "*", "NotPrincipal": "*"`,
		"an element":                `"Effect": "Deny", "Action": "*", "Resource": "*", "When": "now"`,
		"an effect":                 `"Effect": "Maybe", "Action": "*", "Resource": "*"`,
		"no action":                 `"Effect": "Deny", "Resource": "*"`,
		"both sorts of action":      `"Effect": "Deny", "Action": "*", "NotAction": "*", "Resource": "*"`,
		"both sorts of resource":    `"Effect": "Deny", "Action": "*", "Resource": "*", "NotResource": "*"`,
		"an action of no service":   `"Effect": "Deny", "Action": "PutObject", "Resource": "*"`,
		"a principal's wildcard":    `"Effect": "Deny", "Action": "*", "Resource": "*", "Principal": {"AWS": "arn:aws:iam::*:role/a"}`,
		"a federated principal":     `"Effect": "Deny", "Action": "*", "Resource": "*", "Principal": {"Federated": "a"}`,
		"an unresolved reference":   `"Effect": "Deny", "Action": "*", "Resource": {"Ref": "Bucket"}`,
		"several values, no set":    `"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": {"StringEquals": {"aws:TagKeys": "a"}}`,
		"a condition without value": `"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": {"StringEquals": {"aws:userid": []}}`,
		"a Null that is neither":    `"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": {"Null": {"aws:userid": "maybe"}}`,
		"a version":                 `{"Version": "2026-01-01", "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]}`,
		"no statement":              `{"Version": "2012-10-17", "Statement": []}`,
	} {
		if p, err := Parse("p", document(text)); err == nil {
			t.Errorf("%s was read as %+v", name, p)
		}
	}
	allow := func(condition string) *Policy {
		return MustParse("p", document(`"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {`+condition+`}`))
	}
	everywhere := MustParse("p", document(`"Effect": "Allow", "Action": "*"`))
	foreign := MustParse("p", document(`"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"`))
	for name, p := range map[string]Policies{
		"no number":                           {Identity: []*Policy{allow(`"NumericLessThan": {"aws:userid": "1"}`)}},
		"the policy's is no number":           {Identity: []*Policy{allow(`"NumericLessThan": {"s3:max-keys": "few"}`)}},
		"no date":                             {Identity: []*Policy{allow(`"DateLessThan": {"aws:userid": "2026"}`)}},
		"no address":                          {Identity: []*Policy{allow(`"IpAddress": {"aws:userid": "192.0.2.0/24"}`)}},
		"no boolean":                          {Identity: []*Policy{allow(`"Bool": {"aws:userid": "true"}`)}},
		"no base64":                           {Identity: []*Policy{allow(`"BinaryEquals": {"aws:userid": "AAA="}`)}},
		"two values where one is compared":    {Identity: []*Policy{allow(`"StringEquals": {"two": "a"}`)}},
		"an identity policy for nothing":      {Identity: []*Policy{everywhere}},
		"an identity policy with a principal": {Identity: []*Policy{foreign}},
		"a resource policy without one":       {Resource: allow(`"Bool": {"aws:SecureTransport": "true"}`)},
	} {
		q := Request{Principal: me, Action: "s3:PutObject", Resource: objectARN, Context: Context{"aws:userid": {"me?"}, "s3:max-keys": {"1"}, "two": {"a", "b"}}}
		if got, err := Evaluate(q, p); err == nil {
			t.Errorf("%s: %s", name, got)
		}
	}
}
