package evidence

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"flashtap/events"
)

// Source is where evidence lies. Objects go by their names: their keys without captures/<capture>/.
type Source interface {
	// List is every object, in any order.
	List(context.Context) ([]Entry, error)
	// Open reads an object from an offset on. It is fs.ErrNotExist when there is none.
	Open(ctx context.Context, name string, offset int64) (io.ReadCloser, error)
}

// Entry is one object of a source.
type Entry struct {
	Name  string
	Bytes int64
	Odd   string // what it is when it is no file, such as "a symbolic link"
}

// Folder is the source of a copy in a folder.
type Folder struct{ root *os.Root }

// OpenFolder opens the folder of one capture. Nothing outside it is ever read, whatever links lie in it.
func OpenFolder(dir string) (*Folder, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &Folder{root}, nil
}

// Close gives the folder back.
func (f *Folder) Close() error { return f.root.Close() }

// CaptureOfFolder is the capture that a folder's name says it holds; empty when it says none.
func CaptureOfFolder(dir string) events.CaptureID {
	full, err := filepath.Abs(dir)
	if err != nil {
		return ""
	}
	if c := events.CaptureID(filepath.Base(full)); c.Validate() == nil {
		return c
	}
	return ""
}

// List implements Source.
func (f *Folder) List(ctx context.Context) ([]Entry, error) {
	var list []Entry
	err := fs.WalkDir(f.root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return ctx.Err()
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		e := Entry{Name: name, Bytes: info.Size()}
		switch mode := info.Mode(); {
		case mode&fs.ModeSymlink != 0:
			e.Odd = "a symbolic link"
		case !mode.IsRegular():
			e.Odd = "something of mode " + mode.Type().String()
		}
		list = append(list, e)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", f.root.Name(), err)
	}
	return list, nil
}

// Open implements Source. What is no regular file is none: a pipe would have its reader wait for ever.
func (f *Folder) Open(_ context.Context, name string, offset int64) (io.ReadCloser, error) {
	if !fs.ValidPath(name) {
		return nil, fmt.Errorf("open %q: %w", name, fs.ErrNotExist)
	}
	file, err := f.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("open %s: no regular file: %w", name, fs.ErrNotExist)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	if offset > 0 {
		if _, err := file.Seek(offset, io.SeekStart); err != nil {
			return nil, errors.Join(err, file.Close())
		}
	}
	return file, nil
}

// The names of objects that are one of a kind.
const (
	findingName   = "finding.json"
	planName      = "plan.json"
	custodyName   = "custody.jsonl"
	keyName       = "key.pem"
	treeName      = "tree.json"
	treeSigName   = "tree.sig"
	manifestName  = "manifest.json"
	signatureName = "manifest.sig"
	proofName     = "proof.json" // only beside a segment that was handed out
)

// kind is what an object is, by its name.
type kind int

const (
	otherKind kind = iota
	bytesKind      // known, and of no form that this page demands
	segmentKind
	checkpointKind
	joinedKind
	closingKind // a collector's manifest
	actKind
	certificateKind
	recordKind // plan and tree
	manifestKind
	addendumKind
	addendumSigKind
)

// kindOf tells what an object is.
func kindOf(name string) kind {
	switch name {
	case findingName, custodyName, keyName, treeSigName, signatureName:
		return bytesKind
	case planName, treeName:
		return recordKind
	case manifestName:
		return manifestKind
	}
	folder, base := path.Split(name)
	switch folder {
	case "joined/":
		if digest, ok := strings.CutSuffix(base, ".json"); ok && isDigest(digest) {
			return joinedKind
		}
	case "custody/":
		if strings.HasSuffix(base, ".json") {
			return actKind
		}
	case "certificates/":
		if strings.HasSuffix(base, ".json") {
			return certificateKind
		}
	case "console/":
		return bytesKind
	case "addenda/":
		if number(strings.TrimSuffix(base, ".json")) > 0 && strings.HasSuffix(base, ".json") {
			return addendumKind
		}
		if number(strings.TrimSuffix(base, ".sig")) > 0 && strings.HasSuffix(base, ".sig") {
			return addendumSigKind
		}
	}
	parts := strings.Split(name, "/")
	if parts[0] != "collectors" {
		return otherKind
	}
	switch {
	case len(parts) == 3 && parts[2] == "manifest.json":
		return closingKind
	case len(parts) == 4 && parts[2] == "segments" && wellNamed(parts[3], ".pcap"):
		return segmentKind
	case len(parts) == 4 && parts[2] == "checkpoints" && wellNamed(parts[3], ".json"):
		return checkpointKind
	}
	return otherKind
}

// Known says whether a name is one that Flashtap gives to objects.
func Known(name string) bool { return kindOf(name) != otherKind }

// userOf is the collector that an object is by; empty for all others.
func userOf(name string) string {
	if rest, ok := strings.CutPrefix(name, "collectors/"); ok {
		user, _, _ := strings.Cut(rest, "/")
		return user
	}
	return ""
}

// wellNamed says whether a base name is <number>-<digest><suffix>.
func wellNamed(base, suffix string) bool {
	return len(base) == 6+1+64+len(suffix) && number(base[:6]) > 0 && base[6] == '-' && isDigest(base[7:71]) && base[71:] == suffix
}

// digestIn is the digest that the name of a segment, checkpoint or joined event has.
func digestIn(name string) string {
	base := path.Base(name)
	base = base[:len(base)-len(path.Ext(base))]
	return base[max(0, len(base)-64):]
}

// numberIn is the number that the name of a segment or checkpoint has.
func numberIn(name string) int { return number(path.Base(name)[:6]) }

// number reads six digits; 0 when they are none.
func number(digits string) int {
	if len(digits) != 6 {
		return 0
	}
	n := 0
	for _, d := range []byte(digits) {
		if d < '0' || d > '9' {
			return 0
		}
		n = 10*n + int(d-'0')
	}
	return n
}

func isDigest(s string) bool {
	if len(s) != 64 {
		return false
	}
	return strings.Trim(s, "0123456789abcdef") == ""
}
