// Package link knows what the network interface that mirrored traffic comes in by does to packets before any socket
// sees them.
package link

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The kernel's names of what merges packets (net/ethtool/common.c, netdev_features_strings).
const (
	gro        = "rx-gro"
	lro        = "rx-lro"
	hardware   = "rx-gro-hw"
	listed     = "rx-gro-list"
	forwarding = "rx-udp-gro-forwarding"
)

var merging = []string{gro, lro, hardware, listed, forwarding}

// Calmed is an interface that leaves packets as they were, as far as it could be made to.
type Calmed struct {
	Remarks []string // what was changed, and what could not be
	Risks   []string // what may merge mirrored packets into ones that never existed, and could not be turned off

	changed []change
	tool    *ethtool.Ethtool // open as long as there is something to restore
}

// change is what has to be undone.
type change struct {
	iface    string
	features []string // that were on
	ring     uint32   // entries of each receive ring; 0: the same as now
}

// Calm turns off what merges packets on an interface and on those below it, and gives it the largest receive rings.
// Drivers may take the link down for it for a moment, so it comes before receiving.
//
// What a device merges in hardware or by LRO is TCP. What the kernel merges (GRO) are also the TCP packets within
// mirrored datagrams, as soon as there is a vxlan or geneve device on the same port anywhere in the network namespace:
// all listeners on the interface then see frames that never existed. On a network card all of it is turned off. A veth
// interface keeps GRO as long as there is no such device, since it needs it to receive in batches.
//
// It needs CAP_NET_ADMIN to change anything. Where that is missing, it says what stays as it is.
func Calm(iface string) (*Calmed, error) {
	if _, err := net.InterfaceByName(iface); err != nil {
		return nil, fmt.Errorf("interface %s: %w", iface, err)
	}
	all, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list the interfaces: %w", err)
	}
	tool, err := ethtool.NewEthtool()
	if err != nil {
		return nil, fmt.Errorf("ask about interface %s: %w", iface, err)
	}
	c := &Calmed{tool: tool}
	tunnels, err := tunnelsNow()
	if err != nil {
		c.remark("whether there are tunnels on the ports of mirrored datagrams is not known: %v", err)
	}
	for _, l := range below(iface, all) {
		if l.Attrs().Flags&net.FlagLoopback != 0 {
			continue // nothing merges there
		}
		before := len(c.changed)
		c.calm(l, tunnels)
		c.widen(l)
		if len(c.changed) > before && l.Attrs().OperState == netlink.OperUp {
			awaitLink(tool, l.Attrs().Name)
		}
	}
	if len(c.changed) == 0 {
		tool.Close()
	}
	return c, nil
}

// tunnelsNow are what makes GRO dangerous.
func tunnelsNow() ([]string, error) {
	f, err := newFinder()
	if err != nil {
		return nil, err
	}
	defer f.close()
	return f.find()
}

// below are an interface and those that it receives through: the members of a bond or a bridge, what a VLAN or a
// macvlan is on.
func below(iface string, all []netlink.Link) []netlink.Link {
	var found []netlink.Link
	for _, l := range all {
		if l.Attrs().Name == iface {
			found = append(found, l)
		}
	}
	for i := 0; i < len(found); i++ { // found grows
		upper := found[i]
		for _, l := range all {
			index := l.Attrs().Index
			member := l.Attrs().MasterIndex == upper.Attrs().Index
			// The parent of a veth interface is its other end, maybe in another namespace.
			parent := index == upper.Attrs().ParentIndex && slices.Contains([]string{"vlan", "macvlan", "macvtap", "ipvlan"}, upper.Type())
			if (member || parent) && !slices.Contains(found, l) {
				found = append(found, l)
			}
		}
	}
	return found
}

// calm turns off what merges packets.
func (c *Calmed) calm(l netlink.Link, tunnels []string) {
	name := l.Attrs().Name
	before, err := c.tool.Features(name)
	if err != nil {
		c.remark("interface %s: what it merges is not known: %v", name, err)
		return
	}
	off := toTurnOff(l.Type(), before, len(tunnels) > 0)
	if len(off) == 0 {
		return
	}
	err = c.tool.Change(name, off)
	after, errAfter := c.tool.Features(name)
	if errAfter != nil {
		after = before
	}
	var changed []string
	for _, feature := range slices.Sorted(maps.Keys(off)) {
		switch {
		case !after[feature]:
			changed = append(changed, feature)
		case err != nil:
			c.remark("interface %s: %s is on and can't be turned off: %v", name, feature, err)
		default:
			c.remark("interface %s: %s is on and can't be turned off", name, feature)
		}
	}
	if len(changed) > 0 {
		c.changed = append(c.changed, change{iface: name, features: changed})
		c.remark("interface %s: %s turned off", name, strings.Join(changed, ", "))
	}
	for _, risk := range risks(after, tunnels) {
		c.Risks = append(c.Risks, fmt.Sprintf("interface %s: %s", name, risk))
	}
}

// toTurnOff decides what has to be off, of what is on.
func toTurnOff(kind string, on map[string]bool, tunnels bool) map[string]bool {
	off := map[string]bool{}
	for _, feature := range merging {
		if on[feature] && (feature != gro || kind != "veth" || tunnels) {
			off[feature] = false
		}
	}
	return off
}

// risks are what merges the packets within mirrored datagrams, or these themselves, of what is on.
func risks(on map[string]bool, tunnels []string) []string {
	var found []string
	if on[gro] && len(tunnels) > 0 {
		found = append(found, fmt.Sprintf("%s is on while there is %s", gro, strings.Join(tunnels, ", ")))
	}
	for _, feature := range []string{listed, forwarding} {
		if on[feature] {
			found = append(found, feature+" is on")
		}
	}
	return found
}

// widen gives a network card the largest receive rings, so that it holds more of a burst.
func (c *Calmed) widen(l netlink.Link) {
	name := l.Attrs().Name
	ring, err := c.tool.GetRing(name)
	if err != nil {
		return // it has none: EOPNOTSUPP
	}
	before := ring.RxPending
	ring.RxPending = ringEntries(ring.RxPending, ring.RxMaxPending, queues(c.tool, name), memory())
	if ring.RxPending == before {
		return
	}
	if _, err := c.tool.SetRing(name, ring); err != nil {
		c.remark("interface %s: its receive rings stay at %d of %d entries: %v", name, before, ring.RxMaxPending, err)
		return
	}
	c.changed = append(c.changed, change{iface: name, ring: before})
	c.remark("interface %s: its receive rings were enlarged from %d to %d entries", name, before, ring.RxPending)
}

// ringEntries is how long a receive ring is to be: the driver's maximum, as long as the buffers of all rings, which
// are a page each, take no more than a sixteenth of the memory.
func ringEntries(now, most uint32, queues int, memory uint64) uint32 {
	const page = 4 << 10
	entries := most
	for entries > now && uint64(entries)*uint64(queues)*page > memory/16 {
		entries /= 2
	}
	return max(entries, now)
}

func memory() uint64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0
	}
	return info.Totalram * uint64(info.Unit)
}

// awaitLink waits for a link that a driver has reset, for as long as negotiating its speed may take.
func awaitLink(tool *ethtool.Ethtool, iface string) {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if up, err := tool.LinkState(iface); err != nil || up == 1 {
			return
		}
	}
}

// Restore turns on again what Calm has turned off. It needs CAP_NET_ADMIN; a collector that has given that up by then
// leaves the interface as it is, and the error says which commands restore it.
func (c *Calmed) Restore() error {
	changed := c.changed
	c.changed = nil
	if len(changed) == 0 {
		return nil
	}
	defer c.tool.Close()
	var errs []error
	for _, change := range slices.Backward(changed) {
		if err := change.undo(c.tool); err != nil {
			errs = append(errs, fmt.Errorf("interface %s is not as it was before; to restore it: %s: %w", change.iface, change.command(), err))
		}
	}
	return errors.Join(errs...)
}

func (c change) undo(tool *ethtool.Ethtool) error {
	if c.ring > 0 {
		ring, err := tool.GetRing(c.iface)
		if err != nil {
			return err
		}
		ring.RxPending = c.ring
		_, err = tool.SetRing(c.iface, ring)
		return err
	}
	on := map[string]bool{}
	for _, feature := range c.features {
		on[feature] = true
	}
	if err := tool.Change(c.iface, on); err != nil {
		return err
	}
	now, err := tool.Features(c.iface)
	if err != nil {
		return err
	}
	for _, feature := range c.features {
		if !now[feature] {
			return fmt.Errorf("%s stays off", feature)
		}
	}
	return nil
}

// command is what a person types to undo a change (ethtool(8)).
func (c change) command() string {
	if c.ring > 0 {
		return fmt.Sprintf("ethtool -G %s rx %d", c.iface, c.ring)
	}
	command := "ethtool -K " + c.iface
	for _, feature := range c.features {
		command += " " + feature + " on"
	}
	return command
}

func (c *Calmed) remark(format string, args ...any) {
	c.Remarks = append(c.Remarks, fmt.Sprintf(format, args...))
}

// RxQueues is how many receive queues an interface has.
func RxQueues(iface string) (int, error) {
	if _, err := net.InterfaceByName(iface); err != nil {
		return 0, fmt.Errorf("interface %s: %w", iface, err)
	}
	tool, err := ethtool.NewEthtool()
	if err != nil {
		return 0, fmt.Errorf("ask about interface %s: %w", iface, err)
	}
	defer tool.Close()
	return queues(tool, iface), nil
}

// queues asks the driver. One that does not know of channels has a single queue.
func queues(tool *ethtool.Ethtool, iface string) int {
	channels, err := tool.GetChannels(iface)
	if err != nil {
		return 1
	}
	return max(1, int(channels.RxCount+channels.CombinedCount))
}
