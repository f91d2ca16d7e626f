package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

// execProject is a project whose handler is a YAML file.
func execProject(t *testing.T, agent, yaml string, more map[string]string) string {
	t.Helper()
	files := map[string]string{
		"handler.yaml": yaml,
		"agent-card.json": system.Card(t, agent, "./handler.yaml", func(card map[string]any) {
			io := card["io"].(map[string]any)
			io["inputs"] = append(io["inputs"].([]any), map[string]any{"id": "file", "description": "A file.", "contentType": "application/octet-stream", "required": false})
		}),
	}
	for name, text := range more {
		files[name] = text
	}
	return system.Project(t, files)
}

// Any program is an agent: by text, by lines of JSON, and by files.
func TestExec(t *testing.T) {
	marks := t.TempDir()
	n := bin.DevWith(t, system.Env{"BLOCKSD_CANCEL_GRACE=25s"}, t.TempDir(), projectFlags([]string{
		execProject(t, "caps", "command: [tr, a-z, A-Z]\nmime_type: text/markdown\noutput_id: result\n", nil),
		execProject(t, "shell", "command: printf '%s from %s' \"$BLOCKS_TEXT_REQUEST\" \"$GREETER\"\nenvironment: {GREETER: sh}\ninput: none\n", nil),
		execProject(t, "args", "command: [./say, '--text={text:request}']\n", map[string]string{"say": "#!/bin/sh\nprintf '%s|' \"$@\"\n"}),
		execProject(t, "lines", "command: [./work]\ninput: json\noutput: json\n", map[string]string{"work": `#!/bin/sh
read -r task
echo '{"status":"reading"}'
case $task in *'"text":"fail"'*) echo '{"error":"It was to fail."}'; exit 0;; *'"text":"garble"'*) echo 'what?'; sleep 60;; esac
echo '{"artifact":{"text":"one","outputId":"result"}}'
echo '{"artifact":{"data":"dHdv","mimeType":"text/plain"}}'
`}),
		execProject(t, "files", "command: 'cp \"$BLOCKS_FILE_FILE\" \"$BLOCKS_OUTPUT_DIR/copy.txt\"; ls \"$BLOCKS_OUTPUT_DIR\" >&2'\noutput: files\nstderr: status\n", nil),
		execProject(t, "codes", "command: 'echo secret >&2; exit $BLOCKS_TEXT_REQUEST'\nerrors: {3: The third kind of error.}\n", nil),
		// The trap stands before anybody hears of it. It has six seconds, because a busy machine takes its time.
		execProject(t, "waits", "command: 'sleep 300 & echo $! >\"$MARKS/child\"; trap \"echo term >\\\"$MARKS/term\\\"\" TERM; echo started >&2; wait; sleep 300'\ninput: none\nstderr: status\nkill_after: 6s\nenvironment: {MARKS: "+marks+"}\n", nil),
	})...)

	task := n.Call(t, "caps", "--text", "many words")
	if got := texts(t, task); task.Code != 0 || len(got) != 1 || got[0] != "MANY WORDS" {
		t.Errorf("caps: %+v", task)
	}
	for _, e := range task.Events {
		if e.Type == "artifact" && (e.Artifact.MIMEType != "text/markdown" || e.OutputID != "result") {
			t.Errorf("caps: %+v", e)
		}
	}
	if got := answer(t, n, "shell", "it's $(me)"); got != "it's $(me) from sh" {
		t.Errorf("shell: %q", got)
	}
	if got := answer(t, n, "args", "a b; c"); got != "--text=a b; c|" {
		t.Errorf("args: %q", got)
	}
	task = n.Call(t, "lines", "--text", "x")
	if got := strings.Join(texts(t, task), ","); task.Code != 0 || got != "one,two" || !hasStatus(task, "reading") {
		t.Errorf("lines: %q, %+v", got, task)
	}
	for text, want := range map[string]string{"fail": "It was to fail.", "garble": "The program gave an answer that is not understood."} {
		if task := n.Call(t, "lines", "--text", text); task.Code != 4 || failure(task) != want {
			t.Errorf("lines %s: %+v", text, task)
		}
	}
	file := filepath.Join(t.TempDir(), "in.bin")
	writeFile(t, file, "content of it")
	task = n.Call(t, "files", "--text", "x", "--file", "file="+file)
	if got := strings.Join(texts(t, task), ","); task.Code != 0 || got != "content of it" || !hasStatus(task, "copy.txt") {
		t.Errorf("files: %q, %+v", got, task)
	}
	for code, want := range map[string]string{"3": "The third kind of error.", "4": "The program ended with exit code 4."} {
		if task := n.Call(t, "codes", "--text", code); task.Code != 4 || failure(task) != want {
			t.Errorf("codes %s: %+v", code, task)
		}
	}
	awaitLog(t, n, "codes", "secret")

	// A cancel is a SIGTERM, and a program that goes on is killed with all that it has started.
	call := n.StartCall(t, "waits", "--text", "x")
	call.AwaitStatus(t)
	call.Interrupt()
	if task := call.Result(t); task.Code != 5 {
		t.Errorf("waits: %+v", task)
	}
	if _, err := os.Stat(filepath.Join(marks, "term")); err != nil {
		t.Errorf("no SIGTERM came: %v", err)
	}
	child := pidIn(t, filepath.Join(marks, "child"))
	system.Eventually(t, system.StopDeadline, "what the program has started ends", func() bool { return !system.Alive(child) })
	if pid := n.Status(t).Handler(t, "waits").Processes[0].PID; syscall.Kill(pid, 0) != nil {
		t.Error("the handler has ended with the program")
	}
}

func hasStatus(task system.Task, text string) bool {
	for _, e := range task.Events {
		if e.Type == "progress" && e.Message == text {
			return true
		}
	}
	return false
}

// failure is the error text of a task's terminal event.
func failure(task system.Task) string {
	for _, e := range task.Events {
		if e.Type == "terminal" {
			return e.Error
		}
	}
	return ""
}

// A YAML file with a first line of its own is a handler in a plugins directory, and what is wrong with one is said.
func TestExecFiles(t *testing.T) {
	plugins := t.TempDir()
	first := "#!" + filepath.Join(bin.Dir, "blocksd-exec") + "\n"
	for name, text := range map[string]string{
		"counter": first + "command: [wc, -w]\n", "typo": first + "comand: [wc]\n", "gone": first + "command: [no-such-program-here]\n",
	} {
		writeFile(t, filepath.Join(plugins, name), text)
		if err := os.Chmod(filepath.Join(plugins, name), 0o755); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(plugins, name+".agent-card.json"), system.Card(t, name, "./"+name, nil))
	}
	n := bin.Dev(t, plugins)
	if got := strings.TrimSpace(answer(t, n, "counter", "one two three")); got != "3" {
		t.Errorf("counter: %q", got)
	}
	awaitReason(t, n, "handler typo is not started because "+filepath.Join(plugins, "typo")+" cannot be used", `line 2: key "comand" is unknown, did you mean "command"?`)
	awaitReason(t, n, "handler gone is not started because", "its program no-such-program-here is not in PATH: install it")
}

// pidIn reads a process number that a program has written.
func pidIn(t *testing.T, path string) int {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}
