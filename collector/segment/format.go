// Package segment writes frames into rolling pcap files and digests them as they are written.
package segment

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
)

// The format is pcap with nanosecond timestamps, little-endian (draft-ietf-opsawg-pcap, sections 4 and 5).
const (
	magic         = 0xa1b23c4d
	versionMajor  = 2
	versionMinor  = 4
	linkEthernet  = 1
	fileHeaderLen = 24
	recHeaderLen  = 16
	minFrameLen   = 14 // an Ethernet header

	// SnapLen is what the file header states as the longest record: what tcpdump and Wireshark take at most.
	SnapLen = 262144
)

// fileHeader opens every segment. It never differs, so that a file can be told from one that is no segment.
var fileHeader = func() []byte {
	h := make([]byte, 0, fileHeaderLen)
	h = binary.LittleEndian.AppendUint32(h, magic)
	h = binary.LittleEndian.AppendUint16(h, versionMajor)
	h = binary.LittleEndian.AppendUint16(h, versionMinor)
	h = binary.LittleEndian.AppendUint64(h, 0) // reserved
	h = binary.LittleEndian.AppendUint32(h, SnapLen)
	return binary.LittleEndian.AppendUint32(h, linkEthernet)
}()

// record is what a record's header says.
type record struct {
	at      int64
	inclLen int
	origLen int
}

// parseRecord reads a record's header, and says whether it is one that a writer could have made.
func parseRecord(h []byte) (record, bool) {
	nanos := binary.LittleEndian.Uint32(h[4:])
	r := record{
		at:      int64(binary.LittleEndian.Uint32(h))*1e9 + int64(nanos),
		inclLen: int(binary.LittleEndian.Uint32(h[8:])),
		origLen: int(binary.LittleEndian.Uint32(h[12:])),
	}
	return r, nanos < 1e9 && r.inclLen >= minFrameLen && r.inclLen <= SnapLen && r.origLen >= r.inclLen
}

// contents counts what a run of records holds.
type contents struct {
	bytes       int64 // of the records with their headers
	packets     uint64
	frameBytes  uint64
	truncated   uint64
	first, last int64 // timestamps; 0 without packets
	backwards   int64 // by how much a timestamp lies before the one before it, at most
}

func (c *contents) addRecord(r record) {
	if c.packets == 0 {
		c.first, c.last = r.at, r.at
	}
	c.backwards = max(c.backwards, c.last-r.at)
	c.last = r.at
	c.packets++
	c.bytes += int64(recHeaderLen + r.inclLen)
	c.frameBytes += uint64(r.inclLen)
	if r.inclLen < r.origLen {
		c.truncated++
	}
}

func (c *contents) add(d contents) {
	if d.packets == 0 {
		return
	}
	if c.packets == 0 {
		c.first, c.last = d.first, d.first
	}
	c.backwards = max(c.backwards, d.backwards, c.last-d.first)
	c.last = d.last
	c.packets += d.packets
	c.bytes += d.bytes
	c.frameBytes += d.frameBytes
	c.truncated += d.truncated
}

// wholeRecords counts the whole records at the start of data.
func wholeRecords(data []byte) contents {
	var c contents
	for len(data) >= recHeaderLen {
		r, ok := parseRecord(data)
		if !ok || len(data) < recHeaderLen+r.inclLen {
			break
		}
		c.addRecord(r)
		data = data[recHeaderLen+r.inclLen:]
	}
	return c
}

// maxSeq is the largest number that fits into the six digits of a name.
const maxSeq = 999999

// OpenName is the name of a segment that is still being written: hidden, so that nobody takes it for evidence.
func OpenName(seq int) string { return fmt.Sprintf(".%06d.pcap.open", seq) }

// SealedName is the name of a sealed segment. It carries the digest of the whole file, as the object's key will.
func SealedName(seq int, sha256 string) string { return fmt.Sprintf("%06d-%s.pcap", seq, sha256) }

// NumberedName is the name of a sealed segment without a digest.
func NumberedName(seq int) string { return fmt.Sprintf("%06d.pcap", seq) }

var (
	openName   = regexp.MustCompile(`^\.([0-9]{6})\.pcap\.open$`)
	sealedName = regexp.MustCompile(`^([0-9]{6})-([0-9a-f]{64})\.pcap$`)
)

// ParseName reads what OpenName and SealedName make; sha256 is empty for an open segment. ok is false for every
// other name.
func ParseName(path string) (seq int, sha256 string, ok bool) {
	name := filepath.Base(path)
	m := openName.FindStringSubmatch(name)
	if m == nil {
		m = sealedName.FindStringSubmatch(name)
	}
	if m == nil {
		return 0, "", false
	}
	seq, err := strconv.Atoi(m[1])
	if err != nil || seq < 1 {
		return 0, "", false
	}
	if len(m) == 3 {
		sha256 = m[2]
	}
	return seq, sha256, true
}

var numberedName = regexp.MustCompile(`^([0-9]{6})\.pcap$`)

// Number is the number of the segment of which this is a name, open or sealed, with or without a digest; 0: of none.
func Number(path string) int {
	if seq, _, ok := ParseName(path); ok {
		return seq
	}
	m := numberedName.FindStringSubmatch(filepath.Base(path))
	if m == nil {
		return 0
	}
	seq, err := strconv.Atoi(m[1])
	if err != nil {
		return 0
	}
	return seq
}

// FrameBytes is how many bytes of frames a segment of that size holds, without pcap headers.
func FrameBytes(fileBytes int64, packets uint64) uint64 {
	return uint64(fileBytes-fileHeaderLen) - packets*recHeaderLen
}
