package e2e

import (
	"os/exec"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/blocksd/blocksd/internal/testutil/terminal"
)

// typed runs a command of a shell in the environment and the directory of the script, on a terminal of that size.
func typed(ts *testscript.TestScript, columns, rows int, command string) *terminal.Terminal {
	cmd := exec.Command("sh", "-c", command)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = []string{"TERM=xterm-256color", "NO_COLOR=1", "LANG=C.UTF-8"}
	for _, name := range []string{"PATH", "HOME", "BLOCKS_API_KEY", "BLOCKS_CDM_URL", "BLOCKSD_PUBNUB_ORIGIN", "BLOCKSD_SOCKET"} {
		if value := ts.Getenv(name); value != "" {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	p, err := terminal.Start(cmd, columns, rows)
	ts.Check(err)
	return p
}

// awaitEnd waits for the end of a command.
func awaitEnd(ts *testscript.TestScript, command string, p *terminal.Terminal) {
	select {
	case <-p.Ended():
	case <-time.After(screenLimit):
		ts.Fatalf("%s did not end within %v: %q", command, screenLimit, p.Written())
	}
}
