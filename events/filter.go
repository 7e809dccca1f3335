package events

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Filter says which packets of the source are mirrored, in AWS's own terms: rules in ascending number within a
// direction, the first match decides, no match means not mirrored (VPC Traffic Mirroring guide, "Filters").
type Filter struct {
	Rules []FilterRule `json:"rules"`
	DNS   bool         `json:"dns"` // network service amazon-dns: all DNS to and from the VPC resolver
}

// FilterRule is one rule of a traffic mirror filter.
type FilterRule struct {
	Number           int32      `json:"number"`             // unique per direction
	Direction        string     `json:"direction"`          // Ingress or Egress, as seen from the source
	Action           string     `json:"action"`             // Accept or Reject
	Protocol         int32      `json:"protocol,omitempty"` // IANA protocol number; 0 means every protocol
	SourceCIDR       string     `json:"sourceCidr"`
	DestinationCIDR  string     `json:"destinationCidr"`
	SourcePorts      *PortRange `json:"sourcePorts,omitempty"`
	DestinationPorts *PortRange `json:"destinationPorts,omitempty"`
}

// PortRange is a range of TCP or UDP ports, both ends included.
type PortRange struct {
	From int32 `json:"from"`
	To   int32 `json:"to"`
}

// The words of a rule, as the EC2 API spells them.
const (
	Ingress = "ingress"
	Egress  = "egress"
	Accept  = "accept"
	Reject  = "reject"
)

// MaxFilterRules is AWS's quota of rules in one filter, not adjustable (VPC Traffic Mirroring guide, "Quotas").
const MaxFilterRules = 10

// EverythingFilter mirrors all IPv4 and IPv6 both ways and the VPC resolver's DNS. It takes four rules, since
// 0.0.0.0/0 never matches IPv6.
func EverythingFilter() Filter {
	return Filter{
		DNS: true,
		Rules: []FilterRule{
			{Number: 100, Direction: Ingress, Action: Accept, SourceCIDR: "0.0.0.0/0", DestinationCIDR: "0.0.0.0/0"},
			{Number: 110, Direction: Ingress, Action: Accept, SourceCIDR: "::/0", DestinationCIDR: "::/0"},
			{Number: 100, Direction: Egress, Action: Accept, SourceCIDR: "0.0.0.0/0", DestinationCIDR: "0.0.0.0/0"},
			{Number: 110, Direction: Egress, Action: Accept, SourceCIDR: "::/0", DestinationCIDR: "::/0"},
		},
	}
}

// Validate names every rule that AWS would refuse, and a filter that would mirror nothing.
func (f Filter) Validate() error {
	var errs []error
	if !f.DNS && !slices.ContainsFunc(f.Rules, func(r FilterRule) bool { return r.Action == Accept }) {
		errs = append(errs, errors.New("filter mirrors nothing: no rule says accept, and dns is false"))
	}
	if len(f.Rules) > MaxFilterRules {
		errs = append(errs, fmt.Errorf("filter has %d rules; AWS allows %d", len(f.Rules), MaxFilterRules))
	}
	type place struct {
		direction string
		number    int32
	}
	seen := map[place]bool{}
	for i, r := range f.Rules {
		if err := r.validate(); err != nil {
			errs = append(errs, fmt.Errorf("filter rule %d: %w", i+1, err))
		}
		at := place{r.Direction, r.Number}
		if seen[at] {
			errs = append(errs, fmt.Errorf("filter rule %d: number %d is taken in direction %s", i+1, r.Number, r.Direction))
		}
		seen[at] = true
	}
	return errors.Join(errs...)
}

func (r FilterRule) validate() error {
	if r.Number < 1 || r.Number > MaxSessionNumber {
		return fmt.Errorf("number %d: want 1 to %d", r.Number, MaxSessionNumber)
	}
	if r.Direction != Ingress && r.Direction != Egress {
		return fmt.Errorf("direction %q: want %s or %s", r.Direction, Ingress, Egress)
	}
	if r.Action != Accept && r.Action != Reject {
		return fmt.Errorf("action %q: want %s or %s", r.Action, Accept, Reject)
	}
	source, err := netip.ParsePrefix(r.SourceCIDR)
	if err != nil {
		return fmt.Errorf("sourceCidr: %w", err)
	}
	destination, err := netip.ParsePrefix(r.DestinationCIDR)
	if err != nil {
		return fmt.Errorf("destinationCidr: %w", err)
	}
	if source.Addr().Is4() != destination.Addr().Is4() {
		return fmt.Errorf("%s and %s are of different families; one rule serves one", source, destination)
	}
	if r.Protocol < 0 || r.Protocol > 255 {
		return fmt.Errorf("protocol %d: want an IANA number, 1 to 255, or 0 for all", r.Protocol)
	}
	for _, ports := range []*PortRange{r.SourcePorts, r.DestinationPorts} {
		if ports == nil {
			continue
		}
		if r.Protocol != protocolTCP && r.Protocol != protocolUDP {
			return errors.New("ports need protocol 6 (TCP) or 17 (UDP)")
		}
		if ports.From < 0 || ports.To > 65535 || ports.From > ports.To {
			return fmt.Errorf("ports %d-%d: want an ascending range within 0 to 65535", ports.From, ports.To)
		}
	}
	return nil
}

// IANA protocol numbers.
const (
	protocolICMP   = 1
	protocolTCP    = 6
	protocolUDP    = 17
	protocolICMPv6 = 58
)
