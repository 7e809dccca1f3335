package filter

import (
	"cmp"
	"net/netip"
	"slices"

	"flashtap/events"
)

// least are the widest blocks that peers are merged into. The near ones are those in which neighbours usually belong together;
// the far ones are what IANA gives a registry at once, and whoever would need wider ones gets everything.
type least struct{ v4, v6 int }

var (
	near = least{24, 64}
	far  = least{8, 12}
)

// fit makes pairs of peers and services, and merges as little as needed to have room for them: neighbouring peers first, then the
// port ranges of services, then peers that are further apart. Merging only ever adds packets. False when even that is not enough.
func fit(peers []netip.Prefix, services []pair) (accept []pair, merged, fits bool) {
	peers, services = slices.Clone(peers), slices.Clone(services)
	if len(peers)+len(services) > maxPairs {
		slices.SortFunc(peers, netip.Prefix.Compare)
		slices.SortFunc(services, compareServices)
	}
	for len(peers)+len(services) > maxPairs {
		merged = true
		var done bool
		if peers, done = mergePeers(peers, near); done {
			continue
		}
		if services, done = mergePorts(services); done {
			continue
		}
		if peers, done = mergePeers(peers, far); !done {
			return nil, true, false
		}
	}
	for _, p := range peers {
		accept = append(accept, pair{remote: p})
	}
	return append(accept, services...), merged, true
}

// mergePeers replaces the two nearest blocks, and all that lie within what holds both, by one. Peers are in
// order, so the nearest are neighbours.
func mergePeers(peers []netip.Prefix, widest least) ([]netip.Prefix, bool) {
	var best netip.Prefix
	nearest := -1.0
	for i := 1; i < len(peers); i++ {
		p := supernet(peers[i-1], peers[i])
		if !p.IsValid() || p.Bits() < widest.bits(p) {
			continue
		}
		if share := float64(p.Bits()) / float64(p.Addr().BitLen()); share > nearest {
			best, nearest = p, share
		}
	}
	if nearest < 0 {
		return peers, false
	}
	peers = slices.DeleteFunc(peers, best.Overlaps)
	at, _ := slices.BinarySearchFunc(peers, best, netip.Prefix.Compare)
	return slices.Insert(peers, at, best), true
}

func (l least) bits(p netip.Prefix) int {
	if p.Addr().Is4() {
		return l.v4
	}
	return l.v6
}

// mergePorts replaces the two nearest port ranges of one side, protocol and family by one that holds both. Services are in order.
func mergePorts(services []pair) ([]pair, bool) {
	nearest, gap := 0, int32(1<<17)
	for i := 1; i < len(services); i++ {
		if a, b := services[i-1], services[i]; alike(a, b) && b.ports().From-a.ports().To < gap {
			nearest, gap = i, b.ports().From-a.ports().To
		}
	}
	if nearest == 0 {
		return services, false
	}
	a, b := &services[nearest-1], services[nearest]
	both := &events.PortRange{From: a.ports().From, To: max(a.ports().To, b.ports().To)}
	if a.localPorts != nil {
		a.localPorts = both
	} else {
		a.remotePorts = both
	}
	return slices.Delete(services, nearest, nearest+1), true
}

func compareServices(a, b pair) int {
	return cmp.Or(cmp.Compare(a.protocol, b.protocol), a.remote.Compare(b.remote), cmp.Compare(a.side(), b.side()), cmp.Compare(a.ports().From, b.ports().From))
}

// alike says whether two services differ in nothing but their ports.
func alike(a, b pair) bool {
	return a.protocol == b.protocol && a.remote == b.remote && a.side() == b.side() && a.side() != ""
}

// side is whose ports a service has: it has those of one.
func (p pair) side() string {
	switch {
	case p.localPorts != nil:
		return "local"
	case p.remotePorts != nil:
		return "remote"
	}
	return ""
}

func (p pair) ports() events.PortRange {
	switch p.side() {
	case "local":
		return *p.localPorts
	case "remote":
		return *p.remotePorts
	}
	return events.PortRange{}
}

// distinct leaves out what is there already.
func distinct(list []pair) []pair {
	type key struct {
		protocol int32
		remote   netip.Prefix
		side     string
		ports    events.PortRange
	}
	seen := map[key]bool{}
	return slices.DeleteFunc(list, func(p pair) bool {
		k := key{p.protocol, p.remote, p.side(), p.ports()}
		defer func() { seen[k] = true }()
		return seen[k]
	})
}
