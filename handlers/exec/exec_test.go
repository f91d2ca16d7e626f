package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/pluginsdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParse(t *testing.T) {
	s, err := parse([]byte("#!/usr/libexec/blocksd/blocksd-exec\ncommand: [convert, '{file:picture}', '{output}/smaller.png']\ninput: none\noutput: files\nstderr: status\nerrors: {2: No picture.}\nkill_after: 1s\n"))
	want := settings{
		Command: command{"convert", "{file:picture}", "{output}/smaller.png"}, Input: asNone, Output: asFiles, Stderr: asStatus,
		Errors: map[int]string{2: "No picture."}, KillAfter: duration(time.Second),
	}
	if d := cmp.Diff(want, s); err != nil || d != "" {
		t.Errorf("%v %s", err, d)
	}
	if s, err := parse([]byte("command: tr a-z A-Z | rev\n")); err != nil || !cmp.Equal(s.Command, command{shell, "-c", "tr a-z A-Z | rev"}) {
		t.Errorf("%v %v", s.Command, err)
	}
}

func TestParseMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"":                                   `it has no key "command"`,
		"{}":                                 `it has no key "command"`,
		"command: []":                        `it has no key "command"`,
		"- a":                                "it must hold keys",
		"command: [a":                        "it is not YAML",
		"comand: [a]":                        `line 1: key "comand" is unknown, did you mean "command"?`,
		"command: [a]\nfoo: 1":               `line 2: key "foo" is unknown; the known keys are command, input`,
		"command: {a: b}":                    "command must be a list of texts",
		"command: [a]\nkill_after: 3":        "kill_after must be a duration with a unit",
		"command: [a]\ninput: jsn":           `input must be one of text, json, none, not "jsn", did you mean "json"?`,
		"command: [a]\nstderr: x":            "stderr must be one of log, status",
		"command: [a, '{what}']":             "an argument holds {what}",
		"command: [a, '{file:}']":            "an argument holds {file:}",
		"command: ['{text:a}']":              "cannot depend on the task",
		"command: 'echo {text:request}'":     "the shell command holds {text:request}: use the variable BLOCKS_TEXT_REQUEST instead",
		"command: [bash, -c, '{file:a-b}']":  "use the variable BLOCKS_FILE_A_B instead",
		"command: [a]\npart: x\ninput: none": "part is only of use with input: text",
		"command: [a]\noutput: json\nmime_type: text/plain": "only of use with output: text",
		"command: [a]\nerrors: {0: x}":                      "from 1 to 255",
		"command: [a]\nenvironment: {'A=': x}":              "which no variable can have",
		"command: [a]\n---\ncommand: [b]":                   "a second YAML document",
		"command: [a]\ncommand: [b]":                        "already defined",
	} {
		if _, err := parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// The keys that are known are those that there are.
func TestKeys(t *testing.T) {
	for _, key := range keys {
		if _, err := parse([]byte("command: [a]\n" + key + ":\n")); err != nil && strings.Contains(err.Error(), "unknown") {
			t.Error(err)
		}
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"tool": "#!/bin/sh\n", "not-executable": ""} {
		mode := os.FileMode(0o644)
		if text != "" {
			mode = 0o755
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "h.yaml")
	for text, want := range map[string]string{
		"command: [./tool]":                   "",
		"command: [sh]":                       "",
		"command: [./no]":                     "its program " + dir + "/no is not there: install it, or correct command",
		"command: [./not-executable]":         "cannot be executed: chmod 0755 it",
		"command: [no-such-program-anywhere]": "its program no-such-program-anywhere is not in PATH: install it",
		"command: [sh]\ndir: nowhere":         "its dir " + dir + "/nowhere is not a directory",
	} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		s, err := load(file)
		switch {
		case want == "" && (err != nil || !filepath.IsAbs(s.Command[0]) || s.Dir != dir):
			t.Errorf("%q: %+v, %v", text, s, err)
		case want != "" && (err == nil || !strings.HasPrefix(err.Error(), file+" cannot be used: ") || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if _, err := load(filepath.Join(dir, "gone.yaml")); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Error(err)
	}
}

func TestParseEvent(t *testing.T) {
	for line, ok := range map[string]bool{
		`{"status":"half done"}`:                           true,
		`{"artifact":{"text":"","mimeType":"text/plain"}}`: true,
		`{"artifact":{"data":"AAE="}}`:                     true,
		`{"artifact":{"path":"out.png","outputId":"o"}}`:   true,
		`{"stream":{"text":"a"}}`:                          true,
		`{"stream":{"name":"quotes","event":{"a":1}}}`:     true,
		`{"stream":{"end":true}}`:                          true,
		`{"stream":{}}`:                                    false,
		`{"stream":{"text":"a","end":true}}`:               false,
		`{"error":"no"}`:                                   true,
		`{}`:                                               false,
		`{"status":"a","error":"b"}`:                       false,
		`{"artifact":{}}`:                                  false,
		`{"artifact":{"text":"a","path":"b"}}`:             false,
		`{"stats":"a"}`:                                    false,
		`{"status":"a"} {"status":"b"}`:                    false,
		`plain text`:                                       false,
	} {
		if _, err := parseEvent([]byte(line)); (err == nil) != ok {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func FuzzParseEvent(f *testing.F) {
	f.Add(`{"artifact":{"data":"AAE="}}`)
	f.Fuzz(func(t *testing.T, line string) {
		e, err := parseEvent([]byte(line))
		if err == nil && e.Status == nil && e.Artifact == nil && e.Error == nil && e.Stream == nil {
			t.Errorf("%q is an event of no kind", line)
		}
	})
}

func TestSafeName(t *testing.T) {
	for name, want := range map[string]string{
		"a.png": "a.png", "../../etc/passwd": "passwd", `C:\x\y.txt`: "y.txt", "": "file", "..": "file", "-rf": "rf", ".hidden": "hidden",
		"ü b.txt": "__b.txt", "/": "_", strings.Repeat("a", 300) + ".png": strings.Repeat("a", 96) + ".png",
	} {
		if got := safeName(name); got != want {
			t.Errorf("%q becomes %q, want %q", name, got, want)
		}
	}
}

func FuzzSafeName(f *testing.F) {
	f.Add("../x")
	f.Fuzz(func(t *testing.T, name string) {
		got := safeName(name)
		if got == "" || len(got) > maxName || strings.ContainsAny(got, "/\x00") || got[0] == '.' || got[0] == '-' {
			t.Errorf("%q becomes %q", name, got)
		}
	})
}

// What a caller sends cannot become another argument or a part of another placeholder.
func TestExpand(t *testing.T) {
	text, tricky := "a b; $(c)", "{file:picture}"
	w := &work{output: "/w/out", files: map[int]string{2: "/w/in/p.png"}, task: &pluginsdk.Task{ID: "task_1", Parts: []pluginsdk.Part{
		{ID: "request", Text: &text}, {ID: "other", Text: &tricky}, {ID: "picture", File: &pluginsdk.FileInfo{Name: "p.png"}},
	}}}
	for argument, want := range map[string]string{
		"-x={text:request}": "-x=a b; $(c)", "{text:other}": "{file:picture}", "{file:picture}": "/w/in/p.png", "{output}/{task}": "/w/out/task_1",
		"{": "{", "{}": "{}", "a{B}": "a{B}",
	} {
		if got, err := w.expand(argument); err != nil || got != want {
			t.Errorf("%q becomes %q, %v", argument, got, err)
		}
	}
	if _, err := w.expand("{text:none}"); err == nil || err.Error() != `the input "none" is missing` {
		t.Error(err)
	}
}
