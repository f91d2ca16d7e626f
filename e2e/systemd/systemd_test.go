//go:build linux

// Package systemd_test runs the service as it is shipped under a real systemd: it boots a Debian of its own in qemu, without a
// network, and there package inside installs the daemon by the lines of docs/operations.md and tries what the manual promises.
// `make e2e-systemd` runs it, and `make e2e-systemd-smoke` the first of the tests.
package systemd_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/blocksd/blocksd/internal/sources"
)

// variable says what is run: smoke, or full.
const variable = "BLOCKSD_SYSTEMD"

// How long a machine may take for all its tests. It bounds hangs, on a slow and busy machine too.
const (
	smokeDeadline = 20 * time.Minute
	fullDeadline  = 90 * time.Minute
	// commandDeadline is for what is done before: fetching Debian, building.
	commandDeadline = 20 * time.Minute
)

func TestMain(m *testing.M) {
	if os.Getenv(entering) != "" {
		fmt.Fprintln(os.Stderr, enterBareRoot())
		os.Exit(1)
	}
	if os.Getenv(variable) == "" {
		fmt.Println("the tests in a booted Debian run by `make e2e-systemd`")
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// TestService tries the service in a machine: what everything else rests on, and if asked to all the rest.
func TestService(t *testing.T) {
	if err := sources.Track(); err != nil {
		t.Fatal(err)
	}
	needs(t, "qemu-system-x86_64")
	full := os.Getenv(variable) == "full"
	made := prepare(t, full)
	t.Parallel()
	by := made.machine(t)
	if !t.Run("smoke", func(t *testing.T) { by.run(t, "TestSmoke", powerCut, smokeDeadline) }) || !full {
		return
	}
	// The same disk again, and again.
	t.Run("faults", func(t *testing.T) { by.run(t, "TestFaults", powerCut, fullDeadline) })
	t.Run("after the power cut", func(t *testing.T) { by.run(t, "TestAfterPowerCut", reboot, fullDeadline) })
	t.Run("after the reboot", func(t *testing.T) { by.run(t, "TestAfterReboot", powerCut, fullDeadline) })
	made.root = debian(t, "python3-venv")
	t.Run("package", func(t *testing.T) { made.machine(t).run(t, "TestPackage", powerCut, fullDeadline) })
}
