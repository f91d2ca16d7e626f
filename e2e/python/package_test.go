package python

import (
	"context"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// packageDeadline bounds a hang of the package's own tests.
const packageDeadline = 8 * time.Minute

// TestPackage runs the tests of the package in their language.
func TestPackage(t *testing.T) {
	t.Parallel()
	runModule(t, "pytest", "-p", "no:cacheprovider", "--basetemp", t.TempDir())
}

// TestTypes checks the types of the package, and of handlers as users write them.
func TestTypes(t *testing.T) {
	t.Parallel()
	runModule(t, "mypy", "--cache-dir", t.TempDir())
}

// runModule runs a module of Python in the package's directory.
func runModule(t *testing.T, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), packageDeadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, interpreter(t), append([]string{"-m"}, args...)...)
	cmd.Dir = sdk(t)
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	// A handler process that outlives the tests must not hold them up.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("python -m %v: %v\n%s", args, err, out)
	}
}
