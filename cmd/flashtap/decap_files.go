package main

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"flashtap/collector/pcapfile"
)

// input is where records come from.
type input struct {
	io.Reader
	info  os.FileInfo // nil: unknown
	close func() error
}

// openIn opens the file to read.
func (t *tool) openIn(name string) (*input, error) {
	if name == stdStream {
		in := &input{Reader: t.in, close: notOurs}
		if file, ok := t.in.(*os.File); ok {
			in.use(file)
		}
		return in, nil
	}
	file, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, notFound("check the path", "open %s: no such file", name)
	}
	if err != nil {
		return nil, err
	}
	in := &input{Reader: file, close: file.Close}
	in.use(file)
	if in.info != nil && in.info.IsDir() {
		return nil, errors.Join(usage(name+" is a directory: want a capture file", ""), file.Close())
	}
	return in, nil
}

// use finds out what kind of file it is.
func (in *input) use(file *os.File) {
	if info, err := file.Stat(); err == nil {
		in.info = info
	}
	if !in.stream() {
		in.Reader = pcapfile.File{File: file}
	}
}

// Close implements io.Closer.
func (in *input) Close() error { return in.close() }

// stream says whether what is read may have to be waited for.
func (in *input) stream() bool { return in.info == nil || !in.info.Mode().IsRegular() }

// size is how long the input is, 0 when nobody knows.
func (in *input) size() int64 {
	if in.stream() {
		return 0
	}
	return in.info.Size()
}

// howToCreate says with which flags OUT is opened: never at the cost of a file that is there, unless that is asked for.
func (t *tool) howToCreate(o decapOptions, in *input) (flags int, err error) {
	if o.out == stdStream {
		if terminal(t.out) {
			return 0, usage("standard output is a terminal, where frames of others would do what they like", "name a file, or pipe it")
		}
		return 0, nil
	}
	info, err := os.Stat(o.out)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return os.O_WRONLY | os.O_CREATE | os.O_EXCL, nil
	case err != nil:
		return 0, err
	case in.info != nil && os.SameFile(in.info, info):
		return 0, refused("name another OUT", "%s is IN as well: writing it would destroy what is read", o.out)
	case !info.Mode().IsRegular():
		return os.O_WRONLY, nil // a device or a pipe holds nothing that could be lost
	case !o.force:
		return 0, refused("name another OUT, or give --force to overwrite it", "%s exists", o.out)
	}
	return os.O_WRONLY | os.O_TRUNC, nil
}

// create opens OUT.
func (t *tool) create(ctx context.Context, name string, flags int) (io.WriteCloser, error) {
	if name == stdStream {
		file, ok := t.out.(*os.File)
		if !ok {
			return stream{ctx, t.out, notOurs}, nil
		}
		return output(ctx, file, notOurs), nil
	}
	file, err := os.OpenFile(name, flags, 0o666)
	if err != nil {
		return nil, err
	}
	return output(ctx, file, file.Close), nil
}

// output writes to a file in the way that suits it.
func output(ctx context.Context, file *os.File, close func() error) io.WriteCloser {
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return stream{ctx, file, close}
	}
	return disk{pcapfile.File{File: file}, close}
}

// disk is a regular file.
type disk struct {
	io.Writer
	close func() error
}

func (d disk) Close() error { return d.close() }

// stream is what may make a writer wait for ever.
type stream struct {
	ctx context.Context
	io.Writer
	close func() error
}

func (s stream) Write(p []byte) (int, error) {
	return await(s.ctx, func() (int, error) { return s.Writer.Write(p) })
}

func (s stream) Close() error { return s.close() }

// streamPatience is how long after an interruption a stream may still bring its end: what is before it in a pipe was
// interrupted as well, and hands over what it has.
const streamPatience = 2 * time.Second

// await does what may block for ever, and leaves it to itself when an interruption is some time ago.
func await(ctx context.Context, do func() (int, error)) (int, error) {
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	go func() {
		n, err := do()
		done <- result{n, err}
	}()
	select {
	case r := <-done:
		return r.n, r.err
	case <-ctx.Done():
	}
	select {
	case r := <-done:
		return r.n, r.err
	case <-time.After(streamPatience):
		return 0, ctx.Err()
	}
}

// notOurs is how to close what belongs to the shell.
func notOurs() error { return nil }
