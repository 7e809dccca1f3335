//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Machine is where the figures come from. Those of two machines can't be compared, nor those of two hours on one.
type Machine struct {
	CPU     string            `json:"cpu"`
	CPUs    int               `json:"cpus"`
	Memory  int64             `json:"memory"`
	Kernel  string            `json:"kernel"`
	Go      string            `json:"go"`
	Date    time.Time         `json:"date"`
	Load    string            `json:"load"` // of the last 1, 5 and 15 minutes
	Peers   map[string]string `json:"peers"`
	Missing []string          `json:"missing,omitempty"`
}

func thisMachine() *Machine {
	m := &Machine{CPUs: runtime.NumCPU(), Go: runtime.Version(), Date: time.Now().UTC(), Peers: map[string]string{}}
	m.CPU = runtime.GOARCH
	cpuinfo, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.SplitSeq(string(cpuinfo), "\n") {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		m.Memory = int64(info.Totalram) * int64(info.Unit)
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		m.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	load, _ := os.ReadFile("/proc/loadavg")
	if f := strings.Fields(string(load)); len(f) > 3 {
		m.Load = strings.Join(f[:3], " ")
	}
	for _, tool := range []string{"tcpdump", "dumpcap", "editcap", "netsniff-ng"} {
		if _, err := exec.LookPath(tool); err != nil {
			m.Missing = append(m.Missing, tool)
			continue
		}
		out, _ := exec.Command(tool, "--version").CombinedOutput()
		line, _, _ := strings.Cut(string(out), "\n")
		m.Peers[tool] = strings.TrimSpace(strings.TrimPrefix(line, tool+" "))
	}
	return m
}

// String is a line for the head of a table.
func (m *Machine) String() string {
	return fmt.Sprintf("%s, %d CPUs, %d GiB, Linux %s, %s, %s, load %s", m.CPU, m.CPUs, (m.Memory+1<<29)>>30, m.Kernel, m.Go, m.Date.Format("2006-01-02 15:04 UTC"), m.Load)
}
