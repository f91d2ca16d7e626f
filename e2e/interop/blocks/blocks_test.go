// Package blocks drives the sandbox and the daemon with Blocks' own SDK, unmodified and pinned. The SDK comes under a
// licence of its own, so it is installed only by `make interop`, into a cache, and never shipped.
package blocks

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

var bin system.Binaries

func TestMain(m *testing.M) {
	if os.Getenv("BLOCKSD_INTEROP") == "" {
		fmt.Println("the tests with Blocks' own SDK run by `make interop`, which installs it")
		os.Exit(0)
	}
	var err error
	if bin, err = system.Build("../../.."); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(bin.Dir)
		os.Exit(code)
	}))
}

// TestConsumer: the SDK's TaskClient, with an API key, sends a task to a handler of ours, waits for its end and reads
// the artifact.
func TestConsumer(t *testing.T) {
	n := bin.Dev(t, bin.Plugins())
	for _, c := range []struct{ agent, text, mime, artifact string }{
		{"echo", "hello ü", "text/plain", "Echoed request: hello ü"},
		{"adder", `{"a": 2, "b": 3.5}`, "application/json", "{\n  \"ok\": true,\n  \"a\": 2,\n  \"b\": 3.5,\n  \"sum\": 5.5\n}"},
	} {
		t.Run(c.agent, func(t *testing.T) {
			var seen struct {
				TaskID, State string
				Artifacts     []struct {
					MIMEType string
					Data     []byte
				}
			}
			out := python(t, n.Env, "consumer.py", c.agent, c.text)
			if err := json.Unmarshal(out, &seen); err != nil {
				t.Fatalf("consumer.py printed %q: %v", out, err)
			}
			if seen.State != "completed" || len(seen.Artifacts) != 1 || string(seen.Artifacts[0].Data) != c.artifact || seen.Artifacts[0].MIMEType != c.mime {
				t.Errorf("the SDK saw %s", out)
			}
		})
	}
	n.Stop(t)
}

// python runs a script with the SDK against the network of env and returns what it printed.
func python(t *testing.T, env system.Env, script string, args ...string) []byte {
	t.Helper()
	interpreter, err := filepath.Abs("../.cache/blocks-1.0.23/bin/python")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(interpreter); err != nil {
		t.Fatalf("the Blocks SDK is not installed: run make interop")
	}
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(interpreter, append([]string{script}, args...)...)
	cmd.Env = append(append(system.CleanEnv(), env...), "PUBNUB_REQUEST_HANDLER=loopback.LoopbackHandler", "PYTHONPATH="+here, "PYTHONDONTWRITEBYTECODE=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return out
}
