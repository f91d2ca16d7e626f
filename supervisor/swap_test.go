//go:build linux

package supervisor

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/internal/testutil"
	"github.com/blocksd/blocksd/supervisor/catalog"
	"github.com/blocksd/blocksd/supervisor/plug"
	"github.com/blocksd/blocksd/supervisor/unit"
)

// Whoever swaps the file of a pinned handler while it is started gets nothing executed but what has the pinned checksum:
// what is hashed is what is executed, for ELF files and for scripts that run in place.
func TestPinnedProgramIsNotSwapped(t *testing.T) {
	for kind, starts := range map[string]int{"ELF": 100, "script": 100, "script written over": 30} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			marker, path, other := filepath.Join(dir, "marker"), filepath.Join(dir, "h"), filepath.Join(dir, "other")
			good, evil := "#!/bin/sh\n# good\nexit 3\n", "#!/bin/sh\n: > "+marker+"\nexit 4\n"
			if kind == "ELF" {
				good, evil = fileText(t, "/bin/false"), fileText(t, "/bin/touch")
			}
			for p, text := range map[string]string{path: good, other: evil} {
				if err := os.WriteFile(p, []byte(text), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			sum, err := catalog.Hash(path)
			if err != nil {
				t.Fatal(err)
			}
			f := fleet(t, Config{Shim: testShim(t)})
			c := HandlerConfig{Name: "h", Path: path, Args: []string{marker}, SHA256: sum, Timeouts: Timeouts{Handshake: 10 * time.Second}}
			swap := func() error { return unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, other, unix.RENAME_EXCHANGE) }
			back := swap
			if kind == "script written over" {
				swap, back = func() error { return writeOver(path, evil) }, func() error { return writeOver(path, good) }
			}
			ran, refused := 0, 0
			for n := range starts {
				var swapped errgroup.Group
				swapped.Go(func() error {
					time.Sleep(time.Duration(n%40) * 250 * time.Microsecond) // somewhere in the start
					return swap()
				})
				_, conn, err := f.startProgram(t.Context(), c, &plug.Spool{})
				if conn != nil {
					t.Fatal("it is ready")
				}
				var failed *plug.Failure
				switch {
				case !errors.As(err, &failed):
					t.Fatal(err)
				case failed.Reason == unit.ExitCode:
					ran++
				case failed.Reason == unit.Checksum:
					refused++
				}
				if err := errors.Join(swapped.Wait(), back()); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := os.Stat(marker); err == nil {
				t.Error("the swapped program ran")
			}
			if ran == 0 && kind != "script written over" { // the kernel executes none that is being written
				t.Errorf("the race was none: the program ran %d times and was refused %d times", ran, refused)
			}
			t.Logf("ran %d times, was refused %d times", ran, refused)
		})
	}
}

// A pinned program that somebody has open for writing is not started before it is closed: what was hashed could be written
// over.
func TestPinnedProgramThatIsBeingWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "echo")
	if err := os.WriteFile(path, []byte(fileText(t, plugins.Path(t, "echo"))), 0o755); err != nil {
		t.Fatal(err)
	}
	sum, err := catalog.Hash(path)
	if err != nil {
		t.Fatal(err)
	}
	writer, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	testutil.NeedLeases(t, writer)
	f := fleet(t, Config{Handlers: []HandlerConfig{{Name: "echo", Path: path, SHA256: sum, Restart: unit.Policy{MaxRestarts: 1000, MaxDelay: 100 * time.Millisecond}}}})
	eventually(t, "the status says why it is not started", func() bool {
		return strings.Contains(f.Status()[0].Reason, path+", which has a pinned checksum, is open for writing")
	})
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	become(t, f, "echo", dispatch.Available)
}

// writeOver gives a file other content without another one taking its place. It waits while the daemon starts the file, and
// the kernel does not execute the file then.
func writeOver(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if errors.Is(err, unix.ETXTBSY) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(text)
	return err
}

func fileText(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A pinned script finds what lies beside it, by the link that it is given.
func TestPinnedScriptFindsItsSiblings(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "h")
	for name, text := range map[string]string{
		"h":       "#!/bin/sh\nhere=$(dirname \"$(readlink -f \"$0\")\")\necho \"said: $(cat \"$here/sibling\")\" >&2\nexit 3\n",
		"sibling": "a word",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	sum, err := catalog.Hash(path)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = fleet(t, Config{Shim: testShim(t)}).startProgram(t.Context(), HandlerConfig{Name: "h", Path: path, SHA256: sum}, &plug.Spool{})
	if err == nil || !strings.Contains(err.Error(), "said: a word") {
		t.Error(err)
	}
}
