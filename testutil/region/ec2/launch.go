package ec2

import (
	"encoding/base64"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// maxUserData is the limit before base64 (EC2 user guide, "Run commands when you
// launch an EC2 instance with user data input").
const maxUserData = 16 << 10

// volume is an EBS volume that came with an instance.
type volume struct {
	thing
	device              string
	deleteOnTermination bool
}

func (*volume) kind() kind { return kindVolume }

// launch is a RunInstances call, checked but not carried out.
type launch struct {
	params
	template, templateVersion string
	count                     int
	image                     *image
	typ                       instanceType
	interfaces                []*interfacePlan
	userData                  []byte
	profile                   Profile
	metadata                  metadata
	behavior                  string
	tags                      map[string]map[string]string
	volumes                   []volume
}

func (s *Service) runInstances(r *request) (map[string]any, error) {
	return s.once(r, s.zoneOf(r.params), func() (func() (map[string]any, error), error) {
		plan, err := s.planLaunch(r)
		if err != nil {
			return nil, err
		}
		ids, err := s.carryOut(r, plan)
		if err != nil {
			return nil, err
		}
		return func() (map[string]any, error) { return s.showReservation(ids) }, nil
	})
}

// zoneOf is the zone a launch asks for: with one, its client token counts only
// there (EC2 developer guide, "Ensuring idempotency").
func (s *Service) zoneOf(p params) string {
	ids := []string{p.str("SubnetId")}
	for _, spec := range p.objects("NetworkInterfaces") {
		ids = append(ids, spec.str("SubnetId"))
		if e, ok := s.all[spec.str("NetworkInterfaceId")].(*netInterface); ok {
			return e.subnet.zone
		}
	}
	for _, id := range ids {
		if n, ok := s.all[id].(*subnet); ok {
			return n.zone
		}
	}
	return p.object("Placement").str("AvailabilityZone")
}

// showReservation answers a launch and each repetition of it.
func (s *Service) showReservation(ids []string) (map[string]any, error) {
	var shown []any
	reservation, alive := "", false
	for _, id := range ids {
		if i, ok := s.all[id].(*instance); ok {
			reservation, alive = i.reservation, alive || i.state != "terminated"
			shown = append(shown, s.showInstance(i))
		}
	}
	if !alive {
		return nil, apiError("IdempotentInstanceTerminated", "The client token you have provided is associated with an instance which has already been terminated.")
	}
	return map[string]any{"ReservationId": reservation, "OwnerId": s.cfg.Account, "Instances": shown}, nil
}

// planLaunch checks a launch in all that does not change anything.
func (s *Service) planLaunch(r *request) (*launch, error) {
	plan := &launch{params: r.params, behavior: "stop"}
	if r.has("LaunchTemplate") {
		from := r.object("LaunchTemplate")
		t, err := s.template(from)
		if err != nil {
			return nil, err
		}
		n, err := t.version(from.str("Version"))
		if err != nil {
			return nil, err
		}
		plan.template, plan.templateVersion = t.id, strconv.Itoa(n)
		plan.params = merged(t.versions[n-1].data, r.params)
	}
	steps := []func(*launch) error{s.planCount, s.planMachine, s.planNetwork, s.planGuest, s.planTags, s.planVolumes}
	for _, step := range steps {
		if err := step(plan); err != nil {
			return nil, err
		}
	}
	return plan, nil
}

func (s *Service) planCount(plan *launch) error {
	least, most := plan.number("MinCount"), plan.number("MaxCount")
	if least < 1 || most < least {
		return invalidValue("Invalid value '%d' for MinCount and '%d' for MaxCount", least, most)
	}
	plan.count = most
	return nil
}

// planMachine settles image and type.
func (s *Service) planMachine(plan *launch) error {
	id := plan.str("ImageId")
	if id == "" {
		return apiError("MissingParameter", "The request must contain the parameter ImageId")
	}
	if parameter, ok := strings.CutPrefix(id, "resolve:ssm:"); ok {
		resolved := ""
		if s.cfg.ResolveParameter != nil {
			resolved, _ = s.cfg.ResolveParameter(parameter)
		}
		if resolved == "" {
			return invalidValue("Invalid value '%s' for imageId: the parameter cannot be resolved", id)
		}
		id = resolved
	}
	var err error
	if plan.image, err = find[*image](s, kindImage, id); err != nil {
		return err
	}
	name := plan.str("InstanceType")
	if name == "" {
		return apiError("MissingParameter", "The request must contain the parameter InstanceType")
	}
	known := false
	if plan.typ, known = instanceTypes[name]; !known {
		return apiError("Unsupported", "The requested configuration is currently not supported: %s is not among the local region's types.", name)
	}
	if !slices.Contains(plan.typ.architectures, plan.image.architecture) {
		return invalidValue("The architecture '%s' of the specified instance type does not match the architecture '%s' of the specified AMI.",
			strings.Join(plan.typ.architectures, ","), plan.image.architecture)
	}
	return nil
}

// planNetwork settles the interfaces, given either one by one or by the
// parameters of a single one.
func (s *Service) planNetwork(plan *launch) error {
	specs := plan.objects("NetworkInterfaces")
	if len(specs) > 0 {
		for _, alone := range []string{"SubnetId", "SecurityGroupIds", "SecurityGroups", "PrivateIpAddress", "Ipv6AddressCount", "Ipv6Addresses"} {
			if plan.has(alone) {
				return apiError("InvalidParameterCombination", "Network interfaces and an instance-level %s may not be specified on the same request", alone)
			}
		}
	} else {
		one := params{"DeviceIndex": int64(0)}
		for _, name := range []string{"SubnetId", "PrivateIpAddress", "Ipv6AddressCount", "Ipv6Addresses"} {
			if plan.has(name) {
				one[name] = plan.params[name]
			}
		}
		if plan.has("SecurityGroupIds") {
			one["Groups"] = plan.params["SecurityGroupIds"]
		}
		specs = []params{one}
	}
	devices := map[int]bool{}
	zone := ""
	for _, spec := range specs {
		p, err := s.planDevice(spec)
		if err != nil {
			return err
		}
		if devices[p.device] {
			return invalidValue("Each network interface requires a unique device index.")
		}
		devices[p.device] = true
		if zone != "" && p.subnet.zone != zone {
			return invalidValue("All network interfaces of an instance must be in the same Availability Zone.")
		}
		zone = p.subnet.zone
		if plan.count > 1 && (p.existing != nil || p.address.IsValid()) {
			return apiError("InvalidParameterCombination", "A network interface or private IP address cannot be specified when launching multiple instances.")
		}
		plan.interfaces = append(plan.interfaces, p)
	}
	if !devices[0] {
		return invalidValue("The primary network interface must have a device index of 0.")
	}
	if len(specs) > plan.typ.interfaces {
		return apiError("AttachmentLimitExceeded", "Interface count %d exceeds the limit for %s", len(specs), plan.typ.name)
	}
	if wanted := plan.object("Placement").str("AvailabilityZone"); wanted != "" && wanted != zone {
		return invalidValue("The availability zone '%s' does not match that of the subnet, '%s'.", wanted, zone)
	}
	if !s.offered(plan.typ.name, zone) {
		return apiError("Unsupported", "Your requested instance type (%s) is not supported in your requested Availability Zone (%s).", plan.typ.name, zone)
	}
	return nil
}

func (s *Service) planDevice(spec params) (*interfacePlan, error) {
	if id := spec.str("NetworkInterfaceId"); id != "" {
		e, err := find[*netInterface](s, kindInterface, id)
		if err != nil {
			return nil, err
		}
		if e.attachment != nil {
			return nil, apiError("InvalidNetworkInterface.InUse", "Interface: [%s] in use.", id)
		}
		if spec.has("SubnetId") || spec.has("Groups") || spec.has("PrivateIpAddress") {
			return nil, apiError("InvalidParameterCombination", "A network interface may not specify a network interface ID and a subnet, security groups or an address")
		}
		// An interface made beforehand outlives the instance unless told otherwise.
		return &interfacePlan{existing: e, subnet: e.subnet, device: spec.number("DeviceIndex"), card: spec.number("NetworkCardIndex"), deleteOnTermination: spec.flag("DeleteOnTermination")}, nil
	}
	if spec.str("SubnetId") == "" {
		return nil, apiError("MissingInput", "No subnets found for the default VPC. Please specify a subnet.")
	}
	n, err := find[*subnet](s, kindSubnet, spec.str("SubnetId"))
	if err != nil {
		return nil, err
	}
	return s.planInterface(spec, n, spec.strs("Groups"))
}

// planGuest settles what the guest finds: user data, role, metadata service.
func (s *Service) planGuest(plan *launch) error {
	if text := plan.str("UserData"); text != "" {
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return invalidValue("Invalid BASE64 encoding of user data.")
		}
		if len(raw) > maxUserData {
			return invalidValue("User data is limited to %d bytes", maxUserData)
		}
		plan.userData = raw
	}
	if profile := plan.object("IamInstanceProfile"); profile != nil {
		found := false
		for _, p := range s.profiles {
			if arn := profile.str("Arn"); arn != "" && arn == p.ARN || arn == "" && profile.str("Name") == p.Name {
				plan.profile, found = p, true
			}
		}
		if !found {
			return invalidValue("Value (%s) for parameter iamInstanceProfile is invalid. Invalid IAM Instance Profile", profile.str("Arn")+profile.str("Name"))
		}
	}
	if key := plan.str("KeyName"); key != "" { // nobody has made one
		return apiError("InvalidKeyPair.NotFound", "The key pair '%s' does not exist", key)
	}
	if b := plan.str("InstanceInitiatedShutdownBehavior"); b != "" {
		plan.behavior = b
	}
	options := plan.object("MetadataOptions")
	plan.metadata = metadata{tokens: "optional", endpoint: "enabled", hops: 1, tags: options.str("InstanceMetadataTags") == "enabled"}
	if t := options.str("HttpTokens"); t != "" {
		plan.metadata.tokens = t
	}
	if e := options.str("HttpEndpoint"); e != "" {
		plan.metadata.endpoint = e
	}
	if options.has("HttpPutResponseHopLimit") {
		plan.metadata.hops = options.number("HttpPutResponseHopLimit")
		if plan.metadata.hops < 1 || plan.metadata.hops > 64 {
			return invalidValue("The HttpPutResponseHopLimit must be between 1 and 64")
		}
	}
	return nil
}

func (s *Service) planTags(plan *launch) error {
	r := &request{params: plan.params}
	tags, err := r.tagsOnCreate("instance", "volume", "network-interface", "spot-instances-request", "elastic-gpu")
	if err != nil {
		return err
	}
	if plan.metadata.tags {
		if err := fitForMetadata(tags["instance"]); err != nil {
			return err
		}
	}
	plan.tags = tags
	return nil
}

func (s *Service) planVolumes(plan *launch) error {
	plan.volumes = []volume{{device: plan.image.root, deleteOnTermination: true}}
	for _, mapping := range plan.objects("BlockDeviceMappings") {
		ebs := mapping.object("Ebs")
		v := volume{device: mapping.str("DeviceName"), deleteOnTermination: !ebs.has("DeleteOnTermination") || ebs.flag("DeleteOnTermination")}
		if v.device == "" {
			return apiError("MissingParameter", "The request must contain the parameter DeviceName of a block device mapping")
		}
		if v.device == plan.image.root {
			plan.volumes[0] = v
		} else if ebs != nil {
			plan.volumes = append(plan.volumes, v)
		}
	}
	return nil
}

// carryOut starts the instances of a plan, all or none.
func (s *Service) carryOut(r *request, plan *launch) ([]string, error) {
	zone := plan.interfaces[0].subnet.zone
	if err := s.fitCapacity(plan, zone); err != nil {
		return nil, err
	}
	reservation := s.newID("r").id
	var made []resource
	var ids []string
	for index := range plan.count {
		i := &instance{thing: s.newThing(kindInstance, plan.tags["instance"]), typ: plan.typ.name, image: plan.image.id, architecture: plan.image.architecture, reservation: reservation,
			template: plan.template, templateVersion: plan.templateVersion, subnet: plan.interfaces[0].subnet, profile: plan.profile, userData: plan.userData,
			behavior: plan.behavior, metadata: plan.metadata, launched: r.now, token: r.str("ClientToken"), principal: r.principal, root: plan.image.root,
			launchIndex: index, protected: plan.flag("DisableApiTermination"), ebsOptimized: plan.flag("EbsOptimized")}
		for _, p := range plan.interfaces {
			if p.device == 0 {
				i.subnet = p.subnet
			}
		}
		if plan.template != "" {
			i.tags["aws:ec2launchtemplate:id"], i.tags["aws:ec2launchtemplate:version"] = plan.template, plan.templateVersion
		}
		s.add(i)
		made = append(made, i)
		for _, p := range plan.interfaces {
			e := p.existing
			if e == nil {
				var err error
				if e, err = s.makeInterface(p, plan.tags["network-interface"]); err != nil {
					for _, undone := range made {
						s.remove(undone.base().id)
					}
					return nil, err
				}
				made = append(made, e)
			}
			s.attach(e, i, p.device, p.card, p.deleteOnTermination)
		}
		for _, v := range plan.volumes {
			v.thing = s.newThing(kindVolume, plan.tags["volume"])
			s.add(&v)
			made = append(made, &v)
			i.volumes = append(i.volumes, v.id)
		}
		ids = append(ids, i.id)
	}
	if key := (capacityKey{plan.typ.name, zone}); s.capacity[key] > 0 {
		s.capacity[key] -= plan.count
	}
	for _, id := range ids {
		i := s.all[id].(*instance)
		s.become(i, "pending")
		s.start(i)
	}
	return ids, nil
}

// fitCapacity checks the account's and the zone's room for a launch, and starts no
// more instances than there is room for.
func (s *Service) fitCapacity(plan *launch, zone string) error {
	if limit := s.cfg.Limits.VCPUs; limit > 0 {
		running := plan.count * plan.typ.vcpus
		for _, i := range every[*instance](s) {
			if i.state == "pending" || i.state == "running" {
				running += instanceTypes[i.typ].vcpus
			}
		}
		if running > limit {
			return apiError("VcpuLimitExceeded", "You have requested more vCPU capacity than your current vCPU limit of %d allows for the instance bucket that the specified instance type belongs to.", limit)
		}
	}
	key := capacityKey{plan.typ.name, zone}
	more, limited := s.capacity[key]
	if !limited {
		return nil
	}
	if least := plan.number("MinCount"); more < least {
		// A server error: EC2 lists it under those, and the SDKs retry it.
		return &APIError{Code: "InsufficientInstanceCapacity", Status: http.StatusInternalServerError,
			Message: "We currently do not have sufficient " + plan.typ.name + " capacity in the Availability Zone you requested (" + zone + ")."}
	}
	plan.count = min(plan.count, more)
	return nil
}

// Tags returns the tags of a resource.
func (s *Service) Tags(id string) map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, ok := s.all[id]; ok {
		return maps.Clone(r.base().tags)
	}
	return nil
}
