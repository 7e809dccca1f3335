package evidence

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"flashtap/events"
)

// seen is what reading an object once showed.
type seen struct {
	bytes  int64
	digest string
	walk   *walk       // of a segment
	point  *checkpoint // of a checkpoint
	fault  error       // why a record is none
}

// checkpoint is what is kept of a checkpoint.
type checkpoint struct {
	events.Checkpoint
	records []record
}

// chunk is how much is read at once: much, since a system call costs as much as a thousand bytes, and little enough to stay in
// the core's cache from digest to walk.
const chunk = 256 << 10

var chunks = sync.Pool{New: func() any { b := make([]byte, chunk); return &b }}

// readAll reads every listed object once, several at a time.
func (v *verifier) readAll(ctx context.Context, names []string) error {
	var total int64
	for _, name := range names {
		total += v.listed[name].Bytes
	}
	var done atomic.Int64
	var mu sync.Mutex
	advance := func(n int64) {
		now := done.Add(n)
		if v.Options.Progress != nil {
			mu.Lock()
			defer mu.Unlock()
			v.Options.Progress(now, total)
		}
	}
	results := make([]seen, len(names))
	there := make([]bool, len(names))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(v.Workers)
	for i, name := range names {
		if v.listed[name].Odd != "" {
			continue
		}
		group.Go(func() error {
			s, err := v.read(ctx, name, advance)
			if missing(err) {
				return nil // it was removed while we were reading; objects tells
			}
			results[i], there[i] = s, err == nil
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for i, name := range names {
		if there[i] {
			v.seen[name] = results[i]
		}
	}
	return nil
}

// read digests an object as it streams by, and looks into it as far as its kind allows.
func (v *verifier) read(ctx context.Context, name string, advance func(int64)) (seen, error) {
	var s seen
	kind := kindOf(name)
	switch kind {
	case checkpointKind, closingKind, actKind, certificateKind, recordKind, addendumKind:
		body, err := v.body(ctx, name)
		if errors.Is(err, errTooLong) {
			s.fault = err
			break // digested like any other object
		}
		if err != nil {
			return s, err
		}
		advance(int64(len(body)))
		s.bytes, s.digest = int64(len(body)), digest(body)
		s.point, s.fault = v.record(name, kind, body)
		return s, nil
	}
	streamed, err := v.stream(ctx, name, kind == segmentKind, advance)
	streamed.fault = s.fault
	return streamed, err
}

// stream digests an object of any size, and follows the records of a segment.
func (v *verifier) stream(ctx context.Context, name string, segment bool, advance func(int64)) (seen, error) {
	var s seen
	in, err := v.src.Open(ctx, name, 0)
	if err != nil {
		return s, err
	}
	defer in.Close()
	hash := sha256.New()
	if segment {
		s.walk = &walk{}
	}
	buf := chunks.Get().(*[]byte)
	defer chunks.Put(buf)
	for {
		n, err := in.Read(*buf)
		hash.Write((*buf)[:n])
		if s.walk != nil {
			s.walk.feed((*buf)[:n])
		}
		s.bytes += int64(n)
		advance(int64(n))
		if err == io.EOF {
			break
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return s, fmt.Errorf("read %s: %w", name, err)
		}
	}
	s.digest = hex.EncodeToString(hash.Sum(nil))
	return s, nil
}

var errTooLong = fmt.Errorf("has more than %d bytes, which no record has", maxRecord)

// body is the whole of a small object.
func (v *verifier) body(ctx context.Context, name string) ([]byte, error) {
	in, err := v.src.Open(ctx, name, 0)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	body, err := io.ReadAll(io.LimitReader(in, maxRecord+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(body) > maxRecord {
		return nil, errTooLong
	}
	if s, read := v.seen[name]; read && s.digest != digest(body) {
		v.bad(Objects, name, "changed while it was checked")
	}
	return body, nil
}

// record looks into a record of which nothing but its form matters here, and into a checkpoint.
func (v *verifier) record(name string, kind kind, body []byte) (*checkpoint, error) {
	if name == planName {
		return nil, v.decode(body, &events.Plan{})
	}
	switch kind {
	case checkpointKind:
		c := &checkpoint{}
		if err := v.decode(body, &c.Checkpoint); err != nil {
			return nil, err
		}
		var raw struct {
			Records []json.RawMessage `json:"records"`
		}
		if err := json.Unmarshal(body, &raw); err != nil {
			return nil, err
		}
		var err error
		c.records, err = newRecords(raw.Records)
		c.Records = nil
		return c, err
	case closingKind:
		return nil, v.decode(body, &events.CollectorManifest{})
	case actKind:
		return nil, v.decode(body, &events.CustodyEntry{})
	case certificateKind:
		return nil, v.decode(body, &events.Certificate{})
	case addendumKind:
		return nil, v.decode(body, &events.Addendum{})
	}
	return nil, v.decode(body, &struct{}{})
}
