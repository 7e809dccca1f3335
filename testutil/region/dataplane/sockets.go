package dataplane

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"syscall"
)

// sockets are the outer source ports: one UDP socket each, opened when the first flow needs it, at most portCount.
type sockets struct {
	address netip.Addr
	open    [portCount]*net.UDPConn
}

// port returns the socket that stands for an outer source port of SourcePort. When another program holds that port on
// this machine, one a multiple of portCount higher stands in for it, so that a flow still keeps one port.
func (s *sockets) port(wanted uint16) (*net.UDPConn, error) {
	slot := &s.open[(wanted-firstPort)%portCount]
	if *slot != nil {
		return *slot, nil
	}
	for port := int(wanted); port <= math.MaxUint16; port += portCount {
		at := netip.AddrPortFrom(s.address, uint16(port))
		conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("open source port %s: %w", at, err)
		}
		*slot = conn
		return conn, nil
	}
	return nil, fmt.Errorf("open source port %s: all ports that could stand in are taken", netip.AddrPortFrom(s.address, wanted))
}

func (s *sockets) close() error {
	var errs []error
	for i, conn := range s.open {
		if conn != nil {
			errs = append(errs, conn.Close())
			s.open[i] = nil
		}
	}
	return errors.Join(errs...)
}
