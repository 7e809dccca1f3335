//go:build linux

package main

import (
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// collector is a program under test.
type collector struct {
	name   string
	title  string
	tool   string // that must be installed; empty: it is built here
	args   func(w workplace) []string
	before func(w workplace) [][]string // commands that make what it captures from
	after  func(w workplace) [][]string // and that remove it
}

// workplace is what a collector is told.
type workplace struct {
	iface string
	dir   string // for its files
	bin   string // where the programs are that were built
	vni   uint32
	addr  netip.Addr // that the outer packets go to
}

// The names of ours and of the peers, as on the command line.
const (
	ours         = "ours"
	oursDigest   = "ours-sha256"
	oursSocket   = "ours-socket"
	tcpdump      = "tcpdump"
	tcpdumpRoll  = "tcpdump-C"
	tcpdumpVXLAN = "tcpdump-vxlan"
	dumpcap      = "dumpcap"
	netsniff     = "netsniff-ng"
	gopacketLoop = "gopacket"
)

// vxlanDevice is the kernel's own decapsulation.
const vxlanDevice = "ftvx0"

// Every peer gets a buffer of 64 MiB, like our ring, where it lets us; tcpdump's own user could not write here.
var collectors = []collector{
	{name: ours, title: "flashtap", args: oursArgs("--sha256=false")},
	{name: oursDigest, title: "flashtap, SHA-256", args: oursArgs("--segment-bytes", "100000000")},
	{name: oursSocket, title: "flashtap, sockets", args: oursArgs("--sha256=false", "--receiver", "socket")},
	{name: tcpdump, title: "tcpdump -w", tool: "tcpdump", args: tcpdumpArgs("")},
	{name: tcpdumpRoll, title: "tcpdump -C 100", tool: "tcpdump", args: tcpdumpArgs("100")},
	{
		name: tcpdumpVXLAN, title: "tcpdump on a vxlan device", tool: "tcpdump",
		before: func(w workplace) [][]string {
			device := []string{"ip", "link", "add", vxlanDevice, "type", "vxlan", "id", fmt.Sprint(w.vni), "dstport", "4789", "dev", w.iface}
			mtu := "8951" // what is left of 9001
			if w.addr.Is6() {
				device, mtu = append(device, "local", w.addr.String()), "8931"
			}
			return [][]string{
				device,
				{"ip", "link", "set", vxlanDevice, "mtu", mtu, "up"},
			}
		},
		args: func(w workplace) []string {
			return []string{"tcpdump", "-i", vxlanDevice, "-n", "-B", "65536", "-s", "0", "-Z", "root", "-w", w.dir + "/out.pcap"}
		},
		after: func(workplace) [][]string { return [][]string{{"ip", "link", "del", vxlanDevice}} },
	},
	{name: dumpcap, title: "dumpcap -b filesize", tool: "dumpcap", args: func(w workplace) []string {
		return []string{"dumpcap", "-q", "-i", w.iface, "-f", "udp port 4789", "-B", "64", "-b", "filesize:100000", "-w", w.dir + "/out.pcapng"}
	}},
	{name: netsniff, title: "netsniff-ng -F 100MiB", tool: "netsniff-ng", args: func(w workplace) []string {
		return []string{"netsniff-ng", "--in", w.iface, "--out", w.dir + "/", "--interval", "100MiB", "--ring-size", "64MiB", "--silent", "--magic", "0xa1b23c4d", "udp port 4789"}
	}},
	{name: gopacketLoop, title: "gopacket, no cgo", args: func(w workplace) []string {
		return []string{filepath.Join(w.bin, gopacketProgram), "-live", w.iface, w.dir + "/out.pcap"}
	}},
}

// Names of the programs that are built for a run.
const (
	collectorProgram = "collector"
	toolProgram      = "flashtap"
	gopacketProgram  = "gopacketloop"
)

func oursArgs(more ...string) func(workplace) []string {
	return func(w workplace) []string {
		return append([]string{filepath.Join(w.bin, collectorProgram), "run", "--interface", w.iface, "--dir", filepath.Join(w.dir, "capture")}, more...)
	}
}

func tcpdumpArgs(megabytes string) func(workplace) []string {
	return func(w workplace) []string {
		args := []string{"tcpdump", "-i", w.iface, "-n", "-B", "65536", "-s", "0", "-Z", "root", "-w", w.dir + "/out.pcap"}
		if megabytes != "" {
			args = append(args, "-C", megabytes)
		}
		return append(args, "udp", "port", "4789")
	}
}

// custom is a collector that somebody else brings along: NAME=COMMAND, with {if} and {dir} to be filled in.
func custom(text string) (collector, error) {
	name, command, ok := strings.Cut(text, "=")
	if !ok || name == "" || command == "" {
		return collector{}, fmt.Errorf("collector %q: want NAME=COMMAND", text)
	}
	return collector{name: name, title: name, args: func(w workplace) []string {
		return []string{"sh", "-c", "exec " + strings.NewReplacer("{if}", w.iface, "{dir}", w.dir).Replace(command)}
	}}, nil
}

// findCollectors finds collectors by their names, with commas between.
func findCollectors(list string, customs []collector) (found []collector, err error) {
	known := slices.Concat(collectors, customs)
	for name := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(known, func(c collector) bool { return c.name == name })
		if i < 0 {
			var names []string
			for _, c := range known {
				names = append(names, c.name)
			}
			return nil, fmt.Errorf("there is no collector %q; there are %s", name, strings.Join(names, ", "))
		}
		found = append(found, known[i])
	}
	return found, nil
}

// title is how a collector is called in tables.
func title(name string) string {
	for _, c := range collectors {
		if c.name == name {
			return c.title
		}
	}
	return name
}

// installed says whether a collector can run here.
func (c collector) installed() bool {
	if c.tool == "" {
		return true
	}
	_, err := exec.LookPath(c.tool)
	return err == nil
}
