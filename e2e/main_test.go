// Package e2e tests the whole system: the real binaries, started and driven as users do.
package e2e

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/blocksd/blocksd/e2e/internal/system"
	"github.com/blocksd/blocksd/internal/sources"
)

var bin system.Binaries

// TestSources makes the results of this package depend on what its programs are built from.
func TestSources(t *testing.T) {
	if err := sources.Track(); err != nil {
		t.Fatal(err)
	}
}

func TestMain(m *testing.M) {
	var err error
	if bin, err = system.Build(".."); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(bin.Dir)
		os.Exit(code)
	}))
}
