package blocks

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

// TestProjects: blocksd serves the projects that the SDK's own provider serves in TestScenarios, and users of the SDK and of
// package client see the same, without any difference.
func TestProjects(t *testing.T) {
	t.Parallel()
	cards := writeCards(t)
	for _, consumer := range append(slices.Clone(versions), "package client") {
		t.Run("consumer "+consumer, func(t *testing.T) {
			t.Parallel() // most of the time they wait for a minute to pass
			_, env := bin.Sandbox(t, cards)
			var projects []string
			for _, card := range append(served(cards), filepath.Join(cards, "scripted.json")) {
				projects = append(projects, "--project", sameProject(t, card))
			}
			bin.Daemon(t, env, t.TempDir(), projects...)
			for _, f := range faults {
				admin(t, env, http.MethodPost, "faults", f)
			}
			var c user
			var differs map[string]otherwise // from the SDK's consumer
			if consumer == "package client" {
				c, differs = newOurs(t, env), intendedByClient
			} else {
				c = consume(t, consumer, env)
			}
			said := all(c, scenarios)
			t.Run("instance lost", func(t *testing.T) {
				n := bin.Daemon(t, env, t.TempDir(), "--project", sameProject(t, filepath.Join(cards, "lost.json")))
				loseInstance(t, n.Kill, c)
			})
			for i, s := range scenarios {
				t.Run(s.name, func(t *testing.T) {
					said, want := <-said[i], s.want
					if lack, ok := s.lacks[consumer]; ok {
						if lack.err != "" {
							if said.err == nil || !strings.Contains(said.err.Error(), lack.err) {
								t.Fatalf("want an error with %q, got %v, %q", lack.err, said.err, said.lines)
							}
							return
						}
						want = lack.want
					}
					if d, ok := differs[s.name]; ok {
						want = d.want
					}
					if said.err != nil {
						t.Fatal(said.err)
					}
					want = expected(want, said.lines)
					if s.op == "write_stream" { // the network announces a stream, the agent a status: the order is open
						slices.Sort(want)
						slices.Sort(said.lines)
					}
					if d := cmp.Diff(want, said.lines); d != "" {
						t.Errorf("the user of a project under blocksd sees something else (-want +got):\n%s", d)
					}
				})
			}
		})
	}
}

// TestScaffolds: what the official tool writes for a new agent is served as it is.
func TestScaffolds(t *testing.T) {
	t.Parallel()
	env, key, _ := cliNetwork(t)
	consumers := map[string]*consumer{}
	for _, version := range versions {
		consumers[version] = consume(t, version, env)
	}
	for _, language := range []string{"python", "node"} {
		t.Run(language, func(t *testing.T) {
			agent := "made_in_" + language
			c := newCLI(t, env)
			c.login(t, key)
			c.must(t, "init", agent, "--yes", "--language", language, "--mode", "provider")
			c.dir = filepath.Join(c.home, agent)
			c.must(t, "check")
			c.must(t, "register", "--no-input")
			before := content(t, c.dir)
			// What the author of a project installs, without the package of Blocks.
			switch language {
			case "python":
				c.ok(t, os.Symlink(system.PythonEnvironment(t), filepath.Join(c.dir, ".venv")))
			case "node":
				c.ok(t, os.Symlink(system.NodeModules(t), filepath.Join(c.dir, "node_modules")))
			}
			bin.Daemon(t, env, t.TempDir(), "--project", c.dir)

			want := []string{"request", "running 0", "status Processing...", "artifact inline text/plain 15", "terminal completed", "state completed", "got text/plain -: hello, scaffold"}
			users := map[string]user{"package client": newOurs(t, env)}
			for version, c := range consumers {
				users["the SDK "+version] = c
			}
			for name, u := range users {
				var said []string
				if err := u.do("task", args{"agent": agent, "parts": []args{{"id": "request", "text": "hello, scaffold"}}}, &said); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if d := cmp.Diff(want, said); d != "" {
					t.Errorf("%s sees something else (-want +got):\n%s", name, d)
				}
			}
			if d := cmp.Diff(before, content(t, c.dir)); d != "" {
				t.Errorf("the project is not what the tool has written (-before +after):\n%s", d)
			}
			if language != "python" {
				return
			}
			// The scaffold brings a consumer of its own.
			heard := make(chan string, 16)
			cmd := exec.Command(cached(t, "blocks-"+newest+"/bin/python"), "trigger.py")
			cmd.Dir, cmd.Env = c.dir, append(pythonEnv(t, env), "BLOCKS_API_KEY="+key)
			trigger := start(t, "trigger.py", cmd, func(line string) bool {
				if strings.HasPrefix(line, "[artifact]") {
					heard <- line
				}
				return false
			})
			trigger.await(t, heard)
			trigger.kill() // threads of the PubNub library may keep it
		})
	}
}

// content are the files of a project, without what was installed into it.
func content(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(b)
	}
	return files
}
