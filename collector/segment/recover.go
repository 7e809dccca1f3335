package segment

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

var (
	// ErrEmpty means that a file holds no whole record.
	ErrEmpty = errors.New("no whole record")
	// ErrForeign means that a file does not begin as segments do.
	ErrForeign = errors.New("not the header of a segment")
)

// Recover seals an open segment that a crash has left behind. Only whole records are kept; cut is how many bytes
// behind them were not. A file without a whole record is removed (ErrEmpty). A file that does not begin as a segment
// is left alone (ErrForeign).
func Recover(path string) (f File, cut int64, err error) {
	seq, digest, ok := ParseName(path)
	if !ok || digest != "" {
		return File{}, 0, fmt.Errorf("recover %s: not the name of an open segment", path)
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return File{}, 0, fmt.Errorf("recover segment %d: %w", seq, err)
	}
	defer file.Close()
	holds, digest, cut, err := scan(file)
	switch {
	case errors.Is(err, ErrEmpty):
		return File{}, cut, errors.Join(fmt.Errorf("recover segment %d: %w", seq, err), os.Remove(path))
	case err != nil:
		return File{}, cut, fmt.Errorf("recover segment %d: %w", seq, err)
	}
	f = newFile(seq, filepath.Join(filepath.Dir(path), SealedName(seq, digest)), digest, holds)
	f.Recovered = true
	if err := file.Truncate(f.Bytes); err != nil {
		return File{}, cut, fmt.Errorf("recover segment %d: %w", seq, err)
	}
	if err := file.Sync(); err != nil {
		return File{}, cut, fmt.Errorf("recover segment %d: %w", seq, err)
	}
	if err := os.Rename(path, f.Path); err != nil {
		return File{}, cut, fmt.Errorf("recover segment %d: %w", seq, err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return File{}, cut, fmt.Errorf("recover segment %d: %w", seq, err)
	}
	return f, cut, nil
}

// Inspect reads a sealed segment of which nobody knows more than the name, and says what it holds. A file whose bytes
// are not those that its name states is an error.
func Inspect(path string) (File, error) {
	seq, named, ok := ParseName(path)
	if !ok || named == "" {
		return File{}, fmt.Errorf("inspect %s: not the name of a sealed segment", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return File{}, fmt.Errorf("inspect segment %d: %w", seq, err)
	}
	defer file.Close()
	holds, digest, cut, err := scan(file)
	if err != nil {
		return File{}, fmt.Errorf("inspect segment %d: %w", seq, err)
	}
	if cut != 0 || digest != named {
		return File{}, fmt.Errorf("inspect segment %d: its bytes are not those with digest %s", seq, named)
	}
	return newFile(seq, path, digest, holds), nil
}

// scan reads whole records until the first that is none. digest is that of the header and those records; cut is how
// many bytes follow them.
func scan(file *os.File) (holds contents, digest string, cut int64, err error) {
	info, err := file.Stat()
	if err != nil {
		return contents{}, "", 0, err
	}
	r := bufio.NewReaderSize(file, 1<<20)
	hash := sha256.New()
	buf := make([]byte, recHeaderLen+SnapLen)

	n, err := io.ReadFull(r, buf[:fileHeaderLen])
	switch {
	case n < fileHeaderLen && err != io.EOF && err != io.ErrUnexpectedEOF:
		return contents{}, "", 0, err
	case !bytes.HasPrefix(fileHeader, buf[:n]):
		return contents{}, "", info.Size(), ErrForeign
	case n < fileHeaderLen:
		return contents{}, "", info.Size(), ErrEmpty
	}
	hash.Write(fileHeader)
	for {
		if ok, err := fill(r, buf[:recHeaderLen]); err != nil {
			return contents{}, "", 0, err
		} else if !ok {
			break
		}
		rec, ok := parseRecord(buf)
		if !ok {
			break
		}
		if ok, err := fill(r, buf[recHeaderLen:recHeaderLen+rec.inclLen]); err != nil {
			return contents{}, "", 0, err
		} else if !ok {
			break
		}
		hash.Write(buf[:recHeaderLen+rec.inclLen])
		holds.addRecord(rec)
	}
	cut = info.Size() - fileHeaderLen - holds.bytes
	if holds.packets == 0 {
		return contents{}, "", cut, ErrEmpty
	}
	return holds, hex.EncodeToString(hash.Sum(nil)), cut, nil
}

// fill reads len(buf) bytes; ok is false when the file ends before.
func fill(r io.Reader, buf []byte) (ok bool, err error) {
	_, err = io.ReadFull(r, buf)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return false, nil
	}
	return err == nil, err
}
