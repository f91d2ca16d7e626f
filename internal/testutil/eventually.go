package testutil

import (
	"testing"
	"time"
)

// The pause between two looks at a condition doubles from the first to the last: most conditions hold soon, and one that
// takes long should not cost the machine much.
const (
	firstPause = time.Millisecond
	lastPause  = 20 * time.Millisecond
)

// Eventually waits until ok returns true, and fails the test when that takes longer than limit. It polls: use it only for
// what no channel reports. The last look begins after the limit: a machine that stood still leaves time for none before.
func Eventually(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline, pause := time.Now().Add(limit), firstPause
	for over := false; !ok(); over = time.Now().After(deadline) {
		if over {
			t.Fatalf("not within %v: %s", limit, what)
		}
		time.Sleep(pause)
		pause = min(2*pause, lastPause)
	}
}
