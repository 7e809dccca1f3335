package plan

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"flashtap/events"
)

// TestBlindSpots: each thing that can hide packets has its sentence, and what does not hide any has none.
func TestBlindSpots(t *testing.T) {
	facts := Facts{
		Interface: types.NetworkInterface{NetworkInterfaceId: aws.String("eni-a"), Ipv6Addresses: []types.NetworkInterfaceIpv6Address{{Ipv6Address: aws.String("2001:db8::1")}}},
		Instance:  &types.Instance{NetworkInterfaces: []types.InstanceNetworkInterface{{NetworkInterfaceId: aws.String("eni-a")}}},
	}
	always := []string{"ARP, DHCP", "loopback", "before the session", "NetworkPacketsSkipMirrorIn"}
	special := []string{"tms-1", "Packets that no rule", "What the filter rejects: egress TCP", "IPv6, which no rule", "own resolver", "first 128 bytes", "above 8947 bytes",
		"eni-b, eni-c", "is isolated", "Inbound packets that a security group"}
	for name, row := range map[string]struct {
		change func(*Facts, *events.Plan)
		says   []string // of the special ones; no other is said
	}{
		"everything, whole packets": {func(*Facts, *events.Plan) {}, []string{"above 8947 bytes", "Inbound packets that a security group"}},
		"the first bytes": {func(_ *Facts, p *events.Plan) { p.Mirror.PacketLength = 128 },
			[]string{"first 128 bytes", "Inbound packets that a security group"}},
		"a session that takes some": {func(_ *Facts, p *events.Plan) {
			p.Shadows = []events.Shadow{{Session: "tms-1", Owner: "111122223333", Number: 1, Takes: []string{"all IPv4 both ways"}}}
		}, []string{"tms-1", "above 8947 bytes", "Inbound packets that a security group"}},
		"two more interfaces": {func(f *Facts, _ *events.Plan) {
			f.Instance = &types.Instance{NetworkInterfaces: []types.InstanceNetworkInterface{
				{NetworkInterfaceId: aws.String("eni-a")}, {NetworkInterfaceId: aws.String("eni-b")}, {NetworkInterfaceId: aws.String("eni-c")}}}
		}, []string{"eni-b, eni-c", "above 8947 bytes", "Inbound packets that a security group"}},
		"isolated": {func(_ *Facts, p *events.Plan) {
			p.Verdicts = []events.Verdict{{Check: "isolation", Result: events.Warn}}
		},
			[]string{"is isolated", "above 8947 bytes"}},
		"without IPv6 and DNS": {func(_ *Facts, p *events.Plan) {
			p.Mirror.Filter = events.Filter{Rules: []events.FilterRule{p.Mirror.Filter.Rules[0], p.Mirror.Filter.Rules[2]}}
		}, []string{"IPv6, which no rule", "own resolver", "above 8947 bytes", "Inbound packets that a security group"}},
		"only one way": {func(_ *Facts, p *events.Plan) { p.Mirror.Filter.Rules = p.Mirror.Filter.Rules[:2] },
			[]string{"Packets that no rule", "above 8947 bytes", "Inbound packets that a security group"}},
		"IPv6 of one peer alone": {func(_ *Facts, p *events.Plan) { p.Mirror.Filter.Rules[1].SourceCIDR = "2001:db8::9/128" },
			[]string{"Packets that no rule", "above 8947 bytes", "Inbound packets that a security group"}},
		"without the operators' SSH": {func(_ *Facts, p *events.Plan) {
			p.Mirror.Filter.Rules = append(p.Mirror.Filter.Rules, events.FilterRule{Number: 10, Direction: events.Egress, Action: events.Reject, Protocol: 6,
				SourceCIDR: "0.0.0.0/0", DestinationCIDR: "198.51.100.0/24", SourcePorts: &events.PortRange{From: 22, To: 22}})
		}, []string{"What the filter rejects: egress TCP", "above 8947 bytes", "Inbound packets that a security group"}},
	} {
		f, p := facts, events.Plan{Mirror: events.MirrorPlan{Filter: events.EverythingFilter()}}
		row.change(&f, &p)
		text := strings.Join(blindSpots(f, p), "\n")
		for _, part := range append(row.says, always...) {
			if !strings.Contains(text, part) {
				t.Errorf("%s: does not say %q:\n%s", name, part, text)
			}
		}
		for _, part := range special {
			wanted := false
			for _, w := range row.says {
				wanted = wanted || w == part
			}
			if !wanted && strings.Contains(text, part) {
				t.Errorf("%s: says %q:\n%s", name, part, text)
			}
		}
	}
	f, p := facts, events.Plan{Mirror: events.MirrorPlan{Filter: events.EverythingFilter()}}
	f.Interface.Ipv6Addresses = nil
	p.Mirror.Filter.Rules = p.Mirror.Filter.Rules[:1]
	p.Shadows = []events.Shadow{{Session: "tms-1", Owner: "111122223333", Number: 1, All: true}}
	text := strings.Join(blindSpots(f, p), "\n")
	for _, part := range []string{"takes every packet", "has no IPv6 address now"} {
		if !strings.Contains(text, part) {
			t.Errorf("does not say %q:\n%s", part, text)
		}
	}
}
