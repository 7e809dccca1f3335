package ingest

import (
	"testing"
	"time"
)

// A nap is as long as the room allows, at the rate of before and at one that nobody has seen yet.
func TestNaps(t *testing.T) {
	const mib = 1 << 20
	tests := []struct {
		reason string
		room   int
		taken  int
		passed time.Duration
		want   time.Duration // about
	}{
		{"nothing came", 64 * mib, 0, time.Second, longest},
		{"little came", 64 * mib, mib, time.Second, longest},
		{"as much as at 10 Gbit/s", 64 * mib, 12_500_000, 10 * time.Millisecond, 6700 * time.Microsecond},
		{"a small ring, whatever came", 8 * mib, 0, time.Second, 2200 * time.Microsecond},
		{"a queue without privilege is never left alone", 400 << 10, 0, time.Second, 110 * time.Microsecond},
		{"more than there is room for", 64 * mib, 640 * mib, 16 * time.Millisecond, 200 * time.Microsecond},
	}
	for _, test := range tests {
		t.Run(test.reason, func(t *testing.T) {
			r, err := newRest(nil, test.room)
			if err != nil {
				t.Fatal(err)
			}
			defer r.close()
			r.took(test.taken)
			if got := r.nap(test.passed); got < test.want*9/10 || got > test.want*11/10 {
				t.Errorf("%v, want about %v", got, test.want)
			}
		})
	}
}
