package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

// decapProgress tells a person at a terminal how much of a large file is done.
type decapProgress struct {
	out   io.Writer // nil: nobody is told
	size  int64
	done  int64
	next  time.Time // when it is told again
	began bool
}

const (
	progressSize = 512 << 20 // a smaller file is done before anybody wonders
	progressStep = 500 * time.Millisecond
)

func newDecapProgress(out io.Writer, size int64) *decapProgress {
	if size < progressSize || !terminal(out) {
		return &decapProgress{}
	}
	return &decapProgress{out: out, size: size, next: time.Now().Add(progressStep)}
}

// add tells about n bytes more.
func (p *decapProgress) add(n int) {
	if p.out == nil {
		return
	}
	p.done += int64(n)
	if now := time.Now(); now.After(p.next) {
		p.next, p.began = now.Add(progressStep), true
		fmt.Fprintf(p.out, "\r%3d %% of %s", 100*p.done/p.size, sizeText(p.size)) // there is nowhere to report to
	}
}

// end removes what was told.
func (p *decapProgress) end() {
	if p.began {
		fmt.Fprint(p.out, "\r                         \r")
	}
}

// terminal says whether what is written is shown to a person.
func terminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}
