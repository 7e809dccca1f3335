package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"flashtap/collector/evidence"
	"flashtap/collector/pcapfile"
	"flashtap/events"
	build "flashtap/testutil/evidence"
)

// left are captures as scripts name them.
var left = map[string]build.Config{
	"complete":  {Addenda: 1},
	"two":       {Collectors: 2, Packets: 300},
	"truncated": {PacketLength: 100, Capture: "20261122T050000Z-eni-0a1b2c3d4e5f60718"},
	"lossy":     {Lost: 14},
	"nothing":   {Segments: -1},
	"unsigned":  {Unsigned: true},
	"unsealed":  {Killed: true},
}

// leaveEvidence is the script's command evidence KIND DIR: a capture's evidence in the folder DIR and in the account's bucket, and the
// public key that signed it in DIR.pem. CAPTURE and FINGERPRINT say which it is.
func leaveEvidence(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: evidence KIND DIR")
	}
	cfg, known := left[args[0]]
	if !known {
		ts.Fatalf("no evidence is called %s", args[0])
	}
	make := build.New
	if args[0] == "unsealed" {
		make = build.Unsealed
	}
	e, err := make(cfg)
	ts.Check(err)
	dir := ts.MkAbs(args[1])
	ts.Check(e.Write(dir))
	if e.Key != nil {
		text, fingerprint, err := build.PublicKey(e.Key)
		ts.Check(err)
		ts.Check(os.WriteFile(dir+".pem", text, 0o666))
		ts.Setenv("FINGERPRINT", fingerprint)
	}
	ts.Setenv("CAPTURE", string(e.Capture))
	a := ts.Value(accountKey{}).(*account)
	ts.Setenv("EVIDENCE", "s3://"+a.name+"/captures/"+string(e.Capture))
	for name, body := range e.Files {
		ts.Check(a.store().Create(context.Background(), events.CapturePrefix(e.Capture)+name, body))
	}
}

// change the bytes of a file: spoil FILE, where FILE may be a pattern.
func spoil(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: spoil FILE")
	}
	found, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(found) == 0 {
		ts.Fatalf("%s: no such file", args[0])
	}
	body, err := os.ReadFile(found[0])
	ts.Check(err)
	body[len(body)/2] ^= 1
	ts.Check(os.WriteFile(found[0], body, 0o666))
}

func TestParseFlow(t *testing.T) {
	for text, want := range map[string]string{
		"tcp 10.0.0.5:443 - 10.0.0.9:*":   "6 10.0.0.5 443 10.0.0.9 -1",
		"any * - *":                       "-1 invalid IP -1 invalid IP -1",
		"udp *:53 - [2001:db8::5]:1234":   "17 invalid IP 53 2001:db8::5 1234",
		"47 10.0.0.5 - 2001:db8::5":       "47 10.0.0.5 -1 2001:db8::5 -1",
		"icmp ::ffff:10.0.0.5 - 10.0.0.9": "1 10.0.0.5 -1 10.0.0.9 -1",
		"tcp 10.0.0.5:443":                "",
		"tcp 10.0.0.5:443 , 10.0.0.9":     "",
		"tcq 10.0.0.5:443 - 10.0.0.9":     "",
		"tcp 10.0.0.5:66666 - 10.0.0.9":   "",
		"tcp 10.0.0.500:6 - 10.0.0.9":     "",
		"256 10.0.0.5 - 10.0.0.9":         "",
		"":                                "",
	} {
		f, err := parseFlow(text)
		got := ""
		if err == nil {
			got = fmt.Sprint(f.protocol, f.a.addr, f.a.port, f.b.addr, f.b.port)
		}
		if got != want {
			t.Errorf("%q: %q, %v, want %q", text, got, err, want)
		}
	}
}

func TestFlowMatches(t *testing.T) {
	a, b := netip.MustParseAddr("10.0.0.5"), netip.MustParseAddr("10.0.0.9")
	tcp := packet{ip: true, protocol: protocolTCP, source: a, target: b, ports: known, sourcePort: 443, targetPort: 5000}
	back := packet{ip: true, protocol: protocolTCP, source: b, target: a, ports: known, sourcePort: 5000, targetPort: 443}
	fragment := packet{ip: true, protocol: protocolTCP, source: a, target: b, ports: hidden}
	for name, row := range map[string]struct {
		flow string
		p    packet
		want bool
	}{
		"as it is written":         {"tcp 10.0.0.5:443 - 10.0.0.9:*", tcp, true},
		"the other way":            {"tcp 10.0.0.5:443 - 10.0.0.9:*", back, true},
		"ports of the wrong end":   {"tcp 10.0.0.5:5000 - 10.0.0.9:443", tcp, false},
		"another protocol":         {"udp 10.0.0.5:443 - 10.0.0.9:*", tcp, false},
		"another address":          {"tcp 10.0.0.5:443 - 10.0.0.7:*", tcp, false},
		"any":                      {"any * - *", tcp, true},
		"a later fragment":         {"tcp 10.0.0.5:443 - 10.0.0.9:*", fragment, true},
		"a fragment of another":    {"tcp 10.0.0.6:443 - 10.0.0.9:*", fragment, false},
		"no IP":                    {"any * - *", packet{}, false},
		"a port of what has none":  {"any *:1 - *", packet{ip: true, protocol: 47, source: a, target: b}, false},
		"ICMPv6 is ICMP to people": {"icmp * - *", packet{ip: true, protocol: protocolICMPv6, source: a, target: b}, true},
	} {
		f, err := parseFlow(row.flow)
		if err != nil {
			t.Fatal(err)
		}
		if f.matches(&row.p) != row.want {
			t.Errorf("%s: %t, want %t", name, !row.want, row.want)
		}
	}
}

// FuzzParsePacket has any frame parsed.
func FuzzParsePacket(f *testing.F) {
	f.Add([]byte("\x06\x00\x00\x00\x00\x01\x06\x00\x00\x00\x00\x02\x08\x00E\x00\x00\x1c\x00\x00\x00\x00\x40\x11\x00\x00\x0a\x00\x00\x01\x0a\x00\x00\x02\x00\x35\x12\x34\x00\x08\x00\x00"))
	f.Add(slices.Concat(make([]byte, 12), []byte{0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 44, 64}, make([]byte, 32), []byte{6, 0, 0, 8, 0, 0, 0, 1}))
	f.Fuzz(func(t *testing.T, frame []byte) {
		var p packet
		parsePacket(frame, &p)
		if p.ip && (!p.source.IsValid() || !p.target.IsValid()) || !p.ip && p.ports != none {
			t.Errorf("%+v", p)
		}
	})
}

// TestCarvings compares what is carved with a look at every packet, with and without an index, from a bucket's view of the evidence.
func TestCarvings(t *testing.T) {
	e, err := build.New(build.Config{Collectors: 2, Segments: 4, Packets: 500, Backwards: true})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), string(e.Capture))
	if err := e.Write(dir); err != nil {
		t.Fatal(err)
	}
	type one struct {
		at    int64
		frame string
	}
	var all []one
	for name, body := range e.Files {
		if !strings.HasSuffix(name, ".pcap") {
			continue
		}
		r, err := pcapfile.NewReader(bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for rec, err := r.Next(); err == nil; rec, err = r.Next() {
			all = append(all, one{rec.At, string(rec.Data)})
		}
	}
	middle := time.Unix(0, all[len(all)/2].at).UTC()
	for name, row := range map[string]struct {
		args  []string
		wants func(one, *packet) bool
	}{
		"everything": {nil, func(one, *packet) bool { return true }},
		"from":       {[]string{"--from", middle.Format(time.RFC3339Nano)}, func(o one, _ *packet) bool { return o.at >= middle.UnixNano() }},
		"to":         {[]string{"--to", middle.Format(time.RFC3339Nano)}, func(o one, _ *packet) bool { return o.at < middle.UnixNano() }},
		"DNS":        {[]string{"--flow", "udp *:53 - *"}, func(_ one, p *packet) bool { return p.protocol == 17 && (p.sourcePort == 53 || p.targetPort == 53) }},
		"a host": {[]string{"--flow", "any 10.12.29.101 - *"}, func(_ one, p *packet) bool {
			return p.source.String() == "10.12.29.101" || p.target.String() == "10.12.29.101"
		}},
		"nobody": {[]string{"--flow", "tcp 192.0.2.1:1 - *"}, func(one, *packet) bool { return false }},
		"two flows, and a time": {[]string{"--flow", "udp *:53 - *", "--flow", "tcp *:443 - *", "--from", middle.Format(time.RFC3339Nano)}, func(o one, p *packet) bool {
			on := func(proto, port int) bool {
				return p.protocol == proto && (p.sourcePort == port || p.targetPort == port)
			}
			return o.at >= middle.UnixNano() && (on(17, 53) || on(6, 443))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var want []one
			for _, o := range all {
				var p packet
				parsePacket([]byte(o.frame), &p)
				if row.wants(o, &p) {
					want = append(want, o)
				}
			}
			for _, how := range []string{"first", "by index"} {
				out := filepath.Join(t.TempDir(), how+".pcap")
				var said bytes.Buffer
				tool := &tool{in: strings.NewReader(""), out: &said, err: &said, getenv: func(string) string { return "" }}
				if code := tool.run(t.Context(), append([]string{"pull", dir, "--merge", out}, row.args...)); code != exitOK {
					t.Fatalf("%s: exit code %d: %s", how, code, said.String())
				}
				var got []one
				body, err := os.ReadFile(out)
				if err != nil {
					t.Fatal(err)
				}
				r, err := pcapfile.NewReader(bytes.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				for rec, err := r.Next(); err == nil; rec, err = r.Next() {
					if len(got) > 0 && rec.At < got[len(got)-1].at {
						t.Fatalf("%s: packet %d runs backwards", how, len(got)+1)
					}
					got = append(got, one{rec.At, string(rec.Data)})
				}
				compare := func(a, b one) int {
					if a.at != b.at {
						return int(a.at - b.at)
					}
					return strings.Compare(a.frame, b.frame)
				}
				slices.SortFunc(got, compare)
				slices.SortFunc(want, compare)
				if !slices.Equal(got, want) || name != "nobody" && len(want) == 0 {
					t.Errorf("%s: %d packets, want %d: %s", how, len(got), len(want), said.String())
				}
			}
		})
	}
	if r, err := os.ReadDir(dir + ".index"); err != nil || len(r) != 8 {
		t.Errorf("%d indexes, %v, want 8", len(r), err)
	}
	folder, err := evidence.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	if r, err := evidence.Verify(t.Context(), folder, evidence.Options{}); err != nil || r.Outcome != evidence.Consistent {
		t.Errorf("the download is no longer what it was: %v, %v", err, r.Discrepancies)
	}
}

// objects are a source in memory that counts how many of them are open.
type objects struct {
	files      map[string][]byte
	open, most int
}

func (o *objects) List(context.Context) ([]evidence.Entry, error) {
	var list []evidence.Entry
	for name, body := range o.files {
		list = append(list, evidence.Entry{Name: name, Bytes: int64(len(body))})
	}
	return list, nil
}

func (o *objects) Open(_ context.Context, name string, offset int64) (io.ReadCloser, error) {
	body, there := o.files[name]
	if !there {
		return nil, fmt.Errorf("open %s: %w", name, fs.ErrNotExist)
	}
	if strings.HasSuffix(name, ".pcap") {
		o.open++
		o.most = max(o.most, o.open)
	}
	return &object{bytes.NewReader(body[min(offset, int64(len(body))):]), o, name}, nil
}

type object struct {
	io.Reader
	of   *objects
	name string
}

func (o *object) Close() error {
	if strings.HasSuffix(o.name, ".pcap") {
		o.of.open--
	}
	return nil
}

// TestMergeOfUnsealed has few segments open at a time, whether checkpoints tell of them or not.
func TestMergeOfUnsealed(t *testing.T) {
	for name, told := range map[string]bool{"told by checkpoints": true, "untold": false} {
		e, err := build.Unsealed(build.Config{Segments: 30, Packets: 20, Killed: true})
		if err != nil {
			t.Fatal(err)
		}
		for name := range e.Files {
			if !told && strings.Contains(name, "/checkpoints/") {
				delete(e.Files, name)
			}
		}
		source := &objects{files: e.Files}
		at := place{Source: source, capture: e.Capture, name: "evidence", folder: filepath.Join(t.TempDir(), string(e.Capture))}
		contents, err := evidence.ReadContents(t.Context(), source, evidence.Options{Capture: e.Capture})
		if err != nil {
			t.Fatal(err)
		}
		sections, err := segmentsOf(t.Context(), at, contents)
		if err != nil || len(sections) != 31 {
			t.Fatalf("%s: %d segments, %v", name, len(sections), err)
		}
		for _, late := range []bool{false, true} {
			want, o := "620 packets", pullOptions{merge: filepath.Join(t.TempDir(), "all.pcap")}
			if late {
				want, o.from = "40 packets", sections[29].first
			}
			var said bytes.Buffer
			tool := &tool{out: &said, err: &said, getenv: func(string) string { return "" }}
			if err := tool.carve(t.Context(), at, contents, o, nil); err != nil || !strings.HasPrefix(said.String(), want) || source.open != 0 || source.most > 3 {
				t.Errorf("%s, from %v: %v, %d open at a time and %d at the end, want %s: %s", name, o.from, err, source.most, source.open, want, said.String())
			}
		}
	}
}

// TestPullWithOddKeys has objects that can't be files beside the others: they stay where they are, and are missed.
func TestPullWithOddKeys(t *testing.T) {
	e, err := build.New(build.Config{})
	if err != nil {
		t.Fatal(err)
	}
	odd := []string{"a//b", "custody/", "custody", "plan.json/x", "../up", "x", "x/y"}
	source := &objects{files: map[string][]byte{}}
	for name, body := range e.Files {
		source.files[name] = body
	}
	for _, name := range odd {
		source.files[name] = []byte("odd")
	}
	var said bytes.Buffer
	tool := &tool{out: &said, err: &said, getenv: func(string) string { return "" }}
	at := place{Source: source, capture: e.Capture, name: "evidence"}
	dir := filepath.Join(t.TempDir(), "copy")
	contents, err := evidence.ReadContents(t.Context(), source, evidence.Options{Capture: e.Capture})
	if err != nil {
		t.Fatal(err)
	}
	v, kept, err := tool.download(t.Context(), at, contents, pullOptions{dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer kept.close()
	notes, wrong := strings.Join(v.Notes, "\n"), fmt.Sprint(v.Discrepancies)
	for _, name := range odd {
		if named := strings.Contains(notes, fmt.Sprintf("%q stays in the bucket", name)); named != (name != "x/y") || !strings.Contains(wrong, name+": is there, and nothing lists it") {
			t.Errorf("%s is not told: %s; %s", name, notes, wrong)
		}
	}
	if len(v.Discrepancies) != len(odd) || v.Outcome != evidence.Broken {
		t.Errorf("%s: %v", v.Outcome, v.Discrepancies)
	}
	for name, want := range e.Files {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
