package standalone

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"flashtap/collector/segment"
)

// space is what a disk has left for frames: as of the last look, less what came since.
type space struct {
	dir    string
	keep   int64           // is left to others
	writer *segment.Writer // nil: nothing is written yet

	mu      sync.Mutex
	free    int64 // at the last look, besides keep
	written int64 // bytes of records that files held by then
}

// look asks the disk.
func (s *space) look() error {
	written := int64(0)
	if s.writer != nil {
		written = s.held() // asked first: what comes in between counts twice, rather than not at all
	}
	free, err := freeBytes(s.dir)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.written = written
	if err != nil {
		s.free = math.MaxInt64 / 2 // the disk itself will say when it is full
		return fmt.Errorf("ask for the free space of %s: %w", s.dir, err)
	}
	s.free = free - s.keep
	return nil
}

// room is SinkConfig.Room, from which the sink takes off all that is not sealed. The disk has done so already for what
// of that was in files at the last look. It belongs to the goroutine that writes.
func (s *space) room() int64 {
	frames, bytes := s.writer.Accepted()
	c := s.writer.Counts()
	given := recordBytes(frames-c.Lost, bytes-c.LostBytes)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.free - (given - s.written) + s.writer.Unsealed()
}

// held is how many bytes of records are in files.
func (s *space) held() int64 {
	c := s.writer.Counts()
	return recordBytes(c.Written, c.WrittenBytes)
}

// recordBytes is what frames take on a disk (draft-ietf-opsawg-pcap, section 5).
func recordBytes(frames, bytes uint64) int64 {
	const header = 16
	return int64(bytes + header*frames)
}

// freeBytes is how much an unprivileged program may still write into the file system of a folder. What is reserved for
// the segments there is free for them.
func freeBytes(dir string) (int64, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return 0, os.NewSyscallError("statfs", err)
	}
	free := int64(min(stat.Bavail*uint64(stat.Bsize), math.MaxInt64/2))
	hidden, err := filepath.Glob(filepath.Join(dir, ".*")) // spares, and open segments that were one
	for _, path := range hidden {
		var file unix.Stat_t
		if unix.Lstat(path, &file) == nil && file.Mode&unix.S_IFMT == unix.S_IFREG { // it may be renamed by now
			free += max(0, file.Blocks*512-file.Size)
		}
	}
	return free, err
}
