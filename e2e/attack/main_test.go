// Package attack lets a hostile handler loose on a real daemon, one attack at a time, and looks at what the daemon, its
// files and the handlers beside it have suffered.
package attack

import (
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/blocksd/blocksd/e2e/internal/system"
	"github.com/blocksd/blocksd/internal/sources"
)

var bin system.Binaries

// TestSources makes the results of this package depend on what its programs are built from.
func TestSources(t *testing.T) {
	if err := sources.Track(); err != nil {
		t.Fatal(err)
	}
}

func TestMain(m *testing.M) {
	var err error
	if bin, err = system.Build("../.."); err == nil {
		err = buildHostile()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(bin.Dir)
		os.Exit(code)
	}))
}

// buildHostile builds the hostile handler, which nothing but these tests needs.
func buildHostile() error {
	const source = "handlers/internal/hostile"
	cmd := exec.Command("go", "build", "-trimpath", "-o", hostile(), "./"+source)
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", source, err, out)
	}
	card, err := os.ReadFile(filepath.Join("../..", source, "agent-card.json"))
	if err != nil {
		return err
	}
	return os.WriteFile(hostile()+".agent-card.json", card, 0o644)
}

func hostile() string { return filepath.Join(bin.Dir, "hostile") }

// plugins makes a plugins directory with the hostile handler, and echo beside it.
func plugins(t *testing.T) string {
	t.Helper()
	return system.PluginDir(t, map[string]string{
		"hostile": hostile(), "echo": filepath.Join(bin.Plugins(), "echo"), "sleeper": filepath.Join(bin.TestPlugins(), "sleeper"),
	}, nil)
}

// attack sends the hostile handler a task and returns what it answers.
func attack(t *testing.T, n *system.Network, text string, args ...string) string {
	t.Helper()
	task := n.Call(t, "hostile", append([]string{"--text", text}, args...)...)
	if answer := answerOf(task); answer != "" {
		return answer
	}
	t.Fatalf("%s: exit %d, %s%s", text, task.Code, task.Stdout, task.Stderr)
	return ""
}

// answerOf is the text of the first artifact of a task.
func answerOf(task system.Task) string {
	for _, e := range task.Events {
		if e.Type == "artifact" {
			b, err := base64.StdEncoding.DecodeString(e.Artifact.Data)
			if err != nil {
				return e.Artifact.Data
			}
			return string(b)
		}
	}
	return ""
}

// copyHostile puts the hostile handler at a path, without its card.
func copyHostile(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(hostile())
	if err == nil {
		err = os.WriteFile(path, b, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// alive fails the test unless the daemon and the handler beside the hostile one work.
func alive(t *testing.T, n *system.Network) {
	t.Helper()
	if n.Exited() {
		t.Fatalf("the daemon has ended:\n%s", n.Output())
	}
	if task := n.Call(t, "echo", "--text", "hi"); task.Code != 0 || !strings.Contains(task.Stdout, "terminal") {
		t.Errorf("echo beside the attack: exit %d, %s", task.Code, task.Stderr)
	}
	if r := n.Run(t, n.Env, "status"); r.Code > 1 || r.Stdout == "" {
		t.Errorf("status: exit %d, %s", r.Code, r.Stderr)
	}
}
