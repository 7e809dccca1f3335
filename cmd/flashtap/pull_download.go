package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"flashtap/collector/evidence"
	"flashtap/events"
)

// partSuffix is what a file has at the end of its name until it is whole.
const partSuffix = ".part"

// downloads is how many objects come in at a time.
const downloads = 4

// download brings a capture into a folder, and verifies what is there then.
func (t *tool) download(ctx context.Context, at place, contents evidence.Contents, o pullOptions) (verification, place, error) {
	dir := o.dir
	if dir == "" {
		dir = string(at.capture)
	}
	list, err := at.List(ctx)
	if err != nil {
		return verification{}, place{}, err
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return verification{}, place{}, err
	}
	d, err := newDownload(ctx, at, dir)
	if err != nil {
		return verification{}, place{}, err
	}
	defer d.close()
	list, odd := storable(list)
	for _, e := range list {
		d.total += e.Bytes
	}
	if t.output != outputJSON {
		d.meter = newMeter(t.err, "downloading")
		defer d.meter.end()
	}
	work, _ := errgroup.WithContext(ctx)
	work.SetLimit(downloads)
	wanted := digests(contents)
	for _, e := range list {
		work.Go(func() error { return d.fetch(e.Name, e.Name, wanted[e.Name]) })
	}
	if err := work.Wait(); err != nil {
		return verification{}, place{}, fmt.Errorf("%w; the same command goes on from here", err)
	}
	if d.meter != nil {
		d.meter.end()
	}
	folder, err := evidence.OpenFolder(dir)
	if err != nil {
		return verification{}, place{}, err
	}
	kept := place{Source: folder, capture: at.capture, name: dir, folder: dir, close: folder.Close}
	whole := kept
	whole.Source = withOdd{folder, odd}
	v, err := t.check(ctx, whole, o.trust)
	if err != nil {
		return v, kept, errors.Join(err, kept.close())
	}
	for _, e := range odd {
		v.Notes = append(v.Notes, fmt.Sprintf("the object %q stays in the bucket: its key can't be a file's name beside the others", e.Name))
	}
	if n := d.kept.Load(); n > 0 {
		v.Notes = append(v.Notes, fmt.Sprintf("%s were there already", countOf(uint64(n), "object")))
	}
	return v, kept, nil
}

// storable parts objects into those that can be files in one folder, and the odd others. Of a key that goes on where another ends, the one
// that is none of Flashtap's is odd.
func storable(list []evidence.Entry) (files, odd []evidence.Entry) {
	names := map[string]bool{}
	for _, e := range list {
		names[e.Name] = true
	}
	left := map[string]bool{}
	for name := range names {
		if !canBeFile(name) {
			left[name] = true
			continue
		}
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			switch {
			case !names[dir]:
			case evidence.Known(dir):
				left[name] = true
			default:
				left[dir] = true
			}
		}
	}
	for _, e := range list {
		if left[e.Name] {
			odd = append(odd, e)
		} else {
			files = append(files, e)
		}
	}
	return files, odd
}

// canBeFile says whether a name leads to a file in a folder, and not out of it. The names of objects are others' words.
func canBeFile(name string) bool {
	return fs.ValidPath(name) && !strings.ContainsAny(name, "\\\x00") && name != "."
}

// withOdd is a folder with the objects that could not be put into it.
type withOdd struct {
	*evidence.Folder
	odd []evidence.Entry
}

// List implements evidence.Source.
func (w withOdd) List(ctx context.Context) ([]evidence.Entry, error) {
	list, err := w.Folder.List(ctx)
	return append(list, w.odd...), err
}

// Open implements evidence.Source.
func (w withOdd) Open(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	if slices.ContainsFunc(w.odd, func(e evidence.Entry) bool { return e.Name == name }) {
		return nil, fmt.Errorf("open %q: %w", name, fs.ErrNotExist)
	}
	return w.Folder.Open(ctx, name, offset)
}

// digests are what a manifest, or else an object's name, says that objects have, by name.
func digests(c evidence.Contents) map[string]*events.Object {
	all := map[string]*events.Object{}
	if c.Manifest == nil {
		return all
	}
	prefix := events.CapturePrefix(c.Manifest.Capture)
	for i, o := range c.Manifest.Objects {
		if name, ok := strings.CutPrefix(o.Key, prefix); ok {
			all[name] = &c.Manifest.Objects[i]
		}
	}
	return all
}

// download is one run over the objects of a capture.
type download struct {
	ctx   context.Context
	from  place
	root  *os.Root
	dir   string
	meter *meter
	total int64
	done  atomic.Int64
	kept  atomic.Int64 // objects that were there

	mu sync.Mutex // of making folders
}

func newDownload(ctx context.Context, from place, dir string) (*download, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &download{ctx: ctx, from: from, root: root, dir: dir}, nil
}

func (d *download) close() { _ = d.root.Close() } // it was only looked up in

func (d *download) advance(n int64) {
	now := d.done.Add(n)
	if d.meter != nil {
		d.meter.at(now, d.total)
	}
}

// fetch brings one object, unless it is there.
func (d *download) fetch(name, to string, want *events.Object) error {
	if !canBeFile(to) {
		return refused("have a look at the bucket: this is no object that Flashtap writes", "the key %q can't be a file's name", name)
	}
	have, size, err := d.digest(to)
	switch {
	case err == nil && want != nil && have == want.SHA256 && size == want.Bytes:
		d.kept.Add(1)
		d.advance(size)
		return nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case err != nil:
		have = ""
	}
	digest, err := d.bring(name, to+partSuffix, want)
	if err != nil {
		return err
	}
	switch have {
	case "":
		return d.root.Rename(to+partSuffix, to)
	case digest:
		d.kept.Add(1)
		return d.root.Remove(to + partSuffix)
	}
	return errors.Join(refused("move it away to fetch it again", "%s was changed since it was downloaded", path.Join(d.dir, to)), d.root.Remove(to+partSuffix))
}

// digest is that of a file that is there.
func (d *download) digest(name string) (digest string, size int64, err error) {
	file, err := d.root.Open(name)
	if err != nil {
		return "", 0, err
	}
	defer file.Close()
	sum := sha256.New()
	size, err = io.Copy(sum, file)
	return hex.EncodeToString(sum.Sum(nil)), size, err
}

// bring writes an object into a file and returns its digest. What the file has already is not fetched again, unless it turns
// out to be something else.
func (d *download) bring(name, to string, want *events.Object) (string, error) {
	for again := false; ; again = true {
		sum, resumed, err := d.attempt(name, to, again)
		if err != nil {
			return "", fmt.Errorf("download %s: %w", name, err)
		}
		digest := hex.EncodeToString(sum.Sum(nil))
		if want == nil && resumed && !again {
			// Nothing says what it must be, so two halves of different objects could not be told from one.
			continue
		}
		if want != nil && digest != want.SHA256 && resumed {
			continue
		}
		return digest, nil
	}
}

// attempt reads an object to its end, from where the file ends or from the start.
func (d *download) attempt(name, to string, anew bool) (sum hash.Hash, resumed bool, err error) {
	if err := d.makeFolder(path.Dir(to)); err != nil {
		return nil, false, err
	}
	how := os.O_RDWR | os.O_CREATE
	if anew {
		how |= os.O_TRUNC
	}
	file, err := d.root.OpenFile(to, how, 0o666)
	if err != nil {
		return nil, false, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	sum = sha256.New()
	there, err := io.Copy(sum, file)
	if err != nil {
		return nil, false, err
	}
	d.advance(there)
	in, err := d.from.Open(d.ctx, name, there)
	if err != nil {
		return nil, false, err
	}
	defer in.Close()
	buf := make([]byte, 256<<10)
	for {
		n, err := in.Read(buf)
		sum.Write(buf[:n])
		if _, err := file.Write(buf[:n]); err != nil {
			return nil, false, err
		}
		d.advance(int64(n))
		if err == io.EOF {
			return sum, there > 0, nil
		}
		if err == nil {
			err = d.ctx.Err()
		}
		if err != nil {
			return nil, false, err
		}
	}
}

func (d *download) makeFolder(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.root.MkdirAll(name, 0o777)
}
