package link

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestWhatIsTurnedOff(t *testing.T) {
	for _, c := range []struct {
		reason  string
		kind    string
		on      []string
		tunnels bool
		want    []string
	}{
		{"a network card has no need to merge anything", "device", []string{gro, lro, hardware, "tx-checksum-ipv4"}, false, []string{gro, hardware, lro}},
		{"a veth interface receives in batches only with GRO", "veth", []string{gro}, false, nil},
		{"with a tunnel, the frames within datagrams are merged", "veth", []string{gro}, true, []string{gro}},
		{"datagrams themselves are merged", "veth", []string{gro, listed, forwarding}, false, []string{listed, forwarding}},
		{"nothing is on", "device", nil, true, nil},
	} {
		on := map[string]bool{}
		for _, feature := range c.on {
			on[feature] = true
		}
		off := toTurnOff(c.kind, on, c.tunnels)
		if got := slices.Sorted(maps.Keys(off)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.reason, got, c.want)
		}
		for feature, state := range off {
			if state {
				t.Errorf("%s: %s would be turned on", c.reason, feature)
			}
		}
	}
}

func TestWhatIsARisk(t *testing.T) {
	for _, c := range []struct {
		reason  string
		on      map[string]bool
		tunnels []string
		want    int
	}{
		{"nothing takes datagrams apart", map[string]bool{gro: true}, nil, 0},
		{"nothing merges", map[string]bool{gro: false}, []string{"a tunnel"}, 0},
		{"a tunnel, and merging", map[string]bool{gro: true}, []string{"a tunnel"}, 1},
		{"hardware merges TCP", map[string]bool{lro: true, hardware: true}, nil, 0},
		{"datagrams are merged, in two ways", map[string]bool{listed: true, forwarding: true}, nil, 2},
	} {
		if got := risks(c.on, c.tunnels); len(got) != c.want {
			t.Errorf("%s: %q", c.reason, got)
		}
	}
}

func TestRingsTakeASixteenthOfTheMemoryAtMost(t *testing.T) {
	for _, c := range []struct {
		reason    string
		now, most uint32
		queues    int
		memory    uint64
		want      uint32
	}{
		{"c7gn.medium", 1024, 16384, 1, 2 << 30, 16384},
		{"c7gn.xlarge", 1024, 16384, 4, 8 << 30, 16384},
		{"many queues and little memory", 1024, 16384, 32, 4 << 30, 2048},
		{"so little that it stays", 1024, 16384, 64, 1 << 30, 1024},
		{"already the largest", 256, 256, 1, 8 << 30, 256},
		{"a driver that does not say", 256, 0, 1, 8 << 30, 256},
		{"memory that is not known", 1024, 16384, 1, 0, 1024},
	} {
		if got := ringEntries(c.now, c.most, c.queues, c.memory); got != c.want {
			t.Errorf("%s: %d entries, want %d", c.reason, got, c.want)
		}
	}
}

func TestWhatAnInterfaceReceivesThrough(t *testing.T) {
	all := []netlink.Link{
		&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "eth0", Index: 1, MasterIndex: 3}},
		&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "eth1", Index: 2, MasterIndex: 3}},
		&netlink.Bond{LinkAttrs: netlink.LinkAttrs{Name: "bond0", Index: 3}},
		&netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: "bond0.5", Index: 4, ParentIndex: 3}},
		&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "eth2", Index: 5}},
		&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "veth0", Index: 6, ParentIndex: 5}}, // its peer has this index elsewhere
	}
	for iface, want := range map[string]string{"bond0.5": "bond0.5 bond0 eth0 eth1", "eth2": "eth2", "veth0": "veth0", "absent0": ""} {
		var got []string
		for _, l := range below(iface, all) {
			got = append(got, l.Attrs().Name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", iface, got, want)
		}
	}
}

func TestACommandUndoesAChange(t *testing.T) {
	if got, want := (change{iface: "eth0", features: []string{gro, lro}}).command(), "ethtool -K eth0 rx-gro on rx-lro on"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := (change{iface: "eth0", ring: 1024}).command(), "ethtool -G eth0 rx 1024"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestEachLostPacketCountsOnce(t *testing.T) {
	for _, c := range []struct {
		reason string
		risen  map[string]uint64
		want   uint64
	}{
		{"nothing", map[string]uint64{rxDropped: 0}, 0},
		{"EC2 counts an overflow as a drop of the device and as an error", map[string]uint64{rxDropped: 10, rxOver: 7, rxErrors: 7}, 10},
		{"an overflow that is no drop", map[string]uint64{rxDropped: 0, rxOver: 7, rxErrors: 7}, 7},
		{"errors are the sum of their kinds", map[string]uint64{rxErrors: 5, rxCRC: 3, rxLength: 2}, 5},
		{"a driver that does not sum up", map[string]uint64{rxCRC: 3, rxFrame: 2}, 5},
		{"a driver that calls the same overflow by two names", map[string]uint64{rxOver: 4, rxFIFO: 4}, 4},
		{"missed packets are no errors and no drops", map[string]uint64{rxMissed: 6, rxDropped: 1, rxErrors: 2}, 9},
		{"EC2 drops what it can't track before the device sees it", map[string]uint64{conntrack: 3, rxDropped: 1}, 4},
		{"not only drops, not only of this interface, not packets", map[string]uint64{"bw_in_allowance_exceeded": 9, softnet: 9, "total_resets": 1}, 0},
	} {
		l := losses(c.risen)
		if l.Dropped != c.want {
			t.Errorf("%s: %d, want %d", c.reason, l.Dropped, c.want)
		}
		for name, count := range c.risen {
			named := slices.ContainsFunc(l.Counters, func(counter Counter) bool { return counter.Name == name && counter.Count == count })
			if named != (count > 0) {
				t.Errorf("%s: counters %v", c.reason, l.Counters)
			}
		}
	}
}

func TestCountersThatFall(t *testing.T) {
	for _, c := range []struct {
		reason      string
		name        string
		before, now uint64
		want        uint64
	}{
		{"one that rises", rxDropped, 5, 8, 3},
		{"one that was reset, and rose again", rxDropped, 1 << 40, 8, 8},
		{"one that a CPU's 32 bits end", softnet, 1<<32 - 3, 1<<32 - 3 + 5 - 1<<32, 5},
		{"a CPU that went away", softnet, 1000, 10, 0},
	} {
		if got := rise(c.name, c.before, c.now); got != c.want {
			t.Errorf("%s: %d, want %d", c.reason, got, c.want)
		}
	}
}

func TestCountersOfTheDriver(t *testing.T) {
	for name, want := range map[string]string{
		"conntrack_allowance_exceeded":  "conntrack_allowance_exceeded",
		"queue_0_rx_skb_alloc_fail":     "queue_rx_skb_alloc_fail",
		"queue_13_rx_refil_partial":     "queue_rx_refil_partial",
		"queue_0_rx_bad_csum":           "", // it comes through
		"queue_0_rx_cnt":                "",
		"queue_0_tx_dma_mapping_err":    "",
		"conntrack_allowance_available": "",
		"rx_dropped":                    "", // what all interfaces have is asked of the kernel
	} {
		if got, ok := driverCounter(name); ok != (want != "") || ok && got != want {
			t.Errorf("%s: %q, %v", name, got, ok)
		}
	}
	for name := range driverNotes {
		if _, ok := driverCounter(name); !ok {
			t.Errorf("%s has a note and is not read", name)
		}
	}
}

func TestSoftnetDropsAreOfAllCPUs(t *testing.T) {
	const table = "00000b70 00000001 00000000 00000000\n00c99d20 0000000a 00000000 00000000\n"
	if got, err := softnetDrops(strings.NewReader(table)); got != 11 || err != nil {
		t.Errorf("%d, %v", got, err)
	}
	for _, damaged := range []string{"00000b70\n", "00000b70 nonsense\n"} {
		if _, err := softnetDrops(strings.NewReader(damaged)); err == nil {
			t.Errorf("%q is taken", damaged)
		}
	}
}

func TestTablesOfSockets(t *testing.T) {
	const table = `   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
13602: 00000000:12B5 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 57014 2 000000000336600d 0
  117: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000   101        0 23 2 000000000336600e 0
`
	got, err := parseSockets(strings.NewReader(table))
	if want := []socket{{4789, 57014}, {53, 23}}; !slices.Equal(got, want) || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := parseSockets(strings.NewReader(strings.ReplaceAll(table, "57014", "none"))); err == nil {
		t.Error("a damaged table is taken")
	}
}

func TestACounterSaysWhatItCounts(t *testing.T) {
	if got := (Counter{Name: rxMissed, Count: 3}).String(); got != "rx_missed_errors rose by 3" {
		t.Error(got)
	}
	l := losses(map[string]uint64{softnet: 3})
	if got := l.Counters[0].String(); !strings.Contains(got, "softnet dropped rose by 3 (of the whole machine") {
		t.Error(got)
	}
}
