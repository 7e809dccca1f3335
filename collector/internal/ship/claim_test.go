package ship

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"flashtap/collector/internal/spool"
	"flashtap/collector/segment"
	"flashtap/events"
	"flashtap/testutil/packets"
	"flashtap/testutil/s3"
)

// claims is a spool that answers every claim in one way.
type claims struct {
	notes
	claimed []string
	answer  func(spool.Object) (spool.Object, error)
}

func (c *claims) Claim(o spool.Object) (spool.Object, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.claimed = append(c.claimed, o.Key)
	return c.answer(o)
}

func TestWhatIsClaimedIsSent(t *testing.T) {
	cut := object(t, spool.Segment, 1, "headers")
	tests := []struct {
		reason string
		answer func(spool.Object) (spool.Object, error)
		stored string
	}{
		{"as it was queued", func(o spool.Object) (spool.Object, error) { return o, nil }, "frames"},
		{"as it has become meanwhile", func(spool.Object) (spool.Object, error) { return cut, nil }, "headers"},
		{"the disk refuses the note, and that is no reason not to send it", func(o spool.Object) (spool.Object, error) { return o, errors.New("disk full") }, "frames"},
		{"it is not held any more", func(spool.Object) (spool.Object, error) {
			return spool.Object{}, fmt.Errorf("claim: %w", spool.ErrNotHeld)
		}, ""},
	}
	for _, test := range tests {
		t.Run(test.reason, func(t *testing.T) {
			f := newFakeStore(t, answer{status: 503})
			c := &claims{answer: test.answer}
			s := New(Config{First: time.Millisecond, Longest: time.Millisecond}, store(t, f.URL), c, quiet)
			run(t, s)
			o := object(t, spool.Segment, 1, "frames")
			s.Add(o)
			settle(t, s)
			var stored []string
			for _, data := range f.objects {
				stored = append(stored, string(data))
			}
			if strings.Join(stored, " ") != test.stored || (len(c.confirmed) == 1) != (test.stored != "") {
				t.Errorf("stored %q, confirmed %v", stored, c.confirmed)
			}
			if !slices.Equal(c.claimed, []string{o.Key}) {
				t.Errorf("claimed %v; once, before the first attempt, is enough", c.claimed)
			}
		})
	}
}

// The store is away until the spool is nearly full and its oldest segments are cut. What the store has in the end is
// what the spool says of each segment, and nothing besides.
func TestSegmentsThatWereCutWhileTheyWaited(t *testing.T) {
	server, err := s3.Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	if err := server.CreateBucket(t.Context(), bucket); err != nil {
		t.Fatal(err)
	}
	server.Stop()
	const segments, limit = 20, 15 * 10_600
	held, err := spool.Open(t.TempDir(), "20261122T030405Z-eni-0a1b2c3d4e5f60718", "AROAEXAMPLEID:i-0a1b2c3d4e5f60718", limit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := held.Close(); err != nil {
			t.Error(err)
		}
	})
	s := New(Config{Parallel: 2, First: time.Millisecond, Longest: 20 * time.Millisecond}, store(t, server.Endpoint()), held, quiet)
	run(t, s)
	cut := 0
	for seq := range segments {
		o, err := held.Add(recorded(t, held.SegmentDir(), seq+1))
		if err != nil {
			t.Fatal(err)
		}
		s.Add(o)
		for seq == 1 && !tried(held, 2) {
			time.Sleep(time.Millisecond) // until both workers are at it
		}
		for { // until there is room enough, which on a slow disk takes several calls
			done, err := held.Relieve()
			if err != nil {
				t.Fatal(err)
			}
			if done == nil {
				break
			}
			cut += len(done)
		}
	}
	if cut < 5 || held.Room() < 0 {
		t.Errorf("%d segments were cut, room %d", cut, held.Room())
	}
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	settle(t, s)

	stored := map[string]string{}
	dir := server.BucketDir(bucket)
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		sum := sha256.Sum256(data)
		stored[strings.TrimPrefix(path, dir+"/")] = hex.EncodeToString(sum[:])
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	list := held.Segments()
	if len(list) != segments || len(stored) != segments || len(held.Waiting()) != 0 {
		t.Errorf("%d segments, %d objects in the store, %d wait", len(list), len(stored), len(held.Waiting()))
	}
	reduced := uint64(0)
	for i, seg := range list {
		if !seg.Confirmed || stored[seg.Key] != seg.SHA256 || seg.Packets != 10 {
			t.Errorf("segment %+v is stored with %q", seg, stored[seg.Key])
		}
		if i < 2 && seg.Reduced > 0 {
			t.Errorf("segment %d was cut while it was being sent", seg.Seq)
		}
		reduced += seg.Reduced
	}
	tally := held.Totals().Fill(events.Tally{})
	if tally.Reduced != reduced || reduced != uint64(10*cut) || tally.Uploaded != tally.Sealed || tally.UploadedBytes != tally.SealedBytes || tally.Sealed != 10*segments {
		t.Errorf("%d packets cut, tally %+v", reduced, tally)
	}
}

func tried(held *spool.Spool, n int) bool {
	for _, o := range held.Waiting() {
		if o.Tried {
			n--
		}
	}
	return n == 0
}

// recorded seals a segment of ten packets with a kilobyte each.
func recorded(t *testing.T, dir string, seq int) segment.File {
	t.Helper()
	from, to := packets.NewHost("10.0.0.1").On(40000), packets.NewHost("203.0.113.7").On(443)
	var file segment.File
	w := segment.NewWriter(segment.Config{
		Dir: dir, First: seq, MaxBytes: 1 << 20, MaxAge: time.Hour, Buffers: 2, Sealed: func(f segment.File) { file = f },
	})
	for range 10 {
		frame := packets.UDP(from, to, slices.Repeat([]byte{byte(seq)}, 1000))
		w.Write(time.Now().UnixNano(), frame, len(frame))
	}
	w.Close()
	if err := w.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	return file
}
