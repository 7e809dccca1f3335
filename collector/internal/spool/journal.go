package spool

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"slices"
	"time"

	"flashtap/events"
)

// entry is one line of the journal: what has become true, and when. Exactly one field besides At is set.
type entry struct {
	At         time.Time         `json:"at"`
	Begin      *beginning        `json:"begin,omitempty"`
	Resume     bool              `json:"resume,omitempty"` // a restart has found this spool
	Sealed     *events.Segment   `json:"sealed,omitempty"`
	Tried      string            `json:"tried,omitempty"` // key of a segment that is sent from now on
	Reduced    *replacement      `json:"reduced,omitempty"`
	Checkpoint *checkpointRecord `json:"checkpoint,omitempty"`
	Confirmed  *confirmation     `json:"confirmed,omitempty"`
	Remark     string            `json:"remark,omitempty"`
	Stop       string            `json:"stop,omitempty"`     // why capturing ended
	Manifest   string            `json:"manifest,omitempty"` // SHA-256 of the closing manifest
	Damaged    *damage           `json:"damaged,omitempty"`
	Mended     bool              `json:"mended,omitempty"` // all is in order again after the last Damaged
	Anew       []events.Segment  `json:"anew,omitempty"`   // all records of a chain that begins anew
	Clock      *events.Clock     `json:"clock,omitempty"`  // how it stood when capturing began
}

// beginning is the first line of every journal.
type beginning struct {
	Version int              `json:"version"`
	Capture events.CaptureID `json:"capture"`
	UserID  string           `json:"userId"`
}

// replacement says that a segment has taken the place of another with the same number. It says again what that was, for
// the reason that a confirmation does.
type replacement struct {
	Was events.Segment `json:"was"`
	Is  events.Segment `json:"is"`
}

type checkpointRecord struct {
	Seq    int          `json:"seq"`
	SHA256 string       `json:"sha256"`
	Tally  events.Tally `json:"tally"`
}

// confirmation says that the store has an object. It says again what the object is: should the line be lost that said
// it first, nothing else would tell, for what is confirmed is no longer on the disk.
type confirmation struct {
	Key     string          `json:"key"`
	SHA256  string          `json:"sha256"`
	Segment *events.Segment `json:"segment,omitempty"` // when it is one
}

// damage says what could not be read of a journal.
type damage struct {
	Kept      string `json:"kept"` // where the damaged journal lies now, within the spool
	Stretches int    `json:"stretches"`
	Bytes     int    `json:"bytes"`

	// Up to these numbers, segments and checkpoints may have been made of which no line is left.
	Segments    int `json:"segments"`
	Checkpoints int `json:"checkpoints"`
}

// minLine is less than any line of a journal takes: a stretch of so many bytes has lost one entry at most.
const minLine = 64

// reading is what the file of a journal holds.
type reading struct {
	entries []entry
	lines   []byte // those that hold the entries
	damage  damage
}

// damaged says whether something is not there that once was. A journal that lacks only the end of its last line is
// whole: that line was never finished.
func (r reading) damaged() bool {
	return r.damage.Stretches > 0 || len(r.entries) > 0 && r.entries[0].Begin == nil
}

// errForeign means that a journal is sound and none of this spool's.
var errForeign = errors.New("not this collector's journal")

// readJournal reads whatever can be read. Entries that check refuses count as unreadable; those of another capture or
// of another version (errForeign) are an error.
func readJournal(data []byte, check func(entry) error) (reading, error) {
	r := reader{check: check}
	whole := data[:bytes.LastIndexByte(data, '\n')+1]
	for line := range bytes.Lines(whole) {
		r.line(line)
	}
	if tail := data[len(whole):]; !unfinished(tail) {
		r.line(tail)
	}
	r.damage.Segments, r.damage.Checkpoints = r.segments.highest(), r.checkpoints.highest()
	return r.reading, r.foreign
}

// lineBegins is what every line begins with, and what stands nowhere else: within strings, JSON escapes the quotes.
const lineBegins = `{"at":"`

// unfinished says whether the end of a journal is what a crash leaves of lines on their way to the disk: the beginning
// of one.
func unfinished(tail []byte) bool {
	n := min(len(tail), len(lineBegins))
	return string(tail[:n]) == lineBegins[:n] && bytes.IndexFunc(tail, func(r rune) bool { return r < ' ' }) < 0
}

// reader reads a journal.
type reader struct {
	reading
	check       func(entry) error
	foreign     error
	segments    numbers
	checkpoints numbers
}

// numbers are those that the entries of one kind have given away, in order.
type numbers struct{ known, lost int }

func (n *numbers) see(number int) {
	if number > n.known {
		*n = numbers{known: number}
	}
}

// highest is the highest number that may have been given away, be the entry readable or not.
func (n numbers) highest() int { return n.known + n.lost }

// line reads a line, or what is between two ends of lines: damage may have taken the end of a sound one.
func (r *reader) line(line []byte) {
	if r.take(line) {
		return
	}
	before := r.damage.Stretches
	for len(line) > 0 {
		piece := line
		if next := bytes.Index(line[1:], []byte(lineBegins)); next >= 0 {
			piece = line[:1+next]
		}
		line = line[len(piece):]
		if !r.take(slices.Concat(bytes.TrimSuffix(piece, []byte("\n")), []byte("\n"))) {
			r.lose(len(piece))
		}
	}
	if r.damage.Stretches == before {
		r.lose(1) // nothing but the end of a line
	}
}

// take reads a line when it is one.
func (r *reader) take(line []byte) bool {
	e, err := parseLine(line)
	if err == nil {
		err = r.check(e)
	}
	if errors.Is(err, errForeign) {
		r.foreign = errors.Join(r.foreign, err)
	}
	if err != nil {
		return false
	}
	r.entries = append(r.entries, e)
	r.lines = append(r.lines, line...)
	if e.Sealed != nil {
		r.segments.see(e.Sealed.Seq)
	}
	if e.Checkpoint != nil {
		r.checkpoints.see(e.Checkpoint.Seq)
	}
	return true
}

func (r *reader) lose(bytes int) {
	entries := 1 + bytes/minLine
	r.damage.Stretches++
	r.damage.Bytes += bytes
	r.segments.lost += entries
	r.checkpoints.lost += entries
}

// A line ends in a checksum of what stands before it. Without one, a flipped bit in a number would be believed.
const sumFormat = `,"crc":"%08x"}`

var (
	sumLen     = len(fmt.Sprintf(sumFormat, 0))
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// appendLine adds an entry as a line of the journal.
func appendLine(lines []byte, e entry) ([]byte, error) {
	text, err := json.Marshal(e)
	if err != nil {
		return lines, err
	}
	return sumLine(lines, text[:len(text)-1]), nil
}

// sumLine adds what a line says, which is a JSON object but for its last brace, with its checksum.
func sumLine(lines, text []byte) []byte {
	lines = append(lines, text...)
	lines = fmt.Appendf(lines, sumFormat, crc32.Checksum(text, castagnoli))
	return append(lines, '\n')
}

// parseLine reads what appendLine made.
func parseLine(line []byte) (entry, error) {
	text := line[:max(0, len(line)-sumLen-1)]
	if !bytes.Equal(line, sumLine(nil, text)) {
		return entry{}, errors.New("the checksum is that of another line")
	}
	var e entry
	if err := json.Unmarshal(line, &e); err != nil {
		return entry{}, err
	}
	return e, nil
}

// journal is an append-only file of entries, one JSON object a line. A crash can cut its end only, which is then as if
// it had not happened.
type journal struct {
	file    *os.File
	good    int64  // length of what is known to be whole
	waiting []byte // lines that the disk has refused so far
}

// openJournal opens a journal behind the good bytes that were read from it.
func openJournal(path string, good int) (*journal, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	return &journal{file: file, good: int64(good)}, nil
}

// add makes an entry durable, together with those that the disk has refused before.
func (j *journal) add(e entry) error {
	lines, err := appendLine(j.waiting, e)
	if err != nil {
		return fmt.Errorf("add to journal: %w", err)
	}
	j.waiting = lines
	if err := j.file.Truncate(j.good); err != nil {
		return fmt.Errorf("add to journal: %w", err)
	}
	if _, err := j.file.WriteAt(j.waiting, j.good); err != nil {
		return fmt.Errorf("add to journal: %w", err)
	}
	if err := j.file.Sync(); err != nil {
		return fmt.Errorf("add to journal: %w", err)
	}
	j.good += int64(len(j.waiting))
	j.waiting = nil
	return nil
}

// addNow is add for what is not done unless it can be noted: when the disk refuses the entry, it is forgotten.
func (j *journal) addNow(e entry) error {
	before := len(j.waiting)
	err := j.add(e)
	if err != nil {
		j.waiting = j.waiting[:min(before, len(j.waiting))]
	}
	return err
}

func (j *journal) close() error { return j.file.Close() }
