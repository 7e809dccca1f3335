package deployment_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"flashtap/events"
	"flashtap/infra/policy"
	"flashtap/testutil/iam"
)

// everyConditionCounts takes each condition out of each statement of each role, one at a time, and demands that the role's
// own policy then allows a forbidden call. A condition that denies nothing of what was tried would be a claim without
// proof.
func (w *account) everyConditionCounts(t *testing.T) {
	byRole := map[string][]forbidden{}
	for _, f := range w.forbidden() {
		byRole[f.role] = append(byRole[f.role], f)
	}
	proven := 0
	for _, role := range policy.Roles() {
		document := role.Policy(w.scope)
		for i, s := range document.Statement {
			for operator, keys := range s.Condition {
				for key := range keys {
					weaker := clone(t, document)
					delete(weaker.Statement[i].Condition[operator], key)
					if len(weaker.Statement[i].Condition[operator]) == 0 {
						delete(weaker.Statement[i].Condition, operator)
					}
					alone := iam.Policies{Identity: []*iam.Policy{parse(t, role.Name, weaker)}}
					if !slices.ContainsFunc(byRole[role.Name], func(f forbidden) bool { return allows(t, alone, f) }) {
						t.Errorf("%s, %s: without %s of %s every forbidden call is still denied", role.Name, s.Sid, operator, key)
					}
					proven++
				}
			}
		}
	}
	t.Logf("%d conditions of roles are what denies a forbidden call", proven)
}

// allows says whether the policies allow every request of a call.
func allows(t *testing.T, p iam.Policies, f forbidden) bool {
	t.Helper()
	return !slices.ContainsFunc(f.requests, func(r iam.Request) bool {
		result, err := iam.Evaluate(r, p)
		if err != nil {
			t.Fatal(err)
		}
		return result.Decision != iam.Allowed
	})
}

func clone(t *testing.T, d policy.Document) (c policy.Document) {
	t.Helper()
	text, err := json.Marshal(d)
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// againstAdministrators holds the resource policies against somebody whose own policies allow everything, and demands that
// each of their statements was needed.
func (w *account) againstAdministrators(t *testing.T) {
	everything := parse(t, "administrator", policy.New(policy.Statement{Effect: policy.Allow, Action: []string{"*"}, Resource: []string{"*"}}))
	needed := map[string]bool{}
	try := func(role, name string, want iam.Decision, r iam.Request) {
		result, err := iam.Evaluate(r, iam.Policies{Identity: []*iam.Policy{everything}, Resource: w.policies[w.guards(r.Resource)], KeyPolicy: strings.HasPrefix(r.Action, "kms:")})
		if err != nil {
			t.Fatal(err)
		}
		if result.Decision != want {
			t.Errorf("%s with all rights: %s, %s on %s: %s, want %s", role, name, r.Action, r.Resource, result, want)
		}
		needed[result.By] = true
	}
	const capture = events.CaptureID("20261126T000000Z-eni-0aaaaaaaaaaaaaaaa")
	object, create := w.scope.BucketARN+"/"+events.PlanKey(capture), iam.Context{"s3:if-none-match": {"*"}}
	folder := w.scope.BucketARN + "/" + events.CollectorPrefix(capture, w.roleID+":"+otherInstance)
	also := func(keys ...string) iam.Context {
		c := maps.Clone(create)
		for i := 0; i < len(keys); i += 2 {
			c[keys[i]] = []string{keys[i+1]}
		}
		return c
	}
	for _, x := range []struct {
		name, role, actions, on string
		keys                    iam.Context
		want                    iam.Decision
	}{
		{"a new record", "administrator", "s3:PutObject s3:GetObject", object, create, iam.Allowed},
		{"a new record by our key", "administrator", "s3:PutObject", object,
			also("s3:x-amz-server-side-encryption", "aws:kms", "s3:x-amz-server-side-encryption-aws-kms-key-id", w.scope.BucketKeyARN), iam.Allowed},
		{"an overwriting", "administrator", "s3:PutObject", object, nil, iam.ExplicitDeny},
		{"a change of what is kept", "administrator", "s3:DeleteObject s3:DeleteObjectVersion s3:PutObjectRetention s3:PutObjectLegalHold s3:BypassGovernanceRetention", object, nil, iam.ExplicitDeny},
		{"a change of how it is kept", "administrator", "s3:DeleteBucket s3:PutBucketObjectLockConfiguration s3:PutLifecycleConfiguration s3:PutBucketVersioning s3:PutEncryptionConfiguration",
			w.scope.BucketARN, nil, iam.ExplicitDeny},
		{"a replica", "administrator", "s3:ReplicateObject s3:ReplicateDelete", object, nil, iam.ExplicitDeny},
		{"another key", "administrator", "s3:PutObject", object, also("s3:x-amz-server-side-encryption-aws-kms-key-id", otherKey(w.scope)), iam.ExplicitDeny},
		{"no key of KMS", "administrator", "s3:PutObject", object, also("s3:x-amz-server-side-encryption", "AES256"), iam.ExplicitDeny},
		{"a key in the request", "administrator", "s3:PutObject", object, also("s3:x-amz-server-side-encryption-customer-algorithm", "AES256"), iam.ExplicitDeny},
		{"no TLS", "administrator", "s3:PutObject s3:GetObject", object, also("aws:SecureTransport", "false"), iam.ExplicitDeny},
		{"an old TLS", "administrator", "s3:PutObject s3:GetObject", object, also("s3:TlsVersion", "1.1"), iam.ExplicitDeny},
		{"a collector's report", "administrator", "s3:PutObject", folder + "manifest.json", create, iam.ExplicitDeny},
		{"its own report", "collector", "s3:PutObject", folder + "manifest.json", create, iam.Allowed},
		{"its own report, of the plain class", "collector", "s3:PutObject", folder + "manifest.json", also("s3:x-amz-storage-class", "STANDARD"), iam.Allowed},
		{"its own report, archived", "collector", "s3:PutObject", folder + "manifest.json", also("s3:x-amz-storage-class", "GLACIER"), iam.ExplicitDeny},
		{"its program", "collector", "s3:GetObject", w.scope.BucketARN + "/tools/collector-arm64-" + strings.Repeat("a", 64), nil, iam.Allowed},
		{"reading evidence", "collector", "s3:GetObject s3:GetObjectVersion", folder + "manifest.json", nil, iam.ExplicitDeny},
		{"listing evidence", "collector", "s3:ListBucket s3:ListBucketVersions", w.scope.BucketARN, nil, iam.ExplicitDeny},

		{"the key through S3", "administrator", "kms:Decrypt kms:GenerateDataKey", w.scope.BucketKeyARN, iam.Context{
			"kms:ViaService": {"s3." + w.scope.Region + ".amazonaws.com"}, "kms:CallerAccount": {w.scope.Account}}, iam.Allowed},
		{"the key in order", "administrator", "kms:DescribeKey kms:EnableKeyRotation kms:PutKeyPolicy", w.scope.BucketKeyARN, nil, iam.Allowed},
		{"the key by itself", "administrator", "kms:Decrypt kms:GenerateDataKey", w.scope.BucketKeyARN, iam.Context{"kms:CallerAccount": {w.scope.Account}}, iam.ImplicitDeny},
		{"the key for another account", "administrator", "kms:Decrypt", w.scope.BucketKeyARN, iam.Context{
			"kms:ViaService": {"s3." + w.scope.Region + ".amazonaws.com"}, "kms:CallerAccount": {"999999999999"}}, iam.ImplicitDeny},
		{"anything else with the key", "administrator", "kms:Encrypt kms:ReEncryptFrom kms:CreateGrant kms:Sign kms:ScheduleKeyDeletion kms:DisableKey", w.scope.BucketKeyARN, nil, iam.ImplicitDeny},

		{"an event of ours", "administrator", "events:PutEvents", w.scope.BusARN(), iam.Context{"events:source": {events.RequestSource}}, iam.Allowed},
		{"an event of AWS", "administrator", "events:PutEvents", w.scope.BusARN(), iam.Context{"events:source": {"aws.guardduty"}}, iam.ExplicitDeny},
		{"an event of another account", "administrator", "events:PutEvents", w.scope.BusARN(), iam.Context{
			"events:source": {events.RequestSource}, "aws:PrincipalAccount": {"999999999999"}}, iam.ExplicitDeny},
		{"a message without TLS", "administrator", "sqs:SendMessage", w.scope.QueueARN(policy.IntakeQueue), iam.Context{"aws:SecureTransport": {"false"}}, iam.ExplicitDeny},
	} {
		for _, action := range strings.Fields(x.actions) {
			try(x.role, x.name, x.want, w.request(x.role, action, x.on, x.keys))
		}
	}
	for _, s := range policy.EvidenceBucket(w.scope).Statement {
		if !needed[w.scope.BucketARN+"/"+s.Sid] {
			t.Errorf("no call tried what %s of the bucket's policy is for", s.Sid)
		}
	}
}

// rulesAlone demands that a queue takes messages of this deployment's rules and of no others.
func (w *account) rulesAlone(t *testing.T) {
	const other = "999999999999"
	tried := 0
	for _, m := range w.made {
		if m.role != "" || m.what != "sqs.SendMessage" {
			continue
		}
		r := m.requests[0]
		source := r.Context["aws:SourceArn"][0]
		for name, c := range map[string]change{
			"for another deployment's rule": {to: with("aws:SourceArn", strings.ReplaceAll(source, w.scope.Prefix, "flashtap-other"))},
			"for another account's rule":    {to: both(with("aws:SourceArn", strings.ReplaceAll(source, w.scope.Account, other)), with("aws:SourceAccount", other))},
			"for nobody":                    {to: without("aws:SourceArn", "aws:SourceAccount")},
			"without TLS":                   {to: with("aws:SecureTransport", "false")},
			"as another service":            {to: func(r *iam.Request) bool { r.Principal.Service = "sns.amazonaws.com"; return true }},
			"to the queue of the waiting":   {to: elsewhere(w.scope.QueueARN(policy.IntakeQueue), w.scope.QueueARN(policy.WaitingQueue))},
		} {
			for _, changed := range w.change(m, c) {
				tried++
				if got := w.decide(t, "", changed); got.Decision == iam.Allowed {
					t.Errorf("a message %s is %s", name, got)
				}
			}
		}
	}
	if tried == 0 {
		t.Error("no rule sent a message")
	}
}
