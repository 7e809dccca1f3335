// Package standalone captures into a folder, without AWS: for whoever has a mirror session already.
package standalone

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"flashtap/collector/internal/ingest"
	"flashtap/collector/segment"
	"flashtap/events"
)

// ManifestName is the file that says what a capture holds, and what became of every datagram.
const ManifestName = "manifest.json"

// Config is everything that a capture needs.
type Config struct {
	Dir       string // made when it is not there
	Tool      string // name and version of the program
	Interface string

	VNI     uint32 // with AnyVNI false: the only one that is admitted
	AnyVNI  bool
	Sources []netip.Addr // outer sources that are admitted; none: all

	SegmentBytes int64
	SegmentAge   time.Duration
	ReserveBytes int64 // disk space that is reserved before capturing begins
	MaxBytes     int64 // bytes of frames after which the capture is over; 0: no limit
	FreeBytes    int64 // of the disk, which are left to others
	Digest       bool  // SHA-256 of every segment

	// Open begins to receive. It is called when all else is ready, and says how it receives.
	Open func(context.Context) (*ingest.Opened, error)
	// Ready is called once everything that arrives is captured.
	Ready func()
	Log   *slog.Logger
}

// Manifest is what a capture says of itself when it ends.
type Manifest struct {
	Version    int          `json:"version"`
	Tool       string       `json:"tool"`
	Interface  string       `json:"interface"`
	Receiver   string       `json:"receiver"`      // how packets were received, in words
	VNI        *uint32      `json:"vni,omitempty"` // the only one admitted; absent: all were
	Sources    []netip.Addr `json:"sources,omitempty"`
	Started    time.Time    `json:"started"`
	Ended      time.Time    `json:"ended"`
	StopReason string       `json:"stopReason"`
	Complete   bool         `json:"complete"` // nothing that arrived is known to be missing, and there are no faults
	Tally      events.Tally `json:"tally"`

	// Host is every counter that says how packets were lost before a receiver saw them, and that has moved.
	Host     map[string]uint64 `json:"host,omitempty"`
	Segments []events.Segment  `json:"segments"`
	Faults   []string          `json:"faults,omitempty"` // what makes it incomplete or doubtful besides the tally
	Remarks  []string          `json:"remarks,omitempty"`
}

// reserveShare is which part of the free disk may be reserved ahead: what others need soon stays theirs.
const reserveShare = 8

// tick is how often frames are brought into files at the least, and how exact the age of a segment is.
const tick = 200 * time.Millisecond

// progressEvery is how often the log says how far a capture is.
const progressEvery = 10 * time.Second

// maxRemarks is how many remarks a manifest says; a disk that fails for hours makes more.
const maxRemarks = 50

type run struct {
	cfg  Config
	mu   sync.Mutex
	man  Manifest
	said map[string]bool
}

// Run captures until ctx or MaxBytes end it, and writes the manifest. An error means that capturing failed; what was
// captured before is sealed all the same.
func Run(ctx context.Context, cfg Config) (Manifest, error) {
	r := &run{cfg: cfg, said: map[string]bool{}}
	r.man = Manifest{Version: events.RecordVersion, Tool: cfg.Tool, Interface: cfg.Interface, Sources: cfg.Sources, Segments: []events.Segment{}}
	if !cfg.AnyVNI {
		r.man.VNI = &cfg.VNI
	}
	first, err := r.enter()
	if err != nil {
		return r.man, err
	}
	space := &space{dir: cfg.Dir, keep: cfg.FreeBytes}
	if err := space.look(); err != nil {
		return r.man, err
	}
	reserve := min(cfg.ReserveBytes, max(space.free/reserveShare, 0))
	writer := segment.NewWriter(segment.Config{
		Dir: cfg.Dir, First: first, MaxBytes: cfg.SegmentBytes, MaxAge: cfg.SegmentAge, NoDigest: !cfg.Digest,
		Reserve: reserve, Evict: true, Sealed: r.sealed, Trouble: func(err error) { r.fault("disk: " + err.Error()) },
	})
	space.writer = writer
	if err := writer.Prepare(ctx); err != nil {
		r.remark("disk space is not reserved: " + err.Error())
	}
	sink := ingest.NewSink(ingest.SinkConfig{
		VNI: cfg.VNI, AnyVNI: cfg.AnyVNI, Sources: cfg.Sources, MaxBytes: cfg.MaxBytes, Writer: writer,
		Room: space.room, RoomAgain: 1 << 20, Place: "disk", Remark: r.remark,
	})
	return r.capture(ctx, writer, sink, space)
}

// enter makes the folder, brings what a crash has left there into order, and says which segment is the next.
func (r *run) enter() (next int, err error) {
	if err := os.MkdirAll(r.cfg.Dir, 0o700); err != nil {
		return 0, fmt.Errorf("make the folder of the capture: %w", err)
	}
	manifest := filepath.Join(r.cfg.Dir, ManifestName)
	if _, err := os.Lstat(manifest); !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("%s is there: this folder holds a finished capture; name another with --dir", manifest)
	}
	if err := segment.RemoveSpares(r.cfg.Dir); err != nil {
		return 0, err
	}
	entries, err := os.ReadDir(r.cfg.Dir)
	if err != nil {
		return 0, fmt.Errorf("read the folder of the capture: %w", err)
	}
	var before []int
	for _, e := range entries {
		path := filepath.Join(r.cfg.Dir, e.Name())
		seq := segment.Number(path)
		if seq == 0 {
			continue
		}
		if e.Name() != segment.OpenName(seq) {
			before = append(before, seq)
			next = max(next, seq)
			continue
		}
		f, cut, err := segment.Recover(path)
		switch {
		case errors.Is(err, segment.ErrEmpty):
			r.fault(fmt.Sprintf("segment %d was open when a crash came, and held no whole packet: its number is given again", seq))
			continue
		case err != nil:
			return 0, err
		}
		next = max(next, seq)
		r.fault(fmt.Sprintf("segment %d is what a crash had left of it: %d packets; %d bytes behind them were cut off; it is not in the tally", seq, f.Packets, cut))
	}
	if len(before) > 0 {
		r.remark(fmt.Sprintf("segments %s were there before this capture began; they are not in its tally", spans(before)))
	}
	return next + 1, nil
}

// spans writes numbers as a person does: 1 to 7, 9.
func spans(numbers []int) string {
	slices.Sort(numbers)
	var parts []string
	for len(numbers) > 0 {
		n := 1
		for n < len(numbers) && numbers[n] == numbers[0]+n {
			n++
		}
		part := strconv.Itoa(numbers[0])
		if n > 1 {
			part += fmt.Sprintf(" to %d", numbers[n-1])
		}
		parts, numbers = append(parts, part), numbers[n:]
	}
	return strings.Join(parts, ", ")
}

func (r *run) capture(ctx context.Context, writer *segment.Writer, sink *ingest.Sink, space *space) (Manifest, error) {
	opened, err := r.cfg.Open(ctx)
	if err != nil {
		sink.Close()
		return r.man, errors.Join(err, writer.Run(ctx))
	}
	for _, text := range opened.Remarks {
		r.remark(text)
	}
	for _, text := range opened.Faults {
		r.fault(text)
	}
	r.man.Receiver, r.man.Started = opened.How, time.Now().UTC()
	r.cfg.Log.Info("capturing", "interface", r.cfg.Interface, "receiver", opened.How, "dir", r.cfg.Dir)

	sealed := make(chan error, 1)
	sealing, stopSealing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopSealing()
	go func() { sealed <- writer.Run(sealing) }()

	whole, end := context.WithCancel(ctx)
	defer end()
	var group sync.WaitGroup
	group.Go(func() {
		defer end()
		r.tend(whole, sink, space, opened)
	})
	r.cfg.Ready()
	failure := ingest.Run(whole, opened.Receivers, sink)
	end()
	group.Wait()
	sink.Close()
	impatience := time.AfterFunc(time.Minute, stopSealing)
	defer impatience.Stop()
	if err := <-sealed; err != nil {
		failure = errors.Join(failure, fmt.Errorf("seal the last segments: %w", err))
	}
	r.man.StopReason = events.StopSignal
	select {
	case <-sink.Exhausted():
		r.man.StopReason = events.StopByteCap
	default:
	}
	if times, total := writer.Stalled(); times > 0 {
		r.remark(fmt.Sprintf("receiving had to wait %d times for digest and disk, %s in all; what that cost is counted as dropped", times, total.Round(time.Millisecond)))
	}
	if failure != nil {
		r.man.StopReason = events.StopFailed
		r.fault(failure.Error())
	}
	if err := r.account(sink, opened); err != nil {
		failure = errors.Join(failure, err)
	}
	failure = errors.Join(failure, r.conclude())
	// At the very end: until then, the machine answers no late datagram.
	if err := opened.Close(); err != nil {
		r.cfg.Log.Warn("end receiving", "err", err)
	}
	return r.man, failure
}

// tend does what time asks for, and returns when the capture is over.
func (r *run) tend(ctx context.Context, sink *ingest.Sink, space *space, opened *ingest.Opened) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	progress := time.NewTicker(progressEvery)
	defer progress.Stop()
	for {
		select {
		case now := <-ticker.C:
			if err := space.look(); err != nil {
				r.remark(err.Error())
			}
			sink.Tend(now)
		case <-progress.C:
			t := sink.Tally()
			dropped, err := opened.Dropped()
			if err != nil {
				r.fault("drops are not known: " + err.Error())
			}
			r.forged(opened)
			r.cfg.Log.Info("captured", "frames", t.Written, "bytes", t.WrittenBytes, "rejected", t.Rejected.Total(), "unwritten", t.Unwritten, "dropped", dropped.Ring+dropped.Socket+dropped.Host)
		case <-sink.Exhausted():
			return
		case <-ctx.Done():
			return
		}
	}
}

// forged declares what makes the kernel merge frames by now.
func (r *run) forged(opened *ingest.Opened) {
	said, err := opened.Forged()
	for _, text := range said {
		r.fault(text)
	}
	if err != nil {
		r.fault(err.Error())
	}
}

// account makes the final tally.
func (r *run) account(sink *ingest.Sink, opened *ingest.Opened) error {
	t := sink.Tally()
	r.forged(opened)
	dropped, err := opened.Dropped()
	if err != nil {
		r.fault("drops are not known: " + err.Error())
	}
	t.RingDropped, t.SocketDropped, t.HostDropped = dropped.Ring, dropped.Socket, dropped.Host
	r.man.Host = dropped.Counters
	for _, s := range r.man.Segments {
		t.Sealed += s.Packets
		t.SealedBytes += uint64(s.Bytes)
	}
	r.man.Tally, r.man.Ended = t, time.Now().UTC()
	r.man.Complete = len(r.man.Faults) == 0 && t.Lost() == 0
	if !t.Balanced() || t.Sealed != t.Written {
		r.man.Complete = false
		return fmt.Errorf("the tally does not add up: %+v", t)
	}
	return nil
}

func (r *run) conclude() error {
	data, err := json.MarshalIndent(r.man, "", "  ")
	if err != nil {
		return fmt.Errorf("write the manifest: %w", err)
	}
	path := filepath.Join(r.cfg.Dir, ManifestName)
	if err := os.WriteFile(path, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("write the manifest: %w", err)
	}
	return nil
}

// sealed takes in a segment that the writer has sealed.
func (r *run) sealed(f segment.File) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.man.Segments = append(r.man.Segments, events.Segment{
		Seq: f.Seq, Key: filepath.Base(f.Path), SHA256: f.SHA256, Bytes: f.Bytes, Packets: f.Packets, Truncated: f.Truncated,
		First: f.First, Last: f.Last, BackwardsNs: f.BackwardsNs,
	})
	r.cfg.Log.Info("sealed", "segment", f.Seq, "bytes", f.Bytes, "packets", f.Packets, "sha256", f.SHA256)
}

// remark says something that whoever reads the evidence may want to know: in the log and in the manifest, once.
func (r *run) remark(text string) { r.say(&r.man.Remarks, text) }

// fault says something that makes the evidence incomplete or doubtful.
func (r *run) fault(text string) { r.say(&r.man.Faults, text) }

func (r *run) say(list *[]string, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.said[text] || len(*list) > maxRemarks {
		return
	}
	r.said[text] = true
	if len(*list) == maxRemarks {
		text = "further ones are left out here"
	}
	r.cfg.Log.Warn(text)
	*list = append(*list, text)
}
