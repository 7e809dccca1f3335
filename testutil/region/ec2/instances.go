package ec2

import (
	"maps"
	"net/netip"
	"slices"
	"time"
)

// Instance is what the rest of the region may know of an instance.
type Instance struct {
	ID, Type, ImageID string
	State             string
	VPCID, SubnetID   string
	Zone              string
	Profile           Profile
	// UserData is decoded, as the guest's metadata service hands it out.
	UserData   []byte
	Addresses  []netip.Addr // of the first interface, the primary one first
	IPv6       []netip.Addr
	Interfaces []Interface
	Tags       map[string]string
	// Template and TemplateVersion are empty for a launch without one.
	Template, TemplateVersion string
	ShutdownBehavior          string // stop or terminate
	HopLimit                  int
	TokensRequired            bool // IMDSv2 only
	MetadataTags              bool
	LaunchedAt                time.Time
	ClientToken, Principal    string
}

// Profile is an instance profile with the one role in it.
type Profile struct {
	Name, ARN, ID    string
	RoleName, RoleID string
}

// InstanceSeed is an instance that exists before any call, such as a suspect.
type InstanceSeed struct {
	ID, Type, ImageID string
	Interfaces        []InterfaceSeed // the first is device 0
	Tags              map[string]string
	Profile           string
	Stopped           bool
	LaunchedAt        time.Time
}

type instance struct {
	thing
	typ, image, architecture  string
	reservation               string
	template, templateVersion string
	subnet                    *subnet
	profile                   Profile
	userData                  []byte
	state                     string
	reasonCode, reason        string
	transition                string
	behavior                  string
	metadata                  metadata
	launched, ended           time.Time
	token, principal, root    string
	launchIndex               int
	protected, ebsOptimized   bool
	volumes                   []string
	// turn counts the state changes, so that a timer knows whether its own is
	// still the next.
	turn int
}

type metadata struct {
	tokens, endpoint string
	hops             int
	tags             bool
}

func (*instance) kind() kind { return kindInstance }

// The codes of instance states (API reference, "InstanceState").
var stateCodes = map[string]int{"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}

// AddInstanceProfile seeds an instance profile. A missing ARN or id is made up.
func (s *Service) AddInstanceProfile(p Profile) Profile {
	s.mu.Lock()
	defer s.unlock()
	if p.ARN == "" {
		p.ARN = "arn:aws:iam::" + s.cfg.Account + ":instance-profile/" + p.Name
	}
	if p.RoleName == "" {
		p.RoleName = p.Name
	}
	if p.ID == "" {
		p.ID = "AIPAEXAMPLE" + p.Name
	}
	if p.RoleID == "" {
		p.RoleID = "AROAEXAMPLE" + p.RoleName
	}
	s.profiles[p.Name] = p
	return p
}

// AddInstance seeds a running instance and returns its id.
func (s *Service) AddInstance(seed InstanceSeed) string {
	s.mu.Lock()
	defer s.unlock()
	i := &instance{thing: s.seedThing(kindInstance, seed.ID, seed.Tags), typ: seed.Type, image: seed.ImageID, architecture: "x86_64", reservation: s.newID("r").id,
		state: "running", behavior: "stop", metadata: metadata{tokens: "optional", endpoint: "enabled", hops: 2}, launched: seed.LaunchedAt, root: "/dev/xvda",
		profile: s.profiles[seed.Profile]}
	if t, known := instanceTypes[seed.Type]; known {
		i.architecture = t.architectures[len(t.architectures)-1]
	}
	if seed.Stopped {
		i.state = "stopped"
	}
	if i.launched.IsZero() {
		i.launched = s.cfg.Now().Add(-24 * time.Hour)
	}
	s.add(i)
	for device, e := range seed.Interfaces {
		made := s.seedInterface(e)
		s.attach(made, i, device, 0, device == 0)
		if device == 0 {
			i.subnet = made.subnet
		}
	}
	if i.subnet == nil {
		panic("ec2: an instance needs an interface")
	}
	return i.id
}

// Instance returns an instance by its id, also a terminated one while it is described.
func (s *Service) Instance(id string) (Instance, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, ok := s.all[id].(*instance)
	if !ok {
		return Instance{}, false
	}
	return s.knownInstance(i), true
}

// Instances returns all instances that are still described.
func (s *Service) Instances() []Instance {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Instance
	for _, i := range every[*instance](s) {
		list = append(list, s.knownInstance(i))
	}
	return list
}

func (s *Service) knownInstance(i *instance) Instance {
	out := Instance{ID: i.id, Type: i.typ, ImageID: i.image, State: i.state, VPCID: i.subnet.vpc.id, SubnetID: i.subnet.id, Zone: i.subnet.zone, Profile: i.profile,
		UserData: slices.Clone(i.userData), Tags: maps.Clone(i.tags), Template: i.template, TemplateVersion: i.templateVersion, ShutdownBehavior: i.behavior,
		HopLimit: i.metadata.hops, TokensRequired: i.metadata.tokens == "required", MetadataTags: i.metadata.tags, LaunchedAt: i.launched,
		ClientToken: i.token, Principal: i.principal}
	for n, e := range s.interfacesOf(i) {
		if n == 0 {
			out.Addresses, out.IPv6 = e.addresses(), slices.Clone(e.ipv6)
		}
		out.Interfaces = append(out.Interfaces, s.known(e))
	}
	return out
}

// become changes an instance's state and tells the event bus.
func (s *Service) become(i *instance, state string) {
	i.state = state
	i.turn++
	if s.cfg.Hooks.Event != nil {
		detail := StateChange{InstanceID: i.id, State: state}
		s.outbox = append(s.outbox, func() { s.cfg.Hooks.Event("aws.ec2", "EC2 Instance State-change Notification", detail) })
	}
	if state == "terminated" {
		s.bury(i)
	}
}

// then changes the state after a delay, unless something else changed it before.
func (s *Service) then(i *instance, delay time.Duration, change func()) {
	turn := i.turn
	s.later(delay, func() {
		if i.turn == turn {
			change()
		}
	})
}

// start takes a pending instance to running and boots its guest.
func (s *Service) start(i *instance) {
	s.then(i, s.cfg.Pending, func() {
		s.become(i, "running")
		if s.cfg.Hooks.Boot == nil {
			return
		}
		guest := s.knownInstance(i)
		s.outbox = append(s.outbox, func() {
			go func() {
				if err := s.cfg.Hooks.Boot(guest); err != nil {
					s.mu.Lock()
					defer s.unlock()
					s.end(i, "Server.InternalError", "Server.InternalError: "+err.Error())
				}
			}()
		})
	})
}

// end begins the termination of an instance.
func (s *Service) end(i *instance, code, reason string) {
	if i.state == "shutting-down" || i.state == "terminated" {
		return
	}
	stopped := i.state == "stopped"
	i.reasonCode, i.reason, i.transition = code, reason, "User initiated ("+s.cfg.Now().UTC().Format("2006-01-02 15:04:05 GMT")+")"
	s.become(i, "shutting-down")
	if !stopped {
		s.signal(i)
	}
	s.then(i, s.cfg.ShuttingDown, func() { s.become(i, "terminated") })
}

func (s *Service) signal(i *instance) {
	if s.cfg.Hooks.Stop != nil {
		id := i.id
		s.outbox = append(s.outbox, func() { go s.cfg.Hooks.Stop(id) })
	}
}

// bury removes what ends with an instance, and later the instance itself.
func (s *Service) bury(i *instance) {
	s.terminated[i.id] = true
	i.ended = s.cfg.Now()
	for _, e := range s.interfacesOf(i) {
		if e.attachment.deleteOnTermination {
			s.dropInterface(e)
		} else {
			e.attachment = nil
		}
	}
	for _, id := range i.volumes {
		if v, ok := s.all[id].(*volume); ok && v.deleteOnTermination {
			s.remove(id)
		}
	}
	s.later(s.cfg.TerminatedVisible, func() { s.remove(i.id) })
}

// PoweredOff says that the guest shut itself down: the instance is terminated or
// stopped as its InstanceInitiatedShutdownBehavior says. While EC2 itself is
// ending or stopping the instance, it ends the wait for the guest.
func (s *Service) PoweredOff(instanceID string) {
	s.mu.Lock()
	defer s.unlock()
	i, ok := s.all[instanceID].(*instance)
	if !ok {
		return
	}
	switch i.state {
	case "shutting-down":
		s.become(i, "terminated")
	case "stopping":
		s.become(i, "stopped")
	case "pending", "running":
		i.reasonCode, i.reason = "Client.InstanceInitiatedShutdown", "Client.InstanceInitiatedShutdown: Instance initiated shutdown"
		if i.behavior == "terminate" {
			s.become(i, "shutting-down")
			s.then(i, s.cfg.ShuttingDown, func() { s.become(i, "terminated") })
			return
		}
		s.become(i, "stopping")
		s.then(i, s.cfg.Stopping, func() { s.become(i, "stopped") })
	}
}

// TerminateSuspect terminates an instance from outside, as its owner would.
func (s *Service) TerminateSuspect(id string) {
	s.mu.Lock()
	defer s.unlock()
	s.end(mustFind[*instance](s, id), "Client.UserInitiatedShutdown", "Client.UserInitiatedShutdown: User initiated shutdown")
}

// ChangeType gives an instance another type, as its owner can while it is stopped.
func (s *Service) ChangeType(id, instanceType string) {
	s.mu.Lock()
	defer s.unlock()
	mustFind[*instance](s, id).typ = instanceType
}

// SetConsoleOutput is what GetConsoleOutput shows of an instance.
func (s *Service) SetConsoleOutput(id, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.console[id] = text
}

func (s *Service) instancesNamed(r *request) ([]*instance, error) {
	var list []*instance
	for _, id := range r.strs("InstanceIds") {
		i, err := find[*instance](s, kindInstance, id)
		if err != nil {
			return nil, err
		}
		list = append(list, i)
	}
	return list, nil
}

func (s *Service) terminateInstances(r *request) (map[string]any, error) {
	list, err := s.instancesNamed(r)
	if err != nil {
		return nil, err
	}
	for _, i := range list {
		if i.protected && i.state != "terminated" {
			return nil, apiError("OperationNotPermitted", "The instance '%s' may not be terminated. Modify its 'disableApiTermination' instance attribute and try again.", i.id)
		}
	}
	return s.change(list, "TerminatingInstances", func(i *instance) {
		s.end(i, "Client.UserInitiatedShutdown", "Client.UserInitiatedShutdown: User initiated shutdown")
	})
}

func (s *Service) stopInstances(r *request) (map[string]any, error) {
	list, err := s.instancesNamed(r)
	if err != nil {
		return nil, err
	}
	for _, i := range list {
		if i.state == "terminated" || i.state == "shutting-down" || i.state == "pending" {
			return nil, apiError("IncorrectInstanceState", "The instance '%s' is not in a state from which it can be stopped.", i.id)
		}
	}
	return s.change(list, "StoppingInstances", s.halt)
}

// halt stops an instance that runs.
func (s *Service) halt(i *instance) {
	if i.state != "running" {
		return
	}
	i.reasonCode, i.reason = "Client.UserInitiatedShutdown", "Client.UserInitiatedShutdown: User initiated shutdown"
	s.become(i, "stopping")
	s.signal(i)
	s.then(i, s.cfg.Stopping, func() { s.become(i, "stopped") })
}

func (s *Service) startInstances(r *request) (map[string]any, error) {
	list, err := s.instancesNamed(r)
	if err != nil {
		return nil, err
	}
	for _, i := range list {
		if i.state != "stopped" && i.state != "running" {
			return nil, apiError("IncorrectInstanceState", "The instance '%s' is not in a state from which it can be started.", i.id)
		}
	}
	return s.change(list, "StartingInstances", s.restart)
}

// restart starts an instance that is stopped.
func (s *Service) restart(i *instance) {
	if i.state != "stopped" {
		return
	}
	i.reasonCode, i.reason, i.launched = "", "", s.cfg.Now()
	s.become(i, "pending")
	s.start(i)
}

// change applies a state change to instances and answers before and after.
func (s *Service) change(list []*instance, member string, apply func(*instance)) (map[string]any, error) {
	var changes []any
	for _, i := range list {
		before := showState(i.state)
		apply(i)
		changes = append(changes, map[string]any{"InstanceId": i.id, "PreviousState": before, "CurrentState": showState(i.state)})
	}
	return map[string]any{member: changes}, nil
}
