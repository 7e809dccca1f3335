package segment

import (
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"flashtap/events"
)

// How far timestamps run backwards is told of a file the same by whoever has written, cut, inspected or recovered it.
func TestTimestampsThatRunBackwardsAreDeclared(t *testing.T) {
	const tolerance = events.OrderTolerance
	for reason, test := range map[string]struct {
		at   []time.Duration
		want time.Duration
	}{
		"in order":                            {[]time.Duration{0, 1, 1, time.Hour}, 0},
		"one packet":                          {[]time.Duration{0}, 0},
		"the tolerance":                       {[]time.Duration{0, time.Second, time.Second - tolerance, time.Hour}, 0},
		"a nanosecond more":                   {[]time.Duration{0, time.Second, time.Second - tolerance - 1, time.Hour}, tolerance + 1},
		"the farthest of several":             {[]time.Duration{time.Hour, 0, time.Minute, 1, time.Hour}, time.Hour},
		"in small steps":                      {[]time.Duration{3 * tolerance, 2 * tolerance, tolerance, 0}, 0},
		"the last one":                        {[]time.Duration{0, time.Hour, 0}, time.Hour},
		"a clock that was set back for years": {[]time.Duration{0, -20 * 365 * 24 * time.Hour}, events.MaxInteger},
	} {
		for _, every := range []int{0, 1, 2, 3} { // how many frames share a buffer
			s := start(t, Config{MaxBytes: 1 << 20, MaxAge: time.Hour})
			for i, at := range test.at {
				s.w.Write(base.Add(at).UnixNano(), testFrame(i, 200), 200)
				if every > 0 && i%every == every-1 {
					s.w.Flush()
				}
			}
			f := s.stop()[0]
			if got := time.Duration(f.BackwardsNs); got != test.want {
				t.Errorf("%s, %d to a buffer: %v, want %v", reason, every, got, test.want)
			}
			inspected, err := Inspect(f.Path)
			if err != nil || inspected != f {
				t.Errorf("%s: inspected as %+v, written as %+v, %v", reason, inspected, f, err)
			}
			cut, n, err := Reduce(f.Path)
			if err != nil || n == 0 || cut.BackwardsNs != f.BackwardsNs {
				t.Errorf("%s: cut to %+v, %v", reason, cut, err)
			}
			open := filepath.Join(filepath.Dir(f.Path), OpenName(1))
			if err := os.Rename(f.Path, open); err != nil {
				t.Fatal(err)
			}
			recovered, _, err := Recover(open)
			if recovered.Recovered = false; err != nil || recovered != f {
				t.Errorf("%s: recovered as %+v, written as %+v, %v", reason, recovered, f, err)
			}
		}
	}
}

// Of a buffer that the disk took in part, the timestamps of what it took count.
func TestTimestampsOfWhatTheDiskTook(t *testing.T) {
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	const before = 10_000
	s := start(t, Config{MaxBytes: 1 << 30, MaxAge: time.Hour})
	frame := testFrame(0, 200)
	for range before {
		s.w.Write(base.UnixNano(), frame, len(frame))
	}
	s.settle()
	lift := limitFileSize(t, fileHeaderLen+(before+2)*(recHeaderLen+200)+10)
	for _, at := range []time.Duration{time.Hour, time.Minute, 0} { // the third is lost
		s.w.Write(base.Add(at).UnixNano(), frame, len(frame))
	}
	s.settle()
	lift()
	files := s.stop()
	if len(files) != 1 || files[0].Packets != before+2 || time.Duration(files[0].BackwardsNs) != 59*time.Minute {
		t.Errorf("%+v", files)
	}
}
