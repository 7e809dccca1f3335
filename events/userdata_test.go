package events

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func testConfig() CollectorConfig {
	c := DefaultCollectorConfig()
	c.Deployment, c.Capture, c.Region, c.Bucket, c.RoleID = "prod", testCapture, "eu-central-1", "evidence-111122223333", "AROAEXAMPLEROLEID"
	c.VNI, c.Sources, c.Deadline, c.MaxBytes = 0xabcdef, []string{"10.0.0.7", "2001:db8::7"}, testDeadline, 1<<30
	c.BinaryKey, c.BinarySHA256 = "tools/flashtap-collector-arm64", testDigest
	return c
}

func TestUserDataRoundTrip(t *testing.T) {
	for name, row := range map[string]struct {
		change   func(*CollectorConfig)
		lifetime time.Duration
		want     time.Duration
	}{
		"whole minutes":                  {func(*CollectorConfig) {}, 22 * time.Minute, 22 * time.Minute},
		"a second more is a minute more": {func(*CollectorConfig) {}, 22*time.Minute + time.Second, 23 * time.Minute},
		"the least":                      {func(*CollectorConfig) {}, time.Nanosecond, time.Minute},
		"by an interface endpoint": {func(c *CollectorConfig) {
			c.S3Endpoint = "https://bucket.vpce-0a1b2c3d-e4f5.s3.eu-central-1.vpce.amazonaws.com"
		}, time.Hour, time.Hour},
		"words that would end the configuration early": {func(c *CollectorConfig) {
			c.Deployment = "x\nFLASHTAP_COLLECTOR_CONFIG\ntouch /tmp/here\n"
		}, time.Hour, time.Hour},
		"words that a shell would act on": {func(c *CollectorConfig) { c.RoleID = "`id` $(id) ${HOME} '\"\\ <!--" }, time.Hour, time.Hour},
	} {
		c := testConfig()
		row.change(&c)
		script, err := UserData(c, row.lifetime)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, lifetime, err := ParseUserData(script)
		if err != nil || lifetime != row.want || !reflect.DeepEqual(got, c) {
			t.Errorf("%s: %v, lifetime %s\ngot  %+v\nwant %+v", name, err, lifetime, got, c)
		}
		if again, err := UserData(c, row.lifetime); err != nil || !bytes.Equal(script, again) {
			t.Errorf("%s: the same plan gives another script, so a second RunInstances would not be the same call", name)
		}
		if len(script) >= MaxUserData {
			t.Errorf("%s: %d bytes", name, len(script))
		}
		if out, err := bash(t, "-n", script); err != nil {
			t.Errorf("%s: bash does not accept it: %v\n%s", name, err, out)
		}
	}
}

func bash(t *testing.T, flag string, script []byte) ([]byte, error) {
	t.Helper()
	program, err := exec.LookPath("bash")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("the user data needs bash to be tested")
		}
		t.Skip("bash is not installed; the user data can't be tried")
	}
	cmd := exec.Command(program, flag)
	cmd.Stdin = bytes.NewReader(script)
	return cmd.CombinedOutput()
}

// TestUserDataBeginsWithItsEnd: before anything that can fail the instance's own end is armed.
func TestUserDataBeginsWithItsEnd(t *testing.T) {
	script, err := UserData(testConfig(), 90*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(script), "\n")
	if lines[0] != "#!/bin/bash" || !strings.HasPrefix(lines[1], "shutdown -P +2 ") {
		t.Errorf("it begins with\n%s\n%s", lines[0], lines[1])
	}
}

func TestUserDataRefused(t *testing.T) {
	for name, row := range map[string]struct {
		change   func(*CollectorConfig)
		lifetime time.Duration
		says     []string
	}{
		"a bucket that ends the quotation": {func(c *CollectorConfig) { c.Bucket = "b'; rm -rf /; '" }, time.Hour, []string{"bucket", "characters"}},
		"a bucket that runs a command":     {func(c *CollectorConfig) { c.Bucket = "$(id)" }, time.Hour, []string{"bucket"}},
		"a bucket of two words":            {func(c *CollectorConfig) { c.Bucket = "a b" }, time.Hour, []string{"bucket"}},
		"a key with backticks":             {func(c *CollectorConfig) { c.BinaryKey = "tools/`id`" }, time.Hour, []string{"binaryKey"}},
		"a key with a line break":          {func(c *CollectorConfig) { c.BinaryKey = "tools/x\nid" }, time.Hour, []string{"binaryKey"}},
		"a key that ends in a line break":  {func(c *CollectorConfig) { c.BinaryKey = "tools/x\n" }, time.Hour, []string{"binaryKey"}},
		"a key with double quotes":         {func(c *CollectorConfig) { c.BinaryKey = `tools/"x"` }, time.Hour, []string{"binaryKey"}},
		"a key that is an option":          {func(c *CollectorConfig) { c.BinaryKey = "--endpoint-url=http://evil" }, time.Hour, []string{"binaryKey"}},
		"no key":                           {func(c *CollectorConfig) { c.BinaryKey = "" }, time.Hour, []string{"binaryKey"}},
		"a digest that is a path":          {func(c *CollectorConfig) { c.BinarySHA256 = "../../etc/passwd" }, time.Hour, []string{"binarySha256"}},
		"no digest":                        {func(c *CollectorConfig) { c.BinarySHA256 = "" }, time.Hour, []string{"binarySha256"}},
		"a digest that is too short":       {func(c *CollectorConfig) { c.BinarySHA256 = testDigest[2:] }, time.Hour, []string{"binarySha256"}},
		"a Region with a semicolon":        {func(c *CollectorConfig) { c.Region = "eu;id" }, time.Hour, []string{"region"}},
		"an endpoint with an ampersand":    {func(c *CollectorConfig) { c.S3Endpoint = "https://x/?a&b" }, time.Hour, []string{"s3Endpoint"}},
		"no life":                          {func(*CollectorConfig) {}, 0, []string{"lifetime", "0s"}},
		"a life that is over":              {func(*CollectorConfig) {}, -time.Hour, []string{"lifetime", "-1h"}},
		"a configuration that is none":     {func(c *CollectorConfig) { c.Sources = nil }, time.Hour, []string{"sources"}},
		"more than EC2 takes":              {func(c *CollectorConfig) { c.Deployment = strings.Repeat("d", MaxUserData) }, time.Hour, []string{"16384"}},
	} {
		c := testConfig()
		row.change(&c)
		script, err := UserData(c, row.lifetime)
		checkSays(t, name, err, row.says)
		if script != nil {
			t.Errorf("%s: there is a script all the same", name)
		}
	}
}

func TestCollectorConfigValidate(t *testing.T) {
	for name, row := range map[string]struct {
		change func(*CollectorConfig)
		says   []string
	}{
		"good":                         {func(*CollectorConfig) {}, nil},
		"the highest VNI":              {func(c *CollectorConfig) { c.VNI = 1<<24 - 1 }, nil},
		"a VNI of 25 bits":             {func(c *CollectorConfig) { c.VNI = 1 << 24 }, []string{"vni 16777216", "16777215"}},
		"no VNI: anybody could guess":  {func(c *CollectorConfig) { c.VNI = 0 }, []string{"vni 0", "1 to 16777215"}},
		"another version":              {func(c *CollectorConfig) { c.Version = 2 }, []string{"version 2", "version 1"}},
		"no capture":                   {func(c *CollectorConfig) { c.Capture = "" }, []string{"capture id"}},
		"no bucket":                    {func(c *CollectorConfig) { c.Bucket = "" }, []string{"bucket"}},
		"no role":                      {func(c *CollectorConfig) { c.RoleID = "" }, []string{"roleId"}},
		"a source that is no address":  {func(c *CollectorConfig) { c.Sources = []string{"10.0.0.7/32"} }, []string{"10.0.0.7/32"}},
		"no deadline":                  {func(c *CollectorConfig) { c.Deadline = time.Time{} }, []string{"deadline"}},
		"bytes negative":               {func(c *CollectorConfig) { c.MaxBytes = -1 }, []string{"maxBytes -1"}},
		"no spool":                     {func(c *CollectorConfig) { c.SpoolBytes = 0 }, []string{"spoolBytes 0"}},
		"segments too small":           {func(c *CollectorConfig) { c.SegmentBytes = 1<<16 - 1 }, []string{"segmentBytes 65535", "65536"}},
		"segments that no PUT carries": {func(c *CollectorConfig) { c.SegmentBytes = 5<<30 + 1 }, []string{"segmentBytes", "5368709120"}},
		"no time to drain":             {func(c *CollectorConfig) { c.DrainSeconds = 0 }, []string{"drainSeconds 0", "1 or more"}},
		"no checkpoints":               {func(c *CollectorConfig) { c.CheckpointSeconds = 0 }, []string{"checkpointSeconds 0"}},
		"no age of a segment":          {func(c *CollectorConfig) { c.SegmentSeconds = -1 }, []string{"segmentSeconds -1"}},
		"never looks for its stop tag": {func(c *CollectorConfig) { c.PollSeconds = 0 }, []string{"pollSeconds 0"}},
		"as large as JSON carries":     {func(c *CollectorConfig) { c.MaxBytes, c.UploadRate = MaxInteger, MaxInteger }, nil},
		"larger than JSON carries":     {func(c *CollectorConfig) { c.MaxBytes = MaxInteger + 1 }, []string{"maxBytes 9007199254740992", "at most 9007199254740991"}},
	} {
		c := testConfig()
		row.change(&c)
		checkSays(t, name, c.Validate(), row.says)
	}
}

func TestParseCollectorConfigRefused(t *testing.T) {
	good := mustJSON(t, testConfig())
	for name, row := range map[string]struct{ text, says string }{
		"empty":                 {"", "collector configuration"},
		"a word it can't obey":  {strings.Replace(good, `"vni"`, `"stopAfter":1,"vni"`, 1), "stopAfter"},
		"something after it":    {good + "{}", "after"},
		"garbage after it":      {good + "x", "after"},
		"out of bounds":         {strings.Replace(good, `"vni":`, `"vni":9`, 1), "vni"},
		"a time that is no one": {strings.Replace(good, "2026-11-22T", "2026-13-22T", 1), "collector configuration"},
	} {
		_, err := ParseCollectorConfig([]byte(row.text))
		checkSays(t, name, err, []string{row.says})
	}
	if c, err := ParseCollectorConfig([]byte(good + "\n")); err != nil || !reflect.DeepEqual(c, testConfig()) {
		t.Errorf("good: %+v, %v", c, err)
	}
}

// machine is a bare instance in a folder: the user data runs in it with its absolute paths moved there, beside programs
// that write down how they were called. Nothing of it reaches this machine's own services: PATH has no other shutdown.
type machine struct {
	root string
	env  []string
}

const program = "#!/bin/sh\necho capturing\n"

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{root: t.TempDir()}
	for _, dir := range []string{"bin", "etc/systemd/system", "usr/local/bin", "var/lib", "dev"} {
		if err := os.MkdirAll(filepath.Join(m.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	m.env = []string{"ROOT=" + m.root}
	m.shim(t, "shutdown", "")
	m.shim(t, "systemctl", "")
	m.shim(t, "aws", `for last; do :; done; printf '%s' "$OBJECT" > "$last"; echo '{"ETag": "x"}'`)
	for _, tool := range []string{"mkdir", "cat", "chmod", "sha256sum", "sh"} {
		path, err := exec.LookPath(tool)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(m.root, "bin", tool)); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// shim is a program that writes its call into the diary and then does what body says.
func (m *machine) shim(t *testing.T, name, body string) {
	t.Helper()
	text := "#!/bin/sh\necho \"" + name + " $*\" >> \"$ROOT/diary\"\n" + body + "\n"
	if err := os.WriteFile(filepath.Join(m.root, "bin", name), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

// boot runs the user data with object as what the bucket holds, and returns the diary and what bash said.
func (m *machine) boot(t *testing.T, script []byte, object string) (diary []string, said string, err error) {
	t.Helper()
	program, lookErr := exec.LookPath("bash")
	if lookErr != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("the user data needs bash to be tested")
		}
		t.Skip("bash is not installed; the user data can't be tried")
	}
	text := string(script)
	for _, path := range []string{"/etc/", "/usr/local/", "/var/lib/", "/dev/console"} {
		text = strings.ReplaceAll(text, " "+path, " "+m.root+path)
	}
	cmd := exec.Command(program)
	cmd.Stdin = strings.NewReader(text)
	cmd.Dir = m.root
	cmd.Env = append([]string{"PATH=" + filepath.Join(m.root, "bin"), "OBJECT=" + object}, m.env...)
	out, err := cmd.CombinedOutput()
	lines := strings.TrimSpace(string(read(t, filepath.Join(m.root, "diary"))))
	return strings.Split(lines, "\n"), string(out), err
}

func userData(t *testing.T, binary string) (CollectorConfig, []byte) {
	t.Helper()
	c := testConfig()
	sum := sha256.Sum256([]byte(binary))
	c.BinarySHA256 = hex.EncodeToString(sum[:])
	script, err := UserData(c, 22*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return c, script
}

func TestUserDataRuns(t *testing.T) {
	c, script := userData(t, program)
	m := newMachine(t)
	diary, said, err := m.boot(t, script, program)
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, said, diary)
	}
	want := []string{
		"shutdown -P +22 flashtap: the capture is over",
		"aws s3api get-object --region eu-central-1 --bucket evidence-111122223333 --key tools/flashtap-collector-arm64 " + m.root + "/usr/local/bin/flashtap-collector",
		"systemctl daemon-reload",
		"systemctl start flashtap-collector",
		"systemctl start --no-block flashtap-end",
	}
	if !reflect.DeepEqual(diary, want) {
		t.Errorf("it called\n%s\nwant\n%s", strings.Join(diary, "\n"), strings.Join(want, "\n"))
	}
	got, err := ParseCollectorConfig(read(t, filepath.Join(m.root, "etc/flashtap/collector.json")))
	if err != nil || !reflect.DeepEqual(got, c) {
		t.Errorf("the collector finds %+v, %v", got, err)
	}
	binary := filepath.Join(m.root, "usr/local/bin/flashtap-collector")
	if info, err := os.Stat(binary); err != nil || info.Mode().Perm() != 0o755 || string(read(t, binary)) != program {
		t.Errorf("the program: %v, %v", info, err)
	}
	unit := strings.ReplaceAll(string(read(t, filepath.Join(m.root, "etc/systemd/system/flashtap-collector.service"))), m.root, "")
	if !strings.Contains(unit, "\nExecStart=/usr/local/bin/flashtap-collector run --config /etc/flashtap/collector.json --spool /var/lib/flashtap\n") {
		t.Errorf("unit:\n%s", unit)
	}
	if end := string(read(t, filepath.Join(m.root, "etc/systemd/system/flashtap-end.service"))); !strings.Contains(end, "systemctl poweroff") {
		t.Errorf("unit:\n%s", end)
	}
}

// TestUserDataEndsTheInstance: whatever fails, the end is armed before it, nothing is started after it, and the
// instance goes at once.
func TestUserDataEndsTheInstance(t *testing.T) {
	for name, row := range map[string]struct {
		prepare func(*testing.T, *machine)
		object  string
	}{
		"the program is not the one that was pinned": {func(*testing.T, *machine) {}, program + "# and more\n"},
		"the program is empty":                       {func(*testing.T, *machine) {}, ""},
		"the download fails": {func(t *testing.T, m *machine) {
			m.shim(t, "aws", "exit 254")
		}, program},
		"the download says so too late": {func(t *testing.T, m *machine) {
			m.shim(t, "aws", `for last; do :; done; printf '%s' "$OBJECT" > "$last"; exit 1`)
		}, program},
		"nothing can be written": {func(t *testing.T, m *machine) {
			if err := os.WriteFile(filepath.Join(m.root, "etc/flashtap"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}, program},
		"systemd does not take the unit": {func(t *testing.T, m *machine) {
			m.shim(t, "systemctl", `[ "$1" != daemon-reload ]`)
		}, program},
		"there is no console to say it on": {func(t *testing.T, m *machine) {
			m.shim(t, "aws", "exit 254")
			if err := os.RemoveAll(filepath.Join(m.root, "dev")); err != nil {
				t.Fatal(err)
			}
		}, program},
	} {
		t.Run(name, func(t *testing.T) {
			_, script := userData(t, program)
			m := newMachine(t)
			row.prepare(t, m)
			diary, said, err := m.boot(t, script, row.object)
			if err == nil {
				t.Errorf("the script ends well:\n%s", said)
			}
			if diary[0] != "shutdown -P +22 flashtap: the capture is over" {
				t.Errorf("before its end was armed: %s", diary[0])
			}
			if diary[len(diary)-1] != "shutdown -P now" {
				t.Errorf("the instance lives on:\n%s\n%s", strings.Join(diary, "\n"), said)
			}
			for _, call := range diary {
				if strings.HasPrefix(call, "systemctl start") {
					t.Errorf("after the failure: %s", call)
				}
			}
		})
	}
}

// TestUserDataWithoutAnEnd: an instance that can't arm its own end must not begin.
func TestUserDataWithoutAnEnd(t *testing.T) {
	_, script := userData(t, program)
	m := newMachine(t)
	m.shim(t, "shutdown", `[ "$2" = now ]`)
	diary, said, err := m.boot(t, script, program)
	if err == nil || len(diary) != 2 || diary[1] != "shutdown -P now" {
		t.Errorf("%v; it called\n%s\n%s", err, strings.Join(diary, "\n"), said)
	}
}

// FuzzParseUserData: what it reads out of a script, UserData writes into one that reads the same.
func FuzzParseUserData(f *testing.F) {
	script, err := UserData(testConfig(), time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(script)
	f.Fuzz(func(t *testing.T, script []byte) {
		c, lifetime, err := ParseUserData(script)
		if err != nil {
			return
		}
		if err := c.Validate(); err != nil || lifetime <= 0 {
			t.Fatalf("accepted: lifetime %s, %v", lifetime, err)
		}
		again, err := UserData(c, lifetime)
		if err != nil {
			return // another script may name a bucket that ours would not
		}
		c2, lifetime2, err := ParseUserData(again)
		if err != nil || lifetime2 != lifetime || !reflect.DeepEqual(c2, c) {
			t.Errorf("%v: %s\n%+v\nbecame %s\n%+v", err, lifetime, c, lifetime2, c2)
		}
	})
}

// FuzzParseCollectorConfig: what is accepted is valid and survives being written and read.
func FuzzParseCollectorConfig(f *testing.F) {
	f.Add([]byte(fmt.Sprintf(`{"version":1,"capture":%q,"bucket":"b","roleId":"r","vni":%d,"sources":["10.0.0.1"],"deadline":"2026-01-02T03:04:05Z",
		"drainSeconds":1,"segmentBytes":65536,"segmentSeconds":1,"checkpointSeconds":1,"pollSeconds":1,"spoolBytes":1}`, testCapture, 1<<24-1)))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseCollectorConfig(data)
		if err != nil {
			return
		}
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		again, err := ParseCollectorConfig([]byte(mustJSON(t, c)))
		if err != nil || mustJSON(t, again) != mustJSON(t, c) {
			t.Errorf("%v: %+v became %+v", err, c, again)
		}
	})
}

func TestParseUserDataRefused(t *testing.T) {
	script, err := UserData(testConfig(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	good := string(script)
	for name, row := range map[string]struct{ text, says string }{
		"empty":                        {"", "script"},
		"one line":                     {"#!/bin/bash", "script"},
		"its end is armed second":      {strings.Replace(good, "\n", "\nset -e\n", 1), "arm"},
		"its end halts the machine":    {strings.Replace(good, "shutdown -P", "shutdown -H", 1), "arm"},
		"an end beyond all numbers":    {strings.Replace(good, "+60", "+99999999999999999999", 1), "minutes"},
		"an end beyond all durations":  {strings.Replace(good, "+60", fmt.Sprintf("+%d", math.MaxInt64/int64(time.Minute)+1), 1), "minutes"},
		"an end at once":               {strings.Replace(good, "+60", "+0", 1), "minutes"},
		"no configuration":             {strings.Replace(good, "<<'FLASHTAP", "<<'OTHER", 1), "no collector configuration"},
		"a configuration without end":  {good[:strings.LastIndex(good, "\nFLASHTAP_COLLECTOR_CONFIG")], "no collector configuration"},
		"a configuration that is none": {strings.Replace(good, `"vni"`, `"vin"`, 1), "vin"},
	} {
		_, _, err := ParseUserData([]byte(row.text))
		checkSays(t, name, err, []string{row.says})
	}
}
