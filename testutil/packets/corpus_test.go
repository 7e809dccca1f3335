package packets

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The facts come from tshark 4.0.17, so that the reader is measured against another one.
var facts = []struct {
	name          string
	frames, bytes int
	first, last   string
	longest       int
}{
	{"arkime-bigendian.pcap", 2, 196, "1335958313.152630000", "1335958317.529201000", 98},
	{"arkime-cloudshark-arp.pcap", 6, 400, "1352595620.652165000", "1352595625.653150000", 98},
	{"arkime-twovlan.pcap", 6, 4917, "1456042921.641303000", "1456042921.761641000", 4418},
	{"ndpi-443-firefox.pcap", 667, 458067, "1581109488.041083000", "1581109496.480905000", 1506},
	{"ndpi-dns_exfiltration.pcap", 300, 73545, "1580978146.717893000", "1580978206.707432000", 386},
	{"ndpi-emotet.pcap", 169, 99244, "1645830066.121611000", "1650905518.385458000", 1514},
	{"ndpi-http_ipv6.pcap", 193, 66327, "1448269123.954061000", "1448269146.970056000", 3633},
	{"ndpi-tls_ech.pcapng", 10, 4226, "1688191412.679858939", "1688191412.746874419", 2260},
	{"ndpi-trickbot.pcap", 74, 62002, "1609266107.551500000", "1609266115.947521000", 1514},
	{"tcpdump-bigtcp-ipv4.pcap", 1, 80066, "1759417540.030951000", "1759417540.030951000", 80066},
	{"tcpdump-gso-ipv4.pcap", 1, 7306, "1759508812.155133000", "1759508812.155133000", 7306},
	{"vxlan-encapsulated-http.pcap", 12, 10707, "1630165473.690298000", "1630165474.317388000", 9100},
	{"vxlan-inner-tcp-bad-checksum.pcap", 1, 104, "1781879612.414782000", "1781879612.414782000", 104},
	{"vxlan.pcap", 10, 1368, "1467818432.675392000", "1467818435.680663000", 148},
	{"zeek-dhcp.pcap", 9, 2972, "1370200442.323173000", "1370200447.422207000", 409},
	{"zeek-dns-edns-ecs.pcap", 89, 36843, "1463559350.492846000", "1560869916.475993000", 1798},
	{"zeek-fragmented-3.pcap", 5, 7570, "964750760.184607000", "964750760.259631000", 1514},
	{"zeek-get.pcap", 14, 6087, "1362692526.869344000", "1362692527.080972000", 1514},
	{"zeek-http-vlan-0.pcap", 14, 6143, "1362692526.869344000", "1362692527.080972000", 1518},
	{"zeek-icmp6.pcap", 49, 4548, "921159907.494265000", "921159966.755968000", 300},
	{"zeek-ipv6-fragmented-dns.pcap", 8, 4620, "1331084278.438444000", "1331084298.676270000", 1494},
}

func TestEveryRecordingReadsAsTsharkSawIt(t *testing.T) {
	for _, want := range facts {
		t.Run(want.name, func(t *testing.T) {
			frames, err := Load(want.name)
			if err != nil {
				t.Fatal(err)
			}
			if len(frames) != want.frames {
				t.Fatalf("%d frames, want %d", len(frames), want.frames)
			}
			var bytes, longest int
			first, last := frames[0].At, frames[0].At
			for _, f := range frames {
				bytes += f.OrigLen
				longest = max(longest, len(f.Data))
				if f.At.Before(first) {
					first = f.At
				}
				if f.At.After(last) {
					last = f.At
				}
			}
			if bytes != want.bytes || longest != want.longest {
				t.Errorf("%d bytes, longest %d; want %d, %d", bytes, longest, want.bytes, want.longest)
			}
			if got := stamp(first); got != want.first {
				t.Errorf("first at %s, want %s", got, want.first)
			}
			if got := stamp(last); got != want.last {
				t.Errorf("last at %s, want %s", got, want.last)
			}
		})
	}
	if got, want := len(Names()), len(facts)+1; got != want {
		t.Errorf("the corpus has %d recordings, the table with the refused one %d", got, want)
	}
}

func stamp(at time.Time) string {
	s := at.UTC().Format("05.000000000")
	return strconv.FormatInt(at.Unix(), 10) + s[2:]
}

func TestForeignLinkTypesAreRefused(t *testing.T) {
	_, err := Load("zeek-nflog-http.pcap")
	var refused NotEthernet
	if !errors.As(err, &refused) || refused.LinkType != 239 {
		t.Fatalf("error %v, want link type 239 refused", err)
	}
}

func TestSourcesNamesEveryRecordingByItsDigest(t *testing.T) {
	sources, err := os.ReadFile("testdata/SOURCES.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range Names() {
		f, err := Open(name)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		digest := sha256.Sum256(data)
		row := ""
		for line := range strings.Lines(string(sources)) {
			if strings.HasPrefix(line, "| "+name+" |") {
				row = line
			}
		}
		if !strings.Contains(row, hex.EncodeToString(digest[:])) {
			t.Errorf("%s: SOURCES.md has %q", name, row)
		}
	}
}

func TestPathIsTheFileThatOpenReads(t *testing.T) {
	t.Chdir(filepath.Join("testdata"))
	path, err := Path("vxlan.pcap")
	if err != nil {
		t.Fatal(err)
	}
	frames, err := ReadFile(path)
	if err != nil || len(frames) != 10 {
		t.Fatalf("%d frames, error %v", len(frames), err)
	}
	for _, err := range []error{pathError("absent.pcap"), openError("absent.pcap"), openError("../corpus.go")} {
		if err == nil {
			t.Error("a recording that isn't there was found")
		}
	}
}

func pathError(name string) error { _, err := Path(name); return err }
func openError(name string) error { _, err := Open(name); return err }
