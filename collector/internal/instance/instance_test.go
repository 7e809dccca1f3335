package instance

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// metadata serves what the paths say, to those who have fetched a token.
func metadata(t *testing.T, paths map[string]string) *Metadata {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && r.URL.Path == "/latest/api/token" {
			w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", r.Header.Get("X-Aws-Ec2-Metadata-Token-Ttl-Seconds"))
			w.Write([]byte("token"))
			return
		}
		value, ok := paths[strings.TrimPrefix(r.URL.Path, "/latest/")]
		switch {
		case r.Header.Get("X-Aws-Ec2-Metadata-Token") != "token":
			w.WriteHeader(http.StatusUnauthorized)
		case !ok:
			w.WriteHeader(http.StatusNotFound)
		default:
			w.Write([]byte(value))
		}
	}))
	t.Cleanup(server.Close)
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.URL)
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
	m, err := Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestWhatTheInstanceSaysOfItself(t *testing.T) {
	m := metadata(t, map[string]string{
		"meta-data/instance-id": "i-0a1b2c3d4e5f60718",
		"meta-data/local-ipv4":  "10.0.0.9",
		"meta-data/mac":         "02:00:00:00:00:09",
		"meta-data/network/interfaces/macs/02:00:00:00:00:09/ipv6s": "2001:db8::9\n2001:db8::a",
		"meta-data/tags/instance/flashtap:stop":                     "",
		"meta-data/tags/instance/flashtap:deadline":                 "2026-11-22T03:04:05Z",
		"user-data": "#!/bin/bash\n",
	})
	if id, err := m.ID(t.Context()); err != nil || id != "i-0a1b2c3d4e5f60718" {
		t.Errorf("id %q, %v", id, err)
	}
	want := []netip.Addr{netip.MustParseAddr("10.0.0.9"), netip.MustParseAddr("2001:db8::9"), netip.MustParseAddr("2001:db8::a")}
	if addrs, err := m.Addresses(t.Context()); err != nil || !slices.Equal(addrs, want) {
		t.Errorf("addresses %v, %v", addrs, err)
	}
	if value, found, err := m.Tag(t.Context(), "flashtap:deadline"); err != nil || !found || value != "2026-11-22T03:04:05Z" {
		t.Errorf("deadline tag %q, %t, %v", value, found, err)
	}
	if value, found, err := m.Tag(t.Context(), "flashtap:stop"); err != nil || !found || value != "" {
		t.Errorf("a tag without a value is a tag: %q, %t, %v", value, found, err)
	}
	if _, found, err := m.Tag(t.Context(), "flashtap:other"); err != nil || found {
		t.Errorf("a tag that is not there: %t, %v", found, err)
	}
	if data, err := m.UserData(t.Context()); err != nil || string(data) != "#!/bin/bash\n" {
		t.Errorf("user data %q, %v", data, err)
	}
}

func TestInstanceWithoutIPv6(t *testing.T) {
	m := metadata(t, map[string]string{"meta-data/local-ipv4": "10.0.0.9", "meta-data/mac": "02:00:00:00:00:09"})
	if addrs, err := m.Addresses(t.Context()); err != nil || len(addrs) != 1 {
		t.Errorf("addresses %v, %v", addrs, err)
	}
}

func TestNonsenseIsRefused(t *testing.T) {
	m := metadata(t, map[string]string{"meta-data/instance-id": "me", "meta-data/local-ipv4": "here", "meta-data/mac": "02:00:00:00:00:09"})
	if id, err := m.ID(t.Context()); err == nil {
		t.Errorf("took %q for an instance id", id)
	}
	if addrs, err := m.Addresses(t.Context()); err == nil {
		t.Errorf("took %v for addresses", addrs)
	}
}
