package region

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

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
	Env      map[string]string // credentials, endpoint and metadata service; the role is the principal
	Console  io.Writer         // what GetConsoleOutput shows
}

// onInstance stands between the role and the id of the instance in the principal of a guest.
const onInstance = "+"

// guests are the running instances that have a guest.
type guests struct {
	region *Region

	mu      sync.Mutex
	closed  bool
	running map[string]*running
	ended   map[string]bool // instances that EC2 ended; a boot on its way comes too late
	work    sync.WaitGroup
}

type running struct {
	ready    chan struct{} // closed when metadata is there
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
	ctx, plug := context.WithCancel(context.Background())
	one := &running{ready: make(chan struct{}), shutdown: make(chan struct{}), plug: plug}
	defer close(one.ready)
	if !g.enter(i.ID, one) {
		plug()
		return nil
	}
	m, console, err := g.machine(ctx, i, one)
	if err != nil {
		plug()
		g.leave(i.ID)
		return fmt.Errorf("boot %s: %w", i.ID, err)
	}
	go func() {
		defer g.leave(i.ID)
		if err := r.cfg.Guest.Run(ctx, m, one.shutdown); err != nil {
			fmt.Fprintf(console, "guest ended: %v\n", err)
			r.log.Warn("guest ended", "instance", i.ID, "err", err)
		}
		plug()
		if err := errors.Join(one.metadata.Close(), console.Close()); err != nil {
			r.log.Error("guest's surroundings", "instance", i.ID, "err", err)
		}
		r.EC2.PoweredOff(i.ID)
	}()
	return nil
}

// enter makes an instance known, unless it is too late for it to boot.
func (g *guests) enter(instance string, one *running) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed || g.ended[instance] {
		return false
	}
	if g.running == nil {
		g.running = map[string]*running{}
	}
	g.running[instance] = one
	g.work.Add(1)
	return true
}

func (g *guests) leave(instance string) {
	g.mu.Lock()
	delete(g.running, instance)
	g.mu.Unlock()
	g.work.Done()
}

// machine gives a guest its surroundings: disk, console, metadata service.
func (g *guests) machine(ctx context.Context, i ec2.Instance, one *running) (Machine, *console, error) {
	r := g.region
	dir := filepath.Join(r.cfg.Dir, "instances", i.ID)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Machine{}, nil, err
	}
	file, err := os.Create(filepath.Join(r.cfg.Dir, "logs", i.ID+".console"))
	if err != nil {
		return Machine{}, nil, err
	}
	if one.metadata, err = imds.Serve(ctx, g.metadata(i)); err != nil {
		return Machine{}, nil, errors.Join(err, file.Close())
	}
	env := r.Environ(cmp.Or(i.Profile.RoleName, i.ID) + onInstance + i.ID)
	delete(env, "AWS_EC2_METADATA_DISABLED")
	env["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = one.metadata.URL
	c := &console{ec2: r.EC2, instance: i.ID, file: file}
	return Machine{ID: i.ID, Type: i.Type, UserData: i.UserData, Dir: dir, Env: env, Console: c}, c, nil
}

// console keeps what a guest prints.
type console struct {
	ec2      *ec2.Service
	instance string

	mu   sync.Mutex
	file *os.File
	tail []byte
}

// consoleTail is how much of a console's output EC2 keeps (API reference, GetConsoleOutput).
const consoleTail = 64 << 10

func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tail = append(c.tail, p...)
	c.tail = c.tail[max(0, len(c.tail)-consoleTail):]
	c.ec2.SetConsoleOutput(c.instance, string(c.tail))
	return c.file.Write(p)
}

func (c *console) Close() error { return c.file.Close() }

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
	if p := i.Profile; p.RoleName != "" {
		m.Profile = &imds.Profile{ARN: p.ARN, ID: p.ID, Role: p.RoleName, Credentials: func() (imds.Credentials, error) {
			key, secret := g.region.S3.Credentials()
			return imds.Credentials{AccessKeyID: key, SecretAccessKey: secret, Updated: i.LaunchedAt, Expires: time.Now().Add(6 * time.Hour)}, nil
		}}
	}
	return m
}

// shutDown asks the guest to power off.
func (g *guests) shutDown(instance string) {
	g.mu.Lock()
	one := g.running[instance]
	if one == nil {
		g.end(instance)
	}
	g.mu.Unlock()
	if one != nil {
		one.once.Do(func() { close(one.shutdown) })
	}
}

// changed lets an instance that was stopped boot again, and pulls the plug of an instance that EC2 no longer waits for.
func (g *guests) changed(c ec2.StateChange) {
	if c.State == "pending" { // it boots, perhaps again
		g.mu.Lock()
		delete(g.ended, c.InstanceID)
		g.mu.Unlock()
		return
	}
	if c.State != "terminated" && c.State != "stopped" {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.end(c.InstanceID)
	if one := g.running[c.InstanceID]; one != nil {
		one.plug()
	}
}

// end notes that an instance boots no more, unless somebody starts it; g.mu is held.
func (g *guests) end(instance string) {
	if g.ended == nil {
		g.ended = map[string]bool{}
	}
	g.ended[instance] = true
}

// tagged lets the guest see its instance's tags.
func (g *guests) tagged(instance string, tags map[string]string) {
	g.mu.Lock()
	one := g.running[instance]
	g.mu.Unlock()
	if one == nil {
		return
	}
	<-one.ready
	if one.metadata == nil {
		return // it did not boot
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

// killAll pulls every plug and waits; nothing boots afterwards.
func (g *guests) killAll() {
	g.mu.Lock()
	g.closed = true
	for _, one := range g.running {
		one.plug()
	}
	g.mu.Unlock()
	g.work.Wait()
}
