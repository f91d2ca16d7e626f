package e2e

import (
	"os/exec"
	"regexp"
	"slices"
	"syscall"
	"testing"

	"github.com/blocksd/blocksd/e2e/internal/system"
	"github.com/blocksd/blocksd/internal/testutil"
)

// TestDevExamples: dev tries every agent that has an example, shows what one streams item by item, and sums up.
func TestDevExamples(t *testing.T) {
	cmd := exec.Command(bin.Blocksd(), "dev", "--plugins", bin.Plugins(), "--listen", "127.0.0.1:0", "--state-dir", t.TempDir())
	cmd.Env = system.CleanEnv()
	var out testutil.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	ended := regexp.MustCompile(`(?ms)^example for echo_stream$.*?^  completed$`)
	system.Eventually(t, system.StartDeadline, "the last example has ended", func() bool { return ended.MatchString(out.String()) })
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := <-exited; err != nil {
		t.Errorf("dev ended with %v", err)
	}
	shown := out.String()
	for _, want := range []string{
		`(?ms)^example for adder$.*?"sum": 42`,
		`(?m)^  stream _default: Hello *$\n(.*\n)*^  stream _default: from *$\n(.*\n)*^  stream _default: echo_stream$`,
		`(?m)^  stream _default ended$`,
		`(?m)^done +\d+ tasks in .*, 0 failed, 0 canceled$`,
	} {
		if !regexp.MustCompile(want).MatchString(shown) {
			t.Errorf("%s is missing in\n%s", want, shown)
		}
	}
	for _, agent := range []string{"echo", "adder", "chat", "orchestrator", "echo_stream"} {
		if !slices.Contains(regexp.MustCompile(`(?m)^example for .*$`).FindAllString(shown, -1), "example for "+agent) {
			t.Errorf("agent %s was not tried:\n%s", agent, shown)
		}
	}
}
