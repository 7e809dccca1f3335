package link

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"flashtap/collector/vxlan"
)

// mirrorPorts are the ports of mirrored datagrams. A tunnel on another port leaves them alone.
var mirrorPorts = []uint16{vxlan.Port, vxlan.GenevePort}

// finder finds what takes mirrored datagrams apart within the kernel. All that it needs is opened by newFinder, in the
// network namespace of that moment.
type finder struct {
	links *netlink.Handle
	udp   []*os.File // the tables of UDP sockets
	own   *os.File   // the directory of this process's descriptors
}

func newFinder() (*finder, error) {
	links, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a route socket: %w", err)
	}
	f := &finder{links: links}
	if f.own, err = os.Open("/proc/self/fd"); err != nil {
		f.close()
		return nil, err
	}
	for _, table := range []string{"udp", "udp6"} {
		file, err := os.Open("/proc/thread-self/net/" + table)
		if errors.Is(err, os.ErrNotExist) && table == "udp6" {
			continue // no IPv6 here
		}
		if err != nil {
			f.close()
			return nil, err
		}
		f.udp = append(f.udp, file)
	}
	return f, nil
}

func (f *finder) close() {
	f.links.Close()
	for _, file := range append(f.udp, f.own) {
		if file != nil {
			file.Close() //nolint:errcheck // nothing was written
		}
	}
}

// find says in words what there is now.
func (f *finder) find() ([]string, error) {
	all, err := f.links.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list the interfaces: %w", err)
	}
	var (
		found []string
		named []uint16
	)
	for _, l := range all {
		port, ok := tunnelPort(l)
		// One that is down has no socket.
		if ok && slices.Contains(mirrorPorts, port) && l.Attrs().Flags&net.FlagUp != 0 {
			found = append(found, fmt.Sprintf("the %s device %s on port %d", l.Type(), l.Attrs().Name, port))
			named = append(named, port)
		}
	}
	// A device that was moved to another namespace, as container networks do, has left its socket behind.
	sockets, err := f.foreignSockets()
	for _, port := range sockets {
		if !slices.Contains(named, port) {
			found = append(found, fmt.Sprintf("a socket of the kernel or of another program on port %d", port))
		}
	}
	return found, err
}

func tunnelPort(l netlink.Link) (port uint16, ok bool) {
	switch l := l.(type) {
	case *netlink.Vxlan:
		return uint16(l.Port), true
	case *netlink.Geneve:
		return l.Dport, true
	case *netlink.BareUDP:
		return l.Port, true
	}
	return 0, false
}

// foreignSockets are the ports of mirrored datagrams on which there is a socket that this process does not have.
func (f *finder) foreignSockets() ([]uint16, error) {
	own, err := f.ownSockets()
	if err != nil {
		return nil, err
	}
	var ports []uint16
	for _, table := range f.udp {
		sockets, err := parseSockets(io.NewSectionReader(table, 0, 1<<62))
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", table.Name(), err)
		}
		for _, s := range sockets {
			if slices.Contains(mirrorPorts, s.port) && !own[s.inode] && !slices.Contains(ports, s.port) {
				ports = append(ports, s.port)
			}
		}
	}
	slices.Sort(ports)
	return ports, nil
}

// ownSockets are the inodes of all that this process has open.
func (f *finder) ownSockets() (map[uint64]bool, error) {
	if _, err := f.own.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	names, err := f.own.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	own := map[uint64]bool{}
	for _, name := range names {
		fd, err := strconv.Atoi(name)
		if err != nil {
			return nil, err
		}
		var stat unix.Stat_t
		if unix.Fstat(fd, &stat) == nil && stat.Mode&unix.S_IFMT == unix.S_IFSOCK { // it may be closed by now
			own[stat.Ino] = true
		}
	}
	return own, nil
}

type socket struct {
	port  uint16
	inode uint64
}

// parseSockets reads a table of UDP sockets (proc_pid_net(5), /proc/pid/net/udp).
func parseSockets(table io.Reader) ([]socket, error) {
	const (
		local = 1
		inode = 9
	)
	var found []socket
	lines := bufio.NewScanner(table)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) <= inode || fields[0] == "sl" {
			continue
		}
		_, port, _ := strings.Cut(fields[local], ":")
		p, errPort := strconv.ParseUint(port, 16, 16)
		i, errInode := strconv.ParseUint(fields[inode], 10, 64)
		if err := errors.Join(errPort, errInode); err != nil {
			return nil, err
		}
		found = append(found, socket{port: uint16(p), inode: i})
	}
	return found, lines.Err()
}
