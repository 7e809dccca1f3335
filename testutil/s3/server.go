// Package s3 runs a real S3 server (versitygw) on this machine, for tests and the demo.
//
// The server is a second process of the very program that imports this package, since the gateway allows one instance
// a process and makes its folder the working directory. Package s3 must therefore not be imported by a program whose
// start has effects before main.
package s3

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// Config says where a server keeps its objects and who may ask it. Zero values mean the defaults.
type Config struct {
	Dir       string // holds `objects` and `versions`; made when it is not there
	Region    string // default us-east-1; requests signed for another Region are refused, as S3 does
	AccessKey string
	SecretKey string
}

// Server is a running S3 server. Its objects are plain files: <Dir>/objects/<bucket>/<key>.
type Server struct {
	cfg  Config
	addr string

	mu     sync.Mutex
	cmd    *exec.Cmd
	input  io.Closer // the process ends when this closes, also when this one dies
	ended  chan struct{}
	stderr *bytes.Buffer
}

// startTime is how long a server may take to answer; it needs some 20 ms on an idle machine.
const startTime = 30 * time.Second

// Start runs a server that keeps its objects under dir. Stop must be called when it is no longer needed.
func Start(dir string) (*Server, error) { return StartWith(Config{Dir: dir}) }

// StartWith is Start with a say in everything.
func StartWith(cfg Config) (*Server, error) {
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("start S3 server in %s: %w", cfg.Dir, err)
	}
	cfg.Dir = dir
	if cfg.Region == "" {
		cfg.Region = "us-east-1"
	}
	if cfg.AccessKey == "" {
		cfg.AccessKey, cfg.SecretKey = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	}
	for _, sub := range []string{objects, versions} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, fmt.Errorf("start S3 server in %s: %w", dir, err)
		}
	}
	s := &Server{cfg: cfg}
	// The kernel chooses a port, which is then free for a moment. Should somebody else take it, choose another.
	for attempt := 0; ; attempt++ {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("start S3 server: %w", err)
		}
		s.addr = listener.Addr().String()
		if err := listener.Close(); err != nil {
			return nil, fmt.Errorf("start S3 server: %w", err)
		}
		if err = s.Restart(); err == nil {
			return s, nil
		}
		if attempt == 4 {
			return nil, err
		}
	}
}

// Restart starts the server again after Stop, at the same address and with the same objects.
func (s *Server) Restart() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		return errors.New("restart S3 server: it is running")
	}
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("start S3 server: %w", err)
	}
	settings, err := json.Marshal(settings{Config: s.cfg, Addr: s.addr})
	if err != nil {
		return fmt.Errorf("start S3 server: %w", err)
	}
	s.stderr = new(bytes.Buffer)
	s.cmd = exec.Command(program)
	s.cmd.Env = append(os.Environ(), settingsVariable+"="+string(settings))
	s.cmd.Stderr = s.stderr
	input, err := s.cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("start S3 server: %w", err)
	}
	if err := s.cmd.Start(); err != nil {
		s.cmd = nil
		return fmt.Errorf("start S3 server: %w", err)
	}
	s.input, s.ended = input, make(chan struct{})
	go func(cmd *exec.Cmd, ended chan struct{}) {
		cmd.Wait() //nolint:errcheck // how it ended is no news: it was told to, or stderr says why
		close(ended)
	}(s.cmd, s.ended)
	return s.awaitAnswer()
}

// awaitAnswer returns when the server accepts connections.
func (s *Server) awaitAnswer() error {
	deadline := time.Now().Add(startTime)
	for time.Now().Before(deadline) {
		select {
		case <-s.ended:
			s.cmd = nil
			return fmt.Errorf("start S3 server at %s: it ended: %s", s.addr, s.stderr)
		default:
		}
		conn, err := net.DialTimeout("tcp", s.addr, time.Second)
		if err == nil {
			return conn.Close()
		}
		time.Sleep(5 * time.Millisecond)
	}
	s.halt()
	return fmt.Errorf("start S3 server at %s: no answer after %v", s.addr, startTime)
}

// Stop ends the server at once: connections break, the port refuses. Its objects stay.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		s.halt()
	}
}

func (s *Server) halt() {
	s.cmd.Process.Kill() //nolint:errcheck // it may have ended already
	s.input.Close()      //nolint:errcheck // and so may its end of the pipe
	<-s.ended
	s.cmd = nil
}

// Endpoint is the URL to give to clients; buckets are in the path.
func (s *Server) Endpoint() string { return "http://" + s.addr }

// Region is the Region that requests are to be signed for.
func (s *Server) Region() string { return s.cfg.Region }

// Credentials are the access key id and the secret key of the server's owner.
func (s *Server) Credentials() (accessKey, secretKey string) { return s.cfg.AccessKey, s.cfg.SecretKey }

// BucketDir is the folder in which the objects of a bucket lie as plain files.
func (s *Server) BucketDir(bucket string) string {
	return filepath.Join(s.cfg.Dir, objects, bucket)
}

// Client is the SDK's own client for this server.
func (s *Server) Client() *s3.Client {
	return s3.New(s3.Options{
		Region:       s.cfg.Region,
		BaseEndpoint: aws.String(s.Endpoint()),
		UsePathStyle: true,
		Credentials:  credentials.NewStaticCredentialsProvider(s.cfg.AccessKey, s.cfg.SecretKey, ""),
	})
}

// CreateBucket makes a bucket as the evidence bucket is: versioned, with Object Lock.
func (s *Server) CreateBucket(ctx context.Context, name string) error {
	_, err := s.Client().CreateBucket(ctx, &s3.CreateBucketInput{
		Bucket:                     aws.String(name),
		ObjectLockEnabledForBucket: aws.Bool(true),
	})
	if err != nil {
		return fmt.Errorf("create bucket %s: %w", name, err)
	}
	return nil
}

// Retain sets the retention that objects of a bucket get by default: GOVERNANCE or COMPLIANCE.
func (s *Server) Retain(ctx context.Context, name, mode string, days int) error {
	_, err := s.Client().PutObjectLockConfiguration(ctx, &s3.PutObjectLockConfigurationInput{
		Bucket: aws.String(name),
		ObjectLockConfiguration: &types.ObjectLockConfiguration{ObjectLockEnabled: types.ObjectLockEnabledEnabled, Rule: &types.ObjectLockRule{
			DefaultRetention: &types.DefaultRetention{Mode: types.ObjectLockRetentionMode(mode), Days: aws.Int32(int32(days))},
		}},
	})
	if err != nil {
		return fmt.Errorf("set the retention of bucket %s: %w", name, err)
	}
	return nil
}
