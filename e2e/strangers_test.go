package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

// strangers are handlers as people write them for Blocks' own SDK, with the file of each.
var strangers = map[string]string{
	"normalizer": "agent/handler.py", "plant_doctor": "handler.py", "narrator": "handler.py", "probe": "handler.py", "lifecycle": "handler.py", "fan_out": "handler.py",
	"headliner": "handler.ts", "slides": "handler.mjs", "claude": "handler.mjs",
}

// model stands in for what some of them ask.
func model(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var question struct{ Picture, Type, Text string }
		b, _ := io.ReadAll(r.Body)
		if json.Unmarshal(b, &question) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"diagnosis": "Too much water (" + question.Type + ").", "headlines": []string{"all about " + question.Text, "more"}})
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// stranger is a project of testdata, with what its language needs.
func stranger(t *testing.T, name, env string) string {
	t.Helper()
	file := strangers[name]
	dir := system.Project(t, map[string]string{".env": env, "agent-card.json": system.Card(t, name, "./"+file, func(card map[string]any) {
		io := card["io"].(map[string]any)
		io["inputs"] = []any{
			map[string]any{"id": "request", "description": "A text.", "contentType": "text/plain", "required": false},
			map[string]any{"id": "picture", "description": "A picture.", "contentType": "image/png", "required": false},
		}
		io["outputs"] = []any{
			map[string]any{"id": "result", "contentType": "text/plain", "guaranteed": false}, map[string]any{"id": "preview", "contentType": "audio/mpeg", "guaranteed": false},
		}
		switch name {
		case "lifecycle":
			object := map[string]any{"type": "object"}
			card["capabilities"] = map[string]any{"taskKinds": []string{"request", "pipe"}}
			card["streams"] = map[string]any{"control": map[string]any{"direction": "bidirectional", "format": "events", "description": "Commands.", "outboundSchema": object, "inboundSchema": object}}
		case "claude":
			card["runtime"].(map[string]any)["handlerExport"] = "run"
			card["streams"] = map[string]any{"_default": map[string]any{"direction": "outbound", "format": "bytes", "contentType": "text/plain", "description": "What it says."}}
		}
	})})
	if strings.HasSuffix(file, ".py") {
		link(t, system.PythonEnvironment(t), filepath.Join(dir, ".venv"))
	} else {
		link(t, system.NodeModules(t), filepath.Join(dir, "node_modules"))
	}
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "projects", name))); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Handlers that were written for Blocks' own SDK run unchanged, with everything that such handlers were seen to use.
func TestHandlersOfStrangers(t *testing.T) {
	env := "MODEL_URL=" + model(t) + "\n"
	var dirs []string
	for name := range strangers {
		dirs = append(dirs, stranger(t, name, env))
	}
	n := devOn(t, dirs...)
	picture := filepath.Join(t.TempDir(), "leaf.png")
	writeFile(t, picture, "\x89PNG"+strings.Repeat("leaf", 50_000))
	for _, c := range []struct {
		agent string
		args  []string
		code  int
		want  []string // the inline artifacts
		fails string
		says  string // a status
	}{
		{"normalizer", []string{"--text", "  much   room "}, 0, []string{"much room"}, "", "tidying"},
		{"normalizer", []string{"--text", `{"text": "a  b"}`}, 0, []string{"a b"}, "", ""},
		{"plant_doctor", []string{"--file", "picture=" + picture}, 0, []string{"# Diagnosis\n\nToo much water (image/png).\n"}, "", "looking at the leaves"},
		{"plant_doctor", []string{"--text", "no picture"}, 4, nil, "Send a picture of the plant.", ""},
		{"probe", []string{"--text", "who"}, 0, []string{`{"agent": "probe", "claims": true, "key": null, "kind": "request", "org": true, "owner": true, "same": true, "streams": false}`}, "", ""},
		{"lifecycle", []string{"--text", "job"}, 4, nil, "The first attempt always fails.", ""},
		{"lifecycle", []string{"--text", "job"}, 0, []string{"second attempt"}, "", ""},
		{"fan_out", []string{"--text", "a b c d e f"}, 0, []string{"a a|b b|c c|d d|e e|f f|1"}, "", ""},
		{"headliner", []string{"--text", "cats"}, 0, []string{"All About Cats", "More"}, "", "writing"},
		{"headliner", []string{"--text", " "}, 4, nil, "There is no text.", ""},
		{"slides", []string{"--text", ""}, 4, nil, "The deck needs a title.", ""},
		{"claude", []string{"--text", "x"}, 0, []string{`{"lines":5,"cost":3}`}, "", "start x"},
	} {
		task := n.Call(t, c.agent, c.args...)
		if got := texts(t, task); task.Code != c.code || !slices.Equal(got, c.want) || failure(task) != c.fails || c.says != "" && !hasStatus(task, c.says) {
			t.Errorf("%s %q: exit %d, artifacts %q, %s%s", c.agent, c.args, task.Code, got, task.Stdout, task.Stderr)
		}
	}

	// Files that are too large for an event.
	for agent, want := range map[string]map[string]string{
		"narrator": {"preview.mp3": "ID3once ", "story.mp3": "ID3" + strings.Repeat("once upon", 4000)},
		"slides":   {"deck.pptx": "PK\x03\x04" + strings.Repeat("once upon", 20_000)},
	} {
		dir := t.TempDir()
		if task := n.Call(t, agent, "--text", "once upon", "--save", dir); task.Code != 0 {
			t.Errorf("%s: %+v", agent, task)
		}
		for name, content := range want {
			if b, err := os.ReadFile(filepath.Join(dir, name)); string(b) != content {
				t.Errorf("%s: the file %s has %d bytes, %v", agent, name, len(b), err)
			}
		}
	}
	if r := n.Run(t, n.Env, "call", "claude", "--text", "x", "--stream"); r.Stdout != "start x\nstep 1\nstep 2\nstep 3\ncost 3\n" {
		t.Errorf("the stream of claude: %+v", r)
	}
	call := n.StartCall(t, "claude", "--text", "slow")
	call.AwaitStatus(t)
	call.Interrupt()
	if r := call.Result(t); r.Code != 5 {
		t.Errorf("claude: %+v", r)
	}
	awaitLog(t, n, "normalizer", "tidied 14 characters")

	// A pipe task goes on when its function has returned, and is told of its end.
	c := consumer(t, n.Env)
	task := c.submit("lifecycle", "x", 5)
	s := c.stream(task, "control")
	c.read(s, func(all string) bool { return strings.Contains(all, `"n":3`) || strings.Contains(all, `"n": 3`) })
	c.write(s, map[string]any{"type": "stream_events", "seq": 1, "events": []any{map[string]any{"command": "pause"}}})
	c.write(s, map[string]any{"type": "stream_events", "seq": 2, "events": []any{map[string]any{"command": "resume"}}})
	c.read(s, func(all string) bool { return strings.Contains(all, "paused") && strings.Contains(all, "resumed") })
	system.Eventually(t, system.CallDeadline, "a status comes after the function has returned", func() bool {
		events, err := c.History(c.ctx, task)
		return err == nil && slices.ContainsFunc(events, func(e system.Event) bool { return e.Message == "still counting" })
	})
	c.cancel(task)
	if end := c.end(task); end != "canceled" {
		t.Errorf("lifecycle ends %s", end)
	}
	awaitLog(t, n, "lifecycle", "stopped at") // the thread of the handler hears of it
	if said := n.Output(); strings.Contains(said, "within its grace") {
		t.Errorf("a handler was cut off: %s", said)
	}
}
