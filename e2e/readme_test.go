package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestReadmeHandler: the README's handler, its commands and its card make a handler outside of this repository.
func TestReadmeHandler(t *testing.T) {
	b, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(b), "\n## A handler in 15 lines\n")
	_, rest, ok2 := strings.Cut(section, "\n```go\n")
	if !ok || !ok2 {
		t.Fatal("there is no such section")
	}
	program, rest, _ := strings.Cut(rest, "```\n")
	_, commands, _ := strings.Cut(rest, "\n```\n")
	commands, _, _ = strings.Cut(commands, "```\n")

	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	dir, plugins := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "sh", "-ec", strings.NewReplacer("DIR", "'"+plugins+"'", "/path/to/blocksd", "'"+root+"'").Replace(commands))
	build.Dir = dir
	build.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", commands, err, out)
	}
	shout := filepath.Join(plugins, "shout")
	for _, args := range [][]string{{"card", "new", shout + ".agent-card.json"}, {"check", shout + ".agent-card.json"}, {"handler", "check", shout}} {
		if r := bin.Run(t, nil, args...); r.Code != 0 {
			t.Errorf("%v: exit %d\n%s%s", args, r.Code, r.Stdout, r.Stderr)
		}
	}
}
