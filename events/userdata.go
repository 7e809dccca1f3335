package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// CollectorConfig is all that a collector is told: its instance's user data carries it, and nothing else ever
// connects to it. It holds no secret, since user data can be read by anybody who may describe the instance.
type CollectorConfig struct {
	Version    int       `json:"version"`
	Deployment string    `json:"deployment"`
	Capture    CaptureID `json:"capture"`
	Region     string    `json:"region"`
	Bucket     string    `json:"bucket"`
	S3Endpoint string    `json:"s3Endpoint,omitempty"` // URL of a temporary interface endpoint; empty: the Region's own
	RoleID     string    `json:"roleId"`               // unique id of the collector's role; with the instance id it is aws:userid

	VNI      uint32    `json:"vni"`     // datagrams of another VNI are rejected
	Sources  []string  `json:"sources"` // outer source addresses that are the suspect's; all others are rejected
	MaxBytes int64     `json:"maxBytes"`
	Deadline time.Time `json:"deadline"`

	DrainSeconds      int   `json:"drainSeconds"`      // how long after the stop uploads may take
	SegmentBytes      int64 `json:"segmentBytes"`      // a segment is sealed before it grows past this
	SegmentSeconds    int   `json:"segmentSeconds"`    // or when it is this old
	CheckpointSeconds int   `json:"checkpointSeconds"` // how often progress is reported
	PollSeconds       int   `json:"pollSeconds"`       // how often the stop tag is looked for
	SpoolBytes        int64 `json:"spoolBytes"`        // what may wait on disk before SpoolPolicy says what gives

	SpoolPolicy string `json:"spoolPolicy,omitempty"` // SpoolGap (default) or SpoolHeaders
	UploadRate  int64  `json:"uploadRate,omitempty"`  // bytes a second that segments may take on their way to the store; 0: no limit
	Receiver    string `json:"receiver,omitempty"`    // ReceiverAuto (default), ReceiverRing or ReceiverSocket
	RingBytes   int64  `json:"ringBytes,omitempty"`   // memory of each packet ring; 0: by the machine's

	BinaryKey    string `json:"binaryKey"`    // object key of the collector program in Bucket
	BinarySHA256 string `json:"binarySha256"` // hexadecimal; checked before it runs
}

// What a collector does when what waits on disk has reached SpoolBytes. Both are declared in checkpoints and manifest.
const (
	SpoolGap     = "gap"     // genuine frames are not written until there is room again
	SpoolHeaders = "headers" // the oldest segments that were never sent are cut to their packets' headers
)

// How a collector receives.
const (
	ReceiverAuto   = "auto"   // the best that is allowed where it runs
	ReceiverRing   = "ring"   // AF_PACKET rings
	ReceiverSocket = "socket" // UDP sockets
)

// Bounds of RingBytes: what holds 50 ms of a slow link, and what an instance can spare.
const (
	MinRingBytes = 1 << 20
	MaxRingBytes = 1 << 30
)

// MaxSegmentBytes is the largest segment: one PUT carries each, and S3 takes at most 5 GiB in one (S3 User Guide,
// "Uploading objects").
const MaxSegmentBytes = 5 << 30

// MaxVNI is the largest value of the 24-bit field (RFC 7348, section 5).
const MaxVNI = 1<<24 - 1

// DefaultCollectorConfig holds the defaults of everything that is not particular to one capture.
func DefaultCollectorConfig() CollectorConfig {
	return CollectorConfig{
		Version:           RecordVersion,
		DrainSeconds:      120,
		SegmentBytes:      128 << 20,
		SegmentSeconds:    60,
		CheckpointSeconds: 15,
		PollSeconds:       5,
		SpoolBytes:        20 << 30,
	}
}

// Validate names everything that would keep a collector from working.
func (c CollectorConfig) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Version != RecordVersion {
		bad("version %d: this program reads version %d", c.Version, RecordVersion)
	}
	if err := c.Capture.Validate(); err != nil {
		errs = append(errs, err)
	}
	if c.Bucket == "" {
		bad("bucket is empty")
	}
	if c.RoleID == "" {
		bad("roleId is empty")
	}
	if c.VNI == 0 || c.VNI > MaxVNI { // 0 is what a VNI that was left out would be, and the first that a forger would try
		bad("vni %d: want 1 to %d", c.VNI, MaxVNI)
	}
	if len(c.Sources) == 0 {
		bad("sources is empty: no datagram could be genuine")
	}
	for _, s := range c.Sources {
		if _, err := netip.ParseAddr(s); err != nil {
			bad("sources: %q is not an address", s)
		}
	}
	if c.Deadline.IsZero() {
		bad("deadline is missing")
	}
	if c.MaxBytes < 0 || c.SpoolBytes <= 0 {
		bad("maxBytes %d and spoolBytes %d: want 0 or more, and more than 0", c.MaxBytes, c.SpoolBytes)
	}
	if c.SegmentBytes < 1<<16 || c.SegmentBytes > MaxSegmentBytes {
		bad("segmentBytes %d: want %d to %d", c.SegmentBytes, 1<<16, int64(MaxSegmentBytes))
	}
	oneOf := func(name, value string, values ...string) {
		if value != "" && !slices.Contains(values, value) {
			bad("%s %q: want one of %s", name, value, strings.Join(values, ", "))
		}
	}
	oneOf("spoolPolicy", c.SpoolPolicy, SpoolGap, SpoolHeaders)
	oneOf("receiver", c.Receiver, ReceiverAuto, ReceiverRing, ReceiverSocket)
	if c.UploadRate < 0 {
		bad("uploadRate %d: want 0 or more", c.UploadRate)
	}
	if c.RingBytes != 0 && (c.RingBytes < MinRingBytes || c.RingBytes > MaxRingBytes) {
		bad("ringBytes %d: want 0, or %d to %d", c.RingBytes, MinRingBytes, MaxRingBytes)
	}
	seconds := map[string]int{
		"drainSeconds": c.DrainSeconds, "segmentSeconds": c.SegmentSeconds,
		"checkpointSeconds": c.CheckpointSeconds, "pollSeconds": c.PollSeconds,
	}
	numbers := map[string]int64{"maxBytes": c.MaxBytes, "spoolBytes": c.SpoolBytes, "uploadRate": c.UploadRate}
	for name, n := range seconds {
		if n < 1 {
			bad("%s %d: want 1 or more", name, n)
		}
		numbers[name] = int64(n)
	}
	for name, n := range numbers {
		if n > MaxInteger { // the collector's manifest says all of this again
			bad("%s %d: want at most %d", name, n, int64(MaxInteger))
		}
	}
	return errors.Join(errs...)
}

// MaxUserData is EC2's limit of user data before base64 (EC2 User Guide, "Run commands at launch").
const MaxUserData = 16 << 10

const (
	configMarker = "FLASHTAP_COLLECTOR_CONFIG"
	configPath   = "/etc/flashtap/collector.json"
	programPath  = "/usr/local/bin/flashtap-collector"
)

// UnconfirmedExit is the status with which the collector ends while evidence still waits in its spool: it is started
// again, to ship it, as after a crash.
const UnconfirmedExit = 3

// hardening is what systemd takes from the collector before it begins (systemd.exec(5)); the collector gives up the rest
// itself once it receives. It needs the four capabilities for packet sockets, for the interface, for its program in the
// kernel, and to empty its own bounding set; packet and netlink sockets; and to write its spool. It stays root, since the
// spool of a crashed one is root's. ProtectClock would also forbid to ask how the clock stands; to set it takes a capability
// that is not there, and its device is hidden. /proc is left whole, for the losses of the interface are read there. A system call that
// is not in the list fails instead of killing, for a dead collector would be lost evidence.
const hardening = `
CapabilityBoundingSet=CAP_NET_RAW CAP_NET_ADMIN CAP_BPF CAP_SETPCAP
NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths=/var/lib/flashtap
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
PrivateIPC=yes
ProtectProc=invisible
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_NETLINK AF_PACKET AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service adjtimex bpf capset landlock_add_rule landlock_create_ruleset landlock_restrict_self seccomp
KeyringMode=private
LimitCORE=0
UMask=0077
`

// stopSlack are the seconds beyond the drain before systemd kills a collector that was asked to stop.
const stopSlack = 15

// UserData is the first-boot script of a collector instance. Its first act is to arm the instance's own end, before
// anything that can fail; then it writes the configuration, fetches the program, checks its digest, and starts it
// under systemd. When the program ends, for whatever reason, the instance powers off, which terminates it.
//
// lifetime is how long the instance may live at most; it is rounded up to whole minutes, the unit of shutdown(8).
func UserData(c CollectorConfig, lifetime time.Duration) ([]byte, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("collector configuration: %w", err)
	}
	if lifetime <= 0 {
		return nil, fmt.Errorf("lifetime %s of the collector of %s: want more than nothing", lifetime, c.Capture)
	}
	for name, value := range map[string]string{"bucket": c.Bucket, "binaryKey": c.BinaryKey, "region": c.Region} {
		if !shellSafe.MatchString(value) {
			return nil, fmt.Errorf("collector configuration: %s %q is empty or has characters that do not belong in a script", name, value)
		}
	}
	if c.S3Endpoint != "" && !shellSafe.MatchString(c.S3Endpoint) {
		return nil, fmt.Errorf("collector configuration: s3Endpoint %q has characters that do not belong in a script", c.S3Endpoint)
	}
	if !hexSHA256.MatchString(c.BinarySHA256) {
		return nil, fmt.Errorf("collector configuration: binarySha256 %q: want 64 hexadecimal digits", c.BinarySHA256)
	}
	config, err := json.MarshalIndent(c, "", " ")
	if err != nil {
		return nil, fmt.Errorf("collector configuration: %w", err)
	}
	endpoint := ""
	if c.S3Endpoint != "" {
		endpoint = " --endpoint-url " + c.S3Endpoint
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `#!/bin/bash
shutdown -P +%d 'flashtap: the capture is over' || { shutdown -P now; exit 1; }
# Flashtap collector of capture %s. Whatever fails below, the line above ends this instance.
set -euo pipefail
trap 'echo "flashtap: user data failed at line $LINENO" > /dev/console || true; shutdown -P now' ERR
mkdir -p /etc/flashtap /var/lib/flashtap
cat > %s <<'%s'
%s
%s
aws s3api get-object --region %s%s --bucket %s --key %s %s > /dev/null
echo '%s  %s' | sha256sum --check --quiet
chmod 0755 %s
cat > /etc/systemd/system/flashtap-collector.service <<'UNIT'
[Unit]
Description=Flashtap collector
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=60
StartLimitBurst=5
[Service]
ExecStart=%s run --config %s --spool /var/lib/flashtap
Restart=on-abnormal
RestartForceExitStatus=%d
RestartSec=1
TimeoutStopSec=%d
StandardOutput=journal+console
%s
[Install]
WantedBy=multi-user.target
UNIT
cat > /etc/systemd/system/flashtap-end.service <<'UNIT'
[Unit]
Description=Power the collector instance off when its work is over
[Service]
Type=oneshot
ExecStart=/bin/bash -c 'while systemctl is-active --quiet flashtap-collector || [ "$(systemctl show -p ActiveState --value flashtap-collector)" = activating ]; do sleep 1; done; systemctl poweroff'
UNIT
systemctl daemon-reload
systemctl start flashtap-collector
systemctl start --no-block flashtap-end
`,
		int(math.Ceil(lifetime.Minutes())), c.Capture,
		configPath, configMarker, config, configMarker,
		c.Region, endpoint, c.Bucket, c.BinaryKey, programPath,
		c.BinarySHA256, programPath, programPath,
		programPath, configPath, UnconfirmedExit, c.DrainSeconds+stopSlack, strings.TrimSpace(hardening))
	if b.Len() > MaxUserData {
		return nil, fmt.Errorf("user data of %s has %d bytes; EC2 takes %d", c.Capture, b.Len(), MaxUserData)
	}
	return b.Bytes(), nil
}

// shellSafe admits what bucket names, object keys, Regions and URLs consist of, and nothing that a shell would
// interpret or a command take for an option.
var shellSafe = regexp.MustCompile(`^[A-Za-z0-9._:/+=@][A-Za-z0-9._:/+=@-]*$`)

var hexSHA256 = regexp.MustCompile(`^[0-9a-f]{64}$`)

var powerOff = regexp.MustCompile(`^shutdown -P \+([0-9]+) `)

// ParseUserData reads back what UserData wrote: the configuration and how long the instance may live.
func ParseUserData(script []byte) (CollectorConfig, time.Duration, error) {
	var c CollectorConfig
	lines := strings.Split(string(script), "\n")
	if len(lines) < 2 {
		return c, 0, errors.New("user data: not a script")
	}
	m := powerOff.FindStringSubmatch(lines[1])
	if m == nil {
		return c, 0, errors.New("user data: its first command does not arm the instance's end")
	}
	minutes, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil || minutes < 1 || minutes > math.MaxInt64/int64(time.Minute) {
		return c, 0, fmt.Errorf("user data: %s minutes of life can't be meant", m[1])
	}
	var config []string
	inside := false
	for _, line := range lines {
		switch {
		case !inside && strings.HasSuffix(line, "<<'"+configMarker+"'"):
			inside = true
		case inside && line == configMarker:
			c, err := ParseCollectorConfig([]byte(strings.Join(config, "\n")))
			return c, time.Duration(minutes) * time.Minute, err
		case inside:
			config = append(config, line)
		}
	}
	return c, 0, errors.New("user data: carries no collector configuration")
}

// ParseCollectorConfig reads and validates a configuration. Unknown fields are refused: a collector that ignored
// one would not do what it was told.
func ParseCollectorConfig(data []byte) (CollectorConfig, error) {
	var c CollectorConfig
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return CollectorConfig{}, fmt.Errorf("collector configuration: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return CollectorConfig{}, errors.New("collector configuration: something comes after it")
	}
	if err := c.Validate(); err != nil {
		return CollectorConfig{}, fmt.Errorf("collector configuration: %w", err)
	}
	return c, nil
}
