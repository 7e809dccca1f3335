package rig

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Usage is what threads have had of a CPU.
type Usage struct {
	Run  time.Duration // on it
	Wait time.Duration // ready to run, but not on it
}

// Since is what was used after an earlier look.
func (u Usage) Since(before Usage) Usage { return Usage{u.Run - before.Run, u.Wait - before.Wait} }

// usage adds up schedstat files (Documentation/scheduler/sched-stats.rst of Linux).
func usage(pattern string) (Usage, error) {
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		return Usage{}, fmt.Errorf("read %s: nothing is there (%w)", pattern, errors.Join(err, os.ErrNotExist))
	}
	var sum Usage
	for _, file := range files {
		data, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // the thread has just ended
		}
		var u Usage
		if err == nil {
			_, err = fmt.Sscan(string(data), &u.Run, &u.Wait)
		}
		if err != nil {
			return Usage{}, fmt.Errorf("read %s: %w", file, err)
		}
		sum.Run, sum.Wait = sum.Run+u.Run, sum.Wait+u.Wait
	}
	return sum, nil
}

// Program is what is to run in a rig.
type Program struct {
	Args []string
	Env  []string // besides this process's own
	Send bool     // on the sender's CPU, instead of the receiver's
	Nice int      // added to the rig's
}

// Process is a running program, in the receiver's namespace.
type Process struct {
	PID int

	cmd   *exec.Cmd
	out   output
	ended chan struct{}
	err   error
}

// output is what a program has said so far.
type output struct {
	mu   sync.Mutex
	data bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.data.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.data.String()
}

// Start starts a program in the receiver's namespace, with a /sys of that namespace.
func (r *Rig) Start(p Program) (*Process, error) {
	args := append([]string{"netns", "exec", r.receiver}, p.Args...)
	c := &Process{cmd: exec.Command("ip", args...), ended: make(chan struct{})}
	c.cmd.Stdout, c.cmd.Stderr = &c.out, &c.out
	c.cmd.Env = append(os.Environ(), p.Env...)
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cpu := r.cfg.ReceiveCPU
	if p.Send {
		cpu = r.cfg.SendCPU
	}
	if err := Launch(c.cmd, cpu, r.cfg.Nice+p.Nice); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.Args[0], err)
	}
	c.PID = c.cmd.Process.Pid // ip has become the program
	go func() {
		c.err = c.cmd.Wait()
		close(c.ended)
	}()
	return c, nil
}

// Launch starts a command bound to a CPU (negative: to none), with that nice value.
func Launch(cmd *exec.Cmd, cpu, nice int) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with what the command inherits from it
		var cpus unix.CPUSet
		cpus.Set(max(cpu, 0))
		var err error
		if cpu >= 0 {
			err = os.NewSyscallError("sched_setaffinity", unix.SchedSetaffinity(0, &cpus))
		}
		if err == nil && nice != 0 {
			err = os.NewSyscallError("setpriority", unix.Setpriority(unix.PRIO_PROCESS, 0, nice))
		}
		if err == nil {
			err = cmd.Start()
		}
		done <- err
	}()
	return <-done
}

// Output is everything that the program has said so far.
func (c *Process) Output() string { return c.out.String() }

// Usage is what the program's threads have used so far. Its children are not counted.
func (c *Process) Usage() (Usage, error) {
	return usage(fmt.Sprintf("/proc/%d/task/*/schedstat", c.PID))
}

// Ended is closed when the program has ended.
func (c *Process) Ended() <-chan struct{} { return c.ended }

// Await returns when met is true; an error says that the program ended before, or that the time was up.
func (c *Process) Await(ctx context.Context, patience time.Duration, met func() bool) error {
	for deadline := time.Now().Add(patience); !met(); {
		select {
		case <-c.ended:
			return fmt.Errorf("it has ended (%w): %s", errors.Join(c.err), lastWords(c.Output()))
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("nothing after %v: %s", patience, lastWords(c.Output()))
		}
	}
	return nil
}

// Capturing says whether the program receives: it has printed READY, or there is a packet socket in its namespace.
func (c *Process) Capturing() bool {
	for line := range strings.SplitSeq(c.Output(), "\n") {
		if strings.TrimSpace(line) == "READY" {
			return true
		}
	}
	sockets, _ := os.ReadFile(fmt.Sprintf("/proc/%d/net/packet", c.PID))
	return bytes.Count(sockets, []byte("\n")) > 1
}

// Stop asks the program to end as a person would, by SIGINT, and insists when it does not. The error says when it
// had to, or when the program failed.
func (c *Process) Stop() error {
	for _, step := range []struct {
		signal   syscall.Signal
		patience time.Duration
	}{{syscall.SIGINT, 15 * time.Second}, {syscall.SIGTERM, 5 * time.Second}, {syscall.SIGKILL, 5 * time.Second}} {
		syscall.Kill(-c.PID, step.signal) //nolint:errcheck // it may have ended
		select {
		case <-c.ended:
			if step.signal != syscall.SIGINT {
				return fmt.Errorf("it did not end before %v", step.signal)
			}
			return c.err
		case <-time.After(step.patience):
		}
	}
	return errors.New("it does not end")
}

// Kill ends the program at once.
func (c *Process) Kill() {
	syscall.Kill(-c.PID, syscall.SIGKILL) //nolint:errcheck // it may have ended
	<-c.ended
}

// Memory is what a running program has in memory, and the most that it had, in bytes. What the kernel remembers of
// ended ones is no use: it counts what the parent had before them.
func (c *Process) Memory() (now, most int64) {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.PID))
	for line := range strings.SplitSeq(string(status), "\n") {
		name, value, _ := strings.Cut(line, ":")
		var kilobytes int64
		fmt.Sscan(value, &kilobytes) //nolint:errcheck // most lines are no numbers
		switch name {
		case "VmRSS":
			now = kilobytes << 10
		case "VmHWM":
			most = kilobytes << 10
		}
	}
	return now, most
}

// Total is what a program that has ended had of a CPU, with all threads that it ever had.
func (c *Process) Total() time.Duration {
	return c.cmd.ProcessState.UserTime() + c.cmd.ProcessState.SystemTime()
}

// Descriptors is how many files and sockets a running program has open.
func (c *Process) Descriptors() int {
	open, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", c.PID))
	return len(open)
}

// lastWords is the end of what a program has said.
func lastWords(text string) string {
	const enough = 600
	text = strings.TrimSpace(text)
	return text[max(0, len(text)-enough):]
}
