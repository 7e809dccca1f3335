package events

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// exposure is what systemd-analyze makes of the unit at most, on its scale from 0 (nothing can happen) to 10. It takes
// adjtimex, which the collector only reads by, for the right to set the clock: without that, 0.2 less.
const exposure = "3.0"

// TestCollectorUnitIsHardened asks systemd what the unit leaves to the collector. The text is the one in the user data.
func TestCollectorUnitIsHardened(t *testing.T) {
	script, err := UserData(testConfig(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	unit := regexp.MustCompile(`(?s)flashtap-collector\.service <<'UNIT'\n(.*?)UNIT\n`).FindSubmatch(script)
	if unit == nil {
		t.Fatal("the user data writes no unit")
	}
	if !strings.Contains(string(unit[1]), "\nCapabilityBoundingSet=CAP_NET_RAW CAP_NET_ADMIN CAP_BPF CAP_SETPCAP\n") {
		t.Error("the unit does not leave the collector what it needs to begin")
	}
	program, err := exec.LookPath("systemd-analyze")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("CI needs systemd-analyze, of Debian's package systemd")
		}
		t.Skip("systemd-analyze is not installed")
	}
	path := filepath.Join(t.TempDir(), "flashtap-collector.service")
	if err := os.WriteFile(path, unit[1], 0o644); err != nil {
		t.Fatal(err)
	}
	threshold := strings.ReplaceAll(exposure, ".", "") // it counts in tenths here
	out, err := exec.Command(program, "security", "--no-pager", "--offline=yes", "--threshold="+threshold, path).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if words := regexp.MustCompile(`Overall exposure level.*`).Find(out); words != nil {
		t.Logf("%s", words)
	}
}
