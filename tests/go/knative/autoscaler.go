package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"knative.dev/serving/pkg/autoscaler/metrics"
	"knative.dev/serving/pkg/autoscaler/statserver"
)

// autoscalerEvents gives an event name to each line of Knative's log that is about connections.
var autoscalerEvents = map[string]string{
	"Connection upgraded to WebSocket. Entering receive loop.": "upgraded",
	"Sending close message to client":                          "closing",
	"Shutting down":                                            "terminating",
	"Shutdown complete":                                        "stopped",
}

// shutdownTimeout is what cmd/autoscaler gives its stats server.
const shutdownTimeout = 5 * time.Second

// autoscaler serves activators as cmd/autoscaler does, until ctx ends.
func autoscaler(ctx context.Context, args []string) error {
	set := flag.NewFlagSet("autoscaler", flag.ExitOnError)
	listen := set.String("listen", ":8080", "`address` to listen on")
	buckets := set.Uint("buckets", 0, "forward stats of this many buckets to their owners, which are read from standard input")
	every := set.Duration("stats", time.Second, "forward one stat of each bucket at this interval")
	_ = set.Parse(args) // ExitOnError
	_, port, err := net.SplitHostPort(*listen)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	report("started", fields{"pid": os.Getpid()})

	received := make(chan metrics.StatMessage)
	go countMessages(received)

	logger := newLogger(autoscalerEvents)
	if *buckets > 0 {
		if err := forward(ctx, uint32(*buckets), *every, os.Stdin, logger); err != nil {
			return err
		}
	}
	server := statserver.New(*listen, received, logger, nil)
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	go reportListening(ctx, port)

	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		server.Shutdown(shutdownTimeout)
		return nil
	}
}

// countMessages reports each stat message with the number of them so far.
func countMessages(received <-chan metrics.StatMessage) {
	n := 0
	for m := range received {
		n++
		report("message", fields{"count": n, "pod": m.Stat.PodName})
	}
}

// reportListening reports once the server listens on the port. The server does not say so itself,
// and a trial connection would be one that no activator made. So it reads the kernel's table.
func reportListening(ctx context.Context, port string) {
	var number uint16
	if _, err := fmt.Sscan(port, &number); err != nil {
		report("log", fields{"level": "error", "message": err.Error()})
		return
	}
	// Columns: slot, local address:port, remote address:port, state; 0A is LISTEN.
	suffix := fmt.Sprintf(":%04X", number)
	for ctx.Err() == nil {
		for _, table := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
			content, _ := os.ReadFile(table) // the table is absent without IPv6
			for row := range strings.Lines(string(content)) {
				cells := strings.Fields(row)
				if len(cells) > 3 && strings.HasSuffix(cells[1], suffix) && cells[3] == "0A" {
					report("listening", fields{"port": number})
					return
				}
			}
		}
		time.Sleep(time.Millisecond)
	}
}
