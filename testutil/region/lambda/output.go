package lambda

import (
	"bytes"
	"os"
	"strings"
	"sync"
)

// tailSize is how much of an invocation's log Invoke returns (Lambda API, Invoke: LogResult).
const tailSize = 4 << 10

// output collects what one process writes. Lambda's own lines go through the same pipe as the function's, so that the
// END line, once read, proves that everything written before it has been read too.
type output struct {
	fn     *function
	reader *os.File
	writer *os.File
	ended  chan struct{} // the reader has left

	mu     sync.Mutex
	start  []byte   // the line that opens the current invocation
	last   []byte   // the line that closes it
	own    [][]byte // all lines of Lambda's own of this invocation
	tail   []byte
	closed chan struct{} // closed when the last line was seen
}

func newOutput(f *function) (*output, error) {
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	o := &output{fn: f, reader: reader, writer: writer, ended: make(chan struct{})}
	go o.read()
	return o, nil
}

// begin opens the log of one invocation.
func (o *output) begin(id string) {
	line := []byte("START RequestId: " + id + " Version: $LATEST\n")
	o.mu.Lock()
	o.start, o.own = line, [][]byte{line}
	o.mu.Unlock()
	o.writer.Write(line)
}

// end closes the log with lines of Lambda's own and returns its tail, once the last of them has come out of the pipe.
func (o *output) end(lines ...string) string {
	closed := make(chan struct{})
	o.mu.Lock()
	for _, line := range lines {
		o.last = []byte(line + "\n")
		o.own = append(o.own, o.last)
	}
	o.closed = closed
	o.mu.Unlock()
	o.writer.WriteString(strings.Join(lines, "\n") + "\n")
	select {
	case <-closed:
	case <-o.ended:
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.tail)
}

// close ends the pipe. The process must be gone, or the reader would wait for it.
func (o *output) close() {
	o.writer.Close()
	<-o.ended
	o.reader.Close()
}

// longestLine is passed on in pieces beyond this.
const longestLine = 64 << 10

func (o *output) read() {
	defer close(o.ended)
	buffer := make([]byte, 32<<10)
	var pending []byte
	for {
		n, err := o.reader.Read(buffer)
		pending = append(pending, buffer[:n]...)
		for {
			i := bytes.IndexByte(pending, '\n')
			if i < 0 && len(pending) < longestLine {
				break
			}
			if i < 0 {
				i = len(pending) - 1
			}
			o.line(pending[:i+1])
			pending = pending[i+1:]
		}
		if err != nil {
			if len(pending) > 0 {
				o.line(append(pending, '\n'))
			}
			return
		}
	}
}

func (o *output) line(line []byte) {
	o.mu.Lock()
	start, last, lines := o.start, o.last, o.own
	o.mu.Unlock()
	for _, own := range lines {
		// The function may have left a line without an end just before ours.
		if len(line) > len(own) && bytes.HasSuffix(line, own) {
			o.line(append(bytes.Clone(line[:len(line)-len(own)]), '\n'))
			line = own
		}
	}
	opens := len(start) > 0 && bytes.Equal(line, start)
	closes := len(last) > 0 && bytes.Equal(line, last)
	o.fn.logLine(line)
	o.mu.Lock()
	defer o.mu.Unlock()
	if opens {
		o.tail = o.tail[:0]
	}
	o.tail = append(o.tail, line...)
	if over := len(o.tail) - tailSize; over > 0 {
		o.tail = append(o.tail[:0], o.tail[over:]...)
	}
	if closes && o.closed != nil {
		close(o.closed)
		o.closed = nil
	}
}
