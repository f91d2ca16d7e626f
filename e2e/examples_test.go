package e2e

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

// languageExamples are the examples of one language.
type languageExamples struct {
	// start serves examples on a private network.
	start func(t *testing.T, names []string) (n *system.Network, where func(example string) string)
	// agent is the name of an example's agent.
	agent func(example string) string
}

var exampleLanguages = map[string]languageExamples{
	"go":     {goExamples, func(example string) string { return example }},
	"python": {pythonExamples, func(example string) string { return example + "_python" }},
	"node":   {projectExamples("node"), func(example string) string { return "node_" + example }},
	"exec":   {projectExamples("exec"), func(example string) string { return "exec_" + example }},
}

// everyLanguage has an example, unless a case says otherwise.
var everyLanguage = []string{"go", "python", "node"}

// exampleCase is one call of an example, the same in every language.
type exampleCase struct {
	example   string
	languages []string // everyLanguage where it is nil
	args      []string
	code      int
	artifacts []string          // JSON without its spaces, what is compressed as it was before
	failure   string            // the text of a task that failed
	streams   map[string]string // what came in each stream of bytes
	events    []string          // what lines of streams of events hold
	items     int               // after so many items of streams the call is interrupted; 0 for never
}

func exampleCases(t *testing.T) []exampleCase {
	messages, file := filepath.Join(t.TempDir(), "messages"), filepath.Join(t.TempDir(), "numbers.txt")
	numbers := strings.Repeat("0123456789", 100_000)
	writeFile(t, messages, "{\"text\":\"hello\"}\n{\"text\":\"bye\"}\n")
	writeFile(t, file, numbers)
	first := `You said "hi", and that is the first thing you tell me.`
	return []exampleCase{
		{example: "echo", args: []string{"--text", "hello <&> ü 😀"}, artifacts: []string{"Echoed request: hello <&> ü 😀"}},
		{example: "adder", args: []string{"--json-part", `{"a": 2, "b": 3.5}`}, artifacts: []string{`{"ok":true,"a":2,"b":3.5,"sum":5.5}`}},
		{
			example: "adder", languages: []string{"go"}, args: []string{"--json-part", `{"a": 2, "b": true}`},
			artifacts: []string{`{"ok":false,"error":"Missing math_add request with numeric a and b","input":"{\"a\": 2, \"b\": true}"}`},
		},
		{example: "adder", languages: []string{"python"}, args: []string{"--json-part", `{"a": 2, "b": true}`}, code: 4, failure: "the request needs a number b"},
		{example: "adder", languages: []string{"node"}, args: []string{"--json-part", `{"a": 2, "b": true}`}, code: 4, failure: "the request needs the numbers a and b"},
		{example: "echo_stream", args: []string{"--text", "one two  three"}, artifacts: []string{"one two  three"}},
		{
			example: "echo_stream", args: []string{"--text", "one two  three", "--stream"}, artifacts: []string{"one two  three"},
			streams: map[string]string{"_default": "one two  three"},
		},
		{example: "chat", args: []string{"--text", "hi", "--part", "conversation=test", "--stream"}, artifacts: []string{first}, streams: map[string]string{"_default": first}},
		{
			example: "chat", args: []string{"--text", "yes", "--part", "conversation=test"},
			artifacts: []string{`You said "yes". Before that, you said "hi". That makes 2 messages.`},
		},
		{example: "chat", args: []string{"--text", " "}, code: 4, failure: `say something: the input "request" is empty`},
		{example: "stock_sim", args: []string{"--text", "a,B", "--pipe", "1", "--stream"}, items: 2, code: 5, events: []string{`"symbol":"A"`, `"symbol":"B"`}},
		{example: "stock_sim", args: []string{"--text", ",", "--pipe", "1"}, code: 4, failure: "the request names no symbol"},
		{
			example: "bidi_chat", args: []string{"--pipe", "1", "--stream", "--send", "chat=" + messages},
			events: []string{`{"text":"AGENT> OPENING GREETING"}`, `{"text":"AGENT> HELLO"}`, `{"text":"AGENT> BYE"}`},
		},
		{
			example: "advanced_stream", args: []string{"--text", "2", "--pipe", "1", "--stream"}, streams: map[string]string{"bytes": "chunk 1\nchunk 2\n"},
			events: []string{`"label":"event #1"`, `"label":"event #2"`, `"kind":"broadcast"`},
		},
		{example: "advanced_stream", args: []string{"--text", "0", "--pipe", "1"}, code: 4, failure: "the request is not a number from 1 on"},
		{
			example: "orchestrator", args: []string{"--json-part", `{"text": "x", "a": 1, "b": 2}`},
			artifacts: []string{`{"echo":"Echoed request: x","adder":{"ok":true,"a":1,"b":2,"sum":3}}`},
		},
		{example: "relay", args: []string{"--text", "one two  three"}, artifacts: []string{"ONE TWO  THREE"}},
		{
			example: "relay", args: []string{"--text", "one two  über", "--stream"}, artifacts: []string{"ONE TWO  ÜBER"},
			streams: map[string]string{"_default": "ONE TWO  ÜBER"},
		},
		{example: "compress", languages: []string{"go", "python", "node", "exec"}, args: []string{"--file", "file=" + file}, artifacts: []string{numbers}},
		{example: "word_count", languages: []string{"exec"}, args: []string{"--text", "one two three"}, artifacts: []string{"3\n"}},
	}
}

// TestExamples runs every example in every language on the sandbox, and has it checked against the contract.
func TestExamples(t *testing.T) {
	t.Parallel()
	cases := exampleCases(t)
	for language, l := range exampleLanguages {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			var mine []exampleCase
			var names []string
			seen := map[string]bool{}
			for _, c := range cases {
				if c.languages == nil {
					c.languages = everyLanguage
				}
				if !slices.Contains(c.languages, language) {
					continue
				}
				mine = append(mine, c)
				if !seen[c.example] {
					seen[c.example] = true
					names = append(names, c.example)
				}
			}
			n, where := l.start(t, names)
			n.WaitReady(t) // a program without a card beside it has none before it has started, and dev does not wait forever
			for _, c := range mine {
				runExample(t, n, l.agent(c.example), c)
			}
			state := t.TempDir()
			for _, name := range names {
				args := []string{"handler", "check", where(name), "--state-dir", state}
				if name == "orchestrator" || name == "relay" { // there is nobody that it could call
					args = append(args, "--without-tasks")
				}
				if r := bin.Run(t, nil, args...); r.Code != 0 {
					t.Errorf("handler check of %s ends with %d:\n%s%s", name, r.Code, r.Stdout, r.Stderr)
				}
			}
		})
	}
}

func runExample(t *testing.T, n *system.Network, agent string, c exampleCase) {
	t.Helper()
	call := n.StartCall(t, agent, c.args...)
	if c.items > 0 {
		call.AwaitItems(t, c.items)
		call.Interrupt()
	}
	task := call.Result(t)
	bad := func(what string, got, want any) {
		t.Helper()
		t.Errorf("%s %q: %s %q, want %q\n%s%s", agent, c.args, what, got, want, task.Stdout, task.Stderr)
	}
	if task.Code != c.code {
		bad("exit code", task.Code, c.code)
	}
	if got := failure(task); c.failure != "" && got != c.failure {
		bad("failed with", got, c.failure)
	}
	var artifacts []string
	for _, e := range task.Events {
		if e.Type == "artifact" {
			artifacts = append(artifacts, artifactOf(t, e))
		}
	}
	if strings.Join(artifacts, "\n") != strings.Join(c.artifacts, "\n") {
		bad("artifacts", cutText(artifacts), cutText(c.artifacts))
	}
	streams, events := map[string]string{}, ""
	for line := range strings.Lines(task.Stdout) {
		var item struct {
			Type, Stream, Text, Reason string
			Event                      json.RawMessage
		}
		if err := json.Unmarshal([]byte(line), &item); err != nil {
			t.Fatal(err)
		}
		switch item.Type {
		case "stream":
			streams[item.Stream] += item.Text
			events += string(item.Event) + "\n"
		case "stream_closed":
			if item.Reason != "ended" && item.Reason != "drained" && item.Reason != "revoked" {
				bad("stream "+item.Stream+" is over because", item.Reason, "ended")
			}
		}
	}
	for name, want := range c.streams {
		if streams[name] != want {
			bad("stream "+name, streams[name], want)
		}
	}
	for _, want := range c.events {
		if !strings.Contains(events, want) {
			bad("events", events, want)
		}
	}
}

// artifactOf is the content of an artifact, in the form of the table.
func artifactOf(t *testing.T, e system.Event) string {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(e.Artifact.Data)
	if err != nil {
		t.Fatal(err)
	}
	switch e.Artifact.MIMEType {
	case "application/json":
		var out bytes.Buffer
		if err := json.Compact(&out, b); err != nil {
			t.Fatal(err)
		}
		return out.String()
	case "application/gzip":
		z, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if b, err = io.ReadAll(z); err != nil {
			t.Fatal(err)
		}
	}
	return string(b)
}

// cutText makes long artifacts readable.
func cutText(texts []string) (all []string) {
	for _, text := range texts {
		all = append(all, text[:min(len(text), 300)])
	}
	return all
}

// programs are the files of the reference handlers whose name is not that of their agent.
var programs = map[string]string{"echo_stream": "echostream", "stock_sim": "stocksim", "bidi_chat": "bidichat", "advanced_stream": "advancedstream"}

func goExamples(t *testing.T, names []string) (*system.Network, func(string) string) {
	t.Helper()
	copies := map[string]string{}
	program := func(name string) string {
		if other, ok := programs[name]; ok {
			return other
		}
		return name
	}
	for _, name := range names {
		from := filepath.Join(bin.Plugins(), program(name))
		if _, err := os.Stat(from); err != nil { // it is no reference handler
			from = filepath.Join(t.TempDir(), name)
			build := exec.Command("go", "build", "-o", from, "./examples/go/"+name)
			build.Dir = ".."
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("go build: %v\n%s", err, out)
			}
		}
		copies[program(name)] = from
	}
	dir := system.PluginDir(t, copies, nil)
	return bin.Dev(t, dir), func(name string) string { return filepath.Join(dir, program(name)) }
}

// pythonExamples packs each into a zipapp with the package in it, as its README says but for the package, which is not
// installed into the Python of the tests.
func pythonExamples(t *testing.T, names []string) (*system.Network, func(string) string) {
	t.Helper()
	// The first line of a script can name no path with a space in it, and that of this repository may have one.
	plain, plugins := filepath.Join(t.TempDir(), "venv"), t.TempDir()
	if err := os.Symlink(system.PythonEnvironment(t), plain); err != nil {
		t.Fatal(err)
	}
	python := filepath.Join(plain, "bin", "python")
	where := func(name string) string { return filepath.Join(plugins, name+"_python") }
	for _, name := range names {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(filepath.Join("..", "examples", "python", name))); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(filepath.Join(dir, "blocksd"), os.DirFS(filepath.Join("..", "pluginsdk", "python", "blocksd"))); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(python, "-m", "zipapp", dir, "-p", python, "-o", where(name))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("pack %s: %v\n%s", name, err, out)
		}
	}
	return bin.Dev(t, plugins), where
}

// projectExamples serves copies of examples that are projects.
func projectExamples(language string) func(t *testing.T, names []string) (*system.Network, func(string) string) {
	return func(t *testing.T, names []string) (*system.Network, func(string) string) {
		t.Helper()
		dirs := map[string]string{}
		var all []string
		for _, name := range names {
			dir := t.TempDir()
			if language == "node" {
				link(t, system.NodeModules(t), filepath.Join(dir, "node_modules"))
			}
			if err := os.CopyFS(dir, os.DirFS(filepath.Join("..", "examples", language, name))); err != nil {
				t.Fatal(err)
			}
			dirs[name], all = dir, append(all, dir)
		}
		return devOn(t, all...), func(name string) string { return dirs[name] }
	}
}

// What an example logs arrives with its attributes.
func TestExampleLogs(t *testing.T) {
	n, _ := pythonExamples(t, []string{"adder"})
	answer(t, n, "adder_python", `{"a":1,"b":3.5}`)
	awaitLog(t, n, "adder_python", "adding", "b=3.5")
}

// A handler that was written from the contract alone, in a language without a package, keeps it and is served.
func TestRustExample(t *testing.T) {
	if _, err := exec.LookPath("cargo"); err != nil {
		t.Skip("machine: cargo is not installed")
	}
	program, err := filepath.Abs("../examples/rust/target/release/wordcount")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadFile(program); err != nil {
		t.Skip("the example in Rust is not built: run make test")
	}
	if r := bin.Run(t, nil, "handler", "check", program); r.Code != 0 {
		t.Errorf("handler check: %+v", r)
	}
	n := bin.Dev(t, system.PluginDir(t, map[string]string{"wordcount": program}, nil))
	n.WaitReady(t)
	if got := answer(t, n, "rust_wordcount", "one two three"); got != "3" {
		t.Errorf("answered %q", got)
	}
}
