package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

// swapLooks is how soon the daemon notices that a path leads elsewhere: 20 s, a look and its pause taking 40 ms, and well before
// the regular scan, which comes once a minute. It counts looks, because a machine that stands still takes none meanwhile.
const swapLooks = 500

func soon(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for looks := 0; !ok(); looks++ {
		if looks == swapLooks {
			t.Fatalf("not within %d looks: %s", swapLooks, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestDeployments: a release is taken however it comes: a link that is swapped, a directory that is made anew, a program
// that is replaced by two renames. The card is in the program.
func TestDeployments(t *testing.T) {
	echo := filepath.Join(bin.Plugins(), "echo")
	_, env := bin.Sandbox(t, system.PluginDir(t, map[string]string{"echo": echo}, nil))
	root := t.TempDir()
	release := func(name, appended string) string {
		t.Helper()
		dir := filepath.Join(root, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		install(t, echo, filepath.Join(dir, "echo"), appended)
		return dir
	}
	must := func(errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	release("1", "one")
	two := release("2", "two")
	plugins := filepath.Join(root, "current")
	must(os.Symlink("1", plugins))
	n := daemonOn(t, env, plugins, "")
	sum := ""
	changed := func(what string) {
		t.Helper()
		soon(t, what, func() bool {
			h, ok := handlerOf(n, t, "echo")
			if !ok || h.State != "ready" || h.SHA256 == sum {
				return false
			}
			sum = h.SHA256
			return true
		})
		n.WaitReady(t)
	}
	changed("the first release runs")
	must(os.Symlink("2", plugins+".new"), os.Rename(plugins+".new", plugins))
	changed("the link is swapped")
	must(os.RemoveAll(two))
	release("2", "three")
	changed("the directory is made anew")

	// The old program goes out of the way first. Its name is that of no handler.
	path := filepath.Join(two, "echo")
	must(os.Rename(path, path+".old"))
	soon(t, "there is no handler for a moment", func() bool {
		_, ok := handlerOf(n, t, "echo")
		return !ok
	})
	install(t, echo, path, "four")
	changed("the new program runs")
	if s := n.Status(t); len(s.Handlers) != 1 || len(s.Agents) != 1 || s.Agents[0].Handler != "echo" {
		t.Errorf("status %+v", s)
	}
	// Under a name that could be a handler's it does not keep the agent either: that would need an operator's word.
	must(os.Rename(path, path+"-4"))
	soon(t, "the old program is another handler, which is not the agent", func() bool {
		s := n.Status(t)
		return len(s.Agents) == 0 && len(s.Handlers) == 1 && s.Handlers[0].Name == "echo-4" &&
			slices.ContainsFunc(s.Reasons, func(reason string) bool { return strings.HasSuffix(reason, "blocksd handler assign echo-4 echo") })
	})
	install(t, echo, path, "five")
	soon(t, "the agent goes to the handler with its name", func() bool {
		s := n.Status(t)
		return len(s.Agents) == 1 && s.Agents[0].Handler == "echo" && s.Agents[0].State == "online"
	})
}
