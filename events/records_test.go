package events

import (
	"reflect"
	"testing"
)

func TestTally(t *testing.T) {
	for name, row := range map[string]struct {
		t        Tally
		balanced bool
		lost     uint64
	}{
		"nothing yet":                            {Tally{}, true, 0},
		"all written":                            {Tally{Received: 7, Written: 7}, true, 0},
		"every fate once":                        {Tally{Received: 8, Written: 1, Unwritten: 1, Rejected: Rejected{1, 1, 1, 1, 1, 1}}, true, 1},
		"one without a fate":                     {Tally{Received: 7, Written: 6}, false, 0},
		"one with two fates":                     {Tally{Received: 1, Written: 1, Unwritten: 1}, false, 1},
		"dropped before we received it":          {Tally{Received: 1, Written: 1, SocketDropped: 5}, true, 5},
		"dropped in the ring or before it":       {Tally{Received: 1, Written: 1, RingDropped: 5, HostDropped: 2}, true, 7},
		"rejected is not lost":                   {Tally{Received: 2, Rejected: Rejected{ForeignSource: 2}}, true, 0},
		"truncated is written all the same":      {Tally{Received: 1, Written: 1, Truncated: 1}, true, 0},
		"what is uploaded is no fate of its own": {Tally{Received: 1, Written: 1, Sealed: 1, Uploaded: 1}, true, 0},
	} {
		if row.t.Balanced() != row.balanced || row.t.Lost() != row.lost {
			t.Errorf("%s: balanced %t, lost %d; want %t, %d", name, row.t.Balanced(), row.t.Lost(), row.balanced, row.lost)
		}
	}
}

// TestEveryCauseIsRejected: a cause that is added to Rejected must be added to its total as well.
func TestEveryCauseIsRejected(t *testing.T) {
	var r Rejected
	v := reflect.ValueOf(&r).Elem()
	for i := range v.NumField() {
		v.Field(i).SetUint(1 << i)
	}
	if want := uint64(1)<<v.NumField() - 1; r.Total() != want {
		t.Errorf("total %b, want %b: a cause is left out", r.Total(), want)
	}
}
