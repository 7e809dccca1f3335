package rig

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"flashtap/testutil/bench/send"
	"flashtap/testutil/bench/traffic"
	"flashtap/testutil/bench/verify"
)

func newRig(t *testing.T) *Rig {
	t.Helper()
	r, err := New(Config{SendCPU: 0, ReceiveCPU: 0, Base: t.TempDir()})
	if errors.Is(err, ErrPermission) {
		if os.Getenv("CI") == "true" {
			t.Fatal("no right to make a network namespace; in CI there must be")
		}
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestLiveNamespacesCarryPacketsToTcpdump(t *testing.T) {
	if _, err := exec.LookPath("tcpdump"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("tcpdump is not here")
	}
	r := newRig(t)
	defer func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if left, _ := exec.Command("ip", "netns", "list").Output(); strings.Contains(string(left), r.receiver) {
			t.Errorf("namespaces are left:\n%s", left)
		}
	}()
	for _, c := range []struct {
		reason string
		change func(*traffic.Plan)
	}{
		{"a mix", func(p *traffic.Plan) { p.Sizes, _ = traffic.ParseSizes("imix"); p.VNIs = 3 }},
		{"jumbo frames over IPv6", func(p *traffic.Plan) { p.Sizes = []int{8945}; p.Outer.Source, p.Outer.Target = source6, target6 }},
		{"streams, with options", func(p *traffic.Plan) { p.Sizes, p.TCP, p.Burst, p.Outer.Options = []int{1400}, true, 16, true }},
	} {
		t.Run(c.reason, func(t *testing.T) {
			plan := traffic.DefaultPlan()
			c.change(&plan)
			g, err := traffic.New(r.Plan(plan))
			if err != nil {
				t.Fatal(err)
			}
			file := r.Dir + "/out.pcap"
			p, err := r.Start(Program{Args: []string{"tcpdump", "-i", r.ReceiveInterface, "-n", "-B", "16384", "-U", "--nano", "-Z", "root", "-w", file, "udp", "port", "4789"}})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Kill()
			if err := p.Await(t.Context(), 30*time.Second, p.Capturing); err != nil {
				t.Fatal(err)
			}
			time.Sleep(200 * time.Millisecond) // it has a socket, and soon a filter
			const n = 2000
			sent, err := send.Run(t.Context(), send.Config{
				Interface: r.SendInterface, Namespace: r.SendNamespace, Traffic: g, Count: n, Rate: 10000, CPU: -1,
				Ring: 1 << 20, // on a machine that is busy with other tests it waits rather than refuse
			})
			if err != nil || sent.Sent != n || sent.Refused != 0 || sent.Bytes == 0 || sent.PPS > 11000 {
				t.Fatalf("%+v, error %v", sent, err)
			}
			// It takes its time.
			whole := func() bool {
				v, err := verify.Verify([]string{file}, n, verify.Options{Traffic: g})
				return err == nil && v.Intact == n
			}
			if err := p.Await(t.Context(), 30*time.Second, whole); err != nil && t.Context().Err() != nil {
				t.Fatal(err)
			}
			used, err := p.Usage()
			if _, most := p.Memory(); err != nil || used.Run == 0 || most == 0 || p.Descriptors() == 0 {
				t.Errorf("%+v, %d bytes, error %v", used, most, err)
			}
			if err := p.Stop(); err != nil {
				t.Error(err)
			}
			v, err := verify.Verify([]string{file}, n, verify.Options{Traffic: g})
			if err != nil || !v.Whole() || v.Intact != n || v.Tick != 1 || v.Outer != n || v.StampsBack != 0 {
				t.Errorf("%s, of %d records each %v ns, error %v; tcpdump: %s", v, v.Records, v.Tick, err, p.Output())
			}
		})
	}
	kernel, err := r.Kernel()
	if err != nil || kernel.Run == 0 {
		t.Errorf("the kernel's thread has done nothing: %+v, error %v", kernel, err)
	}
}

func TestNamespacesOfDeadProcessesAreRemoved(t *testing.T) {
	r := newRig(t)
	defer r.Close() //nolint:errcheck // the other test looks at it
	left := prefix + "999999999-1s"
	if err := ip("netns", "add", left); err != nil {
		t.Fatal(err)
	}
	again := newRig(t)
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	out, err := exec.Command("ip", "netns", "list").Output()
	if err != nil || strings.Contains(string(out), left) || !strings.Contains(string(out), r.receiver) {
		t.Errorf("error %v, left are\n%s", err, out)
	}
}

func TestAProgramThatEndsEarlyIsQuotedInNamespace(t *testing.T) {
	r := newRig(t)
	defer r.Close() //nolint:errcheck // the other test looks at it
	p, err := r.Start(Program{Args: []string{"sh", "-c", "echo no such luck; exit 3"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Await(context.Background(), 10*time.Second, p.Capturing); err == nil || !strings.Contains(err.Error(), "no such luck") {
		t.Errorf("error %v", err)
	}
}
