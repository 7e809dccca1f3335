package ingest

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestListenAll(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	v4 := Endpoint{AddrPort: netip.MustParseAddrPort("127.0.0.1:0")}
	v6 := Endpoint{AddrPort: netip.MustParseAddrPort("[::1]:0"), Optional: true}
	absent := Endpoint{AddrPort: netip.MustParseAddrPort("[2001:db8::1]:0")}

	receivers, remarks, err := ListenAll(t.Context(), []Endpoint{v4, v6}, SocketConfig{}, log)
	if err != nil || len(receivers) != 2 || len(remarks) != 0 {
		t.Fatalf("%d receivers, remarks %q, %v", len(receivers), remarks, err)
	}
	bound := Endpoint{AddrPort: receivers[0].(*Socket).Addr()}
	if _, _, err := ListenAll(t.Context(), []Endpoint{bound}, SocketConfig{}, log); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a port that is taken: %v", err)
	}
	optional := bound
	optional.Optional = true
	others, remarks, err := ListenAll(t.Context(), []Endpoint{v4, optional}, SocketConfig{}, log)
	if err != nil || len(others) != 1 || len(remarks) != 1 || !strings.Contains(remarks[0], bound.String()) {
		t.Errorf("an optional address that can't be had: %d receivers, remarks %q, %v", len(others), remarks, err)
	}
	for _, r := range append(receivers, others...) {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, _, err := ListenAll(ctx, []Endpoint{v4, absent}, SocketConfig{}, log); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("an address that is not there: %v", err)
	}
	again, _, err := ListenAll(t.Context(), []Endpoint{bound}, SocketConfig{}, log)
	if err != nil {
		t.Fatalf("the port was not given back: %v", err)
	}
	if err := again[0].Close(); err != nil {
		t.Error(err)
	}
}

func TestParseEndpoints(t *testing.T) {
	tests := []struct {
		reason, list string
		want         []string
	}{
		{"an address", "10.0.0.9", []string{"10.0.0.9:4789"}},
		{"with a port", "10.0.0.9:5000", []string{"10.0.0.9:5000"}},
		{"two of both kinds", "10.0.0.9, 2001:db8::9", []string{"10.0.0.9:4789", "[2001:db8::9]:4789"}},
		{"IPv6 in brackets", "[2001:db8::9]", []string{"[2001:db8::9]:4789"}},
		{"IPv6 with a port", "[2001:db8::9]:0", []string{"[2001:db8::9]:0"}},
		{"a name is no address", "localhost", nil},
		{"nothing", "", nil},
		{"a port that is none", "10.0.0.9:99999", nil},
		{"a comma too many", "10.0.0.9,", nil},
	}
	for _, test := range tests {
		t.Run(test.reason, func(t *testing.T) {
			endpoints, err := ParseEndpoints(test.list, 4789)
			var got []string
			for _, e := range endpoints {
				got = append(got, e.String())
			}
			if (err == nil) != (test.want != nil) || !slices.Equal(got, test.want) {
				t.Errorf("%q, %v; want %q", got, err, test.want)
			}
		})
	}
}
