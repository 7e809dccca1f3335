package ec2

import (
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

//go:embed data/instancetypes.tsv
var instanceTypeTable string

//go:embed data/mirrorsources.txt
var mirrorSourceList string

//go:embed data/hundredsources.txt
var hundredSourceList string

// instanceType is what DescribeInstanceTypes knows of a type.
type instanceType struct {
	name, performance, ena, hypervisor     string
	architectures                          []string
	vcpus, memory, cards, interfaces, ipv4 int
	storage                                int
	baseline, peak                         float64
	metal, current                         bool
}

var (
	instanceTypes = readInstanceTypes()
	// virtualSources and metalSources are the families that can be mirrored.
	virtualSources, metalSources = readMirrorSources()
	hundredSources               = readWords(hundredSourceList)
)

func readInstanceTypes() map[string]instanceType {
	types := map[string]instanceType{}
	for line := range strings.Lines(instanceTypeTable) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		number := func(i int) int { return int(decimal(f[i])) }
		types[f[0]] = instanceType{name: f[0], architectures: strings.Split(f[1], ","), vcpus: number(2), memory: number(3), baseline: decimal(f[4]), peak: decimal(f[5]),
			cards: number(6), performance: f[7], interfaces: number(8), ipv4: number(9), ena: f[10], hypervisor: f[11], metal: f[12] == "1", current: f[13] == "1", storage: number(14)}
	}
	return types
}

func decimal(text string) float64 {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		panic(fmt.Sprintf("ec2: the compiled-in table of instance types holds %q for a number", text))
	}
	return f
}

func readWords(list string) map[string]bool {
	words := map[string]bool{}
	for line := range strings.Lines(list) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		for _, word := range strings.Fields(line) {
			words[word] = true
		}
	}
	return words
}

func readMirrorSources() (virtualized, metal map[string]bool) {
	before, after, _ := strings.Cut(mirrorSourceList, "\nmetal\n")
	_, before, _ = strings.Cut(before, "\nvirtualized\n")
	return readWords(before), readWords(after)
}

// mirrorable says whether interfaces of an instance type can be a mirror's source
// (what-is-traffic-mirroring): bare-metal sizes have a list of their own, also
// those named metal-24xl and the like.
func mirrorable(name string) bool {
	family, size, _ := strings.Cut(name, ".")
	if strings.HasPrefix(size, "metal") {
		return metalSources[family]
	}
	return virtualSources[family]
}

// sourcesOf says how many sources an interface of a type takes as a target
// (traffic-mirroring-quotas).
func sourcesOf(name string) int {
	if hundredSources[name] {
		return 100
	}
	return 10
}

type capacityKey struct{ instanceType, zone string }

// SetCapacity says how many more instances of a type a zone can start; below that
// RunInstances answers InsufficientInstanceCapacity. A negative number means as
// many as wanted.
func (s *Service) SetCapacity(instanceType, zone string, more int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := capacityKey{instanceType, zone}
	if more < 0 {
		delete(s.capacity, key)
		return
	}
	s.capacity[key] = more
}

// Withdraw makes a zone not offer a type at all.
func (s *Service) Withdraw(instanceType, zone string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offers[capacityKey{instanceType, zone}] = true
}

func (s *Service) offered(name, zone string) bool {
	_, known := instanceTypes[name]
	return known && !s.offers[capacityKey{name, zone}]
}

func showInstanceType(t instanceType) map[string]any {
	var cards []any
	for i := range t.cards {
		cards = append(cards, map[string]any{"NetworkCardIndex": i, "NetworkPerformance": t.performance, "MaximumNetworkInterfaces": (t.interfaces + t.cards - 1) / t.cards,
			"BaselineBandwidthInGbps": t.baseline, "PeakBandwidthInGbps": t.peak})
	}
	m := map[string]any{
		"InstanceType": t.name, "BareMetal": t.metal, "CurrentGeneration": t.current, "BurstablePerformanceSupported": strings.HasPrefix(t.name, "t"),
		"SupportedUsageClasses": []any{"on-demand", "spot"}, "SupportedRootDeviceTypes": []any{"ebs"}, "SupportedVirtualizationTypes": []any{"hvm"},
		"ProcessorInfo": map[string]any{"SupportedArchitectures": anys(t.architectures)}, "VCpuInfo": map[string]any{"DefaultVCpus": t.vcpus},
		"MemoryInfo": map[string]any{"SizeInMiB": t.memory}, "InstanceStorageSupported": t.storage > 0,
		"NetworkInfo": map[string]any{"NetworkPerformance": t.performance, "MaximumNetworkInterfaces": t.interfaces, "MaximumNetworkCards": t.cards,
			"DefaultNetworkCardIndex": 0, "NetworkCards": cards, "Ipv4AddressesPerInterface": t.ipv4, "Ipv6AddressesPerInterface": t.ipv4, "Ipv6Supported": true,
			"EnaSupport": t.ena, "EfaSupported": false},
	}
	if t.hypervisor != "none" {
		m["Hypervisor"] = t.hypervisor
	}
	if t.storage > 0 {
		m["InstanceStorageInfo"] = map[string]any{"TotalSizeInGB": t.storage}
	}
	return m
}

func (s *Service) describeInstanceTypes(r *request) (map[string]any, error) {
	var views []view
	for _, name := range sortedKeys(instanceTypes) {
		if slices.ContainsFunc(s.cfg.Zones, func(zone string) bool { return s.offered(name, zone) }) {
			views = append(views, view{id: name, fields: showInstanceType(instanceTypes[name])})
		}
	}
	for _, name := range r.strs("InstanceTypes") {
		if !slices.ContainsFunc(views, func(v view) bool { return v.id == name }) {
			return nil, apiError("InvalidInstanceType", "The following supplied instance types do not exist: [%s]", name)
		}
	}
	return r.list(views, listing{ids: "InstanceTypes", out: "InstanceTypes", idsOrPages: true, filters: map[string]string{
		"bare-metal": "BareMetal", "burstable-performance-supported": "BurstablePerformanceSupported", "current-generation": "CurrentGeneration",
		"hypervisor": "Hypervisor", "instance-storage-info.total-size-in-gb": "InstanceStorageInfo.TotalSizeInGB",
		"instance-storage-supported": "InstanceStorageSupported", "instance-type": "InstanceType", "memory-info.size-in-mib": "MemoryInfo.SizeInMiB",
		"network-info.efa-supported": "NetworkInfo.EfaSupported", "network-info.ena-support": "NetworkInfo.EnaSupport",
		"network-info.ipv4-addresses-per-interface": "NetworkInfo.Ipv4AddressesPerInterface", "network-info.ipv6-addresses-per-interface": "NetworkInfo.Ipv6AddressesPerInterface",
		"network-info.ipv6-supported": "NetworkInfo.Ipv6Supported", "network-info.maximum-network-cards": "NetworkInfo.MaximumNetworkCards",
		"network-info.maximum-network-interfaces": "NetworkInfo.MaximumNetworkInterfaces", "network-info.network-performance": "NetworkInfo.NetworkPerformance",
		"processor-info.supported-architecture": "ProcessorInfo.SupportedArchitectures", "supported-root-device-type": "SupportedRootDeviceTypes",
		"supported-usage-class": "SupportedUsageClasses", "supported-virtualization-type": "SupportedVirtualizationTypes", "vcpu-info.default-vcpus": "VCpuInfo.DefaultVCpus"}})
}

func (s *Service) describeInstanceTypeOfferings(r *request) (map[string]any, error) {
	kind := r.str("LocationType")
	if kind == "" {
		kind = "region"
	}
	var views []view
	offer := func(name, location string) {
		views = append(views, view{id: name + " " + location, fields: map[string]any{"InstanceType": name, "Location": location, "LocationType": kind}})
	}
	for _, name := range sortedKeys(instanceTypes) {
		anywhere := false
		for _, zone := range s.cfg.Zones {
			if !s.offered(name, zone) {
				continue
			}
			anywhere = true
			switch kind {
			case "availability-zone":
				offer(name, zone)
			case "availability-zone-id":
				offer(name, s.zoneID(zone))
			}
		}
		if kind == "region" && anywhere {
			offer(name, s.cfg.Region)
		}
	}
	return r.list(views, listing{out: "InstanceTypeOfferings", filters: map[string]string{"instance-type": "InstanceType", "location": "Location"}})
}
