package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"time"

	"flashtap/collector/internal/capture"
	"flashtap/collector/internal/ingest"
	"flashtap/collector/internal/instance"
	"flashtap/collector/internal/ship"
	"flashtap/collector/internal/spool"
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
	log.Info("collector begins", "tool", tool(), "userid", userID, "bucket", cfg.Bucket, "spool", opts.spool)
	return capture.Run(ctx, capture.Config{
		Collector: cfg, Tool: tool(), Spool: held, Store: store, Tags: metadata, Log: log,
		Listen: func(ctx context.Context) ([]ingest.Receiver, []string, error) {
			return listen(ctx, opts.listen, metadata, log)
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

// listen binds the receivers, and looks at what may spoil what they receive.
func listen(ctx context.Context, endpoints []ingest.Endpoint, metadata *instance.Metadata, log *slog.Logger) ([]ingest.Receiver, []string, error) {
	if len(endpoints) == 0 {
		addrs, err := patiently(ctx, metadata.Addresses)
		if err != nil {
			return nil, nil, err
		}
		for _, addr := range addrs {
			endpoints = append(endpoints, ingest.Endpoint{AddrPort: netip.AddrPortFrom(addr, vxlan.Port), Optional: addr.Is6()})
		}
	}
	receivers, remarks, err := ingest.ListenAll(ctx, endpoints, ingest.SocketConfig{}, log)
	if err != nil {
		return nil, nil, err
	}
	devices, err := ingest.VXLANDevices(os.DirFS("/sys"))
	if err != nil {
		remarks = append(remarks, err.Error())
	}
	for _, name := range devices {
		remarks = append(remarks, "the kernel has a VXLAN device "+name+": its receive offload may have merged frames into ones that never existed")
	}
	return receivers, remarks, nil
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
