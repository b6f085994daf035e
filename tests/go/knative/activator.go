package main

import (
	"context"
	"errors"
	"flag"
	"net"
	"os"
	"time"

	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"k8s.io/apimachinery/pkg/types"
	"knative.dev/pkg/websocket"
	kactivator "knative.dev/serving/pkg/activator"
	"knative.dev/serving/pkg/autoscaler/metrics"
)

// activatorEvents gives an event name to each line of Knative's log that is about the link.
var activatorEvents = map[string]string{
	"Autoscaler connection established":                                "established",
	"Autoscaler connection lost":                                       "lost",
	"Websocket connection could not be established":                    "dial_failed",
	"Autoscaler is not reachable from activator. Stats were not sent.": "stats_not_sent",
}

// activator dials the autoscaler as cmd/activator does, until ctx ends.
func activator(ctx context.Context, args []string) error {
	set := flag.NewFlagSet("activator", flag.ExitOnError)
	target := set.String("autoscaler", "", "`URL` of the autoscaler, such as ws://10.0.0.2:8080")
	every := set.Duration("stats", 0, "send one stat message at this interval (none by default)")
	drain := set.Duration("drain", 0, "hold the connection this long after SIGTERM, as a draining activator does")
	resolver := set.String("resolver", "", "use this name server, `host:port`, instead of /etc/resolv.conf's")
	other := set.String("look-up", "", "also look up this `name`, four times a second, as a metrics exporter may")
	_ = set.Parse(args) // ExitOnError
	if *target == "" {
		return errors.New("--autoscaler is missing")
	}
	if *resolver != "" {
		net.DefaultResolver = resolverAt(*resolver)
	}
	report("started", fields{"pid": os.Getpid(), "pod": os.Getenv("POD_NAME")})

	logger := newLogger(activatorEvents)
	reader := metric.NewManualReader()
	provider := metric.NewMeterProvider(metric.WithReader(reader))
	options := append(kactivator.AutoscalerConnectionOptions(logger, provider), reportNative(reader))

	stats := make(chan []metrics.StatMessage)
	link := websocket.NewDurableSendingConnection(*target, logger, options...)
	go kactivator.ReportStats(logger, link, stats)
	if *every > 0 {
		go sendStats(ctx, *every, stats)
	}
	if *other != "" {
		go lookUp(ctx, *other)
	}

	<-ctx.Done()
	report("terminating", nil)
	time.Sleep(*drain)
	link.Shutdown()
	report("stopped", nil)
	return nil
}

// reportNative reports Knative's own metric whenever the connection's callbacks have changed it.
func reportNative(reader *metric.ManualReader) websocket.ConnectionOption {
	return func(c *websocket.ManagedConnection) {
		connected, disconnected := c.OnConnect, c.OnDisconnect
		c.OnConnect = func() {
			connected()
			report("native", native(reader))
		}
		c.OnDisconnect = func(err error) {
			disconnected(err)
			report("native", native(reader))
		}
	}
}

// native reads Knative's own metric. A metric without a data point is left out.
func native(reader *metric.ManualReader) fields {
	var all metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &all); err != nil {
		return fields{"error": err.Error()}
	}
	f := fields{}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Gauge[int64]:
				f["reachable"] = data.DataPoints[0].Value
			case metricdata.Sum[int64]:
				f["errors"] = data.DataPoints[0].Value
			}
		}
	}
	return f
}

// sendStats sends the stat messages of an activator with one busy revision.
func sendStats(ctx context.Context, every time.Duration, to chan<- []metrics.StatMessage) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			to <- []metrics.StatMessage{{
				Key: types.NamespacedName{Namespace: "default", Name: "busy-00001"},
				Stat: metrics.Stat{
					PodName:                   os.Getenv("POD_NAME"),
					AverageConcurrentRequests: 1,
					RequestCount:              1,
				},
			}}
		}
	}
}

// lookUp looks up name four times a second and reports whether that failed.
func lookUp(ctx context.Context, name string) {
	for ctx.Err() == nil {
		_, err := net.DefaultResolver.LookupHost(ctx, name)
		report("looked_up", fields{"failed": err != nil})
		time.Sleep(250 * time.Millisecond)
	}
}

// resolverAt is Go's own resolver, as the activator uses, with another name server.
func resolverAt(address string) *net.Resolver {
	return &net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, address)
		},
	}
}
