package blocks

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

// trial is one task that both providers are given.
type trial struct {
	name string
	args args
	// then is what the consumer does, one after the other, each when an event that begins with when has come.
	then []string
	when string
	// maybe is a text of an event that may be missing on either side: whether it is there is a matter of time.
	maybe string
}

// trials are about everything that a provider publishes or answers to. What it writes to streams is in streammessages_test.go.
var trials = []trial{
	{"text", args{"steps": steps{give("hello ü")}}, nil, "", ""},
	{"nothing", args{"steps": steps{}}, nil, "", ""},
	{"names and outputs", args{"steps": steps{{"return": args{"text": "a", "mimeType": "text/plain", "fileName": "a.txt", "outputId": "result"}}, {"return": args{"text": "{}", "mimeType": "application/json"}}}}, nil, "", ""},
	{"no type", args{"steps": steps{{"return": args{"text": "a", "mimeType": ""}}}}, nil, "", ""},
	{"empty text", args{"steps": steps{give("")}}, nil, "", ""},
	{"largest inline", args{"steps": steps{{"return": bytesOf(16384, "image/png", "i.png")}}}, nil, "", ""},
	{"smallest upload", args{"steps": steps{{"return": args{"size": 16385, "mimeType": "image/png", "fileName": "big.png", "outputId": "chart"}}}}, nil, "", ""},
	{"upload without a name", args{"steps": steps{{"return": args{"size": 20000, "mimeType": "image/png"}}}}, nil, "", ""},
	{"upload of a megabyte", args{"steps": steps{{"return": bytesOf(1<<20, "application/octet-stream", "m ü.bin")}}}, nil, "", ""},
	{"status", args{"steps": steps{status("half way"), done}}, nil, "", ""},
	{"statuses a second apart", args{"steps": steps{status("a"), {"pause": 2}, status("b"), {"pause": 2}, status("c")}}, nil, "", ""},
	// Ends only when the last one has come: the SDK's timer for it may be late, and the end overtake it.
	{"statuses in one second", args{"steps": steps{status("a"), status("b"), status("c"), untilCancel}}, []string{"cancel"}, "status c", `"message":"b"`},
	{"last status in the same second", args{"steps": steps{status("a"), status("last"), done}}, nil, "", ""},
	{"artifacts in mid-task", args{"steps": steps{{"publish": args{"text": "first", "mimeType": "text/plain", "outputId": "result"}}, {"publish": bytesOf(20000, "image/png", "p.png")}, status("more"), done}}, nil, "", ""},
	{"failure", args{"steps": steps{{"fail": "division by zero"}}}, nil, "", ""},
	{"failure after output", args{"steps": steps{status("a"), {"publish": args{"text": "x", "mimeType": "text/plain"}}, done, {"fail": "ü broke"}}}, nil, "", ""},
	{"failure with a long text", args{"steps": steps{{"fail": strings.Repeat("long ", 10000)}}}, nil, "", ""},
	{"several inputs", args{"steps": steps{{"parts": true}, {"echo": "note"}, {"digest": "file"}, {"digest": "second"}}, "parts": []args{
		{"id": "note", "text": `{"a": [1, 2.5, null], "b": "ü"}`}, {"id": "file", "size": 40000, "name": "a.bin", "type": "application/zip"},
		{"id": "second", "size": 16384, "name": "b.bin", "type": "application/pdf"}}}, nil, "", ""},
	{"cancel", args{"steps": steps{ready, untilCancel}}, []string{"cancel"}, "status ready", ""},
	{"cancel, answered", args{"steps": steps{ready, untilCancel, done}}, []string{"cancel"}, "status ready", ""},
	{"cancel, raised", args{"steps": steps{ready, {"raise_cancel": 110}}}, []string{"cancel"}, "status ready", ""},
	{"cancel twice", args{"steps": steps{ready, untilCancel}}, []string{"cancel", "cancel"}, "status ready", ""},
	{"terminate", args{"steps": steps{ready, untilCancel, done}}, []string{"terminate"}, "status ready", ""},
	{"pause and resume", args{"steps": steps{ready, untilCancel}}, []string{"pause_task", "resume_task", "cancel"}, "status ready", ""},
	{"pipe canceled", args{"task_kind": "pipe", "duration": 5, "steps": steps{ready, untilCancel, done}}, []string{"cancel"}, "status ready", ""},
	{"pipe canceled when detached", args{"task_kind": "pipe", "duration": 5, "steps": steps{done}}, []string{"cancel"}, "artifact", ""},
	{"pipe terminated", args{"task_kind": "pipe", "duration": 5, "steps": steps{ready, untilCancel}}, []string{"terminate"}, "status ready", ""},
	{"pipe terminated when detached", args{"task_kind": "pipe", "duration": 5, "steps": steps{done}}, []string{"terminate"}, "artifact", ""},
	{"pipe fails", args{"task_kind": "pipe", "duration": 5, "steps": steps{{"fail": "broken pipe"}}}, nil, "", ""},
	{"pipe expires", args{"task_kind": "pipe", "duration": 1, "steps": steps{ready, {"await_cancel": 90}}}, nil, "", ""},
	{"pipe expires when detached", args{"task_kind": "pipe", "duration": 1, "steps": steps{ready}}, nil, "", ""},
	{"stream", args{"task_kind": "pipe", "duration": 5, "steps": steps{{"write": args{"name": "log", "chunks": []any{"x"}, "metadata": args{"a": []any{1, "ü"}}}}, ready, untilCancel}}, []string{"cancel"}, "status ready", ""},
	{"several streams", args{"task_kind": "pipe", "duration": 5, "steps": steps{{"write": args{"name": "log", "chunks": []any{"x"}}}, {"write": args{"name": "log", "chunks": []any{}}}, {"write": args{"name": "ticks", "chunks": []any{1}, "end": false}}, ready, untilCancel}}, []string{"cancel"}, "status ready", ""},
	{"stream left open when detached", args{"task_kind": "pipe", "duration": 5, "steps": steps{{"write": args{"name": "ticks", "chunks": []any{1}, "end": false}}, done}}, []string{"terminate"}, "artifact", ""},
	{"shared stream", args{"task_kind": "pipe", "duration": 5, "steps": steps{{"write": args{"name": "feed", "chunks": []any{1}, "end": false}}, done}}, []string{"cancel"}, "artifact", ""},
	{"stream written elsewhere", args{"task_kind": "pipe", "duration": 5, "steps": steps{{"external": args{"name": "ticks", "metadata": args{"by": "another"}}}}}, []string{"cancel"}, "artifact", ""},
	{"failure with a stream open", args{"task_kind": "pipe", "duration": 5, "steps": steps{{"write": args{"name": "log", "chunks": []any{"x"}, "end": false}}, {"fail": "broken stream"}}}, nil, "", ""},
}

// difference is what we want to be another way than with the SDK's provider.
type difference struct {
	reason string
	// theirs are the events that only the SDK's provider publishes, ours those that only blocksd does.
	theirs, ours []string
	// perhaps says that the SDK's provider may happen to do it our way, when it is slow.
	perhaps bool
}

// noEnd stands for a terminal that did not come in time.
const noEnd = `{"type":"no end"}`

// patience is how long the SDK's provider is waited for where it is known to publish no terminal.
const patience = 45

// intended are all differences, by the name of the trial.
var intended = map[string]difference{
	"last status in the same second": {
		reason:  "the SDK's provider drops a status that waits for its second when the task ends; blocksd publishes it before the answer, so that the last word is never lost",
		ours:    []string{`{"message":"last","protocolVersion":"2026-05-01","taskId":"…","type":"progress"}`},
		perhaps: true,
	},
	"failure with a long text": {
		reason: "the SDK's provider does not measure its events, so that the network refuses a terminal beyond 32 KiB and the task never ends; blocksd cuts the text",
		theirs: []string{noEnd},
		ours:   []string{`{"error":"` + strings.Repeat("long ", 1637) + `long…","protocolVersion":"2026-05-01","state":"failed","taskId":"…","type":"terminal"}`},
	},
	"cancel, raised": {
		reason: "a handler that ends with the cancellation as its error was canceled and has not failed",
		theirs: []string{`{"error":"interrupted","protocolVersion":"2026-05-01","state":"failed","taskId":"…","type":"terminal"}`},
		ours:   []string{`{"protocolVersion":"2026-05-01","state":"canceled","taskId":"…","type":"terminal"}`},
	},
	"pause and resume": {
		reason: "the SDK's provider says that the task is paused while the handler runs on; blocksd does not claim what is not so",
		theirs: []string{
			`{"protocolVersion":"2026-05-01","status":"paused","taskId":"…","type":"system"}`,
			`{"protocolVersion":"2026-05-01","status":"resumed","taskId":"…","type":"system"}`,
		},
	},
}

// TestDifferential gives each task to the SDK's provider, to blocksd with an equivalent handler, and to blocksd with the same
// project, driven by the SDK's own TaskClient: what is on the task's channel is the same, but for what is intended.
func TestDifferential(t *testing.T) {
	t.Parallel()
	cards := writeCards(t)
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel() // most of the time they wait for a minute to pass
			_, env := bin.Sandbox(t, cards)
			run(t, version, env, filepath.Join(cards, "scripted.json"))
			theirs := consume(t, version, env)

			_, env = bin.Sandbox(t, cards)
			plugins := system.PluginDir(t, map[string]string{"scripted": filepath.Join(bin.TestPlugins(), "scripted")}, nil)
			bin.Daemon(t, env, plugins)
			handler := consume(t, version, env)

			_, env = bin.Sandbox(t, cards)
			bin.Daemon(t, env, t.TempDir(), "--project", sameProject(t, filepath.Join(cards, "scripted.json")))
			project := consume(t, version, env)

			all := [3][]<-chan outcome{transcripts(theirs, trials, true), transcripts(handler, trials, false), transcripts(project, trials, false)}
			used := map[string]bool{}
			for i, trial := range trials {
				theirs := <-all[0][i]
				same := func(t *testing.T, ours outcome) {
					if theirs.err != nil || ours.err != nil {
						t.Fatalf("with the SDK's provider: %v; with blocksd: %v", theirs.err, ours.err)
					}
					d := intended[trial.name]
					if d.reason == "" {
						if diff := cmp.Diff(theirs.lines, ours.lines); diff != "" {
							t.Errorf("blocksd (+) differs from the SDK's provider (-):\n%s", diff)
						}
						return
					}
					used[trial.name] = true
					lost, added := without(theirs.lines, ours.lines), without(ours.lines, theirs.lines)
					if d.perhaps && len(lost) == 0 && len(added) == 0 {
						return
					}
					if !slices.Equal(lost, d.theirs) || !slices.Equal(added, d.ours) {
						t.Errorf("the intended difference is another one:\nonly with the SDK's provider: %q\nonly with blocksd: %q", lost, added)
					}
				}
				t.Run(trial.name, func(t *testing.T) { same(t, <-all[1][i]) })
				t.Run(trial.name+", as a project", func(t *testing.T) { same(t, <-all[2][i]) })
			}
			for name := range intended {
				if !used[name] {
					t.Errorf("there is no trial for the intended difference %q", name)
				}
			}
		})
	}
}

// sameProject is what the SDK's provider runs, as a directory.
func sameProject(t *testing.T, card string) string {
	t.Helper()
	files := map[string]string{}
	for name, from := range map[string]string{"agent-card.json": card, "handler.py": filepath.Join(here(t), "handler.py"), "symmetry.py": filepath.Join(here(t), "symmetry.py")} {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(b)
	}
	return system.PythonProject(t, files)
}

// transcripts has c give every trial to the provider of its network; theirs says that it is the SDK's.
func transcripts(c user, trials []trial, theirs bool) []<-chan outcome {
	turns := make(chan struct{}, atOnce)
	var out []<-chan outcome
	for _, trial := range trials {
		done := make(chan outcome, 1)
		out = append(out, done)
		go func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			a := args{"then": trial.then, "when": trial.when}
			for k, v := range trial.args {
				a[k] = v
			}
			if theirs && slices.Contains(intended[trial.name].theirs, noEnd) {
				a["patience"] = patience
			}
			var raw []map[string]any
			e := outcome{err: c.do("transcript", a, &raw)}
			for _, event := range raw {
				if id, ok := event["taskId"].(string); ok {
					e.task = id
				}
				line := normal(event)
				if trial.maybe == "" || !strings.Contains(line, trial.maybe) || event["type"] == "request" {
					e.lines = append(e.lines, line)
				}
			}
			done <- e
		}()
	}
	return out
}

// normal is an event without what differs from run to run: ids, times and tokens. Members are in the order of their
// names.
func normal(event map[string]any) string {
	id, _ := event["taskId"].(string)
	for _, key := range []string{"taskId", "ts"} {
		if event[key] != nil {
			event[key] = "…"
		}
	}
	streams, _ := event["streams"].(map[string]any)
	for _, s := range streams {
		if s, ok := s.(map[string]any); ok && s["token"] != nil {
			s["token"] = "…"
		}
	}
	refs := []any{event["artifactRef"]}
	if parts, ok := event["requestParts"].([]any); ok {
		for _, p := range parts {
			refs = append(refs, p.(map[string]any)["artifactRef"])
		}
	}
	for _, ref := range refs {
		if ref, ok := ref.(map[string]any); ok {
			for _, key := range []string{"channel", "fileId", "expiresAt"} {
				if ref[key] != nil {
					ref[key] = "…"
				}
			}
		}
	}
	b, err := json.Marshal(event)
	if err != nil {
		return fmt.Sprint(event)
	}
	if id != "" { // the names of files without one hold it
		return strings.ReplaceAll(string(b), id, "…")
	}
	return string(b)
}

// without returns the lines of a that are not in b.
func without(a, b []string) []string {
	var out []string
	for _, line := range a {
		if !slices.Contains(b, line) {
			out = append(out, line)
		}
	}
	return out
}
