package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"flashtap/events"
	"flashtap/testutil/packets"
	"flashtap/testutil/region/imds"
	"flashtap/testutil/s3"
)

// The tests of this folder run the program as a process, against a real S3 server and a metadata service, with real
// datagrams on loopback.

var (
	program string     // the collector, built once
	shared  *s3.Server // for all tests that do not need it to go away
)

func TestMain(m *testing.M) {
	flag.Parse()
	// These tests mostly wait, for seconds to pass and for processes: more of them at once than there are processors.
	if err := flag.Set("test.parallel", "8"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code, err := func() (int, error) {
		dir, err := os.MkdirTemp("", "collector-test-")
		if err != nil {
			return 0, err
		}
		defer os.RemoveAll(dir)
		program = filepath.Join(dir, "collector")
		build := []string{"build", "-o", program}
		if raceEnabled {
			build = append(build, "-race")
		}
		if out, err := exec.Command("go", append(build, ".")...).CombinedOutput(); err != nil {
			return 0, fmt.Errorf("build the collector: %w\n%s", err, out)
		}
		if shared, err = s3.Start(filepath.Join(dir, "s3")); err != nil {
			return 0, err
		}
		defer shared.Stop()
		return m.Run(), nil
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(code)
}

const (
	suspect = "127.10.0.7" // outer source of genuine datagrams
	vni     = 0x00abcd
	roleID  = "AROAEXAMPLEROLEID"
)

var serial atomic.Int64

// rig is one collector's world.
type rig struct {
	t        *testing.T
	server   *s3.Server
	bucket   string
	cfg      events.CollectorConfig
	instance string
	metadata *imds.Server
	tags     map[string]string
	spool    string
	listen   string // empty: the instance's own addresses
	config   string // empty: a file with cfg

	cmd   *exec.Cmd
	ended chan struct{}
	addr  netip.AddrPort // where the running collector listens
	mu    sync.Mutex
	log   []map[string]any
	begun int // where in log the running collector begins
}

func newRig(t *testing.T, server *s3.Server, change func(*events.CollectorConfig)) *rig {
	t.Helper()
	n := serial.Add(1)
	r := &rig{
		t: t, server: server, bucket: fmt.Sprintf("evidence-%d", n), instance: fmt.Sprintf("i-%017x", n),
		tags: map[string]string{}, spool: filepath.Join(t.TempDir(), "spool"), listen: "127.0.0.1:0",
	}
	r.cfg = events.DefaultCollectorConfig()
	r.cfg.Deployment, r.cfg.Region, r.cfg.Bucket, r.cfg.S3Endpoint = "test", server.Region(), r.bucket, server.Endpoint()
	r.cfg.Capture = events.NewCaptureID(time.Now(), fmt.Sprintf("eni-%017x", n))
	r.cfg.RoleID, r.cfg.VNI, r.cfg.Sources = roleID, vni, []string{suspect, "::1"}
	r.cfg.Deadline = time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	r.cfg.DrainSeconds, r.cfg.SegmentSeconds, r.cfg.CheckpointSeconds, r.cfg.PollSeconds = 20, 60, 1, 1
	if change != nil {
		change(&r.cfg)
	}
	if err := server.CreateBucket(t.Context(), r.bucket); err != nil {
		t.Fatal(err)
	}
	r.serveMetadata("127.0.0.1", nil)
	return r
}

// serveMetadata starts the metadata service of an instance with that address.
func (r *rig) serveMetadata(addr string, userData []byte) {
	r.t.Helper()
	access, secret := r.server.Credentials()
	var err error
	r.metadata, err = imds.Serve(context.Background(), imds.Instance{
		ID: r.instance, Type: "c6gn.large", ImageID: "ami-0a1b2c3d4e5f60718", Architecture: "arm64", AccountID: "111122223333",
		Region: r.cfg.Region, AvailabilityZone: r.cfg.Region + "a", LaunchTime: time.Now(), UserData: userData, MetadataTags: true,
		Interfaces: []imds.Interface{{
			ID: "eni-0a1b2c3d4e5f60718", SubnetID: "subnet-0a1b2c3d4e5f60718", VPCID: "vpc-0a1b2c3d4e5f60718",
			MAC: net.HardwareAddr{2, 0, 0, 0, 0, 9}, IPv4s: []netip.Addr{netip.MustParseAddr(addr)},
		}},
		Profile: &imds.Profile{ARN: "arn:aws:iam::111122223333:instance-profile/collector", ID: "AIPAEXAMPLE", Role: "collector",
			Credentials: func() (imds.Credentials, error) {
				return imds.Credentials{AccessKeyID: access, SecretAccessKey: secret, Updated: time.Now(), Expires: time.Now().Add(6 * time.Hour)}, nil
			}},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	metadata := r.metadata
	r.t.Cleanup(func() {
		if err := metadata.Close(); err != nil {
			r.t.Error(err)
		}
	})
}

func (r *rig) tag(key, value string) {
	r.t.Helper()
	r.tags[key] = value
	if err := r.metadata.SetTags(r.tags); err != nil {
		r.t.Fatal(err)
	}
}

// start runs the collector; ready also waits until its first checkpoint says that the sockets are bound.
func (r *rig) start() {
	r.t.Helper()
	config := r.config
	if config == "" {
		config = filepath.Join(r.t.TempDir(), "collector.json")
		data, err := json.Marshal(r.cfg)
		if err != nil {
			r.t.Fatal(err)
		}
		if err := os.WriteFile(config, data, 0o600); err != nil {
			r.t.Fatal(err)
		}
	}
	args := []string{"run", "--config", config, "--spool", r.spool}
	if r.listen != "" {
		args = append(args, "--listen", r.listen)
	}
	cmd := exec.Command(program, args...)
	cmd.Env = []string{"AWS_EC2_METADATA_SERVICE_ENDPOINT=" + r.metadata.URL, "HOME=" + r.t.TempDir()}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.mu.Lock()
	r.addr, r.begun = netip.AddrPort{}, len(r.log)
	r.mu.Unlock()
	ended := make(chan struct{})
	r.cmd, r.ended = cmd, ended
	go func() {
		defer close(ended)
		lines := bufio.NewScanner(stderr)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var line map[string]any
			if err := json.Unmarshal(lines.Bytes(), &line); err != nil { // a panic, perhaps
				line = map[string]any{"msg": lines.Text(), "level": "NOT JSON"}
			}
			r.mu.Lock()
			r.log = append(r.log, line)
			r.mu.Unlock()
		}
		cmd.Wait() //nolint:errcheck // the exit code is looked at by those who wait
	}()
	r.t.Cleanup(func() {
		cmd.Process.Kill() //nolint:errcheck // it has ended when all went well
		<-ended
		if r.t.Failed() {
			r.t.Logf("log of %s:\n%s", r.cfg.Capture, r.logText())
		}
	})
}

func (r *rig) ready() {
	r.t.Helper()
	before := len(r.checkpointFiles())
	r.start()
	r.awaitListening()
	r.await("a checkpoint", func() bool { return len(r.checkpointFiles()) > before })
}

func (r *rig) awaitListening() {
	r.t.Helper()
	r.await("the sockets to be bound", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, line := range r.log[r.begun:] {
			if line["msg"] == "listening" {
				r.addr = netip.MustParseAddrPort(line["address"].(string))
			}
		}
		return r.addr.IsValid()
	})
}

// await fails the test when something does not come true in time.
func (r *rig) await(what string, met func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !met(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("waited in vain for %s", what)
		}
	}
}

func (r *rig) signal(s syscall.Signal) {
	r.t.Helper()
	if err := r.cmd.Process.Signal(s); err != nil {
		r.t.Fatal(err)
	}
}

// end waits for the program's end and checks its exit code.
func (r *rig) end(want int) {
	r.t.Helper()
	select {
	case <-r.ended:
	case <-time.After(40 * time.Second):
		r.t.Fatal("the collector does not end")
	}
	if got := r.cmd.ProcessState.ExitCode(); got != want {
		r.t.Fatalf("exit code %d, want %d", got, want)
	}
}

// stop asks the program to end, as systemd would.
func (r *rig) stop(want int) {
	r.t.Helper()
	r.signal(syscall.SIGTERM)
	r.end(want)
}

// send sends frames as the mirror session does.
func (r *rig) send(frames ...[]byte) { r.t.Helper(); r.sendFrom(suspect, vni, frames...) }

func (r *rig) sendFrom(source string, vni uint32, frames ...[]byte) {
	r.t.Helper()
	var datagrams [][]byte
	for _, f := range frames {
		datagrams = append(datagrams, packets.VXLAN(vni, f))
	}
	r.sendRaw(source, datagrams...)
}

func (r *rig) sendRaw(source string, datagrams ...[]byte) {
	r.t.Helper()
	local := net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(source), 0))
	conn, err := net.DialUDP("udp", local, net.UDPAddrFromAddrPort(r.addr))
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close()
	burst := 0
	for _, d := range datagrams {
		if _, err := conn.Write(d); err != nil {
			r.t.Fatal(err)
		}
		// Without privilege the kernel may queue no more than some 200 kB.
		if burst += len(d) + 768; burst > 50_000 {
			time.Sleep(2 * time.Millisecond)
			burst = 0
		}
	}
}

func (r *rig) logText() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b strings.Builder
	for _, line := range r.log {
		fmt.Fprintln(&b, line)
	}
	return b.String()
}

// userID is the collector's folder in the bucket.
func (r *rig) userID() string { return events.UserID(roleID, r.instance) }

func (r *rig) path(key string) string {
	return filepath.Join(r.server.BucketDir(r.bucket), filepath.FromSlash(key))
}

func (r *rig) checkpointFiles() []string {
	r.t.Helper()
	files, err := filepath.Glob(filepath.Join(r.path(events.CheckpointsPrefix(r.cfg.Capture, r.userID())), "*.json"))
	if err != nil {
		r.t.Fatal(err)
	}
	return files
}

// last is the newest checkpoint in the bucket.
func (r *rig) last() events.Checkpoint {
	r.t.Helper()
	files := r.checkpointFiles()
	if len(files) == 0 {
		return events.Checkpoint{}
	}
	var c events.Checkpoint
	r.readJSON(files[len(files)-1], &c)
	return c
}

func (r *rig) readJSON(path string, v any) {
	r.t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		r.t.Fatal(err)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		r.t.Fatalf("%s: %v", path, err)
	}
}

// evidence is what a collector has left in the bucket.
type evidence struct {
	manifest    events.CollectorManifest
	checkpoints []events.Checkpoint
	packets     []packets.Frame // of the segments in the bucket, in order
}

// evidence reads everything in the collector's folder and checks what must hold of every collector's evidence: the
// chain of checkpoints, the digests, the tallies, and that the manifest says neither more nor less than is there.
func (r *rig) evidence() evidence {
	r.t.Helper()
	var e evidence
	folder := r.path(events.CollectorPrefix(r.cfg.Capture, r.userID()))
	state, ended := "", false // whether a process before had ended capturing
	e.checkpoints, _ = r.checkpoints()
	for _, c := range e.checkpoints {
		if c.Tally.Sealed > c.Tally.Written || c.Tally.Uploaded > c.Tally.Sealed {
			r.t.Errorf("checkpoint %d: more uploaded than sealed, or sealed than written: %+v", c.Seq, c.Tally)
		}
		if order := "capturing draining closed"; strings.Index(order, c.State) < strings.Index(order, state) {
			if ended || c.State != events.CollectorDraining || !strings.Contains(c.Note, "crash: ") {
				r.t.Errorf("checkpoint %d: %s after %s", c.Seq, c.State, state)
			}
			ended = true
		}
		state = c.State
	}
	r.readJSON(filepath.Join(folder, "manifest.json"), &e.manifest)
	m := e.manifest
	if data, err := os.ReadFile(filepath.Join(folder, "manifest.json")); err != nil || !bytes.Equal(data, canonicalHere(r.t, data)) {
		r.t.Errorf("the manifest is not in its canonical form: %s, %v", data, err)
	}
	if m.Checkpoints == 0 || m.Checkpoints > len(e.checkpoints) || filepath.Base(r.checkpointFiles()[m.Checkpoints-1]) != fmt.Sprintf("%06d-%s.json", m.Checkpoints, m.LastCheckpoint) {
		r.t.Errorf("the manifest's last checkpoint is %d %s, of %d", m.Checkpoints, m.LastCheckpoint, len(e.checkpoints))
	}
	if m.Capture != r.cfg.Capture || m.UserID != r.userID() || !m.Tally.Balanced() || m.Ended.Before(m.Started) || !strings.HasPrefix(m.Tool, "flashtap collector ") {
		r.t.Errorf("manifest %+v", m)
	}
	var told []events.Segment
	for _, c := range e.checkpoints[:min(m.Checkpoints, len(e.checkpoints))] {
		told = append(told, c.Records...)
	}
	r.concludes(m, told)
	if last := e.checkpoints[m.Checkpoints-1]; last.State == events.CollectorClosed && (!stands(last.Clock) || m.Clock == nil || m.Clock.End == nil || *last.Clock != *m.Clock.End) {
		r.t.Errorf("the last checkpoint says of the clock %+v", last.Clock)
	}
	var sum events.Tally
	for i, seg := range m.Segments {
		if seg.Seq != i+1 || seg.Key != events.SegmentKey(m.Capture, m.UserID, seg.Seq, seg.SHA256) {
			r.t.Errorf("segment %d has number %d and key %s", i+1, seg.Seq, seg.Key)
		}
		sum.Sealed += seg.Packets
		sum.SealedBytes += uint64(seg.Bytes)
		sum.Truncated += seg.Truncated
		if !seg.Confirmed {
			continue
		}
		sum.Uploaded += seg.Packets
		sum.UploadedBytes += uint64(seg.Bytes)
		r.describes(seg)
		frames, err := packets.ReadFile(r.path(seg.Key))
		if err != nil {
			r.t.Errorf("segment %d: %v", seg.Seq, err)
			continue
		}
		e.packets = append(e.packets, frames...)
	}
	if sum.Sealed != m.Tally.Sealed || sum.SealedBytes != m.Tally.SealedBytes || sum.Uploaded != m.Tally.Uploaded ||
		sum.UploadedBytes != m.Tally.UploadedBytes || sum.Truncated < m.Tally.Truncated || sum.Truncated > m.Tally.Truncated+m.Tally.Reduced || m.Tally.Written != m.Tally.Sealed {
		r.t.Errorf("the segments add up to %+v, the tally says %+v", sum, m.Tally)
	}
	objects := 0
	if err := filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			objects++
		}
		return err
	}); err != nil {
		r.t.Fatal(err)
	}
	confirmed := 0
	for _, seg := range m.Segments {
		if seg.Confirmed {
			confirmed++
		}
	}
	if want := confirmed + len(e.checkpoints) + 1; objects != want {
		r.t.Errorf("%d objects in the folder, want %d", objects, want)
	}
	return e
}

// complete checks the evidence of a run that lost nothing: exactly these frames, and an empty spool.
func (r *rig) complete(reason string, frames ...[]byte) evidence {
	r.t.Helper()
	e := r.evidence()
	r.sameFrames(e, frames)
	m := e.manifest
	if m.StopReason != reason || m.Tally.Lost() != 0 || m.Tally.Uploaded != uint64(len(frames)) || m.Tally.Written != uint64(len(frames)) {
		r.t.Errorf("stopped for %q with %+v; want %q and %d frames", m.StopReason, m.Tally, reason, len(frames))
	}
	final := e.checkpoints[m.Checkpoints-1]
	if final.State != events.CollectorClosed || final.Pending != 0 || final.Segments != len(m.Segments) || final.Tally != m.Tally {
		r.t.Errorf("last checkpoint %+v, manifest's tally %+v", final, m.Tally)
	}
	if left := r.spoolFiles(); len(left) != 0 {
		r.t.Errorf("left in the spool: %v", left)
	}
	return e
}

func (r *rig) sameFrames(e evidence, frames [][]byte) {
	r.t.Helper()
	if len(e.packets) != len(frames) {
		r.t.Errorf("%d packets in the evidence, want %d", len(e.packets), len(frames))
		return
	}
	for i, p := range e.packets {
		if !bytes.Equal(p.Data, frames[i]) {
			r.t.Fatalf("packet %d: %d bytes which are not the %d that were sent", i, len(p.Data), len(frames[i]))
		}
	}
}

// spoolFiles is what waits on disk: everything but the journal and the lock.
func (r *rig) spoolFiles() (names []string) {
	r.t.Helper()
	err := filepath.WalkDir(r.spool, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && d.Name() != "journal.jsonl" && d.Name() != "lock" {
			names = append(names, strings.TrimPrefix(path, r.spool+"/"))
		}
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return names
}

func (r *rig) digest(file string) string {
	r.t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		r.t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// numbered are n frames of that many bytes each which tell by their bytes which one they are.
func numbered(first, n, size int) (frames [][]byte) {
	from, to := packets.NewHost("10.0.0.7").On(40000), packets.NewHost("198.51.100.4").On(443)
	for i := range n {
		payload := make([]byte, size-14-20-8)
		copy(payload, fmt.Sprintf("frame %d", first+i))
		frames = append(frames, packets.UDP(from, to, payload))
	}
	return frames
}

// faults stands between a collector and the S3 server, and spoils what a test wants spoiled.
type faults struct {
	*httptest.Server
	mu     sync.Mutex
	decide func(r *http.Request, nth int) fault // nth: how many requests for this key came before
	seen   map[string]int
}

// fault is what happens to one request. The zero value is nothing.
type fault struct {
	status int  // answered without asking the server
	lost   bool // the server does it, but the answer is lost
}

func newFaults(t *testing.T, server *s3.Server, decide func(r *http.Request, nth int) fault) *faults {
	t.Helper()
	target, err := url.Parse(server.Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	f := &faults{decide: decide, seen: map[string]int{}}
	lost := errors.New("the answer is lost")
	forward := func(spoil bool) *httputil.ReverseProxy {
		return &httputil.ReverseProxy{
			Rewrite: func(pr *httputil.ProxyRequest) {
				pr.Out.URL.Scheme, pr.Out.URL.Host = target.Scheme, target.Host
				pr.Out.Host = pr.In.Host // what the client has signed
			},
			ModifyResponse: func(*http.Response) error {
				if spoil {
					return lost
				}
				return nil
			},
			ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		}
	}
	clean, spoiled := forward(false), forward(true)
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		nth := f.seen[r.URL.Path]
		f.seen[r.URL.Path]++
		what := f.decide(r, nth)
		f.mu.Unlock()
		switch {
		case what.status != 0:
			w.WriteHeader(what.status)
			fmt.Fprintf(w, "<Error><Code>Test%d</Code><Message>as the test wants it</Message></Error>", what.status)
		case what.lost:
			spoiled.ServeHTTP(w, r)
		default:
			clean.ServeHTTP(w, r)
		}
	}))
	f.Server.Config.ErrorLog = nil
	t.Cleanup(f.Close)
	return f
}

// change lets another fault happen from now on.
func (f *faults) change(decide func(r *http.Request, nth int) fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.decide = decide
}

func healthy(*http.Request, int) fault { return fault{} }

func always(status int) func(*http.Request, int) fault {
	return func(*http.Request, int) fault { return fault{status: status} }
}
