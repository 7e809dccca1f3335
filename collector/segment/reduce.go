package segment

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
)

// Reduce writes a sealed segment again, beside it, with every frame cut to its headers. The original lengths stay, so
// that whoever reads it sees what was cut. cut is how many frames became shorter; when none did, nothing is left behind.
//
// The copy is on the disk when Reduce returns, under the hidden name ReducingName: File.Path is the name that its
// digest will give it. The segment itself stays as it is. One whose bytes are not those that its name states is an
// error: a new digest would make damage look like evidence.
func Reduce(path string) (f File, cut uint64, err error) {
	seq, named, ok := ParseName(path)
	if !ok || named == "" {
		return File{}, 0, fmt.Errorf("reduce %s: not the name of a sealed segment", path)
	}
	from, err := os.Open(path)
	if err != nil {
		return File{}, 0, fmt.Errorf("reduce segment %d: %w", seq, err)
	}
	defer from.Close()
	temporary := filepath.Join(filepath.Dir(path), ReducingName(seq))
	to, err := os.OpenFile(temporary, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return File{}, 0, fmt.Errorf("reduce segment %d: %w", seq, err)
	}
	digest := sha256.New()
	w := bufio.NewWriterSize(io.MultiWriter(to, digest), 1<<20)
	holds, cut, err := reduce(w, from, named)
	if err = errors.Join(err, w.Flush()); err == nil && cut > 0 {
		err = to.Sync()
	}
	if err = errors.Join(err, to.Close()); err != nil || cut == 0 {
		err = errors.Join(err, os.Remove(temporary))
	}
	if err == nil && cut > 0 {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return File{}, 0, fmt.Errorf("reduce segment %d: %w", seq, err)
	}
	sum := hex.EncodeToString(digest.Sum(nil))
	return newFile(seq, filepath.Join(filepath.Dir(path), SealedName(seq, sum)), sum, holds), cut, nil
}

// reduce copies a segment whose digest has to be named, and says what the copy holds.
func reduce(w io.Writer, from io.Reader, named string) (holds contents, cut uint64, err error) {
	digest := sha256.New()
	r := bufio.NewReaderSize(io.TeeReader(from, digest), 1<<20)
	buf := make([]byte, recHeaderLen+SnapLen)
	changed := func(what string) error {
		return fmt.Errorf("its bytes are not those with digest %s: %s", named, what)
	}
	if ok, err := fill(r, buf[:fileHeaderLen]); err != nil {
		return contents{}, 0, err
	} else if !ok || !bytes.Equal(buf[:fileHeaderLen], fileHeader) {
		return contents{}, 0, changed("it does not begin as segments do")
	}
	if _, err := w.Write(fileHeader); err != nil {
		return contents{}, 0, err
	}
	for {
		if _, err := r.Peek(1); err == io.EOF {
			break
		}
		if ok, err := fill(r, buf[:recHeaderLen]); err != nil {
			return contents{}, 0, err
		} else if !ok {
			return contents{}, 0, changed("its last record is not whole")
		}
		rec, ok := parseRecord(buf)
		if !ok {
			return contents{}, 0, changed("what follows its records is none")
		}
		frame := buf[recHeaderLen : recHeaderLen+rec.inclLen]
		if ok, err := fill(r, frame); err != nil {
			return contents{}, 0, err
		} else if !ok {
			return contents{}, 0, changed("its last record is not whole")
		}
		if n := headersLen(frame); n < rec.inclLen {
			rec.inclLen = n
			binary.LittleEndian.PutUint32(buf[8:], uint32(n))
			cut++
		}
		if _, err := w.Write(buf[:recHeaderLen+rec.inclLen]); err != nil {
			return contents{}, 0, err
		}
		holds.addRecord(rec)
	}
	if hex.EncodeToString(digest.Sum(nil)) != named {
		return contents{}, 0, changed("its records are others")
	}
	return holds, cut, nil
}

// ReducingName is the name of a copy that Reduce has made, until somebody has noted that it takes the segment's place.
func ReducingName(seq int) string { return fmt.Sprintf(".%06d.pcap.reducing", seq) }

var reducingName = regexp.MustCompile(`^\.([0-9]{6})\.pcap\.reducing$`)

// ParseReducingName reads what ReducingName makes.
func ParseReducingName(path string) (seq int, ok bool) {
	m := reducingName.FindStringSubmatch(filepath.Base(path))
	if m == nil {
		return 0, false
	}
	seq, err := strconv.Atoi(m[1])
	return seq, err == nil && seq >= 1
}

// unknownLen is how much is kept behind the last header that is known: ARP whole, and of a tunnel the headers inside.
const unknownLen = 64

// headersLen is how many bytes of a frame its headers take: Ethernet with any VLAN tags, IP with its options or
// extension headers, and TCP, UDP or ICMP. Of an ICMP message that is no echo, it counts what the message is about.
func headersLen(frame []byte) int {
	at, kind := minFrameLen, binary.BigEndian.Uint16(frame[minFrameLen-2:])
	for kind == 0x8100 || kind == 0x88a8 || kind == 0x9100 { // IEEE 802.1Q, 802.1ad, and stacked tags before it
		if len(frame) < at+4 {
			return len(frame)
		}
		kind = binary.BigEndian.Uint16(frame[at+2:])
		at += 4
	}
	n := unknownLen
	switch packet := frame[at:]; {
	case kind == 0x0800 && len(packet) >= 20 && packet[0]>>4 == 4 && packet[0]&0x0f >= 5:
		n = ipv4HeadersLen(packet)
	case kind == 0x86dd && len(packet) >= 40 && packet[0]>>4 == 6:
		n = ipv6HeadersLen(packet)
	}
	return min(len(frame), at+n)
}

// ipv4HeadersLen is what the headers of a packet take (RFC 791, section 3.1), which may be more than there is of it.
// Only a first fragment has one behind the IP header.
func ipv4HeadersLen(packet []byte) int {
	n := int(packet[0]&0x0f) * 4
	if binary.BigEndian.Uint16(packet[6:])&0x1fff != 0 {
		return n
	}
	return n + upperHeaderLen(packet[9], packet[min(n, len(packet)):])
}

// ipv6HeadersLen is the same for IPv6, with its extension headers (RFC 8200, section 4; IANA, "IPv6 Extension Header
// Types").
func ipv6HeadersLen(packet []byte) int {
	n, next := 40, packet[6]
	for {
		rest := packet[min(n, len(packet)):]
		if len(rest) < 8 { // no extension header is shorter
			return n + upperHeaderLen(next, rest)
		}
		length := (int(rest[1]) + 1) * 8
		switch next {
		case 0, 43, 60, 135, 139, 140: // hop-by-hop and destination options, routing, mobility, HIP, Shim6
		case 51: // authentication (RFC 4302, section 2.2)
			length = (int(rest[1]) + 2) * 4
		case 44: // fragment
			length = 8
			if binary.BigEndian.Uint16(rest[2:])&^7 != 0 {
				return n + length
			}
		default:
			return n + upperHeaderLen(next, rest)
		}
		next = rest[0]
		n += length
	}
}

// upperHeaderLen is the length of the header behind IP, of which the packet holds the bytes in rest.
func upperHeaderLen(protocol byte, rest []byte) int {
	const tcp, udp, icmp = 20, 8, 8
	echo := func(kinds ...byte) int {
		if len(rest) > 0 && bytes.IndexByte(kinds, rest[0]) >= 0 {
			return icmp
		}
		return icmp + unknownLen
	}
	switch protocol { // IANA, "Protocol Numbers"
	case 6:
		if len(rest) >= tcp {
			return max(tcp, int(rest[12]>>4)*4)
		}
		return tcp
	case 17, 136: // UDP and UDP-Lite
		return udp
	case 1:
		return echo(0, 8)
	case 58:
		return echo(128, 129)
	case 59: // IPv6 says that nothing follows
		return 0
	}
	return unknownLen
}
