package region

import (
	"context"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"flashtap/testutil/region/ec2"
)

// never counts boots that should not be.
type never struct{ boots atomic.Int32 }

func (n *never) Run(ctx context.Context, _ Machine, _ <-chan struct{}) error {
	n.boots.Add(1)
	<-ctx.Done()
	return nil
}

// EC2's hooks have goroutines of their own, so that a boot may come after what ended its instance.
func TestABootThatComesTooLateIsNone(t *testing.T) {
	t.Parallel()
	const id = "i-0123456789abcdef0"
	for _, row := range []struct {
		name   string
		before func(*Region)
	}{
		{"the instance was told to stop", func(r *Region) { r.guests.shutDown(id) }},
		{"the instance is terminated", func(r *Region) { r.guests.changed(ec2.StateChange{InstanceID: id, State: "terminated"}) }},
		{"the instance is stopped", func(r *Region) { r.guests.changed(ec2.StateChange{InstanceID: id, State: "stopped"}) }},
		{"the region is closed", func(r *Region) { r.guests.killAll() }},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			guest := &never{}
			r, err := Start(Config{Dir: t.TempDir(), Guest: guest})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			vpc := r.EC2.AddVPC(ec2.VPC{CIDR: "127.5.0.0/16"})
			subnet := r.EC2.AddSubnet(ec2.Subnet{VPC: vpc, CIDR: "127.5.1.0/24"})
			r.EC2.AddInstance(ec2.InstanceSeed{ID: id, Type: "c7gn.large", Interfaces: []ec2.InterfaceSeed{{Subnet: subnet}}})
			i, _ := r.EC2.Instance(id)
			i.UserData = []byte("ignore")
			row.before(r)
			if err := r.guests.boot(i); err != nil {
				t.Error(err)
			}
			time.Sleep(20 * time.Millisecond)
			if guest.boots.Load() != 0 {
				t.Error("the guest booted")
			}
		})
	}
}

// A tag that is set while the metadata service comes up is shown when it has.
func TestATagDuringTheBootIsShown(t *testing.T) {
	t.Parallel()
	r, err := Start(Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	vpc := r.EC2.AddVPC(ec2.VPC{CIDR: "127.5.0.0/16"})
	subnet := r.EC2.AddSubnet(ec2.Subnet{VPC: vpc, CIDR: "127.5.1.0/24"})
	id := r.EC2.AddInstance(ec2.InstanceSeed{Type: "c7gn.large", Interfaces: []ec2.InterfaceSeed{{Subnet: subnet, Address: "127.5.1.9"}}})
	i, _ := r.EC2.Instance(id)
	i.MetadataTags = true
	if i.Interfaces[0].Address != netip.MustParseAddr("127.5.1.9") {
		t.Fatalf("the instance has the address %v", i.Interfaces[0].Address)
	}

	ctx, plug := context.WithCancel(t.Context())
	defer plug()
	one := &running{ready: make(chan struct{}), shutdown: make(chan struct{}), plug: plug}
	if !r.guests.enter(id, one) {
		t.Fatal("too late")
	}
	told := make(chan struct{})
	go func() {
		defer close(told)
		r.guests.tagged(id, map[string]string{"no/path": "x"}) // which the service refuses, so that the log shows it
	}()
	select {
	case <-told:
		t.Error("the tag went nowhere")
	case <-time.After(20 * time.Millisecond):
	}
	if _, _, err := r.guests.machine(ctx, i, one); err != nil {
		t.Error(err)
	}
	close(one.ready)
	<-told
	r.guests.leave(id)
}
