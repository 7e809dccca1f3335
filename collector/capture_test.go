package main

import (
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"flashtap/collector/vxlan"
	"flashtap/events"
	"flashtap/testutil/packets"
)

// recorded are frames of other people's recordings: TCP, DNS, DHCP, fragments, VLAN tags, IPv6.
func recorded() (frames [][]byte) {
	for _, name := range []string{"zeek-get.pcap", "zeek-dhcp.pcap", "zeek-fragmented-3.pcap", "zeek-http-vlan-0.pcap", "zeek-icmp6.pcap", "ndpi-http_ipv6.pcap", "arkime-twovlan.pcap"} {
		for _, f := range packets.MustLoad(name) {
			frames = append(frames, f.Data)
		}
	}
	return frames
}

func TestFramesArriveAsTheyWereSent(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ reason, listen, source string }{
		{"IPv4", "127.0.0.1:0", suspect},
		{"IPv6", "[::1]:0", "::1"},
	} {
		t.Run(test.reason, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, shared, nil)
			r.listen = test.listen
			r.ready()
			sent := recorded()
			whole := numbered(0, 3, 9000)
			for _, frame := range whole { // cut as a session with a packet length, or the target's MTU, cuts
				sent = append(sent, frame[:128])
			}
			sent = append(sent, numbered(3, 1, 65000)...)
			began := time.Now()
			r.sendFrom(test.source, vni, sent...)
			r.stop(exitConfirmed)
			e := r.complete(events.StopSignal, sent...)
			truncated := uint64(0)
			for i, p := range e.packets {
				want := vxlan.OrigLen(sent[i])
				if want > len(sent[i]) {
					truncated++
				}
				if p.OrigLen != want {
					t.Errorf("packet %d was %d bytes long on the wire, want %d", i, p.OrigLen, want)
				}
				if p.At.Before(began.Add(-time.Second)) || p.At.After(time.Now()) || (i > 0 && p.At.Before(e.packets[i-1].At)) {
					t.Errorf("packet %d at %v: before it was sent, in the future, or before the one before it", i, p.At)
				}
			}
			if tally := e.manifest.Tally; truncated < 3 || tally.Truncated != truncated || e.packets[len(sent)-2].OrigLen != 9000 {
				t.Errorf("%d truncated, the tally says %d", truncated, tally.Truncated)
			}
			if first := e.checkpoints[0]; first.State != events.CollectorCapturing || first.Tally != (events.Tally{}) {
				t.Errorf("the first checkpoint is %+v; it says that the sockets are bound", first)
			}
			if e.manifest.Error != "" {
				t.Errorf("the manifest complains: %s", e.manifest.Error)
			}
		})
	}
}

func TestOnlyTheSessionsOwnDatagramsAreEvidence(t *testing.T) {
	t.Parallel()
	r := newRig(t, shared, nil)
	r.ready()
	genuine := numbered(0, 5, 100)
	r.send(genuine[:3]...)
	r.sendFrom("127.10.0.8", vni, numbered(100, 4, 100)...)
	r.sendFrom(suspect, vni+1, numbered(200, 2, 100)...)
	noFlag := packets.VXLAN(vni, genuine[0])
	noFlag[0] = 0
	r.sendRaw(suspect, noFlag, []byte("too short"), nil)
	r.send(genuine[3:]...)
	r.stop(exitConfirmed)
	e := r.complete(events.StopSignal, genuine...)
	want := events.Rejected{ForeignSource: 4, ForeignVNI: 2, Malformed: 3}
	if tally := e.manifest.Tally; tally.Rejected != want || tally.Received != 14 {
		t.Errorf("tally %+v, want %+v rejected", tally, want)
	}
}

func TestSegmentsCloseBySize(t *testing.T) {
	t.Parallel()
	r := newRig(t, shared, func(c *events.CollectorConfig) { c.SegmentBytes = 1 << 16 })
	r.ready()
	sent := numbered(0, 500, 1000)
	r.send(sent...)
	r.stop(exitConfirmed)
	e := r.complete(events.StopSignal, sent...)
	if n := len(e.manifest.Segments); n != 8 { // 64 frames of 1016 bytes each in a segment of 64 KiB
		t.Errorf("%d segments, want 8", n)
	}
	for _, seg := range e.manifest.Segments {
		if seg.Bytes > 1<<16 {
			t.Errorf("segment %d has %d bytes", seg.Seq, seg.Bytes)
		}
	}
}

func TestSegmentsCloseByAge(t *testing.T) {
	t.Parallel()
	r := newRig(t, shared, func(c *events.CollectorConfig) { c.SegmentSeconds = 1 })
	r.ready()
	sent := numbered(0, 6, 100)
	for i := range 3 {
		r.send(sent[2*i : 2*i+2]...)
		r.await("the segment's confirmation without any further packet", func() bool { return r.last().Tally.Uploaded == uint64(2*i+2) })
	}
	r.stop(exitConfirmed)
	if e := r.complete(events.StopSignal, sent...); len(e.manifest.Segments) != 3 {
		t.Errorf("%d segments, want 3", len(e.manifest.Segments))
	}
}

func TestByteCapEndsTheCapture(t *testing.T) {
	t.Parallel()
	r := newRig(t, shared, func(c *events.CollectorConfig) { c.MaxBytes = 10_000 })
	r.ready()
	sent := numbered(0, 30, 1000)
	r.send(sent...)
	r.end(exitConfirmed)
	r.complete(events.StopByteCap, sent[:10]...)
}

func TestStopTagEndsTheCapture(t *testing.T) {
	t.Parallel()
	r := newRig(t, shared, nil)
	r.ready()
	sent := numbered(0, 10, 200)
	r.send(sent...)
	r.tag(events.TagStop, "now")
	r.end(exitConfirmed)
	r.complete(events.StopAsked, sent...)
}

func TestDeadlineEndsTheCapture(t *testing.T) {
	t.Parallel()
	r := newRig(t, shared, func(c *events.CollectorConfig) { c.Deadline = time.Now().Add(4 * time.Second).UTC() })
	r.ready()
	sent := numbered(0, 10, 200)
	r.send(sent...)
	r.end(exitConfirmed)
	if now := time.Now(); now.Before(r.cfg.Deadline) || now.After(r.cfg.Deadline.Add(15*time.Second)) {
		t.Errorf("ended at %v, the deadline is %v", now, r.cfg.Deadline)
	}
	r.complete(events.StopDeadline, sent...)
}

func TestDeadlineMovesWithTheTag(t *testing.T) {
	t.Parallel()
	r := newRig(t, shared, func(c *events.CollectorConfig) { c.Deadline = time.Now().Add(4 * time.Second).UTC() })
	later := time.Now().Add(7 * time.Second).UTC().Truncate(time.Second)
	r.tag(events.TagDeadline, later.Format(time.RFC3339))
	r.ready()
	r.end(exitConfirmed)
	if now := time.Now(); now.Before(later) {
		t.Errorf("ended at %v, the deadline was moved to %v", now, later)
	}
	r.complete(events.StopDeadline)
}

// A capture without a packet leaves checkpoints and a manifest, and no segment.
func TestNothingToCapture(t *testing.T) {
	t.Parallel()
	r := newRig(t, shared, func(c *events.CollectorConfig) { c.Deadline = time.Now().Add(-time.Minute) })
	r.start()
	r.end(exitConfirmed)
	e := r.complete(events.StopDeadline)
	if len(e.checkpoints) != 2 || e.checkpoints[0].State != events.CollectorDraining {
		t.Errorf("checkpoints %+v; a collector that never listened must not say that it captures", e.checkpoints)
	}
}

// On an instance, the configuration comes with the user data, and the addresses from the metadata service.
func TestConfigurationFromUserData(t *testing.T) {
	t.Parallel()
	const own = "127.77.0.9"
	probe, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(own), vxlan.Port)))
	if err != nil {
		t.Fatalf("this test needs port 4789 of %s: %v", own, err)
	}
	if err := probe.Close(); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, shared, func(c *events.CollectorConfig) {
		c.BinaryKey, c.BinarySHA256 = "collector", strings.Repeat("0", 64)
	})
	script, err := events.UserData(r.cfg, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	r.serveMetadata(own, script)
	r.config, r.listen = "imds", ""
	r.ready()
	if r.addr != netip.AddrPortFrom(netip.MustParseAddr(own), 4789) {
		t.Errorf("listens on %v, want the instance's own address and port 4789", r.addr)
	}
	sent := numbered(0, 10, 200)
	r.send(sent...)
	r.stop(exitConfirmed)
	r.complete(events.StopSignal, sent...)
}

func TestAddressThatCannotBeBoundIsAFailure(t *testing.T) {
	t.Parallel()
	taken, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	r := newRig(t, shared, nil)
	r.listen = taken.LocalAddr().String()
	r.start()
	r.end(exitFailed)
	e := r.evidence()
	if e.manifest.StopReason != events.StopFailed || !strings.Contains(e.manifest.Error, r.listen) {
		t.Errorf("the manifest says %q, %q", e.manifest.StopReason, e.manifest.Error)
	}
	if first := e.checkpoints[0]; first.State != events.CollectorDraining {
		t.Errorf("the first checkpoint says %s, although nothing was bound", first.State)
	}
}

// Every line of the log is JSON and says what it is about.
func TestLogIsForMachines(t *testing.T) {
	t.Parallel()
	r := newRig(t, shared, nil)
	r.ready()
	r.send(numbered(0, 1, 100)...)
	r.stop(exitConfirmed)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, line := range r.log {
		if line["level"] == "NOT JSON" {
			t.Errorf("not JSON: %v", line["msg"])
		}
		if line["msg"] != "ended, and everything is confirmed" && (line["capture"] != string(r.cfg.Capture) || line["eni"] == nil || line["vni"] != float64(vni)) {
			t.Errorf("a line that does not say which capture: %v", line)
		}
	}
}

// A second signal ends the program at once, with its evidence in the spool; the next run ships it.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	r := newRig(t, shared, nil)
	f := newFaults(t, shared, healthy)
	r.cfg.S3Endpoint = f.URL
	r.ready()
	f.change(always(503))
	sent := numbered(0, 10, 200)
	r.send(sent...)
	r.signal(syscall.SIGTERM)
	r.signal(syscall.SIGINT) // so soon it is none: timeout(1) sends each signal twice
	r.await("draining", func() bool { return strings.Contains(r.logText(), "msg:draining") })
	time.Sleep(1500 * time.Millisecond)
	select {
	case <-r.ended:
		t.Fatal("two signals at once ended it at once")
	default:
	}
	r.signal(syscall.SIGTERM)
	select {
	case <-r.ended:
	case <-time.After(5 * time.Second):
		t.Fatal("goes on after the second signal")
	}
	f.change(healthy)
	r.start()
	r.end(exitConfirmed)
	r.complete(events.StopRecovered, sent...)
}
