// Reads dashboards by the types that Grafana publishes of its own schema, strictly: a field that is not known, one of
// another type or one that is missing is said, and the exit code is 1.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

func main() {
	// Options and queries are read by the types of their plugins.
	plugins.RegisterDefaultPlugins()
	bad := 0
	for _, path := range os.Args[1:] {
		if err := read(path); err != nil {
			fmt.Printf("%s:\n%v\n", path, err)
			bad = 1
		}
	}
	fmt.Printf("%d dashboards\n", len(os.Args)-1)
	os.Exit(bad)
}

func read(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(text, &fields); err != nil {
		return err
	}
	// What an import asks for is no part of the dashboard.
	for _, name := range []string{"__inputs", "__elements", "__requires"} {
		delete(fields, name)
	}
	if text, err = json.Marshal(fields); err != nil {
		return err
	}
	board := dashboard.Dashboard{}
	// Both give an empty list of errors when there is none.
	for _, err := range []error{board.UnmarshalJSONStrict(text), board.Validate()} {
		if err != nil && err.Error() != "" {
			return err
		}
	}
	return nil
}
