package dataplane

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"flashtap/testutil/packets"
)

// The suspect's primary address; all of 127/8 is this machine's on Linux.
var outer = netip.MustParseAddr("127.16.1.10")

var acceptAll = Filter{Resolvers: Resolvers(vpc), Rules: []Rule{
	{Number: 100, Direction: Ingress, Action: Accept, Source: any4, Destination: any4},
	{Number: 100, Direction: Egress, Action: Accept, Source: any4, Destination: any4},
	{Number: 110, Direction: Ingress, Action: Accept, Source: any6, Destination: any6},
	{Number: 110, Direction: Egress, Action: Accept, Source: any6, Destination: any6},
}}

// received is a datagram as the collector's socket gives it.
type received struct {
	from netip.AddrPort
	data []byte
}

// listen opens a target; what it received comes out when wanted datagrams have come.
func listen(t *testing.T, at string) (netip.AddrPort, func(wanted int) []received) {
	t.Helper()
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(at)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetReadBuffer(4 << 20)
	take := func(wanted int) []received {
		t.Helper()
		var out []received
		buf := make([]byte, 1<<16)
		for len(out) < wanted {
			conn.SetReadDeadline(time.Now().Add(5 * time.Second))
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				t.Fatalf("after %d of %d datagrams: %v", len(out), wanted, err)
			}
			out = append(out, received{from, bytes.Clone(buf[:n])})
		}
		conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if n, _, err := conn.ReadFromUDPAddrPort(buf); err == nil {
			t.Fatalf("one more datagram than %d, of %d bytes", wanted, n)
		}
		return out
	}
	return conn.LocalAddr().(*net.UDPAddr).AddrPort(), take
}

func play(t *testing.T, frames []packets.Frame, s Suspect) *Replay {
	t.Helper()
	r, err := NewReplay(ReplayConfig{Frames: frames, Suspect: s, Speed: math.Inf(1)})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// run starts a plane and stops it with the test.
func run(t *testing.T, cfg Config) *Plane {
	t.Helper()
	cfg.Address, cfg.Record, cfg.PacketsPerSecond = outer, true, -1
	cfg.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- p.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-result; err != nil {
			t.Error(err)
		}
	})
	return p
}

func finish(t *testing.T, p *Plane) {
	t.Helper()
	select {
	case <-p.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the replay doesn't end")
	}
	agree(t, p.Tally())
}

// agree checks what the tallies promise at every moment.
func agree(t *testing.T, tally Tally) {
	t.Helper()
	var lost, lostBySession uint64
	for _, n := range tally.Lost {
		lost += n
	}
	if tally.Seen != tally.Mirrored+tally.SendErrors+tally.NotMatched+tally.NeverMirrored+tally.NoSession+lost {
		t.Errorf("the interface's tally doesn't add up: %+v", tally)
	}
	var mirrored, sendErrors uint64
	for id, s := range tally.Sessions {
		if s.Offered != s.Mirrored+s.SendErrors+s.Rejected+s.Unmatched+s.NeverMirrored+s.Lost {
			t.Errorf("the tally of %s doesn't add up: %+v", id, s)
		}
		mirrored, sendErrors, lostBySession = mirrored+s.Mirrored, sendErrors+s.SendErrors, lostBySession+s.Lost
	}
	if mirrored != tally.Mirrored || sendErrors != tally.SendErrors || lostBySession != lost {
		t.Errorf("sessions mirrored %d, failed %d and lost %d of %d, %d and %d", mirrored, sendErrors, lostBySession, tally.Mirrored, tally.SendErrors, lost)
	}
}

func TestWhatTheTargetReceivesIsWhatTheSuspectSaw(t *testing.T) {
	for _, c := range []struct {
		recording string
		suspect   string
		cutToMTU  uint64
	}{
		{"ndpi-trickbot.pcap", "10.12.29.101", 0},
		{"ndpi-http_ipv6.pcap", "2a00:d40:1:3:7aac:c0ff:fea7:d4c", 0},
		{"zeek-http-vlan-0.pcap", "141.142.228.5", 0},
		{"tcpdump-bigtcp-ipv4.pcap", "", 1},
	} {
		t.Run(c.recording, func(t *testing.T) {
			frames := packets.MustLoad(c.recording)
			who := Suspect{MAC: frames[0].Data[6:12]}
			if c.suspect != "" {
				who = Suspect{Addresses: []netip.Addr{netip.MustParseAddr(c.suspect)}}
			}
			to, take := listen(t, "127.0.0.1:0")
			p := run(t, Config{Traffic: play(t, frames, who), Start: WithSession})
			if err := p.SetSessions([]Session{{ID: "tms-1", Number: 1, VNI: 0xabcdef, Filter: acceptAll, Target: to}}); err != nil {
				t.Fatal(err)
			}
			got := take(len(frames))
			finish(t, p)
			sent := p.Sent()
			if len(sent) != len(frames) {
				t.Fatalf("%d recorded of %d", len(sent), len(frames))
			}
			for i, f := range frames {
				vni, frame := unwrap(t, got[i].data)
				want := f.Data[:min(len(f.Data), 8961)]
				if vni != 0xabcdef || !bytes.Equal(frame, want) {
					t.Fatalf("datagram %d: VNI %d, %d bytes of %d", i, vni, len(frame), len(want))
				}
				if !bytes.Equal(sent[i].Frame, want) || sent[i].OrigLen != f.OrigLen || sent[i].From != got[i].from || sent[i].To != to {
					t.Errorf("datagram %d recorded as %v to %v, came from %v", i, sent[i].From, sent[i].To, got[i].from)
				}
				if got[i].from.Addr() != outer || got[i].from.Port()%portCount != SourcePort(f.Data)%portCount {
					t.Errorf("datagram %d from %v, want %v and the port of its flow", i, got[i].from, outer)
				}
			}
			if n := p.Tally().Sessions["tms-1"].CutToMTU; n != c.cutToMTU {
				t.Errorf("%d cut to MTU, want %d", n, c.cutToMTU)
			}
		})
	}
}

// mixed is a bit of everything, seen by the suspect.
func mixed() []packets.Frame {
	return packets.Timeline(time.Unix(1e9, 0), time.Millisecond,
		packets.TCP(suspect.On(40000), internet.On(443), packets.Segment{Flags: "S"}),
		packets.TCP(internet.On(443), suspect.On(40000), packets.Segment{Flags: "SA"}),
		packets.ARPRequest(suspect, internet.IP),
		packets.DNSQuery(suspect.On(4000), resolver, 1, "example.com"),
		packets.UDP(suspect.On(40000), internet.On(9), make([]byte, 1000)),
		packets.Echo(suspect, internet, 1, 1, nil),
		packets.Ethernet(suspect, internet, 0x86dd, nil), // too damaged to be IP
	)
}

func TestTheFirstMatchingSessionTakesThePacket(t *testing.T) {
	udp := int32(17)
	first, takeFirst := listen(t, "127.0.0.1:0")
	second, takeSecond := listen(t, "127.0.0.1:0")
	p := run(t, Config{Traffic: play(t, mixed(), Suspect{Addresses: []netip.Addr{suspect.IP}})})
	err := p.SetSessions([]Session{
		{ID: "tms-all", Number: 7, VNI: 7, Filter: Filter{Resolvers: Resolvers(vpc), NetworkServices: []string{AmazonDNS},
			Rules: []Rule{{Number: 1, Direction: Ingress, Action: Reject, Source: any4, Destination: any4},
				{Number: 1, Direction: Egress, Action: Accept, Source: any4, Destination: any4}}}, Target: second},
		{ID: "tms-udp", Number: 2, VNI: 2, PacketLength: 128, Filter: Filter{Resolvers: Resolvers(vpc),
			Rules: []Rule{{Number: 1, Direction: Egress, Action: Accept, Source: any4, Destination: any4, Protocol: &udp}}}, Target: first},
	})
	if err != nil {
		t.Fatal(err)
	}
	p.StartTraffic()
	finish(t, p)
	for _, d := range takeFirst(1) {
		if vni, frame := unwrap(t, d.data); vni != 2 || !bytes.Equal(frame, mixed()[4].Data[:128]) {
			t.Errorf("VNI %d, %d bytes", vni, len(frame))
		}
	}
	for i, d := range takeSecond(3) {
		want := mixed()[[]int{0, 3, 5}[i]].Data
		if vni, frame := unwrap(t, d.data); vni != 7 || !bytes.Equal(frame, want) {
			t.Errorf("datagram %d: VNI %d, %x", i, vni, frame)
		}
	}
	tally := p.Tally()
	if want := (SessionTally{Offered: 7, Mirrored: 1, Bytes: 128, CutToLength: 1, Unmatched: 4, NeverMirrored: 2}); tally.Sessions["tms-udp"] != want {
		t.Errorf("tms-udp: %+v, want %+v", tally.Sessions["tms-udp"], want)
	}
	all := tally.Sessions["tms-all"]
	if all.Bytes = 0; all != (SessionTally{Offered: 6, Mirrored: 3, Rejected: 1, NeverMirrored: 2}) {
		t.Errorf("tms-all: %+v", all)
	}
	tally.Sessions = nil
	if want := (Tally{Seen: 7, Mirrored: 4, NotMatched: 1, NeverMirrored: 2}); tally.Seen != want.Seen ||
		tally.Mirrored != want.Mirrored || tally.NotMatched != want.NotMatched || tally.NeverMirrored != want.NeverMirrored {
		t.Errorf("the interface: %+v, want %+v", tally, want)
	}
}

// handed gives packets when the test says so.
type handed chan Packet

func (h handed) Next(ctx context.Context) (Packet, error) {
	select {
	case p, ok := <-h:
		if !ok {
			return Packet{}, io.EOF
		}
		return p, nil
	case <-ctx.Done():
		return Packet{}, ctx.Err()
	}
}

// until waits for the tally to say so.
func until(t *testing.T, p *Plane, what string, ok func(Tally) bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if tally := p.Tally(); ok(tally) {
			agree(t, tally)
			return
		}
	}
	t.Fatalf("not seen: %s; tally %+v", what, p.Tally())
}

func TestSessionsComeAndGoWhileTrafficFlows(t *testing.T) {
	to, take := listen(t, "127.0.0.1:0")
	traffic := make(handed)
	p := run(t, Config{Traffic: traffic})
	p.StartTraffic()
	p.StartTraffic() // told twice is told once
	one := Packet{Direction: Egress, Data: mixed()[0].Data}

	traffic <- one
	until(t, p, "a packet without a session", func(t Tally) bool { return t.NoSession == 1 })

	session := Session{ID: "tms-1", Number: 1, VNI: 5, Filter: acceptAll, Target: to}
	if err := p.SetSessions([]Session{session}); err != nil {
		t.Fatal(err)
	}
	traffic <- one
	until(t, p, "a mirrored packet", func(t Tally) bool { return t.Mirrored == 1 })

	if err := p.SetSessions([]Session{session, session}); err == nil {
		t.Fatal("two sessions of one number were taken")
	}
	traffic <- one
	until(t, p, "a refused change changing nothing", func(t Tally) bool { return t.Mirrored == 2 })

	if err := p.SetSessions(nil); err != nil {
		t.Fatal(err)
	}
	traffic <- one
	until(t, p, "a packet after the session", func(t Tally) bool { return t.NoSession == 2 })
	close(traffic)
	finish(t, p)
	take(2)
	if p.Tally().Sessions["tms-1"].Mirrored != 2 {
		t.Errorf("the tally didn't outlive the session: %+v", p.Tally())
	}
}

func TestTrafficWaitsForTheSession(t *testing.T) {
	to, take := listen(t, "127.0.0.1:0")
	p := run(t, Config{Traffic: play(t, mixed(), Suspect{Addresses: []netip.Addr{suspect.IP}}), Start: WithSession})
	if err := p.SetSessions(nil); err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond)
	if seen := p.Tally().Seen; seen != 0 {
		t.Fatalf("%d packets passed before the session", seen)
	}
	if err := p.SetSessions([]Session{{ID: "tms-1", Number: 1, Filter: acceptAll, Target: to}}); err != nil {
		t.Fatal(err)
	}
	finish(t, p)
	if vni, frame := unwrap(t, take(4)[0].data); vni != 0 || !bytes.Equal(frame, mixed()[0].Data) {
		t.Errorf("the first packet mirrored isn't the first of the recording: VNI %d, %x", vni, frame)
	}
}

func TestWhatTheKernelRefusesIsCounted(t *testing.T) {
	p := run(t, Config{Traffic: play(t, mixed(), Suspect{Addresses: []netip.Addr{suspect.IP}}), Start: WithSession})
	// An IPv6 target has no way from an IPv4 source.
	if err := p.SetSessions([]Session{{ID: "tms-1", Number: 1, Filter: acceptAll, Target: netip.MustParseAddrPort("[::1]:4789")}}); err != nil {
		t.Fatal(err)
	}
	finish(t, p)
	s := p.Tally().Sessions["tms-1"]
	if s.SendErrors != 4 || s.Mirrored != 0 || s.LastError == "" || len(p.Sent()) != 0 {
		t.Errorf("%+v, %d recorded", s, len(p.Sent()))
	}
}

func TestATakenSourcePortIsStoodInFor(t *testing.T) {
	frame := mixed()[0].Data
	wanted := netip.AddrPortFrom(netip.MustParseAddr("127.16.9.9"), SourcePort(frame))
	other, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(wanted))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	s := sockets{address: wanted.Addr()}
	defer s.close()
	first, err := s.port(wanted.Port())
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.port(wanted.Port())
	if err != nil || again != first {
		t.Fatalf("a flow changed its port: %v", err)
	}
	if got := first.LocalAddr().(*net.UDPAddr).AddrPort(); got.Addr() != wanted.Addr() || got.Port() != wanted.Port()+portCount {
		t.Errorf("%v stands in for %v", got, wanted)
	}
}

func TestRunEndsWhenItsContextDoes(t *testing.T) {
	for _, c := range []struct {
		reason string
		start  bool
	}{{"before traffic started", false}, {"while it waits for a packet", true}} {
		t.Run(c.reason, func(t *testing.T) {
			p, err := New(Config{Address: outer, Traffic: make(handed)})
			if err != nil {
				t.Fatal(err)
			}
			if c.start {
				p.StartTraffic()
			}
			ctx, stop := context.WithCancel(context.Background())
			stop()
			if err := p.Run(ctx); err != nil {
				t.Error(err)
			}
			<-p.Done()
		})
	}
}

type broken struct{}

var errBroken = errors.New("the cable is cut")

func (broken) Next(context.Context) (Packet, error) { return Packet{}, errBroken }

func TestABrokenSourceEndsTheRun(t *testing.T) {
	p, err := New(Config{Address: outer, Traffic: broken{}, Interface: "eni-1"})
	if err != nil {
		t.Fatal(err)
	}
	p.StartTraffic()
	if err := p.Run(t.Context()); !errors.Is(err, errBroken) {
		t.Errorf("error %v", err)
	}
}

func TestAPlaneNeedsAnAddressAndTraffic(t *testing.T) {
	for reason, cfg := range map[string]Config{"no address": {Traffic: broken{}}, "no traffic": {Address: outer}} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: no error", reason)
		}
	}
}

func TestTsharkReadsTheStreamAsVXLAN(t *testing.T) {
	tshark, err := exec.LookPath("tshark")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("tshark is not installed; in CI it must be")
		}
		t.Skip("tshark is not installed: the stream isn't checked by another decoder")
	}
	frames := packets.MustLoad("ndpi-trickbot.pcap")
	to, take := listen(t, "127.0.0.1:0")
	p := run(t, Config{Traffic: play(t, frames, Suspect{Addresses: []netip.Addr{netip.MustParseAddr("10.12.29.101")}}), Start: WithSession})
	if err := p.SetSessions([]Session{{ID: "tms-1", Number: 1, VNI: 12345678, Filter: acceptAll, Target: to}}); err != nil {
		t.Fatal(err)
	}
	var wire [][]byte
	for _, d := range take(len(frames)) {
		wire = append(wire, packets.UDP(packets.NewHost(d.from.Addr().String()).On(d.from.Port()),
			packets.NewHost("10.0.1.20").On(4789), d.data))
	}
	file := filepath.Join(t.TempDir(), "wire.pcap")
	if err := packets.WriteFile(file, packets.Timeline(time.Unix(1e9, 0), time.Millisecond, wire...)); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(tshark, "-n", "-r", file, "-T", "fields", "-e", "vxlan.vni", "-e", "ip.src").CombinedOutput()
	if err != nil {
		t.Fatalf("tshark: %v\n%s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	lines = slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, "Running as user") })
	if len(lines) != len(frames) {
		t.Fatalf("tshark sees %d packets of %d", len(lines), len(frames))
	}
	for i, line := range lines {
		vni, sources, _ := strings.Cut(line, "\t")
		outerSource, innerSource, nested := strings.Cut(sources, ",")
		if vni != "12345678" || outerSource != outer.String() || !nested || innerSource == "" {
			t.Fatalf("packet %d: tshark reads %q", i, line)
		}
	}
}
