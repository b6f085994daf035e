// Reads dashboards as Grafana's own schema has them: a field that a panel of this type does not know, or one
// that it cannot do without, is an error. One line for each, and exit code 1.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

func main() {
	plugins.RegisterDefaultPlugins()
	bad := false
	for _, file := range os.Args[1:] {
		text, err := os.ReadFile(file)
		if err == nil {
			err = check(text)
		}
		if err != nil {
			bad = true
			fmt.Printf("%s: %v\n", file, err)
		}
	}
	if bad {
		os.Exit(1)
	}
}

func check(text []byte) error {
	var raw json.RawMessage
	if err := json.Unmarshal(text, &raw); err != nil {
		return err
	}
	var read dashboard.Dashboard
	if err := some(read.UnmarshalJSONStrict(raw)); err != nil {
		return err
	}
	return some(read.Validate())
}

// The SDK may answer with a list of errors that is empty.
func some(err error) error {
	var list cog.BuildErrors
	if errors.As(err, &list) && len(list) == 0 {
		return nil
	}
	return err
}
