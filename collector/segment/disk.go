package segment

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"time"

	"flashtap/events"
)

// disk is the part of a writer that works on files: it takes buffers in order and never lets the receiving side wait
// for anything but a buffer.
type disk struct {
	w      *Writer
	open   *openFile
	next   int
	retry  time.Time // not before this is a disk that has refused something asked again
	closed chan *openFile
}

// openFile is a segment before it is sealed.
type openFile struct {
	seq    int
	path   string
	file   *os.File
	hash   hash.Hash // nil without a digest
	header bool      // the file header has been written
	holds  contents  // what the file holds behind its header
	synced int64     // up to where the kernel was asked to write it to the disk
}

const (
	// sealBacklog is how many closed segments may wait to be sealed before buffers wait for the disk.
	sealBacklog = 64

	// retryAfter is how long a writer leaves a disk alone that has refused something.
	retryAfter = time.Second
)

// take writes a buffer into the open segment, and accounts for every record in it.
func (d *disk) take(b *buffer) {
	switch {
	case len(b.data) == 0:
	case d.open == nil && !d.begin():
		d.w.account(contents{}, b.holds)
		d.w.unsealed.Add(-b.holds.bytes)
	default:
		d.write(b)
	}
	if b.last && d.open != nil {
		d.put()
	}
}

func (d *disk) write(b *buffer) {
	o := d.open
	err := o.begin()
	n := 0
	if err == nil {
		n, err = o.file.Write(b.data)
	}
	if err == nil {
		o.digest(b.data)
		o.holds.add(b.holds)
		d.w.account(b.holds, contents{})
		o.writeBehind()
		return
	}
	// Keep the whole records that did arrive; the others are lost, and the file is closed behind them.
	kept := wholeRecords(b.data[:n])
	lost := b.holds
	lost.packets -= kept.packets
	lost.frameBytes -= kept.frameBytes
	o.digest(b.data[:kept.bytes])
	o.holds.add(kept)
	d.w.account(kept, lost)
	d.w.unsealed.Add(kept.bytes - b.holds.bytes)
	d.refuse(fmt.Errorf("write segment %d: %w", o.seq, err))
	d.put()
}

// begin writes the header of the file, once.
func (o *openFile) begin() error {
	if o.header {
		return nil
	}
	if _, err := o.file.Write(fileHeader); err != nil {
		return err
	}
	o.header = true
	o.digest(fileHeader)
	return nil
}

// newHash is SHA-256, which S3 can check, with the CPU's own instructions where it has them.
func newHash() hash.Hash { return sha256.New() }

func (o *openFile) digest(data []byte) {
	if o.hash != nil {
		o.hash.Write(data)
	}
}

// begin opens the next segment. A disk that has just refused something is not asked for every buffer.
func (d *disk) begin() bool {
	now := time.Now()
	if now.Before(d.retry) {
		return false
	}
	if d.next > maxSeq {
		d.refuse(fmt.Errorf("open segment %d: a series has at most %d", d.next, maxSeq))
		return false
	}
	path := filepath.Join(d.w.cfg.Dir, OpenName(d.next))
	file, err := create(d.w.cfg.Dir, path)
	if err != nil {
		d.refuse(fmt.Errorf("open segment %d: %w", d.next, err))
		return false
	}
	d.open = &openFile{seq: d.next, path: path, file: file}
	if !d.w.cfg.NoDigest {
		d.open.hash = newHash()
	}
	d.next++
	d.w.unsealed.Add(fileHeaderLen)
	return true
}

// put hands the open segment over to be sealed. One without a frame is removed instead: empty segments are never made.
func (d *disk) put() {
	o := d.open
	d.open = nil
	if o.holds.packets > 0 {
		d.closed <- o
		return
	}
	d.w.unsealed.Add(-fileHeaderLen)
	if err := errors.Join(o.file.Close(), os.Remove(o.path)); err != nil {
		d.refuse(fmt.Errorf("remove empty segment %d: %w", o.seq, err))
		return
	}
	d.next--
}

// finish closes what is open, and removes what was reserved.
func (d *disk) finish() {
	if d.open != nil {
		d.put()
	}
	close(d.closed)
	if err := RemoveSpares(d.w.cfg.Dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		d.w.cfg.Trouble(err)
	}
}

// refuse tells that the disk said no, and leaves it alone for a while.
func (d *disk) refuse(err error) {
	d.retry = time.Now().Add(retryAfter)
	d.w.cfg.Trouble(err)
}

// sealed is what a sealed segment holds.
func (o *openFile) sealed() File {
	name, digest := NumberedName(o.seq), ""
	if o.hash != nil {
		digest = hex.EncodeToString(o.hash.Sum(nil))
		name = SealedName(o.seq, digest)
	}
	return newFile(o.seq, filepath.Join(filepath.Dir(o.path), name), digest, o.holds)
}

func newFile(seq int, path, digest string, holds contents) File {
	f := File{
		Seq: seq, Path: path, SHA256: digest, Bytes: fileHeaderLen + holds.bytes,
		Packets: holds.packets, Truncated: holds.truncated,
		First: time.Unix(0, holds.first).UTC(), Last: time.Unix(0, holds.last).UTC(),
	}
	if holds.backwards > int64(events.OrderTolerance) {
		f.BackwardsNs = min(holds.backwards, events.MaxInteger)
	}
	return f
}
