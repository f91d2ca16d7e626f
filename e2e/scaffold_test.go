package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

// What handler new makes builds, passes its own test, keeps the contract and is served, as it is, in every language; and an
// edited line is served too.
func TestScaffolds(t *testing.T) {
	t.Parallel()
	for name, lang := range map[string]struct {
		// prepare installs what the language needs, in the project.
		prepare func(t *testing.T, dir string)
		test    []string
		edit    [3]string // file, old, new: answers in small letters instead
	}{
		"go":     {prepareGo, []string{"go", "test", "-mod=mod", "./..."}, [3]string{"main.go", "strings.ToUpper(text))})", "strings.ToLower(text))})"}},
		"python": {func(t *testing.T, dir string) { link(t, system.PythonEnvironment(t), filepath.Join(dir, ".venv")) }, []string{"python3", "-m", "unittest"}, [3]string{"handler.py", "text.upper()", "text.casefold()"}},
		"node":   {func(t *testing.T, dir string) { link(t, system.NodeModules(t), filepath.Join(dir, "node_modules")) }, []string{"node", "--test"}, [3]string{"handler.mjs", "toUpperCase", "toLowerCase"}},
		"exec":   {func(*testing.T, string) {}, []string{"./test.sh"}, [3]string{"work.sh", "tr a-z A-Z", "tr A-Z a-z"}},
	} {
		for _, stream := range []bool{false, true} {
			label, flags := name, []string{}
			if stream {
				label, flags = name+" with a stream", []string{"--stream"}
			}
			t.Run(label, func(t *testing.T) {
				parent := t.TempDir()
				dir := filepath.Join(parent, "my-agent")
				args := append([]string{"handler", "new", dir, "--lang", name}, flags...)
				if name == "go" {
					args = append(args, "--replace", "..")
				}
				if r := bin.Run(t, nil, args...); r.Code != 0 {
					t.Fatalf("handler new: %+v", r)
				}
				lang.prepare(t, dir)
				test := exec.Command(lang.test[0], lang.test[1:]...)
				test.Dir = dir
				if out, err := test.CombinedOutput(); err != nil {
					t.Fatalf("its own test: %v\n%s", err, out)
				}
				check := bin.Run(t, nil, "handler", "check", dir, "--json", "--state-dir", t.TempDir())
				var report struct {
					Problems []string
					Checks   []struct{ Check, State, Detail string }
				}
				if err := json.Unmarshal([]byte(check.Stdout), &report); err != nil || check.Code != 0 || len(report.Problems) > 0 {
					t.Fatalf("handler check: %+v %v", check, err)
				}
				for _, c := range report.Checks {
					if c.State != "ok" {
						t.Errorf("handler check: %+v", c)
					}
				}

				if name == "go" { // as its README says, the program alone goes into a plugins directory
					alone := bin.Dev(t, system.PluginDir(t, map[string]string{"my-agent": filepath.Join(dir, "my-agent")}, nil))
					alone.WaitReady(t) // before it has started nobody knows which agent it is
					if got := answer(t, alone, "my_agent", "Hello you"); got != "HELLO YOU" {
						t.Errorf("dropped in it answered %q", got)
					}
				}
				n := devOn(t, dir)
				if got := answer(t, n, "my_agent", "Hello you"); got != "HELLO YOU" {
					t.Errorf("answered %q", got)
				}
				if stream {
					r := n.Run(t, n.Env, "call", "my_agent", "--text", "Hello you", "--stream")
					if r.Code != 0 || r.Stdout != "HELLO YOU " {
						t.Errorf("the stream is %+v", r)
					}
				}
				file := filepath.Join(dir, lang.edit[0])
				b, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				text := replaceOnce(t, string(b), lang.edit[1], lang.edit[2])
				system.WriteProject(t, dir, map[string]string{lang.edit[0]: text})
				if name == "go" {
					buildGo(t, dir)
				}
				system.Eventually(t, system.CallDeadline, "the edited line is served", func() bool { return answer(t, n, "my_agent", "Hello you") == "hello you" })
			})
		}
	}
}

func prepareGo(t *testing.T, dir string) {
	t.Helper()
	sums, err := os.ReadFile("../go.sum") // what this repository is built from is there
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "go.sum"), sums, 0o644); err != nil {
		t.Fatal(err)
	}
	buildGo(t, dir)
}

func buildGo(t *testing.T, dir string) {
	t.Helper()
	build := exec.Command("go", "build", "-mod=mod")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
}

func link(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Symlink(from, to); err != nil {
		t.Fatal(err)
	}
}
