package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"flashtap/collector/pcapfile"
	"flashtap/collector/vxlan"
)

// runDecap is one run of the command: the exit code, the tally if there is one, and what was said on standard error.
func runDecap(t *testing.T, args ...string) (code int, tally decapTally, said string) {
	t.Helper()
	var out, complaint bytes.Buffer
	tool := &tool{in: strings.NewReader(""), out: &out, err: &complaint, getenv: func(string) string { return "" }}
	code = tool.run(t.Context(), append([]string{"decap", "--output", "json"}, args...))
	if out.Len() > 0 {
		if err := json.Unmarshal(out.Bytes(), &tally); err != nil {
			t.Fatalf("%v: %s", err, out.String())
		}
		fates := tally.Written
		for _, f := range tally.leftOut() {
			fates += f.count
		}
		if fates != tally.Records {
			t.Errorf("%d records have %d fates: %s", tally.Records, fates, out.String())
		}
		var frames uint64
		for _, v := range tally.VNIs {
			frames += v.Frames
		}
		if frames+tally.OtherVNIs != tally.Written+tally.ForeignVNI {
			t.Errorf("the VNIs have %d frames in all: %s", frames+tally.OtherVNIs, out.String())
		}
	}
	return code, tally, complaint.String()
}

// Files made by others give what golden.txt says, which an independent program has found right.
func TestDecapOfFilesOfOthers(t *testing.T) {
	files, err := filepath.Glob("testdata/decap/*.pcap*")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	var got strings.Builder
	for _, file := range files {
		out := filepath.Join(t.TempDir(), "inner.pcap")
		code, tally, said := runDecap(t, file, out)
		digest := "no file"
		if body, err := os.ReadFile(out); err == nil {
			digest = fmt.Sprintf("%x", sha256.Sum256(body))
		}
		fmt.Fprintf(&got, "%s\n  exit %d, %s\n", filepath.Base(file), code, digest)
		if said != "" {
			fmt.Fprintf(&got, "  %s\n", strings.TrimSpace(said))
		}
		if tally.Records > 0 {
			tally.In, tally.Out = filepath.Base(tally.In), filepath.Base(tally.Out)
			fmt.Fprintf(&got, "  %s\n", strings.ReplaceAll(strings.TrimSpace(tally.text()), "\n", "\n  "))
		}
	}
	const golden = "testdata/decap/golden.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
}

// Whatever the file is, the command ends with a code that it documents, every record has a fate, and what it wrote is a
// capture of so many frames.
func FuzzDecapFile(f *testing.F) {
	files, err := filepath.Glob("testdata/decap/*.pcap*")
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
	f.Add(damagedFrames(30))
	f.Fuzz(func(t *testing.T, file []byte) {
		var out, complaint bytes.Buffer
		tool := &tool{in: bytes.NewReader(file), out: &out, err: &complaint}
		code := tool.run(t.Context(), []string{"decap", "-", "-", "--output", "json"})
		if code != exitOK && code != exitFailed {
			t.Fatalf("exit code %d: %s", code, complaint.String())
		}
		var tally decapTally
		if err := json.NewDecoder(&complaint).Decode(&tally); err != nil {
			t.Fatal(err)
		}
		fates := tally.Written
		for _, f := range tally.leftOut() {
			fates += f.count
		}
		if fates != tally.Records {
			t.Errorf("%d records have %d fates: %+v", tally.Records, fates, tally)
		}
		if out.Len() == 0 {
			return
		}
		r, err := pcapfile.NewReader(&out)
		for err == nil {
			_, err = r.Next()
		}
		if err != io.EOF || r.Records() != tally.Written {
			t.Errorf("%v after %d frames of %d", err, r.Records(), tally.Written)
		}
	})
}

// The oracle is a program of other people in another language, which reads the same captures frame by frame.
const oracleDir = "../../../shared/tools"

// needsOracle skips where the oracle is not there, or what it needs.
func needsOracle(t *testing.T) {
	t.Helper()
	for _, missing := range []func() error{
		func() error { _, err := os.Stat(oracleDir); return err },
		func() error { _, err := exec.LookPath("python3"); return err },
		func() error { _, err := exec.LookPath("bash"); return err },
	} {
		if err := missing(); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal(err)
			}
			t.Skipf("the oracle can't run: %v", err)
		}
	}
}

func TestDecapAgreesWithTheOracle(t *testing.T) {
	needsOracle(t)
	for _, set := range []struct {
		pattern string
		whole   bool // have other programs read the output, too
	}{{"vxlan/*.pcap", false}, {"pcap/outer/*", true}, {"pcap/malformed/*", false}, {"pcap/formats/*", false}} {
		files, err := filepath.Glob("../../../shared/data/" + set.pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: no files, %v", set.pattern, err)
		}
		for _, file := range files {
			t.Run(filepath.Base(file), func(t *testing.T) {
				out := filepath.Join(t.TempDir(), "inner.pcap")
				code, tally, said := runDecap(t, file, out)
				if strings.Contains(said, "its link type is ") {
					return // the oracle finds nothing in it either, for that reason
				}
				if code != exitOK {
					t.Fatalf("exit code %d: %s", code, said)
				}
				command := exec.Command("python3", oracleDir+"/oracle/oracle.py", "compare", file, out, "--geneve", "--orig-len", "--ts", "exact")
				if set.whole && tally.Written > 0 {
					command = exec.Command("bash", oracleDir+"/oracle.sh", file, out, "--geneve", "--orig-len", "--ts", "exact")
					if tally.Written != tally.Records || strings.Contains(file, "ipv6-vxlan") {
						// Wireshark's own cut, 50 bytes off each, is no comparison here.
						command.Args = append(command.Args, "--max-missing", "0")
					}
				}
				if verdict, err := command.CombinedOutput(); err != nil {
					t.Errorf("%v\n%s", err, verdict)
				}
			})
		}
	}
}

// Frames in every shape, each damaged somewhere, and cut as captures cut: the oracle finds the same in them.
func TestDecapOfDamagedFramesAgreesWithTheOracle(t *testing.T) {
	needsOracle(t)
	dir := t.TempDir()
	in, out, expected := filepath.Join(dir, "outer.pcap"), filepath.Join(dir, "inner.pcap"), filepath.Join(dir, "expected.pcap")
	writeFile(t, in, damagedFrames(20_000))
	code, tally, said := runDecap(t, in, out)
	if code != exitOK || tally.Written < 5000 || tally.Truncated < 500 || tally.Cut < 500 || tally.Malformed.Runt < 10 {
		t.Fatalf("exit code %d, %+v: %s", code, tally, said)
	}
	if verdict, err := exec.Command("python3", oracleDir+"/oracle/oracle.py", "expect", in, expected, "--geneve").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, verdict)
	}
	got, want := recordsOf(t, out), recordsOf(t, expected)
	n := 0
	for _, w := range want {
		if w.Wire < 14 {
			continue // the oracle has no opinion on what is too short for a frame
		}
		if n == len(got) || !reflect.DeepEqual(got[n], w) {
			t.Fatalf("frame %d of %d is %+v, want %+v", n+1, len(got), got[min(n, len(got)-1)], w)
		}
		n++
	}
	if n != len(got) {
		t.Errorf("%d frames more than the %d that the oracle finds", len(got)-n, n)
	}
}

// damagedFrames is a capture of frames in every shape, of which most are damaged in a byte or two.
func damagedFrames(n int) []byte {
	random := rand.New(rand.NewPCG(7, 11))
	shapes := [][]byte{
		plainFrame(60), plainFrame(14), plainFrame(700),
		taggedFrame(plainFrame(60), 0x8100), taggedFrame(taggedFrame(plainFrame(60), 0x8100), 0x88a8),
		append(plainFrame(20), 0, 0, 0, 0, 0), ipv6Frame(60), ipv6Frame(60, 0, 60, 43), ipv6Frame(60, 44),
		geneveFrame(plainFrame(60), 0x6558), geneveFrame(plainFrame(60)[14:], 0x0800), geneveFrame(ipv6Frame(60)[14:], 0x86dd),
	}
	var file bytes.Buffer
	w := pcapfile.NewWriter(&file)
	for i := range n {
		shape := random.IntN(len(shapes))
		frame := bytes.Clone(shapes[shape])
		for range random.IntN(3) {
			at := random.IntN(min(len(frame), 110))
			if shape >= len(shapes)-3 && (at == 16 || at == 17 || at == 38 || at == 39) {
				continue // the oracle does not look at the lengths of the headers around GENEVE
			}
			frame[at] = []byte{0, 1, 7, 16, 17, 44, 0x40, 0x45, 0x80, 0xff, byte(random.Uint32())}[random.IntN(11)]
		}
		wire := len(frame)
		if random.IntN(4) == 0 {
			frame = frame[:random.IntN(len(frame)+1)]
		}
		if err := w.Write(1_600_000_000_000_000_000+int64(i)*997, frame, wire); err != nil {
			panic(err)
		}
	}
	if err := w.Flush(); err != nil {
		panic(err)
	}
	return file.Bytes()
}

// plainFrame carries a frame of n bytes over IPv4, as Traffic Mirroring does, under VNI 42 from 10.1.2.3.
func plainFrame(n int) []byte {
	frame := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00,
		0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 1, 2, 3, 10, 9, 8, 7}
	frame = append(frame, vxlanDatagram(n)...)
	binary.BigEndian.PutUint16(frame[16:], uint16(len(frame)-14))
	return frame
}

func vxlanDatagram(n int) []byte {
	datagram := append([]byte{0xc3, 0x50, 0x12, 0xb5, 0, 0, 0, 0, 0x08, 0, 0, 0, 0, 0, 42, 0}, bytes.Repeat([]byte{0xab}, n)...)
	binary.BigEndian.PutUint16(datagram[4:], uint16(len(datagram)))
	return datagram
}

// ipv6Frame is plainFrame over IPv6, with extension headers of these numbers.
func ipv6Frame(n int, extensions ...byte) []byte {
	frame := append([]byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd, 0x60}, make([]byte, 39)...)
	next := 14 + 6
	for _, number := range extensions {
		frame[next] = number
		next = len(frame)
		frame = append(frame, make([]byte, 8)...)
	}
	frame[next] = 17
	frame = append(frame, vxlanDatagram(n)...)
	binary.BigEndian.PutUint16(frame[18:], uint16(len(frame)-54))
	return frame
}

func taggedFrame(frame []byte, tag uint16) []byte {
	tagged := binary.BigEndian.AppendUint16(bytes.Clone(frame[:12]), tag)
	return append(append(tagged, 0, 7), frame[12:]...)
}

// geneveFrame is what a Gateway Load Balancer makes of a packet.
func geneveFrame(packet []byte, protocol uint16) []byte {
	frame := plainFrame(0)[:42]
	frame[36], frame[37] = 0x17, 0xc1
	frame = append(frame, 1, 0)
	frame = binary.BigEndian.AppendUint16(frame, protocol)
	frame = append(frame, 0, 0, 0, 0, 0x01, 0x08, 1, 0)
	frame = append(frame, packet...)
	binary.BigEndian.PutUint16(frame[16:], uint16(len(frame)-14))
	binary.BigEndian.PutUint16(frame[38:], uint16(len(frame)-34))
	return frame
}

func recordsOf(t *testing.T, path string) []pcapfile.Record {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r, err := pcapfile.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	var records []pcapfile.Record
	for {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			return records
		}
		if err != nil {
			t.Fatal(err)
		}
		rec.Data = bytes.Clone(rec.Data)
		records = append(records, rec)
	}
}

// capture is a file of frames.
func capture(frames ...[]byte) []byte {
	var file bytes.Buffer
	w := pcapfile.NewWriter(&file)
	for i, frame := range frames {
		if err := w.Write(int64(i), frame, len(frame)); err != nil {
			panic(err)
		}
	}
	if err := w.Flush(); err != nil {
		panic(err)
	}
	return file.Bytes()
}

func writeFile(t *testing.T, path string, body []byte) {
	t.Helper()
	if err := os.WriteFile(path, body, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Each fate is reached by a record of its own.
func TestDecapTellsEveryFate(t *testing.T) {
	change := func(frame []byte, at int, with ...byte) []byte {
		copy(frame[at:], with)
		return frame
	}
	frames := [][]byte{
		plainFrame(60), geneveFrame(ipv6Frame(60)[14:], 0x86dd),
		change(plainFrame(60), 48, 43), // VNI 43
		change(plainFrame(60), 29, 9),  // from 10.1.2.9
		change(plainFrame(60), 12, 0x08, 0x06), change(plainFrame(60), 23, 6), change(plainFrame(60), 36, 0, 53),
		geneveFrame(plainFrame(60), 0x894f),
		change(plainFrame(60), 20, 0x20), change(plainFrame(60), 14, 0x44), change(plainFrame(60), 42, 0), plainFrame(13),
	}
	var file bytes.Buffer
	w := pcapfile.NewWriter(&file)
	for i, frame := range frames {
		if err := w.Write(int64(i), frame, len(frame)); err != nil {
			t.Fatal(err)
		}
	}
	for _, kept := range []int{49, 50, 55} {
		if err := w.Write(0, plainFrame(60)[:kept], 110); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	in, out := filepath.Join(dir, "outer.pcap"), filepath.Join(dir, "inner.pcap")
	writeFile(t, in, file.Bytes())
	code, got, said := runDecap(t, in, out, "--vni", "42", "--source", "10.1.2.3,::")
	want := decapTally{In: in, Out: out, Complete: true, Records: 15, Written: 4, WrittenBytes: 60 + 60 + 0 + 5, Truncated: 2, ForeignVNI: 1, ForeignSource: 1,
		NotVXLAN:  notVXLAN{NotIP: 1, NotUDP: 1, OtherPort: 1, OtherTunnel: 1},
		Malformed: malformedCauses{Headers: 1, NoVNI: 1, Runt: 1}, Fragments: 1, Cut: 1,
		VNIs: []vniCount{{42, 4}, {43, 1}}}
	if code != exitOK || said != "" || !reflect.DeepEqual(got, want) {
		t.Errorf("exit code %d, %q\n%+v, want\n%+v", code, said, got, want)
	}
	records := recordsOf(t, out)
	if len(records) != 4 || records[2].Wire != 60 || len(records[2].Data) != 0 || records[3].Wire != 60 || len(records[3].Data) != 5 {
		t.Errorf("%+v", records)
	}
}

func TestDecapStopsWhereTheFileIsCut(t *testing.T) {
	whole := capture(plainFrame(60), plainFrame(70), plainFrame(80))
	dir := t.TempDir()
	in, out := filepath.Join(dir, "outer.pcap"), filepath.Join(dir, "inner.pcap")
	writeFile(t, in, whole[:len(whole)-1])
	code, tally, said := runDecap(t, in, out)
	if code != exitFailed || tally.Complete || tally.Written != 2 || !strings.Contains(said, "record 3 at byte 286: the file ends within it") || !strings.Contains(said, "inner.pcap holds the 2 frames before it") {
		t.Errorf("exit code %d, %+v, %s", code, tally, said)
	}
	if got := recordsOf(t, out); len(got) != 2 || got[1].Wire != 70 {
		t.Errorf("%+v", got)
	}
}

// Interfaces of a pcapng file that are no Ethernet are told apart; when there is nothing else, it is the wrong file.
func TestDecapOfMixedLinkTypes(t *testing.T) {
	ng := func(links ...byte) []byte {
		le := binary.LittleEndian
		file := []byte("\x0a\x0d\x0d\x0a\x1c\x00\x00\x00\x4d\x3c\x2b\x1a\x01\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\x1c\x00\x00\x00")
		for i, link := range links {
			file = append(file, 1, 0, 0, 0, 20, 0, 0, 0, link, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0)
			frame := plainFrame(62) // 112 bytes, a multiple of 4
			head := make([]byte, 28)
			le.PutUint32(head, 6)
			le.PutUint32(head[4:], uint32(32+len(frame)))
			le.PutUint32(head[8:], uint32(i))
			le.PutUint32(head[20:], uint32(len(frame)))
			le.PutUint32(head[24:], uint32(len(frame)))
			file = append(append(file, head...), frame...)
			file = le.AppendUint32(file, uint32(32+len(frame)))
		}
		return file
	}
	dir := t.TempDir()
	in := filepath.Join(dir, "outer.pcapng")
	writeFile(t, in, ng(113, 1))
	if code, tally, said := runDecap(t, in, filepath.Join(dir, "1.pcap")); code != exitOK || tally.Written != 1 || tally.NotVXLAN.OtherLink != 1 {
		t.Errorf("exit code %d, %+v, %s", code, tally, said)
	}
	writeFile(t, in, ng(113, 113))
	if code, tally, said := runDecap(t, in, filepath.Join(dir, "2.pcap")); code != exitFailed || tally.NotVXLAN.OtherLink != 2 || !strings.Contains(said, "its link type is LINUX_SLL, not ETHERNET") {
		t.Errorf("exit code %d, %+v, %s", code, tally, said)
	}
}

// A stream that brings nothing more is given up some time after the interruption, and what it brought is kept.
func TestDecapIsInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, feed := io.Pipe()
		ctx, interrupt := context.WithCancel(t.Context())
		file := capture(plainFrame(60), plainFrame(70))
		go func() {
			feed.Write(file[:len(file)-1])
			interrupt()
		}()
		var out, complaint bytes.Buffer
		tool := &tool{in: from, out: &out, err: &complaint}
		began := time.Now()
		code := tool.run(ctx, []string{"decap", "-", "-"})
		if code != exitInterrupted || time.Since(began) != streamPatience || !strings.Contains(complaint.String(), "interrupted behind record 1 of standard input; standard output holds the 1 frame before it") {
			t.Errorf("exit code %d after %v: %s", code, time.Since(began), complaint.String())
		}
		if want := capture(plainFrame(60)[50:]); !bytes.Equal(out.Bytes(), want) {
			t.Errorf("%x, want %x", out.Bytes(), want)
		}
		feed.Close() // lets the abandoned read end
	})
}

// A stream that ends soon after the interruption, since what feeds it was interrupted as well, loses nothing.
func TestDecapWaitsForTheEndOfAStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, feed := io.Pipe()
		ctx, interrupt := context.WithCancel(t.Context())
		file := capture(plainFrame(60), plainFrame(70))
		go func() {
			feed.Write(file[:30])
			interrupt()
			time.Sleep(streamPatience / 2)
			feed.Write(file[30:])
			feed.Close()
		}()
		var out, complaint bytes.Buffer
		tool := &tool{in: from, out: &out, err: &complaint}
		if code := tool.run(ctx, []string{"decap", "-", "-"}); code != exitOK || !bytes.Equal(out.Bytes(), capture(plainFrame(60)[50:], plainFrame(70)[50:])) {
			t.Errorf("exit code %d: %s", code, complaint.String())
		}
	})
}

// Frames of a live capture pass before the next are waited for.
func TestDecapHandsOnBeforeItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, feed := io.Pipe()
		var out, complaint bytes.Buffer
		tool := &tool{in: from, out: &out, err: &complaint}
		ended := make(chan int)
		go func() { ended <- tool.run(t.Context(), []string{"decap", "-", "-"}) }()
		file := capture(plainFrame(60), plainFrame(70))
		feed.Write(file[:24+16+110])
		synctest.Wait()
		if want := capture(plainFrame(60)[50:]); !bytes.Equal(out.Bytes(), want) {
			t.Errorf("%x before the second frame, want %x", out.Bytes(), want)
		}
		feed.Write(file[24+16+110:])
		feed.Close()
		if code := <-ended; code != exitOK || !bytes.Equal(out.Bytes(), capture(plainFrame(60)[50:], plainFrame(70)[50:])) {
			t.Errorf("exit code %d: %s", code, complaint.String())
		}
	})
}

// Memory does not grow with the file.
func TestDecapMemory(t *testing.T) {
	frame := plainFrame(300)
	frames := make([][]byte, 500)
	for i := range frames {
		frames[i] = frame
	}
	source := &again{file: capture(frames...), header: 24, left: 600}
	d := decapsulation{decapOptions: decapOptions{port: vxlan.Port}, ctx: t.Context(), progress: &decapProgress{}, in: &input{Reader: source, info: regular{}}}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	reader, err := d.open()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.run(reader, noClose{io.Discard}); err != nil || d.tally.Written != 300_000 {
		t.Fatal(err, d.tally)
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 2<<20 {
		t.Errorf("%d bytes were allocated for %d frames", grown, d.tally.Written)
	}
}

func TestCensusDoesNotGrow(t *testing.T) {
	var c census
	for round := range 2 {
		for vni := range uint32(1 << 16) {
			c.count(vni << 8)
		}
		list := c.list()
		if len(list) != censusLimit || list[0] != (vniCount{0, uint64(round + 1)}) || c.others != uint64(round+1)*(1<<16-censusLimit) {
			t.Errorf("%d VNIs, the first %+v, %d others", len(list), list[0], c.others)
		}
	}
}

func TestDecapProgress(t *testing.T) {
	var screen bytes.Buffer
	p := &decapProgress{out: &screen, size: 4 << 30}
	p.add(1 << 30)
	p.add(1 << 30) // too soon
	if got := screen.String(); got != "\r 25 % of 4.0 GiB" {
		t.Errorf("%q", got)
	}
	p.end()
	if got := screen.String(); !strings.HasSuffix(got, " \r") {
		t.Errorf("%q", got)
	}
	if quiet := newDecapProgress(&screen, 4<<30); quiet.out != nil {
		t.Error("what is no terminal is told")
	}
}
