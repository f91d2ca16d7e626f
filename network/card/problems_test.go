package card_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/blocksd/blocksd/network/card"
)

var update = flag.Bool("update", false, "write the golden files")

// Each row makes one thing wrong in a valid card; the golden file shows what is said about it.
var wrongs = []struct {
	name string
	make func(doc map[string]any)
}{
	{"no identity", func(d map[string]any) { delete(d, "identity") }},
	{"unknown key at the top", func(d map[string]any) { d["runtme"] = d["runtime"] }},
	{"unknown key with nothing near", func(d map[string]any) { at(d, "capabilities")["streaming"] = true }},
	{"old key heartbeatMs", func(d map[string]any) { at(d, "runtime")["heartbeatMs"] = 5 }},
	{"wrong type of object", func(d map[string]any) { d["runtime"] = "main.go" }},
	{"wrong type of text", func(d map[string]any) { at(d, "identity")["version"] = 1 }},
	{"agentName pattern", func(d map[string]any) { at(d, "identity")["agentName"] = "my-agent" }},
	{"agentName empty", func(d map[string]any) { at(d, "identity")["agentName"] = "" }},
	{"runtime missing", func(d map[string]any) { delete(d, "runtime") }},
	{"handler missing", func(d map[string]any) { delete(at(d, "runtime"), "handler") }},
	{"handler empty", func(d map[string]any) { at(d, "runtime")["handler"] = "" }},
	{"concurrency 0", func(d map[string]any) { at(d, "runtime")["concurrency"] = 0 }},
	{"concurrency 1.5", func(d map[string]any) { at(d, "runtime")["concurrency"] = 1.5 }},
	{"concurrency as text", func(d map[string]any) { at(d, "runtime")["concurrency"] = "4" }},
	{"task kinds empty", func(d map[string]any) { at(d, "capabilities")["taskKinds"] = []any{} }},
	{"task kind unknown", func(d map[string]any) { at(d, "capabilities")["taskKinds"] = []any{"batch"} }},
	{"task kind twice", func(d map[string]any) { at(d, "capabilities")["taskKinds"] = []any{"pipe", "pipe"} }},
	{"no tags", func(d map[string]any) { d["tags"] = []any{} }},
	{"duplicate tag id", func(d map[string]any) { d["tags"] = append(d["tags"].([]any), item(d, "tags", 0)) }},
	{"duplicate input id", func(d map[string]any) { input(d, 1)["id"] = "request" }},
	{"duplicate output id", func(d map[string]any) {
		io := at(d, "io")
		io["outputs"] = append(io["outputs"].([]any), io["outputs"].([]any)[0])
	}},
	{"skills beside tags", func(d map[string]any) { d["skills"] = d["tags"] }},
	{"unknown content type", func(d map[string]any) { input(d, 0)["contentType"] = "application/yaml" }},
	{"content type with parameters", func(d map[string]any) { input(d, 0)["contentType"] = "text/plain; charset=utf-8" }},
	{"content type upper case", func(d map[string]any) { input(d, 0)["contentType"] = "Text/Plain" }},
	{"content type form and text", func(d map[string]any) { input(d, 0)["contentType"] = "text/foo+json" }},
	{"image with json suffix follows form rules", func(d map[string]any) { input(d, 2)["contentType"] = "image/foo+json" }},
	{"form without schema", func(d map[string]any) { delete(input(d, 1), "schema") }},
	{"form without example", func(d map[string]any) { delete(input(d, 1), "example") }},
	{"accept on a form", func(d map[string]any) { input(d, 1)["accept"] = []any{"text/*"} }},
	{"maxSizeBytes on a text", func(d map[string]any) { input(d, 0)["maxSizeBytes"] = 5 }},
	{"schema on a text", func(d map[string]any) { input(d, 0)["schema"] = map[string]any{} }},
	{"schema on a file", func(d map[string]any) { input(d, 2)["schema"] = map[string]any{} }},
	{"text example is an object", func(d map[string]any) { input(d, 0)["example"] = map[string]any{} }},
	{"maxSizeBytes too large", func(d map[string]any) { input(d, 2)["maxSizeBytes"] = 25<<20 + 1 }},
	{"maxSizeBytes 0", func(d map[string]any) { input(d, 2)["maxSizeBytes"] = 0 }},
	{"accept with an unknown type", func(d map[string]any) { input(d, 2)["accept"] = []any{"application/*"} }},
	{"input description empty", func(d map[string]any) { input(d, 0)["description"] = "" }},
	{"schema type", func(d map[string]any) { at(input(d, 1), "schema")["type"] = "array" }},
	{"schema without properties", func(d map[string]any) { delete(at(input(d, 1), "schema"), "properties") }},
	{"schema keyword", func(d map[string]any) { at(input(d, 1), "schema")["additionalProperties"] = false }},
	{"property keyword", func(d map[string]any) { at(input(d, 1), "schema", "properties", "left")["pattern"] = "x" }},
	{"property without type", func(d map[string]any) { delete(at(input(d, 1), "schema", "properties", "left"), "type") }},
	{"deep property keyword", func(d map[string]any) {
		at(input(d, 1), "schema", "properties", "right", "items", "properties", "deep")["minLength"] = 1
	}},
	{"stream without direction", func(d map[string]any) { delete(at(d, "streams", "raw"), "direction") }},
	{"stream without format", func(d map[string]any) { delete(at(d, "streams", "raw"), "format") }},
	{"stream direction unknown", func(d map[string]any) { at(d, "streams", "raw")["direction"] = "both" }},
	{"events with contentType", func(d map[string]any) { at(d, "streams", "_default")["contentType"] = "text/plain" }},
	{"bytes with schema", func(d map[string]any) { at(d, "streams", "raw")["schema"] = map[string]any{} }},
	{"bidirectional events without schemas", func(d map[string]any) {
		delete(at(d, "streams", "chat"), "inboundSchema")
		delete(at(d, "streams", "chat"), "outboundSchema")
	}},
	{"bidirectional events with schema", func(d map[string]any) { at(d, "streams", "chat")["schema"] = map[string]any{} }},
	{"one direction with directional schemas", func(d map[string]any) { at(d, "streams", "_default")["inboundSchema"] = map[string]any{} }},
	{"_default shared", func(d map[string]any) { at(d, "streams", "_default")["affinity"] = "shared" }},
	{"request only with named streams", func(d map[string]any) { at(d, "capabilities")["taskKinds"] = []any{"request"} }},
	{"26 web apps", func(d map[string]any) {
		var apps []any
		for range 26 {
			apps = append(apps, map[string]any{"url": "https://example.org"})
		}
		at(d, "identity")["webApps"] = apps
	}},
	{"web app URLs", func(d map[string]any) {
		var apps []any
		for _, u := range []string{"http://example.org", "ftp://x", "/relative", "https://", "https://x:0/", "https://x:99999", "https://%zz", "https://[::g]/", "https://x:/"} {
			apps = append(apps, map[string]any{"url": u})
		}
		at(d, "identity")["webApps"] = apps
	}},
	{"web app without url", func(d map[string]any) { at(d, "identity")["webApps"] = []any{map[string]any{"label": "x"}} }},
	{"label and description too long", func(d map[string]any) {
		at(d, "identity")["webApps"] = []any{map[string]any{"url": "https://x", "label": strings.Repeat("ä", 81), "description": strings.Repeat("x", 281)}}
	}},
	{"encryption incomplete", func(d map[string]any) { delete(at(d, "security", "encryption"), "algorithm") }},
	{"several at once, in order", func(d map[string]any) {
		at(d, "identity")["agentName"] = "a b"
		delete(at(d, "runtime"), "handler")
		input(d, 0)["contentType"] = "nonsense"
		d["extra"] = 1
	}},
}

func at(d map[string]any, keys ...string) map[string]any {
	for _, k := range keys {
		d = d[k].(map[string]any)
	}
	return d
}

func item(d map[string]any, key string, i int) any { return d[key].([]any)[i] }

func input(d map[string]any, i int) map[string]any {
	return at(d, "io")["inputs"].([]any)[i].(map[string]any)
}

func TestProblems(t *testing.T) {
	var out strings.Builder
	for _, w := range wrongs {
		var doc map[string]any
		if err := json.Unmarshal([]byte(echoCard), &doc); err != nil {
			t.Fatal(err)
		}
		w.make(doc)
		b, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		report(t, &out, w.name, b)
	}
	for _, doc := range []struct{ name, text string }{
		{"empty document", " \n"},
		{"no JSON", "{\n  \"identity\": {,\n}"},
		{"cut off", `{"identity": {"agentName": "x"`},
		{"text after the document", `{} {}`},
		{"array", `[]`},
		{"doubled key", strings.Replace(echoCard, `"handler": "./main.go"`, `"handler": "./main.go", "handler": "./b"`, 1)},
		{"too deep", strings.Repeat(`{"a":`, 200) + "1" + strings.Repeat("}", 200)},
	} {
		report(t, &out, doc.name, []byte(doc.text))
	}
	golden := filepath.Join("testdata", "problems.golden")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, golden, out.String())
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got := out.String(); got != string(want) {
		t.Errorf("problems differ from %s (run with -update and look at the difference):\n%s", golden, got)
	}
}

func report(t *testing.T, out *strings.Builder, name string, doc []byte) {
	t.Helper()
	_, err := card.Parse(doc)
	ps, ok := err.(card.Problems)
	if !ok {
		t.Errorf("%s: no problems found (%v)", name, err)
		return
	}
	fmt.Fprintf(out, "# %s\n", name)
	for _, p := range ps {
		if strings.Contains(p.Message, "\n") || p.Message == "" {
			t.Errorf("%s: message is not one line: %q", name, p.Message)
		}
		fmt.Fprintf(out, "%s: %s\n", p.Pointer, p.Message)
	}
	out.WriteString("\n")
}
