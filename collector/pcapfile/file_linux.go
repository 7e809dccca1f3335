package pcapfile

import (
	"io"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// File is a regular file, read and written without telling Go's scheduler of the system calls. For what takes some ten
// microseconds each, it would otherwise hand the rest of the program to another thread and take it back, thousands of
// times. In exchange nothing else runs on this thread's processor until the disk answers, so it is for programs that
// wait for the disk anyway, and not for what may never answer, like a pipe.
type File struct{ *os.File }

// Read implements io.Reader.
func (f File) Read(p []byte) (int, error) {
	n, err := f.transfer("read", unix.SYS_READ, p)
	if n == 0 && err == nil && len(p) > 0 {
		return 0, io.EOF
	}
	return n, err
}

// Write implements io.Writer.
func (f File) Write(p []byte) (int, error) {
	for done := 0; ; {
		n, err := f.transfer("write", unix.SYS_WRITE, p[done:])
		done += n
		if err == nil && n == 0 && done < len(p) {
			err = io.ErrShortWrite
		}
		if err != nil || done == len(p) {
			return done, err
		}
	}
}

func (f File) transfer(op string, call uintptr, p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		n, _, errno := unix.RawSyscall(call, f.Fd(), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
		runtime.KeepAlive(f.File)
		if errno == 0 {
			return int(n), nil
		}
		if errno != unix.EINTR {
			return 0, &os.PathError{Op: op, Path: f.Name(), Err: errno}
		}
	}
}
