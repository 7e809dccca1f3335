package deployment

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"flashtap/events"
	"flashtap/testutil/region"
)

// Guest plays Amazon Linux on a collector instance: it does what the user data says, in its order. The instance's own
// end is armed first; the program is fetched from the bucket and its digest checked; it runs under a small stand-in
// for systemd, which restarts it after a crash; and when it has ended, the instance powers off.
//
// This machine has no names of VPC endpoints. Where the user data names one, the guest asks the local region whether the
// instance reaches it, and then goes to the region's S3.
type Guest struct {
	reach func(instance, host string) error

	mu        sync.Mutex
	processes map[string]*os.Process // by instance id
}

// restarts is the StartLimitBurst of the unit in the user data.
const restarts = 5

// Run boots the instance and returns when it has powered off.
func (g *Guest) Run(ctx context.Context, m region.Machine, shutdown <-chan struct{}) error {
	config, lifetime, err := events.ParseUserData(m.UserData)
	if err != nil {
		return fmt.Errorf("boot %s: %w", m.ID, err)
	}
	if config.S3Endpoint != "" {
		if err := g.resolve(m, &config); err != nil {
			return fmt.Errorf("boot %s: %w", m.ID, err)
		}
	}
	end := time.NewTimer(lifetime)
	defer end.Stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	program := filepath.Join(m.Dir, "flashtap-collector")
	if err := fetch(ctx, m, config, program); err != nil {
		return fmt.Errorf("boot %s: %w", m.ID, err)
	}
	text, err := json.MarshalIndent(config, "", " ")
	if err != nil {
		return err
	}
	configFile := filepath.Join(m.Dir, "collector.json")
	if err := os.WriteFile(configFile, text, 0o644); err != nil {
		return err
	}
	spool := filepath.Join(m.Dir, "spool")
	if err := os.MkdirAll(spool, 0o755); err != nil {
		return err
	}
	for try := 0; ; try++ {
		cmd, err := start(m, program, "run", "--config", configFile, "--spool", spool)
		if err != nil {
			return fmt.Errorf("boot %s: %w", m.ID, err)
		}
		g.remember(m.ID, cmd.Process)
		died := make(chan error, 1)
		go func() { died <- cmd.Wait() }()
		crashed, err := supervise(ctx, cmd, died, shutdown, end.C, time.Duration(config.DrainSeconds)*time.Second)
		g.remember(m.ID, nil)
		if !crashed || try == restarts {
			return err
		}
		fmt.Fprintf(m.Console, "systemd: flashtap-collector ended abnormally (%v), starting it again\n", err)
		select {
		case <-time.After(time.Second): // RestartSec
		case <-shutdown:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// resolve replaces the URL of an endpoint by that of the local region's S3.
func (g *Guest) resolve(m region.Machine, c *events.CollectorConfig) error {
	u, err := url.Parse(c.S3Endpoint)
	if err != nil {
		return fmt.Errorf("endpoint %q: %w", c.S3Endpoint, err)
	}
	if err := g.reach(m.ID, u.Hostname()); err != nil {
		return err
	}
	fmt.Fprintf(m.Console, "connected to %s\n", u.Hostname())
	c.S3Endpoint = m.Env["AWS_ENDPOINT_URL"]
	return nil
}

// supervise waits for the program's end, asked for or not, and says whether the unit of the user data starts it again:
// after an end by a signal that nobody here sent, and when evidence still waits in the spool.
func supervise(ctx context.Context, cmd *exec.Cmd, died <-chan error, shutdown <-chan struct{}, end <-chan time.Time, drain time.Duration) (crashed bool, err error) {
	select {
	case err := <-died:
		var exit *exec.ExitError
		return errors.As(err, &exit) && (exit.ExitCode() < 0 || exit.ExitCode() == events.UnconfirmedExit), err
	case <-shutdown:
	case <-end:
	case <-ctx.Done():
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // the plug is pulled
		return false, <-died
	}
	_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended in this very moment
	select {
	case err := <-died:
		return false, err
	case <-time.After(drain):
	case <-ctx.Done():
	}
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	return false, <-died
}

func (g *Guest) remember(instance string, p *os.Process) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.processes == nil {
		g.processes = map[string]*os.Process{}
	}
	if p == nil {
		delete(g.processes, instance)
		return
	}
	g.processes[instance] = p
}

// Crash kills the collector program on an instance, as a bug in it would.
func (g *Guest) Crash(instance string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := g.processes[instance]
	if p == nil {
		return fmt.Errorf("crash the collector on %s: none runs", instance)
	}
	return p.Kill()
}

// Instances are the instances on which a collector runs now.
func (g *Guest) Instances() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var ids []string
	for id := range g.processes {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// fetch gets the program from the bucket and refuses it when its digest is not the pinned one.
func fetch(ctx context.Context, m region.Machine, c events.CollectorConfig, to string) error {
	client := s3.New(s3.Options{
		Region: c.Region, BaseEndpoint: aws.String(m.Env["AWS_ENDPOINT_URL"]), UsePathStyle: true, AppID: m.Env["AWS_SDK_UA_APP_ID"],
		Credentials: credentials.NewStaticCredentialsProvider(m.Env["AWS_ACCESS_KEY_ID"], m.Env["AWS_SECRET_ACCESS_KEY"], ""),
	})
	out, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: &c.Bucket, Key: &c.BinaryKey})
	if err != nil {
		return fmt.Errorf("fetch %s: %w", c.BinaryKey, err)
	}
	defer out.Body.Close()
	file, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	sum := sha256.New()
	_, err = io.Copy(io.MultiWriter(file, sum), out.Body)
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("fetch %s: %w", c.BinaryKey, err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != c.BinarySHA256 {
		return fmt.Errorf("fetch %s: digest %s is not the pinned %s", c.BinaryKey, got, c.BinarySHA256)
	}
	return nil
}

// start starts a program that was just written. A process that another goroutine forked in between may still have the file open for
// writing, as long as it has not come to its own exec; the kernel refuses until then (execve(2), ETXTBSY).
func start(m region.Machine, program string, args ...string) (*exec.Cmd, error) {
	const patience = 5 * time.Second
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		cmd := exec.Command(program, args...)
		cmd.Dir = m.Dir
		cmd.Env = []string{"PATH=/usr/bin:/bin"}
		for name, value := range m.Env {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
		cmd.Stdout, cmd.Stderr = m.Console, m.Console
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		err := cmd.Start()
		if !errors.Is(err, syscall.ETXTBSY) || time.Since(began) > patience {
			return cmd, err
		}
	}
}
