package supervisor

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/internal/testutil"
	"github.com/blocksd/blocksd/supervisor/launch"
)

// groupOf is a control group for a fleet of the test.
func groupOf(t *testing.T) string {
	t.Helper()
	for _, mount := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		base := filepath.Join(mount, fmt.Sprintf("blocksd-test-%d-%s", os.Getpid(), t.Name()))
		if c, err := launch.OpenCgroups(base); err == nil {
			c.Close()
			t.Cleanup(func() { os.Remove(base) })
			return base
		}
		os.Remove(base)
	}
	t.Skip("machine: control groups of version 2 cannot be made")
	return ""
}

// Each process of a handler has a control group of its own and its limits, and works.
func TestHandlerInItsGroup(t *testing.T) {
	config := []HandlerConfig{{Name: "echo", Path: plugins.Path(t, "echo"), Limits: launch.Limits{Files: 99, Processes: 50, MemoryBytes: 512 << 20}}}
	base := groupOf(t)
	f := fleet(t, Config{Handlers: config, Timeouts: impatient, Shim: testShim(t), Cgroup: base})
	become(t, f, "echo", dispatch.Available)
	for _, s := range f.Status()[0].Skipped { // a machine with controllers of version 1 lacks them in version 2
		if !strings.HasSuffix(s, "no memory controller") && !strings.Contains(s, "no pids controller") {
			t.Errorf("not kept: %s", s)
		}
	}
	pid := processOf(f, "echo").PID
	groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil || !strings.Contains(string(groups), "0::/"+filepath.Base(base)+"/handlers/p-") {
		t.Errorf("the process is in %q, %v", groups, err)
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil || !strings.Contains(strings.Join(strings.Fields(string(limits)), " "), "Max open files 99 99") {
		t.Errorf("limits %s, %v", limits, err)
	}
	p := newPort()
	if err := give(t.Context(), f, "echo", request("t", "hello"), p); err != nil || len(p.artifacts) != 1 {
		t.Errorf("task: %q, %v", p.artifacts, err)
	}
}

// A unit with RestrictNamespaces= has no clone3, which would start a process inside of its group.
func TestHandlerWithoutClone3(t *testing.T) {
	testutil.WithoutCalls(t, unix.ENOSYS, []int{unix.SYS_CLONE3}, "TestHandlerInItsGroup")
}
