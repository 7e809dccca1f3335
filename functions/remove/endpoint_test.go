package remove

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"flashtap/events"
	"flashtap/testutil/region"
	"flashtap/testutil/stage"
)

// withEndpoint is a mess whose plan has a temporary endpoint, after plan has had its say.
func withEndpoint(t *testing.T, change func(*events.Plan)) *mess {
	m := &mess{Stage: stage.New(t, func(c *region.Config) { c.EC2.EndpointDelay = 200 * time.Millisecond }), t: t}
	m.r = Remover{EC2: m.EC2API, Schedules: m.Scheduler, Store: m.Store, Settings: m.Settings}
	m.c = m.Capture()
	m.plan = m.Plan(t, m.c, func(p *events.Plan) {
		p.Collector.Endpoint = &events.EndpointPlan{Service: "com.amazonaws." + m.Settings.Region + ".s3", Subnet: m.Subnet,
			SecurityGroupName: events.EndpointGroupName(m.Settings.Deployment, m.c)}
		if change != nil {
			change(p)
		}
	})
	return m
}

// endpoint makes an endpoint of a service and its group, as launch does, and returns their ids.
func (m *mess) endpoint(service string) (endpoint, group string) {
	m.t.Helper()
	name := events.EndpointGroupName(m.Settings.Deployment, m.c)
	made, err := m.EC2API.CreateSecurityGroup(m.t.Context(), &ec2.CreateSecurityGroupInput{GroupName: &name, VpcId: &m.VPC,
		Description: aws.String("endpoint"), TagSpecifications: m.tags(types.ResourceTypeSecurityGroup)})
	m.must(err)
	in := types.IpPermission{IpProtocol: aws.String("tcp"), FromPort: aws.Int32(443), ToPort: aws.Int32(443), UserIdGroupPairs: []types.UserIdGroupPair{{GroupId: &m.group}}}
	_, err = m.EC2API.AuthorizeSecurityGroupIngress(m.t.Context(), &ec2.AuthorizeSecurityGroupIngressInput{GroupId: made.GroupId, IpPermissions: []types.IpPermission{in}})
	m.must(err)
	out, err := m.EC2API.CreateVpcEndpoint(m.t.Context(), &ec2.CreateVpcEndpointInput{VpcId: &m.VPC, ServiceName: &service, VpcEndpointType: types.VpcEndpointTypeInterface,
		SubnetIds: []string{m.Subnet}, SecurityGroupIds: []string{*made.GroupId}, PrivateDnsEnabled: aws.Bool(false), TagSpecifications: m.tags(types.ResourceTypeVpcEndpoint)})
	m.must(err)
	return aws.ToString(out.VpcEndpoint.VpcEndpointId), aws.ToString(made.GroupId)
}

// TestPassRemovesTheEndpoint: after the collector that uses it, before the group that it is in; and that one before the
// collector's group, which it names.
func TestPassRemovesTheEndpoint(t *testing.T) {
	m := withEndpoint(t, nil).make(0, "", "")
	endpoint, group := m.endpoint(m.plan.Collector.Endpoint.Service)
	if got := m.left(); !slices.Contains(got, KindEndpoint) || slices.Index(got, KindEndpoint) < slices.Index(got, KindInstance) {
		t.Fatalf("made: %v", got)
	}
	// The collector is told to end, and uploads what it has: until it is gone it needs its way to S3.
	cert, _, err := m.r.Pass(t.Context(), m.c, events.BySweep, "")
	m.must(err)
	for _, c := range m.Calls() {
		if c.Operation == "DeleteVpcEndpoints" {
			t.Errorf("the endpoint goes while its collector is there: %+v", cert)
		}
	}
	m.clean("")
	if got := m.left(); len(got) > 0 {
		t.Errorf("left: %v", got)
	}
	asked := 0
	var groups []string
	for _, c := range m.Calls() {
		if c.Operation == "DeleteVpcEndpoints" {
			asked++
		}
		if c.Operation == "DeleteSecurityGroup" && c.Code == "" {
			groups = append(groups, c.Params["GroupId"].(string))
		}
	}
	if asked != 1 {
		t.Errorf("the endpoint is deleted %d times", asked)
	}
	if !slices.Equal(groups, []string{group, m.group}) {
		t.Errorf("groups go in the order %v, want %s before %s", groups, group, m.group)
	}
	if n := m.gone(KindEndpoint, endpoint); n != 1 {
		t.Errorf("%d certificates say that the endpoint is gone", n)
	}
}

// TestPassRefusesAnEndpoint: our tags on somebody else's endpoint would close their way to a service.
func TestPassRefusesAnEndpoint(t *testing.T) {
	for name, row := range map[string]struct {
		change  func(*events.Plan)
		service string // short
		says    string
	}{
		"of another service":     {nil, "sqs", "planned service"},
		"in a plan with none":    {func(p *events.Plan) { p.Collector.Endpoint = nil }, "s3", "no plan"},
		"of a VPC not in a plan": {func(p *events.Plan) { p.Collector.VPC = "vpc-0bbbbbbbbbbbbbbbb" }, "s3", "planned VPC"},
	} {
		t.Run(name, func(t *testing.T) {
			m := withEndpoint(t, row.change)
			made, err := m.EC2API.CreateVpcEndpoint(t.Context(), &ec2.CreateVpcEndpointInput{VpcId: &m.VPC, ServiceName: aws.String("com.amazonaws." + m.Settings.Region + "." + row.service),
				VpcEndpointType: types.VpcEndpointTypeInterface, SubnetIds: []string{m.Subnet}, PrivateDnsEnabled: aws.Bool(false),
				TagSpecifications: m.tags(types.ResourceTypeVpcEndpoint)})
			m.must(err)
			cert, _, err := m.r.Pass(t.Context(), m.c, events.BySweep, "")
			m.must(err)
			if len(cert.Refused) != 1 || cert.Refused[0].ID != aws.ToString(made.VpcEndpoint.VpcEndpointId) || !strings.Contains(cert.Refused[0].Reason, row.says) {
				t.Errorf("refused: %+v", cert.Refused)
			}
			for _, c := range m.Calls() {
				if c.Operation == "DeleteVpcEndpoints" {
					t.Error("it is deleted all the same")
				}
			}
		})
	}
}

// TestEndpointThatWouldNotGo: DeleteVpcEndpoints answers with success and names what failed.
func TestEndpointThatWouldNotGo(t *testing.T) {
	m := withEndpoint(t, nil)
	if _, err := m.r.removeEndpoint(t.Context(), "vpce-0bbbbbbbbbbbbbbbb"); err == nil || !strings.Contains(err.Error(), "NotFound") {
		t.Errorf("%v", err)
	}
	if call, err := m.r.remove(t.Context(), Item{Resource: events.Resource{Kind: KindEndpoint, ID: "vpce-0bbbbbbbbbbbbbbbb"}, Capture: m.c}); call != "" || err != nil {
		t.Errorf("%q, %v", call, err)
	}
}

// gone counts the certificates that say that something is gone.
func (m *mess) gone(kind, id string) (n int) {
	m.t.Helper()
	list, err := m.Store.List(m.t.Context(), events.CertificatesPrefix(m.c))
	m.must(err)
	for _, e := range list {
		var cert events.Certificate
		m.must(m.Store.ReadJSON(m.t.Context(), e.Key, &cert))
		for _, r := range cert.Gone {
			if r.Kind == kind && r.ID == id {
				n++
			}
		}
	}
	return n
}

// TestWhatWentBetweenPasses: the last thing may go while nobody looks, and must be certified all the same, once.
func TestWhatWentBetweenPasses(t *testing.T) {
	m := withEndpoint(t, nil)
	m.guard(m.c, m.ENI)
	made, err := m.EC2API.CreateVpcEndpoint(t.Context(), &ec2.CreateVpcEndpointInput{VpcId: &m.VPC, ServiceName: &m.plan.Collector.Endpoint.Service,
		VpcEndpointType: types.VpcEndpointTypeInterface, SubnetIds: []string{m.Subnet}, PrivateDnsEnabled: aws.Bool(false), TagSpecifications: m.tags(types.ResourceTypeVpcEndpoint)})
	m.must(err)
	id := aws.ToString(made.VpcEndpoint.VpcEndpointId)
	cert, _, err := m.r.Pass(t.Context(), m.c, events.ByStateMachine, "")
	m.must(err)
	if len(cert.Gone) != 0 || len(cert.Remaining) != 2 {
		t.Fatalf("%+v", cert)
	}
	time.Sleep(400 * time.Millisecond)
	for range 3 {
		_, _, err := m.r.Pass(t.Context(), m.c, events.ByStateMachine, "")
		m.must(err)
	}
	if n := m.gone(KindEndpoint, id); n != 1 {
		t.Errorf("%d certificates say that the endpoint is gone", n)
	}
	if n := m.gone(KindGuard, m.ENI); n != 1 {
		t.Errorf("%d certificates say that the guard is gone", n)
	}
}
