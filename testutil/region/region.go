// Package region is AWS on one machine: one HTTP endpoint that unmodified SDK clients and the aws command talk to, with
// real S3, real Lambda binaries, real packets, and an EC2 that can say no.
//
// It is for tests and the demo; it knows nothing of what is deployed into it.
package region

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"flashtap/testutil/region/cloudwatch"
	"flashtap/testutil/region/ec2"
	"flashtap/testutil/region/kms"
	"flashtap/testutil/region/lambda"
	"flashtap/testutil/region/model"
	"flashtap/testutil/region/queue"
	"flashtap/testutil/region/quotas"
	"flashtap/testutil/region/schedule"
	"flashtap/testutil/region/simulator"
	"flashtap/testutil/s3"
)

// Config says which Region this is and where it keeps its things.
type Config struct {
	Account string // default 123456789012
	Name    string // default us-east-1
	Dir     string // holds the S3 server's objects, the instances' disks and the logs; made when it is not there

	// Guest is what runs in an instance: its operating system, as far as one machine can play it. Nil: instances run
	// and do nothing.
	Guest Guest
	// EC2 sets the timing and faults of EC2; account, Region and hooks are filled in.
	EC2 ec2.Config
	// Metrics sets how CloudWatch has the region's own metrics: as late and as seldom as AWS's, by default.
	Metrics MetricsConfig
	// OuterIPv6 sends mirrored copies between the interfaces' IPv6 addresses.
	OuterIPv6 bool
	// ScheduleSpeed divides the intervals of rate schedules; default 1.
	ScheduleSpeed float64
	// LambdaRetryDelays are the waits before the second and third attempt of an asynchronous invocation.
	LambdaRetryDelays []time.Duration
	Log               *slog.Logger // default: discards
}

// MetricsConfig says how the region's own metrics come. A zero is as in AWS: a sample every 5 minutes, which can be read 5
// minutes later. A negative Lag is none.
type MetricsConfig struct{ Every, Lag time.Duration }

// Region is a running local Region.
type Region struct {
	EC2       *ec2.Service
	Lambda    *lambda.Service
	Queues    *queue.Service
	Schedules *schedule.Service
	S3        *s3.Server
	KMS       *kms.Service
	Quotas    *quotas.Service
	IAM       *simulator.Service
	Metrics   *cloudwatch.Service

	// SigningKey is the ARN of a KMS key that signs: ECC_NIST_P256, SIGN_VERIFY.
	SigningKey string

	cfg      Config
	topics   topics
	log      *slog.Logger
	ctx      context.Context
	stop     context.CancelFunc
	work     sync.WaitGroup
	listener net.Listener
	server   *http.Server
	underWay atomic.Int64 // requests
	toS3     *http.Transport

	bus      bus
	machines machines
	traffic  traffic
	guests   guests
	record   record
}

// Start brings a Region up. Close must be called, or processes stay behind.
func Start(cfg Config) (*Region, error) {
	if cfg.Account == "" {
		cfg.Account = "123456789012"
	}
	if cfg.Name == "" {
		cfg.Name = "us-east-1"
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	r := &Region{cfg: cfg, log: cfg.Log, toS3: &http.Transport{DisableCompression: true}}
	r.ctx, r.stop = context.WithCancel(context.Background())
	for _, sub := range []string{"s3", "instances", "logs"} {
		if err := os.MkdirAll(filepath.Join(cfg.Dir, sub), 0o755); err != nil {
			return nil, fmt.Errorf("start region: %w", err)
		}
	}
	var err error
	if r.S3, err = s3.StartWith(s3.Config{Dir: filepath.Join(cfg.Dir, "s3"), Region: cfg.Name}); err != nil {
		return nil, fmt.Errorf("start region: %w", err)
	}
	if r.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		r.S3.Stop()
		return nil, fmt.Errorf("start region: %w", err)
	}
	key, secret := r.S3.Credentials()
	r.Lambda = lambda.New(lambda.Config{Region: cfg.Name, AccountID: cfg.Account, AccessKeyID: key, SecretAccessKey: secret, RetryDelays: cfg.LambdaRetryDelays})
	r.Queues = queue.New(queue.Config{Region: cfg.Name, AccountID: cfg.Account, Endpoint: r.Endpoint()})
	r.Schedules = schedule.New(schedule.Config{Region: cfg.Name, AccountID: cfg.Account, Speed: cfg.ScheduleSpeed, Invoke: r.fire, DeadLetter: r.bury})
	r.bus.region, r.machines.region, r.traffic.region, r.guests.region = r, r, r, r
	r.EC2 = ec2.New(r.ec2Config())
	r.KMS = kms.New(kms.Config{Account: cfg.Account, Region: cfg.Name})
	r.SigningKey = r.KMS.AddKey(kms.Key{Spec: kms.ECCP256, Description: "signs"})
	r.Quotas = &quotas.Service{Known: r.knownQuotas, Account: cfg.Account, Region: cfg.Name}
	r.IAM = &simulator.Service{}
	r.Metrics = cloudwatch.New(cloudwatch.Config{Every: cfg.Metrics.Every, Lag: cfg.Metrics.Lag, Known: r.knownSamples})
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: time.Minute}
	r.work.Go(func() {
		if err := r.server.Serve(r.listener); !errors.Is(err, http.ErrServerClosed) {
			r.log.Error("edge ended", "err", err)
		}
	})
	return r, nil
}

func (r *Region) ec2Config() ec2.Config {
	cfg := r.cfg.EC2
	cfg.Account, cfg.Region, cfg.OuterIPv6 = r.cfg.Account, r.cfg.Name, r.cfg.OuterIPv6
	cfg.Hooks = ec2.Hooks{
		Boot: r.guests.boot, Stop: r.guests.shutDown, Tagged: r.guests.tagged, Mirrors: r.traffic.mirrors,
		Event: func(source, kind string, detail any) {
			var resources []string
			if change, ok := detail.(ec2.StateChange); ok {
				r.guests.changed(change)
				resources = append(resources, "arn:aws:ec2:"+r.cfg.Name+":"+r.cfg.Account+":instance/"+change.InstanceID)
			}
			r.bus.publish(source, kind, detail, resources...)
		},
	}
	if fault := cfg.Fault; fault != nil {
		cfg.Fault = func(call *model.Call) error {
			if call.Service == ownCall {
				return nil
			}
			return fault(call)
		}
	}
	return cfg
}

// Endpoint is the URL that every client is given as its endpoint.
func (r *Region) Endpoint() string { return "http://" + r.listener.Addr().String() }

// Dir is where the Region keeps its things.
func (r *Region) Dir() string { return r.cfg.Dir }

// Environ are the variables that point an SDK client or the aws command at this Region. principal names the caller in
// Calls.
func (r *Region) Environ(principal string) map[string]string {
	key, secret := r.S3.Credentials()
	return map[string]string{
		"AWS_ENDPOINT_URL": r.Endpoint(), "AWS_REGION": r.cfg.Name, "AWS_DEFAULT_REGION": r.cfg.Name,
		"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret, "AWS_SDK_UA_APP_ID": principal,
		"AWS_EC2_METADATA_DISABLED": "true",
	}
}

// ownCall marks what the region itself asks EC2, which no fault touches.
const ownCall = "region"

// Close ends executions, instances, functions and servers, in that order, and waits for them. Objects stay on disk.
func (r *Region) Close() error {
	r.machines.stopAll()
	r.stop()
	r.Schedules.Close()
	err := r.Queues.Close()
	r.guests.killAll()
	err = errors.Join(err, r.Lambda.Close())
	r.EC2.Close()
	err = errors.Join(err, r.hangUp())
	r.traffic.wait()
	r.work.Wait()
	r.S3.Stop()
	return err
}

// patience is how long the requests under way have to end.
const patience = 5 * time.Second

// hangUp closes the endpoint. (http.Server.Shutdown would wait for connections that have never said anything, too.)
func (r *Region) hangUp() error {
	for deadline := time.Now().Add(patience); r.underWay.Load() > 0 && time.Now().Before(deadline); {
		time.Sleep(2 * time.Millisecond)
	}
	var err error
	if n := r.underWay.Load(); n > 0 {
		err = fmt.Errorf("close region: %d requests are still under way", n)
	}
	return errors.Join(err, r.server.Close())
}
