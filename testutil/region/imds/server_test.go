package imds

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	sdk "github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

func addresses(s ...string) (out []netip.Addr) {
	for _, a := range s {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

func collector() Instance {
	return Instance{
		ID: "i-0123456789abcdef0", Type: "c7g.large", ImageID: "ami-0123456789abcdef0", Architecture: "arm64",
		AccountID: "111122223333", Region: "eu-central-1", AvailabilityZone: "eu-central-1b",
		LaunchTime: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC),
		Interfaces: []Interface{{ID: "eni-0aa", SubnetID: "subnet-0bb", VPCID: "vpc-0cc",
			MAC:   net.HardwareAddr{0x02, 0, 0, 0, 0, 1},
			IPv4s: addresses("10.0.1.20", "10.0.1.21"), IPv6s: addresses("2001:db8::20", "2001:db8::21"),
			SubnetCIDR: netip.MustParsePrefix("10.0.1.0/24"), VPCCIDR: netip.MustParsePrefix("10.0.0.0/16"),
			SecurityGroupIDs: []string{"sg-1", "sg-2"}},
			{ID: "eni-0dd", SubnetID: "subnet-0bb", VPCID: "vpc-0cc", MAC: net.HardwareAddr{0x02, 0, 0, 0, 0, 2},
				IPv4s: addresses("10.0.1.30"), DeviceIndex: 1}},
		UserData:     []byte("#!/bin/sh\nprintf '\xff'\n"),
		Profile:      &Profile{ARN: "arn:aws:iam::111122223333:instance-profile/collector", ID: "AIPAEXAMPLE", Role: "collector", Credentials: fixed},
		MetadataTags: true,
		Tags:         map[string]string{"stop": "no", "aws:ec2launchtemplate:id": "lt-0ee"},
	}
}

func fixed() (Credentials, error) {
	return Credentials{AccessKeyID: "ASIAEXAMPLE", SecretAccessKey: "secret", Token: "session",
		Updated: time.Now(), Expires: time.Now().Add(6 * time.Hour)}, nil
}

func serve(t *testing.T, i Instance) *Server {
	t.Helper()
	s, err := Serve(t.Context(), i)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func client(s *Server) *sdk.Client { return sdk.New(sdk.Options{Endpoint: s.URL}) }

func get(t *testing.T, c *sdk.Client, path string) (string, error) {
	t.Helper()
	out, err := c.GetMetadata(t.Context(), &sdk.GetMetadataInput{Path: path})
	if err != nil {
		return "", err
	}
	defer out.Content.Close()
	body, err := io.ReadAll(out.Content)
	return string(body), err
}

func TestTheSDKReadsTheInstance(t *testing.T) {
	c := client(serve(t, collector()))
	const eni = "network/interfaces/macs/02:00:00:00:00:01/"
	for path, want := range map[string]string{
		"instance-id": "i-0123456789abcdef0", "local-ipv4": "10.0.1.20", "ami-id": "ami-0123456789abcdef0",
		"instance-type": "c7g.large", "mac": "02:00:00:00:00:01", "ipv6": "2001:db8::20",
		"local-hostname":                         "ip-10-0-1-20.eu-central-1.compute.internal",
		"placement/region":                       "eu-central-1",
		"placement/availability-zone":            "eu-central-1b",
		"placement/":                             "availability-zone\nregion",
		"network/interfaces/macs/":               "02:00:00:00:00:01/\n02:00:00:00:00:02/",
		eni + "interface-id":                     "eni-0aa",
		eni + "subnet-id":                        "subnet-0bb",
		eni + "vpc-id":                           "vpc-0cc",
		eni + "local-ipv4s":                      "10.0.1.20\n10.0.1.21",
		eni + "ipv6s":                            "2001:db8::20\n2001:db8::21",
		eni + "security-group-ids":               "sg-1\nsg-2",
		eni + "subnet-ipv4-cidr-block":           "10.0.1.0/24",
		eni + "vpc-ipv4-cidr-block":              "10.0.0.0/16",
		"iam/security-credentials/":              "collector",
		"iam/security-credentials":               "collector",
		"tags/instance":                          "aws:ec2launchtemplate:id\nstop",
		"tags/instance/stop":                     "no",
		"tags/instance/aws:ec2launchtemplate:id": "lt-0ee",
		"network/interfaces/macs/02:00:00:00:00:02/device-number": "1",
	} {
		if got, err := get(t, c, path); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", path, got, err, want)
		}
	}
	for _, path := range []string{"spot/instance-action", "absent", "instance-id/deeper", "tags/instance/absent",
		"network/interfaces/macs/02:00:00:00:00:02/ipv6s", "iam/security-credentials/another"} {
		_, err := get(t, c, path)
		var status *smithyhttp.ResponseError
		if !errors.As(err, &status) || status.HTTPStatusCode() != http.StatusNotFound {
			t.Errorf("%s: %v, want 404", path, err)
		}
	}

	region, err := c.GetRegion(t.Context(), nil)
	if err != nil || region.Region != "eu-central-1" {
		t.Errorf("region %v, %v", region, err)
	}
	document, err := c.GetInstanceIdentityDocument(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := document.InstanceIdentityDocument; d.InstanceID != "i-0123456789abcdef0" || d.PrivateIP != "10.0.1.20" ||
		d.AccountID != "111122223333" || d.Architecture != "arm64" || !d.PendingTime.Equal(collector().LaunchTime) {
		t.Errorf("identity %+v", d)
	}
	info, err := c.GetIAMInfo(t.Context(), nil)
	if err != nil || info.InstanceProfileArn != "arn:aws:iam::111122223333:instance-profile/collector" || info.InstanceProfileID != "AIPAEXAMPLE" {
		t.Errorf("IAM info %+v, %v", info, err)
	}
	data, err := c.GetUserData(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(data.Content); err != nil || string(body) != string(collector().UserData) {
		t.Errorf("user data %q, %v", body, err)
	}
}

func TestAnInstanceWithLessTellsLess(t *testing.T) {
	i := collector()
	i.Profile, i.UserData, i.MetadataTags = nil, nil, false
	i.Tags = map[string]string{"key with spaces": "is fine while tags aren't in the metadata"}
	c := client(serve(t, i))
	for _, path := range []string{"iam/info", "iam/", "tags/instance", "tags/"} {
		if got, err := get(t, c, path); err == nil {
			t.Errorf("%s: %q", path, got)
		}
	}
	if _, err := c.GetUserData(t.Context(), nil); err == nil {
		t.Error("user data where there is none")
	}
}

func TestTagsChangeWhileTheInstanceRuns(t *testing.T) {
	s := serve(t, collector())
	c := client(s)
	tags := map[string]string{"stop": "now"}
	if err := s.SetTags(tags); err != nil {
		t.Fatal(err)
	}
	tags["stop"] = "changed by the caller afterwards"
	if got, err := get(t, c, "tags/instance/stop"); err != nil || got != "now" {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := get(t, c, "tags/instance"); err != nil || got != "stop" {
		t.Errorf("%q, %v", got, err)
	}
	for _, key := range []string{"", "a/b", "a b", ".", "..", "_index", "ü"} {
		if err := s.SetTags(map[string]string{key: ""}); err == nil {
			t.Errorf("key %q was taken", key)
		}
	}
	if got, err := get(t, c, "tags/instance/stop"); err != nil || got != "now" {
		t.Errorf("a refused change changed something: %q, %v", got, err)
	}
	if err := s.SetTags(nil); err != nil {
		t.Fatal(err)
	}
	if got, err := get(t, c, "tags/instance"); err == nil {
		t.Errorf("%q without any tag", got)
	}
}

func TestTheSDKTakesTheRolesCredentials(t *testing.T) {
	i := collector()
	expires := time.Now().Add(30 * time.Minute).Truncate(time.Second).UTC()
	key := "ASIAFIRST"
	var cause error
	i.Profile.Credentials = func() (Credentials, error) {
		return Credentials{AccessKeyID: key, SecretAccessKey: "secret", Token: "session", Expires: expires}, cause
	}
	s := serve(t, i)
	provider := ec2rolecreds.New(func(o *ec2rolecreds.Options) { o.Client = client(s) })

	got, err := provider.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got.AccessKeyID != "ASIAFIRST" || got.SecretAccessKey != "secret" || got.SessionToken != "session" || !got.CanExpire || !got.Expires.Equal(expires) {
		t.Errorf("%+v", got)
	}
	key = "ASIASECOND"
	if got, err = provider.Retrieve(t.Context()); err != nil || got.AccessKeyID != "ASIASECOND" {
		t.Errorf("after the change: %+v, %v", got, err)
	}
	cause = errors.New("the role is gone")
	if _, err = provider.Retrieve(t.Context()); err == nil || !strings.Contains(err.Error(), "AssumeRoleUnauthorizedAccess") {
		t.Errorf("without credentials: %v", err)
	}
}

// ask sends one request without the SDK's good manners.
func ask(h http.Handler, method, path string, headers map[string]string) *http.Response {
	r := httptest.NewRequest(method, path, nil)
	for k, v := range headers {
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func token(t *testing.T, h http.Handler, seconds int) string {
	t.Helper()
	answer := ask(h, "PUT", "/latest/api/token", map[string]string{"X-aws-ec2-metadata-token-ttl-seconds": strconv.Itoa(seconds)})
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK || answer.Header.Get("X-Aws-Ec2-Metadata-Token-Ttl-Seconds") != strconv.Itoa(seconds) {
		t.Fatalf("no token: %d, %v, %v", answer.StatusCode, answer.Header, err)
	}
	return string(body)
}

func TestOnlyATokenOpens(t *testing.T) {
	s, err := newServer(collector())
	if err != nil {
		t.Fatal(err)
	}
	valid := map[string]string{"X-aws-ec2-metadata-token": token(t, s, 60)}
	with := func(key, value string) map[string]string {
		h := maps.Clone(valid)
		h[key] = value
		return h
	}
	const ttl = "X-aws-ec2-metadata-token-ttl-seconds"
	for _, c := range []struct {
		reason, method, path string
		headers              map[string]string
		want                 int
	}{
		{"with a token", "GET", "/latest/meta-data/instance-id", valid, 200},
		{"version 1", "GET", "/latest/meta-data/instance-id", nil, 401},
		{"version 1 learns not even what exists", "GET", "/latest/meta-data/absent", nil, 401},
		{"version 1 for user data", "GET", "/latest/user-data", nil, 401},
		{"an invented token", "GET", "/latest/meta-data/instance-id", with("X-aws-ec2-metadata-token", "AQAAAA=="), 401},
		{"an empty token", "GET", "/latest/meta-data/instance-id", with("X-aws-ec2-metadata-token", ""), 401},
		{"another version", "GET", "/2009-04-04/meta-data/instance-id", valid, 404},
		{"nothing changes metadata", "POST", "/latest/meta-data/instance-id", valid, 405},
		{"PUT is for tokens alone", "PUT", "/latest/meta-data/instance-id", valid, 405},
		{"GET gives no token", "GET", "/latest/api/token", with(ttl, "60"), 405},
		{"no time to live", "PUT", "/latest/api/token", nil, 400},
		{"no number", "PUT", "/latest/api/token", map[string]string{ttl: "long"}, 400},
		{"no second", "PUT", "/latest/api/token", map[string]string{ttl: "0"}, 400},
		{"six hours", "PUT", "/latest/api/token", map[string]string{ttl: "21600"}, 200},
		{"more than six hours", "PUT", "/latest/api/token", map[string]string{ttl: "21601"}, 400},
		{"through a proxy", "PUT", "/latest/api/token", map[string]string{ttl: "60", "X-Forwarded-For": "10.0.0.1"}, 403},
	} {
		t.Run(c.reason, func(t *testing.T) {
			if got := ask(s, c.method, c.path, c.headers).StatusCode; got != c.want {
				t.Errorf("%d, want %d", got, c.want)
			}
		})
	}
}

func TestTokensEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := newServer(collector())
		if err != nil {
			t.Fatal(err)
		}
		h := map[string]string{"X-aws-ec2-metadata-token": token(t, s, 60)}
		status := func() int { return ask(s, "GET", "/latest/meta-data/mac", h).StatusCode }
		time.Sleep(59 * time.Second)
		answer := ask(s, "GET", "/latest/meta-data/mac", h)
		if answer.StatusCode != 200 || answer.Header.Get("X-Aws-Ec2-Metadata-Token-Ttl-Seconds") != "1" {
			t.Errorf("a second before its end: %d, %v", answer.StatusCode, answer.Header)
		}
		time.Sleep(time.Second)
		if got := status(); got != 401 {
			t.Errorf("at its end: %d", got)
		}
		token(t, s, 60)
		if len(s.tokens) != 1 {
			t.Errorf("%d tokens are kept", len(s.tokens))
		}
	})
}

func TestTheServiceEndsWithItsContext(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	s, err := Serve(ctx, collector())
	if err != nil {
		t.Fatal(err)
	}
	stop()
	select {
	case err := <-s.done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("it goes on")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := http.Get(s.URL); err == nil {
		t.Error("somebody answers")
	}
}

func TestInstancesThatCannotBeAreRefused(t *testing.T) {
	for reason, change := range map[string]func(*Instance){
		"no id":                      func(i *Instance) { i.ID = "" },
		"no interface":               func(i *Instance) { i.Interfaces = nil },
		"an interface without MAC":   func(i *Instance) { i.Interfaces[1].MAC = nil },
		"an interface without IPv4":  func(i *Instance) { i.Interfaces[0].IPv4s = nil },
		"a profile without role":     func(i *Instance) { i.Profile.Role = "" },
		"a role without credentials": func(i *Instance) { i.Profile.Credentials = nil },
		"a tag that can't be a path": func(i *Instance) { i.Tags = map[string]string{"a/b": ""} },
	} {
		t.Run(reason, func(t *testing.T) {
			i := collector()
			change(&i)
			if _, err := Serve(t.Context(), i); err == nil {
				t.Error("no error")
			}
		})
	}
}

func FuzzRead(f *testing.F) {
	for _, path := range []string{"", "meta-data/", "meta-data/iam/info", "user-data", "//", "meta-data/tags/instance/../../"} {
		f.Add(path)
	}
	i := collector()
	f.Fuzz(func(t *testing.T, path string) {
		all := newTree(i, i.Tags)
		body, found, err := all.read(path)
		if err != nil {
			t.Fatal(err)
		}
		if !found {
			if body != nil {
				t.Fatalf("%q isn't there and is %q", path, body)
			}
			return
		}
		if _, leaf := all[strings.Trim(path, "/")]; leaf {
			return
		}
		for name := range strings.Lines(string(body)) { // every name in a folder can be read
			if _, found, err := all.read(strings.Trim(path, "/") + "/" + strings.TrimSpace(name)); !found || err != nil {
				t.Fatalf("%q lists %q, which isn't there: %v", path, name, err)
			}
		}
	})
}

func TestDocumentsAreJSON(t *testing.T) {
	i := collector()
	for _, path := range []string{"meta-data/iam/info", "meta-data/iam/security-credentials/collector", "dynamic/instance-identity/document"} {
		body, found, err := newTree(i, nil).read(path)
		if !found || err != nil || !json.Valid(body) {
			t.Errorf("%s: %s, %v", path, body, err)
		}
	}
}
