package dataplane

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"flashtap/testutil/packets"
)

func TestDirectionIsToldByTheSuspect(t *testing.T) {
	byAddress := Suspect{Addresses: []netip.Addr{suspect.IP, suspect6.IP}}
	byMAC := Suspect{MAC: suspect.MAC}
	stranger := packets.NewHost("10.0.1.99")
	broadcast := packets.Host{MAC: net.HardwareAddr{255, 255, 255, 255, 255, 255}, IP: netip.MustParseAddr("10.0.1.255")}
	for _, c := range []struct {
		reason  string
		suspect Suspect
		frame   []byte
		want    Direction
	}{
		{"from its address", byAddress, packets.Echo(suspect, internet, 1, 1, nil), Egress},
		{"to its address", byAddress, packets.Echo(internet, suspect, 1, 1, nil), Ingress},
		{"from its IPv6 address", byAddress, packets.Echo(suspect6, internet6, 1, 1, nil), Egress},
		{"a tag in between", byAddress, packets.Tagged(packets.Echo(suspect, internet, 1, 1, nil), 3), Egress},
		{"of others", byAddress, packets.Echo(stranger, internet, 1, 1, nil), ""},
		{"a broadcast of others", byAddress, packets.UDP(stranger.On(1), broadcast.On(2), nil), Ingress},
		{"from its MAC, whatever the address", byMAC, packets.Ethernet(suspect, stranger, 0x0800, nil), Egress},
		{"to its MAC", byMAC, packets.Ethernet(stranger, suspect, 0x0806, nil), Ingress},
		{"between other MACs", byMAC, packets.Echo(stranger, internet, 1, 1, nil), ""},
		{"no whole Ethernet header", byMAC, []byte{1, 2, 3}, ""},
	} {
		t.Run(c.reason, func(t *testing.T) {
			if got := c.suspect.direction(c.frame); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestFramesWithoutAddressesAreToldByTheSuspectsMAC(t *testing.T) {
	stranger := packets.NewHost("10.0.1.99")
	r, err := NewReplay(ReplayConfig{Suspect: Suspect{Addresses: []netip.Addr{suspect.IP}}, Frames: packets.Timeline(time.Unix(0, 0), 0,
		packets.Ethernet(suspect, stranger, 0x0806, nil),
		packets.Ethernet(internet, stranger, 0x0806, nil),
		packets.Echo(suspect, internet, 1, 1, nil),
	)})
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Packets(); len(got) != 2 || got[0].Direction != Egress {
		t.Errorf("%d packets, the first %q", len(got), got[0].Direction)
	}
}

func TestARecordingWithoutTheSuspectIsRefused(t *testing.T) {
	frames := packets.MustLoad("zeek-get.pcap")
	for _, c := range []struct {
		reason string
		cfg    ReplayConfig
	}{
		{"no suspect named", ReplayConfig{Frames: frames}},
		{"an address that isn't in it", ReplayConfig{Frames: frames, Suspect: Suspect{Addresses: []netip.Addr{suspect.IP}}}},
		{"broadcasts of others alone", ReplayConfig{Frames: packets.Timeline(time.Unix(0, 0), 0, packets.DHCPDiscover(internet)), Suspect: Suspect{MAC: suspect.MAC}}},
		{"negative speed", ReplayConfig{Frames: frames, Suspect: Suspect{MAC: frames[0].Data[:6]}, Speed: -1}},
		{"speed that is no number", ReplayConfig{Frames: frames, Suspect: Suspect{MAC: frames[0].Data[:6]}, Speed: math.NaN()}},
		{"negative gap", ReplayConfig{Frames: frames, Suspect: Suspect{MAC: frames[0].Data[:6]}, MaxGap: -1}},
	} {
		t.Run(c.reason, func(t *testing.T) {
			if _, err := NewReplay(c.cfg); err == nil {
				t.Error("no error")
			}
		})
	}
}

func TestReplayKeepsTime(t *testing.T) {
	ping := packets.Echo(suspect, internet, 1, 1, nil)
	start := time.Unix(1e9, 0)
	frames := []packets.Frame{{At: start, Data: ping}, {At: start.Add(time.Second), Data: ping},
		{At: start.Add(time.Hour), Data: ping}, {At: start.Add(time.Minute), Data: ping}} // the last is out of order
	for _, c := range []struct {
		reason string
		cfg    ReplayConfig
		want   []time.Duration // when each packet comes, from the first on
	}{
		{"as recorded", ReplayConfig{}, []time.Duration{0, time.Second, time.Hour, time.Hour}},
		{"ten times as fast", ReplayConfig{Speed: 10}, []time.Duration{0, 100 * time.Millisecond, 6 * time.Minute, 6 * time.Minute}},
		{"without the long pause", ReplayConfig{MaxGap: 2 * time.Second}, []time.Duration{0, time.Second, 3 * time.Second, 3 * time.Second}},
		{"without any pause", ReplayConfig{Speed: math.Inf(1)}, []time.Duration{0, 0, 0, 0}},
		{"again after a second", ReplayConfig{MaxGap: 5 * time.Second, Loop: true},
			[]time.Duration{0, time.Second, 6 * time.Second, 6 * time.Second, 7 * time.Second, 8 * time.Second}},
	} {
		t.Run(c.reason, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c.cfg.Frames, c.cfg.Suspect = frames, Suspect{MAC: suspect.MAC}
				r, err := NewReplay(c.cfg)
				if err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				for i, want := range c.want {
					if _, err := r.Next(t.Context()); err != nil {
						t.Fatal(err)
					}
					if got := time.Since(began); got != want {
						t.Errorf("packet %d after %v, want %v", i, got, want)
					}
				}
				if _, err := r.Next(t.Context()); !c.cfg.Loop && !errors.Is(err, io.EOF) {
					t.Errorf("after the last: %v", err)
				}
			})
		})
	}
}

func TestAReplayThatWaitsCanBeStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ping := packets.Echo(suspect, internet, 1, 1, nil)
		r, err := NewReplay(ReplayConfig{Frames: packets.Timeline(time.Unix(0, 0), time.Hour, ping, ping), Suspect: Suspect{MAC: suspect.MAC}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		if _, err := r.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
	})
}

func TestPaceNeverBursts(t *testing.T) {
	for _, c := range []struct {
		reason    string
		perSecond int
		packets   int
		want      time.Duration
	}{
		{"by default", 0, 4001, 2*time.Second - time.Millisecond},
		{"as asked for", 100, 101, time.Second - time.Millisecond},
		{"no bound", -1, 1e6, 0},
	} {
		t.Run(c.reason, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPace(c.perSecond)
				began := time.Now()
				for range c.packets {
					p.wait(t.Context())
				}
				if got := time.Since(began); got != c.want {
					t.Errorf("%d packets in %v, want %v", c.packets, got, c.want)
				}
				if c.perSecond < 0 {
					return
				}
				time.Sleep(time.Hour) // what was late is not made up for
				began = time.Now()
				for range 100 {
					p.wait(t.Context())
				}
				if got, least := time.Since(began), 97*p.interval-time.Millisecond; got < least {
					t.Errorf("100 packets in %v after a pause", got)
				}
			})
		})
	}
}
