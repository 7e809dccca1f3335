package dataplane

// LiveConfig names an interface of this machine.
type LiveConfig struct {
	Interface string
	// Namespace is the file of the network namespace the interface is in (/run/netns/NAME); empty for this process's.
	Namespace string
	// Peer says that the interface is the other end of the instance's own, as a veth in the host is: what it receives
	// has left the instance.
	Peer bool
}

func (c LiveConfig) direction(outgoing bool) Direction {
	if outgoing != c.Peer {
		return Egress
	}
	return Ingress
}
