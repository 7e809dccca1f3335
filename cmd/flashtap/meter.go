package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// meter tells how much of something long is done: a bar for a person at a terminal, a line now and then otherwise.
type meter struct {
	mu       sync.Mutex
	out      io.Writer
	verb     string
	terminal bool
	began    time.Time
	next     time.Time
	shown    bool
}

const (
	meterStep = 200 * time.Millisecond // of the bar
	meterLine = 10 * time.Second       // between lines
)

func newMeter(out io.Writer, verb string) *meter {
	m := &meter{out: out, verb: verb, terminal: terminal(out), began: time.Now()}
	m.next = m.began.Add(m.step())
	return m
}

func (m *meter) step() time.Duration {
	if m.terminal {
		return meterStep
	}
	return meterLine
}

// at tells that done of total bytes are done.
func (m *meter) at(done, total int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if now.Before(m.next) || total <= 0 {
		return
	}
	m.next = now.Add(m.step())
	percent := int(min(100, 100*done/total))
	rate := sizeText(int64(float64(done)/now.Sub(m.began).Seconds())) + "/s"
	if !m.terminal {
		fmt.Fprintf(m.out, "%s: %d %% of %s, %s\n", m.verb, percent, sizeText(total), rate) // there is nowhere to report to
		return
	}
	m.shown = true
	const width = 30
	full := percent * width / 100
	fmt.Fprintf(m.out, "\r%s [%s%s] %3d %% of %s, %s   ", m.verb, strings.Repeat("=", full), strings.Repeat(" ", width-full), percent, sizeText(total), rate)
}

// end takes the bar away.
func (m *meter) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.shown {
		fmt.Fprintf(m.out, "\r%s\r", strings.Repeat(" ", 79))
		m.shown = false
	}
}
