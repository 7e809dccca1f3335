package region

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"

	"flashtap/testutil/region/ec2"
	"flashtap/testutil/region/imds"
)

// Guest is what runs in an instance.
type Guest interface {
	// Run boots the instance's operating system and returns when it has powered off. shutdown is closed when EC2 asks
	// it to; ctx ends when the plug is pulled.
	Run(ctx context.Context, m Machine, shutdown <-chan struct{}) error
}

// Machine is what an instance offers its guest.
type Machine struct {
	ID, Type string
	UserData []byte
	Dir      string            // its disk
	Env      map[string]string // credentials, endpoint and metadata service
	Console  io.Writer         // what GetConsoleOutput shows
}

// guests are the running instances that have a guest.
type guests struct {
	region *Region

	mu      sync.Mutex
	running map[string]*running
	work    sync.WaitGroup
}

type running struct {
	metadata *imds.Server
	shutdown chan struct{}
	once     sync.Once
	plug     context.CancelFunc
}

// boot starts the guest of an instance that became running, when it has user data for one.
func (g *guests) boot(i ec2.Instance) error {
	r := g.region
	if r.cfg.Guest == nil || len(i.UserData) == 0 {
		return nil
	}
	dir := filepath.Join(r.cfg.Dir, "instances", i.ID)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("boot %s: %w", i.ID, err)
	}
	console, err := os.Create(filepath.Join(r.cfg.Dir, "logs", i.ID+".console"))
	if err != nil {
		return fmt.Errorf("boot %s: %w", i.ID, err)
	}
	ctx, plug := context.WithCancel(context.Background())
	metadata, err := imds.Serve(ctx, g.metadata(i))
	if err != nil {
		plug()
		return fmt.Errorf("boot %s: %w", i.ID, err)
	}
	env := r.Environ("flashtap-collector")
	delete(env, "AWS_EC2_METADATA_DISABLED")
	env["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = metadata.URL
	one := &running{metadata: metadata, shutdown: make(chan struct{}), plug: plug}
	g.mu.Lock()
	if g.running == nil {
		g.running = map[string]*running{}
	}
	g.running[i.ID] = one
	g.mu.Unlock()
	g.work.Go(func() {
		err := r.cfg.Guest.Run(ctx, Machine{ID: i.ID, Type: i.Type, UserData: i.UserData, Dir: dir, Env: env, Console: console}, one.shutdown)
		if err != nil {
			fmt.Fprintf(console, "guest ended: %v\n", err)
			r.log.Warn("guest ended", "instance", i.ID, "err", err)
		}
		plug()
		if err := metadata.Close(); err != nil {
			r.log.Error("metadata service", "instance", i.ID, "err", err)
		}
		console.Close()
		g.mu.Lock()
		delete(g.running, i.ID)
		g.mu.Unlock()
		r.EC2.PoweredOff(i.ID)
	})
	return nil
}

func (g *guests) metadata(i ec2.Instance) imds.Instance {
	m := imds.Instance{
		ID: i.ID, Type: i.Type, ImageID: i.ImageID, AccountID: g.region.cfg.Account, Region: g.region.cfg.Name,
		AvailabilityZone: i.Zone, LaunchTime: i.LaunchedAt, UserData: i.UserData, MetadataTags: i.MetadataTags, Tags: i.Tags,
	}
	for _, ni := range i.Interfaces {
		mac, err := net.ParseMAC(g.region.EC2.MAC(ni.ID))
		if err != nil {
			g.region.log.Error("interface without MAC", "eni", ni.ID, "err", err)
		}
		m.Interfaces = append(m.Interfaces, imds.Interface{
			ID: ni.ID, MAC: mac, SubnetID: ni.SubnetID, VPCID: ni.VPCID, DeviceIndex: ni.DeviceIndex, SecurityGroupIDs: ni.Groups,
			IPv4s: append([]netip.Addr{ni.Address}, ni.Secondary...), IPv6s: ni.IPv6,
		})
	}
	return m
}

// shutDown asks the guest to power off.
func (g *guests) shutDown(instance string) {
	g.mu.Lock()
	one := g.running[instance]
	g.mu.Unlock()
	if one != nil {
		one.once.Do(func() { close(one.shutdown) })
	}
}

// tagged lets the guest see its instance's tags.
func (g *guests) tagged(instance string, tags map[string]string) {
	g.mu.Lock()
	one := g.running[instance]
	g.mu.Unlock()
	if one == nil {
		return
	}
	if err := one.metadata.SetTags(tags); err != nil {
		g.region.log.Error("tags not shown to the guest", "instance", instance, "err", err)
	}
}

// PullPlug ends an instance's guest at once, as a host that dies does; EC2 then shows the instance as terminated.
func (r *Region) PullPlug(instance string) error {
	r.guests.mu.Lock()
	one := r.guests.running[instance]
	r.guests.mu.Unlock()
	if one == nil {
		return fmt.Errorf("pull the plug of %s: nothing runs on it", instance)
	}
	one.plug()
	return nil
}

func (g *guests) killAll() {
	g.mu.Lock()
	for _, one := range g.running {
		one.plug()
	}
	g.mu.Unlock()
	g.work.Wait()
}
