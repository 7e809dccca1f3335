package capture

import (
	"context"
	"fmt"
	"strings"
	"time"

	"flashtap/collector/internal/ship"
	"flashtap/collector/internal/spool"
	"flashtap/events"
)

// drain brings the rest to the store and says the last word, all within DrainSeconds.
func (r *run) drain(ctx context.Context, reason string, failure error, stopSegments func()) {
	whole, cancel := context.WithDeadline(context.WithoutCancel(ctx), r.ends)
	defer cancel()
	forSegments, cancelSegments := context.WithDeadline(whole, r.segmentsEnd())
	defer cancelSegments()

	r.checkpoint(events.CollectorDraining)
	r.segments.Hurry()
	r.reports.Hurry()
	r.settle(forSegments, r.segments)
	stopSegments() // from here on nothing is confirmed any more that the manifest calls unconfirmed
	if left := waiting(r.cfg.Spool, spool.Segment); left > 0 {
		r.remark(fmt.Sprintf("%d segments are not confirmed by the store", left))
	}
	r.clock = r.askClock()
	r.checkpoint(events.CollectorClosed)
	r.conclude(reason, failure)
	r.reports.Hurry()
	r.settle(whole, r.reports)
}

// conclude writes the closing manifest.
func (r *run) conclude(reason string, failure error) {
	var faults []string
	if failure != nil {
		faults = append(faults, failure.Error())
	}
	faults = append(faults, r.cfg.Spool.Remarks()...)
	tally, host := r.tally()
	o, err := r.cfg.Spool.Conclude(events.CollectorManifest{
		InstanceID: r.cfg.Instance, Tool: r.cfg.Tool, Build: r.cfg.Build, StopReason: reason, Error: strings.Join(faults, "; "), Config: r.cfg.Collector,
		Tally: r.cfg.Spool.Totals().Fill(tally), Host: host, Notes: r.notes, Clock: &events.Clocks{End: r.clock},
	})
	if err != nil {
		r.log.Error("make the manifest", "err", err)
	}
	if o.Key != "" {
		r.ship(o)
	}
}

// manifestTaken is told when something has the manifest's key before this process has sent anything. When a process
// before this one may have sent the very same manifest, that is most likely what is there. This one may not read it,
// so it leaves a last checkpoint that says which digest to compare.
func (r *run) manifestTaken(o spool.Object) {
	text := fmt.Sprintf("manifest.json was there before this process sent it, and is left as it is; the one made here has SHA-256 %s", o.SHA256)
	if o.Tried {
		text += " and may have been sent by the process before"
		if err := r.cfg.Spool.Confirm(o); err != nil {
			r.log.Error("note a confirmation", "err", err)
		}
	}
	r.mention(text)
	r.checkpoint(events.CollectorClosed)
}

// beginDrain starts the clock of draining, once.
func (r *run) beginDrain() {
	if r.ends.IsZero() {
		r.ends = time.Now().Add(time.Duration(r.cfg.Collector.DrainSeconds) * time.Second)
	}
}

// segmentsEnd is when no more segments are sent, so that there is time for the last words.
func (r *run) segmentsEnd() time.Time {
	whole := time.Duration(r.cfg.Collector.DrainSeconds) * time.Second
	return r.ends.Add(-min(5*time.Second, whole/4))
}

func (r *run) settle(ctx context.Context, s *ship.Shipper) {
	if err := s.Settle(ctx); err != nil {
		r.log.Error("the time for uploads is over", "err", err)
	}
}

func waiting(s *spool.Spool, kind spool.Kind) int {
	n := 0
	for _, o := range s.Waiting() {
		if o.Kind == kind {
			n++
		}
	}
	return n
}
