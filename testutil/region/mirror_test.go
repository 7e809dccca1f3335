package region_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"flashtap/testutil/packets"
	"flashtap/testutil/region"
	"flashtap/testutil/region/dataplane"
	regionec2 "flashtap/testutil/region/ec2"
	"flashtap/testutil/region/model"
)

// scene is a VPC with a suspect, and an interface that copies of its packets can go to.
type scene struct{ vpc, subnet, suspect, target, group string }

func place(r *region.Region, vpc, subnet, suspect string) scene {
	s := scene{vpc: r.EC2.AddVPC(regionec2.VPC{CIDR: vpc})}
	s.subnet = r.EC2.AddSubnet(regionec2.Subnet{VPC: s.vpc, CIDR: subnet})
	s.suspect = "eni-0123456789abcdef0"
	r.EC2.AddInstance(regionec2.InstanceSeed{ID: "i-0123456789abcdef0", Type: "m5.large",
		Interfaces: []regionec2.InterfaceSeed{{ID: s.suspect, Subnet: s.subnet, Address: suspect}}})
	s.group = r.EC2.AddSecurityGroup(regionec2.SecurityGroup{VPC: s.vpc, Name: "collector"})
	r.EC2.AddGroupRule(s.group, regionec2.GroupRule{Protocol: "udp", From: 4789, To: 4789, CIDR: suspect + "/32"})
	s.target = r.EC2.AddInterface(regionec2.InterfaceSeed{Subnet: s.subnet, Groups: []string{s.group}})
	return s
}

// mirror makes a session of the whole suspect and returns its id.
func (s scene) mirror(t *testing.T, api *ec2.Client) string {
	t.Helper()
	ctx := t.Context()
	target, err := api.CreateTrafficMirrorTarget(ctx, &ec2.CreateTrafficMirrorTargetInput{NetworkInterfaceId: &s.target})
	must(t, err)
	filter, err := api.CreateTrafficMirrorFilter(ctx, &ec2.CreateTrafficMirrorFilterInput{})
	must(t, err)
	for _, direction := range []types.TrafficDirection{types.TrafficDirectionIngress, types.TrafficDirectionEgress} {
		_, err := api.CreateTrafficMirrorFilterRule(ctx, &ec2.CreateTrafficMirrorFilterRuleInput{
			TrafficMirrorFilterId: filter.TrafficMirrorFilter.TrafficMirrorFilterId, TrafficDirection: direction, RuleNumber: aws.Int32(1),
			RuleAction: types.TrafficMirrorRuleActionAccept, SourceCidrBlock: aws.String("0.0.0.0/0"), DestinationCidrBlock: aws.String("0.0.0.0/0")})
		must(t, err)
	}
	session, err := api.CreateTrafficMirrorSession(ctx, &ec2.CreateTrafficMirrorSessionInput{NetworkInterfaceId: &s.suspect, SessionNumber: aws.Int32(1),
		TrafficMirrorTargetId: target.TrafficMirrorTarget.TrafficMirrorTargetId, TrafficMirrorFilterId: filter.TrafficMirrorFilter.TrafficMirrorFilterId})
	must(t, err)
	return *session.TrafficMirrorSession.TrafficMirrorSessionId
}

// block is a /16 of loopback addresses that nobody else on this machine uses: the datagrams' port is always the same.
func block(t *testing.T) string {
	t.Helper()
	for n := 16; n <= 250; n++ {
		// The address and port by which every user of such a block reserves it.
		hold, err := net.ListenPacket("udp4", fmt.Sprintf("127.%d.255.254:4788", n))
		if err != nil {
			continue
		}
		t.Cleanup(func() { hold.Close() })
		return fmt.Sprintf("127.%d.", n)
	}
	t.Fatal("no block of loopback addresses is free")
	return ""
}

// recording is a client's HTTP request with all that belongs to it.
const recording = "zeek-get.pcap"

var recorded = netip.MustParseAddr("141.142.228.5") // who asks in it

func replay(t *testing.T, loop bool) *dataplane.Replay {
	t.Helper()
	play, err := dataplane.NewReplay(dataplane.ReplayConfig{Frames: packets.MustLoad(recording), Loop: loop, MaxGap: time.Millisecond,
		Suspect: dataplane.Suspect{Addresses: []netip.Addr{recorded}}})
	must(t, err)
	return play
}

// copies collects the datagrams that arrive at an address.
type copies struct {
	mu   sync.Mutex
	got  []datagram
	done chan struct{}
}

type datagram struct {
	from  netip.AddrPort
	vni   uint32
	frame []byte
}

// receive listens as a collector does, but reads datagrams with a decoder that the region has no part in.
func receive(t *testing.T, address netip.Addr) *copies {
	t.Helper()
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(address, 4789)))
	must(t, err)
	must(t, conn.SetReadBuffer(4<<20))
	c := &copies{done: make(chan struct{})}
	t.Cleanup(func() {
		conn.Close()
		<-c.done
	})
	go func() {
		defer close(c.done)
		buffer := make([]byte, 65536)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buffer)
			if err != nil {
				return
			}
			packet := gopacket.NewPacket(slices.Clone(buffer[:n]), layers.LayerTypeVXLAN, gopacket.Default)
			d := datagram{from: from}
			if header, ok := packet.Layer(layers.LayerTypeVXLAN).(*layers.VXLAN); ok && header.ValidIDFlag {
				d.vni, d.frame = header.VNI, header.Payload
			}
			c.mu.Lock()
			c.got = append(c.got, d)
			c.mu.Unlock()
		}
	}()
	return c
}

func (c *copies) list() []datagram {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.got)
}

// commands are the aws commands of this machine: the one that comes first, and Debian's, which is another generation.
func commands(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	const debian = "/usr/bin/aws"
	if exists(debian) {
		found["Debian's"] = debian
	}
	if path, err := exec.LookPath("aws"); err == nil && path != debian {
		found["the first in PATH"] = path
	}
	if os.Getenv("CI") == "true" && found["Debian's"] == "" {
		t.Fatal("Debian's aws command is not here: install the package awscli")
	}
	if len(found) == 0 {
		t.Skip("no aws command is here: pip install awscli, or Debian's package awscli")
	}
	return found
}

// cli runs an aws command against a region.
type cli struct {
	t       *testing.T
	program string
	url     string
	env     []string
}

func newCLI(t *testing.T, program string, r *region.Region) cli {
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "AWS_PAGER=", "AWS_MAX_ATTEMPTS=1"}
	for name, value := range r.Environ("operator") {
		if name != "AWS_ENDPOINT_URL" { // not every generation reads it
			env = append(env, name+"="+value)
		}
	}
	return cli{t, program, r.Endpoint(), env}
}

// run returns the command's JSON, or what it says on stderr.
func (c cli) run(args ...string) (out map[string]any, stderr string) {
	cmd := exec.CommandContext(c.t.Context(), c.program, append([]string{"ec2", "--endpoint-url", c.url, "--output", "json"}, args...)...)
	var stdout, said bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = c.env, &stdout, &said
	err := cmd.Run()
	if err == nil {
		err = json.Unmarshal(stdout.Bytes(), &out)
	}
	if err != nil {
		return nil, fmt.Sprintf("%v\n%s", err, &said)
	}
	return out, ""
}

// do is run for a command that must succeed; the result is the value at a path.
func (c cli) do(path string, args ...string) string {
	out, stderr := c.run(args...)
	if stderr != "" {
		c.t.Errorf("%s: %s", args[0], stderr)
		return ""
	}
	return at(out, path)
}

// refused is run for a command that must fail with a code.
func (c cli) refused(code string, args ...string) {
	if out, stderr := c.run(args...); !strings.Contains(stderr, "("+code+")") {
		c.t.Errorf("%s: %v %s", args[0], out, stderr)
	}
}

// at finds a value in decoded JSON; a number in the path is an index, and an empty path finds everything.
func at(v any, path string) string {
	for step := range strings.SplitSeq(path, ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[step]
		case []any:
			var i int
			if _, err := fmt.Sscan(step, &i); err != nil || i >= len(x) {
				return fmt.Sprintf("no %s in %v", step, x)
			}
			v = x[i]
		}
	}
	if text, err := json.Marshal(v); err == nil {
		return strings.Trim(string(text), `"`)
	}
	return ""
}

// at once: the commands take seconds to start.
func together(steps ...func()) {
	var all sync.WaitGroup
	for _, step := range steps {
		all.Go(step)
	}
	all.Wait()
}

// A mirror is made, described and removed by nothing but the aws command, and its packets arrive whole.
func TestMirrorByTheAWSCommand(t *testing.T) {
	t.Parallel()
	for name, program := range commands(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, region.Config{})
			net := block(t)
			s := place(r, net+"0.0/16", net+"1.0/24", net+"1.10")
			plane, err := r.AddTraffic(s.suspect, dataplane.Config{Interface: s.suspect, Address: netip.MustParseAddr(net + "1.10"),
				Traffic: replay(t, true), Start: dataplane.WithSession, PacketsPerSecond: 300})
			must(t, err)
			known, _ := r.EC2.Interface(s.target)
			inbox := receive(t, known.Address)
			aws := newCLI(t, program, r)

			var target, filter, rule string
			together(
				func() {
					target = aws.do("TrafficMirrorTarget.TrafficMirrorTargetId", "create-traffic-mirror-target", "--network-interface-id", s.target, "--description", "the collector")
				},
				func() {
					filter = aws.do("TrafficMirrorFilter.TrafficMirrorFilterId", "create-traffic-mirror-filter", "--tag-specifications", "ResourceType=traffic-mirror-filter,Tags=[{Key=case,Value=one}]")
				})
			together(
				func() {
					equal(t, "services", aws.do("TrafficMirrorFilter.NetworkServices.0", "modify-traffic-mirror-filter-network-services", "--traffic-mirror-filter-id", filter, "--add-network-services", "amazon-dns"), "amazon-dns")
				},
				func() {
					rule = aws.do("TrafficMirrorFilterRule.TrafficMirrorFilterRuleId", "create-traffic-mirror-filter-rule", "--traffic-mirror-filter-id", filter, "--traffic-direction", "egress",
						"--rule-number", "10", "--rule-action", "accept", "--protocol", "6", "--source-cidr-block", "0.0.0.0/0", "--destination-cidr-block", "0.0.0.0/0")
				})
			if len(r.EC2.MirrorSessions()) != 0 || plane.Tally().Seen != 0 {
				t.Fatal("mirrored before there was a session")
			}
			create := []string{"create-traffic-mirror-session", "--network-interface-id", s.suspect, "--traffic-mirror-target-id", target,
				"--traffic-mirror-filter-id", filter, "--session-number", "1"}
			if name == "Debian's" {
				create = append(create, "--virtual-network-id", "16777215")
			}
			out, stderr := aws.run(create...)
			if stderr != "" {
				t.Fatal(stderr)
			}
			session, vni := at(out, "TrafficMirrorSession.TrafficMirrorSessionId"), at(out, "TrafficMirrorSession.VirtualNetworkId")
			if name == "Debian's" {
				equal(t, "VNI", vni, "16777215")
			}

			var egress [][]byte
			for _, p := range replay(t, false).Packets() {
				if p.Direction == dataplane.Egress {
					egress = append(egress, p.Data)
				}
			}
			if len(egress) < 5 || len(egress) == len(packets.MustLoad(recording)) {
				t.Fatalf("%d of the recording's frames are the suspect's own", len(egress))
			}
			eventually(t, "the recording came twice", func() bool { return len(inbox.list()) >= 2*len(egress) })
			for n, d := range inbox.list()[:2*len(egress)] {
				if fmt.Sprint(d.vni) != vni || d.from.Addr().String() != net+"1.10" || !bytes.Equal(d.frame, egress[n%len(egress)]) {
					t.Fatalf("copy %d is of VNI %d, from %v, with %d bytes", n, d.vni, d.from, len(d.frame))
				}
			}

			together(
				func() {
					equal(t, "described", aws.do("TrafficMirrorSessions.0.TrafficMirrorSessionId", "describe-traffic-mirror-sessions",
						"--filters", "Name=virtual-network-id,Values="+vni), session)
				},
				func() {
					equal(t, "described", aws.do("TrafficMirrorTargets.0.NetworkInterfaceId", "describe-traffic-mirror-targets", "--traffic-mirror-target-ids", target), s.target)
				},
				func() {
					out, stderr := aws.run("describe-traffic-mirror-filters", "--traffic-mirror-filter-ids", filter)
					equal(t, "described", []string{stderr, at(out, "TrafficMirrorFilters.0.EgressFilterRules.0.TrafficMirrorFilterRuleId"), at(out, "TrafficMirrorFilters.0.Tags.0.Value")}, []string{"", rule, "one"})
				},
				func() {
					aws.refused("TrafficMirrorTargetInUseException", "delete-traffic-mirror-target", "--traffic-mirror-target-id", target)
				},
				func() {
					aws.refused("TrafficMirrorFilterInUse", "delete-traffic-mirror-filter", "--traffic-mirror-filter-id", filter)
				})
			equal(t, "deleted", aws.do("TrafficMirrorSessionId", "delete-traffic-mirror-session", "--traffic-mirror-session-id", session), session)
			time.Sleep(100 * time.Millisecond) // what is in the socket's buffer is read
			after, seen := len(inbox.list()), plane.Tally().Seen
			eventually(t, "the suspect goes on", func() bool { return plane.Tally().Seen > seen+30 })
			equal(t, "copies after the session's end", len(inbox.list())-after, 0)
			together(
				func() {
					equal(t, "deleted", aws.do("TrafficMirrorTargetId", "delete-traffic-mirror-target", "--traffic-mirror-target-id", target), target)
				},
				func() {
					equal(t, "deleted", aws.do("TrafficMirrorFilterId", "delete-traffic-mirror-filter", "--traffic-mirror-filter-id", filter), filter)
				})
			equal(t, "left", len(r.EC2.Left()), 0)
		})
	}
}

// noDescribeVpcs fails a call that the region itself needs: a fault never touches those.
func noDescribeVpcs(call *model.Call) error {
	if call.Operation == "DescribeVpcs" {
		return regionec2.Throttled()
	}
	return nil
}

// Traffic that comes after its session, or whose session changes, is mirrored as one that was there before.
func TestTrafficAndSessionsMeetInAnyOrder(t *testing.T) {
	t.Parallel()
	r := start(t, region.Config{EC2: regionec2.Config{Fault: noDescribeVpcs}})
	net := block(t)
	s := place(r, net+"0.0/16", net+"1.0/24", net+"1.10")
	known, _ := r.EC2.Interface(s.target)
	inbox := receive(t, known.Address)
	api := ec2.NewFromConfig(client(r, "tester"))
	session := s.mirror(t, api)
	cfg := dataplane.Config{Interface: s.suspect, Address: netip.MustParseAddr(net + "1.10"), Traffic: replay(t, true), Start: dataplane.WithSession, PacketsPerSecond: 300}
	plane, err := r.AddTraffic(s.suspect, cfg)
	must(t, err)
	if _, err := r.AddTraffic(s.suspect, cfg); err == nil {
		t.Error("an interface got traffic twice")
	}
	eventually(t, "copies arrive", func() bool { return len(inbox.list()) > 5 })
	_, err = api.ModifyTrafficMirrorSession(t.Context(), &ec2.ModifyTrafficMirrorSessionInput{TrafficMirrorSessionId: &session, VirtualNetworkId: aws.Int32(77), PacketLength: aws.Int32(60)})
	must(t, err)
	eventually(t, "copies are of the new kind", func() bool {
		list := inbox.list()
		last := list[len(list)-1]
		return last.vni == 77 && len(last.frame) <= 60
	})
	// What the network loses is counted, and nobody is told.
	r.EC2.RemoveGroupRules(s.group, false)
	time.Sleep(50 * time.Millisecond)
	arrived := len(inbox.list())
	eventually(t, "copies get lost", func() bool { return plane.Tally().Lost["security-group"] > 10 })
	equal(t, "copies that got through a group without rules", len(inbox.list())-arrived, 0)
	equal(t, "counted for the session", plane.Tally().Sessions[session].Lost > 10, true)
	r.EC2.AddGroupRule(s.group, regionec2.GroupRule{Protocol: "udp", From: 4789, To: 4789, CIDR: net + "1.0/24"})
	eventually(t, "copies arrive again", func() bool { return len(inbox.list()) > arrived+10 })
	r.EC2.ChangeType("i-0123456789abcdef0", "m8g.large")
	eventually(t, "nothing is mirrored from a type that is not supported", func() bool { return plane.Tally().Lost["source"] > 10 })

	r.EC2.TerminateSuspect("i-0123456789abcdef0")
	eventually(t, "the suspect's end ends the mirror", func() bool { return len(r.EC2.MirrorSessions()) == 0 })
	time.Sleep(50 * time.Millisecond)
	before, seen := len(inbox.list()), plane.Tally().Seen
	eventually(t, "packets pass", func() bool { return plane.Tally().Seen > seen+10 })
	equal(t, "copies after the suspect's end", len(inbox.list())-before, 0)
}

// A target that is no interface is legal, and carries nothing here; the other sessions go on.
func TestASessionToALoadBalancerCarriesNothing(t *testing.T) {
	t.Parallel()
	r := start(t, region.Config{})
	net := block(t)
	s := place(r, net+"0.0/16", net+"1.0/24", net+"1.10")
	known, _ := r.EC2.Interface(s.target)
	inbox := receive(t, known.Address)
	_, err := r.AddTraffic(s.suspect, dataplane.Config{Interface: s.suspect, Address: netip.MustParseAddr(net + "1.10"),
		Traffic: replay(t, true), Start: dataplane.WithSession, PacketsPerSecond: 300})
	must(t, err)
	const arn = "arn:aws:elasticloadbalancing:us-east-1:123456789012:loadbalancer/net/collectors/0123456789abcdef"
	r.EC2.AddLoadBalancer(arn)
	api := ec2.NewFromConfig(client(r, "tester"))
	target, err := api.CreateTrafficMirrorTarget(t.Context(), &ec2.CreateTrafficMirrorTargetInput{NetworkLoadBalancerArn: aws.String(arn)})
	must(t, err)
	session := s.mirror(t, api)
	filters, err := api.DescribeTrafficMirrorFilters(t.Context(), &ec2.DescribeTrafficMirrorFiltersInput{})
	must(t, err)
	_, err = api.CreateTrafficMirrorSession(t.Context(), &ec2.CreateTrafficMirrorSessionInput{NetworkInterfaceId: &s.suspect, SessionNumber: aws.Int32(2),
		TrafficMirrorTargetId: target.TrafficMirrorTarget.TrafficMirrorTargetId, TrafficMirrorFilterId: filters.TrafficMirrorFilters[0].TrafficMirrorFilterId})
	must(t, err)
	before := len(inbox.list())
	eventually(t, "the first session goes on", func() bool { return len(inbox.list()) > before+20 })
	_, err = api.ModifyTrafficMirrorSession(t.Context(), &ec2.ModifyTrafficMirrorSessionInput{TrafficMirrorSessionId: &session, VirtualNetworkId: aws.Int32(77)})
	must(t, err)
	eventually(t, "it also changes", func() bool {
		list := inbox.list()
		return list[len(list)-1].vni == 77
	})
}
