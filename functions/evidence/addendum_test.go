package evidence

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"flashtap/events"
)

// abacus is a CloudWatch that says what it is told.
type abacus struct {
	says  events.SourceMetrics
	late  bool
	err   error
	asked []string
	from  time.Time
	to    time.Time
}

func (a *abacus) Mirrored(_ context.Context, instance string, from, to time.Time) (events.SourceMetrics, bool, error) {
	a.asked, a.from, a.to = append(a.asked, instance), from, to
	return a.says, a.late, a.err
}

func (r *remains) amend(counts Metrics, after time.Duration) bool {
	r.t.Helper()
	wrote, _, err := r.sealer.Amend(r.t.Context(), r.c, "sweep", counts, time.Now().Add(after))
	if err != nil {
		r.t.Fatal(err)
	}
	return wrote
}

// addendum reads the n-th and checks its place and its signature.
func (r *remains) addendum(n int) events.Addendum {
	r.t.Helper()
	list, err := r.s.addenda(r.t.Context(), r.c)
	if err != nil || len(list) < n {
		r.t.Fatalf("%d addenda, %v", len(list), err)
	}
	a := list[n-1]
	manifest, err := r.s.Read(r.t.Context(), events.ManifestKey(r.c))
	if err != nil {
		r.t.Fatal(err)
	}
	previous := ""
	if n > 1 {
		previous = Digest(list[n-2].body)
	}
	if a.Seq != n || a.Capture != r.c || a.By != "sweep" || a.ManifestSHA256 != Digest(manifest) || a.Previous != previous || a.Version != 1 {
		r.t.Errorf("addendum %d: %+v", n, a.Addendum)
	}
	if again, err := Canonical(a.Addendum); err != nil || !bytes.Equal(again, a.body) {
		r.t.Errorf("addendum %d is not canonical: %s", n, a.body)
	}
	signature, err := r.s.Read(r.t.Context(), events.AddendumSignatureKey(r.c, n))
	digest := sha256.Sum256(a.body)
	if err != nil || !ecdsa.VerifyASN1(&key.private.PublicKey, digest[:], signature) {
		r.t.Errorf("addendum %d is not signed: %v", n, err)
	}
	return a.Addendum
}

func TestAmend(t *testing.T) {
	r := orderly(t)
	r.plan.Start = minute(0)
	r.store().seal()
	counts := &abacus{says: events.SourceMetrics{From: minute(0), To: minute(5), PeriodSeconds: 300, Mirrored: 30}, late: true}
	if r.amend(counts, time.Minute) || len(counts.asked) > 0 {
		t.Error("CloudWatch is asked a minute after the capture was sealed")
	}
	if r.amend(counts, time.Hour) || len(counts.asked) != 1 {
		t.Error("an addendum is written although numbers may come")
	}
	if r.settled(counts, time.Hour) {
		t.Error("it is settled although numbers may come")
	}
	counts.late = false
	if !r.amend(counts, time.Hour) {
		t.Error("no addendum")
	}
	if !r.settled(counts, time.Hour) {
		t.Error("it is not settled")
	}
	a := r.addendum(1)
	if !reflect.DeepEqual(a.Metrics, &counts.says) || a.Verdict != "" || len(a.Reasons) > 0 || len(a.Objects) > 0 {
		t.Errorf("%+v", a)
	}
	if want := []events.Stage{{Place: "source", Name: "mirrored", Packets: 30, Fate: "kept"}, {Place: "source", Name: "skipped", Fate: "at-most-lost"}}; !reflect.DeepEqual(a.Stages, want) {
		t.Errorf("stages %+v", a.Stages)
	}
	asked := len(counts.asked)
	if counts.asked[0] != "i-00000007" || counts.from != minute(0) || counts.to != minute(3) {
		t.Errorf("asked about %s from %s to %s", counts.asked[0], counts.from, counts.to)
	}
	if r.amend(counts, 2*time.Hour) || len(counts.asked) != asked {
		t.Error("it is amended again with nothing to add")
	}

	// What comes now is in the next.
	r.put(events.CertificateKey(r.c, 3), []byte(`{"seq":3}`))
	if !r.amend(counts, 5*time.Hour) || len(counts.asked) != asked {
		t.Error("a late certificate is not added, or CloudWatch was asked again")
	}
	if a := r.addendum(2); len(a.Objects) != 1 || a.Objects[0].Key != events.CertificateKey(r.c, 3) || a.Objects[0].SHA256 != Digest([]byte(`{"seq":3}`)) || a.Metrics != nil {
		t.Errorf("%+v", a)
	}
	consistent(t, r.s, r.c, events.CertificateKey(r.c, 3))
}

func TestAmendOfLoss(t *testing.T) {
	for name, row := range map[string]struct {
		says    events.SourceMetrics
		late    bool
		verdict string
		skipped events.Stage
	}{
		"the source skipped": {events.SourceMetrics{Skipped: 7}, false, events.VerdictIncomplete, events.Stage{Place: "source", Name: "skipped", Packets: 7, Fate: "at-most-lost"}},
		"it skipped, as far as is known": {events.SourceMetrics{Skipped: 7, Missing: []string{"NetworkPacketsSkipMirrorIn"}}, true, events.VerdictIncomplete,
			events.Stage{Place: "source", Name: "skipped", Packets: 7, Fate: "at-most-lost"}},
		"no numbers, hours later": {events.SourceMetrics{Missing: []string{"NetworkPacketsSkipMirrorIn"}}, true, "", events.Stage{Place: "source", Name: "skipped", Fate: "unknown"}},
	} {
		r := orderly(t).store()
		r.seal()
		if !r.amend(&abacus{says: row.says, late: row.late}, 4*time.Hour) {
			t.Errorf("%s: no addendum", name)
			continue
		}
		a := r.addendum(1)
		if a.Verdict != row.verdict || len(a.Stages) != 2 || a.Stages[1] != row.skipped {
			t.Errorf("%s: %+v", name, a)
		}
		if (row.verdict != "") != (len(a.Reasons) == 1) || row.verdict != "" && !strings.Contains(a.Reasons[0], "at most 7 packets") {
			t.Errorf("%s: reasons %q", name, a.Reasons)
		}
	}
}

// TestAmendAgain: an addendum with objects keeps neither the counts nor later objects from being added, and a CloudWatch that
// does not answer keeps no object.
func TestAmendAgain(t *testing.T) {
	r := orderly(t).store()
	r.seal()
	counts := &abacus{says: events.SourceMetrics{Mirrored: 30}}
	for n := 1; n <= 2; n++ {
		r.put(events.CertificateKey(r.c, n+2), fmt.Appendf(nil, `{"seq":%d}`, n+2))
		if !r.amend(counts, time.Minute) {
			t.Fatal("a late certificate waits")
		}
		if a := r.addendum(n); a.Metrics != nil || len(a.Objects) != 1 || a.Objects[0].Key != events.CertificateKey(r.c, n+2) {
			t.Errorf("%+v", a)
		}
		if r.settled(counts, time.Minute) {
			t.Error("it is settled without CloudWatch's counts")
		}
	}
	r.put(events.CertificateKey(r.c, 5), []byte(`{"seq":5}`))
	if wrote, _, err := r.sealer.Amend(t.Context(), r.c, "sweep", &abacus{err: errDied}, time.Now().Add(time.Hour)); !wrote || !errors.Is(err, errDied) {
		t.Errorf("%t, %v", wrote, err)
	}
	if !r.amend(counts, time.Hour) || r.addendum(4).Metrics == nil || !r.settled(counts, time.Hour) {
		t.Error("the counts are not added")
	}
}

func (r *remains) settled(counts Metrics, after time.Duration) bool {
	r.t.Helper()
	wrote, settled, err := r.sealer.Amend(r.t.Context(), r.c, "sweep", counts, time.Now().Add(after))
	if wrote || err != nil {
		r.t.Errorf("wrote %t, %v", wrote, err)
	}
	return settled
}

// TestAmendWithoutKMS: no addendum lies there unsigned while KMS does not sign.
func TestAmendWithoutKMS(t *testing.T) {
	r := orderly(t).store()
	r.seal()
	r.put(events.CertificateKey(r.c, 3), []byte(`{"seq":3}`))
	broken := *key
	broken.fails = func(string) error { return errDied }
	r.sealer.Signer = &broken
	if wrote, _, err := r.sealer.Amend(t.Context(), r.c, "sweep", nil, time.Now()); wrote || !errors.Is(err, errDied) {
		t.Errorf("%t, %v", wrote, err)
	}
	if there, err := r.s.Exists(t.Context(), events.AddendumKey(r.c, 1)); there || err != nil {
		t.Errorf("an addendum is there: %t, %v", there, err)
	}
}

// TestAmendInterrupted: an addendum whose signature did not come is signed by the next look, as it is.
func TestAmendInterrupted(t *testing.T) {
	r := orderly(t).store()
	r.seal()
	r.put(events.CertificateKey(r.c, 3), []byte(`{"seq":3}`))
	left := &atomic.Int64{}
	left.Store(2)
	dying := Sealer{Store: Store{API: mortal{client(), left, false}, Bucket: bucket}, Signer: key}
	wrote, _, err := dying.Amend(t.Context(), r.c, "sweep", nil, time.Now())
	if !wrote || !errors.Is(err, errDied) {
		t.Fatalf("%t, %v", wrote, err)
	}
	if r.settled(nil, 0) { // it is signed now
		t.Error("it is settled")
	}
	if r.amend(nil, 0) {
		t.Error("it is written again")
	}
	r.addendum(1)
}

// TestAmendWithoutKey: an unsigned manifest gets unsigned addenda.
func TestAmendWithoutKey(t *testing.T) {
	r := orderly(t).store()
	r.sealer.Signer = nil
	r.seal()
	if !r.amend(&abacus{}, time.Hour) {
		t.Error("no addendum")
	}
	if !r.settled(&abacus{}, time.Hour) {
		t.Error("it is not settled")
	}
	if there, err := r.s.Exists(t.Context(), events.AddendumSignatureKey(r.c, 1)); there || err != nil {
		t.Errorf("signed: %t, %v", there, err)
	}
}

func TestEnded(t *testing.T) {
	plan := events.Plan{Start: minute(0), Deadline: minute(20)}
	said := func(end int, derived bool) events.CollectorManifest {
		return events.CollectorManifest{Ended: minute(end), Derived: derived}
	}
	for name, row := range map[string]struct {
		collectors []events.CollectorManifest
		sealed     int
		want       int
	}{
		"the last collector's end":                    {[]events.CollectorManifest{said(5, false), said(9, false)}, 12, 9},
		"one did not say":                             {[]events.CollectorManifest{said(5, true), said(9, false)}, 12, 12},
		"one did not say, and it was sealed later":    {[]events.CollectorManifest{said(5, true)}, 50, 20},
		"it says that it ended after it was sealed":   {[]events.CollectorManifest{said(40, false)}, 12, 12},
		"it says that it ended before it was started": {[]events.CollectorManifest{said(-4, false)}, 12, 0},
		"there was none":                              {nil, 12, 12},
	} {
		if got := ended(events.Manifest{SealedAt: minute(row.sealed), Collectors: row.collectors}, plan); !got.Equal(minute(row.want)) {
			t.Errorf("%s: %s", name, got)
		}
	}
}
