// Package blocks drives the sandbox and the daemon with Blocks' own SDK and command line interface, unmodified and
// pinned. They come under a licence of their own, so they are installed only by `make interop`, into a cache, and never
// shipped.
package blocks

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/blocksd/blocksd/e2e/internal/system"
	"github.com/blocksd/blocksd/internal/sources"
)

// newest is the release of the SDK for the tests that need only one.
const newest = "1.0.23"

// versions are all that the tests run with: the newest one that needs nothing from outside the registry, and one from
// before most of its fixes.
var versions = []string{newest, "0.1.67"}

var bin system.Binaries

// TestSources makes the results of this package depend on what its programs are built from.
func TestSources(t *testing.T) {
	if err := sources.Track(); err != nil {
		t.Fatal(err)
	}
}

func TestMain(m *testing.M) {
	if os.Getenv("BLOCKSD_INTEROP") == "" {
		fmt.Println("the tests with Blocks' own SDK run by `make interop`, which installs it")
		os.Exit(0)
	}
	// Most of the time the tests wait for a minute to pass: more of them at a time than there are cores, unless someone
	// says how many. TestManyAtOnce and TestStreams work, and have the machine for themselves.
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		_ = f.Value.Set("4")
	}
	var err error
	if bin, err = system.Build("../../.."); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(bin.Dir)
		os.Exit(code)
	}))
}

// cached returns the path of something that `make interop` installs.
func cached(t testing.TB, path string) string {
	t.Helper()
	abs, err := filepath.Abs(filepath.Join("../.cache", path))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(abs); err != nil {
		t.Fatalf("%s is not installed: run make interop", path)
	}
	return abs
}

// here is the directory of the scripts.
func here(t testing.TB) string {
	t.Helper()
	dir, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// pythonEnv points the SDK and its PubNub library at the network of env.
func pythonEnv(t testing.TB, env system.Env) []string {
	return append(append(system.CleanEnv(), env...),
		"PUBNUB_REQUEST_HANDLER=loopback.LoopbackHandler", "PYTHONPATH="+here(t), "PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1")
}
