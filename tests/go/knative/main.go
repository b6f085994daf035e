// Command knative is either end of the link between Knative's activator and autoscaler. It uses
// Knative's own code and needs no Kubernetes. The name it is run under is its role: `activator` or
// `autoscaler`. It reports events as JSON lines on standard output.
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
