package ec2

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"
)

// land is a small deployment: one VPC with a suspect, a place for a collector and
// what a launch needs, and a client of the SDK that talks to it.
type land struct {
	*Service
	t      *testing.T
	api    *sdk.Client
	vpc    string
	subnet string // in the first zone, with IPv6
	other  string // in the second zone
	image  string
	lt     string
	source string // the suspect's interface
	host   string // the suspect
}

// inMemory carries a client's requests to a handler without a socket, so that a
// test can run in a testing/synctest bubble.
type inMemory struct{ http.Handler }

func (m inMemory) Do(r *http.Request) (*http.Response, error) {
	recorder := httptest.NewRecorder()
	var dropped any
	func() {
		defer func() { dropped = recover() }()
		m.ServeHTTP(recorder, r)
	}()
	if dropped != nil {
		return nil, fmt.Errorf("connection closed: %v", dropped)
	}
	return recorder.Result(), nil
}

func newLand(t *testing.T, cfg Config) *land {
	t.Helper()
	l := &land{t: t}
	l.Service = New(cfg)
	t.Cleanup(func() {
		l.Close()
		for _, v := range l.Violations() {
			t.Errorf("outside the model: %v", v)
		}
	})
	l.vpc = l.AddVPC(VPC{CIDR: "127.20.0.0/16", IPv6CIDR: "2001:db8::/56"})
	l.subnet = l.AddSubnet(Subnet{VPC: l.vpc, Zone: "us-east-1a", CIDR: "127.20.1.0/24", IPv6CIDR: "2001:db8::/64", IPv6Addresses: []string{"::1"}})
	l.other = l.AddSubnet(Subnet{VPC: l.vpc, Zone: "us-east-1b", CIDR: "127.20.2.0/24"})
	l.image = l.AddImage(Image{Name: "al2023-ami-2023.6-arm64"})
	l.AddInstanceProfile(Profile{Name: "collector"})
	l.lt = l.AddLaunchTemplate(LaunchTemplate{Name: "collector", Data: map[string]any{
		"ImageId": l.image, "InstanceType": "c7gn.large", "InstanceInitiatedShutdownBehavior": "terminate",
		"IamInstanceProfile": map[string]any{"Name": "collector"},
		"MetadataOptions":    map[string]any{"HttpTokens": "required", "HttpPutResponseHopLimit": int64(1), "InstanceMetadataTags": "enabled"},
		"TagSpecifications": []any{map[string]any{"ResourceType": "instance", "Tags": []any{
			map[string]any{"Key": "app", "Value": "flashtap"}, map[string]any{"Key": "capture", "Value": "unknown"}}}},
	}})
	l.host, l.source = l.suspect("c5.large")
	l.api = l.client(inMemory{l.Service})
	return l
}

func (l *land) client(do sdk.HTTPClient) *sdk.Client {
	return sdk.New(sdk.Options{Region: "us-east-1", HTTPClient: do, BaseEndpoint: aws.String("http://ec2.local"), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", "")})
}

// suspect adds a running instance with one interface.
func (l *land) suspect(instanceType string) (instance, eni string) {
	l.t.Helper()
	instance = l.AddInstance(InstanceSeed{Type: instanceType, Interfaces: []InterfaceSeed{{Subnet: l.subnet}}, Tags: map[string]string{"Name": "suspect"}})
	known, _ := l.Instance(instance)
	return instance, known.Interfaces[0].ID
}

// collectorInterface is an interface that can be a target.
func (l *land) collectorInterface(instanceType string) string {
	l.t.Helper()
	_, eni := l.suspect(instanceType)
	return eni
}

func (l *land) target(eni string) string {
	l.t.Helper()
	out, err := l.api.CreateTrafficMirrorTarget(ctx, &sdk.CreateTrafficMirrorTargetInput{NetworkInterfaceId: &eni})
	l.must(err)
	return *out.TrafficMirrorTarget.TrafficMirrorTargetId
}

func (l *land) filter() string {
	l.t.Helper()
	out, err := l.api.CreateTrafficMirrorFilter(ctx, &sdk.CreateTrafficMirrorFilterInput{})
	l.must(err)
	return *out.TrafficMirrorFilter.TrafficMirrorFilterId
}

func (l *land) session(source, target, filter string, number int32) (*types.TrafficMirrorSession, error) {
	out, err := l.api.CreateTrafficMirrorSession(ctx, &sdk.CreateTrafficMirrorSessionInput{
		NetworkInterfaceId: &source, TrafficMirrorTargetId: &target, TrafficMirrorFilterId: &filter, SessionNumber: &number})
	if err != nil {
		return nil, err
	}
	return out.TrafficMirrorSession, nil
}

// launch runs one instance from the template and returns it.
func (l *land) launch(change ...func(*sdk.RunInstancesInput)) (*types.Instance, error) {
	in := &sdk.RunInstancesInput{MinCount: aws.Int32(1), MaxCount: aws.Int32(1), LaunchTemplate: &types.LaunchTemplateSpecification{LaunchTemplateId: &l.lt}, SubnetId: &l.subnet}
	for _, c := range change {
		c(in)
	}
	out, err := l.api.RunInstances(ctx, in)
	if err != nil {
		return nil, err
	}
	return &out.Instances[0], nil
}

func (l *land) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// refused wants an error with a code.
func (l *land) refused(err error, code string) {
	l.t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) {
		l.t.Errorf("got %v, want the error %s", err, code)
	} else if api.ErrorCode() != code {
		l.t.Errorf("got the error %v, want %s", api, code)
	}
}

func (l *land) equal(what string, got, want any) {
	l.t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		l.t.Errorf("%s is %v, want %v", what, got, want)
	}
}

var ctx = context.Background()

func filterOf(name string, values ...string) []types.Filter {
	return []types.Filter{{Name: &name, Values: values}}
}

func tagSpec(of types.ResourceType, pairs ...string) []types.TagSpecification {
	spec := types.TagSpecification{ResourceType: of}
	for i := 0; i < len(pairs); i += 2 {
		spec.Tags = append(spec.Tags, types.Tag{Key: &pairs[i], Value: &pairs[i+1]})
	}
	return []types.TagSpecification{spec}
}

// Every rule of RULES.md names a test that exists, and each is named once at most
// for the same words.
func TestRulesNameTheirTests(t *testing.T) {
	text, err := os.ReadFile("RULES.md")
	if err != nil {
		t.Fatal(err)
	}
	var code strings.Builder
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), "_test.go") {
			source, err := os.ReadFile(entry.Name())
			if err != nil {
				t.Fatal(err)
			}
			code.Write(source)
		}
	}
	rows := 0
	seen := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| Rule") || strings.HasPrefix(line, "| ---") {
			continue
		}
		if len(cells) != 3 {
			t.Errorf("a row has %d cells: %s", len(cells), line)
			continue
		}
		rows++
		if seen[cells[0]] {
			t.Errorf("the rule is listed twice: %s", cells[0])
		}
		seen[cells[0]] = true
		names := regexp.MustCompile("`(Test[A-Za-z0-9]+)(?:/([^`]+))?`").FindAllStringSubmatch(cells[2], -1)
		if len(names) == 0 {
			t.Errorf("the rule names no test: %s", line)
		}
		for _, name := range names {
			if !strings.Contains(code.String(), "func "+name[1]+"(") {
				t.Errorf("there is no test %s", name[1])
			}
			if name[2] != "" && !strings.Contains(code.String(), `"`+name[2]+`"`) {
				t.Errorf("%s has no row %q", name[1], name[2])
			}
		}
	}
	if rows < 60 {
		t.Errorf("RULES.md has only %d rows", rows)
	}
}

func prefix(text string) netip.Prefix { return netip.MustParsePrefix(text) }
