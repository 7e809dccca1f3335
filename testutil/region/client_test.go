package region_test

import (
	"context"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"flashtap/testutil/region"
	regionec2 "flashtap/testutil/region/ec2"
)

// lazyConn is a connection of a machine so busy that an answer begins before its client goes on writing, and ends after
// that.
type lazyConn struct {
	net.Conn
	answered atomic.Bool
}

func (c *lazyConn) Write(p []byte) (int, error) {
	c.answered.Store(false)
	n, err := c.Conn.Write(p)
	time.Sleep(10 * time.Millisecond)
	return n, err
}

func (c *lazyConn) Read(p []byte) (int, error) {
	if c.answered.Load() { // this is the rest of the answer
		time.Sleep(30 * time.Millisecond)
	}
	n, err := c.Conn.Read(p)
	c.answered.Store(true)
	return n, err
}

// The answer to a call arrives whole, however late the client comes to end its own request.
func TestHTTPClientOnABusyMachine(t *testing.T) {
	t.Parallel()
	r := start(t, region.Config{})
	vpc := r.EC2.AddVPC(regionec2.VPC{CIDR: "10.0.0.0/16"})
	subnet := r.EC2.AddSubnet(regionec2.Subnet{VPC: vpc, CIDR: "10.0.1.0/24"})
	const instances = 20 // enough for an answer of several reads
	for range instances {
		r.EC2.AddInstance(regionec2.InstanceSeed{Type: "m5.large", Interfaces: []regionec2.InterfaceSeed{{Subnet: subnet}}})
	}
	cfg := client(r, "tester")
	cfg.HTTPClient = region.HTTPClient(func(transport *http.Transport) {
		dial := transport.DialContext
		transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			return &lazyConn{Conn: conn}, err
		}
	})
	api := ec2.NewFromConfig(cfg)
	for range 3 {
		out, err := api.DescribeNetworkInterfaces(t.Context(), &ec2.DescribeNetworkInterfacesInput{})
		must(t, err)
		equal(t, "interfaces", len(out.NetworkInterfaces), instances)
	}
}
