//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"flashtap/testutil/bench/rig"
	"flashtap/testutil/evidence"
)

// What only digests the files does the least that a verifier can do. That of coreutils may be built without the processor's own
// instructions for SHA-256; openssl has them.
const (
	sha256sum     = "sha256sum"
	opensslDigest = "openssl dgst"
)

const (
	oneCPU  = "one CPU"
	allCPUs = "all CPUs"
)

// evidenceLoads are captures of recordings: whole frames, and the beginnings of them, of which there are many more to a byte.
var evidenceLoads = []struct {
	name string
	cfg  evidence.Config
}{
	{"whole", evidence.Config{Segments: 8, Packets: 100_000}},
	{"first 64", evidence.Config{Segments: 8, Packets: 500_000, PacketLength: 64}},
}

// evidence times flashtap verify against sha256sum over the same files: on one CPU by the CPU time of both, and on all by the clock.
func (l *lab) evidence(ctx context.Context, rounds int) error {
	for _, ld := range evidenceLoads {
		if err := l.verifications(ctx, ld.name, ld.cfg, rounds); err != nil {
			return err
		}
	}
	return nil
}

func (l *lab) verifications(ctx context.Context, name string, cfg evidence.Config, rounds int) (err error) {
	dir := filepath.Join(l.rig.Dir, "evidence")
	defer func() { err = errors.Join(err, os.RemoveAll(dir), os.RemoveAll(dir+".pem")) }()
	size, err := leaveEvidence(cfg, dir)
	if err != nil {
		return err
	}
	over := func(digest string) []string {
		return []string{"sh", "-c", "find " + dir + " -type f -print0 | xargs -0 " + digest}
	}
	verify := []string{filepath.Join(l.bin, toolProgram), "verify", dir, "--key", dir + ".pem"}
	for round := range rounds {
		for _, c := range []struct {
			collector, cpus string
			cpu             int
			args            []string
		}{
			{ours, oneCPU, 1, verify}, {sha256sum, oneCPU, 1, over(sha256sum)}, {opensslDigest, oneCPU, 1, over("openssl dgst -sha256")},
			{ours, allCPUs, -1, verify}, {sha256sum, allCPUs, -1, over(sha256sum)}, {opensslDigest, allCPUs, -1, over("openssl dgst -sha256")},
		} {
			r := Result{Experiment: experimentEvidence, Collector: c.collector, Load: name + ", " + c.cpus, Round: round + 1}
			if err := l.timed(ctx, c.args, c.cpu, size, &r); err != nil {
				r.Err = err.Error()
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			fmt.Fprintf(l.progress, "         evidence %-22s %-20s %5.2f ns CPU, %5.2f ns a byte %s\n", title(c.collector), r.Load, r.PerByte, r.Elapsed, oneLine(r.Err))
			if err := l.ledger.add(r); err != nil {
				return err
			}
		}
	}
	return nil
}

// leaveEvidence makes evidence in a folder, and the key that signed it beside it.
func leaveEvidence(cfg evidence.Config, dir string) (size int64, err error) {
	e, err := evidence.New(cfg)
	if err != nil {
		return 0, err
	}
	for _, body := range e.Files {
		size += int64(len(body))
	}
	key, _, err := evidence.PublicKey(e.Key)
	if err != nil {
		return 0, err
	}
	return size, errors.Join(e.Write(dir), os.WriteFile(dir+".pem", key, 0o644))
}

// timed runs a command to its end.
func (l *lab) timed(ctx context.Context, args []string, cpu int, size int64, r *Result) error {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	said, err := os.CreateTemp(l.bin, "said-")
	if err != nil {
		return err
	}
	defer said.Close()
	cmd.Stdout, cmd.Stderr = said, said
	began := time.Now()
	if err := rig.Launch(cmd, cpu, l.nice); err != nil {
		return err
	}
	ended, memory := make(chan struct{}), make(chan int64)
	go func() { memory <- mostResident(cmd.Process.Pid, ended) }()
	err = cmd.Wait()
	close(ended)
	r.Memory = <-memory
	r.Elapsed = float64(time.Since(began)) / float64(size)
	text, _ := os.ReadFile(said.Name())
	r.Said = lastLines(string(text))
	if err != nil {
		return fmt.Errorf("%w: %s", err, r.Said)
	}
	if r.Collector == ours && !strings.HasPrefix(string(text), "authentic") {
		return fmt.Errorf("untouched evidence is not authentic: %s", r.Said)
	}
	state := cmd.ProcessState
	r.PerByte = float64(state.UserTime()+state.SystemTime()) / float64(size)
	return nil
}

// mostResident is the most memory that a program has had, in bytes, as long as it could be asked. What wait4(2) says of it would
// count the memory of this program, as a copy of which it began.
func mostResident(pid int, ended <-chan struct{}) (most int64) {
	for {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return most
		}
		if _, rest, found := strings.Cut(string(text), "VmHWM:"); found {
			var kib int64
			if _, err := fmt.Sscan(rest, &kib); err == nil {
				most = max(most, kib<<10)
			}
		}
		select {
		case <-ended:
			return most
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// evidenceRows compare verification with sha256sum.
func evidenceRows(rs results) (rows []row) {
	for _, ld := range evidenceLoads {
		for _, c := range []struct {
			peer, cpus string
			want       float64
			figure     func(Result) float64
			what       string
		}{
			{sha256sum, oneCPU, 1.15, func(r Result) float64 { return r.PerByte }, "CPU ns a byte"},
			{opensslDigest, oneCPU, 1.15, func(r Result) float64 { return r.PerByte }, "CPU ns a byte"},
			{sha256sum, allCPUs, 0.7, func(r Result) float64 { return r.Elapsed }, "ns a byte by the clock"},
			{opensslDigest, allCPUs, 0.7, func(r Result) float64 { return r.Elapsed }, "ns a byte by the clock"},
		} {
			load := ld.name + ", " + c.cpus
			us := rs.of(experimentEvidence, ours, load)
			r := row{goal: "P11", measure: "flashtap verify, " + c.what + ", over " + c.peer, load: load, against: c.peer, want: c.want, format: "%.2f"}
			r = ratio(r, us, rs.of(experimentEvidence, c.peer, load), c.figure)
			if most, ok := us.median(func(r Result) float64 { return float64(r.Memory) }); ok {
				r.losing = fmt.Sprintf("%.0f MiB resident", most/(1<<20))
			}
			rows = append(rows, r)
		}
	}
	return rows
}
