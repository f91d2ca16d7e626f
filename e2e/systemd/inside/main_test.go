// Package inside_test are the tests that run in the machine that package systemd_test boots: as root, under a systemd that is
// process 1, with nothing but what is on the two disks.
package inside_test

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv("BLOCKSD_INSIDE") == "" {
		fmt.Println("the tests in a booted Debian run by `make e2e-systemd`")
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// TestSmoke: the service is installed by the manual's lines, serves, and recovers the way the manual says.
func TestSmoke(t *testing.T) {
	must(t, "boot", booted)
	must(t, "network", startNetwork)
	must(t, "install", installByHand)
	must(t, "ready", ready)
	step(t, "call", called)
	step(t, "who may ask", whoMayAsk)
	step(t, "limits", limitsKept)
	step(t, "key", keyHidden)
	step(t, "restart", restartLosesNothing)
	step(t, "reload", reloads)
	step(t, "bad configuration", badConfiguration)
	step(t, "score", hardened)
}

// TestFaults: what handlers are kept from, what goes wrong, and what the manual says of it. It ends in the middle of tasks.
func TestFaults(t *testing.T) {
	must(t, "boot", booted)
	must(t, "at boot", startsAtBoot)
	step(t, "walls", wallsBetween)
	step(t, "user", namedUser)
	step(t, "no written code", noWrittenCode)
	step(t, "killed", killed)
	step(t, "hangs", hangs)
	step(t, "stop", stopDrains)
	step(t, "no credential", noCredential)
	step(t, "damaged journal", damagedJournal)
	step(t, "full disk", fullDisk)
	step(t, "revoked key", revokedKey)
	step(t, "memory", memoryLimit)
	step(t, "processes", processLimit)
	step(t, "no run directory", noRunDirectory)
	step(t, "tasks before the power cut", leaveTasks)
}

// TestAfterPowerCut runs on the disk that TestFaults has left, and ends in the middle of tasks as well.
func TestAfterPowerCut(t *testing.T) {
	must(t, "boot", booted)
	must(t, "at boot", startsAtBoot)
	step(t, "tasks", endTasks)
	step(t, "tasks before the reboot", loadForReboot)
}

// TestAfterReboot runs on the same disk, after a restart as systemctl reboot makes it.
func TestAfterReboot(t *testing.T) {
	must(t, "boot", booted)
	must(t, "at boot", startsAtBoot)
	step(t, "tasks", afterReboot)
}

// TestPackage: the same by the package, on a clean root.
func TestPackage(t *testing.T) {
	must(t, "boot", booted)
	must(t, "network", startNetwork)
	must(t, "install", installPackage)
	must(t, "ready", ready)
	step(t, "call", called)
	step(t, "limits", limitsKept)
	step(t, "projects", projects)
	step(t, "upgrade", upgrade)
	step(t, "removal", removal)
}
