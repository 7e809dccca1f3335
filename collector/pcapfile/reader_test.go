package pcapfile

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/gopacket/pcapgo"
)

// variant is a kind of pcap file.
type variant struct {
	name  string
	magic uint32
	order binary.AppendByteOrder
	unit  int64
}

var variants = []variant{
	{"microseconds", magicMicro, binary.LittleEndian, 1000},
	{"nanoseconds", magicNano, binary.LittleEndian, 1},
	{"microseconds, big-endian", magicMicro, binary.BigEndian, 1000},
	{"nanoseconds, big-endian", magicNano, binary.BigEndian, 1},
}

// pcapFile is a file of one variant with the given records, whose timestamps are cut to its unit.
func pcapFile(v variant, link uint32, records ...Record) []byte {
	var b []byte
	b = v.order.AppendUint32(b, v.magic)
	b = v.order.AppendUint16(b, 2)
	b = v.order.AppendUint16(b, 4)
	b = append(b, make([]byte, 8)...)
	b = v.order.AppendUint32(b, 262144)
	b = v.order.AppendUint32(b, link)
	for _, r := range records {
		b = v.order.AppendUint32(b, uint32(r.At/1e9))
		b = v.order.AppendUint32(b, uint32(r.At%1e9/v.unit))
		b = v.order.AppendUint32(b, uint32(len(r.Data)))
		b = v.order.AppendUint32(b, uint32(r.Wire))
		b = append(b, r.Data...)
	}
	return b
}

// ngFile builds a pcapng file block by block.
type ngFile struct {
	binary.AppendByteOrder
	bytes []byte
}

func (f *ngFile) block(kind uint32, body ...[]byte) *ngFile {
	joined := bytes.Join(body, nil)
	for len(joined)%4 != 0 {
		joined = append(joined, 0)
	}
	f.bytes = f.AppendUint32(f.bytes, kind)
	f.bytes = f.AppendUint32(f.bytes, uint32(len(joined)+12))
	f.bytes = append(f.bytes, joined...)
	f.bytes = f.AppendUint32(f.bytes, uint32(len(joined)+12))
	return f
}

func (f *ngFile) numbers(values ...any) []byte {
	var b []byte
	for _, v := range values {
		switch v := v.(type) {
		case uint16:
			b = f.AppendUint16(b, v)
		case uint32:
			b = f.AppendUint32(b, v)
		case uint64:
			b = f.AppendUint64(b, v)
		case string:
			b = append(b, v...)
		}
	}
	return b
}

func (f *ngFile) section() *ngFile {
	return f.block(blockSection, f.numbers(uint32(byteOrderMagic), uint16(1), uint16(0), uint64(math.MaxUint64)))
}

func (f *ngFile) iface(link uint16, snaplen uint32, options ...[]byte) *ngFile {
	return f.block(blockInterface, append([][]byte{f.numbers(link, uint16(0), snaplen)}, options...)...)
}

func (f *ngFile) option(code uint16, value []byte) []byte {
	padded := append(bytes.Clone(value), make([]byte, (4-len(value)%4)%4)...)
	return append(f.numbers(code, uint16(len(value))), padded...)
}

func (f *ngFile) packet(iface uint32, ticks uint64, data string, wire int) *ngFile {
	return f.block(blockEnhanced, f.numbers(iface, uint32(ticks>>32), uint32(ticks), uint32(len(data)), uint32(wire), data))
}

func newNG(order binary.AppendByteOrder) *ngFile { return &ngFile{AppendByteOrder: order} }

// readAll is every record of a source, with data that stays, and what ended the reading.
func readAll(src io.Reader) (records []Record, err error) {
	r, err := NewReader(src)
	if err != nil {
		return nil, err
	}
	for {
		rec, err := r.Next()
		if err != nil {
			if _, again := r.Next(); again != err {
				return records, fmt.Errorf("%w, and then %w", err, again)
			}
			if int(r.Records()) != len(records) {
				return records, fmt.Errorf("%w after %d records, but %d are counted", err, len(records), r.Records())
			}
			return records, err
		}
		rec.Data = bytes.Clone(rec.Data)
		records = append(records, rec)
	}
}

func same(t *testing.T, got, want []Record) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i].At != want[i].At || got[i].Wire != want[i].Wire || got[i].Link != want[i].Link || !bytes.Equal(got[i].Data, want[i].Data) {
			t.Fatalf("record %d: %d ns, %d bytes of %d, link type %s; want %d ns, %d of %d, %s", i+1, got[i].At, len(got[i].Data), got[i].Wire, got[i].Link,
				want[i].At, len(want[i].Data), want[i].Wire, want[i].Link)
		}
	}
}

// sampleRecords have lengths around everything that the reader's buffer is made of.
func sampleRecords() []Record {
	random := rand.New(rand.NewPCG(1, 2))
	var records []Record
	for i, n := range []int{0, 1, 60, 1514, 9001, headroom - 17, headroom, headroom + 1, 14, readChunk, 1, readChunk + headroom, 1514, 3 * readChunk, 1514, 0} {
		data := make([]byte, n)
		for j := range data {
			data[j] = byte(random.Uint32())
		}
		records = append(records, Record{At: 1_600_000_000_123_456_000 + int64(i)*1e9, Data: data, Wire: n + i%3*100, Link: Ethernet})
	}
	for i := range 3000 {
		records = append(records, Record{At: int64(i) * 1e6, Data: bytes.Repeat([]byte{byte(i)}, random.IntN(600)), Wire: 700, Link: Ethernet})
	}
	return records
}

func TestReaderReadsEveryVariant(t *testing.T) {
	want := sampleRecords()
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			got, err := readAll(bytes.NewReader(pcapFile(v, 1, want...)))
			if err != io.EOF {
				t.Fatal(err)
			}
			same(t, got, want)
		})
	}
	for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
		t.Run("pcapng, "+order.String(), func(t *testing.T) {
			f := newNG(order).section().iface(1, 0)
			for _, r := range want {
				f.packet(0, uint64(r.At/1000), string(r.Data), r.Wire)
			}
			got, err := readAll(bytes.NewReader(f.bytes))
			if err != io.EOF {
				t.Fatal(err)
			}
			same(t, got, want)
		})
	}
}

// However a source hands over its bytes, the records are the same.
func TestReaderWithAnySource(t *testing.T) {
	want := sampleRecords()
	file := pcapFile(variants[1], 1, want...)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write(file[:len(file)/2])
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	z.Reset(&packed) // members that follow each other are one file (RFC 1952, section 2.2)
	z.Write(file[len(file)/2:])
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for name, source := range map[string]io.Reader{
		"whole chunks":          bytes.NewReader(file),
		"halves":                iotest.HalfReader(bytes.NewReader(file)),
		"the end with the data": iotest.DataErrReader(bytes.NewReader(file)),
		"a pipe":                &portions{file: file, sizes: []int{65536}},
		"odd portions":          &portions{file: file, sizes: []int{1, 3, 4096, 70001, 0, 17}},
		"gzip":                  bytes.NewReader(packed.Bytes()),
		"gzip through a pipe":   &portions{file: packed.Bytes(), sizes: []int{1000}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := readAll(source)
			if err != io.EOF {
				t.Fatal(err)
			}
			same(t, got, want)
		})
	}
	small := pcapFile(variants[0], 1, want[:5]...)
	got, err := readAll(iotest.OneByteReader(bytes.NewReader(small)))
	if err != io.EOF {
		t.Fatal(err)
	}
	same(t, got, want[:5])
}

// portions is a source that hands over so many bytes at a time.
type portions struct {
	file  []byte
	sizes []int
	turn  int
}

func (p *portions) Read(b []byte) (int, error) {
	if len(p.file) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), p.sizes[p.turn%len(p.sizes)])], p.file)
	p.turn++
	p.file = p.file[n:]
	return n, nil
}

// A file cut off anywhere gives every record before, and then says where it ends.
func TestReaderOfCutFiles(t *testing.T) {
	records := []Record{
		{At: 1e9, Data: []byte("first"), Wire: 5, Link: 1}, {At: 2e9, Data: nil, Wire: 0, Link: 1}, {At: 3e9, Data: []byte("the third"), Wire: 9, Link: 1},
	}
	ng := newNG(binary.LittleEndian).section().iface(1, 0)
	ends := map[string][]int{"pcap": {24, 24 + 21, 24 + 21 + 16, 24 + 21 + 16 + 25}, "pcapng": {len(ng.bytes)}}
	for _, r := range records {
		ng.packet(0, uint64(r.At/1000), string(r.Data), r.Wire)
		ends["pcapng"] = append(ends["pcapng"], len(ng.bytes))
	}
	for name, file := range map[string][]byte{"pcap": pcapFile(variants[0], 1, records...), "pcapng": ng.bytes} {
		ends := ends[name]
		for n := range len(file) + 1 {
			whole := 0
			for whole+1 < len(ends) && ends[whole+1] <= n {
				whole++
			}
			got, err := readAll(bytes.NewReader(file[:n]))
			var damage *Error
			switch {
			case n >= ends[0] && n == ends[whole]:
				if err != io.EOF {
					t.Fatalf("%s cut to %d bytes, between records: %v", name, n, err)
				}
			case name == "pcapng" && n == 28: // behind the section header, which is a file of no interfaces
				if err != io.EOF {
					t.Fatalf("pcapng cut behind its section header: %v", err)
				}
			case !errors.As(err, &damage):
				t.Fatalf("%s cut to %d bytes: %v", name, n, err)
			case n < 4:
			case n < ends[0]:
				if !damage.Truncated {
					t.Fatalf("%s cut to %d bytes: %v", name, n, err)
				}
			case !damage.Truncated || damage.Record != uint64(whole+1) || damage.Offset != int64(ends[whole]):
				t.Fatalf("%s cut to %d bytes: %v, %+v", name, n, err, damage)
			}
			same(t, got, records[:len(got)])
			if n >= ends[0] && len(got) != whole {
				t.Fatalf("%s cut to %d bytes: %d records, want %d", name, n, len(got), whole)
			}
		}
	}
}

func TestReaderNamesTheDamage(t *testing.T) {
	le := newNG(binary.LittleEndian)
	ng := func(build func(*ngFile)) []byte {
		f := newNG(binary.LittleEndian).section()
		build(f)
		return f.bytes
	}
	pcap := pcapFile(variants[0], 1, Record{Data: []byte("abc"), Wire: 3})
	long := bytes.Clone(pcap)
	binary.LittleEndian.PutUint32(long[24+8:], MaxRecord+1)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write(pcapFile(variants[0], 1, sampleRecords()[:5]...))
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	wrong := bytes.Clone(packed.Bytes())
	wrong[len(wrong)-5] ^= 1 // of the checksum
	for _, test := range []struct {
		reason string
		file   []byte
		want   string
	}{
		{"nothing", nil, "it is empty"},
		{"two bytes", []byte("ab"), "neither pcap nor pcapng: it has 2 bytes in all"},
		{"text", []byte("hello, world"), "neither pcap nor pcapng: it begins with 68 65 6c 6c"},
		{"zstd", []byte{0x28, 0xb5, 0x2f, 0xfd, 0}, "zstd has compressed"},
		{"header cut", pcap[:23], "the header is cut off: it has 23 bytes of 24"},
		{"a record header cut", pcap[:24+15], "record 1 at byte 24: the file ends within it: its header has 16 bytes, 15 are left"},
		{"a record cut", pcap[:24+18], "record 1 at byte 24: the file ends within it: with its header it has 19 bytes, 18 are left"},
		{"a record that can't be", long, "record 1 at byte 24: it says that it has 16777217 bytes, more than any packet"},
		{"gzip cut", packed.Bytes()[:packed.Len()-20], "the file ends within it"},
		{"gzip of no pcap", gzipped(t, []byte("hello, world")), "neither pcap nor pcapng"},
		{"gzip header cut", packed.Bytes()[:5], "decompress: "},
		{"gzip with a wrong checksum", wrong, "gzip: invalid checksum"},
		{"no section", append([]byte{0x0a, 0x0d, 0x0d, 0x0a}, make([]byte, 24)...), "a section has the byte order 00000000"},
		{"section of another version", le.block(blockSection, le.numbers(uint32(byteOrderMagic), uint16(2), uint16(1), uint64(0))).bytes, "a section of pcapng version 2.1, not 1"},
		{"section too short", newNG(binary.LittleEndian).block(blockSection, le.numbers(uint32(byteOrderMagic))).bytes, "a section header has 16 bytes"},
		{"block length not whole", ng(func(f *ngFile) { f.bytes = append(f.bytes, f.numbers(uint32(6), uint32(33), make64(40))...) }), "a block says that it has 33 bytes"},
		{"block shorter than its lengths", ng(func(f *ngFile) { f.bytes = append(f.bytes, f.numbers(uint32(6), uint32(8), make64(40))...) }), "a block says that it has 8 bytes"},
		{"lengths that differ", ng(func(f *ngFile) { f.block(5, []byte("abcd")); f.bytes[len(f.bytes)-4] = 20 }), "a block says that it has 16 bytes, and at its end 20"},
		{"packet of no interface", ng(func(f *ngFile) { f.packet(0, 0, "a", 1) }), "record 1 at byte 28: it was captured on interface 0, but the file names only 0"},
		{"packet of a later interface", ng(func(f *ngFile) { f.iface(1, 0).packet(1, 0, "a", 1) }), "interface 1, but the file names only 1"},
		{"simple packet of no interface", ng(func(f *ngFile) { f.block(blockSimple, f.numbers(uint32(0))) }), "but the file names none"},
		{"packet longer than its block", ng(func(f *ngFile) {
			f.iface(1, 0).block(blockEnhanced, f.numbers(uint32(0), uint32(0), uint32(0), uint32(9), uint32(9), "abcd"))
		}), "it says that it has 9 bytes, but its block holds 4"},
		{"packet block too short", ng(func(f *ngFile) { f.iface(1, 0).block(blockEnhanced, f.numbers(uint32(0))) }), "a packet block has 16 bytes"},
		{"simple packet block too short", ng(func(f *ngFile) { f.iface(1, 0).block(blockSimple) }), "a packet block has 12 bytes"},
		{"interface block too short", ng(func(f *ngFile) { f.block(blockInterface, f.numbers(uint32(0))) }), "an interface block has 16 bytes"},
		{"a packet that can't be", ng(func(f *ngFile) { f.bytes = append(f.bytes, f.numbers(uint32(6), uint32(MaxRecord+4))...) }), "more than any packet"},
		{"a time that can't be", ng(func(f *ngFile) { f.iface(1, 0).packet(0, math.MaxUint64, "a", 1) }), "its timestamp is beyond"},
	} {
		t.Run(test.reason, func(t *testing.T) {
			_, err := readAll(bytes.NewReader(test.file))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

func make64(n int) string { return strings.Repeat("\x00", n) }

func gzipped(t *testing.T, file []byte) []byte {
	t.Helper()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write(file)
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return packed.Bytes()
}

// What goes wrong with the source is said with the place, and is not taken for the end of the file.
func TestReaderHandsOnTheSourcesError(t *testing.T) {
	broken := errors.New("the disk is gone")
	file := pcapFile(variants[0], 1, sampleRecords()[:4]...)
	for n := range len(file) - 1 {
		if n > 200 && n%97 != 0 {
			continue
		}
		_, err := readAll(io.MultiReader(bytes.NewReader(file[:n]), iotest.ErrReader(broken)))
		if !errors.Is(err, broken) {
			t.Fatalf("after %d bytes: %v", n, err)
		}
	}
	if _, err := readAll(&portions{file: file, sizes: []int{24, 0}}); err != io.EOF {
		t.Errorf("a source that sometimes has nothing: %v", err)
	}
	stuck := &portions{file: file, sizes: []int{0}}
	if _, err := readAll(stuck); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("a source that never has anything: %v", err)
	}
}

func TestReaderOfPcapng(t *testing.T) {
	big := newNG(binary.BigEndian)
	f := newNG(binary.LittleEndian).section()
	f.iface(1, 0)                                                                                   // microseconds
	f.iface(113, 4, f.option(1, []byte("a comment")), f.option(9, []byte{9}), f.numbers(uint32(0))) // nanoseconds
	f.iface(1, 0, f.option(9, []byte{0x80 | 10}), f.option(14, f.numbers(uint64(1_600_000_000))))   // 1/1024 s after 2020-09-13
	f.iface(1, 0, f.option(9, []byte{12}), f.option(14, f.numbers(^uint64(0))))                     // picoseconds, from a second before 1970
	f.packet(0, 1_600_000_000_123_456, "micro", 5)
	f.packet(1, 1_600_000_000_123_456_789, "nano", 400)
	f.packet(2, 512, "binary", 6)
	f.packet(3, 3_000_000_001_999, "pico", 4)
	f.block(5, []byte("statistics of an interface"))
	f.block(4, make([]byte, 300_000)) // names
	f.block(0x0bad, make([]byte, MaxRecord+8))
	f.block(blockPacket, f.numbers(uint16(1), uint16(7), uint32(0), uint32(42), uint32(3), uint32(3), "old"))
	f.block(blockSimple, f.numbers(uint32(6), "simple"))
	big.section().iface(1, 3).packet(0, 7, "other order", 11).block(blockSimple, big.numbers(uint32(9), "cut to 3!"))
	f.bytes = append(f.bytes, big.bytes...)
	want := []Record{
		{At: 1_600_000_000_123_456_000, Data: []byte("micro"), Wire: 5, Link: 1},
		{At: 1_600_000_000_123_456_789, Data: []byte("nano"), Wire: 400, Link: 113},
		{At: 1_600_000_000_500_000_000, Data: []byte("binary"), Wire: 6, Link: 1},
		{At: 2_000_000_001, Data: []byte("pico"), Wire: 4, Link: 1},
		{At: 42, Data: []byte("old"), Wire: 3, Link: 113},
		{Data: []byte("simple"), Wire: 6, Link: 1},
		{At: 7000, Data: []byte("other order"), Wire: 11, Link: 1},
		{Data: []byte("cut"), Wire: 9, Link: 1},
	}
	for name, source := range map[string]io.Reader{"whole": bytes.NewReader(f.bytes), "portions": &portions{file: f.bytes, sizes: []int{1000, 3, 70000}}} {
		t.Run(name, func(t *testing.T) {
			got, err := readAll(source)
			if err != io.EOF {
				t.Fatal(err)
			}
			same(t, got, want)
		})
	}
	if _, err := readAll(bytes.NewReader(f.bytes[:len(f.bytes)-len(big.bytes)-200])); err == io.EOF {
		t.Error("a cut in a long block is not seen")
	}
	cut := newNG(binary.LittleEndian).section().block(0x0bad, make([]byte, MaxRecord+8))
	_, err := readAll(bytes.NewReader(cut.bytes[:len(cut.bytes)-1]))
	var damage *Error
	if !errors.As(err, &damage) || !damage.Truncated || damage.Offset != 28 {
		t.Errorf("a cut in a block that is skipped: %v", err)
	}
}

func TestReaderDoesNotKeepInterfacesWithoutEnd(t *testing.T) {
	f := newNG(binary.LittleEndian).section()
	for range maxInterfaces + 1 {
		f.iface(1, 0)
	}
	if _, err := readAll(bytes.NewReader(f.bytes)); err == nil || !strings.Contains(err.Error(), "more than 65536 interfaces") {
		t.Error(err)
	}
}

func TestClock(t *testing.T) {
	for _, test := range []struct {
		reason     string
		resolution byte
		offset     int64
		ticks      uint64
		want       int64
		ok         bool
	}{
		{"seconds", 0, 0, 1_600_000_000, 1_600_000_000e9, true},
		{"seconds beyond 2262", 0, 0, 9_223_372_037, 0, false},
		{"milliseconds", 3, 0, 1_600_000_000_123, 1_600_000_000_123e6, true},
		{"the last nanosecond", 9, 0, math.MaxInt64, math.MaxInt64, true},
		{"one more", 9, 0, math.MaxInt64 + 1, 0, false},
		{"picoseconds are cut", 12, 0, 1999, 1, true},
		{"the finest that 64 bits can divide by", 28, 0, math.MaxUint64, 1, true},
		{"finer", 29, 0, math.MaxUint64, 0, true},
		{"the finest", 127, 0, math.MaxUint64, 0, true},
		{"whole seconds as a power of 2", 0x80, 0, 7, 7e9, true},
		{"1/2^32 s, as NTP counts", 0x80 | 32, 0, 1600000000<<32 | 1<<31, 1_600_000_000_500_000_000, true},
		{"1/2^63 s", 0x80 | 63, 0, 1 << 63, 1e9, true},
		{"1/2^64 s", 0x80 | 64, 0, 1 << 63, 5e8, true},
		{"1/2^127 s", 0xff, 0, math.MaxUint64, 0, true},
		{"after an offset", 6, 1_600_000_000, 1, 1_600_000_000_000_001_000, true},
		{"before 1970", 6, -2, 1, -1_999_999_000, true},
		{"an offset beyond 2262", 6, math.MaxInt64, 0, 0, false},
		{"an offset that carries beyond 2262", 9, 9_223_372_036, 854_775_808, 0, false},
		{"the last nanosecond by an offset", 9, 9_223_372_036, 854_775_807, math.MaxInt64, true},
		{"long before 1970", 9, math.MinInt64, 0, 0, false},
	} {
		c := newClock(test.resolution, test.offset)
		if got, ok := c.time(test.ticks); got != test.want && ok || ok != test.ok {
			t.Errorf("%s: %d, %t; want %d, %t", test.reason, got, ok, test.want, test.ok)
		}
	}
}

func TestReaderAllocatesNothingForARecord(t *testing.T) {
	records := make([]Record, 2000)
	for i := range records {
		records[i] = Record{Data: make([]byte, 300), Wire: 300}
	}
	ng := newNG(binary.LittleEndian).section().iface(1, 0)
	for _, r := range records {
		ng.packet(0, 1, string(r.Data), r.Wire)
	}
	for name, file := range map[string][]byte{"pcap": pcapFile(variants[0], 1, records...), "pcapng": ng.bytes} {
		r, err := NewReader(bytes.NewReader(file))
		if err != nil {
			t.Fatal(err)
		}
		w := NewWriter(io.Discard)
		allocs := testing.AllocsPerRun(1900, func() {
			if rec, err := r.Next(); err != nil || w.Write(rec.At, rec.Data, rec.Wire) != nil {
				t.Fatal("no record")
			}
		})
		if allocs != 0 {
			t.Errorf("%s: %v allocations a record, want 0", name, allocs)
		}
	}
}

// A long record does not make the buffer grow for each that follows, and a damaged length does not fill the memory.
func TestReaderMemory(t *testing.T) {
	r, err := NewReader(bytes.NewReader(pcapFile(variants[0], 1, sampleRecords()...)))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = r.Next()
	}
	if err != io.EOF || len(r.buf) > 2*(3*readChunk)+readChunk {
		t.Errorf("%v; the buffer has %d bytes", err, len(r.buf))
	}
	long := pcapFile(variants[0], 1, Record{Data: []byte("abc"), Wire: 3})
	binary.LittleEndian.PutUint32(long[24+8:], MaxRecord)
	if r, err = NewReader(bytes.NewReader(long)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Next(); err == io.EOF || len(r.buf) > 2*MaxRecord+readChunk {
		t.Errorf("%v; the buffer has %d bytes", err, len(r.buf))
	}
}

// gopacket and the reference read the same out of files made by others.
func TestReaderOnFilesOfOthers(t *testing.T) {
	files, err := filepath.Glob("testdata/*.pcap*")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range append(files, sharedFiles(t)...) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			body, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			judge(t, body)
			got, ended := readAll(bytes.NewReader(body))
			if pcapgo := readWithGopacket(body); ended == io.EOF && pcapgo != nil {
				for i := range got {
					got[i].Link = pcapgo[min(i, len(pcapgo)-1)].Link // pcapgo does not say it for each record
				}
				same(t, got, pcapgo)
			}
		})
	}
}

// sharedFiles are the captures beside the project, where they are.
func sharedFiles(t *testing.T) []string {
	t.Helper()
	var files []string
	for _, pattern := range []string{"pcap/inner/*", "pcap/outer/*", "pcap/malformed/*", "pcap/formats/*", "vxlan/*"} {
		found, err := filepath.Glob("../../../shared/data/" + pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	if len(files) == 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("../shared/data is missing")
		}
		t.Log("../shared/data is not there: only the files of testdata are read")
	}
	return files
}

// readWithGopacket is nil when gopacket can't read the file.
func readWithGopacket(body []byte) []Record {
	var next func() (Record, error)
	if ng, err := pcapgo.NewNgReader(bytes.NewReader(body), pcapgo.NgReaderOptions{WantMixedLinkType: true}); err == nil {
		next = func() (Record, error) {
			data, info, err := ng.ReadPacketData()
			return Record{At: info.Timestamp.UnixNano(), Data: data, Wire: info.Length}, err
		}
	} else if r, err := pcapgo.NewReader(bytes.NewReader(body)); err == nil {
		next = func() (Record, error) {
			data, info, err := r.ReadPacketData()
			return Record{At: info.Timestamp.UnixNano(), Data: data, Wire: info.Length}, err
		}
	} else {
		return nil
	}
	records := []Record{}
	for {
		rec, err := next()
		if err == io.EOF {
			return records
		}
		if err != nil {
			return nil
		}
		records = append(records, rec)
	}
}

// judge compares what is read of a file with the reference.
func judge(t *testing.T, file []byte) {
	t.Helper()
	want, sound := reference(file)
	for name, source := range map[string]io.Reader{"whole": bytes.NewReader(file), "in portions": &portions{file: file, sizes: []int{7, 1, 100_000}}} {
		got, err := readAll(source)
		if sound != (err == io.EOF) {
			t.Fatalf("%s: %v after %d records; sound: %t", name, err, len(got), sound)
		}
		if len(got) != len(want) {
			t.Fatalf("%s: %d records, want %d: %v", name, len(got), len(want), err)
		}
		for i, rec := range got {
			if rec.At != want[i].at.Int64() || string(rec.Data) != want[i].data || rec.Wire != want[i].wire || int(rec.Link) != want[i].link {
				t.Fatalf("%s: record %d is %d ns, %d of %d bytes, link %d; want %v ns, %d of %d, %d", name, i+1, rec.At, len(rec.Data), rec.Wire, rec.Link,
					want[i].at, len(want[i].data), want[i].wire, want[i].link)
			}
		}
	}
}

func FuzzReader(f *testing.F) {
	records := []Record{{At: 1e9, Data: []byte("first"), Wire: 5}, {At: 2e9, Data: nil, Wire: 0}, {At: 3e9, Data: []byte("the third"), Wire: 90}}
	for _, v := range variants {
		f.Add(pcapFile(v, 1, records...))
	}
	for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
		ng := newNG(order).section().iface(1, 0)
		ng.iface(113, 4, ng.option(9, []byte{0x80 | 10}), ng.option(14, ng.numbers(uint64(7))), ng.numbers(uint32(0)))
		ng.packet(0, 12, "first", 5).packet(1, 13, "second", 6).block(5, []byte("abc")).block(blockSimple, ng.numbers(uint32(9), "simple"))
		ng.block(blockPacket, ng.numbers(uint16(1), uint16(0), uint32(0), uint32(42), uint32(3), uint32(3), "old"))
		f.Add(ng.bytes)
	}
	files, err := filepath.Glob("testdata/*.pcap*")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		body, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		if len(file) > 1 && file[0] == 0x1f && file[1] == 0x8b {
			readAll(bytes.NewReader(file)) // whatever it is, it must end
			return
		}
		judge(t, file)
	})
}
