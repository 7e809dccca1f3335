package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/fnv"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
)

// index says which parts of a segment can hold what is asked for.
type index struct {
	Version int    `json:"version"`
	SHA256  string `json:"sha256"` // of the segment
	Parts   []part `json:"parts"`
}

// part is a run of whole records.
type part struct {
	Offset  int64    `json:"offset"`
	Bytes   int64    `json:"bytes"`
	Least   int64    `json:"least"` // of its timestamps, nanoseconds since 1970
	Most    int64    `json:"most"`
	Ends    []uint32 `json:"ends"`    // hashes of the addresses in it, ascending
	Crowded bool     `json:"crowded"` // there were too many
}

const (
	indexVersion = 1
	partBytes    = 1 << 20
	mostEnds     = 4096
)

// holds says whether a part can hold packets that are wanted.
func (p part) holds(w wish) bool {
	if !w.to.IsZero() && p.Least >= w.to.UnixNano() || !w.from.IsZero() && p.Most < w.from.UnixNano() {
		return false
	}
	if len(w.flows) == 0 || p.Crowded {
		return true
	}
	has := func(addr netip.Addr) bool {
		if !addr.IsValid() {
			return true
		}
		_, found := slices.BinarySearch(p.Ends, hashOf(addr))
		return found
	}
	return slices.ContainsFunc(w.flows, func(f flow) bool { return has(f.a.addr) && has(f.b.addr) })
}

func hashOf(addr netip.Addr) uint32 {
	h := fnv.New32a()
	h.Write(addr.AsSlice())
	return h.Sum32()
}

// loadIndex reads the index of a segment; nil when there is none that is any good.
func loadIndex(path, digest string) *index {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var i index
	if json.Unmarshal(text, &i) != nil || i.Version != indexVersion || i.SHA256 != digest {
		return nil
	}
	return &i
}

// records opens a section: the parts of it that its index leaves, or all of it, of which an index is made then. It is nil when
// there is nothing to read.
func (c *carver) records(s section) (*recordReader, error) {
	r := &recordReader{ctx: c.ctx, carver: c, section: s}
	if path := c.indexPath(s); path != "" {
		if known := loadIndex(path, s.digest); known != nil {
			for _, p := range known.Parts {
				if !p.holds(c.wish) {
					continue
				}
				if n := len(r.runs); n > 0 && r.runs[n-1][1] == p.Offset {
					r.runs[n-1][1] += p.Bytes
					continue
				}
				r.runs = append(r.runs, [2]int64{p.Offset, p.Offset + p.Bytes})
			}
			if len(r.runs) == 0 {
				return nil, nil
			}
			c.answer.note("of segments whose index was there, only parts were read, and their digests were not checked again")
			return r, nil
		}
	}
	r.all = true
	r.runs = [][2]int64{{0, -1}}
	r.sum = sha256.New()
	return r, nil
}

func (a *carving) note(text string) {
	if !slices.Contains(a.Notes, text) {
		a.Notes = append(a.Notes, text)
	}
}

// recordReader reads the records of one section.
type recordReader struct {
	ctx     context.Context
	carver  *carver
	section section
	runs    [][2]int64 // offsets that are still to be read; -1: the end

	in     io.ReadCloser
	buf    *bufio.Reader
	at     int64 // offset of what comes next
	until  int64
	head   [16]byte
	frame  []byte
	parsed packet

	all   bool // the whole segment is read: digested, and an index made of it
	sum   hash.Hash
	index index
	ends  map[uint32]bool
}

func (r *recordReader) close() {
	if r.in != nil {
		_ = r.in.Close() // it was only read from
		r.in = nil
	}
}

// next is the next record. Its frame is valid until the following call.
func (r *recordReader) next() (at int64, frame []byte, wire int, err error) {
	for r.in == nil || r.until >= 0 && r.at >= r.until {
		r.close()
		if len(r.runs) == 0 {
			return 0, nil, 0, io.EOF
		}
		if err := r.open(); err != nil {
			return 0, nil, 0, err
		}
	}
	start := r.at
	switch err := r.fill(r.head[:]); {
	case err == io.EOF && r.all:
		r.close()
		r.runs = nil
		if err := r.finish(); err != nil {
			return 0, nil, 0, err
		}
		return 0, nil, 0, io.EOF
	case err != nil:
		return 0, nil, 0, r.wrong(start, err)
	}
	seconds, nanos := binary.LittleEndian.Uint32(r.head[0:]), binary.LittleEndian.Uint32(r.head[4:])
	incl, orig := int(binary.LittleEndian.Uint32(r.head[8:])), int(binary.LittleEndian.Uint32(r.head[12:]))
	if nanos >= 1e9 || incl < etherHeaderLen || incl > 262144 || incl > orig {
		return 0, nil, 0, r.wrong(start, errors.New("this is no record"))
	}
	if cap(r.frame) < incl {
		r.frame = make([]byte, incl)
	}
	r.frame = r.frame[:incl]
	if err := r.fill(r.frame); err != nil {
		return 0, nil, 0, r.wrong(start, err)
	}
	at = int64(seconds)*1e9 + int64(nanos)
	if r.all {
		r.note(start, at)
	}
	return at, r.frame, orig, nil
}

func (r *recordReader) wrong(at int64, err error) error {
	if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("it ends within a record")
	}
	if r.ctx.Err() != nil {
		return r.ctx.Err()
	}
	return fmt.Errorf("read %s at byte %d: %w", r.section.name, at, err)
}

// open begins the next run.
func (r *recordReader) open() error {
	run := r.runs[0]
	r.runs = r.runs[1:]
	in, err := r.carver.at.Open(r.ctx, r.section.name, run[0])
	if err != nil {
		return err
	}
	r.in, r.at, r.until = in, run[0], run[1]
	var limited io.Reader = in
	if run[1] >= 0 {
		limited = io.LimitReader(in, run[1]-run[0])
	}
	if r.buf == nil {
		r.buf = bufio.NewReaderSize(limited, 256<<10)
	} else {
		r.buf.Reset(limited)
	}
	if !r.all {
		return nil
	}
	r.index = index{Version: indexVersion, SHA256: r.section.digest, Parts: []part{}}
	r.ends = map[uint32]bool{}
	var header [24]byte
	if err := r.fill(header[:]); err != nil {
		return r.wrong(0, err)
	}
	if binary.LittleEndian.Uint32(header[:]) != 0xa1b23c4d {
		return r.wrong(0, errors.New("this is no segment"))
	}
	return nil
}

// fill reads all of p. io.EOF means that there was nothing.
func (r *recordReader) fill(p []byte) error {
	n, err := io.ReadFull(r.buf, p)
	r.at += int64(n)
	r.carver.answer.BytesRead += int64(n)
	r.carver.meter.at(r.carver.answer.BytesRead, r.carver.total)
	if r.sum != nil {
		r.sum.Write(p[:n])
	}
	return err
}

// note adds a record to the index.
func (r *recordReader) note(offset, at int64) {
	n := len(r.index.Parts)
	if n == 0 || r.index.Parts[n-1].Bytes >= partBytes {
		r.seal()
		r.index.Parts = append(r.index.Parts, part{Offset: offset, Least: at, Most: at})
		n = len(r.index.Parts)
	}
	p := &r.index.Parts[n-1]
	p.Bytes = r.at - p.Offset
	p.Least, p.Most = min(p.Least, at), max(p.Most, at)
	if p.Crowded {
		return
	}
	if parsePacket(r.frame, &r.parsed); r.parsed.ip {
		r.ends[hashOf(r.parsed.source)], r.ends[hashOf(r.parsed.target)] = true, true
		p.Crowded = len(r.ends) > mostEnds
	}
}

// seal closes the last part.
func (r *recordReader) seal() {
	if n := len(r.index.Parts); n > 0 {
		p := &r.index.Parts[n-1]
		p.Ends = []uint32{}
		if !p.Crowded {
			for h := range r.ends {
				p.Ends = append(p.Ends, h)
			}
			slices.Sort(p.Ends)
		}
	}
	clear(r.ends)
}

// finish checks the digest of what was read to its end, and keeps the index.
func (r *recordReader) finish() error {
	if got := hex.EncodeToString(r.sum.Sum(nil)); got != r.section.digest {
		return problem{exitBroken, fmt.Errorf("%s has the digest %s, not %s", r.section.name, got, r.section.digest), "flashtap verify tells all that is wrong"}
	}
	r.seal()
	path := r.carver.indexPath(r.section)
	if path == "" {
		return nil
	}
	text, err := json.Marshal(r.index)
	if err != nil {
		return err
	}
	// Without an index the next question takes longer, and that is all.
	err = os.MkdirAll(filepath.Dir(path), 0o777)
	if err == nil {
		err = os.WriteFile(path+partSuffix, text, 0o666)
	}
	if err == nil {
		err = os.Rename(path+partSuffix, path)
	}
	if err != nil {
		r.carver.answer.note(fmt.Sprintf("the index of segments could not be kept: %v", err))
	}
	return nil
}
