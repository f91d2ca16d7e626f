package catalog

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/internal/smallfile"
)

const projectCard = `{
  "identity": {"agentName": "NAME", "displayName": "d", "description": "d", "version": "1", "provider": {"organization": "o"}},
  "capabilities": {"taskKinds": ["request"]},
  "tags": [{"id": "t", "name": "t"}],
  "runtime": {"handler": "HANDLER", "handlerExport": "work"}
}`

func cardFor(agent, handler string) string {
	return strings.NewReplacer("NAME", agent, "HANDLER", handler).Replace(projectCard)
}

// project makes a directory with files that only the owner may write.
func project(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := plugins(t)
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(0o644)
		if strings.HasPrefix(text, "#!") {
			mode = 0o755
		}
		file(t, path, text, mode)
	}
	return dir
}

// testRunner runs *.lua with a program that every machine has.
var testRunner = Runner{
	Language: "Lua", Extensions: []string{".lua"}, Own: ".own/sh", Interpreter: "sh", Missing: "install it",
	Args: func(dir, file, export string) []string { return []string{"run", dir, file, export} },
}

func TestProjects(t *testing.T) {
	dir := project(t, map[string]string{
		CardFile: cardFor("one", "./pkg/h.lua"), "pkg/h.lua": "x", "pkg/more.py": "y", ".env": "A=1\nBLOCKS_API_KEY=k\n",
		"node_modules/m/index.js": "z", "output.txt": "o",
	})
	found, skipped := new(Scanner).Projects([]string{dir}, []Runner{testRunner})
	if len(skipped) > 0 || len(found) != 1 {
		t.Fatalf("found %+v, skipped %+v", found, skipped)
	}
	f := found[0]
	handler := filepath.Join(dir, "pkg", "h.lua")
	if f.Name != "one" || f.Path != handler || f.Root != dir || f.Dir != dir || f.CardPath != filepath.Join(dir, CardFile) || f.Kind.Copied() {
		t.Errorf("found %+v", f)
	}
	if d := cmp.Diff([]string{"run", dir, handler, "work"}, f.Project.Args); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"A=1"}, f.Project.Environment); d != "" {
		t.Error(d)
	}
	if filepath.Base(f.Project.Interpreter) != "sh" || !filepath.IsAbs(f.Project.Interpreter) {
		t.Errorf("the interpreter is %q", f.Project.Interpreter)
	}

	content := func() string {
		found, skipped := new(Scanner).Projects([]string{dir}, []Runner{testRunner})
		if len(found) != 1 {
			t.Fatalf("skipped %+v", skipped)
		}
		return found[0].Project.Content
	}
	before := content()
	for name, text := range map[string]string{"output.txt": "p", "node_modules/m/index.js": "zz", "state.db": "", ".git/config.py": ""} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		file(t, filepath.Join(dir, name), text, 0o644)
		if content() != before {
			t.Errorf("%s counts as a source", name)
		}
	}
	for _, name := range []string{"pkg/more.py", CardFile, ".env", "pkg/new.js"} {
		text := "changed"
		if name == CardFile {
			text = cardFor("one", "./pkg/h.lua") + "\n"
		}
		file(t, filepath.Join(dir, name), text, 0o644)
		if now := content(); now == before {
			t.Errorf("a change of %s does not count", name)
		} else {
			before = now
		}
	}
}

func TestProjectsThatCannotBeUsed(t *testing.T) {
	missing := testRunner
	missing.Interpreter = "no-such-interpreter"
	for name, tt := range map[string]struct {
		files  map[string]string
		change func(dir string) error
		runner Runner
		want   string
	}{
		"no card":       {map[string]string{"h.lua": ""}, nil, testRunner, "it has no agent-card.json"},
		"broken card":   {map[string]string{CardFile: "{"}, nil, testRunner, "is not JSON"},
		"no handler":    {map[string]string{CardFile: cardFor("a", "./h.lua")}, nil, testRunner, "names the handler ./h.lua, which cannot be read"},
		"directory":     {map[string]string{CardFile: cardFor("a", "./h"), "h/x": ""}, nil, testRunner, "which is not a file"},
		"no program":    {map[string]string{CardFile: cardFor("a", "./h.x"), "h.x": ""}, nil, testRunner, "chmod 0755"},
		"no such thing": {map[string]string{CardFile: cardFor("a", "./h"), "h": "#!"}, func(dir string) error { return os.WriteFile(filepath.Join(dir, "h"), []byte("no program"), 0o755) }, testRunner, "it is not a program"},
		"interpreter":   {map[string]string{CardFile: cardFor("a", "./h.lua"), "h.lua": ""}, nil, missing, "there is no no-such-interpreter in PATH: install it"},
		"own":           {map[string]string{CardFile: cardFor("a", "./h.lua"), "h.lua": "", ".own/sh": "x"}, nil, testRunner, "leads to no program"},
		"writable":      {map[string]string{CardFile: cardFor("a", "./h.lua"), "h.lua": "", "pkg/x.py": ""}, func(dir string) error { return os.Chmod(filepath.Join(dir, "pkg/x.py"), 0o666) }, testRunner, "x.py may be written by"},
		"writable dir":  {map[string]string{CardFile: cardFor("a", "./h.lua"), "h.lua": "", "pkg/x.py": ""}, func(dir string) error { return os.Chmod(filepath.Join(dir, "pkg"), 0o777) }, testRunner, "pkg may be written by"},
		"open project":  {map[string]string{CardFile: cardFor("a", "./h.lua"), "h.lua": ""}, func(dir string) error { return os.Chmod(dir, 0o777) }, testRunner, "may be written by"},
		"gone":          {map[string]string{}, os.RemoveAll, testRunner, "it cannot be read: no such file or directory"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := project(t, tt.files)
			if tt.change != nil {
				if err := tt.change(dir); err != nil {
					t.Fatal(err)
				}
			}
			found, skipped := new(Scanner).Projects([]string{dir}, []Runner{tt.runner})
			if len(found) > 0 || len(skipped) != 1 {
				t.Fatalf("found %+v, skipped %+v", found, skipped)
			}
			if s := skipped[0]; s.Path != dir || !strings.HasPrefix(s.Reason, "project "+dir+" is not loaded because ") || !strings.Contains(s.Reason, tt.want) {
				t.Errorf("skipped %+v, want %q", s, tt.want)
			}
		})
	}
}

// Two projects of one agent: the first counts. One that is a program needs no runner.
func TestProjectsOfOneAgent(t *testing.T) {
	one := project(t, map[string]string{CardFile: cardFor("a", "./h"), "h": "#!/bin/sh\n"})
	two := project(t, map[string]string{CardFile: cardFor("a", "./h.lua"), "h.lua": ""})
	found, skipped := new(Scanner).Projects([]string{one, two}, []Runner{testRunner})
	if len(found) != 1 || found[0].Root != one || found[0].Project.Interpreter != "" || found[0].Kind != Script {
		t.Errorf("found %+v", found)
	}
	if len(skipped) != 1 || !strings.Contains(skipped[0].Reason, "project "+one+" serves the agent a already") {
		t.Errorf("skipped %+v", skipped)
	}
}

func TestParseDotEnv(t *testing.T) {
	text := "# comment\nA=1\nexport B = two words # said\nC='single # quoted'\nD=\"line\\nbreak\"\nEMPTY=\nnot a line\n1X=2\nBLOCKS_API_KEY=k\nblocks_x=y\nBLOCKSD_HOST_TOKEN=t\nPLUGIN_CLIENT_CERT=c\nE=a=b\r\nF=#x\nG='open\n"
	want := []string{"A=1", "B=two words", "C=single # quoted", "D=line\nbreak", "E=a=b", "G='open"}
	if d := cmp.Diff(want, parseDotEnv(text)); d != "" {
		t.Error(d)
	}
}

func FuzzParseDotEnv(f *testing.F) {
	f.Add("A=1\nexport B='x'\nC=\"")
	f.Fuzz(func(t *testing.T, text string) {
		for _, kv := range parseDotEnv(text) {
			name, value, ok := strings.Cut(kv, "=")
			if !ok || !variable(name) || strings.Contains(value, "\x00") || strings.HasPrefix(strings.ToUpper(name), "BLOCKS") {
				t.Errorf("%q gives %q", text, kv)
			}
		}
	})
}

// Sources below a project are watched, in directories that come later too; what else changes there is not.
func TestWatchTrees(t *testing.T) {
	dir := project(t, map[string]string{"a.py": "", "pkg/b.py": "", "node_modules/c.js": ""})
	stamp := filepath.Join(plugins(t), "stamp")
	changed := make(chan struct{}, 10000)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		Watch(ctx, WatchConfig{
			Trees: []string{dir}, Stamps: []string{stamp}, Log: slog.New(slog.DiscardHandler), Quiet: time.Millisecond, Rescan: time.Hour,
			Look: 5 * time.Millisecond, Changed: func() { changed <- struct{}{} },
		})
	}()
	defer func() { cancel(); <-done }()
	await := func(what string) {
		t.Helper()
		select {
		case <-changed:
		case <-time.After(patience):
			t.Fatalf("not told about %s", what)
		}
		for len(changed) > 0 {
			<-changed
		}
	}
	await("the beginning")
	file(t, filepath.Join(dir, "pkg", "b.py"), "x", 0o644)
	await("a source in a directory")
	if err := os.MkdirAll(filepath.Join(dir, "new", "deep"), 0o755); err != nil {
		t.Fatal(err)
	}
	await("a new directory")
	w := watches{fixed: nil, trees: []string{dir}}
	w.look()
	var watched []string
	for _, d := range w.dirs {
		if rel, err := filepath.Rel(dir, d); err == nil {
			watched = append(watched, rel)
		}
	}
	if want := []string{".", "new", "new/deep", "pkg"}; !slices.Equal(watched, want) {
		t.Errorf("watched %q, want %q", watched, want)
	}
	if !w.source(filepath.Join(dir, "new", "x.ts")) || w.source(filepath.Join(dir, "new", "x.log")) || w.source(filepath.Join(dir, "node_modules", "c.js")) {
		t.Error("what is a source is not seen as it should be")
	}
	file(t, stamp, "x", 0o644)
	await("a stamp")
	// What the card names may be a program that a compiler makes, and its name says nothing.
	built := filepath.Join(t.TempDir(), "work")
	file(t, built, "x", 0o755)
	if err := os.Rename(built, filepath.Join(dir, "work")); err != nil {
		t.Fatal(err)
	}
	await("a program that was built")
	file(t, filepath.Join(dir, "work"), "y", 0o755)
	await("a program that was built again")
}

// TestDotEnvFiles: what an editor adds to a file of variables does not matter, and what hides them is an error. A pipe in its
// place holds up nobody.
func TestDotEnvFiles(t *testing.T) {
	dir := t.TempDir()
	for content, want := range map[string]string{
		"A=1\n": "", "\xef\xbb\xbfA=1\r\n": "", "\xff\xfeA\x00=\x001\x00": "UTF-16", "A=1\nB=k\xe4se\n": "not encoded in UTF-8", strings.Repeat("#", 1<<20): "more than",
	} {
		path := filepath.Join(dir, "env")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := readDotEnv(path)
		if want == "" && (err != nil || !slices.Equal(got, []string{"A=1"})) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%.20q: %q, %v", content, got, err)
		}
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readDotEnv(pipe); !errors.Is(err, smallfile.ErrNoFile) {
		t.Errorf("a pipe: %v", err)
	}
	if _, problems := ReadPins(pipe); len(problems) != 1 || !strings.Contains(problems[0], "it is not a regular file") {
		t.Errorf("a pipe as pins: %q", problems)
	}
}
