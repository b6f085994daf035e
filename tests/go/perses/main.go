// Reads dashboards as Perses' own model has them, strictly: a field that it does not know is an error, as is a
// panel without a place or a place without a panel. What is inside a plugin is the plugin's own.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	v1 "github.com/perses/perses/pkg/model/api/v1"
)

func main() {
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
	var read v1.Dashboard
	if err := json.Unmarshal(text, &read); err != nil {
		return err
	}
	// The model's own readers pass over what they do not know: it is missed in what they write.
	written, err := json.Marshal(read)
	if err != nil {
		return err
	}
	var before, after any
	if err := json.Unmarshal(text, &before); err != nil {
		return err
	}
	if err := json.Unmarshal(written, &after); err != nil {
		return err
	}
	if err := contained("", before, after); err != nil {
		return err
	}
	placed := map[string]bool{}
	for _, reference := range references(before) {
		name := strings.TrimPrefix(reference, "#/spec/panels/")
		if read.Spec.Panels[name] == nil {
			return fmt.Errorf("%s: there is no such panel", reference)
		}
		placed[name] = true
	}
	for name := range read.Spec.Panels {
		if !placed[name] {
			return fmt.Errorf("panel %s has no place", name)
		}
	}
	return nil
}

// Whether all of one is in the other.
func contained(path string, one, other any) error {
	switch one := one.(type) {
	case map[string]any:
		other, _ := other.(map[string]any)
		for key, value := range one {
			inner, ok := other[key]
			if !ok {
				return fmt.Errorf("%s.%s: unexpected field", path, key)
			}
			if err := contained(path+"."+key, value, inner); err != nil {
				return err
			}
		}
	case []any:
		other, _ := other.([]any)
		if len(one) != len(other) {
			return fmt.Errorf("%s: %d members, not %d", path, len(one), len(other))
		}
		for index, value := range one {
			if err := contained(fmt.Sprintf("%s[%d]", path, index), value, other[index]); err != nil {
				return err
			}
		}
	default:
		before, _ := json.Marshal(one)
		after, _ := json.Marshal(other)
		if !bytes.Equal(before, after) {
			return fmt.Errorf("%s: read as %s, not as %s", path, after, before)
		}
	}
	return nil
}

// Every $ref.
func references(value any) []string {
	var found []string
	switch value := value.(type) {
	case map[string]any:
		for key, inner := range value {
			if text, ok := inner.(string); ok && key == "$ref" {
				found = append(found, text)
			}
			found = append(found, references(inner)...)
		}
	case []any:
		for _, inner := range value {
			found = append(found, references(inner)...)
		}
	}
	return found
}
