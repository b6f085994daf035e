package main

import (
	"encoding/json"
	"maps"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// fields are the fields of an event, its time and name excepted.
type fields map[string]any

var stdout sync.Mutex

// report writes one JSON line: {"time":<Unix seconds>,"event":name, ...}.
func report(name string, f fields) {
	now := time.Now()
	line := fields{"time": float64(now.UnixMicro()) / 1e6, "event": name}
	maps.Copy(line, f)

	stdout.Lock()
	defer stdout.Unlock()
	// A write fails when the test has ended and nobody reads any more: nothing to do about it.
	_ = json.NewEncoder(os.Stdout).Encode(line)
}

// newLogger returns a logger for Knative's libraries that turns each line into an event: under the
// name that names has for it, or as "log".
func newLogger(names map[string]string) *zap.SugaredLogger {
	return zap.New(&core{names: names}).Sugar()
}

// core is a zapcore.Core that reports each entry as an event.
type core struct {
	names map[string]string
	with  []zapcore.Field
}

func (c *core) Enabled(zapcore.Level) bool { return true }

func (c *core) With(with []zapcore.Field) zapcore.Core {
	return &core{names: c.names, with: append(c.with[:len(c.with):len(c.with)], with...)}
}

func (c *core) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	return ce.AddCore(e, c)
}

func (c *core) Write(e zapcore.Entry, with []zapcore.Field) error {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range append(c.with[:len(c.with):len(c.with)], with...) {
		f.AddTo(enc)
	}
	f := fields(enc.Fields)
	name, known := c.names[e.Message]
	if !known {
		name = "log"
		f["level"] = e.Level.String()
		f["message"] = e.Message
	}
	report(name, f)
	return nil
}

func (c *core) Sync() error { return nil }
