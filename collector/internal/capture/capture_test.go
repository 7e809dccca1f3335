package capture

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"flashtap/collector/internal/spool"
	"flashtap/events"
)

// The folder ../.. tests captures as a whole, with the real program.

func newRun(t *testing.T, drainSeconds int) *run {
	t.Helper()
	held, err := spool.Open(t.TempDir(), "20261122T030405Z-eni-0a1b2c3d4e5f60718", "AROAEXAMPLEID:i-0a1b2c3d4e5f60718", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { held.Close() })
	return &run{
		cfg: Config{Collector: events.CollectorConfig{DrainSeconds: drainSeconds}, Spool: held},
		log: slog.New(slog.DiscardHandler), said: map[string]bool{},
	}
}

func TestRemarksAreSaidOnceAndNotForEver(t *testing.T) {
	r := newRun(t, 1)
	for range 3 {
		for i := range 100 {
			r.remark(fmt.Sprint("trouble ", i))
		}
	}
	got := r.cfg.Spool.Remarks()
	if len(got) != maxRemarks+1 || got[0] != "trouble 0" || got[maxRemarks] != "further remarks are left out here" {
		t.Errorf("%d remarks: %q ... %q", len(got), got[0], got[len(got)-1])
	}
	if said := strings.Join(r.pending, "; "); strings.Count(said, "trouble 7;") != 1 {
		t.Errorf("the next checkpoint will say: %s", said)
	}
}

func TestLastWordsHaveTheirTime(t *testing.T) {
	for seconds, want := range map[int]time.Duration{1: 250 * time.Millisecond, 12: 3 * time.Second, 120: 5 * time.Second} {
		r := newRun(t, seconds)
		r.beginDrain()
		first := r.ends
		r.beginDrain() // the clock runs from the moment capturing ended
		if r.ends != first || r.ends.Sub(r.segmentsEnd()) != want {
			t.Errorf("of %d s, %v are left for the last words, want %v", seconds, r.ends.Sub(r.segmentsEnd()), want)
		}
	}
}

func TestSourcesAreCompared(t *testing.T) {
	got, err := parseSources([]string{"10.0.0.7", "::ffff:10.0.0.8", "2001:db8::7"})
	if err != nil || fmt.Sprint(got) != "[10.0.0.7 10.0.0.8 2001:db8::7]" {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := parseSources([]string{"suspect"}); err == nil {
		t.Error("took a name for an address")
	}
}
