package spool

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"flashtap/events"
)

// entry is one line of the journal: what has become true, and when. Exactly one field besides At is set.
type entry struct {
	At         time.Time         `json:"at"`
	Begin      *beginning        `json:"begin,omitempty"`
	Resume     bool              `json:"resume,omitempty"` // a restart has found this spool
	Sealed     *events.Segment   `json:"sealed,omitempty"`
	Checkpoint *checkpointRecord `json:"checkpoint,omitempty"`
	Confirmed  string            `json:"confirmed,omitempty"` // key of an object that the store has
	Remark     string            `json:"remark,omitempty"`
	Stop       string            `json:"stop,omitempty"`     // why capturing ended
	Manifest   string            `json:"manifest,omitempty"` // SHA-256 of the closing manifest
}

// beginning is the first line of every journal.
type beginning struct {
	Version int              `json:"version"`
	Capture events.CaptureID `json:"capture"`
	UserID  string           `json:"userId"`
}

type checkpointRecord struct {
	Seq    int          `json:"seq"`
	SHA256 string       `json:"sha256"`
	Tally  events.Tally `json:"tally"`
}

// journal is an append-only file of entries, one JSON object a line. A crash can cut its last line only, which is
// then as if it had not happened.
type journal struct {
	file    *os.File
	good    int64  // length of what is known to be whole
	waiting []byte // lines that the disk has refused so far
}

// openJournal opens the journal and returns the entries it holds.
func openJournal(path string) (*journal, []entry, error) {
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("read journal: %w", err)
	}
	whole := data[:bytes.LastIndexByte(data, '\n')+1]
	var entries []entry
	for line := range bytes.Lines(whole) {
		var e entry
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, nil, fmt.Errorf("read journal %s, entry %d: %w", path, len(entries)+1, err)
		}
		entries = append(entries, e)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("open journal: %w", err)
	}
	return &journal{file: file, good: int64(len(whole))}, entries, nil
}

// add makes an entry durable, together with those that the disk has refused before.
func (j *journal) add(e entry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("add to journal: %w", err)
	}
	j.waiting = append(append(j.waiting, line...), '\n')
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

func (j *journal) close() error { return j.file.Close() }
