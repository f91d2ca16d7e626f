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
