//go:build linux

package systemd_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// suite is the Debian that is booted: systemd 252, Linux 6.1, and if asked for its Python.
const (
	suite         = "bookworm"
	pythonOfSuite = "3.11"
)

// cache is where the root is kept; git ignores it.
const cache = ".cache"

// include is what the root has beside the least that Debian can be: systemd for the booted one, and what README asks for beside
// Go for the bare one.
const include = "systemd-sysv,make,git"

// unit runs the tests once the machine is up. The payload is the second disk.
const unit = `[Unit]
Description=tests
After=systemd-user-sessions.service
[Service]
ExecStartPre=/usr/bin/mount -o ro /dev/nvme0n2 /media
ExecStart=/media/start
`

// root is a Debian: what machines boot from, which is copied for each, and the same as a tree of files.
type root struct{ disk, kernel, tree string }

// needs are the programs without which no root can be had, or what else a test does not do without.
func needs(t *testing.T, programs ...string) {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		t.Skip("machine: the tests in a booted Debian are for amd64")
	}
	if os.Geteuid() != 0 {
		t.Skip("machine: the tests do not run as root, so no root of Debian can be made")
	}
	for _, program := range append(programs, "debootstrap", "mke2fs", "dpkg-deb") {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("machine: %s is not installed", program)
		}
	}
}

// debian makes the root, with further packages, and remembers it.
func debian(t *testing.T, further ...string) root {
	t.Helper()
	needs(t)
	packages := strings.Join(append([]string{include}, further...), ",")
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte(suite+packages+unit)))[:12]
	dir, err := filepath.Abs(filepath.Join(cache, "debian-"+sum))
	if err != nil {
		t.Fatal(err)
	}
	r := root{disk: filepath.Join(dir, "root.ext4"), kernel: filepath.Join(dir, "vmlinuz"), tree: filepath.Join(dir, "tree")}
	if _, err := os.Stat(dir); err == nil {
		return r
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	// It gets its name when it is whole. What a run that was cut off has left is in the way of nothing.
	making, err := os.MkdirTemp(filepath.Dir(dir), "making-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(making) })
	// debootstrap can do without neither devices nor a path without spaces.
	plain, err := os.MkdirTemp("/var/tmp", "blocksd-debian-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(plain) })
	tree := filepath.Join(plain, "tree")
	mirror := mirror(t)
	command(t, "debootstrap", "--variant=minbase", "--include="+packages, suite, tree, mirror)
	if err := fetchKernel(t.Context(), mirror, tree, filepath.Join(making, "vmlinuz")); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		os.RemoveAll(filepath.Join(tree, "var/cache/apt")), os.RemoveAll(filepath.Join(tree, "var/lib/apt/lists")),
		os.WriteFile(filepath.Join(tree, "etc/hostname"), []byte("debian\n"), 0o644),
		os.WriteFile(filepath.Join(tree, "etc/hosts"), []byte("127.0.0.1 localhost debian\n"), 0o644),
		os.WriteFile(filepath.Join(tree, "etc/resolv.conf"), nil, 0o644),
		os.WriteFile(filepath.Join(tree, "etc/systemd/system/tests.service"), []byte(unit), 0o644),
		os.Symlink("../tests.service", filepath.Join(tree, "etc/systemd/system/multi-user.target.wants/tests.service")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	ext4(t, tree, filepath.Join(making, "root.ext4"), "3G")
	command(t, "mv", tree, filepath.Join(making, "tree"))
	if err := os.Rename(making, dir); err != nil {
		t.Fatal(err)
	}
	return r
}

// mirror is where apt of this machine gets Debian from.
func mirror(t *testing.T) string {
	t.Helper()
	const everywhere = "http://deb.debian.org/debian"
	out, err := exec.CommandContext(t.Context(), "apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Label: Debian").Output()
	if err != nil {
		return everywhere
	}
	first, _, _ := strings.Cut(string(out), "\n")
	if first = strings.TrimSuffix(strings.TrimSpace(first), "/"); strings.HasPrefix(first, "http") {
		return first
	}
	return everywhere
}

// ext4 makes a disk of a directory.
func ext4(t *testing.T, dir, disk, size string) {
	t.Helper()
	command(t, "mke2fs", "-q", "-t", "ext4", "-d", dir, disk, size)
}

// command runs a program to its end and returns what it wrote.
func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	return commandIn(t, "", nil, name, args...)
}

func commandIn(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandDeadline)
	defer cancel()
	cmd := newCommand(ctx, dir, env, name, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		text := out.String()
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, text[max(0, len(text)-4000):])
	}
	return out.String()
}

// newCommand is a command with further variables.
func newCommand(ctx context.Context, dir string, env []string, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	return cmd
}
