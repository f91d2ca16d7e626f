package card_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/network/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const echoCard = `{
  "identity": {
    "agentName": "parrot", "displayName": "Parrot", "description": "Repeats a text.", "version": "0.1.0",
    "provider": {"organization": "Example Org", "url": "https://example.org"},
    "webApps": [{"url": "http://localhost:8080/x", "label": "Try it"}, {"url": "https://[2001:db8::1]:8443/"}]
  },
  "capabilities": {"taskKinds": ["request", "pipe"]},
  "io": {
    "inputs": [
      {"id": "request", "description": "The text.", "contentType": "text/plain", "required": true, "example": "Polly"},
      {"id": "form", "description": "Numbers.", "contentType": "application/json", "required": false, "example": {"left": 1, "right": [2]},
       "schema": {"type": "object", "title": "T", "required": ["left"], "properties": {
          "left": {"type": "integer", "minimum": 0, "default": 1},
          "right": {"type": "array", "items": {"type": "object", "properties": {"deep": {"type": "null"}}}, "minItems": 1}}}},
      {"id": "photo", "description": "A picture.", "contentType": "image/png", "required": false, "accept": ["image/*", "application/pdf"], "maxSizeBytes": 1000}
    ],
    "outputs": [{"id": "reply", "contentType": "text/plain", "guaranteed": true}]
  },
  "streams": {
    "_default": {"direction": "outbound", "format": "events", "vendorKey": 1},
    "raw": {"direction": "bidirectional", "format": "bytes", "contentType": "audio/wav", "affinity": "shared"},
    "chat": {"direction": "bidirectional", "format": "events", "outboundSchema": {}, "inboundSchema": {}}
  },
  "tags": [{"id": "echo", "name": "Echo", "examples": ["hi"]}],
  "runtime": {"handler": "./main.go", "concurrency": 8.0, "expectedInstances": 0, "maxPendingBacklog": 0, "maxRunningTimeSec": 30},
  "security": {"encryption": {"required": false, "algorithm": "none", "consumerKeyRequired": false}},
  "services": {"webhooks": false},
  "extensions": {"blocks": {"listing": "private", "billingMode": "paid", "pricePerTask": 0.05}, "other": 1}
}`

func TestParseValid(t *testing.T) {
	c, err := card.Parse([]byte(echoCard))
	if err != nil {
		t.Fatal(err)
	}
	zero, thirty := 0, 30
	want := card.Card{
		AgentName: "parrot", DisplayName: "Parrot", Description: "Repeats a text.", Version: "0.1.0", Organization: "Example Org",
		TaskKinds: []wire.TaskKind{wire.Request, wire.Pipe},
		Inputs: []card.Input{
			{ID: "request", Description: "The text.", ContentType: "text/plain", Required: true, Example: json.RawMessage(`"Polly"`)},
			{ID: "form", Description: "Numbers.", ContentType: "application/json", Example: json.RawMessage(`{"left": 1, "right": [2]}`)},
			{ID: "photo", Description: "A picture.", ContentType: "image/png", MaxSizeBytes: 1000},
		},
		Outputs: []card.Output{{ID: "reply", ContentType: "text/plain", Guaranteed: true}},
		Handler: "./main.go", Concurrency: 8, ExpectedInstances: 0, MaxPendingBacklog: &zero, MaxRunningTimeSec: &thirty,
		Streams: map[string]card.Stream{
			"_default": {Direction: "outbound", Format: "events", Affinity: "dedicated"},
			"raw":      {Direction: "bidirectional", Format: "bytes", Affinity: "shared"},
			"chat":     {Direction: "bidirectional", Format: "events", Affinity: "dedicated"},
		},
		Extensions: json.RawMessage(`{"blocks": {"listing": "private", "billingMode": "paid", "pricePerTask": 0.05}, "other": 1}`),
		Raw:        json.RawMessage(echoCard),
	}
	if d := cmp.Diff(want, c, cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".upgraded" }, cmp.Ignore())); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(card.Blocks{Listing: "private", BillingMode: wire.Paid, PricePerTask: "0.05"}, c.Blocks()); d != "" {
		t.Error(d)
	}
	for i, class := range []card.Class{card.Text, card.Form, card.File} {
		if got := c.Inputs[i].Class(); got != class {
			t.Errorf("class of %s is %s, want %s", c.Inputs[i].ID, got, class)
		}
	}
	if w := c.Warnings(); len(w) != 0 {
		t.Errorf("a complete card has warnings: %v", w)
	}
}

func TestDefaultsAndWarnings(t *testing.T) {
	c, err := card.Parse([]byte(`{"identity":{"agentName":"a","displayName":"","description":"","version":"","provider":{"organization":""}},
		"capabilities":{"taskKinds":["request"]},"skills":[{"id":"x","name":"X"}],"runtime":{"handler":"h"}}`))
	if err != nil {
		t.Fatal(err)
	}
	if c.Concurrency != 1 || c.ExpectedInstances != 1 || c.MaxRunningTimeSec != nil || c.MaxPendingBacklog != nil {
		t.Errorf("wrong defaults: %+v", c)
	}
	if d := cmp.Diff(card.Blocks{Listing: "public", BillingMode: wire.Free}, c.Blocks()); d != "" {
		t.Error(d)
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(c.Raw, &raw); err != nil || raw["tags"] == nil || raw["skills"] != nil {
		t.Errorf("skills were not upgraded to tags: %s (%v)", c.Raw, err)
	}
	var pointers []string
	for _, w := range c.Warnings() {
		pointers = append(pointers, w.Pointer)
	}
	if d := cmp.Diff([]string{"/skills", "/runtime"}, pointers); d != "" {
		t.Error(d)
	}
	if parts, ok := card.ExampleParts(c); !ok || len(parts) > 0 {
		t.Errorf("the parts of a card that requires none are %v, %v", parts, ok)
	}
}

func TestExampleParts(t *testing.T) {
	c, err := card.Parse([]byte(echoCard))
	if err != nil {
		t.Fatal(err)
	}
	parts, ok := card.ExampleParts(c)
	if !ok {
		t.Fatal("no example parts")
	}
	got, err := json.Marshal(parts)
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"partId":"request","text":"Polly","contentType":"text/plain"},{"partId":"form","text":"{\"left\":1,\"right\":[2]}","contentType":"application/json"}]`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	c.Inputs[2].Required = true // a file, which is not made up
	if _, ok := card.ExampleParts(c); ok {
		t.Error("example parts although a required file has none")
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "agent-card.json")
	if _, err := card.Load(path); err == nil || err.Error() != "read agent card "+path+": there is no such file" {
		t.Errorf("missing file: %v", err)
	}
	if _, err := card.Load(dir); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("a directory as card: %v", err)
	}
	write(t, path, `{"identity": }`)
	_, err := card.Load(path)
	want := "agent card " + path + " is not valid: the document is not JSON at line 1, column 14: invalid character '}' looking for beginning of value"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	write(t, path, echoCard)
	c, err := card.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := card.CheckHandlerFile(c, filepath.Join(dir, "agent-card.json")); err == nil || !strings.Contains(err.Error(), `"./main.go" does not exist in `+dir) {
		t.Errorf("absent handler: %v", err)
	}
	write(t, filepath.Join(dir, "main.go"), "package main")
	if err := card.CheckHandlerFile(c, filepath.Join(dir, "agent-card.json")); err != nil {
		t.Error(err)
	}
	beside := filepath.Join(dir, "shout.agent-card.json")
	c.Handler = "./elsewhere.go"
	if err := card.CheckHandlerFile(c, beside); err == nil {
		t.Error("a card beside no handler passes")
	}
	write(t, filepath.Join(dir, "shout"), "a built handler")
	if err := card.CheckHandlerFile(c, beside); err != nil {
		t.Errorf("a card beside its built handler: %v", err)
	}
	c.Handler = "/main.go" // joined to the directory all the same
	if err := card.CheckHandlerFile(c, filepath.Join(dir, "agent-card.json")); err != nil {
		t.Error(err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(echoCard))
	f.Add([]byte(`{"skills":[],"a":{"b":[1,2,{"c":null}]}}`))
	f.Add([]byte(`[`))
	f.Add([]byte(`{"\u0073kills":[{"id":1}]}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		c, err := card.Parse(doc)
		if err != nil {
			var ps card.Problems
			if !errors.As(err, &ps) || len(ps) == 0 {
				t.Fatalf("error without problems: %v", err)
			}
			return
		}
		if !json.Valid(c.Raw) || c.AgentName == "" || c.Concurrency < 1 {
			t.Fatalf("accepted an invalid card: %s", doc)
		}
		again, err := card.Parse(c.Raw)
		if err != nil || again.AgentName != c.AgentName {
			t.Fatalf("the upgraded card is not valid: %v", err)
		}
		c.Warnings()
		card.ExampleParts(c)
	})
}

// What an editor saved: a byte order mark does no harm, and another encoding than UTF-8 is named.
func TestEncodings(t *testing.T) {
	plain := strings.Replace(echoCard, "Repeats a text.", "Repète un texte.", 1)
	want, err := card.Parse([]byte(plain))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "card.json")
	load := func(content string) (card.Card, error) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return card.Load(path)
	}
	got, err := load("\xef\xbb\xbf" + plain)
	if err != nil || string(got.Raw) != string(want.Raw) || got.DisplayName != want.DisplayName {
		t.Errorf("with a byte order mark: %v, %s", err, got.Raw)
	}
	var wide, latin1 strings.Builder
	for _, r := range plain {
		wide.WriteByte(byte(r))
		wide.WriteByte(byte(r >> 8))
		latin1.WriteByte(byte(r))
	}
	prefix := "agent card " + path + " is not valid: it is "
	for content, want := range map[string]string{
		"\xff\xfe" + wide.String(): "encoded in UTF-16: save it as UTF-8",
		wide.String():              "encoded in UTF-16: save it as UTF-8",
		latin1.String():            "not encoded in UTF-8 (perhaps in Latin-1): save it as UTF-8",
	} {
		if _, err := load(content); err == nil || err.Error() != prefix+want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
