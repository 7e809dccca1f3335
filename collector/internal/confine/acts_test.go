package confine

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const nobody = 65534

// allowed are the acts of a collector that uploads.
var allowed = []string{
	"make, sync and rename a file", "make a directory and move a file there", "link a file", "sync a directory",
	"remove a file", "list", "read the names of hosts", "read the time zone", "use the null device",
	"start threads, be interrupted, collect garbage", "wait in poll", "map memory", "ask for its limits", "signal itself",
	"list interfaces", "connect", "resolve a name", "resolve the local name", "ask how the clock stands",
	"filter and count packets, and give the ring back",
}

// expect compares what happened with what may. Everything that is not named is to be refused, whatever the error.
func expect(t *testing.T, o outcome, allowed []string) {
	t.Helper()
	for name, err := range o.Acts {
		switch may := slices.Contains(allowed, name); {
		case may && err != "":
			t.Errorf("%s: %s", name, err)
		case !may && err == "":
			t.Errorf("%s: it was not refused", name)
		case !may && !refusal(err):
			t.Errorf("%s: it failed, but was not refused: %s", name, err)
		}
	}
}

// refusal says whether an error is one of those by which an act is forbidden.
func refusal(err string) bool {
	return slices.ContainsFunc([]error{unix.EPERM, unix.EACCES, unix.EXDEV, unix.ENOSYS}, func(e error) bool {
		return strings.HasSuffix(err, e.Error())
	})
}

// asRoot skips what only root can try.
func asRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("CI must run this test as root")
	}
	t.Skip("only root has privileges to give up")
}

func TestLiveDropLeavesWhatACollectorDoes(t *testing.T) {
	o, cmd := played(t, staged(t, 0))
	expect(t, o, allowed)
	threads(t, cmd)
	for _, part := range []string{"no core dumps", "no_new_privs", "files by Landlock (version ", "no capabilities", "system calls by seccomp"} {
		if !strings.Contains(o.Report, part) {
			t.Errorf("%q is not said in %q", part, o.Report)
		}
	}
}

func TestLiveDropAsNobody(t *testing.T) {
	asRoot(t)
	o, cmd := played(t, staged(t, nobody))
	expect(t, o, allowed)
	threads(t, cmd)
}

// threads looks at all threads of a confined process.
func threads(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", cmd.Process.Pid))
	if err != nil || len(tasks) < 3 {
		t.Fatalf("%d threads, %v", len(tasks), err)
	}
	const none = "0000000000000000"
	want := map[string]string{"CapInh": none, "CapPrm": none, "CapEff": none, "CapAmb": none, "NoNewPrivs": "1", "Seccomp": "2"}
	if os.Geteuid() == 0 {
		// Whoever has no capabilities to begin with can't empty this set either.
		status, err := os.ReadFile(tasks[0])
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(status), "Uid:\t0\t") {
			want["CapBnd"] = none
		}
	}
	for _, task := range tasks {
		status, err := os.ReadFile(task)
		if errors.Is(err, os.ErrNotExist) {
			continue // it has ended
		}
		if err != nil {
			t.Fatal(err)
		}
		for field, value := range want {
			if !strings.Contains(string(status), field+":\t"+value+"\n") {
				t.Errorf("%s: %s is not %s:\n%s", task, field, value, status)
			}
		}
	}
}

func TestLiveDropWithoutNetwork(t *testing.T) {
	s := staged(t, 0)
	s.Drop.Network, s.Drop.Ports = false, nil
	o, _ := played(t, s)
	offline := slices.DeleteFunc(slices.Clone(allowed), func(name string) bool {
		return slices.Contains([]string{"connect", "resolve a name", "resolve the local name", "read the names of hosts"}, name)
	})
	for _, name := range []string{"resolve a name", "resolve the local name"} {
		if o.Acts[name] == "" {
			t.Errorf("%s: it was not refused", name)
		}
		delete(o.Acts, name) // the resolver has errors of its own
	}
	expect(t, o, offline)
	if !strings.Contains(o.Report, "no TCP") {
		t.Error(o.Report)
	}
}

func TestLiveDropWithAnyPort(t *testing.T) {
	for _, ports := range [][]uint16{nil, {443, 0}} {
		s := staged(t, 0)
		s.Drop.Ports = ports
		o, _ := played(t, s)
		expect(t, o, append(slices.Clone(allowed), "connect to another port"))
		if !strings.Contains(o.Report, "TCP to any port") {
			t.Error(o.Report)
		}
	}
}

func TestLiveDropWithMoreToRead(t *testing.T) {
	s := staged(t, 0)
	s.Drop.Read = []string{filepath.Join(s.Outside, "there")}
	o, _ := played(t, s)
	expect(t, o, append(slices.Clone(allowed), "read outside", "read outside, by threads that waited", "read outside, by new threads"))
}

// What an older kernel does not have is named, and the rest is done.
func TestLiveDropInAnOlderKernel(t *testing.T) {
	for _, c := range []struct {
		reason string
		calls  []uint32
		want   string
		more   []string // that is not refused then
	}{
		{"without Landlock", []uint32{unix.SYS_LANDLOCK_CREATE_RULESET}, "; not available here: Landlock (unsupported operation: function not implemented)", nil},
		{"without seccomp", []uint32{unix.SYS_SECCOMP}, "; not available here: seccomp (unsupported operation: seccomp: function not implemented)", nil},
		{"without either", []uint32{unix.SYS_LANDLOCK_CREATE_RULESET, unix.SYS_SECCOMP}, "; not available here: Landlock (unsupported operation: function not implemented), seccomp (", nil},
	} {
		t.Run(c.reason, func(t *testing.T) {
			s := staged(t, 0)
			s.Older = c.calls
			o, _ := played(t, s)
			if !strings.Contains(o.Report, c.want) || !strings.Contains(o.Report, "no capabilities") {
				t.Errorf("%q is not said in %q", c.want, o.Report)
			}
			for _, name := range allowed {
				if err := o.Acts[name]; err != "" {
					t.Errorf("%s: %s", name, err)
				}
			}
		})
	}
}

func TestACrashEndsByASignalAndLeavesNoCore(t *testing.T) {
	s := staged(t, 0)
	s.Crash = true
	_, cmd := played(t, s)
	err := cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatal(err)
	}
	status := exit.Sys().(syscall.WaitStatus)
	if !status.Signaled() || status.Signal() != unix.SIGABRT || status.CoreDump() {
		t.Errorf("%v, core dump %v", err, status.CoreDump())
	}
}

func TestDirectoriesThatAreNotThereAreNamed(t *testing.T) {
	for _, s := range []scene{
		{Drop: Config{Write: []string{"/absent/spool"}}},
		{Drop: Config{Read: []string{"/absent/bundle.pem"}}},
	} {
		told, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "CONFINE_CHILD="+string(told))
		output, err := cmd.CombinedOutput()
		out := string(output)
		if strings.Contains(out, "cgo") {
			t.Skip(out)
		}
		if err == nil || !strings.Contains(out, "give up privileges: Landlock: allow /absent/") {
			t.Errorf("%v: %s", err, out)
		}
	}
}
