package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"flashtap/events"
	"flashtap/testutil/deployment"
	"flashtap/testutil/packets"
	"flashtap/testutil/region/ec2"
)

// options are the demo's flags.
type options struct {
	pcap, suspect, finding, filter, out string
	duration                            time.Duration
	packetLength                        int
	ipv6, verbose                       bool
}

// The defaults, as paths from the module's root and names of the recordings that come with it.
const (
	defaultFinding = "events/testdata/findings/07-eb-ec2-torclient-camel.derived.json"
	defaultPcap    = "ndpi-trickbot.pcap"
)

// slack is how long a capture may take beyond its duration before the demo calls it stuck.
const slack = 2 * time.Minute

func run(ctx context.Context, o options) error {
	s, err := prepare(o)
	if err != nil {
		return err
	}
	out := newScreen(os.Stdout)
	out.line("Flashtap demo: a GuardDuty finding becomes sealed pcaps, on this machine alone")
	out.line("")
	root, err := deployment.Root()
	if err != nil {
		return err
	}
	if s.config.Event, err = readFinding(root, o.finding); err != nil {
		return err
	}
	if _, refusal := events.ParseFinding(s.config.Event); refusal != nil {
		out.line("  no capture: %v", refusal)
		return errNoCapture
	}
	out.begin("building the programs as they ship (the first time takes minutes)")
	programs, err := deployment.Build(ctx)
	out.end(err)
	if err != nil {
		return err
	}
	s.config.Programs = programs
	dir, err := os.MkdirTemp("", "flashtap-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s.config.Dir = dir
	out.begin("starting the local Region and putting Flashtap and a suspect into it")
	scene, err := deployment.Set(ctx, s.config)
	out.end(err)
	if err != nil {
		return err
	}
	story := &story{scene: scene, screen: out, options: o, frames: len(s.config.Frames), recording: s.recording}
	err = story.play(ctx)
	return errors.Join(err, scene.Close())
}

// prepared is what the flags ask for, checked before anything is started.
type prepared struct {
	config    deployment.SceneConfig
	recording string
}

func prepare(o options) (prepared, error) {
	p := prepared{recording: o.pcap}
	request := events.Options{DurationSeconds: int(o.duration / time.Second), PacketLength: int32(o.packetLength)}
	if o.filter != "" {
		text, err := os.ReadFile(o.filter)
		if err != nil {
			return p, fmt.Errorf("filter: %w", err)
		}
		decoder := json.NewDecoder(strings.NewReader(string(text)))
		decoder.DisallowUnknownFields()
		request.Filter = &events.Filter{}
		if err := decoder.Decode(request.Filter); err != nil {
			return p, fmt.Errorf("filter %s: %w", o.filter, err)
		}
	}
	if err := request.Validate(); err != nil {
		return p, err
	}
	var err error
	if o.pcap == "" {
		p.recording = defaultPcap
		p.config.Frames, err = packets.Load(defaultPcap)
	} else {
		p.config.Frames, err = packets.ReadFile(o.pcap)
	}
	if err != nil {
		return p, fmt.Errorf("recording of the suspect's traffic: %w", err)
	}
	if o.suspect != "" {
		if p.config.Suspect, err = netip.ParseAddr(o.suspect); err != nil {
			return p, fmt.Errorf("suspect: %w", err)
		}
	}
	p.config.OuterIPv6 = o.ipv6
	p.config.Replay = o.duration / 2
	p.config.EC2 = ec2.Config{Pending: time.Second, ShuttingDown: 4 * time.Second}
	p.config.Change = func(s *events.Settings) {
		s.DurationSeconds, s.PacketLength, s.Filter = request.DurationSeconds, request.PacketLength, request.Filter
	}
	if o.verbose {
		p.config.Log = os.Stderr
	}
	return p, prepareOut(o.out)
}

// prepareOut makes the folder for the evidence, and refuses one that holds something already: evidence is never mixed.
func prepareOut(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return os.MkdirAll(dir, 0o755)
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != "captures" {
			return fmt.Errorf("out %s: holds %s, which is no evidence of ours; choose another folder with OUT=", dir, e.Name())
		}
	}
	return nil
}

func readFinding(root, path string) ([]byte, error) {
	if path == "" {
		path = filepath.Join(root, filepath.FromSlash(defaultFinding))
	}
	event, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("finding: %w", err)
	}
	return event, nil
}

// export copies a capture's evidence out of the bucket as plain files, object keys as paths.
func export(scene *deployment.Scene, c events.CaptureID, out string) (string, error) {
	from := scene.Path(strings.TrimSuffix(events.CapturePrefix(c), "/"))
	to := filepath.Join(out, filepath.FromSlash(events.CapturePrefix(c)))
	return to, filepath.WalkDir(from, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		return copyFile(path, filepath.Join(to, rel))
	})
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = io.Copy(out, in)
	return err
}
