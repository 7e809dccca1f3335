package main

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"flashtap/events"
	"flashtap/testutil/s3"
)

func TestStoreGoesAwayAtTheStartInTheMiddleAndAtTheEnd(t *testing.T) {
	t.Parallel()
	server, err := s3.Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	r := newRig(t, server, func(c *events.CollectorConfig) { c.SegmentBytes, c.SegmentSeconds = 1<<16, 1 })
	sent := numbered(0, 400, 1000)
	back := func() {
		t.Helper()
		if err := server.Restart(); err != nil {
			t.Fatal(err)
		}
	}

	server.Stop()
	r.start()
	r.awaitListening()
	r.send(sent[:100]...)
	time.Sleep(1500 * time.Millisecond)
	back()
	r.await("what was captured while there was no store", func() bool { return r.last().Tally.Uploaded >= 64 })

	server.Stop()
	r.send(sent[100:300]...)
	time.Sleep(1500 * time.Millisecond)
	back()
	r.send(sent[300:350]...)
	r.await("the rest", func() bool { return r.last().Tally.Uploaded >= 300 })

	server.Stop()
	r.send(sent[350:]...)
	r.signal(syscall.SIGTERM)
	time.Sleep(1500 * time.Millisecond)
	back()
	r.end(exitConfirmed)
	r.complete(events.StopSignal, sent...)
}

// Whatever the store answers for a while, and whatever gets lost on the way: everything arrives once.
func TestEveryKindOfObjectArrivesInSpiteOf(t *testing.T) {
	t.Parallel()
	tests := []struct {
		reason string
		decide func(r *http.Request, nth int) fault
	}{
		{"a store that asks to slow down", func(_ *http.Request, nth int) fault {
			if nth < 2 {
				return fault{status: 503}
			}
			return fault{}
		}},
		{"a role that may not write yet", func(_ *http.Request, nth int) fault {
			if nth < 1 {
				return fault{status: 403}
			}
			return fault{}
		}},
		{"answers that are lost after the object was stored", func(_ *http.Request, nth int) fault { return fault{lost: nth < 1} }},
		{"another request for the same key on its way", func(_ *http.Request, nth int) fault {
			if nth < 1 {
				return fault{status: 409}
			}
			return fault{}
		}},
	}
	for _, test := range tests {
		t.Run(test.reason, func(t *testing.T) {
			t.Parallel()
			f := newFaults(t, shared, test.decide)
			r := newRig(t, shared, func(c *events.CollectorConfig) { c.SegmentBytes, c.S3Endpoint = 1<<16, f.URL })
			r.ready()
			sent := numbered(0, 200, 1000)
			r.send(sent...)
			r.stop(exitConfirmed)
			r.complete(events.StopSignal, sent...)
			f.mu.Lock()
			defer f.mu.Unlock()
			for key, n := range f.seen {
				if n < 2 {
					t.Errorf("%s was spoiled by nothing", key)
				}
			}
		})
	}
}

// When the time for uploads is over, the collector says so and ends; what it holds is still there for another run.
func TestUnconfirmedRemainsInTheSpool(t *testing.T) {
	t.Parallel()
	f := newFaults(t, shared, healthy)
	r := newRig(t, shared, func(c *events.CollectorConfig) { c.SegmentBytes, c.S3Endpoint, c.DrainSeconds = 1<<16, f.URL, 3 })
	r.ready()
	f.change(always(403))
	sent := numbered(0, 200, 1000)
	r.send(sent...)
	began := time.Now()
	r.stop(exitUnconfirmed)
	if took := time.Since(began); took > 6*time.Second {
		t.Errorf("draining took %v of 3 s", took)
	}
	if log := r.logText(); !strings.Contains(log, "store refuses") || !strings.Contains(log, "403") {
		t.Errorf("the log does not say that the store refuses")
	}
	segments := 0
	for _, name := range r.spoolFiles() {
		if strings.HasPrefix(name, "segments/") {
			segments++
		}
	}
	if segments != 4 {
		t.Errorf("%d segments in the spool, want 4: %v", segments, r.spoolFiles())
	}

	f.change(healthy)
	r.start()
	r.end(exitConfirmed)
	e := r.manifestless() // the manifest was written when nothing was confirmed, and says so
	if len(e.packets) != 0 || e.manifest.StopReason != events.StopSignal || !strings.Contains(e.manifest.Error, "4 segments are not confirmed") {
		t.Errorf("manifest: %q, %q", e.manifest.StopReason, e.manifest.Error)
	}
	for _, seg := range e.manifest.Segments {
		if got := r.digest(r.path(seg.Key)); got != seg.SHA256 {
			t.Errorf("segment %d did not arrive", seg.Seq)
		}
	}
	if left := r.spoolFiles(); len(left) != 0 {
		t.Errorf("left in the spool: %v", left)
	}
	r.start() // a third run finds nothing to do
	r.end(exitConfirmed)
}

// manifestless reads the manifest without comparing it with what came after it.
func (r *rig) manifestless() (e evidence) {
	r.t.Helper()
	r.readJSON(r.path(events.CollectorManifestKey(r.cfg.Capture, r.userID())), &e.manifest)
	return e
}

// A manifest that is there already is not written over, and the last checkpoint says so.
func TestManifestOfSomebodyElse(t *testing.T) {
	t.Parallel()
	r := newRig(t, shared, nil)
	key := events.CollectorManifestKey(r.cfg.Capture, r.userID())
	if _, err := shared.Client().PutObject(t.Context(), &awss3.PutObjectInput{
		Bucket: aws.String(r.bucket), Key: aws.String(key), Body: bytes.NewReader([]byte("{}")),
	}); err != nil {
		t.Fatal(err)
	}
	r.ready()
	r.stop(exitUnconfirmed)
	if got, err := os.ReadFile(r.path(key)); err != nil || string(got) != "{}" {
		t.Errorf("the manifest is now %q, %v", got, err)
	}
	ours := r.digest(filepath.Join(r.spool, "manifest.json"))
	if c := r.last(); c.State != events.CollectorClosed || !strings.Contains(c.Note, "manifest.json was there") || !strings.Contains(c.Note, ours) {
		t.Errorf("the last checkpoint says %q", c.Note)
	}
}

// The process dies after its manifest was stored and before it knew. The next one cannot read what is there; it says
// which digest to compare, and ends well.
func TestCrashBeforeTheManifestIsConfirmed(t *testing.T) {
	t.Parallel()
	r := newRig(t, shared, nil)
	var stored atomic.Bool
	f := newFaults(t, shared, func(req *http.Request, nth int) fault {
		if !strings.HasSuffix(req.URL.Path, "/manifest.json") {
			return fault{}
		}
		if nth == 0 {
			return fault{lost: true}
		}
		stored.Store(true)
		return fault{status: 503}
	})
	r.cfg.S3Endpoint = f.URL
	r.ready()
	sent := numbered(0, 10, 200)
	r.send(sent...)
	r.signal(syscall.SIGTERM)
	r.await("the manifest", stored.Load)
	r.signal(syscall.SIGKILL)
	<-r.ended
	f.change(healthy)
	r.start()
	r.end(exitConfirmed)
	e := r.complete(events.StopSignal, sent...)
	manifest := r.digest(r.path(events.CollectorManifestKey(r.cfg.Capture, r.userID())))
	if c := e.checkpoints[len(e.checkpoints)-1]; !strings.Contains(c.Note, manifest) || c.Seq != e.manifest.Checkpoints+1 || c.Tally != e.manifest.Tally {
		t.Errorf("the last checkpoint is %+v", c)
	}
}

func TestFullSpoolIsDeclared(t *testing.T) {
	t.Parallel()
	f := newFaults(t, shared, healthy)
	r := newRig(t, shared, func(c *events.CollectorConfig) { c.SegmentBytes, c.SpoolBytes, c.S3Endpoint = 1<<16, 200_000, f.URL })
	r.ready()
	f.change(always(503))
	sent := numbered(0, 400, 1000)
	r.send(sent[:300]...)
	r.await("the note of the gap", func() bool { return strings.Contains(r.logText(), "spool full") })
	f.change(healthy)
	r.await("room", func() bool {
		c := r.last()
		return c.Tally.Received == 300 && c.Pending == 0 && strings.Contains(r.logText(), "spool has room again")
	})
	gap := int(r.last().Tally.Unwritten)
	for frames := sent[300:]; len(frames) > 0; frames = frames[50:] {
		r.send(frames[:50]...)
		r.await("the store", func() bool { return int(r.last().Tally.Received) == 400-len(frames)+50 })
	}
	r.stop(exitConfirmed)
	e := r.evidence()
	m := e.manifest
	// Each of 300 frames takes 1016 bytes of the 200 000; some that come later may find room, if the store is quick.
	if m.Tally.Received != 400 || int(m.Tally.Unwritten) != gap || gap < 1 || gap > 104 || m.Tally.Uploaded != m.Tally.Written {
		t.Errorf("tally %+v with a gap of %d frames; want one of 100, give or take, and none after it", m.Tally, gap)
	}
	next := 0
	for i, p := range e.packets { // what is there came in this order, and is whole
		for next < len(sent) && !bytes.Equal(p.Data, sent[next]) {
			next++
		}
		if next == len(sent) {
			t.Fatalf("packet %d was not sent, or not in this order", i)
		}
		next++
	}
	if !strings.Contains(m.Error, "spool full") || !strings.Contains(m.Error, "genuine frames were not written between") {
		t.Errorf("the manifest does not declare the gap: %q", m.Error)
	}
	declared := false
	for _, c := range e.checkpoints {
		declared = declared || strings.Contains(c.Note, "spool full")
	}
	if !declared {
		t.Error("no checkpoint declares the gap")
	}
}

// A killed collector loses nothing that was on disk: its successor ships that, goes on, and says what is not known.
func TestKillAndRestart(t *testing.T) {
	t.Parallel()
	f := newFaults(t, shared, healthy)
	r := newRig(t, shared, func(c *events.CollectorConfig) { c.SegmentBytes, c.S3Endpoint = 1<<16, f.URL })
	r.ready()
	sent := numbered(0, 300, 1000)
	r.send(sent[:100]...) // one segment sealed and confirmed, the next one open
	r.sendFrom("127.10.0.8", vni, sent[:7]...)
	r.await("a confirmed segment", func() bool { c := r.last(); return c.Tally.Uploaded == 64 && c.Tally.Received == 107 })
	f.change(always(503))
	r.send(sent[100:200]...)   // two sealed but not confirmed, and 8 frames in the open one
	r.sizeOfOpen(4, 24+8*1016) // brought to disk by time alone
	r.signal(syscall.SIGKILL)
	<-r.ended
	open := filepath.Join(r.spool, "segments", ".000004.pcap.open")
	half, err := os.OpenFile(open, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := half.Write([]byte("half a record")); err != nil {
		t.Fatal(err)
	}
	if err := half.Close(); err != nil {
		t.Fatal(err)
	}

	f.change(healthy)
	r.ready()
	r.send(sent[200:]...)
	r.stop(exitConfirmed)
	e := r.complete(events.StopSignal, sent...)
	m := e.manifest
	if m.Tally.Rejected.ForeignSource != 7 || m.Tally.Received != 307 {
		t.Errorf("tally %+v: what was counted before the crash is forgotten", m.Tally)
	}
	for _, seg := range m.Segments {
		if seg.Recovered != (seg.Seq == 4) {
			t.Errorf("segment %d recovered: %t", seg.Seq, seg.Recovered)
		}
	}
	for _, part := range []string{"crash: the collector ended without a word", "segment 4: the last 13 bytes were no whole record"} {
		if !strings.Contains(m.Error, part) {
			t.Errorf("the manifest does not say %q: %q", part, m.Error)
		}
	}
}

func TestRestartAfterTheDeadlineOnlyShips(t *testing.T) {
	t.Parallel()
	f := newFaults(t, shared, healthy)
	r := newRig(t, shared, func(c *events.CollectorConfig) {
		c.S3Endpoint, c.Deadline = f.URL, time.Now().Add(6*time.Second).UTC()
	})
	r.ready()
	sent := numbered(0, 50, 1000)
	r.send(sent...)
	r.sizeOfOpen(1, 24+50*1016)
	r.signal(syscall.SIGKILL)
	<-r.ended
	time.Sleep(time.Until(r.cfg.Deadline))
	checkpoints := len(r.checkpointFiles())
	r.start()
	r.end(exitConfirmed)
	e := r.complete(events.StopRecovered, sent...)
	for _, c := range e.checkpoints[checkpoints:] {
		if c.State == events.CollectorCapturing && c.At.After(r.cfg.Deadline) {
			t.Errorf("checkpoint %d says that it captures after the deadline", c.Seq)
		}
	}
}

// sizeOfOpen waits until an open segment has that many bytes.
func (r *rig) sizeOfOpen(seq int, size int64) {
	r.t.Helper()
	r.await("frames in the open segment", func() bool {
		files, err := filepath.Glob(filepath.Join(r.spool, "segments", ".*.open"))
		if err != nil || len(files) != 1 || !strings.Contains(files[0], "."+strings.Repeat("0", 5)+string(rune('0'+seq))+".") {
			return false
		}
		info, err := os.Stat(files[0])
		return err == nil && info.Size() == size
	})
}

func TestSpoolOfAnotherCaptureIsRefused(t *testing.T) {
	t.Parallel()
	first := newRig(t, shared, nil)
	first.ready()
	first.stop(exitConfirmed)
	second := newRig(t, shared, nil)
	second.spool = first.spool
	second.start()
	second.end(exitFailed)
	if log := second.logText(); !strings.Contains(log, string(first.cfg.Capture)) {
		t.Error("the log does not say whose spool it is")
	}
}
