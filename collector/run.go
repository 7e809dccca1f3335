package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"time"

	"flashtap/collector/internal/capture"
	"flashtap/collector/internal/clock"
	"flashtap/collector/internal/confine"
	"flashtap/collector/internal/ingest"
	"flashtap/collector/internal/instance"
	"flashtap/collector/internal/ship"
	"flashtap/collector/internal/spool"
	"flashtap/collector/internal/standalone"
	"flashtap/collector/vxlan"
	"flashtap/events"
)

// run wires one capture together and returns the exit code.
func run(ctx context.Context, opts options, log *slog.Logger) int {
	result, err := collect(ctx, opts, log)
	switch {
	case err != nil:
		log.Error("collector failed", "err", err)
		return exitFailed
	case len(result.Waiting) > 0:
		log.Error("ended with objects that are not confirmed", "reason", result.Reason, "waiting", len(result.Waiting), "first", result.Waiting[0].Key)
		return exitUnconfirmed
	}
	log.Info("ended, and everything is confirmed", "reason", result.Reason)
	return exitConfirmed
}

func collect(ctx context.Context, opts options, log *slog.Logger) (capture.Result, error) {
	metadata, err := instance.Connect(ctx)
	if err != nil {
		return capture.Result{}, err
	}
	cfg, err := configuration(ctx, opts.config, metadata)
	if err != nil {
		return capture.Result{}, err
	}
	log = log.With("capture", cfg.Capture, "eni", cfg.Capture.NetworkInterfaceID(), "vni", cfg.VNI)
	id, err := patiently(ctx, metadata.ID)
	if err != nil {
		return capture.Result{}, err
	}
	userID := events.UserID(cfg.RoleID, id)
	store, err := ship.NewStore(ctx, ship.StoreConfig{Region: cfg.Region, Bucket: cfg.Bucket, Endpoint: cfg.S3Endpoint})
	if err != nil {
		return capture.Result{}, err
	}
	held, err := spool.Open(opts.spool, cfg.Capture, userID, cfg.SpoolBytes)
	if err != nil {
		return capture.Result{}, err
	}
	defer held.Close()
	clock, err := clock.Open(clock.Chrony)
	if err != nil {
		return capture.Result{}, err
	}
	defer clock.Close()
	build, err := build()
	if err != nil {
		return capture.Result{}, err
	}
	log.Info("collector begins", "tool", tool(), "build", build, "userid", userID, "bucket", cfg.Bucket, "spool", opts.spool)
	return capture.Run(ctx, capture.Config{
		Collector: cfg, Instance: id, Tool: tool(), Build: build, Spool: held, Store: store, Tags: metadata, Log: log, Clock: clock.Ask,
		Open: func(ctx context.Context) (*ingest.Opened, error) {
			return open(ctx, opts, cfg, metadata, log)
		},
	})
}

// configuration reads the capture's configuration from a file or from the instance's user data.
func configuration(ctx context.Context, from string, metadata *instance.Metadata) (events.CollectorConfig, error) {
	if from == "imds" {
		script, err := patiently(ctx, metadata.UserData)
		if err != nil {
			return events.CollectorConfig{}, err
		}
		cfg, _, err := events.ParseUserData(script)
		return cfg, err
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return events.CollectorConfig{}, fmt.Errorf("read configuration: %w", err)
	}
	return events.ParseCollectorConfig(data)
}

// open begins to receive, and gives up the privileges that this took.
func open(ctx context.Context, opts options, cfg events.CollectorConfig, metadata *instance.Metadata, log *slog.Logger) (*ingest.Opened, error) {
	endpoints := opts.listen
	if len(endpoints) == 0 {
		addrs, err := patiently(ctx, metadata.Addresses)
		if err != nil {
			return nil, err
		}
		for _, addr := range addrs {
			endpoints = append(endpoints, ingest.Endpoint{AddrPort: netip.AddrPortFrom(addr, vxlan.Port), Optional: addr.Is6()})
		}
	}
	opened, err := ingest.Open(ctx, ingest.Opening{
		Receiver: cmp.Or(opts.receiver, cfg.Receiver), Endpoints: endpoints, Fixed: len(opts.listen) > 0,
		RingBytes: cmp.Or(int(opts.ring), int(cfg.RingBytes)),
		Merging:   true, // evidence that says what is wrong with it is better than none
		Log:       log,
	})
	if err != nil {
		return nil, err
	}
	return confined(opened, confine.Config{Write: []string{opts.spool}, Network: true, Ports: ports(cfg)}, log)
}

// ports are those that the collector connects to: the store's and the metadata service's.
func ports(cfg events.CollectorConfig) []uint16 {
	list := []uint16{443, 80}
	for _, endpoint := range []string{cfg.S3Endpoint, os.Getenv("AWS_ENDPOINT_URL"), os.Getenv("AWS_ENDPOINT_URL_S3"), os.Getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT")} {
		u, err := url.Parse(endpoint)
		if err != nil {
			continue // whoever needs it will say so
		}
		if port, err := strconv.ParseUint(u.Port(), 10, 16); err == nil {
			list = append(list, uint16(port))
		}
	}
	return list
}

// confined gives up all privileges, now that everything is open that needs them.
func confined(opened *ingest.Opened, cfg confine.Config, log *slog.Logger) (*ingest.Opened, error) {
	report, err := confine.Drop(cfg)
	if err != nil {
		return nil, errors.Join(err, opened.Close())
	}
	log.Info("privileges given up", "report", report)
	return opened, nil
}

// runFolder captures into a folder and returns the exit code.
func runFolder(ctx context.Context, opts options, stdout io.Writer, log *slog.Logger) int {
	cfg := opts.folder
	cfg.Tool, cfg.Log = tool(), log
	cfg.Open = func(ctx context.Context) (*ingest.Opened, error) {
		opened, err := ingest.Open(ctx, ingest.Opening{
			Receiver: opts.receiver, Interface: cfg.Interface, RingBytes: int(opts.ring), Merging: opts.merging, Log: log,
		})
		if err != nil {
			return nil, err
		}
		return confined(opened, confine.Config{Write: []string{cfg.Dir}}, log)
	}
	cfg.Ready = func() { fmt.Fprintln(stdout, "READY") }
	manifest, err := standalone.Run(ctx, cfg)
	if err != nil {
		log.Error("collector failed", "err", err)
		return exitFailed
	}
	t := manifest.Tally
	fmt.Fprintf(stdout, "%d frames in %d segments; of %d datagrams %d were rejected, %d not written; %d were dropped before (ring %d, socket %d, host %d)\n",
		t.Written, len(manifest.Segments), t.Received, t.Rejected.Total(), t.Unwritten, t.RingDropped+t.SocketDropped+t.HostDropped,
		t.RingDropped, t.SocketDropped, t.HostDropped)
	return exitConfirmed
}

// metadataTime is how long the metadata service may take to answer for the first time.
const metadataTime = 30 * time.Second

// patiently repeats a question to the metadata service, which may come up later than the instance.
func patiently[T any](ctx context.Context, ask func(context.Context) (T, error)) (T, error) {
	deadline := time.Now().Add(metadataTime)
	for {
		answer, err := ask(ctx)
		if err == nil || time.Now().After(deadline) {
			return answer, err
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return answer, err
		}
	}
}
