// Command flashtap is the operator's tool: it starts captures by hand, tells how captures stand, asks one to stop, and
// says what a finding would lead to.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	t := &tool{in: os.Stdin, out: os.Stdout, err: os.Stderr, getenv: os.Getenv}
	code := t.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}
