package deployment

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"flashtap/events"
	"flashtap/testutil/packets"
	"flashtap/testutil/region"
	"flashtap/testutil/region/dataplane"
	"flashtap/testutil/region/ec2"
)

// SceneConfig says what happens in a local region: who the suspect is and what it sends.
type SceneConfig struct {
	Dir      string // everything of the region lies here
	Programs Programs
	Event    []byte          // the finding as received, or a request
	Frames   []packets.Frame // the suspect's traffic, whoever it was recorded from
	Suspect  netip.Addr      // the suspect in that recording; zero: the private address that talks most
	Replay   time.Duration   // how long the replay takes at most; zero: as fast as the plane lets it
	PPS      int             // packets a second at most; zero: the plane's default
	Loop     bool            // replay again and again
	Type     string          // of the suspect instance; zero: the finding's, or m5.large when that can't be mirrored

	OuterIPv6 bool
	Change    func(*events.Settings)
	EC2       ec2.Config
	Log       io.Writer // what functions and collectors write; nil discards it
	// ScheduleSpeed divides the intervals of rate schedules.
	ScheduleSpeed float64
	// WithoutSweep leaves the sweep's schedule and its rule out.
	WithoutSweep bool
	// Busy says of which packets the suspect's instance is too busy to make copies; nil: of none.
	Busy func(dataplane.Packet) bool
	// Metrics says how CloudWatch has the region's own metrics.
	Metrics region.MetricsConfig
	// Traffic replaces the replay as the source of the suspect's packets.
	Traffic dataplane.Source
}

// Scene is a local region with Flashtap, a suspect and its traffic.
type Scene struct {
	*Deployment
	Guest    *Guest
	Finding  events.Finding
	Instance string
	ENI      string
	Type     string // of the suspect instance
	Plane    *dataplane.Plane
	Event    []byte

	network network
	subnet  string
}

// defaultType replaces a suspect's instance type that AWS can't mirror: sample findings say m3.xlarge.
const defaultType = "m5.large"

// Set builds the scene. Close must be called.
func Set(ctx context.Context, c SceneConfig) (*Scene, error) {
	s := &Scene{Guest: &Guest{}, Event: pressed(c.Event), Type: c.Type}
	finding, err := events.ParseFinding(s.Event)
	if legal := legalAccount(finding.Account); legal != finding.Account {
		s.Event = bytes.ReplaceAll(s.Event, []byte(finding.Account), []byte(legal))
		finding, err = events.ParseFinding(s.Event)
	}
	if err != nil {
		return nil, err
	}
	s.Finding = finding
	account, name := finding.Account, finding.Region
	if account == "" {
		account = "123456789012"
	}
	if name == "" {
		name = "us-east-1"
	}
	if s.network, err = reserve(c.OuterIPv6, 5*time.Minute); err != nil {
		return nil, err
	}
	handler := slog.NewTextHandler(io.Discard, nil)
	if c.Log != nil {
		handler = slog.NewTextHandler(c.Log, nil)
	}
	r, err := region.Start(region.Config{
		Account: account, Name: name, Dir: c.Dir, Guest: s.Guest, EC2: c.EC2, OuterIPv6: c.OuterIPv6,
		ScheduleSpeed: c.ScheduleSpeed, Metrics: c.Metrics, Log: slog.New(handler),
	})
	if err != nil {
		return nil, errors.Join(err, s.network.release())
	}
	s.Guest.reach = r.EC2.ReachEndpoint
	s.Deployment, err = Deploy(ctx, r, Options{Account: account, Region: name, Programs: c.Programs, Change: c.Change, Log: c.Log, WithoutSweep: c.WithoutSweep})
	if err == nil {
		err = s.place(c)
	}
	if err != nil {
		return nil, errors.Join(err, r.Close(), s.network.release())
	}
	return s, nil
}

var customAction = regexp.MustCompile(`:action/custom/[A-Za-z0-9-]+`)

// pressed has the event of a custom action in Security Hub come from this deployment's, whoever's it was recorded from: the
// rule takes no other.
func pressed(event []byte) []byte {
	return customAction.ReplaceAll(event, []byte(":action/custom/"+Config().ActionID()))
}

// legalAccount is the account id itself or, for an anonymised one that is too long, its first 12 digits: published
// samples have 13, which no ARN admits.
func legalAccount(id string) string {
	const digits = 12 // AWS Account Management Reference Guide, "AWS account identifiers"
	if len(id) > digits {
		return id[:digits]
	}
	return id
}

// place puts the suspect into the region, as the finding describes it, and connects its traffic.
func (s *Scene) place(c SceneConfig) error {
	r := s.Region
	vpc := ec2.VPC{CIDR: s.network.vpc()}
	subnet := ec2.Subnet{CIDR: s.network.subnet()}
	if c.OuterIPv6 {
		vpc.IPv6CIDR, subnet.IPv6CIDR, subnet.IPv6Addresses = "::/120", "::/120", []string{"::1"}
	}
	subnet.VPC = r.EC2.AddVPC(vpc)
	subnetID := r.EC2.AddSubnet(subnet)
	s.subnet = subnetID
	r.EC2.AddEndpoint(ec2.Endpoint{VPC: subnet.VPC, Service: "s3", RouteTables: []string{r.EC2.MainRouteTable(subnet.VPC)}})

	suspect := events.Suspect{InstanceID: "i-0123456789abcdef0"}
	if len(s.Finding.Suspects) > 0 {
		suspect = s.Finding.Suspects[0]
	}
	if s.Instance = suspect.InstanceID; s.Instance == "" {
		s.Instance = "i-0123456789abcdef0"
	}
	s.ENI = suspect.NetworkInterfaceID
	if s.ENI == "" && len(suspect.Interfaces) > 0 {
		s.ENI = suspect.Interfaces[0]
	}
	if s.ENI == "" {
		s.ENI = "eni-0123456789abcdef0"
	}
	if s.Type == "" {
		s.Type = defaultType
	}
	seed := ec2.InterfaceSeed{ID: s.ENI, Subnet: subnetID, Address: s.network.suspect()}
	address := netip.MustParseAddr(s.network.suspect())
	if c.OuterIPv6 {
		seed.IPv6 = []string{"::1"}
		address = netip.IPv6Loopback()
	}
	r.EC2.AddInstance(ec2.InstanceSeed{ID: s.Instance, Type: s.Type, Interfaces: []ec2.InterfaceSeed{seed}})

	traffic := c.Traffic
	if traffic == nil {
		replay, err := replay(c)
		if err != nil {
			return err
		}
		traffic = replay
	}
	plane, err := r.AddTraffic(s.ENI, dataplane.Config{
		Interface: s.ENI, Address: address, Traffic: traffic, Start: dataplane.WithSession, PacketsPerSecond: c.PPS, Busy: c.Busy, Record: true,
	})
	s.Plane = plane
	return err
}

// AddSuspect puts another instance into the scene, which sends nothing, and returns its interface.
func (s *Scene) AddSuspect(instance, eni string) string {
	s.Region.EC2.AddInstance(ec2.InstanceSeed{ID: instance, Type: defaultType, Interfaces: []ec2.InterfaceSeed{{ID: eni, Subnet: s.subnet}}})
	return eni
}

func replay(c SceneConfig) (*dataplane.Replay, error) {
	suspect := c.Suspect
	if !suspect.IsValid() {
		suspect = Talker(c.Frames)
	}
	if !suspect.IsValid() {
		return nil, errors.New("the recording has no IP packets, so no suspect")
	}
	config := dataplane.ReplayConfig{Frames: c.Frames, Suspect: dataplane.Suspect{Addresses: []netip.Addr{suspect}}, Loop: c.Loop, MaxGap: time.Millisecond}
	if c.Replay > 0 && len(c.Frames) > 0 {
		config.MaxGap = c.Replay / time.Duration(len(c.Frames))
	}
	return dataplane.NewReplay(config)
}

// Publish puts the scene's event on the bus, and says which rules matched.
func (s *Scene) Publish() ([]string, error) { return s.Deployment.Publish(s.Event) }

// Captures are the captures that the bucket holds anything of, oldest first.
func (s *Scene) Captures() ([]events.CaptureID, error) {
	entries, err := os.ReadDir(s.Path(strings.TrimSuffix(events.CapturesPrefix(), "/")))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []events.CaptureID
	for _, e := range entries {
		if c := events.CaptureID(e.Name()); c.Validate() == nil {
			list = append(list, c)
		}
	}
	return list, nil
}

// Path is where the object of a key lies as a plain file.
func (s *Scene) Path(key string) string {
	return filepath.Join(s.Region.S3.BucketDir(s.Settings.Bucket), filepath.FromSlash(key))
}

// Segments are the pcap files of a capture, in order.
func (s *Scene) Segments(c events.CaptureID) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(s.Path(events.CollectorsPrefix(c)), "*", "segments", "*.pcap"))
	slices.Sort(files)
	return files, err
}

// Frames reads back every frame of a capture's segments, in order.
func (s *Scene) Frames(c events.CaptureID) ([]packets.Frame, error) {
	files, err := s.Segments(c)
	if err != nil {
		return nil, err
	}
	var all []packets.Frame
	for _, f := range files {
		frames, err := packets.ReadFile(f)
		if err != nil {
			return nil, err
		}
		all = append(all, frames...)
	}
	return all, nil
}

// Left names everything that captures have made and nobody has removed: AWS resources, schedules of the group, and
// processes of instances.
func (s *Scene) Left() ([]string, error) {
	var left []string
	for _, x := range s.Region.EC2.Left() {
		left = append(left, x.Type+" "+x.ID)
	}
	out, err := s.Region.Schedules.Handle("ListSchedules", map[string]any{"GroupName": s.Settings.ScheduleGroup})
	if err != nil {
		return nil, err
	}
	list, _ := out["Schedules"].([]any)
	for _, x := range list {
		if m, ok := x.(map[string]any); ok {
			left = append(left, fmt.Sprint("schedule ", m["Name"]))
		}
	}
	for _, id := range s.Guest.Instances() {
		left = append(left, "process of "+id)
	}
	return left, nil
}

// Close ends the region.
func (s *Scene) Close() error { return errors.Join(s.Region.Close(), s.network.release()) }
