//go:build linux

package systemd_test

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

// start is what the unit of the root runs: the tests that the kernel's command line names. What they write goes out over the
// second serial line.
const start = `#!/bin/sh
stty -F /dev/ttyS1 raw -echo
exec >/dev/ttyS1 2>&1
cd /
export BLOCKSD_INSIDE=1
/media/inside -test.v=test2json -test.timeout 0 -test.run "^$(sed -n 's/.*blocksd\.test=\([A-Za-z]*\).*/\1/p' /proc/cmdline)\$"
echo ` + last + `
! grep -q ` + thenReboot + ` /proc/cmdline || systemctl reboot
`

// last is the line behind all that the tests write.
const last = "the tests in the machine have ended"

// thenReboot is on the kernel's command line of a machine that is to be restarted in order when its tests have ended.
const thenReboot = "blocksd.reboot"

// projectFiles are what the machine has of the project: what an operator has after make build.
var projectFiles = []string{"deploy/systemd", "docs/operations.md", "docs/blocksd.example.yaml"}

// plugins are the handlers that the machine has, by the directory of bin that they are in.
var plugins = map[string][]string{"plugins": {"echo", "adder"}, "testplugins": {"sleeper"}}

// payload makes the disk with the project, as it is here, and the tests; on request with two packages, one newer than the other,
// and with what handlers in other languages need.
func payload(t *testing.T, disk string, full bool) {
	t.Helper()
	const top = "../.."
	built, err := system.Build(top)
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(built.Dir)
	dir := t.TempDir()
	project := filepath.Join(dir, "project")
	static := []string{"CGO_ENABLED=0"}
	commandIn(t, "", static, "go", "test", "-c", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(dir, "inside"), "./inside")
	commandIn(t, top, static, "go", "build", "-trimpath", "-o", filepath.Join(project, "bin/testplugins/hostile"), "./handlers/internal/hostile")
	put(t, filepath.Join(top, "handlers/internal/hostile/agent-card.json"), filepath.Join(project, "bin/testplugins/hostile.agent-card.json"))
	put(t, built.Blocksd(), filepath.Join(project, "bin/blocksd"))
	for where, names := range plugins {
		for _, name := range names {
			for _, file := range []string{name, name + ".agent-card.json"} {
				put(t, filepath.Join(built.Dir, where, file), filepath.Join(project, "bin", where, file))
			}
		}
	}
	for _, file := range projectFiles {
		put(t, filepath.Join(top, file), filepath.Join(project, file))
	}
	if full {
		fetched(t, filepath.Join(dir, "fetched"))
		for where, version := range map[string]string{"bin/packages": "0.0.1", "next": "0.0.2"} {
			commandIn(t, top, []string{"VERSION=" + version}, "scripts/package", filepath.Join(project, where), runtime.GOARCH)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "start"), []byte(start), 0o755); err != nil {
		t.Fatal(err)
	}
	ext4(t, dir, disk, fmt.Sprintf("%dk", size(t, dir)>>10*5/4+16<<10))
}

// fetched fills a directory with what an operator's other machines have fetched: wheels for the machine's Python, and Node.js.
func fetched(t *testing.T, dir string) {
	t.Helper()
	const sdk = "../../pluginsdk"
	var wheels []string
	pinned, err := os.ReadFile(sdk + "/python/requirements-test.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(pinned)) {
		switch name, _, _ := strings.Cut(line, "=="); name {
		case "protobuf":
			wheels = append(wheels, strings.TrimSpace(line))
		}
	}
	command(t, "python3", append([]string{"-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:",
		"--platform=manylinux_2_17_x86_64", "--platform=manylinux2014_x86_64", "--python-version=" + pythonOfSuite, "--dest", filepath.Join(dir, "wheels")}, wheels...)...)
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatal("all tests in a booted Debian need Node.js 20 or newer, as one program, on this machine: Debian's own is older")
	}
	if node, err = filepath.EvalSymlinks(node); err != nil {
		t.Fatal(err)
	}
	put(t, node, filepath.Join(dir, "node"))
}

// put copies a file or a directory, with modes.
func put(t *testing.T, from, to string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	command(t, "cp", "-r", "--preserve=mode", from, to)
}

func size(t *testing.T, dir string) (bytes int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			bytes += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}
