package evidence

import (
	"encoding/binary"
	"fmt"
	"time"

	"flashtap/events"
)

// The form of a segment (docs/evidence.md, section 3; draft-ietf-opsawg-pcap, sections 4 and 5).
const (
	fileHeaderLen   = 24
	recordHeaderLen = 16
	minFrame        = 14
	snapLen         = 262144
)

var fileHeader = [fileHeaderLen]byte{
	0x4d, 0x3c, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0,
}

// walk follows the records of a segment through chunks of its bytes, in any sizes.
type walk struct {
	packets     uint64
	truncated   uint64
	first, last int64 // nanoseconds since 1970
	backwards   int64
	fault       string // the first thing that is wrong; nothing is parsed behind it

	bytes int64 // seen so far
	skip  int   // bytes of the current frame that are still to come
	head  [fileHeaderLen]byte
	have  int // bytes of head
	begun bool
}

// feed takes the next bytes.
func (w *walk) feed(p []byte) {
	for len(p) > 0 && w.fault == "" {
		if w.skip > 0 {
			step := min(w.skip, len(p))
			w.skip -= step
			p = p[step:]
			w.bytes += int64(step)
			continue
		}
		want := recordHeaderLen
		if !w.begun {
			want = fileHeaderLen
		}
		if w.have == 0 && w.begun {
			if p = w.whole(p); len(p) == 0 {
				break
			}
			if w.fault != "" || w.skip > 0 {
				continue
			}
		}
		step := copy(w.head[w.have:want], p)
		w.have += step
		w.bytes += int64(step)
		p = p[step:]
		if w.have < want {
			break
		}
		w.have = 0
		if !w.begun {
			w.begun = true
			if w.head != fileHeader {
				w.fault = "it does not begin as a segment does"
			}
			continue
		}
		w.header((*[recordHeaderLen]byte)(w.head[:]), w.bytes-recordHeaderLen)
	}
}

// whole takes the records whose headers are whole in p, as fast as it goes, and returns what is left for others: the beginning of a
// header, or nothing when a frame goes on beyond p.
func (w *walk) whole(p []byte) []byte {
	at := 0
	for at+recordHeaderLen <= len(p) {
		if !w.header((*[recordHeaderLen]byte)(p[at:]), w.bytes+int64(at)) {
			w.bytes += int64(at)
			return nil
		}
		next := at + recordHeaderLen + w.skip
		if next > len(p) {
			w.skip = next - len(p)
			w.bytes += int64(len(p))
			return nil
		}
		at = next
		w.skip = 0
	}
	w.bytes += int64(at)
	return p[at:]
}

// header reads the header of a record, and says whether it is one.
func (w *walk) header(h *[recordHeaderLen]byte, at int64) bool {
	seconds, nanos := binary.LittleEndian.Uint32(h[0:]), binary.LittleEndian.Uint32(h[4:])
	incl, orig := binary.LittleEndian.Uint32(h[8:]), binary.LittleEndian.Uint32(h[12:])
	if nanos >= 1e9 || incl < minFrame || incl > snapLen || incl > orig {
		w.fault = fmt.Sprintf("record %d at byte %d is none: nanoseconds %d, incl_len %d, orig_len %d", w.packets+1, at, nanos, incl, orig)
		return false
	}
	stamp := int64(seconds)*1e9 + int64(nanos)
	if w.packets == 0 {
		w.first = stamp
	} else if back := w.last - stamp; back > w.backwards {
		w.backwards = back
	}
	w.last = stamp
	w.packets++
	if incl < orig {
		w.truncated++
	}
	w.skip = int(incl)
	return true
}

// end says what is wrong with the whole file; empty: nothing.
func (w *walk) end() string {
	switch {
	case w.fault != "":
		return w.fault
	case !w.begun:
		return "it is shorter than the header of a segment"
	case w.skip > 0 || w.have > 0:
		return fmt.Sprintf("it ends within record %d", w.packets+uint64(min(1, w.have)))
	}
	return ""
}

// declared is what a segment record has to say of timestamps that run backwards.
func (w *walk) declared() int64 {
	if w.backwards > int64(events.OrderTolerance) {
		return min(w.backwards, maxInteger)
	}
	return 0
}

func moment(ns int64) time.Time { return time.Unix(0, ns).UTC() }
