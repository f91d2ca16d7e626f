package blocks

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

// TestStreamsOfBlocksd: a user of the SDK reads and writes the streams of handlers that blocksd serves. Each scenario of
// scenarios_test.go that opens a stream shows the same as with the SDK's own provider.
func TestStreamsOfBlocksd(t *testing.T) {
	from := filepath.Join(bin.TestPlugins(), "scripted")
	served := map[string]string{}
	for name := range agents {
		if name == "streamer" || name == "reporter" {
			served[name] = from
		}
	}
	dir := system.PluginDir(t, served, func(name string, card map[string]any) {
		card["identity"].(map[string]any)["agentName"] = name
		agents[name](card)
	})
	n := bin.Dev(t, dir)
	var ours []scenario
	for _, s := range slices.Concat(scenarios, streamScenarios) {
		if a, _ := s.args["agent"].(string); served[a] == "" {
			continue
		}
		// A consumer that starts sixteen sessions at once may need longer to open a stream than a task that does nothing
		// else lives.
		if s.args["stream"] == true {
			s.args = maps.Clone(s.args)
			s.args["steps"] = append(slices.Clone(s.args["steps"].(steps)), args{"pause": 5})
		}
		ours = append(ours, s)
	}
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			said := consume(t, version, n.Env).all(ours)
			for i, s := range ours {
				t.Run(s.name, func(t *testing.T) {
					said, want := <-said[i], s.want
					if lack, ok := s.lacks[version]; ok {
						if said.err == nil || !strings.Contains(said.err.Error(), lack.err) {
							t.Errorf("want an error with %q, got %v, %q", lack.err, said.err, said.lines)
						}
						return
					}
					if said.err != nil {
						t.Fatal(said.err)
					}
					want = expected(want, said.lines)
					if s.op == "write_stream" { // the network announces a stream, the agent a status: the order is open
						slices.Sort(want)
						slices.Sort(said.lines)
					}
					if d := cmp.Diff(want, said.lines); d != "" {
						t.Errorf("the SDK's user sees something else (-want +got):\n%s", d)
					}
				})
			}
		})
	}
}

// shownOf is how consumer.py shows bytes that are many.
func shownOf(s string) string {
	if len(s) <= 120 && utf8.ValidString(s) {
		return s
	}
	return fmt.Sprintf("%d bytes %s", len(s), shortSum([]byte(s)))
}

// streamScenarios are about what the SDK's own provider is slow at.
var streamScenarios = []scenario{
	{"outbound megabyte in one write", "joined_stream", pipe("log", args{"steps": steps{{"write": args{"name": "log", "chunks": []any{args{"hex": strings.Repeat("5a", 1<<20)}}}}}}),
		[]string{"read " + shownOf(strings.Repeat("Z", 1<<20)), "ends canceled"}, nil},
	{"outbound many small writes", "joined_stream", pipe("log", args{"steps": steps{{"write": args{"name": "log", "repeat": 2000, "chunks": []any{"a few words "}}}}}),
		[]string{"read " + shownOf(strings.Repeat("a few words ", 2000)), "ends canceled"}, nil},
	{"outbound text and bytes mixed", "joined_stream", pipe("log", args{"steps": steps{{"write": args{"name": "log", "chunks": []any{"text ", args{"hex": "ff00"}, "", "ü"}}}}}),
		[]string{"read " + shownOf("text \xff\x00ü"), "ends canceled"}, nil},
}
