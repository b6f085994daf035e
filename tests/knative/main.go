// Command knative is either end of the link between Knative's activator and autoscaler, made of
// Knative's own code and nothing of Kubernetes. Its role is the name it is run under: `activator`
// or `autoscaler`. It tells what happens as JSON lines on standard output.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()

	roles := map[string]func(context.Context, []string) error{
		"activator":  activator,
		"autoscaler": autoscaler,
	}
	name := filepath.Base(os.Args[0])
	role, ok := roles[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "run me as activator or autoscaler, not as %q\n", name)
		os.Exit(2)
	}
	if err := role(ctx, os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}
