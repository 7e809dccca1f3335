package segment

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A spare is an empty file to which disk space is attached already. Its length is 0 and grows with what is written, so
// that a crash leaves no byte behind the last record that could be taken for one. (Files that were used before would
// be as cheap to write to, but a crash in the middle of a write would leave old frames under new headers.)

// spareName names the n-th spare, from 1.
func spareName(dir string, n int) string {
	return filepath.Join(dir, fmt.Sprintf(".spare.%06d", n))
}

// Prepare attaches disk space to as many segments as Config.Reserve allows, before there are frames to write. An error
// means that less is reserved; frames are written all the same.
func (w *Writer) Prepare(ctx context.Context) error {
	left := w.cfg.Reserve
	for n := 1; left > 0; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		size := min(left, w.cfg.MaxBytes)
		if err := makeSpare(spareName(w.cfg.Dir, n), size); err != nil {
			return fmt.Errorf("reserve %d bytes for segments: %w", left, err)
		}
		left -= size
	}
	return nil
}

func makeSpare(path string, size int64) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = unix.Fallocate(int(file.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size)
	for errors.Is(err, unix.EINTR) {
		err = unix.Fallocate(int(file.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size)
	}
	if err = errors.Join(os.NewSyscallError("fallocate", err), file.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// create opens a new file for a segment, out of a spare when there is one.
func create(dir, path string) (*os.File, error) {
	spares, err := filepath.Glob(filepath.Join(dir, ".spare.*"))
	if err == nil && len(spares) > 0 {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return nil, &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist} // rename would replace it
		}
		if err := os.Rename(spares[0], path); err != nil {
			return nil, err
		}
		return os.OpenFile(path, os.O_WRONLY, 0)
	}
	return os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
}

// RemoveSpares gives the space back that Prepare has reserved in a folder and that no segment has used.
func RemoveSpares(dir string) error {
	spares, err := filepath.Glob(filepath.Join(dir, ".spare.*"))
	if err != nil {
		return fmt.Errorf("look for reserved files: %w", err)
	}
	var errs []error
	for _, path := range spares {
		errs = append(errs, os.Remove(path))
	}
	return errors.Join(errs...)
}

// writeBehindStep is how much gathers before the kernel is asked to begin writing it to the disk, so that a sync at
// the end, or the kernel's own limit of dirty memory, finds little left to do.
const writeBehindStep = 8 << 20

// writeBehind asks the kernel to begin writing what is in the file. It does not wait, and an error means nothing: the
// sync of sealing tells.
func (o *openFile) writeBehind() {
	size := fileHeaderLen + o.holds.bytes
	if size-o.synced < writeBehindStep {
		return
	}
	_ = unix.SyncFileRange(int(o.file.Fd()), o.synced, size-o.synced, unix.SYNC_FILE_RANGE_WRITE)
	o.synced = size
}
