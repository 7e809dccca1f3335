package main

import (
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"flashtap/events"
	"flashtap/testutil/s3"
)

// stalls stands between a collector and the S3 server. While it stalls, it takes connections and says nothing.
type stalls struct {
	url  string
	mu   sync.Mutex
	cond sync.Cond
	on   bool
}

func newStalls(t *testing.T, server *s3.Server) *stalls {
	t.Helper()
	target, err := url.Parse(server.Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &stalls{url: "http://" + listener.Addr().String()}
	s.cond.L = &s.mu
	t.Cleanup(func() {
		listener.Close()
		s.set(false) // whoever waits ends
	})
	go forward(listener, target.Host, s.wait)
	return s
}

func (s *stalls) set(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.on = on
	s.cond.Broadcast()
}

func (s *stalls) wait() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.on {
		s.cond.Wait()
	}
}

// forward carries the connections of a listener to an address, and asks before every piece.
func forward(listener net.Listener, target string, ask func()) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return // it was closed
		}
		go func() {
			defer conn.Close()
			ask()
			onward, err := net.Dial("tcp", target)
			if err != nil {
				return
			}
			defer onward.Close()
			go func() {
				io.Copy(asking{onward, ask}, conn) //nolint:errcheck // either end may go away
				onward.(*net.TCPConn).CloseWrite() //nolint:errcheck // the same
			}()
			io.Copy(asking{conn, ask}, onward) //nolint:errcheck // the same
		}()
	}
}

type asking struct {
	io.Writer
	ask func()
}

func (a asking) Write(p []byte) (int, error) {
	a.ask()
	return a.Writer.Write(p)
}

// stallTime is more than two attempts to send a segment may take.
const stallTime = 60 * time.Second

// A store that takes connections and never answers costs attempts, and no evidence: what was confirmed before stays as
// it is, what comes meanwhile waits on disk, and arrives once the store is back.
func TestLiveAStoreThatStallsCostsNothing(t *testing.T) {
	t.Parallel()
	s := newStalls(t, shared)
	r := newRig(t, shared, func(c *events.CollectorConfig) { c.SegmentBytes, c.SegmentSeconds, c.S3Endpoint = 1<<16, 2, s.url })
	r.ready()
	sent := numbered(0, 500, 1000)
	r.send(sent[:100]...)
	r.await("the first segment", func() bool { return r.last().Tally.Uploaded >= 64 })
	confirmed := r.segmentsInBucket()
	s.set(true)
	began := time.Now()
	for rest := sent[100:]; len(rest) > 0; rest = rest[40:] { // all the time
		r.send(rest[:40]...)
		time.Sleep(stallTime / 10)
	}
	r.await("two attempts that failed", func() bool { return strings.Count(r.logText(), "msg:attempt failed") >= 2 })
	r.same(confirmed)
	time.Sleep(time.Until(began.Add(stallTime)))
	s.set(false)
	r.await("everything", func() bool { return r.last().Tally.Uploaded >= 500 })
	r.stop(exitConfirmed)
	e := r.complete(events.StopSignal, sent...)
	t.Logf("%d segments, of which %d were confirmed before a stall of %v", len(e.manifest.Segments), len(confirmed), stallTime)
	if e.manifest.Error != "" {
		t.Errorf("nothing is missing, but the manifest complains: %s", e.manifest.Error)
	}
	r.same(confirmed)
}

// One that stalls until the time for uploads is over leaves the rest in the spool, declared; another run ships it.
func TestLiveAStoreThatStallsToTheEndLeavesTheRestDeclared(t *testing.T) {
	t.Parallel()
	s := newStalls(t, shared)
	r := newRig(t, shared, func(c *events.CollectorConfig) { c.SegmentBytes, c.S3Endpoint, c.DrainSeconds = 1<<16, s.url, 4 })
	r.ready()
	sent := numbered(0, 300, 1000)
	r.send(sent[:100]...)
	r.await("the first segment", func() bool { return r.last().Tally.Uploaded >= 64 })
	confirmed := r.segmentsInBucket()
	s.set(true)
	r.send(sent[100:]...)
	r.signal(syscall.SIGTERM)
	r.end(exitUnconfirmed)
	r.same(confirmed)
	if !strings.Contains(r.logText(), "segments are not confirmed by the store") {
		t.Error("the log does not say that segments are not confirmed")
	}
	s.set(false)
	r.start()
	r.end(exitConfirmed)
	m := r.manifestless().manifest // made when most was not confirmed
	if m.Tally.Written != 300 || m.Tally.Uploaded != 64 || !strings.Contains(m.Error, "4 segments are not confirmed") {
		t.Errorf("the manifest says %+v, %q", m.Tally, m.Error)
	}
	for _, seg := range m.Segments {
		if got := r.digest(r.path(seg.Key)); got != seg.SHA256 {
			t.Errorf("segment %d did not arrive", seg.Seq)
		}
	}
	r.same(confirmed)
}

// segmentsInBucket are the segments that the store has, and their digests.
func (r *rig) segmentsInBucket() map[string]string {
	r.t.Helper()
	digests := map[string]string{}
	for _, f := range sealedIn(r.t, r.path(events.CollectorPrefix(r.cfg.Capture, r.userID()))) {
		digests[f.Path] = f.SHA256
	}
	return digests
}

// same checks that segments are still what they were.
func (r *rig) same(confirmed map[string]string) {
	r.t.Helper()
	for path, digest := range confirmed {
		if got := r.digest(path); got != digest {
			r.t.Errorf("%s has changed", path)
		}
	}
}
