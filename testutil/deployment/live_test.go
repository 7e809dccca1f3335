package deployment_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"flashtap/events"
	"flashtap/testutil/deployment"
	"flashtap/testutil/region/asl"
	"flashtap/testutil/region/dataplane"
)

// inNamespace runs f on a thread of its own within a network namespace. The thread ends with f.
func inNamespace(name string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked, so that no other goroutine meets this namespace
		file, err := os.Open("/run/netns/" + name)
		if err == nil {
			err = unix.Setns(int(file.Fd()), unix.CLONE_NEWNET)
			file.Close()
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %v: %v: %s", args, err, out)
	}
}

// twoHosts are network namespaces joined by a veth pair: the suspect at 192.0.2.1 and a peer at 192.0.2.2.
func twoHosts(t *testing.T) (suspect, peer string) {
	t.Helper()
	_, missing := exec.LookPath("ip")
	if os.Geteuid() != 0 || missing != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("CI must run this test as root, with iproute2 installed (uid %d, %v)", os.Geteuid(), missing)
		}
		t.Skip("making network namespaces needs root and iproute2")
	}
	suspect, peer = fmt.Sprintf("ft-suspect-%d", os.Getpid()), fmt.Sprintf("ft-peer-%d", os.Getpid())
	for _, name := range []string{suspect, peer} {
		ip(t, "netns", "add", name)
		t.Cleanup(func() { ip(t, "netns", "delete", name) })
	}
	ip(t, "link", "add", "eth0", "netns", suspect, "type", "veth", "peer", "name", "eth0", "netns", peer)
	for name, address := range map[string]string{suspect: "192.0.2.1/24", peer: "192.0.2.2/24"} {
		ip(t, "-n", name, "addr", "add", address, "dev", "eth0")
		ip(t, "-n", name, "link", "set", "eth0", "up")
		ip(t, "-n", name, "link", "set", "lo", "up")
	}
	return suspect, peer
}

// A live suspect: real connections between two hosts, seen on the suspect's real interface, mirrored to a real
// collector.
func TestALiveInterfaceIsCaptured(t *testing.T) {
	suspect, peer := twoHosts(t)
	live, err := dataplane.OpenLive(dataplane.LiveConfig{Interface: "eth0", Namespace: "/run/netns/" + suspect})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { live.Close() })
	s := set(t, deployment.SceneConfig{Traffic: live, Change: func(set *events.Settings) { set.DurationSeconds = 6 }})
	x := publish(t, s)
	eventually(t, 40*time.Second, "the session exists", func() bool { return contains(x.Trace(), "AwaitProof") })

	payload := bytes.Repeat([]byte("exfiltrated "), 50_000)
	var listener net.Listener
	if err := inNamespace(peer, func() (err error) {
		listener, err = net.Listen("tcp", "192.0.2.2:8080")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	received := make(chan []byte, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			received <- nil
			return
		}
		defer conn.Close()
		body, _ := io.ReadAll(conn) // what arrived is compared with what was sent
		received <- body
	}()
	if err := inNamespace(suspect, func() error {
		conn, err := net.Dial("tcp", "192.0.2.2:8080")
		if err != nil {
			return err
		}
		_, err = conn.Write(payload)
		return errors.Join(err, conn.Close())
	}); err != nil {
		t.Fatal(err)
	}
	if got := <-received; !bytes.Equal(got, payload) {
		t.Fatalf("the peer received %d bytes of %d", len(got), len(payload))
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	result := finish(t, x)
	if result.Status != asl.Succeeded {
		t.Fatalf("the execution %s: %s: %s", result.Status, result.Error, result.Cause)
	}
	c := events.CaptureID(x.Name())
	sameFrames(t, s, c)
	nothingLeft(t, s)
	if dropped, err := live.Dropped(); err != nil || dropped > 0 {
		t.Errorf("the mirror's own tap dropped %d: %v", dropped, err)
	}
	frames, err := s.Frames(c)
	if err != nil {
		t.Fatal(err)
	}
	var carried int
	for _, f := range frames {
		carried += f.OrigLen
	}
	if carried < len(payload) {
		t.Errorf("the frames in the evidence stand for %d bytes, %d were sent in one connection", carried, len(payload))
	}
}
