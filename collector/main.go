// Command collector is the program on the capture instance: it receives mirrored packets and brings them to the
// evidence bucket.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"
)

// version is set by the linker: -ldflags "-X main.version=...".
var version = "development"

func main() {
	// Whoever reads the log may go away; evidence is gathered all the same.
	signal.Ignore(syscall.SIGPIPE)
	// A panic ends the process by a signal, not with an exit code, so that systemd (Restart=on-abnormal) starts it again
	// and the spool is shipped.
	debug.SetTraceback("crash")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the program at once. One that comes together with the first is none: timeout(1) sends its
	// signal to the program and to its group.
	context.AfterFunc(ctx, func() { time.AfterFunc(time.Second, stop) })
	os.Exit(command(ctx, os.Args[1:], os.Stdout, os.Stderr))
}
