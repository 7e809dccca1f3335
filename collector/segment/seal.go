package segment

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// sealAll seals every segment that is closed. It has a goroutine of its own: to sync a file takes longer than buffers
// can wait.
func (w *Writer) sealAll(ctx context.Context) error {
	var errs []error
	for o := range w.disk.closed {
		f, err := w.seal(ctx, o)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		w.unsealed.Add(-f.Bytes) // from here on, Sealed's receiver accounts for them
		w.cfg.Sealed(f)
	}
	return errors.Join(errs...)
}

// seal makes a closed segment durable and gives it its final name: sync, rename, sync the directory. A crash at any
// point leaves an open file or a sealed one, never a half.
func (w *Writer) seal(ctx context.Context, o *openFile) (File, error) {
	defer o.file.Close()
	f := o.sealed()
	// This also gives reserved space back that the segment has not needed.
	if err := w.insist(ctx, func() error { return o.file.Truncate(f.Bytes) }); err != nil {
		return File{}, fmt.Errorf("cut segment %d behind its last whole record: %w", o.seq, err)
	}
	// A failed sync is not repeated: the kernel reports a lost page once, and then calls it clean (fsync(2), "EIO").
	// The upload finds out, since the store compares the bytes with the digest taken before they went to disk.
	if err := o.file.Sync(); err != nil {
		w.cfg.Trouble(fmt.Errorf("sync segment %d: %w", o.seq, err))
	}
	if w.cfg.Evict {
		// Only advice; a page cache full of old evidence makes room for itself in the end, at a worse moment.
		_ = unix.Fadvise(int(o.file.Fd()), 0, 0, unix.FADV_DONTNEED)
	}
	if err := w.insist(ctx, func() error { return os.Rename(o.path, f.Path) }); err != nil {
		return File{}, fmt.Errorf("seal segment %d: %w", o.seq, err)
	}
	if err := syncDir(filepath.Dir(f.Path)); err != nil {
		w.cfg.Trouble(fmt.Errorf("sync the directory of segment %d: %w", o.seq, err))
	}
	return f, nil
}

// insist repeats an act until it succeeds or ctx ends.
func (w *Writer) insist(ctx context.Context, act func() error) error {
	for {
		err := act()
		if err == nil {
			return nil
		}
		w.cfg.Trouble(err)
		select {
		case <-time.After(retryAfter):
		case <-ctx.Done():
			return err
		}
	}
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
