package deployment_test

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"flashtap/events"
	sealing "flashtap/functions/evidence"
	"flashtap/testutil/deployment"
	"flashtap/testutil/packets"
	"flashtap/testutil/region"
	"flashtap/testutil/region/asl"
	"flashtap/testutil/region/dataplane"
)

// TestTheLedgerClosesFromTheSourceOn: the suspect's instance is too busy to copy every fifth packet, and somebody sends the collector
// datagrams that are no evidence. Every packet is accounted for, from the suspect's interface to the bucket; what happens to packets
// within the collector is held to the same in its own tests.
func TestTheLedgerClosesFromTheSourceOn(t *testing.T) {
	t.Parallel()
	n := 0
	s := set(t, deployment.SceneConfig{
		Frames: packets.MustLoad("zeek-get.pcap"), Loop: true, PPS: 200, Metrics: region.MetricsConfig{Every: time.Second, Lag: -1},
		Busy: func(dataplane.Packet) bool { n++; return n%5 == 0 },
	})
	x := publish(t, s)
	eventually(t, 40*time.Second, "packets are mirrored", func() bool { return s.Plane.Tally().Mirrored > 100 })
	copies := s.Plane.Sent()
	from, to, vni := copies[0].From, copies[0].To, copies[0].VNI

	// From the suspect's own address: another VNI, no VNI at all, and too short for a header. From another: all as it should be.
	frame := append(make([]byte, 12), 0x08, 0x00)
	header := func(flags byte, vni uint32) []byte {
		return append([]byte{flags, 0, 0, 0, byte(vni >> 16), byte(vni >> 8), byte(vni), 0}, frame...)
	}
	const each = 7
	for _, forged := range []struct {
		at   string
		data []byte
	}{
		{from.Addr().String(), header(0x08, vni^1)},
		{from.Addr().String(), header(0, vni)},
		{from.Addr().String(), []byte{0x08, 0, 0, 0}},
		{"127.0.0.1", header(0x08, vni)},
	} {
		conn, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.ParseIP(forged.at)}, net.UDPAddrFromAddrPort(to))
		if err != nil {
			t.Fatal(err)
		}
		for range each {
			if _, err := conn.Write(forged.data); err != nil {
				t.Error(err)
			}
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
	if result := finish(t, x); result.Status != asl.Succeeded {
		t.Fatalf("the execution %s: %s: %s", result.Status, result.Error, result.Cause)
	}
	c := events.CaptureID(x.Name())
	amend(t, s, c)

	plane, m := s.Plane.Tally(), manifest(t, s, c)
	var a events.Addendum
	text, err := os.ReadFile(s.Path(events.AddendumKey(c, 1)))
	if err == nil {
		err = json.Unmarshal(text, &a)
	}
	if err != nil || a.Metrics == nil {
		t.Fatalf("%s: %v", text, err)
	}
	if plane.Skipped == 0 || a.Metrics.Skipped != plane.Skipped || a.Metrics.Mirrored != plane.Mirrored || len(a.Metrics.Missing) > 0 {
		t.Errorf("the addendum says %+v, the source %+v", a.Metrics, plane)
	}
	if want := (events.Rejected{ForeignSource: each, ForeignVNI: each, Malformed: 2 * each}); m.Tally.Rejected != want {
		t.Errorf("rejected %+v, want %+v", m.Tally.Rejected, want)
	}
	var held uint64
	for _, seg := range m.Segments {
		held += seg.Packets
	}
	if lost := m.Tally.SocketDropped + m.Tally.RingDropped; plane.Mirrored+4*each != m.Tally.Received+lost || held+m.Tally.Rejected.Total() != m.Tally.Received {
		t.Errorf("%d mirrored and %d forged, %d received, %d dropped, %d in the bucket", plane.Mirrored, 4*each, m.Tally.Received, lost, held)
	}
	for _, b := range m.Ledger.Balances {
		if !b.Holds {
			t.Errorf("%s: %d is not %d", b.Says, b.Left, b.Right)
		}
	}
	if a.Verdict != events.VerdictIncomplete || len(a.Reasons) == 0 {
		t.Errorf("after what the source skipped the verdict is %q: %q", a.Verdict, a.Reasons)
	}
	key := filepath.Join(t.TempDir(), "signer.der")
	if err := os.WriteFile(key, signingKey(t, s), 0o666); err != nil {
		t.Fatal(err)
	}
	if out, code := flashtap(t, s, "verify", string(c), "--key", key); code != 5 || !strings.HasPrefix(out, "authentic") {
		t.Errorf("exit %d, want 5: authentic, and incomplete", code)
	}
}

// amend adds what CloudWatch counted, as a sweep would an hour later.
func amend(t *testing.T, s *deployment.Scene, c events.CaptureID) {
	t.Helper()
	key, secret := s.Region.S3.Credentials()
	cfg := aws.Config{Region: s.Settings.Region, BaseEndpoint: aws.String(s.Region.Endpoint()), HTTPClient: region.HTTPClient(),
		Credentials: credentials.NewStaticCredentialsProvider(key, secret, "")}
	store := sealing.Store{API: s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true }), Bucket: s.Settings.Bucket}
	wrote, _, err := sealing.NewSealer(cfg, s.Settings, store, "test").Amend(t.Context(), c, events.BySweep, sealing.NewCloudWatch(cfg), time.Now().Add(time.Hour))
	if err != nil || !wrote {
		t.Fatalf("no addendum: %v", err)
	}
}
