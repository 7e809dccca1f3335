package region_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"flashtap/testutil/iam"
	"flashtap/testutil/region"
	"flashtap/testutil/region/cloudwatch"
	"flashtap/testutil/region/dataplane"
	regionec2 "flashtap/testutil/region/ec2"
	"flashtap/testutil/region/kms"
	"flashtap/testutil/region/quotas"
	"flashtap/testutil/region/simulator"
)

// ask calls an operation in JSON and returns the answer.
func ask(t *testing.T, r *region.Region, service, target string, params any) (int, map[string]any) {
	t.Helper()
	body, err := json.Marshal(params)
	must(t, err)
	version := "1.1"
	if service == "monitoring" {
		version = "1.0"
	}
	status, text := signed(t, r, service, "us-east-1", "POST", "/", http.Header{"Content-Type": {"application/x-amz-json-" + version}, "X-Amz-Target": {target}}, string(body))
	var answer map[string]any
	must(t, json.Unmarshal([]byte(text), &answer))
	return status, answer
}

// refusal is the error in an answer.
func refusal(status int, answer map[string]any) string {
	if status < http.StatusBadRequest {
		return ""
	}
	text, _ := answer["__type"].(string)
	return text[strings.LastIndexByte(text, '#')+1:]
}

func TestKeys(t *testing.T) {
	r := start(t, region.Config{})
	describe := func(id string) (string, map[string]any) {
		status, answer := ask(t, r, "kms", "TrentService.DescribeKey", map[string]any{"KeyId": id})
		metadata, _ := answer["KeyMetadata"].(map[string]any)
		return refusal(status, answer), metadata
	}
	plain := r.KMS.AddKey(kms.Key{Aliases: []string{"alias/evidence"}, Description: "evidence"})
	id := plain[strings.LastIndexByte(plain, '/')+1:]
	alias := "arn:aws:kms:us-east-1:123456789012:alias/evidence"
	for _, name := range []string{plain, id, "alias/evidence", alias} {
		refused, m := describe(name)
		equal(t, name, []any{refused, m["Arn"], m["KeyState"], m["Enabled"], m["KeyUsage"]}, []any{"", plain, "Enabled", true, "ENCRYPT_DECRYPT"})
	}
	for _, name := range []string{"alias/other", "11111111-2222-3333-4444-555555555555", strings.Replace(plain, "us-east-1", "eu-west-1", 1)} {
		if refused, _ := describe(name); refused != "NotFoundException" {
			t.Errorf("%s: %q", name, refused)
		}
	}
	r.KMS.SetState(plain, kms.PendingDeletion)
	_, m := describe(plain)
	equal(t, "a key that goes", []any{m["KeyState"], m["Enabled"], m["DeletionDate"] != nil}, []any{"PendingDeletion", false, true})

	// What it signs is true by its public key, and by no other.
	status, public := ask(t, r, "kms", "TrentService.GetPublicKey", map[string]any{"KeyId": r.SigningKey})
	equal(t, "status", status, 200)
	der, err := base64.StdEncoding.DecodeString(public["PublicKey"].(string))
	must(t, err)
	parsed, err := x509.ParsePKIXPublicKey(der)
	must(t, err)
	digest := sha256.Sum256([]byte("a manifest"))
	sign := func(key, kind string, message []byte) (string, []byte) {
		status, answer := ask(t, r, "kms", "TrentService.Sign", map[string]any{"KeyId": key, "Message": message, "MessageType": kind, "SigningAlgorithm": "ECDSA_SHA_256"})
		text, _ := answer["Signature"].(string)
		signature, err := base64.StdEncoding.DecodeString(text)
		must(t, err)
		return refusal(status, answer), signature
	}
	for kind, message := range map[string][]byte{"DIGEST": digest[:], "RAW": []byte("a manifest")} {
		refused, signature := sign(r.SigningKey, kind, message)
		equal(t, kind, refused, "")
		if !ecdsa.VerifyASN1(parsed.(*ecdsa.PublicKey), digest[:], signature) {
			t.Errorf("the signature of a %s does not verify", kind)
		}
		other := sha256.Sum256([]byte("another manifest"))
		if ecdsa.VerifyASN1(parsed.(*ecdsa.PublicKey), other[:], signature) {
			t.Errorf("the signature of a %s verifies for anything", kind)
		}
	}
	refused, _ := sign(r.SigningKey, "DIGEST", digest[:20])
	equal(t, "half a digest", refused, "ValidationException")
	refused, _ = sign(plain, "DIGEST", digest[:])
	equal(t, "a symmetric key", refused, "InvalidKeyUsageException")
	for state, want := range map[string]string{kms.Disabled: "DisabledException", kms.PendingDeletion: "KMSInvalidStateException", kms.Unavailable: "KeyUnavailableException"} {
		r.KMS.SetState(r.SigningKey, state)
		refused, _ = sign(r.SigningKey, "DIGEST", digest[:])
		equal(t, state, refused, want)
	}
}

func TestServiceQuotas(t *testing.T) {
	r := start(t, region.Config{EC2: regionec2.Config{Limits: regionec2.Limits{VCPUs: 32}}})
	value := func(service, quota string) any {
		status, answer := ask(t, r, "servicequotas", "ServiceQuotasV20190624.GetServiceQuota", map[string]any{"ServiceCode": service, "QuotaCode": quota})
		if refused := refusal(status, answer); refused != "" {
			return refused
		}
		return answer["Quota"].(map[string]any)["Value"]
	}
	equal(t, "vCPUs", value("ec2", quotas.StandardVCPUs), 32.0)
	r.EC2.SetLimits(func(l *regionec2.Limits) { l.VCPUs, l.SecurityGroupsInVPC = 64, 10 })
	equal(t, "vCPUs", value("ec2", quotas.StandardVCPUs), 64.0)
	equal(t, "groups", value("vpc", "L-E79EC296"), 10.0)
	equal(t, "one that does not exist", value("ec2", "L-00000000"), "NoSuchResourceException")
	r.Quotas.Set(quotas.Quota{Service: "ec2", Code: quotas.StandardVCPUs, Value: 5})
	equal(t, "one that was set", value("ec2", quotas.StandardVCPUs), 5.0)
}

// metric asks for the sum of a metric of an instance, by the minute, oldest first.
func metric(t *testing.T, r *region.Region, namespace, name, stat string, dimensions map[string]string, period int, from, to time.Time) (values []float64, at []time.Time) {
	t.Helper()
	list := []map[string]string{}
	for k, v := range dimensions {
		list = append(list, map[string]string{"Name": k, "Value": v})
	}
	status, answer := ask(t, r, "monitoring", "GraniteServiceVersion20100801.GetMetricData", map[string]any{
		"StartTime": from.Unix(), "EndTime": to.Unix(), "ScanBy": "TimestampAscending", "MetricDataQueries": []any{map[string]any{"Id": "m",
			"MetricStat": map[string]any{"Period": period, "Stat": stat, "Metric": map[string]any{"Namespace": namespace, "MetricName": name, "Dimensions": list}}}}})
	if status != 200 {
		t.Fatalf("GetMetricData: %d %v", status, answer)
	}
	result := answer["MetricDataResults"].([]any)[0].(map[string]any)
	equal(t, "status of the data", result["StatusCode"], "Complete")
	for i, v := range result["Values"].([]any) {
		values = append(values, v.(float64))
		at = append(at, time.Unix(int64(result["Timestamps"].([]any)[i].(float64)), 0))
	}
	return values, at
}

func TestMetricsThatATestSets(t *testing.T) {
	r := start(t, region.Config{})
	now := time.Now()
	suspect := map[string]string{"InstanceId": "i-0123456789abcdef0"}
	series := cloudwatch.Series{Namespace: "AWS/EC2", Name: "NetworkOut", Dimensions: suspect}
	ask := func(stat string, period int, from, to time.Duration) []float64 {
		values, _ := metric(t, r, "AWS/EC2", "NetworkOut", stat, suspect, period, now.Add(from), now.Add(to))
		return values
	}
	equal(t, "of an instance that is not there", len(ask("Sum", 300, -time.Hour, 0)), 0)
	r.Metrics.Set(series, 3e6)
	values := ask("Sum", 300, -time.Hour, 0)
	if len(values) < 10 || len(values) > 11 || values[0] != 3e6 { // the last ten minutes are not there yet
		t.Errorf("in an hour: %v", values)
	}
	if values := ask("Sum", 900, -time.Hour, -30*time.Minute); len(values) < 2 || values[1] != 9e6 {
		t.Errorf("by the quarter: %v", values)
	}
	equal(t, "of the last minutes", len(ask("Sum", 60, -5*time.Minute, 0)), 0)
	r.Metrics.Put(series, cloudwatch.Sample{At: now.Add(-3 * time.Minute), Value: 5}, cloudwatch.Sample{At: now.Add(-2 * time.Minute), Value: 7})
	equal(t, "of what was published", ask("Sum", 3600, -4*time.Minute, 0)[0] >= 5, true)
	equal(t, "at most", ask("Maximum", 60, -4*time.Minute, 0), []float64{5, 7})
	r.Metrics.Reset(series)
	equal(t, "given back", len(ask("Sum", 300, -time.Hour, 0)), 0)
}

// The metrics of an instance are what its interfaces carried, as late as AWS has them.
func TestMetricsOfAnInstance(t *testing.T) {
	t.Parallel()
	r := start(t, region.Config{Metrics: region.MetricsConfig{Every: time.Second, Lag: -1}})
	slow := start(t, region.Config{})
	net := block(t)
	s := place(r, net+"0.0/16", net+"1.0/24", net+"1.10")
	place(slow, net+"0.0/16", net+"1.0/24", net+"1.10")
	plane, err := r.AddTraffic(s.suspect, dataplane.Config{Interface: s.suspect, Address: netip.MustParseAddr(net + "1.10"), Traffic: replay(t, true), PacketsPerSecond: 500})
	must(t, err)
	suspect := map[string]string{"InstanceId": "i-0123456789abcdef0"}
	from := time.Now().Add(-10 * time.Minute)
	sum := func(r *region.Region, name string) (total float64) {
		values, _ := metric(t, r, "AWS/EC2", name, "Sum", suspect, 60, from, time.Now().Add(time.Minute))
		for _, v := range values {
			total += v
		}
		return total
	}
	values, at := metric(t, r, "AWS/EC2", "NetworkPacketsIn", "Sum", suspect, 60, from, time.Now())
	if len(values) < 9 || values[0] != 0 || !at[0].Equal(at[0].Truncate(time.Minute)) {
		t.Errorf("of an idle instance: %v at %v", values, at)
	}
	equal(t, "vCPUs", func() float64 {
		values, _ := metric(t, slow, "AWS/Usage", "ResourceCount", "Maximum", quotas.StandardUsage(), 300, from.Add(-time.Hour), time.Now())
		return values[len(values)-1]
	}(), 2.0) // an m5.large

	plane.StartTraffic()
	eventually(t, "it carries packets both ways", func() bool { return sum(r, "NetworkPacketsIn") > 20 && sum(r, "NetworkPacketsOut") > 20 })
	equal(t, "mirrored without a session", sum(r, "NetworkPacketsMirrorOut"), 0.0)
	if in, packets := sum(r, "NetworkIn"), sum(r, "NetworkPacketsIn"); in < 60*packets {
		t.Errorf("%v bytes in %v packets", in, packets)
	}
	r.EC2.RemoveGroupRules(s.group, false) // copies that get lost have been made, too
	s.mirror(t, ec2.NewFromConfig(client(r, "tester")))
	eventually(t, "it mirrors", func() bool { return sum(r, "NetworkPacketsMirrorIn") > 10 && sum(r, "NetworkMirrorOut") > 1000 })
	equal(t, "skipped", sum(r, "NetworkPacketsSkipMirrorOut"), 0.0)

	quiet, _ := metric(t, slow, "AWS/EC2", "NetworkPacketsIn", "Sum", suspect, 60, time.Now().Add(-5*time.Minute), time.Now())
	equal(t, "as late as AWS", len(quiet), 0)
	r.EC2.StopSuspect("i-0123456789abcdef0")
	eventually(t, "it has stopped", func() bool { i, _ := r.EC2.Instance("i-0123456789abcdef0"); return i.State == "stopped" })
	equal(t, "of a stopped instance", sum(r, "NetworkPacketsIn"), 0.0)
}

func TestMetricQuestionsThatAreRefused(t *testing.T) {
	r := start(t, region.Config{})
	stat := func(period int, stat string) map[string]any {
		return map[string]any{"Period": period, "Stat": stat, "Metric": map[string]any{"Namespace": "AWS/EC2", "MetricName": "NetworkIn"}}
	}
	query := func(id string, with map[string]any) map[string]any {
		return map[string]any{"Id": id, "MetricStat": with}
	}
	for name, queries := range map[string][]any{
		"a period of 90 s":       {query("m", stat(90, "Sum"))},
		"a statistic of no name": {query("m", stat(60, "Total"))},
		"an id in capitals":      {query("M", stat(60, "Sum"))},
		"the same id twice":      {query("m", stat(60, "Sum")), query("m", stat(60, "Sum"))},
		"metric math":            {map[string]any{"Id": "m", "Expression": "SUM(METRICS())"}},
	} {
		status, answer := ask(t, r, "monitoring", "GraniteServiceVersion20100801.GetMetricData", map[string]any{"StartTime": 0, "EndTime": 3600, "MetricDataQueries": queries})
		if got := refusal(status, answer); got != "InvalidParameterValueException" {
			t.Errorf("%s: %q", name, got)
		}
	}
	status, answer := ask(t, r, "monitoring", "GraniteServiceVersion20100801.GetMetricData", map[string]any{"StartTime": 3600, "EndTime": 3600, "MetricDataQueries": []any{query("m", stat(60, "Sum"))}})
	equal(t, "no time between", refusal(status, answer), "InvalidParameterValueException")
}

const simulated = "arn:aws:iam::123456789012:role/launch"

func policyOf(text string) *iam.Policy {
	return iam.MustParse("launch", `{"Version": "2012-10-17", "Statement": `+text+`}`)
}

func TestSimulation(t *testing.T) {
	r := start(t, region.Config{Name: "eu-central-1"})
	simulate := func(t *testing.T, form string) (int, string) {
		t.Helper()
		body := "Action=SimulatePrincipalPolicy&Version=2010-05-08&PolicySourceArn=" + simulated + "&" + form
		return signed(t, r, "iam", "us-east-1", "POST", "/", http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, body)
	}
	const run = "ActionNames.member.1=ec2:RunInstances"
	status, text := simulate(t, run)
	if status != 404 || !strings.Contains(text, "<Code>NoSuchEntity</Code>") {
		t.Errorf("a role that nobody registered: %d %s", status, text)
	}
	allow := policyOf(`[{"Effect": "Allow", "Action": "ec2:RunInstances", "Resource": "arn:aws:ec2:*:*:instance/*", "Condition": {"StringEquals": {"aws:RequestTag/owner": "flashtap"}}}]`)
	everything := policyOf(`[{"Effect": "Allow", "Action": "*", "Resource": "*"}]`)
	const on = run + "&ResourceArns.member.1=arn:aws:ec2:eu-central-1:123456789012:instance/*"
	const owner = "&ContextEntries.member.1.ContextKeyName=aws:RequestTag/owner&ContextEntries.member.1.ContextKeyType=string&ContextEntries.member.1.ContextKeyValues.member.1="
	for _, row := range []struct {
		reason string
		role   simulator.Role
		scps   []*iam.Policy
		form   string
		want   []string
	}{
		{"the policy allows it", simulator.Role{Policies: []*iam.Policy{allow}}, nil, on + owner + "flashtap", []string{"<EvalDecision>allowed<", "<SourcePolicyId>launch<"}},
		{"the condition fails", simulator.Role{Policies: []*iam.Policy{allow}}, nil, on + owner + "other", []string{"<EvalDecision>implicitDeny<"}},
		{"the key is missing", simulator.Role{Policies: []*iam.Policy{allow}}, nil, on, []string{"<EvalDecision>implicitDeny<", "<MissingContextValues><member>aws:RequestTag/owner<"}},
		{"another resource", simulator.Role{Policies: []*iam.Policy{allow}}, nil, run + owner + "flashtap", []string{"<EvalDecision>implicitDeny<", "<EvalResourceName>*<"}},
		{"a denial", simulator.Role{Policies: []*iam.Policy{everything, policyOf(`[{"Effect": "Deny", "Action": "ec2:*", "Resource": "*"}]`)}}, nil, run, []string{"<EvalDecision>explicitDeny<"}},
		{"the boundary does not allow it", simulator.Role{Policies: []*iam.Policy{everything}, Boundary: policyOf(`[{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]`)}, nil, run,
			[]string{"<EvalDecision>implicitDeny<", "<AllowedByPermissionsBoundary>false<"}},
		{"an SCP denies it", simulator.Role{Policies: []*iam.Policy{everything}}, []*iam.Policy{everything, policyOf(`[{"Effect": "Deny", "Action": "ec2:RunInstances", "Resource": "*"}]`)}, run,
			[]string{"<EvalDecision>explicitDeny<", "<AllowedByOrganizations>false<"}},
		{"SCPs allow it", simulator.Role{Policies: []*iam.Policy{everything}}, []*iam.Policy{everything}, run, []string{"<EvalDecision>allowed<", "<AllowedByOrganizations>true<"}},
		{"no SCP allows it", simulator.Role{Policies: []*iam.Policy{everything}}, []*iam.Policy{policyOf(`[{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]`)}, run,
			[]string{"<EvalDecision>implicitDeny<", "<AllowedByOrganizations>false<"}},
	} {
		t.Run(row.reason, func(t *testing.T) {
			row.role.ARN = simulated
			r.IAM.AddRole(row.role)
			r.IAM.SetSCPs(row.scps...)
			status, text := simulate(t, row.form)
			for _, want := range row.want {
				if status != 200 || !strings.Contains(text, want) {
					t.Errorf("%d without %s: %s", status, want, text)
				}
			}
		})
	}
}

// The aws command reads the answers as it reads AWS's own.
func TestServicesByTheAWSCommand(t *testing.T) {
	t.Parallel()
	for name, program := range commands(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, region.Config{})
			subnet := r.EC2.AddSubnet(regionec2.Subnet{VPC: r.EC2.AddVPC(regionec2.VPC{CIDR: "10.0.0.0/16"}), CIDR: "10.0.1.0/24"})
			r.EC2.AddInstance(regionec2.InstanceSeed{ID: "i-0123456789abcdef0", Type: "m5.large", Interfaces: []regionec2.InterfaceSeed{{Subnet: subnet}}})
			r.IAM.AddRole(simulator.Role{ARN: simulated, Policies: []*iam.Policy{policyOf(`[{"Effect": "Allow", "Action": "ec2:RunInstances", "Resource": "*"}]`)}})
			run := func(path string, args ...string) string {
				cmd := exec.CommandContext(t.Context(), program, append([]string{"--endpoint-url", r.Endpoint(), "--output", "json"}, args...)...)
				cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "AWS_PAGER=", "AWS_MAX_ATTEMPTS=1"}
				for name, value := range r.Environ("operator") {
					cmd.Env = append(cmd.Env, name+"="+value)
				}
				var said bytes.Buffer
				cmd.Stderr = &said
				out, err := cmd.Output()
				if err != nil {
					return fmt.Sprintf("%v: %s", err, &said)
				}
				var answer map[string]any
				if err := json.Unmarshal(out, &answer); err != nil {
					return err.Error()
				}
				return at(answer, path)
			}
			end := time.Now().UTC().Add(-10 * time.Minute)
			together(
				func() {
					equal(t, "key", run("KeyMetadata.KeySpec", "kms", "describe-key", "--key-id", r.SigningKey), "ECC_NIST_P256")
				},
				func() {
					equal(t, "quota", run("Quota.Value", "service-quotas", "get-service-quota", "--service-code", "ec2", "--quota-code", quotas.StandardVCPUs), "1152")
				},
				func() {
					equal(t, "decision", run("EvaluationResults.0.EvalDecision", "iam", "simulate-principal-policy", "--policy-source-arn", simulated, "--action-names", "ec2:RunInstances"), "allowed")
				},
				func() {
					equal(t, "metric", run("MetricDataResults.0.Values.0", "cloudwatch", "get-metric-data", "--start-time", end.Add(-time.Hour).Format(time.RFC3339), "--end-time", end.Format(time.RFC3339),
						"--metric-data-queries", `[{"Id":"m","MetricStat":{"Metric":{"Namespace":"AWS/EC2","MetricName":"NetworkIn","Dimensions":[{"Name":"InstanceId","Value":"i-0123456789abcdef0"}]},"Period":300,"Stat":"Sum"}}]`), "0")
				})
		})
	}
}
