package blocks

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/e2e/internal/system"
	"github.com/blocksd/blocksd/internal/testutil"
)

// TestStreams: users of the SDK and of package client read and write the streams of the SDK's own provider, of handlers that
// blocksd serves, and of the same project under blocksd. With blocksd each scenario of scenarios_test.go that opens a stream
// shows the same as with the SDK's own provider.
func TestStreams(t *testing.T) {
	cards := writeCards(t)
	var ofScenarios []scenario
	for _, s := range scenarios {
		if a, _ := s.args["agent"].(string); !slices.Contains(streaming, a) {
			continue
		}
		// A consumer that starts sixteen sessions at once may need longer to open a stream than a task that does nothing
		// else lives.
		if s.args["stream"] == true {
			s.args = maps.Clone(s.args)
			s.args["steps"] = append(slices.Clone(s.args["steps"].(steps)), awaitReader)
			s.args["release"] = args{"after": 3}
		}
		ofScenarios = append(ofScenarios, s)
	}
	for _, provider := range append(slices.Clone(versions), "blocksd", "blocksd with the project") {
		t.Run(provider, func(t *testing.T) {
			t.Parallel()
			// What was published while a reader on a busy machine did not ask is not what this is about.
			_, env := bin.Sandbox(t, cards, "--lossless")
			all := streamScenarios
			switch provider {
			case "blocksd":
				served := map[string]string{}
				for _, name := range streaming {
					served[name] = filepath.Join(bin.TestPlugins(), "scripted")
				}
				bin.Daemon(t, env, system.PluginDir(t, served, func(name string, card map[string]any) {
					card["identity"].(map[string]any)["agentName"] = name
					agents[name](card)
				}))
				all = slices.Concat(ofScenarios, all, blocksdStreams)
			case "blocksd with the project":
				var projects []string
				for _, name := range streaming {
					projects = append(projects, "--project", sameProject(t, filepath.Join(cards, name+".json")))
				}
				bin.Daemon(t, env, t.TempDir(), projects...)
				all = slices.Concat(ofScenarios, all, blocksdStreams)
			default:
				var served []string
				for _, name := range streaming {
					served = append(served, filepath.Join(cards, name+".json"))
				}
				provide(t, provider, env, served...)
			}
			for _, version := range versions {
				t.Run("consumer "+version, func(t *testing.T) { showStreams(t, consume(t, version, env), version, all) })
			}
			t.Run("package client", func(t *testing.T) { showStreams(t, newOurs(t, env), "", all) })
		})
	}
}

// awaitReader is the step of a task that goes on when its reader has read as many values as "release" says.
var awaitReader = args{"await_file": "of the reader"}

// released gives a scenario whose task waits for its reader a file of its own for that.
func released(t *testing.T, a args) args {
	release, ok := a["release"].(args)
	if !ok {
		return a
	}
	dir, err := os.MkdirTemp("", "read") // not t.TempDir, which is closed to the user of a handler
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	file := filepath.Join(dir, "read")
	script := slices.Clone(a["steps"].(steps))
	for i, s := range script {
		if s["await_file"] == awaitReader["await_file"] {
			script[i] = args{"await_file": file}
		}
	}
	a = maps.Clone(a)
	a["steps"], a["release"] = script, args{"file": file, "after": release["after"]}
	return a
}

// streaming are the agents that have streams.
var streaming = []string{"streamer", "reporter", "symmetry"}

// showStreams runs scenarios and looks at what their user sees; version is the SDK's, if it is one of its users.
func showStreams(t *testing.T, c user, version string, scenarios []scenario) {
	scenarios = slices.Clone(scenarios)
	for i, s := range scenarios {
		scenarios[i].args = released(t, s.args)
	}
	said := all(c, scenarios)
	for i, s := range scenarios {
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
				t.Errorf("the user sees something else (-want +got):\n%s", d)
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

// streamScenarios are about all kinds of streams, for every provider and consumer.
var streamScenarios = []scenario{
	// The payloads with known digests, in each direction at the same time.
	{"symmetry", "symmetry", args{"agent": "symmetry", "task_kind": "pipe", "duration": 5, "steps": steps{{"symmetry": true}}},
		append(slices.Concat(symmetric, symmetric), "ends canceled"), nil},
	{"outbound megabyte in pieces", "joined_stream", pipe("log", args{"steps": steps{{"write": args{"name": "log", "chunks": []any{args{"size": 1 << 20}}}}}}),
		[]string{"read 1048576 bytes " + sum(1<<20), "ends canceled"}, nil},
	{"inbound megabyte in pieces", "write_stream", pipe("upper", args{"chunks": []any{args{"size": 1 << 20}}, "steps": steps{ready, {"collect": args{"name": "upper", "digest": true}}}}),
		[]string{"request", "running 0", "status ready", "stream_started upper inbound bytes dedicated {}", "artifact inline text/plain 78", "cancel_requested", "terminal canceled",
			"state canceled", "got text/plain -: 1048576 bytes " + fullSum(1<<20)}, nil},
	{"empty writes", "read_stream", pipe("log", args{"kind": "bytes", "steps": steps{{"write": args{"name": "log", "chunks": []any{"a", "", "b"}}}}}),
		[]string{"read a", "read ", "read b", "ends canceled"}, nil},
	{"events of any kind", "read_stream", pipe("ticks", args{"kind": "events", "steps": steps{{"write": args{"name": "ticks", "chunks": []any{args{}, []any{}, 0, -1.5, true, nil, args{"deep": []any{args{"a": nil}}}, args{"text": "\u2028 \U0001f680"}}}}}}),
		[]string{"read {}", "read []", "read 0", "read -1.5", "read true", "read null", `read {"deep": [{"a": null}]}`, `read {"text": "\u2028 \ud83d\ude80"}`, "ends canceled"}, nil},
	{"late reader", "late_reader", pipe("log", args{"steps": steps{{"write": args{"name": "log", "chunks": []any{"one", "two", strings.Repeat("ü", 20000)}}}, status("written"), untilCancel}}),
		[]string{"read one", "read two", "read " + shownOf(strings.Repeat("ü", 20000)), "ends canceled"}, nil},
	{"failure with a stream open", "read_stream", pipe("ticks", args{"kind": "events", "release": args{"after": 2}, "steps": steps{{"write": args{"name": "ticks", "chunks": []any{1, 2}, "end": false}}, awaitReader, {"fail": "broken stream"}}}),
		[]string{"read 1", "read 2", "ends failed"}, nil},
	{"written elsewhere", "external_stream", pipe("ticks", args{"messages": elsewhere, "steps": steps{{"external": args{"name": "ticks", "metadata": args{}, "tell": true}}}}),
		[]string{`read {"n": 1}`, `read {"n": 2}`, "read [3]", "ends canceled"}, nil},
}

var symmetric = []string{"got bytes: " + testutil.DigestOfPayloads, "got events: " + testutil.DigestOfEvents, "sent bytes: " + testutil.DigestOfPayloads, "sent events: " + testutil.DigestOfEvents}

// The pieces of {"type": "stream_events", "seq": 2, "events": [{"n": 2}, [3]], …}, with spaces.
const (
	piece1 = "eyJ0eXBlIjogInN0cmVhbV9ldmVudHMiLCAicHJvdG9jb2xWZXJzaW9uIjogIjIwMjYtMDUtMDEiLCAic2VxIjogMiwgInRz"
	piece2 = "IjogMSwgImVuY29kaW5nIjogInV0ZjgiLCAiZXZlbnRzIjogW3sibiI6IDJ9LCBbM11dLCAidW5rbm93biI6IHsiYSI6IDF9fQ=="
)

// elsewhere are messages of a writer that is neither the SDK's nor ours: it leaves out what readers do not need, adds what
// they do not know, and sends pieces out of order and twice.
var elsewhere = []any{
	args{"type": "stream_events", "seq": 1, "events": []any{args{"n": 1}}},
	args{"type": "stream_events", "seq": 2, "multipart": args{"id": "x", "part": 2, "total": 2}, "data": piece2},
	args{"type": "stream_events", "seq": 2, "multipart": args{"id": "x", "part": 1, "total": 2}, "data": piece1},
	args{"type": "stream_events", "seq": 2, "multipart": args{"id": "x", "part": 2, "total": 2}, "data": piece2},
	args{"type": "stream_end", "seq": 3, "by": "somebody else"},
}

// blocksdStreams are about what the SDK's own provider is slow at, or does not do right.
var blocksdStreams = []scenario{
	{"outbound megabyte in one write", "joined_stream", pipe("log", args{"steps": steps{{"write": args{"name": "log", "chunks": []any{args{"hex": strings.Repeat("5a", 1<<20)}}}}}}),
		[]string{"read " + shownOf(strings.Repeat("Z", 1<<20)), "ends canceled"}, nil},
	{"outbound many small writes", "joined_stream", pipe("log", args{"steps": steps{{"write": args{"name": "log", "repeat": 2000, "chunks": []any{"a few words "}}}}}),
		[]string{"read " + shownOf(strings.Repeat("a few words ", 2000)), "ends canceled"}, nil},
	{"outbound text and bytes mixed", "joined_stream", pipe("log", args{"steps": steps{{"write": args{"name": "log", "chunks": []any{"text ", args{"hex": "ff00"}, "", "ü"}}}}}),
		[]string{"read " + shownOf("text \xff\x00ü"), "ends canceled"}, nil},
}
