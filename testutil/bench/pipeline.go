//go:build linux

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
	"flashtap/testutil/bench/rig"
	"flashtap/testutil/bench/standin"
	"flashtap/testutil/bench/traffic"
	"flashtap/testutil/bench/verify"
)

// pipelineRate leaves one CPU time for the whole way, and the sender's CPU time for the stand-in.
const pipelineRate = 80_000

// pipelineBunch lets the sender sleep, since the stand-in has the same CPU.
const pipelineBunch = time.Millisecond

// pipeline measures the collector as the capture instance runs it: from the packet to the confirmed object.
func (l *lab) pipeline(ctx context.Context, ld load, r run, rounds int) error {
	r.experiment, r.ring = experimentPipeline, 1<<20 // the way is measured, not how much of it there is
	for round := range rounds {
		r.round = round + 1
		out := Result{Experiment: experimentPipeline, Collector: ours, Load: ld.Name, Rate: r.rate, Round: r.round}
		if err := l.upload(ctx, ld, r, &out); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			out.Err = err.Error()
		}
		fmt.Fprintf(l.progress, "%s, %.2f ns a byte\n", line(out), out.PerByte)
		if err := l.ledger.add(out); err != nil {
			return err
		}
	}
	return nil
}

func (l *lab) upload(ctx context.Context, ld load, r run, out *Result) (err error) {
	generator, err := traffic.New(l.rig.Plan(ld.Plan))
	if err != nil {
		return err
	}
	dir := filepath.Join(l.rig.Dir, "pipeline")
	objects := filepath.Join(dir, "objects")
	if err := os.MkdirAll(objects, 0o755); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	store, where, err := l.startStandin(ctx, objects)
	if err != nil {
		return err
	}
	defer store.Kill()
	p, err := l.startUploader(dir, generator.Plan(), where)
	if err != nil {
		return err
	}
	defer p.Kill()
	ready := func() bool {
		checkpoints, _ := filepath.Glob(filepath.Join(objects, "000001-*.json"))
		return len(checkpoints) > 0 && p.Capturing()
	}
	if err := p.Await(ctx, readyPatience, ready); err != nil {
		return err
	}
	pause(ctx, settle)
	m, err := l.begin(p)
	if err != nil {
		return err
	}
	sent, err := l.send(ctx, generator, r)
	if err != nil {
		return err
	}
	awaitQuiet(ctx, p)
	if err := m.end(out); err != nil {
		return err
	}
	_, out.Memory = p.Memory()
	// The last segment is uploaded after the stop: all that the process has used in the end, without what it had used
	// before.
	err = p.Stop()
	out.App = float64(p.Total()) - float64(m.app.Run)
	out.Send, out.Said = &sent, lastLines(p.Output())
	if ctx.Err() != nil {
		return ctx.Err()
	}
	v, judged := uploaded(objects, sent.Offered())
	out.Verdict = &v
	out.PerByte, out.PerByteA = (out.App+out.Kernel)/float64(sent.Bytes), out.App/float64(sent.Bytes)
	out.figures()
	return errors.Join(err, judged)
}

// uploaded is what the manifest says; the bytes themselves are gone.
func uploaded(objects string, n uint64) (verify.Verdict, error) {
	var manifest events.CollectorManifest
	data, err := os.ReadFile(filepath.Join(objects, "manifest.json"))
	if err == nil {
		err = json.Unmarshal(data, &manifest)
	}
	if err != nil {
		return verify.Verdict{}, fmt.Errorf("read the manifest: %w", err)
	}
	t := manifest.Tally
	v := verify.Verdict{Files: len(manifest.Segments), Records: t.Written, Intact: t.Uploaded, Bytes: t.WrittenBytes, OnDisk: int64(t.UploadedBytes)}
	v.Lost = n - min(n, t.Uploaded)
	v.Foreign = t.Rejected.Total()
	return v, nil
}

// startStandin starts what stands for S3 and the metadata service, on the sender's CPU.
func (l *lab) startStandin(ctx context.Context, dir string) (*rig.Process, standin.Place, error) {
	var where standin.Place
	// The sender comes first: what it would send too late, the stand-in can take later.
	p, err := l.rig.Start(rig.Program{Args: []string{l.self, "standin", dir}, Send: true, Nice: 20})
	if err != nil {
		return nil, where, err
	}
	err = p.Await(ctx, readyPatience, func() bool {
		text, _, whole := strings.Cut(p.Output(), "\n")
		return whole && json.Unmarshal([]byte(text), &where) == nil
	})
	if err != nil {
		p.Kill()
		return nil, where, fmt.Errorf("start the stand-in: %w", err)
	}
	return p, where, nil
}

// standinProgram is the process of the stand-in.
func standinProgram(ctx context.Context, dir string, out io.Writer) error {
	server, err := standin.Serve(ctx, standin.Config{
		Dir: dir, Instance: "i-00000000000000001", Region: "us-east-1", Address: rigAddress,
	})
	if err != nil {
		return err
	}
	defer server.Close() //nolint:errcheck // the process ends here
	if err := json.NewEncoder(out).Encode(server.Place); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// rigAddress is where the receiver's end of a rig is.
var rigAddress = netip.MustParseAddr("198.18.0.2")

// startUploader starts the collector with a configuration of its own.
func (l *lab) startUploader(dir string, plan traffic.Plan, where standin.Place) (*rig.Process, error) {
	cfg := events.DefaultCollectorConfig()
	cfg.Deployment, cfg.Region, cfg.Bucket, cfg.S3Endpoint = "bench", "us-east-1", "evidence", where.Endpoint
	cfg.Capture, cfg.RoleID = events.NewCaptureID(time.Now(), "eni-0a1b2c3d4e5f60718"), "AROAEXAMPLEROLEID"
	cfg.VNI, cfg.Sources = plan.VNI, []string{plan.Outer.Source.String()}
	cfg.Deadline = time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	data, err := json.Marshal(cfg)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "collector.json")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return nil, err
	}
	return l.rig.Start(rig.Program{
		Args: []string{filepath.Join(l.bin, collectorProgram), "run", "--config", path, "--spool", filepath.Join(dir, "spool")},
		Env: []string{
			"AWS_EC2_METADATA_SERVICE_ENDPOINT=" + where.Metadata, "SSL_CERT_FILE=" + where.Certificate, "HOME=" + dir,
			"AWS_CA_BUNDLE=" + where.Certificate, "AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=", "AWS_PROFILE=",
		},
	})
}
