package policy_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"flashtap/infra/policy"
	"flashtap/testutil/authorization"
)

// TestMutations: each rule finds what it is for, in documents that are right but for one change.
func TestMutations(t *testing.T) {
	d := load(t)
	docs := map[string]authorization.Named{}
	for _, doc := range authorization.Documents(authorization.Example()) {
		docs[doc.Name] = doc
	}
	const tag = "flashtap:deployment"
	for name, m := range map[string]struct {
		document, sid string
		change        func(*policy.Statement)
		rule          string
	}{
		"a misspelt action":              {"role mirror", "MakeTarget", action("ec2:CreateTrafficMirorTarget"), authorization.RuleAction},
		"an action of another service":   {"role mirror", "MakeTarget", action("s3:RunInstances"), authorization.RuleAction},
		"an action in another case":      {"role mirror", "MakeTarget", action("ec2:createTrafficMirrorTarget"), authorization.RuleAction},
		"an action without its service":  {"role mirror", "MakeTarget", action("CreateTrafficMirrorTarget"), authorization.RuleAction},
		"a service that does not exist":  {"role mirror", "MakeTarget", action("ec3:CreateTrafficMirrorTarget"), authorization.RuleAction},
		"a pattern of actions":           {"role teardown", "RemoveTarget", action("ec2:Delete*"), authorization.RuleAction},
		"every action of a service":      {"role teardown", "RemoveTarget", action("ec2:*"), authorization.RuleAction},
		"everything":                     {"role teardown", "RemoveTarget", action("*"), authorization.RuleAction},
		"a partial pattern in a denial":  {"evidence bucket", "KeepObjects", action("s3:Delete*"), authorization.RuleAction},
		"all of no service in a denial":  {"evidence bucket", "OnlyTLS", action("s4:*"), authorization.RuleAction},
		"a type of another action":       {"role mirror", "MakeTarget", resource("arn:aws:ec2:eu-central-1:111122223333:instance/*"), authorization.RuleResource},
		"a misspelt type":                {"role mirror", "MakeTarget", resource("arn:aws:ec2:eu-central-1:111122223333:traffic-mirror-targets/*"), authorization.RuleResource},
		"a bucket's action on objects":   {"role seal", "ListEvidence", resource("arn:aws:s3:::flashtap-example-evidence-bucket-1a2b3c4d5e6f/*"), authorization.RuleResource},
		"an object's action on a bucket": {"role seal", "ReadEvidence", resource("arn:aws:s3:::flashtap-example-evidence-bucket-1a2b3c4d5e6f"), authorization.RuleResource},
		"an image with an account":       {"role launch", "RunInstanceOfImage", resource("arn:aws:ec2:eu-central-1:111122223333:image/*"), authorization.RuleResource},
		"an ARN too many":                {"role launch", "PassCollectorRole", also("arn:aws:s3:::bucket"), authorization.RuleResource},
		"a Describe with an ARN":         {"role intake", "Describe", resource("arn:aws:ec2:eu-central-1:111122223333:network-interface/*"), authorization.RuleResource},
		"a layer":                        {"role scheduler", "RemoveAndSweep", resource("arn:aws:lambda:eu-central-1:111122223333:layer:flashtap-example-sweep"), authorization.RuleResource},
		"any resource":                   {"role teardown", "RemoveTarget", resource("*"), authorization.RuleStar},
		"any resource besides":           {"role teardown", "RemoveTarget", also("*"), authorization.RuleStar},
		"any object":                     {"role collector", "CreateOwnEvidence", resource("*"), authorization.RuleStar},
		"any execution":                  {"role sweep", "SeeExecutions", resource("*"), authorization.RuleStar},
		"any resource without a reason":  {"role intake", "Describe", func(st *policy.Statement) { st.Reason = "" }, authorization.RuleStar},

		"a request's tag on what is there":   {"role mirror", "MakeSessionOfOurs", with("StringEquals", "aws:RequestTag/"+tag, "example"), authorization.RuleKey},
		"a VPC on a filter":                  {"role mirror", "MakeFilter", with("ArnEquals", "ec2:Vpc", "arn:aws:ec2:eu-central-1:111122223333:vpc/vpc-1"), authorization.RuleKey},
		"a key of another service":           {"role teardown", "RemoveTarget", with("StringEquals", "s3:prefix", "x"), authorization.RuleKey},
		"a misspelt key":                     {"role launch", "RunInstance", with("StringEquals", "ec2:MetadataHttpToken", "required"), authorization.RuleKey},
		"a misspelt global key":              {"role intake", "Describe", with("StringEquals", "aws:RequestRegion", "eu-central-1"), authorization.RuleKey},
		"a key of a Describe":                {"role intake", "Describe", with("StringEquals", "aws:ResourceTag/"+tag, "example"), authorization.RuleKey},
		"a key without values":               {"role launch", "RunInstance", with("StringEquals", "aws:RequestTag/"+tag), authorization.RuleKey},
		"a prefix where there is none":       {"role seal", "ReadEvidence", with("StringLike", "s3:prefix", "captures/*"), authorization.RuleKey},
		"a text operator for a truth value":  {"evidence bucket", "OnlyTLS", with("StringEquals", "aws:SecureTransport", "false"), authorization.RuleKey},
		"an ARN operator for a text":         {"role launch", "RunInstance", with("ArnEquals", "aws:RequestTag/"+tag, "example"), authorization.RuleKey},
		"a truth operator for a text":        {"role launch", "RunInstanceOfImage", with("Bool", "ec2:Owner", "true"), authorization.RuleKey},
		"an operator that does not exist":    {"role launch", "RunInstanceOfImage", with("StringEqual", "ec2:Owner", "amazon"), authorization.RuleKey},
		"one value of several":               {"role watch", "AskCollectorToStop", with("StringEquals", "aws:TagKeys", "flashtap:stop"), authorization.RuleKey},
		"several values of one":              {"role launch", "RunInstance", with("ForAllValues:StringEquals", "aws:RequestTag/"+tag, "example"), authorization.RuleKey},
		"a service's key in a trust":         {"trust scheduler", "", with("StringEquals", "scheduler:Group", "x"), authorization.RuleKey},
		"a service's key in a whole denial":  {"evidence bucket", "OnlyTLS12", with("StringEquals", "s3:if-match", "x"), ""},
		"another's key in a whole denial":    {"evidence bucket", "OnlyTLS12", with("StringEquals", "ec2:Vpc", "x"), authorization.RuleKey},
		"the context of encryption, spelt":   {"role seal", "UseBucketKey", with("StringEquals", "kms:EncryptionContext:aws:s3:arn", "x"), ""},
		"the case of a key, which IAM minds": {"role launch", "RunInstanceOfImage", with("StringEquals", "EC2:owner", "amazon"), ""},

		"a session born without the tag":         {"role mirror", "MakeSession", without("aws:RequestTag/" + tag), authorization.RuleBirth},
		"a group born without the tag":           {"role launch", "MakeSecurityGroup", without("aws:RequestTag/" + tag), authorization.RuleBirth},
		"an endpoint born without the tag":       {"role launch", "MakeEndpoint", without("aws:RequestTag/" + tag), authorization.RuleBirth},
		"anybody's endpoint deleted":             {"role teardown", "RemoveEndpoint", without("aws:ResourceTag/" + tag), authorization.RuleOwner},
		"anybody's group mended":                 {"role watch", "MendSecurityGroup", without("aws:ResourceTag/" + tag), authorization.RuleOwner},
		"an instance of another deployment":      {"role launch", "RunInstance", with("StringEquals", "aws:RequestTag/"+tag, "other"), authorization.RuleBirth},
		"an instance of several deployments":     {"role launch", "RunInstance", with("StringEquals", "aws:RequestTag/"+tag, "example", "other"), authorization.RuleBirth},
		"another tag":                            {"role launch", "RunInstance", swap("aws:RequestTag/"+tag, "aws:RequestTag/Name"), authorization.RuleBirth},
		"a tag that may be missing":              {"role launch", "RunInstance", swapOperator("StringEquals", "StringEqualsIfExists"), authorization.RuleBirth},
		"tags on anything at any time":           {"role launch", "TagAtBirth", without("ec2:CreateAction"), authorization.RuleBirth},
		"any tags at birth":                      {"role launch", "TagAtBirth", without("aws:RequestTag/" + tag), authorization.RuleBirth},
		"tags on anybody's instance":             {"role watch", "AskCollectorToStop", without("aws:ResourceTag/" + tag), authorization.RuleBirth},
		"any tags on our instance":               {"role watch", "AskCollectorToStop", without("aws:TagKeys"), authorization.RuleBirth},
		"anybody's session deleted":              {"role teardown", "RemoveSession", without("aws:ResourceTag/" + tag), authorization.RuleOwner},
		"anybody's session deleted by Scheduler": {"role scheduler", "EndSession", without("aws:ResourceTag/" + tag), authorization.RuleOwner},
		"anybody's instance terminated":          {"role sweep", "RemoveInstance", without("aws:ResourceTag/" + tag), authorization.RuleOwner},
		"anybody's interface deleted":            {"role teardown", "RemoveInterface", without("aws:ResourceTag/" + tag), authorization.RuleOwner},
		"anybody's filter changed":               {"role mirror", "ChangeFilter", without("aws:ResourceTag/" + tag), authorization.RuleOwner},
		"anybody's interface as the target":      {"role mirror", "MakeTargetOfCollector", without("aws:ResourceTag/" + tag), authorization.RuleOwner},
		"anybody's group opened":                 {"role launch", "RuleSecurityGroup", without("aws:ResourceTag/" + tag), authorization.RuleOwner},
		"anybody's group joined":                 {"role launch", "RunInstanceInGroup", without("aws:ResourceTag/" + tag), authorization.RuleOwner},
		"any schedule deleted":                   {"role teardown", "RemoveSchedules", resource("arn:aws:scheduler:eu-central-1:111122223333:schedule/*/eni-*"), authorization.RuleOwner},
		"any function called":                    {"role capture", "RunSteps", resource("arn:aws:lambda:eu-central-1:111122223333:function:*"), authorization.RuleOwner},
		"any queue filled":                       {"role intake", "Defer", resource("arn:aws:sqs:eu-central-1:111122223333:*"), authorization.RuleOwner},
		"any role passed":                        {"role launch", "PassCollectorRole", resource("arn:aws:iam::111122223333:role/*"), authorization.RuleOwner},
		"any bucket written":                     {"role seal", "CreateEvidence", resource("arn:aws:s3:::*/captures/*"), authorization.RuleOwner},

		"overwriting":                        {"role collector", "CreateOwnEvidence", without("s3:if-none-match"), authorization.RuleDemand},
		"overwriting only":                   {"role collector", "CreateOwnEvidence", with("Null", "s3:if-none-match", "true"), authorization.RuleDemand},
		"an image of anybody's":              {"role launch", "RunInstanceOfImage", without("ec2:Owner"), authorization.RuleDemand},
		"an image of somebody's":             {"role launch", "RunInstanceOfImage", with("StringEquals", "ec2:Owner", "444455556666"), authorization.RuleDemand},
		"the first version of metadata":      {"role launch", "RunInstance", without("ec2:MetadataHttpTokens"), authorization.RuleDemand},
		"an instance by no template":         {"role launch", "RunInstance", without("ec2:LaunchTemplate"), authorization.RuleDemand},
		"a subnet by no template":            {"role launch", "RunInstanceInSubnet", without("ec2:LaunchTemplate"), authorization.RuleDemand},
		"another profile":                    {"role launch", "RunInstance", without("ec2:InstanceProfile"), authorization.RuleDemand},
		"a plain volume":                     {"role launch", "RunInstanceVolume", without("ec2:Encrypted"), authorization.RuleDemand},
		"a public address":                   {"role launch", "RunInstanceInterface", without("ec2:AssociatePublicIpAddress"), authorization.RuleDemand},
		"an endpoint of any service":         {"role launch", "MakeEndpoint", without("ec2:VpceServiceName"), authorization.RuleDemand},
		"anybody's console":                  {"role watch", "ReadConsole", without("aws:ResourceTag/" + tag), authorization.RuleDemand},
		"an instance that is tagged as ours": {"role teardown", "RemoveInstance", without("ec2:InstanceProfile"), authorization.RuleDemand},
		"a signature of anything":            {"role seal", "Sign", without("kms:MessageType"), authorization.RuleDemand},
		"a signature of any kind":            {"role sweep", "Sign", without("kms:SigningAlgorithm"), authorization.RuleDemand},
		"a signature for anybody":            {"signing key", "Sign", without("aws:PrincipalArn"), authorization.RuleDemand},
		"a signature by any key":             {"role seal", "Sign", resource("arn:aws:kms:eu-central-1:111122223333:key/*"), authorization.RuleOwner},
		"a hold that is lifted":              {"role seal", "HoldEvidence", with("StringEquals", "s3:object-lock-legal-hold", "OFF"), authorization.RuleDemand},
		"the key for other services":         {"role collector", "UseBucketKey", without("kms:ViaService"), authorization.RuleDemand},
		"the key for other services, by KMS": {"evidence key", "UseThroughS3", without("kms:ViaService"), authorization.RuleDemand},
		"the key for other buckets":          {"role collector", "UseBucketKey", without("kms:EncryptionContext:aws:s3:arn"), authorization.RuleDemand},
		"the disk's key for other services":  {"role launch", "UseVolumeKey", without("kms:ViaService"), authorization.RuleDemand},
		"the disk's key for S3":              {"role launch", "UseVolumeKey", with("StringEquals", "kms:ViaService", "s3.eu-central-1.amazonaws.com"), authorization.RuleDemand},
		"any key for a disk":                 {"role launch", "UseVolumeKey", resource("arn:aws:kms:eu-central-1:111122223333:key/*"), authorization.RuleOwner},
		"grants by other services":           {"role launch", "GrantVolumeKey", without("kms:ViaService"), authorization.RuleDemand},
		"grants for anybody":                 {"role launch", "GrantVolumeKey", without("kms:GrantIsForAWSResource"), authorization.RuleDemand},
		"a condition of grants on all":       {"role launch", "UseVolumeKey", with("Bool", "kms:GrantIsForAWSResource", "true"), authorization.RuleKey},
		"a role for other services":          {"role guard", "PassSchedulerRole", without("iam:PassedToService"), authorization.RuleDemand},
		"events in anybody's name":           {"role sweep", "Publish", without("events:source"), authorization.RuleDemand},
		"events without a name":              {"role sweep", "Publish", swapOperator("Null", ""), authorization.RuleDemand},
		"tags without keys":                  {"role watch", "AskCollectorToStop", swapOperator("Null", ""), authorization.RuleBirth},
		"a key that may be missing":          {"role guard", "PassSchedulerRole", swapOperator("StringEquals", "StringEqualsIfExists"), authorization.RuleDemand},
		"a session without its target":       {"role mirror", "MakeSessionOfOurs", resource("arn:aws:ec2:eu-central-1:111122223333:traffic-mirror-filter/*"), authorization.RuleWhole},
		"a session without itself":           {"role mirror", "MakeSession", action("ec2:DescribeRegions"), authorization.RuleWhole},
		"an instance without its image":      {"role launch", "RunInstanceOfImage", action("ec2:StopInstances"), authorization.RuleWhole},
		"a queue that anybody fills":         {"queue intake.fifo", "Rules", func(st *policy.Statement) { st.Principal = map[string][]string{"AWS": {"*"}} }, authorization.RuleOpen},
		"a queue that every account fills":   {"queue intake.fifo", "Rules", func(st *policy.Statement) { st.Condition = nil }, authorization.RuleOpen},
		"a role that anybody assumes":        {"trust collector", "", func(st *policy.Statement) { st.Principal = map[string][]string{"AWS": {"*"}} }, authorization.RuleOpen},
		"an effect that does not exist":      {"role seal", "ListEvidence", func(st *policy.Statement) { st.Effect = "allow" }, authorization.RuleForm},
		"a principal in a role":              {"role seal", "ListEvidence", func(st *policy.Statement) { st.Principal = map[string][]string{"AWS": {"1"}} }, authorization.RuleForm},
		"no principal in a queue":            {"queue waiting", "OnlyTLS", func(st *policy.Statement) { st.Principal = nil }, authorization.RuleForm},
		"a resource in a trust":              {"trust seal", "", resource("*"), authorization.RuleForm},
		"no resource in a role":              {"role seal", "ListEvidence", func(st *policy.Statement) { st.Resource = nil }, authorization.RuleForm},
		"no action":                          {"role seal", "ListEvidence", func(st *policy.Statement) { st.Action = nil }, authorization.RuleForm},
		"an action twice":                    {"role seal", "UseBucketKey", func(st *policy.Statement) { st.Action = []string{"kms:Decrypt", "kms:Decrypt"} }, authorization.RuleForm},
		"a Sid twice":                        {"role seal", "ListEvidence", func(st *policy.Statement) { st.Sid = "ReadEvidence" }, authorization.RuleForm},
		"a Sid with a dash":                  {"role seal", "ListEvidence", func(st *policy.Statement) { st.Sid = "list-evidence" }, authorization.RuleForm},
		"an empty resource":                  {"role setup", "ReadProgram", also(""), authorization.RuleForm},
	} {
		doc, ok := docs[m.document]
		if !ok {
			t.Errorf("%s: there is no document %s", name, m.document)
			continue
		}
		mutant := clone(t, doc.Document)
		i := slices.IndexFunc(mutant.Statement, func(st policy.Statement) bool { return st.Sid == m.sid })
		if i < 0 {
			t.Errorf("%s: %s has no statement %s", name, m.document, m.sid)
			continue
		}
		before, _ := json.Marshal(mutant.Statement[i])
		reason := mutant.Statement[i].Reason
		m.change(&mutant.Statement[i])
		after, _ := json.Marshal(mutant.Statement[i])
		if string(before) == string(after) && reason == mutant.Statement[i].Reason {
			t.Errorf("%s: the change changes nothing", name)
		}
		var rules []string
		for _, f := range d.Check(mutant, doc.Options) {
			rules = append(rules, f.Rule)
		}
		switch {
		case m.rule == "" && len(rules) > 0:
			t.Errorf("%s: finds %v, where all is right", name, rules)
		case m.rule != "" && !slices.Contains(rules, m.rule):
			t.Errorf("%s: finds %v, not %s", name, rules, m.rule)
		}
	}
}

// TestMissingStatement: what a call needs besides must be there.
func TestMissingStatement(t *testing.T) {
	d := load(t)
	for _, doc := range authorization.Documents(authorization.Example()) {
		if doc.Name != "role mirror" && doc.Name != "role launch" {
			continue
		}
		for i, st := range doc.Document.Statement {
			made := strings.HasPrefix(st.Sid, "Make") || strings.HasPrefix(st.Sid, "RunInstance")
			if !made || slices.Contains([]string{"MakeEndpointInSubnet", "MakeTargetOfCollector", "MakeFilter", "RunInstanceVolume", "RunInstanceByTemplate"}, st.Sid) {
				continue // AWS's data says that the call can do without, or it is all that the call needs
			}
			mutant := clone(t, doc.Document)
			mutant.Statement = slices.Delete(mutant.Statement, i, i+1)
			found := d.Check(mutant, doc.Options)
			if !slices.ContainsFunc(found, func(f authorization.Finding) bool { return f.Rule == authorization.RuleWhole }) {
				t.Errorf("%s without %s: finds %v", doc.Name, st.Sid, found)
			}
		}
	}
}

// TestVersion: in the older version of the grammar ${aws:userid} is a folder of this name.
func TestVersion(t *testing.T) {
	role, _ := policy.RoleOf("collector")
	doc := role.Policy(authorization.Example())
	doc.Version = "2008-10-17"
	if found := load(t).Check(doc, authorization.OptionsFor(authorization.Example())); len(found) != 1 || found[0].Rule != authorization.RuleForm {
		t.Errorf("finds %v", found)
	}
}

func clone(t *testing.T, d policy.Document) policy.Document {
	t.Helper()
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	var c policy.Document
	if err := json.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	for i := range d.Statement {
		c.Statement[i].Reason = d.Statement[i].Reason
	}
	return c
}

func action(name string) func(*policy.Statement) {
	return func(st *policy.Statement) { st.Action = []string{name} }
}

func resource(arn string) func(*policy.Statement) {
	return func(st *policy.Statement) { st.Resource = []string{arn} }
}

func also(arn string) func(*policy.Statement) {
	return func(st *policy.Statement) { st.Resource = append(st.Resource, arn) }
}

func with(operator, key string, values ...string) func(*policy.Statement) {
	return func(st *policy.Statement) {
		if st.Condition == nil {
			st.Condition = policy.Condition{}
		}
		if st.Condition[operator] == nil {
			st.Condition[operator] = map[string][]string{}
		}
		st.Condition[operator][key] = values
	}
}

func without(key string) func(*policy.Statement) {
	return func(st *policy.Statement) {
		for operator, keys := range st.Condition {
			delete(keys, key)
			if len(keys) == 0 {
				delete(st.Condition, operator)
			}
		}
	}
}

func swap(old, key string) func(*policy.Statement) {
	return func(st *policy.Statement) {
		for _, keys := range st.Condition {
			if values, there := keys[old]; there {
				delete(keys, old)
				keys[key] = values
			}
		}
	}
}

// swapOperator replaces an operator; "" drops it.
func swapOperator(old, operator string) func(*policy.Statement) {
	return func(st *policy.Statement) {
		if keys, there := st.Condition[old]; there {
			delete(st.Condition, old)
			if operator != "" {
				st.Condition[operator] = keys
			}
		}
	}
}

// TestEveryConditionIsDemanded drops each condition of each role once. Some rule must miss it, but for those that a
// deployment can do without.
func TestEveryConditionIsDemanded(t *testing.T) {
	d := load(t)
	optional := []string{"ec2:Vpc", "aws:ResourceTag/flashtap:opt-out", "aws:RequestedRegion", "events:detail-type"}
	dropped := 0
	for _, doc := range authorization.Documents(authorization.Example()) {
		if doc.Options.Kind != authorization.Identity {
			continue
		}
		for i, st := range doc.Document.Statement {
			for _, keys := range st.Condition {
				for key := range keys {
					if slices.Contains(optional, key) || doc.Name == "spoke reader" && key == "s3:prefix" {
						continue
					}
					mutant := clone(t, doc.Document)
					without(key)(&mutant.Statement[i])
					if len(d.Check(mutant, doc.Options)) == 0 {
						t.Errorf("%s, %s: nobody misses %s", doc.Name, st.Sid, key)
					}
					dropped++
				}
			}
		}
	}
	if dropped < 100 {
		t.Errorf("only %d conditions were found", dropped)
	}
}
