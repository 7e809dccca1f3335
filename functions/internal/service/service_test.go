package service_test

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"flashtap/functions/internal/awserr"
	"flashtap/functions/internal/service"
	"flashtap/testutil/iam"
	"flashtap/testutil/region"
	"flashtap/testutil/region/cloudwatch"
	"flashtap/testutil/region/kms"
	"flashtap/testutil/region/quotas"
	"flashtap/testutil/region/simulator"
	"flashtap/testutil/stage"
)

func client(s *stage.Stage) service.Client { return service.Client{Config: s.Config} }

func TestMetrics(t *testing.T) {
	s := stage.New(t, nil)
	series := cloudwatch.Series{Namespace: "AWS/EC2", Name: "NetworkIn", Dimensions: map[string]string{"InstanceId": "i-0d0d0d0d"}}
	at := time.Now().UTC().Truncate(5 * time.Minute).Add(-time.Hour)
	s.Metrics.Put(series, cloudwatch.Sample{At: at, Value: 7}, cloudwatch.Sample{At: at.Add(5 * time.Minute), Value: 9})
	ask := func(id, instance string) service.Metric {
		return service.Metric{ID: id, Namespace: "AWS/EC2", Name: "NetworkIn", Stat: "Sum", Period: 5 * time.Minute, Dimensions: map[string]string{"InstanceId": instance}}
	}
	points, err := client(s).Metrics(t.Context(), []service.Metric{ask("in", "i-0d0d0d0d"), ask("none", "i-0e0e0e0e")}, at, at.Add(time.Hour))
	if err != nil || len(points["in"]) != 2 || points["in"][0] != (service.Point{At: at, Value: 7}) || points["in"][1].Value != 9 || len(points["none"]) != 0 {
		t.Errorf("%v, %v", points, err)
	}
}

// TestSign: what KMS signs, anybody can verify by the public half.
func TestSign(t *testing.T) {
	s := stage.New(t, nil)
	arn, der, err := client(s).PublicKey(t.Context(), s.SigningKey)
	if err != nil || arn != s.SigningKey {
		t.Fatalf("%s, %v", arn, err)
	}
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("manifest"))
	signature, err := client(s).Sign(t.Context(), s.SigningKey, digest[:])
	if public, ok := key.(*ecdsa.PublicKey); err != nil || !ok || !ecdsa.VerifyASN1(public, digest[:], signature) {
		t.Errorf("the signature does not verify: %v", err)
	}
	secret := s.KMS.AddKey(kms.Key{})
	if _, _, err := client(s).PublicKey(t.Context(), secret); err == nil {
		t.Error("a symmetric key has a public half")
	}
	if _, err := client(s).Sign(t.Context(), secret, digest[:]); err == nil || !strings.Contains(err.Error(), secret) {
		t.Errorf("a symmetric key signs: %v", err)
	}
}

func TestKey(t *testing.T) {
	s := stage.New(t, nil)
	arn := s.KMS.AddKey(kms.Key{})
	if k, err := client(s).Key(t.Context(), arn); err != nil || k.ARN != arn || k.State != "Enabled" || !k.Deletion.IsZero() {
		t.Errorf("%+v, %v", k, err)
	}
	s.KMS.SetState(arn, "PendingDeletion")
	if k, err := client(s).Key(t.Context(), arn); err != nil || k.State != "PendingDeletion" || k.Deletion.IsZero() {
		t.Errorf("%+v, %v", k, err)
	}
	if _, err := client(s).Key(t.Context(), strings.Replace(arn, "key/", "key/0", 1)); awserr.Code(err) != "NotFoundException" {
		t.Errorf("no such key: %v", err)
	}
}

func TestQuota(t *testing.T) {
	s := stage.New(t, nil)
	s.Quotas.Set(quotas.Quota{Service: "ec2", Code: "L-1216C47A", Value: 33})
	if value, err := client(s).Quota(t.Context(), "ec2", "L-1216C47A"); err != nil || value != 33 {
		t.Errorf("%v, %v", value, err)
	}
	if _, err := client(s).Quota(t.Context(), "ec2", "L-00000000"); awserr.Code(err) != "NoSuchResourceException" {
		t.Errorf("no such quota: %v", err)
	}
}

func TestSimulate(t *testing.T) {
	s := stage.New(t, nil)
	const role = "arn:aws:iam::111122223333:role/launch"
	policy, err := iam.Parse("launch", json.RawMessage(`{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "ec2:RunInstances", "Resource": "arn:aws:ec2:*:*:instance/*",
		"Condition": {"Bool": {"ec2:Encrypted": "true"}}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	s.IAM.AddRole(simulator.Role{ARN: role, Policies: []*iam.Policy{policy}})
	ask := service.Simulation{Principal: role, Actions: []string{"ec2:RunInstances", "ec2:StopInstances"},
		Resources: []string{"arn:aws:ec2:eu-central-1:111122223333:instance/*"}, Context: map[string][]string{"ec2:Encrypted": {"true"}}}
	list, err := client(s).Simulate(t.Context(), ask)
	if err != nil || len(list) != 2 || list[0].Action != "ec2:RunInstances" || list[0].Resource != ask.Resources[0] || list[0].Decision != "allowed" || list[1].Decision != "implicitDeny" {
		t.Errorf("%+v, %v", list, err)
	}
	ask.Context = nil
	if list, err := client(s).Simulate(t.Context(), ask); err != nil || list[0].Decision != "implicitDeny" || len(list[0].Missing) != 1 {
		t.Errorf("without the condition's key: %+v, %v", list, err)
	}
	if _, err := client(s).Simulate(t.Context(), service.Simulation{Principal: role + "s", Actions: ask.Actions, Resources: ask.Resources}); awserr.Code(err) != "NoSuchEntity" {
		t.Errorf("no such role: %v", err)
	}
}

// TestQuestionsAreAskedTwice: what can be done without does not hold up the rest; what is needed is asked for longer.
func TestQuestionsAreAskedTwice(t *testing.T) {
	s := stage.New(t, nil)
	asked := 0
	s.Inject(func(c region.Call) *region.Fault {
		if c.Operation == "GetServiceQuota" {
			asked++
			return &region.Fault{Code: "ServiceException", Status: 500}
		}
		return nil
	})
	c := client(s)
	c.Config.Retryer = nil // the SDK's own
	if _, err := c.Quota(t.Context(), "ec2", "L-1216C47A"); err == nil || asked != 2 {
		t.Errorf("asked %d times: %v", asked, err)
	}
}

func TestPublish(t *testing.T) {
	s := stage.New(t, nil)
	const topic = "arn:aws:sns:eu-central-1:111122223333:witness"
	if err := client(s).Publish(t.Context(), topic, "a subject", `{"a": "&=ü"}`); err != nil {
		t.Fatal(err)
	}
	if told := s.Told(topic); len(told) != 1 || told[0] != `{"a": "&=ü"}` {
		t.Errorf("the topic was told %q", told)
	}
}
