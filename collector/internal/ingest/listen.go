package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

// Endpoint is an address to receive on.
type Endpoint struct {
	netip.AddrPort
	Optional bool // when it can't be had, that is remarked and no error
}

// addressTime is how long an address may take to appear: an IPv6 address cannot be bound before duplicate address
// detection is through (RFC 4862, section 5.4), which has hardly begun when an instance boots.
const addressTime = 10 * time.Second

// ListenAll binds a socket to every endpoint. What it remarks is for whoever reads the evidence.
func ListenAll(ctx context.Context, endpoints []Endpoint, cfg SocketConfig, log *slog.Logger) (receivers []Receiver, remarks []string, err error) {
	defer func() {
		if err != nil {
			for _, r := range receivers {
				err = errors.Join(err, r.Close())
			}
			receivers = nil
		}
	}()
	patience, cancel := context.WithTimeout(ctx, addressTime)
	defer cancel()
	for _, e := range endpoints {
		s, err := listenPatiently(patience, e.AddrPort, cfg)
		switch {
		case err != nil && e.Optional && ctx.Err() == nil:
			remarks = append(remarks, fmt.Sprintf("nothing is received on %s: %v", e.AddrPort, err))
			continue
		case err != nil:
			return receivers, nil, err
		}
		log.Info("listening", "address", s.Addr().String(), "queue", s.KernelQueue())
		receivers = append(receivers, s)
	}
	if len(receivers) == 0 {
		return nil, nil, errors.New("no address to listen on")
	}
	return receivers, remarks, nil
}

func listenPatiently(ctx context.Context, addr netip.AddrPort, cfg SocketConfig) (*Socket, error) {
	for {
		s, err := Listen(addr, cfg)
		if !errors.Is(err, syscall.EADDRNOTAVAIL) {
			return s, err
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// ParseEndpoints reads a list of addresses, with or without ports, as a person types it.
func ParseEndpoints(list string, defaultPort uint16) ([]Endpoint, error) {
	var endpoints []Endpoint
	for text := range strings.SplitSeq(list, ",") {
		text = strings.TrimSpace(text)
		if addr, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
			endpoints = append(endpoints, Endpoint{AddrPort: netip.AddrPortFrom(addr.Unmap(), defaultPort)})
			continue
		}
		addr, err := netip.ParseAddrPort(text)
		if err != nil {
			return nil, fmt.Errorf("%q is no address, and no address with a port", text)
		}
		endpoints = append(endpoints, Endpoint{AddrPort: addr})
	}
	return endpoints, nil
}
