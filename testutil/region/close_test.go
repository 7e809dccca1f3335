package region_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"flashtap/testutil/region"
	"flashtap/testutil/region/asl"
	"flashtap/testutil/region/dataplane"
	regionec2 "flashtap/testutil/region/ec2"
	"flashtap/testutil/region/queue"
)

// processes counts those that bear a text in their environment.
func processes(t *testing.T, text string) int {
	t.Helper()
	environs, err := filepath.Glob("/proc/[0-9]*/environ")
	must(t, err)
	n := 0
	for _, file := range environs {
		if content, err := os.ReadFile(file); err == nil && bytes.Contains(content, []byte(text)) { // it may be gone by now
			n++
		}
	}
	return n
}

// sockets counts this process's own.
func sockets(t *testing.T) int {
	t.Helper()
	fds, err := filepath.Glob("/proc/self/fd/*")
	must(t, err)
	n := 0
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}

// goroutines are the stacks of all of this process but those that were there before, by the line that begins each.
func goroutines(before map[string]string) map[string]string {
	stacks := make([]byte, 4<<20)
	list := map[string]string{}
	for stack := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
		id, _, _ := strings.Cut(stack, " [") // "goroutine 7 [running]:"
		if _, known := before[id]; !known {
			list[id] = stack
		}
	}
	return list
}

// aloneVariable makes the test program run one test, in a process of its own.
const aloneVariable = "REGION_TEST_ALONE"

// alone says whether this process runs nothing but the calling test. In the one that runs them all it has the test run
// in such a process, and reports how that went: what a process holds says something of one test only when others that
// run at the same time hold nothing in it.
func alone(t *testing.T) bool {
	t.Helper()
	if os.Getenv(aloneVariable) != "" {
		return true
	}
	program, err := os.Executable()
	must(t, err)
	cmd := exec.CommandContext(t.Context(), program, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), aloneVariable+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("in a process of its own: %v\n%s", err, out)
	}
	return false
}

// A Region that is busy in every way is closed: no process, port, socket or goroutine of it stays.
func TestCloseLeavesNothingBehind(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("what a process has open is read from /proc, which this system has not")
	}
	if !alone(t) {
		return
	}
	socketsBefore, goroutinesBefore := sockets(t), goroutines(nil)
	g := &guest{}
	dir := t.TempDir()
	r := start(t, region.Config{Dir: dir, Guest: g, EC2: regionec2.Config{ShuttingDown: time.Hour}, ScheduleSpeed: 3000, LambdaRetryDelays: []time.Duration{time.Millisecond, time.Hour}})
	must(t, r.S3.CreateBucket(t.Context(), bucket))
	h := hall{r, t, g, ec2.NewFromConfig(client(r, "launcher")), place(r, "127.6.0.0/16", "127.6.1.0/24", "127.6.1.10"), r.EC2.AddImage(regionec2.Image{})}
	r.EC2.AddInstanceProfile(regionec2.Profile{Name: "collector"})

	h.launch("ignore")
	metadata := h.boots(1).Env["AWS_EC2_METADATA_SERVICE_ENDPOINT"]
	_, err := r.AddTraffic(h.place.suspect, dataplane.Config{Interface: h.place.suspect, Address: netip.MustParseAddr("127.6.1.10"),
		Traffic: replay(t, true), Start: dataplane.WithSession, PacketsPerSecond: 300})
	must(t, err)
	h.place.mirror(t, h.api)
	arn := machine(t, r, invoke("A", `{"do": "sleep"}`, `"Next": "B"`)+`, "B": {"Type": "Choice", "Choices": [{"Variable": "$.end", "IsPresent": true, "Next": "C"}], "Default": "A"}, "C": {"Type": "Succeed"}`)
	inTask := make(chan struct{}, 1)
	r.WatchExecutions(func(_ string, e asl.Event) {
		if e.Type == "TaskStarted" {
			select {
			case inTask <- struct{}{}:
			default:
			}
		}
	})
	_, err = r.StartExecution(arn, "one", nil)
	must(t, err)
	_, err = r.Queues.Create(queue.Queue{Name: "jobs"})
	must(t, err)
	must(t, r.MapQueue("jobs", 1, "worker"))
	_, err = r.Queues.Send("jobs", queue.Message{Body: "at which the function fails"})
	must(t, err)
	must(t, r.Rule("all", `{"source": [{"exists": true}]}`, r.ToQueue("jobs", "")))
	_, err = r.Lambda.InvokeAsync("worker", []byte(`{"do": "fail"}`))
	must(t, err)
	newSchedules(t, r).every("guard", "rate(5 minutes)", "arn:aws:lambda:us-east-1:123456789012:function:worker", `{"do": "sleep"}`)
	held := make(chan error, 1)
	_, err = r.Queues.Create(queue.Queue{Name: "nothing"})
	must(t, err)
	url := r.QueueURL("nothing")
	go func() {
		_, err := sqs.NewFromConfig(client(r, "tester")).ReceiveMessage(context.Background(), &sqs.ReceiveMessageInput{QueueUrl: &url, WaitTimeSeconds: 20})
		held <- err
	}()
	<-inTask
	eventually(t, "the server and functions run", func() bool { return processes(t, dir) >= 3 })

	began := time.Now()
	must(t, r.Close())
	if took := time.Since(began); took > 18*time.Second { // the receive's wait is longer, and so is everything else
		t.Errorf("close took %v", took)
	}
	equal(t, "processes", processes(t, dir), 0)
	if _, running := g.count(); running != 0 {
		t.Error("a guest runs on")
	}
	for what, address := range map[string]string{"the endpoint": r.Endpoint(), "S3": r.S3.Endpoint(), "the metadata service": metadata} {
		if conn, err := net.Dial("tcp", strings.TrimPrefix(address, "http://")); err == nil {
			conn.Close()
			t.Errorf("%s still listens at %s", what, address)
		}
	}
	<-held
	eventually(t, "all sockets are closed", func() bool { return sockets(t) <= socketsBefore })
	var rest map[string]string
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if rest = goroutines(goroutinesBefore); len(rest) == 0 {
			break
		}
	}
	for _, stack := range rest {
		t.Errorf("a goroutine has not ended:\n%s", stack)
	}
	if _, err := r.StartExecution(arn, "two", nil); err == nil {
		t.Error("a closed region starts executions")
	}
	must(t, r.Close()) // once more is no error
}

// Two Regions of one process know nothing of each other, in the same account and with the same names.
func TestTwoRegionsAtOnce(t *testing.T) {
	t.Parallel()
	regions := map[string]*region.Region{"us-east-1": start(t, region.Config{Name: "us-east-1"}), "eu-central-1": start(t, region.Config{Name: "eu-central-1"})}
	var all sync.WaitGroup
	for name, r := range regions {
		all.Go(func() {
			ctx := t.Context()
			cfg := client(r, "tester in "+name)
			if err := r.S3.CreateBucket(ctx, bucket); err != nil {
				t.Error(err)
				return
			}
			register(t, r, "worker")
			for n := range 10 {
				if err := put(ctx, s3.NewFromConfig(cfg), fmt.Sprint("object-", n), name, createOnly); err != nil {
					t.Error(err)
				}
				_, err := ec2.NewFromConfig(cfg).CreateTrafficMirrorFilter(ctx, &ec2.CreateTrafficMirrorFilterInput{ClientToken: aws.String(fmt.Sprint("filter-", n))})
				if err != nil {
					t.Error(err)
				}
			}
			if result, err := r.Lambda.Invoke(ctx, "worker", []byte(`"`+name+`"`)); err != nil || result.FunctionError == "" {
				t.Errorf("%s: %s, %v", name, result.Payload, err)
			}
		})
	}
	all.Wait()
	for name, r := range regions {
		equal(t, "filters", len(r.EC2.Left()), 10)
		equal(t, "calls", len(calls(r, "PutObject")), 10)
		out, err := r.S3.Client().GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String("object-3")})
		must(t, err)
		text, err := io.ReadAll(out.Body)
		must(t, err)
		equal(t, "the object", string(text), name)
	}
}

func TestARegionNeedsAFolder(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o644))
	if r, err := region.Start(region.Config{Dir: file}); err == nil {
		r.Close()
		t.Error("a region lives in a file")
	}
}
