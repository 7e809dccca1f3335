package segment

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Run seals every segment that the writer closes, until Close. A disk that refuses is asked again until ctx ends;
// what could not be sealed by then stays open, for Recover to find, and is named in the error.
func (w *Writer) Run(ctx context.Context) error {
	var errs []error
	for o := range w.closed {
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
	if o.cut {
		if err := w.insist(ctx, func() error { return o.file.Truncate(f.Bytes) }); err != nil {
			return File{}, fmt.Errorf("cut segment %d behind its last whole record: %w", o.seq, err)
		}
	}
	// A failed sync is not repeated: the kernel reports a lost page once, and then calls it clean (fsync(2), "EIO").
	// The upload finds out, since the store compares the bytes with the digest taken before they went to disk.
	if err := o.file.Sync(); err != nil {
		w.cfg.Trouble(fmt.Errorf("sync segment %d: %w", o.seq, err))
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
