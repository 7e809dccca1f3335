//go:build linux

package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"flashtap/testutil/bench/rig"
	"flashtap/testutil/bench/send"
	"flashtap/testutil/bench/verify"
)

var update = flag.Bool("update", false, "rewrite the golden file")

// The sender and the stand-in are processes of this program, which in tests is the test.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "send" || os.Args[1] == "standin") {
		if err := command(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// live makes one run of a collector.
func live(collector, load string, round int, app, kernel float64, lost uint64) Result {
	r := Result{
		Experiment: experimentLive, Collector: collector, Load: load, Round: round, Memory: 70 << 20, App: app, Kernel: kernel, Total: app + kernel,
		Send: &send.Result{Sent: 1000, Seconds: 0.001}, Verdict: &verify.Verdict{Intact: 1000 - lost, Lost: lost, Tick: 1},
	}
	r.Kept = float64(r.Verdict.Intact) / r.Send.Seconds
	return r
}

// everyKind are results of every experiment, by which all of a report is made.
func everyKind() (rs results) {
	rs = append(rs, Result{Experiment: experimentMachine, Machine: &Machine{
		CPU: "Some CPU", CPUs: 2, Memory: 24 << 30, Kernel: "6.18.0", Go: "go1.26.8", Date: time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC), Load: "0.1 0.2 0.3",
		Peers: map[string]string{"tcpdump": "4.99.3", "editcap": "4.0.17"}, Missing: []string{"netsniff-ng", "dumpcap"},
	}})
	for i := range 3 {
		x, round := float64(i), i+1
		rs = append(rs,
			live(ours, "1400", round, 300+10*x, 700, 0), live(tcpdump, "1400", round, 1000, 1000-50*x, uint64(600*i/2)),
			live(ours, "64", round, 300, 700, 0), live(tcpdump, "64", round, 300, 900, 0),
			live(oursDigest, "300", round, 400, 700, 0), live(tcpdumpRoll, "300", round, 2000, 1200, 100),
			live(oursSocket, "300", round, 900, 1100, 0), live(tcpdump, "300", round, 600, 1300, 0),
			Result{Experiment: experimentLossless, Collector: ours, Load: "imix", Round: round, Lossless: 700_000 + 10_000*x, Open: i == 2},
			Result{Experiment: experimentLossless, Collector: tcpdump, Load: "imix", Round: round, Lossless: 600_000},
			Result{Experiment: experimentLossless, Collector: gopacketLoop, Load: "imix", Round: round, Lossless: 100_000},
			Result{Experiment: experimentOffline, Collector: editcap, Load: "imix 4 vnis", Round: round, App: 500, Verdict: &verify.Verdict{Intact: 10, Tick: 1}},
			Result{Experiment: experimentOffline, Collector: "tcpdump -r -w", Load: "imix 4 vnis", Round: round, App: 600, Verdict: &verify.Verdict{Intact: 10, Outer: 10, Tick: 1000}},
			Result{Experiment: experimentOffline, Collector: ours, Load: "imix 4 vnis", Round: round, Err: "exit status 2:\nno such | command"},
			Result{Experiment: experimentEvidence, Collector: ours, Load: "whole, " + oneCPU, Round: round, PerByte: 1.1, Elapsed: 1.2, Memory: 14 << 20},
			Result{Experiment: experimentEvidence, Collector: sha256sum, Load: "whole, " + oneCPU, Round: round, PerByte: 5, Elapsed: 5.1},
			Result{Experiment: experimentEvidence, Collector: ours, Load: "whole, " + allCPUs, Round: round, PerByte: 1.1, Elapsed: 0.8 + x/10, Memory: 15 << 20},
			Result{Experiment: experimentEvidence, Collector: opensslDigest, Load: "whole, " + allCPUs, Round: round, PerByte: 1, Elapsed: 1},
			Result{Experiment: experimentPipeline, Collector: ours, Load: "1400", Rate: 80_000, Round: round, PerByte: 2.2 + x/10, PerByteA: 1.5, Send: &send.Result{Sent: 10}, Verdict: &verify.Verdict{Intact: 10}},
		)
		for _, name := range []string{ours, tcpdump, tcpdumpVXLAN} {
			r := live(name, streams, round, 1, 1, 0)
			r.Experiment = experimentStop
			switch name {
			case tcpdump:
				r.Verdict.Lost, r.Verdict.Tick = 5, 1000
			case tcpdumpVXLAN:
				r.Verdict.Lost, r.Verdict.Merged, r.Verdict.MergedFrames = 905, 60, 900
			}
			rs = append(rs, r)
		}
	}
	rs = append(rs, Result{Experiment: experimentLossless, Collector: netsniff, Load: "imix", Round: 1, Err: "netsniff-ng is not installed"})
	soak := live(oursDigest, "imix", 1, 400, 700, 0)
	soak.Experiment, soak.Rate, soak.Send.Seconds = experimentSoak, 300_000, 1800
	for i := range 10 {
		soak.Samples = append(soak.Samples, sample{Seconds: float64(180 * i), Memory: 90 << 20, Descriptors: 20})
	}
	return append(rs, soak)
}

func TestAReportNamesWhatWasMissedAndWhatIsMissing(t *testing.T) {
	var b bytes.Buffer
	report(&b, everyKind(), nil)
	path := filepath.Join("testdata", "report.md")
	if *update {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(b.Bytes(), want) {
		t.Errorf("error %v; the report is\n%s", err, &b)
	}
}

func TestRawResultsMakeTheSameReport(t *testing.T) {
	path := filepath.Join(t.TempDir(), "raw.jsonl")
	l, err := openLedger(path)
	if err != nil {
		t.Fatal(err)
	}
	before := Result{Experiment: experimentMachine, Machine: &Machine{CPU: "an earlier run"}}
	for _, r := range append(results{before}, everyKind()...) {
		if err := l.add(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	for _, all := range []string{"-all=false", "-all"} {
		var direct, read bytes.Buffer
		want := l.all
		if all == "-all=false" {
			want = want[1:]
		}
		report(&direct, want, []string{"P1", "P7"})
		if err := command(t.Context(), []string{"report", all, "-only", "P1,P7", path}, nil, &read, &read); err != nil || direct.String() != read.String() {
			t.Errorf("%s: error %v\n%s\nis not\n%s", all, err, &read, &direct)
		}
	}
	var read bytes.Buffer
	if err := command(t.Context(), []string{"report", "-only", "P99", path}, nil, &read, &read); err == nil {
		t.Error("a goal that there is not is no error")
	}
}

func TestARowIsMetByItsOwnDigits(t *testing.T) {
	for _, c := range []struct {
		reason string
		r      row
		want   bool
	}{
		{"below", row{figure: .34, want: .35}, true},
		{"rounded", row{figure: .3549, want: .35}, true},
		{"above", row{figure: .356, want: .35}, false},
		{"at least, and more", row{figure: 2.41, want: 2.4, least: true}, true},
		{"at least, and less", row{figure: 2.39, want: 2.4, least: true}, false},
		{"no figure", row{want: .35, missing: "tcpdump is not installed"}, false},
	} {
		t.Run(c.reason, func(t *testing.T) {
			if c.r.met() != c.want {
				t.Errorf("met: %v", !c.want)
			}
		})
	}
}

// A collector of any capacity is found within a step of it, and in few probes.
func TestTheSearchFindsTheHighestRate(t *testing.T) {
	const bottom, top = 200, 300
	for capacity := bottom - 1; capacity <= top; capacity++ {
		for _, first := range []int{bottom, 250, top} {
			probes := 0
			pass := func(i int) (float64, error) {
				if probes++; i < bottom || i > top {
					t.Fatalf("capacity %d: rate %d was tried", capacity, i)
				}
				if i <= capacity {
					return 0, nil
				}
				return 1 - math.Pow(step, float64(capacity-i)), nil // what does not fit is lost
			}
			good, bad, err := bracket(first, bottom, top, pass)
			if err != nil || good > capacity || bad <= capacity || good < bottom-1 || bad > top+1 {
				t.Errorf("capacity %d from %d: between %d and %d, error %v", capacity, first, good, bad, err)
			}
			if probes > 7 {
				t.Errorf("capacity %d from %d: %d probes", capacity, first, probes)
			}
		}
	}
}

func TestAllocationsAreReadFromTheCollectorsTrace(t *testing.T) {
	before := "READY\ngc 1 @0.012s 2%: 0.02+0.5+0.01 ms clock, 0.04+0.1/0.3/0+0.02 ms cpu, 3->4->1 MB, 4 MB goal, 0 MB stacks, 0 MB globals, 2 P\n"
	during := "gc 2 @1.012s 2%: 0.02+0.5+0.01 ms clock, 0.04+0.1/0.3/0+0.02 ms cpu, 4->5->2 MB, 4 MB goal, 0 MB stacks, 0 MB globals, 2 P\n" +
		"gc is not what this line is about: 1->2->3 GB\ngc 3 @2.0s 2%: 0+0+0 ms clock, 0+0/0/0+0 ms cpu, 5->5->2 MB, 4 MB goal, 2 P\n"
	if got := allocated(before+during, len(before)); got != (4+3)*1<<20 {
		t.Errorf("%v bytes", got)
	}
	if got := allocated(before, len(before)); got != 0 {
		t.Errorf("%v bytes before anything was sent", got)
	}
}

func TestASoakSaysWhetherMemoryGrows(t *testing.T) {
	line := func(perHour float64, descriptors float64) (all []sample) {
		for i := range 180 {
			hours := float64(i) / 360
			m := 80<<20 + perHour*hours
			if i < 20 {
				m -= 30 << 20 // while it warms up
			}
			all = append(all, sample{Seconds: hours * 3600, Memory: int64(m), Descriptors: 20 + int(descriptors*hours)})
		}
		return all
	}
	for _, c := range []struct {
		reason              string
		memory, descriptors float64
		want                bool
	}{
		{"flat", 0, 0, true},
		{"a page now and then", 100 << 10, 0, true},
		{"ten MiB an hour", 10 << 20, 0, false},
		{"a descriptor every few minutes", 0, 10, false},
		{"shrinking", -10 << 20, 0, true},
	} {
		t.Run(c.reason, func(t *testing.T) {
			all := line(c.memory, c.descriptors)
			if steady(all) != c.want {
				memory, descriptors := growth(all)
				t.Errorf("%.0f bytes and %.1f descriptors an hour are called steady: %v", memory, descriptors, !c.want)
			}
			if memory, _ := growth(all); math.Abs(memory-c.memory) > 100<<10 {
				t.Errorf("%.0f bytes an hour, want %.0f", memory, c.memory)
			}
		})
	}
}

func TestWhatNobodyUnderstandsIsRefused(t *testing.T) {
	for _, args := range []string{
		"", "lve", "report", "report -only P1 /absent", "record", "record -size 10 x", "verify -size huge", "send -size 0", "send -source-mac x",
	} {
		var b bytes.Buffer
		if err := command(t.Context(), strings.Fields(args), strings.NewReader(""), &b, &b); err == nil {
			t.Errorf("%q is no error", args)
		}
	}
	if _, err := findCollectors("ours,theirs", nil); err == nil || !strings.Contains(err.Error(), "netsniff-ng") {
		t.Errorf("error %v", err)
	}
	if _, err := custom("nameless"); err == nil {
		t.Error("a collector without a name is no error")
	}
}

func TestWhatIsRecordedIsVerified(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.pcap")
	var b bytes.Buffer
	traffic := []string{"-count", "500", "-size", "imix", "-vnis", "3", "-vlan", "7", "-options"}
	if err := command(t.Context(), append(append([]string{"record"}, traffic...), file), nil, &b, &b); err != nil {
		t.Fatal(err)
	}
	if err := command(t.Context(), append(append([]string{"verify"}, traffic...), file), nil, &b, &b); err != nil || !strings.Contains(b.String(), `"intact": 500`) {
		t.Errorf("error %v\n%s", err, &b)
	}
	if err := command(t.Context(), []string{"verify", "-count", "501", "-size", "imix", "-vnis", "3", file}, nil, &b, &b); err == nil || !strings.Contains(err.Error(), "1 lost") {
		t.Errorf("error %v", err)
	}
}

// needRig skips a test where no rig can be made.
func needRig(t *testing.T) {
	t.Helper()
	_, err := exec.LookPath("tcpdump")
	if os.Geteuid() != 0 {
		err = rig.ErrPermission
	}
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

func TestLiveRunsLeaveNothingBehindInNamespaces(t *testing.T) {
	needRig(t)
	for _, c := range []struct {
		reason string
		longer time.Duration
		rounds string
	}{
		{"done", time.Minute, "1"},
		{"interrupted", 3 * time.Second, "100"},
	} {
		t.Run(c.reason, func(t *testing.T) {
			ctx, stop := context.WithTimeout(t.Context(), c.longer)
			defer stop()
			var out, progress bytes.Buffer
			base := t.TempDir()
			err := command(ctx, []string{"live", "-product", "/bin/true", "-base", base, "-nice", "0", "-rounds", c.rounds, "-collectors", "tcpdump", "-sizes", "300", "-rate", "5000", "-count", "2000"}, nil, &out, &progress)
			if (err != nil) != (c.reason == "interrupted") {
				t.Errorf("error %v\n%s", err, &progress)
			}
			if c.reason == "done" && !strings.Contains(out.String(), "| 300 | 5 kpps | tcpdump -w |") {
				t.Errorf("%s\n%s", &out, &progress)
			}
			left, _ := filepath.Glob(fmt.Sprintf("/run/netns/ftbench%d-*", os.Getpid()))
			files, _ := os.ReadDir(base)
			if len(left) > 0 || len(files) > 0 {
				t.Errorf("left: %v, %v", left, files)
			}
		})
	}
}
