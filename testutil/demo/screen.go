package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// screen writes progress: finished lines, and on a terminal one line that changes while something goes on.
type screen struct {
	mu       sync.Mutex
	out      io.Writer
	terminal bool
	started  time.Time
	what     string
	live     int // length of the changing line, 0 for none
}

func newScreen(out *os.File) *screen {
	info, err := out.Stat()
	return &screen{out: out, terminal: err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"}
}

func (s *screen) line(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	fmt.Fprintln(s.out, strings.TrimRight(fmt.Sprintf(format, args...), " "))
}

// update replaces the changing line; not on a terminal, nothing changes.
func (s *screen) update(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.terminal {
		return
	}
	s.clear()
	text := fmt.Sprintf(format, args...)
	s.live = len(text)
	fmt.Fprint(s.out, text)
}

func (s *screen) clear() {
	if s.live > 0 {
		fmt.Fprint(s.out, "\r"+strings.Repeat(" ", s.live)+"\r")
		s.live = 0
	}
}

// begin and end frame a piece of work with its duration.
func (s *screen) begin(what string) {
	s.what, s.started = what, time.Now()
	s.update("  %s ...", what)
}

func (s *screen) end(err error) {
	word := "done"
	if err != nil {
		word = "failed"
	}
	s.line("  %-72s %s %6.1f s", s.what, word, time.Since(s.started).Seconds())
}
