package inside_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// fetched is what an operator's machines have fetched from where packages come from: wheels, and Node.js.
const fetched = "/media/fetched"

// projects: handlers in Python and for Node.js are brought to the machine by the manual's lines, and serve.
func projects(t *testing.T) {
	dir := t.TempDir()
	for name, lang := range map[string]string{"shout": "python", "whisper": "node"} {
		command{name: "blocksd", args: []string{"handler", "new", name, "--lang", lang}, dir: dir}.ok(t)
		addAgent(t, filepath.Join(dir, name, "agent-card.json"))
	}
	ok(t, "install", "-m", "0755", fetched+"/node", "/usr/local/bin/node")
	for _, line := range manual(t, "### Projects")[0] {
		out := command{name: "sh", args: []string{"-c", line}, dir: dir, env: []string{"PIP_NO_INDEX=1", "PIP_FIND_LINKS=" + fetched + "/wheels", "PIP_DISABLE_PIP_VERSION_CHECK=1"}}.ok(t)
		t.Logf("$ %s\n%s", line, out)
	}
	eventually(t, "both are there", func() bool {
		out := run(t, "blocksd", "handlers", "--json").out
		return strings.Contains(out, `"shout"`) && strings.Contains(out, `"whisper"`)
	})
	awaitReady(t)
	for _, name := range []string{"shout", "whisper"} {
		if got := call(t, name, "hello"); got != "HELLO" {
			t.Errorf("%s answers %q", name, got)
		}
		h := rowOf(t, name)
		b, err := os.ReadFile("/proc/" + strconv.Itoa(h.Processes[0].PID) + "/status")
		if err != nil {
			t.Fatal(err)
		}
		_, uids, _ := strings.Cut(string(b), "\nUid:\t")
		uid, err := strconv.Atoi(strings.Fields(uids)[0])
		if err != nil || uid < firstUser || uid > lastUser || h.Isolation != "user" {
			t.Errorf("%s runs as user %d with the isolation %q, %q", name, uid, h.Isolation, h.IsolationOpen)
		}
	}
	// The further steps wait for everything that is served, and these take long to start here.
	if err := os.Remove("/etc/blocksd/conf.d/projects.yaml"); err != nil {
		t.Fatal(err)
	}
	ok(t, "systemctl", "reload", "blocksd")
	awaitReady(t)
}
