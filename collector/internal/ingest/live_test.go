package ingest

import (
	"errors"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"flashtap/collector/vxlan"
	bench "flashtap/testutil/bench/rig"
	wire "flashtap/testutil/bench/send"
	"flashtap/testutil/bench/traffic"
)

// On a machine with many receive queues several rings share the work, each that of one CPU. The wire of this test has
// one that receives; what has to hold is that every packet comes once, whoever got it, and in the order of the timestamps.
func TestLiveRingsShareTheWork(t *testing.T) {
	r, err := bench.New(bench.Config{})
	if errors.Is(err, bench.ErrPermission) && os.Getenv("CI") != "true" {
		t.Skipf("needs root and network namespaces: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}()
	plan := r.Plan(traffic.DefaultPlan())
	ring := openIn(t, r.ReceiveNamespace, RingConfig{Interface: r.ReceiveInterface, Bytes: 8 << 20, Queues: 2})
	defer ring.Close()
	const count = 20000
	g, err := traffic.New(plan)
	if err != nil {
		t.Fatal(err)
	}
	var (
		sent wire.Result
		got  atomic.Int64
	)
	stopped := make(chan error, 1)
	go func() {
		var err error
		sent, err = wire.Run(t.Context(), wire.Config{
			Interface: r.SendInterface, Namespace: r.SendNamespace, Traffic: g, Count: count, Rate: 20000, CPU: -1, Bunch: time.Millisecond,
		})
		for before := int64(-1); before != got.Load(); time.Sleep(time.Second) { // the kernel may be late
			before = got.Load()
		}
		stopped <- errors.Join(err, ring.Stop())
	}()
	last := int64(0)
	for {
		batch, err := ring.Receive()
		for _, d := range batch {
			if d.Fault != vxlan.None || d.At < last {
				t.Fatalf("packet %d: fault %d, at %d after %d", got.Load(), d.Fault, d.At, last)
			}
			last = d.At
			got.Add(1)
		}
		if err != nil {
			break
		}
	}
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	dropped, err := ring.Dropped()
	// What a busy machine kept from the wire is no matter of this test.
	if n := got.Load(); err != nil || uint64(n)+dropped != sent.Sent || n == 0 {
		t.Errorf("%d packets and %d dropped of %+v, %v", n, dropped, sent, err)
	}
}

// openIn opens a ring in a network namespace.
func openIn(t *testing.T, namespace string, cfg RingConfig) *Ring {
	t.Helper()
	type result struct {
		ring *Ring
		err  error
	}
	opened := make(chan result)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its namespace
		fd, err := unix.Open(namespace, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = errors.Join(unix.Setns(fd, unix.CLONE_NEWNET), unix.Close(fd))
		}
		if err != nil {
			opened <- result{nil, err}
			return
		}
		ring, err := OpenRing(cfg)
		opened <- result{ring, err}
	}()
	res := <-opened
	if res.err != nil {
		t.Fatal(res.err)
	}
	return res.ring
}
