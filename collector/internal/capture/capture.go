// Package capture runs one capture, from bound sockets to the closing manifest.
package capture

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"

	"flashtap/collector/internal/ingest"
	"flashtap/collector/internal/lease"
	"flashtap/collector/internal/ship"
	"flashtap/collector/internal/spool"
	"flashtap/collector/segment"
	"flashtap/events"
)

// Config is everything that a capture needs.
type Config struct {
	Collector events.CollectorConfig
	Instance  string // its id
	Tool      string // name and version of the program
	Build     string // what the program was made from, and its digest
	Spool     *spool.Spool
	Store     *ship.Store
	Tags      Tags
	Log       *slog.Logger

	// Clock says how the machine's clock stands, also after Open.
	Clock func() (events.Clock, error)
	// Open begins to receive. It is called only when there is something to capture. What it remarks is said in the first
	// checkpoint.
	Open func(ctx context.Context) (*ingest.Opened, error)
}

// Tags are the tags of the collector's own instance.
type Tags interface {
	Tag(ctx context.Context, key string) (value string, found bool, err error)
}

// Result is how a capture ended.
type Result struct {
	Reason  string         // one of the events.Stop... values
	Waiting []spool.Object // not confirmed by the store; they stay in the spool
}

const (
	// parallelSegments is how many segments are on their way at once: one connection to S3 carries some 100 MB/s.
	parallelSegments = 4

	// tick is how often frames are brought into files at the least, and how exact the age of a segment is.
	tick = 200 * time.Millisecond

	// maxRemarks is how many remarks a manifest says; a disk that fails for hours makes more.
	maxRemarks = 50
)

// run is a capture on its way.
type run struct {
	cfg      Config
	log      *slog.Logger
	before   events.Tally // what processes before this one have counted
	resumed  bool
	segments *ship.Shipper
	reports  *ship.Shipper // checkpoints and the manifest, in order

	sink   *ingest.Sink // nil while and when nothing is captured
	opened *ingest.Opened

	reporting sync.Mutex    // one checkpoint at a time
	ends      time.Time     // when draining is over; zero as long as it has not begun
	clock     *events.Clock // how it stood at the end; nil before, and when nobody knows

	mu      sync.Mutex
	said    map[string]bool
	pending []string // to be said in the next checkpoint
	notes   []string // to be said in the manifest
}

// Run captures until the lease is over or ctx ends, drains, and says the last word. What a crash has left in the
// spool is shipped along. An error means that capturing itself failed; the capture is then drained all the same.
func Run(ctx context.Context, cfg Config) (Result, error) {
	r := &run{cfg: cfg, log: cfg.Log, said: map[string]bool{}}
	r.segments = ship.New(ship.Config{Parallel: parallelSegments, Rate: cfg.Collector.UploadRate}, cfg.Store, cfg.Spool, cfg.Log)
	r.reports = ship.New(ship.Config{Refused: r.manifestTaken}, cfg.Store, cfg.Spool, cfg.Log)
	stopSegments := background(ctx, r.segments.Run)
	stopReports := background(ctx, r.reports.Run)
	defer stopReports()
	defer stopSegments()

	resumed := cfg.Spool.Resumed()
	if resumed != nil {
		r.resumed, r.before = true, resumed.Tally
		r.log.Warn("spool found: a process before this one has worked on this capture", "waiting", len(cfg.Spool.Waiting()),
			"last", resumed.Last, "stopped", resumed.Stop)
		for _, text := range cfg.Spool.Remarks() {
			r.said[text] = true
			r.mention(text)
		}
	}
	for _, o := range cfg.Spool.Waiting() {
		r.ship(o)
	}
	if resumed != nil && cfg.Spool.Concluded() != "" {
		// The last word is said; only its way to the store was cut off.
		r.beginDrain()
		drain, cancel := context.WithDeadline(context.WithoutCancel(ctx), r.ends)
		defer cancel()
		r.settle(drain, r.segments)
		r.settle(drain, r.reports)
		return Result{Reason: events.StopRecovered, Waiting: cfg.Spool.Waiting()}, nil
	}
	defer r.close()
	if clock := r.askClock(); clock != nil {
		if err := cfg.Spool.Begin(*clock); err != nil {
			r.log.Error("note how the clock stands", "err", err)
		}
	}
	reason, failure := r.capture(ctx)
	r.beginDrain()
	if err := cfg.Spool.Stop(reason); err != nil {
		r.log.Error("note the end of capturing", "err", err)
	}
	r.log.Info("draining", "reason", reason, "waiting", len(cfg.Spool.Waiting()))
	r.drain(ctx, reason, failure, stopSegments)
	return Result{Reason: reason, Waiting: cfg.Spool.Waiting()}, failure
}

// background runs a part until the returned function is called, which waits for its end. It outlives ctx: draining
// begins when ctx ends.
func background(ctx context.Context, part func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		part(ctx) //nolint:errcheck // a shipper's end is told by what the spool still holds
	}()
	return func() {
		cancel()
		<-ended
	}
}

// capture takes frames until something ends it, and says what did. All segments are closed when it returns, but not
// all are sealed when the disk is slow or refuses: drain waits for those.
func (r *run) capture(ctx context.Context) (reason string, failure error) {
	c := r.cfg.Collector
	if r.resumed && r.cfg.Spool.Resumed().Stop != "" {
		return events.StopRecovered, nil
	}
	sources, err := parseSources(c.Sources)
	if err != nil {
		return events.StopFailed, err
	}
	writer := segment.NewWriter(segment.Config{
		Dir: r.cfg.Spool.SegmentDir(), First: r.cfg.Spool.NextSegment(), MaxBytes: c.SegmentBytes,
		MaxAge: time.Duration(c.SegmentSeconds) * time.Second, Sealed: r.sealed, Trouble: r.trouble,
	})
	sink := ingest.NewSink(ingest.SinkConfig{
		VNI: c.VNI, Sources: sources, MaxBytes: c.MaxBytes, Before: r.before, Writer: writer,
		Room: r.cfg.Spool.Room, RoomAgain: c.SpoolBytes / 4, Remark: r.remark,
	})
	lease := lease.New(lease.Config{
		Deadline: c.Deadline, Poll: time.Duration(c.PollSeconds) * time.Second, Exhausted: sink.Exhausted(),
	}, r.cfg.Tags, r.log)
	if reason, over := lease.Over(ctx); over {
		if r.resumed {
			reason = events.StopRecovered
		}
		return reason, nil
	}
	opened, err := r.cfg.Open(ctx)
	switch {
	case ctx.Err() != nil && err != nil:
		return events.StopSignal, nil
	case err != nil:
		return events.StopFailed, err
	}
	r.note("received by " + opened.How)
	for _, text := range opened.Remarks {
		r.note(text)
	}
	for _, text := range opened.Faults {
		r.remark(text)
	}
	r.mu.Lock()
	r.sink, r.opened = sink, opened
	r.mu.Unlock()
	r.checkpoint(events.CollectorCapturing)
	r.log.Info("capturing", "deadline", lease.Deadline())
	return r.receive(ctx, sink, writer, lease)
}

// receive is the part of capture during which the sockets are read.
func (r *run) receive(ctx context.Context, sink *ingest.Sink, writer *segment.Writer, lease *lease.Lease) (reason string, failure error) {
	ingestCtx, stopIngest := context.WithCancel(context.WithoutCancel(ctx))
	defer stopIngest()
	leaseCtx, endLease := context.WithCancel(ctx)
	defer endLease()
	sealCtx, stopSealing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopSealing()

	ingested, sealed := make(chan error, 1), make(chan error, 1)
	go func() {
		ingested <- ingest.Run(ingestCtx, r.opened.Receivers, sink)
		endLease() // when it has failed
	}()
	go func() { sealed <- writer.Run(sealCtx) }()
	stopTending := background(ctx, r.tend)
	stopRelieving := background(ctx, r.relieve)

	reason = lease.Wait(leaseCtx)
	r.beginDrain()
	stopIngest()
	if failure = <-ingested; failure != nil {
		reason = events.StopFailed
	}
	stopTending()
	stopRelieving()
	sink.Close()
	// The disk gets as long as uploads do: what is not sealed in time, a restart would find.
	impatience := time.AfterFunc(time.Until(r.segmentsEnd()), stopSealing)
	defer impatience.Stop()
	if err := <-sealed; err != nil {
		r.remark("not sealed, and so not shipped: " + err.Error())
	}
	if times, total := writer.Stalled(); times > 0 {
		r.note(fmt.Sprintf("receiving had to wait %d times for digest and disk, %s in all; what that cost is counted as dropped", times, total.Round(time.Millisecond)))
	}
	return reason, failure
}

// tend does what time asks for while frames come in: files grow old, checkpoints fall due.
func (r *run) tend(ctx context.Context) error {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	report := time.NewTicker(time.Duration(r.cfg.Collector.CheckpointSeconds) * time.Second)
	defer report.Stop()
	for {
		select {
		case now := <-ticker.C:
			r.sink.Tend(now)
		case <-report.C:
			r.checkpoint(events.CollectorCapturing)
		case <-ctx.Done():
			return nil
		}
	}
}

// relieve makes room on a disk that is nearly full, if the configuration wants that instead of a gap.
func (r *run) relieve(ctx context.Context) error {
	if r.cfg.Collector.SpoolPolicy != events.SpoolHeaders {
		return nil
	}
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			done, err := r.cfg.Spool.Relieve()
			for _, text := range done {
				r.mention(text)
			}
			if err != nil {
				r.trouble(err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// sealed takes in a segment that the writer has sealed, and sends it on its way.
func (r *run) sealed(f segment.File) {
	o, err := r.cfg.Spool.Add(f)
	if err != nil {
		r.log.Error("note a sealed segment", "segment", f.Seq, "err", err)
	}
	r.log.Info("sealed", "segment", f.Seq, "bytes", f.Bytes, "packets", f.Packets, "sha256", f.SHA256)
	r.ship(o)
}

func (r *run) ship(o spool.Object) {
	if o.Kind == spool.Segment {
		r.segments.Add(o)
	} else {
		r.reports.Add(o)
	}
}

// checkpoint reports progress. A checkpoint that could not be made is no reason to stop capturing; the next one
// comes soon.
func (r *run) checkpoint(state string) {
	r.reporting.Lock()
	defer r.reporting.Unlock()
	totals := r.cfg.Spool.Totals() // before the rest of the tally: see its comment
	tally, host := r.tally()
	tally = totals.Fill(tally)
	r.forged()
	r.mu.Lock()
	note := strings.Join(r.pending, "; ")
	r.pending = nil
	r.mu.Unlock()
	o, err := r.cfg.Spool.Checkpoint(spool.Progress{State: state, Tally: tally, Host: host, Note: note, Clock: r.clock})
	if err != nil {
		r.log.Error("make a checkpoint", "err", err)
	}
	if o.Key != "" {
		r.ship(o)
	}
}

// tally is what became of every datagram so far, without what the spool knows, and every counter of the host that says
// how packets were lost before they were received.
func (r *run) tally() (events.Tally, map[string]uint64) {
	r.mu.Lock()
	sink, opened := r.sink, r.opened
	r.mu.Unlock()
	if sink == nil {
		return r.before, nil
	}
	t := sink.Tally()
	dropped, err := opened.Dropped()
	if err != nil {
		r.remark("not every drop is known: " + err.Error())
	}
	t.RingDropped += dropped.Ring
	t.SocketDropped += dropped.Socket
	t.HostDropped += dropped.Host
	return t, dropped.Counters
}

// askClock says how the clock stands; nil: nobody knows.
func (r *run) askClock() *events.Clock {
	clock, err := r.cfg.Clock()
	if err != nil {
		r.note(err.Error())
		return nil
	}
	return &clock
}

// forged declares what makes the kernel merge frames by now.
func (r *run) forged() {
	r.mu.Lock()
	opened := r.opened
	r.mu.Unlock()
	if opened == nil {
		return
	}
	said, err := opened.Forged()
	for _, text := range said {
		r.remark(text)
	}
	if err != nil {
		r.remark(err.Error())
	}
}

// trouble is told when the disk refuses something.
func (r *run) trouble(err error) {
	r.remark("disk: " + err.Error())
}

// remark says something that whoever reads the evidence must know: in the log, the next checkpoint and the manifest.
func (r *run) remark(text string) {
	r.mu.Lock()
	known, count := r.said[text], len(r.said)
	r.said[text] = true
	r.mu.Unlock()
	if known || count > maxRemarks {
		return
	}
	if count == maxRemarks {
		text = "further remarks are left out here"
	}
	r.mention(text)
	if err := r.cfg.Spool.Remark(text); err != nil {
		r.log.Error("note a remark", "err", err)
	}
}

// note says something that a reader of the evidence may want to know, and that takes nothing away from it.
func (r *run) note(text string) {
	r.mention(text)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notes = append(r.notes, text)
}

// mention says something in the log and the next checkpoint.
func (r *run) mention(text string) {
	r.log.Warn(text)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending = append(r.pending, text)
}

// close gives the ports back, at the very end: as long as they are held, the machine answers no late datagram.
func (r *run) close() {
	if r.opened == nil {
		return
	}
	if err := r.opened.Close(); err != nil {
		r.log.Error("end receiving", "err", err)
	}
}

func parseSources(texts []string) ([]netip.Addr, error) {
	var addrs []netip.Addr
	for _, text := range texts {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("sources: %w", err)
		}
		addrs = append(addrs, addr.Unmap())
	}
	return addrs, nil
}
